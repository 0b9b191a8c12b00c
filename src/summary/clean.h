/* SPDX-License-Identifier: Apache-2.0
 *
 * From what a model wrote to a summary of one or two sentences: no prompt echo, no code, no
 * markup, no repetition, no half sentence. Pure: equal input gives equal output. It cannot know
 * whether a sentence is true.
 */
#ifndef KVERN_SUMMARY_CLEAN_H
#define KVERN_SUMMARY_CLEAN_H

#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>

/* CLEAN_VERSION: of the rules, for whoever keeps what came of them. */
enum { CLEAN_MAX_SENTENCES = 2, CLEAN_MAX_BYTES = 400, CLEAN_VERSION = 2 };

struct clean_options {
    const char *prompt; /* the instruction, whose lines are echoes; NULL: none */
    const char *source; /* [n_source] the code, whose lines are echoes; NULL: none */
    size_t n_source;    /* bytes */
    bool is_finished; /* the model ended by itself: a last sentence without a full stop is whole */
    size_t max_sentences; /* 0: CLEAN_MAX_SENTENCES */
    size_t max_bytes; /* taken as 16 at least; 0: CLEAN_MAX_BYTES. Longer sentences go, or end in
                         "..." */
};

/* The reasons of halves. */
extern const char CLEAN_ENDED_EARLY[], CLEAN_TOO_LONG[];

struct cleaned {
    char *summary;      /* one line of valid UTF-8, owned; NULL: there is none */
    const char *reason; /* why there is none, or what was cut; static; NULL: nothing to say */
    bool is_half;       /* the summary is no whole sentence: it ends in "..." */
};

/* KVERN_OK with summary or reason or both; KVERN_MEMORY. */
kvern_status clean_summary(const char *answer, size_t n_bytes, const struct clean_options *options,
                           struct cleaned *cleaned, kvern_error *err);
void clean_clear(struct cleaned *cleaned);

/* What ends an answer early: the model begins a new turn or an example of its own. `*n` strings for
 * kvern_request_options.stop. */
const char *const *clean_stop_strings(size_t *n);

#endif
