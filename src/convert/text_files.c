/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the texts of a Hugging Face folder whole. What is in a tokenizer or a template is not
 * looked at here.
 */
#include "convert/text_files.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "convert/tokenizer_files.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_TOKENIZER_BYTES = 256 << 20,
    MAX_TEMPLATE_BYTES = 1 << 20,
    MAX_TOKENIZER_CONFIG_BYTES = 64 << 20,
};

kvern_status text_file_read_optional(const char *directory, const char *name, size_t max_bytes,
                                     char **text, kvern_error *err)
{
    char *path = path_join(directory, name);
    kvern_status status = KVERN_OK;

    if (file_exists(path))
        status = file_read(path, max_bytes, text, NULL, err);
    free(path);
    return status;
}

/* The template in tokenizer_config.json: a string, or a list of {name, template} with "default". */
static char *find_template(const char *tokenizer_config)
{
    json_t *object = json_loads(tokenizer_config, 0, NULL);
    const json_t *value = json_object_get(object, "chat_template");
    const char *found = json_string_value(value);
    char *copy = NULL;

    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(item, "name"));

        if (name && strcmp(name, "default") == 0)
            found = json_string_value(json_object_get(item, "template"));
    }
    if (found)
        copy = copy_string_or_abort(found);
    json_decref(object);
    return copy;
}

/* tokenizer.json as it is, or made of the older files; NULL if there is none of them. */
static kvern_status read_tokenizer(const char *directory, char **json, kvern_error *err)
{
    kvern_error reason = {0};
    kvern_status status =
        text_file_read_optional(directory, "tokenizer.json", MAX_TOKENIZER_BYTES, json, err);

    if (status != KVERN_OK || *json)
        return status;
    status = tokenizer_files_to_json(directory, json, &reason);
    if (status == KVERN_OK || status == KVERN_NOT_FOUND)
        return KVERN_OK;
    return fail(err, status, "%s", reason.message);
}

kvern_status text_files_read(const char *directory, char **tokenizer_json, char **chat_template,
                             kvern_error *err)
{
    char *tokenizer_config = NULL;
    kvern_status status = read_tokenizer(directory, tokenizer_json, err);

    if (status == KVERN_OK)
        status = text_file_read_optional(directory, "chat_template.jinja", MAX_TEMPLATE_BYTES,
                                         chat_template, err);
    if (status == KVERN_OK && !*chat_template)
        status = text_file_read_optional(directory, "tokenizer_config.json",
                                         MAX_TOKENIZER_CONFIG_BYTES, &tokenizer_config, err);
    if (status == KVERN_OK && tokenizer_config)
        *chat_template = find_template(tokenizer_config);
    free(tokenizer_config);
    return status;
}
