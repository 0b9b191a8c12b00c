/* SPDX-License-Identifier: Apache-2.0
 *
 * What a folder's config files say of an export: each family's names, what overrides what, wrong
 * values, and the presets.
 */
#include "test.h"

#include "support_export.h"

#include "model/export_config.h"

#include <string.h>

static const struct {
    const char *label;
    const char *config, *generation, *genai; /* NULL: no such file */
    kvern_status status;
    const char *names; /* in the message */
    struct model_config expected;
    bool is_unstated;
} cases[] = {
    {.label = "a Llama",
     .config = "{\"model_type\": \"llama\", \"num_hidden_layers\": 3, \"num_attention_heads\": 8,"
               "\"num_key_value_heads\": 2, \"hidden_size\": 64, \"intermediate_size\": 100,"
               "\"vocab_size\": 500, \"max_position_embeddings\": 77, \"bos_token_id\": 1,"
               "\"eos_token_id\": 2, \"pad_token_id\": 3}",
     .expected = {.family = FAMILY_LLAMA,
                  .n_layers = 3,
                  .n_heads = 8,
                  .n_kv_heads = 2,
                  .head_size = 8,
                  .hidden_size = 64,
                  .intermediate_size = 100,
                  .vocab_size = 500,
                  .max_positions = 77,
                  .bos = 1,
                  .pad = 3,
                  .eos = {2},
                  .n_eos = 1}},
    {.label = "GPT-2's names",
     .config = "{\"model_type\": \"gpt2\", \"n_layer\": 3, \"n_head\": 4, \"n_embd\": 64,"
               "\"vocab_size\": 500, \"n_positions\": 99}",
     .expected = {.family = FAMILY_OTHER,
                  .n_layers = 3,
                  .n_heads = 4,
                  .n_kv_heads = 4,
                  .head_size = 16,
                  .hidden_size = 64,
                  .vocab_size = 500,
                  .max_positions = 99,
                  .bos = -1,
                  .pad = -1}},
    {.label = "a head size of its own, and nulls",
     .config = "{\"num_attention_heads\": 4, \"hidden_size\": 64, \"head_dim\": 128,"
               "\"num_key_value_heads\": null, \"pad_token_id\": null}",
     .expected = {.family = FAMILY_OTHER,
                  .n_heads = 4,
                  .n_kv_heads = 4,
                  .head_size = 128,
                  .hidden_size = 64,
                  .max_positions = EXPORT_DEFAULT_CONTEXT,
                  .bos = -1,
                  .pad = -1}},
    {.label = "a text model inside another",
     .config = "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 40, \"text_config\":"
               "{\"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"hidden_size\": 64,"
               "\"bos_token_id\": 7}}",
     .expected = {.family = FAMILY_QWEN2,
                  .n_layers = 3,
                  .n_heads = 4,
                  .n_kv_heads = 4,
                  .head_size = 16,
                  .hidden_size = 64,
                  .max_positions = EXPORT_DEFAULT_CONTEXT,
                  .bos = 7,
                  .pad = -1}},
    {.label = "two files name tokens that end",
     .config = "{\"vocab_size\": 500, \"eos_token_id\": [5, 6, 5]}",
     .generation = "{\"eos_token_id\": [6, 9, -3, \"x\"]}",
     .expected = {.family = FAMILY_OTHER,
                  .vocab_size = 500,
                  .max_positions = EXPORT_DEFAULT_CONTEXT,
                  .bos = -1,
                  .pad = -1,
                  .eos = {5, 6, 9},
                  .n_eos = 3}},
    {.label = "onnxruntime-genai's file",
     .genai = "{\"model\": {\"type\": \"qwen3\", \"bos_token_id\": 1, \"eos_token_id\": [2, 3],"
              "\"pad_token_id\": 4, \"context_length\": 700, \"vocab_size\": 500, \"decoder\":"
              "{\"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
              "\"head_size\": 16, \"hidden_size\": 64}}}",
     .expected = {.family = FAMILY_QWEN3,
                  .n_layers = 3,
                  .n_heads = 4,
                  .n_kv_heads = 2,
                  .head_size = 16,
                  .hidden_size = 64,
                  .vocab_size = 500,
                  .max_positions = 700,
                  .bos = 1,
                  .pad = 4,
                  .eos = {2, 3},
                  .n_eos = 2}},
    {.label = "config.json before genai_config.json",
     .config = "{\"vocab_size\": 500}",
     .genai = "{\"model\": {\"vocab_size\": 400}}",
     .expected = {.family = FAMILY_OTHER,
                  .vocab_size = 500,
                  .max_positions = EXPORT_DEFAULT_CONTEXT,
                  .bos = -1,
                  .pad = -1}},
    {.label = "nothing at all",
     .is_unstated = true,
     .expected =
         {.family = FAMILY_OTHER, .max_positions = EXPORT_DEFAULT_CONTEXT, .bos = -1, .pad = -1}},
    {.label = "an empty object, and ids of no use",
     .config = "{\"model_type\": 7, \"bos_token_id\": -1, \"pad_token_id\": 3000000000,"
               "\"eos_token_id\": {}, \"text_config\": 3}",
     .expected =
         {.family = FAMILY_OTHER, .max_positions = EXPORT_DEFAULT_CONTEXT, .bos = -1, .pad = -1}},
    {.label = "a negative size",
     .config = "{\"vocab_size\": -5}",
     .status = KVERN_FORMAT,
     .names = "vocab_size"},
    {.label = "a size of 0",
     .config = "{\"head_dim\": 0}",
     .status = KVERN_FORMAT,
     .names = "head_dim"},
    {.label = "a size too large",
     .config = "{\"num_hidden_layers\": 268435457}",
     .status = KVERN_FORMAT,
     .names = "num_hidden_layers"},
    {.label = "a size past 64 bits",
     .config = "{\"num_hidden_layers\": 99999999999999999999}",
     .status = KVERN_FORMAT,
     .names = "config.json"},
    {.label = "a size in words",
     .config = "{\"hidden_size\": \"64\"}",
     .status = KVERN_FORMAT,
     .names = "hidden_size"},
    {.label = "half a layer",
     .config = "{\"num_hidden_layers\": 2.5}",
     .status = KVERN_FORMAT,
     .names = "num_hidden_layers"},
    {.label = "a list", .config = "[1]", .status = KVERN_FORMAT, .names = "no JSON object"},
    {.label = "no JSON",
     .config = "{\"vocab_size\": 5",
     .status = KVERN_FORMAT,
     .names = "config.json is no JSON object: line 1"},
    {.label = "the same name twice",
     .config = "{\"vocab_size\": 5, \"vocab_size\": 6}",
     .status = KVERN_FORMAT,
     .names = "config.json"},
    {.label = "a damaged generation_config.json",
     .config = "{}",
     .generation = "{",
     .status = KVERN_FORMAT,
     .names = "generation_config.json"},
    {.label = "a wrong genai_config.json",
     .genai = "{\"model\": {\"decoder\": {\"head_size\": -1}}}",
     .status = KVERN_FORMAT,
     .names = "genai_config.json: head_size"},
    {.label = "a genai_config.json of another kind",
     .genai = "{\"model\": 5}",
     .expected =
         {.family = FAMILY_OTHER, .max_positions = EXPORT_DEFAULT_CONTEXT, .bos = -1, .pad = -1}},
};

static void compare(const char *label, const struct model_config *is,
                    const struct model_config *expected)
{
    const struct {
        const char *name;
        int64_t is, expected;
    } members[] = {
        {"family", is->family, expected->family},
        {"n_layers", (int64_t)is->n_layers, (int64_t)expected->n_layers},
        {"n_heads", (int64_t)is->n_heads, (int64_t)expected->n_heads},
        {"n_kv_heads", (int64_t)is->n_kv_heads, (int64_t)expected->n_kv_heads},
        {"head_size", (int64_t)is->head_size, (int64_t)expected->head_size},
        {"hidden_size", (int64_t)is->hidden_size, (int64_t)expected->hidden_size},
        {"intermediate", (int64_t)is->intermediate_size, (int64_t)expected->intermediate_size},
        {"vocab_size", (int64_t)is->vocab_size, (int64_t)expected->vocab_size},
        {"max_positions", (int64_t)is->max_positions, (int64_t)expected->max_positions},
        {"bos", is->bos, expected->bos},
        {"pad", is->pad, expected->pad},
        {"n_eos", (int64_t)is->n_eos, (int64_t)expected->n_eos},
    };

    for (size_t i = 0; i < COUNT(members); i++) {
        if (members[i].is != members[i].expected)
            fail_msg("%s: %s is %lld, not %lld", label, members[i].name, (long long)members[i].is,
                     (long long)members[i].expected);
    }
    assert_memory_equal(is->eos, expected->eos, is->n_eos * sizeof *is->eos);
}

static void files_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *folder = folder_make();
        struct model_config config;
        bool is_stated = false;
        kvern_error err = {0};

        if (cases[i].config)
            folder_write_text(folder, "config.json", cases[i].config);
        if (cases[i].generation)
            folder_write_text(folder, "generation_config.json", cases[i].generation);
        if (cases[i].genai)
            folder_write_text(folder, "genai_config.json", cases[i].genai);
        kvern_status status = export_config_read(&config, folder, NULL, &is_stated, &err);
        if (status != cases[i].status || (cases[i].names && !strstr(err.message, cases[i].names)))
            fail_msg("%s: %s (%s)", cases[i].label, err.message, kvern_status_name(status));
        if (status == KVERN_OK) {
            compare(cases[i].label, &config, &cases[i].expected);
            assert_int_equal(is_stated, !cases[i].is_unstated);
        }
        folder_remove(folder);
    }
}

/* The reference model's sizes, as its makers publish them. */
static void the_references_preset_is_right(void **state)
{
    const struct model_config expected = {.family = FAMILY_QWEN2,
                                          .n_layers = 24,
                                          .n_heads = 14,
                                          .n_kv_heads = 2,
                                          .head_size = 64,
                                          .hidden_size = 896,
                                          .intermediate_size = 4864,
                                          .vocab_size = 151936,
                                          .max_positions = 32768,
                                          .bos = 151643,
                                          .pad = 151643,
                                          .eos = {151645, 151643},
                                          .n_eos = 2};
    struct model_config config;
    bool is_stated = false;
    kvern_error err = {0};

    (void)state;
    assert_int_equal(
        export_config_read(&config, "/nowhere", "qwen2.5-coder-0.5b", &is_stated, &err), KVERN_OK);
    assert_true(is_stated);
    compare("qwen2.5-coder-0.5b", &config, &expected);
}

/* An unknown name lists all of them; each is a model that can be. */
static void every_preset_holds_together(void **state)
{
    struct model_config config;
    bool is_stated;
    size_t n_presets = 0;
    kvern_error err = {0};

    (void)state;
    assert_int_equal(export_config_read(&config, "/nowhere", "gpt-5", &is_stated, &err),
                     KVERN_NOT_FOUND);
    assert_non_null(strstr(err.message, "'gpt-5'"));
    char *list = strstr(err.message, "there are ");
    assert_non_null(list);
    for (char *name = strtok(list + strlen("there are "), ", "); name; name = strtok(NULL, ", ")) {
        kvern_error unused = {0};

        if (export_config_read(&config, "/nowhere", name, &is_stated, &unused) != KVERN_OK)
            fail_msg("'%s': %s", name, unused.message);
        n_presets++;
        bool has_own_heads = config.family == FAMILY_QWEN3; /* 16 heads of 128 in 1,024 */
        if (config.n_heads % config.n_kv_heads != 0 || config.head_size % 8 != 0 ||
            (!has_own_heads && config.n_heads * config.head_size != config.hidden_size))
            fail_msg("%s: %zu heads, %zu kv heads of %zu, hidden %zu", name, config.n_heads,
                     config.n_kv_heads, config.head_size, config.hidden_size);
        assert_true(config.n_layers > 0 && config.vocab_size > 1000);
        assert_true(config.max_positions >= 2048 && config.intermediate_size > config.hidden_size);
        assert_in_range(config.n_eos, 1, CONFIG_MAX_EOS);
        for (size_t i = 0; i < config.n_eos; i++)
            assert_true(config.eos[i] >= 0 && (size_t)config.eos[i] < config.vocab_size);
        assert_true(config.bos >= 0 && (size_t)config.bos < config.vocab_size);
        assert_true(config.pad < (int32_t)config.vocab_size);
    }
    assert_true(n_presets >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_read),
        cmocka_unit_test(the_references_preset_is_right),
        cmocka_unit_test(every_preset_holds_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
