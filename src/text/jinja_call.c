/* SPDX-License-Identifier: Apache-2.0
 *
 * Calling builtins: finds them by name and binds positional and named arguments to their
 * parameters, so that no builtin checks names or counts itself. Text changes that filters and
 * methods share are here too.
 */
#include "text/jinja_string.h"
#include "text/jinja_value.h"

#include "base/utf8.h"

#include <string.h>
#include <utf8proc.h>

enum { MAX_PARAMETERS = 6 };

const struct jinja_builtin *jinja_find_builtin(const struct jinja_builtin *builtins, size_t n,
                                               struct jinja_text name)
{
    for (size_t i = 0; i < n; i++) {
        if (jinja_text_is(name, builtins[i].name))
            return &builtins[i];
    }
    return NULL;
}

/* The place of `name` among "a,b,c" (`n_names` gets how many there are); -1 if it is not there. */
static int place_of(const char *names, struct jinja_text name, size_t *n_names)
{
    int place = -1;

    *n_names = 0;
    while (*names) {
        size_t n = strcspn(names, ",");

        if (n == name.n_bytes && memcmp(names, name.data, n) == 0)
            place = (int)*n_names;
        (*n_names)++;
        names += n + (names[n] == ',');
    }
    return place;
}

struct jinja_value jinja_call_builtin(struct jinja_run *run, const char *what,
                                      const struct jinja_builtin *builtin, struct jinja_value self,
                                      const struct jinja_arguments *arguments)
{
    struct jinja_value items[MAX_PARAMETERS];
    struct jinja_arguments bound = {.items = items};
    struct jinja_text no_name = {"", 0};

    /* most builtins read all of a text: paid here, so that none forgets */
    if (!jinja_step(run, self.kind == JINJA_STRING ? self.string->n_bytes / 256 : 0))
        return jinja_undefined();
    if (!builtin->parameters)
        return builtin->call(run, self, arguments);
    place_of(builtin->parameters, no_name, &bound.n);
    if (arguments->n > bound.n)
        return jinja_fail(run, KVERN_INVALID, "%s '%s' takes at most %zu arguments, not %zu", what,
                          builtin->name, bound.n, arguments->n);
    for (size_t i = 0; i < bound.n; i++)
        items[i] =
            i < arguments->n ? arguments->items[i] : (struct jinja_value){.kind = JINJA_ABSENT};
    for (size_t i = 0; i < arguments->n_named; i++) {
        size_t n_names;
        int place = place_of(builtin->parameters, arguments->named[i].name, &n_names);

        if (place < 0)
            return jinja_fail(run, KVERN_INVALID, "%s '%s' has no argument '%.*s'", what,
                              builtin->name, (int)arguments->named[i].name.n_bytes,
                              arguments->named[i].name.data);
        items[place] = arguments->named[i].value;
    }
    return builtin->call(run, self, &bound);
}

struct jinja_value jinja_call_filter(struct jinja_run *run, struct jinja_text name,
                                     struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    const struct jinja_builtin *filter = jinja_find_filter(name);

    if (!filter)
        return jinja_fail(run, KVERN_UNSUPPORTED, "unknown filter '%.*s'",
                          (int)(name.n_bytes > 60 ? 60 : name.n_bytes), name.data);
    return jinja_call_builtin(run, "filter", filter, self, arguments);
}

bool jinja_call_test(struct jinja_run *run, struct jinja_text name, struct jinja_value self,
                     const struct jinja_arguments *arguments)
{
    const struct jinja_builtin *test = jinja_find_test(name);

    if (!test) {
        jinja_fail(run, KVERN_UNSUPPORTED, "unknown test '%.*s'",
                   (int)(name.n_bytes > 60 ? 60 : name.n_bytes), name.data);
        return false;
    }
    return jinja_is_true(run, jinja_call_builtin(run, "test", test, self, arguments));
}

static void add_changed(struct jinja_builder *builder, const struct jinja_string *string,
                        size_t begin, size_t end,
                        utf8proc_int32_t (*change)(utf8proc_int32_t code_point))
{
    while (begin < end && jinja_step(builder->run, 1)) {
        uint32_t c;
        size_t n = utf8_decode(string->data + begin, end - begin, &c);
        bool mark = jinja_mark_at(string, begin);

        if (c == 0xdf && change == utf8proc_toupper)
            jinja_add(builder, "SS", 2, mark);
        else
            jinja_add_code_point(builder, (uint32_t)change((utf8proc_int32_t)c), mark);
        begin += n ? n : 1;
    }
}

void jinja_add_upper(struct jinja_builder *builder, const struct jinja_string *string, size_t begin,
                     size_t end)
{
    add_changed(builder, string, begin, end, utf8proc_toupper);
}

void jinja_add_lower(struct jinja_builder *builder, const struct jinja_string *string, size_t begin,
                     size_t end)
{
    add_changed(builder, string, begin, end, utf8proc_tolower);
}

/* The bytes of the character at `at` if it is to be stripped, else 0. */
static size_t stripped_bytes(const struct jinja_string *string, size_t at,
                             const struct jinja_string *characters)
{
    size_t n = jinja_offset_of(string->data + at, string->n_bytes - at, 1);

    if (!characters)
        return jinja_space_bytes(string->data + at, string->n_bytes - at);
    return jinja_find(characters->data, characters->n_bytes, 0, string->data + at, n) != SIZE_MAX
               ? n
               : 0;
}

struct jinja_value jinja_strip(struct jinja_run *run, const struct jinja_string *string,
                               const struct jinja_string *characters, bool at_begin, bool at_end)
{
    size_t begin = 0;
    size_t end = string->n_bytes;
    size_t n;

    while (at_begin && begin < end && (n = stripped_bytes(string, begin, characters)) > 0 &&
           jinja_step(run, 1))
        begin += n;
    while (at_end && begin < end && jinja_step(run, 1)) {
        size_t last = end - 1;

        while (last > begin && (string->data[last] & 0xc0) == 0x80)
            last--;
        if (stripped_bytes(string, last, characters) == 0)
            break;
        end = last;
    }
    return jinja_part(run, string, begin, end);
}

struct jinja_value jinja_replace(struct jinja_run *run, const struct jinja_string *string,
                                 const struct jinja_string *old, const struct jinja_string *new_,
                                 int64_t max_count)
{
    struct jinja_builder builder = {.run = run};
    size_t from = 0;

    for (int64_t i = 0; (max_count < 0 || i < max_count) && jinja_step(run, 1); i++) {
        size_t at = jinja_find(string->data, string->n_bytes, from, old->data, old->n_bytes);

        if (at == SIZE_MAX)
            break;
        jinja_add_part(&builder, string, from, at);
        jinja_add_part(&builder, new_, 0, new_->n_bytes);
        from = at + old->n_bytes;
        if (old->n_bytes == 0) { /* between all characters, at the begin and at the end */
            size_t n = jinja_offset_of(string->data + from, string->n_bytes - from, 1);

            jinja_add_part(&builder, string, from, from + n);
            from += n;
            if (n == 0)
                break;
        }
    }
    jinja_add_part(&builder, string, from, string->n_bytes);
    return jinja_built(&builder);
}
