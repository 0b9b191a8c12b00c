/* SPDX-License-Identifier: Apache-2.0
 *
 * Saved sessions: they come back with the same bytes, and what is damaged, foreign or half written
 * harms nothing.
 */
#include "test.h"

#include "system/support_files.h"
#include "system/support_models.h"

#include "base/file.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_TEXT = 90, N_SAVED = 50 };

static int32_t text[N_TEXT];
static char *directory;

/* A model, and the KV type of its engine; NULL: the tiny llama, the default. */
static const struct {
    const char *path;
    const char *kv_type;
} sources[] = {{NULL, NULL},
               {KVERN_GOLDEN_DIR "/exports/qwen2-f32", NULL},
               {KVERN_GOLDEN_DIR "/exports/qwen2-gqa-int4", NULL},
               {NULL, "int8"}};

static int set_up(void **state)
{
    (void)state;
    for (int32_t i = 0; i < N_TEXT; i++)
        text[i] = (i * 37 + 11) % 200;
    directory = make_directory();
    return 0;
}

static int tear_down(void **state)
{
    kvern_error err;

    (void)state;
    directory_remove(directory, &err);
    free(directory);
    return 0;
}

static kvern_model *open_source(const char *source)
{
    kvern_model *model = NULL;
    kvern_error err = {0};

    if (!source)
        return open_test_model("tests/golden/tiny/llama-f32", "q4");
    if (kvern_model_open(&model, source, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return model;
}

static char *path_of(const char *name)
{
    return path_join(directory, name);
}

static kvern_session_answer append(kvern_session *session, size_t begin, size_t end)
{
    kvern_session_answer answer = {0};
    kvern_error err = {0};

    if (kvern_session_append(session, text + begin, end - begin, &answer, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return answer;
}

/* A session of N_SAVED tokens in two appends, saved at `path`. */
static kvern_session *save_session(kvern_engine *engine, const kvern_model *model,
                                   const kvern_session_options *options, const char *path)
{
    kvern_session *session = NULL;
    kvern_error err = {0};

    if (kvern_session_new(&session, engine, model, options, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    append(session, 0, 20);
    append(session, 20, N_SAVED);
    if (kvern_session_save(session, path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return session;
}

static void a_new_engine_goes_on_bit_for_bit(void **state)
{
    const kvern_session_options plain = {.normalize = -1};
    const kvern_session_options sliding = {
        .policy = KVERN_WINDOW_SLIDING, .window = 32, .normalize = -1};

    (void)state;
    for (size_t i = 0; i < 2 * COUNT(sources); i++) {
        const char *source = sources[i / 2].path;
        const char *kv_type = sources[i / 2].kv_type;
        char *path = path_of("good");
        kvern_model *model = open_source(source);
        kvern_engine *engine = open_test_engine(model, 1, 0, kv_type);
        kvern_session *restored = NULL;
        kvern_error err = {0};

        if (i % 2 == 1 && source && strstr(source, "gqa")) { /* takes no positions */
            kvern_engine_close(engine);
            kvern_model_close(model);
            free(path);
            continue;
        }
        kvern_session *session = save_session(engine, model, i % 2 ? &sliding : &plain, path);
        kvern_session_answer answer = append(session, N_SAVED, N_TEXT);
        float *expected = malloc(answer.n_values * sizeof *expected);
        const kvern_session_answer before = answer;

        assert_non_null(expected);
        memcpy(expected, answer.embedding, answer.n_values * sizeof *expected);
        kvern_session_free(session);
        kvern_engine_close(engine);

        engine = open_test_engine(model, 1, 0, kv_type);
        if (kvern_session_restore(&restored, engine, model, path, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        answer = append(restored, N_SAVED, N_TEXT);
        assert_int_equal(answer.n_run, N_TEXT - N_SAVED);
        assert_int_equal(answer.n_reused, before.n_reused);
        assert_true(i % 2 == 1 || answer.n_reused == N_SAVED);
        assert_memory_equal(answer.embedding, expected, answer.n_values * sizeof *expected);
        assert_true(answer.has_drift && answer.drift == before.drift);
        free(expected);
        free(path);
        kvern_session_free(restored);
        kvern_engine_close(engine);
        kvern_model_close(model);
    }
}

static void check_another_type(const char *saved, const char *opened)
{
    kvern_model *model = open_source(NULL);
    kvern_engine *engine = open_test_engine(model, 1, 0, saved);
    char *path = path_of(saved);
    kvern_session *session = save_session(engine, model, NULL, path);
    kvern_session *restored = NULL;
    kvern_error err = {0};

    kvern_session_free(session);
    kvern_engine_close(engine);
    engine = open_test_engine(model, 1, 0, opened);
    assert_int_equal(kvern_session_restore(&restored, engine, model, path, &err), KVERN_OK);
    kvern_session_answer answer = append(restored, N_SAVED, N_TEXT);
    assert_int_equal(answer.n_run, N_TEXT);
    assert_int_equal(answer.context_length, N_TEXT);
    kvern_session_free(restored);
    kvern_engine_close(engine);
    kvern_model_close(model);
    free(path);
}

static void kv_of_another_type_is_left_and_tokens_run_again(void **state)
{
    (void)state;
    check_another_type("f16", "f32");
    check_another_type("int8", "f16");
    check_another_type("f32", "int8");
}

static void damaged_and_foreign_files_are_refused(void **state)
{
    kvern_model *model = open_source(NULL);
    kvern_model *other = open_source(sources[1].path);
    kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
    kvern_engine *other_engine = open_test_engine(other, 1, 0, NULL);
    char *path = path_of("good");
    char *mutated = path_of("mutated");
    kvern_session *session = save_session(engine, model, NULL, path);
    struct buffer whole = read_whole(path);
    kvern_session *restored = NULL;
    uint64_t random = 5;
    kvern_error err = {0};

    (void)state;
    for (int i = 0; i < 200; i++) {
        struct buffer changed = mutate(&whole, i, &random);

        write_whole(mutated, changed.data, changed.n_bytes);
        memset(&err, 0, sizeof err);
        kvern_status status = kvern_session_restore(&restored, engine, model, mutated, &err);
        if (status == KVERN_OK && (changed.n_bytes != whole.n_bytes ||
                                   memcmp(changed.data, whole.data, whole.n_bytes) != 0))
            fail_msg("mutation %d was restored", i);
        if (status != KVERN_OK)
            check_message(status, &err, "mutated");
        kvern_session_free(restored);
        restored = NULL;
        buffer_clear(&changed);
    }
    assert_int_equal(kvern_session_restore(&restored, other_engine, other, path, &err),
                     KVERN_UNSUPPORTED);
    assert_non_null(strstr(err.message, "another model"));
    assert_int_equal(kvern_session_restore(&restored, engine, model, "/nonexistent/session", &err),
                     KVERN_NOT_FOUND);
    /* nobody was harmed */
    assert_int_equal(append(session, N_SAVED, N_TEXT).n_reused, N_SAVED);
    assert_int_equal(kvern_session_restore(&restored, engine, model, path, &err), KVERN_OK);
    kvern_session_free(restored);
    kvern_session_free(session);
    buffer_clear(&whole);
    kvern_engine_close(engine);
    kvern_engine_close(other_engine);
    kvern_model_close(model);
    kvern_model_close(other);
    free(path);
    free(mutated);
}

static void a_full_disk_leaves_the_old_state(void **state)
{
    kvern_model *model = open_source(NULL);
    kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
    char *path = path_of("full");
    kvern_session *session = save_session(engine, model, NULL, path);
    struct buffer old = read_whole(path);
    struct rlimit before;
    kvern_error err = {0};

    (void)state;
    append(session, N_SAVED, N_TEXT);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (size_t limit = 0; limit < old.n_bytes; limit += old.n_bytes / 3) {
        const struct rlimit limited = {.rlim_cur = limit, .rlim_max = before.rlim_max};

        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
        kvern_status status = kvern_session_save(session, path, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, KVERN_IO);
        struct buffer now = read_whole(path);
        assert_int_equal(now.n_bytes, old.n_bytes);
        assert_memory_equal(now.data, old.data, old.n_bytes);
        buffer_clear(&now);
    }
    signal(SIGXFSZ, SIG_DFL);
    char *names = list_directory(directory);
    assert_null(strstr(names, "full.tmp")); /* a killed save may have left one */
    free(names);
    assert_int_equal(kvern_session_save(session, path, &err), KVERN_OK);
    buffer_clear(&old);
    kvern_session_free(session);
    kvern_engine_close(engine);
    kvern_model_close(model);
    free(path);
}

/* A child saves again and again; it is killed in the middle. */
static void a_killed_save_leaves_a_whole_file(void **state)
{
    kvern_model *model = open_source(NULL);
    char *path = path_of("killed");
    kvern_error err = {0};

    (void)state;
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
            kvern_session *session = save_session(engine, model, NULL, path);

            for (;;)
                kvern_session_save(session, path, &err);
        }
        while (!file_exists(path))
            usleep(1000);
        usleep((useconds_t)(i * 700));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);

        kvern_engine *engine = open_test_engine(model, 1, 0, NULL);
        kvern_session *restored = NULL;
        if (kvern_session_restore(&restored, engine, model, path, &err) != KVERN_OK)
            fail_msg("after kill %d: %s", i, err.message);
        /* the next save takes what the kill left with it */
        assert_int_equal(kvern_session_save(restored, path, &err), KVERN_OK);
        assert_int_equal(append(restored, N_SAVED, N_TEXT).n_reused, N_SAVED);
        char *names = list_directory(directory);
        assert_null(strstr(names, ".tmp"));
        free(names);
        kvern_session_free(restored);
        kvern_engine_close(engine);
    }
    kvern_model_close(model);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_save_leaves_a_whole_file), /* forks: before any engine runs */
        cmocka_unit_test(a_new_engine_goes_on_bit_for_bit),
        cmocka_unit_test(kv_of_another_type_is_left_and_tokens_run_again),
        cmocka_unit_test(damaged_and_foreign_files_are_refused),
        cmocka_unit_test(a_full_disk_leaves_the_old_state),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
