/* SPDX-License-Identifier: Apache-2.0
 *
 * Which tensors a plan takes and in which order it stacks them, for each family, tied or not; and
 * that every tensor left out, of other dims, or without a place is named.
 */
#include "test.h"

#include "base/file.h"
#include "convert/decoder_plan.h"
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

/* Writes and opens the checkpoint of `options`. */
static struct checkpoint open_tiny(const struct tiny_options *options)
{
    struct checkpoint checkpoint;
    kvern_error err = {0};

    tiny_checkpoint_write(source, options);
    if (checkpoint_open(&checkpoint, source, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return checkpoint;
}

static struct decoder_plan make_plan(const struct checkpoint *checkpoint,
                                     enum weights_choice choice)
{
    struct decoder_plan plan;
    kvern_error err = {0};

    if (decoder_plan_make(&plan, checkpoint, choice, choice, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return plan;
}

/* The stacked parts of a matrix, by the ends of their names (blank-separated), and its size. */
static void assert_parts(const struct pack_plan *weight, size_t layer, const char *names, size_t n,
                         size_t k)
{
    size_t i = 0;

    for (const char *c = names; *c; i++) {
        char name[128];
        size_t length = strcspn(c, " ");

        snprintf(name, sizeof name, "model.layers.%zu.%.*s.weight", layer, (int)length, c);
        assert_in_range(i, 0, weight->n_parts - 1);
        assert_string_equal(weight->parts[i]->name, name);
        c += length + strspn(c + length, " ");
    }
    assert_int_equal(weight->n_parts, i);
    assert_int_equal(weight->n, n);
    assert_int_equal(weight->k, k);
}

static void assert_name(const struct tensor *tensor, size_t layer, const char *end)
{
    char name[128];

    assert_non_null(tensor);
    snprintf(name, sizeof name, "model.layers.%zu.%s", layer, end);
    assert_string_equal(tensor->name, name);
}

/* 2 heads on 1 KV head of 16, hidden 96, inner 160, vocabulary 100. */
static void parts_are_stacked_in_order(void **state)
{
    static const char *const families[] = {"llama", "qwen2", "qwen3"};
    static const char *const biases[] = {"self_attn.q_proj.bias", "self_attn.k_proj.bias",
                                         "self_attn.v_proj.bias"};

    (void)state;
    for (size_t f = 0; f < COUNT(families); f++) {
        struct tiny_options options = tiny_options(families[f]);
        struct checkpoint checkpoint = open_tiny(&options);
        struct decoder_plan plan = make_plan(&checkpoint, WEIGHTS_Q8);
        bool has_bias = !strcmp(families[f], "qwen2");
        bool has_norm = !strcmp(families[f], "qwen3");

        assert_string_equal(plan.embedding.parts[0]->name, "model.embed_tokens.weight");
        assert_int_equal(plan.embedding.n, 100);
        assert_string_equal(plan.final_norm->name, "model.norm.weight");
        for (size_t i = 0; i < 2; i++) {
            const struct decoder_layer *layer = &plan.layers[i];

            assert_name(layer->input_norm, i, "input_layernorm.weight");
            assert_name(layer->post_norm, i, "post_attention_layernorm.weight");
            assert_parts(&layer->qkv.weight, i,
                         "self_attn.q_proj self_attn.k_proj self_attn.v_proj", 32 + 16 + 16, 96);
            assert_parts(&layer->o.weight, i, "self_attn.o_proj", 96, 32);
            assert_parts(&layer->gate_up.weight, i, "mlp.gate_proj mlp.up_proj", 320, 96);
            assert_parts(&layer->down.weight, i, "mlp.down_proj", 96, 160);
            for (size_t j = 0; j < COUNT(biases); j++) {
                if (has_bias)
                    assert_name(layer->qkv.biases[j], i, biases[j]);
                else
                    assert_null(layer->qkv.biases[j]);
            }
            assert_null(layer->o.biases[0]);
            if (has_norm) {
                assert_name(layer->q_norm, i, "self_attn.q_norm.weight");
                assert_name(layer->k_norm, i, "self_attn.k_norm.weight");
            } else {
                assert_null(layer->q_norm);
                assert_null(layer->k_norm);
            }
        }
        decoder_plan_clear(&plan);
        decoder_plan_clear(&plan); /* twice is fine */
        checkpoint_close(&checkpoint);
    }
}

/* As Qwen3-Embedding is stored: the same plan but for the names. */
static void names_without_model(void **state)
{
    struct tiny_options options = tiny_options("qwen3");
    struct checkpoint checkpoint;
    struct decoder_plan plan;
    kvern_error err = {0};

    (void)state;
    options.is_headless = true;
    checkpoint = open_tiny(&options);
    plan = make_plan(&checkpoint, WEIGHTS_Q8);
    assert_string_equal(plan.embedding.parts[0]->name, "embed_tokens.weight");
    assert_string_equal(plan.layers[1].q_norm->name, "layers.1.self_attn.q_norm.weight");
    assert_string_equal(plan.final_norm->name, "norm.weight");
    decoder_plan_clear(&plan);
    checkpoint_close(&checkpoint);

    options.leave_out = "layers.1.mlp.up_proj.weight";
    checkpoint = open_tiny(&options);
    assert_int_equal(decoder_plan_make(&plan, &checkpoint, WEIGHTS_Q8, WEIGHTS_Q8, &err),
                     KVERN_FORMAT);
    assert_string_equal(err.message, "the checkpoint has no tensor layers.1.mlp.up_proj.weight");
    checkpoint_close(&checkpoint);
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
        enum weights_choice choice;
        int bits;
        const char *weights;
    } cases[] = {{WEIGHTS_KEEP, 8, "q8"},
                 {WEIGHTS_Q8, 8, "q8"},
                 {WEIGHTS_Q4, 4, "q4"},
                 {WEIGHTS_F32, 32, "f32"}};

    (void)state;
    for (int is_tied = 0; is_tied < 2; is_tied++) {
        struct tiny_options options = tiny_options("qwen2");
        struct checkpoint checkpoint;
        int64_t n_parameters = 0;

        options.is_tied = is_tied;
        checkpoint = open_tiny(&options);
        for (size_t i = 0; i < checkpoint.n_tensors; i++)
            n_parameters += (int64_t)(tensor_n_rows(&checkpoint.tensors[i]) *
                                      tensor_row_values(&checkpoint.tensors[i]));
        for (size_t i = 0; i < COUNT(cases); i++) {
            struct decoder_plan plan = make_plan(&checkpoint, cases[i].choice);
            int bits = cases[i].bits;
            size_t n_bytes = matrix_bytes(100, 96, bits) +
                             2 * (matrix_bytes(64, 96, bits) + matrix_bytes(96, 32, bits) +
                                  matrix_bytes(320, 96, bits) + matrix_bytes(96, 160, bits));

            if (!is_tied)
                n_bytes += matrix_bytes(100, 96, bits);
            assert_int_equal(plan.data_bytes, n_bytes);
            assert_int_equal(plan.n_parameters, n_parameters);
            assert_string_equal(plan.weights, cases[i].weights);
            assert_int_equal(plan.lm_head.n, is_tied ? 0 : 100);
            if (!is_tied)
                assert_string_equal(plan.lm_head.parts[0]->name, "lm_head.weight");
            decoder_plan_clear(&plan);
        }
        checkpoint_close(&checkpoint);
    }
}

/* Whichever tensor is missing, it is the one that is named. */
static void every_missing_tensor_is_named(void **state)
{
    static const char *const families[] = {"llama", "qwen2", "qwen3"};

    (void)state;
    for (size_t f = 0; f < COUNT(families); f++) {
        struct tiny_options options = tiny_options(families[f]);
        struct checkpoint whole;

        options.is_tied = false;
        whole = open_tiny(&options);
        assert_in_range(whole.n_tensors, 21, 27);
        for (size_t i = 0; i < whole.n_tensors; i++) {
            struct checkpoint without;
            struct decoder_plan plan;
            char expected[200];
            kvern_error err = {0};

            options.leave_out = whole.tensors[i].name;
            without = open_tiny(&options);
            snprintf(expected, sizeof expected, "the checkpoint has no tensor %s",
                     whole.tensors[i].name);
            assert_int_equal(decoder_plan_make(&plan, &without, WEIGHTS_Q8, WEIGHTS_Q8, &err),
                             KVERN_FORMAT);
            assert_string_equal(err.message, expected);
            assert_null(plan.layers);
            checkpoint_close(&without);
        }
        checkpoint_close(&whole);
    }
}

/* The config is changed after the checkpoint was written for it. */
static void dims_must_be_the_configs(void **state)
{
    static const struct {
        size_t n_heads, n_kv_heads, hidden_size, intermediate_size, vocab_size, n_layers;
        const char *says;
    } cases[] = {
        {2, 1, 96, 160, 101, 2,
         "model.embed_tokens.weight is [100, 96] where the config asks for [101, 96]"},
        {2, 1, 64, 160, 100, 2,
         "model.embed_tokens.weight is [100, 96] where the config asks for [100, 64]"},
        {4, 1, 96, 160, 100, 2,
         "model.layers.0.self_attn.q_proj.weight is [32, 96] where the config asks for [64, 96]"},
        {2, 2, 96, 160, 100, 2,
         "model.layers.0.self_attn.k_proj.weight is [16, 96] where the config asks for [32, 96]"},
        {2, 1, 96, 192, 100, 2,
         "model.layers.0.mlp.gate_proj.weight is [160, 96] where the config asks for [192, 96]"},
        {2, 1, 96, 160, 100, 3,
         "the checkpoint has no tensor model.layers.2.input_layernorm.weight"},
        {2, 1, 96, 160, 100, 1,
         "the checkpoint holds model.layers.1.input_layernorm.weight, for which a llama model of "
         "this config has no place"},
    };
    struct tiny_options options = tiny_options("llama");
    struct checkpoint checkpoint = open_tiny(&options);

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct model_config *config = &checkpoint.config;
        struct decoder_plan plan;
        kvern_error err = {0};

        config->n_heads = cases[i].n_heads;
        config->n_kv_heads = cases[i].n_kv_heads;
        config->hidden_size = cases[i].hidden_size;
        config->intermediate_size = cases[i].intermediate_size;
        config->vocab_size = cases[i].vocab_size;
        config->n_layers = cases[i].n_layers;
        assert_int_not_equal(decoder_plan_make(&plan, &checkpoint, WEIGHTS_Q8, WEIGHTS_Q8, &err),
                             KVERN_OK);
        assert_string_equal(err.message, cases[i].says);
    }
    checkpoint_close(&checkpoint);
}

/* A weight without a place makes an answer that is wrong; two kinds transformers drops too. */
static void tensors_without_a_place(void **state)
{
    static const struct {
        const char *family;
        bool is_tied;
        const char *extra;
        bool is_refused;
    } cases[] = {
        {"llama", true, "lm_head.weight", false}, /* tied: the embedding is used */
        {"llama", true, "model.layers.1.self_attn.rotary_emb.inv_freq", false},
        {"llama", true, "lm_head.bias", true},
        {"llama", false, "lm_head.bias", true},
        {"llama", true, "model.layers.0.self_attn.q_proj.bias", true},
        {"qwen2", true, "model.layers.0.self_attn.o_proj.bias", true},
        {"qwen3", true, "model.layers.0.self_attn.q_proj.bias", true},
        {"llama", true, "model.layers.0.self_attn.q_norm.weight", true},
        {"llama", true, "model.layers.0.self_attn.q_proj.lora_A.weight", true},
        {"llama", true, "inv_freq", true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tiny_options options = tiny_options(cases[i].family);
        struct checkpoint checkpoint;
        struct decoder_plan plan;
        char expected[256];
        kvern_error err = {0};
        kvern_status status;

        options.is_tied = cases[i].is_tied;
        options.extra = cases[i].extra;
        checkpoint = open_tiny(&options);
        status = decoder_plan_make(&plan, &checkpoint, WEIGHTS_Q8, WEIGHTS_Q8, &err);
        snprintf(expected, sizeof expected,
                 "the checkpoint holds %s, for which a %s model of this config has no place",
                 cases[i].extra, cases[i].family);
        assert_int_equal(status, cases[i].is_refused ? KVERN_UNSUPPORTED : KVERN_OK);
        assert_string_equal(err.message, cases[i].is_refused ? expected : "");
        decoder_plan_clear(&plan);
        checkpoint_close(&checkpoint);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_stacked_in_order),
        cmocka_unit_test(names_without_model),
        cmocka_unit_test(sizes_are_counted),
        cmocka_unit_test(every_missing_tensor_is_named),
        cmocka_unit_test(dims_must_be_the_configs),
        cmocka_unit_test(tensors_without_a_place),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
