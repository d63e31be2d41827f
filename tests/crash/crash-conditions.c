/* SPDX-License-Identifier: MIT */
/*
 * The condition: waiter and notifier are the victims, and who sweeps after waiters.
 *
 * A survivor that waits goes on once it is notified; or the notification went to the victim, who
 * came out of its wait, or died with the lock in its hands, which the next owner is told. As with
 * locks, two counters are counted together under the lock.
 */

#include <errno.h>
#include <limits.h>
#include <sys/ptrace.h>

#include <mp/condition.h>

#include "arena/liveness.h"
#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"
#include "kernel/futex.h"
#include "sync/condition.h"

/* Of the point that runs. */
static mp_condition *cond;
static mp_rlock *rlock;
static struct victim other;
static uint64_t at_first; /* the condition's state */

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

static void acquire(struct point *p)
{
    int r = mp_lock_acquire(p->lock, MP_FOREVER);

    crash_must(p, r);
    critical(p, r);
}

static void release(struct point *p)
{
    crash_must(p, mp_lock_release(p->lock));
}

static void notify(struct point *p, uint32_t n)
{
    acquire(p);
    crash_must(p, mp_condition_notify(cond, p->lock, n));
    release(p);
}

/* ---- survivors ---- */

static void wait_once(struct point *p, struct survivor *s)
{
    acquire(p);
    s->result = mp_condition_wait(cond, p->lock, MP_FOREVER);
    if (s->result < 0) {
        crash_fail(p, "a survivor's wait: %d", s->result);
        return;
    }
    critical(p, s->result);
    release(p);
}

static void start_waiter(struct point *p)
{
    survivor_wait_asleep(survivor_start(p, wait_once));
}

static void create(struct point *p)
{
    crash_must(p, mp_lock_create(p->arena, "lock", &p->lock));
    crash_must(p, mp_rlock_create(p->arena, "rlock", &rlock));
    crash_must(p, mp_condition_create(p->arena, "cond", &cond));
    at_first = mp_load_seqcst(cond->object.value);
}

static void start_one(struct point *p)
{
    create(p);
    start_waiter(p);
}

static void start_two(struct point *p)
{
    start_one(p);
    start_waiter(p);
}

static void notify_one(struct point *p)
{
    notify(p, 1);
}

static void notify_two(struct point *p)
{
    notify(p, 2);
}

static void start_waiter_and_notify(struct point *p)
{
    start_waiter(p);
    notify(p, 1);
}

/* The first notification is for the survivor that slept first; the second for the victim, which
 * is the last of the older group when there is a younger one. */
static void notify_two_groups(struct point *p)
{
    notify(p, 1);
    crash_until(p, mp_load_seqcst(&p->survivors[0].done), "the first to be notified");
    start_waiter(p);
    notify(p, 1);
}

/* ---- victims ---- */

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

static void acquire_first(struct point *p)
{
    join(p);
    crash_must(p, mp_lock_acquire(p->lock, 0));
    critical(p, 0);
}

static void wait_and_release(struct point *p)
{
    int r = mp_lock_acquire(p->lock, MP_FOREVER);

    if (r < 0)
        return;
    critical(p, r);
    r = mp_condition_wait(cond, p->lock, MP_FOREVER);
    mp_store_seqcst(&p->note->stage, 1);
    critical(p, r);
    mp_lock_release(p->lock);
}

static void wait_and_release_rlock(struct point *p)
{
    if (mp_rlock_acquire(rlock, MP_FOREVER) < 0)
        return;
    mp_rlock_acquire(rlock, 0);
    mp_condition_wait_rlock(cond, rlock, MP_FOREVER);
    mp_store_seqcst(&p->note->stage, 1);
    if (mp_rlock_count(rlock) != 2)
        mp_store_seqcst(&p->note->complaints, 1);
    mp_rlock_release(rlock);
    mp_rlock_release(rlock);
}

static void wait_in_vain(struct point *p)
{
    int r = mp_lock_acquire(p->lock, MP_FOREVER);

    if (r < 0)
        return;
    critical(p, r);
    if (mp_condition_wait(cond, p->lock, MP_MSEC(1)) == 0)
        mp_store_seqcst(&p->note->complaints, 1);
    critical(p, 0);
    mp_lock_release(p->lock);
}

static void notify_and_release(struct point *p)
{
    mp_condition_notify(cond, p->lock, 1);
    mp_store_seqcst(&p->note->stage, 1);
    mp_lock_release(p->lock);
}

static void notify_all_and_release(struct point *p)
{
    mp_condition_notify_all(cond, p->lock);
    mp_store_seqcst(&p->note->stage, 2);
    mp_lock_release(p->lock);
}

/* ---- after the kill ---- */

/* All are gone: no notification is left over for those who come now. */
static void finish(struct point *p)
{
    survivors_join(p);
    survivors_wait_swept(p);
    acquire(p);
    crash_check(p, mp_condition_wait(cond, p->lock, 0) == -EAGAIN);
    release(p);
    crash_must(p, mp_condition_destroy(cond));
    crash_must(p, mp_rlock_destroy(rlock));
    crash_must(p, mp_lock_destroy(p->lock));
    cond = mp_condition_close(cond);
    rlock = mp_rlock_close(rlock);
}

/* Was it notified while it waited, and not the lock's owner when it was killed, then those who are
 * left go on without a further notification. */
static void check_waiters(struct point *p)
{
    int r = mp_lock_acquire(p->lock, survivors_timeout(p));
    bool is_owed = r == 0 && p->woken && !mp_load_seqcst(&p->note->stage);

    crash_must(p, r);
    critical(p, r);
    if (!is_owed)
        crash_must(p, mp_condition_notify_all(cond, p->lock));
    release(p);
    finish(p);
}

static void check_rlock(struct point *p)
{
    int r = mp_rlock_acquire(rlock, survivors_timeout(p));

    crash_must(p, r);
    crash_check(p, mp_rlock_count(rlock) == 1);
    crash_must(p, mp_rlock_release(rlock));
    finish(p);
}

static void notify_rlock(struct point *p)
{
    crash_must(p, mp_rlock_acquire(rlock, MP_FOREVER));
    crash_must(p, mp_condition_notify_rlock(cond, rlock, 1));
    crash_must(p, mp_rlock_release(rlock));
}

static unsigned done(const struct point *p)
{
    unsigned n = 0;

    for (unsigned i = 0; i < p->n_survivors; i++)
        n += mp_load_seqcst(&p->survivors[i].done);
    return n;
}

/* What was notified when the call returned, is. */
static void check_notified(struct point *p)
{
    uint32_t notified = mp_load_seqcst(&p->note->stage);

    crash_until(p, done(p) >= notified, "those who were notified");
    notify(p, 2);
    finish(p);
}

/* ---- a waiter that is about to sleep ---- */

static void wait_aside(struct point *p)
{
    crash_must(p, mp_lock_acquire(p->lock, MP_FOREVER));
    if (mp_condition_wait(cond, p->lock, MP_FOREVER) < 0)
        mp_store_seqcst(&p->note->complaints, 1);
    mp_store_seqcst(&p->note->gate, 1);
    mp_lock_release(p->lock);
}

static bool is_about_to_sleep(const struct point *p)
{
    (void)p;
    return mp_load_seqcst(cond->object.word) & 1;
}

static void start_sleeper(struct point *p)
{
    static struct survey way;

    create(p);
    crash_fork(p, &other, join, wait_aside);
    crash_step_until(p, &other, is_about_to_sleep, &way);
}

static bool only_the_victim_is_gone(const struct point *p)
{
    const struct mp_arena *a = p->arena;
    unsigned n = 0;

    for (uint32_t s = 0; s < a->geometry.participants; s++)
        n += (uint32_t)mp_load_seqcst(&a->slots[s].state) != 0;
    return n == 2 && mp_load_seqcst(&a->header->recovery) == 0;
}

static void check_sleeper(struct point *p)
{
    bool dealt;

    crash_until(p, only_the_victim_is_gone(p), "the sweep");
    /* Whom the state lets go does so by himself: a further notification would wake him. */
    dealt = mp_load_seqcst(cond->object.value) != at_first;
    crash_check(p, dealt || !mp_load_seqcst(&p->note->stage));
    ptrace(PTRACE_CONT, other.pid, NULL, NULL);
    if (!dealt)
        notify(p, 1);
    crash_until(p, mp_load_seqcst(&p->note->gate), "the one who was about to sleep");
    stepper_kill(&other);
    finish(p);
}

/* ---- a waiter that is told, and sleeps again ---- */

/* How many threads of the survivors, or of the victim. */
static unsigned waiting_for(const struct point *p, uint32_t kind, bool ours)
{
    const struct mp_arena *a = p->arena;
    unsigned n = 0;

    for (uint32_t i = 0; i < a->geometry.participants * MP_WAIT_RECORDS_PER_SLOT; i++)
        n += (i / MP_WAIT_RECORDS_PER_SLOT == a->self->slot) == ours &&
             mp_load_seqcst(&a->waits[i].who) != 0 &&
             (mp_load_relaxed(&a->waits[i].what) >> 16 & 0xff) == kind;
    return n;
}

/* Asleep for the lock, or killed before it came to that. */
static bool victim_waits(const struct point *p, struct survivor *s)
{
    return mp_load_seqcst(&s->go) || (waiting_for(p, MP_WAIT_LOCK, false) &&
                                      stepper_state(p->victim.pid, p->victim.tid) == 'S');
}

static bool waiter_waits(const struct point *p, struct survivor *s)
{
    return mp_load_seqcst(&s->go) || waiting_for(p, MP_WAIT_LOCK, true);
}

/* Notifies the victim, and lets the other waiter see the token, too, as a sweep would; both of them
 * then wait for the lock, the victim first. */
static void tempt(struct point *p, struct survivor *s)
{
    acquire(p);
    crash_must(p, mp_condition_notify(cond, p->lock, 1));
    crash_until(p, victim_waits(p, s), "the victim waits for the lock");
    mp_futex_wake(cond->object.word, INT_MAX);
    crash_until(p, waiter_waits(p, s), "the other waiter waits for the lock");
    survivor_wait_asleep(&p->survivors[0]);
    release(p);
}

static void start_waiter_and_tempt(struct point *p)
{
    start_waiter(p);
    survivor_start(p, tempt);
}

static void check_tempted(struct point *p)
{
    if (p->woken) {
        mp_store_seqcst(&p->survivors[1].go, 1);
        crash_until(p, mp_load_seqcst(&p->survivors[1].done), "the one who notifies");
        crash_until(p, survivors_are_alone(p), "the sweep");
        crash_until(
            p, mp_load_seqcst(&p->survivors[0].done) || waiting_for(p, MP_WAIT_CONDITION, true),
            "the waiter asleep again");
    }
    notify(p, 2);
    finish(p);
}

/* ---- those who sweep are killed, too ---- */

static uint32_t slot_of(const struct point *p, const struct victim *v)
{
    const struct mp_arena *a = p->arena;

    for (uint32_t s = 0; s < a->geometry.participants; s++)
        if ((mp_load_seqcst(&a->slots[s].id) & 0xffffffff) == (uint64_t)v->pid)
            return s;
    return UINT32_MAX;
}

/* It has its share, and the lock is nobody's any more. */
static bool waits_aside(const struct point *p)
{
    uint32_t slot = slot_of(p, &other);

    return slot != UINT32_MAX && mp_load_seqcst(mp_object_share(&cond->object, slot)) != 0 &&
           (mp_load_seqcst(p->lock->object.word) & ~MP_TOKEN_WAITERS) == 0;
}

static void start_to_wait(struct point *p, struct survey *way)
{
    crash_fork(p, &other, join, wait_aside);
    crash_step_until(p, &other, waits_aside, way);
}

/* It dies in the open group, beside a survivor that nobody notified. */
static void leave_one_dead(struct point *p)
{
    static struct survey way;

    crash_hold_keeper(p);
    start_to_wait(p, &way);
    start_waiter(p);
    stepper_kill(&other);
}

/* One was notified when it was the last of the older group, and dies; another one dies that nobody
 * notified. Between them a survivor waits, which nobody will notify any more. */
static void leave_two_dead(struct point *p)
{
    static struct survey way, way_of_second;
    struct victim first;

    crash_hold_keeper(p);
    start_to_wait(p, &way);
    first = other;
    start_waiter(p);
    notify_two_groups(p);
    start_to_wait(p, &way_of_second);
    stepper_kill(&first);
    stepper_kill(&other);
}

static void sweep(struct point *p)
{
    mp_liveness_check(p->arena);
}

static void check_swept(struct point *p)
{
    survivors_wait_swept(p);
    for (uint32_t s = 0; s < p->arena->geometry.participants; s++)
        if (s != p->arena->self->slot)
            crash_check(p, mp_load_seqcst(mp_object_share(&cond->object, s)) == 0);
    finish(p);
}

static void notify_and_check_swept(struct point *p)
{
    crash_until(p, survivors_are_alone(p), "the sweep");
    notify(p, 1);
    check_swept(p);
}

static void join_and_check_swept(struct point *p)
{
    survivors_join(p);
    check_swept(p);
}

static const struct scenario scenarios[] = {
    {.name = "condition: wait, notified",
     .begin = create,
     .prepare = join,
     .operate = wait_and_release,
     .asleep = notify_one,
     .after = check_waiters},
    {.name = "condition: wait, behind a waiter",
     .begin = start_one,
     .prepare = join,
     .operate = wait_and_release,
     .asleep = notify_two,
     .after = check_waiters},
    {.name = "condition: wait, before a waiter",
     .begin = create,
     .prepare = join,
     .operate = wait_and_release,
     .asleep = start_waiter_and_notify,
     .after = check_waiters},
    {.name = "condition: wait, two groups",
     .begin = start_one,
     .prepare = join,
     .operate = wait_and_release,
     .asleep = notify_two_groups,
     .after = check_waiters},
    {.name = "condition: wait, rlock",
     .begin = create,
     .prepare = join,
     .operate = wait_and_release_rlock,
     .asleep = notify_rlock,
     .after = check_rlock},
    {.name = "condition: wait, timed out",
     .begin = start_one,
     .prepare = join,
     .operate = wait_in_vain,
     .after = check_waiters},
    {.name = "condition: wait, another takes the token",
     .begin = create,
     .prepare = join,
     .operate = wait_and_release,
     .asleep = start_waiter_and_tempt,
     .after = check_tempted},
    {.name = "condition: notify, two asleep",
     .begin = start_two,
     .prepare = acquire_first,
     .operate = notify_and_release,
     .after = check_notified},
    {.name = "condition: notify all, two asleep",
     .begin = start_two,
     .prepare = acquire_first,
     .operate = notify_all_and_release,
     .after = check_notified},
    {.name = "condition: notify, a waiter about to sleep",
     .begin = start_sleeper,
     .prepare = acquire_first,
     .operate = notify_and_release,
     .after = check_sleeper},
    {.name = "condition: sweep after a waiter",
     .begin = create,
     .prepare = join,
     .ready = leave_one_dead,
     .operate = sweep,
     .after = notify_and_check_swept,
     .states = true},
    {.name = "condition: sweep after one that was notified",
     .begin = create,
     .prepare = join,
     .ready = leave_two_dead,
     .operate = sweep,
     .after = join_and_check_swept,
     .states = true},
};

const struct group crash_conditions = {"conditions", scenarios, MP_ARRAY_SIZE(scenarios)};
