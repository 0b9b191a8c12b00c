/* SPDX-License-Identifier: Apache-2.0
 *
 * What an export's graph gives, logits or hidden states, as rows of f32.
 */
#ifndef KVERN_ENGINE_EXPORT_ROWS_H
#define KVERN_ENGINE_EXPORT_ROWS_H

#include "model/export_graph.h"
#include "ort/value.h"

/* n values of `from`, from value `at` on. */
void export_values_copy(enum export_type type, const void *from, size_t at, float *to, size_t n);

/* Row `row` of an output [1, n_rows, row_size], which has a row for each of n_query tokens, or one
 * for the last of them. KVERN_UNSUPPORTED: it has not the one wanted. */
kvern_status export_row_read(const struct session *session, const struct value_output *output,
                             enum export_type type, size_t n_query, size_t row, size_t row_size,
                             float *to, kvern_error *err);

#endif
