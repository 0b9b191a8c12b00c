/* SPDX-License-Identifier: Apache-2.0 */
#include "system/support_session.h"

#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char session_home[200];
char session_environment[300];
const char *session_models[N_SESSION_MODELS];

int make_session_home(void **state)
{
    kvern_error err;

    (void)state;
    /* on disk: a save that takes its time can be met */
    snprintf(session_home, sizeof session_home, "%s/test-models/session-%d", KVERN_BUILD_DIR,
             (int)getpid());
    snprintf(session_environment, sizeof session_environment, "KVERN_HOME=%s", session_home);
    if (directory_make(session_home, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    session_models[0] = tiny_model();
    session_models[1] = KVERN_GOLDEN_DIR "/exports/qwen2-f32";
    return 0;
}

int remove_session_home(void **state)
{
    kvern_error err;
    int status = directory_remove(session_home, &err) == KVERN_OK ? 0 : -1;

    return remove_tiny_model(state) == 0 ? status : -1;
}

struct command_run run_session(const char *arguments, const char *input, int status)
{
    struct command_run run = {.input = input, .environment = session_environment};
    char command[2048];

    snprintf(command, sizeof command, "session %s", arguments);
    command_run(&run, command);
    if (run.status != status)
        fail_msg("kvern %s: exit status %d, not %d; stdout: %s; stderr: %s", command, run.status,
                 status, run.out, run.err);
    return run;
}

char *session_output(const char *arguments)
{
    struct command_run run = run_session(arguments, NULL, 0);

    free(run.err);
    return run.out;
}

void do_session(const char *arguments)
{
    free(session_output(arguments));
}

void refuse_session(const char *arguments, int status, const char *says)
{
    char command[2048];

    snprintf(command, sizeof command, "session %s", arguments);
    command_refused(command, session_environment, status, says);
}

void create_session(const char *name, const char *model, const char *options)
{
    char arguments[1500];

    snprintf(arguments, sizeof arguments, "create %s -m %s %s", name, model, options);
    do_session(arguments);
}

int64_t session_number(const char *arguments, const char *member)
{
    char *out = session_output(arguments);
    json_t *json = json_line(out, 0);
    const json_t *value = json_object_get(json, member);
    int64_t number = json_integer_value(value);

    if (!json_is_integer(value))
        fail_msg("kvern session %s: no number \"%s\" in %s", arguments, member, out);
    json_decref(json);
    free(out);
    return number;
}

char *vector_text(const char *out)
{
    const char *begin = strstr(out, "\"embedding\":[");
    const char *end = begin ? strchr(begin, ']') : NULL;

    if (!end)
        fail_msg("no embedding in %s", out);
    return strndup(begin, (size_t)(end - begin));
}

char *session_vector(const char *name)
{
    char arguments[200];

    snprintf(arguments, sizeof arguments, "embed %s --json", name);
    char *out = session_output(arguments);
    char *vector = vector_text(out);
    free(out);
    return vector;
}
