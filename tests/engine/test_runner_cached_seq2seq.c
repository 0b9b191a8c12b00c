/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches of sources and sequences for an encoder-decoder's exports, made by hand: a failed or
 * interrupted run changes no table, and what two tables hold is changed by neither.
 */
#include "test.h"

#include "engine/kv_blocks.h"
#include "engine/runner_cached_seq2seq.h"

#include <string.h>

enum { N_IDS = 24, VOCAB = 288, N_TOKENS = 6 };

static const char *const folders[] = {
    KVERN_SOURCE_DIR "/tests/golden/t5-exports/codet5-split",
    KVERN_SOURCE_DIR "/tests/golden/t5-exports/t5-v1.1-merged",
};
static const size_t vocab_sizes[] = {288, 160};

static struct runner *open_runner(size_t i)
{
    struct model_config config = {.family = FAMILY_T5};
    struct export_seq2seq export;
    struct export_files files = {0};
    struct runner *runner = NULL;
    kvern_error err = {0};

    assert_true(export_seq2seq_find(&export, folders[i]));
    if (export_seq2seq_read(&export, &files, &err) != KVERN_OK ||
        export_seq2seq_config(&config, folders[i], &err) != KVERN_OK)
        fail_msg("%s", err.message);
    const struct kv_layout layout = {.n_layers = config.n_layers,
                                     .n_kv_heads = config.n_kv_heads,
                                     .head_size = config.head_size,
                                     .value_bytes = 4};
    assert_int_equal(config.vocab_size, vocab_sizes[i]);
    if (runner_cached_seq2seq_open(&runner, &export, &config, &layout, 8, 1, "cpu", &err) !=
        KVERN_OK)
        fail_msg("%s", err.message);
    export_seq2seq_clear(&export);
    export_files_clear(&files);
    return runner;
}

/* Up to two sources and two sequences; tokens and sources lie one after another. */
struct rig {
    int64_t source_ids[2 * N_IDS], input_ids[2 * N_TOKENS], rows[2 * N_TOKENS];
    int32_t source_start[3], source_len[2], query_start[3], context_len[2];
    struct kv_table *source_tables[2], *tables[2];
    struct batch batch;
};

static void rig_init(struct rig *rig)
{
    *rig = (struct rig){0};
    rig->batch = (struct batch){.has_sources = true,
                                .input_ids = rig->input_ids,
                                .query_start = rig->query_start,
                                .context_len = rig->context_len,
                                .tables = rig->tables,
                                .source_ids = rig->source_ids,
                                .source_start = rig->source_start,
                                .source_tables = rig->source_tables,
                                .source_len = rig->source_len,
                                .output_rows = rig->rows,
                                .logit_rows = rig->rows};
}

/* n tokens, the last of which is `last`. */
static void rig_add_source(struct rig *rig, struct kv_table *table, size_t n, int64_t last)
{
    struct batch *batch = &rig->batch;

    for (size_t i = 0; i < n; i++)
        rig->source_ids[batch->n_source_tokens++] =
            i + 1 < n ? (int64_t)((i * 13 + i * i) % 150) : last;
    rig->source_tables[batch->n_sources++] = table;
    rig->source_start[batch->n_sources] = (int32_t)batch->n_source_tokens;
}

/* n_tokens after n_past, each a token's number but the last; all rows are wanted. */
static void rig_add_tokens(struct rig *rig, struct kv_table *table, size_t n_source, size_t n_past,
                           size_t n_tokens, int64_t last)
{
    struct batch *batch = &rig->batch;

    for (size_t i = 0; i < n_tokens; i++) {
        rig->rows[batch->n_tokens] = (int64_t)batch->n_tokens;
        rig->input_ids[batch->n_tokens++] = i + 1 < n_tokens ? (int64_t)(n_past + i + 3) : last;
    }
    batch->n_output_rows = batch->n_logit_rows = batch->n_tokens;
    rig->tables[batch->n_sequences] = table;
    rig->source_len[batch->n_sequences] = (int32_t)n_source;
    rig->context_len[batch->n_sequences] = (int32_t)(n_past + n_tokens);
    rig->query_start[++batch->n_sequences] = (int32_t)batch->n_tokens;
}

static kvern_status rig_run(struct rig *rig, struct runner *runner, struct runner_output *output,
                            kvern_error *err)
{
    return runner->run(runner, &rig->batch, output, err);
}

/* A source of n tokens into `table`. */
static void encode(struct runner *runner, struct kv_table *table, size_t n)
{
    struct runner_output output;
    struct rig rig;
    kvern_error err = {0};

    rig_init(&rig);
    rig_add_source(&rig, table, n, 9);
    if (rig_run(&rig, runner, &output, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_non_null(table->values);
}

/* Logits [n_tokens, vocab] of a sequence's tokens. */
static void decode(struct runner *runner, struct kv_table *table, size_t n_source, size_t n_past,
                   size_t n_tokens, int64_t last, float *logits)
{
    struct runner_output output;
    struct rig rig;
    kvern_error err = {0};

    rig_init(&rig);
    rig_add_tokens(&rig, table, n_source, n_past, n_tokens, last);
    if (rig_run(&rig, runner, &output, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    memcpy(logits, output.logits, n_tokens * runner->vocab_size * sizeof *logits);
}

static void release(struct kv_table *table)
{
    kv_values_release(table->values);
    table->values = NULL;
}

static void a_failed_run_changes_no_table(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        struct runner *runner = open_runner(f);
        int64_t bad = (int64_t)vocab_sizes[f];
        struct kv_table a = {0}, b = {0};
        float before[2 * VOCAB], after[2 * VOCAB];
        struct runner_output output;
        struct rig rig;
        kvern_error err = {0};

        rig_init(&rig); /* the second of two sources */
        rig_add_source(&rig, &a, 7, 1);
        rig_add_source(&rig, &b, 5, bad);
        assert_int_equal(rig_run(&rig, runner, &output, &err), KVERN_RUNTIME);
        assert_null(a.values);
        assert_null(b.values);

        encode(runner, &a, 7);
        struct kv_values *encoded = a.values;
        rig_init(&rig); /* an answer's first token, beside a source */
        rig_add_source(&rig, &b, 5, 1);
        rig_add_tokens(&rig, &a, 7, 0, 2, bad);
        assert_int_equal(rig_run(&rig, runner, &output, &err), KVERN_RUNTIME);
        assert_ptr_equal(a.values, encoded);
        assert_null(b.values);

        encode(runner, &b, 5);
        decode(runner, &a, 7, 0, 2, 8, before);
        struct kv_values *held = a.values;
        assert_ptr_not_equal(held, encoded);
        rig_init(&rig); /* a later token, after another sequence's has run */
        rig_add_tokens(&rig, &b, 5, 0, 1, 4);
        rig_add_tokens(&rig, &a, 7, 2, 2, bad);
        encoded = b.values;
        assert_int_equal(rig_run(&rig, runner, &output, &err), KVERN_RUNTIME);
        assert_ptr_equal(a.values, held);
        assert_ptr_equal(b.values, encoded);

        decode(runner, &a, 7, 2, 2, 8, before); /* as if nothing had been */
        release(&a);
        encode(runner, &a, 7);
        decode(runner, &a, 7, 0, 2, 8, after);
        decode(runner, &a, 7, 2, 2, 8, after);
        assert_memory_equal(before, after, 2 * runner->vocab_size * sizeof(float));
        release(&a);
        release(&b);
        runner->free(runner);
    }
}

/* Two tables go on from the same values, one after another and in one batch. */
static void what_two_tables_hold_is_changed_by_neither(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        struct runner *runner = open_runner(f);
        size_t row_bytes = runner->vocab_size * sizeof(float);
        struct kv_table a = {0}, b = {0};
        float first[3 * VOCAB], second[3 * VOCAB], both[6 * VOCAB], start[2 * VOCAB];
        struct runner_output output;
        struct rig rig;
        kvern_error err = {0};

        encode(runner, &a, N_IDS);
        decode(runner, &a, N_IDS, 0, 2, 8, start);
        b.values = kv_values_share(a.values);
        decode(runner, &a, N_IDS, 2, 3, 11, first);
        release(&a);
        a.values = kv_values_share(b.values);
        decode(runner, &a, N_IDS, 2, 3, 12, second);
        assert_memory_equal(first, second, 2 * row_bytes);
        assert_memory_not_equal(first + 2 * runner->vocab_size, second + 2 * runner->vocab_size,
                                row_bytes);
        release(&a);
        a.values = kv_values_share(b.values);
        rig_init(&rig);
        rig_add_tokens(&rig, &a, N_IDS, 2, 3, 11);
        rig_add_tokens(&rig, &b, N_IDS, 2, 3, 12);
        if (rig_run(&rig, runner, &output, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        memcpy(both, output.logits, 6 * row_bytes);
        assert_memory_equal(both, first, 3 * row_bytes);
        assert_memory_equal(both + 3 * runner->vocab_size, second, 3 * row_bytes);
        release(&a);
        release(&b);
        runner->free(runner);
    }
}

static void rows_do_not_depend_on_the_batch(void **state)
{
    enum { N_A = 7, N_B = N_IDS };

    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        struct runner *runner = open_runner(f);
        size_t n_vocab = runner->vocab_size;
        struct kv_table a = {0}, b = {0}, c = {0}, d = {0};
        float alone[5 * VOCAB], next[3 * VOCAB];
        struct runner_output output;
        struct rig rig;
        kvern_error err = {0};

        encode(runner, &a, N_A);
        encode(runner, &b, N_B);
        decode(runner, &a, N_A, 0, 2, 8, alone);
        decode(runner, &b, N_B, 0, 3, 9, alone + 2 * n_vocab);
        decode(runner, &a, N_A, 2, 1, 4, next);
        decode(runner, &b, N_B, 3, 2, 5, next + n_vocab);

        rig_init(&rig);
        rig_add_source(&rig, &c, N_A, 9);
        rig_add_source(&rig, &d, N_B, 9);
        assert_int_equal(rig_run(&rig, runner, &output, &err), KVERN_OK);
        rig_init(&rig);
        rig_add_tokens(&rig, &c, N_A, 0, 2, 8);
        rig_add_tokens(&rig, &d, N_B, 0, 3, 9);
        assert_int_equal(rig_run(&rig, runner, &output, &err), KVERN_OK);
        assert_memory_equal(output.logits, alone, 5 * n_vocab * sizeof(float));
        release(&a);
        rig_init(&rig); /* beside a source that is encoded */
        rig_add_source(&rig, &a, N_B, 9);
        rig_add_tokens(&rig, &c, N_A, 2, 1, 4);
        rig_add_tokens(&rig, &d, N_B, 3, 2, 5);
        assert_int_equal(rig_run(&rig, runner, &output, &err), KVERN_OK);
        assert_memory_equal(output.logits, next, 3 * n_vocab * sizeof(float));
        release(&a);
        release(&b);
        release(&c);
        release(&d);
        runner->free(runner);
    }
}

/* Only one run is cut short, whichever graphs it takes. */
static void an_interrupt_ends_one_run(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(folders); f++) {
        struct runner *runner = open_runner(f);
        struct kv_table a = {0}, b = {0};
        float logits[VOCAB];
        struct runner_output output;
        struct rig rig;
        kvern_error err = {0};

        encode(runner, &a, 7);
        struct kv_values *encoded = a.values;
        runner->interrupt(runner);
        rig_init(&rig);
        rig_add_tokens(&rig, &a, 7, 0, 1, 4);
        assert_int_equal(rig_run(&rig, runner, &output, &err), KVERN_CANCELLED);
        assert_ptr_equal(a.values, encoded);
        encode(runner, &b, 5);
        decode(runner, &a, 7, 0, 1, 4, logits);
        decode(runner, &a, 7, 1, 1, 5, logits);
        runner->interrupt(runner);
        rig_init(&rig);
        rig_add_source(&rig, &b, 9, 1);
        assert_int_equal(rig_run(&rig, runner, &output, &err), KVERN_CANCELLED);
        decode(runner, &b, 5, 0, 1, 4, logits);
        decode(runner, &a, 7, 2, 1, 6, logits);
        encode(runner, &b, 9);
        release(&a);
        release(&b);
        runner->free(runner);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_run_changes_no_table),
        cmocka_unit_test(what_two_tables_hold_is_changed_by_neither),
        cmocka_unit_test(rows_do_not_depend_on_the_batch),
        cmocka_unit_test(an_interrupt_ends_one_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
