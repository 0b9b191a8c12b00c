/* SPDX-License-Identifier: Apache-2.0
 *
 * CodeT5-small's exact shape with seeded random weights (240 MB, computed by the test) against what
 * transformers gave for it: encoder rows, logits, greedy answers and beams in f32, and how often
 * 8-bit weights choose the same token.
 */
#include "test.h"

#include "system/support_models.h"
#include "system/support_t5.h"

#include <stdbool.h>
#include <stdio.h>

static const char variant[] = "codet5-small";

/* Under ASan it takes minutes and meets no code that the tiny variants do not. */
#ifdef __SANITIZE_ADDRESS__
static const bool is_sanitized = true;
#else
static const bool is_sanitized = false;
#endif

static void f32_gives_the_goldens(void **state)
{
    kvern_model *model = t5_open(variant, "f32");
    kvern_engine *engine = open_test_engine(model, 2, 0, "f32");
    struct t5_golden golden = t5_golden_read(variant);
    double encoder_gap = t5_encoder_gap(model, &golden);
    double logits_gap = t5_logits_gap(engine, &golden);
    double score_gap;

    (void)state;
    printf("  encoder rows within %.2g of their range, logits within %.2g\n", encoder_gap,
           logits_gap);
    assert_true(encoder_gap < 1e-4 && logits_gap < 1e-4);
    t5_check_greedy(engine, variant, &golden);
    size_t n = t5_check_beams(engine, variant, &golden, &score_gap);

    printf("  %zu searches, scores within %.2g\n", n, score_gap);
    assert_true(n >= 3);
    assert_true(score_gap < 1e-3);
    t5_golden_clear(&golden);
    kvern_engine_close(engine);
    kvern_model_close(model);
}

/* 8 bits move logits by about 1 % of their range; a lead that two such moves take is a tie. */
static void eight_bits_choose_as_f32_does(void **state)
{
    struct t5_agreement agreements[] = {
        {.lead = 0}, {.lead = 0.01}, {.lead = 0.02}, {.lead = 0.03}};
    kvern_model *model = t5_open(variant, "q8");
    kvern_engine *engine = open_test_engine(model, 2, 0, NULL);
    struct t5_golden golden = t5_golden_read(variant);

    (void)state;
    t5_count_agreement(engine, &golden, agreements, COUNT(agreements));
    for (size_t k = 0; k < COUNT(agreements); k++)
        printf("  q8: %zu of %zu best tokens that lead by %.1f %% of the range are those of f32\n",
               agreements[k].n_same, agreements[k].n, 100 * agreements[k].lead);
    assert_true(agreements[3].n > 80);
    assert_true(100 * agreements[1].n_same >= 95 * agreements[1].n);
    assert_true(100 * agreements[3].n_same >= 99 * agreements[3].n);
    t5_golden_clear(&golden);
    kvern_engine_close(engine);
    kvern_model_close(model);
}

int main(void)
{
    if (is_sanitized) {
        printf("passed over under ASan\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_gives_the_goldens),
        cmocka_unit_test(eight_bits_choose_as_f32_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
