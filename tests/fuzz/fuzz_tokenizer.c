/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a tokenizer.json. What opens must encode and decode a text with a bit of everything.
 */
#include "text/tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "Ab 12\n\te\xcc\x81 \xe4\xbd\xa0 <s>x</s> \xff  don't__";
    struct tokenizer *tokenizer = NULL;
    kvern_tokens tokens = {0};
    char *decoded = NULL;
    size_t n_bytes;

    if (size > 1 << 16 ||
        tokenizer_open_json(&tokenizer, (const char *)data, size, NULL) != KVERN_OK)
        return 0;
    if (tokenizer_encode(tokenizer, text, sizeof text - 1, 3, &tokens, NULL) == KVERN_OK) {
        for (size_t i = 0; i < tokens.n; i++) {
            if (!tokenizer_piece(tokenizer, tokens.ids[i], &n_bytes) ||
                tokens.ends[i] > sizeof text - 1 || tokens.begins[i] > tokens.ends[i])
                abort();
        }
        if (tokenizer_decode(tokenizer, tokens.ids, tokens.n, false, &decoded, &n_bytes, NULL) ==
            KVERN_OK)
            free(decoded);
    }
    kvern_tokens_clear(&tokens);
    tokenizer_close(tokenizer);
    return 0;
}
