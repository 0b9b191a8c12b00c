/* SPDX-License-Identifier: Apache-2.0
 *
 * struct folder: names are read at once and sorted, so that a folder that changes during the walk
 * gives neither a name twice nor another order.
 */
#include "summary/folder.h"

#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum folder_result folder_open(struct folder *folder, int parent, const char *name, bool follows)
{
    struct stat status;

    *folder = (struct folder){.fd = -1};
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follows ? 0 : O_NOFOLLOW));
    if (fd < 0)
        return FOLDER_UNREADABLE;
    if (fstat(fd, &status) != 0) {
        close(fd);
        return FOLDER_UNREADABLE;
    }
    folder->fd = fd;
    folder->device = status.st_dev;
    folder->inode = status.st_ino;
    return FOLDER_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Reads all names into bytes; false: errno says why not. */
static bool read_names(struct folder *folder, DIR *stream)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);

        if (!entry || folder->bytes.n_bytes > FOLDER_MAX_NAME_BYTES)
            return errno == 0;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        buffer_add(&folder->bytes, entry->d_name, strlen(entry->d_name) + 1);
        folder->n_names++;
    }
}

enum folder_result folder_read(struct folder *folder)
{
    int copy = fcntl(folder->fd, F_DUPFD_CLOEXEC, 0); /* closedir() takes it */
    DIR *stream = copy >= 0 ? fdopendir(copy) : NULL;
    size_t at = 0;

    if (!stream) {
        if (copy >= 0)
            close(copy);
        return FOLDER_UNREADABLE;
    }
    bool is_read = read_names(folder, stream);
    int error = errno;
    closedir(stream);
    errno = error;
    if (!is_read)
        return FOLDER_UNREADABLE;
    if (folder->bytes.n_bytes > FOLDER_MAX_NAME_BYTES)
        return FOLDER_TOO_MANY;
    folder->names = try_new(folder->n_names, sizeof *folder->names);
    if (folder->bytes.has_failed || !folder->names) {
        errno = ENOMEM;
        return FOLDER_UNREADABLE;
    }
    for (size_t i = 0; i < folder->n_names; i++) {
        folder->names[i] = folder->bytes.data + at;
        at += strlen(folder->names[i]) + 1;
    }
    qsort(folder->names, folder->n_names, sizeof *folder->names, compare_names);
    return FOLDER_OK;
}

bool folder_has(const struct folder *folder, const char *name)
{
    return folder->n_names > 0 && bsearch(&name, folder->names, folder->n_names,
                                          sizeof *folder->names, compare_names) != NULL;
}

void folder_close(struct folder *folder)
{
    if (folder->fd >= 0)
        close(folder->fd);
    buffer_clear(&folder->bytes);
    free(folder->names);
    *folder = (struct folder){.fd = -1};
}
