/* SPDX-License-Identifier: Apache-2.0
 *
 * Packed weights of a node, checked once when the session opens: kernels then read without checks.
 */
#include "ops/weight.h"

#include "base/error.h"
#include "base/memory.h"

static kvern_status check_elements(const struct op_kernel *kernel, const struct op_tensor *tensor,
                                   const char *what, ONNXTensorElementDataType type, size_t n,
                                   kvern_error *err)
{
    if (!tensor->data)
        return fail(err, KVERN_FORMAT, "%s: %s is missing", kernel->definition->name, what);
    if (tensor->type != type)
        return fail(err, KVERN_FORMAT, "%s: %s has element type %d, not %d",
                    kernel->definition->name, what, (int)tensor->type, (int)type);
    if (tensor->n_elements != n)
        return fail(err, KVERN_FORMAT, "%s: %s has %zu elements, K and N need %zu",
                    kernel->definition->name, what, tensor->n_elements, n);
    return KVERN_OK;
}

kvern_status weight_open(const struct op_kernel *kernel, const OrtKernelInfo *info,
                         size_t first_input, struct packed_weight *weight, kvern_error *err)
{
    enum { MAX_SIZE = 1 << 24 };
    struct op_tensor data;
    struct op_tensor scales;
    struct op_tensor mins;
    int64_t k;
    int64_t n;
    int64_t bits;
    int64_t group;
    kvern_status status = op_attribute_int(kernel, info, "K", 1, MAX_SIZE, &k, err);

    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "N", 1, MAX_SIZE, &n, err);
    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "bits", 4, 32, &bits, err);
    if (status == KVERN_OK)
        status = op_attribute_int_or(kernel, info, "group", PACKED_GROUP, PACKED_GROUP,
                                     PACKED_WIDE_GROUP, &group, err);
    if (status == KVERN_OK)
        status = op_constant(kernel, info, first_input, &data, err);
    if (status == KVERN_OK)
        status = op_constant(kernel, info, first_input + 1, &scales, err);
    if (status == KVERN_OK)
        status = op_constant(kernel, info, first_input + 2, &mins, err);
    if (status != KVERN_OK)
        return status;
    if (bits != 4 && bits != 8 && bits != 32)
        return fail(err, KVERN_FORMAT, "%s: bits is %lld, not 4, 8 or 32", kernel->definition->name,
                    (long long)bits);
    if (group != PACKED_GROUP && (group != PACKED_WIDE_GROUP || bits != 4 || mins.data))
        return fail(err, KVERN_FORMAT,
                    "%s: group is %lld; it can be %d, or %d for 4 bit without mins",
                    kernel->definition->name, (long long)group, PACKED_GROUP, PACKED_WIDE_GROUP);
    if (bits != 32 && k % group != 0)
        return fail(err, KVERN_FORMAT, "%s: K is %lld, not a multiple of %lld",
                    kernel->definition->name, (long long)k, (long long)group);

    size_t n_tiles = packed_n_tiles((size_t)n);
    size_t n_bytes = n_tiles * packed_tile_bytes((int)bits, (size_t)k);
    size_t n_scales = n_tiles * (size_t)(k / group) * PACKED_TILE;
    if (bits == 32) {
        status = check_elements(kernel, &data, "weight", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                n_bytes / sizeof(float), err);
    } else {
        status = check_elements(kernel, &data, "weight", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
                                n_bytes, err);
        if (status == KVERN_OK)
            status = check_elements(kernel, &scales, "scales",
                                    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, n_scales, err);
        if (status == KVERN_OK && mins.data)
            status = check_elements(kernel, &mins, "mins", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
                                    n_scales, err);
    }
    if (status == KVERN_OK && (uintptr_t)data.data % 64 != 0)
        status = fail(err, KVERN_FORMAT, "%s: weight is not aligned to 64 bytes",
                      kernel->definition->name);
    *weight = (struct packed_weight){
        .bits = (int)bits,
        .n = (size_t)n,
        .k = (size_t)k,
        .group = bits == 32 ? 0 : (size_t)group,
        .data = data.data,
        .scales = bits == 32 ? NULL : scales.data,
        .mins = bits == 32 ? NULL : mins.data,
    };
    return status;
}
