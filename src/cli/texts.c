/* SPDX-License-Identifier: Apache-2.0
 *
 * struct texts: sources are numbered through, arguments first; the one being read is the first not
 * done.
 */
#include "cli/texts.h"

#include "base/buffer.h"
#include "base/error.h"
#include "cli/command.h"
#include "cli/interrupt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void text_clear(struct text *text)
{
    json_decref(text->id);
    free(text->text);
    *text = (struct text){0};
}

/* Takes the memory at `bytes`. A NUL would end the text early where others look at it. */
static void set_text(struct text *text, char *bytes, size_t n_bytes)
{
    const char *nul = memchr(bytes, '\0', n_bytes);

    text->text = bytes;
    text->n_bytes = n_bytes;
    if (!nul)
        return;
    fail(&text->error, KVERN_INVALID, "not text: byte %zu is NUL", (size_t)(nul - bytes));
    free(text->text);
    text->text = NULL;
}

static kvern_status copy_text(struct text *text, const char *bytes, size_t n_bytes,
                              kvern_error *err)
{
    char *copy = malloc(n_bytes + 1);

    if (!copy)
        return fail(err, KVERN_MEMORY, "out of memory for a text of %zu bytes", n_bytes);
    memcpy(copy, bytes, n_bytes);
    copy[n_bytes] = '\0';
    set_text(text, copy, n_bytes);
    return KVERN_OK;
}

static kvern_status read_whole(const char *path, struct text *text, kvern_error *err)
{
    char *bytes = NULL;
    size_t n_bytes = 0;
    kvern_status status = read_input(path, &bytes, &n_bytes, err);

    if (status == KVERN_OK)
        set_text(text, bytes, n_bytes);
    if (status == KVERN_OK && !text->text)
        fail_in(&text->error, text->error.status, "%s", shown_path(path));
    return status;
}

/* One of many files that cannot be read fails alone. */
static kvern_status read_file(const char *path, struct text *text, kvern_error *err)
{
    kvern_error problem = {0};
    kvern_status status = read_whole(path, text, &problem);

    if (status == KVERN_CANCELLED || status == KVERN_MEMORY)
        return fail(err, status, "%s", problem.message);
    if (status != KVERN_OK)
        text->error = problem;
    return KVERN_OK;
}

static kvern_status parse_line(struct text *text, const char *line, size_t n_bytes,
                               kvern_error *err)
{
    json_error_t problem;
    json_t *value = json_loadb(line, n_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
    const json_t *member = value;
    json_t *id = json_object_get(value, "id");
    kvern_status status = KVERN_OK;

    if (json_is_object(value)) {
        member = json_object_get(value, "text");
        if (!member)
            member = json_object_get(value, "input");
    }
    if (id) {
        json_decref(text->id);
        text->id = json_incref(id);
    }
    if (!value)
        fail(&text->error, KVERN_FORMAT, "not JSON: %s", problem.text);
    else if (!json_is_string(member))
        fail(&text->error, KVERN_INVALID,
             "needs a string, or an object with the string \"text\" (or \"input\")");
    else
        status = copy_text(text, json_string_value(member), json_string_length(member), err);
    json_decref(value);
    return status;
}

static kvern_status next_line(struct texts *texts, const char *path, bool is_json,
                              struct text *text, bool *has_text, kvern_error *err)
{
    char *line = NULL;
    size_t n_bytes = 0;
    kvern_status status = KVERN_OK;

    if (!texts->is_reading) {
        status = lines_open(&texts->stream, path, err);
        texts->is_reading = status == KVERN_OK;
    }
    if (status == KVERN_OK)
        status = lines_next(&texts->stream, -1, &line, &n_bytes, err);
    *has_text = status == KVERN_OK && line;
    if (*has_text) {
        status =
            is_json ? parse_line(text, line, n_bytes, err) : copy_text(text, line, n_bytes, err);
        if (text->error.status != KVERN_OK)
            fail_in(&text->error, text->error.status, "%s line %zu", shown_path(path),
                    texts->stream.number);
    }
    if (status != KVERN_OK || !*has_text)
        texts_close(texts);
    return status;
}

/* From the first source that is not done; *has_text false: it has no more. */
static kvern_status next_of_source(struct texts *texts, struct text *text, bool *has_text,
                                   kvern_error *err)
{
    size_t i = texts->n_sources_done;

    *has_text = true;
    if (i < texts->arguments.n) {
        const char *argument = texts->arguments.items[i];

        texts->n_sources_done++;
        return strcmp(argument, "-") == 0 ? read_whole("-", text, err)
                                          : copy_text(text, argument, strlen(argument), err);
    }
    i -= texts->arguments.n;
    if (i < texts->files.n) {
        json_t *id = json_string(texts->files.items[i]);

        texts->n_sources_done++;
        if (id) { /* a path need not be UTF-8: then its number is the id */
            json_decref(text->id);
            text->id = id;
        }
        return read_file(texts->files.items[i], text, err);
    }
    i -= texts->files.n;
    const char *path = i == 0 ? texts->jsonl : texts->lines;
    *has_text = false;
    if (path)
        return next_line(texts, path, i == 0, text, has_text, err);
    return KVERN_OK;
}

kvern_status texts_next(struct texts *texts, struct text *text, bool *has_text, kvern_error *err)
{
    size_t n_sources = texts->arguments.n + texts->files.n + 2;
    kvern_status status = KVERN_OK;

    *text = (struct text){.id = json_integer((json_int_t)texts->n_texts)};
    *has_text = false;
    while (status == KVERN_OK && !*has_text && texts->n_sources_done < n_sources) {
        status = next_of_source(texts, text, has_text, err);
        if (!*has_text)
            texts->n_sources_done++;
    }
    if (status == KVERN_OK && *has_text)
        texts->n_texts++;
    else
        text_clear(text);
    return status;
}

void texts_close(struct texts *texts)
{
    if (texts->is_reading)
        lines_close(&texts->stream);
    texts->is_reading = false;
}

/* Lines of a regular file; false if it is none. */
static bool count_lines_of(const char *path, size_t *n_lines)
{
    char chunk[1 << 16];
    struct stat info;
    char last = '\n';
    size_t n;

    if (strcmp(path, "-") == 0 || stat(path, &info) != 0 || !S_ISREG(info.st_mode))
        return false;
    FILE *stream = fopen(path, "rb");
    if (!stream)
        return false;
    while ((n = fread(chunk, 1, sizeof chunk, stream)) > 0) {
        for (const char *at = chunk; (at = memchr(at, '\n', (size_t)(chunk + n - at))); at++)
            ++*n_lines;
        last = chunk[n - 1];
    }
    fclose(stream);
    *n_lines += last != '\n';
    return true;
}

size_t texts_count(const struct texts *texts)
{
    size_t n = texts->arguments.n + texts->files.n;

    if (texts->jsonl && !count_lines_of(texts->jsonl, &n))
        return 0;
    if (texts->lines && !count_lines_of(texts->lines, &n))
        return 0;
    return n;
}
