/* SPDX-License-Identifier: Apache-2.0
 *
 * struct prompt: every field of a line is checked, and what kvern does not know but other programs
 * do is refused by name.
 */
#include "cli/prompts.h"

#include "base/error.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/json_fields.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_MESSAGES = 1024 };

void prompt_init(struct prompt *prompt, const struct prompt_settings *settings)
{
    *prompt = (struct prompt){.request = settings->request, .n = settings->n};
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

kvern_status prompt_set_fields(struct prompt *prompt, const kvern_model *model,
                               const struct prompt_settings *settings, json_t *fields,
                               kvern_error *err)
{
    const json_t *text = json_object_get(fields, "prompt");
    const json_t *messages = json_object_get(fields, "messages");
    json_int_t n = (json_int_t)prompt->n;
    char shown[SHOWN_BYTES];

    prompt->fields = json_incref(fields);
    if (!json_is_object(fields))
        return fail(err, KVERN_FORMAT, "not a JSON object: %s", show_json(fields, shown));
    if (!text == !messages)
        return fail(err, KVERN_INVALID, "needs either \"prompt\" or \"messages\", %s",
                    text ? "not both" : "and has none");
    if (text && !json_is_string(text))
        return fail(err, KVERN_INVALID, "\"prompt\" must be a string, not %s",
                    show_json(text, shown));

    kvern_status status = read_integer(fields, "n", 1, MAX_SAMPLES, &n, err);
    prompt->n = (size_t)n;
    if (status == KVERN_OK)
        status = sampling_fields_read(&prompt->request, model, fields, &prompt->lists, err);
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
    sampling_lists_clear(&prompt->lists);
    *prompt = (struct prompt){0};
}
