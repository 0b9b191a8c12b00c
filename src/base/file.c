/* SPDX-License-Identifier: Apache-2.0
 *
 * Mappings, bounded reads, and writes by rename. Nothing partial is ever left under a final name.
 */
#include "base/file.h"

#include "base/error.h"
#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HASH_BYTES = 4 << 20 }; /* hashed at once, and then given back to the OS */

static kvern_status fail_errno(kvern_error *err, const char *act, const char *path)
{
    int code = errno;
    kvern_status status = code == ENOENT ? KVERN_NOT_FOUND : KVERN_IO;

    return fail(err, status, "cannot %s %s: %s", act, path, strerror(code));
}

/* Opens a regular file for reading; directories, pipes and devices are refused. */
static kvern_status open_regular(const char *path, int *fd, size_t *n_bytes, kvern_error *err)
{
    struct stat info;
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (opened < 0)
        return fail_errno(err, "open", path);
    if (fstat(opened, &info) != 0) {
        kvern_status status = fail_errno(err, "read", path);
        close(opened);
        return status;
    }
    if (!S_ISREG(info.st_mode)) {
        close(opened);
        return fail(err, KVERN_INVALID, "%s is not a regular file", path);
    }
    *fd = opened;
    *n_bytes = (size_t)info.st_size;
    return KVERN_OK;
}

kvern_status file_map_open(struct file_map *map, const char *path, kvern_error *err)
{
    int fd;
    size_t n_bytes;
    kvern_status status = open_regular(path, &fd, &n_bytes, err);

    if (status != KVERN_OK)
        return status;
    *map = (struct file_map){0};
    if (n_bytes > 0) {
        void *data = mmap(NULL, n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);

        if (data == MAP_FAILED)
            status = fail_errno(err, "map", path);
        else
            *map = (struct file_map){.data = data, .n_bytes = n_bytes};
    }
    close(fd);
    return status;
}

void file_map_close(struct file_map *map)
{
    if (map && map->data)
        munmap((void *)(uintptr_t)map->data, map->n_bytes);
    if (map)
        *map = (struct file_map){0};
}

void file_map_forget(const struct file_map *map, size_t offset, size_t n_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t begin = (offset + page - 1) / page * page;
    size_t end = (offset + n_bytes) / page * page;

    if (map->data && end > begin && end <= map->n_bytes)
        madvise((void *)(uintptr_t)(map->data + begin), end - begin, MADV_DONTNEED);
}

kvern_status file_read(const char *path, size_t max_bytes, char **text, size_t *n_bytes,
                       kvern_error *err)
{
    int fd;
    size_t size;
    char *data = NULL;
    kvern_status status = open_regular(path, &fd, &size, err);

    if (status != KVERN_OK)
        return status;
    if (size > max_bytes) {
        status = fail(err, KVERN_LIMIT, "%s has %zu bytes, over the limit of %zu", path, size,
                      max_bytes);
        goto done;
    }
    data = try_new(size + 1, 1);
    if (!data) {
        status = fail(err, KVERN_MEMORY, "out of memory reading %s (%zu bytes)", path, size);
        goto done;
    }
    size_t done_bytes = 0;
    while (done_bytes < size) {
        ssize_t n = read(fd, data + done_bytes, size - done_bytes);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            status = fail_errno(err, "read", path);
            goto done;
        }
        if (n == 0)
            break; /* the file shrank while it was read */
        done_bytes += (size_t)n;
    }
    data[done_bytes] = '\0';
    *text = data;
    if (n_bytes)
        *n_bytes = done_bytes;
    data = NULL;

done:
    free(data);
    close(fd);
    return status;
}

/* A file, or nothing yet: what a rename may put another file in the place of. */
static bool is_replaceable(const char *path)
{
    struct stat info;

    return lstat(path, &info) != 0 || S_ISREG(info.st_mode);
}

/* What a link leads to stays where it is; one that leads nowhere yet is written through. */
static char *follow_links(const char *path)
{
    struct stat info;
    bool is_link = lstat(path, &info) == 0 && S_ISLNK(info.st_mode);
    char *target = is_link ? realpath(path, NULL) : NULL;

    return target ? target : copy_string_or_abort(path);
}

kvern_status file_writer_open(struct file_writer *writer, const char *path, kvern_error *err)
{
    const char *written;

    *writer = (struct file_writer){.path = follow_links(path)};
    written = writer->path;
    if (is_replaceable(writer->path)) {
        size_t n_bytes = strlen(writer->path) + 32;

        writer->temporary = new_or_abort(n_bytes);
        snprintf(writer->temporary, n_bytes, "%s.tmp-%ld", writer->path, (long)getpid());
        written = writer->temporary;
    }
    writer->stream = fopen(written, "wbe");
    if (!writer->stream) {
        kvern_status status = fail_errno(err, "create", written);
        free(writer->path);
        free(writer->temporary);
        *writer = (struct file_writer){0};
        return status;
    }
    return KVERN_OK;
}

kvern_status file_check_writable(const char *path, kvern_error *err)
{
    struct file_writer writer;
    struct stat info;
    bool is_there = stat(path, &info) == 0;

    if (is_there && S_ISDIR(info.st_mode)) {
        errno = EISDIR;
        return fail_errno(err, "write", path);
    }
    if (is_there && !S_ISREG(info.st_mode))
        return KVERN_OK; /* opening a pipe could wait, and closing it would end it */

    kvern_status status = file_writer_open(&writer, path, err);
    if (status == KVERN_OK)
        file_writer_clear(&writer);
    return status;
}

kvern_status file_writer_put(struct file_writer *writer, const void *bytes, size_t n_bytes,
                             kvern_error *err)
{
    if (n_bytes && fwrite(bytes, 1, n_bytes, writer->stream) != n_bytes)
        return fail_errno(err, "write", writer->path);
    return KVERN_OK;
}

kvern_status file_writer_commit(struct file_writer *writer, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    if (fflush(writer->stream) != 0 || (writer->temporary && fsync(fileno(writer->stream)) != 0))
        status = fail_errno(err, "write", writer->path);
    if (fclose(writer->stream) != 0 && status == KVERN_OK)
        status = fail_errno(err, "write", writer->path);
    writer->stream = NULL;
    if (status == KVERN_OK && writer->temporary && rename(writer->temporary, writer->path) != 0)
        status = fail_errno(err, "rename to", writer->path);
    if (status == KVERN_OK) {
        free(writer->temporary);
        writer->temporary = NULL;
    }
    file_writer_clear(writer);
    return status;
}

void file_writer_clear(struct file_writer *writer)
{
    if (!writer)
        return;
    if (writer->stream)
        fclose(writer->stream);
    if (writer->temporary)
        unlink(writer->temporary);
    free(writer->temporary);
    free(writer->path);
    *writer = (struct file_writer){0};
}

void file_remove_leftovers(const char *path)
{
    char *directory = path_directory(path);
    size_t n_base = strlen(path_base(path));
    DIR *stream = opendir(directory);
    struct dirent *entry;

    while (stream && (entry = readdir(stream))) {
        const char *name = entry->d_name;
        char *end = NULL;
        long pid;

        if (strncmp(name, path_base(path), n_base) != 0 || strncmp(name + n_base, ".tmp-", 5) != 0)
            continue;
        pid = strtol(name + n_base + 5, &end, 10);
        if (pid > 0 && *end == '\0' && kill((pid_t)pid, 0) != 0 && errno == ESRCH)
            unlinkat(dirfd(stream), name, 0);
    }
    if (stream)
        closedir(stream);
    free(directory);
}

kvern_status file_sha256(const char *path, char hex[65], kvern_error *err)
{
    struct file_map map = {0};
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *context = NULL;
    kvern_status status = file_map_open(&map, path, err);
    bool is_ok;

    if (status != KVERN_OK)
        return status;
    context = EVP_MD_CTX_new();
    is_ok = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    for (size_t at = 0, n; is_ok && at < map.n_bytes; at += n) {
        n = map.n_bytes - at < HASH_BYTES ? map.n_bytes - at : HASH_BYTES;
        is_ok = EVP_DigestUpdate(context, map.data + at, n) == 1;
        file_map_forget(&map, at, n);
    }
    if (!is_ok || EVP_DigestFinal_ex(context, digest, NULL) != 1)
        status = fail(err, KVERN_RUNTIME, "SHA-256 of %s failed", path);
    for (unsigned i = 0; status == KVERN_OK && i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    EVP_MD_CTX_free(context);
    file_map_close(&map);
    return status;
}

bool file_exists(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool directory_exists(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

kvern_status directory_make(const char *path, kvern_error *err)
{
    char *copy = copy_string_or_abort(path);
    kvern_status status = KVERN_OK;

    for (char *p = copy + 1; status == KVERN_OK; p++) {
        char was = *p;

        if (was != '/' && was != '\0')
            continue;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            status = fail_errno(err, "create directory", copy);
        else if (was == '\0' && !directory_exists(copy))
            status = fail(err, KVERN_IO, "%s is there and is not a directory", copy);
        *p = was;
        if (was == '\0')
            break;
    }
    free(copy);
    return status;
}

static kvern_status remove_level(const char *path, int depth, kvern_error *err)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    kvern_status status = KVERN_OK;

    if (!directory)
        return errno == ENOENT ? KVERN_OK : fail_errno(err, "open directory", path);
    while (status == KVERN_OK && (entry = readdir(directory))) {
        struct stat info;

        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        char *child = path_join(path, entry->d_name);
        if (lstat(child, &info) == 0 && S_ISDIR(info.st_mode) && depth > 0)
            status = remove_level(child, depth - 1, err);
        else if (unlink(child) != 0)
            status = fail_errno(err, "remove", child);
        free(child);
    }
    closedir(directory);
    if (status == KVERN_OK && rmdir(path) != 0)
        status = fail_errno(err, "remove", path);
    return status;
}

kvern_status directory_remove(const char *path, kvern_error *err)
{
    return remove_level(path, 1, err);
}

char *path_join(const char *directory, const char *name)
{
    size_t n_bytes = strlen(directory) + strlen(name) + 2;
    size_t n_directory = strlen(directory);
    char *path = new_or_abort(n_bytes);
    bool has_slash = n_directory > 0 && directory[n_directory - 1] == '/';

    snprintf(path, n_bytes, "%s%s%s", directory, has_slash || n_directory == 0 ? "" : "/", name);
    return path;
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

char *path_directory(const char *path)
{
    size_t n_bytes = (size_t)(path_base(path) - path);

    if (n_bytes == 0)
        return copy_string_or_abort(".");
    return copy_bytes_or_abort(path, n_bytes > 1 ? n_bytes - 1 : 1);
}

char *cache_directory(void)
{
    const char *home = getenv("KVERN_HOME");

    if (home && *home)
        return copy_string_or_abort(home);
    home = getenv("XDG_CACHE_HOME");
    if (home && *home)
        return path_join(home, "kvern");
    home = getenv("HOME");
    return path_join(home && *home ? home : "/tmp", ".cache/kvern");
}
