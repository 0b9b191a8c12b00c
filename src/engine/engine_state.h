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

#endif
