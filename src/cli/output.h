/* SPDX-License-Identifier: Apache-2.0
 *
 * Results on stdout. A full disk or a closed pipe is remembered: commands ask between results and
 * stop, and main() turns it into the exit status.
 */
#ifndef KVERN_CLI_OUTPUT_H
#define KVERN_CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

void output_text(const char *text, size_t n_bytes);
/* One compact line; takes the reference. NULL (no memory to build it) counts as a failed write. */
void output_json(json_t *value);
/* That line without its newline, malloc'ed; NULL: no memory, or no value. */
char *json_text(const json_t *value);
void output_flush(void);
bool output_has_failed(void);
/* Flushes. After a failed write says why on stderr (not for a reader that has gone: that is how
 * `| head` ends) and returns EXIT_FAILED; else returns `exit_status`. */
int output_finish(int exit_status);

#endif
