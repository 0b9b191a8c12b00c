/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern chat: a conversation. The whole history is the prompt of each turn, so that an answer is
 * the one `generate` gives for the same messages; the engine keeps the KV of the last turn and runs
 * only what is new.
 */
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_MS = 50 };

struct chat {
    kvern_model *model;
    kvern_engine *engine;
    kvern_request_options request;
    kvern_message *messages; /* owned: contents malloc'ed */
    size_t n_messages;
    bool has_stats;
    bool is_json;
};

static void add_message(struct chat *chat, const char *role, char *content)
{
    chat->messages =
        resize_or_abort(chat->messages, (chat->n_messages + 1) * sizeof *chat->messages);
    chat->messages[chat->n_messages++] = (kvern_message){role, content};
}

static void forget_messages(struct chat *chat, size_t n_kept)
{
    while (chat->n_messages > n_kept)
        free((char *)(uintptr_t)chat->messages[--chat->n_messages].content);
}

static void print_stats(const kvern_event *event)
{
    double n_decoded = (double)event->n_completion_tokens - 1;

    fprintf(stderr, "[%zu tokens, %zu of them kept; prefill %.0f ms", event->n_prompt_tokens,
            event->n_cached_tokens, event->prefill_ms);
    if (n_decoded > 0)
        fprintf(stderr, ", %.0f tokens/s", 1000 * n_decoded / (event->decode_ms + 1e-9));
    fputs(event->finish == KVERN_FINISH_LENGTH ? "; ended at the length limit]\n" : "]\n", stderr);
}

/* Streams one answer and adds it to the history. */
static kvern_status answer(struct chat *chat, kvern_error *err)
{
    struct buffer text = {0};
    kvern_request *request = NULL;
    kvern_event event = {0};
    kvern_tokens tokens = {0};
    kvern_status status =
        kvern_chat_tokenize(chat->model, chat->messages, chat->n_messages, true, &tokens, err);

    if (status == KVERN_OK) {
        chat->request.prompt = tokens.ids;
        chat->request.n_prompt = tokens.n;
        status = kvern_submit(chat->engine, &chat->request, &request, err);
    }
    while (status == KVERN_OK && event.finish == KVERN_FINISH_NONE) {
        if (was_interrupted() || output_has_failed())
            kvern_request_cancel(request);
        status = kvern_request_next(request, POLL_MS, &event, err);
        if (status == KVERN_TIMEOUT) {
            status = KVERN_OK;
            continue;
        }
        if (status != KVERN_OK)
            break;
        buffer_add(&text, event.text, event.n_text);
        if (!chat->is_json) {
            output_text(event.text, event.n_text);
            output_flush();
        }
        if (event.finish == KVERN_FINISH_ERROR) {
            *err = event.error;
            status = event.error.status;
        }
    }
    if (status == KVERN_OK && text.has_failed)
        status = fail(err, KVERN_MEMORY, "out of memory keeping the answer");
    if (status == KVERN_OK) {
        if (chat->is_json) {
            output_json(
                result_json(chat->model, NULL, text.data ? text.data : "", text.n_bytes, &event));
        } else {
            output_text("\n", 1);
            output_flush();
        }
        if (chat->has_stats)
            print_stats(&event);
        add_message(chat, "assistant", buffer_take(&text, NULL));
    }
    buffer_clear(&text);
    kvern_request_free(request);
    kvern_tokens_clear(&tokens);
    return status;
}

/* A line of input without its end, or NULL at the end of the input. */
static char *read_line(bool is_terminal)
{
    char *line = NULL;
    size_t capacity = 0;

    if (is_terminal)
        fputs("> ", stderr);
    ssize_t n = getline(&line, &capacity, stdin);
    if (n < 0) {
        free(line);
        return NULL;
    }
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        line[--n] = '\0';
    /* a NUL would end the message early and in silence */
    for (ssize_t i = 0; i < n; i++)
        line[i] = line[i] ? line[i] : ' ';
    return line;
}

/* "/quit" and the like: a slash and letters only, so that a path can begin a message. */
static bool is_order(const char *line)
{
    size_t n = strspn(line + (line[0] == '/'), "abcdefghijklmnopqrstuvwxyz");

    return line[0] == '/' && line[n + 1] == '\0';
}

/* One user message and its answer. Returns -1 to go on, else the exit status. */
static int take_turn(struct chat *chat, char *line, bool is_terminal)
{
    kvern_error err = {0};

    add_message(chat, "user", line);
    if (answer(chat, &err) != KVERN_OK) {
        int exit_status = report(&err);

        forget_messages(chat, chat->n_messages - 1);
        if (!is_terminal)
            return exit_status;
        if (err.status == KVERN_LIMIT)
            fputs("/reset begins a new conversation.\n", stderr);
    }
    if (was_interrupted() && !is_terminal)
        return EXIT_INTERRUPTED;
    if (output_has_failed())
        return EXIT_FAILED;
    interrupt_forget();
    return -1;
}

static int talk(struct chat *chat)
{
    static const char orders[] = "/reset forgets the conversation, /quit or Ctrl-D ends it, "
                                 "Ctrl-C ends an answer.\n";
    bool is_terminal = isatty(STDIN_FILENO);
    size_t n_kept = chat->n_messages;
    int exit_status = -1;
    char *line;

    if (is_terminal)
        fprintf(stderr, "Type a message. %s", orders);
    while (exit_status < 0 && (line = read_line(is_terminal))) {
        if (*line != '\0' && !is_order(line)) {
            exit_status = take_turn(chat, line, is_terminal);
            continue;
        }
        if (strcmp(line, "/quit") == 0)
            exit_status = EXIT_OK;
        else if (strcmp(line, "/reset") == 0)
            forget_messages(chat, n_kept);
        else if (*line != '\0')
            fputs(orders, stderr);
        free(line);
    }
    if (exit_status < 0 && is_terminal)
        fputc('\n', stderr);
    if (exit_status < 0)
        exit_status = was_interrupted() ? EXIT_INTERRUPTED : EXIT_OK;
    return exit_status;
}

int cmd_chat(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "chat [OPTIONS]",
        .summary = "Talks with a model; the conversation and its KV cache are kept.",
        .details =
            "Each line of stdin is a message. /reset forgets the conversation, /quit or the end\n"
            "of the input ends it, Ctrl-C ends an answer (at the prompt: the command).",
        .examples = "  kvern chat\n  kvern chat --system \"Answer in one sentence.\"",
    };
    struct engine_flags flags = {0};
    struct chat chat = {.has_stats = isatty(STDERR_FILENO)};
    const char *system = NULL;
    double temperature = 0;
    double top_p = 1;
    int64_t max_tokens = 1024;
    int64_t seed = 0;
    struct positionals arguments;
    kvern_error err = {0};
    const struct option options[] = {
        ENGINE_OPTIONS(flags),
        {"system", 0, OPTION_STRING, &system, "TEXT", "system message"},
        {"max-tokens", 'n', OPTION_INT, &max_tokens, "N", "tokens of an answer at most (1024)", 0,
         1 << 24},
        {"temperature", 0, OPTION_FLOAT, &temperature, "T", "0 is greedy (0)", 0, 100},
        {"top-p", 0, OPTION_FLOAT, &top_p, "P", "sample from the likeliest that sum to P (1)",
         LEAST_P, 1},
        {"seed", 0, OPTION_INT, &seed, "N", "of the random choices (0)", 0, MAX_SEED},
        {"stats", 0, OPTION_FLAG, &chat.has_stats, NULL,
         "speeds after each answer (on a terminal)"},
        {"json", 0, OPTION_FLAG, &chat.is_json, NULL, "one JSON object an answer"},
        {NULL},
    };
    int exit_status = options_parse(options, &help, argc, argv, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (arguments.n > 0)
        return usage_error(&help, "chat takes no arguments, but got '%s'", arguments.items[0]);
    kvern_request_options_init(&chat.request);
    chat.request.conversation = 1;
    chat.request.max_tokens = (int32_t)max_tokens;
    chat.request.sampling.temperature = (float)temperature;
    chat.request.sampling.top_p = (float)top_p;
    chat.request.sampling.seed = (uint64_t)seed;
    kvern_status status = open_model(&flags, &chat.model, &err);
    if (status == KVERN_OK)
        status = open_engine(&flags, chat.model, &chat.engine, &err);
    if (status == KVERN_OK) {
        if (system)
            add_message(&chat, "system", copy_string_or_abort(system));
        exit_status = talk(&chat);
    } else {
        exit_status = report(&err);
    }
    forget_messages(&chat, 0);
    free(chat.messages);
    kvern_engine_close(chat.engine);
    kvern_model_close(chat.model);
    return exit_status;
}
