/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands, and what several of them share: errors, opening the model, reading inputs.
 * To add one: write cmd_<name>.c, declare it here, and add its row to the table in main.c.
 */
#ifndef KVERN_CLI_COMMAND_H
#define KVERN_CLI_COMMAND_H

#include "cli/options.h"
#include "cli/sampling_flags.h"
#include "kvern.h"

#include <jansson.h>
#include <stdio.h>

/* The others: EXIT_USAGE in options.h, EXIT_INTERRUPTED in interrupt.h. */
enum { EXIT_OK = 0, EXIT_FAILED = 1 };

/* The model when none is named: to generate with, and to embed with. */
#define DEFAULT_MODEL "smollm2"
#define DEFAULT_EMBED_MODEL "minilm"

/* argv without the command's own name; each returns the exit status. */
int cmd_pull(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_models(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_embed(int argc, char **argv);
int cmd_session(int argc, char **argv);
int cmd_summarize(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_eval(int argc, char **argv);

/* "kvern: <message>" on stderr; returns EXIT_FAILED (EXIT_INTERRUPTED for KVERN_CANCELLED). */
int report(const kvern_error *err);

/* Options every command with an engine has; filled by ENGINE_OPTIONS rows. */
struct engine_flags {
    const char *model; /* NULL: `default_model`, or DEFAULT_MODEL if that is NULL too */
    const char *default_model;
    const char *preset;
    const char *provider;
    int64_t threads;
    int64_t context;
    int64_t sequences;
    int64_t step_tokens;
    size_t kv_memory;
    const char *kv_type;
    bool no_prefix_cache;
    int64_t prefix_cache_tokens;
    double max_decode_slowdown; /* 0: no bound */
};

/* clang-format off */
#define MODEL_OPTIONS(flags, default_model)                                                        \
    {"model", 'm', OPTION_STRING, &(flags).model, "NAME",                                          \
     "model name or directory (" default_model ")"},                                               \
    {"preset", 0, OPTION_STRING, &(flags).preset, "NAME",                                          \
     "what an ONNX export without config.json is of"}

/* What may differ from one run to the next without changing what is computed. */
#define MACHINE_OPTIONS(flags)                                                                     \
    {"provider", 0, OPTION_STRING, &(flags).provider, "NAME",                                      \
     "cpu (default), or cuda for ONNX exports"},                                                   \
    {"threads", 't', OPTION_INT, &(flags).threads, "N", "threads (the CPUs it may use)", 0, 1024}, \
    {"kv-memory", 0, OPTION_BYTES, &(flags).kv_memory, "SIZE",                                     \
     "memory for the KV cache, such as 512M (auto)"}

#define CONTEXT_OPTIONS(flags)                                                                     \
    {"context", 0, OPTION_INT, &(flags).context, "N", "context limit in tokens (the model's)", 0,  \
     1 << 24},                                                                                     \
    {"kv-type", 0, OPTION_STRING, &(flags).kv_type, "TYPE", "f16 (default), f32 or int8"}

#define ENGINE_OPTIONS_OF(flags, default_model)                                                    \
    MODEL_OPTIONS(flags, default_model),                                                           \
    MACHINE_OPTIONS(flags),                                                                        \
    CONTEXT_OPTIONS(flags),                                                                        \
    {"sequences", 0, OPTION_INT, &(flags).sequences, "N", "prompts running at once (64)", 0,       \
     4096},                                                                                        \
    {"step-tokens", 0, OPTION_INT, &(flags).step_tokens, "N", "token budget of one step (512)", 0, \
     1 << 16},                                                                                     \
    {"no-prefix-cache", 0, OPTION_FLAG, &(flags).no_prefix_cache, NULL,                            \
     "run every prompt whole, whatever begins alike"},                                             \
    {"prefix-cache-tokens", 0, OPTION_INT, &(flags).prefix_cache_tokens, "N",                      \
     "tokens remembered of prompts that are gone (16384)", 0, 1 << 30},                            \
    {"max-decode-slowdown", 0, OPTION_FLOAT, &(flags).max_decode_slowdown, "X",                    \
     "prompts may make a step of decoding take X times as long (no bound)", 0, 1000}

#define ENGINE_OPTIONS(flags) ENGINE_OPTIONS_OF(flags, DEFAULT_MODEL)
/* clang-format on */

/* Opens flags->model (the default one if NULL). */
kvern_status open_model(const struct engine_flags *flags, kvern_model **model, kvern_error *err);
kvern_status open_engine(const struct engine_flags *flags, const kvern_model *model,
                         kvern_engine **engine, kvern_error *err);

/* Refuses more `dimensions` than the model's vectors of that pooling have values; 0: all. */
kvern_status check_dimensions(const kvern_model *model, kvern_pooling pooling, int64_t dimensions,
                              kvern_error *err);
/* "KV cache 1152 MiB for 65536 tokens (auto)": what --kv-memory came to, without a newline. */
void print_kv_memory(const struct engine_flags *flags, const kvern_engine_stats *stats,
                     FILE *stream);

/* Waits for the last event of a request whose text nobody wants on the way; Ctrl-C cancels it. A
 * request that ended with an error gives that error. */
kvern_status finish_request(kvern_request *request, kvern_event *event, kvern_error *err);
/* KVERN_CANCELLED, "interrupted" */
kvern_status interrupted(kvern_error *err);

/* All of stdin or a file ("-": stdin; pipes and devices too), NUL-terminated, malloc'ed. Ctrl-C
 * while it waits gives KVERN_CANCELLED. */
kvern_status read_input(const char *path, char **text, size_t *n_bytes, kvern_error *err);
/* The same for what must be text: a NUL byte, at which it would be cut, is an error. */
kvern_status read_text(const char *path, char **text, kvern_error *err);

/* One user message through the model's chat template, or the bare text with its special tokens if
 * `is_raw` or the model has no template (then a `system` text is an error). */
kvern_status make_prompt(const kvern_model *model, const char *system, const char *text,
                         bool is_raw, kvern_tokens *tokens, kvern_error *err);

/* {"id", "text", "finish_reason", "usage", "timings"}, "error" if it failed, and what
 * note_tokenizer notes; `id` is borrowed, NULL leaves it out. NULL if memory ran out. */
json_t *result_json(const kvern_model *model, json_t *id, const char *text, size_t n_bytes,
                    const kvern_event *event);
/* Sets "tokenizer": "bytes" where bytes stand in for a model's missing tokenizer. NULL is fine. */
void note_tokenizer(json_t *result, const kvern_model *model);

#endif
