/* SPDX-License-Identifier: Apache-2.0
 *
 * One text that a model is asked about, from when it was cut to its result. A list of them.
 */
#ifndef KVERN_SUMMARY_TASK_H
#define KVERN_SUMMARY_TASK_H

#include "base/buffer.h"
#include "kvern.h"
#include "summary/ask.h"
#include "summary/clean.h"
#include "summary/report.h"
#include "summary/summary_cache.h"

struct task {
    enum ask_kind kind;
    struct report_file *file;           /* of a chunk, or of a file's own summary */
    struct report_directory *directory; /* of a directory's summary */
    struct report_chunk chunk;          /* of a chunk: its place and name; its name is owned */
    const char *language;               /* static; NULL: not known */
    char *text;                         /* [n_bytes], owned: what is asked about */
    size_t n_bytes;
    bool is_cut; /* the text is the beginning of a longer line */
    uint8_t key[CACHE_KEY_BYTES];
    size_t n_tries;
    struct cleaned half; /* of the first try, where it was no whole sentence */
    /* of the present try */
    kvern_request *request;
    char *instruction;
    struct buffer answer;
    double started_ms;
    struct task *next;
};

/* NULL is fine. A request in flight is cancelled. */
void task_free(struct task *task);
struct ask task_ask(const struct task *task);
/* Sets the key: what an answer depends on is model, options and all that is asked. */
kvern_status task_set_key(struct task *task, const uint8_t *fingerprint, const char *options,
                          kvern_error *err);
/* Ready for another try. */
void task_renew(struct task *task);

/* Zeroed is empty. */
struct task_list {
    struct task *first;
    struct task *last;
    size_t n;
};

void task_list_put(struct task_list *list, struct task *task);
/* NULL: there is none. */
struct task *task_list_take(struct task_list *list);

#endif
