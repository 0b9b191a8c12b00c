/* SPDX-License-Identifier: Apache-2.0
 *
 * The small model of write_small_gguf, for tests that damage what it is made of or what it needs:
 * converted, run once, and its manifest forged.
 */
#ifndef KVERN_TESTS_SUPPORT_SMALL_H
#define KVERN_TESTS_SUPPORT_SMALL_H

#include "kvern.h"
#include "model/manifest.h"

enum { SMALL_TOKENS = 3 };

/* What three tokens of a prompt are answered with. */
struct small_answer {
    int32_t tokens[SMALL_TOKENS];
    size_t n_tokens;
    char text[64];
    float logprobs[2]; /* of the prompt, if asked for */
};

/* Writes the file `gguf` and converts it to q8 in `model`. Fails the test otherwise. */
void make_small_model(const char *gguf, const char *model);
/* Opens an engine of one thread on such a model and generates, greedily or as `options` say (all
 * but prompt and max_tokens; may be NULL): KVERN_OK and the answer, or what was said. Any other
 * model with a vocabulary of 5 will do. */
kvern_status run_small_model(const kvern_model *opened, const kvern_request_options *options,
                             struct small_answer *answer, kvern_error *err);

/* The model of a group whose set-up and tear-down these are, in "small" of its directory. */
extern kvern_model *small_model;
extern char *small_directory;
int open_small_model(void **state);
int close_small_model(void **state);

/* Writes `manifest` into `model`, but with size and hash of `name` as the file is now: what an
 * attacker would do. */
void forge_manifest(const struct manifest *manifest, const char *model, const char *name);

#endif
