/* SPDX-License-Identifier: Apache-2.0
 *
 * The zip records and the opcodes of torch's state dicts, without a memo: each tensor is written
 * out in full, which unpickles to the same.
 */
#include "convert/support_torch.h"

#include "convert/support_gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_u16(struct buffer *file, uint16_t value)
{
    buffer_add(file, &value, sizeof value);
}

/* What a local and a central record have in common, from the version needed to the sizes of the
 * name and the extra fields. */
static void put_common(struct buffer *file, const char *name, size_t n_bytes)
{
    put_u16(file, 20);
    put_u16(file, 0); /* flags */
    put_u16(file, 0); /* stored */
    put_u32(file, 0); /* time and date */
    put_u32(file, 0); /* checksum */
    put_u32(file, (uint32_t)n_bytes);
    put_u32(file, (uint32_t)n_bytes);
    put_u16(file, (uint16_t)strlen(name));
    put_u16(file, 0);
}

void zip_writer_put(struct zip_writer *zip, const char *name, const void *bytes, size_t n_bytes)
{
    uint32_t offset = (uint32_t)zip->file.n_bytes;

    put_u32(&zip->file, 0x04034b50);
    put_common(&zip->file, name, n_bytes);
    buffer_add_string(&zip->file, name);
    buffer_add(&zip->file, bytes, n_bytes);
    put_u32(&zip->directory, 0x02014b50);
    put_u16(&zip->directory, 20);
    put_common(&zip->directory, name, n_bytes);
    put_u16(&zip->directory, 0); /* comment */
    put_u16(&zip->directory, 0); /* disk */
    put_u16(&zip->directory, 0);
    put_u32(&zip->directory, 0);
    put_u32(&zip->directory, offset);
    buffer_add_string(&zip->directory, name);
    zip->n_entries++;
}

void zip_writer_end(struct zip_writer *zip, bool is_zip64)
{
    size_t offset = zip->file.n_bytes;
    size_t n_bytes = zip->directory.n_bytes;

    buffer_add(&zip->file, zip->directory.data, n_bytes);
    if (is_zip64) {
        size_t end = zip->file.n_bytes;

        put_u32(&zip->file, 0x06064b50);
        put_u64(&zip->file, 44);
        put_u32(&zip->file, 45 | 45 << 16);
        put_u64(&zip->file, 0); /* two disks */
        put_u64(&zip->file, zip->n_entries);
        put_u64(&zip->file, zip->n_entries);
        put_u64(&zip->file, n_bytes);
        put_u64(&zip->file, offset);
        put_u32(&zip->file, 0x07064b50);
        put_u32(&zip->file, 0);
        put_u64(&zip->file, end);
        put_u32(&zip->file, 1);
    }
    put_u32(&zip->file, 0x06054b50);
    put_u32(&zip->file, 0);
    put_u16(&zip->file, zip->n_entries);
    put_u16(&zip->file, zip->n_entries);
    put_u32(&zip->file, (uint32_t)n_bytes);
    put_u32(&zip->file, (uint32_t)offset);
    put_u16(&zip->file, 0);
}

void zip_writer_clear(struct zip_writer *zip)
{
    buffer_clear(&zip->file);
    buffer_clear(&zip->directory);
    zip->n_entries = 0;
}

void put_pickle_string(struct buffer *pickle, const char *text)
{
    buffer_add_byte(pickle, 'X');
    put_u32(pickle, (uint32_t)strlen(text));
    buffer_add_string(pickle, text);
}

static void put_pickle_int(struct buffer *pickle, uint32_t value)
{
    buffer_add_byte(pickle, 'J');
    put_u32(pickle, value);
}

static void put_pickle_sizes(struct buffer *pickle, const uint32_t *sizes, size_t n)
{
    buffer_add_byte(pickle, '(');
    for (size_t i = 0; i < n; i++)
        put_pickle_int(pickle, sizes[i]);
    buffer_add_byte(pickle, 't');
}

void put_pickle_begin(struct buffer *pickle)
{
    buffer_add_string(pickle, "\x80\x02"
                              "ccollections\nOrderedDict\n)R(");
}

void put_pickle_tensor(struct buffer *pickle, const struct pickled_tensor *tensor)
{
    put_pickle_string(pickle, tensor->name);
    buffer_add_string(pickle, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_pickle_string(pickle, "storage");
    buffer_add_format(pickle, "ctorch\n%s\n", tensor->storage);
    put_pickle_string(pickle, tensor->key);
    put_pickle_string(pickle, "cpu");
    put_pickle_int(pickle, tensor->n_values);
    buffer_add_string(pickle, "tQ");
    put_pickle_int(pickle, tensor->offset);
    put_pickle_sizes(pickle, tensor->dims, tensor->n_dims);
    put_pickle_sizes(pickle, tensor->strides, tensor->n_dims);
    buffer_add_string(pickle, "\x89"
                              "ccollections\nOrderedDict\n)RtR");
}

void put_pickle_end(struct buffer *pickle)
{
    buffer_add_string(pickle, "u.");
}

/* The values of matrix `from` column by column. */
static void put_columns(struct buffer *bytes, const struct tensor *from)
{
    size_t n_value = tensor_type_block_bytes(from->type);

    for (size_t k = 0; k < from->dims[1]; k++) {
        for (size_t row = 0; row < from->dims[0]; row++)
            buffer_add(bytes, from->data + (row * from->dims[1] + k) * n_value, n_value);
    }
}

void put_torch_file(struct zip_writer *zip, const struct tensor *tensors, size_t n_tensors,
                    bool is_transposed)
{
    static const char *const storages[] = {
        [TENSOR_F32] = "FloatStorage",
        [TENSOR_F16] = "HalfStorage",
        [TENSOR_BF16] = "BFloat16Storage",
    };
    struct buffer pickle = {0};
    char name[32];

    put_pickle_begin(&pickle);
    for (size_t i = 0; i < n_tensors; i++) {
        const struct tensor *from = &tensors[i];
        struct pickled_tensor tensor = {
            .name = from->name, .storage = storages[from->type], .key = name, .n_values = 1};

        snprintf(name, sizeof name, "%zu", i);
        tensor.n_dims = from->n_dims;
        for (size_t j = from->n_dims; j-- > 0;) {
            tensor.dims[j] = (uint32_t)from->dims[j];
            tensor.strides[j] = tensor.n_values;
            tensor.n_values *= tensor.dims[j];
        }
        if (is_transposed && from->n_dims == 2) {
            tensor.strides[0] = 1;
            tensor.strides[1] = tensor.dims[0];
        }
        put_pickle_tensor(&pickle, &tensor);
    }
    put_pickle_end(&pickle);
    zip_writer_put(zip, "archive/data.pkl", pickle.data, pickle.n_bytes);
    for (size_t i = 0; i < n_tensors; i++) {
        struct buffer bytes = {0};

        if (is_transposed && tensors[i].n_dims == 2)
            put_columns(&bytes, &tensors[i]);
        else
            buffer_add(&bytes, tensors[i].data, tensors[i].n_bytes);
        snprintf(name, sizeof name, "archive/data/%zu", i);
        zip_writer_put(zip, name, bytes.data, bytes.n_bytes);
        buffer_clear(&bytes);
    }
    zip_writer_end(zip, true);
    buffer_clear(&pickle);
}
