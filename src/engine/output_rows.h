/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows that a runner gives out (logits, hidden states): memory that grows to the largest step and
 * stays.
 */
#ifndef KVERN_ENGINE_OUTPUT_ROWS_H
#define KVERN_ENGINE_OUTPUT_ROWS_H

#include "kvern.h"

#include <stddef.h>

/* Zeroed but for row_size at first. */
struct output_rows {
    float *values; /* [capacity, row_size], 64-byte aligned; owned */
    size_t capacity;
    size_t row_size;
};

/* Room for n_rows, of at least one so that there is something to point to; what was in it is lost
 * if it grows. `what` names them in the error. */
kvern_status output_rows_reserve(struct output_rows *rows, size_t n_rows, const char *what,
                                 kvern_error *err);
void output_rows_clear(struct output_rows *rows);

#endif
