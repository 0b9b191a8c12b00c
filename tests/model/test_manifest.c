/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern.json: what is written reads back equal, every damaged member is refused by name, and the
 * files are compared with what the manifest says of them.
 */
#include "model/manifest.h"

#include "base/file.h"
#include "support/scratch.h"
#include "test.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A manifest of every kind of value, with two files in the scratch directory. */
static struct manifest example(void)
{
    struct manifest manifest = {
        .name = "tiny",
        .contract = "paged",
        .weights = "q4",
        .kv_types = MANIFEST_KV_F16 | MANIFEST_KV_F32,
        .n_parameters = 1234567890123,
        .source = "tiny.gguf",
        .source_format = "gguf",
        .config = {.family = FAMILY_QWEN3,
                   .n_layers = 2,
                   .n_heads = 4,
                   .n_kv_heads = 2,
                   .head_size = 16,
                   .hidden_size = 96,
                   .intermediate_size = 160,
                   .vocab_size = 100,
                   .max_positions = 2048,
                   .sliding_window = 512,
                   .rope_theta = 1e6f,
                   .rope_scaling = ROPE_SCALING_LLAMA3,
                   .rope_factor = 8,
                   .rope_low_freq_factor = 1,
                   .rope_high_freq_factor = 4,
                   .rope_original_max_positions = 1024,
                   .norm_epsilon = 1e-6f,
                   .is_tied = true,
                   .has_qk_norm = true,
                   .activation = MODEL_ACTIVATION_GELU_TANH,
                   .bos = -1,
                   .pad = 3,
                   .eos = {1, 99},
                   .n_eos = 2},
    };

    scratch_put_text("model.onnx", "graph");
    scratch_put_text("model.onnx.data", "weights");
    assert_int_equal(manifest_add_file(&manifest, scratch, "model.onnx", NULL), KVERN_OK);
    assert_int_equal(manifest_add_file(&manifest, scratch, "model.onnx.data", NULL), KVERN_OK);
    return manifest;
}

static void test_round_trip(void **state)
{
    struct manifest read, written = example();

    (void)state;
    for (int scaling = ROPE_SCALING_NONE; scaling <= ROPE_SCALING_DIVISORS; scaling++) {
        struct manifest expected = written;
        struct model_config *config = &expected.config;
        kvern_error err = {0};

        config->rope_scaling = (enum rope_scaling)scaling;
        if (scaling != ROPE_SCALING_LLAMA3) {
            config->rope_low_freq_factor = config->rope_high_freq_factor = 0;
            config->rope_original_max_positions = 0;
        }
        if (scaling == ROPE_SCALING_NONE || scaling == ROPE_SCALING_DIVISORS)
            config->rope_factor = 0;
        for (int i = 0; scaling == ROPE_SCALING_DIVISORS && i < 8; i++)
            config->rope_divisors[i] = 1.0f + (float)i / 3;
        assert_int_equal(manifest_write(&expected, scratch, NULL), KVERN_OK);
        if (manifest_read(&read, scratch, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        assert_memory_equal(&read.config, config, sizeof *config);
        assert_memory_equal(&read.files, &expected.files, sizeof read.files);
        assert_string_equal(read.name, "tiny");
        assert_string_equal(read.contract, "paged");
        assert_string_equal(read.weights, "q4");
        assert_string_equal(read.source, "tiny.gguf");
        assert_string_equal(read.source_format, "gguf");
        assert_int_equal(read.kv_types, expected.kv_types);
        assert_true(read.n_parameters == 1234567890123);
        assert_int_equal(read.n_files, 2);
        assert_int_equal(manifest_verify(&read, scratch, INT64_MAX, NULL), KVERN_OK);
    }
}

/* A manifest of an encoder that says all it can about embedding. */
static struct manifest encoder_example(void)
{
    struct manifest manifest = example();

    snprintf(manifest.contract, sizeof manifest.contract, "encoder");
    manifest.kv_types = 0;
    manifest.config = (struct model_config){.family = FAMILY_BERT,
                                            .n_layers = 2,
                                            .n_heads = 6,
                                            .n_kv_heads = 6,
                                            .head_size = 16,
                                            .hidden_size = 96,
                                            .intermediate_size = 160,
                                            .vocab_size = 100,
                                            .max_positions = 64,
                                            .norm_epsilon = 1e-12f,
                                            .has_qkv_bias = true,
                                            .has_o_bias = true,
                                            .has_mlp_bias = true,
                                            .activation = MODEL_ACTIVATION_GELU,
                                            .bos = -1,
                                            .pad = 0};
    manifest.embedding = (struct manifest_embedding){
        .pooling = "mean",
        .is_normalized = true,
        .max_tokens = 32,
        .prompts = {{"query", "Find:\n\"x\" "}, {"document", ""}},
        .n_prompts = 2,
        .default_prompt = "query",
    };
    return manifest;
}

static void assert_embedding(const struct manifest_embedding *read,
                             const struct manifest_embedding *expected)
{
    assert_string_equal(read->pooling, expected->pooling);
    assert_int_equal(read->is_normalized, expected->is_normalized);
    assert_int_equal(read->max_tokens, expected->max_tokens);
    assert_int_equal(read->n_prompts, expected->n_prompts);
    for (size_t i = 0; i < expected->n_prompts; i++) {
        assert_string_equal(read->prompts[i].name, expected->prompts[i].name);
        assert_string_equal(read->prompts[i].text, expected->prompts[i].text);
    }
    assert_string_equal(read->default_prompt, expected->default_prompt);
}

static void test_encoder_round_trip(void **state)
{
    static const char *const activations[] = {"silu", "gelu_tanh", "gelu", "relu"};
    struct manifest written = encoder_example();

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct manifest read;
        kvern_error err = {0};
        char expected[64];
        char *text;

        written.config.activation = (enum model_activation)i;
        assert_int_equal(manifest_format(&written, &text, &err), KVERN_OK);
        snprintf(expected, sizeof expected, "\"activation\": \"%s\"", activations[i]);
        assert_non_null(strstr(text, expected));
        assert_null(strstr(text, "rope"));
        assert_null(strstr(text, "kv_types"));
        if (manifest_parse(&read, text, strlen(text), &err) != KVERN_OK)
            fail_msg("%s", err.message);
        assert_memory_equal(&read.config, &written.config, sizeof read.config);
        assert_string_equal(read.contract, "encoder");
        assert_embedding(&read.embedding, &written.embedding);
        free(text);
    }
}

/* A decoder may be an embedding model too; one that is none says nothing. */
static void test_embedding_of_decoders(void **state)
{
    struct manifest manifest = example();
    char *text;

    (void)state;
    assert_int_equal(manifest_format(&manifest, &text, NULL), KVERN_OK);
    assert_null(strstr(text, "embedding"));
    free(text);
    for (int i = 0; i < 2; i++) {
        struct manifest read;

        manifest.embedding = i ? (struct manifest_embedding){.pooling = "last"}
                               : (struct manifest_embedding){.is_normalized = true};
        assert_int_equal(manifest_format(&manifest, &text, NULL), KVERN_OK);
        assert_int_equal(manifest_parse(&read, text, strlen(text), NULL), KVERN_OK);
        assert_embedding(&read.embedding, &manifest.embedding);
        free(text);
    }
}

/* Replaces the member at `path` ("dims.layers", "files.0.name") by a JSON value; NULL removes it.
 */
static char *damage(const char *text, const char *path, const char *value)
{
    json_t *root = json_loads(text, 0, NULL), *at = root;
    json_t *put = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    char copy[64], *key = copy, *dot;
    char *damaged;

    snprintf(copy, sizeof copy, "%s", path);
    for (; (dot = strchr(key, '.')); key = dot + 1) {
        *dot = '\0';
        at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10))
                               : json_object_get(at, key);
    }
    if (json_is_array(at))
        json_array_set_new(at, strtoul(key, NULL, 10), put);
    else if (value)
        json_object_set_new(at, key, put);
    else
        json_object_del(at, key);
    damaged = json_dumps(root, 0);
    json_decref(root);
    return damaged;
}

static void check_damage(const struct manifest *manifest, const char *path, const char *value,
                         kvern_status expected, const char *message)
{
    struct manifest read;
    kvern_error err = {0};
    char *text;

    assert_int_equal(manifest_format(manifest, &text, NULL), KVERN_OK);
    char *damaged = damage(text, path, value);
    kvern_status status = manifest_parse(&read, damaged, strlen(damaged), &err);
    if (status != expected || !strstr(err.message, message))
        fail_msg("%s = %s gave %s: %s", path, value, kvern_status_name(status), err.message);
    free(damaged);
    free(text);
}

static void test_damaged_members(void **state)
{
    static const struct {
        const char *path;
        const char *value;
        kvern_status status;
        const char *message;
    } cases[] = {
        {"format_version", NULL, KVERN_FORMAT, "format_version is missing"},
        {"format_version", "3", KVERN_UNSUPPORTED,
         "format_version is 3; this kvern reads version 2"},
        {"format_version", "\"1\"", KVERN_FORMAT, "format_version must be an integer"},
        {"name", "\"\"", KVERN_FORMAT, "name has 0 bytes, but must have 1 to 255"},
        {"name", "7", KVERN_FORMAT, "name must be a string"},
        {"family", "\"gpt9\"", KVERN_UNSUPPORTED, "family is \"gpt9\", which kvern does not know"},
        {"contract", "\"cached\"", KVERN_UNSUPPORTED, "contract is \"cached\""},
        {"weights", "\"q3\"", KVERN_UNSUPPORTED, "weights is \"q3\""},
        {"kv_types", "[]", KVERN_UNSUPPORTED, "kv_types names no type"},
        {"n_parameters", "0", KVERN_FORMAT, "n_parameters is 0, but must be from 1"},
        {"dims", "[]", KVERN_FORMAT, "dims must be an object"},
        {"dims.layers", "-1", KVERN_FORMAT, "dims.layers is -1, but must be from 1"},
        {"dims.layers", "9223372036854775807", KVERN_FORMAT, "dims.layers is 9223372036854775807"},
        {"dims.layers", "100000", KVERN_FORMAT, "num_hidden_layers = 100000"},
        {"dims.vocab", "2.5", KVERN_FORMAT, "dims.vocab must be an integer"},
        {"dims.kv_heads", "3", KVERN_FORMAT, "num_attention_heads = 4 is not a multiple"},
        {"dims.head_size", "1024", KVERN_FORMAT, "head_dim = 1024"},
        {"norm_epsilon", "1e300", KVERN_FORMAT, "norm_epsilon is out of range"},
        {"activation", "\"tanh\"", KVERN_UNSUPPORTED, "activation is \"tanh\""},
        {"activation", "\"relu\"", KVERN_UNSUPPORTED,
         "a decoder's activation can be silu or gelu_tanh only"},
        {"contract", "\"encoder\"", KVERN_FORMAT, "contract is \"encoder\", but a model of family"},
        {"tied", "1", KVERN_FORMAT, "tied must be true or false"},
        {"rope.scaling", "\"yarn\"", KVERN_UNSUPPORTED, "rope.scaling is \"yarn\""},
        {"rope.factor", NULL, KVERN_FORMAT, "rope.factor is missing"},
        {"rope.theta", "-5", KVERN_FORMAT, "rope_theta = -5"},
        {"tokens.bos", "100", KVERN_FORMAT, "tokens.bos is 100, but must be from -1 to 99"},
        {"tokens.eos", "[1,2,3,4,5,6,7,8,9]", KVERN_LIMIT, "tokens.eos has 9 ids, over the limit"},
        {"tokens.eos", "[100]", KVERN_FORMAT, "tokens.eos holds something that is no id"},
        {"tokens.eos", "[\"a\"]", KVERN_FORMAT, "tokens.eos holds something that is no id"},
        {"source.file", NULL, KVERN_FORMAT, "source.file is missing"},
        {"files", "[]", KVERN_FORMAT, "files does not name model.onnx"},
        {"files.0", "5", KVERN_FORMAT, "files[].name is missing"},
        {"files.0.name", "\"../secret\"", KVERN_FORMAT, "\"../secret\" leads out"},
        {"files.0.name", "\"/etc/passwd\"", KVERN_FORMAT, "\"/etc/passwd\" leads out"},
        {"files.0.name", "\"..\"", KVERN_FORMAT, "\"..\" leads out"},
        {"files.0.bytes", "-1", KVERN_FORMAT, "files[].bytes is -1"},
        {"files.0.sha256", "\"abc\"", KVERN_FORMAT, "sha256 of model.onnx is not 64 hex digits"},
        {"files.1.name", "\"other\"", KVERN_FORMAT, "files does not name model.onnx.data"},
    };
    struct manifest manifest = example();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_damage(&manifest, cases[i].path, cases[i].value, cases[i].status, cases[i].message);
}

static void test_damaged_encoders(void **state)
{
    static const struct {
        const char *path;
        const char *value;
        kvern_status status;
        const char *message;
    } cases[] = {
        {"contract", "\"paged\"", KVERN_FORMAT,
         "contract is \"paged\", but a model of family bert has the contract encoder"},
        {"family", "\"llama\"", KVERN_FORMAT,
         "contract is \"encoder\", but a model of family llama has the contract paged"},
        {"dims.kv_heads", "3", KVERN_FORMAT, "an encoder has num_key_value_heads = 3, but 6 heads"},
        {"dims.hidden", "64", KVERN_FORMAT, "hidden_size = 64 is not num_attention_heads = 6 x 16"},
        {"norm_epsilon", "2", KVERN_FORMAT, "layer_norm_eps = 2"},
        {"embedding", "[]", KVERN_FORMAT, "embedding must be an object"},
        {"embedding.pooling", "\"max\"", KVERN_UNSUPPORTED, "embedding.pooling is \"max\""},
        {"embedding.pooling", "7", KVERN_UNSUPPORTED, "embedding.pooling is \"(not a string)\""},
        {"embedding.normalized", "1", KVERN_FORMAT, "embedding.normalized must be true or false"},
        {"embedding.max_tokens", "65", KVERN_FORMAT, "embedding.max_tokens must be from 1 to 64"},
        {"embedding.max_tokens", "0", KVERN_FORMAT, "embedding.max_tokens must be from 1 to 64"},
        {"embedding.max_tokens", "true", KVERN_FORMAT, "embedding.max_tokens must be"},
        {"embedding.prompts", "[]", KVERN_FORMAT, "embedding.prompts must be an object"},
        {"embedding.prompts.query", "7", KVERN_FORMAT,
         "embedding.prompts: the prompt \"query\" is not a string"},
        {"embedding.default_prompt", "\"other\"", KVERN_FORMAT, "the default prompt is \"other\""},
        {"embedding.default_prompt", "7", KVERN_FORMAT, "default_prompt must be a string"},
    };
    struct manifest manifest = encoder_example();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_damage(&manifest, cases[i].path, cases[i].value, cases[i].status, cases[i].message);
}

static void test_not_an_object(void **state)
{
    static const char *const texts[] = {"", "{", "[]", "5", "{\"a\":1,\"a\":2}", "\xff"};
    struct manifest manifest;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_int_equal(manifest_parse(&manifest, texts[i], strlen(texts[i]), NULL), KVERN_FORMAT);
}

static void test_files_that_changed(void **state)
{
    static const struct {
        const char *text; /* NULL: removed; "@": a link to a file of the right size */
        kvern_status read;
        kvern_status verify;
        const char *message;
    } cases[] = {
        {"weights!", KVERN_FORMAT, KVERN_FORMAT, "has 8 bytes; kvern.json says 7"},
        {"weightS", KVERN_OK, KVERN_FORMAT, "kvern.json says "},
        {NULL, KVERN_NOT_FOUND, KVERN_NOT_FOUND, "kvern.json names "},
        {"@", KVERN_FORMAT, KVERN_FORMAT, "is not a regular file"},
    };
    struct manifest manifest = example();
    char *path = scratch_path("model.onnx.data");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kvern_error err = {0};
        struct manifest read;

        assert_int_equal(manifest_write(&manifest, scratch, NULL), KVERN_OK);
        unlink(path);
        if (cases[i].text && cases[i].text[0] == '@') {
            scratch_put_text("aside", "weights");
            assert_int_equal(symlink("aside", path), 0);
        } else if (cases[i].text) {
            scratch_put_text("model.onnx.data", cases[i].text);
        }
        assert_int_equal(manifest_read(&read, scratch, &err), cases[i].read);
        assert_int_equal(manifest_verify(&manifest, scratch, INT64_MAX, &err), cases[i].verify);
        if (!strstr(err.message, cases[i].message) || !strstr(err.message, path))
            fail_msg("\"%s\" does not name %s and \"%s\"", err.message, path, cases[i].message);
    }
    free(path);
}

static void test_missing_manifest(void **state)
{
    struct manifest manifest;
    kvern_error err = {0};

    (void)state;
    assert_int_equal(manifest_read(&manifest, "/nonexistent", &err), KVERN_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nonexistent/kvern.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_encoder_round_trip),
        cmocka_unit_test(test_embedding_of_decoders),
        cmocka_unit_test(test_damaged_members),
        cmocka_unit_test(test_damaged_encoders),
        cmocka_unit_test(test_not_an_object),
        cmocka_unit_test(test_files_that_changed),
        cmocka_unit_test(test_missing_manifest),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
