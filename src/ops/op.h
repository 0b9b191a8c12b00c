/* SPDX-License-Identifier: Apache-2.0
 *
 * What every custom op shares: how a table row (struct op_definition) becomes an OrtCustomOp, and
 * the few calls an op makes on ONNX Runtime: attributes, inputs, outputs, scratch, parallel loops.
 *
 * To add an op: write <name>.c with its kernel struct, open and compute, declare its definition in
 * register.c's list, and describe it in docs/graph.md.
 */
#ifndef KVERN_OPS_OP_H
#define KVERN_OPS_OP_H

#include "kvern.h"
#include "ops/kernels/kernels.h"
#include "ops/ort_check.h"

#include <onnxruntime_c_api.h>

enum { OP_MAX_INPUTS = 9, OP_MAX_DIMS = 8 };

/* ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED in a type list: the op checks by itself. */
struct op_input {
    ONNXTensorElementDataType type;
    bool is_optional;
};

struct op_kernel {
    const struct op_definition *definition;
    const OrtApi *api;
    const struct kernels *kernels;
};

struct op_definition {
    const char *name;
    struct op_input inputs[OP_MAX_INPUTS];
    size_t n_inputs;
    size_t n_outputs;
    ONNXTensorElementDataType output_type; /* of all; UNDEFINED, so 0, stands for f32 */
    size_t kernel_bytes; /* a struct that begins with struct op_kernel, zeroed before open */
    /* Reads attributes and checks constant inputs: a bad model fails here, not in the first run. */
    kvern_status (*open)(struct op_kernel *kernel, const OrtKernelInfo *info, kvern_error *err);
    kvern_status (*compute)(const struct op_kernel *kernel, OrtKernelContext *context,
                            kvern_error *err);
    /* Frees what open made, also after it failed; NULL: nothing. */
    void (*close)(struct op_kernel *kernel);
};

extern const struct op_definition op_embedding;
extern const struct op_definition op_linear;
extern const struct op_definition op_rotary_table;
extern const struct op_definition op_paged_attention;
extern const struct op_definition op_gated_activation;
extern const struct op_definition op_rms_norm;
extern const struct op_definition op_add_rms_norm;
extern const struct op_definition op_packed_attention;
extern const struct op_definition op_add_layer_norm;
extern const struct op_definition op_activation;
extern const struct op_definition op_kv_store;
extern const struct op_definition op_cross_attention;

/* An input tensor as an op sees it. data is NULL for an absent optional input. */
struct op_tensor {
    const void *data;
    ONNXTensorElementDataType type;
    size_t n_dims;
    size_t dims[OP_MAX_DIMS];
    size_t n_elements;
};

kvern_status op_attribute_int(const struct op_kernel *kernel, const OrtKernelInfo *info,
                              const char *name, int64_t low, int64_t high, int64_t *value,
                              kvern_error *err);
/* The same for an attribute that may be absent. */
kvern_status op_attribute_int_or(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                 const char *name, int64_t absent, int64_t low, int64_t high,
                                 int64_t *value, kvern_error *err);
kvern_status op_attribute_float(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                const char *name, float *value, kvern_error *err);
kvern_status op_attribute_string(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                 const char *name, char *value, size_t capacity, kvern_error *err);
/* The same for an attribute that may be absent. */
kvern_status op_attribute_string_or(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                    const char *name, const char *absent, char *value,
                                    size_t capacity, kvern_error *err);
/* The attribute "activation": gelu, gelu_tanh, relu or silu; absent: none. */
kvern_status op_attribute_activation(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                     enum activation *activation, kvern_error *err);
/* The attributes n_heads, n_kv_heads and head_size, in the range of the attention kernels; n_heads
 * NULL: the operator has no queries. */
kvern_status op_attribute_heads(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                size_t *n_heads, size_t *n_kv_heads, size_t *head_size,
                                kvern_error *err);

/* A weight: must be an initializer (or absent, if optional), so its data lives as long as the
 * kernel. */
kvern_status op_constant(const struct op_kernel *kernel, const OrtKernelInfo *info, size_t index,
                         struct op_tensor *tensor, kvern_error *err);
kvern_status op_input(const struct op_kernel *kernel, OrtKernelContext *context, size_t index,
                      struct op_tensor *tensor, kvern_error *err);
kvern_status op_output(const struct op_kernel *kernel, OrtKernelContext *context, size_t index,
                       const size_t *dims, size_t n_dims, float **data, kvern_error *err);
kvern_status op_output_int64(const struct op_kernel *kernel, OrtKernelContext *context,
                             size_t index, const size_t *dims, size_t n_dims, int64_t **data,
                             kvern_error *err);
/* 64-byte aligned memory for this run of the node: see scratch.h. */
kvern_status op_scratch(const struct op_kernel *kernel, size_t n_bytes, void **memory,
                        kvern_error *err);
/* How many rows of `width` values make a unit that is worth another thread's while: 1 to 3 us. */
static inline size_t op_rows_of_unit(size_t width)
{
    enum { VALUES_OF_UNIT = 16384 };

    return width && width < VALUES_OF_UNIT ? VALUES_OF_UNIT / width : 1;
}

/* fn(data, 0) .. fn(data, n - 1) on ONNX Runtime's own threads; n = 1 stays on this one. */
kvern_status op_parallel_for(const struct op_kernel *kernel, OrtKernelContext *context,
                             void (*fn)(void *data, size_t i), size_t n, void *data,
                             kvern_error *err);

/* Creates the domain "ai.kvern" with all ops and adds it to session options. */
kvern_status ops_register(const OrtApi *api, OrtSessionOptions *options, kvern_error *err);

#endif
