/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer.json (and vocab.json + merges.txt) -> struct tokenizer. All limits on untrusted files
 * are here or in the parts' own readers; nothing is allocated by a size the file merely states.
 */
#include "text/tokenizer_parts.h"

#include "base/error.h"
#include "base/memory.h"
#include "text/json_member.h"

#include <stdlib.h>
#include <string.h>

static kvern_status read_vocabulary(struct tokenizer *tokenizer, json_t *vocab, size_t n_added,
                                    kvern_error *err)
{
    kvern_status status = KVERN_OK;

    if (!json_is_object(vocab))
        return fail(err, KVERN_FORMAT, "the model has no object \"vocab\"");
    vocabulary_init(&tokenizer->vocabulary, json_object_size(vocab) + n_added);
    for (void *it = json_object_iter(vocab); it && status == KVERN_OK;
         it = json_object_iter_next(vocab, it)) {
        const json_t *id = json_object_iter_value(it);

        if (!json_is_integer(id))
            return fail(err, KVERN_FORMAT, "the id of piece \"%.80s\" is not a whole number",
                        json_object_iter_key(it));
        status = vocabulary_put(&tokenizer->vocabulary, json_object_iter_key(it),
                                json_object_iter_key_len(it), json_integer_value(id), err);
    }
    return status;
}

/* A merge is "left right" or ["left", "right"]. */
static kvern_status read_merge(struct bpe *bpe, const json_t *merge, kvern_error *err)
{
    const json_t *left = json_array_get(merge, 0);
    const json_t *right = json_array_get(merge, 1);
    const char *text = json_string_value(merge);
    const char *space = text ? strchr(text, ' ') : NULL;

    if (space)
        return bpe_add_merge(bpe, text, (size_t)(space - text), space + 1,
                             json_string_length(merge) - (size_t)(space + 1 - text), err);
    if (json_is_string(left) && json_is_string(right) && json_array_size(merge) == 2)
        return bpe_add_merge(bpe, json_string_value(left), json_string_length(left),
                             json_string_value(right), json_string_length(right), err);
    return fail(err, KVERN_FORMAT, "merge %zu is not a pair of pieces", bpe->n_merges);
}

static kvern_status read_bpe(struct tokenizer *tokenizer, const json_t *model, kvern_error *err)
{
    const json_t *merges = json_object_get(model, "merges");
    const json_t *dropout = json_object_get(model, "dropout");
    struct bpe_options options = {
        .is_byte_level = tokenizer->pretokenizer.is_byte_level,
        .ignores_merges = json_member_bool(model, "ignore_merges", false),
        .has_byte_fallback = json_member_bool(model, "byte_fallback", false),
        .fuses_unknown = json_member_bool(model, "fuse_unk", false),
        .unknown = json_member_string(model, "unk_token"),
        .continuing_prefix = json_member_string(model, "continuing_subword_prefix"),
        .end_suffix = json_member_string(model, "end_of_word_suffix"),
        .n_merges = json_array_size(merges),
    };
    kvern_status status;

    if (!json_is_array(merges))
        return fail(err, KVERN_FORMAT, "the BPE model has no list \"merges\"");
    if (json_is_number(dropout) && json_number_value(dropout) != 0)
        return fail(err, KVERN_UNSUPPORTED, "BPE dropout %g is not supported: ids would be random",
                    json_number_value(dropout));
    status = bpe_open(&tokenizer->bpe, &tokenizer->vocabulary, &options, err);
    for (size_t i = 0; status == KVERN_OK && i < json_array_size(merges); i++)
        status = read_merge(&tokenizer->bpe, json_array_get(merges, i), err);
    return status;
}

/* The one place that knows the models. Older files have no type for BPE. */
static kvern_status read_model(struct tokenizer *tokenizer, const json_t *model, kvern_error *err)
{
    const char *type = json_member_type(model);

    if (!strcmp(type, "BPE") || (!*type && json_object_get(model, "merges"))) {
        tokenizer->model = MODEL_BPE;
        return read_bpe(tokenizer, model, err);
    }
    return fail(err, KVERN_UNSUPPORTED, "tokenizer model type \"%.80s\" is not supported (BPE is)",
                type);
}

/* ---- added tokens ---- */

static bool is_markup(const char *text, size_t n_bytes)
{
    return n_bytes > 2 && ((text[0] == '<' && text[n_bytes - 1] == '>') ||
                           (text[0] == '[' && text[n_bytes - 1] == ']'));
}

/* A normalized token is sought in its own normalized form. */
static kvern_status add_normalized(struct tokenizer *tokenizer, struct regex_scratch *scratch,
                                   const char *text, size_t n_bytes, struct added_token token,
                                   kvern_error *err)
{
    struct aligned_text aligned = {.data = text, .n_bytes = n_bytes};
    kvern_status status = normalizer_run(&tokenizer->normalizer, scratch, &aligned, err);

    if (status == KVERN_OK && aligned.n_bytes > 0 &&
        !added_set_add(&tokenizer->normalized_tokens, aligned.data, aligned.n_bytes, token))
        status = fail(err, KVERN_MEMORY, "out of memory for added tokens");
    aligned_text_clear(&aligned);
    return status;
}

static kvern_status read_added_token(struct tokenizer *tokenizer, struct regex_scratch *scratch,
                                     const json_t *json, kvern_error *err)
{
    const json_t *content = json_object_get(json, "content");
    const json_t *id_value = json_object_get(json, "id");
    const char *text = json_string_value(content);
    size_t n_bytes = json_string_length(content);
    bool is_special = json_member_bool(json, "special", false);
    kvern_status status;

    if (!text || !json_is_integer(id_value))
        return fail(err, KVERN_FORMAT, "an added token has no content or no id");
    if (n_bytes == 0)
        return KVERN_OK;

    /* a token the model has keeps the model's id, as in Hugging Face's reader */
    int32_t known = vocabulary_find(&tokenizer->vocabulary, text, n_bytes);
    json_int_t id = known >= 0 ? known : json_integer_value(id_value);
    status = vocabulary_put_added(&tokenizer->vocabulary, text, n_bytes, id, is_special, err);
    if (status != KVERN_OK)
        return status;

    struct added_token token = {
        .id = (int32_t)id,
        .is_control = is_special || is_markup(text, n_bytes),
        .is_single_word = json_member_bool(json, "single_word", false),
        .strips_left = json_member_bool(json, "lstrip", false),
        .strips_right = json_member_bool(json, "rstrip", false),
    };
    if (json_member_bool(json, "normalized", !is_special))
        return add_normalized(tokenizer, scratch, text, n_bytes, token, err);
    if (!added_set_add(&tokenizer->raw_tokens, text, n_bytes, token))
        return fail(err, KVERN_MEMORY, "out of memory for added tokens");
    return KVERN_OK;
}

static kvern_status read_added_tokens(struct tokenizer *tokenizer, const json_t *list,
                                      kvern_error *err)
{
    struct regex_scratch scratch = {0};
    kvern_status status = regex_scratch_init(&scratch, err);

    for (size_t i = 0; status == KVERN_OK && i < json_array_size(list); i++)
        status = read_added_token(tokenizer, &scratch, json_array_get(list, i), err);
    regex_scratch_clear(&scratch);
    return status;
}

/* ---- files ---- */

static kvern_status parse(json_t **out, const char *what, const char *json, size_t n_bytes,
                          kvern_error *err)
{
    json_error_t where;
    json_t *root = json_loadb(json, n_bytes, 0, &where);

    if (!root)
        return fail(err, KVERN_FORMAT, "%s is not valid JSON: line %d: %s", what, where.line,
                    where.text);
    *out = root;
    return KVERN_OK;
}

static kvern_status read_parts(struct tokenizer *tokenizer, const json_t *root, kvern_error *err)
{
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens");
    kvern_status status;

    if (!json_is_object(model))
        return fail(err, KVERN_FORMAT, "tokenizer.json has no object \"model\"");
    status = normalizer_open(&tokenizer->normalizer, json_object_get(root, "normalizer"), err);
    if (status == KVERN_OK)
        status = pretokenizer_open(&tokenizer->pretokenizer, json_object_get(root, "pre_tokenizer"),
                                   err);
    if (status == KVERN_OK)
        status = read_vocabulary(tokenizer, json_object_get(model, "vocab"), json_array_size(added),
                                 err);
    if (status == KVERN_OK)
        status = read_model(tokenizer, model, err);
    if (status == KVERN_OK)
        status = read_added_tokens(tokenizer, added, err);
    if (status == KVERN_OK)
        status =
            post_processor_open(&tokenizer->post_processor, json_object_get(root, "post_processor"),
                                tokenizer->vocabulary.n_ids, err);
    if (status == KVERN_OK)
        status = decoder_open(&tokenizer->decoder, json_object_get(root, "decoder"), err);
    return status;
}

static struct tokenizer *new_tokenizer(void)
{
    return new_or_abort(sizeof(struct tokenizer));
}

kvern_status tokenizer_open_json(struct tokenizer **out, const char *json, size_t n_bytes,
                                 kvern_error *err)
{
    struct tokenizer *tokenizer = new_tokenizer();
    json_t *root = NULL;
    kvern_status status = parse(&root, "tokenizer.json", json, n_bytes, err);

    if (status == KVERN_OK)
        status = read_parts(tokenizer, root, err);
    json_decref(root);
    if (status == KVERN_OK)
        *out = tokenizer;
    else
        tokenizer_close(tokenizer);
    return status;
}

static size_t count_lines(const char *text, size_t n_bytes)
{
    size_t n = 1;

    for (size_t i = 0; i < n_bytes; i++)
        n += text[i] == '\n';
    return n;
}

static kvern_status read_merge_lines(struct bpe *bpe, const char *text, size_t n_bytes,
                                     kvern_error *err)
{
    kvern_status status = KVERN_OK;
    bool is_first = true;

    for (size_t i = 0; status == KVERN_OK && i < n_bytes; is_first = false) {
        const char *line = text + i;
        const char *newline = memchr(line, '\n', n_bytes - i);
        size_t n = newline ? (size_t)(newline - line) : n_bytes - i;
        const char *space = memchr(line, ' ', n);

        i += n + 1;
        if (n > 0 && line[n - 1] == '\r')
            n--;
        if (n == 0 || (is_first && n > 8 && !memcmp(line, "#version", 8)))
            continue;
        if (!space)
            return fail(err, KVERN_FORMAT, "merges.txt: merge %zu is not a pair", bpe->n_merges);
        size_t n_left = (size_t)(space - line);
        status = bpe_add_merge(bpe, line, n_left, space + 1, n - n_left - 1, err);
    }
    return status;
}

kvern_status tokenizer_open_vocab_merges(struct tokenizer **out, const char *vocab,
                                         size_t n_vocab_bytes, const char *merges,
                                         size_t n_merges_bytes, kvern_error *err)
{
    static const char byte_level[] =
        "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false}";
    struct tokenizer *tokenizer = new_tokenizer();
    struct bpe_options options = {.is_byte_level = true,
                                  .n_merges = count_lines(merges, n_merges_bytes)};
    json_t *root = NULL;
    json_t *step = NULL;
    kvern_status status = parse(&root, "vocab.json", vocab, n_vocab_bytes, err);

    if (status == KVERN_OK)
        status = parse(&step, "the byte-level step", byte_level, sizeof byte_level - 1, err);
    if (status == KVERN_OK)
        status = pretokenizer_open(&tokenizer->pretokenizer, step, err);
    if (status == KVERN_OK)
        status = decoder_open(&tokenizer->decoder, step, err);
    if (status == KVERN_OK)
        status = read_vocabulary(tokenizer, root, 0, err);
    if (status == KVERN_OK)
        status = bpe_open(&tokenizer->bpe, &tokenizer->vocabulary, &options, err);
    if (status == KVERN_OK)
        status = read_merge_lines(&tokenizer->bpe, merges, n_merges_bytes, err);
    json_decref(root);
    json_decref(step);
    if (status == KVERN_OK)
        *out = tokenizer;
    else
        tokenizer_close(tokenizer);
    return status;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    vocabulary_clear(&tokenizer->vocabulary);
    added_set_clear(&tokenizer->raw_tokens);
    added_set_clear(&tokenizer->normalized_tokens);
    normalizer_close(&tokenizer->normalizer);
    pretokenizer_close(&tokenizer->pretokenizer);
    bpe_close(&tokenizer->bpe);
    post_processor_close(&tokenizer->post_processor);
    decoder_close(&tokenizer->decoder);
    free(tokenizer);
}
