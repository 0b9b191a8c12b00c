/* SPDX-License-Identifier: Apache-2.0
 *
 * The queue between threads. Waiting uses the monotonic clock, so setting the machine's time does
 * not stretch a timeout.
 */
#include "base/queue.h"

#include <errno.h>
#include <time.h>

enum { NS_PER_MS = 1000000, MS_PER_S = 1000 };

void queue_init(struct queue *queue)
{
    pthread_condattr_t attributes;

    *queue = (struct queue){0};
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->has_changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void queue_clear(struct queue *queue)
{
    pthread_cond_destroy(&queue->has_changed);
    pthread_mutex_destroy(&queue->mutex);
}

void queue_push(struct queue *queue, struct queue_item *item)
{
    item->next = NULL;
    pthread_mutex_lock(&queue->mutex);
    if (queue->last)
        queue->last->next = item;
    else
        queue->first = item;
    queue->last = item;
    /* inside the lock: after the unlock the popper may clear the queue */
    pthread_cond_signal(&queue->has_changed);
    pthread_mutex_unlock(&queue->mutex);
}

static struct timespec deadline_after(int timeout_ms)
{
    struct timespec deadline;

    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout_ms / MS_PER_S;
    deadline.tv_nsec += (long)(timeout_ms % MS_PER_S) * NS_PER_MS;
    if (deadline.tv_nsec >= (long)MS_PER_S * NS_PER_MS) {
        deadline.tv_sec++;
        deadline.tv_nsec -= (long)MS_PER_S * NS_PER_MS;
    }
    return deadline;
}

struct queue_item *queue_pop(struct queue *queue, int timeout_ms)
{
    struct timespec deadline = deadline_after(timeout_ms > 0 ? timeout_ms : 0);
    int status = timeout_ms == 0 ? ETIMEDOUT : 0;

    pthread_mutex_lock(&queue->mutex);
    while (!queue->first && !queue->is_closed && status == 0) {
        if (timeout_ms < 0)
            status = pthread_cond_wait(&queue->has_changed, &queue->mutex);
        else
            status = pthread_cond_timedwait(&queue->has_changed, &queue->mutex, &deadline);
    }
    struct queue_item *item = queue->first;
    if (item) {
        queue->first = item->next;
        if (!queue->first)
            queue->last = NULL;
    }
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

void queue_close(struct queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->is_closed = true;
    pthread_cond_broadcast(&queue->has_changed);
    pthread_mutex_unlock(&queue->mutex);
}

bool queue_is_closed(struct queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    bool is_closed = queue->is_closed;
    pthread_mutex_unlock(&queue->mutex);
    return is_closed;
}

double clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * MS_PER_S + (double)now.tv_nsec / NS_PER_MS;
}
