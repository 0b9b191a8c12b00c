/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/queue.h"

#include <pthread.h>
#include <stdlib.h>

enum { N_PRODUCERS = 4, N_EACH = 2000 };

struct numbered {
    struct queue_item item; /* first */
    int producer;
    int number;
};

struct producer {
    pthread_t thread;
    struct queue *queue;
    int index;
};

static void *produce(void *data)
{
    struct producer *producer = data;

    for (int i = 0; i < N_EACH; i++) {
        struct numbered *numbered = calloc(1, sizeof *numbered);

        numbered->producer = producer->index;
        numbered->number = i;
        queue_push(producer->queue, &numbered->item);
    }
    return NULL;
}

static void each_producer_keeps_its_order(void **state)
{
    struct queue queue;
    struct producer producers[N_PRODUCERS];
    int next[N_PRODUCERS] = {0};

    (void)state;
    queue_init(&queue);
    for (int i = 0; i < N_PRODUCERS; i++) {
        producers[i] = (struct producer){.queue = &queue, .index = i};
        assert_int_equal(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
    }
    for (int i = 0; i < N_PRODUCERS * N_EACH; i++) {
        struct numbered *numbered = (struct numbered *)queue_pop(&queue, -1);

        assert_non_null(numbered);
        assert_int_equal(numbered->number, next[numbered->producer]);
        next[numbered->producer]++;
        free(numbered);
    }
    for (int i = 0; i < N_PRODUCERS; i++)
        pthread_join(producers[i].thread, NULL);
    assert_null(queue_pop(&queue, 0));
    queue_clear(&queue);
}

static void waiting_ends_by_time_and_by_close(void **state)
{
    struct queue queue;

    (void)state;
    queue_init(&queue);
    assert_null(queue_pop(&queue, 20));
    assert_false(queue_is_closed(&queue));
    queue_close(&queue);
    assert_true(queue_is_closed(&queue));
    assert_null(queue_pop(&queue, -1)); /* would wait for ever on an open one */
    queue_clear(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_producer_keeps_its_order),
        cmocka_unit_test(waiting_ends_by_time_and_by_close),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
