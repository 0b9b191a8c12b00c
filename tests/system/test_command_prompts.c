/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern generate --prompts with many prompts on a tiny random model: killed at random moments and
 * resumed, interrupted, unordered, from a slow pipe, with wrong lines, changed ones and a full
 * disk.
 */
#include "system/support_command.h"
#include "system/support_files.h"
#include "test.h"

#include "base/buffer.h"
#include "base/file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_PROMPTS = 120, MAX_WAIT_MS = 60000 };

static char *directory;
static char prompts_path[500]; /* N_PROMPTS of them, of different lengths, two of them wrong */
static char output_path[500];

static void write_prompts(void)
{
    struct buffer text = {0};
    uint64_t seed = 12;

    for (int i = 0; i < N_PROMPTS; i++) {
        if (i == 31) {
            buffer_add_string(&text, "{\"id\": \"p31\", \"prompt\": \"a\", \"top_p\": 7}\n");
            continue;
        }
        buffer_add_format(&text, "{\"id\": \"p%d\", \"prompt\": \"", i);
        size_t n_letters = i == 77 ? 5000 : next_random(&seed) % 200;
        for (size_t j = 0; j < n_letters; j++)
            buffer_add_byte(&text, (char)('a' + next_random(&seed) % 26));
        buffer_add_format(&text, "\", \"max_tokens\": %d, \"temperature\": %d, \"seed\": %d}\n",
                          10 + (int)(next_random(&seed) % 150), i % 2, i);
    }
    write_whole(prompts_path, text.data, text.n_bytes);
    buffer_clear(&text);
}

static int set_up(void **state)
{
    (void)state;
    directory = make_directory();
    snprintf(prompts_path, sizeof prompts_path, "%s/prompts.jsonl", directory);
    snprintf(output_path, sizeof output_path, "%s/results.jsonl", directory);
    write_prompts();
    return 0;
}

static int tear_down(void **state)
{
    bool is_gone = directory_remove(directory, NULL) == KVERN_OK;

    free(directory);
    return remove_tiny_model(state) == 0 && is_gone ? 0 : -1;
}

/* `more` options behind those that all runs over the file share. */
static const char *on_prompts(const char *more)
{
    char arguments[1300];

    snprintf(arguments, sizeof arguments, "--prompts %s --ignore-eos --context 2000 %s",
             prompts_path, more);
    return with_model("generate", arguments);
}

static const char *into(const char *path, const char *more)
{
    char arguments[700];

    snprintf(arguments, sizeof arguments, "-o %s %s", path, more);
    return on_prompts(arguments);
}

/* The results without what differs from run to run, a line each. */
static char *without_timings(const char *text)
{
    struct buffer all = {0};

    for (size_t i = 0; i < count_lines(text); i++) {
        json_t *result = json_line(text, i);

        json_object_del(result, "timings");
        json_object_del(json_object_get(result, "usage"), "cached_tokens");
        char *line = json_dumps(result, JSON_COMPACT);
        buffer_add_format(&all, "%s\n", line);
        free(line);
        json_decref(result);
    }
    return buffer_take(&all, NULL);
}

static char *file_without_timings(const char *path)
{
    struct buffer file = read_whole(path);
    char *text = buffer_take(&file, NULL);
    char *rest = without_timings(text);

    free(text);
    return rest;
}

static size_t file_size(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 ? (size_t)info.st_size : 0;
}

/* Starts it with `in` as stdin and stderr in <directory>/stderr. */
static pid_t start(const char *command, int in)
{
    char line[4096];
    char log[600];
    char *argv[64];
    size_t n = 0;

    snprintf(line, sizeof line, "%s/kvern %s", KVERN_BUILD_DIR, command);
    snprintf(log, sizeof log, "%s/stderr", directory);
    for (char *word = strtok(line, " "); word && n < COUNT(argv) - 1; word = strtok(NULL, " "))
        argv[n++] = word;
    argv[n] = NULL;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int err = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);

        if (dup2(in, 0) >= 0 && dup2(err, 2) >= 0)
            execv(argv[0], argv);
        _exit(126);
    }
    assert_true(pid > 0);
    return pid;
}

/* 128 + signal, or the exit status; -1: it still runs. */
static int ended(pid_t pid, int flags)
{
    int status;

    if (waitpid(pid, &status, flags) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Waits until the file has n_bytes or the process ended: then its status, else -1. */
static int wait_for_bytes(pid_t pid, const char *path, size_t n_bytes)
{
    for (int i = 0; i < MAX_WAIT_MS * 5; i++) {
        int status = ended(pid, WNOHANG);

        if (status >= 0 || file_size(path) >= n_bytes)
            return status;
        usleep(200);
    }
    kill(pid, SIGKILL);
    fail_msg("%s did not get %zu bytes", path, n_bytes);
    return -1;
}

/* What is in a file of results but torn: every line of it must be there after the next run too. */
static void assert_keeps(const struct buffer *before, const char *path)
{
    struct buffer after = read_whole(path);
    const char *line = before->data;

    while (line && (line = memchr(line, '{', before->n_bytes - (size_t)(line - before->data)))) {
        const char *end = memchr(line, '\n', before->n_bytes - (size_t)(line - before->data));

        if (!end)
            break;
        /* with its timings: it was not run again, unless it had failed */
        if (!memmem(line, (size_t)(end - line), "\"error\":", 8) &&
            !memmem(after.data, after.n_bytes, line, (size_t)(end - line)))
            fail_msg("lost or run again: %.*s", (int)(end - line), line);
        line = end + 1;
    }
    buffer_clear(&after);
}

static void run_undisturbed(const char *path, const char *more)
{
    struct command_run run = {0};

    unlink(path);
    command_run(&run, into(path, more));
    assert_int_equal(run.status, 1); /* two of them are wrong */
    assert_contains(run.err, "prompt \"p31\": line 32: \"top_p\" must be a number");
    assert_contains(run.err, "prompt \"p77\": the prompt has ");
    assert_contains(run.err, "118 prompts done, 2 failed: ");
    assert_string_equal(run.out, "");
    command_clear(&run);
}

static void killed_and_resumed_is_the_same(void **state)
{
    enum { N_ROUNDS = 6, MAX_KILLS = 30 * N_ROUNDS };
    char whole_path[600];
    uint64_t seed = 5;
    int n_kills = 0;
    struct command_run stdout_run = {0};

    (void)state;
    snprintf(whole_path, sizeof whole_path, "%s/whole.jsonl", directory);
    run_undisturbed(whole_path, "");
    char *whole = file_without_timings(whole_path);
    size_t n_whole = file_size(whole_path);
    assert_int_equal(count_lines(whole), N_PROMPTS);
    for (int i = 0; i < N_PROMPTS; i++) {
        json_t *result = json_line(whole, (size_t)i);
        char id[16];

        snprintf(id, sizeof id, "p%d", i);
        assert_string_equal(json_string_value(json_object_get(result, "id")), id);
        json_decref(result);
    }
    for (int round = 0; round < N_ROUNDS; round++) {
        int status = -1;

        unlink(output_path);
        while (status < 0) {
            struct buffer before = {0};
            size_t n_before = file_size(output_path);
            size_t n_more = 1 + next_random(&seed) % (n_whole / 3);

            if (n_before > 0)
                before = read_whole(output_path);
            pid_t pid = start(into(output_path, "--resume --stats"), STDIN_FILENO);
            status = wait_for_bytes(pid, output_path, n_before + n_more);
            if (status < 0) {
                kill(pid, SIGKILL);
                status = ended(pid, 0);
                n_kills += status == 128 + SIGKILL;
                assert_in_range(n_kills, 0, MAX_KILLS); /* or it comes no further */
                status = status == 128 + SIGKILL ? -1 : status;
            }
            if (before.n_bytes > 0)
                assert_keeps(&before, output_path);
            buffer_clear(&before);
        }
        assert_int_equal(status, 1);
        char *resumed = file_without_timings(output_path);
        if (strcmp(resumed, whole) != 0)
            fail_msg("round %d: the file is another one than without a kill", round);
        free(resumed);
    }
    printf("  %d kills in %d rounds\n", n_kills, N_ROUNDS);
    assert_true(n_kills >= N_ROUNDS);

    /* stdout has the same, but for the fingerprints */
    command_run(&stdout_run, on_prompts("--json"));
    assert_int_equal(count_lines(stdout_run.out), N_PROMPTS);
    for (size_t i = 0; i < N_PROMPTS; i++) {
        json_t *a = json_line(whole, i);
        json_t *b = json_line(stdout_run.out, i);

        assert_string_equal(result_text(a), result_text(b));
        json_decref(a);
        json_decref(b);
    }
    command_clear(&stdout_run);
    free(whole);
}

/* A line torn by hand, and one that is gone: only these two run, and find their places. */
static void only_what_is_missing_runs(void **state)
{
    struct command_run run = {0};

    (void)state;
    run_undisturbed(output_path, "");
    char *whole = file_without_timings(output_path);
    struct buffer file = read_whole(output_path);
    size_t n_first = strcspn(file.data, "\n") + 1;
    write_whole(output_path, file.data + n_first, file.n_bytes - n_first - 10);
    command_run(&run, into(output_path, "--resume --stats"));
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "2 prompts done, 2 failed, 116 resumed: ");
    command_clear(&run);
    char *resumed = file_without_timings(output_path);
    assert_string_equal(resumed, whole);

    /* nothing to do but what failed */
    command_run(&run, into(output_path, "--resume --stats"));
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "0 prompts done, 2 failed, 118 resumed: ");
    command_clear(&run);
    command_run(&run, into(output_path, ""));
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "results.jsonl is there already: --resume goes on with it");
    command_clear(&run);
    free(resumed);
    free(whole);
    buffer_clear(&file);
}

static void ctrl_c_keeps_what_is_done(void **state)
{
    char log[600];

    (void)state;
    run_undisturbed(output_path, "");
    char *whole = file_without_timings(output_path);
    unlink(output_path);
    pid_t pid = start(into(output_path, ""), STDIN_FILENO);
    assert_int_equal(wait_for_bytes(pid, output_path, 1), -1);
    kill(pid, SIGINT);
    assert_int_equal(ended(pid, 0), 130);
    snprintf(log, sizeof log, "%s/stderr", directory);
    struct buffer err = read_whole(log);
    assert_contains(err.data, "kvern: interrupted: ");
    assert_contains(err.data, "results, and --resume goes on with them");
    struct buffer before = read_whole(output_path);
    assert_true(count_lines(before.data) < N_PROMPTS);
    assert_null(strstr(before.data, "cancelled"));
    struct command_run run = {0};
    command_run(&run, into(output_path, "--resume"));
    assert_keeps(&before, output_path);
    char *resumed = file_without_timings(output_path);
    assert_string_equal(resumed, whole);
    free(resumed);
    command_clear(&run);
    buffer_clear(&before);
    buffer_clear(&err);
    free(whole);
}

static void what_changed_runs_again(void **state)
{
    static const char first[] = "{\"prompt\":\"a\"}\n{\"prompt\":\"b\",\"max_tokens\":5}\n";
    static const char second[] = "{\"prompt\":\"a\"}\n{\"prompt\":\"c\",\"max_tokens\":5}\n";
    static const struct {
        const char *input;
        const char *more;
        const char *says;
    } cases[] = {
        {first, "-n 4", "0 prompts done, 2 resumed"},
        {second, "-n 4", "1 prompts done, 1 resumed"},
        {second, "-n 4 --temperature 0", "0 prompts done, 2 resumed"},
        {second, "-n 6", "2 prompts done:"}, /* the second does not use it, but who knows that */
        {second, "-n 6 -t 1 --sequences 1 --kv-memory 64M", "0 prompts done, 2 resumed"},
        {second, "-n 6 --system x", "2 prompts done:"},
    };
    char path[600];
    char arguments[900];

    (void)state;
    snprintf(path, sizeof path, "%s/changed.jsonl", directory);
    snprintf(arguments, sizeof arguments, "--prompts - --ignore-eos -n 4 -o %s", path);
    free(command_output(with_model("generate", arguments), first, 0));
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct command_run run = {.input = cases[i].input};

        snprintf(arguments, sizeof arguments, "--prompts - --ignore-eos -o %s --resume --stats %s",
                 path, cases[i].more);
        command_run(&run, with_model("generate", arguments));
        if (run.status != 0 || !strstr(run.err, cases[i].says))
            fail_msg("%s: status %d, %s", cases[i].more, run.status, run.err);
        struct buffer file = read_whole(path);
        assert_int_equal(count_lines(file.data), 2);
        assert_int_equal(strncmp(file.data, "{\"id\":0,", 8), 0);
        buffer_clear(&file);
        command_clear(&run);
    }
}

static void equal_ids_are_told(void **state)
{
    struct command_run run = {.input = "{\"id\":\"x\",\"prompt\":\"a\"}\n\n"
                                       "{\"id\":\"x\",\"prompt\":\"b\"}\n{\"prompt\":\"c\"}\n"};
    char path[600];
    char arguments[700];

    (void)state;
    snprintf(path, sizeof path, "%s/equal.jsonl", directory);
    write_whole(path, run.input, strlen(run.input));
    snprintf(arguments, sizeof arguments, "-n 2 --json --prompts %s", path);
    command_run(&run, with_model("generate", arguments));
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "kvern: lines 1 and 3 of ");
    assert_contains(run.err, "have the same id \"x\"\n");
    assert_string_equal(run.out, ""); /* before anything ran */
    command_clear(&run);

    command_run(&run, with_model("generate", "-n 2 --json --prompts -"));
    assert_int_equal(run.status, 1);
    assert_contains(run.err, "kvern: lines 1 and 3 of stdin have the same id \"x\"\n");
    assert_int_equal(count_lines(run.out), 1); /* a pipe is read once: the first is done */
    command_clear(&run);
}

static void results_come_as_they_finish(void **state)
{
    static const char lines[] = "{\"id\":\"long\",\"prompt\":\"a\",\"max_tokens\":3000}\n"
                                "{\"id\":\"short\",\"prompt\":\"b\",\"max_tokens\":2}\n";
    static const char *const ways[] = {"", "--unordered"};

    (void)state;
    for (size_t i = 0; i < COUNT(ways); i++) {
        char arguments[100];

        snprintf(arguments, sizeof arguments, "--prompts - --ignore-eos --json %s", ways[i]);
        char *out = command_output(with_model("generate", arguments), lines, 0);
        json_t *first = json_line(out, 0);
        assert_string_equal(json_string_value(json_object_get(first, "id")),
                            i == 0 ? "long" : "short");
        json_decref(first);
        free(out);
    }
}

/* The first answer is there while the pipe is still open. */
static void a_slow_pipe_holds_nothing_up(void **state)
{
    static const char *const lines[] = {"{\"prompt\":\"a\"}\n{\"prom", "pt\":\"b\"}\n"};
    char arguments[700];
    char path[600];
    int pipes[2];

    (void)state;
    snprintf(path, sizeof path, "%s/slow.jsonl", directory);
    snprintf(arguments, sizeof arguments, "--prompts - -n 3 --ignore-eos -o %s", path);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t pid = start(with_model("generate", arguments), pipes[0]);
    close(pipes[0]);
    for (size_t i = 0; i < COUNT(lines); i++) {
        size_t n_before = file_size(path);

        assert_int_equal(write(pipes[1], lines[i], strlen(lines[i])), (ssize_t)strlen(lines[i]));
        assert_int_equal(wait_for_bytes(pid, path, n_before + 1), -1);
    }
    close(pipes[1]);
    assert_int_equal(ended(pid, 0), 0);
}

static void wrong_uses_are_told(void **state)
{
    static const struct {
        const char *arguments;
        int status;
        const char *says;
    } cases[] = {
        {"hi -o x.jsonl", 2, "--output goes with --prompts"},
        {"--prompts - --resume", 2, "--resume goes with --output"},
        {"--prompts - -o /no/such/folder/x", 1, "cannot open /no/such/folder/x: No such file"},
        {"--prompts - -o /dev/null --resume", 1, "--resume needs a file that can be read again"},
        {"--prompts - -n 2 -o /dev/full", 1,
         "kvern: cannot write to /dev/full: No space left on device\n"},
        {"hi --kv-memory 900000G", 1, "MiB of memory that are free here"},
        {"hi --kv-memory nothing", 2, "--kv-memory takes a size such as 512M, or auto"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct command_run run = {.input = "{\"prompt\":\"a\"}\n"};

        command_run(&run, with_model("generate", cases[i].arguments));
        if (run.status != cases[i].status || !strstr(run.err, cases[i].says))
            fail_msg("%s: status %d, %s", cases[i].arguments, run.status, run.err);
        assert_string_equal(run.out, "");
        command_clear(&run);
    }
    struct command_run run = {0};
    command_run(&run, with_model("generate", "hi -n 2 --stats --kv-memory auto"));
    assert_int_equal(run.status, 0);
    assert_contains(run.err, " tokens (auto)\n");
    command_clear(&run);
}

static void a_terminal_shows_progress(void **state)
{
    struct command_run run = {.is_terminal = true};

    (void)state;
    command_run(&run, on_prompts("--sequences 1 --json")); /* long enough to be drawn */
    assert_contains(run.out, "/120 [");
    assert_contains(run.out, " running, ");
    assert_contains(run.out, "118 prompts done, 2 failed: ");
    command_clear(&run);
}

/* Ten times the prompts take no more memory than their ids. */
static void memory_does_not_grow_with_the_prompts(void **state)
{
    enum { FEW = 3000, MAX_GROWTH_KIB = 12 << 10 };
    long rss_kib[2];

    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* freed memory is kept in quarantine there */
#endif
    for (size_t i = 0; i < 2; i++) {
        struct command_run run = {0};
        struct buffer text = {0};
        char path[600];
        char arguments[800];
        size_t n = i == 0 ? FEW : 10 * FEW;

        for (size_t j = 0; j < n; j++)
            buffer_add_format(&text,
                              "{\"prompt\":\"number %zu of many prompts that are as long as "
                              "this one, about a hundred bytes\",\"max_tokens\":1}\n",
                              j);
        snprintf(path, sizeof path, "%s/many.jsonl", directory);
        write_whole(path, text.data, text.n_bytes);
        buffer_clear(&text);
        snprintf(arguments, sizeof arguments, "--prompts %s --raw --ignore-eos -q -o /dev/null",
                 path);
        command_run(&run, with_model("generate", arguments));
        assert_int_equal(run.status, 0);
        rss_kib[i] = run.max_rss_kib;
        command_clear(&run);
    }
    printf("  peak memory of %d prompts %ld KiB, of %d %ld KiB\n", FEW, rss_kib[0], 10 * FEW,
           rss_kib[1]);
    assert_in_range(rss_kib[1], 0, rss_kib[0] + MAX_GROWTH_KIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_and_resumed_is_the_same),
        cmocka_unit_test(only_what_is_missing_runs),
        cmocka_unit_test(ctrl_c_keeps_what_is_done),
        cmocka_unit_test(what_changed_runs_again),
        cmocka_unit_test(equal_ids_are_told),
        cmocka_unit_test(results_come_as_they_finish),
        cmocka_unit_test(a_slow_pipe_holds_nothing_up),
        cmocka_unit_test(wrong_uses_are_told),
        cmocka_unit_test(a_terminal_shows_progress),
        cmocka_unit_test(memory_does_not_grow_with_the_prompts),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
