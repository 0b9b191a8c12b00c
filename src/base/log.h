/* SPDX-License-Identifier: Apache-2.0
 *
 * Warnings of the library, handed to whoever set a receiver (kvern_set_log). Without one they are
 * dropped: the library prints nothing.
 */
#ifndef KVERN_BASE_LOG_H
#define KVERN_BASE_LOG_H

/* One line: control bytes are shown as '?', and what is over 511 bytes is cut. */
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
