/* SPDX-License-Identifier: Apache-2.0
 *
 * Inputs and outputs by their names, which every exporter takes from transformers. Nodes are walked
 * for what could reach outside the model: external data, also in subgraphs and functions, and
 * operators that are not ONNX's or ONNX Runtime's own.
 */
#include "model/export_graph.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/contract_tensor.h"
#include "model/protobuf.h"
#include "model/value_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_LAYERS = 512, MAX_DEPTH = 8 };

/* Products of sizes below these stay far from overflow. */
enum { MAX_HEADS = 1 << 16, MAX_SIZE = 1 << 28 };

/* The four tensors of a layer's KV: bits of `seen`. */
enum { PAST_KEY = 1, PAST_VALUE = 2, PRESENT_KEY = 4, PRESENT_VALUE = 8, ALL_KV = 15 };

enum { TYPE_F32 = 1, TYPE_I64 = 7, TYPE_BOOL = 9, TYPE_F16 = 10 };

struct scan {
    struct export_graph *graph;
    const char *directory;
    uint8_t seen[MAX_LAYERS];
    bool has_ids;
    struct export_files *files; /* those that have been looked at */
    kvern_error *err;
};

/* ---- external data ---- */

void export_files_clear(struct export_files *files)
{
    free(files->items);
    *files = (struct export_files){0};
}

static kvern_status add_file(struct scan *scan, const struct export_file *file)
{
    struct export_files *files = scan->files;
    struct export_file *grown = try_resize(files->items, files->n + 1, sizeof *grown);

    if (!grown)
        return fail(scan->err, KVERN_MEMORY, "no memory for the names of %zu files", files->n + 1);
    files->items = grown;
    files->items[files->n++] = *file;
    files->n_bytes += file->n_bytes;
    return KVERN_OK;
}

/* The file `name` into *file, if that is a regular file of the directory, no link. Only files that
 * are there are noted, so a graph cannot make the list long. */
static kvern_status look_at_file(struct scan *scan, struct text name, struct export_file *file)
{
    struct stat info;
    char *path;
    int failed;

    if (name.n_bytes == 0 || name.n_bytes >= sizeof file->name ||
        memchr(name.at, '\0', name.n_bytes) != NULL || memchr(name.at, '/', name.n_bytes) != NULL ||
        memchr(name.at, '\\', name.n_bytes) != NULL || text_is(name, ".") || text_is(name, ".."))
        return fail(scan->err, KVERN_FORMAT,
                    "a tensor lies in \"%.*s\", which is no plain file name", TEXT_ARGUMENTS(name));
    for (size_t i = scan->files->n; i-- > 0;) {
        if (text_is(name, scan->files->items[i].name)) {
            *file = scan->files->items[i];
            return KVERN_OK;
        }
    }
    *file = (struct export_file){0};
    memcpy(file->name, name.at, name.n_bytes);
    path = path_join(scan->directory, file->name);
    failed = lstat(path, &info);
    free(path);
    if (failed)
        return fail(scan->err, KVERN_NOT_FOUND, "%s needs the file %s, which is not there",
                    scan->directory, file->name);
    if (!S_ISREG(info.st_mode) || info.st_nlink > 1)
        return fail(scan->err, KVERN_FORMAT,
                    "%s is a link or no regular file; weights must be a file of the folder itself",
                    file->name);
    file->n_bytes = (uint64_t)info.st_size;
    return add_file(scan, file);
}

static kvern_status check_place(struct scan *scan, struct text tensor, struct text location,
                                struct text offset_text, struct text length_text)
{
    uint64_t offset = 0;
    uint64_t length = 0;
    struct export_file file;
    kvern_status status = look_at_file(scan, location, &file);

    if (status != KVERN_OK)
        return status;
    if ((offset_text.n_bytes > 0 && !text_read_decimal(offset_text, &offset)) ||
        (length_text.n_bytes > 0 && !text_read_decimal(length_text, &length)) ||
        offset + length > file.n_bytes)
        return fail(scan->err, KVERN_FORMAT,
                    "the tensor \"%.*s\" lies at offset \"%.*s\" with \"%.*s\" bytes in %s, which "
                    "has %llu",
                    TEXT_ARGUMENTS(tensor), TEXT_ARGUMENTS(offset_text),
                    TEXT_ARGUMENTS(length_text), file.name, (unsigned long long)file.n_bytes);
    return KVERN_OK;
}

static bool read_entry(const struct protobuf_field *from, struct text *key, struct text *value)
{
    struct protobuf message = protobuf_read(from->bytes, from->n_bytes);
    struct protobuf_field field;

    while (protobuf_next(&message, &field)) {
        if (field.number == 1)
            *key = text_of(&field);
        else if (field.number == 2)
            *value = text_of(&field);
    }
    return !message.is_damaged;
}

/* Weights that ONNX Runtime has packed for its kernels are places of the file that it takes over
 * without checking their sizes. */
static const char prepacked[] = "prepacked";

static kvern_status scan_tensor(struct scan *scan, struct protobuf message)
{
    struct text name = {""}, location = {""}, offset = {""}, length = {""};
    struct protobuf_field field;
    bool is_external = false;
    bool is_ok = true;

    while (is_ok && protobuf_next(&message, &field)) {
        struct text key = {""}, value = {""};

        if (field.number == 8)
            name = text_of(&field);
        else if (field.number == 14)
            is_external = field.value != 0;
        if (field.number != 13)
            continue;
        is_external = true;
        is_ok = read_entry(&field, &key, &value);
        if (text_is(key, "location"))
            location = value;
        else if (text_is(key, "offset"))
            offset = value;
        else if (text_is(key, "length"))
            length = value;
        else if (key.n_bytes >= sizeof prepacked - 1 &&
                 memcmp(key.at, prepacked, sizeof prepacked - 1) == 0)
            return fail(scan->err, KVERN_UNSUPPORTED,
                        "the tensor \"%.*s\" is packed for ONNX Runtime's own kernels",
                        TEXT_ARGUMENTS(name));
    }
    if (!is_ok || message.is_damaged)
        return fail(scan->err, KVERN_FORMAT, "the tensor \"%.*s\" is damaged",
                    TEXT_ARGUMENTS(name));
    return is_external ? check_place(scan, name, location, offset, length) : KVERN_OK;
}

/* ---- nodes ---- */

static kvern_status scan_graph(struct scan *scan, struct protobuf message, unsigned depth);

static kvern_status scan_attribute(struct scan *scan, struct protobuf message, unsigned depth)
{
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&message, &field)) {
        if (field.number == 5 || field.number == 10)
            status = scan_tensor(scan, protobuf_read(field.bytes, field.n_bytes));
        else if (field.number == 6 || field.number == 11)
            status = scan_graph(scan, protobuf_read(field.bytes, field.n_bytes), depth + 1);
        else if (field.number == 22 || field.number == 23)
            status = fail(scan->err, KVERN_UNSUPPORTED, "the graph has sparse tensors");
    }
    if (status == KVERN_OK && message.is_damaged)
        status = fail(scan->err, KVERN_FORMAT, "an attribute of a node is damaged");
    return status;
}

static bool is_known_domain(struct text domain)
{
    return text_is(domain, "") || text_is(domain, "ai.onnx") || text_is(domain, "com.microsoft");
}

static kvern_status scan_node(struct scan *scan, struct protobuf message, unsigned depth)
{
    struct text op = {""}, domain = {""};
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&message, &field)) {
        if (field.number == 4)
            op = text_of(&field);
        else if (field.number == 7)
            domain = text_of(&field);
        else if (field.number == 5)
            status = scan_attribute(scan, protobuf_read(field.bytes, field.n_bytes), depth);
    }
    if (status == KVERN_OK && message.is_damaged)
        status = fail(scan->err, KVERN_FORMAT, "a node of the graph is damaged");
    /* EPContext makes ONNX Runtime read files of its own choice. Functions of the file have domains
     * of their own, and their nodes are walked too. */
    if (status == KVERN_OK && (text_is(op, "EPContext") || text_is(domain, "ai.kvern")))
        status = fail(scan->err, KVERN_UNSUPPORTED,
                      "the graph has a node \"%.*s\" of domain \"%.*s\", which no export may have",
                      TEXT_ARGUMENTS(op), TEXT_ARGUMENTS(domain));
    if (is_known_domain(domain) && text_is(op, "GroupQueryAttention"))
        scan->graph->has_gqa = true;
    return status;
}

static kvern_status scan_graph(struct scan *scan, struct protobuf message, unsigned depth)
{
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    if (depth > MAX_DEPTH)
        return fail(scan->err, KVERN_LIMIT, "subgraphs are nested over %d deep", MAX_DEPTH);
    while (status == KVERN_OK && protobuf_next(&message, &field)) {
        if (field.number == 1)
            status = scan_node(scan, protobuf_read(field.bytes, field.n_bytes), depth);
        else if (field.number == 5)
            status = scan_tensor(scan, protobuf_read(field.bytes, field.n_bytes));
        else if (field.number == 15)
            status = fail(scan->err, KVERN_UNSUPPORTED, "the graph has sparse initializers");
    }
    if (status == KVERN_OK && message.is_damaged)
        status = fail(scan->err, KVERN_FORMAT, "the graph is cut short or damaged");
    return status;
}

static kvern_status scan_function(struct scan *scan, struct protobuf message)
{
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&message, &field)) {
        if (field.number == 7)
            status = scan_node(scan, protobuf_read(field.bytes, field.n_bytes), 1);
        else if (field.number == 11) /* the default value of an attribute */
            status = scan_attribute(scan, protobuf_read(field.bytes, field.n_bytes), 1);
    }
    if (status == KVERN_OK && message.is_damaged)
        status = fail(scan->err, KVERN_FORMAT, "a function of the file is damaged");
    return status;
}

/* ---- inputs and outputs ---- */

/* "past_key_values.3.key" -> layer 3 and the bit; false: another name. */
static bool read_kv_name(struct text name, const char *prefix, unsigned key_bit, size_t *layer,
                         unsigned *bit)
{
    size_t at = strlen(prefix);
    size_t n_digits = 0;
    struct text rest;

    if (name.n_bytes <= at || memcmp(name.at, prefix, at) != 0)
        return false;
    *layer = 0;
    while (at < name.n_bytes && name.at[at] >= '0' && name.at[at] <= '9' && n_digits++ < 4)
        *layer = *layer * 10 + (size_t)(name.at[at++] - '0');
    rest = (struct text){.at = name.at + at, .n_bytes = name.n_bytes - at};
    if (n_digits == 0 || (!text_is(rest, ".key") && !text_is(rest, ".value")))
        return false;
    *bit = text_is(rest, ".key") ? key_bit : key_bit * 2;
    return true;
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
    if (layer >= graph->n_layers)
        graph->n_layers = layer + 1;
    return status;
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
    };
    size_t layer;
    unsigned bit;

    if (!value_info_read(&info, message))
        return fail(scan->err, KVERN_FORMAT, "the graph input \"%.*s\" is damaged",
                    TEXT_ARGUMENTS(info.name));
    if (read_kv_name(info.name, "past_key_values.", PAST_KEY, &layer, &bit)) {
        graph->is_decoder = true;
        return add_kv(scan, &info, layer, bit);
    }
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
    if (read_kv_name(info.name, "present.", PRESENT_KEY, &layer, &bit))
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

static kvern_status check_decoder(const struct scan *scan)
{
    static const char *const parts[] = {"past_key_values.%zu.key", "past_key_values.%zu.value",
                                        "present.%zu.key", "present.%zu.value"};
    const struct export_graph *graph = scan->graph;

    for (size_t layer = 0; layer < graph->n_layers; layer++) {
        for (size_t part = 0; part < 4; part++) {
            char name[48];

            if (scan->seen[layer] >> part & 1)
                continue;
            snprintf(name, sizeof name, parts[part], layer);
            return fail(scan->err, KVERN_FORMAT,
                        "the graph has no %s \"%s\", though it has %zu layers",
                        part < 2 ? "input" : "output", name, graph->n_layers);
        }
    }
    if (!graph->has_logits)
        return fail(scan->err, KVERN_FORMAT, "the graph has a KV cache but no output \"logits\"");
    return KVERN_OK;
}

static kvern_status check_whole(const struct scan *scan)
{
    const struct export_graph *graph = scan->graph;

    if (!scan->has_ids)
        return fail(scan->err, KVERN_FORMAT, "the graph has no input \"input_ids\"");
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
    struct scan scan = {.graph = graph, .directory = directory, .files = files, .err = err};
    struct protobuf model = protobuf_read(bytes, n_bytes);
    struct protobuf_field found = {0};
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    *graph = (struct export_graph){0};
    *files = (struct export_files){.n_bytes = n_bytes};
    while (status == KVERN_OK && protobuf_next(&model, &field)) {
        if (field.number == 7 && !protobuf_enter(&found, &field))
            status = fail(err, KVERN_FORMAT, "the file holds more than one graph");
        else if (field.number == 20)
            status = fail(err, KVERN_UNSUPPORTED, "the file holds training graphs");
        else if (field.number == 25)
            status = scan_function(&scan, protobuf_read(field.bytes, field.n_bytes));
    }
    if (status == KVERN_OK && (model.is_damaged || !found.number))
        status = fail(err, KVERN_FORMAT, "not an ONNX file, or one that is cut short or damaged");
    const struct protobuf body = protobuf_read(found.bytes, found.n_bytes);
    if (status == KVERN_OK)
        status = scan_graph(&scan, body, 0);
    if (status == KVERN_OK)
        status = visit_values(&scan, body, 11, scan_input);
    if (status == KVERN_OK)
        status = visit_values(&scan, body, 12, scan_output);
    return status == KVERN_OK ? check_whole(&scan) : status;
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
