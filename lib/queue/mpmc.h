/* SPDX-License-Identifier: MIT */
#pragma once

/* The short ways through a ring with many producers and consumers: one CAS, no wait, nothing out of
 * the ordinary. The protocol stands in mpmc.c. */

#include "base/mutation.h"
#include "queue/queue.h"

/* A cell that we have taken from whoever committed: its block becomes OWNED by us. */
void mp_mpmc_take_back(struct mp_arena *a, mp_a64 *cell, uint64_t lap, uint32_t x);

int mp_mpmc_withdraw(struct mp_queue *q, uint64_t position, uint32_t x);

static MP_INLINE void mp_mpmc_put_done(struct mp_queue *q, uint64_t p)
{
    mp_store_relaxed(&q->produce, p + 1);
    if ((p & 7) == 7)
        mp_store_relaxed(&q->ring->tail, p + 1);
    mp_queue_wake_filled(q);
}

/* 1: the message is in; 0: it is not; -EPIPE, -ESTALE: the queue ended meanwhile. */
static MP_INLINE int mp_mpmc_put_fast(struct mp_queue *q, uint32_t x)
{
    struct mp_ring *ring = q->ring;
    uint64_t p = mp_load_relaxed(&q->produce);
    uint64_t lap = p >> q->shift;
    mp_a64 *cell = &ring->cells[p & (q->cells - 1)];
    uint64_t v = mp_cell_empty(lap);

    if (mp_unlikely(q->maxsize != q->cells || mp_load_relaxed(&ring->phase) != q->phase))
        return 0;
    /* Release: the message; acquire: what the last taker of the cell did. Full fence: see the
     * wake. */
    if (mp_unlikely(mp_load_relaxed(cell) != v || !mp_cas_seqcst(cell, &v, mp_cell_full(lap, x))))
        return 0;
    if (mp_unlikely(mp_load_seqcst(&ring->phase) != q->phase)) {
        int r = mp_mpmc_withdraw(q, p, x);

        if (r < 0)
            return r;
    }
    mp_mpmc_put_done(q, p);
    return 1;
}

/* Make the message in cell v at position p ours: 1, or 0 if somebody else did. */
static MP_INLINE int mp_mpmc_take_cell(struct mp_queue *q, uint64_t p, uint64_t v,
                                       struct mp_taken *ret)
{
    uint64_t lap = p >> q->shift;
    mp_a64 *cell = &q->ring->cells[p & (q->cells - 1)];
    uint32_t x = mp_cell_block(v);
    uint32_t slot = q->self->slot;
    uint64_t taken = mp_cell_taken(mp_mutation(TAKE_NAMELESS) ? 0x3ff : slot, lap, x);

    if (mp_unlikely(!mp_cas_seqcst(cell, &v, taken)))
        return 0;
    if (mp_mutation(TAKE_CELL_FIRST))
        mp_store_release(cell, mp_cell_empty(lap + 1));
    /* The word first, then the cell: unless somebody has helped us meanwhile. */
    mp_store_release(&q->words[x], mp_block_word(MP_BLOCK_LEASED, slot, 1, 0));
    if (mp_mutation(TAKE_STORES))
        mp_store_release(cell, mp_cell_empty(lap + 1));
    else
        mp_cas_acqrel(cell, &taken, mp_cell_empty(lap + 1));
    mp_store_relaxed(&q->consume, p + 1);
    if ((p & 7) == 7)
        mp_store_relaxed(&q->ring->head, p + 1);
    if ((p & (q->quarter - 1)) == 0)
        mp_queue_wake_drained(q);
    ret->block = x;
    ret->deliveries = 1;
    return 1;
}

static MP_INLINE bool mp_mpmc_take_fast(struct mp_queue *q, uint64_t capacity, struct mp_taken *ret)
{
    struct mp_ring *ring = q->ring;
    uint64_t p = mp_load_relaxed(&q->consume);
    uint64_t v = mp_load_acquire(&ring->cells[p & (q->cells - 1)]);
    uint32_t x = mp_cell_block(v);

    if (mp_unlikely(!mp_cell_is_full(v, p >> q->shift) || x >= q->arena->geometry.blocks ||
                    mp_load_relaxed(&ring->phase) != q->phase || mp_ring_has_returned(ring)))
        return false;
    ret->length = mp_queue_length(q, x, &ret->class);
    return mp_likely(ret->length <= capacity) && mp_mpmc_take_cell(q, p, v, ret);
}
