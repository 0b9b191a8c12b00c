/* SPDX-License-Identifier: Apache-2.0
 *
 * Conversations -> the text a model was trained on, through the model's own chat template, given
 * the variables that transformers gives it (messages, tools, documents, add_generation_prompt and
 * the special tokens). Does not tokenize.
 */
#ifndef KVERN_TEXT_CHAT_H
#define KVERN_TEXT_CHAT_H

#include "text/jinja.h"

/* A special token's text by its name in tokenizer_config.json. */
struct chat_token {
    const char *name; /* "bos_token", "eos_token", "pad_token", "unk_token", ... */
    const char *text;
};

struct chat_options {
    bool add_generation_prompt;
    const struct chat_token *tokens; /* [n_tokens]; trusted */
    size_t n_tokens;
    json_t *variables; /* more names for the template (date_string, enable_thinking), or NULL; they
                          come from a request and are untrusted */
    int64_t now;       /* as in struct jinja_input */
    struct jinja_limits limits;
};

/* text and segments: see struct jinja_output. A control token may be read only where every byte of
 * it is trusted: what messages say stays text, also where it spells <|im_end|>. */
struct chat_text {
    char *text;
    size_t n_bytes;
    struct jinja_segment *segments;
    size_t n_segments;
};

/* `template` NULL: KVERN_UNSUPPORTED, a sentence that names `model` and says what to do. Content
 * that is not UTF-8 is taken with U+FFFD for each ill-formed byte. */
kvern_status chat_render(const struct jinja_template *template, const char *model,
                         const kvern_message *messages, size_t n_messages,
                         const struct chat_options *options, struct chat_text *out,
                         kvern_error *err);
void chat_text_clear(struct chat_text *text);

#endif
