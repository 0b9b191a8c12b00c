/* SPDX-License-Identifier: Apache-2.0
 *
 * The handler only counts; commands ask between events.
 */
#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static volatile sig_atomic_t n_interrupts;

static void count(int signal_number)
{
    (void)signal_number;
    if (++n_interrupts > 1)
        _exit(EXIT_INTERRUPTED);
}

void interrupt_watch(void)
{
    struct sigaction action = {.sa_handler = count};

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool was_interrupted(void)
{
    return n_interrupts > 0;
}

bool should_stop(void *unused)
{
    (void)unused;
    return was_interrupted();
}

void interrupt_forget(void)
{
    n_interrupts = 0;
}
