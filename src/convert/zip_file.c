/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing zip archives by their central directory, which stands at the end (PKWARE's APPNOTE 4.3).
 * No offset or size is used before it is compared with the file; the headers before each entry are
 * read only to find where its bytes begin, and must agree about its name and method.
 */
#include "convert/zip_file.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    LOCAL_SIGNATURE = 0x04034b50,
    CENTRAL_SIGNATURE = 0x02014b50,
    END_SIGNATURE = 0x06054b50,
    END64_SIGNATURE = 0x06064b50,
    LOCATOR_SIGNATURE = 0x07064b50,
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    MAX_COMMENT_BYTES = 0xffff,
    FLAGS_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13,
    EXTRA_ZIP64 = 1,
    METHOD_STORED = 0,
};

#define IN_ZIP64_16 0xffffu
#define IN_ZIP64_32 0xffffffffu

static uint64_t read_le(const uint8_t *bytes, size_t n)
{
    uint64_t value = 0;

    for (size_t i = n; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

/* What the end of the archive says about its central directory. */
struct directory {
    uint64_t n_entries;
    uint64_t offset;
    uint64_t n_bytes;
    size_t end; /* where the records after it begin */
};

/* The last place whose record, with its comment, ends where the file does. */
static bool find_end(const uint8_t *data, size_t n_bytes, size_t *end)
{
    for (size_t comment = 0; comment <= MAX_COMMENT_BYTES; comment++) {
        if (n_bytes < END_BYTES + comment)
            return false;
        *end = n_bytes - END_BYTES - comment;
        if (read_le(data + *end, 4) == END_SIGNATURE && read_le(data + *end + 20, 2) == comment)
            return true;
    }
    return false;
}

/* A value of the old record is the new one's, or all ones. */
static bool agrees(uint64_t old, uint64_t all_ones, uint64_t value)
{
    return old == value || old == all_ones;
}

static kvern_status read_end64(struct directory *directory, const uint8_t *data, size_t end,
                               kvern_error *err)
{
    const uint8_t *locator = data + end - LOCATOR_BYTES;
    uint64_t at = read_le(locator + 8, 8);
    const uint8_t *record;

    if (read_le(locator + 4, 4) != 0 || read_le(locator + 16, 4) > 1)
        return fail(err, KVERN_UNSUPPORTED, "zip: the archive is spread over many files");
    if (end - LOCATOR_BYTES < END64_BYTES || at > end - LOCATOR_BYTES - END64_BYTES)
        return fail(err, KVERN_FORMAT, "zip: the ZIP64 end record lies outside the file");
    record = data + at;
    if (read_le(record, 4) != END64_SIGNATURE ||
        read_le(record + 4, 8) != end - LOCATOR_BYTES - at - 12)
        return fail(err, KVERN_FORMAT, "zip: there is no ZIP64 end record at byte %llu",
                    (unsigned long long)at);
    if (read_le(record + 16, 4) != 0 || read_le(record + 20, 4) != 0 ||
        read_le(record + 24, 8) != read_le(record + 32, 8))
        return fail(err, KVERN_UNSUPPORTED, "zip: the archive is spread over many files");
    if (!agrees(directory->n_entries, IN_ZIP64_16, read_le(record + 32, 8)) ||
        !agrees(directory->n_bytes, IN_ZIP64_32, read_le(record + 40, 8)) ||
        !agrees(directory->offset, IN_ZIP64_32, read_le(record + 48, 8)))
        return fail(err, KVERN_FORMAT, "zip: the two end records do not agree");
    *directory = (struct directory){.n_entries = read_le(record + 32, 8),
                                    .n_bytes = read_le(record + 40, 8),
                                    .offset = read_le(record + 48, 8),
                                    .end = (size_t)at};
    return KVERN_OK;
}

static kvern_status find_directory(struct directory *directory, const uint8_t *data, size_t n_bytes,
                                   kvern_error *err)
{
    size_t end = 0;
    kvern_status status = KVERN_OK;

    if (!find_end(data, n_bytes, &end))
        return fail(err, KVERN_FORMAT,
                    "zip: the file has no central directory at its end; it may be cut short");
    const uint8_t *record = data + end;
    if (read_le(record + 4, 2) != 0 || read_le(record + 6, 2) != 0 ||
        read_le(record + 8, 2) != read_le(record + 10, 2))
        return fail(err, KVERN_UNSUPPORTED, "zip: the archive is spread over many files");
    *directory = (struct directory){.n_entries = read_le(record + 10, 2),
                                    .n_bytes = read_le(record + 12, 4),
                                    .offset = read_le(record + 16, 4),
                                    .end = end};
    if (end >= LOCATOR_BYTES && read_le(data + end - LOCATOR_BYTES, 4) == LOCATOR_SIGNATURE)
        status = read_end64(directory, data, end, err);
    if (status != KVERN_OK)
        return status;
    if (directory->offset > directory->end ||
        directory->n_bytes > directory->end - directory->offset)
        return fail(err, KVERN_FORMAT,
                    "zip: a central directory of %llu bytes at byte %llu lies outside the file",
                    (unsigned long long)directory->n_bytes, (unsigned long long)directory->offset);
    if (directory->n_entries > directory->n_bytes / CENTRAL_BYTES)
        return fail(
            err, KVERN_FORMAT, "zip: %llu entries do not fit in a central directory of %llu bytes",
            (unsigned long long)directory->n_entries, (unsigned long long)directory->n_bytes);
    return KVERN_OK;
}

/* One entry as the central directory has it. */
struct central {
    size_t record_bytes; /* CENTRAL_BYTES, then the name, the extra fields and the comment */
    uint64_t n_packed;   /* bytes in the file */
    uint64_t n_bytes;
    uint64_t offset; /* of its local header */
};

/* The ZIP64 field among the extra fields; *n_field is 0 if there is none. false: they are damaged.
 */
static bool find_zip64(const uint8_t *extra, size_t n_extra, const uint8_t **field, size_t *n_field)
{
    *n_field = 0;
    while (n_extra >= 4) {
        size_t n = read_le(extra + 2, 2);

        if (n > n_extra - 4)
            return false;
        if (read_le(extra, 2) == EXTRA_ZIP64) {
            *field = extra + 4;
            *n_field = n;
            return true;
        }
        extra += 4 + n;
        n_extra -= 4 + n;
    }
    return true;
}

/* Sizes and offset that do not fit into 32 bits stand in an extra field, in this order, those only
 * that are all ones where they should be. */
static bool read_zip64(struct central *central, const uint8_t *extra, size_t n_extra)
{
    uint64_t *const values[] = {&central->n_bytes, &central->n_packed, &central->offset};
    const uint8_t *field = NULL;
    size_t n_field;

    if (!find_zip64(extra, n_extra, &field, &n_field))
        return false;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (*values[i] != IN_ZIP64_32)
            continue;
        if (n_field < 8)
            return false;
        *values[i] = read_le(field, 8);
        field += 8;
        n_field -= 8;
    }
    return true;
}

/* Reads the entry at `record`, of which `n_left` bytes of central directory are left. */
static kvern_status read_central(struct central *central, struct zip_entry *entry,
                                 const uint8_t *record, size_t n_left, kvern_error *err)
{
    size_t n_name, n_extra;

    if (n_left < CENTRAL_BYTES || read_le(record, 4) != CENTRAL_SIGNATURE)
        return fail(err, KVERN_FORMAT, "zip: the central directory has fewer entries than it says");
    n_name = read_le(record + 28, 2);
    n_extra = read_le(record + 30, 2);
    *central = (struct central){
        .record_bytes = CENTRAL_BYTES + n_name + n_extra + read_le(record + 32, 2),
        .n_packed = read_le(record + 20, 4),
        .n_bytes = read_le(record + 24, 4),
        .offset = read_le(record + 42, 4),
    };
    if (central->record_bytes > n_left || n_name == 0)
        return fail(err, KVERN_FORMAT, "zip: the central directory ends inside an entry");
    *entry = (struct zip_entry){.name = (const char *)record + CENTRAL_BYTES, .name_bytes = n_name};
    if (!read_zip64(central, record + CENTRAL_BYTES + n_name, n_extra))
        return fail(err, KVERN_FORMAT, "zip: the extra fields of %.*s are damaged", (int)n_name,
                    entry->name);
    if (read_le(record + 8, 2) & FLAGS_ENCRYPTED)
        return fail(err, KVERN_UNSUPPORTED, "zip: %.*s is encrypted", (int)n_name, entry->name);
    if (read_le(record + 10, 2) != METHOD_STORED)
        return fail(err, KVERN_UNSUPPORTED,
                    "zip: %.*s is compressed (method %u); only stored entries are read",
                    (int)n_name, entry->name, (unsigned)read_le(record + 10, 2));
    if (read_le(record + 34, 2) != 0)
        return fail(err, KVERN_UNSUPPORTED, "zip: %.*s lies in another file", (int)n_name,
                    entry->name);
    if (central->n_packed != central->n_bytes)
        return fail(err, KVERN_FORMAT, "zip: %.*s is stored as it is, but has two sizes",
                    (int)n_name, entry->name);
    return KVERN_OK;
}

/* Finds the entry's bytes behind its local header; all of it lies in data[0, limit). */
static kvern_status find_bytes(struct zip_entry *entry, const struct central *central,
                               const uint8_t *data, size_t limit, kvern_error *err)
{
    const uint8_t *local;
    uint64_t n_head;

    if (limit < LOCAL_BYTES || central->offset > limit - LOCAL_BYTES)
        goto outside;
    local = data + central->offset;
    if (read_le(local, 4) != LOCAL_SIGNATURE)
        return fail(err, KVERN_FORMAT, "zip: %.*s has no header at byte %llu",
                    (int)entry->name_bytes, entry->name, (unsigned long long)central->offset);
    n_head = LOCAL_BYTES + read_le(local + 26, 2) + read_le(local + 28, 2);
    if (n_head > limit - central->offset || central->n_bytes > limit - central->offset - n_head)
        goto outside;
    if (read_le(local + 26, 2) != entry->name_bytes ||
        memcmp(local + LOCAL_BYTES, entry->name, entry->name_bytes) != 0 ||
        read_le(local + 8, 2) != METHOD_STORED || read_le(local + 6, 2) & FLAGS_ENCRYPTED)
        return fail(err, KVERN_FORMAT,
                    "zip: the header before %.*s says other things of it than the directory",
                    (int)entry->name_bytes, entry->name);
    entry->data = local + n_head;
    entry->n_bytes = (size_t)central->n_bytes;
    return KVERN_OK;
outside:
    return fail(err, KVERN_FORMAT, "zip: %.*s, of %llu bytes at byte %llu, lies outside the file",
                (int)entry->name_bytes, entry->name, (unsigned long long)central->n_bytes,
                (unsigned long long)central->offset);
}

/* What an entry takes up, with its local header. */
struct span {
    const struct zip_entry *entry;
    const uint8_t *begin;
    const uint8_t *end;
};

static int compare_spans(const void *a, const void *b)
{
    const struct span *left = a;
    const struct span *right = b;

    return left->begin < right->begin ? -1 : left->begin > right->begin;
}

static kvern_status check_overlap(struct span *spans, size_t n_spans, kvern_error *err)
{
    if (n_spans > 1)
        qsort(spans, n_spans, sizeof *spans, compare_spans);
    for (size_t i = 1; i < n_spans; i++) {
        const struct zip_entry *before = spans[i - 1].entry;
        const struct zip_entry *entry = spans[i].entry;

        if (spans[i].begin < spans[i - 1].end)
            return fail(err, KVERN_FORMAT, "zip: %.*s and %.*s share bytes",
                        (int)before->name_bytes, before->name, (int)entry->name_bytes, entry->name);
    }
    return KVERN_OK;
}

static kvern_status put_name(struct zip_file *zip, const struct zip_entry *entry, uint32_t index,
                             kvern_error *err)
{
    uint32_t known;

    if (map_get(&zip->by_name, entry->name, entry->name_bytes, &known))
        return fail(err, KVERN_FORMAT, "zip: there are two entries %.*s", (int)entry->name_bytes,
                    entry->name);
    if (!map_put(&zip->by_name, entry->name, entry->name_bytes, index))
        return fail(err, KVERN_MEMORY, "no memory for the names of a zip's entries");
    return KVERN_OK;
}

static kvern_status read_entries(struct zip_file *zip, const struct directory *directory,
                                 const uint8_t *data, kvern_error *err)
{
    size_t n_entries = (size_t)directory->n_entries;
    size_t n_left = (size_t)directory->n_bytes;
    const uint8_t *record = data + directory->offset;
    struct span *spans = try_new(n_entries, sizeof *spans);
    kvern_status status = KVERN_OK;

    zip->entries = try_new(n_entries, sizeof *zip->entries);
    if (!spans || !zip->entries || n_entries > UINT32_MAX) {
        status = fail(err, KVERN_MEMORY, "no memory for %zu entries of a zip", n_entries);
        goto done;
    }
    for (size_t i = 0; i < n_entries && status == KVERN_OK; i++) {
        struct zip_entry *entry = &zip->entries[i];
        struct central central;

        status = read_central(&central, entry, record, n_left, err);
        if (status == KVERN_OK)
            status = find_bytes(entry, &central, data, (size_t)directory->offset, err);
        if (status == KVERN_OK)
            status = put_name(zip, entry, (uint32_t)i, err);
        if (status != KVERN_OK)
            goto done;
        zip->n_entries++;
        spans[i] = (struct span){entry, data + central.offset, entry->data + entry->n_bytes};
        record += central.record_bytes;
        n_left -= central.record_bytes;
    }
    if (n_left != 0)
        status =
            fail(err, KVERN_FORMAT, "zip: %zu bytes of the central directory are no entry", n_left);
    if (status == KVERN_OK)
        status = check_overlap(spans, n_entries, err);
done:
    free(spans);
    return status;
}

bool zip_file_is_zip(const uint8_t *data, size_t n_bytes)
{
    return n_bytes >= 4 && read_le(data, 4) == LOCAL_SIGNATURE;
}

kvern_status zip_file_parse(struct zip_file *out, const uint8_t *data, size_t n_bytes,
                            kvern_error *err)
{
    struct directory directory = {0};
    kvern_status status;

    *out = (struct zip_file){0};
    status = find_directory(&directory, data, n_bytes, err);
    if (status == KVERN_OK)
        status = read_entries(out, &directory, data, err);
    if (status != KVERN_OK)
        zip_file_clear(out);
    return status;
}

const struct zip_entry *zip_file_find(const struct zip_file *zip, const char *name,
                                      size_t name_bytes)
{
    uint32_t i;

    return map_get(&zip->by_name, name, name_bytes, &i) ? &zip->entries[i] : NULL;
}

void zip_file_clear(struct zip_file *zip)
{
    free(zip->entries);
    map_clear(&zip->by_name);
    *zip = (struct zip_file){0};
}
