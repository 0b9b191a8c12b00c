/* SPDX-License-Identifier: Apache-2.0
 *
 * struct results_file: an index of the lines is kept in memory, the lines themselves only on disk.
 */
#include "cli/results_file.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const double SYNC_SECONDS = 2;

char *id_key(const json_t *id)
{
    return json_dumps(id, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
}

static kvern_status index_line(struct results_file *file, const char *id, size_t n_bytes,
                               uint64_t fingerprint, bool is_failure, kvern_error *err)
{
    uint32_t earlier;

    if (file->n_lines == file->capacity) {
        size_t capacity = file->capacity ? 2 * file->capacity : 64;
        struct result_line *lines = try_resize(file->lines, capacity, sizeof *lines);

        if (!lines)
            return fail(err, KVERN_MEMORY, "out of memory for %zu results", file->n_lines);
        file->lines = lines;
        file->capacity = capacity;
    }
    if (map_get(&file->by_id, id, strlen(id), &earlier))
        file->lines[earlier].is_replaced = true;
    if (file->n_lines == UINT32_MAX ||
        !map_put(&file->by_id, id, strlen(id), (uint32_t)file->n_lines))
        return fail(err, KVERN_MEMORY, "out of memory for %zu results", file->n_lines);
    file->lines[file->n_lines++] = (struct result_line){.offset = file->n_bytes,
                                                        .n_bytes = n_bytes,
                                                        .fingerprint = fingerprint,
                                                        .is_failure = is_failure};
    file->n_bytes += n_bytes;
    return KVERN_OK;
}

static bool parse_fingerprint(const json_t *value, uint64_t *fingerprint)
{
    const char *text = json_string_value(value);
    char *end = NULL;

    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *fingerprint = strtoull(text, &end, 16);
    return true;
}

/* One line [n_bytes], its newline included. An answer may hold NUL characters. */
static kvern_status read_result(struct results_file *file, const char *line, size_t n_bytes,
                                kvern_error *err)
{
    json_t *result = json_loadb(line, n_bytes, JSON_ALLOW_NUL, NULL);
    json_t *id = json_object_get(result, "id");
    char *key = id ? id_key(id) : NULL;
    uint64_t fingerprint = 0;
    kvern_status status;

    if (!key || !parse_fingerprint(json_object_get(result, "fingerprint"), &fingerprint))
        status = fail(err, KVERN_FORMAT,
                      "line %zu of %s is not a result that --output wrote; name another file or "
                      "remove the line",
                      file->n_lines + 1, file->shown);
    else
        status = index_line(file, key, n_bytes, fingerprint,
                            json_object_get(result, "error") != NULL, err);
    free(key);
    json_decref(result);
    return status;
}

static kvern_status read_results(struct results_file *file, kvern_error *err)
{
    struct file_map map = {0};
    kvern_status status = file_map_open(&map, file->path, err);

    while (status == KVERN_OK && file->n_bytes < map.n_bytes) {
        const char *line = (const char *)map.data + file->n_bytes;
        const char *newline = memchr(line, '\n', map.n_bytes - file->n_bytes);

        if (!newline)
            break;
        status = read_result(file, line, (size_t)(newline - line) + 1, err);
    }
    file->n_torn = map.n_bytes - file->n_bytes;
    file_map_close(&map);
    if (status == KVERN_OK && file->n_torn > 0 && ftruncate(file->fd, (off_t)file->n_bytes) != 0)
        status = fail(err, KVERN_IO, "cannot cut the torn last line off %s: %s", file->shown,
                      strerror(errno));
    return status;
}

kvern_status results_file_open(struct results_file *file, const char *path, bool is_resumed,
                               kvern_error *err)
{
    struct stat info;
    kvern_status status = KVERN_OK;

    *file = (struct results_file){.shown = path, .synced = seconds_now()};
    file->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
    if (file->fd < 0 || fstat(file->fd, &info) != 0) {
        status = fail(err, KVERN_IO, "cannot open %s: %s", path, strerror(errno));
        goto done;
    }
    file->is_regular = S_ISREG(info.st_mode);
    if (!file->is_regular) {
        if (is_resumed)
            status = fail(err, KVERN_INVALID,
                          "--resume needs a file that can be read again; %s is none", path);
        goto done;
    }
    file->path = realpath(path, NULL);
    if (!file->path)
        status = fail(err, KVERN_IO, "cannot find %s: %s", path, strerror(errno));
    else if (flock(file->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        status = fail(err, KVERN_BUSY, "another kvern is writing to %s", path);
    else if (!is_resumed && info.st_size > 0)
        status = fail(err, KVERN_INVALID,
                      "%s is there already: --resume goes on with it, or remove it first", path);
    else if (is_resumed)
        status = read_results(file, err);
done:
    if (status != KVERN_OK)
        results_file_close(file);
    return status;
}

const struct result_line *results_file_find(const struct results_file *file, const char *id)
{
    uint32_t i;

    return map_get(&file->by_id, id, strlen(id), &i) ? &file->lines[i] : NULL;
}

/* A write that takes a part only is undone: a full disk leaves whole lines. */
static kvern_status write_line(struct results_file *file, const char *bytes, size_t n_bytes,
                               kvern_error *err)
{
    size_t n_done = 0;
    int reason = 0;

    while (n_done < n_bytes && reason == 0) {
        ssize_t n = write(file->fd, bytes + n_done, n_bytes - n_done);

        if (n >= 0)
            n_done += (size_t)n;
        else if (errno != EINTR)
            reason = errno;
    }
    if (reason == 0)
        return KVERN_OK;
    if (n_done > 0 && file->is_regular && ftruncate(file->fd, (off_t)file->n_bytes) != 0)
        return fail(err, KVERN_IO, "cannot write to %s: %s; its last line is torn", file->shown,
                    strerror(reason));
    return fail(err, KVERN_IO, "cannot write to %s: %s", file->shown, strerror(reason));
}

kvern_status results_file_add(struct results_file *file, const char *id, const char *line,
                              uint64_t fingerprint, bool is_failure, kvern_error *err)
{
    struct buffer bytes = {0};
    kvern_status status = KVERN_OK;

    buffer_add_string(&bytes, line);
    buffer_add_byte(&bytes, '\n');
    if (bytes.has_failed)
        status = fail(err, KVERN_MEMORY, "out of memory for a result");
    if (status == KVERN_OK)
        status = write_line(file, bytes.data, bytes.n_bytes, err);
    if (status == KVERN_OK)
        status = index_line(file, id, bytes.n_bytes, fingerprint, is_failure, err);
    if (status == KVERN_OK && seconds_now() - file->synced > SYNC_SECONDS)
        status = results_file_sync(file, err);
    buffer_clear(&bytes);
    return status;
}

kvern_status results_file_sync(struct results_file *file, kvern_error *err)
{
    file->synced = seconds_now();
    if (file->is_regular && fdatasync(file->fd) != 0)
        return fail(err, KVERN_IO, "cannot write to %s: %s", file->shown, strerror(errno));
    return KVERN_OK;
}

/* A line and its place in the order. */
struct ranked_line {
    uint64_t rank;
    size_t i; /* of results_file.lines */
};

static int compare_ranks(const void *left, const void *right)
{
    const struct ranked_line *a = left;
    const struct ranked_line *b = right;

    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return (a->i > b->i) - (a->i < b->i);
}

/* The lines that stay, in order; *n of them. The map is searched by its own keys, which are the
 * ids. */
static void rank_lines(const struct results_file *file, const struct map *ranks,
                       struct ranked_line *order, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < file->n_lines; i++)
        order[i] = (struct ranked_line){.rank = ranks ? UINT64_MAX : 0, .i = i};
    for (size_t s = 0; ranks && s < file->by_id.n_slots; s++) {
        const struct map_slot *slot = &file->by_id.slots[s];
        uint32_t rank;

        if (slot->hash != 0 &&
            map_get(ranks, file->by_id.keys + slot->key_offset, slot->key_bytes, &rank))
            order[slot->value].rank = rank;
    }
    for (size_t i = 0; i < file->n_lines; i++) {
        if (!file->lines[i].is_replaced)
            order[(*n)++] = order[i];
    }
    qsort(order, *n, sizeof *order, compare_ranks);
}

static bool is_in_order(const struct results_file *file, const struct ranked_line *order, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (order[i].i != i)
            return false;
    }
    return n == file->n_lines;
}

kvern_status results_file_finish(struct results_file *file, const struct map *ranks,
                                 kvern_error *err)
{
    struct ranked_line *order = NULL;
    struct file_map map = {0};
    struct file_writer writer = {0};
    size_t n = 0;
    kvern_status status = results_file_sync(file, err);

    if (status != KVERN_OK || !file->is_regular || file->n_lines == 0)
        return status;
    order = try_new(file->n_lines, sizeof *order);
    if (!order)
        return fail(err, KVERN_MEMORY, "out of memory for the order of %zu results", file->n_lines);
    rank_lines(file, ranks, order, &n);
    if (is_in_order(file, order, n))
        goto done;
    file_remove_leftovers(file->path);
    status = file_map_open(&map, file->path, err);
    if (status == KVERN_OK && map.n_bytes < file->n_bytes)
        status = fail(err, KVERN_IO, "%s was cut by another program", file->shown);
    if (status == KVERN_OK)
        status = file_writer_open(&writer, file->path, err);
    for (size_t i = 0; status == KVERN_OK && i < n; i++) {
        const struct result_line *line = &file->lines[order[i].i];

        status = file_writer_put(&writer, map.data + line->offset, line->n_bytes, err);
    }
    if (status == KVERN_OK)
        status = file_writer_commit(&writer, err);
    if (status != KVERN_OK)
        fail_in(err, status, "the results are all in %s, but not in order", file->shown);
    file_writer_clear(&writer);
done:
    file_map_close(&map);
    free(order);
    return status;
}

void results_file_close(struct results_file *file)
{
    if (file->shown && file->fd >= 0)
        close(file->fd);
    free(file->path);
    free(file->lines);
    map_clear(&file->by_id);
    *file = (struct results_file){.fd = -1};
}
