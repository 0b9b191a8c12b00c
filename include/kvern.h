/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern: run small language models stored as ONNX, on the machine at hand.
 *
 * This is the whole public API. The rules that hold for every function:
 *
 *   - A function that can fail returns a kvern_status and takes a `kvern_error *err` last. On
 *     KVERN_OK `err` is untouched; otherwise it holds one whole sentence that names the thing and
 *     the value. `err` may be NULL.
 *   - What a function named *_open, *_new or *_submit gives, its *_close or *_free takes back; each
 *     of those takes NULL. Strings and arrays the library gives out are freed with kvern_free().
 *   - Text is UTF-8. Sizes are in bytes unless the name says otherwise. Token ids are int32_t.
 *   - Option structs are filled by their *_init first, then changed: so fields can be added.
 *   - The library prints nothing, never exits, and installs no signal handler.
 *   - A kvern_model and a kvern_engine may be used from many threads; a kvern_request from one at a
 *     time (kvern_request_cancel: from any).
 */
#ifndef KVERN_H
#define KVERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVERN_API __attribute__((visibility("default")))

/* ---- errors ---------------------------------------------------------------------------- */

/* The one list of statuses: X(enumerator, name). Add a row and the enum and the names follow. */
#define KVERN_STATUS_LIST(X)                                                                       \
    X(KVERN_OK, "ok")                                                                              \
    X(KVERN_INVALID, "invalid argument") /* the caller's argument or option */                     \
    X(KVERN_FORMAT, "bad format")       /* a file or text that is damaged or not what it claims */ \
    X(KVERN_UNSUPPORTED, "unsupported") /* well-formed, but not something kvern runs */            \
    X(KVERN_NOT_FOUND, "not found")     /* a file, model or name that is not there */              \
    X(KVERN_LIMIT, "over a limit") /* the request can never fit; the message names the limit */    \
    X(KVERN_BUSY, "busy")          /* the queue is full: try again later */                        \
    X(KVERN_MEMORY, "out of memory")                                                               \
    X(KVERN_IO, "input or output failed")                                                          \
    X(KVERN_CANCELLED, "cancelled")                                                                \
    X(KVERN_RUNTIME, "runtime failed") /* ONNX Runtime or an operator reported a failure */        \
    X(KVERN_TIMEOUT, "timed out")

typedef enum kvern_status {
#define KVERN_STATUS_ENUM(value, name) value,
    KVERN_STATUS_LIST(KVERN_STATUS_ENUM)
#undef KVERN_STATUS_ENUM
} kvern_status;

typedef struct kvern_error {
    kvern_status status;
    char message[512]; /* one sentence, no newline, always terminated */
} kvern_error;
KVERN_API const char *kvern_status_name(kvern_status status);

/* "MAJOR.MINOR.PATCH" of the library; static. */
KVERN_API const char *kvern_version(void);

/* Receives the library's warnings, one line each without a newline, from any thread. Set it before
 * other calls; NULL (the default) drops them. */
typedef void (*kvern_log_fn)(const char *line, void *user_data);
KVERN_API void kvern_set_log(kvern_log_fn fn, void *user_data);

/* Frees what the library gave out. NULL is fine. */
KVERN_API void kvern_free(void *pointer);

/* ---- models ---------------------------------------------------------------------------- */

/* A model directory opened for use: manifest, tokenizer, chat template. Weights are mapped when an
 * engine is opened on it. */
typedef struct kvern_model kvern_model;

typedef struct kvern_model_info {
    const char *name;      /* last part of the directory's name; owned by the model */
    const char *directory; /* owned by the model */
    const char *family;    /* "llama", "qwen2", "qwen3", "bert", "t5"; or "other" (exports) */
    const char *contract;  /* "paged", "encoder", "seq2seq"; "cached": a decoder's export as is */
    const char *weights;   /* "q4", "q8", "f32", "mixed"; "onnx": whatever an export has */
    const char *source;    /* what it was converted from */
    int64_t n_parameters;
    int64_t n_bytes; /* of the weights on disk */
    int32_t n_layers;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_size;
    int32_t hidden_size;
    int32_t intermediate_size;
    int32_t vocab_size;
    int32_t max_context;       /* tokens; of an encoder-decoder, of a source, and of an answer */
    int32_t bos_token;         /* -1: none */
    const int32_t *eos_tokens; /* [n_eos_tokens], owned by the model */
    size_t n_eos_tokens;
    bool has_chat_template;
    bool has_tokenizer;
    bool has_byte_fallback; /* it has none: bytes stand for tokens, which none was trained on */
    bool is_encoder;        /* runs whole texts to embed them; generates nothing */
    bool is_seq2seq;        /* an encoder-decoder: a prompt is a source that it reads whole */
    const char *pooling;    /* "last", "mean", "cls", "logits512": the makers' own; "": not said */
    bool is_normalized;     /* the makers make vectors of length 1 */
    int32_t embedding_size; /* values of a vector; 0: it makes none */
    int32_t max_tokens;     /* of a text to embed */
} kvern_model_info;

/* Opens a model by directory, by a name in the cache, or an ONNX export by its folder or .onnx
 * file: its inputs, outputs and sizes are checked against its config. */
KVERN_API kvern_status kvern_model_open(kvern_model **out, const char *name_or_directory,
                                        kvern_error *err);
/* The same for an ONNX export (an .onnx file, or its folder) that has no config.json: `preset`
 * names the model it is of ("qwen2.5-coder-0.5b", ...; an unknown name lists them). NULL: none. */
KVERN_API kvern_status kvern_model_open_as(kvern_model **out, const char *name_or_directory,
                                           const char *preset, kvern_error *err);
KVERN_API void kvern_model_close(kvern_model *model);
/* The strings in `info` live as long as the model. */
KVERN_API void kvern_model_get_info(const kvern_model *model, kvern_model_info *info);

enum { KVERN_FINGERPRINT_BYTES = 16 };

/* What tells one model from another, whatever it and its folder are called: what was computed with
 * one must not be taken for the other's. Guards against mistakes, not against forgers. */
KVERN_API kvern_status kvern_model_fingerprint(const kvern_model *model,
                                               uint8_t bytes[KVERN_FINGERPRINT_BYTES],
                                               kvern_error *err);

/* The model's i-th prompt prefix for texts to embed, such as "query"; the strings are the model's.
 * false: there are not that many. */
KVERN_API bool kvern_model_get_prompt(const kvern_model *model, size_t i, const char **name,
                                      const char **text);

/* The models in the cache directory: malloc'ed array of malloc'ed directory paths, sorted; freed
 * with kvern_strings_free. */
KVERN_API kvern_status kvern_models_list(char ***directories, size_t *n_directories,
                                         kvern_error *err);
KVERN_API void kvern_strings_free(char **strings, size_t n_strings);

/* ---- text ------------------------------------------------------------------------------ */

typedef struct kvern_tokens {
    int32_t *ids;   /* [n]; freed by kvern_tokens_clear */
    size_t *begins; /* [n]: byte offset in the text where the token's text starts */
    size_t *ends;   /* [n]: byte offset after it */
    size_t n;
} kvern_tokens;

enum {
    KVERN_TOKENIZE_SPECIAL = 1, /* add what the model's post-processor adds (bos, ...) */
    KVERN_TOKENIZE_CONTROL = 2, /* text such as <|im_end|> becomes its control token: only for
                                   text the caller wrote, never for a user's */
};

/* `text` need not be valid UTF-8: ill-formed bytes are treated as U+FFFD, as Python does with
 * errors="replace". */
KVERN_API kvern_status kvern_tokenize(const kvern_model *model, const char *text, size_t n_bytes,
                                      unsigned flags, kvern_tokens *tokens, kvern_error *err);
/* The same with a tokenizer.json and no model. */
KVERN_API kvern_status kvern_tokenize_with_file(const char *tokenizer_json, const char *text,
                                                size_t n_bytes, unsigned flags,
                                                kvern_tokens *tokens, char ***pieces,
                                                kvern_error *err);
KVERN_API void kvern_tokens_clear(kvern_tokens *tokens);
/* The text of ids, malloc'ed. skip_special leaves control tokens out. */
KVERN_API kvern_status kvern_detokenize(const kvern_model *model, const int32_t *ids, size_t n,
                                        bool skip_special, char **text, size_t *n_bytes,
                                        kvern_error *err);
/* The vocabulary's own spelling of a token, malloc'ed; NULL for an id out of range. */
KVERN_API char *kvern_token_piece(const kvern_model *model, int32_t id);

typedef struct kvern_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
} kvern_message;

/* Renders the model's chat template. User text stays text: control tokens in `content` are not
 * tokenized as such (see kvern_chat_tokenize). */
KVERN_API kvern_status kvern_chat_render(const kvern_model *model, const kvern_message *messages,
                                         size_t n_messages, bool add_generation_prompt, char **text,
                                         kvern_error *err);
/* Renders and tokenizes; control tokens come from the template only, never from message content. */
KVERN_API kvern_status kvern_chat_tokenize(const kvern_model *model, const kvern_message *messages,
                                           size_t n_messages, bool add_generation_prompt,
                                           kvern_tokens *tokens, kvern_error *err);

/* ---- engine ---------------------------------------------------------------------------- */

typedef struct kvern_engine kvern_engine;

typedef struct kvern_engine_options {
    int32_t n_threads;      /* 0: the CPUs this process may use */
    int32_t step_tokens;    /* token budget of a step, at least 2; 0: 512 */
    int32_t prefill_chunk;  /* most prompt tokens of one sequence in a step; 0: step_tokens */
    int32_t max_sequences;  /* running at once; 0: 64 */
    int32_t max_waiting;    /* queue bound; 0: 512 */
    int32_t max_context;    /* tokens of one sequence; 0: the model's, bounded by KV memory */
    size_t kv_memory_bytes; /* 0: enough for max_sequences of 2,048 tokens, at most half of what is
                               free beside weights and scratch. KVERN_LIMIT: more than is free */
    const char *kv_type;    /* "f16" (default), "f32" or "int8"; an export's KV has its own type */
    bool no_prefix_cache;   /* run every prompt whole, even if another one began the same way */
    int32_t prefix_cache_tokens; /* computed tokens remembered of requests that are gone, for those
                                    that begin the same way; 0: 16,384. Their memory stays taken. */
    double max_decode_slowdown; /* prompts beside streams that decode make a step take at most about
                                   so many times as long, at least 1; 0: no bound, the fastest */
    const char *provider;       /* "cpu" (default); "cuda": for ONNX exports only */
} kvern_engine_options;
KVERN_API void kvern_engine_options_init(kvern_engine_options *options);
/* The model must outlive the engine. options NULL: the defaults. Starts one thread. */
KVERN_API kvern_status kvern_engine_open(kvern_engine **out, const kvern_model *model,
                                         const kvern_engine_options *options, kvern_error *err);
/* Cancels what runs and joins the thread. All requests must have been freed. */
KVERN_API void kvern_engine_close(kvern_engine *engine);

typedef struct kvern_engine_stats {
    int64_t n_steps;
    int64_t n_prefill_tokens;
    int64_t n_decode_tokens;
    int64_t n_cache_hits;      /* prompts that began with tokens computed before */
    int64_t n_cached_tokens;   /* those tokens */
    int64_t n_cache_evictions; /* blocks of them that had to go */
    int64_t n_preemptions;     /* requests put back to be computed again */
    int32_t n_running;
    int32_t n_waiting;
    int32_t n_kv_blocks; /* blocks of 16 tokens */
    int32_t n_kv_blocks_used;
    int64_t kv_bytes;    /* of all blocks: what kv_memory_bytes came to; 0: it keeps no KV */
    int32_t max_context; /* the limit in force, in tokens */
    int32_t n_threads;
    const char *isa; /* the kernels in use; static */
} kvern_engine_stats;
KVERN_API void kvern_engine_get_stats(kvern_engine *engine, kvern_engine_stats *stats);

/* Added to a token's logit: -100 all but forbids it, 100 all but forces it. */
typedef struct kvern_logit_bias {
    int32_t id;
    float bias; /* -100 to 100 */
} kvern_logit_bias;

/* How a token is chosen, in the order in which the fields act (docs/sampling.md); what is out of
 * its range is refused by kvern_submit. */
typedef struct kvern_sampling {
    float repetition_penalty; /* over 0 to 100; 1: off. Of tokens in prompt and answer */
    float presence_penalty;   /* -2 to 2; 0: off. Taken off once if the answer has the token */
    float frequency_penalty;  /* -2 to 2; 0: off. Taken off for each time that it has it */
    const kvern_logit_bias *logit_bias; /* [n_logit_bias], copied; at most 1,024 different ids */
    size_t n_logit_bias;
    int32_t no_repeat_ngram_size; /* n: no n tokens in a row come twice in prompt and answer (an
                                     encoder-decoder: in what is decoded); 0: off */
    float temperature;            /* 0 to 100; 0: greedy, the default */
    int32_t top_k;                /* 0: off */
    float top_p;                  /* over 0 to 1; 1: off */
    float min_p;                  /* 0 to 1; 0: off */
    float typical_p;              /* over 0 to 1; 1: off */
    uint64_t seed;                /* with equal seeds, equal answers, whatever runs beside */
} kvern_sampling;

/* When a beam search ends that has as many finished answers as beams; max_tokens ends every one. */
typedef enum kvern_early_stopping {
    KVERN_EARLY_STOPPING_FALSE, /* when the best beam, had it ended now, would not be among them */
    KVERN_EARLY_STOPPING_TRUE,  /* at once */
    KVERN_EARLY_STOPPING_NEVER, /* when the best beam could not be among them whatever came: its
                                   length is taken to be max_tokens if length_penalty is over 0 */
} kvern_early_stopping;
/* "false", "true", "never": static; false: no rule of that name. */
KVERN_API const char *kvern_early_stopping_name(kvern_early_stopping early_stopping);
KVERN_API bool kvern_early_stopping_from_name(const char *name,
                                              kvern_early_stopping *early_stopping);

/* Which log-probabilities a request gives of the tokens it generates. */
typedef enum kvern_logprobs {
    KVERN_LOGPROBS_NONE,
    KVERN_LOGPROBS_MODEL,   /* of the model's own logits */
    KVERN_LOGPROBS_SAMPLED, /* of what the token was drawn from: after penalties, temperature and
                               filters. Greedy choices have 0 */
} kvern_logprobs;
/* "none", "model", "sampled": static; false: no kind of that name. */
KVERN_API const char *kvern_logprobs_name(kvern_logprobs logprobs);
KVERN_API bool kvern_logprobs_from_name(const char *name, kvern_logprobs *logprobs);

/* A token and its natural log-probability. */
typedef struct kvern_logprob {
    int32_t id; /* -1: there are no more tokens that can come here */
    float logprob;
} kvern_logprob;

/* Sees the logits [vocab_size] that follow `position` (0-based index of the last token run), on the
 * engine's thread, valid during the call only. For tests, evaluation and probing. */
typedef void (*kvern_logits_fn)(const float *logits, size_t vocab_size, size_t position,
                                void *user_data);

/* Asked on the calling thread before a call that waits for the engine begins and about 50 times a
 * second while it waits; true: the call ends with KVERN_CANCELLED before the engine's next step. */
typedef bool (*kvern_stop_fn)(void *user_data);

/* How a text's hidden states become its vector. */
typedef enum kvern_pooling {
    KVERN_POOLING_MODEL, /* the model's own: its 1_Pooling/config.json, else mean for encoders, last
                            for decoders, logits512 for exports that give logits only */
    KVERN_POOLING_LAST,  /* the last token's */
    KVERN_POOLING_MEAN,  /* of all tokens */
    KVERN_POOLING_CLS,   /* the first token's */
    KVERN_POOLING_LOGITS512, /* the first 512 of the last token's logits */
} kvern_pooling;
/* "model", "last", "mean", "cls", "logits512": static; false: no pooling of that name. */
KVERN_API const char *kvern_pooling_name(kvern_pooling pooling);
KVERN_API bool kvern_pooling_from_name(const char *name, kvern_pooling *pooling);
/* The cosine of two vectors [n]; 0 if one of them is all zeros. */
KVERN_API double kvern_cosine(const float *a, const float *b, size_t n);
/* Scales a vector [n] to length 1, in place; one of all zeros stays. */
KVERN_API void kvern_normalize(float *values, size_t n);

typedef struct kvern_request_options {
    const int32_t *prompt; /* [n_prompt] ids, copied; at least one. An encoder-decoder's source */
    size_t n_prompt;
    const int32_t *decoder_prompt; /* [n_decoder_prompt], copied: begins an encoder-decoder's
                                      answer, and is no part of it */
    size_t n_decoder_prompt;
    bool embed;            /* run the prompt and give its vector; nothing is generated */
    kvern_pooling pooling; /* with `embed` */
    int32_t max_tokens;    /* to generate; 0: up to the context limit */
    int32_t min_tokens;    /* before so many, end tokens and stop tokens are not chosen (unless
                              nothing else is left) and stop strings are text; 0: off */
    kvern_sampling sampling;
    const char *const *stop; /* [n_stop] stop strings, copied; not part of the answer */
    size_t n_stop;
    const int32_t *stop_token_ids; /* [n_stop_token_ids], at most 64, copied; also if ignore_eos */
    size_t n_stop_token_ids;
    int32_t num_beams;    /* beam search, as transformers' generate() does it, with so many beams, 2
                             to 64; 0 or 1: off. Its answers come whole, at the end, with a score */
    float length_penalty; /* a finished answer's log-probability is divided by its number of tokens
                             to this power; -10 to 10, 1 the default */
    kvern_early_stopping early_stopping;
    kvern_logprobs logprobs; /* of every token generated, in the events */
    int32_t top_logprobs;    /* with logprobs: also of so many of the likeliest, 0 to 20 */
    uint64_t conversation;   /* not 0: takes over the KV of the last request with this number for
                                the tokens both begin with, and leaves its own (4,096 numbers; the
                                longest idle go first). From 2^63 on they are the sessions' */
    int32_t window;      /* not 0: only this many tokens stay in the KV cache, at least 32, and the
                            sink_tokens first ones; positions go on. What a token sees is settled
                            by its position alone: older tokens leave in blocks of 16. */
    int32_t sink_tokens; /* rounded up to blocks of 16 */
    int32_t priority;    /* larger goes first, also by pre-empting; no answer changes by it */
    int32_t timeout_ms;  /* from submit to the last token; then KVERN_FINISH_TIMEOUT. 0: none */
    const char *cache_key; /* computed prefixes are shared among prompts of one key, or of none */
    bool ignore_eos;
    bool score_prompt;         /* give the log-probability of every prompt token after the first */
    bool all_logits;           /* show on_logits every prompt position, not just the last */
    kvern_logits_fn on_logits; /* may be NULL */
    void *on_logits_data;
} kvern_request_options;
KVERN_API void kvern_request_options_init(kvern_request_options *options);

typedef struct kvern_request kvern_request;

/* Queues a request. KVERN_LIMIT: it can never fit; KVERN_BUSY: the queue is full. */
KVERN_API kvern_status kvern_submit(kvern_engine *engine, const kvern_request_options *options,
                                    kvern_request **out, kvern_error *err);

/* n answers to one prompt, all queued or none: requests [n]. The prompt runs once; answer i has the
 * seed of `options` plus i. With num_beams they are the n best, best first, and end together: a
 * cancel of one is a cancel of all. KVERN_INVALID: n is 0, over 256, or over num_beams. */
KVERN_API kvern_status kvern_submit_samples(kvern_engine *engine,
                                            const kvern_request_options *options, size_t n,
                                            kvern_request **requests, kvern_error *err);

typedef enum kvern_finish {
    KVERN_FINISH_NONE,   /* not finished */
    KVERN_FINISH_STOP,   /* an end token, a stop token or a stop string */
    KVERN_FINISH_LENGTH, /* max_tokens or the context limit */
    KVERN_FINISH_CANCELLED,
    KVERN_FINISH_ERROR,
    KVERN_FINISH_TIMEOUT, /* timeout_ms went by */
} kvern_finish;
/* "stop", "length", "cancelled", "error", "timeout", "" */
KVERN_API const char *kvern_finish_name(kvern_finish finish);

/* What happened since the last call: some text, some tokens, perhaps the end. */
typedef struct kvern_event {
    const char *text; /* [n_text] complete UTF-8, NUL-terminated; until the next call */
    size_t n_text;
    const int32_t *tokens; /* [n_tokens] new ids, until the next call */
    size_t n_tokens;
    const float *logprobs; /* [n_tokens] with logprobs, until the next call; else NULL */
    const kvern_logprob *top_logprobs; /* [n_tokens, n_top_logprobs], the likeliest first */
    size_t n_top_logprobs;             /* of each token: what the request asked for */
    const float *prompt_logprobs; /* [n_prompt - 1] with score_prompt, in the last event; or NULL */
    size_t n_prompt_logprobs;
    const float *embedding; /* [n_embedding] with embed, in the last event; else NULL. As pooled:
                               neither cut nor normalised. Lives as long as the request. */
    size_t n_embedding;
    bool has_score;         /* with num_beams, in the last event, if there is an answer: */
    float score;            /* what answers are ranked by */
    kvern_finish finish;    /* not NONE: the last event */
    kvern_error error;      /* for KVERN_FINISH_ERROR */
    size_t n_prompt_tokens; /* so far */
    size_t n_completion_tokens;
    size_t n_cached_tokens; /* prompt tokens taken from the KV cache instead of run */
    double wait_ms;         /* in the queue */
    double prefill_ms;      /* from first step to first token */
    double decode_ms;       /* from first token to now */
} kvern_event;

/* Waits up to timeout_ms (-1: for ever) for something new. KVERN_TIMEOUT: nothing came. After the
 * last event every call gives that event again. */
KVERN_API kvern_status kvern_request_next(kvern_request *request, int timeout_ms,
                                          kvern_event *event, kvern_error *err);
/* Ends it before the engine's next step; the last event comes with KVERN_FINISH_CANCELLED. Any
 * thread; more than once is fine. */
KVERN_API void kvern_request_cancel(kvern_request *request);
/* Cancels if it still runs. */
KVERN_API void kvern_request_free(kvern_request *request);

/* ---- embeddings ------------------------------------------------------------------------ */

typedef struct kvern_embed_options {
    kvern_pooling pooling;
    int32_t normalize;  /* 1: to length 1; 0: as pooled; -1: as the model says, else 1. Vectors of
                           logits512 are always normalised. */
    int32_t dimensions; /* 0: all; else the first of them, normalised after the cut */
    const char *prompt; /* name of one of the model's prompt prefixes; NULL: its default, if any */
    bool truncate;      /* cut texts that are too long, instead of refusing them */
    kvern_stop_fn should_stop; /* may be NULL */
    void *should_stop_data;
} kvern_embed_options;
KVERN_API void kvern_embed_options_init(kvern_embed_options *options);

/* One text's answer. */
typedef struct kvern_embedding {
    float *values; /* [n_values]; NULL if it failed */
    size_t n_values;
    size_t n_tokens;      /* that were run, special ones included */
    size_t n_text_tokens; /* before a cut; more than n_tokens: truncated */
    kvern_error error;    /* status KVERN_OK: it went well */
} kvern_embedding;

/* Embeds n texts, as many at once as the engine's limits let; each fails alone. `embeddings` [n] is
 * the caller's array; each is cleared with kvern_embedding_clear. KVERN_OK also if single texts
 * failed. KVERN_CANCELLED: should_stop said so; texts that were finished before have their vectors,
 * the others that error. `n_text_bytes` NULL: the texts end with a NUL. Thread-safe. */
KVERN_API kvern_status kvern_embed(kvern_engine *engine, const kvern_model *model,
                                   const char *const *texts, const size_t *n_text_bytes, size_t n,
                                   const kvern_embed_options *options, kvern_embedding *embeddings,
                                   kvern_error *err);
KVERN_API void kvern_embedding_clear(kvern_embedding *embedding);

/* ---- sessions -------------------------------------------------------------------------- */

/* A sequence that outlives its requests: its tokens, their KV, and its last vector. What was run
 * once is not run again, unless the engine had to give the KV's memory to others; the answer says
 * how much was. Used from one thread at a time, and freed before its engine is closed. */
typedef struct kvern_session kvern_session;

typedef enum kvern_window {
    KVERN_WINDOW_ERROR,    /* what does not fit is refused; nothing changes */
    KVERN_WINDOW_SLIDING,  /* the last `window` tokens stay, and the sinks; positions go on */
    KVERN_WINDOW_TRUNCATE, /* what does not fit is left out, and the answer says so */
} kvern_window;
/* "error", "sliding", "truncate": static; false: no policy of that name. */
KVERN_API const char *kvern_window_name(kvern_window window);
KVERN_API bool kvern_window_from_name(const char *name, kvern_window *window);

typedef struct kvern_session_options {
    kvern_window policy;
    int32_t window;        /* of KVERN_WINDOW_SLIDING, in tokens; 0: 2,048 or the context limit */
    int32_t sink_tokens;   /* of KVERN_WINDOW_SLIDING */
    kvern_pooling pooling; /* last or logits512; MODEL: last where the model gives hidden states */
    int32_t normalize;     /* as in kvern_embed_options */
    int32_t dimensions;    /* likewise */
} kvern_session_options;
KVERN_API void kvern_session_options_init(kvern_session_options *options);

typedef struct kvern_session_info {
    size_t context_length; /* tokens that the next one sees */
    size_t position;       /* tokens appended in all: more than context_length once a window slid */
    size_t max_context;
    size_t n_values; /* of its vectors; 0 before the first */
    kvern_window policy;
    int32_t window;
    int32_t sink_tokens;
    kvern_pooling pooling; /* resolved */
    bool is_normalized;    /* its vectors have length 1 */
    int32_t dimensions;    /* its vectors are cut to these; 0: whole */
} kvern_session_info;

typedef struct kvern_session_answer {
    const float *embedding; /* [n_values], the session's; until its next call. NULL: none */
    size_t n_values;
    size_t context_length;
    size_t position;
    size_t n_appended; /* tokens added by this call */
    size_t n_left_out; /* by KVERN_WINDOW_TRUNCATE */
    size_t n_run;      /* tokens run by this call */
    size_t n_reused;   /* tokens of the context that were not */
    bool has_drift;
    double drift; /* cosine of this vector and the one before it */
} kvern_session_answer;

KVERN_API kvern_status kvern_session_new(kvern_session **out, kvern_engine *engine,
                                         const kvern_model *model,
                                         const kvern_session_options *options, kvern_error *err);
KVERN_API void kvern_session_free(kvern_session *session);
KVERN_API void kvern_session_get_info(const kvern_session *session, kvern_session_info *info);
/* The tokens of the session so far, [position]; the session's, until its next call. */
KVERN_API const int32_t *kvern_session_tokens(const kvern_session *session, size_t *n_tokens);

/* Asked by every later call of the session that waits for the engine: append and finish, whose
 * request it cancels. NULL, as in the beginning: nobody is. Neither saved nor forked. */
KVERN_API void kvern_session_set_stop(kvern_session *session, kvern_stop_fn fn, void *user_data);

/* Appends tokens, runs them, and gives the context's vector. With no tokens: the vector of the
 * context as it is. On failure, KVERN_CANCELLED too, the session is as before. */
KVERN_API kvern_status kvern_session_append(kvern_session *session, const int32_t *tokens,
                                            size_t n_tokens, kvern_session_answer *answer,
                                            kvern_error *err);
/* Appends options->prompt, which may be empty if the session is not, and what is generated after
 * it. options->conversation, embed, pooling and window are the session's own. The request is the
 * caller's to read to its end and to free; kvern_session_finish() must come before that and before
 * anything else the session does. */
KVERN_API kvern_status kvern_session_submit(kvern_session *session,
                                            const kvern_request_options *options,
                                            kvern_request **request, kvern_error *err);
/* Takes what the finished request generated into the session; one that failed or was cancelled
 * leaves the session as before. */
KVERN_API kvern_status kvern_session_finish(kvern_session *session, kvern_request *request,
                                            kvern_session_answer *answer, kvern_error *err);
/* Back to the state after the first n_tokens. KVERN_LIMIT: it never had that many. */
KVERN_API kvern_status kvern_session_rewind(kvern_session *session, size_t n_tokens,
                                            kvern_error *err);
/* Forgets all tokens, the KV and the last vector. */
KVERN_API void kvern_session_reset(kvern_session *session);
/* A new session with the same context, which shares its KV until one of them changes. */
KVERN_API kvern_status kvern_session_fork(kvern_session *session, kvern_session **out,
                                          kvern_error *err);

/* Writes the session to a file by rename: its tokens, KV, last vector, and what model and machine
 * they are of. */
KVERN_API kvern_status kvern_session_save(kvern_session *session, const char *path,
                                          kvern_error *err);
/* Reads it back, in this process or another. KVERN_FORMAT: damaged; KVERN_UNSUPPORTED: of another
 * model or kvern. KV of other kernels or another KV type is left: its tokens run again. */
KVERN_API kvern_status kvern_session_restore(kvern_session **out, kvern_engine *engine,
                                             const kvern_model *model, const char *path,
                                             kvern_error *err);

/* ---- making models --------------------------------------------------------------------- */

/* Called as work goes on; `what` is a short present-tense phrase ("packing layer 3 of 30"). Return
 * false to stop (KVERN_CANCELLED). `total` is 0 while unknown. */
typedef bool (*kvern_progress_fn)(const char *what, int64_t done_bytes, int64_t total_bytes,
                                  void *user_data);

typedef struct kvern_convert_options {
    const char *source;  /* a .gguf file, a .safetensors, .bin, .pt or .pth file, an .onnx file, or
                            a directory with one of these */
    const char *target;  /* the model directory to make; must not exist unless `overwrite` */
    const char *weights; /* NULL: keep what the source has, else q8; or "q4", "q8", "f32" */
    const char *table;   /* the embedding table and output layer. NULL: as weights, but under q4
                            what the source has, else q8; or "q4", "q8", "f32" */
    const char *name;    /* NULL: the target's last part */
    bool overwrite;
    kvern_progress_fn on_progress; /* may be NULL */
    void *on_progress_data;
} kvern_convert_options;
KVERN_API void kvern_convert_options_init(kvern_convert_options *options);
/* The directory appears by rename when all is well; on failure nothing is left. */
KVERN_API kvern_status kvern_convert(const kvern_convert_options *options, kvern_error *err);

typedef struct kvern_pull_options {
    const char *name;     /* "smollm2", "owner/repository", or a directory of another tool */
    const char *weights;  /* as in kvern_convert_options */
    const char *table;    /* likewise */
    const char *revision; /* NULL: main */
    bool overwrite;
    kvern_progress_fn on_progress;
    void *on_progress_data;
} kvern_pull_options;
KVERN_API void kvern_pull_options_init(kvern_pull_options *options);
/* Gets a model and converts it into the cache; gives the malloc'ed model directory. A model that is
 * there already is left alone, unless an older kvern made it in a form this one does not read. */
KVERN_API kvern_status kvern_pull(const kvern_pull_options *options, char **directory,
                                  kvern_error *err);

/* ---- the machine ----------------------------------------------------------------------- */

typedef struct kvern_machine_limits {
    double read_gb_s;   /* memory read bandwidth, all threads */
    double int8_gop_s;  /* int8 dot products with the kernels in use */
    double f32_gflop_s; /* f32 fused multiply-adds */
} kvern_machine_limits;
/* Measures for about a second. n_threads as in kvern_engine_options. */
KVERN_API kvern_status kvern_measure_machine(int32_t n_threads, kvern_machine_limits *limits,
                                             kvern_error *err);
/* Threads that n_threads = 0 means: the affinity mask and the cgroup's CPU quota. */
KVERN_API int32_t kvern_default_threads(void);

#ifdef __cplusplus
}
#endif
#endif
