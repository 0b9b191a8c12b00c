/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs through an IoBinding, so that outputs are made where they are wanted and nothing is copied
 * between runs.
 */
#include "ort/value.h"

#include "base/error.h"
#include "ops/ort_check.h"
#include "ort/element.h"

kvern_status value_new(const struct session *session, enum session_type type, const int64_t *dims,
                       size_t n_dims, struct OrtValue **value, kvern_error *err)
{
    const OrtApi *api = session->api;
    OrtAllocator *allocator = NULL;
    kvern_status status = ort_check(api, api->GetAllocatorWithDefaultOptions(&allocator),
                                    "ONNX Runtime has no allocator", err);

    if (status == KVERN_OK)
        status = ort_check(
            api, api->CreateTensorAsOrtValue(allocator, dims, n_dims, element_type(type), value),
            "a tensor could not be made", err);
    return status;
}

void value_release(const struct session *session, struct OrtValue *value)
{
    if (value)
        session->api->ReleaseValue(value);
}

kvern_status value_dims(const struct session *session, const struct OrtValue *value, int64_t *dims,
                        size_t *n_dims, kvern_error *err)
{
    const OrtApi *api = session->api;
    OrtTensorTypeAndShapeInfo *info = NULL;
    const char *act = "an output's shape cannot be read";
    kvern_status status = ort_check(api, api->GetTensorTypeAndShape(value, &info), act, err);

    if (status == KVERN_OK)
        status = ort_check(api, api->GetDimensionsCount(info, n_dims), act, err);
    if (status == KVERN_OK && *n_dims > SESSION_MAX_DIMS)
        status =
            fail(err, KVERN_RUNTIME, "an output has %zu dims, over %d", *n_dims, SESSION_MAX_DIMS);
    if (status == KVERN_OK)
        status = ort_check(api, api->GetDimensions(info, dims, *n_dims), act, err);
    if (info)
        api->ReleaseTensorTypeAndShapeInfo(info);
    return status;
}

kvern_status value_data(const struct session *session, const struct OrtValue *value, void **data,
                        kvern_error *err)
{
    /* the function takes no const value, but changes none */
    return ort_check(session->api, session->api->GetTensorMutableData((OrtValue *)value, data),
                     "an output's bytes cannot be read", err);
}

static kvern_status bind(struct session *session, OrtIoBinding *binding,
                         const struct value_input *inputs, size_t n_inputs,
                         const struct value_output *outputs, size_t n_outputs, kvern_error *err)
{
    const OrtApi *api = session->api;
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < n_inputs; i++)
        status = ort_check(api, api->BindInput(binding, inputs[i].name, inputs[i].value),
                           inputs[i].name, err);
    for (size_t i = 0; status == KVERN_OK && i < n_outputs; i++)
        status = ort_check(
            api,
            api->BindOutputToDevice(binding, outputs[i].name,
                                    outputs[i].stays_on_device ? session->device : session->cpu),
            outputs[i].name, err);
    return status;
}

/* The values come in the order they were bound. */
static kvern_status take_outputs(struct session *session, OrtIoBinding *binding,
                                 struct value_output *outputs, size_t n_outputs, kvern_error *err)
{
    const OrtApi *api = session->api;
    OrtAllocator *allocator = NULL;
    OrtValue **values = NULL;
    size_t n_values = 0;
    const char *act = "the model's outputs cannot be read";
    kvern_status status = ort_check(api, api->GetAllocatorWithDefaultOptions(&allocator), act, err);

    if (status == KVERN_OK)
        status = ort_check(api, api->GetBoundOutputValues(binding, allocator, &values, &n_values),
                           act, err);
    if (status != KVERN_OK)
        return status;
    for (size_t i = 0; i < n_values; i++) {
        if (n_values == n_outputs)
            outputs[i].value = values[i];
        else
            api->ReleaseValue(values[i]);
    }
    if (n_values != n_outputs)
        status = fail(err, KVERN_RUNTIME, "the model gave %zu outputs of the %zu asked for",
                      n_values, n_outputs);
    if (values)
        status = ort_check(api, api->AllocatorFree(allocator, values), act, err) == KVERN_OK
                     ? status
                     : KVERN_RUNTIME;
    return status;
}

kvern_status value_run(struct session *session, const struct value_input *inputs, size_t n_inputs,
                       struct value_output *outputs, size_t n_outputs, kvern_error *err)
{
    const OrtApi *api = session->api;
    OrtIoBinding *binding = NULL;
    kvern_status status;

    for (size_t i = 0; i < n_outputs; i++)
        outputs[i].value = NULL;
    status = ort_check(api, api->CreateIoBinding(session->ort, &binding),
                       "the model's run cannot be prepared", err);
    if (status == KVERN_OK)
        status = bind(session, binding, inputs, n_inputs, outputs, n_outputs, err);
    if (status == KVERN_OK)
        status = ort_check(api, api->RunWithBinding(session->ort, session->run_options, binding),
                           "the model's run failed", err);
    status = session_settle(session, status, err);
    if (status == KVERN_OK)
        status = take_outputs(session, binding, outputs, n_outputs, err);
    if (binding)
        api->ReleaseIoBinding(binding);
    return status;
}
