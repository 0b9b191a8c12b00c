/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors whose memory ONNX Runtime owns, and runs that take and give them: what one run gives, the
 * next can take without a copy, wherever it lies (the CPU's memory or a device's).
 */
#ifndef KVERN_ORT_VALUE_H
#define KVERN_ORT_VALUE_H

#include "ort/session.h"

#include <stdbool.h>

struct OrtValue;

/* A tensor of these dims (a 0 among them: an empty one) in the CPU's memory, not initialised. */
kvern_status value_new(const struct session *session, enum session_type type, const int64_t *dims,
                       size_t n_dims, struct OrtValue **value, kvern_error *err);
/* NULL is fine. */
void value_release(const struct session *session, struct OrtValue *value);
/* dims [SESSION_MAX_DIMS]; fails on more. */
kvern_status value_dims(const struct session *session, const struct OrtValue *value, int64_t *dims,
                        size_t *n_dims, kvern_error *err);
/* Its bytes, which must be in the CPU's memory. */
kvern_status value_data(const struct session *session, const struct OrtValue *value, void **data,
                        kvern_error *err);

struct value_input {
    const char *name;
    const struct OrtValue *value;
};

struct value_output {
    const char *name;
    bool stays_on_device;   /* goes back as an input; else it comes to the CPU's memory */
    struct OrtValue *value; /* set by a run that succeeds; the caller's to release */
};

/* Runs once. On failure every output's value is NULL. */
kvern_status value_run(struct session *session, const struct value_input *inputs, size_t n_inputs,
                       struct value_output *outputs, size_t n_outputs, kvern_error *err);

#endif
