/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTML page: its elements are balanced whatever texts and names hold, it loads nothing, its
 * policy names the hashes of its own style and script, and all results are in it.
 */
#include "summary/report_write.h"
#include "support_report.h"
#include "test.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };

/* Names of open elements. */
struct stack {
    char names[MAX_DEPTH][16];
    size_t depth;
};

static bool is_void(const char *name)
{
    return strcmp(name, "meta") == 0 || strcmp(name, "input") == 0;
}

/* Reads one tag at `at` ("<" included) and returns what is behind it; NULL: it is malformed. */
static const char *read_tag(const char *at, struct stack *stack)
{
    bool is_end = at[1] == '/';
    const char *name = at + 1 + is_end;
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz123456789");
    char *top;

    at = name + n;
    while (*at && *at != '>') { /* attributes: a quoted value may hold anything but its quote */
        if (*at == '<')
            return NULL;
        if (*at++ == '"') {
            at = strchr(at, '"');
            if (!at)
                return NULL;
            at++;
        }
    }
    if (*at != '>' || n == 0 || n >= 16)
        return NULL;
    top = stack->names[is_end && stack->depth > 0 ? stack->depth - 1 : stack->depth];
    if (is_end) {
        if (stack->depth == 0 || strlen(top) != n || strncmp(top, name, n) != 0)
            return NULL;
        stack->depth--;
    } else if (stack->depth + 1 < MAX_DEPTH) {
        memcpy(top, name, n);
        top[n] = '\0';
        stack->depth += !is_void(top);
    }
    return at + 1;
}

/* Walks the page; appends each tag's name to `outline`. */
static void check_balance(const char *page, struct buffer *outline)
{
    struct stack stack = {0};

    assert_int_equal(strncmp(page, "<!DOCTYPE html>\n", 16), 0);
    for (const char *at = page + 16; *at;) {
        const char *next;

        if (stack.depth > 0 && strcmp(stack.names[stack.depth - 1], "script") == 0)
            at = strstr(at, "</"); /* raw text */
        assert_non_null(at);
        if (*at == '&') {
            size_t n = strcspn(at, ";");

            if (n < 3 || n > 5)
                fail_msg("a bare '&' at: %.40s", at);
        }
        if (*at == '>' || *at == '"' || *at == '\'')
            fail_msg("%c at: %.40s", *at, at - 20);
        if (*at != '<') {
            /* style and text: on to what must be looked at */
            const char *marks =
                stack.depth > 0 && strcmp(stack.names[stack.depth - 1], "style") == 0 ? "<"
                                                                                      : "<>&\"'";

            at += *at == '&';
            at += strcspn(at, marks);
            continue;
        }
        next = read_tag(at, &stack);
        if (!next)
            fail_msg("a tag that does not fit at: %.60s", at);
        buffer_add(outline, at, strcspn(at, " >"));
        at = next;
    }
    assert_int_equal(stack.depth, 0);
}

static void no_text_changes_the_structure(void **state)
{
    static const char *const texts[] = {
        "<script>alert(1)",  "-->",        "<!--",      "\"><img src=x onerror=alert(1)>",
        "' onclick='x",      "&lt;script", "&#60;b>",   "]]>",
        "<\\script><style>", "\xff<\xc3",  "a\x01\x02", "</summary><details>",
    };
    struct buffer plain = {0};
    struct report report;
    struct buffer out = {0};

    (void)state;
    support_hostile_report(&report, "plain");
    report_write_html(&report, &out);
    check_balance(out.data, &plain);
    buffer_clear(&out);
    report_clear(&report);
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct buffer outline = {0};

        support_hostile_report(&report, texts[i]);
        report_write_html(&report, &out);
        check_balance(out.data, &outline);
        /* a '/' makes directories */
        if (!strchr(texts[i], '/'))
            assert_string_equal(outline.data, plain.data);
        assert_null(strstr(out.data, "<img"));
        buffer_clear(&outline);
        buffer_clear(&out);
        report_clear(&report);
    }
    buffer_clear(&plain);
}

static void results_are_there(void **state)
{
    static const char *const parts[] = {
        "<title>Summary of demo</title>",
        "3 of 6 chunks have a summary (1 of a cut text or answer), 1 failed, 2 were not reached.",
        "The run was interrupted",
        "<details class=\"directory\" open><summary><code>.</code> <span class=\"soft\">3 files, "
        "643 lines</span></summary>\n<details class=\"directory\" open><summary><code>src</code>",
        "<p>Memory and maps.</p>",
        "<details class=\"file\" data-path=\"src/base/map.c\"><summary><code>map.c</code>",
        "<span class=\"bad\">1 failed</span></span> A hash map from strings to numbers.</summary>",
        "<li><strong>lines 1\xe2\x80\x93"
        "300</strong> <code>map_put</code> Adds an entry to the map.</li>",
        "Grows the table. <em class=\"soft\">cut: answer over 64 tokens</em></li>",
        "<td><code>src/base/map.c</code></td><td>line 601</td><td>the answer is empty</td>",
        "<summary>binary <span class=\"soft\">2</span></summary>\n<ul>\n<li><code>a.bin</code>",
        "<td>note</td><td>the disk is full</td>",
        "<td>took</td><td>1 min 15 s</td>",
    };
    struct buffer pages[2] = {{0}, {0}};

    (void)state;
    for (int order = 0; order < 2; order++) {
        struct buffer outline = {0};
        struct report report;

        support_sample_report(&report, order);
        report_write_html(&report, &pages[order]);
        check_balance(pages[order].data, &outline);
        buffer_clear(&outline);
        report_clear(&report);
    }
    assert_string_equal(pages[0].data, pages[1].data);
    for (size_t i = 0; i < COUNT(parts); i++) {
        if (!strstr(pages[0].data, parts[i]))
            fail_msg("the page lacks: %s", parts[i]);
    }
    buffer_clear(&pages[0]);
    buffer_clear(&pages[1]);
}

/* The policy's hash of what stands between <tag> and </tag>. */
static void check_hash(const char *page, const char *tag)
{
    char open[16], close[16], expected[256];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned char base64[2 * EVP_MAX_MD_SIZE];
    const char *first;
    const char *last;

    snprintf(open, sizeof open, "<%s>", tag);
    snprintf(close, sizeof close, "</%s>", tag);
    first = strstr(page, open);
    assert_non_null(first);
    first += strlen(open);
    last = strstr(first, close);
    assert_int_equal(EVP_Digest(first, (size_t)(last - first), digest, NULL, EVP_sha256(), NULL),
                     1);
    EVP_EncodeBlock(base64, digest, 32);
    snprintf(expected, sizeof expected, "%s-src 'sha256-%s';", tag, (const char *)base64);
    if (!strstr(page, expected))
        fail_msg("the policy lacks %s", expected);
}

static void nothing_is_loaded(void **state)
{
    static const char *const marks[] = {
        "http:",  "https:",  "src=",     "href=",     "url(",  "@import",
        "unsafe", " style=", " onclick", "innerHTML", "fetch("};
    struct report report;
    struct buffer out = {0};

    (void)state;
    support_sample_report(&report, 0);
    report_write_html(&report, &out);
    for (size_t i = 0; i < COUNT(marks); i++) {
        if (strstr(out.data, marks[i]))
            fail_msg("the page holds %s", marks[i]);
    }
    assert_non_null(strstr(out.data, "content=\"default-src 'none'; style-src "));
    check_hash(out.data, "style");
    check_hash(out.data, "script");
    buffer_clear(&out);
    report_clear(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_text_changes_the_structure),
        cmocka_unit_test(results_are_there),
        cmocka_unit_test(nothing_is_loaded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
