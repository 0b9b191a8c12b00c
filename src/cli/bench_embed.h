/* SPDX-License-Identifier: Apache-2.0
 *
 * Embedding many texts of token ids at once, for kvern bench.
 */
#ifndef KVERN_CLI_BENCH_EMBED_H
#define KVERN_CLI_BENCH_EMBED_H

#include "kvern.h"

struct bench_texts {
    int32_t *ids;   /* [starts[n]], owned: all texts, one behind the other */
    size_t *starts; /* [n + 1], owned */
    size_t n;
};

/* Random ids. Takes the place of what was there. */
kvern_status bench_texts_draw(struct bench_texts *texts, size_t n, size_t length,
                              int32_t vocab_size, uint64_t *random, kvern_error *err);
/* A line of the file is [ids] or {"ids": [ids]}. */
kvern_status bench_texts_read(struct bench_texts *texts, const char *path, int32_t vocab_size,
                              kvern_error *err);
void bench_texts_clear(struct bench_texts *texts);
/* From the first text's submission to the last one's normalised vector. */
kvern_status bench_texts_run(const struct bench_texts *texts, kvern_engine *engine, double *seconds,
                             kvern_error *err);

#endif
