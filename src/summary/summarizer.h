/* SPDX-License-Identifier: Apache-2.0
 *
 * From sources to a report: texts are cut into chunks, a model is asked about each, so many at
 * once, then about files and directories from the summaries of what is in them. What is in the
 * cache is not asked again; what fails, or gives no whole sentence, is asked once more. Answers are
 * cleaned before they count.
 * It reads no file and prints nothing.
 */
#ifndef KVERN_SUMMARY_SUMMARIZER_H
#define KVERN_SUMMARY_SUMMARIZER_H

#include "kvern.h"
#include "summary/chunk.h"
#include "summary/report.h"
#include "summary/summary_cache.h"

struct summarizer;

/* So far. */
struct summarizer_counts {
    size_t n_chunks;  /* known of */
    size_t n_done;    /* of them, the failed and the cached ones too */
    size_t n_running; /* requests in flight, of files and directories too */
    size_t n_failed;
    size_t n_cached;
    size_t n_asked;          /* requests submitted */
    kvern_error cache_error; /* status not KVERN_OK: why the cache is no longer written to */
};

struct summarizer_options {
    size_t n_jobs;            /* in flight at once; 0: 20 */
    size_t max_lines;         /* of a chunk; 0: CHUNK_DEFAULT_LINES */
    size_t max_tokens;        /* of a chunk's text; 0: what the model's context leaves, or 1,536 */
    size_t max_answer_tokens; /* 0: 64 */
    enum chunk_level level;
    bool has_no_files; /* summaries of chunks alone */
    kvern_stop_fn should_stop;
    void *should_stop_data;
    void (*on_progress)(const struct summarizer_counts *counts, void *data); /* may be NULL */
    void *on_progress_data;
    /* each result as it comes, a file's after its chunks'; may be NULL */
    void (*on_chunk)(const struct report_file *file, const struct report_chunk *chunk, void *data);
    void (*on_file)(const struct report_file *file, void *data);
    void *on_result_data;
};

/* The model, its engine, the report (initialised) and the cache (NULL: none) must outlive it. */
kvern_status summarizer_new(struct summarizer **out, kvern_engine *engine, const kvern_model *model,
                            struct report *report, struct summary_cache *cache,
                            const struct summarizer_options *options, kvern_error *err);
/* Requests in flight are cancelled. NULL is fine. */
void summarizer_free(struct summarizer *summarizer);

/* Adds a text, which is copied, and works until so many requests are in flight that there is room
 * for no more. A blank text becomes a skip. KVERN_CANCELLED: it was asked to stop. */
kvern_status summarizer_add(struct summarizer *summarizer, const char *path,
                            const struct language *language, const char *text, size_t n_bytes,
                            kvern_error *err);
/* The same for a patch. */
kvern_status summarizer_add_patch(struct summarizer *summarizer, const char *path, const char *text,
                                  size_t n_bytes, kvern_error *err);
/* Works until all is done, the summaries of files and directories too. */
kvern_status summarizer_finish(struct summarizer *summarizer, kvern_error *err);

#endif
