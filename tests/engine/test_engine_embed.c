/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests that embed, over the fake runner: vectors do not depend on chunks or neighbours, cancel
 * and failure end them alone, and a runner without a KV cache gets its texts whole.
 */
#include "support_rig.h"

#include "test.h"

#include "engine/pooling.h"
#include "model/model.h"

#include <sched.h>
#include <string.h>

enum { N_TEXTS = 20 };

static size_t make_text(unsigned seed, int32_t *text)
{
    size_t n = 1 + seed * 53 % 140;

    for (size_t i = 0; i < n; i++)
        text[i] = (int32_t)((seed * 7 + i * 29 + i * i) % 256);
    return n;
}

/* The vector of a text by the rule, rows one after the other. */
static size_t expect(const int32_t *text, size_t n, kvern_pooling kind, float *values)
{
    bool reads_logits = pooling_reads_logits(kind);
    size_t row_size = reads_logits ? FAKE_VOCAB : FAKE_HIDDEN;
    struct pooling pooling;

    assert_int_equal(pooling_init(&pooling, kind, row_size, NULL), KVERN_OK);
    for (size_t i = 0; i < n; i++) {
        float row[FAKE_VOCAB];

        if (reads_logits)
            fake_logits(text, i + 1, row);
        else
            fake_hidden(text, i + 1, row);
        pooling_add(&pooling, row, 1, row_size);
    }
    assert_int_equal(pooling_finish(&pooling, NULL), KVERN_OK);
    memcpy(values, pooling.values, row_size * sizeof *values);
    pooling_clear(&pooling);
    return row_size;
}

static kvern_request_options embed_options(const int32_t *text, size_t n, kvern_pooling pooling)
{
    kvern_request_options options;

    kvern_request_options_init(&options);
    options.prompt = text;
    options.n_prompt = n;
    options.embed = true;
    options.pooling = pooling;
    return options;
}

static void check_vector(kvern_request *request, const int32_t *text, size_t n, kvern_pooling kind)
{
    float values[FAKE_VOCAB];
    size_t n_values = expect(text, n, kind, values);
    kvern_event last;

    assert_int_equal(rig_finish(request, NULL, 0, &last), 0);
    assert_int_equal(last.finish, KVERN_FINISH_STOP);
    assert_int_equal(last.n_prompt_tokens, n);
    assert_int_equal(last.n_completion_tokens, 0);
    assert_int_equal(last.n_embedding, n_values);
    assert_memory_equal(last.embedding, values, n_values * sizeof *values);
    kvern_request_free(request);
}

static const struct {
    size_t n_kv_blocks; /* 0: an encoder */
    bool has_fixed_chunks;
    struct engine_limits limits;
} engines[] = {
    {64, false, {.max_sequences = 8}},
    {64, false, {.max_sequences = 8, .prefill_chunk = 7}},
    {64, false, {.max_sequences = 3, .step_tokens = 5}},
    {64, true, {.max_sequences = 8, .prefill_chunk = 16}},
    {64, true, {.max_sequences = 8, .prefill_chunk = 64, .step_tokens = 20}},
    {0, false, {.max_sequences = 8, .max_context = 140}},
    {0, false, {.max_sequences = 8, .max_context = 140, .step_tokens = 10}},
};

static void vectors_do_not_depend_on_chunks_or_neighbours(void **state)
{
    static const kvern_pooling kinds[] = {KVERN_POOLING_LAST, KVERN_POOLING_MEAN, KVERN_POOLING_CLS,
                                          KVERN_POOLING_LOGITS512};
    static int32_t texts[N_TEXTS][140];

    (void)state;
    for (size_t e = 0; e < COUNT(engines); e++) {
        struct rig rig;
        struct fake_runner *fake = fake_runner_new(engines[e].n_kv_blocks);
        kvern_request *requests[N_TEXTS];
        kvern_request *beside = NULL;
        size_t n_kinds = engines[e].n_kv_blocks ? COUNT(kinds) : COUNT(kinds) - 1;
        size_t lengths[N_TEXTS];

        fake->runner.has_fixed_chunks = engines[e].has_fixed_chunks;
        rig_open(&rig, fake, engines[e].limits);
        if (engines[e].n_kv_blocks) { /* one that generates meanwhile */
            kvern_request_options options;

            make_text(2, texts[0]);
            kvern_request_options_init(&options);
            options.prompt = texts[0];
            options.n_prompt = 9;
            options.max_tokens = 90;
            beside = rig_submit(&rig, &options);
        }
        for (unsigned i = 0; i < N_TEXTS; i++) {
            lengths[i] = make_text(i, texts[i]);
            kvern_request_options options = embed_options(texts[i], lengths[i], kinds[i % n_kinds]);
            requests[i] = rig_submit(&rig, &options);
        }
        for (unsigned i = 0; i < N_TEXTS; i++)
            check_vector(requests[i], texts[i], lengths[i], kinds[i % n_kinds]);
        kvern_request_free(beside);
        rig_close(&rig, 0);
    }
}

static void failures_stay_alone(void **state)
{
    static const struct {
        int32_t token;
        kvern_pooling pooling;
        const char *message; /* NULL: it goes well */
    } cases[] = {
        {FAKE_POISON, KVERN_POOLING_MEAN, "token 298 is poison"},
        {FAKE_NAN, KVERN_POOLING_MEAN, "value 1 of the embedding is not finite"},
        {FAKE_NAN, KVERN_POOLING_LAST, "value 1 of the embedding is not finite"},
        {FAKE_NAN, KVERN_POOLING_LOGITS512, "value 5 of the embedding is not finite"},
        {FAKE_NAN, KVERN_POOLING_CLS, NULL}, /* the first token's is fine */
    };

    (void)state;
    for (size_t c = 0; c < COUNT(cases); c++) {
        struct rig rig;
        const int32_t bad[] = {1, 2, cases[c].token};
        int32_t good[140];
        size_t n = make_text(5, good);
        const kvern_request_options options[] = {
            embed_options(good, n, KVERN_POOLING_MEAN),
            embed_options(bad, COUNT(bad), cases[c].pooling),
        };
        kvern_request *requests[6];

        rig_open(&rig, fake_runner_new(64), (struct engine_limits){.max_sequences = 8});
        atomic_store(&rig.fake->n_gates, 0);
        for (size_t i = 0; i < COUNT(requests); i++)
            requests[i] = rig_submit(&rig, &options[i % 2]);
        atomic_store(&rig.fake->n_gates, -1);
        for (size_t i = 0; i < COUNT(requests); i++) {
            kvern_event last;

            if (i % 2 == 0 || !cases[c].message) {
                check_vector(requests[i], options[i % 2].prompt, options[i % 2].n_prompt,
                             options[i % 2].pooling);
                continue;
            }
            rig_finish(requests[i], NULL, 0, &last);
            assert_int_equal(last.finish, KVERN_FINISH_ERROR);
            assert_int_equal(last.error.status, KVERN_RUNTIME);
            assert_string_equal(last.error.message, cases[c].message);
            assert_null(last.embedding);
            kvern_request_free(requests[i]);
        }
        rig_close(&rig, 0);
    }
}

static void cancelling_ends_it_between_two_steps(void **state)
{
    struct rig rig;
    int32_t text[140];
    size_t n = make_text(18, text);
    const kvern_request_options options = embed_options(text, n, KVERN_POOLING_MEAN);
    kvern_event last;

    (void)state;
    assert_true(n > 8 * 10);
    rig_open(&rig, fake_runner_new(64),
             (struct engine_limits){.max_sequences = 2, .prefill_chunk = 8});
    atomic_store(&rig.fake->n_gates, 3);
    kvern_request *victim = rig_submit(&rig, &options);
    kvern_request *other = rig_submit(&rig, &options);
    while (atomic_load(&rig.fake->n_runs) < 3)
        sched_yield();
    kvern_request_cancel(victim);
    atomic_store(&rig.fake->n_gates, -1);
    rig_finish(victim, NULL, 0, &last);
    assert_int_equal(last.finish, KVERN_FINISH_CANCELLED);
    assert_null(last.embedding);
    kvern_request_free(victim);
    check_vector(other, text, n, KVERN_POOLING_MEAN);
    rig_close(&rig, 0);
}

static void what_a_runner_cannot_do_is_refused(void **state)
{
    int32_t text[200] = {0};
    const struct {
        size_t n_kv_blocks, hidden_size;
        bool pools_itself;
        kvern_request_options options;
        kvern_status status;
        const char *names;
    } cases[] = {
        {0, FAKE_HIDDEN, false, embed_options(text, 5, KVERN_POOLING_LOGITS512), KVERN_UNSUPPORTED,
         "needs logits"},
        {0, FAKE_HIDDEN, true, embed_options(text, 5, KVERN_POOLING_MEAN), KVERN_UNSUPPORTED,
         "pools by itself"},
        {0, FAKE_HIDDEN, false, embed_options(text, 141, KVERN_POOLING_MEAN), KVERN_LIMIT,
         "context limit of 140"},
        {0,
         FAKE_HIDDEN,
         false,
         {.prompt = text, .n_prompt = 5, .sampling = {.top_p = 1}},
         KVERN_UNSUPPORTED,
         "an encoder"},
        {64, 0, false, embed_options(text, 5, KVERN_POOLING_LAST), KVERN_UNSUPPORTED,
         "use logits512"},
        {64, 0, false, embed_options(text, 5, KVERN_POOLING_MEAN), KVERN_UNSUPPORTED,
         "pooling mean needs hidden states"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct fake_runner *fake = fake_runner_new(cases[i].n_kv_blocks);
        kvern_request *request = NULL;
        kvern_error err = {0};
        struct rig rig;

        fake->runner.hidden_size = cases[i].hidden_size;
        fake->runner.pools_itself = cases[i].pools_itself;
        rig_open(&rig, fake, (struct engine_limits){.max_context = 140});
        assert_int_equal(kvern_submit(rig.engine, &cases[i].options, &request, &err),
                         cases[i].status);
        if (!strstr(err.message, cases[i].names))
            fail_msg("case %zu says: %s", i, err.message);
        rig_close(&rig, 0);
    }
}

/* What a window would cut in the middle of a text is refused before anything runs. */
static void a_window_that_cannot_slide_is_refused_at_submit(void **state)
{
    static const struct {
        bool keeps_positions, has_rigid_kv;
        kvern_status status;
        const char *names;
    } cases[] = {
        {true, false, KVERN_OK, ""},
        {false, false, KVERN_UNSUPPORTED, "position_ids"},
        {true, true, KVERN_UNSUPPORTED, "on a device"},
    };
    int32_t text[140];
    size_t n = make_text(18, text);
    kvern_request_options options = embed_options(text, n, KVERN_POOLING_LAST);

    (void)state;
    options.window = 32;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct fake_runner *fake = fake_runner_new(64);
        struct kvern_model model = {.manifest = {.contract = "cached"}};
        kvern_session_options session_options;
        kvern_session *session = NULL;
        kvern_request *request = NULL;
        kvern_error err = {0}, session_err = {0};
        struct rig rig;

        fake->keeps_values = fake->is_rigid = cases[i].has_rigid_kv;
        fake->runner.has_rigid_kv = cases[i].has_rigid_kv;
        fake->runner.keeps_positions = cases[i].keeps_positions;
        rig_open(&rig, fake, (struct engine_limits){.prefill_chunk = 8});
        assert_int_equal(kvern_submit(rig.engine, &options, &request, &err), cases[i].status);
        kvern_session_options_init(&session_options);
        session_options.policy = KVERN_WINDOW_SLIDING;
        assert_int_equal(
            kvern_session_new(&session, rig.engine, &model, &session_options, &session_err),
            cases[i].status);
        if (!strstr(err.message, cases[i].names) || strcmp(err.message, session_err.message) != 0)
            fail_msg("case %zu says: %s / %s", i, err.message, session_err.message);
        assert_int_equal(atomic_load(&fake->n_bad_reads), 0);
        kvern_session_free(session);
        kvern_request_free(request);
        rig_close(&rig, 0);
    }
}

/* There is nothing to keep of a conversation with an encoder: every text runs whole. */
static void an_encoder_keeps_nothing(void **state)
{
    struct rig rig;
    int32_t text[140];
    size_t n = make_text(7, text);
    kvern_request_options options = embed_options(text, n, KVERN_POOLING_LAST);

    (void)state;
    options.conversation = 5;
    rig_open(&rig, fake_runner_new(0), (struct engine_limits){.max_context = 140});
    for (size_t i = 0; i < 3; i++)
        check_vector(rig_submit(&rig, &options), text, n, KVERN_POOLING_LAST);
    rig_close(&rig, 0);
}

/* A vector and scores of the prompt are two requests. */
static void an_embedding_scores_nothing(void **state)
{
    struct rig rig;
    int32_t text[140];
    size_t n = make_text(7, text);
    kvern_request_options options = embed_options(text, n, KVERN_POOLING_LAST);
    kvern_event last;

    (void)state;
    options.score_prompt = true;
    rig_open(&rig, fake_runner_new(64), (struct engine_limits){0});
    kvern_request *request = rig_submit(&rig, &options);
    rig_finish(request, NULL, 0, &last);
    assert_int_equal(last.n_prompt_logprobs, 0);
    kvern_request_free(request);
    rig_close(&rig, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_do_not_depend_on_chunks_or_neighbours),
        cmocka_unit_test(failures_stay_alone),
        cmocka_unit_test(cancelling_ends_it_between_two_steps),
        cmocka_unit_test(what_a_runner_cannot_do_is_refused),
        cmocka_unit_test(a_window_that_cannot_slide_is_refused_at_submit),
        cmocka_unit_test(an_encoder_keeps_nothing),
        cmocka_unit_test(an_embedding_scores_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
