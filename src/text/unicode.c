/* SPDX-License-Identifier: Apache-2.0
 *
 * Classes by utf8proc's general category; ASCII is answered without the table where it is hot.
 */
#include "text/unicode.h"

#include "base/utf8.h"

#include <utf8proc.h>

/* Where punctuation, nonspacing marks and format characters are newer than Unicode 8 or became so
 * since: every such character in these ranges, and no older one. */
static const struct {
    uint32_t first;
    uint32_t last;
} newer_ranges[] = {
    {0x61d, 0x61d},     {0x7fd, 0x7fd},     {0x890, 0x8e2},     {0x9fd, 0x9fe},
    {0xa76, 0xa76},     {0xafa, 0xaff},     {0xb55, 0xb55},     {0xc04, 0xc3c},
    {0xc77, 0xc77},     {0xc84, 0xc84},     {0xd00, 0xd00},     {0xd3b, 0xd3c},
    {0xd81, 0xd81},     {0xeba, 0xeba},     {0xece, 0xece},     {0x180f, 0x1886},
    {0x1abf, 0x1ace},   {0x1b7d, 0x1b7e},   {0x1df6, 0x1dfb},   {0x2e43, 0x2e5d},
    {0xa82c, 0xa82c},   {0xa8c5, 0xa8c5},   {0xa8ff, 0xa8ff},   {0xa9bd, 0xa9bd},
    {0x10d24, 0x10f89}, {0x11070, 0x11074}, {0x110c2, 0x110cd}, {0x111c9, 0x111c9},
    {0x111cf, 0x111cf}, {0x1123e, 0x11241}, {0x1133b, 0x1133b}, {0x11438, 0x1145e},
    {0x11660, 0x1166c}, {0x116b9, 0x116b9}, {0x1182f, 0x11fff}, {0x12ff1, 0x13455},
    {0x16e97, 0x16f4f}, {0x16fe2, 0x16fe4}, {0x1cf00, 0x1cf46}, {0x1e000, 0x1e4ef},
    {0x1e944, 0x1e95f},
};

/* To be asked of punctuation, nonspacing marks and format characters only. */
static bool is_newer(uint32_t c)
{
    size_t low = 0;
    size_t high = sizeof newer_ranges / sizeof newer_ranges[0];

    while (low < high) { /* the first range that ends at c or behind it */
        size_t middle = low + (high - low) / 2;

        if (newer_ranges[middle].last < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof newer_ranges / sizeof newer_ranges[0] && newer_ranges[low].first <= c;
}

bool unicode_is_white_space(uint32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool unicode_is_numeric(uint32_t c)
{
    if (c < 0x80)
        return c >= '0' && c <= '9';

    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
           category == UTF8PROC_CATEGORY_NO;
}

bool unicode_is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) ||
               (c >= 0x7b && c <= 0x7e);

    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    if (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO)
        return !is_newer(c);
    return c == 0x166d || c == 0x111c9; /* have been punctuation */
}

bool unicode_is_mark(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);

    return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool unicode_is_nonspacing_mark(uint32_t c)
{
    if (utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN)
        return !is_newer(c);
    return c == 0x1734; /* has been one */
}

bool unicode_is_other(uint32_t c)
{
    if (c < 0x80)
        return c < 0x20 || c == 0x7f;

    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CO ||
           (category == UTF8PROC_CATEGORY_CF && !is_newer(c));
}

bool unicode_is_word(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);

    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) ||
           category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC || c == 0x200c ||
           c == 0x200d || (c >= 0x24b6 && c <= 0x24e9);
}

/* The marks of Unicode 16, which Hugging Face's tokenizers know and a library of Unicode 15 does
 * not. */
static bool is_unicode_16_mark(uint32_t c)
{
    static const struct {
        uint32_t first;
        uint32_t last;
    } ranges[] = {
        {0x10d69, 0x10d6d}, {0x10efc, 0x10efc}, {0x113b8, 0x113c0}, {0x113c2, 0x113c2},
        {0x113c5, 0x113c5}, {0x113c7, 0x113ca}, {0x113cc, 0x113d0}, {0x113d2, 0x113d2},
        {0x113e1, 0x113e2}, {0x11f5a, 0x11f5a}, {0x1611e, 0x1612f}, {0x1e5ee, 0x1e5ef},
    };

    if (c < ranges[0].first)
        return c == 0x897;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (c <= ranges[i].last)
            return c >= ranges[i].first;
    }
    return false;
}

/* A character that the library knows and that behaves as this one does. */
static utf8proc_int32_t known_in_cluster(uint32_t c)
{
    enum { A_MARK = 0x300, A_PREFIX = 0x600 };

    if (c == 0x113d1) /* new in Unicode 16 too */
        return A_PREFIX;
    return is_unicode_16_mark(c) ? A_MARK : (utf8proc_int32_t)c;
}

bool unicode_ends_cluster(uint32_t before, uint32_t after, int32_t *state)
{
    return utf8proc_grapheme_break_stateful(known_in_cluster(before), known_in_cluster(after),
                                            state);
}

size_t unicode_ill_formed_bytes(const char *text, size_t n_bytes)
{
    const unsigned char *bytes = (const unsigned char *)text;
    unsigned char first = bytes[0];
    unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    size_t announced = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    size_t n = 1;

    if (first < 0xc2 || first > 0xf4)
        return 1;
    while (n < announced && n < n_bytes && bytes[n] >= low && bytes[n] <= high) {
        low = 0x80;
        high = 0xbf;
        n++;
    }
    return n;
}

void unicode_add_lossy(struct buffer *out, const char *text, size_t n_bytes)
{
    size_t begin = 0;
    size_t i = 0;

    while (i < n_bytes) {
        uint32_t code_point;
        size_t n = utf8_decode(text + i, n_bytes - i, &code_point);

        if (n == 0) {
            buffer_add(out, text + begin, i - begin);
            buffer_add_code_point(out, 0xfffd);
            n = unicode_ill_formed_bytes(text + i, n_bytes - i);
            begin = i + n;
        }
        i += n;
    }
    buffer_add(out, text + begin, i - begin);
}
