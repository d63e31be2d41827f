/* SPDX-License-Identifier: MIT */
/*
 * The semaphore: of permits, whose units come back from the dead, and of signals, whose units stay
 * posted.
 *
 * Afterwards the count has to be exact. For permits: all units are there but those that survivors
 * hold, and the ledger says the same. For signals: what was posted for sure is there or was
 * acquired, and nothing else.
 */

#include <errno.h>

#include <mp/semaphore.h>

#include "arena/liveness.h"
#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"

/* Of the semaphore in the scenario that runs. */
struct detail {
    uint32_t value;
    uint32_t flags;
    uint32_t held; /* by the tracer's process, before and after */
    uint32_t n;    /* that the victim acquires or releases */
};

static mp_semaphore *semaphore;
static mp_a32 acquired; /* by survivors, for good */
static uint32_t posted; /* by the tracer, afterwards */
static uint32_t extra;  /* acquired by the tracer while the victim stood, and still held */

static const struct detail *detail(const struct point *p)
{
    return p->scenario->detail;
}

/* ---- before ---- */

static void create(struct point *p)
{
    mp_store_seqcst(&acquired, 0);
    posted = extra = 0;
    crash_must(p, mp_semaphore_create(
                      p->arena, "semaphore",
                      MP_SEMAPHORE_OPTIONS(.value = detail(p)->value, .flags = detail(p)->flags),
                      &semaphore));
    for (uint32_t i = 0; i < detail(p)->held; i++)
        crash_must(p, mp_semaphore_try(semaphore));
}

/* ---- survivors ---- */

static void use_once(struct point *p, struct survivor *s)
{
    s->result = mp_semaphore_acquire(semaphore, MP_FOREVER);
    if (s->result < 0)
        crash_fail(p, "a survivor got no unit: %d", s->result);
    else
        crash_check(p, mp_semaphore_release(semaphore, 1) == 0);
}

static void take_once(struct point *p, struct survivor *s)
{
    s->result = mp_semaphore_acquire(semaphore, MP_FOREVER);
    if (s->result < 0)
        crash_fail(p, "a survivor got no signal: %d", s->result);
    else
        atomic_fetch_add(&acquired, 1);
}

static void hold(struct point *p, struct survivor *s)
{
    for (uint32_t i = 0; i < detail(p)->value; i++)
        crash_must(p, mp_semaphore_try(semaphore));
    mp_store_seqcst(&s->result, 1);
    while (!mp_load_seqcst(&s->go))
        crash_pause();
    for (uint32_t i = 0; i < detail(p)->value; i++)
        crash_check(p, mp_semaphore_release(semaphore, 1) == 0);
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
    survivor_wait_asleep(survivor_start(p, use_once));
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

static void start_taker(struct point *p)
{
    survivor_wait_asleep(survivor_start(p, take_once));
}

static void start_two_takers(struct point *p)
{
    start_taker(p);
    start_taker(p);
}

static void create_and_start_taker(struct point *p)
{
    create(p);
    start_taker(p);
}

/* The holder lets go. */
static void let_go(struct point *p)
{
    mp_store_seqcst(&p->survivors[0].go, 1);
}

static void start_waiter_and_let_go(struct point *p)
{
    start_waiter(p);
    let_go(p);
}

static void post_two(struct point *p)
{
    posted = 2;
    crash_must(p, mp_semaphore_release(semaphore, 2));
}

/* Somebody else was the last to use it. */
static void use_it_as_another(struct point *p)
{
    crash_must(p, mp_semaphore_try(semaphore));
}

/* While the victim stands, in the middle of it or not. */
static void work_beside(struct point *p)
{
    for (int i = 0; i < 3; i++)
        crash_must(p, mp_semaphore_try(semaphore));
    crash_must(p, mp_semaphore_release(semaphore, 2));
    extra = 1;
}

/* ---- victims ---- */

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

static void acquire(struct point *p)
{
    for (uint32_t i = 0; i < detail(p)->n; i++)
        crash_must(p, mp_semaphore_try(semaphore));
}

static void acquire_and_release(struct point *p)
{
    (void)p;
    if (mp_semaphore_acquire(semaphore, MP_FOREVER) == 0)
        mp_semaphore_release(semaphore, 1);
}

static void acquire_one(struct point *p)
{
    if (mp_semaphore_acquire(semaphore, MP_FOREVER) == 0)
        mp_store_seqcst(&p->note->stage, 1);
}

static void release(struct point *p)
{
    mp_semaphore_release(semaphore, detail(p)->n);
    mp_store_seqcst(&p->note->stage, 1);
}

static void time_out(struct point *p)
{
    if (mp_semaphore_acquire(semaphore, MP_MSEC(2)) != -ETIMEDOUT)
        crash_fail(p, "it did not time out");
}

/* ---- after the kill ---- */

static uint32_t held_by_us(struct point *p)
{
    struct mp_semaphore_holder holders[8];
    int n = mp_semaphore_holders(semaphore, holders, MP_ARRAY_SIZE(holders));

    crash_check(p, n >= 0 && n <= 1);
    if (n < 1)
        return 0;
    crash_check(p, holders[0].self == 1);
    return holders[0].units;
}

/* All of them are there, and the ledger and the word agree. */
static void count_permits(struct point *p)
{
    const struct detail *d = detail(p);
    uint32_t held = held_by_us(p);
    uint32_t left = d->value - d->held;

    if (mp_semaphore_value(semaphore) != (int)left || held != d->held) {
        crash_fail(p, "%d free and %u held, of %u and %u", mp_semaphore_value(semaphore), held,
                   left, d->held);
        return;
    }
    for (uint32_t i = 0; i < left; i++)
        crash_check(p, mp_semaphore_try(semaphore) == 0);
    crash_check(p, mp_semaphore_try(semaphore) == -EAGAIN);
    for (uint32_t i = 0; i < d->value; i++)
        crash_check(p, mp_semaphore_release(semaphore, 1) == 0);
    crash_check(p, held_by_us(p) == 0);
    crash_must(p, mp_semaphore_destroy(semaphore));
    semaphore = mp_semaphore_close(semaphore);
}

static void check(struct point *p)
{
    if (p->n_survivors)
        let_go(p);
    survivors_join(p);
    survivors_wait_swept(p);
    count_permits(p);
}

/* The tracer's one unit of use_it_as_another() goes back first. */
static void give_and_check(struct point *p)
{
    survivors_wait_swept(p);
    crash_check(p, mp_semaphore_release(semaphore, 1) == 0);
    check(p);
}

static void give_extra_and_check(struct point *p)
{
    survivors_wait_swept(p);
    crash_check(p, held_by_us(p) == detail(p)->held + extra);
    crash_check(p, extra == 0 || mp_semaphore_release(semaphore, extra) == 0);
    count_permits(p);
}

/* Killed as soon as its keeper had a slot: nobody watches it yet. */
static void look_and_check(struct point *p)
{
    mp_liveness_check(p->arena);
    check(p);
}

/* So many were posted, or, if the victim was killed before it was done, fewer. */
static void count_signals(struct point *p, uint32_t least, uint32_t most)
{
    uint32_t there = (uint32_t)mp_semaphore_value(semaphore) + mp_load_seqcst(&acquired);

    if (there < least || there > most)
        crash_fail(p, "%u are there, not %u to %u", there, least, most);
    crash_must(p, mp_semaphore_destroy(semaphore));
    semaphore = mp_semaphore_close(semaphore);
}

/* The victim posted. Those who have nothing to take get it from the tracer. */
static void check_posts(struct point *p)
{
    uint32_t n = detail(p)->n, before = detail(p)->value, takers = p->n_survivors;
    bool done = mp_load_seqcst(&p->note->stage);

    survivors_wait_swept(p);
    if (done)
        survivors_join(p);
    if (mp_semaphore_value(semaphore) == 0 && mp_load_seqcst(&acquired) < takers) {
        posted = takers;
        crash_must(p, mp_semaphore_release(semaphore, posted));
    }
    survivors_join(p);
    crash_check(p, mp_load_seqcst(&acquired) == takers);
    count_signals(p, before + posted + (done ? n : 0), before + posted + n);
}

/* The victim acquired one, or not, of those that the tracer posted. */
static void check_taken(struct point *p)
{
    bool done = mp_load_seqcst(&p->note->stage);
    uint32_t takers = p->n_survivors;

    survivors_wait_swept(p);
    if (!p->woken)
        post_two(p);
    survivors_join(p);
    crash_check(p, mp_load_seqcst(&acquired) == takers);
    count_signals(p, detail(p)->value + posted - 1, detail(p)->value + posted - (done ? 1 : 0));
}

/* ---- those who sweep are killed, too ---- */

/* One died with units that are in the ledger, for the tracer acquired after it; another one with
 * units that only the word tells of. The victim sweeps after both: its keeper is stopped, so that
 * nothing happens before it is stepped. */
static void die_holding(struct point *p)
{
    struct victim keeper = {.pid = p->victim.pid};
    struct victim first, second;

    crash_until(p, (keeper.tid = crash_thread(keeper.pid, "mp-keeper")) != 0, "a keeper");
    crash_until(p, stepper_state(keeper.pid, keeper.tid) == 'S', "a keeper asleep");
    crash_must(p, stepper_seize(&keeper));
    p->victim.held = keeper.tid;
    crash_fork(p, &first, acquire, join);
    crash_must(p, mp_semaphore_try(semaphore));
    crash_fork(p, &second, acquire, join);
    stepper_kill(&first);
    stepper_kill(&second);
}

static void sweep(struct point *p)
{
    mp_liveness_check(p->arena);
}

/* clang-format off */
#define OF(...) .detail = &(const struct detail){__VA_ARGS__}
#define SIGNALS .flags = MP_SEMAPHORE_SIGNALS

static const struct scenario scenarios[] = {
    {.name = "permits: acquire and release", OF(.value = 2),
     .begin = create, .prepare = join, .operate = acquire_and_release, .after = check},
    {.name = "permits: acquire, first use of the arena", OF(.value = 2),
     .begin = create, .operate = acquire_and_release, .after = look_and_check},
    {.name = "permits: acquire, after another", OF(.value = 3, .held = 1),
     .begin = create, .prepare = join, .operate = acquire_and_release, .after = check},
    {.name = "permits: after another, stopped", OF(.value = 6, .held = 1),
     .begin = create, .prepare = join, .operate = acquire_and_release, .meanwhile = work_beside,
     .after = give_extra_and_check},
    {.name = "permits: after another, stopped, goes on", OF(.value = 6, .held = 1),
     .begin = create, .prepare = join, .operate = acquire_and_release, .meanwhile = work_beside,
     .goes_on = true, .after = give_extra_and_check},
    {.name = "permits: acquire, after another, and keep", OF(.value = 3, .n = 1),
     .begin = create, .prepare = acquire, .ready = use_it_as_another, .operate = acquire,
     .after = give_and_check},
    {.name = "permits: acquire, the word is full", OF(.value = 40, .n = 31),
     .begin = create, .prepare = acquire, .operate = acquire_and_release, .after = check},
    {.name = "permits: acquire, behind a waiter", OF(.value = 1),
     .begin = start_holder_and_waiter, .prepare = join, .operate = acquire_and_release,
     .asleep = let_go, .after = check},
    {.name = "permits: acquire, before a waiter", OF(.value = 1),
     .begin = start_holder, .prepare = join, .operate = acquire_and_release,
     .asleep = start_waiter_and_let_go, .after = check},
    {.name = "permits: acquire, timed out", OF(.value = 1),
     .begin = start_holder_and_waiter, .prepare = join, .operate = time_out, .after = check},
    {.name = "permits: release, two asleep", OF(.value = 2, .n = 2),
     .begin = create, .prepare = acquire, .ready = start_two_waiters, .operate = release,
     .after = check},
    {.name = "permits: release, after another", OF(.value = 4, .n = 2),
     .begin = create, .prepare = acquire, .ready = use_it_as_another, .operate = release,
     .after = give_and_check},
    {.name = "permits: release, more than the word can tell", OF(.value = 70, .n = 70),
     .begin = create, .prepare = acquire, .operate = release, .after = check},
    {.name = "signals: post, one asleep", OF(.n = 1, SIGNALS),
     .begin = create_and_start_taker, .prepare = join, .operate = release, .after = check_posts},
    {.name = "signals: post two, two asleep", OF(.n = 2, SIGNALS),
     .begin = create, .prepare = join, .ready = start_two_takers, .operate = release,
     .after = check_posts},
    {.name = "signals: acquire, behind a waiter", OF(.n = 1, SIGNALS),
     .begin = create_and_start_taker, .prepare = join, .operate = acquire_one,
     .asleep = post_two, .after = check_taken},
    {.name = "signals: acquire", OF(.value = 2, SIGNALS),
     .begin = create, .prepare = join, .operate = acquire_one, .after = check_taken},
    {.name = "permits: the sweep", OF(.value = 8, .held = 1, .n = 2),
     .begin = create, .prepare = join, .ready = die_holding, .operate = sweep,
     .after = give_and_check, .states = true, .participants = 12},
};
/* clang-format on */

const struct group crash_semaphores = {"semaphores", scenarios, MP_ARRAY_SIZE(scenarios)};
