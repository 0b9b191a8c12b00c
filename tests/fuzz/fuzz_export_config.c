/* SPDX-License-Identifier: Apache-2.0
 *
 * The config files of an export: an input is read as config.json, and as genai_config.json.
 */
#include "base/file.h"
#include "model/export_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[] = "/tmp/kvern-fuzz-XXXXXX";

static void remove_directory(void)
{
    directory_remove(directory, NULL);
}

static void read_as(const char *name, const uint8_t *data, size_t size)
{
    char *path = path_join(directory, name);
    FILE *file = fopen(path, "wb");
    struct model_config config;
    bool is_stated = false;
    kvern_error err = {0};

    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
    if (export_config_read(&config, directory, NULL, &is_stated, &err) != KVERN_OK) {
        if (!*err.message)
            abort();
    } else if (!is_stated || config.n_eos > CONFIG_MAX_EOS || config.vocab_size > 1 << 28 ||
               config.max_positions == 0) {
        abort();
    }
    remove(path);
    free(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_made;

    if (!is_made) {
        if (!mkdtemp(directory))
            abort();
        atexit(remove_directory);
        is_made = true;
    }
    read_as("config.json", data, size);
    read_as("genai_config.json", data, size);
    return 0;
}
