/* SPDX-License-Identifier: Apache-2.0
 *
 * Values -> text as Python's str() and repr() write them, into a builder that keeps for every byte
 * whether it is untrusted. A builder never grows past the render's output limit.
 */
#include "text/jinja_string.h"
#include "text/jinja_value.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

static bool reserve(struct jinja_builder *builder, size_t n_more)
{
    struct jinja_run *run = builder->run;
    size_t capacity = builder->capacity ? builder->capacity : 64;

    if (!jinja_step(run, n_more / 64))
        return false;
    if (n_more > run->limits.max_output_bytes - builder->n_bytes) {
        jinja_fail(run, KVERN_LIMIT, "its text is over the limit of %zu bytes",
                   run->limits.max_output_bytes);
        return false;
    }
    if (builder->n_bytes + n_more <= builder->capacity)
        return true;
    while (capacity < builder->n_bytes + n_more)
        capacity *= 2;
    char *data = jinja_new(run, capacity, 1);
    uint8_t *marks = jinja_new(run, capacity, 1);
    if (!data || !marks)
        return false;
    if (builder->n_bytes > 0) {
        memcpy(data, builder->data, builder->n_bytes);
        memcpy(marks, builder->marks, builder->n_bytes);
    }
    builder->data = data;
    builder->marks = marks;
    builder->capacity = capacity;
    return true;
}

void jinja_add(struct jinja_builder *builder, const char *data, size_t n_bytes, bool is_untrusted)
{
    if (n_bytes == 0 || !reserve(builder, n_bytes))
        return;
    memcpy(builder->data + builder->n_bytes, data, n_bytes);
    memset(builder->marks + builder->n_bytes, is_untrusted, n_bytes);
    builder->n_bytes += n_bytes;
    builder->n_untrusted += is_untrusted ? n_bytes : 0;
}

void jinja_add_literal(struct jinja_builder *builder, const char *text)
{
    jinja_add(builder, text, strlen(text), false);
}

void jinja_add_code_point(struct jinja_builder *builder, uint32_t code_point, bool is_untrusted)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char((utf8proc_int32_t)code_point, bytes);

    jinja_add(builder, (const char *)bytes, (size_t)n, is_untrusted);
}

bool jinja_mark_at(const struct jinja_string *string, size_t at)
{
    return string->marks ? string->marks[at] : string->is_untrusted;
}

void jinja_add_part(struct jinja_builder *builder, const struct jinja_string *string, size_t begin,
                    size_t end)
{
    size_t at = builder->n_bytes;

    if (end <= begin)
        return;
    jinja_add(builder, string->data + begin, end - begin, !string->marks && string->is_untrusted);
    if (!string->marks || !builder->marks || builder->run->status)
        return;
    memcpy(builder->marks + at, string->marks + begin, end - begin);
    for (size_t i = begin; i < end; i++)
        builder->n_untrusted += string->marks[i];
}

struct jinja_value jinja_built(struct jinja_builder *builder)
{
    struct jinja_string *string = jinja_new(builder->run, 1, sizeof *string);

    if (!string)
        return jinja_literal(builder->run, "");
    *string = (struct jinja_string){.data = builder->data ? builder->data : "",
                                    .n_bytes = builder->n_bytes,
                                    .is_untrusted = builder->n_untrusted > 0};
    if (builder->n_untrusted > 0 && builder->n_untrusted < builder->n_bytes)
        string->marks = builder->marks;
    return (struct jinja_value){.kind = JINJA_STRING, .string = string};
}

static void add_string_repr(struct jinja_builder *builder, const struct jinja_string *string)
{
    bool has_single = string->n_bytes && memchr(string->data, '\'', string->n_bytes);
    bool has_double = string->n_bytes && memchr(string->data, '"', string->n_bytes);
    char quote = has_single && !has_double ? '"' : '\'';
    char quote_text[2] = {quote, '\0'};

    jinja_add_literal(builder, quote_text);
    for (size_t i = 0; i < string->n_bytes && !builder->run->status;) {
        uint32_t c;
        size_t n = utf8_decode(string->data + i, string->n_bytes - i, &c);
        bool mark = jinja_mark_at(string, i);
        char escape[16] = "";

        n = n ? n : 1;
        if (c == (uint32_t)quote || c == '\\')
            snprintf(escape, sizeof escape, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (!jinja_is_printable(c))
            snprintf(escape, sizeof escape,
                     c < 0x100     ? "\\x%02x"
                     : c < 0x10000 ? "\\u%04x"
                                   : "\\U%08x",
                     (unsigned)c);
        if (escape[0])
            jinja_add(builder, escape, strlen(escape), mark);
        else
            jinja_add_part(builder, string, i, i + n);
        i += n;
    }
    jinja_add_literal(builder, quote_text);
}

static void add_list_repr(struct jinja_builder *builder, struct jinja_value value)
{
    bool is_tuple = value.kind == JINJA_TUPLE;

    jinja_add_literal(builder, is_tuple ? "(" : "[");
    for (size_t i = 0; i < value.list->n && !builder->run->status; i++) {
        if (i > 0)
            jinja_add_literal(builder, ", ");
        jinja_add_repr(builder, value.list->items[i]);
    }
    jinja_add_literal(builder, !is_tuple ? "]" : value.list->n == 1 ? ",)" : ")");
}

static void add_dict_repr(struct jinja_builder *builder, const struct jinja_dict *dict)
{
    jinja_add_literal(builder, "{");
    for (size_t i = 0; i < dict->n && !builder->run->status; i++) {
        if (i > 0)
            jinja_add_literal(builder, ", ");
        jinja_add_repr(builder, dict->entries[i].key);
        jinja_add_literal(builder, ": ");
        jinja_add_repr(builder, dict->entries[i].value);
    }
    jinja_add_literal(builder, "}");
}

void jinja_add_repr(struct jinja_builder *builder, struct jinja_value value)
{
    char text[64];

    if (!jinja_descend(builder->run)) {
        jinja_leave(builder->run);
        return;
    }
    switch (value.kind) {
    case JINJA_UNDEFINED:
    case JINJA_ABSENT:
        jinja_add_literal(builder, "Undefined");
        break;
    case JINJA_NONE:
        jinja_add_literal(builder, "None");
        break;
    case JINJA_BOOLEAN:
        jinja_add_literal(builder, value.boolean ? "True" : "False");
        break;
    case JINJA_INTEGER:
        snprintf(text, sizeof text, "%lld", (long long)value.integer);
        jinja_add_literal(builder, text);
        break;
    case JINJA_FLOAT:
        jinja_format_float(value.number, text);
        jinja_add_literal(builder, text);
        break;
    case JINJA_STRING:
        add_string_repr(builder, value.string);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        add_list_repr(builder, value);
        break;
    case JINJA_DICT:
        add_dict_repr(builder, value.dict);
        break;
    case JINJA_NAMESPACE:
        jinja_add_literal(builder, "<Namespace ");
        add_dict_repr(builder, value.dict);
        jinja_add_literal(builder, ">");
        break;
    default:
        snprintf(text, sizeof text, "<%s>", jinja_type_name(value));
        jinja_add_literal(builder, text);
    }
    jinja_leave(builder->run);
}

void jinja_add_str(struct jinja_builder *builder, struct jinja_value value)
{
    if (value.kind == JINJA_STRING)
        jinja_add_part(builder, value.string, 0, value.string->n_bytes);
    else if (value.kind != JINJA_UNDEFINED && value.kind != JINJA_ABSENT)
        jinja_add_repr(builder, value);
}

const struct jinja_string *jinja_text_of(struct jinja_run *run, struct jinja_value value)
{
    struct jinja_builder builder = {.run = run};

    if (value.kind == JINJA_STRING)
        return value.string;
    jinja_add_str(&builder, value);
    return jinja_built(&builder).string;
}
