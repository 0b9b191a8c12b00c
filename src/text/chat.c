/* SPDX-License-Identifier: Apache-2.0
 *
 * Builds a chat template's variables as transformers' apply_chat_template does and renders it. Only
 * the special tokens are trusted; roles, contents and extra variables come from a request.
 */
#include "text/chat.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/utf8.h"

#include <string.h>

/* NULL without memory. */
static json_t *json_text(const char *text)
{
    struct buffer valid = {0};
    size_t n_bytes = strlen(text);
    json_t *string = NULL;

    if (utf8_is_valid(text, n_bytes))
        return json_stringn(text, n_bytes);
    for (size_t i = 0; i < n_bytes;) {
        uint32_t code_point;
        size_t n = utf8_decode(text + i, n_bytes - i, &code_point);

        buffer_add_code_point(&valid, code_point);
        i += n ? n : 1;
    }
    if (!valid.has_failed)
        string = json_stringn(valid.data, valid.n_bytes);
    buffer_clear(&valid);
    return string;
}

/* Steals `value`. */
static bool put(json_t *object, const char *name, json_t *value)
{
    return value && json_object_set_new(object, name, value) == 0;
}

static json_t *json_messages(const kvern_message *messages, size_t n_messages)
{
    json_t *array = json_array();

    for (size_t i = 0; array && i < n_messages; i++) {
        json_t *message = json_object();
        bool is_made = message && put(message, "role", json_text(messages[i].role)) &&
                       put(message, "content",
                           messages[i].content ? json_text(messages[i].content) : json_null());

        if (!is_made || json_array_append(array, message) != 0) {
            json_decref(array);
            array = NULL;
        }
        json_decref(message);
    }
    return array;
}

kvern_status chat_render(const struct jinja_template *template, const char *model,
                         const kvern_message *messages, size_t n_messages,
                         const struct chat_options *options, struct chat_text *out,
                         kvern_error *err)
{
    struct jinja_input input = {.limits = options->limits, .now = options->now};
    struct jinja_output rendered = {0};
    kvern_status status;

    if (!template)
        return fail(err, KVERN_UNSUPPORTED,
                    "model %s has no chat template: give it a plain prompt, or add the template of "
                    "the model it was trained from to its directory",
                    model);
    for (size_t i = 0; i < n_messages; i++) {
        if (!messages[i].role)
            return fail(err, KVERN_INVALID, "message %zu has no role", i + 1);
    }
    input.trusted = json_object();
    input.untrusted = json_object();
    bool is_made =
        input.trusted && input.untrusted && put(input.trusted, "tools", json_null()) &&
        put(input.trusted, "documents", json_null()) &&
        put(input.trusted, "add_generation_prompt", json_boolean(options->add_generation_prompt));
    for (size_t i = 0; is_made && i < options->n_tokens; i++)
        is_made = put(input.trusted, options->tokens[i].name, json_text(options->tokens[i].text));
    if (is_made && options->variables)
        is_made = json_object_update(input.untrusted, options->variables) == 0;
    is_made = is_made && put(input.untrusted, "messages", json_messages(messages, n_messages));
    if (!is_made) {
        status = fail(err, KVERN_MEMORY, "no memory for the %zu messages of a chat", n_messages);
        goto done;
    }
    status = jinja_render(template, &input, &rendered, err);
    if (!status)
        *out = (struct chat_text){rendered.text, rendered.n_bytes, rendered.segments,
                                  rendered.n_segments};
done:
    json_decref(input.trusted);
    json_decref(input.untrusted);
    return status;
}

void chat_text_clear(struct chat_text *text)
{
    if (text) {
        struct jinja_output output = {.text = text->text, .segments = text->segments};

        jinja_output_clear(&output);
        *text = (struct chat_text){0};
    }
}
