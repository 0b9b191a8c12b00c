/* SPDX-License-Identifier: Apache-2.0
 *
 * Pre-tokenizer steps: the words each cuts ('|' between them), and what is refused. The rows of
 * Split are those of Hugging Face's own documentation of its behaviors.
 */
#include "text/pretokenize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the headers above */

static kvern_status run(const char *json, const char *input, struct buffer *words, kvern_error *err)
{
    json_t *parsed = json_loads(json, 0, NULL);
    struct pretokenizer pretokenizer = {0};
    struct regex_scratch scratch = {0};
    struct aligned_text text = {0};
    struct piece_list pieces = {0};
    kvern_status status = pretokenizer_open(&pretokenizer, parsed, err);

    assert_non_null(parsed);
    assert_int_equal(regex_scratch_init(&scratch, NULL), KVERN_OK);
    assert_true(aligned_text_init(&text, input, strlen(input)));
    if (status == KVERN_OK)
        status = pretokenizer_run(&pretokenizer, &scratch, &text, &pieces, err);
    for (size_t i = 0; i < pieces.n; i++) {
        assert_true(pieces.items[i].begin < pieces.items[i].end);
        if (i > 0)
            buffer_add_byte(words, '|');
        buffer_add(words, text.data + pieces.items[i].begin,
                   pieces.items[i].end - pieces.items[i].begin);
    }
    pretokenizer_close(&pretokenizer);
    regex_scratch_clear(&scratch);
    aligned_text_clear(&text);
    piece_list_clear(&pieces);
    json_decref(parsed);
    return status;
}

#define SPLIT(pattern, behavior)                                                                   \
    "{\"type\":\"Split\",\"pattern\":{" pattern "},\"behavior\":\"" behavior "\",\"invert\":"      \
    "false}"
#define DASH "\"String\":\"-\""

static void steps_cut_words(void **state)
{
    static const struct {
        const char *json;
        const char *input;
        const char *words;
    } rows[] = {
        {SPLIT(DASH, "Isolated"), "the-final--countdown", "the|-|final|-|-|countdown"},
        {SPLIT(DASH, "Removed"), "the-final--countdown", "the|final|countdown"},
        {SPLIT(DASH, "MergedWithPrevious"), "the-final--countdown", "the-|final-|-|countdown"},
        {SPLIT(DASH, "MergedWithNext"), "the-final--countdown", "the|-final|-|-countdown"},
        {"{\"type\":\"Split\",\"pattern\":{" DASH
         "},\"behavior\":\"MergedWithNext\",\"invert\":true}",
         "a--b", "a-|-|b"},
        {SPLIT(DASH, "Contiguous"), "the-final--countdown", "the|-|final|--|countdown"},
        {SPLIT("\"Regex\":\"\\\\s+\"", "Removed"),
         "a \t b\xe2\x80\x83"
         "c",
         "a|b|c"},
        {SPLIT("\"Regex\":\"\\\\s\"", "Isolated"),
         "a\xe1\xa0\x8e"
         "b",
         "a\xe1\xa0\x8e"
         "b"},
        {SPLIT("\"Regex\":\"(?=b)\"", "Isolated"), "abab", "a|ba|b"},
        {"{\"type\":\"Digits\",\"individual_digits\":true}", "a12 3", "a|1|2| |3"},
        {"{\"type\":\"Digits\",\"individual_digits\":false}", "a12 3", "a|12| |3"},
        {"{\"type\":\"Punctuation\"}", "Hey, you!?", "Hey|,| you|!|?"},
        {"{\"type\":\"Whitespace\"}", "don't  stop\n", "don|'|t|stop"},
        {"{\"type\":\"WhitespaceSplit\"}", " don't  stop\n", "don't|stop"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "I'll  go 42x!\n\n a",
         "I|'ll| | go| 42|x|!|\n\n| a"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "a b", " a| b"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", " a", " a"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}", "a b", "a b"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"}", "a b  c",
         "_a|_b|_|_c"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"never\",\"split\":"
         "false}",
         "a b", "a_b"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false}", "a b",
         "a|_b"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
         "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}]}",
         "a b", "_a|b"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":"
         "true},"
         "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}",
         "x 12", "x| |1|2"},
        {"{\"type\":\"ByteLevel\"}", "", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buffer words = {0};
        kvern_error err;

        if (run(rows[i].json, rows[i].input, &words, &err) != KVERN_OK)
            fail_msg("row %zu: %s", i, err.message);
        if (strcmp(words.data ? words.data : "", rows[i].words) != 0)
            fail_msg("row %zu: got \"%s\", expected \"%s\"", i, words.data, rows[i].words);
        buffer_clear(&words);
    }
}

static void bad_steps_are_named(void **state)
{
    static const struct {
        const char *json;
        kvern_status status;
        const char *named;
    } rows[] = {
        {"{\"type\":\"UnicodeScripts\"}", KVERN_UNSUPPORTED, "UnicodeScripts"},
        {SPLIT(DASH, "Sometimes"), KVERN_FORMAT, "Sometimes"},
        {SPLIT("\"Regex\":\"[a&&b]\"", "Isolated"), KVERN_UNSUPPORTED, "[a&&b]"},
        {SPLIT("\"Regex\":\"a{\\\\C\"", "Isolated"), KVERN_FORMAT, "\\C"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"\"}", KVERN_FORMAT, "replacement"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"x\"}", KVERN_FORMAT,
         "\"x\""},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]"
         "}",
         KVERN_UNSUPPORTED, "Digits after ByteLevel"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buffer words = {0};
        kvern_error err = {0};

        assert_int_equal(run(rows[i].json, "a", &words, &err), rows[i].status);
        if (!strstr(err.message, rows[i].named))
            fail_msg("row %zu: \"%s\" does not name %s", i, err.message, rows[i].named);
        buffer_clear(&words);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_cut_words),
        cmocka_unit_test(bad_steps_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
