/* SPDX-License-Identifier: Apache-2.0
 *
 * Option tables: every kind and spelling, what the environment sets, and usage errors.
 */
#include "cli/options.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct values {
    bool flag;
    const char *text;
    int64_t count;
    double share;
    size_t bytes;
    struct option_list list;
    int32_t choice; /* -1: not given */
} values;

static const struct option table[] = {
    {"flag", 'f', OPTION_FLAG, &values.flag, NULL, "a flag"},
    {"text", 't', OPTION_STRING, &values.text, "TEXT", "a text"},
    {"max-count", 'n', OPTION_INT, &values.count, "N", "a count", 0, 100},
    {"share", 0, OPTION_FLOAT, &values.share, "P", "a share", 0, 1},
    {"bytes", 0, OPTION_BYTES, &values.bytes, "SIZE", "a size"},
    {"list", 0, OPTION_LIST, &values.list, "TEXT", "again and again"},
    {"choice", 0, OPTION_SWITCH, &values.choice, NULL, "on, off or not given"},
    {NULL},
};

static const struct command_help help = {.usage = "try [OPTIONS]", .summary = "Tries."};

/* Parses the words of `line`; the words stay valid until the next call. */
static int parse(const char *line, struct positionals *positionals)
{
    static char words[4096];
    static char *argv[512];
    int argc = 0;

    values = (struct values){.count = -1, .choice = -1};
    snprintf(words, sizeof words, "%s", line);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    return options_parse(table, &help, argc, argv, positionals);
}

static void spellings(void **state)
{
    static const struct {
        const char *line;
        int status;
        bool flag;
        const char *text;
        int64_t count;
        size_t bytes;
        size_t n_list;
        size_t n_positionals;
    } cases[] = {
        {"", -1, false, NULL, -1, 0, 0, 0},
        {"-f --text a -n 5", -1, true, "a", 5, 0, 0, 0},
        {"--flag --no-flag", -1, false, NULL, -1, 0, 0, 0},
        {"-n5 -tword", -1, false, "word", 5, 0, 0, 0},
        {"--max-count=7 --text=", -1, false, "", 7, 0, 0, 0},
        {"a --max-count 7 b -", -1, false, NULL, 7, 0, 0, 3},
        {"-n 1 -- -n 2", -1, false, NULL, 1, 0, 0, 2},
        {"--list a --list b", -1, false, NULL, -1, 0, 2, 0},
        {"--bytes 2k", -1, false, NULL, -1, 2048, 0, 0},
        {"--bytes 1.5MiB", -1, false, NULL, -1, 1572864, 0, 0},
        {"--bytes 77", -1, false, NULL, -1, 77, 0, 0},
        {"--help -n x", 0, false, NULL, -1, 0, 0, 0},
        {"-n", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"-n x", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"-n 101", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"-n -1", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"-n 5x", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"-n 99999999999999999999", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"--share nan", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"--share 1.5", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"--bytes 5Q", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"--bytes inf", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"--bytes -1", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"--flag=1", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"--no-text", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"--max-coun 5", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
        {"-x", EXIT_USAGE, false, NULL, -1, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct positionals positionals;
        int status = parse(cases[i].line, &positionals);

        if (status != cases[i].status)
            fail_msg("'%s': %d, not %d", cases[i].line, status, cases[i].status);
        if (status != -1)
            continue;
        if (values.flag != cases[i].flag || values.count != cases[i].count ||
            values.bytes != cases[i].bytes || values.list.n != cases[i].n_list ||
            positionals.n != cases[i].n_positionals)
            fail_msg("'%s': flag %d, count %d, bytes %zu, list %zu, positionals %zu", cases[i].line,
                     values.flag, (int)values.count, values.bytes, values.list.n, positionals.n);
        if (cases[i].text)
            assert_string_equal(values.text, cases[i].text);
        else
            assert_null(values.text);
    }
}

static void the_environment_comes_first_and_the_line_wins(void **state)
{
    static const struct {
        const char *name;
        const char *value;
        const char *line;
        int status;
        int64_t count;
        bool flag;
        const char *first; /* of the list */
    } cases[] = {
        {"KVERN_MAX_COUNT", "9", "", -1, 9, false, NULL},
        {"KVERN_MAX_COUNT", "9", "-n 3", -1, 3, false, NULL},
        {"KVERN_MAX_COUNT", "", "", -1, -1, false, NULL},
        {"KVERN_MAX_COUNT", "x", "", EXIT_USAGE, -1, false, NULL},
        {"KVERN_MAX_COUNT", "x", "--help", 0, -1, false, NULL},
        {"KVERN_FLAG", "yes", "", -1, -1, true, NULL},
        {"KVERN_FLAG", "1", "--no-flag", -1, -1, false, NULL},
        {"KVERN_FLAG", "off", "", -1, -1, false, NULL},
        {"KVERN_FLAG", "perhaps", "", EXIT_USAGE, -1, false, NULL},
        {"KVERN_LIST", "a", "", -1, -1, false, "a"},
        {"KVERN_LIST", "a", "--list b", -1, -1, false, "b"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct positionals positionals;

        setenv(cases[i].name, cases[i].value, 1);
        int status = parse(cases[i].line, &positionals);
        unsetenv(cases[i].name);
        if (status != cases[i].status)
            fail_msg("%s=%s '%s': %d, not %d", cases[i].name, cases[i].value, cases[i].line, status,
                     cases[i].status);
        if (status != -1)
            continue;
        assert_int_equal(values.count, cases[i].count);
        assert_int_equal(values.flag, cases[i].flag);
        assert_int_equal(values.list.n, cases[i].first ? 1 : 0);
        if (cases[i].first)
            assert_string_equal(values.list.items[0], cases[i].first);
    }
}

static void a_switch_knows_when_it_was_not_given(void **state)
{
    static const struct {
        const char *value; /* in the environment */
        const char *line;
        int32_t choice;
    } cases[] = {
        {NULL, "", -1},
        {NULL, "--choice", 1},
        {NULL, "--no-choice", 0},
        {NULL, "--choice --no-choice", 0},
        {"no", "", 0},
        {"1", "", 1},
        {"1", "--no-choice", 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct positionals positionals;

        if (cases[i].value)
            setenv("KVERN_CHOICE", cases[i].value, 1);
        assert_int_equal(parse(cases[i].line, &positionals), -1);
        unsetenv("KVERN_CHOICE");
        if (values.choice != cases[i].choice)
            fail_msg("'%s': %d, not %d", cases[i].line, values.choice, cases[i].choice);
    }
    struct positionals positionals;
    assert_int_equal(parse("--choice=1", &positionals), EXIT_USAGE);
}

static void options_of_the_line_are_found(void **state)
{
    static const char *const names[] = {"text", "flag", NULL};
    static const struct {
        const char *line;
        const char *found;
    } cases[] = {
        {"", NULL},          {"-f", "flag"},       {"--no-flag", "flag"}, {"a --text=b", "text"},
        {"-n -f", NULL},     {"-n 5 -tx", "text"}, {"--share 1 b", NULL}, {"-- --flag", NULL},
        {"--unknown", NULL}, {"--list -f", NULL},
    };

    (void)state;
    setenv("KVERN_FLAG", "1", 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char words[64];
        char *argv[8];
        int argc = 0;

        snprintf(words, sizeof words, "%s", cases[i].line);
        for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
            argv[argc++] = word;
        const char *found = options_named(table, argc, argv, names);
        if (!found != !cases[i].found || (found && strcmp(found, cases[i].found) != 0))
            fail_msg("'%s': found %s", cases[i].line, found ? found : "none");
    }
    unsetenv("KVERN_FLAG");
}

static void a_list_is_bounded(void **state)
{
    char line[4096] = "";
    struct positionals positionals;

    (void)state;
    for (size_t i = 0; i < COUNT(values.list.items); i++)
        strcat(line, "--list=a ");
    assert_int_equal(parse(line, &positionals), -1);
    assert_int_equal(values.list.n, COUNT(values.list.items));
    strcat(line, "--list=a");
    assert_int_equal(parse(line, &positionals), EXIT_USAGE);
}

/* By whatever spelling, and only what was asked for. */
static void hashes_are_of_the_values(void **state)
{
    static const struct {
        const char *line;
        bool is_same;
    } cases[] = {
        {"--max-count=5 --text x", true},
        {"--text x --max-count 5 --no-flag", true},
        {"--max-count 6 --text x", false},
        {"--max-count 5", false},
        {"--max-count 5 --text x --flag", false},
        {"--max-count 5 --text x --list a", false},
        {"--max-count 5 --text x --bytes 1", false},
    };
    struct positionals positionals;

    (void)state;
    assert_int_equal(parse("--max-count 5 --text x", &positionals), -1);
    uint64_t first = options_hash(table, 1);
    assert_true(options_hash(table, 2) != first);
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(parse(cases[i].line, &positionals), -1);
        if ((options_hash(table, 1) == first) != cases[i].is_same)
            fail_msg("%s: the hash is %s", cases[i].line, cases[i].is_same ? "another" : "equal");
    }
    assert_int_equal(parse("--bytes auto", &positionals), -1);
    assert_int_equal(values.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spellings),
        cmocka_unit_test(the_environment_comes_first_and_the_line_wins),
        cmocka_unit_test(a_switch_knows_when_it_was_not_given),
        cmocka_unit_test(options_of_the_line_are_found),
        cmocka_unit_test(a_list_is_bounded),
        cmocka_unit_test(hashes_are_of_the_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
