/* SPDX-License-Identifier: Apache-2.0
 *
 * struct pace: what a prompt token adds to a step is a running mean of what it was seen to add. A
 * search that raises the number until a step is too long would make every tenth step too long.
 */
#include "engine/pace.h"

#include <stdint.h>

enum {
    FIRST_TOKENS = 4,
    MOST_MIXED = 100, /* steps before the step without prompts is measured again */
};

/* Of the time that may be added: the rest is for what steps differ by. */
static const double USED_SHARE = 0.8;
/* Of each new sample in the means. */
static const double DECODE_WEIGHT = 0.25, TOKEN_WEIGHT = 0.125;
/* One slow step (another process, a page fault) is not to move a mean much: a sample counts for at
 * most so many times the mean. */
static const double MOST_DECODE = 1.25, MOST_TOKEN = 2;

void pace_init(struct pace *pace, double most)
{
    *pace = (struct pace){.most = most, .n_tokens = FIRST_TOKENS};
}

size_t pace_prompt_tokens(const struct pace *pace, size_t n_decodes)
{
    size_t low = pace->n_decodes - pace->n_decodes / 4;
    size_t high = pace->n_decodes + pace->n_decodes / 4;

    if (pace->most == 0 || n_decodes == 0)
        return SIZE_MAX;
    if (pace->decode_ms == 0 || n_decodes < low || n_decodes > high || pace->n_mixed >= MOST_MIXED)
        return 0;
    return pace->n_tokens;
}

static double follow(double mean, double sample, double most, double weight)
{
    if (mean == 0)
        return sample;
    if (sample > most * mean)
        sample = most * mean;
    return mean + weight * (sample - mean);
}

/* At most twice as many as before: far from where it was measured, the mean says little. */
static size_t choose_tokens(const struct pace *pace)
{
    double n = (pace->most - 1) * USED_SHARE * pace->decode_ms / pace->token_ms;
    double most = 2 * (double)pace->n_tokens;

    return n >= most ? 2 * pace->n_tokens : n >= 1 ? (size_t)n : 1;
}

void pace_see(struct pace *pace, size_t n_decodes, size_t n_prompt, double ms)
{
    double least_ms = pace->decode_ms / 1000; /* a token is not free, however the clock ran */
    double added_ms = ms - pace->decode_ms;

    if (pace->most == 0 || n_decodes == 0)
        return;
    if (n_prompt == 0) {
        pace->decode_ms = n_decodes == pace->n_decodes
                              ? follow(pace->decode_ms, ms, MOST_DECODE, DECODE_WEIGHT)
                              : ms;
        pace->n_decodes = n_decodes;
        pace->n_mixed = 0;
        return;
    }
    pace->n_mixed++;
    pace->token_ms =
        follow(pace->token_ms, (added_ms > least_ms ? added_ms : least_ms) / (double)n_prompt,
               MOST_TOKEN, TOKEN_WEIGHT);
    pace->n_tokens = choose_tokens(pace);
}
