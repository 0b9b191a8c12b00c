/* SPDX-License-Identifier: Apache-2.0
 *
 * Older tokenizer files -> tokenizer.json. A tokenizer class stands for a style, and a style for
 * its default special tokens and for the steps around the model. To add a class that works as one
 * of these do: a row in `classes`.
 */
#include "convert/tokenizer_files.h"

#include "base/error.h"
#include "base/file.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 26, MAX_ADDED = 10000 };

enum role { ROLE_BOS, ROLE_EOS, ROLE_UNK, ROLE_SEP, ROLE_PAD, ROLE_CLS, ROLE_MASK, N_ROLES };

static const char *const role_names[N_ROLES] = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
};

enum style { STYLE_BERT, STYLE_MPNET, STYLE_GPT2, STYLE_ROBERTA };

static const struct {
    const char *roles[N_ROLES]; /* unless a file says otherwise */
    bool is_wordpiece;
    bool mask_strips_left; /* the mask takes the space before it */
} styles[] = {
    [STYLE_BERT] = {{NULL, NULL, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"}, true, false},
    [STYLE_MPNET] = {{"<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>"}, true, true},
    [STYLE_GPT2] = {{"<|endoftext|>", "<|endoftext|>", "<|endoftext|>"}, false, false},
    [STYLE_ROBERTA] = {{"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"}, false, true},
};

static const struct {
    const char *name; /* "Fast" may follow */
    enum style style;
} classes[] = {
    {"BertTokenizer", STYLE_BERT},          {"DistilBertTokenizer", STYLE_BERT},
    {"ElectraTokenizer", STYLE_BERT},       {"MobileBertTokenizer", STYLE_BERT},
    {"SqueezeBertTokenizer", STYLE_BERT},   {"ConvBertTokenizer", STYLE_BERT},
    {"MPNetTokenizer", STYLE_MPNET},        {"GPT2Tokenizer", STYLE_GPT2},
    {"CodeGenTokenizer", STYLE_GPT2},       {"RobertaTokenizer", STYLE_ROBERTA},
    {"LongformerTokenizer", STYLE_ROBERTA}, {"BartTokenizer", STYLE_ROBERTA},
    {"LEDTokenizer", STYLE_ROBERTA},
};

/* All that was read. Owned; NULL: the file is not there. */
struct source {
    const char *directory;
    json_t *config;       /* tokenizer_config.json */
    json_t *special_map;  /* special_tokens_map.json */
    json_t *added_ids;    /* added_tokens.json: text -> id */
    json_t *model_config; /* config.json */
    json_t *vocab;        /* piece -> id */
    json_t *merges;       /* of lines; NULL for WordPiece */
    enum style style;
    json_t *added;              /* the "added_tokens" being made, by rising id */
    json_t *known_ids;          /* of their texts */
    const char *roles[N_ROLES]; /* NULL: none; texts of the files or of the style */
};

/* ---- reading files ---- */

/* A text file of the directory; *text stays NULL where it is not there. */
static kvern_status read_text(const char *directory, const char *name, char **text, size_t *n_bytes,
                              kvern_error *err)
{
    char *path = path_join(directory, name);
    kvern_status status = KVERN_OK;

    if (file_exists(path))
        status = file_read(path, MAX_FILE_BYTES, text, n_bytes, err);
    free(path);
    return status;
}

static kvern_status read_object(const char *directory, const char *name, json_t **out,
                                kvern_error *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    json_error_t where;
    kvern_status status = read_text(directory, name, &text, &n_bytes, err);

    if (status == KVERN_OK && text) {
        *out = json_loadb(text, n_bytes, 0, &where);
        if (!*out)
            status = fail(err, KVERN_FORMAT, "%s/%s is not valid JSON: line %d: %s", directory,
                          name, where.line, where.text);
        else if (!json_is_object(*out))
            status = fail(err, KVERN_FORMAT, "%s/%s is not a JSON object", directory, name);
    }
    free(text);
    return status;
}

/* Takes the line at *at, without its end; false: there is none. */
static bool next_line(const char **at, const char *end, const char **line, size_t *n_bytes)
{
    if (*at == end)
        return false;

    const char *newline = memchr(*at, '\n', (size_t)(end - *at));
    *line = *at;
    *n_bytes = (size_t)((newline ? newline : end) - *at);
    *at = newline ? newline + 1 : end;
    if (newline && *n_bytes > 0 && (*line)[*n_bytes - 1] == '\r')
        --*n_bytes;
    return true;
}

/* The piece of line n has the id n; of equal ones the last counts, as in transformers. */
static kvern_status read_vocab_txt(struct source *source, char *text, size_t n_text,
                                   kvern_error *err)
{
    const char *at = text;
    const char *line;
    size_t n_bytes;
    kvern_status status = KVERN_OK;

    source->vocab = json_object();
    for (json_int_t id = 0; status == KVERN_OK && next_line(&at, text + n_text, &line, &n_bytes);
         id++) {
        bool has_nul = memchr(line, '\0', n_bytes) != NULL;

        text[line - text + (ptrdiff_t)n_bytes] = '\0'; /* the line's end, or the file's own NUL */
        if (has_nul || json_object_set_new(source->vocab, line, json_integer(id)) != 0)
            status = fail(err, KVERN_FORMAT,
                          "%s/vocab.txt: line %lld is not UTF-8 text without NUL bytes",
                          source->directory, (long long)id + 1);
    }
    return status;
}

static kvern_status read_merges_txt(struct source *source, const char *text, size_t n_text,
                                    kvern_error *err)
{
    const char *at = text;
    const char *line;
    size_t n_bytes;
    kvern_status status = KVERN_OK;

    source->merges = json_array();
    for (int number = 1; status == KVERN_OK && next_line(&at, text + n_text, &line, &n_bytes);
         number++) {
        bool is_header = number == 1 && n_bytes > 8 && !memcmp(line, "#version", 8);

        if (n_bytes == 0 || is_header)
            continue;
        if (json_array_append_new(source->merges, json_stringn(line, n_bytes)) != 0)
            status = fail(err, KVERN_FORMAT, "%s/merges.txt: line %d is not valid UTF-8",
                          source->directory, number);
    }
    return status;
}

static kvern_status read_vocabulary(struct source *source, bool is_wordpiece, kvern_error *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    const char *name = is_wordpiece ? "vocab.txt" : "merges.txt";
    kvern_status status = KVERN_OK;

    if (!is_wordpiece)
        status = read_object(source->directory, "vocab.json", &source->vocab, err);
    if (status == KVERN_OK)
        status = read_text(source->directory, name, &text, &n_bytes, err);
    if (status == KVERN_OK && (!text || (!is_wordpiece && !source->vocab)))
        status = fail(err, KVERN_NOT_FOUND, "%s has no %s", source->directory,
                      is_wordpiece ? "vocab.txt" : "pair of vocab.json and merges.txt");
    if (status == KVERN_OK)
        status = is_wordpiece ? read_vocab_txt(source, text, n_bytes, err)
                              : read_merges_txt(source, text, n_bytes, err);
    free(text);
    return status;
}

static bool has_file(const char *directory, const char *name)
{
    char *path = path_join(directory, name);
    bool is_there = file_exists(path);

    free(path);
    return is_there;
}

/* Finds the style and reads the vocabulary it asks for. */
static kvern_status read_model(struct source *source, kvern_error *err)
{
    const char *directory = source->directory;
    bool has_bpe = has_file(directory, "vocab.json") && has_file(directory, "merges.txt");
    const char *class = json_string_value(json_object_get(source->config, "tokenizer_class"));

    if (!has_bpe && !has_file(directory, "vocab.txt"))
        return fail(err, KVERN_NOT_FOUND, "%s has neither vocab.txt nor vocab.json with merges.txt",
                    directory);
    if (!class)
        class = json_string_value(json_object_get(source->model_config, "tokenizer_class"));
    if (!class) {
        source->style = has_bpe ? STYLE_GPT2 : STYLE_BERT;
        kvern_status status = read_vocabulary(source, !has_bpe, err);
        if (has_bpe && json_object_get(source->vocab, "<s>") &&
            json_object_get(source->vocab, "</s>"))
            source->style = STYLE_ROBERTA;
        return status;
    }
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        size_t n = strlen(classes[i].name);

        if (strncmp(class, classes[i].name, n) != 0 || (class[n] && strcmp(class + n, "Fast") != 0))
            continue;
        source->style = classes[i].style;
        return read_vocabulary(source, styles[source->style].is_wordpiece, err);
    }
    return fail(err, KVERN_UNSUPPORTED,
                "%s: tokenizer_class \"%.80s\" without a tokenizer.json is not supported",
                directory, class);
}

/* ---- added tokens ---- */

static bool flag(const json_t *flags, const char *name, bool otherwise)
{
    const json_t *value = json_object_get(flags, name);

    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

/* Puts a token in its place among those there; `flags` may be NULL. A text that is there stays. */
static kvern_status put_added(struct source *source, const char *text, json_int_t id,
                              const json_t *flags, bool strips_left, bool is_special,
                              kvern_error *err)
{
    size_t at = json_array_size(source->added);

    if (json_object_get(source->known_ids, text))
        return KVERN_OK;
    if (at == MAX_ADDED)
        return fail(err, KVERN_LIMIT, "%s: over %d added tokens", source->directory, MAX_ADDED);
    while (at > 0 &&
           json_integer_value(json_object_get(json_array_get(source->added, at - 1), "id")) > id)
        at--;
    json_t *token = json_pack(
        "{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content", text, "single_word",
        (int)flag(flags, "single_word", false), "lstrip", (int)flag(flags, "lstrip", strips_left),
        "rstrip", (int)flag(flags, "rstrip", false), "normalized",
        (int)flag(flags, "normalized", !is_special), "special", (int)is_special);
    json_array_insert_new(source->added, at, token);
    json_object_set_new(source->known_ids, text, json_integer(id));
    return KVERN_OK;
}

/* The text of a special token: "text" or {"content": "text", ...}. */
static const char *token_text(const json_t *token)
{
    return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}

/* The member of the files that say it: special_tokens_map.json before tokenizer_config.json, unless
 * the latter is of the newer kind that has all tokens with their ids. */
static const json_t *find_member(const struct source *source, const char *name)
{
    const json_t *member = NULL;

    if (!json_object_get(source->config, "added_tokens_decoder"))
        member = json_object_get(source->special_map, name);
    return member ? member : json_object_get(source->config, name);
}

static kvern_status find_roles(struct source *source, kvern_error *err)
{
    for (int role = 0; role < N_ROLES; role++) {
        const json_t *member = find_member(source, role_names[role]);

        source->roles[role] = member ? token_text(member) : styles[source->style].roles[role];
        if (member && !json_is_null(member) && !source->roles[role])
            return fail(err, KVERN_FORMAT, "%s: %s is neither a text nor has a content",
                        source->directory, role_names[role]);
    }
    return KVERN_OK;
}

static bool is_role(const struct source *source, const char *text)
{
    const json_t *more = find_member(source, "additional_special_tokens");

    for (int role = 0; role < N_ROLES; role++) {
        if (source->roles[role] && !strcmp(source->roles[role], text))
            return true;
    }
    for (size_t i = 0; i < json_array_size(more); i++) {
        const char *other = token_text(json_array_get(more, i));

        if (other && !strcmp(other, text))
            return true;
    }
    return false;
}

/* added_tokens_decoder: {"50257": {"content": "<x>", ...}}. */
static kvern_status add_from_config(struct source *source, kvern_error *err)
{
    json_t *decoder = json_object_get(source->config, "added_tokens_decoder");
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
                        source->directory, key);
        status = put_added(source, text, id, token, false, flag(token, "special", false), err);
        if (status != KVERN_OK)
            break;
    }
    return status;
}

static kvern_status add_from_ids(struct source *source, kvern_error *err)
{
    const char *text;
    json_t *id;
    kvern_status status = KVERN_OK;

    json_object_foreach(source->added_ids, text, id)
    {
        if (!json_is_integer(id))
            return fail(err, KVERN_FORMAT, "%s/added_tokens.json: \"%.80s\" has no whole number",
                        source->directory, text);
        status = put_added(source, text, json_integer_value(id), NULL, false, is_role(source, text),
                           err);
        if (status != KVERN_OK)
            break;
    }
    return status;
}

/* A special token without an id of its own has that of the vocabulary. */
static kvern_status add_special(struct source *source, const char *text, const json_t *member,
                                bool strips_left, kvern_error *err)
{
    const json_t *id = text ? json_object_get(source->vocab, text) : NULL;

    if (!json_is_integer(id))
        return KVERN_OK;
    return put_added(source, text, json_integer_value(id), member, strips_left, true, err);
}

static kvern_status add_specials(struct source *source, kvern_error *err)
{
    const json_t *more = find_member(source, "additional_special_tokens");
    kvern_status status = KVERN_OK;

    for (int role = 0; status == KVERN_OK && role < N_ROLES; role++)
        status = add_special(source, source->roles[role], find_member(source, role_names[role]),
                             role == ROLE_MASK && styles[source->style].mask_strips_left, err);
    for (size_t i = 0; status == KVERN_OK && i < json_array_size(more); i++)
        status = add_special(source, token_text(json_array_get(more, i)), json_array_get(more, i),
                             false, err);
    return status;
}

/* ---- tokenizer.json ---- */

static kvern_status find_id(const struct source *source, enum role role, json_int_t *id,
                            kvern_error *err)
{
    const char *text = source->roles[role];
    const json_t *value = text ? json_object_get(source->known_ids, text) : NULL;

    if (!value)
        return fail(err, KVERN_FORMAT, "%s: the %s \"%.80s\" is not in the vocabulary",
                    source->directory, role_names[role], text ? text : "");
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

static json_t *make_byte_level(bool adds_prefix_space, bool trims_offsets)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                     (int)adds_prefix_space, "trim_offsets", (int)trims_offsets, "use_regex", 1);
}

static kvern_status make_post_processor(const struct source *source, json_t **out, kvern_error *err)
{
    bool adds_prefix_space = flag(source->config, "add_prefix_space", false);
    json_int_t first = 0;
    json_int_t last = 0;
    kvern_status status = KVERN_OK;

    if (source->style == STYLE_GPT2) {
        if (!flag(source->config, "add_bos_token", false)) {
            *out = make_byte_level(true, false);
            return KVERN_OK;
        }
        status = find_id(source, ROLE_BOS, &first, err);
        if (status == KVERN_OK)
            *out = make_bos_template(source->roles[ROLE_BOS], first);
        return status;
    }
    status = find_id(source, ROLE_CLS, &first, err);
    if (status == KVERN_OK)
        status = find_id(source, ROLE_SEP, &last, err);
    if (status != KVERN_OK)
        return status;

    const char *cls = source->roles[ROLE_CLS];
    const char *sep = source->roles[ROLE_SEP];
    *out = source->style == STYLE_ROBERTA
               ? json_pack("{s:s, s:[s, I], s:[s, I], s:b, s:b}", "type", "RobertaProcessing",
                           "sep", sep, last, "cls", cls, first, "trim_offsets", 1,
                           "add_prefix_space", (int)adds_prefix_space)
               : make_pair_template(cls, first, sep, last);
    return KVERN_OK;
}

/* The members before and behind the post-processor, for WordPiece. */
static json_t *make_wordpiece(const struct source *source)
{
    const json_t *strip_accents = json_object_get(source->config, "strip_accents");
    const char *unknown = source->roles[ROLE_UNK] ? source->roles[ROLE_UNK] : "[UNK]";
    json_t *accents =
        json_is_boolean(strip_accents) ? json_boolean(json_is_true(strip_accents)) : json_null();

    return json_pack(
        "{s:{s:s, s:b, s:b, s:o, s:b}, s:{s:s}, s:{s:s, s:s, s:b}, s:{s:s, s:s, s:s, s:i, s:O}}",
        "normalizer", "type", "BertNormalizer", "clean_text", 1, "handle_chinese_chars",
        (int)flag(source->config, "tokenize_chinese_chars", true), "strip_accents", accents,
        "lowercase", (int)flag(source->config, "do_lower_case", true), "pre_tokenizer", "type",
        "BertPreTokenizer", "decoder", "type", "WordPiece", "prefix", "##", "cleanup", 1, "model",
        "type", "WordPiece", "unk_token", unknown, "continuing_subword_prefix", "##",
        "max_input_chars_per_word", 100, "vocab", source->vocab);
}

static json_t *make_bpe(const struct source *source)
{
    bool adds_prefix_space = flag(source->config, "add_prefix_space", false);

    return json_pack("{s:n, s:o, s:o, s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:O, s:O}}",
                     "normalizer", "pre_tokenizer", make_byte_level(adds_prefix_space, true),
                     "decoder", make_byte_level(true, true), "model", "type", "BPE", "dropout",
                     "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                     "byte_fallback", 0, "ignore_merges", 0, "vocab", source->vocab, "merges",
                     source->merges);
}

static kvern_status make_json(const struct source *source, char **json, kvern_error *err)
{
    json_t *post = NULL;
    json_t *rest = NULL;
    json_t *root = NULL;
    kvern_status status = make_post_processor(source, &post, err);

    if (status != KVERN_OK)
        return status;
    rest = styles[source->style].is_wordpiece ? make_wordpiece(source) : make_bpe(source);
    root = json_pack("{s:s, s:n, s:n, s:O, s:o}", "version", "1.0", "truncation", "padding",
                     "added_tokens", source->added, "post_processor", post);
    if (root && rest && json_object_update(root, rest) == 0)
        *json = json_dumps(root, JSON_COMPACT);
    if (!*json)
        status =
            fail(err, KVERN_MEMORY, "no memory for the tokenizer.json of %s", source->directory);
    json_decref(rest);
    json_decref(root);
    return status;
}

kvern_status tokenizer_files_to_json(const char *directory, char **json, kvern_error *err)
{
    struct source source = {
        .directory = directory, .added = json_array(), .known_ids = json_object()};
    kvern_status status = read_object(directory, "tokenizer_config.json", &source.config, err);
    char *text = NULL;

    if (status == KVERN_OK)
        status = read_object(directory, "special_tokens_map.json", &source.special_map, err);
    if (status == KVERN_OK)
        status = read_object(directory, "added_tokens.json", &source.added_ids, err);
    if (status == KVERN_OK)
        status = read_object(directory, "config.json", &source.model_config, err);
    if (status == KVERN_OK)
        status = read_model(&source, err);
    if (status == KVERN_OK)
        status = find_roles(&source, err);
    if (status == KVERN_OK)
        status = add_from_config(&source, err);
    if (status == KVERN_OK)
        status = add_from_ids(&source, err);
    if (status == KVERN_OK)
        status = add_specials(&source, err);
    if (status == KVERN_OK)
        status = make_json(&source, &text, err);
    if (status == KVERN_OK)
        *json = text;
    json_decref(source.config);
    json_decref(source.special_map);
    json_decref(source.added_ids);
    json_decref(source.model_config);
    json_decref(source.vocab);
    json_decref(source.merges);
    json_decref(source.added);
    json_decref(source.known_ids);
    return status;
}
