/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer.json (and vocab.json + merges.txt) -> struct tokenizer. All limits on untrusted files
 * are here or in the parts' own readers; nothing is allocated by a size the file merely states.
 * Members "truncation" and "padding" are never applied: no text is cut or filled up silently.
 */
#include "text/tokenizer_parts.h"

#include "base/error.h"
#include "base/memory.h"
#include "text/json_member.h"
#include "text/json_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The parts of a tokenizer.json: the two large ones where they lie in the text, the rest parsed. */
struct source {
    struct json_span vocab;
    struct json_span merges;
    json_t *root; /* with an empty vocab and no merges in it; owned */
};

static kvern_status read_vocabulary(struct tokenizer *tokenizer, struct json_span vocab,
                                    size_t n_added, kvern_error *err)
{
    struct json_scan scan = {vocab.begin, vocab.end};
    struct buffer scratch = {0};
    kvern_status status = KVERN_OK;
    bool is_read = false;

    if (!vocab.begin || !json_scan_mark(&scan, '{'))
        return fail(err, KVERN_FORMAT, "the model has no object \"vocab\"");
    vocabulary_init(&tokenizer->vocabulary, vocab.n_items + n_added);
    if (json_scan_mark(&scan, '}'))
        return KVERN_OK;
    while (status == KVERN_OK && !is_read) {
        const char *piece = "";
        size_t n_bytes = 0;
        int64_t id;

        if (!json_scan_string(&scan, &scratch, &piece, &n_bytes) || !json_scan_mark(&scan, ':') ||
            !json_scan_integer(&scan, &id))
            status = fail(err, KVERN_FORMAT,
                          "vocab: after %zu pieces, \"%.*s\" is not a string with a whole number",
                          tokenizer->vocabulary.pieces.n_entries,
                          (int)(n_bytes < 80 ? n_bytes : 80), piece);
        else
            status = vocabulary_put(&tokenizer->vocabulary, piece, n_bytes, id, err);
        is_read = !json_scan_mark(&scan, ',');
    }
    if (status == KVERN_OK && !json_scan_mark(&scan, '}'))
        status = fail(err, KVERN_FORMAT, "vocab is not valid JSON after %zu pieces",
                      tokenizer->vocabulary.pieces.n_entries);
    if (scratch.has_failed) /* and not the file's fault */
        status = fail(err, KVERN_MEMORY, "out of memory for the vocabulary");
    buffer_clear(&scratch);
    return status;
}

/* A merge is "left right" or ["left", "right"]. */
static kvern_status read_merge(struct bpe *bpe, struct json_scan *scan, struct buffer *scratch,
                               struct buffer *left, kvern_error *err)
{
    const char *text;
    size_t n_bytes;
    bool is_pair = json_scan_mark(scan, '[');

    if (!json_scan_string(scan, scratch, &text, &n_bytes))
        return fail(err, KVERN_FORMAT, "merge %zu is not a pair of pieces", bpe->n_merges);
    if (!is_pair) {
        const char *space = memchr(text, ' ', n_bytes);
        size_t n_left = space ? (size_t)(space - text) : 0;

        if (!space)
            return fail(err, KVERN_FORMAT, "merge %zu is not a pair of pieces", bpe->n_merges);
        return bpe_add_merge(bpe, text, n_left, space + 1, n_bytes - n_left - 1, err);
    }
    buffer_truncate(left, 0); /* the text may be in scratch, which the second one needs */
    buffer_add(left, text, n_bytes);
    if (left->has_failed)
        return fail(err, KVERN_MEMORY, "out of memory for merges");
    if (!json_scan_mark(scan, ',') || !json_scan_string(scan, scratch, &text, &n_bytes) ||
        !json_scan_mark(scan, ']'))
        return fail(err, KVERN_FORMAT, "merge %zu is not a pair of pieces", bpe->n_merges);
    return bpe_add_merge(bpe, left->data, left->n_bytes, text, n_bytes, err);
}

static kvern_status read_merges(struct bpe *bpe, struct json_span merges, kvern_error *err)
{
    struct json_scan scan = {merges.begin, merges.end};
    struct buffer scratch = {0};
    struct buffer left = {0};
    kvern_status status = KVERN_OK;
    bool is_read;

    json_scan_mark(&scan, '[');
    is_read = json_scan_mark(&scan, ']');
    while (status == KVERN_OK && !is_read) {
        status = read_merge(bpe, &scan, &scratch, &left, err);
        is_read = !json_scan_mark(&scan, ',');
        if (status == KVERN_OK && is_read && !json_scan_mark(&scan, ']'))
            status =
                fail(err, KVERN_FORMAT, "merges is not valid JSON after %zu merges", bpe->n_merges);
    }
    if (scratch.has_failed) /* and not the file's fault */
        status = fail(err, KVERN_MEMORY, "out of memory for merges");
    buffer_clear(&scratch);
    buffer_clear(&left);
    return status;
}

static kvern_status read_bpe(struct tokenizer *tokenizer, const struct source *source,
                             const json_t *model, kvern_error *err)
{
    const json_t *dropout = json_object_get(model, "dropout");
    struct bpe_options options = {
        .is_byte_level = tokenizer->pretokenizer.is_byte_level,
        .ignores_merges = json_member_bool(model, "ignore_merges", false),
        .has_byte_fallback = json_member_bool(model, "byte_fallback", false),
        .fuses_unknown = json_member_bool(model, "fuse_unk", false),
        .unknown = json_member_string(model, "unk_token"),
        .continuing_prefix = json_member_string(model, "continuing_subword_prefix"),
        .end_suffix = json_member_string(model, "end_of_word_suffix"),
        .n_merges = source->merges.n_items,
    };
    kvern_status status;

    if (!source->merges.begin || *source->merges.begin != '[')
        return fail(err, KVERN_FORMAT, "the BPE model has no list \"merges\"");
    if (json_is_number(dropout) && json_number_value(dropout) != 0)
        return fail(err, KVERN_UNSUPPORTED, "BPE dropout %g is not supported: ids would be random",
                    json_number_value(dropout));
    status = bpe_open(&tokenizer->bpe, &tokenizer->vocabulary, &options, err);
    if (status == KVERN_OK)
        status = read_merges(&tokenizer->bpe, source->merges, err);
    return status;
}

static kvern_status read_wordpiece(struct tokenizer *tokenizer, const json_t *model,
                                   kvern_error *err)
{
    const json_t *max_characters = json_object_get(model, "max_input_chars_per_word");
    struct wordpiece_options options = {
        .unknown = json_member_string(model, "unk_token"),
        .prefix = json_member_string(model, "continuing_subword_prefix"),
        .max_characters = (size_t)json_integer_value(max_characters),
    };

    if (!options.unknown || !options.prefix)
        return fail(err, KVERN_FORMAT, "the WordPiece model has no text \"%s\"",
                    options.unknown ? "continuing_subword_prefix" : "unk_token");
    if (!json_is_integer(max_characters) || json_integer_value(max_characters) < 0)
        return fail(err, KVERN_FORMAT,
                    "the WordPiece model's max_input_chars_per_word is not a whole number from 0");
    if (tokenizer->pretokenizer.is_byte_level)
        return fail(err, KVERN_UNSUPPORTED,
                    "WordPiece after the pre_tokenizer ByteLevel is not supported");
    return wordpiece_open(&tokenizer->wordpiece, &tokenizer->vocabulary, &options, err);
}

/* Unigram's vocab is [["piece", score], ...]; a piece's place is its id. */
static kvern_status read_scored_pieces(struct tokenizer *tokenizer, struct json_span vocab,
                                       size_t n_added, struct buffer *scores, kvern_error *err)
{
    struct json_scan scan = {vocab.begin, vocab.end};
    struct buffer scratch = {0};
    kvern_status status = KVERN_OK;
    bool is_read = false;

    if (!vocab.begin || !json_scan_mark(&scan, '['))
        return fail(err, KVERN_FORMAT, "the Unigram model has no list \"vocab\"");
    vocabulary_init(&tokenizer->vocabulary, vocab.n_items + n_added);
    for (int64_t id = 0; status == KVERN_OK && !is_read; id++) {
        const char *piece = "";
        size_t n_bytes = 0;
        double score = 0;

        if (!json_scan_mark(&scan, '[') || !json_scan_string(&scan, &scratch, &piece, &n_bytes) ||
            !json_scan_mark(&scan, ',') || !json_scan_number(&scan, &score) ||
            !json_scan_mark(&scan, ']'))
            status =
                fail(err, KVERN_FORMAT, "vocab: piece %lld, \"%.*s\", is not a string with a score",
                     (long long)id, (int)(n_bytes < 80 ? n_bytes : 80), piece);
        else
            status = vocabulary_put(&tokenizer->vocabulary, piece, n_bytes, id, err);
        buffer_add(scores, &score, sizeof score);
        is_read = !json_scan_mark(&scan, ',');
    }
    if (status == KVERN_OK && !json_scan_mark(&scan, ']'))
        status = fail(err, KVERN_FORMAT, "vocab is not valid JSON after %zu pieces",
                      tokenizer->vocabulary.pieces.n_entries);
    if (scratch.has_failed || scores->has_failed) /* and not the file's fault */
        status = fail(err, KVERN_MEMORY, "out of memory for the vocabulary");
    buffer_clear(&scratch);
    return status;
}

static kvern_status read_unigram(struct tokenizer *tokenizer, const struct source *source,
                                 const json_t *model, size_t n_added, kvern_error *err)
{
    const json_t *unknown = json_object_get(model, "unk_id");
    json_int_t unknown_id = json_is_integer(unknown) ? json_integer_value(unknown) : -1;
    struct unigram_options options = {
        .has_byte_fallback = json_member_bool(model, "byte_fallback", false),
        .unknown_id = (int32_t)unknown_id,
    };
    struct buffer scores = {0}; /* double */
    size_t n_bytes;
    kvern_status status;

    if (tokenizer->pretokenizer.is_byte_level)
        return fail(err, KVERN_UNSUPPORTED,
                    "Unigram after the pre_tokenizer ByteLevel is not supported");
    if (json_is_integer(unknown) && (unknown_id < 0 || unknown_id > INT32_MAX))
        return fail(err, KVERN_FORMAT, "the Unigram model's unk_id %lld is no id",
                    (long long)unknown_id);
    status = read_scored_pieces(tokenizer, source->vocab, n_added, &scores, err);
    if (status == KVERN_OK) {
        double *list = (double *)(void *)buffer_take(&scores, &n_bytes);

        status = unigram_open(&tokenizer->unigram, &tokenizer->vocabulary, list,
                              n_bytes / sizeof *list, &options, err);
    }
    buffer_clear(&scores);
    return status;
}

/* The one place that knows the models. Older files have no type: what a model alone has tells. */
static kvern_status read_model(struct tokenizer *tokenizer, const struct source *source,
                               size_t n_added, kvern_error *err)
{
    const json_t *model = json_object_get(source->root, "model");
    const char *type = json_member_type(model);
    bool is_wordpiece = *type ? !strcmp(type, "WordPiece")
                              : json_object_get(model, "max_input_chars_per_word") != NULL;
    bool is_unigram =
        *type ? !strcmp(type, "Unigram") : source->vocab.begin && *source->vocab.begin == '[';

    if (is_unigram) {
        tokenizer->model = MODEL_UNIGRAM;
        return read_unigram(tokenizer, source, model, n_added, err);
    }
    if (!is_wordpiece && *type && strcmp(type, "BPE") != 0)
        return fail(err, KVERN_UNSUPPORTED,
                    "tokenizer model type \"%.80s\" is not supported (BPE, WordPiece and Unigram "
                    "are)",
                    type);
    kvern_status status = read_vocabulary(tokenizer, source->vocab, n_added, err);
    if (status != KVERN_OK)
        return status;
    tokenizer->model = is_wordpiece ? MODEL_WORDPIECE : MODEL_BPE;
    return is_wordpiece ? read_wordpiece(tokenizer, model, err)
                        : read_bpe(tokenizer, source, model, err);
}

/* ---- added tokens ---- */

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
        .is_control = vocabulary_is_control(&tokenizer->vocabulary, (int32_t)id),
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

/* Finds the large parts and parses the text without them. */
static kvern_status open_source(struct source *source, const char *json, size_t n_bytes,
                                kvern_error *err)
{
    const char *end = json + n_bytes;
    struct json_span model;
    struct json_span spans[2] = {{0}}; /* vocab and merges, in the order of the text */
    struct buffer rest = {0};
    const char *copied = json;
    kvern_status status;

    if (json_scan_member(json, end, "model", &model) && model.begin) {
        json_scan_member(model.begin, model.end, "vocab", &source->vocab);
        json_scan_member(model.begin, model.end, "merges", &source->merges);
    }
    spans[0] = source->vocab.begin < source->merges.begin ? source->vocab : source->merges;
    spans[1] = source->vocab.begin < source->merges.begin ? source->merges : source->vocab;
    for (size_t i = 0; i < 2; i++) {
        if (!spans[i].begin)
            continue;
        buffer_add(&rest, copied, (size_t)(spans[i].begin - copied));
        buffer_add_string(&rest, "0");
        copied = spans[i].end;
    }
    buffer_add(&rest, copied, (size_t)(end - copied));
    if (rest.has_failed)
        status = fail(err, KVERN_MEMORY, "out of memory reading tokenizer.json");
    else
        status = parse(&source->root, "tokenizer.json", rest.data, rest.n_bytes, err);
    buffer_clear(&rest);
    return status;
}

static kvern_status read_parts(struct tokenizer *tokenizer, const struct source *source,
                               kvern_error *err)
{
    const json_t *root = source->root;
    const json_t *added = json_object_get(root, "added_tokens");
    kvern_status status;

    if (!json_is_object(json_object_get(root, "model")))
        return fail(err, KVERN_FORMAT, "tokenizer.json has no object \"model\"");
    status = normalizer_open(&tokenizer->normalizer, json_object_get(root, "normalizer"), err);
    if (status == KVERN_OK)
        status = pretokenizer_open(&tokenizer->pretokenizer, json_object_get(root, "pre_tokenizer"),
                                   err);
    if (status == KVERN_OK)
        status = read_model(tokenizer, source, json_array_size(added), err);
    if (status == KVERN_OK)
        status = read_added_tokens(tokenizer, added, err);
    if (status == KVERN_OK && tokenizer->model == MODEL_UNIGRAM)
        status = unigram_index(&tokenizer->unigram, err);
    if (status == KVERN_OK)
        status =
            post_processor_open(&tokenizer->post_processor, json_object_get(root, "post_processor"),
                                &tokenizer->vocabulary, err);
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
    struct source source = {0};
    kvern_status status = open_source(&source, json, n_bytes, err);

    if (status == KVERN_OK)
        status = read_parts(tokenizer, &source, err);
    json_decref(source.root);
    if (status == KVERN_OK)
        *out = tokenizer;
    else
        tokenizer_close(tokenizer);
    return status;
}

static size_t count(const char *text, size_t n_bytes, char byte)
{
    size_t n = 0;

    for (size_t i = 0; i < n_bytes; i++)
        n += text[i] == byte;
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
                                  .n_merges = count(merges, n_merges_bytes, '\n') + 1};
    /* every piece has a colon behind it: an upper bound of their number */
    struct json_span pieces = {vocab, vocab + n_vocab_bytes, count(vocab, n_vocab_bytes, ':')};
    json_t *step = NULL;
    kvern_status status =
        parse(&step, "the byte-level step", byte_level, sizeof byte_level - 1, err);

    if (status == KVERN_OK)
        status = pretokenizer_open(&tokenizer->pretokenizer, step, err);
    if (status == KVERN_OK)
        status = decoder_open(&tokenizer->decoder, step, err);
    if (status == KVERN_OK)
        status = read_vocabulary(tokenizer, pieces, 0, err);
    if (status == KVERN_OK)
        status = bpe_open(&tokenizer->bpe, &tokenizer->vocabulary, &options, err);
    if (status == KVERN_OK)
        status = read_merge_lines(&tokenizer->bpe, merges, n_merges_bytes, err);
    json_decref(step);
    if (status == KVERN_OK)
        *out = tokenizer;
    else
        tokenizer_close(tokenizer);
    return status;
}

kvern_status tokenizer_open_bytes(struct tokenizer **out, size_t vocab_size, kvern_error *err)
{
    if (vocab_size < 256)
        return fail(err, KVERN_UNSUPPORTED,
                    "bytes as tokens need a vocabulary of 256, and the model's has %zu",
                    vocab_size);

    struct tokenizer *tokenizer = new_tokenizer();
    kvern_status status = KVERN_OK;

    tokenizer->model = MODEL_BYTES;
    decoder_open_bytes(&tokenizer->decoder);
    vocabulary_init(&tokenizer->vocabulary, 256);
    for (int id = 0; status == KVERN_OK && id < 256; id++) {
        char piece[8];
        int n = snprintf(piece, sizeof piece, "<0x%02X>", (unsigned)id);

        status = vocabulary_put(&tokenizer->vocabulary, piece, (size_t)n, id, err);
    }
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
    wordpiece_close(&tokenizer->wordpiece);
    unigram_close(&tokenizer->unigram);
    post_processor_close(&tokenizer->post_processor);
    decoder_close(&tokenizer->decoder);
    free(tokenizer);
}
