/* SPDX-License-Identifier: Apache-2.0
 *
 * onnx_graph, onnx_tensor and onnx_model: what a good graph is seen as, and that each way of being
 * ill-formed is an error that names the thing. Files are written field by field.
 */
#include "base/file.h"
#include "base/memory.h"
#include "convert/onnx_model.h"
#include "convert/support_protobuf.h"
#include "support/scratch.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* GraphProto and ModelProto fields. */
enum { NODE = 1, INITIALIZER = 5, INPUT = 11, OUTPUT = 12, SPARSE = 15, GRAPH = 7 };

static const int64_t two[] = {2, 0};
static const float values[] = {1.5f, -2};

static void add(struct buffer *graph, unsigned field, struct buffer part)
{
    put_message(graph, field, &part);
}

static struct buffer model_of(struct buffer graph)
{
    struct buffer model = {0}, opset = {0};

    put_number(&opset, 2, 17);
    put_number(&model, 1, 8);
    put_message(&model, 8, &opset);
    put_message(&model, GRAPH, &graph);
    return model;
}

/* x and w -> Add -> y -> Neg -> logits. */
static struct buffer good_graph(void)
{
    struct buffer graph = {0};

    add(&graph, NODE, make_node("Add", "x w", "y"));
    add(&graph, NODE, make_node("Neg", "y", "logits"));
    add(&graph, INITIALIZER, make_tensor("w", 1, two, values, sizeof values));
    add(&graph, INPUT, make_port("x"));
    add(&graph, OUTPUT, make_port("logits"));
    return graph;
}

static kvern_status parse(struct onnx_model *model, const struct buffer *bytes, kvern_error *err)
{
    return onnx_model_parse(model, (const uint8_t *)bytes->data, bytes->n_bytes, err);
}

static void a_good_graph(void **state)
{
    struct buffer bytes = model_of(good_graph());
    struct onnx_model model;
    kvern_error err;

    (void)state;
    if (parse(&model, &bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    const struct onnx_graph *graph = &model.graph;
    const struct onnx_graph_value *y = onnx_graph_find(graph, "y");
    const struct onnx_graph_value *w = onnx_graph_find(graph, "w");
    const struct onnx_graph_value *logits = onnx_graph_find(graph, "logits");
    assert_int_equal(graph->n_nodes, 2);
    assert_int_equal(graph->n_values, 4);
    assert_true(y->node == &graph->nodes[0] && y->n_readers == 1 && !y->is_input && !y->tensor);
    assert_true(graph->nodes[1].inputs[0] == y && graph->nodes[1].outputs[0] == logits);
    assert_true(w->tensor && !w->node && memcmp(w->tensor->data, values, sizeof values) == 0);
    assert_true(logits->is_output && logits->n_readers == 0);
    assert_true(onnx_graph_find(graph, "x")->is_input);
    assert_null(onnx_graph_find(graph, "z"));
    assert_true(graph_node_is(&graph->nodes[0], "", "Add"));
    assert_int_equal(model.n_opsets, 1);
    assert_int_equal(model.opsets[0].version, 17);
    onnx_model_close(&model);
    buffer_clear(&bytes);
}

/* ---- constants and subgraphs ---- */

static struct buffer make_attribute(const char *name, unsigned type)
{
    struct buffer attribute = {0};

    put_text(&attribute, 1, name);
    put_number(&attribute, 20, type);
    return attribute;
}

static void numbers_in_all_spellings(void **state)
{
    static const int64_t dims[] = {3, 0};
    struct buffer graph = {0}, packed = {0};
    struct buffer loose = make_tensor("loose", 7, dims, NULL, 0);
    struct buffer dense = make_tensor("dense", 6, dims, NULL, 0);
    struct buffer half = make_tensor("half", 10, two, NULL, 0);
    struct buffer constant = make_node("Constant", "", "axes");
    struct buffer ints = make_attribute("value_ints", 7);
    const struct onnx_tensor *tensor;
    struct onnx_model model;
    kvern_error err;
    int64_t numbers[3];
    size_t n;

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        put_number(&loose, 7, i - 1); /* -1, 0, 1 */
        put_number(&ints, 8, i * 7);
        put_varint(&packed, i + 300);
    }
    put_message(&dense, 5, &packed);
    put_number(&half, 5, 0x3c00);
    put_number(&half, 5, 0xc000);
    put_message(&constant, 5, &ints);
    put_message(&graph, INITIALIZER, &loose);
    put_message(&graph, INITIALIZER, &dense);
    put_message(&graph, INITIALIZER, &half);
    put_message(&graph, NODE, &constant);
    struct buffer bytes = model_of(graph);
    if (parse(&model, &bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    tensor = onnx_graph_find(&model.graph, "loose")->tensor;
    assert_true(onnx_tensor_integers(tensor, numbers, 3, &n) && n == 3);
    assert_true(numbers[0] == -1 && numbers[2] == 1);
    assert_false(onnx_tensor_integers(tensor, numbers, 2, &n));
    tensor = onnx_graph_find(&model.graph, "dense")->tensor;
    assert_true(onnx_tensor_integers(tensor, numbers, 3, &n) && numbers[2] == 302);
    tensor = onnx_graph_find(&model.graph, "axes")->tensor;
    assert_true(onnx_tensor_integers(tensor, numbers, 3, &n) && n == 3 && numbers[2] == 14);
    tensor = onnx_graph_find(&model.graph, "half")->tensor;
    assert_int_equal(tensor->n_bytes, 4);
    assert_memory_equal(tensor->data, "\0\x3c\0\xc0", 4);
    assert_false(onnx_tensor_integers(tensor, numbers, 3, &n));
    onnx_model_close(&model);
    buffer_clear(&bytes);
}

/* If nodes inside each other, `depth` deep; the innermost graph reads x of the outermost. */
static struct buffer nested(unsigned depth)
{
    struct buffer graph = {0};

    if (depth == 0) {
        add(&graph, NODE, make_node("Add", "x inner", "y"));
        add(&graph, INITIALIZER, make_tensor("inner", 1, two, values, sizeof values));
    } else {
        struct buffer node = make_node("If", "x", "y");
        struct buffer attribute = make_attribute("then_branch", 5);
        struct buffer inner = nested(depth - 1);

        put_message(&attribute, 6, &inner);
        put_message(&node, 5, &attribute);
        put_message(&graph, NODE, &node);
    }
    add(&graph, OUTPUT, make_port("y"));
    return graph;
}

static void subgraphs(void **state)
{
    struct buffer graph = nested(3);
    struct onnx_model model;
    kvern_error err;

    (void)state;
    add(&graph, INPUT, make_port("x"));
    struct buffer bytes = model_of(graph);
    if (parse(&model, &bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    const struct onnx_graph *inner = &model.graph;
    for (int i = 0; i < 3; i++)
        inner = graph_node_attribute(&inner->nodes[0], "then_branch")->graph;
    const struct onnx_graph_value *x = onnx_graph_find(inner, "x");
    assert_true(x && !x->node && !x->tensor && !x->is_input && x->n_readers == 1);
    assert_int_equal(inner->n_tensors, 1);
    assert_non_null(onnx_graph_find(inner, "inner")->tensor->data);
    onnx_model_close(&model);
    buffer_clear(&bytes);

    graph = nested(9);
    add(&graph, INPUT, make_port("x"));
    bytes = model_of(graph);
    assert_int_equal(parse(&model, &bytes, &err), KVERN_LIMIT);
    assert_non_null(strstr(err.message, "levels of subgraphs"));
    buffer_clear(&bytes);
}

/* ---- what is refused ---- */

static struct buffer tensor_without_bytes(void)
{
    return make_tensor("t", 1, two, NULL, 0);
}

static struct buffer tensor_of(int type, int64_t first, int64_t second, const void *raw, size_t n)
{
    const int64_t dims[] = {first, second, 0};

    return make_tensor("t", type, dims, raw, n);
}

static struct buffer tensor_of_nine_dims(void)
{
    static const int64_t dims[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 0};

    return make_tensor("t", 1, dims, values, 4);
}

static struct buffer tensor_of_numbers(size_t n)
{
    struct buffer tensor = make_tensor("t", 7, two, NULL, 0);

    for (size_t i = 0; i < n; i++)
        put_number(&tensor, 7, i);
    return tensor;
}

static struct buffer tensor_in_segments(void)
{
    struct buffer tensor = make_tensor("t", 1, two, values, sizeof values);
    struct buffer segment = {0};

    put_number(&segment, 1, 0);
    put_message(&tensor, 3, &segment);
    return tensor;
}

static void put_entry(struct buffer *tensor, const char *key, const char *value)
{
    struct buffer entry = {0};

    if (!value)
        return;
    put_text(&entry, 1, key);
    put_text(&entry, 2, value);
    put_message(tensor, 13, &entry);
}

/* An initializer of two f32 values elsewhere; NULL leaves an entry out. */
static struct buffer external(const char *location, const char *offset, const char *length)
{
    struct buffer tensor = make_tensor("t", 1, two, NULL, 0);

    put_entry(&tensor, "location", location);
    put_entry(&tensor, "offset", offset);
    put_entry(&tensor, "length", length);
    put_number(&tensor, 14, 1);
    return tensor;
}

static void bad_parts(void **state)
{
    struct {
        unsigned field; /* of the graph, which is good without it */
        struct buffer part;
        kvern_status status;
        const char *says;
    } cases[] = {
        {NODE, make_node("Neg", "later", "z"), KVERN_FORMAT,
         "node the-node reads later, which nothing before it makes"},
        {NODE, make_node("Neg", "z", "z"), KVERN_FORMAT, "reads z, which nothing"},
        {NODE, make_node("Neg", "x", "y"), KVERN_FORMAT, "makes y, which is there before it"},
        {NODE, make_node("Neg", "x", "w"), KVERN_FORMAT, "makes w, which is there before it"},
        {NODE, make_node("Neg", "x", "u u"), KVERN_FORMAT, "makes u, which is there before it"},
        {NODE, make_node("", "x", "u"), KVERN_FORMAT, "damaged node the-node"},
        {NODE, make_node("Constant", "", "u"), KVERN_FORMAT, "Constant node the-node"},
        {INITIALIZER, make_tensor("w", 1, two, values, 8), KVERN_FORMAT, "initializer w twice"},
        {INITIALIZER, make_tensor("", 1, two, values, 8), KVERN_FORMAT, "without a name"},
        {INITIALIZER, make_tensor("t", 1, two, values, 7), KVERN_FORMAT,
         "tensor t has 7 bytes; its dims and type need 8"},
        {INITIALIZER, tensor_without_bytes(), KVERN_FORMAT, "tensor t has no values"},
        {INITIALIZER, tensor_of(99, 1, 1, values, 4), KVERN_UNSUPPORTED, "element type 99"},
        {INITIALIZER, tensor_of(1, -1, 1, values, 4), KVERN_FORMAT, "negative dimension"},
        {INITIALIZER, tensor_of(1, INT64_MAX, INT64_MAX, values, 4), KVERN_LIMIT, "too large"},
        {INITIALIZER, tensor_of(1, 1LL << 59, 1, values, 4), KVERN_LIMIT, "too large"},
        {INITIALIZER, tensor_of(7, 1LL << 40, 1, NULL, 0), KVERN_FORMAT, "has no values"},
        {INITIALIZER, tensor_of_nine_dims(), KVERN_LIMIT, "more than 8 dimensions"},
        {INITIALIZER, tensor_of_numbers(1), KVERN_FORMAT, "more or fewer values"},
        {INITIALIZER, tensor_of_numbers(3), KVERN_FORMAT, "more or fewer values"},
        {INITIALIZER, tensor_in_segments(), KVERN_UNSUPPORTED, "in segments"},
        {INITIALIZER, external("/etc/passwd", "0", "8"), KVERN_FORMAT, "not a plain name"},
        {INITIALIZER, external("../data", "0", "8"), KVERN_FORMAT, "not a plain name"},
        {INITIALIZER, external("a/data", "0", "8"), KVERN_FORMAT, "not a plain name"},
        {INITIALIZER, external("..", "0", "8"), KVERN_FORMAT, "not a plain name"},
        {INITIALIZER, external("", "0", "8"), KVERN_FORMAT, "not a plain name"},
        {INITIALIZER, external(NULL, "0", "8"), KVERN_FORMAT, "not a plain name"},
        {INITIALIZER, external("data", "-1", "8"), KVERN_FORMAT, "-1 is no value"},
        {INITIALIZER, external("data", "99999999999999999999", "8"), KVERN_FORMAT, "no value"},
        {INITIALIZER, external("data", "0", "9"), KVERN_FORMAT,
         "tensor t has 9 bytes in data; its dims and type need 8"},
        {INPUT, make_port("x"), KVERN_FORMAT, "input x is there twice"},
        {OUTPUT, make_port("logits"), KVERN_FORMAT, "output logits is there twice"},
        {OUTPUT, make_port("nothing"), KVERN_FORMAT, "output nothing is there twice or never made"},
        {SPARSE, tensor_without_bytes(), KVERN_UNSUPPORTED, "sparse initializers"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer graph = good_graph();
        struct onnx_model model;
        kvern_error err = {0};

        put_message(&graph, cases[i].field, &cases[i].part);
        struct buffer bytes = model_of(graph);
        kvern_status status = parse(&model, &bytes, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].says))
            fail_msg("case %zu: %s, \"%s\" does not say \"%s\"", i, kvern_status_name(status),
                     err.message, cases[i].says);
        assert_null(model.graph.nodes);
        buffer_clear(&bytes);
    }
}

/* Cut anywhere it is an error, or (where what is cut off was not needed) a good graph. */
static void cut_files(void **state)
{
    struct buffer bytes = model_of(good_graph());
    struct buffer twice = model_of(good_graph());
    struct buffer graph = good_graph();
    struct onnx_model model;
    kvern_error err;

    (void)state;
    for (size_t n = 0; n < bytes.n_bytes; n++) {
        uint8_t *copy = malloc(n + 1);

        memcpy(copy, bytes.data, n);
        memset(err.message, 0, sizeof err.message);
        assert_int_not_equal(onnx_model_parse(&model, copy, n, &err), KVERN_OK);
        assert_true(*err.message);
        free(copy);
    }
    put_message(&twice, GRAPH, &graph);
    assert_int_equal(parse(&model, &twice, &err), KVERN_FORMAT);
    assert_non_null(strstr(err.message, "more than one graph"));
    buffer_clear(&twice);
    buffer_clear(&bytes);
}

/* Every allocation that can fail does so once. */
static void no_memory(void **state)
{
    struct buffer bytes = model_of(nested(2));
    int64_t n = 0;
    struct onnx_model model;
    kvern_error err;
    bool has_failed = true;

    (void)state;
    buffer_clear(&bytes);
    struct buffer graph = nested(2);
    add(&graph, INPUT, make_port("x"));
    bytes = model_of(graph);
    for (; has_failed && n < 1000; n++) {
        memory_fail_after(n);
        kvern_status status = parse(&model, &bytes, &err);
        has_failed = memory_fail_after(-1);
        assert_int_equal(status, has_failed ? KVERN_MEMORY : KVERN_OK);
        onnx_model_close(&model);
    }
    assert_true(n > 20 && n < 1000);
    buffer_clear(&bytes);
}

/* ---- external data ---- */

static void external_data(void **state)
{
    static const struct {
        const char *location;
        const char *offset;
        const char *length;
        kvern_status status;
        const char *says; /* NULL: it opens */
    } cases[] = {
        {"data", "4", "8", KVERN_OK, NULL},
        {"data", "4", NULL, KVERN_OK, NULL},
        {"data", NULL, NULL, KVERN_OK, NULL},
        {"data", "5", "8", KVERN_FORMAT, "tensor t ends at byte 5 + 8 of data, which has 12 bytes"},
        {"data", "999999999999999999", "8", KVERN_FORMAT, "which has 12 bytes"},
        {"empty", NULL, NULL, KVERN_FORMAT, "which has 0 bytes"},
        {"missing", NULL, NULL, KVERN_NOT_FOUND, "missing cannot be read"},
        {"link", NULL, NULL, KVERN_FORMAT, "link is not a regular file"},
        {"twin", NULL, NULL, KVERN_FORMAT, "twin has 2 hard links; put a copy there"},
        {"folder", NULL, NULL, KVERN_FORMAT, "folder is not a regular file"},
    };
    static const float three[] = {0, 1.5f, -2};
    char *link_path = scratch_path("link"), *data = scratch_path("data");
    char *twin = scratch_path("twin"), *other = scratch_path("other");
    char *folder = scratch_path("folder"), *path = scratch_path("model.onnx");

    (void)state;
    scratch_put("data", three, sizeof three);
    scratch_put("twin", three, sizeof three);
    scratch_put("empty", "", 0);
    assert_int_equal(symlink("data", link_path), 0);
    assert_int_equal(link(twin, other), 0);
    assert_int_equal(directory_make(folder, NULL), KVERN_OK);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer graph = good_graph();
        struct onnx_model model;
        kvern_error err = {0};

        add(&graph, INITIALIZER, external(cases[i].location, cases[i].offset, cases[i].length));
        struct buffer bytes = model_of(graph);
        scratch_put("model.onnx", bytes.data, bytes.n_bytes);
        kvern_status status = onnx_model_open(&model, path, &err);
        if (status != cases[i].status || (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("case %zu: %s, \"%s\"", i, kvern_status_name(status), err.message);
        if (status == KVERN_OK) {
            const struct onnx_tensor *tensor = onnx_graph_find(&model.graph, "t")->tensor;

            assert_memory_equal(tensor->data, three + (cases[i].offset ? 1 : 0), 8);
            assert_int_equal(model.n_data_files, 1);
        }
        onnx_model_close(&model);
        buffer_clear(&bytes);
    }
    free(link_path);
    free(data);
    free(twin);
    free(other);
    free(folder);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_graph),  cmocka_unit_test(numbers_in_all_spellings),
        cmocka_unit_test(subgraphs),     cmocka_unit_test(bad_parts),
        cmocka_unit_test(cut_files),     cmocka_unit_test(no_memory),
        cmocka_unit_test(external_data),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
