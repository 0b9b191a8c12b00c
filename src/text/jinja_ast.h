/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens and syntax tree of a chat template: lexer -> parser -> interpreter. All memory is the
 * template's arena; after the parse nothing here changes.
 */
#ifndef KVERN_TEXT_JINJA_AST_H
#define KVERN_TEXT_JINJA_AST_H

#include "kvern.h"
#include "text/jinja_arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jinja_text {
    const char *data;
    size_t n_bytes;
};

bool jinja_text_is(struct jinja_text text, const char *word);

enum jinja_token_kind {
    JINJA_TOKEN_END,
    JINJA_TOKEN_DATA,
    JINJA_TOKEN_BLOCK_BEGIN,
    JINJA_TOKEN_BLOCK_END,
    JINJA_TOKEN_VARIABLE_BEGIN,
    JINJA_TOKEN_VARIABLE_END,
    JINJA_TOKEN_NAME,
    JINJA_TOKEN_STRING, /* text is the decoded value */
    JINJA_TOKEN_INTEGER,
    JINJA_TOKEN_FLOAT,
    JINJA_TOKEN_OPERATOR, /* text is the operator */
};

struct jinja_token {
    enum jinja_token_kind kind;
    int line;
    struct jinja_text text;
    int64_t integer;
    double number;
};

struct jinja_tokens {
    struct jinja_token *items; /* [n], the last one is JINJA_TOKEN_END */
    size_t n;
    size_t capacity;
};

/* Cuts a whole template into tokens with Jinja's whitespace rules applied. */
kvern_status jinja_lex(struct jinja_arena *arena, const char *text, size_t n_bytes,
                       struct jinja_tokens *tokens, kvern_error *err);

enum jinja_node_kind {
    /* expressions */
    JINJA_NODE_CONSTANT_NONE,
    JINJA_NODE_BOOLEAN,     /* op */
    JINJA_NODE_INTEGER,     /* integer */
    JINJA_NODE_FLOAT,       /* number */
    JINJA_NODE_STRING,      /* name */
    JINJA_NODE_NAME,        /* name */
    JINJA_NODE_LIST,        /* items */
    JINJA_NODE_TUPLE,       /* items */
    JINJA_NODE_DICT,        /* items: key, value, key, value */
    JINJA_NODE_ATTRIBUTE,   /* a . name */
    JINJA_NODE_ITEM,        /* a [ b ] */
    JINJA_NODE_SLICE,       /* a [ items: begin, end, step; each may be NULL ] */
    JINJA_NODE_CALL,        /* a ( items, keywords ) */
    JINJA_NODE_FILTER,      /* a | name ( items, keywords ); a is NULL in a filter block */
    JINJA_NODE_TEST,        /* a is name ( items, keywords ) */
    JINJA_NODE_NOT,         /* a */
    JINJA_NODE_AND,         /* a, b */
    JINJA_NODE_OR,          /* a, b */
    JINJA_NODE_NEGATE,      /* a */
    JINJA_NODE_PLUS,        /* a */
    JINJA_NODE_BINARY,      /* a op b */
    JINJA_NODE_COMPARE,     /* a, then items, each a NODE_OPERAND */
    JINJA_NODE_OPERAND,     /* op a */
    JINJA_NODE_CONCATENATE, /* items */
    JINJA_NODE_CONDITIONAL, /* a if b else c; c may be NULL */
    JINJA_NODE_KEYWORD,     /* name = a, in a call's keywords; a parameter and its default */
    /* statements */
    JINJA_NODE_DATA,         /* name: the text */
    JINJA_NODE_PRINT,        /* a */
    JINJA_NODE_BODY,         /* items */
    JINJA_NODE_IF,           /* items: condition, body, condition, body; b: else body or NULL */
    JINJA_NODE_FOR,          /* for a in b if c; items[0] body, items[1] else body or NULL */
    JINJA_NODE_SET,          /* a = b */
    JINJA_NODE_SET_BLOCK,    /* a = c with filters b (or NULL) */
    JINJA_NODE_MACRO,        /* name, keywords: parameters, c: body */
    JINJA_NODE_CALL_BLOCK,   /* a: the call, keywords: parameters of caller, c: body */
    JINJA_NODE_FILTER_BLOCK, /* b: filters, c: body */
    JINJA_NODE_WITH,         /* keywords: a = b (targets and values), c: body */
    JINJA_NODE_SCOPE,        /* c: a generation block's body, in a scope of its own */
    JINJA_NODE_BREAK,
    JINJA_NODE_CONTINUE,
};

enum jinja_operator {
    JINJA_ADD,
    JINJA_SUBTRACT,
    JINJA_MULTIPLY,
    JINJA_DIVIDE,
    JINJA_FLOOR_DIVIDE,
    JINJA_MODULO,
    JINJA_POWER,
    JINJA_EQUAL,
    JINJA_NOT_EQUAL,
    JINJA_LESS,
    JINJA_LESS_EQUAL,
    JINJA_GREATER,
    JINJA_GREATER_EQUAL,
    JINJA_IN,
    JINJA_NOT_IN,
};

/* One shape for all nodes; the list above says which fields a kind uses. */
struct jinja_node {
    enum jinja_node_kind kind;
    int op; /* enum jinja_operator, or a boolean */
    int line;
    struct jinja_text name;
    int64_t integer;
    double number;
    struct jinja_node *a;
    struct jinja_node *b;
    struct jinja_node *c;
    struct jinja_node **items; /* [n_items] */
    size_t n_items;
    struct jinja_node **keywords; /* [n_keywords] of JINJA_NODE_KEYWORD */
    size_t n_keywords;
};

struct jinja_template {
    struct jinja_arena arena;
    struct jinja_node *body;
};

/* The state of a parse. Failures are sticky: after the first one `status` stays, every function
 * gives NULL and the cursor stands on the end token, so callers need few checks. */
struct jinja_parser {
    struct jinja_arena *arena;
    const struct jinja_token *token; /* the current one */
    int depth;
    int n_loops; /* enclosing for loops, for break and continue */
    kvern_status status;
    kvern_error *err;
};

/* jinja_parser.c, used by jinja_expression.c */
void *jinja_parse_fail(struct jinja_parser *parser, kvern_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
struct jinja_node *jinja_node_new(struct jinja_parser *parser, enum jinja_node_kind kind);
/* Adds a node to a list of nodes in the arena. */
void jinja_node_add(struct jinja_parser *parser, struct jinja_node ***items, size_t *n_items,
                    struct jinja_node *item);
bool jinja_at_operator(const struct jinja_parser *parser, const char *operator_text);
bool jinja_at_name(const struct jinja_parser *parser, const char *name);
void jinja_next(struct jinja_parser *parser);
bool jinja_skip_operator(struct jinja_parser *parser, const char *operator_text);
bool jinja_skip_name(struct jinja_parser *parser, const char *name);
void jinja_expect_operator(struct jinja_parser *parser, const char *operator_text);
struct jinja_text jinja_expect_name(struct jinja_parser *parser);
/* false (and a failure) when nesting is too deep; pairs with parser->depth--. */
bool jinja_enter(struct jinja_parser *parser);

/* jinja_expression.c */
struct jinja_node *jinja_parse_expression(struct jinja_parser *parser, bool with_conditional);
/* Expressions separated by commas: one alone is itself, else a tuple. */
struct jinja_node *jinja_parse_tuple(struct jinja_parser *parser, bool with_conditional);
/* Names, or a tuple of targets, or name.attribute. */
struct jinja_node *jinja_parse_target(struct jinja_parser *parser, bool with_attribute);
/* "name(args) | name ..." after the first '|' or a block's `filter`; a is NULL in the innermost. */
struct jinja_node *jinja_parse_filters(struct jinja_parser *parser, struct jinja_node *subject,
                                       bool is_started);

#endif
