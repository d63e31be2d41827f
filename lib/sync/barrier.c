/* SPDX-License-Identifier: MIT */
/*
 * The barrier.
 *
 * The state is the entry's value: {past:16, arrived:16 | phase:30, broken:1, sleepers:1}; who waits
 * sleeps on the low half. Each use of it is a phase. The phase moves when all have arrived, or by a
 * reset; `past` tells which, for each of the last sixteen phases (lowest bit: the last one; 1: it
 * was reset), since who waited in one may look again long after others went on.
 *
 *   state                   who, by one CAS                        a crash just after leaves
 *   arrived n < parties-1   one who comes: n + 1, then waits       a dead member: the sweep breaks
 *                                                                  it and wakes all
 *   arrived parties-1       the last one: next phase, arrived 0,   asleep: woken by the sweep, and
 *                           wakes all                              passed; broken in the next one
 *   arrived parties-1       the last one, with an action: parties  broken: nobody passes
 *   arrived parties         the same one after the action: next    as after the last one
 *                           phase; where it failed: broken
 *   any                     abort, a waiter's timeout: broken,     broken; asleep: woken by the
 *                           arrived 0, wakes all                   sweep
 *   any                     reset: next phase with its bit in      the same, not broken
 *                           `past`, not broken, arrived 0, wakes
 *                           all
 *   any but broken          the sweep, for a dead member: broken,  its share names it a member:
 *                           arrived 0; then it empties the share   broken by the next sweep
 *
 * A waiter of phase p looks at the phase first: has it moved, then p's bit says how p ended,
 * whatever is broken now. So a phase that was passed is passed for all, though one of them dies,
 * aborts or resets right after it.
 *
 * A member is a participant whose share is not 0: as many handles as it has open. A sweeper that is
 * killed between breaking the barrier and emptying the share may break it a second time, after a
 * reset in between; that is a death of its own.
 *
 * Of a phase that is more than sixteen back only the last reset is known (the entry's `cells`): who
 * slept through so many, and there was a reset in or after his, is told that it was his.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "arena/liveness.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "kernel/cpu.h"
#include "kernel/futex.h"
#include "sync/barrier.h"

#define STRIDE (sizeof(struct mp_barrier_share))
#define TRIES_MOST (1u << 20) /* only somebody hostile can make it so many */
#define MEMBERS_LOOKED_AT 64u

#define ARRIVED_ONE (UINT64_C(1) << 32)
#define PHASE_MASK ((1u << 30) - 1)
#define PAST_BITS 16u

static uint32_t arrived_of(uint64_t v)
{
    return (uint32_t)(v >> 32) & 0xffff;
}

static uint32_t phase_of(uint64_t v)
{
    return (uint32_t)v >> 2;
}

/* The phase after this one, which was passed or reset. */
static uint64_t next(uint64_t v, bool reset)
{
    uint64_t past = (v >> 48 << 1 | reset) & 0xffff;

    return past << 48 | (uint64_t)((phase_of(v) + 1) & PHASE_MASK) << 2;
}

/* Move the state, and wake whoever sleeps on the old one. False: it has moved meanwhile. */
static bool move(struct mp_barrier *b, uint64_t v, uint64_t to)
{
    if (!mp_cas_seqcst(b->object.value, &v, to))
        return false;
    if (v & MP_BARRIER_SLEEPERS)
        mp_futex_wake(mp_directory_futex(b->object.entry), INT_MAX);
    return true;
}

/* ---- members ---- */

static struct mp_barrier_share *share_of(const struct mp_barrier *b, uint32_t slot)
{
    return (struct mp_barrier_share *)(void *)mp_object_share(&b->object, slot);
}

/* One handle less. */
static void take_no_part(mp_a64 *handles)
{
    uint64_t n = mp_load_relaxed(handles);

    for (uint32_t tries = 0; n > 0 && tries < TRIES_MOST; tries++)
        if (mp_cas_seqcst(handles, &n, n - 1))
            return;
}

/* This handle is to count in this process and life. False: the barrier is gone, and the share may
 * be another's. */
static MP_NOINLINE bool take_part(struct mp_barrier *b, uint32_t token)
{
    mp_a64 *handles = &share_of(b, mp_token_slot(token))->handles;
    uint64_t life = mp_load_relaxed(&b->object.arena->self->life);
    uint64_t old = mp_load_relaxed(&b->life);

    /* The share first: another thread that sees `life` relies on it. */
    atomic_fetch_add(handles, 1);
    if (old == life || !mp_cas_seqcst(&b->life, &old, life))
        take_no_part(handles); /* another thread of ours did it */
    else if (!mp_object_is_live(&b->object))
        take_no_part(handles);
    return mp_object_is_live(&b->object);
}

static MP_INLINE int be_member(struct mp_barrier *b, uint32_t *ret_token)
{
    int r = 0;
    uint32_t token = mp_arena_enter(b->object.arena, &r);

    if (mp_unlikely(!token))
        return r;
    if (mp_unlikely(mp_load_acquire(&b->life) != mp_load_relaxed(&b->object.arena->self->life)))
        if (!take_part(b, token))
            return -ESTALE;
    *ret_token = token;
    return 0;
}

static void end_part(struct mp_barrier *b)
{
    uint32_t token = mp_load_acquire(b->object.token);
    uint64_t life = mp_load_relaxed(&b->object.arena->self->life);

    if (token && mp_load_relaxed(&b->life) == life && mp_object_is_live(&b->object))
        take_no_part(&share_of(b, mp_token_slot(token))->handles);
}

/* ---- handles ---- */

static int make(mp_arena *arena, const struct mp_barrier_options *options, struct mp_barrier **ret)
{
    struct mp_barrier *b;

    if (!arena || (options && options->struct_size < sizeof *options))
        return -EINVAL;
    b = calloc(1, sizeof *b);
    if (!b)
        return -ENOMEM;
    if (options) {
        b->action = options->action;
        b->user = options->user;
        b->timeout_ns = options->timeout_ns;
    }
    if (b->timeout_ns == 0)
        b->timeout_ns = MP_FOREVER;
    *ret = b;
    return 0;
}

int mp_barrier_create(mp_arena *arena, const char *name, uint32_t parties,
                      const struct mp_barrier_options *options, mp_barrier **ret_barrier)
{
    _cleanup_free_ struct mp_barrier *b = NULL;
    uint32_t token;
    int r;

    if (!ret_barrier || parties == 0 || parties > MP_BARRIER_PARTIES_MOST)
        return -EINVAL;
    r = make(arena, options, &b);
    if (r < 0)
        return r;
    r = mp_object_create(arena, name, MP_KIND_BARRIER, parties, 0, STRIDE, &b->object);
    if (r < 0)
        return r;
    b->parties = parties;
    r = be_member(b, &token);
    if (r < 0 && r != -ESTALE)
        return r; /* gone already: the handle will say so */
    *ret_barrier = mp_take_ptr(b);
    return 0;
}

int mp_barrier_open(mp_arena *arena, const char *name, const struct mp_barrier_options *options,
                    mp_barrier **ret_barrier)
{
    _cleanup_free_ struct mp_barrier *b = NULL;
    uint32_t token;
    int r;

    if (!ret_barrier || !name)
        return -EINVAL;
    r = make(arena, options, &b);
    if (r < 0)
        return r;
    r = mp_object_open(arena, name, MP_KIND_BARRIER, STRIDE, &b->object);
    if (r < 0)
        return r;
    b->parties = mp_load_acquire(&b->object.entry->flags);
    if (!mp_object_is_live(&b->object))
        return -ENOENT;
    if (b->parties == 0 || b->parties > MP_BARRIER_PARTIES_MOST)
        return -EPROTO;
    r = be_member(b, &token);
    if (r < 0)
        return r == -ESTALE ? -ENOENT : r;
    *ret_barrier = mp_take_ptr(b);
    return 0;
}

mp_barrier *mp_barrier_close(mp_barrier *barrier)
{
    if (barrier)
        end_part(barrier);
    free(barrier);
    return NULL;
}

int mp_barrier_destroy(mp_barrier *barrier)
{
    return barrier ? mp_object_destroy(&barrier->object) : -EINVAL;
}

/* ---- waiting ---- */

/* The phase has moved on: how did it end? */
static int outcome(const struct mp_barrier *b, uint64_t v, uint32_t phase, int index)
{
    uint32_t back = (phase_of(v) - phase - 1) & PHASE_MASK;
    uint32_t last;

    if (back < PAST_BITS)
        return v >> (48 + back) & 1 ? -ECONNRESET : index;
    last = (uint32_t)mp_load_acquire(&b->object.entry->cells);
    return last != 0 && ((last - 1 - phase) & PHASE_MASK) <= PHASE_MASK / 2 ? -ECONNRESET : index;
}

/* Where each member waits is known, so nobody spins for one that needs his CPU. */
static void begin_spin(struct mp_barrier *b, uint32_t token, struct mp_spinner *s)
{
    uint32_t high = mp_min(mp_arena_slots_high(b->object.arena), MEMBERS_LOOKED_AT);
    mp_a32 *mine = &share_of(b, mp_token_slot(token))->cpu;
    uint32_t cpu = mp_load_relaxed(mine);
    mp_a32 other = 0;

    for (uint32_t slot = 0; slot < high; slot++) {
        const struct mp_barrier_share *share = share_of(b, slot);

        if (slot != mp_token_slot(token) && mp_load_relaxed(&share->cpu) == cpu &&
            mp_load_relaxed(&share->handles) != 0) {
            mp_store_relaxed(&other, cpu);
            break;
        }
    }
    mp_spin_begin(s, &b->spin, mine, &other);
}

struct wait {
    uint64_t deadline_ns;
    uint32_t token;
    uint32_t rounds;
    bool last; /* the deadline has passed: one more look */
};

/* Somebody may write the state without end. False: give up. */
static bool go_on(struct wait *w)
{
    if ((++w->rounds & 63) == 0 && w->deadline_ns != MP_FOREVER && mp_now_ns() >= w->deadline_ns)
        w->last = true;
    return w->rounds < TRIES_MOST;
}

/* Sleep while the low half is as in v. 0: look again. */
static int sleep_past(struct mp_barrier *b, uint64_t v, struct wait *w)
{
    struct mp_object *o = &b->object;
    int r;

    if (!(v & MP_BARRIER_SLEEPERS) && !mp_cas_seqcst(o->value, &v, v | MP_BARRIER_SLEEPERS))
        return 0;
    r = mp_sleep_on(o->arena, mp_directory_futex(o->entry), (uint32_t)v | MP_BARRIER_SLEEPERS,
                    w->deadline_ns, MP_WAIT_BARRIER, o->index);
    if (r == -ETIMEDOUT) {
        w->last = true;
        r = 0;
    }
    return r;
}

/* We have arrived as number `index`. */
static int await(struct mp_barrier *b, uint32_t phase, int index, struct wait *w)
{
    struct mp_spinner spinner;
    int r;

    begin_spin(b, w->token, &spinner);
    mp_sleep_begins_anew();
    while (go_on(w)) {
        uint64_t v = mp_load_acquire(b->object.value);

        if (!mp_object_is_live(&b->object))
            return -ESTALE;
        if (phase_of(v) != phase) {
            mp_spin_end(&spinner, true);
            return outcome(b, v, phase, index);
        }
        if (v & MP_BARRIER_BROKEN)
            return -ECONNRESET;
        if (w->last) {
            if (move(b, v, mp_barrier_break(v)))
                return -ETIMEDOUT;
            continue;
        }
        if (mp_spin_turn(&spinner)) {
            w->rounds--; /* these have an end */
            continue;
        }
        mp_spin_end(&spinner, false);
        r = sleep_past(b, v, w);
        if (r < 0)
            return r;
    }
    return -ENOTRECOVERABLE;
}

/* All have arrived, and we as the last one: run the action, then let them go. */
static int act(struct mp_barrier *b, uint32_t phase, int index)
{
    int done = b->action(b->user);

    for (uint32_t tries = 0; tries < TRIES_MOST; tries++) {
        uint64_t v = mp_load_acquire(b->object.value);

        if (!mp_object_is_live(&b->object))
            return -ESTALE;
        if (phase_of(v) != phase || (v & MP_BARRIER_BROKEN))
            return done < 0 ? done : -ECONNRESET;
        if (move(b, v, done < 0 ? mp_barrier_break(v) : next(v, false)))
            return done < 0 ? done : index;
    }
    return -ENOTRECOVERABLE;
}

/* An action runs: wait until it is over. 0: look again. */
static int await_action(struct mp_barrier *b, uint64_t v, struct wait *w)
{
    if (w->deadline_ns == 0)
        return -EAGAIN;
    return w->last ? -ETIMEDOUT : sleep_past(b, v, w);
}

static int arrive(struct mp_barrier *b, struct wait *w)
{
    while (go_on(w)) {
        uint64_t v = mp_load_acquire(b->object.value);
        uint32_t n = arrived_of(v), phase = phase_of(v);
        int r;

        if (!mp_object_is_live(&b->object))
            return -ESTALE;
        if (v & MP_BARRIER_BROKEN)
            return -ECONNRESET;
        if (n > b->parties)
            return -ENOTRECOVERABLE;
        if (n == b->parties) {
            r = await_action(b, v, w);
            if (r < 0)
                return r;
            continue;
        }
        if (n + 1 < b->parties) {
            if (w->deadline_ns == 0)
                return -EAGAIN;
            if (mp_cas_seqcst(b->object.value, &v, v + ARRIVED_ONE))
                return await(b, phase, (int)n, w);
            continue;
        }
        if (!b->action || mp_mutation(ACTION_AFTERWARDS)) {
            if (!move(b, v, next(v, false)))
                continue;
            return mp_mutation(ACTION_AFTERWARDS) && b->action ? b->action(b->user) : (int)n;
        }
        if (mp_cas_seqcst(b->object.value, &v, v + ARRIVED_ONE))
            return act(b, phase, (int)n);
    }
    return -ENOTRECOVERABLE;
}

int mp_barrier_wait(mp_barrier *barrier, uint64_t timeout_ns)
{
    struct wait w = {0};
    mp_a32 *cpu;
    int r;

    if (!barrier)
        return -EINVAL;
    if (!mp_object_is_live(&barrier->object))
        return -ESTALE;
    r = be_member(barrier, &w.token);
    if (r < 0)
        return r;
    w.deadline_ns = mp_deadline(timeout_ns == MP_FOREVER ? barrier->timeout_ns : timeout_ns);
    cpu = &share_of(barrier, mp_token_slot(w.token))->cpu;
    if (mp_load_relaxed(cpu) != mp_cpu_current() + 1)
        mp_store_relaxed(cpu, mp_cpu_current() + 1);
    return arrive(barrier, &w);
}

/* ---- abort, reset, queries ---- */

int mp_barrier_abort(mp_barrier *barrier)
{
    if (!barrier)
        return -EINVAL;
    for (uint32_t tries = 0; tries < TRIES_MOST; tries++) {
        uint64_t v = mp_load_acquire(barrier->object.value);

        if (!mp_object_is_live(&barrier->object))
            return -ESTALE;
        if ((v & MP_BARRIER_BROKEN) || move(barrier, v, mp_barrier_break(v)))
            return 0;
    }
    return -ENOTRECOVERABLE;
}

int mp_barrier_reset(mp_barrier *barrier)
{
    if (!barrier)
        return -EINVAL;
    for (uint32_t tries = 0; tries < TRIES_MOST; tries++) {
        uint64_t v = mp_load_acquire(barrier->object.value);

        if (!mp_object_is_live(&barrier->object))
            return -ESTALE;
        if (!(v & MP_BARRIER_BROKEN) && arrived_of(v) == 0)
            return 0;
        mp_store_seqcst(&barrier->object.entry->cells, (uint64_t)phase_of(v) + 1);
        if (move(barrier, v, next(v, !mp_mutation(RESET_PASSES))))
            return 0;
    }
    return -ENOTRECOVERABLE;
}

int mp_barrier_parties(const mp_barrier *barrier)
{
    return barrier ? (int)barrier->parties : -EINVAL;
}

int mp_barrier_n_waiting(const mp_barrier *barrier)
{
    uint64_t v;

    if (!barrier)
        return -EINVAL;
    v = mp_load_acquire(barrier->object.value);
    if (!mp_object_is_live(&barrier->object))
        return -ESTALE;
    return v & MP_BARRIER_BROKEN ? 0 : (int)mp_min(arrived_of(v), barrier->parties);
}

int mp_barrier_broken(const mp_barrier *barrier)
{
    uint64_t v;

    if (!barrier)
        return -EINVAL;
    v = mp_load_acquire(barrier->object.value);
    if (!mp_object_is_live(&barrier->object))
        return -ESTALE;
    return (v & MP_BARRIER_BROKEN) != 0;
}

const char *mp_barrier_name(const mp_barrier *barrier)
{
    return barrier ? barrier->object.name : NULL;
}
