/* SPDX-License-Identifier: Apache-2.0
 *
 * Building: the sorted pieces below a node are a range, and a node's children cut its range by
 * their next byte. Every byte of every piece is looked at once after sorting.
 */
#include "text/piece_trie.h"

#include "base/buffer.h"
#include "base/error.h"

#include <stdlib.h>

/* The pieces that have a node's bytes before them. */
struct range {
    uint32_t begin;
    uint32_t end;
};

struct building {
    struct buffer nodes;  /* struct piece_trie_node */
    struct buffer labels; /* uint8_t */
    struct buffer ranges; /* struct range, of each node */
};

static int compare(const void *left, const void *right)
{
    const struct piece_trie_entry *a = left;
    const struct piece_trie_entry *b = right;
    int order = memcmp(a->text, b->text, a->n_bytes < b->n_bytes ? a->n_bytes : b->n_bytes);

    return order ? order : (a->n_bytes > b->n_bytes) - (a->n_bytes < b->n_bytes);
}

static void add_node(struct building *building, uint8_t label, struct range range)
{
    struct piece_trie_node node = {0, -1};

    buffer_add(&building->nodes, &node, sizeof node);
    buffer_add(&building->labels, &label, 1);
    buffer_add(&building->ranges, &range, sizeof range);
}

static bool has_failed(const struct building *building)
{
    return building->nodes.has_failed || building->labels.has_failed || building->ranges.has_failed;
}

/* Gives node i, whose bytes are `depth`, its piece and its children. */
static void expand(struct building *building, const struct piece_trie_entry *entries, size_t i,
                   uint32_t depth)
{
    struct range range = ((const struct range *)(const void *)building->ranges.data)[i];
    struct piece_trie_node node = {(uint32_t)building->labels.n_bytes, -1};

    while (range.begin < range.end && entries[range.begin].n_bytes == depth)
        node.id = entries[range.begin++].id;
    memcpy(building->nodes.data + i * sizeof node, &node, sizeof node);
    while (range.begin < range.end) {
        char label = entries[range.begin].text[depth];
        struct range child = {range.begin, range.begin + 1};

        while (child.end < range.end && entries[child.end].text[depth] == label)
            child.end++;
        add_node(building, (uint8_t)label, child);
        range.begin = child.end;
    }
}

kvern_status piece_trie_open(struct piece_trie *trie, struct piece_trie_entry *entries,
                             size_t n_entries, kvern_error *err)
{
    struct building building = {0};
    size_t level_end = 1;
    uint32_t depth = 0;
    kvern_status status = KVERN_OK;

    *trie = (struct piece_trie){0};
    if (n_entries > 0)
        qsort(entries, n_entries, sizeof *entries, compare);
    add_node(&building, 0, (struct range){0, (uint32_t)n_entries});
    for (size_t i = 0; !has_failed(&building) && i < building.labels.n_bytes; i++) {
        if (i == level_end) {
            level_end = building.labels.n_bytes;
            depth++;
        }
        expand(&building, entries, i, depth);
        if (building.labels.n_bytes >= UINT32_MAX) {
            status = fail(err, KVERN_LIMIT, "the vocabulary's pieces have over %u bytes",
                          (unsigned)UINT32_MAX);
            goto done;
        }
    }
    size_t n_nodes = building.labels.n_bytes;
    struct piece_trie_node last = {(uint32_t)n_nodes, -1}; /* ends the children of the last node */
    buffer_add(&building.nodes, &last, sizeof last);
    if (has_failed(&building)) {
        status = fail(err, KVERN_MEMORY, "out of memory for the pieces of the vocabulary");
        goto done;
    }
    trie->n_nodes = n_nodes;
    trie->nodes = (struct piece_trie_node *)(void *)buffer_take(&building.nodes, NULL);
    trie->labels = (uint8_t *)buffer_take(&building.labels, NULL);

done:
    buffer_clear(&building.nodes);
    buffer_clear(&building.labels);
    buffer_clear(&building.ranges);
    return status;
}

void piece_trie_close(struct piece_trie *trie)
{
    if (!trie)
        return;
    free(trie->nodes);
    free(trie->labels);
    *trie = (struct piece_trie){0};
}
