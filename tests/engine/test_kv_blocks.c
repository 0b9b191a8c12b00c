/* SPDX-License-Identifier: Apache-2.0
 *
 * A million random operations on the block manager with its checker, and the checker itself.
 */
#include "engine/kv_blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { N_BLOCKS = 61, N_TABLES = 12, CAPACITY = 24, N_OPERATIONS = 1000000 };

static const int32_t contents[6][KV_BLOCK_TOKENS] = {{1}, {2}, {3}, {4}, {5}, {6}};

static uint32_t random_state = 12345;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

static void check(const struct kv_blocks *kv, const struct kv_table *tables)
{
    const struct kv_table *all[N_TABLES];
    kvern_error err = {0};

    for (size_t i = 0; i < N_TABLES; i++)
        all[i] = &tables[i];
    if (kv_blocks_check(kv, all, N_TABLES, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

static void operate(struct kv_blocks *kv, struct kv_table *tables)
{
    struct kv_table *table = &tables[random_below(N_TABLES)];
    const struct kv_table *other = &tables[random_below(N_TABLES)];
    size_t n_before = kv_blocks_available(kv);
    size_t n = random_below(6);

    switch (random_below(11)) {
    case 0:
        kv_blocks_release(kv, table);
        assert_int_equal(table->n_blocks + table->n_promised, 0);
        break;
    case 1:
    case 2:
        if (table->n_blocks + table->n_promised + n <= CAPACITY)
            assert_int_equal(kv_blocks_promise(kv, table, n), n <= n_before);
        break;
    case 3:
        if (other->n_blocks > 0 && table->n_blocks + table->n_promised < CAPACITY)
            assert_true(
                kv_blocks_share(kv, table, other->blocks[random_below((uint32_t)other->n_blocks)]));
        break;
    case 4: /* few contents, so that many blocks hold the same */
        if (table->n_blocks > 0)
            kv_blocks_remember(kv, table, random_below((uint32_t)table->n_blocks),
                               (struct prefix_key){.low = n, .high = 1}, contents[n]);
        break;
    case 5: {
        int32_t found =
            prefix_cache_find(&kv->prefixes, (struct prefix_key){.low = n, .high = 1}, contents[n]);

        if (found >= 0 && table->n_blocks + table->n_promised < CAPACITY) {
            bool is_used = kv->blocks[found].n_references > 0;

            assert_int_equal(kv_blocks_share(kv, table, found), is_used || n_before > 0);
        }
        break;
    }
    case 6:
        if (table->n_blocks > 0) {
            size_t i = random_below((uint32_t)table->n_blocks);
            int32_t old = table->blocks[i];

            if (kv->blocks[old].n_references == 1) {
                kv_blocks_forget(kv, table, i);
            } else if (table->n_promised > 0) {
                assert_int_equal(kv_blocks_replace(kv, table, i), old);
                assert_false(kv_blocks_is_settled(kv, table, i));
            }
        }
        break;
    default:
        if (table->n_promised > 0)
            kv_blocks_extend(kv, table,
                             (table->n_blocks + random_below((uint32_t)table->n_promised)) *
                                     KV_BLOCK_TOKENS +
                                 1 + random_below(KV_BLOCK_TOKENS));
    }
}

static void test_random_operations(void **state)
{
    struct kv_blocks kv;
    struct kv_table tables[N_TABLES];
    (void)state;

    assert_int_equal(kv_blocks_init(&kv, N_BLOCKS, NULL), KVERN_OK);
    for (size_t i = 0; i < N_TABLES; i++)
        assert_int_equal(kv_table_init(&tables[i], CAPACITY, NULL), KVERN_OK);
    for (size_t i = 0; i < N_OPERATIONS; i++) {
        operate(&kv, tables);
        check(&kv, tables);
    }
    for (size_t i = 0; i < N_TABLES; i++)
        kv_blocks_release(&kv, &tables[i]);
    check(&kv, tables);
    assert_int_equal(kv_blocks_available(&kv), N_BLOCKS);
    for (size_t i = 0; i < N_TABLES; i++)
        kv_table_clear(&tables[i]);
    kv_blocks_clear(&kv);
}

/* A remembered block is taken only when no empty one is left, the one free longest first. */
static void test_remembered_blocks(void **state)
{
    struct kv_blocks kv;
    struct kv_table a;
    struct kv_table b;
    int32_t tokens[KV_BLOCK_TOKENS] = {0};
    struct prefix_key keys[3];
    (void)state;

    assert_int_equal(kv_blocks_init(&kv, 4, NULL), KVERN_OK);
    kv_table_init(&a, 4, NULL);
    kv_table_init(&b, 4, NULL);
    kv_blocks_promise(&kv, &a, 3);
    kv_blocks_extend(&kv, &a, 48);
    for (size_t i = 0; i < 3; i++) {
        keys[i] = prefix_key_next(i > 0 ? keys[i - 1] : prefix_key_root("", 0), tokens);
        kv_blocks_remember(&kv, &a, i, keys[i], tokens);
        assert_true(kv_blocks_is_settled(&kv, &a, i));
    }
    kv_blocks_release(&kv, &a);
    assert_int_equal(kv_blocks_available(&kv), 4);
    assert_int_equal(prefix_cache_find(&kv.prefixes, keys[1], tokens), 1);
    kv_blocks_promise(&kv, &b, 2); /* block 3, which holds nothing, then 2, released first */
    kv_blocks_extend(&kv, &b, 32);
    assert_int_equal(b.blocks[0], 3);
    assert_int_equal(b.blocks[1], 2);
    assert_int_equal(kv.n_evicted, 1);
    assert_int_equal(prefix_cache_find(&kv.prefixes, keys[2], tokens), -1);
    kv_blocks_promise(&kv, &b, 1);
    assert_true(kv_blocks_share(&kv, &a, 0));
    assert_false(kv_blocks_share(&kv, &a, 1)); /* it is promised */
    assert_int_equal(a.n_blocks, 1);
    kv_blocks_release(&kv, &a);
    assert_int_equal(kv.n_remembered, 2);
    kv_blocks_release(&kv, &b);
    kv.max_remembered = 1;
    assert_true(kv_blocks_share(&kv, &a, 1));
    kv_blocks_release(&kv, &a); /* one too many: the one free longest is forgotten */
    assert_int_equal(kv.n_remembered, 1);
    assert_int_equal(prefix_cache_find(&kv.prefixes, keys[0], tokens), -1);
    assert_int_equal(prefix_cache_find(&kv.prefixes, keys[1], tokens), 1);
    assert_int_equal(kv_blocks_available(&kv), 4);
    kv_table_clear(&a);
    kv_table_clear(&b);
    kv_blocks_clear(&kv);
}

/* A block given back is the first to be taken again. */
static void test_last_given_back_first(void **state)
{
    struct kv_blocks kv;
    struct kv_table a;
    struct kv_table b;
    (void)state;

    assert_int_equal(kv_blocks_init(&kv, 4, NULL), KVERN_OK);
    kv_table_init(&a, 4, NULL);
    kv_table_init(&b, 4, NULL);
    assert_true(kv_blocks_promise(&kv, &a, 2));
    kv_blocks_extend(&kv, &a, 32);
    assert_int_equal(a.blocks[0], 0);
    assert_int_equal(a.blocks[1], 1);
    kv_blocks_release(&kv, &a);
    assert_true(kv_blocks_promise(&kv, &b, 4));
    assert_false(kv_blocks_promise(&kv, &a, 1));
    kv_blocks_extend(&kv, &b, 64);
    const int32_t expected[] = {0, 1, 2, 3};
    assert_memory_equal(b.blocks, expected, sizeof expected);
    kv_blocks_release(&kv, &b);
    kv_table_clear(&a);
    kv_table_clear(&b);
    kv_blocks_clear(&kv);
}

static void test_checker_sees_damage(void **state)
{
    struct kv_blocks kv;
    struct kv_table table;
    const struct kv_table *tables[] = {&table};
    (void)state;

    assert_int_equal(kv_blocks_init(&kv, 4, NULL), KVERN_OK);
    kv_table_init(&table, 4, NULL);
    kv_blocks_promise(&kv, &table, 2);
    kv_blocks_extend(&kv, &table, 16);
    assert_int_equal(kv_blocks_check(&kv, tables, 1, NULL), KVERN_OK);
    assert_int_equal(kv_blocks_check(&kv, tables, 0, NULL), KVERN_RUNTIME);
    kv.blocks[0].n_references++;
    assert_int_equal(kv_blocks_check(&kv, tables, 1, NULL), KVERN_RUNTIME);
    kv.blocks[0].n_references--;
    kv.n_promised++;
    assert_int_equal(kv_blocks_check(&kv, tables, 1, NULL), KVERN_RUNTIME);
    kv.n_promised--;
    kv.blocks[2].next_free = 1;
    assert_int_equal(kv_blocks_check(&kv, tables, 1, NULL), KVERN_RUNTIME);
    kv.blocks[2].next_free = 3;
    assert_int_equal(kv_blocks_check(&kv, tables, 1, NULL), KVERN_OK);
    kv_blocks_release(&kv, &table);
    kv_table_clear(&table);
    kv_blocks_clear(&kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_remembered_blocks),
        cmocka_unit_test(test_last_given_back_first),
        cmocka_unit_test(test_checker_sees_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
