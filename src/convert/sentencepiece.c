/* SPDX-License-Identifier: Apache-2.0
 *
 * The fields of sentencepiece_model.proto that an encoder needs; all others are stepped over. A
 * field that may be there once and is there again counts last, as protobuf says.
 */
#include "convert/sentencepiece.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "model/protobuf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MODEL_PIECES = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_KIND = 3 };
enum { TRAINER_MODEL_TYPE = 3, TRAINER_UNKNOWN_ID = 40 };
enum { NORMALIZER_CHARSMAP = 2 };
enum { TYPE_UNIGRAM = 1 };

static kvern_status fail_damaged(kvern_error *err, const char *what)
{
    return fail(err, KVERN_FORMAT, "the SentencePiece model's %s is damaged", what);
}

static kvern_status read_piece(struct sentencepiece_piece *piece, size_t id,
                               const struct protobuf_field *message, kvern_error *err)
{
    struct protobuf reader = protobuf_read(message->bytes, message->n_bytes);
    struct protobuf_field field;
    uint64_t kind = SENTENCEPIECE_NORMAL;

    *piece = (struct sentencepiece_piece){0};
    while (protobuf_next(&reader, &field)) {
        if (field.number == PIECE_TEXT && field.type == PROTOBUF_BYTES) {
            piece->text = (const char *)field.bytes;
            piece->n_bytes = field.n_bytes;
        } else if (field.number == PIECE_SCORE && field.type == PROTOBUF_FIXED32) {
            uint32_t bits = (uint32_t)field.value;

            memcpy(&piece->score, &bits, sizeof bits);
        } else if (field.number == PIECE_KIND && field.type == PROTOBUF_VARINT) {
            kind = field.value;
        }
    }
    if (reader.is_damaged || kind < SENTENCEPIECE_NORMAL || kind > SENTENCEPIECE_BYTE ||
        !isfinite(piece->score))
        return fail(err, KVERN_FORMAT, "the SentencePiece model's piece %zu is damaged", id);
    if (piece->n_bytes == 0 || memchr(piece->text, '\0', piece->n_bytes) ||
        !utf8_is_valid(piece->text, piece->n_bytes))
        return fail(err, KVERN_FORMAT,
                    "the SentencePiece model's piece %zu is not a UTF-8 text without NUL", id);
    piece->kind = (enum sentencepiece_kind)kind;
    return KVERN_OK;
}

/* unk_id is a signed number of 32 bits: in the low ones of its varint. */
static kvern_status read_trainer(struct sentencepiece *model, const struct protobuf_field *message,
                                 kvern_error *err)
{
    struct protobuf reader = protobuf_read(message->bytes, message->n_bytes);
    struct protobuf_field field;
    uint64_t type = TYPE_UNIGRAM;

    while (protobuf_next(&reader, &field)) {
        if (field.type != PROTOBUF_VARINT)
            continue;
        if (field.number == TRAINER_MODEL_TYPE)
            type = field.value;
        else if (field.number == TRAINER_UNKNOWN_ID)
            model->unknown_id = (int32_t)(uint32_t)field.value;
    }
    if (reader.is_damaged)
        return fail_damaged(err, "trainer_spec");
    if (type != TYPE_UNIGRAM)
        return fail(err, KVERN_UNSUPPORTED,
                    "the SentencePiece model is of type %llu, and only Unigram (1) is supported",
                    (unsigned long long)type);
    return KVERN_OK;
}

static kvern_status read_normalizer(struct sentencepiece *model,
                                    const struct protobuf_field *message, kvern_error *err)
{
    struct protobuf reader = protobuf_read(message->bytes, message->n_bytes);
    struct protobuf_field field;

    while (protobuf_next(&reader, &field)) {
        if (field.number == NORMALIZER_CHARSMAP && field.type == PROTOBUF_BYTES) {
            model->charsmap = field.bytes;
            model->n_charsmap = field.n_bytes;
        }
    }
    return reader.is_damaged ? fail_damaged(err, "normalizer_spec") : KVERN_OK;
}

/* How many pieces there are to make room for. */
static size_t count_pieces(const uint8_t *data, size_t n_bytes)
{
    struct protobuf reader = protobuf_read(data, n_bytes);
    struct protobuf_field field;
    size_t n = 0;

    while (protobuf_next(&reader, &field))
        n += field.number == MODEL_PIECES && field.type == PROTOBUF_BYTES;
    return n;
}

static kvern_status read_model(struct sentencepiece *model, const uint8_t *data, size_t n_bytes,
                               kvern_error *err)
{
    struct protobuf reader = protobuf_read(data, n_bytes);
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&reader, &field)) {
        if (field.type != PROTOBUF_BYTES)
            continue;
        if (field.number == MODEL_PIECES) {
            status = read_piece(&model->pieces[model->n_pieces], model->n_pieces, &field, err);
            model->n_pieces++;
        } else if (field.number == MODEL_TRAINER) {
            status = read_trainer(model, &field, err);
        } else if (field.number == MODEL_NORMALIZER) {
            status = read_normalizer(model, &field, err);
        }
    }
    if (status == KVERN_OK && reader.is_damaged)
        status = fail(err, KVERN_FORMAT, "the SentencePiece model is damaged after %zu pieces",
                      model->n_pieces);
    if (status == KVERN_OK &&
        (model->unknown_id < 0 || (size_t)model->unknown_id >= model->n_pieces))
        status =
            fail(err, KVERN_FORMAT, "the SentencePiece model's unk_id %d is not one of %zu pieces",
                 model->unknown_id, model->n_pieces);
    return status;
}

kvern_status sentencepiece_parse(struct sentencepiece *out, const uint8_t *data, size_t n_bytes,
                                 kvern_error *err)
{
    size_t n_pieces = count_pieces(data, n_bytes);
    kvern_status status;

    *out = (struct sentencepiece){0};
    out->pieces = try_new(n_pieces, sizeof *out->pieces);
    if (!out->pieces)
        return fail(err, KVERN_MEMORY, "out of memory for %zu pieces", n_pieces);
    status = read_model(out, data, n_bytes, err);
    if (status != KVERN_OK)
        sentencepiece_clear(out);
    return status;
}

void sentencepiece_clear(struct sentencepiece *model)
{
    if (!model)
        return;
    free(model->pieces);
    *model = (struct sentencepiece){0};
}
