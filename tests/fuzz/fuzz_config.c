/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: config.json; a decoder's that it accepts must give finite rotary frequencies.
 */
#include "model/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_config config;
    kvern_error err;
    float inv_freq[CONFIG_MAX_HEAD_SIZE / 2];
    char *text = malloc(size + 1);

    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (config_from_json(&config, text, text, &err) == KVERN_OK && !config_is_encoder(&config)) {
        config_rotary_frequencies(&config, inv_freq);
        for (size_t i = 0; i < config.head_size / 2; i++) {
            if (!isfinite(inv_freq[i]))
                abort();
        }
    }
    free(text);
    return 0;
}
