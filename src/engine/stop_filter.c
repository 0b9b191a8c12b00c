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

/* Where the stop string begins that is complete first, reading byte by byte (the longest, if two
 * are complete at once): independent of how the text was cut into tokens. */
static bool find_stop(const struct stop_filter *filter, size_t n_bytes, size_t *begin)
{
    size_t first_end = (size_t)-1;

    for (size_t i = 0; i < filter->n_strings; i++) {
        const char *at = find(filter->held.data, n_bytes, filter->strings[i]);
        size_t start = at ? (size_t)(at - filter->held.data) : 0;
        size_t end = start + strlen(filter->strings[i]);

        if (at && (end < first_end || (end == first_end && start < *begin))) {
            first_end = end;
            *begin = start;
        }
    }
    return first_end != (size_t)-1;
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

bool stop_filter_add(struct stop_filter *filter, const char *text, size_t n_bytes,
                     struct buffer *out)
{
    struct buffer *held = &filter->held;
    size_t begin = 0;

    buffer_add(held, text, n_bytes);
    if (held->has_failed)
        out->has_failed = true;
    if (held->n_bytes == 0)
        return false;
    size_t n_complete = utf8_complete_bytes(held->data, held->n_bytes);
    if (find_stop(filter, n_complete, &begin)) {
        buffer_add(out, held->data, begin);
        buffer_truncate(held, 0);
        return true;
    }
    size_t n_shown = n_complete - n_to_hold(filter, held->data, n_complete);
    buffer_add(out, held->data, n_shown);
    drop_front(held, n_shown);
    return false;
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
