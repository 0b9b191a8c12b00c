/* SPDX-License-Identifier: Apache-2.0
 *
 * Walks source trees: gives every file that is worth a summary, with its text, and everything that
 * was left out, with the reason. The order is that of the names' bytes in each folder, whatever the
 * file system gives. Memory is bounded by the names of the folders that are open (at most
 * TREE_MAX_DEPTH of them), one file's text, and a few bytes for each folder seen.
 *
 * Symbolic links inside are never followed: what they lead to in the tree is met by its own name,
 * and what is outside was not asked for. The tree may change, and names may be anything the system
 * allows: files are opened from their folders' descriptors, so no path is ever too long.
 */
#ifndef KVERN_SUMMARY_TREE_H
#define KVERN_SUMMARY_TREE_H

#include "kvern.h"
#include "summary/language.h"
#include "summary/skip.h"

enum { TREE_MAX_DEPTH = 200, TREE_DEFAULT_FILE_BYTES = 1 << 20 };

/* Zeroed is the default. Globs are patterns as in .gitignore, counted from each PATH. Everything is
 * borrowed until tree_close(). */
struct tree_options {
    const char *const *include; /* [n_include]; files must match one if there are any */
    size_t n_include;
    const char *const *exclude; /* [n_exclude]; files and folders that match are left out */
    size_t n_exclude;
    const struct language *const *languages; /* [n_languages]; none: all but data */
    size_t n_languages;
    size_t max_file_bytes; /* 0: TREE_DEFAULT_FILE_BYTES */
    bool keeps_ignored;    /* rules of .gitignore and .kvernignore files are not read */
    bool keeps_vendored;
    bool keeps_generated; /* and lock files */
    bool has_no_texts;    /* no file is opened: a quick walk that guesses. Entries have n_bytes and
                             no text; binary, generated and empty files are given, scripts without
                             an extension are not */
};

/* All pointers are valid until the next call. */
struct tree_entry {
    const char *path; /* PATH and what leads on from it; bytes without a NUL; NULL: the end */
    size_t n_path_bytes;
    size_t path_index;               /* of the PATH it was found under */
    enum skip_reason skip;           /* SKIP_NONE: a file to summarise */
    bool is_folder;                  /* all that is in it is left out with it */
    const char *detail;              /* of a skip: what the system said, how large it is; or "" */
    const struct language *language; /* of a file to summarise, and where known of others */
    const char *text;                /* [n_bytes], NUL-terminated; of a file to summarise, NULL with
                                        has_no_texts. UTF-8 but for a few bytes of other encodings at most */
    size_t n_bytes;
};

struct tree;

/* PATHs are files or folders; a PATH that is a link is followed. A file named as a PATH is given
 * whatever ignore rules, its language or its comments say, unless it is no text, too large or
 * cannot be read. A folder named as a PATH is walked whatever its name. What is under two PATHs is
 * given once. KVERN_NOT_FOUND: a PATH is not there. */
kvern_status tree_open(struct tree **out, const char *const *paths, size_t n_paths,
                       const struct tree_options *options, kvern_error *err);
/* The next file or skip. Only memory makes it fail: what cannot be read is a skip. */
kvern_status tree_next(struct tree *tree, struct tree_entry *entry, kvern_error *err);
/* NULL is fine. */
void tree_close(struct tree *tree);

#endif
