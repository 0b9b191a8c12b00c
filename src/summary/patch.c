/* SPDX-License-Identifier: Apache-2.0
 *
 * Patches, read line by line. A hunk's header says how many lines it has, and within them nothing
 * is taken for a header: a deleted line "-- x" looks like one.
 */
#include "summary/patch.h"

#include "base/buffer.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    struct outline *outline;
    ptrdiff_t file; /* the definition that is open, or OUTLINE_NO_PARENT */
    ptrdiff_t hunk;
    bool has_git_header; /* of the open file: "---" and "+++" belong to it */
    size_t n_old;        /* lines of the open hunk that are still to come */
    size_t n_new;
};

static const char *line_at(const struct outline *outline, size_t i, size_t *n_bytes)
{
    size_t n = outline->lines[i + 1].begin - outline->lines[i].begin;
    const char *line = outline->text + outline->lines[i].begin;

    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        n--;
    *n_bytes = n;
    return line;
}

static bool begins(const struct outline *outline, size_t i, const char *prefix)
{
    size_t n;
    const char *line = i < outline->n_lines ? line_at(outline, i, &n) : NULL;

    return line && n >= strlen(prefix) && memcmp(line, prefix, strlen(prefix)) == 0;
}

static bool is_octal(char c, char highest)
{
    return c >= '0' && c <= highest;
}

/* Adds a path as git quotes odd ones: "a\tb\303\251". `text` begins after the first quote. */
static void add_unquoted(struct buffer *path, const char *text, size_t n_bytes)
{
    static const char letters[] = "abtnvfr";
    static const char values[] = "\a\b\t\n\v\f\r";

    for (size_t i = 0; i < n_bytes && text[i] != '"'; i++) {
        if (text[i] != '\\' || i + 1 == n_bytes) {
            buffer_add_byte(path, text[i]);
            continue;
        }
        const char *letter = strchr(letters, text[++i]);
        if (n_bytes - i >= 3 && is_octal(text[i], '3') && is_octal(text[i + 1], '7') &&
            is_octal(text[i + 2], '7')) {
            buffer_add_byte(
                path, (char)((text[i] - '0') * 64 + (text[i + 1] - '0') * 8 + (text[i + 2] - '0')));
            i += 2;
        } else {
            buffer_add_byte(path, letter && *letter ? values[letter - letters] : text[i]);
        }
    }
}

/* The path of a header's rest: unquoted, without a time stamp and without "a/" or "b/". */
static void read_path(struct buffer *path, const char *text, size_t n_bytes, bool has_prefix)
{
    size_t skipped = 0;

    buffer_truncate(path, 0);
    if (n_bytes > 0 && text[0] == '"') {
        add_unquoted(path, text + 1, n_bytes - 1);
    } else {
        const char *tab = memchr(text, '\t', n_bytes);

        buffer_add(path, text, tab ? (size_t)(tab - text) : n_bytes);
    }
    if (has_prefix && path->n_bytes > 2 && path->data[1] == '/' && strchr("abciow", path->data[0]))
        skipped = 2;
    if (skipped) {
        memmove(path->data, path->data + skipped, path->n_bytes - skipped + 1);
        path->n_bytes -= skipped;
    }
}

/* "a/x y b/x y": both halves are the same but for the first letter. */
static void read_git_header(struct buffer *path, const char *text, size_t n_bytes)
{
    size_t half = n_bytes / 2;

    if (n_bytes > 0 && text[0] == '"') {
        read_path(path, text, n_bytes, true);
    } else if (n_bytes % 2 == 1 && text[half] == ' ' && half > 2 &&
               memcmp(text + 1, text + half + 2, half - 1) == 0) {
        read_path(path, text + half + 1, half, true);
    } else {
        const char *space = memchr(text, ' ', n_bytes);

        read_path(path, text, space ? (size_t)(space - text) : n_bytes, true);
    }
}

/* The file's name, from the header lines from line i on: the new one where there is one. */
static void read_name(const struct outline *outline, size_t i, struct buffer *path)
{
    static const struct {
        const char *begin;
        bool has_prefix;
    } rows[] = {{"rename to ", false}, {"copy to ", false}, {"--- ", true}, {"+++ ", true}};
    size_t n;
    struct buffer other = {0};

    if (begins(outline, i, "diff --git ")) {
        const char *line = line_at(outline, i, &n);

        read_git_header(path, line + 11, n - 11);
        i++;
    } else if (begins(outline, i, "diff --c")) { /* cc, combined */
        const char *line = line_at(outline, i, &n);
        const char *name = memchr(line + 7, ' ', n - 7);

        if (name)
            read_path(path, name + 1, n - (size_t)(name + 1 - line), false);
        i++;
    } else if (begins(outline, i, "Index: ")) {
        const char *line = line_at(outline, i, &n);

        read_path(path, line + 7, n - 7, false);
        i++;
    }
    for (; i < outline->n_lines && !begins(outline, i, "@@") && !begins(outline, i, "diff --") &&
           !outline->lines[i].is_blank;
         i++) {
        for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
            if (!begins(outline, i, rows[row].begin))
                continue;
            const char *line = line_at(outline, i, &n);
            size_t skipped = strlen(rows[row].begin);

            read_path(&other, line + skipped, n - skipped, rows[row].has_prefix);
            if (other.n_bytes > 0 && strcmp(other.data, "/dev/null") != 0) {
                buffer_truncate(path, 0);
                buffer_add(path, other.data, other.n_bytes);
            }
        }
        if (begins(outline, i, "+++ "))
            break;
    }
    buffer_clear(&other);
}

static bool begins_file(const struct reader *reader, size_t i)
{
    const struct outline *outline = reader->outline;

    if (begins(outline, i, "diff --git ") || begins(outline, i, "diff --cc ") ||
        begins(outline, i, "diff --combined ") || begins(outline, i, "Index: "))
        return true;
    /* within a file, a header of its own begins the next one only after a hunk */
    return begins(outline, i, "--- ") && begins(outline, i + 1, "+++ ") &&
           begins(outline, i + 2, "@@") && !(reader->has_git_header && reader->hunk < 0);
}

/* The n of "-a,n": 1 where it is left out. */
static size_t read_count(const char **p, const char *end)
{
    size_t n = 0;

    while (*p < end && isdigit((unsigned char)**p))
        (*p)++;
    if (*p == end || **p != ',')
        return 1;
    for ((*p)++; *p < end && isdigit((unsigned char)**p); (*p)++)
        n = n < SIZE_MAX / 10 - 9 ? n * 10 + (size_t)(**p - '0') : n;
    return n;
}

static void read_hunk_header(struct reader *reader, size_t i)
{
    size_t n;
    const char *p = line_at(reader->outline, i, &n);
    const char *end = p + n;

    reader->n_old = reader->n_new = 0;
    if (n < 4 || memcmp(p, "@@ -", 4) != 0) /* "@@@" of a merge is not counted */
        return;
    p += 4;
    reader->n_old = read_count(&p, end);
    if (end - p >= 2 && p[0] == ' ' && p[1] == '+') {
        p += 2;
        reader->n_new = read_count(&p, end);
    }
}

/* Is line i one of the lines the open hunk still has? Counts it then. */
static bool takes_hunk_line(struct reader *reader, size_t i)
{
    char c = reader->outline->text[reader->outline->lines[i].begin];
    bool is_old = c == '-' || c == ' ' || c == '\n' || c == '\r';
    bool is_new = c == '+' || c == ' ' || c == '\n' || c == '\r';

    if (reader->n_old == 0 && reader->n_new == 0)
        return c == '\\'; /* "\ No newline at end of file" */
    if ((is_old && reader->n_old == 0) || (is_new && reader->n_new == 0) ||
        (!is_old && !is_new && c != '\\')) {
        reader->n_old = reader->n_new = 0; /* the header lied, or mail cut the patch */
        return false;
    }
    reader->n_old -= is_old;
    reader->n_new -= is_new;
    return true;
}

static void close_definition(struct reader *reader, ptrdiff_t *definition, size_t i)
{
    if (*definition >= 0)
        reader->outline->definitions[*definition].last_line = i - 1;
    *definition = OUTLINE_NO_PARENT;
}

static kvern_status take_line(struct reader *reader, size_t i, kvern_error *err)
{
    struct outline *outline = reader->outline;
    struct buffer name = {0};
    kvern_status status = KVERN_OK;

    if (reader->hunk >= 0 && takes_hunk_line(reader, i))
        return KVERN_OK;
    if (begins_file(reader, i)) {
        close_definition(reader, &reader->hunk, i);
        close_definition(reader, &reader->file, i);
        read_name(outline, i, &name);
        status = outline_add(outline, i, OUTLINE_NO_PARENT, true, name.data, name.n_bytes, err);
        reader->file = (ptrdiff_t)outline->n_definitions - 1;
        reader->has_git_header = !begins(outline, i, "--- ");
        buffer_clear(&name);
    } else if (reader->file >= 0 && begins(outline, i, "@@")) {
        close_definition(reader, &reader->hunk, i);
        status = outline_add(outline, i, reader->file, false, NULL, 0, err);
        reader->hunk = (ptrdiff_t)outline->n_definitions - 1;
        read_hunk_header(reader, i);
    } else if (begins(outline, i, "From ") && reader->file >= 0) { /* the next mail's patch */
        close_definition(reader, &reader->hunk, i);
        close_definition(reader, &reader->file, i);
    }
    return status;
}

kvern_status patch_read(struct outline *outline, const char *text, size_t n_bytes, kvern_error *err)
{
    struct reader reader = {
        .outline = outline, .file = OUTLINE_NO_PARENT, .hunk = OUTLINE_NO_PARENT};
    kvern_status status = outline_read_lines(outline, text, n_bytes, err);

    for (size_t i = 0; i < outline->n_lines && status == KVERN_OK; i++)
        status = take_line(&reader, i, err);
    if (status == KVERN_OK) {
        close_definition(&reader, &reader.hunk, outline->n_lines);
        close_definition(&reader, &reader.file, outline->n_lines);
    } else {
        outline_clear(outline);
    }
    return status;
}

bool patch_is_one(const char *text, size_t n_bytes)
{
    struct outline outline;
    bool is_one = false;

    if (patch_read(&outline, text, n_bytes, NULL))
        return false;
    for (size_t i = 0; i < outline.n_definitions && !is_one; i++)
        is_one = outline.definitions[i].depth == 1 ||
                 begins(&outline, outline.definitions[i].first_line, "diff --git ");
    outline_clear(&outline);
    return is_one;
}
