/* SPDX-License-Identifier: MIT */
/*
 * Taking part in an arena, and leaving it.
 *
 * It is the keeper who does it, so both are killed: the thread that asks, and its keeper.
 * Afterwards a newcomer takes part, dies with a lock held, and must be noticed: nobody may be left
 * out of the ring of those who watch each other.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena/block.h"
#include "arena/directory.h"
#include "arena/liveness.h"
#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"

#define SIZE 200u

static int memfd = -1; /* the victim's */
static mp_arena *other;

static void create_lock(struct point *p)
{
    crash_must(p, mp_lock_create(p->arena, "lock", &p->lock));
}

/* ---- victims ---- */

/* It has no mapping yet, as a process that got the memfd over a socket. */
static void bring_memfd(struct point *p)
{
    memfd = fcntl(mp_arena_fd(p->arena), F_DUPFD_CLOEXEC, 3);
    if (memfd < 0)
        crash_abort(p, "no descriptor");
    p->lock = mp_lock_close(p->lock);
    p->arena = mp_arena_close(p->arena);
}

static void bring_memfd_and_keeper(struct point *p)
{
    bring_memfd(p);
    crash_must(p, mp_arena_create(
                      "other", MP_ARENA_OPTIONS(.size = 64 << 10, .participants = 2, .objects = 2),
                      &other));
}

static void start_keeper(struct point *p)
{
    crash_must(p, mp_arena_create(
                      "other", MP_ARENA_OPTIONS(.size = 64 << 10, .participants = 2, .objects = 2),
                      &other));
}

static void attach(struct point *p)
{
    mp_arena *a;

    crash_must(p, mp_arena_attach(memfd, &a));
}

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

/* Holds one of each: a lock, a block, a message received and one loaned. */
static void take_all(struct point *p)
{
    struct mp_message m;
    void *block;

    crash_must(p, mp_lock_acquire(p->lock, 0));
    crash_must(p, mp_block_alloc(p->arena, SIZE, 0, &block));
    crash_must(p, mp_queue_receive(p->queue, 0, &m));
    crash_must(p, mp_queue_loan(p->queue, SIZE, 0, &m));
}

static void leave(struct point *p)
{
    mp_arena_close(p->arena);
}

/* ---- survivors ---- */

static void create_all(struct point *p)
{
    create_lock(p);
    crash_must(p, mp_queue_create(p->arena, "queue", MP_QUEUE_OPTIONS(.maxsize = 16), &p->queue));
    crash_must(p, mp_queue_put(p->queue, "message", 8, 0));
}

static bool second_slot_is_claimed(const struct point *p)
{
    return mp_load_seqcst(&p->arena->slots[1].state) != 0;
}

static void wait_for_ever(struct point *p)
{
    (void)p;
    pause();
}

static void join_and_wait(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
    wait_for_ever(p);
}

/* The only free slot is that of one who was killed as soon as it had taken it. */
static void fill_slots(struct point *p)
{
    static struct survey way;

    create_lock(p);
    crash_fork(p, &p->victim, start_keeper, join_and_wait);
    crash_turn_to_keeper(p);
    crash_step_until(p, &p->victim, second_slot_is_claimed, &way);
    stepper_kill(&p->victim);
}

static void die_with_lock(struct point *p)
{
    crash_must(p, mp_lock_acquire(p->lock, 0));
}

static void sweep(struct point *p)
{
    mp_liveness_check(p->arena);
}

static void nothing(struct point *p)
{
    (void)p;
}

/* A newcomer gets the lock, dies, and the survivor is told in time. */
static void check_newcomer(struct point *p)
{
    struct victim v;
    int r;

    crash_fork(p, &v, die_with_lock, nothing);
    p->killed_ns = mp_now_ns();
    stepper_kill(&v);
    r = mp_lock_acquire(p->lock, survivors_timeout(p));
    if (r != MP_OWNER_DIED)
        crash_fail(p, "a newcomer died with the lock, and the survivor got %d", r);
    if (r >= 0)
        crash_check(p, mp_lock_release(p->lock) == 0);
}

static void after_attach(struct point *p)
{
    check_newcomer(p);
    survivors_wait_swept(p);
    crash_must(p, mp_lock_destroy(p->lock));
}

static void after_leave(struct point *p)
{
    struct mp_message m;
    int r;

    /* One who is killed after it gave its slot up and before it woke its neighbour is found by the
     * look round of those who sleep for a second. That is this. */
    mp_liveness_check(p->arena);
    r = mp_lock_acquire(p->lock, survivors_timeout(p));
    if (r != MP_OWNER_DIED)
        crash_fail(p, "the owner left with the lock, and the survivor got %d", r);
    if (r >= 0)
        crash_check(p, mp_lock_release(p->lock) == 0);
    survivors_wait_swept(p);
    r = mp_queue_receive(p->queue, 0, &m);
    if (r < 0 || m.deliveries != 2 || m.size != 8 || memcmp(m.data, "message", 8) != 0)
        crash_fail(p, "the message that the victim had did not come again: %d", r);
    else
        crash_check(p, mp_queue_release(p->queue, &m) == 0);
    crash_check(p, mp_queue_receive(p->queue, 0, &m) == -EAGAIN);
    check_newcomer(p);
}

static const struct scenario scenarios[] = {
    {.name = "arena: attach, first",
     .begin = create_lock,
     .prepare = bring_memfd,
     .operate = attach,
     .after = after_attach},
    {.name = "arena: attach, with a keeper",
     .begin = create_lock,
     .prepare = bring_memfd_and_keeper,
     .operate = attach,
     .after = after_attach},
    {.name = "arena: attach, the keeper",
     .begin = create_lock,
     .prepare = bring_memfd_and_keeper,
     .operate = attach,
     .after = after_attach,
     .keeper = true},
    {.name = "arena: join after a fork, the keeper",
     .begin = create_lock,
     .prepare = start_keeper,
     .operate = join,
     .after = after_attach,
     .keeper = true},
    {.name = "arena: attach to a dead one's slot, the keeper",
     .begin = fill_slots,
     .prepare = start_keeper,
     .operate = join,
     .after = after_attach,
     .keeper = true,
     .participants = 2},
    {.name = "arena: attach to a slot that is swept meanwhile",
     .begin = fill_slots,
     .prepare = start_keeper,
     .operate = join,
     .meanwhile = sweep,
     .goes_on = true,
     .anywhere = true,
     .states = true,
     .after = after_attach,
     .keeper = true,
     .participants = 2},
    {.name = "arena: close",
     .begin = create_all,
     .prepare = take_all,
     .operate = leave,
     .after = after_leave},
    {.name = "arena: close, the keeper",
     .begin = create_all,
     .prepare = take_all,
     .operate = leave,
     .after = after_leave,
     .keeper = true},
};

const struct group crash_arenas = {"arenas", scenarios, MP_ARRAY_SIZE(scenarios)};
