/* SPDX-License-Identifier: Apache-2.0
 *
 * The domain "ai.kvern": turns each op_definition into an OrtCustomOp, and exports
 * RegisterCustomOps, the entry point by which any ONNX Runtime program loads libkvern_ops.so.
 */
#include "ops/op.h"

#include "base/error.h"

#include <pthread.h>
#include <stdlib.h>

static const struct op_definition *const definitions[] = {
    &op_embedding,        &op_linear,     &op_rotary_table, &op_paged_attention,
    &op_gated_activation, &op_rms_norm,   &op_add_rms_norm, &op_packed_attention,
    &op_add_layer_norm,   &op_activation, &op_kv_store,     &op_cross_attention,
};

enum { N_OPS = sizeof definitions / sizeof definitions[0] };

struct custom_op {
    OrtCustomOp base; /* first: ONNX Runtime hands this pointer back */
    const struct op_definition *definition;
};

static struct custom_op custom_ops[N_OPS];

static const struct op_definition *definition_of(const OrtCustomOp *op)
{
    return ((const struct custom_op *)op)->definition;
}

static const char *get_name(const OrtCustomOp *op)
{
    return definition_of(op)->name;
}

static const char *get_provider(const OrtCustomOp *op)
{
    (void)op;
    return NULL; /* CPU */
}

static size_t get_input_count(const OrtCustomOp *op)
{
    return definition_of(op)->n_inputs;
}

static ONNXTensorElementDataType get_input_type(const OrtCustomOp *op, size_t index)
{
    return definition_of(op)->inputs[index].type;
}

static OrtCustomOpInputOutputCharacteristic get_input_kind(const OrtCustomOp *op, size_t index)
{
    return definition_of(op)->inputs[index].is_optional ? INPUT_OUTPUT_OPTIONAL
                                                        : INPUT_OUTPUT_REQUIRED;
}

static OrtMemType get_input_memory(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return OrtMemTypeDefault;
}

static size_t get_output_count(const OrtCustomOp *op)
{
    return definition_of(op)->n_outputs;
}

static ONNXTensorElementDataType get_output_type(const OrtCustomOp *op, size_t index)
{
    ONNXTensorElementDataType type = definition_of(op)->output_type;

    (void)index;
    return type ? type : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

static OrtCustomOpInputOutputCharacteristic get_output_kind(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return INPUT_OUTPUT_REQUIRED;
}

static void kernel_free(void *pointer)
{
    struct op_kernel *kernel = pointer;

    if (kernel->definition->close)
        kernel->definition->close(kernel);
    free(kernel);
}

static OrtStatus *to_ort(const OrtApi *api, kvern_status status, const kvern_error *err)
{
    return status == KVERN_OK ? NULL : api->CreateStatus(ORT_FAIL, err->message);
}

static OrtStatus *kernel_new(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                             void **out)
{
    const struct op_definition *definition = definition_of(op);
    struct op_kernel *kernel = calloc(1, definition->kernel_bytes);
    kvern_error err = {0};
    kvern_status status;

    if (!kernel)
        return api->CreateStatus(ORT_FAIL, "out of memory");
    kernel->definition = definition;
    kernel->api = api;
    kernel->kernels = kernels_get();
    if (!kernel->kernels)
        status = fail(&err, KVERN_INVALID,
                      "KVERN_ISA=%s is not an instruction set of this machine; unset it",
                      getenv("KVERN_ISA"));
    else
        status = definition->open(kernel, info, &err);
    if (status != KVERN_OK)
        kernel_free(kernel);
    else
        *out = kernel;
    return to_ort(api, status, &err);
}

static OrtStatus *kernel_compute(void *pointer, OrtKernelContext *context)
{
    const struct op_kernel *kernel = pointer;
    kvern_error err = {0};
    kvern_status status = kernel->definition->compute(kernel, context, &err);

    return to_ort(kernel->api, status, &err);
}

/* No op takes a variadic input or runs in place, but ONNX Runtime asks. */
static int one(const OrtCustomOp *op)
{
    (void)op;
    return 1;
}

static int max_version(const OrtCustomOp *op)
{
    (void)op;
    return INT32_MAX;
}

static size_t no_pairs(int **input_index, int **output_index)
{
    *input_index = NULL;
    *output_index = NULL;
    return 0;
}

static void release_pairs(int *input_index, int *output_index)
{
    (void)input_index;
    (void)output_index;
}

static void make_custom_op(struct custom_op *op, const struct op_definition *definition)
{
    op->definition = definition;
    op->base = (OrtCustomOp){
        .version = KVERN_ORT_API_VERSION,
        .GetName = get_name,
        .GetExecutionProviderType = get_provider,
        .GetInputType = get_input_type,
        .GetInputTypeCount = get_input_count,
        .GetOutputType = get_output_type,
        .GetOutputTypeCount = get_output_count,
        .KernelDestroy = kernel_free,
        .GetInputCharacteristic = get_input_kind,
        .GetOutputCharacteristic = get_output_kind,
        .GetInputMemoryType = get_input_memory,
        .GetVariadicInputMinArity = one,
        .GetVariadicInputHomogeneity = one,
        .GetVariadicOutputMinArity = one,
        .GetVariadicOutputHomogeneity = one,
        .CreateKernelV2 = kernel_new,
        .KernelComputeV2 = kernel_compute,
        .GetStartVersion = one,
        .GetEndVersion = max_version,
        .GetMayInplace = no_pairs,
        .ReleaseMayInplace = release_pairs,
        .GetAliasMap = no_pairs,
        .ReleaseAliasMap = release_pairs,
    };
}

/* One domain serves all sessions of the process and is never released: ONNX Runtime asks that it
 * outlive every session that uses it. */
static struct {
    pthread_once_t once;
    const OrtApi *api;
    OrtCustomOpDomain *domain;
    kvern_status status;
    kvern_error err;
} registry = {.once = PTHREAD_ONCE_INIT};

static void make_domain(void)
{
    const OrtApi *api = registry.api;
    kvern_error *err = &registry.err;

    registry.status =
        ort_check(api, api->CreateCustomOpDomain("ai.kvern", &registry.domain), "ai.kvern", err);
    for (size_t i = 0; registry.status == KVERN_OK && i < N_OPS; i++) {
        make_custom_op(&custom_ops[i], definitions[i]);
        registry.status = ort_check(
            api, api->CustomOpDomain_Add(registry.domain, &custom_ops[i].base), "ai.kvern", err);
    }
}

kvern_status ops_register(const OrtApi *api, OrtSessionOptions *options, kvern_error *err)
{
    registry.api = api; /* the same for every caller: there is one ONNX Runtime in a process */
    pthread_once(&registry.once, make_domain);
    if (registry.status != KVERN_OK)
        return fail(err, registry.status, "%s", registry.err.message);
    return ort_check(api, api->AddCustomOpDomain(options, registry.domain), "ai.kvern", err);
}

KVERN_API OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base);

OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base)
{
    const OrtApi *api = base->GetApi(KVERN_ORT_API_VERSION);
    kvern_error err = {0};

    if (!api)
        return NULL; /* older than 1.20: there is no API to make a status with */
    return to_ort(api, ops_register(api, options, &err), &err);
}
