/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors that runs of an export take and give: inputs made of numbers, and keys and values of one
 * sequence, [1, n_kv_heads, n_tokens, head_size].
 */
#ifndef KVERN_ENGINE_EXPORT_TENSORS_H
#define KVERN_ENGINE_EXPORT_TENSORS_H

#include "engine/kv_store.h"
#include "model/export_graph.h"
#include "ort/value.h"

/* Each adds an input to inputs[*n_inputs], which has room for it and owns its tensor; also after a
 * failure it is there to be released. Ids are [1, n]: a copy of `from`, or (NULL) n times `fill`.
 * A flag is [1]. */
kvern_status export_add_ids(const struct session *session, const char *name, const int64_t *from,
                            int64_t fill, size_t n, struct value_input *inputs, size_t *n_inputs,
                            kvern_error *err);
kvern_status export_add_flag(const struct session *session, const char *name, bool flag,
                             struct value_input *inputs, size_t *n_inputs, kvern_error *err);
/* Releases the tensors of the first n inputs. */
void export_inputs_release(const struct session *session, const struct value_input *inputs,
                           size_t n);

/* Keys or values of n_tokens tokens, not initialised. */
kvern_status export_kv_new(const struct session *session, enum export_type type,
                           const struct kv_layout *layout, size_t n_tokens, struct OrtValue **value,
                           kvern_error *err);
/* What a run gave as `name` has as many tokens as there are and the sizes that the config says:
 * what is made of it later goes by these. */
kvern_status export_kv_check(const struct session *session, const struct OrtValue *value,
                             const char *name, const struct kv_layout *layout, size_t n_tokens,
                             kvern_error *err);

#endif
