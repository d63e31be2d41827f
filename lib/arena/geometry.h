/* SPDX-License-Identifier: MIT */
#pragma once

/* The sizes, counts and offsets of an arena: computed from three numbers, believed over anything in
 * shared memory. */

#include "arena/layout.h"

struct mp_class {
    uint64_t block_size;
    uint64_t offset; /* of its blocks in the arena */
    uint64_t origin; /* where block 0 would lie if it were of this class */
    uint32_t first;  /* number of its first block */
    uint32_t blocks;
    uint32_t batch; /* blocks that travel together: 1 to MP_CRATE_SIZE */
    uint32_t first_crate;
    uint32_t crates;
    uint32_t first_extent;
    uint32_t extents;
    uint32_t extent_blocks; /* blocks in an extent, a power of two */
    uint32_t extent_shift;  /* its logarithm */
};

struct mp_geometry {
    uint64_t size;
    uint64_t total;
    uint32_t participants;
    uint32_t objects;
    uint32_t n_classes;
    uint32_t blocks;
    uint32_t crates;
    uint32_t extents;
    uint64_t slots_offset;
    uint64_t waits_offset;
    uint64_t directory_offset;
    uint64_t extents_offset;
    uint64_t crate_words_offset;
    uint64_t crates_offset;
    uint64_t words_offset;
    uint64_t meta_offset;
    uint64_t blocks_offset;
    struct mp_class classes[MP_CLASSES_MAX];
};

/* 0, or -EINVAL for numbers that are out of range. */
int mp_geometry_compute(uint64_t size, uint32_t participants, uint32_t objects,
                        struct mp_geometry *ret);

/* A number that differs whenever a layout does. */
uint32_t mp_geometry_fingerprint(void);

/* The class for a message of this many bytes; n_classes when there is none. */
static inline uint32_t mp_geometry_class(const struct mp_geometry *g, uint64_t size)
{
    uint32_t c;

    if (size <= MP_BLOCK_MIN)
        return 0;
    c = 58u - (uint32_t)__builtin_clzll(size - 1); /* 65..128 -> 1 */
    return c < g->n_classes ? c : g->n_classes;
}

/* Where block x of a class lies in the arena; x was checked. */
static inline uint64_t mp_geometry_offset(const struct mp_geometry *g, uint32_t class, uint32_t x)
{
    return g->classes[class].origin + ((uint64_t)x << (6 + class));
}

/* The class of a block number that was checked to be below g->blocks. */
static inline uint32_t mp_geometry_block_class(const struct mp_geometry *g, uint32_t x)
{
    uint32_t c = 0;

    while (c + 1 < g->n_classes && x >= g->classes[c + 1].first)
        c++;
    return c;
}
