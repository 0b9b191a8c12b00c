/* SPDX-License-Identifier: Apache-2.0
 *
 * Classes by utf8proc's general category; ASCII is answered without the table where it is hot.
 */
#include "text/unicode.h"

#include "base/utf8.h"

#include <utf8proc.h>

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
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool unicode_is_mark(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);

    return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool unicode_is_word(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);

    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) ||
           category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC || c == 0x200c ||
           c == 0x200d || (c >= 0x24b6 && c <= 0x24e9);
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
