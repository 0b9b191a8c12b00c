/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls that wait for the engine, ended in the middle by the function that they ask: a session is
 * then as before the call, bit for bit, and kvern_embed has the vectors that were finished.
 */
#include "support_rig.h"

#include "test.h"

#include "base/buffer.h"
#include "base/file.h"
#include "model/model.h"
#include "text/tokenizer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N_OWN = 50, N_LONG = 300, N_SHARED = 25, N_MORE = 40, CHUNK = 7 };

static struct kvern_model model;
static char path[] = "/tmp/kvern-test-XXXXXX";

/* Lets one step begin every few milliseconds, so that a call can be ended between two of them. */
struct ticker {
    struct fake_runner *fake;
    atomic_bool is_over;
    pthread_t thread;
};

static void *tick(void *argument)
{
    struct ticker *ticker = argument;

    while (!atomic_load(&ticker->is_over)) {
        atomic_fetch_add(&ticker->fake->n_gates, 1);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return NULL;
}

static void ticker_start(struct ticker *ticker, struct fake_runner *fake)
{
    *ticker = (struct ticker){.fake = fake};
    atomic_store(&fake->n_gates, 0);
    assert_int_equal(pthread_create(&ticker->thread, NULL, tick, ticker), 0);
}

static void ticker_end(struct ticker *ticker)
{
    atomic_store(&ticker->is_over, true);
    assert_int_equal(pthread_join(ticker->thread, NULL), 0);
    atomic_store(&ticker->fake->n_gates, -1);
}

/* Asks for the end after so many steps. */
struct stopper {
    struct fake_runner *fake;
    int n_runs;
    int n_asked;
};

static bool should_stop(void *user_data)
{
    struct stopper *stopper = user_data;

    stopper->n_asked++;
    return atomic_load(&stopper->fake->n_runs) >= stopper->n_runs;
}

/* Texts that begin alike, so that KV of one may be taken for the other's. */
static void fill(int32_t *tokens, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        tokens[i] = (int32_t)((i * 37 + (i < N_SHARED ? 0 : seed * 59) + 11) % 256);
}

static kvern_session *open_session(const struct rig *rig, const kvern_session_options *options)
{
    kvern_session *session = NULL;
    kvern_error err = {0};

    if (kvern_session_new(&session, rig->engine, &model, options, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return session;
}

static kvern_session_answer append(kvern_session *session, const int32_t *tokens, size_t n)
{
    kvern_session_answer answer;
    kvern_error err = {0};

    if (kvern_session_append(session, tokens, n, &answer, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return answer;
}

static struct buffer save(kvern_session *session)
{
    struct buffer whole = {0};
    kvern_error err = {0};

    if (kvern_session_save(session, path, &err) != KVERN_OK ||
        file_read(path, 1 << 20, &whole.data, &whole.n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return whole;
}

/* How a session and its engine may be. */
static const struct subject {
    const char *label;
    bool keeps_values, is_rigid, is_sliding;
    bool keeps_kv; /* the KV of before is there afterwards, too */
} subjects[] = {
    {"paged", false, false, false, true},
    {"paged, sliding", false, false, true, false},
    {"values", true, false, false, true},
    {"values, sliding", true, false, true, false},
    {"values of a device", true, true, false, false},
};

static struct rig open_rig(const struct subject *subject)
{
    struct fake_runner *fake = fake_runner_new(64);
    struct rig rig;

    fake->keeps_values = subject->keeps_values;
    fake->is_rigid = subject->is_rigid;
    if (fake->is_rigid)
        fake->runner.kv_bytes = NULL;
    fake->runner.has_fixed_chunks = subject->keeps_values;
    rig_open(&rig, fake,
             (struct engine_limits){
                 .prefill_chunk = CHUNK, .kv_kind = "fake", .has_no_prefix_cache = true});
    return rig;
}

static kvern_session *open_subject(const struct rig *rig, const struct subject *subject)
{
    kvern_session_options options;

    kvern_session_options_init(&options);
    if (subject->is_sliding) {
        options.policy = KVERN_WINDOW_SLIDING;
        options.window = 64;
        options.sink_tokens = 16;
    }
    return open_session(rig, &options);
}

/* Ends a long append, or a generation after a long prompt, after some steps. */
static void cancel_one(const struct rig *rig, kvern_session *session, const int32_t *tokens,
                       bool is_append, const char *label)
{
    int n_before = atomic_load(&rig->fake->n_runs);
    struct stopper stopper = {.fake = rig->fake, .n_runs = n_before + 3};
    kvern_session_answer answer = {.n_run = 77};
    kvern_request_options options;
    kvern_request *request = NULL;
    struct ticker ticker;
    kvern_status status;
    kvern_error err = {0};

    kvern_session_set_stop(session, should_stop, &stopper);
    ticker_start(&ticker, rig->fake);
    if (is_append) {
        status = kvern_session_append(session, tokens, N_LONG, &answer, &err);
    } else {
        kvern_request_options_init(&options);
        options.prompt = tokens;
        options.n_prompt = N_LONG;
        options.max_tokens = 5;
        assert_int_equal(kvern_session_submit(session, &options, &request, &err), KVERN_OK);
        status = kvern_session_finish(session, request, &answer, &err);
        kvern_request_free(request);
    }
    ticker_end(&ticker);
    if (status != KVERN_CANCELLED || !strstr(err.message, "cancelled"))
        fail_msg("%s: %s (%s)", label, err.message, kvern_status_name(status));
    int n_runs = atomic_load(&rig->fake->n_runs) - n_before;
    if (n_runs < 3 || n_runs > N_LONG / CHUNK - 3)
        fail_msg("%s: cancelled after %d steps", label, n_runs);
    assert_int_equal(answer.n_run, 77);
    kvern_session_set_stop(session, NULL, NULL);
}

static void a_session_is_as_before_a_cancelled_call(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects) * 2; i++) {
        const struct subject *subject = &subjects[i / 2];
        struct rig rig = open_rig(subject);
        kvern_session *session = open_subject(&rig, subject);
        kvern_session *twin = open_subject(&rig, subject);
        int32_t own[N_OWN], other[N_LONG], more[N_MORE];
        kvern_session_info before, after;
        kvern_engine_stats stats[2];
        size_t n_tokens = 0;

        fill(own, N_OWN, 0);
        fill(other, N_LONG, 1);
        fill(more, N_MORE, 2);
        append(session, own, N_OWN);
        append(twin, own, N_OWN);
        struct buffer whole = save(session);
        kvern_session_get_info(session, &before);
        kvern_engine_get_stats(rig.engine, &stats[0]);
        cancel_one(&rig, session, other, i % 2 == 0, subject->label);
        kvern_session_get_info(session, &after);
        kvern_engine_get_stats(rig.engine, &stats[1]);
        assert_int_equal(before.context_length, after.context_length);
        assert_int_equal(before.position, after.position);
        assert_int_equal(before.n_values, after.n_values);
        assert_memory_equal(kvern_session_tokens(session, &n_tokens), own, sizeof own);
        assert_int_equal(n_tokens, N_OWN);
        if (subject->keeps_kv) {
            struct buffer again = save(session);

            assert_int_equal(again.n_bytes, whole.n_bytes);
            assert_memory_equal(again.data, whole.data, whole.n_bytes);
            buffer_clear(&again);
        }
        if (!subject->keeps_values &&
            stats[1].n_kv_blocks_used > stats[0].n_kv_blocks_used) /* else they count values */
            fail_msg("%s: %d KV blocks of a cancelled call are kept", subject->label,
                     stats[1].n_kv_blocks_used - stats[0].n_kv_blocks_used);

        kvern_session_answer answer = append(session, more, N_MORE);
        kvern_session_answer expected = append(twin, more, N_MORE);
        assert_int_equal(answer.n_values, expected.n_values);
        assert_memory_equal(answer.embedding, expected.embedding,
                            expected.n_values * sizeof *expected.embedding);
        assert_true(answer.has_drift && answer.drift == expected.drift);
        assert_int_equal(answer.context_length, expected.context_length);
        if (subject->keeps_kv && answer.n_run != N_MORE)
            fail_msg("%s: %zu tokens run again", subject->label, answer.n_run - N_MORE);
        buffer_clear(&whole);
        kvern_session_free(session);
        kvern_session_free(twin);
        rig_close(&rig, 0);
    }
}

/* It is asked before a call begins, so that nothing is begun in vain. */
static void what_is_stopped_before_is_not_begun(void **state)
{
    struct rig rig = open_rig(&subjects[0]);
    struct stopper stopper = {.fake = rig.fake};
    kvern_session *session = open_subject(&rig, &subjects[0]);
    kvern_session_answer answer;
    kvern_embedding embedding;
    const char *text = "text";
    kvern_embed_options options;
    int32_t own[N_OWN];
    kvern_error err = {0};

    (void)state;
    fill(own, N_OWN, 0);
    kvern_session_set_stop(session, should_stop, &stopper);
    assert_int_equal(kvern_session_append(session, own, N_OWN, &answer, &err), KVERN_CANCELLED);
    kvern_embed_options_init(&options);
    options.should_stop = should_stop;
    options.should_stop_data = &stopper;
    assert_int_equal(kvern_embed(rig.engine, &model, &text, NULL, 1, &options, &embedding, &err),
                     KVERN_CANCELLED);
    assert_null(embedding.values);
    assert_int_equal(embedding.error.status, KVERN_CANCELLED);
    assert_int_equal(atomic_load(&rig.fake->n_runs), 0);
    assert_int_equal(stopper.n_asked, 2); /* not again once it has said so */
    kvern_session_free(session);
    rig_close(&rig, 0);
}

/* What was computed for a vector that cannot be had is not kept either. */
static void a_failed_append_keeps_nothing(void **state)
{
    struct rig rig = open_rig(&subjects[0]);
    kvern_session_options options;
    kvern_session_answer answer;
    kvern_engine_stats stats;
    int32_t own[N_OWN];
    kvern_error err = {0};

    (void)state;
    fill(own, N_OWN, 0);
    kvern_session_options_init(&options);
    options.dimensions = FAKE_HIDDEN + 1;
    kvern_session *session = open_session(&rig, &options);
    assert_int_equal(kvern_session_append(session, own, N_OWN, &answer, &err), KVERN_INVALID);
    kvern_engine_get_stats(rig.engine, &stats);
    assert_int_equal(stats.n_kv_blocks_used, 0);
    kvern_session_free(session);
    rig_close(&rig, 0);
}

enum { N_TEXTS = 12 };

static void embedding_ends_with_what_is_finished(void **state)
{
    struct fake_runner *fake = fake_runner_new(64);
    struct stopper stopper = {.fake = fake, .n_runs = 4};
    struct rig rig;
    const char *texts[N_TEXTS];
    kvern_embedding cancelled[N_TEXTS], whole[N_TEXTS];
    kvern_embed_options options;
    struct ticker ticker;
    size_t n_done = 0;
    kvern_error err = {0};

    (void)state;
    for (size_t i = 0; i < N_TEXTS; i++) /* a step each */
        texts[i] = i % 2 ? "an odd text" : "an even text";
    rig_open(&rig, fake, (struct engine_limits){.max_sequences = 1, .max_waiting = 3});
    kvern_embed_options_init(&options);
    options.should_stop = should_stop;
    options.should_stop_data = &stopper;
    ticker_start(&ticker, fake);
    kvern_status status =
        kvern_embed(rig.engine, &model, texts, NULL, N_TEXTS, &options, cancelled, &err);
    ticker_end(&ticker);
    if (status != KVERN_CANCELLED || !strstr(err.message, "of 12 texts left"))
        fail_msg("%s (%s)", err.message, kvern_status_name(status));
    if (kvern_embed(rig.engine, &model, texts, NULL, N_TEXTS, NULL, whole, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < N_TEXTS; i++) {
        assert_int_equal(whole[i].error.status, KVERN_OK);
        if (cancelled[i].values) {
            n_done++;
            assert_int_equal(cancelled[i].error.status, KVERN_OK);
            assert_memory_equal(cancelled[i].values, whole[i].values,
                                whole[i].n_values * sizeof *whole[i].values);
        } else {
            assert_int_equal(cancelled[i].error.status, KVERN_CANCELLED);
        }
        kvern_embedding_clear(&cancelled[i]);
        kvern_embedding_clear(&whole[i]);
    }
    assert_true(n_done >= 2 && n_done < N_TEXTS);
    rig_close(&rig, 0);
}

/* Overwrites the last text while kvern_embed waits for room in the queue to submit it. */
struct scribe {
    const struct rig *rig;
    char *text;
    int n_asked; /* while the queue is full */
};

static bool scribble(void *user_data)
{
    struct scribe *scribe = user_data;
    kvern_engine_stats stats;

    kvern_engine_get_stats(scribe->rig->engine, &stats);
    if (stats.n_waiting == 1 && ++scribe->n_asked == 3) {
        memset(scribe->text, 'x', strlen(scribe->text));
        atomic_store(&scribe->rig->fake->n_gates, -1);
    }
    return false;
}

static void a_text_is_tokenized_once_though_the_queue_is_full(void **state)
{
    struct rig rig;
    struct scribe scribe = {.rig = &rig};
    char last[] = "the last text";
    const char *const texts[] = {"the first text", last};
    const char *const as_it_was[] = {"the first text", "the last text"};
    kvern_embedding embeddings[2], expected[2];
    kvern_embed_options options;
    kvern_request_options blocker;
    kvern_engine_stats stats = {0};
    int32_t token = 5;
    kvern_error err = {0};

    (void)state;
    rig_open(&rig, fake_runner_new(64),
             (struct engine_limits){.max_sequences = 1, .max_waiting = 1});
    atomic_store(&rig.fake->n_gates, 0);
    kvern_request_options_init(&blocker);
    blocker.prompt = &token;
    blocker.n_prompt = 1;
    blocker.max_tokens = 1;
    kvern_request *request = rig_submit(&rig, &blocker);
    while (stats.n_running == 0)
        kvern_engine_get_stats(rig.engine, &stats);
    kvern_embed_options_init(&options);
    options.should_stop = scribble;
    options.should_stop_data = &scribe;
    scribe.text = last;
    if (kvern_embed(rig.engine, &model, texts, NULL, 2, &options, embeddings, &err) != KVERN_OK ||
        kvern_embed(rig.engine, &model, as_it_was, NULL, 2, NULL, expected, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_true(scribe.n_asked >= 3);
    assert_string_equal(last, "xxxxxxxxxxxxx");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(embeddings[i].n_values, expected[i].n_values);
        assert_memory_equal(embeddings[i].values, expected[i].values,
                            expected[i].n_values * sizeof(float));
        kvern_embedding_clear(&embeddings[i]);
        kvern_embedding_clear(&expected[i]);
    }
    kvern_request_free(request);
    rig_close(&rig, 0);
}

static int make_model(void **state)
{
    int file = mkstemp(path);

    (void)state;
    close(file);
    model.manifest.config.vocab_size = FAKE_VOCAB;
    snprintf(model.manifest.contract, sizeof model.manifest.contract, "paged");
    snprintf(model.manifest.name, sizeof model.manifest.name, "fake");
    return tokenizer_open_bytes(&model.tokenizer, FAKE_VOCAB, NULL);
}

static int clear_model(void **state)
{
    (void)state;
    tokenizer_close(model.tokenizer);
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_as_before_a_cancelled_call),
        cmocka_unit_test(what_is_stopped_before_is_not_begun),
        cmocka_unit_test(a_failed_append_keeps_nothing),
        cmocka_unit_test(embedding_ends_with_what_is_finished),
        cmocka_unit_test(a_text_is_tokenized_once_though_the_queue_is_full),
    };

    return cmocka_run_group_tests(tests, make_model, clear_model);
}
