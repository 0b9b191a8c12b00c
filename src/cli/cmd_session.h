/* SPDX-License-Identifier: Apache-2.0
 *
 * The subcommands of kvern session that stand in files of their own, and what all of them share.
 */
#ifndef KVERN_CLI_CMD_SESSION_H
#define KVERN_CLI_CMD_SESSION_H

#include "cli/options.h"
#include "kvern.h"

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
/* What a changed session is now: a line, or {"name", "context_length", "position"}. */
void session_print(const char *name, const kvern_session_info *info, bool is_json);

#endif
