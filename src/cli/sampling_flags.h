/* SPDX-License-Identifier: Apache-2.0
 *
 * The options of how answers are drawn, the same for every command that generates: a struct over
 * SAMPLING_DEFAULTS, filled by SAMPLING_OPTIONS rows, made into a request by set_sampling().
 */
#ifndef KVERN_CLI_SAMPLING_FLAGS_H
#define KVERN_CLI_SAMPLING_FLAGS_H

#include "cli/options.h"
#include "kvern.h"

/* The largest seed that the command line takes; exact as a double. */
#define MAX_SEED 9007199254740992.0
/* Fields that must be over 0: what they may be at least. */
#define LEAST_P 1e-6
#define LEAST_PENALTY 0.01

/* The library's own limits, told before anything runs. */
enum {
    MAX_LOGIT_BIASES = 1024,
    MAX_STOP_TOKEN_IDS = 64,
    MAX_TOP_LOGPROBS = 20,
    MAX_SAMPLES = 256,
    MAX_BEAMS = 64
};

struct sampling_flags {
    double temperature;
    double top_p;
    double min_p;
    double typical_p;
    double repetition_penalty;
    double presence_penalty;
    double frequency_penalty;
    int64_t top_k;
    int64_t seed;
    int64_t max_tokens;
    int64_t min_tokens;
    int64_t logprobs; /* -1: none */
    const char *logprobs_of;
    int64_t num_beams;
    int64_t no_repeat_ngram;
    double length_penalty;
    const char *early_stopping;
    struct option_list stop;
    struct option_list stop_token_ids;
    struct option_list logit_bias;
    bool ignore_eos;
    /* what set_sampling() made of the lists */
    int32_t stop_tokens[MAX_STOP_TOKEN_IDS];
    kvern_logit_bias biases[OPTION_LIST_ITEMS];
};

#define SAMPLING_DEFAULTS                                                                          \
    {                                                                                              \
        .top_p = 1, .typical_p = 1, .repetition_penalty = 1, .max_tokens = 256, .logprobs = -1,    \
        .logprobs_of = "model", .length_penalty = 1, .early_stopping = "false"                     \
    }

/* clang-format off */
#define SAMPLING_OPTIONS(flags)                                                                    \
    {"max-tokens", 'n', OPTION_INT, &(flags).max_tokens, "N",                                      \
     "tokens of an answer at most (256; 0: up to the context)", 0, 1 << 24},                       \
    {"min-tokens", 0, OPTION_INT, &(flags).min_tokens, "N", "do not end before N tokens (0)", 0,   \
     1 << 24},                                                                                     \
    {"temperature", 0, OPTION_FLOAT, &(flags).temperature, "T", "0 is greedy (0)", 0, 100},        \
    {"top-k", 0, OPTION_INT, &(flags).top_k, "K", "sample from the K likeliest (off)", 0,          \
     1 << 24},                                                                                     \
    {"top-p", 0, OPTION_FLOAT, &(flags).top_p, "P",                                                \
     "sample from the likeliest that sum to P (1)", LEAST_P, 1},                                   \
    {"min-p", 0, OPTION_FLOAT, &(flags).min_p, "P", "drop what is under P times the likeliest (0)", \
     0, 1},                                                                                        \
    {"typical-p", 0, OPTION_FLOAT, &(flags).typical_p, "P",                                        \
     "sample from the most typical that sum to P (1)", LEAST_P, 1},                                \
    {"repetition-penalty", 0, OPTION_FLOAT, &(flags).repetition_penalty, "R",                      \
     "over 1 discourages repeats (1)", LEAST_PENALTY, 100},                                        \
    {"presence-penalty", 0, OPTION_FLOAT, &(flags).presence_penalty, "R",                          \
     "off the logits of tokens the answer has (0)", -2, 2},                                        \
    {"frequency-penalty", 0, OPTION_FLOAT, &(flags).frequency_penalty, "R",                        \
     "off them for each time it has them (0)", -2, 2},                                             \
    {"logit-bias", 0, OPTION_LIST, &(flags).logit_bias, "ID=BIAS",                                 \
     "onto a token's logit, -100 to 100 (may be given again)"},                                    \
    {"no-repeat-ngram", 0, OPTION_INT, &(flags).no_repeat_ngram, "N",                              \
     "no N tokens in a row come twice, in prompt and answer (off)", 0, 1 << 24},                   \
    {"num-beams", 0, OPTION_INT, &(flags).num_beams, "B",                                          \
     "beam search with B beams, 2 to 64 (off)", 0, MAX_BEAMS},                                     \
    {"length-penalty", 0, OPTION_FLOAT, &(flags).length_penalty, "R",                              \
     "beams: scores are divided by the length to this power (1)", -10, 10},                        \
    {"early-stopping", 0, OPTION_STRING, &(flags).early_stopping, "RULE",                          \
     "beams: end with B answers: false (default), true or never"},                                 \
    {"seed", 0, OPTION_INT, &(flags).seed, "N", "of the random choices (0)", 0, MAX_SEED},         \
    {"stop", 0, OPTION_LIST, &(flags).stop, "TEXT", "end before this text (may be given again)"},  \
    {"stop-token-id", 0, OPTION_LIST, &(flags).stop_token_ids, "ID",                               \
     "end at this token (may be given again)"},                                                    \
    {"ignore-eos", 0, OPTION_FLAG, &(flags).ignore_eos, NULL, "go on after end tokens"},           \
    {"logprobs", 0, OPTION_INT, &(flags).logprobs, "N",                                            \
     "in JSON, log-probabilities of each token and the N likeliest", 0, MAX_TOP_LOGPROBS},         \
    {"logprobs-of", 0, OPTION_STRING, &(flags).logprobs_of, "WHAT",                                \
     "model (default), or sampled: after penalties and filters"}
/* clang-format on */

/* The flags as a request, which borrows their lists. Returns 0, or the exit status of a usage
 * error. */
int set_sampling(struct sampling_flags *flags, const struct command_help *help,
                 kvern_request_options *request);

#endif
