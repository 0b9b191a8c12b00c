/* SPDX-License-Identifier: Apache-2.0
 *
 * Option tables: a command declares a row per option, with the variable it fills. Every option has
 * an environment twin KVERN_<NAME> (--max-tokens: KVERN_MAX_TOKENS), read first; the command line
 * wins. Options and positional arguments may be mixed; "--" ends options.
 */
#ifndef KVERN_CLI_OPTIONS_H
#define KVERN_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The exit status of a usage error; the others are in command.h and interrupt.h. */
enum { EXIT_USAGE = 2 };

enum option_kind {
    OPTION_FLAG, /* bool; --no-NAME clears it; 1/0, true/false, yes/no, on/off in the environment */
    OPTION_SWITCH, /* int32_t: 1, or 0 for --no-NAME, so that "not given" can be told apart */
    OPTION_STRING, /* const char * */
    OPTION_INT,    /* int64_t, within [low, high] */
    OPTION_FLOAT,  /* double, within [low, high] */
    OPTION_BYTES,  /* size_t: 512M, 2G, 1048576; auto is 0 */
    OPTION_LIST,   /* struct option_list: may be given again; the environment gives one item */
};

enum { OPTION_LIST_ITEMS = 256 };

struct option_list {
    const char *items[OPTION_LIST_ITEMS];
    size_t n;
    bool is_from_environment; /* the first one on the command line takes its place */
};

struct option {
    const char *name;
    char letter; /* 0: none */
    enum option_kind kind;
    void *value;
    const char *argument; /* how help shows the value: "N", "FILE"; NULL for a flag */
    const char *help;
    double low;
    double high;
};

struct command_help {
    const char *usage;    /* after "kvern " */
    const char *summary;  /* one line */
    const char *details;  /* a few lines, or NULL */
    const char *examples; /* lines, or NULL */
};

/* The positional arguments, in order; points into argv. */
struct positionals {
    char **items;
    size_t n;
};

/* Fills the options' variables. Returns -1 to go on, else the exit status: 0 after --help, 2 after
 * a usage error (told on stderr). `options` ends with a row whose name is NULL. */
int options_parse(const struct option *options, const struct command_help *help, int argc,
                  char **argv, struct positionals *positionals);
/* A hash of the rows' names and values: the same as long as the same was asked for, by whatever
 * spelling. */
uint64_t options_hash(const struct option *options, uint64_t seed);
/* The first option of the command line itself, not the environment, that is among `names` (which
 * end with NULL); NULL: none. To be asked before options_parse, which moves arguments. */
const char *options_named(const struct option *options, int argc, char **argv,
                          const char *const *names);
/* "kvern: <sentence>" and how to get help with the command (NULL: with any), on stderr; returns 2.
 */
int usage_error(const struct command_help *help, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
