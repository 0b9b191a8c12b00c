/* SPDX-License-Identifier: Apache-2.0
 *
 * What one request feels of the others, through the public header: the first token of 64 requests
 * with a shared beginning, the gaps of a stream while long prompts prefill beside it, the wait for
 * a cancel, and whether memory grows. Times are the caller's own, from its call to its event.
 *
 *   build/bench_engine_latency MODEL [first_token] [decode] [cancel] [memory]
 *       [--rounds N] [--cancels N] [--prompts N] [--threads N] [--kv-memory MIB] [--json]
 *       [--max-decode-slowdown X]
 *
 * Without a name: all four. decode runs with max_decode_slowdown X (1.5; 0: no bound). A line for
 * each figure as it comes; with --json an object at the end. docs/performance.md says what is
 * measured and why.
 */
#include "measure.h"

#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    N_SHARING = 64, /* requests with one beginning */
    SHARED_TOKENS = 400,
    TAIL_TOKENS = 20,
    STREAM_PROMPT = 128,
    STREAM_ALONE = 200, /* tokens alone, before each long prompt */
    LONG_PROMPT = 4000,
    CANCEL_RUNNING = 8,    /* max_sequences while cancelling */
    CANCEL_IN_FLIGHT = 12, /* so that some are always queued */
    CANCEL_PROMPT = 2000,
    CANCEL_PAUSE_MS = 60,
    MEMORY_GROUP = 100,    /* prompts between two looks at the memory, all in flight at once */
    MEMORY_SKIPPED = 1000, /* the prefix cache fills up to its bound */
};

struct result {
    char key[64]; /* ends in its unit */
    double value;
};

struct bench {
    kvern_model *model;
    kvern_model_info info;
    kvern_engine_options options;
    uint64_t seed;
    size_t n_rounds;
    size_t n_cancels;
    size_t n_prompts;           /* of `memory` */
    double max_decode_slowdown; /* of `decode` */
    bool is_json;
    struct result results[64];
    size_t n_results;
};

static void report(struct bench *b, const char *part, const char *name, double value)
{
    struct result *result = &b->results[b->n_results++];

    snprintf(result->key, sizeof result->key, "%s_%s", part, name);
    result->value = value;
    fprintf(b->is_json ? stderr : stdout, "%-40s %12.2f\n", result->key, value);
    fflush(stdout);
}

static void report_ms(struct bench *b, const char *part, struct samples *samples)
{
    report(b, part, "p50_ms", samples_percentile(samples, 0.5));
    report(b, part, "p95_ms", samples_percentile(samples, 0.95));
}

static void print_json(const struct bench *b)
{
    printf("{\"model\": \"%s\", \"threads\": %d", b->info.name, b->options.n_threads);
    for (size_t i = 0; i < b->n_results; i++)
        printf(", \"%s\": %.3f", b->results[i].key, b->results[i].value);
    printf("}\n");
}

static kvern_request *submit(kvern_engine *engine, const int32_t *tokens, size_t n_tokens,
                             size_t n_out)
{
    kvern_request *request = NULL;
    kvern_request_options options;
    kvern_error err = {0};

    kvern_request_options_init(&options);
    options.prompt = tokens;
    options.n_prompt = n_tokens;
    options.max_tokens = (int32_t)n_out;
    options.ignore_eos = true;
    check(kvern_submit(engine, &options, &request, &err), &err);
    return request;
}

/* A prompt of its own. */
static kvern_request *submit_drawn(struct bench *b, kvern_engine *engine, size_t n_tokens,
                                   size_t n_out)
{
    int32_t *tokens = allocate(n_tokens, sizeof *tokens);
    kvern_request *request;

    draw_tokens(&b->seed, b->info.vocab_size, tokens, n_tokens);
    request = submit(engine, tokens, n_tokens, n_out);
    free(tokens);
    return request;
}

/* The next event, if one comes in time; a request that failed ends the program. */
static bool take_event(kvern_request *request, int timeout_ms, kvern_event *event)
{
    kvern_error err = {0};
    kvern_status status = kvern_request_next(request, timeout_ms, event, &err);

    if (status == KVERN_TIMEOUT)
        return false;
    check(status, &err);
    if (event->finish == KVERN_FINISH_ERROR)
        check(KVERN_RUNTIME, &event->error);
    return true;
}

/* Reads to the end and frees it; gives the time of the first token. */
static double read_all(kvern_request *request)
{
    kvern_event event = {0};
    double first_ms = 0;

    while (event.finish == KVERN_FINISH_NONE) {
        take_event(request, -1, &event);
        if (first_ms == 0 && event.n_tokens > 0)
            first_ms = now_ms();
    }
    kvern_request_free(request);
    return first_ms;
}

/* An engine that has run something before it is measured. */
static kvern_engine *open_engine(struct bench *b, const kvern_engine_options *options)
{
    kvern_engine *engine = NULL;
    kvern_error err = {0};

    check(kvern_engine_open(&engine, b->model, options, &err), &err);
    read_all(submit_drawn(b, engine, 64, 8));
    return engine;
}

/* A thread for each request, as in a server: each sees its token when it comes. */
struct reader {
    pthread_t thread;
    kvern_request *request;
    double submitted_ms;
    double first_ms;
};

static void *read_request(void *data)
{
    struct reader *reader = data;

    reader->first_ms = read_all(reader->request);
    return NULL;
}

/* All at once, behind the same SHARED_TOKENS. */
static void time_first_tokens(struct bench *b, kvern_engine *engine, const int32_t *shared,
                              struct samples *samples)
{
    struct reader readers[N_SHARING];
    int32_t prompt[SHARED_TOKENS + TAIL_TOKENS];

    memcpy(prompt, shared, SHARED_TOKENS * sizeof *prompt);
    for (size_t i = 0; i < N_SHARING; i++) {
        draw_tokens(&b->seed, b->info.vocab_size, prompt + SHARED_TOKENS, TAIL_TOKENS);
        readers[i].submitted_ms = now_ms();
        readers[i].request = submit(engine, prompt, SHARED_TOKENS + TAIL_TOKENS, 16);
    }
    for (size_t i = 0; i < N_SHARING; i++) {
        if (pthread_create(&readers[i].thread, NULL, read_request, &readers[i]) != 0)
            exit(1);
    }
    for (size_t i = 0; i < N_SHARING; i++) {
        pthread_join(readers[i].thread, NULL);
        samples_add(samples, readers[i].first_ms - readers[i].submitted_ms);
    }
}

static void measure_first_token(struct bench *b)
{
    struct samples off = {0}, cold = {0}, warm = {0};
    int32_t shared[SHARED_TOKENS];

    for (size_t round = 0; round < b->n_rounds; round++) {
        for (int is_on = 0; is_on < 2; is_on++) {
            kvern_engine_options options = b->options;
            kvern_engine *engine;

            options.no_prefix_cache = !is_on;
            draw_tokens(&b->seed, b->info.vocab_size, shared, SHARED_TOKENS);
            engine = open_engine(b, &options);
            time_first_tokens(b, engine, shared, is_on ? &cold : &off);
            if (is_on)
                time_first_tokens(b, engine, shared, &warm);
            kvern_engine_close(engine);
        }
    }
    report_ms(b, "first_token_no_cache", &off);
    report_ms(b, "first_token_empty_cache", &cold);
    report_ms(b, "first_token_filled_cache", &warm);
    report(b, "first_token", "empty_cache_share_of_p50",
           samples_percentile(&cold, 0.5) / samples_percentile(&off, 0.5));
    report(b, "first_token", "filled_cache_share_of_p50",
           samples_percentile(&warm, 0.5) / samples_percentile(&off, 0.5));
    samples_clear(&off);
    samples_clear(&cold);
    samples_clear(&warm);
}

/* A stream that is read all the time, and at most one long prompt beside it. */
struct stream {
    kvern_request *request;
    double last_ms; /* of its latest token; 0: none yet */
};

/* Waits for its next token; false if that is its first, or the stream ended and began anew. */
static bool next_gap(struct bench *b, kvern_engine *engine, struct stream *stream, double *gap_ms)
{
    kvern_event event;
    double before_ms = stream->last_ms;

    take_event(stream->request, -1, &event);
    stream->last_ms = now_ms();
    if (event.finish != KVERN_FINISH_NONE) {
        kvern_request_free(stream->request);
        stream->request = submit_drawn(b, engine, STREAM_PROMPT, 0);
        stream->last_ms = 0;
        return false;
    }
    *gap_ms = stream->last_ms - before_ms;
    return before_ms > 0;
}

static void read_alone(struct bench *b, kvern_engine *engine, struct stream *stream,
                       struct samples *gaps)
{
    double gap_ms;

    for (size_t n = 0; n < STREAM_ALONE;) {
        if (next_gap(b, engine, stream, &gap_ms)) {
            samples_add(gaps, gap_ms);
            n++;
        }
    }
}

/* Until a long prompt has been run; gives how long that took. */
static double read_beside_prompt(struct bench *b, kvern_engine *engine, struct stream *stream,
                                 struct samples *gaps)
{
    kvern_request *prompt = submit_drawn(b, engine, LONG_PROMPT, 1);
    double start = now_ms(), gap_ms;
    kvern_event event = {0};

    while (event.finish == KVERN_FINISH_NONE) {
        if (next_gap(b, engine, stream, &gap_ms))
            samples_add(gaps, gap_ms);
        while (take_event(prompt, 0, &event) && event.finish == KVERN_FINISH_NONE)
            ;
    }
    kvern_request_free(prompt);
    return now_ms() - start;
}

static void measure_decode(struct bench *b)
{
    kvern_engine_options options = b->options;
    kvern_engine *engine;
    struct samples alone = {0}, beside = {0}, prompt_alone = {0}, prompt_beside = {0};
    struct stream stream = {0};

    options.max_decode_slowdown = b->max_decode_slowdown;
    engine = open_engine(b, &options);
    for (size_t i = 0; i < b->n_rounds; i++) {
        double start = now_ms();

        read_all(submit_drawn(b, engine, LONG_PROMPT, 1));
        samples_add(&prompt_alone, LONG_PROMPT / (now_ms() - start) * 1e3);
        stream = (struct stream){.request = submit_drawn(b, engine, STREAM_PROMPT, 0)};
        read_alone(b, engine, &stream, &alone);
        for (int n = 0; n < 2; n++) {
            double taken_ms = read_beside_prompt(b, engine, &stream, &beside);

            samples_add(&prompt_beside, LONG_PROMPT / taken_ms * 1e3);
            read_alone(b, engine, &stream, &alone);
        }
        kvern_request_free(stream.request);
    }
    report_ms(b, "decode_alone", &alone);
    report_ms(b, "decode_beside_prompt", &beside);
    report(b, "decode", "beside_to_alone_p95",
           samples_percentile(&beside, 0.95) / samples_percentile(&alone, 0.95));
    report(b, "decode", "gaps_beside_prompt", (double)beside.n);
    report(b, "prompt_alone", "tokens_per_s", samples_percentile(&prompt_alone, 0.5));
    report(b, "prompt_beside_stream", "tokens_per_s", samples_percentile(&prompt_beside, 0.5));
    samples_clear(&alone);
    samples_clear(&beside);
    samples_clear(&prompt_alone);
    samples_clear(&prompt_beside);
    kvern_engine_close(engine);
}

enum phase { PHASE_QUEUED, PHASE_PREFILLING, PHASE_DECODING, N_PHASES };

struct flight {
    kvern_request *request;
    uint64_t submitted; /* its number: the order of submission */
    bool has_token;
};

/* The flights of one engine. */
struct load {
    kvern_engine *engine;
    struct flight flights[CANCEL_IN_FLIGHT];
    uint64_t n_submitted;
};

static void submit_flight(struct bench *b, struct load *load, struct flight *flight)
{
    size_t n_prompt = draw_between(&b->seed, 64, CANCEL_PROMPT);
    size_t n_out = draw_between(&b->seed, 64, 256);

    *flight = (struct flight){.request = submit_drawn(b, load->engine, n_prompt, n_out),
                              .submitted = load->n_submitted++};
}

/* Reads what has come, and puts a new request where one has ended. */
static void refresh(struct bench *b, struct load *load)
{
    for (size_t i = 0; i < CANCEL_IN_FLIGHT; i++) {
        struct flight *flight = &load->flights[i];
        kvern_event event = {0};

        while (event.finish == KVERN_FINISH_NONE && take_event(flight->request, 0, &event))
            flight->has_token |= event.n_tokens > 0;
        if (event.finish != KVERN_FINISH_NONE) {
            kvern_request_free(flight->request);
            submit_flight(b, load, flight);
        }
    }
}

/* One that is likely in that phase: prompts are run in the order of submission. Any, if none is. */
static struct flight *choose_victim(struct bench *b, struct load *load, enum phase phase)
{
    struct flight *victim = NULL;
    size_t first = draw_between(&b->seed, 0, CANCEL_IN_FLIGHT - 1);

    for (size_t i = 0; i < CANCEL_IN_FLIGHT; i++) {
        struct flight *flight = &load->flights[(first + i) % CANCEL_IN_FLIGHT];

        if (flight->has_token != (phase == PHASE_DECODING))
            continue;
        if (!victim || (phase == PHASE_PREFILLING && flight->submitted < victim->submitted) ||
            (phase == PHASE_QUEUED && flight->submitted > victim->submitted))
            victim = flight;
    }
    return victim ? victim : &load->flights[first];
}

/* From the call to the last event. false: it ended by itself. */
static bool time_cancel(kvern_request *request, double *taken_ms, enum phase *phase)
{
    kvern_event event = {0};
    double start = now_ms();

    kvern_request_cancel(request);
    while (event.finish == KVERN_FINISH_NONE)
        take_event(request, -1, &event);
    *taken_ms = now_ms() - start;
    *phase = event.n_completion_tokens > 0 ? PHASE_DECODING
             : event.prefill_ms > 0        ? PHASE_PREFILLING
                                           : PHASE_QUEUED;
    return event.finish == KVERN_FINISH_CANCELLED;
}

static void measure_cancel(struct bench *b)
{
    static const char *const NAMES[] = {"cancel_queued", "cancel_prefilling", "cancel_decoding"};
    struct samples all = {0}, samples[N_PHASES] = {{0}};
    struct load load = {0};
    kvern_engine_options options = b->options;

    options.max_sequences = CANCEL_RUNNING;
    load.engine = open_engine(b, &options);
    for (size_t i = 0; i < CANCEL_IN_FLIGHT; i++)
        submit_flight(b, &load, &load.flights[i]);
    while (all.n < b->n_cancels) {
        struct timespec pause = {
            .tv_nsec = (long)draw_between(&b->seed, 0, CANCEL_PAUSE_MS * 1000) * 1000};
        struct flight *victim;
        enum phase phase;
        double taken_ms;

        nanosleep(&pause, NULL);
        refresh(b, &load);
        victim = choose_victim(b, &load, (enum phase)draw_between(&b->seed, 0, N_PHASES - 1));
        if (time_cancel(victim->request, &taken_ms, &phase)) {
            samples_add(&all, taken_ms);
            samples_add(&samples[phase], taken_ms);
        }
        kvern_request_free(victim->request);
        submit_flight(b, &load, victim);
    }
    for (size_t i = 0; i < CANCEL_IN_FLIGHT; i++)
        kvern_request_free(load.flights[i].request);
    kvern_engine_close(load.engine);
    report_ms(b, "cancel", &all);
    for (size_t i = 0; i < N_PHASES; i++) {
        report(b, NAMES[i], "n", (double)samples[i].n);
        report_ms(b, NAMES[i], &samples[i]);
        samples_clear(&samples[i]);
    }
    samples_clear(&all);
}

static void run_group(struct bench *b, kvern_engine *engine)
{
    kvern_request *requests[MEMORY_GROUP];

    for (size_t i = 0; i < MEMORY_GROUP; i++) {
        size_t n_prompt = draw_between(&b->seed, 8, 64);

        requests[i] = submit_drawn(b, engine, n_prompt, 4);
    }
    for (size_t i = 0; i < MEMORY_GROUP; i++)
        read_all(requests[i]);
}

/* Of a line through the samples, by least squares: change from one sample to the next. */
static double slope(const struct samples *samples)
{
    double n = (double)samples->n, sum_x = 0, sum_y = 0, sum_xy = 0, sum_xx = 0;

    for (size_t i = 0; i < samples->n; i++) {
        double x = (double)i, y = samples->values[i];

        sum_x += x;
        sum_y += y;
        sum_xy += x * y;
        sum_xx += x * x;
    }
    return (n * sum_xy - sum_x * sum_y) / (n * sum_xx - sum_x * sum_x);
}

static void report_memory(struct bench *b, const char *part, struct samples *samples)
{
    double first = samples->values[0], last = samples->values[samples->n - 1];
    double middle, half_range;

    report(b, part, "first_mb", first);
    report(b, part, "last_mb", last);
    report(b, part, "slope_mb_per_1000_prompts", slope(samples) * (1000.0 / MEMORY_GROUP));
    middle = samples_percentile(samples, 0.5); /* sorts: order is lost from here on */
    half_range = (samples_percentile(samples, 1) - samples_percentile(samples, 0)) / 2;
    report(b, part, "spread_percent", half_range / middle * 100);
    samples_clear(samples);
}

static void measure_memory(struct bench *b)
{
    kvern_engine *engine = open_engine(b, &b->options);
    struct samples resident = {0}, anonymous = {0};

    for (size_t n = MEMORY_GROUP; n <= b->n_prompts; n += MEMORY_GROUP) {
        run_group(b, engine);
        if (n < MEMORY_SKIPPED)
            continue;
        samples_add(&resident, memory_mb("VmRSS"));
        if (n % MEMORY_SKIPPED == 0) {
            char name[32];

            snprintf(name, sizeof name, "after_%zu_mb", n);
            report(b, "rss", name, memory_mb("VmRSS"));
        }
        samples_add(&anonymous, memory_mb("RssAnon")); /* without the weights, which are mapped */
    }
    kvern_engine_close(engine);
    report_memory(b, "rss", &resident);
    report_memory(b, "rss_anonymous", &anonymous);
}

static const struct {
    const char *name;
    void (*measure)(struct bench *b);
} PARTS[] = {
    {"first_token", measure_first_token},
    {"decode", measure_decode},
    {"cancel", measure_cancel},
    {"memory", measure_memory},
};

enum { N_PARTS = sizeof PARTS / sizeof PARTS[0] };

static int usage(void)
{
    fprintf(stderr, "usage: bench_engine_latency MODEL [first_token] [decode] [cancel] [memory]\n"
                    "           [--rounds N] [--cancels N] [--prompts N] [--threads N]"
                    " [--kv-memory MIB] [--json]\n"
                    "           [--max-decode-slowdown X]\n");
    return 2;
}

static bool is_named(const char *name, char **names, int n_names)
{
    for (int i = 0; i < n_names; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return n_names == 0;
}

int main(int argc, char **argv)
{
    static const struct option LONG[] = {{"rounds", required_argument, NULL, 'r'},
                                         {"cancels", required_argument, NULL, 'c'},
                                         {"prompts", required_argument, NULL, 'p'},
                                         {"threads", required_argument, NULL, 't'},
                                         {"json", no_argument, NULL, 'j'},
                                         {"kv-memory", required_argument, NULL, 'k'},
                                         {"max-decode-slowdown", required_argument, NULL, 's'},
                                         {0}};
    struct bench b = {
        .seed = 5, .n_rounds = 2, .n_cancels = 200, .n_prompts = 5000, .max_decode_slowdown = 1.5};
    kvern_error err = {0};

    kvern_engine_options_init(&b.options);
    b.options.n_threads = kvern_default_threads();
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        if (c == 'j')
            b.is_json = true;
        else if (c == 'r')
            b.n_rounds = strtoul(optarg, NULL, 10);
        else if (c == 'c')
            b.n_cancels = strtoul(optarg, NULL, 10);
        else if (c == 'p')
            b.n_prompts = strtoul(optarg, NULL, 10);
        else if (c == 't')
            b.options.n_threads = atoi(optarg);
        else if (c == 's')
            b.max_decode_slowdown = strtod(optarg, NULL);
        else if (c == 'k')
            b.options.kv_memory_bytes = strtoul(optarg, NULL, 10) << 20;
        else
            return usage();
    }
    if (optind == argc || b.n_rounds == 0 || b.n_cancels == 0 ||
        b.n_prompts < MEMORY_SKIPPED + MEMORY_GROUP)
        return usage();
    check(kvern_model_open(&b.model, argv[optind], &err), &err);
    kvern_model_get_info(b.model, &b.info);
    for (size_t i = 0; i < N_PARTS; i++) {
        if (is_named(PARTS[i].name, argv + optind + 1, argc - optind - 1))
            PARTS[i].measure(&b);
    }
    if (b.is_json)
        print_json(&b);
    kvern_model_close(b.model);
    return 0;
}
