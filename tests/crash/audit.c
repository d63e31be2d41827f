/* SPDX-License-Identifier: MIT */
/*
 * An arena at rest: every block in exactly one place.
 *
 * The places: a full crate, the tracer's own magazine, a cell, a directory entry, or the word
 * itself (a message to be delivered again). What the tracer holds is told by point.held.
 */

#include <stdlib.h>

#include "arena/block.h"
#include "arena/directory.h"
#include "base/cleanup.h"
#include "crash/crash.h"

struct audit {
    struct point *p;
    struct mp_arena *a;
    uint8_t *places; /* of each block */
};

static void found(struct audit *u, uint32_t x, const char *where)
{
    if (x >= u->a->geometry.blocks)
        crash_fail(u->p, "%s names block %u, which is none", where, x);
    else if (u->places[x]++)
        crash_fail(u->p, "block %u is in two places, one of them: %s", x, where);
}

static void audit_crates(struct audit *u)
{
    const struct mp_geometry *g = &u->a->geometry;

    for (uint32_t i = 0; i < g->crates; i++) {
        uint64_t w = mp_load_seqcst(&u->a->crate_words[i]);

        if (mp_crate_state(w) == MP_CRATE_FILL || mp_crate_state(w) == MP_CRATE_DRAIN)
            crash_fail(u->p, "crate %u is in the hands of %u", i, mp_crate_slot(w));
        if (mp_crate_state(w) == MP_CRATE_FULL)
            for (uint32_t b = 0; b < mp_crate_count(w); b++)
                found(u, u->a->crates[i].blocks[b], "a crate");
    }
}

static void audit_magazines(struct audit *u)
{
    for (struct mp_thread *t = mp_thread_current; t; t = t->next)
        for (uint32_t c = 0; t->arena == u->a && c < u->a->geometry.n_classes; c++)
            for (uint32_t i = 0; i < t->magazines[c].n; i++)
                found(u, t->magazines[c].blocks[i], "the magazine");
}

static void audit_ring(struct audit *u, const struct mp_directory_entry *e, bool lives)
{
    bool spsc = mp_load_relaxed(&e->flags) & MP_QUEUE_SINGLE_PRODUCER;
    uint32_t cells;
    struct mp_ring *ring = mp_directory_ring(u->a, e, &cells);

    if (!ring) {
        crash_fail(u->p, "an entry has no ring");
        return;
    }
    for (uint64_t i = 0; i < cells; i++) {
        uint64_t position = mp_load_seqcst(&ring->head) + i;
        uint64_t v = mp_load_seqcst(&ring->cells[spsc ? position & (cells - 1) : i]);

        if (mp_cell_state(v) == MP_CELL_TAKEN)
            crash_fail(u->p, "a cell is in the hands of %u", mp_cell_slot(v));
        /* The cells of a single consumer keep what was taken: only those from head on count. */
        if (spsc && v != mp_cell_full(position / cells, mp_cell_block(v)))
            break;
        if (mp_cell_state(v) == MP_CELL_FULL) {
            found(u, mp_cell_block(v), "a cell");
            if (!lives)
                crash_fail(u->p, "a message is left in a queue that was destroyed");
        }
    }
}

static void audit_directory(struct audit *u)
{
    for (uint32_t i = 0; i < mp_arena_objects_high(u->a); i++) {
        const struct mp_directory_entry *e = &u->a->directory[i];
        struct mp_entry_word w = mp_entry_unpack(mp_load_seqcst(&e->state));
        uint32_t x = mp_directory_block(u->a, e);

        if (w.state != MP_ENTRY_FREE && w.state != MP_ENTRY_DORMANT && w.state != MP_ENTRY_LIVE)
            crash_fail(u->p, "entry %u is in state %u of %u", i, w.state, w.slot);
        if (w.state == MP_ENTRY_FREE && x != UINT32_MAX)
            crash_fail(u->p, "entry %u is free and has block %u", i, x);
        if (w.state == MP_ENTRY_FREE)
            continue;
        if (x != UINT32_MAX)
            found(u, x, "the directory");
        if (w.kind == MP_KIND_QUEUE)
            audit_ring(u, e, w.state == MP_ENTRY_LIVE);
    }
}

static bool names_the_dead(const struct audit *u, uint64_t w)
{
    uint32_t state = mp_block_state(w);

    return (state == MP_BLOCK_OWNED || state == MP_BLOCK_ALLOCATED || state == MP_BLOCK_LEASED) &&
           mp_block_slot(w) != u->a->self->slot;
}

static void audit_blocks(struct audit *u)
{
    const struct mp_geometry *g = &u->a->geometry;
    unsigned homeless = 0;

    for (uint32_t c = 0; c < g->n_classes; c++)
        for (uint32_t b = 0; b < g->classes[c].blocks; b++) {
            uint32_t x = g->classes[c].first + b;
            uint64_t w = mp_load_seqcst(&u->a->words[x]);

            if (!mp_block_is_backed(u->a, &g->classes[c], x)) {
                if (u->places[x])
                    crash_fail(u->p, "block %u has no memory and is used", x);
                continue;
            }
            if (mp_block_state(w) == MP_BLOCK_RETURNED)
                found(u, x, "its word");
            if (names_the_dead(u, w))
                crash_fail(u->p, "the word of block %u names %u: %#llx", x, mp_block_slot(w),
                           (unsigned long long)w);
            homeless += u->places[x] == 0;
        }
    if (homeless != u->p->held)
        crash_fail(u->p, "%u blocks are lost, %u in the hands of the survivor", homeless,
                   u->p->held);
}

static void audit_extents(struct audit *u)
{
    for (uint32_t e = 0; e < u->a->geometry.extents; e++) {
        uint32_t w = mp_load_seqcst(&u->a->extents[e]);

        if ((w & 3) != MP_EXTENT_UNBACKED && (w & 3) != MP_EXTENT_BACKED)
            crash_fail(u->p, "extent %u is in the hands of %u", e, w >> 4);
    }
    if (mp_extent_sum(u->a) > u->a->geometry.size)
        crash_fail(u->p, "more memory is in use than there is");
}

void audit_arena(struct point *p)
{
    _cleanup_free_ uint8_t *places = calloc(p->arena->geometry.blocks, 1);
    struct audit u = {.p = p, .a = p->arena, .places = places};

    if (!places)
        crash_abort(p, "no memory");
    audit_crates(&u);
    audit_magazines(&u);
    audit_directory(&u);
    audit_extents(&u);
    audit_blocks(&u);
}
