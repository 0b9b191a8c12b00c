/* SPDX-License-Identifier: Apache-2.0
 *
 * Sampling fields of a request: every value out of its range is refused in a sentence that names
 * the field, the value and the range; what is right is copied.
 */
#include "engine/sampling.h"

#include "engine/beam.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 300 };

static void ignore_logits(const float *logits, size_t vocab_size, size_t position, void *user_data)
{
    (void)logits;
    (void)vocab_size;
    (void)position;
    (void)user_data;
}

static kvern_request_options options_of(void)
{
    kvern_request_options options;

    kvern_request_options_init(&options);
    return options;
}

static void numbers_are_refused(void **state)
{
    static const struct {
        size_t offset;
        float value;
        const char *message;
    } cases[] = {
#define FIELD(name) offsetof(kvern_sampling, name)
        {FIELD(temperature), -1, "temperature is -1; it must be from 0 to 100"},
        {FIELD(temperature), NAN, "temperature is nan; it must be from 0 to 100"},
        {FIELD(temperature), INFINITY, "temperature is inf; it must be from 0 to 100"},
        {FIELD(top_p), 0, "top_p is 0; it must be over 0 and at most 1"},
        {FIELD(top_p), 1.5F, "top_p is 1.5; it must be over 0 and at most 1"},
        {FIELD(top_p), NAN, "top_p is nan; it must be over 0 and at most 1"},
        {FIELD(min_p), 1.5F, "min_p is 1.5; it must be from 0 to 1"},
        {FIELD(min_p), -.5F, "min_p is -0.5; it must be from 0 to 1"},
        {FIELD(typical_p), 0, "typical_p is 0; it must be over 0 and at most 1"},
        {FIELD(typical_p), 2, "typical_p is 2; it must be over 0 and at most 1"},
        {FIELD(typical_p), -INFINITY, "typical_p is -inf; it must be over 0 and at most 1"},
        {FIELD(repetition_penalty), 0,
         "repetition_penalty is 0; it must be over 0 and at most 100"},
        {FIELD(repetition_penalty), 101,
         "repetition_penalty is 101; it must be over 0 and at most 100"},
        {FIELD(presence_penalty), -2.5F, "presence_penalty is -2.5; it must be from -2 to 2"},
        {FIELD(presence_penalty), NAN, "presence_penalty is nan; it must be from -2 to 2"},
        {FIELD(frequency_penalty), 2.5F, "frequency_penalty is 2.5; it must be from -2 to 2"},
        {FIELD(frequency_penalty), -INFINITY, "frequency_penalty is -inf; it must be from -2 to 2"},
#undef FIELD
    };
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_request_options options = options_of();
        kvern_sampling out = {.seed = 7};
        kvern_error err = {0};

        memcpy((char *)&options.sampling + cases[i].offset, &cases[i].value, sizeof(float));
        assert_int_equal(sampling_init(&out, &options.sampling, VOCAB, &err), KVERN_INVALID);
        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(out.seed, 7);
    }
    kvern_request_options options = options_of();
    kvern_sampling out;
    kvern_error err = {0};
    options.sampling.top_k = -1;
    assert_int_equal(sampling_init(&out, &options.sampling, VOCAB, &err), KVERN_INVALID);
    assert_string_equal(err.message, "top_k is -1; it must be 0 (off) or more");
}

static void ends_of_ranges_are_taken(void **state)
{
    static const kvern_sampling cases[] = {
        {.temperature = 100, .top_p = 1e-6F, .min_p = 1, .typical_p = 1e-6F},
        {.temperature = 0, .top_p = 1, .min_p = 0, .typical_p = 1},
    };
    static const float penalties[] = {-2, 2};
    (void)state;

    for (size_t i = 0; i < 2; i++) {
        kvern_sampling sampling = cases[i];
        kvern_sampling out;

        sampling.repetition_penalty = i ? 100 : 1e-3F;
        sampling.presence_penalty = penalties[i];
        sampling.frequency_penalty = penalties[i];
        sampling.top_k = i ? INT32_MAX : 0;
        assert_int_equal(sampling_init(&out, &sampling, VOCAB, NULL), KVERN_OK);
        assert_memory_equal(&out, &sampling, sizeof out);
        sampling_clear(&out);
    }
}

static void biases(void **state)
{
    static const struct {
        kvern_logit_bias bias[3];
        const char *message; /* NULL: taken */
    } cases[] = {
        {{{1, 100}, {299, -100}, {0, 0}}, NULL},
        {{{-1, 1}, {2, 1}, {3, 1}}, "logit_bias has token -1; the vocabulary has 300"},
        {{{1, 1}, {300, 1}, {3, 1}}, "logit_bias has token 300; the vocabulary has 300"},
        {{{1, 1}, {2, 100.5F}, {3, 1}},
         "logit_bias of token 2 is 100.5; it must be from -100 to 100"},
        {{{1, NAN}, {2, 1}, {3, 1}}, "logit_bias of token 1 is nan; it must be from -100 to 100"},
        {{{1, 1}, {2, 1}, {3, -INFINITY}},
         "logit_bias of token 3 is -inf; it must be from -100 to 100"},
        {{{7, 1}, {2, 1}, {7, 2}}, "logit_bias has token 7 more than once"},
    };
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_request_options options = options_of();
        kvern_sampling out = {0};
        kvern_error err = {0};

        options.sampling.logit_bias = cases[i].bias;
        options.sampling.n_logit_bias = 3;
        kvern_status status = sampling_init(&out, &options.sampling, VOCAB, &err);
        assert_int_equal(status, cases[i].message ? KVERN_INVALID : KVERN_OK);
        assert_string_equal(err.message, cases[i].message ? cases[i].message : "");
        if (status == KVERN_OK) {
            assert_ptr_not_equal(out.logit_bias, cases[i].bias);
            assert_int_equal(out.n_logit_bias, 3);
            assert_int_equal(out.logit_bias[0].id, 0); /* sorted */
            assert_int_equal(out.logit_bias[2].id, 299);
        }
        sampling_clear(&out);
    }

    static kvern_logit_bias many[MAX_LOGIT_BIASES + 1];
    kvern_request_options options = options_of();
    kvern_sampling out = {0};
    kvern_error err = {0};
    for (int32_t i = 0; i <= MAX_LOGIT_BIASES; i++)
        many[i].id = i;
    options.sampling.logit_bias = many;
    options.sampling.n_logit_bias = MAX_LOGIT_BIASES;
    assert_int_equal(sampling_init(&out, &options.sampling, 1 << 20, &err), KVERN_OK);
    sampling_clear(&out);
    options.sampling.n_logit_bias = MAX_LOGIT_BIASES + 1;
    assert_int_equal(sampling_init(&out, &options.sampling, 1 << 20, &err), KVERN_LIMIT);
    assert_string_equal(err.message, "logit_bias has 1025 tokens, over the limit of 1024");
}

static void fields_of_the_request(void **state)
{
    static const int32_t ids[MAX_STOP_TOKENS + 1] = {5, 299, 5, -1, 300};
    static const struct {
        int32_t min_tokens, top_logprobs;
        int logprobs;
        size_t first_id, n_ids; /* of `ids` */
        kvern_status status;
        const char *message;
    } cases[] = {
        {0, 0, 0, 0, 0, KVERN_OK, ""},
        {20, 20, KVERN_LOGPROBS_MODEL, 0, 3, KVERN_OK, ""},
        {1, 0, KVERN_LOGPROBS_SAMPLED, 5, MAX_STOP_TOKENS - 4, KVERN_OK, ""},
        {-1, 0, 0, 0, 0, KVERN_INVALID, "min_tokens is -1; it must be 0 (off) or more"},
        {21, 0, 0, 0, 0, KVERN_INVALID,
         "min_tokens is 21; it must be at most the 20 tokens that the answer may have"},
        {0, 0, 3, 0, 0, KVERN_INVALID, "logprobs is 3; it must be from 0 to 2"},
        {0, 0, -1, 0, 0, KVERN_INVALID, "logprobs is -1; it must be from 0 to 2"},
        {0, 21, 1, 0, 0, KVERN_INVALID, "top_logprobs is 21; it must be from 0 to 20"},
        {0, -1, 1, 0, 0, KVERN_INVALID, "top_logprobs is -1; it must be from 0 to 20"},
        {0, 5, 0, 0, 0, KVERN_INVALID, "top_logprobs is 5; without logprobs it must be 0"},
        {0, 0, 0, 0, 4, KVERN_INVALID, "stop_token_ids has token -1; the vocabulary has 300"},
        {0, 0, 0, 4, 1, KVERN_INVALID, "stop_token_ids has token 300; the vocabulary has 300"},
        {0, 0, 0, 0, MAX_STOP_TOKENS + 1, KVERN_LIMIT,
         "65 stop_token_ids are over the limit of 64"},
    };
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_request_options options = options_of();
        kvern_error err = {0};

        options.min_tokens = cases[i].min_tokens;
        options.top_logprobs = cases[i].top_logprobs;
        options.logprobs = (kvern_logprobs)cases[i].logprobs;
        options.stop_token_ids = ids + cases[i].first_id;
        options.n_stop_token_ids = cases[i].n_ids;
        assert_int_equal(sampling_check_request(&options, 20, VOCAB, &err), cases[i].status);
        assert_string_equal(err.message, cases[i].message);
    }
}

static void fields_of_beams(void **state)
{
    static const char *const no_stop = "x";
    static const kvern_request_options none = {.length_penalty = 1};
    static const struct {
        int32_t num_beams;
        float length_penalty;
        int early_stopping;
        size_t n;
        const char *message;
    } cases[] = {
        {0, 1, 0, 5, ""},
        {MAX_BEAMS, -10, 2, MAX_BEAMS, ""},
        {-1, 1, 0, 1, "num_beams is -1; it must be from 0 to 64"},
        {65, 1, 0, 1, "num_beams is 65; it must be from 0 to 64"},
        {0, 11, 0, 1, "length_penalty is 11; it must be from -10 to 10"},
        {2, NAN, 0, 1, "length_penalty is nan; it must be from -10 to 10"},
        {2, 1, 3, 1, "early_stopping is 3; it must be from 0 to 2"},
        {2, 1, -1, 1, "early_stopping is -1; it must be from 0 to 2"},
        {2, 1, 0, 3, "3 answers of 2 beams; there can be at most one a beam"},
    };
    (void)state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        kvern_request_options options = none;
        kvern_error err = {0};

        options.num_beams = cases[i].num_beams;
        options.length_penalty = cases[i].length_penalty;
        options.early_stopping = (kvern_early_stopping)cases[i].early_stopping;
        assert_int_equal(sampling_check_beams(&options, cases[i].n, &err),
                         *cases[i].message ? KVERN_INVALID : KVERN_OK);
        assert_string_equal(err.message, cases[i].message);
    }
    kvern_request_options beside[] = {none, none, none, none, none, none, none, none};
    beside[0].sampling.temperature = 1;
    beside[1].embed = true;
    beside[2].logprobs = KVERN_LOGPROBS_MODEL;
    beside[3].on_logits = ignore_logits;
    beside[4].score_prompt = true;
    beside[5].conversation = 1;
    beside[6].window = 32;
    beside[7].stop = &no_stop;
    beside[7].n_stop = 1;
    for (size_t i = 0; i < COUNT(beside); i++) {
        kvern_error err = {0};

        beside[i].num_beams = 2;
        assert_int_equal(sampling_check_beams(&beside[i], 1, &err), KVERN_UNSUPPORTED);
        assert_memory_equal(err.message, "num_beams ", 10);
        beside[i].num_beams = 1;
        assert_int_equal(sampling_check_beams(&beside[i], 1, NULL), KVERN_OK);
    }
}

static void names_of_early_stopping(void **state)
{
    static const char *const names[] = {"false", "true", "never"};
    kvern_early_stopping rule;

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        assert_string_equal(kvern_early_stopping_name((kvern_early_stopping)i), names[i]);
        assert_true(kvern_early_stopping_from_name(names[i], &rule));
        assert_int_equal(rule, i);
    }
    assert_string_equal(kvern_early_stopping_name((kvern_early_stopping)3), "");
    assert_false(kvern_early_stopping_from_name("sometimes", &rule));
}

static void names_of_logprobs(void **state)
{
    static const char *const names[] = {"none", "model", "sampled"};
    kvern_logprobs kind;
    (void)state;

    for (int i = 0; i < 3; i++) {
        assert_string_equal(kvern_logprobs_name((kvern_logprobs)i), names[i]);
        assert_true(kvern_logprobs_from_name(names[i], &kind));
        assert_int_equal(kind, i);
    }
    assert_string_equal(kvern_logprobs_name((kvern_logprobs)3), "");
    assert_false(kvern_logprobs_from_name("models", &kind));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_refused),
        cmocka_unit_test(ends_of_ranges_are_taken),
        cmocka_unit_test(biases),
        cmocka_unit_test(fields_of_the_request),
        cmocka_unit_test(names_of_logprobs),
        cmocka_unit_test(fields_of_beams),
        cmocka_unit_test(names_of_early_stopping),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
