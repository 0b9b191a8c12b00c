/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern_engine_open on a small model: what the defaults are, with and without options, what the
 * options change, how each value out of range is told, and what an engine takes with nothing to do.
 */
#include "test.h"

#include "base/file.h"
#include "system/support_files.h"
#include "system/support_small.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MODEL_CONTEXT = 128, BLOCK_TOKENS = 16 };

static kvern_engine_stats stats_of(const kvern_engine_options *options)
{
    kvern_engine *engine = NULL;
    kvern_engine_stats stats;
    kvern_error err = {0};

    if (kvern_engine_open(&engine, small_model, options, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    kvern_engine_get_stats(engine, &stats);
    kvern_engine_close(engine);
    return stats;
}

static void no_options_are_the_defaults(void **state)
{
    kvern_engine_options options;
    kvern_engine_stats with, without;

    (void)state;
    kvern_engine_options_init(&options);
    with = stats_of(&options);
    without = stats_of(NULL);
    assert_int_equal(without.n_threads, kvern_default_threads());
    assert_int_equal(without.max_context, MODEL_CONTEXT);
    assert_int_equal(without.n_kv_blocks, 64 * 2048 / BLOCK_TOKENS);
    assert_int_equal(without.n_kv_blocks_used, 0);
    assert_int_equal(with.n_threads, without.n_threads);
    assert_int_equal(with.max_context, without.max_context);
    assert_int_equal(with.n_kv_blocks, without.n_kv_blocks);
    assert_string_equal(with.isa, without.isa);

    memset(&options, 0, sizeof options); /* zeros mean the defaults too */
    with = stats_of(&options);
    assert_int_equal(with.max_context, without.max_context);
    assert_int_equal(with.n_kv_blocks, without.n_kv_blocks);
}

/* And an engine opened so answers as any other. */
static void no_options_run(void **state)
{
    static const int32_t prompt[] = {2, 3, 4};
    struct small_answer expected;
    kvern_request_options options;
    kvern_engine *engine = NULL;
    kvern_request *request = NULL;
    kvern_event event = {0};
    kvern_error err = {0};
    size_t n = 0;

    (void)state;
    assert_int_equal(run_small_model(small_model, NULL, &expected, &err), KVERN_OK);
    assert_int_equal(kvern_engine_open(&engine, small_model, NULL, &err), KVERN_OK);
    kvern_request_options_init(&options);
    options.prompt = prompt;
    options.n_prompt = COUNT(prompt);
    options.max_tokens = SMALL_TOKENS;
    assert_int_equal(kvern_submit(engine, &options, &request, &err), KVERN_OK);
    while (event.finish == KVERN_FINISH_NONE) {
        assert_int_equal(kvern_request_next(request, -1, &event, &err), KVERN_OK);
        for (size_t i = 0; i < event.n_tokens; i++, n++) {
            assert_in_range(n, 0, expected.n_tokens - 1);
            assert_int_equal(event.tokens[i], expected.tokens[n]);
        }
    }
    assert_int_equal(n, expected.n_tokens);
    kvern_request_free(request);
    kvern_engine_close(engine);
}

/* A block of the model's one layer, 1 KV head of 16, f16: 16 tokens of 32 values. */
static void options_size_the_pool(void **state)
{
    enum { BLOCK_BYTES = 2 * 1 * 16 * BLOCK_TOKENS * 2 };
    static const struct {
        kvern_engine_options options;
        int32_t max_context;
        int32_t n_kv_blocks;
    } cases[] = {
        {{.max_sequences = 1}, MODEL_CONTEXT, 2048 / BLOCK_TOKENS},
        {{.max_sequences = 3}, MODEL_CONTEXT, 3 * 2048 / BLOCK_TOKENS},
        {{.max_sequences = 1, .max_context = 40}, 40, 2048 / BLOCK_TOKENS},
        {{.max_context = 1000}, MODEL_CONTEXT, 64 * 2048 / BLOCK_TOKENS},
        {{.kv_memory_bytes = 4 * BLOCK_BYTES}, 4 * BLOCK_TOKENS, 4},
        {{.kv_memory_bytes = 5 * BLOCK_BYTES - 1}, 4 * BLOCK_TOKENS, 4},
        {{.kv_memory_bytes = 8 * BLOCK_BYTES, .kv_type = "f32"}, 4 * BLOCK_TOKENS, 4},
        {{.kv_memory_bytes = 100 * BLOCK_BYTES}, MODEL_CONTEXT, 100},
        /* a vector of 16 values and its scale in 20 bytes, f16's in 32 */
        {{.kv_memory_bytes = 5 * BLOCK_BYTES, .kv_type = "int8"}, 8 * BLOCK_TOKENS, 8},
        {{.kv_memory_bytes = 5 * BLOCK_BYTES - 1, .kv_type = "int8"}, 7 * BLOCK_TOKENS, 7},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_engine_stats stats = stats_of(&cases[i].options);

        if (stats.max_context != cases[i].max_context || stats.n_kv_blocks != cases[i].n_kv_blocks)
            fail_msg("case %zu: context %d and %d blocks, not %d and %d", i, stats.max_context,
                     stats.n_kv_blocks, cases[i].max_context, cases[i].n_kv_blocks);
    }
}

static void values_out_of_range_are_named(void **state)
{
    static const struct {
        kvern_engine_options options;
        kvern_status status;
        const char *says;
    } cases[] = {
        {{.n_threads = -1}, KVERN_INVALID, "n_threads is -1, outside 0 to 1024"},
        {{.n_threads = 1025}, KVERN_INVALID, "n_threads is 1025, outside 0 to 1024"},
        {{.step_tokens = 65537}, KVERN_INVALID, "step_tokens is 65537, outside 0 to 65536"},
        {{.prefill_chunk = -7}, KVERN_INVALID, "prefill_chunk is -7, outside 0 to 65536"},
        {{.max_sequences = 4097}, KVERN_INVALID, "max_sequences is 4097, outside 0 to 4096"},
        {{.max_waiting = INT32_MIN}, KVERN_INVALID, "max_waiting is -2147483648, outside"},
        {{.max_context = INT32_MAX}, KVERN_INVALID, "max_context is 2147483647, outside"},
        {{.kv_type = "f8"}, KVERN_INVALID, "kv_type is 'f8', not f16, f32 or int8"},
        {{.kv_type = ""}, KVERN_INVALID, "kv_type is '', not f16, f32 or int8"},
        {{.kv_memory_bytes = 1},
         KVERN_LIMIT,
         "kv_memory of 1 bytes is less than one block of 16 tokens (1024 bytes)"},
        {{.kv_memory_bytes = SIZE_MAX}, KVERN_LIMIT, "MiB of memory that are free here"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_engine *engine = NULL;
        kvern_error err = {0};
        kvern_status status = kvern_engine_open(&engine, small_model, &cases[i].options, &err);

        assert_null(engine);
        assert_int_equal(status, cases[i].status);
        check_message(status, &err, cases[i].says);
    }
}

/* What a manifest says of pooling is what a vector's size is told by, and what it is made by. */
static void a_stated_pooling_settles_the_vectors_size(void **state)
{
    static const char *const poolings[] = {"logits512", "last", "mean", ""};
    static const int32_t prompt[] = {2, 3, 4};
    char *target = path_join(small_directory, "small");
    struct manifest manifest;

    (void)state;
    assert_int_equal(manifest_read(&manifest, target, NULL), KVERN_OK);
    for (size_t i = 0; i < COUNT(poolings); i++) {
        kvern_model *pooled = NULL;
        kvern_model_info info;
        kvern_engine *engine = NULL;
        kvern_request_options options;
        kvern_request *request = NULL;
        kvern_event event = {0};
        kvern_error err = {0};

        snprintf(manifest.embedding.pooling, sizeof manifest.embedding.pooling, "%s", poolings[i]);
        assert_int_equal(manifest_write(&manifest, target, NULL), KVERN_OK);
        if (kvern_model_open(&pooled, target, &err) != KVERN_OK ||
            kvern_engine_open(&engine, pooled, NULL, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        kvern_request_options_init(&options);
        options.prompt = prompt;
        options.n_prompt = COUNT(prompt);
        options.embed = true;
        assert_int_equal(kvern_submit(engine, &options, &request, &err), KVERN_OK);
        while (event.finish == KVERN_FINISH_NONE)
            assert_int_equal(kvern_request_next(request, -1, &event, &err), KVERN_OK);
        kvern_model_get_info(pooled, &info);
        if (event.n_embedding != (size_t)info.embedding_size)
            fail_msg("pooling \"%s\": %zu values; the model tells of %d", poolings[i],
                     event.n_embedding, info.embedding_size);
        kvern_request_free(request);
        kvern_engine_close(engine);
        kvern_model_close(pooled);
    }
    free(target);
}

static double process_seconds(void)
{
    struct timespec time;

    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time), 0);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* CPU time of the quietest of ten seconds: on a crowded machine threads that were just started or
 * woken need a while to come to rest, but what spins does so in every second. */
static double idle_second(void)
{
    double least = 1;

    for (int i = 0; i < 10 && least > 0.01; i++) {
        double before = process_seconds();

        sleep(1);
        double used = process_seconds() - before;
        least = used < least ? used : least;
    }
    return least;
}

/* An open engine with nothing to do takes less than 1 % of a CPU, before its first request and
 * after: neither its thread nor ONNX Runtime's spin. */
static void nothing_to_do_takes_no_cpu(void **state)
{
    static const int32_t prompt[] = {2, 3, 4};
    kvern_engine_options options = {.n_threads = 4};
    kvern_request_options request_options;
    kvern_engine *engine = NULL;
    kvern_error err = {0};

    (void)state;
    assert_int_equal(kvern_engine_open(&engine, small_model, &options, &err), KVERN_OK);
    kvern_request_options_init(&request_options);
    request_options.prompt = prompt;
    request_options.n_prompt = COUNT(prompt);
    request_options.max_tokens = SMALL_TOKENS;
    for (int i = 0; i < 2; i++) {
        kvern_request *request = NULL;
        kvern_event event = {0};

        double used = idle_second();
        if (used > 0.01)
            fail_msg("%.1f ms of CPU time in an idle second %s a request", 1000 * used,
                     i ? "after" : "before");
        assert_int_equal(kvern_submit(engine, &request_options, &request, &err), KVERN_OK);
        while (event.finish == KVERN_FINISH_NONE)
            assert_int_equal(kvern_request_next(request, -1, &event, &err), KVERN_OK);
        kvern_request_free(request);
    }
    kvern_engine_close(engine);
}

static void int8_is_not_for_exports(void **state)
{
    const kvern_engine_options options = {.kv_type = "int8"};
    kvern_model *other = NULL;
    kvern_engine *engine = NULL;
    kvern_error err = {0};

    (void)state;
    if (kvern_model_open(&other, KVERN_GOLDEN_DIR "/exports/qwen2-f32", &err) != KVERN_OK)
        fail_msg("%s", err.message);
    kvern_status status = kvern_engine_open(&engine, other, &options, &err);

    assert_null(engine);
    assert_int_equal(status, KVERN_UNSUPPORTED);
    check_message(status, &err, "qwen2-f32 is an ONNX export, whose KV is f32");
    kvern_model_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_options_are_the_defaults),
        cmocka_unit_test(no_options_run),
        cmocka_unit_test(options_size_the_pool),
        cmocka_unit_test(values_out_of_range_are_named),
        cmocka_unit_test(a_stated_pooling_settles_the_vectors_size),
        cmocka_unit_test(nothing_to_do_takes_no_cpu),
        cmocka_unit_test(int8_is_not_for_exports),
    };

    return cmocka_run_group_tests(tests, open_small_model, close_small_model);
}
