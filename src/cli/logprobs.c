/* SPDX-License-Identifier: Apache-2.0
 *
 * Builds the JSON list of log-probabilities.
 */
#include "cli/logprobs.h"

#include "base/error.h"

#include <math.h>
#include <stdlib.h>

/* {"token", "id", "logprob"}; NULL: no memory. */
static json_t *token_json(const kvern_model *model, int32_t id, float logprob)
{
    char *piece = kvern_token_piece(model, id);
    /* JSON has no infinity */
    json_t *number = isfinite(logprob) ? json_real((double)logprob) : json_null();
    json_t *json = json_pack("{s:s? s:i s:o}", "token", piece, "id", (int)id, "logprob", number);

    free(piece);
    return json;
}

static json_t *top_json(const kvern_model *model, const kvern_logprob *top, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < n && top[i].id >= 0; i++) {
        if (json_array_append_new(list, token_json(model, top[i].id, top[i].logprob)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

kvern_status logprobs_add(json_t **list, const kvern_model *model, const kvern_event *event,
                          kvern_error *err)
{
    size_t n_top = event->n_top_logprobs;
    bool has_memory = true;

    if (!event->logprobs)
        return KVERN_OK;
    if (!*list)
        *list = json_array();
    for (size_t i = 0; has_memory && i < event->n_tokens; i++) {
        json_t *json = token_json(model, event->tokens[i], event->logprobs[i]);

        if (n_top > 0 && json)
            has_memory =
                json_object_set_new(json, "top",
                                    top_json(model, event->top_logprobs + i * n_top, n_top)) == 0;
        has_memory = json_array_append_new(*list, json) == 0 && has_memory;
    }
    return has_memory ? KVERN_OK
                      : fail(err, KVERN_MEMORY, "out of memory keeping log-probabilities");
}
