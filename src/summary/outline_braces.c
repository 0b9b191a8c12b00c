/* SPDX-License-Identifier: Apache-2.0
 *
 * Definitions of languages with braces. What stands before a '{' since the last ';', '{' or '}' is
 * its header; by its words and parentheses the block is a function, a container or something else.
 * Only what lies in containers alone is recorded, so functions inside functions are not.
 */
#include "base/error.h"
#include "summary/outline.h"
#include "summary/scanner.h"

#include <ctype.h>
#include <string.h>

struct word {
    size_t begin; /* offsets; begin == end: none */
    size_t end;
};

struct header {
    size_t line; /* where it begins */
    bool is_begun;
    size_t n_parens; /* open ones, with the brackets and braces within */
    size_t n_inner;  /* braces that are open within parentheses */
    size_t n_angles;
    struct word last; /* the word read last */
    struct word before_paren;
    struct word function;
    struct word container;
    struct word typed;    /* what stands before the first ':' */
    struct word assigned; /* what stands before '=', or before the ':' of its type */
    bool has_function;
    bool has_container;
    bool may_return_container; /* struct, union, enum: may begin a C function's type */
    bool has_equals;
    bool has_arrow;
    bool wants_function; /* its name is the next word */
    bool wants_container;
    bool is_after_word; /* the last byte of code is a word's */
    bool is_at_newline; /* one has come since */
    int last_byte;
};

enum block_kind { BLOCK_CONTAINER, BLOCK_OPAQUE };

struct block {
    enum block_kind kind;
    ptrdiff_t definition; /* OUTLINE_NO_PARENT: not recorded */
};

struct finder {
    struct outline *outline;
    const struct language *language;
    struct header header;
    struct block blocks[OUTLINE_MAX_DEPTH];
    size_t n_blocks;
    size_t n_too_deep; /* open blocks that blocks[] has no room for */
    size_t line;
};

static const char control_words[] =
    "if for while switch catch do else try return synchronized using lock fixed foreach elseif "
    "elif until unless when match select loop with case new throw sizeof typeof assert await yield "
    "defer guard finally";
static const char attribute_words[] =
    "__attribute__ __attribute __declspec alignas _Alignas decltype noexcept";

static bool is_set(struct word word)
{
    return word.end > word.begin;
}

static bool is_word_byte(int c)
{
    return c < 256 && (isalnum(c) || c == '_' || c == '$' || c >= 0x80);
}

static bool lists(const struct finder *finder, const char *list, struct word word)
{
    return language_lists(list, finder->outline->text + word.begin, word.end - word.begin,
                          finder->language->ignores_case);
}

/* Is the word joined to the one before it by '.', ':' or "::"? */
static bool is_joined(const struct finder *finder, struct word word)
{
    const char *text = finder->outline->text;
    size_t gap = word.begin - finder->header.last.end;

    if (!is_set(finder->header.last) || gap == 0 || gap > 2)
        return false;
    return gap == 1 ? text[word.begin - 1] == '.' || text[word.begin - 1] == ':'
                    : text[word.begin - 1] == ':' && text[word.begin - 2] == ':';
}

static void take_word(struct finder *finder, struct word word)
{
    struct header *header = &finder->header;
    struct word old = header->last;

    if (word.begin > 0 && finder->outline->text[word.begin - 1] == '~')
        word.begin--;
    header->is_after_word = true;
    if (is_joined(finder, word)) {
        header->last.end = word.end;
        if (header->function.end == old.end)
            header->function.end = word.end;
        if (header->container.end == old.end)
            header->container.end = word.end;
        return;
    }
    header->last = word;
    if (header->n_parens > 0 || header->n_angles > 0)
        return;
    if (lists(finder, finder->language->functions, word)) {
        header->has_function = header->wants_function = true;
    } else if (lists(finder, finder->language->containers, word)) {
        header->has_container = header->wants_container = true;
        header->may_return_container =
            finder->language->has_preprocessor && lists(finder, "struct union enum", word);
    } else if (header->wants_function) {
        header->function = word;
        header->wants_function = false;
    } else if (header->wants_container || (header->has_container && lists(finder, "for", word))) {
        /* "impl Display for Point": the name is Point's */
        header->wants_container = lists(finder, "for", word);
        if (!header->wants_container)
            header->container = word;
    }
}

static void take_punctuation(struct finder *finder, int c, size_t position)
{
    struct header *header = &finder->header;
    const char *text = finder->outline->text;

    switch (c) {
    case '(':
        if (header->n_parens == 0 && header->is_after_word && !is_set(header->before_paren) &&
            !lists(finder, finder->language->functions, header->last) &&
            !lists(finder, attribute_words, header->last) &&
            (header->last.begin == 0 || text[header->last.begin - 1] != '@'))
            header->before_paren = header->last;
        header->n_parens++;
        break;
    case '{':
        header->n_inner++;
        header->n_parens++;
        break;
    case '[':
        header->n_parens++;
        break;
    case '}':
        header->n_inner--;
        header->n_parens -= header->n_parens > 0;
        break;
    case ')':
    case ']':
        header->n_parens -= header->n_parens > 0;
        break;
    case '<':
        if (header->is_after_word &&
            (header->wants_function || header->wants_container || header->n_angles > 0 ||
             is_set(header->function) || lists(finder, "template", header->last)))
            header->n_angles++;
        break;
    case '>':
        header->has_arrow |= header->last_byte == '=' && header->n_parens == 0;
        if (header->n_angles > 0 && header->last_byte != '-' && header->last_byte != '=')
            header->n_angles--;
        break;
    case '-':
    case '=':
        if (header->n_parens > 0 || header->has_equals || position == 0 ||
            (c == '-' ? header->last_byte != '<' || text[position - 1] != '<'
                      : strchr("=!<>", header->last_byte) != NULL) ||
            lists(finder, "operator", header->last))
            break;
        header->assigned = is_set(header->typed) ? header->typed : header->last;
        header->has_equals = c == '=';
        break;
    case ':':
        if (lists(finder, "public private protected signals slots default", header->last) &&
            header->is_after_word)
            *header = (struct header){0};
        else if (header->n_parens == 0 && !is_set(header->typed))
            header->typed = header->last;
        break;
    default:
        break;
    }
}

/* Decides what the block that begins now is; gives its name where it has one. */
static bool is_definition(const struct finder *finder, struct word *name, bool *is_container)
{
    const struct header *header = &finder->header;
    const struct language *language = finder->language;

    *is_container = false;
    *name = (struct word){0};
    if (header->n_parens > 0)
        return false;
    if (header->has_function) {
        *name = is_set(header->function)   ? header->function
                : is_set(header->assigned) ? header->assigned
                                           : header->before_paren;
        return is_set(*name);
    }
    if (header->has_container &&
        !(header->may_return_container && (is_set(header->before_paren) || header->has_equals))) {
        *is_container = true;
        *name = is_set(header->container) ? header->container : header->assigned;
        return true;
    }
    if (header->has_arrow && language->ends_at_newline && is_set(header->assigned)) {
        *name = header->assigned;
        return true;
    }
    *name = header->before_paren;
    return language->has_paren_functions && is_set(*name) && !header->has_equals &&
           !lists(finder, control_words, *name);
}

static kvern_status open_block(struct finder *finder, kvern_error *err)
{
    ptrdiff_t parent = OUTLINE_NO_PARENT;
    bool is_in_containers = finder->n_too_deep == 0;
    bool is_container;
    struct word name;
    kvern_status status = KVERN_OK;

    if (finder->n_blocks == OUTLINE_MAX_DEPTH) {
        finder->n_too_deep++;
        return KVERN_OK;
    }
    for (size_t i = 0; i < finder->n_blocks; i++) {
        is_in_containers &= finder->blocks[i].kind == BLOCK_CONTAINER;
        if (finder->blocks[i].definition != OUTLINE_NO_PARENT)
            parent = finder->blocks[i].definition;
    }

    struct block block = {.kind = BLOCK_OPAQUE, .definition = OUTLINE_NO_PARENT};
    if (is_in_containers && is_definition(finder, &name, &is_container)) {
        status = outline_add(finder->outline, finder->header.line, parent, is_container,
                             finder->outline->text + name.begin, name.end - name.begin, err);
        if (status != KVERN_OK)
            return status;
        block.definition = (ptrdiff_t)finder->outline->n_definitions - 1;
        block.kind = is_container ? BLOCK_CONTAINER : BLOCK_OPAQUE;
    }
    finder->blocks[finder->n_blocks++] = block;
    return KVERN_OK;
}

static void close_block(struct finder *finder)
{
    struct block *block = &finder->blocks[--finder->n_blocks];

    if (block->definition != OUTLINE_NO_PARENT)
        finder->outline->definitions[block->definition].last_line = finder->line;
}

/* A '}' closes the block opened last. One in the first column closes the outermost function: so
 * braces that were miscounted (both branches of an #if opened one) do no harm beyond it. */
static void close_brace(struct finder *finder, bool is_first_column)
{
    size_t n_left = finder->n_blocks > 0 ? finder->n_blocks - 1 : 0;

    if (is_first_column) {
        finder->n_too_deep = 0;
        for (size_t i = 0; i < finder->n_blocks; i++) {
            if (finder->blocks[i].kind == BLOCK_OPAQUE) {
                n_left = i;
                break;
            }
        }
    } else if (finder->n_too_deep > 0) {
        finder->n_too_deep--;
        return;
    }
    while (finder->n_blocks > n_left)
        close_block(finder);
}

/* Where a newline ends a statement, does the byte after it begin another? */
static bool begins_statement(const struct finder *finder, int c)
{
    const struct header *header = &finder->header;

    return finder->language->ends_at_newline && header->is_at_newline && header->n_parens == 0 &&
           (c > 255 || !strchr("{.:?)=&|+", c)) &&
           !(header->last_byte < 256 && strchr(",=+-*/&|<(.:?", header->last_byte));
}

/* Parentheses that were miscounted (one in a regular expression) must not hide what follows: does
 * the line begin with what begins no argument? */
static bool ends_parens(const struct finder *finder, const struct scanner *scanner, int c,
                        size_t position)
{
    const char *text = finder->outline->text + position;
    size_t n = 0;

    if (finder->header.n_parens == 0 || position != finder->outline->lines[finder->line].begin)
        return false;
    while (position + n < scanner->n_bytes && is_word_byte((unsigned char)text[n]))
        n++;
    return c == '}' ||
           language_lists(finder->language->functions, text, n, finder->language->ignores_case);
}

static kvern_status take_code(struct finder *finder, struct scanner *scanner, int c,
                              size_t position, kvern_error *err)
{
    struct header *header = &finder->header;
    kvern_status status = KVERN_OK;
    bool is_inner = c == '{' ? header->n_parens > 0 : header->n_inner > 0;

    if (begins_statement(finder, c) || ends_parens(finder, scanner, c, position)) {
        *header = (struct header){0};
        if (c == '}' && is_inner)
            return KVERN_OK;
    }
    if (c == '{' && !is_inner) {
        if (!header->is_begun)
            header->line = finder->line;
        status = open_block(finder, err);
        *header = (struct header){0};
        return status;
    }
    if (c == '}' && !is_inner) {
        close_brace(finder, position == finder->outline->lines[finder->line].begin);
        *header = (struct header){0};
        return KVERN_OK;
    }
    if (c == ';' && header->n_parens == 0) {
        *header = (struct header){0};
        return KVERN_OK;
    }
    if (!header->is_begun) {
        header->is_begun = true;
        header->line = finder->line;
    }
    if (is_word_byte(c)) {
        while (scanner->at < scanner->n_bytes &&
               is_word_byte((unsigned char)scanner->text[scanner->at]))
            scanner->at++;
        take_word(finder, (struct word){position, scanner->at});
    } else {
        take_punctuation(finder, c, position);
        header->is_after_word = false;
    }
    header->is_at_newline = false;
    header->last_byte = c;
    return KVERN_OK;
}

kvern_status outline_find_braces(struct outline *outline, const struct language *language,
                                 kvern_error *err)
{
    struct finder finder = {.outline = outline, .language = language};
    struct scanner scanner;
    kvern_status status = KVERN_OK;
    size_t position;

    scanner_init(&scanner, language, outline->text, outline->n_bytes);
    while (status == KVERN_OK) {
        int c = scanner_next(&scanner, &position);

        if (c == SCANNER_END)
            break;
        if (c == '\n') {
            finder.line++;
            finder.header.is_at_newline = true;
        } else if (c != SCANNER_COMMENT && c != SCANNER_PREPROCESSOR && !isspace(c)) {
            status = take_code(&finder, &scanner, c, position, err);
        }
    }
    if (status == KVERN_OK) {
        finder.line = outline->n_lines ? outline->n_lines - 1 : 0;
        while (finder.n_blocks > 0)
            close_block(&finder);
    }
    return status;
}
