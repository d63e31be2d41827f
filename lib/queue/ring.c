/* SPDX-License-Identifier: MIT */
/*
 * Waiting at a ring, finding one's place in it, and what a dead consumer left.
 *
 * The last look before a sleep is at the very cell that would be taken: there are no holes, so the
 * first message after an empty look lands there, whoever commits it.
 */

#include <errno.h>

#include "base/clock.h"
#include "kernel/cpu.h"
#include "queue/queue.h"

#define OFTEN 16u /* messages between two sleeps */

int mp_queue_phase_slow(const struct mp_queue *q, bool consuming)
{
    uint32_t phase = mp_load_seqcst(&q->ring->phase);

    if (phase >> 2 != q->phase >> 2 || (phase & 3) == MP_PHASE_DESTROYED)
        return -ESTALE;
    if ((phase & 3) == MP_PHASE_OPEN || ((phase & 3) == MP_PHASE_SHUT && consuming))
        return 0;
    return -EPIPE;
}

MP_NOINLINE void mp_queue_wake_filled_slow(struct mp_queue *q)
{
    mp_store_relaxed(&q->ring->producer_cpu, mp_cpu_current() + 1);
    mp_sleep_wake_slow(&q->ring->filled);
}

MP_NOINLINE void mp_queue_wake_drained_slow(struct mp_queue *q)
{
    mp_store_relaxed(&q->ring->consumer_cpu, mp_cpu_current() + 1);
    mp_sleep_wake_all(&q->ring->drained); /* there is room for many */
}

MP_NOINLINE int mp_queue_out_of_time_slow(uint64_t deadline_ns)
{
    if (deadline_ns == MP_FOREVER)
        return 0;
    if (deadline_ns == 0)
        return -EAGAIN;
    return mp_now_ns() >= deadline_ns ? -ETIMEDOUT : 0;
}

/* Everything a waiter waits for, in one look. */
static bool is_over(const struct mp_queue *q, const mp_a64 *cell, uint64_t seen, uint32_t phase,
                    bool consuming)
{
    return mp_load_acquire(cell) != seen || mp_load_relaxed(&q->ring->phase) != phase ||
           (consuming && mp_ring_has_returned(q->ring));
}

/* Consumers tell of room every quarter of the ring, so a producer looks by itself now and then. */
static int sleep_for_room(struct mp_queue *q, uint32_t value, uint64_t deadline_ns)
{
    uint64_t look = mp_now_ns() + MP_QUEUE_ROOM_LOOK_NS;
    int r = mp_sleep_on(q->arena, &q->ring->drained, value, mp_min(look, deadline_ns),
                        MP_WAIT_NOT_FULL, q->index);

    return r == -ETIMEDOUT && look < deadline_ns ? 0 : r;
}

/*
 * A single producer publishes by a plain store, so its consumer's sleep costs a membarrier. That is
 * little in a stream, where sleeps are few; where there is one for every few messages, the consumer
 * asks the producer for a fence a message instead. The first sleep after it asked still runs the
 * membarrier: whatever the producer publishes after that, it has seen the wish.
 */
static uint32_t arm_single_consumer(struct mp_queue *q)
{
    struct mp_ring *ring = q->ring;
    uint64_t at = mp_load_relaxed(&q->consume);
    uint32_t often = at - mp_load_relaxed(&q->armed_at) < OFTEN;

    mp_store_relaxed(&q->armed_at, at);
    if (often && mp_load_relaxed(&ring->fence))
        return mp_sleep_arm_fenced(&ring->filled);
    if (mp_load_relaxed(&ring->fence) != often)
        mp_store_seqcst(&ring->fence, often);
    return mp_sleep_arm(q->arena, &ring->filled);
}

static int wait(struct mp_queue *q, const mp_a64 *cell, uint64_t seen, uint64_t deadline_ns,
                bool consuming)
{
    struct mp_ring *ring = q->ring;
    struct mp_arena *a = q->arena;
    mp_a32 *word = consuming ? &ring->filled : &ring->drained;
    uint32_t phase = mp_load_seqcst(&ring->phase);
    struct mp_spinner spinner;
    uint32_t value;
    int r;

    r = mp_queue_phase_slow(q, consuming);
    if (r < 0)
        return r;
    /* Shut down before this look at the cell, so nothing will come any more: a producer that is
     * late takes its message back. */
    if (consuming && (phase & 3) == MP_PHASE_SHUT)
        return is_over(q, cell, seen, phase, true) ? 0 : -EPIPE;
    if (deadline_ns == 0)
        return is_over(q, cell, seen, phase, consuming) ? 0 : -EAGAIN;

    mp_spin_begin(&spinner, consuming ? &q->consume_spin : &q->produce_spin,
                  consuming ? &ring->consumer_cpu : &ring->producer_cpu,
                  consuming ? &ring->producer_cpu : &ring->consumer_cpu);
    while (mp_spin_turn(&spinner))
        if (is_over(q, cell, seen, phase, consuming)) {
            mp_spin_end(&spinner, true);
            return 0;
        }
    mp_spin_end(&spinner, false);

    /* Many producers commit by a CAS, which is a fence; everything else is published by plain
     * stores. */
    if (!consuming)
        value = mp_sleep_arm(a, word);
    else
        value = q->spsc ? arm_single_consumer(q) : mp_sleep_arm_fenced(word);
    if (is_over(q, cell, seen, phase, consuming))
        return 0;
    if (consuming)
        r = mp_sleep_on(a, word, value, deadline_ns, MP_WAIT_NOT_EMPTY, q->index);
    else
        r = sleep_for_room(q, value, deadline_ns);
    if (r == -ETIMEDOUT && is_over(q, cell, seen, phase, consuming))
        return 0;
    return r;
}

MP_NOINLINE int mp_ring_wait_filled(struct mp_queue *q, const mp_a64 *cell, uint64_t seen,
                                    uint64_t deadline_ns)
{
    return wait(q, cell, seen, deadline_ns, true);
}

MP_NOINLINE int mp_ring_wait_drained(struct mp_queue *q, const mp_a64 *cell, uint64_t seen,
                                     uint64_t deadline_ns)
{
    return wait(q, cell, seen, deadline_ns, false);
}

/* The highest lap that a cell says in full; the tail's where none does. */
static uint64_t highest_lap(const struct mp_queue *q)
{
    uint64_t lap = 0;
    bool any = false;

    for (uint32_t i = 0; i < q->cells; i++) {
        uint64_t v = mp_load_acquire(&q->ring->cells[i]);

        if (mp_cell_state(v) == MP_CELL_TAKEN)
            continue;
        lap = mp_max(lap, v >> 26 & MP_LAP_MASK);
        any = true;
    }
    return any ? lap : mp_load_relaxed(&q->ring->tail) >> q->shift;
}

/* The first position that may be filled, and the first that may be taken: no cell says an earlier
 * one. A cell that is TAKEN is as good as empty for the next lap: its taker, or a sweep, will make
 * it so, and a place left out would be a hole that everybody waits at. */
void mp_ring_find(const struct mp_queue *q, uint64_t *ret_produce, uint64_t *ret_consume)
{
    uint64_t produce = UINT64_MAX, consume = UINT64_MAX;
    uint64_t near = highest_lap(q);

    for (uint32_t i = 0; i < q->cells; i++) {
        uint64_t v = mp_load_acquire(&q->ring->cells[i]);
        uint64_t lap = v >> 26 & MP_LAP_MASK;

        if (mp_cell_state(v) == MP_CELL_FULL)
            consume = mp_min(consume, lap << q->shift | i);
        else if (mp_cell_state(v) == MP_CELL_EMPTY)
            produce = mp_min(produce, lap << q->shift | i);
        else
            produce = mp_min(produce, (mp_cell_taken_lap(v, near) + 1) << q->shift | i);
    }
    if (produce == UINT64_MAX) /* full */
        produce = consume + q->cells;
    *ret_produce = produce;
    *ret_consume = mp_min(produce, consume);
}

uint64_t mp_ring_count_blocks(const struct mp_queue *q,
                              bool (*counts)(const struct mp_queue *q, uint32_t x), uint64_t most,
                              uint32_t *ret_last)
{
    const struct mp_arena *a = q->arena;
    uint64_t n = 0;

    for (uint32_t c = 0; c < a->geometry.n_classes; c++) {
        const struct mp_class *k = &a->geometry.classes[c];

        for (uint32_t x = k->first; x < k->first + k->blocks; x++) {
            if (((x - k->first) & (k->extent_blocks - 1)) == 0 && !mp_block_is_backed(a, k, x)) {
                x += k->extent_blocks - 1;
                continue;
            }
            if (!counts(q, x))
                continue;
            *ret_last = x;
            if (++n == most)
                return n;
        }
    }
    return n;
}

static bool is_returned(const struct mp_queue *q, uint32_t x)
{
    return mp_block_state(mp_load_relaxed(&q->words[x])) == MP_BLOCK_RETURNED &&
           mp_queue_owns(q, x);
}

/* Messages in the cells; looks no further than the `most` first. */
static uint64_t count_cells(const struct mp_queue *q, uint64_t most)
{
    const struct mp_arena *a = q->arena;
    uint64_t head = mp_load_acquire(&q->ring->head);
    uint64_t n = 0;

    for (uint32_t i = 0; i < q->cells && n < most; i++) {
        uint64_t p = head + i;
        uint64_t v = mp_load_acquire(&q->ring->cells[p & (q->cells - 1)]);
        uint32_t x = mp_cell_block(v);

        if (!q->spsc) {
            n += mp_cell_state(v) == MP_CELL_FULL;
            continue;
        }
        if (x >= a->geometry.blocks || v != mp_cell_full(p >> q->shift, x))
            break;
        /* Not those that are taken already, though it is not published. */
        n += mp_block_seq(mp_load_relaxed(&a->words[x])) != mp_position_tag(p);
    }
    return n;
}

uint64_t mp_ring_count_cells(const struct mp_queue *q)
{
    return count_cells(q, UINT64_MAX);
}

uint64_t mp_ring_depth(const struct mp_queue *q)
{
    uint64_t returned = 0;
    uint32_t last;

    if (mp_ring_has_returned(q->ring))
        returned = mp_ring_count_blocks(q, is_returned, UINT64_MAX, &last);
    return count_cells(q, UINT64_MAX) + returned;
}

bool mp_ring_is_readable(const struct mp_queue *q)
{
    return mp_ring_has_returned(q->ring) || mp_load_relaxed(&q->ring->phase) != q->phase ||
           count_cells(q, 1) > 0;
}

bool mp_ring_is_writable(const struct mp_queue *q)
{
    /* A single producer, too, looks for what was taken and is not published before it waits. */
    return mp_load_relaxed(&q->ring->phase) != q->phase || count_cells(q, q->maxsize) < q->maxsize;
}

MP_NOINLINE int mp_queue_take_returned(struct mp_queue *q, uint64_t capacity, struct mp_taken *ret)
{
    struct mp_arena *a = q->arena;
    uint32_t hint = mp_load_acquire(&q->ring->returned);
    uint32_t from = mp_load_relaxed(&q->returned_from) % a->geometry.blocks;
    bool too_long = false;

    for (uint32_t i = 0; i < a->geometry.blocks; i++) {
        uint32_t x = from + i < a->geometry.blocks ? from + i : from + i - a->geometry.blocks;
        const struct mp_class *k = &a->geometry.classes[mp_geometry_block_class(&a->geometry, x)];
        uint32_t deliveries;
        uint64_t w;

        if (!mp_block_is_backed(a, k, x)) {
            i += k->extent_blocks - 1 - ((x - k->first) & (k->extent_blocks - 1));
            continue;
        }
        w = mp_load_acquire(&a->words[x]);
        if (mp_block_state(w) != MP_BLOCK_RETURNED || !mp_queue_owns(q, x))
            continue;
        ret->length = mp_queue_length(q, x, &ret->class);
        if (ret->length > capacity) {
            too_long = true;
            continue;
        }
        deliveries = mp_min(mp_block_deliveries(w) + 1, 255u);
        if (!mp_cas_acqrel(&a->words[x], &w,
                           mp_block_word(MP_BLOCK_LEASED, a->self->slot, deliveries, 0)))
            continue;
        mp_store_relaxed(&q->returned_from, x + 1);
        ret->block = x;
        ret->deliveries = deliveries;
        return 1;
    }
    if (too_long)
        return -EMSGSIZE;
    /* None is left, unless there was one more since. */
    mp_cas_acqrel(&q->ring->returned, &hint, hint & ~1u);
    return 0;
}
