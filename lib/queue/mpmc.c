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
 *   word of x -> LEASED(C)        consumer, release; who  TAKEN(D), LEASED(D)    cell EMPTY(l+1)
 *                                 helps: CAS
 *   TAKEN(C, l, x) -> EMPTY(l+1)  the same, CAS           LEASED(D)              word -> RETURNED
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
 * A taker may be stopped before it has emptied its cell. Who comes there a lap later does not wait
 * for it, but does for it what is left to do: the word, then the cell, each by a CAS from what was
 * seen while the cell was still TAKEN. The taker's own store to the word says the same, and its CAS
 * on the cell then fails.
 *
 * Producers that wait for room are woken every quarter of the ring and before a consumer waits, not
 * for each message: else both sides would take turns, message by message. They look by themselves
 * every 10 ms, in case consumers do neither.
 */

#include <errno.h>

#include "queue/mpmc.h"
#include "queue/tasks.h"

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
    return mp_cell_is_full(v, before >> q->shift);
}

/* Somebody took what was in this cell and has not emptied it, one lap ago: do it in his name. */
static MP_NOINLINE void help(struct mp_queue *q, mp_a64 *cell, uint64_t v, uint64_t lap)
{
    uint32_t x = mp_cell_block(v);

    if (x < q->arena->geometry.blocks && !mp_mutation(HELP_BY_HALF)) {
        uint64_t w = mp_load_acquire(&q->words[x]);
        uint32_t state = mp_block_state(w);

        if (mp_load_seqcst(cell) != v)
            return; /* so w need not be the word of then */
        if ((state == MP_BLOCK_OWNED || state == MP_BLOCK_QUEUED) &&
            !mp_cas_acqrel(&q->words[x], &w, mp_block_word(MP_BLOCK_LEASED, mp_cell_slot(v), 1, 0)))
            return;
    }
    mp_cas_acqrel(cell, &v, mp_cell_empty(lap));
}

static bool is_taken(uint64_t v, uint64_t lap)
{
    return mp_cell_state(v) == MP_CELL_TAKEN && mp_cell_lap28(v) == (lap & MP_LAP28_MASK);
}

/* Who helps takes us for a consumer. So the word is written once more, when nobody can any more. */
void mp_mpmc_take_back(struct mp_arena *a, mp_a64 *cell, uint64_t lap, uint32_t x)
{
    uint64_t taken = mp_cell_taken(a->self->slot, lap, x);

    mp_store_release(&a->words[x], mp_block_owned(a));
    mp_cas_acqrel(cell, &taken, mp_cell_empty(lap + 1));
    mp_store_release(&a->words[x], mp_block_owned(a));
}

/* The queue was shut down while we committed: take the message back, if nobody has it yet. 0: it is
 * delivered. */
MP_NOINLINE int mp_mpmc_withdraw(struct mp_queue *q, uint64_t position, uint32_t x)
{
    uint64_t lap = position >> q->shift;
    mp_a64 *cell = &q->ring->cells[position & (q->cells - 1)];
    uint64_t v = mp_cell_full(lap, x);
    uint32_t slot = q->self->slot;
    int r = mp_queue_phase_slow(q, false);

    if (r == 0 || !mp_cas_acqrel(cell, &v, mp_cell_taken(slot, lap, x)))
        return 0;
    mp_mpmc_take_back(q->arena, cell, lap, x);
    if (mp_queue_is_joinable(q))
        mp_tasks_wake(q);
    return r;
}

int mp_mpmc_put(struct mp_queue *q, uint32_t x, uint64_t deadline_ns)
{
    struct mp_ring *ring = q->ring;
    uint32_t steps = 0, turns = 0;

    for (;;) {
        uint64_t p = mp_load_relaxed(&q->produce);
        uint64_t lap = p >> q->shift;
        mp_a64 *cell = &ring->cells[p & (q->cells - 1)];
        uint64_t v = mp_load_acquire(cell);
        const mp_a64 *full = cell;
        uint64_t seen = v;
        int r = mp_queue_check(q, false);

        if (r == 0)
            r = mp_queue_out_of_time(deadline_ns, &turns);
        if (r < 0)
            return r;
        if (v == mp_cell_empty(lap)) {
            if (q->maxsize == q->cells || !over_maxsize(q, p, &full, &seen)) {
                /* As in mp_mpmc_put_fast. */
                if (!mp_cas_seqcst(cell, &v, mp_cell_full(lap, x)))
                    continue;
                if (mp_load_seqcst(&ring->phase) != q->phase)
                    r = mp_mpmc_withdraw(q, p, x);
                if (r == 0)
                    mp_mpmc_put_done(q, p);
                return r;
            }
            r = mp_ring_wait_drained(q, full, seen, deadline_ns);
        } else if (is_taken(v, lap - 1)) {
            help(q, cell, v, lap);
        } else if (mp_cell_is_full(v, lap - 1)) {
            r = mp_ring_wait_drained(q, cell, v, deadline_ns);
        } else {
            forward(q, &q->produce, p, &ring->tail);
            r = find_again(q, &steps);
        }
        if (r < 0)
            return r;
    }
}

int mp_mpmc_take(struct mp_queue *q, uint64_t capacity, uint64_t deadline_ns, struct mp_taken *ret)
{
    struct mp_ring *ring = q->ring;
    uint32_t steps = 0, turns = 0;

    for (;;) {
        uint64_t p, lap, v;
        mp_a64 *cell;
        uint32_t x;
        int r;

        r = mp_queue_check(q, true);
        if (r < 0)
            return r;
        if (mp_unlikely(mp_ring_has_returned(ring))) {
            r = mp_queue_take_returned(q, capacity, ret);
            if (r != 0)
                return r < 0 ? r : 0;
        }
        r = mp_queue_out_of_time(deadline_ns, &turns);
        if (r < 0)
            return r;
        p = mp_load_relaxed(&q->consume);
        lap = p >> q->shift;
        cell = &ring->cells[p & (q->cells - 1)];
        v = mp_load_acquire(cell);
        x = mp_cell_block(v);
        if (mp_cell_is_full(v, lap)) {
            if (mp_unlikely(x >= q->arena->geometry.blocks)) {
                mp_cas_acqrel(cell, &v, mp_cell_empty(lap + 1)); /* hostile */
                continue;
            }
            /* Before the take, so that a message that does not fit stays where it is. */
            ret->length = mp_queue_length(q, x, &ret->class);
            if (ret->length > capacity && mp_load_relaxed(cell) == v)
                return -EMSGSIZE;
            if (mp_mpmc_take_cell(q, p, v, ret))
                return 0;
            continue;
        }
        if (is_taken(v, lap - 1)) {
            help(q, cell, v, lap);
        } else if (v == mp_cell_empty(lap) || mp_cell_is_full(v, lap - 1)) {
            mp_queue_wake_drained(q);
            r = mp_ring_wait_filled(q, cell, v, deadline_ns);
        } else {
            forward(q, &q->consume, p, &ring->head);
            r = find_again(q, &steps);
        }
        if (r < 0)
            return r;
    }
}
