/* SPDX-License-Identifier: Apache-2.0
 *
 * Building tokenizer.json from GGUF metadata. GGUF names a pre-tokenizer instead of describing it;
 * the table below says what each name means. To add one: copy its Split regex from a model's own
 * tokenizer.json and its name from llama.cpp's llama-vocab.cpp.
 */
#include "convert/tokenizer_export.h"

#include "base/error.h"
#include "base/memory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define THE_REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const char llama3_regex[] = CONTRACTIONS "\\p{N}{1,3}" THE_REST;
static const char qwen2_regex[] = CONTRACTIONS "\\p{N}" THE_REST;

static const struct pre_tokenizer {
    const char *name;        /* tokenizer.ggml.pre */
    const char *split_regex; /* NULL: ByteLevel's own (GPT-2's) */
    bool splits_digits;      /* each digit alone, before the rest */
    bool is_nfc;             /* text is normalised first */
    bool ignores_merges;     /* a word that is in the vocabulary needs no merges */
    bool adds_bos;           /* unless add_bos_token says otherwise */
} pre_tokenizers[] = {
    {"default", NULL, false, false, false, false},
    {"gpt-2", NULL, false, false, false, false},
    {"smollm", NULL, true, false, false, false},
    {"llama-bpe", llama3_regex, false, false, true, true},
    {"llama3", llama3_regex, false, false, true, true},
    {"llama-v3", llama3_regex, false, false, true, true},
    {"qwen2", qwen2_regex, false, true, false, false},
    {"deepseek-r1-qwen", qwen2_regex, false, true, false, false},
};

enum token_kind { /* GGUF's numbers */
                  TOKEN_NORMAL = 1,
                  TOKEN_UNKNOWN,
                  TOKEN_CONTROL,
                  TOKEN_USER_DEFINED,
                  TOKEN_UNUSED,
                  TOKEN_BYTE,
};

struct vocabulary {
    struct gguf_string *tokens; /* [n_tokens], owned; views into the file */
    uint8_t *kinds;             /* [n_tokens], owned: enum token_kind */
    size_t n_tokens;            /* without unused ones at the end, which only pad the table */
    size_t n_words;             /* tokens after these are all added ones */
    const struct gguf_value *merges;
    const struct pre_tokenizer *pre;
};

static bool is_added(enum token_kind kind)
{
    return kind == TOKEN_UNKNOWN || kind == TOKEN_CONTROL || kind == TOKEN_USER_DEFINED;
}

static bool is_text(struct gguf_string string, const char *text)
{
    return string.n_bytes == strlen(text) && memcmp(string.bytes, text, string.n_bytes) == 0;
}

static kvern_status check_model(const struct gguf_value *model, kvern_error *err)
{
    struct gguf_string name;

    if (!gguf_text(model, &name))
        return fail(err, KVERN_FORMAT, "GGUF metadata tokenizer.ggml.model is not a string");
    if (!is_text(name, "gpt2"))
        return fail(err, KVERN_UNSUPPORTED,
                    "GGUF tokenizer model \"%.*s\" is not supported (gpt2 is)",
                    (int)(name.n_bytes < 64 ? name.n_bytes : 64), name.bytes);
    return KVERN_OK;
}

static kvern_status find_pre_tokenizer(const struct gguf *gguf, const struct pre_tokenizer **pre,
                                       kvern_error *err)
{
    const struct gguf_value *value = gguf_find(gguf, "tokenizer.ggml.pre");
    struct gguf_string name = {"default", 7};

    if (value && !gguf_text(value, &name))
        return fail(err, KVERN_FORMAT, "GGUF metadata tokenizer.ggml.pre is not a string");
    for (size_t i = 0; i < sizeof pre_tokenizers / sizeof *pre_tokenizers; i++) {
        if (is_text(name, pre_tokenizers[i].name)) {
            *pre = &pre_tokenizers[i];
            return KVERN_OK;
        }
    }
    return fail(err, KVERN_UNSUPPORTED, "GGUF pre-tokenizer \"%.*s\" is not known to kvern",
                (int)(name.n_bytes < 64 ? name.n_bytes : 64), name.bytes);
}

static kvern_status read_kinds(const struct gguf *gguf, struct vocabulary *vocabulary,
                               kvern_error *err)
{
    const struct gguf_value *types = gguf_find(gguf, "tokenizer.ggml.token_type");

    memset(vocabulary->kinds, TOKEN_NORMAL, vocabulary->n_tokens);
    if (!types)
        return KVERN_OK;
    if (types->n_items != vocabulary->n_tokens)
        return fail(err, KVERN_FORMAT, "GGUF has %zu tokens but %zu token types",
                    vocabulary->n_tokens, types->n_items);
    for (size_t i = 0; i < vocabulary->n_tokens; i++) {
        uint64_t kind;

        if (!gguf_unsigned(types, i, &kind) || kind > TOKEN_BYTE)
            return fail(err, KVERN_FORMAT, "GGUF token %zu has an unknown type", i);
        vocabulary->kinds[i] = (uint8_t)kind;
    }
    return KVERN_OK;
}

static kvern_status read_vocabulary(const struct gguf *gguf, struct vocabulary *vocabulary,
                                    kvern_error *err)
{
    const struct gguf_value *tokens = gguf_find(gguf, "tokenizer.ggml.tokens");
    size_t offset = 0;

    if (!tokens || tokens->type != GGUF_ARRAY || tokens->item_type != GGUF_STRING)
        return fail(err, KVERN_FORMAT,
                    "GGUF metadata tokenizer.ggml.tokens is not a list of strings");
    vocabulary->merges = gguf_find(gguf, "tokenizer.ggml.merges");
    if (!vocabulary->merges || vocabulary->merges->type != GGUF_ARRAY ||
        vocabulary->merges->item_type != GGUF_STRING)
        return fail(err, KVERN_FORMAT,
                    "GGUF metadata tokenizer.ggml.merges is not a list of strings");
    vocabulary->n_tokens = tokens->n_items;
    vocabulary->tokens = try_new(tokens->n_items, sizeof *vocabulary->tokens);
    vocabulary->kinds = try_new(tokens->n_items, 1);
    if (!vocabulary->tokens || !vocabulary->kinds)
        return fail(err, KVERN_MEMORY, "no memory for %zu tokens", tokens->n_items);
    for (size_t i = 0; i < vocabulary->n_tokens; i++)
        vocabulary->tokens[i] = gguf_next_string(tokens, &offset);
    kvern_status status = read_kinds(gguf, vocabulary, err);
    if (status != KVERN_OK)
        return status;
    while (vocabulary->n_tokens > 0 && vocabulary->kinds[vocabulary->n_tokens - 1] == TOKEN_UNUSED)
        vocabulary->n_tokens--;
    vocabulary->n_words = vocabulary->n_tokens;
    while (vocabulary->n_words > 0 && is_added(vocabulary->kinds[vocabulary->n_words - 1]))
        vocabulary->n_words--;
    return find_pre_tokenizer(gguf, &vocabulary->pre, err);
}

/* ---- the JSON ---- */

static kvern_status make_vocab(const struct vocabulary *vocabulary, json_t *vocab, kvern_error *err)
{
    for (size_t i = 0; i < vocabulary->n_words; i++) {
        struct gguf_string token = vocabulary->tokens[i];
        char *name;
        int failed;

        if (memchr(token.bytes, '\0', token.n_bytes))
            return fail(err, KVERN_FORMAT, "GGUF token %zu holds a NUL byte", i);
        name = copy_bytes_or_abort(token.bytes, token.n_bytes);
        bool is_known = json_object_get(vocab, name) != NULL;
        failed = json_object_set_new(vocab, name, json_integer((json_int_t)i));
        free(name);
        if (is_known)
            return fail(err, KVERN_FORMAT, "GGUF token %zu stands there twice", i);
        if (failed)
            return fail(err, KVERN_FORMAT, "GGUF token %zu is not valid UTF-8", i);
    }
    return KVERN_OK;
}

static kvern_status make_merges(const struct gguf_value *list, json_t *merges, kvern_error *err)
{
    size_t offset = 0;

    for (size_t i = 0; i < list->n_items; i++) {
        struct gguf_string merge = gguf_next_string(list, &offset);
        const char *space = memchr(merge.bytes, ' ', merge.n_bytes);

        if (!space || space == merge.bytes || space == merge.bytes + merge.n_bytes - 1)
            return fail(err, KVERN_FORMAT, "GGUF merge %zu is not two tokens with a space between",
                        i);
        if (json_array_append_new(merges, json_stringn(merge.bytes, merge.n_bytes)) != 0)
            return fail(err, KVERN_FORMAT, "GGUF merge %zu is not valid UTF-8", i);
    }
    return KVERN_OK;
}

static kvern_status make_added(const struct vocabulary *vocabulary, json_t *added, kvern_error *err)
{
    for (size_t i = 0; i < vocabulary->n_tokens; i++) {
        struct gguf_string token = vocabulary->tokens[i];
        enum token_kind kind = vocabulary->kinds[i];

        if (!is_added(kind))
            continue;
        json_t *content = json_stringn(token.bytes, token.n_bytes);
        if (!content || token.n_bytes == 0) {
            json_decref(content);
            return fail(err, KVERN_FORMAT, "GGUF token %zu is empty or not valid UTF-8", i);
        }
        json_array_append_new(added,
                              json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i,
                                        "content", content, "single_word", 0, "lstrip", 0, "rstrip",
                                        0, "normalized", 0, "special", kind != TOKEN_USER_DEFINED));
    }
    return KVERN_OK;
}

static json_t *make_byte_level(bool uses_regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 0, "use_regex", uses_regex);
}

static json_t *make_pre_tokenizer(const struct pre_tokenizer *pre)
{
    json_t *byte_level = make_byte_level(!pre->split_regex);
    json_t *first = NULL;

    if (pre->split_regex)
        first = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                          pre->split_regex, "behavior", "Isolated", "invert", 0);
    else if (pre->splits_digits)
        first = json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1);
    if (!first)
        return byte_level;
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", first, byte_level);
}

static json_t *special_item(const char *token, int type_id)
{
    return json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", token, "type_id", type_id);
}

static json_t *sequence_item(const char *name, int type_id)
{
    return json_pack("{s:{s:s, s:i}}", "Sequence", "id", name, "type_id", type_id);
}

/* The token that id_key names, if add_key (or else `adds`) asks for it; *name is malloc'ed. */
static kvern_status read_edge(const struct gguf *gguf, const struct vocabulary *vocabulary,
                              const char *add_key, bool adds, const char *id_key, uint64_t *id,
                              char **name, kvern_error *err)
{
    const struct gguf_value *add = gguf_find(gguf, add_key);
    const struct gguf_value *value = gguf_find(gguf, id_key);
    uint64_t wanted = adds;

    if (add && !gguf_unsigned(add, 0, &wanted))
        return fail(err, KVERN_FORMAT, "GGUF metadata %s is not true or false", add_key);
    if (!wanted || (!value && !add))
        return KVERN_OK;
    if (!value || !gguf_unsigned(value, 0, id) || *id >= vocabulary->n_tokens)
        return fail(err, KVERN_FORMAT, "GGUF metadata %s is not an id in the vocabulary", id_key);
    *name = copy_bytes_or_abort(vocabulary->tokens[*id].bytes, vocabulary->tokens[*id].n_bytes);
    return KVERN_OK;
}

static void add_special(json_t *specials, const char *token, uint64_t id)
{
    json_object_set_new(
        specials, token,
        json_pack("{s:s, s:[I], s:[s]}", "id", token, "ids", (json_int_t)id, "tokens", token));
}

/* ByteLevel alone, or followed by a template that puts bos before and eos after. */
static kvern_status make_post_processor(const struct gguf *gguf,
                                        const struct vocabulary *vocabulary, json_t **out,
                                        kvern_error *err)
{
    char *bos = NULL;
    char *eos = NULL;
    uint64_t bos_id = 0;
    uint64_t eos_id = 0;
    kvern_status status;

    status = read_edge(gguf, vocabulary, "tokenizer.ggml.add_bos_token", vocabulary->pre->adds_bos,
                       "tokenizer.ggml.bos_token_id", &bos_id, &bos, err);
    if (status == KVERN_OK)
        status = read_edge(gguf, vocabulary, "tokenizer.ggml.add_eos_token", false,
                           "tokenizer.ggml.eos_token_id", &eos_id, &eos, err);
    if (status != KVERN_OK)
        goto done;
    if (!bos && !eos) {
        *out = make_byte_level(true);
        goto done;
    }
    json_t *single = json_array();
    json_t *pair = json_array();
    json_t *specials = json_object();
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "A" : "B";

        if (bos)
            json_array_append_new(pair, special_item(bos, i));
        json_array_append_new(pair, sequence_item(name, i));
        if (eos)
            json_array_append_new(pair, special_item(eos, i));
        if (i == 0)
            json_array_extend(single, pair);
    }
    if (bos)
        add_special(specials, bos, bos_id);
    if (eos)
        add_special(specials, eos, eos_id);
    *out = json_pack("{s:s, s:[o, {s:s, s:o, s:o, s:o}]}", "type", "Sequence", "processors",
                     make_byte_level(true), "type", "TemplateProcessing", "single", single, "pair",
                     pair, "special_tokens", specials);
done:
    free(bos);
    free(eos);
    return status;
}

static kvern_status make_json(const struct gguf *gguf, const struct vocabulary *vocabulary,
                              char **text, kvern_error *err)
{
    json_t *vocab = json_object();
    json_t *merges = json_array();
    json_t *added = json_array();
    json_t *post = NULL;
    json_t *root = NULL;
    kvern_status status = make_vocab(vocabulary, vocab, err);

    if (status == KVERN_OK)
        status = make_merges(vocabulary->merges, merges, err);
    if (status == KVERN_OK)
        status = make_added(vocabulary, added, err);
    if (status == KVERN_OK)
        status = make_post_processor(gguf, vocabulary, &post, err);
    if (status != KVERN_OK)
        goto done;
    json_t *normalizer = vocabulary->pre->is_nfc ? json_pack("{s:s}", "type", "NFC") : json_null();
    /* "O" borrows: this function's own references are dropped below */
    root = json_pack("{s:s, s:n, s:n, s:O, s:o, s:o, s:O, s:o, s:{s:s, s:n, s:n, s:n, s:n, s:b, "
                     "s:b, s:b, s:O, s:O}}",
                     "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
                     normalizer, "pre_tokenizer", make_pre_tokenizer(vocabulary->pre),
                     "post_processor", post, "decoder", make_byte_level(true), "model", "type",
                     "BPE", "dropout", "unk_token", "continuing_subword_prefix",
                     "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
                     vocabulary->pre->ignores_merges, "vocab", vocab, "merges", merges);
    *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    if (!*text)
        status =
            fail(err, KVERN_MEMORY, "no memory for tokenizer.json (or a name that is not UTF-8)");
done:
    json_decref(vocab);
    json_decref(merges);
    json_decref(added);
    json_decref(post);
    json_decref(root);
    return status;
}

kvern_status tokenizer_export(const struct gguf *gguf, char **tokenizer_json, char **chat_template,
                              kvern_error *err)
{
    const struct gguf_value *model = gguf_find(gguf, "tokenizer.ggml.model");
    const struct gguf_value *chat = gguf_find(gguf, "tokenizer.chat_template");
    struct vocabulary vocabulary = {0};
    struct gguf_string text;
    kvern_status status = KVERN_OK;
    char *json = NULL;

    if (chat && (!gguf_text(chat, &text) || memchr(text.bytes, '\0', text.n_bytes)))
        return fail(err, KVERN_FORMAT, "GGUF metadata tokenizer.chat_template is not a text");
    if (model) {
        status = check_model(model, err);
        if (status == KVERN_OK)
            status = read_vocabulary(gguf, &vocabulary, err);
        if (status == KVERN_OK)
            status = make_json(gguf, &vocabulary, &json, err);
    }
    if (status == KVERN_OK) {
        *tokenizer_json = json;
        *chat_template = chat ? copy_bytes_or_abort(text.bytes, text.n_bytes) : NULL;
    }
    free(vocabulary.tokens);
    free(vocabulary.kinds);
    return status;
}
