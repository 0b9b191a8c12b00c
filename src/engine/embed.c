/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern_embed: texts to vectors through the engine. Each text is a request of its own, so it runs
 * beside whatever else the engine does, and fails alone. Holds at most the engine's queue in
 * flight.
 */
#include "base/error.h"
#include "base/memory.h"
#include "engine/embedding.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUSY_WAIT_NS = 5000000 };

void kvern_embed_options_init(kvern_embed_options *options)
{
    *options = (kvern_embed_options){.normalize = -1};
}

void kvern_embedding_clear(kvern_embedding *embedding)
{
    free(embedding->values);
    *embedding = (kvern_embedding){0};
}

void embedding_shape_of(struct embedding_shape *shape, const kvern_model *model,
                        kvern_pooling pooling, int32_t normalize, int32_t dimensions)
{
    const struct manifest_embedding *stated = &model->manifest.embedding;
    bool is_stated = manifest_embedding_is_set(stated);

    shape->n_dimensions = dimensions > 0 ? (size_t)dimensions : 0;
    shape->is_normalized = normalize != 0;
    if (normalize < 0 && is_stated)
        shape->is_normalized = stated->is_normalized;
    if (pooling == KVERN_POOLING_LOGITS512 || shape->n_dimensions > 0)
        shape->is_normalized = true;
}

kvern_status embedding_finish(const struct embedding_shape *shape, const float *pooled, size_t n,
                              float **values, size_t *n_values, kvern_error *err)
{
    if (shape->n_dimensions > n)
        return fail(err, KVERN_INVALID, "dimensions is %zu, but the model's vectors have %zu",
                    shape->n_dimensions, n);
    *n_values = shape->n_dimensions > 0 ? shape->n_dimensions : n;
    *values = try_new(*n_values, sizeof **values);
    if (!*values)
        return fail(err, KVERN_MEMORY, "no memory for a vector of %zu values", *n_values);
    memcpy(*values, pooled, *n_values * sizeof **values);
    if (shape->is_normalized)
        kvern_normalize(*values, *n_values);
    return KVERN_OK;
}

/* The text of a prompt prefix; "" without one. */
static kvern_status find_prompt(const kvern_model *model, const char *name, const char **prefix,
                                kvern_error *err)
{
    const struct manifest_embedding *stated = &model->manifest.embedding;

    *prefix = "";
    if (!name)
        name = stated->default_prompt;
    if (*name == '\0')
        return KVERN_OK;
    for (size_t i = 0; i < stated->n_prompts; i++) {
        if (strcmp(stated->prompts[i].name, name) == 0) {
            *prefix = stated->prompts[i].text;
            return KVERN_OK;
        }
    }
    return fail(err, KVERN_NOT_FOUND, "%s has no prompt named '%s' (it has %zu of them%s%s)",
                model->manifest.name, name, stated->n_prompts,
                stated->n_prompts > 0 ? ", the first " : "",
                stated->n_prompts > 0 ? stated->prompts[0].name : "");
}

/* Cuts a text's tokens to `limit`, out of its own tokens: what the tokenizer put around them (the
 * [CLS] and [SEP] of BERT) stays. */
static kvern_status cut(const kvern_model *model, const char *text, size_t n_bytes,
                        kvern_tokens *tokens, size_t limit, kvern_error *err)
{
    kvern_tokens bare = {0};
    size_t n_before = 0;
    size_t n_after;
    kvern_status status = kvern_tokenize(model, text, n_bytes, 0, &bare, err);

    if (status != KVERN_OK)
        return status;
    if (bare.n > tokens->n)
        bare.n = tokens->n;
    while (n_before + bare.n < tokens->n &&
           memcmp(tokens->ids + n_before, bare.ids, bare.n * sizeof *bare.ids) != 0)
        n_before++;
    n_after = tokens->n - bare.n - n_before;
    kvern_tokens_clear(&bare);
    if (n_before + n_after >= limit)
        return fail(err, KVERN_LIMIT,
                    "a limit of %zu tokens leaves no room beside %zu special ones", limit,
                    n_before + n_after);
    memmove(tokens->ids + (limit - n_after), tokens->ids + (tokens->n - n_after),
            n_after * sizeof *tokens->ids);
    tokens->n = limit;
    return KVERN_OK;
}

struct embed {
    kvern_engine *engine;
    const kvern_model *model;
    const kvern_embed_options *options;
    struct stop stop;
    const char *prefix;
    size_t limit; /* tokens of a text */
    struct embedding_shape shape;
    const char *const *texts; /* [n] */
    const size_t *n_text_bytes;
    size_t n;
    kvern_embedding *embeddings; /* [n] */
    kvern_request **requests;    /* [n], owned; NULL: not submitted, refused, or read */
    size_t next;                 /* the first text that is not submitted */
    kvern_tokens ready;          /* of that text, if it has been refused a place in the queue */
};

static kvern_status tokenize(const struct embed *embed, const char *text, size_t n_bytes,
                             kvern_tokens *tokens, kvern_embedding *embedding, kvern_error *err)
{
    size_t n_prefix = strlen(embed->prefix);
    char *joined = NULL;
    kvern_status status;

    if (n_prefix > 0) {
        joined = try_new(n_prefix + n_bytes + 1, 1);
        if (!joined)
            return fail(err, KVERN_MEMORY, "no memory for a text of %zu bytes", n_bytes);
        memcpy(joined, embed->prefix, n_prefix);
        memcpy(joined + n_prefix, text, n_bytes);
        text = joined;
        n_bytes += n_prefix;
    }
    status = kvern_tokenize(embed->model, text, n_bytes, KVERN_TOKENIZE_SPECIAL, tokens, err);
    if (status == KVERN_OK) {
        embedding->n_text_tokens = tokens->n;
        if (tokens->n == 0)
            status = fail(err, KVERN_INVALID, "the text is empty, and an empty text has no vector");
        else if (tokens->n > embed->limit && !embed->options->truncate)
            status =
                fail(err, KVERN_LIMIT,
                     "the text has %zu tokens, over the limit of %zu tokens; cutting it has to "
                     "be asked for",
                     tokens->n, embed->limit);
        else if (tokens->n > embed->limit)
            status = cut(embed->model, text, n_bytes, tokens, embed->limit, err);
        embedding->n_tokens = tokens->n;
    }
    free(joined);
    return status;
}

/* The tokens of text `next`, read and cut once. */
static kvern_status make_ready(struct embed *embed, kvern_error *err)
{
    const char *text = embed->texts[embed->next];
    size_t n_bytes = embed->n_text_bytes ? embed->n_text_bytes[embed->next] : strlen(text);

    if (embed->ready.n > 0)
        return KVERN_OK;
    return tokenize(embed, text, n_bytes, &embed->ready, &embed->embeddings[embed->next], err);
}

/* Submits text `next` if there is room for it; the oldest one waits until there is. */
static kvern_status submit_next(struct embed *embed, bool is_oldest, kvern_error *err)
{
    kvern_request_options request;
    kvern_error refusal = {0};
    kvern_status status = KVERN_BUSY;

    kvern_request_options_init(&request);
    request.prompt = embed->ready.ids;
    request.n_prompt = embed->ready.n;
    request.embed = true;
    request.pooling = embed->options->pooling;
    for (;;) {
        status = kvern_submit(embed->engine, &request, &embed->requests[embed->next], &refusal);
        if (status != KVERN_BUSY || !is_oldest)
            break;
        if (stop_is_asked(&embed->stop))
            break;
        nanosleep(&(struct timespec){.tv_nsec = BUSY_WAIT_NS}, NULL); /* others fill the queue */
    }
    return status == KVERN_OK ? KVERN_OK : fail(err, status, "%s", refusal.message);
}

/* Submits texts until the queue is full or all are; a refused one has its error. */
static void submit(struct embed *embed, size_t oldest)
{
    for (; embed->next < embed->n; embed->next++) {
        kvern_error refusal = {0};
        kvern_status status;

        if (stop_is_asked(&embed->stop))
            return;
        status = make_ready(embed, &refusal);
        if (status == KVERN_OK)
            status = submit_next(embed, embed->next == oldest, &refusal);
        if (status == KVERN_BUSY)
            return;
        kvern_tokens_clear(&embed->ready);
        if (status != KVERN_OK)
            embed->embeddings[embed->next].error = refusal;
    }
}

/* Waits for the end of text i's request and takes its vector. */
static void collect(struct embed *embed, size_t i)
{
    kvern_request *request = embed->requests[i];
    kvern_embedding *embedding = &embed->embeddings[i];
    kvern_event event;
    kvern_error *err = &embedding->error;

    if (!request)
        return;
    if (request_wait(request, &embed->stop, &event, err) == KVERN_OK)
        embedding_finish(&embed->shape, event.embedding, event.n_embedding, &embedding->values,
                         &embedding->n_values, err);
    kvern_request_free(request);
    embed->requests[i] = NULL;
}

/* Ends what is still under way. */
static kvern_status give_up(struct embed *embed, kvern_error *err)
{
    size_t n_left = 0;

    for (size_t i = 0; i < embed->n; i++) {
        if (embed->requests[i])
            kvern_request_cancel(embed->requests[i]);
    }
    for (size_t i = 0; i < embed->n; i++) {
        kvern_embedding *embedding = &embed->embeddings[i];

        kvern_request_free(embed->requests[i]);
        if (!embedding->values && embedding->error.status == KVERN_OK)
            fail(&embedding->error, KVERN_CANCELLED, "it was cancelled");
        n_left += embedding->error.status == KVERN_CANCELLED;
    }
    if (n_left == 0) /* the last one had ended already */
        return KVERN_OK;
    return fail(err, KVERN_CANCELLED, "cancelled with %zu of %zu texts left", n_left, embed->n);
}

kvern_status kvern_embed(kvern_engine *engine, const kvern_model *model, const char *const *texts,
                         const size_t *n_text_bytes, size_t n, const kvern_embed_options *options,
                         kvern_embedding *embeddings, kvern_error *err)
{
    kvern_embed_options defaults;
    kvern_engine_stats stats;
    kvern_status status;

    kvern_embed_options_init(&defaults);
    if (!options)
        options = &defaults;
    struct embed embed = {
        .engine = engine,
        .model = model,
        .options = options,
        .stop = {.fn = options->should_stop, .data = options->should_stop_data},
        .texts = texts,
        .n_text_bytes = n_text_bytes,
        .n = n,
        .embeddings = embeddings,
    };
    for (size_t i = 0; i < n; i++)
        embeddings[i] = (kvern_embedding){0};
    if (options->dimensions < 0)
        return fail(err, KVERN_INVALID, "dimensions is %d; it must be 0 (all) or more",
                    options->dimensions);
    if (!model->tokenizer)
        return fail(err, KVERN_UNSUPPORTED, "%s has no tokenizer", model->manifest.name);
    status = find_prompt(model, options->prompt, &embed.prefix, err);
    if (status != KVERN_OK)
        return status;
    embed.requests = try_new(n, sizeof(void *));
    if (!embed.requests)
        return fail(err, KVERN_MEMORY, "no memory for %zu texts", n);
    kvern_engine_get_stats(engine, &stats);
    embed.limit = (size_t)stats.max_context;
    embedding_shape_of(&embed.shape, model,
                       options->pooling == KVERN_POOLING_MODEL ? engine_pooling(engine)
                                                               : options->pooling,
                       options->normalize, options->dimensions);
    for (size_t i = 0; i < n && !embed.stop.was_asked; i++) {
        submit(&embed, i);
        if (!embed.stop.was_asked)
            collect(&embed, i);
    }
    if (embed.stop.was_asked)
        status = give_up(&embed, err);
    kvern_tokens_clear(&embed.ready);
    free(embed.requests);
    return status;
}
