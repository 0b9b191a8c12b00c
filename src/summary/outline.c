/* SPDX-License-Identifier: Apache-2.0
 *
 * struct outline: the table of lines, made in one pass of the scanner, and the list of definitions
 * that finders add to.
 */
#include "summary/outline.h"

#include "base/error.h"
#include "base/memory.h"
#include "summary/scanner.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

kvern_status outline_read_lines(struct outline *outline, const char *text, size_t n_bytes,
                                kvern_error *err)
{
    size_t n_lines = 0;

    *outline = (struct outline){.text = text, .n_bytes = n_bytes};
    for (const char *p = text; p < text + n_bytes; n_lines++) {
        p = memchr(p, '\n', (size_t)(text + n_bytes - p));
        p = p ? p + 1 : text + n_bytes;
    }
    outline->lines = try_new(n_lines + 1, sizeof *outline->lines);
    if (!outline->lines)
        return fail(err, KVERN_MEMORY, "no memory for %zu lines", n_lines);
    outline->n_lines = n_lines;
    size_t at = 0;
    for (size_t i = 0; i < n_lines; i++) {
        struct outline_line *line = &outline->lines[i];
        const char *newline = memchr(text + at, '\n', n_bytes - at);
        size_t end = newline ? (size_t)(newline - text) + 1 : n_bytes;

        line->begin = at;
        while (at < end && isspace((unsigned char)text[at])) {
            line->indent = text[at] == '\t' ? (line->indent + 8) / 8 * 8 : line->indent + 1;
            at++;
        }
        line->is_blank = at == end;
        at = end;
    }
    outline->lines[n_lines] = (struct outline_line){.begin = n_bytes, .is_blank = true};
    return KVERN_OK;
}

/* Is what follows the line's indentation only what closes something? */
static bool is_closing(const struct outline *outline, size_t i)
{
    const char *p = outline->text + outline->lines[i].begin;
    const char *end = outline->text + outline->lines[i + 1].begin;

    while (p < end && isspace((unsigned char)*p))
        p++;
    if (p == end)
        return false;
    if (end - p >= 3 && memcmp(p, "end", 3) == 0)
        p += 3;
    while (p < end && (isspace((unsigned char)*p) || strchr("})];,", *p)))
        p++;
    return p == end || (end - p >= 2 && p[0] == '/' && p[1] == '/');
}

static bool begins_definition(const struct outline *outline, const struct language *language,
                              size_t i)
{
    const char *p = outline->text + outline->lines[i].begin;
    size_t n = outline->lines[i + 1].begin - outline->lines[i].begin;
    size_t n_word = 0;

    while (n_word < n && isalpha((unsigned char)p[n_word]))
        n_word++;
    return n_word > 0 && (language_lists(language->functions, p, n_word, language->ignores_case) ||
                          language_lists(language->containers, p, n_word, language->ignores_case));
}

/* Finds which lines are comments or inside of something. */
static void mark_lines(struct outline *outline, const struct language *language)
{
    struct scanner scanner;
    size_t position;
    size_t i = 0;
    bool has_code = false;
    bool has_comment = false;
    size_t n_brackets = 0;
    int c;

    if (outline->n_lines == 0)
        return;
    scanner_init(&scanner, language, outline->text, outline->n_bytes);
    do {
        c = scanner_next(&scanner, &position);
        if (c == '\n' || c == SCANNER_END) {
            outline->lines[i].is_comment = has_comment && !has_code && !outline->lines[i].is_blank;
            if (++i >= outline->n_lines)
                break;
            has_code = scanner.state == SCANNER_STRING;
            has_comment = scanner.state == SCANNER_BLOCK_COMMENT;
            /* an open bracket that never closes must not hide the rest of the file */
            if (n_brackets > 0 && begins_definition(outline, language, i))
                n_brackets = 0;
            outline->lines[i].is_inside = scanner.state != SCANNER_CODE || n_brackets > 0;
        } else if (c == SCANNER_COMMENT) {
            has_comment = true;
        } else if (!isspace(c)) {
            has_code = true;
            if (language->blocks == BLOCKS_INDENT && c < 256 && strchr("([{", c))
                n_brackets++;
            else if (n_brackets > 0 && c < 256 && strchr(")]}", c))
                n_brackets--;
        }
    } while (c != SCANNER_END);
    for (i = 0; i < outline->n_lines; i++)
        outline->lines[i].is_closing = !outline->lines[i].is_inside && is_closing(outline, i);
}

/* Does line i, above a definition, belong to it: comment, decorator, attribute? What takes several
 * lines is looked at where it begins, which is given. */
static bool is_attached(const struct outline *outline, size_t lowest, size_t i, size_t *begin)
{
    while (i > lowest && outline->lines[i].is_inside)
        i--;
    if (outline->lines[i].is_blank || outline->lines[i].is_inside)
        return false;

    const char *p = outline->text + outline->lines[i].begin;
    while (*p == ' ' || *p == '\t')
        p++;
    if (!outline->lines[i].is_comment && *p != '@' && !(p[0] == '#' && p[1] == '['))
        return false;
    *begin = i;
    return true;
}

kvern_status outline_add(struct outline *outline, size_t line, ptrdiff_t parent, bool is_container,
                         const char *name, size_t n_name_bytes, kvern_error *err)
{
    enum { MAX_NAME_BYTES = 256 };
    size_t n = outline->n_definitions;
    size_t lowest = 0; /* lines before it are others' */

    if (n == outline->definition_capacity) {
        size_t capacity = n ? n * 2 : 64;
        struct outline_definition *grown =
            try_resize(outline->definitions, capacity, sizeof *grown);

        if (!grown)
            return fail(err, KVERN_MEMORY, "no memory for %zu definitions", capacity);
        outline->definitions = grown;
        outline->definition_capacity = capacity;
    }
    if (n > 0) {
        const struct outline_definition *before = &outline->definitions[n - 1];

        lowest = parent == (ptrdiff_t)n - 1 ? before->first_line + 1 : before->last_line + 1;
    }
    while (line > lowest && is_attached(outline, lowest, line - 1, &line))
        ;
    if (n_name_bytes > MAX_NAME_BYTES)
        n_name_bytes = MAX_NAME_BYTES;
    outline->definitions[n] = (struct outline_definition){
        .first_line = line,
        .last_line = outline->n_lines - 1,
        .parent = parent,
        .depth = parent < 0 ? 0 : outline->definitions[parent].depth + 1,
        .is_container = is_container,
        .name = n_name_bytes ? copy_bytes_or_abort(name, n_name_bytes) : NULL};
    outline->n_definitions++;
    return KVERN_OK;
}

kvern_status outline_read(struct outline *outline, const struct language *language,
                          const char *text, size_t n_bytes, kvern_error *err)
{
    kvern_status status = outline_read_lines(outline, text, n_bytes, err);

    if (status == KVERN_OK) {
        mark_lines(outline, language);
        if (language->blocks == BLOCKS_BRACES)
            status = outline_find_braces(outline, language, err);
        else if (language->blocks != BLOCKS_NONE)
            status = outline_find_lines(outline, language, err);
    }
    if (status != KVERN_OK)
        outline_clear(outline);
    return status;
}

void outline_clear(struct outline *outline)
{
    for (size_t i = 0; i < outline->n_definitions; i++)
        free(outline->definitions[i].name);
    free(outline->definitions);
    free(outline->lines);
    *outline = (struct outline){0};
}
