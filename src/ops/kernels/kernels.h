/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel table: every function that is compiled once per instruction set. Chosen at the first
 * call by CPUID; KVERN_ISA=avx512bf16|avx512|avx2|portable
 * forces one the machine has.
 *
 * Promise 1 rests on this table: within one instruction set, the value of an output row depends on
 * that row's inputs only, by a reduction whose order is fixed by k (or by key position), never by
 * how many rows, columns or threads a call covers. Two kernels of one set that compute the same
 * thing for different row counts add in the same order and round at the same points.
 *
 * To add an instruction set: write <part>_<isa>.c for the three parts below, add a row to the list
 * in kernels.c and its compile flags to CMakeLists.txt; tests/ops run every set the machine has.
 */
#ifndef KVERN_OPS_KERNELS_KERNELS_H
#define KVERN_OPS_KERNELS_KERNELS_H

#include "ops/packed.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Activations of Linear as int8, symmetric, one scale for each group of the weights. One scale per
 * row was measured too: docs/quantisation.md. */
struct quantized_rows {
    int8_t *q;       /* [rows, k], 64-byte aligned */
    float *scales;   /* [rows, k / group] */
    int32_t *starts; /* [rows, k / group]: -zero_point * sum of q over the group */
    float *sums;     /* [rows, k / group]: scale * sum of q over the group (for mins) */
};

/* ---- Linear: linear_<isa>.c ---- */
struct linear_kernels {
    /* Quantises rows [row_begin, row_end) of x [rows, k] in groups of 32 or 64 that divide k. */
    void (*quantize_rows)(const float *x, size_t row_begin, size_t row_end, size_t k, size_t group,
                          int32_t zero_point, struct quantized_rows *out);
    /* y[row, column] for rows [row_begin, row_end) and columns [16 * strip_begin, 16 * strip_end),
     * clipped to w->n; y is [rows, w->n]. Adds w->bias. bits 4 or 8; x in groups of w->group. */
    void (*multiply_quantized)(const struct packed_weight *w, const struct quantized_rows *x,
                               size_t row_begin, size_t row_end, size_t strip_begin,
                               size_t strip_end, float *y);
    /* The same on f32 x [rows, k], for bits 32. */
    void (*multiply_f32)(const struct packed_weight *w, const float *x, size_t row_begin,
                         size_t row_end, size_t strip_begin, size_t strip_end, float *y);
    /* Column n of W (all k) as f32: a row of the embedding table. out [k]. */
    void (*unpack_column)(const struct packed_weight *w, size_t n, float *out);
};

/* ---- attention: attention_<isa>.c ---- */

enum {
    KV_BLOCK = 16,    /* tokens of a KV block */
    BIAS_MARGIN = 15, /* of a position_bias: a vector less one */
};

enum kv_type { KV_F16, KV_F32, KV_INT8 };

/* What is added to a score for the distance from query to key (T5), in units of log2. Row h of the
 * table is head h's for the distances from -(reach + BIAS_MARGIN) to reach + BIAS_MARGIN; past
 * reach all are what they are at reach, so that any vector of keys finds its own by one load. */
struct position_bias {
    const float *table; /* [n_heads, 2 (reach + BIAS_MARGIN) + 1]; NULL: nothing is added */
    size_t reach;
};

struct attention_shape {
    size_t n_heads;
    size_t n_kv_heads; /* divides n_heads */
    size_t head_size;  /* a multiple of 8, at most 256 */
    enum kv_type kv_type;
    float scale;               /* of q.k, usually 1 / sqrt(head_size) */
    size_t window;             /* a query sees this many last positions, itself included; 0: all */
    float soft_cap;            /* s = cap * tanh(s / cap); 0: off */
    bool is_cross;             /* all rows of a call stand at its first position */
    struct position_bias bias; /* comes after scale and soft_cap */
};

/* Of attention among the tokens of whole texts: qkv rows are [(H + 2 Hkv) D], out rows [H D]. */
struct packed_attention_shape {
    size_t n_heads;
    size_t n_kv_heads; /* divides n_heads */
    size_t head_size;  /* a multiple of 8, at most 256 */
    float scale;       /* of q.k */
    bool is_f32;       /* no product is made in bf16 */
    struct position_bias bias;
};

/* The KV pool of one layer: [n_blocks, 2, n_kv_heads] parts, K parts before V parts. Of f16 or f32,
 * the K part of a (block, head) is [head_size][16] (one vector holds 16 keys), the V part is
 * [16][head_size]. Of int8, two steps of a product lie side by side: K is [head_size / 2][16][2], V
 * is [16 / 2][head_size][2], and each is followed by f32 [16], the scale of each token's vector. */

/* Bytes of the K or of the V part of one block and head. */
static inline size_t kv_part_bytes(enum kv_type type, size_t head_size)
{
    if (type == KV_INT8)
        return KV_BLOCK * (head_size + sizeof(float));
    return KV_BLOCK * head_size * (type == KV_F16 ? sizeof(uint16_t) : sizeof(float));
}

struct attention_kernels {
    /* In place on qkv [rows, (H + 2 Hkv) D]: RMS norm of each q and k head where weights [D] are
     * given (Qwen3), then, if rope is not NULL, rotary embedding (halves, as in Llama) of q and k
     * with rope [rows, D]: D/2 cosines then D/2 sines; then writes k and v of each row into its
     * slot. Rows [row_begin, row_end) only; row r goes to position slot_block[r], slot_offset[r] of
     * the pool. */
    void (*append)(const struct attention_shape *shape, float *qkv, const float *rope,
                   const float *q_norm, const float *k_norm, float norm_epsilon,
                   const int32_t *slot_block, const int32_t *slot_offset, size_t row_begin,
                   size_t row_end, void *pool);
    /* The last of these alone: row r of k and v [rows, Hkv D], row_stride floats after the one
     * before. */
    void (*store)(const struct attention_shape *shape, const float *k, const float *v,
                  size_t row_stride, const int32_t *slot_block, const int32_t *slot_offset,
                  size_t row_begin, size_t row_end, void *pool);
    /* Queries rows [0, n_rows) of one sequence at positions first_position + row (is_cross: all at
     * first_position), one kv head (its n_heads / n_kv_heads query heads): softmax(q.k) v over the
     * positions each may see. q points at the first row, with q_stride floats between rows; out
     * likewise. `blocks` maps
     * position / 16 to a block of the pool. Keys are taken in steps of 16 by position (online
     * softmax), so the result of a row does not depend on n_rows. scratch has
     * attention_scratch_bytes. */
    void (*attend)(const struct attention_shape *shape, const float *q, size_t q_stride,
                   size_t n_rows, size_t first_position, size_t kv_head, const void *pool,
                   const int32_t *blocks, void *scratch, float *out, size_t out_stride);
    size_t (*attention_scratch_bytes)(const struct attention_shape *shape);
    size_t rows_per_call; /* attend takes at most this many rows at once */
    /* Rows [row_begin, row_end) of one text of n_tokens, the query heads of one kv head:
     * softmax(q.k) v over all tokens of the text. qkv and out point at the text's first row. A
     * row's result depends on the text and not on how its rows are cut. scratch has
     * packed_scratch_bytes. */
    void (*attend_packed)(const struct packed_attention_shape *shape, const float *qkv,
                          size_t n_tokens, size_t row_begin, size_t row_end, size_t kv_head,
                          void *scratch, float *out);
    size_t (*packed_scratch_bytes)(const struct packed_attention_shape *shape);
    size_t packed_rows_per_call; /* attend_packed likewise */
};

/* ---- the rest: rows_<isa>.c ---- */

enum activation {
    ACTIVATION_NONE,
    ACTIVATION_GELU,      /* x * Phi(x), within 1e-6 */
    ACTIVATION_GELU_TANH, /* its tanh form */
    ACTIVATION_RELU,
    ACTIVATION_SILU,
};

struct row_kernels {
    /* out[i] = act(gate[i]) * up[i] on rows of [2 * width] (gate first) -> [width]. */
    void (*gated_silu)(const float *gate_up, size_t row_begin, size_t row_end, size_t width,
                       float *out);
    void (*gated_gelu)(const float *gate_up, size_t row_begin, size_t row_end, size_t width,
                       float *out); /* the tanh form */
    /* out = x / sqrt(mean(x^2) + epsilon) * weight, rows of [width]. */
    void (*rms_norm)(const float *x, const float *weight, float epsilon, size_t row_begin,
                     size_t row_end, size_t width, float *out);
    /* sum = x + skip (may alias either); out = rms_norm(sum). */
    void (*add_rms_norm)(const float *x, const float *skip, const float *weight, float epsilon,
                         size_t row_begin, size_t row_end, size_t width, float *sum, float *out);
    /* s = x + skip, or x + skip * skip_scale [width] where that is not NULL;
     * out = (s - mean(s)) / sqrt(variance(s) + epsilon) * gamma + beta; rows of [width]. */
    void (*add_layer_norm)(const float *x, const float *skip, const float *skip_scale,
                           const float *gamma, const float *beta, float epsilon, size_t row_begin,
                           size_t row_end, size_t width, float *out);
    /* out = act(x) for n_rows rows of `width`, each `stride` after the last; out may be x. */
    void (*activate)(enum activation activation, const float *x, size_t n_rows, size_t width,
                     size_t stride, float *out);
};

/* ---- the machine's limits: peak_<isa>.c ---- */
struct peak_kernels {
    /* Run n_rounds of register-only work; return the operations done (an add and a multiply are
     * two). */
    double (*int8_operations)(size_t n_rounds);
    double (*f32_operations)(size_t n_rounds);
};

struct kernels {
    const char *name; /* "avx512bf16", "avx512", "avx2", "portable" */
    const struct linear_kernels *linear;
    const struct attention_kernels *attention;
    const struct row_kernels *row;
    const struct peak_kernels *peak;
};

/* The set in use, or NULL if KVERN_ISA names one this machine does not have. Thread-safe. */
const struct kernels *kernels_get(void);
/* All sets this machine can run, best first; for tests. */
size_t kernels_list(const struct kernels *sets[], size_t capacity);

extern const struct linear_kernels linear_portable;
extern const struct attention_kernels attention_portable;
extern const struct row_kernels row_portable;
extern const struct peak_kernels peak_portable;
#if defined(__x86_64__)
extern const struct linear_kernels linear_avx2, linear_avx512;
extern const struct attention_kernels attention_avx2, attention_avx512, attention_avx512bf16;
extern const struct row_kernels row_avx2, row_avx512;
extern const struct peak_kernels peak_avx2, peak_avx512;
#endif

#endif
