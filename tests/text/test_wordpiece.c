/* SPDX-License-Identifier: Apache-2.0
 *
 * WordPiece on vocabularies made for it: longest match, unknown words, prefixes, control tokens
 * that no text may spell, and files that are refused. Equality with Python:
 * test_tokenizer_golden.c.
 */
#include "test.h"
#include "text/support_golden.h"

#include "text/wordpiece.h"

#include <stdlib.h>
#include <string.h>

/* In the order of their ids. */
static const char *const pieces[] = {"[UNK]", "un",       "##aff", "##able", "unaff", "a",  "##a",
                                     "##",    "\xc3\xa9", "##fz",  "b##",    "affz",  "[X]"};

static void make_vocabulary(struct vocabulary *vocabulary)
{
    vocabulary_init(vocabulary, COUNT(pieces));
    for (size_t i = 0; i < COUNT(pieces); i++)
        assert_int_equal(vocabulary_put(vocabulary, pieces[i], strlen(pieces[i]), (int64_t)i, NULL),
                         KVERN_OK);
    assert_int_equal(vocabulary_put_added(vocabulary, "[UNK]", 5, 0, true, NULL), KVERN_OK);
    assert_int_equal(vocabulary_put_added(vocabulary, "[X]", 3, 12, false, NULL), KVERN_OK);
}

static void words_are_the_longest_pieces_from_the_left(void **state)
{
    static const struct {
        const char *word;
        const char *prefix;
        size_t max_characters;
        const char *expected; /* id:end, blank-separated */
    } rows[] = {
        {"unaffable", "##", 100, "4:5 3:9"}, /* not un ##aff ##able: unaff is longer */
        {"unable", "##", 100, "1:2 3:6"},
        {"aaa", "##", 100, "5:1 6:2 6:3"},
        {"aff", "##", 100, "0:3"}, /* affz begins so, but a ##f... leads nowhere */
        {"unx", "##", 100, "0:3"}, /* found pieces are dropped */
        {"affz", "##", 100, "11:4"},
        {"aaffz", "##", 100, "0:5"},
        {"unafffz", "##", 100, "4:5 9:7"},
        {"\xc3\xa9", "##", 1, "8:2"}, /* one character of two bytes */
        {"\xc3\xa9"
         "a",
         "##", 2, "8:2 6:3"},
        {"\xc3\xa9"
         "a",
         "##", 1, "0:3"}, /* over the limit */
        {"a", "##", 0, "0:1"},
        {"unaffable", "", 100, "0:9"},
        {"unaa", "", 100, "1:2 5:3 5:4"}, /* without prefix every piece goes on */
        {"unaff", "un", 100, "4:5"},
        {"aaff", "un", 100, "5:1 4:4"}, /* "unaff" is "aff" with the prefix "un" */
        {"##", "##", 100, "7:2"},       /* "##" is a piece of its own too */
        {"b####", "##", 100, "0:5"},    /* the piece "##" has nothing behind the prefix */
        {"[UNK]", "##", 100, "0:5"},    /* as an unknown word */
        {"[X]", "##", 100, "0:3"},      /* added and spelled like markup: never found */
        {"[X]", "", 100, "0:3"},
        {"", "##", 100, ""},
    };
    struct vocabulary vocabulary;
    struct buffer scratch = {0};

    (void)state;
    make_vocabulary(&vocabulary);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wordpiece_options options = {"[UNK]", rows[i].prefix, rows[i].max_characters};
        struct wordpiece wordpiece;
        struct buffer out = {0};
        struct buffer shown = {0};

        assert_int_equal(wordpiece_open(&wordpiece, &vocabulary, &options, NULL), KVERN_OK);
        assert_int_equal(
            wordpiece_encode(&wordpiece, &scratch, rows[i].word, strlen(rows[i].word), &out, NULL),
            KVERN_OK);
        const struct word_token *tokens = (const void *)out.data;
        for (size_t j = 0; j < out.n_bytes / sizeof *tokens; j++)
            buffer_add_format(&shown, "%s%d:%u", j ? " " : "", tokens[j].id, tokens[j].end);
        assert_string_equal(shown.data ? shown.data : "", rows[i].expected);
        buffer_clear(&shown);
        buffer_clear(&out);
        wordpiece_close(&wordpiece);
    }
    buffer_clear(&scratch);
    vocabulary_clear(&vocabulary);
}

#define MODEL(members) "{\"model\":{\"type\":\"WordPiece\"," members "}}"
#define PREFIX_AND_MAX "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100"

static void bad_files_are_named(void **state)
{
    static const struct {
        const char *json;
        kvern_status status;
        const char *named;
    } rows[] = {
        {MODEL("\"unk_token\":\"u\"," PREFIX_AND_MAX), KVERN_FORMAT, "vocab"},
        {MODEL("\"unk_token\":\"u\"," PREFIX_AND_MAX ",\"vocab\":{\"a\":0}"), KVERN_FORMAT,
         "unk_token \"u\" is not in the vocabulary"},
        {MODEL(PREFIX_AND_MAX ",\"vocab\":{\"a\":0}"), KVERN_FORMAT, "\"unk_token\""},
        {MODEL("\"unk_token\":7," PREFIX_AND_MAX ",\"vocab\":{\"a\":0}"), KVERN_FORMAT,
         "\"unk_token\""},
        {MODEL("\"unk_token\":\"a\",\"max_input_chars_per_word\":100,\"vocab\":{\"a\":0}"),
         KVERN_FORMAT, "\"continuing_subword_prefix\""},
        {MODEL("\"unk_token\":\"a\",\"continuing_subword_prefix\":\"\",\"vocab\":{\"a\":0}"),
         KVERN_FORMAT, "max_input_chars_per_word"},
        {MODEL("\"unk_token\":\"a\",\"continuing_subword_prefix\":\"\","
               "\"max_input_chars_per_word\":-1,\"vocab\":{\"a\":0}"),
         KVERN_FORMAT, "max_input_chars_per_word"},
        {MODEL("\"unk_token\":\"a\",\"continuing_subword_prefix\":\"\","
               "\"max_input_chars_per_word\":1e3,\"vocab\":{\"a\":0}"),
         KVERN_FORMAT, "max_input_chars_per_word"},
        {MODEL("\"unk_token\":\"a\"," PREFIX_AND_MAX ",\"vocab\":{\"a\":0,\"b\":0}"), KVERN_FORMAT,
         "the 2 pieces of the vocabulary have only 1 ids"},
        {MODEL("\"unk_token\":\"a\"," PREFIX_AND_MAX ",\"vocab\":{\"a\":0,\"a\":1}"), KVERN_FORMAT,
         "\"a\" is listed twice"},
        {MODEL("\"unk_token\":\"a\"," PREFIX_AND_MAX ",\"vocab\":[\"a\"]"), KVERN_FORMAT, "vocab"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"WordPiece\","
         "\"unk_token\":\"a\"," PREFIX_AND_MAX ",\"vocab\":{\"a\":0}}}",
         KVERN_UNSUPPORTED, "ByteLevel"},
        {"{\"decoder\":{\"type\":\"WordPiece\"},\"model\":{\"type\":\"WordPiece\","
         "\"unk_token\":\"a\"," PREFIX_AND_MAX ",\"vocab\":{\"a\":0}}}",
         KVERN_FORMAT, "prefix"},
        {"{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":"
         "\"WordPiece\",\"prefix\":\"##\"}]},\"model\":{\"type\":\"WordPiece\","
         "\"unk_token\":\"a\"," PREFIX_AND_MAX ",\"vocab\":{\"a\":0}}}",
         KVERN_UNSUPPORTED, "decoder WordPiece at this place"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct tokenizer *tokenizer = NULL;
        kvern_error err = {0};

        assert_int_equal(tokenizer_open_json(&tokenizer, rows[i].json, strlen(rows[i].json), &err),
                         rows[i].status);
        if (!strstr(err.message, rows[i].named))
            fail_msg("row %zu: \"%s\" does not name %s", i, err.message, rows[i].named);
        assert_null(tokenizer);
    }
}

/* A long piece counts only if max_input_chars_per_word lets a word hold it. */
static void long_pieces_have_a_limit(void **state)
{
    static const struct {
        size_t n_bytes; /* of the longest piece */
        size_t max_characters;
        kvern_status status;
    } rows[] = {
        {WORDPIECE_MAX_PIECE_BYTES, SIZE_MAX, KVERN_OK},
        {WORDPIECE_MAX_PIECE_BYTES + 1, SIZE_MAX, KVERN_LIMIT},
        {WORDPIECE_MAX_PIECE_BYTES + 1, 1000000, KVERN_LIMIT},
        {WORDPIECE_MAX_PIECE_BYTES + 1, WORDPIECE_MAX_PIECE_BYTES / 4, KVERN_OK},
        {WORDPIECE_MAX_PIECE_BYTES * 64, 100, KVERN_OK},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct vocabulary vocabulary;
        struct wordpiece_options options = {"u", "##", rows[i].max_characters};
        struct wordpiece wordpiece;
        struct buffer piece = {0};
        kvern_error err = {0};

        for (size_t j = 0; j < rows[i].n_bytes; j++)
            buffer_add_byte(&piece, 'a');
        vocabulary_init(&vocabulary, 2);
        assert_int_equal(vocabulary_put(&vocabulary, "u", 1, 0, NULL), KVERN_OK);
        assert_int_equal(vocabulary_put(&vocabulary, piece.data, piece.n_bytes, 1, NULL), KVERN_OK);
        assert_int_equal(wordpiece_open(&wordpiece, &vocabulary, &options, &err), rows[i].status);
        if (rows[i].status == KVERN_OK)
            wordpiece_close(&wordpiece);
        else
            assert_non_null(strstr(err.message, "1024"));
        vocabulary_clear(&vocabulary);
        buffer_clear(&piece);
    }
}

static struct tokenizer *open_golden(const char *file)
{
    size_t n_bytes;
    char *json = golden_file(file, &n_bytes);
    struct tokenizer *tokenizer = golden_open(json, n_bytes);

    free(json);
    return tokenizer;
}

static size_t count_of(const struct tokenizer *tokenizer, const char *text, unsigned flags,
                       const char *piece)
{
    int32_t id = tokenizer_id(tokenizer, piece, strlen(piece));
    kvern_tokens tokens = {0};
    size_t n = 0;

    assert_true(id >= 0);
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), flags, &tokens, NULL),
                     KVERN_OK);
    for (size_t i = 0; i < tokens.n; i++)
        n += tokens.ids[i] == id;
    kvern_tokens_clear(&tokens);
    return n;
}

static void users_cannot_write_control_tokens(void **state)
{
    /* the last: clean_text takes the soft hyphen out after control tokens were sought */
    static const char *const texts[] = {"a [SEP] b", "[SEP]", "x[SEP]",
                                        "[S\xc2\xad"
                                        "EP]"};
    static const size_t n_trusted[] = {1, 1, 1, 0};
    static const char whole_words[] =
        "{\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},\"normalizer\":{\"type\":"
        "\"BertNormalizer\",\"lowercase\":false},\"added_tokens\":[{\"id\":1,\"content\":\"[SEP]\","
        "\"special\":true}],\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]"
        "\"," PREFIX_AND_MAX ",\"vocab\":{\"[UNK]\":0,\"[SEP]\":1,\"a\":2,\"##[SEP]\":3,\"x\":4}}}";
    struct tokenizer *tokenizers[] = {open_golden("bert.json"), open_golden("cased.json"),
                                      golden_open(whole_words, sizeof whole_words - 1)};

    (void)state;
    for (size_t i = 0; i < COUNT(tokenizers); i++) {
        for (size_t j = 0; j < COUNT(texts); j++) {
            assert_int_equal(count_of(tokenizers[i], texts[j], 0, "[SEP]"), 0);
            assert_int_equal(count_of(tokenizers[i], texts[j], KVERN_TOKENIZE_CONTROL, "[SEP]"),
                             n_trusted[j]);
        }
        tokenizer_close(tokenizers[i]);
    }
}

/* The same ids as with U+FFFD in their place, which clean_text takes out. */
static void ill_formed_bytes_go(void **state)
{
    static const char *const rows[][2] = {
        {"caf\xff"
         "\xc3\xa9 x",
         "caf\xc3\xa9 x"},
        {"\xe4\xb8 the", " the"},
        {"th\xed\xa0\x80"
         "e",
         "the"},
        {"\xc0\x80", ""},
    };
    struct tokenizer *tokenizer = open_golden("bert.json");

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        kvern_tokens tokens[2] = {{0}, {0}};

        for (size_t j = 0; j < 2; j++)
            assert_int_equal(tokenizer_encode(tokenizer, rows[i][j], strlen(rows[i][j]),
                                              KVERN_TOKENIZE_SPECIAL, &tokens[j], NULL),
                             KVERN_OK);
        assert_int_equal(tokens[0].n, tokens[1].n);
        assert_memory_equal(tokens[0].ids, tokens[1].ids, tokens[0].n * sizeof *tokens[0].ids);
        kvern_tokens_clear(&tokens[0]);
        kvern_tokens_clear(&tokens[1]);
    }
    tokenizer_close(tokenizer);
}

/* Files from before "type" was written: what only WordPiece has tells. */
static void a_model_without_type_is_recognised(void **state)
{
    static const char json[] = "{\"model\":{\"unk_token\":\"u\"," PREFIX_AND_MAX
                               ",\"vocab\":{\"u\":0,\"a\":1,\"##b\":2}}}";
    struct tokenizer *tokenizer = golden_open(json, sizeof json - 1);

    (void)state;
    assert_int_equal(count_of(tokenizer, "ab", 0, "##b"), 1);
    assert_false(tokenizer_is_byte_fallback(tokenizer));
    tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_the_longest_pieces_from_the_left),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(long_pieces_have_a_limit),
        cmocka_unit_test(users_cannot_write_control_tokens),
        cmocka_unit_test(ill_formed_bytes_go),
        cmocka_unit_test(a_model_without_type_is_recognised),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
