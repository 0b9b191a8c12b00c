/* SPDX-License-Identifier: Apache-2.0
 *
 * The manifest and the directory it stands in: reading and writing kvern.json, and whether the
 * files it names are there, as large as stated and, on demand, with the hash stated. Never follows
 * links.
 */
#include "model/manifest.h"

#include "base/error.h"
#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_MANIFEST_BYTES = 1 << 20 };

static kvern_status check_size(const struct manifest_file *file, const char *directory,
                               kvern_error *err)
{
    char *path = path_join(directory, file->name);
    kvern_status status = KVERN_OK;
    struct stat info;

    if (lstat(path, &info) != 0)
        status = fail(err, errno == ENOENT ? KVERN_NOT_FOUND : KVERN_IO,
                      MANIFEST_FILE " names %s, but it cannot be read: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = fail(err, KVERN_FORMAT, "%s is not a regular file", path);
    else if (info.st_nlink > 1)
        status = fail(err, KVERN_FORMAT, "%s has %lu hard links; put a copy there", path,
                      (unsigned long)info.st_nlink);
    else if ((int64_t)info.st_size != file->n_bytes)
        status = fail(err, KVERN_FORMAT, "%s has %lld bytes; " MANIFEST_FILE " says %lld", path,
                      (long long)info.st_size, (long long)file->n_bytes);
    free(path);
    return status;
}

kvern_status manifest_read(struct manifest *manifest, const char *directory, kvern_error *err)
{
    char *path = path_join(directory, MANIFEST_FILE);
    char *text = NULL;
    size_t n_bytes;
    struct stat info;
    kvern_status status = KVERN_OK;

    if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode))
        status = fail(err, KVERN_FORMAT, "%s is not a regular file", path);
    if (status == KVERN_OK)
        status = file_read(path, MAX_MANIFEST_BYTES, &text, &n_bytes, err);
    if (status == KVERN_OK) {
        status = manifest_parse(manifest, text, n_bytes, err);
        if (status != KVERN_OK)
            fail_in(err, status, "%s", path);
    }
    for (size_t i = 0; status == KVERN_OK && i < manifest->n_files; i++)
        status = check_size(&manifest->files[i], directory, err);
    free(text);
    free(path);
    return status;
}

kvern_status manifest_write(const struct manifest *manifest, const char *directory,
                            kvern_error *err)
{
    char *path = path_join(directory, MANIFEST_FILE);
    char *text = NULL;
    struct file_writer writer = {0};
    kvern_status status = manifest_format(manifest, &text, err);

    if (status == KVERN_OK)
        status = file_writer_open(&writer, path, err);
    if (status == KVERN_OK)
        status = file_writer_put(&writer, text, strlen(text), err);
    if (status == KVERN_OK)
        status = file_writer_put(&writer, "\n", 1, err);
    if (status == KVERN_OK)
        status = file_writer_commit(&writer, err);
    file_writer_clear(&writer);
    free(text);
    free(path);
    return status;
}

kvern_status manifest_add_file(struct manifest *manifest, const char *directory, const char *name,
                               kvern_error *err)
{
    struct manifest_file *file = &manifest->files[manifest->n_files];
    char *path = path_join(directory, name);
    struct stat info;
    kvern_status status;

    if (manifest->n_files == MANIFEST_MAX_FILES || strlen(name) >= sizeof file->name) {
        status = fail(err, KVERN_LIMIT, "the manifest has no room for %s", name);
        goto done;
    }
    status = file_sha256(path, file->sha256, err);
    if (status != KVERN_OK)
        goto done;
    if (stat(path, &info) != 0) {
        status = fail(err, KVERN_IO, "cannot read %s: %s", path, strerror(errno));
        goto done;
    }
    snprintf(file->name, sizeof file->name, "%s", name);
    file->n_bytes = (int64_t)info.st_size;
    manifest->n_files++;
done:
    free(path);
    return status;
}

kvern_status manifest_verify(const struct manifest *manifest, const char *directory,
                             int64_t max_bytes, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < manifest->n_files && status == KVERN_OK; i++) {
        const struct manifest_file *file = &manifest->files[i];
        char *path = path_join(directory, file->name);
        char hex[65];

        status = check_size(file, directory, err);
        if (status == KVERN_OK && file->n_bytes <= max_bytes) {
            status = file_sha256(path, hex, err);
            if (status == KVERN_OK && strcmp(hex, file->sha256) != 0)
                status = fail(err, KVERN_FORMAT, "%s has sha256 %s; " MANIFEST_FILE " says %s",
                              path, hex, file->sha256);
        }
        free(path);
    }
    return status;
}
