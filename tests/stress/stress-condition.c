/* SPDX-License-Identifier: MIT */
/*
 * Stress at two conditions, one on a lock, one on a recursive lock.
 *
 * Under the lock is counted who waits, and how many of them were let go. As nobody dies the counts
 * are exact: nobody goes on who was not notified, and nobody waits in vain or times out who was.
 * The first worker never waits for long, so that there always is one to notify; now and then it
 * sees to it that all who were notified go on without any further notification.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>

#include "base/until.h"
#include "stress/stress.h"

enum { PLAIN, DEEP, BOTH };

/* Under the lock. */
struct count {
    uint32_t waiting;
    uint32_t notified; /* of those who wait */
    bool quiet;        /* nobody notifies */
    uint64_t waits;
    uint64_t goes; /* notified, and gone on */
    uint64_t timed_out;
};

static mp_lock *lock;
static mp_rlock *rlock;
static mp_condition *conditions[BOTH];
static struct count *counts;

static void begin(mp_arena *arena, void *memory)
{
    counts = memory;
    assert(mp_lock_create(arena, NULL, &lock) == 0);
    assert(mp_rlock_create(arena, NULL, &rlock) == 0);
    for (int which = PLAIN; which < BOTH; which++)
        assert(mp_condition_create(arena, NULL, &conditions[which]) == 0);
}

static void acquire(int which)
{
    if (which == PLAIN) {
        assert(mp_lock_acquire(lock, PATIENCE) == 0);
        return;
    }
    assert(mp_rlock_acquire(rlock, PATIENCE) == 0);
    assert(mp_rlock_acquire(rlock, PATIENCE) == 0);
}

static void release(int which)
{
    if (which == PLAIN) {
        assert(mp_lock_release(lock) == 0);
        return;
    }
    assert(mp_rlock_count(rlock) == 2);
    assert(mp_rlock_release(rlock) == 0);
    assert(mp_rlock_release(rlock) == 0);
}

static int wait(int which, uint64_t timeout_ns)
{
    return which == PLAIN ? mp_condition_wait(conditions[which], lock, timeout_ns)
                          : mp_condition_wait_rlock(conditions[which], rlock, timeout_ns);
}

static void wait_once(struct worker *w, int which)
{
    struct count *c = &counts[which];
    uint64_t timeout_ns = w->index ? stress_timeout(w) : stress_dice(w, 100) * UINT64_C(1000);
    int r;

    /* The last ones to notify have done so, or wait for the lock to do it. */
    if (stress_is_over(w))
        return;
    c->waits++;
    c->waiting++;
    stress_holds(w, false);
    r = wait(which, timeout_ns);
    stress_holds(w, true);
    if (r == 0) {
        assert(c->notified > 0);
        c->notified--;
        c->goes++;
    } else {
        assert((r == -ETIMEDOUT || r == -EAGAIN) && timeout_ns != PATIENCE);
        assert(c->notified < c->waiting);
        c->timed_out++;
    }
    c->waiting--;
}

static void notify(int which, uint32_t n)
{
    struct count *c = &counts[which];
    uint32_t left = c->waiting - c->notified;

    c->notified += n < left ? n : left;
    if (n == UINT32_MAX)
        assert((which == PLAIN ? mp_condition_notify_all(conditions[which], lock)
                               : mp_condition_notify_all_rlock(conditions[which], rlock)) == 0);
    else
        assert((which == PLAIN ? mp_condition_notify(conditions[which], lock, n)
                               : mp_condition_notify_rlock(conditions[which], rlock, n)) == 0);
}

static bool all_went_on(int which)
{
    bool all;

    acquire(which);
    all = counts[which].notified == 0;
    release(which);
    return all;
}

static void see_all_go(int which)
{
    acquire(which);
    counts[which].quiet = true;
    release(which);
    until(all_went_on(which));
    acquire(which);
    counts[which].quiet = false;
    release(which);
}

static void wait_or_notify(struct worker *w)
{
    while (stress_turn(w)) {
        int which = (int)stress_dice(w, BOTH);
        uint32_t what = stress_dice(w, 8);

        acquire(which);
        stress_holds(w, true);
        if (what < 4)
            wait_once(w, which);
        else if (!counts[which].quiet)
            notify(which, what == 7 ? UINT32_MAX : what - 3);
        stress_work(w);
        stress_holds(w, false);
        release(which);
        if (w->index == 0 && stress_dice(w, 8) == 0)
            see_all_go(which);
    }
}

static void finish(void)
{
    for (int which = PLAIN; which < BOTH; which++) {
        acquire(which);
        notify(which, UINT32_MAX);
        release(which);
    }
}

static void end(uint64_t turns, uint32_t killed)
{
    (void)turns;
    (void)killed;
    for (int which = PLAIN; which < BOTH; which++) {
        const struct count *c = &counts[which];

        assert(c->waiting == 0 && c->notified == 0);
        assert(c->waits == c->goes + c->timed_out);
        conditions[which] = mp_condition_close(conditions[which]);
    }
    lock = mp_lock_close(lock);
    rlock = mp_rlock_close(rlock);
}

int main(int argc, char **argv)
{
    static const struct stress stress = {.name = "condition",
                                         .workers = 5,
                                         .size = BOTH * sizeof *counts,
                                         .begin = begin,
                                         .work = wait_or_notify,
                                         .finish = finish,
                                         .end = end};

    return stress_main(&stress, argc, argv);
}
