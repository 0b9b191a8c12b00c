/* SPDX-License-Identifier: Apache-2.0
 *
 * The tests of "x is ...". Each gives a boolean value; arguments are bound by the table's parameter
 * names. To add one: write its function and add a row to the table.
 */
#include "text/jinja_string.h"
#include "text/jinja_value.h"

#include "base/utf8.h"

#include <utf8proc.h>

/* str.islower, str.isupper: no character of one case, at least one of the other. */
static bool has_only_case(struct jinja_run *run, struct jinja_value self, int refused, int wanted)
{
    const struct jinja_string *string = jinja_text_of(run, self);
    bool is_found = false;

    for (size_t i = 0; i < string->n_bytes && jinja_step(run, 1);) {
        uint32_t c;
        size_t n = utf8_decode(string->data + i, string->n_bytes - i, &c);
        int category = utf8proc_category((utf8proc_int32_t)c);

        if (category == refused)
            return false;
        is_found = is_found || category == wanted;
        i += n ? n : 1;
    }
    return is_found;
}

static struct jinja_value is_undefined(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_UNDEFINED);
}

static struct jinja_value is_none(struct jinja_run *run, struct jinja_value self,
                                  const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_NONE);
}

static struct jinja_value is_boolean(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_BOOLEAN);
}

static struct jinja_value is_integer(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_INTEGER);
}

static struct jinja_value is_float(struct jinja_run *run, struct jinja_value self,
                                   const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_FLOAT);
}

static struct jinja_value is_string(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_STRING);
}

static struct jinja_value is_defined(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind != JINJA_UNDEFINED);
}

static struct jinja_value is_mapping(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_DICT);
}

static struct jinja_value is_number(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(jinja_is_number(self));
}

static struct jinja_value is_true(struct jinja_run *run, struct jinja_value self,
                                  const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_BOOLEAN && self.boolean);
}

static struct jinja_value is_false(struct jinja_run *run, struct jinja_value self,
                                   const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_BOOLEAN && !self.boolean);
}

static struct jinja_value is_sequence(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_STRING || self.kind == JINJA_LIST ||
                         self.kind == JINJA_TUPLE || self.kind == JINJA_DICT);
}

static struct jinja_value is_iterable(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_STRING || self.kind == JINJA_LIST ||
                         self.kind == JINJA_TUPLE || self.kind == JINJA_DICT ||
                         self.kind == JINJA_GENERATOR || self.kind == JINJA_UNDEFINED);
}

static struct jinja_value is_callable(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(self.kind == JINJA_MACRO || self.kind == JINJA_FUNCTION);
}

static struct jinja_value is_escaped(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)run;
    (void)self;
    (void)arguments;
    return jinja_boolean(false);
}

static struct jinja_value is_equal(struct jinja_run *run, struct jinja_value self,
                                   const struct jinja_arguments *arguments)
{
    return jinja_boolean(jinja_compare(run, JINJA_EQUAL, self, arguments->items[0]));
}

static struct jinja_value is_not_equal(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    return jinja_boolean(jinja_compare(run, JINJA_NOT_EQUAL, self, arguments->items[0]));
}

static struct jinja_value is_less(struct jinja_run *run, struct jinja_value self,
                                  const struct jinja_arguments *arguments)
{
    return jinja_boolean(jinja_compare(run, JINJA_LESS, self, arguments->items[0]));
}

static struct jinja_value is_less_equal(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_arguments *arguments)
{
    return jinja_boolean(jinja_compare(run, JINJA_LESS_EQUAL, self, arguments->items[0]));
}

static struct jinja_value is_greater(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    return jinja_boolean(jinja_compare(run, JINJA_GREATER, self, arguments->items[0]));
}

static struct jinja_value is_greater_equal(struct jinja_run *run, struct jinja_value self,
                                           const struct jinja_arguments *arguments)
{
    return jinja_boolean(jinja_compare(run, JINJA_GREATER_EQUAL, self, arguments->items[0]));
}

static struct jinja_value is_in(struct jinja_run *run, struct jinja_value self,
                                const struct jinja_arguments *arguments)
{
    return jinja_boolean(jinja_contains(run, arguments->items[0], self));
}

static struct jinja_value is_sameas(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    return jinja_boolean(self.kind == arguments->items[0].kind &&
                         jinja_equals(run, self, arguments->items[0]));
}

static struct jinja_value is_divisible(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    return jinja_boolean(jinja_equals(
        run, jinja_binary(run, JINJA_MODULO, self, arguments->items[0]), jinja_integer(0)));
}

static struct jinja_value is_even(struct jinja_run *run, struct jinja_value self,
                                  const struct jinja_arguments *arguments)
{
    (void)arguments;
    return jinja_boolean(jinja_equals(run, jinja_binary(run, JINJA_MODULO, self, jinja_integer(2)),
                                      jinja_integer(0)));
}

static struct jinja_value is_odd(struct jinja_run *run, struct jinja_value self,
                                 const struct jinja_arguments *arguments)
{
    (void)arguments;
    return jinja_boolean(jinja_equals(run, jinja_binary(run, JINJA_MODULO, self, jinja_integer(2)),
                                      jinja_integer(1)));
}

static struct jinja_value is_lower(struct jinja_run *run, struct jinja_value self,
                                   const struct jinja_arguments *arguments)
{
    (void)arguments;
    return jinja_boolean(has_only_case(run, self, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LL));
}

static struct jinja_value is_upper(struct jinja_run *run, struct jinja_value self,
                                   const struct jinja_arguments *arguments)
{
    (void)arguments;
    return jinja_boolean(has_only_case(run, self, UTF8PROC_CATEGORY_LL, UTF8PROC_CATEGORY_LU));
}

static struct jinja_value is_filter(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(
        self.kind == JINJA_STRING &&
        jinja_find_filter((struct jinja_text){self.string->data, self.string->n_bytes}));
}

static struct jinja_value is_test(struct jinja_run *run, struct jinja_value self,
                                  const struct jinja_arguments *arguments)
{
    (void)run;
    (void)arguments;
    return jinja_boolean(
        self.kind == JINJA_STRING &&
        jinja_find_test((struct jinja_text){self.string->data, self.string->n_bytes}));
}

static const struct jinja_builtin tests[] = {
    {"undefined", "", is_undefined},
    {"none", "", is_none},
    {"boolean", "", is_boolean},
    {"integer", "", is_integer},
    {"float", "", is_float},
    {"string", "", is_string},
    {"defined", "", is_defined},
    {"mapping", "", is_mapping},
    {"number", "", is_number},
    {"true", "", is_true},
    {"false", "", is_false},
    {"sequence", "", is_sequence},
    {"iterable", "", is_iterable},
    {"callable", "", is_callable},
    {"escaped", "", is_escaped},
    {"in", "seq", is_in},
    {"sameas", "other", is_sameas},
    {"even", "", is_even},
    {"odd", "", is_odd},
    {"lower", "", is_lower},
    {"upper", "", is_upper},
    {"filter", "", is_filter},
    {"test", "", is_test},
    {"eq", "other", is_equal},
    {"equalto", "other", is_equal},
    {"==", "other", is_equal},
    {"ne", "other", is_not_equal},
    {"!=", "other", is_not_equal},
    {"lt", "other", is_less},
    {"lessthan", "other", is_less},
    {"<", "other", is_less},
    {"le", "other", is_less_equal},
    {"<=", "other", is_less_equal},
    {"gt", "other", is_greater},
    {"greaterthan", "other", is_greater},
    {">", "other", is_greater},
    {"ge", "other", is_greater_equal},
    {">=", "other", is_greater_equal},
    {"divisibleby", "num", is_divisible},
};

const struct jinja_builtin *jinja_find_test(struct jinja_text name)
{
    return jinja_find_builtin(tests, sizeof tests / sizeof tests[0], name);
}
