/* SPDX-License-Identifier: Apache-2.0
 *
 * One prompt of a generate run: from text or from the fields of a JSON line, with its own sampling
 * fields, made into token ids.
 */
#ifndef KVERN_CLI_PROMPTS_H
#define KVERN_CLI_PROMPTS_H

#include "cli/sampling_fields.h"
#include "cli/sampling_flags.h"
#include "kvern.h"

#include <jansson.h>

/* What a prompt starts from; a JSON line may change each field for itself. */
struct prompt_settings {
    kvern_request_options request; /* sampling, max_tokens, stop; no prompt */
    size_t n;                      /* answers, 1 to MAX_SAMPLES */
    const char *system;            /* NULL: the template's own */
    bool is_raw;                   /* no chat template */
};

struct prompt {
    json_t *id; /* owned; set by the caller */
    size_t n;   /* answers to it */
    kvern_tokens tokens;
    kvern_request_options request; /* prompt and lists point into this struct */
    struct sampling_lists lists;
    json_t *fields; /* owned: the JSON line, or NULL */
};

void prompt_init(struct prompt *prompt, const struct prompt_settings *settings);
kvern_status prompt_set_text(struct prompt *prompt, const kvern_model *model,
                             const struct prompt_settings *settings, const char *text,
                             kvern_error *err);
/* From an object {"prompt" | "messages", sampling fields}, which is borrowed. */
kvern_status prompt_set_fields(struct prompt *prompt, const kvern_model *model,
                               const struct prompt_settings *settings, json_t *fields,
                               kvern_error *err);
void prompt_clear(struct prompt *prompt);

#endif
