/* SPDX-License-Identifier: MIT */
/*
 * The barrier: of three parties the victim is one, or the one who breaks it, mends it, or sweeps
 * after another.
 *
 * Whatever happens, those who wait hear of the same end of the same phase. After a member's death
 * the barrier is broken, and a reset mends it. The point's memory is the handle.
 */

#include <errno.h>

#include <mp/barrier.h>

#include "arena/liveness.h"
#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"

#define PARTIES 3

enum { OK, WRONG }; /* note.stage: what the victim found */

static mp_barrier *barrier_of(const struct point *p)
{
    return p->memory;
}

static void create(struct point *p)
{
    mp_barrier *barrier;

    crash_must(p, mp_barrier_create(p->arena, "barrier", PARTIES, NULL, &barrier));
    p->memory = barrier;
}

/* ---- survivors ---- */

static void wait_once(struct point *p, struct survivor *s)
{
    s->result = mp_barrier_wait(barrier_of(p), MP_FOREVER);
    if (s->result < 0 && s->result != -ECONNRESET)
        crash_fail(p, "a survivor that waited got %d", s->result);
    if (s->result >= 0 && p->note->a != p->note->b)
        crash_fail(p, "a survivor passed in the middle of the action");
}

static void start_waiter(struct point *p)
{
    survivor_wait_asleep(survivor_start(p, wait_once));
}

static void start_two(struct point *p)
{
    start_waiter(p);
    start_waiter(p);
}

/* One of them will be the last. */
static void let_two_come(struct point *p)
{
    survivor_start(p, wait_once);
    survivor_start(p, wait_once);
}

static void let_one_come(struct point *p)
{
    survivor_start(p, wait_once);
}

/* ---- victims ---- */

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

static int act(void *user)
{
    struct note *n = user;

    n->a++;
    n->b++;
    return 0;
}

static int fail_to_act(void *user)
{
    struct note *n = user;

    n->a++;
    return -ECANCELED;
}

static void be_member_with(struct point *p, int (*action)(void *user))
{
    mp_barrier *barrier;

    crash_must(p, mp_barrier_open(p->arena, "barrier",
                                  MP_BARRIER_OPTIONS(.action = action, .user = p->note), &barrier));
    p->memory = barrier;
}

static void be_member(struct point *p)
{
    be_member_with(p, NULL);
}

static void be_actor(struct point *p)
{
    be_member_with(p, act);
}

static void be_bad_actor(struct point *p)
{
    be_member_with(p, fail_to_act);
}

static void expect(struct point *p, bool right)
{
    if (!right)
        mp_store_seqcst(&p->note->stage, WRONG);
}

static void wait_and_pass(struct point *p)
{
    int r = mp_barrier_wait(barrier_of(p), MP_FOREVER);

    expect(p, r >= 0 && r < PARTIES);
}

static void wait_and_fail(struct point *p)
{
    expect(p, mp_barrier_wait(barrier_of(p), MP_FOREVER) == -ECANCELED);
}

static void time_out(struct point *p)
{
    expect(p, mp_barrier_wait(barrier_of(p), MP_MSEC(2)) == -ETIMEDOUT);
}

static void break_it(struct point *p)
{
    expect(p, mp_barrier_abort(barrier_of(p)) == 0);
}

static void reset(struct point *p)
{
    expect(p, mp_barrier_reset(barrier_of(p)) == 0);
}

static void open_and_close(struct point *p)
{
    be_member(p);
    mp_barrier_close(barrier_of(p));
}

static void sweep(struct point *p)
{
    mp_liveness_check(p->arena);
}

/* ---- one who dies first ---- */

static void nothing(struct point *p)
{
    (void)p;
}

/* Two wait for a third, who dies; who notices is the victim. */
static void wait_for_dead(struct point *p)
{
    struct victim v;

    crash_hold_keeper(p);
    crash_fork(p, &v, be_member, nothing);
    start_two(p);
    stepper_kill(&v);
}

/* ---- after the kill ---- */

static void pass_it(struct point *p, struct survivor *s)
{
    s->result = mp_barrier_wait(barrier_of(p), survivors_timeout(p));
}

/* Three of the tracer's threads pass it. */
static void use_it(struct point *p)
{
    unsigned seen = 0;

    crash_check(p, mp_barrier_reset(barrier_of(p)) == 0);
    crash_check(p, mp_barrier_broken(barrier_of(p)) == 0);
    crash_check(p, mp_barrier_n_waiting(barrier_of(p)) == 0);
    for (int i = 0; i < PARTIES; i++)
        survivor_start(p, pass_it);
    survivors_join(p);
    for (int i = 0; i < PARTIES; i++)
        seen |= p->survivors[i].result >= 0 ? 1u << p->survivors[i].result : 0;
    if (seen != (1u << PARTIES) - 1)
        crash_fail(p, "after a reset not all passed: %d %d %d", p->survivors[0].result,
                   p->survivors[1].result, p->survivors[2].result);
    crash_check(p, p->note->stage == OK);
    crash_must(p, mp_barrier_destroy(barrier_of(p)));
    p->memory = mp_barrier_close(barrier_of(p));
}

/* All who waited heard the same; has it passed? */
static bool all_passed(struct point *p)
{
    unsigned n = p->n_survivors, passed = 0;

    survivors_join(p);
    for (unsigned i = 0; i < n; i++)
        passed += p->survivors[i].result >= 0;
    if (passed != 0 && passed != n)
        crash_fail(p, "%u of %u passed", passed, n);
    return passed != 0;
}

static void check_broken(struct point *p)
{
    survivors_wait_swept(p);
    crash_check(p, mp_barrier_broken(barrier_of(p)) == 1);
    crash_check(p, mp_barrier_wait(barrier_of(p), MP_FOREVER) == -ECONNRESET);
    use_it(p);
}

/* A member died. If it is over, all have passed. */
static void check(struct point *p)
{
    bool passed;

    if (p->n_survivors == 0)
        let_two_come(p);
    passed = all_passed(p);
    crash_check(p, passed || !mp_load_seqcst(&p->note->done));
    check_broken(p);
}

/* The third may not have come yet. */
static void check_second(struct point *p)
{
    if (p->n_survivors < 2)
        survivor_start(p, wait_once);
    check(p);
}

static void check_action(struct point *p)
{
    bool passed = all_passed(p);

    crash_check(p, !passed || (p->note->a == 1 && p->note->b == 1));
    crash_check(p, passed || !mp_load_seqcst(&p->note->done));
    check_broken(p);
}

/* Nobody can have passed. */
static void check_reset(struct point *p)
{
    crash_check(p, !all_passed(p));
    check_broken(p);
}

/* A member or not: what it was is over when it has closed its handle. */
static void check_member(struct point *p)
{
    survivors_wait_swept(p);
    crash_check(p, !mp_load_seqcst(&p->note->done) || mp_barrier_broken(barrier_of(p)) == 0);
    use_it(p);
}

/* With its parent's handle, and killed before its first wait, nobody knows of it. */
static void check_unknown(struct point *p)
{
    survivors_wait_swept(p);
    crash_check(p, mp_barrier_abort(barrier_of(p)) == 0);
    crash_check(p, all_passed(p) || !mp_load_seqcst(&p->note->done));
    check_broken(p);
}

/* The one who swept was no member. */
static void check_swept(struct point *p)
{
    crash_check(p, !all_passed(p));
    check_broken(p);
}

static const struct scenario scenarios[] = {
    {.name = "barrier: wait, the last one",
     .begin = create,
     .prepare = be_member,
     .ready = start_two,
     .operate = wait_and_pass,
     .after = check},
    {.name = "barrier: wait, the first one",
     .begin = create,
     .prepare = be_member,
     .operate = wait_and_pass,
     .asleep = let_two_come,
     .after = check},
    {.name = "barrier: wait, the second one",
     .begin = create,
     .prepare = be_member,
     .ready = start_waiter,
     .operate = wait_and_pass,
     .asleep = let_one_come,
     .after = check_second},
    {.name = "barrier: wait, with an action",
     .begin = create,
     .prepare = be_actor,
     .ready = start_two,
     .operate = wait_and_pass,
     .after = check_action},
    {.name = "barrier: wait, the action fails",
     .begin = create,
     .prepare = be_bad_actor,
     .ready = start_two,
     .operate = wait_and_fail,
     .after = check_reset},
    {.name = "barrier: wait, timed out",
     .begin = create,
     .prepare = be_member,
     .ready = start_waiter,
     .operate = time_out,
     .after = check_reset},
    {.name = "barrier: wait, first use by its parent's handle",
     .begin = create,
     .prepare = join,
     .ready = start_two,
     .operate = wait_and_pass,
     .after = check_unknown},
    {.name = "barrier: abort, two asleep",
     .begin = create,
     .prepare = be_member,
     .ready = start_two,
     .operate = break_it,
     .after = check_reset},
    {.name = "barrier: reset, two asleep",
     .begin = create,
     .prepare = be_member,
     .ready = start_two,
     .operate = reset,
     .after = check_reset},
    {.name = "barrier: open and close",
     .begin = create,
     .prepare = join,
     .operate = open_and_close,
     .after = check_member},
    {.name = "barrier: sweep after a member",
     .begin = create,
     .prepare = join,
     .ready = wait_for_dead,
     .operate = sweep,
     .after = check_swept,
     .states = true},
};

const struct group crash_barrier = {"barrier", scenarios, MP_ARRAY_SIZE(scenarios)};
