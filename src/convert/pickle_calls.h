/* SPDX-License-Identifier: Apache-2.0
 *
 * What a pickle of tensors refers to outside of itself: the names it may load, what "calling" them
 * gives, and its storages. The names are torch's own (torch/_utils.py, torch/serialization.py);
 * one more is a row in the table of pickle_calls.c and a case there.
 */
#ifndef KVERN_CONVERT_PICKLE_CALLS_H
#define KVERN_CONVERT_PICKLE_CALLS_H

#include "convert/pickle.h"
#include "kvern.h"

#include <stddef.h>
#include <stdint.h>

struct pickle_text {
    const char *text; /* [n_bytes], without a NUL */
    size_t n_bytes;
};

enum pickle_name {
    NAME_ORDERED_DICT,
    NAME_REBUILD_TENSOR,
    NAME_REBUILD_PARAMETER,
    NAME_STORAGES, /* and from here on, one for each enum pickle_type */
};

/* An unknown name is KVERN_UNSUPPORTED. */
kvern_status pickle_find_name(struct pickle_text module, struct pickle_text name,
                              enum pickle_name *found, kvern_error *err);
/* What the pickle asks for by REDUCE: an ordered dict, or a tensor. */
kvern_status pickle_call(struct pickle *pickle, uint32_t callee, uint32_t arguments,
                         uint32_t *result, kvern_error *err);
/* BUILD: sets attributes. Only an ordered dict's _metadata may be set, and it is dropped. */
kvern_status pickle_build(struct pickle *pickle, uint32_t object, uint32_t state, kvern_error *err);
/* BINPERSID: the storage of the id ('storage', class, key, location, number of values). */
kvern_status pickle_load_storage(struct pickle *pickle, uint32_t id, uint32_t *result,
                                 kvern_error *err);

#endif
