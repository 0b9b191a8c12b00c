/* SPDX-License-Identifier: Apache-2.0
 *
 * Which language a file is in, by its name or its "#!" line, and what is known of that language:
 * how comments and strings look, and how its definitions are found. Pure; the table is static.
 *
 * To add a language, add a row to language_table.c.
 */
#ifndef KVERN_SUMMARY_LANGUAGE_H
#define KVERN_SUMMARY_LANGUAGE_H

#include <stdbool.h>
#include <stddef.h>

/* What a definition's end is known by. */
enum language_blocks {
    BLOCKS_NONE,     /* definitions are not looked for */
    BLOCKS_BRACES,   /* { ... } */
    BLOCKS_INDENT,   /* the next line that is indented no deeper */
    BLOCKS_END,      /* a line "end..." that is indented no deeper */
    BLOCKS_STARTS,   /* the next definition: each begins a line */
    BLOCKS_HEADINGS, /* the next "# heading" of the same level or above */
};

/* How quotes are read. */
enum language_quotes {
    QUOTE_DOUBLE = 1,     /* "text" */
    QUOTE_SINGLE = 2,     /* 'text' */
    QUOTE_CHARACTER = 4,  /* 'x' is one character; a lone ' is something else */
    QUOTE_BACKTICK = 8,   /* `text`, over several lines */
    QUOTE_TRIPLE = 16,    /* """text""", and ''' where single quotes hold text */
    QUOTE_MULTILINE = 32, /* double and single quotes hold newlines, too */
};

/* Lists are words with single spaces between; NULL is none. */
struct language {
    const char *name;
    const char *extensions;   /* with their dots */
    const char *file_names;   /* whole names; one that ends with '*' is a prefix */
    const char *interpreters; /* of "#!" lines; python3.11 is python */
    const char *line_comment; /* what begin them, up to two */
    const char *block_open;
    const char *block_close;
    const char *functions;  /* words before a function's name */
    const char *containers; /* words before the name of what holds functions: class, impl */
    unsigned quotes;        /* of enum language_quotes */
    enum language_blocks blocks;
    bool has_paren_functions; /* `name(...) {` is a function without a word before it */
    bool has_preprocessor;    /* lines that begin with '#' are no code */
    bool ends_at_newline;     /* statements need no semicolon */
    bool ignores_case;
    bool is_prose; /* documents: long lines are paragraphs */
    bool is_data;  /* JSON and the like: summarised only where asked for by name */
};

/* By the name, else by the "#!" line in the first bytes of the file (`head`, may be NULL) where the
 * name has no extension. NULL: not known. */
const struct language *language_of(const char *file_name, const char *head, size_t n_head_bytes);
/* By its name in any case ("python"), or by an extension (".py"). NULL: not known. */
const struct language *language_find(const char *name);
/* The i-th of all, NULL after the last. */
const struct language *language_at(size_t i);
/* For text of no known language: cut at blank lines only. */
const struct language *language_plain(void);

/* Is the word in a list as above? */
bool language_lists(const char *list, const char *word, size_t n_bytes, bool ignores_case);

#endif
