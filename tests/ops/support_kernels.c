/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups of tests, one for each set of kernels.
 */
#include "support_kernels.h"

#include "base/memory.h"
#include "ops/kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SETS = 8 };

int run_with_each_set(const struct CMUnitTest *tests, size_t n_tests)
{
    const struct kernels *sets[MAX_SETS];
    size_t n_sets = kernels_list(sets, MAX_SETS);
    struct CMUnitTest *group = new_or_abort(n_tests * sizeof *group);
    int n_failed = 0;

    for (size_t i = 0; i < n_sets; i++) {
        memcpy(group, tests, n_tests * sizeof *group);
        for (size_t j = 0; j < n_tests; j++)
            group[j].initial_state = (void *)(uintptr_t)sets[i];
        /* what cmocka_run_group_tests_name() calls, which counts an array itself */
        n_failed += _cmocka_run_group_tests(sets[i]->name, group, n_tests, NULL, NULL);
    }
    free(group);
    return n_failed;
}
