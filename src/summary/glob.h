/* SPDX-License-Identifier: Apache-2.0
 *
 * One pattern of a .gitignore, compiled, and whether a path matches it: the rules of git's
 * wildmatch (https://git-scm.com/docs/gitignore, "PATTERN FORMAT"), as git itself applies them.
 * Work is at most the product of pattern and path, whatever the pattern. Pure.
 */
#ifndef KVERN_SUMMARY_GLOB_H
#define KVERN_SUMMARY_GLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Patterns longer than this match nothing. */
enum { GLOB_MAX_BYTES = 4096 };

struct glob_token;
struct glob_set;

/* Zeroed is valid and matches nothing. */
struct glob {
    struct glob_token *tokens; /* [n_tokens]; NULL: matches nothing */
    struct glob_set *sets;     /* [n_sets]: the [...] of the pattern */
    size_t n_tokens;
    size_t n_sets;
    size_t n_prefix; /* tokens at the front that are plain bytes */
    size_t n_suffix; /* and at the back */
};

/* `is_path`: double stars reach over slashes, and the text is a path; else it is a name without
 * slashes. A pattern that can match nothing (an open bracket, an unknown [:class:], a backslash at
 * the end, too long) is a glob that does so. false: out of memory. */
bool glob_compile(struct glob *glob, const char *pattern, size_t n_bytes, bool is_path);
bool glob_matches(const struct glob *glob, const char *text, size_t n_bytes);
void glob_clear(struct glob *glob);

#endif
