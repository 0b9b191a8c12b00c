/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine: one thread that plans, runs and commits steps for all requests. It owns sequences,
 * KV blocks and sampler state; callers reach it through a queue and read their answers from their
 * own. It never sees a file or a socket, and of the model only a runner.
 */
#ifndef KVERN_ENGINE_ENGINE_H
#define KVERN_ENGINE_ENGINE_H

#include "engine/runner.h"
#include "engine/scheduler.h"
#include "engine/text_decoder.h"
#include "kvern.h"

enum {
    DEFAULT_STEP_TOKENS = 512,
    DEFAULT_MAX_SEQUENCES = 64,
    DEFAULT_MAX_WAITING = 512,
};

/* 0 in the first four means the default of kvern_engine_options. */
struct engine_limits {
    size_t step_tokens;
    size_t max_sequences;
    size_t max_waiting;
    size_t max_context;   /* positions of one sequence; 0: what the KV blocks hold */
    size_t max_source;    /* of a seq2seq model: tokens of a source, and of an answer */
    size_t prefill_chunk; /* most prompt tokens of a sequence in one step; 0: step_tokens */
    bool checks_blocks;   /* verify the block tables after every step (tests) */
    size_t kv_bytes;      /* of all KV blocks; told by kvern_engine_get_stats, like these: */
    int32_t n_threads;
    const char *isa;  /* static */
    char kv_kind[64]; /* see engine_kv_kind() */
    bool has_no_prefix_cache;
    size_t prefix_cache_tokens; /* 0: as many as there are blocks for */
    double max_decode_slowdown; /* 0: no bound */
    kvern_pooling pooling;      /* what KVERN_POOLING_MODEL stands for; MODEL itself: last */
};

/* What ends an answer unless it ignores that. */
struct stop_ids {
    const int32_t *ids; /* [n] */
    size_t n;
};

/* What a call sees of the engine, between two steps. */
struct engine_parts {
    struct scheduler *scheduler;
    struct runner *runner;
};

/* Runs fn on the engine's thread, between two steps, and waits for it. The engine must not be
 * closed before it returns. */
kvern_status engine_call(kvern_engine *engine,
                         kvern_status (*fn)(const struct engine_parts *parts, void *data,
                                            kvern_error *err),
                         void *data, kvern_error *err);

/* The kernels, the KV's type and shape: KV bytes of one engine mean the same to another with the
 * same text. Static for the engine's life. */
const char *engine_kv_kind(const kvern_engine *engine);
/* What KVERN_POOLING_MODEL stands for. */
kvern_pooling engine_pooling(const kvern_engine *engine);
/* KVERN_UNSUPPORTED: no window can slide over this model's KV; the message says why. */
kvern_status engine_check_sliding(const kvern_engine *engine, kvern_error *err);

/* Ends a request that is marked as cancelled: at once, if it is not in the step that runs. A long
 * step is interrupted: nothing of it counts, and what is left of it is planned again. Any thread.
 */
void engine_cancel(kvern_engine *engine, kvern_request *request);
/* Keeps as much of the engine as engine_cancel() needs until engine_release(), closed or not. */
void engine_hold(kvern_engine *engine);
void engine_release(kvern_engine *engine);

/* Starts the engine's thread. `runner` is taken over on success only. `maker` is copied (NULL: no
 * text) and what its context points to must outlive the engine; `stop` is copied. */
kvern_status engine_new(kvern_engine **out, struct runner *runner,
                        const struct engine_limits *limits, const struct text_decoder_maker *maker,
                        struct stop_ids stop, kvern_error *err);

#endif
