/* SPDX-License-Identifier: Apache-2.0
 *
 * What a text consists of: its lines, and the definitions (functions, classes, sections) that can
 * be recognised in it, each with the lines it takes. Definitions nest: one that begins inside
 * another ends inside it. Pure. Recognition is by simple rules; what it misses is only cut worse.
 */
#ifndef KVERN_SUMMARY_OUTLINE_H
#define KVERN_SUMMARY_OUTLINE_H

#include "kvern.h"
#include "summary/language.h"

#include <stdint.h>

enum { OUTLINE_NO_PARENT = -1, OUTLINE_MAX_DEPTH = 64 };

struct outline_line {
    size_t begin;    /* offset of its first byte */
    uint32_t indent; /* columns; a tab goes to the next multiple of 8 */
    bool is_blank;
    bool is_comment; /* nothing but comment */
    bool is_inside;  /* it begins in a string, a comment or (where indentation counts) brackets */
    bool is_closing; /* nothing but closing brackets, commas and semicolons, or the word end */
};

struct outline_definition {
    size_t first_line; /* from 0; comments right above and decorators included */
    size_t last_line;  /* the last that belongs to it */
    ptrdiff_t parent;  /* index, or OUTLINE_NO_PARENT */
    unsigned depth;    /* how many are around it */
    bool is_container; /* a class, a namespace, a section: may hold functions */
    char *name;        /* owned; NULL: it has none */
};

/* Zeroed is valid and empty. */
struct outline {
    const char *text; /* borrowed */
    size_t n_bytes;
    struct outline_line *lines; /* [n_lines + 1]: the last stands at the text's end */
    size_t n_lines;
    struct outline_definition *definitions; /* [n_definitions], by first_line */
    size_t n_definitions;
    size_t definition_capacity;
};

/* `text` must outlive the outline. KVERN_MEMORY is the only failure. */
kvern_status outline_read(struct outline *outline, const struct language *language,
                          const char *text, size_t n_bytes, kvern_error *err);
/* Only the lines, with begin, indent and is_blank. */
kvern_status outline_read_lines(struct outline *outline, const char *text, size_t n_bytes,
                                kvern_error *err);
void outline_clear(struct outline *outline);

/* For the finders (outline_braces.c, outline_lines.c, patch.c). */

/* Adds a definition from a line on, with the comments above it, whose last line is not known yet
 * (it is the text's last). The name is copied; n_name_bytes 0: none. Names are cut at 256 bytes.
 * `parent`: the definition around it. */
kvern_status outline_add(struct outline *outline, size_t line, ptrdiff_t parent, bool is_container,
                         const char *name, size_t n_name_bytes, kvern_error *err);
kvern_status outline_find_braces(struct outline *outline, const struct language *language,
                                 kvern_error *err);
kvern_status outline_find_lines(struct outline *outline, const struct language *language,
                                kvern_error *err);

#endif
