/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern session: contexts that last between commands. Here are the table of subcommands and
 * those that list, show, shorten and remove; cmd_session_new.c makes sessions, cmd_session_text.c
 * adds text.
 */
#include "cli/cmd_session.h"

#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/session_chat.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_CHARACTERS = 60 };

static const struct option no_options[] = {{NULL}};

void session_print(const char *name, const kvern_session *session, bool is_json)
{
    kvern_session_info info = {0};

    if (session)
        kvern_session_get_info(session, &info);
    if (is_json)
        output_json(json_pack("{s:s s:I s:I}", "name", name, "context_length",
                              (json_int_t)info.context_length, "position",
                              (json_int_t)info.position));
    else
        printf("%s: context %zu tokens\n", name, info.context_length);
}

int session_parse(const struct option *options, const struct command_help *help, int argc,
                  char **argv, size_t n_arguments, struct positionals *arguments)
{
    int status = options_parse(options, help, argc, argv, arguments);

    if (status < 0 && arguments->n < n_arguments)
        status = usage_error(help, "an argument is missing: kvern %s", help->usage);
    else if (status < 0 && arguments->n > n_arguments)
        status = usage_error(help, "'%s' is one argument too many: kvern %s",
                             arguments->items[n_arguments], help->usage);
    return status;
}

int session_work(const struct session_work *work, int argc, char **argv)
{
    struct engine_flags flags = {0};
    bool is_json = false;
    const struct option options[] = {
        MACHINE_OPTIONS(flags),
        {"json", 0, OPTION_FLAG, &is_json, NULL, "one JSON object"},
        {NULL},
    };
    struct positionals arguments;
    struct session_run run = {0};
    kvern_error err;
    int exit_status =
        session_parse(options, &work->help, argc, argv, work->n_arguments, &arguments);

    if (exit_status < 0 && work->check)
        exit_status = work->check(&work->help, arguments.items) ? EXIT_USAGE : -1;
    if (exit_status >= 0)
        return exit_status;
    kvern_status status = session_run_open(&run, arguments.items[0], &flags, &err);
    if (status == KVERN_OK)
        status = work->run(&run, arguments.items, is_json, &err);
    session_run_close(&run);
    return status == KVERN_OK ? EXIT_OK : report(&err);
}

static json_t *listed_json(const struct session_record *record)
{
    json_t *json = json_pack("{s:s s:I}", "name", record->name, "bytes",
                             (json_int_t)session_bytes(record->name));
    json_t *more = session_record_json(record);

    if (json && more)
        json_object_update(json, more);
    json_decref(more);
    return json;
}

/* The columns as wide as what stands in them. */
static void measure(char **names, size_t n_names, int *name_width, int *model_width)
{
    *name_width = (int)strlen("NAME");
    *model_width = (int)strlen("MODEL");
    for (size_t i = 0; i < n_names; i++) {
        struct session_record record;
        int name = (int)strlen(names[i]);
        int model = 0;

        if (session_record_read(&record, names[i], NULL) == KVERN_OK)
            model = (int)strlen(session_model_name(&record));
        *name_width = name > *name_width ? name : *name_width;
        *model_width = model > *model_width ? model : *model_width;
        session_record_clear(&record);
    }
}

static int session_list(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "session list [OPTIONS]",
        .summary = "Lists the sessions there are.",
        .examples = "  kvern session list --json",
    };
    bool is_json = false;
    const struct option options[] = {
        {"json", 0, OPTION_FLAG, &is_json, NULL, "one JSON object a line"},
        {NULL},
    };
    struct positionals arguments;
    char **names = NULL;
    size_t n_names = 0;
    int width;
    int model_width;
    kvern_error err;
    int exit_status = session_parse(options, &help, argc, argv, 0, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (sessions_list(&names, &n_names, &err) != KVERN_OK)
        return report(&err);
    measure(names, n_names, &width, &model_width);
    if (n_names == 0)
        fputs("No sessions yet. 'kvern session create NAME' makes one.\n", stderr);
    else if (!is_json)
        printf("%-*s  %-*s %8s %10s  %s\n", width, "NAME", model_width, "MODEL", "TOKENS", "SIZE",
               "UPDATED");
    exit_status = EXIT_OK;
    for (size_t i = 0; i < n_names && !output_has_failed(); i++) {
        struct session_record record;
        char size[32];

        if (session_record_read(&record, names[i], &err) != KVERN_OK) {
            exit_status = report(&err);
        } else if (is_json) {
            output_json(listed_json(&record));
        } else {
            format_amount(size, sizeof size, (double)session_bytes(names[i]), PROGRESS_BYTES);
            printf("%-*s  %-*s %8zu %10s  %s\n", width, names[i], model_width,
                   session_model_name(&record), record.n_tokens, size, record.updated);
        }
        session_record_clear(&record);
    }
    kvern_strings_free(names, n_names);
    return exit_status;
}

/* The end of the session's text, as far as it is shown. */
static kvern_status last_text(const struct session_run *run, struct buffer *shown, kvern_error *err)
{
    size_t n_tokens = 0;
    const int32_t *tokens = kvern_session_tokens(run->session, &n_tokens);
    size_t first = n_tokens > SHOWN_CHARACTERS ? n_tokens - SHOWN_CHARACTERS : 0;
    char *text = NULL;
    size_t n_bytes = 0;
    kvern_status status = KVERN_OK;

    if (n_tokens > 0)
        status = kvern_detokenize(run->model, tokens + first, n_tokens - first, false, &text,
                                  &n_bytes, err);
    if (status == KVERN_OK && text) {
        size_t begin = n_bytes;

        for (size_t n = 0; begin > 0 && n < SHOWN_CHARACTERS; begin--)
            n += ((unsigned char)text[begin - 1] & 0xc0) != 0x80;
        if (first > 0 || begin > 0)
            buffer_add_string(shown, "...");
        add_beginning(shown, text + begin, n_bytes - begin, SIZE_MAX);
    }
    kvern_free(text);
    return status;
}

static void print_session(const struct session_run *run, const kvern_session_info *info,
                          const char *text)
{
    const struct session_record *record = &run->record;
    char size[32];

    format_amount(size, sizeof size, (double)session_bytes(record->name), PROGRESS_BYTES);
    printf("%-14s %s\n", "name", record->name);
    printf("%-14s %s\n", "model", record->model);
    if (record->preset)
        printf("%-14s %s\n", "preset", record->preset);
    printf("%-14s %zu tokens of %zu\n", "context", info->context_length, info->max_context);
    if (info->position != info->context_length)
        printf("%-14s %zu tokens appended in all\n", "position", info->position);
    if (info->policy == KVERN_WINDOW_SLIDING)
        printf("%-14s sliding, %d tokens, %d sinks\n", "window", info->window, info->sink_tokens);
    else
        printf("%-14s %s\n", "window", kvern_window_name(info->policy));
    printf("%-14s %s%s\n", "vectors", kvern_pooling_name(info->pooling),
           info->is_normalized ? ", of length 1" : "");
    if (record->chat)
        printf("%-14s %zu messages from token %lld on\n", "conversation",
               json_array_size(json_object_get(record->chat, "messages")),
               (long long)json_integer_value(json_object_get(record->chat, "begin")));
    printf("%-14s %s\n", "size", size);
    printf("%-14s %s\n", "created", record->created);
    printf("%-14s %s\n", "updated", record->updated);
    printf("%-14s %s\n", "text", text);
}

static json_t *session_json(const struct session_run *run, const kvern_session_info *info,
                            const char *text)
{
    json_t *json = listed_json(&run->record);
    json_t *more =
        json_pack("{s:I s:I s:I s:i s:s}", "context_length", (json_int_t)info->context_length,
                  "position", (json_int_t)info->position, "max_context",
                  (json_int_t)info->max_context, "values", (int)info->n_values, "text", text);

    if (json && more)
        json_object_update(json, more);
    if (json && run->record.chat)
        json_object_set(json, "messages", json_object_get(run->record.chat, "messages"));
    json_decref(more);
    return json;
}

static kvern_status show(struct session_run *run, char **arguments, bool is_json, kvern_error *err)
{
    struct buffer text = {0};
    kvern_session_info info;
    kvern_status status = last_text(run, &text, err);

    (void)arguments;
    if (status == KVERN_OK) {
        kvern_session_get_info(run->session, &info);
        if (is_json)
            output_json(session_json(run, &info, text.data ? text.data : ""));
        else
            print_session(run, &info, text.data ? text.data : "");
    }
    buffer_clear(&text);
    return status;
}

static int session_show(int argc, char **argv)
{
    static const struct session_work work = {
        .help = {.usage = "session show NAME [OPTIONS]",
                 .summary = "Shows a session: its model, context and the end of its text. Checks "
                            "its file.",
                 .examples = "  kvern session show notes"},
        .n_arguments = 1,
        .run = show,
    };

    return session_work(&work, argc, argv);
}

static bool read_count(const char *text, size_t *count)
{
    char *end = NULL;
    unsigned long long n = strtoull(text, &end, 10);

    *count = (size_t)n;
    return *text >= '0' && *text <= '9' && !*end && n <= SIZE_MAX / 2;
}

static int check_rewind(const struct command_help *help, char **arguments)
{
    size_t n_tokens;

    if (read_count(arguments[1], &n_tokens))
        return 0;
    return usage_error(help, "N is a number of tokens, not '%s'", arguments[1]);
}

static kvern_status rewind_to(struct session_run *run, char **arguments, bool is_json,
                              kvern_error *err)
{
    size_t n_tokens = 0;

    read_count(arguments[1], &n_tokens);
    kvern_status status = kvern_session_rewind(run->session, n_tokens, err);
    if (status == KVERN_OK)
        status = session_run_save(run, err);
    if (status == KVERN_OK)
        session_print(arguments[0], run->session, is_json);
    return status;
}

static int session_rewind(int argc, char **argv)
{
    static const struct session_work work = {
        .help = {.usage = "session rewind NAME N [OPTIONS]",
                 .summary = "Takes a session back to the state after its first N tokens.",
                 .examples = "  kvern session rewind notes 128"},
        .n_arguments = 2,
        .check = check_rewind,
        .run = rewind_to,
    };

    return session_work(&work, argc, argv);
}

/* Needs no model: a session whose file or model is damaged can be emptied too. */
static int session_reset(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "session reset NAME [OPTIONS]",
        .summary = "Empties a session; it keeps its model and options.",
        .examples = "  kvern session reset notes",
    };
    bool is_json = false;
    const struct option options[] = {
        {"json", 0, OPTION_FLAG, &is_json, NULL, "one JSON object"},
        {NULL},
    };
    struct positionals arguments;
    struct session_run run = {0};
    kvern_error err;
    int exit_status = session_parse(options, &help, argc, argv, 1, &arguments);

    if (exit_status >= 0)
        return exit_status;
    const char *name = arguments.items[0];
    kvern_status status = session_name_check(name, &err);
    if (status == KVERN_OK && session_exists(name))
        status = session_lock_take(&run.lock, name, SESSION_WAIT_MS, &err);
    if (status == KVERN_OK)
        status = session_record_read(&run.record, name, &err);
    if (status == KVERN_OK)
        status = session_remove_state(name, &err);
    if (status == KVERN_OK) {
        run.record.n_tokens = 0;
        chat_forget_after(&run.record.chat, 0);
        status = session_record_write(&run.record, &err);
    }
    if (status == KVERN_OK)
        session_print(name, NULL, is_json);
    session_run_close(&run);
    return status == KVERN_OK ? EXIT_OK : report(&err);
}

static kvern_status delete_session(const char *name, kvern_error *err)
{
    struct session_lock lock = {0};
    kvern_status status = session_name_check(name, err);

    if (status == KVERN_OK && session_exists(name))
        status = session_lock_take(&lock, name, SESSION_WAIT_MS, err);
    if (status == KVERN_OK && !session_exists(name))
        status = fail(err, KVERN_NOT_FOUND,
                      "there is no session '%s'; 'kvern session list' shows those there are", name);
    if (status == KVERN_OK)
        status = session_remove(name, err);
    session_lock_release(&lock);
    return status;
}

static int session_delete(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "session delete NAME... [OPTIONS]",
        .summary = "Removes sessions and their files.",
        .examples = "  kvern session delete notes draft",
    };
    struct positionals arguments;
    kvern_error err;
    int exit_status = options_parse(no_options, &help, argc, argv, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (arguments.n == 0)
        return usage_error(&help, "which session? 'kvern session list' shows those there are");
    exit_status = EXIT_OK;
    for (size_t i = 0; i < arguments.n; i++) {
        if (delete_session(arguments.items[i], &err) != KVERN_OK)
            exit_status = report(&err);
    }
    return exit_status;
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} subcommands[] = {
    {"create", session_create, "make an empty session with a model"},
    {"list", session_list, "list the sessions"},
    {"show", session_show, "show one, and check its file"},
    {"append", session_append, "append text: only the new tokens run"},
    {"embed", session_embed, "append text and print the context's vector"},
    {"generate", session_generate, "append text, or --chat a message, and what the model answers"},
    {"rewind", session_rewind, "go back to the state after the first N tokens"},
    {"reset", session_reset, "empty it"},
    {"fork", session_fork, "make another one with the same context"},
    {"save", session_save, "write it to a file"},
    {"restore", session_restore, "make one of such a file"},
    {"delete", session_delete, "remove sessions"},
};

enum { N_SUBCOMMANDS = sizeof subcommands / sizeof subcommands[0] };

static void print_overview(FILE *stream)
{
    fputs("Usage: kvern session SUBCOMMAND [ARGUMENTS]\n"
          "Contexts that last between commands: what was run once is not run again.\n\n"
          "Subcommands:\n",
          stream);
    for (size_t i = 0; i < N_SUBCOMMANDS; i++)
        fprintf(stream, "  %-10s %s\n", subcommands[i].name, subcommands[i].summary);
    fputs("\n'kvern help session SUBCOMMAND' shows its options.\n\nExamples:\n"
          "  kvern session create notes\n"
          "  kvern session append notes --file chapter1.txt\n"
          "  kvern embed --session notes \"What changed?\" --json\n"
          "  kvern session generate notes --chat \"What happens in it?\"\n"
          "  kvern session rewind notes 128\n",
          stream);
}

int cmd_session(int argc, char **argv)
{
    static const struct command_help help = {.usage = "session"};

    if (argc == 0) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        print_overview(stdout);
        return EXIT_OK;
    }
    for (size_t i = 0; i < N_SUBCOMMANDS; i++) {
        if (strcmp(argv[0], subcommands[i].name) == 0)
            return subcommands[i].run(argc - 1, argv + 1);
    }
    return usage_error(&help, "unknown subcommand 'session %s'", argv[0]);
}
