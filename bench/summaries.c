/* SPDX-License-Identifier: Apache-2.0
 *
 * Chunks of code through an encoder-decoder, so many in flight, through the public header: the part
 * of bench/compare/summaries.py that is kvern, whose docstring says what comes in and goes out.
 *
 *   build/bench_summaries MODEL FILE [IN_FLIGHT [N_OUT]]
 */
#include "groups.h"
#include "measure.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_THREADS = 2, MAX_IN_FLIGHT = 256, MAX_OUT = 512, POLL_MS = 1 };

struct bench {
    kvern_engine *engine;
    size_t n_in_flight;
    int32_t n_out;
};

struct chunk {
    kvern_request *request; /* NULL: not submitted, or done */
    double submitted_ms, taken_ms;
    int32_t answer[MAX_OUT];
    size_t n_answer;
};

static void submit(const struct bench *bench, const struct id_line *line, struct chunk *chunk)
{
    kvern_request_options options;
    kvern_error err = {0};

    kvern_request_options_init(&options);
    options.prompt = line->ids;
    options.n_prompt = line->n;
    options.max_tokens = bench->n_out;
    options.ignore_eos = true;
    chunk->submitted_ms = now_ms();
    check(kvern_submit(bench->engine, &options, &chunk->request, &err), &err);
}

/* true: the chunk is done. */
static bool take_event(struct chunk *chunk, int timeout_ms)
{
    kvern_event event;
    kvern_error err = {0};
    kvern_status status = kvern_request_next(chunk->request, timeout_ms, &event, &err);

    if (status == KVERN_TIMEOUT)
        return false;
    check(status, &err);
    for (size_t i = 0; i < event.n_tokens && chunk->n_answer < MAX_OUT; i++)
        chunk->answer[chunk->n_answer++] = event.tokens[i];
    if (event.finish == KVERN_FINISH_NONE)
        return false;
    if (event.finish != KVERN_FINISH_LENGTH)
        check(KVERN_RUNTIME, &event.error);
    chunk->taken_ms = now_ms() - chunk->submitted_ms;
    kvern_request_free(chunk->request);
    chunk->request = NULL;
    return true;
}

static void print_result(const struct chunk *chunks, size_t n, double seconds)
{
    printf("{\"seconds\": %.4f, \"peak_rss_mb\": %.1f, \"latencies_ms\": [", seconds,
           memory_mb("VmHWM"));
    for (size_t i = 0; i < n; i++)
        printf("%s%.2f", i ? ", " : "", chunks[i].taken_ms);
    printf("], \"answers\": [");
    for (size_t i = 0; i < n; i++) {
        printf("%s[", i ? ", " : "");
        for (size_t k = 0; k < chunks[i].n_answer; k++)
            printf("%s%d", k ? ", " : "", chunks[i].answer[k]);
        printf("]");
    }
    printf("]}\n");
    fflush(stdout);
}

static void run(const struct id_line *lines, size_t n, void *data)
{
    const struct bench *bench = data;
    struct chunk *chunks = allocate(n, sizeof *chunks);
    size_t n_submitted = 0, n_done = 0;
    double start = now_ms();

    while (n_done < n) {
        size_t oldest = n;

        n_done = 0;
        for (size_t i = 0; i < n_submitted; i++) {
            if (!chunks[i].request || take_event(&chunks[i], 0))
                n_done++;
            else if (oldest == n)
                oldest = i;
        }
        for (; n_submitted < n && n_submitted - n_done < bench->n_in_flight; n_submitted++)
            submit(bench, &lines[n_submitted], &chunks[n_submitted]);
        if (oldest < n)
            take_event(&chunks[oldest], POLL_MS);
    }
    print_result(chunks, n, (now_ms() - start) / 1e3);
    free(chunks);
}

int main(int argc, char **argv)
{
    struct bench bench = {.n_in_flight = argc > 3 ? strtoul(argv[3], NULL, 10) : 20,
                          .n_out = argc > 4 ? atoi(argv[4]) : 32};
    kvern_engine_options options;
    kvern_model *model = NULL;
    kvern_error err = {0};

    if (argc < 3 || bench.n_in_flight < 1 || bench.n_in_flight > MAX_IN_FLIGHT || bench.n_out < 1 ||
        bench.n_out > MAX_OUT) {
        fprintf(stderr, "usage: bench_summaries MODEL FILE [IN_FLIGHT [N_OUT]]\n");
        return 2;
    }
    check(kvern_model_open(&model, argv[1], &err), &err);
    kvern_engine_options_init(&options);
    options.n_threads = N_THREADS;
    check(kvern_engine_open(&bench.engine, model, &options, &err), &err);
    groups_run(argv[2], run, &bench);
    kvern_engine_close(bench.engine);
    kvern_model_close(model);
    return 0;
}
