/* SPDX-License-Identifier: Apache-2.0
 *
 * Expressions of a chat template -> tree, with jinja2's precedence, from loosest to tightest:
 * a if b else c, or, and, not, comparisons, + -, ~, * / // %, **, unary - +, then . [] () | is.
 */
#include "text/jinja_ast.h"

#include <string.h>

static struct jinja_node *parse_or(struct jinja_parser *parser);
static struct jinja_node *parse_unary(struct jinja_parser *parser, bool with_filter);

static struct jinja_node *new_pair(struct jinja_parser *parser, enum jinja_node_kind kind,
                                   struct jinja_node *a, struct jinja_node *b)
{
    struct jinja_node *node = jinja_node_new(parser, kind);

    if (node) {
        if (a)
            node->line = a->line;
        node->a = a;
        node->b = b;
    }
    return node;
}

struct jinja_node *jinja_parse_expression(struct jinja_parser *parser, bool with_conditional)
{
    struct jinja_node *node = NULL;

    if (!jinja_enter(parser))
        return NULL;
    node = parse_or(parser);
    while (with_conditional && jinja_skip_name(parser, "if")) {
        node = new_pair(parser, JINJA_NODE_CONDITIONAL, node, parse_or(parser));
        if (node && jinja_skip_name(parser, "else"))
            node->c = jinja_parse_expression(parser, true);
    }
    parser->depth--;
    return node;
}

/* Where a tuple may end: jinja2's is_tuple_end. */
static bool at_tuple_end(const struct jinja_parser *parser)
{
    enum jinja_token_kind kind = parser->token->kind;

    return kind == JINJA_TOKEN_VARIABLE_END || kind == JINJA_TOKEN_BLOCK_END ||
           kind == JINJA_TOKEN_END || jinja_at_operator(parser, ")");
}

static struct jinja_node *parse_tuple_of(struct jinja_parser *parser, bool with_conditional,
                                         bool is_bracketed)
{
    struct jinja_node *first = NULL;
    struct jinja_node *tuple = NULL;

    if (is_bracketed && at_tuple_end(parser))
        return jinja_node_new(parser, JINJA_NODE_TUPLE);
    first = jinja_parse_expression(parser, with_conditional);
    while (!parser->status && jinja_skip_operator(parser, ",")) {
        if (!tuple) {
            tuple = jinja_node_new(parser, JINJA_NODE_TUPLE);
            if (tuple)
                jinja_node_add(parser, &tuple->items, &tuple->n_items, first);
        }
        if (at_tuple_end(parser) || jinja_at_operator(parser, "="))
            break;
        struct jinja_node *item = jinja_parse_expression(parser, with_conditional);
        if (tuple)
            jinja_node_add(parser, &tuple->items, &tuple->n_items, item);
    }
    return tuple ? tuple : first;
}

struct jinja_node *jinja_parse_tuple(struct jinja_parser *parser, bool with_conditional)
{
    return parse_tuple_of(parser, with_conditional, false);
}

static struct jinja_node *parse_target_item(struct jinja_parser *parser, bool with_attribute)
{
    struct jinja_node *node = NULL;

    if (jinja_skip_operator(parser, "(")) {
        if (!jinja_enter(parser))
            return NULL;
        node = jinja_parse_target(parser, false);
        parser->depth--;
        jinja_expect_operator(parser, ")");
        return node;
    }
    node = jinja_node_new(parser, JINJA_NODE_NAME);
    if (!node)
        return NULL;
    node->name = jinja_expect_name(parser);
    static const char *const reserved[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (!parser->status && jinja_text_is(node->name, reserved[i]))
            jinja_parse_fail(parser, KVERN_FORMAT, "cannot assign to '%s'", reserved[i]);
    }
    if (with_attribute && jinja_skip_operator(parser, ".")) {
        node = new_pair(parser, JINJA_NODE_ATTRIBUTE, node, NULL);
        if (node)
            node->name = jinja_expect_name(parser);
    }
    return node;
}

struct jinja_node *jinja_parse_target(struct jinja_parser *parser, bool with_attribute)
{
    struct jinja_node *first = parse_target_item(parser, with_attribute);
    struct jinja_node *tuple = NULL;

    while (!parser->status && jinja_skip_operator(parser, ",")) {
        if (!tuple) {
            tuple = jinja_node_new(parser, JINJA_NODE_TUPLE);
            if (tuple)
                jinja_node_add(parser, &tuple->items, &tuple->n_items, first);
        }
        if (parser->token->kind != JINJA_TOKEN_NAME && !jinja_at_operator(parser, "("))
            break;
        if (jinja_at_name(parser, "in"))
            break;
        struct jinja_node *item = parse_target_item(parser, with_attribute);
        if (tuple)
            jinja_node_add(parser, &tuple->items, &tuple->n_items, item);
    }
    return tuple ? tuple : first;
}

static struct jinja_node *parse_literal(struct jinja_parser *parser)
{
    const struct jinja_token *token = parser->token;
    struct jinja_node *node = jinja_node_new(parser, JINJA_NODE_STRING);

    if (!node)
        return NULL;
    jinja_next(parser);
    if (token->kind == JINJA_TOKEN_INTEGER) {
        node->kind = JINJA_NODE_INTEGER;
        node->integer = token->integer;
        return node;
    }
    if (token->kind == JINJA_TOKEN_FLOAT) {
        node->kind = JINJA_NODE_FLOAT;
        node->number = token->number;
        return node;
    }
    node->name = token->text;
    while (parser->token->kind == JINJA_TOKEN_STRING) { /* 'a' 'b' is 'ab' */
        struct jinja_text more = parser->token->text;
        char *joined = jinja_arena_take(parser->arena, node->name.n_bytes + more.n_bytes + 1, 1);

        if (!joined)
            return jinja_parse_fail(parser, KVERN_MEMORY, "no memory for a string");
        memcpy(joined, node->name.data, node->name.n_bytes);
        memcpy(joined + node->name.n_bytes, more.data, more.n_bytes);
        node->name = (struct jinja_text){joined, node->name.n_bytes + more.n_bytes};
        jinja_next(parser);
    }
    return node;
}

static struct jinja_node *parse_name(struct jinja_parser *parser)
{
    struct jinja_text name = parser->token->text;
    struct jinja_node *node = jinja_node_new(parser, JINJA_NODE_NAME);

    jinja_next(parser);
    if (!node)
        return NULL;
    node->name = name;
    if (jinja_text_is(name, "true") || jinja_text_is(name, "True")) {
        node->kind = JINJA_NODE_BOOLEAN;
        node->op = 1;
    } else if (jinja_text_is(name, "false") || jinja_text_is(name, "False")) {
        node->kind = JINJA_NODE_BOOLEAN;
    } else if (jinja_text_is(name, "none") || jinja_text_is(name, "None")) {
        node->kind = JINJA_NODE_CONSTANT_NONE;
    }
    return node;
}

/* "[a, b]" or "{a: b}", the cursor on its bracket. */
static struct jinja_node *parse_container(struct jinja_parser *parser)
{
    bool is_dict = jinja_at_operator(parser, "{");
    const char *close = is_dict ? "}" : "]";
    struct jinja_node *node = jinja_node_new(parser, is_dict ? JINJA_NODE_DICT : JINJA_NODE_LIST);

    jinja_next(parser);
    while (node && !parser->status && !jinja_at_operator(parser, close)) {
        if (node->n_items > 0)
            jinja_expect_operator(parser, ",");
        if (jinja_at_operator(parser, close))
            break;
        struct jinja_node *item = jinja_parse_expression(parser, true);
        jinja_node_add(parser, &node->items, &node->n_items, item);
        if (is_dict) {
            jinja_expect_operator(parser, ":");
            item = jinja_parse_expression(parser, true);
            jinja_node_add(parser, &node->items, &node->n_items, item);
        }
    }
    jinja_expect_operator(parser, close);
    return node;
}

static struct jinja_node *parse_primary(struct jinja_parser *parser)
{
    enum jinja_token_kind kind = parser->token->kind;
    struct jinja_node *node = NULL;

    if (kind == JINJA_TOKEN_NAME)
        return parse_name(parser);
    if (kind == JINJA_TOKEN_STRING || kind == JINJA_TOKEN_INTEGER || kind == JINJA_TOKEN_FLOAT)
        return parse_literal(parser);
    if (jinja_at_operator(parser, "[") || jinja_at_operator(parser, "{"))
        return parse_container(parser);
    if (jinja_skip_operator(parser, "(")) {
        node = parse_tuple_of(parser, true, true);
        jinja_expect_operator(parser, ")");
        return node;
    }
    return jinja_parse_fail(
        parser, KVERN_FORMAT, "'%.*s' found where a value was expected",
        (int)(parser->token->text.n_bytes > 40 ? 40 : parser->token->text.n_bytes),
        parser->token->text.data);
}

/* "(a, b=c)" into items and keywords of node, the cursor on '('. */
static void parse_arguments(struct jinja_parser *parser, struct jinja_node *node)
{
    jinja_expect_operator(parser, "(");
    while (!parser->status && !jinja_at_operator(parser, ")")) {
        const struct jinja_token *token = parser->token;

        if (jinja_at_operator(parser, "*") || jinja_at_operator(parser, "**")) {
            jinja_parse_fail(parser, KVERN_UNSUPPORTED, "'*' arguments are not supported");
        } else if (token->kind == JINJA_TOKEN_NAME && token[1].kind == JINJA_TOKEN_OPERATOR &&
                   jinja_text_is(token[1].text, "=")) {
            struct jinja_node *keyword = jinja_node_new(parser, JINJA_NODE_KEYWORD);

            if (!keyword)
                return;
            keyword->name = token->text;
            jinja_next(parser);
            jinja_next(parser);
            keyword->a = jinja_parse_expression(parser, true);
            jinja_node_add(parser, &node->keywords, &node->n_keywords, keyword);
        } else {
            if (node->n_keywords > 0)
                jinja_parse_fail(parser, KVERN_FORMAT, "a positional argument follows a named one");
            struct jinja_node *item = jinja_parse_expression(parser, true);
            jinja_node_add(parser, &node->items, &node->n_items, item);
        }
        if (!jinja_at_operator(parser, ")"))
            jinja_expect_operator(parser, ",");
    }
    jinja_expect_operator(parser, ")");
}

/* What stands in [ ]: an index, a slice, or a tuple. The cursor is after '['. */
static struct jinja_node *parse_subscript(struct jinja_parser *parser, struct jinja_node *subject)
{
    struct jinja_node *parts[3] = {NULL, NULL, NULL};
    struct jinja_node *node = NULL;
    size_t n_colons = 0;

    while (!parser->status && !jinja_at_operator(parser, "]")) {
        if (jinja_at_operator(parser, ":") && n_colons < 2) {
            jinja_next(parser);
            n_colons++;
        } else if (!parts[n_colons]) {
            parts[n_colons] = jinja_parse_expression(parser, true);
        } else {
            break;
        }
    }
    jinja_expect_operator(parser, "]");
    if (n_colons == 0) {
        if (!parts[0])
            return jinja_parse_fail(parser, KVERN_FORMAT, "an index is missing in []");
        return new_pair(parser, JINJA_NODE_ITEM, subject, parts[0]);
    }
    node = new_pair(parser, JINJA_NODE_SLICE, subject, NULL);
    for (size_t i = 0; node && i < 3; i++)
        jinja_node_add(parser, &node->items, &node->n_items, parts[i]);
    return node;
}

static struct jinja_node *parse_postfix(struct jinja_parser *parser, struct jinja_node *node)
{
    while (!parser->status) {
        if (jinja_skip_operator(parser, ".")) {
            if (parser->token->kind == JINJA_TOKEN_INTEGER) {
                node = new_pair(parser, JINJA_NODE_ITEM, node, parse_literal(parser));
            } else {
                node = new_pair(parser, JINJA_NODE_ATTRIBUTE, node, NULL);
                if (node)
                    node->name = jinja_expect_name(parser);
            }
        } else if (jinja_skip_operator(parser, "[")) {
            node = parse_subscript(parser, node);
        } else if (jinja_at_operator(parser, "(")) {
            node = new_pair(parser, JINJA_NODE_CALL, node, NULL);
            if (node)
                parse_arguments(parser, node);
        } else {
            break;
        }
    }
    return node;
}

struct jinja_node *jinja_parse_filters(struct jinja_parser *parser, struct jinja_node *subject,
                                       bool is_started)
{
    struct jinja_node *node = subject;

    while (!parser->status && (is_started || jinja_skip_operator(parser, "|"))) {
        is_started = false;
        node = new_pair(parser, JINJA_NODE_FILTER, node, NULL);
        if (!node)
            break;
        node->line = parser->token->line;
        node->name = jinja_expect_name(parser);
        if (jinja_at_operator(parser, "("))
            parse_arguments(parser, node);
    }
    return node;
}

/* jinja2 lets a test take one argument without brackets: "x is divisibleby 3". */
static bool at_bare_argument(const struct jinja_parser *parser)
{
    enum jinja_token_kind kind = parser->token->kind;

    if (kind == JINJA_TOKEN_NAME)
        return !jinja_at_name(parser, "else") && !jinja_at_name(parser, "or") &&
               !jinja_at_name(parser, "and") && !jinja_at_name(parser, "if") &&
               !jinja_at_name(parser, "is") && !jinja_at_name(parser, "in") &&
               !jinja_at_name(parser, "not");
    return kind == JINJA_TOKEN_STRING || kind == JINJA_TOKEN_INTEGER || kind == JINJA_TOKEN_FLOAT ||
           jinja_at_operator(parser, "[") || jinja_at_operator(parser, "{");
}

static struct jinja_node *parse_test(struct jinja_parser *parser, struct jinja_node *subject)
{
    bool is_negated = jinja_skip_name(parser, "not");
    struct jinja_node *node = new_pair(parser, JINJA_NODE_TEST, subject, NULL);

    if (!node)
        return NULL;
    node->name = jinja_expect_name(parser);
    if (jinja_at_operator(parser, "(")) {
        parse_arguments(parser, node);
    } else if (at_bare_argument(parser)) {
        struct jinja_node *argument = parse_postfix(parser, parse_primary(parser));

        jinja_node_add(parser, &node->items, &node->n_items, argument);
    }
    return is_negated ? new_pair(parser, JINJA_NODE_NOT, node, NULL) : node;
}

static struct jinja_node *parse_filter_expression(struct jinja_parser *parser,
                                                  struct jinja_node *node)
{
    while (!parser->status) {
        if (jinja_at_operator(parser, "|"))
            node = jinja_parse_filters(parser, node, false);
        else if (jinja_skip_name(parser, "is"))
            node = parse_test(parser, node);
        else if (jinja_at_operator(parser, "("))
            node = parse_postfix(parser, node);
        else
            break;
    }
    return node;
}

static struct jinja_node *parse_unary(struct jinja_parser *parser, bool with_filter)
{
    struct jinja_node *node = NULL;

    if (!jinja_enter(parser))
        return NULL;
    if (jinja_skip_operator(parser, "-"))
        node = new_pair(parser, JINJA_NODE_NEGATE, parse_unary(parser, false), NULL);
    else if (jinja_skip_operator(parser, "+"))
        node = new_pair(parser, JINJA_NODE_PLUS, parse_unary(parser, false), NULL);
    else
        node = parse_primary(parser);
    node = parse_postfix(parser, node);
    if (with_filter)
        node = parse_filter_expression(parser, node);
    parser->depth--;
    return node;
}

static struct jinja_node *new_binary(struct jinja_parser *parser, enum jinja_operator op,
                                     struct jinja_node *a, struct jinja_node *b)
{
    struct jinja_node *node = new_pair(parser, JINJA_NODE_BINARY, a, b);

    if (node)
        node->op = (int)op;
    return node;
}

static struct jinja_node *parse_power(struct jinja_parser *parser)
{
    struct jinja_node *node = parse_unary(parser, true);

    while (!parser->status && jinja_skip_operator(parser, "**"))
        node = new_binary(parser, JINJA_POWER, node, parse_unary(parser, true));
    return node;
}

static struct jinja_node *parse_product(struct jinja_parser *parser)
{
    struct jinja_node *node = parse_power(parser);

    while (!parser->status) {
        if (jinja_skip_operator(parser, "*"))
            node = new_binary(parser, JINJA_MULTIPLY, node, parse_power(parser));
        else if (jinja_skip_operator(parser, "/"))
            node = new_binary(parser, JINJA_DIVIDE, node, parse_power(parser));
        else if (jinja_skip_operator(parser, "//"))
            node = new_binary(parser, JINJA_FLOOR_DIVIDE, node, parse_power(parser));
        else if (jinja_skip_operator(parser, "%"))
            node = new_binary(parser, JINJA_MODULO, node, parse_power(parser));
        else
            break;
    }
    return node;
}

static struct jinja_node *parse_concatenation(struct jinja_parser *parser)
{
    struct jinja_node *first = parse_product(parser);
    struct jinja_node *node = NULL;

    while (!parser->status && jinja_skip_operator(parser, "~")) {
        if (!node) {
            node = jinja_node_new(parser, JINJA_NODE_CONCATENATE);
            if (node)
                jinja_node_add(parser, &node->items, &node->n_items, first);
        }
        struct jinja_node *item = parse_product(parser);
        if (node)
            jinja_node_add(parser, &node->items, &node->n_items, item);
    }
    return node ? node : first;
}

static struct jinja_node *parse_sum(struct jinja_parser *parser)
{
    struct jinja_node *node = parse_concatenation(parser);

    while (!parser->status) {
        if (jinja_skip_operator(parser, "+"))
            node = new_binary(parser, JINJA_ADD, node, parse_concatenation(parser));
        else if (jinja_skip_operator(parser, "-"))
            node = new_binary(parser, JINJA_SUBTRACT, node, parse_concatenation(parser));
        else
            break;
    }
    return node;
}

/* The comparison at the cursor, passed; -1 if there is none. */
static int take_comparison(struct jinja_parser *parser)
{
    static const struct {
        const char *text;
        enum jinja_operator op;
    } comparisons[] = {{"==", JINJA_EQUAL},      {"!=", JINJA_NOT_EQUAL},     {"<", JINJA_LESS},
                       {"<=", JINJA_LESS_EQUAL}, {">=", JINJA_GREATER_EQUAL}, {">", JINJA_GREATER}};

    for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++) {
        if (jinja_skip_operator(parser, comparisons[i].text))
            return (int)comparisons[i].op;
    }
    if (jinja_skip_name(parser, "in"))
        return JINJA_IN;
    if (jinja_at_name(parser, "not") && parser->token[1].kind == JINJA_TOKEN_NAME &&
        jinja_text_is(parser->token[1].text, "in")) {
        jinja_next(parser);
        jinja_next(parser);
        return JINJA_NOT_IN;
    }
    return -1;
}

static struct jinja_node *parse_comparison(struct jinja_parser *parser)
{
    struct jinja_node *first = parse_sum(parser);
    struct jinja_node *node = NULL;
    int op;

    while (!parser->status && (op = take_comparison(parser)) >= 0) {
        struct jinja_node *operand = new_pair(parser, JINJA_NODE_OPERAND, parse_sum(parser), NULL);

        if (!node)
            node = new_pair(parser, JINJA_NODE_COMPARE, first, NULL);
        if (!node || !operand)
            return NULL;
        operand->op = op;
        jinja_node_add(parser, &node->items, &node->n_items, operand);
    }
    return node ? node : first;
}

static struct jinja_node *parse_not(struct jinja_parser *parser)
{
    struct jinja_node *node = NULL;

    if (!jinja_at_name(parser, "not"))
        return parse_comparison(parser);
    if (!jinja_enter(parser))
        return NULL;
    jinja_next(parser);
    node = new_pair(parser, JINJA_NODE_NOT, parse_not(parser), NULL);
    parser->depth--;
    return node;
}

static struct jinja_node *parse_and(struct jinja_parser *parser)
{
    struct jinja_node *node = parse_not(parser);

    while (!parser->status && jinja_skip_name(parser, "and"))
        node = new_pair(parser, JINJA_NODE_AND, node, parse_not(parser));
    return node;
}

static struct jinja_node *parse_or(struct jinja_parser *parser)
{
    struct jinja_node *node = parse_and(parser);

    while (!parser->status && jinja_skip_name(parser, "or"))
        node = new_pair(parser, JINJA_NODE_OR, node, parse_and(parser));
    return node;
}
