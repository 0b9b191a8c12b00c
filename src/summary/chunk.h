/* SPDX-License-Identifier: Apache-2.0
 *
 * Cuts a text into chunks that a model can take: whole lines, at most so many of them and at most
 * so many tokens, at the best borders there are: between functions and classes, else after blank
 * lines, else anywhere between two lines. Pure.
 */
#ifndef KVERN_SUMMARY_CHUNK_H
#define KVERN_SUMMARY_CHUNK_H

#include "kvern.h"
#include "summary/language.h"

enum { CHUNK_DEFAULT_LINES = 300 };

/* Returned by a counter that failed. */
#define CHUNK_COUNT_FAILED ((size_t)-1)

/* How many tokens a model takes for a text, as the real tokenizer counts. More text must not take
 * fewer tokens by more than a few. It gets whole characters of what it was given (ill-formed bytes
 * count as characters). */
typedef size_t (*chunk_count_fn)(void *ctx, const char *text, size_t n_bytes);

enum chunk_level {
    CHUNK_LEVEL_FILE,     /* as few chunks as fit */
    CHUNK_LEVEL_FUNCTION, /* one a function; what lies between functions is chunks, too */
};

struct chunk_options {
    size_t max_lines;  /* 0: CHUNK_DEFAULT_LINES */
    size_t max_tokens; /* of a chunk's text alone, without a prompt; 0: no limit */
    enum chunk_level level;
    chunk_count_fn count_tokens; /* needed where max_tokens is not 0 */
    void *ctx;
};

/* Chunks follow one another: their texts joined are the text, byte for byte. */
struct chunk {
    size_t begin; /* offset in the text */
    size_t n_bytes;
    size_t n_kept_bytes; /* what fits: less than n_bytes for a cut chunk, which is one long line */
    size_t first_line;   /* from 1 */
    size_t last_line;
    size_t n_tokens; /* of the kept bytes; 0 where max_tokens is 0 */
    char *name;      /* "Class.method", the file of a patch; owned; NULL: none */
    bool is_cut;
    bool is_blank; /* nothing but space: not worth a summary */
};

struct chunk_list {
    struct chunk *chunks; /* [n_chunks]; none for an empty text */
    size_t n_chunks;
    size_t capacity;
};

/* `language`: as language_of() says, language_plain() for other texts. KVERN_LIMIT: not even one
 * character fits into max_tokens; KVERN_RUNTIME: the counter failed. On failure `list` is empty. */
kvern_status chunk_text(struct chunk_list *list, const struct language *language, const char *text,
                        size_t n_bytes, const struct chunk_options *options, kvern_error *err);
/* The same for a patch: each chunk is of one file and named by it, and is cut between hunks where
 * it can be. What stands before the first file is a chunk without a name. */
kvern_status chunk_patch(struct chunk_list *list, const char *text, size_t n_bytes,
                         const struct chunk_options *options, kvern_error *err);
void chunk_list_clear(struct chunk_list *list);

#endif
