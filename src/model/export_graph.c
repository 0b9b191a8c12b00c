/* SPDX-License-Identifier: Apache-2.0
 *
 * Inputs and outputs by their names, which every exporter takes from transformers. What is behind
 * them is walked by export_walk.c first.
 */
#include "model/export_graph.h"

#include "base/error.h"
#include "base/file.h"
#include "model/contract_tensor.h"
#include "model/value_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LAYERS = 512 };

/* Products of sizes below these stay far from overflow. */
enum { MAX_HEADS = 1 << 16, MAX_SIZE = 1 << 28 };

/* The tensors of a layer's KV: bits of `seen`. An encoder-decoder has each twice: of the decoder's
 * own tokens and, CROSS_SHIFT bits higher, of the source. */
enum { PAST_KEY = 1, PAST_VALUE = 2, PRESENT_KEY = 4, PRESENT_VALUE = 8, CROSS_SHIFT = 4 };
enum { PAST = PAST_KEY | PAST_VALUE, PRESENT = PRESENT_KEY | PRESENT_VALUE };

enum { TYPE_F32 = 1, TYPE_I64 = 7, TYPE_BOOL = 9, TYPE_F16 = 10 };

struct scan {
    struct export_graph *graph;
    uint8_t seen[MAX_LAYERS];
    uint8_t seen_anywhere;
    bool has_ids;
    bool has_plain_kv; /* of a decoder alone */
    bool has_part_kv;  /* of an encoder-decoder's decoder */
    bool has_states;   /* encoder_hidden_states */
    bool has_states_mask;
    kvern_error *err;
};

/* ---- inputs and outputs ---- */

/* "past_key_values.3.key" -> layer 3 and the bit; false: another name. Of encoder-decoders it is
 * "past_key_values.3.decoder.key" or "past_key_values.3.encoder.key". */
static bool read_kv_name(struct scan *scan, struct text name, const char *prefix, unsigned key_bit,
                         size_t *layer, unsigned *bit)
{
    static const struct {
        const char *rest;
        unsigned shift;
        bool is_part;
    } rests[] = {
        {".key", 0, false},
        {".value", 1, false},
        {".decoder.key", 0, true},
        {".decoder.value", 1, true},
        {".encoder.key", CROSS_SHIFT, true},
        {".encoder.value", CROSS_SHIFT + 1, true},
    };
    size_t at = strlen(prefix);
    size_t n_digits = 0;

    if (name.n_bytes <= at || memcmp(name.at, prefix, at) != 0)
        return false;
    *layer = 0;
    while (at < name.n_bytes && name.at[at] >= '0' && name.at[at] <= '9' && n_digits++ < 4)
        *layer = *layer * 10 + (size_t)(name.at[at++] - '0');
    const struct text rest = {.at = name.at + at, .n_bytes = name.n_bytes - at};
    for (size_t i = 0; n_digits > 0 && i < sizeof rests / sizeof rests[0]; i++) {
        if (!text_is(rest, rests[i].rest))
            continue;
        *bit = key_bit << rests[i].shift;
        scan->has_part_kv |= rests[i].is_part;
        scan->has_plain_kv |= !rests[i].is_part;
        return true;
    }
    return false;
}

/* A size that several values state must be the same in all of them. */
static kvern_status agree(struct scan *scan, const struct value_info *info, size_t axis,
                          const char *what, size_t *size)
{
    int64_t dim = info->dims[axis];

    if (dim < 0)
        return KVERN_OK;
    if (*size != 0 && (int64_t)*size != dim)
        return fail(scan->err, KVERN_FORMAT,
                    "\"%.*s\" has %s %lld, other values of the graph have %zu",
                    TEXT_ARGUMENTS(info->name), what, (long long)dim, *size);
    if (dim == 0)
        return fail(scan->err, KVERN_FORMAT, "\"%.*s\" has %s 0", TEXT_ARGUMENTS(info->name), what);
    if (dim > MAX_SIZE)
        return fail(scan->err, KVERN_LIMIT, "\"%.*s\" has %s %lld, over the limit of %d",
                    TEXT_ARGUMENTS(info->name), what, (long long)dim, MAX_SIZE);
    *size = (size_t)dim;
    return KVERN_OK;
}

static kvern_status bad_shape(struct scan *scan, const struct value_info *info,
                              const char *expected)
{
    return fail(scan->err, KVERN_FORMAT,
                "\"%.*s\" has element type %llu and %zu dims; it should be %s",
                TEXT_ARGUMENTS(info->name), (unsigned long long)info->type, info->rank, expected);
}

static kvern_status add_kv(struct scan *scan, const struct value_info *info, size_t layer,
                           unsigned bit)
{
    struct export_graph *graph = scan->graph;
    kvern_status status;

    if (layer >= MAX_LAYERS)
        return fail(scan->err, KVERN_LIMIT, "\"%.*s\" is over the limit of %d layers",
                    TEXT_ARGUMENTS(info->name), MAX_LAYERS);
    if ((info->type != TYPE_F32 && info->type != TYPE_F16) || info->rank != 4)
        return bad_shape(scan, info, "float or float16 [batch, kv heads, tokens, head size]");
    if (graph->kv_type != 0 && (uint64_t)graph->kv_type != info->type)
        return fail(scan->err, KVERN_FORMAT, "\"%.*s\" has element type %llu, other KV has %d",
                    TEXT_ARGUMENTS(info->name), (unsigned long long)info->type, graph->kv_type);
    graph->kv_type = (enum export_type)info->type;
    status = agree(scan, info, 1, "kv heads", &graph->n_kv_heads);
    if (status == KVERN_OK)
        status = agree(scan, info, 3, "head size", &graph->head_size);
    scan->seen[layer] |= (uint8_t)bit;
    scan->seen_anywhere |= (uint8_t)bit;
    if (layer >= graph->n_layers)
        graph->n_layers = layer + 1;
    return status;
}

/* What an encoder gave, [batch, source tokens, hidden size]. */
static kvern_status scan_states(struct scan *scan, const struct value_info *info)
{
    if ((info->type != TYPE_F32 && info->type != TYPE_F16) || info->rank != 3)
        return bad_shape(scan, info, "float or float16 [batch, tokens, hidden size]");
    scan->has_states = true;
    scan->graph->states_type = (enum export_type)info->type;
    return agree(scan, info, 2, "hidden size", &scan->graph->hidden_size);
}

static kvern_status scan_input(struct scan *scan, struct protobuf message)
{
    struct export_graph *graph = scan->graph;
    struct value_info info = {.name = {""}};
    const struct {
        const char *name;
        bool *flag;
        unsigned type;
        size_t rank;
    } inputs[] = {
        {"input_ids", &scan->has_ids, TYPE_I64, 2},
        {"attention_mask", &graph->has_mask, TYPE_I64, 2},
        {"position_ids", &graph->has_positions, TYPE_I64, 2},
        {"token_type_ids", &graph->has_token_types, TYPE_I64, 2},
        {"use_cache_branch", &graph->has_cache_branch, TYPE_BOOL, 1},
        {"encoder_attention_mask", &scan->has_states_mask, TYPE_I64, 2},
    };
    size_t layer;
    unsigned bit;

    if (!value_info_read(&info, message))
        return fail(scan->err, KVERN_FORMAT, "the graph input \"%.*s\" is damaged",
                    TEXT_ARGUMENTS(info.name));
    if (read_kv_name(scan, info.name, "past_key_values.", PAST_KEY, &layer, &bit)) {
        graph->is_decoder = true;
        return add_kv(scan, &info, layer, bit);
    }
    if (text_is(info.name, "encoder_hidden_states"))
        return scan_states(scan, &info);
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        if (!text_is(info.name, inputs[i].name))
            continue;
        if (info.type != inputs[i].type || info.rank != inputs[i].rank)
            return bad_shape(scan, &info,
                             inputs[i].type == TYPE_BOOL ? "bool [1]" : "int64 [batch, tokens]");
        *inputs[i].flag = true;
        return KVERN_OK;
    }
    return fail(scan->err, KVERN_UNSUPPORTED,
                "the graph takes \"%.*s\", which kvern does not know how to feed",
                TEXT_ARGUMENTS(info.name));
}

static kvern_status set_hidden(struct scan *scan, const struct value_info *info)
{
    struct export_graph *graph = scan->graph;

    if (info->type != TYPE_F32 && info->type != TYPE_F16)
        return bad_shape(scan, info, "float or float16");
    memcpy(graph->hidden, info->name.at, info->name.n_bytes);
    graph->hidden[info->name.n_bytes] = '\0';
    graph->hidden_type = (enum export_type)info->type;
    graph->is_pooled = info->rank == 2;
    graph->hidden_size = 0;
    return agree(scan, info, info->rank - 1, "hidden size", &graph->hidden_size);
}

/* Outputs that nobody reads are let pass. Hidden states of every token win over a pooled vector. */
static kvern_status scan_output(struct scan *scan, struct protobuf message)
{
    struct export_graph *graph = scan->graph;
    struct value_info info = {.name = {""}};
    size_t layer;
    unsigned bit;

    if (!value_info_read(&info, message))
        return KVERN_OK;
    if (read_kv_name(scan, info.name, "present.", PRESENT_KEY, &layer, &bit))
        return add_kv(scan, &info, layer, bit);
    if (text_is(info.name, "logits")) {
        if ((info.type != TYPE_F32 && info.type != TYPE_F16) || info.rank != 3)
            return bad_shape(scan, &info, "float or float16 [batch, tokens, vocabulary]");
        graph->has_logits = true;
        graph->logits_type = (enum export_type)info.type;
        graph->has_last_only = info.dims[1] == 1;
        return agree(scan, &info, 2, "vocabulary", &graph->vocab_size);
    }
    if ((text_is(info.name, "last_hidden_state") || text_is(info.name, "hidden_states") ||
         text_is(info.name, "token_embeddings")) &&
        info.rank == 3)
        return set_hidden(scan, &info);
    if (text_is(info.name, "sentence_embedding") && info.rank == 2 && graph->hidden[0] == '\0')
        return set_hidden(scan, &info);
    return KVERN_OK;
}

static kvern_status visit_values(struct scan *scan, struct protobuf graph, uint32_t number,
                                 kvern_status (*visit)(struct scan *scan, struct protobuf message))
{
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&graph, &field)) {
        if (field.number == number)
            status = visit(scan, protobuf_read(field.bytes, field.n_bytes));
    }
    return status;
}

/* ---- the whole ---- */

/* Every layer has the tensors of these bits. */
static kvern_status check_layers(const struct scan *scan, unsigned bits)
{
    static const char *const prefixes[] = {"past_key_values", "past_key_values", "present",
                                           "present"};
    const struct export_graph *graph = scan->graph;

    for (size_t layer = 0; layer < graph->n_layers; layer++) {
        unsigned missing = bits & ~(unsigned)scan->seen[layer];
        unsigned i = 0;

        if (missing == 0)
            continue;
        while (!(missing >> i & 1))
            i++;
        return fail(scan->err, KVERN_FORMAT,
                    "the graph has no %s \"%s.%zu%s.%s\", though it has %zu layers",
                    i % CROSS_SHIFT < 2 ? "input" : "output", prefixes[i % CROSS_SHIFT], layer,
                    scan->has_plain_kv ? ""
                    : i < CROSS_SHIFT  ? ".decoder"
                                       : ".encoder",
                    i % 2 == 0 ? "key" : "value", graph->n_layers);
    }
    return KVERN_OK;
}

/* The decoder of an encoder-decoder: what it starts with, what it goes on with, or both merged. */
static kvern_status check_part(const struct scan *scan)
{
    struct export_graph *graph = scan->graph;
    unsigned bits = PAST | PAST << CROSS_SHIFT | PRESENT;

    graph->part = EXPORT_NEXT;
    if (graph->has_cache_branch || !(scan->seen_anywhere & (PAST | PAST << CROSS_SHIFT))) {
        graph->part = graph->has_cache_branch ? EXPORT_MERGED : EXPORT_FIRST;
        bits = graph->has_cache_branch ? bits | PRESENT << CROSS_SHIFT
                                       : PRESENT | PRESENT << CROSS_SHIFT;
    }
    graph->is_decoder = true;
    graph->has_states = scan->has_states;
    graph->has_states_mask = scan->has_states_mask;
    if (scan->has_plain_kv || graph->n_layers == 0)
        return fail(scan->err, KVERN_UNSUPPORTED,
                    "the graph takes an encoder's output, but its KV cache is not named "
                    "present.N.decoder and present.N.encoder: export it with its KV cache "
                    "(optimum's task text2text-generation-with-past)");
    if (graph->has_mask || graph->has_positions || graph->has_token_types)
        return fail(scan->err, KVERN_UNSUPPORTED,
                    "the graph is an encoder-decoder's, but takes a mask, positions or types of "
                    "the decoder's tokens, which kvern does not know how to feed");
    if (graph->part != EXPORT_NEXT && !graph->has_states)
        return fail(scan->err, KVERN_FORMAT, "the graph has no input \"encoder_hidden_states\"");
    if (!graph->has_logits)
        return fail(scan->err, KVERN_FORMAT, "the graph has a KV cache but no output \"logits\"");
    return check_layers(scan, bits);
}

static kvern_status check_decoder(const struct scan *scan)
{
    kvern_status status = check_layers(scan, PAST | PRESENT);

    if (status == KVERN_OK && !scan->graph->has_logits)
        status = fail(scan->err, KVERN_FORMAT, "the graph has a KV cache but no output \"logits\"");
    return status;
}

static kvern_status check_whole(const struct scan *scan)
{
    const struct export_graph *graph = scan->graph;

    if (!scan->has_ids)
        return fail(scan->err, KVERN_FORMAT, "the graph has no input \"input_ids\"");
    if (scan->has_part_kv || scan->has_states || scan->has_states_mask)
        return check_part(scan);
    if (graph->is_decoder)
        return check_decoder(scan);
    if (graph->has_cache_branch)
        return fail(scan->err, KVERN_FORMAT,
                    "the graph takes use_cache_branch but no past_key_values");
    if (graph->has_logits)
        return fail(scan->err, KVERN_UNSUPPORTED,
                    "the graph gives logits but takes no past_key_values: export it with its KV "
                    "cache (optimum's task text-generation-with-past)");
    if (graph->hidden[0] == '\0')
        return fail(scan->err, KVERN_UNSUPPORTED,
                    "the graph has none of the outputs logits, last_hidden_state, "
                    "token_embeddings and sentence_embedding");
    return KVERN_OK;
}

kvern_status export_graph_read(struct export_graph *graph, struct export_files *files,
                               const uint8_t *bytes, size_t n_bytes, const char *directory,
                               kvern_error *err)
{
    struct export_walk walk = {.directory = directory, .files = files, .err = err};
    struct scan scan = {.graph = graph, .err = err};
    struct protobuf body;
    kvern_status status = export_walk_model(&walk, bytes, n_bytes, &body);

    *graph = (struct export_graph){.has_gqa = walk.has_gqa};
    if (status == KVERN_OK)
        status = visit_values(&scan, body, 11, scan_input);
    if (status == KVERN_OK)
        status = visit_values(&scan, body, 12, scan_output);
    return status == KVERN_OK ? check_whole(&scan) : status;
}

kvern_status export_graph_read_file(struct export_graph *graph, struct export_files *files,
                                    const char *path, kvern_error *err)
{
    struct file_map map = {0};
    char *directory = path_directory(path);
    kvern_status status = file_map_open(&map, path, err);

    if (status == KVERN_OK) {
        status = export_graph_read(graph, files, map.data, map.n_bytes, directory, err);
        if (status != KVERN_OK)
            fail_in(err, status, "%s", path);
    }
    file_map_close(&map);
    free(directory);
    return status;
}

kvern_status export_graph_agree(const struct export_graph *graph, struct model_config *config,
                                kvern_error *err)
{
    const struct {
        const char *name;
        size_t of_graph;
        size_t *of_config;
    } sizes[] = {
        {"layers", graph->n_layers, graph->is_decoder ? &config->n_layers : NULL},
        {"kv heads", graph->n_kv_heads, &config->n_kv_heads},
        {"values in a head", graph->head_size, &config->head_size},
        {"tokens in its vocabulary", graph->vocab_size, &config->vocab_size},
        {"values in a hidden state", graph->hidden_size, &config->hidden_size},
    };

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (!sizes[i].of_config || sizes[i].of_graph == 0)
            continue;
        if (*sizes[i].of_config == 0)
            *sizes[i].of_config = sizes[i].of_graph;
        if (*sizes[i].of_config != sizes[i].of_graph)
            return fail(err, KVERN_FORMAT, "the graph has %zu %s, but the model's config says %zu",
                        sizes[i].of_graph, sizes[i].name, *sizes[i].of_config);
    }
    if (!graph->is_decoder && (config->hidden_size == 0 || config->vocab_size == 0))
        return fail(err, KVERN_FORMAT,
                    "neither the graph nor a config says how many %s there are: put the model's "
                    "config.json beside it",
                    config->vocab_size == 0 ? "tokens" : "values in a vector");
    if (graph->is_decoder &&
        (config->vocab_size == 0 || config->n_kv_heads == 0 || config->head_size == 0))
        return fail(err, KVERN_FORMAT,
                    "neither the graph nor a config says how many %s there are: put the model's "
                    "config.json beside it, or name a preset",
                    config->vocab_size == 0 ? "tokens" : "kv heads");
    if (config->n_kv_heads > MAX_HEADS || config->head_size > MAX_HEADS)
        return fail(err, KVERN_LIMIT,
                    "%zu kv heads of %zu values are over the limit of %d heads and values",
                    config->n_kv_heads, config->head_size, MAX_HEADS);
    return KVERN_OK;
}
