/* SPDX-License-Identifier: Apache-2.0
 *
 * Three passes over the graph's fields: what there is before any node runs (initializers, inputs),
 * the nodes in their order, the outputs. Only the operators of the manifest's contract pass, each
 * with computed values where it takes computed values and initializers where it takes weights: so
 * an untrusted graph can make ONNX Runtime run nothing else, and PagedAttention, which writes into
 * two of its inputs, never writes into mapped weights or into a value someone else reads.
 */
#include "model/contract.h"

#include "base/error.h"
#include "base/file.h"
#include "base/map.h"
#include "model/contract_tensor.h"
#include "model/protobuf.h"
#include "model/value_info.h"

#include <stdlib.h>
#include <string.h>

static const char OUR_DOMAIN[] = "ai.kvern";

enum { MAX_NODE_INPUTS = 9, MAX_NODE_OUTPUTS = 2, MAX_ATTRIBUTES = 16 };

enum value_kind {
    VALUE_INITIALIZER,
    VALUE_INPUT,
    VALUE_POOL,     /* the graph input that PagedAttention and KvStore write into */
    VALUE_COMPUTED, /* of a node, not yet read */
    VALUE_READ,
    VALUE_TAKEN, /* overwritten by PagedAttention */
};

/* Element types are ONNX's. */
struct graph_input {
    const char *name; /* NULL: the end of a list */
    unsigned type;
    size_t rank;
    enum value_kind kind;
};

enum output_shape {
    OUTPUT_HIDDEN, /* float [rows, hidden_size] */
    OUTPUT_LOGITS, /* float [rows, vocab_size] */
    OUTPUT_COUNT,  /* int64 [1] */
};

struct graph_output {
    const char *name; /* NULL: the end of a list */
    enum output_shape shape;
};

/* Inputs before first_weight are computed, the rest initializers. */
struct operator_rule {
    const char *domain;
    const char *name; /* NULL: the end of a list */
    size_t first_weight;
};

enum { MAX_GRAPH_INPUTS = 12, MAX_GRAPH_OUTPUTS = 4 };

static const struct graph_input paged_inputs[MAX_GRAPH_INPUTS + 1] = {
    {"input_ids", 7, 1, VALUE_INPUT},   {"positions", 7, 1, VALUE_INPUT},
    {"query_start", 6, 1, VALUE_INPUT}, {"context_len", 6, 1, VALUE_INPUT},
    {"block_table", 6, 2, VALUE_INPUT}, {"output_rows", 7, 1, VALUE_INPUT},
    {"logit_rows", 7, 1, VALUE_INPUT},  {"kv_pool", 2, 3, VALUE_POOL},
};

static const struct graph_output paged_outputs[MAX_GRAPH_OUTPUTS + 1] = {{"hidden", OUTPUT_HIDDEN},
                                                                         {"logits", OUTPUT_LOGITS}};

static const struct operator_rule paged_operators[] = {
    {OUR_DOMAIN, "Embedding", 1},
    {OUR_DOMAIN, "RotaryTable", 1},
    {OUR_DOMAIN, "RmsNorm", 1},
    {OUR_DOMAIN, "AddRmsNorm", 2},
    {OUR_DOMAIN, "Linear", 1},
    {OUR_DOMAIN, "PagedAttention", 6},
    {OUR_DOMAIN, "GatedActivation", 1},
    {"", "Gather", 2},
    {NULL, NULL, 0},
};

static const struct graph_input encoder_inputs[MAX_GRAPH_INPUTS + 1] = {
    {"input_ids", 7, 1, VALUE_INPUT},
    {"positions", 7, 1, VALUE_INPUT},
    {"query_start", 6, 1, VALUE_INPUT},
};

static const struct graph_output encoder_outputs[MAX_GRAPH_OUTPUTS + 1] = {
    {"last_hidden_state", OUTPUT_HIDDEN}};

static const struct operator_rule encoder_operators[] = {
    {OUR_DOMAIN, "Embedding", 1},       {OUR_DOMAIN, "AddLayerNorm", 2}, {OUR_DOMAIN, "Linear", 1},
    {OUR_DOMAIN, "PackedAttention", 2}, {OUR_DOMAIN, "Activation", 1},   {NULL, NULL, 0},
};

static const struct graph_input seq2seq_inputs[MAX_GRAPH_INPUTS + 1] = {
    {"source_ids", 7, 1, VALUE_INPUT},   {"source_start", 6, 1, VALUE_INPUT},
    {"source_table", 6, 2, VALUE_INPUT}, {"input_ids", 7, 1, VALUE_INPUT},
    {"query_start", 6, 1, VALUE_INPUT},  {"context_len", 6, 1, VALUE_INPUT},
    {"block_table", 6, 2, VALUE_INPUT},  {"cross_table", 6, 2, VALUE_INPUT},
    {"source_len", 6, 1, VALUE_INPUT},   {"output_rows", 7, 1, VALUE_INPUT},
    {"logit_rows", 7, 1, VALUE_INPUT},   {"kv_pool", 2, 3, VALUE_POOL},
};

static const struct graph_output seq2seq_outputs[MAX_GRAPH_OUTPUTS + 1] = {
    {"last_hidden_state", OUTPUT_HIDDEN},
    {"stored", OUTPUT_COUNT},
    {"hidden", OUTPUT_HIDDEN},
    {"logits", OUTPUT_LOGITS}};

static const struct operator_rule seq2seq_operators[] = {
    {OUR_DOMAIN, "Embedding", 1},
    {OUR_DOMAIN, "RmsNorm", 1},
    {OUR_DOMAIN, "AddRmsNorm", 2},
    {OUR_DOMAIN, "Linear", 1},
    {OUR_DOMAIN, "PackedAttention", 2},
    {OUR_DOMAIN, "PagedAttention", 6},
    {OUR_DOMAIN, "KvStore", 5},
    {OUR_DOMAIN, "CrossAttention", 5},
    {OUR_DOMAIN, "GatedActivation", 1},
    {"", "Gather", 2},
    {NULL, NULL, 0},
};

/* What a graph of each contract has. To let its graphs use another operator, add a row above. */
static const struct contract {
    const char *name;
    const struct graph_input *inputs;
    const struct graph_output *outputs;
    const struct operator_rule *operators;
    const char *attention; /* the operator that stands once in every layer */
} contracts[] = {
    {"paged", paged_inputs, paged_outputs, paged_operators, "PagedAttention"},
    {"encoder", encoder_inputs, encoder_outputs, encoder_operators, "PackedAttention"},
    {"seq2seq", seq2seq_inputs, seq2seq_outputs, seq2seq_operators, "PagedAttention"},
};

struct attribute {
    struct text name;
    int64_t value; /* of an integer; 0 for the rest */
};

struct node {
    struct text name, op, domain;
    struct text inputs[MAX_NODE_INPUTS];
    size_t n_inputs;
    struct text outputs[MAX_NODE_OUTPUTS];
    size_t n_outputs;
    struct attribute attributes[MAX_ATTRIBUTES];
    size_t n_attributes;
};

struct check {
    const struct manifest *manifest;
    const struct contract *contract;
    struct map values; /* name -> enum value_kind */
    bool has_input[MAX_GRAPH_INPUTS];
    bool has_output[MAX_GRAPH_OUTPUTS];
    size_t n_layers; /* attention nodes so far */
    kvern_error *err;
};

static const struct contract *find_contract(const char *name)
{
    for (size_t i = 0; i < sizeof contracts / sizeof contracts[0]; i++) {
        if (!strcmp(contracts[i].name, name))
            return &contracts[i];
    }
    return NULL;
}

static kvern_status add_value(struct check *check, struct text name, enum value_kind kind)
{
    uint32_t old;

    if (name.n_bytes == 0 || map_get(&check->values, name.at, name.n_bytes, &old))
        return fail(check->err, KVERN_FORMAT, "two values of the graph are called \"%.*s\"",
                    TEXT_ARGUMENTS(name));
    if (!map_put(&check->values, name.at, name.n_bytes, kind))
        return fail(check->err, KVERN_MEMORY, "out of memory for the names of the graph");
    return KVERN_OK;
}

static kvern_status check_input(struct check *check, struct protobuf message)
{
    struct value_info info = {.name = {""}};
    const struct graph_input *input = check->contract->inputs;
    size_t n_layers = check->manifest->config.n_layers;

    if (!value_info_read(&info, message))
        return fail(check->err, KVERN_FORMAT, "the graph input \"%.*s\" is damaged",
                    TEXT_ARGUMENTS(info.name));
    while (input->name && !text_is(info.name, input->name))
        input++;
    if (!input->name)
        return fail(check->err, KVERN_UNSUPPORTED,
                    "the graph has the input \"%.*s\", which the contract \"%s\" does not",
                    TEXT_ARGUMENTS(info.name), check->contract->name);
    if (info.type != input->type || info.rank != input->rank)
        return fail(check->err, KVERN_FORMAT,
                    "the graph input %s has element type %llu and %zu dims, not type %u and %zu",
                    input->name, (unsigned long long)info.type, info.rank, input->type,
                    input->rank);
    if (input->kind == VALUE_POOL && info.dims[0] != -1 && info.dims[0] != (int64_t)n_layers)
        return fail(check->err, KVERN_FORMAT,
                    "the graph's %s has %lld layers; " MANIFEST_FILE " says %zu", input->name,
                    (long long)info.dims[0], n_layers);
    check->has_input[input - check->contract->inputs] = true;
    return add_value(check, info.name, input->kind);
}

static kvern_status check_output(struct check *check, struct protobuf message)
{
    struct value_info info = {.name = {""}};
    const struct model_config *config = &check->manifest->config;
    const struct graph_output *output = check->contract->outputs;
    uint32_t kind = VALUE_INITIALIZER;
    bool is_read = value_info_read(&info, message);

    while (output->name && !text_is(info.name, output->name))
        output++;
    bool *is_there = &check->has_output[output - check->contract->outputs];
    bool is_count = output->name && output->shape == OUTPUT_COUNT;
    if (!is_read || !output->name || info.type != (is_count ? 7 : 1) ||
        info.rank != (is_count ? 1 : 2) || *is_there)
        return fail(
            check->err, KVERN_FORMAT,
            "the graph has the output \"%.*s\" of element type %llu and %zu dims, which the "
            "contract \"%s\" does not, or has twice",
            TEXT_ARGUMENTS(info.name), (unsigned long long)info.type, info.rank,
            check->contract->name);
    size_t n_columns = output->shape == OUTPUT_HIDDEN ? config->hidden_size : config->vocab_size;
    if (!is_count && info.dims[1] != (int64_t)n_columns)
        return fail(check->err, KVERN_FORMAT,
                    "the graph's %s has %lld columns; " MANIFEST_FILE " says %zu", output->name,
                    (long long)info.dims[1], n_columns);
    if (!map_get(&check->values, info.name.at, info.name.n_bytes, &kind) ||
        (kind != VALUE_COMPUTED && kind != VALUE_READ))
        return fail(check->err, KVERN_FORMAT, "no node of the graph computes %s", output->name);
    *is_there = true;
    return KVERN_OK;
}

static bool read_attribute(struct node *node, const struct protobuf_field *from)
{
    struct protobuf message = protobuf_read(from->bytes, from->n_bytes);
    struct attribute *attribute = &node->attributes[node->n_attributes];
    struct protobuf_field field;

    if (node->n_attributes == MAX_ATTRIBUTES)
        return false;
    *attribute = (struct attribute){.name = {""}};
    while (protobuf_next(&message, &field)) {
        switch (field.number) {
        case 1:
            attribute->name = text_of(&field);
            break;
        case 3:
            attribute->value = (int64_t)field.value;
            break;
        case 2:  /* f */
        case 4:  /* s */
        case 13: /* doc_string */
        case 20: /* type */
            break;
        default: /* subgraphs, tensors, lists */
            return false;
        }
    }
    node->n_attributes++;
    return !message.is_damaged;
}

static bool read_node(struct node *node, struct protobuf message)
{
    struct protobuf_field field;
    bool is_ok = true;

    while (is_ok && protobuf_next(&message, &field)) {
        switch (field.number) {
        case 1:
            is_ok = node->n_inputs < MAX_NODE_INPUTS;
            if (is_ok)
                node->inputs[node->n_inputs++] = text_of(&field);
            break;
        case 2:
            is_ok = node->n_outputs < MAX_NODE_OUTPUTS;
            if (is_ok)
                node->outputs[node->n_outputs++] = text_of(&field);
            break;
        case 3:
            node->name = text_of(&field);
            break;
        case 4:
            node->op = text_of(&field);
            break;
        case 5:
            is_ok = read_attribute(node, &field);
            break;
        case 6: /* doc_string */
            break;
        case 7:
            node->domain = text_of(&field);
            break;
        default: /* overload */
            is_ok = false;
        }
    }
    return is_ok && !message.is_damaged;
}

/* What an integer attribute must be, as far as the manifest says; false: it says nothing. */
static bool expected_value(const struct check *check, const struct node *node, struct text name,
                           size_t *value)
{
    const struct model_config *config = &check->manifest->config;
    bool is_attention = text_is(node->op, check->contract->attention);
    bool is_other = !is_attention &&
                    (text_is(node->op, "PackedAttention") || text_is(node->op, "CrossAttention"));
    bool is_store = text_is(node->op, "KvStore");
    bool is_table = text_is(node->op, "Embedding");
    bool is_places = is_table && text_is(node->inputs[0], "positions");
    bool is_output = text_is(node->op, "Linear") && text_is(node->outputs[0], "logits");
    const struct {
        bool is_meant;
        const char *name;
        size_t value;
    } rows[] = {
        {is_attention || is_other, "n_heads", config->n_heads},
        {is_attention || is_other || is_store, "n_kv_heads", config->n_kv_heads},
        {is_attention || is_other || is_store, "head_size", config->head_size},
        {is_attention, "window", config->sliding_window},
        {is_attention, "layer", check->n_layers},
        {is_places, "N", config->max_positions},
        {is_table || is_output, "N", config->vocab_size},
        {is_table || is_output, "K", config->hidden_size},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].is_meant && text_is(name, rows[i].name)) {
            *value = rows[i].value;
            return true;
        }
    }
    return false;
}

static kvern_status check_attributes(const struct check *check, const struct node *node)
{
    for (size_t i = 0; i < node->n_attributes; i++) {
        const struct attribute *attribute = &node->attributes[i];
        size_t expected;

        if (expected_value(check, node, attribute->name, &expected) &&
            attribute->value != (int64_t)expected)
            return fail(check->err, KVERN_FORMAT,
                        "%.*s of the node \"%.*s\" is %lld; " MANIFEST_FILE " needs %zu",
                        TEXT_ARGUMENTS(attribute->name), TEXT_ARGUMENTS(node->name),
                        (long long)attribute->value, expected);
    }
    return KVERN_OK;
}

/* The input of an operator that is the pool; MAX_NODE_INPUTS: it has none. */
static size_t pool_input(const struct operator_rule *rule)
{
    if (!strcmp(rule->name, "PagedAttention"))
        return 2;
    return !strcmp(rule->name, "KvStore") || !strcmp(rule->name, "CrossAttention")
               ? 1
               : MAX_NODE_INPUTS;
}

/* Whether input `i` of the node may be a value of this kind; what it is after the node. */
static bool may_read(const struct operator_rule *rule, size_t i, enum value_kind kind,
                     enum value_kind *after)
{
    *after = kind == VALUE_COMPUTED ? VALUE_READ : kind;
    if (i >= rule->first_weight)
        return kind == VALUE_INITIALIZER;
    if (i == pool_input(rule))
        return kind == VALUE_POOL;
    if (i == 0 && !strcmp(rule->name, "PagedAttention")) {
        *after = VALUE_TAKEN;
        return kind == VALUE_COMPUTED;
    }
    return kind == VALUE_INPUT || kind == VALUE_COMPUTED || kind == VALUE_READ;
}

static kvern_status check_node(struct check *check, struct protobuf message)
{
    struct node node = {.name = {""}, .op = {""}, .domain = {""}, .outputs = {{""}, {""}}};
    const struct operator_rule *rule = check->contract->operators;
    kvern_status status;

    if (!read_node(&node, message))
        return fail(check->err, KVERN_FORMAT,
                    "the node \"%.*s\" is damaged or is none of the contract \"%s\"",
                    TEXT_ARGUMENTS(node.name), check->contract->name);
    while (rule->name && !(text_is(node.op, rule->name) && text_is(node.domain, rule->domain)))
        rule++;
    if (!rule->name)
        return fail(check->err, KVERN_UNSUPPORTED,
                    "the node \"%.*s\" is a \"%.*s\" of domain \"%.*s\", which the contract \"%s\" "
                    "does not have",
                    TEXT_ARGUMENTS(node.name), TEXT_ARGUMENTS(node.op), TEXT_ARGUMENTS(node.domain),
                    check->contract->name);
    status = check_attributes(check, &node);
    for (size_t i = 0; status == KVERN_OK && i < node.n_inputs; i++) {
        struct text name = node.inputs[i];
        enum value_kind after = VALUE_READ;
        uint32_t kind = 0;

        if (name.n_bytes == 0)
            continue; /* an absent optional input */
        if (!map_get(&check->values, name.at, name.n_bytes, &kind) ||
            !may_read(rule, i, (enum value_kind)kind, &after))
            status = fail(check->err, KVERN_FORMAT,
                          "the node \"%.*s\" cannot take \"%.*s\" as its input %zu",
                          TEXT_ARGUMENTS(node.name), TEXT_ARGUMENTS(name), i);
        else
            map_put(&check->values, name.at, name.n_bytes, after); /* a key that is there */
    }
    for (size_t i = 0; status == KVERN_OK && i < node.n_outputs; i++)
        status = add_value(check, node.outputs[i], VALUE_COMPUTED);
    if (status == KVERN_OK && !strcmp(rule->name, check->contract->attention))
        check->n_layers++;
    return status;
}

/* Calls `visit` for every message of the graph with this field number. */
static kvern_status visit_all(struct check *check, struct protobuf graph, uint32_t number,
                              kvern_status (*visit)(struct check *check, struct protobuf message))
{
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&graph, &field)) {
        if (field.number == number)
            status = visit(check, protobuf_read(field.bytes, field.n_bytes));
        else if (field.number == 15)
            status = fail(check->err, KVERN_UNSUPPORTED, "the graph has sparse initializers");
    }
    if (status == KVERN_OK && graph.is_damaged)
        status = fail(check->err, KVERN_FORMAT, "the graph is cut short or damaged");
    return status;
}

static kvern_status check_initializer(struct check *check, struct protobuf message)
{
    struct text name = {""};
    kvern_status status = contract_check_tensor(check->manifest, message, &name, check->err);

    return status == KVERN_OK ? add_value(check, name, VALUE_INITIALIZER) : status;
}

static kvern_status check_graph(struct check *check, struct protobuf graph)
{
    const struct contract *contract = check->contract;
    size_t n_layers = check->manifest->config.n_layers;
    kvern_status status = visit_all(check, graph, 5, check_initializer);

    if (status == KVERN_OK)
        status = visit_all(check, graph, 11, check_input);
    for (size_t i = 0; status == KVERN_OK && contract->inputs[i].name; i++) {
        if (!check->has_input[i])
            status = fail(check->err, KVERN_FORMAT, "the graph has no input %s",
                          contract->inputs[i].name);
    }
    if (status == KVERN_OK)
        status = visit_all(check, graph, 1, check_node);
    if (status == KVERN_OK && check->n_layers != n_layers)
        status = fail(check->err, KVERN_FORMAT,
                      "the graph has %zu attention layers; " MANIFEST_FILE " says %zu",
                      check->n_layers, n_layers);
    if (status == KVERN_OK)
        status = visit_all(check, graph, 12, check_output);
    for (size_t i = 0; status == KVERN_OK && contract->outputs[i].name; i++) {
        if (!check->has_output[i])
            status = fail(check->err, KVERN_FORMAT, "the graph has no output %s",
                          contract->outputs[i].name);
    }
    return status;
}

static kvern_status check_opset(struct check *check, struct protobuf message)
{
    struct protobuf_field field;
    struct text domain = {""};
    uint64_t version = 0;

    while (protobuf_next(&message, &field)) {
        if (field.number == 1)
            domain = text_of(&field);
        else if (field.number == 2)
            version = field.value;
    }
    if (message.is_damaged || !(text_is(domain, "") || text_is(domain, "ai.onnx") ||
                                (text_is(domain, OUR_DOMAIN) && version == 1)))
        return fail(check->err, KVERN_UNSUPPORTED,
                    "the graph needs version %llu of the operators \"%.*s\"; kvern has ai.onnx and "
                    "version 1 of %s",
                    (unsigned long long)version, TEXT_ARGUMENTS(domain), OUR_DOMAIN);
    return KVERN_OK;
}

kvern_status contract_check(const struct manifest *manifest, const uint8_t *bytes, size_t n_bytes,
                            kvern_error *err)
{
    struct check check = {
        .manifest = manifest, .contract = find_contract(manifest->contract), .err = err};
    struct protobuf model = protobuf_read(bytes, n_bytes);
    struct protobuf_field graph = {0};
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    if (!check.contract)
        return fail(err, KVERN_UNSUPPORTED, "the contract \"%s\" is none of kvern's",
                    manifest->contract);
    while (status == KVERN_OK && protobuf_next(&model, &field)) {
        if (field.number == 7 && !protobuf_enter(&graph, &field))
            status = fail(err, KVERN_FORMAT, "the file holds more than one graph");
        else if (field.number == 8)
            status = check_opset(&check, protobuf_read(field.bytes, field.n_bytes));
        else if (field.number == 20 || field.number == 25)
            status = fail(err, KVERN_UNSUPPORTED, "the file holds training graphs or functions");
    }
    if (status == KVERN_OK && (model.is_damaged || !graph.number))
        status = fail(err, KVERN_FORMAT, "not an ONNX file, or one that is cut short or damaged");
    if (status == KVERN_OK)
        status = check_graph(&check, protobuf_read(graph.bytes, graph.n_bytes));
    map_clear(&check.values);
    return status;
}

kvern_status contract_check_directory(const struct manifest *manifest, const char *directory,
                                      kvern_error *err)
{
    char *path = path_join(directory, MANIFEST_GRAPH_FILE);
    struct file_map map = {0};
    kvern_status status = file_map_open(&map, path, err);

    if (status == KVERN_OK) {
        status = contract_check(manifest, map.data, map.n_bytes, err);
        if (status != KVERN_OK)
            fail_in(err, status, "%s", path);
    }
    file_map_close(&map);
    free(path);
    return status;
}
