/* SPDX-License-Identifier: Apache-2.0
 *
 * The index of remembered blocks: what is found, what is not, and chains that lose a member.
 */
#include "test.h"

#include "engine/prefix_cache.h"

enum { N_ENTRIES = 500 };

static void make_tokens(int32_t *tokens, int32_t seed)
{
    for (int32_t i = 0; i < KV_BLOCK_TOKENS; i++)
        tokens[i] = seed * 31 + i;
}

static void a_key_is_of_all_tokens_before(void **state)
{
    struct prefix_key none = prefix_key_root("", 0);
    struct prefix_key salted = prefix_key_root("a", 1);
    int32_t first[KV_BLOCK_TOKENS], second[KV_BLOCK_TOKENS];

    (void)state;
    make_tokens(first, 1);
    make_tokens(second, 2);
    struct prefix_key keys[] = {
        none,
        salted,
        prefix_key_next(none, first),
        prefix_key_next(none, second),
        prefix_key_next(salted, first),
        prefix_key_next(prefix_key_next(none, first), second),
        prefix_key_next(prefix_key_next(none, second), first),
    };
    for (size_t i = 0; i < COUNT(keys); i++) {
        for (size_t j = 0; j < i; j++)
            assert_true(keys[i].low != keys[j].low && keys[i].high != keys[j].high);
    }
    struct prefix_key again = prefix_key_next(none, first);
    assert_memory_equal(&again, &keys[2], sizeof again);
}

/* Two texts with the same hash are told apart by their tokens. */
static void tokens_are_compared(void **state)
{
    struct prefix_key key = {.low = 5, .high = 6};
    struct prefix_key neighbour = {.low = 5, .high = 7};
    int32_t held[KV_BLOCK_TOKENS], other[KV_BLOCK_TOKENS];
    struct prefix_cache cache;

    (void)state;
    make_tokens(held, 1);
    make_tokens(other, 1);
    other[KV_BLOCK_TOKENS - 1]++;
    assert_int_equal(prefix_cache_init(&cache, 8, NULL), KVERN_OK);
    prefix_cache_add(&cache, 3, key, held);
    assert_int_equal(prefix_cache_find(&cache, key, held), 3);
    assert_int_equal(prefix_cache_find(&cache, key, other), -1);
    assert_int_equal(prefix_cache_find(&cache, neighbour, held), -1);
    prefix_cache_add(&cache, 4, key, other);
    assert_int_equal(prefix_cache_find(&cache, key, other), 4);
    /* the same again, in another block: the first one stays */
    prefix_cache_add(&cache, 5, key, held);
    assert_false(prefix_cache_holds(&cache, 5));
    assert_int_equal(prefix_cache_find(&cache, key, held), 3);
    prefix_cache_remove(&cache, 5);
    prefix_cache_clear(&cache);
}

static void chains_lose_members(void **state)
{
    struct prefix_cache cache;
    int32_t tokens[KV_BLOCK_TOKENS];

    (void)state;
    assert_int_equal(prefix_cache_init(&cache, N_ENTRIES, NULL), KVERN_OK);
    for (int32_t round = 0; round < 3; round++) {
        /* eight chains of many, whatever the number of buckets */
        for (int32_t i = 0; i < N_ENTRIES; i++) {
            make_tokens(tokens, i + round);
            prefix_cache_add(&cache, i, (struct prefix_key){.low = (uint64_t)i % 8, .high = 1},
                             tokens);
        }
        for (int32_t i = 0; i < N_ENTRIES; i++) {
            int32_t gone = (int32_t)((int64_t)i * 7 % N_ENTRIES);

            make_tokens(tokens, gone + round);
            struct prefix_key key = {.low = (uint64_t)gone % 8, .high = 1};
            assert_int_equal(prefix_cache_find(&cache, key, tokens), gone);
            prefix_cache_remove(&cache, gone);
            assert_int_equal(prefix_cache_find(&cache, key, tokens), -1);
            assert_false(prefix_cache_holds(&cache, gone));
        }
        for (size_t i = 0; i < cache.n_buckets; i++)
            assert_int_equal(cache.buckets[i], -1);
    }
    prefix_cache_clear(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_of_all_tokens_before),
        cmocka_unit_test(tokens_are_compared),
        cmocka_unit_test(chains_lose_members),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
