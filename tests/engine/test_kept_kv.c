/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "engine/kept_kv.h"
#include "engine/scheduler.h"

#include <stdlib.h>
#include <string.h>

enum { N_BLOCKS = 12 };

/* A sequence with blocks for all its tokens, as if it had run. */
static void make_run(struct sequence *sequence, struct kv_blocks *blocks, const int32_t *tokens,
                     size_t n, uint64_t conversation)
{
    kvern_error err = {0};

    assert_int_equal(sequence_init(sequence, tokens, n, 1, &err), KVERN_OK);
    sequence->conversation = conversation;
    assert_true(kv_blocks_promise(blocks, &sequence->table, kv_blocks_for_tokens(n)));
    kv_blocks_extend(blocks, &sequence->table, n);
    sequence->n_computed = n;
}

static const struct {
    const char *label;
    int32_t differs_at; /* the second prompt's first token that is not the first one's */
    size_t n_first, n_second;
    size_t n_cached, n_blocks;
} turns[] = {
    {"a longer prompt", 40, 40, 60, 40, 3},
    {"the same prompt runs its last token again", 40, 40, 40, 39, 3},
    {"a shorter prompt", 40, 40, 20, 19, 2},
    {"an edited prompt", 17, 40, 60, 17, 2},
    {"another prompt", 0, 40, 60, 0, 0},
};

static void the_common_start_is_taken_over(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(turns); i++) {
        struct kept_kv kept = {0};
        struct kv_blocks blocks;
        struct sequence first;
        struct sequence second;
        struct sequence stranger;
        int32_t tokens[64];
        int32_t held[3];
        kvern_error err = {0};

        assert_int_equal(kv_blocks_init(&blocks, N_BLOCKS, &err), KVERN_OK);
        for (int32_t j = 0; j < 64; j++)
            tokens[j] = j;
        make_run(&first, &blocks, tokens, turns[i].n_first, 7);
        memcpy(held, first.table.blocks, sizeof held);
        kept_kv_put(&kept, &blocks, &first);
        assert_null(first.tokens);
        sequence_clear(&first);
        assert_int_equal(kv_blocks_available(&blocks), N_BLOCKS - 3);

        for (int32_t j = turns[i].differs_at; j < 64; j++)
            tokens[j] = 100 + j * (turns[i].differs_at < 40);
        assert_int_equal(sequence_init(&stranger, tokens, 5, 1, &err), KVERN_OK);
        stranger.conversation = 8;
        kept_kv_take(&kept, &blocks, &stranger);
        assert_int_equal(stranger.n_computed, 0);
        assert_int_equal(sequence_init(&second, tokens, turns[i].n_second, 1, &err), KVERN_OK);
        second.conversation = 7;
        kept_kv_take(&kept, &blocks, &second);
        assert_int_equal(second.n_computed, turns[i].n_cached);
        assert_int_equal(second.table.n_blocks, turns[i].n_blocks);
        assert_memory_equal(second.table.blocks, held, turns[i].n_blocks * sizeof *held);
        assert_int_equal(kept.n, 0);
        assert_int_equal(kv_blocks_available(&blocks), N_BLOCKS - turns[i].n_blocks);

        const struct kv_table *tables[] = {&second.table};
        assert_int_equal(kv_blocks_check(&blocks, tables, 1, &err), KVERN_OK);
        kv_blocks_release(&blocks, &second.table);
        sequence_clear(&second);
        sequence_clear(&stranger);
        kv_blocks_clear(&blocks);
    }
}

static void the_longest_idle_goes_first(void **state)
{
    static struct kept_kv kept;
    struct kv_blocks blocks;
    int32_t token = 1;
    kvern_error err = {0};

    (void)state;
    assert_int_equal(kv_blocks_init(&blocks, KEPT_KV_MAX + 2, &err), KVERN_OK);
    for (uint64_t i = 1; i <= KEPT_KV_MAX + 1; i++) {
        struct sequence sequence;

        make_run(&sequence, &blocks, &token, 1, i);
        kept_kv_put(&kept, &blocks, &sequence);
        sequence_clear(&sequence);
    }
    assert_int_equal(kept.n, KEPT_KV_MAX);
    assert_int_equal(kept.items[0].conversation, 2);
    assert_true(kept_kv_drop_oldest(&kept, &blocks));
    assert_int_equal(kept.items[0].conversation, 3);
    while (kept_kv_drop_oldest(&kept, &blocks))
        ;
    assert_int_equal(kv_blocks_available(&blocks), KEPT_KV_MAX + 2);
    kv_blocks_clear(&blocks);
}

static void idle_conversations_give_way_to_requests(void **state)
{
    struct scheduler_limits limits = {
        .step_tokens = 512, .max_running = 4, .max_context = 512, .scoring_rows = 512};
    struct scheduler scheduler;
    struct plan plan;
    struct sequence chat;
    struct sequence other;
    int32_t tokens[160] = {0};
    kvern_error err = {0};

    (void)state;
    assert_int_equal(scheduler_init(&scheduler, &limits, N_BLOCKS, &err), KVERN_OK);
    assert_int_equal(plan_init(&plan, 4, &err), KVERN_OK);
    assert_int_equal(sequence_init(&chat, tokens, 100, 1, &err), KVERN_OK);
    chat.conversation = 1;
    scheduler_add(&scheduler, &chat);
    scheduler_plan(&scheduler, &plan);
    assert_int_equal(plan.n_items, 1);
    chat.n_computed = 100;
    scheduler_retire(&scheduler, &chat);
    assert_int_equal(scheduler.kept.n, 1);
    assert_int_equal(scheduler_check(&scheduler, &err), KVERN_OK);

    assert_int_equal(sequence_init(&other, tokens, 160, 1, &err), KVERN_OK);
    scheduler_add(&scheduler, &other);
    scheduler_plan(&scheduler, &plan);
    assert_int_equal(plan.n_items, 1);
    assert_int_equal(scheduler.kept.n, 0);
    assert_int_equal(scheduler_check(&scheduler, &err), KVERN_OK);
    scheduler_remove(&scheduler, &other);
    sequence_clear(&chat);
    sequence_clear(&other);
    plan_clear(&plan);
    scheduler_clear(&scheduler);
}

/* What a fork of the first n_tokens gives, and to whom a window that slid is of use. */
static void forks_and_windows(void **state)
{
    static const struct {
        const char *label;
        struct sequence_window window, next_window;
        size_t n_first, n_forked, n_next; /* tokens */
        bool is_there;                    /* the fork could be made */
        size_t n_cached;
    } cases[] = {
        {"all of it", {0, 0}, {0, 0}, 40, 40, 60, true, 40},
        {"more than there is", {0, 0}, {0, 0}, 40, 99, 60, true, 40},
        {"whole blocks", {0, 0}, {0, 0}, 48, 32, 60, true, 32},
        {"a part of a block that both hold", {0, 0}, {0, 0}, 40, 20, 60, true, 20},
        {"nothing", {0, 0}, {0, 0}, 40, 0, 60, true, 0},
        {"another window", {4, 1}, {5, 1}, 40, 40, 60, true, 0},
        {"no window after one", {4, 1}, {0, 0}, 40, 40, 60, true, 0},
        {"a window that has slid", {3, 1}, {3, 1}, 64, 64, 80, true, 64},
        {"as far back as nothing slid since", {3, 1}, {3, 1}, 64, 50, 80, true, 50},
        {"further back than that", {3, 1}, {3, 1}, 64, 47, 80, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct kept_kv kept = {0};
        struct kv_blocks blocks;
        struct sequence first;
        struct sequence next;
        int32_t tokens[100];
        kvern_error err = {0};

        assert_int_equal(kv_blocks_init(&blocks, N_BLOCKS, &err), KVERN_OK);
        for (int32_t j = 0; j < 100; j++)
            tokens[j] = j;
        make_run(&first, &blocks, tokens, cases[i].n_first, 7);
        first.window = cases[i].window;
        first.table.n_sinks = cases[i].window.n_sinks;
        for (size_t n = sequence_window_dropped(&first.window, cases[i].n_first); n > 0; n--)
            kv_blocks_slide(&blocks, &first.table);
        kept_kv_put(&kept, &blocks, &first);
        sequence_clear(&first);

        assert_int_equal(kept_kv_fork(&kept, &blocks, 9, 8, 10, &err), KVERN_NOT_FOUND);
        kvern_status status = kept_kv_fork(&kept, &blocks, 7, 8, cases[i].n_forked, &err);
        if ((status == KVERN_OK) != cases[i].is_there)
            fail_msg("%s: %s", cases[i].label, err.message);
        assert_non_null(kept_kv_find(&kept, 7));
        assert_int_equal(sequence_init(&next, tokens, cases[i].n_next, 1, &err), KVERN_OK);
        next.conversation = 8;
        next.window = cases[i].next_window;
        kept_kv_take(&kept, &blocks, &next);
        if (next.n_computed != cases[i].n_cached)
            fail_msg("%s: %zu tokens taken over", cases[i].label, next.n_computed);
        assert_null(kept_kv_find(&kept, 8));
        const struct kv_table *tables[] = {&next.table, &kept_kv_find(&kept, 7)->table};
        if (kv_blocks_check(&blocks, tables, 2, &err) != KVERN_OK)
            fail_msg("%s: %s", cases[i].label, err.message);
        kv_blocks_release(&blocks, &next.table);
        sequence_clear(&next);
        kept_kv_drop(&kept, &blocks, 7);
        assert_int_equal(kv_blocks_available(&blocks), N_BLOCKS);
        kv_blocks_clear(&blocks);
    }
}

static size_t n_freed;

static void count_free(struct kv_values *values)
{
    (void)values;
    n_freed++;
}

/* KV beside the blocks: one reference for each table, and what is rigid goes whole or not at all.
 */
static void values_are_shared_by_reference(void **state)
{
    static const struct {
        bool is_rigid;
        size_t n_forked, n_next, n_cached;
        bool is_there;
    } cases[] = {{false, 40, 60, 40, true}, {false, 25, 60, 25, true}, {false, 40, 30, 29, true},
                 {true, 40, 60, 40, true},  {true, 25, 60, 0, false},  {true, 40, 30, 0, true}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct kv_values values = {
            .n_references = 1, .n_tokens = 40, .is_rigid = cases[i].is_rigid, .free = count_free};
        struct kept_kv kept = {0};
        struct kv_blocks blocks;
        struct sequence first;
        struct sequence next;
        int32_t tokens[100] = {0};
        kvern_error err = {0};

        n_freed = 0;
        assert_int_equal(kv_blocks_init(&blocks, N_BLOCKS, &err), KVERN_OK);
        make_run(&first, &blocks, tokens, 40, 7);
        first.table.values = &values;
        kept_kv_put(&kept, &blocks, &first);
        sequence_clear(&first);
        assert_int_equal(kept_kv_fork(&kept, &blocks, 7, 8, cases[i].n_forked, &err),
                         cases[i].is_there ? KVERN_OK : KVERN_UNSUPPORTED);
        assert_int_equal(values.n_references, 1 + cases[i].is_there);
        assert_int_equal(sequence_init(&next, tokens, cases[i].n_next, 1, &err), KVERN_OK);
        next.conversation = 8;
        kept_kv_take(&kept, &blocks, &next);
        assert_int_equal(next.n_computed, cases[i].n_cached);
        assert_int_equal(values.n_references, 1 + (cases[i].n_cached > 0));
        kept_kv_drop(&kept, &blocks, 7);
        assert_int_equal(n_freed, cases[i].n_cached == 0);
        kv_blocks_release(&blocks, &next.table);
        assert_int_equal(n_freed, 1);
        sequence_clear(&next);
        assert_int_equal(kv_blocks_available(&blocks), N_BLOCKS);
        kv_blocks_clear(&blocks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_common_start_is_taken_over),
        cmocka_unit_test(the_longest_idle_goes_first),
        cmocka_unit_test(idle_conversations_give_way_to_requests),
        cmocka_unit_test(forks_and_windows),
        cmocka_unit_test(values_are_shared_by_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
