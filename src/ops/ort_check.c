/* SPDX-License-Identifier: Apache-2.0
 *
 * OrtStatus -> kvern_error.
 */
#include "ops/ort_check.h"

#include "base/error.h"

kvern_status ort_check(const OrtApi *api, OrtStatus *status, const char *act, kvern_error *err)
{
    if (!status)
        return KVERN_OK;

    kvern_status result = fail(err, KVERN_RUNTIME, "%s: %s", act, api->GetErrorMessage(status));
    api->ReleaseStatus(status);
    return result;
}
