/* SPDX-License-Identifier: Apache-2.0
 *
 * Two beams of one prompt in the scheduler: what of their KV goes over to each other, and to whom
 * the prefix cache gives it.
 */
#include "support_scheduling.h"
#include "test.h"

#include "engine/sharing.h"

#include <string.h>

/* One of two beams of a prompt of 32 tokens; the first one runs it. */
static void make_beam(struct sequence *sequence, struct sequence *leader)
{
    make_sequence(sequence, 32, 60, 32);
    sequence->is_beam = true;
    sequence->is_held = leader != NULL;
    sequence->leader = leader;
}

/* Each beam generates a block of tokens of its own. */
static void run_block(struct scheduling *rig, struct sequence *beams, int32_t first_token)
{
    for (int32_t i = 0; i < KV_BLOCK_TOKENS; i++) {
        for (int32_t b = 0; b < 2; b++)
            sequence_append(&beams[b], first_token + 100 * b + i);
        scheduler_plan(&rig->scheduler, &rig->plan);
        assert_int_equal(rig->plan.n_items, 2);
        for (size_t b = 0; b < 2; b++)
            scheduler_advance(&rig->scheduler, &beams[b], 1);
    }
}

/* As beam_group.c has it: the KV goes first, then the tokens. */
static void reorder(struct scheduling *rig, struct sequence *beams, const size_t *parents,
                    struct kv_table *spare)
{
    struct sequence *const both[] = {&beams[0], &beams[1]};
    int32_t tokens[2][100];

    for (size_t b = 0; b < 2; b++)
        memcpy(tokens[b], beams[parents[b]].tokens, beams[b].n_tokens * sizeof(int32_t));
    sharing_reorder(&rig->scheduler, both, parents, spare, 2);
    for (size_t b = 0; b < 2; b++) {
        memcpy(beams[b].tokens, tokens[b], beams[b].n_tokens * sizeof(int32_t));
        beams[b].is_held = false;
    }
}

/* Two, whose prompt of 32 tokens is in the plan. */
static void start_beams(struct scheduling *rig, struct sequence *beams, struct kv_table *spare)
{
    make_beam(&beams[0], NULL);
    make_beam(&beams[1], &beams[0]);
    for (size_t b = 0; b < 2; b++) {
        assert_int_equal(kv_table_init(&spare[b], 6, NULL), KVERN_OK);
        scheduler_add(&rig->scheduler, &beams[b]);
    }
    scheduler_plan(&rig->scheduler, &rig->plan);
}

/* What a beam has computed since it went on from another one is remembered behind the other one's
 * tokens, and nowhere else. */
static void beams_are_remembered_by_their_tokens(void **state)
{
    static const struct {
        int32_t block; /* the first token behind the prompt, of the prompt that comes after */
        int32_t second_block;
        size_t n_cached;
    } cases[] = {{200, 300, 64}, {200, 400, 64}, {100, 300, 48}, {100, 400, 48}};
    struct sequence beams[2];
    struct kv_table spare[2] = {{0}};
    struct scheduling rig;

    (void)state;
    scheduling_open(&rig, 40, 4);
    start_beams(&rig, beams, spare);
    assert_int_equal(rig.plan.n_items, 1);
    scheduler_advance(&rig.scheduler, &beams[0], 32);
    reorder(&rig, beams, (const size_t[]){0, 0}, spare);
    run_block(&rig, beams, 100);
    reorder(&rig, beams, (const size_t[]){1, 1}, spare);
    assert_int_equal(beams[0].table.blocks[2], beams[1].table.blocks[2]);
    run_block(&rig, beams, 300);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sequence after;
        int32_t tokens[65] = {0};

        memcpy(tokens, beams[0].tokens, 32 * sizeof *tokens);
        for (int32_t t = 0; t < KV_BLOCK_TOKENS; t++) {
            tokens[32 + t] = cases[i].block + t;
            tokens[48 + t] = cases[i].second_block + t;
        }
        assert_int_equal(sequence_init(&after, tokens, 65, 1, NULL), KVERN_OK);
        scheduler_add(&rig.scheduler, &after);
        scheduler_plan(&rig.scheduler, &rig.plan);
        if (after.n_cached != cases[i].n_cached)
            fail_msg("%d, %d: %zu tokens", cases[i].block, cases[i].second_block, after.n_cached);
        scheduling_finish(&rig, &after);
    }
    for (size_t b = 0; b < 2; b++) {
        scheduling_finish(&rig, &beams[b]);
        kv_table_clear(&spare[b]);
    }
    scheduling_close(&rig);
}

/* A beam that gave its blocks back, and is chosen to go on from one that did not. */
static void a_preempted_beam_takes_no_kv(void **state)
{
    struct sequence beams[2], other;
    struct kv_table spare[2] = {{0}};
    struct scheduling rig;

    (void)state;
    scheduling_open(&rig, 40, 2);
    start_beams(&rig, beams, spare);
    scheduler_advance(&rig.scheduler, &beams[0], 32);
    reorder(&rig, beams, (const size_t[]){0, 0}, spare);
    run_block(&rig, beams, 100);
    make_sequence(&other, 20, 5, 0);
    other.priority = 1;
    scheduler_add(&rig.scheduler, &other);
    beams[0].is_held = beams[1].is_held = true;
    scheduler_plan(&rig.scheduler, &rig.plan); /* there are two places */
    assert_int_equal(beams[1].state, SEQUENCE_WAITING);
    scheduler_remove(&rig.scheduler, &other);
    sequence_clear(&other);
    reorder(&rig, beams, (const size_t[]){0, 0}, spare);
    assert_int_equal(beams[1].n_computed, 0);
    assert_int_equal(beams[1].table.n_blocks, 0);
    assert_int_equal(beams[0].n_computed, 48);
    sequence_append(&beams[0], 5);
    sequence_append(&beams[1], 6);
    scheduling_step(&rig);
    assert_int_equal(beams[1].n_computed, 49); /* 48 of them out of the prefix cache */
    assert_int_equal(beams[0].n_computed, 49);
    for (size_t b = 0; b < 2; b++) {
        scheduling_finish(&rig, &beams[b]);
        kv_table_clear(&spare[b]);
    }
    scheduling_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beams_are_remembered_by_their_tokens),
        cmocka_unit_test(a_preempted_beam_takes_no_kv),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
