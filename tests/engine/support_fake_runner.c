/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake runner. runner->free only marks it, so that a test may look at it after the engine has
 * closed; fake_runner_destroy() frees it.
 */
#include "support_fake_runner.h"

#include "base/error.h"
#include "base/memory.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static uint64_t scramble(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

static uint64_t hash(const int32_t *history, size_t n)
{
    uint64_t state = 1;

    for (size_t i = 0; i < n; i++)
        state = scramble(state * 31 + (uint64_t)history[i] + 7 * i + 1);
    return state;
}

void fake_hidden(const int32_t *history, size_t n, float *hidden)
{
    uint64_t state = hash(history, n);

    for (size_t i = 0; i < FAKE_HIDDEN; i++)
        hidden[i] = (float)(scramble(state + i) >> 40) / (float)(1 << 23) - 1;
    if (history[n - 1] == FAKE_NAN)
        hidden[1] = NAN;
}

void fake_logits(const int32_t *history, size_t n, float *logits)
{
    uint64_t state = hash(history, n);

    /* ids over 255 stay unlikely, so that answers are bytes */
    for (size_t id = 0; id < FAKE_VOCAB; id++) {
        uint64_t bits = scramble(state + id * 0x9e3779b97f4a7c15U) >> 40;

        logits[id] = (float)bits / (float)(1 << 21) - (id > 255 ? 20.0F : 0.0F);
    }
    if (history[n - 1] == FAKE_NAN)
        logits[5] = NAN;
}

int32_t fake_next(const int32_t *history, size_t n)
{
    float logits[FAKE_VOCAB];
    int32_t best = 0;

    fake_logits(history, n, logits);
    for (int32_t i = 1; i < FAKE_VOCAB; i++) {
        if (logits[i] > logits[best])
            best = i;
    }
    return best;
}

static void wait_for_gate(struct fake_runner *fake)
{
    for (;;) {
        int n = atomic_load(&fake->n_gates);

        if (n < 0 || atomic_load(&fake->is_interrupted))
            return;
        if (n > 0 && atomic_compare_exchange_weak(&fake->n_gates, &n, n - 1))
            return;
        sched_yield();
    }
}

static int32_t *slot_of(struct fake_runner *fake, const struct batch *batch, size_t s,
                        size_t position)
{
    int32_t block = batch->block_table[s * batch->blocks_per_row + position / 16];

    return &fake->slots[(size_t)block * 16 + position % 16];
}

struct fake_values {
    struct kv_values base; /* first */
    struct fake_runner *fake;
    size_t n_dropped; /* blocks, as in kv_table */
    int32_t *history; /* [base.n_tokens], owned */
};

static void free_values(struct kv_values *base)
{
    struct fake_values *values = (struct fake_values *)base;

    if (atomic_load(&values->fake->is_freed))
        atomic_fetch_add(&values->fake->n_bad_reads, 1);
    atomic_fetch_sub(&values->fake->n_values, 1);
    free(values->history);
    free(values);
}

/* KV of this history in place of the table's. */
static void renew_values(struct fake_runner *fake, struct kv_table *table, const int32_t *history,
                         size_t n_tokens)
{
    struct fake_values *values = new_or_abort(sizeof *values);

    values->base = (struct kv_values){
        .n_references = 1, .n_tokens = n_tokens, .is_rigid = fake->is_rigid, .free = free_values};
    values->fake = fake;
    values->n_dropped = table->n_dropped;
    values->history = new_or_abort(n_tokens * sizeof *values->history);
    memcpy(values->history, history, n_tokens * sizeof *history);
    atomic_fetch_add(&fake->n_values, 1);
    kv_values_release(table->values);
    table->values = &values->base;
}

/* The first n_past tokens of what the table's values hold, without those that slid out since. */
static void read_values(struct fake_runner *fake, const struct kv_table *table, size_t n_past,
                        int32_t *history)
{
    const struct fake_values *values = (const struct fake_values *)table->values;
    size_t n_sinks = table->n_sinks * KV_BLOCK_TOKENS;
    size_t n_slid = values ? (table->n_dropped - values->n_dropped) * KV_BLOCK_TOKENS : 0;

    if (n_past == 0)
        return;
    if (!values || values->base.n_tokens < n_past + n_slid ||
        (values->base.is_rigid && values->base.n_tokens != n_past)) {
        atomic_fetch_add(&fake->n_bad_reads, 1);
        return;
    }
    for (size_t i = 0; i < n_past; i++)
        history[i] = values->history[n_slid > 0 && i >= n_sinks ? i + n_slid : i];
}

/* What a slot says and back; KV from outside may be any number. */
static int32_t token_of(int32_t slot)
{
    return (int32_t)((uint32_t)slot - 1);
}

static int32_t slot_for(int32_t token)
{
    return (int32_t)((uint32_t)token + 1);
}

/* The same out of the blocks' slots. */
static void read_slots(struct fake_runner *fake, const struct batch *batch, size_t s, size_t n_past,
                       int32_t *history)
{
    for (size_t i = 0; i < n_past; i++) {
        history[i] = token_of(*slot_of(fake, batch, s, i));
        if (history[i] < 0)
            atomic_fetch_add(&fake->n_bad_reads, 1);
    }
}

/* Reads the sequence's history back and puts its tokens behind it, there and in the KV; malloc'ed.
 */
static int32_t *read_history(struct fake_runner *fake, const struct batch *batch, size_t s)
{
    struct kv_table *table = batch->tables[s];
    size_t begin = (size_t)batch->query_start[s];
    size_t n_context = (size_t)batch->context_len[s];
    size_t n_past = n_context - ((size_t)batch->query_start[s + 1] - begin);
    size_t n_dropped = table->n_dropped * KV_BLOCK_TOKENS;
    int32_t *history = new_or_abort(n_context * sizeof *history);

    if (n_dropped > 0 && !fake->runner.keeps_positions)
        atomic_fetch_add(&fake->n_bad_reads, 1);
    if (fake->keeps_values)
        read_values(fake, table, n_past, history);
    else
        read_slots(fake, batch, s, n_past, history);
    for (size_t i = n_past; i < n_context; i++) {
        size_t token = begin + i - n_past;

        if (batch->positions[token] != (int64_t)(i + n_dropped))
            atomic_fetch_add(&fake->n_bad_reads, 1);
        history[i] = (int32_t)batch->input_ids[token];
        *slot_of(fake, batch, s, i) = history[i] + 1;
    }
    if (fake->keeps_values)
        renew_values(fake, table, history, n_context);
    return history;
}

/* Rows of the batch that have been written. */
struct rows {
    size_t n_output;
    size_t n_logit;
};

static void run_sequence(struct fake_runner *fake, const struct batch *batch, size_t s,
                         struct rows *rows)
{
    size_t end = (size_t)batch->query_start[s + 1];
    size_t n_context = (size_t)batch->context_len[s];
    int32_t *history = read_history(fake, batch, s);

    for (; rows->n_output < batch->n_output_rows; rows->n_output++) {
        size_t token = (size_t)batch->output_rows[rows->n_output];
        size_t n = n_context - (end - token) + 1;

        if (token >= end)
            break;
        if (rows->n_logit < batch->n_logit_rows &&
            (size_t)batch->logit_rows[rows->n_logit] == rows->n_output)
            fake_logits(history, n, fake->logits + rows->n_logit++ * FAKE_VOCAB);
        else
            fake_hidden(history, n, fake->hidden + rows->n_output * FAKE_HIDDEN);
    }
    free(history);
}

/* Without a KV cache: the texts come whole, and nothing is kept of them. */
static void run_text(struct fake_runner *fake, const struct batch *batch, size_t s,
                     struct rows *rows)
{
    size_t begin = (size_t)batch->query_start[s];
    size_t end = (size_t)batch->query_start[s + 1];
    int32_t *history = new_or_abort((end - begin) * sizeof *history);

    if ((size_t)batch->context_len[s] != end - begin)
        atomic_fetch_add(&fake->n_bad_reads, 1);
    for (size_t t = begin; t < end; t++)
        history[t - begin] = (int32_t)batch->input_ids[t];
    for (; rows->n_output < batch->n_output_rows; rows->n_output++) {
        size_t token = (size_t)batch->output_rows[rows->n_output];

        if (token >= end)
            break;
        fake_hidden(history, token - begin + 1, fake->hidden + rows->n_output * FAKE_HIDDEN);
    }
    free(history);
}

static kvern_status fake_run(struct runner *runner, const struct batch *batch,
                             struct runner_output *output, kvern_error *err)
{
    struct fake_runner *fake = (struct fake_runner *)runner;
    size_t n = batch->n_logit_rows * FAKE_VOCAB;
    size_t n_hidden = batch->n_output_rows * FAKE_HIDDEN;
    struct rows rows = {0};

    wait_for_gate(fake);
    if (atomic_exchange(&fake->is_interrupted, false)) {
        atomic_fetch_add(&fake->n_interrupted, 1);
        return fail(err, KVERN_CANCELLED, "the step was interrupted");
    }
    atomic_fetch_add(&fake->n_runs, 1);
    if (batch->n_tokens > atomic_load(&fake->widest))
        atomic_store(&fake->widest, batch->n_tokens);
    for (size_t t = 0; t < batch->n_tokens; t++) {
        if (batch->input_ids[t] == FAKE_POISON)
            return fail(err, KVERN_RUNTIME, "token %d is poison", FAKE_POISON);
    }
    if (n > fake->logit_capacity) {
        fake->logits = resize_or_abort(fake->logits, n * sizeof(float));
        fake->logit_capacity = n;
    }
    if (n_hidden > fake->hidden_capacity) {
        fake->hidden = resize_or_abort(fake->hidden, n_hidden * sizeof(float));
        fake->hidden_capacity = n_hidden;
    }
    for (size_t s = 0; s < batch->n_sequences; s++) {
        if (runner->n_kv_blocks > 0)
            run_sequence(fake, batch, s, &rows);
        else
            run_text(fake, batch, s, &rows);
    }
    output->logits = fake->logits;
    output->hidden = fake->hidden;
    return KVERN_OK;
}

static size_t fake_kv_bytes(const struct runner *runner, size_t n_tokens)
{
    (void)runner;
    return n_tokens * sizeof(int32_t);
}

static kvern_status fake_kv_read(struct runner *runner, const struct kv_table *table,
                                 size_t n_tokens, void *bytes, kvern_error *err)
{
    struct fake_runner *fake = (struct fake_runner *)runner;
    int32_t *tokens = bytes;

    (void)err;
    for (size_t i = 0; i < n_tokens && !fake->keeps_values; i++)
        tokens[i] = token_of(fake->slots[(size_t)table->blocks[i / 16] * 16 + i % 16]);
    if (fake->keeps_values)
        read_values(fake, table, n_tokens, tokens);
    return KVERN_OK;
}

static kvern_status fake_kv_write(struct runner *runner, struct kv_table *table, size_t n_tokens,
                                  const void *bytes, kvern_error *err)
{
    struct fake_runner *fake = (struct fake_runner *)runner;
    int32_t *tokens = new_or_abort(n_tokens * sizeof *tokens);

    (void)err;
    memcpy(tokens, bytes, n_tokens * sizeof *tokens);
    for (size_t i = 0; i < n_tokens; i++)
        fake->slots[(size_t)table->blocks[i / 16] * 16 + i % 16] = slot_for(tokens[i]);
    if (fake->keeps_values)
        renew_values(fake, table, tokens, n_tokens);
    free(tokens);
    return KVERN_OK;
}

static void fake_kv_copy(struct runner *runner, int32_t from, int32_t to)
{
    struct fake_runner *fake = (struct fake_runner *)runner;

    memcpy(fake->slots + (size_t)to * 16, fake->slots + (size_t)from * 16,
           16 * sizeof *fake->slots);
}

static void fake_interrupt(struct runner *runner)
{
    atomic_store(&((struct fake_runner *)runner)->is_interrupted, true);
}

static void fake_free(struct runner *runner)
{
    atomic_store(&((struct fake_runner *)runner)->is_freed, true);
}

struct fake_runner *fake_runner_new(size_t n_kv_blocks)
{
    struct fake_runner *fake = new_or_abort(sizeof *fake);

    fake->runner = (struct runner){.run = fake_run,
                                   .interrupt = fake_interrupt,
                                   .free = fake_free,
                                   .kv_copy = fake_kv_copy,
                                   .kv_bytes = fake_kv_bytes,
                                   .kv_read = fake_kv_read,
                                   .kv_write = fake_kv_write,
                                   .vocab_size = FAKE_VOCAB,
                                   .has_no_logits = n_kv_blocks == 0,
                                   .hidden_size = FAKE_HIDDEN,
                                   .n_kv_blocks = n_kv_blocks,
                                   .keeps_positions = n_kv_blocks > 0};
    fake->slots = new_or_abort(n_kv_blocks * 16 * sizeof *fake->slots);
    atomic_store(&fake->n_gates, -1);
    return fake;
}

void fake_runner_destroy(struct fake_runner *fake)
{
    free(fake->slots);
    free(fake->logits);
    free(fake->hidden);
    free(fake);
}

static void add_byte(void *state, int32_t id, struct buffer *out)
{
    (void)state;
    buffer_add_byte(out, (char)(id & 0xff));
}

static kvern_status make_decoder(const void *context, struct text_decoder *out, kvern_error *err)
{
    (void)context;
    (void)err;
    *out = (struct text_decoder){.add = add_byte};
    return KVERN_OK;
}

const struct text_decoder_maker fake_decoder = {.make = make_decoder};
