/* SPDX-License-Identifier: Apache-2.0
 *
 * struct jobs: an array, since there are a thousand at most. The engine has no call that waits for
 * any request, so each is asked in turn, which costs microseconds, and then the oldest is waited
 * for: it has an event every step.
 */
#include "cli/jobs.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Enough in the engine that it never runs dry, and enough beside it that one long answer, whose
 * turn it is, does not hold the others up. */
enum { MAX_IN_ENGINE = 256, MAX_JOBS = 1024 };

bool jobs_have_room(const struct jobs *jobs)
{
    return !jobs->is_cancelled && jobs->n_in_engine < MAX_IN_ENGINE && jobs->n < MAX_JOBS &&
           (jobs->n == 0 || jobs->items[jobs->n - 1]->request ||
            jobs->items[jobs->n - 1]->event.finish != KVERN_FINISH_NONE);
}

struct job *jobs_add(struct jobs *jobs, const struct prompt_settings *settings)
{
    struct job *job = new_or_abort(sizeof *job);

    if (jobs->n == jobs->capacity) {
        jobs->capacity = jobs->capacity ? 2 * jobs->capacity : 16;
        jobs->items = resize_or_abort(jobs->items, jobs->capacity * sizeof(struct job *));
    }
    prompt_init(&job->prompt, settings);
    jobs->items[jobs->n++] = job;
    return job;
}

/* The engine has copies of them. */
static void drop_tokens(struct prompt *prompt)
{
    json_t *id = json_incref(prompt->id);

    prompt_clear(prompt);
    prompt->id = id;
}

void job_refuse(struct job *job, const kvern_error *error)
{
    job->event = (kvern_event){
        .finish = KVERN_FINISH_ERROR, .error = *error, .n_prompt_tokens = job->prompt.tokens.n};
    drop_tokens(&job->prompt);
}

static bool is_of_the_prompt(kvern_status status)
{
    return status == KVERN_LIMIT || status == KVERN_INVALID || status == KVERN_UNSUPPORTED;
}

kvern_status jobs_submit(struct jobs *jobs, kvern_error *err)
{
    for (size_t i = 0; i < jobs->n && jobs->n_in_engine < MAX_IN_ENGINE; i++) {
        struct job *job = jobs->items[i];
        kvern_error refusal = {0};

        if (job->request || job->event.finish != KVERN_FINISH_NONE)
            continue;
        kvern_status status =
            kvern_submit(jobs->engine, &job->prompt.request, &job->request, &refusal);
        if (status == KVERN_BUSY && jobs->n_in_engine > 0)
            break;
        if (status == KVERN_OK) {
            jobs->n_in_engine++;
            drop_tokens(&job->prompt);
        } else if (is_of_the_prompt(status)) {
            job_refuse(job, &refusal);
        } else {
            if (err)
                *err = refusal;
            return status;
        }
    }
    return KVERN_OK;
}

static kvern_status poll_job(struct jobs *jobs, struct job *job, int timeout_ms, bool *has_event,
                             kvern_error *err)
{
    kvern_event event;
    kvern_status status = kvern_request_next(job->request, timeout_ms, &event, err);

    if (status == KVERN_TIMEOUT)
        return KVERN_OK;
    if (status != KVERN_OK)
        return status;
    *has_event = true;
    buffer_add(&job->text, event.text, event.n_text);
    if (jobs->on_event)
        status = jobs->on_event(job, &event, jobs->on_event_data, err);
    if (status != KVERN_OK)
        return status;
    if (event.finish == KVERN_FINISH_NONE)
        return KVERN_OK;
    event.text = NULL;
    event.tokens = NULL;
    event.prompt_logprobs = NULL;
    event.logprobs = NULL;
    event.top_logprobs = NULL;
    event.embedding = NULL;
    event.n_text = event.n_tokens = event.n_prompt_logprobs = event.n_embedding = 0;
    job->event = event;
    kvern_request_free(job->request);
    job->request = NULL;
    jobs->n_in_engine--;
    if (job->text.has_failed)
        return fail(err, KVERN_MEMORY, "out of memory keeping an answer");
    return KVERN_OK;
}

kvern_status jobs_poll(struct jobs *jobs, int timeout_ms, kvern_error *err)
{
    struct job *oldest = NULL;
    bool has_event = false;
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < jobs->n; i++) {
        struct job *job = jobs->items[i];

        /* one that can be taken whatever the order is worth no wait */
        has_event |= i == 0 && job->event.finish != KVERN_FINISH_NONE;
        if (job->request)
            status = poll_job(jobs, job, 0, &has_event, err);
        if (job->request && !oldest)
            oldest = job;
    }
    if (status == KVERN_OK && oldest && !has_event)
        status = poll_job(jobs, oldest, timeout_ms, &has_event, err);
    return status;
}

struct job *jobs_take(struct jobs *jobs, bool is_ordered)
{
    for (size_t i = 0; i < jobs->n && (i == 0 || !is_ordered); i++) {
        struct job *job = jobs->items[i];

        if (job->event.finish == KVERN_FINISH_NONE)
            continue;
        jobs->n--;
        memmove(&jobs->items[i], &jobs->items[i + 1], (jobs->n - i) * sizeof(void *));
        return job;
    }
    return NULL;
}

size_t jobs_count_done(const struct jobs *jobs)
{
    size_t n = 0;

    for (size_t i = 0; i < jobs->n; i++)
        n += jobs->items[i]->event.finish != KVERN_FINISH_NONE;
    return n;
}

void jobs_cancel(struct jobs *jobs)
{
    for (size_t i = 0; !jobs->is_cancelled && i < jobs->n; i++) {
        struct job *job = jobs->items[i];

        if (job->request)
            kvern_request_cancel(job->request);
        else if (job->event.finish == KVERN_FINISH_NONE)
            job->event.finish = KVERN_FINISH_CANCELLED;
    }
    jobs->is_cancelled = true;
}

void job_free(struct job *job)
{
    if (!job)
        return;
    kvern_request_free(job->request);
    prompt_clear(&job->prompt);
    buffer_clear(&job->text);
    json_decref(job->logprobs);
    free(job->key);
    free(job);
}

void jobs_clear(struct jobs *jobs)
{
    for (size_t i = 0; i < jobs->n; i++)
        job_free(jobs->items[i]);
    free(jobs->items);
    *jobs = (struct jobs){0};
}
