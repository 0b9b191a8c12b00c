/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokenizer of models that come without one: bytes are ids, ids are bytes.
 */
#include "test.h"

#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tokenizer *bytes;

static int open_bytes(void **state)
{
    (void)state;
    return tokenizer_open_bytes(&bytes, 32000, NULL) == KVERN_OK ? 0 : -1;
}

static int close_bytes(void **state)
{
    (void)state;
    tokenizer_close(bytes);
    return 0;
}

static void ids_are_the_bytes(void **state)
{
    static const char text[] = "Hi <|x|> [SEP] <0x41>\xf0\x9f\x98\x80\n";
    kvern_tokens tokens = {0};
    char *decoded = NULL;
    size_t n_bytes;

    (void)state;
    assert_int_equal(tokenizer_encode(bytes, text, sizeof text,
                                      KVERN_TOKENIZE_SPECIAL | KVERN_TOKENIZE_CONTROL, &tokens,
                                      NULL),
                     KVERN_OK); /* with the final NUL: a byte too */
    assert_int_equal(tokens.n, sizeof text);
    for (size_t i = 0; i < sizeof text; i++)
        assert_int_equal(tokens.ids[i], (unsigned char)text[i]);
    for (size_t i = 0; i < 21; i++) {
        assert_int_equal(tokens.begins[i], i);
        assert_int_equal(tokens.ends[i], i + 1);
    }
    for (size_t i = 21; i < 25; i++) { /* offsets cover whole characters */
        assert_int_equal(tokens.begins[i], 21);
        assert_int_equal(tokens.ends[i], 25);
    }
    assert_int_equal(tokenizer_decode(bytes, tokens.ids, tokens.n, true, &decoded, &n_bytes, NULL),
                     KVERN_OK);
    assert_int_equal(n_bytes, sizeof text);
    assert_memory_equal(decoded, text, sizeof text);
    free(decoded);
    kvern_tokens_clear(&tokens);
}

/* Whole and as a stream, which gives a character as soon as its last byte is there. */
static void any_ids_are_decoded(void **state)
{
    static const struct {
        int32_t ids[8];
        size_t n;
        const char *text;
        const char *before_last; /* what a stream has given without the last id */
    } rows[] = {
        {{0}, 0, "", ""},
        {{'a', 'b'}, 2, "ab", "a"},
        {{0xc3, 0xa9}, 2, "\xc3\xa9", ""},
        {{0xe4, 0xbd, 0xa0, 'x'}, 4, "\xe4\xbd\xa0x", "\xe4\xbd\xa0"},
        {{'a', 256}, 2, "a\xef\xbf\xbd", "a"},
        {{31999, 'a', 1 << 30},
         3,
         "\xef\xbf\xbd"
         "a\xef\xbf\xbd",
         "\xef\xbf\xbd"
         "a"},
        {{0xff, 'z'}, 2, "\xef\xbf\xbdz", "\xef\xbf\xbd"},
        {{'z', 0xe4, 0xbd}, 3, "z\xef\xbf\xbd", "z"},
        {{0xe4, 300, 0xbd}, 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "\xef\xbf\xbd\xef\xbf\xbd"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct token_stream stream;
        struct buffer out = {0};
        char *text = NULL;
        size_t n_bytes;

        assert_int_equal(
            tokenizer_decode(bytes, rows[i].ids, rows[i].n, true, &text, &n_bytes, NULL), KVERN_OK);
        assert_string_equal(text, rows[i].text);
        free(text);
        token_stream_init(&stream, bytes, true);
        for (size_t j = 0; j < rows[i].n; j++) {
            if (j + 1 == rows[i].n)
                assert_string_equal(out.data ? out.data : "", rows[i].before_last);
            assert_int_equal(token_stream_add(&stream, rows[i].ids[j], &out, NULL), KVERN_OK);
        }
        assert_int_equal(token_stream_finish(&stream, &out, NULL), KVERN_OK);
        assert_string_equal(out.data ? out.data : "", rows[i].text);
        buffer_clear(&out);
        token_stream_clear(&stream);
    }
}

static void pieces_name_the_bytes(void **state)
{
    size_t n_bytes;

    (void)state;
    assert_true(tokenizer_is_byte_fallback(bytes));
    assert_int_equal(tokenizer_vocab_size(bytes), 256);
    for (int32_t id = 0; id < 256; id++) {
        const char *piece = tokenizer_piece(bytes, id, &n_bytes);

        assert_non_null(piece);
        assert_int_equal(tokenizer_id(bytes, piece, n_bytes), id);
        assert_false(tokenizer_is_special(bytes, id));
    }
    assert_memory_equal(tokenizer_piece(bytes, 0x41, &n_bytes), "<0x41>", 6);
    assert_int_equal(n_bytes, 6);
    assert_null(tokenizer_piece(bytes, 256, &n_bytes));
}

static void a_small_vocabulary_is_refused(void **state)
{
    static const size_t sizes[] = {0, 1, 255};
    struct tokenizer *tokenizer = NULL;

    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        kvern_error err = {0};
        char number[24];

        snprintf(number, sizeof number, "has %zu", sizes[i]);
        assert_int_equal(tokenizer_open_bytes(&tokenizer, sizes[i], &err), KVERN_UNSUPPORTED);
        assert_null(tokenizer);
        assert_non_null(strstr(err.message, number));
    }
    assert_int_equal(tokenizer_open_bytes(&tokenizer, 256, NULL), KVERN_OK);
    tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_the_bytes),
        cmocka_unit_test(any_ids_are_decoded),
        cmocka_unit_test(pieces_name_the_bytes),
        cmocka_unit_test(a_small_vocabulary_is_refused),
    };

    return cmocka_run_group_tests(tests, open_bytes, close_bytes);
}
