/* SPDX-License-Identifier: Apache-2.0
 *
 * Conversations in sessions. A record keeps the messages that the session's last tokens are of:
 * {"begin": position of the first token, "messages": [{"role", "content", "end"}]}; "end", of an
 * answer, is the position after it. What a turn adds makes the tokens those of all its messages
 * rendered at once; where the model's tokens of an answer are others, these are run again.
 */
#ifndef KVERN_CLI_SESSION_CHAT_H
#define KVERN_CLI_SESSION_CHAT_H

#include "cli/session_run.h"

/* One message on its way. Zeroed is fine to clear. */
struct chat_turn {
    json_t *chat;        /* owned: the conversation with the message */
    size_t begin;        /* where it begins in the session */
    kvern_tokens tokens; /* of all of it, and of the beginning of an answer */
    size_t n_kept;       /* of them, the session's already */
};

/* Whether the session stands at the end of its conversation's last answer. */
bool chat_goes_on(const struct session_run *run);

/* Takes the user's message [n_bytes] up, and the session back to the tokens that stay. Continues
 * the conversation that ends where the session does, or begins one there. `system` (may be NULL) is
 * for the first message only. `n_answer` tokens must fit in after it where the window policy would
 * leave out what does not. */
kvern_status chat_turn_open(struct chat_turn *turn, struct session_run *run, const char *system,
                            const char *message, size_t n_bytes, size_t n_answer, kvern_error *err);
/* The answer [n_bytes] is the session's now: puts the conversation into its record. */
kvern_status chat_turn_finish(struct chat_turn *turn, struct session_run *run, const char *answer,
                              size_t n_bytes, kvern_error *err);
void chat_turn_clear(struct chat_turn *turn);

/* Drops the messages after the last answer that ends at `position` or before; all of them: NULL. */
void chat_forget_after(json_t **chat, size_t position);

#endif
