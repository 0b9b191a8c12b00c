/* SPDX-License-Identifier: Apache-2.0 */
#include "system/support_small.h"

#include "base/file.h"
#include "system/support_files.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

kvern_model *small_model;
char *small_directory;

void make_small_model(const char *gguf, const char *model)
{
    kvern_convert_options options;
    kvern_error err = {0};

    write_small_gguf(gguf);
    kvern_convert_options_init(&options);
    options.source = gguf;
    options.target = model;
    options.weights = "q8";
    if (kvern_convert(&options, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

static void keep(struct small_answer *answer, const kvern_event *event)
{
    size_t n_text = strlen(answer->text);
    size_t n_room = sizeof answer->text - 1 - n_text; /* a forged tokenizer may have long pieces */

    for (size_t i = 0; i < event->n_tokens && answer->n_tokens < SMALL_TOKENS; i++)
        answer->tokens[answer->n_tokens++] = event->tokens[i];
    if (event->n_text > 0)
        memcpy(answer->text + n_text, event->text, event->n_text < n_room ? event->n_text : n_room);
}

kvern_status run_small_model(const kvern_model *opened, const kvern_request_options *options,
                             struct small_answer *answer, kvern_error *err)
{
    static const int32_t prompt[] = {2, 3, 4};
    kvern_engine_options engine_options;
    kvern_request_options ours;
    kvern_engine *engine = NULL;
    kvern_request *request = NULL;
    kvern_event event = {0};
    kvern_status status;

    *answer = (struct small_answer){0};
    kvern_engine_options_init(&engine_options);
    engine_options.n_threads = 1;
    engine_options.max_sequences = 1;
    status = kvern_engine_open(&engine, opened, &engine_options, err);
    if (status != KVERN_OK)
        return status;
    kvern_request_options_init(&ours);
    if (options)
        ours = *options;
    ours.prompt = prompt;
    ours.n_prompt = COUNT(prompt);
    ours.max_tokens = SMALL_TOKENS;
    status = kvern_submit(engine, &ours, &request, err);
    while (status == KVERN_OK && event.finish == KVERN_FINISH_NONE) {
        status = kvern_request_next(request, -1, &event, err);
        if (status == KVERN_OK)
            keep(answer, &event);
    }
    if (status == KVERN_OK && event.finish == KVERN_FINISH_ERROR) {
        *err = event.error;
        status = err->status;
    }
    kvern_request_free(request);
    kvern_engine_close(engine);
    return status;
}

void forge_manifest(const struct manifest *manifest, const char *model, const char *name)
{
    struct manifest forged = *manifest;

    for (size_t i = 0; i < forged.n_files; i++) {
        struct manifest one = {0};

        if (strcmp(forged.files[i].name, name) != 0)
            continue;
        assert_int_equal(manifest_add_file(&one, model, name, NULL), KVERN_OK);
        forged.files[i] = one.files[0];
    }
    assert_int_equal(manifest_write(&forged, model, NULL), KVERN_OK);
}

int open_small_model(void **state)
{
    kvern_error err = {0};

    (void)state;
    small_directory = make_directory();
    char *gguf = path_join(small_directory, "small.gguf");
    char *target = path_join(small_directory, "small");
    make_small_model(gguf, target);
    if (kvern_model_open(&small_model, target, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    free(target);
    free(gguf);
    return 0;
}

int close_small_model(void **state)
{
    (void)state;
    kvern_model_close(small_model);
    bool is_gone = directory_remove(small_directory, NULL) == KVERN_OK;
    free(small_directory);
    return is_gone ? 0 : -1;
}
