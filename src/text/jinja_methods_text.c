/* SPDX-License-Identifier: Apache-2.0
 *
 * Methods of strings, as Python's str has them. Parts of a string share its bytes and marks; new
 * text takes its marks from what it is made of. To add one: write its function and add a row.
 */
#include "text/jinja_string.h"
#include "text/jinja_value.h"

#include "base/utf8.h"

#include <string.h>
#include <utf8proc.h>

static const struct jinja_string *text_argument(struct jinja_run *run, struct jinja_value value)
{
    static const struct jinja_string empty = {.data = ""};

    if (value.kind == JINJA_STRING)
        return value.string;
    jinja_fail(run, KVERN_INVALID, "a string is needed, not '%s'", jinja_type_name(value));
    return &empty;
}

static int64_t whole_or(struct jinja_run *run, struct jinja_value value, int64_t absent)
{
    if (value.kind == JINJA_ABSENT || value.kind == JINJA_NONE)
        return absent;
    if (value.kind != JINJA_INTEGER)
        jinja_fail(run, KVERN_INVALID, "an integer is needed, not '%s'", jinja_type_name(value));
    return value.integer;
}

static const struct jinja_string *text_or_null(struct jinja_run *run, struct jinja_value value)
{
    return value.kind == JINJA_ABSENT || value.kind == JINJA_NONE ? NULL
                                                                  : text_argument(run, value);
}

static struct jinja_value text_strip(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    return jinja_strip(run, self.string, text_or_null(run, arguments->items[0]), true, true);
}

static struct jinja_value text_lstrip(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    return jinja_strip(run, self.string, text_or_null(run, arguments->items[0]), true, false);
}

static struct jinja_value text_rstrip(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    return jinja_strip(run, self.string, text_or_null(run, arguments->items[0]), false, true);
}

/* The end of the next run of white space at or after `at`, its begin in *begin; SIZE_MAX: none. */
static size_t next_space(const struct jinja_string *string, size_t at, size_t *begin)
{
    size_t n = 0;

    while (at < string->n_bytes && jinja_space_bytes(string->data + at, string->n_bytes - at) == 0)
        at++;
    *begin = at;
    while (at < string->n_bytes &&
           (n = jinja_space_bytes(string->data + at, string->n_bytes - at)) > 0)
        at += n;
    return at > *begin ? at : SIZE_MAX;
}

/* str.split without a separator. */
static struct jinja_value split_at_space(struct jinja_run *run, const struct jinja_string *string,
                                         int64_t max_splits)
{
    struct jinja_value list = jinja_list_new(run, JINJA_LIST);
    size_t begin = 0;
    size_t space;
    size_t end = next_space(string, 0, &space);

    if (end != SIZE_MAX && space == 0)
        begin = end;
    while (begin < string->n_bytes && jinja_step(run, 1)) {
        end = next_space(string, begin, &space);
        if (max_splits == 0) {
            space = string->n_bytes;
            end = SIZE_MAX;
        }
        jinja_list_add(run, list, jinja_part(run, string, begin, space));
        if (end == SIZE_MAX)
            break;
        begin = end;
        max_splits--;
    }
    return list;
}

static struct jinja_value reversed(struct jinja_run *run, struct jinja_value list)
{
    struct jinja_value result = jinja_list_new(run, JINJA_LIST);

    for (size_t i = run->status ? 0 : list.list->n; i > 0 && !run->status; i--)
        jinja_list_add(run, result, list.list->items[i - 1]);
    return result;
}

/* The last place of `needle` that ends at or before `end`. */
static size_t find_last(struct jinja_run *run, const struct jinja_string *string, size_t end,
                        const struct jinja_string *needle)
{
    for (size_t at = end; at + 1 > needle->n_bytes && jinja_step(run, 1); at--) {
        size_t begin = at - needle->n_bytes;

        if (memcmp(string->data + begin, needle->data, needle->n_bytes) == 0)
            return begin;
    }
    return SIZE_MAX;
}

static struct jinja_value split_at(struct jinja_run *run, const struct jinja_string *string,
                                   const struct jinja_string *separator, int64_t max_splits,
                                   bool is_from_end)
{
    struct jinja_value list = jinja_list_new(run, JINJA_LIST);
    size_t begin = 0;
    size_t end = string->n_bytes;

    if (separator->n_bytes == 0)
        return jinja_fail(run, KVERN_INVALID, "empty separator");
    for (int64_t i = 0; (max_splits < 0 || i < max_splits) && jinja_step(run, 1); i++) {
        size_t at = is_from_end ? find_last(run, string, end, separator)
                                : jinja_find(string->data, string->n_bytes, begin, separator->data,
                                             separator->n_bytes);
        if (at == SIZE_MAX)
            break;
        if (is_from_end) {
            jinja_list_add(run, list, jinja_part(run, string, at + separator->n_bytes, end));
            end = at;
        } else {
            jinja_list_add(run, list, jinja_part(run, string, begin, at));
            begin = at + separator->n_bytes;
        }
    }
    jinja_list_add(run, list, jinja_part(run, string, begin, end));
    return is_from_end ? reversed(run, list) : list;
}

static struct jinja_value text_split(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    const struct jinja_string *separator = text_or_null(run, arguments->items[0]);
    int64_t max_splits = whole_or(run, arguments->items[1], -1);

    return separator ? split_at(run, self.string, separator, max_splits, false)
                     : split_at_space(run, self.string, max_splits);
}

static struct jinja_value text_rsplit(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    const struct jinja_string *separator = text_or_null(run, arguments->items[0]);
    int64_t max_splits = whole_or(run, arguments->items[1], -1);

    if (!separator && max_splits >= 0)
        return jinja_fail(run, KVERN_UNSUPPORTED, "rsplit with a count needs a separator");
    return separator ? split_at(run, self.string, separator, max_splits, true)
                     : split_at_space(run, self.string, -1);
}

static struct jinja_value text_splitlines(struct jinja_run *run, struct jinja_value self,
                                          const struct jinja_arguments *arguments)
{
    (void)arguments;
    struct jinja_value list = jinja_list_new(run, JINJA_LIST);
    const struct jinja_string *string = self.string;
    size_t begin = 0;

    while (begin < string->n_bytes && jinja_step(run, 1)) {
        size_t end = begin;

        while (end < string->n_bytes && string->data[end] != '\n' && string->data[end] != '\r')
            end++;
        jinja_list_add(run, list, jinja_part(run, string, begin, end));
        if (end + 1 < string->n_bytes && string->data[end] == '\r' && string->data[end + 1] == '\n')
            end++;
        begin = end + 1;
    }
    return list;
}

static bool has_affix(const struct jinja_string *string, const struct jinja_string *affix,
                      bool is_suffix)
{
    return affix->n_bytes <= string->n_bytes &&
           memcmp(string->data + (is_suffix ? string->n_bytes - affix->n_bytes : 0), affix->data,
                  affix->n_bytes) == 0;
}

static struct jinja_value has_some_affix(struct jinja_run *run, const struct jinja_string *string,
                                         struct jinja_value affix, bool is_suffix)
{
    bool has = false;

    if (affix.kind != JINJA_TUPLE)
        return jinja_boolean(has_affix(string, text_argument(run, affix), is_suffix));
    for (size_t i = 0; i < affix.list->n && jinja_step(run, 1); i++)
        has = has || has_affix(string, text_argument(run, affix.list->items[i]), is_suffix);
    return jinja_boolean(has);
}

static struct jinja_value text_startswith(struct jinja_run *run, struct jinja_value self,
                                          const struct jinja_arguments *arguments)
{
    return has_some_affix(run, self.string, arguments->items[0], false);
}

static struct jinja_value text_endswith(struct jinja_run *run, struct jinja_value self,
                                        const struct jinja_arguments *arguments)
{
    return has_some_affix(run, self.string, arguments->items[0], true);
}

static struct jinja_value text_removeprefix(struct jinja_run *run, struct jinja_value self,
                                            const struct jinja_arguments *arguments)
{
    const struct jinja_string *prefix = text_argument(run, arguments->items[0]);
    size_t n = has_affix(self.string, prefix, false) ? prefix->n_bytes : 0;

    return jinja_part(run, self.string, n, self.string->n_bytes);
}

static struct jinja_value text_removesuffix(struct jinja_run *run, struct jinja_value self,
                                            const struct jinja_arguments *arguments)
{
    const struct jinja_string *suffix = text_argument(run, arguments->items[0]);
    size_t n = has_affix(self.string, suffix, true) ? suffix->n_bytes : 0;

    return jinja_part(run, self.string, 0, self.string->n_bytes - n);
}

static struct jinja_value text_upper(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)arguments;
    struct jinja_builder builder = {.run = run};

    jinja_add_upper(&builder, self.string, 0, self.string->n_bytes);
    return jinja_built(&builder);
}

static struct jinja_value text_lower(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)arguments;
    struct jinja_builder builder = {.run = run};

    jinja_add_lower(&builder, self.string, 0, self.string->n_bytes);
    return jinja_built(&builder);
}

static struct jinja_value text_capitalize(struct jinja_run *run, struct jinja_value self,
                                          const struct jinja_arguments *arguments)
{
    (void)arguments;
    struct jinja_builder builder = {.run = run};
    size_t first = jinja_offset_of(self.string->data, self.string->n_bytes, 1);

    jinja_add_upper(&builder, self.string, 0, first);
    jinja_add_lower(&builder, self.string, first, self.string->n_bytes);
    return jinja_built(&builder);
}

static utf8proc_category_t category_at(const struct jinja_string *string, size_t at, size_t *n)
{
    uint32_t c;

    *n = utf8_decode(string->data + at, string->n_bytes - at, &c);
    if (*n == 0)
        *n = 1;
    return utf8proc_category((utf8proc_int32_t)c);
}

static bool is_letter(utf8proc_category_t category)
{
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

static struct jinja_value text_title(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    (void)arguments;
    struct jinja_builder builder = {.run = run};
    bool is_inside = false;

    for (size_t i = 0, n; i < self.string->n_bytes && jinja_step(run, 1); i += n) {
        utf8proc_category_t category = category_at(self.string, i, &n);

        if (is_inside)
            jinja_add_lower(&builder, self.string, i, i + n);
        else
            jinja_add_upper(&builder, self.string, i, i + n);
        is_inside = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LT;
    }
    return jinja_built(&builder);
}

static struct jinja_value text_isdigit(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    (void)arguments;
    bool holds = self.string->n_bytes > 0;

    for (size_t i = 0, n; holds && i < self.string->n_bytes && jinja_step(run, 1); i += n) {
        utf8proc_category_t category = category_at(self.string, i, &n);

        holds = category == UTF8PROC_CATEGORY_ND;
    }
    return jinja_boolean(holds);
}

static struct jinja_value text_isalpha(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    (void)arguments;
    bool holds = self.string->n_bytes > 0;

    for (size_t i = 0, n; holds && i < self.string->n_bytes && jinja_step(run, 1); i += n) {
        utf8proc_category_t category = category_at(self.string, i, &n);

        holds = is_letter(category);
    }
    return jinja_boolean(holds);
}

static struct jinja_value text_isalnum(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    (void)arguments;
    bool holds = self.string->n_bytes > 0;

    for (size_t i = 0, n; holds && i < self.string->n_bytes && jinja_step(run, 1); i += n) {
        utf8proc_category_t category = category_at(self.string, i, &n);

        holds = is_letter(category) || category == UTF8PROC_CATEGORY_ND;
    }
    return jinja_boolean(holds);
}

static struct jinja_value text_isspace(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    (void)arguments;
    bool holds = self.string->n_bytes > 0;

    for (size_t i = 0, n; holds && i < self.string->n_bytes && jinja_step(run, 1); i += n) {
        category_at(self.string, i, &n);

        holds = jinja_space_bytes(self.string->data + i, self.string->n_bytes - i) > 0;
    }
    return jinja_boolean(holds);
}

static struct jinja_value text_replace(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    const struct jinja_string *old = text_argument(run, arguments->items[0]);
    const struct jinja_string *new_ = text_argument(run, arguments->items[1]);

    return jinja_replace(run, self.string, old, new_, whole_or(run, arguments->items[2], -1));
}

static struct jinja_value text_join(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    const struct jinja_list *list = jinja_iterate(run, arguments->items[0]);
    struct jinja_builder builder = {.run = run};

    for (size_t i = 0; i < list->n && jinja_step(run, 1); i++) {
        const struct jinja_string *item = text_argument(run, list->items[i]);

        if (i > 0)
            jinja_add_str(&builder, self);
        jinja_add_part(&builder, item, 0, item->n_bytes);
    }
    return jinja_built(&builder);
}

static struct jinja_value text_format(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    return jinja_brace_format(run, self.string, arguments);
}

static struct jinja_value text_find(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    const struct jinja_string *needle = text_argument(run, arguments->items[0]);
    size_t at =
        jinja_find(self.string->data, self.string->n_bytes, 0, needle->data, needle->n_bytes);

    return jinja_integer(at == SIZE_MAX ? -1
                                        : (int64_t)jinja_count_code_points(self.string->data, at));
}

static struct jinja_value text_rfind(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    const struct jinja_string *needle = text_argument(run, arguments->items[0]);
    size_t at = find_last(run, self.string, self.string->n_bytes, needle);

    return jinja_integer(at == SIZE_MAX ? -1
                                        : (int64_t)jinja_count_code_points(self.string->data, at));
}

static struct jinja_value text_count(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    const struct jinja_string *needle = text_argument(run, arguments->items[0]);
    int64_t n = 0;
    size_t at = 0;

    if (needle->n_bytes == 0)
        return jinja_integer(jinja_length(run, self) + 1);
    while (jinja_step(run, 1) && (at = jinja_find(self.string->data, self.string->n_bytes, at,
                                                  needle->data, needle->n_bytes)) != SIZE_MAX) {
        at += needle->n_bytes;
        n++;
    }
    return jinja_integer(n);
}

/* str.partition and rpartition: the parts before, of and after the separator. */
static struct jinja_value parts(struct jinja_run *run, const struct jinja_string *string, size_t at,
                                size_t n_separator, bool is_from_end)
{
    struct jinja_value tuple = jinja_list_new(run, JINJA_TUPLE);
    size_t n = string->n_bytes;
    size_t begin = at != SIZE_MAX ? at : is_from_end ? 0 : n;
    size_t end = at != SIZE_MAX ? at + n_separator : is_from_end ? 0 : n;

    jinja_list_add(run, tuple, jinja_part(run, string, 0, begin));
    jinja_list_add(run, tuple, jinja_part(run, string, begin, end));
    jinja_list_add(run, tuple, jinja_part(run, string, end, n));
    return tuple;
}

static struct jinja_value text_partition(struct jinja_run *run, struct jinja_value self,
                                         const struct jinja_arguments *arguments)
{
    const struct jinja_string *separator = text_argument(run, arguments->items[0]);
    size_t at =
        jinja_find(self.string->data, self.string->n_bytes, 0, separator->data, separator->n_bytes);

    return parts(run, self.string, at, separator->n_bytes, false);
}

static struct jinja_value text_rpartition(struct jinja_run *run, struct jinja_value self,
                                          const struct jinja_arguments *arguments)
{
    const struct jinja_string *separator = text_argument(run, arguments->items[0]);
    size_t at = find_last(run, self.string, self.string->n_bytes, separator);

    return parts(run, self.string, at, separator->n_bytes, true);
}

const struct jinja_builtin jinja_text_methods[] = {
    {"strip", "chars", text_strip},
    {"lstrip", "chars", text_lstrip},
    {"rstrip", "chars", text_rstrip},
    {"split", "sep,maxsplit", text_split},
    {"rsplit", "sep,maxsplit", text_rsplit},
    {"splitlines", "", text_splitlines},
    {"startswith", "prefix", text_startswith},
    {"endswith", "suffix", text_endswith},
    {"removeprefix", "prefix", text_removeprefix},
    {"removesuffix", "suffix", text_removesuffix},
    {"upper", "", text_upper},
    {"lower", "", text_lower},
    {"capitalize", "", text_capitalize},
    {"title", "", text_title},
    {"isdigit", "", text_isdigit},
    {"isalpha", "", text_isalpha},
    {"isalnum", "", text_isalnum},
    {"isspace", "", text_isspace},
    {"replace", "old,new,count", text_replace},
    {"join", "iterable", text_join},
    {"format", NULL, text_format},
    {"find", "sub", text_find},
    {"rfind", "sub", text_rfind},
    {"count", "sub", text_count},
    {"partition", "sep", text_partition},
    {"rpartition", "sep", text_rpartition},
};

const size_t jinja_n_text_methods = sizeof jinja_text_methods / sizeof jinja_text_methods[0];
