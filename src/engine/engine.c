/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's thread and what callers may do to it. A step is a transaction: sequences advance in
 * engine_commit() only, after the runner succeeded, so a failed step leaves them as they were. The
 * thread sleeps in its inbox while there is nothing to run. A long step is cut short when a request
 * in it is cancelled; the next one then runs to its end, so that others go on whatever is
 * cancelled.
 */
#include "engine/engine.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/pace.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_STEP_TOKENS = 512,
    DEFAULT_MAX_SEQUENCES = 64,
    DEFAULT_MAX_WAITING = 512,
    SCORING_BYTES = 64 << 20, /* logits of one step for those that want every row */
    LONG_STEP_TOKENS = 32,    /* from so many on a step is worth interrupting */
    MOST_SAMPLES = 256,
};

struct kvern_engine {
    struct runner *runner; /* owned */
    struct engine_limits limits;
    struct text_decoder_maker maker; /* .make may be NULL */
    int32_t *stop_ids;               /* [n_stop_ids], owned */
    size_t n_stop_ids;
    struct queue inbox;
    atomic_size_t n_waiting; /* submitted and not yet admitted */
    pthread_mutex_t stats_mutex;
    kvern_engine_stats stats; /* under stats_mutex */
    /* the thread's own */
    struct scheduler scheduler;
    struct plan plan;
    struct plan single; /* one item of a failed plan, run again alone */
    struct batch batch;
    struct sampler sampler;
    struct pace pace;
    bool was_interrupted; /* the last step */
    pthread_t thread;
};

static void publish_stats(kvern_engine *e)
{
    const struct kv_blocks *blocks = &e->scheduler.blocks;

    pthread_mutex_lock(&e->stats_mutex);
    e->stats.n_running = (int32_t)e->scheduler.running.n;
    e->stats.n_kv_blocks_used = (int32_t)(blocks->n_blocks - blocks->n_free);
    e->stats.n_cache_hits = (int64_t)e->scheduler.counts.n_hits;
    e->stats.n_cached_tokens = (int64_t)e->scheduler.counts.n_saved_tokens;
    e->stats.n_cache_evictions = (int64_t)blocks->n_evicted;
    e->stats.n_preemptions = (int64_t)e->scheduler.counts.n_preempted;
    pthread_mutex_unlock(&e->stats_mutex);
}

/* The reader may look at the stats, or free the request, as soon as it has the final delivery. */
static void finish(kvern_engine *e, struct sequence *sequence, kvern_finish how,
                   const kvern_error *error)
{
    if (sequence->state == SEQUENCE_WAITING)
        atomic_fetch_sub(&e->n_waiting, 1);
    if (how == KVERN_FINISH_ERROR)
        scheduler_remove(&e->scheduler, sequence);
    else
        scheduler_retire(&e->scheduler, sequence);
    publish_stats(e);
    request_finish(request_of(sequence), how, error);
}

static void drop_cancelled(kvern_engine *e, struct sequence_list *list, bool all)
{
    struct sequence *next;

    for (struct sequence *sequence = list->first; sequence; sequence = next) {
        kvern_request *request = request_of(sequence);

        next = sequence->next;
        if (all || atomic_load(&request->is_cancelled))
            finish(e, sequence, KVERN_FINISH_CANCELLED, NULL);
        else if (request->deadline_ms > 0 && clock_ms() >= request->deadline_ms)
            finish(e, sequence, KVERN_FINISH_TIMEOUT, NULL);
    }
}

static bool is_idle(const kvern_engine *e)
{
    return e->scheduler.waiting.n == 0 && e->scheduler.running.n == 0;
}

static void take_request(kvern_engine *e, struct inbox_item *item)
{
    kvern_request *request = (kvern_request *)item;

    while (request) {
        kvern_request *next = request->next_sample;

        scheduler_add(&e->scheduler, &request->sequence);
        request = next;
    }
}

struct call {
    struct inbox_item item; /* first */
    kvern_status (*fn)(const struct engine_parts *parts, void *data, kvern_error *err);
    void *data;
    kvern_error *err;
    kvern_status status;
    struct queue_item answer;
    struct queue answers; /* `answer` comes here when it is done */
};

static void take_call(kvern_engine *e, struct inbox_item *item)
{
    struct call *call = (struct call *)item;
    const struct engine_parts parts = {.scheduler = &e->scheduler, .runner = e->runner};

    call->status = call->fn(&parts, call->data, call->err);
    publish_stats(e);
    queue_push(&call->answers, &call->answer);
}

kvern_status engine_call(kvern_engine *engine,
                         kvern_status (*fn)(const struct engine_parts *parts, void *data,
                                            kvern_error *err),
                         void *data, kvern_error *err)
{
    struct call call = {.item.take = take_call, .fn = fn, .data = data, .err = err};

    queue_init(&call.answers);
    queue_push(&engine->inbox, &call.item.item);
    queue_pop(&call.answers, -1);
    queue_clear(&call.answers);
    return call.status;
}

const char *engine_kv_kind(const kvern_engine *engine)
{
    return engine->limits.kv_kind;
}

kvern_pooling engine_pooling(const kvern_engine *engine)
{
    return engine->limits.pooling;
}

/* Takes submitted and cancelled requests; sleeps until there is something to run. false: the engine
 * is being closed and holds no request any more. */
static bool engine_wait(kvern_engine *e)
{
    bool is_closing;

    do {
        struct queue_item *item = queue_pop(&e->inbox, is_idle(e) ? -1 : 0);

        /* before the inbox is emptied: what was submitted before the close is then seen here */
        is_closing = queue_is_closed(&e->inbox);
        for (item = item ? item : queue_pop(&e->inbox, 0); item; item = queue_pop(&e->inbox, 0))
            ((struct inbox_item *)item)->take(e, (struct inbox_item *)item);
        drop_cancelled(e, &e->scheduler.waiting, is_closing);
        drop_cancelled(e, &e->scheduler.running, is_closing);
    } while (is_idle(e) && !is_closing);
    return !is_closing;
}

static void count_step(kvern_engine *e, const struct plan *plan)
{
    pthread_mutex_lock(&e->stats_mutex);
    e->stats.n_steps++;
    for (size_t i = 0; i < plan->n_items; i++) {
        if (sequence_is_decoding(plan->items[i].sequence))
            e->stats.n_decode_tokens++;
        else
            e->stats.n_prefill_tokens += (int64_t)plan->items[i].n_tokens;
    }
    pthread_mutex_unlock(&e->stats_mutex);
}

/* One sequence's part of a step that succeeded; rows [item->n_rows, row_size] of hidden states if
 * it wants those, else of logits. */
static void commit_item(kvern_engine *e, const struct plan_item *item, const float *rows,
                        size_t row_size)
{
    struct sequence *sequence = item->sequence;
    kvern_request *request = request_of(sequence);
    kvern_finish how = KVERN_FINISH_NONE;
    int32_t token = 0;
    kvern_error error;
    kvern_status status;

    scheduler_advance(&e->scheduler, sequence, item->n_tokens);
    if (request->is_embedding) {
        how = request_pool(request, rows, item->n_rows, row_size);
        if (how != KVERN_FINISH_NONE)
            finish(e, sequence, how, NULL);
        return;
    }
    status = request_see_logits(request, rows, item->n_rows, row_size, &error);
    if (status == KVERN_OK && sequence->n_computed < sequence->n_tokens)
        return;
    if (status == KVERN_OK)
        status = request_pick(request, &e->sampler, rows + (item->n_rows - 1) * row_size, &token,
                              &error);
    if (status != KVERN_OK) {
        finish(e, sequence, KVERN_FINISH_ERROR, &error);
        return;
    }
    how = request_add_token(request, token);
    if (how != KVERN_FINISH_NONE)
        finish(e, sequence, how, NULL);
}

static void commit_plan(kvern_engine *e, const struct plan *plan,
                        const struct runner_output *output)
{
    const float *logits = output->logits;
    size_t n_rows = 0; /* of the output rows */

    count_step(e, plan);
    for (size_t i = 0; i < plan->n_items; i++) {
        const struct plan_item *item = &plan->items[i];
        size_t n = item->n_rows; /* the sequence may be gone after commit_item */

        if (item->sequence->wants_hidden) {
            commit_item(e, item, output->hidden + n_rows * e->runner->hidden_size,
                        e->runner->hidden_size);
        } else {
            commit_item(e, item, logits, e->runner->vocab_size);
            logits += n * e->runner->vocab_size;
        }
        n_rows += n;
    }
}

/* A failed step is run again one sequence at a time, so that only the guilty one is lost. */
static void run_one_by_one(kvern_engine *e, const struct plan *plan)
{
    for (size_t i = 0; i < plan->n_items; i++) {
        struct runner_output output = {0};
        kvern_error error = {0};

        e->single.items[0] = plan->items[i];
        e->single.n_items = 1;
        batch_fill(&e->batch, &e->single);
        kvern_status status = e->runner->run(e->runner, &e->batch, &output, &error);
        if (status == KVERN_OK)
            commit_plan(e, &e->single, &output);
        else if (status != KVERN_CANCELLED)
            finish(e, plan->items[i].sequence, KVERN_FINISH_ERROR, &error);
    }
}

/* Samples, delivers tokens and text, drops what has finished or failed. */
static void engine_commit(kvern_engine *e, const struct plan *plan,
                          const struct runner_output *output, kvern_status status,
                          const kvern_error *error)
{
    e->was_interrupted = status == KVERN_CANCELLED;
    if (status == KVERN_OK)
        commit_plan(e, plan, output);
    else if (status == KVERN_CANCELLED)
        ; /* whatever was cancelled goes before the next plan */
    else if (plan->n_items == 1)
        finish(e, plan->items[0].sequence, KVERN_FINISH_ERROR, error);
    else
        run_one_by_one(e, plan);
    publish_stats(e);
    if (e->limits.checks_blocks) {
        kvern_error broken = {0};
        kvern_status checked = scheduler_check(&e->scheduler, &broken);

        assert(checked != KVERN_RUNTIME);
        (void)checked;
    }
}

static size_t count_decodes(const struct sequence_list *list)
{
    size_t n = 0;

    for (const struct sequence *sequence = list->first; sequence; sequence = sequence->next)
        n += sequence_is_decoding(sequence);
    return n;
}

static void engine_plan(kvern_engine *e)
{
    size_t n_waiting = e->scheduler.waiting.n;

    e->scheduler.prefill_beside_decode =
        pace_prompt_tokens(&e->pace, count_decodes(&e->scheduler.running));
    scheduler_plan(&e->scheduler, &e->plan);
    atomic_fetch_sub(&e->n_waiting, n_waiting - e->scheduler.waiting.n);
    for (size_t i = 0; i < e->plan.n_items; i++)
        request_start(request_of(e->plan.items[i].sequence));
    for (size_t i = 0; i < e->plan.n_copies; i++)
        e->runner->kv_copy(e->runner, e->plan.copies[i].from, e->plan.copies[i].to);
    publish_stats(e);
}

static void mark_long_step(const kvern_engine *e, bool is_running)
{
    for (size_t i = 0; i < e->plan.n_items; i++)
        atomic_store(&request_of(e->plan.items[i].sequence)->is_in_long_step, is_running);
}

/* Cuts the step short if a request in it is cancelled while it runs, or was between the last look
 * and the mark. */
static kvern_status run_step(kvern_engine *e, struct runner_output *output, kvern_error *err)
{
    bool is_long = e->batch.n_tokens >= LONG_STEP_TOKENS && !e->was_interrupted;
    size_t n_decodes = 0;
    size_t n_prompt = 0;
    double begin = clock_ms();

    for (size_t i = 0; i < e->plan.n_items; i++) {
        if (sequence_is_decoding(e->plan.items[i].sequence))
            n_decodes++;
        else
            n_prompt += e->plan.items[i].n_tokens;
    }
    if (is_long)
        mark_long_step(e, true);
    kvern_status status = e->runner->run(e->runner, &e->batch, output, err);
    if (is_long)
        mark_long_step(e, false);
    if (status == KVERN_OK)
        pace_see(&e->pace, n_decodes, n_prompt, clock_ms() - begin);
    return status;
}

static void *engine_loop(void *argument)
{
    kvern_engine *e = argument;

    while (engine_wait(e)) {
        struct runner_output output = {0};
        kvern_error error = {0};

        engine_plan(e);
        batch_fill(&e->batch, &e->plan);
        kvern_status status = run_step(e, &output, &error);
        engine_commit(e, &e->plan, &output, status, &error);
    }
    return NULL;
}

void engine_interrupt(kvern_engine *engine)
{
    if (engine->runner->interrupt)
        engine->runner->interrupt(engine->runner);
}

static size_t or_default(size_t value, size_t fallback)
{
    return value ? value : fallback;
}

/* Everything but the thread. */
static kvern_status make_parts(kvern_engine *e, kvern_error *err)
{
    const struct runner *runner = e->runner;
    size_t n_rows = SCORING_BYTES / (runner->vocab_size * sizeof(float));
    bool has_no_kv = runner->n_kv_blocks == 0;
    struct scheduler_limits limits = {
        .step_tokens = e->limits.step_tokens,
        .max_running = e->limits.max_sequences,
        .max_context = or_default(e->limits.max_context, SIZE_MAX),
        .prefill_chunk = has_no_kv ? e->limits.max_context : e->limits.prefill_chunk,
        .scoring_rows = n_rows ? n_rows : 1,
        .has_fixed_chunks = runner->has_fixed_chunks || has_no_kv,
        .has_no_kv = has_no_kv,
        .counts_blocks = !has_no_kv && !runner->kv_copy,
        .has_no_prefix_cache = e->limits.has_no_prefix_cache,
    };
    kvern_status status =
        scheduler_init(&e->scheduler, &limits, has_no_kv ? 1 : runner->n_kv_blocks, err);

    if (status == KVERN_OK)
        status = plan_init(&e->plan, limits.max_running, err);
    if (status == KVERN_OK)
        status = plan_init(&e->single, 1, err);
    if (status == KVERN_OK)
        status = batch_init(&e->batch, scheduler_max_step_tokens(&e->scheduler), limits.max_running,
                            kv_blocks_for_tokens(e->scheduler.limits.max_context), err);
    if (status == KVERN_OK)
        status = sampler_init(&e->sampler, runner->vocab_size, err);
    return status;
}

static void free_parts(kvern_engine *e)
{
    sampler_clear(&e->sampler);
    batch_clear(&e->batch);
    plan_clear(&e->single);
    plan_clear(&e->plan);
    scheduler_clear(&e->scheduler);
    queue_clear(&e->inbox);
    pthread_mutex_destroy(&e->stats_mutex);
    free(e->stop_ids);
    free(e);
}

kvern_status engine_new(kvern_engine **out, struct runner *runner,
                        const struct engine_limits *limits, const struct text_decoder_maker *maker,
                        struct stop_ids stop, kvern_error *err)
{
    kvern_engine *e = new_or_abort(sizeof *e);
    kvern_status status;

    e->runner = runner;
    e->limits = *limits;
    e->limits.step_tokens = or_default(limits->step_tokens, DEFAULT_STEP_TOKENS);
    e->limits.max_sequences = or_default(limits->max_sequences, DEFAULT_MAX_SEQUENCES);
    e->limits.max_waiting = or_default(limits->max_waiting, DEFAULT_MAX_WAITING);
    if (limits->pooling == KVERN_POOLING_MODEL)
        e->limits.pooling = KVERN_POOLING_LAST;
    if (maker)
        e->maker = *maker;
    pace_init(&e->pace, limits->max_decode_slowdown);
    queue_init(&e->inbox);
    pthread_mutex_init(&e->stats_mutex, NULL);
    e->stop_ids = new_or_abort(stop.n * sizeof *e->stop_ids);
    e->n_stop_ids = stop.n;
    for (size_t i = 0; i < stop.n; i++)
        e->stop_ids[i] = stop.ids[i];

    status = make_parts(e, err);
    if (status == KVERN_OK) {
        e->stats.n_kv_blocks = (int32_t)runner->n_kv_blocks;
        e->stats.kv_bytes = (int64_t)limits->kv_bytes;
        e->stats.max_context = (int32_t)e->scheduler.limits.max_context;
        e->stats.n_threads = limits->n_threads;
        e->stats.isa = limits->isa ? limits->isa : "";
        if (pthread_create(&e->thread, NULL, engine_loop, e) != 0)
            status = fail(err, KVERN_RUNTIME, "the engine's thread could not be started");
    }
    if (status != KVERN_OK) {
        free_parts(e);
        return status;
    }
    *out = e;
    return KVERN_OK;
}

void kvern_engine_options_init(kvern_engine_options *options)
{
    *options = (kvern_engine_options){.kv_type = "f16"};
}

void kvern_engine_close(kvern_engine *engine)
{
    struct runner *runner;

    if (!engine)
        return;
    queue_close(&engine->inbox);
    pthread_join(engine->thread, NULL);
    runner = engine->runner;
    free_parts(engine); /* the KV that is kept may be the runner's */
    runner->free(runner);
}

void kvern_engine_get_stats(kvern_engine *engine, kvern_engine_stats *stats)
{
    pthread_mutex_lock(&engine->stats_mutex);
    *stats = engine->stats;
    pthread_mutex_unlock(&engine->stats_mutex);
    stats->n_waiting = (int32_t)atomic_load(&engine->n_waiting);
}

/* max_tokens, or what is left of the context: one token even after a prompt that fills it. An
 * embedding counts as a prompt whose one generated token is never chosen. */
static size_t tokens_to_generate(const kvern_engine *engine, const kvern_request_options *options)
{
    size_t max_context = engine->scheduler.limits.max_context;

    if (options->embed)
        return 1;
    if (options->max_tokens > 0)
        return (size_t)options->max_tokens;
    if (options->window > 0)
        return max_context;
    return options->n_prompt < max_context ? max_context - options->n_prompt : 1;
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
        requests[i]->sequence.window = *window;
        requests[i]->sequence.root = cache_root(engine, options->cache_key);
        if (i > 0) {
            requests[i]->sequence.leader = &requests[0]->sequence;
            requests[i - 1]->next_sample = requests[i];
        }
        own.sampling.seed++;
    }
    return KVERN_OK;
}

kvern_status kvern_submit_samples(kvern_engine *engine, const kvern_request_options *options,
                                  size_t n, kvern_request **requests, kvern_error *err)
{
    size_t max_tokens = tokens_to_generate(engine, options);
    struct sequence_window window;
    kvern_status status = check_options(engine, options, err);

    if (n < 1 || n > MOST_SAMPLES)
        return fail(err, KVERN_INVALID, "%zu answers to one prompt; it can be 1 to %d", n,
                    MOST_SAMPLES);
    if (status == KVERN_OK && n > 1 && options->conversation != 0)
        status = fail(err, KVERN_INVALID,
                      "%zu answers to one prompt cannot go on in one conversation", n);
    if (status == KVERN_OK)
        status = set_window(engine, options, &window, err);
    if (status == KVERN_OK)
        status = scheduler_accepts(&engine->scheduler, options->n_prompt, max_tokens, &window, err);
    if (status != KVERN_OK)
        return status;
    if (!take_places(engine, n))
        return fail(err, KVERN_BUSY, "%zu requests are waiting, which is the most allowed",
                    engine->limits.max_waiting);
    status = make_requests(engine, options, &window, max_tokens, n, requests, err);
    if (status != KVERN_OK) {
        atomic_fetch_sub(&engine->n_waiting, n);
        return status;
    }
    requests[0]->item.take = take_request;
    queue_push(&engine->inbox, &requests[0]->item.item);
    return KVERN_OK;
}

kvern_status kvern_submit(kvern_engine *engine, const kvern_request_options *options,
                          kvern_request **out, kvern_error *err)
{
    return kvern_submit_samples(engine, options, 1, out, err);
}
