/* SPDX-License-Identifier: Apache-2.0
 *
 * Files: read-only mappings, whole reads with a bound, writes that appear by rename or not at all,
 * and path helpers. Every failure names the path and the system's reason.
 */
#ifndef KVERN_BASE_FILE_H
#define KVERN_BASE_FILE_H

#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A read-only mapping of a whole regular file. Zeroed is valid and empty. */
struct file_map {
    const uint8_t *data; /* [n_bytes]; NULL for an empty file */
    size_t n_bytes;
};

kvern_status file_map_open(struct file_map *map, const char *path, kvern_error *err);
void file_map_close(struct file_map *map);
/* Tells the OS that pages [offset, offset + n_bytes) are not needed soon: keeps peak RSS low. */
void file_map_forget(const struct file_map *map, size_t offset, size_t n_bytes);

/* Reads a whole file of at most `max_bytes` into malloc'ed memory with a NUL after it. */
kvern_status file_read(const char *path, size_t max_bytes, char **text, size_t *n_bytes,
                       kvern_error *err);

/* A file that is written under a temporary name beside its own (or that of the file a link leads
 * to) and renamed on commit. Where a pipe or a device is, that is written to as the bytes come. */
struct file_writer {
    FILE *stream;
    char *path;      /* owned; without links */
    char *temporary; /* owned; NULL: `path` itself is written */
};

kvern_status file_writer_open(struct file_writer *writer, const char *path, kvern_error *err);
/* Whether file_writer_open could, for who writes much later. Nothing that is there is opened. */
kvern_status file_check_writable(const char *path, kvern_error *err);
kvern_status file_writer_put(struct file_writer *writer, const void *bytes, size_t n_bytes,
                             kvern_error *err);
/* Flushes, syncs and renames; on failure the temporary file is removed. */
kvern_status file_writer_commit(struct file_writer *writer, kvern_error *err);
/* Removes the temporary file unless committed. Fine on a zeroed or committed writer. */
void file_writer_clear(struct file_writer *writer);

/* Removes the temporary files of writers to `path` whose processes are gone: what a kill leaves. */
void file_remove_leftovers(const char *path);

/* Lower-case hex SHA-256 of a file into hex[65]. */
kvern_status file_sha256(const char *path, char hex[65], kvern_error *err);

bool file_exists(const char *path);
bool directory_exists(const char *path);
/* Creates a directory and its parents; fine if it is there. */
kvern_status directory_make(const char *path, kvern_error *err);
/* Removes a directory with the files in it, one level of subdirectories included; never follows
 * links. Fine if it is not there. */
kvern_status directory_remove(const char *path, kvern_error *err);

/* "a/b": malloc'ed, aborts on no memory. */
char *path_join(const char *directory, const char *name);
/* The part after the last '/': a pointer into `path`. */
const char *path_base(const char *path);
/* What stands before it, without the slash: "a" of "a/b", "." of "b", "/" of "/b". malloc'ed. */
char *path_directory(const char *path);
/* kvern's cache directory: $KVERN_HOME, else $XDG_CACHE_HOME/kvern, else $HOME/.cache/kvern. */
char *cache_directory(void);

#endif
