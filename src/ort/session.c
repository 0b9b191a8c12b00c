/* SPDX-License-Identifier: Apache-2.0
 *
 * struct session: opened strictly (our ops check every weight's shape then), run over caller
 * memory.
 */
#include "ort/session.h"

#include "base/error.h"
#include "ops/op.h"
#include "ort/element.h"
#include "ort/provider.h"
#include "ort/runtime.h"

#include <stdio.h>

/* Threads spin between the nodes of a run, which is what makes small steps fast, and stop when the
 * run ends, so that an idle engine uses no CPU. */
static const char *const entries[][2] = {
    {"session.intra_op.allow_spinning", "1"},
    {"session.force_spinning_stop", "1"},
    {"session.disable_prepacking", "1"}, /* our weights are packed; what is not, is an export's */
};

static kvern_status set_options(const OrtApi *api, OrtSessionOptions *to,
                                const struct session_options *options, kvern_error *err)
{
    const char *act = "ONNX Runtime refused a session option";
    size_t n_entries = sizeof entries / sizeof entries[0] - (options->is_export ? 1 : 0);
    GraphOptimizationLevel level = options->is_export ? ORT_ENABLE_ALL : ORT_ENABLE_BASIC;
    kvern_status status =
        ort_check(api, api->SetIntraOpNumThreads(to, options->n_threads), act, err);

    if (status == KVERN_OK)
        status = ort_check(api, api->SetInterOpNumThreads(to, 1), act, err);
    if (status == KVERN_OK)
        status = ort_check(api, api->SetSessionExecutionMode(to, ORT_SEQUENTIAL), act, err);
    if (status == KVERN_OK)
        status = ort_check(api, api->SetSessionGraphOptimizationLevel(to, level), act, err);
    /* Every step has its own shapes: remembered patterns would only pile up memory. */
    if (status == KVERN_OK)
        status = ort_check(api, api->DisableMemPattern(to), act, err);
    for (size_t i = 0; status == KVERN_OK && i < n_entries; i++)
        status =
            ort_check(api, api->AddSessionConfigEntry(to, entries[i][0], entries[i][1]), act, err);
    if (status == KVERN_OK)
        status = ops_register(api, to, err);
    if (status == KVERN_OK)
        status = provider_add(api, to, options->provider, err);
    return status;
}

kvern_status session_open(struct session *session, const char *path,
                          const struct session_options *options, kvern_error *err)
{
    OrtSessionOptions *ort_options = NULL;
    OrtEnv *env = NULL;
    char act[300];
    kvern_status status;

    *session = (struct session){0};
    snprintf(act, sizeof act, "cannot open %s", path);
    status = runtime_get(&session->api, &env, err);
    if (status != KVERN_OK)
        return status;

    const OrtApi *api = session->api;
    status = ort_check(api, api->CreateSessionOptions(&ort_options), act, err);
    if (status == KVERN_OK)
        status = set_options(api, ort_options, options, err);
    if (status == KVERN_OK)
        status =
            ort_check(api, api->CreateSession(env, path, ort_options, &session->ort), act, err);
    if (status == KVERN_OK)
        status = ort_check(
            api, api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &session->cpu),
            act, err);
    if (status == KVERN_OK)
        status = provider_memory(api, options->provider, session->cpu, &session->device, err);
    if (status == KVERN_OK)
        status = ort_check(api, api->CreateRunOptions(&session->run_options), act, err);
    if (ort_options)
        api->ReleaseSessionOptions(ort_options);
    if (status != KVERN_OK)
        session_close(session);
    return status;
}

static kvern_status wrap(const struct session *session, const struct session_tensor *tensor,
                         OrtValue **value, kvern_error *err)
{
    return ort_check(session->api,
                     session->api->CreateTensorWithDataAsOrtValue(
                         session->cpu, tensor->data, tensor->n_bytes, tensor->dims, tensor->n_dims,
                         element_type(tensor->type), value),
                     tensor->name, err);
}

kvern_status session_run(struct session *session, const struct session_tensor *inputs,
                         size_t n_inputs, const struct session_tensor *outputs, size_t n_outputs,
                         kvern_error *err)
{
    const char *names[2][SESSION_MAX_TENSORS];
    OrtValue *values[2][SESSION_MAX_TENSORS] = {{NULL}};
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < n_inputs; i++) {
        names[0][i] = inputs[i].name;
        status = wrap(session, &inputs[i], &values[0][i], err);
    }
    for (size_t i = 0; status == KVERN_OK && i < n_outputs; i++) {
        names[1][i] = outputs[i].name;
        status = wrap(session, &outputs[i], &values[1][i], err);
    }
    if (status == KVERN_OK)
        status = ort_check(session->api,
                           session->api->Run(session->ort, session->run_options, names[0],
                                             (const OrtValue *const *)values[0], n_inputs, names[1],
                                             n_outputs, values[1]),
                           "the model's run failed", err);
    status = session_settle(session, status, err);
    for (size_t i = 0; i < SESSION_MAX_TENSORS; i++) {
        if (values[0][i])
            session->api->ReleaseValue(values[0][i]);
        if (values[1][i])
            session->api->ReleaseValue(values[1][i]);
    }
    return status;
}

void session_interrupt(struct session *session)
{
    atomic_fetch_add(&session->n_interrupting, 1);
    atomic_store(&session->is_interrupted, true);
    ort_check(session->api, session->api->RunOptionsSetTerminate(session->run_options),
              "cannot interrupt a run", NULL);
    atomic_fetch_sub(&session->n_interrupting, 1);
}

kvern_status session_settle(struct session *session, kvern_status status, kvern_error *err)
{
    if (!atomic_exchange(&session->is_interrupted, false))
        return status;
    while (atomic_load(&session->n_interrupting) > 0) /* a few instructions */
        ;
    ort_check(session->api, session->api->RunOptionsUnsetTerminate(session->run_options),
              "cannot run again", NULL);
    return status == KVERN_OK ? KVERN_OK : fail(err, KVERN_CANCELLED, "the step was interrupted");
}

void session_close(struct session *session)
{
    if (!session || !session->api)
        return;
    if (session->run_options)
        session->api->ReleaseRunOptions(session->run_options);
    if (session->ort)
        session->api->ReleaseSession(session->ort);
    if (session->device && session->device != session->cpu)
        session->api->ReleaseMemoryInfo(session->device);
    if (session->cpu)
        session->api->ReleaseMemoryInfo(session->cpu);
    *session = (struct session){0};
}
