/* SPDX-License-Identifier: MIT */
/*
 * Objects that are destroyed while somebody is at work on them, and whose entry and memory are
 * another's at once. The victim stands anywhere in an operation; meanwhile the object goes and
 * another of its kind comes, in the same entry; the victim goes on, and is told that it is gone, or
 * came too early or too late for that. The other one is to be as if the victim had never been: so
 * the victim looks itself, before it dies, after which the sweep would have put it in order.
 */

#include <errno.h>
#include <stdlib.h>

#include <mp/barrier.h>
#include <mp/condition.h>
#include <mp/event.h>
#include <mp/locks.h>
#include <mp/rwlock.h>
#include <mp/semaphore.h>

#include "arena/directory.h"
#include "arena/group.h"
#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"
#include "sync/object.h"

#define UNITS 2u

enum { FIRST, SECOND, WRONG }; /* note.stage: which one there is, or what the victim found */

/* One kind of object: p->memory is the handle to the first one. */
struct kind {
    enum mp_kind kind;
    void *(*make)(struct point *p, const char *name);
    void (*destroy)(struct point *p);
    bool (*is_new)(struct point *p);            /* and can be used; by the victim */
    uint32_t flags;                             /* of a semaphore */
    void (*use)(struct point *p, void *second); /* NULL: nobody uses the second one */
};

static const struct kind *kind_of(const struct point *p)
{
    return p->scenario->detail;
}

static void expect(struct point *p, bool right)
{
    if (!right)
        mp_store_seqcst(&p->note->stage, WRONG);
}

static uint64_t live_of(struct point *p, const char *name, uint32_t *ret_index)
{
    uint64_t live;

    crash_must(p, mp_directory_open(p->arena, name, kind_of(p)->kind, ret_index, &live));
    return live;
}

static void create(struct point *p)
{
    crash_must(p, mp_lock_create(p->arena, "lock", &p->lock));
    p->memory = kind_of(p)->make(p, "first");
}

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

/* Others of the kind until the entry is the one that was just left: it may be turned to late. */
static void replace(struct point *p)
{
    uint32_t first, second;
    void *other;

    live_of(p, "first", &first);
    kind_of(p)->destroy(p);
    for (int tries = 0;; tries++) {
        crash_check(p, tries < 20);
        other = kind_of(p)->make(p, "second");
        live_of(p, "second", &second);
        if (first == second)
            break;
        free(other);
        crash_must(
            p, mp_directory_destroy(p->arena, second, live_of(p, "second", &second), NULL, NULL));
    }
    if (kind_of(p)->use)
        kind_of(p)->use(p, other);
    free(other);
    mp_store_seqcst(&p->note->stage, SECOND);
}

/* At the end of the victim's operation. */
static void look_at_second(struct point *p)
{
    if (mp_load_seqcst(&p->note->stage) == SECOND)
        expect(p, kind_of(p)->is_new(p));
}

static void check(struct point *p)
{
    if (mp_load_seqcst(&p->note->stage) == WRONG)
        crash_fail(p, "the victim left something in another object");
    survivors_wait_swept(p);
    free(p->memory);
    p->memory = NULL;
}

/* ---- rwlock ---- */

static void *make_rwlock(struct point *p, const char *name)
{
    mp_rwlock *lock;

    crash_must(p, mp_rwlock_create(p->arena, name, &lock));
    return lock;
}

static void destroy_rwlock(struct point *p)
{
    crash_must(p, mp_rwlock_destroy(p->memory));
}

static bool rwlock_is_new(struct point *p)
{
    uint64_t readers = 1;
    mp_rwlock *lock;
    bool new;

    if (mp_rwlock_open(p->arena, "second", &lock) < 0)
        return false;
    new = mp_rwlock_readers(lock, &readers) == 0 && readers == 0 &&
          mp_rwlock_try_write(lock) == 0 && mp_rwlock_release_write(lock) == 0 &&
          mp_rwlock_try_read(lock) == 0 && mp_rwlock_readers(lock, &readers) == 0 && readers == 1 &&
          mp_rwlock_try_write(lock) == -EAGAIN &&mp_rwlock_release_read(lock) == 0 &&
          mp_rwlock_release_read(lock) == -EPERM;
    mp_rwlock_close(lock);
    return new;
}

static void read_and_release(struct point *p)
{
    int r = mp_rwlock_try_read(p->memory);

    expect(p, r == 0 || r == -ESTALE);
    if (r == 0) {
        r = mp_rwlock_release_read(p->memory);
        expect(p, r == 0 || r == -ESTALE);
    }
    look_at_second(p);
}

static void write_and_release(struct point *p)
{
    int r = mp_rwlock_try_write(p->memory);

    expect(p, r == 0 || r == -ESTALE);
    if (r == 0) {
        r = mp_rwlock_release_write(p->memory);
        expect(p, r == 0 || r == -ESTALE);
    }
    look_at_second(p);
}

/* In use by the tracer, and to stay so. */
static void write_second(struct point *p, void *second)
{
    crash_must(p, mp_rwlock_try_write(second));
}

static bool rwlock_is_written(struct point *p)
{
    mp_rwlock *lock;
    bool is;

    if (mp_rwlock_open(p->arena, "second", &lock) < 0)
        return false;
    is = mp_rwlock_try_read(lock) == -EAGAIN && mp_rwlock_try_write(lock) == -EAGAIN;
    mp_rwlock_close(lock);
    return is;
}

/* ---- many locks ---- */

#define WHICH 5u

static void *make_locks(struct point *p, const char *name)
{
    mp_locks *locks;

    crash_must(p, mp_locks_create(p->arena, name, 8, &locks));
    return locks;
}

static void destroy_locks(struct point *p)
{
    crash_must(p, mp_locks_destroy(p->memory));
}

static void own_second(struct point *p, void *second)
{
    crash_must(p, mp_locks_try(second, WHICH));
}

static bool locks_are_owned(struct point *p)
{
    mp_locks *locks;
    bool are;

    if (mp_locks_open(p->arena, "second", &locks) < 0)
        return false;
    are = mp_locks_try(locks, WHICH) == -EAGAIN;
    mp_locks_close(locks);
    return are;
}

static void own_and_release(struct point *p)
{
    int r = mp_locks_acquire(p->memory, WHICH, 0);

    expect(p, r == 0 || r == -ESTALE);
    if (r == 0) {
        r = mp_locks_release(p->memory, WHICH);
        expect(p, r == 0 || r == -ESTALE);
    }
    look_at_second(p);
}

/* ---- semaphore ---- */

static void *make_semaphore(struct point *p, const char *name)
{
    mp_semaphore *sem;

    crash_must(p, mp_semaphore_create(
                      p->arena, name,
                      MP_SEMAPHORE_OPTIONS(.value = UNITS, .flags = kind_of(p)->flags), &sem));
    return sem;
}

static void destroy_semaphore(struct point *p)
{
    crash_must(p, mp_semaphore_destroy(p->memory));
}

static bool semaphore_is_new(struct point *p)
{
    struct mp_semaphore_holder holders[8];
    mp_semaphore *sem;
    bool new;

    if (mp_semaphore_open(p->arena, "second", &sem) < 0)
        return false;
    new = mp_semaphore_value(sem) == UNITS &&mp_semaphore_holders(sem, holders, 8) == 0;
    mp_semaphore_close(sem);
    return new;
}

static void acquire_and_release(struct point *p)
{
    int r = mp_semaphore_try(p->memory);

    expect(p, r == 0 || r == -ESTALE);
    if (r == 0) {
        r = mp_semaphore_release(p->memory, 1);
        expect(p, r == 0 || r == -ESTALE);
    }
    look_at_second(p);
}

/* ---- barrier ---- */

static void *make_barrier(struct point *p, const char *name)
{
    mp_barrier *barrier;

    crash_must(p, mp_barrier_create(p->arena, name, 2, NULL, &barrier));
    return barrier;
}

static void destroy_barrier(struct point *p)
{
    crash_must(p, mp_barrier_destroy(p->memory));
}

/* The victim is no member. */
static bool barrier_is_new(struct point *p)
{
    struct mp_object o;
    bool new;

    if (mp_object_open(p->arena, "second", MP_KIND_BARRIER, 64, &o) < 0)
        return false;
    new = mp_load_seqcst(mp_object_share(&o, p->arena->self->slot)) == 0;
    return new && (mp_load_seqcst(o.value) >> 32 & 0xffff) == 0 &&
           !(mp_load_seqcst(o.value) & MP_BARRIER_BROKEN);
}

static void wait_for_nobody(struct point *p)
{
    int r = mp_barrier_wait(p->memory, MP_MSEC(2));

    expect(p, r == -ETIMEDOUT || r == -ESTALE);
    look_at_second(p);
}

/* ---- condition ---- */

static void *make_condition(struct point *p, const char *name)
{
    mp_condition *cond;

    crash_must(p, mp_condition_create(p->arena, name, &cond));
    return cond;
}

static void destroy_condition(struct point *p)
{
    crash_must(p, mp_condition_destroy(p->memory));
}

/* No share, and what says that there are waiters says nothing of the first one. */
static bool condition_is_new(struct point *p)
{
    struct mp_object o;

    if (mp_object_open(p->arena, "second", MP_KIND_CONDITION, 8, &o) < 0)
        return false;
    return mp_load_seqcst(mp_object_share(&o, p->arena->self->slot)) << 24 == 0 &&
           mp_load_seqcst(o.value) >> 32 == 0;
}

static void wait_in_vain(struct point *p)
{
    int r;

    expect(p, mp_lock_acquire(p->lock, 0) == 0);
    r = mp_condition_wait(p->memory, p->lock, MP_MSEC(2));
    expect(p, r == -ETIMEDOUT || r == -ESTALE);
    expect(p, mp_lock_release(p->lock) == 0);
    look_at_second(p);
}

static void notify_nobody(struct point *p)
{
    int r;

    expect(p, mp_lock_acquire(p->lock, 0) == 0);
    r = mp_condition_notify(p->memory, p->lock, 1);
    expect(p, r == 0 || r == -ESTALE);
    expect(p, mp_lock_release(p->lock) == 0);
    look_at_second(p);
}

/* ---- event ---- */

static void *make_event(struct point *p, const char *name)
{
    mp_event *event;

    crash_must(p, mp_event_create(p->arena, name, &event));
    return event;
}

static void destroy_event(struct point *p)
{
    crash_must(p, mp_event_destroy(p->memory));
}

static bool event_is_new(struct point *p)
{
    mp_event *event;
    bool new;

    if (mp_event_open(p->arena, "second", &event) < 0)
        return false;
    new = mp_event_is_set(event) == 0;
    mp_event_close(event);
    return new;
}

static void set(struct point *p)
{
    int r = mp_event_set(p->memory);

    expect(p, r == 0 || r == -ESTALE);
    look_at_second(p);
}

static const struct kind rwlock = {MP_KIND_RWLOCK, make_rwlock, destroy_rwlock,
                                   rwlock_is_new,  0,           NULL};
static const struct kind written = {.kind = MP_KIND_RWLOCK,
                                    .make = make_rwlock,
                                    .destroy = destroy_rwlock,
                                    .is_new = rwlock_is_written,
                                    .use = write_second};
static const struct kind locks = {.kind = MP_KIND_LOCKS,
                                  .make = make_locks,
                                  .destroy = destroy_locks,
                                  .is_new = locks_are_owned,
                                  .use = own_second};
static const struct kind permits = {
    MP_KIND_SEMAPHORE, make_semaphore, destroy_semaphore, semaphore_is_new, 0, NULL};
static const struct kind signals = {MP_KIND_SEMAPHORE, make_semaphore,       destroy_semaphore,
                                    semaphore_is_new,  MP_SEMAPHORE_SIGNALS, NULL};
static const struct kind barrier = {
    MP_KIND_BARRIER, make_barrier, destroy_barrier, barrier_is_new, 0, NULL};
static const struct kind condition = {
    MP_KIND_CONDITION, make_condition, destroy_condition, condition_is_new, 0, NULL};
static const struct kind event = {MP_KIND_EVENT, make_event, destroy_event, event_is_new, 0, NULL};

#define REPLACED(text, of, what)                                                                 \
    {                                                                                            \
        .name = text ", replaced", .detail = &(of), .begin = create, .prepare = join,            \
        .operate = what, .meanwhile = replace, .goes_on = true, .anywhere = true, .after = check \
    }

static const struct scenario scenarios[] = {
    REPLACED("reuse: read", rwlock, read_and_release),
    REPLACED("reuse: write", rwlock, write_and_release),
    REPLACED("reuse: write, and another writes", written, write_and_release),
    REPLACED("reuse: own, and another owns", locks, own_and_release),
    REPLACED("reuse: acquire a permit", permits, acquire_and_release),
    REPLACED("reuse: acquire a signal", signals, acquire_and_release),
    REPLACED("reuse: wait for others", barrier, wait_for_nobody),
    REPLACED("reuse: wait for a notification", condition, wait_in_vain),
    REPLACED("reuse: notify", condition, notify_nobody),
    REPLACED("reuse: set", event, set),
};

const struct group crash_reuse = {"reuse", scenarios, MP_ARRAY_SIZE(scenarios)};
