/* SPDX-License-Identifier: Apache-2.0
 *
 * Why a path of a tree is not summarised, and which names and bytes say so: version control, what
 * others wrote (vendored), what machines wrote (generated, lock files), and what is no text. Pure.
 */
#ifndef KVERN_SUMMARY_SKIP_H
#define KVERN_SUMMARY_SKIP_H

#include "summary/language.h"

/* X(enumerator, short name for machines, words for a report) */
#define SKIP_REASON_LIST(X)                                                                        \
    X(SKIP_NONE, "none", "")                                                                       \
    X(SKIP_IGNORED, "ignored", "ignored by .gitignore or .kvernignore")                            \
    X(SKIP_EXCLUDED, "excluded", "left out by the options")                                        \
    X(SKIP_VERSION_CONTROL, "version_control", "version control's own files")                      \
    X(SKIP_VENDORED, "vendored", "vendored, built or installed, not written here")                 \
    X(SKIP_GENERATED, "generated", "generated or minified")                                        \
    X(SKIP_LOCK_FILE, "lock_file", "a lock file")                                                  \
    X(SKIP_BINARY, "binary", "no text")                                                            \
    X(SKIP_EMPTY, "empty", "empty")                                                                \
    X(SKIP_DATA, "data", "data, not code")                                                         \
    X(SKIP_UNKNOWN, "unknown_language", "in no language that is known")                            \
    X(SKIP_OVERSIZED, "oversized", "too large")                                                    \
    X(SKIP_LINK, "link", "a symbolic link")                                                        \
    X(SKIP_NOT_REGULAR, "not_regular", "neither a file nor a folder")                              \
    X(SKIP_SEEN, "seen", "seen already")                                                           \
    X(SKIP_UNREADABLE, "unreadable", "cannot be read")                                             \
    X(SKIP_TOO_DEEP, "too_deep", "folders nest too deep")                                          \
    X(SKIP_TOO_MANY, "too_many", "too many names in one folder")

enum skip_reason {
#define SKIP_REASON_ENUM(value, name, words) value,
    SKIP_REASON_LIST(SKIP_REASON_ENUM)
#undef SKIP_REASON_ENUM
        SKIP_REASON_COUNT
};

/* "lock_file", and "a lock file"; static. */
const char *skip_reason_name(enum skip_reason reason);
const char *skip_reason_words(enum skip_reason reason);

/* By a folder's name: SKIP_VERSION_CONTROL, SKIP_VENDORED or SKIP_NONE. */
enum skip_reason skip_by_folder(const char *name);
/* By a file's name: SKIP_VERSION_CONTROL, SKIP_LOCK_FILE, SKIP_GENERATED or SKIP_NONE. */
enum skip_reason skip_by_file(const char *name);
/* Does a file that holds or begins with these bytes hold no text: a NUL, or more than a tenth of
 * it that is not UTF-8? */
bool skip_is_binary(const char *bytes, size_t n_bytes);
/* By a whole text: SKIP_BINARY, SKIP_EMPTY, SKIP_GENERATED (the comments at its begin say so, or
 * most of it stands in very long lines) or SKIP_NONE. */
enum skip_reason skip_by_text(const char *text, size_t n_bytes, const struct language *language);

#endif
