/* SPDX-License-Identifier: Apache-2.0
 *
 * The prompts of a generate run that are on their way, in input order: waiting for the engine,
 * running, or done and waiting for their turn. Only so many are there at once, whatever the number
 * of prompts; a prompt that cannot run is done with its error, and stops no other.
 */
#ifndef KVERN_CLI_JOBS_H
#define KVERN_CLI_JOBS_H

#include "base/buffer.h"
#include "cli/prompts.h"
#include "kvern.h"

struct job {
    struct prompt prompt; /* tokens and fields go once the engine has them */
    char *key;            /* owned: id_key of its id; NULL where nobody asks */
    uint64_t fingerprint;
    kvern_request *request; /* owned; NULL: not submitted yet, or done */
    struct buffer text;     /* so far */
    json_t *logprobs;       /* on_event's to fill; owned */
    kvern_event event;      /* the last one, without what it pointed to; finish NONE: not done */
};

/* Sees each event as it comes, the last one included. */
typedef kvern_status (*job_event_fn)(struct job *job, const kvern_event *event, void *data,
                                     kvern_error *err);

struct jobs {
    kvern_engine *engine;  /* borrowed */
    job_event_fn on_event; /* may be NULL */
    void *on_event_data;
    struct job **items; /* [n], owned, in the order they were added */
    size_t n;
    size_t capacity;
    size_t n_in_engine;
    bool is_cancelled;
};

/* There is room to read another prompt. */
bool jobs_have_room(const struct jobs *jobs);
/* A new one at the end, with its prompt empty: the caller fills it before jobs_submit(). */
struct job *jobs_add(struct jobs *jobs, const struct prompt_settings *settings);
/* The job is done with this error; it was not submitted. */
void job_refuse(struct job *job, const kvern_error *error);
/* Gives the engine what it takes now. An error is the engine's own, not a prompt's. */
kvern_status jobs_submit(struct jobs *jobs, kvern_error *err);
/* Takes what came; if nothing did, waits up to timeout_ms for the oldest. */
kvern_status jobs_poll(struct jobs *jobs, int timeout_ms, kvern_error *err);
/* One that is done, the caller's from now on; `is_ordered`: only if all before it were taken. NULL:
 * none. */
struct job *jobs_take(struct jobs *jobs, bool is_ordered);
/* Those that are done and not taken. */
size_t jobs_count_done(const struct jobs *jobs);
/* What runs ends soon, and what was not submitted at once, as cancelled. */
void jobs_cancel(struct jobs *jobs);
void job_free(struct job *job);
/* To be called before the engine is closed. */
void jobs_clear(struct jobs *jobs);

#endif
