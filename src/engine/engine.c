/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's thread and what callers may do to it. A step is a transaction: sequences advance in
 * engine_commit() only, after the runner succeeded, so a failed step leaves them as they were. The
 * thread holds the engine's mutex but while a step runs or there is nothing to do: callers add and
 * take out requests meanwhile. What is in the step that runs is not theirs to take out: a cancel
 * cuts a long step short; the next one then is a short one and runs to its end, so that others go
 * on whatever is cancelled.
 */
#include "engine/engine_state.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/beam_group.h"
#include "engine/request.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    SCORING_BYTES = 64 << 20, /* logits of one step for those that want every row */
    LONG_STEP_TOKENS = 32,    /* from so many on a step is worth interrupting */
    SHORT_STEP_TOKENS = 64,   /* of prompts, after an interrupted step */
};

static bool is_own_thread(const kvern_engine *e)
{
    return pthread_equal(pthread_self(), e->thread);
}

void engine_lock(kvern_engine *engine)
{
    if (is_own_thread(engine))
        return;
    atomic_fetch_add(&engine->n_callers, 1);
    pthread_mutex_lock(&engine->mutex);
}

void engine_unlock(kvern_engine *engine)
{
    if (is_own_thread(engine))
        return;
    atomic_fetch_sub(&engine->n_callers, 1);
    pthread_cond_signal(&engine->has_work);
    pthread_mutex_unlock(&engine->mutex);
}

/* Steps of a small model are over before a caller that waits for the mutex has woken up. */
static void let_callers_in(kvern_engine *e)
{
    if (atomic_load(&e->n_callers) > 0)
        pthread_cond_wait(&e->has_work, &e->mutex);
}

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

/* Out of the scheduler; its blocks are free, or kept. */
static void take_out(kvern_engine *e, struct sequence *sequence, kvern_finish how)
{
    if (sequence->state == SEQUENCE_WAITING)
        atomic_fetch_sub(&e->n_waiting, 1);
    if (how == KVERN_FINISH_ERROR)
        scheduler_remove(&e->scheduler, sequence);
    else
        scheduler_retire(&e->scheduler, sequence);
}

/* Ends a search: with its answers, if `how` is KVERN_FINISH_STOP. */
static void finish_beams(kvern_engine *e, struct beam_group *group, kvern_finish how,
                         const kvern_error *error)
{
    kvern_request *requests[MAX_BEAMS];
    kvern_finish finishes[MAX_BEAMS];
    kvern_error copy = error ? *error : (kvern_error){0};
    size_t n_answers = group->n_answers;

    if (how == KVERN_FINISH_STOP && beam_group_answer(group, finishes, &copy) != KVERN_OK)
        how = KVERN_FINISH_ERROR;
    for (size_t i = 0; i < group->n_members; i++) {
        kvern_request *request = group->members[i];

        take_out(e, &request->sequence, how);
        request->beams = NULL;
        requests[i] = request;
        if (how == KVERN_FINISH_STOP)
            continue;
        finishes[i] = how;
        request->sequence.n_tokens = request->sequence.n_prompt; /* nothing of it was delivered */
    }
    beam_group_free(group);
    publish_stats(e);
    for (size_t i = 0; i < n_answers; i++)
        request_finish(requests[i], finishes[i], how == KVERN_FINISH_ERROR ? &copy : NULL);
}

/* The reader may look at the stats, or free the request, as soon as it has the final delivery. All
 * of a search end with the first of it. */
static void finish(kvern_engine *e, struct sequence *sequence, kvern_finish how,
                   const kvern_error *error)
{
    kvern_request *request = request_of(sequence);

    if (request->beams) {
        finish_beams(e, request->beams, how, error);
        return;
    }
    take_out(e, sequence, how);
    publish_stats(e);
    request_finish(request, how, error);
}

/* In a step, others of its search may come after it: they end before the next one. */
static void finish_failed(kvern_engine *e, struct sequence *sequence, const kvern_error *error)
{
    kvern_request *request = request_of(sequence);

    if (request->beams)
        beam_group_fail(request->beams, error);
    else
        finish(e, sequence, KVERN_FINISH_ERROR, error);
}

/* Ends the sequence if it is time. */
static bool drop(kvern_engine *e, struct sequence *sequence, bool all)
{
    kvern_request *request = request_of(sequence);

    if (all || atomic_load(&request->is_cancelled))
        finish(e, sequence, KVERN_FINISH_CANCELLED, NULL);
    else if (request->beams && request->beams->has_failed)
        finish(e, sequence, KVERN_FINISH_ERROR, &request->beams->error);
    else if (request->deadline_ms > 0 && clock_ms() >= request->deadline_ms)
        finish(e, sequence, KVERN_FINISH_TIMEOUT, NULL);
    else
        return false;
    return true;
}

static void drop_cancelled(kvern_engine *e, struct sequence_list *list, bool all)
{
    struct sequence *sequence = list->first;

    while (sequence) /* others may have gone with one that was dropped */
        sequence = drop(e, sequence, all) ? list->first : sequence->next;
}

static bool is_idle(const kvern_engine *e)
{
    return e->scheduler.waiting.n == 0 && e->scheduler.running.n == 0;
}

struct call {
    struct queue_item item; /* first */
    kvern_status (*fn)(const struct engine_parts *parts, void *data, kvern_error *err);
    void *data;
    kvern_error *err;
    kvern_status status;
    struct queue_item answer;
    struct queue answers; /* `answer` comes here when it is done */
};

static void run_calls(kvern_engine *e)
{
    const struct engine_parts parts = {.scheduler = &e->scheduler, .runner = e->runner};
    struct call *call;

    while ((call = (struct call *)queue_pop(&e->calls, 0))) {
        call->status = call->fn(&parts, call->data, call->err);
        publish_stats(e);
        queue_push(&call->answers, &call->answer);
    }
}

kvern_status engine_call(kvern_engine *engine,
                         kvern_status (*fn)(const struct engine_parts *parts, void *data,
                                            kvern_error *err),
                         void *data, kvern_error *err)
{
    struct call call = {.fn = fn, .data = data, .err = err};

    queue_init(&call.answers);
    engine_lock(engine);
    queue_push(&engine->calls, &call.item);
    engine_unlock(engine);
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

/* Drops what was cancelled or ran out of time; sleeps until there is something to run. false: the
 * engine is being closed and holds no request any more. */
static bool engine_wait(kvern_engine *e)
{
    let_callers_in(e);
    for (;;) {
        run_calls(e);
        drop_cancelled(e, &e->scheduler.waiting, e->is_closing);
        drop_cancelled(e, &e->scheduler.running, e->is_closing);
        if (!is_idle(e))
            return true;
        if (e->is_closing)
            return false;
        pthread_cond_wait(&e->has_work, &e->mutex);
    }
}

static void count_step(kvern_engine *e, const struct plan *plan)
{
    struct plan_tokens tokens = plan_count(plan);

    pthread_mutex_lock(&e->stats_mutex);
    e->stats.n_steps++;
    e->stats.n_decode_tokens += (int64_t)tokens.n_decoded;
    e->stats.n_prefill_tokens += (int64_t)tokens.n_prompt;
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
    if (status == KVERN_OK && request->beams) {
        if (beam_group_see(request->beams, &e->scheduler, &e->sampler, request,
                           rows + (item->n_rows - 1) * row_size))
            finish(e, sequence, KVERN_FINISH_STOP, NULL);
        return;
    }
    if (status == KVERN_OK)
        status = request_pick(request, &e->sampler, rows + (item->n_rows - 1) * row_size, &token,
                              &error);
    if (status != KVERN_OK) {
        finish_failed(e, sequence, &error);
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

/* Callers may add requests meanwhile, and take out those that are not in e->plan. */
static kvern_status run_batch(kvern_engine *e, struct runner_output *output, kvern_error *err)
{
    kvern_status status;

    pthread_mutex_unlock(&e->mutex);
    status = e->runner->run(e->runner, &e->batch, output, err);
    pthread_mutex_lock(&e->mutex);
    return status;
}

/* A failed step is run again one sequence at a time, so that only the guilty one is lost. Who has
 * had its turn leaves e->plan: it may be over, and freed while the next one runs. */
static void run_one_by_one(kvern_engine *e)
{
    struct plan *plan = &e->plan;

    while (plan->n_items > 0) {
        struct runner_output output = {0};
        kvern_error error = {0};

        e->single.items[0] = plan->items[0];
        e->single.n_items = 1;
        batch_fill(&e->batch, &e->single);
        kvern_status status = run_batch(e, &output, &error);
        if (status == KVERN_OK)
            commit_plan(e, &e->single, &output);
        else if (status != KVERN_CANCELLED)
            finish_failed(e, plan->items[0].sequence, &error);
        plan->n_items--;
        memmove(plan->items, plan->items + 1, plan->n_items * sizeof *plan->items);
    }
}

/* Samples, delivers tokens and text, drops what has finished or failed. */
static void engine_commit(kvern_engine *e, const struct runner_output *output, kvern_status status,
                          const kvern_error *error)
{
    const struct plan *plan = &e->plan;

    e->was_interrupted = status == KVERN_CANCELLED;
    if (status == KVERN_OK)
        commit_plan(e, plan, output);
    else if (status == KVERN_CANCELLED)
        ; /* whatever was cancelled goes before the next plan */
    else if (plan->n_items == 1)
        finish(e, plan->items[0].sequence, KVERN_FINISH_ERROR, error);
    else
        run_one_by_one(e);
    e->plan.n_items = 0;
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
    e->scheduler.most_prefill = e->was_interrupted ? SHORT_STEP_TOKENS : SIZE_MAX;
    scheduler_plan(&e->scheduler, &e->plan);
    atomic_fetch_sub(&e->n_waiting, n_waiting - e->scheduler.waiting.n);
    for (size_t i = 0; i < e->plan.n_items; i++)
        request_start(request_of(e->plan.items[i].sequence));
    for (size_t i = 0; i < e->plan.n_copies; i++)
        e->runner->kv_copy(e->runner, e->plan.copies[i].from, e->plan.copies[i].to);
    publish_stats(e);
}

static kvern_status run_step(kvern_engine *e, struct runner_output *output, kvern_error *err)
{
    struct plan_tokens tokens = plan_count(&e->plan);
    double begin = clock_ms();

    e->is_in_long_step =
        e->batch.n_tokens + e->batch.n_source_tokens >= LONG_STEP_TOKENS && !e->was_interrupted;
    kvern_status status = run_batch(e, output, err);
    e->is_in_long_step = false;
    if (status == KVERN_OK)
        pace_see(&e->pace, tokens.n_decoded, tokens.n_prompt, clock_ms() - begin);
    return status;
}

static void *engine_loop(void *argument)
{
    kvern_engine *e = argument;

    pthread_mutex_lock(&e->mutex);
    while (engine_wait(e)) {
        struct runner_output output = {0};
        kvern_error error = {0};

        engine_plan(e);
        batch_fill(&e->batch, &e->plan);
        kvern_status status = run_step(e, &output, &error);
        engine_commit(e, &output, status, &error);
    }
    pthread_mutex_unlock(&e->mutex);
    return NULL;
}

/* It, or another one of its search. */
static bool is_in_step(const kvern_engine *e, const kvern_request *request)
{
    for (size_t i = 0; i < e->plan.n_items; i++) {
        struct sequence *sequence = e->plan.items[i].sequence;

        if (sequence == &request->sequence ||
            (request->beams && request_of(sequence)->beams == request->beams))
            return true;
    }
    return false;
}

void engine_cancel(kvern_engine *engine, kvern_request *request)
{
    struct sequence *sequence = &request->sequence;

    if (is_own_thread(engine)) /* a callback, amid a commit: it leaves before the next step */
        return;
    engine_lock(engine);
    if (sequence->state == SEQUENCE_NEW)
        ; /* it has ended */
    else if (!is_in_step(engine, request))
        finish(engine, sequence, KVERN_FINISH_CANCELLED, NULL);
    else if (engine->is_in_long_step && engine->runner->interrupt)
        engine->runner->interrupt(engine->runner);
    engine_unlock(engine);
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
        .max_source =
            runner->is_seq2seq ? kv_blocks_for_tokens(e->limits.max_source) * KV_BLOCK_TOKENS : 0,
        .has_fixed_chunks = runner->has_fixed_chunks || has_no_kv,
        .has_no_kv = has_no_kv,
        .counts_blocks = !has_no_kv && !runner->kv_copy,
        .has_no_prefix_cache = e->limits.has_no_prefix_cache,
        .prefix_cache_tokens = e->limits.prefix_cache_tokens,
    };
    kvern_status status =
        scheduler_init(&e->scheduler, &limits, has_no_kv ? 1 : runner->n_kv_blocks, err);

    if (status == KVERN_OK)
        status = plan_init(&e->plan, limits.max_running, err);
    if (status == KVERN_OK)
        status = plan_init(&e->single, 1, err);
    if (status == KVERN_OK)
        status = batch_init(&e->batch, scheduler_max_step_tokens(&e->scheduler), limits.max_running,
                            kv_blocks_for_tokens(e->scheduler.limits.max_context),
                            runner->is_seq2seq, err);
    if (status == KVERN_OK)
        status = sampler_init(&e->sampler, runner->vocab_size, err);
    return status;
}

void engine_hold(kvern_engine *engine)
{
    atomic_fetch_add(&engine->n_holders, 1);
}

void engine_release(kvern_engine *engine)
{
    if (atomic_fetch_sub(&engine->n_holders, 1) > 1)
        return;
    pthread_cond_destroy(&engine->has_work);
    pthread_mutex_destroy(&engine->mutex);
    free(engine);
}

/* Everything but the runner. */
static void free_parts(kvern_engine *e)
{
    sampler_clear(&e->sampler);
    batch_clear(&e->batch);
    plan_clear(&e->single);
    plan_clear(&e->plan);
    scheduler_clear(&e->scheduler);
    queue_clear(&e->calls);
    pthread_mutex_destroy(&e->stats_mutex);
    free(e->stop_ids);
    engine_release(e);
}

/* With the mutex, so that the thread knows itself before it begins. */
static kvern_status start_thread(kvern_engine *e, kvern_error *err)
{
    int code;

    pthread_mutex_lock(&e->mutex);
    code = pthread_create(&e->thread, NULL, engine_loop, e);
    pthread_mutex_unlock(&e->mutex);
    return code == 0 ? KVERN_OK
                     : fail(err, KVERN_RUNTIME, "the engine's thread could not be started");
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
    queue_init(&e->calls);
    pthread_mutex_init(&e->stats_mutex, NULL);
    pthread_mutex_init(&e->mutex, NULL);
    pthread_cond_init(&e->has_work, NULL);
    atomic_init(&e->n_holders, 1);
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
        status = start_thread(e, err);
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
    engine_lock(engine);
    engine->is_closing = true;
    engine_unlock(engine);
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
