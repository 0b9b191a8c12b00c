/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors compared: the best of many beside a query, and the cosines of all with all.
 */
#ifndef KVERN_CLI_RANKING_H
#define KVERN_CLI_RANKING_H

#include "cli/texts.h"
#include "kvern.h"

/* The `capacity` texts nearest to the query, best first; of equals the first stays ahead. */
struct ranking {
    const float *query; /* [n_values], borrowed */
    size_t n_values;
    size_t capacity;
    struct ranked *items; /* [n], owned */
    size_t n;
};

struct ranked {
    double score;
    json_t *id;      /* owned */
    char *beginning; /* owned */
};

kvern_status ranking_init(struct ranking *ranking, const kvern_embedding *query, size_t capacity,
                          kvern_error *err);
kvern_status ranking_add(struct ranking *ranking, const struct text *text,
                         const kvern_embedding *embedding, kvern_error *err);
/* A table, or a line {"rank", "score", "id", "text"} each. */
void ranking_print(const struct ranking *ranking, bool is_json);
void ranking_clear(struct ranking *ranking);

/* All vectors, for the matrix of their cosines. */
struct similarity {
    size_t n_values;
    float *values; /* [n * n_values], owned */
    json_t *ids;   /* array, owned */
    size_t n;
    size_t capacity;
};

kvern_status similarity_add(struct similarity *similarity, const struct text *text,
                            const kvern_embedding *embedding, kvern_error *err);
/* A table, or a line {"id", "similarity": [n]} each. */
void similarity_print(const struct similarity *similarity, bool is_json);
void similarity_clear(struct similarity *similarity);

#endif
