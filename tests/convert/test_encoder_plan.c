/* SPDX-License-Identifier: Apache-2.0
 *
 * Which tensors an encoder's plan takes, under each of the spellings checkpoints come in; what the
 * position table becomes; and that every tensor left out, of other dims, or without a place is
 * named.
 */
#include "test.h"

#include "base/file.h"
#include "convert/encoder_plan.h"
#include "ops/packed.h"
#include "support/scratch.h"
#include "support/tiny_checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *source; /* in it */

static int set_up(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    source = scratch_path("checkpoint");
    return 0;
}

static int tear_down(void **state)
{
    free(source);
    return scratch_remove(state);
}

static struct checkpoint open_tiny(const struct tiny_options *options)
{
    struct checkpoint checkpoint;
    kvern_error err = {0};

    tiny_checkpoint_write(source, options);
    if (checkpoint_open(&checkpoint, source, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return checkpoint;
}

static struct encoder_plan make_plan(const struct checkpoint *checkpoint,
                                     enum weights_choice weights, enum weights_choice table)
{
    struct encoder_plan plan;
    kvern_error err = {0};

    if (encoder_plan_make(&plan, checkpoint, weights, table, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return plan;
}

static const struct {
    const char *family;
    const char *prefix;
    bool has_old_norms;
    const char *layers;
    const char *names[8]; /* query, key, value, o, its norm, up, down, its norm */
} spellings[] = {
    {"bert",
     "",
     false,
     "encoder.layer",
     {"attention.self.query", "attention.self.key", "attention.self.value",
      "attention.output.dense", "attention.output.LayerNorm.weight", "intermediate.dense",
      "output.dense", "output.LayerNorm.weight"}},
    {"bert",
     "bert.",
     true,
     "encoder.layer",
     {"attention.self.query", "attention.self.key", "attention.self.value",
      "attention.output.dense", "attention.output.LayerNorm.gamma", "intermediate.dense",
      "output.dense", "output.LayerNorm.gamma"}},
    {"roberta",
     "roberta.",
     false,
     "encoder.layer",
     {"attention.self.query", "attention.self.key", "attention.self.value",
      "attention.output.dense", "attention.output.LayerNorm.weight", "intermediate.dense",
      "output.dense", "output.LayerNorm.weight"}},
    {"distilbert",
     "distilbert.",
     false,
     "transformer.layer",
     {"attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
      "sa_layer_norm.weight", "ffn.lin1", "ffn.lin2", "output_layer_norm.weight"}},
};

static struct tiny_options options_of(size_t spelling)
{
    struct tiny_options options = tiny_options(spellings[spelling].family);

    options.prefix = spellings[spelling].prefix;
    options.has_old_norms = spellings[spelling].has_old_norms;
    return options;
}

static void assert_name(const struct tensor *tensor, size_t spelling, size_t layer, size_t part,
                        const char *suffix)
{
    char name[160];

    snprintf(name, sizeof name, "%s%s.%zu.%s%s", spellings[spelling].prefix,
             spellings[spelling].layers, layer, spellings[spelling].names[part], suffix);
    assert_string_equal(tensor->name, name);
}

static void assert_linear(const struct linear_plan *linear, size_t spelling, size_t layer,
                          size_t first_part, size_t n_parts, size_t n, size_t k)
{
    assert_int_equal(linear->weight.n_parts, n_parts);
    assert_int_equal(linear->weight.n, n);
    assert_int_equal(linear->weight.k, k);
    for (size_t i = 0; i < n_parts; i++) {
        assert_name(linear->weight.parts[i], spelling, layer, first_part + i, ".weight");
        assert_name(linear->biases[i], spelling, layer, first_part + i, ".bias");
    }
}

/* 6 heads of 16, hidden 96, inner 160, vocabulary 100, 64 positions. */
static void every_spelling_is_found(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(spellings); s++) {
        struct tiny_options options = options_of(s);
        struct checkpoint checkpoint = open_tiny(&options);
        struct encoder_plan plan = make_plan(&checkpoint, WEIGHTS_KEEP, WEIGHTS_KEEP);

        assert_int_equal(checkpoint.config.family, FAMILY_BERT);
        assert_int_equal(checkpoint.config.max_positions, 64);
        assert_int_equal(plan.words.n, 100);
        assert_int_equal(plan.words.k, 96);
        assert_int_equal(plan.places.n, 64);
        assert_int_equal(plan.places.bits, 32);
        assert_string_equal(plan.weights, "q8");
        for (size_t i = 0; i < 2; i++) {
            const struct encoder_layer *layer = &plan.layers[i];

            assert_linear(&layer->qkv, s, i, 0, 3, 3 * 96, 96);
            assert_linear(&layer->o, s, i, 3, 1, 96, 96);
            assert_name(layer->attention_norm.gamma, s, i, 4, "");
            assert_linear(&layer->up, s, i, 5, 1, 160, 96);
            assert_linear(&layer->down, s, i, 6, 1, 96, 160);
            assert_name(layer->output_norm.gamma, s, i, 7, "");
        }
        encoder_plan_clear(&plan);
        encoder_plan_clear(&plan); /* twice is fine */
        checkpoint_close(&checkpoint);
    }
}

/* Row p of the table is the checkpoint's row of position p, which RoBERTa has two further on, plus
 * that of token type 0. */
static void places_are_positions_and_type_0(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(spellings); s++) {
        struct tiny_options options = options_of(s);
        struct checkpoint checkpoint = open_tiny(&options);
        struct encoder_plan plan = make_plan(&checkpoint, WEIGHTS_F32, WEIGHTS_F32);
        size_t first = strcmp(spellings[s].family, "roberta") ? 0 : 2;
        float position[96], type[96] = {0}, place[96];
        char name[128];

        assert_int_equal(checkpoint.config.first_position, first);
        snprintf(name, sizeof name, "%sembeddings.token_type_embeddings.weight", options.prefix);
        if (strcmp(spellings[s].family, "distilbert"))
            tensor_read_row(checkpoint_find(&checkpoint, name), 0, type);
        snprintf(name, sizeof name, "%sembeddings.position_embeddings.weight", options.prefix);
        for (size_t i = 0; i < 64; i++) {
            tensor_read_row(checkpoint_find(&checkpoint, name), i + first, position);
            tensor_read_row(plan.place_table, i, place);
            for (size_t j = 0; j < 96; j++)
                assert_true(place[j] == position[j] + type[j]);
        }
        assert_string_equal(plan.weights, "f32");
        encoder_plan_clear(&plan);
        checkpoint_close(&checkpoint);
    }
}

static size_t matrix_bytes(size_t n, size_t k, int bits)
{
    size_t scales = packed_n_tiles(n) * (k / PACKED_GROUP) * PACKED_TILE * sizeof(uint16_t);
    size_t n_scales = bits == 32 ? 0 : bits == 4 ? 2 : 1; /* made 4 bit, it has mins too */

    return packed_n_tiles(n) * packed_tile_bytes(bits, k) + n_scales * scales;
}

static void sizes_are_counted(void **state)
{
    static const struct {
        enum weights_choice weights, table;
        int bits, table_bits;
        const char *name;
    } cases[] = {{WEIGHTS_KEEP, WEIGHTS_KEEP, 8, 8, "q8"},
                 {WEIGHTS_Q8, WEIGHTS_F32, 8, 32, "mixed"},
                 {WEIGHTS_Q4, WEIGHTS_KEEP, 4, 8, "mixed"},
                 {WEIGHTS_Q4, WEIGHTS_Q4, 4, 4, "q4"},
                 {WEIGHTS_F32, WEIGHTS_F32, 32, 32, "f32"}};
    struct tiny_options options = tiny_options("bert");
    struct checkpoint checkpoint = open_tiny(&options);
    int64_t n_parameters = 0;

    (void)state;
    for (size_t i = 0; i < checkpoint.n_tensors; i++)
        n_parameters += (int64_t)(tensor_n_rows(&checkpoint.tensors[i]) *
                                  tensor_row_values(&checkpoint.tensors[i]));
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct encoder_plan plan = make_plan(&checkpoint, cases[i].weights, cases[i].table);
        int bits = cases[i].bits;
        size_t n_bytes = matrix_bytes(100, 96, cases[i].table_bits) + matrix_bytes(64, 96, 32) +
                         2 * (matrix_bytes(288, 96, bits) + matrix_bytes(96, 96, bits) +
                              matrix_bytes(160, 96, bits) + matrix_bytes(96, 160, bits));

        assert_int_equal(plan.data_bytes, n_bytes);
        assert_int_equal(plan.n_parameters, n_parameters);
        assert_string_equal(plan.weights, cases[i].name);
        encoder_plan_clear(&plan);
    }
    checkpoint_close(&checkpoint);
}

/* Whichever tensor is missing, it is the one that is named. */
static void every_missing_tensor_is_named(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(spellings); s++) {
        struct tiny_options options = options_of(s);
        struct checkpoint whole = open_tiny(&options);

        assert_in_range(whole.n_tensors, 36, 37);
        for (size_t i = 0; i < whole.n_tensors; i++) {
            const char *name = whole.tensors[i].name;
            struct checkpoint without;
            struct encoder_plan plan;
            char expected[200];
            kvern_error err = {0};

            /* names that the spelling is known by: then BERT's are missed */
            if (strstr(name, "word_embeddings") || strstr(name, "layer.0.attention.q_lin.weight") ||
                strstr(name, "gamma"))
                continue;
            options.leave_out = name;
            without = open_tiny(&options);
            snprintf(expected, sizeof expected, "the checkpoint has no tensor %s", name);
            assert_int_equal(encoder_plan_make(&plan, &without, WEIGHTS_Q8, WEIGHTS_Q8, &err),
                             KVERN_FORMAT);
            assert_string_equal(err.message, expected);
            assert_null(plan.layers);
            assert_null(plan.place_table);
            checkpoint_close(&without);
        }
        checkpoint_close(&whole);
    }
}

/* The config is changed after the checkpoint was written for it. */
static void dims_must_be_the_configs(void **state)
{
    static const struct {
        size_t hidden_size, intermediate_size, vocab_size, max_positions, n_token_types, n_layers;
        const char *says;
    } cases[] = {
        {96, 160, 101, 64, 2, 2,
         "embeddings.word_embeddings.weight is [100, 96] where the config asks for [101, 96]"},
        {96, 160, 100, 63, 2, 2,
         "embeddings.position_embeddings.weight is [64, 96] where the config asks for [63, 96]"},
        {96, 160, 100, 64, 1, 2,
         "embeddings.token_type_embeddings.weight is [2, 96] where the config asks for [1, 96]"},
        {96, 160, 100, 64, 0, 2,
         "the checkpoint holds embeddings.token_type_embeddings.weight, for which a bert model of "
         "this config has no place"},
        {96, 192, 100, 64, 2, 2,
         "encoder.layer.0.intermediate.dense.weight is [160, 96] where the config asks for [192, "
         "96]"},
        {96, 160, 100, 64, 2, 3,
         "the checkpoint has no tensor encoder.layer.2.attention.self.query.weight"},
        {96, 160, 100, 64, 2, 1,
         "the checkpoint holds encoder.layer.1.attention.self.query.weight, for which a bert model "
         "of this config has no place"},
    };
    struct tiny_options options = tiny_options("bert");
    struct checkpoint checkpoint = open_tiny(&options);

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct model_config *config = &checkpoint.config;
        struct encoder_plan plan;
        kvern_error err = {0};

        config->hidden_size = cases[i].hidden_size;
        config->intermediate_size = cases[i].intermediate_size;
        config->vocab_size = cases[i].vocab_size;
        config->max_positions = cases[i].max_positions;
        config->n_token_types = cases[i].n_token_types;
        config->n_layers = cases[i].n_layers;
        assert_int_not_equal(encoder_plan_make(&plan, &checkpoint, WEIGHTS_Q8, WEIGHTS_Q8, &err),
                             KVERN_OK);
        assert_string_equal(err.message, cases[i].says);
    }
    checkpoint_close(&checkpoint);
}

/* Heads are left out as transformers' AutoModel does; anything else makes another model. */
static void tensors_without_a_place(void **state)
{
    static const struct {
        const char *prefix;
        const char *extra;
        bool is_refused;
    } cases[] = {
        {"", "pooler.dense.bias", false},
        {"bert.", "bert.pooler.dense.bias", false},
        {"bert.", "cls.predictions.bias", false},
        {"bert.", "classifier.bias", false},
        {"", "lm_head.bias", false},
        {"", "encoder.layer.0.attention.self.distance_embedding.weight", true},
        {"", "encoder.layer.0.crossattention.self.query.bias", true},
        {"", "embeddings_project.bias", true},
        {"bert.", "encoder.layer.0.output.dense.bias", true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tiny_options options = tiny_options("bert");
        struct checkpoint checkpoint;
        struct encoder_plan plan;
        char expected[256];
        kvern_error err = {0};
        kvern_status status;

        options.prefix = cases[i].prefix;
        options.extra = cases[i].extra;
        checkpoint = open_tiny(&options);
        status = encoder_plan_make(&plan, &checkpoint, WEIGHTS_Q8, WEIGHTS_Q8, &err);
        snprintf(expected, sizeof expected,
                 "the checkpoint holds %s, for which a bert model of this config has no place",
                 cases[i].extra);
        assert_string_equal(err.message, cases[i].is_refused ? expected : "");
        assert_int_equal(status, cases[i].is_refused ? KVERN_UNSUPPORTED : KVERN_OK);
        encoder_plan_clear(&plan);
        checkpoint_close(&checkpoint);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_is_found),
        cmocka_unit_test(places_are_positions_and_type_0),
        cmocka_unit_test(sizes_are_counted),
        cmocka_unit_test(every_missing_tensor_is_named),
        cmocka_unit_test(dims_must_be_the_configs),
        cmocka_unit_test(tensors_without_a_place),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
