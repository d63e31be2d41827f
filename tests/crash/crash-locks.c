/* SPDX-License-Identifier: MIT */
/*
 * The lock, alone and as one of many.
 *
 * What it protects are two counters that are counted together. They may differ only for somebody
 * who was told that the last owner died; who is told makes them equal.
 */

#include <errno.h>

#include <mp/locks.h>

#include "arena/liveness.h"
#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"

static void critical(struct point *p, int acquired)
{
    struct note *n = p->note;

    if (acquired == MP_OWNER_DIED)
        n->a = n->b;
    else if (n->a != n->b)
        crash_fail(p, "the counters differ, and nobody was told");
    n->a++;
    n->b++;
}

/* ---- the lock, of either kind ---- */

#define MANY 8u
#define WHICH 5u

static const bool many = true; /* scenario->detail of those with many */

static int lock_acquire(struct point *p, uint64_t timeout_ns)
{
    return p->memory ? mp_locks_acquire(p->memory, WHICH, timeout_ns)
                     : mp_lock_acquire(p->lock, timeout_ns);
}

static int lock_release(struct point *p)
{
    return p->memory ? mp_locks_release(p->memory, WHICH) : mp_lock_release(p->lock);
}

static void lock_destroy(struct point *p)
{
    if (p->memory) {
        crash_must(p, mp_locks_destroy(p->memory));
        mp_locks_close(p->memory);
    } else {
        crash_must(p, mp_lock_destroy(p->lock));
    }
}

static void create(struct point *p)
{
    if (p->scenario->detail)
        crash_must(p, mp_locks_create(p->arena, "lock", MANY, (mp_locks **)&p->memory));
    else
        crash_must(p, mp_lock_create(p->arena, "lock", &p->lock));
}

/* ---- survivors ---- */

static void acquire_once(struct point *p, struct survivor *s)
{
    s->result = lock_acquire(p, MP_FOREVER);
    if (s->result < 0) {
        crash_fail(p, "a survivor did not get the lock: %d", s->result);
        return;
    }
    critical(p, s->result);
    crash_check(p, lock_release(p) == 0);
}

static void hold(struct point *p, struct survivor *s)
{
    crash_must(p, lock_acquire(p, MP_FOREVER));
    mp_store_seqcst(&s->result, 1);
    while (!mp_load_seqcst(&s->go))
        crash_pause();
    critical(p, 0);
    crash_check(p, lock_release(p) == 0);
}

static void start_holder(struct point *p)
{
    struct survivor *s;

    create(p);
    s = survivor_start(p, hold);
    crash_until(p, mp_load_seqcst(&s->result) == 1, "the holder");
}

static void start_waiter(struct point *p)
{
    survivor_wait_asleep(survivor_start(p, acquire_once));
}

static void start_holder_and_waiter(struct point *p)
{
    start_holder(p);
    start_waiter(p);
}

static void start_two_waiters(struct point *p)
{
    start_waiter(p);
    start_waiter(p);
}

/* The holder lets go. */
static void let_go(struct point *p)
{
    mp_store_seqcst(&p->survivors[0].go, 1);
}

/* Whoever else stands where. */
static void see_it_end(struct point *p)
{
    let_go(p);
    crash_until(p, mp_load_seqcst(&p->survivors[0].done), "the holder is done");
}

static void start_waiter_and_let_go(struct point *p)
{
    start_waiter(p);
    let_go(p);
}

/* A process that dies with the lock, in the middle of what it protects. */
static void acquire_and_stop(struct point *p)
{
    crash_must(p, lock_acquire(p, 0));
    p->note->a++;
}

static void nothing(struct point *p)
{
    (void)p;
}

static void leave_dead_owner(struct point *p)
{
    struct victim v;

    create(p);
    crash_fork(p, &v, acquire_and_stop, nothing);
    stepper_kill(&v);
    crash_until(p, survivors_are_alone(p), "the sweep after the first owner");
}

/* ---- victims ---- */

static void acquire(struct point *p)
{
    crash_must(p, lock_acquire(p, 0));
    critical(p, 0);
}

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

static void acquire_and_release(struct point *p)
{
    int r = lock_acquire(p, MP_FOREVER);

    if (r < 0)
        return;
    critical(p, r);
    lock_release(p);
}

static void release(struct point *p)
{
    lock_release(p);
}

static void try(struct point *p)
{
    if (lock_acquire(p, 0) != -EAGAIN)
        mp_store_seqcst(&p->note->stage, 1);
}

static void time_out(struct point *p)
{
    if (lock_acquire(p, MP_MSEC(2)) != -ETIMEDOUT)
        mp_store_seqcst(&p->note->stage, 1);
}

/* ---- after the kill ---- */

static void use_it(struct point *p)
{
    int r = lock_acquire(p, survivors_timeout(p));

    if (r < 0) {
        crash_abort(p, "the survivor did not get the lock: %d", r);
        return;
    }
    critical(p, r);
    crash_check(p, lock_release(p) == 0);
    crash_check(p, lock_release(p) == -EPERM);
    crash_check(p, p->note->stage == 0);
    lock_destroy(p);
}

static void check(struct point *p)
{
    if (p->n_survivors)
        let_go(p);
    survivors_join(p);
    use_it(p);
}

/* Killed as soon as its keeper had a slot it holds nothing, and nobody watches it yet: it is found
 * by the next look round, of who attaches or has slept for a second. */
static void look_and_check(struct point *p)
{
    mp_liveness_check(p->arena);
    check(p);
}

/* clang-format off */
#define SCENARIOS(kind, of, whole)                                                               \
    {.name = kind ": acquire and release", .detail = of, .begin = create, .prepare = join,       \
     .operate = acquire_and_release, .after = check},                                            \
    {.name = kind ": acquire, behind a waiter", .detail = of, .begin = start_holder_and_waiter,  \
     .prepare = join, .operate = acquire_and_release, .asleep = let_go, .after = check},         \
    {.name = kind ": acquire, before a waiter", .detail = of, .begin = start_holder,             \
     .prepare = join, .operate = acquire_and_release, .asleep = start_waiter_and_let_go,         \
     .after = check},                                                                            \
    {.name = kind ": acquire from a dead owner", .detail = of, .begin = leave_dead_owner,        \
     .prepare = join, .operate = acquire_and_release, .after = check},                           \
    {.name = kind ": release, two asleep", .detail = of, .begin = create, .prepare = acquire,    \
     .ready = start_two_waiters, .operate = release, .after = check},                            \
    {.name = kind ": acquire, stopped, goes on", .detail = of, .begin = start_holder,            \
     .prepare = join, .operate = acquire_and_release, .asleep = let_go, .meanwhile = see_it_end, \
     .goes_on = true, .anywhere = whole, .after = check},                                        \
    {.name = kind ": try, held", .detail = of, .begin = start_holder, .prepare = join,           \
     .operate = try, .after = check},                                                            \
    {.name = kind ": acquire, timed out", .detail = of, .begin = start_holder_and_waiter,        \
     .prepare = join, .operate = time_out, .after = check}
/* clang-format on */

static const struct scenario scenarios[] = {
    {.name = "lock: acquire, first use of the arena",
     .begin = create,
     .operate = acquire_and_release,
     .after = look_and_check},
    SCENARIOS("lock", NULL, false),
    SCENARIOS("locks", &many, true),
};

const struct group crash_locks = {"locks", scenarios, MP_ARRAY_SIZE(scenarios)};
