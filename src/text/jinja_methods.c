/* SPDX-License-Identifier: Apache-2.0
 *
 * Methods of lists, dicts and loops as Python's types have them, without those that change their
 * object: the sandbox refuses these. Finds the methods of every kind of value; those of strings are
 * in jinja_methods_text.c. To add one: write its function and add a row.
 */
#include "text/jinja_value.h"

static struct jinja_value list_count(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    int64_t n = 0;

    for (size_t i = 0; i < self.list->n && jinja_step(run, 1); i++)
        n += jinja_equals(run, self.list->items[i], arguments->items[0]);
    return jinja_integer(n);
}

static struct jinja_value list_index(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    for (size_t i = 0; i < self.list->n && jinja_step(run, 1); i++) {
        if (jinja_equals(run, self.list->items[i], arguments->items[0]))
            return jinja_integer((int64_t)i);
    }
    return jinja_fail(run, KVERN_INVALID, "the value is not in the list");
}

static struct jinja_value dict_get(struct jinja_run *run, struct jinja_value self,
                                   const struct jinja_arguments *arguments)
{
    struct jinja_value found = jinja_none();

    if (!jinja_dict_get(run, self.dict, arguments->items[0], &found) &&
        arguments->items[1].kind != JINJA_ABSENT)
        found = arguments->items[1];
    return found;
}

static struct jinja_value dict_keys(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    (void)arguments;
    struct jinja_value list = jinja_list_new(run, JINJA_LIST);

    for (size_t i = 0; !run->status && i < self.dict->n; i++)
        jinja_list_add(run, list, self.dict->entries[i].key);
    return list;
}

static struct jinja_value dict_values(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    (void)arguments;
    struct jinja_value list = jinja_list_new(run, JINJA_LIST);

    for (size_t i = 0; !run->status && i < self.dict->n; i++)
        jinja_list_add(run, list, self.dict->entries[i].value);
    return list;
}

static struct jinja_value dict_items(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)arguments;
    struct jinja_value list = jinja_list_new(run, JINJA_LIST);

    for (size_t i = 0; !run->status && i < self.dict->n; i++) {
        struct jinja_value pair = jinja_list_new(run, JINJA_TUPLE);

        jinja_list_add(run, pair, self.dict->entries[i].key);
        jinja_list_add(run, pair, self.dict->entries[i].value);
        jinja_list_add(run, list, pair);
    }
    return list;
}

static struct jinja_value loop_cycle(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    if (arguments->n == 0)
        return jinja_fail(run, KVERN_INVALID, "loop.cycle needs a value");
    return arguments->items[self.loop->index % arguments->n];
}

/* A row without a function is a method that changes its object: undefined, as in the sandbox, and
 * not a key of that name either. */
static const struct jinja_builtin list_methods[] = {
    {"count", "value", list_count}, {"index", "value", list_index}, {"append", NULL, NULL},
    {"extend", NULL, NULL},         {"insert", NULL, NULL},         {"pop", NULL, NULL},
    {"remove", NULL, NULL},         {"reverse", NULL, NULL},        {"sort", NULL, NULL},
    {"clear", NULL, NULL},
};

static const struct jinja_builtin tuple_methods[] = {
    {"count", "value", list_count},
    {"index", "value", list_index},
};

static const struct jinja_builtin dict_methods[] = {
    {"get", "key,default", dict_get}, {"keys", "", dict_keys},    {"values", "", dict_values},
    {"items", "", dict_items},        {"clear", NULL, NULL},      {"pop", NULL, NULL},
    {"popitem", NULL, NULL},          {"setdefault", NULL, NULL}, {"update", NULL, NULL},
};

static const struct jinja_builtin loop_methods[] = {
    {"cycle", NULL, loop_cycle},
};

const struct jinja_builtin *jinja_find_method(struct jinja_value self, struct jinja_text name)
{
    const struct {
        enum jinja_kind kind;
        const struct jinja_builtin *methods;
        size_t n;
    } types[] = {
        {JINJA_STRING, jinja_text_methods, jinja_n_text_methods},
        {JINJA_LIST, list_methods, sizeof list_methods / sizeof list_methods[0]},
        {JINJA_TUPLE, tuple_methods, sizeof tuple_methods / sizeof tuple_methods[0]},
        {JINJA_DICT, dict_methods, sizeof dict_methods / sizeof dict_methods[0]},
        {JINJA_LOOP, loop_methods, sizeof loop_methods / sizeof loop_methods[0]},
    };

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].kind == self.kind)
            return jinja_find_builtin(types[i].methods, types[i].n, name);
    }
    return NULL;
}
