/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors on their way out: a table for people, JSON, JSON Lines, CSV, or NumPy's npy, on stdout or
 * into a file that appears by rename when all is well.
 */
#ifndef KVERN_CLI_VECTORS_H
#define KVERN_CLI_VECTORS_H

#include "base/buffer.h"
#include "base/file.h"
#include "cli/options.h"
#include "kvern.h"

#include <jansson.h>

enum vector_format {
    VECTORS_TABLE,
    VECTORS_JSON,  /* one array */
    VECTORS_JSONL, /* one object a line */
    VECTORS_CSV,   /* id,tokens,truncated,0,1,...: RFC 4180 with \n */
    VECTORS_NPY,   /* format 1.0, [rows, values] <f4, C order, padded to 64 bytes */
};

/* "table", "json", "jsonl", "csv", "npy"; false: no format of that name. */
bool vector_format_from_name(const char *name, enum vector_format *format);

/* How vectors are asked for; filled by VECTOR_OPTIONS rows. */
struct vector_flags {
    const char *format; /* NULL: by the file's name; else a table on a terminal, else JSON Lines */
    const char *path;   /* NULL: stdout */
    bool is_json;
    enum vector_format resolved; /* by resolve_format() */
};

/* clang-format off */
#define VECTOR_OPTIONS(flags)                                                                      \
    {"format", 0, OPTION_STRING, &(flags).format, "FORMAT",                                        \
     "table, json, jsonl, csv or npy (jsonl; on a terminal table)"},                               \
    {"output", 'o', OPTION_STRING, &(flags).path, "FILE", "write there instead of to stdout"},     \
    {"json", 0, OPTION_FLAG, &(flags).is_json, NULL, "one JSON object a line"}
/* clang-format on */

/* Returns 0, or the exit status of a usage error. */
int resolve_format(struct vector_flags *flags, const struct command_help *help);

/* One result; everything is borrowed. */
struct vector_row {
    const json_t *id;
    const float *values; /* [n_values]; NULL: it failed */
    size_t n_values;
    size_t n_tokens;
    bool is_truncated;
    const char *error; /* why it failed; NULL: it did not */
    json_t *more;      /* an object whose members follow in JSON; may be NULL */
};

struct vector_writer {
    enum vector_format format;
    bool has_file;
    struct file_writer file; /* with -o */
    FILE *rows;              /* npy's rows on the way to stdout: the header needs their number */
    struct buffer line;
    size_t n_rows;
    size_t n_values;
};

/* `path` NULL or "-": stdout. */
kvern_status vector_writer_open(struct vector_writer *writer, enum vector_format format,
                                const char *path, kvern_error *err);
/* A row that failed is told in JSON, left out of tables and CSV, and an error in npy, which has no
 * place for holes. */
kvern_status vector_writer_put(struct vector_writer *writer, const struct vector_row *row,
                               kvern_error *err);
/* The end of it; with a file, it appears. */
kvern_status vector_writer_commit(struct vector_writer *writer, kvern_error *err);
/* Fine on a zeroed or committed one; without a commit no file is left. */
void vector_writer_clear(struct vector_writer *writer);

/* A JSON id as people read it: a string without quotes and control bytes, else compact JSON. */
void add_id(struct buffer *buffer, const json_t *id);
/* The same as a field of CSV, quoted if need be. */
void add_csv_id(struct buffer *buffer, const json_t *id);
/* Enough digits to read the same float again. */
void add_float(struct buffer *buffer, float value);
/* The beginning of a text on one line: at most n_max characters, blanks for control bytes and line
 * ends, U+FFFD for what is not UTF-8, "..." after a cut. */
void add_beginning(struct buffer *buffer, const char *text, size_t n_bytes, size_t n_max);
/* Characters, for columns. */
size_t count_characters(const char *text);

#endif
