/* SPDX-License-Identifier: Apache-2.0
 *
 * Filling a kvern_error. The convention everywhere: a failing function returns
 * `fail(err, STATUS, "one sentence", ...)`, a passing one leaves `err` as it was.
 */
#ifndef KVERN_BASE_ERROR_H
#define KVERN_BASE_ERROR_H

#include "kvern.h"

/* Writes status and message into `err` (if not NULL; the message is cut to fit, control bytes are
 * shown as '?') and returns `status`, so that `return fail(...)` reads as one act. */
kvern_status fail(kvern_error *err, kvern_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message already in `err`, and returns `status`: for a caller that
 * knows which file or layer the failing callee was working on. */
kvern_status fail_in(kvern_error *err, kvern_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
