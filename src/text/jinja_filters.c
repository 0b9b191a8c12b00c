/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters on one value: text, numbers, JSON, and the table of all filters. Those that go over a
 * sequence are in jinja_filters_list.c. To add one: write its function and add a row.
 */
#include "text/jinja_filters.h"
#include "text/jinja_string.h"
#include "text/jinja_value.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct jinja_string *text_or(struct jinja_run *run, struct jinja_value value,
                                          const char *absent)
{
    return jinja_text_of(run, value.kind == JINJA_ABSENT ? jinja_literal(run, absent) : value);
}

static int64_t whole_or(struct jinja_run *run, struct jinja_value value, int64_t absent)
{
    if (value.kind == JINJA_ABSENT || value.kind == JINJA_NONE)
        return absent;
    if (value.kind == JINJA_BOOLEAN)
        return value.boolean;
    if (value.kind != JINJA_INTEGER)
        jinja_fail(run, KVERN_INVALID, "an integer is needed, not '%s'", jinja_type_name(value));
    return value.integer;
}

static struct jinja_value filter_default(struct jinja_run *run, struct jinja_value self,
                                         const struct jinja_arguments *arguments)
{
    bool replaces_false = jinja_is_true(run, arguments->items[1]);
    bool is_replaced =
        self.kind == JINJA_UNDEFINED || (replaces_false && !jinja_is_true(run, self));

    if (!is_replaced)
        return self;
    return arguments->items[0].kind == JINJA_ABSENT ? jinja_literal(run, "") : arguments->items[0];
}

static struct jinja_value filter_trim(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    const struct jinja_string *string = jinja_text_of(run, self);

    return jinja_strip(run, string,
                       arguments->items[0].kind == JINJA_STRING ? arguments->items[0].string : NULL,
                       true, true);
}

static struct jinja_value filter_length(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_arguments *arguments)
{
    (void)arguments;
    return jinja_integer(jinja_length(run, self));
}

static struct jinja_value filter_string(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_arguments *arguments)
{
    (void)arguments;
    struct jinja_builder builder = {.run = run};

    if (self.kind == JINJA_STRING)
        return self;
    jinja_add_str(&builder, self);
    return jinja_built(&builder);
}

static struct jinja_value filter_safe(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    return filter_string(run, self, arguments);
}

static struct jinja_value filter_upper(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    (void)arguments;
    const struct jinja_string *string = jinja_text_of(run, self);
    struct jinja_builder builder = {.run = run};

    jinja_add_upper(&builder, string, 0, string->n_bytes);
    return jinja_built(&builder);
}

static struct jinja_value filter_lower(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    (void)arguments;
    const struct jinja_string *string = jinja_text_of(run, self);
    struct jinja_builder builder = {.run = run};

    jinja_add_lower(&builder, string, 0, string->n_bytes);
    return jinja_built(&builder);
}

static struct jinja_value filter_capitalize(struct jinja_run *run, struct jinja_value self,
                                            const struct jinja_arguments *arguments)
{
    (void)arguments;
    const struct jinja_string *string = jinja_text_of(run, self);
    struct jinja_builder builder = {.run = run};
    size_t first = jinja_offset_of(string->data, string->n_bytes, 1);

    jinja_add_upper(&builder, string, 0, first);
    jinja_add_lower(&builder, string, first, string->n_bytes);
    return jinja_built(&builder);
}

static struct jinja_value filter_title(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    (void)arguments;
    const struct jinja_string *string = jinja_text_of(run, self);
    struct jinja_builder builder = {.run = run};
    bool is_first = true; /* of a word: after white space, '-' or an opening bracket */

    for (size_t i = 0, n; i < string->n_bytes && jinja_step(run, 1); i += n) {
        n = jinja_offset_of(string->data + i, string->n_bytes - i, 1);
        if (is_first)
            jinja_add_upper(&builder, string, i, i + n);
        else
            jinja_add_lower(&builder, string, i, i + n);
        is_first = jinja_space_bytes(string->data + i, string->n_bytes - i) > 0 ||
                   (string->data[i] && strchr("-({[<", string->data[i]));
    }
    return jinja_built(&builder);
}

static struct jinja_value filter_replace(struct jinja_run *run, struct jinja_value self,
                                         const struct jinja_arguments *arguments)
{
    const struct jinja_string *string = jinja_text_of(run, self);
    const struct jinja_string *old = jinja_text_of(run, arguments->items[0]);
    const struct jinja_string *new_ = jinja_text_of(run, arguments->items[1]);

    return jinja_replace(run, string, old, new_, whole_or(run, arguments->items[2], -1));
}

static struct jinja_value filter_escape(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_arguments *arguments)
{
    (void)arguments;
    const struct jinja_string *string = jinja_text_of(run, self);
    struct jinja_builder builder = {.run = run};

    for (size_t i = 0; i < string->n_bytes && jinja_step(run, 1); i++) {
        char c = string->data[i];
        const char *entity = c == '&'    ? "&amp;"
                             : c == '<'  ? "&lt;"
                             : c == '>'  ? "&gt;"
                             : c == '\'' ? "&#39;"
                             : c == '"'  ? "&#34;"
                                         : NULL;
        if (entity)
            jinja_add(&builder, entity, strlen(entity), jinja_mark_at(string, i));
        else
            jinja_add_part(&builder, string, i, i + 1);
    }
    return jinja_built(&builder);
}

static struct jinja_value filter_indent(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_arguments *arguments)
{
    const struct jinja_string *string = jinja_text_of(run, self);
    struct jinja_builder space = {.run = run};
    struct jinja_builder builder = {.run = run};
    bool indents_first = jinja_is_true(run, arguments->items[1]);
    bool indents_blank = jinja_is_true(run, arguments->items[2]);
    const struct jinja_string *width;

    if (arguments->items[0].kind == JINJA_STRING)
        jinja_add_str(&space, arguments->items[0]);
    else
        for (int64_t n = whole_or(run, arguments->items[0], 4); n > 0 && jinja_step(run, 1); n--)
            jinja_add_literal(&space, " ");
    width = jinja_built(&space).string;
    for (size_t begin = 0; begin <= string->n_bytes && jinja_step(run, 1);) {
        const char *newline = string->n_bytes > begin
                                  ? memchr(string->data + begin, '\n', string->n_bytes - begin)
                                  : NULL;
        size_t end = newline ? (size_t)(newline - string->data) : string->n_bytes;

        if (begin > 0)
            jinja_add_part(&builder, string, begin - 1, begin);
        if (begin == 0 ? indents_first : indents_blank || end > begin)
            jinja_add_part(&builder, width, 0, width->n_bytes);
        jinja_add_part(&builder, string, begin, end);
        begin = end + 1;
    }
    return jinja_built(&builder);
}

/* Reads a whole number or a float from text with white space around it; false if it is none. */
static bool read_number(struct jinja_run *run, const struct jinja_string *string, int base,
                        int64_t *integer, double *number)
{
    const struct jinja_string *text = jinja_strip(run, string, NULL, true, true).string;
    char copy[80];
    char *end;

    if (text->n_bytes == 0 || text->n_bytes >= sizeof copy)
        return false;
    memcpy(copy, text->data, text->n_bytes);
    copy[text->n_bytes] = '\0';
    errno = 0;
    if (integer)
        *integer = strtoll(copy, &end, base);
    else if (strpbrk(copy, "xXpP()"))
        return false; /* C reads hexadecimal floats and nan(...), Python does not */
    else
        *number = strtod(copy, &end);
    return *end == '\0' && end != copy && (errno == 0 || !integer);
}

static struct jinja_value filter_int(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    struct jinja_value absent =
        arguments->items[0].kind == JINJA_ABSENT ? jinja_integer(0) : arguments->items[0];
    int64_t base = whole_or(run, arguments->items[1], 10);
    int64_t integer;
    double number;

    if (self.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, self);
    if (self.kind == JINJA_INTEGER || self.kind == JINJA_BOOLEAN)
        return self.kind == JINJA_INTEGER ? self : jinja_integer(self.boolean);
    if (self.kind == JINJA_STRING) {
        if (base < 2 || base > 36)
            return absent;
        if (read_number(run, self.string, (int)base, &integer, NULL))
            return jinja_integer(integer);
        if (!read_number(run, self.string, 10, NULL, &number))
            return absent;
    } else if (self.kind == JINJA_FLOAT) {
        number = self.number;
    } else {
        return absent;
    }
    if (!isfinite(number))
        return absent;
    if (fabs(number) >= 9.2e18)
        return jinja_fail(run, KVERN_LIMIT, "an integer over 64 bits");
    return jinja_integer((int64_t)number);
}

static struct jinja_value filter_float(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    double number;

    if (self.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, self);
    if (jinja_is_number(self))
        return jinja_float(jinja_number_of(self));
    if (self.kind == JINJA_STRING && read_number(run, self.string, 10, NULL, &number))
        return jinja_float(number);
    return arguments->items[0].kind == JINJA_ABSENT ? jinja_float(0) : arguments->items[0];
}

static struct jinja_value filter_abs(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)arguments;
    if (self.kind == JINJA_FLOAT)
        return jinja_float(fabs(self.number));
    if (self.kind != JINJA_INTEGER && self.kind != JINJA_BOOLEAN)
        return jinja_fail(run, KVERN_INVALID, "bad operand type for abs(): '%s'",
                          jinja_type_name(self));
    if (self.kind == JINJA_BOOLEAN)
        return jinja_integer(self.boolean);
    return self.integer < 0 ? jinja_binary(run, JINJA_SUBTRACT, jinja_integer(0), self) : self;
}

static struct jinja_value filter_round(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    int64_t precision = whole_or(run, arguments->items[0], 0);
    const struct jinja_string *method = text_or(run, arguments->items[1], "common");
    struct jinja_text name = {method->data, method->n_bytes};
    char text[400];

    if (!jinja_is_number(self))
        return jinja_fail(run, KVERN_INVALID, "round needs a number, not '%s'",
                          jinja_type_name(self));
    if (precision < -15 || precision > 15)
        return jinja_fail(run, KVERN_LIMIT, "round's precision %lld is not within 15 digits",
                          (long long)precision);
    double scale = pow(10, (double)precision);
    double number = jinja_number_of(self);
    if (jinja_text_is(name, "ceil"))
        return jinja_float(ceil(number * scale) / scale);
    if (jinja_text_is(name, "floor"))
        return jinja_float(floor(number * scale) / scale);
    if (!jinja_text_is(name, "common"))
        return jinja_fail(run, KVERN_INVALID, "method must be common, ceil or floor");
    if (self.kind != JINJA_FLOAT && precision >= 0)
        return self;
    if (precision < 0)
        number = nearbyint(number * scale) / scale;
    else if (isfinite(number)) {
        snprintf(text, sizeof text, "%.*f", (int)precision, number);
        number = strtod(text, NULL);
    }
    return self.kind == JINJA_FLOAT ? jinja_float(number) : jinja_integer((int64_t)number);
}

static struct jinja_value filter_tojson(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_arguments *arguments)
{
    struct jinja_json_style style = {.is_ascii = jinja_is_true(run, arguments->items[0]),
                                     .sorts_keys = jinja_is_true(run, arguments->items[3]),
                                     .item_separator = {", ", 2},
                                     .key_separator = {": ", 2}};
    struct jinja_value indent = arguments->items[1];
    struct jinja_value separators = arguments->items[2];
    struct jinja_builder space = {.run = run};
    struct jinja_builder builder = {.run = run};

    if (indent.kind != JINJA_ABSENT && indent.kind != JINJA_NONE) {
        if (indent.kind == JINJA_STRING)
            jinja_add_str(&space, indent);
        else
            for (int64_t n = whole_or(run, indent, 0); n > 0 && jinja_step(run, 1); n--)
                jinja_add_literal(&space, " ");
        style.indent = space.data ? space.data : "";
        style.n_indent = space.n_bytes;
        style.item_separator.n_bytes = 1;
    }
    if ((separators.kind == JINJA_TUPLE || separators.kind == JINJA_LIST) &&
        separators.list->n == 2 && separators.list->items[0].kind == JINJA_STRING &&
        separators.list->items[1].kind == JINJA_STRING) {
        const struct jinja_string *item = separators.list->items[0].string;
        const struct jinja_string *key = separators.list->items[1].string;

        style.item_separator = (struct jinja_text){item->data, item->n_bytes};
        style.key_separator = (struct jinja_text){key->data, key->n_bytes};
    }
    jinja_add_json(&builder, self, &style, 0);
    return jinja_built(&builder);
}

static struct jinja_value filter_attr(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    const struct jinja_string *name = jinja_text_of(run, arguments->items[0]);

    return jinja_attribute(run, self, (struct jinja_text){name->data, name->n_bytes});
}

static struct jinja_value filter_format(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_arguments *arguments)
{
    return jinja_percent_format(run, jinja_text_of(run, self), arguments);
}

static const struct jinja_builtin filters[] = {
    {"default", "default_value,boolean", filter_default},
    {"d", "default_value,boolean", filter_default},
    {"trim", "chars", filter_trim},
    {"length", "", filter_length},
    {"count", "", filter_length},
    {"string", "", filter_string},
    {"safe", "", filter_safe},
    {"upper", "", filter_upper},
    {"lower", "", filter_lower},
    {"capitalize", "", filter_capitalize},
    {"title", "", filter_title},
    {"replace", "old,new,count", filter_replace},
    {"escape", "", filter_escape},
    {"e", "", filter_escape},
    {"indent", "width,first,blank", filter_indent},
    {"int", "default,base", filter_int},
    {"float", "default", filter_float},
    {"abs", "", filter_abs},
    {"round", "precision,method", filter_round},
    {"tojson", "ensure_ascii,indent,separators,sort_keys", filter_tojson},
    {"attr", "name", filter_attr},
    {"format", NULL, filter_format},
    {"first", "", jinja_filter_first},
    {"last", "", jinja_filter_last},
    {"list", "", jinja_filter_list},
    {"join", "d,attribute", jinja_filter_join},
    {"reverse", "", jinja_filter_reverse},
    {"items", "", jinja_filter_items},
    {"sort", "reverse,case_sensitive,attribute", jinja_filter_sort},
    {"dictsort", "case_sensitive,by,reverse", jinja_filter_dictsort},
    {"unique", "case_sensitive,attribute", jinja_filter_unique},
    {"map", NULL, jinja_filter_map},
    {"select", NULL, jinja_filter_select},
    {"reject", NULL, jinja_filter_reject},
    {"selectattr", NULL, jinja_filter_selectattr},
    {"rejectattr", NULL, jinja_filter_rejectattr},
    {"sum", "attribute,start", jinja_filter_sum},
    {"min", "case_sensitive,attribute", jinja_filter_min},
    {"max", "case_sensitive,attribute", jinja_filter_max},
};

const struct jinja_builtin *jinja_find_filter(struct jinja_text name)
{
    return jinja_find_builtin(filters, sizeof filters / sizeof filters[0], name);
}
