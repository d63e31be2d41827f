/* SPDX-License-Identifier: MIT */
/*
 * Sync objects after a death.
 *
 * The word of an owner gets "died" written over its name, so that a waiter who is about to sleep on
 * the old word does not. A share is the dead one's own word in the object: what it says is undone
 * by one atomic on the object's state, or needs no undoing, and then the share is emptied. A
 * sweeper that is killed in between leaves both for the next one; what may be done only once is
 * told by the state itself (see the protocols).
 */

#include "arena/directory.h"
#include "arena/group.h"
#include "arena/liveness.h"
#include "arena/permits.h"
#include "arena/repair.h"
#include "base/mutation.h"

#define TRIES_MOST 100000u /* of a CAS that only somebody hostile makes fail for ever */

static bool has_owner(uint32_t kind)
{
    switch (kind) {
    case MP_KIND_LOCK:
    case MP_KIND_RLOCK:
    case MP_KIND_RWLOCK:
    case MP_KIND_VALUE:
    case MP_KIND_ARRAY:
    case MP_KIND_MAP:
        return true;
    default:
        return false;
    }
}

void mp_repair_owner(struct mp_arena *a, struct mp_directory_entry *e, uint32_t kind)
{
    uint32_t word;

    if (!has_owner(kind))
        return;
    word = mp_load_relaxed(&e->word);
    /* A waiter may raise its flag under us, and would then sleep on the dead one's name: so until
     * it is gone, or somebody else's. Not for ever: somebody hostile may write there. */
    for (uint32_t tries = 0; tries < TRIES_MOST; tries++) {
        if (word == 0 || (word & ~MP_TOKEN_WAITERS) == MP_TOKEN_DIED ||
            mp_token_dead(a, word & ~MP_TOKEN_WAITERS) != 1)
            return;
        if (mp_cas_seqcst(&e->word, &word, MP_TOKEN_DIED | (word & MP_TOKEN_WAITERS)))
            return;
    }
}

/* The readers that it was are gone. Whoever is about to sleep, as a writer for readers or as a
 * reader for a writer, may have looked before: both sleep words move, each time, since a sweeper
 * that died may have come to the share only. */
static void repair_rwlock(struct mp_directory_entry *e, mp_a64 *share)
{
    if (!mp_mutation(SWEEP_KEEPS_READERS))
        atomic_fetch_and(share, ~(uint64_t)UINT32_MAX);
    atomic_fetch_add(mp_directory_futex(e), 2);
    atomic_fetch_add(mp_directory_futex(e) + 1, 2);
}

/* A member is missing: broken, and only then is it no member any more. Tried so often that only
 * somebody hostile can have it otherwise. */
static void repair_barrier(struct mp_directory_entry *e, mp_a64 *share)
{
    for (uint32_t tries = 0; tries < TRIES_MOST; tries++) {
        uint64_t v = mp_load_seqcst(&e->value);

        /* After the value: it may be another barrier's by now, of which it is no member. */
        if (mp_load_seqcst(share) == 0)
            return;
        if (mp_mutation(MEMBER_EMPTIED_FIRST))
            mp_store_seqcst(share, 0);
        if ((v & MP_BARRIER_BROKEN) || (!mp_mutation(SWEEP_KEEPS_BARRIER) &&
                                        mp_cas_seqcst(&e->value, &v, mp_barrier_break(v))))
            break;
    }
    mp_store_seqcst(share, 0);
}

/* Who was about to sleep must not, as what it looked at may have been changed by the dead; and so
 * must those who wait look again. */
static void repair_condition_futex(struct mp_directory_entry *e)
{
    if (!mp_mutation(SWEEP_MOVES_NO_CONDITION))
        atomic_fetch_add(&e->word, 2);
}

/* It waited, in another group than the open one: what it was notified of may have to go to somebody
 * else, so all go who wait. Twice does no harm. */
static void pass_notification_on(struct mp_directory_entry *e, uint64_t share)
{
    uint64_t v = mp_load_seqcst(&e->value);

    if (share << 24 == 0 || mp_mutation(SWEEP_PASSES_NOTHING_ON))
        return;
    for (uint32_t tries = 0; tries < TRIES_MOST; tries++) {
        struct mp_waiting w = mp_waiting_unpack(share, (uint32_t)v);
        bool open = share >> 40 == ((uint32_t)v & 0xffffff);

        if (v == MP_VALUE_DESTROYED || (open && w.older == 0) ||
            mp_cas_seqcst(&e->value, &v, (uint32_t)((uint32_t)v + 2)))
            return;
    }
}

/* Passed on, and only then is it no waiter any more. */
static void repair_condition(struct mp_directory_entry *e, mp_a64 *share)
{
    uint64_t v = mp_load_seqcst(share);

    if (mp_mutation(WAITER_EMPTIED_FIRST))
        mp_store_seqcst(share, 0);
    pass_notification_on(e, v);
    mp_store_seqcst(share, 0);
}

void mp_repair_shares(struct mp_arena *a, struct mp_directory_entry *e, uint32_t kind,
                      uint32_t slot)
{
    mp_a64 *share;

    if (kind != MP_KIND_RWLOCK && kind != MP_KIND_SEMAPHORE && kind != MP_KIND_CONDITION &&
        kind != MP_KIND_BARRIER)
        return;
    if (kind == MP_KIND_SEMAPHORE) {
        mp_permits_repair(a, e, slot);
        return;
    }
    if (kind == MP_KIND_CONDITION)
        repair_condition_futex(e);
    share = mp_directory_share(a, e, slot);
    if (!share)
        return; /* it has none, or they are spoiled */
    switch (kind) {
    case MP_KIND_RWLOCK:
        repair_rwlock(e, share);
        break;
    case MP_KIND_BARRIER:
        repair_barrier(e, share);
        break;
    case MP_KIND_CONDITION:
        repair_condition(e, share);
        break;
    }
}
