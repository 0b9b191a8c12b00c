/* SPDX-License-Identifier: Apache-2.0
 *
 * From option values to a request. What the library would refuse is a usage error here, but for
 * ids over the vocabulary's size, which no option knows.
 */
#include "cli/sampling_flags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A token id at the beginning of `text`; *end is what follows it. */
static bool parse_id(const char *text, int32_t *id, char **end)
{
    errno = 0;
    long long value = strtoll(text, end, 10);

    *id = (int32_t)value;
    return *end != text && !errno && value >= 0 && value <= INT32_MAX;
}

static int set_stop_tokens(struct sampling_flags *flags, const struct command_help *help,
                           kvern_request_options *request)
{
    const struct option_list *list = &flags->stop_token_ids;

    if (list->n > MAX_STOP_TOKEN_IDS)
        return usage_error(help, "--stop-token-id can be given %d times at most",
                           MAX_STOP_TOKEN_IDS);
    for (size_t i = 0; i < list->n; i++) {
        char *end;

        if (!parse_id(list->items[i], &flags->stop_tokens[i], &end) || *end)
            return usage_error(help, "--stop-token-id takes a token id, not '%s'", list->items[i]);
    }
    request->stop_token_ids = flags->stop_tokens;
    request->n_stop_token_ids = list->n;
    return 0;
}

static int set_biases(struct sampling_flags *flags, const struct command_help *help,
                      kvern_sampling *sampling)
{
    const struct option_list *list = &flags->logit_bias;

    for (size_t i = 0; i < list->n; i++) {
        const char *text = list->items[i];
        kvern_logit_bias *bias = &flags->biases[i];
        char *equals = NULL;
        char *end = NULL;
        bool is_good = parse_id(text, &bias->id, &equals) && *equals == '=';
        double value = is_good ? strtod(equals + 1, &end) : 0;

        if (!is_good || end == equals + 1 || *end || !(value >= -100 && value <= 100))
            return usage_error(
                help, "--logit-bias takes ID=BIAS with a bias from -100 to 100, not '%s'", text);
        bias->bias = (float)value;
        for (size_t j = 0; j < i; j++) {
            if (flags->biases[j].id == bias->id)
                return usage_error(help, "--logit-bias has token %d more than once", bias->id);
        }
    }
    sampling->logit_bias = flags->biases;
    sampling->n_logit_bias = list->n;
    return 0;
}

static int set_logprobs(const struct sampling_flags *flags, const struct command_help *help,
                        kvern_request_options *request)
{
    kvern_logprobs kind;

    if (!kvern_logprobs_from_name(flags->logprobs_of, &kind) || kind == KVERN_LOGPROBS_NONE)
        return usage_error(help, "--logprobs-of takes model or sampled, not '%s'",
                           flags->logprobs_of);
    if (flags->logprobs < 0)
        return 0;
    request->logprobs = kind;
    request->top_logprobs = (int32_t)flags->logprobs;
    return 0;
}

int set_sampling(struct sampling_flags *flags, const struct command_help *help,
                 kvern_request_options *request)
{
    kvern_sampling *sampling = &request->sampling;
    int exit_status = 0;

    for (size_t i = 0; i < flags->stop.n; i++) {
        if (*flags->stop.items[i] == '\0')
            return usage_error(help, "--stop takes a text that is not empty");
    }
    if (flags->max_tokens > 0 && flags->min_tokens > flags->max_tokens)
        return usage_error(help, "--min-tokens is %lld, over --max-tokens, which is %lld",
                           (long long)flags->min_tokens, (long long)flags->max_tokens);
    request->max_tokens = (int32_t)flags->max_tokens;
    request->min_tokens = (int32_t)flags->min_tokens;
    request->ignore_eos = flags->ignore_eos;
    request->stop = flags->stop.items;
    request->n_stop = flags->stop.n;
    sampling->temperature = (float)flags->temperature;
    sampling->top_k = (int32_t)flags->top_k;
    sampling->top_p = (float)flags->top_p;
    sampling->min_p = (float)flags->min_p;
    sampling->typical_p = (float)flags->typical_p;
    sampling->repetition_penalty = (float)flags->repetition_penalty;
    sampling->presence_penalty = (float)flags->presence_penalty;
    sampling->frequency_penalty = (float)flags->frequency_penalty;
    sampling->seed = (uint64_t)flags->seed;
    sampling->no_repeat_ngram_size = (int32_t)flags->no_repeat_ngram;
    request->num_beams = (int32_t)flags->num_beams;
    request->length_penalty = (float)flags->length_penalty;
    if (!kvern_early_stopping_from_name(flags->early_stopping, &request->early_stopping))
        return usage_error(help, "--early-stopping takes false, true or never, not '%s'",
                           flags->early_stopping);
    exit_status = set_stop_tokens(flags, help, request);
    if (exit_status == 0)
        exit_status = set_biases(flags, help, sampling);
    if (exit_status == 0)
        exit_status = set_logprobs(flags, help, request);
    return exit_status;
}
