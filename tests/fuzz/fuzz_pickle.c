/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: a pickle alone; of one it accepts, every list of items is walked to its end.
 */
#include "convert/pickle.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pickle pickle;
    kvern_error err;

    if (pickle_parse(&pickle, data, size, &err) != KVERN_OK)
        return 0;
    for (size_t i = 0; i < pickle.n_values; i++) {
        const struct pickle_value *value = &pickle.values[i];
        bool has_items = value->kind == PICKLE_TUPLE || value->kind == PICKLE_LIST ||
                         value->kind == PICKLE_DICT || value->kind == PICKLE_ORDERED_DICT;
        uint32_t n = 0;

        if (!has_items)
            continue;
        for (uint32_t item = value->items.first; item != PICKLE_NO_ITEM;
             item = pickle.items[item].next, n++) {
            if (pickle.items[item].value >= pickle.n_values)
                abort();
        }
        if (n != value->n)
            abort();
    }
    for (size_t i = 0; i < pickle.n_tensors; i++) {
        if (pickle.tensors[i].storage >= pickle.n_storages)
            abort();
    }
    pickle_clear(&pickle);
    return 0;
}
