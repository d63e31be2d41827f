/* SPDX-License-Identifier: MIT */
/*
 * Stress at semaphores. Workers, as processes of two threads each, hold some of the permits for a
 * moment, never all they may. At rest all permits are there, and the ledger is empty: none lost,
 * none come back twice. Now and then they post a signal, or acquire one.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "stress/stress.h"

#define PERMITS 7u
#define MOST 3u

struct shared {
    _Atomic(uint32_t) held; /* permits; unknown where workers are killed */
    _Atomic(uint64_t) posted, taken;
};

static mp_semaphore *permits, *signals;
static struct shared *shared;

static void begin(mp_arena *arena, void *memory)
{
    shared = memory;
    assert(mp_semaphore_create(
               arena, NULL, MP_SEMAPHORE_OPTIONS(.value = PERMITS, .flags = MP_SEMAPHORE_BOUNDED),
               &permits) == 0);
    assert(mp_semaphore_create(arena, NULL, MP_SEMAPHORE_OPTIONS(.flags = MP_SEMAPHORE_SIGNALS),
                               &signals) == 0);
}

static void enter(struct worker *w)
{
    uint64_t timeout_ns;
    int r;

    do
        r = mp_semaphore_acquire(permits, timeout_ns = stress_timeout(w));
    while ((r == -ETIMEDOUT || r == -EAGAIN) && timeout_ns != PATIENCE);
    assert(r == 0);
    stress_holds(w, true);
}

static void hold_some(struct worker *w)
{
    uint32_t n = 1, most = 1 + stress_dice(w, MOST), held;

    enter(w);
    while (n < most && mp_semaphore_try(permits) == 0)
        n++;
    held = atomic_fetch_add(&shared->held, n) + n;
    assert(held <= PERMITS || stress_mode(w) == STRESS_KILLED);
    stress_work(w);
    shared->held -= n;
    stress_holds(w, false);
    if (stress_dice(w, 2)) {
        assert(mp_semaphore_release(permits, n) == 0);
    } else {
        for (; n > 0; n--)
            assert(mp_semaphore_release(permits, 1) == 0);
    }
}

static void post_or_take(struct worker *w)
{
    uint32_t n = stress_dice(w, 3);

    if (n > 0) {
        assert(mp_semaphore_release(signals, n) == 0);
        shared->posted += n;
    } else if (mp_semaphore_acquire(signals, MP_MSEC(1) / 10) == 0) {
        shared->taken++;
    }
}

static void *take_turns(void *user)
{
    struct worker *w = user;

    while (stress_turn(w)) {
        hold_some(w);
        if (stress_dice(w, 4) == 0)
            post_or_take(w);
    }
    return NULL;
}

static void work(struct worker *w)
{
    struct worker another = *w;
    pthread_t second;

    if (stress_mode(w) == STRESS_THREADS) {
        take_turns(w);
        return;
    }
    another.seed = (uint32_t)getpid();
    assert(pthread_create(&second, NULL, take_turns, &another) == 0);
    take_turns(w);
    assert(pthread_join(second, NULL) == 0);
}

static void end(uint64_t turns, uint32_t killed)
{
    (void)turns;
    assert(mp_semaphore_value(permits) == PERMITS);
    assert(mp_semaphore_holders(permits, NULL, 0) == 0);
    assert(killed || mp_semaphore_value(signals) == (int)(shared->posted - shared->taken));
    permits = mp_semaphore_close(permits);
    signals = mp_semaphore_close(signals);
}

int main(int argc, char **argv)
{
    static const struct stress stress = {.name = "semaphore",
                                         .workers = 5,
                                         .size = sizeof *shared,
                                         .begin = begin,
                                         .work = work,
                                         .end = end,
                                         .rounds = 8};

    return stress_main(&stress, argc, argv);
}
