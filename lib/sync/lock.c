/* SPDX-License-Identifier: MIT */
/*
 * The robust lock.
 *
 * One word: {waiters:1, generation:20, slot+1:11}, that is a token and a flag (arena/token.h); 0 is
 * free.
 *
 *   state         who, by which atomic                     a crash just after leaves
 *   0             anyone: CAS 0 -> me (one that has slept  the word names the dead; the next one
 *                 keeps the flag up)                       sees its generation moved, and is told
 *   owner alive   a waiter: CAS v -> v|WAITERS, sleep      the flag stays: one idle wake
 *   owner alive   anyone: exchange 0 (release); the flag   not woken: the sweep wakes all sleepers
 *                 was up: wake one                         of the arena
 *   owner dead    anyone: CAS v -> me, told                names the new dead one: told again
 *   DIED          the same (the sweep writes it over a     as above
 *                 dead owner's name, so a waiter that is
 *                 about to sleep on the old word does not)
 *   DESTROYED     nobody: the lock is gone; -ESTALE
 *   names no one  nobody: -ENOTRECOVERABLE
 *
 * "Dead" is read from the slot's generation, that is after the whole process is known to be gone. A
 * waiter that was chosen and is killed before it takes the lock, or a releaser killed before it
 * woke anyone, leaves the others asleep: the sweep wakes them. A handle compares the entry's state
 * with the one that it was opened on, in the same cache line: -ESTALE after a destroy.
 *
 * The releaser may take it again at once, which keeps the lock hot in one cache; those asleep are
 * woken in order.
 */

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>

#include <mp/lock.h>

#include "arena/arena.h"
#include "arena/directory.h"
#include "arena/liveness.h"
#include "arena/sleep.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "kernel/cpu.h"
#include "kernel/futex.h"

#define SPIN_TURNS 40u

struct mp_lock {
    mp_a32 *word;
    mp_a32 *token; /* of this process: in the page that a fork wipes */
    mp_a64 *state;
    uint64_t live;
    struct mp_arena *arena;
    uint32_t index;
    char name[MP_NAME_MAX + 1];
};

static int new_lock(struct mp_arena *a, uint32_t index, uint64_t live, mp_lock **ret_lock)
{
    struct mp_directory_entry *e = &a->directory[index];
    struct mp_lock *l = calloc(1, sizeof *l);

    if (!l)
        return -ENOMEM;
    l->word = &e->word;
    l->token = &a->self->token;
    l->state = &e->state;
    l->live = live;
    l->arena = a;
    l->index = index;
    mp_name_copy(l->name, e->name, sizeof e->name);
    *ret_lock = l;
    return 0;
}

int mp_lock_create(mp_arena *arena, const char *name, mp_lock **ret_lock)
{
    struct mp_object_spec spec = {.name = name, .kind = MP_KIND_LOCK};
    uint32_t index;
    uint64_t live;
    int r;

    if (!arena || !ret_lock)
        return -EINVAL;
    r = mp_directory_create(arena, &spec, &index, &live);
    if (r < 0)
        return r;
    r = new_lock(arena, index, live, ret_lock);
    if (r < 0)
        mp_directory_destroy(arena, index, live, NULL, NULL);
    return r;
}

int mp_lock_open(mp_arena *arena, const char *name, mp_lock **ret_lock)
{
    uint32_t index;
    uint64_t live;
    int r = 0;

    if (!arena || !name || !ret_lock)
        return -EINVAL;
    if (!mp_arena_enter(arena, &r))
        return r;
    r = mp_directory_open(arena, name, MP_KIND_LOCK, &index, &live);
    if (r < 0)
        return r;
    return new_lock(arena, index, live, ret_lock);
}

mp_lock *mp_lock_close(mp_lock *lock)
{
    free(lock);
    return NULL;
}

int mp_lock_destroy(mp_lock *lock)
{
    if (!lock)
        return -EINVAL;
    return mp_directory_destroy(lock->arena, lock->index, lock->live, NULL, NULL);
}

/* Spin for the word to change, unless there is no other CPU for its owner to run on. False:
 * sleep. */
static bool spin(const mp_a32 *word, uint32_t v, uint32_t turns)
{
    if (mp_cpu_allowed() == 1)
        return false;
    while (turns-- > 0) {
        if (mp_load_relaxed(word) != v)
            return true;
        mp_pause();
    }
    return false;
}

/* The entry was used for another lock between our look and the CAS: undo it, if it is still there
 * to be undone. */
static MP_NOINLINE int acquired_another(struct mp_lock *l, int r)
{
    uint32_t token = mp_load_relaxed(l->token);
    uint32_t v = mp_load_relaxed(l->word);

    while ((v & ~MP_TOKEN_WAITERS) == token)
        if (mp_cas_seqcst(l->word, &v, r == MP_OWNER_DIED ? MP_TOKEN_DIED : 0)) {
            if (v & MP_TOKEN_WAITERS)
                mp_futex_wake(l->word, 1);
            break;
        }
    return -ESTALE;
}

static MP_INLINE int acquired(struct mp_lock *l, int r)
{
    return mp_likely(mp_load_relaxed(l->state) == l->live) ? r : acquired_another(l, r);
}

static MP_NOINLINE int acquire_slow(struct mp_lock *l, uint64_t timeout_ns)
{
    struct mp_arena *a = l->arena;
    uint64_t deadline = mp_deadline(timeout_ns);
    uint32_t turns = SPIN_TURNS;
    uint32_t slept = 0;
    bool last = false;
    int r = 0;
    uint32_t token = mp_arena_enter(a, &r);

    if (!token)
        return r;
    for (uint32_t rounds = 0;; rounds++) {
        uint32_t v = mp_load_relaxed(l->word);
        int dead;

        if (mp_load_relaxed(l->state) != l->live)
            return -ESTALE;
        if (v == 0) {
            if (mp_cas_acquire(l->word, &v, token | slept))
                return acquired(l, 0);
            continue;
        }
        dead = mp_token_dead(a, v & ~MP_TOKEN_WAITERS);
        if (dead < 0)
            return (v & ~MP_TOKEN_WAITERS) == MP_TOKEN_DESTROYED ? -ESTALE : -ENOTRECOVERABLE;
        if (dead) {
            if (mp_cas_acquire(l->word, &v, token | (v & MP_TOKEN_WAITERS) | slept))
                return acquired(l, mp_mutation(SWALLOW_DEATH) ? 0 : MP_OWNER_DIED);
            continue;
        }
        if (timeout_ns == 0)
            return -EAGAIN;
        if (last) {
            /* Who was woken took the flag of all sleepers down, and leaves it up. */
            if (slept && !(v & MP_TOKEN_WAITERS) &&
                !mp_cas_seqcst(l->word, &v, v | MP_TOKEN_WAITERS))
                continue;
            return -ETIMEDOUT;
        }
        /* Somebody may write the word without end: the deadline is looked at then, too. */
        if ((rounds & 63) == 63 && deadline != MP_FOREVER && mp_now_ns() >= deadline)
            last = true;
        if (turns && spin(l->word, v, turns))
            continue;
        turns = 0;
        if (!(v & MP_TOKEN_WAITERS) && !mp_cas_seqcst(l->word, &v, v | MP_TOKEN_WAITERS))
            continue;
        r = mp_sleep_on(a, l->word, v | MP_TOKEN_WAITERS, deadline, MP_WAIT_LOCK, l->index);
        if (r == -ETIMEDOUT)
            last = true; /* one more look: it may have been released meanwhile */
        else if (r < 0)
            return r;
        slept = MP_TOKEN_WAITERS;
        turns = SPIN_TURNS / 2;
    }
}

int mp_lock_acquire(mp_lock *lock, uint64_t timeout_ns)
{
    uint32_t token, v = 0;

    if (mp_unlikely(!lock))
        return -EINVAL;
    token = mp_load_relaxed(lock->token);
    /* Pairs with the release in mp_lock_release. */
    if (mp_likely(token && mp_load_relaxed(lock->state) == lock->live &&
                  mp_cas_acquire(lock->word, &v, token)))
        return acquired(lock, 0);
    return acquire_slow(lock, timeout_ns);
}

int mp_lock_try(mp_lock *lock)
{
    return mp_lock_acquire(lock, 0);
}

static MP_NOINLINE int release_nobody(uint32_t token)
{
    return token == MP_TOKEN_DESTROYED ? -ESTALE : -EPERM;
}

int mp_lock_release(mp_lock *lock)
{
    uint32_t token, old;

    if (mp_unlikely(!lock))
        return -EINVAL;
    if (mp_unlikely(mp_load_relaxed(lock->state) != lock->live))
        return -ESTALE;
    token = mp_load_relaxed(lock->word) & ~MP_TOKEN_WAITERS;
    if (mp_unlikely(token == 0 || token == MP_TOKEN_DIED || token == MP_TOKEN_DESTROYED))
        return release_nobody(token);
    /* Pairs with the acquire of the next owner. */
    old = atomic_exchange_explicit(lock->word, 0, memory_order_release);
    if (mp_unlikely(old & MP_TOKEN_WAITERS))
        mp_futex_wake(lock->word, 1);
    return 0;
}

int mp_lock_owner(const mp_lock *lock, struct mp_lock_owner *ret_owner)
{
    struct mp_lock_owner o = {0};
    uint32_t v, token;

    if (!lock || !ret_owner)
        return -EINVAL;
    if (mp_load_relaxed(lock->state) != lock->live)
        return -ESTALE;
    v = mp_load_acquire(lock->word);
    token = v & ~MP_TOKEN_WAITERS;
    o.waiters = (v & MP_TOKEN_WAITERS) != 0;
    if (token != 0 && mp_token_dead(lock->arena, token) == 0) {
        o.slot = mp_token_slot(token);
        o.pid = (pid_t)(uint32_t)mp_load_relaxed(&lock->arena->slots[o.slot].id);
        o.self = token == mp_load_relaxed(lock->token);
    }
    *ret_owner = o;
    return 0;
}

const char *mp_lock_name(const mp_lock *lock)
{
    return lock ? lock->name : NULL;
}
