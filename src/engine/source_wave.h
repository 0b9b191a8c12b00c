/* SPDX-License-Identifier: Apache-2.0
 *
 * When the sources of an encoder-decoder are run. One takes as long as many steps of decoding, and
 * every answer in progress waits for it. Run as they come, those of a burst would hold up each
 * other's answers until the last of them is encoded, and each one's successor the rest. So they run
 * in waves: all that are there, then none until as many wait as answers are being decoded (so each
 * wave serves at least as many as it holds up), or for some steps. Pure; a request's answer does
 * not depend on it.
 */
#ifndef KVERN_ENGINE_SOURCE_WAVE_H
#define KVERN_ENGINE_SOURCE_WAVE_H

#include "engine/sequence.h"

enum { MOST_STEPS_BETWEEN_WAVES = 64 }; /* that a source waits for: the length of a short answer */

/* Zeroed: none was run yet. */
struct source_wave {
    bool is_open;
    size_t n_steps; /* since the last one, while sources waited */
};

/* Whether sources among the running sequences run in the next step. Once a step. Answers of a lower
 * priority than some source do not hold it back. */
bool source_wave_step(struct source_wave *wave, const struct sequence_list *running);

#endif
