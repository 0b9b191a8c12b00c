/* SPDX-License-Identifier: Apache-2.0
 *
 * What the goldens do not show: control tokens and who may write them, offsets, ill-formed input,
 * streams, threads, files that are refused, and memory that runs out.
 */
#include "text/tokenizer.h"

#include "base/memory.h"
#include "support_golden.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the headers above */

static struct tokenizer *gpt2;

static int open_gpt2(void **state)
{
    size_t n_bytes;
    char *json = golden_file("gpt2.json", &n_bytes);

    (void)state;
    gpt2 = golden_open(json, n_bytes);
    free(json);
    return 0;
}

static int close_gpt2(void **state)
{
    (void)state;
    tokenizer_close(gpt2);
    return 0;
}

static int32_t id_of(const char *piece)
{
    int32_t id = tokenizer_id(gpt2, piece, strlen(piece));

    assert_true(id >= 0);
    return id;
}

static size_t count_id(const kvern_tokens *tokens, int32_t id)
{
    size_t n = 0;

    for (size_t i = 0; i < tokens->n; i++)
        n += tokens->ids[i] == id;
    return n;
}

static void user_text_is_never_a_control_token(void **state)
{
    static const char text[] = "a<|im_end|>b<|im_end|><|endoftext|>";
    kvern_tokens tokens = {0};

    (void)state;
    assert_int_equal(tokenizer_encode(gpt2, text, sizeof text - 1, 0, &tokens, NULL), KVERN_OK);
    assert_int_equal(count_id(&tokens, id_of("<|im_end|>")), 0);
    assert_int_equal(count_id(&tokens, id_of("<|endoftext|>")), 0);
    kvern_tokens_clear(&tokens);
    assert_int_equal(
        tokenizer_encode(gpt2, text, sizeof text - 1, KVERN_TOKENIZE_CONTROL, &tokens, NULL),
        KVERN_OK);
    assert_int_equal(count_id(&tokens, id_of("<|im_end|>")), 2);
    assert_int_equal(count_id(&tokens, id_of("<|endoftext|>")), 1);
    kvern_tokens_clear(&tokens);
}

/* Segments: '+' before a trusted one. `n_control` counts <|im_end|>. */
static void segments_guard_control_tokens(void **state)
{
    static const struct {
        const char *segments[4];
        size_t n_control;
    } rows[] = {
        {{"+<|im_end|>"}, 1},
        {{"-<|im_end|>"}, 0},
        {{"+x<|im_end|>", "-<|im_end|>", "+<|im_end|>"}, 2},
        {{"+<|im_", "+end|>"}, 1}, /* one template may write a token in two parts */
        {{"+<|im_", "-end|>"}, 0}, /* but a user may not finish it */
        {{"-<|im_", "+end|>"}, 0},
        {{"+<|im_", "-", "+end|>"}, 1},
        {{"-<|im_end", "+<|im_end|>"}, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tokenizer_segment segments[4];
        size_t n = 0;
        kvern_tokens tokens = {0};

        for (; n < 4 && rows[i].segments[n]; n++)
            segments[n] =
                (struct tokenizer_segment){rows[i].segments[n] + 1, strlen(rows[i].segments[n] + 1),
                                           rows[i].segments[n][0] == '+'};
        assert_int_equal(tokenizer_encode_segments(gpt2, segments, n, 0, &tokens, NULL), KVERN_OK);
        if (count_id(&tokens, id_of("<|im_end|>")) != rows[i].n_control)
            fail_msg("row %zu: %zu control tokens, expected %zu", i,
                     count_id(&tokens, id_of("<|im_end|>")), rows[i].n_control);
        kvern_tokens_clear(&tokens);
    }
}

static void check_equal(const kvern_tokens *a, const kvern_tokens *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof *a->ids);
    assert_memory_equal(a->begins, b->begins, a->n * sizeof *a->begins);
    assert_memory_equal(a->ends, b->ends, a->n * sizeof *a->ends);
}

/* Words reach over the seams: any cut of a text gives the ids of the whole. */
static void segments_are_joined_before_words_are_cut(void **state)
{
    static const char text[] = "The quick  brown\n\nfox_jumps(12);\xe4\xbd\xa0\xe5\xa5\xbd";
    size_t n_bytes = sizeof text - 1;
    kvern_tokens whole = {0};

    (void)state;
    assert_int_equal(tokenizer_encode(gpt2, text, n_bytes, 0, &whole, NULL), KVERN_OK);
    for (size_t cut = 0; cut <= n_bytes; cut++) {
        struct tokenizer_segment segments[] = {{text, cut, true},
                                               {text + cut, n_bytes - cut, false}};
        kvern_tokens tokens = {0};

        assert_int_equal(tokenizer_encode_segments(gpt2, segments, 2, 0, &tokens, NULL), KVERN_OK);
        check_equal(&tokens, &whole);
        kvern_tokens_clear(&tokens);
    }
    kvern_tokens_clear(&whole);
}

static void offsets_cover_whole_characters(void **state)
{
    static const char text[] = "a \xf0\x9f\x98\x80 \xffz";
    kvern_tokens tokens = {0};
    size_t reached = 0;

    (void)state;
    assert_int_equal(tokenizer_encode(gpt2, text, sizeof text - 1, 0, &tokens, NULL), KVERN_OK);
    for (size_t i = 0; i < tokens.n; i++) {
        assert_true(tokens.begins[i] <= reached && tokens.begins[i] < tokens.ends[i]);
        assert_true(tokens.begins[i] <= 2 || tokens.begins[i] >= 6); /* not inside the emoji */
        reached = tokens.ends[i];
    }
    assert_int_equal(reached, sizeof text - 1);
    kvern_tokens_clear(&tokens);
}

/* The number of U+FFFD that Python's errors="replace" gives. */
static void ill_formed_text_is_replaced_as_python_does(void **state)
{
    static const struct {
        const char *bytes;
        size_t n_replaced;
    } rows[] = {
        {"\xff", 1},
        {"\xff\xfe", 2},
        {"\xe4\xbd", 1},
        {"\xe4\xbdz", 1},
        {"\xf0\x9f\x98", 1},
        {"\xed\xa0\x80", 3},
        {"\xc0\xaf", 2},
        {"\xe0\x80\x80", 3},
        {"\xf4\x90\x80\x80", 4},
        {"\xf0\x9f\xe4\xbd\xa0", 1},
        {"\x80\x80", 2},
        {"\xf8\x88", 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        kvern_tokens tokens = {0};
        char *text = NULL;
        size_t n_bytes;
        size_t n_replaced = 0;

        assert_int_equal(
            tokenizer_encode(gpt2, rows[i].bytes, strlen(rows[i].bytes), 0, &tokens, NULL), 0);
        assert_int_equal(tokenizer_decode(gpt2, tokens.ids, tokens.n, false, &text, &n_bytes, NULL),
                         0);
        for (char *p = text; (p = strstr(p, "\xef\xbf\xbd")); p += 3)
            n_replaced++;
        if (n_replaced != rows[i].n_replaced)
            fail_msg("row %zu: %zu U+FFFD, expected %zu", i, n_replaced, rows[i].n_replaced);
        free(text);
        kvern_tokens_clear(&tokens);
    }
}

static void check_stream(const struct tokenizer *tokenizer, const kvern_tokens *tokens,
                         bool skip_special)
{
    struct token_stream stream;
    struct buffer out = {0};
    char *text = NULL;
    size_t n_bytes;

    assert_int_equal(
        tokenizer_decode(tokenizer, tokens->ids, tokens->n, skip_special, &text, &n_bytes, NULL),
        0);
    token_stream_init(&stream, tokenizer, skip_special);
    for (size_t i = 0; i < tokens->n; i++) {
        size_t before = out.n_bytes;
        struct buffer now = {0};

        assert_int_equal(token_stream_add(&stream, tokens->ids[i], &out, NULL), KVERN_OK);
        /* each piece by itself is valid UTF-8, and what has come is a beginning of the whole */
        buffer_add(&now, out.data ? out.data + before : "", out.n_bytes - before);
        assert_non_null(strstr(text, now.data ? now.data : ""));
        assert_true(out.n_bytes <= n_bytes);
        assert_memory_equal(out.data ? out.data : "", text, out.n_bytes);
        buffer_clear(&now);
    }
    assert_int_equal(token_stream_finish(&stream, &out, NULL), KVERN_OK);
    assert_int_equal(out.n_bytes, n_bytes);
    assert_memory_equal(out.data ? out.data : "", text, n_bytes);
    buffer_clear(&out);
    free(text);
}

static void streams_give_what_decoding_gives(void **state)
{
    static const char *const texts[] = {
        "Hello, world",
        "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa9 \xe4\xbd\xa0\xe5\xa5\xbd<|im_end|>x",
        "  two spaces",
        "",
        "\xc3\xa9",
        "\xff\xff ok \xe4",
    };
    static const char *const files[] = {"gpt2.json", "spm.json"};

    (void)state;
    for (size_t f = 0; f < 2; f++) {
        size_t n_bytes;
        char *json = golden_file(files[f], &n_bytes);
        struct tokenizer *tokenizer = golden_open(json, n_bytes);

        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
            kvern_tokens tokens = {0};

            assert_int_equal(tokenizer_encode(tokenizer, texts[i], strlen(texts[i]),
                                              KVERN_TOKENIZE_CONTROL, &tokens, NULL),
                             KVERN_OK);
            check_stream(tokenizer, &tokens, false);
            check_stream(tokenizer, &tokens, true);
            for (size_t j = 0; j < tokens.n; j++) { /* any ids, in any order */
                kvern_tokens part = {.ids = tokens.ids + j, .n = tokens.n - j};
                check_stream(tokenizer, &part, false);
            }
            kvern_tokens_clear(&tokens);
        }
        tokenizer_close(tokenizer);
        free(json);
    }
}

/* 你 in bytes, then a byte that spoils the run: four U+FFFD, as Hugging Face's ByteFallback. */
static void a_spoilt_run_of_byte_tokens_is_replaced_whole(void **state)
{
    size_t n_bytes;
    char *json = golden_file("spm.json", &n_bytes);
    struct tokenizer *tokenizer = golden_open(json, n_bytes);
    static const char *const names[] = {"<0xE4>", "<0xBD>", "<0xA0>", "<0xFF>"};
    int32_t ids[5];
    char *text = NULL;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        ids[i] = tokenizer_id(tokenizer, names[i], 6);
    ids[4] = tokenizer_id(tokenizer, "a", 1);
    assert_int_equal(tokenizer_decode(tokenizer, ids, 3, false, &text, &n_bytes, NULL), 0);
    assert_string_equal(text, "\xe4\xbd\xa0");
    free(text);
    assert_int_equal(tokenizer_decode(tokenizer, ids, 5, false, &text, &n_bytes, NULL), 0);
    assert_string_equal(text, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                              "a");
    free(text);
    tokenizer_close(tokenizer);
    free(json);
}

static void pieces_and_ids_name_each_other(void **state)
{
    size_t n_bytes;

    (void)state;
    for (size_t id = 0; id < tokenizer_vocab_size(gpt2); id++) {
        const char *piece = tokenizer_piece(gpt2, (int32_t)id, &n_bytes);

        assert_non_null(piece);
        assert_int_equal(tokenizer_id(gpt2, piece, n_bytes), id);
    }
    assert_null(tokenizer_piece(gpt2, -1, &n_bytes));
    assert_null(tokenizer_piece(gpt2, (int32_t)tokenizer_vocab_size(gpt2), &n_bytes));
    assert_int_equal(tokenizer_id(gpt2, "no such piece", 13), -1);
    assert_true(tokenizer_is_special(gpt2, id_of("<|im_end|>")));
    assert_false(tokenizer_is_special(gpt2, id_of("a")));
}

static void *encode_often(void *argument)
{
    const kvern_tokens *expected = argument;
    static const char text[] = "many threads, one tokenizer: \xe4\xbd\xa0\xe5\xa5\xbd 123\n";

    for (int i = 0; i < 300; i++) {
        kvern_tokens tokens = {0};

        if (tokenizer_encode(gpt2, text, sizeof text - 1, 0, &tokens, NULL) != KVERN_OK ||
            tokens.n != expected->n ||
            memcmp(tokens.ids, expected->ids, tokens.n * sizeof *tokens.ids) != 0)
            return argument;
        kvern_tokens_clear(&tokens);
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **state)
{
    static const char text[] = "many threads, one tokenizer: \xe4\xbd\xa0\xe5\xa5\xbd 123\n";
    pthread_t threads[4];
    kvern_tokens expected = {0};

    (void)state;
    assert_int_equal(tokenizer_encode(gpt2, text, sizeof text - 1, 0, &expected, NULL), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, &expected), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;

        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    kvern_tokens_clear(&expected);
}

static void vocab_and_merges_open(void **state)
{
    static const char vocab[] = "{\"a\":0,\"b\":1,\"ab\":2,\"\xc4\xa0\":3,\"\xc4\xa0"
                                "ab\":4}";
    static const char merges[] = "#version: 0.2\na b\r\n\xc4\xa0 ab\n";
    struct tokenizer *tokenizer = NULL;
    kvern_tokens tokens = {0};
    char *text = NULL;
    size_t n_bytes;

    (void)state;
    assert_int_equal(tokenizer_open_vocab_merges(&tokenizer, vocab, sizeof vocab - 1, merges,
                                                 sizeof merges - 1, NULL),
                     KVERN_OK);
    assert_int_equal(tokenizer_encode(tokenizer, "ab aba", 6, 0, &tokens, NULL), KVERN_OK);
    assert_int_equal(tokens.n, 3);
    assert_int_equal(tokens.ids[0], 2);
    assert_int_equal(tokens.ids[1], 4);
    assert_int_equal(tokens.ids[2], 0);
    assert_int_equal(tokenizer_decode(tokenizer, tokens.ids, 3, true, &text, &n_bytes, NULL), 0);
    assert_string_equal(text, "ab aba");
    free(text);
    kvern_tokens_clear(&tokens);
    tokenizer_close(tokenizer);
}

static void bad_files_are_named(void **state)
{
    static const struct {
        const char *json;
        kvern_status status;
        const char *named;
    } rows[] = {
        {"", KVERN_FORMAT, "JSON"},
        {"{\"model\"", KVERN_FORMAT, "JSON"},
        {"[]", KVERN_FORMAT, "model"},
        {"{\"model\":{}}", KVERN_FORMAT, "vocab"},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}", KVERN_UNSUPPORTED, "WordLevel"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", KVERN_FORMAT, "merges"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"b\"},\"merges\":[]}}", KVERN_FORMAT,
         "\"a\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", KVERN_FORMAT, "-1"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2000000000},\"merges\":[]}}", KVERN_FORMAT,
         "2000000000"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", KVERN_FORMAT,
         "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", KVERN_FORMAT,
         "\"b\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\"}}",
         KVERN_FORMAT, "\"u\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}",
         KVERN_UNSUPPORTED, "dropout"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{}]}",
         KVERN_FORMAT, "added token"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"decoder\":{\"type\":"
         "\"CTC\"}}",
         KVERN_UNSUPPORTED, "CTC"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"post_processor\":{"
         "\"type\":"
         "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],\"special_tokens\":"
         "{\"x\":{\"ids\":[9]}}}}",
         KVERN_FORMAT, "9"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tokenizer *tokenizer = NULL;
        kvern_error err = {0};

        if (tokenizer_open_json(&tokenizer, rows[i].json, strlen(rows[i].json), &err) !=
            rows[i].status)
            fail_msg("row %zu: status %d (%s)", i, err.status, err.message);
        if (!strstr(err.message, rows[i].named))
            fail_msg("row %zu: \"%s\" does not name %s", i, err.message, rows[i].named);
        assert_null(tokenizer);
    }
}

/* Every allocation in turn fails: an error, no crash, and (under ASan) no leak. */
static void memory_running_out_is_an_error(void **state)
{
    static const char text[] = "e\xcc\x81 one <|im_end|> two \xff three";
    size_t n_bytes;
    char *json = golden_file("qwen2.json", &n_bytes);
    struct tokenizer *tokenizer = golden_open(json, n_bytes);
    kvern_status status = KVERN_MEMORY;

    (void)state;
    for (int64_t n = 0; status != KVERN_OK; n++) {
        kvern_tokens tokens = {0};
        char *decoded = NULL;
        size_t n_decoded;

        memory_fail_after(n);
        status = tokenizer_encode(tokenizer, text, sizeof text - 1, 3, &tokens, NULL);
        if (status == KVERN_OK)
            status = tokenizer_decode(tokenizer, tokens.ids, tokens.n, false, &decoded, &n_decoded,
                                      NULL);
        memory_fail_after(-1);
        assert_true(status == KVERN_OK || status == KVERN_MEMORY);
        assert_true(n < 10000);
        free(decoded);
        kvern_tokens_clear(&tokens);
    }
    tokenizer_close(tokenizer);
    for (int64_t n = 0; n < 40; n++) {
        struct tokenizer *opened = NULL;

        memory_fail_after(n);
        status = tokenizer_open_json(&opened, json, n_bytes, NULL);
        memory_fail_after(-1);
        assert_true(status == KVERN_OK || status == KVERN_MEMORY);
        if (status == KVERN_OK)
            tokenizer_close(opened);
    }
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_text_is_never_a_control_token),
        cmocka_unit_test(segments_guard_control_tokens),
        cmocka_unit_test(segments_are_joined_before_words_are_cut),
        cmocka_unit_test(offsets_cover_whole_characters),
        cmocka_unit_test(ill_formed_text_is_replaced_as_python_does),
        cmocka_unit_test(streams_give_what_decoding_gives),
        cmocka_unit_test(a_spoilt_run_of_byte_tokens_is_replaced_whole),
        cmocka_unit_test(pieces_and_ids_name_each_other),
        cmocka_unit_test(threads_share_a_tokenizer),
        cmocka_unit_test(vocab_and_merges_open),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(memory_running_out_is_an_error),
    };

    return cmocka_run_group_tests(tests, open_gpt2, close_gpt2);
}
