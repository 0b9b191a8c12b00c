/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables of names, and the marks by which generators own up.
 */
#include "summary/skip.h"

#include "base/utf8.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

static const char *const version_control[] = {".git", ".hg",       ".svn", ".bzr",
                                              "CVS",  "_darcs",    ".jj",  ".pijul",
                                              "_MTN", ".fslckout", "SCCS", "RCS"};

/* A '*' at the end stands for any end, at the begin for any begin. */
static const char *const vendored[] = {"node_modules",
                                       "bower_components",
                                       "jspm_packages",
                                       "vendor",
                                       "vendored",
                                       "third_party",
                                       "third-party",
                                       "thirdparty",
                                       "3rdparty",
                                       "_vendor",
                                       "dist",
                                       "build",
                                       "_build",
                                       ".venv",

                                       "site-packages",
                                       "dist-packages",
                                       "__pycache__",
                                       "*.egg-info",
                                       ".eggs",
                                       ".tox",
                                       ".nox",
                                       ".mypy_cache",
                                       ".pytest_cache",
                                       ".ruff_cache",
                                       ".ipynb_checkpoints",
                                       ".cache",
                                       ".gradle",
                                       ".idea",
                                       ".vscode",
                                       ".vs",
                                       ".terraform",
                                       ".next",
                                       ".nuxt",
                                       ".svelte-kit",
                                       ".parcel-cache",
                                       ".yarn",
                                       ".pnpm-store",
                                       ".bundle",
                                       "Pods",
                                       "Carthage",
                                       "DerivedData",
                                       "Godeps",
                                       "elm-stuff",
                                       "cmake-build-*",
                                       "bazel-*",
                                       "CMakeFiles",
                                       ".deps",
                                       ".libs",
                                       "htmlcov",

                                       ".nyc_output",
                                       "*.xcodeproj",
                                       "*.xcworkspace",
                                       "__snapshots__",
                                       ".dart_tool",
                                       ".stack-work",
                                       "dist-newstyle",
                                       "zig-cache",
                                       ".zig-cache"};

static const char *const lock_files[] = {"package-lock.json",
                                         "npm-shrinkwrap.json",
                                         "yarn.lock",
                                         "pnpm-lock.yaml",
                                         "bun.lock",
                                         "bun.lockb",
                                         "deno.lock",
                                         "Cargo.lock",
                                         "poetry.lock",
                                         "uv.lock",
                                         "pdm.lock",
                                         "Pipfile.lock",
                                         "composer.lock",
                                         "Gemfile.lock",
                                         "go.sum",
                                         "go.work.sum",
                                         "flake.lock",
                                         "mix.lock",
                                         "pubspec.lock",
                                         "Podfile.lock",
                                         "Package.resolved",
                                         "packages.lock.json",
                                         "gradle.lockfile",
                                         "conan.lock",
                                         ".terraform.lock.hcl",
                                         "stack.yaml.lock",
                                         "MODULE.bazel.lock"};

static const char *const generated_names[] = {
    "*.min.js",      "*.min.css", "*.min.mjs",     "*.bundle.js", "*.pb.go",       "*_pb2.py",
    "*_pb2_grpc.py", "*_pb2.pyi", "*.pb.cc",       "*.pb.h",      "*.pb-c.c",      "*.pb-c.h",
    "*.js.map",      "*.css.map", "*.designer.cs", "*.g.dart",    "*.freezed.dart"};

/* How generators begin a comment, in lower case. */
static const char *const generated_begins[] = {"generated by",
                                               "autogenerated",
                                               "auto-generated",
                                               "auto generated",
                                               "automatically generated",
                                               "machine generated",
                                               "machine-generated",
                                               "this file is generated",
                                               "this file was generated",
                                               "this file is auto",
                                               "this file was auto",
                                               "this is a generated",
                                               "code generated by",
                                               "@generated"};
static const char *const do_not_edit[] = {"do not edit", "do not modify", "do not change",
                                          "don't edit", "do not hand edit"};

static const char *const reason_names[] = {
#define SKIP_REASON_NAME(value, name, words) name,
    SKIP_REASON_LIST(SKIP_REASON_NAME)
#undef SKIP_REASON_NAME
};

static const char *const reason_words[] = {
#define SKIP_REASON_WORDS(value, name, words) words,
    SKIP_REASON_LIST(SKIP_REASON_WORDS)
#undef SKIP_REASON_WORDS
};

#define LENGTH(table) (sizeof(table) / sizeof *(table))

const char *skip_reason_name(enum skip_reason reason)
{
    return reason_names[reason];
}

const char *skip_reason_words(enum skip_reason reason)
{
    return reason_words[reason];
}

static bool is_listed(const char *const *table, size_t n, const char *name)
{
    size_t n_name = strlen(name);

    for (size_t i = 0; i < n; i++) {
        size_t n_row = strlen(table[i]);

        if (table[i][0] == '*'
                ? n_name >= n_row && strcmp(name + n_name - (n_row - 1), table[i] + 1) == 0
            : table[i][n_row - 1] == '*' ? strncmp(name, table[i], n_row - 1) == 0
                                         : strcmp(name, table[i]) == 0)
            return true;
    }
    return false;
}

enum skip_reason skip_by_folder(const char *name)
{
    if (is_listed(version_control, LENGTH(version_control), name))
        return SKIP_VERSION_CONTROL;
    return is_listed(vendored, LENGTH(vendored), name) ? SKIP_VENDORED : SKIP_NONE;
}

enum skip_reason skip_by_file(const char *name)
{
    if (is_listed(version_control, LENGTH(version_control), name))
        return SKIP_VERSION_CONTROL; /* .git of a worktree is a file */
    if (is_listed(lock_files, LENGTH(lock_files), name))
        return SKIP_LOCK_FILE;
    return is_listed(generated_names, LENGTH(generated_names), name) ? SKIP_GENERATED : SKIP_NONE;
}

bool skip_is_binary(const char *bytes, size_t n_bytes)
{
    size_t n_bad = 0;
    uint32_t code_point;

    if (n_bytes > 0 && memchr(bytes, '\0', n_bytes))
        return true;
    for (size_t i = 0; i < n_bytes;) {
        size_t n = utf8_decode(bytes + i, n_bytes - i, &code_point);

        n_bad += n == 0;
        i += n ? n : 1;
    }
    return n_bad > 3 && n_bad * 10 > n_bytes; /* a character may be cut at the end */
}

/* Finds words, given in lower case, in text of any case. */
static bool mentions(const char *text, size_t n_bytes, const char *words)
{
    size_t n = strlen(words);

    for (size_t i = 0; n_bytes >= n && i <= n_bytes - n; i++) {
        if ((text[i] | 0x20) == (words[0] | 0x20) && strncasecmp(text + i, words, n) == 0)
            return true;
    }
    return false;
}

static bool mentions_any(const char *text, size_t n_bytes, const char *const *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (mentions(text, n_bytes, table[i]))
            return true;
    }
    return false;
}

/* Comments of several lines; Python's files begin with a string that says what they are. */
static const struct {
    const char *open;
    const char *close;
} blocks[] = {{"/*", "*/"},       {"\"\"\"", "\"\"\""}, {"r\"\"\"", "\"\"\""}, {"'''", "'''"},
              {"<!--", "-->"},    {"(*", "*)"},         {"{-", "-}"},          {"#|", "|#"},
              {"=begin", "=end"}, {"--[[", "]]"}};

/* Does a line, without the spaces before it, stand in comments? `*close` is what ends the one that
 * is open, or NULL. */
static bool is_comment(const char *line, size_t n_bytes, const char **close)
{
    static const char *const marks[] = {"//", "#", ";", "--", "%", "!", "'", "\"", "*", ".."};
    bool is_open = *close != NULL;

    for (size_t i = 0; !*close && i < LENGTH(blocks); i++) {
        size_t n = strlen(blocks[i].open);

        if (n_bytes >= n && memcmp(line, blocks[i].open, n) == 0) {
            *close = blocks[i].close;
            is_open = true;
            line += n;
            n_bytes -= n;
        }
    }
    if (*close && mentions(line, n_bytes, *close))
        *close = NULL;
    for (size_t i = 0; !is_open && i < LENGTH(marks); i++)
        is_open = n_bytes >= strlen(marks[i]) && memcmp(line, marks[i], strlen(marks[i])) == 0;
    return is_open;
}

static bool begins_as_generated(const char *comment, size_t n_bytes)
{
    while (n_bytes > 0 && !isalpha((unsigned char)*comment) && *comment != '@') {
        comment++;
        n_bytes--;
    }
    for (size_t i = 0; i < LENGTH(generated_begins); i++) {
        size_t n = strlen(generated_begins[i]);

        if (n_bytes >= n && strncasecmp(comment, generated_begins[i], n) == 0)
            return true;
    }
    return false;
}

/* Go: "Code generated ... DO NOT EDIT."; Meta: @generated; others begin a comment with the fact. */
static bool says_it_is_generated(const char *text, size_t n_bytes)
{
    enum { MAX_LINES = 40, MAX_LINE_BYTES = 400 };
    bool is_generated = false;
    bool is_untouchable = false;
    const char *close = NULL;
    const char *end = text + n_bytes;

    for (int i = 0; i < MAX_LINES && text < end; i++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline ? newline : end;

        while (text < line_end && isspace((unsigned char)*text))
            text++;
        size_t n = (size_t)(line_end - text);
        if (n > MAX_LINE_BYTES)
            n = MAX_LINE_BYTES;
        if (is_comment(text, n, &close)) {
            if (begins_as_generated(text, n))
                return true;
            is_generated |= mentions(text, n, "generated");
            is_untouchable |= mentions_any(text, n, do_not_edit, LENGTH(do_not_edit));
        }
        text = newline ? newline + 1 : end;
    }
    return is_generated && is_untouchable;
}

/* Minified: more than half of it stands in lines of over a thousand bytes. */
static bool has_machine_lines(const char *text, size_t n_bytes)
{
    enum { LONG_LINE = 1000 };
    const char *end = text + n_bytes;
    size_t n_long = 0;

    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((newline ? newline : end) - text);

        n_long += n > LONG_LINE ? n : 0;
        text = newline ? newline + 1 : end;
    }
    return n_long * 2 > n_bytes;
}

enum skip_reason skip_by_text(const char *text, size_t n_bytes, const struct language *language)
{
    size_t n_space = 0;

    while (n_space < n_bytes && isspace((unsigned char)text[n_space]))
        n_space++;
    if (n_space == n_bytes)
        return SKIP_EMPTY;
    if (skip_is_binary(text, n_bytes))
        return SKIP_BINARY;
    if (says_it_is_generated(text, n_bytes) ||
        (!language->is_prose && !language->is_data && has_machine_lines(text, n_bytes)))
        return SKIP_GENERATED;
    return SKIP_NONE;
}
