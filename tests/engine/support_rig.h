/* SPDX-License-Identifier: Apache-2.0
 *
 * An engine over the fake runner, opened and closed with checks, and requests run to their end.
 */
#ifndef KVERN_TESTS_SUPPORT_RIG_H
#define KVERN_TESTS_SUPPORT_RIG_H

#include "support_fake_runner.h"

struct rig {
    struct fake_runner *fake;
    kvern_engine *engine;
};

/* Takes the fake over, which a test may have set up. Block tables are checked after every step. */
void rig_open(struct rig *rig, struct fake_runner *fake, struct engine_limits limits);
/* n_kept: blocks that conversations still hold. No read was bad, and nothing outlives the runner.
 */
void rig_close(struct rig *rig, size_t n_kept);
/* Submits; refusal fails the test. */
kvern_request *rig_submit(const struct rig *rig, const kvern_request_options *options);
/* Waits for the last event, which is valid until the request is freed. Tokens generated go to
 * `tokens` [capacity] (may be NULL); gives their number. */
size_t rig_finish(kvern_request *request, int32_t *tokens, size_t capacity, kvern_event *last);

#endif
