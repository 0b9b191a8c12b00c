/* SPDX-License-Identifier: Apache-2.0
 *
 * The lines of a file or of stdin, one after another, each with its number. A line is waited for no
 * longer than the caller likes, so that a slow pipe holds nothing else up.
 */
#ifndef KVERN_CLI_LINES_H
#define KVERN_CLI_LINES_H

#include "base/buffer.h"
#include "kvern.h"

struct lines {
    const char *path; /* borrowed; "-": stdin */
    int fd;           /* -1: closed */
    bool is_at_end;   /* of the file: what is left are bytes already read */
    struct buffer bytes;
    size_t n_taken;   /* of `bytes`, by lines given out */
    size_t n_scanned; /* of `bytes`: there is no newline among these */
    size_t number;    /* of the present line, from 1 */
};

kvern_status lines_open(struct lines *lines, const char *path, kvern_error *err);
/* The next line that is not blank, without its end (\n or \r\n), with a NUL after it; the bytes
 * stay until the next call. *line NULL: there are no more. Waits up to timeout_ms (-1: for ever)
 * for bytes. KVERN_TIMEOUT: no whole line yet; KVERN_CANCELLED: Ctrl-C. */
kvern_status lines_next(struct lines *lines, int timeout_ms, char **line, size_t *n_bytes,
                        kvern_error *err);
/* Zeroed is fine, and so is twice. */
void lines_close(struct lines *lines);

/* "stdin" for "-", else the path: for messages. */
const char *shown_path(const char *path);

#endif
