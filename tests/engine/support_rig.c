/* SPDX-License-Identifier: Apache-2.0 */
#include "support_rig.h"

#include "test.h"

void rig_open(struct rig *rig, struct fake_runner *fake, struct engine_limits limits)
{
    static const int32_t stop_id = FAKE_STOP_ID;
    kvern_error err = {0};

    rig->fake = fake;
    limits.checks_blocks = true;
    if (fake->keeps_values)
        fake->runner.kv_copy = NULL;
    if (engine_new(&rig->engine, &fake->runner, &limits, &fake_decoder,
                   (struct stop_ids){&stop_id, 1}, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

void rig_close(struct rig *rig, size_t n_kept)
{
    kvern_engine_stats stats;

    kvern_engine_get_stats(rig->engine, &stats);
    assert_int_equal(stats.n_kv_blocks_used, n_kept);
    assert_int_equal(stats.n_waiting, 0);
    kvern_engine_close(rig->engine);
    assert_true(atomic_load(&rig->fake->is_freed));
    assert_int_equal(atomic_load(&rig->fake->n_values), 0);
    assert_int_equal(atomic_load(&rig->fake->n_bad_reads), 0);
    fake_runner_destroy(rig->fake);
}

kvern_request *rig_submit(const struct rig *rig, const kvern_request_options *options)
{
    kvern_request *request = NULL;
    kvern_error err = {0};

    if (kvern_submit(rig->engine, options, &request, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    return request;
}

size_t rig_finish(kvern_request *request, int32_t *tokens, size_t capacity, kvern_event *last)
{
    size_t n = 0;

    do {
        assert_int_equal(kvern_request_next(request, 20000, last, NULL), KVERN_OK);
        for (size_t i = 0; i < last->n_tokens; i++, n++) {
            if (n < capacity)
                tokens[n] = last->tokens[i];
        }
    } while (last->finish == KVERN_FINISH_NONE);
    return n;
}
