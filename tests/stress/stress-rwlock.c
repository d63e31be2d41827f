/* SPDX-License-Identifier: MIT */
/*
 * Stress at a lock of readers and writers: writers count two numbers, one after the other, and
 * readers never see them apart.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "stress/stress.h"

struct shared {
    uint64_t a, b;             /* under the lock, by writers */
    _Atomic(uint64_t) reads;   /* so many turns were reads */
    _Atomic(uint32_t) readers; /* who are in it */
    _Atomic(uint32_t) most;
};

static mp_rwlock *lock;
static struct shared *shared;

static void begin(mp_arena *arena, void *memory)
{
    shared = memory;
    assert(mp_rwlock_create(arena, NULL, &lock) == 0);
}

static void enter(struct worker *w, int (*how)(mp_rwlock *lock, uint64_t timeout_ns))
{
    uint64_t timeout_ns;
    int r;

    do
        r = how(lock, timeout_ns = stress_timeout(w));
    while ((r == -ETIMEDOUT || r == -EAGAIN) && timeout_ns != PATIENCE);
    assert(r == 0);
    stress_holds(w, true);
}

static void read_it(struct worker *w)
{
    uint32_t n;

    enter(w, mp_rwlock_read);
    n = ++shared->readers;
    if (n > shared->most)
        shared->most = n;
    assert(shared->a == shared->b);
    stress_work(w);
    assert(shared->a == shared->b);
    shared->readers--;
    shared->reads++;
    stress_holds(w, false);
    assert(mp_rwlock_release_read(lock) == 0);
}

static void write_it(struct worker *w)
{
    enter(w, mp_rwlock_write);
    assert(shared->readers == 0);
    assert(shared->a == shared->b);
    shared->a++;
    stress_work(w);
    shared->b++;
    assert(shared->readers == 0);
    stress_holds(w, false);
    assert(mp_rwlock_release_write(lock) == 0);
}

static void read_and_write(struct worker *w)
{
    while (stress_turn(w)) {
        if (stress_dice(w, 4))
            read_it(w);
        else
            write_it(w);
    }
}

static void end(uint64_t turns, uint32_t killed)
{
    uint64_t readers;

    (void)killed;
    printf("%llu of them to read, by up to %u at once\n", (unsigned long long)shared->reads,
           shared->most);
    assert(shared->a == shared->b && shared->a + shared->reads == turns);
    assert(mp_rwlock_readers(lock, &readers) == 0 && readers == 0);
    lock = mp_rwlock_close(lock);
}

int main(int argc, char **argv)
{
    static const struct stress stress = {.name = "rwlock",
                                         .workers = 4,
                                         .size = sizeof *shared,
                                         .begin = begin,
                                         .work = read_and_write,
                                         .end = end};

    return stress_main(&stress, argc, argv);
}
