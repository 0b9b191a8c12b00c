/* SPDX-License-Identifier: Apache-2.0
 *
 * Definitions of languages whose lines tell: those that indent (Python), those with an "end"
 * (Ruby, Lua, Fortran), those where a definition goes on to the next (SQL, Lisp), and headings. A
 * stack holds the definitions that are open; each line may close some and open one.
 */
#include "base/error.h"
#include "summary/outline.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

struct open_definition {
    ptrdiff_t definition;
    uint32_t indent; /* of a heading: its level */
    bool is_container;
};

struct finder {
    struct outline *outline;
    const struct language *language;
    struct open_definition open[OUTLINE_MAX_DEPTH];
    size_t n_open;
    size_t last_content; /* the last line that is not blank */
};

struct span {
    const char *text;
    size_t n_bytes;
};

static const char modifier_words[] =
    "async local private public protected export static final abstract override pure recursive "
    "elemental shared friend internal pub default inline unsafe virtual overload";
static const char never_first[] = "end exit declare";

static struct span line_text(const struct outline *outline, size_t i)
{
    const char *p = outline->text + outline->lines[i].begin;
    const char *end = outline->text + outline->lines[i + 1].begin;

    while (p < end && isspace((unsigned char)*p))
        p++;
    while (end > p && isspace((unsigned char)end[-1]))
        end--;
    return (struct span){p, (size_t)(end - p)};
}

static void skip_spaces(struct span *rest)
{
    while (rest->n_bytes > 0 && isspace((unsigned char)*rest->text)) {
        rest->text++;
        rest->n_bytes--;
    }
}

/* Takes a word off the front: up to a space or what no word holds; a '(' may begin it. */
static struct span take_word(struct span *rest)
{
    struct span word = {rest->text, 0};

    while (word.n_bytes < rest->n_bytes) {
        char c = word.text[word.n_bytes];

        if (isspace((unsigned char)c) || (word.n_bytes > 0 && strchr("([{<=;,:", c)))
            break;
        word.n_bytes++;
    }
    rest->text += word.n_bytes;
    rest->n_bytes -= word.n_bytes;
    return word;
}

/* The name after the word that defines: dots and colons join its parts. */
static struct span take_name(struct span *rest)
{
    skip_spaces(rest);
    while (rest->n_bytes > 0 && strchr("(^:\"'", *rest->text)) {
        bool is_mark = *rest->text == '^'; /* Clojure's metadata is a word of its own */

        rest->text++;
        rest->n_bytes--;
        if (is_mark) {
            take_word(rest);
            skip_spaces(rest);
        }
    }

    struct span name = {rest->text, 0};
    while (name.n_bytes < rest->n_bytes) {
        char c = name.text[name.n_bytes];

        if (isspace((unsigned char)c) || strchr("()[]{}<=;,\"", c))
            break;
        if (c == ':' && (name.n_bytes + 1 == rest->n_bytes ||
                         !(isalnum((unsigned char)name.text[name.n_bytes + 1]) ||
                           name.text[name.n_bytes + 1] == ':')))
            break;
        name.n_bytes++;
    }
    return name;
}

/* Does the list hold the word, or the word and the '(' after it ("function(" of CMake)? */
static bool lists(const struct language *language, const char *list, struct span word,
                  struct span rest)
{
    bool has_paren = rest.n_bytes > 0 && *rest.text == '(';

    return language_lists(list, word.text, word.n_bytes, language->ignores_case) ||
           (has_paren && language_lists(list, word.text, word.n_bytes + 1, language->ignores_case));
}

/* Does the line begin a definition? */
static bool reads_definition(const struct language *language, struct span line, struct span *name,
                             bool *is_container)
{
    enum { MAX_WORDS = 5 };

    for (int i = 0; i < MAX_WORDS && line.n_bytes > 0; i++) {
        struct span word = take_word(&line);

        if (i == 0 && language_lists(never_first, word.text, word.n_bytes, true))
            return false;
        *is_container = lists(language, language->containers, word, line);
        if (*is_container || lists(language, language->functions, word, line)) {
            *name = take_name(&line);
            return true;
        }
        /* "INTEGER PURE FUNCTION F(X)": a type may stand before it */
        if (!language->ignores_case &&
            !language_lists(modifier_words, word.text, word.n_bytes, false))
            return false;
        if (word.n_bytes == 0)
            return false;
        skip_spaces(&line);
    }
    return false;
}

static void close_last(struct finder *finder, size_t last_line)
{
    struct open_definition *open = &finder->open[--finder->n_open];
    struct outline_definition *definition = &finder->outline->definitions[open->definition];

    definition->last_line = last_line > definition->first_line ? last_line : definition->first_line;
}

static kvern_status open_one(struct finder *finder, size_t line, uint32_t indent, bool is_container,
                             struct span name, kvern_error *err)
{
    ptrdiff_t parent =
        finder->n_open ? finder->open[finder->n_open - 1].definition : OUTLINE_NO_PARENT;

    if (finder->n_open == OUTLINE_MAX_DEPTH)
        return KVERN_OK;
    if (outline_add(finder->outline, line, parent, is_container, name.text, name.n_bytes, err))
        return KVERN_MEMORY;
    finder->open[finder->n_open++] = (struct open_definition){
        (ptrdiff_t)finder->outline->n_definitions - 1, indent, is_container};
    return KVERN_OK;
}

/* The last line of what is open, when line i begins something else: comments at the outer
 * indentation above that line belong to it. */
static size_t last_before(const struct finder *finder, size_t i, uint32_t indent)
{
    size_t last = finder->last_content;

    while (last > 0 && last < i && finder->outline->lines[last].is_comment &&
           finder->outline->lines[last].indent <= indent)
        last--;
    while (last > 0 && finder->outline->lines[last].is_blank)
        last--;
    return last;
}

/* "end", "end if" of Fortran: does the line end the definition that is open? */
static bool ends_definition(const struct finder *finder, struct span line)
{
    const struct language *language = finder->language;

    if (line.n_bytes < 3 || strncasecmp(line.text, "end", 3) != 0 ||
        (!language->ignores_case && strncmp(line.text, "end", 3) != 0))
        return false;
    if (!language->ignores_case)
        return true;
    take_word(&line);
    skip_spaces(&line);
    struct span word = take_word(&line);
    return word.n_bytes == 0 || *word.text == ';' ||
           lists(language, language->functions, word, line) ||
           lists(language, language->containers, word, line);
}

static kvern_status take_line(struct finder *finder, size_t i, kvern_error *err)
{
    const struct outline_line *line = &finder->outline->lines[i];
    struct span text = line_text(finder->outline, i);
    struct span name = {0};
    bool is_container = false;
    bool has_end = finder->language->blocks == BLOCKS_END;
    bool is_start = finder->language->blocks == BLOCKS_STARTS;
    bool defines = !(is_start && line->indent > 0) &&
                   reads_definition(finder->language, text, &name, &is_container);

    if (has_end && finder->n_open > 0 && ends_definition(finder, text)) {
        while (finder->n_open > 0 && line->indent < finder->open[finder->n_open - 1].indent)
            close_last(finder, last_before(finder, i, line->indent));
        if (finder->n_open > 0 && line->indent == finder->open[finder->n_open - 1].indent)
            close_last(finder, i);
        return KVERN_OK;
    }
    while (finder->n_open > 0) {
        const struct open_definition *open = &finder->open[finder->n_open - 1];
        bool is_same = line->indent == open->indent;

        if (line->indent > open->indent)
            break;
        /* modules of Fortran need not indent what is in them */
        if (is_same && has_end &&
            (!defines || (open->is_container && finder->language->ignores_case)))
            break;
        if (is_start && !defines)
            break;
        close_last(finder, last_before(finder, i, line->indent));
    }
    return defines ? open_one(finder, i, line->indent, is_container, name, err) : KVERN_OK;
}

static kvern_status take_heading(struct finder *finder, size_t i, bool *is_in_fence,
                                 kvern_error *err)
{
    struct span text = line_text(finder->outline, i);
    uint32_t level = 0;

    if (text.n_bytes >= 3 && (memcmp(text.text, "```", 3) == 0 || memcmp(text.text, "~~~", 3) == 0))
        *is_in_fence = !*is_in_fence;
    while (level < text.n_bytes && text.text[level] == '#')
        level++;
    if (*is_in_fence || level == 0 || level > 6 || level == text.n_bytes ||
        text.text[level] != ' ' || finder->outline->lines[i].indent > 3)
        return KVERN_OK;
    while (finder->n_open > 0 && finder->open[finder->n_open - 1].indent >= level)
        close_last(finder, finder->last_content);
    text.text += level;
    text.n_bytes -= level;
    skip_spaces(&text);
    return open_one(finder, i, level, true, text, err);
}

kvern_status outline_find_lines(struct outline *outline, const struct language *language,
                                kvern_error *err)
{
    struct finder finder = {.outline = outline, .language = language};
    bool is_in_fence = false;
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < outline->n_lines && status == KVERN_OK; i++) {
        const struct outline_line *line = &outline->lines[i];

        if (line->is_blank)
            continue;
        if (language->blocks == BLOCKS_HEADINGS)
            status = take_heading(&finder, i, &is_in_fence, err);
        else if (!line->is_comment && !line->is_inside)
            status = take_line(&finder, i, err);
        finder.last_content = i;
    }
    while (finder.n_open > 0)
        close_last(&finder, finder.last_content);
    return status;
}
