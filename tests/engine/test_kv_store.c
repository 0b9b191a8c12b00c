/* SPDX-License-Identifier: Apache-2.0
 *
 * kv_store: the sizes of blocks, and what is left of a block that is cut at a token: the bytes that
 * the kernels write for the tokens before it, and zeros.
 */
#include "test.h"

#include "engine/kv_blocks.h"
#include "engine/kv_store.h"
#include "ops/kernels/kernels.h"

#include <string.h>

static const struct {
    enum kv_type type;
    struct kv_layout layout;
    size_t block_bytes;
} cases[] = {
    {KV_F16, {.n_layers = 3, .n_kv_heads = 2, .head_size = 24, .value_bytes = 2}, 3072},
    {KV_F32, {.n_layers = 3, .n_kv_heads = 2, .head_size = 24, .value_bytes = 4}, 6144},
    {KV_INT8, {.n_layers = 3, .n_kv_heads = 2, .head_size = 24, .value_bytes = 1}, 1792},
    {KV_INT8, {.n_layers = 1, .n_kv_heads = 1, .head_size = 8, .value_bytes = 1}, 384},
};

enum { MAX_BLOCK_BYTES = 6144, MAX_ROW = 3 * 2 * 24, MAX_HEAD = 24 };

static void sizes_are_of_the_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct kv_layout *layout = &cases[i].layout;

        assert_int_equal(kv_layout_block_bytes(layout), cases[i].block_bytes);
        assert_int_equal(kv_layout_bytes_per_block(layout),
                         layout->n_layers * cases[i].block_bytes);
    }
}

/* The first n of 16 random tokens, appended to a block that holds `fill`. */
static void fill_block(size_t index, size_t n, int fill, char *block)
{
    const struct kv_layout *layout = &cases[index].layout;
    const struct attention_shape shape = {.n_heads = layout->n_kv_heads,
                                          .n_kv_heads = layout->n_kv_heads,
                                          .head_size = layout->head_size,
                                          .kv_type = cases[index].type,
                                          .scale = 1.0F};
    float qkv[KV_BLOCK_TOKENS * MAX_ROW];
    float rope[KV_BLOCK_TOKENS * MAX_HEAD];
    int32_t slot_block[KV_BLOCK_TOKENS] = {0};
    int32_t slot_offset[KV_BLOCK_TOKENS];
    uint32_t random = 7;

    for (size_t i = 0; i < COUNT(qkv); i++) {
        random = random * 1664525 + 1013904223;
        qkv[i] = (float)(int32_t)random * 0x1p-31F;
    }
    for (size_t i = 0; i < COUNT(rope); i++)
        rope[i] = 0.7F;
    for (int32_t i = 0; i < KV_BLOCK_TOKENS; i++)
        slot_offset[i] = i;
    memset(block, fill, cases[index].block_bytes);
    attention_portable.append(&shape, qkv, rope, NULL, NULL, 0.0F, slot_block, slot_offset, 0, n,
                              block);
}

static void a_cut_block_holds_its_tokens_and_zeros(void **state)
{
    char cut[MAX_BLOCK_BYTES];
    char want[MAX_BLOCK_BYTES];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (size_t n = 1; n < KV_BLOCK_TOKENS; n++) {
            fill_block(i, n + (KV_BLOCK_TOKENS - n) / 2, 0x55, cut);
            fill_block(i, n, 0, want);
            kv_layout_clear_rest(&cases[i].layout, cut, n);
            for (size_t b = 0; b < cases[i].block_bytes; b++) {
                if (cut[b] != want[b])
                    fail_msg("case %zu, cut at %zu: byte %zu is %d, not %d", i, n, b, cut[b],
                             want[b]);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_of_the_type),
        cmocka_unit_test(a_cut_block_holds_its_tokens_and_zeros),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
