/* SPDX-License-Identifier: MIT */
/*
 * The lock of readers and writers.
 *
 * Writers count two counters together. They may differ only for somebody who was told that a writer
 * died: readers then do without, the next writer makes them equal. The point's memory is the
 * handle.
 */

#include <errno.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include <mp/rwlock.h>

#include "arena/liveness.h"
#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"
#include "sync/rwlock.h"

enum { OK, WRONG }; /* note.stage: what the victim found */

static mp_rwlock *lock_of(const struct point *p)
{
    return p->memory;
}

static void change(struct point *p, int r)
{
    struct note *n = p->note;

    if (r == MP_OWNER_DIED)
        n->a = n->b;
    else if (n->a != n->b)
        crash_fail(p, "the counters differ, and the writer was not told");
    n->a++;
    n->b++;
}

static void look(struct point *p, int r)
{
    if (r == 0 && p->note->a != p->note->b)
        crash_fail(p, "the counters differ, and the reader was not told");
}

static void create(struct point *p)
{
    mp_rwlock *lock;

    crash_must(p, mp_rwlock_create(p->arena, "rwlock", &lock));
    p->memory = lock;
}

/* ---- survivors ---- */

static void write_once(struct point *p, struct survivor *s)
{
    s->result = mp_rwlock_write(lock_of(p), MP_FOREVER);
    if (s->result < 0) {
        crash_fail(p, "a survivor did not get to write: %d", s->result);
        return;
    }
    change(p, s->result);
    crash_check(p, mp_rwlock_release_write(lock_of(p)) == 0);
}

static void read_once(struct point *p, struct survivor *s)
{
    s->result = mp_rwlock_read(lock_of(p), MP_FOREVER);
    if (s->result < 0) {
        crash_fail(p, "a survivor did not get to read: %d", s->result);
        return;
    }
    look(p, s->result);
    crash_check(p, mp_rwlock_release_read(lock_of(p)) == 0);
}

static void hold(struct point *p, struct survivor *s)
{
    mp_store_seqcst(&s->result, 1);
    while (!mp_load_seqcst(&s->go))
        crash_pause();
    look(p, 0);
}

static void hold_write(struct point *p, struct survivor *s)
{
    crash_must(p, mp_rwlock_write(lock_of(p), MP_FOREVER));
    hold(p, s);
    change(p, 0);
    crash_check(p, mp_rwlock_release_write(lock_of(p)) == 0);
}

static void hold_read(struct point *p, struct survivor *s)
{
    int r = mp_rwlock_read(lock_of(p), MP_FOREVER);

    crash_must(p, r);
    mp_store_seqcst(&s->result, 1);
    while (!mp_load_seqcst(&s->go))
        crash_pause();
    look(p, r);
    crash_check(p, mp_rwlock_release_read(lock_of(p)) == 0);
}

static void start_holder(struct point *p, void (*work)(struct point *, struct survivor *))
{
    struct survivor *s = survivor_start(p, work);

    crash_until(p, mp_load_seqcst(&s->result) == 1, "the holder");
}

static void create_and_write(struct point *p)
{
    create(p);
    start_holder(p, hold_write);
}

static void create_and_read(struct point *p)
{
    create(p);
    start_holder(p, hold_read);
}

static void start_reader(struct point *p)
{
    survivor_wait_asleep(survivor_start(p, read_once));
}

static void start_writer(struct point *p)
{
    survivor_wait_asleep(survivor_start(p, write_once));
}

static void start_both(struct point *p)
{
    start_reader(p);
    start_writer(p);
}

static void create_and_write_before_both(struct point *p)
{
    create_and_write(p);
    start_both(p);
}

static void let_go(struct point *p)
{
    mp_store_seqcst(&p->survivors[0].go, 1);
}

static void start_both_and_let_go(struct point *p)
{
    start_both(p);
    let_go(p);
}

static void start_reader_and_let_go(struct point *p)
{
    start_reader(p);
    let_go(p);
}

/* A process that dies while it writes. */
static void write_by_half(struct point *p)
{
    crash_must(p, mp_rwlock_write(lock_of(p), 0));
    p->note->a++;
}

static void nothing(struct point *p)
{
    (void)p;
}

static void leave_dead_writer(struct point *p)
{
    struct victim v;

    create(p);
    crash_fork(p, &v, write_by_half, nothing);
    stepper_kill(&v);
    crash_until(p, survivors_are_alone(p), "the sweep after the first writer");
}

static void leave_dead_writer_and_read(struct point *p)
{
    leave_dead_writer(p);
    start_holder(p, hold_read);
}

static void begin_to_read(struct point *p)
{
    crash_must(p, mp_rwlock_read(lock_of(p), 0));
}

/* A writer waits for a reader, who dies; who notices is the victim. */
static void drain_after_dead(struct point *p)
{
    struct victim v;

    crash_hold_keeper(p);
    crash_fork(p, &v, begin_to_read, nothing);
    start_writer(p);
    start_reader(p);
    stepper_kill(&v);
}

static void sweep(struct point *p)
{
    mp_liveness_check(p->arena);
}

/* ---- victims ---- */

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

static void begin_to_write(struct point *p)
{
    crash_must(p, mp_rwlock_write(lock_of(p), 0));
    change(p, 0);
}

static void expect(struct point *p, bool right)
{
    if (!right)
        mp_store_seqcst(&p->note->stage, WRONG);
}

static void write_and_release(struct point *p)
{
    int r = mp_rwlock_write(lock_of(p), MP_FOREVER);

    expect(p, r >= 0);
    change(p, r);
    expect(p, mp_rwlock_release_write(lock_of(p)) == 0);
}

static void read_and_release(struct point *p)
{
    int r = mp_rwlock_read(lock_of(p), MP_FOREVER);

    expect(p, r >= 0);
    look(p, r);
    expect(p, mp_rwlock_release_read(lock_of(p)) == 0);
}

static void release_write(struct point *p)
{
    expect(p, mp_rwlock_release_write(lock_of(p)) == 0);
}

static void release_read(struct point *p)
{
    expect(p, mp_rwlock_release_read(lock_of(p)) == 0);
}

static void try_write(struct point *p)
{
    expect(p, mp_rwlock_try_write(lock_of(p)) == -EAGAIN);
}

static void try_read(struct point *p)
{
    expect(p, mp_rwlock_try_read(lock_of(p)) == -EAGAIN);
}

static void time_out_writing(struct point *p)
{
    expect(p, mp_rwlock_write(lock_of(p), MP_MSEC(2)) == -ETIMEDOUT);
}

static void time_out_reading(struct point *p)
{
    expect(p, mp_rwlock_read(lock_of(p), MP_MSEC(2)) == -ETIMEDOUT);
}

/* Who is stopped meanwhile, and goes on: not while another writes, or reads. */

static void read_if_free(struct point *p)
{
    int r = mp_rwlock_try_read(lock_of(p));

    expect(p, r == 0 || r == -EAGAIN);
    if (r < 0)
        return;
    look(p, 0);
    expect(p, mp_rwlock_release_read(lock_of(p)) == 0);
}

static void write_if_free(struct point *p)
{
    int r = mp_rwlock_try_write(lock_of(p));

    expect(p, r == 0 || r == -EAGAIN);
    if (r < 0)
        return;
    change(p, 0);
    expect(p, mp_rwlock_release_write(lock_of(p)) == 0);
}

static void write_meanwhile(struct point *p)
{
    if (mp_rwlock_try_write(lock_of(p)) < 0)
        return;
    p->note->a++;
    crash_check(p, mp_rwlock_try_read(lock_of(p)) == -EAGAIN);
}

/* The victim may have seen the one that writes; who leaves, dies, and is known to be dead. */
static struct victim writer;

static void release_and_stay(struct point *p)
{
    release_write(p);
    for (;;)
        pause();
}

static void create_and_write_elsewhere(struct point *p)
{
    create(p);
    crash_fork(p, &writer, begin_to_write, release_and_stay);
}

static void write_after_another(struct point *p)
{
    uint32_t token = mp_load_seqcst(lock_of(p)->object.word);

    ptrace(PTRACE_CONT, writer.tid, NULL, NULL);
    crash_until(p, mp_load_seqcst(lock_of(p)->object.word) == 0, "the writer leaves");
    stepper_kill(&writer);
    writer.pid = 0;
    crash_until(p, (mp_liveness_check(p->arena), mp_token_dead(p->arena, token) == 1), "its end");
    write_meanwhile(p);
}

static void read_meanwhile(struct point *p)
{
    if (mp_rwlock_try_read(lock_of(p)) < 0)
        return;
    crash_check(p, mp_rwlock_try_write(lock_of(p)) == -EAGAIN);
    mp_store_seqcst(&p->survivors[0].result, (int)p->note->a + 1);
}

/* ---- after the kill ---- */

static void use_it(struct point *p, int wanted)
{
    mp_rwlock *lock = lock_of(p);
    uint64_t readers;
    int r = mp_rwlock_write(lock, survivors_timeout(p));

    if (r < 0)
        crash_abort(p, "the survivor did not get to write: %d", r);
    if (wanted >= 0 && r != wanted)
        crash_fail(p, "the next writer was told %d instead of %d", r, wanted);
    change(p, r);
    crash_check(p, mp_rwlock_release_write(lock) == 0);
    crash_check(p, mp_rwlock_release_write(lock) == -EPERM);
    /* A reader that died before it was in kept no writer out, but its share counts until then. */
    survivors_wait_swept(p);
    crash_check(p, mp_rwlock_read(lock, survivors_timeout(p)) == 0);
    crash_check(p, mp_rwlock_readers(lock, &readers) == 0 && readers == 1);
    crash_check(p, mp_rwlock_release_read(lock) == 0);
    crash_check(p, mp_rwlock_release_read(lock) == -EPERM);
    crash_check(p, mp_rwlock_try_write(lock) == 0);
    crash_check(p, mp_rwlock_release_write(lock) == 0);
    crash_check(p, p->note->stage == OK);
    crash_must(p, mp_rwlock_destroy(lock));
    p->memory = mp_rwlock_close(lock);
}

static void settle(struct point *p)
{
    if (p->n_survivors)
        let_go(p);
    survivors_join(p);
}

static void check(struct point *p)
{
    settle(p);
    use_it(p, -1);
}

/* Readers have no news to leave. */
static void check_untold(struct point *p)
{
    settle(p);
    use_it(p, 0);
}

/* The victim was not to take the news of the dead writer with it. */
static void check_told(struct point *p)
{
    settle(p);
    use_it(p, MP_OWNER_DIED);
}

/* Killed as soon as its keeper had a slot it holds nothing, and nobody watches it yet. */
static void look_and_check(struct point *p)
{
    mp_liveness_check(p->arena);
    check_untold(p);
}

static void end_write_and_check(struct point *p)
{
    struct mp_lock_owner owner;

    crash_must(p, mp_rwlock_writer(lock_of(p), &owner));
    if (owner.self) {
        p->note->b++;
        crash_check(p, mp_rwlock_release_write(lock_of(p)) == 0);
    }
    check(p);
}

static void end_writers_and_check(struct point *p)
{
    if (writer.pid)
        stepper_kill(&writer);
    writer.pid = 0;
    end_write_and_check(p);
}

static void end_read_and_check(struct point *p)
{
    int seen = p->survivors[0].result;

    if (seen) {
        crash_check(p, seen == (int)p->note->a + 1);
        crash_check(p, mp_rwlock_release_read(lock_of(p)) == 0);
    }
    check(p);
}

static const struct scenario scenarios[] = {
    {.name = "rwlock: read and release",
     .begin = create,
     .prepare = join,
     .operate = read_and_release,
     .after = check_untold},
    {.name = "rwlock: read, first use of the arena",
     .begin = create,
     .operate = read_and_release,
     .after = look_and_check},
    {.name = "rwlock: read, another reads",
     .begin = create_and_read,
     .prepare = join,
     .operate = read_and_release,
     .after = check_untold},
    {.name = "rwlock: read, behind a writer",
     .begin = create_and_write,
     .prepare = join,
     .operate = read_and_release,
     .asleep = let_go,
     .after = check_untold},
    {.name = "rwlock: read, before others",
     .begin = create_and_write,
     .prepare = join,
     .operate = read_and_release,
     .asleep = start_both_and_let_go,
     .after = check_untold},
    {.name = "rwlock: read, the last writer died",
     .begin = leave_dead_writer,
     .prepare = join,
     .operate = read_and_release,
     .after = check_told},
    {.name = "rwlock: release read, a writer drains",
     .begin = create,
     .prepare = begin_to_read,
     .ready = start_writer,
     .operate = release_read,
     .after = check_untold},
    {.name = "rwlock: try read, written",
     .begin = create_and_write,
     .prepare = join,
     .operate = try_read,
     .after = check_untold},
    {.name = "rwlock: try to read, stopped, goes on",
     .begin = create,
     .prepare = join,
     .operate = read_if_free,
     .meanwhile = write_meanwhile,
     .goes_on = true,
     .anywhere = true,
     .after = end_write_and_check},
    {.name = "rwlock: try to read, stopped, the writer leaves",
     .begin = create_and_write_elsewhere,
     .prepare = join,
     .operate = read_if_free,
     .meanwhile = write_after_another,
     .goes_on = true,
     .anywhere = true,
     .after = end_writers_and_check},
    {.name = "rwlock: try to write, stopped, goes on",
     .begin = create,
     .prepare = join,
     .operate = write_if_free,
     .meanwhile = read_meanwhile,
     .goes_on = true,
     .anywhere = true,
     .after = end_read_and_check},
    {.name = "rwlock: read, timed out",
     .begin = create_and_write_before_both,
     .prepare = join,
     .operate = time_out_reading,
     .after = check_untold},
    {.name = "rwlock: write and release",
     .begin = create,
     .prepare = join,
     .operate = write_and_release,
     .after = check},
    {.name = "rwlock: write, drains",
     .begin = create_and_read,
     .prepare = join,
     .operate = write_and_release,
     .asleep = start_reader_and_let_go,
     .after = check},
    {.name = "rwlock: write, behind others",
     .begin = create_and_write_before_both,
     .prepare = join,
     .operate = write_and_release,
     .asleep = let_go,
     .after = check},
    {.name = "rwlock: write, before others",
     .begin = create_and_write,
     .prepare = join,
     .operate = write_and_release,
     .asleep = start_both_and_let_go,
     .after = check},
    {.name = "rwlock: write, the last writer died",
     .begin = leave_dead_writer,
     .prepare = join,
     .operate = write_and_release,
     .after = check},
    {.name = "rwlock: release write, both asleep",
     .begin = create,
     .prepare = begin_to_write,
     .ready = start_both,
     .operate = release_write,
     .after = check},
    {.name = "rwlock: try write, read",
     .begin = create_and_read,
     .prepare = join,
     .operate = try_write,
     .after = check_untold},
    {.name = "rwlock: write, timed out, drains",
     .begin = create_and_read,
     .prepare = join,
     .operate = time_out_writing,
     .after = check},
    {.name = "rwlock: write, timed out, told",
     .begin = leave_dead_writer_and_read,
     .prepare = join,
     .operate = time_out_writing,
     .after = check_told},
    {.name = "rwlock: sweep after a reader",
     .begin = create,
     .prepare = join,
     .ready = drain_after_dead,
     .operate = sweep,
     .after = check_untold,
     .states = true},
};

const struct group crash_rwlock = {"rwlock", scenarios, MP_ARRAY_SIZE(scenarios)};
