/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading members of a parsed tokenizer.json: absent or null gives the default, a value of another
 * type than asked for counts as absent, as the strict checks that follow name what is missing.
 */
#ifndef KVERN_TEXT_JSON_MEMBER_H
#define KVERN_TEXT_JSON_MEMBER_H

#include <jansson.h>
#include <stdbool.h>

static inline const char *json_member_string(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static inline bool json_member_bool(const json_t *object, const char *name, bool otherwise)
{
    const json_t *value = json_object_get(object, name);

    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

/* The object's "type", or "" so that it can be compared and printed. */
static inline const char *json_member_type(const json_t *object)
{
    const char *type = json_member_string(object, "type");

    return type ? type : "";
}

#endif
