/* SPDX-License-Identifier: Apache-2.0
 *
 * White space, escapes and offsets as Python sees them. Texts are valid UTF-8 (checked where they
 * enter: the lexer and jansson); an ill-formed byte would still count as one character.
 */
#include "text/jinja_string.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

size_t jinja_space_bytes(const char *text, size_t n_bytes)
{
    uint32_t c;
    size_t n;

    if (n_bytes == 0)
        return 0;
    n = utf8_decode(text, n_bytes, &c);
    if ((c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
        (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
        c == 0x3000)
        return n;
    return 0;
}

size_t jinja_rstrip_bytes(const char *text, size_t n_bytes)
{
    while (n_bytes > 0) {
        size_t begin = n_bytes - 1;

        while (begin > 0 && (text[begin] & 0xc0) == 0x80)
            begin--;
        if (jinja_space_bytes(text + begin, n_bytes - begin) != n_bytes - begin)
            break;
        n_bytes = begin;
    }
    return n_bytes;
}

static size_t put_code_point(char *out, uint32_t c)
{
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        c = 0xfffd;
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)c, (utf8proc_uint8_t *)out);
}

/* Reads up to `max` digits of `base`; *n gets how many there were. */
static uint32_t read_digits(const char *text, size_t n_bytes, int base, size_t max, size_t *n)
{
    uint32_t value = 0;

    for (*n = 0; *n < max && *n < n_bytes; (*n)++) {
        char c = text[*n];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : 99;
        if (digit >= base)
            break;
        value = value * (uint32_t)base + (uint32_t)digit;
    }
    return value;
}

/* One escape at text[0] = '\\'; writes what it means and returns the bytes it took. An escape never
 * means more bytes than it takes, so `out` is long enough. */
static size_t take_escape(const char *text, size_t n_bytes, char *out, size_t *n_out)
{
    static const char simple[] = "n\nr\rt\ta\ab\bf\fv\v\\\\''\"\"";
    char kind = n_bytes > 1 ? text[1] : '\0';
    size_t wanted = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
    size_t n_digits = 0;

    if (kind == '\n')
        return 2;
    for (size_t i = 0; kind && simple[i]; i += 2) {
        if (simple[i] == kind) {
            out[(*n_out)++] = simple[i + 1];
            return 2;
        }
    }
    if (wanted > 0) {
        uint32_t c = read_digits(text + 2, n_bytes - 2, 16, wanted, &n_digits);

        if (n_digits == wanted) {
            *n_out += put_code_point(out + *n_out, c);
            return 2 + wanted;
        }
    } else if (kind >= '0' && kind <= '7') {
        uint32_t c = read_digits(text + 1, n_bytes - 1, 8, 3, &n_digits);

        *n_out += put_code_point(out + *n_out, c);
        return 1 + n_digits;
    }
    out[(*n_out)++] = '\\';
    return 1;
}

bool jinja_unescape(struct jinja_arena *arena, const char *text, size_t n_bytes,
                    struct jinja_text *out)
{
    char *copy = jinja_arena_take(arena, n_bytes + 1, 1);
    size_t n = 0;

    if (!copy)
        return false;
    for (size_t i = 0; i < n_bytes;) {
        if (text[i] == '\\')
            i += take_escape(text + i, n_bytes - i, copy, &n);
        else
            copy[n++] = text[i++];
    }
    *out = (struct jinja_text){copy, n};
    return true;
}

size_t jinja_count_code_points(const char *text, size_t n_bytes)
{
    size_t n = 0;

    for (size_t i = 0; i < n_bytes; i++)
        n += (text[i] & 0xc0) != 0x80;
    return n;
}

size_t jinja_offset_of(const char *text, size_t n_bytes, size_t index)
{
    size_t at = 0;

    while (at < n_bytes && index > 0) {
        at++;
        while (at < n_bytes && (text[at] & 0xc0) == 0x80)
            at++;
        index--;
    }
    return at;
}

size_t jinja_find(const char *text, size_t n_bytes, size_t from, const char *needle,
                  size_t n_needle)
{
    const char *found;

    if (from > n_bytes)
        return SIZE_MAX;
    if (n_needle == 0)
        return from;
    found = memmem(text + from, n_bytes - from, needle, n_needle);
    return found ? (size_t)(found - text) : SIZE_MAX;
}

bool jinja_is_printable(uint32_t code_point)
{
    switch (utf8proc_category((utf8proc_int32_t)code_point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return code_point == ' ';
    default:
        return true;
    }
}

/* The shortest digits that read back as the same number, then laid out as Python does: plain for
 * exponents -4 to 15, else d.ddde+XX. */
void jinja_format_float(double number, char text[32])
{
    char digits[32];
    int precision = 0;

    if (!isfinite(number)) {
        snprintf(text, 32, "%s", isnan(number) ? "nan" : number < 0 ? "-inf" : "inf");
        return;
    }
    do {
        snprintf(digits, sizeof digits, "%.*e", precision, number);
    } while (strtod(digits, NULL) != number && ++precision < 17);

    long exponent = strtol(strchr(digits, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16) {
        snprintf(text, 32, "%s", digits);
    } else {
        int n_decimals = precision - (int)exponent;

        snprintf(text, 32, "%.*f", n_decimals < 1 ? 1 : n_decimals, number);
    }
}
