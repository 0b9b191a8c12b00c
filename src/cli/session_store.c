/* SPDX-License-Identifier: Apache-2.0
 *
 * The session directory. A record without state is an empty session; state without a record is what
 * a killed delete left, and goes when the name is used again. Records are read as strangers' files.
 */
#include "cli/session_store.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/interrupt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RECORD_BYTES = 16 << 20 /* conversations are in it */, POLL_MS = 50 };

static const char name_bytes[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

kvern_status session_name_check(const char *name, kvern_error *err)
{
    size_t n = strlen(name);

    if (n == 0 || n > SESSION_NAME_MAX || *name == '.' || strspn(name, name_bytes) != n)
        return fail(err, KVERN_INVALID,
                    "a session's name has 1 to %d of A-Z, a-z, 0-9, '.', '_' and '-', and no dot "
                    "first; '%.80s' has not",
                    SESSION_NAME_MAX, name);
    return KVERN_OK;
}

static char *session_directory(void)
{
    char *cache = cache_directory();
    char *directory = path_join(cache, "sessions");

    free(cache);
    return directory;
}

char *session_path(const char *name, const char *suffix)
{
    char *directory = session_directory();
    char file[SESSION_NAME_MAX + 16];

    snprintf(file, sizeof file, "%s%s", name, suffix);
    char *path = path_join(directory, file);
    free(directory);
    return path;
}

bool session_exists(const char *name)
{
    char *path = session_path(name, ".json");
    bool exists = file_exists(path);

    free(path);
    return exists;
}

int64_t session_bytes(const char *name)
{
    char *path = session_path(name, ".session");
    struct stat info;
    int64_t n_bytes = stat(path, &info) == 0 ? (int64_t)info.st_size : 0;

    free(path);
    return n_bytes;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The session's name if `file` is a record; malloc'ed, else NULL. */
static char *name_of_record(const char *file)
{
    size_t n = strlen(file);

    if (n <= strlen(".json") || strcmp(file + n - strlen(".json"), ".json") != 0)
        return NULL;
    char *name = copy_bytes_or_abort(file, n - strlen(".json"));
    if (session_name_check(name, NULL) == KVERN_OK)
        return name;
    free(name);
    return NULL;
}

kvern_status sessions_list(char ***names, size_t *n_names, kvern_error *err)
{
    char *directory = session_directory();
    DIR *stream = opendir(directory);
    const struct dirent *entry;
    size_t capacity = 0;
    kvern_status status = KVERN_OK;

    *names = NULL;
    *n_names = 0;
    if (!stream && errno != ENOENT)
        status = fail(err, KVERN_IO, "cannot read %s: %s", directory, strerror(errno));
    while (stream && (entry = readdir(stream))) {
        char *name = name_of_record(entry->d_name);

        if (!name)
            continue;
        if (*n_names == capacity) {
            capacity = capacity > 0 ? 2 * capacity : 16;
            *names = resize_or_abort(*names, capacity * sizeof **names);
        }
        (*names)[(*n_names)++] = name;
    }
    if (stream)
        closedir(stream);
    if (*n_names > 0)
        qsort(*names, *n_names, sizeof **names, compare_names);
    free(directory);
    return status;
}

/* "NAME.session.tmp-123": what a killed command of process 123 was writing. */
static bool is_leftover(const char *file, const char *name)
{
    static const char *const suffixes[] = {".session.tmp-", ".json.tmp-"};
    size_t n = strlen(name);

    for (size_t i = 0; strncmp(file, name, n) == 0 && i < 2; i++) {
        size_t n_suffix = strlen(suffixes[i]);
        const char *number = file + n + n_suffix;

        if (strncmp(file + n, suffixes[i], n_suffix) == 0 && *number &&
            strspn(number, "0123456789") == strlen(number))
            return true;
    }
    return false;
}

static void remove_leftovers(const char *name)
{
    char *directory = session_directory();
    DIR *stream = opendir(directory);
    const struct dirent *entry;

    while (stream && (entry = readdir(stream))) {
        if (is_leftover(entry->d_name, name))
            unlinkat(dirfd(stream), entry->d_name, 0);
    }
    if (stream)
        closedir(stream);
    free(directory);
}

/* Whether the file that was locked is still the one of that path: its last holder may have removed
 * it. */
static bool is_current(int fd, const char *path)
{
    struct stat held;
    struct stat named;

    return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

static void pause_ms(int n)
{
    struct timespec time = {.tv_nsec = n * 1000000L};

    nanosleep(&time, NULL);
}

/* One try: the descriptor, -1 if another command has it, -2 if it cannot be opened. */
static int try_lock(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

    if (fd < 0)
        return -2;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_current(fd, path))
        return fd;
    close(fd);
    return -1;
}

kvern_status session_lock_take(struct session_lock *lock, const char *name, int wait_ms,
                               kvern_error *err)
{
    char *directory = session_directory();
    char *path = session_path(name, ".lock");
    kvern_status status = directory_make(directory, err);
    int waited = 0;
    int fd = -1;

    *lock = (struct session_lock){0};
    while (status == KVERN_OK && (fd = try_lock(path)) < 0) {
        if (fd == -2)
            status = fail(err, KVERN_IO, "cannot open %s: %s", path, strerror(errno));
        else if (was_interrupted())
            status = interrupted(err);
        else if (waited >= wait_ms)
            status = fail(err, KVERN_BUSY,
                          "session '%s' is still in use by another command after "
                          "%d s",
                          name, wait_ms / 1000);
        if (status == KVERN_OK && waited == 0)
            fprintf(stderr, "kvern: session '%s' is in use by another command; waiting\n", name);
        if (status == KVERN_OK)
            pause_ms(POLL_MS);
        waited += POLL_MS;
    }
    if (status == KVERN_OK) {
        *lock =
            (struct session_lock){.name = copy_string_or_abort(name), .fd = fd, .is_held = true};
        remove_leftovers(name);
    }
    free(path);
    free(directory);
    return status;
}

void session_lock_release(struct session_lock *lock)
{
    if (lock->is_held) {
        if (!session_exists(lock->name)) {
            char *path = session_path(lock->name, ".lock");

            unlink(path);
            free(path);
        }
        close(lock->fd);
    }
    free(lock->name);
    *lock = (struct session_lock){0};
}

static void set_now(char text[SESSION_TIME_BYTES])
{
    time_t now = time(NULL);
    struct tm parts;

    if (!gmtime_r(&now, &parts) ||
        strftime(text, SESSION_TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        *text = '\0';
}

void session_record_init(struct session_record *record, const char *name, const char *model)
{
    char *absolute = realpath(model, NULL);

    *record = (struct session_record){
        .name = copy_string_or_abort(name),
        .model = absolute ? absolute : copy_string_or_abort(model),
    };
    kvern_session_options_init(&record->options);
    set_now(record->created);
    set_now(record->updated);
}

void session_record_clear(struct session_record *record)
{
    free(record->name);
    free(record->model);
    free(record->preset);
    free(record->kv_type);
    json_decref(record->chat);
    *record = (struct session_record){0};
}

const char *session_model_name(const struct session_record *record)
{
    const char *base = path_base(record->model);
    size_t n = strlen(base);

    if (base - record->model < 2 || n < 5 || strcmp(base + n - 5, ".onnx") != 0)
        return base;
    base--;
    while (base > record->model && base[-1] != '/')
        base--;
    return base;
}

json_t *session_record_json(const struct session_record *record)
{
    const kvern_session_options *options = &record->options;

    return json_pack("{s:s s:s? s:s? s:i s:s s:i s:i s:s s:i s:i s:I s:s s:s}", "model",
                     record->model, "preset", record->preset, "kv_type", record->kv_type, "context",
                     record->context, "window_policy", kvern_window_name(options->policy), "window",
                     options->window, "sinks", options->sink_tokens, "pooling",
                     kvern_pooling_name(options->pooling), "normalize", options->normalize,
                     "dimensions", options->dimensions, "tokens", (json_int_t)record->n_tokens,
                     "created", record->created, "updated", record->updated);
}

kvern_status session_record_write(struct session_record *record, kvern_error *err)
{
    char *path = session_path(record->name, ".json");
    struct file_writer writer = {0};
    kvern_status status = KVERN_OK;

    set_now(record->updated);
    json_t *json = session_record_json(record);
    if (json && record->chat)
        json_object_set(json, "chat", record->chat);
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    if (text && strlen(text) > MAX_RECORD_BYTES)
        status = fail(err, KVERN_LIMIT,
                      "the conversation of session '%s' takes over %d MiB, the limit of %s",
                      record->name, MAX_RECORD_BYTES >> 20, path);
    else if (!text)
        status = fail(err, KVERN_MEMORY, "cannot make %s: memory ran out, or %s is not UTF-8", path,
                      record->model);
    if (status == KVERN_OK)
        status = file_writer_open(&writer, path, err);
    if (status == KVERN_OK && text)
        status = file_writer_put(&writer, text, strlen(text), err);
    if (status == KVERN_OK)
        status = file_writer_commit(&writer, err);
    file_writer_clear(&writer);
    free(text);
    json_decref(json);
    free(path);
    return status;
}

/* A member that is a whole number from `low` to `high`; false if it is not. */
static bool read_number(const json_t *json, const char *name, json_int_t low, json_int_t high,
                        json_int_t *value)
{
    const json_t *member = json_object_get(json, name);

    *value = json_integer_value(member);
    return json_is_integer(member) && *value >= low && *value <= high;
}

/* A copy of a string, NULL for null or nothing. */
static char *read_string(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text ? copy_string_or_abort(text) : NULL;
}

static void read_time(const json_t *json, const char *name, char text[SESSION_TIME_BYTES])
{
    const char *time = json_string_value(json_object_get(json, name));

    snprintf(text, SESSION_TIME_BYTES, "%s", time ? time : "");
}

/* Fills the record; the name of the member that is wrong, or NULL. */
static const char *read_members(struct session_record *record, const json_t *json)
{
    kvern_session_options *options = &record->options;
    const struct {
        const char *name;
        json_int_t low, high;
        int32_t *value;
    } numbers[] = {
        {"context", 0, 1 << 24, &record->context},        {"window", 0, 1 << 24, &options->window},
        {"sinks", 0, 1 << 24, &options->sink_tokens},     {"normalize", -1, 1, &options->normalize},
        {"dimensions", 0, 1 << 24, &options->dimensions},
    };
    const char *policy = json_string_value(json_object_get(json, "window_policy"));
    const char *pooling = json_string_value(json_object_get(json, "pooling"));
    json_int_t value;

    record->model = read_string(json, "model");
    record->preset = read_string(json, "preset");
    record->kv_type = read_string(json, "kv_type");
    read_time(json, "created", record->created);
    read_time(json, "updated", record->updated);
    if (!record->model || *record->model != '/')
        return "model";
    if (!policy || !kvern_window_from_name(policy, &options->policy))
        return "window_policy";
    if (!pooling || !kvern_pooling_from_name(pooling, &options->pooling))
        return "pooling";
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (!read_number(json, numbers[i].name, numbers[i].low, numbers[i].high, &value))
            return numbers[i].name;
        *numbers[i].value = (int32_t)value;
    }
    if (!read_number(json, "tokens", 0, INT64_MAX, &value))
        return "tokens";
    record->n_tokens = (size_t)value;
    record->chat = json_incref(json_object_get(json, "chat"));
    return NULL;
}

kvern_status session_record_read(struct session_record *record, const char *name, kvern_error *err)
{
    char *path = session_path(name, ".json");
    char *text = NULL;
    size_t n_bytes = 0;
    json_error_t problem;
    const char *wrong;
    json_t *json = NULL;
    kvern_status status;

    *record = (struct session_record){.name = copy_string_or_abort(name)};
    kvern_session_options_init(&record->options);
    if (!file_exists(path)) {
        status = fail(err, KVERN_NOT_FOUND,
                      "there is no session '%s'; 'kvern session create %s' makes one", name, name);
        goto done;
    }
    status = file_read(path, MAX_RECORD_BYTES, &text, &n_bytes, err);
    if (status != KVERN_OK)
        goto done;
    json = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &problem);
    wrong = json ? read_members(record, json) : "";
    if (!json)
        status = fail(err, KVERN_FORMAT, "%s is damaged (%s); 'kvern session delete %s' removes it",
                      path, problem.text, name);
    else if (wrong)
        status = fail(err, KVERN_FORMAT,
                      "%s is damaged: its \"%s\" is not one; 'kvern session delete %s' removes it",
                      path, wrong, name);
done:
    json_decref(json);
    free(text);
    free(path);
    return status;
}

static kvern_status remove_file(const char *name, const char *suffix, kvern_error *err)
{
    char *path = session_path(name, suffix);
    kvern_status status = KVERN_OK;

    if (unlink(path) != 0 && errno != ENOENT)
        status = fail(err, KVERN_IO, "cannot remove %s: %s", path, strerror(errno));
    free(path);
    return status;
}

kvern_status session_remove_state(const char *name, kvern_error *err)
{
    return remove_file(name, ".session", err);
}

kvern_status session_remove(const char *name, kvern_error *err)
{
    kvern_status status = session_remove_state(name, err);

    return status == KVERN_OK ? remove_file(name, ".json", err) : status;
}
