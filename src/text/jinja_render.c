/* SPDX-License-Identifier: Apache-2.0
 *
 * Statements: runs a template's tree, keeps scopes, collects output, and turns its marks into
 * segments. A loop, macro, with or block assignment has a scope of its own, an if has not.
 */
#include "text/jinja.h"
#include "text/jinja_value.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct jinja_limits default_limits = {.max_steps = 20000000,
                                                   .max_memory_bytes = (size_t)256 << 20,
                                                   .max_output_bytes = (size_t)32 << 20,
                                                   .max_depth = 400};

static struct jinja_frame *push(struct jinja_run *run, struct jinja_frame *parent)
{
    struct jinja_frame *frame = jinja_new(run, 1, sizeof *frame);

    if (frame)
        frame->parent = parent;
    return frame;
}

/* Runs `body` in a new scope under `parent` and gives what it printed. */
static struct jinja_value capture(struct jinja_run *run, const struct jinja_node *body,
                                  struct jinja_frame *frame)
{
    struct jinja_builder builder = {.run = run};
    struct jinja_builder *out = run->out;
    struct jinja_frame *outer = run->frame;

    if (!frame)
        return jinja_undefined();
    run->out = &builder;
    run->frame = frame;
    jinja_run_node(run, body);
    run->frame = outer;
    run->out = out;
    return jinja_built(&builder);
}

static void assign(struct jinja_run *run, const struct jinja_node *target, struct jinja_value value)
{
    struct jinja_value holder;

    if (run->status)
        return;
    if (target->kind == JINJA_NODE_NAME) {
        jinja_bind(run, run->frame, target->name, value);
    } else if (target->kind == JINJA_NODE_ATTRIBUTE) {
        holder = jinja_evaluate(run, target->a);
        if (holder.kind != JINJA_NAMESPACE)
            jinja_fail(run, KVERN_INVALID, "cannot assign attribute on non-namespace object");
        else
            jinja_dict_put(run, holder,
                           jinja_string_of(run, target->name.data, target->name.n_bytes, false),
                           value);
    } else {
        const struct jinja_list *list = jinja_iterate(run, value);

        if (list->n != target->n_items)
            jinja_fail(run, KVERN_INVALID, "%zu values cannot be unpacked into %zu names", list->n,
                       target->n_items);
        for (size_t i = 0; i < target->n_items && !run->status; i++)
            assign(run, target->items[i], list->items[i]);
    }
}

static void run_if(struct jinja_run *run, const struct jinja_node *node)
{
    for (size_t i = 0; i + 1 < node->n_items; i += 2) {
        bool holds = jinja_is_true(run, jinja_evaluate(run, node->items[i]));

        if (run->status)
            return;
        if (holds) {
            jinja_run_node(run, node->items[i + 1]);
            return;
        }
    }
    if (node->b)
        jinja_run_node(run, node->b);
}

/* The items a loop visits: all, or those its `if` lets pass. */
static const struct jinja_list *loop_items(struct jinja_run *run, const struct jinja_node *node)
{
    const struct jinja_list *all = jinja_iterate(run, jinja_evaluate(run, node->b));
    struct jinja_frame *outer = run->frame;
    struct jinja_value kept;

    if (!node->c)
        return all;
    kept = jinja_list_new(run, JINJA_LIST);
    for (size_t i = 0; i < all->n && !run->status; i++) {
        run->frame = push(run, outer);
        if (!run->frame)
            break;
        assign(run, node->a, all->items[i]);
        if (jinja_is_true(run, jinja_evaluate(run, node->c)))
            jinja_list_add(run, kept, all->items[i]);
    }
    run->frame = outer;
    return run->status ? all : kept.list;
}

static void run_for(struct jinja_run *run, const struct jinja_node *node)
{
    static const struct jinja_text loop_name = {"loop", 4};
    const struct jinja_list *list = loop_items(run, node);
    struct jinja_frame *outer = run->frame;

    for (size_t i = 0; i < list->n && jinja_step(run, 1); i++) {
        struct jinja_loop *loop = jinja_new(run, 1, sizeof *loop);

        run->frame = push(run, outer);
        if (!loop || !run->frame)
            break;
        *loop = (struct jinja_loop){.list = list, .index = i};
        assign(run, node->a, list->items[i]);
        jinja_bind(run, run->frame, loop_name,
                   (struct jinja_value){.kind = JINJA_LOOP, .loop = loop});
        jinja_run_node(run, node->items[0]);
        enum jinja_signal signal = run->signal;
        run->signal = JINJA_RUNS_ON;
        if (signal == JINJA_BREAKS)
            break;
    }
    run->frame = outer;
    if (list->n == 0 && node->n_items > 1 && !run->status) {
        run->frame = push(run, outer);
        if (run->frame)
            jinja_run_node(run, node->items[1]);
        run->frame = outer;
    }
}

static struct jinja_value new_macro(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_macro *macro = jinja_new(run, 1, sizeof *macro);

    if (!macro)
        return jinja_undefined();
    *macro = (struct jinja_macro){.node = node, .frame = run->frame};
    return (struct jinja_value){.kind = JINJA_MACRO, .macro = macro};
}

static void run_call_block(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_binding caller = {{"caller", 6}, new_macro(run, node)};
    struct jinja_value callee = jinja_evaluate(run, node->a->a);
    struct jinja_arguments arguments = {0};

    if (callee.kind != JINJA_MACRO) {
        jinja_fail(run, KVERN_INVALID, "a call block needs a macro");
        return;
    }
    arguments.items = jinja_new(run, node->a->n_items + 1, sizeof *arguments.items);
    arguments.named = jinja_new(run, node->a->n_keywords + 1, sizeof *arguments.named);
    if (run->status)
        return;
    for (size_t i = 0; i < node->a->n_items; i++)
        arguments.items[arguments.n++] = jinja_evaluate(run, node->a->items[i]);
    for (size_t i = 0; i < node->a->n_keywords; i++)
        arguments.named[arguments.n_named++] = (struct jinja_binding){
            node->a->keywords[i]->name, jinja_evaluate(run, node->a->keywords[i]->a)};
    arguments.named[arguments.n_named++] = caller;
    jinja_add_str(run->out, jinja_call_macro(run, callee.macro, &arguments));
}

static void run_with(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_frame *outer = run->frame;
    struct jinja_frame *inner = push(run, outer);

    for (size_t i = 0; i < node->n_keywords && !run->status; i++) {
        struct jinja_value value = jinja_evaluate(run, node->keywords[i]->b);

        run->frame = inner;
        assign(run, node->keywords[i]->a, value);
        run->frame = outer;
    }
    if (run->status)
        return;
    run->frame = inner;
    jinja_run_node(run, node->c);
    run->frame = outer;
}

static void run_set_block(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value text = capture(run, node->c, push(run, run->frame));

    if (node->b)
        text = jinja_evaluate_filters(run, node->b, text);
    assign(run, node->a, text);
}

static void run_statement(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value;

    switch (node->kind) {
    case JINJA_NODE_DATA:
        jinja_add(run->out, node->name.data, node->name.n_bytes, false);
        break;
    case JINJA_NODE_PRINT:
        value = jinja_evaluate(run, node->a);
        if (!run->status)
            jinja_add_str(run->out, value);
        break;
    case JINJA_NODE_BODY:
        for (size_t i = 0; i < node->n_items && !run->status && run->signal == JINJA_RUNS_ON; i++)
            jinja_run_node(run, node->items[i]);
        break;
    case JINJA_NODE_IF:
        run_if(run, node);
        break;
    case JINJA_NODE_FOR:
        run_for(run, node);
        break;
    case JINJA_NODE_SET:
        assign(run, node->a, jinja_evaluate(run, node->b));
        break;
    case JINJA_NODE_SET_BLOCK:
        run_set_block(run, node);
        break;
    case JINJA_NODE_MACRO:
        jinja_bind(run, run->frame, node->name, new_macro(run, node));
        break;
    case JINJA_NODE_CALL_BLOCK:
        run_call_block(run, node);
        break;
    case JINJA_NODE_FILTER_BLOCK:
        value = capture(run, node->c, push(run, run->frame));
        jinja_add_str(run->out, jinja_evaluate_filters(run, node->b, value));
        break;
    case JINJA_NODE_WITH:
        run_with(run, node);
        break;
    case JINJA_NODE_SCOPE:
        jinja_add_str(run->out, capture(run, node->c, push(run, run->frame)));
        break;
    case JINJA_NODE_BREAK:
        run->signal = JINJA_BREAKS;
        break;
    case JINJA_NODE_CONTINUE:
        run->signal = JINJA_CONTINUES;
        break;
    default:
        jinja_fail(run, KVERN_INVALID, "a value stands where a statement is needed");
    }
}

void jinja_run_node(struct jinja_run *run, const struct jinja_node *node)
{
    if (jinja_descend(run)) {
        run->line = node->line;
        run_statement(run, node);
    }
    jinja_leave(run);
}

/* The argument named `name`, or NULL. */
static const struct jinja_value *find_named(const struct jinja_arguments *arguments,
                                            struct jinja_text name)
{
    for (size_t i = 0; i < arguments->n_named; i++) {
        struct jinja_text other = arguments->named[i].name;

        if (other.n_bytes == name.n_bytes && memcmp(other.data, name.data, name.n_bytes) == 0)
            return &arguments->named[i].value;
    }
    return NULL;
}

struct jinja_value jinja_call_macro(struct jinja_run *run, const struct jinja_macro *macro,
                                    const struct jinja_arguments *arguments)
{
    static const struct jinja_text caller_name = {"caller", 6};
    const struct jinja_node *node = macro->node;
    struct jinja_frame *frame = push(run, macro->frame);
    struct jinja_frame *outer = run->frame;
    const struct jinja_value *caller = find_named(arguments, caller_name);
    size_t n_used = caller ? 1 : 0;
    struct jinja_value text = jinja_undefined();

    if (!frame || !jinja_descend(run))
        goto done;
    if (arguments->n > node->n_keywords)
        jinja_fail(run, KVERN_INVALID, "macro '%.*s' takes not more than %zu arguments",
                   (int)node->name.n_bytes, node->name.data, node->n_keywords);
    run->frame = frame;
    for (size_t i = 0; i < node->n_keywords && !run->status; i++) {
        const struct jinja_node *parameter = node->keywords[i];
        const struct jinja_value *named = find_named(arguments, parameter->name);
        struct jinja_value value;

        n_used += named && named != caller;
        if (i < arguments->n)
            value = arguments->items[i];
        else if (named)
            value = *named;
        else if (parameter->a)
            value = jinja_evaluate(run, parameter->a);
        else
            value = (struct jinja_value){.kind = JINJA_UNDEFINED, .hint = &parameter->name};
        jinja_bind(run, frame, parameter->name, value);
    }
    run->frame = outer;
    if (n_used < arguments->n_named)
        jinja_fail(run, KVERN_INVALID, "macro '%.*s' takes no such keyword argument",
                   (int)node->name.n_bytes, node->name.data);
    if (caller)
        jinja_bind(run, frame, caller_name, *caller);
    text = capture(run, node->c, frame);
done:
    if (frame)
        jinja_leave(run);
    return text;
}

/* Copies the text and cuts its marks into runs. */
static kvern_status deliver(const struct jinja_builder *builder, struct jinja_output *out,
                            kvern_error *err)
{
    struct jinja_output output = {.n_bytes = builder->n_bytes};
    size_t n_runs = builder->n_bytes > 0;

    for (size_t i = 1; i < builder->n_bytes; i++)
        n_runs += builder->marks[i] != builder->marks[i - 1];
    output.text = try_new(builder->n_bytes + 1, 1);
    output.segments = try_new(n_runs, sizeof *output.segments);
    if (!output.text || !output.segments) {
        jinja_output_clear(&output);
        return fail(err, KVERN_MEMORY, "no memory for a rendered chat template of %zu bytes",
                    builder->n_bytes);
    }
    if (builder->n_bytes > 0)
        memcpy(output.text, builder->data, builder->n_bytes);
    for (size_t i = 0; i < builder->n_bytes; i++) {
        if (i == 0 || builder->marks[i] != builder->marks[i - 1])
            output.segments[output.n_segments++] =
                (struct jinja_segment){.begin = i, .is_trusted = !builder->marks[i]};
        output.segments[output.n_segments - 1].n_bytes++;
    }
    *out = output;
    return KVERN_OK;
}

static void bind_object(struct jinja_run *run, struct jinja_frame *frame, json_t *object,
                        bool is_untrusted)
{
    const char *key;
    json_t *item;

    json_object_foreach(object, key, item)
    {
        struct jinja_text name = {key, strlen(key)};

        jinja_bind(run, frame, name, jinja_from_json(run, item, is_untrusted));
        if (run->status)
            break;
    }
}

kvern_status jinja_render(const struct jinja_template *template, const struct jinja_input *input,
                          struct jinja_output *out, kvern_error *err)
{
    struct jinja_run run = {.limits = input->limits, .now = input->now, .line = 1, .err = err};
    struct jinja_builder builder = {.run = &run};
    struct jinja_frame *globals = NULL;

    if (run.limits.max_steps <= 0)
        run.limits.max_steps = default_limits.max_steps;
    if (run.limits.max_memory_bytes == 0)
        run.limits.max_memory_bytes = default_limits.max_memory_bytes;
    if (run.limits.max_output_bytes == 0)
        run.limits.max_output_bytes = default_limits.max_output_bytes;
    if (run.limits.max_depth <= 0)
        run.limits.max_depth = default_limits.max_depth;
    if (run.now == 0)
        run.now = (int64_t)time(NULL);
    run.steps_left = run.limits.max_steps;
    run.arena.max_bytes = run.limits.max_memory_bytes;
    run.out = &builder;

    globals = push(&run, NULL);
    if (globals) {
        jinja_add_globals(&run, globals);
        bind_object(&run, globals, input->trusted, false);
        bind_object(&run, globals, input->untrusted, true);
        run.frame = push(&run, globals);
    }
    if (run.frame)
        jinja_run_node(&run, template->body);
    if (!run.status)
        run.status = deliver(&builder, out, err);
    jinja_arena_clear(&run.arena);
    return run.status;
}

void jinja_output_clear(struct jinja_output *output)
{
    if (output) {
        free(output->text);
        free(output->segments);
        *output = (struct jinja_output){0};
    }
}
