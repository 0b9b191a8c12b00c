/* SPDX-License-Identifier: Apache-2.0
 *
 * Views and built texts. Invariant of a built text: origin_storage holds one struct origin for
 * every byte of storage.
 */
#include "text/aligned_text.h"

#include "base/utf8.h"
#include "text/unicode.h"

#include <string.h>

bool aligned_text_init(struct aligned_text *out, const char *text, size_t n_bytes)
{
    struct aligned_text view = {.data = n_bytes ? text : "", .n_bytes = n_bytes};
    struct aligned_text built = {0};
    size_t begin = 0;

    *out = view;
    if (utf8_is_valid(view.data, n_bytes))
        return true;
    for (size_t i = 0; i < n_bytes;) {
        uint32_t code_point;
        size_t n = utf8_decode(text + i, n_bytes - i, &code_point);

        if (n == 0) {
            n = unicode_ill_formed_bytes(text + i, n_bytes - i);
            aligned_text_copy(&built, &view, begin, i);
            begin = i + n;
            aligned_text_insert(&built, "\xef\xbf\xbd", 3,
                                (struct origin){(uint32_t)i, (uint32_t)begin});
        }
        i += n;
    }
    aligned_text_copy(&built, &view, begin, n_bytes);
    return aligned_text_replace(out, &built);
}

struct aligned_text aligned_text_slice(const struct aligned_text *whole, size_t begin, size_t end)
{
    return (struct aligned_text){
        .data = whole->data + begin,
        .n_bytes = end - begin,
        .origins = whole->origins ? whole->origins + begin : NULL,
        .base = whole->base + begin,
    };
}

static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

struct origin aligned_text_origin(const struct aligned_text *text, size_t begin, size_t end)
{
    if (text->origins)
        return (struct origin){text->origins[begin].begin, text->origins[end - 1].end};
    while (begin > 0 && is_continuation(text->data[begin]))
        begin--;
    while (end < text->n_bytes && is_continuation(text->data[end]))
        end++;
    return (struct origin){(uint32_t)(text->base + begin), (uint32_t)(text->base + end)};
}

void aligned_text_clear(struct aligned_text *text)
{
    buffer_clear(&text->storage);
    buffer_clear(&text->origin_storage);
    *text = (struct aligned_text){0};
}

/* The same origin for n bytes, in few additions. */
static void add_origins(struct buffer *origins, struct origin origin, size_t n)
{
    struct origin several[32];

    for (size_t i = 0; i < sizeof several / sizeof several[0] && i < n; i++)
        several[i] = origin;
    while (n > 0) {
        size_t n_now =
            n < sizeof several / sizeof several[0] ? n : sizeof several / sizeof several[0];

        buffer_add(origins, several, n_now * sizeof origin);
        n -= n_now;
    }
}

/* The origins of whole characters of a view, in few additions. */
static void add_view_origins(struct buffer *origins, const struct aligned_text *from, size_t begin,
                             size_t end)
{
    struct origin several[64];
    size_t n = 0;

    for (size_t i = begin; i < end;) {
        size_t next = i + 1;

        while (next < end && is_continuation(from->data[next]))
            next++;
        struct origin origin = aligned_text_origin(from, i, next);
        for (; i < next; i++) {
            several[n++] = origin;
            if (n == sizeof several / sizeof several[0]) {
                buffer_add(origins, several, sizeof several);
                n = 0;
            }
        }
    }
    buffer_add(origins, several, n * sizeof several[0]);
}

void aligned_text_copy(struct aligned_text *out, const struct aligned_text *from, size_t begin,
                       size_t end)
{
    buffer_add(&out->storage, from->data + begin, end - begin);
    if (from->origins) {
        buffer_add(&out->origin_storage, from->origins + begin,
                   (end - begin) * sizeof(struct origin));
        return;
    }
    add_view_origins(&out->origin_storage, from, begin, end);
}

void aligned_text_insert(struct aligned_text *out, const char *bytes, size_t n_bytes,
                         struct origin origin)
{
    buffer_add(&out->storage, bytes, n_bytes);
    add_origins(&out->origin_storage, origin, n_bytes);
}

void aligned_text_add(struct aligned_text *out, const char *bytes, const struct origin *origins,
                      size_t n_bytes)
{
    buffer_add(&out->storage, bytes, n_bytes);
    buffer_add(&out->origin_storage, origins, n_bytes * sizeof *origins);
}

bool aligned_text_replace(struct aligned_text *text, struct aligned_text *built)
{
    if (built->storage.has_failed || built->origin_storage.has_failed ||
        built->storage.n_bytes > ALIGNED_TEXT_MAX_BYTES) {
        aligned_text_clear(built);
        return false;
    }
    aligned_text_clear(text);
    *text = *built;
    *built = (struct aligned_text){0};
    text->data = text->storage.data ? text->storage.data : "";
    text->n_bytes = text->storage.n_bytes;
    /* malloc's alignment suits a struct of two uint32_t */
    text->origins = (const struct origin *)(const void *)text->origin_storage.data;
    return true;
}
