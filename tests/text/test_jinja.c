/* SPDX-License-Identifier: Apache-2.0
 *
 * The template interpreter against jinja2: every row of tests/golden/jinja.json (template,
 * variables, and what transformers' environment made of them, an error included) must come out the
 * same. Then what jinja2 has no word for: error sentences, limits, and which output bytes are
 * trusted.
 */
#include "text/jinja.h"

#include "base/file.h"
#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static kvern_status render(const char *text, size_t n_bytes, const struct jinja_input *input,
                           struct jinja_output *out, kvern_error *err)
{
    struct jinja_template *template = NULL;
    kvern_status status = jinja_template_parse(&template, text, n_bytes, err);

    if (!status)
        status = jinja_render(template, input, out, err);
    jinja_template_free(template);
    return status;
}

static void test_rows_of_jinja2(void **state)
{
    json_error_t error;
    json_t *golden = json_load_file(KVERN_SOURCE_DIR "/tests/golden/jinja.json", 0, &error);
    json_t *rows = json_object_get(golden, "rows");
    json_t *row;
    size_t n_wrong = 0;
    size_t i;

    (void)state;
    assert_non_null(rows);
    assert_true(json_array_size(rows) >= 150);
    json_array_foreach(rows, i, row)
    {
        struct jinja_input input = {.untrusted = json_object_get(golden, "variables"),
                                    .now = 1700000000};
        struct jinja_output out = {0};
        kvern_error err = {0};
        const char *text = json_string_value(json_object_get(row, "template"));
        json_t *expected = json_object_get(row, "expected");
        kvern_status status = render(text, strlen(text), &input, &out, &err);

        if (json_is_null(expected)
                ? status == KVERN_OK
                : status || out.n_bytes != json_string_length(expected) ||
                      memcmp(out.text, json_string_value(expected), out.n_bytes) != 0) {
            print_error("row %zu: %s\n  expected: %s\n  got:      %s\n", i, text,
                        json_is_null(expected) ? "(an error)" : json_string_value(expected),
                        status ? err.message : out.text);
            n_wrong++;
        }
        jinja_output_clear(&out);
    }
    json_decref(golden);
    assert_int_equal(n_wrong, 0);
}

static void test_errors_name_line_and_thing(void **state)
{
    static const struct {
        const char *template;
        kvern_status status;
        const char *message;
    } rows[] = {
        {"a\nb\n{{ 'x'|foo }}", KVERN_UNSUPPORTED, "chat template line 3: unknown filter 'foo'"},
        {"{{ 1 is foo }}", KVERN_UNSUPPORTED, "chat template line 1: unknown test 'foo'"},
        {"\n{% include 'x' %}", KVERN_UNSUPPORTED,
         "chat template line 2: unknown statement 'include'"},
        {"{% if x %}", KVERN_FORMAT,
         "chat template line 1: the template ends before '{% endif %}'"},
        {"{{ raise_exception('no!') }}", KVERN_INVALID, "chat template line 1: no!"},
        {"{{ nope.x }}", KVERN_INVALID, "chat template line 1: 'nope' is undefined"},
        {"{{ 'a' }", KVERN_FORMAT, "chat template line 1: a bracket closed that was not opened"},
        {"{% break %}", KVERN_FORMAT, "chat template line 1: break or continue outside a loop"},
        {"\xff", KVERN_FORMAT, "the chat template is not valid UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct jinja_input input = {0};
        struct jinja_output out = {0};
        kvern_error err = {0};
        kvern_status status =
            render(rows[i].template, strlen(rows[i].template), &input, &out, &err);

        jinja_output_clear(&out);
        assert_string_equal(err.message, rows[i].message);
        assert_int_equal(status, rows[i].status);
    }
}

/* Each would take for ever, or all memory, or the whole C stack. */
static void test_hostile_templates_hit_a_limit(void **state)
{
    static const char *const templates[] = {
        "{{ 'x' * 10000000000 }}",
        "{{ [1] * 10000000000 }}",
        "{{ range(1000000000)|list }}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
        "{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "{% endfor %}{% endfor %}",
        "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}"
        "{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}"
        "{{ n.x }}",
        "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}"
        "{{ n.x == [n.x] and n.x|tojson }}",
        "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}"
        "{% endfor %}{{ n.x|string|length }}",
        "{{ 'a'|indent(9999999999) }}",
        "{{ 'a'.replace('', 'b' * 30000000) }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ '%999999999d' % 1 }}",
        "{% set x = 'x' * 4000000 %}{% for a in range(9999) %}{% for b in range(9999) %}"
        "{{ x.count('y') }}{% endfor %}{% endfor %}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof templates / sizeof templates[0]; i++) {
        struct jinja_input input = {.limits = {.max_steps = 2000000}};
        struct jinja_output out = {0};
        kvern_error err = {0};
        kvern_status status = render(templates[i], strlen(templates[i]), &input, &out, &err);

        if (status != KVERN_LIMIT)
            print_error("%s: %s\n", templates[i], err.message);
        jinja_output_clear(&out);
        assert_int_equal(status, KVERN_LIMIT);
    }
}

static void test_deep_source_is_refused(void **state)
{
    static const char *const openings[] = {"(", "[", "-", "not ", "{1:", "x[", "f("};

    (void)state;
    for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
        size_t n = strlen(openings[i]);
        char *text = new_or_abort(n * 5000 + 3);
        struct jinja_template *template = NULL;
        kvern_error err = {0};

        memcpy(text, "{{", 2);
        for (size_t j = 0; j < 5000; j++)
            memcpy(text + 2 + j * n, openings[i], n);
        assert_true(jinja_template_parse(&template, text, 2 + 5000 * n, &err) != KVERN_OK);
        assert_null(template);
        free(text);
    }
}

/* The untrusted bytes of the output, each shown between '<' and '>'. */
static void assert_marked(const char *template, const char *content, const char *expected)
{
    struct jinja_output out = {0};
    kvern_error err = {0};
    json_t *untrusted = json_pack("{s:s}", "u", content);
    json_t *trusted = json_pack("{s:s}", "t", "T");
    struct jinja_input input = {.trusted = trusted, .untrusted = untrusted};
    char shown[512] = "";
    size_t n = 0;

    assert_int_equal(render(template, strlen(template), &input, &out, &err), KVERN_OK);
    for (size_t i = 0; i < out.n_segments; i++) {
        const struct jinja_segment *segment = &out.segments[i];

        n += (size_t)snprintf(shown + n, sizeof shown - n, segment->is_trusted ? "%.*s" : "<%.*s>",
                              (int)segment->n_bytes, out.text + segment->begin);
    }
    assert_string_equal(shown, expected);
    jinja_output_clear(&out);
    json_decref(trusted);
    json_decref(untrusted);
}

static void test_origin_follows_every_operation(void **state)
{
    static const struct {
        const char *template;
        const char *content;
        const char *expected;
    } rows[] = {
        {"a{{ u }}b{{ t }}", "x", "a<x>bT"},
        {"{{ 'a' + u + 'b' }}", "x", "a<x>b"},
        {"{{ 'a' ~ u ~ t }}", "x", "a<x>T"},
        {"{{ ('a' + u + 'b')|trim }}", " x ", "a< x >b"},
        {"{{ u.strip() }}!", " x ", "<x>!"},
        {"{{ ('ab' + u)[1:3] }}", "xy", "b<x>"},
        {"{{ ('a' + u)[::-1] }}", "xy", "<yx>a"},
        {"{{ ('a' + u)|upper }}", "x", "A<X>"},
        {"{{ u.replace('x', '-') }}", "axb", "<a>-<b>"},
        {"{{ 'a.b'.replace('.', u) }}", "x", "a<x>b"},
        {"{{ u.split('|')[1] }}", "x|y", "<y>"},
        {"{{ [t, u]|join(',') }}", "x", "T,<x>"},
        {"{{ ','.join([t, u]) }}", "x", "T,<x>"},
        {"{{ u|tojson }}", "x\n", "\"<x\\n>\""},
        {"{{ {'k': u} }}", "x", "{'k': '<x>'}"},
        {"{{ '%s.' % u }}", "x", "<x>."},
        {"{{ '{}.'.format(u) }}", "x", "<x>."},
        {"{{ u * 2 }}.", "x", "<xx>."},
        {"{{ u|list|join }}.", "xy", "<xy>."},
        {"{{ (u + '\n' + t)|indent(2) }}", "x", "<x>\n  T"},
        {"{{ u|title }}.", "ab", "<Ab>."},
        {"{% set x %}[{{ u }}]{% endset %}{{ x }}", "x", "[<x>]"},
        {"{% macro m(v) %}[{{ v }}]{% endmacro %}{{ m(u) }}", "x", "[<x>]"},
        {"{% filter upper %}a{{ u }}{% endfilter %}", "x", "A<X>"},
        {"{% generation %}a{{ u }}{% endgeneration %}", "x", "a<x>"},
        {"{{ u|escape }}", "a<", "<a&lt;>"},
        {"{{ u|first }}{{ u|last }}{{ u[0] }}.", "xyz", "<xzx>."},
        {"{{ [u]|map('upper')|first }}.", "x", "<X>."},
        {"{{ u|string }}{{ u|default('a') }}.", "x", "<xx>."},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_marked(rows[i].template, rows[i].content, rows[i].expected);
}

static void test_failing_memory_is_an_error(void **state)
{
    static const char text[] = "{% for i in range(50) %}{{ ('a' ~ i)|upper }}{% endfor %}";

    (void)state;
    for (int64_t i = 0; i < 40; i++) {
        struct jinja_input input = {0};
        struct jinja_output out = {0};
        kvern_error err = {0};

        memory_fail_after(i);
        kvern_status status = render(text, strlen(text), &input, &out, &err);
        memory_fail_after(-1);
        assert_true(status == KVERN_OK || status == KVERN_MEMORY || status == KVERN_LIMIT);
        jinja_output_clear(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_jinja2),
        cmocka_unit_test(test_errors_name_line_and_thing),
        cmocka_unit_test(test_hostile_templates_hit_a_limit),
        cmocka_unit_test(test_deep_source_is_refused),
        cmocka_unit_test(test_origin_follows_every_operation),
        cmocka_unit_test(test_failing_memory_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
