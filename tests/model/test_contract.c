/* SPDX-License-Identifier: Apache-2.0
 *
 * Graphs that differ from what their manifest and its contract say, made by replacing bytes of good
 * ones (the fuzz target's corpus) with as many others.
 */
#include "test.h"

#include "base/file.h"
#include "model/contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGED, ENCODER, N_GOOD };

static struct good {
    const char *file;
    char *text; /* kvern.json, NUL, model.onnx */
    struct manifest manifest;
    const uint8_t *graph; /* into text */
    size_t n_graph;
} goods[N_GOOD] = {{.file = "llama-q4.bin"}, {.file = "bert-q8.bin"}};

static int read_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOOD; i++) {
        struct good *good = &goods[i];
        char path[512];
        size_t n_bytes = 0;
        kvern_error err = {0};

        snprintf(path, sizeof path, "%s/tests/fuzz/corpus/contract/%s", KVERN_SOURCE_DIR,
                 good->file);
        if (file_read(path, 1 << 20, &good->text, &n_bytes, &err) != KVERN_OK ||
            manifest_parse(&good->manifest, good->text, strlen(good->text), &err) != KVERN_OK) {
            print_error("%s\n", err.message);
            return -1;
        }
        good->graph = (const uint8_t *)good->text + strlen(good->text) + 1;
        good->n_graph = n_bytes - strlen(good->text) - 1;
    }
    return 0;
}

static int free_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOOD; i++)
        free(goods[i].text);
    return 0;
}

static void the_good_ones_pass(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOOD; i++) {
        kvern_error err = {0};

        if (contract_check(&goods[i].manifest, goods[i].graph, goods[i].n_graph, &err) != KVERN_OK)
            fail_msg("%s", err.message);
    }
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
    int good;
    const char *from;
    const char *to; /* as long as `from` */
} changes[] = {
    {PAGED, "model.onnx.data", "/etc/passwd.txt"}, /* an absolute path */
    {PAGED, "model.onnx.data", "../../etc/passw"}, /* out of the directory */
    {PAGED, "model.onnx.data", "sub/weights.bin"}, /* a subdirectory */
    {PAGED, "model.onnx.data", "another_one.bin"}, /* a file the manifest does not name */
    {PAGED, "PagedAttention", "PagedAttentiom"},   /* an operator that is not allowed */
    {PAGED, "Gather", "Custom"},
    {PAGED, "ai.kvern", "ai.other"}, /* a domain that is not allowed */
    {PAGED, "kv_pool", "kv_pole"},   /* an input of another name */
    {PAGED, "logit_rows", "logit_cols"},
    {PAGED, "output_rows", "output_cols"},
    {ENCODER, "model.onnx.data", "another_one.bin"},
    {ENCODER, "PackedAttention", "PackedAttentiom"},
    {ENCODER, "AddLayerNorm", "AddRmsNormal"},
    {ENCODER, "Embedding", "Something"},
    {ENCODER, "positions", "placement"},
    {ENCODER, "query_start", "token_start"},
    {ENCODER, "last_hidden_state", "first_hiddn_state"},
};

static void what_differs_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(changes); i++) {
        const struct good *good = &goods[changes[i].good];
        uint8_t *copy = malloc(good->n_graph);
        kvern_error err = {0};

        assert_non_null(copy);
        memcpy(copy, good->graph, good->n_graph);
        assert_true(replace(copy, good->n_graph, changes[i].from, changes[i].to) > 0);
        if (contract_check(&good->manifest, copy, good->n_graph, &err) == KVERN_OK)
            fail_msg("'%s' instead of '%s' was accepted", changes[i].to, changes[i].from);
        printf("  %s\n", err.message);
        assert_true(strlen(err.message) > 10);
        free(copy);
    }
}

/* A graph of one contract under the other's name. */
static void contracts_do_not_mix(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOOD; i++) {
        struct manifest other = goods[i].manifest;
        kvern_error err = {0};

        snprintf(other.contract, sizeof other.contract, "%s", goods[1 - i].manifest.contract);
        assert_int_not_equal(contract_check(&other, goods[i].graph, goods[i].n_graph, &err),
                             KVERN_OK);
        printf("  %s\n", err.message);
    }
}

static void refuse_config(const struct good *good, const struct model_config *config)
{
    struct manifest other = good->manifest;
    kvern_error err = {0};

    other.config = *config;
    if (contract_check(&other, good->graph, good->n_graph, &err) == KVERN_OK)
        fail_msg("another config was accepted for %s", good->file);
    printf("  %s\n", err.message);
}

static void dims_must_be_the_manifests(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOOD; i++) {
        const struct model_config *good = &goods[i].manifest.config;
        struct model_config config = *good;

        config.n_layers++;
        refuse_config(&goods[i], &config);
        config = *good;
        config.head_size *= 2;
        refuse_config(&goods[i], &config);
        config = *good;
        config.n_heads *= 2;
        refuse_config(&goods[i], &config);
        config = *good;
        config.vocab_size += 64;
        refuse_config(&goods[i], &config);
        config = *good;
        config.hidden_size *= 2;
        refuse_config(&goods[i], &config);
        config = *good;
        config.max_positions++; /* an encoder has a table of them */
        if (i == ENCODER)
            refuse_config(&goods[i], &config);
    }
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOOD; i++) {
        for (size_t n = 0; n < goods[i].n_graph; n += 37) {
            uint8_t *copy = malloc(n ? n : 1);
            kvern_error err = {0};

            assert_non_null(copy);
            memcpy(copy, goods[i].graph, n);
            assert_int_not_equal(contract_check(&goods[i].manifest, copy, n, &err), KVERN_OK);
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_good_ones_pass),   cmocka_unit_test(what_differs_is_refused_by_name),
        cmocka_unit_test(contracts_do_not_mix), cmocka_unit_test(dims_must_be_the_manifests),
        cmocka_unit_test(every_cut_is_refused),
    };

    return cmocka_run_group_tests(tests, read_good, free_good);
}
