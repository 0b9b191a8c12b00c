/* SPDX-License-Identifier: Apache-2.0
 *
 * One process-wide receiver of warnings. Set it before other calls; it may be called from any
 * thread.
 */
#include "base/log.h"

#include "kvern.h"

#include <stdarg.h>
#include <stdio.h>

static kvern_log_fn receiver;
static void *receiver_data;

void kvern_set_log(kvern_log_fn fn, void *user_data)
{
    receiver = fn;
    receiver_data = user_data;
}

void log_warning(const char *format, ...)
{
    char line[512];
    va_list args;

    if (!receiver)
        return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (char *c = line; *c; c++) { /* names and messages of others may hold anything */
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    receiver(line, receiver_data);
}
