/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern chat: a conversation. The whole history is the prompt of each turn; the engine keeps the KV
 * of the last turn, so only what is new is run.
 */
#include "cli/command.h"
#include "cli/interrupt.h"

#include "base/buffer.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chat {
    kvern_model *model;
    kvern_engine *engine;
    kvern_request_options request;
    kvern_message *messages; /* owned: contents malloc'ed */
    size_t n_messages;
    bool has_stats;
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
        if (was_interrupted())
            kvern_request_cancel(request);
        status = kvern_request_next(request, 50, &event, err);
        if (status == KVERN_TIMEOUT) {
            status = KVERN_OK;
            continue;
        }
        if (status != KVERN_OK)
            break;
        buffer_add(&text, event.text, event.n_text);
        fwrite(event.text, 1, event.n_text, stdout);
        fflush(stdout);
        if (event.finish == KVERN_FINISH_ERROR) {
            *err = event.error;
            status = event.error.status;
        }
    }
    if (status == KVERN_OK) {
        putchar('\n');
        add_message(chat, "assistant", buffer_take(&text, NULL));
        if (chat->has_stats)
            fprintf(stderr, "[%zu tokens, %zu of them kept; prefill %.0f ms, %.0f tokens/s]\n",
                    event.n_prompt_tokens, event.n_cached_tokens, event.prefill_ms,
                    1000 * ((double)event.n_completion_tokens - 1) / (event.decode_ms + 1e-9));
    }
    buffer_clear(&text);
    kvern_request_free(request);
    kvern_tokens_clear(&tokens);
    return status;
}

/* A line of input without its newline, or NULL at the end. */
static char *read_line(bool is_terminal)
{
    char *line = NULL;
    size_t capacity = 0;

    if (is_terminal) {
        fputs("> ", stdout);
        fflush(stdout);
    }
    ssize_t n = getline(&line, &capacity, stdin);
    if (n < 0) {
        free(line);
        return NULL;
    }
    if (n > 0 && line[n - 1] == '\n')
        line[n - 1] = '\0';
    return line;
}

static int talk(struct chat *chat, bool has_system)
{
    bool is_terminal = isatty(STDIN_FILENO);
    size_t n_kept = has_system ? 1 : 0;
    kvern_error err = {0};
    char *line;

    if (is_terminal)
        fputs("Type a message. /reset forgets the conversation, /quit or Ctrl-D ends it, "
              "Ctrl-C ends an answer.\n",
              stderr);
    while ((line = read_line(is_terminal))) {
        if (strcmp(line, "/quit") == 0) {
            free(line);
            break;
        }
        if (strcmp(line, "/reset") == 0 || *line == '\0') {
            if (*line)
                forget_messages(chat, n_kept);
            free(line);
            continue;
        }
        add_message(chat, "user", line);
        if (answer(chat, &err) != KVERN_OK) {
            int exit_status = report(&err);

            forget_messages(chat, chat->n_messages - 1);
            if (!is_terminal)
                return exit_status;
        }
        if (was_interrupted() && !is_terminal)
            return EXIT_INTERRUPTED;
        interrupt_forget();
    }
    return was_interrupted() ? EXIT_INTERRUPTED : EXIT_OK;
}

int cmd_chat(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "chat [OPTIONS]",
        .summary = "Talks with a model; the conversation and its KV cache are kept between turns.",
        .details = "In the conversation: /reset forgets it, /quit ends, Ctrl-C ends an answer.",
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
        {"top-p", 0, OPTION_FLOAT, &top_p, "P", "sample from the likeliest that sum to P (1)", 0,
         1},
        {"seed", 0, OPTION_INT, &seed, "N", "of the random choices (0)", 0, 9.2e18},
        {"stats", 0, OPTION_FLAG, &chat.has_stats, NULL,
         "speeds after each answer (on a terminal)"},
        {NULL},
    };
    int exit_status = options_parse(options, &help, argc, argv, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (arguments.n > 0)
        return usage_error("chat takes no arguments, but got '%s'", arguments.items[0]);
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
        exit_status = talk(&chat, system != NULL);
    } else {
        exit_status = report(&err);
    }
    forget_messages(&chat, 0);
    free(chat.messages);
    kvern_engine_close(chat.engine);
    kvern_model_close(chat.model);
    return exit_status;
}
