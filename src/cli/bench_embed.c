/* SPDX-License-Identifier: Apache-2.0
 *
 * struct bench_texts: as many texts are in flight as the engine's queue takes, so that it always
 * has the next ones at hand.
 */
#include "cli/bench_embed.h"

#include "base/error.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/progress.h"

#include <stdlib.h>
#include <string.h>

void bench_texts_clear(struct bench_texts *texts)
{
    free(texts->ids);
    free(texts->starts);
    *texts = (struct bench_texts){0};
}

kvern_status bench_texts_draw(struct bench_texts *texts, size_t n, size_t length,
                              int32_t vocab_size, uint64_t *random, kvern_error *err)
{
    bench_texts_clear(texts);
    texts->ids = try_new(n * length, sizeof *texts->ids);
    texts->starts = try_new(n + 1, sizeof *texts->starts);
    if (!texts->ids || !texts->starts)
        return fail(err, KVERN_MEMORY, "out of memory for %zu texts of %zu tokens", n, length);
    for (size_t i = 0; i < n * length; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        texts->ids[i] = (int32_t)((*random >> 33) % (uint64_t)vocab_size);
    }
    for (size_t i = 0; i <= n; i++)
        texts->starts[i] = i * length;
    texts->n = n;
    return KVERN_OK;
}

/* Adds the ids of one line. */
static kvern_status add_line(struct bench_texts *texts, const char *line, size_t n_bytes,
                             int32_t vocab_size, kvern_error *err)
{
    json_error_t problem;
    json_t *value = json_loadb(line, n_bytes, JSON_REJECT_DUPLICATES, &problem);
    const json_t *list = json_is_object(value) ? json_object_get(value, "ids") : value;
    size_t n = json_array_size(list);
    size_t begin = texts->starts ? texts->starts[texts->n] : 0;
    int32_t *ids = try_resize(texts->ids, begin + n + 1, sizeof *ids);
    size_t *starts = try_resize(texts->starts, texts->n + 2, sizeof *starts);
    kvern_status status = KVERN_OK;

    texts->ids = ids ? ids : texts->ids;
    texts->starts = starts ? starts : texts->starts;
    if (!ids || !starts)
        status = fail(err, KVERN_MEMORY, "out of memory for a text of %zu tokens", n);
    else if (n == 0)
        status = fail(err, KVERN_FORMAT, "needs a list of token ids, or {\"ids\": [...]}");
    for (size_t i = 0; status == KVERN_OK && i < n; i++) {
        const json_t *id = json_array_get(list, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= vocab_size)
            status = fail(err, KVERN_INVALID, "number %zu is no token id under %d", i, vocab_size);
        else
            texts->ids[begin + i] = (int32_t)json_integer_value(id);
    }
    if (status == KVERN_OK) {
        texts->starts[texts->n++] = begin;
        texts->starts[texts->n] = begin + n;
    }
    json_decref(value);
    return status;
}

kvern_status bench_texts_read(struct bench_texts *texts, const char *path, int32_t vocab_size,
                              kvern_error *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    size_t number = 0;
    kvern_status status = read_input(path, &text, &n_bytes, err);

    bench_texts_clear(texts);
    for (size_t at = 0; status == KVERN_OK && at < n_bytes;) {
        const char *newline = memchr(text + at, '\n', n_bytes - at);
        size_t n = newline ? (size_t)(newline - text) - at : n_bytes - at;

        number++;
        if (n > 0)
            status = add_line(texts, text + at, n, vocab_size, err);
        if (status != KVERN_OK)
            fail_in(err, status, "%s line %zu", path, number);
        at += n + 1;
    }
    if (status == KVERN_OK && texts->n == 0)
        status = fail(err, KVERN_INVALID, "there is no text in %s", path);
    free(text);
    return status;
}

/* Waits for a text's vector and brings it to length 1, as a user has it. */
static kvern_status collect(kvern_request *request, kvern_error *err)
{
    kvern_event event = {0};
    kvern_status status = finish_request(request, &event, err);

    if (status == KVERN_OK && event.embedding) {
        float *values = try_new(event.n_embedding, sizeof *values);

        if (!values)
            return fail(err, KVERN_MEMORY, "out of memory for a vector");
        memcpy(values, event.embedding, event.n_embedding * sizeof *values);
        kvern_normalize(values, event.n_embedding);
        free(values);
    }
    return status;
}

static kvern_status submit_more(const struct bench_texts *texts, kvern_engine *engine,
                                kvern_request **requests, size_t oldest, size_t *n_submitted,
                                kvern_error *err)
{
    while (*n_submitted < texts->n) {
        size_t i = *n_submitted;
        kvern_request_options options;
        kvern_error refusal;

        kvern_request_options_init(&options);
        options.prompt = texts->ids + texts->starts[i];
        options.n_prompt = texts->starts[i + 1] - texts->starts[i];
        options.embed = true;
        kvern_status status = kvern_submit(engine, &options, &requests[i], &refusal);
        if (status == KVERN_BUSY && i > oldest)
            return KVERN_OK;
        if (status != KVERN_OK)
            return fail(err, status, "%s", refusal.message);
        ++*n_submitted;
    }
    return KVERN_OK;
}

kvern_status bench_texts_run(const struct bench_texts *texts, kvern_engine *engine, double *seconds,
                             kvern_error *err)
{
    kvern_request **requests = try_new(texts->n, sizeof(kvern_request *));
    size_t n_submitted = 0;
    kvern_status status = KVERN_OK;
    double started = seconds_now();

    if (!requests)
        return fail(err, KVERN_MEMORY, "out of memory for %zu texts", texts->n);
    for (size_t i = 0; status == KVERN_OK && i < texts->n && !was_interrupted(); i++) {
        status = submit_more(texts, engine, requests, i, &n_submitted, err);
        if (status == KVERN_OK)
            status = collect(requests[i], err);
        kvern_request_free(requests[i]);
        requests[i] = NULL;
    }
    *seconds = seconds_now() - started;
    for (size_t i = 0; i < n_submitted; i++)
        kvern_request_free(requests[i]);
    free(requests);
    return status;
}
