/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs build/kvern as a user does: arguments, stdin, environment, pipes or a terminal, Ctrl-C; and
 * makes a tiny model it can talk with. Whatever fails here fails the test.
 */
#ifndef KVERN_TESTS_SUPPORT_COMMAND_H
#define KVERN_TESTS_SUPPORT_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct command_run {
    const char *input;       /* on stdin; NULL: /dev/null */
    const char *environment; /* one "NAME=value" more, or NULL */
    const char *output;      /* a path for stdout instead of a pipe, or NULL */
    long max_file_bytes;     /* the disk is full once a file has so many; 0: no limit */
    const char *interrupt;   /* SIGINT once this text is in stdout or stderr, or NULL */
    bool is_terminal;        /* stdin, stdout and stderr are one terminal: all goes to `out` */
    bool closes_early;       /* the reader of stdout goes away after the first bytes */
    /* results */
    int status; /* exit status; 128 + signal */
    char *out;  /* owned; NUL-terminated */
    char *err;  /* owned; NUL-terminated */
    long max_rss_kib;
};

/* `command` is split at blanks, except inside '...'; argv[0] is build/kvern. */
void command_run(struct command_run *run, const char *command);
void command_clear(struct command_run *run);
/* Runs it with `input` (may be NULL), expects the exit status, and gives stdout (free it). */
char *command_output(const char *command, const char *input, int status);
/* Expects the exit status, `says` in stderr and nothing on stdout; `environment` as above. */
void command_refused(const char *command, const char *environment, int status, const char *says);
/* Line `number` of `text` as JSON; fails the test if it is not. */
json_t *json_line(const char *text, size_t number);
size_t count_lines(const char *text);
/* The "text" of a result; it must be there. */
const char *result_text(const json_t *result);
/* Every key of `keys` (blank-separated) is there, and nothing else. */
void assert_keys(const json_t *object, const char *keys);
void assert_contains(const char *text, const char *part);

/* The directory of a converted model: 2 random layers, a byte-level tokenizer and a chat template.
 * Made once a process under KVERN_BUILD_DIR; static. */
const char *tiny_model(void);
/* "generate" and "a b" -> "generate -m <tiny model> a b", in a static buffer. */
const char *with_model(const char *name, const char *arguments);
/* A group's tear-down: what tiny_model made goes. */
int remove_tiny_model(void **state);

#endif
