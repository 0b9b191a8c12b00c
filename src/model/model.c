/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing a model, what it says about itself, and the models in the cache directory.
 */
#include "model/model.h"

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "convert/embedding_config.h"
#include "convert/text_files.h"
#include "model/contract.h"
#include "model/export_model.h"
#include "model/package.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static const char TOKENIZER_FILE[] = "tokenizer.json";
static const char TEMPLATE_FILE[] = "chat_template.jinja";

enum {
    MAX_TOKENIZER_BYTES = 256 << 20,
    MAX_TEMPLATE_BYTES = 1 << 20,
    MIN_BYTES_VOCABULARY = 256,
};

static bool has_manifest(const char *directory)
{
    char *path = path_join(directory, MANIFEST_FILE);
    bool is_there = file_exists(path);

    free(path);
    return is_there;
}

static char *models_directory(void)
{
    char *cache = cache_directory();
    char *models = path_join(cache, "models");

    free(cache);
    return models;
}

/* The model of that name in the cache, malloc'ed path; NULL: there is none. */
static char *find_in_cache(const char *name)
{
    char *models = models_directory();
    char *path = path_join(models, name);

    free(models);
    if (has_manifest(path))
        return path;
    free(path);
    return NULL;
}

kvern_status model_find(const char *name_or_directory, char **directory, kvern_error *err)
{
    struct export_place place;

    if (*name_or_directory == '\0')
        return fail(err, KVERN_INVALID, "the model's name is empty");
    if (has_manifest(name_or_directory)) {
        *directory = copy_string_or_abort(name_or_directory);
        return KVERN_OK;
    }
    if (export_place_find(&place, name_or_directory)) {
        export_place_clear(&place);
        *directory = copy_string_or_abort(name_or_directory);
        return KVERN_OK;
    }
    if (directory_exists(name_or_directory))
        return fail(err, KVERN_NOT_FOUND,
                    "%s is no kvern model (it has no " MANIFEST_FILE
                    " and no .onnx file); 'kvern pull %s' makes one of a checkpoint",
                    name_or_directory, name_or_directory);
    if (strchr(name_or_directory, '/') == NULL && name_or_directory[0] != '.') {
        const struct package_model *package = package_find(name_or_directory);

        *directory = find_in_cache(name_or_directory);
        if (!*directory && package) /* pulled under another of its names */
            *directory = find_in_cache(package->names[0]);
        if (*directory)
            return KVERN_OK;
    }
    return fail(err, KVERN_NOT_FOUND,
                "there is no model '%s' here or in the cache; 'kvern pull %s' gets it, "
                "'kvern models' lists what is there",
                name_or_directory, name_or_directory);
}

static bool is_named(const struct manifest *manifest, const char *name)
{
    for (size_t i = 0; i < manifest->n_files; i++) {
        if (!strcmp(manifest->files[i].name, name))
            return true;
    }
    return false;
}

/* A file that a model may have; *text stays NULL without. One that the manifest does not name has
 * not been checked, and may be a link. */
static kvern_status read_text(const kvern_model *model, const char *name, const char *path,
                              size_t max_bytes, char **text, size_t *n_bytes, kvern_error *err)
{
    if (is_named(&model->manifest, name))
        return file_read(path, max_bytes, text, n_bytes, err);
    if (file_exists(path))
        return fail(err, KVERN_FORMAT,
                    "%s is there, but " MANIFEST_FILE " does not name it; remove it, or convert "
                    "the model again",
                    path);
    return KVERN_OK;
}

static kvern_status open_tokenizer(kvern_model *model, kvern_error *err)
{
    char *path = path_join(model->directory, TOKENIZER_FILE);
    char *text = NULL;
    size_t n_bytes = 0;
    kvern_status status =
        read_text(model, TOKENIZER_FILE, path, MAX_TOKENIZER_BYTES, &text, &n_bytes, err);

    if (status == KVERN_OK && text) {
        status = tokenizer_open_json(&model->tokenizer, text, n_bytes, err);
        if (status != KVERN_OK)
            status = fail_in(err, status, "%s", path);
    }
    free(text);
    free(path);
    return status;
}

static kvern_status open_template(kvern_model *model, kvern_error *err)
{
    char *path = path_join(model->directory, TEMPLATE_FILE);
    char *text = NULL;
    size_t n_bytes = 0;
    kvern_status status =
        read_text(model, TEMPLATE_FILE, path, MAX_TEMPLATE_BYTES, &text, &n_bytes, err);

    if (status == KVERN_OK && text) {
        status = jinja_template_parse(&model->chat_template, text, n_bytes, err);
        if (status != KVERN_OK)
            status = fail_in(err, status, "%s", path);
    }
    free(text);
    free(path);
    return status;
}

static char *token_text(const kvern_model *model, int32_t id)
{
    size_t n_bytes = 0;
    const char *piece =
        model->tokenizer && id >= 0 ? tokenizer_piece(model->tokenizer, id, &n_bytes) : NULL;

    return copy_bytes_or_abort(piece ? piece : "", n_bytes);
}

/* A tokenizer whose ids the graph does not have would index past the embedding table. */
static kvern_status check_vocabulary(const kvern_model *model, kvern_error *err)
{
    size_t n_graph = model->manifest.config.vocab_size;

    if (model->tokenizer && tokenizer_vocab_size(model->tokenizer) > n_graph)
        return fail(err, KVERN_FORMAT, "%s: the tokenizer has ids up to %zu, the model only %zu",
                    model->directory, tokenizer_vocab_size(model->tokenizer) - 1, n_graph);
    return KVERN_OK;
}

/* Without a tokenizer's files a model takes bytes for tokens, if it has that many ids; else it
 * takes ids only. */
static kvern_status fall_back_to_bytes(kvern_model *model, kvern_error *err)
{
    size_t vocab_size = model->manifest.config.vocab_size;

    if (vocab_size < MIN_BYTES_VOCABULARY)
        return KVERN_OK;
    log_warning(
        "%s has no tokenizer.json: bytes stand for tokens, which no trained model takes for "
        "text",
        model->directory);
    return tokenizer_open_bytes(&model->tokenizer, vocab_size, err);
}

static kvern_status open_converted(kvern_model *model, kvern_error *err)
{
    kvern_status status = manifest_read(&model->manifest, model->directory, err);

    model->graph = path_join(model->directory, MANIFEST_GRAPH_FILE);
    if (status == KVERN_OK)
        status = manifest_verify(&model->manifest, model->directory, MANIFEST_SMALL_BYTES, err);
    if (status == KVERN_OK)
        status = contract_check_directory(&model->manifest, model->directory, err);
    if (status == KVERN_OK)
        status = open_tokenizer(model, err);
    if (status == KVERN_OK)
        status = open_template(model, err);
    return status;
}

static kvern_status open_export(kvern_model *model, const char *preset, kvern_error *err)
{
    struct export_place place;
    char *tokenizer = NULL;
    char *template = NULL;
    kvern_status status;

    if (!export_place_find(&place, model->directory))
        return fail(err, KVERN_NOT_FOUND, "%s is gone", model->directory);
    free(model->directory);
    model->directory = copy_string_or_abort(place.directory);
    model->graph = copy_string_or_abort(place.graph);
    model->is_export = true;
    status =
        export_model_read(&place, preset, &model->export, &model->files, &model->manifest, err);
    if (status == KVERN_OK)
        status = embedding_config_read(&model->manifest.embedding, model->directory,
                                       model->manifest.config.max_positions, err);
    if (status == KVERN_OK)
        status = text_files_read(model->directory, &tokenizer, &template, err);
    if (status == KVERN_OK && tokenizer) {
        status = tokenizer_open_json(&model->tokenizer, tokenizer, strlen(tokenizer), err);
        if (status != KVERN_OK)
            fail_in(err, status, "%s/%s", model->directory, TOKENIZER_FILE);
    }
    if (status == KVERN_OK && template) {
        status = jinja_template_parse(&model->chat_template, template, strlen(template), err);
        if (status != KVERN_OK)
            fail_in(err, status, "the chat template of %s", model->directory);
    }
    model->seq2seq = place.seq2seq; /* moved */
    place.seq2seq = (struct export_seq2seq){0};
    free(tokenizer);
    free(template);
    export_place_clear(&place);
    return status;
}

kvern_status kvern_model_open(kvern_model **out, const char *name_or_directory, kvern_error *err)
{
    return kvern_model_open_as(out, name_or_directory, NULL, err);
}

kvern_status kvern_model_open_as(kvern_model **out, const char *name_or_directory,
                                 const char *preset, kvern_error *err)
{
    kvern_model *model = new_or_abort(sizeof *model);
    kvern_status status = model_find(name_or_directory, &model->directory, err);

    if (status == KVERN_OK && has_manifest(model->directory)) {
        if (preset)
            status = fail(err, KVERN_INVALID,
                          "%s has a " MANIFEST_FILE "; a preset is for exports without config.json",
                          model->directory);
        else
            status = open_converted(model, err);
    } else if (status == KVERN_OK) {
        status = open_export(model, preset, err);
    }
    if (status == KVERN_OK && !model->tokenizer)
        status = fall_back_to_bytes(model, err);
    if (status == KVERN_OK)
        status = check_vocabulary(model, err);
    if (status != KVERN_OK) {
        kvern_model_close(model);
        return status;
    }
    const struct model_config *config = &model->manifest.config;
    model->bos = token_text(model, config->bos);
    model->eos = token_text(model, config->n_eos > 0 ? config->eos[0] : -1);
    model->pad = token_text(model, config->pad);
    *out = model;
    return KVERN_OK;
}

void kvern_model_close(kvern_model *model)
{
    if (!model)
        return;
    tokenizer_close(model->tokenizer);
    jinja_template_free(model->chat_template);
    free(model->bos);
    free(model->eos);
    free(model->pad);
    export_files_clear(&model->files);
    export_seq2seq_clear(&model->seq2seq);
    free(model->graph);
    free(model->directory);
    free(model);
}

bool model_is_encoder(const kvern_model *model)
{
    return strcmp(model->manifest.contract, "encoder") == 0;
}

bool model_is_seq2seq(const kvern_model *model)
{
    return strcmp(model->manifest.contract, "seq2seq") == 0;
}

bool model_pools_logits(const kvern_model *model)
{
    const char *stated = model->manifest.embedding.pooling;

    if (*stated)
        return strcmp(stated, "logits512") == 0;
    return model->is_export && model->export.hidden[0] == '\0';
}

/* Values of a vector as the model's own pooling makes it. */
static size_t embedding_size(const kvern_model *model)
{
    const struct model_config *config = &model->manifest.config;

    if (!model_pools_logits(model))
        return config->hidden_size;
    return config->vocab_size < EMBEDDING_LOGITS ? config->vocab_size : EMBEDDING_LOGITS;
}

void kvern_model_get_info(const kvern_model *model, kvern_model_info *info)
{
    const struct manifest *manifest = &model->manifest;
    const struct model_config *config = &manifest->config;
    const struct manifest_embedding *embedding = &manifest->embedding;

    *info = (kvern_model_info){
        .name = manifest->name,
        .directory = model->directory,
        .family = config_family_name(config->family),
        .contract = manifest->contract,
        .weights = manifest->weights,
        .source = manifest->source,
        .n_parameters = manifest->n_parameters,
        .n_layers = (int32_t)config->n_layers,
        .n_heads = (int32_t)config->n_heads,
        .n_kv_heads = (int32_t)config->n_kv_heads,
        .head_size = (int32_t)config->head_size,
        .hidden_size = (int32_t)config->hidden_size,
        .intermediate_size = (int32_t)config->intermediate_size,
        .vocab_size = (int32_t)config->vocab_size,
        .max_context = (int32_t)config->max_positions,
        .bos_token = config->bos,
        .eos_tokens = config->eos,
        .n_eos_tokens = config->n_eos,
        .has_chat_template = model->chat_template != NULL,
        .has_tokenizer = model->tokenizer && !tokenizer_is_byte_fallback(model->tokenizer),
        .has_byte_fallback = model->tokenizer && tokenizer_is_byte_fallback(model->tokenizer),
        .is_encoder = model_is_encoder(model),
        .is_seq2seq = model_is_seq2seq(model),
        .pooling = embedding->pooling,
        .is_normalized = embedding->is_normalized,
        .embedding_size = model_is_seq2seq(model) ? 0 : (int32_t)embedding_size(model),
        .max_tokens =
            (int32_t)(embedding->max_tokens > 0 ? embedding->max_tokens : config->max_positions),
    };
    info->n_bytes = (int64_t)model->files.n_bytes;
    for (size_t i = 0; i < manifest->n_files; i++) {
        if (strstr(manifest->files[i].name, ".data"))
            info->n_bytes += manifest->files[i].n_bytes;
    }
}

bool kvern_model_get_prompt(const kvern_model *model, size_t i, const char **name,
                            const char **text)
{
    const struct manifest_embedding *embedding = &model->manifest.embedding;

    if (i >= embedding->n_prompts)
        return false;
    *name = embedding->prompts[i].name;
    *text = embedding->prompts[i].text;
    return true;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

kvern_status kvern_models_list(char ***directories, size_t *n_directories, kvern_error *err)
{
    char *models = models_directory();
    DIR *directory = opendir(models);
    struct dirent *entry;
    char **paths = NULL;
    size_t n = 0;

    (void)err;
    while (directory && (entry = readdir(directory))) {
        char *path = path_join(models, entry->d_name);

        if (entry->d_name[0] == '.' || !has_manifest(path)) {
            free(path);
            continue;
        }
        paths = resize_or_abort(paths, (n + 1) * sizeof *paths);
        paths[n++] = path;
    }
    if (directory)
        closedir(directory);
    if (n > 0)
        qsort(paths, n, sizeof *paths, compare_strings);
    free(models);
    *directories = paths;
    *n_directories = n;
    return KVERN_OK;
}
