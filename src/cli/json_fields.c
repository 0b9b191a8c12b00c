/* SPDX-License-Identifier: Apache-2.0
 *
 * Members of JSON objects, by type.
 */
#include "cli/json_fields.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

const char *show_json(const json_t *value, char shown[SHOWN_BYTES])
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    size_t n = text ? strlen(text) : 0;

    if (n >= SHOWN_BYTES) {
        n = SHOWN_BYTES - sizeof "...";
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--; /* never in the middle of a character */
        memcpy(shown + n, "...", sizeof "...");
    } else {
        shown[n] = '\0';
    }
    if (n > 0)
        memcpy(shown, text, n);
    free(text);
    return shown;
}

kvern_status read_float(const json_t *fields, const char *name, double low, double high,
                        float *value, kvern_error *err)
{
    const json_t *field = json_object_get(fields, name);
    double number = json_number_value(field);
    char shown[SHOWN_BYTES];

    if (!field)
        return KVERN_OK;
    if (!json_is_number(field) || !(number >= low && number <= high))
        return fail(err, KVERN_INVALID, "\"%s\" must be a number from %g to %g, not %s", name, low,
                    high, show_json(field, shown));
    *value = (float)number;
    return KVERN_OK;
}

kvern_status read_integer(const json_t *fields, const char *name, json_int_t low, json_int_t high,
                          json_int_t *value, kvern_error *err)
{
    const json_t *field = json_object_get(fields, name);
    char shown[SHOWN_BYTES];

    if (!field)
        return KVERN_OK;
    if (!json_is_integer(field) || json_integer_value(field) < low ||
        json_integer_value(field) > high)
        return fail(err, KVERN_INVALID, "\"%s\" must be a whole number from %lld to %lld, not %s",
                    name, (long long)low, (long long)high, show_json(field, shown));
    *value = json_integer_value(field);
    return KVERN_OK;
}

kvern_status read_boolean(const json_t *fields, const char *name, bool *value, kvern_error *err)
{
    const json_t *field = json_object_get(fields, name);
    char shown[SHOWN_BYTES];

    if (!field)
        return KVERN_OK;
    if (!json_is_boolean(field))
        return fail(err, KVERN_INVALID, "\"%s\" must be true or false, not %s", name,
                    show_json(field, shown));
    *value = json_is_true(field);
    return KVERN_OK;
}
