/* SPDX-License-Identifier: Apache-2.0
 *
 * A plain ONNX export (Hugging Face optimum, onnxruntime-genai, onnx-community) as its own graph
 * describes it: which inputs it takes, which outputs it gives, and the sizes these state. Read
 * before ONNX Runtime sees the file; the graph is untrusted.
 */
#ifndef KVERN_MODEL_EXPORT_GRAPH_H
#define KVERN_MODEL_EXPORT_GRAPH_H

#include "kvern.h"
#include "model/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum export_type { EXPORT_F32 = 1, EXPORT_F16 = 10 }; /* TensorProto.DataType */

/* Sizes are 0 where the graph leaves them open. */
struct export_graph {
    bool is_decoder; /* takes past_key_values; else it is an encoder */
    bool has_mask;
    bool has_positions;
    bool has_token_types;
    bool has_cache_branch; /* use_cache_branch: two graphs merged into one */
    bool has_gqa;          /* GroupQueryAttention nodes */
    bool has_logits;
    char hidden[32];    /* the output of hidden states; "": none */
    bool is_pooled;     /* that output is one vector a text */
    bool has_last_only; /* logits of the last token only */
    enum export_type kv_type;
    enum export_type logits_type;
    enum export_type hidden_type;
    size_t n_layers;
    size_t n_kv_heads;
    size_t head_size;
    size_t vocab_size;
    size_t hidden_size;
};

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

/* `bytes` is the graph; external data may lie in plain files of `directory` only: no path, no link.
 * Refuses inputs that no runner feeds, a KV cache that is not whole, and operators that reach out
 * of the file or are kvern's own; of other domains ONNX Runtime knows those it has. `files` is to
 * be cleared after a failure, too. */
kvern_status export_graph_read(struct export_graph *graph, struct export_files *files,
                               const uint8_t *bytes, size_t n_bytes, const char *directory,
                               kvern_error *err);

/* Where graph and config both state a size, they must agree; the error names both values. A size
 * only the graph states is put into the config. */
kvern_status export_graph_agree(const struct export_graph *graph, struct model_config *config,
                                kvern_error *err);

#endif
