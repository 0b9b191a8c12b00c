/* SPDX-License-Identifier: Apache-2.0
 *
 * The one place that turns an OrtStatus into a kvern_error.
 */
#ifndef KVERN_OPS_ORT_CHECK_H
#define KVERN_OPS_ORT_CHECK_H

#include "kvern.h"

#include <onnxruntime_c_api.h>

/* The oldest C API kvern runs on: ONNX Runtime 1.20. */
enum { KVERN_ORT_API_VERSION = 20 };

/* Releases `status`; KVERN_OK if it is NULL, else KVERN_RUNTIME with "<act>: <ORT's message>". */
kvern_status ort_check(const OrtApi *api, OrtStatus *status, const char *act, kvern_error *err);

#endif
