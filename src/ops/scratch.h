/* SPDX-License-Identifier: Apache-2.0
 *
 * Working memory of an op: one buffer a thread, grown to the largest need seen and freed with its
 * thread. All ops of a run share it, so it stays warm in the cache; ONNX Runtime's own scratch call
 * is no choice, for what it gives is never freed on a CPU.
 */
#ifndef KVERN_OPS_SCRATCH_H
#define KVERN_OPS_SCRATCH_H

#include <stddef.h>

/* n_bytes aligned to 64, not zeroed; NULL: no memory. Valid until this thread asks again. */
void *scratch_get(size_t n_bytes);

#endif
