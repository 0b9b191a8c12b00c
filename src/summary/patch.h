/* SPDX-License-Identifier: Apache-2.0
 *
 * Patches: the files and hunks of what `git diff`, `git format-patch` and `diff -u` write, as an
 * outline whose definitions are the files (named) with their hunks inside (without a name). Pure.
 */
#ifndef KVERN_SUMMARY_PATCH_H
#define KVERN_SUMMARY_PATCH_H

#include "summary/outline.h"

/* Does the text hold at least one file's header with a hunk, or git's own header of one? */
bool patch_is_one(const char *text, size_t n_bytes);
/* As outline_read(). A text without any file is an outline without definitions. */
kvern_status patch_read(struct outline *outline, const char *text, size_t n_bytes,
                        kvern_error *err);

#endif
