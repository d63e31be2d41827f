/* SPDX-License-Identifier: MIT */
/*
 * The event: one value, {times set:62, SLEEP:1, SET:1}, of which the low half is slept on.
 *
 *   from -> to             who, by which atomic              a crash just after leaves
 *   SET clear -> set       anyone: CAS, times + 1, SLEEP     not woken: the sweep wakes all
 *                          cleared; was up: wake all         sleepers of the arena
 *   SET set -> clear       anyone: CAS                       nothing
 *   SLEEP clear -> up      a waiter: CAS, then sleeps        the flag stays: one idle wake
 *
 * A waiter is let go when the times have moved on since it came, so one that slept through a set
 * and a clear goes on as well. Nothing in it names anybody: there is nothing to repair.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include <mp/event.h>

#include "arena/sleep.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "kernel/cpu.h"
#include "kernel/futex.h"
#include "sync/object.h"

#define SET UINT64_C(1)
#define SLEEP UINT64_C(2)
#define ONCE UINT64_C(4)
#define ARM_TRIES_MOST 1000u

struct mp_event {
    struct mp_object object;
    struct mp_spin spin;
};

static int keep(int r, struct mp_event **event, mp_event **ret_event)
{
    if (r < 0)
        return r;
    mp_store_relaxed(&(*event)->spin.length, 0);
    *ret_event = mp_take_ptr(*event);
    return 0;
}

int mp_event_create(mp_arena *arena, const char *name, mp_event **ret_event)
{
    _cleanup_free_ struct mp_event *e = NULL;

    if (!arena || !ret_event)
        return -EINVAL;
    e = malloc(sizeof *e);
    if (!e)
        return -ENOMEM;
    return keep(mp_object_create(arena, name, MP_KIND_EVENT, 0, 0, 0, &e->object), &e, ret_event);
}

int mp_event_open(mp_arena *arena, const char *name, mp_event **ret_event)
{
    _cleanup_free_ struct mp_event *e = NULL;

    if (!arena || !name || !ret_event)
        return -EINVAL;
    e = malloc(sizeof *e);
    if (!e)
        return -ENOMEM;
    return keep(mp_object_open(arena, name, MP_KIND_EVENT, 0, &e->object), &e, ret_event);
}

mp_event *mp_event_close(mp_event *event)
{
    free(event);
    return NULL;
}

int mp_event_destroy(mp_event *event)
{
    return event ? mp_object_destroy(&event->object) : -EINVAL;
}

int mp_event_set(mp_event *event)
{
    struct mp_object *o;
    uint64_t v, once;

    if (!event)
        return -EINVAL;
    o = &event->object;
    v = mp_load_acquire(o->value);
    /* Written also where it is set already: what we wrote before is to be seen by those who find it
     * so. */
    do {
        if (!mp_object_is_live(o))
            return -ESTALE;
        once = mp_mutation(EVENT_NOT_COUNTED) ? 0 : ONCE;
    } while (!mp_cas_seqcst(o->value, &v, v & SET ? v : ((v + once) | SET) & ~SLEEP));
    if (v & SLEEP) {
        mp_store_relaxed(&o->entry->waker_cpu, mp_cpu_current() + 1);
        mp_futex_wake(mp_directory_futex(o->entry), INT_MAX);
    }
    return 0;
}

int mp_event_clear(mp_event *event)
{
    uint64_t v;

    if (!event)
        return -EINVAL;
    /* Not in the place of what another object has there, which may have the entry by now. */
    do {
        v = mp_load_acquire(event->object.value);
        if (!mp_object_is_live(&event->object))
            return -ESTALE;
    } while ((v & SET) && !mp_cas_seqcst(event->object.value, &v, v & ~SET));
    return 0;
}

int mp_event_is_set(const mp_event *event)
{
    uint64_t v;

    if (!event)
        return -EINVAL;
    v = mp_load_acquire(event->object.value);
    return mp_object_is_live(&event->object) ? (v & SET) != 0 : -ESTALE;
}

/* 1: it is set, or was since `times`; 0: not; -ESTALE. */
static int look(const struct mp_object *o, uint64_t times, uint64_t *ret)
{
    *ret = mp_load_acquire(o->value);
    if (!mp_object_is_live(o))
        return -ESTALE;
    return (*ret & SET) || *ret / ONCE != times;
}

static MP_NOINLINE int wait_slow(struct mp_event *e, uint64_t times, uint64_t deadline_ns)
{
    struct mp_object *o = &e->object;
    struct mp_spinner spinner;
    uint64_t v;
    int r = 0;

    if (!mp_arena_enter(o->arena, &r))
        return r;
    mp_spin_begin(&spinner, &e->spin, &o->entry->waiter_cpu, &o->entry->waker_cpu);
    while ((r = look(o, times, &v)) == 0 && mp_spin_turn(&spinner)) {
    }
    mp_spin_end(&spinner, r != 0);
    mp_sleep_begins_anew();
    for (bool last = false;;) {
        r = look(o, times, &v);
        if (r != 0)
            return r < 0 ? r : 0;
        if (last)
            return -ETIMEDOUT;
        if (!(v & SLEEP) && !mp_cas_seqcst(o->value, &v, v | SLEEP)) {
            last = mp_now_ns() >= deadline_ns; /* somebody may write it without end */
            continue;
        }
        r = mp_sleep_on(o->arena, mp_directory_futex(o->entry), (uint32_t)(v | SLEEP), deadline_ns,
                        MP_WAIT_EVENT, o->index);
        if (r < 0 && r != -ETIMEDOUT)
            return r;
        last = r < 0;
    }
}

int mp_event_wait(mp_event *event, uint64_t timeout_ns)
{
    uint64_t v;

    if (!event)
        return -EINVAL;
    v = mp_load_acquire(event->object.value);
    if (!mp_object_is_live(&event->object))
        return -ESTALE;
    if (v & SET)
        return 0;
    if (timeout_ns == 0)
        return -EAGAIN;
    return wait_slow(event, v / ONCE, mp_deadline(timeout_ns));
}

static uint32_t arm(const struct mp_waitable *w)
{
    const struct mp_object *o = w->object;
    uint64_t v = mp_load_acquire(o->value);

    for (unsigned i = 0; i < ARM_TRIES_MOST && !(v & (SET | SLEEP)); i++)
        if (mp_cas_seqcst(o->value, &v, v | SLEEP))
            return (uint32_t)(v | SLEEP);
    return (uint32_t)v;
}

static int ready(const struct mp_waitable *w)
{
    const struct mp_object *o = w->object;
    uint64_t v = mp_load_acquire(o->value);

    return mp_object_is_live(o) ? (v & SET) != 0 : -ESTALE;
}

static const struct mp_waitable_type waitable = {.arm = arm, .ready = ready};

struct mp_waitable mp_event_waitable(mp_event *event)
{
    struct mp_object *o;

    if (!event)
        return (struct mp_waitable){.fd = -1};
    o = &event->object;
    return mp_object_waitable(o, mp_directory_futex(o->entry), &waitable, o);
}

const char *mp_event_name(const mp_event *event)
{
    return event ? event->object.name : NULL;
}
