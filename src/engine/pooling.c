/* SPDX-License-Identifier: Apache-2.0
 *
 * Pooling of rows, and what is done with a vector afterwards: cutting and normalising. Sums are
 * doubles in the order of positions, so that a mean is the same for every way to cut a text.
 */
#include "engine/pooling.h"

#include "base/error.h"
#include "base/memory.h"
#include "model/manifest_embedding.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const pooling_names[] = {
    [KVERN_POOLING_MODEL] = "model",         [KVERN_POOLING_LAST] = "last",
    [KVERN_POOLING_MEAN] = "mean",           [KVERN_POOLING_CLS] = "cls",
    [KVERN_POOLING_LOGITS512] = "logits512",
};

const char *kvern_pooling_name(kvern_pooling pooling)
{
    return (size_t)pooling < sizeof pooling_names / sizeof pooling_names[0] ? pooling_names[pooling]
                                                                            : "";
}

bool kvern_pooling_from_name(const char *name, kvern_pooling *pooling)
{
    for (size_t i = 0; i < sizeof pooling_names / sizeof pooling_names[0]; i++) {
        if (strcmp(name, pooling_names[i]) == 0) {
            *pooling = (kvern_pooling)i;
            return true;
        }
    }
    return false;
}

bool pooling_reads_logits(kvern_pooling kind)
{
    return kind == KVERN_POOLING_LOGITS512;
}

bool pooling_reads_all_rows(kvern_pooling kind)
{
    return kind == KVERN_POOLING_MEAN || kind == KVERN_POOLING_CLS;
}

kvern_status pooling_init(struct pooling *pooling, kvern_pooling kind, size_t row_size,
                          kvern_error *err)
{
    assert(kind != KVERN_POOLING_MODEL);
    *pooling = (struct pooling){.kind = kind, .n_values = row_size};
    if (pooling_reads_logits(kind) && row_size > EMBEDDING_LOGITS)
        pooling->n_values = EMBEDDING_LOGITS;
    pooling->values = try_new(pooling->n_values, sizeof *pooling->values);
    if (kind == KVERN_POOLING_MEAN)
        pooling->sums = try_new(pooling->n_values, sizeof *pooling->sums);
    if (!pooling->values || (kind == KVERN_POOLING_MEAN && !pooling->sums)) {
        pooling_clear(pooling);
        return fail(err, KVERN_MEMORY, "no memory for a vector of %zu values", row_size);
    }
    return KVERN_OK;
}

void pooling_clear(struct pooling *pooling)
{
    free(pooling->values);
    free(pooling->sums);
    *pooling = (struct pooling){0};
}

void pooling_add(struct pooling *pooling, const float *rows, size_t n_rows, size_t row_size)
{
    size_t n_bytes = pooling->n_values * sizeof *pooling->values;

    if (n_rows == 0)
        return;
    if (pooling->kind == KVERN_POOLING_MEAN) {
        for (size_t r = 0; r < n_rows; r++) {
            for (size_t i = 0; i < pooling->n_values; i++)
                pooling->sums[i] += (double)rows[r * row_size + i];
        }
    } else if (pooling->kind != KVERN_POOLING_CLS) {
        memcpy(pooling->values, rows + (n_rows - 1) * row_size, n_bytes);
    } else if (pooling->n_rows == 0) {
        memcpy(pooling->values, rows, n_bytes);
    }
    pooling->n_rows += n_rows;
}

kvern_status pooling_finish(struct pooling *pooling, kvern_error *err)
{
    assert(pooling->n_rows > 0);
    for (size_t i = 0; i < pooling->n_values; i++) {
        if (pooling->kind == KVERN_POOLING_MEAN)
            pooling->values[i] = (float)(pooling->sums[i] / (double)pooling->n_rows);
        if (!isfinite(pooling->values[i]))
            return fail(err, KVERN_RUNTIME, "value %zu of the embedding is not finite", i);
    }
    return KVERN_OK;
}

double kvern_cosine(const float *a, const float *b, size_t n)
{
    double product = 0;
    double squares_a = 0;
    double squares_b = 0;

    for (size_t i = 0; i < n; i++) {
        product += (double)a[i] * (double)b[i];
        squares_a += (double)a[i] * (double)a[i];
        squares_b += (double)b[i] * (double)b[i];
    }
    return squares_a > 0 && squares_b > 0 ? product / sqrt(squares_a * squares_b) : 0;
}

void kvern_normalize(float *values, size_t n)
{
    double squares = 0;

    for (size_t i = 0; i < n; i++)
        squares += (double)values[i] * (double)values[i];
    if (squares == 0)
        return;
    for (size_t i = 0; i < n; i++)
        values[i] = (float)((double)values[i] / sqrt(squares));
}
