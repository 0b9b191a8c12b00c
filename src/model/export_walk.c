/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes are walked for external data, also in subgraphs and functions, and for operators that are
 * not ONNX's or ONNX Runtime's own. Nesting is bounded; nothing is copied.
 */
#include "model/export_walk.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/contract_tensor.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 8 };

void export_files_clear(struct export_files *files)
{
    free(files->items);
    *files = (struct export_files){0};
}

static kvern_status add_file(struct export_walk *walk, const struct export_file *file)
{
    struct export_files *files = walk->files;
    struct export_file *grown = try_resize(files->items, files->n + 1, sizeof *grown);

    if (!grown)
        return fail(walk->err, KVERN_MEMORY, "no memory for the names of %zu files", files->n + 1);
    files->items = grown;
    files->items[files->n++] = *file;
    files->n_bytes += file->n_bytes;
    return KVERN_OK;
}

/* The file `name` into *file, if that is a regular file of the directory, no link. Only files that
 * are there are noted, so a graph cannot make the list long. */
static kvern_status look_at_file(struct export_walk *walk, struct text name,
                                 struct export_file *file)
{
    struct stat info;
    char *path;
    int failed;

    if (name.n_bytes == 0 || name.n_bytes >= sizeof file->name ||
        memchr(name.at, '\0', name.n_bytes) != NULL || memchr(name.at, '/', name.n_bytes) != NULL ||
        memchr(name.at, '\\', name.n_bytes) != NULL || text_is(name, ".") || text_is(name, ".."))
        return fail(walk->err, KVERN_FORMAT,
                    "a tensor lies in \"%.*s\", which is no plain file name", TEXT_ARGUMENTS(name));
    for (size_t i = walk->files->n; i-- > 0;) {
        if (text_is(name, walk->files->items[i].name)) {
            *file = walk->files->items[i];
            return KVERN_OK;
        }
    }
    *file = (struct export_file){0};
    memcpy(file->name, name.at, name.n_bytes);
    path = path_join(walk->directory, file->name);
    failed = lstat(path, &info);
    free(path);
    if (failed)
        return fail(walk->err, KVERN_NOT_FOUND, "%s needs the file %s, which is not there",
                    walk->directory, file->name);
    if (!S_ISREG(info.st_mode) || info.st_nlink > 1)
        return fail(walk->err, KVERN_FORMAT,
                    "%s is a link or no regular file; weights must be a file of the folder itself",
                    file->name);
    file->n_bytes = (uint64_t)info.st_size;
    return add_file(walk, file);
}

static kvern_status check_place(struct export_walk *walk, struct text tensor, struct text location,
                                struct text offset_text, struct text length_text)
{
    uint64_t offset = 0;
    uint64_t length = 0;
    struct export_file file;
    kvern_status status = look_at_file(walk, location, &file);

    if (status != KVERN_OK)
        return status;
    if ((offset_text.n_bytes > 0 && !text_read_decimal(offset_text, &offset)) ||
        (length_text.n_bytes > 0 && !text_read_decimal(length_text, &length)) ||
        offset + length > file.n_bytes)
        return fail(walk->err, KVERN_FORMAT,
                    "the tensor \"%.*s\" lies at offset \"%.*s\" with \"%.*s\" bytes in %s, which "
                    "has %llu",
                    TEXT_ARGUMENTS(tensor), TEXT_ARGUMENTS(offset_text),
                    TEXT_ARGUMENTS(length_text), file.name, (unsigned long long)file.n_bytes);
    return KVERN_OK;
}

static bool read_entry(const struct protobuf_field *from, struct text *key, struct text *value)
{
    struct protobuf message = protobuf_read(from->bytes, from->n_bytes);
    struct protobuf_field field;

    while (protobuf_next(&message, &field)) {
        if (field.number == 1)
            *key = text_of(&field);
        else if (field.number == 2)
            *value = text_of(&field);
    }
    return !message.is_damaged;
}

/* Weights that ONNX Runtime has packed for its kernels are places of the file that it takes over
 * without checking their sizes. */
static const char prepacked[] = "prepacked";

static kvern_status walk_tensor(struct export_walk *walk, struct protobuf message)
{
    struct text name = {""}, location = {""}, offset = {""}, length = {""};
    struct protobuf_field field;
    bool is_external = false;
    bool is_ok = true;

    while (is_ok && protobuf_next(&message, &field)) {
        struct text key = {""}, value = {""};

        if (field.number == 8)
            name = text_of(&field);
        else if (field.number == 14)
            is_external = field.value != 0;
        if (field.number != 13)
            continue;
        is_external = true;
        is_ok = read_entry(&field, &key, &value);
        if (text_is(key, "location"))
            location = value;
        else if (text_is(key, "offset"))
            offset = value;
        else if (text_is(key, "length"))
            length = value;
        else if (key.n_bytes >= sizeof prepacked - 1 &&
                 memcmp(key.at, prepacked, sizeof prepacked - 1) == 0)
            return fail(walk->err, KVERN_UNSUPPORTED,
                        "the tensor \"%.*s\" is packed for ONNX Runtime's own kernels",
                        TEXT_ARGUMENTS(name));
    }
    if (!is_ok || message.is_damaged)
        return fail(walk->err, KVERN_FORMAT, "the tensor \"%.*s\" is damaged",
                    TEXT_ARGUMENTS(name));
    return is_external ? check_place(walk, name, location, offset, length) : KVERN_OK;
}

/* ---- nodes ---- */

static kvern_status walk_graph(struct export_walk *walk, struct protobuf message, unsigned depth);

static kvern_status walk_attribute(struct export_walk *walk, struct protobuf message,
                                   unsigned depth)
{
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&message, &field)) {
        if (field.number == 5 || field.number == 10)
            status = walk_tensor(walk, protobuf_read(field.bytes, field.n_bytes));
        else if (field.number == 6 || field.number == 11)
            status = walk_graph(walk, protobuf_read(field.bytes, field.n_bytes), depth + 1);
        else if (field.number == 22 || field.number == 23)
            status = fail(walk->err, KVERN_UNSUPPORTED, "the graph has sparse tensors");
    }
    if (status == KVERN_OK && message.is_damaged)
        status = fail(walk->err, KVERN_FORMAT, "an attribute of a node is damaged");
    return status;
}

static bool is_known_domain(struct text domain)
{
    return text_is(domain, "") || text_is(domain, "ai.onnx") || text_is(domain, "com.microsoft");
}

static kvern_status walk_node(struct export_walk *walk, struct protobuf message, unsigned depth)
{
    struct text op = {""}, domain = {""};
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&message, &field)) {
        if (field.number == 4)
            op = text_of(&field);
        else if (field.number == 7)
            domain = text_of(&field);
        else if (field.number == 5)
            status = walk_attribute(walk, protobuf_read(field.bytes, field.n_bytes), depth);
    }
    if (status == KVERN_OK && message.is_damaged)
        status = fail(walk->err, KVERN_FORMAT, "a node of the graph is damaged");
    /* EPContext makes ONNX Runtime read files of its own choice. Functions of the file have domains
     * of their own, and their nodes are walked too. */
    if (status == KVERN_OK && (text_is(op, "EPContext") || text_is(domain, "ai.kvern")))
        status = fail(walk->err, KVERN_UNSUPPORTED,
                      "the graph has a node \"%.*s\" of domain \"%.*s\", which no export may have",
                      TEXT_ARGUMENTS(op), TEXT_ARGUMENTS(domain));
    if (is_known_domain(domain) && text_is(op, "GroupQueryAttention"))
        walk->has_gqa = true;
    return status;
}

static kvern_status walk_graph(struct export_walk *walk, struct protobuf message, unsigned depth)
{
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    if (depth > MAX_DEPTH)
        return fail(walk->err, KVERN_LIMIT, "subgraphs are nested over %d deep", MAX_DEPTH);
    while (status == KVERN_OK && protobuf_next(&message, &field)) {
        if (field.number == 1)
            status = walk_node(walk, protobuf_read(field.bytes, field.n_bytes), depth);
        else if (field.number == 5)
            status = walk_tensor(walk, protobuf_read(field.bytes, field.n_bytes));
        else if (field.number == 15)
            status = fail(walk->err, KVERN_UNSUPPORTED, "the graph has sparse initializers");
    }
    if (status == KVERN_OK && message.is_damaged)
        status = fail(walk->err, KVERN_FORMAT, "the graph is cut short or damaged");
    return status;
}

static kvern_status walk_function(struct export_walk *walk, struct protobuf message)
{
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    while (status == KVERN_OK && protobuf_next(&message, &field)) {
        if (field.number == 7)
            status = walk_node(walk, protobuf_read(field.bytes, field.n_bytes), 1);
        else if (field.number == 11) /* the default value of an attribute */
            status = walk_attribute(walk, protobuf_read(field.bytes, field.n_bytes), 1);
    }
    if (status == KVERN_OK && message.is_damaged)
        status = fail(walk->err, KVERN_FORMAT, "a function of the file is damaged");
    return status;
}

kvern_status export_walk_model(struct export_walk *walk, const uint8_t *bytes, size_t n_bytes,
                               struct protobuf *graph)
{
    struct protobuf model = protobuf_read(bytes, n_bytes);
    struct protobuf_field found = {0};
    struct protobuf_field field;
    kvern_status status = KVERN_OK;

    walk->files->n_bytes += n_bytes;
    while (status == KVERN_OK && protobuf_next(&model, &field)) {
        if (field.number == 7 && !protobuf_enter(&found, &field))
            status = fail(walk->err, KVERN_FORMAT, "the file holds more than one graph");
        else if (field.number == 20)
            status = fail(walk->err, KVERN_UNSUPPORTED, "the file holds training graphs");
        else if (field.number == 25)
            status = walk_function(walk, protobuf_read(field.bytes, field.n_bytes));
    }
    if (status == KVERN_OK && (model.is_damaged || !found.number))
        status =
            fail(walk->err, KVERN_FORMAT, "not an ONNX file, or one that is cut short or damaged");
    *graph = protobuf_read(found.bytes, found.n_bytes);
    return status == KVERN_OK ? walk_graph(walk, *graph, 0) : status;
}
