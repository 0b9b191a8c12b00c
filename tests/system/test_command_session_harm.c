/* SPDX-License-Identifier: Apache-2.0
 *
 * What may go wrong with build/kvern session: wrong arguments, Ctrl-C, damaged files, a full disk,
 * two commands at once, a kill while it saves. A sentence says so, and the old state stays whole.
 */
#include "system/support_files.h"
#include "system/support_session.h"
#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_AT_ONCE = 4, MAX_TRIES = 40, N_LONG = 20000 };

static void errors(void **state)
{
    static const struct {
        const char *arguments;
        int status;
        const char *says;
    } cases[] = {
        {"", 2, "Usage: kvern session"},
        {"frobnicate", 2, "unknown subcommand 'session frobnicate'"},
        {"show", 2, "an argument is missing: kvern session show NAME"},
        {"show errs more", 2, "'more' is one argument too many"},
        {"rewind errs", 2, "Try 'kvern session rewind --help'"},
        {"append nosuch text", 1, "kvern session create nosuch"},
        {"append errs", 2, "needs a TEXT"},
        {"append errs ''", 1, "the text is empty"},
        {"append errs --file /no/such/file", 1, "cannot open /no/such/file"},
        {"embed errs", 1, "session 'errs' is empty"},
        {"embed errs text -o /tmp", 1, "cannot write /tmp: it is a directory"},
        {"embed errs text -o /no/such/directory/v.csv", 1, "/no/such/directory/v.csv"},
        {"generate errs ''", 1, "the text is empty: leave it out"},
        {"append errs --file /bin/ls", 1, "/bin/ls: not text: byte"},
        {"rewind errs 1", 1, "cannot go back to 1"},
        {"rewind errs x", 2, "not 'x'"},
        {"rewind errs -- -1", 2, "not '-1'"},
        {"create errs", 1, "there is a session 'errs'"},
        {"create ../errs", 1, "a session's name has"},
        {"create a/b", 1, "a session's name has"},
        {"delete .. errs/x", 1, "a session's name has"},
        {"delete nosuch", 1, "'kvern session list' shows"},
        {"reset nosuch", 1, "there is no session 'nosuch'"},
        {"restore other /dev/null", 1, "/dev/null"},
        {"restore other /no/such/file", 1, "there is no file '/no/such/file'"},
        {"create other --dimensions 99999", 1, "--dimensions is 99999, but the vectors of tiny"},
        {"save errs ''", 2, "not ''"},
        {"save errs /no/such/directory/file", 1, "/no/such/directory/file"},
        {"fork errs .x", 1, "a session's name has"},
    };
    (void)state;
    create_session("errs", session_models[0], "");
    setenv("KVERN_MODEL", session_models[0], 1);
    for (size_t i = 0; i < COUNT(cases); i++)
        refuse_session(cases[i].arguments, cases[i].status, cases[i].says);
    unsetenv("KVERN_MODEL");
    assert_int_equal(session_number("show errs --json", "position"), 0);
    char *out = session_output("list --json");
    assert_int_equal(count_lines(out), 1);
    json_t *listed = json_line(out, 0);
    assert_string_equal(json_string_value(json_object_get(listed, "name")), "errs");
    json_decref(listed);
    free(out);
    do_session("append errs fine");
    out = session_output("list");
    assert_contains(out, "NAME");
    assert_contains(out, "errs  model ");
    free(out);
    do_session("delete errs");
}

static void ctrl_c_leaves_the_session_as_before(void **state)
{
    struct command_run run = {.environment = session_environment, .interrupt = "a"};

    (void)state;
    create_session("story", session_models[0], "");
    do_session("append story once");
    char *before = session_vector("story");
    /* a random model writes an "a" soon enough */
    command_run(&run, "session generate story -n 100000 --temperature 1 --ignore-eos --stream");
    assert_int_equal(run.status, 130);
    assert_contains(run.err, "the session is as before");
    assert_int_equal(session_number("show story --json", "position"), 4);
    char *after = session_vector("story");
    assert_string_equal(before, after);
    do_session("delete story");
    command_clear(&run);
    free(after);
    free(before);
}

/* The path of a session's file. */
static void path_of(char path[300], const char *name, const char *suffix)
{
    snprintf(path, 300, "%s/sessions/%s%s", session_home, name, suffix);
}

static void a_damaged_session_says_so(void **state)
{
    char path[300];
    uint64_t random = 5;

    (void)state;
    create_session("hurt", session_models[0], "");
    do_session("append hurt 'something to keep'");
    char *vector = session_vector("hurt");
    path_of(path, "hurt", ".session");
    struct buffer whole = read_whole(path);
    for (int i = 0; i < 12; i++) {
        struct buffer damaged = mutate(&whole, i, &random);

        write_whole(path, damaged.data, damaged.n_bytes);
        refuse_session("append hurt more", 1, "kvern session reset hurt");
        refuse_session("show hurt", 1, "hurt.session");
        struct buffer kept = read_whole(path);
        assert_int_equal(kept.n_bytes, damaged.n_bytes);
        assert_memory_equal(kept.data, damaged.data, kept.n_bytes);
        buffer_clear(&kept);
        buffer_clear(&damaged);
    }
    write_whole(path, whole.data, whole.n_bytes);
    char *again = session_vector("hurt");
    assert_string_equal(again, vector);
    write_whole(path, "x", 1);
    do_session("reset hurt");
    do_session("append hurt 'something to keep'");
    free(again);
    again = session_vector("hurt");
    assert_string_equal(again, vector);
    path_of(path, "hurt", ".json");
    write_whole(path, "{}", 2);
    refuse_session("append hurt more", 1, "kvern session delete hurt");
    struct command_run list = run_session("list", NULL, 1);
    assert_contains(list.err, "hurt.json is damaged");
    command_clear(&list);
    do_session("delete hurt");
    free(again);
    free(vector);
    buffer_clear(&whole);
}

static void a_full_disk_leaves_the_old_state(void **state)
{
    struct command_run run = {.environment = session_environment, .max_file_bytes = 1000};

    (void)state;
    create_session("full", session_models[0], "");
    do_session("append full 'something to keep'");
    char *vector = session_vector("full");
    command_run(&run, "session append full more");
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "full.session");
    assert_string_equal(run.out, "");
    command_clear(&run);
    char *after = session_vector("full");
    assert_string_equal(after, vector);
    do_session("append full more");
    do_session("delete full");
    free(after);
    free(vector);
}

/* A process of `kvern session <arguments>`, nothing of its output kept. */
static pid_t spawn(const char *const *arguments)
{
    const char *argv[16] = {KVERN_BUILD_DIR "/kvern", "session"};

    for (size_t i = 0; arguments[i]; i++)
        argv[i + 2] = arguments[i];
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, 1);
        dup2(null, 2);
        setenv("KVERN_HOME", session_home, 1);
        execv(argv[0], (char *const *)argv);
        _exit(126);
    }
    assert_true(pid > 0);
    return pid;
}

static void two_at_once_take_turns(void **state)
{
    pid_t pids[N_AT_ONCE];

    (void)state;
    create_session("shared", session_models[0], "");
    for (int i = 0; i < N_AT_ONCE; i++)
        pids[i] = spawn((const char *const[]){"append", "shared", "ten bytes.", NULL});
    for (int i = 0; i < N_AT_ONCE; i++) {
        int wait_status;

        assert_int_equal(waitpid(pids[i], &wait_status, 0), pids[i]);
        assert_true(WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0);
    }
    assert_int_equal(session_number("show shared --json", "position"), N_AT_ONCE * 10);
    do_session("delete shared");
}

/* Whether a file is being written beside the session's. */
static bool is_saving(void)
{
    char *names;
    char path[300];

    snprintf(path, sizeof path, "%s/sessions", session_home);
    names = list_directory(path);
    bool is_there = strstr(names, ".session.tmp-") != NULL;
    free(names);
    return is_there;
}

/* Waits until the process makes a file for the session's new state; false if it ends before. */
static bool wait_for_save(int watch, pid_t pid)
{
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    struct pollfd poller = {watch, POLLIN, 0};

    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (poll(&poller, 1, 20) <= 0)
            continue;
        ssize_t n = read(watch, events, sizeof events);
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const struct inotify_event *)(events + at);

            if (strstr(event->name, ".session.tmp-"))
                return true;
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
    return false;
}

/* Killed while it writes: the state is the old one, and the next command cleans up. */
static void a_killed_command_leaves_a_whole_state(void **state)
{
    static const char *const arguments[] = {"append", "killed", "ten bytes.", NULL};
    char path[300];
    int n_hits = 0;
    int64_t position = N_LONG;

    (void)state;
    char *text = malloc(N_LONG);
    memset(text, 'x', N_LONG);
    snprintf(path, sizeof path, "%s/long", session_home);
    write_whole(path, text, N_LONG);
    create_session("killed", session_models[0], "");
    char command[400];
    snprintf(command, sizeof command, "append killed --file %s", path);
    do_session(command);
    snprintf(path, sizeof path, "%s/sessions", session_home);
    int watch = inotify_init1(IN_CLOEXEC);
    assert_true(inotify_add_watch(watch, path, IN_CREATE) >= 0);
    for (int i = 0; i < MAX_TRIES && n_hits < 2; i++) {
        pid_t pid = spawn(arguments);

        if (wait_for_save(watch, pid)) {
            kill(pid, SIGKILL);
            assert_int_equal(waitpid(pid, NULL, 0), pid);
            n_hits += is_saving();
        }
        int64_t now = session_number("show killed --json", "position");
        assert_true(now == position || now == position + 10);
        assert_false(is_saving());
        position = now;
    }
    close(watch);
    if (n_hits == 0)
        fail_msg("no save was ever met");
    do_session("append killed more");
    do_session("delete killed");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors),
        cmocka_unit_test(ctrl_c_leaves_the_session_as_before),
        cmocka_unit_test(a_damaged_session_says_so),
        cmocka_unit_test(a_full_disk_leaves_the_old_state),
        cmocka_unit_test(two_at_once_take_turns),
        cmocka_unit_test(a_killed_command_leaves_a_whole_state),
    };

    return cmocka_run_group_tests(tests, make_session_home, remove_session_home);
}
