/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's side of a request: checking and copying options, choosing tokens, and deliveries of
 * tokens and text. The caller's is in request_read.c.
 */
#include "engine/request.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "engine/logits.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void kvern_request_options_init(kvern_request_options *options)
{
    *options = (kvern_request_options){
        .sampling = {.repetition_penalty = 1, .top_p = 1, .typical_p = 1}, .length_penalty = 1};
}

const char *kvern_finish_name(kvern_finish finish)
{
    static const char *const names[] = {
        [KVERN_FINISH_NONE] = "",         [KVERN_FINISH_STOP] = "stop",
        [KVERN_FINISH_LENGTH] = "length", [KVERN_FINISH_CANCELLED] = "cancelled",
        [KVERN_FINISH_ERROR] = "error",   [KVERN_FINISH_TIMEOUT] = "timeout"};

    return (size_t)finish < sizeof names / sizeof names[0] ? names[finish] : "";
}

static kvern_status check_ids(const char *what, const int32_t *ids, size_t n, size_t vocab_size,
                              kvern_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= vocab_size)
            return fail(err, KVERN_INVALID, "%s token %zu is %d; the vocabulary has %zu", what, i,
                        ids[i], vocab_size);
    }
    return KVERN_OK;
}

/* The sequence of a source: that, padded to whole blocks, the start token, and what the answer is
 * made to begin with. */
static kvern_status init_source(struct sequence *sequence, const kvern_request_options *options,
                                size_t max_tokens, int32_t decoder_start, kvern_error *err)
{
    size_t n_slots = kv_blocks_for_tokens(options->n_prompt) * KV_BLOCK_TOKENS;
    size_t n_prompt = n_slots + 1 + options->n_decoder_prompt;
    int32_t *tokens = try_new(n_prompt, sizeof *tokens);
    kvern_status status;

    if (!tokens)
        return fail(err, KVERN_MEMORY, "no memory for a source of %zu tokens", options->n_prompt);
    memcpy(tokens, options->prompt, options->n_prompt * sizeof *tokens);
    tokens[n_slots] = decoder_start;
    if (options->n_decoder_prompt > 0)
        memcpy(tokens + n_slots + 1, options->decoder_prompt,
               options->n_decoder_prompt * sizeof *tokens);
    status = sequence_init(sequence, tokens, n_prompt, max_tokens, err);
    sequence->n_source = options->n_prompt;
    free(tokens);
    return status;
}

static kvern_status set_pooling(kvern_request *request, kvern_pooling pooling,
                                const struct request_model *model, kvern_error *err)
{
    if (model->pools_itself && pooling != KVERN_POOLING_MODEL)
        return fail(err, KVERN_UNSUPPORTED,
                    "this model pools by itself, so pooling %s cannot be had",
                    kvern_pooling_name(pooling));
    if (pooling == KVERN_POOLING_MODEL)
        pooling = model->pooling;
    if (!pooling_reads_logits(pooling) && model->hidden_size == 0)
        return fail(err, KVERN_UNSUPPORTED,
                    "pooling %s needs hidden states, but this model gives logits only: use "
                    "logits512",
                    kvern_pooling_name(pooling));
    if (pooling_reads_logits(pooling) && model->has_no_logits)
        return fail(err, KVERN_UNSUPPORTED,
                    "pooling logits512 needs logits, but this model gives hidden states only");
    request->is_embedding = true;
    request->sequence.wants_hidden = !pooling_reads_logits(pooling);
    request->sequence.wants_all_rows = pooling_reads_all_rows(pooling);
    return pooling_init(&request->pooling, pooling,
                        request->sequence.wants_hidden ? model->hidden_size : model->vocab_size,
                        err);
}

static void set_end_ids(kvern_request *request, const kvern_request_options *options,
                        const struct request_model *model)
{
    size_t n_most = model->n_end_tokens + options->n_stop_token_ids;

    request->end_ids = new_or_abort(n_most * sizeof *request->end_ids);
    for (size_t i = 0; !options->ignore_eos && i < model->n_end_tokens; i++) {
        int32_t id = model->end_tokens[i];

        if (id >= 0 && (size_t)id < model->vocab_size)
            request->end_ids[request->n_end_ids++] = id;
    }
    for (size_t i = 0; i < options->n_stop_token_ids; i++)
        request->end_ids[request->n_end_ids++] = options->stop_token_ids[i];
}

kvern_status request_new(kvern_request **out, const kvern_request_options *options,
                         size_t max_tokens, const struct request_model *model, kvern_error *err)
{
    kvern_status status =
        check_ids("prompt", options->prompt, options->n_prompt, model->vocab_size, err);
    kvern_sampling sampling = {0};
    kvern_request *request;

    if (status == KVERN_OK)
        status = check_ids("decoder_prompt", options->decoder_prompt, options->n_decoder_prompt,
                           model->vocab_size, err);
    if (status == KVERN_OK)
        status = sampling_check_request(options, max_tokens, model->vocab_size, err);
    if (status == KVERN_OK)
        status = sampling_init(&sampling, &options->sampling, model->vocab_size, err);
    if (status != KVERN_OK)
        return status;
    request = new_or_abort(sizeof *request);
    queue_init(&request->deliveries);
    request->sampling = sampling;
    request->min_tokens = (size_t)options->min_tokens;
    set_end_ids(request, options, model);
    request->logprobs_kind = options->logprobs;
    request->n_top_logprobs = (size_t)options->top_logprobs;
    request->score_prompt = options->score_prompt && !options->embed;
    request->all_logits = options->all_logits && options->on_logits;
    request->on_logits = options->on_logits;
    request->on_logits_data = options->on_logits_data;
    request->n_prompt = options->n_prompt;
    request->vocab_size = model->vocab_size;
    if (model->is_seq2seq)
        status = init_source(&request->sequence, options, max_tokens, model->decoder_start, err);
    else
        status =
            sequence_init(&request->sequence, options->prompt, options->n_prompt, max_tokens, err);
    request->sequence.conversation = options->conversation;
    request->sequence.priority = options->priority;
    request->sequence.wants_all_rows =
        request->score_prompt || (request->all_logits && !model->is_seq2seq);
    if (status == KVERN_OK && options->embed)
        status = set_pooling(request, options->pooling, model, err);
    if (status == KVERN_OK)
        status = stop_filter_init(&request->stop_filter, options->stop, options->n_stop, err);
    if (status == KVERN_OK && model->maker)
        status = model->maker->make(model->maker->context, &request->decoder, err);
    if (status == KVERN_OK && request->score_prompt) {
        request->prompt_logprobs = try_new(options->n_prompt, sizeof *request->prompt_logprobs);
        if (!request->prompt_logprobs)
            status =
                fail(err, KVERN_MEMORY, "no memory for %zu log-probabilities", options->n_prompt);
    }
    if (status != KVERN_OK) {
        request_free(request);
        return status;
    }
    request->submitted_ms = clock_ms();
    if (options->timeout_ms > 0)
        request->deadline_ms = request->submitted_ms + options->timeout_ms;
    *out = request;
    return KVERN_OK;
}

void request_free(kvern_request *request)
{
    struct queue_item *item;

    while ((item = queue_pop(&request->deliveries, 0)))
        delivery_free((struct delivery *)item);
    queue_clear(&request->deliveries);
    sequence_clear(&request->sequence);
    sampling_clear(&request->sampling);
    free(request->end_ids);
    stop_filter_clear(&request->stop_filter);
    if (request->decoder.free)
        request->decoder.free(request->decoder.state);
    free(request->prompt_logprobs);
    pooling_clear(&request->pooling);
    buffer_clear(&request->text);
    free(request->tokens);
    free(request->logprobs);
    free(request->top_logprobs);
    free(request->generated);
    if (request->engine)
        engine_release(request->engine);
    free(request);
}

kvern_request *request_of(struct sequence *sequence)
{
    return (kvern_request *)((char *)sequence - offsetof(kvern_request, sequence));
}

void request_start(kvern_request *request)
{
    if (request->started_ms == 0)
        request->started_ms = clock_ms();
}

kvern_status request_see_logits(kvern_request *request, const float *logits, size_t n_rows,
                                size_t vocab_size, kvern_error *err)
{
    const struct sequence *sequence = &request->sequence;
    size_t first = sequence->n_computed - n_rows;

    for (size_t i = 0; i < n_rows; i++) {
        const float *row = logits + i * vocab_size;
        size_t position = first + i;
        bool is_last = position + 1 == sequence->n_tokens;

        if (request->on_logits && (is_last || request->all_logits))
            request->on_logits(row, vocab_size, position - sequence_n_source_slots(sequence),
                               request->on_logits_data);
        if (request->score_prompt && position + 1 < sequence->n_prompt) {
            float *score = &request->prompt_logprobs[position];

            *score = log_probability(row, vocab_size, sequence->tokens[position + 1]);
            if (isnan(*score))
                return fail(err, KVERN_RUNTIME, "logits of token %zu are not finite", position + 1);
        }
    }
    return KVERN_OK;
}

kvern_finish request_pool(kvern_request *request, const float *rows, size_t n_rows, size_t row_size)
{
    const struct sequence *sequence = &request->sequence;

    pooling_add(&request->pooling, rows, n_rows, row_size);
    if (sequence->n_computed < sequence->n_tokens)
        return KVERN_FINISH_NONE;
    if (pooling_finish(&request->pooling, &request->error) != KVERN_OK)
        return KVERN_FINISH_ERROR;
    return KVERN_FINISH_STOP;
}

/* Takes `text` over. */
static void deliver(kvern_request *request, struct buffer *text, const int32_t *token,
                    kvern_finish finish)
{
    bool has_logprobs = token && request->logprobs_kind != KVERN_LOGPROBS_NONE;
    size_t top_bytes = has_logprobs ? request->n_top_logprobs * sizeof request->picked.top[0] : 0;
    struct delivery *delivery = new_or_abort(sizeof *delivery + top_bytes);
    const struct sequence *sequence = &request->sequence;
    double now = clock_ms();
    double started = request->started_ms > 0 ? request->started_ms : now;
    double first_token = request->first_token_ms > 0 ? request->first_token_ms : now;

    delivery->finish = finish;
    if (text)
        delivery->text = *text;
    if (token) {
        delivery->n_tokens = 1;
        delivery->token = *token;
    }
    if (has_logprobs) {
        delivery->logprob = request->picked.logprob;
        memcpy(delivery->top_logprobs, request->picked.top, top_bytes);
    }
    delivery->n_prompt_tokens =
        sequence->n_shown < request->n_prompt ? sequence->n_shown : request->n_prompt;
    delivery->n_completion_tokens = sequence_n_generated(sequence);
    delivery->n_cached_tokens = sequence->n_cached;
    delivery->wait_ms = started - request->submitted_ms;
    delivery->prefill_ms = first_token - started;
    delivery->decode_ms = now - first_token;
    queue_push(&request->deliveries, &delivery->item);
}

/* Stop strings do not count before min_tokens. */
static bool filter_text(kvern_request *request, struct buffer *decoded, struct buffer *out)
{
    bool has_stopped = false;

    if (sequence_n_generated(&request->sequence) < request->min_tokens)
        stop_filter_pass(&request->stop_filter, decoded->data, decoded->n_bytes, out);
    else
        has_stopped = stop_filter_add(&request->stop_filter, decoded->data, decoded->n_bytes, out);
    out->has_failed |= decoded->has_failed;
    buffer_clear(decoded);
    return has_stopped;
}

/* Everything the decoder and the stop filter still hold; a stop string may end there too. */
static bool flush_text(kvern_request *request, struct buffer *out)
{
    struct buffer decoded = {0};
    bool has_stopped;

    if (request->decoder.finish)
        request->decoder.finish(request->decoder.state, &decoded);
    has_stopped = filter_text(request, &decoded, out);
    if (!has_stopped)
        stop_filter_finish(&request->stop_filter, out);
    return has_stopped;
}

static bool add_text(kvern_request *request, int32_t token, struct buffer *out)
{
    struct buffer decoded = {0};

    if (!request->decoder.add)
        return false;
    request->decoder.add(request->decoder.state, token, &decoded);
    return filter_text(request, &decoded, out);
}

/* `logits` are those that follow the sequence's last token. */
static struct sampler_place make_place(const kvern_request *request, const float *logits)
{
    const struct sequence *sequence = &request->sequence;
    bool is_early = sequence_n_generated(sequence) < request->min_tokens;
    size_t n_source_slots = sequence_n_source_slots(sequence); /* no part of what is continued */

    return (struct sampler_place){
        .logits = logits,
        .history = sequence->tokens + n_source_slots,
        .n_history = sequence->n_tokens - n_source_slots,
        .n_prompt = sequence->n_prompt - n_source_slots,
        .barred = request->end_ids,
        .n_barred = is_early ? request->n_end_ids : 0,
    };
}

kvern_status request_pick(kvern_request *request, struct sampler *sampler, const float *logits,
                          int32_t *token, kvern_error *err)
{
    const struct sampler_place place = make_place(request, logits);
    kvern_status status = sampler_pick(sampler, &request->sampling, &place, token, err);

    if (status == KVERN_OK && request->logprobs_kind != KVERN_LOGPROBS_NONE)
        sampler_logprobs(sampler, request->logprobs_kind, &place, *token, &request->picked.logprob,
                         request->picked.top, request->n_top_logprobs);
    return status;
}

kvern_status request_log_softmax(const kvern_request *request, struct sampler *sampler,
                                 const float *logits, const float **log_probs, kvern_error *err)
{
    const struct sampler_place place = make_place(request, logits);

    return sampler_log_softmax(sampler, &request->sampling, &place, log_probs, err);
}

static bool is_end(const kvern_request *request, int32_t token)
{
    for (size_t i = 0; i < request->n_end_ids; i++) {
        if (request->end_ids[i] == token)
            return true;
    }
    return false;
}

kvern_finish request_add_token(kvern_request *request, int32_t token)
{
    struct sequence *sequence = &request->sequence;
    bool has_ended = is_end(request, token);
    struct buffer text = {0};
    kvern_finish finish = KVERN_FINISH_NONE;

    sequence_append(sequence, token);
    if (request->first_token_ms == 0)
        request->first_token_ms = clock_ms();
    if (has_ended || add_text(request, token, &text))
        finish = KVERN_FINISH_STOP;
    else if (sequence->n_tokens == sequence->capacity)
        finish = KVERN_FINISH_LENGTH;
    if ((has_ended || finish == KVERN_FINISH_LENGTH) && flush_text(request, &text))
        finish = KVERN_FINISH_STOP;
    if (text.has_failed) {
        fail(&request->error, KVERN_MEMORY, "no memory for the text of token %zu",
             sequence->n_tokens - 1);
        buffer_clear(&text);
        finish = KVERN_FINISH_ERROR;
    }
    deliver(request, &text, &token, KVERN_FINISH_NONE);
    return finish;
}

kvern_finish request_add_answer(kvern_request *request, const int32_t *tokens, size_t n,
                                float score)
{
    kvern_finish finish = KVERN_FINISH_NONE;

    request->has_score = true;
    request->score = score;
    request->sequence.n_tokens = request->sequence.n_prompt;
    for (size_t i = 0; i < n && finish == KVERN_FINISH_NONE; i++)
        finish = request_add_token(request, tokens[i]);
    return finish == KVERN_FINISH_NONE ? KVERN_FINISH_LENGTH : finish;
}

void request_finish(kvern_request *request, kvern_finish finish, const kvern_error *error)
{
    if (error)
        request->error = *error;
    if (finish == KVERN_FINISH_CANCELLED || finish == KVERN_FINISH_TIMEOUT) {
        struct buffer text = {0};

        flush_text(request, &text);
        deliver(request, &text, NULL, finish);
    } else {
        deliver(request, NULL, NULL, finish);
    }
}
