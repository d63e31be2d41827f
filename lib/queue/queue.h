/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The handle of a queue, and what its parts share.
 *
 * mpmc.c and spsc.c are the two protocols of the ring: each moves block numbers in and out.
 * message.c makes messages of them, for both. ring.c waits, and finds its place again when the
 * hints are wrong. tasks.c is what joinable queues have more. queue.c makes, opens and ends queues.
 */

#include <mp/queue.h>

#include "arena/arena.h"
#include "arena/block.h"
#include "arena/keeper.h"
#include "arena/sleep.h"

/* Consumers tell of room now and then; who waits for it looks by itself after so long. */
#define MP_QUEUE_ROOM_LOOK_NS MP_MSEC(10)

struct mp_queue {
    struct mp_arena *arena;
    struct mp_ring *ring;
    struct mp_self *self; /* the arena's, as the next two: one load less on the way of a message */
    mp_a64 *words;
    mp_a64 *meta;
    uint64_t live; /* state word of the directory entry */
    uint32_t index;
    uint32_t meta_queue; /* how a message's meta names this queue */
    uint32_t phase;      /* what the ring's phase is while the queue is open */
    uint32_t cells;
    uint32_t shift; /* its logarithm */
    uint32_t maxsize;
    uint32_t flags;
    uint32_t spsc;
    uint32_t quarter; /* of maxsize: after so many messages producers are told of the room */
    uint64_t message_max;
    char name[MP_NAME_MAX + 1];

    /* The producing side. Positions are messages since creation; mpmc: shared by the threads,
     * only hints. */
    _Alignas(64) mp_a64 produce;
    mp_a64 head_seen;     /* spsc */
    mp_a64 producer_life; /* the participation in which we may produce: have the role, or any may */
    struct mp_spin produce_spin;

    /* The consuming side. */
    _Alignas(64) mp_a64 consume;
    mp_a64 head_published; /* spsc */
    mp_a64 armed_at;       /* spsc: where the consumer last made ready to sleep */
    mp_a64 consumer_life;
    struct mp_spin consume_spin;
    _Atomic(const void *) consumer_thread; /* spsc: who takes: its mp_block_turn */
    uint32_t producer_tid;                 /* the threads that took the roles */
    uint32_t consumer_tid;
    uint32_t *pending; /* spsc: released blocks whose positions are not published yet */
    uint32_t n_pending;
    mp_a32 returned_from; /* where the search for returned blocks starts */
    _Atomic(struct mp_poller *) poller;
    _Atomic(struct mp_tasks *) tasks; /* joinable: what this process got and is not done with */
};

/* Publications: what the other side may be asleep for. The waker's CPU is left for its next
 * spin. */
void mp_queue_wake_filled_slow(struct mp_queue *q);
void mp_queue_wake_drained_slow(struct mp_queue *q);

static inline void mp_queue_wake_filled(struct mp_queue *q)
{
    if (mp_unlikely(q->spsc && mp_load_relaxed(&q->ring->fence)))
        atomic_thread_fence(memory_order_seq_cst);
    mp_sleep_fence(q->arena, !q->spsc);
    if (mp_unlikely(mp_load_relaxed(&q->ring->filled) & 1))
        mp_queue_wake_filled_slow(q);
}

static inline void mp_queue_wake_drained(struct mp_queue *q)
{
    mp_sleep_fence(q->arena, false);
    if (mp_unlikely(mp_load_relaxed(&q->ring->drained) & 1))
        mp_queue_wake_drained_slow(q);
}

static inline bool mp_queue_is_joinable(const struct mp_queue *q)
{
    return q->flags & MP_QUEUE_JOINABLE;
}

struct mp_taken {
    uint32_t block;
    uint32_t class;
    uint32_t deliveries;
    uint64_t length;
};

/* Is the queue still open on this side? 0; -EPIPE, -ESTALE. */
int mp_queue_phase_slow(const struct mp_queue *q, bool consuming);

static inline int mp_queue_check(const struct mp_queue *q, bool consuming)
{
    if (mp_likely(mp_load_relaxed(&q->ring->phase) == q->phase))
        return 0;
    return mp_queue_phase_slow(q, consuming);
}

/* Take part, and take the role where there is a single one. 0; -EBUSY, -EUSERS. */
int mp_queue_take_role(struct mp_queue *q, bool consuming);
void mp_queue_leave_roles(struct mp_queue *q);

/* A life that is nobody's: before a handle was used. */
#define MP_NO_LIFE UINT64_MAX

static inline int mp_queue_role(struct mp_queue *q, bool consuming)
{
    const mp_a64 *life = consuming ? &q->consumer_life : &q->producer_life;

    if (mp_likely(mp_load_acquire(life) == mp_load_acquire(&q->self->life)))
        return 0;
    return mp_queue_take_role(q, consuming);
}

/* ---- ring.c ---- */

/* Somebody may write to the ring without end, and no wait ever begins: the time is looked at every
 * 1024 turns. 0; -EAGAIN, -ETIMEDOUT. */
int mp_queue_out_of_time_slow(uint64_t deadline_ns);

static inline int mp_queue_out_of_time(uint64_t deadline_ns, uint32_t *turns)
{
    return (++*turns & 1023) == 0 ? mp_queue_out_of_time_slow(deadline_ns) : 0;
}

/* Wait until a cell (or the published head) is no longer `seen`, blocks were returned (consuming),
 * or the queue ends. 0: look again; -EAGAIN, -ETIMEDOUT, -EPIPE, -ESTALE. */
int mp_ring_wait_filled(struct mp_queue *q, const mp_a64 *cell, uint64_t seen,
                        uint64_t deadline_ns);
int mp_ring_wait_drained(struct mp_queue *q, const mp_a64 *cell, uint64_t seen,
                         uint64_t deadline_ns);

/* mpmc: where producers and consumers are, from the cells themselves. */
void mp_ring_find(const struct mp_queue *q, uint64_t *ret_produce, uint64_t *ret_consume);

/* How many messages are in it now. */
uint64_t mp_ring_depth(const struct mp_queue *q);

/* May a message be received, or committed; or has the queue ended? */
bool mp_ring_is_readable(const struct mp_queue *q);
bool mp_ring_is_writable(const struct mp_queue *q);

/* How many of them are in cells: does it have to be waited for room? */
uint64_t mp_ring_count_cells(const struct mp_queue *q);

/* How many blocks `counts` says yes to; looks no further than the `most` first, and tells the last
 * of them. */
uint64_t mp_ring_count_blocks(const struct mp_queue *q,
                              bool (*counts)(const struct mp_queue *q, uint32_t x), uint64_t most,
                              uint32_t *ret_last);

/* ---- the protocols; each with the caller's role checked ---- */

/* Put block x in. 0; -EAGAIN, -ETIMEDOUT, -EPIPE, -ESTALE, -ENOTRECOVERABLE: x is still ours. */
int mp_mpmc_put(struct mp_queue *q, uint32_t x, uint64_t deadline_ns);
int mp_spsc_put(struct mp_queue *q, uint32_t x, uint64_t deadline_ns);

/* Take the next message, LEASED to us, if it has at most `capacity` bytes. The same errors, and
 * -EMSGSIZE. */
int mp_mpmc_take(struct mp_queue *q, uint64_t capacity, uint64_t deadline_ns, struct mp_taken *ret);
int mp_spsc_take(struct mp_queue *q, uint64_t capacity, uint64_t deadline_ns, struct mp_taken *ret);

/* Everything that is in it goes back to the arena. Called once nobody commits any more, or, where
 * single, with both roles ours. True: there was something. */
bool mp_queue_drain(struct mp_queue *q);

/* A message that a dead consumer had. 1: taken; 0: none; -EMSGSIZE. */
int mp_queue_take_returned(struct mp_queue *q, uint64_t capacity, struct mp_taken *ret);

/* The length of block x as its meta says, cut to what the block can hold. */
static MP_INLINE uint64_t mp_queue_length(const struct mp_queue *q, uint32_t x, uint32_t *ret_class)
{
    uint32_t class = mp_geometry_block_class(&q->arena->geometry, x);
    uint64_t length = mp_load_relaxed(&q->meta[x]) >> 24;

    *ret_class = class;
    return mp_min(length, (uint64_t)MP_BLOCK_MIN << class);
}

/* Does a message of this queue lie in block x? */
static inline bool mp_queue_owns(const struct mp_queue *q, uint32_t x)
{
    return (mp_load_relaxed(&q->meta[x]) & 0xffffff) == q->meta_queue;
}
