/* SPDX-License-Identifier: Apache-2.0
 *
 * struct lines: bytes are read in chunks and given out as lines of the same memory. Lines are
 * bounded, so that a file without any cannot fill the memory.
 */
#include "cli/lines.h"

#include "base/error.h"
#include "cli/command.h"
#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LINE_BYTES = 64 << 20, CHUNK_BYTES = 1 << 16 };

const char *shown_path(const char *path)
{
    return strcmp(path, "-") == 0 ? "stdin" : path;
}

kvern_status lines_open(struct lines *lines, const char *path, kvern_error *err)
{
    *lines = (struct lines){.path = path};
    lines->fd =
        strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (lines->fd < 0)
        return fail(err, errno == ENOENT ? KVERN_NOT_FOUND : KVERN_IO, "cannot open %s: %s",
                    shown_path(path), strerror(errno));
    return KVERN_OK;
}

void lines_close(struct lines *lines)
{
    if (lines->path && lines->fd >= 0)
        close(lines->fd);
    lines->fd = -1;
    buffer_clear(&lines->bytes);
}

/* Some more bytes, or the end. */
static kvern_status read_chunk(struct lines *lines, int timeout_ms, kvern_error *err)
{
    char chunk[CHUNK_BYTES];
    struct pollfd wait = {.fd = lines->fd, .events = POLLIN};
    int n_ready = poll(&wait, 1, timeout_ms);

    if (was_interrupted())
        return interrupted(err);
    if (n_ready == 0)
        return fail(err, KVERN_TIMEOUT, "no line of %s within %d ms", shown_path(lines->path),
                    timeout_ms);

    ssize_t n = read(lines->fd, chunk, sizeof chunk);
    if (was_interrupted())
        return interrupted(err);
    if (n < 0 && errno != EINTR && errno != EAGAIN)
        return fail(err, KVERN_IO, "cannot read %s: %s", shown_path(lines->path), strerror(errno));
    if (n == 0)
        lines->is_at_end = true;
    if (n > 0)
        buffer_add(&lines->bytes, chunk, (size_t)n);
    if (lines->bytes.has_failed)
        return fail(err, KVERN_MEMORY, "out of memory reading %s", shown_path(lines->path));
    return KVERN_OK;
}

/* Drops what was given out, so that the memory is that of a line and a chunk. */
static void drop_taken(struct lines *lines)
{
    size_t n_left = lines->bytes.n_bytes - lines->n_taken;

    if (lines->n_taken == 0)
        return;
    memmove(lines->bytes.data, lines->bytes.data + lines->n_taken, n_left);
    buffer_truncate(&lines->bytes, n_left);
    lines->n_scanned -= lines->n_taken;
    lines->n_taken = 0;
}

/* One line, blank or not; *line NULL at the end. */
static kvern_status take_line(struct lines *lines, int timeout_ms, char **line, size_t *n_bytes,
                              kvern_error *err)
{
    char *newline = NULL;

    *line = NULL;
    for (;;) {
        struct buffer *bytes = &lines->bytes;

        if (bytes->n_bytes > lines->n_scanned)
            newline =
                memchr(bytes->data + lines->n_scanned, '\n', bytes->n_bytes - lines->n_scanned);
        lines->n_scanned = newline ? (size_t)(newline - bytes->data) + 1 : bytes->n_bytes;
        if (lines->n_scanned - lines->n_taken > MAX_LINE_BYTES)
            return fail(err, KVERN_LIMIT, "line %zu of %s has over %d MiB, the limit of a line",
                        lines->number + 1, shown_path(lines->path), MAX_LINE_BYTES >> 20);
        if (newline || lines->is_at_end)
            break;
        drop_taken(lines);
        kvern_status status = read_chunk(lines, timeout_ms, err);
        if (status != KVERN_OK)
            return status;
    }
    if (lines->n_scanned == lines->n_taken)
        return KVERN_OK;
    *line = lines->bytes.data + lines->n_taken;
    *n_bytes = lines->n_scanned - lines->n_taken - (newline != NULL);
    if (newline && *n_bytes > 0 && (*line)[*n_bytes - 1] == '\r')
        --*n_bytes;
    (*line)[*n_bytes] = '\0';
    lines->n_taken = lines->n_scanned;
    lines->number++;
    return KVERN_OK;
}

kvern_status lines_next(struct lines *lines, int timeout_ms, char **line, size_t *n_bytes,
                        kvern_error *err)
{
    kvern_status status;

    do
        status = take_line(lines, timeout_ms, line, n_bytes, err);
    while (status == KVERN_OK && *line && strspn(*line, " \t\r") == *n_bytes);
    return status;
}
