/* SPDX-License-Identifier: Apache-2.0
 *
 * The `seq2seq` graph of a T5-family model, as docs/graph.md describes it, from a plan. All shapes
 * were checked by the plan, so this can only fail for bad values, no memory, the disk, or a caller
 * who wants to stop.
 */
#ifndef KVERN_CONVERT_GRAPH_SEQ2SEQ_H
#define KVERN_CONVERT_GRAPH_SEQ2SEQ_H

#include "convert/graph_writer.h"
#include "convert/onnx_file.h"
#include "convert/seq2seq_plan.h"
#include "kvern.h"

/* Puts the whole graph into `file`, whose data file is open. KVERN_CANCELLED if progress->fn said
 * stop. */
kvern_status graph_seq2seq_write(const struct seq2seq_plan *plan, struct onnx_file *file,
                                 struct graph_progress *progress, kvern_error *err);

#endif
