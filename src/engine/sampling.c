/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of sampling fields, each written so that NaN fails it.
 */
#include "engine/sampling.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/beam.h"

#include <stdlib.h>
#include <string.h>

static const char *const logprobs_names[] = {[KVERN_LOGPROBS_NONE] = "none",
                                             [KVERN_LOGPROBS_MODEL] = "model",
                                             [KVERN_LOGPROBS_SAMPLED] = "sampled"};

static const char *const early_stopping_names[] = {[KVERN_EARLY_STOPPING_FALSE] = "false",
                                                   [KVERN_EARLY_STOPPING_TRUE] = "true",
                                                   [KVERN_EARLY_STOPPING_NEVER] = "never"};

static kvern_status check_numbers(const kvern_sampling *s, kvern_error *err)
{
    const struct {
        const char *name;
        float value, low, high;
        bool is_over; /* the low end itself is not allowed */
    } numbers[] = {
        {"repetition_penalty", s->repetition_penalty, 0, 100, true},
        {"presence_penalty", s->presence_penalty, -2, 2, false},
        {"frequency_penalty", s->frequency_penalty, -2, 2, false},
        {"temperature", s->temperature, 0, 100, false},
        {"top_p", s->top_p, 0, 1, true},
        {"min_p", s->min_p, 0, 1, false},
        {"typical_p", s->typical_p, 0, 1, true},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        float value = numbers[i].value;
        float low = numbers[i].low;
        float high = numbers[i].high;

        if (!(value >= low && value <= high && (value > low || !numbers[i].is_over)))
            return fail(err, KVERN_INVALID,
                        numbers[i].is_over ? "%s is %g; it must be over %g and at most %g"
                                           : "%s is %g; it must be from %g to %g",
                        numbers[i].name, (double)value, (double)low, (double)high);
    }
    if (s->no_repeat_ngram_size < 0)
        return fail(err, KVERN_INVALID, "no_repeat_ngram_size is %d; it must be 0 (off) or more",
                    s->no_repeat_ngram_size);
    if (s->top_k < 0)
        return fail(err, KVERN_INVALID, "top_k is %d; it must be 0 (off) or more", s->top_k);
    return KVERN_OK;
}

static kvern_status check_biases(const kvern_sampling *s, size_t vocab_size, kvern_error *err)
{
    if (s->n_logit_bias > MAX_LOGIT_BIASES)
        return fail(err, KVERN_LIMIT, "logit_bias has %zu tokens, over the limit of %d",
                    s->n_logit_bias, MAX_LOGIT_BIASES);
    for (size_t i = 0; i < s->n_logit_bias; i++) {
        int32_t id = s->logit_bias[i].id;
        float bias = s->logit_bias[i].bias;

        if (id < 0 || (size_t)id >= vocab_size)
            return fail(err, KVERN_INVALID, "logit_bias has token %d; the vocabulary has %zu", id,
                        vocab_size);
        if (!(bias >= -100 && bias <= 100))
            return fail(err, KVERN_INVALID,
                        "logit_bias of token %d is %g; it must be from -100 to 100", id,
                        (double)bias);
    }
    return KVERN_OK;
}

static int compare_ids(const void *a, const void *b)
{
    int32_t x = ((const kvern_logit_bias *)a)->id;
    int32_t y = ((const kvern_logit_bias *)b)->id;

    return (x > y) - (x < y);
}

kvern_status sampling_init(kvern_sampling *out, const kvern_sampling *sampling, size_t vocab_size,
                           kvern_error *err)
{
    size_t n = sampling->n_logit_bias;
    kvern_logit_bias *biases = NULL;
    kvern_status status = check_numbers(sampling, err);

    if (status == KVERN_OK)
        status = check_biases(sampling, vocab_size, err);
    if (status != KVERN_OK)
        return status;
    if (n > 0) {
        biases = new_or_abort(n * sizeof *biases);
        memcpy(biases, sampling->logit_bias, n * sizeof *biases);
        qsort(biases, n, sizeof *biases, compare_ids);
    }
    for (size_t i = 1; i < n; i++) {
        if (biases[i].id == biases[i - 1].id) {
            status =
                fail(err, KVERN_INVALID, "logit_bias has token %d more than once", biases[i].id);
            free(biases);
            return status;
        }
    }
    *out = *sampling;
    out->logit_bias = biases;
    return KVERN_OK;
}

void sampling_clear(kvern_sampling *sampling)
{
    free((void *)sampling->logit_bias);
    *sampling = (kvern_sampling){0};
}

static kvern_status check_stop_tokens(const kvern_request_options *options, size_t vocab_size,
                                      kvern_error *err)
{
    if (options->n_stop_token_ids > MAX_STOP_TOKENS)
        return fail(err, KVERN_LIMIT, "%zu stop_token_ids are over the limit of %d",
                    options->n_stop_token_ids, MAX_STOP_TOKENS);
    for (size_t i = 0; i < options->n_stop_token_ids; i++) {
        int32_t id = options->stop_token_ids[i];

        if (id < 0 || (size_t)id >= vocab_size)
            return fail(err, KVERN_INVALID, "stop_token_ids has token %d; the vocabulary has %zu",
                        id, vocab_size);
    }
    return KVERN_OK;
}

kvern_status sampling_check_request(const kvern_request_options *options, size_t max_tokens,
                                    size_t vocab_size, kvern_error *err)
{
    if (options->min_tokens < 0)
        return fail(err, KVERN_INVALID, "min_tokens is %d; it must be 0 (off) or more",
                    options->min_tokens);
    if ((size_t)options->min_tokens > max_tokens)
        return fail(err, KVERN_INVALID,
                    "min_tokens is %d; it must be at most the %zu tokens that the answer may have",
                    options->min_tokens, max_tokens);
    if ((int)options->logprobs < 0 || options->logprobs > KVERN_LOGPROBS_SAMPLED)
        return fail(err, KVERN_INVALID, "logprobs is %d; it must be from 0 to %d",
                    (int)options->logprobs, (int)KVERN_LOGPROBS_SAMPLED);
    if (options->top_logprobs < 0 || options->top_logprobs > MAX_TOP_LOGPROBS)
        return fail(err, KVERN_INVALID, "top_logprobs is %d; it must be from 0 to %d",
                    options->top_logprobs, MAX_TOP_LOGPROBS);
    if (options->top_logprobs > 0 && options->logprobs == KVERN_LOGPROBS_NONE)
        return fail(err, KVERN_INVALID, "top_logprobs is %d; without logprobs it must be 0",
                    options->top_logprobs);
    return check_stop_tokens(options, vocab_size, err);
}

/* What beams cannot do, or would do in silence otherwise than it says. */
static kvern_status check_beside_beams(const kvern_request_options *options, kvern_error *err)
{
    const struct {
        bool is_asked;
        const char *message;
    } refused[] = {
        {options->sampling.temperature > 0, "num_beams takes the likeliest answers, so temperature "
                                            "must be 0"},
        {options->embed, "num_beams is for answers; embed gives none"},
        {options->logprobs != KVERN_LOGPROBS_NONE, "num_beams gives one score for an answer and no "
                                                   "logprobs of its tokens"},
        {options->on_logits, "num_beams cannot show on_logits the logits of beams"},
        {options->score_prompt, "num_beams gives no scores of the prompt"},
        {options->conversation != 0, "num_beams cannot go on in a conversation"},
        {options->window > 0, "num_beams has no window that slides"},
        {options->n_stop > 0, "num_beams ends answers at tokens, so there can be no stop strings; "
                              "stop_token_ids are fine"},
    };

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (refused[i].is_asked)
            return fail(err, KVERN_UNSUPPORTED, "%s", refused[i].message);
    }
    return KVERN_OK;
}

kvern_status sampling_check_beams(const kvern_request_options *options, size_t n, kvern_error *err)
{
    if (options->num_beams < 0 || options->num_beams > MAX_BEAMS)
        return fail(err, KVERN_INVALID, "num_beams is %d; it must be from 0 to %d",
                    options->num_beams, MAX_BEAMS);
    if (!(options->length_penalty >= -10 && options->length_penalty <= 10))
        return fail(err, KVERN_INVALID, "length_penalty is %g; it must be from -10 to 10",
                    (double)options->length_penalty);
    if ((int)options->early_stopping < 0 || options->early_stopping > KVERN_EARLY_STOPPING_NEVER)
        return fail(err, KVERN_INVALID, "early_stopping is %d; it must be from 0 to %d",
                    (int)options->early_stopping, (int)KVERN_EARLY_STOPPING_NEVER);
    if (options->num_beams < 2)
        return KVERN_OK;
    if (n > (size_t)options->num_beams)
        return fail(err, KVERN_INVALID, "%zu answers of %d beams; there can be at most one a beam",
                    n, options->num_beams);
    return check_beside_beams(options, err);
}

const char *kvern_logprobs_name(kvern_logprobs logprobs)
{
    size_t n_names = sizeof logprobs_names / sizeof logprobs_names[0];

    return (size_t)logprobs < n_names ? logprobs_names[logprobs] : "";
}

bool kvern_logprobs_from_name(const char *name, kvern_logprobs *logprobs)
{
    for (size_t i = 0; i < sizeof logprobs_names / sizeof logprobs_names[0]; i++) {
        if (strcmp(name, logprobs_names[i]) == 0) {
            *logprobs = (kvern_logprobs)i;
            return true;
        }
    }
    return false;
}

const char *kvern_early_stopping_name(kvern_early_stopping early_stopping)
{
    size_t n_names = sizeof early_stopping_names / sizeof early_stopping_names[0];

    return (size_t)early_stopping < n_names ? early_stopping_names[early_stopping] : "";
}

bool kvern_early_stopping_from_name(const char *name, kvern_early_stopping *early_stopping)
{
    for (size_t i = 0; i < sizeof early_stopping_names / sizeof early_stopping_names[0]; i++) {
        if (strcmp(name, early_stopping_names[i]) == 0) {
            *early_stopping = (kvern_early_stopping)i;
            return true;
        }
    }
    return false;
}
