/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests that hold for every set of kernels this machine can run.
 */
#ifndef KVERN_TESTS_OPS_SUPPORT_KERNELS_H
#define KVERN_TESTS_OPS_SUPPORT_KERNELS_H

#include "test.h"

/* Runs them once for each set, a `const struct kernels *` as their *state, in a group of its name.
 * Returns how many failed: what main() returns. */
int run_with_each_set(const struct CMUnitTest *tests, size_t n_tests);

#endif
