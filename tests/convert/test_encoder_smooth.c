/* SPDX-License-Identifier: Apache-2.0
 *
 * encoder_smooth: a channel that a norm makes large gets a large scale, which forms of weight get
 * scales at all, the same scales every time, and no memory or a value that is not finite.
 */
#include "convert/encoder_smooth.h"

#include "test.h"

#include "base/file.h"
#include "base/memory.h"
#include "support/scratch.h"
#include "support/tiny_checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_LAYERS = 2, HIDDEN = 96, LARGE = 37 };

static char *source;
static struct checkpoint checkpoint;

static int set_up(void **state)
{
    struct tiny_options options = tiny_options("bert");

    if (scratch_make(state) != 0)
        return -1;
    source = scratch_path("checkpoint");
    tiny_checkpoint_write(source, &options);
    return checkpoint_open(&checkpoint, source, NULL) == KVERN_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    checkpoint_close(&checkpoint);
    free(source);
    return scratch_remove(state);
}

static struct encoder_plan make_plan(enum weights_choice choice)
{
    struct encoder_plan plan;
    kvern_error err = {0};

    if (encoder_plan_make(&plan, &checkpoint, choice, choice, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return plan;
}

static struct encoder_smooth make_smooth(const struct encoder_plan *plan)
{
    struct encoder_smooth smooth;
    kvern_error err = {0};

    if (encoder_smooth_make(&smooth, plan, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return smooth;
}

static struct tensor vector_of(const float *values)
{
    return (struct tensor){.name = (char *)"test.gamma",
                           .type = TENSOR_F32,
                           .n_dims = 1,
                           .dims = {HIDDEN},
                           .data = (const uint8_t *)values,
                           .n_bytes = HIDDEN * sizeof *values};
}

static void every_norm_but_the_last_has_scales(void **state)
{
    struct encoder_plan plan = make_plan(WEIGHTS_Q8);
    struct encoder_smooth smooth = make_smooth(&plan);
    struct encoder_smooth again = make_smooth(&plan);

    (void)state;
    for (size_t norm = 0; norm < 2 * (size_t)N_LAYERS; norm++) {
        const float *scales = encoder_smooth_of(&smooth, norm, N_LAYERS);

        assert_non_null(scales);
        for (size_t i = 0; i < HIDDEN; i++)
            assert_true(scales[i] > 0.03F && scales[i] < 10.0F);
        assert_memory_equal(scales, encoder_smooth_of(&again, norm, N_LAYERS),
                            HIDDEN * sizeof *scales);
    }
    assert_null(encoder_smooth_of(&smooth, 2 * (size_t)N_LAYERS, N_LAYERS));
    encoder_smooth_clear(&smooth);
    encoder_smooth_clear(&again);
    encoder_smooth_clear(NULL);
    encoder_plan_clear(&plan);
}

/* With gamma[i] = 1 and beta = 0 a norm's channels have sizes near 1; one of gamma 25 near 25, and
 * one of gamma 0 is not divided by 0. The scales are the square roots. */
static void a_large_channel_has_a_large_scale(void **state)
{
    float gamma[HIDDEN], zeros[HIDDEN] = {0};
    struct tensor gamma_tensor = vector_of(gamma), beta_tensor = vector_of(zeros);

    (void)state;
    for (size_t i = 0; i < HIDDEN; i++)
        gamma[i] = i == LARGE ? 25.0F : i == LARGE + 1 ? 0.0F : 1.0F;
    for (size_t norm = 0; norm < 2 * (size_t)N_LAYERS; norm++) {
        struct encoder_plan plan = make_plan(WEIGHTS_Q8);
        struct encoder_layer *layer = &plan.layers[norm < 3 ? 0 : 1];
        struct norm_plan *changed = norm == 0   ? &plan.embedding_norm
                                    : norm == 2 ? &layer->output_norm
                                                : &layer->attention_norm;

        changed->gamma = &gamma_tensor;
        changed->beta = &beta_tensor;
        struct encoder_smooth smooth = make_smooth(&plan);
        const float *scales = encoder_smooth_of(&smooth, norm, N_LAYERS);

        for (size_t i = 0; i < HIDDEN; i++) {
            float low = i == LARGE ? 3.5F : i == LARGE + 1 ? 0.03F : 0.4F;
            float high = i == LARGE ? 7.0F : i == LARGE + 1 ? 0.04F : 2.0F;

            if (!(scales[i] > low && scales[i] < high))
                fail_msg("norm %zu: scale %zu is %g, outside %g to %g", norm, i, (double)scales[i],
                         (double)low, (double)high);
        }
        encoder_smooth_clear(&smooth);
        encoder_plan_clear(&plan);
    }
}

static void only_8_bit_of_floats_is_smoothed(void **state)
{
    static const enum weights_choice others[] = {WEIGHTS_F32, WEIGHTS_Q4};
    struct tensor integers;

    (void)state;
    for (size_t i = 0; i < COUNT(others); i++) {
        struct encoder_plan plan = make_plan(others[i]);
        struct encoder_smooth smooth = make_smooth(&plan);

        assert_null(encoder_smooth_of(&smooth, 0, N_LAYERS));
        encoder_plan_clear(&plan);
    }
    struct encoder_plan plan = make_plan(WEIGHTS_Q8);
    integers = *plan.layers[1].up.weight.parts[0];
    integers.type = TENSOR_Q8_0;
    plan.layers[1].up.weight.parts[0] = &integers;
    struct encoder_smooth smooth = make_smooth(&plan);
    assert_null(encoder_smooth_of(&smooth, 0, N_LAYERS));
    encoder_plan_clear(&plan);
}

/* No scales: the writer of the norm will name it. */
static void values_that_are_not_finite(void **state)
{
    float gamma[HIDDEN] = {NAN};
    struct tensor gamma_tensor = vector_of(gamma);
    struct encoder_plan plan = make_plan(WEIGHTS_Q8);

    (void)state;
    plan.layers[0].attention_norm.gamma = &gamma_tensor;
    struct encoder_smooth smooth = make_smooth(&plan);
    assert_null(encoder_smooth_of(&smooth, 0, N_LAYERS));
    encoder_plan_clear(&plan);
}

static void no_memory_is_an_error(void **state)
{
    struct encoder_plan plan = make_plan(WEIGHTS_Q8);
    struct encoder_smooth smooth;
    int64_t n = 0;
    kvern_error err = {0};

    (void)state;
    memory_fail_after(n);
    for (; encoder_smooth_make(&smooth, &plan, &err) != KVERN_OK; memory_fail_after(++n)) {
        assert_int_equal(err.status, KVERN_MEMORY);
        assert_null(encoder_smooth_of(&smooth, 0, N_LAYERS));
    }
    memory_fail_after(-1);
    assert_true(n > 10);
    assert_non_null(encoder_smooth_of(&smooth, 0, N_LAYERS));
    encoder_smooth_clear(&smooth);
    encoder_plan_clear(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_norm_but_the_last_has_scales),
        cmocka_unit_test(a_large_channel_has_a_large_scale),
        cmocka_unit_test(only_8_bit_of_floats_is_smoothed),
        cmocka_unit_test(values_that_are_not_finite),
        cmocka_unit_test(no_memory_is_an_error),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
