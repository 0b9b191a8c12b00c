/* SPDX-License-Identifier: Apache-2.0
 *
 * Rules of .gitignore files against what git's documentation says (tables) and, where git is
 * installed, against what `git check-ignore` says of random trees with random rules.
 */
#include "test.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "summary/ignore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct row {
    const char *rules;
    const char *path; /* a slash at its end: a folder */
    enum ignore_verdict expected;
};

static const char *const verdict_names[] = {"undecided", "excluded", "included"};

static const struct row rows[] = {
    {"", "a", IGNORE_UNDECIDED},
    {"\n\n# a\n", "a", IGNORE_UNDECIDED},
    {"#a", "#a", IGNORE_UNDECIDED},
    {"\\#a", "#a", IGNORE_EXCLUDED},
    {"\\!a", "!a", IGNORE_EXCLUDED},
    {"a", "a", IGNORE_EXCLUDED},
    {"\xef\xbb\xbf"
     "a",
     "a", IGNORE_EXCLUDED},
    {"a\r\nb\r\n", "a", IGNORE_EXCLUDED},
    {"a\r", "a", IGNORE_UNDECIDED}, /* no newline: the carriage return is the pattern's */
    {"a", "x/y/a", IGNORE_EXCLUDED},
    {"a", "a/x", IGNORE_UNDECIDED}, /* its folder is, and is not entered */
    {"a  ", "a", IGNORE_EXCLUDED},
    {"a\\ ", "a ", IGNORE_EXCLUDED},
    {"a\\  ", "a ", IGNORE_EXCLUDED},
    {"a\t", "a\t", IGNORE_EXCLUDED},
    {"a\n!a", "a", IGNORE_INCLUDED},
    {"!a\na", "a", IGNORE_EXCLUDED},
    {"*.o\n!x.o", "d/x.o", IGNORE_INCLUDED},
    {"/a", "a", IGNORE_EXCLUDED},
    {"/a", "d/a", IGNORE_UNDECIDED},
    {"d/a", "d/a", IGNORE_EXCLUDED},
    {"d/a", "x/d/a", IGNORE_UNDECIDED},
    {"/", "a", IGNORE_UNDECIDED},
    {"a/", "a", IGNORE_UNDECIDED},
    {"a/", "a/", IGNORE_EXCLUDED},
    {"a/", "x/a/", IGNORE_EXCLUDED},
    {"x/a/", "y/x/a/", IGNORE_UNDECIDED},
    {"*", "a", IGNORE_EXCLUDED},
    {"d/*", "d/a", IGNORE_EXCLUDED},
    {"d/*", "d/a/b", IGNORE_UNDECIDED},
    {"*.c", "x.c", IGNORE_EXCLUDED},
    {"*.c", ".c", IGNORE_EXCLUDED},
    {"*.c", "x.cc", IGNORE_UNDECIDED},
    {"?", "a", IGNORE_EXCLUDED},
    {"d?a", "d/a", IGNORE_UNDECIDED},
    {"**/a", "a", IGNORE_EXCLUDED},
    {"**/a", "x/y/a", IGNORE_EXCLUDED},
    {"**/a/b", "x/a/b", IGNORE_EXCLUDED},
    {"a/**", "a/x/y", IGNORE_EXCLUDED},
    {"a/**", "a/", IGNORE_UNDECIDED},
    {"a/**/b", "a/b", IGNORE_EXCLUDED},
    {"a/**/b", "a/x/y/b", IGNORE_EXCLUDED},
    {"a/**/b", "a/xb", IGNORE_UNDECIDED},
    {"a/**/**/b", "a/x/b", IGNORE_EXCLUDED},
    {"/x**y", "xay", IGNORE_EXCLUDED},
    {"/x**y", "x/y", IGNORE_UNDECIDED},
    {"/x*y**", "xzy", IGNORE_EXCLUDED},
    {"/**", "a/b", IGNORE_EXCLUDED},
    {"[ab]", "b", IGNORE_EXCLUDED},
    {"[!ab]", "b", IGNORE_UNDECIDED},
    {"[^ab]", "c", IGNORE_EXCLUDED},
    {"[a-c]x", "bx", IGNORE_EXCLUDED},
    {"[]]", "]", IGNORE_EXCLUDED},
    {"[]-a]", "^", IGNORE_EXCLUDED},
    {"[a-]", "-", IGNORE_EXCLUDED},
    {"[\\]]", "]", IGNORE_EXCLUDED},
    {"[[:digit:]]x", "7x", IGNORE_EXCLUDED},
    {"[[:digit:]]x", "ax", IGNORE_UNDECIDED},
    {"[![:space:]]", "a", IGNORE_EXCLUDED},
    {"[[:nothing:]]", "n", IGNORE_UNDECIDED},
    {"[[:]", ":", IGNORE_EXCLUDED},
    {"a[", "a[", IGNORE_UNDECIDED},
    {"a\\", "a\\", IGNORE_UNDECIDED},
    {"a\\*", "a*", IGNORE_EXCLUDED},
    {"a\\*", "ab", IGNORE_UNDECIDED},
    {"d[/]a", "d/a", IGNORE_UNDECIDED},
    {"\xc3\xa9*", "\xc3\xa9t\xc3\xa9", IGNORE_EXCLUDED},
};

static void rules_say_what_gits_documentation_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct ignore_rules rules = {0};
        size_t n = strlen(rows[i].path);
        bool is_folder = rows[i].path[n - 1] == '/';
        kvern_error err = {0};

        assert_int_equal(ignore_rules_add(&rules, rows[i].rules, strlen(rows[i].rules), &err),
                         KVERN_OK);
        enum ignore_verdict verdict =
            ignore_rules_match(&rules, rows[i].path, n - is_folder, is_folder);
        if (verdict != rows[i].expected)
            fail_msg("rules '%s', path '%s': %s, expected %s", rows[i].rules, rows[i].path,
                     verdict_names[verdict], verdict_names[rows[i].expected]);
        ignore_rules_clear(&rules);
    }
}

static void options_cover_what_is_in_a_folder(void **state)
{
    static const struct {
        const char *pattern;
        const char *path;
        bool is_covered;
    } covers[] = {
        {"src", "src/a/b.c", true}, {"src/", "src/a/b.c", true},   {"src/", "src", false},
        {"*.py", "a/b.py", true},   {"a/*.py", "a/b/c.py", false}, {"a/**/*.py", "a/b/c.py", true},
        {"b", "a/bc", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(covers); i++) {
        struct ignore_rules rules = {0};

        assert_int_equal(
            ignore_rules_add_pattern(&rules, covers[i].pattern, strlen(covers[i].pattern), NULL),
            KVERN_OK);
        if (ignore_rules_cover(&rules, covers[i].path, strlen(covers[i].path)) !=
            covers[i].is_covered)
            fail_msg("%s, %s: expected %d", covers[i].pattern, covers[i].path,
                     covers[i].is_covered);
        ignore_rules_clear(&rules);
    }
}

static void push(struct ignore_stack *stack, size_t n_folder_bytes, bool is_fence, const char *text)
{
    struct ignore_level level = {.n_folder_bytes = n_folder_bytes, .is_fence = is_fence};

    assert_int_equal(ignore_rules_add(&level.rules, text, strlen(text), NULL), KVERN_OK);
    assert_int_equal(ignore_stack_push(stack, &level, NULL), KVERN_OK);
}

static void the_innermost_folder_decides(void **state)
{
    struct ignore_stack stack = {0};

    (void)state;
    push(&stack, 0, true, "*.o\n/x\n");
    push(&stack, 2, false, "!y.o\n/z\n");
    assert_true(ignore_stack_excludes(&stack, "d/x.o", 5, false));
    assert_false(ignore_stack_excludes(&stack, "d/y.o", 5, false));
    assert_true(ignore_stack_excludes(&stack, "d/z", 3, false));
    assert_false(ignore_stack_excludes(&stack, "d/x", 3, false));
    push(&stack, 4, true, "w\n"); /* d/e is a repository of its own */
    assert_false(ignore_stack_excludes(&stack, "d/e/x.o", 7, false));
    assert_true(ignore_stack_excludes(&stack, "d/e/w", 5, false));
    ignore_stack_pop(&stack);
    assert_true(ignore_stack_excludes(&stack, "d/e/x.o", 7, false));
    ignore_stack_clear(&stack);
}

static void hostile_patterns_do_not_take_for_ever(void **state)
{
    static const char *const parts[] = {"*a", "**/", "a*?", "[a-b]*", "*/**/*a", "?*"};
    char *text = new_or_abort(4001);
    clock_t begin = clock();

    (void)state;
    for (size_t i = 0; i < 4000; i++)
        text[i] = i % 50 == 49 ? '/' : 'a';
    for (size_t i = 0; i < COUNT(parts); i++) {
        struct ignore_rules rules = {0};
        struct buffer pattern = {0};

        while (pattern.n_bytes + 10 < GLOB_MAX_BYTES / 4)
            buffer_add_string(&pattern, parts[i]);
        buffer_add_string(&pattern, "/b");
        assert_int_equal(ignore_rules_add(&rules, pattern.data, pattern.n_bytes, NULL), KVERN_OK);
        assert_int_equal(ignore_rules_match(&rules, text, 4000, false), IGNORE_UNDECIDED);
        text[3998] = '/'; /* and one that matches at the end, where it can */
        text[3999] = 'b';
        ignore_rules_match(&rules, text, 4000, false);
        text[3998] = text[3999] = 'a';
        ignore_rules_clear(&rules);
        buffer_clear(&pattern);
    }
    print_message("hostile patterns: %.3f s\n", (double)(clock() - begin) / CLOCKS_PER_SEC);
    free(text);
}

static void memory_that_runs_out_is_an_error(void **state)
{
    static const char text[] = "a*b\n[ab]\nc/d\ne\n";
    kvern_error err = {0};

    (void)state;
    for (int64_t n = 0;; n++) {
        struct ignore_rules rules = {0};

        memory_fail_after(n);
        kvern_status status = ignore_rules_add(&rules, text, sizeof text - 1, &err);
        bool has_failed = memory_fail_after(-1);
        ignore_rules_clear(&rules);
        if (!has_failed) {
            assert_int_equal(status, KVERN_OK);
            assert_true(n > 3);
            return;
        }
        assert_int_equal(status, KVERN_MEMORY);
    }
}

/* ---- against git ------------------------------------------------------------------------- */

static uint64_t random_state = 0x2545f4914f6cdd1du;

static size_t random_below(size_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)(random_state >> 11) % n;
}

static const char *const names[] = {"a",  "b",  "ab", "a.c", "b.c",  "#a",
                                    "!b", " a", "a ", "[b]", "a\\b", "a*b",
                                    "]",  "-",  "7",  "A",   "foo",  "foobar"};
static const char *const pieces[] = {"a",       "b",    "ab",   "foo",
                                     "bar",     "*",    "**",   "?",
                                     "/",       "/",    ".c",   "!",
                                     "#",       " ",    "\\",   "[",
                                     "]",       "[ab]", "[!a]", "[a-c]",
                                     "**/",     "/**",  "*.c",  "[[:digit:]]",
                                     "-",       "\\*",  "[]b]", "[^[:alpha:]]",
                                     "[a\\-z]", "/*",   "7"};

enum { MAX_PATHS = 256, MAX_DEPTH = 4 };

struct forest {
    char root[64];
    char *paths[MAX_PATHS]; /* folders end with a slash */
    char *rules[MAX_PATHS]; /* of a folder's .gitignore, or NULL */
    size_t n_paths;
};

static char *random_rules(void)
{
    struct buffer text = {0};

    for (size_t n = 1 + random_below(4); n > 0; n--) {
        if (random_below(4) == 0)
            buffer_add_byte(&text, '!');
        for (size_t k = 1 + random_below(5); k > 0; k--)
            buffer_add_string(&text, pieces[random_below(COUNT(pieces))]);
        if (random_below(4) == 0)
            buffer_add_byte(&text, '/');
        buffer_add_string(&text, random_below(8) == 0 ? "\r\n" : "\n");
    }
    return buffer_take(&text, NULL);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void grow(struct forest *forest, const char *folder, int depth)
{
    char path[512];

    for (size_t i = 0; i < COUNT(names) && forest->n_paths < MAX_PATHS; i++) {
        bool is_folder = depth < MAX_DEPTH && random_below(4) == 0;

        if (random_below(3) == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s%s%s", forest->root, folder, names[i],
                 is_folder ? "/" : "");
        size_t at = forest->n_paths++;
        forest->paths[at] = copy_string_or_abort(path + strlen(forest->root) + 1);
        if (!is_folder) {
            write_text(path, "");
            continue;
        }
        mkdir(path, 0700);
        if (random_below(2) == 0) {
            forest->rules[at] = random_rules();
            strncat(path, ".gitignore", sizeof path - strlen(path) - 1);
            write_text(path, forest->rules[at]);
        }
        grow(forest, forest->paths[at], depth + 1);
    }
}

/* What kvern says: the path or one of its folders is excluded by the rules on the way to it. */
static bool is_excluded(const struct forest *forest, const char *root_rules, const char *path)
{
    struct ignore_stack stack = {0};
    bool is_out = false;
    size_t n = strlen(path);

    push(&stack, 0, true, root_rules);
    for (size_t i = 1; i < n && !is_out; i++) {
        if (path[i] != '/')
            continue;
        is_out = ignore_stack_excludes(&stack, path, i, true);
        for (size_t j = 0; j < forest->n_paths; j++) {
            if (forest->rules[j] && strlen(forest->paths[j]) == i + 1 &&
                memcmp(forest->paths[j], path, i + 1) == 0)
                push(&stack, i + 1, false, forest->rules[j]);
        }
    }
    if (!is_out && path[n - 1] != '/')
        is_out = ignore_stack_excludes(&stack, path, n, false);
    ignore_stack_clear(&stack);
    return is_out;
}

/* git wants folders without the slash */
static size_t bare_bytes(const char *path)
{
    size_t n = strlen(path);

    return path[n - 1] == '/' ? n - 1 : n;
}

static void compare_with_git(const struct forest *forest, const char *root_rules, size_t *n_out)
{
    char command[512];
    char list[128];
    char answers[128];
    char *text = NULL;
    size_t n_bytes = 0;

    snprintf(list, sizeof list, "%s/.git/asked", forest->root);
    snprintf(answers, sizeof answers, "%s/.git/answered", forest->root);
    FILE *file = fopen(list, "wb");
    assert_non_null(file);
    for (size_t i = 0; i < forest->n_paths; i++) {
        fwrite(forest->paths[i], 1, bare_bytes(forest->paths[i]), file);
        fputc('\0', file);
    }
    fclose(file);
    snprintf(command, sizeof command,
             "git -c core.excludesFile= -C %s check-ignore --no-index -z --stdin <%s >%s",
             forest->root, list, answers);
    int status = system(command);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    assert_int_equal(file_read(answers, 1 << 20, &text, &n_bytes, NULL), KVERN_OK);

    const char *at = text;
    for (size_t i = 0; i < forest->n_paths; i++) {
        bool git_says = at < text + n_bytes && strlen(at) == bare_bytes(forest->paths[i]) &&
                        strncmp(at, forest->paths[i], strlen(at)) == 0;
        bool kvern_says = is_excluded(forest, root_rules, forest->paths[i]);

        if (git_says)
            at += strlen(at) + 1;
        *n_out += git_says;
        if (git_says != kvern_says) {
            for (size_t j = 0; j < forest->n_paths; j++) {
                if (forest->rules[j] &&
                    strncmp(forest->paths[j], forest->paths[i], strlen(forest->paths[j])) == 0)
                    print_error("rules of %s:\n%s", forest->paths[j], forest->rules[j]);
            }
            fail_msg("root rules:\n%s\npath %s: git %d, kvern %d", root_rules, forest->paths[i],
                     git_says, kvern_says);
        }
    }
    assert_ptr_equal(at, text + n_bytes);
    free(text);
}

static void git_says_the_same_of_random_trees(void **state)
{
    size_t n_asked = 0;
    size_t n_out = 0;

    (void)state;
    if (system("git --version >/dev/null 2>&1") != 0)
        skip();
    for (int round = 0; round < 40; round++) {
        struct forest forest = {.root = "/tmp/kvern-test-ignore-XXXXXX"};
        char command[256];
        char path[128];

        assert_non_null(mkdtemp(forest.root));
        snprintf(command, sizeof command, "git init -q %s >/dev/null 2>&1", forest.root);
        assert_int_equal(system(command), 0);
        grow(&forest, "", 0);
        for (int variant = 0; variant < 5; variant++) { /* new root rules for the same tree */
            char *rules = random_rules();

            snprintf(path, sizeof path, "%s/%s", forest.root,
                     variant == 0 ? ".git/info/exclude" : ".gitignore");
            write_text(path, rules);
            compare_with_git(&forest, rules, &n_out);
            if (variant == 0)
                write_text(path, "");
            n_asked += forest.n_paths;
            free(rules);
        }
        for (size_t i = 0; i < forest.n_paths; i++) {
            free(forest.paths[i]);
            free(forest.rules[i]);
        }
        snprintf(command, sizeof command, "rm -rf %s", forest.root);
        assert_int_equal(system(command), 0);
    }
    print_message("%zu paths asked of git, %zu excluded\n", n_asked, n_out);
    assert_true(n_out * 20 > n_asked && n_out < n_asked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_say_what_gits_documentation_says),
        cmocka_unit_test(options_cover_what_is_in_a_folder),
        cmocka_unit_test(the_innermost_folder_decides),
        cmocka_unit_test(hostile_patterns_do_not_take_for_ever),
        cmocka_unit_test(memory_that_runs_out_is_an_error),
        cmocka_unit_test(git_says_the_same_of_random_trees),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
