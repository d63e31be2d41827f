/* SPDX-License-Identifier: MIT */
/*
 * Waiting for any of several things (mp_wait), and pollers.
 *
 * Nobody takes anything by it; but who waits for a lock with others may be woken in the place of
 * one who would take it. He passes that on, and killed before that, the sweep does. So the victim
 * comes first to a lock that a survivor then waits for: the survivor gets it, wherever the victim
 * is killed; and where it is not, the victim itself waits until the survivor has got it.
 */

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <mp/event.h>
#include <mp/wait.h>

#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"

static mp_event *never, *got;
static int fds[2]; /* nothing comes from there */

static const bool with_fd = true; /* scenario->detail of those who wait for a descriptor, too */

/* ---- survivors ---- */

static void hold(struct point *p, struct survivor *s)
{
    crash_must(p, mp_lock_acquire(p->lock, MP_FOREVER));
    mp_store_seqcst(&s->result, 1);
    while (!mp_load_seqcst(&s->go))
        crash_pause();
    crash_check(p, mp_lock_release(p->lock) == 0);
}

static void acquire_once(struct point *p, struct survivor *s)
{
    s->result = mp_lock_acquire(p->lock, MP_FOREVER);
    if (s->result != 0) {
        crash_fail(p, "a survivor did not get the lock: %d", s->result);
        return;
    }
    crash_check(p, mp_event_set(got) == 0);
    crash_check(p, mp_lock_release(p->lock) == 0);
}

static void start_holder(struct point *p)
{
    struct survivor *s;

    crash_must(p, pipe(fds));
    crash_must(p, mp_lock_create(p->arena, "lock", &p->lock));
    crash_must(p, mp_event_create(p->arena, "never", &never));
    crash_must(p, mp_event_create(p->arena, "got", &got));
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

static void let_go(struct point *p)
{
    mp_store_seqcst(&p->survivors[0].go, 1);
}

static void start_waiter_and_let_go(struct point *p)
{
    start_waiter(p);
    let_go(p);
}

/* ---- victims ---- */

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

static int wait_for_any(struct point *p, uint64_t timeout_ns)
{
    struct mp_waitable w[] = {mp_event_waitable(never), mp_lock_waitable(p->lock),
                              mp_fd_waitable(fds[0], POLLIN)};

    return mp_wait(w, p->scenario->detail ? 3 : 2, timeout_ns);
}

/* Where nobody passed its wake on, the survivor sleeps, and so does the victim: which shows. */
static void wait_and_see(struct point *p)
{
    if (wait_for_any(p, MP_FOREVER) < 1)
        mp_store_seqcst(&p->note->stage, 1);
    mp_event_wait(got, MP_FOREVER);
}

static void wait_once(struct point *p)
{
    if (wait_for_any(p, MP_FOREVER) < 1)
        mp_store_seqcst(&p->note->stage, 1);
}

static void time_out(struct point *p)
{
    if (wait_for_any(p, MP_MSEC(2)) != 0)
        mp_store_seqcst(&p->note->stage, 1);
}

static void poll_and_free(struct point *p)
{
    struct mp_waitable w = mp_lock_waitable(p->lock);
    mp_poller *poller;

    if (mp_poller_new(&w, &poller) < 0 || mp_poller_check(poller) != 0)
        mp_store_seqcst(&p->note->stage, 1);
    else
        mp_poller_free(poller);
}

/* ---- after the kill ---- */

static void check(struct point *p)
{
    let_go(p);
    survivors_join(p);
    crash_check(p, mp_lock_acquire(p->lock, survivors_timeout(p)) == 0);
    crash_check(p, mp_lock_release(p->lock) == 0);
    crash_check(p, p->note->stage == 0);
    crash_must(p, mp_lock_destroy(p->lock));
    crash_must(p, mp_event_destroy(never));
    crash_must(p, mp_event_destroy(got));
    mp_event_close(never);
    mp_event_close(got);
    close(fds[0]);
    close(fds[1]);
}

/* clang-format off */
#define SCENARIOS(kind, of)                                                                     \
    {.name = kind ", behind a waiter", .detail = of, .begin = start_holder_and_waiter,          \
     .prepare = join, .operate = wait_once, .asleep = let_go, .after = check},                  \
    {.name = kind ", before a waiter", .detail = of, .begin = start_holder, .prepare = join,    \
     .operate = wait_and_see, .asleep = start_waiter_and_let_go, .after = check},               \
    {.name = kind ", timed out", .detail = of, .begin = start_holder_and_waiter,                \
     .prepare = join, .operate = time_out, .after = check}
/* clang-format on */

static const struct scenario scenarios[] = {
    SCENARIOS("wait: any", NULL),
    SCENARIOS("wait: any or a descriptor", &with_fd),
    {.name = "wait: a poller, made and freed",
     .begin = start_holder_and_waiter,
     .prepare = join,
     .operate = poll_and_free,
     .after = check},
};

const struct group crash_wait = {"wait", scenarios, MP_ARRAY_SIZE(scenarios)};
