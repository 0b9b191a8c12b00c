/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions over the engine's conversations: a call submits the whole sequence, and the engine runs
 * what its KV does not have yet. A call that fails leaves tokens and vectors as they were. Saving
 * and restoring are session_file.c's matter.
 */
#include "engine/session.h"

#include "base/error.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "engine/kv_image.h"
#include "model/model.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_WINDOW = 2048 };

/* Numbers of callers' own conversations are below this. */
#define FIRST_CONVERSATION (UINT64_C(1) << 63)

static const char *const window_names[] = {
    [KVERN_WINDOW_ERROR] = "error",
    [KVERN_WINDOW_SLIDING] = "sliding",
    [KVERN_WINDOW_TRUNCATE] = "truncate",
};

enum { N_WINDOWS = sizeof window_names / sizeof window_names[0] };

const char *kvern_window_name(kvern_window window)
{
    return (size_t)window < N_WINDOWS ? window_names[window] : "";
}

bool kvern_window_from_name(const char *name, kvern_window *window)
{
    for (size_t i = 0; i < N_WINDOWS; i++) {
        if (strcmp(name, window_names[i]) == 0) {
            *window = (kvern_window)i;
            return true;
        }
    }
    return false;
}

void kvern_session_options_init(kvern_session_options *options)
{
    *options = (kvern_session_options){.normalize = -1};
}

/* ---- making and freeing ---- */

static kvern_status set_window(kvern_session *session, kvern_error *err)
{
    kvern_session_options *options = &session->options;
    size_t n_sinks;

    if (options->policy != KVERN_WINDOW_SLIDING) {
        options->window = 0;
        options->sink_tokens = 0;
        return KVERN_OK;
    }
    if (options->window < 0 || options->sink_tokens < 0)
        return fail(err, KVERN_INVALID, "window is %d and sink_tokens %d; they must be 0 or more",
                    options->window, options->sink_tokens);
    if (engine_check_sliding(session->engine, err) != KVERN_OK)
        return KVERN_UNSUPPORTED;
    n_sinks = kv_blocks_for_tokens((size_t)options->sink_tokens);
    if ((n_sinks + 2) * KV_BLOCK_TOKENS > session->max_context)
        return fail(err, KVERN_LIMIT,
                    "%d sink tokens leave no room for a window under the context limit of %zu "
                    "tokens",
                    options->sink_tokens, session->max_context);
    if (options->window == 0) {
        options->window = DEFAULT_WINDOW;
        if (session->max_context < DEFAULT_WINDOW + n_sinks * KV_BLOCK_TOKENS)
            options->window = (int32_t)(session->max_context - n_sinks * KV_BLOCK_TOKENS);
    }
    if (options->window < 2 * KV_BLOCK_TOKENS)
        return fail(err, KVERN_INVALID, "a window of %d tokens cannot slide; it takes %d or more",
                    options->window, 2 * KV_BLOCK_TOKENS);
    session->window = (struct sequence_window){
        .n_blocks = n_sinks + (size_t)options->window / KV_BLOCK_TOKENS, .n_sinks = n_sinks};
    if (session->window.n_blocks * KV_BLOCK_TOKENS > session->max_context)
        return fail(err, KVERN_LIMIT,
                    "a window of %d tokens with %zu sink tokens is over the context limit of %zu "
                    "tokens",
                    options->window, n_sinks * KV_BLOCK_TOKENS, session->max_context);
    return KVERN_OK;
}

static kvern_status set_pooling(kvern_session *session, kvern_error *err)
{
    kvern_session_options *options = &session->options;

    if (options->pooling == KVERN_POOLING_MODEL)
        options->pooling = engine_pooling(session->engine);
    if (options->pooling != KVERN_POOLING_LAST && options->pooling != KVERN_POOLING_LOGITS512)
        return fail(err, KVERN_UNSUPPORTED,
                    "pooling %s needs all tokens at once, but a session runs each of them once: "
                    "last and logits512 go",
                    kvern_pooling_name(options->pooling));
    if (options->dimensions < 0)
        return fail(err, KVERN_INVALID, "dimensions is %d; it must be 0 (all) or more",
                    options->dimensions);
    embedding_shape_of(&session->shape, session->model, options->pooling, options->normalize,
                       options->dimensions);
    options->normalize = session->shape.is_normalized;
    return KVERN_OK;
}

kvern_status kvern_session_new(kvern_session **out, kvern_engine *engine, const kvern_model *model,
                               const kvern_session_options *options, kvern_error *err)
{
    static atomic_uint_fast64_t n_sessions;
    kvern_session *session;
    kvern_engine_stats stats;
    kvern_session_options defaults;
    kvern_status status;

    if (model_is_seq2seq(model))
        return fail(err, KVERN_UNSUPPORTED,
                    "%s is an encoder-decoder, which reads a source whole: it has no sessions",
                    model->manifest.name);
    if (model_is_encoder(model))
        return fail(err, KVERN_UNSUPPORTED,
                    "%s is an encoder: it reads texts whole and has no state to keep",
                    model->manifest.name);
    kvern_session_options_init(&defaults);
    kvern_engine_get_stats(engine, &stats);
    session = new_or_abort(sizeof *session);
    session->engine = engine;
    session->model = model;
    session->options = options ? *options : defaults;
    session->max_context = (size_t)stats.max_context;
    session->conversation = FIRST_CONVERSATION + atomic_fetch_add(&n_sessions, 1);
    if ((size_t)session->options.policy >= N_WINDOWS)
        status = fail(err, KVERN_INVALID, "window policy %d is none there is",
                      (int)session->options.policy);
    else
        status = set_window(session, err);
    if (status == KVERN_OK)
        status = set_pooling(session, err);
    if (status == KVERN_OK)
        *out = session;
    else
        free(session);
    return status;
}

static void forget_marks(kvern_session *session, size_t position)
{
    while (session->n_marks > 0 && session->marks[session->n_marks - 1].position > position)
        free(session->marks[--session->n_marks].values);
}

void kvern_session_free(kvern_session *session)
{
    if (!session)
        return;
    kv_image_drop(session->engine, session->conversation);
    while (session->n_marks > 0)
        free(session->marks[--session->n_marks].values);
    free(session->tokens);
    free(session);
}

kvern_status session_reserve(kvern_session *session, size_t n_tokens, kvern_error *err)
{
    int32_t *tokens;

    if (n_tokens <= session->capacity)
        return KVERN_OK;
    if (n_tokens < 2 * session->capacity)
        n_tokens = 2 * session->capacity;
    tokens = try_resize(session->tokens, n_tokens, sizeof *tokens);
    if (!tokens)
        return fail(err, KVERN_MEMORY, "no memory for a session of %zu tokens", n_tokens);
    session->tokens = tokens;
    session->capacity = n_tokens;
    return KVERN_OK;
}

void session_add_mark(kvern_session *session, struct session_mark mark)
{
    if (session->n_marks == SESSION_MAX_MARKS) {
        free(session->marks[0].values);
        memmove(session->marks, session->marks + 1,
                (SESSION_MAX_MARKS - 1) * sizeof session->marks[0]);
        session->n_marks--;
    }
    session->marks[session->n_marks++] = mark;
}

/* ---- what it is ---- */

static size_t context_length(const kvern_session *session)
{
    return session->n_tokens -
           sequence_window_dropped(&session->window, session->n_tokens) * KV_BLOCK_TOKENS;
}

void kvern_session_get_info(const kvern_session *session, kvern_session_info *info)
{
    *info = (kvern_session_info){
        .context_length = context_length(session),
        .position = session->n_tokens,
        .max_context = session->max_context,
        .n_values = session->n_marks > 0 ? session->marks[session->n_marks - 1].n_values : 0,
        .policy = session->options.policy,
        .window = session->options.window,
        .sink_tokens = session->options.sink_tokens,
        .pooling = session->options.pooling,
        .is_normalized = session->options.normalize != 0,
        .dimensions = session->options.dimensions,
    };
}

const int32_t *kvern_session_tokens(const kvern_session *session, size_t *n_tokens)
{
    *n_tokens = session->n_tokens;
    return session->tokens;
}

/* ---- appending ---- */

void kvern_session_set_stop(kvern_session *session, kvern_stop_fn fn, void *user_data)
{
    session->stop = (struct stop){.fn = fn, .data = user_data};
}

/* Puts tokens behind the session's, as many as the policy lets: *n_taken. n_spare: tokens that must
 * still fit after them. */
static kvern_status put_tokens(kvern_session *session, const int32_t *tokens, size_t n_tokens,
                               size_t n_spare, size_t *n_taken, kvern_error *err)
{
    size_t n_room =
        session->max_context > session->n_tokens ? session->max_context - session->n_tokens : 0;
    kvern_status status;

    *n_taken = n_tokens;
    if (session->options.policy != KVERN_WINDOW_SLIDING && n_tokens + n_spare > n_room) {
        if (session->options.policy == KVERN_WINDOW_ERROR)
            return fail(err, KVERN_LIMIT,
                        "the session has %zu tokens; %zu more are over the context limit of %zu "
                        "tokens (a window that slides, or reset, makes room)",
                        session->n_tokens, n_tokens + n_spare, session->max_context);
        *n_taken = n_room > n_spare ? n_room - n_spare : 0;
    }
    status = session_reserve(session, session->n_tokens + *n_taken, err);
    if (status == KVERN_OK && *n_taken > 0)
        memcpy(session->tokens + session->n_tokens, tokens, *n_taken * sizeof *tokens);
    return status;
}

/* A request over the session's first n_tokens tokens. */
static void fill_request(const kvern_session *session, size_t n_tokens,
                         kvern_request_options *request)
{
    request->prompt = session->tokens;
    request->n_prompt = n_tokens;
    request->conversation = session->conversation;
    request->window = session->options.window;
    request->sink_tokens = session->options.sink_tokens;
}

/* Takes back what a request has computed that failed or was cancelled: the KV kept is that of the
 * session's own tokens, cut where it was, and what comes next has the same bytes as if the request
 * had never been. */
static void forget_computed(kvern_session *session, const kvern_request *request)
{
    if (!request_saw_engine_end(request))
        kv_image_cut(session->engine, session->conversation, session->n_tokens);
}

static void set_lengths(const kvern_session *session, size_t n_run, kvern_session_answer *answer)
{
    answer->context_length = context_length(session);
    answer->position = session->n_tokens;
    answer->n_run = n_run;
    answer->n_reused = answer->context_length > n_run ? answer->context_length - n_run : 0;
}

kvern_status kvern_session_append(kvern_session *session, const int32_t *tokens, size_t n_tokens,
                                  kvern_session_answer *answer, kvern_error *err)
{
    struct session_mark mark = {0};
    struct stop stop = session->stop;
    kvern_request_options options;
    kvern_request *request = NULL;
    kvern_event event = {0};
    size_t n_taken = 0;
    kvern_status status = put_tokens(session, tokens, n_tokens, 0, &n_taken, err);

    if (status != KVERN_OK)
        return status;
    if (session->n_tokens + n_taken == 0)
        return fail(err, KVERN_INVALID, "the session is empty, so it has no vector yet");
    if (stop_is_asked(&stop))
        return fail(err, KVERN_CANCELLED, "it was cancelled before it began");
    kvern_request_options_init(&options);
    fill_request(session, session->n_tokens + n_taken, &options);
    options.embed = true;
    options.pooling = session->options.pooling;
    status = kvern_submit(session->engine, &options, &request, err);
    if (status == KVERN_OK)
        status = request_wait(request, &stop, &event, err);
    if (status == KVERN_OK)
        status = embedding_finish(&session->shape, event.embedding, event.n_embedding, &mark.values,
                                  &mark.n_values, err);
    if (status == KVERN_OK) {
        const struct session_mark *last =
            session->n_marks > 0 ? &session->marks[session->n_marks - 1] : NULL;

        session->n_tokens += n_taken;
        *answer = (kvern_session_answer){.embedding = mark.values,
                                         .n_values = mark.n_values,
                                         .n_appended = n_taken,
                                         .n_left_out = n_tokens - n_taken,
                                         .has_drift = last && last->n_values == mark.n_values};
        set_lengths(session, options.n_prompt - event.n_cached_tokens, answer);
        if (answer->has_drift)
            answer->drift = kvern_cosine(last->values, mark.values, mark.n_values);
        mark.position = session->n_tokens;
        session_add_mark(session, mark);
    }
    if (request && status != KVERN_OK)
        forget_computed(session, request);
    kvern_request_free(request);
    return status;
}

/* ---- generating ---- */

kvern_status kvern_session_submit(kvern_session *session, const kvern_request_options *options,
                                  kvern_request **request, kvern_error *err)
{
    kvern_request_options copy = *options;
    size_t n_spare = options->max_tokens > 0 ? (size_t)options->max_tokens - 1 : 0;
    size_t n_taken = 0;
    kvern_status status =
        put_tokens(session, options->prompt, options->n_prompt, n_spare, &n_taken, err);

    if (status != KVERN_OK)
        return status;
    fill_request(session, session->n_tokens + n_taken, &copy);
    copy.embed = false;
    status = kvern_submit(session->engine, &copy, request, err);
    if (status == KVERN_OK) {
        session->n_before = session->n_tokens;
        session->n_left_out = options->n_prompt - n_taken;
        session->n_tokens += n_taken;
    }
    return status;
}

kvern_status kvern_session_finish(kvern_session *session, kvern_request *request,
                                  kvern_session_answer *answer, kvern_error *err)
{
    struct stop stop = session->stop;
    kvern_event event = {0};
    kvern_status status = request_wait(request, &stop, &event, err);
    size_t n_prompt = session->n_tokens;
    size_t n_generated = request->n_generated;

    if (status == KVERN_OK)
        status = session_reserve(session, n_prompt + n_generated, err);
    if (status != KVERN_OK) {
        session->n_tokens = session->n_before;
        forget_computed(session, request);
        return status;
    }
    if (n_generated > 0)
        memcpy(session->tokens + n_prompt, request->generated,
               n_generated * sizeof *session->tokens);
    session->n_tokens += n_generated;
    *answer = (kvern_session_answer){.n_appended = session->n_tokens - session->n_before,
                                     .n_left_out = session->n_left_out};
    /* the last token was chosen, not run */
    set_lengths(session, n_prompt - event.n_cached_tokens + (n_generated ? n_generated - 1 : 0),
                answer);
    return KVERN_OK;
}

/* ---- going back, and apart ---- */

kvern_status kvern_session_rewind(kvern_session *session, size_t n_tokens, kvern_error *err)
{
    if (n_tokens > session->n_tokens)
        return fail(err, KVERN_LIMIT, "the session has %zu tokens, so it cannot go back to %zu",
                    session->n_tokens, n_tokens);
    session->n_tokens = n_tokens;
    forget_marks(session, n_tokens);
    kv_image_cut(session->engine, session->conversation, n_tokens);
    return KVERN_OK;
}

void kvern_session_reset(kvern_session *session)
{
    kvern_session_rewind(session, 0, NULL);
}

kvern_status kvern_session_fork(kvern_session *session, kvern_session **out, kvern_error *err)
{
    kvern_session *fork = NULL;
    kvern_status status =
        kvern_session_new(&fork, session->engine, session->model, &session->options, err);

    if (status == KVERN_OK)
        status = session_reserve(fork, session->n_tokens, err);
    for (size_t i = 0; status == KVERN_OK && i < session->n_marks; i++) {
        struct session_mark mark = session->marks[i];

        mark.values = try_new(mark.n_values, sizeof *mark.values);
        if (!mark.values) {
            status = fail(err, KVERN_MEMORY, "no memory for a vector of %zu values", mark.n_values);
            break;
        }
        memcpy(mark.values, session->marks[i].values, mark.n_values * sizeof *mark.values);
        session_add_mark(fork, mark);
    }
    if (status != KVERN_OK) {
        kvern_session_free(fork);
        return status;
    }
    if (session->n_tokens > 0)
        memcpy(fork->tokens, session->tokens, session->n_tokens * sizeof *fork->tokens);
    fork->n_tokens = session->n_tokens;
    kv_image_fork(session->engine, session->conversation, fork->conversation, fork->n_tokens);
    *out = fork;
    return KVERN_OK;
}
