/* SPDX-License-Identifier: Apache-2.0
 *
 * A request: what its caller asked for, its sequence, and the way its answer goes back. From submit
 * to the final delivery everything but is_cancelled and the reader's part belongs to whoever holds
 * the engine's mutex; the final delivery hands all of it back, and the engine does not touch it
 * again.
 */
#ifndef KVERN_ENGINE_REQUEST_H
#define KVERN_ENGINE_REQUEST_H

#include "base/queue.h"
#include "engine/pooling.h"
#include "engine/sampler.h"
#include "engine/sampling.h"
#include "engine/sequence.h"
#include "engine/stop_filter.h"
#include "engine/text_decoder.h"

#include <stdatomic.h>

/* What the engine hands to the reader: at most one token. */
struct delivery {
    struct queue_item item;
    struct buffer text;
    size_t n_tokens; /* 0 or 1 */
    int32_t token;
    kvern_finish finish;
    size_t n_prompt_tokens;
    size_t n_completion_tokens;
    size_t n_cached_tokens;
    double wait_ms;
    double prefill_ms;
    double decode_ms;
    float logprob;                /* with a token and logprobs */
    kvern_logprob top_logprobs[]; /* [request->n_top_logprobs] likewise */
};

void delivery_free(struct delivery *delivery);

struct beam_group;

struct kvern_request {
    struct sequence sequence;
    kvern_sampling sampling; /* owned, by sampling_init() */
    size_t min_tokens;
    int32_t *end_ids; /* [n_end_ids]: end tokens that count, and stop tokens */
    size_t n_end_ids;
    kvern_logprobs logprobs_kind;
    size_t n_top_logprobs;
    struct picked_logprobs { /* of the token just picked */
        float logprob;
        kvern_logprob top[MAX_TOP_LOGPROBS]; /* [n_top_logprobs] */
    } picked;
    bool score_prompt;
    bool all_logits;
    kvern_logits_fn on_logits;
    void *on_logits_data;
    size_t vocab_size;
    size_t n_prompt;        /* the sequence's, for readers after its end */
    float *prompt_logprobs; /* [n_prompt - 1] with score_prompt */
    bool is_embedding;
    struct pooling pooling;   /* with is_embedding */
    struct beam_group *beams; /* it is one beam of their search; NULL: of none */
    bool has_score;
    float score; /* of its answer, with beams */
    struct text_decoder decoder;
    struct stop_filter stop_filter;
    double submitted_ms;
    double started_ms;     /* of its first step; 0: none yet */
    double first_token_ms; /* 0: none yet */
    kvern_error error;
    double deadline_ms;   /* on clock_ms(); 0: none */
    kvern_engine *engine; /* held; NULL: none */
    atomic_bool is_cancelled;
    struct queue deliveries; /* from the engine to the reader */
    /* the reader's */
    struct buffer text;
    int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;
    size_t token_capacity;
    float *logprobs;             /* [n_tokens] with logprobs */
    kvern_logprob *top_logprobs; /* [n_tokens, n_top_logprobs] */
    size_t logprob_capacity;     /* of both, in tokens */
    int32_t *generated;          /* [n_generated]: all tokens seen so far */
    size_t n_generated;
    size_t generated_capacity;
    kvern_event last; /* the last event, once is_over */
    bool is_over;
};

/* What a request needs to know of the model it runs on. */
struct request_model {
    size_t vocab_size;
    const int32_t *end_tokens; /* [n_end_tokens]: end an answer unless it ignores them */
    size_t n_end_tokens;
    bool has_no_logits;
    bool pools_itself;
    size_t hidden_size;                     /* 0: it gives no hidden states */
    bool is_seq2seq;                        /* the prompt is a source; answers begin with: */
    int32_t decoder_start;                  /* this token */
    kvern_pooling pooling;                  /* what KVERN_POOLING_MODEL stands for */
    const struct text_decoder_maker *maker; /* NULL: no text */
};

/* Checks and copies the options; max_tokens is settled by the caller (at least 1). */
kvern_status request_new(kvern_request **out, const kvern_request_options *options,
                         size_t max_tokens, const struct request_model *model, kvern_error *err);
/* Frees one that no engine holds. */
void request_free(kvern_request *request);
/* The request a sequence belongs to. */
kvern_request *request_of(struct sequence *sequence);

/* Whom a call that waits asks whether to end; zeroed: nobody. One for each call. */
struct stop {
    kvern_stop_fn fn;
    void *data;
    bool was_asked; /* fn said so; it is not called again */
};

bool stop_is_asked(struct stop *stop);

/* Reads the request to its last event, and cancels it when that is asked. One that failed or was
 * cancelled gives that as an error. */
kvern_status request_wait(kvern_request *request, struct stop *stop, kvern_event *event,
                          kvern_error *err);
/* The engine was closed before it ended: nothing may be asked of that any more. */
bool request_saw_engine_end(const kvern_request *request);

/* The rest is called on the engine's thread, but for request_finish(): there, or with its mutex. */

/* Before a step that it takes part in. */
void request_start(kvern_request *request);
/* Scores and shows logits [n_rows, vocab_size] of the last n_rows of the tokens computed so far.
 * KVERN_RUNTIME: logits are not finite. */
kvern_status request_see_logits(kvern_request *request, const float *logits, size_t n_rows,
                                size_t vocab_size, kvern_error *err);
/* Pools hidden states [n_rows, row_size], or logits if its pooling reads those, of the last n_rows
 * of the tokens computed so far. For anything but KVERN_FINISH_NONE see request_add_token(). */
kvern_finish request_pool(kvern_request *request, const float *rows, size_t n_rows,
                          size_t row_size);
/* Chooses the token that follows the sequence's last from its row of logits [vocab_size].
 * KVERN_RUNTIME: logits are not finite. */
kvern_status request_pick(kvern_request *request, struct sampler *sampler, const float *logits,
                          int32_t *token, kvern_error *err);
/* Appends the token just picked to the sequence and delivers it with the text it completes; end
 * tokens and stop tokens give no text. For anything but KVERN_FINISH_NONE the engine releases its
 * blocks and calls request_finish() with it. */
kvern_finish request_add_token(kvern_request *request, int32_t token);
/* What a beam search chooses from: see sampler_log_softmax(). */
kvern_status request_log_softmax(const kvern_request *request, struct sampler *sampler,
                                 const float *logits, const float **log_probs, kvern_error *err);
/* Puts an answer in the place of what the sequence has generated, and delivers it whole. Never
 * KVERN_FINISH_NONE. */
kvern_finish request_add_answer(kvern_request *request, const int32_t *tokens, size_t n,
                                float score);
/* The final delivery. `error` replaces the request's own, if not NULL. Its blocks must have been
 * released. */
void request_finish(kvern_request *request, kvern_finish finish, const kvern_error *error);

#endif
