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
#include "model/export_walk.h"

#include <stdbool.h>
#include <stddef.h>

enum export_type { EXPORT_F32 = 1, EXPORT_F16 = 10 }; /* TensorProto.DataType */

/* A graph of an encoder-decoder's decoder. Keys and values of the decoder's own tokens are
 * present.N.decoder, those of the source present.N.encoder; with `past_key_values` before. */
enum export_part {
    EXPORT_WHOLE,  /* none: a model in itself */
    EXPORT_FIRST,  /* the source's hidden states in, all keys and values out */
    EXPORT_NEXT,   /* all keys and values in, the decoder's own out */
    EXPORT_MERGED, /* both, by use_cache_branch */
};

/* Sizes are 0 where the graph leaves them open. */
struct export_graph {
    bool is_decoder; /* has a KV cache; else it is an encoder */
    enum export_part part;
    bool has_states;      /* part: takes encoder_hidden_states */
    bool has_states_mask; /* part: takes encoder_attention_mask */
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
    enum export_type states_type; /* part: of encoder_hidden_states */
    size_t n_layers;
    size_t n_kv_heads;
    size_t head_size;
    size_t vocab_size;
    size_t hidden_size;
};

/* `bytes` is the graph, which export_walk_model() looks at: external data may lie in plain files of
 * `directory` only. Refuses inputs that no runner feeds, and a KV cache that is not whole. `files`
 * (zeroed at first) is added to, and is to be cleared after a failure, too. */
kvern_status export_graph_read(struct export_graph *graph, struct export_files *files,
                               const uint8_t *bytes, size_t n_bytes, const char *directory,
                               kvern_error *err);

/* The same with the file at `path`, whose own folder is the directory; an error names the file. */
kvern_status export_graph_read_file(struct export_graph *graph, struct export_files *files,
                                    const char *path, kvern_error *err);

/* Where graph and config both state a size, they must agree; the error names both values. A size
 * only the graph states is put into the config. */
kvern_status export_graph_agree(const struct export_graph *graph, struct model_config *config,
                                kvern_error *err);

#endif
