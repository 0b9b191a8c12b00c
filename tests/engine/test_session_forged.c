/* SPDX-License-Identifier: Apache-2.0
 *
 * Session files that somebody made up: their checksum is right, what they say is not. Restoring one
 * is an error that says why, or gives a session that can be used; the engine goes on either way.
 */
#include "support_rig.h"

#include "test.h"

#include "base/buffer.h"
#include "base/file.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Where the header's fields are; see session_file.c. */
enum {
    VERSION = 8,
    N_MARKS = 12,
    FINGERPRINT = 16,
    KV_KIND = 32,
    POLICY = 96,
    WINDOW = 100,
    SINKS = 104,
    POOLING = 108,
    NORMALIZE = 112,
    DIMENSIONS = 116,
    N_VALUES = 120,
    N_TOKENS = 128,
    N_KV_TOKENS = 136,
    N_KV_DROPPED = 144,
    N_KV_BYTES = 152,
    HEADER_BYTES = 160,
};

enum { N_FIRST = 30, N_SAVED = 75, N_TEXT = 90, CHECKSUM_BYTES = 16 };

static int32_t text[N_TEXT];
static char path[] = "/tmp/kvern-test-XXXXXX";
static struct kvern_model model;
static struct buffer good[2]; /* without and with a window that slides */

static struct rig open_rig(void)
{
    struct rig rig;

    rig_open(&rig, fake_runner_new(40), (struct engine_limits){.kv_kind = "fake"});
    return rig;
}

/* KV that is made up may read badly; only the engine's own memory is looked at. */
static void close_rig(struct rig *rig)
{
    kvern_engine_close(rig->engine);
    fake_runner_destroy(rig->fake);
}

static void append(kvern_session *session, size_t begin, size_t end, kvern_session_answer *answer)
{
    kvern_error err = {0};

    if (kvern_session_append(session, text + begin, end - begin, answer, &err) != KVERN_OK)
        fail_msg("%s", err.message);
}

static struct buffer save(const kvern_session_options *options)
{
    struct rig rig = open_rig();
    kvern_session *session = NULL;
    kvern_session_answer answer;
    struct buffer whole = {0};
    kvern_error err = {0};

    if (kvern_session_new(&session, rig.engine, &model, options, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    append(session, 0, N_FIRST, &answer);
    append(session, N_FIRST, N_SAVED, &answer);
    if (kvern_session_save(session, path, &err) != KVERN_OK ||
        file_read(path, 1 << 20, &whole.data, &whole.n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    kvern_session_free(session);
    close_rig(&rig);
    return whole;
}

static int save_good_ones(void **state)
{
    const kvern_session_options sliding = {
        .policy = KVERN_WINDOW_SLIDING, .window = 32, .sink_tokens = 16, .normalize = -1};
    int file = mkstemp(path);

    (void)state;
    assert_true(file >= 0);
    close(file);
    for (int32_t i = 0; i < N_TEXT; i++)
        text[i] = (i * 37 + 11) % 256;
    model.manifest.config.vocab_size = FAKE_VOCAB;
    snprintf(model.manifest.contract, sizeof model.manifest.contract, "paged");
    snprintf(model.manifest.name, sizeof model.manifest.name, "fake");
    good[0] = save(NULL);
    good[1] = save(&sliding);
    return 0;
}

static int free_good_ones(void **state)
{
    (void)state;
    buffer_clear(&good[0]);
    buffer_clear(&good[1]);
    return unlink(path);
}

/* Writes `bytes` with the checksum that they should have. */
static void write_forged(const char *bytes, size_t n_bytes)
{
    size_t n_hashed = n_bytes < CHECKSUM_BYTES ? 0 : n_bytes - CHECKSUM_BYTES;
    XXH128_canonical_t sum;
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    XXH128_canonicalFromHash(&sum, XXH3_128bits(bytes, n_hashed));
    assert_int_equal(fwrite(bytes, 1, n_hashed, file), n_hashed);
    if (n_bytes >= CHECKSUM_BYTES)
        assert_int_equal(fwrite(&sum, 1, sizeof sum, file), sizeof sum);
    assert_int_equal(fclose(file), 0);
}

/* Everything a session can do; each may be refused, with a reason. */
static void use(kvern_session *session)
{
    kvern_session_answer answer;
    kvern_session_info info;
    kvern_session *fork = NULL;
    size_t n_tokens = 0;

    for (int i = 0; i < 2; i++) {
        kvern_error err = {0};
        kvern_status status = kvern_session_append(session, text, 20, &answer, &err);

        if (status != KVERN_OK && !*err.message)
            fail_msg("no reason for %s", kvern_status_name(status));
        if (status == KVERN_OK && answer.has_drift)
            assert_true(isfinite(answer.drift));
    }
    kvern_session_get_info(session, &info);
    kvern_session_tokens(session, &n_tokens);
    assert_int_equal(n_tokens, info.position);
    assert_int_equal(kvern_session_fork(session, &fork, NULL), KVERN_OK);
    kvern_session_append(fork, text, 3, &answer, NULL);
    kvern_session_free(fork);
    assert_int_equal(kvern_session_rewind(session, n_tokens / 2, NULL), KVERN_OK);
    kvern_session_append(session, text, 3, &answer, NULL);
    assert_int_equal(kvern_session_save(session, path, NULL), KVERN_OK);
    kvern_session_reset(session);
    kvern_session_append(session, text, 1, &answer, NULL);
}

/* Restores what write_forged() wrote, uses it if it can be had, and gives the status. */
static kvern_status restore(struct rig *rig, kvern_error *err)
{
    kvern_session *session = NULL;
    kvern_status status = kvern_session_restore(&session, rig->engine, &model, path, err);

    if (status == KVERN_OK)
        use(session);
    else
        assert_true(strlen(err->message) > 10);
    kvern_session_free(session);
    return status;
}

/* The good one comes back and goes on as ever. */
static void check_engine(struct rig *rig, const struct buffer *whole)
{
    kvern_session *session = NULL;
    kvern_session_answer answer;
    kvern_engine_stats stats;
    kvern_error err = {0};

    write_forged(whole->data, whole->n_bytes);
    if (kvern_session_restore(&session, rig->engine, &model, path, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    append(session, N_SAVED, N_TEXT, &answer);
    assert_int_equal(answer.n_run, N_TEXT - N_SAVED);
    kvern_session_free(session);
    kvern_engine_get_stats(rig->engine, &stats);
    assert_int_equal(stats.n_kv_blocks_used, 0);
}

static const struct {
    const char *name;
    size_t at, n_bytes;
} fields[] = {
    {"version", VERSION, 4},         {"n_marks", N_MARKS, 4},
    {"fingerprint", FINGERPRINT, 8}, {"kv_kind", KV_KIND, 8},
    {"policy", POLICY, 4},           {"window", WINDOW, 4},
    {"sink_tokens", SINKS, 4},       {"pooling", POOLING, 4},
    {"normalize", NORMALIZE, 4},     {"dimensions", DIMENSIONS, 4},
    {"n_values", N_VALUES, 8},       {"n_tokens", N_TOKENS, 8},
    {"n_kv_tokens", N_KV_TOKENS, 8}, {"n_kv_dropped", N_KV_DROPPED, 8},
    {"n_kv_bytes", N_KV_BYTES, 8},
};

static const uint64_t values[] = {0,
                                  1,
                                  2,
                                  3,
                                  4,
                                  16,
                                  31,
                                  33,
                                  64,
                                  74,
                                  76,
                                  255,
                                  4096,
                                  1 << 20,
                                  (1 << 20) + 1,
                                  1 << 28,
                                  (1 << 28) + 1,
                                  INT32_MAX,
                                  (uint64_t)INT32_MAX + 1,
                                  UINT32_MAX,
                                  UINT64_C(1) << 32,
                                  UINT64_C(1) << 60,
                                  UINT64_C(1) << 62,
                                  INT64_MAX,
                                  UINT64_C(1) << 63,
                                  UINT64_MAX - 15,
                                  UINT64_MAX};

static void every_field_of_the_header(void **state)
{
    struct rig rig = open_rig();
    size_t n_refused = 0;

    (void)state;
    for (size_t g = 0; g < COUNT(good); g++) {
        char *copy = malloc(good[g].n_bytes);

        assert_non_null(copy);
        for (size_t f = 0; f < COUNT(fields); f++) {
            for (size_t v = 0; v < COUNT(values); v++) {
                kvern_error err = {0};

                memcpy(copy, good[g].data, good[g].n_bytes);
                memcpy(copy + fields[f].at, &values[v], fields[f].n_bytes);
                write_forged(copy, good[g].n_bytes);
                n_refused += restore(&rig, &err) != KVERN_OK;
            }
            check_engine(&rig, &good[g]);
        }
        free(copy);
    }
    printf("  %zu refused of %zu\n", n_refused, COUNT(good) * COUNT(fields) * COUNT(values));
    assert_true(n_refused > COUNT(fields) * COUNT(values));
    close_rig(&rig);
}

/* Places in the body of good[0]: its tokens, then two marks of a position and FAKE_HIDDEN values.
 */
static void what_is_said_of_it(void **state)
{
    enum {
        TOKENS = HEADER_BYTES,
        MARKS = TOKENS + N_SAVED * 4,
        MARK_BYTES = 8 + FAKE_HIDDEN * 4,
    };
    static const int32_t vocab = FAKE_VOCAB, minus = -1;
    static const uint64_t later = N_SAVED + 1, earlier = N_FIRST - 1, huge = UINT64_MAX, odd = 47;
    static const float nan = NAN, infinite = INFINITY;
    static const struct {
        const char *label;
        size_t at;
        const void *bytes;
        size_t n_bytes;
        kvern_status status;
        const char *names;
    } cases[] = {
        {"another magic", 0, "kvernsex", 8, KVERN_FORMAT, "no session of kvern"},
        {"another version", VERSION, "\x02", 1, KVERN_UNSUPPORTED, "version 2"},
        {"another model", FINGERPRINT, "x", 1, KVERN_UNSUPPORTED, "another model"},
        {"KV of another machine", KV_KIND, "x", 1, KVERN_OK, ""},
        {"a token past the vocabulary", TOKENS, &vocab, 4, KVERN_FORMAT, "vocabulary"},
        {"a negative token", TOKENS + (N_SAVED - 1) * 4, &minus, 4, KVERN_FORMAT, "vocabulary"},
        {"a mark past the end", MARKS + MARK_BYTES, &later, 8, KVERN_FORMAT, "not in order"},
        {"marks out of order", MARKS + MARK_BYTES, &earlier, 8, KVERN_FORMAT, "not in order"},
        {"a mark nowhere", MARKS, &huge, 8, KVERN_FORMAT, "not in order"},
        {"a vector that is none", MARKS + 8, &nan, 4, KVERN_FORMAT, "not finite"},
        {"an infinite vector", MARKS + MARK_BYTES + 12, &infinite, 4, KVERN_FORMAT, "not finite"},
        {"KV of fewer tokens than bytes", N_KV_TOKENS, &odd, 8, KVERN_FORMAT, "should have"},
        {"a window nobody has", N_KV_DROPPED, "\x01", 1, KVERN_FORMAT, "window"},
        {"a policy there is not", POLICY, "\x07", 1, KVERN_INVALID, "policy 7"},
        {"a pooling of all tokens", POOLING, "\x02", 1, KVERN_UNSUPPORTED, "mean"},
        {"a pooling there is not", POOLING, "\x63", 1, KVERN_UNSUPPORTED, "pooling"},
    };
    struct rig rig = open_rig();

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *copy = malloc(good[0].n_bytes);
        kvern_error err = {0};

        assert_non_null(copy);
        memcpy(copy, good[0].data, good[0].n_bytes);
        memcpy(copy + cases[i].at, cases[i].bytes, cases[i].n_bytes);
        write_forged(copy, good[0].n_bytes);
        kvern_status status = restore(&rig, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].names))
            fail_msg("%s: %s (%s)", cases[i].label, err.message, kvern_status_name(status));
        check_engine(&rig, &good[0]);
        free(copy);
    }
    close_rig(&rig);
}

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

/* Moves the border between what is said to be tokens and KV, so that sizes still add up. */
static void move_border(char *bytes, uint64_t n)
{
    uint64_t n_tokens;
    uint64_t n_kv_bytes;

    memcpy(&n_tokens, bytes + N_TOKENS, sizeof n_tokens);
    memcpy(&n_kv_bytes, bytes + N_KV_BYTES, sizeof n_kv_bytes);
    n_tokens += n;
    n_kv_bytes -= 4 * n;
    memcpy(bytes + N_TOKENS, &n_tokens, sizeof n_tokens);
    memcpy(bytes + N_KV_BYTES, &n_kv_bytes, sizeof n_kv_bytes);
    n_kv_bytes /= 4;
    memcpy(bytes + N_KV_TOKENS, &n_kv_bytes, sizeof n_kv_bytes);
}

/* Bits anywhere, most of them in the header, and cuts: the checksum always fits. */
static void random_changes(void **state)
{
    struct rig rig = open_rig();
    uint64_t random = 5;
    size_t n_restored = 0;

    (void)state;
    for (size_t i = 0; i < 3000; i++) {
        const struct buffer *whole = &good[i % 2];
        size_t n_bytes = i % 5 == 4 ? next_random(&random) % whole->n_bytes : whole->n_bytes;
        char *copy = malloc(whole->n_bytes);
        kvern_error err = {0};

        assert_non_null(copy);
        memcpy(copy, whole->data, whole->n_bytes);
        for (size_t j = next_random(&random) % 3; j < 3; j++) {
            size_t bound = next_random(&random) % 2 ? HEADER_BYTES : whole->n_bytes;

            copy[next_random(&random) % bound] ^= (char)(1u << next_random(&random) % 8);
        }
        /* most flips hit the model's fingerprint or the magic, which refuse at once */
        memcpy(copy, whole->data, N_MARKS);
        memcpy(copy + FINGERPRINT, whole->data + FINGERPRINT, KV_KIND - FINGERPRINT);
        if (i % 7 == 0)
            move_border(copy, next_random(&random) % 20);
        write_forged(copy, n_bytes);
        n_restored += restore(&rig, &err) == KVERN_OK;
        free(copy);
        if (i % 100 == 0)
            check_engine(&rig, whole);
    }
    printf("  %zu of 3000 could be restored\n", n_restored);
    assert_in_range(n_restored, 100, 2500);
    close_rig(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_of_the_header),
        cmocka_unit_test(what_is_said_of_it),
        cmocka_unit_test(random_changes),
    };

    return cmocka_run_group_tests(tests, save_good_ones, free_good_ones);
}
