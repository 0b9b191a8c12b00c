/* SPDX-License-Identifier: Apache-2.0
 *
 * The operators of encoder-decoders as ONNX Runtime runs them, one graph each, on every instruction
 * set of the machine: a sequence in a batch on two threads gives the bytes it gives alone on one
 * from other blocks, an empty batch is a batch, and what is wrong in a graph or a batch is a
 * sentence with values.
 */
#include "base/file.h"
#include "convert/onnx_file.h"
#include "ops/kernels/kernels.h"
#include "ort/session.h"
#include "support_files.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADS = 2,
    HEAD = 32,
    HIDDEN = HEADS * HEAD,
    QKV = 3 * HIDDEN,
    N_LAYERS = 4,
    STORED_LAYERS = 2, /* of one KvStore */
    KV = STORED_LAYERS * 2 * HIDDEN,
    N_BLOCKS = 64,
    TABLE_BLOCKS = 12, /* of a sequence */
    REACH = 9,
    N_DISTANCES = 2 * REACH + 1,
    MAX_TOKENS = 600,
    MAX_POOL_BYTES = N_LAYERS * N_BLOCKS * 2 * HEADS * KV_BLOCK * HEAD * 4,
};

static const enum kv_type types[] = {KV_F16, KV_F32, KV_INT8};

static char *directory;
static char *graph_path;
static uint64_t random_state = 11;
static float bias[HEADS * N_DISTANCES];
static float x[MAX_TOKENS * KV], y[MAX_TOKENS * HIDDEN], other[MAX_TOKENS * HIDDEN];
static float sources[MAX_TOKENS * KV];
static _Alignas(64) uint8_t pool[MAX_POOL_BYTES];

static int set_up(void **state)
{
    (void)state;
    directory = make_directory();
    graph_path = path_join(directory, "model.onnx");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(graph_path);
    int status = directory_remove(directory, NULL) == KVERN_OK ? 0 : -1;
    free(directory);
    return status;
}

static void fill(float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(next_random(&random_state) % 4096) / 1024.0F - 2.0F;
}

/* ---- graphs ---- */

enum graph { KV_STORE, CROSS_ATTENTION, PAGED_ATTENTION, PACKED_ATTENTION };

/* What a graph may have other than it should; zeroed: nothing. */
struct fault {
    int64_t head_size;     /* 0: HEAD */
    int64_t first_layer;   /* of KvStore; or the layer */
    int64_t n_bias[2];     /* 0: {HEADS, N_DISTANCES} */
    bool is_bias_computed; /* not an initializer */
};

static const struct {
    const char *op;
    int64_t width;
    const char *context; /* NULL: none */
} graphs[] = {
    [KV_STORE] = {"KvStore", KV, NULL},
    [CROSS_ATTENTION] = {"CrossAttention", HIDDEN, "source_len"},
    [PAGED_ATTENTION] = {"PagedAttention", QKV, "context_len"},
    [PACKED_ATTENTION] = {"PackedAttention", QKV, NULL},
};

static void put_bias(struct onnx_file *file, struct onnx_node *node, const struct fault *fault)
{
    static const float zeros[4 * N_DISTANCES * HEADS] = {0};
    const int64_t own[] = {HEADS, N_DISTANCES};
    const int64_t *dims = fault->n_bias[0] ? fault->n_bias : own;

    if (fault->is_bias_computed) {
        const struct onnx_dim computed[] = {{.size = HEADS}, {.size = N_DISTANCES}};

        onnx_file_input(file, "bias", ONNX_F32, computed, 2);
    } else {
        assert_int_equal(onnx_file_small_tensor(file, "bias", ONNX_F32, dims, 2,
                                                fault->n_bias[0] ? zeros : bias,
                                                (size_t)(dims[0] * dims[1]) * 4, NULL),
                         KVERN_OK);
    }
    onnx_node_input(node, "bias");
}

static struct onnx_node *add_store(struct onnx_file *file, const char *name,
                                   const struct fault *fault, int64_t first_layer)
{
    struct onnx_node *node = onnx_file_node(file, "ai.kvern", "KvStore", name);

    onnx_node_int(node, "n_kv_heads", HEADS);
    onnx_node_int(node, "head_size", fault->head_size ? fault->head_size : HEAD);
    onnx_node_int(node, "n_layers", STORED_LAYERS);
    onnx_node_int(node, "first_layer", first_layer + fault->first_layer);
    onnx_node_input(node, "x");
    onnx_node_input(node, "kv_pool");
    onnx_node_input(node, "block_table");
    onnx_node_input(node, "query_start");
    return node;
}

/* Two stores of the same, the second after the first. */
static void add_stores(struct onnx_file *file, const struct fault *fault)
{
    const struct onnx_dim one = {.size = 1};
    struct onnx_node *node = add_store(file, "first", fault, 0);

    onnx_node_output(node, "first");
    node = add_store(file, "second", fault, STORED_LAYERS);
    onnx_node_input(node, "first");
    onnx_node_output(node, "y");
    onnx_file_output(file, "y", ONNX_I64, &one, 1);
}

static void add_attention(struct onnx_file *file, enum graph graph, const struct fault *fault)
{
    const struct onnx_dim out[] = {{.name = "n_tokens"}, {.size = HIDDEN}};
    const struct onnx_dim n_sequences = {.name = "n_sequences"};
    struct onnx_node *node = onnx_file_node(file, "ai.kvern", graphs[graph].op, "attention");

    onnx_node_int(node, "n_heads", HEADS);
    onnx_node_int(node, "n_kv_heads", HEADS);
    onnx_node_int(node, "head_size", fault->head_size ? fault->head_size : HEAD);
    onnx_node_float(node, "scale", 0.125F);
    onnx_node_input(node, "x");
    if (graph == PACKED_ATTENTION) {
        onnx_node_string(node, "precision", "f32");
    } else {
        onnx_node_int(node, "layer", N_LAYERS - 1 + fault->first_layer);
        if (graph == PAGED_ATTENTION)
            onnx_node_input(node, ""); /* rope */
        onnx_node_input(node, "kv_pool");
        onnx_node_input(node, "block_table");
    }
    onnx_node_input(node, "query_start");
    if (graphs[graph].context) {
        onnx_file_input(file, graphs[graph].context, ONNX_I32, &n_sequences, 1);
        onnx_node_input(node, graphs[graph].context);
    }
    if (graph == PAGED_ATTENTION) {
        onnx_node_int(node, "window", 0);
        onnx_node_float(node, "soft_cap", 0.0F);
        onnx_node_float(node, "norm_epsilon", 0.0F);
        onnx_node_input(node, "");
        onnx_node_input(node, "");
    }
    if (graph != CROSS_ATTENTION)
        put_bias(file, node, fault);
    onnx_node_output(node, "y");
    onnx_file_output(file, "y", ONNX_F32, out, 2);
}

static void write_graph(enum graph graph, const struct fault *fault)
{
    const struct onnx_dim in[] = {{.name = "n_tokens"}, {.size = graphs[graph].width}};
    const struct onnx_dim starts = {.name = "n_sequences_plus_1"};
    const struct onnx_dim table[] = {{.name = "n_sequences"}, {.name = "n_table"}};
    const struct onnx_dim of_pool[] = {{.name = "n_layers"}, {.name = "n_blocks"}, {.name = "n"}};
    struct onnx_file *file = onnx_file_new("test");
    kvern_error err = {0};

    onnx_file_import(file, "", 17);
    onnx_file_import(file, "ai.kvern", 1);
    onnx_file_input(file, "x", ONNX_F32, in, 2);
    onnx_file_input(file, "query_start", ONNX_I32, &starts, 1);
    if (graph != PACKED_ATTENTION) {
        onnx_file_input(file, "block_table", ONNX_I32, table, 2);
        onnx_file_input(file, "kv_pool", ONNX_U8, of_pool, 3);
    }
    if (graph == KV_STORE)
        add_stores(file, fault);
    else
        add_attention(file, graph, fault);
    if (onnx_file_write(file, graph_path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    onnx_file_free(file);
}

static void open_graph(struct session *session, enum graph graph, int n_threads)
{
    const struct fault none = {0};
    kvern_error err = {0};

    write_graph(graph, &none);
    if (session_open(session, graph_path, &(struct session_options){.n_threads = n_threads},
                     &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

/* ---- runs ---- */

enum { MAX_SEQUENCES = 9 };

struct batch {
    size_t n_sequences;
    enum kv_type type;
    int32_t query_start[MAX_SEQUENCES + 1];
    int32_t context_len[MAX_SEQUENCES];
    int32_t block_table[MAX_SEQUENCES][TABLE_BLOCKS];
};

/* The next sequence of a batch; its blocks are taken from `*block` on, in steps. */
static void add_sequence(struct batch *batch, int32_t n_rows, int32_t context, int32_t *block)
{
    size_t s = batch->n_sequences++;

    batch->query_start[s + 1] = batch->query_start[s] + n_rows;
    batch->context_len[s] = context;
    for (int32_t i = 0; i * KV_BLOCK < context; i++, *block += 1)
        batch->block_table[s][i] = *block * 37 % N_BLOCKS;
}

/* Rows of `width` floats in; y is [n_tokens, HIDDEN], or KvStore's count. */
static kvern_status run(struct session *session, enum graph graph, float *in, struct batch *batch,
                        void *out, kvern_error *err)
{
    int64_t n_tokens = batch->query_start[batch->n_sequences];
    int64_t n = (int64_t)batch->n_sequences;
    int64_t width = graphs[graph].width;
    int64_t block_bytes = 2 * HEADS * (int64_t)kv_part_bytes(batch->type, HEAD);
    struct session_tensor tensors[] = {
        {"x", SESSION_F32, in, (size_t)(n_tokens * width) * 4, {n_tokens, width}, 2},
        {"query_start", SESSION_I32, batch->query_start, (size_t)(n + 1) * 4, {n + 1}, 1},
        {"block_table",
         SESSION_I32,
         batch->block_table,
         (size_t)n * sizeof batch->block_table[0],
         {n, TABLE_BLOCKS},
         2},
        {"kv_pool",
         SESSION_U8,
         pool,
         (size_t)(N_LAYERS * N_BLOCKS * block_bytes),
         {N_LAYERS, N_BLOCKS, block_bytes},
         3},
        {graphs[graph].context, SESSION_I32, batch->context_len, (size_t)n * 4, {n}, 1},
    };
    struct session_tensor output = {
        "y", SESSION_F32, out, (size_t)n_tokens * HIDDEN * 4, {n_tokens, HIDDEN}, 2};

    if (graph == KV_STORE)
        output = (struct session_tensor){"y", SESSION_I64, out, 8, {1}, 1};
    return session_run(session, tensors,
                       graph == PACKED_ATTENTION ? 2
                       : graphs[graph].context   ? 5
                                                 : 4,
                       &output, 1, err);
}

static void run_well(struct session *session, enum graph graph, float *in, struct batch *batch,
                     void *out)
{
    kvern_error err = {0};

    if (run(session, graph, in, batch, out, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

static void check_same(const float *got, const float *want, size_t n_rows, const char *what,
                       size_t s)
{
    if (memcmp(got, want, n_rows * HIDDEN * sizeof *got) != 0)
        fail_msg("%s: sequence %zu has other bytes", what, s);
}

/* ---- KvStore and CrossAttention ---- */

static const int32_t source_len[MAX_SEQUENCES] = {1, 16, 33, 100, 5, 17, 64, 192, 2};
static const int32_t n_queries[MAX_SEQUENCES] = {1, 1, 3, 1, 1, 70, 0, 1, 2};

/* Stores the sources [first, end) and lets their rows see them. */
static void cross(struct session *store, struct session *attend, enum kv_type type, size_t first,
                  size_t end, const float *kv, const float *q, float *out)
{
    struct batch encoded = {.type = type};
    struct batch decoded = {.type = type};
    int32_t block = (int32_t)first * 3;
    int32_t same = block;
    int64_t stored = -1;

    for (size_t s = first; s < end; s++) {
        add_sequence(&encoded, source_len[s], source_len[s], &block);
        add_sequence(&decoded, n_queries[s], source_len[s], &same);
    }
    memset(pool, 0xff, sizeof pool);
    run_well(store, KV_STORE, (float *)(uintptr_t)kv, &encoded, &stored);
    assert_int_equal(stored, encoded.query_start[encoded.n_sequences]);
    run_well(attend, CROSS_ATTENTION, (float *)(uintptr_t)q, &decoded, out);
}

static void test_cross_attention(void **state)
{
    struct session store[2];
    struct session attend[2];

    (void)state;
    fill(sources, COUNT(sources));
    fill(x, COUNT(x));
    for (int i = 0; i < 2; i++) {
        open_graph(&store[i], KV_STORE, i + 1);
        open_graph(&attend[i], CROSS_ATTENTION, i + 1);
    }
    for (size_t t = 0; t < COUNT(types); t++) {
        size_t kv_row = 0;
        size_t row = 0;
        size_t half = sizeof pool / 2;

        cross(&store[1], &attend[1], types[t], 0, MAX_SEQUENCES, sources, x, y);
        if (types[t] == KV_F32) /* the stores of one chain wrote the same */
            assert_memory_equal(pool, pool + half, half);
        for (size_t s = 0; s < MAX_SEQUENCES; s++) {
            size_t n_rows = (size_t)n_queries[s];

            if (n_rows > 0) {
                cross(&store[0], &attend[0], types[t], s, s + 1, sources + kv_row * KV,
                      x + row * HIDDEN, other);
                check_same(other, y + row * HIDDEN, n_rows, "cross attention alone", s);
            }
            for (size_t i = row * HIDDEN; i < (row + n_rows) * HIDDEN; i++)
                assert_true(isfinite(y[i]));              /* nothing past the source was seen */
            for (size_t i = 0; s == 0 && i < HIDDEN; i++) /* one key: its value, in layer 1 */
                assert_true(fabsf(y[i] - sources[3 * HIDDEN + i]) <= 0.02F);
            kv_row += (size_t)source_len[s];
            row += n_rows;
        }
    }
    for (int i = 0; i < 2; i++) {
        session_close(&store[i]);
        session_close(&attend[i]);
    }
}

/* ---- PagedAttention with a bias and no rope ---- */

static const int32_t text_len[] = {1, 5, 40, 150, 16};
enum { N_TEXTS = COUNT(text_len) };

/* Each text in a run of its own, in pieces; x is overwritten by no one. */
static void run_in_pieces(struct session *session, enum kv_type type, int32_t piece)
{
    size_t row = 0;

    memset(pool, 0xff, sizeof pool);
    for (size_t s = 0; s < N_TEXTS; s++) {
        for (int32_t begin = 0; begin < text_len[s]; begin += piece) {
            int32_t n = text_len[s] - begin < piece ? text_len[s] - begin : piece;
            struct batch batch = {.type = type};
            int32_t block = 5;

            add_sequence(&batch, n, begin + n, &block);
            run_well(session, PAGED_ATTENTION, x + row * QKV, &batch, other + row * HIDDEN);
            row += (size_t)n;
        }
    }
}

static void test_paged_attention(void **state)
{
    struct session two;
    struct session one;
    struct session packed;
    struct batch batch = {0};
    int32_t block = 0;
    size_t n_tokens;

    (void)state;
    fill(bias, COUNT(bias));
    fill(x, COUNT(x));
    open_graph(&two, PAGED_ATTENTION, 2);
    open_graph(&one, PAGED_ATTENTION, 1);
    open_graph(&packed, PACKED_ATTENTION, 2);
    for (size_t s = 0; s < N_TEXTS; s++)
        add_sequence(&batch, text_len[s], text_len[s], &block);
    n_tokens = (size_t)batch.query_start[N_TEXTS];
    for (size_t t = 0; t < COUNT(types); t++) {
        batch.type = types[t];
        memset(pool, 0xff, sizeof pool);
        run_well(&two, PAGED_ATTENTION, x, &batch, y);
        for (int32_t piece = 1; piece < 200; piece = piece * 3 + 2) {
            run_in_pieces(&one, types[t], piece);
            check_same(other, y, n_tokens, "paged attention in pieces", (size_t)piece);
        }
        if (types[t] != KV_F32)
            continue;
        run_well(&packed, PACKED_ATTENTION, x, &batch, other);
        for (size_t s = 0; s < N_TEXTS; s++) { /* its last token sees all of a text in both */
            size_t last = ((size_t)batch.query_start[s + 1] - 1) * HIDDEN;

            for (size_t i = last; i < last + HIDDEN; i++)
                assert_true(fabsf(y[i] - other[i]) <= 1e-5F);
        }
    }
    session_close(&two);
    session_close(&one);
    session_close(&packed);
}

/* ---- edges ---- */

static void test_empty_batches(void **state)
{
    struct session session;

    (void)state;
    for (size_t graph = 0; graph < COUNT(graphs); graph++) {
        open_graph(&session, (enum graph)graph, 2);
        for (size_t n_sequences = 0; n_sequences <= 7; n_sequences += 7) {
            struct batch batch = {.n_sequences = n_sequences};
            int64_t out = -1;

            run_well(&session, (enum graph)graph, x, &batch, &out);
            assert_int_equal(out, graph == KV_STORE ? 0 : -1);
        }
        session_close(&session);
    }
}

static void test_wrong_batches(void **state)
{
    static const struct {
        enum graph graph;
        struct batch batch;
        const char *first, *second; /* what the message names */
    } cases[] = {
        {KV_STORE, {1, KV_F16, {0, 8}, {0}, {{64}}}, "block 64", "pool of 64"},
        {KV_STORE, {1, KV_F16, {0, 8}, {0}, {{-1}}}, "block -1", "KvStore"},
        {KV_STORE, {1, KV_F32, {0, 193}, {0}, {{0}}}, "sequence 0", "193"},
        {KV_STORE, {2, KV_F16, {0, 9, 8}, {0}, {{0}}}, "sequence 0", "0 to 9"},
        {KV_STORE, {2, KV_F16, {0, -1, 8}, {0}, {{0}}}, "sequence 0", "0 to -1"},
        {KV_STORE, {1, KV_F16, {1, 8}, {0}, {{0}}}, "query_start", "8 tokens"},
        {CROSS_ATTENTION, {1, KV_F16, {0, 8}, {0}, {{0}}}, "sequence 0", "source 0"},
        {CROSS_ATTENTION, {1, KV_F16, {0, 8}, {-1}, {{0}}}, "sequence 0", "source -1"},
        {CROSS_ATTENTION, {1, KV_F16, {0, 0}, {-1}, {{0}}}, "sequence 0", "source -1"},
        {CROSS_ATTENTION, {1, KV_F16, {0, 8}, {193}, {{0}}}, "sequence 0", "source 193"},
        {CROSS_ATTENTION, {1, KV_INT8, {0, 8}, {17}, {{3, 64}}}, "block 64", "pool of 64"},
        {CROSS_ATTENTION, {2, KV_F16, {0, 9, 8}, {4, 4}, {{0}}}, "sequence 0", "0 to 9"},
        {CROSS_ATTENTION, {1, KV_F16, {2, 8}, {4}, {{0}}}, "query_start", "8 tokens"},
        {PAGED_ATTENTION, {1, KV_F16, {0, 8}, {7}, {{0}}}, "sequence 0", "context 7"},
        {PAGED_ATTENTION, {1, KV_F16, {0, 8}, {8}, {{-5}}}, "block -5", "pool of 64"},
    };
    struct session session;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct batch batch = cases[i].batch;
        kvern_error err = {0};

        open_graph(&session, cases[i].graph, 1);
        kvern_status status = run(&session, cases[i].graph, x, &batch, y, &err);
        check_message(status, &err, cases[i].first);
        check_message(status, &err, cases[i].second);
        session_close(&session);
    }
}

static void test_wrong_graphs(void **state)
{
    static const struct {
        enum graph graph;
        struct fault fault;
        const char *first, *second;
    } cases[] = {
        {PACKED_ATTENTION, {.n_bias = {HEADS + 1, N_DISTANCES}}, "bias", "[3, 19]"},
        {PACKED_ATTENTION, {.n_bias = {HEADS, N_DISTANCES - 1}}, "bias", "[2, 18]"},
        {PACKED_ATTENTION, {.is_bias_computed = true}, "input 2", "initializer"},
        {PAGED_ATTENTION, {.n_bias = {1, N_DISTANCES}}, "2 heads", "[1, 19]"},
        {PAGED_ATTENTION, {.is_bias_computed = true}, "input 8", "initializer"},
        {PAGED_ATTENTION, {.head_size = 12}, "size 12", "multiple of 8"},
        {CROSS_ATTENTION, {.head_size = 12}, "CrossAttention", "multiple of 8"},
        {CROSS_ATTENTION, {.first_layer = 5000}, "layer", "5003"},
        {KV_STORE, {.head_size = 12}, "KvStore", "multiple of 8"},
        {KV_STORE, {.first_layer = -1}, "first_layer", "-1"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct session session = {0};
        kvern_error err = {0};

        write_graph(cases[i].graph, &cases[i].fault);
        kvern_status status =
            session_open(&session, graph_path, &(struct session_options){.n_threads = 1}, &err);
        check_message(status, &err, cases[i].first);
        check_message(status, &err, cases[i].second);
    }
}

/* A graph that opens, of other layers or heads than the pool's, or of other columns than x's. */
static void test_wrong_shapes(void **state)
{
    static const struct {
        enum graph graph;
        struct fault fault;
        const char *first;
    } cases[] = {
        {KV_STORE, {.first_layer = 1}, "5 or more layers"},
        {CROSS_ATTENTION, {.first_layer = 1}, "5 or more layers"},
        {PAGED_ATTENTION, {.first_layer = 1}, "5 or more layers"},
        {KV_STORE, {.head_size = 40}, "[T, 320]"},
        {CROSS_ATTENTION, {.head_size = 40}, "[T, 80]"},
        {PAGED_ATTENTION, {.head_size = 40}, "[T, 240]"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct batch batch = {1, KV_F16, {0, 8}, {8}, {{0}}};
        struct session session;
        kvern_error err = {0};

        write_graph(cases[i].graph, &cases[i].fault);
        assert_int_equal(
            session_open(&session, graph_path, &(struct session_options){.n_threads = 1}, NULL),
            KVERN_OK);
        check_message(run(&session, cases[i].graph, x, &batch, y, &err), &err, cases[i].first);
        session_close(&session);
    }
}

int main(void)
{
    const struct kernels *sets[8];
    size_t n_sets = kernels_list(sets, 8);
    int n_failed = 0;

    for (size_t i = 0; i < n_sets; i++) {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_cross_attention), cmocka_unit_test(test_paged_attention),
            cmocka_unit_test(test_empty_batches),   cmocka_unit_test(test_wrong_batches),
            cmocka_unit_test(test_wrong_graphs),    cmocka_unit_test(test_wrong_shapes),
        };

        setenv("KVERN_ISA", sets[i]->name, 1);
        n_failed += cmocka_run_group_tests_name(sets[i]->name, tests, set_up, tear_down);
    }
    return n_failed;
}
