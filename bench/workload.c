/* SPDX-License-Identifier: Apache-2.0
 *
 * Many requests at once through the public header: how long until the last one's last token. The
 * part of bench/compare/workload.py that is kvern. Token ids come in, so no text is tokenised;
 * greedy, end tokens ignored.
 *
 *   build/bench_workload MODEL FILE [step_tokens] [max_sequences]
 *
 * Each line of FILE is a request: how many tokens it generates, then its prompt's ids. A line "run"
 * submits the requests before it all at once and prints {"seconds": ...} when they have ended.
 */
#include "groups.h"
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>

enum { N_THREADS = 2 };

/* A line is how many tokens to generate, then the prompt. */
static kvern_request *submit(kvern_engine *engine, const struct id_line *line)
{
    kvern_request *request = NULL;
    kvern_request_options options;
    kvern_error err = {0};

    kvern_request_options_init(&options);
    options.prompt = line->ids + 1;
    options.n_prompt = line->n - 1;
    options.max_tokens = line->ids[0];
    options.ignore_eos = true;
    check(kvern_submit(engine, &options, &request, &err), &err);
    return request;
}

static void wait_for(kvern_request *request, int32_t n_out)
{
    kvern_event event = {0};
    kvern_error err = {0};

    while (event.finish == KVERN_FINISH_NONE)
        check(kvern_request_next(request, -1, &event, &err), &err);
    if (event.n_completion_tokens != (size_t)n_out) {
        fprintf(stderr, "bench_workload: %zu tokens came where %d were asked for (%s)\n",
                event.n_completion_tokens, n_out, event.error.message);
        exit(1);
    }
}

static void run(const struct id_line *lines, size_t n_lines, void *data)
{
    kvern_request **requests = allocate(n_lines, sizeof(void *));
    double start = now_ms();

    for (size_t i = 0; i < n_lines; i++)
        requests[i] = submit(data, &lines[i]);
    for (size_t i = 0; i < n_lines; i++)
        wait_for(requests[i], lines[i].ids[0]);
    printf("{\"seconds\": %.4f}\n", (now_ms() - start) / 1e3);
    for (size_t i = 0; i < n_lines; i++)
        kvern_request_free(requests[i]);
    free(requests);
}

int main(int argc, char **argv)
{
    kvern_engine_options options;
    kvern_engine *engine = NULL;
    kvern_model *model = NULL;
    kvern_error err = {0};

    if (argc < 3) {
        fprintf(stderr, "usage: bench_workload MODEL FILE [step_tokens] [max_sequences]\n");
        return 2;
    }
    check(kvern_model_open(&model, argv[1], &err), &err);
    kvern_engine_options_init(&options);
    options.n_threads = N_THREADS;
    options.step_tokens = argc > 3 ? atoi(argv[3]) : 0;
    options.max_sequences = argc > 4 ? atoi(argv[4]) : 0;
    options.no_prefix_cache = true; /* a round's prompts are those of the round before */
    check(kvern_engine_open(&engine, model, &options, &err), &err);
    groups_run(argv[2], run, engine);
    kvern_engine_close(engine);
    kvern_model_close(model);
    return 0;
}
