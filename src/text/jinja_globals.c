/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions a template can call by name: range, namespace, dict, raise_exception and
 * strftime_now. The clock is the render's own (run->now), so that a render can be repeated.
 */
#include "text/jinja_string.h"
#include "text/jinja_value.h"

#include <string.h>
#include <time.h>

enum { MAX_RANGE = 100000 /* jinja2's sandbox has the same */ };

static int64_t whole(struct jinja_run *run, struct jinja_value value, int64_t absent)
{
    if (value.kind == JINJA_ABSENT)
        return absent;
    if (value.kind == JINJA_BOOLEAN)
        return value.boolean;
    if (value.kind != JINJA_INTEGER)
        jinja_fail(run, KVERN_INVALID, "range needs integers, not '%s'", jinja_type_name(value));
    return value.kind == JINJA_INTEGER ? value.integer : absent;
}

static struct jinja_value make_range(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_arguments *arguments)
{
    bool has_begin = arguments->items[1].kind != JINJA_ABSENT;
    int64_t begin = has_begin ? whole(run, arguments->items[0], 0) : 0;
    int64_t end = whole(run, arguments->items[has_begin ? 1 : 0], 0);
    int64_t step = whole(run, arguments->items[2], 1);
    struct jinja_value list = jinja_list_new(run, JINJA_LIST);
    int64_t n = 0;

    (void)self;
    if (step == 0)
        return jinja_fail(run, KVERN_INVALID, "range() arg 3 must not be zero");
    for (int64_t i = begin; (step > 0 ? i < end : i > end) && !run->status;) {
        if (++n > MAX_RANGE)
            return jinja_fail(run, KVERN_LIMIT, "range is over the limit of %d items", MAX_RANGE);
        jinja_list_add(run, list, jinja_integer(i));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    return list;
}

/* dict(a=1) and namespace(a=1), both also from one mapping. */
static struct jinja_value make_dict(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_arguments *arguments)
{
    struct jinja_value dict = jinja_dict_new(run);

    (void)self;
    if (arguments->n > 1 || (arguments->n == 1 && arguments->items[0].kind != JINJA_DICT))
        return jinja_fail(run, KVERN_INVALID, "dict takes one mapping and named values");
    for (size_t i = 0; arguments->n == 1 && i < arguments->items[0].dict->n && !run->status; i++)
        jinja_dict_put(run, dict, arguments->items[0].dict->entries[i].key,
                       arguments->items[0].dict->entries[i].value);
    for (size_t i = 0; i < arguments->n_named && !run->status; i++) {
        struct jinja_text name = arguments->named[i].name;

        jinja_dict_put(run, dict, jinja_string_of(run, name.data, name.n_bytes, false),
                       arguments->named[i].value);
    }
    return dict;
}

static struct jinja_value make_namespace(struct jinja_run *run, struct jinja_value self,
                                         const struct jinja_arguments *arguments)
{
    struct jinja_value space = make_dict(run, self, arguments);

    if (!run->status)
        space.kind = JINJA_NAMESPACE;
    return space;
}

static struct jinja_value raise_exception(struct jinja_run *run, struct jinja_value self,
                                          const struct jinja_arguments *arguments)
{
    const struct jinja_string *message = jinja_text_of(run, arguments->items[0]);

    (void)self;
    return jinja_fail(run, KVERN_INVALID, "%.*s",
                      (int)(message->n_bytes > 300 ? 300 : message->n_bytes), message->data);
}

static struct jinja_value strftime_now(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_arguments *arguments)
{
    const struct jinja_string *format = jinja_text_of(run, arguments->items[0]);
    struct jinja_builder builder = {.run = run};
    time_t now = (time_t)run->now;
    struct tm parts;
    char copy[128];
    char text[512];

    (void)self;
    if (format->n_bytes >= sizeof copy)
        return jinja_fail(run, KVERN_LIMIT, "strftime_now's format has over 127 bytes");
    memcpy(copy, format->data, format->n_bytes);
    copy[format->n_bytes] = '\0';
    if (!localtime_r(&now, &parts))
        return jinja_fail(run, KVERN_INVALID, "the clock shows no date");
    size_t n = strftime(text, sizeof text, copy, &parts);
    jinja_add(&builder, text, n, format->is_untrusted);
    return jinja_built(&builder);
}

void jinja_add_globals(struct jinja_run *run, struct jinja_frame *frame)
{
    static const struct jinja_builtin globals[] = {
        {"range", "start,stop,step", make_range}, {"dict", NULL, make_dict},
        {"namespace", NULL, make_namespace},      {"raise_exception", "message", raise_exception},
        {"strftime_now", "format", strftime_now},
    };

    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        struct jinja_function *function = jinja_new(run, 1, sizeof *function);

        if (!function)
            return;
        function->builtin = &globals[i];
        jinja_bind(run, frame, (struct jinja_text){globals[i].name, strlen(globals[i].name)},
                   (struct jinja_value){.kind = JINJA_FUNCTION, .function = function});
    }
}
