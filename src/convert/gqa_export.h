/* SPDX-License-Identifier: Apache-2.0
 *
 * A GroupQueryAttention export (onnxruntime-genai's model builder, onnx-community) as a checkpoint:
 * its weights under their Hugging Face names and its config, so that it is converted like any other
 * source. Not a rewrite of its graph: every operator of the converted model is kvern's own.
 */
#ifndef KVERN_CONVERT_GQA_EXPORT_H
#define KVERN_CONVERT_GQA_EXPORT_H

#include "convert/checkpoint.h"
#include "convert/gqa_config.h"
#include "kvern.h"

/* Adds config and tensors of checkpoint->onnx, which is open. KVERN_UNSUPPORTED for a graph of
 * another form: it runs as it is. */
kvern_status gqa_export_read(struct checkpoint *checkpoint, const struct gqa_texts *texts,
                             kvern_error *err);

#endif
