/* SPDX-License-Identifier: Apache-2.0
 *
 * struct pace: additive increase, multiplicative decrease.
 */
#include "engine/pace.h"

#include <stdint.h>

enum {
    FIRST_TOKENS = 4,
    MOST_MIXED = 100, /* steps before the step without prompts is measured again */
};

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

void pace_see(struct pace *pace, size_t n_decodes, size_t n_prompt, double ms)
{
    if (pace->most == 0 || n_decodes == 0)
        return;
    if (n_prompt == 0) {
        /* one slow step (another process, a page fault) is not to move it much */
        if (n_decodes != pace->n_decodes || pace->decode_ms == 0)
            pace->decode_ms = ms;
        else
            pace->decode_ms += (ms - pace->decode_ms) / 4;
        pace->n_decodes = n_decodes;
        pace->n_mixed = 0;
        return;
    }
    pace->n_mixed++;
    /* a tenth is left for what steps differ by */
    if (ms > (1 + (pace->most - 1) * 0.9) * pace->decode_ms) {
        pace->n_tokens -= pace->n_tokens / 4;
        if (pace->n_tokens > 1 && pace->n_tokens < 4)
            pace->n_tokens--;
    } else if (n_prompt >= pace->n_tokens) {
        pace->n_tokens += 1 + pace->n_tokens / 8;
    }
}
