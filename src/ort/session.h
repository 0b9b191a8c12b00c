/* SPDX-License-Identifier: Apache-2.0
 *
 * A model opened in ONNX Runtime, and one run of it over memory the caller owns. Inputs and outputs
 * are tensors laid over that memory, so nothing is copied.
 */
#ifndef KVERN_ORT_SESSION_H
#define KVERN_ORT_SESSION_H

#include "kvern.h"

#include <stdatomic.h>
#include <stdbool.h>

/* ONNX Runtime's own types; its header stays inside src/ort and src/ops. */
struct OrtApi;
struct OrtSession;
struct OrtMemoryInfo;
struct OrtRunOptions;

struct session {
    const struct OrtApi *api;
    struct OrtSession *ort;
    struct OrtMemoryInfo *cpu;
    struct OrtMemoryInfo *device; /* where outputs that go back in stay; `cpu` without a device */
    struct OrtRunOptions *run_options;
    atomic_bool is_interrupted;
    atomic_int n_interrupting; /* threads on their way to tell ONNX Runtime */
};

enum { SESSION_MAX_DIMS = 4, SESSION_MAX_TENSORS = 16 };

enum session_type { SESSION_F32, SESSION_F16, SESSION_U8, SESSION_I32, SESSION_I64, SESSION_BOOL };

/* A named tensor over the caller's memory. */
struct session_tensor {
    const char *name;
    enum session_type type;
    void *data;
    size_t n_bytes;
    int64_t dims[SESSION_MAX_DIMS];
    size_t n_dims;
};

struct session_options {
    int n_threads;        /* inside an op; the caller's is one of them */
    bool is_export;       /* somebody else's graph: let ONNX Runtime optimise it */
    const char *provider; /* "cpu" or "cuda" */
};

/* Opens <path>, our ops included. KVERN_UNSUPPORTED: the provider is not to be had; the message
 * says what is missing. */
kvern_status session_open(struct session *session, const char *path,
                          const struct session_options *options, kvern_error *err);
/* Runs once; every input and output of the graph is given. Not thread-safe. */
kvern_status session_run(struct session *session, const struct session_tensor *inputs,
                         size_t n_inputs, const struct session_tensor *outputs, size_t n_outputs,
                         kvern_error *err);
/* Ends the run in progress, or the next one, with KVERN_CANCELLED at the end of the operator it is
 * in. Any thread. */
void session_interrupt(struct session *session);
/* After a run that gave `status`: KVERN_CANCELLED if it failed and was interrupted, and the next
 * one is not. */
kvern_status session_settle(struct session *session, kvern_status status, kvern_error *err);
void session_close(struct session *session);

#endif
