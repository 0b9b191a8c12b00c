/* SPDX-License-Identifier: Apache-2.0
 *
 * How much of this machine the process may use: CPUs and memory, as the kernel and its cgroups (v1
 * and v2, each group and those it is in) say, and what of the memory a KV cache gets.
 */
#ifndef KVERN_ENGINE_RESOURCES_H
#define KVERN_ENGINE_RESOURCES_H

#include "kvern.h"

#include <stddef.h>
#include <stdint.h>

/* `root` stands before every path of the kernel's: "" but in tests. */

/* n_cpus, or the whole CPUs of the tightest quota if that is less; at least 1. A quota of 1.5 gives
 * 1: a second thread would be stopped for half of the time, and the first one wait for it. */
int32_t resources_threads(const char *root, int32_t n_cpus);
/* Bytes that can be taken without anything being swapped or killed: MemAvailable, or what is left
 * under the tightest memory limit if that is less. The page cache counts as free, since it goes
 * when memory is asked for. SIZE_MAX: the kernel does not say. */
size_t resources_free_memory(const char *root);

/* What an engine takes. */
struct memory_needs {
    size_t free_bytes;    /* resources_free_memory() */
    size_t weight_bytes;  /* mapped */
    size_t scratch_bytes; /* of a step, at most */
    size_t asked_bytes;   /* for the KV cache; 0: auto */
    size_t wanted_bytes;  /* under auto, if there is room */
    size_t block_bytes;
};

/* Bytes for the KV cache. Asked for: those, or KVERN_LIMIT if they do not fit beside weights and
 * scratch. Auto: what is wanted, but at most half of what is left; KVERN_MEMORY if that is less
 * than two blocks. */
kvern_status resources_plan_kv(const struct memory_needs *needs, size_t *kv_bytes,
                               kvern_error *err);

#endif
