/* SPDX-License-Identifier: Apache-2.0
 *
 * 16 bytes that tell one model from another: what was computed with one must not be taken for the
 * other's. Guards against mistakes, not against forgers.
 */
#ifndef KVERN_MODEL_FINGERPRINT_H
#define KVERN_MODEL_FINGERPRINT_H

#include "model/model.h"

#include <stdint.h>

enum { FINGERPRINT_BYTES = 16 };

/* Of a converted model: its files' hashes. Of an export, which has none: its graphs, and 256 places
 * of each file that their tensors lie in, whatever it is called. Neither the model's name nor
 * its folder counts. */
kvern_status fingerprint_make(const kvern_model *model, uint8_t bytes[FINGERPRINT_BYTES],
                              kvern_error *err);

#endif
