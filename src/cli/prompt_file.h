/* SPDX-License-Identifier: Apache-2.0
 *
 * The lines of generate --prompts as they are used: only the present one is in memory, and of those
 * before it their ids. Every line has an id of its own, and a fingerprint of what it asks for, by
 * which a result is known to be still its answer.
 */
#ifndef KVERN_CLI_PROMPT_FILE_H
#define KVERN_CLI_PROMPT_FILE_H

#include "base/map.h"
#include "cli/lines.h"
#include "cli/results_file.h"

struct prompt_file {
    struct lines lines;
    struct map ids;                     /* id_key -> number of its line */
    const struct results_file *results; /* borrowed; NULL: nothing is done yet */
    uint64_t seed;                      /* what else a fingerprint depends on: model, options */
    size_t n_prompts;                   /* lines so far, blank ones left out */
    size_t n_done;                      /* of them have their result */
    size_t n_changed; /* of them have a result of another prompt or other options */
};

struct prompt_line {
    json_t *id;     /* owned: the line's "id", or how many lines were before it */
    char *key;      /* owned: id_key of it */
    json_t *fields; /* owned; NULL: it is not JSON */
    uint64_t fingerprint;
    bool is_done;      /* it has its result */
    kvern_error error; /* why it has no fields; begins with the line's number */
};

kvern_status prompt_file_open(struct prompt_file *file, const char *path, uint64_t seed,
                              const struct results_file *results, kvern_error *err);
/* *has_line false: there are no more. A line that is not JSON is one with its error; what fails
 * here is a file that cannot be read, or an id that stands in two lines. timeout_ms and
 * KVERN_TIMEOUT as in lines_next(). */
kvern_status prompt_file_next(struct prompt_file *file, int timeout_ms, struct prompt_line *line,
                              bool *has_line, kvern_error *err);
void prompt_line_clear(struct prompt_line *line);
/* Zeroed is fine. */
void prompt_file_close(struct prompt_file *file);

/* Reads all of it before anything runs, if it is a file that can be read twice: its counts, and
 * the errors of ids. A pipe gives zeros. */
kvern_status prompt_file_scan(const char *path, uint64_t seed, const struct results_file *results,
                              struct prompt_file *counts, kvern_error *err);

#endif
