/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters over sequences: first, join, map, select, sort and their like. The table that names them
 * is in jinja_filters.c.
 */
#include "text/jinja_filters.h"
#include "text/jinja_string.h"
#include "text/jinja_value.h"

#include <string.h>

/* The value at "a.b.0" in an item, as attribute= of many filters means it. */
static struct jinja_value value_at(struct jinja_run *run, struct jinja_value item,
                                   struct jinja_value path)
{
    const struct jinja_string *names;
    size_t begin = 0;

    if (path.kind == JINJA_ABSENT || path.kind == JINJA_NONE)
        return item;
    if (path.kind == JINJA_INTEGER)
        return jinja_item(run, item, path);
    names = jinja_text_of(run, path);
    while (begin <= names->n_bytes && jinja_step(run, 1)) {
        size_t end = jinja_find(names->data, names->n_bytes, begin, ".", 1);
        int64_t index = 0;
        bool is_index = true;

        end = end == SIZE_MAX ? names->n_bytes : end;
        for (size_t i = begin; i < end; i++) {
            is_index = is_index && names->data[i] >= '0' && names->data[i] <= '9' && i - begin < 9;
            index = is_index ? index * 10 + (names->data[i] - '0') : 0;
        }
        item = jinja_item(run, item,
                          is_index && end > begin ? jinja_integer(index)
                                                  : jinja_part(run, names, begin, end));
        begin = end + 1;
    }
    return item;
}

/* What sort and unique compare: lower case for text unless case_sensitive. */
static struct jinja_value key_of(struct jinja_run *run, struct jinja_value item,
                                 struct jinja_value path, bool is_case_sensitive)
{
    struct jinja_value key = value_at(run, item, path);
    struct jinja_builder builder = {.run = run};

    if (is_case_sensitive || key.kind != JINJA_STRING)
        return key;
    jinja_add_lower(&builder, key.string, 0, key.string->n_bytes);
    return jinja_built(&builder);
}

static const struct jinja_value *find_named(const struct jinja_arguments *arguments,
                                            const char *name)
{
    for (size_t i = 0; i < arguments->n_named; i++) {
        if (jinja_text_is(arguments->named[i].name, name))
            return &arguments->named[i].value;
    }
    return NULL;
}

static struct jinja_arguments rest(const struct jinja_arguments *arguments, size_t n_used)
{
    struct jinja_arguments more = *arguments;

    more.items += n_used;
    more.n -= n_used;
    return more;
}

static struct jinja_text name_of(struct jinja_run *run, struct jinja_value value)
{
    const struct jinja_string *string = jinja_text_of(run, value);

    return (struct jinja_text){string->data, string->n_bytes};
}

struct jinja_value jinja_filter_first(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    (void)arguments;
    const struct jinja_list *list = jinja_iterate(run, self);

    return list->n > 0 ? list->items[0] : jinja_undefined();
}

struct jinja_value jinja_filter_last(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)arguments;
    const struct jinja_list *list = jinja_iterate(run, self);

    return list->n > 0 ? list->items[list->n - 1] : jinja_undefined();
}

struct jinja_value jinja_filter_list(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)arguments;
    const struct jinja_list *items = jinja_iterate(run, self);
    struct jinja_value list = jinja_list_new(run, JINJA_LIST);

    for (size_t i = 0; i < items->n && !run->status; i++)
        jinja_list_add(run, list, items->items[i]);
    return list;
}

struct jinja_value jinja_filter_join(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    const struct jinja_list *list = jinja_iterate(run, self);
    struct jinja_builder builder = {.run = run};

    for (size_t i = 0; i < list->n && jinja_step(run, 1); i++) {
        if (i > 0 && arguments->items[0].kind != JINJA_ABSENT)
            jinja_add_str(&builder, arguments->items[0]);
        jinja_add_str(&builder, value_at(run, list->items[i], arguments->items[1]));
    }
    return jinja_built(&builder);
}

struct jinja_value jinja_filter_reverse(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_arguments *arguments)
{
    (void)arguments;
    const struct jinja_list *list = jinja_iterate(run, self);
    struct jinja_value result = jinja_list_new(run, JINJA_GENERATOR);
    struct jinja_builder builder = {.run = run};

    for (size_t i = list->n; i > 0 && jinja_step(run, 1); i--) {
        if (self.kind == JINJA_STRING)
            jinja_add_str(&builder, list->items[i - 1]);
        else
            jinja_list_add(run, result, list->items[i - 1]);
    }
    return self.kind == JINJA_STRING ? jinja_built(&builder) : result;
}

struct jinja_value jinja_filter_items(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    (void)arguments;
    struct jinja_value result = jinja_list_new(run, JINJA_GENERATOR);

    if (self.kind == JINJA_UNDEFINED)
        return result;
    if (self.kind != JINJA_DICT)
        return jinja_fail(run, KVERN_INVALID, "Can only get item pairs from a mapping.");
    for (size_t i = 0; i < self.dict->n && !run->status; i++) {
        struct jinja_value pair = jinja_list_new(run, JINJA_TUPLE);

        jinja_list_add(run, pair, self.dict->entries[i].key);
        jinja_list_add(run, pair, self.dict->entries[i].value);
        jinja_list_add(run, result, pair);
    }
    return result;
}

/* A stable merge sort: keys[i] orders items[i]; `scratch` has room for both. */
static void merge_sort(struct jinja_run *run, struct jinja_entry *entries,
                       struct jinja_entry *scratch, size_t n, bool is_reversed)
{
    for (size_t width = 1; width < n && !run->status; width *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            size_t middle = begin + width < n ? begin + width : n;
            size_t end = begin + 2 * width < n ? begin + 2 * width : n;
            size_t a = begin;
            size_t b = middle;

            for (size_t i = begin; i < end; i++) {
                bool takes_b = false;

                if (a < middle && b < end && jinja_step(run, 1)) {
                    takes_b = is_reversed ? jinja_order(run, entries[a].key, entries[b].key) < 0
                                          : jinja_order(run, entries[b].key, entries[a].key) < 0;
                }
                scratch[i] = b >= end || (a < middle && !takes_b) ? entries[a++] : entries[b++];
            }
        }
        memcpy(entries, scratch, n * sizeof *entries);
    }
}

static struct jinja_value sorted(struct jinja_run *run, const struct jinja_list *list,
                                 struct jinja_value path, bool is_case_sensitive, bool is_reversed)
{
    struct jinja_value result = jinja_list_new(run, JINJA_LIST);
    struct jinja_entry *entries = jinja_new(run, list->n + 1, sizeof *entries);
    struct jinja_entry *scratch = jinja_new(run, list->n + 1, sizeof *scratch);

    if (run->status)
        return result;
    for (size_t i = 0; i < list->n && jinja_step(run, 1); i++)
        entries[i] = (struct jinja_entry){key_of(run, list->items[i], path, is_case_sensitive),
                                          list->items[i]};
    if (!run->status)
        merge_sort(run, entries, scratch, list->n, is_reversed);
    for (size_t i = 0; i < list->n && !run->status; i++)
        jinja_list_add(run, result, entries[i].value);
    return result;
}

struct jinja_value jinja_filter_sort(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    return sorted(run, jinja_iterate(run, self), arguments->items[2],
                  jinja_is_true(run, arguments->items[1]), jinja_is_true(run, arguments->items[0]));
}

struct jinja_value jinja_filter_dictsort(struct jinja_run *run, struct jinja_value self,
                                         const struct jinja_arguments *arguments)
{
    struct jinja_value pairs = jinja_filter_items(run, self, arguments);
    struct jinja_value by = arguments->items[1];
    bool is_by_value = by.kind == JINJA_STRING && jinja_text_is(name_of(run, by), "value");

    if (run->status)
        return jinja_undefined();
    return sorted(run, pairs.list, jinja_integer(is_by_value),
                  jinja_is_true(run, arguments->items[0]), jinja_is_true(run, arguments->items[2]));
}

struct jinja_value jinja_filter_unique(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    const struct jinja_list *list = jinja_iterate(run, self);
    struct jinja_value result = jinja_list_new(run, JINJA_GENERATOR);
    struct jinja_value seen = jinja_dict_new(run);
    bool is_case_sensitive = jinja_is_true(run, arguments->items[0]);
    struct jinja_value unused;

    for (size_t i = 0; i < list->n && jinja_step(run, 1); i++) {
        struct jinja_value key =
            key_of(run, list->items[i], arguments->items[1], is_case_sensitive);

        if (run->status || jinja_dict_get(run, seen.dict, key, &unused))
            continue;
        jinja_dict_put(run, seen, key, jinja_none());
        jinja_list_add(run, result, list->items[i]);
    }
    return result;
}

struct jinja_value jinja_filter_map(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    const struct jinja_value *attribute = find_named(arguments, "attribute");
    const struct jinja_value *absent = find_named(arguments, "default");
    const struct jinja_list *list = jinja_iterate(run, self);
    struct jinja_value result = jinja_list_new(run, JINJA_GENERATOR);
    struct jinja_arguments more;

    if (!attribute && arguments->n == 0)
        return jinja_fail(run, KVERN_INVALID, "map requires a filter argument");
    for (size_t i = 0; i < list->n && jinja_step(run, 1); i++) {
        struct jinja_value item;

        if (attribute) {
            item = value_at(run, list->items[i], *attribute);
            if (item.kind == JINJA_UNDEFINED && absent)
                item = *absent;
        } else {
            more = rest(arguments, 1);
            item = jinja_call_filter(run, name_of(run, arguments->items[0]), list->items[i], &more);
        }
        jinja_list_add(run, result, item);
    }
    return result;
}

/* select, reject and their attr forms: n_path arguments name the attribute, the next one the test.
 */
static struct jinja_value selected(struct jinja_run *run, struct jinja_value self,
                                   const struct jinja_arguments *arguments, size_t n_path,
                                   bool keeps)
{
    const struct jinja_list *list = jinja_iterate(run, self);
    struct jinja_value result = jinja_list_new(run, JINJA_GENERATOR);
    struct jinja_value path = {.kind = JINJA_ABSENT};

    if (arguments->n < n_path)
        return jinja_fail(run, KVERN_INVALID, "Missing parameter for attribute name");
    if (n_path > 0)
        path = arguments->items[0];
    for (size_t i = 0; i < list->n && jinja_step(run, 1); i++) {
        struct jinja_value item = value_at(run, list->items[i], path);
        bool passes;

        if (arguments->n > n_path) {
            struct jinja_arguments more = rest(arguments, n_path + 1);

            passes = jinja_call_test(run, name_of(run, arguments->items[n_path]), item, &more);
        } else {
            passes = jinja_is_true(run, item);
        }
        if (passes == keeps)
            jinja_list_add(run, result, list->items[i]);
    }
    return result;
}

struct jinja_value jinja_filter_select(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    return selected(run, self, arguments, 0, true);
}

struct jinja_value jinja_filter_reject(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    return selected(run, self, arguments, 0, false);
}

struct jinja_value jinja_filter_selectattr(struct jinja_run *run, struct jinja_value self,
                                           const struct jinja_arguments *arguments)
{
    return selected(run, self, arguments, 1, true);
}

struct jinja_value jinja_filter_rejectattr(struct jinja_run *run, struct jinja_value self,
                                           const struct jinja_arguments *arguments)
{
    return selected(run, self, arguments, 1, false);
}

struct jinja_value jinja_filter_sum(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    const struct jinja_list *list = jinja_iterate(run, self);
    struct jinja_value total =
        arguments->items[1].kind == JINJA_ABSENT ? jinja_integer(0) : arguments->items[1];

    for (size_t i = 0; i < list->n && jinja_step(run, 1); i++)
        total =
            jinja_binary(run, JINJA_ADD, total, value_at(run, list->items[i], arguments->items[0]));
    return total;
}

struct jinja_value jinja_filter_min(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    const struct jinja_list *list = jinja_iterate(run, self);
    bool is_case_sensitive = jinja_is_true(run, arguments->items[0]);
    struct jinja_value best = jinja_undefined();
    struct jinja_value best_key = best;

    for (size_t i = 0; i < list->n && jinja_step(run, 1); i++) {
        struct jinja_value key =
            key_of(run, list->items[i], arguments->items[1], is_case_sensitive);

        if (i == 0 || jinja_order(run, key, best_key) < 0) {
            best = list->items[i];
            best_key = key;
        }
    }
    return best;
}

struct jinja_value jinja_filter_max(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    const struct jinja_list *list = jinja_iterate(run, self);
    bool is_case_sensitive = jinja_is_true(run, arguments->items[0]);
    struct jinja_value best = jinja_undefined();
    struct jinja_value best_key = best;

    for (size_t i = 0; i < list->n && jinja_step(run, 1); i++) {
        struct jinja_value key =
            key_of(run, list->items[i], arguments->items[1], is_case_sensitive);

        if (i == 0 || jinja_order(run, key, best_key) > 0) {
            best = list->items[i];
            best_key = key;
        }
    }
    return best;
}
