/* SPDX-License-Identifier: Apache-2.0
 *
 * Python's two ways to fill a text: "%s and %d" % values, and "{} and {0}".format(values). Widths
 * and precisions are taken for %, not for {}; what is not supported is an error, never a guess.
 */
#include "text/jinja_string.h"
#include "text/jinja_value.h"

#include <stdio.h>
#include <string.h>

enum { MAX_WIDTH = 1000 };

struct spec {
    char flags[8];
    size_t n_flags;
    int width;
    int precision; /* -1: none */
    char kind;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int read_int(const struct jinja_string *format, size_t *at)
{
    int number = 0;

    while (*at < format->n_bytes && is_digit(format->data[*at])) {
        if (number <= MAX_WIDTH)
            number = number * 10 + (format->data[*at] - '0');
        (*at)++;
    }
    return number;
}

/* Reads "-05.2f" after a '%'. */
static struct spec read_spec(const struct jinja_string *format, size_t *at)
{
    struct spec spec = {.precision = -1};

    while (*at < format->n_bytes && format->data[*at] && strchr("-+ 0#", format->data[*at]) &&
           spec.n_flags < sizeof spec.flags - 1)
        spec.flags[spec.n_flags++] = format->data[(*at)++];
    spec.width = read_int(format, at);
    if (*at < format->n_bytes && format->data[*at] == '.') {
        (*at)++;
        spec.precision = read_int(format, at);
    }
    if (*at < format->n_bytes)
        spec.kind = format->data[(*at)++];
    return spec;
}

static void add_spaces(struct jinja_builder *builder, int64_t n)
{
    for (; n > 0 && jinja_step(builder->run, 1); n--)
        jinja_add_literal(builder, " ");
}

static void add_text(struct jinja_builder *builder, const struct spec *spec,
                     struct jinja_value value)
{
    struct jinja_run *run = builder->run;
    struct jinja_builder made = {.run = run};
    bool is_left = memchr(spec->flags, '-', spec->n_flags);
    const struct jinja_string *text;
    size_t end;

    if (spec->kind == 's')
        jinja_add_str(&made, value);
    else
        jinja_add_repr(&made, value);
    text = jinja_built(&made).string;
    end = spec->precision < 0 ? text->n_bytes
                              : jinja_offset_of(text->data, text->n_bytes, (size_t)spec->precision);
    int64_t n_pad = spec->width - (int64_t)jinja_count_code_points(text->data, end);
    if (!is_left)
        add_spaces(builder, n_pad);
    jinja_add_part(builder, text, 0, end);
    if (is_left)
        add_spaces(builder, n_pad);
}

static void add_number(struct jinja_builder *builder, const struct spec *spec,
                       struct jinja_value value)
{
    bool is_float = strchr("feEgG", spec->kind) != NULL;
    char format[32];
    char text[1500];

    if (!jinja_is_number(value) || (!is_float && value.kind == JINJA_FLOAT && spec->kind != 'd')) {
        jinja_fail(builder->run, KVERN_INVALID, "%%%c needs a number, not '%s'", spec->kind,
                   jinja_type_name(value));
        return;
    }
    int precision = spec->precision >= 0 ? spec->precision : is_float ? 6 : 0;
    if (is_float) {
        snprintf(format, sizeof format, "%%%.*s*.*%c", (int)spec->n_flags, spec->flags, spec->kind);
        snprintf(text, sizeof text, format, spec->width, precision, jinja_number_of(value));
    } else {
        char kind = spec->kind == 'i' || spec->kind == 'u' ? 'd' : spec->kind;
        double number = jinja_number_of(value);

        if (value.kind == JINJA_FLOAT && !(number > -9e18 && number < 9e18)) {
            jinja_fail(builder->run, KVERN_LIMIT, "an integer over 64 bits");
            return;
        }
        long long whole = value.kind == JINJA_FLOAT     ? (long long)number
                          : value.kind == JINJA_BOOLEAN ? (long long)value.boolean
                                                        : (long long)value.integer;
        if (spec->precision >= 0)
            snprintf(format, sizeof format, "%%%.*s*.%dll%c", (int)spec->n_flags, spec->flags,
                     precision, kind);
        else
            snprintf(format, sizeof format, "%%%.*s*ll%c", (int)spec->n_flags, spec->flags, kind);
        snprintf(text, sizeof text, format, spec->width, whole);
    }
    jinja_add_literal(builder, text);
}

struct jinja_value jinja_percent_format(struct jinja_run *run, const struct jinja_string *format,
                                        const struct jinja_arguments *arguments)
{
    struct jinja_builder builder = {.run = run};
    size_t n_used = 0;
    size_t at = 0;

    while (at < format->n_bytes && jinja_step(run, 1)) {
        size_t percent = jinja_find(format->data, format->n_bytes, at, "%", 1);

        percent = percent == SIZE_MAX ? format->n_bytes : percent;
        jinja_add_part(&builder, format, at, percent);
        at = percent + 1;
        if (percent == format->n_bytes)
            break;
        struct spec spec = read_spec(format, &at);
        if (spec.kind == '%') {
            jinja_add_literal(&builder, "%");
            continue;
        }
        if (spec.width > MAX_WIDTH || spec.precision > 300)
            return jinja_fail(run, KVERN_LIMIT, "a format's width is over %d", MAX_WIDTH);
        if (!spec.kind || !strchr("srdiuxXofeEgG", spec.kind))
            return jinja_fail(run, KVERN_UNSUPPORTED, "unsupported format character '%c'",
                              spec.kind ? spec.kind : ' ');
        if (n_used >= arguments->n)
            return jinja_fail(run, KVERN_INVALID, "not enough arguments for format string");
        if (spec.kind == 's' || spec.kind == 'r')
            add_text(&builder, &spec, arguments->items[n_used++]);
        else
            add_number(&builder, &spec, arguments->items[n_used++]);
    }
    if (n_used < arguments->n)
        return jinja_fail(run, KVERN_INVALID,
                          "not all arguments converted during string formatting");
    return jinja_built(&builder);
}

/* The argument that "{name}" means; *next counts the unnamed ones. */
static struct jinja_value field(struct jinja_run *run, const struct jinja_arguments *arguments,
                                struct jinja_text name, size_t *next)
{
    size_t index = 0;
    bool is_index = name.n_bytes < 9;

    for (size_t i = 0; i < name.n_bytes; i++) {
        is_index = is_index && is_digit(name.data[i]);
        index = is_index ? index * 10 + (size_t)(name.data[i] - '0') : 0;
    }
    if (is_index) {
        index = name.n_bytes == 0 ? (*next)++ : index;
        if (index < arguments->n)
            return arguments->items[index];
        return jinja_fail(run, KVERN_INVALID, "format has no argument %zu", index);
    }
    for (size_t i = 0; i < arguments->n_named; i++) {
        struct jinja_text other = arguments->named[i].name;

        if (other.n_bytes == name.n_bytes && memcmp(other.data, name.data, name.n_bytes) == 0)
            return arguments->named[i].value;
    }
    return jinja_fail(run, KVERN_UNSUPPORTED, "format has no argument '%.*s'",
                      (int)(name.n_bytes > 60 ? 60 : name.n_bytes), name.data);
}

struct jinja_value jinja_brace_format(struct jinja_run *run, const struct jinja_string *format,
                                      const struct jinja_arguments *arguments)
{
    struct jinja_builder builder = {.run = run};
    size_t next = 0;
    size_t at = 0;

    while (at < format->n_bytes && jinja_step(run, 1)) {
        char c = format->data[at];
        bool is_brace = c == '{' || c == '}';
        bool is_doubled = is_brace && at + 1 < format->n_bytes && format->data[at + 1] == c;

        if (!is_brace || is_doubled) {
            jinja_add_part(&builder, format, at, at + 1);
            at += is_doubled ? 2 : 1;
            continue;
        }
        size_t end = jinja_find(format->data, format->n_bytes, at, "}", 1);
        if (c == '}' || end == SIZE_MAX)
            return jinja_fail(run, KVERN_INVALID, "a single '%c' in a format string", c);
        struct jinja_text name = {format->data + at + 1, end - at - 1};
        jinja_add_str(&builder, field(run, arguments, name, &next));
        at = end + 1;
    }
    return jinja_built(&builder);
}
