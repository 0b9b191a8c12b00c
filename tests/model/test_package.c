/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of models that come in Python packages: every name finds its model, and what the table
 * says of files can be fetched: plain paths, hashes, as many as it counts.
 */
#include "test.h"

#include "model/package.h"

#include <string.h>

static void names_find_their_model(void **state)
{
    static const struct {
        const char *name;
        const char *own_name; /* NULL: there is no such model */
    } cases[] = {
        {"smollm2", "smollm2"},   {"minilm", "minilm"},
        {"all-minilm", "minilm"}, {"all-MiniLM-L6-v2", "minilm"},
        {"MINILM", NULL},         {"", NULL},
        {"minilm/", NULL},        {"sentence-transformers/all-MiniLM-L6-v2", NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct package_model *model = package_find(cases[i].name);

        if (!cases[i].own_name) {
            assert_null(model);
            continue;
        }
        assert_non_null(model);
        assert_string_equal(model->names[0], cases[i].own_name);
        assert_non_null(strstr(package_names(), model->names[0]));
    }
}

static void files_can_be_fetched(void **state)
{
    static const char *const names[] = {"smollm2", "minilm"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        const struct package_model *model = package_find(names[i]);

        assert_non_null(model);
        assert_in_range(model->n_files, 1, PACKAGE_MAX_FILES);
        for (size_t j = 0; j < PACKAGE_MAX_FILES; j++) {
            const struct package_file *file = &model->files[j];
            const char *slash;

            assert_int_equal(file->name != NULL, j < model->n_files);
            if (!file->name)
                continue;
            slash = strchr(file->name, '/');
            assert_true(file->name[0] != '/' && !strstr(file->name, ".."));
            assert_true(!slash || !strchr(slash + 1, '/')); /* one folder deep: see package_fetch */
            assert_int_equal(strspn(file->sha256, "0123456789abcdef"), 64);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_find_their_model),
        cmocka_unit_test(files_can_be_fetched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
