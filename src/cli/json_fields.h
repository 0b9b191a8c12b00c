/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading members of a JSON object that a user wrote. An error names the member, what it must be
 * and what it is; a member that is not there leaves the value as it was.
 */
#ifndef KVERN_CLI_JSON_FIELDS_H
#define KVERN_CLI_JSON_FIELDS_H

#include "kvern.h"

#include <jansson.h>

enum { SHOWN_BYTES = 48 };

/* The value as JSON for an error message, cut to fit; returns `shown`. */
const char *show_json(const json_t *value, char shown[SHOWN_BYTES]);

kvern_status read_float(const json_t *fields, const char *name, double low, double high,
                        float *value, kvern_error *err);
kvern_status read_integer(const json_t *fields, const char *name, json_int_t low, json_int_t high,
                          json_int_t *value, kvern_error *err);
kvern_status read_boolean(const json_t *fields, const char *name, bool *value, kvern_error *err);

#endif
