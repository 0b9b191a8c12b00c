/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole conversation is rendered for each turn: a template may write what it likes about what
 * was said before. The session goes back to the last token that is the same, mostly its own last.
 */
#include "cli/session_chat.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The position after an answer; SIZE_MAX for messages without one. */
static size_t end_of(const json_t *message)
{
    const json_t *end = json_object_get(message, "end");
    json_int_t position = json_integer_value(end);

    return json_is_integer(end) && position >= 0 ? (size_t)position : SIZE_MAX;
}

void chat_forget_after(json_t **chat, size_t position)
{
    json_t *messages = json_object_get(*chat, "messages");
    size_t n = json_array_size(messages);

    while (n > 0 && end_of(json_array_get(messages, n - 1)) > position)
        json_array_remove(messages, --n);
    if (n > 0)
        return;
    json_decref(*chat);
    *chat = NULL;
}

/* Text as a JSON string: U+FFFD for each ill-formed byte, a blank for NUL. NULL without memory. */
static json_t *text_json(const char *text, size_t n_bytes)
{
    struct buffer valid = {0};
    json_t *json = NULL;

    for (size_t i = 0; i < n_bytes;) {
        uint32_t code_point;
        size_t n = utf8_decode(text + i, n_bytes - i, &code_point);

        buffer_add_code_point(&valid, code_point ? code_point : ' ');
        i += n ? n : 1;
    }
    if (!valid.has_failed)
        json = json_stringn(valid.data ? valid.data : "", valid.n_bytes);
    buffer_clear(&valid);
    return json;
}

static kvern_status add_message(struct chat_turn *turn, const char *role, const char *content,
                                size_t n_bytes, kvern_error *err)
{
    json_t *message = json_pack("{s:s s:o}", "role", role, "content", text_json(content, n_bytes));

    if (json_array_append_new(json_object_get(turn->chat, "messages"), message) != 0)
        return fail(err, KVERN_MEMORY, "out of memory for a message of %zu bytes", n_bytes);
    return KVERN_OK;
}

bool chat_goes_on(const struct session_run *run)
{
    const json_t *messages = json_object_get(run->record.chat, "messages");
    size_t n = json_array_size(messages);
    kvern_session_info info;

    kvern_session_get_info(run->session, &info);
    return n > 0 && end_of(json_array_get(messages, n - 1)) == info.position;
}

/* The record's conversation if it goes on, else a new one. */
static kvern_status take_up(struct chat_turn *turn, const struct session_run *run, kvern_error *err)
{
    kvern_session_info info;

    kvern_session_get_info(run->session, &info);
    turn->begin = info.position;
    if (chat_goes_on(run)) {
        json_int_t begin = json_integer_value(json_object_get(run->record.chat, "begin"));

        turn->chat = json_deep_copy(run->record.chat);
        turn->begin = begin >= 0 && (size_t)begin <= info.position ? (size_t)begin : info.position;
    } else {
        turn->chat = json_pack("{s:I s:[]}", "begin", (json_int_t)info.position, "messages");
        if (info.position > 0)
            fprintf(stderr,
                    "kvern: a new conversation begins at token %zu: what is before it is not the "
                    "end of a turn\n",
                    info.position);
    }
    return turn->chat ? KVERN_OK : fail(err, KVERN_MEMORY, "out of memory for a conversation");
}

/* The tokens of the conversation and of the beginning of an answer. */
static kvern_status render(struct chat_turn *turn, const struct session_run *run, kvern_error *err)
{
    const json_t *list = json_object_get(turn->chat, "messages");
    size_t n = json_array_size(list);
    kvern_message *messages = try_new(n, sizeof *messages);
    kvern_status status = KVERN_OK;

    if (!messages)
        return fail(err, KVERN_MEMORY, "out of memory for %zu messages", n);
    for (size_t i = 0; status == KVERN_OK && i < n; i++) {
        const json_t *message = json_array_get(list, i);

        messages[i].role = json_string_value(json_object_get(message, "role"));
        messages[i].content = json_string_value(json_object_get(message, "content"));
        if (!messages[i].role || !messages[i].content)
            status = fail(err, KVERN_FORMAT,
                          "the conversation of session '%s' is damaged: message %zu has no role or "
                          "no content; 'kvern session reset %s' empties it",
                          run->record.name, i, run->record.name);
    }
    if (status == KVERN_OK)
        status = kvern_chat_tokenize(run->model, messages, n, true, &turn->tokens, err);
    free(messages);
    return status;
}

/* Back to the last token that the conversation has in its place too. */
static kvern_status go_back(struct chat_turn *turn, struct session_run *run, kvern_error *err)
{
    size_t n_tokens;
    const int32_t *tokens = kvern_session_tokens(run->session, &n_tokens);
    size_t n_had = n_tokens - turn->begin;
    size_t n = 0;

    while (n < n_had && n < turn->tokens.n && tokens[turn->begin + n] == turn->tokens.ids[n])
        n++;
    turn->n_kept = n;
    return n < n_had ? kvern_session_rewind(run->session, turn->begin + n, err) : KVERN_OK;
}

kvern_status chat_turn_open(struct chat_turn *turn, struct session_run *run, const char *system,
                            const char *message, size_t n_bytes, size_t n_answer, kvern_error *err)
{
    kvern_model_info model;
    kvern_session_info info;

    *turn = (struct chat_turn){0};
    kvern_model_get_info(run->model, &model);
    kvern_session_get_info(run->session, &info);
    if (!model.has_chat_template)
        return fail(err, KVERN_UNSUPPORTED,
                    "model %s has no chat template: leave out --chat, and the text goes in as it "
                    "is",
                    model.name);
    kvern_status status = take_up(turn, run, err);
    if (status == KVERN_OK && system) {
        if (json_array_size(json_object_get(turn->chat, "messages")) > 0)
            return fail(err, KVERN_INVALID,
                        "--system goes with the first message of a conversation, and session '%s' "
                        "is in one; 'kvern session reset %s' empties it",
                        run->record.name, run->record.name);
        status = add_message(turn, "system", system, strlen(system), err);
    }
    if (status == KVERN_OK)
        status = add_message(turn, "user", message, n_bytes, err);
    if (status == KVERN_OK)
        status = render(turn, run, err);
    if (status == KVERN_OK && info.policy == KVERN_WINDOW_TRUNCATE &&
        turn->begin + turn->tokens.n + n_answer > info.max_context)
        status = fail(err, KVERN_LIMIT,
                      "%zu tokens of the conversation and %zu of an answer are over the context "
                      "limit of %zu, and a turn is not cut",
                      turn->begin + turn->tokens.n, n_answer, info.max_context);
    if (status == KVERN_OK)
        status = go_back(turn, run, err);
    return status;
}

kvern_status chat_turn_finish(struct chat_turn *turn, struct session_run *run, const char *answer,
                              size_t n_bytes, kvern_error *err)
{
    json_t *messages = json_object_get(turn->chat, "messages");
    kvern_session_info info;
    kvern_status status = add_message(turn, "assistant", answer, n_bytes, err);

    if (status != KVERN_OK)
        return status;
    /* answers that were run again may end elsewhere now */
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);

        if (end_of(message) > turn->begin + turn->n_kept)
            json_object_del(message, "end");
    }
    kvern_session_get_info(run->session, &info);
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    if (json_object_set_new(last, "end", json_integer((json_int_t)info.position)) != 0)
        return fail(err, KVERN_MEMORY, "out of memory for a conversation");
    json_decref(run->record.chat);
    run->record.chat = json_incref(turn->chat);
    return KVERN_OK;
}

void chat_turn_clear(struct chat_turn *turn)
{
    json_decref(turn->chat);
    kvern_tokens_clear(&turn->tokens);
    *turn = (struct chat_turn){0};
}
