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

static uint64_t scramble(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

void fake_logits(const int32_t *history, size_t n, float *logits)
{
    uint64_t state = 1;

    for (size_t i = 0; i < n; i++)
        state = scramble(state * 31 + (uint64_t)history[i] + 7 * i + 1);
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

        if (n < 0)
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

static size_t run_sequence(struct fake_runner *fake, const struct batch *batch, size_t s,
                           size_t row)
{
    size_t begin = (size_t)batch->query_start[s];
    size_t end = (size_t)batch->query_start[s + 1];
    size_t n_context = (size_t)batch->context_len[s];
    int32_t *history = new_or_abort(n_context * sizeof *history);

    for (size_t t = begin; t < end; t++) {
        size_t position = n_context - (end - t);

        if (batch->positions[t] != (int64_t)position)
            atomic_fetch_add(&fake->n_bad_reads, 1);
        *slot_of(fake, batch, s, position) = (int32_t)batch->input_ids[t] + 1;
    }
    for (size_t i = 0; i < n_context; i++) {
        history[i] = *slot_of(fake, batch, s, i) - 1;
        if (history[i] < 0)
            atomic_fetch_add(&fake->n_bad_reads, 1);
    }
    for (; row < batch->n_logit_rows; row++) {
        size_t token = (size_t)batch->output_rows[batch->logit_rows[row]];
        size_t n = n_context - (end - token) + 1;

        if (token >= end)
            break;

        fake_logits(history, n, fake->logits + row * FAKE_VOCAB);
    }
    free(history);
    return row;
}

static kvern_status fake_run(struct runner *runner, const struct batch *batch,
                             struct runner_output *output, kvern_error *err)
{
    struct fake_runner *fake = (struct fake_runner *)runner;
    size_t n = batch->n_logit_rows * FAKE_VOCAB;
    size_t row = 0;

    wait_for_gate(fake);
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
    for (size_t s = 0; s < batch->n_sequences; s++)
        row = run_sequence(fake, batch, s, row);
    output->logits = fake->logits;
    return KVERN_OK;
}

static void fake_free(struct runner *runner)
{
    atomic_store(&((struct fake_runner *)runner)->is_freed, true);
}

struct fake_runner *fake_runner_new(size_t n_kv_blocks)
{
    struct fake_runner *fake = new_or_abort(sizeof *fake);

    fake->runner = (struct runner){
        .run = fake_run, .free = fake_free, .vocab_size = FAKE_VOCAB, .n_kv_blocks = n_kv_blocks};
    fake->slots = new_or_abort(n_kv_blocks * 16 * sizeof *fake->slots);
    atomic_store(&fake->n_gates, -1);
    return fake;
}

void fake_runner_destroy(struct fake_runner *fake)
{
    free(fake->slots);
    free(fake->logits);
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
