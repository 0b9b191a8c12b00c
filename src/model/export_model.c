/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of an export by the names that optimum, onnxruntime-genai and onnx-community give them.
 * Nothing is written into the folder.
 */
#include "model/export_model.h"

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "model/export_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool ends_in_onnx(const char *path)
{
    size_t n_bytes = strlen(path);

    return n_bytes > 5 && strcmp(path + n_bytes - 5, ".onnx") == 0;
}

static bool has_config(const char *directory)
{
    static const char *const names[] = {"config.json", "genai_config.json", "tokenizer.json"};
    bool is_there = false;

    for (size_t i = 0; i < sizeof names / sizeof names[0] && !is_there; i++) {
        char *path = path_join(directory, names[i]);

        is_there = file_exists(path);
        free(path);
    }
    return is_there;
}

char *export_config_directory(const char *graph)
{
    char *directory = path_directory(graph);
    char *above;

    if (has_config(directory) || strcmp(path_base(directory), "onnx") != 0)
        return directory;
    above = path_directory(directory);
    if (has_config(above)) {
        free(directory);
        return above;
    }
    free(above);
    return directory;
}

static char *find_in(const char *directory)
{
    static const char *const names[] = {"decoder_model_merged.onnx", "model.onnx",
                                        "decoder_with_past_model.onnx",
                                        "onnx/decoder_model_merged.onnx", "onnx/model.onnx"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = path_join(directory, names[i]);

        if (file_exists(path))
            return path;
        free(path);
    }
    return NULL;
}

bool export_place_find(struct export_place *place, const char *path)
{
    *place = (struct export_place){0};
    if (export_seq2seq_find(&place->seq2seq, path))
        place->graph = copy_string_or_abort(place->seq2seq.decoder.path);
    else if (directory_exists(path))
        place->graph = find_in(path);
    else if (ends_in_onnx(path) && file_exists(path))
        place->graph = copy_string_or_abort(path);
    if (!place->graph)
        return false;
    place->directory = export_config_directory(place->graph);
    return true;
}

void export_place_clear(struct export_place *place)
{
    free(place->graph);
    free(place->directory);
    export_seq2seq_clear(&place->seq2seq);
    *place = (struct export_place){0};
}

/* A name for messages and lists: that of the folder. */
static void set_name(struct manifest *manifest, const char *directory)
{
    char *real = realpath(directory, NULL);
    const char *name = path_base(real ? real : directory);

    snprintf(manifest->name, sizeof manifest->name, "%s", *name ? name : "export");
    free(real);
}

static void describe(struct manifest *manifest, const struct export_graph *graph,
                     const struct export_place *place)
{
    set_name(manifest, place->directory);
    snprintf(manifest->contract, sizeof manifest->contract, "%s",
             graph->part != EXPORT_WHOLE ? "seq2seq"
             : graph->is_decoder         ? "cached"
                                         : "encoder");
    snprintf(manifest->weights, sizeof manifest->weights, "onnx");
    snprintf(manifest->source, sizeof manifest->source, "%s", path_base(place->graph));
    snprintf(manifest->source_format, sizeof manifest->source_format, "onnx");
    manifest->kv_types = graph->kv_type == EXPORT_F16 ? MANIFEST_KV_F16 : MANIFEST_KV_F32;
}

/* A model in one graph. */
static kvern_status read_whole(const struct export_place *place, const char *preset,
                               struct export_graph *graph, struct export_files *files,
                               struct model_config *config, kvern_error *err)
{
    bool is_stated = true;
    kvern_status status = export_graph_read_file(graph, files, place->graph, err);

    if (status == KVERN_OK && graph->part != EXPORT_WHOLE)
        status = fail(err, KVERN_NOT_FOUND,
                      "%s is an encoder-decoder's, and its others are not beside it: "
                      "encoder_model.onnx with decoder_model_merged.onnx, or with "
                      "decoder_model.onnx and decoder_with_past_model.onnx",
                      place->graph);
    if (status != KVERN_OK)
        return status;
    status = export_config_read(config, place->directory, preset, &is_stated, err);
    if (status == KVERN_OK)
        status = export_graph_agree(graph, config, err);
    if (status != KVERN_OK)
        fail_in(err, status, "%s", place->graph);
    else if (!is_stated)
        log_warning("%s has no config.json: its sizes are the graph's, its context is taken as "
                    "%d tokens, and no token ends an answer; --preset NAME says more",
                    place->directory, EXPORT_DEFAULT_CONTEXT);
    return status;
}

static kvern_status read_seq2seq(struct export_place *place, const char *preset,
                                 struct export_graph *graph, struct export_files *files,
                                 struct model_config *config, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    if (preset)
        return fail(err, KVERN_INVALID,
                    "%s holds an encoder-decoder; the presets are of decoders, none of it",
                    place->directory);
    status = export_seq2seq_read(&place->seq2seq, files, err);
    if (status != KVERN_OK)
        return status;
    *graph = place->seq2seq.decoder.graph;
    status = export_seq2seq_config(config, place->directory, err);
    if (status == KVERN_OK)
        status = export_graph_agree(graph, config, err);
    return status == KVERN_OK ? KVERN_OK : fail_in(err, status, "%s", place->graph);
}

kvern_status export_model_read(struct export_place *place, const char *preset,
                               struct export_graph *graph, struct export_files *files,
                               struct manifest *manifest, kvern_error *err)
{
    bool is_seq2seq = place->seq2seq.decoder.path != NULL;
    kvern_status status;

    *manifest = (struct manifest){0};
    status = is_seq2seq ? read_seq2seq(place, preset, graph, files, &manifest->config, err)
                        : read_whole(place, preset, graph, files, &manifest->config, err);
    if (status == KVERN_OK)
        describe(manifest, graph, place);
    return status;
}
