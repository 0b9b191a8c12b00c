/* SPDX-License-Identifier: Apache-2.0
 *
 * Hashing with XXH3: reading gigabytes of weights whole would cost more than the work that a saved
 * state saves. Of a converted model its files' hashes count; of an export, which has none, its
 * graph and 256 places of each file that the graph's tensors lie in, whatever it is called.
 */
#include "model/model.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { N_SAMPLES = 256, SAMPLE_BYTES = 4096 };

/* A small file whole, of a large one evenly spread samples and its end. */
static kvern_status add_file(XXH3_state_t *state, const char *path, kvern_error *err)
{
    struct file_map map = {0};
    kvern_status status = file_map_open(&map, path, err);
    uint64_t n_bytes = map.n_bytes;

    if (status != KVERN_OK)
        return status;
    XXH3_128bits_update(state, &n_bytes, sizeof n_bytes);
    if (map.n_bytes <= (size_t)N_SAMPLES * SAMPLE_BYTES) {
        XXH3_128bits_update(state, map.data, map.n_bytes);
    } else {
        size_t stride = (map.n_bytes - SAMPLE_BYTES) / (N_SAMPLES - 1);

        for (size_t i = 0; i < N_SAMPLES; i++)
            XXH3_128bits_update(state, map.data + i * stride, SAMPLE_BYTES);
    }
    file_map_close(&map);
    return KVERN_OK;
}

/* The graphs, then the files of their weights as they name them first. */
static kvern_status add_export(XXH3_state_t *state, const kvern_model *model, kvern_error *err)
{
    char *directory = path_directory(model->graph);
    kvern_status status = KVERN_OK;

    if (model->seq2seq.encoder.path)
        status = add_file(state, model->seq2seq.encoder.path, err);
    if (status == KVERN_OK)
        status = add_file(state, model->graph, err);
    if (status == KVERN_OK && model->seq2seq.next.path)
        status = add_file(state, model->seq2seq.next.path, err);
    for (size_t i = 0; status == KVERN_OK && i < model->files.n; i++) {
        char *path = path_join(directory, model->files.items[i].name);

        status = add_file(state, path, err);
        free(path);
    }
    free(directory);
    return status;
}

kvern_status kvern_model_fingerprint(const kvern_model *model,
                                     uint8_t bytes[KVERN_FINGERPRINT_BYTES], kvern_error *err)
{
    const struct manifest *manifest = &model->manifest;
    XXH3_state_t *state = XXH3_createState();
    XXH128_canonical_t canonical;
    kvern_status status = KVERN_OK;

    if (!state)
        return fail(err, KVERN_MEMORY, "no memory to hash %s", manifest->name);
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, manifest->contract, strlen(manifest->contract) + 1);
    if (model->is_export) {
        status = add_export(state, model, err);
    } else {
        for (size_t i = 0; i < manifest->n_files; i++)
            XXH3_128bits_update(state, manifest->files[i].sha256, sizeof manifest->files[i].sha256);
    }
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    memcpy(bytes, canonical.digest, KVERN_FINGERPRINT_BYTES);
    XXH3_freeState(state);
    return status;
}
