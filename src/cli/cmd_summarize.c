/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern summarize: source trees, files or a patch in, a report out. The walk goes on as the model
 * takes chunks; the report is written once, whatever ended the run.
 */
#include "cli/command.h"
#include "cli/git_changes.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "summary/patch.h"
#include "summary/report_write.h"
#include "summary/summarizer.h"
#include "summary/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LANGUAGES = 64 };

static const double LEAST_SUCCESS = 0.95; /* of the chunks: below, the run has failed */

struct summarize {
    struct engine_flags engine_flags;
    const char *output, *format_name, *level_name, *revision, *cache_directory;
    struct option_list include, exclude, language_names;
    const struct language *languages[MAX_LANGUAGES];
    int64_t n_jobs, max_lines, chunk_tokens, answer_tokens;
    size_t max_file_bytes;
    bool has_no_cache, keeps_ignored, keeps_vendored, keeps_generated, is_quiet;
    enum report_format format;
    struct summarizer_options options;
    kvern_model *model;   /* owned */
    kvern_engine *engine; /* owned */
    struct summary_cache cache;
    struct report report;
    struct summarizer *summarizer; /* owned */
    struct map changes;            /* of --changed-since: git's names, from `changes_root` */
    struct progress progress;
    kvern_error cache_error; /* status not KVERN_OK: why later summaries were not kept */
    size_t n_tree_bytes;     /* in all the files, about */
    size_t n_added_bytes;    /* of them, by now */
    bool has_added_all;
    bool has_old_output; /* a file is there that the report will replace */
    struct stat old_output;
    double started;
};

/* ---- progress ---- */

/* Chunks are known as files are cut; how many there will be is guessed by the bytes. */
static size_t guess_chunks(const struct summarize *run, const struct summarizer_counts *counts)
{
    if (run->has_added_all || run->n_added_bytes == 0 || run->n_added_bytes >= run->n_tree_bytes)
        return counts->n_chunks;
    return (size_t)((double)counts->n_chunks * (double)run->n_tree_bytes /
                    (double)run->n_added_bytes);
}

/* Told at once, once, and with -q too: who means to end the run and go on later must know. */
static void tell_cache_error(struct summarize *run, const kvern_error *err)
{
    if (err->status == KVERN_OK || run->cache_error.status != KVERN_OK)
        return;
    run->cache_error = *err;
    progress_end(&run->progress);
    fprintf(stderr, "kvern: later summaries are not kept: %s\n", err->message);
}

static void show_progress(const struct summarizer_counts *counts, void *data)
{
    struct summarize *run = data;
    size_t n_total = guess_chunks(run, counts);
    char what[80];
    char note[80];

    tell_cache_error(run, &counts->cache_error);
    run->progress.n_at_once = (int64_t)counts->n_cached;
    snprintf(what, sizeof what, "chunks %zu/%s%zu", counts->n_done, run->has_added_all ? "" : "~",
             n_total);
    snprintf(note, sizeof note, "%zu running, %zu cached, %zu failed", counts->n_running,
             counts->n_cached, counts->n_failed);
    progress_show(&run->progress, what, (int64_t)counts->n_done, (int64_t)n_total, note);
}

/* ---- JSON Lines as they come ---- */

static void print_line(struct summarize *run, struct buffer *line)
{
    progress_end(&run->progress);
    output_text(line->data ? line->data : "", line->n_bytes);
    output_flush();
    buffer_clear(line);
}

static void print_chunk(const struct report_file *file, const struct report_chunk *chunk,
                        void *data)
{
    struct buffer line = {0};

    report_jsonl_chunk(file, chunk, &line);
    print_line(data, &line);
}

static void print_file(const struct report_file *file, void *data)
{
    struct buffer line = {0};

    report_jsonl_file(file, &line);
    print_line(data, &line);
}

static bool is_streaming(const struct summarize *run)
{
    return run->format == REPORT_JSONL && !run->output;
}

/* What JSON Lines are left: the chunks and files are out. */
static void print_rest(struct summarize *run)
{
    struct buffer lines = {0};

    for (size_t i = 0; i < run->report.n_directories; i++) {
        if (run->report.directories[i]->result.summary)
            report_jsonl_directory(run->report.directories[i], &lines);
    }
    for (size_t i = 0; i < run->report.n_skips; i++)
        report_jsonl_skip(&run->report.skips[i], &lines);
    report_jsonl_totals(&run->report, &lines);
    print_line(run, &lines);
}

/* ---- sources ---- */

static struct tree_options tree_options_of(const struct summarize *run, bool has_texts)
{
    return (struct tree_options){
        .include = run->include.items,
        .n_include = run->include.n,
        .exclude = run->exclude.items,
        .n_exclude = run->exclude.n,
        .languages = run->languages,
        .n_languages = run->language_names.n,
        .max_file_bytes = run->max_file_bytes,
        .keeps_ignored = run->keeps_ignored,
        .keeps_vendored = run->keeps_vendored,
        .keeps_generated = run->keeps_generated,
        .has_no_texts = !has_texts,
    };
}

/* Of --changed-since: whether git named the file. */
static bool is_changed(const struct summarize *run, const struct positionals *paths,
                       const struct tree_entry *entry)
{
    const char *root = paths->items[entry->path_index];
    size_t n_root = strlen(root);
    const char *path = entry->path;
    uint32_t unused;

    if (!run->revision)
        return true;
    if (strncmp(path, root, n_root) == 0)
        path += n_root;
    while (*path == '/')
        path++;
    return map_get(&run->changes, path, strlen(path), &unused);
}

/* Calls see() for every entry of the trees, until it fails. */
static kvern_status walk(struct summarize *run, const struct positionals *paths, bool has_texts,
                         kvern_status (*see)(struct summarize *run, const struct tree_entry *entry,
                                             kvern_error *err),
                         kvern_error *err)
{
    const struct tree_options options = tree_options_of(run, has_texts);
    struct tree *tree = NULL;
    struct tree_entry entry = {.path = ""};
    kvern_status status =
        tree_open(&tree, (const char *const *)paths->items, paths->n, &options, err);

    while (status == KVERN_OK && entry.path) {
        status = tree_next(tree, &entry, err);
        if (status == KVERN_OK && entry.path && was_interrupted())
            status = interrupted(err);
        if (status == KVERN_OK && entry.path &&
            (entry.skip != SKIP_NONE || is_changed(run, paths, &entry)))
            status = see(run, &entry, err);
    }
    tree_close(tree);
    return status;
}

static kvern_status add_size(struct summarize *run, const struct tree_entry *entry,
                             kvern_error *err)
{
    (void)err;
    run->n_tree_bytes += entry->skip == SKIP_NONE ? entry->n_bytes : 0;
    return KVERN_OK;
}

static kvern_status add_skip(struct summarize *run, const struct tree_entry *entry,
                             const char *reason, kvern_error *err)
{
    struct buffer path = {0};
    kvern_status status;

    buffer_add_format(&path, "%s%s", entry->path, entry->is_folder ? "/" : "");
    status = path.has_failed ? fail(err, KVERN_MEMORY, "out of memory for a file's name")
                             : report_add_skip(&run->report, path.data, reason, err);
    buffer_clear(&path);
    return status;
}

/* The report of a run before: it would be summarised into the next. */
static bool is_old_output(const struct summarize *run, const struct tree_entry *entry)
{
    struct stat info;

    return run->has_old_output && stat(entry->path, &info) == 0 &&
           info.st_dev == run->old_output.st_dev && info.st_ino == run->old_output.st_ino;
}

static kvern_status add_entry(struct summarize *run, const struct tree_entry *entry,
                              kvern_error *err)
{
    if (entry->skip != SKIP_NONE)
        return add_skip(run, entry, skip_reason_words(entry->skip), err);
    if (is_old_output(run, entry))
        return add_skip(run, entry, "the report is written there", err);
    run->n_added_bytes += entry->n_bytes;
    return summarizer_add(run->summarizer, entry->path, entry->language, entry->text,
                          entry->n_bytes, err);
}

static kvern_status add_stdin(struct summarize *run, kvern_error *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    kvern_status status = read_input("-", &text, &n_bytes, err);

    run->has_added_all = true;
    if (status == KVERN_OK && memchr(text, '\0', n_bytes))
        status = fail(err, KVERN_INVALID, "stdin is no text: it holds a NUL byte");
    if (status == KVERN_OK && patch_is_one(text, n_bytes))
        status = summarizer_add_patch(run->summarizer, "stdin", text, n_bytes, err);
    else if (status == KVERN_OK)
        status = summarizer_add(run->summarizer, "stdin", NULL, text, n_bytes, err);
    free(text);
    return status;
}

static bool is_stdin(const struct positionals *paths)
{
    return paths->n == 1 && strcmp(paths->items[0], "-") == 0;
}

static kvern_status add_all(struct summarize *run, const struct positionals *paths,
                            kvern_error *err)
{
    kvern_status status;

    if (is_stdin(paths))
        return add_stdin(run, err);
    /* what is there is only weighed first, for the time left: reading it all would take its time */
    status = walk(run, paths, false, add_size, err);
    if (status == KVERN_OK)
        status = walk(run, paths, true, add_entry, err);
    run->has_added_all = true;
    return status;
}

/* ---- the run ---- */

static kvern_status open_report(struct summarize *run, const struct positionals *paths,
                                kvern_error *err)
{
    struct buffer title = {0};
    kvern_model_info info;
    time_t now = time(NULL);
    struct tm local;
    char started[32] = "";
    kvern_status status;

    for (size_t i = 0; i < paths->n; i++)
        buffer_add_format(&title, "%s%s", i > 0 ? " " : "", paths->items[i]);
    if (localtime_r(&now, &local))
        strftime(started, sizeof started, "%Y-%m-%d %H:%M", &local);
    kvern_model_get_info(run->model, &info);
    status = title.has_failed ? fail(err, KVERN_MEMORY, "out of memory for the report's title")
                              : report_init(&run->report, is_stdin(paths) ? "stdin" : title.data,
                                            info.name, started, err);
    buffer_clear(&title);
    if (status == KVERN_OK)
        status = report_add_option(&run->report, "level", run->level_name, err);
    if (status == KVERN_OK && run->revision)
        status = report_add_option(&run->report, "changed since", run->revision, err);
    return status;
}

static kvern_status open_cache(struct summarize *run, kvern_error *err)
{
    char *directory =
        run->cache_directory ? strdup(run->cache_directory) : summary_cache_directory();
    kvern_status status = KVERN_OK;

    if (!run->has_no_cache)
        status = directory ? summary_cache_open(&run->cache, directory, 0, err)
                           : fail(err, KVERN_MEMORY, "out of memory for the cache's name");
    free(directory);
    return status;
}

/* Hours of work are not to end in a report that cannot be written. */
static kvern_status check_output(struct summarize *run, kvern_error *err)
{
    if (!run->output)
        return KVERN_OK;
    run->has_old_output = stat(run->output, &run->old_output) == 0;
    return file_check_writable(run->output, err);
}

static kvern_status open_all(struct summarize *run, const struct positionals *paths,
                             kvern_error *err)
{
    kvern_status status = check_output(run, err);

    if (status == KVERN_OK)
        status = open_model(&run->engine_flags, &run->model, err);
    if (status == KVERN_OK && run->revision)
        status = git_changes_read(&run->changes, paths->items[0], run->revision, err);
    if (status == KVERN_OK)
        status = open_engine(&run->engine_flags, run->model, &run->engine, err);
    if (status == KVERN_OK)
        status = open_report(run, paths, err);
    if (status == KVERN_OK)
        status = open_cache(run, err);
    run->options.n_jobs = (size_t)run->n_jobs;
    run->options.max_lines = (size_t)run->max_lines;
    run->options.max_tokens = (size_t)run->chunk_tokens;
    run->options.max_answer_tokens = (size_t)run->answer_tokens;
    run->options.should_stop = should_stop;
    run->options.on_progress = show_progress;
    run->options.on_progress_data = run;
    if (is_streaming(run)) {
        run->options.on_chunk = print_chunk;
        run->options.on_file = print_file;
        run->options.on_result_data = run;
    }
    if (status == KVERN_OK)
        status = summarizer_new(&run->summarizer, run->engine, run->model, &run->report,
                                run->has_no_cache ? NULL : &run->cache, &run->options, err);
    return status;
}

/* What of the run its report's reader should know. */
static kvern_status note_cache_error(struct summarize *run, kvern_error *err)
{
    struct buffer note = {0};
    kvern_status status;

    if (run->cache_error.status == KVERN_OK)
        return KVERN_OK;
    buffer_add_format(&note, "later summaries were not kept: %s", run->cache_error.message);
    status = note.has_failed ? fail(err, KVERN_MEMORY, "out of memory for the report's note")
                             : report_set_note(&run->report, note.data, err);
    buffer_clear(&note);
    return status;
}

static kvern_status write_report(struct summarize *run, bool is_interrupted, kvern_error *err)
{
    struct buffer text = {0};
    kvern_status status = note_cache_error(run, err);

    if (status == KVERN_OK)
        status = report_finish(&run->report, seconds_now() - run->started, is_interrupted, err);

    if (status != KVERN_OK)
        return status;
    if (is_streaming(run)) {
        print_rest(run);
        return KVERN_OK;
    }
    if (run->output)
        return report_write_file(&run->report, run->format, run->output, err);
    status = report_write(&run->report, run->format, &text, err);
    if (status == KVERN_OK)
        output_text(text.data, text.n_bytes);
    buffer_clear(&text);
    return status;
}

static void tell_outcome(const struct summarize *run)
{
    const struct report_counts *counts = &run->report.counts;
    double seconds = run->report.seconds;

    if (counts->n_files == 0 && run->revision && !run->report.is_interrupted) {
        fprintf(stderr, "nothing to summarise changed since %s\n", run->revision);
        return;
    }
    fprintf(stderr, "%zu of %zu chunks of %zu file%s have a summary", counts->n_ok + counts->n_cut,
            counts->n_chunks, counts->n_files, counts->n_files == 1 ? "" : "s");
    if (counts->n_cached > 0)
        fprintf(stderr, ", %zu from the cache", counts->n_cached);
    if (counts->n_failed > 0)
        fprintf(stderr, ", %zu failed", counts->n_failed);
    if (counts->n_pending > 0)
        fprintf(stderr, ", %zu not done", counts->n_pending);
    if (run->report.n_skips > 0)
        fprintf(stderr, "; %zu files and folders left out", run->report.n_skips);
    fprintf(stderr, "; %.1f s (%.1f chunks/s)\n", seconds,
            (double)(counts->n_chunks - counts->n_pending) / (seconds + 1e-9));
    if (run->output)
        fprintf(stderr, "the report is in %s\n", run->output);
}

/* What the run came to: an interrupt or a failure on the way still gives a report of what is done.
 */
static kvern_status summarize_all(struct summarize *run, const struct positionals *paths,
                                  bool *has_failed, kvern_error *err)
{
    kvern_error why = {0};
    kvern_status status = open_all(run, paths, err);
    bool is_interrupted;

    if (status != KVERN_OK)
        return status;
    progress_begin(&run->progress, PROGRESS_ITEMS, run->is_quiet);
    status = add_all(run, paths, &why);
    if (status == KVERN_OK)
        status = summarizer_finish(run->summarizer, &why);
    is_interrupted = status == KVERN_CANCELLED || was_interrupted();
    summarizer_free(run->summarizer);
    run->summarizer = NULL;
    progress_end(&run->progress);
    if (status == KVERN_OK && run->report.n_files == 0 && !is_interrupted && !run->revision)
        return fail(err, KVERN_INVALID, "there is nothing to summarise in %s%s", paths->items[0],
                    run->report.n_skips > 0 ? ": all of it is left out (--all, --language)" : "");
    if (status != KVERN_OK && !is_interrupted && run->report.n_files == 0)
        return fail(err, status, "%s", why.message);
    kvern_status written = write_report(run, status != KVERN_OK, err);
    if (written != KVERN_OK)
        return written;
    if (!run->is_quiet)
        tell_outcome(run);
    *has_failed = report_success(&run->report) < LEAST_SUCCESS;
    if (status != KVERN_OK && !is_interrupted)
        return fail(err, status, "%s", why.message);
    return KVERN_OK;
}

static int summarize(struct summarize *run, const struct positionals *paths)
{
    kvern_error err = {0};
    bool has_failed = false;
    kvern_status status = summarize_all(run, paths, &has_failed, &err);

    summarizer_free(run->summarizer);
    kvern_engine_close(run->engine);
    summary_cache_close(&run->cache);
    report_clear(&run->report);
    map_clear(&run->changes);
    kvern_model_close(run->model);
    if (status != KVERN_OK)
        return report(&err);
    if (was_interrupted())
        return EXIT_INTERRUPTED;
    return has_failed ? EXIT_FAILED : EXIT_OK;
}

/* -1: all names are good; else the exit status. */
static int read_names(struct summarize *run, const struct command_help *help)
{
    kvern_error err = {0};

    if (report_format_parse(run->format_name, &run->format, &err) != KVERN_OK)
        return usage_error(help, "--format: %s", err.message);
    if (strcmp(run->level_name, "function") == 0)
        run->options.level = CHUNK_LEVEL_FUNCTION;
    else if (strcmp(run->level_name, "chunk") == 0)
        run->options.has_no_files = true;
    else if (strcmp(run->level_name, "file") != 0)
        return usage_error(help, "--level takes file, chunk or function, not '%s'",
                           run->level_name);
    if (run->language_names.n > MAX_LANGUAGES)
        return usage_error(help, "--language can be given %d times", MAX_LANGUAGES);
    for (size_t i = 0; i < run->language_names.n; i++) {
        run->languages[i] = language_find(run->language_names.items[i]);
        if (!run->languages[i])
            return usage_error(help, "--language: '%s' is none that kvern knows",
                               run->language_names.items[i]);
    }
    return -1;
}

int cmd_summarize(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "summarize PATH... | - [OPTIONS]",
        .summary = "Summarises source trees, files or a patch into a report.",
        .details =
            "Files are cut into chunks at functions and blank lines, many are summarised at once, "
            "and\nfiles and folders are summarised from their parts. - is stdin: a patch or any "
            "text.\nWhat .gitignore and .kvernignore exclude, binaries, generated and vendored "
            "files are left\nout, and the report says so. Summaries are kept by content, model and "
            "options: a second\nrun asks for what changed only, and a run that was ended goes on. "
            "Ctrl-C writes the\nreport of what is done. The exit status is 1 if under 95 % of the "
            "chunks have a summary.",
        .examples = "  kvern summarize src > report.md\n"
                    "  kvern summarize . -o report.html --format html\n"
                    "  kvern summarize . --changed-since main\n"
                    "  git diff | kvern summarize -\n"
                    "  kvern summarize lib --level function --format jsonl --language python",
    };
    struct summarize run = {.format_name = "md", .level_name = "file", .started = seconds_now()};
    struct positionals paths;
    const struct option options[] = {
        {"output", 'o', OPTION_STRING, &run.output, "FILE", "write the report there (stdout)"},
        {"format", 0, OPTION_STRING, &run.format_name, "NAME", "md, json, jsonl or html (md)"},
        {"level", 0, OPTION_STRING, &run.level_name, "NAME",
         "file: chunks, files and folders; chunk: chunks alone; function (file)"},
        {"jobs", 'j', OPTION_INT, &run.n_jobs, "N", "chunks in flight (20)", 0, 256},
        {"max-lines", 0, OPTION_INT, &run.max_lines, "N", "of a chunk (300)", 0, 1 << 20},
        {"chunk-tokens", 0, OPTION_INT, &run.chunk_tokens, "N",
         "of a chunk (what the context leaves, at most 1536)", 0, 1 << 20},
        {"answer-tokens", 0, OPTION_INT, &run.answer_tokens, "N", "of a summary (64)", 0, 4096},
        {"changed-since", 0, OPTION_STRING, &run.revision, "REV",
         "only what git says changed since"},
        {"include", 0, OPTION_LIST, &run.include, "GLOB", "only files that match (again: or)"},
        {"exclude", 0, OPTION_LIST, &run.exclude, "GLOB", "leave out what matches"},
        {"language", 0, OPTION_LIST, &run.language_names, "NAME", "only files in it, such as c"},
        {"max-file", 0, OPTION_BYTES, &run.max_file_bytes, "SIZE",
         "larger files are left out (1M)"},
        {"all", 0, OPTION_FLAG, &run.keeps_ignored, NULL, "also what ignore files exclude"},
        {"vendored", 0, OPTION_FLAG, &run.keeps_vendored, NULL, "also vendored folders"},
        {"generated", 0, OPTION_FLAG, &run.keeps_generated, NULL, "also generated files"},
        {"no-cache", 0, OPTION_FLAG, &run.has_no_cache, NULL, "ask for all of it again"},
        {"cache-dir", 0, OPTION_STRING, &run.cache_directory, "DIR", "where summaries are kept"},
        {"quiet", 'q', OPTION_FLAG, &run.is_quiet, NULL, "no progress, no totals"},
        ENGINE_OPTIONS(run.engine_flags),
        {NULL},
    };
    int exit_status = options_parse(options, &help, argc, argv, &paths);

    if (exit_status >= 0)
        return exit_status;
    if (paths.n == 0)
        return usage_error(&help, "summarize needs a PATH, or - for stdin");
    if (run.revision && (paths.n != 1 || is_stdin(&paths)))
        return usage_error(&help, "--changed-since takes one PATH");
    exit_status = read_names(&run, &help);
    return exit_status >= 0 ? exit_status : summarize(&run, &paths);
}
