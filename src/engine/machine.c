/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern_measure_machine: limits of the machine, measured with all threads at once because cores
 * share memory and clocks.
 */
#include "base/error.h"
#include "base/memory.h"
#include "ops/kernels/kernels.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_THREADS = 256,
    READ_BYTES = 64 << 20, /* per thread: far over any cache */
    N_MEASUREMENTS = 5,
};

enum measure { MEASURE_READ, MEASURE_INT8, MEASURE_F32 };

struct worker {
    pthread_t thread;
    enum measure measure;
    const struct peak_kernels *peak;
    atomic_int *n_ready; /* threads that run */
    atomic_bool *may_start;
    uint64_t *memory; /* [READ_BYTES / 8] */
    double seconds;
    double amount; /* bytes or operations */
    uint64_t sum;
};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void *work(void *data)
{
    enum { ROUNDS = 10000000 };
    struct worker *worker = data;

    atomic_fetch_add(worker->n_ready, 1);
    while (!atomic_load(worker->may_start))
        ;
    double begin = now();
    switch (worker->measure) {
    case MEASURE_READ: {
        uint64_t sums[8] = {0};

        for (size_t i = 0; i < READ_BYTES / 8; i += 8) {
            for (size_t j = 0; j < 8; j++)
                sums[j] += worker->memory[i + j];
        }
        for (size_t j = 0; j < 8; j++)
            worker->sum += sums[j];
        worker->amount = READ_BYTES;
        break;
    }
    case MEASURE_INT8:
        worker->amount = worker->peak->int8_operations(ROUNDS);
        break;
    case MEASURE_F32:
        worker->amount = worker->peak->f32_operations(ROUNDS);
        break;
    }
    worker->seconds = now() - begin;
    return NULL;
}

/* Amount per second of all threads together. A thread that cannot be started is left out. */
static double measure_once(enum measure measure, struct worker *workers, int n_threads,
                           const struct peak_kernels *peak)
{
    atomic_int n_ready = 0;
    atomic_bool may_start = false;
    double amount = 0;
    double seconds = 0;
    int n_started = 1; /* worker 0 is this thread */

    for (int i = 0; i < n_threads; i++) {
        workers[i].measure = measure;
        workers[i].peak = peak;
        workers[i].n_ready = &n_ready;
        workers[i].may_start = &may_start;
    }
    while (n_started < n_threads &&
           pthread_create(&workers[n_started].thread, NULL, work, &workers[n_started]) == 0)
        n_started++;
    while (atomic_load(&n_ready) < n_started - 1)
        sched_yield();
    atomic_store(&may_start, true);
    work(&workers[0]);
    for (int i = 0; i < n_started; i++) {
        if (i > 0)
            pthread_join(workers[i].thread, NULL);
        amount += workers[i].amount;
        if (workers[i].seconds > seconds)
            seconds = workers[i].seconds;
    }
    return amount / seconds;
}

/* The best of a few: a limit is what the machine can do when nothing else disturbs it. */
static double measure_best(enum measure measure, struct worker *workers, int n_threads,
                           const struct peak_kernels *peak)
{
    double best = 0;

    for (int i = 0; i < N_MEASUREMENTS; i++) {
        double rate = measure_once(measure, workers, n_threads, peak);

        if (rate > best)
            best = rate;
    }
    return best;
}

kvern_status kvern_measure_machine(int32_t n_threads, kvern_machine_limits *limits,
                                   kvern_error *err)
{
    static struct worker empty;
    const struct kernels *kernels = kernels_get();
    kvern_status status = KVERN_OK;

    if (n_threads <= 0)
        n_threads = kvern_default_threads();
    if (n_threads > MAX_THREADS)
        return fail(err, KVERN_INVALID, "n_threads is %d, over %d", n_threads, MAX_THREADS);
    if (!kernels)
        return fail(err, KVERN_INVALID, "KVERN_ISA=%s is not an instruction set of this machine",
                    getenv("KVERN_ISA"));

    struct worker *workers = new_or_abort((size_t)n_threads * sizeof *workers);
    for (int i = 0; status == KVERN_OK && i < n_threads; i++) {
        workers[i] = empty;
        workers[i].memory = malloc(READ_BYTES);
        if (workers[i].memory)
            memset(workers[i].memory, i + 1, READ_BYTES);
        else
            status = fail(err, KVERN_MEMORY, "out of memory for measuring the machine");
    }
    if (status == KVERN_OK) {
        limits->read_gb_s = measure_best(MEASURE_READ, workers, n_threads, kernels->peak) / 1e9;
        limits->int8_gop_s = measure_best(MEASURE_INT8, workers, n_threads, kernels->peak) / 1e9;
        limits->f32_gflop_s = measure_best(MEASURE_F32, workers, n_threads, kernels->peak) / 1e9;
    }
    for (int i = 0; i < n_threads; i++)
        free(workers[i].memory);
    free(workers);
    return status;
}
