/* SPDX-License-Identifier: Apache-2.0
 *
 * Files by their names, graphs by what they take and give. Which of the graphs a size is from does
 * not matter: what two of them state must be the same.
 */
#include "model/export_seq2seq.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "convert/text_files.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 1 << 20 };

static const char ENDING[] = ".onnx";
static const char ENCODER[] = "encoder_model";
static const char FIRST[] = "decoder_model";
static const char NEXT[] = "decoder_with_past_model";
static const char MERGED[] = "decoder_model_merged";

void export_seq2seq_clear(struct export_seq2seq *export)
{
    free(export->encoder.path);
    free(export->decoder.path);
    free(export->next.path);
    *export = (struct export_seq2seq){0};
}

/* ---- files ---- */

/* DIRECTORY/<stem><ending>, malloc'ed; NULL: there is no such file. */
static char *find_file(const char *directory, const char *stem, const char *ending)
{
    struct buffer name = {0};
    char *path = NULL;

    buffer_add_format(&name, "%s%s", stem, ending);
    if (!name.has_failed)
        path = path_join(directory, name.data);
    buffer_clear(&name);
    if (path && file_exists(path))
        return path;
    free(path);
    return NULL;
}

/* The files of one ending; `wants_split`: not the merged one. */
static bool find_in(struct export_seq2seq *export, const char *directory, const char *ending,
                    bool wants_split)
{
    *export = (struct export_seq2seq){0};
    export->encoder.path = find_file(directory, ENCODER, ending);
    if (!export->encoder.path)
        return false;
    if (!wants_split)
        export->decoder.path = find_file(directory, MERGED, ending);
    if (export->decoder.path)
        return true;
    export->decoder.path = find_file(directory, FIRST, ending);
    export->next.path = find_file(directory, NEXT, ending);
    if (export->decoder.path && export->next.path)
        return true;
    export_seq2seq_clear(export);
    return false;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* The stem that a file's name begins with; NULL: none of ours. */
static const char *find_stem(const char *name)
{
    const char *const stems[] = {MERGED, NEXT, FIRST, ENCODER}; /* a longer one before its start */

    for (size_t i = 0; i < sizeof stems / sizeof stems[0]; i++) {
        if (starts_with(name, stems[i]))
            return stems[i];
    }
    return NULL;
}

static bool find_beside(struct export_seq2seq *export, const char *path)
{
    const char *name = path_base(path);
    const char *stem = find_stem(name);
    size_t n_bytes = strlen(name);
    bool is_found = false;

    if (stem && file_exists(path) && n_bytes >= sizeof ENDING &&
        strcmp(name + n_bytes - (sizeof ENDING - 1), ENDING) == 0) {
        char *directory = path_directory(path);

        is_found = find_in(export, directory, name + strlen(stem), stem == FIRST || stem == NEXT);
        free(directory);
    }
    return is_found;
}

bool export_seq2seq_find(struct export_seq2seq *export, const char *path)
{
    char *inner;
    bool is_found;

    *export = (struct export_seq2seq){0};
    if (!directory_exists(path))
        return find_beside(export, path);
    if (find_in(export, path, ENDING, false))
        return true;
    inner = path_join(path, "onnx");
    is_found = find_in(export, inner, ENDING, false);
    free(inner);
    return is_found;
}

/* ---- graphs ---- */

static kvern_status check_parts(const struct export_seq2seq *export, kvern_error *err)
{
    const struct export_graph *encoder = &export->encoder.graph;
    enum export_part wanted = export->next.path ? EXPORT_FIRST : EXPORT_MERGED;

    if (encoder->is_decoder || encoder->is_pooled || encoder->has_positions ||
        encoder->has_token_types)
        return fail(err, KVERN_UNSUPPORTED,
                    "%s is not an encoder of input_ids and attention_mask that gives hidden states",
                    export->encoder.path);
    if (export->decoder.graph.part != wanted)
        return fail(err, KVERN_FORMAT,
                    wanted == EXPORT_MERGED
                        ? "%s does not take use_cache_branch, past_key_values and "
                          "encoder_hidden_states, as a merged decoder does"
                        : "%s does not take encoder_hidden_states alone, as the decoder of an "
                          "answer's first tokens does",
                    export->decoder.path);
    if (export->next.path && export->next.graph.part != EXPORT_NEXT)
        return fail(err, KVERN_FORMAT, "%s does not take past_key_values.N.decoder and .encoder",
                    export->next.path);
    return KVERN_OK;
}

/* A number that the decoder's graph and another one state is the same; 0: not stated. */
static kvern_status agree(const struct export_seq2seq *export,
                          const struct export_seq2seq_graph *other, const char *what, size_t *size,
                          size_t of_other, kvern_error *err)
{
    if (*size == 0)
        *size = of_other;
    if (of_other == 0 || *size == of_other)
        return KVERN_OK;
    return fail(err, KVERN_FORMAT, "%s has %zu %s, but %s has %zu", export->decoder.path, *size,
                what, other->path, of_other);
}

static kvern_status agree_types(const struct export_seq2seq *export, kvern_error *err)
{
    const struct export_graph *decoder = &export->decoder.graph;
    const struct export_graph *next = &export->next.graph;

    if (decoder->states_type != export->encoder.graph.hidden_type ||
        (next->has_states && next->states_type != decoder->states_type))
        return fail(err, KVERN_FORMAT,
                    "%s gives hidden states of element type %d, the decoders take %d and %d",
                    export->encoder.path, export->encoder.graph.hidden_type, decoder->states_type,
                    next->states_type);
    if (export->next.path && next->kv_type != decoder->kv_type)
        return fail(err, KVERN_FORMAT, "%s gives KV of element type %d, but %s takes %d",
                    export->decoder.path, decoder->kv_type, export->next.path, next->kv_type);
    return KVERN_OK;
}

static kvern_status agree_sizes(struct export_seq2seq *export, kvern_error *err)
{
    const struct export_seq2seq_graph *others[] = {&export->encoder, &export->next};
    struct export_graph *decoder = &export->decoder.graph;
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < sizeof others / sizeof others[0]; i++) {
        const struct export_graph *graph = &others[i]->graph;
        const struct {
            const char *what;
            size_t *size;
            size_t of_other;
        } sizes[] = {
            {"layers", &decoder->n_layers, graph->n_layers},
            {"kv heads", &decoder->n_kv_heads, graph->n_kv_heads},
            {"values in a head", &decoder->head_size, graph->head_size},
            {"tokens in its vocabulary", &decoder->vocab_size, graph->vocab_size},
            {"values in a hidden state", &decoder->hidden_size, graph->hidden_size},
        };

        for (size_t k = 0; status == KVERN_OK && k < sizeof sizes / sizeof sizes[0]; k++)
            status = agree(export, others[i], sizes[k].what, sizes[k].size, sizes[k].of_other, err);
    }
    return status;
}

kvern_status export_seq2seq_read(struct export_seq2seq *export, struct export_files *files,
                                 kvern_error *err)
{
    struct export_seq2seq_graph *graphs[] = {&export->encoder, &export->decoder, &export->next};
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < sizeof graphs / sizeof graphs[0]; i++) {
        if (graphs[i]->path)
            status = export_graph_read_file(&graphs[i]->graph, files, graphs[i]->path, err);
    }
    if (status == KVERN_OK)
        status = check_parts(export, err);
    if (status == KVERN_OK)
        status = agree_types(export, err);
    return status == KVERN_OK ? agree_sizes(export, err) : status;
}

/* ---- the config ---- */

kvern_status export_seq2seq_config(struct model_config *config, const char *directory,
                                   kvern_error *err)
{
    char *text = NULL;
    char *generation = NULL;
    kvern_status status =
        text_file_read_optional(directory, "config.json", MAX_CONFIG_BYTES, &text, err);

    if (status == KVERN_OK && !text)
        status = fail(err, KVERN_NOT_FOUND,
                      "%s has no config.json, which an encoder-decoder's export needs beside it",
                      directory);
    if (status == KVERN_OK)
        status = text_file_read_optional(directory, "generation_config.json", MAX_CONFIG_BYTES,
                                         &generation, err);
    if (status == KVERN_OK)
        status = config_from_json(config, text, generation, err);
    if (status == KVERN_OK && !config_is_seq2seq(config))
        status = fail(err, KVERN_FORMAT,
                      "config.json in %s is of the family %s, which is no encoder-decoder",
                      directory, config_family_name(config->family));
    free(text);
    free(generation);
    return status;
}
