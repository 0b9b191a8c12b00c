/* SPDX-License-Identifier: Apache-2.0
 *
 * Strict UTF-8 (RFC 3629). Pure.
 */
#include "base/utf8.h"

/* Length of the sequence a first byte announces; 0 for a byte that cannot be first. */
static size_t announced_bytes(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef)
        return 3;
    if (first >= 0xf0 && first <= 0xf4)
        return 4;
    return 0;
}

/* Is `byte` allowed at index i (1..3) after `first`? The second byte's range is narrower for four
 * first bytes: this is what refuses overlong forms, surrogates and values over U+10FFFF. */
static bool can_follow(unsigned char first, size_t i, unsigned char byte)
{
    unsigned char low = 0x80;
    unsigned char high = 0xbf;

    if (i == 1) {
        if (first == 0xe0)
            low = 0xa0;
        else if (first == 0xed)
            high = 0x9f;
        else if (first == 0xf0)
            low = 0x90;
        else if (first == 0xf4)
            high = 0x8f;
    }
    return byte >= low && byte <= high;
}

size_t utf8_decode(const char *text, size_t n_bytes, uint32_t *code_point)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t n = announced_bytes(bytes[0]);

    *code_point = 0xfffd;
    if (n == 0 || n > n_bytes)
        return 0;
    if (n == 1) {
        *code_point = bytes[0];
        return 1;
    }
    uint32_t value = bytes[0] & (0x7fU >> n);
    for (size_t i = 1; i < n; i++) {
        if (!can_follow(bytes[0], i, bytes[i]))
            return 0;
        value = value << 6 | (bytes[i] & 0x3f);
    }
    *code_point = value;
    return n;
}

bool utf8_is_valid(const char *text, size_t n_bytes)
{
    uint32_t code_point;

    for (size_t i = 0; i < n_bytes;) {
        size_t n = utf8_decode(text + i, n_bytes - i, &code_point);

        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

size_t utf8_complete_bytes(const char *text, size_t n_bytes)
{
    const unsigned char *bytes = (const unsigned char *)text;

    for (size_t back = 1; back <= 3 && back <= n_bytes; back++) {
        size_t start = n_bytes - back;
        size_t n = announced_bytes(bytes[start]);

        if (n == 0)
            continue; /* a continuation byte, or one that is never valid */
        if (n <= back)
            return n_bytes;
        for (size_t i = 1; i < back; i++) {
            if (!can_follow(bytes[start], i, bytes[start + i]))
                return n_bytes;
        }
        return start;
    }
    return n_bytes;
}
