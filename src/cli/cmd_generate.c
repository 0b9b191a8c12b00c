/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern generate: one prompt streamed, or thousands batched with results in input order. Each
 * request gathers its own text while it waits for its turn to be printed.
 */
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/prompts.h"

#include "base/buffer.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_IN_FLIGHT = 256, POLL_MS = 50 };

struct generate {
    struct engine_flags engine_flags;
    struct prompt_settings settings;
    struct option_list stop;
    struct option_list files;
    const char *jsonl;
    double temperature, top_p, min_p, repetition_penalty;
    int64_t top_k, seed, max_tokens;
    bool is_json, is_stream, is_quiet, has_stats;
    struct prompts prompts;
    kvern_request **requests; /* [prompts.n] */
    size_t n_submitted;
    struct progress progress;
    int64_t n_prompt_tokens, n_completion_tokens; /* of printed results */
    double prefill_ms, decode_ms;
};

/* Prompts from --prompts, arguments and --file; with none of these, from stdin. Files go after the
 * words of the (single) prompt they belong to. */
static kvern_status read_prompts(struct generate *run, const kvern_model *model,
                                 const struct positionals *arguments, kvern_error *err)
{
    kvern_status status = KVERN_OK;
    char *text = NULL;
    size_t n_bytes = 0;

    if (run->jsonl) {
        status = read_input(run->jsonl, &text, &n_bytes, err);
        if (status == KVERN_OK)
            status = prompts_add_jsonl(&run->prompts, model, &run->settings, text, n_bytes, err);
        if (status != KVERN_OK)
            status = fail_in(err, status, "%s", run->jsonl);
        free(text);
        return status;
    }
    if (run->files.n > 0) {
        struct buffer joined = {0};

        for (size_t i = 0; i < arguments->n; i++)
            buffer_add_format(&joined, "%s\n", arguments->items[i]);
        for (size_t i = 0; status == KVERN_OK && i < run->files.n; i++) {
            status = read_input(run->files.items[i], &text, &n_bytes, err);
            if (status == KVERN_OK)
                buffer_add_format(&joined, "\n%s", text);
            free(text);
            text = NULL;
        }
        if (status == KVERN_OK)
            status = prompts_add_text(&run->prompts, model, &run->settings,
                                      joined.data ? joined.data : "", err);
        buffer_clear(&joined);
        return status;
    }
    for (size_t i = 0; status == KVERN_OK && i < arguments->n; i++) {
        if (strcmp(arguments->items[i], "-") != 0) {
            status =
                prompts_add_text(&run->prompts, model, &run->settings, arguments->items[i], err);
            continue;
        }
        status = read_input("-", &text, &n_bytes, err);
        if (status == KVERN_OK)
            status = prompts_add_text(&run->prompts, model, &run->settings, text, err);
        free(text);
        text = NULL;
    }
    return status;
}

static void print_result(struct generate *run, const struct prompt *prompt, const char *text,
                         const kvern_event *event)
{
    run->n_prompt_tokens += (int64_t)event->n_prompt_tokens;
    run->n_completion_tokens += (int64_t)event->n_completion_tokens;
    run->prefill_ms += event->prefill_ms;
    run->decode_ms += event->decode_ms;
    progress_end(&run->progress);
    if (run->is_json) {
        json_t *line = json_pack(
            "{s:O s:s s:s s:{s:i s:i s:i} s:{s:f s:f s:f}}", "id", prompt->id, "text", text,
            "finish_reason", kvern_finish_name(event->finish), "usage", "prompt_tokens",
            (int)event->n_prompt_tokens, "completion_tokens", (int)event->n_completion_tokens,
            "cached_tokens", (int)event->n_cached_tokens, "timings", "wait_ms", event->wait_ms,
            "prefill_ms", event->prefill_ms, "decode_ms", event->decode_ms);
        if (line && event->finish == KVERN_FINISH_ERROR)
            json_object_set_new(line, "error", json_string(event->error.message));
        char *dumped = line ? json_dumps(line, JSON_COMPACT) : NULL;

        puts(dumped ? dumped : "null");
        free(dumped);
        json_decref(line);
    } else {
        if (run->prompts.n > 1) {
            char *id = json_dumps(prompt->id, JSON_ENCODE_ANY | JSON_COMPACT);

            printf("--- %s\n", id ? id : "?");
            free(id);
        }
        if (!run->is_stream)
            fputs(text, stdout);
        putchar('\n');
    }
    fflush(stdout);
}

/* Submits as many as may be in flight. The window's first request is number `next`. */
static kvern_status submit_more(struct generate *run, kvern_engine *engine, size_t next,
                                kvern_error *err)
{
    while (run->n_submitted < run->prompts.n && run->n_submitted < next + MAX_IN_FLIGHT) {
        const struct prompt *prompt = &run->prompts.items[run->n_submitted];
        kvern_status status =
            kvern_submit(engine, &prompt->request, &run->requests[run->n_submitted], err);

        if (status == KVERN_BUSY && run->n_submitted > next)
            return KVERN_OK;
        if (status != KVERN_OK && run->prompts.n > 1) {
            char *id = json_dumps(prompt->id, JSON_ENCODE_ANY | JSON_COMPACT);

            status = fail_in(err, status, "prompt %s", id ? id : "?");
            free(id);
        }
        if (status != KVERN_OK)
            return status;
        run->n_submitted++;
    }
    return KVERN_OK;
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

/* Takes one request to its end. On Ctrl-C everything in flight is cancelled; what was generated is
 * still printed. */
static kvern_status finish_one(struct generate *run, kvern_engine *engine, size_t i,
                               bool *has_failed, kvern_error *err)
{
    struct buffer text = {0};
    kvern_event event = {0};
    kvern_status status;
    bool is_cancelled = false;

    do {
        if (was_interrupted() && !is_cancelled) {
            for (size_t j = i; j < run->n_submitted; j++)
                kvern_request_cancel(run->requests[j]);
            is_cancelled = true;
        }
        status = kvern_request_next(run->requests[i], POLL_MS, &event, err);
        show_progress(run, engine, i);
        if (status == KVERN_TIMEOUT)
            continue;
        if (status != KVERN_OK)
            break;
        buffer_add(&text, event.text, event.n_text);
        if (run->is_stream) {
            fwrite(event.text, 1, event.n_text, stdout);
            fflush(stdout);
        }
    } while (event.finish == KVERN_FINISH_NONE);
    if (event.finish == KVERN_FINISH_ERROR) {
        *has_failed = true;
        progress_end(&run->progress);
        report(&event.error);
    }
    if (event.finish != KVERN_FINISH_NONE)
        print_result(run, &run->prompts.items[i], text.data ? text.data : "", &event);
    kvern_request_free(run->requests[i]);
    run->requests[i] = NULL;
    buffer_clear(&text);
    return status == KVERN_TIMEOUT ? KVERN_OK : status;
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
}

static int generate(struct generate *run, const struct positionals *arguments)
{
    kvern_model *model = NULL;
    kvern_engine *engine = NULL;
    bool has_failed = false;
    kvern_error err = {0};
    kvern_status status = open_model(&run->engine_flags, &model, &err);

    if (status == KVERN_OK)
        status = read_prompts(run, model, arguments, &err);
    if (status == KVERN_OK)
        status = open_engine(&run->engine_flags, model, &engine, &err);
    run->requests = calloc(run->prompts.n + 1, sizeof(kvern_request *));
    run->is_stream = run->is_stream && run->prompts.n == 1 && !run->is_json;
    progress_begin(&run->progress, PROGRESS_ITEMS, run->is_quiet);
    for (size_t i = 0; status == KVERN_OK && i < run->prompts.n; i++) {
        if (was_interrupted() && i >= run->n_submitted)
            break;
        if (!was_interrupted())
            status = submit_more(run, engine, i, &err);
        if (status == KVERN_OK)
            status = finish_one(run, engine, i, &has_failed, &err);
    }
    progress_end(&run->progress);
    if (status == KVERN_OK && run->has_stats)
        print_stats(run, seconds_now() - run->progress.started);
    for (size_t i = 0; i < run->n_submitted; i++)
        kvern_request_free(run->requests[i]);
    free(run->requests);
    kvern_engine_close(engine);
    prompts_clear(&run->prompts);
    kvern_model_close(model);
    if (status != KVERN_OK)
        return report(&err);
    if (was_interrupted())
        return EXIT_INTERRUPTED;
    return has_failed ? EXIT_FAILED : EXIT_OK;
}

int cmd_generate(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "generate PROMPT... | --prompts FILE.jsonl | - [OPTIONS]",
        .summary = "Answers prompts: one streamed, or many batched, with results in input order.",
        .details =
            "A JSON line is {\"id\", \"prompt\" | \"messages\", and any of temperature, top_k, "
            "top_p,\n"
            "min_p, repetition_penalty, seed, stop, max_tokens}. The same request gives the same\n"
            "answer, bit for bit, whatever runs beside it.",
        .examples = "  kvern generate \"What is a hand mill?\"\n"
                    "  kvern generate \"Explain this file.\" --file src/base/map.c\n"
                    "  git diff | kvern generate \"Summarise this change:\" --file -\n"
                    "  kvern generate --prompts questions.jsonl --json > answers.jsonl",
    };
    struct generate run = {.top_p = 1, .repetition_penalty = 1, .max_tokens = 256};
    struct positionals arguments;

    run.has_stats = isatty(STDERR_FILENO);
    run.is_stream = isatty(STDOUT_FILENO);
    const struct option options[] = {
        ENGINE_OPTIONS(run.engine_flags),
        {"prompts", 'p', OPTION_STRING, &run.jsonl, "FILE", "JSON Lines of prompts; - is stdin"},
        {"file", 'f', OPTION_LIST, &run.files, "FILE",
         "put a file's text after the prompt; - is stdin"},
        {"system", 0, OPTION_STRING, &run.settings.system, "TEXT", "system message"},
        {"raw", 0, OPTION_FLAG, &run.settings.is_raw, NULL, "no chat template: continue the text"},
        {"max-tokens", 'n', OPTION_INT, &run.max_tokens, "N",
         "tokens of an answer at most (256; 0: up to the context)", 0, 1 << 24},
        {"temperature", 0, OPTION_FLOAT, &run.temperature, "T", "0 is greedy (0)", 0, 100},
        {"top-k", 0, OPTION_INT, &run.top_k, "K", "sample from the K likeliest (off)", 0, 1 << 24},
        {"top-p", 0, OPTION_FLOAT, &run.top_p, "P", "sample from the likeliest that sum to P (1)",
         0, 1},
        {"min-p", 0, OPTION_FLOAT, &run.min_p, "P", "drop what is under P times the likeliest (0)",
         0, 1},
        {"repetition-penalty", 0, OPTION_FLOAT, &run.repetition_penalty, "R",
         "over 1 discourages repeats (1)", 0.01, 100},
        {"seed", 0, OPTION_INT, &run.seed, "N", "of the random choices (0)", 0, 9.2e18},
        {"stop", 0, OPTION_LIST, &run.stop, "TEXT", "end before this text; may be given again"},
        {"ignore-eos", 0, OPTION_FLAG, &run.settings.request.ignore_eos, NULL,
         "go on after end tokens"},
        {"stream", 0, OPTION_FLAG, &run.is_stream, NULL, "print as it comes (on a terminal)"},
        {"json", 0, OPTION_FLAG, &run.is_json, NULL, "one JSON object a result"},
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
        return usage_error("--prompts goes without prompt arguments and --file");
    if (!run.jsonl && arguments.n == 0 && run.files.n == 0) {
        if (isatty(STDIN_FILENO))
            return usage_error("generate needs a PROMPT, --prompts FILE or text on stdin");
        arguments = (struct positionals){.items = dash, .n = 1};
    }
    kvern_request_options *request = &run.settings.request;
    request->max_tokens = (int32_t)run.max_tokens;
    request->stop = run.stop.items;
    request->n_stop = run.stop.n;
    request->sampling = (kvern_sampling){
        .temperature = (float)run.temperature,
        .top_k = (int32_t)run.top_k,
        .top_p = (float)run.top_p,
        .min_p = (float)run.min_p,
        .repetition_penalty = (float)run.repetition_penalty,
        .seed = (uint64_t)run.seed,
    };
    return generate(&run, &arguments);
}
