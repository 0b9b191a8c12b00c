/* SPDX-License-Identifier: Apache-2.0
 *
 * build/kvern session as a user runs it: every command is a process of its own, so what they see of
 * each other went through the files. On a paged model and on an export with a KV cache of its own.
 */
#include "system/support_command.h"
#include "system/support_files.h"
#include "test.h"

#include "base/file.h"
#include "kvern.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_AT_ONCE = 4, MAX_TRIES = 40, N_LONG = 20000 };

static char home[200];
static char environment[300];
static const char *models[2];

static int make_home(void **state)
{
    kvern_error err;

    (void)state;
    /* on disk: a save that takes its time can be met */
    snprintf(home, sizeof home, "%s/test-models/session-%d", KVERN_BUILD_DIR, (int)getpid());
    snprintf(environment, sizeof environment, "KVERN_HOME=%s", home);
    if (directory_make(home, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    models[0] = tiny_model();
    models[1] = KVERN_SOURCE_DIR "/tests/golden/exports/qwen2-f32";
    return 0;
}

static int remove_home(void **state)
{
    kvern_error err;
    int status = directory_remove(home, &err) == KVERN_OK ? 0 : -1;

    return remove_tiny_model(state) == 0 ? status : -1;
}

/* "kvern session <arguments>": its exit status must be `status`; gives the run (clear it). */
static struct command_run session_run(const char *arguments, const char *input, int status)
{
    struct command_run run = {.input = input, .environment = environment};
    char command[2048];

    snprintf(command, sizeof command, "session %s", arguments);
    command_run(&run, command);
    if (run.status != status)
        fail_msg("kvern %s: exit status %d, not %d; stdout: %s; stderr: %s", command, run.status,
                 status, run.out, run.err);
    return run;
}

/* Its stdout (free it). */
static char *session(const char *arguments)
{
    struct command_run run = session_run(arguments, NULL, 0);

    free(run.err);
    return run.out;
}

static void do_session(const char *arguments)
{
    free(session(arguments));
}

/* Expects it to fail and to say so. */
static void refuse(const char *arguments, int status, const char *says)
{
    struct command_run run = session_run(arguments, NULL, status);

    assert_contains(run.err, says);
    assert_string_equal(run.out, "");
    command_clear(&run);
}

static void create(const char *name, const char *model, const char *options)
{
    char arguments[1500];

    snprintf(arguments, sizeof arguments, "create %s -m %s %s", name, model, options);
    do_session(arguments);
}

/* A whole number out of a command's JSON. */
static int64_t number_of(const char *arguments, const char *member)
{
    char *out = session(arguments);
    json_t *json = json_line(out, 0);
    const json_t *value = json_object_get(json, member);
    int64_t number = json_integer_value(value);

    if (!json_is_integer(value))
        fail_msg("kvern session %s: no number \"%s\" in %s", arguments, member, out);
    json_decref(json);
    free(out);
    return number;
}

/* The embedding in a line of JSON, as text: equal text is equal bits. */
static char *vector_text(const char *out)
{
    const char *begin = strstr(out, "\"embedding\":[");
    const char *end = begin ? strchr(begin, ']') : NULL;

    if (!end)
        fail_msg("no embedding in %s", out);
    return strndup(begin, (size_t)(end - begin));
}

/* Its vector as it is (free it). */
static char *vector_of(const char *name)
{
    char arguments[200];

    snprintf(arguments, sizeof arguments, "embed %s --json", name);
    char *out = session(arguments);
    char *vector = vector_text(out);
    free(out);
    return vector;
}

/* The values of a vector's text. */
static size_t read_vector(const char *text, float *values, size_t capacity)
{
    char *at = strchr(text, '[') + 1;
    size_t n = 0;

    while (n < capacity && *at) {
        char *end;

        values[n] = strtof(at, &end);
        if (end == at)
            break;
        n++;
        at = *end == ',' ? end + 1 : end;
    }
    return n;
}

/* Vectors of the paged model are the same bit for bit; an export's up to what its kernels do. */
static void assert_same_vector(const char *a, const char *b, bool is_exact)
{
    float first[512];
    float second[512];

    if (is_exact) {
        assert_string_equal(a, b);
        return;
    }
    size_t n = read_vector(a, first, 512);
    assert_int_equal(read_vector(b, second, 512), n);
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(first[i] - second[i]) < 1e-4f))
            fail_msg("value %zu is %g, not %g", i, (double)second[i], (double)first[i]);
    }
}

static void three_appends_are_one_context(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT(models); m++) {
        create("grow", models[m], "");
        char *out = session("embed grow 'return the name' --json");
        json_t *first = json_line(out, 0);
        char *first_vector = vector_text(out);
        int64_t n_first = json_integer_value(json_object_get(first, "context_length"));

        assert_keys(first, "id embedding tokens truncated context_length tokens_run tokens_reused "
                           "drift");
        assert_int_equal(json_integer_value(json_object_get(first, "tokens")), n_first);
        assert_int_equal(json_integer_value(json_object_get(first, "tokens_run")), n_first);
        assert_int_equal(json_integer_value(json_object_get(first, "tokens_reused")), 0);
        assert_true(json_is_null(json_object_get(first, "drift")));
        json_decref(first);
        free(out);

        int64_t n_second = number_of("append grow ' of the value' --json", "tokens");
        out = session("append grow ' and self' --json");
        json_t *third = json_line(out, 0);
        int64_t n_third = json_integer_value(json_object_get(third, "tokens"));
        assert_keys(third, "context_length tokens_run tokens_reused drift tokens");
        assert_true(n_second > 0 && n_third > 0);
        assert_int_equal(json_integer_value(json_object_get(third, "context_length")),
                         n_first + n_second + n_third);
        assert_int_equal(json_integer_value(json_object_get(third, "tokens_run")), n_third);
        assert_int_equal(json_integer_value(json_object_get(third, "tokens_reused")),
                         n_first + n_second);
        double drift = json_number_value(json_object_get(third, "drift"));
        assert_true(drift > -1.001 && drift < 1.001);
        json_decref(third);
        free(out);

        /* the same as all of it at once, and after going back */
        char *grown = vector_of("grow");
        char command[1500];
        snprintf(command, sizeof command, "append whole 'return the name' --file - --json");
        create("whole", models[m], "");
        struct command_run run = session_run(command, " of the value", 0);
        command_clear(&run);
        do_session("append whole ' and self'");
        char *whole = vector_of("whole");
        assert_same_vector(grown, whole, m == 0);
        snprintf(command, sizeof command, "rewind grow %d --json", (int)n_first);
        assert_int_equal(number_of(command, "context_length"), n_first);
        char *back = vector_of("grow");
        assert_same_vector(first_vector, back, m == 0);

        assert_int_equal(number_of("reset grow --json", "context_length"), 0);
        out = session("embed grow 'return the name' --json");
        char *again = vector_text(out);
        assert_string_equal(again, first_vector);
        do_session("delete grow whole");
        free(again);
        free(out);
        free(back);
        free(whole);
        free(grown);
        free(first_vector);
    }
}

static void embed_has_the_session_too(void **state)
{
    struct command_run run = {.environment = environment,
                              .input = "{\"id\": \"x\", \"text\": \"the name\"}\n\" of self\"\n"};
    struct command_run failing = {.environment = environment, .input = "\" more\"\nnonsense\n"};

    (void)state;
    create("rows", models[0], "--dimensions 5");
    setenv("KVERN_MODEL", "another", 1); /* is not the session's matter */
    command_run(&run, "embed --session rows --input - --json");
    assert_int_equal(run.status, 0);
    unsetenv("KVERN_MODEL");
    assert_int_equal(count_lines(run.out), 2);
    json_t *first = json_line(run.out, 0);
    json_t *second = json_line(run.out, 1);
    assert_string_equal(json_string_value(json_object_get(first, "id")), "x");
    assert_int_equal(json_array_size(json_object_get(first, "embedding")), 5);
    assert_int_equal(json_integer_value(json_object_get(second, "context_length")), 16);
    assert_int_equal(json_integer_value(json_object_get(second, "tokens_run")), 8);
    assert_int_equal(json_integer_value(json_object_get(second, "tokens_reused")), 8);

    /* all of the texts or none */
    command_run(&failing, "embed --session rows --input - --json");
    assert_int_equal(failing.status, 1);
    assert_contains(failing.err, "nothing was appended");
    assert_string_equal(failing.out, "");
    assert_int_equal(number_of("show rows --json", "position"), 16);
    do_session("delete rows");
    json_decref(second);
    json_decref(first);
    command_clear(&failing);
    command_clear(&run);
}

static void forks_and_files(void **state)
{
    char command[1500];
    char path[300];

    (void)state;
    snprintf(path, sizeof path, "%s/saved", home);
    for (size_t m = 0; m < COUNT(models); m++) {
        create("one", models[m], "");
        do_session("append one 'return the name of the value'");
        char *before = vector_of("one");
        do_session("fork one two");
        int64_t n = number_of("show two --json", "position");
        char *out = session("embed two ' or not' --json");
        json_t *result = json_line(out, 0);
        char *longer = vector_text(out);
        assert_int_equal(json_integer_value(json_object_get(result, "tokens_reused")), n);
        json_decref(result);
        free(out);
        char *after = vector_of("one");
        assert_string_equal(before, after);

        snprintf(command, sizeof command, "save one %s", path);
        do_session(command);
        refuse("fork one two", 1, "there is a session 'two'");
        snprintf(command, sizeof command, "restore two %s", path);
        refuse(command, 1, "--overwrite");
        snprintf(command, sizeof command, "restore two %s --overwrite", path);
        do_session(command);
        snprintf(command, sizeof command, "restore three %s -m %s", path, models[m]);
        do_session(command);
        char *out_three = session("embed three ' or not' --json");
        char *restored = vector_text(out_three);
        assert_string_equal(restored, longer);
        char *two = vector_of("two");
        assert_string_equal(two, before);

        snprintf(command, sizeof command, "restore four %s -m %s", path, models[1 - m]);
        refuse(command, 1, "of another model");
        refuse("show four", 1, "there is no session 'four'");
        do_session("delete one two three");
        unlink(path);
        free(two);
        free(restored);
        free(out_three);
        free(after);
        free(longer);
        free(before);
    }
}

static void generating_goes_on(void **state)
{
    (void)state;
    create("story", models[0], "");
    create("twin", models[0], "");
    char *out = session("generate story 'once' -n 6 --ignore-eos --json");
    json_t *result = json_line(out, 0);

    assert_keys(result, "id text finish_reason usage timings context_length tokens_run "
                        "tokens_reused drift");
    assert_string_equal(json_string_value(json_object_get(result, "id")), "story");
    assert_int_equal(json_integer_value(json_object_get(result, "context_length")), 10);
    json_decref(result);
    free(out);
    /* in two commands what one gives */
    out = session("generate story -n 6 --ignore-eos -q");
    char *whole = session("generate twin 'once' -n 12 --ignore-eos -q");
    assert_int_equal(number_of("show twin --json", "position"), 16);
    assert_int_equal(number_of("show story --json", "position"), 16);
    assert_true(strlen(whole) > strlen(out));
    char *a = vector_of("story");
    char *b = vector_of("twin");
    assert_string_equal(a, b);
    do_session("delete story twin");
    free(b);
    free(a);
    free(whole);
    free(out);
}

static void ctrl_c_leaves_the_session_as_before(void **state)
{
    struct command_run run = {.environment = environment, .interrupt = "a"};

    (void)state;
    create("story", models[0], "");
    do_session("append story once");
    char *before = vector_of("story");
    /* a random model writes an "a" soon enough */
    command_run(&run, "session generate story -n 100000 --temperature 1 --ignore-eos --stream");
    assert_int_equal(run.status, 130);
    assert_contains(run.err, "the session is as before");
    assert_int_equal(number_of("show story --json", "position"), 4);
    char *after = vector_of("story");
    assert_string_equal(before, after);
    do_session("delete story");
    command_clear(&run);
    free(after);
    free(before);
}

static void window_policies(void **state)
{
    char text[200] = "append %s '";
    char command[400];

    (void)state;
    for (int i = 0; i < 5; i++)
        strcat(text, "twenty characters, so");
    strcat(text, "' --json"); /* 105 tokens */
    create("strict", models[0], "--context 64");
    create("cut", models[0], "--context 64 --window-policy truncate");
    create("slide", models[0], "--context 64 --window-policy sliding --window 32 --sinks 16");
    snprintf(command, sizeof command, "append strict 'short'");
    do_session(command);
    snprintf(command, sizeof command, text, "strict");
    refuse(command, 1, "over the context limit of 64");
    assert_int_equal(number_of("show strict --json", "position"), 5);

    snprintf(command, sizeof command, text, "cut");
    struct command_run run = session_run(command, NULL, 0);
    json_t *result = json_line(run.out, 0);
    assert_contains(run.err, "41 tokens did not fit");
    assert_int_equal(json_integer_value(json_object_get(result, "left_out")), 41);
    assert_int_equal(json_integer_value(json_object_get(result, "context_length")), 64);
    json_decref(result);
    command_clear(&run);

    snprintf(command, sizeof command, text, "slide");
    int64_t length = number_of(command, "context_length");
    assert_true(length <= 64 && length >= 32);
    assert_int_equal(number_of("show slide --json", "position"), 105);
    do_session("delete strict cut slide");

    refuse("create x --window 5", 2, "--window-policy sliding");
    refuse("create x --window-policy none", 2, "not 'none'");
    snprintf(command, sizeof command, "create x -m %s --pooling mean", models[0]);
    refuse(command, 1, "last and logits512 go");
    refuse("show x", 1, "there is no session 'x'");
}

static void errors(void **state)
{
    static const struct {
        const char *arguments;
        int status;
        const char *says;
    } cases[] = {
        {"", 2, "Usage: kvern session"},
        {"frobnicate", 2, "unknown subcommand 'session frobnicate'"},
        {"append nosuch text", 1, "kvern session create nosuch"},
        {"append errs", 2, "needs a TEXT"},
        {"append errs ''", 1, "the text is empty"},
        {"append errs --file /no/such/file", 1, "cannot open /no/such/file"},
        {"embed errs", 1, "the session is empty"},
        {"rewind errs 1", 1, "cannot go back to 1"},
        {"rewind errs x", 2, "not 'x'"},
        {"rewind errs -- -1", 2, "not '-1'"},
        {"create errs", 1, "there is a session 'errs'"},
        {"create ../errs", 1, "a session's name has"},
        {"create a/b", 1, "a session's name has"},
        {"delete .. errs/x", 1, "a session's name has"},
        {"delete nosuch", 1, "there is no session 'nosuch'"},
        {"reset nosuch", 1, "there is no session 'nosuch'"},
        {"restore other /dev/null", 1, "/dev/null"},
        {"restore other /no/such/file", 1, "/no/such/file"},
        {"save errs /no/such/directory/file", 1, "/no/such/directory/file"},
        {"fork errs .x", 1, "a session's name has"},
    };
    (void)state;
    create("errs", models[0], "");
    setenv("KVERN_MODEL", models[0], 1);
    for (size_t i = 0; i < COUNT(cases); i++)
        refuse(cases[i].arguments, cases[i].status, cases[i].says);
    unsetenv("KVERN_MODEL");
    char *out = session("list --json");
    assert_int_equal(count_lines(out), 1);
    json_t *listed = json_line(out, 0);
    assert_string_equal(json_string_value(json_object_get(listed, "name")), "errs");
    json_decref(listed);
    free(out);
    do_session("append errs fine");
    out = session("list");
    assert_contains(out, "NAME");
    assert_contains(out, "errs  model ");
    free(out);
    do_session("delete errs");
}

/* The path of a session's file. */
static void path_of(char path[300], const char *name, const char *suffix)
{
    snprintf(path, 300, "%s/sessions/%s%s", home, name, suffix);
}

static void a_damaged_session_says_so(void **state)
{
    char path[300];
    uint64_t random = 5;

    (void)state;
    create("hurt", models[0], "");
    do_session("append hurt 'something to keep'");
    char *vector = vector_of("hurt");
    path_of(path, "hurt", ".session");
    struct buffer whole = read_whole(path);
    for (int i = 0; i < 12; i++) {
        struct buffer damaged = mutate(&whole, i, &random);

        write_whole(path, damaged.data, damaged.n_bytes);
        refuse("append hurt more", 1, "kvern session reset hurt");
        refuse("show hurt", 1, "hurt.session");
        struct buffer kept = read_whole(path);
        assert_int_equal(kept.n_bytes, damaged.n_bytes);
        assert_memory_equal(kept.data, damaged.data, kept.n_bytes);
        buffer_clear(&kept);
        buffer_clear(&damaged);
    }
    write_whole(path, whole.data, whole.n_bytes);
    char *again = vector_of("hurt");
    assert_string_equal(again, vector);
    write_whole(path, "x", 1);
    do_session("reset hurt");
    do_session("append hurt 'something to keep'");
    free(again);
    again = vector_of("hurt");
    assert_string_equal(again, vector);
    path_of(path, "hurt", ".json");
    write_whole(path, "{}", 2);
    refuse("append hurt more", 1, "kvern session delete hurt");
    struct command_run list = session_run("list", NULL, 1);
    assert_contains(list.err, "hurt.json is damaged");
    command_clear(&list);
    do_session("delete hurt");
    free(again);
    free(vector);
    buffer_clear(&whole);
}

static void a_full_disk_leaves_the_old_state(void **state)
{
    struct rlimit before;

    (void)state;
    create("full", models[0], "");
    do_session("append full 'something to keep'");
    char *vector = vector_of("full");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1000, before.rlim_max}), 0);
    struct command_run run = {.environment = environment};
    command_run(&run, "session append full more");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "full.session");
    assert_string_equal(run.out, "");
    command_clear(&run);
    char *after = vector_of("full");
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
        setenv("KVERN_HOME", home, 1);
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
    create("shared", models[0], "");
    for (int i = 0; i < N_AT_ONCE; i++)
        pids[i] = spawn((const char *const[]){"append", "shared", "ten bytes.", NULL});
    for (int i = 0; i < N_AT_ONCE; i++) {
        int wait_status;

        assert_int_equal(waitpid(pids[i], &wait_status, 0), pids[i]);
        assert_true(WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0);
    }
    assert_int_equal(number_of("show shared --json", "position"), N_AT_ONCE * 10);
    do_session("delete shared");
}

/* Whether a file is being written beside the session's. */
static bool is_saving(void)
{
    char *names;
    char path[300];

    snprintf(path, sizeof path, "%s/sessions", home);
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
    snprintf(path, sizeof path, "%s/long", home);
    write_whole(path, text, N_LONG);
    create("killed", models[0], "");
    char command[400];
    snprintf(command, sizeof command, "append killed --file %s", path);
    do_session(command);
    snprintf(path, sizeof path, "%s/sessions", home);
    int watch = inotify_init1(IN_CLOEXEC);
    assert_true(inotify_add_watch(watch, path, IN_CREATE) >= 0);
    for (int i = 0; i < MAX_TRIES && n_hits < 2; i++) {
        pid_t pid = spawn(arguments);

        if (wait_for_save(watch, pid)) {
            kill(pid, SIGKILL);
            assert_int_equal(waitpid(pid, NULL, 0), pid);
            n_hits += is_saving();
        }
        int64_t now = number_of("show killed --json", "position");
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

static void encoders_have_no_state(void **state)
{
    char command[1200];

    (void)state;
    snprintf(command, sizeof command, "create enc -m %s/tests/golden/exports/bert-f32",
             KVERN_SOURCE_DIR);
    refuse(command, 1, "has no state to keep");
    char *out = session("list --json");
    assert_string_equal(out, "");
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_appends_are_one_context),
        cmocka_unit_test(embed_has_the_session_too),
        cmocka_unit_test(forks_and_files),
        cmocka_unit_test(generating_goes_on),
        cmocka_unit_test(ctrl_c_leaves_the_session_as_before),
        cmocka_unit_test(window_policies),
        cmocka_unit_test(errors),
        cmocka_unit_test(a_damaged_session_says_so),
        cmocka_unit_test(a_full_disk_leaves_the_old_state),
        cmocka_unit_test(two_at_once_take_turns),
        cmocka_unit_test(a_killed_command_leaves_a_whole_state),
        cmocka_unit_test(encoders_have_no_state),
    };

    return cmocka_run_group_tests(tests, make_home, remove_home);
}
