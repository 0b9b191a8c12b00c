/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens of one request and the list the scheduler keeps them in. All memory is taken when the
 * request is submitted, so that no step can fail for want of it.
 */
#include "engine/sequence.h"

#include "base/error.h"
#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

kvern_status sequence_init(struct sequence *sequence, const int32_t *prompt, size_t n_prompt,
                           size_t max_tokens, kvern_error *err)
{
    size_t capacity;

    *sequence = (struct sequence){0};
    if (!add_sizes(n_prompt, max_tokens, &capacity))
        return fail(err, KVERN_LIMIT, "a prompt of %zu tokens with max_tokens %zu is too long",
                    n_prompt, max_tokens);
    sequence->tokens = try_new(capacity, sizeof *sequence->tokens);
    if (!sequence->tokens)
        return fail(err, KVERN_MEMORY, "no memory for a sequence of %zu tokens", capacity);
    memcpy(sequence->tokens, prompt, n_prompt * sizeof *prompt);
    sequence->n_tokens = n_prompt;
    sequence->n_prompt = n_prompt;
    sequence->capacity = capacity;
    return kv_table_init(&sequence->table,
                         kv_blocks_for_tokens(sequence_max_positions(n_prompt, max_tokens)), err);
}

void sequence_clear(struct sequence *sequence)
{
    kv_table_clear(&sequence->table);
    free(sequence->tokens);
    *sequence = (struct sequence){0};
}

void sequence_append(struct sequence *sequence, int32_t token)
{
    assert(sequence->n_tokens < sequence->capacity);
    sequence->tokens[sequence->n_tokens++] = token;
}

size_t sequence_n_generated(const struct sequence *sequence)
{
    return sequence->n_tokens - sequence->n_prompt;
}

size_t sequence_n_source_slots(const struct sequence *sequence)
{
    return kv_blocks_for_tokens(sequence->n_source) * KV_BLOCK_TOKENS;
}

bool sequence_is_encoding(const struct sequence *sequence)
{
    return sequence->n_computed < sequence_n_source_slots(sequence);
}

size_t sequence_max_positions(size_t n_prompt, size_t max_tokens)
{
    return n_prompt + max_tokens - 1;
}

size_t sequence_window_dropped(const struct sequence_window *window, size_t n_tokens)
{
    size_t n_blocks = kv_blocks_for_tokens(n_tokens);

    return window->n_blocks > 0 && n_blocks > window->n_blocks ? n_blocks - window->n_blocks : 0;
}

size_t sequence_n_held(const struct sequence *sequence, size_t n_tokens)
{
    return n_tokens - sequence->table.n_dropped * KV_BLOCK_TOKENS;
}

bool sequence_is_decoding(const struct sequence *sequence)
{
    return sequence->n_tokens > sequence->n_prompt &&
           sequence->n_computed + 1 == sequence->n_tokens;
}

void sequence_list_append(struct sequence_list *list, struct sequence *sequence)
{
    sequence_list_insert(list, sequence, NULL);
}

void sequence_list_insert(struct sequence_list *list, struct sequence *sequence,
                          struct sequence *next)
{
    struct sequence *previous = next ? next->previous : list->last;

    sequence->previous = previous;
    sequence->next = next;
    if (previous)
        previous->next = sequence;
    else
        list->first = sequence;
    if (next)
        next->previous = sequence;
    else
        list->last = sequence;
    list->n++;
}

void sequence_list_remove(struct sequence_list *list, struct sequence *sequence)
{
    if (sequence->previous)
        sequence->previous->next = sequence->next;
    else
        list->first = sequence->next;
    if (sequence->next)
        sequence->next->previous = sequence->previous;
    else
        list->last = sequence->previous;
    sequence->previous = NULL;
    sequence->next = NULL;
    list->n--;
}
