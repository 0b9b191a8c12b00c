/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoder graph, run as it is: last_hidden_state of tiny BERT and RoBERTa checkpoints against
 * torch's, and a text's values the same bits alone and among others.
 */
#include "test.h"

#include "base/file.h"
#include "kvern.h"
#include "model/manifest.h"
#include "ort/session.h"
#include "system/support_files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXTS = 8, MAX_TOKENS = 256, HIDDEN = 32 };

static const char *const checkpoints[] = {"bert-checkpoint", "roberta-checkpoint"};

static char *directory;

static int set_up(void **state)
{
    (void)state;
    directory = make_directory();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(checkpoints); i++) {
        char *path = path_join(directory, checkpoints[i]);

        directory_remove(path, NULL);
        free(path);
    }
    bool is_empty = directory_remove(directory, NULL) == KVERN_OK;
    free(directory);
    return is_empty ? 0 : -1;
}

/* Texts packed one after the other. */
struct packed {
    int64_t ids[MAX_TOKENS];
    int64_t positions[MAX_TOKENS];
    int32_t query_start[MAX_TEXTS + 1];
    size_t n_tokens;
    size_t n_texts;
};

static void add_text(struct packed *packed, const int32_t *ids, size_t n)
{
    assert_in_range(packed->n_texts, 0, MAX_TEXTS - 1);
    for (size_t i = 0; i < n; i++) {
        assert_in_range(packed->n_tokens, 0, MAX_TOKENS - 1);
        packed->ids[packed->n_tokens] = ids[i];
        packed->positions[packed->n_tokens++] = (int64_t)i;
    }
    packed->query_start[++packed->n_texts] = (int32_t)packed->n_tokens;
}

static void run(struct session *session, struct packed *packed, float *hidden)
{
    int64_t n_tokens = (int64_t)packed->n_tokens;
    size_t n_starts = packed->n_texts + 1;
    const struct session_tensor inputs[] = {
        {"input_ids", SESSION_I64, packed->ids, packed->n_tokens * 8, {n_tokens}, 1},
        {"positions", SESSION_I64, packed->positions, packed->n_tokens * 8, {n_tokens}, 1},
        {"query_start", SESSION_I32, packed->query_start, n_starts * 4, {(int64_t)n_starts}, 1},
    };
    const struct session_tensor output = {"last_hidden_state",
                                          SESSION_F32,
                                          hidden,
                                          packed->n_tokens * HIDDEN * sizeof *hidden,
                                          {n_tokens, HIDDEN},
                                          2};
    kvern_error err = {0};

    if (session_run(session, inputs, COUNT(inputs), &output, 1, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

static struct buffer read_golden(const char *checkpoint, const char *name)
{
    char path[1024];

    snprintf(path, sizeof path, "%s/exports/%s/%s", KVERN_GOLDEN_DIR, checkpoint, name);
    return read_whole(path);
}

/* Converts to f32, once. */
static void open_session(struct session *session, const char *checkpoint)
{
    char source[1024];
    char *target = path_join(directory, checkpoint);
    char *graph = path_join(target, MANIFEST_GRAPH_FILE);
    kvern_convert_options options;
    kvern_model *model = NULL;
    kvern_error err = {0};

    snprintf(source, sizeof source, "%s/exports/%s", KVERN_GOLDEN_DIR, checkpoint);
    kvern_convert_options_init(&options);
    options.source = source;
    options.target = target;
    options.weights = "f32";
    if ((!directory_exists(target) && kvern_convert(&options, &err) != KVERN_OK) ||
        kvern_model_open(&model, target, &err) != KVERN_OK ||
        session_open(session, graph, &(struct session_options){.n_threads = 2}, &err) != KVERN_OK)
        fail_msg("%s: %s", checkpoint, err.message);
    kvern_model_close(model);
    free(graph);
    free(target);
}

static void check_checkpoint(const char *checkpoint)
{
    struct buffer lengths = read_golden(checkpoint, "lengths.i32");
    struct buffer ids = read_golden(checkpoint, "ids.i32");
    struct buffer golden = read_golden(checkpoint, "hidden.f32");
    const int32_t *n_tokens = (const int32_t *)(const void *)lengths.data;
    const int32_t *tokens = (const int32_t *)(const void *)ids.data;
    const float *expected = (const float *)(const void *)golden.data; /* [n_tokens, HIDDEN] */
    size_t n_texts = lengths.n_bytes / sizeof *n_tokens;
    size_t first = 0;
    struct packed all = {.n_texts = 0};
    float together[MAX_TOKENS * HIDDEN];
    float range = 0, worst = 0;
    struct session session;

    open_session(&session, checkpoint);
    for (size_t i = 0; i < n_texts; first += (size_t)n_tokens[i++])
        add_text(&all, tokens + first, (size_t)n_tokens[i]);
    run(&session, &all, together);
    assert_int_equal(golden.n_bytes, all.n_tokens * HIDDEN * sizeof *expected);
    for (size_t i = 0; i < all.n_tokens * HIDDEN; i++) {
        range = fmaxf(range, fabsf(expected[i]));
        worst = fmaxf(worst, fabsf(expected[i] - together[i]));
    }
    printf("  %s: range %.3g, largest difference %.3g\n", checkpoint, (double)range, (double)worst);
    if (!(worst <= 1e-4f * range))
        fail_msg("%s differs by %g", checkpoint, (double)worst);

    first = 0;
    for (size_t i = 0; i < n_texts; first += (size_t)n_tokens[i++]) {
        struct packed one = {.n_texts = 0};
        float alone[MAX_TOKENS * HIDDEN];

        add_text(&one, tokens + first, (size_t)n_tokens[i]);
        run(&session, &one, alone);
        assert_memory_equal(alone, together + first * HIDDEN,
                            one.n_tokens * HIDDEN * sizeof *alone);
    }
    session_close(&session);
    buffer_clear(&lengths);
    buffer_clear(&ids);
    buffer_clear(&golden);
}

static void hidden_states_equal_torchs(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(checkpoints); i++)
        check_checkpoint(checkpoints[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hidden_states_equal_torchs)};

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
