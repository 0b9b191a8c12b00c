/* SPDX-License-Identifier: Apache-2.0
 *
 * The walk. A decoder is a stream to which each layer adds twice; before each addition stands a
 * norm. So from a norm backwards: of the two values it adds up, one comes out of a matrix (the
 * delta: MLP or attention) and the other is the stream, which the norm at the delta's beginning
 * must have read. The layers come last to first and are turned round at the end.
 */
#include "convert/gqa_graph.h"

#include "base/error.h"
#include "base/memory.h"
#include "convert/gqa_attention.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LAYERS = 1024 };

static const char MICROSOFT[] = "com.microsoft";

/* The stream at a norm: what it is the sum of, or the embedding. */
struct stream {
    const struct onnx_graph_node *norm;
    const struct onnx_graph_value *sum;      /* an origin; NULL where the norm keeps it to itself */
    const struct onnx_graph_value *terms[2]; /* both NULL: `sum` is nobody's sum */
};

/* Which operators normalise, and whether they add first. */
static bool is_norm(const struct onnx_graph_node *node, bool *adds)
{
    *adds = graph_node_is(node, MICROSOFT, "SkipSimplifiedLayerNormalization");
    return *adds || gqa_is_rms_norm(node);
}

static kvern_status use_epsilon(struct gqa_walk *walk, struct gqa_graph *out,
                                const struct onnx_graph_node *node)
{
    float epsilon = graph_node_float(node, "epsilon", 1e-5f);

    if (out->norm_epsilon == 0)
        out->norm_epsilon = epsilon;
    if (out->norm_epsilon != epsilon)
        return gqa_misfit(walk, node, "has epsilon = %g where another norm has %g", (double)epsilon,
                          (double)out->norm_epsilon);
    return KVERN_OK;
}

/* The norm whose output is `value`; `reader` wants it. */
static kvern_status read_norm(struct gqa_walk *walk, struct gqa_graph *out,
                              const struct onnx_graph_value *value,
                              const struct onnx_graph_node *reader, struct tensor *weight,
                              struct stream *stream)
{
    static const char *const known[] = {"epsilon", "axis", "stash_type", NULL};
    const struct onnx_graph_node *node = gqa_maker(walk, value);
    const struct onnx_graph_node *adder;
    bool adds;
    kvern_status status;

    if (!node || !is_norm(node, &adds))
        return gqa_misfit(walk, node ? node : reader, "should %s an RMS norm",
                          node ? "be" : "read the output of");
    *stream = (struct stream){.norm = node};
    if (gqa_origin(walk, value)->node_output != 0)
        return gqa_misfit(walk, reader, "reads another output of a norm than the first");
    gqa_use(walk, node);
    status = gqa_check_attributes(walk, node, known);
    if (status == KVERN_OK && graph_node_int(node, "axis", -1) != -1)
        status = gqa_misfit(walk, node, "does not normalise the last axis");
    if (status == KVERN_OK)
        status = use_epsilon(walk, out, node);
    if (status == KVERN_OK)
        status = gqa_vector(walk, node, graph_node_input(node, adds ? 2 : 1), weight);
    if (status == KVERN_OK && graph_node_input(node, adds ? 3 : 2))
        status = gqa_misfit(walk, node, "adds a bias");
    if (status != KVERN_OK)
        return status;
    if (adds) {
        stream->sum = node->n_outputs > 3 ? node->outputs[3] : NULL;
        adder = node;
    } else {
        stream->sum = gqa_origin(walk, graph_node_input(node, 0));
        adder = stream->sum ? stream->sum->node : NULL;
        if (!adder || !graph_node_is(adder, "", "Add"))
            return KVERN_OK;
        gqa_use(walk, adder);
    }
    for (size_t i = 0; i < 2; i++) {
        stream->terms[i] = gqa_origin(walk, graph_node_input(adder, i));
        if (!stream->terms[i])
            return gqa_misfit(walk, adder, "adds nothing to something");
    }
    return KVERN_OK;
}

/* Which term of the sum comes out of a matrix, and what the other is. */
static kvern_status split_sum(struct gqa_walk *walk, const struct stream *stream,
                              const struct onnx_graph_value **delta,
                              const struct onnx_graph_value **rest)
{
    size_t i = stream->terms[0] && gqa_is_linear(walk, stream->terms[0]) ? 0 : 1;

    if (!stream->terms[i] || !gqa_is_linear(walk, stream->terms[i]))
        return gqa_misfit(walk, stream->norm, "should read a sum with a matrix's output");
    *delta = stream->terms[i];
    *rest = stream->terms[1 - i];
    return KVERN_OK;
}

static kvern_status check_stream(struct gqa_walk *walk, const struct stream *stream,
                                 const struct onnx_graph_value *rest)
{
    if (stream->sum != rest)
        return gqa_misfit(walk, stream->norm,
                          "reads another stream than %.80s, to which its layer adds", rest->name);
    return KVERN_OK;
}

/* ---- the MLP ---- */

/* What `value` is an activation of; NULL if it is none that kvern has. Marks its nodes. */
static const struct onnx_graph_value *find_activation(struct gqa_walk *walk,
                                                      const struct onnx_graph_value *value,
                                                      enum model_activation *kind)
{
    const struct onnx_graph_node *node = gqa_maker(walk, value);
    const struct onnx_graph_attribute *attribute;
    const struct onnx_graph_value *inner = NULL;

    if (!node)
        return NULL;
    *kind = MODEL_ACTIVATION_SILU;
    if (graph_node_is(node, "", "Mul")) {
        for (size_t i = 0; i < 2 && !inner; i++) {
            const struct onnx_graph_node *gate = gqa_maker(walk, graph_node_input(node, i));
            const struct onnx_graph_value *x = gqa_origin(walk, graph_node_input(node, 1 - i));

            if (gate && graph_node_is(gate, "", "Sigmoid") &&
                gqa_origin(walk, graph_node_input(gate, 0)) == x) {
                gqa_use(walk, gate);
                inner = x;
            }
        }
    } else if ((graph_node_is(node, MICROSOFT, "QuickGelu") &&
                graph_node_float(node, "alpha", 1.702f) == 1) ||
               (graph_node_is(node, "", "Swish") && graph_node_float(node, "alpha", 1) == 1)) {
        inner = gqa_origin(walk, graph_node_input(node, 0));
    } else if (graph_node_is(node, MICROSOFT, "FastGelu") && !graph_node_input(node, 1)) {
        *kind = MODEL_ACTIVATION_GELU_TANH;
        inner = gqa_origin(walk, graph_node_input(node, 0));
    } else if (graph_node_is(node, "", "Gelu")) {
        attribute = graph_node_attribute(node, "approximate");
        *kind = MODEL_ACTIVATION_GELU_TANH;
        if (attribute && attribute->s && strcmp(attribute->s, "tanh") == 0)
            inner = gqa_origin(walk, graph_node_input(node, 0));
    }
    if (inner)
        gqa_use(walk, node);
    return inner;
}

/* gate and up as halves of one matrix, behind a Split. */
static kvern_status read_fused(struct gqa_walk *walk, const struct onnx_graph_value *gate,
                               const struct onnx_graph_value *up, struct gqa_layer *layer)
{
    const struct onnx_graph_node *split = gate->node;
    struct gqa_linear both;
    kvern_status status;

    if (up->node != split || gate->node_output != 0 || up->node_output != 1 ||
        split->n_outputs != 2)
        return gqa_misfit(walk, split, "does not give a gate and what it is for");
    status = gqa_read_linear(walk, graph_node_input(split, 0), split, &both);
    if (status != KVERN_OK)
        return status;
    size_t half = both.weight.dims[0] / 2;
    const size_t sizes[] = {half, half};
    status = gqa_check_split(walk, split, sizes, 2);
    if (status == KVERN_OK && both.weight.dims[0] != 2 * half)
        status = gqa_misfit(walk, split, "splits %zu rows in two", both.weight.dims[0]);
    if (status == KVERN_OK) {
        layer->gate = gqa_linear_rows(&both, 0, half);
        layer->up = gqa_linear_rows(&both, half, half);
    }
    return status;
}

/* down(activation(gate(x)) * up(x)); *x is the origin it begins with. */
static kvern_status read_mlp(struct gqa_walk *walk, struct gqa_graph *out,
                             const struct onnx_graph_value *value,
                             const struct onnx_graph_node *reader, struct gqa_layer *layer,
                             const struct onnx_graph_value **x)
{
    const struct onnx_graph_value *gate = NULL, *up = NULL;
    const struct onnx_graph_node *node;
    enum model_activation kind = MODEL_ACTIVATION_SILU;
    kvern_status status = gqa_read_linear(walk, value, reader, &layer->down);

    if (status != KVERN_OK)
        return status;
    node = gqa_maker(walk, layer->down.input);
    if (!node || !graph_node_is(node, "", "Mul"))
        return gqa_misfit(walk, node ? node : reader, "should be the product of gate and up");
    gqa_use(walk, node);
    for (size_t i = 0; i < 2 && !gate; i++) {
        gate = find_activation(walk, graph_node_input(node, i), &kind);
        up = gqa_origin(walk, graph_node_input(node, 1 - i));
    }
    if (!gate || !up)
        return gqa_misfit(walk, node, "has no factor that is silu or gelu (tanh) of a matrix");
    if (out->n_layers > 0 && out->activation != kind)
        return gqa_misfit(walk, node, "has another activation than the layers after it");
    out->activation = kind;
    if (gate->node && graph_node_is(gate->node, "", "Split")) {
        status = read_fused(walk, gate, up, layer);
    } else {
        status = gqa_read_linear(walk, gate, node, &layer->gate);
        if (status == KVERN_OK)
            status = gqa_read_linear(walk, up, node, &layer->up);
    }
    if (status == KVERN_OK && layer->gate.input != layer->up.input)
        status = gqa_misfit(walk, node, "multiplies gate and up of different inputs");
    *x = layer->gate.input;
    return status;
}

/* ---- layers ---- */

/* The layer that ends in `stream`, which is replaced by the one it begins with. */
static kvern_status read_layer(struct gqa_walk *walk, struct gqa_graph *out,
                               struct gqa_layer *layer, struct stream *stream)
{
    const struct onnx_graph_value *delta, *rest, *x;
    const struct onnx_graph_node *reader = stream->norm;
    kvern_status status = split_sum(walk, stream, &delta, &rest);

    if (status == KVERN_OK)
        status = read_mlp(walk, out, delta, reader, layer, &x);
    if (status == KVERN_OK)
        status = read_norm(walk, out, x, reader, &layer->post_norm, stream);
    if (status == KVERN_OK)
        status = check_stream(walk, stream, rest);
    if (status == KVERN_OK)
        status = split_sum(walk, stream, &delta, &rest);
    if (status == KVERN_OK)
        status = gqa_read_attention(walk, out, delta, stream->norm, layer, &x);
    reader = stream->norm;
    if (status == KVERN_OK)
        status = read_norm(walk, out, x, reader, &layer->input_norm, stream);
    if (status == KVERN_OK)
        status = check_stream(walk, stream, rest);
    return status;
}

static kvern_status read_layers(struct gqa_walk *walk, struct gqa_graph *out, struct stream *stream)
{
    kvern_status status = KVERN_OK;

    do {
        if (out->n_layers == MAX_LAYERS)
            return fail(walk->err, KVERN_LIMIT, "the graph has more than %d layers", MAX_LAYERS);
        if (out->n_layers % 32 == 0) {
            struct gqa_layer *grown =
                try_resize(out->layers, out->n_layers + 32, sizeof *out->layers);

            if (!grown)
                return fail(walk->err, KVERN_MEMORY, "out of memory for %zu layers",
                            out->n_layers + 32);
            out->layers = grown;
        }
        out->layers[out->n_layers] = (struct gqa_layer){0};
        status = read_layer(walk, out, &out->layers[out->n_layers], stream);
        out->n_layers++;
    } while (status == KVERN_OK && stream->terms[0]);
    for (size_t i = 0; i < out->n_layers / 2; i++) {
        struct gqa_layer kept = out->layers[i];

        out->layers[i] = out->layers[out->n_layers - 1 - i];
        out->layers[out->n_layers - 1 - i] = kept;
    }
    return status;
}

/* ---- the two ends ---- */

/* Where an export computes the logits of the last token only, it takes that one's row before the
 * output layer: Unsqueeze(Gather(x, -1)). kvern takes the rows it wants itself. */
static const struct onnx_graph_value *before_pruning(struct gqa_walk *walk,
                                                     const struct onnx_graph_value *x)
{
    const struct onnx_graph_node *unsqueeze = gqa_maker(walk, x);
    const struct onnx_graph_node *gather;
    const struct onnx_tensor *which;
    int64_t row;
    size_t n;

    if (!unsqueeze || !graph_node_is(unsqueeze, "", "Unsqueeze"))
        return x;
    gather = gqa_maker(walk, graph_node_input(unsqueeze, 0));
    which = gather ? gqa_constant(walk, graph_node_input(gather, 1)) : NULL;
    if (!which || !graph_node_is(gather, "", "Gather") || graph_node_int(gather, "axis", 0) != 1 ||
        !onnx_tensor_integers(which, &row, 1, &n) || n != 1 || row != -1)
        return x;
    gqa_use(walk, unsqueeze);
    gqa_use(walk, gather);
    return gqa_origin(walk, graph_node_input(gather, 0));
}

static kvern_status read_head(struct gqa_walk *walk, struct gqa_graph *out, struct stream *stream)
{
    const struct onnx_graph_value *logits = onnx_graph_find(walk->graph, "logits");
    const struct onnx_graph_node *node = logits ? gqa_maker(walk, logits) : NULL;
    struct gqa_linear head;
    kvern_status status;

    if (!logits || !logits->is_output || !node)
        return fail(walk->err, KVERN_UNSUPPORTED, "the graph has no output logits");
    status = gqa_read_linear(walk, logits, node, &head);
    if (status == KVERN_OK && head.bias.type != TENSOR_ZERO)
        status = gqa_misfit(walk, node, "adds a bias to the logits");
    if (status != KVERN_OK)
        return status;
    out->lm_head = head.weight;
    return read_norm(walk, out, before_pruning(walk, head.input), node, &out->final_norm, stream);
}

static bool are_same_bytes(const struct tensor *a, const struct tensor *b)
{
    return a->data == b->data && a->type == b->type && a->dims[0] == b->dims[0] &&
           a->dims[1] == b->dims[1] && a->stride == b->stride && a->blocks.size == b->blocks.size &&
           a->blocks.scales == b->blocks.scales && a->blocks.zeros == b->blocks.zeros &&
           a->blocks.zero == b->blocks.zero && a->blocks.flip == b->blocks.flip;
}

/* Whether two tables of floats hold the same values: an exporter may write a tied table twice, once
 * turned round. Different ones are told apart by a row or two. */
static kvern_status compare_tables(const struct tensor *a, const struct tensor *b, bool *are_same,
                                   kvern_error *err)
{
    size_t k = a->dims[1];
    float *rows;

    *are_same = tensor_type_block_values(a->type) == 1 && a->type == b->type &&
                a->type != TENSOR_BLOCKS_8 && a->dims[0] == b->dims[0] && k == b->dims[1];
    if (!*are_same)
        return KVERN_OK;
    rows = try_new(k, 2 * sizeof *rows);
    if (!rows)
        return fail(err, KVERN_MEMORY, "out of memory for two rows of %zu values", k);
    for (size_t row = 0; row < a->dims[0] && *are_same; row++) {
        tensor_read_row(a, row, rows);
        tensor_read_row(b, row, rows + k);
        *are_same = memcmp(rows, rows + k, k * sizeof *rows) == 0;
    }
    free(rows);
    return KVERN_OK;
}

static kvern_status check_all_used(struct gqa_walk *walk)
{
    for (size_t i = 0; i < walk->graph->n_nodes; i++) {
        const struct onnx_graph_node *node = &walk->graph->nodes[i];

        if (!walk->is_used[i] && !graph_node_is(node, "", "Constant"))
            return gqa_misfit(walk, node, "has no part in a decoder of the known form");
    }
    return KVERN_OK;
}

static bool has_attention(const struct onnx_graph *graph)
{
    bool is_found = false;

    for (size_t i = 0; i < graph->n_nodes && !is_found; i++)
        is_found = graph_node_is(&graph->nodes[i], MICROSOFT, "GroupQueryAttention");
    return is_found;
}

kvern_status gqa_graph_read(struct gqa_graph *out, const struct onnx_graph *graph, kvern_error *err)
{
    struct gqa_walk walk = {.graph = graph, .err = err};
    struct stream stream;
    kvern_status status;

    *out = (struct gqa_graph){0};
    if (!has_attention(graph))
        return fail(err, KVERN_UNSUPPORTED,
                    "the graph has no GroupQueryAttention, so it is not converted, though it runs "
                    "as it is");
    walk.is_used = try_new(graph->n_nodes, sizeof *walk.is_used);
    if (!walk.is_used)
        return fail(err, KVERN_MEMORY, "out of memory for the graph's nodes");
    status = read_head(&walk, out, &stream);
    if (status == KVERN_OK)
        status = read_layers(&walk, out, &stream);
    if (status == KVERN_OK)
        status = gqa_read_table(&walk, stream.sum, stream.norm, &out->embedding);
    if (status == KVERN_OK)
        status = check_all_used(&walk);
    if (status == KVERN_OK)
        out->is_tied = are_same_bytes(&out->embedding, &out->lm_head);
    if (status == KVERN_OK && !out->is_tied)
        status = compare_tables(&out->embedding, &out->lm_head, &out->is_tied, err);
    if (status != KVERN_OK)
        gqa_graph_clear(out);
    free(walk.is_used);
    return status;
}

void gqa_graph_clear(struct gqa_graph *graph)
{
    free(graph->layers);
    *graph = (struct gqa_graph){0};
}
