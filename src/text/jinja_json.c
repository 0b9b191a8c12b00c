/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON in and out: variables arrive as jansson values, tojson writes what Python's json.dumps does.
 */
#include "text/jinja_string.h"
#include "text/jinja_value.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void add_json_string(struct jinja_builder *builder, const struct jinja_string *string,
                            bool is_ascii)
{
    static const char from[] = "\"\\\n\r\t\b\f";
    static const char to[] = "\"\\nrtbf";

    jinja_add_literal(builder, "\"");
    for (size_t i = 0; i < string->n_bytes && !builder->run->status;) {
        uint32_t c;
        size_t n = utf8_decode(string->data + i, string->n_bytes - i, &c);
        const char *simple = c && c < 0x80 ? strchr(from, (int)c) : NULL;
        char escape[16] = "";

        n = n ? n : 1;
        if (simple)
            snprintf(escape, sizeof escape, "\\%c", to[simple - from]);
        else if (is_ascii && c >= 0x10000)
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x",
                     (unsigned)(0xd800 + ((c - 0x10000) >> 10)),
                     (unsigned)(0xdc00 + ((c - 0x10000) & 0x3ff)));
        else if (c < 0x20 || (is_ascii && c >= 0x7f && c != 0x7f))
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
        if (escape[0])
            jinja_add(builder, escape, strlen(escape), jinja_mark_at(string, i));
        else
            jinja_add_part(builder, string, i, i + n);
        i += n;
    }
    jinja_add_literal(builder, "\"");
}

static void add_line(struct jinja_builder *builder, const struct jinja_json_style *style,
                     size_t level)
{
    if (!style->indent)
        return;
    jinja_add_literal(builder, "\n");
    for (size_t i = 0; i < level && jinja_step(builder->run, 1); i++)
        jinja_add(builder, style->indent, style->n_indent, false);
}

static void add_json_key(struct jinja_builder *builder, struct jinja_value key,
                         const struct jinja_json_style *style)
{
    if (key.kind == JINJA_STRING) {
        add_json_string(builder, key.string, style->is_ascii);
    } else if (key.kind == JINJA_NONE || jinja_is_number(key)) {
        jinja_add_literal(builder, "\"");
        jinja_add_json(builder, key, style, 0);
        jinja_add_literal(builder, "\"");
    } else {
        jinja_fail(builder->run, KVERN_INVALID, "a JSON key cannot be a '%s'",
                   jinja_type_name(key));
    }
}

/* The order in which a dict's entries are written: by key with sort_keys, else as inserted. An
 * insertion sort: objects of templates have a handful of keys, and each comparison is charged. */
static const struct jinja_entry *entries_in_order(struct jinja_run *run,
                                                  const struct jinja_dict *dict, bool is_sorted)
{
    struct jinja_entry *sorted;

    if (!is_sorted || dict->n < 2)
        return dict->entries;
    sorted = jinja_new(run, dict->n, sizeof *sorted);
    for (size_t i = 0; sorted && i < dict->n; i++) {
        size_t at = i;

        while (at > 0 && jinja_step(run, 1) &&
               jinja_order(run, dict->entries[i].key, sorted[at - 1].key) < 0) {
            sorted[at] = sorted[at - 1];
            at--;
        }
        sorted[at] = dict->entries[i];
    }
    return run->status ? dict->entries : sorted;
}

static void add_json_dict(struct jinja_builder *builder, const struct jinja_dict *dict,
                          const struct jinja_json_style *style, size_t level)
{
    const struct jinja_entry *entries = entries_in_order(builder->run, dict, style->sorts_keys);

    jinja_add_literal(builder, "{");
    for (size_t i = 0; i < dict->n && !builder->run->status; i++) {
        if (i > 0)
            jinja_add(builder, style->item_separator.data, style->item_separator.n_bytes, false);
        add_line(builder, style, level + 1);
        add_json_key(builder, entries[i].key, style);
        jinja_add(builder, style->key_separator.data, style->key_separator.n_bytes, false);
        jinja_add_json(builder, entries[i].value, style, level + 1);
    }
    if (dict->n > 0)
        add_line(builder, style, level);
    jinja_add_literal(builder, "}");
}

static void add_json_list(struct jinja_builder *builder, const struct jinja_list *list,
                          const struct jinja_json_style *style, size_t level)
{
    jinja_add_literal(builder, "[");
    for (size_t i = 0; i < list->n && !builder->run->status; i++) {
        if (i > 0)
            jinja_add(builder, style->item_separator.data, style->item_separator.n_bytes, false);
        add_line(builder, style, level + 1);
        jinja_add_json(builder, list->items[i], style, level + 1);
    }
    if (list->n > 0)
        add_line(builder, style, level);
    jinja_add_literal(builder, "]");
}

void jinja_add_json(struct jinja_builder *builder, struct jinja_value value,
                    const struct jinja_json_style *style, size_t level)
{
    struct jinja_run *run = builder->run;

    if (jinja_descend(run)) {
        switch (value.kind) {
        case JINJA_NONE:
            jinja_add_literal(builder, "null");
            break;
        case JINJA_BOOLEAN:
            jinja_add_literal(builder, value.boolean ? "true" : "false");
            break;
        case JINJA_FLOAT:
            if (isfinite(value.number))
                jinja_add_repr(builder, value);
            else
                jinja_add_literal(builder, isnan(value.number) ? "NaN"
                                           : value.number < 0  ? "-Infinity"
                                                               : "Infinity");
            break;
        case JINJA_INTEGER:
            jinja_add_repr(builder, value);
            break;
        case JINJA_STRING:
            add_json_string(builder, value.string, style->is_ascii);
            break;
        case JINJA_LIST:
        case JINJA_TUPLE:
            add_json_list(builder, value.list, style, level);
            break;
        case JINJA_DICT:
            add_json_dict(builder, value.dict, style, level);
            break;
        default:
            jinja_fail(run, KVERN_INVALID, "a value of type %s is not JSON serializable",
                       jinja_type_name(value));
        }
    }
    jinja_leave(run);
}

struct jinja_value jinja_from_json(struct jinja_run *run, const json_t *json, bool is_untrusted)
{
    struct jinja_value value = jinja_none();

    if (jinja_descend(run)) {
        switch (json_typeof(json)) {
        case JSON_OBJECT: {
            const char *key;
            json_t *item;

            value = jinja_dict_new(run);
            json_object_foreach((json_t *)(uintptr_t)json, key, item)
            {
                struct jinja_value name = jinja_string_of(run, key, strlen(key), is_untrusted);

                jinja_dict_put(run, value, name, jinja_from_json(run, item, is_untrusted));
                if (run->status)
                    break;
            }
            break;
        }
        case JSON_ARRAY:
            value = jinja_list_new(run, JINJA_LIST);
            for (size_t i = 0; i < json_array_size(json) && !run->status; i++)
                jinja_list_add(run, value,
                               jinja_from_json(run, json_array_get(json, i), is_untrusted));
            break;
        case JSON_STRING:
            value = jinja_string_of(run, json_string_value(json), json_string_length(json),
                                    is_untrusted);
            break;
        case JSON_INTEGER:
            value = jinja_integer(json_integer_value(json));
            break;
        case JSON_REAL:
            value = jinja_float(json_real_value(json));
            break;
        case JSON_TRUE:
        case JSON_FALSE:
            value = jinja_boolean(json_is_true(json));
            break;
        case JSON_NULL:
            break;
        }
    }
    jinja_leave(run);
    return value;
}
