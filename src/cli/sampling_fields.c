/* SPDX-License-Identifier: Apache-2.0
 *
 * One table row or one function for each field of a line.
 */
#include "cli/sampling_fields.h"

#include "base/error.h"
#include "base/memory.h"
#include "cli/json_fields.h"
#include "cli/sampling_flags.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STOPS = 16, MAX_TOKENS = 1 << 24 };

static const char *const unsupported[] = {
    "best_of",       "max_completion_tokens", "mirostat", "num_beam_groups", "num_return_sequences",
    "penalty_alpha", "response_format",       "tools",    "top_logprobs",
};

static kvern_status read_numbers(kvern_request_options *request, const json_t *fields,
                                 kvern_error *err)
{
    kvern_sampling *sampling = &request->sampling;
    const struct {
        const char *name;
        double low, high;
        float *value;
    } floats[] = {
        {"temperature", 0, 100, &sampling->temperature},
        {"top_p", LEAST_P, 1, &sampling->top_p},
        {"min_p", 0, 1, &sampling->min_p},
        {"typical_p", LEAST_P, 1, &sampling->typical_p},
        {"repetition_penalty", LEAST_PENALTY, 100, &sampling->repetition_penalty},
        {"presence_penalty", -2, 2, &sampling->presence_penalty},
        {"frequency_penalty", -2, 2, &sampling->frequency_penalty},
        {"length_penalty", -10, 10, &request->length_penalty},
    };
    json_int_t seed = (json_int_t)sampling->seed;
    json_int_t num_beams = request->num_beams;
    const struct {
        const char *name;
        int32_t *value;
    } integers[] = {
        {"top_k", &sampling->top_k},
        {"max_tokens", &request->max_tokens},
        {"min_tokens", &request->min_tokens},
        {"priority", &request->priority},
        {"timeout_ms", &request->timeout_ms},
        {"no_repeat_ngram_size", &sampling->no_repeat_ngram_size},
    };
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < sizeof floats / sizeof floats[0]; i++)
        status =
            read_float(fields, floats[i].name, floats[i].low, floats[i].high, floats[i].value, err);
    for (size_t i = 0; status == KVERN_OK && i < sizeof integers / sizeof integers[0]; i++) {
        json_int_t value = *integers[i].value;

        status = read_integer(fields, integers[i].name, 0, MAX_TOKENS, &value, err);
        *integers[i].value = (int32_t)value;
    }
    if (status == KVERN_OK)
        status = read_integer(fields, "seed", 0, (json_int_t)MAX_SEED, &seed, err);
    sampling->seed = (uint64_t)seed;
    if (status == KVERN_OK)
        status = read_integer(fields, "num_beams", 0, MAX_BEAMS, &num_beams, err);
    request->num_beams = (int32_t)num_beams;
    if (status == KVERN_OK)
        status = read_boolean(fields, "ignore_eos", &request->ignore_eos, err);
    if (status == KVERN_OK && request->max_tokens > 0 && request->min_tokens > request->max_tokens)
        status = fail(err, KVERN_INVALID, "\"min_tokens\" is %d, over \"max_tokens\", which is %d",
                      request->min_tokens, request->max_tokens);
    return status;
}

/* As in transformers: true, false or "never". */
static kvern_status read_early_stopping(kvern_request_options *request, const json_t *fields,
                                        kvern_error *err)
{
    const json_t *rule = json_object_get(fields, "early_stopping");
    const char *name = json_string_value(rule);
    char shown[SHOWN_BYTES];

    if (json_is_boolean(rule))
        request->early_stopping =
            json_is_true(rule) ? KVERN_EARLY_STOPPING_TRUE : KVERN_EARLY_STOPPING_FALSE;
    else if (name && strcmp(name, "never") == 0)
        request->early_stopping = KVERN_EARLY_STOPPING_NEVER;
    else if (rule)
        return fail(err, KVERN_INVALID,
                    "\"early_stopping\" must be true, false or \"never\", not %s",
                    show_json(rule, shown));
    return KVERN_OK;
}

/* A name that prompts share computed prefixes under. */
static kvern_status read_cache_key(kvern_request_options *request, const json_t *fields,
                                   kvern_error *err)
{
    const json_t *key = json_object_get(fields, "cache_key");
    char shown[SHOWN_BYTES];

    if (key && !json_is_string(key))
        return fail(err, KVERN_INVALID, "\"cache_key\" must be a string, not %s",
                    show_json(key, shown));
    if (key)
        request->cache_key = json_string_value(key);
    return KVERN_OK;
}

static kvern_status read_logprobs(kvern_request_options *request, const json_t *fields,
                                  kvern_error *err)
{
    const json_t *of = json_object_get(fields, "logprobs_of");
    const char *name = json_string_value(of);
    json_int_t n = request->top_logprobs;
    char shown[SHOWN_BYTES];
    kvern_status status = read_integer(fields, "logprobs", 0, MAX_TOP_LOGPROBS, &n, err);

    if (status != KVERN_OK)
        return status;
    request->top_logprobs = (int32_t)n;
    if (json_object_get(fields, "logprobs") && request->logprobs == KVERN_LOGPROBS_NONE)
        request->logprobs = KVERN_LOGPROBS_MODEL;
    if (!of)
        return KVERN_OK;
    if (request->logprobs == KVERN_LOGPROBS_NONE)
        return fail(err, KVERN_INVALID, "\"logprobs_of\" needs \"logprobs\" beside it");
    if (!name || !kvern_logprobs_from_name(name, &request->logprobs) ||
        request->logprobs == KVERN_LOGPROBS_NONE)
        return fail(err, KVERN_INVALID, "\"logprobs_of\" must be \"model\" or \"sampled\", not %s",
                    show_json(of, shown));
    return KVERN_OK;
}

static kvern_status read_stops(kvern_request_options *request, const json_t *fields,
                               struct sampling_lists *lists, kvern_error *err)
{
    const json_t *stop = json_object_get(fields, "stop");
    size_t n = json_is_string(stop) ? 1 : json_array_size(stop);
    char shown[SHOWN_BYTES];

    if (!stop)
        return KVERN_OK;
    if (n == 0 || n > MAX_STOPS)
        return fail(err, KVERN_INVALID, "\"stop\" must be a string or 1 to %d strings, not %s",
                    MAX_STOPS, show_json(stop, shown));
    lists->stop = new_or_abort(n * sizeof *lists->stop);
    for (size_t i = 0; i < n; i++) {
        lists->stop[i] = json_string_value(json_is_string(stop) ? stop : json_array_get(stop, i));
        if (!lists->stop[i])
            return fail(err, KVERN_INVALID, "\"stop\" must hold strings only, not %s",
                        show_json(json_array_get(stop, i), shown));
    }
    request->stop = lists->stop;
    request->n_stop = n;
    return KVERN_OK;
}

static kvern_status read_stop_tokens(kvern_request_options *request, const json_t *fields,
                                     size_t vocab_size, struct sampling_lists *lists,
                                     kvern_error *err)
{
    const json_t *ids = json_object_get(fields, "stop_token_ids");
    size_t n = json_array_size(ids);
    char shown[SHOWN_BYTES];

    if (!ids)
        return KVERN_OK;
    if (!json_is_array(ids) || n > MAX_STOP_TOKEN_IDS)
        return fail(err, KVERN_INVALID,
                    "\"stop_token_ids\" must be a list of at most %d token ids, not %s",
                    MAX_STOP_TOKEN_IDS, show_json(ids, shown));
    lists->stop_token_ids = new_or_abort(n * sizeof *lists->stop_token_ids);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(ids, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            (size_t)json_integer_value(id) >= vocab_size)
            return fail(err, KVERN_INVALID,
                        "\"stop_token_ids\" must hold whole numbers from 0 to %zu, not %s",
                        vocab_size - 1, show_json(id, shown));
        lists->stop_token_ids[i] = (int32_t)json_integer_value(id);
    }
    request->stop_token_ids = lists->stop_token_ids;
    request->n_stop_token_ids = n;
    return KVERN_OK;
}

/* Written as a JSON number would be: no sign, space or leading zero, so that no id has two. */
static bool parse_id(const char *text, size_t vocab_size, int32_t *id)
{
    size_t value = 0;
    size_t n = strlen(text);

    if (n == 0 || n > 9 || strspn(text, "0123456789") != n || (n > 1 && *text == '0'))
        return false;
    for (size_t i = 0; i < n; i++)
        value = 10 * value + (size_t)(text[i] - '0');
    *id = (int32_t)value;
    return value < vocab_size;
}

static kvern_status read_biases(kvern_request_options *request, json_t *fields, size_t vocab_size,
                                struct sampling_lists *lists, kvern_error *err)
{
    json_t *biases = json_object_get(fields, "logit_bias");
    size_t n_biases = json_object_size(biases);
    char shown[SHOWN_BYTES];
    const char *key;
    json_t *value;
    size_t n = 0;

    if (!biases)
        return KVERN_OK;
    if (!json_is_object(biases) || n_biases > MAX_LOGIT_BIASES)
        return fail(err, KVERN_INVALID,
                    "\"logit_bias\" must be an object of at most %d members \"ID\": BIAS, not %s",
                    MAX_LOGIT_BIASES, show_json(biases, shown));
    lists->logit_bias = new_or_abort(n_biases * sizeof *lists->logit_bias);
    json_object_foreach(biases, key, value)
    {
        double bias = json_number_value(value);

        if (!parse_id(key, vocab_size, &lists->logit_bias[n].id))
            return fail(err, KVERN_INVALID,
                        "\"logit_bias\" must have names from \"0\" to \"%zu\", not \"%.40s\"",
                        vocab_size - 1, key);
        if (!json_is_number(value) || !(bias >= -100 && bias <= 100))
            return fail(err, KVERN_INVALID,
                        "\"logit_bias\" of token %s must be a number from -100 to 100, not %s", key,
                        show_json(value, shown));
        lists->logit_bias[n++].bias = (float)bias;
    }
    request->sampling.logit_bias = lists->logit_bias;
    request->sampling.n_logit_bias = n;
    return KVERN_OK;
}

kvern_status sampling_fields_read(kvern_request_options *request, const kvern_model *model,
                                  json_t *fields, struct sampling_lists *lists, kvern_error *err)
{
    kvern_model_info info;
    kvern_status status = KVERN_OK;

    kvern_model_get_info(model, &info);
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        if (json_object_get(fields, unsupported[i]))
            return fail(err, KVERN_UNSUPPORTED, "\"%s\" is not supported; leave it out",
                        unsupported[i]);
    }
    status = read_numbers(request, fields, err);
    if (status == KVERN_OK)
        status = read_early_stopping(request, fields, err);
    if (status == KVERN_OK)
        status = read_logprobs(request, fields, err);
    if (status == KVERN_OK)
        status = read_stops(request, fields, lists, err);
    if (status == KVERN_OK)
        status = read_stop_tokens(request, fields, (size_t)info.vocab_size, lists, err);
    if (status == KVERN_OK)
        status = read_biases(request, fields, (size_t)info.vocab_size, lists, err);
    if (status == KVERN_OK)
        status = read_cache_key(request, fields, err);
    return status;
}

void sampling_lists_clear(struct sampling_lists *lists)
{
    free(lists->stop);
    free(lists->stop_token_ids);
    free(lists->logit_bias);
    *lists = (struct sampling_lists){0};
}
