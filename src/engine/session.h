/* SPDX-License-Identifier: Apache-2.0
 *
 * struct kvern_session: a named sequence that outlives its requests. The tokens are the truth; the
 * KV that the engine keeps under the session's conversation number is a cache of them, which the
 * engine may drop: then they run again, with the same bytes as before.
 */
#ifndef KVERN_ENGINE_SESSION_H
#define KVERN_ENGINE_SESSION_H

#include "engine/embedding.h"
#include "engine/request.h"
#include "engine/sequence.h"
#include "kvern.h"

enum { SESSION_MAX_MARKS = 16 };

/* A vector the session gave, and where. */
struct session_mark {
    size_t position;
    float *values; /* [n_values], owned */
    size_t n_values;
};

struct kvern_session {
    kvern_engine *engine;          /* borrowed */
    const kvern_model *model;      /* borrowed */
    kvern_session_options options; /* resolved: nothing is left to a default */
    struct embedding_shape shape;
    struct sequence_window window; /* zeroed but for a window that slides */
    size_t max_context;
    uint64_t conversation;
    struct stop stop;
    int32_t *tokens; /* [n_tokens], owned */
    size_t n_tokens;
    size_t capacity;
    size_t n_before;   /* tokens before a generation that is not finished */
    size_t n_left_out; /* by it */
    struct session_mark marks[SESSION_MAX_MARKS]; /* [n_marks], the last one newest */
    size_t n_marks;
};

/* Room for n_tokens tokens. */
kvern_status session_reserve(kvern_session *session, size_t n_tokens, kvern_error *err);
/* Remembers a vector, which is taken over; the oldest is forgotten when there is no room. */
void session_add_mark(kvern_session *session, struct session_mark mark);

#endif
