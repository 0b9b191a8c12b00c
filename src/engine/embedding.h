/* SPDX-License-Identifier: Apache-2.0
 *
 * What is done with a pooled vector before a caller gets it: cut, then normalised.
 */
#ifndef KVERN_ENGINE_EMBEDDING_H
#define KVERN_ENGINE_EMBEDDING_H

#include "kvern.h"

struct embedding_shape {
    size_t n_dimensions; /* 0: all */
    bool is_normalized;
};

/* normalize and dimensions as in kvern_embed_options; `pooling` is the resolved one. */
void embedding_shape_of(struct embedding_shape *shape, const kvern_model *model,
                        kvern_pooling pooling, int32_t normalize, int32_t dimensions);
/* A new vector of a pooled one [n]. KVERN_INVALID: it has fewer dimensions than asked for. */
kvern_status embedding_finish(const struct embedding_shape *shape, const float *pooled, size_t n,
                              float **values, size_t *n_values, kvern_error *err);

#endif
