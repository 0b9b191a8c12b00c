/* SPDX-License-Identifier: Apache-2.0
 *
 * What callers put into an engine's inbox: requests, and calls that need the engine's thread.
 */
#ifndef KVERN_ENGINE_INBOX_H
#define KVERN_ENGINE_INBOX_H

#include "base/queue.h"
#include "kvern.h"

struct inbox_item {
    struct queue_item item; /* first */
    /* On the engine's thread, between two steps. */
    void (*take)(kvern_engine *engine, struct inbox_item *self);
};

#endif
