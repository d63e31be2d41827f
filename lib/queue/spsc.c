/* SPDX-License-Identifier: MIT */
/*
 * The ring for one producer and one consumer, as declared at creation: plain stores only.
 *
 * Who has a role is one token in the ring, taken by a CAS at first use; a dead one's is taken over.
 *
 *   what                          by which store           a crash leaves      the sweep
 *   cell -> FULL(l, x)            producer, release        FULL, OWNED(D)      word -> QUEUED
 *   word -> LEASED(C, tag of p)   consumer, release: take  head behind         head -> p+1, word
 *                                                                              -> RETURNED
 *   word -> OWNED(C, tag of p)    consumer, release        head behind         head -> p+1, free
 *   head -> positions taken       consumer, release        nothing
 *
 * The consumer clears nothing and names itself only in the block's word; the position in it tells
 * "taken at p" from "our own, on its way into this ring", where one process is both ends. It
 * publishes its head every quarter of the ring and before it waits: index traffic, and waking the
 * producer for each message, are the cost of small messages. A producer that finds the ring full
 * looks at the words as the sweep would, and again every 10 ms, since a consumer that is busy with
 * a message for long has not published what it took before.
 *
 * A block must not leave the consumer's hands while the published head still covers its cell: a
 * sweep would take the message for undelivered, and its block would be somebody else's. So released
 * blocks wait in a private list until the head is published. The list is the taking thread's: where
 * another thread of its process releases a message, or by another handle, the head is published
 * first, as by a producer that finds the ring full.
 */

#include <errno.h>

#include "queue/spsc.h"

/* How far a head may be behind: what the consumer has taken is told by the words. */
static uint64_t true_head(const struct mp_queue *q, uint64_t head, uint64_t end)
{
    const struct mp_arena *a = q->arena;
    uint32_t consumer = mp_load_acquire(&q->ring->consumer);

    while (head < end) {
        uint64_t v = mp_load_acquire(&q->ring->cells[head & (q->cells - 1)]);
        uint32_t x = mp_cell_block(v);
        uint64_t w;

        if (x >= a->geometry.blocks || !mp_cell_is_full(v, head >> q->shift))
            break;
        w = mp_load_acquire(&a->words[x]);
        if ((mp_block_state(w) != MP_BLOCK_LEASED && mp_block_state(w) != MP_BLOCK_OWNED) ||
            mp_block_slot(w) != mp_token_slot(consumer) || mp_block_seq(w) != mp_position_tag(head))
            break;
        head++;
    }
    return head;
}

static MP_NOINLINE int wait_for_room(struct mp_queue *q, uint64_t p, uint64_t deadline_ns)
{
    uint32_t turns = 0;

    for (;;) {
        uint64_t head = mp_load_acquire(&q->ring->head);
        uint64_t seen = head;
        int r = mp_queue_out_of_time(deadline_ns, &turns);

        if (r < 0)
            return r;

        if (head > p || p - head > q->cells)
            return -ENOTRECOVERABLE; /* hostile: no head of ours */
        if (p - head >= q->maxsize) {
            head = true_head(q, head, mp_load_relaxed(&q->produce));
            /* Published before a cell is used again that the old head still covers. The consumer
             * only ever stores more. */
            if (head != seen && !mp_cas_acqrel(&q->ring->head, &seen, head))
                continue;
            seen = head;
        }
        mp_store_relaxed(&q->head_seen, head);
        if (p - head < q->maxsize)
            return 0;
        r = mp_ring_wait_drained(q, &q->ring->head, seen, deadline_ns);
        if (r < 0)
            return r;
    }
}

int mp_spsc_put(struct mp_queue *q, uint32_t x, uint64_t deadline_ns)
{
    uint64_t p = mp_load_relaxed(&q->produce);
    int r;

    for (;;) {
        if (mp_spsc_put_fast(q, x))
            return 0;
        r = mp_queue_check(q, false);
        if (r == 0)
            r = wait_for_room(q, p, deadline_ns);
        if (r < 0)
            return r;
    }
}

static void give_pending(struct mp_queue *q)
{
    struct mp_arena *a = q->arena;
    int r = 0;
    struct mp_thread *t = mp_thread_get(a, &r);

    while (q->n_pending) {
        uint32_t x = q->pending[--q->n_pending];

        /* Without its tag, which would say "taken" of that position of another ring. */
        mp_store_relaxed(&q->words[x], mp_block_owned(a));
        if (mp_likely(t))
            mp_block_give(a, t, mp_geometry_block_class(&a->geometry, x), x);
        else
            mp_block_give_anyhow(a, x);
    }
}

MP_NOINLINE void mp_spsc_publish(struct mp_queue *q)
{
    uint64_t p = mp_load_relaxed(&q->consume);

    if (mp_mutation(PUBLISH_AFTER_GIVING))
        give_pending(q);
    if (mp_load_relaxed(&q->head_published) != p) {
        mp_store_release(&q->ring->head, p);
        mp_store_relaxed(&q->head_published, p);
        mp_queue_wake_drained(q);
    }
    give_pending(q);
}

/* As a producer does it that needs room: the taker only ever stores more. */
void mp_spsc_publish_aside(struct mp_queue *q)
{
    uint64_t head = mp_load_acquire(&q->ring->head);
    uint64_t seen = head;

    head = true_head(q, head, head + q->cells);
    /* Somebody else was at it: he may have looked before we had the message. */
    while (head != seen && !mp_cas_acqrel(&q->ring->head, &seen, head) && seen < head) {
    }
    mp_queue_wake_drained(q);
}

int mp_spsc_take(struct mp_queue *q, uint64_t capacity, uint64_t deadline_ns, struct mp_taken *ret)
{
    struct mp_ring *ring = q->ring;
    uint32_t turns = 0;
    int r;

    mp_store_relaxed(&q->consumer_thread, &mp_block_turn);
    for (;;) {
        uint64_t p = mp_load_relaxed(&q->consume);
        mp_a64 *cell = &ring->cells[p & (q->cells - 1)];
        uint64_t v;
        uint32_t x;

        r = mp_queue_check(q, true);
        if (mp_unlikely(r < 0))
            return r;
        if (mp_unlikely(mp_ring_has_returned(ring))) {
            r = mp_queue_take_returned(q, capacity, ret);
            if (r != 0)
                return r < 0 ? r : 0;
        }
        v = mp_load_acquire(cell); /* pairs with the release in mp_spsc_put_fast */
        x = mp_cell_block(v);
        if (mp_cell_is_full(v, p >> q->shift)) {
            if (mp_unlikely(x >= q->arena->geometry.blocks)) {
                mp_store_relaxed(&q->consume, p + 1); /* hostile */
                r = mp_queue_out_of_time(deadline_ns, &turns);
                if (r < 0)
                    return r;
                continue;
            }
            ret->length = mp_queue_length(q, x, &ret->class);
            if (ret->length > capacity)
                return -EMSGSIZE;
            mp_store_release(&q->words[x],
                             mp_block_word(MP_BLOCK_LEASED, q->self->slot, 1, mp_position_tag(p)));
            mp_store_relaxed(&q->consume, p + 1);
            ret->block = x;
            ret->deliveries = 1;
            return 0;
        }
        if (mp_load_relaxed(&q->head_published) != p || q->n_pending)
            mp_spsc_publish(q);
        r = mp_ring_wait_filled(q, cell, v, deadline_ns);
        if (r < 0)
            return r;
    }
}
