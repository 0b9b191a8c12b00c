/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a source text or a patch, in a language and with limits that its first four bytes
 * choose: the chunks join to the text, and each keeps the limits.
 */
#include "summary/chunk.h"
#include "summary/patch.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count_words(void *ctx, const char *text, size_t n_bytes)
{
    size_t n = 0;

    (void)ctx;
    for (size_t i = 0; i < n_bytes; i++)
        n += i == 0 || text[i - 1] == ' ' || text[i] == '\n' || i % 7 == 0;
    return n;
}

static void check(const struct chunk_list *list, const struct chunk_options *options,
                  const char *text, size_t n_bytes)
{
    size_t at = 0;
    size_t line = 1;

    for (size_t i = 0; i < list->n_chunks; i++) {
        const struct chunk *chunk = &list->chunks[i];

        if (chunk->begin != at || chunk->first_line != line || chunk->n_bytes == 0 ||
            chunk->n_kept_bytes > chunk->n_bytes || chunk->last_line < line ||
            chunk->last_line - line + 1 > options->max_lines ||
            count_words(NULL, text + at, chunk->n_kept_bytes) > options->max_tokens ||
            (chunk->is_cut ? chunk->last_line != line : chunk->n_kept_bytes != chunk->n_bytes))
            abort();
        at += chunk->n_bytes;
        line = chunk->last_line + 1;
        if (at < n_bytes && text[at - 1] != '\n')
            abort();
    }
    if (at != n_bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { N_CHOICES = 4, PATCH = 255 };
    size_t n_languages = 0;
    struct chunk_list list;

    if (size < N_CHOICES)
        return 0;
    while (language_at(n_languages))
        n_languages++;
    struct chunk_options options = {.max_lines = 1 + data[1] % 64,
                                    .max_tokens = 1 + data[2],
                                    .level = data[3] % 2 ? CHUNK_LEVEL_FUNCTION : CHUNK_LEVEL_FILE,
                                    .count_tokens = count_words};
    const char *text = (const char *)data + N_CHOICES;
    size_t n_bytes = size - N_CHOICES;
    kvern_status status = data[0] == PATCH ? chunk_patch(&list, text, n_bytes, &options, NULL)
                                           : chunk_text(&list, language_at(data[0] % n_languages),
                                                        text, n_bytes, &options, NULL);

    if (status == KVERN_LIMIT) /* max_tokens 1 is less than some characters take */
        return options.max_tokens > 4 ? abort(), 0 : 0;
    if (status != KVERN_OK)
        abort();
    check(&list, &options, text, n_bytes);
    chunk_list_clear(&list);
    patch_is_one(text, n_bytes);
    return 0;
}
