/* SPDX-License-Identifier: Apache-2.0
 *
 * The pieces of a vocabulary as a trie over bytes: from one place of a text, all pieces that begin
 * there are met in one walk, shortest first. Built once, read-only then. Its size is linear in the
 * pieces' bytes whatever they are; which pieces belong in it is the caller's matter.
 */
#ifndef KVERN_TEXT_PIECE_TRIE_H
#define KVERN_TEXT_PIECE_TRIE_H

#include "kvern.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Nodes stand level by level, so that a node's children end where those of the next node begin. */
struct piece_trie_node {
    uint32_t first_child;
    int32_t id; /* of the piece that ends here; -1: none */
};

struct piece_trie {
    struct piece_trie_node *nodes; /* [n_nodes + 1], node 0 is the root */
    uint8_t *labels;               /* [n_nodes]: the byte that leads to a node */
    size_t n_nodes;
};

struct piece_trie_entry {
    const char *text; /* [n_bytes], borrowed while building */
    uint32_t n_bytes;
    int32_t id; /* >= 0 */
};

/* The entries are put in order. Of equal texts one is met, an empty one never. */
kvern_status piece_trie_open(struct piece_trie *trie, struct piece_trie_entry *entries,
                             size_t n_entries, kvern_error *err);
void piece_trie_close(struct piece_trie *trie);

/* The node that `byte` leads to from `node`; 0: none. */
static inline uint32_t piece_trie_step(const struct piece_trie *trie, uint32_t node, char byte)
{
    uint32_t first = trie->nodes[node].first_child;
    uint32_t n = trie->nodes[node + 1].first_child - first;
    const uint8_t *hit;

    if (n == 0)
        return 0;
    if (n == 1)
        return trie->labels[first] == (uint8_t)byte ? first : 0;
    hit = memchr(trie->labels + first, (uint8_t)byte, n);
    return hit ? (uint32_t)(hit - trie->labels) : 0;
}

#endif
