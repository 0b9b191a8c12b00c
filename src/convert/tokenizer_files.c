/* SPDX-License-Identifier: Apache-2.0
 *
 * Older tokenizer files -> tokenizer.json. A tokenizer class stands for a style
 * (tokenizer_source.c), and a style for its default special tokens and for the steps around the
 * model.
 */
#include "convert/tokenizer_files.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"
#include "convert/tokenizer_source.h"
#include "convert/tokenizer_unigram.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ADDED = 10200 };

enum role { ROLE_BOS, ROLE_EOS, ROLE_UNK, ROLE_SEP, ROLE_PAD, ROLE_CLS, ROLE_MASK, N_ROLES };

static const char *const role_names[N_ROLES] = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
};

static const struct {
    const char *roles[N_ROLES]; /* unless a file says otherwise */
    bool mask_strips_left;      /* the mask takes the space before it */
} styles[] = {
    [STYLE_BERT] = {{NULL, NULL, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"}, false},
    [STYLE_MPNET] = {{"<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>"}, true},
    [STYLE_GPT2] = {{"<|endoftext|>", "<|endoftext|>", "<|endoftext|>"}, false},
    [STYLE_ROBERTA] = {{"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"}, true},
    [STYLE_T5] = {{NULL, "</s>", "<unk>", NULL, "<pad>"}, false},
};

/* A tokenizer.json in the making. */
struct making {
    struct tokenizer_source source;
    json_t *added;              /* the "added_tokens", by rising id; owned */
    json_t *known_ids;          /* of their texts; owned */
    const char *roles[N_ROLES]; /* NULL: none; texts of the files or of the style */
};

/* ---- added tokens ---- */

static bool flag(const json_t *flags, const char *name, bool otherwise)
{
    const json_t *value = json_object_get(flags, name);

    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

/* Puts a token in its place among those there; `flags` may be NULL. A text that is there stays. */
static kvern_status put_added(struct making *making, const char *text, json_int_t id,
                              const json_t *flags, bool strips_left, bool is_special,
                              kvern_error *err)
{
    size_t at = json_array_size(making->added);

    if (json_object_get(making->known_ids, text))
        return KVERN_OK;
    if (at == MAX_ADDED)
        return fail(err, KVERN_LIMIT, "%s: over %d added tokens", making->source.directory,
                    MAX_ADDED);
    while (at > 0 &&
           json_integer_value(json_object_get(json_array_get(making->added, at - 1), "id")) > id)
        at--;
    json_t *token = json_pack(
        "{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", text, "single_word",
        (int)flag(flags, "single_word", false), "lstrip", (int)flag(flags, "lstrip", strips_left),
        "rstrip", (int)flag(flags, "rstrip", false), "normalized",
        (int)flag(flags, "normalized", !is_special), "special", (int)is_special);
    json_array_insert_new(making->added, at, token);
    json_object_set_new(making->known_ids, text, json_integer(id));
    return KVERN_OK;
}

/* The text of a special token: "text" or {"content": "text", ...}. */
static const char *token_text(const json_t *token)
{
    return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}

/* The member of the files that say it: special_tokens_map.json before tokenizer_config.json, unless
 * the latter is of the newer kind that has all tokens with their ids. */
static const json_t *find_member(const struct making *making, const char *name)
{
    const json_t *member = NULL;

    if (!json_object_get(making->source.config, "added_tokens_decoder"))
        member = json_object_get(making->source.special_map, name);
    return member ? member : json_object_get(making->source.config, name);
}

static kvern_status find_roles(struct making *making, kvern_error *err)
{
    for (int role = 0; role < N_ROLES; role++) {
        const json_t *member = find_member(making, role_names[role]);

        making->roles[role] =
            member ? token_text(member) : styles[making->source.style].roles[role];
        if (member && !json_is_null(member) && !making->roles[role])
            return fail(err, KVERN_FORMAT, "%s: %s is neither a text nor has a content",
                        making->source.directory, role_names[role]);
    }
    return KVERN_OK;
}

/* Is the text a special token's? *flags is what the files say of it, or NULL. */
static bool find_special(const struct making *making, const char *text, const json_t **flags)
{
    const json_t *more = find_member(making, "additional_special_tokens");

    *flags = NULL;
    for (int role = 0; role < N_ROLES; role++) {
        if (making->roles[role] && !strcmp(making->roles[role], text)) {
            *flags = find_member(making, role_names[role]);
            return true;
        }
    }
    for (size_t i = 0; i < json_array_size(more); i++) {
        const char *other = token_text(json_array_get(more, i));

        if (other && !strcmp(other, text)) {
            *flags = json_array_get(more, i);
            return true;
        }
    }
    return false;
}

/* added_tokens_decoder: {"50257": {"content": "<x>", ...}}. */
static kvern_status add_from_config(struct making *making, kvern_error *err)
{
    json_t *decoder = json_object_get(making->source.config, "added_tokens_decoder");
    const char *key;
    json_t *token;
    kvern_status status = KVERN_OK;

    json_object_foreach(decoder, key, token)
    {
        const char *text = json_string_value(json_object_get(token, "content"));
        char *end;
        long id = strtol(key, &end, 10);

        if (*key < '0' || *key > '9' || *end || id > INT32_MAX || !text)
            return fail(err, KVERN_FORMAT,
                        "%s/tokenizer_config.json: added_tokens_decoder has \"%.80s\", which is "
                        "not an id with a content",
                        making->source.directory, key);
        status = put_added(making, text, id, token, false, flag(token, "special", false), err);
        if (status != KVERN_OK)
            break;
    }
    return status;
}

static kvern_status add_from_ids(struct making *making, kvern_error *err)
{
    const char *text;
    const json_t *flags;
    json_t *id;
    kvern_status status = KVERN_OK;

    json_object_foreach(making->source.added_ids, text, id)
    {
        if (!json_is_integer(id))
            return fail(err, KVERN_FORMAT, "%s/added_tokens.json: \"%.80s\" has no whole number",
                        making->source.directory, text);
        bool is_special = find_special(making, text, &flags);
        status = put_added(making, text, json_integer_value(id), flags, false, is_special, err);
        if (status != KVERN_OK)
            break;
    }
    return status;
}

/* A special token without an id of its own has that of the vocabulary. */
static kvern_status add_special(struct making *making, const char *text, const json_t *member,
                                bool strips_left, kvern_error *err)
{
    const json_t *id = text ? json_object_get(making->source.vocab, text) : NULL;

    if (!json_is_integer(id))
        return KVERN_OK;
    return put_added(making, text, json_integer_value(id), member, strips_left, true, err);
}

static kvern_status add_specials(struct making *making, kvern_error *err)
{
    const json_t *more = find_member(making, "additional_special_tokens");
    kvern_status status = KVERN_OK;

    for (int role = 0; status == KVERN_OK && role < N_ROLES; role++)
        status =
            add_special(making, making->roles[role], find_member(making, role_names[role]),
                        role == ROLE_MASK && styles[making->source.style].mask_strips_left, err);
    for (size_t i = 0; status == KVERN_OK && i < json_array_size(more); i++)
        status = add_special(making, token_text(json_array_get(more, i)), json_array_get(more, i),
                             false, err);
    return status;
}

/* What spiece.model itself takes out of text. */
static kvern_status add_from_spiece(struct making *making, kvern_error *err)
{
    size_t n_pieces = making->source.spiece.n_pieces;
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < n_pieces; i++) {
        const struct sentencepiece_piece *piece = &making->source.spiece.pieces[i];
        bool is_control = piece->kind == SENTENCEPIECE_CONTROL;
        char *text;

        if (!is_control && piece->kind != SENTENCEPIECE_USER_DEFINED)
            continue;
        text = copy_bytes_or_abort(piece->text, piece->n_bytes);
        status = put_added(making, text, (json_int_t)i, NULL, false,
                           is_control || find_special(making, text, &(const json_t *){0}), err);
        free(text);
    }
    return status;
}

static kvern_status add_sentinels(struct making *making, kvern_error *err)
{
    size_t n_pieces = making->source.spiece.n_pieces;
    kvern_status status = KVERN_OK;

    for (size_t i = 0; status == KVERN_OK && i < making->source.n_extra_ids; i++) {
        char text[32];

        snprintf(text, sizeof text, "<extra_id_%zu>", making->source.n_extra_ids - 1 - i);
        status =
            put_added(making, text, (json_int_t)n_pieces + (json_int_t)i, NULL, false, true, err);
    }
    return status;
}

/* ---- tokenizer.json ---- */

static kvern_status find_id(const struct making *making, enum role role, json_int_t *id,
                            kvern_error *err)
{
    const char *text = making->roles[role];
    const json_t *value = text ? json_object_get(making->known_ids, text) : NULL;

    if (!value)
        return fail(err, KVERN_FORMAT, "%s: the %s \"%.80s\" is not in the vocabulary",
                    making->source.directory, role_names[role], text ? text : "");
    *id = json_integer_value(value);
    return KVERN_OK;
}

static json_t *item(const char *kind, const char *id, int type_id)
{
    return json_pack("{s:{s:s, s:i}}", kind, "id", id, "type_id", type_id);
}

static json_t *special(const char *text, json_int_t id)
{
    return json_pack("{s:s, s:[I], s:[s]}", "id", text, "ids", id, "tokens", text);
}

/* [CLS] text [SEP] */
static json_t *make_pair_template(const char *cls, json_int_t cls_id, const char *sep,
                                  json_int_t sep_id)
{
    json_t *specials = json_object();

    json_object_set_new(specials, cls, special(cls, cls_id));
    json_object_set_new(specials, sep, special(sep, sep_id));
    return json_pack("{s:s, s:[o, o, o], s:[o, o, o, o, o], s:o}", "type", "TemplateProcessing",
                     "single", item("SpecialToken", cls, 0), item("Sequence", "A", 0),
                     item("SpecialToken", sep, 0), "pair", item("SpecialToken", cls, 0),
                     item("Sequence", "A", 0), item("SpecialToken", sep, 0),
                     item("Sequence", "B", 1), item("SpecialToken", sep, 1), "special_tokens",
                     specials);
}

static json_t *make_bos_template(const char *bos, json_int_t bos_id)
{
    json_t *specials = json_object();

    json_object_set_new(specials, bos, special(bos, bos_id));
    return json_pack("{s:s, s:[o, o], s:[o, o, o, o], s:o}", "type", "TemplateProcessing", "single",
                     item("SpecialToken", bos, 0), item("Sequence", "A", 0), "pair",
                     item("SpecialToken", bos, 0), item("Sequence", "A", 0),
                     item("SpecialToken", bos, 1), item("Sequence", "B", 1), "special_tokens",
                     specials);
}

/* text </s>, whatever the eos_token is, as transformers does for T5. */
static kvern_status make_end_template(const struct making *making, json_t **out, kvern_error *err)
{
    static const char end[] = "</s>";
    const json_t *id = json_object_get(making->source.vocab, end);
    json_t *specials = json_object();

    if (!id) {
        json_decref(specials);
        return fail(err, KVERN_FORMAT, "%s/spiece.model has no piece \"</s>\"",
                    making->source.directory);
    }
    json_object_set_new(specials, end, special(end, json_integer_value(id)));
    *out =
        json_pack("{s:s, s:[o, o], s:[o, o, o, o], s:o}", "type", "TemplateProcessing", "single",
                  item("Sequence", "A", 0), item("SpecialToken", end, 0), "pair",
                  item("Sequence", "A", 0), item("SpecialToken", end, 0), item("Sequence", "B", 0),
                  item("SpecialToken", end, 0), "special_tokens", specials);
    return KVERN_OK;
}

static json_t *make_byte_level(bool adds_prefix_space, bool trims_offsets)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                     (int)adds_prefix_space, "trim_offsets", (int)trims_offsets, "use_regex", 1);
}

static kvern_status make_post_processor(const struct making *making, json_t **out, kvern_error *err)
{
    bool adds_prefix_space = flag(making->source.config, "add_prefix_space", false);
    json_int_t first = 0;
    json_int_t last = 0;
    kvern_status status = KVERN_OK;

    if (making->source.style == STYLE_GPT2) {
        if (!flag(making->source.config, "add_bos_token", false)) {
            *out = make_byte_level(true, false);
            return KVERN_OK;
        }
        status = find_id(making, ROLE_BOS, &first, err);
        if (status == KVERN_OK)
            *out = make_bos_template(making->roles[ROLE_BOS], first);
        return status;
    }
    if (making->source.style == STYLE_T5)
        return make_end_template(making, out, err);
    status = find_id(making, ROLE_CLS, &first, err);
    if (status == KVERN_OK)
        status = find_id(making, ROLE_SEP, &last, err);
    if (status != KVERN_OK)
        return status;

    const char *cls = making->roles[ROLE_CLS];
    const char *sep = making->roles[ROLE_SEP];
    *out = making->source.style == STYLE_ROBERTA
               ? json_pack("{s:s, s:[s, I], s:[s, I], s:b, s:b}", "type", "RobertaProcessing",
                           "sep", sep, last, "cls", cls, first, "trim_offsets", 1,
                           "add_prefix_space", (int)adds_prefix_space)
               : make_pair_template(cls, first, sep, last);
    return KVERN_OK;
}

/* The members before and behind the post-processor, for WordPiece. */
static json_t *make_wordpiece(const struct making *making)
{
    const json_t *strip_accents = json_object_get(making->source.config, "strip_accents");
    const char *unknown = making->roles[ROLE_UNK] ? making->roles[ROLE_UNK] : "[UNK]";
    json_t *accents =
        json_is_boolean(strip_accents) ? json_boolean(json_is_true(strip_accents)) : json_null();

    return json_pack(
        "{s:{s:s, s:b, s:b, s:o, s:b}, s:{s:s}, s:{s:s, s:s, s:b}, s:{s:s, s:s, s:s, s:i, s:O}}",
        "normalizer", "type", "BertNormalizer", "clean_text", 1, "handle_chinese_chars",
        (int)flag(making->source.config, "tokenize_chinese_chars", true), "strip_accents", accents,
        "lowercase", (int)flag(making->source.config, "do_lower_case", true), "pre_tokenizer",
        "type", "BertPreTokenizer", "decoder", "type", "WordPiece", "prefix", "##", "cleanup", 1,
        "model", "type", "WordPiece", "unk_token", unknown, "continuing_subword_prefix", "##",
        "max_input_chars_per_word", 100, "vocab", making->source.vocab);
}

static json_t *make_bpe(const struct making *making)
{
    bool adds_prefix_space = flag(making->source.config, "add_prefix_space", false);

    return json_pack("{s:n, s:o, s:o, s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:O, s:O}}",
                     "normalizer", "pre_tokenizer", make_byte_level(adds_prefix_space, true),
                     "decoder", make_byte_level(true, true), "model", "type", "BPE", "dropout",
                     "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                     "byte_fallback", 0, "ignore_merges", 0, "vocab", making->source.vocab,
                     "merges", making->source.merges);
}

/* The members around the model; its own, of which the numbers are not JSON's, is put in as text. */
static json_t *make_unigram(const struct making *making)
{
    bool is_legacy = flag(making->source.config, "legacy", true);
    bool adds_prefix_space = flag(making->source.config, "add_prefix_space", true);

    return tokenizer_unigram_members(&making->source.spiece, !adds_prefix_space ? "never"
                                                             : is_legacy        ? "always"
                                                                                : "first");
}

/* {..., "model": ...} */
static char *dump_with_unigram(const struct making *making, const json_t *root)
{
    char *text = json_dumps(root, JSON_COMPACT);
    struct buffer out = {0};

    if (!text)
        return NULL;
    buffer_add(&out, text, strlen(text) - 1); /* but the last brace */
    buffer_add_string(&out, ",\"model\":");
    tokenizer_unigram_put_model(&making->source.spiece, making->source.n_extra_ids, &out);
    buffer_add_string(&out, "}");
    free(text);
    text = buffer_take(&out, NULL);
    buffer_clear(&out);
    return text;
}

static json_t *make_rest(const struct making *making)
{
    switch (making->source.style) {
    case STYLE_BERT:
    case STYLE_MPNET:
        return make_wordpiece(making);
    case STYLE_GPT2:
    case STYLE_ROBERTA:
        return make_bpe(making);
    case STYLE_T5:
        return make_unigram(making);
    }
    return NULL;
}

static kvern_status make_json(const struct making *making, char **json, kvern_error *err)
{
    json_t *post = NULL;
    kvern_status status = make_post_processor(making, &post, err);

    if (status != KVERN_OK)
        return status;
    json_t *rest = make_rest(making);
    json_t *root = json_pack("{s:s, s:n, s:n, s:O, s:o}", "version", "1.0", "truncation", "padding",
                             "added_tokens", making->added, "post_processor", post);
    if (root && rest && json_object_update(root, rest) == 0)
        *json = making->source.style == STYLE_T5 ? dump_with_unigram(making, root)
                                                 : json_dumps(root, JSON_COMPACT);
    if (!*json)
        status = fail(err, KVERN_MEMORY, "no memory for the tokenizer.json of %s",
                      making->source.directory);
    json_decref(rest);
    json_decref(root);
    return status;
}

kvern_status tokenizer_files_to_json(const char *directory, char **json, kvern_error *err)
{
    struct making making = {.added = json_array(), .known_ids = json_object()};
    kvern_status status = tokenizer_source_read(&making.source, directory, err);
    char *text = NULL;

    if (status == KVERN_OK)
        status = find_roles(&making, err);
    if (status == KVERN_OK)
        status = add_from_spiece(&making, err);
    if (status == KVERN_OK)
        status = add_from_config(&making, err);
    if (status == KVERN_OK)
        status = add_from_ids(&making, err);
    if (status == KVERN_OK)
        status = add_specials(&making, err);
    if (status == KVERN_OK)
        status = add_sentinels(&making, err);
    if (status == KVERN_OK)
        status = make_json(&making, &text, err);
    if (status == KVERN_OK)
        *json = text;
    tokenizer_source_clear(&making.source);
    json_decref(making.added);
    json_decref(making.known_ids);
    return status;
}
