/* SPDX-License-Identifier: MIT */
#pragma once

/* The short ways through a ring with one producer and one consumer: what happens to most messages.
 * The protocol stands in spsc.c. */

#include "base/mutation.h"
#include "queue/queue.h"

/* Is there room, and nothing out of the ordinary? Then the message is in. */
static MP_INLINE bool mp_spsc_put_fast(struct mp_queue *q, uint32_t x)
{
    struct mp_ring *ring = q->ring;
    uint64_t p = mp_load_relaxed(&q->produce);

    if (mp_unlikely(p - mp_load_relaxed(&q->head_seen) >= q->maxsize ||
                    mp_load_relaxed(&ring->phase) != q->phase))
        return false;
    /* Release: the message. Pairs with the acquire in the take. */
    mp_store_release(&ring->cells[p & (q->cells - 1)], mp_cell_full(p >> q->shift, x));
    mp_store_relaxed(&q->produce, p + 1);
    mp_queue_wake_filled(q);
    return true;
}

/* Is this the thread that takes? What it has released and not published yet is its own; any other
 * thread that releases publishes by itself. */
static MP_INLINE bool mp_spsc_is_taker(const struct mp_queue *q)
{
    return mp_load_relaxed(&q->consumer_thread) == (const void *)&mp_block_turn;
}

/* Is a message there, not too long, and nothing out of the ordinary? Then it is ours. */
static MP_INLINE bool mp_spsc_take_fast(struct mp_queue *q, uint64_t capacity, struct mp_taken *ret)
{
    struct mp_ring *ring = q->ring;
    uint64_t p = mp_load_relaxed(&q->consume);
    uint64_t v = mp_load_acquire(&ring->cells[p & (q->cells - 1)]);
    uint32_t x = mp_cell_block(v);

    if (mp_unlikely(!mp_cell_is_full(v, p >> q->shift) || x >= q->arena->geometry.blocks ||
                    mp_load_relaxed(&ring->phase) != q->phase || mp_ring_has_returned(ring) ||
                    !mp_spsc_is_taker(q)))
        return false;
    ret->length = mp_queue_length(q, x, &ret->class);
    if (mp_unlikely(ret->length > capacity))
        return false;
    mp_store_release(&q->words[x],
                     mp_block_word(MP_BLOCK_LEASED, q->self->slot, 1,
                                   mp_mutation(LEASE_UNTAGGED) ? 0 : mp_position_tag(p)));
    mp_store_relaxed(&q->consume, p + 1);
    ret->block = x;
    ret->deliveries = 1;
    return true;
}

/* spsc: let the producer and everybody else have what was taken and released so far. */
void mp_spsc_publish(struct mp_queue *q);

/* The same for a message that was taken by another thread of this process, or by another handle:
 * whatever was taken so far, released or not. */
void mp_spsc_publish_aside(struct mp_queue *q);

/* Give the block of a released message back, which is done by the thread that takes. False: it is
 * one that was delivered again, so its position is published. */
static MP_INLINE bool mp_spsc_release_fast(struct mp_queue *q, uint32_t x)
{
    uint32_t tag = mp_block_seq(mp_load_relaxed(&q->words[x]));

    if (mp_unlikely(tag == 0))
        return false;
    mp_store_release(&q->words[x], mp_block_word(MP_BLOCK_OWNED, q->self->slot, 0, tag));
    q->pending[q->n_pending++] = x;
    if (mp_unlikely(mp_load_relaxed(&q->consume) - mp_load_relaxed(&q->head_published) >=
                        q->quarter ||
                    q->n_pending >= q->quarter || (mp_load_relaxed(&q->arena->header->freed) & 1)))
        mp_spsc_publish(q);
    return true;
}
