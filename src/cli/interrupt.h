/* SPDX-License-Identifier: Apache-2.0
 *
 * Ctrl-C: the first one asks the command to end cleanly, the second one ends the process at once.
 * What comes right behind the first is the same one: timeout(1) and others tell a process of a
 * signal, and its group, too.
 */
#ifndef KVERN_CLI_INTERRUPT_H
#define KVERN_CLI_INTERRUPT_H

#include <stdbool.h>

enum { EXIT_INTERRUPTED = 130 };

void interrupt_watch(void);
bool was_interrupted(void);
/* The same as a kvern_stop_fn. */
bool should_stop(void *unused);
/* Forgets an interrupt that was acted upon (chat: only the answer ends). */
void interrupt_forget(void);

#endif
