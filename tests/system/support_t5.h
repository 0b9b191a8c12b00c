/* SPDX-License-Identifier: Apache-2.0
 *
 * T5 checkpoints with transformers' answers (tests/golden/make_t5.py): reading the goldens, running
 * the encoder alone, requests whose logits are kept, and beam searches. Every failure ends the
 * test.
 */
#ifndef KVERN_TESTS_SUPPORT_T5_H
#define KVERN_TESTS_SUPPORT_T5_H

#include "base/buffer.h"
#include "kvern.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum {
    T5_ROWS = 8,
    T5_STEPS = 32,
    T5_FORCED = 160,
    T5_MAX_SOURCE = 512,
    T5_MAX_INPUTS = 8,
    T5_BEAMS = 4,
    T5_BLOCK = 16
};

struct t5_input {
    int32_t ids[T5_MAX_SOURCE];
    size_t n_ids;
    size_t encoder_stride;
    size_t n_decoder;         /* tokens of decoder_ids that were run */
    double range;             /* of the logits */
    int32_t best[T5_FORCED];  /* token after each of them */
    double leads[T5_FORCED];  /* its lead, a share of the range */
    int32_t greedy[T5_STEPS]; /* answer */
};

struct t5_golden {
    size_t n_vocab;
    size_t d_model;
    size_t logit_stride;            /* every such column is in `logits` */
    size_t n_columns;               /* of `logits` */
    int32_t decoder_ids[T5_FORCED]; /* the first is the start token */
    struct t5_input inputs[T5_MAX_INPUTS];
    size_t n_inputs;
    json_t *document;      /* owned */
    struct buffer encoder; /* f32 [n_rows of all inputs, d_model] */
    struct buffer logits;  /* f32 [n_inputs, T5_ROWS, n_columns] */
};

/* Of a folder of tests/golden/t5. */
struct t5_golden t5_golden_read(const char *variant);
void t5_golden_clear(struct t5_golden *golden);
kvern_model *t5_open(const char *variant, const char *weights);
/* Of all layers. */
size_t t5_block_bytes(const kvern_model *model, size_t value_bytes);

/* The largest difference to the goldens' encoder rows, as a share of their range. */
double t5_encoder_gap(const kvern_model *model, const struct t5_golden *golden);
/* Logits by position of the decoder. */
struct t5_seen {
    float *rows; /* [T5_FORCED, n_vocab]; owned */
    size_t n_vocab;
    size_t n_rows;
};

struct t5_seen t5_seen_new(const struct t5_golden *golden);
/* Never ends at eos. A decoder_prompt may be none, `seen` NULL. */
kvern_request *t5_submit(kvern_engine *engine, const struct t5_input *input,
                         const int32_t *decoder_prompt, size_t n_decoder_prompt, size_t max_tokens,
                         struct t5_seen *seen);
/* The largest difference to the goldens' logits, as a share of the range. Each of their rows is a
 * request of its own, which ends there. */
double t5_logits_gap(kvern_engine *engine, const struct t5_golden *golden);
/* Fails unless the greedy answer is the golden one. */
void t5_check_greedy(kvern_engine *engine, const char *variant, const struct t5_golden *golden);
/* Runs all searches of the goldens at once and fails unless the answers are theirs. Returns how
 * many there were; *worst is the largest difference of a score. */
size_t t5_check_beams(kvern_engine *engine, const char *variant, const struct t5_golden *golden,
                      double *worst);

/* How often the best token is that of the goldens where it leads by `lead` of the range. */
struct t5_agreement {
    double lead;
    size_t n, n_same;
};

/* Adds all teacher-forced positions to each of the agreements. */
void t5_count_agreement(kvern_engine *engine, const struct t5_golden *golden,
                        struct t5_agreement *agreements, size_t n_agreements);

#endif
