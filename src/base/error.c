/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern_error: a plain value with a status and one sentence. Nothing here allocates, so an
 * out-of-memory failure can be told too.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void make_printable(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
    }
}

kvern_status fail(kvern_error *err, kvern_status status, const char *format, ...)
{
    if (err) {
        va_list args;

        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        make_printable(err->message);
        err->status = status;
    }
    return status;
}

kvern_status fail_in(kvern_error *err, kvern_status status, const char *format, ...)
{
    if (err) {
        char prefix[256];
        char message[sizeof err->message];
        va_list args;

        va_start(args, format);
        vsnprintf(prefix, sizeof prefix, format, args);
        va_end(args);
        memcpy(message, err->message, sizeof message);
        int n = snprintf(err->message, sizeof err->message, "%s: ", prefix);
        size_t used = n < 0 ? 0 : (size_t)n;
        snprintf(err->message + used, sizeof err->message - used, "%s", message);
        make_printable(err->message);
        err->status = status;
    }
    return status;
}

const char *kvern_status_name(kvern_status status)
{
    static const char *const names[] = {
#define KVERN_STATUS_NAME(value, name) [value] = name,
        KVERN_STATUS_LIST(KVERN_STATUS_NAME)
#undef KVERN_STATUS_NAME
    };

    if ((size_t)status >= sizeof names / sizeof names[0])
        return "unknown status";
    return names[status];
}

const char *kvern_version(void)
{
    return KVERN_VERSION;
}
