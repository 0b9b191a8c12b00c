/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern eval: perplexity of a model on a text, cut into windows that run side by side. Each window
 * is scored from its second token on.
 */
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"

#include "base/error.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WINDOWS_IN_FLIGHT = 4 };

struct eval {
    struct engine_flags flags;
    int64_t window;
    int64_t max_tokens;
    bool is_json;
    bool is_quiet;
    double sum; /* of negative log-probabilities */
    size_t n_scored;
};

static kvern_status finish_window(struct eval *eval, kvern_request *request, kvern_error *err)
{
    kvern_event event;
    kvern_status status = finish_request(request, &event, err);

    for (size_t i = 0; status == KVERN_OK && i < event.n_prompt_logprobs; i++) {
        eval->sum -= (double)event.prompt_logprobs[i];
        eval->n_scored++;
    }
    return status;
}

static kvern_status score(struct eval *eval, kvern_engine *engine, const kvern_tokens *tokens,
                          kvern_error *err)
{
    kvern_request *requests[WINDOWS_IN_FLIGHT] = {NULL};
    struct progress progress;
    size_t window = (size_t)eval->window;
    size_t n_windows = (tokens->n + window - 1) / window;
    kvern_status status = KVERN_OK;

    progress_begin(&progress, PROGRESS_TOKENS, eval->is_quiet);
    for (size_t i = 0; status == KVERN_OK && i < n_windows + WINDOWS_IN_FLIGHT; i++) {
        kvern_request **slot = &requests[i % WINDOWS_IN_FLIGHT];
        kvern_request_options options;

        if (*slot) {
            status = finish_window(eval, *slot, err);
            kvern_request_free(*slot);
            *slot = NULL;
            progress_show(&progress, "scoring", (int64_t)eval->n_scored, (int64_t)tokens->n, NULL);
        }
        size_t begin = i * window;
        if (status != KVERN_OK || was_interrupted() || i >= n_windows || begin + 2 > tokens->n)
            continue;
        kvern_request_options_init(&options);
        options.prompt = tokens->ids + begin;
        options.n_prompt = tokens->n - begin < window ? tokens->n - begin : window;
        options.max_tokens = 1;
        options.score_prompt = true;
        status = kvern_submit(engine, &options, slot, err);
    }
    progress_end(&progress);
    for (size_t i = 0; i < WINDOWS_IN_FLIGHT; i++)
        kvern_request_free(requests[i]);
    return status;
}

static void print_score(const struct eval *eval, const kvern_model *model, double seconds)
{
    kvern_model_info info;
    double perplexity = exp(eval->sum / (double)eval->n_scored);

    kvern_model_get_info(model, &info);
    if (eval->is_json)
        output_json(json_pack("{s:s s:s s:I s:I s:f s:f}", "model", info.name, "weights",
                              info.weights, "window", (json_int_t)eval->window, "tokens",
                              (json_int_t)eval->n_scored, "perplexity", perplexity, "seconds",
                              seconds));
    else
        printf("perplexity %.4f over %zu tokens (windows of %lld), %s weights, %.0f tokens/s\n",
               perplexity, eval->n_scored, (long long)eval->window, info.weights,
               (double)eval->n_scored / seconds);
}

int cmd_eval(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "eval FILE | - [OPTIONS]",
        .summary = "Measures the perplexity of a model on a text: lower is better.",
        .details = "The text is cut into windows; each is scored from its second token on. Ctrl-C\n"
                   "prints the score of what was read so far.",
        .examples = "  kvern eval README.md -m smollm2",
    };
    struct eval eval = {.window = 512};
    struct positionals arguments;
    kvern_model *model = NULL;
    kvern_engine *engine = NULL;
    kvern_tokens tokens = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    kvern_error err = {0};
    const struct option options[] = {
        ENGINE_OPTIONS(eval.flags),
        {"window", 0, OPTION_INT, &eval.window, "N", "tokens of a window (512)", 2, 1 << 20},
        {"max-tokens", 'n', OPTION_INT, &eval.max_tokens, "N", "score the first N tokens (all)", 0,
         1 << 30},
        {"json", 0, OPTION_FLAG, &eval.is_json, NULL, "one JSON object"},
        {"quiet", 'q', OPTION_FLAG, &eval.is_quiet, NULL, "no progress"},
        {NULL},
    };
    int exit_status = options_parse(options, &help, argc, argv, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (arguments.n != 1)
        return usage_error(&help, "eval takes one FILE, %zu were given", arguments.n);
    kvern_status status = read_input(arguments.items[0], &text, &n_bytes, &err);
    if (status == KVERN_OK)
        status = open_model(&eval.flags, &model, &err);
    if (status == KVERN_OK)
        status = kvern_tokenize(model, text, n_bytes, 0, &tokens, &err);
    if (status == KVERN_OK)
        status = open_engine(&eval.flags, model, &engine, &err);
    if (eval.max_tokens > 0 && tokens.n > (size_t)eval.max_tokens)
        tokens.n = (size_t)eval.max_tokens;
    double started = seconds_now();
    if (status == KVERN_OK)
        status = score(&eval, engine, &tokens, &err);
    if (status != KVERN_OK) {
        exit_status = report(&err);
    } else if (eval.n_scored == 0) {
        interrupted(&err);
        if (!was_interrupted())
            fail(&err, KVERN_INVALID, "%s has fewer than 2 tokens, nothing to score",
                 arguments.items[0]);
        exit_status = report(&err);
    } else {
        print_score(&eval, model, seconds_now() - started);
        exit_status = was_interrupted() ? EXIT_INTERRUPTED : EXIT_OK;
    }
    kvern_engine_close(engine);
    kvern_tokens_clear(&tokens);
    kvern_model_close(model);
    free(text);
    return exit_status;
}
