/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of token ids, a request a line, in groups that a line "run" ends: what bench/compare hands
 * to kvern's programs. A file that cannot be read ends the program.
 */
#ifndef KVERN_BENCH_GROUPS_H
#define KVERN_BENCH_GROUPS_H

#include <stddef.h>
#include <stdint.h>

struct id_line {
    int32_t *ids; /* [n], owned */
    size_t n;
};

/* Calls run() with the lines [n] of each group. */
void groups_run(const char *path, void (*run)(const struct id_line *lines, size_t n, void *data),
                void *data);

#endif
