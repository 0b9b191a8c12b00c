/* SPDX-License-Identifier: Apache-2.0
 *
 * Saving and restoring sessions. A file is, in this order: struct header (little-endian), token ids
 * (int32), for each mark its position (uint64) and its vector (f32), the KV as kv_image gives it,
 * and the XXH3 hash (128 bit, canonical) of all that. Everything read is checked before it is used:
 * the file may be damaged, cut, of another model, or made up.
 */
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "engine/kv_image.h"
#include "engine/session.h"
#include "model/model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "session files are little-endian");

enum { FILE_VERSION = 1, MAX_FILE_TOKENS = 1 << 28, MAX_FILE_VALUES = 1 << 20 };

static const char magic[8] = {'k', 'v', 'e', 'r', 'n', 's', 'e', 's'};

struct header {
    char magic[8];
    uint32_t version;
    uint32_t n_marks;
    uint8_t fingerprint[KVERN_FINGERPRINT_BYTES];
    char kv_kind[64]; /* NUL-padded */
    int32_t policy;
    int32_t window;
    int32_t sink_tokens;
    int32_t pooling;
    int32_t normalize;
    int32_t dimensions;
    uint64_t n_values; /* of each mark's vector */
    uint64_t n_tokens;
    uint64_t n_kv_tokens;
    uint64_t n_kv_dropped; /* blocks */
    uint64_t n_kv_bytes;
};

static_assert(sizeof(struct header) == 160, "the header has no padding");

/* ---- saving ---- */

/* Writes and hashes. */
struct output {
    struct file_writer writer;
    XXH3_state_t *hash;
};

static kvern_status put(struct output *output, const void *bytes, size_t n_bytes, kvern_error *err)
{
    if (n_bytes == 0)
        return KVERN_OK;
    XXH3_128bits_update(output->hash, bytes, n_bytes);
    return file_writer_put(&output->writer, bytes, n_bytes, err);
}

static kvern_status put_all(struct output *output, const kvern_session *session,
                            const struct header *header, const struct kv_image *image,
                            kvern_error *err)
{
    XXH128_canonical_t sum;
    kvern_status status = put(output, header, sizeof *header, err);

    if (status == KVERN_OK)
        status = put(output, session->tokens, session->n_tokens * sizeof *session->tokens, err);
    for (size_t i = 0; status == KVERN_OK && i < session->n_marks; i++) {
        const struct session_mark *mark = &session->marks[i];
        uint64_t position = mark->position;

        status = put(output, &position, sizeof position, err);
        if (status == KVERN_OK)
            status = put(output, mark->values, mark->n_values * sizeof *mark->values, err);
    }
    if (status == KVERN_OK)
        status = put(output, image->bytes, image->n_bytes, err);
    if (status != KVERN_OK)
        return status;
    XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(output->hash));
    return file_writer_put(&output->writer, &sum, sizeof sum, err);
}

static kvern_status describe(const kvern_session *session, const struct kv_image *image,
                             struct header *header, kvern_error *err)
{
    const kvern_session_options *options = &session->options;

    *header = (struct header){
        .version = FILE_VERSION,
        .n_marks = (uint32_t)session->n_marks,
        .policy = (int32_t)options->policy,
        .window = options->window,
        .sink_tokens = options->sink_tokens,
        .pooling = (int32_t)options->pooling,
        .normalize = options->normalize,
        .dimensions = options->dimensions,
        .n_values = session->n_marks > 0 ? session->marks[0].n_values : 0,
        .n_tokens = session->n_tokens,
        .n_kv_tokens = image->n_tokens,
        .n_kv_dropped = image->n_dropped,
        .n_kv_bytes = image->n_bytes,
    };
    memcpy(header->magic, magic, sizeof magic);
    memcpy(header->kv_kind, engine_kv_kind(session->engine),
           strnlen(engine_kv_kind(session->engine), sizeof header->kv_kind));
    return kvern_model_fingerprint(session->model, header->fingerprint, err);
}

/* The KV kept may be of more tokens than the session has after a rewind; what is of other tokens is
 * not worth its bytes. */
static bool is_of_session(const struct kv_image *image, const kvern_session *session)
{
    return image->n_tokens > 0 && image->n_tokens <= session->n_tokens &&
           image->window.n_blocks == session->window.n_blocks &&
           image->window.n_sinks == session->window.n_sinks;
}

kvern_status kvern_session_save(kvern_session *session, const char *path, kvern_error *err)
{
    struct output output = {.hash = XXH3_createState()};
    struct kv_image image = {0};
    struct header header;
    kvern_status status;

    if (!output.hash)
        return fail(err, KVERN_MEMORY, "no memory to save a session");
    XXH3_128bits_reset(output.hash);
    status = kv_image_take(&image, session->engine, session->conversation, session->tokens,
                           session->n_tokens, err);
    if (status == KVERN_OK && !is_of_session(&image, session))
        kv_image_clear(&image);
    if (status == KVERN_OK)
        status = describe(session, &image, &header, err);
    file_remove_leftovers(path);
    if (status == KVERN_OK)
        status = file_writer_open(&output.writer, path, err);
    if (status == KVERN_OK)
        status = put_all(&output, session, &header, &image, err);
    if (status == KVERN_OK)
        status = file_writer_commit(&output.writer, err);
    file_writer_clear(&output.writer);
    kv_image_clear(&image);
    XXH3_freeState(output.hash);
    return status;
}

/* ---- restoring ---- */

struct input {
    const char *path;
    struct file_map map;
    struct header header;
    const uint8_t *at; /* what comes next; its size has been checked */
    uint8_t fingerprint[KVERN_FINGERPRINT_BYTES];
    kvern_error *err;
};

static kvern_status damaged(const struct input *input, const char *why)
{
    return fail(input->err, KVERN_FORMAT, "%s is damaged: %s", input->path, why);
}

/* The size the header's numbers add up to; false: they are out of range. */
static bool expected_bytes(const struct header *header, size_t *n_bytes)
{
    size_t mark_bytes = sizeof(uint64_t) + (size_t)header->n_values * sizeof(float);
    size_t n = sizeof *header + sizeof(XXH128_canonical_t);

    if (header->n_tokens > MAX_FILE_TOKENS || header->n_values > MAX_FILE_VALUES ||
        header->n_marks > SESSION_MAX_MARKS || header->n_kv_tokens > header->n_tokens ||
        header->n_kv_dropped > header->n_kv_tokens / KV_BLOCK_TOKENS)
        return false;
    n += (size_t)header->n_tokens * sizeof(int32_t) + header->n_marks * mark_bytes;
    return add_sizes(n, (size_t)header->n_kv_bytes, n_bytes);
}

static kvern_status check_file(struct input *input)
{
    const struct file_map *map = &input->map;
    struct header *header = &input->header;
    size_t n_expected = 0;
    size_t n_hashed;
    XXH128_canonical_t sum;

    if (map->n_bytes < sizeof *header + sizeof sum || memcmp(map->data, magic, sizeof magic) != 0)
        return fail(input->err, KVERN_FORMAT, "%s is no session of kvern", input->path);
    memcpy(header, map->data, sizeof *header);
    if (header->version != FILE_VERSION)
        return fail(input->err, KVERN_UNSUPPORTED,
                    "%s is a session file of version %u; this kvern reads version %d", input->path,
                    header->version, FILE_VERSION);
    if (!expected_bytes(header, &n_expected) || n_expected != map->n_bytes)
        return fail(input->err, KVERN_FORMAT,
                    "%s is damaged or cut short: it has %zu bytes, and its header speaks of %zu",
                    input->path, map->n_bytes, n_expected);
    n_hashed = map->n_bytes - sizeof sum;
    XXH128_canonicalFromHash(&sum, XXH3_128bits(map->data, n_hashed));
    if (memcmp(&sum, map->data + n_hashed, sizeof sum) != 0)
        return damaged(input, "its checksum does not match");
    if (memcmp(header->fingerprint, input->fingerprint, KVERN_FINGERPRINT_BYTES) != 0)
        return fail(input->err, KVERN_UNSUPPORTED, "%s is a session of another model", input->path);
    input->at = map->data + sizeof *header;
    return KVERN_OK;
}

static kvern_status read_tokens(struct input *input, kvern_session *session)
{
    size_t n = (size_t)input->header.n_tokens;
    size_t vocab_size = session->model->manifest.config.vocab_size;
    kvern_status status = session_reserve(session, n > 0 ? n : 1, input->err);

    if (status != KVERN_OK)
        return status;
    memcpy(session->tokens, input->at, n * sizeof *session->tokens);
    input->at += n * sizeof *session->tokens;
    for (size_t i = 0; i < n; i++) {
        if (session->tokens[i] < 0 || (size_t)session->tokens[i] >= vocab_size)
            return damaged(input, "a token is not in the model's vocabulary");
    }
    session->n_tokens = n;
    return KVERN_OK;
}

static kvern_status read_marks(struct input *input, kvern_session *session)
{
    size_t n_values = (size_t)input->header.n_values;
    size_t last = 0;

    for (size_t i = 0; i < input->header.n_marks; i++) {
        struct session_mark mark = {.n_values = n_values};
        uint64_t position;

        memcpy(&position, input->at, sizeof position);
        input->at += sizeof position;
        if (n_values == 0 || position < last || position > session->n_tokens)
            return damaged(input, "its vectors are not in order");
        last = mark.position = (size_t)position;
        mark.values = try_new(n_values, sizeof *mark.values);
        if (!mark.values)
            return fail(input->err, KVERN_MEMORY, "no memory for a vector of %zu values", n_values);
        memcpy(mark.values, input->at, n_values * sizeof *mark.values);
        input->at += n_values * sizeof *mark.values;
        session_add_mark(session, mark);
        for (size_t j = 0; j < n_values; j++) {
            if (!isfinite(mark.values[j]))
                return damaged(input, "a vector holds a value that is not finite");
        }
    }
    return KVERN_OK;
}

/* KV of other kernels or another type is passed over: the tokens can run again. */
static kvern_status read_kv(struct input *input, kvern_session *session)
{
    const struct header *header = &input->header;
    const char *kind = engine_kv_kind(session->engine);
    struct kv_image image = {
        .n_tokens = (size_t)header->n_kv_tokens,
        .window = session->window,
        .n_dropped = (size_t)header->n_kv_dropped,
        .bytes = (void *)input->at, /* only read */
        .n_bytes = (size_t)header->n_kv_bytes,
    };

    if (strncmp(header->kv_kind, kind, sizeof header->kv_kind) != 0)
        return KVERN_OK;
    if (image.n_dropped > 0 &&
        image.n_dropped != sequence_window_dropped(&session->window, image.n_tokens))
        return damaged(input, "its window does not fit its tokens");
    return kv_image_put(&image, session->engine, session->conversation, session->tokens,
                        input->err);
}

kvern_status kvern_session_restore(kvern_session **out, kvern_engine *engine,
                                   const kvern_model *model, const char *path, kvern_error *err)
{
    struct input input = {.path = path, .err = err};
    kvern_session *session = NULL;
    kvern_session_options options;
    kvern_status status = kvern_model_fingerprint(model, input.fingerprint, err);

    if (status == KVERN_OK)
        status = file_map_open(&input.map, path, err);
    if (status == KVERN_OK)
        status = check_file(&input);
    if (status == KVERN_OK) {
        kvern_session_options_init(&options);
        options.policy = (kvern_window)input.header.policy;
        options.window = input.header.window;
        options.sink_tokens = input.header.sink_tokens;
        options.pooling = (kvern_pooling)input.header.pooling;
        options.normalize = input.header.normalize != 0;
        options.dimensions = input.header.dimensions;
        status = kvern_session_new(&session, engine, model, &options, err);
    }
    if (status == KVERN_OK)
        status = read_tokens(&input, session);
    if (status == KVERN_OK)
        status = read_marks(&input, session);
    if (status == KVERN_OK)
        status = read_kv(&input, session);
    if (status == KVERN_OK)
        *out = session;
    else
        kvern_session_free(session);
    file_map_close(&input.map);
    return status;
}
