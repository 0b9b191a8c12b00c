/* SPDX-License-Identifier: Apache-2.0 */
#include "support_export.h"

#include "test.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *folder_make(void)
{
    char *path = path_join("/tmp", "kvern-test-XXXXXX");

    assert_non_null(mkdtemp(path));
    return path;
}

void folder_remove(char *folder)
{
    assert_int_equal(directory_remove(folder, NULL), KVERN_OK);
    free(folder);
}

void folder_write(const char *folder, const char *name, const void *bytes, size_t n_bytes)
{
    char *path = path_join(folder, name);
    char *slash = strrchr(path, '/');
    FILE *file;

    *slash = '\0';
    assert_int_equal(directory_make(path, NULL), KVERN_OK);
    *slash = '/';
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
    assert_int_equal(fclose(file), 0);
    free(path);
}

void folder_write_text(const char *folder, const char *name, const char *text)
{
    folder_write(folder, name, text, strlen(text));
}

void folder_copy(const char *folder, const char *name, const char *export, const char *file)
{
    struct buffer bytes = golden_read(export, file);

    folder_write(folder, name, bytes.data, bytes.n_bytes);
    buffer_clear(&bytes);
}

struct buffer golden_read(const char *export, const char *file)
{
    struct buffer bytes = {0};
    char path[1024];
    kvern_error err = {0};

    snprintf(path, sizeof path, "%s/exports/%s/%s", KVERN_GOLDEN_DIR, export, file);
    if (file_read(path, 64 << 20, &bytes.data, &bytes.n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    bytes.capacity = bytes.n_bytes + 1;
    return bytes;
}

size_t bytes_replace(struct buffer *bytes, const char *from, const char *to)
{
    size_t n = strlen(from);
    size_t n_found = 0;

    assert_int_equal(strlen(to), n);
    for (size_t i = 0; i + n <= bytes->n_bytes; i++) {
        if (memcmp(bytes->data + i, from, n) == 0) {
            memcpy(bytes->data + i, to, n);
            n_found++;
        }
    }
    return n_found;
}
