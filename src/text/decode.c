/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoder steps. Bytes of a byte-level decoder wait until they end a character; a run of byte
 * fallback tokens waits until it ends, for it is text only if the whole run is valid.
 */
#include "text/decode.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "text/json_member.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STEPS = 32, MAX_NESTING = 8 };

/* ---- one token's steps: each rewrites `piece`, with `spare` to build in ---- */

static void swap_buffers(struct buffer *a, struct buffer *b)
{
    struct buffer old = *a;

    *a = *b;
    *b = old;
}

static void replace(struct buffer *piece, struct buffer *spare, const char *from, const char *to)
{
    size_t n_from = strlen(from);
    size_t begin = 0;

    if (n_from == 0 || piece->n_bytes == 0 || !memmem(piece->data, piece->n_bytes, from, n_from))
        return;
    buffer_truncate(spare, 0);
    for (;;) {
        const char *hit = memmem(piece->data + begin, piece->n_bytes - begin, from, n_from);

        if (!hit)
            break;
        size_t at = (size_t)(hit - piece->data);
        buffer_add(spare, piece->data + begin, at - begin);
        buffer_add_string(spare, to);
        begin = at + n_from;
    }
    buffer_add(spare, piece->data + begin, piece->n_bytes - begin);
    swap_buffers(piece, spare);
}

static void strip(struct buffer *piece, struct buffer *spare, const struct decode_step *step)
{
    size_t n = strlen(step->from);
    size_t begin = 0;
    size_t end = piece->n_bytes;

    for (size_t i = 0; i < step->n_start && end - begin >= n; i++) {
        if (memcmp(piece->data + begin, step->from, n) != 0)
            break;
        begin += n;
    }
    for (size_t i = 0; i < step->n_stop && end - begin >= n; i++) {
        if (memcmp(piece->data + end - n, step->from, n) != 0)
            break;
        end -= n;
    }
    if (end - begin == piece->n_bytes)
        return;
    buffer_truncate(spare, 0);
    buffer_add(spare, piece->data + begin, end - begin);
    swap_buffers(piece, spare);
}

/* Characters back to bytes; a piece with a character that stands for none is its own text. */
static void spell_bytes(struct buffer *piece, struct buffer *spare)
{
    buffer_truncate(spare, 0);
    for (size_t i = 0; i < piece->n_bytes;) {
        uint32_t code_point;
        size_t n = utf8_decode(piece->data + i, piece->n_bytes - i, &code_point);
        int byte = n > 0 ? byte_level_byte(code_point) : -1;

        if (byte < 0)
            return;
        buffer_add_byte(spare, (char)byte);
        i += n;
    }
    swap_buffers(piece, spare);
}

/* "<0xE4>" -> 0xE4; -1 for any other piece. */
static int fallback_byte(const struct buffer *piece)
{
    int value = 0;

    if (piece->n_bytes != 6 || memcmp(piece->data, "<0x", 3) != 0 || piece->data[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        char c = piece->data[i];

        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            value = value * 16 + ((c | 32) - 'a' + 10);
        else
            return -1;
    }
    return value;
}

static void spell_byte(struct buffer *piece)
{
    int byte = fallback_byte(piece);

    if (byte < 0)
        return;
    buffer_truncate(piece, 0);
    buffer_add_byte(piece, (char)byte);
}

/* A piece behind the first is joined without its prefix, or with a space. */
static void join_wordpiece(struct buffer *piece, struct buffer *spare,
                           const struct decode_step *step, bool is_first)
{
    /* Hugging Face's cleanup, in its order, within one piece */
    static const char *const clean[][2] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    size_t n_prefix = strlen(step->from);

    if (!is_first) {
        bool has_prefix = piece->n_bytes >= n_prefix &&
                          (n_prefix == 0 || !memcmp(piece->data, step->from, n_prefix));
        size_t n_cut = has_prefix ? n_prefix : 0;

        buffer_truncate(spare, 0);
        if (!has_prefix)
            buffer_add_byte(spare, ' ');
        buffer_add(spare, piece->data ? piece->data + n_cut : "", piece->n_bytes - n_cut);
        swap_buffers(piece, spare);
    }
    for (size_t i = 0; step->cleans_up && i < sizeof clean / sizeof clean[0]; i++)
        replace(piece, spare, clean[i][0], clean[i][1]);
}

/* ---- on the joined text ---- */

/* Takes characters off the start of the text. */
static void strip_start(const struct decode_step *step, struct decode_state *state, size_t i,
                        struct buffer *text)
{
    size_t n = strlen(step->from);
    size_t begin = 0;

    while (!state->strips[i].is_past_start && begin < text->n_bytes) {
        if (state->strips[i].n_stripped == step->n_start || text->n_bytes - begin < n ||
            memcmp(text->data + begin, step->from, n) != 0) {
            state->strips[i].is_past_start = true;
            break;
        }
        state->strips[i].n_stripped++;
        begin += n;
    }
    if (begin > 0) {
        memmove(text->data, text->data + begin, text->n_bytes - begin);
        buffer_truncate(text, text->n_bytes - begin);
    }
}

/* `text` is whole characters; it and `spare` are changed. */
static void put_text(const struct decoder *decoder, struct decode_state *state, struct buffer *text,
                     struct buffer *spare, struct buffer *out)
{
    for (size_t i = decoder->n_joined; i < decoder->n_steps && !text->has_failed; i++) {
        const struct decode_step *step = &decoder->steps[i];

        if (step->kind == DECODE_STRIP)
            strip_start(step, state, i - decoder->n_joined, text);
        else if (step->kind == DECODE_REPLACE)
            replace(text, spare, step->from, step->to);
        else /* Metaspace: all the text is the first piece */
            replace(text, spare, step->from, step->drops_first ? "" : " ");
    }
    buffer_add(out, text->data ? text->data : "", text->n_bytes);
}

/* The first n_bytes of what ByteLevel has given. */
static void put_lossy(const struct decoder *decoder, struct decode_state *state, size_t n_bytes,
                      struct buffer *out)
{
    struct buffer *pending = &state->pending;

    if (n_bytes == 0)
        return;
    buffer_truncate(&state->spare, 0);
    unicode_add_lossy(&state->spare, pending->data, n_bytes);
    put_text(decoder, state, &state->spare, &state->piece, out);
    memmove(pending->data, pending->data + n_bytes, pending->n_bytes - n_bytes);
    buffer_truncate(pending, pending->n_bytes - n_bytes);
}

/* ---- on tokens and pieces ---- */

static void apply(const struct decoder *decoder, struct decode_state *state, size_t begin,
                  size_t end, bool is_first)
{
    struct buffer *piece = &state->piece;

    for (size_t i = begin; i < end && !piece->has_failed; i++) {
        const struct decode_step *step = &decoder->steps[i];

        switch (step->kind) {
        case DECODE_BYTE_LEVEL:
            spell_bytes(piece, &state->spare);
            break;
        case DECODE_BYTE_FALLBACK:
            break;
        case DECODE_STRIP:
            strip(piece, &state->spare, step);
            break;
        case DECODE_REPLACE:
            replace(piece, &state->spare, step->from, step->to);
            break;
        case DECODE_METASPACE:
            replace(piece, &state->spare, step->from, is_first && step->drops_first ? "" : " ");
            break;
        case DECODE_WORDPIECE:
            join_wordpiece(piece, &state->spare, step, is_first);
            break;
        case DECODE_BYTES:
            spell_byte(piece);
            break;
        }
    }
}

/* state->piece, from after ByteFallback on. */
static void put_piece(const struct decoder *decoder, struct decode_state *state, struct buffer *out)
{
    apply(decoder, state, decoder->fallback, decoder->n_joined, state->n_pieces == 0);
    state->n_pieces++;
    if (decoder->is_byte_level) {
        buffer_add(&state->pending, state->piece.data ? state->piece.data : "",
                   state->piece.n_bytes);
        put_lossy(decoder, state, utf8_complete_bytes(state->pending.data, state->pending.n_bytes),
                  out);
    } else {
        put_text(decoder, state, &state->piece, &state->spare, out);
    }
}

/* A run of byte fallback tokens has ended: it is one piece if it is text, else one a byte. */
static void flush_run(const struct decoder *decoder, struct decode_state *state, struct buffer *out)
{
    struct buffer *run = &state->run;

    if (run->n_bytes == 0)
        return;
    bool is_text = utf8_is_valid(run->data, run->n_bytes);
    size_t n_pieces = is_text ? 1 : run->n_bytes;
    for (size_t i = 0; i < n_pieces; i++) {
        buffer_truncate(&state->piece, 0);
        if (is_text)
            buffer_add(&state->piece, run->data, run->n_bytes);
        else
            buffer_add_string(&state->piece, "\xef\xbf\xbd");
        put_piece(decoder, state, out);
    }
    buffer_truncate(run, 0);
}

static void note_failures(const struct decode_state *state, struct buffer *out)
{
    out->has_failed |= state->run.has_failed || state->pending.has_failed ||
                       state->piece.has_failed || state->spare.has_failed;
}

static void start_piece(const struct decoder *decoder, struct decode_state *state, const char *text,
                        size_t n_bytes)
{
    buffer_truncate(&state->piece, 0);
    if (decoder->joins_with_space && state->n_tokens > 0)
        buffer_add_byte(&state->piece, ' ');
    buffer_add(&state->piece, text, n_bytes);
    apply(decoder, state, 0, decoder->fallback, state->n_tokens == 0);
}

void decoder_add(const struct decoder *decoder, struct decode_state *state, const char *text,
                 size_t n_bytes, struct buffer *out)
{
    bool has_fallback = decoder->fallback < decoder->n_joined;
    int byte;

    start_piece(decoder, state, text, n_bytes);
    byte = has_fallback ? fallback_byte(&state->piece) : -1;
    if (byte >= 0) {
        buffer_add_byte(&state->run, (char)byte);
    } else {
        if (state->run.n_bytes > 0) { /* its pieces come first, and take the place of this one */
            flush_run(decoder, state, out);
            start_piece(decoder, state, text, n_bytes);
        }
        put_piece(decoder, state, out);
    }
    state->n_tokens++;
    note_failures(state, out);
}

void decoder_finish(const struct decoder *decoder, struct decode_state *state, struct buffer *out)
{
    flush_run(decoder, state, out);
    put_lossy(decoder, state, state->pending.n_bytes, out);
    note_failures(state, out);
    decode_state_clear(state);
}

void decode_state_clear(struct decode_state *state)
{
    buffer_clear(&state->run);
    buffer_clear(&state->pending);
    buffer_clear(&state->piece);
    buffer_clear(&state->spare);
    *state = (struct decode_state){0};
}

/* ---- reading ---- */

struct reading {
    struct decoder *decoder;
    bool is_fused; /* by Fuse or ByteLevel: what follows sees the joined text */
    bool has_fallback;
};

static kvern_status add_step(struct reading *reading, const json_t *json, int depth,
                             kvern_error *err);

static kvern_status add_sequence(struct reading *reading, const json_t *json, int depth,
                                 kvern_error *err)
{
    const json_t *list = json_object_get(json, "decoders");
    kvern_status status = KVERN_OK;

    if (!json_is_array(list) || depth >= MAX_NESTING)
        return fail(err, KVERN_FORMAT,
                    "decoder Sequence has no list \"decoders\" or is nested over %d deep",
                    MAX_NESTING);
    for (size_t i = 0; status == KVERN_OK && i < json_array_size(list); i++)
        status = add_step(reading, json_array_get(list, i), depth + 1, err);
    return status;
}

static bool is_character(const char *text)
{
    uint32_t code_point;
    size_t n_bytes = strlen(text);

    return n_bytes > 0 && utf8_decode(text, n_bytes, &code_point) == n_bytes;
}

static kvern_status read_strip(const struct reading *reading, struct decode_step *step,
                               const json_t *json, kvern_error *err)
{
    const char *content = json_member_string(json, "content");
    json_int_t start = json_integer_value(json_object_get(json, "start"));
    json_int_t stop = json_integer_value(json_object_get(json, "stop"));

    if (!content || !*content || start < 0 || stop < 0)
        return fail(err, KVERN_FORMAT, "decoder Strip lacks content, or start or stop is negative");
    if (reading->is_fused && stop > 0)
        return fail(err, KVERN_UNSUPPORTED,
                    "decoder Strip of the end after Fuse or ByteLevel is not supported");
    step->from = copy_string_or_abort(content);
    step->n_start = (size_t)start;
    step->n_stop = (size_t)stop;
    return KVERN_OK;
}

static kvern_status read_replace(const struct reading *reading, struct decode_step *step,
                                 const json_t *json, kvern_error *err)
{
    const char *from = json_member_string(json_object_get(json, "pattern"), "String");
    const char *to = json_member_string(json, "content");

    if (!from || !to)
        return fail(err, KVERN_UNSUPPORTED,
                    "decoder Replace without {\"String\": ...} and content "
                    "is not supported");
    if (reading->is_fused && !is_character(from))
        return fail(
            err, KVERN_UNSUPPORTED,
            "decoder Replace of \"%.80s\" after Fuse or ByteLevel is not supported: it is not "
            "one character",
            from);
    step->from = copy_string_or_abort(from);
    step->to = copy_string_or_abort(to);
    return KVERN_OK;
}

static kvern_status read_metaspace(struct decode_step *step, const json_t *json, kvern_error *err)
{
    const char *replacement = json_member_string(json, "replacement");
    const char *scheme = json_member_string(json, "prepend_scheme");

    if (!replacement || !*replacement)
        return fail(err, KVERN_FORMAT, "decoder Metaspace has no replacement");
    step->from = copy_string_or_abort(replacement);
    step->drops_first =
        scheme ? strcmp(scheme, "never") != 0 : json_member_bool(json, "add_prefix_space", true);
    return KVERN_OK;
}

static kvern_status read_wordpiece(struct decode_step *step, const json_t *json, kvern_error *err)
{
    const char *prefix = json_member_string(json, "prefix");

    if (!prefix)
        return fail(err, KVERN_FORMAT, "decoder WordPiece has no prefix");
    step->from = copy_string_or_abort(prefix);
    step->cleans_up = json_member_bool(json, "cleanup", true);
    return KVERN_OK;
}

static kvern_status add_step(struct reading *reading, const json_t *json, int depth,
                             kvern_error *err)
{
    static const char *const types[] = {
        [DECODE_BYTE_LEVEL] = "ByteLevel", [DECODE_BYTE_FALLBACK] = "ByteFallback",
        [DECODE_STRIP] = "Strip",          [DECODE_REPLACE] = "Replace",
        [DECODE_METASPACE] = "Metaspace",  [DECODE_WORDPIECE] = "WordPiece",
    };
    struct decoder *decoder = reading->decoder;
    const char *type = json_member_type(json);
    size_t kind = 0;

    if (!strcmp(type, "Sequence"))
        return add_sequence(reading, json, depth, err);
    if (!strcmp(type, "Fuse")) {
        reading->is_fused = true;
        return KVERN_OK;
    }
    while (kind < sizeof types / sizeof types[0] && strcmp(type, types[kind]) != 0)
        kind++;
    if (kind == sizeof types / sizeof types[0])
        return fail(err, KVERN_UNSUPPORTED, "decoder type \"%.80s\" is not supported", type);
    if (decoder->n_steps == MAX_STEPS ||
        (reading->is_fused && decoder->n_steps - decoder->n_joined == DECODE_MAX_TEXT_STEPS))
        return fail(err, KVERN_LIMIT, "the decoder has over %d steps, or over %d after Fuse",
                    MAX_STEPS, DECODE_MAX_TEXT_STEPS);
    if ((reading->is_fused &&
         (kind == DECODE_BYTE_LEVEL || kind == DECODE_BYTE_FALLBACK || kind == DECODE_WORDPIECE)) ||
        (reading->has_fallback && kind == DECODE_BYTE_FALLBACK))
        return fail(err, KVERN_UNSUPPORTED, "decoder %s at this place is not supported", type);

    struct decode_step *step = &decoder->steps[decoder->n_steps++];
    step->kind = (enum decode_kind)kind;
    if (kind == DECODE_BYTE_FALLBACK) {
        reading->has_fallback = true;
        decoder->fallback = decoder->n_steps - 1;
    }
    if (!reading->is_fused)
        decoder->n_joined = decoder->n_steps;
    if (!reading->has_fallback)
        decoder->fallback = decoder->n_joined;
    switch (step->kind) {
    case DECODE_BYTE_LEVEL:
        decoder->is_byte_level = true;
        reading->is_fused = true;
        break;
    case DECODE_BYTE_FALLBACK:
        break;
    case DECODE_STRIP:
        return read_strip(reading, step, json, err);
    case DECODE_REPLACE:
        return read_replace(reading, step, json, err);
    case DECODE_METASPACE:
        return read_metaspace(step, json, err);
    case DECODE_WORDPIECE:
        return read_wordpiece(step, json, err);
    case DECODE_BYTES: /* has no type: no file asks for it */
        break;
    }
    return KVERN_OK;
}

kvern_status decoder_open(struct decoder *decoder, const json_t *json, kvern_error *err)
{
    struct reading reading = {.decoder = decoder};
    kvern_status status;

    *decoder = (struct decoder){0};
    if (!json || json_is_null(json)) {
        decoder->joins_with_space = true;
        return KVERN_OK;
    }
    decoder->steps = new_or_abort(MAX_STEPS * sizeof *decoder->steps);
    status = add_step(&reading, json, 0, err);
    if (status != KVERN_OK)
        decoder_close(decoder);
    return status;
}

void decoder_open_bytes(struct decoder *decoder)
{
    struct decode_step *step = new_or_abort(sizeof *step);

    step->kind = DECODE_BYTES;
    *decoder = (struct decoder){
        .steps = step, .n_steps = 1, .fallback = 1, .n_joined = 1, .is_byte_level = true};
}

void decoder_close(struct decoder *decoder)
{
    if (!decoder)
        return;
    for (size_t i = 0; i < decoder->n_steps; i++) {
        free(decoder->steps[i].from);
        free(decoder->steps[i].to);
    }
    free(decoder->steps);
    *decoder = (struct decoder){0};
}
