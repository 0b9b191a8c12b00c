/* SPDX-License-Identifier: Apache-2.0
 *
 * What an ONNX graph says about one of its inputs or outputs: name, element type, shape.
 */
#ifndef KVERN_MODEL_VALUE_INFO_H
#define KVERN_MODEL_VALUE_INFO_H

#include "model/contract_tensor.h"
#include "model/protobuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VALUE_INFO_MAX_RANK = 4 };

struct value_info {
    struct text name;                  /* a view into the graph */
    uint64_t type;                     /* TensorProto.DataType */
    int64_t dims[VALUE_INFO_MAX_RANK]; /* -1: known at run time only */
    size_t rank;
};

/* *info is zeroed but for an empty name before. false: damaged, no tensor, or of higher rank. */
bool value_info_read(struct value_info *info, struct protobuf message);

#endif
