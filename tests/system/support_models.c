/* SPDX-License-Identifier: Apache-2.0 */
#include "system/support_models.h"

#include "test.h"

#include "base/file.h"
#include "convert/support_seeded.h"
#include "model/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const smollm2_gguf = ".deps/models/SmolLM2-135M-Instruct.Q4_1.gguf";

kvern_model *open_test_model(const char *source, const char *weights)
{
    char path[1024];
    char target[1024];
    kvern_convert_options options;
    kvern_model *model = NULL;
    kvern_error err = {0};
    struct stat made = {0};

    snprintf(path, sizeof path, "%s/%s", KVERN_SOURCE_DIR, source);
    char *checkpoint = seeded_checkpoint(path);
    if (stat(checkpoint, &made) != 0)
        fail_msg("there is no %s", checkpoint);
    /* a source that changed is another model */
    snprintf(target, sizeof target, "%s/test-models/%s-%s-v%d-%lld", KVERN_BUILD_DIR,
             path_base(checkpoint), weights ? weights : "keep", MANIFEST_VERSION,
             (long long)made.st_mtime);
    kvern_convert_options_init(&options);
    options.source = checkpoint;
    options.target = target;
    options.weights = weights;
    if (!directory_exists(target)) {
        char *parent = path_join(KVERN_BUILD_DIR, "test-models");

        if (directory_make(parent, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        free(parent);
        /* another test may have made it in the meantime: then it is there, and whole */
        if (kvern_convert(&options, &err) != KVERN_OK && !directory_exists(target))
            fail_msg("%s", err.message);
    }
    free(checkpoint);
    if (kvern_model_open(&model, target, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return model;
}

kvern_engine *open_test_engine(const kvern_model *model, int32_t n_threads, int32_t prefill_chunk,
                               const char *kv_type)
{
    kvern_engine_options options;
    kvern_engine *engine = NULL;
    kvern_error err = {0};

    kvern_engine_options_init(&options);
    options.n_threads = n_threads;
    options.prefill_chunk = prefill_chunk;
    options.kv_type = kv_type;
    options.no_prefix_cache = true;
    if (kvern_engine_open(&engine, model, &options, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return engine;
}

size_t finish_request(kvern_request *request, int32_t *tokens, size_t capacity)
{
    kvern_event event = {0};
    kvern_error err = {0};
    size_t n = 0;

    while (event.finish == KVERN_FINISH_NONE) {
        if (kvern_request_next(request, -1, &event, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        for (size_t i = 0; i < event.n_tokens && n < capacity; i++)
            tokens[n++] = event.tokens[i];
    }
    if (event.finish == KVERN_FINISH_ERROR)
        fail_msg("%s", event.error.message);
    kvern_request_free(request);
    return n;
}
