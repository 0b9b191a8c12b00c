/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampling fields of a JSON line, as a request: names as in kvern_request_options and
 * kvern_sampling. Sampling fields of other programs are refused, for left aside they would change
 * the answer in silence.
 */
#ifndef KVERN_CLI_SAMPLING_FIELDS_H
#define KVERN_CLI_SAMPLING_FIELDS_H

#include "kvern.h"

#include <jansson.h>

/* What a request made of fields points to; its strings are those of the fields. */
struct sampling_lists {
    const char **stop;
    int32_t *stop_token_ids;
    kvern_logit_bias *logit_bias;
};

/* Changes what the fields name; ids are the model's. KVERN_INVALID or KVERN_UNSUPPORTED names the
 * field, its value and what it may be. */
kvern_status sampling_fields_read(kvern_request_options *request, const kvern_model *model,
                                  json_t *fields, struct sampling_lists *lists, kvern_error *err);
void sampling_lists_clear(struct sampling_lists *lists);

#endif
