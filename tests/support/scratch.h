/* SPDX-License-Identifier: Apache-2.0
 *
 * A directory of a test program's own, in /tmp: CMocka's set-up and tear-down, and files in it.
 * What fails there fails the test.
 */
#ifndef KVERN_TESTS_SCRATCH_H
#define KVERN_TESTS_SCRATCH_H

#include "base/file.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char scratch[32]; /* its path */

static inline int scratch_make(void **state)
{
    (void)state;
    return mkdtemp(strcpy(scratch, "/tmp/kvern-test-XXXXXX")) ? 0 : -1;
}

/* With what is in it: files, and directories of files. */
static inline int scratch_remove(void **state)
{
    (void)state;
    return directory_remove(scratch, NULL) == KVERN_OK ? 0 : -1;
}

static inline void scratch_empty(void)
{
    assert_int_equal(directory_remove(scratch, NULL), KVERN_OK);
    assert_int_equal(directory_make(scratch, NULL), KVERN_OK);
}

/* The path of a name in it; malloc'ed. */
static inline char *scratch_path(const char *name)
{
    return path_join(scratch, name);
}

static inline void scratch_put(const char *name, const void *bytes, size_t n_bytes)
{
    char *path = scratch_path(name);
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
    assert_int_equal(fclose(file), 0);
    free(path);
}

static inline void scratch_put_text(const char *name, const char *text)
{
    scratch_put(name, text, strlen(text));
}

#endif
