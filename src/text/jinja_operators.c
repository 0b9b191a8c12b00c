/* SPDX-License-Identifier: Apache-2.0
 *
 * Arithmetic, comparison, subscripts and slices with Python's rules on 64-bit integers: what would
 * be a longer integer in Python is an error here.
 */
#include "text/jinja_string.h"
#include "text/jinja_value.h"

#include <math.h>
#include <string.h>

static int64_t whole(struct jinja_value value)
{
    return value.kind == JINJA_BOOLEAN ? value.boolean : value.integer;
}

static struct jinja_value power(struct jinja_run *run, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    bool overflows = false;

    if (exponent < 0)
        return base == 0 ? jinja_fail(run, KVERN_INVALID, "0 to a negative power")
                         : jinja_float(pow((double)base, (double)exponent));
    if (base == 1 || base == 0 || base == -1) /* the loop below would not end early */
        return jinja_integer(exponent == 0 ? 1 : base < 0 && exponent % 2 == 0 ? 1 : base);
    for (int64_t i = 0; i < exponent && !overflows; i++)
        overflows = __builtin_mul_overflow(result, base, &result);
    return overflows ? jinja_fail(run, KVERN_LIMIT, "an integer over 64 bits")
                     : jinja_integer(result);
}

static struct jinja_value whole_arithmetic(struct jinja_run *run, enum jinja_operator op, int64_t a,
                                           int64_t b)
{
    int64_t result = 0;
    bool overflows = false;

    switch (op) {
    case JINJA_ADD:
        overflows = __builtin_add_overflow(a, b, &result);
        break;
    case JINJA_SUBTRACT:
        overflows = __builtin_sub_overflow(a, b, &result);
        break;
    case JINJA_MULTIPLY:
        overflows = __builtin_mul_overflow(a, b, &result);
        break;
    case JINJA_POWER:
        return power(run, a, b);
    default:
        if (b == 0)
            return jinja_fail(run, KVERN_INVALID, "division by zero");
        if (op == JINJA_DIVIDE)
            return jinja_float((double)a / (double)b);
        if (b == -1) {
            overflows = __builtin_sub_overflow(0, a, &result);
            result = op == JINJA_MODULO ? 0 : result;
            overflows = overflows && op != JINJA_MODULO;
        } else if (op == JINJA_FLOOR_DIVIDE) {
            result = a / b - (a % b != 0 && (a < 0) != (b < 0));
        } else {
            result = a % b;
            if (result != 0 && (result < 0) != (b < 0))
                result += b;
        }
    }
    return overflows ? jinja_fail(run, KVERN_LIMIT, "an integer over 64 bits")
                     : jinja_integer(result);
}

static struct jinja_value float_arithmetic(struct jinja_run *run, enum jinja_operator op, double a,
                                           double b)
{
    double rest;

    if (b == 0 && (op == JINJA_DIVIDE || op == JINJA_FLOOR_DIVIDE || op == JINJA_MODULO))
        return jinja_fail(run, KVERN_INVALID, "division by zero");
    switch (op) {
    case JINJA_ADD:
        return jinja_float(a + b);
    case JINJA_SUBTRACT:
        return jinja_float(a - b);
    case JINJA_MULTIPLY:
        return jinja_float(a * b);
    case JINJA_DIVIDE:
        return jinja_float(a / b);
    case JINJA_FLOOR_DIVIDE:
        return jinja_float(floor(a / b));
    case JINJA_MODULO:
        rest = fmod(a, b);
        if (rest != 0 && (rest < 0) != (b < 0))
            rest += b;
        return jinja_float(rest);
    default:
        return jinja_float(pow(a, b));
    }
}

static struct jinja_value repeat(struct jinja_run *run, struct jinja_value value, int64_t n)
{
    struct jinja_value result;

    if (value.kind == JINJA_STRING) {
        struct jinja_builder builder = {.run = run};

        for (int64_t i = 0; i < n && value.string->n_bytes > 0 && jinja_step(run, 1); i++)
            jinja_add_str(&builder, value);
        return jinja_built(&builder);
    }
    result = jinja_list_new(run, value.kind);
    for (int64_t i = 0; i < n && value.list->n > 0 && !run->status; i++) {
        for (size_t j = 0; j < value.list->n && !run->status; j++)
            jinja_list_add(run, result, value.list->items[j]);
    }
    return result;
}

static bool is_sequence(struct jinja_value value)
{
    return value.kind == JINJA_STRING || value.kind == JINJA_LIST || value.kind == JINJA_TUPLE;
}

static struct jinja_value join_two(struct jinja_run *run, struct jinja_value a,
                                   struct jinja_value b)
{
    struct jinja_value result;

    if (a.kind == JINJA_STRING) {
        struct jinja_builder builder = {.run = run};

        jinja_add_str(&builder, a);
        jinja_add_str(&builder, b);
        return jinja_built(&builder);
    }
    result = jinja_list_new(run, a.kind);
    for (size_t i = 0; i < a.list->n && !run->status; i++)
        jinja_list_add(run, result, a.list->items[i]);
    for (size_t i = 0; i < b.list->n && !run->status; i++)
        jinja_list_add(run, result, b.list->items[i]);
    return result;
}

struct jinja_value jinja_binary(struct jinja_run *run, enum jinja_operator op, struct jinja_value a,
                                struct jinja_value b)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};

    if (run->status)
        return jinja_undefined();
    if (jinja_is_number(a) && jinja_is_number(b)) {
        if (a.kind == JINJA_FLOAT || b.kind == JINJA_FLOAT)
            return float_arithmetic(run, op, jinja_number_of(a), jinja_number_of(b));
        return whole_arithmetic(run, op, whole(a), whole(b));
    }
    if (op == JINJA_ADD && is_sequence(a) && a.kind == b.kind)
        return join_two(run, a, b);
    if (op == JINJA_MULTIPLY && is_sequence(a) && jinja_is_number(b) && b.kind != JINJA_FLOAT)
        return repeat(run, a, whole(b));
    if (op == JINJA_MULTIPLY && is_sequence(b) && jinja_is_number(a) && a.kind != JINJA_FLOAT)
        return repeat(run, b, whole(a));
    if (op == JINJA_MODULO && a.kind == JINJA_STRING) {
        struct jinja_arguments arguments = {.items = &b, .n = 1};

        if (b.kind == JINJA_TUPLE)
            arguments = (struct jinja_arguments){.items = b.list->items, .n = b.list->n};
        return jinja_percent_format(run, a.string, &arguments);
    }
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, a.kind == JINJA_UNDEFINED ? a : b);
    return jinja_fail(run, KVERN_INVALID, "unsupported operand types for %s: '%s' and '%s'",
                      signs[op], jinja_type_name(a), jinja_type_name(b));
}

bool jinja_compare(struct jinja_run *run, enum jinja_operator op, struct jinja_value a,
                   struct jinja_value b)
{
    bool is_nan =
        (a.kind == JINJA_FLOAT && isnan(a.number)) || (b.kind == JINJA_FLOAT && isnan(b.number));

    switch (op) {
    case JINJA_EQUAL:
        return jinja_equals(run, a, b);
    case JINJA_NOT_EQUAL:
        return !jinja_equals(run, a, b);
    case JINJA_IN:
        return jinja_contains(run, b, a);
    case JINJA_NOT_IN:
        return !jinja_contains(run, b, a);
    default:
        break;
    }
    int order = jinja_order(run, a, b);
    switch (op) {
    case JINJA_LESS:
        return order < 0 && !is_nan;
    case JINJA_LESS_EQUAL:
        return order <= 0 && !is_nan;
    case JINJA_GREATER:
        return order > 0 && !is_nan;
    default:
        return order >= 0 && !is_nan;
    }
}

static struct jinja_value missing(struct jinja_run *run, struct jinja_value key)
{
    const struct jinja_string *text = jinja_text_of(run, key);

    return jinja_undefined_named(run, text->data, text->n_bytes);
}

struct jinja_value jinja_item(struct jinja_run *run, struct jinja_value value,
                              struct jinja_value key)
{
    struct jinja_value found;
    bool is_index = key.kind == JINJA_INTEGER || key.kind == JINJA_BOOLEAN;

    if (value.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (value.kind == JINJA_DICT && jinja_dict_get(run, value.dict, key, &found))
        return found;
    if (is_index && is_sequence(value)) {
        int64_t n = jinja_length(run, value);
        int64_t index = whole(key) < 0 ? whole(key) + n : whole(key);

        if (index < 0 || index >= n)
            return missing(run, key);
        if (value.kind != JINJA_STRING)
            return value.list->items[index];
        const struct jinja_string *string = value.string;
        size_t begin = jinja_offset_of(string->data, string->n_bytes, (size_t)index);
        size_t length = jinja_offset_of(string->data + begin, string->n_bytes - begin, 1);
        return jinja_part(run, string, begin, begin + length);
    }
    if (key.kind == JINJA_STRING && value.kind != JINJA_DICT)
        return jinja_attribute(run, value,
                               (struct jinja_text){key.string->data, key.string->n_bytes});
    return missing(run, key);
}

static struct jinja_value loop_attribute(struct jinja_run *run, const struct jinja_loop *loop,
                                         struct jinja_text name)
{
    int64_t index = (int64_t)loop->index;
    int64_t n = (int64_t)loop->list->n;

    if (jinja_text_is(name, "index"))
        return jinja_integer(index + 1);
    if (jinja_text_is(name, "index0"))
        return jinja_integer(index);
    if (jinja_text_is(name, "revindex"))
        return jinja_integer(n - index);
    if (jinja_text_is(name, "revindex0"))
        return jinja_integer(n - index - 1);
    if (jinja_text_is(name, "first"))
        return jinja_boolean(index == 0);
    if (jinja_text_is(name, "last"))
        return jinja_boolean(index == n - 1);
    if (jinja_text_is(name, "length"))
        return jinja_integer(n);
    if (jinja_text_is(name, "depth"))
        return jinja_integer(1);
    if (jinja_text_is(name, "depth0"))
        return jinja_integer(0);
    if (jinja_text_is(name, "previtem") && index > 0)
        return loop->list->items[index - 1];
    if (jinja_text_is(name, "nextitem") && index < n - 1)
        return loop->list->items[index + 1];
    return jinja_undefined_named(run, name.data, name.n_bytes);
}

struct jinja_value jinja_attribute(struct jinja_run *run, struct jinja_value value,
                                   struct jinja_text name)
{
    const struct jinja_builtin *method = jinja_find_method(value, name);
    struct jinja_value found;

    if (value.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (method && !method->call)
        return jinja_undefined_named(run, name.data, name.n_bytes);
    if (method) {
        struct jinja_function *function = jinja_new(run, 1, sizeof *function);

        if (!function)
            return jinja_undefined();
        *function = (struct jinja_function){.builtin = method, .self = value};
        return (struct jinja_value){.kind = JINJA_FUNCTION, .function = function};
    }
    if (value.kind == JINJA_LOOP)
        return loop_attribute(run, value.loop, name);
    if ((value.kind == JINJA_DICT || value.kind == JINJA_NAMESPACE) &&
        jinja_dict_get_text(run, value.dict, name, &found))
        return found;
    if (value.kind == JINJA_MACRO && jinja_text_is(name, "name"))
        return jinja_string_of(run, value.macro->node->name.data, value.macro->node->name.n_bytes,
                               false);
    return jinja_undefined_named(run, name.data, name.n_bytes);
}

/* A slice's bound made an index in [low, high]; `absent` for None. */
static int64_t bound(struct jinja_run *run, struct jinja_value part, int64_t absent, int64_t n,
                     int64_t low, int64_t high)
{
    int64_t index;

    if (part.kind == JINJA_NONE)
        return absent;
    if (part.kind != JINJA_INTEGER && part.kind != JINJA_BOOLEAN) {
        jinja_fail(run, KVERN_INVALID, "slice indices must be integers or None, not '%s'",
                   jinja_type_name(part));
        return absent;
    }
    index = whole(part);
    if (index < 0)
        index = index < -n ? -1 : index + n;
    return index < low ? low : index > high ? high : index;
}

struct jinja_value jinja_slice(struct jinja_run *run, struct jinja_value value,
                               const struct jinja_value parts[3])
{
    int64_t step = parts[2].kind == JINJA_INTEGER ? parts[2].integer : 1;
    const struct jinja_list *items;
    struct jinja_value result;

    if (value.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (!is_sequence(value))
        return jinja_undefined();
    if (step == 0 || step < -INT32_MAX || step > INT32_MAX)
        return jinja_fail(run, KVERN_INVALID, "a slice's step cannot be %lld", (long long)step);
    int64_t n = jinja_length(run, value);
    int64_t begin =
        step > 0 ? bound(run, parts[0], 0, n, 0, n) : bound(run, parts[0], n - 1, n, -1, n - 1);
    int64_t end =
        step > 0 ? bound(run, parts[1], n, n, 0, n) : bound(run, parts[1], -1, n, -1, n - 1);
    if (run->status)
        return jinja_undefined();
    if (value.kind == JINJA_STRING && step == 1) {
        const struct jinja_string *string = value.string;
        size_t from = jinja_offset_of(string->data, string->n_bytes, (size_t)begin);
        size_t length = jinja_offset_of(string->data + from, string->n_bytes - from,
                                        end > begin ? (size_t)(end - begin) : 0);
        return jinja_part(run, string, from, from + length);
    }
    items = jinja_iterate(run, value);
    result = jinja_list_new(run, value.kind == JINJA_STRING ? JINJA_LIST : value.kind);
    struct jinja_builder builder = {.run = run};
    for (int64_t i = begin; (step > 0 ? i < end : i > end) && jinja_step(run, 1); i += step) {
        if (value.kind == JINJA_STRING)
            jinja_add_str(&builder, items->items[i]);
        else
            jinja_list_add(run, result, items->items[i]);
    }
    return value.kind == JINJA_STRING ? jinja_built(&builder) : result;
}
