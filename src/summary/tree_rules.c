/* SPDX-License-Identifier: Apache-2.0
 *
 * Where git keeps its rules. A worktree's .git is a file that names a folder, whose file commondir
 * names the one with info/exclude.
 */
#include "summary/tree_rules.h"

#include "base/error.h"
#include "base/memory.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_RULES_BYTES = 1 << 20 };

/* Reads a small regular file of a folder; false: there is none, or it cannot be read. */
static bool read_small(int folder, const char *name, size_t max_bytes, struct buffer *text)
{
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    struct stat status;
    char block[16384];
    ssize_t n = -1;

    if (fd < 0)
        return false;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        while (text->n_bytes <= max_bytes && (n = read(fd, block, sizeof block)) > 0)
            buffer_add(text, block, (size_t)n);
    }
    close(fd);
    return n == 0 && text->n_bytes <= max_bytes && !text->has_failed;
}

static kvern_status add_file(struct ignore_rules *rules, int folder, const char *name,
                             kvern_error *err)
{
    struct buffer text = {0};
    kvern_status status = KVERN_OK;

    if (read_small(folder, name, MAX_RULES_BYTES, &text) && text.n_bytes > 0)
        status = ignore_rules_add(rules, text.data, text.n_bytes, err);
    if (status == KVERN_OK && text.has_failed)
        status = fail(err, KVERN_MEMORY, "no memory for the rules in %s", name);
    buffer_clear(&text);
    return status;
}

/* Opens the folder that a file of one line names, after `prefix`; -1: there is none. */
static int open_named(int folder, const char *name, const char *prefix)
{
    struct buffer text = {0};
    size_t skipped = strlen(prefix);
    int fd = -1;

    if (read_small(folder, name, PATH_MAX, &text) && text.n_bytes > skipped &&
        memcmp(text.data, prefix, skipped) == 0) {
        text.data[strcspn(text.data, "\r\n")] = '\0';
        fd = openat(folder, text.data + skipped, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    buffer_clear(&text);
    return fd;
}

/* The folder of a repository that holds info/; -1: there is none. */
static int open_git_folder(int folder)
{
    int git = openat(folder, ".git", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (git >= 0)
        return git;
    git = open_named(folder, ".git", "gitdir: ");
    if (git < 0)
        return -1;

    int common = open_named(git, "commondir", "");
    if (common >= 0) {
        close(git);
        git = common;
    }
    return git;
}

bool tree_rules_is_repository(int folder)
{
    struct stat status;

    return fstatat(folder, ".git", &status, AT_SYMLINK_NOFOLLOW) == 0;
}

kvern_status tree_rules_enter(struct ignore_stack *stack, int folder, size_t n_folder_bytes,
                              bool is_repository, kvern_error *err)
{
    struct ignore_level level = {.n_folder_bytes = n_folder_bytes, .is_fence = is_repository};
    int git = is_repository ? open_git_folder(folder) : -1;
    kvern_status status = KVERN_OK;

    if (git >= 0) {
        status = add_file(&level.rules, git, "info/exclude", err);
        close(git);
    }
    if (status == KVERN_OK)
        status = add_file(&level.rules, folder, ".gitignore", err);
    if (status == KVERN_OK)
        status = add_file(&level.rules, folder, ".kvernignore", err);
    if (status == KVERN_OK)
        status = ignore_stack_push(stack, &level, err);
    if (status != KVERN_OK)
        ignore_rules_clear(&level.rules);
    return status;
}

/* Opens what the first n bytes of an absolute path lead to. */
static int open_prefix(const char *path, size_t n_bytes)
{
    char *prefix = copy_bytes_or_abort(path, n_bytes);
    int fd = open(n_bytes ? prefix : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    free(prefix);
    return fd;
}

/* The length of the longest part of an absolute path, itself included, that is a repository; -1:
 * none is. */
static ptrdiff_t find_repository(const char *path)
{
    ptrdiff_t n = (ptrdiff_t)strlen(path);

    for (; n >= 0; n--) {
        if (n > 0 && path[n] != '/' && path[n] != '\0')
            continue;

        int fd = open_prefix(path, (size_t)n);
        bool is_repository = fd >= 0 && tree_rules_is_repository(fd);

        if (fd >= 0)
            close(fd);
        if (is_repository)
            return n;
    }
    return -1;
}

kvern_status tree_rules_enter_above(struct ignore_stack *stack, const char *path,
                                    struct buffer *relative, kvern_error *err)
{
    char *absolute = realpath(path, NULL); /* over PATH_MAX: it is taken to be in no repository */
    ptrdiff_t root = absolute ? find_repository(absolute) : -1;
    kvern_status status = KVERN_OK;

    if (root < 0 || absolute[root] == '\0' || strcmp(absolute, "/") == 0)
        goto done;
    for (size_t n = (size_t)root; status == KVERN_OK && absolute[n] != '\0';) {
        int fd = open_prefix(absolute, n);

        if (fd >= 0) {
            status = tree_rules_enter(stack, fd, n > (size_t)root ? n - (size_t)root : 0,
                                      n == (size_t)root, err);
            close(fd);
        }
        n += 1 + strcspn(absolute + n + 1, "/");
    }
    buffer_add_string(relative, absolute + root + 1);
    buffer_add_byte(relative, '/');
done:
    free(absolute);
    return status;
}
