/* SPDX-License-Identifier: Apache-2.0
 *
 * What callers hand to the engine: options are checked on the caller's thread, against what does
 * not change while the engine lives, and requests handed to its scheduler.
 */
#include "engine/engine_state.h"

#include "base/error.h"
#include "engine/beam_group.h"
#include "engine/request.h"

#include <string.h>

enum { MOST_SAMPLES = 256 };

/* Positions of a request before its answer. */
static size_t count_prompt(const kvern_engine *engine, const kvern_request_options *options)
{
    if (!engine->runner->is_seq2seq)
        return options->n_prompt;
    return kv_blocks_for_tokens(options->n_prompt) * KV_BLOCK_TOKENS + 1 +
           options->n_decoder_prompt;
}

/* max_tokens, or what is left of the context: one token even after a prompt that fills it. An
 * embedding counts as a prompt whose one generated token is never chosen. What an encoder-decoder
 * reads and what it writes are bounded each by itself, beside the context that memory has room for.
 */
static size_t tokens_to_generate(const kvern_engine *engine, const kvern_request_options *options)
{
    size_t max_context = engine->scheduler.limits.max_context;
    size_t n_prompt = count_prompt(engine, options);
    size_t n_left = n_prompt < max_context ? max_context - n_prompt : 1;

    if (options->embed)
        return 1;
    if (options->max_tokens > 0)
        return (size_t)options->max_tokens;
    if (options->window > 0)
        return max_context;
    if (engine->runner->is_seq2seq && n_left > engine->limits.max_source)
        return engine->limits.max_source;
    return n_left;
}

kvern_status engine_check_sliding(const kvern_engine *engine, kvern_error *err)
{
    if (!engine->runner->keeps_positions)
        return fail(err, KVERN_UNSUPPORTED,
                    "this model takes no position_ids, so its positions cannot go on past a window "
                    "that slides");
    if (engine->runner->has_rigid_kv)
        return fail(
            err, KVERN_UNSUPPORTED,
            "the KV cache lies on a device, where no part of it can be cut out, so a window "
            "cannot slide over it; provider cpu lets it");
    return KVERN_OK;
}

static kvern_status set_window(const kvern_engine *engine, const kvern_request_options *options,
                               struct sequence_window *window, kvern_error *err)
{
    *window = (struct sequence_window){0};
    if (options->window == 0)
        return KVERN_OK;
    if (options->window < 2 * KV_BLOCK_TOKENS || options->sink_tokens < 0)
        return fail(err, KVERN_INVALID,
                    "a window of %d tokens with %d sink tokens cannot slide; a window is at least "
                    "%d tokens and sinks at least 0",
                    options->window, options->sink_tokens, 2 * KV_BLOCK_TOKENS);
    if (engine_check_sliding(engine, err) != KVERN_OK)
        return KVERN_UNSUPPORTED;
    window->n_sinks = kv_blocks_for_tokens((size_t)options->sink_tokens);
    window->n_blocks = window->n_sinks + (size_t)options->window / KV_BLOCK_TOKENS;
    return KVERN_OK;
}

/* Different models never share an engine; what has a key shares with its like only. */
static struct prefix_key cache_root(const kvern_engine *engine, const char *cache_key)
{
    struct prefix_key root =
        prefix_key_root(engine->limits.kv_kind, strlen(engine->limits.kv_kind));
    struct prefix_key salted[2] = {root};

    if (!cache_key)
        return root;
    salted[1] = prefix_key_root(cache_key, strlen(cache_key));
    return prefix_key_root(salted, sizeof salted);
}

static kvern_status check_source(const kvern_engine *engine, const kvern_request_options *options,
                                 kvern_error *err)
{
    const struct {
        bool is_asked;
        const char *what;
    } missing[] = {
        {options->embed, "embeds no texts"},
        {options->score_prompt, "gives no scores of its source"},
        {options->conversation != 0, "keeps no conversations"},
        {options->window > 0, "has no window that slides"},
    };

    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        if (missing[i].is_asked)
            return fail(err, KVERN_UNSUPPORTED, "this model is an encoder-decoder: it %s",
                        missing[i].what);
    }
    if (options->n_prompt > engine->limits.max_source)
        return fail(err, KVERN_LIMIT,
                    "the source has %zu tokens, over the model's limit of %zu tokens",
                    options->n_prompt, engine->limits.max_source);
    return KVERN_OK;
}

static kvern_status check_options(const kvern_engine *engine, const kvern_request_options *options,
                                  kvern_error *err)
{
    if (options->n_prompt == 0)
        return fail(err, KVERN_INVALID, "the prompt is empty; it needs at least one token");
    if (options->max_tokens < 0)
        return fail(err, KVERN_INVALID, "max_tokens is %d; it must be 0 (no limit) or more",
                    options->max_tokens);
    if (options->timeout_ms < 0)
        return fail(err, KVERN_INVALID, "timeout_ms is %d; it must be 0 (none) or more",
                    options->timeout_ms);
    if (engine->runner->has_no_logits && !options->embed)
        return fail(err, KVERN_UNSUPPORTED,
                    "this model is an encoder: it embeds texts, it generates none");
    if (engine->runner->is_seq2seq)
        return check_source(engine, options, err);
    if (options->n_decoder_prompt > 0)
        return fail(err, KVERN_UNSUPPORTED,
                    "only an encoder-decoder takes a decoder_prompt; this model continues its "
                    "prompt");
    return KVERN_OK;
}

/* n requests in place of the waiting ones there may be; false: there is no room. */
static bool take_places(kvern_engine *engine, size_t n)
{
    if (atomic_fetch_add(&engine->n_waiting, n) + n <= engine->limits.max_waiting)
        return true;
    atomic_fetch_sub(&engine->n_waiting, n);
    return false;
}

static kvern_status make_requests(kvern_engine *engine, const kvern_request_options *options,
                                  const struct sequence_window *window, size_t max_tokens, size_t n,
                                  kvern_request **requests, kvern_error *err)
{
    const struct request_model model = {
        .vocab_size = engine->runner->vocab_size,
        .end_tokens = engine->stop_ids,
        .n_end_tokens = engine->n_stop_ids,
        .has_no_logits = engine->runner->has_no_logits,
        .pools_itself = engine->runner->pools_itself,
        .hidden_size = engine->runner->hidden_size,
        .is_seq2seq = engine->runner->is_seq2seq,
        .decoder_start = engine->runner->decoder_start,
        .pooling = engine->limits.pooling,
        .maker = engine->maker.make ? &engine->maker : NULL,
    };
    kvern_request_options own = *options;

    for (size_t i = 0; i < n; i++) {
        kvern_status status = request_new(&requests[i], &own, max_tokens, &model, err);

        if (status != KVERN_OK) {
            while (i > 0)
                request_free(requests[--i]);
            return status;
        }
        requests[i]->engine = engine;
        engine_hold(engine);
        requests[i]->sequence.window = *window;
        requests[i]->sequence.root = cache_root(engine, options->cache_key);
        if (i > 0)
            requests[i]->sequence.leader = &requests[0]->sequence;
        own.sampling.seed++;
    }
    return KVERN_OK;
}

/* Beams run together: there must be room for all in an empty engine. */
static kvern_status check_room_for_beams(const kvern_engine *engine, size_t n_beams,
                                         size_t n_prompt, size_t max_tokens, kvern_error *err)
{
    const struct scheduler *scheduler = &engine->scheduler;
    size_t n_blocks = kv_blocks_for_tokens(sequence_max_positions(n_prompt, max_tokens));

    if (n_beams > scheduler->limits.max_running)
        return fail(err, KVERN_LIMIT, "num_beams is %zu, over the limit of %zu sequences at once",
                    n_beams, scheduler->limits.max_running);
    if (!scheduler_can_preempt(scheduler) && n_blocks * n_beams > scheduler->blocks.n_blocks)
        return fail(err, KVERN_LIMIT,
                    "%zu beams of %zu KV blocks each are over the limit of %zu blocks", n_beams,
                    n_blocks, scheduler->blocks.n_blocks);
    return KVERN_OK;
}

static kvern_status check_samples(const kvern_engine *engine, const kvern_request_options *options,
                                  size_t n, kvern_error *err)
{
    kvern_status status = check_options(engine, options, err);

    if (n < 1 || n > MOST_SAMPLES)
        return fail(err, KVERN_INVALID, "%zu answers to one prompt; it can be 1 to %d", n,
                    MOST_SAMPLES);
    if (status == KVERN_OK && n > 1 && options->conversation != 0)
        status = fail(err, KVERN_INVALID,
                      "%zu answers to one prompt cannot go on in one conversation", n);
    if (status == KVERN_OK)
        status = sampling_check_beams(options, n, err);
    return status;
}

kvern_status kvern_submit_samples(kvern_engine *engine, const kvern_request_options *options,
                                  size_t n, kvern_request **requests, kvern_error *err)
{
    size_t max_tokens = tokens_to_generate(engine, options);
    size_t n_beams = options->num_beams > 1 ? (size_t)options->num_beams : 0;
    size_t n_made = n_beams > 0 ? n_beams : n;
    kvern_request *made[MOST_SAMPLES];
    struct sequence_window window;
    kvern_status status = check_samples(engine, options, n, err);

    if (status == KVERN_OK)
        status = set_window(engine, options, &window, err);
    if (status == KVERN_OK)
        status = scheduler_accepts(&engine->scheduler, count_prompt(engine, options), max_tokens,
                                   &window, err);
    if (status == KVERN_OK)
        status =
            check_room_for_beams(engine, n_beams, count_prompt(engine, options), max_tokens, err);
    if (status != KVERN_OK)
        return status;
    if (!take_places(engine, n_made))
        return fail(err, KVERN_BUSY, "%zu requests are waiting, which is the most allowed",
                    engine->limits.max_waiting);
    status = make_requests(engine, options, &window, max_tokens, n_made, made, err);
    if (status == KVERN_OK && n_beams > 0) {
        status = beam_group_new(made, n_beams, n, max_tokens, options, err);
        for (size_t i = 0; status != KVERN_OK && i < n_beams; i++)
            request_free(made[i]);
    }
    if (status != KVERN_OK) {
        atomic_fetch_sub(&engine->n_waiting, n_made);
        return status;
    }
    memcpy(requests, made, n * sizeof(void *));
    engine_lock(engine);
    for (size_t i = 0; i < n_made; i++)
        scheduler_add(&engine->scheduler, &made[i]->sequence);
    engine_unlock(engine);
    return KVERN_OK;
}

kvern_status kvern_submit(kvern_engine *engine, const kvern_request_options *options,
                          kvern_request **out, kvern_error *err)
{
    return kvern_submit_samples(engine, options, 1, out, err);
}
