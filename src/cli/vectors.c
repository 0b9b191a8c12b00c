/* SPDX-License-Identifier: Apache-2.0
 *
 * struct vector_writer: every format is made a row at a time in one buffer, so that a million rows
 * take no more memory than one.
 */
#include "cli/vectors.h"

#include "base/error.h"
#include "base/utf8.h"
#include "cli/output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The header's size is fixed, so that it can be written before the number of rows is known. */
enum { NPY_HEADER_BYTES = 128, NPY_MAGIC_BYTES = 10, COPY_BYTES = 1 << 16, ID_WIDTH = 24 };
enum { SHOWN_VALUES = 4 };

bool vector_format_from_name(const char *name, enum vector_format *format)
{
    static const char *const names[] = {"table", "json", "jsonl", "csv", "npy"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *format = (enum vector_format)i;
            return true;
        }
    }
    return false;
}

int resolve_format(struct vector_flags *flags, const struct command_help *help)
{
    bool is_stdout = !flags->path || strcmp(flags->path, "-") == 0;
    const char *dot = is_stdout ? NULL : strrchr(path_base(flags->path), '.');

    flags->resolved = is_stdout && isatty(STDOUT_FILENO) ? VECTORS_TABLE : VECTORS_JSONL;
    if (flags->format && !vector_format_from_name(flags->format, &flags->resolved))
        return usage_error(help, "--format takes table, json, jsonl, csv or npy, not '%s'",
                           flags->format);
    if (flags->is_json && flags->format && flags->resolved != VECTORS_JSONL &&
        flags->resolved != VECTORS_JSON)
        return usage_error(help, "--json and --format %s do not go together", flags->format);
    if (flags->is_json && !flags->format)
        flags->resolved = VECTORS_JSONL;
    else if (!flags->format && dot)
        vector_format_from_name(dot + 1, &flags->resolved);
    if (flags->resolved == VECTORS_NPY && is_stdout && isatty(STDOUT_FILENO))
        return usage_error(help,
                           "npy is not for a terminal: send it to a file with -o, or to a pipe");
    return 0;
}

void add_beginning(struct buffer *buffer, const char *text, size_t n_bytes, size_t n_max)
{
    size_t at = 0;

    for (size_t n = 0; at < n_bytes && n < n_max; n++) {
        uint32_t code_point;
        size_t length = utf8_decode(text + at, n_bytes - at, &code_point);
        bool is_control = code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0);

        buffer_add_code_point(buffer, is_control ? ' ' : code_point);
        at += length > 0 ? length : 1;
    }
    if (at < n_bytes)
        buffer_add_string(buffer, "...");
}

size_t count_characters(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void add_json(struct buffer *buffer, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));

    buffer->has_failed = buffer->has_failed || !text;
    buffer_add_string(buffer, text ? text : "");
    free(text);
}

void add_id(struct buffer *buffer, const json_t *id)
{
    if (json_is_string(id))
        add_beginning(buffer, json_string_value(id), json_string_length(id), SIZE_MAX);
    else
        add_json(buffer, id);
}

void add_label(struct buffer *buffer, const json_t *id, size_t width)
{
    struct buffer label = {0};
    const char *text;

    add_id(&label, id);
    text = label.data ? label.data : "";
    size_t n = count_characters(text);
    if (n > width) {
        add_beginning(buffer, text, label.n_bytes, width - strlen("..."));
    } else {
        buffer_add_string(buffer, text);
        for (; n < width; n++)
            buffer_add_byte(buffer, ' ');
    }
    buffer_clear(&label);
}

void add_csv_id(struct buffer *buffer, const json_t *id)
{
    struct buffer field = {0};

    if (json_is_string(id))
        buffer_add(&field, json_string_value(id), json_string_length(id));
    else
        add_json(&field, id);
    const char *text = field.data ? field.data : "";
    bool is_quoted = strpbrk(text, ",\"\r\n") != NULL;

    buffer->has_failed = buffer->has_failed || field.has_failed;
    if (is_quoted)
        buffer_add_byte(buffer, '"');
    for (size_t i = 0; i < field.n_bytes; i++) {
        if (text[i] == '"')
            buffer_add_byte(buffer, '"');
        buffer_add_byte(buffer, text[i]);
    }
    if (is_quoted)
        buffer_add_byte(buffer, '"');
    buffer_clear(&field);
}

void add_float(struct buffer *buffer, float value)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%.9g", (double)value);

    buffer_add(buffer, text, (size_t)n);
}

static void add_values(struct buffer *line, const struct vector_row *row)
{
    for (size_t i = 0; i < row->n_values; i++) {
        if (i > 0)
            buffer_add_byte(line, ',');
        add_float(line, row->values[i]);
    }
}

static void add_json_row(struct buffer *line, const struct vector_row *row)
{
    const char *key;
    json_t *value;

    buffer_add_string(line, "{\"id\":");
    add_json(line, row->id);
    if (row->error) {
        json_t *error = json_string(row->error);

        buffer_add_string(line, ",\"error\":");
        add_json(line, error);
        json_decref(error);
    } else {
        buffer_add_string(line, ",\"embedding\":[");
        add_values(line, row);
        buffer_add_format(line, "],\"tokens\":%zu,\"truncated\":%s", row->n_tokens,
                          row->is_truncated ? "true" : "false");
    }
    json_object_foreach(row->more, key, value)
    {
        buffer_add_format(line, ",\"%s\":", key);
        add_json(line, value);
    }
    buffer_add_byte(line, '}');
}

static void add_csv_row(struct vector_writer *writer, const struct vector_row *row)
{
    struct buffer *line = &writer->line;

    if (writer->n_rows == 0) {
        buffer_add_string(line, "id,tokens,truncated");
        for (size_t i = 0; i < row->n_values; i++)
            buffer_add_format(line, ",%zu", i);
        buffer_add_byte(line, '\n');
    }
    add_csv_id(line, row->id);
    buffer_add_format(line, ",%zu,%s,", row->n_tokens, row->is_truncated ? "true" : "false");
    add_values(line, row);
    buffer_add_byte(line, '\n');
}

static void add_table_row(struct vector_writer *writer, const struct vector_row *row)
{
    struct buffer *line = &writer->line;

    if (writer->n_rows == 0)
        buffer_add_format(line, "%-*s %8s %6s  %s\n", ID_WIDTH, "ID", "TOKENS", "SIZE", "VALUES");
    add_label(line, row->id, ID_WIDTH);
    buffer_add_format(line, " %7zu%s %6zu ", row->n_tokens, row->is_truncated ? "+" : " ",
                      row->n_values);
    for (size_t i = 0; i < row->n_values && i < SHOWN_VALUES; i++)
        buffer_add_format(line, " %8.5f", (double)row->values[i]);
    buffer_add_string(line, row->n_values > SHOWN_VALUES ? " ...\n" : "\n");
}

/* The header of [n_rows, n_values]; the description is a Python dictionary, by the format's own
 * document (numpy/lib/format.py). */
static void fill_npy_header(char header[NPY_HEADER_BYTES], size_t n_rows, size_t n_values)
{
    static const char magic[8] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0};
    char text[NPY_HEADER_BYTES - NPY_MAGIC_BYTES];
    int n = snprintf(text, sizeof text,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", n_rows,
                     n_values);

    memset(header, ' ', NPY_HEADER_BYTES);
    memcpy(header, magic, sizeof magic);
    header[8] = (char)(sizeof text & 0xff);
    header[9] = (char)(sizeof text >> 8);
    memcpy(header + NPY_MAGIC_BYTES, text, (size_t)n);
    header[NPY_HEADER_BYTES - 1] = '\n';
}

static kvern_status add_npy_row(struct buffer *line, const struct vector_row *row, kvern_error *err)
{
    if (row->error)
        return fail(err, KVERN_INVALID,
                    "npy has no place for a text that failed: nothing is written");
    for (size_t i = 0; i < row->n_values; i++) {
        uint32_t bits;
        unsigned char bytes[4];

        memcpy(&bits, &row->values[i], sizeof bits);
        for (int j = 0; j < 4; j++)
            bytes[j] = (unsigned char)(bits >> (8 * j));
        buffer_add(line, bytes, sizeof bytes);
    }
    return KVERN_OK;
}

/* What is in the buffer goes to where the writer writes. */
static kvern_status send(struct vector_writer *writer, kvern_error *err)
{
    struct buffer *line = &writer->line;
    kvern_status status = KVERN_OK;

    if (line->has_failed)
        return fail(err, KVERN_MEMORY, "out of memory writing a vector");
    if (writer->has_file)
        status = file_writer_put(&writer->file, line->data, line->n_bytes, err);
    else if (writer->rows && fwrite(line->data, 1, line->n_bytes, writer->rows) != line->n_bytes)
        status =
            fail(err, KVERN_IO, "cannot keep vectors in a temporary file: %s", strerror(errno));
    else if (!writer->rows)
        output_text(line->data, line->n_bytes);
    buffer_truncate(line, 0);
    return status;
}

kvern_status vector_writer_open(struct vector_writer *writer, enum vector_format format,
                                const char *path, kvern_error *err)
{
    char header[NPY_HEADER_BYTES];
    kvern_status status = KVERN_OK;

    *writer = (struct vector_writer){.format = format};
    writer->has_file = path && strcmp(path, "-") != 0;
    if (writer->has_file && directory_exists(path))
        status = fail(err, KVERN_INVALID, "cannot write %s: it is a directory", path);
    else if (writer->has_file)
        status = file_writer_open(&writer->file, path, err);
    else if (format == VECTORS_NPY && !(writer->rows = tmpfile()))
        status = fail(err, KVERN_IO, "cannot make a temporary file: %s", strerror(errno));
    if (status == KVERN_OK && writer->has_file && format == VECTORS_NPY) {
        fill_npy_header(header, 0, 0);
        status = file_writer_put(&writer->file, header, sizeof header, err);
    }
    return status;
}

kvern_status vector_writer_put(struct vector_writer *writer, const struct vector_row *row,
                               kvern_error *err)
{
    bool is_json = writer->format == VECTORS_JSON || writer->format == VECTORS_JSONL;
    kvern_status status = KVERN_OK;

    if (row->error && !is_json && writer->format != VECTORS_NPY)
        return KVERN_OK;
    switch (writer->format) {
    case VECTORS_TABLE:
        add_table_row(writer, row);
        break;
    case VECTORS_JSON:
        buffer_add_string(&writer->line, writer->n_rows > 0 ? ",\n" : "[");
        add_json_row(&writer->line, row);
        break;
    case VECTORS_JSONL:
        add_json_row(&writer->line, row);
        buffer_add_byte(&writer->line, '\n');
        break;
    case VECTORS_CSV:
        add_csv_row(writer, row);
        break;
    case VECTORS_NPY:
        status = add_npy_row(&writer->line, row, err);
        break;
    }
    writer->n_rows++;
    if (row->n_values > 0)
        writer->n_values = row->n_values;
    return status == KVERN_OK ? send(writer, err) : status;
}

/* stdout cannot go back to its beginning: the rows waited in a file of their own. */
static kvern_status send_npy(struct vector_writer *writer, kvern_error *err)
{
    char header[NPY_HEADER_BYTES];
    char chunk[COPY_BYTES];
    size_t n;

    fill_npy_header(header, writer->n_rows, writer->n_values);
    output_text(header, sizeof header);
    if (fflush(writer->rows) != 0 || fseek(writer->rows, 0, SEEK_SET) != 0)
        return fail(err, KVERN_IO, "cannot keep vectors in a temporary file: %s", strerror(errno));
    while ((n = fread(chunk, 1, sizeof chunk, writer->rows)) > 0 && !output_has_failed())
        output_text(chunk, n);
    if (ferror(writer->rows))
        return fail(err, KVERN_IO, "cannot read vectors from a temporary file: %s",
                    strerror(errno));
    return KVERN_OK;
}

kvern_status vector_writer_commit(struct vector_writer *writer, kvern_error *err)
{
    char header[NPY_HEADER_BYTES];
    kvern_status status = KVERN_OK;

    if (writer->format == VECTORS_JSON) {
        buffer_add_string(&writer->line, writer->n_rows > 0 ? "]\n" : "[]\n");
        status = send(writer, err);
    }
    if (status == KVERN_OK && writer->rows)
        status = send_npy(writer, err);
    if (status == KVERN_OK && writer->has_file && writer->format == VECTORS_NPY) {
        fill_npy_header(header, writer->n_rows, writer->n_values);
        if (fflush(writer->file.stream) != 0 || fseek(writer->file.stream, 0, SEEK_SET) != 0)
            status = fail(err, KVERN_IO, "cannot write %s: %s", writer->file.path, strerror(errno));
        else
            status = file_writer_put(&writer->file, header, sizeof header, err);
    }
    if (status == KVERN_OK && writer->has_file)
        status = file_writer_commit(&writer->file, err);
    if (!writer->has_file)
        output_flush();
    return status;
}

void vector_writer_clear(struct vector_writer *writer)
{
    file_writer_clear(&writer->file);
    if (writer->rows)
        fclose(writer->rows);
    buffer_clear(&writer->line);
    *writer = (struct vector_writer){0};
}
