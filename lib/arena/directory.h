/* SPDX-License-Identifier: MIT */
#pragma once

/* The directory of objects: names, kinds, and which block an object lies in. The table of states
 * is in arena/layout.h. */

#include "arena/arena.h"

/* What people call it. */
const char *mp_kind_name(enum mp_kind kind);

/* Does its memory stay with the entry, for the next object of the kind and size? A handle to one
 * that was destroyed may still write there. */
bool mp_kind_keeps_memory(uint32_t kind);

/* What a new entry is to hold. */
struct mp_object_spec {
    const char *name; /* NULL: one is made up */
    enum mp_kind kind;
    uint32_t flags;
    uint64_t size;
    uint64_t cells;   /* queue: as in the entry */
    uint64_t value;   /* sync objects: as in the entry, at first */
    uint64_t differs; /* bits of it that begin with another number in each life of the entry */
    uint64_t memory;  /* bytes of the block it lies in; 0: none */
    /* Make the content. -EAGAIN: not in this memory. `revived`: the memory is that of a queue that
     * was destroyed; the entry still says of what kind. */
    int (*initialize)(struct mp_arena *a, struct mp_directory_entry *e, void *memory,
                      const struct mp_object_spec *spec, bool revived);
    void **ret_memory; /* block: where it lies */
};

/* Make an object. 0, its directory index and the state word that says it lives; -ENAMETOOLONG,
 * -EEXIST, -ENOBUFS, -EUSERS. */
int mp_directory_create(struct mp_arena *a, const struct mp_object_spec *spec, uint32_t *ret_index,
                        uint64_t *ret_live);

/* Find one by name and kind. 0; -ENOENT, -ENAMETOOLONG. */
int mp_directory_open(struct mp_arena *a, const char *name, enum mp_kind kind, uint32_t *ret_index,
                      uint64_t *ret_live);

/* End it: from DYING on it is ours alone, and `drain` (may be NULL) empties it. 0; -ESTALE. */
int mp_directory_destroy(struct mp_arena *a, uint32_t index, uint64_t live, void (*drain)(void *),
                         void *user);

/* The block of an entry, checked. UINT32_MAX: none, or nonsense. */
uint32_t mp_directory_block(const struct mp_arena *a, const struct mp_directory_entry *e);

/* For the sweep: wake everybody who may be asleep on it. */
void mp_directory_wake(struct mp_arena *a, struct mp_directory_entry *e);

/* The same if it has what they wait for: a lock that is free, a message. */
void mp_directory_wake_ready(struct mp_arena *a, uint32_t index);

/* The memory of an object, checked against its block. NULL: it has none, or less, or nonsense. */
void *mp_directory_memory(const struct mp_arena *a, const struct mp_directory_entry *e,
                          uint64_t size);

/* The share of a slot in a sync object, checked against its block. NULL: nonsense. */
mp_a64 *mp_directory_share(const struct mp_arena *a, const struct mp_directory_entry *e,
                           uint32_t slot);

/* The same with a stride that the handle knows: the entry's may change under us. */
mp_a64 *mp_directory_share_at(const struct mp_arena *a, const struct mp_directory_entry *e,
                              uint32_t slot, uint64_t stride);

/* The half of `value` that is slept on. */
static inline mp_a32 *mp_directory_futex(struct mp_directory_entry *e)
{
    return (mp_a32 *)(void *)&e->value; /* little-endian: the low one */
}

/* The ring of a queue, with its number of cells checked against the block. NULL: nonsense. */
struct mp_ring *mp_directory_ring(const struct mp_arena *a, const struct mp_directory_entry *e,
                                  uint32_t *ret_cells);
