/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of a sentence-transformers model, one reader each. They were written by many versions
 * of that library: pooling is a name (pooling_mode) since 5.0, a set of booleans before, and a
 * model without modules.json is a transformer and a pooling.
 */
#include "convert/embedding_config.h"

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 20 };

/* DIRECTORY/NAME parsed; *object stays NULL if there is no such file. */
static kvern_status read_json(const char *directory, const char *name, json_t **object,
                              kvern_error *err)
{
    char *path = path_join(directory, name);
    char *text = NULL;
    json_error_t why;
    kvern_status status = KVERN_OK;

    if (!file_exists(path))
        goto done;
    status = file_read(path, MAX_FILE_BYTES, &text, NULL, err);
    if (status != KVERN_OK)
        goto done;
    *object = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (!*object)
        status = fail(err, KVERN_FORMAT, "%s is not JSON: %s, line %d", path, why.text, why.line);
done:
    free(text);
    free(path);
    return status;
}

/* "sentence_transformers.models.Pooling" and, since 5.0,
 * "sentence_transformers.models.Pooling.Pooling" -> "Pooling". */
static const char *module_name(const json_t *module)
{
    const char *type = json_string_value(json_object_get(module, "type"));
    const char *dot = type ? strrchr(type, '.') : NULL;

    return dot ? dot + 1 : type ? type : "(no type)";
}

/* The order is always the same: transformer, pooling, and perhaps normalisation. */
static kvern_status read_modules(struct manifest_embedding *embedding, const char *directory,
                                 kvern_error *err)
{
    static const char *const known[] = {"Transformer", "Pooling", "Normalize"};
    json_t *modules = NULL;
    kvern_status status = read_json(directory, "modules.json", &modules, err);

    if (modules && !json_is_array(modules))
        status = fail(err, KVERN_FORMAT, "modules.json of %s is not a list", directory);
    for (size_t i = 0; status == KVERN_OK && i < json_array_size(modules); i++) {
        const char *name = module_name(json_array_get(modules, i));

        if (i >= sizeof known / sizeof *known || strcmp(name, known[i]) != 0)
            status = fail(err, KVERN_UNSUPPORTED,
                          "modules.json of %s has the module \"%s\" in place %zu; kvern runs "
                          "Transformer, Pooling and Normalize, in this order",
                          directory, name, i);
        else if (i == 2)
            embedding->is_normalized = true;
    }
    json_decref(modules);
    return status;
}

static const struct mode {
    const char *key;     /* the boolean */
    const char *name;    /* the value of pooling_mode */
    const char *pooling; /* NULL: kvern has none */
} modes[] = {
    {"pooling_mode_cls_token", "cls", "cls"},
    {"pooling_mode_mean_tokens", "mean", "mean"},
    {"pooling_mode_lasttoken", "lasttoken", "last"},
    {"pooling_mode_max_tokens", "max", NULL},
    {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", NULL},
    {"pooling_mode_weightedmean_tokens", "weightedmean", NULL},
};
enum { N_MODES = sizeof modes / sizeof modes[0] };

static kvern_status set_pooling(struct manifest_embedding *embedding, const char *name,
                                const char *pooling, kvern_error *err)
{
    if (embedding->pooling[0])
        return fail(err, KVERN_UNSUPPORTED,
                    "1_Pooling/config.json asks for two kinds of pooling, \"%s\" and \"%s\"; kvern "
                    "does one",
                    embedding->pooling, name);
    if (!pooling)
        return fail(err, KVERN_UNSUPPORTED,
                    "1_Pooling/config.json asks for \"%s\" pooling; kvern does cls, mean and "
                    "lasttoken",
                    name);
    snprintf(embedding->pooling, sizeof embedding->pooling, "%s", pooling);
    return KVERN_OK;
}

static kvern_status read_mode(struct manifest_embedding *embedding, const json_t *mode,
                              kvern_error *err)
{
    const char *name = json_string_value(mode);

    if (!name)
        return fail(err, KVERN_FORMAT,
                    "1_Pooling/config.json: pooling_mode is neither a string nor a list of them");
    for (size_t i = 0; i < N_MODES; i++) {
        if (strcmp(name, modes[i].name) == 0)
            return set_pooling(embedding, name, modes[i].pooling, err);
    }
    return set_pooling(embedding, name, NULL, err);
}

static kvern_status read_pooling(struct manifest_embedding *embedding, const char *directory,
                                 kvern_error *err)
{
    json_t *object = NULL;
    kvern_status status = read_json(directory, "1_Pooling/config.json", &object, err);
    const json_t *mode = json_object_get(object, "pooling_mode");

    if (object && !json_is_object(object))
        status = fail(err, KVERN_FORMAT, "1_Pooling/config.json of %s is not an object", directory);
    if (status == KVERN_OK && mode && !json_is_array(mode))
        status = read_mode(embedding, mode, err);
    for (size_t i = 0; status == KVERN_OK && i < json_array_size(mode); i++)
        status = read_mode(embedding, json_array_get(mode, i), err);
    for (size_t i = 0; status == KVERN_OK && i < N_MODES; i++) {
        if (json_is_true(json_object_get(object, modes[i].key)))
            status = set_pooling(embedding, modes[i].name, modes[i].pooling, err);
    }
    if (status == KVERN_OK && json_is_false(json_object_get(object, "include_prompt")))
        status = fail(err, KVERN_UNSUPPORTED,
                      "1_Pooling/config.json leaves the prompt out of the pooling (include_prompt "
                      "is false), which kvern does not do");
    json_decref(object);
    return status;
}

static kvern_status read_max_tokens(struct manifest_embedding *embedding, const char *directory,
                                    size_t max_positions, kvern_error *err)
{
    json_t *object = NULL;
    kvern_status status = read_json(directory, "sentence_bert_config.json", &object, err);
    const json_t *value = json_object_get(object, "max_seq_length");

    if (status == KVERN_OK && value && !json_is_null(value)) {
        if (json_is_integer(value) && json_integer_value(value) > 0)
            embedding->max_tokens = (size_t)json_integer_value(value);
        else
            status =
                fail(err, KVERN_FORMAT,
                     "sentence_bert_config.json: max_seq_length is not a number of at least 1");
    }
    if (embedding->max_tokens > max_positions)
        embedding->max_tokens = max_positions;
    if (status == KVERN_OK && json_is_true(json_object_get(object, "do_lower_case")))
        log_warning("sentence_bert_config.json of %s asks for lower case, which kvern leaves to "
                    "the tokenizer",
                    directory);
    json_decref(object);
    return status;
}

static kvern_status read_prompts(struct manifest_embedding *embedding, const char *directory,
                                 kvern_error *err)
{
    static const char file[] = "config_sentence_transformers.json";
    json_t *object = NULL;
    kvern_status status = read_json(directory, file, &object, err);
    const json_t *prompts = json_object_get(object, "prompts");
    const char *chosen = json_string_value(json_object_get(object, "default_prompt_name"));
    const char *name;
    json_t *text;

    json_object_foreach((json_t *)prompts, name, text)
    {
        if (status == KVERN_OK)
            status = manifest_embedding_add_prompt(embedding, name, text, err);
    }
    if (status == KVERN_OK && chosen)
        status = manifest_embedding_set_default(embedding, chosen, err);
    if (status != KVERN_OK && object)
        fail_in(err, status, "%s", file);
    json_decref(object);
    return status;
}

kvern_status embedding_config_read(struct manifest_embedding *embedding, const char *directory,
                                   size_t max_positions, kvern_error *err)
{
    kvern_status status;

    *embedding = (struct manifest_embedding){0};
    status = read_modules(embedding, directory, err);
    if (status == KVERN_OK)
        status = read_pooling(embedding, directory, err);
    if (status == KVERN_OK)
        status = read_max_tokens(embedding, directory, max_positions, err);
    if (status == KVERN_OK)
        status = read_prompts(embedding, directory, err);
    return status;
}
