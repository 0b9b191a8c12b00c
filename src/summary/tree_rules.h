/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the files that hold ignore rules: .gitignore and .kvernignore of a folder and, for a git
 * repository's root, info/exclude. Only regular files of at most 1 MiB are read, links are not
 * followed, and what cannot be read counts as empty. Decides nothing.
 */
#ifndef KVERN_SUMMARY_TREE_RULES_H
#define KVERN_SUMMARY_TREE_RULES_H

#include "base/buffer.h"
#include "summary/ignore.h"

/* Pushes the level of an open folder; later files win: info/exclude, .gitignore, .kvernignore.
 * `n_folder_bytes`: as in struct ignore_level. */
kvern_status tree_rules_enter(struct ignore_stack *stack, int folder, size_t n_folder_bytes,
                              bool is_repository, kvern_error *err);
/* For a walk that begins at `path`: pushes the levels of the folders from the root of the
 * repository it is in down to its parent, and writes what leads from that root to it ("src/a/", or
 * nothing). No repository, or `path` is its root: nothing happens. */
kvern_status tree_rules_enter_above(struct ignore_stack *stack, const char *path,
                                    struct buffer *relative, kvern_error *err);
/* Whether a folder is a repository's root: it has a .git. */
bool tree_rules_is_repository(int folder);

#endif
