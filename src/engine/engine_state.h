/* SPDX-License-Identifier: Apache-2.0
 *
 * struct kvern_engine: what engine.c (the thread) and engine_submit.c (its callers) share.
 */
#ifndef KVERN_ENGINE_ENGINE_STATE_H
#define KVERN_ENGINE_ENGINE_STATE_H

#include "base/queue.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/pace.h"
#include "engine/plan.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"

#include <pthread.h>
#include <stdatomic.h>

struct kvern_engine {
    struct runner *runner; /* owned */
    struct engine_limits limits;
    struct text_decoder_maker maker; /* .make may be NULL */
    int32_t *stop_ids;               /* [n_stop_ids], owned */
    size_t n_stop_ids;
    atomic_size_t n_waiting; /* submitted and not yet admitted */
    atomic_size_t n_holders; /* requests, and its owner until it is closed */
    atomic_size_t n_callers; /* that want the mutex, or have it */
    pthread_mutex_t mutex;
    pthread_cond_t has_work; /* a caller has left something, or just left */
    pthread_mutex_t stats_mutex;
    kvern_engine_stats stats; /* under stats_mutex */
    /* under the mutex */
    struct queue calls;
    bool is_closing;
    bool is_in_long_step; /* worth interrupting */
    struct scheduler scheduler;
    struct plan plan; /* of the step that runs; empty between two */
    /* the thread's own */
    struct plan single; /* one item of a failed plan, run again alone */
    struct batch batch;
    struct sampler sampler;
    struct pace pace;
    bool was_interrupted; /* the last step */
    pthread_t thread;
};

/* For callers; the engine's own thread, in a callback, has it already. */
void engine_lock(kvern_engine *engine);
/* Wakes the engine's thread. */
void engine_unlock(kvern_engine *engine);

#endif
