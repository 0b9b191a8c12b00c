/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "base/utf8.h"

#include <string.h>

static const struct {
    const char *bytes;
    size_t length;
    uint32_t code_point;
} decodings[] = {
    {"A", 1, 'A'},
    {"\x7f", 1, 0x7f},
    {"\xc2\x80", 2, 0x80},
    {"\xdf\xbf", 2, 0x7ff},
    {"\xe0\xa0\x80", 3, 0x800},
    {"\xef\xbf\xbf", 3, 0xffff},
    {"\xf0\x90\x80\x80", 4, 0x10000},
    {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
    {"\x80", 0, 0xfffd},             /* a continuation byte first */
    {"\xc0\x80", 0, 0xfffd},         /* overlong NUL */
    {"\xe0\x9f\xbf", 0, 0xfffd},     /* overlong */
    {"\xed\xa0\x80", 0, 0xfffd},     /* a surrogate */
    {"\xf0\x8f\xbf\xbf", 0, 0xfffd}, /* overlong */
    {"\xf4\x90\x80\x80", 0, 0xfffd}, /* over U+10FFFF */
    {"\xf5\x80\x80\x80", 0, 0xfffd},
    {"\xe2\x82", 0, 0xfffd}, /* cut short */
    {"\xe2\x28\xa1", 0, 0xfffd},
};

static void decodes_by_the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(decodings); i++) {
        uint32_t code_point = 0;
        size_t n = utf8_decode(decodings[i].bytes, strlen(decodings[i].bytes), &code_point);

        assert_int_equal(n, decodings[i].length);
        assert_int_equal(code_point, decodings[i].code_point);
        assert_int_equal(utf8_is_valid(decodings[i].bytes, strlen(decodings[i].bytes)),
                         decodings[i].length > 0);
    }
}

static const struct {
    const char *bytes;
    size_t complete;
} tails[] = {
    {"", 0},
    {"abc", 3},
    {"a\xc3", 1},
    {"a\xc3\xa9", 3},
    {"\xe2\x82", 0},
    {"x\xf0\x9f\x98", 1},
    {"x\xf0\x9f\x98\x80", 5},
    {"\xe2\x28", 2},         /* can never become valid */
    {"\xff\xff\xff\xff", 4}, /* never valid */
    {"\x80\x80\x80\x80", 4}, /* continuation bytes only */
    {"\xe0\x80", 2},         /* overlong: never valid */
};

static void holds_back_incomplete_tails_only(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(tails); i++)
        assert_int_equal(utf8_complete_bytes(tails[i].bytes, strlen(tails[i].bytes)),
                         tails[i].complete);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_by_the_table),
        cmocka_unit_test(holds_back_incomplete_tails_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
