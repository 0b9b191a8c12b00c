/* SPDX-License-Identifier: Apache-2.0
 *
 * The texts of one embed run, one after another: from arguments, files, JSON Lines and plain lines.
 * Only the present one is in memory, so that a file of a million lines is read as it is used.
 */
#ifndef KVERN_CLI_TEXTS_H
#define KVERN_CLI_TEXTS_H

#include "cli/lines.h"
#include "cli/options.h"
#include "kvern.h"

#include <jansson.h>

struct texts {
    /* where they come from, in this order; "-" is stdin */
    struct positionals arguments;
    struct option_list files; /* each a text, its path the id */
    const char *jsonl;        /* a line {"id", "text"} or a string; NULL: none */
    const char *lines;        /* a line a text; NULL: none */
    /* where the reading is */
    size_t n_sources_done;
    size_t n_texts; /* the number of the next one, its id unless it has one */
    struct lines stream;
    bool is_reading; /* the stream is open */
};

struct text {
    json_t *id; /* owned */
    char *text; /* owned, [n_bytes] and a NUL; NULL: it cannot be read */
    size_t n_bytes;
    kvern_error error; /* why, then */
};

/* *has_text false: there are no more. A text that cannot be read alone (a bad line) is one with its
 * error; what fails here is a source that cannot be read. */
kvern_status texts_next(struct texts *texts, struct text *text, bool *has_text, kvern_error *err);
void text_clear(struct text *text);
void texts_close(struct texts *texts);
/* How many there will be, blank lines counted; 0 if that cannot be known before. */
size_t texts_count(const struct texts *texts);

#endif
