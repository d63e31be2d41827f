/* SPDX-License-Identifier: MIT */
/*
 * Stress at a recursive lock: workers count two numbers under it, one at each end of a way down
 * into it and up again.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>

#include "stress/stress.h"

struct shared {
    uint64_t a, b; /* under the lock */
};

static mp_rlock *lock;
static struct shared *shared;

static void begin(mp_arena *arena, void *memory)
{
    shared = memory;
    assert(mp_rlock_create(arena, NULL, &lock) == 0);
}

static void enter(struct worker *w)
{
    uint64_t timeout_ns;
    int r;

    do
        r = mp_rlock_acquire(lock, timeout_ns = stress_timeout(w));
    while ((r == -ETIMEDOUT || r == -EAGAIN) && timeout_ns != PATIENCE);
    assert(r == 0);
}

static void count(struct worker *w)
{
    while (stress_turn(w)) {
        int depth = 1 + (int)stress_dice(w, 4);

        assert(mp_rlock_release(lock) == -EPERM);
        enter(w);
        stress_holds(w, true);
        assert(shared->a == shared->b);
        shared->a++;
        for (int i = 1; i < depth; i++)
            assert((i % 2 ? mp_rlock_try(lock) : mp_rlock_acquire(lock, PATIENCE)) == 0);
        assert(mp_rlock_count(lock) == depth);
        for (int i = 1; i < depth; i++)
            assert(mp_rlock_release(lock) == 0);
        stress_work(w);
        shared->b++;
        stress_holds(w, false);
        assert(mp_rlock_release(lock) == 0);
    }
}

static void end(uint64_t turns, uint32_t killed)
{
    (void)killed;
    assert(shared->a == turns && shared->b == turns);
    lock = mp_rlock_close(lock);
}

int main(int argc, char **argv)
{
    static const struct stress stress = {.name = "rlock",
                                         .workers = 4,
                                         .size = sizeof *shared,
                                         .begin = begin,
                                         .work = count,
                                         .end = end};

    return stress_main(&stress, argc, argv);
}
