/* SPDX-License-Identifier: Apache-2.0
 *
 * Reference-counted KV blocks with a stack of free ones, and the tables that hold them. A promise
 * is only a count: which block it becomes is settled when it is taken.
 */
#include "engine/kv_blocks.h"

#include "base/error.h"
#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { NO_BLOCK = -1 };

kvern_status kv_blocks_init(struct kv_blocks *kv, size_t n_blocks, kvern_error *err)
{
    *kv = (struct kv_blocks){
        .first_free = NO_BLOCK, .first_remembered = NO_BLOCK, .last_remembered = NO_BLOCK};
    if (n_blocks == 0 || n_blocks > INT32_MAX)
        return fail(err, KVERN_INVALID, "the KV cache has %zu blocks; it needs 1 to %d", n_blocks,
                    INT32_MAX);
    kv->blocks = try_new(n_blocks, sizeof *kv->blocks);
    if (!kv->blocks)
        return fail(err, KVERN_MEMORY, "no memory for the counts of %zu KV blocks", n_blocks);
    kvern_status status = prefix_cache_init(&kv->prefixes, n_blocks, err);
    if (status != KVERN_OK) {
        kv_blocks_clear(kv);
        return status;
    }
    kv->n_blocks = n_blocks;
    kv->n_free = n_blocks;
    kv->max_remembered = n_blocks;
    kv->first_free = 0;
    for (size_t i = 0; i < n_blocks; i++)
        kv->blocks[i].next_free = i + 1 < n_blocks ? (int32_t)i + 1 : NO_BLOCK;
    return KVERN_OK;
}

void kv_blocks_clear(struct kv_blocks *kv)
{
    free(kv->blocks);
    prefix_cache_clear(&kv->prefixes);
    *kv = (struct kv_blocks){0};
}

size_t kv_blocks_for_tokens(size_t n_tokens)
{
    return n_tokens / KV_BLOCK_TOKENS + (n_tokens % KV_BLOCK_TOKENS != 0);
}

size_t kv_blocks_available(const struct kv_blocks *kv)
{
    return kv->n_free - kv->n_promised;
}

kvern_status kv_table_init(struct kv_table *table, size_t capacity, kvern_error *err)
{
    *table = (struct kv_table){0};
    table->blocks = try_new(capacity, sizeof *table->blocks);
    if (!table->blocks)
        return fail(err, KVERN_MEMORY, "no memory for a table of %zu KV blocks", capacity);
    table->capacity = capacity;
    return KVERN_OK;
}

struct kv_values *kv_values_share(struct kv_values *values)
{
    if (values)
        values->n_references++;
    return values;
}

void kv_values_release(struct kv_values *values)
{
    if (values && --values->n_references == 0)
        values->free(values);
}

void kv_table_clear(struct kv_table *table)
{
    assert(table->n_blocks == 0 && table->n_promised == 0 && !table->values);
    free(table->blocks);
    *table = (struct kv_table){0};
}

bool kv_blocks_promise(struct kv_blocks *kv, struct kv_table *table, size_t n_blocks)
{
    if (n_blocks > kv_blocks_available(kv))
        return false;
    kv->n_promised += n_blocks;
    table->n_promised += n_blocks;
    return true;
}

/* Takes a remembered block out of the queue of those that are free. */
static void unlink_remembered(struct kv_blocks *kv, int32_t index)
{
    struct kv_block *block = &kv->blocks[index];

    if (block->previous_free == NO_BLOCK)
        kv->first_remembered = block->next_free;
    else
        kv->blocks[block->previous_free].next_free = block->next_free;
    if (block->next_free == NO_BLOCK)
        kv->last_remembered = block->previous_free;
    else
        kv->blocks[block->next_free].previous_free = block->previous_free;
    kv->n_free--;
    kv->n_remembered--;
    block->next_free = NO_BLOCK;
}

static void push_remembered(struct kv_blocks *kv, int32_t index)
{
    struct kv_block *block = &kv->blocks[index];

    block->previous_free = kv->last_remembered;
    block->next_free = NO_BLOCK;
    if (kv->last_remembered == NO_BLOCK)
        kv->first_remembered = index;
    else
        kv->blocks[kv->last_remembered].next_free = index;
    kv->last_remembered = index;
    kv->n_free++;
    kv->n_remembered++;
}

static int32_t pop_empty(struct kv_blocks *kv)
{
    int32_t index = kv->first_free;
    struct kv_block *block = &kv->blocks[index];

    kv->first_free = block->next_free;
    block->next_free = NO_BLOCK;
    kv->n_free--;
    return index;
}

static void push_empty(struct kv_blocks *kv, int32_t index)
{
    kv->blocks[index].next_free = kv->first_free;
    kv->first_free = index;
    kv->n_free++;
}

/* Forgets the remembered block that has been free longest, which belongs to nobody then. */
static int32_t evict(struct kv_blocks *kv)
{
    int32_t index = kv->first_remembered;

    unlink_remembered(kv, index);
    prefix_cache_remove(&kv->prefixes, index);
    kv->n_evicted++;
    return index;
}

static int32_t take_first(struct kv_blocks *kv)
{
    int32_t index = kv->first_free != NO_BLOCK ? pop_empty(kv) : evict(kv);

    kv->blocks[index].n_references = 1;
    return index;
}

static void drop_reference(struct kv_blocks *kv, int32_t index)
{
    struct kv_block *block = &kv->blocks[index];

    assert(block->n_references > 0);
    if (--block->n_references > 0)
        return;
    if (prefix_cache_holds(&kv->prefixes, index))
        push_remembered(kv, index);
    else
        push_empty(kv, index);
    if (kv->n_remembered > kv->max_remembered)
        push_empty(kv, evict(kv));
}

static int32_t take_promised(struct kv_blocks *kv, struct kv_table *table)
{
    assert(table->n_promised > 0);
    table->n_promised--;
    kv->n_promised--;
    return take_first(kv);
}

void kv_blocks_extend(struct kv_blocks *kv, struct kv_table *table, size_t n_tokens)
{
    size_t n_blocks = kv_blocks_for_tokens(n_tokens);

    while (table->n_blocks < n_blocks) {
        assert(table->n_blocks < table->capacity);
        table->blocks[table->n_blocks++] = take_promised(kv, table);
    }
}

bool kv_blocks_share(struct kv_blocks *kv, struct kv_table *table, int32_t block)
{
    bool is_free = kv->blocks[block].n_references == 0;

    assert(table->n_blocks < table->capacity);
    if (is_free && kv_blocks_available(kv) == 0)
        return false;
    if (is_free)
        unlink_remembered(kv, block);
    kv->blocks[block].n_references++;
    table->blocks[table->n_blocks++] = block;
    return true;
}

void kv_blocks_remember(struct kv_blocks *kv, const struct kv_table *table, size_t i,
                        struct prefix_key key, const int32_t *tokens)
{
    prefix_cache_add(&kv->prefixes, table->blocks[i], key, tokens);
}

bool kv_blocks_is_settled(const struct kv_blocks *kv, const struct kv_table *table, size_t i)
{
    return kv->blocks[table->blocks[i]].n_references > 1 ||
           prefix_cache_holds(&kv->prefixes, table->blocks[i]);
}

int32_t kv_blocks_replace(struct kv_blocks *kv, struct kv_table *table, size_t i)
{
    int32_t old = table->blocks[i];

    table->blocks[i] = take_promised(kv, table);
    drop_reference(kv, old);
    return old;
}

void kv_blocks_forget(struct kv_blocks *kv, const struct kv_table *table, size_t i)
{
    assert(kv->blocks[table->blocks[i]].n_references == 1);
    prefix_cache_remove(&kv->prefixes, table->blocks[i]);
}

void kv_blocks_slide(struct kv_blocks *kv, struct kv_table *table)
{
    int32_t *oldest = table->blocks + table->n_sinks;
    bool is_own = kv->blocks[*oldest].n_references == 1;

    assert(table->n_sinks < table->n_blocks);
    drop_reference(kv, *oldest);
    table->n_blocks--;
    table->n_dropped++;
    memmove(oldest, oldest + 1, (table->n_blocks - table->n_sinks) * sizeof *oldest);
    if (is_own) {
        kv->n_promised++;
        table->n_promised++;
    }
}

size_t kv_blocks_count_own(const struct kv_blocks *kv, const struct kv_table *table)
{
    size_t n_own = 0;

    for (size_t i = 0; i < table->n_blocks; i++)
        n_own += kv->blocks[table->blocks[i]].n_references == 1;
    return n_own;
}

/* The last block first: the next table takes them in the same order as this one did. */
void kv_blocks_cut(struct kv_blocks *kv, struct kv_table *table, size_t n_tokens)
{
    while (table->n_blocks > kv_blocks_for_tokens(n_tokens))
        drop_reference(kv, table->blocks[--table->n_blocks]);
}

void kv_blocks_forgo(struct kv_blocks *kv, struct kv_table *table)
{
    kv->n_promised -= table->n_promised;
    table->n_promised = 0;
}

void kv_blocks_release(struct kv_blocks *kv, struct kv_table *table)
{
    kv_blocks_cut(kv, table, 0);
    kv_values_release(table->values);
    table->values = NULL;
    table->n_dropped = 0;
    kv_blocks_forgo(kv, table);
}

/* Walks one list of free blocks, all of which must be unreferenced and remembered or not; the walk
 * must end after n_most. */
static kvern_status check_free_list(const struct kv_blocks *kv, int32_t first, bool is_remembered,
                                    size_t n_most, size_t *n_seen, kvern_error *err)
{
    for (int32_t i = first; i != NO_BLOCK; i = kv->blocks[i].next_free) {
        if (i < 0 || (size_t)i >= kv->n_blocks)
            return fail(err, KVERN_RUNTIME, "a free list holds block %d of %zu", i, kv->n_blocks);
        if (kv->blocks[i].n_references != 0)
            return fail(err, KVERN_RUNTIME, "free KV block %d has %d references", i,
                        kv->blocks[i].n_references);
        if (prefix_cache_holds(&kv->prefixes, i) != is_remembered)
            return fail(err, KVERN_RUNTIME, "free KV block %d is in the list of those that %s", i,
                        is_remembered ? "are remembered" : "hold nothing");
        if (++*n_seen > n_most)
            break;
    }
    return KVERN_OK;
}

static kvern_status check_free_lists(const struct kv_blocks *kv, kvern_error *err)
{
    size_t n_seen = 0;
    kvern_status status = check_free_list(kv, kv->first_free, false, kv->n_free, &n_seen, err);

    if (status == KVERN_OK)
        status = check_free_list(kv, kv->first_remembered, true, kv->n_free, &n_seen, err);
    if (status == KVERN_OK && n_seen != kv->n_free)
        status =
            fail(err, KVERN_RUNTIME, "the free lists have %zu KV blocks or more, counted are %zu",
                 n_seen, kv->n_free);
    return status;
}

/* Adds up what the tables hold and compares it with the counts. */
static kvern_status check_references(const struct kv_blocks *kv,
                                     const struct kv_table *const *tables, size_t n_tables,
                                     int32_t *found, kvern_error *err)
{
    size_t n_promised = 0;
    size_t n_free = 0;

    for (size_t t = 0; t < n_tables; t++) {
        n_promised += tables[t]->n_promised;
        for (size_t i = 0; i < tables[t]->n_blocks; i++) {
            int32_t block = tables[t]->blocks[i];

            if (block < 0 || (size_t)block >= kv->n_blocks)
                return fail(err, KVERN_RUNTIME, "a table holds KV block %d of %zu", block,
                            kv->n_blocks);
            found[block]++;
        }
    }
    for (size_t i = 0; i < kv->n_blocks; i++) {
        n_free += found[i] == 0;
        if (found[i] != kv->blocks[i].n_references)
            return fail(err, KVERN_RUNTIME, "KV block %zu has %d references, %d tables hold it", i,
                        kv->blocks[i].n_references, found[i]);
    }
    if (n_free != kv->n_free || n_promised != kv->n_promised || n_promised > n_free)
        return fail(err, KVERN_RUNTIME,
                    "%zu KV blocks are free and %zu promised, the counts say %zu and %zu", n_free,
                    n_promised, kv->n_free, kv->n_promised);
    return KVERN_OK;
}

kvern_status kv_blocks_check(const struct kv_blocks *kv, const struct kv_table *const *tables,
                             size_t n_tables, kvern_error *err)
{
    int32_t *found = try_new(kv->n_blocks, sizeof *found);
    kvern_status status;

    if (!found)
        return fail(err, KVERN_MEMORY, "no memory to check %zu KV blocks", kv->n_blocks);
    status = check_references(kv, tables, n_tables, found, err);
    if (status == KVERN_OK)
        status = check_free_lists(kv, err);
    free(found);
    return status;
}
