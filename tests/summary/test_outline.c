/* SPDX-License-Identifier: Apache-2.0
 *
 * What is recognised in sources of each kind of language: a table of texts, and the definitions
 * expected in them as "name first-last" (lines from 1, nesting by dots, '+' marks a container).
 */
#include "test.h"

#include "base/buffer.h"
#include "base/memory.h"
#include "summary/outline.h"
#include "summary/patch.h"

#include <stdlib.h>
#include <string.h>

struct row {
    const char *language;
    const char *text;
    const char *expected;
};

static const struct row rows[] = {
    {"C", "", ""},
    {"C", "int x;\n", ""},
    {"C",
     "#include <a.h>\n\n/* doc */\nstatic int add(int a, int b)\n{\n    if (a) {\n        return "
     "'}';\n    }\n"
     "    return b;\n}\nstruct point {\n    int x;\n};\n",
     "add 3-10, point+ 11-13"},
    {"C", "struct point *make(int x)\n{\n}\n", "make 1-3"},
    {"C", "static const int t[] = {\n    1,\n};\nint f(void) {}\n", "f 4-4"},
    {"C",
     "int f(void)\n{\n#if A\n    if (a) {\n#else\n    if (b) {\n#endif\n    }\n}\nint "
     "g(void)\n{\n}\n",
     "f 1-9, g 10-12"},
    {"C", "char *s = \"{\"; // {\n/* { */ int f(int a) { return 1; }\n", "f 2-2"},
    {"C", "#define F(x) { \\\n   {\nint f(void)\n{\n}\n", "f 3-5"},
    {"C", "__attribute__((cold)) int f(void)\n{\n}\n", "f 1-3"},
    {"C++",
     "namespace a {\ntemplate <class T>\nclass Foo : public Bar {\npublic:\n    Foo() : x(1) {}\n"
     "    ~Foo() {}\n    void run(int n = 3) const\n    {\n    }\n};\nvoid Foo::go()\n{\n}\n}\n",
     "a+ 1-14, .Foo+ 2-10, ..Foo 5-5, ..~Foo 6-6, ..run 7-9, .Foo::go 11-13"},
    {"C++", "extern \"C\" {\nint f() {\n}\n}\n", "?+ 1-4, .f 2-3"},
    {"Java",
     "package a;\n@Deprecated\npublic class A extends B<C> {\n    // one\n    @Override(x = 1)\n"
     "    public int f(int a) throws E {\n        for (;;) { }\n    }\n    int[] t = {1, 2};\n"
     "    static { go(); }\n    A() { }\n}\n",
     "A+ 2-12, .f 4-8, .A 11-11"},
    {"Go",
     "package a\n\nimport (\n\t\"fmt\"\n)\n\ntype T struct {\n\tx int\n}\n\n// Run runs.\nfunc (t "
     "*T) Run(n int) error {\n"
     "\tif n > 0 {\n\t}\n\treturn nil\n}\n\nfunc main() { fmt.Println(`{`) }\n",
     "T+ 7-9, Run 11-16, main 18-18"},
    {"Rust",
     "use a;\n#[derive(Debug)]\npub struct P<'a> {\n    x: &'a str,\n}\nimpl<'a> fmt::Display for "
     "P<'a> {\n"
     "    fn fmt<T: Fn(u8)>(&self, c: char) -> R {\n        match c { '{' => 1, _ => 2 }\n    "
     "}\n}\n"
     "mod tests {\n    fn a() {}\n}\n",
     "P+ 2-5, P+ 6-10, .fmt 7-9, tests+ 11-13, .a 12-12"},
    {"JavaScript",
     "const a = 1\nfunction f(x) {\n  return `{${x}`\n}\nexport const g = async (a) => {\n  if (a) "
     "{ }\n}\n"
     "class A extends B {\n  constructor() {\n  }\n  get x() { return 1 }\n}\nmodule.exports = { f "
     "}\n"
     "test('x', () => {\n  function inner() {}\n})\nvar h = function () {\n}\n",
     "f 2-4, g 5-7, A+ 8-12, .constructor 9-10, .x 11-11, h 17-18"},
    {"JavaScript",
     "const f = ({ a, b }, { c } = {}) => {\n  return a\n}\nx.replace(/\\(/, '')\nfunction g() "
     "{\n}\n"
     "define(['a'], function (a) {\n  function no() {}\n})\nconst h = async function () {\n}\n",
     "f 1-3, g 5-6, h 10-11"},
    {"TypeScript",
     "interface A {\n  x: number\n}\nexport const f: Handler = (a: string): void => {\n}\n"
     "class B<T> {\n  run(a: T): Promise<void> {\n  }\n}\n",
     "A+ 1-3, f 4-5, B+ 6-9, .run 7-8"},
    {"Kotlin",
     "data class P(val x: Int) : Q() {\n    fun <T> T.go(): Int {\n        return 1\n    "
     "}\n}\n@A\nfun main() {\n}\n",
     "P+ 1-5, .T.go 2-4, main 6-8"},
    {"Swift",
     "extension A: B {\n    func f<T>(x: T) -> Int {\n    }\n    init(y: Int) {\n    }\n}\n",
     "A+ 1-6, .f 2-3, .init 4-5"},
    {"PHP", "<?php\nnamespace A;\nclass B {\n  public function f($x) {\n    $a = \"}\";\n  }\n}\n",
     "B+ 3-7, .f 4-6"},
    {"Perl", "package A;\nsub f {\n    my $x = $#a;\n}\n# two\nsub g { 1 }\n", "f 2-4, g 5-6"},
    {"Shell", "set -e\nfoo() {\n    echo ${x#y} $#\n}\nfunction bar {\n    :\n}\n",
     "foo 2-4, bar 5-7"},
    {"R", "f <- function(x) {\n  x\n}\ng = function(y)\n{\n  y\n}\n", "f 1-3, g 4-7"},
    {"Protocol Buffers",
     "syntax = \"proto3\";\nmessage A {\n  int32 x = 1;\n  message B {\n  }\n}\n",
     "A+ 2-6, .B+ 4-5"},
    {"Python",
     "import a\n\n# about f\n@dec(\n    1)\ndef f(x,\ny):\n    \"\"\"doc\ndef no():\n    \"\"\"\n  "
     "  return (1,\n2)\n"
     "\n# about A\nclass A:\n    x = 1\n\n    async def g(self):\n        def inner():\n           "
     " pass\n"
     "        return 1\n\n    def h(self): pass\n\nif x:\n    def k():\n        pass\n",
     "f 3-12, A+ 14-23, .g 18-21, ..inner 19-20, .h 23-23, k 26-27"},
    {"Python", "x = (1,\n\ndef f():\n    pass\n", "f 3-4"},
    {"Ruby",
     "module A\n  class B < C\n    # doc\n    def self.f(x)\n      if x\n      end\n    rescue\n   "
     " end\n"
     "    def g = 1\n    def h?\n    end\n  end\nend\nputs 1\n",
     "A+ 1-13, .B+ 2-12, ..self.f 3-8, ..g 9-9, ..h? 10-11"},
    {"Lua",
     "local M = {}\nlocal function f(a)\n  return a\nend\nfunction M.g:h()\n  if a then\n  "
     "end\nend\n",
     "f 2-4, M.g:h 5-8"},
    {"Elixir", "defmodule A.B do\n  def f(x), do: x\n  def g(x) do\n    x\n  end\nend\n",
     "A.B+ 1-6, .f 2-2, .g 3-5"},
    {"Fortran",
     "module m\ncontains\nsubroutine s(x)\nif (x) then\nend if\nend subroutine\ninteger pure "
     "function f(y)\n"
     "end function f\nend module m\n",
     "m+ 1-9, .s 3-6, .f 7-8"},
    {"Visual Basic",
     "Public Class A\n    Private Sub F()\n        Exit Sub\n    End Sub\nEnd Class\n",
     "A+ 1-5, .F 2-4"},
    {"SQL", "-- one\nCREATE TABLE a (\n  x int\n);\n\ncreate view b as\nselect 1;\n",
     "TABLE 1-4, view 6-7"},
    {"Clojure", "(ns a.b)\n\n(defn f\n  [x]\n  x)\n(defn- ^:private g [] 1)\n",
     "a.b+ 1-1, f 3-5, g 6-6"},
    {"CMake", "project(a)\nfunction(f x)\nendfunction()\nmacro(g)\nendmacro()\n", "f 2-3, g 4-5"},
    {"Markdown", "intro\n# A\ntext\n## B\n```\n# no\n```\n# C\n", "A+ 2-7, .B+ 4-7, C+ 8-8"},
    {"HTML", "<p>\n", ""},
    {"patch",
     "From 1234\nSubject: x\n\ndiff --git a/x y.c b/x y.c\nindex 1..2\n--- a/x y.c\n+++ b/x y.c\n"
     "@@ -1,2 +1,1 @@ f\n a\n--- b\n+++ c\n@@ -9 +9 @@\n-a\n\\ No newline\n+b\ndiff --git a/old "
     "b/new\n"
     "similarity index 100%\nrename from old\nrename to new\n",
     "x y.c+ 4-15, .? 8-11, .? 12-15, new+ 16-19"},
    {"patch",
     "--- a.c\t2020-01-01\n+++ a.c\t2021-01-01\n@@ -1 +1 @@\n-a\n+b\n--- /dev/null\n+++ b/n.c\n@@ "
     "-0,0 +1 @@\n+x\n",
     "a.c+ 1-5, .? 3-5, n.c+ 6-9, .? 8-9"},
    {"patch",
     "diff --git \"a/\\303\\251\\t\" \"b/\\303\\251\\t\"\ndeleted file mode 100644\n--- "
     "\"a/\\303\\251\\t\"\n+++ /dev/null\n"
     "@@ -1 +0,0 @@\n-x\n",
     "\xc3\xa9\t+ 1-6, .? 5-6"},
    {"patch",
     "diff --cc a/b.c\nindex 1,2..3\n--- a/a/b.c\n+++ b/a/b.c\n@@@ -1,1 -1,1 +1,2 @@@\n  x\n++y\n",
     "a/b.c+ 1-7, .? 5-7"},
    {"patch", "no patch\n", ""},
};

/* Names of containers around are shown as dots alone. */
static char *describe(const struct outline *outline)
{
    struct buffer out = {0};

    for (size_t i = 0; i < outline->n_definitions; i++) {
        const struct outline_definition *definition = &outline->definitions[i];

        if (i > 0)
            buffer_add_string(&out, ", ");
        for (unsigned j = 0; j < definition->depth; j++)
            buffer_add_byte(&out, '.');
        buffer_add_format(&out, "%s%s %zu-%zu", definition->name ? definition->name : "?",
                          definition->is_container ? "+" : "", definition->first_line + 1,
                          definition->last_line + 1);
    }
    return buffer_take(&out, NULL);
}

static void definitions_are_recognised(void **state)
{
    size_t n_failed = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct outline outline;
        size_t n = strlen(rows[i].text);
        char *text = copy_bytes_or_abort(rows[i].text, n);

        if (strcmp(rows[i].language, "patch") == 0) {
            assert_int_equal(patch_read(&outline, text, n, NULL), KVERN_OK);
        } else {
            const struct language *language = language_find(rows[i].language);

            assert_non_null(language);
            assert_int_equal(outline_read(&outline, language, text, n, NULL), KVERN_OK);
        }
        char *found = describe(&outline);
        if (strcmp(found, rows[i].expected) != 0) {
            print_error("%s:\n%s\n  found    %s\n  expected %s\n", rows[i].language, rows[i].text,
                        found, rows[i].expected);
            n_failed++;
        }
        free(found);
        outline_clear(&outline);
        free(text);
    }
    assert_int_equal(n_failed, 0);
}

static void patches_are_told_from_other_text(void **state)
{
    static const struct {
        const char *text;
        bool is_patch;
    } texts[] = {
        {"", false},
        {"--- a\n+++ b\n", false},
        {"--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n", true},
        {"commit 1\n\n    x\n\ndiff --git a/x b/x\nnew file mode 100644\n", true},
        {"diff --git is a command\n@@ not here\n", true},
        {"# Title\n\n---\n\ntext\n", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        if (patch_is_one(texts[i].text, strlen(texts[i].text)) != texts[i].is_patch)
            fail_msg("expected %d of:\n%s", texts[i].is_patch, texts[i].text);
    }
}

static void memory_that_runs_out_is_an_error(void **state)
{
    static const char text[] = "int f(void)\n{\n}\n";

    (void)state;
    for (int64_t n = 0; n < 2; n++) {
        struct outline outline;
        kvern_error err = {0};

        memory_fail_after(n);
        assert_int_equal(outline_read(&outline, language_find("C"), text, sizeof text - 1, &err),
                         KVERN_MEMORY);
        assert_false(memory_fail_after(-1) == false);
        assert_null(outline.lines);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definitions_are_recognised),
        cmocka_unit_test(patches_are_told_from_other_text),
        cmocka_unit_test(memory_that_runs_out_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
