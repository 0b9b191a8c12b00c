/* SPDX-License-Identifier: Apache-2.0
 *
 * What the measuring programs over the public header share: a clock, token ids that nothing can
 * share, percentiles, and the process's own memory. They end the program on a failure; a benchmark
 * has nobody to report to.
 */
#ifndef KVERN_BENCH_MEASURE_H
#define KVERN_BENCH_MEASURE_H

#include "kvern.h"

/* Ends the program with the error's sentence unless status is KVERN_OK. */
void check(kvern_status status, const kvern_error *err);
/* calloc that ends the program instead of failing. */
void *allocate(size_t n, size_t size);

double now_ms(void);

/* The next number of a fixed sequence; *state is its seed. */
uint64_t draw(uint64_t *state);
/* low .. high. */
size_t draw_between(uint64_t *state, size_t low, size_t high);
/* n plain token ids of a vocabulary: the first 1,000, control tokens among them, are left out. */
void draw_tokens(uint64_t *state, int32_t vocab_size, int32_t *tokens, size_t n);

struct samples {
    double *values; /* [n], owned */
    size_t n;
    size_t capacity;
};

void samples_add(struct samples *samples, double value);
/* The value that `share` (0 to 1) of the samples do not pass; sorts them. 0 if there are none. */
double samples_percentile(struct samples *samples, double share);
void samples_clear(struct samples *samples);

/* A field of /proc/self/status, "VmRSS" or "RssAnon", in MB. */
double memory_mb(const char *field);

#endif
