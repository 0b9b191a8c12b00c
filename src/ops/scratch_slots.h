/* SPDX-License-Identifier: Apache-2.0
 *
 * Equal pieces of one scratch buffer, which the units of a parallel loop take and give back: a
 * thread that runs several units one after the other meets the same warm memory.
 */
#ifndef KVERN_OPS_SCRATCH_SLOTS_H
#define KVERN_OPS_SCRATCH_SLOTS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_SCRATCH_SLOTS = 64 }; /* more than threads */

struct scratch_slots {
    char *memory; /* [n_slots, slot_bytes]; the owner sets it after asking for the size */
    size_t n_slots;
    size_t slot_bytes;
    _Atomic uint64_t used; /* one bit a slot */
};

static inline void scratch_slots_init(struct scratch_slots *slots, size_t n_units, size_t n_bytes)
{
    slots->n_slots = n_units < MAX_SCRATCH_SLOTS ? n_units : MAX_SCRATCH_SLOTS;
    slots->slot_bytes = (n_bytes + 63) / 64 * 64;
    atomic_init(&slots->used, 0);
}

static inline size_t scratch_slots_bytes(const struct scratch_slots *slots)
{
    return slots->n_slots * slots->slot_bytes;
}

/* Takes a free slot; there are more slots than threads, so the loop ends at once. */
static inline unsigned scratch_slots_take(struct scratch_slots *slots)
{
    uint64_t used = atomic_load(&slots->used);

    for (;;) {
        if (used == UINT64_MAX) {
            used = atomic_load(&slots->used);
            continue;
        }
        unsigned slot = (unsigned)__builtin_ctzll(~used);
        if (atomic_compare_exchange_weak(&slots->used, &used, used | (uint64_t)1 << slot))
            return slot;
    }
}

static inline void *scratch_slots_memory(const struct scratch_slots *slots, unsigned slot)
{
    return slots->memory + slot * slots->slot_bytes;
}

static inline void scratch_slots_give(struct scratch_slots *slots, unsigned slot)
{
    atomic_fetch_and(&slots->used, ~((uint64_t)1 << slot));
}

#endif
