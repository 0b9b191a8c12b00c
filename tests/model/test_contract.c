/* SPDX-License-Identifier: Apache-2.0
 *
 * Graphs that differ from what their manifest and the paged contract say, made by replacing bytes
 * of a good one (the fuzz target's corpus) with as many others.
 */
#include "test.h"

#include "base/file.h"
#include "model/contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *text; /* kvern.json, NUL, model.onnx */
static struct manifest good;
static const uint8_t *graph; /* into text */
static size_t n_graph;

static int read_good(void **state)
{
    static const char path[] = KVERN_SOURCE_DIR "/tests/fuzz/corpus/contract/llama-q4.bin";
    size_t n_bytes = 0;
    kvern_error err = {0};

    (void)state;
    if (file_read(path, 1 << 20, &text, &n_bytes, &err) != KVERN_OK ||
        manifest_parse(&good, text, strlen(text), &err) != KVERN_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    graph = (const uint8_t *)text + strlen(text) + 1;
    n_graph = n_bytes - strlen(text) - 1;
    return 0;
}

static int free_good(void **state)
{
    (void)state;
    free(text);
    return 0;
}

static void the_good_one_passes(void **state)
{
    kvern_error err = {0};

    (void)state;
    if (contract_check(&good, graph, n_graph, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

/* Replaces every occurrence; returns how many there were. */
static size_t replace(uint8_t *bytes, size_t n_bytes, const char *from, const char *to)
{
    size_t n = strlen(from);
    size_t n_found = 0;

    assert_int_equal(strlen(to), n);
    for (size_t i = 0; i + n <= n_bytes; i++) {
        if (memcmp(bytes + i, from, n) == 0) {
            memcpy(bytes + i, to, n);
            n_found++;
        }
    }
    return n_found;
}

static const struct {
    const char *from;
    const char *to; /* as long as `from` */
} changes[] = {
    {"model.onnx.data", "/etc/passwd.txt"}, /* an absolute path */
    {"model.onnx.data", "../../etc/passw"}, /* out of the directory */
    {"model.onnx.data", "sub/weights.bin"}, /* a subdirectory */
    {"model.onnx.data", "another_one.bin"}, /* a file the manifest does not name */
    {"PagedAttention", "PagedAttentiom"},   /* an operator that is not allowed */
    {"Gather", "Custom"},
    {"ai.kvern", "ai.other"}, /* a domain that is not allowed */
    {"kv_pool", "kv_pole"},   /* an input of another name */
    {"logit_rows", "logit_cols"},
    {"output_rows", "output_cols"},
};

static void what_differs_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(changes); i++) {
        uint8_t *copy = malloc(n_graph);
        kvern_error err = {0};

        assert_non_null(copy);
        memcpy(copy, graph, n_graph);
        assert_true(replace(copy, n_graph, changes[i].from, changes[i].to) > 0);
        if (contract_check(&good, copy, n_graph, &err) == KVERN_OK)
            fail_msg("'%s' instead of '%s' was accepted", changes[i].to, changes[i].from);
        printf("  %s\n", err.message);
        assert_true(strlen(err.message) > 10);
        free(copy);
    }
}

static void dims_must_be_the_manifests(void **state)
{
    struct manifest other;
    kvern_error err = {0};

    (void)state;
    other = good;
    other.config.n_layers++;
    assert_int_not_equal(contract_check(&other, graph, n_graph, &err), KVERN_OK);
    other = good;
    other.config.head_size *= 2;
    assert_int_not_equal(contract_check(&other, graph, n_graph, &err), KVERN_OK);
    other = good;
    other.config.vocab_size += 64;
    assert_int_not_equal(contract_check(&other, graph, n_graph, &err), KVERN_OK);
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < n_graph; n += 37) {
        uint8_t *copy = malloc(n ? n : 1);
        kvern_error err = {0};

        assert_non_null(copy);
        memcpy(copy, graph, n);
        assert_int_not_equal(contract_check(&good, copy, n, &err), KVERN_OK);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_good_one_passes),
        cmocka_unit_test(what_differs_is_refused_by_name),
        cmocka_unit_test(dims_must_be_the_manifests),
        cmocka_unit_test(every_cut_is_refused),
    };

    return cmocka_run_group_tests(tests, read_good, free_good);
}
