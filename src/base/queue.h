/* SPDX-License-Identifier: Apache-2.0
 *
 * A first-in first-out queue between threads: a mutex, a condition and an intrusive list. Items
 * belong to whoever holds them; the queue owns none and allocates nothing, so a push cannot fail.
 */
#ifndef KVERN_BASE_QUEUE_H
#define KVERN_BASE_QUEUE_H

#include <pthread.h>
#include <stdbool.h>

/* Embedded as the first member of what is queued. */
struct queue_item {
    struct queue_item *next;
};

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t has_changed;
    struct queue_item *first;
    struct queue_item *last;
    bool is_closed;
};

void queue_init(struct queue *queue);
/* No thread may be inside the queue. Items still queued are not touched. */
void queue_clear(struct queue *queue);
/* The pusher does not touch the queue after the popper can see the item's arrival, so the popper
 * of a last item may clear the queue at once. */
void queue_push(struct queue *queue, struct queue_item *item);
/* Waits up to timeout_ms (-1: for ever, 0: not at all). NULL: nothing came, or the queue is closed
 * and empty. */
struct queue_item *queue_pop(struct queue *queue, int timeout_ms);
/* Wakes every waiting popper; from now on nobody waits. */
void queue_close(struct queue *queue);
bool queue_is_closed(struct queue *queue);

/* Milliseconds on a clock that only goes forward. */
double clock_ms(void);

#endif
