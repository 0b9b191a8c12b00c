/* SPDX-License-Identifier: Apache-2.0
 *
 * Each function hands the engine's thread a call and its arguments. KV that cannot be had or put is
 * no failure: it is a cache, and the tokens can run again.
 */
#include "engine/kv_image.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static size_t n_held(const struct kv_image *image)
{
    return image->n_tokens - image->n_dropped * KV_BLOCK_TOKENS;
}

struct take {
    struct kv_image *image;
    uint64_t conversation;
    const int32_t *tokens;
    size_t n_tokens;
};

static size_t count_common(const struct kept *kept, const int32_t *tokens, size_t n_tokens)
{
    size_t n = 0;

    while (n < n_tokens && n < kept->n_tokens && kept->tokens[n] == tokens[n])
        n++;
    return n;
}

static kvern_status take(const struct engine_parts *parts, void *data, kvern_error *err)
{
    const struct take *take = data;
    struct kv_image *image = take->image;
    struct runner *runner = parts->runner;
    const struct kept *kept = kept_kv_find(&parts->scheduler->kept, take->conversation);
    kvern_status status;

    *image = (struct kv_image){0};
    if (!kept || kept->n_tokens == 0 || !runner->kv_bytes)
        return KVERN_OK;
    image->n_tokens = count_common(kept, take->tokens, take->n_tokens);
    if (sequence_window_dropped(&kept->window, image->n_tokens) != kept->table.n_dropped) {
        image->n_tokens = 0;
        return KVERN_OK;
    }
    image->window = kept->window;
    image->n_dropped = kept->table.n_dropped;
    image->n_bytes = runner->kv_bytes(runner, n_held(image));
    image->bytes = try_new(image->n_bytes, 1);
    if (!image->bytes)
        return fail(err, KVERN_MEMORY, "no memory for a copy of %zu bytes of KV", image->n_bytes);
    status = runner->kv_read(runner, &kept->table, n_held(image), image->bytes, err);
    if (status != KVERN_OK)
        kv_image_clear(image);
    return status;
}

kvern_status kv_image_take(struct kv_image *image, kvern_engine *engine, uint64_t conversation,
                           const int32_t *tokens, size_t n_tokens, kvern_error *err)
{
    struct take argument = {
        .image = image, .conversation = conversation, .tokens = tokens, .n_tokens = n_tokens};

    return engine_call(engine, take, &argument, err);
}

struct put {
    const struct kv_image *image;
    uint64_t conversation;
    const int32_t *tokens;
};

/* Takes blocks for the image; idle conversations give up theirs for it. */
static bool take_blocks(struct scheduler *scheduler, struct kv_table *table, size_t n_tokens)
{
    size_t n_blocks = kv_blocks_for_tokens(n_tokens);

    if (!scheduler_promise(scheduler, table, n_blocks))
        return false;
    kv_blocks_extend(&scheduler->blocks, table, n_tokens);
    return true;
}

static kvern_status put(const struct engine_parts *parts, void *data, kvern_error *err)
{
    const struct put *put = data;
    const struct kv_image *image = put->image;
    struct scheduler *scheduler = parts->scheduler;
    struct kept item = {.conversation = put->conversation,
                        .n_tokens = image->n_tokens,
                        .window = image->window,
                        .is_foreign = true};
    size_t n_tokens = n_held(image);
    kvern_status status;

    if (!parts->runner->kv_bytes)
        return KVERN_OK;
    if (parts->runner->kv_bytes(parts->runner, n_tokens) != image->n_bytes)
        return fail(err, KVERN_FORMAT, "the KV of %zu tokens has %zu bytes; it should have %zu",
                    n_tokens, image->n_bytes, parts->runner->kv_bytes(parts->runner, n_tokens));
    item.tokens = try_new(image->n_tokens, sizeof *item.tokens);
    if (!item.tokens)
        return fail(err, KVERN_MEMORY, "no memory for %zu tokens", image->n_tokens);
    memcpy(item.tokens, put->tokens, image->n_tokens * sizeof *item.tokens);
    status = kv_table_init(&item.table, kv_blocks_for_tokens(n_tokens), err);
    if (status == KVERN_OK && take_blocks(scheduler, &item.table, n_tokens)) {
        item.table.n_sinks = image->window.n_sinks;
        item.table.n_dropped = image->n_dropped;
        status = parts->runner->kv_write(parts->runner, &item.table, n_tokens, image->bytes, err);
        if (status == KVERN_OK) {
            kept_kv_add(&scheduler->kept, &scheduler->blocks, item);
            return KVERN_OK;
        }
    }
    kv_blocks_release(&scheduler->blocks, &item.table);
    kv_table_clear(&item.table);
    free(item.tokens);
    return status;
}

kvern_status kv_image_put(const struct kv_image *image, kvern_engine *engine, uint64_t conversation,
                          const int32_t *tokens, kvern_error *err)
{
    struct put argument = {.image = image, .conversation = conversation, .tokens = tokens};

    return image->n_tokens > 0 ? engine_call(engine, put, &argument, err) : KVERN_OK;
}

void kv_image_clear(struct kv_image *image)
{
    free(image->bytes);
    *image = (struct kv_image){0};
}

struct fork {
    uint64_t from, to;
    size_t n_tokens;
};

static kvern_status fork_kept(const struct engine_parts *parts, void *data, kvern_error *err)
{
    const struct fork *fork = data;
    struct scheduler *scheduler = parts->scheduler;

    return kept_kv_fork(&scheduler->kept, &scheduler->blocks, fork->from, fork->to, fork->n_tokens,
                        err);
}

void kv_image_fork(kvern_engine *engine, uint64_t from, uint64_t to, size_t n_tokens)
{
    struct fork argument = {.from = from, .to = to, .n_tokens = n_tokens};

    engine_call(engine, fork_kept, &argument, NULL);
}

struct cut {
    uint64_t conversation;
    size_t n_tokens;
};

static kvern_status cut(const struct engine_parts *parts, void *data, kvern_error *err)
{
    const struct cut *cut = data;

    (void)err;
    kept_kv_cut(&parts->scheduler->kept, &parts->scheduler->blocks, cut->conversation,
                cut->n_tokens);
    return KVERN_OK;
}

void kv_image_cut(kvern_engine *engine, uint64_t conversation, size_t n_tokens)
{
    struct cut argument = {.conversation = conversation, .n_tokens = n_tokens};

    engine_call(engine, cut, &argument, NULL);
}

static kvern_status drop(const struct engine_parts *parts, void *data, kvern_error *err)
{
    const uint64_t *conversation = data;

    (void)err;
    kept_kv_drop(&parts->scheduler->kept, &parts->scheduler->blocks, *conversation);
    return KVERN_OK;
}

void kv_image_drop(kvern_engine *engine, uint64_t conversation)
{
    engine_call(engine, drop, &conversation, NULL);
}
