/* SPDX-License-Identifier: Apache-2.0
 *
 * See support_seeded.h. All arithmetic is of integers, and of doubles in single operations, so that
 * every machine gives the same bits; the file's SHA-256 says whether these are Python's.
 */
#include "convert/support_seeded.h"

#include "test.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/half.h"
#include "base/memory.h"

#include <dirent.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char RECIPE[] = "weights.json";

enum { MAX_BYTES = 1 << 20 }; /* of a small file */

/* How one tensor is drawn. */
struct tensor {
    const char *name;
    size_t n_rows, n_columns;
    double scale, mean;
    int64_t scaled_row; /* -1: none */
    double row_scale;
    bool is_centred;
};

static uint64_t hash_of(int64_t seed, const char *name)
{
    char text[256];
    uint64_t hash = 0xcbf29ce484222325u;
    int n = snprintf(text, sizeof text, "%lld/%s", (long long)seed, name);

    assert_in_range(n, 1, sizeof text - 1);
    for (int i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash;
}

/* splitmix64 at place `i`, its four parts added up: -131070 to 131070. */
static int32_t noise_at(uint64_t hash, uint64_t i)
{
    uint64_t x = hash + (i + 1) * 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (int32_t)((x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48)) - 131070;
}

static uint16_t bf16_from_float(float value)
{
    uint32_t bits = float_bits(value);

    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void write_tensor(FILE *file, const struct tensor *tensor, int64_t seed, const char *dtype)
{
    size_t n = tensor->n_columns;
    int64_t *row = new_or_abort(n * sizeof *row);
    float *wide = new_or_abort(n * sizeof *wide);
    uint16_t *narrow = new_or_abort(n * sizeof *narrow);
    uint64_t hash = hash_of(seed, tensor->name);

    for (size_t r = 0; r < tensor->n_rows; r++) {
        double scale = (int64_t)r == tensor->scaled_row ? tensor->row_scale : tensor->scale;
        int64_t sum = 0;

        for (size_t i = 0; i < n; i++) {
            row[i] = noise_at(hash, r * n + i);
            sum += row[i];
        }
        for (size_t i = 0; i < n; i++) {
            int64_t z = tensor->is_centred ? row[i] * (int64_t)n - sum : row[i];

            wide[i] = (float)(tensor->mean + scale * (double)z);
        }
        if (strcmp(dtype, "F32") == 0) {
            assert_int_equal(fwrite(wide, sizeof *wide, n, file), n);
            continue;
        }
        for (size_t i = 0; i < n; i++)
            narrow[i] = dtype[0] == 'B' ? bf16_from_float(wide[i]) : half_from_float(wide[i]);
        assert_int_equal(fwrite(narrow, sizeof *narrow, n, file), n);
    }
    free(row);
    free(wide);
    free(narrow);
}

static struct tensor tensor_of(const json_t *from)
{
    const json_t *shape = json_object_get(from, "shape");
    const json_t *row = json_object_get(from, "row");
    size_t rank = json_array_size(shape);
    size_t n_last = (size_t)json_integer_value(json_array_get(shape, rank - 1));

    assert_in_range(rank, 1, 2);
    return (struct tensor){
        .name = json_string_value(json_object_get(from, "name")),
        .n_rows = rank == 2 ? (size_t)json_integer_value(json_array_get(shape, 0)) : 1,
        .n_columns = n_last,
        .scale = json_number_value(json_object_get(from, "scale")),
        .mean = json_number_value(json_object_get(from, "mean")),
        .scaled_row = row ? json_integer_value(row) : -1,
        .row_scale = json_number_value(json_object_get(from, "row_scale")),
        .is_centred = json_is_true(json_object_get(from, "centred")),
    };
}

static void write_bytes(FILE *file, const char *bytes, size_t n_bytes)
{
    assert_int_equal(fwrite(bytes, 1, n_bytes, file), n_bytes);
}

/* As safetensors.torch.save_file() writes it. */
static void write_safetensors(FILE *file, int64_t seed, const json_t *recipe)
{
    const json_t *tensors = json_object_get(recipe, "tensors");
    const char *dtype = json_string_value(json_object_get(recipe, "dtype"));
    size_t value_bytes = strcmp(dtype, "F32") == 0 ? 4 : 2, offset = 0;
    struct buffer header = {0};

    buffer_add_format(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        struct tensor tensor = tensor_of(json_array_get(tensors, i));
        char *shape =
            json_dumps(json_object_get(json_array_get(tensors, i), "shape"), JSON_COMPACT);
        size_t end = offset + tensor.n_rows * tensor.n_columns * value_bytes;

        buffer_add_format(&header,
                          ",\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                          tensor.name, dtype, shape, offset, end);
        offset = end;
        free(shape);
    }
    buffer_add_format(&header, "}");
    while (header.n_bytes % 8 != 0)
        buffer_add_format(&header, " ");
    uint64_t n_header = header.n_bytes;

    write_bytes(file, (const char *)&n_header, sizeof n_header);
    write_bytes(file, header.data, header.n_bytes);
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        struct tensor tensor = tensor_of(json_array_get(tensors, i));

        write_tensor(file, &tensor, seed, dtype);
    }
    buffer_clear(&header);
}

/* The bytes of `holes`, and the tensors where they belong. */
static void fill_holes(FILE *file, const char *holes, int64_t seed, const json_t *recipe)
{
    const json_t *tensors = json_object_get(recipe, "tensors");
    const char *dtype = json_string_value(json_object_get(recipe, "dtype"));
    size_t n_bytes, at = 0;
    char *rest = NULL;
    kvern_error err = {0};

    if (file_read(holes, MAX_BYTES, &rest, &n_bytes, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *from = json_array_get(tensors, i);
        struct tensor tensor = tensor_of(from);
        size_t before = (size_t)(json_integer_value(json_object_get(from, "at")) - ftell(file));

        assert_in_range(before, 0, n_bytes - at);
        write_bytes(file, rest + at, before);
        at += before;
        write_tensor(file, &tensor, seed, dtype);
    }
    write_bytes(file, rest + at, n_bytes - at);
    free(rest);
}

/* The file that `recipe` describes, into the folder `target`. */
static void write_weights(const char *source, const char *target, int64_t seed,
                          const json_t *recipe)
{
    const char *name = json_string_value(json_object_get(recipe, "name"));
    const char *expected = json_string_value(json_object_get(recipe, "sha256"));
    struct buffer holes = {0};
    char *path = path_join(target, name);
    FILE *file = fopen(path, "wb");
    kvern_error err = {0};
    char hex[65];

    buffer_add_format(&holes, "%s/%s.holes", source, name);
    assert_non_null(file);
    if (file_exists(holes.data))
        fill_holes(file, holes.data, seed, recipe);
    else
        write_safetensors(file, seed, recipe);
    assert_int_equal(fclose(file), 0);
    if (file_sha256(path, hex, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    if (strcmp(hex, expected) != 0) {
        directory_remove(target, &err);
        fail_msg("%s: %s has the SHA-256 %.16s... here, %.16s... in its %s: support_seeded.c "
                 "computes other weights than seeded.py did",
                 source, name, hex, expected, RECIPE);
    }
    buffer_clear(&holes);
    free(path);
}

static void copy_file(const char *from, const char *to)
{
    struct file_writer writer = {0};
    char *bytes = NULL;
    size_t n_bytes;
    kvern_error err = {0};

    if (file_read(from, MAX_BYTES, &bytes, &n_bytes, &err) != KVERN_OK ||
        file_writer_open(&writer, to, &err) != KVERN_OK ||
        file_writer_put(&writer, bytes, n_bytes, &err) != KVERN_OK ||
        file_writer_commit(&writer, &err) != KVERN_OK)
        fail_msg("%s", err.message);
    file_writer_clear(&writer);
    free(bytes);
}

/* All but the recipe and what it fills, with the folders in it. */
static void copy_rest(const char *source, const char *target)
{
    DIR *directory = opendir(source);
    struct dirent *entry;
    kvern_error err = {0};

    if (!directory || directory_make(target, &err) != KVERN_OK)
        fail_msg("%s cannot be copied to %s", source, target);
    while ((entry = readdir(directory))) {
        const char *end = strrchr(entry->d_name, '.');

        if (entry->d_name[0] == '.' || strcmp(entry->d_name, RECIPE) == 0 ||
            (end && strcmp(end, ".holes") == 0))
            continue;
        char *from = path_join(source, entry->d_name);
        char *to = path_join(target, entry->d_name);
        if (directory_exists(from))
            copy_rest(from, to);
        else
            copy_file(from, to);
        free(from);
        free(to);
    }
    closedir(directory);
}

static json_t *read_recipe(const char *source)
{
    char *path = path_join(source, RECIPE);
    json_t *recipe = NULL;
    json_error_t problem;

    if (file_exists(path) && !(recipe = json_load_file(path, 0, &problem)))
        fail_msg("%s: %s", path, problem.text);
    free(path);
    return recipe;
}

void seeded_copy(const char *source, const char *target)
{
    json_t *recipe = read_recipe(source);
    const json_t *files = json_object_get(recipe, "files");
    int64_t seed = json_integer_value(json_object_get(recipe, "seed"));

    copy_rest(source, target);
    for (size_t i = 0; i < json_array_size(files); i++)
        write_weights(source, target, seed, json_array_get(files, i));
    json_decref(recipe);
}

char *seeded_checkpoint(const char *source)
{
    json_t *recipe = read_recipe(source);
    const json_t *first = json_array_get(json_object_get(recipe, "files"), 0);
    struct buffer target = {0}, unfinished = {0};
    struct stat changed = {0};

    if (!recipe)
        return copy_string_or_abort(source);
    assert_int_equal(stat(source, &changed), 0);
    /* weights or configuration that changed are another model */
    buffer_add_format(&target, "%s/test-models/%s-%lld-%.8s", KVERN_BUILD_DIR, path_base(source),
                      (long long)changed.st_mtime,
                      json_string_value(json_object_get(first, "sha256")));
    if (!directory_exists(target.data)) {
        buffer_add_format(&unfinished, "%s.%d", target.data, (int)getpid());
        seeded_copy(source, unfinished.data);
        /* another test may have made it in the meantime: then it is there, and whole */
        if (rename(unfinished.data, target.data) != 0) {
            assert_true(directory_exists(target.data));
            directory_remove(unfinished.data, NULL);
        }
    }
    json_decref(recipe);
    buffer_clear(&unfinished);
    return buffer_take(&target, NULL);
}
