/* SPDX-License-Identifier: Apache-2.0
 *
 * config.json of the supported families as they are published, values that must be refused, and
 * rotary frequencies against those of transformers 4.57.
 */
#include "model/config.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char llama_3_2[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"bos_token_id\":128000,"
    "\"eos_token_id\":[128001,128008,128009],\"head_dim\":64,\"hidden_act\":\"silu\","
    "\"hidden_size\":2048,\"intermediate_size\":8192,\"max_position_embeddings\":131072,"
    "\"mlp_bias\":false,\"model_type\":\"llama\",\"num_attention_heads\":32,"
    "\"num_hidden_layers\":16,\"num_key_value_heads\":8,\"rms_norm_eps\":1e-05,"
    "\"rope_scaling\":{\"factor\":32.0,\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,"
    "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},"
    "\"rope_theta\":500000.0,\"tie_word_embeddings\":true,\"vocab_size\":128256}";

static const char qwen2_5[] =
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"bos_token_id\":151643,\"eos_token_id\":151645,"
    "\"hidden_act\":\"silu\",\"hidden_size\":896,\"intermediate_size\":4864,"
    "\"max_position_embeddings\":32768,\"max_window_layers\":21,\"model_type\":\"qwen2\","
    "\"num_attention_heads\":14,\"num_hidden_layers\":24,\"num_key_value_heads\":2,"
    "\"rms_norm_eps\":1e-06,\"rope_theta\":1000000.0,\"sliding_window\":32768,"
    "\"tie_word_embeddings\":true,\"use_sliding_window\":false,\"vocab_size\":151936}";

static const char qwen3[] =
    "{\"attention_bias\":false,\"bos_token_id\":151643,\"eos_token_id\":151645,\"head_dim\":128,"
    "\"hidden_act\":\"silu\",\"hidden_size\":1024,\"intermediate_size\":3072,"
    "\"max_position_embeddings\":40960,\"max_window_layers\":28,\"model_type\":\"qwen3\","
    "\"num_attention_heads\":16,\"num_hidden_layers\":28,\"num_key_value_heads\":8,"
    "\"rms_norm_eps\":1e-06,\"rope_scaling\":null,\"rope_theta\":1000000,"
    "\"sliding_window\":null,\"tie_word_embeddings\":true,\"use_sliding_window\":false,"
    "\"vocab_size\":151936}";

static void published_configs(void **state)
{
    struct model_config config;
    kvern_error err;
    (void)state;

    assert_int_equal(config_from_json(&config, llama_3_2, NULL, &err), KVERN_OK);
    assert_int_equal(config.family, FAMILY_LLAMA);
    assert_int_equal(config.head_size, 64);
    assert_int_equal(config.n_eos, 3);
    assert_int_equal(config.eos[2], 128009);
    assert_int_equal(config.pad, -1);
    assert_int_equal(config.rope_scaling, ROPE_SCALING_LLAMA3);
    assert_true(config.is_tied && !config.has_qkv_bias && !config.has_qk_norm);

    assert_int_equal(config_from_json(&config, qwen2_5, "{\"eos_token_id\":[151645,151643]}", &err),
                     KVERN_OK);
    assert_int_equal(config.family, FAMILY_QWEN2);
    assert_int_equal(config.head_size, 64);
    assert_int_equal(config.n_eos, 2);
    assert_int_equal(config.sliding_window, 0);
    assert_true(config.has_qkv_bias && !config.has_o_bias);

    assert_int_equal(config_from_json(&config, qwen3, NULL, &err), KVERN_OK);
    assert_int_equal(config.family, FAMILY_QWEN3);
    assert_int_equal(config.head_size, 128);
    assert_int_equal(config.n_heads * config.head_size, 2048);
    assert_true(config.has_qk_norm && !config.has_qkv_bias);
    assert_true(config.rope_theta == 1e6f);

    /* transformers 5 writes the rotary numbers into one object */
    assert_int_equal(
        config_from_json(&config,
                         "{\"model_type\":\"llama\",\"num_hidden_layers\":1,"
                         "\"num_attention_heads\":2,\"hidden_size\":32,"
                         "\"intermediate_size\":64,\"vocab_size\":9,\"rope_parameters\":"
                         "{\"rope_type\":\"linear\",\"factor\":2.0,\"rope_theta\":5e4}}",
                         NULL, &err),
        KVERN_OK);
    assert_int_equal(config.rope_scaling, ROPE_SCALING_LINEAR);
    assert_true(config.rope_theta == 5e4f && config.rope_factor == 2);
    assert_int_equal(config.n_kv_heads, 2);
}

static const char minilm[] =
    "{\"_name_or_path\":\"nreimers/MiniLM-L6-H384-uncased\",\"architectures\":[\"BertModel\"],"
    "\"hidden_act\":\"gelu\",\"hidden_size\":384,\"intermediate_size\":1536,"
    "\"layer_norm_eps\":1e-12,\"max_position_embeddings\":512,\"model_type\":\"bert\","
    "\"num_attention_heads\":12,\"num_hidden_layers\":6,\"pad_token_id\":0,"
    "\"position_embedding_type\":\"absolute\",\"type_vocab_size\":2,\"use_cache\":true,"
    "\"vocab_size\":30522}";

static const char bge_m3[] =
    "{\"architectures\":[\"XLMRobertaModel\"],\"bos_token_id\":0,\"eos_token_id\":2,"
    "\"hidden_act\":\"gelu\",\"hidden_size\":1024,\"intermediate_size\":4096,"
    "\"layer_norm_eps\":1e-05,\"max_position_embeddings\":8194,\"model_type\":\"xlm-roberta\","
    "\"num_attention_heads\":16,\"num_hidden_layers\":24,\"output_past\":true,"
    "\"pad_token_id\":1,\"position_embedding_type\":\"absolute\",\"type_vocab_size\":1,"
    "\"vocab_size\":250002}";

static const char distilbert[] =
    "{\"activation\":\"gelu\",\"architectures\":[\"DistilBertModel\"],\"dim\":768,"
    "\"hidden_dim\":3072,\"max_position_embeddings\":512,\"model_type\":\"distilbert\","
    "\"n_heads\":12,\"n_layers\":6,\"pad_token_id\":0,\"sinusoidal_pos_embds\":false,"
    "\"tie_weights_\":true,\"vocab_size\":30522}";

static void published_encoders(void **state)
{
    static const struct {
        const char *text;
        size_t n_layers, n_heads, head_size, intermediate_size, max_positions, first_position,
            n_token_types;
        float epsilon;
        int32_t pad;
    } cases[] = {{minilm, 6, 12, 32, 1536, 512, 0, 2, 1e-12f, 0},
                 {bge_m3, 24, 16, 64, 4096, 8192, 2, 1, 1e-5f, 1},
                 {distilbert, 6, 12, 64, 3072, 512, 0, 0, 1e-12f, 0}};
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_config config;
        kvern_error err = {0};

        if (config_from_json(&config, cases[i].text, NULL, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        assert_int_equal(config.family, FAMILY_BERT);
        assert_true(config_is_encoder(&config));
        assert_int_equal(config.n_layers, cases[i].n_layers);
        assert_int_equal(config.n_heads, cases[i].n_heads);
        assert_int_equal(config.n_kv_heads, cases[i].n_heads);
        assert_int_equal(config.head_size, cases[i].head_size);
        assert_int_equal(config.hidden_size, cases[i].n_heads * cases[i].head_size);
        assert_int_equal(config.intermediate_size, cases[i].intermediate_size);
        assert_int_equal(config.max_positions, cases[i].max_positions);
        assert_int_equal(config.first_position, cases[i].first_position);
        assert_int_equal(config.n_token_types, cases[i].n_token_types);
        assert_int_equal(config.activation, MODEL_ACTIVATION_GELU);
        assert_true(config.norm_epsilon == cases[i].epsilon);
        assert_int_equal(config.pad, cases[i].pad);
        assert_true(config.has_qkv_bias && config.has_o_bias && config.has_mlp_bias);
    }
}

/* A small valid config whose last field is replaced or added by each case. */
static void bad_values_are_refused(void **state)
{
    static const struct {
        const char *fields;
        kvern_status status;
        const char *message;
    } cases[] = {
        {"\"model_type\":\"mamba\"", KVERN_UNSUPPORTED,
         "config.json: model_type \"mamba\" is not supported (llama, qwen2, qwen3, bert, roberta, "
         "xlm-roberta, camembert, distilbert, t5 and mt5 are)"},
        {"\"hidden_size\":null", KVERN_FORMAT, "config.json: hidden_size is missing"},
        {"\"hidden_size\":-4", KVERN_FORMAT,
         "config.json: hidden_size is not a whole number of at least 0"},
        {"\"hidden_size\":\"64\"", KVERN_FORMAT,
         "config.json: hidden_size is not a whole number of at least 0"},
        {"\"hidden_size\":4000000000", KVERN_FORMAT,
         "head_dim = 1000000000 is not between 8 and 256"},
        {"\"num_hidden_layers\":0", KVERN_FORMAT,
         "num_hidden_layers = 0 is not between 1 and 1024"},
        {"\"num_attention_heads\":0", KVERN_FORMAT,
         "num_attention_heads = 0 is not between 1 and 1024"},
        {"\"num_key_value_heads\":3", KVERN_FORMAT,
         "num_attention_heads = 4 is not a multiple of num_key_value_heads = 3"},
        {"\"head_dim\":12", KVERN_UNSUPPORTED, "head_dim = 12 is not a multiple of 8"},
        {"\"vocab_size\":0", KVERN_FORMAT, "vocab_size = 0 is not between 1 and 16777216"},
        {"\"eos_token_id\":100", KVERN_FORMAT,
         "eos_token_id = 100 is outside the vocabulary of 100"},
        {"\"eos_token_id\":[1,2,3,4,5,6,7,8,9]", KVERN_FORMAT,
         "config.json: eos_token_id is not a list of at most 8 ids"},
        {"\"bos_token_id\":4294967296", KVERN_FORMAT,
         "config.json: bos_token_id is not a token id"},
        {"\"rms_norm_eps\":true", KVERN_FORMAT, "config.json: rms_norm_eps is not a number"},
        {"\"rms_norm_eps\":2", KVERN_FORMAT, "rms_norm_eps = 2 is not between 0 and 1"},
        {"\"rope_theta\":0", KVERN_FORMAT, "rope_theta = 0 is not between 1 and 1e12"},
        {"\"hidden_act\":\"relu\"", KVERN_UNSUPPORTED,
         "config.json: hidden_act \"relu\" is not supported (silu and gelu_pytorch_tanh are)"},
        {"\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4}", KVERN_UNSUPPORTED,
         "config.json: rope scaling \"yarn\" is not supported (linear and llama3 are)"},
        {"\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}", KVERN_FORMAT,
         "the rope scaling factor = 0 is not between 0.001 and 1e6"},
        {"\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}", KVERN_FORMAT,
         "config.json: original_max_position_embeddings is missing"},
        {"\"rope_scaling\":7", KVERN_FORMAT, "config.json: rope_scaling is not an object"},
        {"\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"sliding_window\":64,"
         "\"max_window_layers\":1",
         KVERN_UNSUPPORTED,
         "config.json: a sliding window in some layers only (max_window_layers = 1 of 2) is not "
         "supported"},
        {"\"hidden_act\":\"gelu\"", KVERN_UNSUPPORTED,
         "config.json: hidden_act \"gelu\" is not supported (silu and gelu_pytorch_tanh are)"},
        {"\"model_type\":\"bert\",\"hidden_act\":\"quick_gelu\"", KVERN_UNSUPPORTED,
         "config.json: hidden_act \"quick_gelu\" is not supported (gelu, gelu_new, relu and silu "
         "are)"},
        {"\"model_type\":\"bert\",\"position_embedding_type\":\"relative_key\"", KVERN_UNSUPPORTED,
         "config.json: position_embedding_type \"relative_key\" is not supported (absolute is)"},
        {"\"model_type\":\"bert\",\"is_decoder\":true", KVERN_UNSUPPORTED,
         "config.json: an encoder with is_decoder is not supported"},
        {"\"model_type\":\"bert\",\"add_cross_attention\":true", KVERN_UNSUPPORTED,
         "config.json: an encoder with add_cross_attention is not supported"},
        {"\"model_type\":\"bert\",\"layer_norm_eps\":2", KVERN_FORMAT,
         "layer_norm_eps = 2 is not between 0 and 1"},
        {"\"model_type\":\"bert\",\"type_vocab_size\":-1", KVERN_FORMAT,
         "config.json: type_vocab_size is not a whole number of at least 0"},
        {"\"num_attention_heads\":3,\"model_type\":\"bert\"", KVERN_UNSUPPORTED,
         "head_dim = 21 is not a multiple of 8"},
        {"\"model_type\":\"distilbert\"", KVERN_FORMAT, "config.json: n_layers is missing"},
        {"\"model_type\":\"roberta\",\"max_position_embeddings\":2", KVERN_FORMAT,
         "config.json: max_position_embeddings = 2 leaves no position after pad_token_id = 1"},
        {"\"model_type\":\"roberta\",\"pad_token_id\":2147483647", KVERN_FORMAT,
         "config.json: max_position_embeddings = 512 leaves no position after pad_token_id = "
         "2147483647"},
    };
    static const char *const base[] = {
        "\"model_type\":\"llama\"", "\"num_hidden_layers\":2",   "\"num_attention_heads\":4",
        "\"hidden_size\":64",       "\"intermediate_size\":128", "\"vocab_size\":100",
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_config config = {.n_layers = 77};
        kvern_error err = {0};
        char text[1024];
        size_t n = (size_t)snprintf(text, sizeof text, "{%s", cases[i].fields);

        for (size_t j = 0; j < sizeof base / sizeof *base; j++) {
            size_t n_key = strcspn(base[j], ":");

            if (!memmem(cases[i].fields, strlen(cases[i].fields), base[j], n_key))
                n += (size_t)snprintf(text + n, sizeof text - n, ",%s", base[j]);
        }
        snprintf(text + n, sizeof text - n, "}");
        kvern_status status = config_from_json(&config, text, NULL, &err);
        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(status, cases[i].status);
        assert_int_equal(config.n_layers, 77); /* untouched */
    }

    struct model_config config;
    kvern_error err;
    assert_int_equal(config_from_json(&config, "[]", NULL, &err), KVERN_FORMAT);
    assert_int_equal(config_from_json(&config, "{\"a\":", NULL, &err), KVERN_FORMAT);
    assert_int_equal(config_from_json(&config, qwen3, "7", &err), KVERN_FORMAT);
}

static void rotary_frequencies_equal_golden(void **state)
{
    /* LlamaRotaryEmbedding(LlamaConfig of llama_3_2).inv_freq, every fourth and the changed ones */
    static const struct {
        size_t i;
        float value;
    } golden[] = {
        {0, 1.0f},
        {1, 0.663601279258728f},
        {4, 0.193922758102417f},
        {8, 0.03760603070259094f},
        {12, 0.00729266507551074f},
        {14, 0.0032114461064338684f},
        {15, 0.0012905480107292533f}, /* smooth */
        {16, 0.000429556705057621f},  /* smooth */
        {17, 9.708286233944818e-05f}, /* smooth */
        {18, 1.9461638657958247e-05f},
        {19, 1.291476746700937e-05f},
        {31, 9.418306490260875e-08f},
    };
    struct model_config config;
    kvern_error err;
    float inv_freq[CONFIG_MAX_HEAD_SIZE / 2];
    (void)state;

    assert_int_equal(config_from_json(&config, llama_3_2, NULL, &err), KVERN_OK);
    config_rotary_frequencies(&config, inv_freq);
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        float value = inv_freq[golden[i].i];

        if (!(fabsf(value - golden[i].value) <= 1e-6f * golden[i].value))
            fail_msg("[%zu]: %.9g, golden %.9g", golden[i].i, (double)value,
                     (double)golden[i].value);
    }
    config.rope_scaling = ROPE_SCALING_LINEAR;
    config.rope_factor = 4;
    config_rotary_frequencies(&config, inv_freq);
    assert_true(inv_freq[0] == 0.25f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_configs),
        cmocka_unit_test(published_encoders),
        cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(rotary_frequencies_equal_golden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
