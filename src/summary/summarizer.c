/* SPDX-License-Identifier: Apache-2.0
 *
 * struct summarizer: tasks wait in a list and run in slots. A task's text is kept until it is done,
 * for the second try and for cleaning; no more files are taken in than keep the slots at work.
 */
#include "summary/summarizer.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/queue.h"
#include "summary/clean.h"
#include "summary/summarizer_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_JOBS = 20,
    DEFAULT_MAX_TOKENS = 1536,
    DEFAULT_ANSWER_TOKENS = 64,
    MAX_TRIES = 2,
    POLL_MS = 20,
    FLAG_ENDED_EARLY = 1, /* of a cached summary */
    FLAG_TOO_LONG = 2,
};

/* ---- results ---- */

/* A cached summary says of itself what it said when it was made. */
static uint32_t flags_of(const struct report_result *result)
{
    if (result->status != REPORT_CUT)
        return 0;
    return strcmp(result->reason, CLEAN_TOO_LONG) == 0 ? FLAG_TOO_LONG : FLAG_ENDED_EARLY;
}

static const char *reason_of(uint32_t flags)
{
    return flags & FLAG_TOO_LONG      ? CLEAN_TOO_LONG
           : flags & FLAG_ENDED_EARLY ? CLEAN_ENDED_EARLY
                                      : NULL;
}

/* Hands a task's result to the report; the task is gone afterwards. */
static kvern_status settle(struct summarizer *s, struct task *task, struct report_result *result,
                           kvern_error *err)
{
    kvern_status status = KVERN_OK;

    if (task->is_cut && result->status == REPORT_OK) {
        result->status = REPORT_CUT;
        result->reason = "the line is longer than the model takes";
    }
    if (task->directory) {
        status = report_set_directory(s->report, task->directory->path, result, err);
    } else if (task->kind == ASK_FILE) {
        status = report_set_file(task->file, result, err);
        if (status == KVERN_OK && s->options.on_file)
            s->options.on_file(task->file, s->options.on_result_data);
    } else {
        struct report_chunk chunk = task->chunk;

        chunk.result = *result;
        s->counts.n_done++;
        s->counts.n_failed += result->status == REPORT_FAILED;
        s->counts.n_cached += result->is_cached;
        status = report_add_chunk(task->file, &chunk, err);
        if (status == KVERN_OK && s->options.on_chunk)
            s->options.on_chunk(task->file, &chunk, s->options.on_result_data);
        if (status == KVERN_OK && task->file->n_chunks == task->file->n_planned)
            status = summarize_file(s, task->file, err);
    }
    task_free(task);
    return status;
}

/* A reader gets more from half a sentence, which the first try may have left, than from nothing. */
static kvern_status settle_failed(struct summarizer *s, struct task *task, const char *reason,
                                  kvern_error *err)
{
    struct report_result result = {
        .status = task->half.summary ? REPORT_CUT : REPORT_FAILED,
        .summary = task->half.summary,
        .reason = (char *)(uintptr_t)(task->half.summary ? task->half.reason : reason)};

    return settle(s, task, &result, err);
}

/* A cache that cannot be written to is no reason to lose the summary: the run goes on without. */
static void keep(struct summarizer *s, const struct task *task, const struct report_result *result)
{
    struct cache_record record = {
        .flags = flags_of(result),
        .n_tokens_in = (uint32_t)result->n_tokens_in,
        .n_tokens_out = (uint32_t)result->n_tokens_out,
        .text = result->summary,
        .n_text = strlen(result->summary),
    };

    memcpy(record.key, task->key, sizeof record.key);
    if (s->cache && summary_cache_put(s->cache, &record, &s->counts.cache_error) != KVERN_OK)
        s->cache = NULL;
}

static kvern_status settle_answer(struct summarizer *s, struct task *task, const kvern_event *event,
                                  kvern_error *err)
{
    const struct clean_options how = {
        .prompt = task->instruction,
        .source = task->text,
        .n_source = task->n_bytes,
        .is_finished = event->finish == KVERN_FINISH_STOP,
    };
    struct cleaned cleaned = {0};
    kvern_status status = clean_summary(task->answer.data ? task->answer.data : "",
                                        task->answer.n_bytes, &how, &cleaned, err);

    if (status != KVERN_OK)
        return status;
    if ((!cleaned.summary || cleaned.is_half) && task->n_tries < MAX_TRIES) {
        task->half = cleaned;
        task_renew(task);
        task_list_put(&s->waiting, task);
        return KVERN_OK;
    }
    /* the first try's, where no chance was used, if the second is no whole sentence either */
    if ((!cleaned.summary || cleaned.is_half) && task->half.summary) {
        clean_clear(&cleaned);
        cleaned = task->half;
        task->half = (struct cleaned){0};
    }

    struct report_result result = {
        .status = !cleaned.summary ? REPORT_FAILED
                  : cleaned.reason ? REPORT_CUT
                                   : REPORT_OK,
        .summary = cleaned.summary,
        .reason = (char *)(uintptr_t)cleaned.reason,
        .n_tokens_in = event->n_prompt_tokens,
        .n_tokens_out = event->n_completion_tokens,
        .ms = clock_ms() - task->started_ms,
    };
    if (cleaned.summary)
        keep(s, task, &result);
    if (status == KVERN_OK)
        status = settle(s, task, &result, err);
    clean_clear(&cleaned);
    return status;
}

/* ---- the model ---- */

static kvern_status submit(struct summarizer *s, struct task *task, struct task **slot,
                           kvern_error *err)
{
    const struct ask ask = task_ask(task);
    size_t n_stop;
    const char *const *stop = clean_stop_strings(&n_stop);
    kvern_request_options options;
    kvern_tokens tokens = {0};
    kvern_error why = {0};
    kvern_status status;

    kvern_request_options_init(&options);
    status = ask_tokens(s->model, &ask, &tokens, &task->instruction, &why);
    options.prompt = tokens.ids;
    options.n_prompt = tokens.n;
    options.max_tokens = (int32_t)s->options.max_answer_tokens;
    options.stop = stop;
    options.n_stop = n_stop;
    options.sampling.repetition_penalty = 1.1F;
    if (task->n_tries > 0) {
        options.sampling.temperature = 0.7F;
        options.sampling.top_p = 0.9F;
        options.sampling.seed = task->n_tries;
    }
    buffer_add_string(&task->answer, ask_answer_begin(s->model, task->kind));
    task->started_ms = clock_ms();
    task->n_tries++;
    if (status == KVERN_OK)
        status = kvern_submit(s->engine, &options, &task->request, &why);
    kvern_tokens_clear(&tokens);
    if (status == KVERN_OK) {
        s->counts.n_asked++;
        s->counts.n_running++;
        *slot = task;
        return KVERN_OK;
    }
    if (status == KVERN_MEMORY || status == KVERN_BUSY)
        return fail(err, status, "%s", why.message);
    return settle_failed(s, task, why.message, err);
}

/* Whether the cache had the answer; the task is gone then. */
static kvern_status try_cache(struct summarizer *s, struct task *task, bool *is_done,
                              kvern_error *err)
{
    struct cached_summary cached = {0};
    kvern_status status;

    *is_done = false;
    if (!s->cache)
        return KVERN_OK;
    status = task_set_key(task, s->fingerprint, s->key_options, err);
    if (status != KVERN_OK || !summary_cache_get(s->cache, task->key, &cached))
        return status;

    const char *reason = reason_of(cached.flags);
    struct report_result result = {.status = reason ? REPORT_CUT : REPORT_OK,
                                   .summary = cached.text,
                                   .reason = (char *)(uintptr_t)reason,
                                   .is_cached = true,
                                   .n_tokens_in = cached.n_tokens_in,
                                   .n_tokens_out = cached.n_tokens_out};
    *is_done = true;
    status = settle(s, task, &result, err);
    cached_summary_clear(&cached);
    return status;
}

static kvern_status fill_slots(struct summarizer *s, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < s->options.n_jobs && s->waiting.n > 0; i++) {
        while (status == KVERN_OK && !s->running[i] && s->waiting.n > 0) {
            struct task *task = task_list_take(&s->waiting);
            bool is_done = false;

            if (task->n_tries == 0)
                status = try_cache(s, task, &is_done, err);
            if (status == KVERN_OK && !is_done)
                status = submit(s, task, &s->running[i], err);
        }
    }
    return status;
}

static kvern_status take_event(struct summarizer *s, struct task **slot, int timeout_ms,
                               bool *has_event, kvern_error *err)
{
    struct task *task = *slot;
    kvern_event event;
    kvern_status status = kvern_request_next(task->request, timeout_ms, &event, err);

    if (status == KVERN_TIMEOUT)
        return KVERN_OK;
    if (status != KVERN_OK)
        return status;
    *has_event = true;
    buffer_add(&task->answer, event.text, event.n_text);
    if (event.finish == KVERN_FINISH_NONE)
        return KVERN_OK;
    *slot = NULL;
    s->counts.n_running--;
    if (event.finish != KVERN_FINISH_ERROR && !task->answer.has_failed)
        return settle_answer(s, task, &event, err);
    if (task->n_tries < MAX_TRIES) {
        task_renew(task);
        task_list_put(&s->waiting, task);
        return KVERN_OK;
    }
    return settle_failed(s, task, event.error.message, err);
}

/* One round: what is free is filled, what came is taken; if nothing did, the oldest is waited for.
 */
static kvern_status work(struct summarizer *s, kvern_error *err)
{
    struct task **oldest = NULL;
    bool has_event = false;
    kvern_status status;

    if (s->options.should_stop && s->options.should_stop(s->options.should_stop_data))
        return fail(err, KVERN_CANCELLED, "it was asked to stop");
    status = fill_slots(s, err);
    for (size_t i = 0; status == KVERN_OK && i < s->options.n_jobs; i++) {
        if (s->running[i])
            status = take_event(s, &s->running[i], 0, &has_event, err);
        if (s->running[i] && (!oldest || s->running[i]->started_ms < (*oldest)->started_ms))
            oldest = &s->running[i];
    }
    if (status == KVERN_OK && oldest && !has_event)
        status = take_event(s, oldest, POLL_MS, &has_event, err);
    if (s->options.on_progress)
        s->options.on_progress(&s->counts, s->options.on_progress_data);
    return status;
}

kvern_status summarizer_work(struct summarizer *s, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && (s->waiting.n > 0 || s->counts.n_running > 0))
        status = work(s, err);
    return status;
}

/* ---- the interface ---- */

static size_t count_tokens(void *ctx, const char *text, size_t n_bytes)
{
    const struct summarizer *s = ctx;
    kvern_tokens tokens;

    if (kvern_tokenize(s->model, text, n_bytes, 0, &tokens, NULL) != KVERN_OK)
        return CHUNK_COUNT_FAILED;
    size_t n = tokens.n;
    kvern_tokens_clear(&tokens);
    return n;
}

static kvern_status set_limits(struct summarizer *s, kvern_error *err)
{
    struct summarizer_options *options = &s->options;
    kvern_engine_stats stats;
    kvern_model_info info;
    size_t n_overhead = 0;
    kvern_status status = ask_count_overhead(s->model, ASK_CHUNK, &n_overhead, err);

    kvern_model_get_info(s->model, &info);
    kvern_engine_get_stats(s->engine, &stats);
    if (options->n_jobs == 0)
        options->n_jobs = DEFAULT_JOBS;
    if (options->max_answer_tokens == 0)
        options->max_answer_tokens = DEFAULT_ANSWER_TOKENS;
    if (status != KVERN_OK)
        return status;

    /* an encoder-decoder's answer has positions of its own */
    size_t n_context = info.is_seq2seq ? (size_t)info.max_context : (size_t)stats.max_context;
    size_t n_taken = n_overhead + (info.is_seq2seq ? 0 : options->max_answer_tokens);
    if (n_context < n_taken + 16)
        return fail(err, KVERN_LIMIT,
                    "a context of %zu tokens leaves no room for code beside a question of %zu",
                    n_context, n_taken);
    size_t most = n_context - n_taken;
    if (options->max_tokens == 0)
        options->max_tokens = most < DEFAULT_MAX_TOKENS ? most : DEFAULT_MAX_TOKENS;
    if (options->max_tokens > most)
        return fail(err, KVERN_LIMIT,
                    "chunks of %zu tokens do not fit: the context of %zu leaves %zu",
                    options->max_tokens, n_context, most);
    return KVERN_OK;
}

kvern_status summarizer_new(struct summarizer **out, kvern_engine *engine, const kvern_model *model,
                            struct report *report, struct summary_cache *cache,
                            const struct summarizer_options *options, kvern_error *err)
{
    struct summarizer *s = new_or_abort(sizeof *s);
    kvern_status status;

    s->engine = engine;
    s->model = model;
    s->report = report;
    s->cache = cache;
    s->options = *options;
    status = set_limits(s, err);
    if (status == KVERN_OK)
        status = kvern_model_fingerprint(model, s->fingerprint, err);
    snprintf(s->key_options, sizeof s->key_options, "answer %zu", s->options.max_answer_tokens);
    if (status != KVERN_OK) {
        free(s);
        return status;
    }
    s->running = new_or_abort(s->options.n_jobs * sizeof(void *));
    *out = s;
    return KVERN_OK;
}

void summarizer_free(struct summarizer *s)
{
    struct task *task;

    if (!s)
        return;
    for (size_t i = 0; i < s->options.n_jobs; i++)
        task_free(s->running[i]);
    while ((task = task_list_take(&s->waiting)))
        task_free(task);
    free(s->running);
    free(s);
}

static void queue_chunk(struct summarizer *s, struct report_file *file, enum ask_kind kind,
                        const char *language, const char *text, struct chunk *chunk)
{
    struct task *task = new_or_abort(sizeof *task);

    *task = (struct task){
        .kind = kind,
        .file = file,
        .chunk = {.first_line = chunk->first_line,
                  .last_line = chunk->last_line,
                  .name = chunk->name},
        .language = language,
        .text = copy_bytes_or_abort(text + chunk->begin, chunk->n_kept_bytes),
        .n_bytes = chunk->n_kept_bytes,
        .is_cut = chunk->is_cut,
    };
    chunk->name = NULL;
    task_list_put(&s->waiting, task);
}

static size_t count_lines(const char *text, size_t n_bytes)
{
    size_t n = n_bytes > 0 && text[n_bytes - 1] != '\n';

    for (size_t i = 0; i < n_bytes; i++)
        n += text[i] == '\n';
    return n;
}

/* Takes in the chunks of one text, then works until the slots want more. */
static kvern_status add_chunks(struct summarizer *s, const char *path, const char *language,
                               enum ask_kind kind, const char *text, size_t n_bytes,
                               struct chunk_list *chunks, kvern_error *err)
{
    size_t n_chunks = 0;
    struct report_file *file;
    kvern_status status;

    for (size_t i = 0; i < chunks->n_chunks; i++)
        n_chunks += !chunks->chunks[i].is_blank;
    if (n_chunks == 0)
        return report_add_skip(s->report, path, "nothing but blank lines", err);
    status = report_add_file(s->report, path, language ? language : "text",
                             count_lines(text, n_bytes), n_bytes, n_chunks, &file, err);
    if (status != KVERN_OK)
        return status;

    s->counts.n_chunks += n_chunks;
    for (size_t i = 0; i < chunks->n_chunks; i++) {
        if (!chunks->chunks[i].is_blank)
            queue_chunk(s, file, kind, language, text, &chunks->chunks[i]);
    }
    do
        status = work(s, err);
    while (status == KVERN_OK && s->waiting.n > s->options.n_jobs);
    return status;
}

static struct chunk_options chunk_options_of(struct summarizer *s)
{
    return (struct chunk_options){.max_lines = s->options.max_lines,
                                  .max_tokens = s->options.max_tokens,
                                  .level = s->options.level,
                                  .count_tokens = count_tokens,
                                  .ctx = s};
}

kvern_status summarizer_add(struct summarizer *s, const char *path, const struct language *language,
                            const char *text, size_t n_bytes, kvern_error *err)
{
    const struct chunk_options options = chunk_options_of(s);
    struct chunk_list chunks = {0};
    kvern_status status =
        chunk_text(&chunks, language ? language : language_plain(), text, n_bytes, &options, err);

    if (status == KVERN_OK)
        status = add_chunks(s, path, language ? language->name : NULL, ASK_CHUNK, text, n_bytes,
                            &chunks, err);
    chunk_list_clear(&chunks);
    return status;
}

kvern_status summarizer_add_patch(struct summarizer *s, const char *path, const char *text,
                                  size_t n_bytes, kvern_error *err)
{
    const struct chunk_options options = chunk_options_of(s);
    struct chunk_list chunks = {0};
    kvern_status status = chunk_patch(&chunks, text, n_bytes, &options, err);

    if (status == KVERN_OK)
        status = add_chunks(s, path, NULL, ASK_PATCH, text, n_bytes, &chunks, err);
    chunk_list_clear(&chunks);
    return status;
}

kvern_status summarizer_finish(struct summarizer *s, kvern_error *err)
{
    kvern_status status = summarizer_work(s, err);

    if (status == KVERN_OK && !s->options.has_no_files && ask_is_possible(s->model, ASK_DIRECTORY))
        status = summarize_directories(s, err);
    return status;
}
