/* SPDX-License-Identifier: Apache-2.0
 *
 * The member "embedding" of kvern.json: how the model's makers meant its output to become one
 * vector for a text. Absent for a model that nobody trained for that.
 */
#ifndef KVERN_MODEL_MANIFEST_EMBEDDING_H
#define KVERN_MODEL_MANIFEST_EMBEDDING_H

#include "kvern.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    EMBEDDING_LOGITS = 512, /* values of "logits512", or the vocabulary's if that is smaller */
    EMBEDDING_MAX_PROMPTS = 16,
    EMBEDDING_MAX_PROMPT_NAME = 64,  /* bytes, with the NUL */
    EMBEDDING_MAX_PROMPT_TEXT = 512, /* likewise */
};

struct manifest_prompt {
    char name[EMBEDDING_MAX_PROMPT_NAME]; /* not empty: "query" */
    char text[EMBEDDING_MAX_PROMPT_TEXT]; /* what stands before the text; may be empty */
};

/* A plain value: owns nothing. */
struct manifest_embedding {
    char pooling[16];   /* "last", "mean", "cls", "logits512"; "": not stated */
    bool is_normalized; /* vectors are made to length 1 */
    size_t max_tokens;  /* of a text; 0: what the model can take */
    struct manifest_prompt prompts[EMBEDDING_MAX_PROMPTS]; /* [n_prompts], names are unique */
    size_t n_prompts;
    char default_prompt[EMBEDDING_MAX_PROMPT_NAME]; /* a name of prompts; "": none */
};

/* Whether anything is stated. */
bool manifest_embedding_is_set(const struct manifest_embedding *embedding);

/* From the member's value. Every member of it may be absent; max_tokens may be at most
 * max_positions. */
kvern_status manifest_embedding_read(struct manifest_embedding *embedding, const json_t *object,
                                     size_t max_positions, kvern_error *err);
/* A new value; NULL if a text is not UTF-8 or memory ran out. */
json_t *manifest_embedding_make(const struct manifest_embedding *embedding);

/* Adds a prompt. KVERN_LIMIT: one too many, or over its size; KVERN_FORMAT: the name is empty or
 * there already, or a NUL is in it. */
kvern_status manifest_embedding_add_prompt(struct manifest_embedding *embedding, const char *name,
                                           const json_t *text, kvern_error *err);
/* KVERN_FORMAT: no prompt has that name. */
kvern_status manifest_embedding_set_default(struct manifest_embedding *embedding, const char *name,
                                            kvern_error *err);

#endif
