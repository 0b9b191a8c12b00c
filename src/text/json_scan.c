/* SPDX-License-Identifier: Apache-2.0
 *
 * A scanner over JSON text (RFC 8259). Never reads past `end`, never recurses, allocates only to
 * resolve escapes.
 */
#include "text/json_scan.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void skip_space(struct json_scan *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t'))
        scan->at++;
}

bool json_scan_mark(struct json_scan *scan, char mark)
{
    struct json_scan next = *scan;

    skip_space(&next);
    if (next.at == next.end || *next.at != mark)
        return false;
    scan->at = next.at + 1;
    return true;
}

/* Behind the closing quote of the string whose first byte is at `at`; NULL: there is none. */
static const char *string_end(const char *at, const char *end)
{
    while (at < end && *at != '"')
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    return at < end ? at + 1 : NULL;
}

/* Steps over one value of any kind, counting commas of its own level. */
static bool skip_value(struct json_scan *scan, struct json_span *span)
{
    size_t depth = 0;

    skip_space(scan);
    *span = (struct json_span){.begin = scan->at, .n_items = 1};
    while (scan->at < scan->end) {
        char c = *scan->at;

        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            break;
        scan->at++;
        if (c == '"')
            scan->at = string_end(scan->at, scan->end);
        if (!scan->at)
            return false;
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--;
        else if (c == ',' && depth == 1)
            span->n_items++;
        if (depth == 0 && (c == '}' || c == ']'))
            break;
    }
    span->end = scan->at;
    return depth == 0 && span->end > span->begin;
}

bool json_scan_member(const char *begin, const char *end, const char *name, struct json_span *value)
{
    struct json_scan scan = {begin, end};
    size_t n_name = strlen(name);

    *value = (struct json_span){0};
    if (!json_scan_mark(&scan, '{'))
        return false;
    do {
        struct json_span member;

        if (!json_scan_mark(&scan, '"'))
            return json_scan_mark(&scan, '}');
        const char *key = scan.at;
        scan.at = string_end(scan.at, scan.end);
        if (!scan.at)
            return false;
        bool is_sought = (size_t)(scan.at - key) == n_name + 1 && !memcmp(key, name, n_name);
        if (!json_scan_mark(&scan, ':') || !skip_value(&scan, &member))
            return false;
        if (is_sought)
            *value = member;
    } while (json_scan_mark(&scan, ','));
    return json_scan_mark(&scan, '}');
}

/* Four hexadecimal digits at `at`, or -1. */
static int32_t hex4(const char *at, const char *end)
{
    int32_t value = 0;

    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char lower = (char)(at[i] | 32);

        if (at[i] >= '0' && at[i] <= '9')
            value = value * 16 + (at[i] - '0');
        else if (lower >= 'a' && lower <= 'f')
            value = value * 16 + (lower - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* Resolves the escape behind the backslash at *at and moves on; false: it is none. */
static bool resolve_escape(const char **at, const char *end, struct buffer *out)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *p = *at + 1;
    const char *name = p < end && *p ? strchr(names, *p) : NULL;

    if (name) {
        buffer_add_byte(out, values[name - names]);
        *at = p + 1;
        return true;
    }
    if (p == end || *p != 'u')
        return false;
    int32_t code = hex4(p + 1, end);
    p += 5;
    if (code >= 0xd800 && code < 0xdc00) { /* the first half of a pair */
        int32_t low = end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2, end) : -1;

        if (low < 0xdc00 || low > 0xdfff)
            return false;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
    }
    if (code < 0 || (code >= 0xdc00 && code <= 0xdfff))
        return false;
    buffer_add_code_point(out, (unsigned)code);
    *at = p;
    return true;
}

bool json_scan_string(struct json_scan *scan, struct buffer *scratch, const char **text,
                      size_t *n_bytes)
{
    struct json_scan next = *scan;
    bool has_escape = false;

    if (!json_scan_mark(&next, '"'))
        return false;
    const char *begin = next.at;
    const char *end = string_end(begin, next.end);
    if (!end)
        return false;
    end--;
    for (const char *p = begin; p < end; p++) {
        has_escape |= *p == '\\';
        if ((unsigned char)*p < 0x20)
            return false;
    }
    *text = begin;
    *n_bytes = (size_t)(end - begin);
    if (has_escape) {
        buffer_truncate(scratch, 0);
        for (const char *p = begin; p < end;) {
            if (*p != '\\')
                buffer_add_byte(scratch, *p++);
            else if (!resolve_escape(&p, end, scratch))
                return false;
        }
        if (scratch->has_failed)
            return false;
        *text = scratch->data;
        *n_bytes = scratch->n_bytes;
    }
    if (!utf8_is_valid(*text, *n_bytes))
        return false;
    scan->at = end + 1;
    return true;
}

bool json_scan_integer(struct json_scan *scan, int64_t *value)
{
    struct json_scan next = *scan;
    bool is_negative;
    int64_t sum = 0;
    int n_digits = 0;

    skip_space(&next);
    is_negative = json_scan_mark(&next, '-');
    for (; next.at < next.end && *next.at >= '0' && *next.at <= '9'; next.at++) {
        if (++n_digits > 18) /* more might not fit */
            return false;
        sum = sum * 10 + (*next.at - '0');
    }
    if (n_digits == 0 || (n_digits > 1 && *(next.at - n_digits) == '0'))
        return false;
    *value = is_negative ? -sum : sum;
    scan->at = next.at;
    return true;
}

/* Takes digits into *sum as long as they fit 64 bits; returns how many were there, and how many of
 * them were taken. */
static size_t scan_digits(struct json_scan *scan, uint64_t *sum, size_t *n_taken)
{
    size_t n = 0;
    bool is_full = false;

    *n_taken = 0;
    for (; scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9'; scan->at++, n++) {
        uint64_t digit = (uint64_t)(*scan->at - '0');

        is_full |= *sum > (UINT64_MAX - digit) / 10;
        if (is_full)
            continue;
        *sum = *sum * 10 + digit;
        ++*n_taken;
    }
    return n;
}

/* Behind an "e": false: no digits. What is over 9999 is as good as endless. */
static bool scan_exponent(struct json_scan *scan, int64_t *exponent)
{
    bool is_negative = scan->at < scan->end && *scan->at == '-';
    int64_t sum = 0;
    const char *first;

    if (scan->at < scan->end && (*scan->at == '-' || *scan->at == '+'))
        scan->at++;
    first = scan->at;
    for (; scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9'; scan->at++) {
        if (sum <= 9999)
            sum = sum * 10 + (*scan->at - '0');
    }
    *exponent += is_negative ? -sum : sum;
    return scan->at > first;
}

/* The double nearest to 10 ^ exponent, 0 <= exponent <= 308. */
static double power_of_ten(int exponent)
{
    static const double exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    char text[16];

    if (exponent < (int)(sizeof exact / sizeof exact[0]))
        return exact[exponent];
    snprintf(text, sizeof text, "1e%d", exponent);
    return strtod(text, NULL);
}

/* serde_json's: one rounding of the digits, one of each product. */
static double scale(uint64_t digits, int64_t exponent)
{
    double value = (double)digits;

    for (; exponent < -308 && value != 0; exponent += 308)
        value /= 1e308;
    if (value == 0)
        return 0;
    if (exponent > 308)
        return INFINITY;
    return exponent < 0 ? value / power_of_ten((int)-exponent)
                        : value * power_of_ten((int)exponent);
}

bool json_scan_number(struct json_scan *scan, double *value)
{
    struct json_scan next = *scan;
    uint64_t digits = 0;
    int64_t exponent = 0;
    size_t n_taken;
    size_t n;

    skip_space(&next);
    bool is_negative = json_scan_mark(&next, '-');
    const char *first = next.at;
    n = scan_digits(&next, &digits, &n_taken);
    if (n == 0 || (n > 1 && *first == '0'))
        return false;
    exponent = (int64_t)(n - n_taken);
    if (next.at < next.end && *next.at == '.') {
        bool takes = n == n_taken; /* digits behind those that did not fit do not count */
        uint64_t ignored = UINT64_MAX;

        next.at++;
        if (scan_digits(&next, takes ? &digits : &ignored, &n_taken) == 0)
            return false;
        exponent -= (int64_t)n_taken;
    }
    if (next.at < next.end && (*next.at == 'e' || *next.at == 'E')) {
        next.at++;
        if (!scan_exponent(&next, &exponent))
            return false;
    }
    double sum = scale(digits, exponent);
    if (isinf(sum))
        return false;
    *value = is_negative ? -sum : sum;
    scan->at = next.at;
    return true;
}
