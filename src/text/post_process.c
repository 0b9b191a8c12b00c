/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading post-processors. A later one of a Sequence wraps what the earlier ones made.
 */
#include "text/post_process.h"

#include "base/error.h"
#include "text/json_member.h"

#include <string.h>

enum { MAX_NESTING = 8, MAX_ADDED = 1024 };

static kvern_status put_id(struct buffer *ids, const json_t *json,
                           const struct vocabulary *vocabulary, kvern_error *err)
{
    json_int_t value = json_is_integer(json) ? json_integer_value(json) : -1;
    int32_t id = value > INT32_MAX ? -1 : (int32_t)value;
    size_t n_bytes;

    if (!vocabulary_piece(vocabulary, id, &n_bytes))
        return fail(err, KVERN_FORMAT, "post_processor token id %lld is not in the vocabulary",
                    (long long)value);
    if (ids->n_bytes >= MAX_ADDED * sizeof id)
        return fail(err, KVERN_LIMIT, "the post_processor adds over %d tokens", MAX_ADDED);
    buffer_add(ids, &id, sizeof id);
    return ids->has_failed ? fail(err, KVERN_MEMORY, "out of memory") : KVERN_OK;
}

static kvern_status put_ids(struct buffer *ids, const json_t *token,
                            const struct vocabulary *vocabulary, kvern_error *err)
{
    const json_t *list = json_object_get(token, "ids");
    kvern_status status = KVERN_OK;

    if (!json_is_array(list))
        return fail(err, KVERN_FORMAT, "a special token of the post_processor has no ids");
    for (size_t i = 0; status == KVERN_OK && i < json_array_size(list); i++)
        status = put_id(ids, json_array_get(list, i), vocabulary, err);
    return status;
}

static kvern_status read_template(const json_t *json, const struct vocabulary *vocabulary,
                                  struct buffer *before, struct buffer *after, kvern_error *err)
{
    const json_t *items = json_object_get(json, "single");
    const json_t *tokens = json_object_get(json, "special_tokens");
    bool has_text = false;
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < json_array_size(items); i++) {
        const json_t *item = json_array_get(items, i);
        const char *name = json_member_string(json_object_get(item, "SpecialToken"), "id");

        if (name)
            status =
                put_ids(has_text ? after : before, json_object_get(tokens, name), vocabulary, err);
        else if (!has_text && json_object_get(item, "Sequence"))
            has_text = true;
        else
            status = fail(err, KVERN_UNSUPPORTED,
                          "TemplateProcessing item %zu is neither a token nor the text once", i);
    }
    if (status == KVERN_OK && !has_text)
        status = fail(err, KVERN_FORMAT, "TemplateProcessing \"single\" leaves the text out");
    return status;
}

/* RobertaProcessing and BertProcessing: "cls" and "sep" are [text, id]. */
static kvern_status read_pair(const json_t *json, const struct vocabulary *vocabulary,
                              struct buffer *before, struct buffer *after, kvern_error *err)
{
    kvern_status status =
        put_id(before, json_array_get(json_object_get(json, "cls"), 1), vocabulary, err);

    if (status == KVERN_OK)
        status = put_id(after, json_array_get(json_object_get(json, "sep"), 1), vocabulary, err);
    return status;
}

static kvern_status add(struct post_processor *post, const json_t *json,
                        const struct vocabulary *vocabulary, int depth, kvern_error *err)
{
    const char *type = json_member_type(json);
    const json_t *list = json_object_get(json, "processors");
    struct buffer before = {0};
    struct buffer after = {0};
    kvern_status status = KVERN_OK;

    if (!strcmp(type, "Sequence") && json_is_array(list) && depth < MAX_NESTING) {
        for (size_t i = 0; status == KVERN_OK && i < json_array_size(list); i++)
            status = add(post, json_array_get(list, i), vocabulary, depth + 1, err);
        return status;
    }
    if (!strcmp(type, "TemplateProcessing"))
        status = read_template(json, vocabulary, &before, &after, err);
    else if (!strcmp(type, "RobertaProcessing") || !strcmp(type, "BertProcessing"))
        status = read_pair(json, vocabulary, &before, &after, err);
    else if (strcmp(type, "ByteLevel") != 0)
        status =
            fail(err, KVERN_UNSUPPORTED, "post_processor type \"%.80s\" is not supported", type);
    if (status == KVERN_OK && (!strcmp(type, "ByteLevel") || !strcmp(type, "RobertaProcessing"))) {
        post->trims_offsets |= json_member_bool(json, "trim_offsets", true);
        post->keeps_first_space = json_member_bool(json, "add_prefix_space", true);
    }
    buffer_add(&before, post->before.data, post->before.n_bytes);
    buffer_add(&post->after, after.data, after.n_bytes);
    buffer_clear(&post->before);
    buffer_clear(&after);
    post->before = before;
    if (status == KVERN_OK && (before.has_failed || post->after.has_failed))
        status = fail(err, KVERN_MEMORY, "out of memory for the post_processor");
    return status;
}

kvern_status post_processor_open(struct post_processor *post, const json_t *json,
                                 const struct vocabulary *vocabulary, kvern_error *err)
{
    kvern_status status;

    *post = (struct post_processor){0};
    if (!json || json_is_null(json))
        return KVERN_OK;
    status = add(post, json, vocabulary, 0, err);
    if (status != KVERN_OK)
        post_processor_close(post);
    return status;
}

void post_processor_close(struct post_processor *post)
{
    if (!post)
        return;
    buffer_clear(&post->before);
    buffer_clear(&post->after);
    *post = (struct post_processor){0};
}
