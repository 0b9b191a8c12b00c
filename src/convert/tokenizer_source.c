/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the files, each with its own limits. To add a class that works as one of the styles does:
 * a row in `classes`.
 */
#include "convert/tokenizer_source.h"

#include "base/error.h"
#include "base/file.h"
#include "convert/tokenizer_unigram.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 26 };

static const struct {
    const char *name; /* "Fast" may follow */
    enum tokenizer_style style;
} classes[] = {
    {"BertTokenizer", STYLE_BERT},
    {"DistilBertTokenizer", STYLE_BERT},
    {"ElectraTokenizer", STYLE_BERT},
    {"MobileBertTokenizer", STYLE_BERT},
    {"SqueezeBertTokenizer", STYLE_BERT},
    {"ConvBertTokenizer", STYLE_BERT},
    {"MPNetTokenizer", STYLE_MPNET},
    {"GPT2Tokenizer", STYLE_GPT2},
    {"CodeGenTokenizer", STYLE_GPT2},
    {"RobertaTokenizer", STYLE_ROBERTA},
    {"LongformerTokenizer", STYLE_ROBERTA},
    {"BartTokenizer", STYLE_ROBERTA},
    {"LEDTokenizer", STYLE_ROBERTA},
    {"T5Tokenizer", STYLE_T5},
    {"MT5Tokenizer", STYLE_T5},
};

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
static kvern_status read_vocab_txt(struct tokenizer_source *source, char *text, size_t n_text,
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

static kvern_status read_merges_txt(struct tokenizer_source *source, const char *text,
                                    size_t n_text, kvern_error *err)
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

/* spiece.model and how many sentinels go with it. */
static kvern_status read_spiece(struct tokenizer_source *source, kvern_error *err)
{
    const json_t *extra = json_object_get(source->config, "extra_ids");
    json_int_t n_extra = json_is_integer(extra) ? json_integer_value(extra) : 100;
    size_t n_bytes = 0;
    kvern_status status =
        read_text(source->directory, "spiece.model", &source->spiece_file, &n_bytes, err);

    if (status == KVERN_OK && !source->spiece_file)
        status = fail(err, KVERN_NOT_FOUND, "%s has no spiece.model", source->directory);
    if (status == KVERN_OK && (n_extra < 0 || n_extra > TOKENIZER_UNIGRAM_MAX_EXTRA_IDS))
        status = fail(err, KVERN_FORMAT, "%s/tokenizer_config.json: extra_ids %lld is not 0 to %d",
                      source->directory, (long long)n_extra, TOKENIZER_UNIGRAM_MAX_EXTRA_IDS);
    if (status != KVERN_OK)
        return status;
    source->n_extra_ids = (size_t)n_extra;
    status =
        sentencepiece_parse(&source->spiece, (const uint8_t *)source->spiece_file, n_bytes, err);
    if (status == KVERN_OK)
        status = tokenizer_unigram_ids(&source->spiece, source->n_extra_ids, &source->vocab, err);
    return status == KVERN_OK ? status : fail_in(err, status, "%s/spiece.model", source->directory);
}

static kvern_status read_vocabulary(struct tokenizer_source *source, bool is_wordpiece,
                                    kvern_error *err)
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

/* Without a class, spiece.model is T5's only beside a model of its family: others have one too. */
static bool is_t5(const struct tokenizer_source *source)
{
    static const char *const families[] = {"t5", "mt5", "umt5", "longt5"};
    const char *family = json_string_value(json_object_get(source->model_config, "model_type"));

    for (size_t i = 0; family && i < sizeof families / sizeof families[0]; i++) {
        if (!strcmp(family, families[i]))
            return true;
    }
    return false;
}

/* Finds the style and reads the vocabulary it asks for. */
static kvern_status read_model(struct tokenizer_source *source, kvern_error *err)
{
    const char *directory = source->directory;
    bool has_bpe = has_file(directory, "vocab.json") && has_file(directory, "merges.txt");
    bool has_spiece = has_file(directory, "spiece.model");
    bool has_words = has_file(directory, "vocab.txt");
    const char *class = json_string_value(json_object_get(source->config, "tokenizer_class"));

    if (!has_bpe && !has_spiece && !has_words)
        return fail(err, KVERN_NOT_FOUND,
                    "%s has neither vocab.txt nor vocab.json with merges.txt nor spiece.model",
                    directory);
    if (!class)
        class = json_string_value(json_object_get(source->model_config, "tokenizer_class"));
    if (!class && has_spiece && !has_bpe && !has_words) {
        source->style = STYLE_T5;
        return is_t5(source)
                   ? read_spiece(source, err)
                   : fail(err, KVERN_UNSUPPORTED,
                          "%s: whose spiece.model is says neither a tokenizer_class nor a "
                          "config.json of the T5 family",
                          directory);
    }
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
        if (source->style == STYLE_T5)
            return read_spiece(source, err);
        return read_vocabulary(source, source->style == STYLE_BERT || source->style == STYLE_MPNET,
                               err);
    }
    return fail(err, KVERN_UNSUPPORTED,
                "%s: tokenizer_class \"%.80s\" without a tokenizer.json is not supported",
                directory, class);
}

kvern_status tokenizer_source_read(struct tokenizer_source *out, const char *directory,
                                   kvern_error *err)
{
    kvern_status status = read_object(directory, "tokenizer_config.json", &out->config, err);

    out->directory = directory;
    if (status == KVERN_OK)
        status = read_object(directory, "special_tokens_map.json", &out->special_map, err);
    if (status == KVERN_OK)
        status = read_object(directory, "added_tokens.json", &out->added_ids, err);
    if (status == KVERN_OK)
        status = read_object(directory, "config.json", &out->model_config, err);
    if (status == KVERN_OK)
        status = read_model(out, err);
    return status;
}

void tokenizer_source_clear(struct tokenizer_source *source)
{
    if (!source)
        return;
    json_decref(source->config);
    json_decref(source->special_map);
    json_decref(source->added_ids);
    json_decref(source->model_config);
    json_decref(source->vocab);
    json_decref(source->merges);
    sentencepiece_clear(&source->spiece);
    free(source->spiece_file);
    *source = (struct tokenizer_source){0};
}
