/* SPDX-License-Identifier: Apache-2.0
 *
 * The file that generate --output writes: JSON Lines, a line a result, each with the fingerprint of
 * what it answers. A line is there whole or not at all; after a kill the file says what is done.
 * Results come as they finish; results_file_finish() puts them in order.
 */
#ifndef KVERN_CLI_RESULTS_FILE_H
#define KVERN_CLI_RESULTS_FILE_H

#include "base/map.h"
#include "kvern.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The id as text that is the same for equal ids, malloc'ed; NULL: no memory. */
char *id_key(const json_t *id);

/* A line of the file; a later one of the same id takes an earlier one's place. */
struct result_line {
    size_t offset;
    size_t n_bytes; /* with its newline */
    uint64_t fingerprint;
    bool is_failure;
    bool is_replaced;
};

struct results_file {
    int fd;                    /* -1: closed */
    char *path;                /* owned; links resolved */
    const char *shown;         /* borrowed: as the user wrote it */
    bool is_regular;           /* else a pipe or device: no line of it can be read again */
    struct result_line *lines; /* [n_lines], owned */
    size_t n_lines;
    size_t capacity;
    size_t n_bytes;   /* of whole lines */
    size_t n_torn;    /* bytes of a torn last line that were cut off */
    struct map by_id; /* id_key -> index of its line */
    double synced;    /* when */
};

/* Creates it, or with `is_resumed` reads what is there: a torn last line is cut off, any other that
 * is no result is KVERN_FORMAT. Without, a file that is not empty is refused. Locked against a
 * second writer (KVERN_BUSY). */
kvern_status results_file_open(struct results_file *file, const char *path, bool is_resumed,
                               kvern_error *err);
/* The result of an id (its key); NULL: none yet. */
const struct result_line *results_file_find(const struct results_file *file, const char *id);
/* Appends `line` (without a newline) in one write, or nothing of it. */
kvern_status results_file_add(struct results_file *file, const char *id, const char *line,
                              uint64_t fingerprint, bool is_failure, kvern_error *err);
kvern_status results_file_sync(struct results_file *file, kvern_error *err);
/* Drops lines that later ones replaced, and unless `ranks` is NULL puts the others in the order of
 * their ids' values there; ids that are not there come last, as they stand. By rename: on failure
 * the file is as before. */
kvern_status results_file_finish(struct results_file *file, const struct map *ranks,
                                 kvern_error *err);
/* Zeroed is fine. What was added is not synced. */
void results_file_close(struct results_file *file);

#endif
