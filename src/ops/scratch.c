/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread's scratch buffer, kept under a pthread key so that it ends with the thread.
 */
#include "ops/scratch.h"

#include <pthread.h>
#include <stdlib.h>

enum { ALIGNMENT = 64, MIN_BYTES = 1 << 16 };

struct scratch {
    void *data;
    size_t n_bytes;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_status = -1;

static void scratch_free(void *memory)
{
    struct scratch *scratch = memory;

    free(scratch->data);
    free(scratch);
}

static void make_key(void)
{
    key_status = pthread_key_create(&key, scratch_free);
}

static struct scratch *find_or_make(void)
{
    struct scratch *scratch;

    pthread_once(&once, make_key);
    if (key_status != 0)
        return NULL;
    scratch = pthread_getspecific(key);
    if (scratch)
        return scratch;
    scratch = calloc(1, sizeof *scratch);
    if (scratch && pthread_setspecific(key, scratch) != 0) {
        free(scratch);
        scratch = NULL;
    }
    return scratch;
}

void *scratch_get(size_t n_bytes)
{
    struct scratch *scratch = find_or_make();

    if (!scratch || n_bytes > (size_t)-1 / 2)
        return NULL;
    if (n_bytes > scratch->n_bytes || !scratch->data) { /* no bytes are an address, too */
        size_t capacity = MIN_BYTES;

        while (capacity < n_bytes)
            capacity *= 2;
        free(scratch->data);
        scratch->n_bytes = 0;
        scratch->data = aligned_alloc(ALIGNMENT, capacity);
        if (!scratch->data)
            return NULL;
        scratch->n_bytes = capacity;
    }
    return scratch->data;
}
