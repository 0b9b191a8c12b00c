/* SPDX-License-Identifier: Apache-2.0
 *
 * What sessions cost: appending a few tokens to a long session against running it all afresh, and
 * the memory of many open sessions against the bytes of their KV alone.
 *
 *   build/bench_sessions MODEL [context] [appended] [sessions] [tokens of each]
 */
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5 };

static int32_t *make_tokens(size_t n, int32_t vocab_size, uint64_t seed)
{
    int32_t *tokens = allocate(n, sizeof *tokens);

    draw_tokens(&seed, vocab_size, tokens, n);
    return tokens;
}

static double timed_append(kvern_session *session, const int32_t *tokens, size_t n)
{
    kvern_session_answer answer;
    kvern_error err = {0};
    double start = now_ms();

    check(kvern_session_append(session, tokens, n, &answer, &err), &err);
    return now_ms() - start;
}

static void time_appends(kvern_engine *engine, const kvern_model *model, size_t n_context,
                         size_t n_appended, int32_t vocab_size)
{
    int32_t *tokens = make_tokens(n_context + n_appended, vocab_size, 1);
    struct samples appends = {0}, afresh = {0};
    kvern_error err = {0};

    for (size_t round = 0; round < ROUNDS; round++) {
        kvern_session *session = NULL;

        check(kvern_session_new(&session, engine, model, NULL, &err), &err);
        timed_append(session, tokens, n_context);
        samples_add(&appends, timed_append(session, tokens + n_context, n_appended));
        kvern_session_reset(session);
        samples_add(&afresh, timed_append(session, tokens, n_context + n_appended));
        kvern_session_free(session);
    }
    double append = samples_percentile(&appends, 0.5), fresh = samples_percentile(&afresh, 0.5);
    printf("%zu tokens appended to %zu: %.1f ms; %zu afresh: %.1f ms; 1/%.1f\n", n_appended,
           n_context, append, n_context + n_appended, fresh, fresh / append);
    samples_clear(&appends);
    samples_clear(&afresh);
    free(tokens);
}

static void weigh_sessions(kvern_engine *engine, const kvern_model *model, size_t n_sessions,
                           size_t n_tokens, const kvern_model_info *info)
{
    kvern_session **sessions = allocate(n_sessions, sizeof(void *));
    int32_t *tokens = make_tokens(n_tokens, info->vocab_size, 2);
    kvern_error err = {0};
    double before;
    double kv = (double)n_sessions * (double)n_tokens * 2 * info->n_layers * info->n_kv_heads *
                info->head_size * (strcmp(info->contract, "paged") == 0 ? 2 : 4);

    /* what a first run takes for itself is no session's */
    check(kvern_session_new(&sessions[0], engine, model, NULL, &err), &err);
    timed_append(sessions[0], tokens, n_tokens);
    kvern_session_free(sessions[0]);
    before = memory_mb("RssAnon");
    for (size_t i = 0; i < n_sessions; i++) {
        check(kvern_session_new(&sessions[i], engine, model, NULL, &err), &err);
        tokens[0] = (int32_t)i;
        timed_append(sessions[i], tokens, n_tokens);
    }
    double grown = (memory_mb("RssAnon") - before) * 1e6;
    printf("%zu sessions of %zu tokens: %.0f MB; their KV %.0f MB: %+.1f %%\n", n_sessions,
           n_tokens, grown / 1e6, kv / 1e6, (grown / kv - 1) * 100);
    for (size_t i = 0; i < n_sessions; i++)
        kvern_session_free(sessions[i]);
    free(sessions);
    free(tokens);
}

int main(int argc, char **argv)
{
    size_t numbers[] = {2000, 32, 100, 500};
    kvern_engine_options options;
    kvern_engine *engine = NULL;
    kvern_model *model = NULL;
    kvern_model_info info;
    kvern_error err = {0};

    if (argc < 2) {
        fprintf(stderr, "usage: bench_sessions MODEL [context] [appended] [sessions] [tokens]\n");
        return 2;
    }
    for (int i = 2; i < argc && i < 6; i++)
        numbers[i - 2] = strtoul(argv[i], NULL, 10);
    check(kvern_model_open(&model, argv[1], &err), &err);
    kvern_model_get_info(model, &info);
    kvern_engine_options_init(&options);
    options.kv_memory_bytes = (size_t)4 << 30;
    options.no_prefix_cache = true; /* what is to run afresh does */
    check(kvern_engine_open(&engine, model, &options, &err), &err);
    time_appends(engine, model, numbers[0], numbers[1], info.vocab_size);
    if (numbers[2] > 0)
        weigh_sessions(engine, model, numbers[2], numbers[3], &info);
    kvern_engine_close(engine);
    kvern_model_close(model);
    return 0;
}
