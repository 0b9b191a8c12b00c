/* SPDX-License-Identifier: Apache-2.0
 *
 * Damaged files, through the public API: over 300 truncations and bit flips of every file kvern
 * reads. Each either works or is refused in one sentence that names the file; none crashes, and
 * none leaves anything behind.
 */
#include "test.h"

#include "base/file.h"
#include "model/manifest.h"
#include "support/tiny_checkpoint.h"
#include "system/support_files.h"
#include "system/support_small.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_MUTATIONS = 320 };

static char *directory;
static char *gguf, *checkpoint, *place, *target; /* target lies in place */
static char *encoder_checkpoint;

/* Converted from gguf, and from encoder_checkpoint. */
static struct model_directory {
    char *path;
    struct manifest manifest; /* undamaged */
} model, encoder;

static int set_up(void **state)
{
    struct tiny_options tiny = tiny_options("qwen2");
    struct tiny_options tiny_encoder = tiny_options("bert");
    kvern_convert_options options;
    kvern_error err = {0};

    (void)state;
    tiny.n_layers = tiny_encoder.n_layers = 1;
    directory = make_directory();
    gguf = path_join(directory, "small.gguf");
    checkpoint = path_join(directory, "checkpoint");
    place = path_join(directory, "place");
    target = path_join(place, "model");
    encoder_checkpoint = path_join(directory, "encoder");
    model.path = path_join(directory, "small");
    encoder.path = path_join(directory, "small-encoder");
    make_small_model(gguf, model.path);
    tiny_checkpoint_write(checkpoint, &tiny);
    tiny_checkpoint_write(encoder_checkpoint, &tiny_encoder);
    assert_int_equal(directory_make(place, NULL), KVERN_OK);
    kvern_convert_options_init(&options);
    options.source = encoder_checkpoint;
    options.target = encoder.path;
    if (kvern_convert(&options, &err) != KVERN_OK ||
        manifest_read(&model.manifest, model.path, &err) != KVERN_OK ||
        manifest_read(&encoder.manifest, encoder.path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(gguf);
    empty_directory(place);
    directory_remove(model.path, NULL);
    directory_remove(encoder.path, NULL);
    directory_remove(place, NULL);
    directory_remove(checkpoint, NULL);
    directory_remove(encoder_checkpoint, NULL);
    free(gguf);
    free(checkpoint);
    free(place);
    free(target);
    free(model.path);
    free(encoder.path);
    free(encoder_checkpoint);
    bool is_empty = directory_remove(directory, NULL) == KVERN_OK;
    free(directory);
    return is_empty ? 0 : -1;
}

/* Text in and out: whatever the tokenizer holds, it may not crash. */
static kvern_status use_text(const kvern_model *opened, kvern_error *err)
{
    static const char text[] = "abc <s> abc\xff\n";
    const kvern_message message = {"user", "abc"};
    kvern_tokens tokens = {0};
    char *back = NULL;
    size_t n_bytes;
    kvern_status status =
        kvern_tokenize(opened, text, sizeof text - 1, KVERN_TOKENIZE_SPECIAL, &tokens, err);

    if (status == KVERN_OK)
        status = kvern_detokenize(opened, tokens.ids, tokens.n, true, &back, &n_bytes, err);
    kvern_free(back);
    kvern_tokens_clear(&tokens);
    if (status == KVERN_OK) {
        status = kvern_chat_tokenize(opened, &message, 1, true, &tokens, err);
        kvern_tokens_clear(&tokens);
    }
    return status;
}

static kvern_status open_and_run(const char *path, bool has_text, kvern_error *err)
{
    struct small_answer answer;
    kvern_request_options options;
    kvern_model_info info;
    kvern_model *opened = NULL;
    kvern_status status = kvern_model_open(&opened, path, err);

    kvern_request_options_init(&options);
    if (status == KVERN_OK) {
        kvern_model_get_info(opened, &info);
        options.embed = info.is_encoder;
        options.pooling = KVERN_POOLING_MEAN;
    }

    if (status == KVERN_OK && has_text)
        status = use_text(opened, err);
    if (status == KVERN_OK)
        status = run_small_model(opened, &options, &answer, err);
    kvern_model_close(opened);
    return status;
}

/* Puts mutations of `path` in its place, one after the other, and converts `source`. */
static void convert_mutations(const char *path, const char *source)
{
    struct buffer whole = read_whole(path);
    uint64_t state = 0x9e3779b97f4a7c15u;
    int n_refused = 0;

    for (int i = 0; i < N_MUTATIONS; i++) {
        struct buffer bad = mutate(&whole, i, &state);
        kvern_convert_options options;
        kvern_error err = {0};
        kvern_status status;
        char *names;

        write_whole(path, bad.data, bad.n_bytes);
        kvern_convert_options_init(&options);
        options.source = source;
        options.target = target;
        options.weights = i % 3 ? "q8" : "q4";
        status = kvern_convert(&options, &err);
        names = list_directory(place);
        assert_string_equal(names, status == KVERN_OK ? "model\n" : "");
        free(names);
        if (status != KVERN_OK) {
            check_message(status, &err,
                          strstr(err.message, path_base(path)) ? path_base(path)
                                                               : path_base(source));
            n_refused++;
        } else {
            status = open_and_run(target, false, &err);
            if (status != KVERN_OK)
                check_message(status, &err, "");
            directory_remove(target, NULL);
        }
        buffer_clear(&bad);
    }
    write_whole(path, whole.data, whole.n_bytes);
    buffer_clear(&whole);
    assert_in_range(n_refused, N_MUTATIONS / 8, N_MUTATIONS);
}

static void test_gguf(void **state)
{
    (void)state;
    convert_mutations(gguf, gguf);
}

static void test_safetensors(void **state)
{
    char *path = path_join(checkpoint, "model.safetensors");

    (void)state;
    convert_mutations(path, checkpoint);
    free(path);
}

static void test_config(void **state)
{
    char *path = path_join(checkpoint, "config.json");

    (void)state;
    convert_mutations(path, checkpoint);
    free(path);
}

/* Mutations of a file of a model directory; returns how many were refused. */
static int open_mutations(const struct model_directory *of, const char *name, bool is_forged,
                          bool has_text)
{
    char *path = path_join(of->path, name);
    char *before = list_directory(of->path);
    struct buffer whole = read_whole(path);
    uint64_t state = 0x2545f4914f6cdd1du;
    int n_refused = 0;

    for (int i = 0; i < N_MUTATIONS; i++) {
        struct buffer bad = mutate(&whole, i, &state);
        kvern_error err = {0};
        kvern_status status;
        char *after;

        write_whole(path, bad.data, bad.n_bytes);
        if (is_forged)
            forge_manifest(&of->manifest, of->path, name);
        status = open_and_run(of->path, has_text, &err);
        if (status != KVERN_OK) {
            /* values out of range are seen in the vector alone */
            bool is_of_vector = strstr(err.message, "of the embedding is not finite") != NULL;

            check_message(status, &err, has_text || is_of_vector ? "" : name);
            n_refused++;
        }
        after = list_directory(of->path);
        assert_string_equal(after, before);
        free(after);
        buffer_clear(&bad);
    }
    write_whole(path, whole.data, whole.n_bytes);
    assert_int_equal(manifest_write(&of->manifest, of->path, NULL), KVERN_OK);
    buffer_clear(&whole);
    free(before);
    free(path);
    return n_refused;
}

static void test_damaged_model(void **state)
{
    kvern_error err = {0};

    (void)state;
    if (open_and_run(model.path, true, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(open_mutations(&model, "model.onnx", false, false), N_MUTATIONS);
    assert_int_equal(open_mutations(&model, "tokenizer.json", false, false), N_MUTATIONS);
}

static void test_forged_graph(void **state)
{
    (void)state;
    assert_in_range(open_mutations(&model, "model.onnx", true, false), N_MUTATIONS / 2,
                    N_MUTATIONS);
}

static void test_forged_tokenizer(void **state)
{
    (void)state;
    assert_in_range(open_mutations(&model, "tokenizer.json", true, true), N_MUTATIONS / 8,
                    N_MUTATIONS);
}

static void test_manifest(void **state)
{
    (void)state;
    assert_in_range(open_mutations(&model, "kvern.json", false, false), N_MUTATIONS / 4,
                    N_MUTATIONS);
}

static void test_encoder_checkpoint(void **state)
{
    static const char *const names[] = {"model.safetensors", "config.json"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        char *path = path_join(encoder_checkpoint, names[i]);

        convert_mutations(path, encoder_checkpoint);
        free(path);
    }
}

static void test_encoder_model(void **state)
{
    kvern_error err = {0};

    (void)state;
    if (open_and_run(encoder.path, false, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(open_mutations(&encoder, "model.onnx", false, false), N_MUTATIONS);
    assert_in_range(open_mutations(&encoder, "model.onnx", true, false), N_MUTATIONS / 2,
                    N_MUTATIONS);
    assert_in_range(open_mutations(&encoder, "kvern.json", false, false), N_MUTATIONS / 4,
                    N_MUTATIONS);
}

static void test_tokenizer_file(void **state)
{
    char *from = path_join(model.path, "tokenizer.json");
    char *path = path_join(place, "tokenizer.json");
    struct buffer whole = read_whole(from);
    uint64_t random = 5;

    (void)state;
    for (int i = 0; i < N_MUTATIONS; i++) {
        struct buffer bad = mutate(&whole, i, &random);
        kvern_tokens tokens = {0};
        kvern_error err = {0};
        char **pieces = NULL;
        kvern_status status;

        write_whole(path, bad.data, bad.n_bytes);
        status = kvern_tokenize_with_file(path, "abc ab<s>", 9, KVERN_TOKENIZE_CONTROL, &tokens,
                                          &pieces, &err);
        if (status != KVERN_OK)
            check_message(status, &err, "tokenizer.json");
        kvern_strings_free(pieces, tokens.n);
        kvern_tokens_clear(&tokens);
        buffer_clear(&bad);
    }
    unlink(path);
    buffer_clear(&whole);
    free(path);
    free(from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_safetensors),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_damaged_model),
        cmocka_unit_test(test_forged_graph),
        cmocka_unit_test(test_forged_tokenizer),
        cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_tokenizer_file),
        cmocka_unit_test(test_encoder_checkpoint),
        cmocka_unit_test(test_encoder_model),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
