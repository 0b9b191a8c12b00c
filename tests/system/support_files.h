/* SPDX-License-Identifier: Apache-2.0
 *
 * Files for the tests that damage them: whole reads and writes, copies, listings, a seeded
 * mutation, a small complete GGUF model, and the rule every error message keeps.
 */
#ifndef KVERN_TESTS_SUPPORT_FILES_H
#define KVERN_TESTS_SUPPORT_FILES_H

#include "base/buffer.h"
#include "kvern.h"

#include <stddef.h>
#include <stdint.h>

/* A new directory in memory where the system has one, since a thousand conversions sync their
 * files; malloc'ed path. */
char *make_directory(void);
/* These fail the test if the system refuses. */
struct buffer read_whole(const char *path);
void write_whole(const char *path, const void *bytes, size_t n_bytes);
void copy_whole(const char *from, const char *to);
/* The names in a directory, sorted, each with a newline; malloc'ed. */
char *list_directory(const char *path);
/* Removes two levels of directories and makes the first one again, empty. */
void empty_directory(const char *path);

/* A new value of *state; the same seed gives the same values everywhere. */
uint64_t next_random(uint64_t *state);
/* Mutation number `i` of `whole`: every fourth cuts it short, the others flip 1 to 4 bits, half of
 * them in the first 2 KiB, where headers are. */
struct buffer mutate(const struct buffer *whole, int i, uint64_t *state);

/* Llama, 1 layer, hidden 32, 2 heads of 16, a byte-level vocabulary of 64: runs in a moment. */
void write_small_gguf(const char *path);

/* One sentence: a status, no newline, not empty, and somewhere in it `name`. */
void check_message(kvern_status status, const kvern_error *err, const char *name);

#endif
