/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders of exports as exporters lay them out, opened as models: which file is taken, where its
 * config is looked for, what is warned of, and configs and presets that are of another model.
 */
#include "test.h"

#include "support_export.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char warnings[4096];

static void keep_warning(const char *line, void *user_data)
{
    size_t n = strlen(warnings);

    (void)user_data;
    snprintf(warnings + n, sizeof warnings - n, "%s\n", line);
}

static int set_log(void **state)
{
    (void)state;
    kvern_set_log(keep_warning, NULL);
    return 0;
}

/* What lies where, and what is opened. Every graph has another source, so that the right one shows
 * in the model's KV heads: 2 of qwen2-f32, 1 of llama-no-positions. */
static const struct {
    const char *label;
    const char *qwen2, *llama; /* where graphs lie */
    const char *config;        /* where config.json, of qwen2-f32, lies; NULL: nowhere */
    const char *opened;        /* in the folder */
    const char *source;        /* NULL: it is no export */
    int32_t max_context;
} layouts[] = {
    {"optimum", "model.onnx", NULL, "config.json", "", "model.onnx", 512},
    {"a path with a slash", "model.onnx", NULL, "config.json", "/", "model.onnx", 512},
    {"a file", "model.onnx", NULL, "config.json", "/model.onnx", "model.onnx", 512},
    {"a file of another name", "m_q4.onnx", "model.onnx", "config.json", "/m_q4.onnx", "m_q4.onnx",
     512},
    {"a merged one before others", "decoder_model_merged.onnx", "model.onnx", "config.json", "",
     "decoder_model_merged.onnx", 512},
    {"one with a past", "decoder_with_past_model.onnx", "decoder_model.onnx", "config.json", "",
     "decoder_with_past_model.onnx", 512},
    {"onnx-community", "onnx/model.onnx", NULL, "config.json", "", "model.onnx", 512},
    {"its folder onnx", "onnx/model.onnx", NULL, "config.json", "/onnx", "model.onnx", 512},
    {"its folder onnx with a slash", "onnx/model.onnx", NULL, "config.json", "/onnx/", "model.onnx",
     512},
    {"a file in its folder onnx", "onnx/m_q4.onnx", "onnx/model.onnx", "config.json",
     "/onnx/m_q4.onnx", "m_q4.onnx", 512},
    {"a config beside it", "onnx/model.onnx", NULL, "onnx/config.json", "", "model.onnx", 512},
    {"its own before onnx", "model.onnx", "onnx/model.onnx", "config.json", "", "model.onnx", 512},
    {"no config", "model.onnx", NULL, NULL, "", "model.onnx", 8192},
    {"another folder's config", "sub/model.onnx", NULL, "config.json", "/sub", "model.onnx", 8192},
    {"no .onnx file", "model.bin", NULL, "config.json", "", NULL, 0},
    {"a file that is not there", "model.onnx", NULL, "config.json", "/other.onnx", NULL, 0},
};

static void exports_are_found_where_exporters_put_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(layouts); i++) {
        char *folder = folder_make();
        struct buffer path = {0};
        kvern_model *model = NULL;
        kvern_model_info info;
        kvern_error err = {0};

        folder_copy(folder, layouts[i].qwen2, "qwen2-f32", "model.onnx");
        if (layouts[i].llama)
            folder_copy(folder, layouts[i].llama, "llama-no-positions", "model.onnx");
        if (layouts[i].config)
            folder_copy(folder, layouts[i].config, "qwen2-f32", "config.json");
        buffer_add_format(&path, "%s%s", folder, layouts[i].opened);
        kvern_status status = kvern_model_open(&model, path.data, &err);
        if ((status == KVERN_OK) != (layouts[i].source != NULL))
            fail_msg("%s: %s (%s)", layouts[i].label, err.message, kvern_status_name(status));
        if (status == KVERN_OK) {
            kvern_model_get_info(model, &info);
            if (strcmp(info.source, layouts[i].source) != 0 || info.n_kv_heads != 2 ||
                info.max_context != layouts[i].max_context)
                fail_msg("%s: %s with %d kv heads, context %d", layouts[i].label, info.source,
                         info.n_kv_heads, info.max_context);
            assert_string_equal(info.contract, "cached");
        } else {
            assert_int_equal(status, KVERN_NOT_FOUND);
        }
        kvern_model_close(model);
        buffer_clear(&path);
        folder_remove(folder);
    }
}

/* The sizes are the graph's, the context a usual one, and bytes stand for tokens: all said. */
static void what_is_missing_is_warned_of(void **state)
{
    char *folder = folder_make();
    kvern_model *model = NULL;
    kvern_model_info info;
    kvern_tokens tokens = {0};
    kvern_error err = {0};

    (void)state;
    warnings[0] = '\0';
    folder_copy(folder, "model.onnx", "qwen2-f32", "model.onnx");
    if (kvern_model_open(&model, folder, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_non_null(strstr(warnings, "has no config.json"));
    assert_non_null(strstr(warnings, "8192"));
    assert_non_null(strstr(warnings, "has no tokenizer.json"));
    kvern_model_get_info(model, &info);
    assert_int_equal(info.n_layers, 2);
    assert_int_equal(info.n_kv_heads, 2);
    assert_int_equal(info.head_size, 16);
    assert_int_equal(info.vocab_size, 288);
    assert_int_equal(info.max_context, 8192);
    assert_int_equal(info.n_eos_tokens, 0);
    assert_string_equal(info.weights, "onnx");
    assert_true(info.n_bytes > 100000);
    assert_true(info.has_byte_fallback && !info.has_tokenizer);
    assert_int_equal(kvern_tokenize(model, "a\xc3\xa4", 3, 0, &tokens, &err), KVERN_OK);
    assert_int_equal(tokens.n, 3);
    kvern_tokens_clear(&tokens);
    kvern_model_close(model);

    warnings[0] = '\0';
    folder_copy(folder, "config.json", "qwen2-f32", "config.json");
    folder_copy(folder, "tokenizer.json", "qwen2-f32", "tokenizer.json");
    if (kvern_model_open(&model, folder, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_string_equal(warnings, "");
    kvern_model_get_info(model, &info);
    assert_true(!info.has_byte_fallback && info.has_tokenizer);
    kvern_model_close(model);
    folder_remove(folder);
}

/* qwen2-f32's config with one number changed: refused when the model is opened, with both values.
 */
static void a_config_of_another_model_is_refused(void **state)
{
    static const struct {
        const char *export, *from, *to;
        const char *names;
    } changes[] = {
        {"qwen2-f32", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
         "2 layers, but the model's config says 3"},
        {"qwen2-f32", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4",
         "2 kv heads, but the model's config says 4"},
        {"qwen2-f32", "\"num_attention_heads\": 4", "\"num_attention_heads\": 8",
         "16 values in a head, but the model's config says 8"},
        {"qwen2-f32", "\"vocab_size\": 288", "\"vocab_size\": 289",
         "288 tokens in its vocabulary, but the model's config says 289"},
        {"bert-f32", "\"hidden_size\": 32", "\"hidden_size\": 64",
         "32 values in a hidden state, but the model's config says 64"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(changes); i++) {
        char *folder = folder_make();
        struct buffer config = golden_read(changes[i].export, "config.json");
        kvern_model *model = NULL;
        kvern_error err = {0};

        folder_copy(folder, "model.onnx", changes[i].export, "model.onnx");
        assert_int_equal(bytes_replace(&config, changes[i].from, changes[i].to), 1);
        folder_write(folder, "config.json", config.data, config.n_bytes);
        assert_int_equal(kvern_model_open(&model, folder, &err), KVERN_FORMAT);
        if (!strstr(err.message, changes[i].names) || !strstr(err.message, "model.onnx"))
            fail_msg("%s: %s", changes[i].to, err.message);
        buffer_clear(&config);
        folder_remove(folder);
    }
}

static void a_preset_of_another_model_is_refused(void **state)
{
    static const struct {
        const char *preset;
        kvern_status status;
        const char *names;
    } presets[] = {
        {"qwen2.5-coder-0.5b", KVERN_FORMAT, "2 layers, but the model's config says 24"},
        {"llama-3.2-1b", KVERN_FORMAT, "2 layers, but the model's config says 16"},
        {"qwen", KVERN_NOT_FOUND, "qwen2.5-coder-0.5b, "},
    };
    char *folder = folder_make();

    (void)state;
    folder_copy(folder, "model.onnx", "qwen2-f32", "model.onnx");
    for (size_t i = 0; i < COUNT(presets); i++) {
        kvern_model *model = NULL;
        kvern_error err = {0};

        assert_int_equal(kvern_model_open_as(&model, folder, presets[i].preset, &err),
                         presets[i].status);
        if (!strstr(err.message, presets[i].names))
            fail_msg("%s: %s", presets[i].preset, err.message);
    }
    folder_remove(folder);
}

static void tokenizers_must_fit_the_graph(void **state)
{
    char *folder = folder_make();
    struct buffer graph = golden_read("qwen2-f32", "model.onnx");
    kvern_model *model = NULL;
    kvern_error err = {0};

    (void)state;
    folder_write(folder, "model.onnx", graph.data, graph.n_bytes);
    folder_write_text(folder, "tokenizer.json", "{\"model\": 5}");
    assert_int_not_equal(kvern_model_open(&model, folder, &err), KVERN_OK);
    assert_non_null(strstr(err.message, "tokenizer.json"));
    /* bert's graph has 160 ids, qwen2's tokenizer 288 */
    folder_copy(folder, "model.onnx", "bert-f32", "model.onnx");
    folder_copy(folder, "config.json", "bert-f32", "config.json");
    folder_copy(folder, "tokenizer.json", "qwen2-f32", "tokenizer.json");
    assert_int_equal(kvern_model_open(&model, folder, &err), KVERN_FORMAT);
    assert_non_null(strstr(err.message, "the model only 160"));
    buffer_clear(&graph);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exports_are_found_where_exporters_put_them),
        cmocka_unit_test(what_is_missing_is_warned_of),
        cmocka_unit_test(a_config_of_another_model_is_refused),
        cmocka_unit_test(a_preset_of_another_model_is_refused),
        cmocka_unit_test(tokenizers_must_fit_the_graph),
    };

    return cmocka_run_group_tests(tests, set_log, NULL);
}
