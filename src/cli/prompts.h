/* SPDX-License-Identifier: Apache-2.0
 *
 * The prompts of one generate run: from arguments, a file, stdin or JSON Lines, each with its own
 * sampling fields, made into token ids.
 */
#ifndef KVERN_CLI_PROMPTS_H
#define KVERN_CLI_PROMPTS_H

#include "cli/sampling_fields.h"
#include "kvern.h"

#include <jansson.h>

/* What a prompt starts from; a JSON line may change each field for itself. */
struct prompt_settings {
    kvern_request_options request; /* sampling, max_tokens, stop; no prompt */
    const char *system;            /* NULL: the template's own */
    bool is_raw;                   /* no chat template */
};

struct prompt {
    json_t *id; /* owned: the line's "id", or its number from 0 */
    kvern_tokens tokens;
    kvern_request_options request; /* prompt and lists point into this struct */
    struct sampling_lists lists;
    json_t *fields; /* owned: the JSON line, or NULL */
};

struct prompts {
    struct prompt *items; /* [n], owned */
    size_t n;
    size_t capacity;
};

kvern_status prompts_add_text(struct prompts *prompts, const kvern_model *model,
                              const struct prompt_settings *settings, const char *text,
                              kvern_error *err);
/* Every non-empty line is an object {"id", "prompt" | "messages", sampling fields}; an error names
 * the line. */
kvern_status prompts_add_jsonl(struct prompts *prompts, const kvern_model *model,
                               const struct prompt_settings *settings, const char *text,
                               size_t n_bytes, kvern_error *err);
void prompts_clear(struct prompts *prompts);

#endif
