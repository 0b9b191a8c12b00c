/* SPDX-License-Identifier: Apache-2.0
 *
 * Progress on stderr: on a terminal one line that is redrawn (bar, share, rate, time left); else a
 * plain line now and then, when something was done.
 */
#ifndef KVERN_CLI_PROGRESS_H
#define KVERN_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum progress_unit { PROGRESS_BYTES, PROGRESS_TOKENS, PROGRESS_ITEMS };

struct progress {
    enum progress_unit unit;
    bool is_terminal;
    bool is_quiet;
    bool has_drawn;
    double started; /* seconds, monotonic */
    double drawn;   /* when the last line was shown */
    int64_t drawn_done;
    int64_t n_at_once; /* of what is done: took no time, such as what was cached; the user's to set.
                          The rate leaves it out */
};

void progress_begin(struct progress *progress, enum progress_unit unit, bool is_quiet);
/* `what` names the present work; `note` (may be NULL) stands at the end. total 0: not known. */
void progress_show(struct progress *progress, const char *what, int64_t done, int64_t total,
                   const char *note);
/* Clears the line, so that what follows starts at the left. */
void progress_end(struct progress *progress);

double seconds_now(void);
/* "12.3 MB", "1.2k" */
void format_amount(char *text, size_t n_bytes, double amount, enum progress_unit unit);

#endif
