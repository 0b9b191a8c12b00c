/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a SentencePiece model; what the converter makes of one it accepts is opened as a
 * tokenizer, and where that opens too it must encode any text.
 */
#include "base/buffer.h"
#include "convert/sentencepiece.h"
#include "convert/tokenizer_unigram.h"
#include "text/tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct sentencepiece *model)
{
    static const char text[] = "Ab 12\n\te\xcc\x81 \xe4\xbd\xa0 <s>x</s> \xff  don't__";
    json_t *members = tokenizer_unigram_members(model, "first");
    char *normalizer = json_dumps(json_object_get(members, "normalizer"), JSON_COMPACT);
    struct buffer json = {0};
    struct tokenizer *tokenizer = NULL;
    kvern_tokens tokens = {0};

    if (!normalizer)
        abort();
    buffer_add_format(&json, "{\"normalizer\":%s,\"model\":", normalizer);
    tokenizer_unigram_put_model(model, 2, &json);
    buffer_add_string(&json, "}");
    if (tokenizer_open_json(&tokenizer, json.data, json.n_bytes, NULL) == KVERN_OK) {
        if (tokenizer_encode(tokenizer, text, sizeof text - 1, 3, &tokens, NULL) != KVERN_OK)
            abort();
        kvern_tokens_clear(&tokens);
        tokenizer_close(tokenizer);
    }
    buffer_clear(&json);
    free(normalizer);
    json_decref(members);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sentencepiece model;
    json_t *ids = NULL;

    if (size > 1 << 16 || sentencepiece_parse(&model, data, size, NULL) != KVERN_OK)
        return 0;
    if (tokenizer_unigram_ids(&model, 2, &ids, NULL) == KVERN_OK)
        use(&model);
    json_decref(ids);
    sentencepiece_clear(&model);
    return 0;
}
