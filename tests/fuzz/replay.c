/* SPDX-License-Identifier: Apache-2.0
 *
 * The plain main of every fuzz target: feeds each file of a corpus folder to the target, as it is,
 * cut short at many places, and with seeded bit flips. No input may crash, hang or leak.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_CUTS = 150, N_FLIPS = 300 };

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* An exact-size heap copy, so that AddressSanitizer sees a read one byte past the end. */
static void feed(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static long replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint64_t state = 0x9e3779b97f4a7c15u;
    long n_inputs = 0;

    if (!file)
        return 0;
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(size ? size : 1);
    if (!data || fread(data, 1, size, file) != size)
        abort();
    fclose(file);

    feed(data, size);
    n_inputs++;
    for (int i = 0; i < N_CUTS && size > 0; i++, n_inputs++)
        feed(data, next_random(&state) % size);
    for (int i = 0; i < N_FLIPS && size > 0; i++, n_inputs++) {
        uint8_t *copy = malloc(size);
        size_t n_flips = 1 + next_random(&state) % 4;

        if (!copy)
            abort();
        memcpy(copy, data, size);
        for (size_t j = 0; j < n_flips; j++)
            copy[next_random(&state) % size] ^= (uint8_t)(1u << next_random(&state) % 8);
        feed(copy, size);
        free(copy);
    }
    free(data);
    return n_inputs;
}

int main(int argc, char **argv)
{
    long n_inputs = 0;

    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        struct dirent *entry;

        if (!directory) {
            n_inputs += replay(argv[i]);
            continue;
        }
        while ((entry = readdir(directory))) {
            char path[4096];

            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            n_inputs += replay(path);
        }
        closedir(directory);
    }
    printf("%ld inputs\n", n_inputs);
    return n_inputs > 0 ? 0 : 1;
}
