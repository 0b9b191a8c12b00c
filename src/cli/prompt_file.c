/* SPDX-License-Identifier: Apache-2.0
 *
 * struct prompt_file: a fingerprint is a hash of the line's fields without its id, in an order of
 * their own, so that a file written anew by another program still fits its results.
 */
#include "cli/prompt_file.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

static const int SCAN_TIMEOUT_MS = -1;

kvern_status prompt_file_open(struct prompt_file *file, const char *path, uint64_t seed,
                              const struct results_file *results, kvern_error *err)
{
    *file = (struct prompt_file){.results = results, .seed = seed};
    return lines_open(&file->lines, path, err);
}

void prompt_file_close(struct prompt_file *file)
{
    lines_close(&file->lines);
    map_clear(&file->ids);
}

void prompt_line_clear(struct prompt_line *line)
{
    json_decref(line->id);
    json_decref(line->fields);
    free(line->key);
    *line = (struct prompt_line){0};
}

/* `fields` NULL: the bytes of the line as they are. 0: no memory. */
static uint64_t fingerprint_of(const json_t *fields, const char *bytes, size_t n_bytes,
                               uint64_t seed)
{
    json_t *rest = json_is_object(fields) ? json_copy((json_t *)fields) : NULL;
    uint64_t fingerprint = 0;

    if (!rest)
        return XXH3_64bits_withSeed(bytes, n_bytes, seed);
    json_object_del(rest, "id");
    char *text = json_dumps(rest, JSON_COMPACT | JSON_SORT_KEYS);
    if (text)
        fingerprint = XXH3_64bits_withSeed(text, strlen(text), seed);
    free(text);
    json_decref(rest);
    return fingerprint;
}

/* Ids tell results apart, so each may stand in one line only. */
static kvern_status note_id(struct prompt_file *file, const char *key, kvern_error *err)
{
    uint32_t earlier;

    if (map_get(&file->ids, key, strlen(key), &earlier))
        return fail(err, KVERN_INVALID, "lines %u and %zu of %s have the same id %.64s", earlier,
                    file->lines.number, shown_path(file->lines.path), key);
    if (file->lines.number > UINT32_MAX ||
        !map_put(&file->ids, key, strlen(key), (uint32_t)file->lines.number))
        return fail(err, KVERN_MEMORY, "out of memory for the ids of %zu prompts", file->n_prompts);
    return KVERN_OK;
}

static void find_result(struct prompt_file *file, struct prompt_line *line)
{
    const struct result_line *result =
        file->results ? results_file_find(file->results, line->key) : NULL;

    if (!result)
        return;
    line->is_done = result->fingerprint == line->fingerprint && !result->is_failure;
    file->n_done += line->is_done;
    file->n_changed += result->fingerprint != line->fingerprint;
}

kvern_status prompt_file_next(struct prompt_file *file, int timeout_ms, struct prompt_line *line,
                              bool *has_line, kvern_error *err)
{
    char *bytes = NULL;
    size_t n_bytes = 0;
    json_error_t problem;
    kvern_status status = lines_next(&file->lines, timeout_ms, &bytes, &n_bytes, err);

    *line = (struct prompt_line){0};
    *has_line = status == KVERN_OK && bytes;
    if (!*has_line)
        return status;
    line->fields = json_loadb(bytes, n_bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!line->fields)
        fail(&line->error, KVERN_FORMAT, "line %zu: not JSON: %s", file->lines.number,
             problem.text);
    json_t *id = json_object_get(line->fields, "id");
    line->id = id ? json_incref(id) : json_integer((json_int_t)file->n_prompts);
    line->key = id_key(line->id);
    line->fingerprint = fingerprint_of(line->fields, bytes, n_bytes, file->seed);
    status = line->key ? note_id(file, line->key, err)
                       : fail(err, KVERN_MEMORY, "out of memory for the id of a prompt");
    if (status == KVERN_OK) {
        file->n_prompts++;
        find_result(file, line);
    } else {
        prompt_line_clear(line);
    }
    return status;
}

kvern_status prompt_file_scan(const char *path, uint64_t seed, const struct results_file *results,
                              struct prompt_file *counts, kvern_error *err)
{
    struct prompt_line line;
    struct stat info;
    bool has_line = true;

    *counts = (struct prompt_file){0};
    if (strcmp(path, "-") == 0 || stat(path, &info) != 0 || !S_ISREG(info.st_mode))
        return KVERN_OK;
    kvern_status status = prompt_file_open(counts, path, seed, results, err);
    while (status == KVERN_OK && has_line) {
        status = prompt_file_next(counts, SCAN_TIMEOUT_MS, &line, &has_line, err);
        if (status == KVERN_OK && has_line)
            prompt_line_clear(&line);
    }
    prompt_file_close(counts);
    return status;
}
