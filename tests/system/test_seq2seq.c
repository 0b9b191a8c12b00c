/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiny T5 models of each variant, converted, against what transformers gave for them
 * (tests/golden/make_t5.py): encoder rows, logits, greedy answers; and one request's bytes whatever
 * runs beside it and however its engine is made.
 */
#include "test.h"

#include "system/support_models.h"
#include "system/support_t5.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const variants[] = {"t5", "t5-v1.1", "mt5", "codet5", "codet5p"};

enum { N_COPIES = 2, MAX_TOGETHER = N_COPIES * T5_MAX_INPUTS };

static void encoder_rows_are_the_goldens(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(variants); v++) {
        kvern_model *model = t5_open(variants[v], "f32");
        struct t5_golden golden = t5_golden_read(variants[v]);
        double worst = t5_encoder_gap(model, &golden);

        printf("  %s: encoder rows within %.2g of their range\n", variants[v], worst);
        assert_true(worst < 2e-5);
        t5_golden_clear(&golden);
        kvern_model_close(model);
    }
}

static void logits_and_greedy_answers_are_the_goldens(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(variants); v++) {
        kvern_model *model = t5_open(variants[v], "f32");
        kvern_engine *engine = open_test_engine(model, 1, 0, "f32");
        struct t5_golden golden = t5_golden_read(variants[v]);
        double worst = t5_logits_gap(engine, &golden);

        printf("  %s: logits within %.2g of their range\n", variants[v], worst);
        assert_true(worst < 2e-5);
        t5_check_greedy(engine, variants[v], &golden);
        t5_golden_clear(&golden);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
}

/* In 8 bit: the best token, where it leads, at every teacher-forced position. Random weights attend
 * so sharply that 8 bits move logits by 2 to 6 % of their range at the median; a lead that two such
 * moves take is a tie. */
static void eight_bits_choose_as_f32_does(void **state)
{
    struct t5_agreement all[] = {{.lead = 0.01}, {.lead = 0.07}, {.lead = 0.12}};

    (void)state;
    for (size_t v = 0; v < COUNT(variants); v++) {
        struct t5_agreement own[] = {{.lead = 0.01}, {.lead = 0.07}, {.lead = 0.12}};
        kvern_model *model = t5_open(variants[v], "q8");
        kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
        struct t5_golden golden = t5_golden_read(variants[v]);

        t5_count_agreement(engine, &golden, own, COUNT(own));
        printf("  %s in q8: the best token is that of f32 in", variants[v]);
        for (size_t k = 0; k < COUNT(own); k++) {
            printf("%s %zu of %zu that lead by %.0f %% of the range", k ? "," : "", own[k].n_same,
                   own[k].n, 100 * own[k].lead);
            all[k].n += own[k].n;
            all[k].n_same += own[k].n_same;
        }
        printf("\n");
        t5_golden_clear(&golden);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
    assert_true(all[0].n > 1000 && all[2].n > 80);
    assert_true(100 * all[0].n_same >= 80 * all[0].n);
    assert_true(100 * all[1].n_same >= 95 * all[1].n);
    assert_true(100 * all[2].n_same >= 99 * all[2].n);
}

static void submit_all(kvern_engine *engine, const struct t5_golden *golden, size_t n,
                       struct t5_seen *seen)
{
    kvern_request *requests[MAX_TOGETHER];

    for (size_t k = 0; k < n; k++) {
        seen[k] = t5_seen_new(golden);
        requests[k] =
            t5_submit(engine, &golden->inputs[k % golden->n_inputs], NULL, 0, T5_STEPS, &seen[k]);
    }
    for (size_t k = 0; k < n; k++)
        finish_request(requests[k], NULL, 0);
}

/* Gives how many sequences were computed anew. */
static int64_t check_bytes(const char *variant, const char *kv_type)
{
    static const struct {
        int32_t n_threads, step_tokens, max_sequences;
        size_t n_kv_blocks;
    } engines[] = {{1, 0, 64, 1000}, {2, 0, 64, 1000}, {2, 16, 3, 1000}, {1, 64, 64, 20}};
    struct t5_seen alone[T5_MAX_INPUTS], together[MAX_TOGETHER];
    kvern_model *model = t5_open(variant, NULL);
    struct t5_golden golden = t5_golden_read(variant);
    kvern_engine *engine = open_test_engine(model, 1, 0, kv_type);
    size_t row_bytes = T5_FORCED * golden.n_vocab * sizeof(float);
    size_t n = N_COPIES * golden.n_inputs;
    int64_t n_preempted = 0;

    for (size_t i = 0; i < golden.n_inputs; i++) {
        alone[i] = t5_seen_new(&golden);
        finish_request(t5_submit(engine, &golden.inputs[i], NULL, 0, T5_STEPS, &alone[i]), NULL, 0);
    }
    kvern_engine_close(engine);
    for (size_t e = 0; e < COUNT(engines); e++) {
        kvern_engine_options options;
        kvern_engine_stats stats;
        kvern_error err = {0};

        kvern_engine_options_init(&options);
        options.n_threads = engines[e].n_threads;
        options.step_tokens = engines[e].step_tokens;
        options.max_sequences = engines[e].max_sequences;
        options.kv_type = kv_type;
        options.kv_memory_bytes = engines[e].n_kv_blocks * t5_block_bytes(model, 2);
        if (kvern_engine_open(&engine, model, &options, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        submit_all(engine, &golden, n, together);
        for (size_t k = 0; k < n; k++) {
            assert_true(together[k].n_rows >= T5_STEPS);
            if (memcmp(alone[k % golden.n_inputs].rows, together[k].rows, row_bytes) != 0)
                fail_msg("%s, KV %s, input %zu, engine %zu: other bytes", variant, kv_type,
                         k % golden.n_inputs, e);
            free(together[k].rows);
        }
        kvern_engine_get_stats(engine, &stats);
        n_preempted += stats.n_preemptions;
        kvern_engine_close(engine);
    }
    for (size_t i = 0; i < golden.n_inputs; i++)
        free(alone[i].rows);
    t5_golden_clear(&golden);
    kvern_model_close(model);
    return n_preempted;
}

/* Alone in one engine, or all at once, some twice, in engines that step, share and give way. */
static void no_engine_changes_a_byte(void **state)
{
    static const char *const kv_types[] = {"f16", "int8"};
    int64_t n_preempted = 0;

    (void)state;
    for (size_t v = 0; v < COUNT(variants); v++) {
        for (size_t t = 0; t < COUNT(kv_types); t++)
            n_preempted += check_bytes(variants[v], kv_types[t]);
    }
    printf("  %lld sequences were computed anew on the way\n", (long long)n_preempted);
    assert_true(n_preempted > 0);
}

/* All settings of a variant at once. */
static void beams_are_the_goldens(void **state)
{
    (void)state;
    for (size_t v = 0; v < COUNT(variants); v++) {
        kvern_model *model = t5_open(variants[v], "f32");
        kvern_engine *engine = open_test_engine(model, 2, 0, "f32");
        struct t5_golden golden = t5_golden_read(variants[v]);
        double worst;
        size_t n = t5_check_beams(engine, variants[v], &golden, &worst);

        printf("  %s: %zu searches, scores within %.2g\n", variants[v], n, worst);
        assert_true(n >= 20);
        assert_true(worst < 1e-3);
        t5_golden_clear(&golden);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
}

/* What an encoder-decoder cannot do is refused by name. */
static void what_it_cannot_do_is_told(void **state)
{
    kvern_model *model = t5_open("t5", "q8");
    kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
    int32_t ids[600];

    (void)state;
    for (size_t i = 0; i < COUNT(ids); i++)
        ids[i] = 5;
    for (int what = 0; what < 6; what++) {
        static const struct {
            kvern_status status;
            const char *words;
        } expected[] = {{KVERN_UNSUPPORTED, "it embeds no texts"},
                        {KVERN_UNSUPPORTED, "no scores of its source"},
                        {KVERN_UNSUPPORTED, "keeps no conversations"},
                        {KVERN_UNSUPPORTED, "no window that slides"},
                        {KVERN_LIMIT, "600 tokens, over the model's limit of 512"},
                        {KVERN_INVALID, "decoder_prompt token 0 is -4"}};
        static const int32_t bad[] = {-4};
        kvern_request_options options;
        kvern_request *request = NULL;
        kvern_error err = {0};

        kvern_request_options_init(&options);
        options.prompt = ids;
        options.n_prompt = what == 4 ? 600 : 20;
        options.embed = what == 0;
        options.score_prompt = what == 1;
        options.conversation = what == 2 ? 7 : 0;
        options.window = what == 3 ? 64 : 0;
        options.decoder_prompt = what == 5 ? bad : NULL;
        options.n_decoder_prompt = what == 5;
        assert_int_equal(kvern_submit(engine, &options, &request, &err), expected[what].status);
        if (!strstr(err.message, expected[what].words))
            fail_msg("%s", err.message);
    }
    kvern_engine_close(engine);
    kvern_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoder_rows_are_the_goldens),
        cmocka_unit_test(logits_and_greedy_answers_are_the_goldens),
        cmocka_unit_test(eight_bits_choose_as_f32_does),
        cmocka_unit_test(no_engine_changes_a_byte),
        cmocka_unit_test(beams_are_the_goldens),
        cmocka_unit_test(what_it_cannot_do_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
