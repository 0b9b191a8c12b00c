/* SPDX-License-Identifier: Apache-2.0
 *
 * Keeps the reason of the first failed write, which stdio forgets. SIGPIPE is ignored
 * (interrupt_watch), so that a reader that goes is an error like any other.
 */
#include "cli/output.h"

#include "cli/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Enough to tell two figures apart, without the noise of all 17 digits. */
enum { REAL_DIGITS = 9 };

static int first_errno;

static void note_failure(int reason)
{
    if (first_errno == 0)
        first_errno = reason ? reason : EIO;
}

void output_text(const char *text, size_t n_bytes)
{
    errno = 0;
    if (n_bytes > 0 && fwrite(text, 1, n_bytes, stdout) != n_bytes)
        note_failure(errno);
}

char *json_text(const json_t *value)
{
    return value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS)) : NULL;
}

void output_json(json_t *value)
{
    char *text = json_text(value);

    if (text) {
        output_text(text, strlen(text));
        output_text("\n", 1);
        output_flush();
    } else {
        note_failure(ENOMEM);
    }
    free(text);
    json_decref(value);
}

void output_flush(void)
{
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout))
        note_failure(errno);
}

bool output_has_failed(void)
{
    return first_errno != 0;
}

int output_finish(int exit_status)
{
    output_flush();
    if (first_errno == 0)
        return exit_status;
    if (first_errno != EPIPE)
        fprintf(stderr, "kvern: cannot write to stdout: %s\n", strerror(first_errno));
    return EXIT_FAILED;
}
