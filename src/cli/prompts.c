/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompts are checked and tokenized when they are read: a bad line 900 fails before anything runs.
 */
#include "cli/prompts.h"

#include "base/error.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/json_fields.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 1024 };

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
    char shown[SHOWN_BYTES];

    if (n == 0)
        return fail(err, KVERN_INVALID, "\"messages\" must be a list of 1 to %d messages, not %s",
                    MAX_MESSAGES, show_json(list, shown));
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
                          show_json(item, shown));
    }
    if (status == KVERN_OK)
        status = kvern_chat_tokenize(model, messages, n, true, &prompt->tokens, err);
    free(messages);
    return status;
}

static kvern_status add_line(struct prompts *prompts, const kvern_model *model,
                             const struct prompt_settings *settings, const char *line,
                             size_t n_bytes, kvern_error *err)
{
    json_error_t problem;
    char shown[SHOWN_BYTES];
    json_t *fields = json_loadb(line, n_bytes, JSON_REJECT_DUPLICATES, &problem);

    if (!fields)
        return fail(err, KVERN_FORMAT, "not JSON: %s", problem.text);

    struct prompt *prompt = add(prompts, settings);
    prompt->fields = fields;
    if (!json_is_object(fields))
        return fail(err, KVERN_FORMAT, "not a JSON object: %s", show_json(fields, shown));

    const json_t *text = json_object_get(fields, "prompt");
    const json_t *messages = json_object_get(fields, "messages");
    json_t *id = json_object_get(fields, "id");
    if (!text == !messages)
        return fail(err, KVERN_INVALID, "needs either \"prompt\" or \"messages\", %s",
                    text ? "not both" : "and has none");
    if (text && !json_is_string(text))
        return fail(err, KVERN_INVALID, "\"prompt\" must be a string, not %s",
                    show_json(text, shown));
    if (id) {
        json_decref(prompt->id);
        prompt->id = json_incref(id);
    }
    kvern_status status =
        sampling_fields_read(&prompt->request, model, fields, &prompt->lists, err);
    if (status != KVERN_OK)
        return status;
    status = messages ? read_messages(prompt, model, messages, err)
                      : make_prompt(model, settings->system, json_string_value(text),
                                    settings->is_raw, &prompt->tokens, err);
    set_tokens(prompt);
    return status;
}

static bool is_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    }
    return true;
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
        if (!is_blank(text, n)) {
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
        sampling_lists_clear(&prompt->lists);
    }
    free(prompts->items);
    *prompts = (struct prompts){0};
}
