/* SPDX-License-Identifier: Apache-2.0
 *
 * The prompts of a generate run that are on their way, in input order: waiting for the engine,
 * running, or done and waiting for their turn. Each has one answer or more, all submitted at once,
 * and is done when they all are. Only so many are there at once, whatever the number of prompts; a
 * prompt that cannot run is done with its error, and stops no other.
 */
#ifndef KVERN_CLI_JOBS_H
#define KVERN_CLI_JOBS_H

#include "base/buffer.h"
#include "cli/prompts.h"
#include "kvern.h"

struct answer {
    kvern_request *request; /* owned; NULL: done */
    struct buffer text;     /* so far */
    json_t *logprobs;       /* on_event's to fill; owned */
    kvern_event event;      /* the last one, without what it pointed to; finish NONE: not done */
};

struct job {
    struct prompt prompt; /* only its id stays once the engine has it */
    char *key;            /* owned: id_key of its id; NULL where nobody asks */
    uint64_t fingerprint;
    struct answer *answers; /* [n_answers], owned */
    size_t n_answers;       /* 0: neither submitted nor done; else as many as were asked for */
    size_t n_done;          /* of them */
};

/* Sees each event as it comes, the last one included. */
typedef kvern_status (*job_event_fn)(struct answer *answer, const kvern_event *event, void *data,
                                     kvern_error *err);

struct jobs {
    kvern_engine *engine;  /* borrowed */
    job_event_fn on_event; /* may be NULL */
    void *on_event_data;
    struct job **items; /* [n], owned, in the order they were added */
    size_t n;
    size_t capacity;
    size_t n_answers;   /* of all of them that have some */
    size_t n_in_engine; /* answers */
    bool is_cancelled;
};

/* There is room to read another prompt. */
bool jobs_have_room(const struct jobs *jobs);
/* A new one at the end, with its prompt empty: the caller fills it before jobs_submit(). */
struct job *jobs_add(struct jobs *jobs, const struct prompt_settings *settings);
/* The job is done, each of its answers with this error; it was not submitted. */
void jobs_refuse(struct jobs *jobs, struct job *job, const kvern_error *error);
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
