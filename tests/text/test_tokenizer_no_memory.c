/* SPDX-License-Identifier: Apache-2.0
 *
 * Every allocation that can fail, made to fail in turn while a tokenizer of each configuration that
 * the goldens know is opened, encodes and decodes: KVERN_MEMORY, or just what it gives otherwise.
 */
#include "test.h"
#include "text/support_golden.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 64, MAX_TEXT = 256 };

struct outcome {
    size_t n;
    int32_t ids[MAX_TOKENS];
    size_t begins[MAX_TOKENS];
    size_t ends[MAX_TOKENS];
    char text[MAX_TEXT];
};

/* Composed and decomposed letters, CJK, an emoji, ill-formed bytes, digits, blanks, an unknown one.
 */
static const char input[] =
    " Caf\xc3\xa9 e\xcc\x81t 1234\t\xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80"
    "\xff\xe2\x96\x81 don't\n\n x";

static kvern_status use(const char *json, struct outcome *outcome, kvern_error *err)
{
    struct tokenizer *tokenizer = NULL;
    kvern_tokens tokens = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    kvern_status status = tokenizer_open_json(&tokenizer, json, strlen(json), err);

    if (status == KVERN_OK)
        status = tokenizer_encode(tokenizer, input, sizeof input - 1, KVERN_TOKENIZE_SPECIAL,
                                  &tokens, err);
    if (status == KVERN_OK)
        status = tokenizer_decode(tokenizer, tokens.ids, tokens.n, false, &text, &n_bytes, err);
    if (status == KVERN_OK) {
        assert_in_range(tokens.n, 1, MAX_TOKENS);
        assert_in_range(n_bytes, 1, MAX_TEXT);
        outcome->n = tokens.n;
        memcpy(outcome->ids, tokens.ids, tokens.n * sizeof *tokens.ids);
        memcpy(outcome->begins, tokens.begins, tokens.n * sizeof *tokens.begins);
        memcpy(outcome->ends, tokens.ends, tokens.n * sizeof *tokens.ends);
        memcpy(outcome->text, text, n_bytes);
    }
    free(text);
    kvern_tokens_clear(&tokens);
    tokenizer_close(tokenizer);
    return status;
}

/* Returns how many allocations there are. */
static int fail_each(const char *name, const char *json)
{
    struct outcome expected = {0};
    kvern_error err = {0};
    int n = 0;

    if (use(json, &expected, &err) != KVERN_OK)
        fail_msg("%s: %s", name, err.message);
    for (bool has_come = true; has_come; n++) {
        struct outcome outcome = {0};
        kvern_status status;

        err = (kvern_error){0};
        memory_fail_after(n);
        status = use(json, &outcome, &err);
        has_come = memory_fail_after(-1);
        if (status == KVERN_OK ? memcmp(&outcome, &expected, sizeof outcome) != 0
                               : status != KVERN_MEMORY || !has_come)
            fail_msg("%s without allocation %d: %s, %s", name, n, kvern_status_name(status),
                     status == KVERN_OK ? "but another result" : err.message);
        if (status != KVERN_OK && !strstr(err.message, "memory"))
            fail_msg("%s without allocation %d: \"%s\" does not tell of memory", name, n,
                     err.message);
    }
    return n - 1;
}

static void fail_in_each_of(const char *file)
{
    size_t n_bytes;
    char *text = golden_file(file, &n_bytes);
    json_t *variants = json_loadb(text, n_bytes, 0, NULL);
    int n = 0;

    assert_true(json_array_size(variants) > 15);
    for (size_t i = 0; i < json_array_size(variants); i++) {
        const json_t *variant = json_array_get(variants, i);
        char *merged = golden_variant(variant);

        n += fail_each(json_string_value(json_object_get(variant, "name")), merged);
        free(merged);
    }
    print_message("%s: %zu configurations, %d allocations\n", file, json_array_size(variants), n);
    json_decref(variants);
    free(text);
}

static void every_configuration(void **state)
{
    (void)state;
    fail_in_each_of("variants.json");
}

static void every_wordpiece_configuration(void **state)
{
    (void)state;
    fail_in_each_of("bert_variants.json");
}

static void every_unigram_configuration(void **state)
{
    (void)state;
    fail_in_each_of("unigram_variants.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_configuration),
        cmocka_unit_test(every_wordpiece_configuration),
        cmocka_unit_test(every_unigram_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
