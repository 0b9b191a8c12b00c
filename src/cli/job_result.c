/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers to one prompt, put together.
 */
#include "cli/job_result.h"

#include "base/error.h"
#include "cli/command.h"
#include "cli/output.h"

#include <stdlib.h>

struct job_totals job_total(const struct job *job)
{
    const kvern_event *first = &job->answers[0].event;
    const kvern_error *error = NULL;
    struct job_totals total = {.n_cached_tokens = first->n_cached_tokens,
                               .wait_ms = first->wait_ms,
                               .prefill_ms = first->prefill_ms};

    for (size_t i = 0; i < job->n_answers; i++) {
        const kvern_event *event = &job->answers[i].event;

        total.n_failed += event->finish == KVERN_FINISH_ERROR;
        total.n_cut += event->finish == KVERN_FINISH_LENGTH;
        total.n_cancelled += event->finish == KVERN_FINISH_CANCELLED;
        total.n_completion_tokens += event->n_completion_tokens;
        if (event->n_prompt_tokens > total.n_prompt_tokens)
            total.n_prompt_tokens = event->n_prompt_tokens;
        if (event->decode_ms > total.decode_ms)
            total.decode_ms = event->decode_ms;
        if (event->finish == KVERN_FINISH_ERROR && !error)
            error = &event->error;
    }
    if (error && total.n_failed < job->n_answers)
        fail(&total.error, error->status, "%zu of %zu answers failed: %s", total.n_failed,
             job->n_answers, error->message);
    else if (error)
        total.error = *error;
    return total;
}

static const char *text_of(const struct answer *answer)
{
    return answer->text.data ? answer->text.data : "";
}

static json_t *answer_json(const struct answer *answer)
{
    bool has_failed = answer->event.finish == KVERN_FINISH_ERROR;
    json_t *score = answer->event.has_score ? json_real((double)answer->event.score) : NULL;

    return json_pack("{s:s% s:s s:o* s:s* s:O*}", "text", text_of(answer), answer->text.n_bytes,
                     "finish_reason", kvern_finish_name(answer->event.finish), "score", score,
                     "error", has_failed ? answer->event.error.message : NULL, "logprobs",
                     answer->logprobs);
}

static json_t *answers_json(const struct job *job)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < job->n_answers; i++) {
        if (json_array_append_new(list, answer_json(&job->answers[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *several_json(const struct job *job, const kvern_model *model)
{
    const struct job_totals total = job_total(job);
    json_t *result =
        json_pack("{s:O s:o s:{s:I s:I s:I} s:{s:f s:f s:f} s:s*}", "id", job->prompt.id, "answers",
                  answers_json(job), "usage", "prompt_tokens", (json_int_t)total.n_prompt_tokens,
                  "completion_tokens", (json_int_t)total.n_completion_tokens, "cached_tokens",
                  (json_int_t)total.n_cached_tokens, "timings", "wait_ms", total.wait_ms,
                  "prefill_ms", total.prefill_ms, "decode_ms", total.decode_ms, "error",
                  total.error.status != KVERN_OK ? total.error.message : NULL);

    note_tokenizer(result, model);
    return result;
}

json_t *job_json(const struct job *job, const kvern_model *model)
{
    const struct answer *answer = &job->answers[0];

    if (job->n_answers > 1)
        return several_json(job, model);
    json_t *result =
        result_json(model, job->prompt.id, text_of(answer), answer->text.n_bytes, &answer->event);
    if (result && answer->logprobs)
        json_object_set(result, "logprobs", answer->logprobs);
    return result;
}

void job_print_id(const struct job *job, FILE *stream)
{
    char *text = json_dumps(job->prompt.id, JSON_ENCODE_ANY | JSON_COMPACT);

    fputs(text ? text : "?", stream);
    free(text);
}

void job_print_texts(const struct job *job, bool has_headings)
{
    for (size_t i = 0; i < job->n_answers; i++) {
        const struct answer *answer = &job->answers[i];

        if (has_headings) {
            fputs("--- ", stdout);
            job_print_id(job, stdout);
            if (job->n_answers > 1)
                printf(" %zu/%zu", i + 1, job->n_answers);
            output_text("\n", 1);
        }
        output_text(text_of(answer), answer->text.n_bytes);
        output_text("\n", 1);
    }
    output_flush();
}

bool job_is_empty(const struct job *job)
{
    for (size_t i = 0; i < job->n_answers; i++) {
        if (job->answers[i].text.n_bytes > 0)
            return false;
    }
    return true;
}
