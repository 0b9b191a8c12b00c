/* SPDX-License-Identifier: Apache-2.0
 *
 * struct manifest_embedding <-> JSON. The prompts are checked one by one as they are added, the
 * same whether they come from a kvern.json or from a checkpoint's own files.
 */
#include "model/manifest_embedding.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

static const char *const poolings[] = {"last", "mean", "cls", "logits512"};

bool manifest_embedding_is_set(const struct manifest_embedding *embedding)
{
    return embedding->pooling[0] || embedding->is_normalized || embedding->max_tokens > 0 ||
           embedding->n_prompts > 0;
}

static const struct manifest_prompt *find_prompt(const struct manifest_embedding *embedding,
                                                 const char *name)
{
    for (size_t i = 0; i < embedding->n_prompts; i++) {
        if (strcmp(embedding->prompts[i].name, name) == 0)
            return &embedding->prompts[i];
    }
    return NULL;
}

kvern_status manifest_embedding_add_prompt(struct manifest_embedding *embedding, const char *name,
                                           const json_t *text, kvern_error *err)
{
    struct manifest_prompt *prompt = &embedding->prompts[embedding->n_prompts];

    if (embedding->n_prompts == EMBEDDING_MAX_PROMPTS)
        return fail(err, KVERN_LIMIT, "there are over %d prompts", EMBEDDING_MAX_PROMPTS);
    if (!json_is_string(text))
        return fail(err, KVERN_FORMAT, "the prompt \"%s\" is not a string", name);
    if (strlen(name) >= sizeof prompt->name || json_string_length(text) >= sizeof prompt->text)
        return fail(err, KVERN_LIMIT,
                    "the prompt \"%s\" has a name of %zu bytes and a text of %zu; at most %zu and "
                    "%zu are supported",
                    name, strlen(name), json_string_length(text), sizeof prompt->name - 1,
                    sizeof prompt->text - 1);
    if (!*name || find_prompt(embedding, name))
        return fail(err, KVERN_FORMAT, "two prompts are called \"%s\", or one has no name", name);
    snprintf(prompt->name, sizeof prompt->name, "%s", name);
    snprintf(prompt->text, sizeof prompt->text, "%s", json_string_value(text));
    if (strlen(prompt->text) != json_string_length(text))
        return fail(err, KVERN_FORMAT, "the prompt \"%s\" holds a NUL", name);
    embedding->n_prompts++;
    return KVERN_OK;
}

kvern_status manifest_embedding_set_default(struct manifest_embedding *embedding, const char *name,
                                            kvern_error *err)
{
    const struct manifest_prompt *prompt = find_prompt(embedding, name);

    if (!prompt)
        return fail(err, KVERN_FORMAT, "the default prompt is \"%s\", which is none of the prompts",
                    name);
    memcpy(embedding->default_prompt, prompt->name, sizeof prompt->name);
    return KVERN_OK;
}

static kvern_status read_pooling(struct manifest_embedding *embedding, const json_t *value,
                                 kvern_error *err)
{
    const char *name = json_string_value(value);

    for (size_t i = 0; name && i < sizeof poolings / sizeof *poolings; i++) {
        if (strcmp(name, poolings[i]) == 0) {
            snprintf(embedding->pooling, sizeof embedding->pooling, "%s", name);
            return KVERN_OK;
        }
    }
    return fail(err, KVERN_UNSUPPORTED, "embedding.pooling is \"%s\", which kvern does not know",
                name ? name : "(not a string)");
}

static kvern_status read_prompts(struct manifest_embedding *embedding, const json_t *object,
                                 kvern_error *err)
{
    kvern_status status = KVERN_OK;
    const char *name;
    json_t *text;

    if (!json_is_object(object))
        return fail(err, KVERN_FORMAT, "embedding.prompts must be an object");
    json_object_foreach((json_t *)object, name, text)
    {
        status = manifest_embedding_add_prompt(embedding, name, text, err);
        if (status != KVERN_OK)
            return fail_in(err, status, "embedding.prompts");
    }
    return KVERN_OK;
}

kvern_status manifest_embedding_read(struct manifest_embedding *embedding, const json_t *object,
                                     size_t max_positions, kvern_error *err)
{
    const json_t *pooling = json_object_get(object, "pooling");
    const json_t *normalized = json_object_get(object, "normalized");
    const json_t *max_tokens = json_object_get(object, "max_tokens");
    const json_t *prompts = json_object_get(object, "prompts");
    const json_t *default_prompt = json_object_get(object, "default_prompt");
    kvern_status status = KVERN_OK;

    *embedding = (struct manifest_embedding){.is_normalized = json_is_true(normalized)};
    if (!json_is_object(object))
        return fail(err, KVERN_FORMAT, "embedding must be an object");
    if (normalized && !json_is_boolean(normalized))
        return fail(err, KVERN_FORMAT, "embedding.normalized must be true or false");
    if (max_tokens && (!json_is_integer(max_tokens) || json_integer_value(max_tokens) < 1 ||
                       (uint64_t)json_integer_value(max_tokens) > max_positions))
        return fail(err, KVERN_FORMAT, "embedding.max_tokens must be from 1 to %zu", max_positions);
    embedding->max_tokens = (size_t)json_integer_value(max_tokens);
    if (pooling)
        status = read_pooling(embedding, pooling, err);
    if (status == KVERN_OK && prompts)
        status = read_prompts(embedding, prompts, err);
    if (status == KVERN_OK && default_prompt && !json_is_string(default_prompt))
        status = fail(err, KVERN_FORMAT, "embedding.default_prompt must be a string");
    if (status == KVERN_OK && default_prompt)
        status = manifest_embedding_set_default(embedding, json_string_value(default_prompt), err);
    return status;
}

json_t *manifest_embedding_make(const struct manifest_embedding *embedding)
{
    json_t *object = json_object();
    json_t *prompts = json_object();
    int failures = 0;

    if (embedding->pooling[0])
        failures |= json_object_set_new(object, "pooling", json_string(embedding->pooling));
    failures |= json_object_set_new(object, "normalized", json_boolean(embedding->is_normalized));
    if (embedding->max_tokens > 0)
        failures |= json_object_set_new(object, "max_tokens",
                                        json_integer((json_int_t)embedding->max_tokens));
    for (size_t i = 0; i < embedding->n_prompts; i++)
        failures |= json_object_set_new(prompts, embedding->prompts[i].name,
                                        json_string(embedding->prompts[i].text));
    failures |= json_object_set_new(object, "prompts", prompts);
    if (embedding->default_prompt[0])
        failures |=
            json_object_set_new(object, "default_prompt", json_string(embedding->default_prompt));
    if (failures) {
        json_decref(object);
        return NULL;
    }
    return object;
}
