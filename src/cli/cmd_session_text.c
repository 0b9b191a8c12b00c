/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern session append, embed and generate: text goes into a stored session. All the texts of one
 * command are one change. What a message's turn adds is session_chat.c's matter.
 */
#include "cli/cmd_session.h"

#include "cli/interrupt.h"
#include "cli/logprobs.h"
#include "cli/output.h"
#include "cli/session_chat.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_MS = 50 };

/* What the three have in common: NAME, texts, and the machine's options. */
struct text_command {
    struct engine_flags flags;
    const char *name;
    struct texts texts;
    bool is_json;
    /* of generate */
    kvern_request_options request;
    const char *system;
    bool is_system_named; /* on the command line; the environment's is for first messages */
    bool is_chat;
    bool is_stream;
    bool is_quiet;
};

/* clang-format off */
#define TEXT_OPTIONS(command)                                                                      \
    MACHINE_OPTIONS((command).flags),                                                              \
    {"file", 'f', OPTION_LIST, &(command).texts.files, "FILE",                                     \
     "a file's text (may be given again)"}
/* clang-format on */

/* Parses; the first argument is the session, the others are texts. Returns -1 or the exit status.
 */
static int parse(struct text_command *command, const struct option *options,
                 const struct command_help *help, int argc, char **argv)
{
    struct positionals arguments;
    int exit_status = options_parse(options, help, argc, argv, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (arguments.n == 0)
        return usage_error(help, "which session? 'kvern session list' shows those there are");
    command->name = arguments.items[0];
    command->texts.arguments =
        (struct positionals){.items = arguments.items + 1, .n = arguments.n - 1};
    return -1;
}

static bool has_texts(const struct text_command *command)
{
    return command->texts.arguments.n + command->texts.files.n > 0;
}

/* Opens the session, does the work, closes it. Returns the exit status. */
static int run_on_session(struct text_command *command,
                          kvern_status (*work)(struct session_run *run,
                                               struct text_command *command, kvern_error *err))
{
    struct session_run run = {0};
    kvern_error err = {0};
    kvern_status status = session_run_open(&run, command->name, &command->flags, &err);

    if (status == KVERN_OK)
        status = work(&run, command, &err);
    session_run_close(&run);
    return status == KVERN_OK ? EXIT_OK : report(&err);
}

/* The tokens of all texts, one after another; those of the model only before the first. */
static kvern_status read_tokens(const struct session_run *run, struct texts *texts,
                                struct buffer *ids, kvern_error *err)
{
    kvern_session_info info;
    kvern_status status = KVERN_OK;
    bool has_text = true;

    kvern_session_get_info(run->session, &info);
    while (status == KVERN_OK) {
        struct text text;
        kvern_tokens tokens = {0};
        bool is_first = info.position == 0 && ids->n_bytes == 0;

        status = texts_next(texts, &text, &has_text, err);
        if (status != KVERN_OK || !has_text)
            break;
        if (text.text)
            status = session_tokenize(run, is_first, text.text, text.n_bytes, &tokens, err);
        else
            status = fail(err, text.error.status, "%s", text.error.message);
        if (status == KVERN_OK && tokens.n > 0)
            buffer_add(ids, tokens.ids, tokens.n * sizeof *tokens.ids);
        kvern_tokens_clear(&tokens);
        text_clear(&text);
    }
    if (status == KVERN_OK && ids->has_failed)
        status = fail(err, KVERN_MEMORY, "out of memory for the tokens of the texts");
    return status;
}

static kvern_status append(struct session_run *run, struct text_command *command, kvern_error *err)
{
    kvern_session_answer answer = {0};
    struct buffer ids = {0};
    kvern_status status = read_tokens(run, &command->texts, &ids, err);

    if (status == KVERN_OK && ids.n_bytes == 0)
        status = fail(err, KVERN_INVALID, "the text is empty: there is nothing to append");
    if (status == KVERN_OK)
        status = kvern_session_append(run->session, (const int32_t *)ids.data,
                                      ids.n_bytes / sizeof(int32_t), &answer, err);
    if (status == KVERN_OK && was_interrupted())
        status = interrupted(err);
    if (status == KVERN_OK)
        status = session_run_save(run, err);
    if (status == KVERN_OK)
        tell_left_out(&answer);
    if (status == KVERN_OK && command->is_json) {
        json_t *json = answer_json(run, &answer);

        if (json)
            json_object_set_new(json, "tokens", json_integer((json_int_t)answer.n_appended));
        output_json(json);
    } else if (status == KVERN_OK) {
        print_answer(stdout, &answer);
    }
    buffer_clear(&ids);
    return status;
}

int session_append(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "session append NAME TEXT... | - | --file FILE [OPTIONS]",
        .summary = "Appends text to a session: only the new tokens run.",
        .details =
            "All texts are appended as one; \"-\" is the text on stdin. On failure the session "
            "is as before.",
        .examples = "  kvern session append notes \"Another thought.\"\n"
                    "  kvern session append notes --file chapter1.txt --json",
    };
    struct text_command command = {0};
    const struct option options[] = {
        TEXT_OPTIONS(command),
        {"json", 0, OPTION_FLAG, &command.is_json, NULL, "one JSON object"},
        {NULL},
    };
    int exit_status = parse(&command, options, &help, argc, argv);

    if (exit_status >= 0)
        return exit_status;
    if (!has_texts(&command))
        return usage_error(&help, "append needs a TEXT, --file FILE, or - for stdin");
    return run_on_session(&command, append);
}

int session_embed(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "session embed NAME [TEXT... | - | --file FILE] [OPTIONS]",
        .summary = "Appends each text to a session and prints the context's vector after it.",
        .details =
            "Without a text: the vector of the context as it is. 'kvern embed --session NAME' "
            "is\nthe same, and takes JSON Lines too.",
        .examples = "  kvern session embed notes \"Another thought.\" --json",
    };
    struct text_command command = {0};
    struct vector_flags out = {0};
    const struct option options[] = {
        TEXT_OPTIONS(command),
        VECTOR_OPTIONS(out),
        {NULL},
    };
    int exit_status = parse(&command, options, &help, argc, argv);

    if (exit_status >= 0)
        return exit_status;
    exit_status = resolve_format(&out, &help);
    if (exit_status != 0)
        return exit_status;
    return embed_in_session(command.name, &command.flags, &command.texts, &out);
}

/* What came of a request. */
struct generated {
    struct buffer text;
    json_t *logprobs; /* NULL: none were asked for */
    kvern_event event;
};

/* Takes the answer as it comes; Ctrl-C cancels, and then the session is as before. */
static kvern_status read_answer(const kvern_model *model, kvern_request *request, bool is_stream,
                                struct generated *answer, kvern_error *err)
{
    kvern_event *event = &answer->event;

    while (event->finish == KVERN_FINISH_NONE) {
        if (was_interrupted() || output_has_failed())
            kvern_request_cancel(request);
        kvern_status status = kvern_request_next(request, POLL_MS, event, err);

        if (status == KVERN_TIMEOUT)
            continue;
        if (status == KVERN_OK)
            status = logprobs_add(&answer->logprobs, model, event, err);
        if (status != KVERN_OK)
            return status;
        buffer_add(&answer->text, event->text, event->n_text);
        if (is_stream) {
            output_text(event->text, event->n_text);
            output_flush();
        }
    }
    if (is_stream)
        output_text("\n", 1);
    return answer->text.has_failed ? fail(err, KVERN_MEMORY, "out of memory keeping an answer")
                                   : KVERN_OK;
}

/* The answer belongs to the session only if it is whole: the caller saves after KVERN_OK. */
static kvern_status generate(struct session_run *run, const kvern_request_options *options,
                             bool is_stream, struct generated *generated,
                             kvern_session_answer *answer, kvern_error *err)
{
    kvern_request *request = NULL;
    kvern_error problem = {0};
    kvern_status status = kvern_session_submit(run->session, options, &request, err);

    if (status != KVERN_OK)
        return status;
    status = read_answer(run->model, request, is_stream, generated, err);
    kvern_status finished = kvern_session_finish(run->session, request, answer, &problem);
    if (generated->event.finish == KVERN_FINISH_CANCELLED)
        status = was_interrupted()
                     ? fail(err, KVERN_CANCELLED, "interrupted; the session is as before")
                     : fail(err, KVERN_IO, "nobody reads the answer; the session is as before");
    else if (status == KVERN_OK && finished != KVERN_OK)
        status = fail(err, finished, "%s", problem.message);
    kvern_request_free(request);
    return status;
}

static void print_generated(const struct session_run *run, const struct text_command *command,
                            const struct generated *generated, const kvern_session_answer *answer)
{
    const struct buffer *text = &generated->text;
    const char *bytes = text->data ? text->data : "";

    tell_left_out(answer);
    if (command->is_json) {
        json_t *id = json_string(run->record.name);
        json_t *json = result_json(run->model, id, bytes, text->n_bytes, &generated->event);
        json_t *more = answer_json(run, answer);

        if (json && generated->logprobs)
            json_object_set(json, "logprobs", generated->logprobs);
        if (json && more)
            json_object_update(json, more);
        if (json && command->is_chat)
            json_object_set_new(json, "messages",
                                json_integer((json_int_t)json_array_size(
                                    json_object_get(run->record.chat, "messages"))));
        json_decref(more);
        json_decref(id);
        output_json(json);
        return;
    }
    if (!command->is_stream) {
        output_text(bytes, text->n_bytes);
        output_text("\n", 1);
    }
    if (command->is_quiet)
        return;
    print_answer(stderr, answer);
    if (command->is_chat && generated->event.finish == KVERN_FINISH_LENGTH)
        fputs("the answer ended at the length limit (--max-tokens)\n", stderr);
}

/* All texts as one message, a blank line between them. */
static kvern_status read_message(struct texts *texts, struct buffer *message, kvern_error *err)
{
    kvern_status status = KVERN_OK;
    bool has_text = true;

    while (status == KVERN_OK) {
        struct text text;

        status = texts_next(texts, &text, &has_text, err);
        if (status != KVERN_OK || !has_text)
            break;
        if (message->n_bytes > 0)
            buffer_add_string(message, "\n\n");
        if (text.text)
            buffer_add(message, text.text, text.n_bytes);
        else
            status = fail(err, text.error.status, "%s", text.error.message);
        text_clear(&text);
    }
    if (status == KVERN_OK && message->has_failed)
        status = fail(err, KVERN_MEMORY, "out of memory for the message");
    if (status == KVERN_OK && message->n_bytes == 0)
        status = fail(err, KVERN_INVALID, "the message is empty: there is nothing to answer");
    return status;
}

/* A message's turn, and what is to be run of it. */
static kvern_status open_turn(struct session_run *run, struct text_command *command,
                              struct chat_turn *turn, kvern_error *err)
{
    struct buffer message = {0};
    bool takes_system = command->is_system_named || !chat_goes_on(run);
    kvern_status status = read_message(&command->texts, &message, err);

    if (status == KVERN_OK)
        status = chat_turn_open(turn, run, takes_system ? command->system : NULL, message.data,
                                message.n_bytes, (size_t)command->request.max_tokens, err);
    if (status == KVERN_OK) {
        command->request.prompt = turn->tokens.ids + turn->n_kept;
        command->request.n_prompt = turn->tokens.n - turn->n_kept;
    }
    buffer_clear(&message);
    return status;
}

/* Submits the texts' tokens or the message's turn, and saves what came of them. */
static kvern_status generate_and_save(struct session_run *run, struct text_command *command,
                                      kvern_error *err)
{
    struct chat_turn turn = {0};
    struct buffer ids = {0};
    struct generated generated = {0};
    kvern_session_answer answer = {0};
    kvern_status status;

    if (command->is_chat) {
        status = open_turn(run, command, &turn, err);
    } else {
        status = read_tokens(run, &command->texts, &ids, err);
        if (status == KVERN_OK && has_texts(command) && ids.n_bytes == 0)
            status = fail(err, KVERN_INVALID,
                          "the text is empty: leave it out to go on from where session '%s' stands",
                          command->name);
        command->request.prompt = (const int32_t *)ids.data;
        command->request.n_prompt = ids.n_bytes / sizeof(int32_t);
    }
    if (status == KVERN_OK)
        status = generate(run, &command->request, command->is_stream, &generated, &answer, err);
    if (status == KVERN_OK && command->is_chat)
        status = chat_turn_finish(&turn, run, generated.text.data, generated.text.n_bytes, err);
    if (status == KVERN_OK)
        status = session_run_save(run, err);
    if (status == KVERN_OK)
        print_generated(run, command, &generated, &answer);
    chat_turn_clear(&turn);
    json_decref(generated.logprobs);
    buffer_clear(&generated.text);
    buffer_clear(&ids);
    return status;
}

int session_generate(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "session generate NAME [TEXT... | - | --file FILE] [OPTIONS]",
        .summary = "Appends text to a session, and what the model writes after it.",
        .details =
            "The text goes in as it is, and without one the model goes on from where the session\n"
            "stands. With --chat the texts are one message of the user, which goes in through the\n"
            "model's chat template, and the model answers; in a later turn only what is new runs.\n"
            "Ctrl-C leaves the session as before.",
        .examples = "  kvern session generate story \"Once upon a time\" -n 100\n"
                    "  kvern session generate story -n 100 --temperature 0.8 --seed 3\n"
                    "  kvern session generate talk --chat \"What is a hand mill?\"\n"
                    "  kvern session generate talk --chat \"Who used it?\"",
    };
    struct text_command command = {.is_stream = isatty(STDOUT_FILENO)};
    struct sampling_flags sampling = SAMPLING_DEFAULTS;
    const struct option options[] = {
        TEXT_OPTIONS(command),
        {"chat", 0, OPTION_FLAG, &command.is_chat, NULL,
         "the text is a message: put it in the chat template"},
        {"system", 0, OPTION_STRING, &command.system, "TEXT",
         "system message, with the first --chat"},
        SAMPLING_OPTIONS(sampling),
        {"stream", 0, OPTION_FLAG, &command.is_stream, NULL,
         "print the answer as it comes (on a terminal)"},
        {"json", 0, OPTION_FLAG, &command.is_json, NULL, "one JSON object"},
        {"quiet", 'q', OPTION_FLAG, &command.is_quiet, NULL, "only the answer"},
        {NULL},
    };
    static const char *const system[] = {"system", NULL};
    command.is_system_named = options_named(options, argc, argv, system) != NULL;
    int exit_status = parse(&command, options, &help, argc, argv);

    if (exit_status >= 0)
        return exit_status;
    if (command.is_chat && !has_texts(&command))
        return usage_error(&help, "--chat needs a TEXT, --file FILE, or - for stdin: the message");
    if (command.is_system_named && !command.is_chat)
        return usage_error(&help, "--system goes with --chat");
    kvern_request_options_init(&command.request);
    exit_status = set_sampling(&sampling, &help, &command.request);
    if (exit_status == 0 && sampling.logprobs >= 0 && !command.is_json)
        exit_status = usage_error(&help, "--logprobs needs --json");
    if (exit_status != 0)
        return exit_status;
    command.is_stream = command.is_stream && !command.is_json;
    return run_on_session(&command, generate_and_save);
}
