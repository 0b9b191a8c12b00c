/* SPDX-License-Identifier: Apache-2.0
 *
 * The files sentence-transformers keeps beside a model: an input is a digit that says which, and
 * its text. What is read goes through a manifest's member and back.
 */
#include "convert/embedding_config.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[] = "/tmp/kvern-fuzz-XXXXXX";

static void remove_directory(void)
{
    directory_remove(directory, NULL);
}

/* Empty but for 1_Pooling, every time. */
static void make_directory(void)
{
    static bool is_made;
    char *pooling;

    if (!is_made && (!mkdtemp(directory) || atexit(remove_directory) != 0))
        abort();
    is_made = true;
    pooling = path_join(directory, "1_Pooling");
    if (directory_remove(directory, NULL) != KVERN_OK || directory_make(pooling, NULL) != KVERN_OK)
        abort();
    free(pooling);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"modules.json", "1_Pooling/config.json",
                                        "sentence_bert_config.json",
                                        "config_sentence_transformers.json"};
    static struct manifest_embedding first, second;
    kvern_error err = {0};
    char *path;
    FILE *file;

    if (size == 0)
        return 0;
    make_directory();
    path = path_join(directory, names[data[0] % 4]);
    file = fopen(path, "wb");
    if (!file || fwrite(data + 1, 1, size - 1, file) != size - 1 || fclose(file) != 0)
        abort();
    free(path);
    if (embedding_config_read(&first, directory, 512, &err) != KVERN_OK) {
        if (!*err.message)
            abort();
        return 0;
    }
    json_t *member = manifest_embedding_make(&first);
    if (!member || manifest_embedding_read(&second, member, 512, &err) != KVERN_OK ||
        strcmp(first.pooling, second.pooling) != 0 || first.n_prompts != second.n_prompts ||
        first.max_tokens != second.max_tokens)
        abort();
    json_decref(member);
    return 0;
}
