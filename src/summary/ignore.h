/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of .gitignore files (https://git-scm.com/docs/gitignore): what one file's lines say of
 * a path, and what the files of nested folders say together. Pure: whoever walks the tree reads the
 * files, and does not enter a folder that is excluded, so that what is in it stays excluded.
 */
#ifndef KVERN_SUMMARY_IGNORE_H
#define KVERN_SUMMARY_IGNORE_H

#include "kvern.h"
#include "summary/glob.h"

struct ignore_pattern {
    struct glob glob;
    bool is_negated;
    bool is_for_folders; /* it ended with a slash */
    bool is_path;        /* it has a slash elsewhere: counts from the folder of its file */
};

/* Zeroed is valid and empty. */
struct ignore_rules {
    struct ignore_pattern *patterns; /* [n_patterns], the last that matches decides */
    size_t n_patterns;
    size_t capacity;
};

enum ignore_verdict { IGNORE_UNDECIDED, IGNORE_EXCLUDED, IGNORE_INCLUDED };

/* Adds the lines of a file's text, after those that are there. On failure those read stay. */
kvern_status ignore_rules_add(struct ignore_rules *rules, const char *text, size_t n_bytes,
                              kvern_error *err);
/* Adds one pattern: a line without its newline, trailing spaces and '#' included as they are. */
kvern_status ignore_rules_add_pattern(struct ignore_rules *rules, const char *pattern,
                                      size_t n_bytes, kvern_error *err);
/* What the rules say of this very path, counted from the folder of their file: "a/b.c". */
enum ignore_verdict ignore_rules_match(const struct ignore_rules *rules, const char *path,
                                       size_t n_bytes, bool is_folder);
/* Is the path or one of the folders it is in excluded? What options such as --include ask. */
bool ignore_rules_cover(const struct ignore_rules *rules, const char *path, size_t n_bytes);
void ignore_rules_clear(struct ignore_rules *rules);

/* The rules of one folder on the way to where a walk is. */
struct ignore_level {
    struct ignore_rules rules;
    size_t n_folder_bytes; /* of the paths asked about, what leads into the folder: 2 of "a/b" */
    bool is_fence;         /* a repository's root: levels above say nothing below it */
};

/* Zeroed is valid and empty. */
struct ignore_stack {
    struct ignore_level *levels; /* [n_levels], outermost first */
    size_t n_levels;
    size_t capacity;
};

/* Enters a folder. On success the stack owns what `level` holds. */
kvern_status ignore_stack_push(struct ignore_stack *stack, const struct ignore_level *level,
                               kvern_error *err);
/* Leaves the folder entered last. */
void ignore_stack_pop(struct ignore_stack *stack);
/* `path` counts from the folder of the first level; the innermost level that decides counts. */
bool ignore_stack_excludes(const struct ignore_stack *stack, const char *path, size_t n_bytes,
                           bool is_folder);
void ignore_stack_clear(struct ignore_stack *stack);

#endif
