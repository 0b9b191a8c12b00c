/* SPDX-License-Identifier: Apache-2.0
 *
 * A model directory whose files are not what they seem: links, pipes and directories in a file's
 * place, and graphs that put their tensors elsewhere. Whatever lies there holds the right bytes, so
 * that only the check of the place can refuse it; the manifest agrees, as an attacker's would.
 */
#include "test.h"

#include "base/file.h"
#include "system/support_files.h"
#include "system/support_small.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *directory, *gguf, *model;
static char *outside; /* a file beside the model directory */
static struct manifest manifest;
static struct small_answer expected;

static int set_up(void **state)
{
    kvern_model *opened = NULL;
    kvern_error err = {0};

    (void)state;
    directory = make_directory();
    gguf = path_join(directory, "small.gguf");
    model = path_join(directory, "small");
    outside = path_join(directory, "outside.data");
    make_small_model(gguf, model);
    if (manifest_read(&manifest, model, &err) != KVERN_OK ||
        kvern_model_open(&opened, model, &err) != KVERN_OK ||
        run_small_model(opened, NULL, &expected, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    kvern_model_close(opened);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    directory_remove(model, NULL);
    bool is_empty = directory_remove(directory, NULL) == KVERN_OK;
    free(outside);
    free(model);
    free(gguf);
    free(directory);
    return is_empty ? 0 : -1;
}

/* It must be refused in one sentence with both words in it. */
static void assert_refused(const char *what, const char *name, const char *says)
{
    kvern_model *opened = NULL;
    kvern_error err = {0};
    kvern_status status = kvern_model_open(&opened, model, &err);

    if (status == KVERN_OK) {
        kvern_model_close(opened);
        fail_msg("%s, %s: it was opened", name, what);
    }
    check_message(status, &err, name);
    if (!strstr(err.message, says))
        fail_msg("%s, %s: \"%s\" does not say \"%s\"", name, what, err.message, says);
}

static void assert_runs(const char *path)
{
    kvern_model *opened = NULL;
    struct small_answer answer = {0};
    kvern_error err = {0};

    if (kvern_model_open(&opened, path, &err) != KVERN_OK ||
        run_small_model(opened, NULL, &answer, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    kvern_model_close(opened);
    assert_memory_equal(&answer, &expected, sizeof answer);
}

enum place { LINK_OUT, LINK_IN, LINK_CHAIN, LINK_BROKEN, HARD_LINK, DIRECTORY, PIPE, GONE };

/* Puts something else in the place of `path`, whose bytes are in `outside`. */
static void put(enum place place, const char *path)
{
    char *within = path_join(model, "aside");

    switch (place) {
    case LINK_OUT:
        assert_int_equal(symlink("../outside.data", path), 0);
        break;
    case LINK_IN:
        copy_whole(outside, within);
        assert_int_equal(symlink("aside", path), 0);
        break;
    case LINK_CHAIN:
        assert_int_equal(symlink(outside, within), 0);
        assert_int_equal(symlink("aside", path), 0);
        break;
    case LINK_BROKEN:
        assert_int_equal(symlink("nowhere", path), 0);
        break;
    case HARD_LINK:
        assert_int_equal(link(outside, path), 0);
        break;
    case DIRECTORY:
        assert_int_equal(mkdir(path, 0777), 0);
        break;
    case PIPE:
        assert_int_equal(mkfifo(path, 0666), 0);
        break;
    case GONE:
        break;
    }
    free(within);
}

static void other_things_in_a_files_place(void **state)
{
    static const struct {
        const char *what;
        enum place place;
        const char *says;
    } places[] = {
        {"a link out", LINK_OUT, "is not a regular file"},
        {"a link to a neighbour", LINK_IN, "is not a regular file"},
        {"a link to a link", LINK_CHAIN, "is not a regular file"},
        {"a broken link", LINK_BROKEN, "is not a regular file"},
        {"a hard link", HARD_LINK, "has 2 hard links"},
        {"a directory", DIRECTORY, "is not a regular file"},
        {"a pipe", PIPE, "is not a regular file"},
        {"nothing", GONE, "No such file"},
    };
    static const char *const names[] = {"model.onnx.data", "model.onnx", "tokenizer.json",
                                        "chat_template.jinja"};
    char *within = path_join(model, "aside");

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        char *path = path_join(model, names[i]);

        for (size_t j = 0; j < COUNT(places); j++) {
            assert_int_equal(rename(path, outside), 0);
            put(places[j].place, path);
            assert_refused(places[j].what, names[i], places[j].says);
            remove(path); /* a file or an empty directory */
            unlink(within);
            assert_int_equal(rename(outside, path), 0);
        }
        free(path);
    }
    assert_runs(model);
    free(within);
}

/* The manifest itself has no manifest. */
static void a_manifest_that_is_a_link(void **state)
{
    char *path = path_join(model, "kvern.json");

    (void)state;
    assert_int_equal(rename(path, outside), 0);
    assert_int_equal(symlink("../outside.data", path), 0);
    assert_refused("a link", "kvern.json", "is not a regular file");
    assert_int_equal(rename(outside, path), 0);
    assert_runs(model);
    free(path);
}

/* The text files are checked because the manifest names them: one that it does not name would be
 * read unchecked. */
static void a_file_that_the_manifest_does_not_name(void **state)
{
    static const char *const names[] = {"tokenizer.json", "chat_template.jinja"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct manifest other = manifest;
        size_t n = 0;

        for (size_t j = 0; j < manifest.n_files; j++) {
            if (strcmp(manifest.files[j].name, names[i]) != 0)
                other.files[n++] = manifest.files[j];
        }
        assert_int_equal(n, manifest.n_files - 1);
        other.n_files = n;
        assert_int_equal(manifest_write(&other, model, NULL), KVERN_OK);
        assert_refused("unnamed", names[i], "kvern.json does not name it");
    }
    assert_int_equal(manifest_write(&manifest, model, NULL), KVERN_OK);
    assert_runs(model);
}

/* People keep models behind links: that is their own link, not the model's. */
static void a_link_to_the_whole_directory_is_fine(void **state)
{
    char *path = path_join(directory, "linked");

    (void)state;
    assert_int_equal(symlink("small", path), 0);
    assert_runs(path);
    unlink(path);
    free(path);
}

static void replace_all(struct buffer *bytes, const char *from, const char *to, size_t n)
{
    size_t n_found = 0;

    for (size_t i = 0; i + n <= bytes->n_bytes; i++) {
        if (memcmp(bytes->data + i, from, n) == 0) {
            memcpy(bytes->data + i, to, n);
            n_found++;
        }
    }
    assert_true(n_found > 0);
}

/* Graphs whose tensors lie in another file, which is there and holds their bytes. */
static void tensors_that_lie_elsewhere(void **state)
{
    static const char location[] = "model.onnx.data";
    static const struct {
        char location[sizeof location]; /* as long: lengths in the file stay */
        const char *at;                 /* where the bytes are; NULL: as the location says */
        const char *says;
        bool is_link;  /* a link to them */
        bool is_named; /* the manifest names it */
    } cases[] = {
        {"../outside.data", NULL, "\"../outside.data\", which is no file of kvern.json"},
        {"sub/weight.data", NULL, "\"sub/weight.data\", which is no file of kvern.json"},
        {"./weights1.data", NULL, "\"./weights1.data\", which is no file of kvern.json"},
        {"other.onnx.data", NULL, "\"other.onnx.data\", which is no file of kvern.json"},
        {"other.onnx.data", NULL, "is no file of kvern.json", true},
        {"other.onnx.data", NULL, "is not a regular file", true, true},
        {"../outside.data", NULL, "leads out of the model directory", false, true},
        {"sub/weight.data", NULL, "leads out of the model directory", false, true},
        {"model.onnx.dat", "model.onnx.dat", "is no file of kvern.json"}, /* ends in a NUL */
        {"/proc/self/exe_", "outside", "is no file of kvern.json"},
        {"model.onnx.DATA", "outside", "is no file of kvern.json"},
    };
    char *graph_path = path_join(model, "model.onnx");
    char *data_path = path_join(model, location);
    char *sub = path_join(model, "sub");
    struct buffer graph = read_whole(graph_path);

    (void)state;
    copy_whole(data_path, outside);
    assert_int_equal(mkdir(sub, 0777), 0);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer changed = {0};
        struct manifest forged = manifest;
        char *path = path_join(model, cases[i].at ? cases[i].at : cases[i].location);
        const char *name = cases[i].is_named ? cases[i].location : "model.onnx";

        buffer_add(&changed, graph.data, graph.n_bytes);
        replace_all(&changed, location, cases[i].location, sizeof location - 1);
        write_whole(graph_path, changed.data, changed.n_bytes);
        if (cases[i].is_link)
            assert_int_equal(symlink(outside, path), 0);
        else
            copy_whole(data_path, path);
        if (cases[i].is_named)
            assert_int_equal(manifest_add_file(&forged, model, cases[i].location, NULL), KVERN_OK);
        forge_manifest(&forged, model, "model.onnx");
        assert_refused(cases[i].location, name, cases[i].says);
        unlink(path);
        buffer_clear(&changed);
        free(path);
        copy_whole(data_path, outside); /* "../outside.data" was just removed */
    }
    write_whole(graph_path, graph.data, graph.n_bytes);
    assert_int_equal(manifest_write(&manifest, model, NULL), KVERN_OK);
    assert_int_equal(rmdir(sub), 0);
    unlink(outside);
    assert_runs(model);
    buffer_clear(&graph);
    free(sub);
    free(data_path);
    free(graph_path);
}

/* A plain second file is no crime: the same bytes under another name the manifest knows. */
static void tensors_in_another_named_file(void **state)
{
    static const char location[] = "model.onnx.data";
    static const char other[] = "other.onnx.data";
    char *graph_path = path_join(model, "model.onnx");
    char *data_path = path_join(model, location);
    char *other_path = path_join(model, other);
    struct buffer graph = read_whole(graph_path);
    struct buffer changed = {0};
    struct manifest forged = manifest;

    (void)state;
    buffer_add(&changed, graph.data, graph.n_bytes);
    replace_all(&changed, location, other, sizeof location - 1);
    write_whole(graph_path, changed.data, changed.n_bytes);
    copy_whole(data_path, other_path);
    assert_int_equal(manifest_add_file(&forged, model, other, NULL), KVERN_OK);
    forge_manifest(&forged, model, "model.onnx");
    assert_runs(model);
    write_whole(graph_path, graph.data, graph.n_bytes);
    assert_int_equal(manifest_write(&manifest, model, NULL), KVERN_OK);
    unlink(other_path);
    buffer_clear(&changed);
    buffer_clear(&graph);
    free(other_path);
    free(data_path);
    free(graph_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_things_in_a_files_place),
        cmocka_unit_test(a_manifest_that_is_a_link),
        cmocka_unit_test(a_file_that_the_manifest_does_not_name),
        cmocka_unit_test(a_link_to_the_whole_directory_is_fine),
        cmocka_unit_test(tensors_that_lie_elsewhere),
        cmocka_unit_test(tensors_in_another_named_file),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
