/* SPDX-License-Identifier: MIT */
/*
 * Geometry of an arena.
 *
 * Each class of block sizes has address space of its own for the whole size of the arena, so any
 * class can use all of the memory and nothing ever moves; the memfd is sparse, so what is not used
 * costs nothing. What bounds the use is the sum over the extents that are backed (arena/extent.c).
 * Small arenas get small extents and batches, so that what one thread keeps in its magazine is a
 * small part of them.
 */

#include <errno.h>
#include <string.h>

#include "arena/geometry.h"
#include "base/macro.h"

#define SIZE_MIN_BYTES (UINT64_C(64) << 10)
#define SIZE_MAX_BYTES (UINT64_C(1) << 40)
#define OBJECTS_MAX 65536u

static uint64_t floor_power(uint64_t n)
{
    return UINT64_C(1) << (63 - __builtin_clzll(n));
}

static uint32_t batch_of(uint64_t block_size, uint32_t blocks)
{
    uint32_t most = block_size <= 1024   ? MP_CRATE_SIZE
                    : block_size <= 4096 ? 8
                    : block_size < 65536 ? 2
                                         : 1;
    uint32_t fair = mp_max(blocks / 64, 1u);

    return mp_min(most, fair);
}

static uint64_t place(uint64_t *total, uint64_t bytes)
{
    uint64_t at = *total;

    *total = MP_ALIGN_UP(at + bytes, UINT64_C(4096));
    return at;
}

static void place_class(struct mp_class *k, uint32_t c, uint64_t *at)
{
    k->offset = place(at, k->block_size * k->blocks);
    k->origin = k->offset - ((uint64_t)k->first << (6 + c));
}

static void compute_class(struct mp_geometry *g, uint32_t c)
{
    struct mp_class *k = &g->classes[c];
    uint64_t extent = mp_max(floor_power(g->size / 512), (uint64_t)MP_BLOCK_MIN);
    uint64_t extents;

    k->block_size = (uint64_t)MP_BLOCK_MIN << c;
    extent = mp_max(extent, k->block_size);
    extent = mp_min(extent, k->block_size * MP_CLASS_BLOCKS_MAX);
    k->extent_blocks = (uint32_t)(extent / k->block_size);
    k->extent_shift = (uint32_t)__builtin_ctz(k->extent_blocks);
    extents = mp_min(g->size / extent, (uint64_t)MP_CLASS_BLOCKS_MAX / k->extent_blocks);
    k->extents = (uint32_t)extents;
    k->blocks = k->extents * k->extent_blocks;
    k->first = g->blocks;
    k->first_extent = g->extents;
    k->batch = batch_of(k->block_size, k->blocks);
    /* A crate that is not empty has at least one block, so one of so many is always empty. */
    k->crates = k->blocks + 1;
    k->first_crate = g->crates;
    g->blocks += k->blocks;
    g->extents += k->extents;
    g->crates += k->crates;
}

int mp_geometry_compute(uint64_t size, uint32_t participants, uint32_t objects,
                        struct mp_geometry *ret)
{
    struct mp_geometry g = {.participants = participants, .objects = objects};
    uint64_t at = 0;

    if (size < SIZE_MIN_BYTES || size > SIZE_MAX_BYTES || participants < 1 ||
        participants > MP_PARTICIPANTS_MAX || objects < 1 || objects > OBJECTS_MAX)
        return -EINVAL;
    g.size = MP_ALIGN_UP(size, UINT64_C(4096));
    while (g.n_classes == 0 || g.classes[g.n_classes - 1].block_size < g.size / 2)
        compute_class(&g, g.n_classes++);

    place(&at, sizeof(struct mp_header));
    g.slots_offset = place(&at, sizeof(struct mp_slot) * participants);
    g.waits_offset =
        place(&at, sizeof(struct mp_wait_record) * participants * MP_WAIT_RECORDS_PER_SLOT);
    g.directory_offset = place(&at, sizeof(struct mp_directory_entry) * objects);
    g.extents_offset = place(&at, sizeof(mp_a32) * g.extents);
    g.crate_words_offset = place(&at, sizeof(mp_a64) * g.crates);
    g.crates_offset = place(&at, sizeof(struct mp_crate) * g.crates);
    g.words_offset = place(&at, sizeof(mp_a64) * g.blocks);
    g.meta_offset = place(&at, sizeof(mp_a64) * g.blocks);
    g.blocks_offset = at;
    for (uint32_t c = 0; c < g.n_classes; c++)
        place_class(&g.classes[c], c, &at);
    g.total = at;
    *ret = g;
    return 0;
}

uint32_t mp_geometry_fingerprint(void)
{
    struct mp_geometry sample = {0};
    int r = mp_geometry_compute(UINT64_C(3) << 20, 7, 11, &sample);
    const uint64_t facts[] = {
        (uint64_t)r,
        sample.total, /* and with it how many there are of everything */
        sample.words_offset,
        sample.crates,
        sample.extents,
        sizeof(struct mp_header),
        offsetof(struct mp_header, deaths),
        offsetof(struct mp_header, high),
        offsetof(struct mp_header, recovery),
        offsetof(struct mp_header, classes),
        sizeof(struct mp_class_control),
        offsetof(struct mp_header, freed),
        sizeof(struct mp_slot),
        offsetof(struct mp_slot, id),
        offsetof(struct mp_slot, poke),
        offsetof(struct mp_slot, name),
        sizeof(struct mp_wait_record),
        MP_WAIT_RECORDS_PER_SLOT,
        sizeof(struct mp_directory_entry),
        offsetof(struct mp_directory_entry, word),
        offsetof(struct mp_directory_entry, block),
        offsetof(struct mp_directory_entry, cells),
        offsetof(struct mp_directory_entry, name),
        sizeof(struct mp_crate),
        MP_CRATE_SIZE,
        sizeof(struct mp_ring),
        offsetof(struct mp_ring, head),
        offsetof(struct mp_ring, filled),
        offsetof(struct mp_ring, drained),
        offsetof(struct mp_ring, producer),
        offsetof(struct mp_ring, joined),
        MP_CLASS_BLOCKS_MAX,
        (uint64_t)__BYTE_ORDER__,
    };
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a over the bytes */
    const unsigned char *p = (const unsigned char *)facts;

    for (size_t i = 0; i < sizeof facts; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(h ^ h >> 32);
}
