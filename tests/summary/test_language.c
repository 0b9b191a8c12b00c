/* SPDX-License-Identifier: Apache-2.0
 *
 * Languages by file name, extension and "#!" line, and what a table row must hold to be of use.
 */
#include "test.h"

#include "base/map.h"
#include "summary/language.h"

#include <stdio.h>
#include <string.h>

struct row {
    const char *file_name;
    const char *head;
    const char *expected; /* NULL: not known */
};

static const struct row rows[] = {
    {"a.c", NULL, "C"},
    {"a.h", NULL, "C"},
    {"a.C", NULL, "C++"},
    {"a.CPP", NULL, "C++"},
    {"a.tar.py", NULL, "Python"},
    {"a.PY", NULL, "Python"},
    {"a.R", NULL, "R"},
    {"a.tsx", NULL, "TypeScript"},
    {"a.md", NULL, "Markdown"},
    {"Makefile", NULL, "Makefile"},
    {"Makefile.am", NULL, "Makefile"},
    {"makefile.txt", NULL, "Text"},
    {"Dockerfile", NULL, "Dockerfile"},
    {"Dockerfile.dev", NULL, "Dockerfile"},
    {"CMakeLists.txt", NULL, "CMake"},
    {"Rakefile", NULL, "Ruby"},
    {".bashrc", NULL, "Shell"},
    {"run", "#!/bin/sh\n", "Shell"},
    {"run", "#!/usr/bin/env python3.11\nx", "Python"},
    {"run", "#! /usr/bin/env -S NAME=x node --flag\n", "JavaScript"},
    {"run", "#!/usr/local/bin/lua5.4", "Lua"},
    {"run", "#!/usr/bin/perl -w\n", "Perl"},
    {"run", "#!", NULL},
    {"run", "#!\n/bin/sh\n", NULL},
    {"run", "#!/usr/bin/env\nsh", NULL},
    {"run", "#!/3\n", NULL},
    {"run", "import a\n", NULL},
    {"run", NULL, NULL},
    {"run.sh", "#!/usr/bin/env python3\n", "Shell"},
    {"run.xyz", "#!/bin/sh\n", NULL},
    {".gitignore", NULL, NULL},
    {"a.", NULL, NULL},
    {".", NULL, NULL},
    {"", NULL, NULL},
    {"a.png", NULL, NULL},
};

static void names_and_first_lines_tell(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct language *language =
            language_of(rows[i].file_name, rows[i].head, rows[i].head ? strlen(rows[i].head) : 0);
        const char *name = language ? language->name : "none";

        if (strcmp(name, rows[i].expected ? rows[i].expected : "none") != 0)
            fail_msg("'%s', '%s': %s, expected %s", rows[i].file_name,
                     rows[i].head ? rows[i].head : "", name, rows[i].expected);
    }
}

static void languages_are_found_by_name_and_extension(void **state)
{
    (void)state;
    assert_string_equal(language_find("PYTHON")->name, "Python");
    assert_string_equal(language_find(".py")->name, "Python");
    assert_string_equal(language_find("c++")->name, "C++");
    assert_null(language_find("klingon"));
    assert_null(language_find(".klingon"));
    assert_null(language_find(""));
    assert_non_null(language_plain());
}

/* Adds the words of a list to a map; a word that is there already is a mistake. */
static void add_words(struct map *map, const char *list, const struct language *language)
{
    for (; list && *list; list += *list == ' ') {
        size_t n = strcspn(list, " ");
        uint32_t other;

        assert_true(n > 0);
        if (map_get(map, list, n, &other))
            fail_msg("%.*s is %s's and %s's", (int)n, list, language_at(other)->name,
                     language->name);
        for (uint32_t i = 0; language_at(i); i++) {
            if (language_at(i) == language)
                assert_true(map_put(map, list, n, i));
        }
        list += n;
    }
}

static void no_two_languages_claim_the_same(void **state)
{
    struct map extensions = {0};
    struct map file_names = {0};
    struct map interpreters = {0};
    struct map names = {0};
    size_t n = 0;

    (void)state;
    for (; language_at(n); n++) {
        const struct language *language = language_at(n);

        assert_false(map_get(&names, language->name, strlen(language->name), &(uint32_t){0}));
        assert_true(map_put(&names, language->name, strlen(language->name), 0));
        add_words(&extensions, language->extensions, language);
        add_words(&file_names, language->file_names, language);
        add_words(&interpreters, language->interpreters, language);
        assert_true(language->extensions || language->file_names);
        for (const char *p = language->extensions; p && *p;
             p = strchr(p, ' ') ? strchr(p, ' ') + 1 : "")
            assert_int_equal(*p, '.');
        assert_int_equal(language->block_open != NULL, language->block_close != NULL);
        /* definitions that are looked for need words, or parentheses, or marks */
        assert_true(language->blocks == BLOCKS_NONE || language->blocks == BLOCKS_HEADINGS ||
                    language->functions || language->containers || language->has_paren_functions);
    }
    print_message("%zu languages, %zu extensions\n", n, extensions.n_entries);
    assert_true(n >= 60);
    map_clear(&extensions);
    map_clear(&file_names);
    map_clear(&interpreters);
    map_clear(&names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_first_lines_tell),
        cmocka_unit_test(languages_are_found_by_name_and_extension),
        cmocka_unit_test(no_two_languages_claim_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
