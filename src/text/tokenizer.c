/* SPDX-License-Identifier: Apache-2.0
 *
 * Encoding and decoding with an open tokenizer. All that changes while encoding is in a struct
 * encoder on the caller's stack, so that threads never meet.
 */
#include "text/tokenizer.h"

#include "base/error.h"
#include "base/memory.h"
#include "text/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

enum { CACHE_FROM_BYTES = 1024 };

/* A token with the place it came from. */
struct found_token {
    int32_t id;
    struct origin origin;
};

struct encoder {
    const struct tokenizer *tokenizer;
    struct trusted_ranges trusted;
    struct regex_scratch regex;
    struct bpe_scratch bpe;
    struct unigram_scratch unigram;
    struct buffer spelling; /* WordPiece's scratch */
    struct piece_list pieces;
    struct buffer raw_parts;        /* struct added_part */
    struct buffer normalized_parts; /* struct added_part */
    struct buffer word;             /* struct word_token */
    struct buffer found;            /* struct found_token */
};

static kvern_status fail_memory(kvern_error *err)
{
    return fail(err, KVERN_MEMORY, "out of memory tokenizing text");
}

static void put_found(struct encoder *encoder, int32_t id, struct origin origin)
{
    struct found_token token = {id, origin};

    buffer_add(&encoder->found, &token, sizeof token);
}

/* ByteLevel's trim_offsets: a token's leading and trailing spaces are not part of its place, but
 * the text's first ones stay where the pre-tokenizer puts a space there. */
static struct origin trim(const struct post_processor *post, const struct aligned_text *text,
                          size_t begin, size_t end)
{
    struct origin whole = aligned_text_origin(text, begin, end);
    size_t first = begin;
    size_t last = end;

    while (first < last && text->data[first] == ' ')
        first++;
    if (post->keeps_first_space && whole.begin == 0 && first == begin + 1)
        first = begin;
    while (last > first && text->data[last - 1] == ' ')
        last--;
    if (first == end)
        return (struct origin){whole.end, whole.end};
    if (first == last)
        return (struct origin){whole.begin, whole.begin};
    return aligned_text_origin(text, first, last);
}

static kvern_status encode_bytes(const char *word, size_t n_bytes, struct buffer *out,
                                 kvern_error *err)
{
    for (size_t i = 0; i < n_bytes; i++) {
        struct word_token token = {(unsigned char)word[i], (uint32_t)(i + 1)};

        buffer_add(out, &token, sizeof token);
    }
    return out->has_failed ? fail_memory(err) : KVERN_OK;
}

static kvern_status encode_word(struct encoder *encoder, const struct aligned_text *text,
                                struct piece piece, kvern_error *err)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    const char *word = text->data + piece.begin;
    size_t n_bytes = piece.end - piece.begin;
    size_t begin = piece.begin;
    kvern_status status = KVERN_OK;

    buffer_truncate(&encoder->word, 0);
    switch (tokenizer->model) {
    case MODEL_BPE:
        status = bpe_encode(&tokenizer->bpe, &encoder->bpe, word, n_bytes, &encoder->word, err);
        break;
    case MODEL_WORDPIECE:
        status = wordpiece_encode(&tokenizer->wordpiece, &encoder->spelling, word, n_bytes,
                                  &encoder->word, err);
        break;
    case MODEL_UNIGRAM:
        status = unigram_encode(&tokenizer->unigram, &encoder->unigram, word, n_bytes,
                                &encoder->word, err);
        break;
    case MODEL_BYTES:
        status = encode_bytes(word, n_bytes, &encoder->word, err);
        break;
    }
    const struct word_token *tokens = (const struct word_token *)(void *)encoder->word.data;
    for (size_t i = 0; status == KVERN_OK && i < encoder->word.n_bytes / sizeof *tokens; i++) {
        size_t end = piece.begin + tokens[i].end;

        put_found(encoder, tokens[i].id,
                  tokenizer->post_processor.trims_offsets
                      ? trim(&tokenizer->post_processor, text, begin, end)
                      : aligned_text_origin(text, begin, end));
        begin = end;
    }
    return status;
}

/* Text with no added tokens in it, normalized. */
static kvern_status encode_ordinary(struct encoder *encoder, const struct aligned_text *part,
                                    kvern_error *err)
{
    struct aligned_text text = *part;
    kvern_status status = pretokenizer_run(&encoder->tokenizer->pretokenizer, &encoder->regex,
                                           &text, &encoder->pieces, err);

    for (size_t i = 0; status == KVERN_OK && i < encoder->pieces.n; i++)
        status = encode_word(encoder, &text, encoder->pieces.items[i], err);
    aligned_text_clear(&text);
    return status;
}

/* Text with no raw added tokens in it, before normalization. */
static kvern_status encode_part(struct encoder *encoder, const struct aligned_text *part,
                                kvern_error *err)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    struct aligned_text text = *part;
    kvern_status status = normalizer_run(&tokenizer->normalizer, &encoder->regex, &text, err);

    if (status != KVERN_OK)
        goto done;
    buffer_truncate(&encoder->normalized_parts, 0);
    if (!added_set_split(&tokenizer->normalized_tokens, &text, encoder->trusted,
                         &encoder->normalized_parts)) {
        status = fail_memory(err);
        goto done;
    }
    const struct added_part *parts = (const void *)encoder->normalized_parts.data;
    size_t n_parts = encoder->normalized_parts.n_bytes / sizeof *parts;
    for (size_t i = 0; status == KVERN_OK && i < n_parts; i++) {
        struct aligned_text slice = aligned_text_slice(&text, parts[i].begin, parts[i].end);

        if (parts[i].id >= 0)
            put_found(encoder, parts[i].id, aligned_text_origin(&slice, 0, slice.n_bytes));
        else
            status = encode_ordinary(encoder, &slice, err);
    }

done:
    aligned_text_clear(&text);
    return status;
}

static kvern_status encode_text(struct encoder *encoder, const struct aligned_text *text,
                                kvern_error *err)
{
    kvern_status status = KVERN_OK;

    if (!added_set_split(&encoder->tokenizer->raw_tokens, text, encoder->trusted,
                         &encoder->raw_parts))
        return fail_memory(err);
    const struct added_part *parts = (const void *)encoder->raw_parts.data;
    size_t n_parts = encoder->raw_parts.n_bytes / sizeof *parts;
    for (size_t i = 0; status == KVERN_OK && i < n_parts; i++) {
        struct aligned_text slice = aligned_text_slice(text, parts[i].begin, parts[i].end);

        if (parts[i].id >= 0)
            put_found(encoder, parts[i].id, aligned_text_origin(&slice, 0, slice.n_bytes));
        else
            status = encode_part(encoder, &slice, err);
    }
    if (status == KVERN_OK && encoder->found.has_failed)
        status = fail_memory(err);
    return status;
}

static void put_added(const struct buffer *ids, kvern_tokens *tokens)
{
    size_t n = ids->n_bytes / sizeof(int32_t);

    if (n > 0)
        memcpy(tokens->ids + tokens->n, ids->data, ids->n_bytes);
    tokens->n += n; /* their offsets stay (0, 0) */
}

/* The tokens found, between those of the post-processor if `adds_special`. */
static kvern_status give(const struct encoder *encoder, bool adds_special, kvern_tokens *tokens,
                         kvern_error *err)
{
    const struct post_processor *post = &encoder->tokenizer->post_processor;
    const struct found_token *found = (const void *)encoder->found.data;
    size_t n_found = encoder->found.n_bytes / sizeof *found;
    size_t n = n_found;
    kvern_tokens made = {0};

    if (adds_special)
        n += (post->before.n_bytes + post->after.n_bytes) / sizeof(int32_t);
    made.ids = try_new(n, sizeof *made.ids);
    made.begins = try_new(n, sizeof *made.begins);
    made.ends = try_new(n, sizeof *made.ends);
    if (!made.ids || !made.begins || !made.ends) {
        kvern_tokens_clear(&made);
        return fail_memory(err);
    }
    if (adds_special)
        put_added(&post->before, &made);
    for (size_t i = 0; i < n_found; i++, made.n++) {
        made.ids[made.n] = found[i].id;
        made.begins[made.n] = found[i].origin.begin;
        made.ends[made.n] = found[i].origin.end;
    }
    if (adds_special)
        put_added(&post->after, &made);
    *tokens = made;
    return KVERN_OK;
}

static kvern_status encode(const struct tokenizer *tokenizer, const char *bytes, size_t n_bytes,
                           struct trusted_ranges trusted, bool adds_special, kvern_tokens *tokens,
                           kvern_error *err)
{
    struct encoder encoder = {.tokenizer = tokenizer, .trusted = trusted};
    struct aligned_text text = {0};
    kvern_status status;

    if (n_bytes > ALIGNED_TEXT_MAX_BYTES)
        return fail(err, KVERN_LIMIT, "a text of %zu bytes is over the tokenizer's limit of %zu",
                    n_bytes, ALIGNED_TEXT_MAX_BYTES);
    status = regex_scratch_init(&encoder.regex, err);
    if (status != KVERN_OK)
        return status;
    if (n_bytes >= CACHE_FROM_BYTES)
        bpe_scratch_use_cache(&encoder.bpe);
    if (aligned_text_init(&text, bytes, n_bytes))
        status = encode_text(&encoder, &text, err);
    else
        status = fail_memory(err);
    if (status == KVERN_OK)
        status = give(&encoder, adds_special, tokens, err);

    aligned_text_clear(&text);
    regex_scratch_clear(&encoder.regex);
    bpe_scratch_clear(&encoder.bpe);
    unigram_scratch_clear(&encoder.unigram);
    buffer_clear(&encoder.spelling);
    piece_list_clear(&encoder.pieces);
    buffer_clear(&encoder.raw_parts);
    buffer_clear(&encoder.normalized_parts);
    buffer_clear(&encoder.word);
    buffer_clear(&encoder.found);
    return status;
}

kvern_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                              unsigned flags, kvern_tokens *tokens, kvern_error *err)
{
    struct origin all = {0, UINT32_MAX};
    struct trusted_ranges trusted = {&all, flags & KVERN_TOKENIZE_CONTROL ? 1 : 0};

    return encode(tokenizer, text, n_bytes, trusted, flags & KVERN_TOKENIZE_SPECIAL, tokens, err);
}

kvern_status tokenizer_encode_segments(const struct tokenizer *tokenizer,
                                       const struct tokenizer_segment *segments, size_t n_segments,
                                       unsigned flags, kvern_tokens *tokens, kvern_error *err)
{
    struct buffer text = {0};
    struct buffer ranges = {0}; /* struct origin */
    kvern_status status;

    for (size_t i = 0; i < n_segments; i++) {
        const struct tokenizer_segment *segment = &segments[i];
        struct origin range = {(uint32_t)text.n_bytes, (uint32_t)(text.n_bytes + segment->n_bytes)};

        if (segment->n_bytes > ALIGNED_TEXT_MAX_BYTES - text.n_bytes) {
            status = fail(err, KVERN_LIMIT, "the text is over the tokenizer's limit of %zu bytes",
                          ALIGNED_TEXT_MAX_BYTES);
            goto done;
        }
        buffer_add(&text, segment->text, segment->n_bytes);
        if (!segment->allow_control || segment->n_bytes == 0)
            continue;
        struct origin *last =
            ranges.n_bytes ? (struct origin *)(void *)(ranges.data + ranges.n_bytes) - 1 : NULL;
        if (last && last->end == range.begin)
            last->end = range.end;
        else
            buffer_add(&ranges, &range, sizeof range);
    }
    if (text.has_failed || ranges.has_failed) {
        status = fail_memory(err);
        goto done;
    }
    struct trusted_ranges trusted = {(const void *)ranges.data,
                                     ranges.n_bytes / sizeof(struct origin)};
    status = encode(tokenizer, text.data, text.n_bytes, trusted, flags & KVERN_TOKENIZE_SPECIAL,
                    tokens, err);

done:
    buffer_clear(&text);
    buffer_clear(&ranges);
    return status;
}

void kvern_tokens_clear(kvern_tokens *tokens)
{
    if (!tokens)
        return;
    free(tokens->ids);
    free(tokens->begins);
    free(tokens->ends);
    *tokens = (kvern_tokens){0};
}

/* ---- ids and pieces ---- */

size_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
    return tokenizer->vocabulary.n_ids;
}

const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id, size_t *n_bytes)
{
    return vocabulary_piece(&tokenizer->vocabulary, id, n_bytes);
}

int32_t tokenizer_id(const struct tokenizer *tokenizer, const char *piece, size_t n_bytes)
{
    return vocabulary_find_any(&tokenizer->vocabulary, piece, n_bytes);
}

bool tokenizer_is_byte_fallback(const struct tokenizer *tokenizer)
{
    return tokenizer->model == MODEL_BYTES;
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id)
{
    return vocabulary_is_special(&tokenizer->vocabulary, id);
}

/* ---- decoding ---- */

void token_stream_init(struct token_stream *stream, const struct tokenizer *tokenizer,
                       bool skip_special)
{
    *stream = (struct token_stream){.tokenizer = tokenizer, .skip_special = skip_special};
}

kvern_status token_stream_add(struct token_stream *stream, int32_t id, struct buffer *out,
                              kvern_error *err)
{
    size_t n_bytes;
    const char *piece = tokenizer_piece(stream->tokenizer, id, &n_bytes);

    if (!piece &&
        stream->tokenizer->model == MODEL_BYTES) { /* every id of the model is some text */
        piece = "\xef\xbf\xbd";
        n_bytes = 3;
    }
    if (piece && !(stream->skip_special && tokenizer_is_special(stream->tokenizer, id)))
        decoder_add(&stream->tokenizer->decoder, &stream->state, piece, n_bytes, out);
    return out->has_failed ? fail(err, KVERN_MEMORY, "out of memory decoding tokens") : KVERN_OK;
}

kvern_status token_stream_finish(struct token_stream *stream, struct buffer *out, kvern_error *err)
{
    decoder_finish(&stream->tokenizer->decoder, &stream->state, out);
    return out->has_failed ? fail(err, KVERN_MEMORY, "out of memory decoding tokens") : KVERN_OK;
}

void token_stream_clear(struct token_stream *stream)
{
    decode_state_clear(&stream->state);
}

kvern_status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t n,
                              bool skip_special, char **text, size_t *n_bytes, kvern_error *err)
{
    struct token_stream stream;
    struct buffer out = {0};
    kvern_status status = KVERN_OK;

    token_stream_init(&stream, tokenizer, skip_special);
    for (size_t i = 0; status == KVERN_OK && i < n; i++)
        status = token_stream_add(&stream, ids[i], &out, err);
    if (status == KVERN_OK)
        status = token_stream_finish(&stream, &out, err);
    token_stream_clear(&stream);
    char *made = status == KVERN_OK ? buffer_take(&out, n_bytes) : NULL;
    if (status == KVERN_OK && !made)
        status = fail(err, KVERN_MEMORY, "out of memory decoding tokens");
    if (made)
        *text = made;
    buffer_clear(&out);
    return status;
}
