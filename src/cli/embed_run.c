/* SPDX-License-Identifier: Apache-2.0
 *
 * struct embed_run: reads a slice, embeds it, hands its results on. A text that could not be read
 * keeps its place among the results.
 */
#include "cli/embed_run.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/vectors.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLICE_TEXTS = 1000, FIRST_SLICE_BYTES = 16 << 10, MAX_SLICE_BYTES = 4 << 20 };

struct slice {
    struct text items[SLICE_TEXTS];
    size_t n;
    size_t n_bytes;
    /* those that could be read, side by side for kvern_embed */
    const char *texts[SLICE_TEXTS];
    size_t n_text_bytes[SLICE_TEXTS];
    size_t n_texts;
    kvern_embedding embeddings[SLICE_TEXTS]; /* of `texts` */
};

static kvern_status read_slice(struct texts *texts, struct slice *slice, size_t max_bytes,
                               kvern_error *err)
{
    kvern_status status = KVERN_OK;
    bool has_text = true;

    slice->n = slice->n_texts = slice->n_bytes = 0;
    while (status == KVERN_OK && slice->n < SLICE_TEXTS && slice->n_bytes < max_bytes) {
        struct text *item = &slice->items[slice->n];

        status = texts_next(texts, item, &has_text, err);
        if (status != KVERN_OK || !has_text)
            break;
        slice->n++;
        if (!item->text)
            continue;
        slice->n_bytes += item->n_bytes;
        slice->texts[slice->n_texts] = item->text;
        slice->n_text_bytes[slice->n_texts] = item->n_bytes;
        slice->n_texts++;
    }
    return status;
}

static void clear_slice(struct slice *slice)
{
    for (size_t i = 0; i < slice->n; i++)
        text_clear(&slice->items[i]);
    for (size_t i = 0; i < slice->n_texts; i++)
        kvern_embedding_clear(&slice->embeddings[i]);
    slice->n = slice->n_texts = 0;
}

static void tell_failure(const struct embed_run *run, const struct text *text,
                         const kvern_error *error, bool is_alone)
{
    const char *advice =
        error->status == KVERN_LIMIT && !run->options.truncate ? " (--truncate)" : "";
    struct buffer id = {0};

    add_id(&id, text->id);
    if (is_alone)
        fprintf(stderr, "kvern: %s%s\n", error->message, advice);
    else
        fprintf(stderr, "kvern: text %s: %s%s\n", id.data ? id.data : "?", error->message, advice);
    buffer_clear(&id);
}

static kvern_status hand_on(struct embed_run *run, const struct slice *slice, bool is_alone,
                            struct progress *progress, kvern_error *err)
{
    kvern_status status = KVERN_OK;
    size_t n_read = 0;

    for (size_t i = 0; status == KVERN_OK && i < slice->n && !output_has_failed(); i++) {
        const struct text *text = &slice->items[i];
        kvern_embedding unread = {.error = text->error};
        const kvern_embedding *embedding = text->text ? &slice->embeddings[n_read++] : &unread;

        run->n_done++;
        run->n_tokens += (int64_t)embedding->n_tokens;
        if (embedding->error.status != KVERN_OK) {
            run->n_failed++;
            progress_end(progress);
            tell_failure(run, text, &embedding->error, is_alone);
        } else if (embedding->n_text_tokens > embedding->n_tokens) {
            run->n_cut++;
        }
        status = run->on_result(text, embedding, run->data, err);
    }
    return status;
}

static void show_progress(const struct embed_run *run, struct progress *progress, size_t n_total)
{
    double seconds = seconds_now() - progress->started;
    char rate[32];
    char note[64];

    format_amount(rate, sizeof rate, (double)run->n_tokens / (seconds + 1e-9), PROGRESS_ITEMS);
    snprintf(note, sizeof note, "%s tokens/s", rate);
    progress_show(progress, "texts", (int64_t)run->n_done, (int64_t)n_total, note);
}

kvern_status embed_run(struct embed_run *run, kvern_engine *engine, const kvern_model *model,
                       kvern_error *err)
{
    struct slice *slice = try_new(1, sizeof *slice);
    size_t n_total = texts_count(&run->texts);
    size_t max_bytes = FIRST_SLICE_BYTES;
    struct progress progress;
    kvern_status status = KVERN_OK;

    if (!slice)
        return fail(err, KVERN_MEMORY, "out of memory for %d texts", SLICE_TEXTS);
    progress_begin(&progress, PROGRESS_ITEMS, run->is_quiet || n_total == 1);
    while (status == KVERN_OK && !output_has_failed()) {
        status = read_slice(&run->texts, slice, max_bytes, err);
        if (status != KVERN_OK || slice->n == 0)
            break;
        double started = seconds_now();
        status = kvern_embed(engine, model, slice->texts, slice->n_text_bytes, slice->n_texts,
                             &run->options, slice->embeddings, err);
        double bytes = (double)slice->n_bytes / (seconds_now() - started + 1e-3);
        max_bytes = bytes < FIRST_SLICE_BYTES ? FIRST_SLICE_BYTES
                    : bytes > MAX_SLICE_BYTES ? MAX_SLICE_BYTES
                                              : (size_t)bytes;
        if (status == KVERN_CANCELLED)
            status = interrupted(err);
        if (status == KVERN_OK)
            status = hand_on(run, slice, n_total == 1, &progress, err);
        clear_slice(slice);
        show_progress(run, &progress, n_total);
        if (status == KVERN_OK && was_interrupted())
            status = interrupted(err);
    }
    progress_end(&progress);
    if (status == KVERN_OK && run->n_done == 0 && !output_has_failed())
        status = fail(err, KVERN_INVALID, "there is no text to embed");
    clear_slice(slice);
    free(slice);
    return status;
}
