/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte-pair merges on a hand-made vocabulary, and against a plain quadratic merge on random words
 * of every length: both of the program's ways to merge must agree with it.
 */
#include "text/bpe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h> /* needs the headers above */

struct model {
    struct vocabulary vocabulary;
    struct bpe bpe;
};

static const char *const pieces[] = {"a",     "b",    "c",   "ab",    "bc",     "abc",
                                     "aa",    "aaaa", "cab", "<unk>", "<0xC3>", "<0xA9>",
                                     "abcab", "bb",   "##b", "a##b",  "c@"};
static const char *const merges[][2] = {{"b", "c"},   {"a", "b"},    {"a", "a"},
                                        {"aa", "aa"}, {"a", "bc"},   {"ab", "c"},
                                        {"c", "ab"},  {"abc", "ab"}, {"b", "b"}};

static void open_model(struct model *model, const struct bpe_options *options)
{
    size_t n_pieces = sizeof pieces / sizeof pieces[0];
    struct bpe_options all = *options;
    kvern_error err;

    vocabulary_init(&model->vocabulary, n_pieces);
    for (size_t i = 0; i < n_pieces; i++)
        assert_int_equal(
            vocabulary_put(&model->vocabulary, pieces[i], strlen(pieces[i]), (int64_t)i, &err),
            KVERN_OK);
    all.n_merges = sizeof merges / sizeof merges[0];
    assert_int_equal(bpe_open(&model->bpe, &model->vocabulary, &all, &err), KVERN_OK);
    for (size_t i = 0; i < all.n_merges; i++)
        assert_int_equal(bpe_add_merge(&model->bpe, merges[i][0], strlen(merges[i][0]),
                                       merges[i][1], strlen(merges[i][1]), &err),
                         KVERN_OK);
}

static void close_model(struct model *model)
{
    bpe_close(&model->bpe);
    vocabulary_clear(&model->vocabulary);
}

/* The pieces of a word with '|' between, each with where it ends. */
static void encode(const struct model *model, struct bpe_scratch *scratch, const char *word,
                   size_t n_bytes, struct buffer *text)
{
    struct buffer out = {0};

    assert_int_equal(bpe_encode(&model->bpe, scratch, word, n_bytes, &out, NULL), KVERN_OK);
    for (size_t i = 0; i < out.n_bytes / sizeof(struct word_token); i++) {
        struct word_token token = ((struct word_token *)(void *)out.data)[i];
        buffer_add_format(text, "%s%s:%u", i ? "|" : "", pieces[token.id], token.end);
    }
    buffer_clear(&out);
}

static void words_become_pieces(void **state)
{
    static const struct {
        struct bpe_options options;
        const char *word;
        const char *pieces;
    } rows[] = {
        {{0}, "abc", "abc:3"},
        {{0}, "aaa", "aa:2|a:3"},
        {{0}, "aaaaa", "aaaa:4|a:5"},
        {{0}, "cab", "cab:3"},
        {{0}, "abcab", "abcab:5"},
        {{0}, "bbb", "bb:2|b:3"},
        {{0}, "azc", "a:1|c:3"}, /* z is dropped, and counts to what follows */
        {{0}, "az", "a:2"},
        {{.unknown = "<unk>"}, "azzb", "a:1|<unk>:2|<unk>:3|b:4"},
        {{.unknown = "<unk>", .fuses_unknown = true}, "azzb", "a:1|<unk>:3|b:4"},
        {{.unknown = "<unk>", .has_byte_fallback = true}, "a\xc3\xa9", "a:1|<0xC3>:2|<0xA9>:3"},
        {{.unknown = "<unk>", .has_byte_fallback = true}, "a\xc3\xa8", "a:1|<unk>:3"},
        {{.ignores_merges = true}, "a##b", "a##b:4"},
        {{.end_suffix = "@"}, "aac", "aa:2|c@:3"},
        {{.continuing_prefix = "##"}, "cb", "c:1|##b:2"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct model model;
        struct bpe_scratch scratch = {0};
        struct buffer text = {0};

        open_model(&model, &rows[i].options);
        bpe_scratch_use_cache(&scratch);
        for (int repeat = 0; repeat < 2; repeat++) { /* the second time out of the cache */
            buffer_truncate(&text, 0);
            encode(&model, &scratch, rows[i].word, strlen(rows[i].word), &text);
            if (strcmp(text.data, rows[i].pieces) != 0)
                fail_msg("row %zu: got \"%s\", expected \"%s\"", i, text.data, rows[i].pieces);
        }
        buffer_clear(&text);
        bpe_scratch_clear(&scratch);
        close_model(&model);
    }
}

/* The definition: again and again the pair of lowest rank, the leftmost of equals. */
static void encode_plainly(const char *word, size_t n_bytes, struct buffer *text)
{
    char(*parts)[8] = calloc(n_bytes, sizeof *parts);
    size_t n = n_bytes;
    unsigned end = 0;

    for (size_t i = 0; i < n; i++)
        parts[i][0] = word[i];
    for (;;) {
        size_t n_merges = sizeof merges / sizeof merges[0];
        size_t best = n_merges;
        size_t at = 0;

        for (size_t i = 0; i + 1 < n; i++) {
            for (size_t m = 0; m < best; m++) {
                if (!strcmp(parts[i], merges[m][0]) && !strcmp(parts[i + 1], merges[m][1])) {
                    best = m;
                    at = i;
                }
            }
        }
        if (best == n_merges)
            break;
        memcpy(parts[at] + strlen(parts[at]), parts[at + 1], strlen(parts[at + 1]));
        memmove(parts + at + 1, parts + at + 2, (n - at - 2) * sizeof *parts);
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        end += (unsigned)strlen(parts[i]);
        buffer_add_format(text, "%s%s:%u", i ? "|" : "", parts[i], end);
    }
    free(parts);
}

static void random_words_agree_with_the_definition(void **state)
{
    struct model model;
    struct bpe_scratch scratch = {0};
    uint64_t random = 88172645463325252u;

    (void)state;
    open_model(&model, &(struct bpe_options){0});
    for (size_t n_bytes = 1; n_bytes <= 120; n_bytes++) {
        char word[120];
        struct buffer got = {0};
        struct buffer expected = {0};

        for (size_t i = 0; i < n_bytes; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            word[i] = "abc"[random % 3];
        }
        encode(&model, &scratch, word, n_bytes, &got);
        encode_plainly(word, n_bytes, &expected);
        if (strcmp(got.data, expected.data) != 0)
            fail_msg("\"%.*s\": got %s, expected %s", (int)n_bytes, word, got.data, expected.data);
        buffer_clear(&got);
        buffer_clear(&expected);
    }
    bpe_scratch_clear(&scratch);
    close_model(&model);
}

static void a_megabyte_word_takes_seconds_at_most(void **state)
{
    enum { N = 1 << 20 };
    struct model model;
    struct bpe_scratch scratch = {0};
    struct buffer out = {0};
    char *word = malloc(N);
    clock_t start = clock();

    (void)state;
    memset(word, 'a', N);
    open_model(&model, &(struct bpe_options){0});
    assert_int_equal(bpe_encode(&model.bpe, &scratch, word, N, &out, NULL), KVERN_OK);
    assert_int_equal(out.n_bytes / sizeof(struct word_token), N / 4);
    assert_true(clock() - start < 30 * CLOCKS_PER_SEC); /* quadratic would be an hour */
    buffer_clear(&out);
    bpe_scratch_clear(&scratch);
    close_model(&model);
    free(word);
}

static void bad_merges_are_named(void **state)
{
    struct model model;
    kvern_error err = {0};

    (void)state;
    open_model(&model, &(struct bpe_options){0});
    assert_int_equal(bpe_add_merge(&model.bpe, "a", 1, "zz", 2, &err), KVERN_FORMAT);
    assert_non_null(strstr(err.message, "\"zz\""));
    assert_int_equal(bpe_add_merge(&model.bpe, "c", 1, "c", 1, &err), KVERN_FORMAT);
    assert_non_null(strstr(err.message, "not in the vocabulary"));
    assert_int_equal(vocabulary_put(&model.vocabulary, "far", 3, 1 << 20, &err), KVERN_FORMAT);
    assert_non_null(strstr(err.message, "1048576"));
    assert_int_equal(vocabulary_put(&model.vocabulary, "a", 1, 7, &err), KVERN_FORMAT);
    close_model(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_become_pieces),
        cmocka_unit_test(random_words_agree_with_the_definition),
        cmocka_unit_test(a_megabyte_word_takes_seconds_at_most),
        cmocka_unit_test(bad_merges_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
