/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes ONNX Runtime's environment once. Its own log lines go to log_warning: the library prints
 * nothing.
 */
#include "ort/runtime.h"

#include "base/error.h"
#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>

static struct {
    pthread_once_t once;
    const OrtApi *api;
    OrtEnv *env;
    kvern_status status;
    kvern_error err;
} runtime = {.once = PTHREAD_ONCE_INIT};

static void ORT_API_CALL receive_log(void *data, OrtLoggingLevel level, const char *category,
                                     const char *id, const char *location, const char *message)
{
    (void)data;
    (void)level;
    (void)category;
    (void)id;
    (void)location;
    log_warning("ONNX Runtime: %s", message);
}

static void start(void)
{
    const OrtApiBase *base = OrtGetApiBase();

    /* DisableTelemetryEvents() below comes too late for what 1.31 writes under the home directory
     * when it starts. A program that wants it set otherwise has set it already. */
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    runtime.api = base->GetApi(KVERN_ORT_API_VERSION);
    if (!runtime.api) {
        runtime.status = fail(&runtime.err, KVERN_UNSUPPORTED,
                              "ONNX Runtime %s is too old; kvern needs 1.%d or newer",
                              base->GetVersionString(), KVERN_ORT_API_VERSION);
        return;
    }
    runtime.status =
        ort_check(runtime.api,
                  runtime.api->CreateEnvWithCustomLogger(receive_log, NULL, ORT_LOGGING_LEVEL_ERROR,
                                                         "kvern", &runtime.env),
                  "ONNX Runtime could not start", &runtime.err);
    if (runtime.status == KVERN_OK)
        runtime.status = ort_check(runtime.api, runtime.api->DisableTelemetryEvents(runtime.env),
                                   "ONNX Runtime could not start", &runtime.err);
}

kvern_status runtime_get(const OrtApi **api, OrtEnv **env, kvern_error *err)
{
    pthread_once(&runtime.once, start);
    if (runtime.status != KVERN_OK)
        return fail(err, runtime.status, "%s", runtime.err.message);
    *api = runtime.api;
    *env = runtime.env;
    return KVERN_OK;
}
