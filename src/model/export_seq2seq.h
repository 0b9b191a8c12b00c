/* SPDX-License-Identifier: Apache-2.0
 *
 * An encoder-decoder as optimum exports it: two or three graphs that lie side by side and must fit
 * each other. Read before ONNX Runtime sees them; all of them are untrusted.
 */
#ifndef KVERN_MODEL_EXPORT_SEQ2SEQ_H
#define KVERN_MODEL_EXPORT_SEQ2SEQ_H

#include "kvern.h"
#include "model/config.h"
#include "model/export_graph.h"

#include <stdbool.h>

struct export_seq2seq_graph {
    char *path; /* owned; NULL: there is none */
    struct export_graph graph;
};

/* Zeroed: no encoder-decoder. */
struct export_seq2seq {
    struct export_seq2seq_graph encoder;
    struct export_seq2seq_graph decoder; /* EXPORT_MERGED, or EXPORT_FIRST beside: */
    struct export_seq2seq_graph next;    /* EXPORT_NEXT */
};

/* The paths, under optimum's names: encoder_model.onnx beside decoder_model_merged.onnx, or beside
 * decoder_model.onnx and decoder_with_past_model.onnx. `path` is their folder, the one above
 * its folder onnx/, or one of the files; a file's ending, as in decoder_model_merged_int8.onnx, is
 * that of all. Merged ones go first where both are there and the file does not say. false: they are
 * not all there; nothing is to be cleared. */
bool export_seq2seq_find(struct export_seq2seq *export, const char *path);
void export_seq2seq_clear(struct export_seq2seq *export);

/* Reads the graphs that were found and checks one against the other; sizes that one of them states
 * are in decoder.graph. An error names both sides; `files` is as for export_graph_read(). */
kvern_status export_seq2seq_read(struct export_seq2seq *export, struct export_files *files,
                                 kvern_error *err);
/* The config that must lie in `directory`, of a family that is an encoder-decoder. */
kvern_status export_seq2seq_config(struct model_config *config, const char *directory,
                                   kvern_error *err);

#endif
