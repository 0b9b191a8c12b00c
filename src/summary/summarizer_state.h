/* SPDX-License-Identifier: Apache-2.0
 *
 * struct summarizer: what summarizer.c (tasks in slots) and summarizer_parts.c (what is made of
 * summaries) share.
 */
#ifndef KVERN_SUMMARY_SUMMARIZER_STATE_H
#define KVERN_SUMMARY_SUMMARIZER_STATE_H

#include "summary/summarizer.h"
#include "summary/task.h"

struct summarizer {
    kvern_engine *engine;
    const kvern_model *model;
    struct report *report;
    struct summary_cache *cache; /* NULL: none */
    struct summarizer_options options;
    struct summarizer_counts counts;
    uint8_t fingerprint[KVERN_FINGERPRINT_BYTES];
    char key_options[64]; /* what else answers depend on */
    struct task_list waiting;
    struct task **running; /* [n_jobs], owned; NULL: free */
};

/* Works until nothing waits or runs. */
kvern_status summarizer_work(struct summarizer *summarizer, kvern_error *err);
/* Sees to the summary of a file whose chunks are all done. */
kvern_status summarize_file(struct summarizer *summarizer, struct report_file *file,
                            kvern_error *err);
/* Of all directories, and waits for them. */
kvern_status summarize_directories(struct summarizer *summarizer, kvern_error *err);

#endif
