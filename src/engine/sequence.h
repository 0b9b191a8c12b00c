/* SPDX-License-Identifier: Apache-2.0
 *
 * One request's tokens and how far they are computed: what the scheduler and the batch see of a
 * request. Pure data. Invariant: n_computed <= n_tokens <= capacity, and the KV of the first
 * n_computed tokens, but those that slid out of the window, is in the blocks of `table`.
 */
#ifndef KVERN_ENGINE_SEQUENCE_H
#define KVERN_ENGINE_SEQUENCE_H

#include "engine/kv_blocks.h"

enum sequence_state {
    SEQUENCE_NEW, /* in no list */
    SEQUENCE_WAITING,
    SEQUENCE_RUNNING,
};

/* A window that slides over a sequence, in KV blocks. A token sees the sinks and the blocks before
 * its own, in all n_blocks with its own. Blocks slide out where a new one begins: so what a token
 * sees is settled by its position alone. Zeroed: no window. */
struct sequence_window {
    size_t n_blocks; /* 0: off */
    size_t n_sinks;  /* at most n_blocks - 2 */
};

/* Blocks that have slid out of the window when n_tokens are computed. */
size_t sequence_window_dropped(const struct sequence_window *window, size_t n_tokens);

struct sequence {
    int32_t *tokens; /* [n_tokens]: the prompt, then what was generated; owned */
    size_t n_tokens;
    size_t n_prompt;
    size_t n_source; /* of a seq2seq model: what the encoder reads, whole, in one step. It stands
                        first in `tokens`, padded to whole KV blocks, which hold what the decoder
                        attends to; its own tokens follow. 0: none */
    size_t capacity; /* n_prompt + the most tokens it may generate */
    size_t n_computed;
    struct kv_table table;
    struct sequence_window window;
    uint64_t conversation;   /* 0: none; see kept_kv.h */
    bool is_foreign;         /* its KV came from outside: nobody else may take it over */
    size_t n_cached;         /* tokens whose KV was there already when it was first admitted */
    size_t n_shown;          /* tokens whose rows were read: not again after pre-emption */
    struct prefix_key root;  /* where its chain in the prefix cache begins */
    struct prefix_key key;   /* after its first n_remembered blocks */
    size_t n_remembered;     /* blocks the prefix cache was told of, or gave */
    struct sequence *leader; /* its prompt is this one's, and is to be taken over when it is
                                computed; NULL: none */
    size_t n_followers;      /* sequences whose leader it is */
    int32_t priority;        /* larger goes first */
    uint64_t arrival;        /* counts sequences */
    uint32_t n_overtaken;    /* by later arrivals: of a higher priority, or while it waited for a
                                beginning that another one was running */
    uint32_t n_preempted;
    bool is_beam;     /* its leader is admitted with all who follow it, who have nothing to run
                         then; each one's tokens may become another's */
    bool is_held;     /* of a beam: it waits for the others, and is neither admitted nor planned */
    bool has_started; /* was admitted before */
    bool wants_all_rows; /* what it reads, it reads of every prompt position */
    bool wants_hidden;   /* it reads hidden states, not logits, and generates nothing */
    enum sequence_state state;
    struct sequence *previous; /* in the scheduler's list */
    struct sequence *next;
};

/* Copies the prompt. max_tokens: the most it may generate, at least 1. */
kvern_status sequence_init(struct sequence *sequence, const int32_t *prompt, size_t n_prompt,
                           size_t max_tokens, kvern_error *err);
/* Its blocks must have been released. Fine on a zeroed one. */
void sequence_clear(struct sequence *sequence);
void sequence_append(struct sequence *sequence, int32_t token);
size_t sequence_n_generated(const struct sequence *sequence);
/* Positions of KV it needs at most: the last token it generates is never run. */
size_t sequence_max_positions(size_t n_prompt, size_t max_tokens);
/* Tokens before the decoder's own: its source, padded. */
size_t sequence_n_source_slots(const struct sequence *sequence);
/* Its next step runs the source. */
bool sequence_is_encoding(const struct sequence *sequence);
/* Tokens its KV blocks hold when n_tokens are computed. */
size_t sequence_n_held(const struct sequence *sequence, size_t n_tokens);
/* Its next step runs one generated token. */
bool sequence_is_decoding(const struct sequence *sequence);

/* A list of sequences; zeroed is empty. It owns none of them. */
struct sequence_list {
    struct sequence *first;
    struct sequence *last;
    size_t n;
};

void sequence_list_append(struct sequence_list *list, struct sequence *sequence);
/* Puts it before `next`, which is in the list; NULL: at the end. */
void sequence_list_insert(struct sequence_list *list, struct sequence *sequence,
                          struct sequence *next);
void sequence_list_remove(struct sequence_list *list, struct sequence *sequence);

#endif
