/* SPDX-License-Identifier: Apache-2.0
 *
 * Statements of a chat template -> tree. Holds the parser's small tools; expressions are in
 * jinja_expression.c. Failures are sticky (see struct jinja_parser), and nesting is bounded, so no
 * template can exhaust the C stack.
 */
#include "text/jinja.h"
#include "text/jinja_ast.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A template of a megabyte is no chat template; the arena bound follows from it. */
enum { MAX_TEMPLATE_BYTES = 1 << 20, MAX_TREE_BYTES = 256 << 20, MAX_NESTING = 100 };

static const struct jinja_token end_token = {.kind = JINJA_TOKEN_END};

void *jinja_parse_fail(struct jinja_parser *parser, kvern_status status, const char *format, ...)
{
    if (!parser->status) {
        char message[256];
        va_list args;

        va_start(args, format);
        vsnprintf(message, sizeof message, format, args);
        va_end(args);
        parser->status =
            fail(parser->err, status, "chat template line %d: %s", parser->token->line, message);
        parser->token = &end_token;
    }
    return NULL;
}

struct jinja_node *jinja_node_new(struct jinja_parser *parser, enum jinja_node_kind kind)
{
    struct jinja_node *node = jinja_arena_take(parser->arena, 1, sizeof *node);

    if (!node)
        return jinja_parse_fail(parser, KVERN_MEMORY, "no memory for the template's tree");
    node->kind = kind;
    node->line = parser->token->line;
    return node;
}

void jinja_node_add(struct jinja_parser *parser, struct jinja_node ***items, size_t *n_items,
                    struct jinja_node *item)
{
    size_t n = *n_items;

    if (n == 0 || (n >= 4 && (n & (n - 1)) == 0)) { /* capacities 4, 8, 16, ... */
        void *grown = jinja_arena_grow(parser->arena, *items, n * sizeof(struct jinja_node *),
                                       (n == 0 ? 4 : n * 2) * sizeof(struct jinja_node *));
        if (!grown) {
            jinja_parse_fail(parser, KVERN_MEMORY, "no memory for the template's tree");
            return;
        }
        *items = grown;
    }
    (*items)[(*n_items)++] = item;
}

bool jinja_text_is(struct jinja_text text, const char *word)
{
    return text.n_bytes == strlen(word) && memcmp(text.data, word, text.n_bytes) == 0;
}

bool jinja_at_operator(const struct jinja_parser *parser, const char *operator_text)
{
    return parser->token->kind == JINJA_TOKEN_OPERATOR &&
           jinja_text_is(parser->token->text, operator_text);
}

bool jinja_at_name(const struct jinja_parser *parser, const char *name)
{
    return parser->token->kind == JINJA_TOKEN_NAME && jinja_text_is(parser->token->text, name);
}

void jinja_next(struct jinja_parser *parser)
{
    if (parser->token->kind != JINJA_TOKEN_END)
        parser->token++;
}

bool jinja_skip_operator(struct jinja_parser *parser, const char *operator_text)
{
    bool is_there = jinja_at_operator(parser, operator_text);

    if (is_there)
        jinja_next(parser);
    return is_there;
}

bool jinja_skip_name(struct jinja_parser *parser, const char *name)
{
    bool is_there = jinja_at_name(parser, name);

    if (is_there)
        jinja_next(parser);
    return is_there;
}

/* What stands at the cursor, for messages. */
static int shown_bytes(const struct jinja_parser *parser)
{
    return parser->token->text.n_bytes > 40 ? 40 : (int)parser->token->text.n_bytes;
}

static const char *shown(const struct jinja_parser *parser)
{
    return parser->token->kind == JINJA_TOKEN_END ? "the end" : parser->token->text.data;
}

static void refuse_token(struct jinja_parser *parser, const char *wanted)
{
    bool is_end = parser->token->kind == JINJA_TOKEN_END;

    jinja_parse_fail(parser, KVERN_FORMAT, "'%.*s' found where %s was expected",
                     is_end ? 7 : shown_bytes(parser), shown(parser), wanted);
}

void jinja_expect_operator(struct jinja_parser *parser, const char *operator_text)
{
    char wanted[16];

    if (!jinja_skip_operator(parser, operator_text)) {
        snprintf(wanted, sizeof wanted, "'%s'", operator_text);
        refuse_token(parser, wanted);
    }
}

struct jinja_text jinja_expect_name(struct jinja_parser *parser)
{
    struct jinja_text name = parser->token->text;

    if (parser->token->kind == JINJA_TOKEN_NAME)
        jinja_next(parser);
    else
        refuse_token(parser, "a name");
    return name;
}

bool jinja_enter(struct jinja_parser *parser)
{
    if (++parser->depth <= MAX_NESTING)
        return true;
    jinja_parse_fail(parser, KVERN_LIMIT, "nested more than %d deep", MAX_NESTING);
    return false;
}

static void expect_block_end(struct jinja_parser *parser)
{
    if (parser->token->kind == JINJA_TOKEN_BLOCK_END)
        jinja_next(parser);
    else
        refuse_token(parser, "'%}'");
}

static struct jinja_node *parse_statement(struct jinja_parser *parser);

/* Statements up to "{% stop" where stop is one of the NULL-ended names (the cursor is then on that
 * name), or with `stops` NULL up to the end of the template. */
static struct jinja_node *parse_body(struct jinja_parser *parser, const char *const *stops)
{
    struct jinja_node *body = jinja_node_new(parser, JINJA_NODE_BODY);
    struct jinja_node *node = NULL;

    while (!parser->status) {
        const struct jinja_token *token = parser->token;

        if (token->kind == JINJA_TOKEN_END) {
            if (stops)
                jinja_parse_fail(parser, KVERN_FORMAT, "the template ends before '{%% %s %%}'",
                                 stops[0]);
            break;
        }
        jinja_next(parser);
        if (token->kind == JINJA_TOKEN_DATA) {
            node = jinja_node_new(parser, JINJA_NODE_DATA);
            if (node)
                node->name = token->text;
        } else if (token->kind == JINJA_TOKEN_VARIABLE_BEGIN) {
            node = jinja_node_new(parser, JINJA_NODE_PRINT);
            if (node)
                node->a = jinja_parse_tuple(parser, true);
            if (parser->token->kind == JINJA_TOKEN_VARIABLE_END)
                jinja_next(parser);
            else
                refuse_token(parser, "'}}'");
        } else {
            for (size_t i = 0; stops && stops[i]; i++) {
                if (jinja_at_name(parser, stops[i]))
                    return body;
            }
            node = parse_statement(parser);
        }
        if (node && body)
            jinja_node_add(parser, &body->items, &body->n_items, node);
    }
    return body;
}

/* A body, then its end tag is passed. */
static struct jinja_node *parse_body_to(struct jinja_parser *parser, const char *end)
{
    const char *const stops[] = {end, NULL};
    struct jinja_node *body;

    expect_block_end(parser);
    body = parse_body(parser, stops);
    jinja_next(parser);
    return body;
}

static struct jinja_node *parse_if(struct jinja_parser *parser)
{
    static const char *const stops[] = {"endif", "elif", "else", NULL};
    struct jinja_node *node = jinja_node_new(parser, JINJA_NODE_IF);

    while (node && !parser->status) {
        struct jinja_node *condition = jinja_parse_tuple(parser, false);

        expect_block_end(parser);
        jinja_node_add(parser, &node->items, &node->n_items, condition);
        jinja_node_add(parser, &node->items, &node->n_items, parse_body(parser, stops));
        if (jinja_skip_name(parser, "elif"))
            continue;
        if (jinja_skip_name(parser, "else"))
            node->b = parse_body_to(parser, "endif");
        else
            jinja_next(parser);
        break;
    }
    return node;
}

static struct jinja_node *parse_for(struct jinja_parser *parser)
{
    static const char *const stops[] = {"endfor", "else", NULL};
    struct jinja_node *node = jinja_node_new(parser, JINJA_NODE_FOR);

    if (!node)
        return NULL;
    node->a = jinja_parse_target(parser, false);
    if (!jinja_skip_name(parser, "in"))
        refuse_token(parser, "'in'");
    node->b = jinja_parse_tuple(parser, false);
    if (jinja_skip_name(parser, "if"))
        node->c = jinja_parse_expression(parser, true);
    if (jinja_at_name(parser, "recursive"))
        jinja_parse_fail(parser, KVERN_UNSUPPORTED, "recursive loops are not supported");
    expect_block_end(parser);
    parser->n_loops++;
    jinja_node_add(parser, &node->items, &node->n_items, parse_body(parser, stops));
    parser->n_loops--;
    if (jinja_skip_name(parser, "else"))
        jinja_node_add(parser, &node->items, &node->n_items, parse_body_to(parser, "endfor"));
    else
        jinja_next(parser);
    return node;
}

static struct jinja_node *parse_set(struct jinja_parser *parser)
{
    struct jinja_node *node = jinja_node_new(parser, JINJA_NODE_SET);

    if (!node)
        return NULL;
    node->a = jinja_parse_target(parser, true);
    if (jinja_skip_operator(parser, "=")) {
        node->b = jinja_parse_tuple(parser, true);
        return node;
    }
    node->kind = JINJA_NODE_SET_BLOCK;
    if (jinja_at_operator(parser, "|"))
        node->b = jinja_parse_filters(parser, NULL, false);
    node->c = parse_body_to(parser, "endset");
    return node;
}

/* "(a, b=1)": the parameters of a macro or of a call block's caller. */
static void parse_parameters(struct jinja_parser *parser, struct jinja_node *node)
{
    jinja_expect_operator(parser, "(");
    while (!parser->status && !jinja_at_operator(parser, ")")) {
        struct jinja_node *parameter = jinja_node_new(parser, JINJA_NODE_KEYWORD);

        if (!parameter)
            return;
        parameter->name = jinja_expect_name(parser);
        if (jinja_skip_operator(parser, "="))
            parameter->a = jinja_parse_expression(parser, true);
        else if (node->n_keywords > 0 && node->keywords[node->n_keywords - 1]->a)
            jinja_parse_fail(parser, KVERN_FORMAT,
                             "parameter '%.*s' without a default follows one with a default",
                             (int)parameter->name.n_bytes, parameter->name.data);
        jinja_node_add(parser, &node->keywords, &node->n_keywords, parameter);
        if (!jinja_at_operator(parser, ")"))
            jinja_expect_operator(parser, ",");
    }
    jinja_expect_operator(parser, ")");
}

/* A body in which break and continue have no loop to leave: it runs on its own. */
static struct jinja_node *parse_own_body(struct jinja_parser *parser, const char *end)
{
    int n_loops = parser->n_loops;
    struct jinja_node *body;

    parser->n_loops = 0;
    body = parse_body_to(parser, end);
    parser->n_loops = n_loops;
    return body;
}

static struct jinja_node *parse_macro(struct jinja_parser *parser)
{
    struct jinja_node *node = jinja_node_new(parser, JINJA_NODE_MACRO);

    if (!node)
        return NULL;
    node->name = jinja_expect_name(parser);
    parse_parameters(parser, node);
    node->c = parse_own_body(parser, "endmacro");
    return node;
}

static struct jinja_node *parse_call_block(struct jinja_parser *parser)
{
    struct jinja_node *node = jinja_node_new(parser, JINJA_NODE_CALL_BLOCK);

    if (!node)
        return NULL;
    if (jinja_at_operator(parser, "("))
        parse_parameters(parser, node);
    node->a = jinja_parse_expression(parser, true);
    if (node->a && node->a->kind != JINJA_NODE_CALL)
        jinja_parse_fail(parser, KVERN_FORMAT, "a call block needs a call");
    node->c = parse_own_body(parser, "endcall");
    return node;
}

static struct jinja_node *parse_with(struct jinja_parser *parser)
{
    struct jinja_node *node = jinja_node_new(parser, JINJA_NODE_WITH);

    while (node && !parser->status && parser->token->kind != JINJA_TOKEN_BLOCK_END) {
        struct jinja_node *binding = jinja_node_new(parser, JINJA_NODE_KEYWORD);

        if (!binding)
            return NULL;
        binding->a = jinja_parse_target(parser, false);
        jinja_expect_operator(parser, "=");
        binding->b = jinja_parse_expression(parser, true);
        jinja_node_add(parser, &node->keywords, &node->n_keywords, binding);
        if (parser->token->kind != JINJA_TOKEN_BLOCK_END)
            jinja_expect_operator(parser, ",");
    }
    if (node)
        node->c = parse_body_to(parser, "endwith");
    return node;
}

static struct jinja_node *parse_filter_block(struct jinja_parser *parser)
{
    struct jinja_node *node = jinja_node_new(parser, JINJA_NODE_FILTER_BLOCK);

    if (!node)
        return NULL;
    node->b = jinja_parse_filters(parser, NULL, true);
    node->c = parse_own_body(parser, "endfilter");
    return node;
}

static struct jinja_node *parse_generation(struct jinja_parser *parser)
{
    struct jinja_node *node = jinja_node_new(parser, JINJA_NODE_SCOPE);

    if (node)
        node->c = parse_own_body(parser, "endgeneration");
    return node;
}

static struct jinja_node *parse_jump(struct jinja_parser *parser, enum jinja_node_kind kind)
{
    if (parser->n_loops == 0)
        return jinja_parse_fail(parser, KVERN_FORMAT, "break or continue outside a loop");
    return jinja_node_new(parser, kind);
}

/* The cursor is after "{%". Passes "%}". */
static struct jinja_node *parse_statement(struct jinja_parser *parser)
{
    static const struct {
        const char *name;
        struct jinja_node *(*parse)(struct jinja_parser *parser);
    } statements[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"with", parse_with},
        {"filter", parse_filter_block},
        {"generation", parse_generation},
    };
    struct jinja_text name = parser->token->text;
    struct jinja_node *node = NULL;
    bool is_known = false;

    if (!jinja_enter(parser))
        return NULL;
    if (parser->token->kind != JINJA_TOKEN_NAME) {
        refuse_token(parser, "a statement's name");
    } else if (jinja_skip_name(parser, "break")) {
        node = parse_jump(parser, JINJA_NODE_BREAK);
        is_known = true;
    } else if (jinja_skip_name(parser, "continue")) {
        node = parse_jump(parser, JINJA_NODE_CONTINUE);
        is_known = true;
    }
    for (size_t i = 0; !is_known && i < sizeof statements / sizeof statements[0]; i++) {
        if (jinja_text_is(name, statements[i].name)) {
            jinja_next(parser);
            node = statements[i].parse(parser);
            is_known = true;
        }
    }
    if (!is_known)
        jinja_parse_fail(parser, KVERN_UNSUPPORTED, "unknown statement '%.*s'", shown_bytes(parser),
                         name.data);
    expect_block_end(parser);
    parser->depth--;
    return node;
}

kvern_status jinja_template_parse(struct jinja_template **out, const char *text, size_t n_bytes,
                                  kvern_error *err)
{
    struct jinja_template *template = NULL;
    struct jinja_tokens tokens = {0};
    struct jinja_parser parser = {.err = err};
    kvern_status status;

    if (n_bytes > MAX_TEMPLATE_BYTES)
        return fail(err, KVERN_LIMIT, "the chat template has %zu bytes; the limit is %d", n_bytes,
                    MAX_TEMPLATE_BYTES);
    template = try_new(1, sizeof *template);
    if (!template)
        return fail(err, KVERN_MEMORY, "no memory for a chat template");
    template->arena.max_bytes = MAX_TREE_BYTES;
    status = jinja_lex(&template->arena, text, n_bytes, &tokens, err);
    if (status)
        goto done;
    parser.arena = &template->arena;
    parser.token = tokens.items;
    template->body = parse_body(&parser, NULL);
    status = parser.status;
done:
    if (status)
        jinja_template_free(template);
    else
        *out = template;
    return status;
}

void jinja_template_free(struct jinja_template *template)
{
    if (template) {
        jinja_arena_clear(&template->arena);
        free(template);
    }
}
