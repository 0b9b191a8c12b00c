/* SPDX-License-Identifier: Apache-2.0 */
#include "system/support_command.h"

#include "support/tiny_checkpoint.h"
#include "test.h"

#include "base/buffer.h"
#include "base/file.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 64, MAX_WAIT_MS = 120000 };

struct child {
    pid_t pid;
    int in;  /* -1: none */
    int out; /* -1: none */
    int err; /* -1: none */
};

static void split(char *command, char **argv)
{
    size_t n = 0;
    char *c = command;

    while (*c && n + 1 < MAX_ARGUMENTS) {
        char end = *c == '\'' ? '\'' : ' ';

        c += *c == '\'';
        argv[n++] = c;
        c += strcspn(c, end == ' ' ? " " : "'");
        if (*c)
            *c++ = '\0';
        c += strspn(c, " ");
    }
    argv[n] = NULL;
}

static void run_child(const struct command_run *run, const char *command)
{
    char *argv[MAX_ARGUMENTS];
    char line[4096];

    snprintf(line, sizeof line, "%s/kvern %s", KVERN_BUILD_DIR, command);
    split(line, argv);
    setenv("KVERN_HOME", KVERN_BUILD_DIR "/test-home", 1);
    if (run->environment) {
        char *name = strdup(run->environment);
        char *equals = strchr(name, '=');

        *equals = '\0';
        setenv(name, equals + 1, 1);
    }
    if (run->max_file_bytes) {
        rlim_t limit = (rlim_t)run->max_file_bytes;

        signal(SIGXFSZ, SIG_IGN); /* a write then fails, as on a full disk */
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, limit});
    }
    execv(argv[0], argv);
    _exit(126);
}

static void move_fd(int from, int to)
{
    if (from < 0 || dup2(from, to) < 0)
        _exit(125);
    close(from);
}

static struct child start(const struct command_run *run, const char *command)
{
    struct child child = {.in = -1, .out = -1, .err = -1};
    int in[2] = {-1, -1};
    int out[2] = {-1, -1};
    int err[2] = {-1, -1};

    fflush(NULL);
    if (run->is_terminal) {
        struct winsize size = {.ws_row = 24, .ws_col = 80};

        child.pid = forkpty(&child.in, NULL, NULL, &size);
        if (child.pid == 0)
            run_child(run, command);
        child.out = child.in;
        return child;
    }
    if ((run->input && pipe2(in, O_CLOEXEC)) || (!run->output && pipe2(out, O_CLOEXEC)) ||
        pipe2(err, O_CLOEXEC))
        fail_msg("pipe failed");
    child.pid = fork();
    if (child.pid == 0) {
        move_fd(run->input ? in[0] : open("/dev/null", O_RDONLY), 0);
        move_fd(run->output ? open(run->output, O_WRONLY | O_CREAT | O_TRUNC, 0666) : out[1], 1);
        move_fd(err[1], 2);
        run_child(run, command);
    }
    if (in[0] >= 0)
        close(in[0]);
    if (out[1] >= 0)
        close(out[1]);
    close(err[1]);
    child.in = in[1];
    child.out = out[0];
    child.err = err[0];
    return child;
}

/* Reads what is there; false (and closes) at the end. */
static bool take(int *fd, struct buffer *into)
{
    char chunk[4096];
    ssize_t n = read(*fd, chunk, sizeof chunk);

    if (n > 0) {
        buffer_add(into, chunk, (size_t)n);
        return true;
    }
    close(*fd);
    *fd = -1;
    return false;
}

static bool contains(const struct buffer *buffer, const char *text)
{
    return buffer->data && memmem(buffer->data, buffer->n_bytes, text, strlen(text));
}

void command_run(struct command_run *run, const char *command)
{
    struct child child = start(run, command);
    struct buffer out = {0};
    struct buffer err = {0};
    const char *input = run->input ? run->input : "";
    bool is_interrupted = run->interrupt == NULL;
    int waited = 0;
    int wait_status;
    struct rusage usage;

    signal(SIGPIPE, SIG_IGN);
    assert_true(child.pid > 0);
    while (child.out >= 0 || child.err >= 0) {
        /* a terminal gets a line when the command asks for one, a pipe everything at once */
        bool can_write = child.in >= 0 && *input && !run->is_terminal;
        struct pollfd fds[] = {{child.out, POLLIN, 0},
                               {child.err, POLLIN, 0},
                               {can_write ? child.in : -1, POLLOUT, 0}};
        int n = poll(fds, 3, 100);

        if (n == 0 && (waited += 100) > MAX_WAIT_MS) {
            kill(child.pid, SIGKILL);
            fail_msg("kvern %s: no end after %d s", command, MAX_WAIT_MS / 1000);
        }
        if (fds[0].revents)
            take(&child.out, &out);
        if (fds[1].revents)
            take(&child.err, &err);
        if (fds[2].revents) {
            ssize_t n_written = write(child.in, input, strlen(input));

            input += n_written > 0 ? (size_t)n_written : strlen(input);
        }
        if (!run->is_terminal && child.in >= 0 && !*input) {
            close(child.in);
            child.in = -1;
        }
        if (run->is_terminal && child.out >= 0 && *input && out.n_bytes >= 2 &&
            strcmp(out.data + out.n_bytes - 2, "> ") == 0) {
            size_t n_line = strcspn(input, "\n") + 1;

            assert_int_equal(write(child.in, input, n_line), (ssize_t)n_line);
            input += n_line;
            buffer_add_string(&out, "\n");
        }
        if (!is_interrupted && (contains(&out, run->interrupt) || contains(&err, run->interrupt))) {
            kill(child.pid, SIGINT);
            is_interrupted = true;
        }
        if (run->closes_early && child.out >= 0 && out.n_bytes > 0) {
            close(child.out);
            child.out = -1;
        }
    }
    assert_int_equal(wait4(child.pid, &wait_status, 0, &usage), child.pid);
    run->status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
    run->max_rss_kib = usage.ru_maxrss;
    run->out = buffer_take(&out, NULL);
    run->err = buffer_take(&err, NULL);
}

void command_clear(struct command_run *run)
{
    free(run->out);
    free(run->err);
}

char *command_output(const char *command, const char *input, int status)
{
    struct command_run run = {.input = input};

    command_run(&run, command);
    if (run.status != status)
        fail_msg("kvern %s: exit status %d, not %d; stdout: %s; stderr: %s", command, run.status,
                 status, run.out, run.err);
    free(run.err);
    return run.out;
}

void command_refused(const char *command, const char *environment, int status, const char *says)
{
    struct command_run run = {.environment = environment};

    command_run(&run, command);
    bool is_told = strstr(run.err, says) && (status != 1 || strncmp(run.err, "kvern: ", 7) == 0);
    if (run.status != status || !is_told || *run.out)
        fail_msg("kvern %s: exit status %d, not %d; stdout: %s; stderr: %s; should say: %s",
                 command, run.status, status, run.out, run.err, says);
    command_clear(&run);
}

size_t count_lines(const char *text)
{
    size_t n = 0;

    for (const char *c = text; *c; c++)
        n += *c == '\n';
    return n;
}

json_t *json_line(const char *text, size_t number)
{
    json_error_t problem;

    for (size_t i = 0; i < number && text; i++) {
        text = strchr(text, '\n');
        text = text ? text + 1 : NULL;
    }
    if (!text)
        fail_msg("there is no line %zu", number);
    json_t *value = json_loadb(text, strcspn(text, "\n"), JSON_ALLOW_NUL, &problem);
    if (!value)
        fail_msg("line %zu is not JSON (%s): %s", number, problem.text, text);
    return value;
}

const char *result_text(const json_t *result)
{
    const char *text = json_string_value(json_object_get(result, "text"));

    assert_non_null(text);
    return text;
}

void assert_keys(const json_t *object, const char *keys)
{
    char name[64];
    size_t n = 0;

    for (const char *c = keys; *c; n++) {
        size_t length = strcspn(c, " ");

        snprintf(name, sizeof name, "%.*s", (int)length, c);
        if (!json_object_get(object, name))
            fail_msg("there is no \"%s\"", name);
        c += length + strspn(c + length, " ");
    }
    assert_int_equal(json_object_size(object), n);
}

void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in: %s", part, text);
}

/* A byte-level tokenizer: id = byte, and two control tokens after them. */
static void write_tokenizer(const char *directory)
{
    json_t *vocab = json_object();
    unsigned n_moved = 0;

    for (unsigned byte = 0; byte < 256; byte++) {
        bool is_itself = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
        struct buffer piece = {0};

        buffer_add_code_point(&piece, is_itself ? byte : 256 + n_moved++);
        json_object_set_new(vocab, piece.data, json_integer(byte));
        buffer_clear(&piece);
    }
    json_t *tokenizer = json_pack(
        "{s:s, s:[{s:i, s:s, s:b}, {s:i, s:s, s:b}], s:{s:s, s:b, s:b}, s:{s:s}, s:{s:s, s:o, "
        "s:[]}}",
        "version", "1.0", "added_tokens", "id", 256, "content", "<|im_start|>", "special", 1, "id",
        257, "content", "<|im_end|>", "special", 1, "pre_tokenizer", "type", "ByteLevel",
        "add_prefix_space", 0, "use_regex", 1, "decoder", "type", "ByteLevel", "model", "type",
        "BPE", "vocab", vocab, "merges");
    assert_non_null(tokenizer);

    char *path = path_join(directory, "tokenizer.json");
    assert_int_equal(json_dump_file(tokenizer, path, JSON_COMPACT), 0);
    free(path);
    json_decref(tokenizer);
}

static void write_template(const char *directory)
{
    char *path = path_join(directory, "chat_template.jinja");
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
          "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
          file);
    assert_int_equal(fclose(file), 0);
    free(path);
}

const char *tiny_model(void)
{
    static char directory[600];
    char source[500];
    char command[1300];
    kvern_error err;
    struct tiny_options options = tiny_options("llama");

    if (*directory)
        return directory;
    /* programs run beside each other: each makes its own */
    snprintf(source, sizeof source, "%s/test-models", KVERN_BUILD_DIR);
    assert_int_equal(directory_make(source, &err), KVERN_OK);
    snprintf(source, sizeof source, "%s/test-models/command-%d", KVERN_BUILD_DIR, (int)getpid());
    options.vocab_size = 258;
    options.is_tied = false; /* a tied random model only repeats its last token */
    options.max_positions = 1 << 17;
    options.more_config = ",\"pad_token_id\":257";
    tiny_checkpoint_write(source, &options);
    write_tokenizer(source);
    write_template(source);
    snprintf(directory, sizeof directory, "%s/model", source);
    snprintf(command, sizeof command, "convert %s -o %s --weights q8 --name tiny", source,
             directory);
    free(command_output(command, NULL, 0));
    return directory;
}

const char *with_model(const char *name, const char *arguments)
{
    static char command[2048];

    snprintf(command, sizeof command, "%s -m %s %s", name, tiny_model(), arguments);
    return command;
}

int remove_tiny_model(void **state)
{
    char source[600];
    kvern_error err;

    (void)state;
    snprintf(source, sizeof source, "%s/..", tiny_model());
    char *real = realpath(source, NULL);
    int status = real && directory_remove(real, &err) == KVERN_OK ? 0 : -1;
    free(real);
    return status;
}
