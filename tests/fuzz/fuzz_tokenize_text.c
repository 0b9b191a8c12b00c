/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as text for four committed tokenizers and the byte tokenizer. Ids of bytes must give
 * the text back (repaired if it was ill-formed), and no control token but the one for unknown words
 * may come out of text that is not trusted.
 */
#include "base/file.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *open_golden(const char *name)
{
    struct tokenizer *tokenizer = NULL;
    char *json = NULL;
    size_t n_bytes;
    char path[4096];

    snprintf(path, sizeof path, "%s/tests/golden/tokens/%s", KVERN_SOURCE_DIR, name);
    if (file_read(path, 1 << 24, &json, &n_bytes, NULL) != KVERN_OK ||
        tokenizer_open_json(&tokenizer, json, n_bytes, NULL) != KVERN_OK)
        abort();
    free(json);
    return tokenizer;
}

/* `unknown_piece` is the token for unknown words, or NULL. */
static void check(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                  const char *unknown_piece, bool is_lossless)
{
    kvern_tokens tokens = {0};
    char *decoded = NULL;
    size_t n_decoded;
    struct buffer repaired = {0};

    if (tokenizer_encode(tokenizer, text, n_bytes, 0, &tokens, NULL) != KVERN_OK ||
        tokenizer_decode(tokenizer, tokens.ids, tokens.n, false, &decoded, &n_decoded, NULL) !=
            KVERN_OK)
        abort();
    int32_t unknown =
        unknown_piece ? tokenizer_id(tokenizer, unknown_piece, strlen(unknown_piece)) : -1;
    for (size_t i = 0; i < tokens.n; i++) {
        bool is_control =
            tokens.ids[i] != unknown && tokenizer_is_special(tokenizer, tokens.ids[i]);

        if (is_control || tokens.ends[i] > n_bytes || tokens.begins[i] > tokens.ends[i])
            abort();
    }
    unicode_add_lossy(&repaired, text, n_bytes);
    if (is_lossless && (n_decoded != repaired.n_bytes ||
                        (n_decoded && memcmp(decoded, repaired.data, n_decoded) != 0)))
        abort();
    buffer_clear(&repaired);
    free(decoded);
    kvern_tokens_clear(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *byte_level; /* live as long as the process */
    static struct tokenizer *composed;
    static struct tokenizer *wordpiece;
    static struct tokenizer *unigram;
    static struct tokenizer *bytes;

    if (!byte_level) {
        byte_level = open_golden("gpt2.json");
        composed = open_golden("qwen2.json");
        wordpiece = open_golden("bert.json");
        unigram = open_golden("unigram.json");
        if (tokenizer_open_bytes(&bytes, 256, NULL) != KVERN_OK)
            abort();
    }
    check(byte_level, (const char *)data, size, NULL, true);
    check(composed, (const char *)data, size, NULL, false);
    check(wordpiece, (const char *)data, size, "[UNK]", false);
    check(unigram, (const char *)data, size, "<unk>", false);
    check(bytes, (const char *)data, size, NULL, true);
    return 0;
}
