/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing and help of option tables. Keeps no state.
 */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, HELP_COLUMN = 30 };

int usage_error(const char *format, ...)
{
    va_list args;

    fputs("kvern: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs("\nTry 'kvern help' or 'kvern COMMAND --help'.\n", stderr);
    return EXIT_USAGE;
}

static void print_help(const struct option *options, const struct command_help *help)
{
    printf("Usage: kvern %s\n%s\n", help->usage, help->summary);
    if (help->details)
        printf("\n%s\n", help->details);
    puts("\nOptions:");
    for (const struct option *option = options; option->name; option++) {
        char left[64];
        int n = snprintf(left, sizeof left, "  %c%c%s --%s%s%s", option->letter ? '-' : ' ',
                         option->letter ? option->letter : ' ', option->letter ? "," : " ",
                         option->name, option->argument ? " " : "",
                         option->argument ? option->argument : "");

        printf("%-*s%s%s\n", HELP_COLUMN, left, n >= HELP_COLUMN ? " " : "", option->help);
    }
    printf("%-*s%s\n", HELP_COLUMN, "  -h, --help", "show this");
    puts("\nEvery option can also be set in the environment: --max-tokens as KVERN_MAX_TOKENS.");
    if (help->examples)
        printf("\nExamples:\n%s\n", help->examples);
}

static bool parse_bytes(const char *text, size_t *value)
{
    char *end;
    double scale = 1;

    errno = 0;
    double number = strtod(text, &end);
    if (end == text || errno || !(number >= 0))
        return false;
    switch (toupper((unsigned char)*end)) {
    case 'K':
        scale = 1024.0;
        break;
    case 'M':
        scale = 1024.0 * 1024.0;
        break;
    case 'G':
        scale = 1024.0 * 1024.0 * 1024.0;
        break;
    case '\0':
        break;
    default:
        return false;
    }
    if (*end && end[1] && strcasecmp(end + 1, "B") != 0 && strcasecmp(end + 1, "iB") != 0)
        return false;
    if (number * scale > 1e15)
        return false;
    *value = (size_t)(number * scale);
    return true;
}

static int bad_value(const struct option *option, const char *text)
{
    if (option->kind == OPTION_INT || option->kind == OPTION_FLOAT)
        return usage_error("--%s takes a number from %.15g to %.15g, not '%s'", option->name,
                           option->low, option->high, text);
    return usage_error("--%s takes a size such as 512M, not '%s'", option->name, text);
}

/* Returns 0, or the exit status of a usage error. */
static int set_value(const struct option *option, const char *text)
{
    char *end;

    errno = 0;
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)option->value = !(strcmp(text, "0") == 0 || strcmp(text, "false") == 0);
        break;
    case OPTION_STRING:
        *(const char **)option->value = text;
        break;
    case OPTION_INT: {
        long long value = strtoll(text, &end, 10);

        if (end == text || *end || errno || (double)value < option->low ||
            (double)value > option->high)
            return bad_value(option, text);
        *(int64_t *)option->value = value;
        break;
    }
    case OPTION_FLOAT: {
        double value = strtod(text, &end);

        if (end == text || *end || errno || !(value >= option->low && value <= option->high))
            return bad_value(option, text);
        *(double *)option->value = value;
        break;
    }
    case OPTION_BYTES:
        if (!parse_bytes(text, option->value))
            return bad_value(option, text);
        break;
    case OPTION_LIST: {
        struct option_list *list = option->value;

        if (list->n == sizeof list->items / sizeof list->items[0])
            return usage_error("--%s can be given %zu times at most", option->name, list->n);
        list->items[list->n++] = text;
        break;
    }
    }
    return 0;
}

static int read_environment(const struct option *options)
{
    for (const struct option *option = options; option->name; option++) {
        char name[64] = "KVERN_";
        size_t n = strlen(name);

        for (const char *c = option->name; *c && n + 1 < sizeof name; c++)
            name[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        name[n] = '\0';

        const char *value = getenv(name);
        if (!value || !*value)
            continue;
        int status = set_value(option, value);
        if (status)
            return status;
    }
    return 0;
}

/* The row named by `text` ("--name", "--name=value", "--no-name", "-x", "-xvalue"), with the value
 * that stands in the same word, if any. */
static const struct option *find(const struct option *options, const char *text, const char **value,
                                 bool *is_negated)
{
    *value = NULL;
    *is_negated = false;
    for (const struct option *option = options; option->name; option++) {
        size_t n = strlen(option->name);

        if (text[1] != '-') {
            if (text[1] == option->letter) {
                *value = text[2] ? text + 2 : NULL;
                return option;
            }
            continue;
        }
        if (strncmp(text + 2, option->name, n) == 0 &&
            (text[2 + n] == '\0' || text[2 + n] == '=')) {
            *value = text[2 + n] ? text + 3 + n : NULL;
            return option;
        }
        if (option->kind == OPTION_FLAG && strncmp(text + 2, "no-", 3) == 0 &&
            strcmp(text + 5, option->name) == 0) {
            *is_negated = true;
            return option;
        }
    }
    return NULL;
}

int options_parse(const struct option *options, const struct command_help *help, int argc,
                  char **argv, struct positionals *positionals)
{
    int status = read_environment(options);

    *positionals = (struct positionals){.items = argv};
    for (int i = 0; status == 0 && i < argc; i++) {
        const char *value;
        bool is_negated;
        char *text = argv[i];

        if (strcmp(text, "--") == 0) {
            for (i++; i < argc; i++)
                argv[positionals->n++] = argv[i];
            break;
        }
        if (text[0] != '-' || text[1] == '\0') {
            argv[positionals->n++] = text;
            continue;
        }
        if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0) {
            print_help(options, help);
            return 0;
        }
        const struct option *option = find(options, text, &value, &is_negated);
        if (!option)
            return usage_error("unknown option '%s'", text);
        if (option->kind == OPTION_FLAG) {
            if (value)
                return usage_error("--%s takes no value", option->name);
            *(bool *)option->value = !is_negated;
            continue;
        }
        if (!value) {
            if (i + 1 == argc)
                return usage_error("--%s needs a value (%s)", option->name, option->argument);
            value = argv[++i];
        }
        status = set_value(option, value);
    }
    return status ? status : -1;
}
