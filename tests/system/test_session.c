/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions on a paged model and on an export with a KV cache of its own: what they promise about
 * lengths, state and bytes. tests/system/test_session_file.c saves and restores them.
 */
#include "test.h"

#include "system/support_models.h"

#include "base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_TEXT = 200 };

static int32_t text[N_TEXT];

/* The models, opened once. `is_exact`: bytes do not depend on how tokens are cut into calls. */
static struct subject {
    const char *name;
    const char *path; /* of an export, or NULL: the tiny Llama */
    bool is_exact;
    bool is_large;      /* only the first test runs it */
    kvern_model *model; /* NULL: it is not on this machine */
    kvern_engine *engine;
} subjects[] = {
    {.name = "paged", .path = NULL, .is_exact = true},
    {.name = "cached f32", .path = KVERN_GOLDEN_DIR "/exports/qwen2-f32"},
    {.name = "cached f16", .path = KVERN_GOLDEN_DIR "/exports/qwen2-f16"},
    {.name = "cached merged", .path = KVERN_GOLDEN_DIR "/exports/llama-merged"},
    {.name = "SmolLM2", .path = NULL, .is_exact = true, .is_large = true},
    /* made by tests/golden/make_reference_export.py */
    {.name = "the reference's 51 inputs",
     .path = KVERN_SOURCE_DIR "/.deps/models/reference-51",
     .is_large = true},
};

static int open_subjects(void **state)
{
    uint64_t seed = 7;

    (void)state;
    for (size_t i = 0; i < N_TEXT; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        text[i] = (int32_t)((seed >> 33) % 200);
    }
    for (size_t i = 0; i < COUNT(subjects); i++) {
        struct subject *subject = &subjects[i];
        kvern_error err = {0};

        if (!subject->path) {
            subject->model = subject->is_large
                                 ? open_test_model(smollm2_gguf, NULL)
                                 : open_test_model("tests/golden/tiny/llama-f32", "q4");
        } else if (subject->is_large && !directory_exists(subject->path)) {
            printf("  %s: not on this machine, passed over\n", subject->name);
            continue;
        } else {
            if (kvern_model_open(&subject->model, subject->path, &err) != KVERN_OK)
                fail_msg("%s", err.message);
        }
        subject->engine = open_test_engine(subject->model, subject->is_large ? 2 : 1, 0, NULL);
    }
    return 0;
}

static int close_subjects(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        if (!subjects[i].model)
            continue;
        kvern_engine_close(subjects[i].engine);
        kvern_model_close(subjects[i].model);
    }
    return 0;
}

static kvern_session *open_session(const struct subject *subject,
                                   const kvern_session_options *options)
{
    kvern_session *session = NULL;
    kvern_error err = {0};

    if (kvern_session_new(&session, subject->engine, subject->model, options, &err) != KVERN_OK)
        fail_msg("%s: %s", subject->name, err.message);
    return session;
}

static kvern_session_answer append(kvern_session *session, size_t begin, size_t end)
{
    kvern_session_answer answer = {0};
    kvern_error err = {0};

    if (kvern_session_append(session, text + begin, end - begin, &answer, &err) != KVERN_OK)
        fail_msg("append %zu to %zu: %s", begin, end, err.message);
    return answer;
}

/* A copy of an answer's vector: the session's own goes with its next calls. */
static float *copy_vector(const kvern_session_answer *answer)
{
    float *copy = malloc(answer->n_values * sizeof *copy);

    assert_non_null(copy);
    memcpy(copy, answer->embedding, answer->n_values * sizeof *copy);
    return copy;
}

static float largest_difference(const float *a, const float *b, size_t n)
{
    float largest = 0;

    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(a[i] - b[i]));
    return largest;
}

static void assert_same(const struct subject *subject, const char *what, const float *expected,
                        const kvern_session_answer *answer, float tolerance)
{
    float difference = largest_difference(expected, answer->embedding, answer->n_values);

    if (tolerance == 0 && memcmp(expected, answer->embedding, answer->n_values * sizeof(float)))
        fail_msg("%s: %s: the bytes differ (by up to %g)", subject->name, what, (double)difference);
    if (difference > tolerance)
        fail_msg("%s: %s: differs by %g", subject->name, what, (double)difference);
}

/* Vectors are of length 1, so their range is at most 2. f16 logits have 11 bits. */
static float tolerance_of(const struct subject *subject)
{
    return subject->is_exact ? 0 : strstr(subject->name, "f16") ? 2e-3f : 1e-4f;
}

struct seen_logits {
    float *values; /* [n], of the last call */
    size_t n;
};

static void see_logits(const float *logits, size_t vocab_size, size_t position, void *user_data)
{
    struct seen_logits *seen = user_data;

    (void)position;
    if (!seen->values)
        seen->values = malloc(vocab_size * sizeof *logits);
    assert_non_null(seen->values);
    memcpy(seen->values, logits, vocab_size * sizeof *logits);
    seen->n = vocab_size;
}

/* The logits after the session's first n tokens against those of a run of them from nothing: the
 * same bytes, or within 1e-4 of their range (2e-3 where the export itself has 11 bits). The session
 * has the token chosen from them afterwards. */
static void check_logits(const struct subject *subject, kvern_session *session, size_t n)
{
    struct seen_logits seen[2] = {{0}};
    kvern_request_options options;
    kvern_request *request = NULL;
    kvern_session_answer answer;
    kvern_error err = {0};
    float low = INFINITY, high = -INFINITY;

    kvern_request_options_init(&options);
    options.max_tokens = 1;
    options.on_logits = see_logits;
    options.on_logits_data = &seen[0];
    if (kvern_session_submit(session, &options, &request, &err) != KVERN_OK ||
        kvern_session_finish(session, request, &answer, &err) != KVERN_OK)
        fail_msg("%s: %s", subject->name, err.message);
    kvern_request_free(request);
    options.prompt = text;
    options.n_prompt = n;
    options.on_logits_data = &seen[1];
    assert_int_equal(kvern_submit(subject->engine, &options, &request, &err), KVERN_OK);
    finish_request(request, NULL, 0);
    assert_int_equal(seen[0].n, seen[1].n);
    for (size_t i = 0; i < seen[1].n; i++) {
        low = fminf(low, seen[1].values[i]);
        high = fmaxf(high, seen[1].values[i]);
    }
    float worst = largest_difference(seen[0].values, seen[1].values, seen[0].n);
    printf("  %s: logits differ by %.2g of their range\n", subject->name,
           (double)(worst / (high - low)));
    assert_true(worst <= tolerance_of(subject) * (high - low));
    free(seen[0].values);
    free(seen[1].values);
}

static void appends_add_up_and_reset_forgets(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        const struct subject *subject = &subjects[i];

        if (!subject->model)
            continue;
        kvern_session *session = open_session(subject, NULL);
        kvern_session *fresh = open_session(subject, NULL);
        kvern_session_info info;
        kvern_session_answer answer = append(session, 0, 31);
        float *first = copy_vector(&answer);

        assert_false(answer.has_drift);
        assert_int_equal(answer.n_run, 31);
        assert_int_equal(answer.n_reused, 0);
        answer = append(session, 31, 40);
        assert_int_equal(answer.context_length, 40);
        assert_int_equal(answer.n_run, 9);
        assert_int_equal(answer.n_reused, 31);
        assert_true(answer.has_drift && answer.drift <= 1 && answer.drift >= -1);
        answer = append(session, 40, 100);
        assert_int_equal(answer.context_length, 100);
        assert_int_equal(answer.n_appended, 60);

        kvern_session_answer whole = append(fresh, 0, 100);
        assert_int_equal(whole.n_run, 100);
        assert_same(subject, "three appends against one", answer.embedding, &whole,
                    tolerance_of(subject));
        /* the drift of the same vector twice */
        whole = append(fresh, 0, 0);
        assert_int_equal(whole.context_length, 100);
        assert_true(whole.has_drift && whole.drift > 0.999);

        check_logits(subject, session, 100);
        kvern_session_reset(session);
        kvern_session_get_info(session, &info);
        assert_int_equal(info.context_length, 0);
        assert_int_equal(info.n_values, 0);
        answer = append(session, 0, 31);
        assert_same(subject, "after reset", first, &answer, 0);
        assert_int_equal(answer.n_run, 31);
        assert_false(answer.has_drift);
        free(first);
        kvern_session_free(fresh);
        kvern_session_free(session);
    }
}

static void rewinding_gives_the_state_of_then(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        const struct subject *subject = &subjects[i];

        if (subject->is_large)
            continue;
        kvern_session *session = open_session(subject, NULL);
        kvern_session_answer answer;
        kvern_error err = {0};
        float *expected;
        double drift;

        append(session, 0, 37);
        answer = append(session, 37, 60);
        expected = copy_vector(&answer);
        drift = answer.drift;
        append(session, 60, 120);
        assert_int_equal(kvern_session_rewind(session, 37, &err), KVERN_OK);
        answer = append(session, 37, 60);
        assert_int_equal(answer.context_length, 60);
        assert_int_equal(answer.n_reused, 37);
        assert_same(subject, "after rewind", expected, &answer, 0);
        assert_true(answer.has_drift && answer.drift == drift);
        assert_int_equal(kvern_session_rewind(session, 61, &err), KVERN_LIMIT);
        assert_int_equal(kvern_session_rewind(session, 0, &err), KVERN_OK);
        assert_int_equal(kvern_session_append(session, NULL, 0, &answer, &err), KVERN_INVALID);
        free(expected);
        kvern_session_free(session);
    }
}

static void forks_go_their_own_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        const struct subject *subject = &subjects[i];

        if (subject->is_large)
            continue;
        kvern_session *session = open_session(subject, NULL);
        kvern_session *alone[2] = {open_session(subject, NULL), open_session(subject, NULL)};
        kvern_session *fork = NULL;
        kvern_error err = {0};
        const size_t ends[] = {90, 110};
        kvern_session_answer answer;
        float *expected[2];

        for (size_t j = 0; j < 2; j++) {
            append(alone[j], 0, 37);
            answer = append(alone[j], 50, ends[j]);
            expected[j] = copy_vector(&answer);
        }
        append(session, 0, 37);
        assert_int_equal(kvern_session_fork(session, &fork, &err), KVERN_OK);
        answer = append(fork, 50, ends[0]);
        assert_true(answer.n_reused >= 32);
        assert_same(subject, "the fork", expected[0], &answer, tolerance_of(subject));
        answer = append(session, 50, ends[1]);
        assert_true(answer.n_reused >= 32);
        assert_same(subject, "what was forked", expected[1], &answer, tolerance_of(subject));
        for (size_t j = 0; j < 2; j++) {
            free(expected[j]);
            kvern_session_free(alone[j]);
        }
        kvern_session_free(session);
        kvern_session_free(fork);
    }
}

/* A window of 48 tokens with 16 sinks: what a token sees is settled by its position, however the
 * tokens come. */
static void windows_slide_by_position(void **state)
{
    static const size_t cuts[][6] = {{200}, {63, 64, 65, 200}, {10, 100, 101, 170, 200}};
    const kvern_session_options options = {
        .policy = KVERN_WINDOW_SLIDING, .window = 48, .sink_tokens = 10, .normalize = -1};

    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        const struct subject *subject = &subjects[i];

        if (subject->is_large)
            continue;
        float *expected = NULL;

        for (size_t c = 0; c < COUNT(cuts); c++) {
            kvern_session *session = open_session(subject, &options);
            kvern_session_answer answer = {0};
            size_t begin = 0;

            for (size_t j = 0; begin < N_TEXT; begin = cuts[c][j++]) {
                answer = append(session, begin, cuts[c][j]);
                assert_true(answer.context_length <= 64);
                assert_int_equal(answer.position, cuts[c][j]);
            }
            /* 13 blocks begun, 4 of which stay; the last one holds 8 */
            assert_int_equal(answer.context_length, 3 * 16 + 8);
            if (!expected)
                expected = copy_vector(&answer);
            else
                assert_same(subject, "a window that slides", expected, &answer,
                            tolerance_of(subject));
            kvern_session_free(session);
        }
        /* it does forget: without a window the vector is another one */
        kvern_session *session = open_session(subject, NULL);
        kvern_session_answer answer = append(session, 0, N_TEXT);
        assert_true(largest_difference(expected, answer.embedding, answer.n_values) > 1e-3f);
        free(expected);
        kvern_session_free(session);
    }
}

static void policies_at_the_limit(void **state)
{
    const struct subject *subject = &subjects[0];
    kvern_engine_options engine_options;
    kvern_engine *engine = NULL;
    kvern_error err = {0};

    (void)state;
    kvern_engine_options_init(&engine_options);
    engine_options.max_context = 64;
    assert_int_equal(kvern_engine_open(&engine, subject->model, &engine_options, &err), KVERN_OK);
    for (int policy = KVERN_WINDOW_ERROR; policy <= KVERN_WINDOW_TRUNCATE; policy++) {
        kvern_session_options options;
        kvern_session *session = NULL;
        kvern_session_answer answer = {0};
        kvern_session_info info;

        kvern_session_options_init(&options);
        options.policy = (kvern_window)policy;
        assert_int_equal(kvern_session_new(&session, engine, subject->model, &options, &err),
                         KVERN_OK);
        assert_int_equal(kvern_session_append(session, text, 50, &answer, &err), KVERN_OK);
        kvern_status status = kvern_session_append(session, text, 50, &answer, &err);
        kvern_session_get_info(session, &info);
        if (policy == KVERN_WINDOW_ERROR) {
            assert_int_equal(status, KVERN_LIMIT);
            assert_non_null(strstr(err.message, "64"));
            assert_int_equal(info.position, 50);
        } else if (policy == KVERN_WINDOW_TRUNCATE) {
            assert_int_equal(status, KVERN_OK);
            assert_int_equal(answer.n_appended, 14);
            assert_int_equal(answer.n_left_out, 36);
            assert_int_equal(info.position, 64);
        } else {
            assert_int_equal(status, KVERN_OK);
            assert_int_equal(info.position, 100);
            assert_int_equal(info.window, 64);
            assert_true(info.context_length <= 64);
        }
        kvern_session_free(session);
    }
    kvern_engine_close(engine);
}

static void generating_continues_the_session(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        const struct subject *subject = &subjects[i];

        if (subject->is_large)
            continue;
        kvern_session *session = open_session(subject, NULL);
        kvern_request_options options;
        kvern_request *request = NULL;
        kvern_session_answer answer = {0};
        kvern_error err = {0};
        int32_t expected[12];
        int32_t generated[12];
        size_t n_tokens = 0;

        kvern_request_options_init(&options);
        options.prompt = text;
        options.n_prompt = 50;
        options.max_tokens = 12;
        options.ignore_eos = true;
        assert_int_equal(kvern_submit(subject->engine, &options, &request, &err), KVERN_OK);
        assert_int_equal(finish_request(request, expected, 12), 12);

        append(session, 0, 40);
        options.prompt = text + 40;
        options.n_prompt = 10;
        options.max_tokens = 5;
        for (size_t part = 0; part < 2; part++) {
            if (kvern_session_submit(session, &options, &request, &err) != KVERN_OK ||
                kvern_session_finish(session, request, &answer, &err) != KVERN_OK)
                fail_msg("%s", err.message);
            kvern_request_free(request);
            assert_int_equal(answer.position, part ? 62 : 55);
            options.prompt = NULL;
            options.n_prompt = 0;
            options.max_tokens = 7;
        }
        const int32_t *tokens = kvern_session_tokens(session, &n_tokens);
        assert_int_equal(n_tokens, 62);
        memcpy(generated, tokens + 50, sizeof generated);
        for (size_t j = 0; j < 12; j++)
            assert_int_equal(generated[j], expected[j]);

        /* cancelled: as before */
        options.max_tokens = 0;
        assert_int_equal(kvern_session_submit(session, &options, &request, &err), KVERN_OK);
        kvern_request_cancel(request);
        kvern_status status = kvern_session_finish(session, request, &answer, &err);
        kvern_request_free(request);
        kvern_session_tokens(session, &n_tokens);
        if (status != KVERN_OK)
            assert_int_equal(n_tokens, 62);
        kvern_session_free(session);
    }
}

/* Ends a call when the engine has run some of its prompt. */
struct stopper {
    kvern_engine *engine;
    int64_t n_prefilled; /* then */
};

static bool stop_in_the_middle(void *user_data)
{
    struct stopper *stopper = user_data;
    kvern_engine_stats stats;

    kvern_engine_get_stats(stopper->engine, &stats);
    return stats.n_prefill_tokens >= stopper->n_prefilled;
}

static void sleep_a_little(const float *logits, size_t vocab_size, size_t position, void *user_data)
{
    (void)logits;
    (void)vocab_size;
    (void)position;
    (void)user_data;
    nanosleep(&(struct timespec){.tv_nsec = 8000000}, NULL);
}

/* A request that makes every step of the engine slow. */
static kvern_request *submit_brake(kvern_engine *engine)
{
    kvern_request_options options;
    kvern_request *request = NULL;
    kvern_error err = {0};

    kvern_request_options_init(&options);
    options.prompt = text;
    options.n_prompt = 3;
    options.max_tokens = 200;
    options.ignore_eos = true;
    options.on_logits = sleep_a_little;
    if (kvern_submit(engine, &options, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return request;
}

/* The twin's call was never there. What comes next begins like the cancelled text, so that KV of
 * that would be taken for it, and of an export be other bits, cut elsewhere. */
static void a_cancelled_append_leaves_no_trace(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        struct subject subject = subjects[i];
        kvern_session_answer answer = {0};
        kvern_engine_stats stats;
        kvern_error err = {0};

        if (subject.is_large || !subject.model)
            continue;
        subject.engine = open_test_engine(subject.model, 1, 4, NULL);
        kvern_session *session = open_session(&subject, NULL);
        kvern_session *twin = open_session(&subject, NULL);
        append(session, 0, 45);
        append(twin, 0, 45);
        kvern_request *brake = submit_brake(subject.engine);
        kvern_engine_get_stats(subject.engine, &stats);
        struct stopper stopper = {.engine = subject.engine,
                                  .n_prefilled = stats.n_prefill_tokens + 10};
        kvern_session_set_stop(session, stop_in_the_middle, &stopper);
        kvern_status status = kvern_session_append(session, text + 45, 155, &answer, &err);
        kvern_request_free(brake);
        if (status != KVERN_CANCELLED)
            fail_msg("%s: %s", subject.name, kvern_status_name(status));
        kvern_session_set_stop(session, NULL, NULL);
        answer = append(session, 45, 51);
        assert_int_equal(answer.n_run, 6);
        kvern_session_answer expected = append(twin, 45, 51);
        assert_same(&subject, "after a cancelled append", expected.embedding, &answer, 0);
        assert_true(answer.drift == expected.drift);
        answer = append(session, 60, 90);
        expected = append(twin, 60, 90);
        assert_same(&subject, "later", expected.embedding, &answer, 0);
        kvern_session_free(session);
        kvern_session_free(twin);
        kvern_engine_close(subject.engine);
    }
}

static void what_a_session_cannot_do_is_refused(void **state)
{
    const struct subject *subject = &subjects[0];
    static const struct {
        kvern_session_options options;
        kvern_status status;
    } cases[] = {
        {{.pooling = KVERN_POOLING_MEAN}, KVERN_UNSUPPORTED},
        {{.pooling = KVERN_POOLING_CLS}, KVERN_UNSUPPORTED},
        {{.policy = KVERN_WINDOW_SLIDING, .window = 16}, KVERN_INVALID},
        {{.policy = KVERN_WINDOW_SLIDING, .window = -1}, KVERN_INVALID},
        {{.policy = KVERN_WINDOW_SLIDING, .window = 1 << 24}, KVERN_LIMIT},
        {{.policy = KVERN_WINDOW_SLIDING, .sink_tokens = 240}, KVERN_LIMIT},
        {{.policy = KVERN_WINDOW_SLIDING, .sink_tokens = INT32_MAX}, KVERN_LIMIT},
        {{.dimensions = -1}, KVERN_INVALID},
        {{.policy = (kvern_window)9}, KVERN_INVALID},
    };
    kvern_session_answer answer;
    kvern_error err = {0};
    const int32_t stranger = 1 << 20;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_session *session = NULL;

        assert_int_equal(
            kvern_session_new(&session, subject->engine, subject->model, &cases[i].options, &err),
            cases[i].status);
        assert_null(session);
        printf("  %s\n", err.message);
    }
    kvern_session *session = open_session(subject, NULL);
    append(session, 0, 20);
    assert_int_equal(kvern_session_append(session, &stranger, 1, &answer, &err), KVERN_INVALID);
    answer = append(session, 20, 40);
    assert_int_equal(answer.context_length, 40);
    kvern_session_free(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_add_up_and_reset_forgets),
        cmocka_unit_test(rewinding_gives_the_state_of_then),
        cmocka_unit_test(forks_go_their_own_ways),
        cmocka_unit_test(windows_slide_by_position),
        cmocka_unit_test(policies_at_the_limit),
        cmocka_unit_test(generating_continues_the_session),
        cmocka_unit_test(a_cancelled_append_leaves_no_trace),
        cmocka_unit_test(what_a_session_cannot_do_is_refused),
    };

    return cmocka_run_group_tests(tests, open_subjects, close_subjects);
}
