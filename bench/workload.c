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
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REQUESTS = 512, N_THREADS = 2 };

struct request_line {
    int32_t n_out;
    int32_t *ids; /* [n_ids], owned */
    size_t n_ids;
};

/* Takes numbers apart; the line has at least one id. */
static struct request_line parse_line(char *line)
{
    struct request_line request = {.n_out = (int32_t)strtol(line, &line, 10)};
    size_t n_bytes = strlen(line);

    request.ids = allocate(n_bytes, sizeof *request.ids); /* an id has at least a byte */
    for (char *end = line;; line = end) {
        long id = strtol(line, &end, 10);

        if (end == line)
            break;
        request.ids[request.n_ids++] = (int32_t)id;
    }
    return request;
}

static kvern_request *submit(kvern_engine *engine, const struct request_line *line)
{
    kvern_request *request = NULL;
    kvern_request_options options;
    kvern_error err = {0};

    kvern_request_options_init(&options);
    options.prompt = line->ids;
    options.n_prompt = line->n_ids;
    options.max_tokens = line->n_out;
    options.ignore_eos = true;
    check(kvern_submit(engine, &options, &request, &err), &err);
    return request;
}

static void wait_for(kvern_request *request, const struct request_line *line)
{
    kvern_event event = {0};
    kvern_error err = {0};

    while (event.finish == KVERN_FINISH_NONE)
        check(kvern_request_next(request, -1, &event, &err), &err);
    if (event.n_completion_tokens != (size_t)line->n_out) {
        fprintf(stderr, "bench_workload: %zu tokens came where %d were asked for (%s)\n",
                event.n_completion_tokens, line->n_out, event.error.message);
        exit(1);
    }
}

static void run(kvern_engine *engine, struct request_line *lines, size_t n_lines)
{
    kvern_request *requests[MAX_REQUESTS];
    double start = now_ms();

    for (size_t i = 0; i < n_lines; i++)
        requests[i] = submit(engine, &lines[i]);
    for (size_t i = 0; i < n_lines; i++)
        wait_for(requests[i], &lines[i]);
    printf("{\"seconds\": %.4f}\n", (now_ms() - start) / 1e3);
    for (size_t i = 0; i < n_lines; i++) {
        kvern_request_free(requests[i]);
        free(lines[i].ids);
    }
}

static void run_file(kvern_engine *engine, const char *path)
{
    struct request_line lines[MAX_REQUESTS];
    FILE *stream = fopen(path, "re");
    size_t n_lines = 0, capacity = 0;
    char *line = NULL;

    if (!stream) {
        perror(path);
        exit(1);
    }
    while (getline(&line, &capacity, stream) > 0) {
        if (strcmp(line, "run\n") == 0) {
            run(engine, lines, n_lines);
            n_lines = 0;
        } else if (n_lines == MAX_REQUESTS) {
            fprintf(stderr, "bench_workload: over %d requests at once\n", MAX_REQUESTS);
            exit(1);
        } else {
            lines[n_lines++] = parse_line(line);
        }
    }
    free(line);
    fclose(stream);
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
    run_file(engine, argv[2]);
    kvern_engine_close(engine);
    kvern_model_close(model);
    return 0;
}
