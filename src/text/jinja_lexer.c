/* SPDX-License-Identifier: Apache-2.0
 *
 * Template text -> tokens, by the rules of jinja2's lexer with trim_blocks and lstrip_blocks on: a
 * block tag or comment alone on its line leaves nothing of that line, '-' strips all white space on
 * its side, '+' switches the two rules off. Owns nothing: tokens and texts live in the arena.
 */
#include "text/jinja_ast.h"

#include "base/error.h"
#include "base/utf8.h"
#include "text/jinja_string.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BRACKETS = 256, MAX_NUMBER = 64 };

struct lexer {
    struct jinja_arena *arena;
    struct jinja_tokens *tokens;
    const char *text; /* newlines already made '\n' */
    size_t n_bytes;
    size_t at;
    int line;
    bool is_line_start; /* the last thing read ended a line (or nothing was read) */
    kvern_error *err;
};

static kvern_status refuse(struct lexer *lexer, const char *what)
{
    return fail(lexer->err, KVERN_FORMAT, "chat template line %d: %s", lexer->line, what);
}

static kvern_status no_memory(struct lexer *lexer)
{
    return fail(lexer->err, KVERN_MEMORY, "chat template line %d: no memory for its tokens",
                lexer->line);
}

static bool looking_at(const struct lexer *lexer, const char *what)
{
    size_t n = strlen(what);

    return lexer->n_bytes - lexer->at >= n && memcmp(lexer->text + lexer->at, what, n) == 0;
}

static void advance(struct lexer *lexer, size_t n)
{
    for (size_t i = 0; i < n; i++)
        lexer->line += lexer->text[lexer->at + i] == '\n';
    lexer->at += n;
    if (n > 0)
        lexer->is_line_start = lexer->text[lexer->at - 1] == '\n';
}

static kvern_status add_token(struct lexer *lexer, enum jinja_token_kind kind, const char *data,
                              size_t n_bytes)
{
    struct jinja_tokens *tokens = lexer->tokens;

    if (tokens->n == tokens->capacity) {
        size_t capacity = tokens->capacity ? tokens->capacity * 2 : 64;
        void *items =
            jinja_arena_grow(lexer->arena, tokens->items, tokens->n * sizeof *tokens->items,
                             capacity * sizeof *tokens->items);
        if (!items)
            return no_memory(lexer);
        tokens->items = items;
        tokens->capacity = capacity;
    }
    tokens->items[tokens->n++] = (struct jinja_token){
        .kind = kind, .line = lexer->line, .text = {.data = data, .n_bytes = n_bytes}};
    return KVERN_OK;
}

static size_t skip_space(const struct lexer *lexer, size_t at)
{
    while (at < lexer->n_bytes) {
        size_t n = jinja_space_bytes(lexer->text + at, lexer->n_bytes - at);

        if (n == 0)
            break;
        at += n;
    }
    return at;
}

/* The length of a closing tag at the cursor ("-%}" and the white space after it, "+%}", "%}" and
 * one newline), or 0. `close` is "%}", "#}" or "}}"; only the first two take '+' and a newline. */
static size_t closing_bytes(const struct lexer *lexer, const char *close)
{
    const char *text = lexer->text + lexer->at;
    size_t left = lexer->n_bytes - lexer->at;
    bool is_variable = close[0] == '}';

    if (left >= 3 && text[0] == '-' && memcmp(text + 1, close, 2) == 0)
        return skip_space(lexer, lexer->at + 3) - lexer->at;
    if (!is_variable && left >= 3 && text[0] == '+' && memcmp(text + 1, close, 2) == 0)
        return 3;
    if (left >= 2 && memcmp(text, close, 2) == 0)
        return !is_variable && left >= 3 && text[2] == '\n' ? 3 : 2;
    return 0;
}

/* Adds the text before an opening tag at the cursor's `end`, stripped as `sign` and the kind of tag
 * ask. */
static kvern_status add_data(struct lexer *lexer, size_t end, char sign, bool is_variable)
{
    size_t begin = lexer->at;
    size_t keep = end;

    if (sign == '-') {
        keep = begin + jinja_rstrip_bytes(lexer->text + begin, end - begin);
    } else if (sign != '+' && !is_variable) {
        size_t line = end;

        while (line > begin && lexer->text[line - 1] != '\n')
            line--;
        if ((line > begin || lexer->is_line_start) && skip_space(lexer, line) >= end)
            keep = line;
    }
    return keep > begin ? add_token(lexer, JINJA_TOKEN_DATA, lexer->text + begin, keep - begin)
                        : KVERN_OK;
}

static kvern_status lex_string(struct lexer *lexer)
{
    size_t begin = lexer->at + 1;
    size_t end = begin;
    char quote = lexer->text[lexer->at];
    struct jinja_text value;

    while (end < lexer->n_bytes && lexer->text[end] != quote)
        end += lexer->text[end] == '\\' ? 2 : 1;
    if (end >= lexer->n_bytes)
        return refuse(lexer, "a string without its closing quote");
    if (!jinja_unescape(lexer->arena, lexer->text + begin, end - begin, &value))
        return no_memory(lexer);
    kvern_status status = add_token(lexer, JINJA_TOKEN_STRING, value.data, value.n_bytes);
    advance(lexer, end + 1 - lexer->at);
    return status;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Copies digits (of `base`, '_' left out) at `at` into number; returns where they end. */
static size_t take_digits(const struct lexer *lexer, size_t at, int base, char *number, size_t *n)
{
    for (; at < lexer->n_bytes; at++) {
        char c = lexer->text[at];
        bool is_hex = base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'));

        if (c == '_')
            continue;
        if (!is_hex && !(is_digit(c) && c - '0' < base))
            break;
        if (*n < MAX_NUMBER - 1)
            number[(*n)++] = c;
    }
    number[*n] = '\0';
    return at;
}

static kvern_status lex_number(struct lexer *lexer)
{
    const char *text = lexer->text;
    char number[MAX_NUMBER] = "";
    size_t n = 0;
    size_t at = lexer->at;
    bool is_float = false;
    int base = 10;

    if (text[at] == '0' && at + 1 < lexer->n_bytes) {
        char c = (char)(text[at + 1] | 0x20);

        base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
    }
    at = take_digits(lexer, base == 10 ? at : at + 2, base, number, &n);
    if (base == 10 && at + 1 < lexer->n_bytes && text[at] == '.' && is_digit(text[at + 1])) {
        if (n < MAX_NUMBER - 1)
            number[n++] = '.';
        at = take_digits(lexer, at + 1, 10, number, &n);
        is_float = true;
    }
    if (base == 10 && at + 1 < lexer->n_bytes && (text[at] | 0x20) == 'e') {
        bool is_signed = text[at + 1] == '+' || text[at + 1] == '-';
        size_t digits = at + 1 + is_signed;

        if (digits < lexer->n_bytes && is_digit(text[digits])) {
            if (n < MAX_NUMBER - 3) {
                number[n++] = 'e';
                if (is_signed)
                    number[n++] = text[at + 1];
            }
            at = take_digits(lexer, digits, 10, number, &n);
            is_float = true;
        }
    }
    if (n >= MAX_NUMBER - 1)
        return refuse(lexer, "a number of more than 62 digits");

    errno = 0;
    kvern_status status = add_token(lexer, is_float ? JINJA_TOKEN_FLOAT : JINJA_TOKEN_INTEGER,
                                    text + lexer->at, at - lexer->at);
    if (status)
        return status;
    struct jinja_token *token = &lexer->tokens->items[lexer->tokens->n - 1];
    if (is_float)
        token->number = strtod(number, NULL);
    else
        token->integer = strtoll(number, NULL, base);
    if (!is_float && errno == ERANGE)
        return refuse(lexer, "an integer over 64 bits");
    advance(lexer, at - lexer->at);
    return KVERN_OK;
}

static bool is_name_byte(char c, bool is_first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) ||
           (!is_first && is_digit(c));
}

/* The tokens inside "{{ }}" or "{% %}", up to and with the closing tag. A closing tag inside
 * brackets is not one: {{ {'a': {}} }}. */
static kvern_status lex_inside(struct lexer *lexer, const char *close, enum jinja_token_kind end)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                            "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    char open[MAX_BRACKETS];
    size_t n_open = 0;
    kvern_status status = KVERN_OK;

    while (!status) {
        advance(lexer, skip_space(lexer, lexer->at) - lexer->at);
        if (lexer->at >= lexer->n_bytes)
            return refuse(lexer, "a tag that is never closed");

        size_t n_close = n_open == 0 ? closing_bytes(lexer, close) : 0;
        char c = lexer->text[lexer->at];
        if (n_close > 0) {
            status = add_token(lexer, end, close, 2);
            advance(lexer, n_close);
            return status;
        }
        if (c == '\'' || c == '"') {
            status = lex_string(lexer);
        } else if (is_digit(c)) {
            status = lex_number(lexer);
        } else if (is_name_byte(c, true)) {
            size_t n = 1;

            while (lexer->at + n < lexer->n_bytes &&
                   is_name_byte(lexer->text[lexer->at + n], false))
                n++;
            status = add_token(lexer, JINJA_TOKEN_NAME, lexer->text + lexer->at, n);
            advance(lexer, n);
        } else {
            size_t i = 0;
            size_t n = sizeof operators / sizeof operators[0];

            while (i < n && !looking_at(lexer, operators[i]))
                i++;
            if (i == n)
                return refuse(lexer, "a character that no expression has");
            if (strchr("([{", c)) {
                if (n_open == MAX_BRACKETS)
                    return refuse(lexer, "more than 256 open brackets");
                open[n_open++] = c == '(' ? ')' : (char)(c + 2);
            } else if (strchr(")]}", c)) {
                if (n_open == 0 || open[--n_open] != c)
                    return refuse(lexer, "a bracket closed that was not opened");
            }
            status = add_token(lexer, JINJA_TOKEN_OPERATOR, operators[i], strlen(operators[i]));
            advance(lexer, strlen(operators[i]));
        }
    }
    return status;
}

static kvern_status skip_comment(struct lexer *lexer)
{
    size_t n;

    while (lexer->at < lexer->n_bytes && closing_bytes(lexer, "#}") == 0)
        advance(lexer, 1);
    n = lexer->at < lexer->n_bytes ? closing_bytes(lexer, "#}") : 0;
    if (n == 0)
        return refuse(lexer, "a comment that is never closed");
    advance(lexer, n);
    return KVERN_OK;
}

/* If "{%" at the cursor begins "{% word %}", the length of that tag with the white space its '-'
 * strips; 0 if not. `sign` gets the sign after "{%". */
static size_t word_tag_bytes(struct lexer *lexer, const char *word, bool trims_newline, char *sign)
{
    size_t start = lexer->at;
    size_t n = 0;
    size_t at = start + 2;

    *sign = at < lexer->n_bytes ? lexer->text[at] : '\0';
    if (*sign == '-' || *sign == '+')
        at++;
    at = skip_space(lexer, at);
    if (lexer->n_bytes - at < strlen(word) || memcmp(lexer->text + at, word, strlen(word)) != 0)
        return 0;
    at = skip_space(lexer, at + strlen(word));
    lexer->at = at;
    n = at < lexer->n_bytes ? closing_bytes(lexer, "%}") : 0;
    lexer->at = start;
    if (n == 0 || (!trims_newline && lexer->text[at] == '+'))
        return 0;
    if (!trims_newline && lexer->text[at] != '-')
        n = 2;
    return at + n - start;
}

/* "{% raw %}" stands at the cursor, n_tag bytes long: everything to "{% endraw %}" is text. */
static kvern_status lex_raw(struct lexer *lexer, size_t n_tag)
{
    advance(lexer, n_tag);
    for (size_t end = lexer->at; end + 1 < lexer->n_bytes; end++) {
        size_t begin = lexer->at;
        size_t n = 0;
        char sign = '\0';

        if (lexer->text[end] == '{' && lexer->text[end + 1] == '%') {
            lexer->at = end;
            n = word_tag_bytes(lexer, "endraw", true, &sign);
            lexer->at = begin;
        }
        if (n > 0) {
            kvern_status status = add_data(lexer, end, sign, false);

            advance(lexer, end + n - begin);
            return status;
        }
    }
    return refuse(lexer, "{% raw %} without {% endraw %}");
}

static size_t find_tag(const struct lexer *lexer)
{
    size_t at = lexer->at;

    while (at + 1 < lexer->n_bytes &&
           !(lexer->text[at] == '{' && strchr("{%#", lexer->text[at + 1]) && lexer->text[at + 1]))
        at++;
    return at + 1 < lexer->n_bytes ? at : lexer->n_bytes;
}

static kvern_status lex_all(struct lexer *lexer)
{
    kvern_status status = KVERN_OK;

    while (!status && lexer->at < lexer->n_bytes) {
        size_t tag = find_tag(lexer);
        char sign = tag + 2 < lexer->n_bytes ? lexer->text[tag + 2] : '\0';
        bool is_variable = tag < lexer->n_bytes && lexer->text[tag + 1] == '{';
        bool has_sign = sign == '-' || sign == '+';

        if (tag == lexer->n_bytes) {
            status = add_token(lexer, JINJA_TOKEN_DATA, lexer->text + lexer->at, tag - lexer->at);
            advance(lexer, tag - lexer->at);
            break;
        }
        status = add_data(lexer, tag, sign, is_variable);
        advance(lexer, tag - lexer->at);
        if (status)
            break;
        char kind = lexer->text[tag + 1];
        size_t n_raw = kind == '%' ? word_tag_bytes(lexer, "raw", false, &sign) : 0;
        if (n_raw > 0) {
            status = lex_raw(lexer, n_raw);
            continue;
        }
        if (kind != '#')
            status =
                add_token(lexer, is_variable ? JINJA_TOKEN_VARIABLE_BEGIN : JINJA_TOKEN_BLOCK_BEGIN,
                          lexer->text + tag, 2);
        advance(lexer, has_sign ? 3 : 2);
        if (status)
            break;
        if (kind == '#')
            status = skip_comment(lexer);
        else if (is_variable)
            status = lex_inside(lexer, "}}", JINJA_TOKEN_VARIABLE_END);
        else
            status = lex_inside(lexer, "%}", JINJA_TOKEN_BLOCK_END);
    }
    if (!status)
        status = add_token(lexer, JINJA_TOKEN_END, "", 0);
    return status;
}

kvern_status jinja_lex(struct jinja_arena *arena, const char *text, size_t n_bytes,
                       struct jinja_tokens *tokens, kvern_error *err)
{
    struct lexer lexer = {
        .arena = arena, .tokens = tokens, .line = 1, .is_line_start = true, .err = err};
    char *copy = jinja_arena_take(arena, n_bytes + 1, 1);
    size_t n = 0;

    if (!copy)
        return no_memory(&lexer);
    if (!utf8_is_valid(text, n_bytes))
        return fail(err, KVERN_FORMAT, "the chat template is not valid UTF-8");
    for (size_t i = 0; i < n_bytes; i++) {
        if (text[i] == '\r' && i + 1 < n_bytes && text[i + 1] == '\n')
            continue;
        copy[n++] = text[i];
        if (text[i] == '\r')
            copy[n - 1] = '\n';
    }
    if (n > 0 && copy[n - 1] == '\n')
        n--; /* keep_trailing_newline is off */
    lexer.text = copy;
    lexer.n_bytes = n;
    return lex_all(&lexer);
}
