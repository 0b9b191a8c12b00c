/* SPDX-License-Identifier: Apache-2.0
 *
 * struct source_wave: counts sources and answers.
 */
#include "engine/source_wave.h"

static bool is_source(const struct sequence *sequence)
{
    return sequence_is_encoding(sequence) && !sequence->is_held;
}

bool source_wave_step(struct source_wave *wave, const struct sequence_list *running)
{
    size_t n_sources = 0, n_answers = 0;
    int32_t highest = INT32_MIN;

    for (const struct sequence *s = running->first; s; s = s->next) {
        if (!is_source(s))
            continue;
        n_sources++;
        if (s->priority > highest)
            highest = s->priority;
    }
    if (n_sources == 0) {
        *wave = (struct source_wave){0};
        return false;
    }
    for (const struct sequence *s = running->first; s; s = s->next)
        n_answers += !is_source(s) && !s->is_held && s->priority >= highest;
    wave->is_open =
        wave->is_open || n_sources >= n_answers || wave->n_steps >= MOST_STEPS_BETWEEN_WAVES;
    wave->n_steps = wave->is_open ? 0 : wave->n_steps + 1;
    return wave->is_open;
}
