/* SPDX-License-Identifier: Apache-2.0
 *
 * Which tensors an encoder-decoder's plan takes and how wide each matrix becomes, the bias table
 * over distances, and that a tensor that is missing or has no place is named.
 */
#include "support/scratch.h"
#include "test.h"

#include "convert/seq2seq_plan.h"
#include "convert/support_seeded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct checkpoint open_golden(const char *variant)
{
    char source[256];
    char *path;
    struct checkpoint checkpoint;
    kvern_error err = {0};

    snprintf(source, sizeof source, "%s/tests/golden/t5/%s", KVERN_SOURCE_DIR, variant);
    path = seeded_checkpoint(source);
    if (checkpoint_open(&checkpoint, path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    free(path);
    return checkpoint;
}

static struct seq2seq_plan make_plan(const struct checkpoint *checkpoint,
                                     enum weights_choice weights)
{
    struct seq2seq_plan plan;
    kvern_error err = {0};

    if (seq2seq_plan_make(&plan, checkpoint, weights, weights, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return plan;
}

static void assert_weight(const struct linear_plan *linear, size_t n_parts, size_t n, size_t k,
                          const char *first)
{
    assert_int_equal(linear->weight.n_parts, n_parts);
    assert_int_equal(linear->weight.n, n);
    assert_int_equal(linear->weight.k, k);
    assert_string_equal(linear->weight.parts[0]->name, first);
    assert_null(linear->biases[0]);
}

static void every_variant_is_found(void **state)
{
    static const struct {
        const char *variant;
        size_t hidden, heads, inner, vocabulary;
        bool is_gated, is_tied;
    } cases[] = {
        {"t5", 64, 32, 96, 256, false, true},      {"t5-v1.1", 32, 64, 96, 320, true, false},
        {"mt5", 64, 32, 64, 160, true, false},     {"codet5", 32, 32, 32, 288, false, true},
        {"codet5p", 64, 32, 96, 320, false, true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct checkpoint checkpoint = open_golden(cases[i].variant);
        struct seq2seq_plan plan = make_plan(&checkpoint, WEIGHTS_KEEP);
        size_t hidden = cases[i].hidden, heads = cases[i].heads, inner = cases[i].inner;
        const struct seq2seq_layer *first = &plan.encoder.layers[0];
        const struct seq2seq_layer *second = &plan.decoder.layers[1];

        assert_int_equal(plan.embedding.n, cases[i].vocabulary);
        assert_int_equal(plan.lm_head.n, cases[i].is_tied ? 0 : cases[i].vocabulary);
        assert_int_equal(plan.encoder.n_layers, 2);
        assert_int_equal(plan.decoder.n_layers, 2);
        assert_weight(&first->qkv, 3, 3 * heads, hidden,
                      "encoder.block.0.layer.0.SelfAttention.q.weight");
        assert_null(first->cross_norm);
        assert_weight(&first->down, 1, hidden, inner,
                      "encoder.block.0.layer.1.DenseReluDense.wo.weight");
        assert_weight(&second->o, 1, hidden, heads,
                      "decoder.block.1.layer.0.SelfAttention.o.weight");
        assert_weight(&second->cross_kv, 2, 2 * heads, hidden,
                      "decoder.block.1.layer.1.EncDecAttention.k.weight");
        assert_weight(&second->up, cases[i].is_gated ? 2 : 1, (cases[i].is_gated ? 2 : 1) * inner,
                      hidden,
                      cases[i].is_gated ? "decoder.block.1.layer.2.DenseReluDense.wi_0.weight"
                                        : "decoder.block.1.layer.2.DenseReluDense.wi.weight");
        assert_string_equal(plan.decoder.final_norm->name, "decoder.final_layer_norm.weight");
        assert_string_equal(plan.weights, "q8");
        seq2seq_plan_clear(&plan);
        checkpoint_close(&checkpoint);
    }
}

/* Where the feed-forward narrows again, 8 bit is the least. */
static void widths(void **state)
{
    static const struct {
        enum weights_choice weights;
        int bits, bits_of_down;
        const char *name;
    } cases[] = {{WEIGHTS_KEEP, 8, 8, "q8"},
                 {WEIGHTS_Q4, 4, 8, "mixed"},
                 {WEIGHTS_Q8, 8, 8, "q8"},
                 {WEIGHTS_F32, 32, 32, "f32"}};
    struct checkpoint checkpoint = open_golden("t5");

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct seq2seq_plan plan = make_plan(&checkpoint, cases[i].weights);
        const struct seq2seq_layer *layer = &plan.decoder.layers[0];

        assert_int_equal(layer->qkv.weight.bits, cases[i].bits);
        assert_int_equal(layer->cross_kv.weight.bits, cases[i].bits);
        assert_int_equal(layer->up.weight.bits, cases[i].bits);
        assert_int_equal(layer->down.weight.bits, cases[i].bits_of_down);
        assert_string_equal(plan.weights, cases[i].name);
        seq2seq_plan_clear(&plan);
    }
    checkpoint_close(&checkpoint);
}

/* Of 32 buckets and a reach of 128, as transformers' _relative_position_bucket gives them. */
static void distances_have_buckets(void **state)
{
    static const struct {
        ptrdiff_t distance;
        size_t of_encoder, of_decoder;
    } cases[] = {{0, 0, 0},      {-1, 1, 1},     {-7, 7, 7},    {-8, 8, 8},    {-12, 9, 12},
                 {-15, 9, 15},   {-16, 10, 16},  {-32, 12, 21}, {-64, 14, 26}, {-127, 15, 31},
                 {-128, 15, 31}, {-500, 15, 31}, {1, 17, 0},    {7, 23, 0},    {8, 24, 0},
                 {16, 26, 0},    {64, 30, 0},    {128, 31, 0},  {500, 31, 0}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t of_encoder = relative_bucket(cases[i].distance, false, 32, 128);
        size_t of_decoder = relative_bucket(cases[i].distance, true, 32, 128);

        if (of_encoder != cases[i].of_encoder || of_decoder != cases[i].of_decoder)
            fail_msg("distance %td: buckets %zu and %zu", cases[i].distance, of_encoder,
                     of_decoder);
    }
}

static void the_bias_is_of_distances(void **state)
{
    static const ptrdiff_t distances[] = {-128, -20, -1, 0, 1, 20, 128};
    struct checkpoint checkpoint = open_golden("t5");
    struct seq2seq_plan plan = make_plan(&checkpoint, WEIGHTS_F32);
    const struct tensor *weight = checkpoint_find(
        &checkpoint, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    float row[2];

    (void)state;
    assert_non_null(weight);
    for (size_t i = 0; i < COUNT(distances); i++) {
        tensor_read_row(weight, relative_bucket(distances[i], false, 32, 128), row);
        for (size_t head = 0; head < 2; head++)
            assert_true(plan.encoder.bias[head * 257 + (size_t)(distances[i] + 128)] == row[head]);
    }
    seq2seq_plan_clear(&plan);
    checkpoint_close(&checkpoint);
}

/* A name in the header is spelled otherwise. */
static void what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"encoder.block.1.layer.0.SelfAttention.k.w", "encoder.block.1.layer.0.SelfAttention.x.w",
         "encoder.block.1.layer.0.SelfAttention.k.weight"},
        {"decoder.block.0.layer.1.layer_norm.w", "decoder.block.0.layer.1.layer_norm.x",
         "decoder.block.0.layer.1.layer_norm.weight"},
        {"encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
         "encoder.block.0.layer.0.SelfAttention.relative_attention_bios",
         "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
        {"decoder.final_layer_norm", "decoder.final_layer_nose", "decoder.final_layer_norm.weight"},
    };
    char *source = seeded_checkpoint(KVERN_SOURCE_DIR "/tests/golden/t5/t5");

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *target = scratch_path("t5"), *path, *bytes = NULL, *found;
        size_t n_bytes = 0;
        struct checkpoint checkpoint;
        struct seq2seq_plan plan;
        kvern_error err = {0};

        seeded_copy(source, target);
        path = path_join(target, "model.safetensors");
        assert_int_equal(file_read(path, 1 << 22, &bytes, &n_bytes, &err), KVERN_OK);
        found = memmem(bytes, n_bytes, cases[i].from, strlen(cases[i].from));
        assert_non_null(found);
        memcpy(found, cases[i].to, strlen(cases[i].to));
        scratch_put("t5/model.safetensors", bytes, n_bytes);
        assert_int_equal(checkpoint_open(&checkpoint, target, &err), KVERN_OK);
        assert_true(seq2seq_plan_make(&plan, &checkpoint, WEIGHTS_Q8, WEIGHTS_Q8, &err) !=
                    KVERN_OK);
        if (!strstr(err.message, cases[i].message))
            fail_msg("case %zu: %s", i, err.message);
        checkpoint_close(&checkpoint);
        free(bytes);
        free(path);
        free(target);
        scratch_empty();
    }
    free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant_is_found), cmocka_unit_test(widths),
        cmocka_unit_test(distances_have_buckets), cmocka_unit_test(the_bias_is_of_distances),
        cmocka_unit_test(what_is_wrong_is_named),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
