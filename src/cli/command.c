/* SPDX-License-Identifier: Apache-2.0
 *
 * What commands share: telling errors, opening models and engines, reading inputs, making prompts.
 */
#include "cli/command.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "cli/interrupt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INPUT_BYTES = 256 << 20 };

int report(const kvern_error *err)
{
    fprintf(stderr, "kvern: %s\n", err->message);
    return err->status == KVERN_CANCELLED ? EXIT_INTERRUPTED : EXIT_FAILED;
}

kvern_status open_model(const struct engine_flags *flags, kvern_model **model, kvern_error *err)
{
    return kvern_model_open(model, flags->model ? flags->model : DEFAULT_MODEL, err);
}

kvern_status open_engine(const struct engine_flags *flags, const kvern_model *model,
                         kvern_engine **engine, kvern_error *err)
{
    kvern_engine_options options;

    kvern_engine_options_init(&options);
    options.n_threads = (int32_t)flags->threads;
    options.max_context = (int32_t)flags->context;
    options.max_sequences = (int32_t)flags->sequences;
    options.step_tokens = (int32_t)flags->step_tokens;
    options.kv_memory_bytes = flags->kv_memory;
    if (flags->kv_type)
        options.kv_type = flags->kv_type;
    return kvern_engine_open(engine, model, &options, err);
}

static kvern_status read_stream(FILE *stream, const char *name, char **text, size_t *n_bytes,
                                kvern_error *err)
{
    struct buffer buffer = {0};
    char chunk[1 << 16];
    size_t n;

    while ((n = fread(chunk, 1, sizeof chunk, stream)) > 0) {
        buffer_add(&buffer, chunk, n);
        if (buffer.has_failed || buffer.n_bytes > MAX_INPUT_BYTES) {
            buffer_clear(&buffer);
            return fail(err, KVERN_LIMIT, "%s has over %d MiB", name, MAX_INPUT_BYTES >> 20);
        }
    }
    if (ferror(stream)) {
        buffer_clear(&buffer);
        return fail(err, KVERN_IO, "cannot read %s", name);
    }
    *text = buffer_take(&buffer, n_bytes);
    return *text ? KVERN_OK : fail(err, KVERN_MEMORY, "out of memory reading %s", name);
}

kvern_status read_input(const char *path, char **text, size_t *n_bytes, kvern_error *err)
{
    if (strcmp(path, "-") == 0)
        return read_stream(stdin, "stdin", text, n_bytes, err);
    return file_read(path, MAX_INPUT_BYTES, text, n_bytes, err);
}

kvern_status make_prompt(const kvern_model *model, const char *system, const char *text,
                         bool is_raw, kvern_tokens *tokens, kvern_error *err)
{
    kvern_model_info info;
    kvern_message messages[2];
    size_t n = 0;

    kvern_model_get_info(model, &info);
    if (is_raw || !info.has_chat_template)
        return kvern_tokenize(model, text, strlen(text), KVERN_TOKENIZE_SPECIAL, tokens, err);
    if (system)
        messages[n++] = (kvern_message){"system", system};
    messages[n++] = (kvern_message){"user", text};
    return kvern_chat_tokenize(model, messages, n, true, tokens, err);
}
