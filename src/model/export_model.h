/* SPDX-License-Identifier: Apache-2.0
 *
 * A folder with somebody else's ONNX export, opened without a kvern.json: where its files are, and
 * the manifest it would have.
 */
#ifndef KVERN_MODEL_EXPORT_MODEL_H
#define KVERN_MODEL_EXPORT_MODEL_H

#include "kvern.h"
#include "model/export_graph.h"
#include "model/export_seq2seq.h"
#include "model/manifest.h"

#include <stdbool.h>

struct export_place {
    char *graph;     /* path of the .onnx file, of an encoder-decoder its decoder; owned */
    char *directory; /* where config.json and tokenizer.json are, or would be; owned */
    struct export_seq2seq seq2seq; /* an encoder-decoder's graphs; zeroed: it is none */
};

/* `path` is an .onnx file or a folder that holds one under a name exporters use, itself or in its
 * folder onnx/. false: it is neither. */
bool export_place_find(struct export_place *place, const char *path);
void export_place_clear(struct export_place *place);
/* Where the config and tokenizer of a graph lie: beside it or, as onnx-community has them, above
 * the folder onnx/ that it is in. malloc'ed. */
char *export_config_directory(const char *graph);

/* Reads the graph, or an encoder-decoder's graphs, and the config (preset may be NULL), checks one
 * against the other, and writes what they say into *manifest: contract "cached", "encoder" or
 * "seq2seq", and no files. An error names both sides; `files` is to be cleared then, too. */
kvern_status export_model_read(struct export_place *place, const char *preset,
                               struct export_graph *graph, struct export_files *files,
                               struct manifest *manifest, kvern_error *err);

#endif
