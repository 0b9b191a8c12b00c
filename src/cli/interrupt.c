/* SPDX-License-Identifier: Apache-2.0
 *
 * The handler only takes the time; commands ask between events. Two threads may be in it at once.
 */
#include "cli/interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

enum { SAME_MS = 200 }; /* between two signals of which nobody meant the second */

static _Atomic int64_t first_ms; /* of the first signal; 0: none has come */

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void count(int signal_number)
{
    int64_t now = now_ms();
    int64_t first = 0;

    (void)signal_number;
    if (!atomic_compare_exchange_strong(&first_ms, &first, now) && now - first >= SAME_MS)
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
    return atomic_load(&first_ms) != 0;
}

bool should_stop(void *unused)
{
    (void)unused;
    return was_interrupted();
}

void interrupt_forget(void)
{
    atomic_store(&first_ms, 0);
}
