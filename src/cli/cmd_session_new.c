/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern session create, fork, save and restore: where sessions come from. A new one's state is
 * written before its record, so that a name that is listed is whole.
 */
#include "cli/cmd_session.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>

/* The lock of a name that must be free. */
static kvern_status lock_new(struct session_lock *lock, const char *name, kvern_error *err)
{
    kvern_status status = session_name_check(name, err);

    if (status == KVERN_OK && !session_exists(name))
        status = session_lock_take(lock, name, SESSION_WAIT_MS, err);
    if (status == KVERN_OK && session_exists(name))
        status = fail(err, KVERN_INVALID,
                      "there is a session '%s'; 'kvern session delete %s' removes it", name, name);
    return status;
}

/* What stays the same from the session itself: defaults are settled once, when it is made. */
static void set_options(struct session_record *record, const kvern_session_info *info)
{
    record->options = (kvern_session_options){
        .policy = info->policy,
        .window = info->window,
        .sink_tokens = info->sink_tokens,
        .pooling = info->pooling,
        .normalize = info->is_normalized,
        .dimensions = info->dimensions,
    };
    record->n_tokens = info->context_length;
}

static void set_engine(struct session_record *record, const char *name, const kvern_model *model,
                       const struct engine_flags *flags)
{
    kvern_model_info info;

    kvern_model_get_info(model, &info);
    /* an export may be a file, which its directory does not name */
    bool is_path = flags->model && file_exists(flags->model) && !directory_exists(flags->model);
    session_record_init(record, name, is_path ? flags->model : info.directory);
    record->preset = flags->preset ? copy_string_or_abort(flags->preset) : NULL;
    record->kv_type = flags->kv_type ? copy_string_or_abort(flags->kv_type) : NULL;
    record->context = (int32_t)flags->context;
}

static kvern_status create(const char *name, const struct engine_flags *flags,
                           const kvern_session_options *options, bool is_json, kvern_error *err)
{
    struct session_run run = {0};
    kvern_session_info info;
    kvern_status status = lock_new(&run.lock, name, err);

    if (status == KVERN_OK)
        status = open_model(flags, &run.model, err);
    if (status == KVERN_OK)
        status = check_dimensions(run.model, options->pooling, options->dimensions, err);
    if (status == KVERN_OK)
        status = open_engine(flags, run.model, &run.engine, err);
    if (status == KVERN_OK)
        status = kvern_session_new(&run.session, run.engine, run.model, options, err);
    if (status == KVERN_OK) {
        kvern_session_get_info(run.session, &info);
        set_engine(&run.record, name, run.model, flags);
        set_options(&run.record, &info);
        status = session_remove_state(name, err);
    }
    if (status == KVERN_OK)
        status = session_record_write(&run.record, err);
    if (status == KVERN_OK && is_json)
        session_print(name, run.session, true);
    else if (status == KVERN_OK)
        printf("%s: %s, up to %zu tokens, window policy %s\n", name,
               session_model_name(&run.record), info.max_context, kvern_window_name(info.policy));
    session_run_close(&run);
    return status;
}

int session_create(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "session create NAME [OPTIONS]",
        .summary = "Makes an empty session with a model.",
        .details =
            "What does not fit the context is an error; with --window-policy sliding the last "
            "tokens\nstay (and the first --sinks), with truncate the rest of a text is left out.",
        .examples = "  kvern session create notes\n"
                    "  kvern session create log -m ./qwen --window-policy sliding --window 1024",
    };
    struct engine_flags flags = {0};
    kvern_session_options session;
    const char *policy = NULL;
    const char *pooling = NULL;
    int64_t window = 0;
    int64_t sinks = 0;
    int64_t dimensions = 0;
    bool is_json = false;
    struct positionals arguments;
    kvern_error err;
    kvern_session_options_init(&session);
    const struct option options[] = {
        MODEL_OPTIONS(flags, DEFAULT_MODEL),
        MACHINE_OPTIONS(flags),
        CONTEXT_OPTIONS(flags),
        {"window-policy", 0, OPTION_STRING, &policy, "POLICY",
         "error (default), sliding or truncate"},
        {"window", 0, OPTION_INT, &window, "N", "tokens a sliding window keeps (2048)", 0, 1 << 24},
        {"sinks", 0, OPTION_INT, &sinks, "N", "first tokens a sliding window keeps too (0)", 0,
         1 << 24},
        {"pooling", 0, OPTION_STRING, &pooling, "KIND", "last or logits512 (the model's own)"},
        {"normalize", 0, OPTION_SWITCH, &session.normalize, NULL,
         "vectors of length 1 (as the model says, else yes; --no-normalize)"},
        {"dimensions", 'd', OPTION_INT, &dimensions, "N",
         "the first N values of vectors, normalised after the cut (all)", 0, 1 << 24},
        {"json", 0, OPTION_FLAG, &is_json, NULL, "one JSON object"},
        {NULL},
    };
    int exit_status = session_parse(options, &help, argc, argv, 1, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (policy && !kvern_window_from_name(policy, &session.policy))
        return usage_error(&help, "--window-policy takes error, sliding or truncate, not '%s'",
                           policy);
    if ((window || sinks) && session.policy != KVERN_WINDOW_SLIDING)
        return usage_error(&help, "--window and --sinks go with --window-policy sliding");
    if (pooling && !kvern_pooling_from_name(pooling, &session.pooling))
        return usage_error(&help, "--pooling takes last or logits512, not '%s'", pooling);
    session.window = (int32_t)window;
    session.sink_tokens = (int32_t)sinks;
    session.dimensions = (int32_t)dimensions;
    if (create(arguments.items[0], &flags, &session, is_json, &err) != KVERN_OK)
        return report(&err);
    return EXIT_OK;
}

/* Saves run's session as `record`, which has another name: its state first, so that a name that is
 * there is whole. */
static kvern_status save_as(struct session_run *run, struct session_record *record,
                            kvern_error *err)
{
    char *path = session_path(record->name, ".session");
    kvern_status status = kvern_session_save(run->session, path, err);

    if (status == KVERN_OK)
        status = session_record_write(record, err);
    free(path);
    return status;
}

/* The same engine and options under another name. */
static void copy_record(struct session_record *record, const char *name,
                        const struct session_run *run)
{
    const struct session_record *old = &run->record;
    kvern_session_info info;

    kvern_session_get_info(run->session, &info);
    session_record_init(record, name, old->model);
    record->preset = old->preset ? copy_string_or_abort(old->preset) : NULL;
    record->kv_type = old->kv_type ? copy_string_or_abort(old->kv_type) : NULL;
    record->context = old->context;
    record->chat = json_incref(old->chat);
    set_options(record, &info);
}

static kvern_status fork_as(struct session_run *run, char **arguments, bool is_json,
                            kvern_error *err)
{
    struct session_lock lock = {0};
    struct session_record record = {0};
    kvern_status status = lock_new(&lock, arguments[1], err);

    if (status == KVERN_OK) {
        copy_record(&record, arguments[1], run);
        status = save_as(run, &record, err);
    }
    if (status == KVERN_OK)
        session_print(arguments[1], run->session, is_json);
    session_record_clear(&record);
    session_lock_release(&lock);
    return status;
}

int session_fork(int argc, char **argv)
{
    static const struct session_work work = {
        .help =
            {.usage = "session fork NAME NEW [OPTIONS]",
             .summary =
                 "Makes a session NEW with the same context; both go their own ways from there.",
             .examples = "  kvern session fork notes draft"},
        .n_arguments = 2,
        .run = fork_as,
    };

    return session_work(&work, argc, argv);
}

static int check_save(const struct command_help *help, char **arguments)
{
    return *arguments[1] ? 0 : usage_error(help, "FILE is the path of a file, not ''");
}

static kvern_status save_to(struct session_run *run, char **arguments, bool is_json,
                            kvern_error *err)
{
    kvern_status status = kvern_session_save(run->session, arguments[1], err);

    if (status == KVERN_OK)
        session_print(arguments[0], run->session, is_json);
    return status;
}

int session_save(int argc, char **argv)
{
    static const struct session_work work = {
        .help = {.usage = "session save NAME FILE [OPTIONS]",
                 .summary =
                     "Writes a session to a file, which 'kvern session restore' takes anywhere.",
                 .examples = "  kvern session save notes notes.session"},
        .n_arguments = 2,
        .check = check_save,
        .run = save_to,
    };

    return session_work(&work, argc, argv);
}

/* A session that is there lends its model, unless one is named. */
static kvern_status restore(struct session_run *run, const char *name, const char *file,
                            const struct engine_flags *flags, bool overwrites, kvern_error *err)
{
    struct engine_flags own = *flags;
    struct session_record old = {0};
    kvern_status status = session_name_check(name, err);

    if (status == KVERN_OK)
        status = session_lock_take(&run->lock, name, SESSION_WAIT_MS, err);
    if (status == KVERN_OK && session_exists(name) && !overwrites)
        status =
            fail(err, KVERN_INVALID, "there is a session '%s'; --overwrite takes its place", name);
    if (status == KVERN_OK && !file_exists(file))
        status = fail(err, KVERN_NOT_FOUND,
                      "there is no file '%s'; 'kvern session save' writes one", file);
    if (status == KVERN_OK && !own.model && session_exists(name)) {
        status = session_record_read(&old, name, err);
        own.model = old.model;
        own.preset = old.preset;
        own.kv_type = own.kv_type ? own.kv_type : old.kv_type;
        own.context = own.context ? own.context : old.context;
    }
    if (status == KVERN_OK)
        status = open_model(&own, &run->model, err);
    if (status == KVERN_OK)
        status = open_engine(&own, run->model, &run->engine, err);
    if (status == KVERN_OK)
        status = kvern_session_restore(&run->session, run->engine, run->model, file, err);
    if (status == KVERN_OK) {
        kvern_session_info info;

        kvern_session_get_info(run->session, &info);
        set_engine(&run->record, name, run->model, &own);
        set_options(&run->record, &info);
        status = save_as(run, &run->record, err);
    }
    session_record_clear(&old);
    return status;
}

int session_restore(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "session restore NAME FILE [OPTIONS]",
        .summary = "Makes a session of a file that 'kvern session save' wrote with the same model.",
        .examples = "  kvern session restore notes notes.session\n"
                    "  kvern session restore notes notes.session -m ./qwen --overwrite",
    };
    struct engine_flags flags = {0};
    bool is_json = false;
    bool overwrites = false;
    const struct option options[] = {
        MODEL_OPTIONS(flags, DEFAULT_MODEL),
        MACHINE_OPTIONS(flags),
        CONTEXT_OPTIONS(flags),
        {"overwrite", 0, OPTION_FLAG, &overwrites, NULL, "take the place of a session NAME"},
        {"json", 0, OPTION_FLAG, &is_json, NULL, "one JSON object"},
        {NULL},
    };
    struct positionals arguments;
    struct session_run run = {0};
    kvern_error err;
    int exit_status = session_parse(options, &help, argc, argv, 2, &arguments);

    if (exit_status >= 0)
        return exit_status;
    kvern_status status =
        restore(&run, arguments.items[0], arguments.items[1], &flags, overwrites, &err);
    if (status == KVERN_OK)
        session_print(arguments.items[0], run.session, is_json);
    session_run_close(&run);
    return status == KVERN_OK ? EXIT_OK : report(&err);
}
