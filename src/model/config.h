/* SPDX-License-Identifier: Apache-2.0
 *
 * The numbers that define a model: sizes, rotary embedding, norms, special ids. A plain value:
 * copied freely, owns nothing. Read from a Hugging Face config.json here, from GGUF metadata by
 * convert/gguf_config; either way config_check() has passed before anyone uses it. A model is a
 * decoder, an encoder (config_is_encoder) or both (config_is_seq2seq); what another kind alone has
 * is 0 in it.
 */
#ifndef KVERN_MODEL_CONFIG_H
#define KVERN_MODEL_CONFIG_H

#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* OTHER: not one that kvern builds graphs for; an export of it runs all the same. */
enum model_family {
    FAMILY_LLAMA,
    FAMILY_QWEN2,
    FAMILY_QWEN3,
    FAMILY_BERT,
    FAMILY_T5,
    FAMILY_OTHER,
};

enum model_activation {
    MODEL_ACTIVATION_SILU,
    MODEL_ACTIVATION_GELU_TANH, /* gelu_new, gelu_pytorch_tanh */
    MODEL_ACTIVATION_GELU,      /* with erf: not for decoders, nor is relu */
    MODEL_ACTIVATION_RELU,
};

enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,  /* every frequency divided by rope_factor */
    ROPE_SCALING_LLAMA3,  /* low frequencies divided, high ones kept, smooth between */
    ROPE_SCALING_DIVISORS /* rope_divisors, one a frequency (GGUF's rope_freqs.weight) */
};

enum {
    CONFIG_MAX_EOS = 8,
    CONFIG_MAX_HEAD_SIZE = 256,
};

struct model_config {
    enum model_family family;
    size_t n_layers; /* of a seq2seq model: the decoder's */
    size_t n_heads;
    size_t n_kv_heads; /* divides n_heads */
    size_t head_size;  /* even; n_heads * head_size need not be hidden_size */
    size_t hidden_size;
    size_t intermediate_size;
    size_t vocab_size;
    size_t
        max_positions; /* tokens a sequence may have; of a seq2seq model, a source or an answer */
    size_t first_position; /* encoder checkpoints: the row of the position table that a text begins
                              with (RoBERTa: pad + 1); 0 once the table was converted */
    size_t n_token_types;  /* encoder checkpoints: rows of the token type table; 0: there is none,
                              or it was converted */
    float rope_theta;
    enum rope_scaling rope_scaling;
    float rope_factor;                             /* linear, llama3 */
    float rope_low_freq_factor;                    /* llama3 */
    float rope_high_freq_factor;                   /* llama3 */
    size_t rope_original_max_positions;            /* llama3 */
    float rope_divisors[CONFIG_MAX_HEAD_SIZE / 2]; /* [head_size / 2] */
    float norm_epsilon;
    bool is_tied;      /* lm_head is the embedding table */
    bool has_qkv_bias; /* q_proj, k_proj and v_proj */
    bool has_o_bias;
    bool has_mlp_bias; /* gate_proj, up_proj and down_proj */
    bool has_qk_norm;  /* RMS norm of each q and k head */
    enum model_activation activation;
    size_t sliding_window; /* 0: off */
    /* seq2seq */
    size_t n_encoder_layers;
    bool is_gated;                /* feed-forward: act(gate) * up; else act(up) */
    size_t relative_buckets;      /* of the relative position bias; 0 once it was converted */
    size_t relative_max_distance; /* from which on all distances are one bucket; likewise */
    int32_t decoder_start;        /* every answer's first token, which is not part of it */
    int32_t bos;                  /* -1: none */
    int32_t pad;                  /* -1: none */
    int32_t eos[CONFIG_MAX_EOS];
    size_t n_eos;
};

/* Reads a Hugging Face config.json; `generation_text` (generation_config.json, may be NULL) adds
 * its eos ids. Ends with config_check(). An unknown model_type or rope scaling is
 * KVERN_UNSUPPORTED. */
kvern_status config_from_json(struct model_config *config, const char *text,
                              const char *generation_text, kvern_error *err);

/* Every value in a range kvern can run; the error names field and value. */
kvern_status config_check(const struct model_config *config, kvern_error *err);

/* Radians per position of each rotary pair: inv_freq [head_size / 2], scaling included, as
 * transformers computes it. */
void config_rotary_frequencies(const struct model_config *config, float *inv_freq);

/* Whether it runs whole texts (the contract "encoder") instead of continuing them. */
bool config_is_encoder(const struct model_config *config);

/* Whether it encodes a whole source and then continues an answer (the contract "seq2seq"). */
bool config_is_seq2seq(const struct model_config *config);

/* "llama", "qwen2", "qwen3", "bert", "t5": static. */
const char *config_family_name(enum model_family family);
/* false: no family of that name. */
bool config_family_from_name(const char *name, enum model_family *family);

#endif
