/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompts are checked and tokenized when they are read: a bad line 900 fails before anything runs.
 */
#include "cli/prompts.h"

#include "base/error.h"
#include "base/memory.h"
#include "cli/command.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 1024, MAX_STOPS = 16 };

static struct prompt *add(struct prompts *prompts, const struct prompt_settings *settings)
{
    if (prompts->n == prompts->capacity) {
        prompts->capacity = prompts->capacity ? 2 * prompts->capacity : 16;
        prompts->items =
            resize_or_abort(prompts->items, prompts->capacity * sizeof *prompts->items);
    }
    struct prompt *prompt = &prompts->items[prompts->n];
    *prompt =
        (struct prompt){.id = json_integer((json_int_t)prompts->n), .request = settings->request};
    prompts->n++;
    return prompt;
}

static void set_tokens(struct prompt *prompt)
{
    prompt->request.prompt = prompt->tokens.ids;
    prompt->request.n_prompt = prompt->tokens.n;
}

kvern_status prompts_add_text(struct prompts *prompts, const kvern_model *model,
                              const struct prompt_settings *settings, const char *text,
                              kvern_error *err)
{
    struct prompt *prompt = add(prompts, settings);
    kvern_status status =
        make_prompt(model, settings->system, text, settings->is_raw, &prompt->tokens, err);

    set_tokens(prompt);
    return status;
}

static kvern_status read_messages(struct prompt *prompt, const kvern_model *model,
                                  const json_t *list, kvern_error *err)
{
    size_t n = json_array_size(list);

    if (n == 0 || n > MAX_MESSAGES)
        return fail(err, KVERN_INVALID, "\"messages\" must be a list of 1 to %d messages",
                    MAX_MESSAGES);

    kvern_message *messages = new_or_abort(n * sizeof *messages);
    kvern_status status = KVERN_OK;
    for (size_t i = 0; status == KVERN_OK && i < n; i++) {
        const json_t *item = json_array_get(list, i);

        messages[i].role = json_string_value(json_object_get(item, "role"));
        messages[i].content = json_string_value(json_object_get(item, "content"));
        if (!messages[i].role || !messages[i].content)
            status = fail(err, KVERN_INVALID,
                          "message %zu needs the strings \"role\" and \"content\"", i);
    }
    if (status == KVERN_OK)
        status = kvern_chat_tokenize(model, messages, n, true, &prompt->tokens, err);
    free(messages);
    return status;
}

static kvern_status read_number(const json_t *fields, const char *name, double low, double high,
                                double *value, kvern_error *err)
{
    const json_t *field = json_object_get(fields, name);

    if (!field)
        return KVERN_OK;
    if (!json_is_number(field) || !(json_number_value(field) >= low) ||
        !(json_number_value(field) <= high))
        return fail(err, KVERN_INVALID, "\"%s\" must be a number from %g to %g", name, low, high);
    *value = json_number_value(field);
    return KVERN_OK;
}

static kvern_status read_stops(struct prompt *prompt, const json_t *stop, kvern_error *err)
{
    size_t n = json_is_string(stop) ? 1 : json_array_size(stop);

    if (!stop)
        return KVERN_OK;
    if (n == 0 || n > MAX_STOPS)
        return fail(err, KVERN_INVALID, "\"stop\" must be a string or 1 to %d strings", MAX_STOPS);
    prompt->stop = new_or_abort(n * sizeof *prompt->stop);
    for (size_t i = 0; i < n; i++) {
        prompt->stop[i] = json_string_value(json_is_string(stop) ? stop : json_array_get(stop, i));
        if (!prompt->stop[i])
            return fail(err, KVERN_INVALID, "\"stop\" must hold strings only");
    }
    prompt->request.stop = prompt->stop;
    prompt->request.n_stop = n;
    return KVERN_OK;
}

static kvern_status read_sampling(struct prompt *prompt, const json_t *fields, kvern_error *err)
{
    kvern_sampling *sampling = &prompt->request.sampling;
    struct {
        const char *name;
        double low, high, value;
    } numbers[] = {
        {"temperature", 0, 100, sampling->temperature},
        {"top_k", 0, 1e9, sampling->top_k},
        {"top_p", 0, 1, sampling->top_p},
        {"min_p", 0, 1, sampling->min_p},
        {"repetition_penalty", 0.01, 100, sampling->repetition_penalty},
        {"seed", 0, 9007199254740992.0, (double)sampling->seed},
        {"max_tokens", 1, 1e9, prompt->request.max_tokens},
    };
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < sizeof numbers / sizeof numbers[0]; i++)
        status = read_number(fields, numbers[i].name, numbers[i].low, numbers[i].high,
                             &numbers[i].value, err);
    if (status != KVERN_OK)
        return status;
    sampling->temperature = (float)numbers[0].value;
    sampling->top_k = (int32_t)numbers[1].value;
    sampling->top_p = (float)numbers[2].value;
    sampling->min_p = (float)numbers[3].value;
    sampling->repetition_penalty = (float)numbers[4].value;
    sampling->seed = (uint64_t)numbers[5].value;
    prompt->request.max_tokens = (int32_t)numbers[6].value;
    if (json_is_true(json_object_get(fields, "ignore_eos")))
        prompt->request.ignore_eos = true;
    return read_stops(prompt, json_object_get(fields, "stop"), err);
}

static kvern_status add_line(struct prompts *prompts, const kvern_model *model,
                             const struct prompt_settings *settings, const char *line,
                             size_t n_bytes, kvern_error *err)
{
    json_error_t problem;
    json_t *fields = json_loadb(line, n_bytes, JSON_ALLOW_NUL, &problem);

    if (!fields)
        return fail(err, KVERN_FORMAT, "not JSON: %s", problem.text);

    struct prompt *prompt = add(prompts, settings);
    prompt->fields = fields;
    if (!json_is_object(fields))
        return fail(err, KVERN_FORMAT, "not a JSON object");

    const json_t *text = json_object_get(fields, "prompt");
    const json_t *messages = json_object_get(fields, "messages");
    json_t *id = json_object_get(fields, "id");
    if (!text == !messages)
        return fail(err, KVERN_INVALID, "needs \"prompt\" or \"messages\"");
    if (text && !json_is_string(text))
        return fail(err, KVERN_INVALID, "\"prompt\" must be a string");
    if (id) {
        json_decref(prompt->id);
        prompt->id = json_incref(id);
    }
    kvern_status status = read_sampling(prompt, fields, err);
    if (status != KVERN_OK)
        return status;
    status = messages ? read_messages(prompt, model, messages, err)
                      : make_prompt(model, settings->system, json_string_value(text),
                                    settings->is_raw, &prompt->tokens, err);
    set_tokens(prompt);
    return status;
}

kvern_status prompts_add_jsonl(struct prompts *prompts, const kvern_model *model,
                               const struct prompt_settings *settings, const char *text,
                               size_t n_bytes, kvern_error *err)
{
    const char *end = text + n_bytes;
    size_t number = 0;

    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline ? newline : end;
        size_t n = (size_t)(line_end - text);

        number++;
        if (strspn(text, " \t\r") < n) {
            kvern_status status = add_line(prompts, model, settings, text, n, err);

            if (status != KVERN_OK)
                return fail_in(err, status, "line %zu", number);
        }
        text = newline ? newline + 1 : end;
    }
    return KVERN_OK;
}

void prompts_clear(struct prompts *prompts)
{
    for (size_t i = 0; i < prompts->n; i++) {
        struct prompt *prompt = &prompts->items[i];

        json_decref(prompt->id);
        json_decref(prompt->fields);
        kvern_tokens_clear(&prompt->tokens);
        free(prompt->stop);
    }
    free(prompts->items);
    *prompts = (struct prompts){0};
}
