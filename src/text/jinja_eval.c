/* SPDX-License-Identifier: Apache-2.0
 *
 * Expressions -> values. One function per shape of node; jinja_evaluate() picks it, charges a step
 * and bounds the depth.
 */
#include "text/jinja_value.h"

#include <string.h>

void jinja_bind(struct jinja_run *run, struct jinja_frame *frame, struct jinja_text name,
                struct jinja_value value)
{
    for (size_t i = 0; i < frame->n; i++) {
        struct jinja_text bound = frame->bindings[i].name;

        if (bound.n_bytes == name.n_bytes && memcmp(bound.data, name.data, name.n_bytes) == 0) {
            frame->bindings[i].value = value;
            return;
        }
    }
    if (frame->n == frame->capacity) {
        size_t capacity = frame->capacity ? frame->capacity * 2 : 4;
        struct jinja_binding *bindings = jinja_new(run, capacity, sizeof *bindings);

        if (!bindings)
            return;
        if (frame->n > 0)
            memcpy(bindings, frame->bindings, frame->n * sizeof *bindings);
        frame->bindings = bindings;
        frame->capacity = capacity;
    }
    frame->bindings[frame->n++] = (struct jinja_binding){name, value};
}

bool jinja_look_up(const struct jinja_frame *frame, struct jinja_text name,
                   struct jinja_value *value)
{
    for (; frame; frame = frame->parent) {
        for (size_t i = 0; i < frame->n; i++) {
            struct jinja_text bound = frame->bindings[i].name;

            if (bound.n_bytes == name.n_bytes && memcmp(bound.data, name.data, name.n_bytes) == 0) {
                *value = frame->bindings[i].value;
                return true;
            }
        }
    }
    return false;
}

static struct jinja_arguments evaluate_arguments(struct jinja_run *run,
                                                 const struct jinja_node *node)
{
    struct jinja_arguments arguments = {0};
    struct jinja_value *items = jinja_new(run, node->n_items + 1, sizeof *items);
    struct jinja_binding *named = jinja_new(run, node->n_keywords + 1, sizeof *named);

    if (!items || !named)
        return arguments;
    for (size_t i = 0; i < node->n_items; i++)
        items[i] = jinja_evaluate(run, node->items[i]);
    for (size_t i = 0; i < node->n_keywords; i++)
        named[i] = (struct jinja_binding){node->keywords[i]->name,
                                          jinja_evaluate(run, node->keywords[i]->a)};
    return (struct jinja_arguments){items, node->n_items, named, node->n_keywords};
}

static struct jinja_value evaluate_call(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value callee = jinja_evaluate(run, node->a);
    struct jinja_arguments arguments = evaluate_arguments(run, node);

    run->line = node->line;
    if (run->status)
        return jinja_undefined();
    if (callee.kind == JINJA_MACRO)
        return jinja_call_macro(run, callee.macro, &arguments);
    if (callee.kind == JINJA_FUNCTION)
        return jinja_call_builtin(run, "function", callee.function->builtin, callee.function->self,
                                  &arguments);
    if (callee.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, callee);
    return jinja_fail(run, KVERN_INVALID, "'%s' object is not callable", jinja_type_name(callee));
}

struct jinja_value jinja_evaluate_filters(struct jinja_run *run, const struct jinja_node *filters,
                                          struct jinja_value innermost)
{
    struct jinja_value self = innermost;
    struct jinja_arguments arguments;

    if (jinja_descend(run) && filters) {
        if (filters->a && filters->a->kind == JINJA_NODE_FILTER)
            self = jinja_evaluate_filters(run, filters->a, innermost);
        else if (filters->a)
            self = jinja_evaluate(run, filters->a);
        arguments = evaluate_arguments(run, filters);
        run->line = filters->line;
        self = jinja_call_filter(run, filters->name, self, &arguments);
    }
    jinja_leave(run);
    return self;
}

static struct jinja_value evaluate_container(struct jinja_run *run, const struct jinja_node *node)
{
    bool is_dict = node->kind == JINJA_NODE_DICT;
    struct jinja_value value =
        is_dict ? jinja_dict_new(run)
                : jinja_list_new(run, node->kind == JINJA_NODE_LIST ? JINJA_LIST : JINJA_TUPLE);

    for (size_t i = 0; i < node->n_items && !run->status; i += is_dict ? 2 : 1) {
        struct jinja_value item = jinja_evaluate(run, node->items[i]);

        if (is_dict)
            jinja_dict_put(run, value, item, jinja_evaluate(run, node->items[i + 1]));
        else
            jinja_list_add(run, value, item);
    }
    return value;
}

static struct jinja_value evaluate_comparison(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value left = jinja_evaluate(run, node->a);
    bool holds = true;

    for (size_t i = 0; i < node->n_items && holds && !run->status; i++) {
        struct jinja_value right = jinja_evaluate(run, node->items[i]->a);

        holds = jinja_compare(run, (enum jinja_operator)node->items[i]->op, left, right);
        left = right;
    }
    return jinja_boolean(holds);
}

static struct jinja_value evaluate_slice(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value = jinja_evaluate(run, node->a);
    struct jinja_value parts[3];

    for (size_t i = 0; i < 3; i++)
        parts[i] = node->items[i] ? jinja_evaluate(run, node->items[i]) : jinja_none();
    return run->status ? jinja_undefined() : jinja_slice(run, value, parts);
}

static struct jinja_value evaluate_sign(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value = jinja_evaluate(run, node->a);

    if (run->status)
        return value;
    if (!jinja_is_number(value))
        return value.kind == JINJA_UNDEFINED
                   ? jinja_fail_undefined(run, value)
                   : jinja_fail(run, KVERN_INVALID, "bad operand type for a sign: '%s'",
                                jinja_type_name(value));
    return jinja_binary(run, JINJA_MULTIPLY, value,
                        jinja_integer(node->kind == JINJA_NODE_NEGATE ? -1 : 1));
}

static struct jinja_value evaluate_name(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value;

    if (jinja_look_up(run->frame, node->name, &value))
        return value;
    return (struct jinja_value){.kind = JINJA_UNDEFINED, .hint = &node->name};
}

static struct jinja_value evaluate_node(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value;
    struct jinja_arguments arguments;
    struct jinja_builder builder = {.run = run};

    switch (node->kind) {
    case JINJA_NODE_CONSTANT_NONE:
        return jinja_none();
    case JINJA_NODE_BOOLEAN:
        return jinja_boolean(node->op);
    case JINJA_NODE_INTEGER:
        return jinja_integer(node->integer);
    case JINJA_NODE_FLOAT:
        return jinja_float(node->number);
    case JINJA_NODE_STRING:
        return jinja_string_of(run, node->name.data, node->name.n_bytes, false);
    case JINJA_NODE_NAME:
        return evaluate_name(run, node);
    case JINJA_NODE_LIST:
    case JINJA_NODE_TUPLE:
    case JINJA_NODE_DICT:
        return evaluate_container(run, node);
    case JINJA_NODE_ATTRIBUTE:
        value = jinja_evaluate(run, node->a);
        return run->status ? value : jinja_attribute(run, value, node->name);
    case JINJA_NODE_ITEM:
        value = jinja_evaluate(run, node->a);
        return jinja_item(run, value, jinja_evaluate(run, node->b));
    case JINJA_NODE_SLICE:
        return evaluate_slice(run, node);
    case JINJA_NODE_CALL:
        return evaluate_call(run, node);
    case JINJA_NODE_FILTER:
        return jinja_evaluate_filters(run, node, jinja_undefined());
    case JINJA_NODE_TEST:
        value = jinja_evaluate(run, node->a);
        arguments = evaluate_arguments(run, node);
        return jinja_boolean(jinja_call_test(run, node->name, value, &arguments));
    case JINJA_NODE_NOT:
        return jinja_boolean(!jinja_is_true(run, jinja_evaluate(run, node->a)));
    case JINJA_NODE_AND:
        value = jinja_evaluate(run, node->a);
        return jinja_is_true(run, value) ? jinja_evaluate(run, node->b) : value;
    case JINJA_NODE_OR:
        value = jinja_evaluate(run, node->a);
        return jinja_is_true(run, value) ? value : jinja_evaluate(run, node->b);
    case JINJA_NODE_NEGATE:
    case JINJA_NODE_PLUS:
        return evaluate_sign(run, node);
    case JINJA_NODE_BINARY:
        value = jinja_evaluate(run, node->a);
        return jinja_binary(run, (enum jinja_operator)node->op, value,
                            jinja_evaluate(run, node->b));
    case JINJA_NODE_COMPARE:
        return evaluate_comparison(run, node);
    case JINJA_NODE_CONCATENATE:
        for (size_t i = 0; i < node->n_items && !run->status; i++)
            jinja_add_str(&builder, jinja_evaluate(run, node->items[i]));
        return jinja_built(&builder);
    case JINJA_NODE_CONDITIONAL:
        if (jinja_is_true(run, jinja_evaluate(run, node->b)))
            return jinja_evaluate(run, node->a);
        return node->c ? jinja_evaluate(run, node->c) : jinja_undefined();
    default:
        return jinja_fail(run, KVERN_INVALID, "a statement stands where a value is needed");
    }
}

struct jinja_value jinja_evaluate(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value = jinja_undefined();

    if (jinja_descend(run)) {
        run->line = node->line;
        value = evaluate_node(run, node);
    }
    jinja_leave(run);
    return value;
}
