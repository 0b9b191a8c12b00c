/* SPDX-License-Identifier: Apache-2.0
 *
 * What commands share: telling errors, opening models and engines, reading inputs, making prompts.
 */
#include "cli/command.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "cli/interrupt.h"

#include <errno.h>
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
    const char *name = flags->model;

    if (!name)
        name = flags->default_model ? flags->default_model : DEFAULT_MODEL;
    return kvern_model_open_as(model, name, flags->preset, err);
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
    options.no_prefix_cache = flags->no_prefix_cache;
    options.prefix_cache_tokens = (int32_t)flags->prefix_cache_tokens;
    options.max_decode_slowdown = flags->max_decode_slowdown;
    if (flags->kv_type)
        options.kv_type = flags->kv_type;
    if (flags->provider)
        options.provider = flags->provider;
    return kvern_engine_open(engine, model, &options, err);
}

void print_kv_memory(const struct engine_flags *flags, const kvern_engine_stats *stats,
                     FILE *stream)
{
    enum { BLOCK_TOKENS = 16 };

    fprintf(stream, "KV cache %.0f MiB for %lld tokens%s",
            (double)stats->kv_bytes / (1024.0 * 1024.0),
            (long long)stats->n_kv_blocks * BLOCK_TOKENS, flags->kv_memory ? "" : " (auto)");
}

kvern_status interrupted(kvern_error *err)
{
    return fail(err, KVERN_CANCELLED, "interrupted");
}

static kvern_status read_stream(FILE *stream, const char *name, struct buffer *buffer,
                                kvern_error *err)
{
    char chunk[1 << 14];
    size_t n;

    while ((n = fread(chunk, 1, sizeof chunk, stream)) > 0) {
        buffer_add(buffer, chunk, n);
        if (buffer->has_failed)
            return fail(err, KVERN_MEMORY, "out of memory reading %s", name);
        if (buffer->n_bytes > MAX_INPUT_BYTES)
            return fail(err, KVERN_LIMIT, "%s has over %d MiB, the limit of one input", name,
                        MAX_INPUT_BYTES >> 20);
    }
    if (was_interrupted())
        return interrupted(err);
    if (ferror(stream))
        return fail(err, KVERN_IO, "cannot read %s: %s", name, strerror(errno));
    return KVERN_OK;
}

kvern_status read_input(const char *path, char **text, size_t *n_bytes, kvern_error *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    struct buffer buffer = {0};
    FILE *stream = is_stdin ? stdin : fopen(path, "rb");

    if (!stream)
        return fail(err, errno == ENOENT ? KVERN_NOT_FOUND : KVERN_IO, "cannot open %s: %s", path,
                    strerror(errno));
    kvern_status status = read_stream(stream, is_stdin ? "stdin" : path, &buffer, err);
    if (!is_stdin)
        fclose(stream);
    if (status == KVERN_OK)
        *text = buffer_take(&buffer, n_bytes);
    if (status == KVERN_OK && !*text)
        status = fail(err, KVERN_MEMORY, "out of memory reading %s", path);
    buffer_clear(&buffer);
    return status;
}

kvern_status read_text(const char *path, char **text, kvern_error *err)
{
    size_t n_bytes = 0;
    kvern_status status = read_input(path, text, &n_bytes, err);

    if (status != KVERN_OK || !*text || strlen(*text) == n_bytes)
        return status;
    status = fail(err, KVERN_INVALID, "%s is not text: byte %zu is NUL",
                  strcmp(path, "-") == 0 ? "stdin" : path, strlen(*text));
    free(*text);
    *text = NULL;
    return status;
}

kvern_status check_dimensions(const kvern_model *model, kvern_pooling pooling, int64_t dimensions,
                              kvern_error *err)
{
    enum { N_LOGITS = 512 };
    kvern_model_info info;

    kvern_model_get_info(model, &info);
    bool is_own = pooling == KVERN_POOLING_MODEL || strcmp(info.pooling, "logits512") != 0;
    int64_t n_values = pooling == KVERN_POOLING_LOGITS512 ? N_LOGITS
                       : is_own                           ? info.embedding_size
                                                          : 0; /* not known before one is made */
    if (n_values > 0 && dimensions > n_values)
        return fail(err, KVERN_INVALID,
                    "--dimensions is %lld, but the vectors of %s have %lld values",
                    (long long)dimensions, info.name, (long long)n_values);
    return KVERN_OK;
}

kvern_status make_prompt(const kvern_model *model, const char *system, const char *text,
                         bool is_raw, kvern_tokens *tokens, kvern_error *err)
{
    kvern_model_info info;
    kvern_message messages[2];
    size_t n = 0;

    kvern_model_get_info(model, &info);
    if (system && (is_raw || !info.has_chat_template))
        return fail(err, KVERN_INVALID, "a system message needs a chat template: %s",
                    is_raw ? "leave out --raw, or put it into the prompt"
                           : "this model has none, so put it into the prompt");
    if (is_raw || !info.has_chat_template)
        return kvern_tokenize(model, text, strlen(text), KVERN_TOKENIZE_SPECIAL, tokens, err);
    if (system)
        messages[n++] = (kvern_message){"system", system};
    messages[n++] = (kvern_message){"user", text};
    return kvern_chat_tokenize(model, messages, n, true, tokens, err);
}

void note_tokenizer(json_t *result, const kvern_model *model)
{
    kvern_model_info info;

    kvern_model_get_info(model, &info);
    if (result && info.has_byte_fallback)
        json_object_set_new(result, "tokenizer", json_string("bytes"));
}

json_t *result_json(const kvern_model *model, json_t *id, const char *text, size_t n_bytes,
                    const kvern_event *event)
{
    json_t *result =
        json_pack("{s:O* s:s% s:s s:{s:I s:I s:I} s:{s:f s:f s:f}}", "id", id, "text", text,
                  n_bytes, "finish_reason", kvern_finish_name(event->finish), "usage",
                  "prompt_tokens", (json_int_t)event->n_prompt_tokens, "completion_tokens",
                  (json_int_t)event->n_completion_tokens, "cached_tokens",
                  (json_int_t)event->n_cached_tokens, "timings", "wait_ms", event->wait_ms,
                  "prefill_ms", event->prefill_ms, "decode_ms", event->decode_ms);

    if (result && event->finish == KVERN_FINISH_ERROR)
        json_object_set_new(result, "error", json_string(event->error.message));
    if (result && event->has_score)
        json_object_set_new(result, "score", json_real((double)event->score));
    note_tokenizer(result, model);
    return result;
}

kvern_status finish_request(kvern_request *request, kvern_event *event, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    *event = (kvern_event){0};
    while (status == KVERN_OK && event->finish == KVERN_FINISH_NONE) {
        if (was_interrupted())
            kvern_request_cancel(request);
        status = kvern_request_next(request, 100, event, err);
        if (status == KVERN_TIMEOUT)
            status = KVERN_OK;
    }
    if (status == KVERN_OK && event->finish == KVERN_FINISH_ERROR) {
        *err = event->error;
        status = event->error.status;
    }
    return status;
}
