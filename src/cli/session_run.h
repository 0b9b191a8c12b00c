/* SPDX-License-Identifier: Apache-2.0
 *
 * Work on a stored session: opened under its lock, changed, saved. One command is one change: it is
 * all there afterwards, or nothing of it.
 */
#ifndef KVERN_CLI_SESSION_RUN_H
#define KVERN_CLI_SESSION_RUN_H

#include "cli/command.h"
#include "cli/session_store.h"
#include "cli/texts.h"
#include "cli/vectors.h"

struct session_run {
    struct session_record record;
    struct session_lock lock;
    kvern_model *model;
    kvern_engine *engine;
    kvern_session *session;
};

/* Takes the lock and opens the session with its model; `flags` gives threads, KV memory and
 * provider. Closed with session_run_close also if it failed. */
kvern_status session_run_open(struct session_run *run, const char *name,
                              const struct engine_flags *flags, kvern_error *err);
/* Writes the session as it is now, and when and how long it is into its record. */
kvern_status session_run_save(struct session_run *run, kvern_error *err);
void session_run_close(struct session_run *run);

/* The text's tokens as they are appended: the model's special ones only at the very beginning. */
kvern_status session_tokenize(const struct session_run *run, bool is_first, const char *text,
                              size_t n_bytes, kvern_tokens *tokens, kvern_error *err);
/* An object of "context_length", "tokens_run", "tokens_reused", "drift" and, where they are not
 * zero, "left_out"; "tokenizer" for bytes. NULL if memory ran out. */
json_t *answer_json(const struct session_run *run, const kvern_session_answer *answer);
/* The same for people: a line. */
void print_answer(FILE *stream, const kvern_session_answer *answer);
/* On stderr, if something was. */
void tell_left_out(const kvern_session_answer *answer);

/* Appends each text in turn and writes a vector for each, once all of it is saved; without any
 * source of texts, the vector of the context as it is. Returns the exit status. */
int embed_in_session(const char *name, const struct engine_flags *flags, struct texts *texts,
                     const struct vector_flags *out);

#endif
