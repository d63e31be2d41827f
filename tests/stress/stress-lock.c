/* SPDX-License-Identifier: MIT */
/*
 * Stress at a lock: workers count two numbers under it. Only who is told that the owner died may
 * find the numbers apart.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "stress/stress.h"

struct shared {
    uint64_t a, b;                    /* under the lock */
    uint32_t holder;                  /* under the lock: who is in it */
    _Atomic(uint64_t) told, repaired; /* owners that died; those that left the numbers apart */
};

static mp_lock *lock;
static struct shared *shared;

static void begin(mp_arena *arena, void *memory)
{
    shared = memory;
    assert(mp_lock_create(arena, NULL, &lock) == 0);
}

static void acquired(struct worker *w, int r)
{
    if (r == MP_OWNER_DIED) {
        assert(stress_mode(w) == STRESS_KILLED);
        shared->told++;
        shared->repaired += shared->a != shared->b;
        shared->b = shared->a;
        shared->holder = 0;
    } else {
        assert(r == 0);
    }
}

static void count(struct worker *w)
{
    while (stress_turn(w)) {
        uint64_t timeout_ns;
        int r;

        do
            r = mp_lock_acquire(lock, timeout_ns = stress_timeout(w));
        while ((r == -ETIMEDOUT || r == -EAGAIN) && timeout_ns != PATIENCE);
        acquired(w, r);
        stress_holds(w, true);
        assert(shared->a == shared->b && shared->holder == 0);
        shared->holder = w->index + 1;
        shared->a++;
        stress_work(w);
        shared->b++;
        assert(shared->holder == w->index + 1);
        shared->holder = 0;
        stress_holds(w, false);
        assert(mp_lock_release(lock) == 0);
    }
}

static void end(uint64_t turns, uint32_t killed)
{
    if (killed)
        printf("%llu owners died, %llu of them between the two numbers\n",
               (unsigned long long)shared->told, (unsigned long long)shared->repaired);
    assert(shared->a >= turns && shared->a <= turns + killed);
    assert(killed || shared->a == shared->b);
    lock = mp_lock_close(lock);
}

int main(int argc, char **argv)
{
    static const struct stress stress = {.name = "lock",
                                         .workers = 6,
                                         .size = sizeof *shared,
                                         .begin = begin,
                                         .work = count,
                                         .end = end,
                                         .rounds = 8};

    return stress_main(&stress, argc, argv);
}
