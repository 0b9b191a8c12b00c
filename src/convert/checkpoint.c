/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening checkpoints: which files make one, and gathering their tensors under one set of names.
 * File names that stand inside a file (the shard index) are plain names in the same directory, or
 * they are refused.
 */
#include "convert/checkpoint.h"

#include "base/error.h"
#include "base/memory.h"
#include "convert/gguf.h"
#include "convert/gguf_model.h"
#include "convert/gqa_export.h"
#include "convert/onnx_model.h"
#include "convert/safetensors.h"
#include "convert/text_files.h"
#include "convert/tokenizer_export.h"
#include "convert/torch_file.h"
#include "model/export_model.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_CONFIG_BYTES = 1 << 20,
    MAX_INDEX_BYTES = 16 << 20,
    MAX_SHARDS = 1024,
};

#define TORCH_INDEX "pytorch_model.bin.index.json"

static bool ends_with(const char *text, const char *end)
{
    size_t n_text = strlen(text);
    size_t n_end = strlen(end);

    return n_text >= n_end && strcmp(text + n_text - n_end, end) == 0;
}

kvern_status checkpoint_add(struct checkpoint *checkpoint, struct tensor tensor, kvern_error *err)
{
    size_t n = checkpoint->n_tensors;
    kvern_status status = KVERN_OK;
    uint32_t known;

    if (map_get(&checkpoint->by_name, tensor.name, strlen(tensor.name), &known)) {
        status = fail(err, KVERN_FORMAT, "the checkpoint has tensor %s twice", tensor.name);
        goto done;
    }
    if (n % 256 == 0) {
        struct tensor *grown =
            try_resize(checkpoint->tensors, n + 256, sizeof *checkpoint->tensors);

        if (!grown) {
            status = fail(err, KVERN_MEMORY, "no memory for %zu tensors", n + 256);
            goto done;
        }
        checkpoint->tensors = grown;
    }
    if (!map_put(&checkpoint->by_name, tensor.name, strlen(tensor.name), (uint32_t)n)) {
        status = fail(err, KVERN_MEMORY, "no memory for the tensors' names");
        goto done;
    }
    checkpoint->tensors[checkpoint->n_tensors++] = tensor;
    tensor.name = NULL;
done:
    free(tensor.name);
    return status;
}

const struct tensor *checkpoint_find(const struct checkpoint *checkpoint, const char *name)
{
    uint32_t i;

    return map_get(&checkpoint->by_name, name, strlen(name), &i) ? &checkpoint->tensors[i] : NULL;
}

kvern_status checkpoint_require(const struct checkpoint *checkpoint, const char *name,
                                size_t n_rows, size_t k, const struct tensor **tensor,
                                kvern_error *err)
{
    const struct tensor *found = checkpoint_find(checkpoint, name);

    if (!found)
        return fail(err, KVERN_FORMAT, "the checkpoint has no tensor %s", name);
    if (found->n_dims < 1 || found->n_dims > 2)
        return fail(err, KVERN_FORMAT, "%s has %zu dims where the config asks for [%zu, %zu]", name,
                    found->n_dims, n_rows, k);
    if (tensor_n_rows(found) != n_rows || tensor_row_values(found) != k)
        return fail(err, KVERN_FORMAT, "%s is [%zu, %zu] where the config asks for [%zu, %zu]",
                    name, tensor_n_rows(found), tensor_row_values(found), n_rows, k);
    *tensor = found;
    return KVERN_OK;
}

/* ---- GGUF ---- */

static kvern_status open_gguf(struct checkpoint *checkpoint, const char *path, kvern_error *err)
{
    struct gguf gguf = {0};
    kvern_status status;

    checkpoint->format = "gguf";
    checkpoint->files = new_or_abort(sizeof *checkpoint->files);
    checkpoint->n_files = 1;
    struct file_map *file = &checkpoint->files[0];
    status = file_map_open(file, path, err);
    if (status != KVERN_OK)
        return status;
    status = gguf_parse(&gguf, file->data, file->n_bytes, err);
    if (status == KVERN_OK)
        status = gguf_model_config(&gguf, &checkpoint->config, err);
    if (status == KVERN_OK)
        status = gguf_model_tensors(&gguf, file, checkpoint, err);
    if (status == KVERN_OK)
        status =
            tokenizer_export(&gguf, &checkpoint->tokenizer_json, &checkpoint->chat_template, err);
    if (status != KVERN_OK)
        fail_in(err, status, "%s", path_base(path));
    gguf_clear(&gguf);
    return status;
}

/* ---- safetensors and torch's files ---- */

/* Adds the tensors of a parsed file and takes their names over. */
static kvern_status add_tensors(struct checkpoint *checkpoint, struct tensor *tensors,
                                size_t n_tensors, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < n_tensors && status == KVERN_OK; i++) {
        status = checkpoint_add(checkpoint, tensors[i], err);
        tensors[i].name = NULL;
    }
    return status;
}

static bool is_torch_file(const char *path)
{
    return ends_with(path, ".bin") || ends_with(path, ".pt") || ends_with(path, ".pth");
}

/* Maps one file into the next free place and adds its tensors. */
static kvern_status add_weights(struct checkpoint *checkpoint, const char *path, kvern_error *err)
{
    struct file_map *file = &checkpoint->files[checkpoint->n_files];
    struct safetensors safetensors = {0};
    struct torch_file torch_file = {0};
    kvern_status status = file_map_open(file, path, err);

    if (status != KVERN_OK)
        return status;
    checkpoint->n_files++;
    if (is_torch_file(path)) {
        status = torch_file_parse(&torch_file, file->data, file->n_bytes, file, err);
        if (status == KVERN_OK)
            status = add_tensors(checkpoint, torch_file.tensors, torch_file.n_tensors, err);
    } else {
        status = safetensors_parse(&safetensors, file->data, file->n_bytes, file, err);
        if (status == KVERN_OK)
            status = add_tensors(checkpoint, safetensors.tensors, safetensors.n_tensors, err);
    }
    if (status != KVERN_OK)
        fail_in(err, status, "%s", path_base(path));
    torch_file_clear(&torch_file);
    safetensors_clear(&safetensors);
    return status;
}

static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && !strchr(name, '/');
}

/* The place of `name` among the shards seen so far, which it joins if it is new. */
static kvern_status note_shard(struct map *shards, const char **names, const json_t *value,
                               kvern_error *err)
{
    const char *name = json_string_value(value);
    uint32_t known;

    if (!name || !is_plain_name(name))
        return fail(err, KVERN_FORMAT,
                    "the shard index names the file \"%s\", which is not a plain name",
                    name ? name : "");
    if (map_get(shards, name, strlen(name), &known))
        return KVERN_OK;
    if (shards->n_entries == MAX_SHARDS)
        return fail(err, KVERN_LIMIT, "the shard index names more than %d files", MAX_SHARDS);
    names[shards->n_entries] = name;
    if (!map_put(shards, name, strlen(name), (uint32_t)shards->n_entries))
        return fail(err, KVERN_MEMORY, "no memory for the shards' names");
    return KVERN_OK;
}

static kvern_status add_shards(struct checkpoint *checkpoint, const char *directory,
                               const json_t *weight_map, kvern_error *err)
{
    const char *names[MAX_SHARDS];
    struct map shards = {0};
    kvern_status status = KVERN_OK;
    const char *tensor_name;
    const json_t *value;
    void *iterator = json_object_iter((json_t *)weight_map);

    for (; iterator && status == KVERN_OK;
         iterator = json_object_iter_next((json_t *)weight_map, iterator))
        status = note_shard(&shards, names, json_object_iter_value(iterator), err);
    if (status != KVERN_OK)
        goto done;
    checkpoint->files = new_or_abort(shards.n_entries * sizeof *checkpoint->files);
    for (size_t i = 0; i < shards.n_entries && status == KVERN_OK; i++) {
        char *path = path_join(directory, names[i]);

        status = add_weights(checkpoint, path, err);
        free(path);
    }
    if (status != KVERN_OK)
        goto done;
    json_object_foreach((json_t *)weight_map, tensor_name, value)
    {
        const struct tensor *tensor = checkpoint_find(checkpoint, tensor_name);
        uint32_t shard = 0;

        map_get(&shards, json_string_value(value), json_string_length(value), &shard);
        if (tensor && tensor->file != &checkpoint->files[shard]) {
            status = fail(err, KVERN_FORMAT, "the shard index puts %s into %s, but it is elsewhere",
                          tensor_name, json_string_value(value));
            goto done;
        }
    }
done:
    map_clear(&shards);
    return status;
}

static kvern_status open_sharded(struct checkpoint *checkpoint, const char *directory,
                                 const char *index_path, kvern_error *err)
{
    char *text = NULL;
    json_t *index = NULL;
    json_error_t where;
    kvern_status status = file_read(index_path, MAX_INDEX_BYTES, &text, NULL, err);

    if (status != KVERN_OK)
        return status;
    index = json_loads(text, JSON_REJECT_DUPLICATES, &where);
    const json_t *weight_map = json_object_get(index, "weight_map");
    if (!index)
        status = fail(err, KVERN_FORMAT, "%s is not JSON: %s", path_base(index_path), where.text);
    else if (!json_is_object(weight_map))
        status = fail(err, KVERN_FORMAT, "%s has no object weight_map", path_base(index_path));
    else
        status = add_shards(checkpoint, directory, weight_map, err);
    json_decref(index);
    free(text);
    return status;
}

static kvern_status read_config(struct checkpoint *checkpoint, const char *directory,
                                kvern_error *err)
{
    char *path = path_join(directory, "config.json");
    char *text = NULL;
    char *generation = NULL;
    kvern_status status = file_read(path, MAX_CONFIG_BYTES, &text, NULL, err);

    if (status == KVERN_OK)
        status = text_file_read_optional(directory, "generation_config.json", MAX_CONFIG_BYTES,
                                         &generation, err);
    if (status == KVERN_OK) {
        status = config_from_json(&checkpoint->config, text, generation, err);
        if (status != KVERN_OK)
            fail_in(err, status, "%s", path);
    }
    free(path);
    free(text);
    free(generation);
    return status;
}

/* Opens the file or shard index `path`, and what lies beside it in `directory`. */
static kvern_status open_weights(struct checkpoint *checkpoint, const char *directory,
                                 const char *path, kvern_error *err)
{
    kvern_status status;

    checkpoint->format =
        is_torch_file(path) || ends_with(path, TORCH_INDEX) ? "torch" : "safetensors";
    status = read_config(checkpoint, directory, err);
    if (status == KVERN_OK && ends_with(path, ".index.json")) {
        status = open_sharded(checkpoint, directory, path, err);
    } else if (status == KVERN_OK) {
        checkpoint->files = new_or_abort(sizeof *checkpoint->files);
        status = add_weights(checkpoint, path, err);
    }
    if (status == KVERN_OK)
        status = text_files_read(directory, &checkpoint->tokenizer_json, &checkpoint->chat_template,
                                 err);
    return status;
}

/* ---- ONNX exports ---- */

static kvern_status open_onnx(struct checkpoint *checkpoint, const char *path, kvern_error *err)
{
    char *directory = export_config_directory(path);
    char *config = NULL, *generation = NULL, *genai = NULL;
    kvern_status status;

    checkpoint->format = "onnx";
    checkpoint->onnx = new_or_abort(sizeof *checkpoint->onnx);
    status = onnx_model_open(checkpoint->onnx, path, err);
    if (status == KVERN_OK)
        status = text_file_read_optional(directory, "config.json", MAX_CONFIG_BYTES, &config, err);
    if (status == KVERN_OK)
        status = text_file_read_optional(directory, "generation_config.json", MAX_CONFIG_BYTES,
                                         &generation, err);
    if (status == KVERN_OK)
        status =
            text_file_read_optional(directory, "genai_config.json", MAX_CONFIG_BYTES, &genai, err);
    if (status == KVERN_OK)
        status = gqa_export_read(checkpoint, &(struct gqa_texts){config, generation, genai}, err);
    if (status == KVERN_OK)
        status = text_files_read(directory, &checkpoint->tokenizer_json, &checkpoint->chat_template,
                                 err);
    if (status != KVERN_OK)
        fail_in(err, status, "%s", path_base(path));
    free(config);
    free(generation);
    free(genai);
    free(directory);
    return status;
}

/* ---- which files ---- */

/* The only .gguf of a directory; malloc'ed path. */
static kvern_status find_only_gguf(const char *directory, char **path, kvern_error *err)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    size_t n_found = 0;

    if (!stream)
        return fail(err, KVERN_IO, "cannot read directory %s: %s", directory, strerror(errno));
    while ((entry = readdir(stream))) {
        if (!ends_with(entry->d_name, ".gguf"))
            continue;
        n_found++;
        free(*path);
        *path = path_join(directory, entry->d_name);
    }
    closedir(stream);
    if (n_found == 1)
        return KVERN_OK;
    free(*path);
    *path = NULL;
    if (n_found == 0)
        return fail(err, KVERN_NOT_FOUND,
                    "%s holds no model.safetensors or pytorch_model.bin (or its .index.json), "
                    "model.onnx or .gguf file",
                    directory);
    return fail(err, KVERN_INVALID, "%s holds %zu .gguf files; name the one you mean", directory,
                n_found);
}

/* The first of `names`, NULL-terminated, that is in the directory: malloc'ed path, or NULL. */
static char *find_first(const char *directory, const char *const *names)
{
    for (; *names; names++) {
        char *path = path_join(directory, *names);

        if (file_exists(path))
            return path;
        free(path);
    }
    return NULL;
}

static kvern_status open_directory(struct checkpoint *checkpoint, const char *directory,
                                   kvern_error *err)
{
    static const char *const weights[] = {"model.safetensors.index.json", "model.safetensors",
                                          TORCH_INDEX, "pytorch_model.bin", NULL};
    static const char *const exports[] = {"model.onnx", "onnx/model.onnx", NULL};
    char *path = find_first(directory, weights);
    kvern_status status;

    if (path) {
        status = open_weights(checkpoint, directory, path, err);
        goto done;
    }
    path = find_first(directory, exports);
    if (path) {
        status = open_onnx(checkpoint, path, err);
        goto done;
    }
    status = find_only_gguf(directory, &path, err);
    if (status == KVERN_OK)
        status = open_gguf(checkpoint, path, err);
done:
    free(path);
    return status;
}

static kvern_status open_single(struct checkpoint *checkpoint, const char *path, kvern_error *err)
{
    char *directory = path_directory(path);
    kvern_status status = open_weights(checkpoint, directory, path, err);

    free(directory);
    return status;
}

kvern_status checkpoint_open(struct checkpoint *checkpoint, const char *path, kvern_error *err)
{
    kvern_status status;

    *checkpoint = (struct checkpoint){0};
    if (directory_exists(path))
        status = open_directory(checkpoint, path, err);
    else if (ends_with(path, ".gguf"))
        status = open_gguf(checkpoint, path, err);
    else if (ends_with(path, ".safetensors") || (is_torch_file(path) && file_exists(path)))
        status = open_single(checkpoint, path, err);
    else if (ends_with(path, ".onnx") && file_exists(path))
        status = open_onnx(checkpoint, path, err);
    else if (file_exists(path))
        status = fail(err, KVERN_UNSUPPORTED,
                      "%s is no .gguf, .safetensors, .bin, .pt, .pth or .onnx file", path);
    else
        status = fail(err, KVERN_NOT_FOUND, "%s is not there", path);
    if (status != KVERN_OK)
        checkpoint_close(checkpoint);
    return status;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
    if (!checkpoint)
        return;
    for (size_t i = 0; i < checkpoint->n_tensors; i++)
        free(checkpoint->tensors[i].name);
    for (size_t i = 0; i < checkpoint->n_files; i++)
        file_map_close(&checkpoint->files[i]);
    if (checkpoint->onnx)
        onnx_model_close(checkpoint->onnx);
    free(checkpoint->onnx);
    free(checkpoint->tensors);
    free(checkpoint->files);
    map_clear(&checkpoint->by_name);
    free(checkpoint->tokenizer_json);
    free(checkpoint->chat_template);
    *checkpoint = (struct checkpoint){0};
}
