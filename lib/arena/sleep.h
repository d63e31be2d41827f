/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sleep words: how a publisher without a fence wakes a sleeper.
 *
 * Word: {count:31, S:1}. S: somebody may be asleep. The count moves at every arrival and every
 * wake.
 *
 *   sleeper    count+1, then S; membarrier on all CPUs; last look at what it waits for;
 *              FUTEX_WAIT on the value it wrote
 *   publisher  publish by a plain store; compiler barrier; load the word; S clear: done.
 *              S set: CAS count+1, keeping S; wake one; if nobody was there, CAS S away, expecting
 *              exactly that value
 *
 * The publisher's store and its load of S either straddle the sleeper's membarrier or not: if the
 * store came before, the last look sees it; if the load came after, it sees S. S can not be cleared
 * over a sleeper: its arrival moved the count. S stays while anybody may sleep, so each publication
 * wakes one more: there is no baton that a killed sleeper could take with it.
 *
 * A sleeper that was chosen and killed, or a publisher killed before it woke anyone, is made good
 * by the sweep, which moves and wakes every sleep word of the arena (arena/recover.c). So one word
 * is enough to wait on. In case nobody sweeps (a watcher is stopped), the keeper of each process
 * with sleepers looks for deaths each second. It wakes them where a sweep does not end, or where
 * what they wait for is there: who was to wake them, or was woken in their place, may be stopped.
 * It does so until there was a second without sleepers; who then sleeps first pokes it. So a sleep
 * needs no timer of its own, which would be a sixth of a round trip on one core.
 *
 * Where this process is not registered for membarrier, or anybody cannot run it, publishers fence
 * (mp_header.fence).
 */

#include "arena/arena.h"

#ifndef MP_SLEEP_LOOK_NS /* tests/crash do without */
#define MP_SLEEP_LOOK_NS MP_SEC(1)
#endif

/* Raise S and fence everyone. The value to wait for. */
uint32_t mp_sleep_arm(const struct mp_arena *a, mp_a32 *word);

/* The same where every publisher publishes by a sequentially consistent CAS. */
uint32_t mp_sleep_arm_fenced(mp_a32 *word);

/* After a last look: sleep while *word == value, until the deadline (absolute). What for: an
 * MP_WAIT_*, the index of the object, and in the upper half of that its part. 0: look again;
 * -ETIMEDOUT. */
int mp_sleep_on(struct mp_arena *a, const mp_a32 *word, uint32_t value, uint64_t deadline_ns,
                uint32_t kind, uint64_t object);

/* The same for sleepers of several kinds on one word (mp_futex_wake_bits). */
int mp_sleep_on_bits(struct mp_arena *a, const mp_a32 *word, uint32_t value, uint64_t deadline_ns,
                     uint32_t kind, uint64_t object, uint32_t bits);

/* Around a sleep that is not on one word alone: as mp_sleep_on() does. */
struct mp_wait_record *mp_sleep_begin(struct mp_arena *a, uint32_t kind, uint64_t object,
                                      uint64_t now_ns);
void mp_sleep_end(struct mp_arena *a, struct mp_wait_record *record);

/* For people: what this thread waits for, and since when. */
struct mp_waiting_thread {
    uint64_t life;
    uint64_t since_ns;
    uint64_t ended_ns; /* when the last sleep ran out; 0: it ended otherwise */
    uint32_t kind;     /* 0: none yet of the wait that begins */
    uint64_t object;
    bool told;  /* when it began */
    bool fresh; /* it has not slept yet */
};
extern _Thread_local struct mp_waiting_thread mp_waiting_thread;

/* A call begins to wait; from here on all sleeps for one object are one wait. */
static inline void mp_sleep_begins_anew(void)
{
    mp_waiting_thread.kind = 0;
    mp_waiting_thread.fresh = true;
}

/* This thread's number, from the kernel once for a thread and participation: a system call is too
 * much for each use, and a forked child has another number, and another life. */
struct mp_thread_number {
    uint64_t life;
    uint32_t tid; /* 0: not asked yet */
};
extern _Thread_local struct mp_thread_number mp_thread_number;
uint32_t mp_thread_id_slow(const struct mp_arena *a);

static inline uint32_t mp_thread_id(const struct mp_arena *a)
{
    return mp_likely(mp_thread_number.tid != 0 &&
                     mp_thread_number.life == mp_load_relaxed(&a->self->life))
               ? mp_thread_number.tid
               : mp_thread_id_slow(a);
}

void mp_sleep_wake_slow(mp_a32 *word);
void mp_sleep_wake_all(mp_a32 *word);

/* Between a publication and the look at S. `fenced`: it was published by a sequentially
 * consistent CAS. */
static inline void mp_sleep_fence(const struct mp_arena *a, bool fenced)
{
#if defined(__x86_64__) || defined(__i386__)
    if (fenced) {
        atomic_signal_fence(memory_order_seq_cst); /* the CAS was a full fence */
        return;
    }
#else
    if (fenced) {
        atomic_thread_fence(memory_order_seq_cst);
        return;
    }
#endif
    if (mp_unlikely(mp_load_relaxed(&a->header->fence) | a->self->fence))
        atomic_thread_fence(memory_order_seq_cst);
    else
        atomic_signal_fence(memory_order_seq_cst); /* pairs with the membarrier in mp_sleep_arm */
}

/* After a publication by plain stores. */
static inline void mp_sleep_wake(const struct mp_arena *a, mp_a32 *word)
{
    mp_sleep_fence(a, false);
    if (mp_unlikely(mp_load_relaxed(word) & 1))
        mp_sleep_wake_slow(word);
}

/*
 * Spinning before a sleep. A waiter that shares the CPU with the one it waits for would only keep
 * it from running, so each side leaves the CPU it waits on in a shared word, and the other does not
 * spin when that is its own. Beyond that the length follows success: it doubles when spinning
 * helped and halves when it did not, but never to nothing, so it finds back.
 */
struct mp_spin {
    mp_a32 length; /* in turns; 0 at first */
};

struct mp_spinner {
    struct mp_spin *spin;
    uint32_t left;
    uint32_t begun;
};

void mp_spin_begin(struct mp_spinner *s, struct mp_spin *spin, mp_a32 *my_cpu,
                   const mp_a32 *other_cpu);

/* One turn. False: give up and sleep. */
static inline bool mp_spin_turn(struct mp_spinner *s)
{
    if (s->left == 0)
        return false;
    s->left--;
    mp_pause();
    return true;
}

/* What came of it. */
void mp_spin_end(struct mp_spinner *s, bool success);
