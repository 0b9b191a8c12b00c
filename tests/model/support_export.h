/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders with exports for the tests that change them: copies of tests/golden/exports, files of
 * any text, and byte replacement. Whatever fails here fails the test.
 */
#ifndef KVERN_TESTS_SUPPORT_EXPORT_H
#define KVERN_TESTS_SUPPORT_EXPORT_H

#include "base/buffer.h"
#include "kvern.h"

/* A new folder; malloc'ed path. folder_remove() takes it and what is in it away, two levels deep,
 * and frees the path. */
char *folder_make(void);
void folder_remove(char *folder);
/* Makes FOLDER/name, with the folder above it if there is none. */
void folder_write(const char *folder, const char *name, const void *bytes, size_t n_bytes);
/* The same with text. */
void folder_write_text(const char *folder, const char *name, const char *text);
/* FOLDER/name as a copy of `file` of a golden export. */
void folder_copy(const char *folder, const char *name, const char *export, const char *file);

/* A file of tests/golden/exports. */
struct buffer golden_read(const char *export, const char *file);
/* Replaces every occurrence of `from` by as many other bytes; gives how many there were. */
size_t bytes_replace(struct buffer *bytes, const char *from, const char *to);

#endif
