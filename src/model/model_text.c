/* SPDX-License-Identifier: Apache-2.0
 *
 * The public text functions of a model: tokens of texts and of conversations.
 */
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/model.h"
#include "text/chat.h"

#include <stdlib.h>

enum { MAX_TOKENIZER_FILE_BYTES = 256 << 20 };

static kvern_status require_tokenizer(const kvern_model *model, kvern_error *err)
{
    if (model->tokenizer)
        return KVERN_OK;
    return fail(err, KVERN_UNSUPPORTED,
                "model %s has no tokenizer.json, so it takes token ids only", model->manifest.name);
}

kvern_status kvern_tokenize(const kvern_model *model, const char *text, size_t n_bytes,
                            unsigned flags, kvern_tokens *tokens, kvern_error *err)
{
    kvern_status status = require_tokenizer(model, err);

    if (status == KVERN_OK)
        status = tokenizer_encode(model->tokenizer, text, n_bytes, flags, tokens, err);
    return status;
}

static char *copy_piece(const struct tokenizer *tokenizer, int32_t id)
{
    size_t n_bytes = 0;
    const char *piece = tokenizer_piece(tokenizer, id, &n_bytes);

    return piece ? copy_bytes_or_abort(piece, n_bytes) : NULL;
}

kvern_status kvern_tokenize_with_file(const char *tokenizer_json, const char *text, size_t n_bytes,
                                      unsigned flags, kvern_tokens *tokens, char ***pieces,
                                      kvern_error *err)
{
    struct tokenizer *tokenizer = NULL;
    char *json = NULL;
    size_t n_json = 0;
    kvern_status status = file_read(tokenizer_json, MAX_TOKENIZER_FILE_BYTES, &json, &n_json, err);

    if (status == KVERN_OK) {
        status = tokenizer_open_json(&tokenizer, json, n_json, err);
        if (status != KVERN_OK)
            status = fail_in(err, status, "%s", tokenizer_json);
    }
    if (status == KVERN_OK)
        status = tokenizer_encode(tokenizer, text, n_bytes, flags, tokens, err);
    if (status == KVERN_OK && pieces) {
        *pieces = new_or_abort((tokens->n + 1) * sizeof **pieces);
        for (size_t i = 0; i < tokens->n; i++)
            (*pieces)[i] = copy_piece(tokenizer, tokens->ids[i]);
    }
    tokenizer_close(tokenizer);
    free(json);
    return status;
}

kvern_status kvern_detokenize(const kvern_model *model, const int32_t *ids, size_t n,
                              bool skip_special, char **text, size_t *n_bytes, kvern_error *err)
{
    kvern_status status = require_tokenizer(model, err);

    if (status == KVERN_OK)
        status = tokenizer_decode(model->tokenizer, ids, n, skip_special, text, n_bytes, err);
    return status;
}

char *kvern_token_piece(const kvern_model *model, int32_t id)
{
    return model->tokenizer ? copy_piece(model->tokenizer, id) : NULL;
}

static kvern_status render(const kvern_model *model, const kvern_message *messages,
                           size_t n_messages, bool add_generation_prompt, struct chat_text *text,
                           kvern_error *err)
{
    const struct chat_token tokens[] = {
        {"bos_token", model->bos}, {"eos_token", model->eos}, {"pad_token", model->pad}};
    const struct chat_options options = {
        .add_generation_prompt = add_generation_prompt,
        .tokens = tokens,
        .n_tokens = sizeof tokens / sizeof tokens[0],
    };

    return chat_render(model->chat_template, model->manifest.name, messages, n_messages, &options,
                       text, err);
}

kvern_status kvern_chat_render(const kvern_model *model, const kvern_message *messages,
                               size_t n_messages, bool add_generation_prompt, char **text,
                               kvern_error *err)
{
    struct chat_text rendered = {0};
    kvern_status status =
        render(model, messages, n_messages, add_generation_prompt, &rendered, err);

    if (status == KVERN_OK) {
        *text = rendered.text;
        rendered.text = NULL;
    }
    chat_text_clear(&rendered);
    return status;
}

kvern_status kvern_chat_tokenize(const kvern_model *model, const kvern_message *messages,
                                 size_t n_messages, bool add_generation_prompt,
                                 kvern_tokens *tokens, kvern_error *err)
{
    struct chat_text rendered = {0};
    struct tokenizer_segment *segments = NULL;
    kvern_status status = require_tokenizer(model, err);

    if (status == KVERN_OK)
        status = render(model, messages, n_messages, add_generation_prompt, &rendered, err);
    if (status == KVERN_OK) {
        segments = try_new(rendered.n_segments, sizeof *segments);
        if (!segments)
            status = fail(err, KVERN_MEMORY, "out of memory for %zu parts of a conversation",
                          rendered.n_segments);
    }
    for (size_t i = 0; status == KVERN_OK && i < rendered.n_segments; i++)
        segments[i] = (struct tokenizer_segment){
            .text = rendered.text + rendered.segments[i].begin,
            .n_bytes = rendered.segments[i].n_bytes,
            .allow_control = rendered.segments[i].is_trusted,
        };
    /* the template writes the bos token itself: no special tokens are added */
    if (status == KVERN_OK)
        status = tokenizer_encode_segments(model->tokenizer, segments, rendered.n_segments, 0,
                                           tokens, err);
    free(segments);
    chat_text_clear(&rendered);
    return status;
}
