/* SPDX-License-Identifier: Apache-2.0
 *
 * Conversations over the fake runner, whose logits show every wrong KV slot: KV taken over, slid,
 * taken out, put back, forked and cut, in the blocks and beside them.
 */
#include "support_rig.h"

#include "test.h"

#include "engine/kv_image.h"

#include <string.h>

enum { N_TEXT = 150, N_BLOCKS = 40 };

static int32_t text[N_TEXT];

static int fill_text(void **state)
{
    (void)state;
    for (int32_t i = 0; i < N_TEXT; i++)
        text[i] = (i * 37 + i * i) % 256;
    return 0;
}

static const struct kind {
    const char *name;
    bool keeps_values, is_rigid;
} kinds[] = {
    {"in blocks", false, false}, {"beside them", true, false}, {"on a device", true, true}};

static struct rig open_kind(const struct kind *kind, size_t n_blocks)
{
    struct fake_runner *fake = fake_runner_new(n_blocks);
    struct rig rig;

    fake->keeps_values = kind->keeps_values;
    fake->is_rigid = kind->is_rigid;
    rig_open(&rig, fake,
             (struct engine_limits){
                 .max_sequences = 4, .prefill_chunk = 24, .has_no_prefix_cache = true});
    return rig;
}

static const struct sequence_window no_window;

/* What a window of the text holds when n tokens are computed. */
static size_t held(const struct sequence_window *window, size_t n, int32_t *history)
{
    size_t n_sinks = window->n_sinks * KV_BLOCK_TOKENS;
    size_t n_dropped = sequence_window_dropped(window, n) * KV_BLOCK_TOKENS;

    if (n_dropped == 0) {
        memcpy(history, text, n * sizeof *text);
        return n;
    }
    memcpy(history, text, n_sinks * sizeof *text);
    memcpy(history + n_sinks, text + n_sinks + n_dropped, (n - n_sinks - n_dropped) * sizeof *text);
    return n - n_dropped;
}

/* Embeds the first n tokens of the text as the conversation's next request, checks the vector, and
 * gives how many tokens were not run. */
static size_t embed(const struct rig *rig, uint64_t conversation,
                    const struct sequence_window *window, size_t n)
{
    int32_t history[N_TEXT];
    float expected[FAKE_HIDDEN];
    kvern_request_options options;
    kvern_event last;
    size_t n_cached;

    kvern_request_options_init(&options);
    options.prompt = text;
    options.n_prompt = n;
    options.embed = true;
    options.conversation = conversation;
    options.window = (int32_t)((window->n_blocks - window->n_sinks) * KV_BLOCK_TOKENS);
    options.sink_tokens = (int32_t)(window->n_sinks * KV_BLOCK_TOKENS);
    fake_hidden(history, held(window, n, history), expected);
    kvern_request *request = rig_submit(rig, &options);
    rig_finish(request, NULL, 0, &last);
    assert_int_equal(last.finish, KVERN_FINISH_STOP);
    if (memcmp(last.embedding, expected, sizeof expected) != 0)
        fail_msg("%zu tokens: another vector", n);
    n_cached = last.n_cached_tokens;
    kvern_request_free(request);
    return n_cached;
}

static void a_conversation_runs_only_what_is_new(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        struct rig rig = open_kind(&kinds[k], N_BLOCKS);

        assert_int_equal(embed(&rig, 1, &no_window, 50), 0);
        assert_int_equal(embed(&rig, 2, &no_window, 50), 0);
        assert_int_equal(embed(&rig, 1, &no_window, 120), 50);
        /* going back cuts it; what cannot be cut runs again */
        assert_int_equal(embed(&rig, 1, &no_window, 70), kinds[k].is_rigid ? 0 : 69);
        assert_int_equal(embed(&rig, 1, &no_window, 71), 70);
        /* with another window nothing is taken over */
        assert_int_equal(embed(&rig, 1, &(struct sequence_window){3, 1}, 40), 0);
        assert_int_equal(embed(&rig, 1, &no_window, 60), 0);
        kv_image_drop(rig.engine, 1);
        rig_close(&rig, 4);
    }
}

/* KV that is the runner's must be gone before the runner is: engines close while conversations are
 * kept. */
static void an_engine_closes_with_conversations_kept(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        struct rig rig = open_kind(&kinds[k], N_BLOCKS);

        for (uint64_t i = 1; i <= 5; i++)
            embed(&rig, i, &no_window, 20);
        assert_int_equal(atomic_load(&rig.fake->n_values), kinds[k].keeps_values ? 5 : 0);
        rig_close(&rig, 10);
    }
}

static void windows_slide_by_position(void **state)
{
    static const struct sequence_window windows[] = {{2, 0}, {3, 1}, {5, 2}, {4, 0}};
    static const size_t cuts[][8] = {{N_TEXT}, {31, 32, 33, 64, 65, N_TEXT}, {100, 101, N_TEXT}};

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        for (size_t w = 0; w < COUNT(windows); w++) {
            struct rig rig = open_kind(&kinds[k], 6);
            size_t n_kept = 0;

            for (size_t c = 0; c < COUNT(cuts); c++) {
                size_t n_before = 0;

                kv_image_drop(rig.engine, 1);
                for (size_t i = 0; n_before < N_TEXT; i++) {
                    assert_int_equal(embed(&rig, 1, &windows[w], cuts[c][i]), n_before);
                    n_before = cuts[c][i];
                }
                n_kept = windows[w].n_blocks;
            }
            rig_close(&rig, n_kept);
        }
    }
}

static void images_go_out_and_in(void **state)
{
    static const struct sequence_window windows[] = {{0, 0}, {3, 1}};

    (void)state;
    for (size_t i = 0; i < 2 * COUNT(windows); i++) {
        const struct sequence_window *window = &windows[i / 2];
        struct rig rig = open_kind(&kinds[i % 2], N_BLOCKS);
        struct rig other = open_kind(&kinds[i % 2], N_BLOCKS);
        struct kv_image image = {0};
        kvern_error err = {0};

        /* of a conversation there is none of */
        assert_int_equal(kv_image_take(&image, rig.engine, 9, text, 100, &err), KVERN_OK);
        assert_int_equal(image.n_tokens, 0);
        embed(&rig, 1, window, 100);
        assert_int_equal(kv_image_take(&image, rig.engine, 1, text, 100, &err), KVERN_OK);
        assert_int_equal(image.n_tokens, 100);
        assert_int_equal(image.n_bytes, (window->n_blocks ? 36 : 100) * sizeof(int32_t));
        assert_int_equal(kv_image_put(&image, other.engine, 4, text, &err), KVERN_OK);
        assert_int_equal(embed(&other, 4, window, 120), 100);
        image.n_bytes--;
        assert_int_equal(kv_image_put(&image, other.engine, 4, text, &err), KVERN_FORMAT);
        image.n_bytes++;
        kv_image_clear(&image);

        /* tokens of which the conversation has the first ones only: those, if none slid out */
        int32_t edited[100];
        memcpy(edited, text, sizeof edited);
        edited[60]++;
        assert_int_equal(kv_image_take(&image, rig.engine, 1, edited, 100, &err), KVERN_OK);
        assert_int_equal(image.n_tokens, window->n_blocks ? 0 : 60);
        kv_image_clear(&image);
        edited[0]++;
        assert_int_equal(kv_image_take(&image, rig.engine, 1, edited, 100, &err), KVERN_OK);
        assert_int_equal(image.n_tokens, 0);
        kv_image_clear(&image);
        kv_image_drop(rig.engine, 1);
        kv_image_drop(other.engine, 4);
        rig_close(&rig, 0);
        rig_close(&other, 0);
    }
}

/* An image that the engine has no room for is left; idle conversations give way to one it has. */
static void an_image_takes_the_room_of_the_idle(void **state)
{
    struct rig rig = open_kind(&kinds[0], N_BLOCKS);
    struct rig small = open_kind(&kinds[0], 5);
    struct kv_image image = {0};
    kvern_error err = {0};

    (void)state;
    embed(&rig, 1, &no_window, 100);
    assert_int_equal(kv_image_take(&image, rig.engine, 1, text, 100, &err), KVERN_OK);
    assert_int_equal(kv_image_put(&image, small.engine, 1, text, &err), KVERN_OK);
    kv_image_clear(&image);
    kv_image_cut(rig.engine, 1, 70);
    assert_int_equal(kv_image_take(&image, rig.engine, 1, text, 100, &err), KVERN_OK);
    assert_int_equal(image.n_tokens, 70);
    embed(&small, 2, &no_window, 20);
    assert_int_equal(kv_image_put(&image, small.engine, 3, text, &err), KVERN_OK);
    kv_image_clear(&image);
    assert_int_equal(embed(&small, 3, &no_window, 80), 70);
    assert_int_equal(embed(&small, 2, &no_window, 20), 0);
    kv_image_drop(small.engine, 2);
    rig_close(&small, 0);
    rig_close(&rig, 5); /* the blocks after the cut were given back */
}

static void forks_go_their_own_ways(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        struct rig rig = open_kind(&kinds[k], N_BLOCKS);
        const bool is_rigid = kinds[k].is_rigid;

        embed(&rig, 1, &no_window, 40);
        kv_image_fork(rig.engine, 1, 2, 40);
        kv_image_fork(rig.engine, 1, 3, 30); /* what is rigid is not shared in part */
        kv_image_fork(rig.engine, 8, 4, 30);
        /* the shared block that is not full: who writes to it has a copy */
        assert_int_equal(embed(&rig, 2, &no_window, 90), 40);
        text[35]++;
        assert_int_equal(embed(&rig, 1, &no_window, 60), is_rigid ? 0 : 35);
        text[35]--;
        assert_int_equal(embed(&rig, 2, &no_window, 91), 90);
        assert_int_equal(embed(&rig, 3, &no_window, 50), is_rigid ? 0 : 30);
        for (uint64_t i = 1; i <= 4; i++)
            kv_image_drop(rig.engine, i);
        rig_close(&rig, 0);
    }
}

/* Forks share memory while they are kept; what one of them runs makes KV beside the blocks anew,
 * whole, and the count of blocks knows. */
static void blocks_count_what_forks_take(void **state)
{
    static const struct sequence_window windows[] = {{0, 0}, {4, 1}};

    (void)state;
    for (size_t i = 0; i < 2 * COUNT(windows); i++) {
        const struct kind *kind = &kinds[i % 2];
        const struct sequence_window *window = &windows[i / 2];
        struct rig rig = open_kind(kind, N_BLOCKS);
        kvern_engine_stats stats;

        embed(&rig, 1, window, 64);
        kv_image_fork(rig.engine, 1, 2, 64);
        kv_image_fork(rig.engine, 1, 3, 64);
        kvern_engine_get_stats(rig.engine, &stats);
        assert_int_equal(stats.n_kv_blocks_used, 4);
        assert_int_equal(embed(&rig, 2, window, 70), 64);
        assert_int_equal(embed(&rig, 3, window, 80), 64);
        kvern_engine_get_stats(rig.engine, &stats);
        if (kind->keeps_values)
            assert_int_equal(stats.n_kv_blocks_used, window->n_blocks ? 12 : 14);
        else /* the first 4 (a window has lost one) and a new one for each */
            assert_int_equal(stats.n_kv_blocks_used, 6);
        assert_int_equal(embed(&rig, 1, window, 66), 64);
        for (uint64_t conversation = 1; conversation <= 3; conversation++)
            kv_image_drop(rig.engine, conversation);
        rig_close(&rig, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_runs_only_what_is_new),
        cmocka_unit_test(an_engine_closes_with_conversations_kept),
        cmocka_unit_test(windows_slide_by_position),
        cmocka_unit_test(images_go_out_and_in),
        cmocka_unit_test(an_image_takes_the_room_of_the_idle),
        cmocka_unit_test(forks_go_their_own_ways),
        cmocka_unit_test(blocks_count_what_forks_take),
    };

    return cmocka_run_group_tests(tests, fill_text, NULL);
}
