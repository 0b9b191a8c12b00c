/* SPDX-License-Identifier: Apache-2.0
 *
 * What this machine can do at most, and how much of it this process may use: kvern_measure_machine,
 * kvern_default_threads and the memory at hand.
 */
#ifndef KVERN_ENGINE_MACHINE_H
#define KVERN_ENGINE_MACHINE_H

#include "kvern.h"

/* Bytes this process may use: physical memory, or the cgroup's limit if that is less. */
size_t machine_memory_bytes(void);

#endif
