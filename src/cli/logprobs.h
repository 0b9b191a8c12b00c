/* SPDX-License-Identifier: Apache-2.0
 *
 * Log-probabilities of an answer as JSON, gathered from its events.
 */
#ifndef KVERN_CLI_LOGPROBS_H
#define KVERN_CLI_LOGPROBS_H

#include "kvern.h"

#include <jansson.h>

/* Appends [{"token", "id", "logprob", "top": [...]}] of the event's tokens to *list, which is made
 * with the first; nothing if the request asked for none. "token" is the vocabulary's own spelling;
 * "top" is there if the request asked for some. */
kvern_status logprobs_add(json_t **list, const kvern_model *model, const kvern_event *event,
                          kvern_error *err);

#endif
