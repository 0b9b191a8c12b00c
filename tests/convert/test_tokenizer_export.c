/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer.json made from small GGUF vocabularies and from the default model's, read back as JSON.
 */
#include "base/buffer.h"
#include "base/file.h"
#include "convert/checkpoint.h"
#include "convert/tokenizer_export.h"
#include "support_gguf.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char model_path[] = KVERN_SOURCE_DIR "/.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf";

struct vocabulary_case {
    const char *model;
    const char *pre;
    const char *const *tokens;
    const int32_t *types;
    size_t n_types;
    const char *const *merges;
    int add_bos; /* -1: the key is absent */
    uint32_t bos;
};

static const char *const tokens[] = {"<unk>", "a",     "b",      "ab",     "\xc4\xa0",
                                     "<bos>", "<eos>", "<tool>", "<pad0>", NULL};
static const int32_t types[] = {3, 1, 1, 1, 1, 3, 3, 4, 5};
static const char *const merges[] = {"a b", NULL};

static kvern_status export_case(const struct vocabulary_case *c, char **json, char **chat,
                                kvern_error *err)
{
    struct buffer file = {0};
    struct gguf gguf;

    put_header(&file, 0, c->add_bos < 0 ? 7 : 8);
    put_string_value(&file, "tokenizer.ggml.model", c->model);
    put_string_value(&file, "tokenizer.ggml.pre", c->pre);
    put_strings_value(&file, "tokenizer.ggml.tokens", c->tokens);
    put_ints_value(&file, "tokenizer.ggml.token_type", c->types, c->n_types);
    put_strings_value(&file, "tokenizer.ggml.merges", c->merges);
    put_u32_value(&file, "tokenizer.ggml.bos_token_id", c->bos);
    put_string_value(&file, "tokenizer.chat_template", "{{ x }}");
    if (c->add_bos >= 0)
        put_bool_value(&file, "tokenizer.ggml.add_bos_token", c->add_bos);
    assert_int_equal(gguf_parse(&gguf, (const uint8_t *)file.data, file.n_bytes, err), KVERN_OK);
    kvern_status status = tokenizer_export(&gguf, json, chat, err);
    gguf_clear(&gguf);
    buffer_clear(&file);
    return status;
}

static const char *text_at(const json_t *object, const char *a, const char *b)
{
    return json_string_value(json_object_get(json_object_get(object, a), b));
}

static void every_pre_tokenizer(void **state)
{
    static const struct {
        const char *pre;
        int add_bos;
        const char *first; /* type of the first pre-tokenizer of the sequence; NULL: ByteLevel */
        const char *normalizer; /* type, or NULL */
        const char *regex_part;
        bool ignores_merges;
        bool has_template;
    } cases[] = {
        {"smollm", 0, "Digits", NULL, NULL, false, false},
        {"gpt-2", -1, NULL, NULL, NULL, false, false},
        {"default", 1, NULL, NULL, NULL, false, true},
        {"llama-bpe", -1, "Split", NULL, "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|", true,
         true},
        {"llama-bpe", 0, "Split", NULL, "(?i:'s|'t|'re|'ve|'m|'ll|'d)|", true, false},
        {"qwen2", 0, "Split", "NFC", "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|", false, false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct vocabulary_case c = {"gpt2", cases[i].pre, tokens,           types,
                                    9,      merges,       cases[i].add_bos, 5};
        char *json = NULL, *chat = NULL;
        kvern_error err;

        if (export_case(&c, &json, &chat, &err) != KVERN_OK)
            fail_msg("%s: %s", cases[i].pre, err.message);
        assert_string_equal(chat, "{{ x }}");
        json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
        const json_t *pre = json_object_get(root, "pre_tokenizer");
        const json_t *byte_level = pre;
        if (cases[i].first) {
            const json_t *list = json_object_get(pre, "pretokenizers");

            assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "type")),
                                cases[i].first);
            if (cases[i].regex_part)
                assert_non_null(strstr(text_at(json_array_get(list, 0), "pattern", "Regex"),
                                       cases[i].regex_part));
            byte_level = json_array_get(list, 1);
        }
        assert_string_equal(json_string_value(json_object_get(byte_level, "type")), "ByteLevel");
        assert_int_equal(json_is_true(json_object_get(byte_level, "use_regex")),
                         !cases[i].regex_part);
        assert_false(json_is_true(json_object_get(byte_level, "add_prefix_space")));
        assert_string_equal(text_at(root, "decoder", "type"), "ByteLevel");
        if (cases[i].normalizer)
            assert_string_equal(text_at(root, "normalizer", "type"), cases[i].normalizer);
        else
            assert_true(json_is_null(json_object_get(root, "normalizer")));
        const json_t *model = json_object_get(root, "model");
        assert_int_equal(json_is_true(json_object_get(model, "ignore_merges")),
                         cases[i].ignores_merges);
        assert_int_equal(strstr(json, "TemplateProcessing") != NULL, cases[i].has_template);

        /* <bos>, <eos>, <tool> close the vocabulary and stand among the added tokens alone; the
         * unused <pad0> behind them is gone */
        assert_int_equal(json_object_size(json_object_get(model, "vocab")), 5);
        assert_int_equal(json_array_size(json_object_get(model, "merges")), 1);
        const json_t *added = json_object_get(root, "added_tokens");
        assert_int_equal(json_array_size(added), 4);
        const json_t *tool = json_array_get(added, 3);
        assert_string_equal(json_string_value(json_object_get(tool, "content")), "<tool>");
        assert_int_equal(json_integer_value(json_object_get(tool, "id")), 7);
        assert_false(json_is_true(json_object_get(tool, "special")));
        assert_true(json_is_true(json_object_get(json_array_get(added, 1), "special")));
        json_decref(root);
        free(json);
        free(chat);
    }
}

static void bad_vocabularies_are_refused(void **state)
{
    static const char *const twice[] = {"a", "b", "a", NULL};
    static const char *const latin1[] = {"a", "\xe9", "b", NULL};
    static const char *const plain[] = {"a", "b", "ab", NULL};
    static const char *const odd_merge[] = {"ab", NULL};
    static const char *const half_merge[] = {"a ", NULL};
    static const int32_t normal[] = {1, 1, 1};
    static const int32_t unknown[] = {1, 9, 1};
    static const int32_t special[] = {3, 3, 1};
    static const struct {
        struct vocabulary_case c;
        kvern_status status;
        const char *message;
    } cases[] = {
        {{"llama", "default", plain, normal, 3, merges, 0, 0},
         KVERN_UNSUPPORTED,
         "GGUF tokenizer model \"llama\" is not supported (gpt2 is)"},
        {{"gpt2", "tekken", plain, normal, 3, merges, 0, 0},
         KVERN_UNSUPPORTED,
         "GGUF pre-tokenizer \"tekken\" is not known to kvern"},
        {{"gpt2", "gpt-2", plain, normal, 2, merges, 0, 0},
         KVERN_FORMAT,
         "GGUF has 3 tokens but 2 token types"},
        {{"gpt2", "gpt-2", plain, unknown, 3, merges, 0, 0},
         KVERN_FORMAT,
         "GGUF token 1 has an unknown type"},
        {{"gpt2", "gpt-2", twice, normal, 3, merges, 0, 0},
         KVERN_FORMAT,
         "GGUF token 2 stands there twice"},
        {{"gpt2", "gpt-2", latin1, normal, 3, merges, 0, 0},
         KVERN_FORMAT,
         "GGUF token 1 is not valid UTF-8"},
        {{"gpt2", "gpt-2", latin1, special, 3, merges, 0, 0},
         KVERN_FORMAT,
         "GGUF token 1 is not valid UTF-8"},
        {{"gpt2", "gpt-2", plain, normal, 3, odd_merge, 0, 0},
         KVERN_FORMAT,
         "GGUF merge 0 is not two tokens with a space between"},
        {{"gpt2", "gpt-2", plain, normal, 3, half_merge, 0, 0},
         KVERN_FORMAT,
         "GGUF merge 0 is not two tokens with a space between"},
        {{"gpt2", "gpt-2", plain, normal, 3, merges, 1, 3},
         KVERN_FORMAT,
         "GGUF metadata tokenizer.ggml.bos_token_id is not an id in the vocabulary"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *json = NULL, *chat = NULL;
        kvern_error err = {0};
        kvern_status status = export_case(&cases[i].c, &json, &chat, &err);

        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(status, cases[i].status);
        assert_null(json);
        assert_null(chat);
    }
}

static void default_model(void **state)
{
    struct checkpoint checkpoint;
    kvern_error err;
    (void)state;

    if (!file_exists(model_path))
        skip(); /* scripts/setup.sh model fetches it */
    assert_int_equal(checkpoint_open(&checkpoint, model_path, &err), KVERN_OK);
    json_t *root = json_loads(checkpoint.tokenizer_json, JSON_REJECT_DUPLICATES, NULL);
    const json_t *model = json_object_get(root, "model");
    assert_int_equal(json_object_size(json_object_get(model, "vocab")), 49152);
    assert_int_equal(json_array_size(json_object_get(model, "merges")), 48900);
    assert_int_equal(json_array_size(json_object_get(root, "added_tokens")), 17);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(model, "vocab"), "<|im_end|>")), 2);
    json_decref(root);
    checkpoint_close(&checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pre_tokenizer),
        cmocka_unit_test(bad_vocabularies_are_refused),
        cmocka_unit_test(default_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
