/* SPDX-License-Identifier: Apache-2.0
 *
 * struct prompt: every field of a line is checked, and what kvern does not know but other programs
 * do is refused by name.
 */
#include "cli/prompts.h"

#include "base/error.h"
#include "base/memory.h"
#include "cli/command.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 1024, MAX_STOPS = 16 };

/* Sampling fields of other programs: left aside, they would change the answer in silence. */
static const char *const unsupported[] = {
    "best_of",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "mirostat",
    "n",
    "num_beams",
    "presence_penalty",
    "response_format",
    "tools",
    "top_logprobs",
    "typical_p",
};

enum { SHOWN_BYTES = 48 };

/* The value as JSON for an error message, cut to fit. */
static const char *show(const json_t *value, char shown[SHOWN_BYTES])
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    size_t n = text ? strlen(text) : 0;

    if (n >= SHOWN_BYTES) {
        n = SHOWN_BYTES - sizeof "...";
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--; /* never in the middle of a character */
        memcpy(shown + n, "...", sizeof "...");
    } else {
        shown[n] = '\0';
    }
    if (n > 0)
        memcpy(shown, text, n);
    free(text);
    return shown;
}

void prompt_init(struct prompt *prompt, const struct prompt_settings *settings)
{
    *prompt = (struct prompt){.request = settings->request};
}

static void set_tokens(struct prompt *prompt)
{
    prompt->request.prompt = prompt->tokens.ids;
    prompt->request.n_prompt = prompt->tokens.n;
}

kvern_status prompt_set_text(struct prompt *prompt, const kvern_model *model,
                             const struct prompt_settings *settings, const char *text,
                             kvern_error *err)
{
    kvern_status status =
        make_prompt(model, settings->system, text, settings->is_raw, &prompt->tokens, err);

    set_tokens(prompt);
    return status;
}

static kvern_status read_messages(struct prompt *prompt, const kvern_model *model,
                                  const json_t *list, kvern_error *err)
{
    size_t n = json_array_size(list);
    char shown[SHOWN_BYTES];

    if (n == 0)
        return fail(err, KVERN_INVALID, "\"messages\" must be a list of 1 to %d messages, not %s",
                    MAX_MESSAGES, show(list, shown));
    if (n > MAX_MESSAGES)
        return fail(err, KVERN_LIMIT, "\"messages\" has %zu messages, over the limit of %d", n,
                    MAX_MESSAGES);

    kvern_message *messages = new_or_abort(n * sizeof *messages);
    kvern_status status = KVERN_OK;
    for (size_t i = 0; status == KVERN_OK && i < n; i++) {
        const json_t *item = json_array_get(list, i);

        messages[i].role = json_string_value(json_object_get(item, "role"));
        messages[i].content = json_string_value(json_object_get(item, "content"));
        if (!messages[i].role || !messages[i].content)
            status = fail(err, KVERN_INVALID,
                          "message %zu needs the strings \"role\" and \"content\"; it is %s", i,
                          show(item, shown));
    }
    if (status == KVERN_OK)
        status = kvern_chat_tokenize(model, messages, n, true, &prompt->tokens, err);
    free(messages);
    return status;
}

/* Leaves *value as it is if the field is not there. */
static kvern_status read_float(const json_t *fields, const char *name, double low, double high,
                               float *value, kvern_error *err)
{
    const json_t *field = json_object_get(fields, name);
    double number = json_number_value(field);
    char shown[SHOWN_BYTES];

    if (!field)
        return KVERN_OK;
    if (!json_is_number(field) || !(number >= low && number <= high))
        return fail(err, KVERN_INVALID, "\"%s\" must be a number from %g to %g, not %s", name, low,
                    high, show(field, shown));
    *value = (float)number;
    return KVERN_OK;
}

static kvern_status read_integer(const json_t *fields, const char *name, json_int_t high,
                                 json_int_t *value, kvern_error *err)
{
    const json_t *field = json_object_get(fields, name);
    char shown[SHOWN_BYTES];

    if (!field)
        return KVERN_OK;
    if (!json_is_integer(field) || json_integer_value(field) < 0 ||
        json_integer_value(field) > high)
        return fail(err, KVERN_INVALID, "\"%s\" must be a whole number from 0 to %lld, not %s",
                    name, (long long)high, show(field, shown));
    *value = json_integer_value(field);
    return KVERN_OK;
}

static kvern_status read_stops(struct prompt *prompt, const json_t *stop, kvern_error *err)
{
    size_t n = json_is_string(stop) ? 1 : json_array_size(stop);
    char shown[SHOWN_BYTES];

    if (!stop)
        return KVERN_OK;
    if (n == 0 || n > MAX_STOPS)
        return fail(err, KVERN_INVALID, "\"stop\" must be a string or 1 to %d strings, not %s",
                    MAX_STOPS, show(stop, shown));
    prompt->stop = new_or_abort(n * sizeof *prompt->stop);
    for (size_t i = 0; i < n; i++) {
        prompt->stop[i] = json_string_value(json_is_string(stop) ? stop : json_array_get(stop, i));
        if (!prompt->stop[i])
            return fail(err, KVERN_INVALID, "\"stop\" must hold strings only, not %s",
                        show(json_array_get(stop, i), shown));
    }
    prompt->request.stop = prompt->stop;
    prompt->request.n_stop = n;
    return KVERN_OK;
}

static kvern_status read_sampling(struct prompt *prompt, const json_t *fields, kvern_error *err)
{
    kvern_sampling *sampling = &prompt->request.sampling;
    const struct {
        const char *name;
        double low, high;
        float *value;
    } floats[] = {
        {"temperature", 0, 100, &sampling->temperature},
        {"top_p", 1e-6, 1, &sampling->top_p}, /* 0 would leave no token */
        {"min_p", 0, 1, &sampling->min_p},
        {"repetition_penalty", 0.01, 100, &sampling->repetition_penalty},
    };
    json_int_t top_k = sampling->top_k;
    json_int_t max_tokens = prompt->request.max_tokens;
    json_int_t seed = (json_int_t)sampling->seed;
    const json_t *ignore_eos = json_object_get(fields, "ignore_eos");
    char shown[SHOWN_BYTES];
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        if (json_object_get(fields, unsupported[i]))
            return fail(err, KVERN_UNSUPPORTED, "\"%s\" is not supported; leave it out",
                        unsupported[i]);
    }
    for (size_t i = 0; status == KVERN_OK && i < sizeof floats / sizeof floats[0]; i++)
        status =
            read_float(fields, floats[i].name, floats[i].low, floats[i].high, floats[i].value, err);
    if (status == KVERN_OK)
        status = read_integer(fields, "top_k", 1 << 24, &top_k, err);
    if (status == KVERN_OK)
        status = read_integer(fields, "max_tokens", 1 << 24, &max_tokens, err);
    if (status == KVERN_OK)
        status = read_integer(fields, "seed", (json_int_t)MAX_SEED, &seed, err);
    if (status == KVERN_OK && ignore_eos && !json_is_boolean(ignore_eos))
        status = fail(err, KVERN_INVALID, "\"ignore_eos\" must be true or false, not %s",
                      show(ignore_eos, shown));
    if (status != KVERN_OK)
        return status;
    sampling->top_k = (int32_t)top_k;
    sampling->seed = (uint64_t)seed;
    prompt->request.max_tokens = (int32_t)max_tokens;
    if (ignore_eos)
        prompt->request.ignore_eos = json_is_true(ignore_eos);
    return read_stops(prompt, json_object_get(fields, "stop"), err);
}

kvern_status prompt_set_fields(struct prompt *prompt, const kvern_model *model,
                               const struct prompt_settings *settings, json_t *fields,
                               kvern_error *err)
{
    const json_t *text = json_object_get(fields, "prompt");
    const json_t *messages = json_object_get(fields, "messages");
    char shown[SHOWN_BYTES];

    prompt->fields = json_incref(fields);
    if (!json_is_object(fields))
        return fail(err, KVERN_FORMAT, "not a JSON object: %s", show(fields, shown));
    if (!text == !messages)
        return fail(err, KVERN_INVALID, "needs either \"prompt\" or \"messages\", %s",
                    text ? "not both" : "and has none");
    if (text && !json_is_string(text))
        return fail(err, KVERN_INVALID, "\"prompt\" must be a string, not %s", show(text, shown));

    kvern_status status = read_sampling(prompt, fields, err);
    if (status != KVERN_OK)
        return status;
    if (text)
        return prompt_set_text(prompt, model, settings, json_string_value(text), err);
    status = read_messages(prompt, model, messages, err);
    set_tokens(prompt);
    return status;
}

void prompt_clear(struct prompt *prompt)
{
    json_decref(prompt->id);
    json_decref(prompt->fields);
    kvern_tokens_clear(&prompt->tokens);
    free(prompt->stop);
    *prompt = (struct prompt){0};
}
