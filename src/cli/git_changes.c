/* SPDX-License-Identifier: Apache-2.0
 *
 * Two runs of git, whose names end in NUL, so that no name can be taken for two.
 */
#include "cli/git_changes.h"

#include "base/buffer.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static kvern_status read_all(int fd, struct buffer *out, kvern_error *err)
{
    char bytes[65536];

    for (;;) {
        ssize_t n = read(fd, bytes, sizeof bytes);

        if (n == 0)
            return out->has_failed ? fail(err, KVERN_MEMORY, "out of memory for git's answer")
                                   : KVERN_OK;
        if (n > 0)
            buffer_add(out, bytes, (size_t)n);
        else if (errno != EINTR)
            return fail(err, KVERN_IO, "cannot read git's answer: %s", strerror(errno));
    }
}

/* Runs git; `out` gets what it writes. *exit_status: its own. */
static kvern_status run_git(const char *const *arguments, struct buffer *out, int *exit_status,
                            kvern_error *err)
{
    posix_spawn_file_actions_t actions;
    int pipes[2];
    pid_t pid;
    int code;
    kvern_status status;

    if (pipe2(pipes, O_CLOEXEC) != 0)
        return fail(err, KVERN_IO, "cannot make a pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
    code = posix_spawnp(&pid, "git", &actions, NULL, (char **)(uintptr_t)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    if (code != 0) {
        close(pipes[0]);
        return fail(err, KVERN_NOT_FOUND, "--changed-since needs git, which cannot be run: %s",
                    strerror(code));
    }
    status = read_all(pipes[0], out, err);
    close(pipes[0]);
    while (waitpid(pid, exit_status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static kvern_status add_names(struct map *changes, const struct buffer *names, kvern_error *err)
{
    const char *name = names->data;
    const char *end = name + names->n_bytes;

    for (; name && name < end; name += strlen(name) + 1) {
        if (*name && !map_put(changes, name, strlen(name), 1))
            return fail(err, KVERN_MEMORY, "out of memory for the changed files");
    }
    return KVERN_OK;
}

kvern_status git_changes_read(struct map *changes, const char *directory, const char *revision,
                              kvern_error *err)
{
    /* no program that the repository names is run for its status */
    const char *const changed[] = {"git",
                                   "-C",
                                   directory,
                                   "-c",
                                   "core.fsmonitor=false",
                                   "diff",
                                   "--name-only",
                                   "-z",
                                   "--diff-filter=d",
                                   "--no-ext-diff",
                                   "--relative",
                                   revision,
                                   "--",
                                   ".",
                                   NULL};
    const char *const untracked[] = {"git",
                                     "-C",
                                     directory,
                                     "-c",
                                     "core.fsmonitor=false",
                                     "ls-files",
                                     "-z",
                                     "--others",
                                     "--exclude-standard",
                                     "--",
                                     ".",
                                     NULL};
    const char *const *const runs[] = {changed, untracked};
    kvern_status status = KVERN_OK;

    if (revision[0] == '-' || revision[0] == '\0')
        return fail(err, KVERN_INVALID, "--changed-since: '%s' is no revision", revision);
    for (size_t i = 0; status == KVERN_OK && i < 2; i++) {
        struct buffer names = {0};
        int exit_status = 0;

        status = run_git(runs[i], &names, &exit_status, err);
        if (status == KVERN_OK && exit_status != 0)
            status = fail(err, KVERN_INVALID, "git cannot tell what changed in %s since '%s'",
                          directory, revision);
        if (status == KVERN_OK)
            status = add_names(changes, &names, err);
        buffer_clear(&names);
    }
    return status;
}
