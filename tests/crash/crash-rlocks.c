/* SPDX-License-Identifier: MIT */
/*
 * The recursive lock, and the event.
 *
 * What the lock protects are two counters that are counted together, one of them deeper in it than
 * the other. They may differ only for somebody who was told that the last owner died.
 */

#include <errno.h>

#include <mp/event.h>
#include <mp/rlock.h>

#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"

/* Of the point that runs. */
static mp_rlock *lock;
static mp_event *event;

static void nothing(struct point *p)
{
    (void)p;
}

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

/* ---- the recursive lock ---- */

/* By who has it once. */
static void critical(struct point *p, int acquired)
{
    struct note *n = p->note;

    if (mp_rlock_count(lock) != 1)
        crash_fail(p, "held %d times by one who took it once", mp_rlock_count(lock));
    if (acquired == MP_OWNER_DIED)
        n->a = n->b;
    else if (n->a != n->b)
        crash_fail(p, "the counters differ, and nobody was told");
    n->a++;
    crash_check(p, mp_rlock_acquire(lock, 0) == 0);
    n->b++;
    crash_check(p, mp_rlock_release(lock) == 0);
}

static void acquire_once(struct point *p, struct survivor *s)
{
    s->result = mp_rlock_acquire(lock, MP_FOREVER);
    if (s->result < 0) {
        crash_fail(p, "a survivor did not get the lock: %d", s->result);
        return;
    }
    critical(p, s->result);
    crash_check(p, mp_rlock_release(lock) == 0);
}

static void hold(struct point *p, struct survivor *s)
{
    crash_must(p, mp_rlock_acquire(lock, MP_FOREVER));
    mp_store_seqcst(&s->result, 1);
    while (!mp_load_seqcst(&s->go))
        crash_pause();
    critical(p, 0);
    crash_check(p, mp_rlock_release(lock) == 0);
}

static void create_rlock(struct point *p)
{
    crash_must(p, mp_rlock_create(p->arena, "rlock", &lock));
}

static void start_holder(struct point *p)
{
    struct survivor *s;

    create_rlock(p);
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

static void let_go(struct point *p)
{
    mp_store_seqcst(&p->survivors[0].go, 1);
}

static void start_waiter_and_let_go(struct point *p)
{
    start_waiter(p);
    let_go(p);
}

static void acquire_and_stop(struct point *p)
{
    crash_must(p, mp_rlock_acquire(lock, 0));
    crash_must(p, mp_rlock_acquire(lock, 0));
    p->note->a++;
}

static void leave_dead_owner(struct point *p)
{
    struct victim v;

    create_rlock(p);
    crash_fork(p, &v, acquire_and_stop, nothing);
    stepper_kill(&v);
    crash_until(p, survivors_are_alone(p), "the sweep after the first owner");
}

static void acquire_twice(struct point *p)
{
    crash_must(p, mp_rlock_acquire(lock, 0));
    critical(p, 0);
    crash_must(p, mp_rlock_acquire(lock, 0));
}

static void acquire_and_release(struct point *p)
{
    int r = mp_rlock_acquire(lock, MP_FOREVER);

    if (r < 0)
        return;
    critical(p, r);
    mp_rlock_release(lock);
}

static void release_twice(struct point *p)
{
    (void)p;
    mp_rlock_release(lock);
    mp_rlock_release(lock);
}

static void time_out(struct point *p)
{
    if (mp_rlock_acquire(lock, MP_MSEC(2)) != -ETIMEDOUT)
        mp_store_seqcst(&p->note->stage, 1);
}

static void check_rlock(struct point *p)
{
    int r;

    if (p->n_survivors)
        let_go(p);
    survivors_join(p);
    r = mp_rlock_acquire(lock, survivors_timeout(p));
    if (r < 0)
        crash_abort(p, "the survivor did not get the lock: %d", r);
    critical(p, r);
    crash_check(p, mp_rlock_release(lock) == 0);
    crash_check(p, mp_rlock_release(lock) == -EPERM);
    crash_check(p, p->note->stage == 0);
    crash_must(p, mp_rlock_destroy(lock));
    lock = mp_rlock_close(lock);
}

static const struct scenario rlocks[] = {
    {.name = "rlock: acquire twice and release",
     .begin = create_rlock,
     .prepare = join,
     .operate = acquire_and_release,
     .after = check_rlock},
    {.name = "rlock: acquire, behind a waiter",
     .begin = start_holder_and_waiter,
     .prepare = join,
     .operate = acquire_and_release,
     .asleep = let_go,
     .after = check_rlock},
    {.name = "rlock: acquire, before a waiter",
     .begin = start_holder,
     .prepare = join,
     .operate = acquire_and_release,
     .asleep = start_waiter_and_let_go,
     .after = check_rlock},
    {.name = "rlock: acquire from a dead owner",
     .begin = leave_dead_owner,
     .prepare = join,
     .operate = acquire_and_release,
     .after = check_rlock},
    {.name = "rlock: release twice, two asleep",
     .begin = create_rlock,
     .prepare = acquire_twice,
     .ready = start_two_waiters,
     .operate = release_twice,
     .after = check_rlock},
    {.name = "rlock: acquire, timed out",
     .begin = start_holder_and_waiter,
     .prepare = join,
     .operate = time_out,
     .after = check_rlock},
};

const struct group crash_rlocks = {"rlocks", rlocks, MP_ARRAY_SIZE(rlocks)};

/* ---- the event ---- */

static void await(struct point *p, struct survivor *s)
{
    s->result = mp_event_wait(event, MP_FOREVER);
    crash_check(p, s->result == 0);
}

static void create_event(struct point *p)
{
    crash_must(p, mp_event_create(p->arena, "event", &event));
}

static void start_waiting(struct point *p)
{
    survivor_wait_asleep(survivor_start(p, await));
}

static void create_and_start_waiting(struct point *p)
{
    create_event(p);
    start_waiting(p);
}

static void start_two_waiting(struct point *p)
{
    create_and_start_waiting(p);
    start_waiting(p);
}

static void set(struct point *p)
{
    crash_must(p, mp_event_set(event));
}

static void start_waiting_and_set(struct point *p)
{
    start_waiting(p);
    set(p);
}

static void set_and_clear(struct point *p)
{
    mp_event_set(event);
    mp_store_seqcst(&p->note->stage, 1);
    mp_event_clear(event);
}

static void operate_set(struct point *p)
{
    mp_event_set(event);
    mp_store_seqcst(&p->note->stage, 1);
}

static void wait_for_it(struct point *p)
{
    if (mp_event_wait(event, MP_FOREVER) != 0)
        mp_store_seqcst(&p->note->complaints, 1);
}

static void wait_in_vain(struct point *p)
{
    if (mp_event_wait(event, MP_MSEC(2)) != -ETIMEDOUT)
        mp_store_seqcst(&p->note->complaints, 1);
}

/* Was it set by the victim, those who waited go on, whatever happened to it since. */
static void check_set(struct point *p)
{
    int is_set = mp_event_is_set(event);

    crash_must(p, is_set);
    if (is_set)
        crash_must(p, mp_event_clear(event));
    else if (!mp_load_seqcst(&p->note->stage))
        set(p);
    survivors_join(p);
    crash_must(p, mp_event_destroy(event));
    event = mp_event_close(event);
}

/* What others set goes on to all who live. */
static void check_waiting(struct point *p)
{
    if (!p->woken)
        set(p);
    crash_check(p, mp_event_is_set(event) == 1);
    survivors_join(p);
    crash_check(p, mp_event_wait(event, 0) == 0);
    crash_must(p, mp_event_destroy(event));
    event = mp_event_close(event);
}

static const struct scenario events[] = {
    {.name = "event: set, two asleep",
     .begin = start_two_waiting,
     .prepare = join,
     .operate = operate_set,
     .after = check_set},
    {.name = "event: set and clear",
     .begin = start_two_waiting,
     .prepare = join,
     .operate = set_and_clear,
     .after = check_set},
    {.name = "event: wait, behind a waiter",
     .begin = create_and_start_waiting,
     .prepare = join,
     .operate = wait_for_it,
     .asleep = set,
     .after = check_waiting},
    {.name = "event: wait, before a waiter",
     .begin = create_event,
     .prepare = join,
     .operate = wait_for_it,
     .asleep = start_waiting_and_set,
     .after = check_waiting},
    {.name = "event: wait, timed out",
     .begin = create_and_start_waiting,
     .prepare = join,
     .operate = wait_in_vain,
     .after = check_waiting},
};

const struct group crash_events = {"events", events, MP_ARRAY_SIZE(events)};
