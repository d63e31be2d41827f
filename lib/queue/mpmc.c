/* SPDX-License-Identifier: MIT */
/*
 * The ring for many producers and many consumers.
 *
 * A position is a count of messages; position p is cell p mod cells at lap p / cells. Cells:
 *
 *   from -> to                    who, by which atomic    a crash leaves         the sweep
 *   EMPTY(l) -> FULL(l, x)        producer, CAS: commit   the cell names x; its  word -> QUEUED
 *                                                         word says OWNED(D)
 *   FULL(l, x) -> TAKEN(C, l, x)  consumer, CAS: take     TAKEN(D), old word     word -> LEASED(D),
 *                                                                                cell EMPTY(l+1)
 *   word of x -> LEASED(C)        consumer, release       TAKEN(D), LEASED(D)    cell EMPTY(l+1)
 *   TAKEN(C, l, x) -> EMPTY(l+1)  consumer, release       LEASED(D)              word -> RETURNED
 *   word LEASED(C) -> OWNED(C)    consumer, release       OWNED(D)               free
 *   word RETURNED -> LEASED(C)    any consumer, CAS       LEASED(D)              RETURNED again
 *
 * The consumer writes the word before it empties the cell, and the producer does not touch the word
 * at all: at each instant the cell or the word says where x belongs.
 *
 * Nothing is reserved: a producer's one CAS puts a finished message into the first empty cell, so
 * there are no holes that a dead process could leave. Positions and the shared head and tail are
 * hints. A handle whose position is behind sees it by the lap in the cell and steps on, or jumps to
 * the hint; if it steps too often the hints are spoiled, and it looks at all cells.
 *
 * A consumer that finds FULL or TAKEN of the lap before waits: that taker is still between its CAS
 * and its last store. Stepping over it would leave this cell's next message behind.
 *
 * A taker that is stopped there holds producers up one lap later, and consumers one lap later; it
 * loses nothing.
 */

#include <errno.h>

#include "base/clock.h"
#include "queue/queue.h"

#define STEPS_MOST 65536u

static void forward(const struct mp_queue *q, mp_a64 *position, uint64_t p, const mp_a64 *hint)
{
    uint64_t h = mp_load_relaxed(hint);

    /* A hint may be anything; one that is far off can only be wrong. */
    mp_store_relaxed(position, h > p && h - p < (uint64_t)q->cells * 65536 ? h : p + 1);
}

/* The hints are spoiled, or the cells are. */
static int find_again(struct mp_queue *q, uint32_t *steps)
{
    uint64_t produce, consume;

    if (++*steps < STEPS_MOST)
        return 0;
    if (*steps >= 2 * STEPS_MOST)
        return -ENOTRECOVERABLE;
    if (*steps == STEPS_MOST) {
        mp_ring_find(q, &produce, &consume);
        mp_store_relaxed(&q->produce, produce);
        mp_store_relaxed(&q->consume, consume);
    }
    return 0;
}

/* Somebody may write to the cell without end: look at the time now and then. */
static int out_of_time(uint64_t deadline_ns, uint32_t *turns)
{
    if ((++*turns & 1023) != 0 || deadline_ns == MP_FOREVER)
        return 0;
    if (deadline_ns == 0)
        return -EAGAIN;
    return mp_now_ns() >= deadline_ns ? -ETIMEDOUT : 0;
}

/* Is the message `maxsize` places before p still in its cell? The ring may have more cells than
 * the queue may hold. */
static bool over_maxsize(const struct mp_queue *q, uint64_t p, const mp_a64 **ret_cell,
                         uint64_t *ret_seen)
{
    uint64_t before = p - q->maxsize;
    uint64_t v;

    if (p < q->maxsize)
        return false;
    *ret_cell = &q->ring->cells[before & (q->cells - 1)];
    v = mp_load_acquire(*ret_cell);
    *ret_seen = v;
    return v == mp_cell_full(before >> q->shift, mp_cell_block(v));
}

/* The queue was shut down while we committed: take the message back, if nobody has it yet. */
static int withdraw(struct mp_queue *q, mp_a64 *cell, uint64_t lap, uint32_t x)
{
    struct mp_arena *a = q->arena;
    uint64_t v = mp_cell_full(lap, x);
    int r = mp_queue_phase_slow(q, false);

    if (r == 0 || !mp_cas_acqrel(cell, &v, mp_cell_taken(a->self->slot, lap, x)))
        return 0;
    mp_store_release(&a->words[x], mp_block_word(MP_BLOCK_OWNED, a->self->slot, 0, 0));
    mp_store_release(cell, mp_cell_empty(lap + 1));
    return r;
}

int mp_mpmc_put(struct mp_queue *q, uint32_t x, uint64_t deadline_ns)
{
    struct mp_ring *ring = q->ring;
    uint32_t steps = 0, turns = 0;
    int r;

    for (;;) {
        uint64_t p = mp_load_relaxed(&q->produce);
        uint64_t lap = p >> q->shift;
        mp_a64 *cell = &ring->cells[p & (q->cells - 1)];
        uint64_t v = mp_load_acquire(cell);
        const mp_a64 *full = cell;
        uint64_t seen = v;

        r = mp_queue_check(q, false);
        if (mp_likely(r == 0))
            r = out_of_time(deadline_ns, &turns);
        if (mp_unlikely(r < 0))
            return r;
        if (v == mp_cell_empty(lap)) {
            if (q->maxsize == q->cells || !over_maxsize(q, p, &full, &seen)) {
                /* Release: the message; acquire: what the last taker of the cell did. Full
                 * fence: see the wake. */
                if (!mp_cas_seqcst(cell, &v, mp_cell_full(lap, x)))
                    continue;
                mp_store_relaxed(&q->produce, p + 1);
                if ((p & 7) == 7)
                    mp_store_relaxed(&ring->tail, p + 1);
                if (mp_unlikely(mp_load_seqcst(&ring->phase) != q->phase))
                    return withdraw(q, cell, lap, x);
                break;
            }
        } else if (mp_cell_state(v) == MP_CELL_EMPTY ||
                   mp_cell_lap28(v) != ((lap - 1) & MP_LAP28_MASK)) {
            forward(q, &q->produce, p, &ring->tail);
            r = find_again(q, &steps);
            if (r < 0)
                return r;
            continue;
        }
        r = mp_ring_wait_drained(q, full, seen, deadline_ns);
        if (r < 0)
            return r;
    }
    mp_queue_wake_filled(q);
    return 0;
}

int mp_mpmc_take(struct mp_queue *q, uint64_t capacity, uint64_t deadline_ns, struct mp_taken *ret)
{
    struct mp_ring *ring = q->ring;
    struct mp_arena *a = q->arena;
    uint32_t slot = a->self->slot;
    uint32_t steps = 0, turns = 0;
    int r;

    for (;;) {
        uint64_t p, lap, v;
        mp_a64 *cell;
        uint32_t x, class;

        if (mp_unlikely(mp_load_relaxed(&ring->returned))) {
            r = mp_queue_take_returned(q, capacity, ret);
            if (r != 0)
                return r < 0 ? r : 0;
        }
        r = mp_queue_check(q, true);
        if (mp_likely(r == 0))
            r = out_of_time(deadline_ns, &turns);
        if (mp_unlikely(r < 0))
            return r;
        p = mp_load_relaxed(&q->consume);
        lap = p >> q->shift;
        cell = &ring->cells[p & (q->cells - 1)];
        v = mp_load_acquire(cell);
        x = mp_cell_block(v);
        if (v == mp_cell_full(lap, x)) {
            if (mp_unlikely(x >= a->geometry.blocks)) {
                mp_cas_acqrel(cell, &v, mp_cell_empty(lap + 1)); /* hostile */
                continue;
            }
            /* Before the take, so that a message that does not fit stays where it is. */
            ret->length = mp_queue_length(q, x, &class);
            if (mp_unlikely(ret->length > capacity) && mp_load_relaxed(cell) == v)
                return -EMSGSIZE;
            if (!mp_cas_seqcst(cell, &v, mp_cell_taken(slot, lap, x)))
                continue;
            mp_store_release(&a->words[x], mp_block_word(MP_BLOCK_LEASED, slot, 1, 0));
            mp_store_release(cell, mp_cell_empty(lap + 1));
            mp_store_relaxed(&q->consume, p + 1);
            if ((p & 7) == 7)
                mp_store_relaxed(&ring->head, p + 1);
            mp_queue_wake_drained(q);
            ret->block = x;
            ret->deliveries = 1;
            return 0;
        }
        if (v == mp_cell_empty(lap) || (mp_cell_state(v) != MP_CELL_EMPTY &&
                                        mp_cell_lap28(v) == ((lap - 1) & MP_LAP28_MASK))) {
            r = mp_ring_wait_filled(q, cell, v, deadline_ns);
        } else {
            forward(q, &q->consume, p, &ring->head);
            r = find_again(q, &steps);
        }
        if (r < 0)
            return r;
    }
}
