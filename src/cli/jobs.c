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

/* Enough answers in the engine that it never runs dry, and enough beside it that one that is long,
 * and whose turn it is, does not hold the others up. Each is passed by one prompt's at most. */
enum { ENOUGH_IN_ENGINE = 256, ENOUGH_ANSWERS = 1024 };

bool jobs_have_room(const struct jobs *jobs)
{
    return !jobs->is_cancelled && jobs->n_in_engine < ENOUGH_IN_ENGINE &&
           jobs->n_answers < ENOUGH_ANSWERS &&
           (jobs->n == 0 || jobs->items[jobs->n - 1]->n_answers > 0);
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

static void make_answers(struct jobs *jobs, struct job *job)
{
    job->answers = new_or_abort(job->prompt.n * sizeof *job->answers);
    job->n_answers = job->prompt.n;
    jobs->n_answers += job->n_answers;
    drop_tokens(&job->prompt);
}

/* Without the engine. */
static void end_all(struct jobs *jobs, struct job *job, const kvern_event *event)
{
    make_answers(jobs, job);
    for (size_t i = 0; i < job->n_answers; i++)
        job->answers[i].event = *event;
    job->n_done = job->n_answers;
}

static bool is_done(const struct job *job)
{
    return job->n_answers > 0 && job->n_done == job->n_answers;
}

void jobs_refuse(struct jobs *jobs, struct job *job, const kvern_error *error)
{
    kvern_event event = {
        .finish = KVERN_FINISH_ERROR, .error = *error, .n_prompt_tokens = job->prompt.tokens.n};

    end_all(jobs, job, &event);
}

static bool is_of_the_prompt(kvern_status status)
{
    return status == KVERN_LIMIT || status == KVERN_INVALID || status == KVERN_UNSUPPORTED;
}

/* KVERN_BUSY: later. */
static kvern_status submit(struct jobs *jobs, struct job *job, kvern_error *err)
{
    kvern_request *requests[MAX_SAMPLES];
    kvern_error refusal = {0};
    kvern_status status =
        kvern_submit_samples(jobs->engine, &job->prompt.request, job->prompt.n, requests, &refusal);

    if (status == KVERN_OK) {
        make_answers(jobs, job);
        for (size_t i = 0; i < job->n_answers; i++)
            job->answers[i].request = requests[i];
        jobs->n_in_engine += job->n_answers;
        return KVERN_OK;
    }
    if (status == KVERN_BUSY && jobs->n_in_engine == 0)
        status =
            fail(&refusal, KVERN_LIMIT,
                 "%zu answers to one prompt are more than the engine's queue takes", job->prompt.n);
    if (is_of_the_prompt(status)) {
        jobs_refuse(jobs, job, &refusal);
        return KVERN_OK;
    }
    if (err)
        *err = refusal;
    return status;
}

kvern_status jobs_submit(struct jobs *jobs, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < jobs->n && jobs->n_in_engine < ENOUGH_IN_ENGINE;
         i++) {
        if (jobs->items[i]->n_answers == 0)
            status = submit(jobs, jobs->items[i], err);
    }
    return status == KVERN_BUSY ? KVERN_OK : status;
}

static kvern_status poll_answer(struct jobs *jobs, struct job *job, struct answer *answer,
                                int timeout_ms, bool *has_event, kvern_error *err)
{
    kvern_event event;
    kvern_status status = kvern_request_next(answer->request, timeout_ms, &event, err);

    if (status == KVERN_TIMEOUT)
        return KVERN_OK;
    if (status != KVERN_OK)
        return status;
    *has_event = true;
    buffer_add(&answer->text, event.text, event.n_text);
    if (jobs->on_event)
        status = jobs->on_event(answer, &event, jobs->on_event_data, err);
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
    answer->event = event;
    kvern_request_free(answer->request);
    answer->request = NULL;
    job->n_done++;
    jobs->n_in_engine--;
    if (answer->text.has_failed)
        return fail(err, KVERN_MEMORY, "out of memory keeping an answer");
    return KVERN_OK;
}

static struct answer *first_running(struct job *job)
{
    for (size_t i = 0; i < job->n_answers; i++) {
        if (job->answers[i].request)
            return &job->answers[i];
    }
    return NULL;
}

kvern_status jobs_poll(struct jobs *jobs, int timeout_ms, kvern_error *err)
{
    struct job *oldest = NULL;
    bool has_event = false;
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < jobs->n; i++) {
        struct job *job = jobs->items[i];

        /* one that can be taken whatever the order is worth no wait */
        has_event |= i == 0 && is_done(job);
        for (size_t j = 0; status == KVERN_OK && j < job->n_answers; j++) {
            if (job->answers[j].request)
                status = poll_answer(jobs, job, &job->answers[j], 0, &has_event, err);
        }
        if (!oldest && first_running(job))
            oldest = job;
    }
    if (status == KVERN_OK && oldest && !has_event)
        status = poll_answer(jobs, oldest, first_running(oldest), timeout_ms, &has_event, err);
    return status;
}

struct job *jobs_take(struct jobs *jobs, bool is_ordered)
{
    for (size_t i = 0; i < jobs->n && (i == 0 || !is_ordered); i++) {
        struct job *job = jobs->items[i];

        if (!is_done(job))
            continue;
        jobs->n--;
        jobs->n_answers -= job->n_answers;
        memmove(&jobs->items[i], &jobs->items[i + 1], (jobs->n - i) * sizeof(void *));
        return job;
    }
    return NULL;
}

size_t jobs_count_done(const struct jobs *jobs)
{
    size_t n = 0;

    for (size_t i = 0; i < jobs->n; i++)
        n += is_done(jobs->items[i]);
    return n;
}

void jobs_cancel(struct jobs *jobs)
{
    const kvern_event cancelled = {.finish = KVERN_FINISH_CANCELLED};

    for (size_t i = 0; !jobs->is_cancelled && i < jobs->n; i++) {
        struct job *job = jobs->items[i];

        for (size_t j = 0; j < job->n_answers; j++) {
            if (job->answers[j].request)
                kvern_request_cancel(job->answers[j].request);
        }
        if (job->n_answers == 0)
            end_all(jobs, job, &cancelled);
    }
    jobs->is_cancelled = true;
}

void job_free(struct job *job)
{
    if (!job)
        return;
    for (size_t i = 0; i < job->n_answers; i++) {
        kvern_request_free(job->answers[i].request);
        buffer_clear(&job->answers[i].text);
        json_decref(job->answers[i].logprobs);
    }
    free(job->answers);
    prompt_clear(&job->prompt);
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
