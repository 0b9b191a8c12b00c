/* SPDX-License-Identifier: Apache-2.0
 *
 * Directories with vocab.txt, or vocab.json and merges.txt: ids equal to those transformers gives
 * (files.json of tests/golden/make_tokens.py), and what is refused.
 */
#include "test.h"
#include "text/support_golden.h"

#include "base/file.h"
#include "convert/tokenizer_files.h"
#include "support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STRIDE = 5 };

static void put_json(const char *name, const json_t *value)
{
    char *text = json_dumps(value, 0);

    scratch_put_text(name, text);
    free(text);
}

static json_t *rename_pieces(const json_t *vocab, const json_t *renamed)
{
    json_t *out = json_object();
    const char *piece;
    json_t *id;

    json_object_foreach((json_t *)vocab, piece, id)
    {
        const char *name = json_string_value(json_object_get(renamed, piece));
        json_object_set(out, name ? name : piece, id);
    }
    return out;
}

/* With the line ends of a Windows checkout, which transformers reads the same. */
static void put_vocab_txt(json_t *vocab)
{
    size_t n = json_object_size(vocab);
    const char **pieces = calloc(n, sizeof *pieces);
    const char *piece;
    json_t *id;
    struct buffer text = {0};

    json_object_foreach(vocab, piece, id) pieces[json_integer_value(id)] = piece;
    for (size_t i = 0; i < n; i++)
        buffer_add_format(&text, "%s\r\n", pieces[i]);
    scratch_put("vocab.txt", text.data, text.n_bytes);
    buffer_clear(&text);
    free(pieces);
}

static void put_vocab_and_merges(const json_t *vocab, const json_t *merges)
{
    struct buffer text = {0};

    buffer_add_string(&text, "#version: 0.2\n");
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *merge = json_array_get(merges, i);

        buffer_add_format(&text, "%s %s\n", json_string_value(json_array_get(merge, 0)),
                          json_string_value(json_array_get(merge, 1)));
    }
    put_json("vocab.json", vocab);
    scratch_put("merges.txt", text.data, text.n_bytes);
    buffer_clear(&text);
}

static void put_case(const json_t *row)
{
    bool is_bert = !strcmp(json_string_value(json_object_get(row, "base")), "bert");
    size_t n_bytes;
    char *text = golden_file(is_bert ? "bert.json" : "gpt2.json", &n_bytes);
    json_t *base = json_loadb(text, n_bytes, 0, NULL);
    json_t *model = json_object_get(base, "model");
    json_t *vocab = rename_pieces(json_object_get(model, "vocab"), json_object_get(row, "renamed"));
    const char *name;
    json_t *members;

    scratch_empty();
    if (is_bert)
        put_vocab_txt(vocab);
    else
        put_vocab_and_merges(vocab, json_object_get(model, "merges"));
    json_object_foreach(json_object_get(row, "files"), name, members) put_json(name, members);
    json_decref(vocab);
    json_decref(base);
    free(text);
}

static void check_case(const json_t *row, size_t number, const struct golden_lines *lines)
{
    char what[32];
    char *json = NULL;
    kvern_error err = {0};

    put_case(row);
    snprintf(what, sizeof what, "case %zu", number);
    if (tokenizer_files_to_json(scratch, &json, &err) != KVERN_OK)
        fail_msg("%s: %s", what, err.message);
    struct tokenizer *tokenizer = golden_open(json, strlen(json));
    golden_check_crcs(tokenizer, lines, KVERN_TOKENIZE_SPECIAL | KVERN_TOKENIZE_CONTROL,
                      json_string_value(json_object_get(row, "ids")), what);
    tokenizer_close(tokenizer);
    free(json);
}

static void ids_equal_those_of_transformers(void **state)
{
    size_t n_bytes;
    char *text = golden_file("files.json", &n_bytes);
    json_t *rows = json_loadb(text, n_bytes, 0, NULL);
    struct golden_lines lines = {0};

    (void)state;
    golden_lines_add(&lines, "bert_lines.json", STRIDE);
    assert_true(json_array_size(rows) >= 15);
    for (size_t i = 0; i < json_array_size(rows); i++)
        check_case(json_array_get(rows, i), i, &lines);
    golden_lines_free(&lines);
    json_decref(rows);
    free(text);
}

struct file {
    const char *name;
    const char *text;
};

#define WORDS                                                                                      \
    {                                                                                              \
        "vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\n"                                                    \
    }
#define PAIR                                                                                       \
    {"vocab.json", "{\"a\":0,\"b\":1,\"ab\":2}"},                                                  \
    {                                                                                              \
        "merges.txt", "a b\n"                                                                      \
    }

static void bad_directories_are_named(void **state)
{
    static const struct {
        struct file files[4];
        kvern_status status;
        const char *named;
    } rows[] = {
        {{{NULL}}, KVERN_NOT_FOUND, "neither vocab.txt nor vocab.json"},
        {{{"vocab.json", "{}"}}, KVERN_NOT_FOUND, "neither"},
        {{{"merges.txt", ""}}, KVERN_NOT_FOUND, "neither"},
        {{{"tokenizer_config.json", "{}"}}, KVERN_NOT_FOUND, "neither"},
        {{WORDS, {"tokenizer_config.json", "{"}}, KVERN_FORMAT, "tokenizer_config.json"},
        {{WORDS, {"special_tokens_map.json", "[]"}}, KVERN_FORMAT, "special_tokens_map.json"},
        {{WORDS, {"tokenizer_config.json", "{\"tokenizer_class\":\"BertJapaneseTokenizer\"}"}},
         KVERN_UNSUPPORTED,
         "BertJapaneseTokenizer"},
        {{WORDS, {"config.json", "{\"tokenizer_class\":\"BertTokenizerFaster\"}"}},
         KVERN_UNSUPPORTED,
         "BertTokenizerFaster"},
        {{WORDS, {"tokenizer_config.json", "{\"tokenizer_class\":\"GPT2Tokenizer\"}"}},
         KVERN_NOT_FOUND,
         "merges.txt"},
        {{PAIR, {"tokenizer_config.json", "{\"tokenizer_class\":\"BertTokenizer\"}"}},
         KVERN_NOT_FOUND,
         "vocab.txt"},
        {{{"vocab.txt", "a\nb\xff\n"}}, KVERN_FORMAT, "line 2"},
        {{{"vocab.txt", "a\n[UNK]\n[SEP]\n"}}, KVERN_FORMAT, "cls_token \"[CLS]\""},
        {{WORDS, {"tokenizer_config.json", "{\"sep_token\":null}"}}, KVERN_FORMAT, "sep_token"},
        {{WORDS, {"tokenizer_config.json", "{\"pad_token\":7}"}}, KVERN_FORMAT, "pad_token"},
        {{WORDS, {"added_tokens.json", "{\"x\":\"y\"}"}}, KVERN_FORMAT, "\"x\""},
        {{WORDS,
          {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"-1\":{\"content\":\"x\"}}}"}},
         KVERN_FORMAT,
         "\"-1\""},
        {{WORDS, {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"5\":{}}}"}},
         KVERN_FORMAT,
         "\"5\""},
        {{WORDS,
          {"tokenizer_config.json",
           "{\"added_tokens_decoder\":{\"99999999999999999999\":{\"content\":\"x\"}}}"}},
         KVERN_FORMAT,
         "99999999999999999999"},
        {{{"vocab.json", "[]"}, {"merges.txt", ""}}, KVERN_FORMAT, "vocab.json"},
        {{{"vocab.json", "{\"a\":0}"}, {"merges.txt", "\xff b\n"}}, KVERN_FORMAT, "line 1"},
        {{PAIR, {"tokenizer_config.json", "{\"add_bos_token\":true}"}},
         KVERN_FORMAT,
         "bos_token \"<|endoftext|>\""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *json = NULL;
        kvern_error err = {0};

        scratch_empty();
        for (size_t j = 0; j < COUNT(rows[i].files) && rows[i].files[j].name; j++)
            scratch_put_text(rows[i].files[j].name, rows[i].files[j].text);
        assert_int_equal(tokenizer_files_to_json(scratch, &json, &err), rows[i].status);
        assert_null(json);
        if (!strstr(err.message, rows[i].named))
            fail_msg("row %zu: \"%s\" does not name %s", i, err.message, rows[i].named);
    }
}

/* An unfinished last line counts, a NUL byte does not pass. */
static void ends_of_vocab_txt(void **state)
{
    static const char unfinished[] = "[UNK]\n[CLS]\n[SEP]\nab";
    static const char with_nul[] = "[UNK]\n[CLS]\n[SEP]\na\0b\n";
    char *json = NULL;
    kvern_error err = {0};

    (void)state;
    scratch_empty();
    scratch_put("vocab.txt", unfinished, sizeof unfinished - 1);
    assert_int_equal(tokenizer_files_to_json(scratch, &json, NULL), KVERN_OK);
    struct tokenizer *tokenizer = golden_open(json, strlen(json));
    assert_int_equal(tokenizer_id(tokenizer, "ab", 2), 3);
    assert_int_equal(tokenizer_vocab_size(tokenizer), 4);
    tokenizer_close(tokenizer);
    free(json);
    json = NULL;
    scratch_put("vocab.txt", with_nul, sizeof with_nul - 1);
    assert_int_equal(tokenizer_files_to_json(scratch, &json, &err), KVERN_FORMAT);
    assert_non_null(strstr(err.message, "line 4"));
}

/* CodeT5's sentinels: their ids in one file, what surrounds them in another. */
static void flags_of_special_tokens_hold_for_added_ones(void **state)
{
    static const char vocab[] =
        "{\"<s>\":0,\"<pad>\":1,\"</s>\":2,\"<unk>\":3,\"a\":4,\"\xc4\xa0\":5}";
    static const char added[] = "{\"<extra_id_0>\":6,\"<x>\":7}";
    static const char special[] = "{\"additional_special_tokens\":[{\"content\":\"<extra_id_0>\","
                                  "\"lstrip\":true,\"normalized\":true}]}";
    static const int32_t expected[] = {0, 4, 6, 5, 7, 2}; /* the space before 6 is its own */
    char *json = NULL;
    kvern_tokens tokens = {0};

    (void)state;
    scratch_empty();
    scratch_put("vocab.json", vocab, sizeof vocab - 1);
    scratch_put("merges.txt", "", 0);
    scratch_put("added_tokens.json", added, sizeof added - 1);
    scratch_put("special_tokens_map.json", special, sizeof special - 1);
    assert_int_equal(tokenizer_files_to_json(scratch, &json, NULL), KVERN_OK);
    struct tokenizer *tokenizer = golden_open(json, strlen(json));
    assert_int_equal(tokenizer_encode(tokenizer, "a <extra_id_0> <x>", 18,
                                      KVERN_TOKENIZE_SPECIAL | KVERN_TOKENIZE_CONTROL, &tokens,
                                      NULL),
                     KVERN_OK);
    assert_int_equal(tokens.n, COUNT(expected));
    assert_memory_equal(tokens.ids, expected, sizeof expected);
    assert_true(tokenizer_is_special(tokenizer, 6));
    assert_false(tokenizer_is_special(tokenizer, 7));
    kvern_tokens_clear(&tokens);
    tokenizer_close(tokenizer);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_equal_those_of_transformers),
        cmocka_unit_test(bad_directories_are_named),
        cmocka_unit_test(ends_of_vocab_txt),
        cmocka_unit_test(flags_of_special_tokens_hold_for_added_ones),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
