/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole of an export's file, before ONNX Runtime sees it: every node, tensor, subgraph and
 * function is looked at for what could reach outside the model. What its inputs and outputs are is
 * export_graph.c's to read.
 */
#ifndef KVERN_MODEL_EXPORT_WALK_H
#define KVERN_MODEL_EXPORT_WALK_H

#include "kvern.h"
#include "model/protobuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXPORT_MAX_FILE_NAME = 256 }; /* bytes, with the NUL */

struct export_file {
    char name[EXPORT_MAX_FILE_NAME]; /* plain: of a file beside the graph */
    uint64_t n_bytes;
};

/* The files that the graph's tensors lie in, subgraphs' and functions' too: each once, in the order
 * of their first mention. Zeroed is empty. */
struct export_files {
    struct export_file *items; /* [n], owned */
    size_t n;
    uint64_t n_bytes; /* of these and of the graph */
};

void export_files_clear(struct export_files *files);

struct export_walk {
    const char *directory;      /* whose plain files external data may lie in: no path, no link */
    struct export_files *files; /* those that have been looked at; of other graphs, too */
    bool has_gqa;               /* set: there are GroupQueryAttention nodes */
    kvern_error *err;
};

/* Looks at the file's bytes, adds their number and the files of weights to walk->files, and gives
 * its one graph, a view into them. Refuses sparse tensors, training graphs, and operators that
 * reach out of the file or are kvern's own; of other domains ONNX Runtime knows those it has. */
kvern_status export_walk_model(struct export_walk *walk, const uint8_t *bytes, size_t n_bytes,
                               struct protobuf *graph);

#endif
