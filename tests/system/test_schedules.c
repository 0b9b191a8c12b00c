/* SPDX-License-Identifier: Apache-2.0
 *
 * The promise, under 2,000 random schedules on real models: requests that share prefixes, samples
 * of one prompt, beams, conversations, embeddings and scored prompts arrive and are cancelled at
 * random, under engines that chunk, pre-empt and evict. What each gives is what it gives alone, bit
 * for bit.
 */
#include "test.h"

#include "system/support_models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    N_SPECS = 40,
    N_SAMPLES = 3,
    N_BEAMS = 3,
    MAX_PROMPT = 130,
    MAX_ANSWER = 24,
    MAX_REQUESTS = 12, /* of a schedule; a request may be of several samples */
    N_SCHEDULES = 2000,
    VOCAB = 200,
};

struct spec {
    int32_t prompt[MAX_PROMPT];
    size_t n_prompt;
    int32_t max_tokens;
    kvern_sampling sampling;
    /* what it gives alone */
    int32_t answers[N_SAMPLES][MAX_ANSWER];
    size_t n_answer;
    int32_t beam_answers[N_BEAMS][MAX_ANSWER];
    size_t n_beam_answers[N_BEAMS];
    float beam_scores[N_BEAMS];
    float *vector; /* mean pooling */
    size_t n_vector;
    float *scores; /* [n_prompt - 1] */
};

static struct spec specs[N_SPECS];
static uint64_t random_state = 0x853c49e6748fea9bu;

static size_t draw(size_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % n;
}

/* A few openings, each with many endings: as prompts under a few system prompts are. */
static void make_specs(void)
{
    static const size_t openings[] = {0, 16, 37, 64, 90};

    for (size_t i = 0; i < N_SPECS; i++) {
        struct spec *spec = &specs[i];
        size_t n_opening = openings[i % COUNT(openings)];

        spec->n_prompt = n_opening + 1 + draw(MAX_PROMPT - n_opening - 1);
        if (i % 7 == 0 && n_opening > 0)
            spec->n_prompt = n_opening; /* nothing but the opening */
        for (size_t j = 0; j < spec->n_prompt; j++)
            spec->prompt[j] =
                (int32_t)(j < n_opening ? (j * 7 + i % COUNT(openings)) % VOCAB : draw(VOCAB));
        spec->max_tokens = (int32_t)(1 + draw(MAX_ANSWER));
        spec->sampling = (kvern_sampling){.temperature = i % 3 ? 0.8F : 0,
                                          .top_k = i % 4 ? 0 : 20,
                                          .top_p = i % 5 ? 1 : 0.9F,
                                          .repetition_penalty = i % 6 ? 1 : 1.2F,
                                          .seed = i * 1000};
    }
}

static void fill(kvern_request_options *options, const struct spec *spec)
{
    kvern_request_options_init(options);
    options->prompt = spec->prompt;
    options->n_prompt = spec->n_prompt;
    options->max_tokens = spec->max_tokens;
    options->sampling.temperature = spec->sampling.temperature;
    options->sampling.top_k = spec->sampling.top_k;
    options->sampling.top_p = spec->sampling.top_p;
    options->sampling.repetition_penalty = spec->sampling.repetition_penalty;
    options->sampling.seed = spec->sampling.seed;
    options->ignore_eos = true;
}

/* Tokens that end answers, so that they are of many lengths. */
static void fill_beams(kvern_request_options *options, const struct spec *spec)
{
    static const int32_t ends[] = {3, 17, 31, 45, 59, 73, 87, 101, 115, 129, 143, 157};

    fill(options, spec);
    options->sampling.temperature = 0;
    options->sampling.no_repeat_ngram_size = (int32_t)spec->n_prompt % 3;
    options->num_beams = N_BEAMS;
    options->length_penalty = (float)(spec->n_prompt % 4) / 2;
    options->early_stopping = (kvern_early_stopping)(spec->n_prompt % 3);
    options->stop_token_ids = ends;
    options->n_stop_token_ids = COUNT(ends);
}

static void run_beams_alone(kvern_engine *engine, struct spec *spec)
{
    kvern_request *requests[N_BEAMS];
    kvern_request_options options;

    fill_beams(&options, spec);
    assert_int_equal(kvern_submit_samples(engine, &options, N_BEAMS, requests, NULL), KVERN_OK);
    for (size_t i = 0; i < N_BEAMS; i++) {
        kvern_event event = {0};

        spec->n_beam_answers[i] = 0;
        while (event.finish == KVERN_FINISH_NONE) {
            assert_int_equal(kvern_request_next(requests[i], -1, &event, NULL), KVERN_OK);
            for (size_t j = 0; j < event.n_tokens; j++)
                spec->beam_answers[i][spec->n_beam_answers[i]++] = event.tokens[j];
        }
        spec->beam_scores[i] = event.score;
        kvern_request_free(requests[i]);
    }
}

static float *copy_floats(const float *values, size_t n)
{
    float *copy = malloc((n > 0 ? n : 1) * sizeof *copy);

    assert_non_null(copy);
    if (n > 0)
        memcpy(copy, values, n * sizeof *copy);
    return copy;
}

/* Each spec alone in the engine: its samples, its vector, its scores. */
static void run_alone(kvern_engine *engine, struct spec *spec)
{
    kvern_request_options options;
    kvern_request *request = NULL;
    kvern_event event = {0};

    for (size_t sample = 0; sample < N_SAMPLES; sample++) {
        fill(&options, spec);
        options.sampling.seed += sample;
        assert_int_equal(kvern_submit(engine, &options, &request, NULL), KVERN_OK);
        spec->n_answer = finish_request(request, spec->answers[sample], MAX_ANSWER);
        assert_int_equal(spec->n_answer, spec->max_tokens);
    }
    run_beams_alone(engine, spec);
    fill(&options, spec);
    options.embed = true;
    options.pooling = KVERN_POOLING_MEAN;
    assert_int_equal(kvern_submit(engine, &options, &request, NULL), KVERN_OK);
    do
        assert_int_equal(kvern_request_next(request, -1, &event, NULL), KVERN_OK);
    while (event.finish == KVERN_FINISH_NONE);
    spec->n_vector = event.n_embedding;
    spec->vector = copy_floats(event.embedding, event.n_embedding);
    kvern_request_free(request);
    fill(&options, spec);
    options.score_prompt = true;
    assert_int_equal(kvern_submit(engine, &options, &request, NULL), KVERN_OK);
    do
        assert_int_equal(kvern_request_next(request, -1, &event, NULL), KVERN_OK);
    while (event.finish == KVERN_FINISH_NONE);
    assert_int_equal(event.n_prompt_logprobs, spec->n_prompt - 1);
    spec->scores = copy_floats(event.prompt_logprobs, event.n_prompt_logprobs);
    kvern_request_free(request);
}

struct ticket {
    const struct spec *spec;
    kvern_request *requests[N_SAMPLES];
    size_t n_samples;
    bool is_embedding, is_scored, is_search, is_cancelled;
    int32_t tokens[N_SAMPLES][MAX_ANSWER];
    size_t n_tokens[N_SAMPLES];
};

static size_t n_compared;

static void submit(kvern_engine *engine, struct ticket *ticket)
{
    static const char *const keys[] = {NULL, NULL, NULL, "other"};
    kvern_request_options options;
    kvern_error err = {0};
    size_t kind = draw(20);

    *ticket = (struct ticket){.spec = &specs[draw(N_SPECS)], .n_samples = 1};
    if (kind < 11 && kind >= 9)
        fill_beams(&options, ticket->spec);
    else
        fill(&options, ticket->spec);
    options.priority = (int32_t)draw(4) / 3 * (int32_t)draw(3);
    options.cache_key = keys[draw(COUNT(keys))];
    if (kind < 3)
        ticket->n_samples = 2 + draw(N_SAMPLES - 1);
    else if (kind < 6)
        options.conversation = 1 + draw(3);
    else if (kind < 8)
        ticket->is_embedding = options.embed = true;
    else if (kind < 9)
        ticket->is_scored = options.score_prompt = true;
    else if (kind < 11) {
        ticket->is_search = true;
        ticket->n_samples = 1 + draw(N_BEAMS);
    }
    options.pooling = KVERN_POOLING_MEAN;
    if (kvern_submit_samples(engine, &options, ticket->n_samples, ticket->requests, &err) !=
        KVERN_OK)
        fail_msg("%s", err.message);
}

static void compare_beam(const struct ticket *ticket, size_t i, const kvern_event *event)
{
    const struct spec *spec = ticket->spec;

    if (event->finish == KVERN_FINISH_CANCELLED) {
        assert_true(ticket->is_cancelled);
        return;
    }
    assert_int_equal(ticket->n_tokens[i], spec->n_beam_answers[i]);
    assert_memory_equal(ticket->tokens[i], spec->beam_answers[i],
                        ticket->n_tokens[i] * sizeof(int32_t));
    assert_memory_equal(&event->score, &spec->beam_scores[i], sizeof event->score);
}

static void compare(struct ticket *ticket, size_t sample, const kvern_event *event)
{
    const struct spec *spec = ticket->spec;
    size_t n = ticket->n_tokens[sample];

    n_compared++;
    if (event->finish == KVERN_FINISH_ERROR)
        fail_msg("%s", event->error.message);
    if (ticket->is_search) {
        compare_beam(ticket, sample, event);
        return;
    }
    if (event->finish == KVERN_FINISH_CANCELLED) {
        assert_true(ticket->is_cancelled);
    } else if (ticket->is_embedding) {
        assert_int_equal(event->n_embedding, spec->n_vector);
        assert_memory_equal(event->embedding, spec->vector, spec->n_vector * sizeof(float));
        return;
    } else {
        assert_int_equal(n, spec->n_answer);
    }
    assert_memory_equal(ticket->tokens[sample], spec->answers[sample], n * sizeof(int32_t));
    if (ticket->is_scored && event->finish != KVERN_FINISH_CANCELLED)
        assert_memory_equal(event->prompt_logprobs, spec->scores,
                            (spec->n_prompt - 1) * sizeof(float));
}

/* Reads what has come of a request; at its end it is compared and freed. */
static void look(struct ticket *ticket, size_t sample, int timeout_ms)
{
    kvern_event event = {0};

    if (!ticket->requests[sample] ||
        kvern_request_next(ticket->requests[sample], timeout_ms, &event, NULL) != KVERN_OK)
        return;
    assert_true(ticket->n_tokens[sample] + event.n_tokens <= MAX_ANSWER);
    for (size_t i = 0; i < event.n_tokens; i++)
        ticket->tokens[sample][ticket->n_tokens[sample]++] = event.tokens[i];
    if (event.finish == KVERN_FINISH_NONE)
        return;
    compare(ticket, sample, &event);
    kvern_request_free(ticket->requests[sample]);
    ticket->requests[sample] = NULL;
}

static void cancel(struct ticket *ticket)
{
    ticket->is_cancelled = true;
    for (size_t i = 0; i < ticket->n_samples; i++) {
        if (ticket->requests[i])
            kvern_request_cancel(ticket->requests[i]);
    }
}

static void run_schedule(kvern_engine *engine)
{
    struct ticket tickets[MAX_REQUESTS];
    size_t n = 3 + draw(MAX_REQUESTS - 2);

    for (size_t i = 0; i < n; i++) {
        submit(engine, &tickets[i]);
        for (size_t j = draw(3); j > 0; j--) {
            size_t k = draw(i + 1);

            look(&tickets[k], draw(tickets[k].n_samples), (int)draw(2));
        }
        if (draw(7) == 0)
            cancel(&tickets[draw(i + 1)]);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t sample = 0; sample < tickets[i].n_samples; sample++) {
            while (tickets[i].requests[sample])
                look(&tickets[i], sample, 20000);
        }
    }
}

static const struct setting {
    int32_t n_threads, step_tokens, prefill_chunk, max_sequences;
    size_t n_blocks;
    bool has_no_cache;
    double slowdown;
} settings[] = {
    {1, 0, 0, 0, 200, false, 0},  {2, 0, 0, 0, 200, false, 0},   {1, 64, 7, 6, 14, false, 0},
    {2, 64, 0, 6, 14, false, 0},  {1, 3, 0, 4, 16, false, 0},    {2, 40, 16, 16, 24, false, 1.5},
    {1, 128, 1, 8, 20, false, 0}, {2, 200, 64, 12, 14, true, 0}, {1, 48, 0, 16, 40, false, 2},
    {2, 30, 13, 3, 12, false, 0},
};

static void run_model(const char *source, const char *weights, size_t n_schedules)
{
    kvern_model *model = open_test_model(source, weights);
    kvern_engine *alone = open_test_engine(model, 1, 0, "f16");
    kvern_engine_stats all = {0};
    kvern_model_info info;

    kvern_model_get_info(model, &info);
    make_specs();
    for (size_t i = 0; i < N_SPECS; i++)
        run_alone(alone, &specs[i]);
    kvern_engine_close(alone);
    for (size_t s = 0; s < COUNT(settings); s++) {
        kvern_engine_options options;
        kvern_engine_stats stats;
        kvern_engine *engine = NULL;
        kvern_error err = {0};

        kvern_engine_options_init(&options);
        options.n_threads = settings[s].n_threads;
        options.step_tokens = settings[s].step_tokens;
        options.prefill_chunk = settings[s].prefill_chunk;
        options.max_sequences = settings[s].max_sequences;
        options.no_prefix_cache = settings[s].has_no_cache;
        options.max_decode_slowdown = settings[s].slowdown;
        options.kv_memory_bytes = settings[s].n_blocks * (size_t)info.n_layers * 2 * 16 * 2 *
                                  (size_t)info.n_kv_heads * (size_t)info.head_size;
        if (kvern_engine_open(&engine, model, &options, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        for (size_t i = 0; i < n_schedules / COUNT(settings); i++)
            run_schedule(engine);
        kvern_engine_get_stats(engine, &stats);
        assert_int_equal(stats.n_kv_blocks, settings[s].n_blocks);
        assert_int_equal(stats.n_running + stats.n_waiting, 0);
        all.n_steps += stats.n_steps;
        all.n_cache_hits += stats.n_cache_hits;
        all.n_cached_tokens += stats.n_cached_tokens;
        all.n_cache_evictions += stats.n_cache_evictions;
        all.n_preemptions += stats.n_preemptions;
        if (settings[s].has_no_cache)
            assert_int_equal(stats.n_cache_hits, 0);
        kvern_engine_close(engine);
    }
    printf("  %s: %lld steps, %lld cache hits (%lld tokens), %lld evictions, %lld preemptions\n",
           info.name, (long long)all.n_steps, (long long)all.n_cache_hits,
           (long long)all.n_cached_tokens, (long long)all.n_cache_evictions,
           (long long)all.n_preemptions);
    assert_true(all.n_cache_hits > 500 && all.n_cache_evictions > 500 && all.n_preemptions > 100);
    for (size_t i = 0; i < N_SPECS; i++) {
        free(specs[i].vector);
        free(specs[i].scores);
    }
    kvern_model_close(model);
}

static void no_schedule_changes_an_answer(void **state)
{
    (void)state;
    run_model("tests/golden/tiny/llama-f32", "q4", N_SCHEDULES / 2);
    run_model("tests/golden/tiny/qwen3-bf16", "q8", N_SCHEDULES / 2);
    printf("  %d schedules, %zu answers compared\n", N_SCHEDULES, n_compared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_schedule_changes_an_answer)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
