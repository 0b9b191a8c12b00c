/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a GGUF file's container, config, tensors and vocabulary; every tensor it accepts is
 * read to its last row.
 */
#include "convert/checkpoint.h"
#include "convert/gguf.h"
#include "convert/gguf_model.h"
#include "convert/tokenizer_export.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_rows(const struct checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->n_tensors; i++) {
        const struct tensor *tensor = &checkpoint->tensors[i];
        float *row = malloc(tensor_row_values(tensor) * sizeof *row);

        for (size_t r = 0; row && r < tensor_n_rows(tensor); r++)
            tensor_read_row(tensor, r, row);
        free(row);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct checkpoint checkpoint = {0};
    struct gguf gguf;
    kvern_error err;

    if (gguf_parse(&gguf, data, size, &err) != KVERN_OK)
        return 0;
    if (gguf_model_config(&gguf, &checkpoint.config, &err) == KVERN_OK &&
        gguf_model_tensors(&gguf, NULL, &checkpoint, &err) == KVERN_OK)
        read_rows(&checkpoint);
    tokenizer_export(&gguf, &checkpoint.tokenizer_json, &checkpoint.chat_template, &err);
    checkpoint_close(&checkpoint);
    gguf_clear(&gguf);
    return 0;
}
