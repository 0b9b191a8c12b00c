/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of kvern session share: a home of their own, and each command as a process of its
 * own. Whatever fails here fails the test.
 */
#ifndef KVERN_TESTS_SUPPORT_SESSION_H
#define KVERN_TESTS_SUPPORT_SESSION_H

#include "system/support_command.h"

#include <stdint.h>

enum { N_SESSION_MODELS = 2 };

extern char session_home[200];
extern char session_environment[300];                /* "KVERN_HOME=<session_home>" */
extern const char *session_models[N_SESSION_MODELS]; /* tiny_model(), and a decoder's export */

/* A group's set-up and tear-down (tiny_model's too). */
int make_session_home(void **state);
int remove_session_home(void **state);

/* "kvern session <arguments>": its exit status must be `status`; gives the run (clear it). */
struct command_run run_session(const char *arguments, const char *input, int status);
/* Its stdout (free it); the exit status must be 0. */
char *session_output(const char *arguments);
void do_session(const char *arguments);
/* Expects it to fail and to say so. */
void refuse_session(const char *arguments, int status, const char *says);
void create_session(const char *name, const char *model, const char *options);
/* A whole number out of a command's JSON. */
int64_t session_number(const char *arguments, const char *member);
/* The embedding in a line of JSON, as text (free it): equal text is equal bits. */
char *vector_text(const char *out);
/* The session's vector as it is, likewise. */
char *session_vector(const char *name);

#endif
