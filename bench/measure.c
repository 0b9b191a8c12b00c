/* SPDX-License-Identifier: Apache-2.0
 *
 * See measure.h. No state but what the caller holds.
 */
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void check(kvern_status status, const kvern_error *err)
{
    if (status == KVERN_OK)
        return;
    fprintf(stderr, "bench: %s\n", err->message);
    exit(1);
}

void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n, size);

    if (!memory) {
        fprintf(stderr, "bench: no memory for %zu x %zu bytes\n", n, size);
        exit(1);
    }
    return memory;
}

double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

uint64_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

size_t draw_between(uint64_t *state, size_t low, size_t high)
{
    return low + (size_t)(draw(state) % (high - low + 1));
}

void draw_tokens(uint64_t *state, int32_t vocab_size, int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tokens[i] = (int32_t)draw_between(state, 1000, (size_t)vocab_size - 1);
}

void samples_add(struct samples *samples, double value)
{
    if (samples->n == samples->capacity) {
        samples->capacity = samples->capacity ? 2 * samples->capacity : 256;
        samples->values = realloc(samples->values, samples->capacity * sizeof(double));
        if (!samples->values)
            exit(1);
    }
    samples->values[samples->n++] = value;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double samples_percentile(struct samples *samples, double share)
{
    if (samples->n == 0)
        return 0;
    qsort(samples->values, samples->n, sizeof(double), compare);
    return samples->values[(size_t)(share * (double)(samples->n - 1) + 0.5)];
}

void samples_clear(struct samples *samples)
{
    free(samples->values);
    *samples = (struct samples){0};
}

double memory_mb(const char *field)
{
    FILE *stream = fopen("/proc/self/status", "re");
    size_t n_field = strlen(field);
    char line[256];
    double kib = 0;

    while (stream && fgets(line, sizeof line, stream)) {
        if (strncmp(line, field, n_field) == 0 && line[n_field] == ':')
            kib = strtod(line + n_field + 1, NULL);
    }
    if (stream)
        fclose(stream);
    return kib * 1024 / 1e6;
}
