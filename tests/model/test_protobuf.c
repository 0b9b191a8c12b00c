/* SPDX-License-Identifier: Apache-2.0
 *
 * The reader of protobuf's wire format: varints, the walk over fields, and every way in which bytes
 * can be ill-formed. The bytes lie at the end of a heap block, so that a sanitizer sees an
 * overread.
 */
#include "model/protobuf.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 16, MAX_FIELDS = 5 };

struct bytes {
    size_t n;
    uint8_t at[MAX_BYTES];
};

/* A block of exactly these bytes. */
static uint8_t *copy_of(const struct bytes *bytes)
{
    uint8_t *copy = malloc(bytes->n ? bytes->n : 1);

    assert_non_null(copy);
    memcpy(copy, bytes->at, bytes->n);
    return copy;
}

static void varints(void **state)
{
    static const struct {
        struct bytes bytes;
        bool is_read;
        bool is_damaged;
        uint64_t value;
        size_t n_taken; /* of one that is read */
    } cases[] = {
        {{0, {0}}, false, false, 0, 0}, /* the end is no damage */
        {{1, {0x00}}, true, false, 0, 1},
        {{1, {0x7f}}, true, false, 127, 1},
        {{2, {0x80, 0x01}}, true, false, 128, 2},
        {{3, {0xac, 0x02, 0x55}}, true, false, 300, 2}, /* what follows stays */
        {{2, {0x80, 0x00}}, true, false, 0, 2},         /* longer than it needs to be */
        {{5, {0xff, 0xff, 0xff, 0xff, 0x0f}}, true, false, UINT32_MAX, 5},
        {{10, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}},
         true,
         false,
         UINT64_MAX,
         10},
        {{10, {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}},
         true,
         false,
         (uint64_t)1 << 63,
         10},
        {{1, {0x80}}, false, true, 0, 0}, /* cut */
        {{2, {0xff, 0xff}}, false, true, 0, 0},
        {{9, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, false, true, 0, 0},
        {{11, {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}},
         false,
         true,
         0,
         0}, /* eleven bytes */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t *copy = copy_of(&cases[i].bytes);
        struct protobuf reader = protobuf_read(copy, cases[i].bytes.n);
        uint64_t value = 77;
        bool is_read = protobuf_next_varint(&reader, &value);

        if (is_read != cases[i].is_read || reader.is_damaged != cases[i].is_damaged ||
            (is_read && (value != cases[i].value || reader.at != copy + cases[i].n_taken)))
            fail_msg("case %zu: read %d, damaged %d, value %llu, %td bytes taken", i, is_read,
                     reader.is_damaged, (unsigned long long)value, reader.at - copy);
        if (reader.is_damaged)
            assert_false(protobuf_next_varint(&reader, &value));
        free(copy);
    }
}

static void fields(void **state)
{
    static const struct {
        const char *what;
        struct bytes bytes;
        bool is_damaged; /* after the fields that are given */
        size_t n_fields;
        struct {
            uint32_t number;
            enum protobuf_type type;
            uint64_t value;
            size_t begin, n_bytes; /* of PROTOBUF_BYTES */
        } fields[MAX_FIELDS];
    } cases[] = {
        {"nothing", {0, {0}}, false, 0, {{0}}},
        {"a varint", {3, {0x08, 0x96, 0x01}}, false, 1, {{1, PROTOBUF_VARINT, 150}}},
        {"fixed64",
         {9, {0x09, 1, 2, 3, 4, 5, 6, 7, 8}},
         false,
         1,
         {{1, PROTOBUF_FIXED64, 0x0807060504030201u}}},
        {"fixed32", {5, {0x0d, 1, 2, 3, 4}}, false, 1, {{1, PROTOBUF_FIXED32, 0x04030201u}}},
        {"bytes", {5, {0x12, 3, 'a', 'b', 'c'}}, false, 1, {{2, PROTOBUF_BYTES, 0, 2, 3}}},
        {"bytes of none", {2, {0x12, 0}}, false, 1, {{2, PROTOBUF_BYTES, 0, 2, 0}}},
        {"all four types",
         {15, {0x12, 1, 'x', 0x08, 5, 0x1d, 1, 0, 0, 0, 0x08, 6, 0x22, 1, 'y'}},
         false,
         5,
         {{2, PROTOBUF_BYTES, 0, 2, 1},
          {1, PROTOBUF_VARINT, 5},
          {3, PROTOBUF_FIXED32, 1},
          {1, PROTOBUF_VARINT, 6},
          {4, PROTOBUF_BYTES, 0, 14, 1}}},
        {"the largest number",
         {6, {0xf8, 0xff, 0xff, 0xff, 0x0f, 7}},
         false,
         1,
         {{(1u << 29) - 1, PROTOBUF_VARINT, 7}}},
        {"number 2^29", {6, {0x80, 0x80, 0x80, 0x80, 0x10, 7}}, true, 0, {{0}}},
        {"number 2^32 + 1", {7, {0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 7}}, true, 0, {{0}}},
        {"number 0", {2, {0x00, 7}}, true, 0, {{0}}},
        {"a key that is cut", {1, {0x88}}, true, 0, {{0}}},
        {"a key alone", {1, {0x08}}, true, 0, {{0}}},
        {"a value that is cut", {2, {0x08, 0x80}}, true, 0, {{0}}},
        {"fixed64 that is cut", {8, {0x09, 1, 2, 3, 4, 5, 6, 7}}, true, 0, {{0}}},
        {"fixed32 that is cut", {4, {0x0d, 1, 2, 3}}, true, 0, {{0}}},
        {"a length alone missing", {1, {0x12}}, true, 0, {{0}}},
        {"a length one too long", {4, {0x12, 3, 'a', 'b'}}, true, 0, {{0}}},
        {"a length of 2^64 - 1",
         {12, {0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'a'}},
         true,
         0,
         {{0}}},
        {"a length that is cut", {2, {0x12, 0x83}}, true, 0, {{0}}},
        {"a group's begin", {2, {0x0b, 0x0c}}, true, 0, {{0}}},
        {"a group's end", {1, {0x0c}}, true, 0, {{0}}},
        {"wire type 6", {2, {0x0e, 1}}, true, 0, {{0}}},
        {"wire type 7", {2, {0x0f, 1}}, true, 0, {{0}}},
        {"damage after a good one", {4, {0x08, 1, 0x12, 9}}, true, 1, {{1, PROTOBUF_VARINT, 1}}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t *copy = copy_of(&cases[i].bytes);
        struct protobuf reader = protobuf_read(copy, cases[i].bytes.n);
        struct protobuf_field field;

        for (size_t j = 0; j < cases[i].n_fields; j++) {
            if (!protobuf_next(&reader, &field))
                fail_msg("%s: there is no field %zu", cases[i].what, j);
            assert_int_equal(field.number, cases[i].fields[j].number);
            assert_int_equal(field.type, cases[i].fields[j].type);
            assert_int_equal(field.value, cases[i].fields[j].value);
            assert_int_equal(field.n_bytes, cases[i].fields[j].n_bytes);
            if (field.type == PROTOBUF_BYTES)
                assert_ptr_equal(field.bytes, copy + cases[i].fields[j].begin);
            else
                assert_null(field.bytes);
        }
        if (protobuf_next(&reader, &field) || reader.is_damaged != cases[i].is_damaged)
            fail_msg("%s: field %u, damaged %d after the last one", cases[i].what, field.number,
                     reader.is_damaged);
        assert_false(protobuf_next(&reader, &field)); /* and it stays so */
        assert_int_equal(reader.is_damaged, cases[i].is_damaged);
        free(copy);
    }
}

/* A field that is no message reads as an empty one, as absent ones do. */
static void no_bytes_are_an_empty_message(void **state)
{
    struct protobuf reader = protobuf_read(NULL, 0);
    struct protobuf_field field;
    uint64_t value;

    (void)state;
    assert_false(protobuf_next(&reader, &field));
    assert_false(protobuf_next_varint(&reader, &value));
    assert_false(reader.is_damaged);
}

/* Damage inside a nested message is the nested reader's: the outer one goes on. */
static void nested_messages_are_read_by_their_own(void **state)
{
    static const uint8_t outer[] = {0x0a, 0x03, 0x08, 0x2a, 0x88, 0x10, 0x07};
    struct protobuf reader = protobuf_read(outer, sizeof outer);
    struct protobuf inner;
    struct protobuf_field field;

    (void)state;
    assert_true(protobuf_next(&reader, &field));
    inner = protobuf_read(field.bytes, field.n_bytes);
    assert_true(protobuf_next(&inner, &field));
    assert_int_equal(field.value, 42);
    assert_false(protobuf_next(&inner, &field)); /* its key would go on in the outer message */
    assert_true(inner.is_damaged);
    assert_true(protobuf_next(&reader, &field));
    assert_int_equal(field.number, 2);
    assert_int_equal(field.value, 7);
    assert_false(reader.is_damaged);
}

/* Packed arrays: varints with no keys, up to the end. */
static void packed_varints(void **state)
{
    static const uint8_t packed[] = {0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05};
    static const uint64_t values[] = {3, 270, 86942};
    struct protobuf reader = protobuf_read(packed, sizeof packed);
    uint64_t value;

    (void)state;
    for (size_t i = 0; i < COUNT(values); i++) {
        assert_true(protobuf_next_varint(&reader, &value));
        assert_int_equal(value, values[i]);
    }
    assert_false(protobuf_next_varint(&reader, &value));
    assert_false(reader.is_damaged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(varints),
        cmocka_unit_test(fields),
        cmocka_unit_test(no_bytes_are_an_empty_message),
        cmocka_unit_test(nested_messages_are_read_by_their_own),
        cmocka_unit_test(packed_varints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
