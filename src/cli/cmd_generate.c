/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern generate: one prompt streamed, or thousands batched with results in input order. Each
 * request gathers its own text while it waits for its turn to be printed; a prompt that cannot run
 * fails alone.
 */
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/logprobs.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/prompts.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_IN_FLIGHT = 256, POLL_MS = 50 };

/* One prompt on its way. */
struct job {
    kvern_request *request; /* NULL: not submitted, refused, or done */
    kvern_error refusal;    /* why it was refused; status KVERN_OK: it was not */
};

struct generate {
    struct engine_flags engine_flags;
    struct prompt_settings settings;
    struct sampling_flags sampling;
    struct option_list files;
    const char *jsonl;
    bool is_json, is_stream, is_quiet, has_stats;
    kvern_model *model; /* owned */
    struct prompts prompts;
    struct job *jobs; /* [prompts.n] */
    size_t n_submitted;
    size_t n_failed;
    size_t n_cut; /* ended by their max_tokens or the context limit */
    struct progress progress;
    int64_t n_prompt_tokens, n_completion_tokens; /* of printed results */
    double prefill_ms, decode_ms;
};

/* The words of all arguments, then the files: one prompt. */
static kvern_status read_files(struct generate *run, const kvern_model *model,
                               const struct positionals *arguments, kvern_error *err)
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
        status = prompts_add_text(&run->prompts, model, &run->settings, joined.data, err);
    buffer_clear(&joined);
    return status;
}

/* Prompts from --prompts, --file, or arguments ("-" is stdin). */
static kvern_status read_prompts(struct generate *run, const kvern_model *model,
                                 const struct positionals *arguments, kvern_error *err)
{
    kvern_status status = KVERN_OK;
    char *text = NULL;
    size_t n_bytes = 0;

    if (run->jsonl) {
        status = read_input(run->jsonl, &text, &n_bytes, err);
        if (status != KVERN_OK)
            return status;
        status = prompts_add_jsonl(&run->prompts, model, &run->settings, text, n_bytes, err);
        free(text);
        if (status == KVERN_OK && run->prompts.n == 0)
            status = fail(err, KVERN_INVALID, "there is no prompt in it");
        return status == KVERN_OK
                   ? KVERN_OK
                   : fail_in(err, status, "%s", strcmp(run->jsonl, "-") ? run->jsonl : "stdin");
    }
    if (run->files.n > 0)
        return read_files(run, model, arguments, err);
    for (size_t i = 0; status == KVERN_OK && i < arguments->n; i++) {
        if (strcmp(arguments->items[i], "-") != 0) {
            status =
                prompts_add_text(&run->prompts, model, &run->settings, arguments->items[i], err);
            continue;
        }
        status = read_text("-", &text, err);
        if (status == KVERN_OK)
            status = prompts_add_text(&run->prompts, model, &run->settings, text, err);
        free(text);
        text = NULL;
    }
    return status;
}

static void print_id(const json_t *id, FILE *stream)
{
    char *text = json_dumps(id, JSON_ENCODE_ANY | JSON_COMPACT);

    fputs(text ? text : "?", stream);
    free(text);
}

static void count_result(struct generate *run, const kvern_event *event)
{
    run->n_prompt_tokens += (int64_t)event->n_prompt_tokens;
    run->n_completion_tokens += (int64_t)event->n_completion_tokens;
    run->prefill_ms += event->prefill_ms;
    run->decode_ms += event->decode_ms;
    run->n_failed += event->finish == KVERN_FINISH_ERROR;
    run->n_cut += event->finish == KVERN_FINISH_LENGTH;
}

static void print_result(struct generate *run, const struct prompt *prompt,
                         const struct buffer *text, json_t *logprobs, const kvern_event *event)
{
    const char *bytes = text->data ? text->data : "";

    count_result(run, event);
    progress_end(&run->progress);
    if (event->finish == KVERN_FINISH_ERROR) {
        fputs("kvern: ", stderr);
        if (run->prompts.n > 1) {
            fputs("prompt ", stderr);
            print_id(prompt->id, stderr);
            fputs(": ", stderr);
        }
        fprintf(stderr, "%s\n", event->error.message);
    }
    if (run->is_json) {
        json_t *json = result_json(run->model, prompt->id, bytes, text->n_bytes, event);

        if (json && logprobs)
            json_object_set(json, "logprobs", logprobs);
        output_json(json);
        return;
    }
    if (event->finish == KVERN_FINISH_ERROR && run->prompts.n == 1 && text->n_bytes == 0)
        return;
    if (run->prompts.n > 1) {
        output_text("--- ", 4);
        print_id(prompt->id, stdout);
        output_text("\n", 1);
    }
    if (!run->is_stream)
        output_text(bytes, text->n_bytes);
    output_text("\n", 1);
    output_flush();
}

/* Submits as many as may be in flight; `next` is the first of them. A request that can never fit is
 * refused alone: its turn to be told comes later. */
static kvern_status submit_more(struct generate *run, kvern_engine *engine, size_t next,
                                kvern_error *err)
{
    while (run->n_submitted < run->prompts.n && run->n_submitted < next + MAX_IN_FLIGHT) {
        const struct prompt *prompt = &run->prompts.items[run->n_submitted];
        struct job *job = &run->jobs[run->n_submitted];
        kvern_error refusal = {0};
        kvern_status status = kvern_submit(engine, &prompt->request, &job->request, &refusal);

        if (status == KVERN_BUSY && run->n_submitted > next)
            return KVERN_OK;
        if (status != KVERN_OK && status != KVERN_LIMIT && status != KVERN_INVALID) {
            *err = refusal;
            return status;
        }
        job->refusal = refusal;
        run->n_submitted++;
    }
    return KVERN_OK;
}

static void cancel_from(struct generate *run, size_t first)
{
    for (size_t i = first; i < run->n_submitted; i++) {
        if (run->jobs[i].request)
            kvern_request_cancel(run->jobs[i].request);
    }
}

static void show_progress(struct generate *run, kvern_engine *engine, size_t n_done)
{
    kvern_engine_stats stats;
    char note[96];
    char rate[32];
    double seconds = seconds_now() - run->progress.started;

    if (run->prompts.n < 2)
        return;
    kvern_engine_get_stats(engine, &stats);
    format_amount(rate, sizeof rate,
                  (double)(stats.n_prefill_tokens + stats.n_decode_tokens) / (seconds + 1e-9),
                  PROGRESS_ITEMS);
    snprintf(note, sizeof note, "%s tokens/s, %d running, %d waiting", rate, stats.n_running,
             stats.n_waiting);
    progress_show(&run->progress, "prompts", (int64_t)n_done, (int64_t)run->prompts.n, note);
}

/* Takes one request to its end. On Ctrl-C, or when nobody can read the results any more, everything
 * in flight is cancelled; what was generated is still printed. */
static kvern_status finish_one(struct generate *run, kvern_engine *engine, size_t i,
                               kvern_error *err)
{
    struct job *job = &run->jobs[i];
    struct buffer text = {0};
    json_t *logprobs = NULL;
    kvern_event event = {0};
    kvern_status status = KVERN_OK;
    bool is_cancelled = false;

    if (!job->request) {
        event.finish = KVERN_FINISH_ERROR;
        event.error = job->refusal;
        event.n_prompt_tokens = run->prompts.items[i].tokens.n;
    }
    while (event.finish == KVERN_FINISH_NONE) {
        if (!is_cancelled && (was_interrupted() || output_has_failed())) {
            cancel_from(run, i);
            is_cancelled = true;
        }
        status = kvern_request_next(job->request, POLL_MS, &event, err);
        show_progress(run, engine, i);
        if (status == KVERN_TIMEOUT)
            continue;
        if (status == KVERN_OK)
            status = logprobs_add(&logprobs, run->model, &event, err);
        if (status != KVERN_OK)
            goto done;
        buffer_add(&text, event.text, event.n_text);
        if (run->is_stream) {
            output_text(event.text, event.n_text);
            output_flush();
        }
    }
    status = KVERN_OK;
    if (text.has_failed)
        status = fail(err, KVERN_MEMORY, "out of memory keeping an answer");
    else
        print_result(run, &run->prompts.items[i], &text, logprobs, &event);
done:
    kvern_request_free(job->request);
    job->request = NULL;
    json_decref(logprobs);
    buffer_clear(&text);
    return status;
}

static void print_stats(const struct generate *run, double seconds)
{
    double n_decoded = (double)run->n_completion_tokens - (double)run->prompts.n;

    if (run->prompts.n == 1) {
        fprintf(stderr, "prefill %lld tokens in %.0f ms (%.0f tokens/s)",
                (long long)run->n_prompt_tokens, run->prefill_ms,
                1000 * (double)run->n_prompt_tokens / (run->prefill_ms + 1e-9));
        if (n_decoded > 0)
            fprintf(stderr, ", decode %.0f tokens in %.0f ms (%.0f tokens/s)", n_decoded,
                    run->decode_ms, 1000 * n_decoded / (run->decode_ms + 1e-9));
        fputc('\n', stderr);
    } else {
        fprintf(stderr, "%zu prompts: %lld tokens in, %lld out, in %.2f s (%.0f tokens/s out)\n",
                run->prompts.n, (long long)run->n_prompt_tokens,
                (long long)run->n_completion_tokens, seconds,
                (double)run->n_completion_tokens / (seconds + 1e-9));
    }
    if (run->n_cut > 0)
        fprintf(stderr, "%zu %s at the length limit (--max-tokens)\n", run->n_cut,
                run->n_cut == 1 ? "answer ended" : "answers ended");
}

static kvern_status run_prompts(struct generate *run, kvern_engine *engine, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    run->jobs = try_new(run->prompts.n, sizeof *run->jobs);
    if (!run->jobs)
        return fail(err, KVERN_MEMORY, "out of memory for %zu prompts", run->prompts.n);
    progress_begin(&run->progress, PROGRESS_ITEMS, run->is_quiet);
    for (size_t i = 0; status == KVERN_OK && i < run->prompts.n; i++) {
        bool is_ending = was_interrupted() || output_has_failed();

        if (is_ending && i >= run->n_submitted)
            break;
        if (!is_ending)
            status = submit_more(run, engine, i, err);
        if (status == KVERN_OK)
            status = finish_one(run, engine, i, err);
    }
    progress_end(&run->progress);
    if (status == KVERN_OK && run->has_stats)
        print_stats(run, seconds_now() - run->progress.started);
    for (size_t i = 0; i < run->n_submitted; i++)
        kvern_request_free(run->jobs[i].request);
    return status;
}

static int generate(struct generate *run, const struct positionals *arguments)
{
    kvern_engine *engine = NULL;
    kvern_error err = {0};
    kvern_status status = open_model(&run->engine_flags, &run->model, &err);

    if (status == KVERN_OK)
        status = read_prompts(run, run->model, arguments, &err);
    if (status == KVERN_OK)
        status = open_engine(&run->engine_flags, run->model, &engine, &err);
    run->is_stream = run->is_stream && run->prompts.n == 1 && !run->is_json;
    if (status == KVERN_OK)
        status = run_prompts(run, engine, &err);
    free(run->jobs);
    kvern_engine_close(engine);
    prompts_clear(&run->prompts);
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
            "frequency_penalty,\nlogit_bias, seed, stop, stop_token_ids, max_tokens, min_tokens, "
            "ignore_eos, logprobs,\nlogprobs_of}; other members are left alone. The same request "
            "gives the same answer, bit\nfor bit, whatever runs beside it. With Ctrl-C what was "
            "generated so far is printed (exit\nstatus 130).",
        .examples = "  kvern generate \"What is a hand mill?\"\n"
                    "  kvern generate \"Explain this file.\" --file src/base/map.c\n"
                    "  git diff | kvern generate \"Summarise this change:\" --file -\n"
                    "  kvern generate --prompts questions.jsonl --json > answers.jsonl",
    };
    struct generate run = {.sampling = SAMPLING_DEFAULTS};
    struct positionals arguments;

    run.has_stats = isatty(STDERR_FILENO);
    run.is_stream = isatty(STDOUT_FILENO);
    const struct option options[] = {
        ENGINE_OPTIONS(run.engine_flags),
        {"prompts", 'p', OPTION_STRING, &run.jsonl, "FILE", "JSON Lines of prompts; - is stdin"},
        {"file", 'f', OPTION_LIST, &run.files, "FILE",
         "put a file's text after the prompt (may be given again)"},
        {"system", 0, OPTION_STRING, &run.settings.system, "TEXT", "system message"},
        {"raw", 0, OPTION_FLAG, &run.settings.is_raw, NULL, "no chat template: continue the text"},
        SAMPLING_OPTIONS(run.sampling),
        {"stream", 0, OPTION_FLAG, &run.is_stream, NULL,
         "print one prompt's answer as it comes (on a terminal)"},
        {"json", 0, OPTION_FLAG, &run.is_json, NULL, "one JSON object a line and prompt"},
        {"stats", 0, OPTION_FLAG, &run.has_stats, NULL,
         "speeds on stderr at the end (on a terminal)"},
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
    if (!run.jsonl && arguments.n == 0 && run.files.n == 0) {
        if (isatty(STDIN_FILENO))
            return usage_error(&help, "generate needs a PROMPT, --prompts FILE or text on stdin");
        arguments = (struct positionals){.items = dash, .n = 1};
    }
    exit_status = set_sampling(&run.sampling, &help, &run.settings.request);
    if (exit_status != 0)
        return exit_status;
    if (run.sampling.logprobs >= 0 && !run.is_json)
        return usage_error(&help, "--logprobs needs --json");
    return generate(&run, &arguments);
}
