/* SPDX-License-Identifier: Apache-2.0
 *
 * The caller's side of a request: deliveries are gathered into events. Freeing waits for the final
 * delivery, so that neither callback nor engine can meet a freed request.
 */
#include "base/error.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "engine/request.h"

#include <stdlib.h>
#include <string.h>

enum { STOP_ASK_MS = 20 };

void delivery_free(struct delivery *delivery)
{
    buffer_clear(&delivery->text);
    free(delivery);
}

static bool append_token(int32_t **tokens, size_t *n, size_t *capacity, int32_t token)
{
    if (*n == *capacity) {
        size_t wanted = *capacity ? *capacity * 2 : 16;
        int32_t *grown = try_resize(*tokens, wanted, sizeof *grown);

        if (!grown)
            return false;
        *tokens = grown;
        *capacity = wanted;
    }
    (*tokens)[(*n)++] = token;
    return true;
}

/* Beside the token that append_tokens() puts at the end. */
static bool append_logprobs(kvern_request *request, const struct delivery *delivery)
{
    size_t n_top = request->n_top_logprobs;

    if (request->n_tokens == request->logprob_capacity) {
        size_t wanted = request->logprob_capacity ? request->logprob_capacity * 2 : 16;
        float *logprobs = try_resize(request->logprobs, wanted, sizeof *logprobs);
        kvern_logprob *top;

        request->logprobs = logprobs ? logprobs : request->logprobs;
        top =
            logprobs ? try_resize(request->top_logprobs, wanted, (n_top + 1) * sizeof *top) : NULL;
        if (!top)
            return false;
        request->top_logprobs = top;
        request->logprob_capacity = wanted;
    }
    request->logprobs[request->n_tokens] = delivery->logprob;
    memcpy(request->top_logprobs + request->n_tokens * n_top, delivery->top_logprobs,
           n_top * sizeof *delivery->top_logprobs);
    return true;
}

static bool append_tokens(kvern_request *request, const struct delivery *delivery)
{
    if (delivery->n_tokens == 0)
        return true;
    if (request->logprobs_kind != KVERN_LOGPROBS_NONE && !append_logprobs(request, delivery))
        return false;
    return append_token(&request->tokens, &request->n_tokens, &request->token_capacity,
                        delivery->token) &&
           append_token(&request->generated, &request->n_generated, &request->generated_capacity,
                        delivery->token);
}

/* Adds a delivery to the event being gathered; false: no memory, and its content is lost. */
static bool gather(kvern_request *request, const struct delivery *delivery, kvern_event *event)
{
    bool has_room = append_tokens(request, delivery);

    buffer_add(&request->text, delivery->text.data ? delivery->text.data : "",
               delivery->text.n_bytes);
    event->finish = delivery->finish;
    event->n_prompt_tokens = delivery->n_prompt_tokens;
    event->n_completion_tokens = delivery->n_completion_tokens;
    event->n_cached_tokens = delivery->n_cached_tokens;
    event->wait_ms = delivery->wait_ms;
    event->prefill_ms = delivery->prefill_ms;
    event->decode_ms = delivery->decode_ms;
    return has_room && !request->text.has_failed;
}

static void finish_event(kvern_request *request, kvern_event *event)
{
    event->text = request->text.data;
    event->n_text = request->text.n_bytes;
    event->tokens = request->tokens;
    event->n_tokens = request->n_tokens;
    if (request->n_tokens > 0) {
        event->logprobs = request->logprobs;
        event->top_logprobs = request->top_logprobs;
        event->n_top_logprobs = request->n_top_logprobs;
    }
    if (event->finish == KVERN_FINISH_NONE)
        return;
    if (event->finish == KVERN_FINISH_ERROR)
        event->error = request->error;
    if (request->score_prompt && event->finish != KVERN_FINISH_ERROR &&
        event->n_prompt_tokens == request->n_prompt) {
        event->prompt_logprobs = request->prompt_logprobs;
        event->n_prompt_logprobs = request->n_prompt - 1;
    }
    if (request->is_embedding && event->finish == KVERN_FINISH_STOP) {
        event->embedding = request->pooling.values;
        event->n_embedding = request->pooling.n_values;
    }
    event->has_score = request->has_score;
    event->score = request->score;
    request->last = *event;
    request->is_over = true;
}

kvern_status kvern_request_next(kvern_request *request, int timeout_ms, kvern_event *event,
                                kvern_error *err)
{
    struct queue_item *item;
    bool has_room = true;

    if (request->is_over) {
        *event = request->last;
        return KVERN_OK;
    }
    item = queue_pop(&request->deliveries, timeout_ms);
    if (!item)
        return fail(err, KVERN_TIMEOUT, "nothing new from the request in %d ms", timeout_ms);
    *event = (kvern_event){0};
    buffer_truncate(&request->text, 0);
    request->n_tokens = 0;
    while (item) {
        struct delivery *delivery = (struct delivery *)item;

        has_room &= gather(request, delivery, event);
        delivery_free(delivery);
        item = event->finish == KVERN_FINISH_NONE ? queue_pop(&request->deliveries, 0) : NULL;
    }
    if (!has_room) {
        kvern_request_cancel(request);
        buffer_clear(&request->text);
        request->is_over = event->finish != KVERN_FINISH_NONE;
        request->last = (kvern_event){.text = "", .finish = KVERN_FINISH_ERROR};
        fail(&request->last.error, KVERN_MEMORY,
             "no memory for the request's events; it was cancelled");
        return fail(err, KVERN_MEMORY, "%s", request->last.error.message);
    }
    finish_event(request, event);
    return KVERN_OK;
}

bool stop_is_asked(struct stop *stop)
{
    stop->was_asked = stop->was_asked || (stop->fn && stop->fn(stop->data));
    return stop->was_asked;
}

bool request_saw_engine_end(const kvern_request *request)
{
    return request->last.finish == KVERN_FINISH_CANCELLED && !atomic_load(&request->is_cancelled);
}

kvern_status request_wait(kvern_request *request, struct stop *stop, kvern_event *event,
                          kvern_error *err)
{
    *event = (kvern_event){0};
    while (event->finish == KVERN_FINISH_NONE) {
        kvern_error why = {0};
        kvern_status status;

        if (stop_is_asked(stop))
            kvern_request_cancel(request);
        status = kvern_request_next(request, stop->fn && !stop->was_asked ? STOP_ASK_MS : -1, event,
                                    &why);
        if (status != KVERN_OK && status != KVERN_TIMEOUT)
            return fail(err, status, "%s", why.message);
    }
    if (event->finish == KVERN_FINISH_ERROR)
        return fail(err, event->error.status, "%s", event->error.message);
    if (event->finish == KVERN_FINISH_TIMEOUT)
        return fail(err, KVERN_TIMEOUT, "its time was up");
    if (event->finish == KVERN_FINISH_CANCELLED)
        return fail(err, KVERN_CANCELLED, "%s",
                    request_saw_engine_end(request) ? "the engine was closed" : "it was cancelled");
    return KVERN_OK;
}

void kvern_request_cancel(kvern_request *request)
{
    atomic_store(&request->is_cancelled, true);
    if (request->engine)
        engine_cancel(request->engine, request);
}

void kvern_request_free(kvern_request *request)
{
    if (!request)
        return;
    if (!request->is_over)
        kvern_request_cancel(request);
    while (!request->is_over) {
        struct queue_item *item = queue_pop(&request->deliveries, -1);

        request->is_over = ((struct delivery *)item)->finish != KVERN_FINISH_NONE;
        delivery_free((struct delivery *)item);
    }
    request_free(request);
}
