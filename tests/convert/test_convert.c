/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern_convert: a whole model directory or nothing. Failure is injected at every allocation, every
 * file size and every progress call; after each the parent directory holds what it held before.
 */
#include "base/file.h"
#include "base/memory.h"
#include "kvern.h"
#include "model/manifest.h"
#include "support/tiny_checkpoint.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/kvern-convert-XXXXXX";
static char *source, *place, *target; /* target lies in place */

static void put_file(const char *folder, const char *name, const char *text)
{
    char *path = path_join(folder, name);
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    free(path);
}

static size_t count_entries(const char *path)
{
    DIR *stream = opendir(path);
    struct dirent *entry;
    size_t n = 0;

    if (!stream)
        return 0;
    while ((entry = readdir(stream)))
        n += entry->d_name[0] != '.';
    closedir(stream);
    return n;
}

/* A fresh checkpoint with tokenizer and template, and an empty place for the target. */
static int set_up(void **state)
{
    struct tiny_options options = tiny_options("qwen2");
    char text[6000];

    (void)state;
    if (!mkdtemp(strcpy(directory, "/tmp/kvern-convert-XXXXXX")))
        return -1;
    source = path_join(directory, "source");
    place = path_join(directory, "place");
    target = path_join(place, "model");
    tiny_checkpoint_write(source, &options);
    memset(text, ' ', sizeof text);
    memcpy(text, "{}", 2);
    text[sizeof text - 1] = '\0';
    put_file(source, "tokenizer.json", text);
    put_file(source, "chat_template.jinja", "{{ messages }}");
    return directory_make(place, NULL) == KVERN_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    directory_remove(target, NULL);
    directory_remove(place, NULL);
    directory_remove(source, NULL);
    free(source);
    free(place);
    free(target);
    return directory_remove(directory, NULL) == KVERN_OK ? 0 : -1;
}

static kvern_convert_options default_options(void)
{
    kvern_convert_options options;

    kvern_convert_options_init(&options);
    options.source = source;
    options.target = target;
    return options;
}

static void convert_or_fail(const kvern_convert_options *options)
{
    kvern_error err = {0};

    if (kvern_convert(options, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

static struct manifest read_target(void)
{
    struct manifest manifest;
    kvern_error err = {0};

    if (manifest_read(&manifest, target, &err) != KVERN_OK ||
        manifest_verify(&manifest, target, INT64_MAX, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return manifest;
}

static void test_whole_directory(void **state)
{
    static const struct {
        const char *weights;
        const char *table;
        const char *expected;
    } cases[] = {{NULL, NULL, "q8"}, {"q4", NULL, "mixed"},  {"q4", "q4", "q4"},
                 {"q8", NULL, "q8"}, {"q8", "f32", "mixed"}, {"f32", NULL, "f32"},
                 {NULL, "q8", "q8"}, {"f32", "f32", "f32"}};
    char *with_slash = path_join(place, "model//");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kvern_convert_options options = default_options();
        struct manifest manifest;

        options.weights = cases[i].weights;
        options.table = cases[i].table;
        options.overwrite = true;
        options.target = with_slash;
        convert_or_fail(&options);
        manifest = read_target();
        assert_string_equal(manifest.name, "model");
        assert_string_equal(manifest.contract, "paged");
        assert_string_equal(manifest.weights, cases[i].expected);
        assert_string_equal(manifest.source, "source");
        assert_string_equal(manifest.source_format, "safetensors");
        assert_int_equal(manifest.config.family, FAMILY_QWEN2);
        assert_int_equal(manifest.n_files, 4);
        /* embedding, 2 layers of (q k v o, gate up down, 2 norms, 3 biases), norm */
        assert_int_equal(manifest.n_parameters,
                         100 * 96 + 2 * (96 * 64 + 96 * 32 + 3 * 96 * 160 + 2 * 96 + 64) + 96);
        assert_int_equal(count_entries(target), 5);
        assert_int_equal(count_entries(place), 1);
    }
    free(with_slash);
}

static void test_same_input_same_bytes(void **state)
{
    kvern_convert_options options = default_options();
    struct manifest first, second;

    (void)state;
    convert_or_fail(&options);
    first = read_target();
    options.overwrite = true;
    convert_or_fail(&options);
    second = read_target();
    assert_memory_equal(first.files, second.files, sizeof first.files);
}

static void test_target_is_there(void **state)
{
    kvern_convert_options options = default_options();
    kvern_error err = {0};
    char *file;

    (void)state;
    assert_int_equal(directory_make(target, NULL), KVERN_OK);
    put_file(target, "mine.txt", "precious");
    assert_int_equal(kvern_convert(&options, &err), KVERN_INVALID);
    assert_non_null(strstr(err.message, "is there already"));
    options.overwrite = true; /* only a model directory is replaced */
    assert_int_equal(kvern_convert(&options, &err), KVERN_INVALID);
    assert_non_null(strstr(err.message, "is no model directory"));
    file = path_join(target, "mine.txt");
    assert_true(file_exists(file));
    free(file);
    assert_int_equal(count_entries(place), 1);
}

static void test_overwrite(void **state)
{
    kvern_convert_options options = default_options();

    (void)state;
    options.name = "first";
    convert_or_fail(&options);
    put_file(target, "old.txt", "");
    options.name = "second";
    assert_int_equal(kvern_convert(&options, NULL), KVERN_INVALID);
    assert_string_equal(read_target().name, "first");
    options.overwrite = true;
    convert_or_fail(&options);
    assert_string_equal(read_target().name, "second");
    assert_int_equal(count_entries(target), 5);
    assert_int_equal(count_entries(place), 1);
}

struct stopper {
    int n_calls;
    int stop_at;
    int64_t last_done;
    int64_t total;
};

static bool count_and_stop(const char *what, int64_t done, int64_t total, void *user_data)
{
    struct stopper *stopper = user_data;

    assert_true(what[0] != '\0');
    assert_true(done >= stopper->last_done && done <= total);
    stopper->last_done = done;
    stopper->total = total;
    return stopper->n_calls++ != stopper->stop_at;
}

static void test_cancel(void **state)
{
    kvern_convert_options options = default_options();
    struct stopper all = {.stop_at = -1};
    kvern_error err = {0};

    (void)state;
    options.on_progress = count_and_stop;
    options.on_progress_data = &all;
    options.name = "first";
    convert_or_fail(&options);
    assert_true(all.n_calls > 10);
    assert_true(all.last_done == all.total);
    options.name = "second";
    options.overwrite = true;
    for (int i = 0; i < all.n_calls; i++) {
        struct stopper stopper = {.stop_at = i};

        options.on_progress_data = &stopper;
        assert_int_equal(kvern_convert(&options, &err), KVERN_CANCELLED);
        assert_int_equal(count_entries(place), 1);
    }
    assert_string_equal(read_target().name, "first");
}

static void test_every_allocation_fails(void **state)
{
    kvern_convert_options options = default_options();
    kvern_status status = KVERN_MEMORY;
    int n_failed = 0;

    (void)state;
    while (status != KVERN_OK) {
        kvern_error err = {0};

        memory_fail_after(n_failed);
        status = kvern_convert(&options, &err);
        memory_fail_after(-1);
        if (status == KVERN_OK)
            break;
        n_failed++;
        assert_int_equal(status, KVERN_MEMORY);
        assert_true(err.message[0] != '\0');
        assert_int_equal(count_entries(place), 0);
    }
    assert_true(n_failed > 50);
    read_target();
}

/* A file size limit stands for a full disk: the write that crosses it fails. */
static void test_disk_full(void **state)
{
    static const rlim_t limits[] = {0, 100, 4096, 5000, 6500, 20000, 60000, 1 << 17};
    kvern_convert_options options = default_options();
    struct rlimit before, limited;
    int n_failed = 0;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        kvern_error err = {0};
        kvern_status status;

        limited = before;
        limited.rlim_cur = limits[i];
        options.weights = i % 2 ? "q4" : "f32";
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
        status = kvern_convert(&options, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        if (status == KVERN_OK) {
            directory_remove(target, NULL);
            continue;
        }
        n_failed++;
        assert_int_equal(status, KVERN_IO);
        assert_non_null(strstr(err.message, "cannot write"));
        assert_non_null(strstr(err.message, "File too large"));
        assert_int_equal(count_entries(place), 0);
    }
    assert_true(n_failed >= 7);
}

/* Whether a sparse file of 2 TB can be made here and 1.5 TB are not free. */
static bool can_test_space(void)
{
    char *path = path_join(place, "probe");
    FILE *file = fopen(path, "wb");
    struct statvfs info;
    bool can = file && ftruncate(fileno(file), (off_t)1 << 41) == 0 && statvfs(place, &info) == 0 &&
               (double)info.f_bavail * (double)info.f_frsize < 1.5e12;

    if (file)
        fclose(file);
    unlink(path);
    free(path);
    return can;
}

/* 1.6 TB of zeros that take no disk as a source, and more than this machine has free as a target.
 */
static void test_no_space(void **state)
{
    struct tiny_options tiny = tiny_options("llama");
    kvern_convert_options options = default_options();
    struct stopper stopper = {.stop_at = 0};
    kvern_error err = {0};

    (void)state;
    if (!can_test_space())
        skip();
    tiny.hidden_size = 1 << 17;
    tiny.intermediate_size = 1 << 20;
    tiny.n_layers = 1;
    tiny.is_sparse = true;
    tiny_checkpoint_write(source, &tiny);
    options.weights = "f32";
    options.on_progress = count_and_stop;
    options.on_progress_data = &stopper;
    assert_int_equal(kvern_convert(&options, &err), KVERN_IO);
    assert_non_null(strstr(err.message, "MB are free"));
    assert_non_null(strstr(err.message, " needs 15729"));
    assert_int_equal(count_entries(place), 0);
}

static void test_parents(void **state)
{
    kvern_convert_options options = default_options();
    struct stopper stopper = {.stop_at = 3};
    char *parent = path_join(target, "deeper");
    char *deep = path_join(parent, "model");

    (void)state;
    options.target = deep;
    options.on_progress = count_and_stop;
    options.on_progress_data = &stopper;
    assert_int_equal(kvern_convert(&options, NULL), KVERN_CANCELLED);
    assert_int_equal(count_entries(place), 0);
    options.on_progress = NULL;
    convert_or_fail(&options);
    assert_int_equal(count_entries(deep), 5);
    assert_int_equal(count_entries(parent), 1);
    directory_remove(deep, NULL);
    free(parent);
    free(deep);
}

static void test_bad_arguments(void **state)
{
    struct {
        const char *source;
        const char *target;
        const char *weights;
        const char *name;
        kvern_status status;
        const char *message;
    } cases[] = {
        {NULL, "t", NULL, NULL, KVERN_INVALID, "needs a source and a target"},
        {"s", "", NULL, NULL, KVERN_INVALID, "needs a source and a target"},
        {"s", "t", "q5", NULL, KVERN_INVALID, "\"q5\""},
        {"s", "t", NULL, "", KVERN_INVALID, "name \"\""},
        {"s", "t", NULL, "a\xff", KVERN_INVALID, "is not UTF-8"},
        {"/nonexistent/source", "t", NULL, NULL, KVERN_NOT_FOUND, "/nonexistent/source"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kvern_convert_options options = default_options();
        kvern_error err = {0};

        options.source = cases[i].source && cases[i].source[0] == 's' ? source : cases[i].source;
        options.target = cases[i].target[0] == 't' ? target : cases[i].target;
        options.weights = cases[i].weights;
        options.name = cases[i].name;
        assert_int_equal(kvern_convert(&options, &err), cases[i].status);
        if (!strstr(err.message, cases[i].message))
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].message);
        assert_int_equal(count_entries(place), 0);
    }
}

static void test_bad_sources(void **state)
{
    static const struct {
        struct tiny_options change;
        kvern_status status;
        const char *message;
        const char *weights;
    } cases[] = {
        {{.family = "gemma"}, KVERN_UNSUPPORTED, "gemma"},
        {{.family = "llama", .leave_out = "model.norm.weight"}, KVERN_FORMAT, "model.norm.weight"},
        {{.family = "llama", .extra = "model.layers.0.adapter"}, KVERN_UNSUPPORTED, "adapter"},
        {{.family = "llama", .hidden_size = 80}, KVERN_UNSUPPORTED, "K = 80", "q8"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tiny_options tiny = tiny_options(cases[i].change.family);
        kvern_convert_options options = default_options();
        kvern_error err = {0};

        tiny.leave_out = cases[i].change.leave_out;
        tiny.extra = cases[i].change.extra;
        if (cases[i].change.hidden_size)
            tiny.hidden_size = cases[i].change.hidden_size;
        options.weights = cases[i].weights;
        tiny_checkpoint_write(source, &tiny);
        assert_int_equal(kvern_convert(&options, &err), cases[i].status);
        if (!strstr(err.message, cases[i].message))
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].message);
        assert_int_equal(count_entries(place), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole_directory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_same_input_same_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_target_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_overwrite, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_allocation_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_disk_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_space, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parents, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_arguments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_sources, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
