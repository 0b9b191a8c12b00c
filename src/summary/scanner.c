/* SPDX-License-Identifier: Apache-2.0
 *
 * struct scanner: always moves forward by at least a byte, so a text is read in time linear in it.
 */
#include "summary/scanner.h"

#include <ctype.h>
#include <string.h>

void scanner_init(struct scanner *scanner, const struct language *language, const char *text,
                  size_t n_bytes)
{
    *scanner = (struct scanner){
        .language = language, .text = text, .n_bytes = n_bytes, .is_line_begin = true};
}

/* Does the text go on with this at the scanner's place? */
static bool is_at(const struct scanner *scanner, const char *word, size_t n_bytes)
{
    return n_bytes > 0 && scanner->n_bytes - scanner->at >= n_bytes &&
           memcmp(scanner->text + scanner->at, word, n_bytes) == 0;
}

static bool begins_line_comment(const struct scanner *scanner)
{
    const char *list = scanner->language->line_comment;

    for (; list && *list; list += *list == ' ') {
        size_t n = strcspn(list, " ");

        if (is_at(scanner, list, n)) {
            char before = scanner->at > 0 ? scanner->text[scanner->at - 1] : '\n';

            /* $# and ${x#y} of shells are no comments */
            if (*list != '#' || isspace((unsigned char)before) || before == ';')
                return true;
        }
        list += n;
    }
    return false;
}

/* Is the quote at the scanner's place followed by one character and a quote? */
static bool is_character(const struct scanner *scanner)
{
    enum { LONGEST = 12 }; /* '\u{10FFFF}' */
    const char *p = scanner->text + scanner->at + 1;
    size_t n = scanner->n_bytes - scanner->at - 1;
    size_t i = 1;

    if (n < 2)
        return false;
    if (p[0] == '\\') {
        for (i = 2; i < n && i < LONGEST && p[i] != '\'' && p[i] != '\n';)
            i++;
    } else {
        while (i < n && i < 4 && ((unsigned char)p[i] & 0xc0) == 0x80)
            i++;
    }
    return i < n && p[i] == '\'';
}

/* Begins a string if one begins here. */
static bool begin_string(struct scanner *scanner)
{
    unsigned quotes = scanner->language->quotes;
    char c = scanner->text[scanner->at];
    bool is_single = c == '\'' && (quotes & QUOTE_SINGLE);
    bool is_double = c == '"' && (quotes & QUOTE_DOUBLE);
    const char triple[3] = {c, c, c};

    scanner->quote = c;
    scanner->n_quotes = 1;
    scanner->is_multiline = quotes & QUOTE_MULTILINE;
    if ((is_single || is_double) && (quotes & QUOTE_TRIPLE) && is_at(scanner, triple, 3)) {
        scanner->n_quotes = 3;
        scanner->is_multiline = true;
    } else if (c == '`' && (quotes & QUOTE_BACKTICK)) {
        scanner->is_multiline = true;
    } else if (!is_single && !is_double &&
               !(c == '\'' && (quotes & QUOTE_CHARACTER) && is_character(scanner))) {
        return false;
    }
    scanner->at += scanner->n_quotes;
    scanner->state = SCANNER_STRING;
    return true;
}

/* One byte of what is no code; true: it is a newline, which the caller is told of. */
static bool skip_one(struct scanner *scanner)
{
    const struct language *language = scanner->language;
    char c = scanner->text[scanner->at];

    if (scanner->state == SCANNER_STRING) {
        const char closing[3] = {scanner->quote, scanner->quote, scanner->quote};

        if (c == '\\' && scanner->at + 1 < scanner->n_bytes &&
            scanner->text[scanner->at + 1] != '\n') {
            scanner->at += 2;
            return false;
        }
        if (is_at(scanner, closing, scanner->n_quotes)) {
            scanner->at += scanner->n_quotes;
            scanner->state = SCANNER_CODE;
            return false;
        }
    } else if (scanner->state == SCANNER_BLOCK_COMMENT) {
        size_t n = strlen(language->block_close);

        if (is_at(scanner, language->block_close, n)) {
            scanner->at += n;
            scanner->state = SCANNER_CODE;
            return false;
        }
    }
    scanner->at++;
    if (c != '\n')
        return false;

    bool is_continued = scanner->at > 1 && scanner->text[scanner->at - 2] == '\\';
    if (scanner->state == SCANNER_LINE_COMMENT ||
        (scanner->state == SCANNER_SKIPPED_LINE && !is_continued) ||
        (scanner->state == SCANNER_STRING && !scanner->is_multiline && !is_continued))
        scanner->state = SCANNER_CODE;
    return true;
}

/* At a byte of code: enters a comment, a string or a line that is skipped, if one begins here. */
static int begin_skipping(struct scanner *scanner)
{
    const struct language *language = scanner->language;
    size_t n_open = language->block_open ? strlen(language->block_open) : 0;

    if (language->block_open && is_at(scanner, language->block_open, n_open)) {
        scanner->at += n_open;
        scanner->state = SCANNER_BLOCK_COMMENT;
        return SCANNER_COMMENT;
    }
    if (begins_line_comment(scanner)) {
        scanner->state = SCANNER_LINE_COMMENT;
        return SCANNER_COMMENT;
    }
    if (language->has_preprocessor && scanner->is_line_begin && scanner->text[scanner->at] == '#') {
        scanner->state = SCANNER_SKIPPED_LINE;
        return SCANNER_PREPROCESSOR;
    }
    return begin_string(scanner) ? SCANNER_TEXT : 0;
}

int scanner_next(struct scanner *scanner, size_t *position)
{
    while (scanner->at < scanner->n_bytes) {
        *position = scanner->at;
        if (scanner->state != SCANNER_CODE) {
            if (skip_one(scanner)) {
                scanner->is_line_begin = true;
                return '\n';
            }
            continue;
        }

        int begun = begin_skipping(scanner);
        if (begun) {
            scanner->is_line_begin = false;
            return begun;
        }
        unsigned char c = (unsigned char)scanner->text[scanner->at++];
        scanner->is_line_begin = c == '\n' || (scanner->is_line_begin && isspace(c));
        return c;
    }
    *position = scanner->n_bytes;
    return SCANNER_END;
}
