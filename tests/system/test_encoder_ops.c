/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoder's operators as ONNX Runtime runs them, one node a graph, on every instruction set of
 * the machine: a text in a batch on two threads gives the bytes it gives alone on one, Linear's
 * activation is Activation's, and what is wrong in a graph or a batch is a sentence with values.
 */
#include "base/file.h"
#include "convert/onnx_file.h"
#include "ops/kernels/kernels.h"
#include "ort/session.h"
#include "support_files.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 2, HEAD = 32, WIDE = 3 * HEADS * HEAD, HIDDEN = HEADS * HEAD, MAX_TOKENS = 600 };

static char *directory;
static char *graph_path;
static char *data_path;
static uint64_t random_state = 11;

static int set_up(void **state)
{
    (void)state;
    directory = make_directory();
    graph_path = path_join(directory, "model.onnx");
    data_path = path_join(directory, "model.onnx.data");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(graph_path);
    free(data_path);
    int status = directory_remove(directory, NULL) == KVERN_OK ? 0 : -1;
    free(directory);
    return status;
}

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(next_random(&random_state) % 4096) / 1024.0F - 2.0F;
}

static struct onnx_file *new_graph(int64_t in_width, int64_t out_width)
{
    const struct onnx_dim in[] = {{.name = "n_tokens"}, {.size = in_width}};
    const struct onnx_dim out[] = {{.name = "n_tokens"}, {.size = out_width}};
    struct onnx_file *file = onnx_file_new("test");

    onnx_file_import(file, "", 17);
    onnx_file_import(file, "ai.kvern", 1);
    onnx_file_input(file, "x", ONNX_F32, in, 2);
    onnx_file_output(file, "y", ONNX_F32, out, 2);
    return file;
}

static void put_floats(struct onnx_file *file, const char *name, const float *values, int64_t n)
{
    assert_int_equal(onnx_file_small_tensor(file, name, ONNX_F32, &n, 1, values,
                                            (size_t)n * sizeof *values, NULL),
                     KVERN_OK);
}

static void write_graph(struct onnx_file *file)
{
    kvern_error err = {0};

    if (onnx_file_write(file, graph_path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    onnx_file_free(file);
}

/* One run; query_start may be NULL. */
static kvern_status run(struct session *session, float *x, size_t n_tokens, int64_t in_width,
                        int32_t *query_start, size_t n_texts, float *y, int64_t out_width,
                        kvern_error *err)
{
    struct session_tensor inputs[] = {
        {"x", SESSION_F32, x, n_tokens * (size_t)in_width * 4, {(int64_t)n_tokens, in_width}, 2},
        {"query_start",
         SESSION_I32,
         query_start,
         (n_texts + 1) * sizeof(int32_t),
         {(int64_t)n_texts + 1},
         1},
    };
    struct session_tensor output = {
        "y", SESSION_F32, y, n_tokens * (size_t)out_width * 4, {(int64_t)n_tokens, out_width}, 2};

    return session_run(session, inputs, query_start ? 2 : 1, &output, 1, err);
}

static void open_graph(struct session *session, int n_threads)
{
    kvern_error err = {0};

    if (session_open(session, graph_path, &(struct session_options){.n_threads = n_threads},
                     &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

/* ---- PackedAttention ---- */

struct attention_form {
    int64_t n_heads, n_kv_heads, head_size;
    const char *precision; /* NULL: absent */
};

static void write_attention(const struct attention_form *form)
{
    const struct onnx_dim starts = {.name = "n_texts_plus_1"};
    struct onnx_file *file = new_graph(WIDE, HIDDEN);
    struct onnx_node *node = onnx_file_node(file, "ai.kvern", "PackedAttention", "attention");

    onnx_file_input(file, "query_start", ONNX_I32, &starts, 1);
    onnx_node_input(node, "x");
    onnx_node_input(node, "query_start");
    onnx_node_output(node, "y");
    onnx_node_int(node, "n_heads", form->n_heads);
    onnx_node_int(node, "n_kv_heads", form->n_kv_heads);
    onnx_node_int(node, "head_size", form->head_size);
    onnx_node_float(node, "scale", 0.125F);
    if (form->precision)
        onnx_node_string(node, "precision", form->precision);
    write_graph(file);
}

static void check_attention(const char *isa, const struct attention_form *form)
{
    int32_t starts[] = {0, 1, 6, 6, 134, 150, 420, 425, 555};
    enum { N_TEXTS = COUNT(starts) - 1, N_TOKENS = 555 };
    static float x[N_TOKENS * WIDE], y[N_TOKENS * HIDDEN], alone[N_TOKENS * HIDDEN];
    struct session two;
    struct session one;
    kvern_error err = {0};

    write_attention(form);
    open_graph(&two, 2);
    open_graph(&one, 1);
    fill(x, COUNT(x));
    assert_int_equal(run(&two, x, N_TOKENS, WIDE, starts, N_TEXTS, y, HIDDEN, &err), KVERN_OK);
    for (size_t s = 0; s < N_TEXTS; s++) {
        size_t first = (size_t)starts[s];
        int32_t own[] = {0, starts[s + 1] - starts[s]};

        if (own[1] == 0) /* ONNX Runtime takes no memory of 0 bytes */
            continue;
        assert_int_equal(run(&one, x + first * WIDE, (size_t)own[1], WIDE, own, 1,
                             alone + first * HIDDEN, HIDDEN, &err),
                         KVERN_OK);
        if (memcmp(alone + first * HIDDEN, y + first * HIDDEN, (size_t)own[1] * HIDDEN * 4) != 0)
            fail_msg("%s: text %zu of %d tokens has other bytes alone", isa, s, own[1]);
    }
    for (size_t i = 0; i < HIDDEN; i++) /* a text of one token attends to itself: its value */
        assert_true(fabsf(y[i] - x[i + 2 * (size_t)HIDDEN]) <= 0.01F);
    session_close(&two);
    session_close(&one);
}

static void test_attention(void **state)
{
    static const struct attention_form forms[] = {
        {HEADS, HEADS, HEAD, NULL}, {HEADS, HEADS, HEAD, "fast"}, {HEADS, HEADS, HEAD, "f32"}};

    for (size_t i = 0; i < COUNT(forms); i++)
        check_attention(*state, &forms[i]);
}

static void test_wrong_batches(void **state)
{
    static const struct attention_form form = {HEADS, HEADS, HEAD, NULL};
    static struct {
        int32_t starts[4];
        int64_t width;
        const char *first, *second; /* what the message names */
    } cases[] = {
        {{0, 2, 5, 8}, WIDE, NULL, NULL},
        {{1, 2, 5, 8}, WIDE, "1", "0"},
        {{0, 5, 2, 8}, WIDE, "from 5 to 2", "text 1"},
        {{0, 2, -1, 8}, WIDE, "from 2 to -1", "text 1"},
        {{0, 2, 5, 7}, WIDE, "ends with 7", "8 rows"},
        {{0, 2, 5, 9}, WIDE, "ends with 9", "8 rows"},
        {{0, 2, 5, INT32_MAX}, WIDE, "2147483647", "8 rows"},
    };
    static float x[8 * WIDE], y[8 * HIDDEN];
    struct session session;

    (void)state;
    write_attention(&form);
    open_graph(&session, 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_error err = {0};
        kvern_status status =
            run(&session, x, 8, cases[i].width, cases[i].starts, 3, y, HIDDEN, &err);

        if (!cases[i].first) {
            assert_int_equal(status, KVERN_OK);
            continue;
        }
        check_message(status, &err, cases[i].first);
        check_message(status, &err, cases[i].second);
    }
    session_close(&session);
}

/* ---- AddLayerNorm ---- */

struct norm_form {
    int64_t n_gamma, n_beta, n_scale; /* n_scale 0: no skip_scale */
};

/* x + x, so that one graph input serves. */
static void write_norm(const struct norm_form *form, const float *weights)
{
    struct onnx_file *file = new_graph(HIDDEN, HIDDEN);
    struct onnx_node *node = onnx_file_node(file, "ai.kvern", "AddLayerNorm", "norm");

    put_floats(file, "gamma", weights, form->n_gamma);
    put_floats(file, "beta", weights + HIDDEN, form->n_beta);
    if (form->n_scale)
        put_floats(file, "scale", weights + 2 * (size_t)HIDDEN, form->n_scale);
    onnx_node_input(node, "x");
    onnx_node_input(node, "x");
    onnx_node_input(node, "gamma");
    onnx_node_input(node, "beta");
    onnx_node_input(node, form->n_scale ? "scale" : "");
    onnx_node_output(node, "y");
    onnx_node_float(node, "epsilon", 1e-12F);
    write_graph(file);
}

static void test_layer_norm(void **state)
{
    static float x[MAX_TOKENS * HIDDEN], y[MAX_TOKENS * HIDDEN], alone[MAX_TOKENS * HIDDEN];
    float weights[3 * HIDDEN];
    struct session two;
    struct session one;

    (void)state;
    for (int64_t has_scale = 0; has_scale < 2; has_scale++) {
        fill(weights, COUNT(weights));
        fill(x, COUNT(x));
        write_norm(&(struct norm_form){HIDDEN, HIDDEN, has_scale * HIDDEN}, weights);
        open_graph(&two, 2);
        open_graph(&one, 1);
        assert_int_equal(run(&two, x, MAX_TOKENS, HIDDEN, NULL, 0, y, HIDDEN, NULL), KVERN_OK);
        for (size_t row = 0; row < MAX_TOKENS; row += 7) {
            double mean = 0;
            double variance = 1e-12;
            double s[HIDDEN];

            for (size_t i = 0; i < HIDDEN; i++) {
                s[i] = x[row * HIDDEN + i] * (has_scale ? 1.0 + weights[2 * HIDDEN + i] : 2.0);
                mean += s[i] / HIDDEN;
            }
            for (size_t i = 0; i < HIDDEN; i++)
                variance += (s[i] - mean) * (s[i] - mean) / HIDDEN;
            for (size_t i = 0; i < HIDDEN; i++) {
                double want = (s[i] - mean) / sqrt(variance) * weights[i] + weights[HIDDEN + i];

                assert_true(fabs(y[row * HIDDEN + i] - want) < 1e-5);
            }
            assert_int_equal(run(&one, x + row * HIDDEN, 1, HIDDEN, NULL, 0, alone, HIDDEN, NULL),
                             KVERN_OK);
            assert_memory_equal(alone, y + row * HIDDEN, HIDDEN * sizeof *y);
        }
        session_close(&two);
        session_close(&one);
    }
}

/* ---- Linear's activation ---- */

/* y = Linear(x), with the activation in it or in a node of its own. */
static void write_linear(const char *activation, bool is_fused, const uint8_t *data,
                         const uint16_t *scales, const float *bias, int64_t n)
{
    const int64_t n_tiles = (n + 63) / 64;
    const int64_t n_bytes = n_tiles * 64 * HIDDEN;
    const int64_t scale_dims[] = {n_tiles, HIDDEN / 32, 64};
    struct onnx_file *file = new_graph(HIDDEN, n);
    struct onnx_node *node = onnx_file_node(file, "ai.kvern", "Linear", "linear");

    assert_int_equal(onnx_file_open_data(file, data_path, NULL), KVERN_OK);
    assert_int_equal(onnx_file_begin_tensor(file, "data", ONNX_U8, &n_bytes, 1, NULL), KVERN_OK);
    assert_int_equal(onnx_file_put(file, data, (size_t)n_bytes, NULL), KVERN_OK);
    assert_int_equal(onnx_file_end_tensor(file, NULL), KVERN_OK);
    assert_int_equal(onnx_file_small_tensor(file, "scales", ONNX_F16, scale_dims, 3, scales,
                                            (size_t)n_bytes / 32 * sizeof *scales, NULL),
                     KVERN_OK);
    put_floats(file, "bias", bias, n);
    onnx_node_input(node, "x");
    onnx_node_input(node, "data");
    onnx_node_input(node, "scales");
    onnx_node_input(node, "");
    onnx_node_input(node, "bias");
    onnx_node_output(node, is_fused ? "y" : "u");
    onnx_node_int(node, "K", HIDDEN);
    onnx_node_int(node, "N", n);
    onnx_node_int(node, "bits", 8);
    if (is_fused) {
        onnx_node_string(node, "activation", activation);
    } else {
        node = onnx_file_node(file, "ai.kvern", "Activation", "activation");
        onnx_node_input(node, "u");
        onnx_node_output(node, "y");
        onnx_node_string(node, "activation", activation);
    }
    write_graph(file);
}

static void test_linear_activation(void **state)
{
    static const char *const names[] = {"gelu", "gelu_tanh", "relu", "silu"};
    enum { N = 600, N_BYTES = (N + 63) / 64 * 64 * HIDDEN };
    static float x[100 * HIDDEN], fused[100 * N], apart[100 * N];
    static uint8_t data[N_BYTES];
    static uint16_t scales[N_BYTES / 32];
    static float bias[N];
    struct session session;

    fill(x, COUNT(x));
    fill(bias, COUNT(bias));
    for (size_t i = 0; i < N_BYTES; i++)
        data[i] = (uint8_t)next_random(&random_state);
    for (size_t i = 0; i < COUNT(scales); i++)
        scales[i] = 0x1400; /* 2^-10 */
    for (size_t i = 0; i < COUNT(names); i++) {
        write_linear(names[i], true, data, scales, bias, N);
        open_graph(&session, 2);
        for (size_t n_rows = 1; n_rows <= 100; n_rows += 33) {
            memset(fused, 0xff, sizeof fused);
            assert_int_equal(run(&session, x, n_rows, HIDDEN, NULL, 0, fused, N, NULL), KVERN_OK);
        }
        session_close(&session);
        write_linear(names[i], false, data, scales, bias, N);
        open_graph(&session, 1);
        assert_int_equal(run(&session, x, 100, HIDDEN, NULL, 0, apart, N, NULL), KVERN_OK);
        session_close(&session);
        if (memcmp(fused, apart, sizeof fused) != 0)
            fail_msg("%s: Linear's %s is not Activation's", (char *)*state, names[i]);
    }
}

/* ---- graphs that must not open ---- */

static void check_refused(const char *first, const char *second)
{
    struct session session = {0};
    kvern_error err = {0};
    kvern_status status =
        session_open(&session, graph_path, &(struct session_options){.n_threads = 1}, &err);

    check_message(status, &err, first);
    check_message(status, &err, second);
}

static void test_wrong_graphs(void **state)
{
    static const struct {
        struct attention_form form;
        const char *first, *second;
    } attentions[] = {
        {{2, 2, 12, NULL}, "size 12", "multiple of 8"},
        {{3, 2, 32, NULL}, "3 heads", "2 kv heads"},
        {{2, 2, 264, NULL}, "264", "256"},
        {{2, 4, 32, NULL}, "4", "1 to 2"},
        {{2, 2, 32, "bf16"}, "bf16", "fast"},
    };
    static const struct {
        struct norm_form form;
        const char *first, *second;
    } norms[] = {
        {{HIDDEN, HIDDEN - 1, 0}, "beta has 63", "gamma has 64"},
        {{HIDDEN, HIDDEN, 3}, "skip_scale has 3", "gamma has 64"},
    };
    static const char *const activations[] = {"tanh", "gelu_new_and_long", ""};
    static float weights[3 * HIDDEN];
    static uint8_t data[64 * HIDDEN];
    static uint16_t scales[64 * HIDDEN / 32];

    (void)state;
    for (size_t i = 0; i < COUNT(attentions); i++) {
        write_attention(&attentions[i].form);
        check_refused(attentions[i].first, attentions[i].second);
    }
    for (size_t i = 0; i < COUNT(norms); i++) {
        write_norm(&norms[i].form, weights);
        check_refused(norms[i].first, norms[i].second);
    }
    for (size_t i = 0; i < COUNT(activations); i++) {
        write_linear(activations[i], false, data, scales, weights, 64);
        check_refused("Activation", "activation");
    }
    write_norm(&(struct norm_form){HIDDEN - 1, HIDDEN - 1, 0}, weights);

    float x[HIDDEN], y[HIDDEN];
    struct session session;
    kvern_error err = {0};

    open_graph(&session, 1);
    fill(x, HIDDEN);
    kvern_status status = run(&session, x, 1, HIDDEN, NULL, 0, y, HIDDEN, &err);
    check_message(status, &err, "64");
    check_message(status, &err, "63");
    session_close(&session);
}

int main(void)
{
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);
    int n_failed = 0;

    for (size_t i = 0; i < n_sets; i++) {
        void *name = (void *)(uintptr_t)sets[i]->name;
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_prestate(test_attention, name),
            cmocka_unit_test_prestate(test_wrong_batches, name),
            cmocka_unit_test_prestate(test_layer_norm, name),
            cmocka_unit_test_prestate(test_linear_activation, name),
            cmocka_unit_test_prestate(test_wrong_graphs, name),
        };

        setenv("KVERN_ISA", sets[i]->name, 1);
        n_failed += cmocka_run_group_tests_name(sets[i]->name, tests, set_up, tear_down);
    }
    return n_failed;
}
