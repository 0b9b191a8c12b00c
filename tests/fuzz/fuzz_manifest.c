/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern.json: any bytes are parsed or refused; what was parsed can be written, and reads back as
 * the same manifest.
 */
#include "model/manifest.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct manifest first, second;
    kvern_error err;
    char *text = NULL;

    if (manifest_parse(&first, (const char *)data, size, &err) != KVERN_OK)
        return 0;
    if (manifest_format(&first, &text, &err) != KVERN_OK ||
        manifest_parse(&second, text, strlen(text), &err) != KVERN_OK ||
        memcmp(&first.config, &second.config, sizeof first.config) != 0)
        abort();
    free(text);
    return 0;
}
