/* SPDX-License-Identifier: Apache-2.0
 *
 * Small tensors in the CPU's memory, made anew for each run: ONNX Runtime copies them to a device
 * where it runs there.
 */
#include "engine/export_tensors.h"

#include "base/error.h"

kvern_status export_add_ids(const struct session *session, const char *name, const int64_t *from,
                            int64_t fill, size_t n, struct value_input *inputs, size_t *n_inputs,
                            kvern_error *err)
{
    const int64_t dims[] = {1, (int64_t)n};
    struct OrtValue *value = NULL;
    void *data = NULL;
    kvern_status status = value_new(session, SESSION_I64, dims, 2, &value, err);

    inputs[(*n_inputs)++] = (struct value_input){.name = name, .value = value};
    if (status == KVERN_OK)
        status = value_data(session, value, &data, err);
    for (size_t i = 0; status == KVERN_OK && i < n; i++)
        ((int64_t *)data)[i] = from ? from[i] : fill;
    return status;
}

kvern_status export_add_flag(const struct session *session, const char *name, bool flag,
                             struct value_input *inputs, size_t *n_inputs, kvern_error *err)
{
    const int64_t dims[] = {1};
    struct OrtValue *value = NULL;
    void *data = NULL;
    kvern_status status = value_new(session, SESSION_BOOL, dims, 1, &value, err);

    inputs[(*n_inputs)++] = (struct value_input){.name = name, .value = value};
    if (status == KVERN_OK)
        status = value_data(session, value, &data, err);
    if (status == KVERN_OK)
        *(bool *)data = flag;
    return status;
}

void export_inputs_release(const struct session *session, const struct value_input *inputs,
                           size_t n)
{
    for (size_t i = 0; i < n; i++)
        value_release(session, (struct OrtValue *)inputs[i].value);
}

kvern_status export_kv_new(const struct session *session, enum export_type type,
                           const struct kv_layout *layout, size_t n_tokens, struct OrtValue **value,
                           kvern_error *err)
{
    const int64_t dims[] = {1, (int64_t)layout->n_kv_heads, (int64_t)n_tokens,
                            (int64_t)layout->head_size};

    return value_new(session, type == EXPORT_F16 ? SESSION_F16 : SESSION_F32, dims, 4, value, err);
}

kvern_status export_kv_check(const struct session *session, const struct OrtValue *value,
                             const char *name, const struct kv_layout *layout, size_t n_tokens,
                             kvern_error *err)
{
    int64_t dims[SESSION_MAX_DIMS] = {0};
    size_t n_dims = 0;
    kvern_status status = value_dims(session, value, dims, &n_dims, err);

    if (status == KVERN_OK &&
        (n_dims != 4 || dims[0] != 1 || dims[1] != (int64_t)layout->n_kv_heads ||
         dims[2] != (int64_t)n_tokens || dims[3] != (int64_t)layout->head_size))
        status = fail(err, KVERN_FORMAT,
                      "the graph gives %s of %zu tokens as [%lld, %lld, %lld, %lld]; by the "
                      "model's config it should be [1, %zu, %zu, %zu]",
                      name, n_tokens, (long long)dims[0], (long long)dims[1], (long long)dims[2],
                      (long long)dims[3], layout->n_kv_heads, n_tokens, layout->head_size);
    return status;
}
