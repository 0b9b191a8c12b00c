/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing and help of option tables. Keeps no state.
 */
#include "cli/options.h"

#include "base/buffer.h"
#include "cli/output.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>

enum { LEFT_BYTES = 64 };

/* The length of the command's own words, at the beginning of its usage: "session show NAME". */
static int command_length(const char *usage)
{
    size_t n = strcspn(usage, " ");

    while (usage[n] == ' ' && usage[n + 1] >= 'a' && usage[n + 1] <= 'z')
        n += 1 + strcspn(usage + n + 1, " ");
    return (int)n;
}

int usage_error(const struct command_help *help, const char *format, ...)
{
    va_list args;

    fputs("kvern: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (help)
        fprintf(stderr, "\nTry 'kvern %.*s --help'.\n", command_length(help->usage), help->usage);
    else
        fputs("\nTry 'kvern help'.\n", stderr);
    return EXIT_USAGE;
}

/* "  -n, --max-tokens N"; returns its length. */
static int format_left(const struct option *option, char left[LEFT_BYTES])
{
    char letter[] = "    ";

    if (option->letter)
        memcpy(letter, (char[]){'-', option->letter, ','}, 3);
    return snprintf(left, LEFT_BYTES, "  %s--%s%s%s", letter, option->name,
                    option->argument ? " " : "", option->argument ? option->argument : "");
}

static void print_help(const struct option *options, const struct command_help *help)
{
    struct buffer text = {0}; /* printed at once, so that a full disk is told by its name */
    char left[LEFT_BYTES];
    int width = 0;

    for (const struct option *option = options; option->name; option++) {
        int n = format_left(option, left);

        width = n > width ? n : width;
    }
    buffer_add_format(&text, "Usage: kvern %s\n%s\n", help->usage, help->summary);
    if (help->details)
        buffer_add_format(&text, "\n%s\n", help->details);
    buffer_add_string(&text, "\nOptions:\n");
    for (const struct option *option = options; option->name; option++) {
        format_left(option, left);
        buffer_add_format(&text, "%-*s  %s\n", width, left, option->help);
    }
    buffer_add_format(&text, "%-*s  %s\n", width, "  -h, --help", "show this");
    buffer_add_string(
        &text,
        "\nEvery option can also be set in the environment: --max-tokens as KVERN_MAX_TOKENS.\n");
    if (help->examples)
        buffer_add_format(&text, "\nExamples:\n%s\n", help->examples);
    output_text(text.data, text.n_bytes);
    buffer_clear(&text);
}

static bool parse_bytes(const char *text, size_t *value)
{
    char *end;
    double scale = 1;

    if (strcasecmp(text, "auto") == 0) {
        *value = 0;
        return true;
    }
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

static bool is_flag(const struct option *option)
{
    return option->kind == OPTION_FLAG || option->kind == OPTION_SWITCH;
}

/* What is being parsed, and how the user spelled the option: "--max-tokens", "KVERN_MAX_TOKENS". */
struct origin {
    const struct command_help *help;
    const char *shown;
};

static int bad_value(const struct origin *origin, const struct option *option, const char *text)
{
    if (option->kind == OPTION_INT || option->kind == OPTION_FLOAT)
        return usage_error(origin->help, "%s takes a %s from %.15g to %.15g, not '%s'",
                           origin->shown, option->kind == OPTION_INT ? "whole number" : "number",
                           option->low, option->high, text);
    return usage_error(origin->help, "%s takes %s, not '%s'", origin->shown,
                       is_flag(option) ? "1 or 0" : "a size such as 512M, or auto", text);
}

static bool parse_flag(const char *text, bool *value)
{
    static const char *const words[][2] = {
        {"0", "1"}, {"false", "true"}, {"no", "yes"}, {"off", "on"}};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        for (int j = 0; j < 2; j++) {
            if (strcasecmp(text, words[i][j]) == 0) {
                *value = j == 1;
                return true;
            }
        }
    }
    return false;
}

static int add_to_list(const struct origin *origin, struct option_list *list, const char *text)
{
    if (list->is_from_environment) {
        list->n = 0;
        list->is_from_environment = false;
    }
    if (list->n == OPTION_LIST_ITEMS)
        return usage_error(origin->help, "%s can be given %zu times at most", origin->shown,
                           list->n);
    list->items[list->n++] = text;
    return 0;
}

/* Returns 0, or the exit status of a usage error. */
static int set_value(const struct origin *origin, const struct option *option, const char *text)
{
    char *end;
    bool is_good = true;

    errno = 0;
    switch (option->kind) {
    case OPTION_FLAG:
        is_good = parse_flag(text, option->value);
        break;
    case OPTION_SWITCH: {
        bool is_on = false;

        is_good = parse_flag(text, &is_on);
        if (is_good)
            *(int32_t *)option->value = is_on;
        break;
    }
    case OPTION_STRING:
        *(const char **)option->value = text;
        break;
    case OPTION_INT: {
        long long value = strtoll(text, &end, 10);

        is_good = end != text && !*end && !errno && (double)value >= option->low &&
                  (double)value <= option->high;
        if (is_good)
            *(int64_t *)option->value = value;
        break;
    }
    case OPTION_FLOAT: {
        double value = strtod(text, &end);

        is_good = end != text && !*end && !errno && value >= option->low && value <= option->high;
        if (is_good)
            *(double *)option->value = value;
        break;
    }
    case OPTION_BYTES:
        is_good = parse_bytes(text, option->value);
        break;
    case OPTION_LIST:
        return add_to_list(origin, option->value, text);
    }
    return is_good ? 0 : bad_value(origin, option, text);
}

static int read_environment(const struct option *options, const struct command_help *help)
{
    int status = 0;

    for (const struct option *option = options; status == 0 && option->name; option++) {
        char name[64] = "KVERN_";
        struct origin origin = {help, name};
        size_t n = strlen(name);

        for (const char *c = option->name; *c && n + 1 < sizeof name; c++)
            name[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        name[n] = '\0';

        const char *value = getenv(name);
        if (!value || !*value)
            continue;
        status = set_value(&origin, option, value);
        if (status == 0 && option->kind == OPTION_LIST)
            ((struct option_list *)option->value)->is_from_environment = true;
    }
    return status;
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
        if (is_flag(option) && strncmp(text + 2, "no-", 3) == 0 &&
            strcmp(text + 5, option->name) == 0) {
            *is_negated = true;
            return option;
        }
    }
    return NULL;
}

/* The option at argv[*i]; moves *i over a value that stands in the next word. */
static int parse_option(const struct option *options, const struct command_help *help, int argc,
                        char **argv, int *i)
{
    const char *value;
    bool is_negated;
    const struct option *option = find(options, argv[*i], &value, &is_negated);
    char shown[LEFT_BYTES];
    struct origin origin = {help, shown};

    if (!option)
        return usage_error(help, "unknown option '%s'", argv[*i]);
    snprintf(shown, sizeof shown, "--%s", option->name);
    if (is_flag(option)) {
        if (value)
            return usage_error(help, "%s takes no value", shown);
        return set_value(&origin, option, is_negated ? "0" : "1");
    }
    if (!value) {
        if (*i + 1 == argc)
            return usage_error(help, "%s needs a value (%s)", shown, option->argument);
        value = argv[++*i];
    }
    return set_value(&origin, option, value);
}

const char *options_named(const struct option *options, int argc, char **argv,
                          const char *const *names)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *value;
        bool is_negated;

        if (argv[i][0] != '-' || argv[i][1] == '\0')
            continue;
        const struct option *option = find(options, argv[i], &value, &is_negated);
        for (size_t j = 0; option && names[j]; j++) {
            if (strcmp(option->name, names[j]) == 0)
                return option->name;
        }
        if (option && !is_flag(option) && !value)
            i++; /* the next word is its value */
    }
    return NULL;
}

static uint64_t hash_text(const char *text, uint64_t seed)
{
    return text ? XXH3_64bits_withSeed(text, strlen(text), seed) : seed;
}

static uint64_t hash_value(const struct option *option, uint64_t hash)
{
    const struct option_list *list;

    switch (option->kind) {
    case OPTION_FLAG:
        return XXH3_64bits_withSeed(option->value, sizeof(bool), hash);
    case OPTION_SWITCH:
        return XXH3_64bits_withSeed(option->value, sizeof(int32_t), hash);
    case OPTION_STRING:
        return hash_text(*(const char *const *)option->value, hash);
    case OPTION_INT:
        return XXH3_64bits_withSeed(option->value, sizeof(int64_t), hash);
    case OPTION_FLOAT:
        return XXH3_64bits_withSeed(option->value, sizeof(double), hash);
    case OPTION_BYTES:
        return XXH3_64bits_withSeed(option->value, sizeof(size_t), hash);
    case OPTION_LIST:
        list = option->value;
        for (size_t i = 0; i < list->n; i++)
            hash = hash_text(list->items[i], hash);
        break;
    }
    return hash;
}

uint64_t options_hash(const struct option *options, uint64_t seed)
{
    for (const struct option *option = options; option->name; option++)
        seed = hash_value(option, hash_text(option->name, seed));
    return seed;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    }
    return false;
}

int options_parse(const struct option *options, const struct command_help *help, int argc,
                  char **argv, struct positionals *positionals)
{
    int status;

    *positionals = (struct positionals){.items = argv};
    if (asks_for_help(argc, argv)) {
        print_help(options, help);
        return 0;
    }
    status = read_environment(options, help);
    for (int i = 0; status == 0 && i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            for (i++; i < argc; i++)
                argv[positionals->n++] = argv[i];
        } else if (argv[i][0] != '-' || argv[i][1] == '\0') {
            argv[positionals->n++] = argv[i];
        } else {
            status = parse_option(options, help, argc, argv, &i);
        }
    }
    return status ? status : -1;
}
