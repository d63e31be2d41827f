/* SPDX-License-Identifier: MIT */
/*
 * The word of a lock: who owns it. Lock, rlock and the writers of a rwlock are built on it.
 *
 * One word: {waiters:1, generation:20, slot+1:11}, that is a token and a flag (arena/token.h); 0 is
 * free.
 *
 *   state         who, by which atomic                     a crash just after leaves
 *   0             anyone: CAS 0 -> me (one that has slept  the word names the dead; the next one
 *                 keeps the flag up)                       sees its generation moved, and is told
 *   owner alive   a waiter: CAS v -> v|WAITERS, sleep      the flag stays: one idle wake
 *   owner alive   anyone: CAS v -> 0 (release); the flag   not woken: the sweep wakes all sleepers
 *                 was up: wake one                         of the arena
 *   owner dead    anyone: CAS v -> me, told                names the new dead one: told again
 *   DIED          the same (the sweep writes it over a     as above
 *                 dead owner's name, so a waiter that is
 *                 about to sleep on the old word does not)
 *   READ          the same as 0 (sync/rwlock.c, or left     as 0
 *                 there by a handle to one that is gone)
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

#include "arena/liveness.h"
#include "arena/sleep.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "kernel/cpu.h"
#include "sync/word.h"

#define SPIN_TURNS 40u
#define ARM_TRIES_MOST 1000u
#define GIVE_TRIES_MOST 1000u /* only somebody hostile writes the flag that often */

/* Spin for the word to change, unless there is no other CPU for its owner to run on. False: sleep.
 * A look takes the line away from its owner, who may want it again at once: so more and more
 * seldom. */
static bool spin(const mp_a32 *word, uint32_t v, uint32_t turns)
{
    if (mp_cpu_allowed() == 1)
        return false;
    for (uint32_t turn = 0, next = 1; turn < turns; turn++) {
        if (turn + 1 == next) {
            if (mp_load_relaxed(word) != v)
                return true;
            next *= 2;
        }
        mp_pause();
    }
    return mp_load_relaxed(word) != v;
}

MP_NOINLINE void mp_word_give_back(struct mp_object *o, uint32_t before)
{
    uint32_t token = mp_load_relaxed(o->token);
    uint32_t v = mp_load_relaxed(o->word);

    while ((v & ~MP_TOKEN_WAITERS) == token)
        if (mp_cas_seqcst(o->word, &v, before)) {
            if (v & MP_TOKEN_WAITERS)
                mp_futex_wake(o->word, 1);
            break;
        }
}

/* The entry was used for another lock between our look and the CAS: undo it, if it is still there
 * to be undone. */
int mp_word_acquired_another(struct mp_object *o, uint32_t before)
{
    mp_word_give_back(o, before);
    return -ESTALE;
}

MP_NOINLINE int mp_word_acquire_from(struct mp_object *o, uint64_t deadline_ns, uint32_t kind,
                                     uint32_t *ret_before)
{
    struct mp_arena *a = o->arena;
    uint32_t turns = SPIN_TURNS;
    uint32_t slept = 0;
    bool last = false;
    int r = 0;
    uint32_t token = mp_arena_enter(a, &r);

    if (!token)
        return r;
    mp_sleep_begins_anew();
    for (uint32_t rounds = 0;; rounds++) {
        uint32_t v = mp_load_relaxed(o->word);
        int dead;

        if (mp_load_relaxed(o->state) != o->live)
            return -ESTALE;
        if (v == 0 || v == MP_TOKEN_READ) {
            uint32_t before = v;

            if (!mp_cas_acquire(o->word, &v, token | slept))
                continue;
            *ret_before = before;
            return mp_word_acquired(o, 0, before);
        }
        dead = mp_token_dead(a, v & ~MP_TOKEN_WAITERS);
        if (dead < 0)
            return (v & ~MP_TOKEN_WAITERS) == MP_TOKEN_DESTROYED ? -ESTALE : -ENOTRECOVERABLE;
        if (dead) {
            if (!mp_cas_acquire(o->word, &v, token | (v & MP_TOKEN_WAITERS) | slept))
                continue;
            *ret_before = MP_TOKEN_DIED;
            return mp_word_acquired(o, mp_mutation(SWALLOW_DEATH) ? 0 : MP_OWNER_DIED,
                                    MP_TOKEN_DIED);
        }
        if (deadline_ns == 0)
            return -EAGAIN;
        if (last) {
            /* Who was woken took the flag of all sleepers down, and leaves it up. */
            if (slept && !(v & MP_TOKEN_WAITERS) &&
                !mp_cas_seqcst(o->word, &v, v | MP_TOKEN_WAITERS))
                continue;
            return -ETIMEDOUT;
        }
        /* Somebody may write the word without end: the deadline is looked at then, too. */
        if ((rounds & 63) == 63 && deadline_ns != MP_FOREVER && mp_now_ns() >= deadline_ns)
            last = true;
        if (turns && spin(o->word, v, turns))
            continue;
        turns = 0;
        if (!(v & MP_TOKEN_WAITERS) && !mp_cas_seqcst(o->word, &v, v | MP_TOKEN_WAITERS))
            continue;
        r = mp_sleep_on(a, o->word, v | MP_TOKEN_WAITERS, deadline_ns, kind, o->index);
        if (r == -ETIMEDOUT)
            last = true; /* one more look: it may have been released meanwhile */
        else if (r < 0)
            return r;
        slept = MP_TOKEN_WAITERS;
        turns = SPIN_TURNS / 2;
    }
}

int mp_word_acquire_slow(struct mp_object *o, uint64_t deadline_ns, uint32_t kind)
{
    uint32_t before;

    return mp_word_acquire_from(o, deadline_ns, kind, &before);
}

MP_NOINLINE uint32_t mp_word_give_again(mp_a32 *word, uint32_t v)
{
    for (uint32_t tries = 0; tries < GIVE_TRIES_MOST; tries++) {
        uint32_t w = mp_load_relaxed(word);

        if (((v ^ w) & ~MP_TOKEN_WAITERS) != 0)
            return 0;
        if (mp_cas_seqcst(word, &w, 0))
            return w;
    }
    return atomic_exchange(word, 0);
}

/* Any process may release what another one owns. But what a dead one owned is nobody's, also before
 * it was swept: the next one is to be told. */
MP_NOINLINE int mp_word_release_anothers(struct mp_object *o, uint32_t v)
{
    uint32_t token = v & ~MP_TOKEN_WAITERS;

    if (mp_token_is_nobody(token))
        return token == MP_TOKEN_DESTROYED ? -ESTALE : -EPERM;
    if (mp_token_dead(o->arena, token) == 1)
        return -EPERM;
    mp_word_give(o->word, v);
    return 0;
}

/* A word that names nobody alive is left alone: it is ready, or never will be. */
uint32_t mp_word_arm(const struct mp_object *o)
{
    uint32_t v = mp_load_relaxed(o->word);

    for (unsigned i = 0; i < ARM_TRIES_MOST; i++) {
        if (v == 0 || (v & MP_TOKEN_WAITERS) || mp_token_dead(o->arena, v) != 0)
            break;
        if (mp_cas_seqcst(o->word, &v, v | MP_TOKEN_WAITERS))
            return v | MP_TOKEN_WAITERS;
    }
    return v;
}

int mp_word_ready(const struct mp_object *o)
{
    uint32_t token = mp_load_relaxed(o->word) & ~MP_TOKEN_WAITERS;
    int dead;

    if (!mp_object_is_live(o))
        return -ESTALE;
    dead = token && token != MP_TOKEN_READ ? mp_token_dead(o->arena, token) : 1;
    if (dead < 0)
        return token == MP_TOKEN_DESTROYED ? -ESTALE : -ENOTRECOVERABLE;
    return dead;
}

int mp_word_owner(const struct mp_object *o, struct mp_lock_owner *ret)
{
    struct mp_lock_owner owner = {0};
    uint32_t v, token;

    if (!mp_object_is_live(o))
        return -ESTALE;
    v = mp_load_acquire(o->word);
    token = v & ~MP_TOKEN_WAITERS;
    owner.waiters = (v & MP_TOKEN_WAITERS) != 0;
    if (token != 0 && mp_token_dead(o->arena, token) == 0) {
        owner.slot = mp_token_slot(token);
        owner.pid = (pid_t)(uint32_t)mp_load_relaxed(&o->arena->slots[owner.slot].id);
        owner.self = token == mp_load_relaxed(o->token);
    }
    *ret = owner;
    return 0;
}
