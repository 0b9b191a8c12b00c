/* SPDX-License-Identifier: Apache-2.0
 *
 * Escapes what could be markup where it stands, and no more, so that the source reads well too:
 * "snake_case", "a -> b" and "R&D" stay as they are.
 */
#include "summary/markdown.h"

#include <ctype.h>
#include <string.h>

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || (c & 0x80) != 0;
}

/* Characters that are markup wherever they stand. '$' is math, '~' is struck text at GitHub. */
static bool is_markup(char c)
{
    return c != '\0' && strchr("\\`*[]<|~$#", c);
}

/* '_' inside a word is none, and '&' without a name and ';' behind it is no entity. */
static bool must_escape(const char *line, size_t at)
{
    const char *next = line + at + 1;

    if (line[at] == '_')
        return at == 0 || !is_word(line[at - 1]) || !is_word(*next);
    if (line[at] == '&') {
        while (*next == '#' || isalnum((unsigned char)*next))
            next++;
        return *next == ';';
    }
    return is_markup(line[at]);
}

/* Bytes before what would make the line's beginning a list, a quote, a rule or a heading of the
 * line above; and there stands what must be escaped. */
static bool has_opening(const char *line, size_t *at)
{
    size_t n_digits = strspn(line, "0123456789");

    *at = n_digits;
    if (n_digits > 0)
        return line[n_digits] == '.' || line[n_digits] == ')';
    return line[0] != '\0' && strchr("-+=>:", line[0]);
}

void markdown_text(struct buffer *out, const char *line)
{
    size_t opening = 0;
    bool is_opened = has_opening(line, &opening);

    for (size_t i = 0; line[i]; i++) {
        if ((is_opened && i == opening) || must_escape(line, i))
            buffer_add_byte(out, '\\');
        buffer_add_byte(out, line[i]);
    }
}

/* A code span ends at a run of as many backticks as it began with: one more than any inside. A
 * table takes the backslash before '|' away; one more before it would undo that, so a cell that
 * holds both is text instead of code. */
void markdown_code(struct buffer *out, const char *line, bool is_in_table)
{
    size_t n_bytes = strlen(line);
    size_t n_ticks = 0;
    bool is_padded;

    if (n_bytes == 0 || (is_in_table && strstr(line, "\\|"))) {
        markdown_text(out, line);
        return;
    }
    for (size_t i = 0; i < n_bytes; i++) {
        size_t n = strspn(line + i, "`");

        n_ticks = n > n_ticks ? n : n_ticks;
        i += n;
    }
    /* one space at each end is taken away again when there are both */
    is_padded = line[0] == '`' || line[n_bytes - 1] == '`' || line[0] == ' ';
    for (size_t i = 0; i <= n_ticks; i++)
        buffer_add_byte(out, '`');
    if (is_padded)
        buffer_add_byte(out, ' ');
    for (size_t i = 0; i < n_bytes; i++) {
        if (is_in_table && line[i] == '|')
            buffer_add_byte(out, '\\');
        buffer_add_byte(out, line[i]);
    }
    if (is_padded)
        buffer_add_byte(out, ' ');
    for (size_t i = 0; i <= n_ticks; i++)
        buffer_add_byte(out, '`');
}
