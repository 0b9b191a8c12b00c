/* SPDX-License-Identifier: Apache-2.0
 *
 * spiece.model: what is read of a real one and of damaged ones; and directories with one, whose ids
 * equal those that transformers' T5TokenizerFast gives (spiece.json of
 * tests/golden/make_unigram.py): over 6,204 lines, with the real map nmt_nfkc, and over 100 in each
 * of seven other configurations.
 */
#include "test.h"
#include "text/support_golden.h"

#include "base/file.h"
#include "convert/sentencepiece.h"
#include "convert/tokenizer_files.h"
#include "support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A directory with these files, and spiece.model unless its size is 0. */
static void start_anew(const json_t *files, const char *model, size_t n_model)
{
    const char *name;
    json_t *members;

    scratch_empty();
    if (n_model > 0)
        scratch_put("spiece.model", model, n_model);
    json_object_foreach((json_t *)files, name, members)
    {
        char *text = json_dumps(members, 0);

        scratch_put_text(name, text);
        free(text);
    }
}

static void a_real_model_is_read(void **state)
{
    size_t n_bytes;
    char *data = golden_file("t5.spiece.model", &n_bytes);
    struct sentencepiece model;

    (void)state;
    assert_int_equal(sentencepiece_parse(&model, (uint8_t *)data, n_bytes, NULL), KVERN_OK);
    assert_int_equal(model.n_pieces, 1100);
    assert_int_equal(model.unknown_id, 2);
    assert_int_equal(model.pieces[0].kind, SENTENCEPIECE_CONTROL);
    assert_memory_equal(model.pieces[0].text, "<pad>", 5);
    assert_int_equal(model.pieces[2].kind, SENTENCEPIECE_UNKNOWN);
    assert_int_equal(model.pieces[3].kind, SENTENCEPIECE_NORMAL);
    assert_true(model.pieces[3].score < 0 && model.pieces[3].score > -5);
    assert_in_range(model.n_charsmap, 200000, 300000);
    sentencepiece_clear(&model);
    free(data);
}

#define BYTES(text) text, sizeof(text) - 1
#define PIECE_A                                                                                    \
    "\x0a\x03\x0a\x01"                                                                             \
    "a"

static void damaged_models_are_named(void **state)
{
    static const struct {
        const char *data;
        size_t n_bytes;
        kvern_status status;
        const char *named;
    } rows[] = {
        {BYTES(PIECE_A), KVERN_OK, ""},
        {BYTES(""), KVERN_FORMAT, "unk_id 0 is not one of 0 pieces"},
        {BYTES(PIECE_A "\x0a"), KVERN_FORMAT, "damaged after 1 pieces"},
        {BYTES(PIECE_A "\x0a\x7f"
                       "a"),
         KVERN_FORMAT, "damaged after 1 pieces"},
        {BYTES(PIECE_A "\x0a\x00"), KVERN_FORMAT, "piece 1 is not a UTF-8 text"},
        {BYTES(PIECE_A "\x0a\x03\x0a\x01\xff"), KVERN_FORMAT, "piece 1 is not a UTF-8 text"},
        {BYTES(PIECE_A "\x0a\x03\x0a\x01\x00"), KVERN_FORMAT, "piece 1 is not a UTF-8 text"},
        {BYTES(PIECE_A "\x0a\x03\x0a\x09"
                       "a"),
         KVERN_FORMAT, "piece 1 is damaged"},
        {BYTES(PIECE_A "\x0a\x08\x0a\x01"
                       "b\x15\x00\x00\xc0\x7f"),
         KVERN_FORMAT, /* not a number */
         "piece 1 is damaged"},
        {BYTES(PIECE_A "\x0a\x05\x0a\x01"
                       "b\x18\x00"),
         KVERN_FORMAT, "piece 1 is damaged"},
        {BYTES(PIECE_A "\x0a\x05\x0a\x01"
                       "b\x18\x07"),
         KVERN_FORMAT, "piece 1 is damaged"},
        {BYTES(PIECE_A "\x12\x02\x18\x02"), KVERN_UNSUPPORTED, "of type 2"},
        {BYTES(PIECE_A "\x12\x03\xc0\x02\x01"), KVERN_FORMAT, "unk_id 1 is not one of 1 pieces"},
        {BYTES(PIECE_A "\x12\x0c\xc0\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), KVERN_FORMAT,
         "unk_id -1"},
        {BYTES(PIECE_A "\x12\x01\x18"), KVERN_FORMAT, "trainer_spec"},
        {BYTES(PIECE_A "\x1a\x02\x12\x05"), KVERN_FORMAT, "normalizer_spec"},
        {BYTES(PIECE_A "\x1a\x03\x12\x01z\x28\x01"), KVERN_OK, ""}, /* field 5 is not ours */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sentencepiece model;
        kvern_error err = {0};
        kvern_status status =
            sentencepiece_parse(&model, (const uint8_t *)rows[i].data, rows[i].n_bytes, &err);

        if (status != rows[i].status || !strstr(err.message, rows[i].named))
            fail_msg("row %zu: %s: %s", i, kvern_status_name(status), err.message);
        if (status != KVERN_OK)
            assert_null(model.pieces);
        sentencepiece_clear(&model);
    }
}

static void check_case(const json_t *row, size_t number, const struct golden_lines *lines)
{
    char what[32];
    char *json = NULL;
    kvern_error err = {0};

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
    size_t n_model;
    char *text = golden_file("spiece.json", &n_bytes);
    char *model = golden_file("t5.spiece.model", &n_model);
    json_t *rows = json_loadb(text, n_bytes, 0, NULL);
    struct golden_lines many = {0};
    struct golden_lines few = {0};

    (void)state;
    golden_lines_add(&many, "lines.json", 2);
    golden_lines_add(&many, "unigram_lines.json", 1);
    golden_lines_add(&few, "unigram_lines.json", 10);
    assert_true(many.n > 6000);
    assert_true(json_array_size(rows) >= 8);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);

        start_anew(json_object_get(row, "files"), model, n_model);
        check_case(row, i, i == 0 ? &many : &few);
    }
    golden_lines_free(&many);
    golden_lines_free(&few);
    json_decref(rows);
    free(model);
    free(text);
}

#define END_PIECE "\x0a\x06\x0a\x04</s>"

static void bad_directories_are_named(void **state)
{
    static const struct {
        const char *files;
        const char *model;
        size_t n_model;
        kvern_status status;
        const char *named;
    } rows[] = {
        {"{\"config.json\":{\"model_type\":\"mt5\"}}", BYTES(PIECE_A END_PIECE), KVERN_OK, ""},
        {"{\"config.json\":{\"model_type\":\"albert\"}}", BYTES(PIECE_A END_PIECE),
         KVERN_UNSUPPORTED, "spiece.model"},
        {"{}", BYTES(PIECE_A END_PIECE), KVERN_UNSUPPORTED, "spiece.model"},
        {"{\"tokenizer_config.json\":{\"tokenizer_class\":\"AlbertTokenizer\"}}",
         BYTES(PIECE_A END_PIECE), KVERN_UNSUPPORTED, "AlbertTokenizer"},
        {"{\"tokenizer_config.json\":{\"tokenizer_class\":\"T5Tokenizer\"},\"vocab.json\":{},"
         "\"merges.txt\":{}}",
         BYTES(""), KVERN_NOT_FOUND, "no spiece.model"},
        {"{\"config.json\":{\"model_type\":\"t5\"}}", BYTES(PIECE_A), KVERN_FORMAT,
         "no piece \"</s>\""},
        {"{\"config.json\":{\"model_type\":\"t5\"}}", BYTES(PIECE_A PIECE_A), KVERN_FORMAT,
         "piece 1, \"a\", stands there twice"},
        {"{\"config.json\":{\"model_type\":\"t5\"}}", BYTES("\x0a"), KVERN_FORMAT, "spiece.model"},
        {"{\"tokenizer_config.json\":{\"tokenizer_class\":\"T5Tokenizer\",\"extra_ids\":-1}}",
         BYTES(PIECE_A END_PIECE), KVERN_FORMAT, "extra_ids -1"},
        {"{\"tokenizer_config.json\":{\"tokenizer_class\":\"T5Tokenizer\",\"extra_ids\":10001}}",
         BYTES(PIECE_A END_PIECE), KVERN_FORMAT, "extra_ids 10001"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        json_t *files = json_loads(rows[i].files, 0, NULL);
        char *json = NULL;
        kvern_error err = {0};

        start_anew(files, rows[i].model, rows[i].n_model);
        kvern_status status = tokenizer_files_to_json(scratch, &json, &err);
        if (status != rows[i].status || !strstr(err.message, rows[i].named))
            fail_msg("row %zu: %s: %s", i, kvern_status_name(status), err.message);
        free(json);
        json_decref(files);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_model_is_read),
        cmocka_unit_test(damaged_models_are_named),
        cmocka_unit_test(ids_equal_those_of_transformers),
        cmocka_unit_test(bad_directories_are_named),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
