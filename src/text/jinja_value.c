/* SPDX-License-Identifier: Apache-2.0
 *
 * Making, comparing and iterating values, with Python's rules. Every loop here charges its work and
 * every recursion its depth, because a template can nest a value in itself.
 */
#include "text/jinja_value.h"

#include "base/error.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static struct jinja_list no_items;
static const struct jinja_string empty_string = {.data = ""};

struct jinja_value jinja_fail(struct jinja_run *run, kvern_status status, const char *format, ...)
{
    if (!run->status) {
        char message[400];
        va_list args;

        va_start(args, format);
        vsnprintf(message, sizeof message, format, args);
        va_end(args);
        run->status = fail(run->err, status, "chat template line %d: %s", run->line, message);
    }
    return jinja_undefined();
}

bool jinja_step(struct jinja_run *run, size_t n)
{
    if (run->status)
        return false;
    if (n >= (uint64_t)run->steps_left) {
        jinja_fail(run, KVERN_LIMIT, "over the limit of %lld steps",
                   (long long)run->limits.max_steps);
        return false;
    }
    run->steps_left -= (int64_t)n;
    return true;
}

bool jinja_descend(struct jinja_run *run)
{
    run->depth++;
    if (run->depth > run->limits.max_depth)
        jinja_fail(run, KVERN_LIMIT, "nested over the limit of %d levels", run->limits.max_depth);
    return jinja_step(run, 1);
}

void jinja_leave(struct jinja_run *run)
{
    run->depth--;
}

void *jinja_new(struct jinja_run *run, size_t count, size_t item_bytes)
{
    void *memory = run->status ? NULL : jinja_arena_take(&run->arena, count, item_bytes);

    if (!memory && run->arena.has_failed)
        jinja_fail(run, KVERN_MEMORY, "no memory for its values");
    else if (!memory)
        jinja_fail(run, KVERN_LIMIT, "its values need more than the limit of %zu bytes",
                   run->limits.max_memory_bytes);
    return memory;
}

struct jinja_value jinja_undefined(void)
{
    return (struct jinja_value){.kind = JINJA_UNDEFINED};
}

struct jinja_value jinja_undefined_named(struct jinja_run *run, const char *name, size_t n_bytes)
{
    struct jinja_text *hint = jinja_new(run, 1, sizeof *hint);

    if (hint)
        *hint = (struct jinja_text){name, n_bytes};
    return (struct jinja_value){.kind = JINJA_UNDEFINED, .hint = hint};
}

struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.kind = JINJA_NONE};
}

struct jinja_value jinja_boolean(bool boolean)
{
    return (struct jinja_value){.kind = JINJA_BOOLEAN, .boolean = boolean};
}

struct jinja_value jinja_integer(int64_t integer)
{
    return (struct jinja_value){.kind = JINJA_INTEGER, .integer = integer};
}

struct jinja_value jinja_float(double number)
{
    return (struct jinja_value){.kind = JINJA_FLOAT, .number = number};
}

struct jinja_value jinja_string_of(struct jinja_run *run, const char *data, size_t n_bytes,
                                   bool is_untrusted)
{
    struct jinja_string *string = jinja_new(run, 1, sizeof *string);

    if (!string)
        return (struct jinja_value){.kind = JINJA_STRING, .string = &empty_string};
    *string = (struct jinja_string){data, n_bytes, NULL, is_untrusted};
    return (struct jinja_value){.kind = JINJA_STRING, .string = string};
}

struct jinja_value jinja_literal(struct jinja_run *run, const char *text)
{
    return jinja_string_of(run, text, strlen(text), false);
}

struct jinja_value jinja_part(struct jinja_run *run, const struct jinja_string *string,
                              size_t begin, size_t end)
{
    struct jinja_string *part = jinja_new(run, 1, sizeof *part);

    if (!part)
        return (struct jinja_value){.kind = JINJA_STRING, .string = &empty_string};
    *part = *string;
    part->data += begin;
    part->n_bytes = end > begin ? end - begin : 0;
    if (part->marks)
        part->marks += begin;
    return (struct jinja_value){.kind = JINJA_STRING, .string = part};
}

struct jinja_value jinja_list_new(struct jinja_run *run, enum jinja_kind kind)
{
    struct jinja_list *list = jinja_new(run, 1, sizeof *list);

    return list ? (struct jinja_value){.kind = kind, .list = list} : jinja_undefined();
}

void jinja_list_add(struct jinja_run *run, struct jinja_value value, struct jinja_value item)
{
    if (!jinja_step(run, 1))
        return;
    struct jinja_list *list = value.list;
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 4;
        void *items = jinja_arena_grow(&run->arena, list->items, list->n * sizeof *list->items,
                                       capacity * sizeof *list->items);
        if (!items) {
            jinja_new(run, SIZE_MAX, 1); /* reports why */
            return;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = item;
}

struct jinja_value jinja_dict_new(struct jinja_run *run)
{
    struct jinja_dict *dict = jinja_new(run, 1, sizeof *dict);

    return dict ? (struct jinja_value){.kind = JINJA_DICT, .dict = dict} : jinja_undefined();
}

static struct jinja_entry *find_entry(struct jinja_run *run, const struct jinja_dict *dict,
                                      struct jinja_value key)
{
    for (size_t i = 0; i < dict->n; i++) {
        if (i % 8 == 7 && !jinja_step(run, 1))
            break;
        if (jinja_equals(run, dict->entries[i].key, key))
            return &dict->entries[i];
    }
    return NULL;
}

void jinja_dict_put(struct jinja_run *run, struct jinja_value value, struct jinja_value key,
                    struct jinja_value item)
{
    if (key.kind == JINJA_LIST || key.kind == JINJA_DICT)
        jinja_fail(run, KVERN_INVALID, "unhashable type: '%s'", jinja_type_name(key));
    if (!jinja_step(run, 1))
        return;
    struct jinja_dict *dict = value.dict;
    struct jinja_entry *entry = find_entry(run, dict, key);
    if (entry) {
        entry->value = item;
        return;
    }
    if (dict->n == dict->capacity) {
        size_t capacity = dict->capacity ? dict->capacity * 2 : 4;
        void *entries =
            jinja_arena_grow(&run->arena, dict->entries, dict->n * sizeof *dict->entries,
                             capacity * sizeof *dict->entries);
        if (!entries) {
            jinja_new(run, SIZE_MAX, 1);
            return;
        }
        dict->entries = entries;
        dict->capacity = capacity;
    }
    dict->entries[dict->n++] = (struct jinja_entry){key, item};
}

bool jinja_dict_get(struct jinja_run *run, const struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value *value)
{
    struct jinja_entry *entry = find_entry(run, dict, key);

    if (entry)
        *value = entry->value;
    return entry;
}

bool jinja_dict_get_text(struct jinja_run *run, const struct jinja_dict *dict,
                         struct jinja_text key, struct jinja_value *value)
{
    struct jinja_string string = {.data = key.data, .n_bytes = key.n_bytes};

    return jinja_dict_get(run, dict, (struct jinja_value){.kind = JINJA_STRING, .string = &string},
                          value);
}

bool jinja_is_true(struct jinja_run *run, struct jinja_value value)
{
    (void)run;
    switch (value.kind) {
    case JINJA_UNDEFINED:
    case JINJA_ABSENT:
    case JINJA_NONE:
        return false;
    case JINJA_BOOLEAN:
        return value.boolean;
    case JINJA_INTEGER:
        return value.integer != 0;
    case JINJA_FLOAT:
        return value.number != 0;
    case JINJA_STRING:
        return value.string->n_bytes > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
        return value.list->n > 0;
    case JINJA_DICT:
        return value.dict->n > 0;
    default:
        return true;
    }
}

bool jinja_is_number(struct jinja_value value)
{
    return value.kind == JINJA_BOOLEAN || value.kind == JINJA_INTEGER || value.kind == JINJA_FLOAT;
}

double jinja_number_of(struct jinja_value value)
{
    return value.kind == JINJA_FLOAT     ? value.number
           : value.kind == JINJA_BOOLEAN ? (double)value.boolean
                                         : (double)value.integer;
}

static int64_t whole(struct jinja_value value)
{
    return value.kind == JINJA_BOOLEAN ? value.boolean : value.integer;
}

static bool dicts_equal(struct jinja_run *run, const struct jinja_dict *a,
                        const struct jinja_dict *b)
{
    bool are_equal = a->n == b->n;
    struct jinja_value other;

    for (size_t i = 0; are_equal && i < a->n; i++)
        are_equal = jinja_dict_get(run, b, a->entries[i].key, &other) &&
                    jinja_equals(run, a->entries[i].value, other);
    return are_equal;
}

bool jinja_equals(struct jinja_run *run, struct jinja_value a, struct jinja_value b)
{
    bool are_equal = false;

    if (jinja_is_number(a) && jinja_is_number(b)) {
        if (a.kind == JINJA_FLOAT || b.kind == JINJA_FLOAT)
            return jinja_number_of(a) == jinja_number_of(b);
        return whole(a) == whole(b);
    }
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case JINJA_UNDEFINED:
    case JINJA_ABSENT:
    case JINJA_NONE:
        return true;
    case JINJA_STRING:
        return a.string->n_bytes == b.string->n_bytes && jinja_step(run, a.string->n_bytes / 256) &&
               memcmp(a.string->data, b.string->data, a.string->n_bytes) == 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
        break;
    case JINJA_FUNCTION:
        return a.function->builtin == b.function->builtin;
    default:
        return a.list == b.list;
    }
    if (jinja_descend(run)) {
        if (a.kind == JINJA_DICT) {
            are_equal = dicts_equal(run, a.dict, b.dict);
        } else {
            are_equal = a.list->n == b.list->n;
            for (size_t i = 0; are_equal && i < a.list->n; i++)
                are_equal =
                    jinja_step(run, 1) && jinja_equals(run, a.list->items[i], b.list->items[i]);
        }
    }
    jinja_leave(run);
    return are_equal;
}

int jinja_order(struct jinja_run *run, struct jinja_value a, struct jinja_value b)
{
    int order = 0;

    if (jinja_is_number(a) && jinja_is_number(b)) {
        if (a.kind != JINJA_FLOAT && b.kind != JINJA_FLOAT)
            return (whole(a) > whole(b)) - (whole(a) < whole(b));
        double x = jinja_number_of(a);
        double y = jinja_number_of(b);
        return (x > y) - (x < y);
    }
    if (a.kind == JINJA_STRING && b.kind == JINJA_STRING) {
        size_t n = a.string->n_bytes < b.string->n_bytes ? a.string->n_bytes : b.string->n_bytes;

        jinja_step(run, n / 256);
        order = n > 0 ? memcmp(a.string->data, b.string->data, n) : 0;
        return order ? order
                     : (a.string->n_bytes > b.string->n_bytes) -
                           (a.string->n_bytes < b.string->n_bytes);
    }
    if (a.kind == b.kind && (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)) {
        if (jinja_descend(run)) {
            for (size_t i = 0; i < a.list->n && i < b.list->n && order == 0; i++) {
                if (!jinja_step(run, 1))
                    break;
                if (!jinja_equals(run, a.list->items[i], b.list->items[i]))
                    order = jinja_order(run, a.list->items[i], b.list->items[i]);
            }
            if (order == 0)
                order = (a.list->n > b.list->n) - (a.list->n < b.list->n);
        }
        jinja_leave(run);
        return order;
    }
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED)
        jinja_fail_undefined(run, a.kind == JINJA_UNDEFINED ? a : b);
    jinja_fail(run, KVERN_INVALID, "'<' not supported between '%s' and '%s'", jinja_type_name(a),
               jinja_type_name(b));
    return 0;
}

bool jinja_contains(struct jinja_run *run, struct jinja_value container, struct jinja_value item)
{
    struct jinja_value unused;

    if (container.kind == JINJA_STRING) {
        if (item.kind != JINJA_STRING) {
            jinja_fail(run, KVERN_INVALID, "'in <string>' needs a string, not '%s'",
                       jinja_type_name(item));
            return false;
        }
        return jinja_step(run, container.string->n_bytes / 256) &&
               (item.string->n_bytes == 0 ||
                memmem(container.string->data, container.string->n_bytes, item.string->data,
                       item.string->n_bytes));
    }
    if (container.kind == JINJA_DICT)
        return jinja_dict_get(run, container.dict, item, &unused);
    const struct jinja_list *list = jinja_iterate(run, container);
    for (size_t i = 0; i < list->n; i++) {
        if (!jinja_step(run, 1))
            return false;
        if (jinja_equals(run, list->items[i], item))
            return true;
    }
    return false;
}

static const struct jinja_list *characters(struct jinja_run *run, const struct jinja_string *string)
{
    struct jinja_value list = jinja_list_new(run, JINJA_LIST);
    size_t begin = 0;

    while (begin < string->n_bytes && !run->status) {
        size_t end = begin + 1;

        while (end < string->n_bytes && (string->data[end] & 0xc0) == 0x80)
            end++;
        jinja_list_add(run, list, jinja_part(run, string, begin, end));
        begin = end;
    }
    return run->status ? &no_items : list.list;
}

const struct jinja_list *jinja_iterate(struct jinja_run *run, struct jinja_value value)
{
    struct jinja_value list;

    switch (value.kind) {
    case JINJA_UNDEFINED:
        return &no_items;
    case JINJA_LIST:
    case JINJA_TUPLE:
        return value.list;
    case JINJA_GENERATOR:
        list = jinja_list_new(run, JINJA_LIST);
        if (run->status)
            return &no_items;
        *list.list = *value.list;
        *value.list = (struct jinja_list){0};
        return list.list;
    case JINJA_STRING:
        return characters(run, value.string);
    case JINJA_DICT:
        list = jinja_list_new(run, JINJA_LIST);
        for (size_t i = 0; i < value.dict->n && !run->status; i++)
            jinja_list_add(run, list, value.dict->entries[i].key);
        return run->status ? &no_items : list.list;
    default:
        jinja_fail(run, KVERN_INVALID, "'%s' object is not iterable", jinja_type_name(value));
        return &no_items;
    }
}

int64_t jinja_length(struct jinja_run *run, struct jinja_value value)
{
    int64_t n = 0;

    switch (value.kind) {
    case JINJA_UNDEFINED:
        return 0;
    case JINJA_STRING:
        jinja_step(run, value.string->n_bytes / 256);
        for (size_t i = 0; i < value.string->n_bytes; i++)
            n += (value.string->data[i] & 0xc0) != 0x80;
        return n;
    case JINJA_LIST:
    case JINJA_TUPLE:
        return (int64_t)value.list->n;
    case JINJA_DICT:
        return (int64_t)value.dict->n;
    default:
        jinja_fail(run, KVERN_INVALID, "object of type '%s' has no len()", jinja_type_name(value));
        return -1;
    }
}

const char *jinja_type_name(struct jinja_value value)
{
    static const char *const names[] = {
        [JINJA_UNDEFINED] = "Undefined", [JINJA_ABSENT] = "Undefined",
        [JINJA_NONE] = "NoneType",       [JINJA_BOOLEAN] = "bool",
        [JINJA_INTEGER] = "int",         [JINJA_FLOAT] = "float",
        [JINJA_STRING] = "str",          [JINJA_LIST] = "list",
        [JINJA_TUPLE] = "tuple",         [JINJA_GENERATOR] = "generator",
        [JINJA_DICT] = "dict",           [JINJA_NAMESPACE] = "Namespace",
        [JINJA_MACRO] = "Macro",         [JINJA_FUNCTION] = "function",
        [JINJA_LOOP] = "LoopContext",
    };

    return names[value.kind];
}

struct jinja_value jinja_fail_undefined(struct jinja_run *run, struct jinja_value value)
{
    if (!value.hint)
        return jinja_fail(run, KVERN_INVALID, "a value is undefined");
    return jinja_fail(run, KVERN_INVALID, "'%.*s' is undefined",
                      (int)(value.hint->n_bytes > 100 ? 100 : value.hint->n_bytes),
                      value.hint->data);
}
