/* SPDX-License-Identifier: Apache-2.0 */
#include "convert/support_protobuf.h"

#include <string.h>

void put_varint(struct buffer *message, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        buffer_add_byte(message, (char)(value | 0x80));
    buffer_add_byte(message, (char)value);
}

void put_number(struct buffer *message, unsigned field, uint64_t value)
{
    put_varint(message, field << 3);
    put_varint(message, value);
}

void put_bytes(struct buffer *message, unsigned field, const void *bytes, size_t n_bytes)
{
    put_varint(message, field << 3 | 2);
    put_varint(message, n_bytes);
    if (n_bytes)
        buffer_add(message, bytes, n_bytes);
}

void put_text(struct buffer *message, unsigned field, const char *text)
{
    put_bytes(message, field, text, strlen(text));
}

void put_message(struct buffer *message, unsigned field, struct buffer *inner)
{
    put_bytes(message, field, inner->data, inner->n_bytes);
    buffer_clear(inner);
}

static void put_names(struct buffer *node, unsigned field, const char *names)
{
    while (*names) {
        size_t n = strcspn(names, " ");

        put_bytes(node, field, names, *names == '-' ? 0 : n);
        names += n + (names[n] == ' ');
    }
}

struct buffer make_node(const char *op, const char *inputs, const char *outputs)
{
    struct buffer node = {0};

    put_names(&node, 1, inputs);
    put_names(&node, 2, outputs);
    put_text(&node, 3, "the-node");
    put_text(&node, 4, op);
    return node;
}

struct buffer make_tensor(const char *name, int type, const int64_t *dims, const void *raw,
                          size_t n_bytes)
{
    struct buffer tensor = {0};

    for (; *dims; dims++)
        put_number(&tensor, 1, (uint64_t)*dims);
    put_number(&tensor, 2, (uint64_t)type);
    put_text(&tensor, 8, name);
    if (raw)
        put_bytes(&tensor, 9, raw, n_bytes);
    return tensor;
}

struct buffer make_port(const char *name)
{
    struct buffer port = {0}, type = {0}, tensor = {0}, shape = {0}, symbol = {0}, fixed = {0};

    put_text(&symbol, 2, "n");
    put_number(&fixed, 1, 2);
    put_message(&shape, 1, &symbol);
    put_message(&shape, 1, &fixed);
    put_number(&tensor, 1, 1);
    put_message(&tensor, 2, &shape);
    put_message(&type, 1, &tensor);
    put_text(&port, 1, name);
    put_message(&port, 2, &type);
    return port;
}
