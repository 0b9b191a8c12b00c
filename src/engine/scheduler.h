/* SPDX-License-Identifier: Apache-2.0
 *
 * Who runs in the next step, and how many tokens of each. Pure: it never sees a tensor, a thread or
 * a clock. First come, first served within a priority; a waiting sequence is overtaken by a bounded
 * number of later ones. No other sequence overtakes the first of the waiting ones, so a large
 * request does not starve behind small ones. Who begins as a prompt does that is running waits
 * until that has come so far, and takes over its blocks; that is no longer than it would take to
 * run them.
 *
 * A sequence is admitted when there are blocks for the tokens it has. When a running one needs
 * another block and there is none, the lowest of the running ones (by priority, then the newest)
 * gives up its blocks and waits to be computed again: so the highest always ends. Where a prompt's
 * chunks are fixed, recomputing would change bytes: there, admission waits for the worst case.
 *
 * Beams of one search are admitted together. One that is held for the others runs nothing, and
 * gives up its blocks when nobody else can run: so those it waits for run, and it waits for no
 * place.
 */
#ifndef KVERN_ENGINE_SCHEDULER_H
#define KVERN_ENGINE_SCHEDULER_H

#include "engine/kept_kv.h"
#include "engine/kv_blocks.h"
#include "engine/plan.h"
#include "engine/sequence.h"
#include "engine/source_wave.h"

enum {
    MOST_OVERTAKEN = 256, /* later arrivals that may go before a waiting sequence */
};

struct scheduler_limits {
    size_t step_tokens;    /* tokens of one step, at least 2: one decode and one prefill */
    size_t max_running;    /* sequences of one step, at least 1 */
    size_t max_context;    /* positions of one sequence */
    size_t prefill_chunk;  /* most prompt tokens of one sequence in a step; 0: step_tokens */
    size_t max_source;     /* slots of the longest source, which comes at once whatever the budget;
                              0: the model has none */
    size_t scoring_rows;   /* most logit rows a step gives to sequences that want all, at least 1 */
    bool has_fixed_chunks; /* a prompt is cut every prefill_chunk tokens, whatever runs beside it: a
                              step may pass its budget by one chunk */
    bool has_no_kv;        /* encoders: no blocks are taken */
    bool counts_blocks;    /* KV is not in the blocks: they only count it */
    bool has_no_prefix_cache;
    size_t prefix_cache_tokens; /* remembered of sequences that are gone; 0: as many as fit */
};

/* So far. */
struct scheduler_counts {
    size_t n_hits;         /* admissions that found tokens in the prefix cache */
    size_t n_saved_tokens; /* which they did not run */
    size_t n_preempted;
};

struct scheduler {
    struct scheduler_limits limits;
    struct kv_blocks blocks;
    struct kept_kv kept;          /* of conversations */
    struct kept_kv prompts;       /* of prompts, where KV is not in the blocks; see sharing.h */
    struct sequence_list waiting; /* in order of priority, then arrival */
    struct sequence_list running; /* prefilling ones likewise; decoding ones in turn */
    struct source_wave wave;
    struct scheduler_counts counts;
    uint64_t n_arrived;
    uint64_t n_prompts_kept;      /* so far; numbers them */
    size_t most_prefill;          /* prompt tokens of a step, at least 1: the engine's to change;
                                     SIZE_MAX at first, like the next */
    size_t prefill_beside_decode; /* most prompt tokens of a step that decodes too */
};

/* Refuses limits no step could work with. max_context in force is at most what the blocks hold. */
kvern_status scheduler_init(struct scheduler *scheduler, const struct scheduler_limits *limits,
                            size_t n_kv_blocks, kvern_error *err);
/* All sequences must have been removed. */
void scheduler_clear(struct scheduler *scheduler);

/* KVERN_LIMIT: no empty engine could run it either; the message names the limit. Reads constants
 * only: any thread. */
kvern_status scheduler_accepts(const struct scheduler *scheduler, size_t n_prompt,
                               size_t max_tokens, const struct sequence_window *window,
                               kvern_error *err);
/* Puts an accepted sequence among the waiting ones. Its leader, if it has one, is in the scheduler
 * and has the same prompt. */
void scheduler_add(struct scheduler *scheduler, struct sequence *sequence);
/* Takes it out of whichever list it is in and releases its blocks. */
void scheduler_remove(struct scheduler *scheduler, struct sequence *sequence);
/* The same for one that ended well: if it belongs to a conversation, its KV is kept for the next
 * request of it. */
void scheduler_retire(struct scheduler *scheduler, struct sequence *sequence);

/* After a step: n_tokens more of it are computed. Full blocks are remembered. */
void scheduler_advance(struct scheduler *scheduler, struct sequence *sequence, size_t n_tokens);

/* Sequences can give up their KV and be computed again to the same bytes. */
bool scheduler_can_preempt(const struct scheduler *scheduler);
/* Promises free blocks to a table; kept prompts, then idle conversations give up theirs for it, the
 * oldest first, if that can help. false: there are not that many. */
bool scheduler_promise(struct scheduler *scheduler, struct kv_table *table, size_t n_blocks);
/* The most tokens a step may have. */
size_t scheduler_max_step_tokens(const struct scheduler *scheduler);
/* Sees to the blocks of what runs, admits what fits, then shares the step's tokens: decoding
 * sequences first, one token each, but never out of the quarter that is kept for prefill while a
 * prompt is unfinished; then prompts, in order. Every sequence in the plan has its blocks. Not
 * empty as long as there is any sequence. */
void scheduler_plan(struct scheduler *scheduler, struct plan *plan);
/* kv_blocks_check() over the tables of all sequences. */
kvern_status scheduler_check(const struct scheduler *scheduler, kvern_error *err);

#endif
