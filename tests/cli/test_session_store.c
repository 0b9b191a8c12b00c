/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of sessions: names that stay in their directory, records that come back, damaged ones,
 * the lock, and what a killed command leaves behind.
 */
#include "cli/session_store.h"
#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char home[] = "/tmp/kvern-store-XXXXXX";

static int make_home(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(home));
    return setenv("KVERN_HOME", home, 1);
}

static int remove_home(void **state)
{
    kvern_error err;

    (void)state;
    return directory_remove(home, &err) == KVERN_OK ? 0 : -1;
}

static void write_text(const char *name, const char *suffix, const char *text)
{
    char *path = session_path(name, suffix);
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    free(path);
}

static bool is_there(const char *name, const char *suffix)
{
    char *path = session_path(name, suffix);
    bool exists = access(path, F_OK) == 0;

    free(path);
    return exists;
}

static void take(struct session_lock *lock, const char *name)
{
    kvern_error err;

    if (session_lock_take(lock, name, 0, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

/* A record of `name`, with nothing at its default, as a file. */
static void write_record(const char *name)
{
    struct session_record record;
    kvern_error err;

    session_record_init(&record, name, "/");
    record.preset = strdup("qwen2.5-coder-0.5b");
    record.kv_type = strdup("f32");
    record.context = 128;
    record.n_tokens = 77;
    record.options = (kvern_session_options){.policy = KVERN_WINDOW_SLIDING,
                                             .window = 64,
                                             .sink_tokens = 16,
                                             .pooling = KVERN_POOLING_LOGITS512,
                                             .normalize = 0,
                                             .dimensions = 8};
    if (session_record_write(&record, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    session_record_clear(&record);
}

static void names(void **state)
{
    static const struct {
        const char *name;
        bool is_good;
    } cases[] = {
        {"a", true},
        {"Notes_2026-11.v2", true},
        {"0123456789012345678901234567890123456789012345678901234567890123", true},
        {"01234567890123456789012345678901234567890123456789012345678901234", false},
        {"", false},
        {".", false},
        {"..", false},
        {".hidden", false},
        {"../x", false},
        {"a/b", false},
        {"a b", false},
        {"a\n", false},
        {"caf\xc3\xa9", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        if ((session_name_check(cases[i].name, NULL) == KVERN_OK) != cases[i].is_good)
            fail_msg("'%s' should %s", cases[i].name, cases[i].is_good ? "do" : "not do");
    }
}

static void a_record_comes_back(void **state)
{
    struct session_lock lock;
    struct session_record record;
    kvern_error err;

    (void)state;
    take(&lock, "kept");
    write_record("kept");
    if (session_record_read(&record, "kept", &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_string_equal(record.name, "kept");
    assert_string_equal(record.model, "/");
    assert_string_equal(record.preset, "qwen2.5-coder-0.5b");
    assert_string_equal(record.kv_type, "f32");
    assert_int_equal(record.context, 128);
    assert_int_equal(record.n_tokens, 77);
    assert_int_equal(record.options.policy, KVERN_WINDOW_SLIDING);
    assert_int_equal(record.options.window, 64);
    assert_int_equal(record.options.sink_tokens, 16);
    assert_int_equal(record.options.pooling, KVERN_POOLING_LOGITS512);
    assert_int_equal(record.options.normalize, 0);
    assert_int_equal(record.options.dimensions, 8);
    assert_int_equal(strlen(record.created), strlen("2026-11-21T11:30:00Z"));
    session_record_clear(&record);
    assert_int_equal(session_remove("kept", &err), KVERN_OK);
    session_lock_release(&lock);
    assert_int_equal(session_record_read(&record, "kept", &err), KVERN_NOT_FOUND);
    session_record_clear(&record);
}

/* Each member turned into what it must not be, and files that are no JSON at all. */
static void damaged_records_say_so(void **state)
{
    static const char *const wrong[][2] = {
        {"model", "7"},          {"model", "\"relative\""},  {"context", "-1"},
        {"context", "1e9"},      {"window_policy", "\"x\""}, {"window", "99999999999"},
        {"sinks", "null"},       {"pooling", "\"max\""},     {"normalize", "2"},
        {"dimensions", "\"8\""}, {"tokens", "-1"},
    };
    static const char *const texts[] = {"", "{", "[]", "{}", "\xff", "{\"model\": \"/\"} x"};
    struct session_lock lock;
    struct session_record record;
    kvern_error err;

    (void)state;
    take(&lock, "bad");
    for (size_t i = 0; i < COUNT(wrong); i++) {
        char *path = session_path("bad", ".json");

        write_record("bad");
        json_t *json = json_load_file(path, 0, NULL);
        json_object_set_new(json, wrong[i][0], json_loads(wrong[i][1], JSON_DECODE_ANY, NULL));
        assert_int_equal(json_dump_file(json, path, 0), 0);
        if (session_record_read(&record, "bad", &err) != KVERN_FORMAT)
            fail_msg("%s is %s: taken", wrong[i][0], wrong[i][1]);
        assert_non_null(strstr(err.message, wrong[i][0]));
        assert_non_null(strstr(err.message, "kvern session delete bad"));
        session_record_clear(&record);
        json_decref(json);
        free(path);
    }
    for (size_t i = 0; i < COUNT(texts); i++) {
        write_text("bad", ".json", texts[i]);
        if (session_record_read(&record, "bad", &err) != KVERN_FORMAT)
            fail_msg("'%s' was taken", texts[i]);
        session_record_clear(&record);
    }
    assert_int_equal(session_remove("bad", &err), KVERN_OK);
    session_lock_release(&lock);
}

static void a_lock_is_held_once(void **state)
{
    struct session_lock lock;
    struct session_lock second = {0};
    kvern_error err;
    int wait_status;

    (void)state;
    take(&lock, "one");
    write_record("one");
    assert_int_equal(session_lock_take(&second, "one", 100, &err), KVERN_BUSY);
    assert_non_null(strstr(err.message, "in use by another command"));
    take(&second, "two");
    session_lock_release(&second);
    assert_false(is_there("two", ".lock")); /* there is no such session */

    pid_t pid = fork();
    if (pid == 0) { /* waits until the lock is released below */
        struct session_lock third = {0};

        close(lock.fd); /* of the parent: a copy of it would hold the lock */
        bool is_held = session_lock_take(&third, "one", 20000, &err) == KVERN_OK;

        _exit(is_held ? 0 : 1);
    }
    usleep(200000);
    session_lock_release(&lock);
    assert_true(is_there("one", ".lock"));
    assert_int_equal(waitpid(pid, &wait_status, 0), pid);
    assert_true(WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0);

    /* it ended without releasing: that is no obstacle */
    take(&lock, "one");
    assert_int_equal(session_remove("one", &err), KVERN_OK);
    session_lock_release(&lock);
    assert_false(is_there("one", ".lock"));
    session_lock_release(&lock);
}

static void leftovers_go_and_others_stay(void **state)
{
    struct session_lock lock;
    struct session_lock other;
    kvern_error err;

    (void)state;
    take(&lock, "a");
    write_record("a");
    take(&other, "a.session.tmp-7");
    write_record("a.session.tmp-7");
    write_text("a", ".session.tmp-123", "half");
    write_text("a", ".json.tmp-4", "half");
    session_lock_release(&lock);
    session_lock_release(&other);
    take(&lock, "a");
    assert_false(is_there("a", ".session.tmp-123"));
    assert_false(is_there("a", ".json.tmp-4"));
    assert_true(session_exists("a.session.tmp-7"));
    assert_int_equal(session_remove("a", &err), KVERN_OK);
    assert_int_equal(session_remove("a.session.tmp-7", &err), KVERN_OK);
    session_lock_release(&lock);
}

static void the_list_is_sorted(void **state)
{
    static const char *const made[] = {"b", "a.json", "C", "a"};
    char **listed = NULL;
    size_t n = 0;
    kvern_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(made); i++)
        write_record(made[i]);
    write_text("b", ".session", "12345");
    write_text("orphan", ".session", "state without a record");
    assert_int_equal(sessions_list(&listed, &n, &err), KVERN_OK);
    assert_int_equal(n, 4);
    assert_string_equal(listed[0], "C");
    assert_string_equal(listed[1], "a");
    assert_string_equal(listed[2], "a.json");
    assert_string_equal(listed[3], "b");
    assert_int_equal(session_bytes("b"), 5);
    assert_int_equal(session_bytes("a"), 0);
    assert_int_equal(session_remove_state("b", &err), KVERN_OK);
    assert_int_equal(session_remove_state("b", &err), KVERN_OK);
    assert_true(session_exists("b"));
    kvern_strings_free(listed, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(a_record_comes_back),
        cmocka_unit_test(damaged_records_say_so),
        cmocka_unit_test(a_lock_is_held_once),
        cmocka_unit_test(leftovers_go_and_others_stay),
        cmocka_unit_test(the_list_is_sorted),
    };

    return cmocka_run_group_tests(tests, make_home, remove_home);
}
