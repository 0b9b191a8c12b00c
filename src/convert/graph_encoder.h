/* SPDX-License-Identifier: Apache-2.0
 *
 * The `encoder` graph of a BERT-family model, as docs/graph.md describes it, from a plan. All
 * shapes were checked by the plan, so this can only fail for bad values, no memory, the disk, or a
 * caller who wants to stop.
 */
#ifndef KVERN_CONVERT_GRAPH_ENCODER_H
#define KVERN_CONVERT_GRAPH_ENCODER_H

#include "convert/encoder_plan.h"
#include "convert/graph_writer.h"
#include "convert/onnx_file.h"
#include "kvern.h"

/* Puts the whole graph into `file`, whose data file is open. KVERN_CANCELLED if progress->fn said
 * stop. */
kvern_status graph_encoder_write(const struct encoder_plan *plan, struct onnx_file *file,
                                 struct graph_progress *progress, kvern_error *err);

#endif
