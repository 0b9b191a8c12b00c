/* SPDX-License-Identifier: Apache-2.0
 *
 * Unigram: cuts of vocabularies made for it, unknown characters, control tokens that no text may
 * spell, words of a megabyte, files that are refused; ids equal to Python's `tokenizers` over 2,041
 * lines and over 100 in some twenty configurations (tests/golden/make_unigram.py). With a real
 * precompiled map: tests/convert/test_sentencepiece.c.
 */
#include "test.h"
#include "text/support_golden.h"

#include "text/unigram.h"

#include <stdlib.h>
#include <string.h>

#define FILE_OF(vocab, members)                                                                    \
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":"  \
    "\"</s>\",\"special\":true}],\"model\":{\"type\":\"Unigram\"," members                         \
    "\"vocab\":[[\"<unk>\",0],[\"</s>\",0]," vocab "]}}"
#define UNKNOWN "\"unk_id\":0,"
#define BYTES "\"unk_id\":0,\"byte_fallback\":true,"

static void show(const char *json, const char *word, struct buffer *shown)
{
    struct tokenizer *tokenizer = golden_open(json, strlen(json));
    kvern_tokens tokens = {0};
    kvern_error err;

    if (tokenizer_encode(tokenizer, word, strlen(word), 0, &tokens, &err) != KVERN_OK)
        buffer_add_string(shown, err.message);
    for (size_t i = 0; i < tokens.n; i++)
        buffer_add_format(shown, "%s%d:%zu", i ? " " : "", tokens.ids[i], tokens.ends[i]);
    kvern_tokens_clear(&tokens);
    tokenizer_close(tokenizer);
}

static void words_are_cut_into_the_likeliest_pieces(void **state)
{
#define AB "[\"a\",-2],[\"b\",-2]"
    static const struct {
        const char *json;
        const char *word;
        const char *expected; /* id:end, blank-separated */
    } rows[] = {
        {FILE_OF(AB ",[\"ab\",-3]", UNKNOWN), "ab", "4:2"},
        {FILE_OF(AB ",[\"ab\",-5]", UNKNOWN), "ab", "2:1 3:2"},
        /* of equal sums the first offer counts: the one whose last piece begins first */
        {FILE_OF(AB ",[\"ab\",-4]", UNKNOWN), "ab", "4:2"},
        {FILE_OF(AB ",[\"aa\",-3]", UNKNOWN), "aaa", "2:1 4:3"},
        {FILE_OF(AB ",[\"aa\",-3]", UNKNOWN), "aaaaa", "2:1 4:3 4:5"},
        {FILE_OF(AB ",[\"abab\",-1]", UNKNOWN), "ababab", "2:1 3:2 4:6"},
        /* unknown characters make one token, and cost 10 more than the unlikeliest piece each */
        {FILE_OF(AB, UNKNOWN), "axyzb", "2:1 0:4 3:5"},
        {FILE_OF(AB, UNKNOWN), "\xc3\xa9\xe4\xb8\xad", "0:5"},
        {FILE_OF(AB ",[\"xy\",-25]", UNKNOWN), "axyb", "2:1 4:3 3:4"},
        {FILE_OF("[\"a\",-2],[\"xy\",-50]", UNKNOWN), "axya", "2:1 3:3 2:4"},
        /* where all scores are high, so are those of unknown characters: a run that spells a piece
         * is that piece even so */
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"u\",20],[\"wxyz\",20],[\"a\","
         "20]]"
         "}}",
         "awxyza", "2:1 1:5 2:6"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"u\",20],[\"wxyz\",20],[\"a\","
         "20]]"
         "}}",
         "awxyzwa", "2:1 0:6 2:7"},
        /* bytes, if each of the run has a token */
        {FILE_OF(AB ",[\"<0xC3>\",-9],[\"<0xA9>\",-9]", BYTES), "a\xc3\xa9", "2:1 4:3 5:3"},
        {FILE_OF(AB ",[\"<0xC3>\",-9]", BYTES), "a\xc3\xa9", "2:1 0:3"},
        {FILE_OF(AB ",[\"<0xC3>\",-9],[\"<0xA9>\",-9]", UNKNOWN), "a\xc3\xa9", "2:1 0:3"},
        /* what is not trusted spells no control token, even where it is the likeliest piece */
        {FILE_OF(AB ",[\"<\",-1],[\"/\",-1],[\"s\",-1],[\">\",-1]", UNKNOWN), "a</s>",
         "2:1 4:2 5:3 6:4 7:5"},
        {FILE_OF(AB, UNKNOWN), "</s>", "0:4"},
        {FILE_OF(AB, UNKNOWN), "<unk>", "0:5"},
        {FILE_OF(AB ",[\"\",-1]", UNKNOWN), "ab", "2:1 3:2"}, /* an empty piece is never met */
        {FILE_OF(AB, ""), "ab", "2:1 3:2"},
        {FILE_OF(AB, ""), "ax",
         "the text has a character that no piece of the vocabulary spells, and the tokenizer has "
         "no "
         "unknown token"},
        {FILE_OF(AB, UNKNOWN), "", ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buffer shown = {0};

        show(rows[i].json, rows[i].word, &shown);
        if (strcmp(shown.data ? shown.data : "", rows[i].expected) != 0)
            fail_msg("row %zu: got %s, expected %s", i, shown.data, rows[i].expected);
        buffer_clear(&shown);
    }
}

/* One word of a megabyte, known, unknown and both in turn: a step for every two places of it would
 * take longer than a test may. */
static void a_word_of_a_megabyte_ends(void **state)
{
    enum { N = 1 << 20 };
    static const char json[] =
        FILE_OF("[\"a\",-2],[\"aa\",-3],[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",-4]", UNKNOWN);
    static const size_t n_expected[] = {N / 32, 1, 2 * (N / 3) + 1};
    struct tokenizer *tokenizer = golden_open(json, sizeof json - 1);
    char *word = malloc(N);

    (void)state;
    assert_non_null(word);
    for (int kind = 0; kind < 3; kind++) {
        kvern_tokens tokens = {0};

        for (int i = 0; i < N; i++)
            word[i] = kind == 0 || (kind == 2 && i % 3) ? 'a' : 'x';
        assert_int_equal(tokenizer_encode(tokenizer, word, N, 0, &tokens, NULL), KVERN_OK);
        assert_int_equal(tokens.n, n_expected[kind]);
        kvern_tokens_clear(&tokens);
    }
    free(word);
    tokenizer_close(tokenizer);
}

#define MODEL(members) "{\"model\":{\"type\":\"Unigram\"," members "}}"

static void bad_files_are_named(void **state)
{
    static const struct {
        const char *json;
        kvern_status status;
        const char *named;
    } rows[] = {
        {MODEL("\"unk_id\":0"), KVERN_FORMAT, "list \"vocab\""},
        {MODEL("\"unk_id\":0,\"vocab\":{\"a\":0}"), KVERN_FORMAT, "list \"vocab\""},
        {MODEL("\"unk_id\":0,\"vocab\":[]"), KVERN_FORMAT, "piece 0"},
        {MODEL("\"unk_id\":0,\"vocab\":[[\"a\",0],[\"b\"]]"), KVERN_FORMAT, "piece 1, \"b\""},
        {MODEL("\"unk_id\":0,\"vocab\":[[\"a\",\"0\"]]"), KVERN_FORMAT, "piece 0, \"a\""},
        {MODEL("\"unk_id\":0,\"vocab\":[[\"a\",-1e999]]"), KVERN_FORMAT, "piece 0, \"a\""},
        {MODEL("\"unk_id\":0,\"vocab\":[[\"a\",0,0]]"), KVERN_FORMAT, "piece 0, \"a\""},
        {MODEL("\"unk_id\":0,\"vocab\":[[\"a\",0],[\"a\",0]]"), KVERN_FORMAT,
         "\"a\" is listed twice"},
        {MODEL("\"unk_id\":2,\"vocab\":[[\"a\",0],[\"b\",0]]"), KVERN_FORMAT, "unk_id 2"},
        {MODEL("\"unk_id\":-1,\"vocab\":[[\"a\",0]]"), KVERN_FORMAT, "unk_id -1"},
        {MODEL("\"unk_id\":4294967296,\"vocab\":[[\"a\",0]]"), KVERN_FORMAT, "unk_id 4294967296"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"Unigram\",\"unk_id\":0,"
         "\"vocab\":[[\"a\",0]]}}",
         KVERN_UNSUPPORTED, "ByteLevel"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct tokenizer *tokenizer = NULL;
        kvern_error err = {0};
        kvern_status status =
            tokenizer_open_json(&tokenizer, rows[i].json, strlen(rows[i].json), &err);

        if (status != rows[i].status || !strstr(err.message, rows[i].named))
            fail_msg("row %zu: %s: %s", i, kvern_status_name(status), err.message);
        assert_null(tokenizer);
    }
}

/* A piece of 1024 bytes is taken, one more is refused: encoding would take quadratic time. */
static void pieces_have_a_limit(void **state)
{
    (void)state;
    for (int over = 0; over < 2; over++) {
        struct buffer json = {0};
        struct tokenizer *tokenizer = NULL;
        kvern_error err = {0};

        buffer_add_string(&json, "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"");
        for (int i = 0; i < UNIGRAM_MAX_PIECE_BYTES + over; i++)
            buffer_add_byte(&json, 'a');
        buffer_add_string(&json, "\",0]]}}");
        assert_int_equal(tokenizer_open_json(&tokenizer, json.data, json.n_bytes, &err),
                         over ? KVERN_LIMIT : KVERN_OK);
        if (over)
            assert_non_null(strstr(err.message, "1025 bytes"));
        tokenizer_close(tokenizer);
        buffer_clear(&json);
    }
}

static void ids_equal_pythons(void **state)
{
    struct golden_lines lines = {0};
    size_t n_bytes;
    char *json = golden_file("unigram.json", &n_bytes);
    struct tokenizer *tokenizer = golden_open(json, n_bytes);

    (void)state;
    golden_lines_add(&lines, "lines.json", 10);
    golden_lines_add(&lines, "unigram_lines.json", 1);
    assert_true(lines.n > 2000);
    golden_check_ids(tokenizer, &lines, "unigram.digest");
    golden_lines_free(&lines);
    tokenizer_close(tokenizer);
    free(json);
}

static void other_configurations_equal_pythons(void **state)
{
    struct golden_lines hard = {0};

    (void)state;
    golden_lines_add(&hard, "unigram_lines.json", 1);
    golden_check_variants("unigram_variants.json", 15, &hard, hard.n, 10);
    golden_lines_free(&hard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_cut_into_the_likeliest_pieces),
        cmocka_unit_test(a_word_of_a_megabyte_ends),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(pieces_have_a_limit),
        cmocka_unit_test(ids_equal_pythons),
        cmocka_unit_test(other_configurations_equal_pythons),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
