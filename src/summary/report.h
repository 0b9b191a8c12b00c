/* SPDX-License-Identifier: Apache-2.0
 *
 * What a run of `summarize` found: directories, their files, the files' chunks, and what came of
 * each. Results may be added in any order; report_finish() sorts and sums. Every string in it is
 * valid UTF-8 on one line, whatever was given: writers escape markup and nothing else.
 * It reads no file and asks no model.
 */
#ifndef KVERN_SUMMARY_REPORT_H
#define KVERN_SUMMARY_REPORT_H

#include "base/map.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>

enum report_status {
    REPORT_PENDING, /* not asked for, or not done when the run ended */
    REPORT_OK,
    REPORT_CUT,   /* a summary, but of a cut text or a cut answer; the reason says which */
    REPORT_FAILED /* no summary; the reason says why */
};

/* What came of one text: a chunk, or the summaries of a file or directory. */
struct report_result {
    enum report_status status;
    char *summary;  /* NULL: none */
    char *reason;   /* NULL: none */
    bool is_cached; /* no model ran for it now */
    size_t n_tokens_in;
    size_t n_tokens_out;
    double ms;
};

struct report_chunk {
    size_t first_line; /* from 1 */
    size_t last_line;
    char *name; /* of the function or class; NULL: none */
    struct report_result result;
};

/* Sums over chunks. The results of files and directories count in n_failed_above, the tokens and
 * ms only. */
struct report_counts {
    size_t n_files;
    size_t n_lines;
    size_t n_bytes;
    size_t n_chunks; /* planned: the four below are its parts */
    size_t n_ok;
    size_t n_cut;
    size_t n_failed;
    size_t n_pending;
    size_t n_cached;
    size_t n_failed_above; /* summaries of files and directories that failed */
    size_t n_tokens_in;    /* that a model ran, now: cached results have none */
    size_t n_tokens_out;
    double ms;
};

struct report_directory;

struct report_file {
    char *path;       /* from the root, with '/' */
    const char *name; /* its last part */
    char *language;
    size_t n_lines;
    size_t n_bytes;
    size_t n_planned;            /* chunks it was cut into; more than n_chunks after an interrupt */
    struct report_chunk *chunks; /* [n_chunks] */
    size_t n_chunks;
    struct report_result result;
    struct report_directory *directory;
    struct report_counts counts; /* by report_finish */
};

struct report_directory {
    char *path;       /* "." of the root */
    const char *name; /* its last part */
    struct report_directory *parent;
    size_t place;                          /* among the parent's; by report_finish */
    struct report_directory **directories; /* [n_directories] */
    size_t n_directories;
    struct report_file **files; /* [n_files] */
    size_t n_files;
    struct report_result result;
    struct report_counts counts; /* of its own files; by report_finish */
    struct report_counts below;  /* and of the directories in it */
};

struct report_language {
    const char *name; /* borrowed of a file */
    struct report_counts counts;
};

struct report_skip {
    char *path; /* of a file, or of a directory: then it ends in '/' */
    char *reason;
};

struct report_option {
    char *name;
    char *value;
};

struct report {
    char *title;   /* what was summarised */
    char *model;   /* its name */
    char *started; /* when: as text, as the caller wants to see it */
    char *note;    /* what else of the run its reader should know, in a sentence; NULL: nothing */
    double seconds;
    bool is_interrupted;
    struct report_option *options; /* [n_options] */
    size_t n_options;
    struct report_directory *root;
    struct report_skip *skips; /* [n_skips] */
    size_t n_skips;
    struct report_language *languages; /* [n_languages], most lines first; by report_finish */
    size_t n_languages;
    struct report_counts counts; /* of all; by report_finish */

    /* all directories and files as they came; the maps' values are places in these */
    struct report_directory **directories; /* [n_directories]; the root first */
    size_t n_directories;
    struct report_directory **sorted; /* the same, each before those in it; by report_finish */
    struct report_file **files;       /* [n_files] */
    size_t n_files;
    struct map directory_places;
    struct map file_places;
};

/* Strings are copied here and below; NULL stands for "". `started` goes nowhere but into totals. */
kvern_status report_init(struct report *report, const char *title, const char *model,
                         const char *started, kvern_error *err);
/* Zeroed is fine. */
void report_clear(struct report *report);

/* A setting worth a line in the report. */
kvern_status report_add_option(struct report *report, const char *name, const char *value,
                               kvern_error *err);
/* One that was there goes. */
kvern_status report_set_note(struct report *report, const char *note, kvern_error *err);
/* Adds a file that is cut into `n_chunks`, and the directories it is in. `*file` stays valid until
 * report_clear(); a path that is there already gives the same file, as it was. */
kvern_status report_add_file(struct report *report, const char *path, const char *language,
                             size_t n_lines, size_t n_bytes, size_t n_chunks,
                             struct report_file **file, kvern_error *err);
/* Adds one of its chunks with its result. */
kvern_status report_add_chunk(struct report_file *file, const struct report_chunk *chunk,
                              kvern_error *err);
/* In the order of their lines, in whatever order they came. */
void report_sort_chunks(struct report_file *file);
/* Sets the summary of the file as a whole; one that was there goes. */
kvern_status report_set_file(struct report_file *file, const struct report_result *result,
                             kvern_error *err);
/* The same for a directory that holds a file, near or deep ("." or "": the root): else
 * KVERN_NOT_FOUND. */
kvern_status report_set_directory(struct report *report, const char *path,
                                  const struct report_result *result, kvern_error *err);
/* A file or directory that is not summarised. Equal reasons are shown as one group. */
kvern_status report_add_skip(struct report *report, const char *path, const char *reason,
                             kvern_error *err);

/* Sorts (directories, files and skips by path, chunks by line) and sums. What was added afterwards
 * wants another call. */
kvern_status report_finish(struct report *report, double seconds, bool is_interrupted,
                           kvern_error *err);

/* The part of the chunks done that has a summary, 0 to 1; 1 where none is done. */
double report_success(const struct report *report);

/* `chunk` is NULL of a file or directory as a whole. */
typedef void (*report_failure_fn)(const char *path, const struct report_chunk *chunk,
                                  const char *reason, void *data);
/* Calls see() for every result that failed, in the report's order. */
void report_each_failure(const struct report *report, report_failure_fn see, void *data);
/* How many skips from `first` on have its reason: its group, once report_finish() has sorted. */
size_t report_skip_group(const struct report *report, size_t first);
/* "ok", "cut", "failed", "pending". */
const char *report_status_name(enum report_status status);
/* The summary to show of a file: its own, else that of its only chunk; NULL: none. */
const struct report_result *report_file_result(const struct report_file *file);

#endif
