/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of the summary cache. Everything that writes or renames holds the lock; whoever takes
 * it first looks whether the files are still those it knows, and reads what others appended. Under
 * the lock nobody is in the middle of a write, so bytes at the end that are no record are what a
 * killed process left, and are cut off.
 */
#include "summary/summary_cache.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { LOCK_TRIES = 2000, LOCK_WAIT_NS = 1000000, MIN_CACHE_BYTES = 4096 };

static const char *const names[] = {"current", "previous"};

char *summary_cache_directory(void)
{
    char *home = cache_directory();
    char *directory = path_join(home, "summaries-1");

    free(home);
    return directory;
}

/* Each part with its length before it, so that no two different lists are one string. */
void summary_cache_key(const struct summary_source *source, uint8_t key[CACHE_KEY_BYTES])
{
    const struct {
        const void *bytes;
        uint64_t n_bytes;
    } parts[] = {{source->fingerprint, 16},
                 {source->options, strlen(source->options)},
                 {source->prompt_version, strlen(source->prompt_version)},
                 {source->content, source->n_content}};
    XXH3_state_t state;
    XXH128_canonical_t canonical;

    XXH3_128bits_reset(&state);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        XXH3_128bits_update(&state, &parts[i].n_bytes, sizeof parts[i].n_bytes);
        if (parts[i].n_bytes > 0)
            XXH3_128bits_update(&state, parts[i].bytes, (size_t)parts[i].n_bytes);
    }
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    memcpy(key, canonical.digest, CACHE_KEY_BYTES);
}

void cached_summary_clear(struct cached_summary *cached)
{
    if (!cached)
        return;
    free(cached->text);
    *cached = (struct cached_summary){0};
}

static kvern_status fail_errno(const struct summary_cache *cache, const char *act, const char *name,
                               kvern_error *err)
{
    return fail(err, KVERN_IO, "cannot %s %s/%s: %s", act, cache->directory, name, strerror(errno));
}

/* ---- the lock ---- */

static bool is_same_file(int fd, const char *path)
{
    struct stat here;
    struct stat there;

    return fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_dev == there.st_dev &&
           here.st_ino == there.st_ino;
}

static kvern_status open_lock(struct summary_cache *cache, const char *path, kvern_error *err)
{
    const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;

    if (cache->lock >= 0 && is_same_file(cache->lock, path))
        return KVERN_OK;
    if (cache->lock >= 0)
        close(cache->lock);
    cache->lock = open(path, flags, 0600);
    /* somebody emptied the cache while we ran */
    if (cache->lock < 0 && errno == ENOENT && directory_make(cache->directory, err) == KVERN_OK)
        cache->lock = open(path, flags, 0600);
    return cache->lock >= 0 ? KVERN_OK : fail_errno(cache, "open", "lock", err);
}

/* A process that is stopped while it holds the lock must not stop us for ever. */
static kvern_status take_lock(struct summary_cache *cache, kvern_error *err)
{
    const struct timespec wait = {.tv_nsec = LOCK_WAIT_NS};
    char *path = path_join(cache->directory, "lock");
    kvern_status status = open_lock(cache, path, err);

    for (int i = 0; status == KVERN_OK && flock(cache->lock, LOCK_EX | LOCK_NB) != 0; i++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            status = fail_errno(cache, "lock", "lock", err);
        else if (i == LOCK_TRIES)
            status =
                fail(err, KVERN_BUSY, "another process holds the lock of %s", cache->directory);
        else
            nanosleep(&wait, NULL);
    }
    free(path);
    return status;
}

static void give_lock(struct summary_cache *cache)
{
    flock(cache->lock, LOCK_UN);
}

/* ---- reading ---- */

static bool index_record(struct summary_cache *cache, const struct cache_record *record,
                         size_t segment, size_t offset)
{
    struct cache_place place = {
        .segment = (uint8_t)segment, .n_text = (uint32_t)record->n_text, .offset = offset};
    uint32_t i;

    if (map_get(&cache->by_key, record->key, CACHE_KEY_BYTES, &i)) {
        cache->places[i] = place;
        return true;
    }
    if (cache->n_places == cache->place_capacity) {
        size_t capacity = cache->place_capacity ? 2 * cache->place_capacity : 256;
        struct cache_place *places = try_resize(cache->places, capacity, sizeof *places);

        if (!places)
            return false;
        cache->places = places;
        cache->place_capacity = capacity;
    }
    if (!map_put(&cache->by_key, record->key, CACHE_KEY_BYTES, (uint32_t)cache->n_places))
        return false;
    cache->places[cache->n_places++] = place;
    return true;
}

/* Reads [offset, offset + n_bytes) of a file; false: it has not so many, or cannot be read. */
static bool read_at(int fd, void *bytes, size_t n_bytes, size_t offset)
{
    for (size_t n_done = 0; n_done < n_bytes;) {
        ssize_t n = pread(fd, (char *)bytes + n_done, n_bytes - n_done, (off_t)(offset + n_done));

        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        n_done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Indexes what of a segment is not known yet, up to `size`, and cuts off what is no record at the
 * end of the current one. */
static kvern_status catch_up(struct summary_cache *cache, size_t segment, size_t size,
                             kvern_error *err)
{
    struct cache_segment *file = &cache->segments[segment];
    size_t n_bytes = size - file->n_known;
    size_t n_whole = 0;
    struct cache_record record;
    kvern_status status = KVERN_OK;
    uint8_t *bytes = try_new(n_bytes, 1);

    if (!bytes)
        return fail(err, KVERN_MEMORY, "no memory for %zu bytes of the summary cache", n_bytes);
    if (!read_at(file->fd, bytes, n_bytes, file->n_known))
        status = fail_errno(cache, "read", names[segment], err);
    for (size_t at = 0; status == KVERN_OK && cache_record_find(bytes, n_bytes, &at, &record);
         at = n_whole) {
        if (!index_record(cache, &record, segment, file->n_known + at))
            status = fail(err, KVERN_MEMORY, "no memory for the index of the summary cache");
        n_whole = at + CACHE_HEADER_BYTES + record.n_text;
    }
    free(bytes);
    if (status != KVERN_OK)
        return status;
    if (segment == 0 && n_whole < n_bytes &&
        ftruncate(file->fd, (off_t)(file->n_known + n_whole)) != 0)
        return fail_errno(cache, "cut a torn record off", names[segment], err);
    file->n_known += n_whole;
    return KVERN_OK;
}

static void close_segments(struct summary_cache *cache)
{
    for (size_t i = 0; i < 2; i++) {
        if (cache->segments[i].fd >= 0)
            close(cache->segments[i].fd);
        cache->segments[i] = (struct cache_segment){.fd = -1};
    }
    map_clear(&cache->by_key);
    cache->n_places = 0;
}

/* Opens a segment; the previous one may be missing. */
static kvern_status open_segment(struct summary_cache *cache, size_t segment, size_t *size,
                                 kvern_error *err)
{
    struct cache_segment *file = &cache->segments[segment];
    int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    char *path = path_join(cache->directory, names[segment]);
    kvern_status status = KVERN_OK;
    struct stat info;

    file->fd = open(path, flags | (segment == 0 ? O_RDWR | O_CREAT | O_APPEND : O_RDONLY), 0600);
    free(path);
    *size = 0;
    if (file->fd < 0)
        return segment == 1 && errno == ENOENT ? KVERN_OK
                                               : fail_errno(cache, "open", names[segment], err);
    if (fstat(file->fd, &info) != 0)
        status = fail_errno(cache, "open", names[segment], err);
    else if (!S_ISREG(info.st_mode))
        status =
            fail(err, KVERN_IO, "%s/%s is not a regular file", cache->directory, names[segment]);
    if (status != KVERN_OK)
        return status;
    *size = (size_t)info.st_size;
    return KVERN_OK;
}

/* The current file becomes the previous one; those that knew it find another in its place. */
static kvern_status rotate(struct summary_cache *cache, kvern_error *err)
{
    char *current = path_join(cache->directory, names[0]);
    char *previous = path_join(cache->directory, names[1]);
    kvern_status status = KVERN_OK;

    if (rename(current, previous) != 0)
        status = fail_errno(cache, "rename", names[0], err);
    free(current);
    free(previous);
    return status;
}

/* Reads both files anew. One that is larger than any we write is of another limit, or not ours. */
static kvern_status reload(struct summary_cache *cache, kvern_error *err)
{
    size_t sizes[2] = {0, 0};
    kvern_status status;

    close_segments(cache);
    status = open_segment(cache, 0, &sizes[0], err);
    if (status == KVERN_OK && sizes[0] > cache->max_bytes / 2) {
        status = rotate(cache, err);
        close_segments(cache);
        if (status == KVERN_OK)
            status = open_segment(cache, 0, &sizes[0], err);
    }
    if (status == KVERN_OK)
        status = open_segment(cache, 1, &sizes[1], err);
    if (status == KVERN_OK && sizes[1] > cache->max_bytes / 2) {
        char *path = path_join(cache->directory, names[1]);

        unlink(path);
        free(path);
        close(cache->segments[1].fd);
        cache->segments[1] = (struct cache_segment){.fd = -1};
    }
    /* the current one last: its records count */
    if (status == KVERN_OK && cache->segments[1].fd >= 0)
        status = catch_up(cache, 1, sizes[1], err);
    if (status == KVERN_OK)
        status = catch_up(cache, 0, sizes[0], err);
    if (status != KVERN_OK)
        close_segments(cache);
    return status;
}

/* Under the lock: learns what others did. */
static kvern_status refresh(struct summary_cache *cache, kvern_error *err)
{
    const struct cache_segment *current = &cache->segments[0];
    char *path = path_join(cache->directory, names[0]);
    bool is_known = current->fd >= 0 && is_same_file(current->fd, path);
    struct stat info = {0};

    free(path);
    if (!is_known || fstat(current->fd, &info) != 0 || (size_t)info.st_size < current->n_known)
        return reload(cache, err);
    if ((size_t)info.st_size > cache->max_bytes)
        return reload(cache, err);
    return catch_up(cache, 0, (size_t)info.st_size, err);
}

/* ---- use ---- */

kvern_status summary_cache_open(struct summary_cache *cache, const char *directory,
                                size_t max_bytes, kvern_error *err)
{
    kvern_status status;

    *cache = (struct summary_cache){
        .directory = copy_string_or_abort(directory),
        .max_bytes = max_bytes > 0 ? max_bytes : SUMMARY_CACHE_MAX_BYTES,
        .lock = -1,
        .segments = {{.fd = -1}, {.fd = -1}},
    };
    if (cache->max_bytes < MIN_CACHE_BYTES)
        cache->max_bytes = MIN_CACHE_BYTES;
    status = directory_make(directory, err);
    if (status == KVERN_OK)
        status = take_lock(cache, err);
    if (status == KVERN_OK) {
        status = reload(cache, err);
        give_lock(cache);
    }
    if (status != KVERN_OK)
        summary_cache_close(cache);
    return status;
}

void summary_cache_close(struct summary_cache *cache)
{
    if (!cache || !cache->directory)
        return;
    close_segments(cache);
    if (cache->lock >= 0)
        close(cache->lock);
    free(cache->places);
    free(cache->directory);
    *cache = (struct summary_cache){.lock = -1};
}

/* Appends a record's bytes in one write, or nothing of it. The lock is held. */
static kvern_status append(struct summary_cache *cache, const struct cache_record *record,
                           const struct buffer *bytes, kvern_error *err)
{
    struct cache_segment *current = &cache->segments[0];
    size_t n_done = 0;

    if (current->n_known + bytes->n_bytes > cache->max_bytes / 2 && current->n_known > 0) {
        kvern_status status = rotate(cache, err);

        if (status == KVERN_OK)
            status = reload(cache, err);
        if (status != KVERN_OK)
            return status;
    }
    while (n_done < bytes->n_bytes) {
        ssize_t n = write(current->fd, bytes->data + n_done, bytes->n_bytes - n_done);

        if (n < 0 && errno != EINTR) {
            int reason = errno;
            bool is_cut = n_done == 0 || ftruncate(current->fd, (off_t)current->n_known) == 0;

            return fail(err, KVERN_IO, "cannot write to %s/%s: %s%s", cache->directory, names[0],
                        strerror(reason), is_cut ? "" : "; its last record is torn");
        }
        n_done += n > 0 ? (size_t)n : 0;
    }
    if (!index_record(cache, record, 0, current->n_known))
        return fail(err, KVERN_MEMORY, "no memory for the index of the summary cache");
    current->n_known += bytes->n_bytes;
    return KVERN_OK;
}

kvern_status summary_cache_put(struct summary_cache *cache, const struct cache_record *record,
                               kvern_error *err)
{
    struct buffer bytes = {0};
    kvern_status status = KVERN_OK;

    if (record->n_text > CACHE_MAX_TEXT_BYTES ||
        record->n_text + CACHE_HEADER_BYTES > cache->max_bytes / 2)
        return fail(err, KVERN_LIMIT, "a summary of %zu bytes is too long for the cache",
                    record->n_text);
    cache_record_write(record, &bytes);
    if (bytes.has_failed)
        status = fail(err, KVERN_MEMORY, "no memory for a record of the summary cache");
    if (status == KVERN_OK)
        status = take_lock(cache, err);
    if (status == KVERN_OK) {
        status = refresh(cache, err);
        if (status == KVERN_OK)
            status = append(cache, record, &bytes, err);
        give_lock(cache);
    }
    buffer_clear(&bytes);
    return status;
}

/* The record at a place, with its bytes in *bytes, which the caller frees; false: it is damaged or
 * another's now. */
static bool read_place(const struct summary_cache *cache, const struct cache_place *place,
                       const uint8_t *key, uint8_t **bytes, struct cache_record *record)
{
    size_t n_bytes = CACHE_HEADER_BYTES + (size_t)place->n_text;
    size_t at = 0;

    *bytes = try_new(n_bytes, 1);
    return *bytes &&
           read_at(cache->segments[place->segment].fd, *bytes, n_bytes, (size_t)place->offset) &&
           cache_record_find(*bytes, n_bytes, &at, record) && at == 0 &&
           memcmp(record->key, key, CACHE_KEY_BYTES) == 0;
}

bool summary_cache_get(struct summary_cache *cache, const uint8_t key[CACHE_KEY_BYTES],
                       struct cached_summary *cached)
{
    struct cache_record record;
    uint8_t *bytes = NULL;
    uint32_t i;
    bool is_found = false;

    if (!map_get(&cache->by_key, key, CACHE_KEY_BYTES, &i))
        return false;
    if (!read_place(cache, &cache->places[i], key, &bytes, &record))
        goto done;
    *cached = (struct cached_summary){
        .text = try_new(record.n_text + 1, 1),
        .n_text = record.n_text,
        .flags = record.flags,
        .n_tokens_in = record.n_tokens_in,
        .n_tokens_out = record.n_tokens_out,
    };
    if (!cached->text)
        goto done;
    memcpy(cached->text, record.text, record.n_text);
    is_found = true;
    /* what is used outlives the previous file; if that fails it is found all the same */
    if (cache->places[i].segment == 1)
        summary_cache_put(cache, &record, NULL);
done:
    free(bytes);
    return is_found;
}
