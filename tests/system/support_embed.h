/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of kvern embed share: an encoder, an export, a folder, and the command run on a
 * model. Whatever fails here fails the test.
 */
#ifndef KVERN_TESTS_SUPPORT_EMBED_H
#define KVERN_TESTS_SUPPORT_EMBED_H

enum { EMBED_SIZE = 32, EMBED_MAX_TOKENS = 64 }; /* of the encoder's vectors, of its texts */

extern char embed_encoder[512];        /* a model directory of BERT's family */
extern const char *const embed_export; /* a decoder as an ONNX export */
extern char *embed_directory;          /* the program's own, empty at first */

/* A group's set-up and tear-down (tiny_model's too). */
int make_embed_models(void **state);
int remove_embed_models(void **state);

/* Runs "kvern embed -m <model> <arguments>", expects the exit status, and gives stdout (free it).
 */
char *embed_output(const char *model, const char *arguments, const char *input, int status);

#endif
