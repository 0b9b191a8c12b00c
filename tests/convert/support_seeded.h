/* SPDX-License-Identifier: Apache-2.0
 *
 * Checkpoints and exports whose weights the repository holds as a seed: tests/golden/seeded.py says
 * what weights.json means, and wrote the same files. Every failure ends the program.
 */
#ifndef KVERN_TESTS_SUPPORT_SEEDED_H
#define KVERN_TESTS_SUPPORT_SEEDED_H

/* Copies the folder `source` to `target`, and writes there what its weights.json describes, if it
 * has one. */
void seeded_copy(const char *source, const char *target);

/* The checkpoint of the folder `source`: a copy of it if that has a weights.json, which is made
 * once in the build folder; `source` itself otherwise. malloc'ed path. */
char *seeded_checkpoint(const char *source);

#endif
