/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern generate: one prompt streamed, or any number batched, each with one answer or more, with
 * results in input order or as they finish, on stdout or in a file that a killed run goes on with.
 * Prompts are read as the engine takes them; one that cannot run fails alone.
 */
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/job_result.h"
#include "cli/jobs.h"
#include "cli/logprobs.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/prompt_file.h"
#include "cli/results_file.h"

#include "base/buffer.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { POLL_MS = 50 };

struct generate {
    struct engine_flags engine_flags;
    struct prompt_settings settings;
    struct sampling_flags sampling;
    int64_t n; /* answers to a prompt whose line does not say */
    struct option_list files;
    const char *jsonl;
    const char *output;
    bool is_resumed, is_unordered;
    bool is_json, is_stream, is_quiet, has_stats;
    kvern_model *model;   /* owned */
    kvern_engine *engine; /* owned */
    struct jobs jobs;
    struct prompt_file source;   /* of --prompts */
    bool is_reading;             /* there may be more in it */
    kvern_error reading_error;   /* status not KVERN_OK: why reading ended early */
    struct results_file results; /* of --output */
    size_t n_prompts;            /* in all; 0: not known */
    size_t n_done;               /* by this run, the failed ones included */
    size_t n_failed;
    size_t n_resumed; /* had their results already */
    size_t n_cut;     /* ended by their max_tokens or the context limit */
    struct progress progress;
    int64_t n_prompt_tokens, n_completion_tokens, n_cached_tokens; /* of this run's results */
    double prefill_ms, decode_ms;
};

static kvern_status add_text(struct generate *run, const char *text, kvern_error *err)
{
    struct job *job = jobs_add(&run->jobs, &run->settings);

    job->prompt.id = json_integer((json_int_t)run->n_prompts++);
    return prompt_set_text(&job->prompt, run->model, &run->settings, text, err);
}

/* The words of all arguments, then the files: one prompt. */
static kvern_status read_files(struct generate *run, const struct positionals *arguments,
                               kvern_error *err)
{
    struct buffer joined = {0};
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < arguments->n; i++)
        buffer_add_format(&joined, "%s\n", arguments->items[i]);
    for (size_t i = 0; status == KVERN_OK && i < run->files.n; i++) {
        char *text = NULL;

        status = read_text(run->files.items[i], &text, err);
        if (status == KVERN_OK) {
            buffer_add_string(&joined, "\n");
            buffer_add_string(&joined, text);
        }
        free(text);
    }
    if (status == KVERN_OK && joined.has_failed)
        status = fail(err, KVERN_MEMORY, "out of memory joining the files of the prompt");
    if (status == KVERN_OK)
        status = add_text(run, joined.data ? joined.data : "", err);
    buffer_clear(&joined);
    return status;
}

/* Prompts from --file or arguments ("-" is stdin). */
static kvern_status read_arguments(struct generate *run, const struct positionals *arguments,
                                   kvern_error *err)
{
    kvern_status status = KVERN_OK;

    if (run->files.n > 0)
        return read_files(run, arguments, err);
    for (size_t i = 0; status == KVERN_OK && i < arguments->n; i++) {
        char *text = NULL;
        bool is_stdin = strcmp(arguments->items[i], "-") == 0;

        if (is_stdin)
            status = read_text("-", &text, err);
        if (status == KVERN_OK)
            status = add_text(run, is_stdin ? text : arguments->items[i], err);
        free(text);
    }
    return status;
}

/* A line of --prompts on its way; one that is wrong is done at once, with its error. */
static void add_line(struct generate *run, struct prompt_line *line)
{
    struct job *job = jobs_add(&run->jobs, &run->settings);
    kvern_error error = line->error;

    job->prompt.id = json_incref(line->id);
    job->key = line->key;
    job->fingerprint = line->fingerprint;
    line->key = NULL;
    if (error.status == KVERN_OK && prompt_set_fields(&job->prompt, run->model, &run->settings,
                                                      line->fields, &error) != KVERN_OK)
        fail_in(&error, error.status, "line %zu", run->source.lines.number);
    if (error.status != KVERN_OK)
        jobs_refuse(&run->jobs, job, &error);
}

/* As many lines as there is room for; what has its result already takes none. A source that fails
 * ends the reading: what was read before it is still run. */
static kvern_status read_more(struct generate *run, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && run->is_reading && jobs_have_room(&run->jobs)) {
        struct prompt_line line;
        bool has_line;
        kvern_status read = prompt_file_next(&run->source, run->jobs.n > 0 ? 0 : POLL_MS, &line,
                                             &has_line, &run->reading_error);

        if (read == KVERN_TIMEOUT || read == KVERN_CANCELLED) {
            run->reading_error = (kvern_error){0};
            break;
        }
        run->is_reading = read == KVERN_OK && has_line;
        if (!run->is_reading)
            break;
        if (line.is_done)
            run->n_resumed++;
        else
            add_line(run, &line);
        prompt_line_clear(&line);
        status = jobs_submit(&run->jobs, err);
    }
    return status;
}

static void count_result(struct generate *run, const struct job_totals *total)
{
    run->n_done++;
    run->n_cached_tokens += (int64_t)total->n_cached_tokens;
    run->n_prompt_tokens += (int64_t)total->n_prompt_tokens;
    run->n_completion_tokens += (int64_t)total->n_completion_tokens;
    run->prefill_ms += total->prefill_ms;
    run->decode_ms += total->decode_ms;
    run->n_failed += total->n_failed > 0;
    run->n_cut += total->n_cut;
}

static bool is_one_prompt(const struct generate *run)
{
    return !run->jsonl && run->n_prompts == 1;
}

static bool is_one_answer(const struct generate *run)
{
    return is_one_prompt(run) && run->n == 1;
}

static void tell_failure(struct generate *run, const struct job *job, const kvern_error *error)
{
    progress_end(&run->progress);
    fputs("kvern: ", stderr);
    if (!is_one_prompt(run)) {
        fputs("prompt ", stderr);
        job_print_id(job, stderr);
        fputs(": ", stderr);
    }
    fprintf(stderr, "%s\n", error->message);
}

static void print_result(struct generate *run, const struct job *job, bool has_failed)
{
    progress_end(&run->progress);
    if (run->is_json) {
        output_json(job_json(job, run->model));
        return;
    }
    if (has_failed && is_one_prompt(run) && job_is_empty(job))
        return;
    if (!run->is_stream) {
        job_print_texts(job, !is_one_answer(run));
        return;
    }
    output_text("\n", 1);
    output_flush();
}

/* The same line as on stdout, and its fingerprint. */
static kvern_status keep_result(struct generate *run, const struct job *job, bool has_failed,
                                kvern_error *err)
{
    json_t *result = job_json(job, run->model);
    char fingerprint[17];
    kvern_status status;

    snprintf(fingerprint, sizeof fingerprint, "%016llx", (unsigned long long)job->fingerprint);
    if (result)
        json_object_set_new(result, "fingerprint", json_string(fingerprint));
    char *line = json_text(result);
    status =
        line ? results_file_add(&run->results, job->key, line, job->fingerprint, has_failed, err)
             : fail(err, KVERN_MEMORY, "out of memory for a result");
    free(line);
    json_decref(result);
    return status;
}

/* An answer that was cut short by Ctrl-C is printed, but not kept: its prompt is run again. */
static kvern_status hand_on(struct generate *run, const struct job *job, kvern_error *err)
{
    const struct job_totals total = job_total(job);
    bool has_failed = total.n_failed > 0;

    if (run->output && total.n_cancelled > 0)
        return KVERN_OK;
    count_result(run, &total);
    if (has_failed)
        tell_failure(run, job, &total.error);
    if (run->output)
        return keep_result(run, job, has_failed, err);
    print_result(run, job, has_failed);
    return KVERN_OK;
}

static kvern_status see_event(struct answer *answer, const kvern_event *event, void *data,
                              kvern_error *err)
{
    const struct generate *run = data;

    if (run->is_stream) {
        output_text(event->text, event->n_text);
        output_flush();
    }
    return logprobs_add(&answer->logprobs, run->model, event, err);
}

/* "1.2k tokens/s, 64 running, 36 waiting, 35 % cached" */
static void format_note(const struct generate *run, char *note, size_t n_bytes)
{
    kvern_engine_stats stats;
    char rate[32];
    char cached[32] = "";
    double seconds = seconds_now() - run->progress.started;

    kvern_engine_get_stats(run->engine, &stats);
    format_amount(rate, sizeof rate,
                  (double)(stats.n_prefill_tokens + stats.n_decode_tokens) / (seconds + 1e-9),
                  PROGRESS_ITEMS);
    if (run->n_cached_tokens > 0)
        snprintf(cached, sizeof cached, ", %.0f %% cached",
                 100 * (double)run->n_cached_tokens / (double)run->n_prompt_tokens);
    snprintf(note, n_bytes, "%s tokens/s, %d running, %d waiting%s", rate, stats.n_running,
             stats.n_waiting, cached);
}

static void show_progress(struct generate *run)
{
    size_t n_done = run->n_done + jobs_count_done(&run->jobs);
    char note[128];
    char what[64];

    if (is_one_answer(run))
        return;
    format_note(run, note, sizeof note);
    if (run->n_prompts > 0)
        snprintf(what, sizeof what, "prompts %zu/%zu", n_done, run->n_prompts);
    else
        snprintf(what, sizeof what, "prompts %zu", n_done);
    progress_show(&run->progress, what, (int64_t)n_done, (int64_t)run->n_prompts, note);
}

/* One answer's speeds. */
static void print_speeds(const struct generate *run)
{
    double n_decoded = (double)run->n_completion_tokens - 1;

    fprintf(stderr, "prefill %lld tokens in %.0f ms (%.0f tokens/s)",
            (long long)run->n_prompt_tokens, run->prefill_ms,
            1000 * (double)run->n_prompt_tokens / (run->prefill_ms + 1e-9));
    if (n_decoded > 0)
        fprintf(stderr, ", decode %.0f tokens in %.0f ms (%.0f tokens/s)", n_decoded,
                run->decode_ms, 1000 * n_decoded / (run->decode_ms + 1e-9));
    fputc('\n', stderr);
}

static void print_counts(const struct generate *run, double seconds)
{
    fprintf(stderr, "%zu prompts done", run->n_done - run->n_failed);
    if (run->n_failed > 0)
        fprintf(stderr, ", %zu failed", run->n_failed);
    if (run->n_resumed > 0)
        fprintf(stderr, ", %zu resumed", run->n_resumed);
    fprintf(stderr, ": %lld tokens in", (long long)run->n_prompt_tokens);
    if (run->n_cached_tokens > 0)
        fprintf(stderr, " (%.0f %% cached)",
                100 * (double)run->n_cached_tokens / (double)run->n_prompt_tokens);
    fprintf(stderr, ", %lld out, in %.2f s (%.0f tokens/s out)\n",
            (long long)run->n_completion_tokens, seconds,
            (double)run->n_completion_tokens / (seconds + 1e-9));
}

static void print_stats(const struct generate *run, double seconds)
{
    kvern_engine_stats stats;

    if (is_one_answer(run))
        print_speeds(run);
    else
        print_counts(run, seconds);
    if (run->n_cut > 0)
        fprintf(stderr, "%zu %s at the length limit (--max-tokens)\n", run->n_cut,
                run->n_cut == 1 ? "answer ended" : "answers ended");
    kvern_engine_get_stats(run->engine, &stats);
    print_kv_memory(&run->engine_flags, &stats, stderr);
    fputc('\n', stderr);
}

/* Until every prompt is handed on. On Ctrl-C, or when nobody can read the results any more,
 * everything in flight is cancelled. */
static kvern_status run_jobs(struct generate *run, kvern_error *err)
{
    kvern_status status = jobs_submit(&run->jobs, err);
    bool is_ordered = !run->is_unordered && (!run->output || !run->results.is_regular);

    while (status == KVERN_OK && (run->is_reading || run->jobs.n > 0)) {
        struct job *job;

        if (was_interrupted() || output_has_failed()) {
            run->is_reading = false;
            jobs_cancel(&run->jobs);
        }
        status = read_more(run, err);
        if (status == KVERN_OK)
            status = jobs_submit(&run->jobs, err);
        if (status == KVERN_OK)
            status = jobs_poll(&run->jobs, POLL_MS, err);
        while (status == KVERN_OK && (job = jobs_take(&run->jobs, is_ordered))) {
            status = hand_on(run, job, err);
            job_free(job);
        }
        show_progress(run);
    }
    progress_end(&run->progress);
    if (status == KVERN_OK && run->reading_error.status != KVERN_OK) {
        status = run->reading_error.status;
        *err = run->reading_error;
    }
    return status;
}

/* A run that ends early says what is in its file, and leaves that in the order it finished in. */
static kvern_status finish_output(struct generate *run, kvern_status status, kvern_error *err)
{
    char hint[256] = "";
    kvern_error first = *err;

    if (status == KVERN_OK && !was_interrupted())
        return results_file_finish(&run->results, run->is_unordered ? NULL : &run->source.ids, err);
    results_file_sync(&run->results, NULL); /* what is told is the run's own failure */
    if (run->results.is_regular)
        snprintf(hint, sizeof hint, "%s has %zu results, and --resume goes on with them",
                 run->output, run->results.by_id.n_entries);
    if (status == KVERN_OK)
        fprintf(stderr, "kvern: interrupted%s%s\n", *hint ? ": " : "", hint);
    else if (*hint)
        fail(err, status, "%s; %s", first.message, hint);
    return status;
}

/* What makes an answer another one, but the prompt itself and this machine. */
static uint64_t hash_settings(struct generate *run)
{
    kvern_model_info info;
    char model[256];
    const struct option options[] = {
        CONTEXT_OPTIONS(run->engine_flags),
        SAMPLING_OPTIONS(run->sampling),
        {"n", 0, OPTION_INT, &run->n, NULL, NULL},
        {"preset", 0, OPTION_STRING, &run->engine_flags.preset, NULL, NULL},
        {"system", 0, OPTION_STRING, &run->settings.system, NULL, NULL},
        {"raw", 0, OPTION_FLAG, &run->settings.is_raw, NULL, NULL},
        {NULL},
    };

    kvern_model_get_info(run->model, &info);
    snprintf(model, sizeof model, "%s %s %s %lld %lld", info.name, info.contract, info.weights,
             (long long)info.n_parameters, (long long)info.n_bytes);
    return options_hash(options, XXH3_64bits(model, strlen(model)));
}

static kvern_status open_source(struct generate *run, kvern_error *err)
{
    const struct results_file *results = run->output ? &run->results : NULL;
    uint64_t seed = hash_settings(run);
    struct prompt_file counts;
    kvern_status status = KVERN_OK;

    if (run->output)
        status = results_file_open(&run->results, run->output, run->is_resumed, err);
    if (status == KVERN_OK)
        status = prompt_file_scan(run->jsonl, seed, results, &counts, err);
    if (status != KVERN_OK)
        return status;
    if (counts.n_changed > 0)
        fprintf(stderr,
                "kvern: %zu prompts or their options changed since %s was written: they run "
                "again\n",
                counts.n_changed, run->output);
    run->n_prompts = counts.n_prompts - counts.n_done;
    status = prompt_file_open(&run->source, run->jsonl, seed, results, err);
    run->is_reading = status == KVERN_OK;
    return status;
}

static kvern_status generate_all(struct generate *run, const struct positionals *arguments,
                                 kvern_error *err)
{
    kvern_status status = open_model(&run->engine_flags, &run->model, err);

    if (status == KVERN_OK)
        status = run->jsonl ? open_source(run, err) : read_arguments(run, arguments, err);
    if (status == KVERN_OK)
        status = open_engine(&run->engine_flags, run->model, &run->engine, err);
    if (status != KVERN_OK)
        return status;
    run->jobs.engine = run->engine;
    run->is_stream = run->is_stream && is_one_answer(run) && !run->is_json;
    run->jobs.on_event = see_event;
    run->jobs.on_event_data = run;
    progress_begin(&run->progress, PROGRESS_ITEMS, run->is_quiet);
    status = run_jobs(run, err);
    if (run->output)
        status = finish_output(run, status, err);
    if (status == KVERN_OK && run->jsonl && run->n_done + run->n_resumed == 0 &&
        !was_interrupted() && !output_has_failed())
        return fail(err, KVERN_INVALID, "%s: there is no prompt in it", shown_path(run->jsonl));
    if (status == KVERN_OK && (run->has_stats || (run->output && !run->is_quiet)))
        print_stats(run, seconds_now() - run->progress.started);
    return status;
}

static int generate(struct generate *run, const struct positionals *arguments)
{
    kvern_error err = {0};
    kvern_status status = generate_all(run, arguments, &err);

    jobs_clear(&run->jobs);
    kvern_engine_close(run->engine);
    prompt_file_close(&run->source);
    results_file_close(&run->results);
    kvern_model_close(run->model);
    if (status != KVERN_OK)
        return report(&err);
    if (was_interrupted())
        return EXIT_INTERRUPTED;
    return run->n_failed > 0 ? EXIT_FAILED : EXIT_OK;
}

int cmd_generate(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "generate PROMPT... | --prompts FILE | - [OPTIONS]",
        .summary = "Answers prompts: one streamed, or many batched, with results in input order.",
        .details =
            "Without a PROMPT the text on stdin is one. With --file all words and files are one.\n"
            "A line of --prompts is {\"id\", \"prompt\" | \"messages\", and any of temperature, "
            "top_k,\ntop_p, min_p, typical_p, repetition_penalty, presence_penalty, "
            "frequency_penalty,\nno_repeat_ngram_size, logit_bias, seed, stop, stop_token_ids, "
            "max_tokens, min_tokens,\nignore_eos, logprobs, logprobs_of, num_beams, "
            "length_penalty, early_stopping, n}; other\nmembers are left alone. A prompt that "
            "cannot run is a result with an error, and stops\nno other.\n"
            "With --n over 1 (or \"n\") the prompt runs once, answer i is the one that --seed plus "
            "i gives\nalone, and a JSON result has \"answers\": [{\"text\", \"finish_reason\"}, "
            "...]. With\n--num-beams they are the best, best first, each with its \"score\".\n"
            "With --output each result is in the file as soon as it is there; after a kill the "
            "same\ncommand with --resume runs only what is not done, and in the end the file is in "
            "input\norder (docs/prompts.md). The same request gives the same answer, bit for bit, "
            "whatever\nruns beside it. With Ctrl-C what was generated so far is printed (exit "
            "status 130).",
        .examples = "  kvern generate \"What is a hand mill?\"\n"
                    "  kvern generate \"Explain this file.\" --file src/base/map.c\n"
                    "  git diff | kvern generate \"Summarise this change:\" --file -\n"
                    "  kvern generate \"Name a mill.\" --n 5 --temperature 0.8\n"
                    "  kvern generate --prompts questions.jsonl --json > answers.jsonl\n"
                    "  kvern generate --prompts questions.jsonl -o answers.jsonl --resume\n"
                    "  tail -f log.jsonl | kvern generate --prompts - --json --unordered",
    };
    struct generate run = {.sampling = SAMPLING_DEFAULTS, .n = 1, .results = {.fd = -1}};
    struct positionals arguments;

    run.has_stats = isatty(STDERR_FILENO);
    run.is_stream = isatty(STDOUT_FILENO);
    const struct option options[] = {
        ENGINE_OPTIONS(run.engine_flags),
        {"prompts", 'p', OPTION_STRING, &run.jsonl, "FILE", "JSON Lines of prompts; - is stdin"},
        {"output", 'o', OPTION_STRING, &run.output, "FILE",
         "of --prompts: put results there, as JSON Lines"},
        {"resume", 0, OPTION_FLAG, &run.is_resumed, NULL,
         "of --output: go on with the file if it is there"},
        {"unordered", 0, OPTION_FLAG, &run.is_unordered, NULL, "results as they finish"},
        {"file", 'f', OPTION_LIST, &run.files, "FILE",
         "put a file's text after the prompt (may be given again)"},
        {"system", 0, OPTION_STRING, &run.settings.system, "TEXT", "system message"},
        {"raw", 0, OPTION_FLAG, &run.settings.is_raw, NULL, "no chat template: continue the text"},
        {"n", 0, OPTION_INT, &run.n, "N", "answers to each prompt, 1 to 256 (1)", 1, MAX_SAMPLES},
        SAMPLING_OPTIONS(run.sampling),
        {"stream", 0, OPTION_FLAG, &run.is_stream, NULL,
         "print the answer as it comes, if it is the only one (on a terminal)"},
        {"json", 0, OPTION_FLAG, &run.is_json, NULL, "one JSON object a line and prompt"},
        {"stats", 0, OPTION_FLAG, &run.has_stats, NULL,
         "counts and speeds on stderr at the end (on a terminal)"},
        {"quiet", 'q', OPTION_FLAG, &run.is_quiet, NULL, "no progress"},
        {NULL},
    };
    char *dash[] = {"-"};

    kvern_request_options_init(&run.settings.request);
    int exit_status = options_parse(options, &help, argc, argv, &arguments);
    if (exit_status >= 0)
        return exit_status;
    if (run.jsonl && (arguments.n > 0 || run.files.n > 0))
        return usage_error(&help, "--prompts goes without prompt arguments and --file");
    if (run.output && !run.jsonl)
        return usage_error(&help, "--output goes with --prompts");
    if (run.is_resumed && !run.output)
        return usage_error(&help, "--resume goes with --output");
    if (!run.jsonl && arguments.n == 0 && run.files.n == 0) {
        if (isatty(STDIN_FILENO))
            return usage_error(&help, "generate needs a PROMPT, --prompts FILE or text on stdin");
        arguments = (struct positionals){.items = dash, .n = 1};
    }
    exit_status = set_sampling(&run.sampling, &help, &run.settings.request);
    if (exit_status != 0)
        return exit_status;
    if (run.sampling.logprobs >= 0 && !run.is_json && !run.output)
        return usage_error(&help, "--logprobs needs --json");
    run.settings.n = (size_t)run.n;
    return generate(&run, &arguments);
}
