/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern_engine_open: sizes the KV pool, opens the runner the model's contract asks for, and starts
 * an engine on it.
 */
#include "base/error.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "engine/kv_blocks.h"
#include "engine/resources.h"
#include "engine/runner_cached.h"
#include "engine/runner_cached_seq2seq.h"
#include "engine/runner_encoder.h"
#include "engine/runner_paged.h"
#include "model/model.h"
#include "ops/kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_TOKENS_PER_SEQUENCE = 2048,
    MAX_THREADS = 1024,
    SOURCE_STEP_TOKENS = 1024,
    DEFAULT_CACHE_TOKENS = 16384,
};

/* Of a KV element; 0: there is no such type. */
static size_t kv_value_bytes(const char *kv_type)
{
    static const struct {
        const char *name;
        size_t value_bytes;
    } types[] = {{"f16", 2}, {"f32", 4}, {"int8", 1}};

    if (!kv_type)
        return types[0].value_bytes;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(kv_type, types[i].name) == 0)
            return types[i].value_bytes;
    }
    return 0;
}

static kvern_status check_options(const kvern_engine_options *options, kvern_error *err)
{
    const struct {
        const char *name;
        int32_t value, high;
    } numbers[] = {
        {"n_threads", options->n_threads, MAX_THREADS},
        {"step_tokens", options->step_tokens, 1 << 16},
        {"prefill_chunk", options->prefill_chunk, 1 << 16},
        {"max_sequences", options->max_sequences, 4096},
        {"max_waiting", options->max_waiting, 1 << 20},
        {"max_context", options->max_context, 1 << 24},
        {"prefix_cache_tokens", options->prefix_cache_tokens, 1 << 30},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i].value < 0 || numbers[i].value > numbers[i].high)
            return fail(err, KVERN_INVALID, "%s is %d, outside 0 to %d", numbers[i].name,
                        numbers[i].value, numbers[i].high);
    }
    if (!(options->max_decode_slowdown == 0 ||
          (options->max_decode_slowdown >= 1 && options->max_decode_slowdown <= 1000)))
        return fail(err, KVERN_INVALID,
                    "max_decode_slowdown is %g; it must be 0 (no bound) or from 1 to 1000",
                    options->max_decode_slowdown);
    if (kv_value_bytes(options->kv_type) == 0)
        return fail(err, KVERN_INVALID, "kv_type is '%s', not f16, f32 or int8", options->kv_type);
    return KVERN_OK;
}

/* A step's activations, its logits, and what ONNX Runtime and the program take besides: an upper
 * estimate, since only what is left of the memory goes to the KV cache. */
static size_t scratch_bytes(const struct model_config *config, size_t n_step_tokens,
                            size_t n_sequences)
{
    enum { PROGRAM_BYTES = 32 << 20, N_HIDDEN_ROWS = 8, N_INTERMEDIATE_ROWS = 3 };
    size_t row = N_HIDDEN_ROWS * config->hidden_size;

    row += N_INTERMEDIATE_ROWS * config->intermediate_size;
    return PROGRAM_BYTES + (n_step_tokens * row + n_sequences * config->vocab_size) * sizeof(float);
}

/* Blocks for the memory asked for; without a figure, for all sequences at a usual length, and never
 * less than one sequence at the context limit needs, if that much is free. Pages are taken only as
 * blocks are used. */
static kvern_status choose_blocks(const kvern_model *model, const kvern_engine_options *options,
                                  const struct kv_layout *layout, size_t max_context,
                                  size_t *n_blocks, kvern_error *err)
{
    size_t block_bytes = kv_layout_bytes_per_block(layout);
    size_t n_sequences =
        options->max_sequences > 0 ? (size_t)options->max_sequences : DEFAULT_MAX_SEQUENCES;
    size_t n_step = options->step_tokens > 0 ? (size_t)options->step_tokens : DEFAULT_STEP_TOKENS;
    size_t n_wanted = n_sequences * kv_blocks_for_tokens(DEFAULT_TOKENS_PER_SEQUENCE);
    size_t kv_bytes = 0;
    kvern_model_info info;

    if (options->kv_memory_bytes > 0 && options->kv_memory_bytes < block_bytes)
        return fail(err, KVERN_LIMIT,
                    "kv_memory of %zu bytes is less than one block of %d tokens (%zu bytes)",
                    options->kv_memory_bytes, KV_BLOCK_TOKENS, block_bytes);
    if (n_wanted < kv_blocks_for_tokens(max_context))
        n_wanted = kv_blocks_for_tokens(max_context);
    kvern_model_get_info(model, &info);
    const struct memory_needs needs = {
        .free_bytes = resources_free_memory(""),
        .weight_bytes = (size_t)info.n_bytes,
        .scratch_bytes = scratch_bytes(&model->manifest.config, n_step, n_sequences),
        .asked_bytes = options->kv_memory_bytes,
        .wanted_bytes = n_wanted * block_bytes,
        .block_bytes = block_bytes,
    };
    kvern_status status = resources_plan_kv(&needs, &kv_bytes, err);
    if (status != KVERN_OK)
        return status;
    *n_blocks = kv_bytes / block_bytes;
    if (*n_blocks < 2)
        *n_blocks = 2;
    if (*n_blocks > INT32_MAX)
        *n_blocks = INT32_MAX;
    return KVERN_OK;
}

static void stream_add(void *state, int32_t id, struct buffer *out)
{
    token_stream_add(state, id, out, NULL); /* out of memory shows in out->has_failed */
}

static void stream_finish(void *state, struct buffer *out)
{
    token_stream_finish(state, out, NULL);
}

static void stream_free(void *state)
{
    token_stream_clear(state);
    free(state);
}

static kvern_status make_decoder(const void *context, struct text_decoder *out, kvern_error *err)
{
    const struct tokenizer *tokenizer = context;
    struct token_stream *stream = try_new(1, sizeof *stream);

    if (!stream)
        return fail(err, KVERN_MEMORY, "out of memory for a text decoder");
    token_stream_init(stream, tokenizer, true);
    *out = (struct text_decoder){
        .state = stream, .add = stream_add, .finish = stream_finish, .free = stream_free};
    return KVERN_OK;
}

/* Of a KV element: an export has its own type. */
static size_t value_bytes(const kvern_model *model, const kvern_engine_options *options)
{
    if (model->is_export)
        return model->export.kv_type == EXPORT_F16 ? 2 : 4;
    return kv_value_bytes(options->kv_type);
}

/* An export's own KV type stands, so that a default of f16 opens any; int8 is never a default. */
static kvern_status check_kv_type(const kvern_model *model, const char *kv_type, kvern_error *err)
{
    if (!model->is_export || model_is_encoder(model) || kv_value_bytes(kv_type) != 1)
        return KVERN_OK;
    return fail(err, KVERN_UNSUPPORTED,
                "kv_type int8 is for models in kvern's own form; %s is an ONNX export, whose KV is "
                "%s",
                model->manifest.name, model->export.kv_type == EXPORT_F16 ? "f16" : "f32");
}

static kvern_pooling default_pooling(const kvern_model *model)
{
    kvern_pooling stated = KVERN_POOLING_MODEL;

    if (model->is_export && model->export.is_pooled)
        return KVERN_POOLING_CLS;
    if (model_pools_logits(model))
        return KVERN_POOLING_LOGITS512;
    if (kvern_pooling_from_name(model->manifest.embedding.pooling, &stated))
        return stated;
    return model_is_encoder(model) ? KVERN_POOLING_MEAN : KVERN_POOLING_LAST;
}

/* Tokens of one sequence or text: the model's, or less. */
static size_t context_limit(const kvern_model *model, const kvern_engine_options *options)
{
    size_t max_context = model->manifest.config.max_positions;

    if (model_is_encoder(model) && model->manifest.embedding.max_tokens > 0)
        max_context = model->manifest.embedding.max_tokens;
    if (options->max_context > 0 && (size_t)options->max_context < max_context)
        max_context = (size_t)options->max_context;
    return max_context;
}

/* Texts of an encoder, also of one before a decoder, come whole, and many of them at once keep all
 * threads at work. */
static size_t step_tokens(const kvern_model *model, const kvern_engine_options *options)
{
    if (options->step_tokens == 0 && (model_is_encoder(model) || model_is_seq2seq(model)))
        return SOURCE_STEP_TOKENS;
    return (size_t)options->step_tokens;
}

static kvern_status open_runner(struct runner **out, const kvern_model *model,
                                const kvern_engine_options *options, const struct kv_layout *layout,
                                size_t n_blocks, int n_threads, kvern_error *err)
{
    const struct model_config *config = &model->manifest.config;

    if (!model->is_export && model_is_encoder(model))
        return runner_encoder_open(out, model->graph, config, n_threads, err);
    if (!model->is_export)
        return runner_paged_open(out, model->graph, config, layout, n_blocks, n_threads, err);
    if (model_is_encoder(model))
        return runner_encoder_open_export(out, model->graph, &model->export, config, n_threads,
                                          options->provider, err);
    if (model_is_seq2seq(model))
        return runner_cached_seq2seq_open(out, &model->seq2seq, config, layout, n_blocks, n_threads,
                                          options->provider, err);
    return runner_cached_open(out, model->graph, &model->export, config, layout, n_blocks,
                              n_threads, options->provider, err);
}

static kvern_status check_provider(const kvern_model *model, const char *provider, kvern_error *err)
{
    if (!provider || strcmp(provider, "cpu") == 0)
        return KVERN_OK;
    if (strcmp(provider, "cuda") != 0)
        return fail(err, KVERN_INVALID, "provider is '%s', not cpu or cuda", provider);
    if (!model->is_export)
        return fail(err, KVERN_UNSUPPORTED,
                    "provider cuda runs ONNX exports as they are; %s is in kvern's own form, whose "
                    "operators run on the CPU",
                    model->manifest.name);
    return KVERN_OK;
}

kvern_status kvern_engine_open(kvern_engine **out, const kvern_model *model,
                               const kvern_engine_options *options, kvern_error *err)
{
    const struct model_config *config = &model->manifest.config;
    const struct kernels *kernels = kernels_get();
    struct runner *runner = NULL;
    size_t n_blocks = 0;
    kvern_engine_options defaults;
    kvern_status status;

    kvern_engine_options_init(&defaults);
    if (!options)
        options = &defaults;
    status = check_options(options, err);
    if (status == KVERN_OK)
        status = check_provider(model, options->provider, err);
    if (status == KVERN_OK)
        status = check_kv_type(model, options->kv_type, err);
    if (status != KVERN_OK)
        return status;
    if (!kernels)
        return fail(err, KVERN_INVALID,
                    "KVERN_ISA=%s is not an instruction set of this machine; unset it",
                    getenv("KVERN_ISA"));

    struct kv_layout layout = {
        .n_layers = config->n_layers,
        .n_kv_heads = config->n_kv_heads,
        .head_size = config->head_size,
        .value_bytes = value_bytes(model, options),
    };
    size_t max_source = context_limit(model, options);
    size_t max_context = max_source;
    if (model_is_seq2seq(model)) /* a source in whole blocks, and an answer */
        max_context = kv_blocks_for_tokens(max_source) * KV_BLOCK_TOKENS + max_source + 1;
    if (!model_is_encoder(model)) {
        status = choose_blocks(model, options, &layout, max_context, &n_blocks, err);
        if (status != KVERN_OK)
            return status;
        if (max_context > n_blocks * KV_BLOCK_TOKENS)
            max_context = n_blocks * KV_BLOCK_TOKENS;
    }

    struct engine_limits limits = {
        .step_tokens = step_tokens(model, options),
        .prefill_chunk = (size_t)options->prefill_chunk,
        .max_sequences = (size_t)options->max_sequences,
        .max_waiting = (size_t)options->max_waiting,
        .max_context = max_context,
        .max_source = max_source,
        .kv_bytes = n_blocks * kv_layout_bytes_per_block(&layout),
        .n_threads = options->n_threads > 0 ? options->n_threads : kvern_default_threads(),
        .isa = kernels->name,
        .has_no_prefix_cache = options->no_prefix_cache,
        .prefix_cache_tokens = options->prefix_cache_tokens > 0
                                   ? (size_t)options->prefix_cache_tokens
                                   : DEFAULT_CACHE_TOKENS,
        .max_decode_slowdown = options->max_decode_slowdown,
        .pooling = default_pooling(model),
    };
    snprintf(limits.kv_kind, sizeof limits.kv_kind, "%s %s %zux%zux%zu of %zu bytes",
             model->manifest.contract, model->is_export ? "onnx" : kernels->name, layout.n_layers,
             layout.n_kv_heads, layout.head_size, layout.value_bytes);
    const struct text_decoder_maker maker = {.make = make_decoder, .context = model->tokenizer};
    status = open_runner(&runner, model, options, &layout, n_blocks, limits.n_threads, err);
    if (status == KVERN_OK)
        status = engine_new(out, runner, &limits, model->tokenizer ? &maker : NULL,
                            (struct stop_ids){.ids = config->eos, .n = config->n_eos}, err);
    if (status != KVERN_OK && runner)
        runner->free(runner);
    return status;
}
