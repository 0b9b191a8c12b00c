/* SPDX-License-Identifier: Apache-2.0
 *
 * How many prompt tokens may run beside decoding streams so that a step takes at most so many times
 * what it takes without them: by what a step takes without, and what a prompt token was seen to
 * add. What a request answers does not depend on it. Pure: it is told the times.
 */
#ifndef KVERN_ENGINE_PACE_H
#define KVERN_ENGINE_PACE_H

#include <stddef.h>

struct pace {
    double most;      /* times the decode-only step; 0: no bound */
    double decode_ms; /* of a step without prompts; 0: not measured */
    size_t n_decodes; /* streams of the steps it was measured with */
    double token_ms;  /* added by a prompt token; 0: not seen */
    size_t n_tokens;  /* prompt tokens of the next step */
    size_t n_mixed;   /* steps with both since the last measurement */
};

void pace_init(struct pace *pace, double most);
/* Most prompt tokens of the next step, if n_decodes streams decode in it; SIZE_MAX: no bound, 0: it
 * is to be measured without. */
size_t pace_prompt_tokens(const struct pace *pace, size_t n_decodes);
/* A step of n_decodes streams and n_prompt prompt tokens took ms. */
void pace_see(struct pace *pace, size_t n_decodes, size_t n_prompt, double ms);

#endif
