/* SPDX-License-Identifier: Apache-2.0
 *
 * The wording. Small models follow one short question better than rules: so the question stands
 * after the text, where it was read last, and asks for one sentence. The answer's first two words
 * are given: left to themselves, such models write more code as often as a sentence about it.
 */
#include "summary/ask.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"

#include <string.h>

static const char SYSTEM[] = "You are a programmer who explains code in one short sentence.";
static const char PREFIX[] = "summarize: "; /* T5's and CodeT5's */

enum { SPARE_TOKENS = 96 }; /* for a path, a name and a language */

static bool is_seq2seq(const kvern_model *model)
{
    kvern_model_info info;

    kvern_model_get_info(model, &info);
    return info.is_seq2seq;
}

bool ask_is_possible(const kvern_model *model, enum ask_kind kind)
{
    return kind == ASK_CHUNK || kind == ASK_PATCH || !is_seq2seq(model);
}

/* A fence that the text does not hold. */
static void add_fenced(struct buffer *out, const char *language, const char *text, size_t n_bytes)
{
    bool has_fence = memmem(text, n_bytes, "```", 3) != NULL;
    const char *fence = has_fence ? "~~~~" : "```";

    buffer_add_format(out, "%s%s\n", fence, language ? language : "");
    buffer_add(out, text, n_bytes);
    if (n_bytes == 0 || text[n_bytes - 1] != '\n')
        buffer_add_byte(out, '\n');
    buffer_add_format(out, "%s\n", fence);
}

/* The question; what it is about was said before it. */
static void add_question(struct buffer *out, const struct ask *ask)
{
    switch (ask->kind) {
    case ASK_CHUNK:
        if (ask->name)
            buffer_add_format(out, "In one short sentence, what does `%s` in %s do?", ask->name,
                              ask->path);
        else
            buffer_add_format(out, "In one short sentence, what does this code of %s do?",
                              ask->path);
        break;
    case ASK_PATCH:
        buffer_add_format(out, "In one short sentence, what does this change do?");
        break;
    case ASK_FILE:
        buffer_add_format(out, "In one short sentence, what is the file %s for?", ask->path);
        break;
    case ASK_DIRECTORY:
        buffer_add_format(out, "In one short sentence, what is the folder %s for?", ask->path);
        break;
    }
}

static void add_text(struct buffer *out, const struct ask *ask)
{
    if (ask->kind == ASK_CHUNK || ask->kind == ASK_PATCH) {
        add_fenced(out, ask->kind == ASK_PATCH ? "diff" : ask->language, ask->text, ask->n_bytes);
        return;
    }
    buffer_add_format(out, "Parts of the %s %s:\n", ask->kind == ASK_FILE ? "file" : "folder",
                      ask->path);
    buffer_add(out, ask->text, ask->n_bytes);
}

static kvern_status tokenize(const kvern_model *model, const char *text, size_t n_bytes,
                             bool is_chat, kvern_tokens *tokens, kvern_error *err)
{
    kvern_model_info info;

    kvern_model_get_info(model, &info);
    if (!is_chat || !info.has_chat_template)
        return kvern_tokenize(model, text, n_bytes, KVERN_TOKENIZE_SPECIAL, tokens, err);

    const kvern_message messages[] = {{"system", SYSTEM}, {"user", text}};
    return kvern_chat_tokenize(model, messages, 2, true, tokens, err);
}

const char *ask_answer_begin(const kvern_model *model, enum ask_kind kind)
{
    static const char *const begins[] = {[ASK_CHUNK] = "This code",
                                         [ASK_PATCH] = "This change",
                                         [ASK_FILE] = "This file",
                                         [ASK_DIRECTORY] = "This folder"};

    return is_seq2seq(model) ? "" : begins[kind];
}

static kvern_status append_begin(const kvern_model *model, enum ask_kind kind, kvern_tokens *tokens,
                                 kvern_error *err)
{
    const char *begin = ask_answer_begin(model, kind);
    kvern_tokens more = {0};
    kvern_status status = kvern_tokenize(model, begin, strlen(begin), 0, &more, err);
    int32_t *ids = NULL;

    if (status == KVERN_OK && more.n > 0) {
        ids = try_resize(tokens->ids, tokens->n + more.n, sizeof *ids);
        if (!ids)
            status = fail(err, KVERN_MEMORY, "out of memory for a prompt of %zu tokens",
                          tokens->n + more.n);
    }
    if (ids) {
        memcpy(ids + tokens->n, more.ids, more.n * sizeof *ids);
        tokens->ids = ids;
        tokens->n += more.n;
    }
    kvern_tokens_clear(&more);
    return status;
}

kvern_status ask_tokens(const kvern_model *model, const struct ask *ask, kvern_tokens *tokens,
                        char **instruction, kvern_error *err)
{
    struct buffer question = {0};
    struct buffer whole = {0};
    bool is_chat = !is_seq2seq(model);
    kvern_status status = KVERN_OK;

    *instruction = NULL;
    *tokens = (kvern_tokens){0};
    if (is_chat) {
        add_question(&question, ask);
        add_text(&whole, ask);
        buffer_add_byte(&whole, '\n');
        buffer_add(&whole, question.data, question.n_bytes);
    } else {
        buffer_add_string(&question, PREFIX);
        buffer_add_string(&whole, PREFIX);
        buffer_add(&whole, ask->text, ask->n_bytes);
    }
    if (whole.has_failed || question.has_failed)
        status = fail(err, KVERN_MEMORY, "out of memory for a prompt of %zu bytes", ask->n_bytes);
    /* a message ends at a NUL; sources with one are binary and come no farther than the walk */
    if (status == KVERN_OK)
        status = tokenize(model, whole.data, whole.n_bytes, is_chat, tokens, err);
    if (status == KVERN_OK && is_chat)
        status = append_begin(model, ask->kind, tokens, err);
    if (status == KVERN_OK) {
        *instruction = question.data;
        question.data = NULL;
    }
    buffer_clear(&question);
    buffer_clear(&whole);
    return status;
}

kvern_status ask_count_overhead(const kvern_model *model, enum ask_kind kind, size_t *n_tokens,
                                kvern_error *err)
{
    const struct ask empty = {
        .kind = kind, .path = "", .language = "", .name = "", .text = "\n", .n_bytes = 1};
    kvern_tokens tokens;
    char *instruction;
    kvern_status status = ask_tokens(model, &empty, &tokens, &instruction, err);

    if (status != KVERN_OK)
        return status;
    *n_tokens = tokens.n + (is_seq2seq(model) ? 0 : SPARE_TOKENS);
    kvern_free(instruction);
    kvern_tokens_clear(&tokens);
    return KVERN_OK;
}
