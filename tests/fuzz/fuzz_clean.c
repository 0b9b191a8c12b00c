/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers of models: a byte of options, then answer, source and prompt with NULs between. Any bytes
 * give a summary of one line of valid UTF-8 within its limit, or a reason.
 */
#include "summary/clean.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes up to the next NUL; moves behind it. */
static size_t next_part(const char **at, const char *end, const char **part)
{
    const char *stop = *at < end ? memchr(*at, '\0', (size_t)(end - *at)) : NULL;
    size_t n_bytes = (size_t)((stop ? stop : end) - *at);

    *part = *at;
    *at += n_bytes + (stop != NULL);
    return n_bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *at = (const char *)data;
    const char *end = at + size;
    struct clean_options options = {0};
    struct cleaned cleaned;
    const char *answer;
    const char *part;
    size_t n_answer;
    size_t n_part;
    size_t max_bytes = CLEAN_MAX_BYTES;
    char *prompt;

    if (size > 0) {
        options.is_finished = (*at & 1) != 0;
        options.max_sentences = (size_t)(*at >> 1 & 3);
        options.max_bytes = (*at & 8) != 0 ? 24 : 0;
        max_bytes = options.max_bytes ? options.max_bytes : max_bytes;
        at++;
    }
    n_answer = next_part(&at, end, &answer);
    options.n_source = next_part(&at, end, &options.source);
    n_part = next_part(&at, end, &part);
    prompt = strndup(part, n_part);
    if (!prompt)
        abort();
    options.prompt = prompt;
    if (clean_summary(answer, n_answer, &options, &cleaned, NULL) != KVERN_OK ||
        (!cleaned.summary && !cleaned.reason))
        abort();
    if (cleaned.summary) {
        size_t n_bytes = strlen(cleaned.summary);

        if (n_bytes == 0 || n_bytes > max_bytes || !utf8_is_valid(cleaned.summary, n_bytes))
            abort();
        for (size_t i = 0; i < n_bytes; i++) {
            if ((unsigned char)cleaned.summary[i] < 0x20 || cleaned.summary[i] == 0x7f)
                abort();
        }
    }
    clean_clear(&cleaned);
    free(prompt);
    return 0;
}
