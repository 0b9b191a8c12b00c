/* SPDX-License-Identifier: Apache-2.0
 *
 * Every size an operator states is compared with the bytes its tensors have, products checked, so
 * that whoever reads rows later stays inside the file. Block formats as ONNX Runtime's contrib
 * operators define them (docs/ContribOperators.md of that project).
 */
#include "convert/gqa_weights.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char MICROSOFT[] = "com.microsoft";

enum { MAX_CASTS = 16 };

static const uint8_t no_bytes[1];

kvern_status gqa_misfit(const struct gqa_walk *walk, const struct onnx_graph_node *node,
                        const char *format, ...)
{
    char reason[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return fail(walk->err, KVERN_UNSUPPORTED,
                "the graph is not converted, though it runs as it is: node %.120s (%.60s) %s",
                node->name, node->op, reason);
}

void gqa_use(struct gqa_walk *walk, const struct onnx_graph_node *node)
{
    walk->is_used[node - walk->graph->nodes] = true;
}

static bool is_float(int64_t type)
{
    return type == ONNX_ELEMENT_F32 || type == ONNX_ELEMENT_F16 || type == ONNX_ELEMENT_BF16;
}

/* Whether a node hands its input on: a cast between floats, or nothing at all. */
static bool is_transparent(const struct onnx_graph_node *node)
{
    return graph_node_input(node, 0) &&
           (graph_node_is(node, "", "Identity") ||
            (graph_node_is(node, "", "Cast") && is_float(graph_node_int(node, "to", 0))));
}

const struct onnx_graph_value *gqa_origin(struct gqa_walk *walk,
                                          const struct onnx_graph_value *value)
{
    for (int i = 0; i < MAX_CASTS && value && value->node && is_transparent(value->node); i++) {
        gqa_use(walk, value->node);
        value = graph_node_input(value->node, 0);
    }
    return value;
}

const struct onnx_graph_node *gqa_maker(struct gqa_walk *walk, const struct onnx_graph_value *value)
{
    value = gqa_origin(walk, value);
    return value ? value->node : NULL;
}

const struct onnx_tensor *gqa_constant(struct gqa_walk *walk, const struct onnx_graph_value *value)
{
    value = gqa_origin(walk, value);
    return value && value->tensor && value->tensor->data ? value->tensor : NULL;
}

kvern_status gqa_check_attributes(const struct gqa_walk *walk, const struct onnx_graph_node *node,
                                  const char *const *names)
{
    for (size_t i = 0; i < node->n_attributes; i++) {
        size_t j = 0;

        while (names[j] && strcmp(names[j], node->attributes[i].name) != 0)
            j++;
        if (!names[j])
            return gqa_misfit(walk, node, "has the attribute %.60s, which is not known",
                              node->attributes[i].name);
    }
    return KVERN_OK;
}

/* ---- floats ---- */

static bool float_type(const struct onnx_tensor *from, enum tensor_type *type)
{
    if (from->type == ONNX_ELEMENT_F32)
        *type = TENSOR_F32;
    else if (from->type == ONNX_ELEMENT_F16)
        *type = TENSOR_F16;
    else if (from->type == ONNX_ELEMENT_BF16)
        *type = TENSOR_BF16;
    else
        return false;
    return true;
}

/* Bytes and mapping, as a tensor without dims. */
static struct tensor bytes_of(const struct onnx_tensor *from)
{
    return (struct tensor){.data = from->data, .n_bytes = from->n_bytes, .file = from->file};
}

kvern_status gqa_vector(struct gqa_walk *walk, const struct onnx_graph_node *node,
                        const struct onnx_graph_value *value, struct tensor *vector)
{
    const struct onnx_tensor *from = gqa_constant(walk, value);

    if (!from || from->n_dims != 1)
        return gqa_misfit(walk, node, "reads %.80s, which is no constant vector",
                          value ? value->name : "nothing");
    *vector = bytes_of(from);
    if (!float_type(from, &vector->type))
        return gqa_misfit(walk, node, "reads %.80s, which holds no floats", value->name);
    vector->n_dims = 1;
    vector->dims[0] = from->dims[0];
    return KVERN_OK;
}

/* A matrix of floats that `node` reads, seen as [N, K]: it is stored so, or as [K, N]; a Transpose
 * between turns that round. */
static kvern_status read_floats(struct gqa_walk *walk, const struct onnx_graph_node *node,
                                const struct onnx_graph_value *value, bool is_k_by_n,
                                struct tensor *matrix)
{
    const struct onnx_graph_node *maker = gqa_maker(walk, value);
    const struct onnx_tensor *from;

    if (maker && graph_node_is(maker, "", "Transpose")) {
        const struct onnx_graph_attribute *perm = graph_node_attribute(maker, "perm");

        if (perm && (perm->n_ints != 2 || perm->ints[0] != 1 || perm->ints[1] != 0))
            return gqa_misfit(walk, maker, "does more than turn a matrix round");
        gqa_use(walk, maker);
        is_k_by_n = !is_k_by_n;
        value = graph_node_input(maker, 0);
    }
    from = gqa_constant(walk, value);
    if (!from || from->n_dims != 2)
        return gqa_misfit(walk, node, "reads %.80s, which is no constant matrix",
                          value ? value->name : "nothing");
    *matrix = bytes_of(from);
    if (!float_type(from, &matrix->type))
        return gqa_misfit(walk, node, "reads %.80s, which holds no floats", value->name);
    matrix->n_dims = 2;
    matrix->dims[0] = from->dims[is_k_by_n ? 1 : 0];
    matrix->dims[1] = from->dims[is_k_by_n ? 0 : 1];
    matrix->stride = is_k_by_n ? from->dims[1] : 0;
    return KVERN_OK;
}

/* ---- blocks ---- */

/* What a block operator says of its matrix. */
struct block_inputs {
    const struct onnx_graph_node *node;
    const struct onnx_tensor *data;
    const struct onnx_graph_value *scales;
    const struct onnx_graph_value *zeros; /* or NULL */
    size_t n;
    size_t k;
    int64_t bits;
    int64_t size;
};

/* Whether zero points are a tensor of the right type and size: packed as bytes, each row by itself;
 * or, where the integers are 4-bit elements, as those, which is the same for an even count. */
static bool has_good_zeros(const struct block_inputs *in, const struct onnx_tensor *zeros,
                           size_t n_blocks)
{
    size_t row_bytes = in->bits == 4 ? n_blocks / 2 + n_blocks % 2 : n_blocks;
    size_t n_bytes;

    return zeros && zeros->type == in->data->type &&
           (zeros->type == ONNX_ELEMENT_U8 || n_blocks % 2 == 0) &&
           multiply_sizes(in->n, row_bytes, &n_bytes) && zeros->n_bytes == n_bytes;
}

/* Whether all zero points are the middle, as if there were none. */
static bool are_zeros_in_the_middle(const struct tensor *matrix, size_t n_blocks)
{
    const struct tensor_blocks *blocks = &matrix->blocks;
    bool has_4_bits = matrix->type == TENSOR_BLOCKS_4;
    size_t row_bytes = has_4_bits ? n_blocks / 2 + n_blocks % 2 : n_blocks;
    uint8_t middle = (has_4_bits ? 8 : 128) ^ blocks->flip;

    for (size_t row = 0; row < matrix->dims[0]; row++) {
        const uint8_t *zeros = blocks->zeros + row * row_bytes;

        for (size_t i = 0; i < n_blocks; i++) {
            uint8_t zero = has_4_bits ? zeros[i / 2] >> i % 2 * 4 & 15 : zeros[i];

            if (zero != middle)
                return false;
        }
    }
    return true;
}

static kvern_status read_blocks(struct gqa_walk *walk, const struct block_inputs *in,
                                struct tensor *matrix)
{
    const struct onnx_tensor *scales = gqa_constant(walk, in->scales);
    const struct onnx_tensor *zeros = gqa_constant(walk, in->zeros);
    size_t size = (size_t)in->size, n_blocks, n_scales, row_bytes, n_bytes;

    if ((in->bits != 4 && in->bits != 8) || in->size < 16 || in->size > 1024 ||
        (in->size & (in->size - 1)) != 0)
        return gqa_misfit(walk, in->node, "has %lld-bit integers in blocks of %lld",
                          (long long)in->bits, (long long)in->size);
    n_blocks = in->k / size + (in->k % size != 0);
    row_bytes = n_blocks * size * (size_t)in->bits / 8;
    if (in->n < 1 || in->n > INT32_MAX || in->k < 1 || in->k > INT32_MAX || !in->data ||
        !multiply_sizes(in->n, row_bytes, &n_bytes) || in->data->n_bytes != n_bytes)
        return gqa_misfit(walk, in->node, "has weights of %zu bytes, which are not [%zu, %zu]",
                          in->data ? in->data->n_bytes : 0, in->n, in->k);
    *matrix = bytes_of(in->data);
    matrix->type = in->bits == 4 ? TENSOR_BLOCKS_4 : TENSOR_BLOCKS_8;
    matrix->n_dims = 2;
    matrix->dims[0] = in->n;
    matrix->dims[1] = in->k;
    matrix->blocks.size = size;
    matrix->blocks.zero = in->data->type == ONNX_ELEMENT_U8 ? (in->bits == 4 ? 8 : 128) : 0;
    matrix->blocks.flip = in->data->type == ONNX_ELEMENT_I4 ? 8 : 0;
    n_scales = in->n * n_blocks;
    if (!scales || !float_type(scales, &matrix->blocks.scale_type) ||
        onnx_tensor_n_values(scales) != n_scales)
        return gqa_misfit(walk, in->node, "has no %zu scales for its blocks", n_scales);
    matrix->blocks.scales = scales->data;
    if (!in->zeros)
        return KVERN_OK;
    if (!has_good_zeros(in, zeros, n_blocks))
        return gqa_misfit(walk, in->node, "has zero points that are not %lld-bit integers",
                          (long long)in->bits);
    matrix->blocks.zeros = zeros->data;
    if (are_zeros_in_the_middle(matrix, n_blocks)) {
        matrix->blocks.zeros = NULL;
        matrix->blocks.zero = (in->bits == 4 ? 8 : 128) ^ matrix->blocks.flip;
    }
    return KVERN_OK;
}

static kvern_status read_matmul_nbits(struct gqa_walk *walk, const struct onnx_graph_node *node,
                                      struct tensor *weight)
{
    static const char *const known[] = {"K", "N", "bits", "block_size", "accuracy_level", NULL};
    int64_t n = graph_node_int(node, "N", 0);
    int64_t k = graph_node_int(node, "K", 0);
    struct block_inputs in = {.node = node,
                              .data = gqa_constant(walk, graph_node_input(node, 1)),
                              .scales = graph_node_input(node, 2),
                              .zeros = graph_node_input(node, 3),
                              .n = n > 0 ? (size_t)n : 0,
                              .k = k > 0 ? (size_t)k : 0,
                              .bits = graph_node_int(node, "bits", 4),
                              .size = graph_node_int(node, "block_size", 0)};
    kvern_status status = gqa_check_attributes(walk, node, known);

    if (status != KVERN_OK)
        return status;
    if (!in.data || in.data->type != ONNX_ELEMENT_U8)
        return gqa_misfit(walk, node, "has no constant weights of bytes");
    if (graph_node_input(node, 4))
        return gqa_misfit(walk, node, "has its columns in another order (g_idx)");
    return read_blocks(walk, &in, weight);
}

/* ---- linears ---- */

static bool is_matrix_node(const struct onnx_graph_node *node)
{
    return graph_node_is(node, "", "MatMul") || graph_node_is(node, MICROSOFT, "MatMulNBits");
}

/* Which input of an Add is a bias; -1: neither. */
static int find_bias(struct gqa_walk *walk, const struct onnx_graph_node *add)
{
    for (int i = 0; i < 2; i++) {
        const struct onnx_tensor *tensor = gqa_constant(walk, graph_node_input(add, (size_t)i));

        if (tensor && tensor->n_dims == 1)
            return i;
    }
    return -1;
}

bool gqa_is_linear(struct gqa_walk *walk, const struct onnx_graph_value *value)
{
    const struct onnx_graph_node *node = gqa_maker(walk, value);

    return node &&
           (is_matrix_node(node) || (graph_node_is(node, "", "Add") && find_bias(walk, node) >= 0));
}

kvern_status gqa_read_linear(struct gqa_walk *walk, const struct onnx_graph_value *value,
                             const struct onnx_graph_node *reader, struct gqa_linear *linear)
{
    const struct onnx_graph_node *node = gqa_maker(walk, value);
    const struct onnx_graph_value *bias = NULL;
    const struct onnx_graph_node *adder = NULL;
    kvern_status status;

    *linear = (struct gqa_linear){0};
    if (!node || !gqa_is_linear(walk, value))
        return gqa_misfit(walk, node ? node : reader, "should %s a matrix",
                          node ? "be" : "read the output of");
    if (graph_node_is(node, "", "Add")) {
        int i = find_bias(walk, node);

        adder = node;
        gqa_use(walk, node);
        bias = graph_node_input(adder, (size_t)i);
        node = gqa_maker(walk, graph_node_input(adder, (size_t)(1 - i)));
    }
    if (!node || !is_matrix_node(node))
        return gqa_misfit(walk, adder ? adder : reader, "adds a bias to what is no matrix");
    gqa_use(walk, node);
    if (graph_node_is(node, "", "MatMul"))
        status = read_floats(walk, node, graph_node_input(node, 1), true, &linear->weight);
    else
        status = read_matmul_nbits(walk, node, &linear->weight);
    if (status == KVERN_OK && bias && graph_node_input(node, 5))
        status = gqa_misfit(walk, node, "has two biases");
    if (status == KVERN_OK && !bias && (bias = graph_node_input(node, 5)))
        adder = node;
    if (status == KVERN_OK && bias)
        status = gqa_vector(walk, adder, bias, &linear->bias);
    if (status != KVERN_OK)
        return status;
    size_t n = linear->weight.dims[0];
    if (!bias)
        linear->bias =
            (struct tensor){.type = TENSOR_ZERO, .n_dims = 1, .dims = {n}, .data = no_bytes};
    else if (linear->bias.dims[0] != n)
        return gqa_misfit(walk, adder, "has a bias of %zu values for %zu rows",
                          linear->bias.dims[0], n);
    linear->input = gqa_origin(walk, graph_node_input(node, 0));
    return KVERN_OK;
}

/* ---- the embedding ---- */

/* Data, possibly through a Reshape, which moves no byte: sets n and k of the rows it becomes. */
static kvern_status find_table_data(struct gqa_walk *walk, struct block_inputs *in)
{
    const struct onnx_graph_value *value = graph_node_input(in->node, 0);
    const struct onnx_graph_node *maker = gqa_maker(walk, value);
    int64_t dims[2];
    size_t n_dims = 0;

    if (maker && graph_node_is(maker, "", "Reshape")) {
        const struct onnx_tensor *shape = gqa_constant(walk, graph_node_input(maker, 1));

        if (!shape || !onnx_tensor_integers(shape, dims, 2, &n_dims) || n_dims != 2 ||
            dims[0] < 1 || dims[1] < 1)
            return gqa_misfit(walk, maker, "does not make a constant matrix");
        gqa_use(walk, maker);
        value = graph_node_input(maker, 0);
    }
    in->data = gqa_constant(walk, value);
    if (!in->data || (n_dims == 0 && in->data->n_dims != 2))
        return gqa_misfit(walk, in->node, "reads no constant matrix");
    in->n = n_dims ? (size_t)dims[0] : in->data->dims[0];
    in->k = n_dims ? (size_t)dims[1] : in->data->dims[1];
    if (in->n > INT32_MAX || in->k > INT32_MAX)
        return gqa_misfit(walk, in->node, "reads a matrix that is too large");
    if (in->data->type == ONNX_ELEMENT_U8)
        in->k = in->k * 8 / (size_t)in->bits;
    else if (in->bits != 4 ||
             (in->data->type != ONNX_ELEMENT_U4 && in->data->type != ONNX_ELEMENT_I4))
        return gqa_misfit(walk, in->node, "reads integers of the element type %d",
                          (int)in->data->type);
    return KVERN_OK;
}

/* What a Slice leaves of each row: [0, end) of the last axis. */
static kvern_status read_slice(struct gqa_walk *walk, const struct onnx_graph_node *slice,
                               size_t *end)
{
    int64_t values[3] = {0};
    bool is_good = slice->n_inputs >= 4 && !graph_node_input(slice, 4);

    for (size_t i = 0; i < 3 && is_good; i++) {
        const struct onnx_tensor *tensor = gqa_constant(walk, slice->inputs[i + 1]);
        size_t n;

        is_good = tensor && onnx_tensor_integers(tensor, &values[i], 1, &n) && n == 1;
    }
    if (!is_good || values[0] != 0 || values[1] < 1 || (values[2] != -1 && values[2] != 2))
        return gqa_misfit(walk, slice, "does more than cut the padding of the embedding off");
    gqa_use(walk, slice);
    *end = (size_t)values[1];
    return KVERN_OK;
}

static kvern_status read_block_table(struct gqa_walk *walk, const struct onnx_graph_node *node,
                                     size_t n_kept, struct tensor *table)
{
    static const char *const known[] = {"bits", "block_size", "gather_axis", "quantize_axis", NULL};
    int64_t axis = graph_node_int(node, "quantize_axis", 1);
    struct block_inputs in = {.node = node,
                              .scales = graph_node_input(node, 2),
                              .zeros = graph_node_input(node, 3),
                              .bits = graph_node_int(node, "bits", 4),
                              .size = graph_node_int(node, "block_size", 128)};
    kvern_status status = gqa_check_attributes(walk, node, known);

    if (status == KVERN_OK && ((in.bits != 4 && in.bits != 8) || (axis != 1 && axis != -1) ||
                               graph_node_int(node, "gather_axis", 0) != 0))
        status = gqa_misfit(walk, node, "does not look up rows of 4- or 8-bit integers");
    if (status == KVERN_OK)
        status = find_table_data(walk, &in);
    if (status != KVERN_OK)
        return status;
    if (n_kept > 0 && n_kept <= in.k && in.k - n_kept < (size_t)in.size)
        in.k = n_kept;
    else if (n_kept > 0)
        return gqa_misfit(walk, node, "is cut to %zu of %zu values", n_kept, in.k);
    return read_blocks(walk, &in, table);
}

kvern_status gqa_read_table(struct gqa_walk *walk, const struct onnx_graph_value *value,
                            const struct onnx_graph_node *reader, struct tensor *table)
{
    const struct onnx_graph_node *node = gqa_maker(walk, value);
    const struct onnx_graph_value *ids;
    size_t n_kept = 0;
    kvern_status status = KVERN_OK;

    if (node && graph_node_is(node, "", "Slice")) {
        status = read_slice(walk, node, &n_kept);
        reader = node;
        node = gqa_maker(walk, graph_node_input(node, 0));
    }
    if (status != KVERN_OK)
        return status;
    if (!node)
        return gqa_misfit(walk, reader, "should read an embedding");
    ids = graph_node_input(node, 1);
    if (!ids || !ids->is_input)
        return gqa_misfit(walk, node, "should look up the input_ids in an embedding table");
    gqa_use(walk, node);
    if (graph_node_is(node, MICROSOFT, "GatherBlockQuantized"))
        return read_block_table(walk, node, n_kept, table);
    if (!graph_node_is(node, "", "Gather") || n_kept > 0 || graph_node_int(node, "axis", 0) != 0)
        return gqa_misfit(walk, node, "should look up the input_ids in an embedding table");
    return read_floats(walk, node, graph_node_input(node, 0), false, table);
}
