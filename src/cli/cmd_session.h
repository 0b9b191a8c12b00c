/* SPDX-License-Identifier: Apache-2.0
 *
 * The subcommands of kvern session that stand in files of their own, and what all of them share.
 */
#ifndef KVERN_CLI_CMD_SESSION_H
#define KVERN_CLI_CMD_SESSION_H

#include "cli/options.h"
#include "cli/session_run.h"

/* argv without the subcommand's own name; each returns the exit status. */
int session_create(int argc, char **argv);
int session_fork(int argc, char **argv);
int session_save(int argc, char **argv);
int session_restore(int argc, char **argv);
int session_append(int argc, char **argv);
int session_embed(int argc, char **argv);
int session_generate(int argc, char **argv);

/* Parses, and expects so many arguments. Returns -1 to go on, else the exit status. */
int session_parse(const struct option *options, const struct command_help *help, int argc,
                  char **argv, size_t n_arguments, struct positionals *arguments);

/* What a subcommand does with a session that is there. */
struct session_work {
    struct command_help help;
    size_t n_arguments; /* the first one is its NAME */
    /* Before anything is opened: 0 to go on, or the exit status of a usage error. NULL: no check.
     */
    int (*check)(const struct command_help *help, char **arguments);
    /* On the open session; saves what it changed. `arguments` are n_arguments. */
    kvern_status (*run)(struct session_run *run, char **arguments, bool is_json, kvern_error *err);
};

/* The whole subcommand: the machine's options and --json, its arguments, the session opened, the
 * work, the session closed. Returns the exit status. */
int session_work(const struct session_work *work, int argc, char **argv);

/* What a session is now, NULL: an empty one: a line, or {"name", "context_length", "position"}. */
void session_print(const char *name, const kvern_session *session, bool is_json);

#endif
