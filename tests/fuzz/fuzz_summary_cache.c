/* SPDX-License-Identifier: Apache-2.0
 *
 * A file of the summary cache: of any bytes the whole records are found, in order, and each is what
 * writing it again gives. As the cache's own file they open, and a record put then is found.
 */
#include "summary/summary_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[] = "/tmp/kvern-fuzz-summaries-XXXXXX";
static char current[64];

static void remove_files(void)
{
    static const char *const names[] = {"current", "previous", "lock"};
    char path[64];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}

static size_t check_records(const uint8_t *data, size_t size)
{
    struct cache_record record;
    size_t n_records = 0;
    size_t end = 0;

    for (size_t at = 0; cache_record_find(data, size, &at, &record); at = end, n_records++) {
        struct buffer again = {0};

        if (at < end || size - at < CACHE_HEADER_BYTES + record.n_text)
            abort();
        end = at + CACHE_HEADER_BYTES + record.n_text;
        cache_record_write(&record, &again);
        if (again.n_bytes != end - at || memcmp(again.data, data + at, again.n_bytes) != 0)
            abort();
        buffer_clear(&again);
    }
    return n_records;
}

static void check_cache(const uint8_t *data, size_t size, size_t n_records)
{
    static const struct cache_record own = {.key = {0xff, 1, 0xff}, .text = "own", .n_text = 3};
    struct summary_cache cache;
    struct cached_summary found;
    FILE *file;

    unlink(current); /* some file systems wait for the disk when a file is cut and written anew */
    file = fopen(current, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
    for (int run = 0; run < 2; run++) {
        if (summary_cache_open(&cache, directory, 0, NULL) != KVERN_OK ||
            cache.n_places > n_records + (size_t)run)
            abort();
        if (run == 0 && summary_cache_put(&cache, &own, NULL) != KVERN_OK)
            abort();
        if (!summary_cache_get(&cache, own.key, &found) || strcmp(found.text, "own") != 0)
            abort();
        cached_summary_clear(&found);
        summary_cache_close(&cache);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (current[0] == '\0') {
        if (!mkdtemp(directory))
            abort();
        snprintf(current, sizeof current, "%s/current", directory);
        atexit(remove_files);
    }
    check_cache(data, size, check_records(data, size));
    return 0;
}
