/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern's names for tensor element types, and ONNX Runtime's.
 */
#ifndef KVERN_ORT_ELEMENT_H
#define KVERN_ORT_ELEMENT_H

#include "ort/session.h"

#include <onnxruntime_c_api.h>

static inline ONNXTensorElementDataType element_type(enum session_type type)
{
    static const ONNXTensorElementDataType types[] = {
        [SESSION_F32] = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        [SESSION_F16] = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        [SESSION_U8] = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        [SESSION_I32] = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        [SESSION_I64] = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        [SESSION_BOOL] = ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
    };

    return types[type];
}

#endif
