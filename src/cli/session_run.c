/* SPDX-License-Identifier: Apache-2.0
 *
 * struct session_run: lock, record, model, engine, session, in that order, and back. Whatever fails
 * before session_run_save() leaves the stored session as it was.
 */
#include "cli/session_run.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/interrupt.h"
#include "cli/session_chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXTS = 1000 };

/* The stored state, or an empty session where there is none. */
static kvern_status open_state(struct session_run *run, kvern_error *err)
{
    const char *name = run->record.name;
    char *path = session_path(name, ".session");
    kvern_status status;

    if (file_exists(path)) {
        status = kvern_session_restore(&run->session, run->engine, run->model, path, err);
        if (status == KVERN_FORMAT || status == KVERN_UNSUPPORTED)
            fail_in(err, status, "session '%s' ('kvern session reset %s' empties it)", name, name);
    } else {
        status =
            kvern_session_new(&run->session, run->engine, run->model, &run->record.options, err);
    }
    if (status == KVERN_OK)
        kvern_session_set_stop(run->session, should_stop, NULL);
    free(path);
    return status;
}

kvern_status session_run_open(struct session_run *run, const char *name,
                              const struct engine_flags *flags, kvern_error *err)
{
    struct engine_flags own = *flags;
    kvern_status status = session_name_check(name, err);

    *run = (struct session_run){0};
    /* a lock leaves its file behind: none for a name that is not there */
    if (status == KVERN_OK && session_exists(name))
        status = session_lock_take(&run->lock, name, SESSION_WAIT_MS, err);
    if (status == KVERN_OK)
        status = session_record_read(&run->record, name, err);
    if (status != KVERN_OK)
        return status;
    own.model = run->record.model;
    own.preset = run->record.preset;
    own.context = run->record.context;
    own.kv_type = run->record.kv_type;
    status = open_model(&own, &run->model, err);
    if (status != KVERN_OK)
        return fail_in(err, status, "session '%s'", name);
    status = open_engine(&own, run->model, &run->engine, err);
    if (status == KVERN_OK)
        status = open_state(run, err);
    return status;
}

kvern_status session_run_save(struct session_run *run, kvern_error *err)
{
    char *path = session_path(run->record.name, ".session");
    kvern_status status = kvern_session_save(run->session, path, err);
    kvern_session_info info;
    kvern_error problem;

    if (status == KVERN_OK) {
        kvern_session_get_info(run->session, &info);
        run->record.n_tokens = info.context_length;
        chat_forget_after(&run->record.chat, info.position);
        /* the session is saved: a list that shows its old length is no failure */
        if (session_record_write(&run->record, &problem) != KVERN_OK)
            fprintf(stderr, "kvern: %s\n", problem.message);
    }
    free(path);
    return status;
}

void session_run_close(struct session_run *run)
{
    kvern_session_free(run->session);
    kvern_engine_close(run->engine);
    kvern_model_close(run->model);
    session_record_clear(&run->record);
    session_lock_release(&run->lock);
    *run = (struct session_run){0};
}

kvern_status session_tokenize(const struct session_run *run, bool is_first, const char *text,
                              size_t n_bytes, kvern_tokens *tokens, kvern_error *err)
{
    return kvern_tokenize(run->model, text, n_bytes, is_first ? KVERN_TOKENIZE_SPECIAL : 0, tokens,
                          err);
}

json_t *answer_json(const struct session_run *run, const kvern_session_answer *answer)
{
    json_t *drift = answer->has_drift ? json_real(answer->drift) : json_null();
    json_t *json = json_pack(
        "{s:I s:I s:I s:o}", "context_length", (json_int_t)answer->context_length, "tokens_run",
        (json_int_t)answer->n_run, "tokens_reused", (json_int_t)answer->n_reused, "drift", drift);

    if (json && answer->n_left_out > 0)
        json_object_set_new(json, "left_out", json_integer((json_int_t)answer->n_left_out));
    note_tokenizer(json, run->model);
    return json;
}

void print_answer(FILE *stream, const kvern_session_answer *answer)
{
    fprintf(stream, "context %zu tokens: %zu run, %zu reused", answer->context_length,
            answer->n_run, answer->n_reused);
    if (answer->has_drift)
        fprintf(stream, ", drift %.4f", answer->drift);
    fputc('\n', stream);
}

void tell_left_out(const kvern_session_answer *answer)
{
    if (answer->n_left_out > 0)
        fprintf(stderr,
                "kvern: %zu tokens did not fit and were left out (window policy truncate)\n",
                answer->n_left_out);
}

/* One text's result, kept until the session is saved. */
struct kept {
    json_t *id;                  /* owned */
    float *values;               /* owned, [answer.n_values] */
    kvern_session_answer answer; /* its embedding is gone */
    json_t *more;                /* owned */
};

struct kept_list {
    struct kept *items; /* [MAX_TEXTS], owned */
    size_t n;
};

/* Appends tokens, perhaps none, and keeps the vector that comes of it. Takes over `id`. */
static kvern_status append_tokens(struct session_run *run, const kvern_tokens *tokens, json_t *id,
                                  struct kept *kept, kvern_error *err)
{
    kvern_session_answer answer = {0};
    kvern_status status = kvern_session_append(run->session, tokens->ids, tokens->n, &answer, err);

    *kept = (struct kept){.id = id, .answer = answer};
    if (status == KVERN_CANCELLED)
        return interrupted(err);
    if (status != KVERN_OK)
        return status;
    kept->values = try_new(answer.n_values, sizeof *kept->values);
    kept->more = answer_json(run, &answer);
    if (!kept->values || !kept->more)
        return fail(err, KVERN_MEMORY, "out of memory for a vector of %zu values", answer.n_values);
    memcpy(kept->values, answer.embedding, answer.n_values * sizeof *kept->values);
    tell_left_out(&answer);
    return KVERN_OK;
}

static kvern_status append_text(struct session_run *run, const struct text *text, struct kept *kept,
                                kvern_error *err)
{
    kvern_session_info info;
    kvern_tokens tokens = {0};
    kvern_status status;

    kvern_session_get_info(run->session, &info);
    if (!text->text)
        return fail(err, text->error.status, "%s", text->error.message);
    status = session_tokenize(run, info.position == 0, text->text, text->n_bytes, &tokens, err);
    if (status == KVERN_OK && tokens.n == 0)
        status = fail(err, KVERN_INVALID, "the text is empty: there is nothing to append");
    if (status == KVERN_OK)
        status = append_tokens(run, &tokens, json_incref(text->id), kept, err);
    kvern_tokens_clear(&tokens);
    return status;
}

/* All of the texts, or an error that names the one that failed. */
static kvern_status append_texts(struct session_run *run, struct texts *texts,
                                 struct kept_list *list, kvern_error *err)
{
    kvern_status status = KVERN_OK;
    bool has_text = true;

    while (status == KVERN_OK) {
        struct text text;

        status = texts_next(texts, &text, &has_text, err);
        if (status != KVERN_OK || !has_text)
            break;
        if (list->n == MAX_TEXTS)
            status = fail(err, KVERN_LIMIT, "a session takes %d texts at once", MAX_TEXTS);
        else
            status = append_text(run, &text, &list->items[list->n], err);
        if (status != KVERN_OK && list->n > 0)
            fail_in(err, status, "text %zu; nothing was appended", list->n);
        list->n += list->n < MAX_TEXTS;
        text_clear(&text);
        if (status == KVERN_OK && was_interrupted())
            status = interrupted(err);
    }
    return status;
}

static kvern_status put_kept(const struct kept_list *list, struct vector_writer *writer,
                             kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < list->n; i++) {
        const struct kept *kept = &list->items[i];
        struct vector_row row = {
            .id = kept->id,
            .values = kept->values,
            .n_values = kept->answer.n_values,
            .n_tokens = kept->answer.n_appended,
            .is_truncated = kept->answer.n_left_out > 0,
            .more = kept->more,
        };

        status = vector_writer_put(writer, &row, err);
        if (writer->format != VECTORS_JSON && writer->format != VECTORS_JSONL)
            print_answer(stderr, &kept->answer);
    }
    return status;
}

/* A file is whole before the session is saved, and is there after it; stdout comes last. */
static kvern_status save_and_write(struct session_run *run, const struct kept_list *list,
                                   struct vector_writer *writer, kvern_error *err)
{
    kvern_status status = writer->has_file ? put_kept(list, writer, err) : KVERN_OK;

    if (status == KVERN_OK)
        status = session_run_save(run, err);
    if (status == KVERN_OK && !writer->has_file)
        status = put_kept(list, writer, err);
    return status == KVERN_OK ? vector_writer_commit(writer, err) : status;
}

static bool is_empty(const kvern_session *session)
{
    kvern_session_info info;

    kvern_session_get_info(session, &info);
    return info.position == 0;
}

int embed_in_session(const char *name, const struct engine_flags *flags, struct texts *texts,
                     const struct vector_flags *out)
{
    struct kept_list list = {.items = new_or_abort(MAX_TEXTS * sizeof *list.items)};
    struct session_run run = {0};
    struct vector_writer writer = {0};
    bool has_source = texts->arguments.n + texts->files.n > 0 || texts->jsonl || texts->lines;
    const kvern_tokens none = {0};
    kvern_error err = {0};
    kvern_status status = session_run_open(&run, name, flags, &err);

    if (status == KVERN_OK)
        status = vector_writer_open(&writer, out->resolved, out->path, &err);
    if (status == KVERN_OK && has_source)
        status = append_texts(&run, texts, &list, &err);
    else if (status == KVERN_OK && is_empty(run.session))
        status = fail(&err, KVERN_INVALID,
                      "session '%s' is empty, so it has no vector yet: give it a text", name);
    else if (status == KVERN_OK)
        status = append_tokens(&run, &none, json_integer(0), &list.items[list.n++], &err);
    if (status == KVERN_OK && list.n == 0)
        status = fail(&err, KVERN_INVALID, "there is no text to append");
    if (status == KVERN_OK && was_interrupted())
        status = interrupted(&err);
    if (status == KVERN_OK)
        status = save_and_write(&run, &list, &writer, &err);
    vector_writer_clear(&writer);
    for (size_t i = 0; i < list.n; i++) {
        json_decref(list.items[i].id);
        json_decref(list.items[i].more);
        free(list.items[i].values);
    }
    free(list.items);
    texts_close(texts);
    session_run_close(&run);
    return status == KVERN_OK ? EXIT_OK : report(&err);
}
