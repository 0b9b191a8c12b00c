/* SPDX-License-Identifier: Apache-2.0
 *
 * GroupQueryAttention as ONNX Runtime's contrib operators define it. Everything it can do beyond
 * plain causal attention with a window (sinks, soft cap, bias, quantised cache, ...) is refused by
 * the name of the attribute or input.
 */
#include "convert/gqa_attention.h"

#include "convert/gqa_graph.h"

#include <math.h>
#include <string.h>

static const char MICROSOFT[] = "com.microsoft";

enum { MAX_MASK_DEPTH = 8 };

/* Inputs of GroupQueryAttention. */
enum {
    QUERY,
    KEY,
    VALUE,
    PAST_KEY,
    PAST_VALUE,
    SEQLENS,
    TOTAL_LENGTH,
    COS,
    SIN,
    POSITIONS,
    BIAS,
    SINK,
    K_SCALE,
    V_SCALE,
    Q_NORM,
    K_NORM,
    N_INPUTS
};

bool gqa_is_rms_norm(const struct onnx_graph_node *node)
{
    return graph_node_is(node, "", "SimplifiedLayerNormalization") ||
           graph_node_is(node, MICROSOFT, "SimplifiedLayerNormalization") ||
           graph_node_is(node, "", "RMSNormalization");
}

struct gqa_linear gqa_linear_rows(const struct gqa_linear *linear, size_t begin, size_t n)
{
    return (struct gqa_linear){.weight = tensor_take_rows(&linear->weight, begin, n),
                               .bias = tensor_take_rows(&linear->bias, begin, n),
                               .input = linear->input};
}

kvern_status gqa_check_split(struct gqa_walk *walk, const struct onnx_graph_node *split,
                             const size_t *sizes, size_t n_sizes)
{
    const struct onnx_tensor *given = gqa_constant(walk, graph_node_input(split, 1));
    int64_t axis = graph_node_int(split, "axis", 0);
    int64_t stated[4];
    size_t n = 0;
    bool fits = split->n_outputs == n_sizes && (axis == -1 || axis == 2);

    if (given)
        fits = fits && onnx_tensor_integers(given, stated, 4, &n) && n == n_sizes;
    else /* equal parts */
        fits = fits && !graph_node_input(split, 1);
    for (size_t i = 0; i < n_sizes && fits; i++)
        fits = given ? stated[i] >= 0 && (size_t)stated[i] == sizes[i] : sizes[i] == sizes[0];
    if (!fits)
        return gqa_misfit(walk, split, "does not split the last axis as its matrix is made up");
    gqa_use(walk, split);
    return KVERN_OK;
}

/* ---- the operator's numbers ---- */

/* 0 or absent, or an empty or "NONE" string. */
static bool is_off(const struct onnx_graph_attribute *attribute)
{
    if (attribute->type == ONNX_ATTRIBUTE_STRING)
        return !attribute->s || strcmp(attribute->s, "NONE") == 0;
    return attribute->type == ONNX_ATTRIBUTE_FLOAT ? attribute->f == 0 : attribute->i <= 0;
}

static kvern_status check_what_is_off(struct gqa_walk *walk, const struct onnx_graph_node *node)
{
    static const char *const known[] = {"num_heads",
                                        "kv_num_heads",
                                        "scale",
                                        "local_window_size",
                                        "softcap",
                                        "do_rotary",
                                        "smooth_softmax",
                                        "qk_output",
                                        "k_quant_type",
                                        "v_quant_type",
                                        "rotary_interleaved",
                                        "qk_norm_epsilon",
                                        "kv_cache_bit_width",
                                        NULL};
    static const char *const off[] = {"softcap",           "smooth_softmax", "qk_output",
                                      "k_quant_type",      "v_quant_type",   "rotary_interleaved",
                                      "kv_cache_bit_width"};
    static const struct {
        size_t input;
        const char *what;
    } absent[] = {
        {BIAS, "attention_bias"}, {SINK, "head_sink"}, {K_SCALE, "k_scale"}, {V_SCALE, "v_scale"}};
    kvern_status status = gqa_check_attributes(walk, node, known);

    for (size_t i = 0; i < sizeof off / sizeof *off && status == KVERN_OK; i++) {
        const struct onnx_graph_attribute *attribute = graph_node_attribute(node, off[i]);

        if (attribute && !is_off(attribute))
            status = gqa_misfit(walk, node, "has %s, which kvern's attention has not", off[i]);
    }
    for (size_t i = 0; i < sizeof absent / sizeof *absent && status == KVERN_OK; i++) {
        if (graph_node_input(node, absent[i].input))
            status = gqa_misfit(walk, node, "has the input %s, which kvern's attention has not",
                                absent[i].what);
    }
    if (status == KVERN_OK && node->n_inputs > N_INPUTS)
        status = gqa_misfit(walk, node, "has %zu inputs", node->n_inputs);
    return status;
}

/* Whether a value counts something of the attention_mask: what lengths are made of. */
static bool comes_from_mask(struct gqa_walk *walk, const struct onnx_graph_value *value, int depth)
{
    static const char *const counting[] = {"ReduceSum", "Sub",     "Cast",     "Shape",
                                           "Gather",    "Squeeze", "Unsqueeze"};
    bool is_counting = false;
    bool is_from_mask = false;

    if (!value || depth > MAX_MASK_DEPTH)
        return false;
    if (!value->node || value->tensor)
        return value->tensor || (value->is_input && strcmp(value->name, "attention_mask") == 0);
    if (value->node->n_inputs > 2)
        return false;
    for (size_t i = 0; i < sizeof counting / sizeof *counting; i++)
        is_counting = is_counting || graph_node_is(value->node, "", counting[i]);
    for (size_t i = 0; i < value->node->n_inputs && is_counting; i++) {
        const struct onnx_graph_value *input = value->node->inputs[i];

        is_counting = !input || comes_from_mask(walk, input, depth + 1);
        is_from_mask = is_from_mask || (input && !input->tensor);
    }
    if (is_counting && is_from_mask)
        gqa_use(walk, value->node);
    return is_counting && is_from_mask;
}

static kvern_status check_cache_inputs(struct gqa_walk *walk, const struct onnx_graph_node *node)
{
    const struct onnx_graph_value *key = graph_node_input(node, PAST_KEY);
    const struct onnx_graph_value *value = graph_node_input(node, PAST_VALUE);
    const struct onnx_graph_value *positions = graph_node_input(node, POSITIONS);

    if (!key || !value || !key->is_input || !value->is_input)
        return gqa_misfit(walk, node, "has a cache that is no input of the graph");
    if (positions && !positions->is_input)
        return gqa_misfit(walk, node, "has positions that are no input of the graph");
    if (!comes_from_mask(walk, graph_node_input(node, SEQLENS), 0) ||
        !comes_from_mask(walk, graph_node_input(node, TOTAL_LENGTH), 0))
        return gqa_misfit(walk, node, "has lengths that do not count the attention_mask");
    return KVERN_OK;
}

/* What all layers must agree on. */
struct numbers {
    size_t n_heads, n_kv_heads, head_size, window;
    const struct onnx_tensor *cos, *sin;
};

static kvern_status settle_numbers(struct gqa_walk *walk, struct gqa_graph *out,
                                   const struct onnx_graph_node *node, const struct numbers *of)
{
    float scale = graph_node_float(node, "scale", 0);
    float usual = 1 / sqrtf((float)of->head_size);

    if (scale != 0 && fabsf(scale - usual) > 1e-6f * usual)
        return gqa_misfit(walk, node, "has scale = %g; heads of %zu have %g", (double)scale,
                          of->head_size, (double)usual);
    if (!of->cos || !of->sin)
        return gqa_misfit(walk, node, "has no constant rotary embedding");
    if (out->n_heads == 0) {
        out->n_heads = of->n_heads;
        out->n_kv_heads = of->n_kv_heads;
        out->head_size = of->head_size;
        out->window = of->window;
        out->cos = of->cos;
        out->sin = of->sin;
    }
    if (out->n_heads != of->n_heads || out->n_kv_heads != of->n_kv_heads ||
        out->head_size != of->head_size || out->window != of->window)
        return gqa_misfit(walk, node,
                          "has %zu and %zu heads of %zu, window %zu; another layer has %zu and %zu "
                          "of %zu, %zu",
                          of->n_heads, of->n_kv_heads, of->head_size, of->window, out->n_heads,
                          out->n_kv_heads, out->head_size, out->window);
    if (out->cos != of->cos || out->sin != of->sin)
        return gqa_misfit(walk, node, "has another rotary embedding than other layers");
    return KVERN_OK;
}

static kvern_status read_numbers(struct gqa_walk *walk, const struct onnx_graph_node *node,
                                 struct numbers *of)
{
    int64_t n_heads = graph_node_int(node, "num_heads", 0);
    int64_t n_kv_heads = graph_node_int(node, "kv_num_heads", 0);
    int64_t window = graph_node_int(node, "local_window_size", -1);

    if (n_heads < 1 || n_heads > 1024 || n_kv_heads < 1 || n_kv_heads > n_heads ||
        n_heads % n_kv_heads != 0 || window > INT32_MAX)
        return gqa_misfit(walk, node, "has %lld and %lld heads, window %lld", (long long)n_heads,
                          (long long)n_kv_heads, (long long)window);
    of->n_heads = (size_t)n_heads;
    of->n_kv_heads = (size_t)n_kv_heads;
    of->window = window > 0 ? (size_t)window : 0;
    return KVERN_OK;
}

/* ---- from q or k back to its matrix ---- */

/* The RotaryEmbedding behind *value: notes its caches and moves on to its input. `reader` is the
 * attention, which does not rotate by itself. */
static kvern_status skip_rotary(struct gqa_walk *walk, const struct onnx_graph_node *reader,
                                const struct onnx_graph_value **value, struct numbers *of)
{
    static const char *const known[] = {"interleaved", "num_heads",          "rotary_embedding_dim",
                                        "scale",       "is_packed_batching", NULL};
    const struct onnx_graph_node *node = gqa_maker(walk, *value);
    const struct onnx_graph_value *positions;
    kvern_status status;

    if (!node || !graph_node_is(node, MICROSOFT, "RotaryEmbedding"))
        return gqa_misfit(walk, reader, "has do_rotary = 0, but q or k is not rotated before it");
    gqa_use(walk, node);
    status = gqa_check_attributes(walk, node, known);
    positions = graph_node_input(node, 1);
    if (status == KVERN_OK && (graph_node_int(node, "interleaved", 0) != 0 ||
                               graph_node_int(node, "is_packed_batching", 0) != 0 ||
                               graph_node_float(node, "scale", 1) != 1))
        status = gqa_misfit(walk, node, "rotates in another way than by halves of a head");
    if (status == KVERN_OK && (!positions || !positions->is_input))
        status = gqa_misfit(walk, node, "has positions that are no input of the graph");
    if (status != KVERN_OK)
        return status;
    const struct onnx_tensor *cos_cache = gqa_constant(walk, graph_node_input(node, 2));
    const struct onnx_tensor *sin_cache = gqa_constant(walk, graph_node_input(node, 3));
    if (!cos_cache || !sin_cache || (of->cos && (of->cos != cos_cache || of->sin != sin_cache)))
        return gqa_misfit(walk, node, "has no constant caches, or others than the keys have");
    of->cos = cos_cache;
    of->sin = sin_cache;
    *value = gqa_origin(walk, graph_node_input(node, 0));
    return KVERN_OK;
}

/* Whether a Reshape ends in an axis of `last`. */
static bool reshapes_to(struct gqa_walk *walk, const struct onnx_graph_node *node, size_t last)
{
    const struct onnx_tensor *shape = node && graph_node_is(node, "", "Reshape")
                                          ? gqa_constant(walk, graph_node_input(node, 1))
                                          : NULL;
    int64_t dims[4];
    size_t n;

    return shape && onnx_tensor_integers(shape, dims, 4, &n) && n > 0 && dims[n - 1] > 0 &&
           (size_t)dims[n - 1] == last;
}

/* The norm of each head behind *value, if there is one: Reshape, norm, Reshape. */
static kvern_status skip_head_norm(struct gqa_walk *walk, struct gqa_graph *out,
                                   const struct onnx_graph_value **value, size_t n_heads,
                                   struct tensor *weight)
{
    static const char *const known[] = {"epsilon", "axis", "stash_type", NULL};
    const struct onnx_graph_node *after = gqa_maker(walk, *value);
    const struct onnx_graph_node *norm, *before;
    float epsilon;
    kvern_status status;

    if (!after || !graph_node_is(after, "", "Reshape"))
        return KVERN_OK;
    norm = gqa_maker(walk, graph_node_input(after, 0));
    if (!norm || !gqa_is_rms_norm(norm))
        return gqa_misfit(walk, norm ? norm : after, "should be an RMS norm of each head");
    status = gqa_check_attributes(walk, norm, known);
    if (status == KVERN_OK && graph_node_int(norm, "axis", -1) != -1)
        status = gqa_misfit(walk, norm, "does not normalise the last axis");
    if (status == KVERN_OK)
        status = gqa_vector(walk, norm, graph_node_input(norm, 1), weight);
    if (status != KVERN_OK)
        return status;
    before = gqa_maker(walk, graph_node_input(norm, 0));
    if (!reshapes_to(walk, before, weight->dims[0]) ||
        !reshapes_to(walk, after, n_heads * weight->dims[0]))
        return gqa_misfit(walk, norm, "does not stand between Reshapes to heads of %zu and back",
                          weight->dims[0]);
    epsilon = graph_node_float(norm, "epsilon", 1e-5f);
    if (epsilon != out->norm_epsilon)
        return gqa_misfit(walk, norm, "has epsilon = %g where another norm has %g", (double)epsilon,
                          (double)out->norm_epsilon);
    gqa_use(walk, after);
    gqa_use(walk, norm);
    gqa_use(walk, before);
    *value = gqa_origin(walk, graph_node_input(before, 0));
    return KVERN_OK;
}

/* One matrix whose rows are q, then k, then v. */
static kvern_status cut_packed(struct gqa_walk *walk, const struct onnx_graph_node *node,
                               const struct gqa_linear *packed, struct numbers *of,
                               struct gqa_layer *layer)
{
    size_t n_all = of->n_heads + 2 * of->n_kv_heads;
    size_t n = packed->weight.dims[0];

    of->head_size = n_all > 0 ? n / n_all : 0;
    if (of->head_size == 0 || n != of->head_size * n_all)
        return gqa_misfit(walk, node, "has %zu rows of q, k and v for %zu + 2 * %zu heads", n,
                          of->n_heads, of->n_kv_heads);
    size_t n_q = of->n_heads * of->head_size;
    size_t n_kv = of->n_kv_heads * of->head_size;
    layer->q = gqa_linear_rows(packed, 0, n_q);
    layer->k = gqa_linear_rows(packed, n_q, n_kv);
    layer->v = gqa_linear_rows(packed, n_q + n_kv, n_kv);
    return KVERN_OK;
}

/* q, k and v that come as parts of a Split. */
static kvern_status read_split(struct gqa_walk *walk, const struct onnx_graph_value *const paths[3],
                               struct numbers *of, struct gqa_layer *layer)
{
    const struct onnx_graph_node *split = paths[0]->node;
    struct gqa_linear packed;
    kvern_status status;

    for (size_t i = 0; i < 3; i++) {
        if (paths[i]->node != split || paths[i]->node_output != i)
            return gqa_misfit(walk, split, "does not give q, k and v in that order");
    }
    status = gqa_read_linear(walk, graph_node_input(split, 0), split, &packed);
    if (status == KVERN_OK)
        status = cut_packed(walk, split, &packed, of, layer);
    if (status == KVERN_OK) {
        const size_t sizes[] = {layer->q.weight.dims[0], layer->k.weight.dims[0],
                                layer->v.weight.dims[0]};

        status = gqa_check_split(walk, split, sizes, 3);
    }
    return status;
}

static kvern_status read_separate(struct gqa_walk *walk, const struct onnx_graph_node *node,
                                  const struct onnx_graph_value *const paths[3], struct numbers *of,
                                  struct gqa_layer *layer)
{
    kvern_status status = gqa_read_linear(walk, paths[0], node, &layer->q);

    if (status == KVERN_OK)
        status = gqa_read_linear(walk, paths[1], node, &layer->k);
    if (status == KVERN_OK)
        status = gqa_read_linear(walk, paths[2], node, &layer->v);
    if (status != KVERN_OK)
        return status;
    of->head_size = of->n_heads > 0 ? layer->q.weight.dims[0] / of->n_heads : 0;
    if (of->head_size == 0 || layer->q.weight.dims[0] != of->n_heads * of->head_size ||
        layer->k.weight.dims[0] != of->n_kv_heads * of->head_size ||
        layer->v.weight.dims[0] != of->n_kv_heads * of->head_size)
        return gqa_misfit(walk, node,
                          "has %zu, %zu and %zu rows of q, k and v for %zu and %zu heads",
                          layer->q.weight.dims[0], layer->k.weight.dims[0], layer->v.weight.dims[0],
                          of->n_heads, of->n_kv_heads);
    if (layer->q.input != layer->k.input || layer->q.input != layer->v.input)
        return gqa_misfit(walk, node, "has q, k and v of different inputs");
    return KVERN_OK;
}

/* The q, k and v matrices; head norms and rotary embedding on the way. */
static kvern_status read_qkv(struct gqa_walk *walk, struct gqa_graph *out,
                             const struct onnx_graph_node *node, struct numbers *of,
                             struct gqa_layer *layer)
{
    const struct onnx_graph_value *paths[3];
    struct gqa_linear packed;
    bool is_packed = !graph_node_input(node, KEY) && !graph_node_input(node, VALUE);
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < 3; i++)
        paths[i] = gqa_origin(walk, graph_node_input(node, QUERY + i));
    if (is_packed) {
        status = gqa_read_linear(walk, paths[0], node, &packed);
        return status == KVERN_OK ? cut_packed(walk, node, &packed, of, layer) : status;
    }
    if (!paths[0] || !paths[1] || !paths[2])
        return gqa_misfit(walk, node, "has not all of q, k and v");
    for (size_t i = 0; i < 2 && status == KVERN_OK; i++) {
        struct tensor *norm = i == 0 ? &layer->q_norm : &layer->k_norm;

        if (graph_node_int(node, "do_rotary", 0) == 0)
            status = skip_rotary(walk, node, &paths[i], of);
        if (status == KVERN_OK)
            status =
                skip_head_norm(walk, out, &paths[i], i == 0 ? of->n_heads : of->n_kv_heads, norm);
    }
    if (status != KVERN_OK)
        return status;
    if (paths[0]->node && graph_node_is(paths[0]->node, "", "Split"))
        return read_split(walk, paths, of, layer);
    return read_separate(walk, node, paths, of, layer);
}

/* Norm weights that the operator applies itself. */
static kvern_status read_inner_norms(struct gqa_walk *walk, struct gqa_graph *out,
                                     const struct onnx_graph_node *node, struct gqa_layer *layer)
{
    float epsilon = graph_node_float(node, "qk_norm_epsilon", 1e-6f);
    kvern_status status = KVERN_OK;

    if (!graph_node_input(node, Q_NORM) && !graph_node_input(node, K_NORM))
        return KVERN_OK;
    if (layer->q_norm.n_dims > 0 || epsilon != out->norm_epsilon)
        return gqa_misfit(walk, node, "normalises twice, or with epsilon = %g instead of %g",
                          (double)epsilon, (double)out->norm_epsilon);
    status = gqa_vector(walk, node, graph_node_input(node, Q_NORM), &layer->q_norm);
    if (status == KVERN_OK)
        status = gqa_vector(walk, node, graph_node_input(node, K_NORM), &layer->k_norm);
    return status;
}

static kvern_status check_norms(struct gqa_walk *walk, const struct onnx_graph_node *node,
                                const struct numbers *of, const struct gqa_layer *layer)
{
    if (layer->q_norm.n_dims != layer->k_norm.n_dims)
        return gqa_misfit(walk, node, "has a norm of q or of k, but not both");
    if (layer->q_norm.n_dims > 0 &&
        (layer->q_norm.dims[0] != of->head_size || layer->k_norm.dims[0] != of->head_size))
        return gqa_misfit(walk, node, "has head norms of %zu and %zu values for heads of %zu",
                          layer->q_norm.dims[0], layer->k_norm.dims[0], of->head_size);
    return KVERN_OK;
}

kvern_status gqa_read_attention(struct gqa_walk *walk, struct gqa_graph *out,
                                const struct onnx_graph_value *value,
                                const struct onnx_graph_node *reader, struct gqa_layer *layer,
                                const struct onnx_graph_value **x)
{
    const struct onnx_graph_node *node;
    struct numbers of = {0};
    kvern_status status = gqa_read_linear(walk, value, reader, &layer->o);

    if (status != KVERN_OK)
        return status;
    node = gqa_maker(walk, layer->o.input);
    if (!node || !graph_node_is(node, MICROSOFT, "GroupQueryAttention") ||
        layer->o.input->node_output != 0)
        return gqa_misfit(walk, node ? node : reader, "should be GroupQueryAttention");
    gqa_use(walk, node);
    status = check_what_is_off(walk, node);
    if (status == KVERN_OK)
        status = check_cache_inputs(walk, node);
    if (status == KVERN_OK)
        status = read_numbers(walk, node, &of);
    if (status != KVERN_OK)
        return status;
    bool rotates = graph_node_int(node, "do_rotary", 0) != 0;
    if (rotates) {
        of.cos = gqa_constant(walk, graph_node_input(node, COS));
        of.sin = gqa_constant(walk, graph_node_input(node, SIN));
    }
    status = read_qkv(walk, out, node, &of, layer);
    if (status == KVERN_OK)
        status = read_inner_norms(walk, out, node, layer);
    if (status == KVERN_OK)
        status = check_norms(walk, node, &of, layer);
    if (status == KVERN_OK)
        status = settle_numbers(walk, out, node, &of);
    *x = layer->q.input;
    return status;
}
