/* SPDX-License-Identifier: Apache-2.0
 *
 * The stop filter. Held text is at most a stop string long plus what one token adds, so a plain
 * search over it at every token is cheap.
 */
#include "engine/stop_filter.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

kvern_status stop_filter_init(struct stop_filter *filter, const char *const *strings,
                              size_t n_strings, kvern_error *err)
{
    *filter = (struct stop_filter){0};
    if (n_strings > STOP_MAX_STRINGS)
        return fail(err, KVERN_LIMIT, "%zu stop strings are over the limit of %d", n_strings,
                    STOP_MAX_STRINGS);
    for (size_t i = 0; i < n_strings; i++) {
        size_t n_bytes = strings[i] ? strlen(strings[i]) : 0;

        if (n_bytes == 0)
            return fail(err, KVERN_INVALID, "stop string %zu is empty", i);
        if (n_bytes > STOP_MAX_BYTES)
            return fail(err, KVERN_LIMIT, "stop string %zu has %zu bytes, over the limit of %d", i,
                        n_bytes, STOP_MAX_BYTES);
        if (!utf8_is_valid(strings[i], n_bytes))
            return fail(err, KVERN_INVALID, "stop string %zu is not valid UTF-8", i);
    }
    filter->strings = new_or_abort(n_strings * sizeof *filter->strings);
    filter->n_strings = n_strings;
    for (size_t i = 0; i < n_strings; i++)
        filter->strings[i] = copy_string_or_abort(strings[i]);
    return KVERN_OK;
}

void stop_filter_clear(struct stop_filter *filter)
{
    for (size_t i = 0; i < filter->n_strings; i++)
        free(filter->strings[i]);
    free(filter->strings);
    buffer_clear(&filter->held);
    *filter = (struct stop_filter){0};
}

static const char *find(const char *text, size_t n_bytes, const char *string)
{
    return n_bytes ? memmem(text, n_bytes, string, strlen(string)) : NULL;
}

/* A stop string in the held text. */
struct found {
    size_t begin;
    size_t end;
};

/* The stop string that is complete first, reading byte by byte (the longest, if two are complete at
 * once): independent of how the text was cut into tokens. */
static bool find_stop(const struct stop_filter *filter, size_t n_bytes, struct found *found)
{
    bool has_found = false;

    for (size_t i = 0; i < filter->n_strings; i++) {
        const char *at = find(filter->held.data, n_bytes, filter->strings[i]);
        size_t begin = at ? (size_t)(at - filter->held.data) : 0;
        size_t end = begin + strlen(filter->strings[i]);

        if (at && (!has_found || end < found->end || (end == found->end && begin < found->begin))) {
            *found = (struct found){begin, end};
            has_found = true;
        }
    }
    return has_found;
}

/* Bytes at the end of text [n_bytes] that are the beginning of some stop string. */
static size_t n_to_hold(const struct stop_filter *filter, const char *text, size_t n_bytes)
{
    size_t longest = 0;

    for (size_t i = 0; i < filter->n_strings; i++) {
        size_t n = strlen(filter->strings[i]) - 1;

        for (n = n < n_bytes ? n : n_bytes; n > longest; n--) {
            if (memcmp(text + n_bytes - n, filter->strings[i], n) == 0)
                longest = n;
        }
    }
    return longest;
}

static void drop_front(struct buffer *buffer, size_t n_bytes)
{
    if (n_bytes == 0)
        return;
    memmove(buffer->data, buffer->data + n_bytes, buffer->n_bytes - n_bytes);
    buffer_truncate(buffer, buffer->n_bytes - n_bytes);
}

/* Shows the first n_bytes of the held text. */
static void show(struct stop_filter *filter, size_t n_bytes, struct buffer *out)
{
    buffer_add(out, filter->held.data, n_bytes);
    drop_front(&filter->held, n_bytes);
}

/* Adds to the held text; gives how much of it is whole characters. */
static size_t hold(struct stop_filter *filter, const char *text, size_t n_bytes, struct buffer *out)
{
    struct buffer *held = &filter->held;

    buffer_add(held, text, n_bytes);
    if (held->has_failed)
        out->has_failed = true;
    return held->n_bytes > 0 ? utf8_complete_bytes(held->data, held->n_bytes) : 0;
}

static void show_what_may(struct stop_filter *filter, size_t n_complete, struct buffer *out)
{
    if (n_complete > 0)
        show(filter, n_complete - n_to_hold(filter, filter->held.data, n_complete), out);
}

bool stop_filter_add(struct stop_filter *filter, const char *text, size_t n_bytes,
                     struct buffer *out)
{
    size_t n_complete = hold(filter, text, n_bytes, out);
    struct found found;

    if (find_stop(filter, n_complete, &found)) {
        buffer_add(out, filter->held.data, found.begin);
        buffer_truncate(&filter->held, 0);
        return true;
    }
    show_what_may(filter, n_complete, out);
    return false;
}

void stop_filter_pass(struct stop_filter *filter, const char *text, size_t n_bytes,
                      struct buffer *out)
{
    size_t n_complete = hold(filter, text, n_bytes, out);
    struct found found;

    while (find_stop(filter, n_complete, &found)) {
        show(filter, found.end, out);
        n_complete -= found.end;
    }
    show_what_may(filter, n_complete, out);
}

void stop_filter_finish(struct stop_filter *filter, struct buffer *out)
{
    struct buffer *held = &filter->held;

    if (held->n_bytes == 0)
        return;
    size_t n_complete = utf8_complete_bytes(held->data, held->n_bytes);
    buffer_add(out, held->data, n_complete);
    if (n_complete < held->n_bytes)
        buffer_add_code_point(out, 0xfffd);
    buffer_truncate(held, 0);
}
