/* SPDX-License-Identifier: Apache-2.0
 *
 * What became of a job that is done: its answers as a line of JSON or as text, and what they took
 * together. One answer is told as itself, several as a list.
 */
#ifndef KVERN_CLI_JOB_RESULT_H
#define KVERN_CLI_JOB_RESULT_H

#include "cli/jobs.h"

#include <stdio.h>

/* Of all answers. The prompt ran once, with the first of them. */
struct job_totals {
    size_t n_failed;
    size_t n_cut; /* ended by their max_tokens or the context limit */
    size_t n_cancelled;
    size_t n_prompt_tokens;
    size_t n_cached_tokens;
    size_t n_completion_tokens;
    double wait_ms;    /* the first one's */
    double prefill_ms; /* likewise */
    double decode_ms;  /* the longest one's */
    kvern_error error; /* what failed, and how many did if others did not; KVERN_OK: nothing */
};

struct job_totals job_total(const struct job *job);

/* With one answer what result_json() says, and "logprobs" if it has some. With more {"id",
 * "answers": [{"text", "finish_reason"}, ...], "usage", "timings"}, an answer's "logprobs" and
 * "error" beside its text, and an "error" of the line if it has one. NULL if memory ran out. */
json_t *job_json(const struct job *job, const kvern_model *model);

void job_print_id(const struct job *job, FILE *stream);
/* The texts on stdout, each under a line "--- ID", or "--- ID 1/3" of several, if `has_headings`.
 */
void job_print_texts(const struct job *job, bool has_headings);
/* None of its answers has any. */
bool job_is_empty(const struct job *job);

#endif
