/* SPDX-License-Identifier: Apache-2.0
 *
 * The calls an op makes on ONNX Runtime. Every failure names the op's own name.
 */
#include "ops/op.h"

#include "base/error.h"
#include "ops/scratch.h"

#include <stdio.h>
#include <string.h>

kvern_status op_attribute_int(const struct op_kernel *kernel, const OrtKernelInfo *info,
                              const char *name, int64_t low, int64_t high, int64_t *value,
                              kvern_error *err)
{
    kvern_status status =
        ort_check(kernel->api, kernel->api->KernelInfoGetAttribute_int64(info, name, value),
                  kernel->definition->name, err);

    if (status == KVERN_OK && (*value < low || *value > high))
        status = fail(err, KVERN_FORMAT, "%s: attribute %s is %lld, outside %lld to %lld",
                      kernel->definition->name, name, (long long)*value, (long long)low,
                      (long long)high);
    return status;
}

kvern_status op_attribute_int_or(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                 const char *name, int64_t absent, int64_t low, int64_t high,
                                 int64_t *value, kvern_error *err)
{
    OrtStatus *status = kernel->api->KernelInfoGetAttribute_int64(info, name, value);

    if (!status)
        return op_attribute_int(kernel, info, name, low, high, value, err);
    kernel->api->ReleaseStatus(status);
    *value = absent;
    return KVERN_OK;
}

kvern_status op_attribute_float(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                const char *name, float *value, kvern_error *err)
{
    return ort_check(kernel->api, kernel->api->KernelInfoGetAttribute_float(info, name, value),
                     kernel->definition->name, err);
}

static kvern_status read_string(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                const char *name, size_t n_bytes, char *value, size_t capacity,
                                kvern_error *err)
{
    if (n_bytes > capacity)
        return fail(err, KVERN_FORMAT, "%s: attribute %s has %zu bytes, it can have %zu",
                    kernel->definition->name, name, n_bytes - 1, capacity - 1);
    return ort_check(kernel->api,
                     kernel->api->KernelInfoGetAttribute_string(info, name, value, &n_bytes),
                     kernel->definition->name, err);
}

kvern_status op_attribute_string(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                 const char *name, char *value, size_t capacity, kvern_error *err)
{
    size_t n_bytes = 0; /* with the NUL */
    kvern_status status = ort_check(
        kernel->api, kernel->api->KernelInfoGetAttribute_string(info, name, NULL, &n_bytes),
        kernel->definition->name, err);

    if (status == KVERN_OK)
        status = read_string(kernel, info, name, n_bytes, value, capacity, err);
    return status;
}

kvern_status op_attribute_string_or(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                    const char *name, const char *absent, char *value,
                                    size_t capacity, kvern_error *err)
{
    size_t n_bytes = 0;
    OrtStatus *status = kernel->api->KernelInfoGetAttribute_string(info, name, NULL, &n_bytes);

    if (!status)
        return read_string(kernel, info, name, n_bytes, value, capacity, err);
    kernel->api->ReleaseStatus(status);
    snprintf(value, capacity, "%s", absent);
    return KVERN_OK;
}

kvern_status op_attribute_activation(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                     enum activation *activation, kvern_error *err)
{
    static const char *const names[] = {
        [ACTIVATION_NONE] = "",
        [ACTIVATION_GELU] = "gelu",
        [ACTIVATION_GELU_TANH] = "gelu_tanh",
        [ACTIVATION_RELU] = "relu",
        [ACTIVATION_SILU] = "silu",
    };
    char name[16] = "";
    kvern_status status =
        op_attribute_string_or(kernel, info, "activation", "", name, sizeof name, err);

    if (status != KVERN_OK)
        return status;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *activation = (enum activation)i;
            return KVERN_OK;
        }
    }
    return fail(err, KVERN_FORMAT, "%s: activation is '%s', not gelu, gelu_tanh, relu or silu",
                kernel->definition->name, name);
}

kvern_status op_attribute_heads(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                size_t *n_heads, size_t *n_kv_heads, size_t *head_size,
                                kvern_error *err)
{
    int64_t heads = 1024;
    int64_t kv_heads = 0;
    int64_t size = 0;
    kvern_status status = KVERN_OK;

    if (n_heads)
        status = op_attribute_int(kernel, info, "n_heads", 1, 1024, &heads, err);
    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "n_kv_heads", 1, heads, &kv_heads, err);
    if (status == KVERN_OK)
        status = op_attribute_int(kernel, info, "head_size", 8, 256, &size, err);
    if (status != KVERN_OK)
        return status;
    if (!n_heads)
        heads = kv_heads;
    if (heads % kv_heads != 0 || size % 8 != 0)
        return fail(err, KVERN_UNSUPPORTED,
                    "%s: %lld heads, %lld kv heads of size %lld: heads must be a multiple of kv "
                    "heads, the size a multiple of 8",
                    kernel->definition->name, (long long)heads, (long long)kv_heads,
                    (long long)size);
    if (n_heads)
        *n_heads = (size_t)heads;
    *n_kv_heads = (size_t)kv_heads;
    *head_size = (size_t)size;
    return KVERN_OK;
}

static kvern_status describe(const struct op_kernel *kernel, const OrtValue *value,
                             struct op_tensor *tensor, kvern_error *err)
{
    const OrtApi *api = kernel->api;
    const char *name = kernel->definition->name;
    OrtTensorTypeAndShapeInfo *shape = NULL;
    int64_t dims[OP_MAX_DIMS];
    void *data = NULL;
    kvern_status status = ort_check(api, api->GetTensorTypeAndShape(value, &shape), name, err);

    if (status != KVERN_OK)
        return status;
    status = ort_check(api, api->GetTensorElementType(shape, &tensor->type), name, err);
    if (status == KVERN_OK)
        status = ort_check(api, api->GetDimensionsCount(shape, &tensor->n_dims), name, err);
    if (status == KVERN_OK && tensor->n_dims > OP_MAX_DIMS)
        status = fail(err, KVERN_FORMAT, "%s: an input has %zu dimensions", name, tensor->n_dims);
    if (status == KVERN_OK)
        status = ort_check(api, api->GetDimensions(shape, dims, tensor->n_dims), name, err);
    if (status == KVERN_OK)
        status = ort_check(api, api->GetTensorMutableData((OrtValue *)(uintptr_t)value, &data),
                           name, err);
    if (status == KVERN_OK) {
        tensor->n_elements = 1;
        for (size_t i = 0; i < tensor->n_dims; i++) {
            tensor->dims[i] = (size_t)dims[i];
            tensor->n_elements *= tensor->dims[i];
        }
        tensor->data = data;
    }
    api->ReleaseTensorTypeAndShapeInfo(shape);
    return status;
}

/* An optional input that is left out has an empty name. */
static kvern_status has_no_name(const struct op_kernel *kernel, const OrtKernelInfo *info,
                                size_t index, bool *is_absent, kvern_error *err)
{
    size_t n_bytes = 0; /* with the NUL */
    kvern_status status =
        ort_check(kernel->api, kernel->api->KernelInfo_GetInputName(info, index, NULL, &n_bytes),
                  kernel->definition->name, err);

    *is_absent = n_bytes <= 1;
    return status;
}

kvern_status op_constant(const struct op_kernel *kernel, const OrtKernelInfo *info, size_t index,
                         struct op_tensor *tensor, kvern_error *err)
{
    const OrtApi *api = kernel->api;
    const char *name = kernel->definition->name;
    const OrtValue *value = NULL;
    size_t n_inputs = 0;
    int is_constant = 0;
    kvern_status status = ort_check(api, api->KernelInfo_GetInputCount(info, &n_inputs), name, err);

    *tensor = (struct op_tensor){0};
    if (status == KVERN_OK && index < n_inputs)
        status = ort_check(
            api, api->KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value), name,
            err);
    if (status != KVERN_OK)
        return status;
    if (is_constant && value)
        return describe(kernel, value, tensor, err);
    bool is_absent = true;
    if (index < n_inputs)
        status = has_no_name(kernel, info, index, &is_absent, err);
    if (status == KVERN_OK && !(is_absent && kernel->definition->inputs[index].is_optional))
        status = fail(err, KVERN_FORMAT, "%s: input %zu is not an initializer", name, index);
    return status;
}

kvern_status op_input(const struct op_kernel *kernel, OrtKernelContext *context, size_t index,
                      struct op_tensor *tensor, kvern_error *err)
{
    const OrtApi *api = kernel->api;
    const OrtValue *value = NULL;
    kvern_status status = ort_check(api, api->KernelContext_GetInput(context, index, &value),
                                    kernel->definition->name, err);

    *tensor = (struct op_tensor){0};
    if (status != KVERN_OK || !value)
        return status;
    return describe(kernel, value, tensor, err);
}

static kvern_status make_output(const struct op_kernel *kernel, OrtKernelContext *context,
                                size_t index, const size_t *dims, size_t n_dims, void **memory,
                                kvern_error *err)
{
    const OrtApi *api = kernel->api;
    int64_t shape[OP_MAX_DIMS];
    OrtValue *value = NULL;

    for (size_t i = 0; i < n_dims; i++)
        shape[i] = (int64_t)dims[i];
    kvern_status status =
        ort_check(api, api->KernelContext_GetOutput(context, index, shape, n_dims, &value),
                  kernel->definition->name, err);
    if (status == KVERN_OK)
        status =
            ort_check(api, api->GetTensorMutableData(value, memory), kernel->definition->name, err);
    return status;
}

kvern_status op_output(const struct op_kernel *kernel, OrtKernelContext *context, size_t index,
                       const size_t *dims, size_t n_dims, float **data, kvern_error *err)
{
    void *memory = NULL;
    kvern_status status = make_output(kernel, context, index, dims, n_dims, &memory, err);

    *data = memory;
    return status;
}

kvern_status op_output_int64(const struct op_kernel *kernel, OrtKernelContext *context,
                             size_t index, const size_t *dims, size_t n_dims, int64_t **data,
                             kvern_error *err)
{
    void *memory = NULL;
    kvern_status status = make_output(kernel, context, index, dims, n_dims, &memory, err);

    *data = memory;
    return status;
}

kvern_status op_scratch(const struct op_kernel *kernel, size_t n_bytes, void **memory,
                        kvern_error *err)
{
    *memory = scratch_get(n_bytes);
    if (!*memory)
        return fail(err, KVERN_MEMORY, "%s: out of memory for %zu bytes", kernel->definition->name,
                    n_bytes);
    return KVERN_OK;
}

kvern_status op_parallel_for(const struct op_kernel *kernel, OrtKernelContext *context,
                             void (*fn)(void *data, size_t i), size_t n, void *data,
                             kvern_error *err)
{
    if (n == 1) {
        fn(data, 0);
        return KVERN_OK;
    }
    if (n == 0)
        return KVERN_OK;
    return ort_check(kernel->api, kernel->api->KernelContext_ParallelFor(context, fn, n, n, data),
                     kernel->definition->name, err);
}
