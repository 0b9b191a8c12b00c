/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain English of numbers; holds no character that Markdown or HTML would read as markup.
 */
#include "summary/report_text.h"

#include <stdio.h>

void report_text_count(struct buffer *out, size_t count)
{
    char digits[32];
    size_t n = (size_t)snprintf(digits, sizeof digits, "%zu", count);

    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            buffer_add_byte(out, ',');
        buffer_add_byte(out, digits[i]);
    }
}

void report_text_counted(struct buffer *out, size_t count, const char *one)
{
    report_text_count(out, count);
    buffer_add_format(out, " %s%s", one, count == 1 ? "" : "s");
}

void report_text_duration(struct buffer *out, double seconds)
{
    unsigned long whole;

    if (!(seconds >= 0) || seconds > 1e9)
        seconds = 0;
    whole = (unsigned long)(seconds + 0.5);
    if (seconds < 59.95)
        buffer_add_format(out, "%.1f s", seconds);
    else if (whole < 3600)
        buffer_add_format(out, "%lu min %lu s", whole / 60, whole % 60);
    else
        buffer_add_format(out, "%lu h %lu min", whole / 3600, whole % 3600 / 60);
}

void report_text_outcome(struct buffer *out, const struct report_counts *counts)
{
    size_t n_good = counts->n_ok + counts->n_cut;

    report_text_count(out, n_good);
    buffer_add_string(out, " of ");
    report_text_counted(out, counts->n_chunks, "chunk");
    buffer_add_string(out, n_good == 1 ? " has a summary" : " have a summary");
    if (counts->n_cut > 0)
        buffer_add_format(out, " (%zu of a cut text or answer)", counts->n_cut);
    if (counts->n_failed > 0)
        buffer_add_format(out, ", %zu failed", counts->n_failed);
    if (counts->n_pending > 0)
        buffer_add_format(out, ", %zu %s not reached", counts->n_pending,
                          counts->n_pending == 1 ? "was" : "were");
}

static void add_fact(struct buffer *out, const char *name, const char *value, report_fact_fn add)
{
    if (value && value[0])
        add(out, name, value);
}

/* Adds what was put together in `value`, and empties it. */
static void add_text(struct buffer *out, const char *name, struct buffer *value, report_fact_fn add)
{
    out->has_failed |= value->has_failed;
    add_fact(out, name, value->data, add);
    buffer_truncate(value, 0);
}

void report_text_facts(struct buffer *out, const struct report *report, report_fact_fn add)
{
    const struct report_counts *counts = &report->counts;
    struct buffer value = {0};

    add_fact(out, "model", report->model, add);
    for (size_t i = 0; i < report->n_options; i++)
        add_fact(out, report->options[i].name, report->options[i].value, add);
    add_fact(out, "started", report->started, add);
    add_fact(out, "note", report->note, add);
    report_text_duration(&value, report->seconds);
    add_text(out, "took", &value, add);
    report_text_counted(&value, counts->n_tokens_in, "token");
    buffer_add_string(&value, " read, ");
    report_text_count(&value, counts->n_tokens_out);
    buffer_add_string(&value, " written");
    add_text(out, "model work", &value, add);
    report_text_counted(&value, counts->n_cached, "chunk");
    add_text(out, "from the cache", &value, add);
    buffer_clear(&value);
}
