/* SPDX-License-Identifier: Apache-2.0
 *
 * CUDA through ONNX Runtime's own provider library, which the wheel onnxruntime-gpu brings. Device
 * 0; another one is CUDA_VISIBLE_DEVICES' matter.
 */
#include "ort/provider.h"

#include "base/error.h"
#include "ops/ort_check.h"

#include <string.h>

static bool is_cuda(const char *name)
{
    return name && strcmp(name, "cuda") == 0;
}

static kvern_status require_compiled_in(const OrtApi *api, const char *provider, kvern_error *err)
{
    char **names = NULL;
    int n_names = 0;
    bool is_there = false;
    kvern_status status = ort_check(api, api->GetAvailableProviders(&names, &n_names),
                                    "ONNX Runtime lists no providers", err);

    if (status != KVERN_OK)
        return status;
    for (int i = 0; i < n_names; i++)
        is_there |= strcmp(names[i], provider) == 0;
    status = ort_check(api, api->ReleaseAvailableProviders(names, n_names),
                       "ONNX Runtime lists no providers", err);
    if (status == KVERN_OK && !is_there)
        status =
            fail(err, KVERN_UNSUPPORTED,
                 "this ONNX Runtime (%s) has no CUDA: build kvern with ONNXRUNTIME_ROOT set to "
                 "one that has, such as the library of the wheel onnxruntime-gpu",
                 OrtGetApiBase()->GetVersionString());
    return status;
}

kvern_status provider_add(const OrtApi *api, OrtSessionOptions *options, const char *name,
                          kvern_error *err)
{
    OrtCUDAProviderOptionsV2 *cuda = NULL;
    kvern_status status;

    if (!name || strcmp(name, "cpu") == 0)
        return KVERN_OK;
    if (!is_cuda(name))
        return fail(err, KVERN_INVALID, "provider is '%s', not cpu or cuda", name);
    status = require_compiled_in(api, "CUDAExecutionProvider", err);
    if (status == KVERN_OK)
        status = ort_check(api, api->CreateCUDAProviderOptions(&cuda),
                           "CUDA's options cannot be made", err);
    if (status == KVERN_OK) {
        status = ort_check(
            api, api->SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda),
            "CUDA cannot be used (it takes an NVIDIA driver, and the CUDA and cuDNN libraries that "
            "ONNX Runtime was built for)",
            err);
        if (status != KVERN_OK)
            status = err ? (err->status = KVERN_UNSUPPORTED) : KVERN_UNSUPPORTED;
    }
    if (cuda)
        api->ReleaseCUDAProviderOptions(cuda);
    return status;
}

kvern_status provider_memory(const OrtApi *api, const char *name, OrtMemoryInfo *cpu,
                             OrtMemoryInfo **memory, kvern_error *err)
{
    *memory = cpu;
    if (!is_cuda(name))
        return KVERN_OK;
    return ort_check(
        api, api->CreateMemoryInfo("Cuda", OrtDeviceAllocator, 0, OrtMemTypeDefault, memory),
        "the CUDA device has no memory", err);
}
