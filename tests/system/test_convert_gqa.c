/* SPDX-License-Identifier: Apache-2.0
 *
 * GroupQueryAttention exports, converted: logits against those ONNX Runtime computed with the
 * export itself (tests/golden/make_exports.py; 4-bit ones with f32 activations, exact.f32). With
 * f32 weights they are the same up to rounding; what is kept in 4 or 8 bit runs with 8-bit
 * activations, which tiny random models feel most.
 */
#include "system/support_command.h"
#include "system/support_files.h"
#include "system/support_models.h"
#include "test.h"

#include "base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_TOKENS = 33, LOGITS_STRIDE = 4, N_VOCAB = 288 };

static char *directory; /* a new one, for all tests */

static kvern_status convert(const char *source, const char *name, const char *weights,
                            kvern_error *err)
{
    char *target = path_join(directory, name);
    kvern_convert_options options;
    kvern_status status;

    kvern_convert_options_init(&options);
    options.source = source;
    options.target = target;
    options.weights = weights;
    options.overwrite = true;
    status = kvern_convert(&options, err);
    free(target);
    return status;
}

static kvern_model *convert_and_open(const char *source, const char *weights)
{
    char *target = path_join(directory, "model");
    kvern_model *model = NULL;
    kvern_error err = {0};

    if (convert(source, "model", weights, &err) != KVERN_OK ||
        kvern_model_open(&model, target, &err) != KVERN_OK)
        fail_msg("%s: %s", source, err.message);
    free(target);
    return model;
}

struct capture {
    float logits[N_TOKENS][N_VOCAB];
    size_t n_seen;
};

static void keep_logits(const float *logits, size_t vocab_size, size_t position, void *data)
{
    struct capture *capture = data;

    assert_int_equal(vocab_size, N_VOCAB);
    if (position >= N_TOKENS)
        return;
    memcpy(capture->logits[position], logits, sizeof capture->logits[0]);
    capture->n_seen++;
}

static void run(const kvern_model *model, const struct buffer *ids, int32_t prefill_chunk,
                struct capture *capture)
{
    kvern_engine *engine = open_test_engine(model, 1, prefill_chunk, "f32");
    kvern_request_options options;
    kvern_request *request = NULL;
    int32_t tokens[N_TOKENS], answer[1];
    kvern_error err = {0};

    assert_int_equal(ids->n_bytes, sizeof tokens);
    memcpy(tokens, ids->data, sizeof tokens);
    capture->n_seen = 0;
    kvern_request_options_init(&options);
    options.prompt = tokens;
    options.n_prompt = N_TOKENS;
    options.max_tokens = 1;
    options.ignore_eos = true;
    options.all_logits = true;
    options.on_logits = keep_logits;
    options.on_logits_data = capture;
    if (kvern_submit(engine, &options, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    finish_request(request, answer, 1);
    assert_int_equal(capture->n_seen, N_TOKENS);
    kvern_engine_close(engine);
}

/* The largest difference to the goldens (every 4th token, or the last one), as a share of their
 * range. */
static double worst_difference(const struct buffer *golden, const struct capture *capture)
{
    size_t n_rows = golden->n_bytes / sizeof capture->logits[0];
    float low = INFINITY, high = -INFINITY;
    double worst = 0;

    assert_true(n_rows == 1 || n_rows == 1 + N_TOKENS / LOGITS_STRIDE);
    for (size_t i = 0; i < n_rows * N_VOCAB; i++) {
        size_t token = n_rows == 1 ? N_TOKENS - 1 : i / N_VOCAB * LOGITS_STRIDE;
        float ours = capture->logits[token][i % N_VOCAB];
        float theirs;

        memcpy(&theirs, golden->data + i * sizeof theirs, sizeof theirs);
        low = fminf(low, theirs);
        high = fmaxf(high, theirs);
        if (!(fabs((double)ours - (double)theirs) <= worst))
            worst = fabs((double)ours - (double)theirs);
    }
    assert_true(high - low > 1);
    return worst / (double)(high - low);
}

static void logits_are_those_of_the_export(void **state)
{
    static const struct {
        const char *name;
        const char *golden;
        const char *weights;
        double tolerance;
    } cases[] = {
        {"qwen2-gqa-f32", "logits.f32", "f32", 1e-5},
        {"qwen2-gqa-f32", "logits.f32", NULL, 3e-2},
        {"llama-gqa-f16", "logits.f32", "f32", 1e-3},
        {"llama-gqa-f16", "logits.f32", NULL, 3e-2},
        {"qwen2-gqa-int4", "exact.f32", "f32", 1e-5},
        {"qwen2-gqa-int4", "exact.f32", NULL, 3e-2},
        {"llama-gqa-int4-hidden", "exact.f32", "f32", 1e-5},
        {"llama-gqa-int4-hidden", "exact.f32", NULL, 3e-2},
        {"llama-gqa-int4-last", "exact.f32", "f32", 1e-5},
        {"llama-gqa-int4-last", "exact.f32", NULL, 3e-2},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        static struct capture capture;
        char path[1024], file[1100];

        snprintf(path, sizeof path, "%s/exports/%s", KVERN_GOLDEN_DIR, cases[i].name);
        snprintf(file, sizeof file, "%s/ids.i32", path);
        struct buffer ids = read_whole(file);
        snprintf(file, sizeof file, "%s/%s", path, cases[i].golden);
        struct buffer golden = read_whole(file);
        kvern_model *model = convert_and_open(path, cases[i].weights);

        run(model, &ids, 0, &capture);
        double worst = worst_difference(&golden, &capture);
        printf("  %-22s %-4s worst logit off by %.1e of the range\n", cases[i].name,
               cases[i].weights ? cases[i].weights : "kept", worst);
        if (!(worst <= cases[i].tolerance))
            fail_msg("%s: logits are off by %g of their range", cases[i].name, worst);
        kvern_model_close(model);
        buffer_clear(&ids);
        buffer_clear(&golden);
    }
}

/* What the export itself does not promise: logits do not depend on how a prompt is cut up. */
static void chunks_change_no_bit(void **state)
{
    static struct capture whole, chunked;
    const char *path = KVERN_GOLDEN_DIR "/exports/qwen2-gqa-int4";
    struct buffer ids = read_whole(KVERN_GOLDEN_DIR "/exports/qwen2-gqa-int4/ids.i32");
    kvern_model *model = convert_and_open(path, NULL);

    (void)state;
    run(model, &ids, 0, &whole);
    run(model, &ids, 7, &chunked);
    assert_memory_equal(whole.logits, chunked.logits, sizeof whole.logits);
    kvern_model_close(model);
    buffer_clear(&ids);
}

/* model.onnx says nothing: without -o a model is called what its directory is. */
static void names_in_the_cache(void **state)
{
    static const struct {
        const char *graph;
        const char *others;
        const char *name;
    } cases[] = {{"beside/model.onnx", "beside", "beside"},
                 {"above/onnx/model.onnx", "above", "above"}};
    static const char *const files[] = {"config.json", "genai_config.json", "tokenizer.json"};
    const char *from = KVERN_GOLDEN_DIR "/exports/qwen2-gqa-int4";
    char home[600], command[900], path[1200], source[700];

    (void)state;
    snprintf(home, sizeof home, "KVERN_HOME=%s/home", directory);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct command_run run = {.environment = home};

        snprintf(path, sizeof path, "%s/%s", directory, cases[i].graph);
        *strrchr(path, '/') = '\0';
        assert_int_equal(directory_make(path, NULL), KVERN_OK);
        strcat(path, "/model.onnx");
        snprintf(source, sizeof source, "%s/model.onnx", from);
        copy_whole(source, path);
        strcat(path, ".data");
        strcat(source, ".data");
        copy_whole(source, path);
        for (size_t j = 0; j < COUNT(files); j++) {
            snprintf(source, sizeof source, "%s/%s", from, files[j]);
            snprintf(path, sizeof path, "%s/%s/%s", directory, cases[i].others, files[j]);
            copy_whole(source, path);
        }
        snprintf(command, sizeof command, "convert -q %s/%s", directory, cases[i].graph);
        command_run(&run, command);
        assert_string_equal(run.err, "");
        snprintf(path, sizeof path, "%s/home/models/%s\n", directory, cases[i].name);
        assert_string_equal(run.out, path);
        command_clear(&run);
    }
}

/* An export of another form is refused, and no directory is made. */
static void what_is_no_such_export(void **state)
{
    static const struct {
        const char *name;
        const char *says;
    } cases[] = {
        {"qwen2-f32", "the graph has no GroupQueryAttention, so it is not converted"},
        {"bert-f32", "the graph has no GroupQueryAttention, so it is not converted"},
        {"llama-merged", "holds no model.safetensors"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char path[1024];
        kvern_error err = {0};
        char *target = path_join(directory, "refused");

        snprintf(path, sizeof path, "%s/exports/%s", KVERN_GOLDEN_DIR, cases[i].name);
        kvern_status status = convert(path, "refused", NULL, &err);
        if (status == KVERN_OK || !strstr(err.message, cases[i].says))
            fail_msg("%s: %s, \"%s\"", cases[i].name, kvern_status_name(status), err.message);
        assert_false(directory_exists(target));
        free(target);
    }
}

static int make(void **state)
{
    (void)state;
    directory = make_directory();
    return 0;
}

static int unmake(void **state)
{
    static const char *const parts[] = {"home/models", "home", "above/onnx", ""};

    (void)state;
    for (size_t i = 0; i < COUNT(parts); i++) {
        char *path = path_join(directory, parts[i]);

        directory_remove(path, NULL);
        free(path);
    }
    bool is_gone = !directory_exists(directory);
    free(directory);
    return is_gone ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_the_export),
        cmocka_unit_test(chunks_change_no_bit),
        cmocka_unit_test(names_in_the_cache),
        cmocka_unit_test(what_is_no_such_export),
    };

    return cmocka_run_group_tests(tests, make, unmake);
}
