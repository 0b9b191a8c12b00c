/* SPDX-License-Identifier: Apache-2.0
 *
 * struct pooling: how the rows of a text (hidden states or logits) become its one vector. Rows come
 * in the order of their positions, in any pieces: the vector does not depend on how a text was cut.
 */
#ifndef KVERN_ENGINE_POOLING_H
#define KVERN_ENGINE_POOLING_H

#include "kvern.h"

struct pooling {
    kvern_pooling kind;
    size_t n_values;
    float *values; /* [n_values], owned */
    double *sums;  /* [n_values], owned; mean only */
    size_t n_rows; /* seen so far */
};

/* Logits are wanted, not hidden states. */
bool pooling_reads_logits(kvern_pooling kind);
/* Rows of all positions are wanted, not the last one alone. */
bool pooling_reads_all_rows(kvern_pooling kind);

/* row_size: values of a row. `kind` is not KVERN_POOLING_MODEL. */
kvern_status pooling_init(struct pooling *pooling, kvern_pooling kind, size_t row_size,
                          kvern_error *err);
void pooling_clear(struct pooling *pooling);
/* The next rows [n_rows, row_size] that the kind reads. */
void pooling_add(struct pooling *pooling, const float *rows, size_t n_rows, size_t row_size);
/* Settles `values`. KVERN_RUNTIME: one of them is not finite. */
kvern_status pooling_finish(struct pooling *pooling, kvern_error *err);

#endif
