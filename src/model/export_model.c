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
    if (directory_exists(path))
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
             graph->is_decoder ? "cached" : "encoder");
    snprintf(manifest->weights, sizeof manifest->weights, "onnx");
    snprintf(manifest->source, sizeof manifest->source, "%s", path_base(place->graph));
    snprintf(manifest->source_format, sizeof manifest->source_format, "onnx");
    manifest->kv_types = graph->kv_type == EXPORT_F16 ? MANIFEST_KV_F16 : MANIFEST_KV_F32;
}

kvern_status export_model_read(const struct export_place *place, const char *preset,
                               struct export_graph *graph, struct export_files *files,
                               struct manifest *manifest, kvern_error *err)
{
    struct file_map map = {0};
    char *directory = path_directory(place->graph);
    bool is_stated = true;
    kvern_status status = file_map_open(&map, place->graph, err);

    *manifest = (struct manifest){0};
    if (status == KVERN_OK) {
        status = export_graph_read(graph, files, map.data, map.n_bytes, directory, err);
        if (status == KVERN_OK)
            status =
                export_config_read(&manifest->config, place->directory, preset, &is_stated, err);
        if (status == KVERN_OK)
            status = export_graph_agree(graph, &manifest->config, err);
        if (status != KVERN_OK)
            fail_in(err, status, "%s", place->graph);
    }
    if (status == KVERN_OK) {
        describe(manifest, graph, place);
        if (!is_stated)
            log_warning("%s has no config.json: its sizes are the graph's, its context is taken as "
                        "%d tokens, and no token ends an answer; --preset NAME says more",
                        place->directory, EXPORT_DEFAULT_CONTEXT);
    }
    file_map_close(&map);
    free(directory);
    return status;
}
