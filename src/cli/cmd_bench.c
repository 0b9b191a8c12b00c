/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern bench: prefill, decode and embedding at given lengths and batch sizes, medians over
 * repeats, beside the machine's own limits. Time is taken on the engine's thread, when a step's
 * logits are there: what is measured is the engine, not this command's reading of events.
 */
#include "cli/bench_embed.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"

#include "base/error.h"
#include "base/memory.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_SEQUENCES = 64, MAX_CASES = 32, MAX_REPEATS = 100, MAX_BATCH = 512 };

enum bench_kind { BENCH_PREFILL, BENCH_DECODE, BENCH_EMBED };

static const char *const kind_names[] = {"prefill", "decode", "embed"};

struct bench_case {
    enum bench_kind kind;
    int32_t length; /* prompt tokens; the mean of --embed-file */
    int32_t batch;
    const char *path; /* of --embed-file; else NULL */
    struct bench_texts texts;
    double texts_per_token;
    double tokens_per_s; /* the median */
    double samples[MAX_REPEATS];
};

struct bench {
    struct engine_flags flags;
    const char *prefill;
    const char *decode;
    const char *embed;
    const char *embed_file;
    int64_t repeats;
    int64_t n_decode; /* tokens decoded per sequence */
    bool is_json;
    bool is_quiet;
    bool has_limits;
    struct bench_case cases[MAX_CASES];
    size_t n_cases;
    kvern_machine_limits limits;
};

/* "512,1024" or "512x1,128x8" into cases. */
static bool parse_cases(struct bench *bench, const char *text, enum bench_kind kind)
{
    while (text && *text) {
        struct bench_case *item = &bench->cases[bench->n_cases];
        char *end;
        long length = strtol(text, &end, 10);
        long batch = 1;

        if (end == text || bench->n_cases == MAX_CASES)
            return false;
        if (*end == 'x') {
            text = end + 1;
            batch = strtol(text, &end, 10);
            if (end == text)
                return false;
        }
        if (length < 1 || length > 1 << 20 || batch < 1 || batch > MAX_BATCH)
            return false;
        *item =
            (struct bench_case){.kind = kind, .length = (int32_t)length, .batch = (int32_t)batch};
        bench->n_cases++;
        if (*end == ',')
            end++;
        else if (*end)
            return false;
        text = end;
    }
    return true;
}

/* When each token of a sequence was there. */
struct timeline {
    double *times; /* [capacity] seconds */
    size_t n;
    size_t capacity;
};

static void note_time(const float *logits, size_t vocab_size, size_t position, void *data)
{
    struct timeline *line = data;

    (void)logits;
    (void)vocab_size;
    (void)position;
    if (line->n < line->capacity)
        line->times[line->n++] = seconds_now();
}

/* Tokens decoded by all sequences between the moment the last of them began to decode and the
 * moment the first of them ended: the time in which exactly `batch` sequences decode together. */
static double decode_rate(const struct timeline *lines, size_t n)
{
    double begin = 0;
    double end = 1e300;
    size_t n_tokens = 0;

    for (size_t i = 0; i < n; i++) {
        if (lines[i].times[0] > begin)
            begin = lines[i].times[0];
        if (lines[i].times[lines[i].n - 1] < end)
            end = lines[i].times[lines[i].n - 1];
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < lines[i].n; j++)
            n_tokens += lines[i].times[j] > begin + 1e-9 && lines[i].times[j] <= end + 1e-9;
    }
    return end > begin ? (double)n_tokens / (end - begin) : 0;
}

static kvern_status run_once(const struct bench *bench, struct bench_case *item,
                             kvern_engine *engine, int32_t vocab_size, uint64_t *random,
                             double *rate, kvern_error *err)
{
    size_t n = (size_t)item->batch;
    size_t n_tokens = (size_t)(item->kind == BENCH_PREFILL ? 1 : bench->n_decode + 1);
    size_t length = (size_t)item->length;
    struct timeline *lines = try_new(n, sizeof *lines);
    double *times = try_new(n * n_tokens, sizeof *times);
    int32_t *prompts = try_new(n * length, sizeof *prompts);
    kvern_request **requests = try_new(n, sizeof(kvern_request *));
    kvern_status status = KVERN_OK;
    double last = 0;

    if (!lines || !times || !prompts || !requests) {
        status = fail(err, KVERN_MEMORY, "out of memory for %zu prompts of %zu tokens", n, length);
        goto done;
    }
    for (size_t i = 0; i < n * length; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        prompts[i] = (int32_t)((*random >> 33) % (uint64_t)vocab_size);
    }
    double started = seconds_now();
    for (size_t i = 0; status == KVERN_OK && i < n; i++) {
        kvern_request_options options;

        lines[i] = (struct timeline){.times = times + i * n_tokens, .capacity = n_tokens};
        kvern_request_options_init(&options);
        options.prompt = prompts + i * length;
        options.n_prompt = length;
        options.max_tokens = (int32_t)n_tokens;
        options.ignore_eos = true;
        options.on_logits = note_time;
        options.on_logits_data = &lines[i];
        status = kvern_submit(engine, &options, &requests[i], err);
    }
    for (size_t i = 0; i < n; i++) {
        kvern_event event;

        if (status == KVERN_OK)
            status = finish_request(requests[i], &event, err);
        kvern_request_free(requests[i]);
    }
    if (status == KVERN_OK && !was_interrupted()) {
        for (size_t i = 0; i < n; i++)
            last = lines[i].times[0] > last ? lines[i].times[0] : last;
        *rate = item->kind == BENCH_PREFILL ? (double)(n * length) / (last - started)
                                            : decode_rate(lines, n);
    }
done:
    free(requests);
    free(prompts);
    free(times);
    free(lines);
    return status;
}

/* Other texts in every run, unless they come from a file. */
static kvern_status run_embed(struct bench_case *item, kvern_engine *engine, int32_t vocab_size,
                              uint64_t *random, double *rate, kvern_error *err)
{
    struct bench_texts *texts = &item->texts;
    double seconds = 0;
    kvern_status status = KVERN_OK;

    if (!item->path)
        status = bench_texts_draw(texts, (size_t)item->batch, (size_t)item->length, vocab_size,
                                  random, err);
    else if (texts->n == 0)
        status = bench_texts_read(texts, item->path, vocab_size, err);
    if (status != KVERN_OK)
        return status;
    size_t n_tokens = texts->starts[texts->n];
    item->batch = (int32_t)texts->n;
    item->length = (int32_t)((n_tokens + texts->n / 2) / texts->n);
    item->texts_per_token = (double)texts->n / (double)n_tokens;
    status = bench_texts_run(texts, engine, &seconds, err);
    *rate = (double)n_tokens / (seconds + 1e-9);
    return status;
}

/* Sequences decode together unless the first ends before the last was even submitted: a small model
 * on a busy machine can do that, so a few tries are made. */
static kvern_status run_together(const struct bench *bench, struct bench_case *item,
                                 kvern_engine *engine, int32_t vocab_size, uint64_t *random,
                                 double *rate, kvern_error *err)
{
    enum { MAX_TRIES = 10 };
    kvern_status status = KVERN_OK;

    *rate = 0;
    if (item->kind == BENCH_EMBED)
        return run_embed(item, engine, vocab_size, random, rate, err);
    for (int i = 0; status == KVERN_OK && !(*rate > 0) && i < MAX_TRIES && !was_interrupted(); i++)
        status = run_once(bench, item, engine, vocab_size, random, rate, err);
    if (status == KVERN_OK && !(*rate > 0) && !was_interrupted())
        status = fail(err, KVERN_LIMIT,
                      "%d sequences of %d tokens never decode together: raise --tokens, "
                      "--sequences or --kv-memory",
                      item->batch, item->length);
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

/* One uncounted round, then the repeats; cases in turn, so that a slow moment of the machine does
 * not fall on one case alone. */
static kvern_status run_cases(struct bench *bench, kvern_engine *engine, int32_t vocab_size,
                              kvern_error *err)
{
    struct progress progress;
    uint64_t random = 1;
    int64_t n_done = 0;
    int64_t n_total = (bench->repeats + 1) * (int64_t)bench->n_cases;
    kvern_status status = KVERN_OK;

    progress_begin(&progress, PROGRESS_ITEMS, bench->is_quiet);
    for (int64_t repeat = -1; status == KVERN_OK && repeat < bench->repeats; repeat++) {
        for (size_t i = 0; status == KVERN_OK && i < bench->n_cases && !was_interrupted(); i++) {
            double rate = 0;

            status = run_together(bench, &bench->cases[i], engine, vocab_size, &random, &rate, err);
            if (repeat >= 0)
                bench->cases[i].samples[repeat] = rate;
            progress_show(&progress, "measuring", ++n_done, n_total, NULL);
        }
    }
    progress_end(&progress);
    if (status == KVERN_OK && was_interrupted())
        status = interrupted(err);
    for (size_t i = 0; status == KVERN_OK && i < bench->n_cases; i++) {
        struct bench_case *item = &bench->cases[i];

        qsort(item->samples, (size_t)bench->repeats, sizeof(double), compare_doubles);
        item->tokens_per_s = item->samples[bench->repeats / 2];
    }
    return status;
}

/* Weight bytes a token must read in decode, and operations a token costs: what the limits are
 * compared with. */
static double share_of_limit(const struct bench *bench, const struct bench_case *item,
                             const kvern_model_info *info)
{
    double operations = 2.0 * (double)info->n_parameters * item->tokens_per_s / 1e9;
    double compute = operations / bench->limits.int8_gop_s;
    double read =
        (double)info->n_bytes * item->tokens_per_s / item->batch / 1e9 / bench->limits.read_gb_s;

    return item->kind != BENCH_DECODE || compute > read ? compute : read;
}

static json_t *bench_json(const struct bench *bench, const kvern_model_info *info,
                          const kvern_engine_stats *stats)
{
    json_t *results = json_array();

    for (size_t i = 0; i < bench->n_cases; i++) {
        const struct bench_case *item = &bench->cases[i];
        json_t *samples = json_array();

        for (int64_t j = 0; j < bench->repeats; j++)
            json_array_append_new(samples, json_real(item->samples[j]));
        json_t *row = json_pack("{s:s s:i s:i s:f s:o}", "name", kind_names[item->kind], "batch",
                                item->batch, "length", item->length, "tokens_per_s",
                                item->tokens_per_s, "samples", samples);

        if (row && item->kind == BENCH_EMBED)
            json_object_set_new(row, "texts_per_s",
                                json_real(item->tokens_per_s * item->texts_per_token));
        json_array_append_new(results, row);
    }
    json_t *all = json_pack("{s:s s:s s:i s:s s:o}", "model", info->name, "weights", info->weights,
                            "threads", stats->n_threads, "isa", stats->isa, "results", results);
    if (all && bench->has_limits)
        json_object_set_new(all, "limits",
                            json_pack("{s:f s:f s:f}", "read_gb_s", bench->limits.read_gb_s,
                                      "int8_gop_s", bench->limits.int8_gop_s, "f32_gflop_s",
                                      bench->limits.f32_gflop_s));
    return all;
}

static void print_table(const struct bench *bench, const kvern_model_info *info,
                        const kvern_engine_stats *stats)
{
    printf("%s, %s weights, %d threads, %s kernels\n", info->name, info->weights, stats->n_threads,
           stats->isa);
    if (stats->kv_bytes > 0) {
        print_kv_memory(&bench->flags, stats, stdout);
        putchar('\n');
    }
    if (bench->has_limits)
        printf("this machine: reads %.0f GB/s, int8 %.0f Gop/s, f32 %.0f Gflop/s\n",
               bench->limits.read_gb_s, bench->limits.int8_gop_s, bench->limits.f32_gflop_s);
    printf("\n%-8s %7s %6s %11s %19s %9s\n", "WHAT", "LENGTH", "BATCH", "TOKENS/S", "LOW - HIGH",
           bench->has_limits ? "OF LIMIT" : "");
    for (size_t i = 0; i < bench->n_cases; i++) {
        const struct bench_case *item = &bench->cases[i];
        char range[32];

        snprintf(range, sizeof range, "%.0f - %.0f", item->samples[0],
                 item->samples[bench->repeats - 1]);
        printf("%-8s %7d %6d %11.0f %19s", kind_names[item->kind], item->length, item->batch,
               item->tokens_per_s, range);
        if (item->kind == BENCH_EMBED)
            printf("  %.1f texts/s", item->tokens_per_s * item->texts_per_token);
        else if (bench->has_limits)
            printf(" %7.0f %%", 100 * share_of_limit(bench, item, info));
        putchar('\n');
    }
}

/* What is measured when nothing is named: what the model is for. */
static void set_defaults(struct bench *bench, bool is_encoder)
{
    if (bench->n_cases > 0)
        return;
    if (is_encoder) {
        parse_cases(bench, "128x32", BENCH_EMBED);
    } else {
        parse_cases(bench, "512", BENCH_PREFILL);
        parse_cases(bench, "512x1,128x8,128x32", BENCH_DECODE);
    }
}

static int bench_model(struct bench *bench)
{
    kvern_model *model = NULL;
    kvern_engine *engine = NULL;
    kvern_model_info info;
    kvern_engine_stats stats;
    int32_t n_sequences = 0;
    kvern_error err = {0};
    kvern_status status = open_model(&bench->flags, &model, &err);

    if (status == KVERN_OK) {
        kvern_model_get_info(model, &info);
        set_defaults(bench, info.is_encoder);
    }
    /* a batch that cannot run at once would be measured as something else */
    for (size_t i = 0; bench->flags.sequences == 0 && i < bench->n_cases; i++) {
        const struct bench_case *item = &bench->cases[i];

        if (item->kind != BENCH_EMBED && item->batch > n_sequences)
            n_sequences = item->batch;
    }
    if (n_sequences > DEFAULT_SEQUENCES)
        bench->flags.sequences = n_sequences;
    bench->flags.no_prefix_cache = true; /* texts of --embed-file come again in every round */
    if (status == KVERN_OK)
        status = open_engine(&bench->flags, model, &engine, &err);
    if (status == KVERN_OK && bench->has_limits)
        status = kvern_measure_machine((int32_t)bench->flags.threads, &bench->limits, &err);
    if (status == KVERN_OK)
        status = run_cases(bench, engine, info.vocab_size, &err);
    if (status == KVERN_OK) {
        kvern_engine_get_stats(engine, &stats);
        if (bench->is_json)
            output_json(bench_json(bench, &info, &stats));
        else
            print_table(bench, &info, &stats);
    }
    for (size_t i = 0; i < bench->n_cases; i++)
        bench_texts_clear(&bench->cases[i].texts);
    kvern_engine_close(engine);
    kvern_model_close(model);
    return status == KVERN_OK ? EXIT_OK : report(&err);
}

int cmd_bench(int argc, char **argv)
{
    static const struct command_help help = {
        .usage = "bench [OPTIONS]",
        .summary =
            "Measures prefill, decode and embedding, medians over repeats, and the machine's "
            "limits.",
        .details =
            "Prompts are random tokens. A decode rate counts all sequences together, while\n"
            "exactly that many decode. What is not named is not measured; without any of the\n"
            "lists, what the model is for.",
        .examples = "  kvern bench --prefill 512 --decode 512x1,128x8,128x32\n"
                    "  kvern bench -m minilm --embed 128x32,16x256\n"
                    "  kvern bench -m ./qwen --threads 1 --json",
    };
    struct bench bench = {.has_limits = true, .repeats = 3, .n_decode = 64};
    struct positionals arguments;
    const struct option options[] = {
        ENGINE_OPTIONS(bench.flags),
        {"prefill", 0, OPTION_STRING, &bench.prefill, "LIST", "prompt lengths (512)"},
        {"decode", 0, OPTION_STRING, &bench.decode, "LIST",
         "LENGTHxBATCH list (512x1,128x8,128x32)"},
        {"embed", 0, OPTION_STRING, &bench.embed, "LIST",
         "LENGTHxBATCH list of texts to embed (of encoders 128x32)"},
        {"embed-file", 0, OPTION_STRING, &bench.embed_file, "FILE",
         "JSON Lines of token ids, all embedded at once"},
        {"tokens", 0, OPTION_INT, &bench.n_decode, "N", "tokens each sequence decodes (64)", 2,
         1 << 20},
        {"repeats", 'r', OPTION_INT, &bench.repeats, "N", "rounds, after one to warm up (3)", 1,
         MAX_REPEATS},
        {"limits", 0, OPTION_FLAG, &bench.has_limits, NULL,
         "measure the machine's limits too (yes; --no-limits)"},
        {"json", 0, OPTION_FLAG, &bench.is_json, NULL, "one JSON object"},
        {"quiet", 'q', OPTION_FLAG, &bench.is_quiet, NULL, "no progress"},
        {NULL},
    };
    int exit_status = options_parse(options, &help, argc, argv, &arguments);

    if (exit_status >= 0)
        return exit_status;
    if (arguments.n > 0)
        return usage_error(&help, "bench takes no arguments, but got '%s'", arguments.items[0]);
    if (!parse_cases(&bench, bench.prefill, BENCH_PREFILL) ||
        !parse_cases(&bench, bench.decode, BENCH_DECODE) ||
        !parse_cases(&bench, bench.embed, BENCH_EMBED))
        return usage_error(&help, "--prefill takes lengths such as 512,1024; --decode and --embed "
                                  "take LENGTHxBATCH such as 512x1,128x8");
    if (bench.embed_file && bench.n_cases == MAX_CASES)
        return usage_error(&help, "%d cases are the limit", MAX_CASES);
    if (bench.embed_file)
        bench.cases[bench.n_cases++] =
            (struct bench_case){.kind = BENCH_EMBED, .path = bench.embed_file};
    if (bench.n_cases == 0 && (bench.prefill || bench.decode || bench.embed))
        return usage_error(&help, "nothing to measure: the lists are empty");
    return bench_model(&bench);
}
