/* SPDX-License-Identifier: Apache-2.0
 *
 * Zip archives written by hand: what is found in them, and one wrong field at a time. The archive
 * of all tests has the entries "folder/a" of 4 bytes and "folder/bb" of 3, and both forms of its
 * end.
 */
#include "convert/support_torch.h"
#include "test.h"

#include "convert/zip_file.h"

#include <stdlib.h>
#include <string.h>

enum {
    LOCAL_A = 0,
    LOCAL_BB = LOCAL_A + 30 + 8 + 4,
    CENTRAL_A = LOCAL_BB + 30 + 9 + 3,
    CENTRAL_BB = CENTRAL_A + 46 + 8,
    END64 = CENTRAL_BB + 46 + 9,
    LOCATOR = END64 + 56,
    END = LOCATOR + 20,
    N_BYTES = END + 22
};

static void write_archive(struct zip_writer *zip, bool is_zip64)
{
    *zip = (struct zip_writer){0};
    zip_writer_put(zip, "folder/a", "AAAA", 4);
    zip_writer_put(zip, "folder/bb", "BBB", 3);
    zip_writer_end(zip, is_zip64);
}

/* From an exact-size copy, so that a sanitizer sees a byte too many. */
static kvern_status parse(const void *bytes, size_t n_bytes, size_t *n_entries, kvern_error *err)
{
    uint8_t *copy = malloc(n_bytes ? n_bytes : 1);
    struct zip_file zip;
    kvern_status status;

    assert_non_null(copy);
    memcpy(copy, bytes, n_bytes);
    status = zip_file_parse(&zip, copy, n_bytes, err);
    *n_entries = zip.n_entries;
    zip_file_clear(&zip);
    free(copy);
    return status;
}

static void entries_are_found(void **state)
{
    (void)state;
    for (int is_zip64 = 0; is_zip64 < 2; is_zip64++) {
        struct zip_writer writer;
        struct zip_file zip;
        kvern_error err;

        write_archive(&writer, is_zip64 != 0);
        const uint8_t *data = (const uint8_t *)writer.file.data;
        assert_true(zip_file_is_zip(data, writer.file.n_bytes));
        assert_false(zip_file_is_zip(data, 3));
        if (zip_file_parse(&zip, data, writer.file.n_bytes, &err) != KVERN_OK)
            fail_msg("%s", err.message);
        assert_int_equal(zip.n_entries, 2);
        const struct zip_entry *entry = zip_file_find(&zip, "folder/bb", 9);
        assert_ptr_equal(entry, &zip.entries[1]);
        assert_int_equal(entry->n_bytes, 3);
        assert_ptr_equal(entry->data, data + LOCAL_BB + 39);
        assert_memory_equal(entry->name, "folder/bb", entry->name_bytes);
        assert_null(zip_file_find(&zip, "folder/b", 8));
        zip_file_clear(&zip);
        zip_file_clear(&zip); /* twice is fine */
        zip_writer_clear(&writer);
    }
}

/* A comment may follow, and may look like an end itself as long as its size does not fit. */
static void comments_are_passed_over(void **state)
{
    struct zip_writer writer;
    size_t n_entries;
    kvern_error err;

    (void)state;
    write_archive(&writer, true);
    writer.file.data[N_BYTES - 2] = 24;
    buffer_add_string(&writer.file, "a comment PK\5\6 is here..");
    assert_int_equal(writer.file.n_bytes, N_BYTES + 24);
    if (parse(writer.file.data, writer.file.n_bytes, &n_entries, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    assert_int_equal(n_entries, 2);
    zip_writer_clear(&writer);
}

/* Sizes and offset of an entry in the ZIP64 field, behind another field. */
static void big_entries_have_a_field(void **state)
{
    static const char extra[] = "\x55\x58\x02\x00zz" /* another's */
                                "\x01\x00\x18\x00"   /* ZIP64: 24 bytes */
                                "\x04\0\0\0\0\0\0\0" /* size */
                                "\x04\0\0\0\0\0\0\0" /* size in the file */
                                "\x00\0\0\0\0\0\0";  /* offset, with the final NUL */
    static const struct {
        size_t at; /* of the field */
        uint8_t value;
        const char *says; /* NULL: fine */
    } cases[] = {
        {0, 0x55, NULL},
        {8, 0x10, "the extra fields of folder/a are damaged"}, /* no room for the offset */
        {8, 0x19, "the extra fields of folder/a are damaged"}, /* over the end */
        {6, 0x02, "the extra fields of folder/a are damaged"}, /* another field */
        {10, 0x05, "folder/a is stored as it is, but has two sizes"},
        {17, 0x80, "folder/a is stored as it is, but has two sizes"},
        {26, 0x01, "folder/a has no header at byte 1"},
        {33, 0x80, "folder/a, of 4 bytes at byte 9223372036854775808, lies outside the file"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct zip_writer writer = {0};
        size_t n_entries, field;
        kvern_error err;

        zip_writer_put(&writer, "folder/a", "AAAA", 4);
        memset(writer.directory.data + 20, 0xff, 8);
        memset(writer.directory.data + 42, 0xff, 4);
        writer.directory.data[30] = sizeof extra;
        field = writer.directory.n_bytes;
        buffer_add(&writer.directory, extra, sizeof extra);
        writer.directory.data[field + cases[i].at] = (char)cases[i].value;
        zip_writer_end(&writer, false);
        kvern_status status = parse(writer.file.data, writer.file.n_bytes, &n_entries, &err);
        if (status != (cases[i].says ? KVERN_FORMAT : KVERN_OK) ||
            (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("case %zu: \"%s\", wanted \"%s\"", i, status ? err.message : "fine",
                     cases[i].says ? cases[i].says : "fine");
        zip_writer_clear(&writer);
    }
}

static void wrong_fields_are_refused(void **state)
{
    static const struct {
        size_t at;
        size_t n; /* bytes of the field */
        uint64_t value;
        kvern_status status;
        const char *says;
    } cases[] = {
        {END, 1, 'X', KVERN_FORMAT, "has no central directory at its end"},
        {END + 20, 2, 1, KVERN_FORMAT, "has no central directory at its end"},
        {END + 4, 2, 1, KVERN_UNSUPPORTED, "spread over many files"},
        {END + 6, 2, 1, KVERN_UNSUPPORTED, "spread over many files"},
        {END + 8, 2, 1, KVERN_UNSUPPORTED, "spread over many files"},
        {END + 10, 2, 3, KVERN_UNSUPPORTED, "spread over many files"},
        {END + 12, 4, 7, KVERN_FORMAT, "the two end records do not agree"},
        {END + 16, 4, 7, KVERN_FORMAT, "the two end records do not agree"},
        {LOCATOR + 4, 4, 1, KVERN_UNSUPPORTED, "spread over many files"},
        {LOCATOR + 16, 4, 2, KVERN_UNSUPPORTED, "spread over many files"},
        {LOCATOR + 8, 8, END64 + 1, KVERN_FORMAT, "ZIP64 end record lies outside the file"},
        {LOCATOR + 8, 8, UINT64_MAX, KVERN_FORMAT, "ZIP64 end record lies outside the file"},
        {LOCATOR + 8, 8, 0, KVERN_FORMAT, "no ZIP64 end record at byte 0"},
        {END64 + 4, 8, 43, KVERN_FORMAT, "no ZIP64 end record at byte"},
        {END64 + 4, 8, UINT64_MAX, KVERN_FORMAT, "no ZIP64 end record at byte"},
        {END64 + 16, 4, 1, KVERN_UNSUPPORTED, "spread over many files"},
        {END64 + 20, 4, 1, KVERN_UNSUPPORTED, "spread over many files"},
        {END64 + 24, 8, 1, KVERN_UNSUPPORTED, "spread over many files"},
        {END64 + 40, 8, 7, KVERN_FORMAT, "the two end records do not agree"},
        {END64 + 48, 8, UINT64_MAX, KVERN_FORMAT, "the two end records do not agree"},
        {CENTRAL_A, 1, 'X', KVERN_FORMAT, "has fewer entries than it says"},
        {CENTRAL_BB, 1, 'X', KVERN_FORMAT, "has fewer entries than it says"},
        {CENTRAL_A + 8, 2, 1, KVERN_UNSUPPORTED, "folder/a is encrypted"},
        {CENTRAL_BB + 8, 2, 64, KVERN_UNSUPPORTED, "folder/bb is encrypted"},
        {CENTRAL_BB + 10, 2, 8, KVERN_UNSUPPORTED,
         "folder/bb is compressed (method 8); only stored entries are read"},
        {CENTRAL_A + 20, 4, 5, KVERN_FORMAT, "folder/a is stored as it is, but has two sizes"},
        {CENTRAL_A + 24, 4, 3, KVERN_FORMAT, "folder/a is stored as it is, but has two sizes"},
        {CENTRAL_A + 20, 4, 0xffffffff, KVERN_FORMAT, "the extra fields of folder/a are damaged"},
        {CENTRAL_A + 28, 2, 0, KVERN_FORMAT, "the central directory ends inside an entry"},
        {CENTRAL_A + 28, 2, 0xffff, KVERN_FORMAT, "the central directory ends inside an entry"},
        {CENTRAL_A + 30, 2, 1, KVERN_FORMAT, "has fewer entries than it says"},
        {CENTRAL_BB + 32, 2, 1, KVERN_FORMAT, "the central directory ends inside an entry"},
        {CENTRAL_A + 34, 2, 1, KVERN_UNSUPPORTED, "folder/a lies in another file"},
        {CENTRAL_A + 42, 4, 1, KVERN_FORMAT, "folder/a has no header at byte 1"},
        {CENTRAL_A + 42, 4, CENTRAL_A - 29, KVERN_FORMAT, "lies outside the file"},
        {CENTRAL_BB + 42, 4, LOCAL_A, KVERN_FORMAT, "says other things of it than the directory"},
        {CENTRAL_A + 46, 1, 'F', KVERN_FORMAT, "says other things of it than the directory"},
        {LOCAL_A, 1, 'X', KVERN_FORMAT, "folder/a has no header at byte 0"},
        {LOCAL_A + 6, 2, 1, KVERN_FORMAT, "says other things of it than the directory"},
        {LOCAL_A + 8, 2, 8, KVERN_FORMAT, "says other things of it than the directory"},
        {LOCAL_A + 26, 2, 7, KVERN_FORMAT, "says other things of it than the directory"},
        {LOCAL_BB + 28, 2, 1, KVERN_FORMAT, "folder/bb, of 3 bytes at byte 42, lies outside"},
        {LOCAL_A + 28, 2, 1, KVERN_FORMAT, "folder/a and folder/bb share bytes"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct zip_writer writer;
        size_t n_entries;
        kvern_error err = {0};

        write_archive(&writer, true);
        assert_int_equal(writer.file.n_bytes, N_BYTES);
        memcpy(writer.file.data + cases[i].at, &cases[i].value, cases[i].n);
        kvern_status status = parse(writer.file.data, writer.file.n_bytes, &n_entries, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].says))
            fail_msg("case %zu: %s, \"%s\", wanted \"%s\"", i, kvern_status_name(status),
                     err.message, cases[i].says);
        assert_int_equal(n_entries, 0);
        zip_writer_clear(&writer);
    }
}

/* The same without ZIP64, where the old record's own values count. */
static void wrong_ends_are_refused(void **state)
{
    enum { OLD_END = END64 };
    static const struct {
        uint16_t n_entries;
        uint32_t n_bytes;
        uint32_t offset;
        const char *says;
    } cases[] = {
        {2, END64 - CENTRAL_A, CENTRAL_A + 1, "lies outside the file"},
        {2, UINT32_MAX, CENTRAL_A, "lies outside the file"},
        {2, 0, UINT32_MAX, "lies outside the file"},
        {3, END64 - CENTRAL_A, CENTRAL_A, "3 entries do not fit in a central directory of 109"},
        {0xffff, END64 - CENTRAL_A, CENTRAL_A, "65535 entries do not fit"},
        {1, END64 - CENTRAL_A, CENTRAL_A, "55 bytes of the central directory are no entry"},
        {2, END64 - CENTRAL_A - 1, CENTRAL_A, "ends inside an entry"},
        {2, END64 - CENTRAL_A - 1, CENTRAL_A + 1, "has fewer entries than it says"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct zip_writer writer;
        size_t n_entries;
        kvern_error err = {0};

        write_archive(&writer, false);
        memcpy(writer.file.data + OLD_END + 8, &cases[i].n_entries, 2);
        memcpy(writer.file.data + OLD_END + 10, &cases[i].n_entries, 2);
        memcpy(writer.file.data + OLD_END + 12, &cases[i].n_bytes, 4);
        memcpy(writer.file.data + OLD_END + 16, &cases[i].offset, 4);
        kvern_status status = parse(writer.file.data, writer.file.n_bytes, &n_entries, &err);
        if (status != KVERN_FORMAT || !strstr(err.message, cases[i].says))
            fail_msg("case %zu: %s, \"%s\", wanted \"%s\"", i, kvern_status_name(status),
                     err.message, cases[i].says);
        zip_writer_clear(&writer);
    }
}

static void names_and_bytes_are_used_once(void **state)
{
    struct zip_writer writer = {0};
    size_t n_entries;
    kvern_error err;

    (void)state;
    zip_writer_put(&writer, "same", "1", 1);
    zip_writer_put(&writer, "same", "2", 1);
    zip_writer_end(&writer, false);
    assert_int_equal(parse(writer.file.data, writer.file.n_bytes, &n_entries, &err), KVERN_FORMAT);
    assert_string_equal(err.message, "zip: there are two entries same");
    zip_writer_clear(&writer);

    /* an entry inside another's bytes */
    struct zip_writer inner = {0};
    zip_writer_put(&inner, "inner", "1", 1);
    zip_writer_put(&writer, "outer", inner.file.data, inner.file.n_bytes);
    inner.directory.data[42] = 35;
    buffer_add(&writer.directory, inner.directory.data, inner.directory.n_bytes);
    writer.n_entries++;
    zip_writer_end(&writer, true);
    assert_int_equal(parse(writer.file.data, writer.file.n_bytes, &n_entries, &err), KVERN_FORMAT);
    assert_string_equal(err.message, "zip: outer and inner share bytes");
    zip_writer_clear(&inner);
    zip_writer_clear(&writer);
}

/* An empty archive is one, too; anything cut short is none. */
static void cut_archives_are_refused(void **state)
{
    struct zip_writer writer = {0};
    size_t n_entries;
    kvern_error err;

    (void)state;
    zip_writer_end(&writer, true);
    assert_int_equal(parse(writer.file.data, writer.file.n_bytes, &n_entries, &err), KVERN_OK);
    assert_int_equal(n_entries, 0);
    zip_writer_clear(&writer);
    write_archive(&writer, true);
    for (size_t n = 0; n < writer.file.n_bytes; n++) {
        if (parse(writer.file.data, n, &n_entries, &err) != KVERN_FORMAT)
            fail_msg("%zu bytes of %zu are taken for an archive", n, writer.file.n_bytes);
    }
    zip_writer_clear(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_found),        cmocka_unit_test(comments_are_passed_over),
        cmocka_unit_test(big_entries_have_a_field), cmocka_unit_test(wrong_fields_are_refused),
        cmocka_unit_test(wrong_ends_are_refused),   cmocka_unit_test(names_and_bytes_are_used_once),
        cmocka_unit_test(cut_archives_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
