/* SPDX-License-Identifier: MIT */
/*
 * The condition.
 *
 * Waiters come in groups, numbered; the state says how many of which may go (arena/group.h). Who
 * is of group g may go if open - g >= 2; or if open - g == 1, and then takes a token. All of it
 * changes under the user's lock, except by the sweep. So a notification is never for one who comes
 * later, and those who came first go first.
 *
 *   wait      g = open, share + 1; release the lock; sleep until one may go; take the lock first,
 *             then the token; share - 1. No token is left: somebody else was quicker; sleep again
 *   notify n  count the waiters of both groups; the older one is served first: so many tokens more.
 *             Does n reach for all of it, it may go as a whole: the younger one becomes the older
 *             one (open + 1), with what is left of n as tokens; or may go as well (open + 2). One
 *             CAS; then the futex moves, and wakes
 *
 * The futex is the entry's word, {moves:31, SLEEP:1}: a hint. Waiters of even and of odd groups
 * sleep on it with different bits, so that a group can be woken without the other. Its value is
 * loaded before the state is looked at, and moves after the state did.
 *
 *   state         who, by which atomic              a crash just after leaves
 *   tokens, open  the lock's owner: CAS (notify)    nobody woken: the sweep moves the futex and
 *                                                   wakes all
 *   tokens        a waiter that has the lock: CAS   a notification that went with its waiter, who
 *                 - 1                               held the lock: the next owner is told
 *   open          the sweep: CAS {0, open + 2}      the share of the dead: done again
 *   share         threads of its participant: CAS   a share too high: the sweep empties it
 *
 * A waiter that is killed before it has the lock has taken no token; but it was counted when the
 * notification was dealt out, so somebody of a younger group may have gone without. Which of them
 * can not be told: the sweep lets all go who wait, unless the dead one was of the open group.
 *
 * A notification looks at the shares only where there may be waiters: the entry's flags are the tag
 * of its life then. Who joins sets them, after its share; a notification that has found nobody
 * clears them, looks once more, and sets them again if there is somebody now. So of the two at
 * least one sees the other, even where the program uses two locks for one condition.
 *
 * Who is told, when he takes the lock, that its last owner died, says so to his caller; or to the
 * next owner when he sleeps again.
 *
 * The entry and the shares may be another condition's while somebody is still at work on this one.
 * Its groups begin with another number, and its tag is another one; so his CAS fails there, and
 * what he has added to his share he finds again only if it is still of his group.
 *
 * Every loop on a shared word is bounded: only somebody hostile can make a CAS fail that often.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "arena/group.h"
#include "arena/sleep.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "kernel/cpu.h"
#include "sync/condition.h"

#define SLEEP 1u
#define MOVE 2u
#define TOKEN (UINT64_C(1) << 32)
#define TRIES_MOST 1000u

/* The user's lock, of either kind. */
struct held {
    struct mp_object *lock;
    struct mp_rlock *rlock; /* NULL: a plain lock */
    uint64_t whole;         /* what the rlock was before it was released */
};

/* ---- life ---- */

static int keep(int r, struct mp_condition **condition, mp_condition **ret_condition)
{
    if (r < 0)
        return r;
    mp_store_relaxed(&(*condition)->spin.length, 0);
    *ret_condition = mp_take_ptr(*condition);
    return 0;
}

int mp_condition_create(mp_arena *arena, const char *name, mp_condition **ret_condition)
{
    _cleanup_free_ struct mp_condition *c = NULL;

    if (!arena || !ret_condition)
        return -EINVAL;
    c = malloc(sizeof *c);
    if (!c)
        return -ENOMEM;
    return keep(
        mp_object_create(arena, name, MP_KIND_CONDITION, 0, 0, sizeof(uint64_t), &c->object), &c,
        ret_condition);
}

int mp_condition_open(mp_arena *arena, const char *name, mp_condition **ret_condition)
{
    _cleanup_free_ struct mp_condition *c = NULL;

    if (!arena || !name || !ret_condition)
        return -EINVAL;
    c = malloc(sizeof *c);
    if (!c)
        return -ENOMEM;
    return keep(mp_object_open(arena, name, MP_KIND_CONDITION, sizeof(uint64_t), &c->object), &c,
                ret_condition);
}

mp_condition *mp_condition_close(mp_condition *condition)
{
    free(condition);
    return NULL;
}

int mp_condition_destroy(mp_condition *condition)
{
    return condition ? mp_object_destroy(&condition->object) : -EINVAL;
}

const char *mp_condition_name(const mp_condition *condition)
{
    return condition ? condition->object.name : NULL;
}

/* ---- the lock ---- */

static int of_lock(const struct mp_condition *c, mp_lock *lock, struct held *ret)
{
    if (!c || !lock || lock->object.arena != c->object.arena)
        return -EINVAL;
    *ret = (struct held){.lock = &lock->object};
    if (!mp_object_is_live(ret->lock) || !mp_object_is_live(&c->object))
        return -ESTALE;
    return mp_word_is_mine(ret->lock) ? 0 : -EPERM;
}

static int of_rlock(const struct mp_condition *c, mp_rlock *rlock, struct held *ret)
{
    if (!c || !rlock || rlock->object.arena != c->object.arena)
        return -EINVAL;
    *ret = (struct held){.lock = &rlock->object, .rlock = rlock};
    if (!mp_object_is_live(ret->lock) || !mp_object_is_live(&c->object))
        return -ESTALE;
    return mp_rlock_is_mine(rlock) ? 0 : -EPERM;
}

static void let_go(struct held *h)
{
    if (h->rlock)
        h->whole = mp_rlock_release_whole(h->rlock);
    else
        mp_word_release(h->lock);
}

/* 0, MP_OWNER_DIED; a negative errno: it can not be had any more. */
static int take_back(struct held *h)
{
    int r;

    if (mp_word_acquire_fast(h->lock, &r))
        return r;
    return mp_word_acquire_slow(h->lock, MP_FOREVER, h->rlock ? MP_WAIT_RLOCK : MP_WAIT_LOCK);
}

/* After take_back(), to sleep again: what we were told the next one has to know. */
static void let_go_again(struct held *h, bool told)
{
    if (told && !mp_mutation(CONDITION_SWALLOWS))
        mp_word_give_back(h->lock, MP_TOKEN_DIED);
    else
        mp_word_release(h->lock);
}

/* ---- shares ---- */

static inline uint32_t tag_of(const struct mp_object *o)
{
    return (uint32_t)(o->live >> 32) | 1;
}

/* There may be waiters. Not in the place of what another condition says, which may have the entry
 * by now. False: this one is gone. */
static bool announce(struct mp_object *o)
{
    for (unsigned i = 0; i < TRIES_MOST && !mp_mutation(WAITER_UNANNOUNCED); i++) {
        uint32_t flags = mp_load_seqcst(&o->entry->flags);

        if (!mp_object_is_live(o))
            return false;
        if (flags == tag_of(o) || mp_cas_seqcst(&o->entry->flags, &flags, tag_of(o)))
            break;
    }
    return true;
}

/* One fewer. The share of an object that is gone may be another's by now: whose groups have other
 * numbers. */
static void leave(struct mp_object *o, uint32_t group)
{
    mp_a64 *share = mp_object_share(o, o->arena->self->slot);
    uint64_t v = mp_load_acquire(share); /* and a state that is no older */

    for (unsigned i = 0; i < TRIES_MOST; i++) {
        struct mp_waiting w = mp_waiting_unpack(v, (uint32_t)mp_load_acquire(o->value));
        uint32_t since = (w.group - group) & MP_GROUP_MASK;

        if (since == 0 && w.younger > 0)
            w.younger--;
        else if (since == 1 && w.older > 0)
            w.older--;
        if (mp_cas_acqrel(share, &v, mp_waiting_pack(w)))
            return;
    }
}

/* One more of us in the open group, which is the one returned; or a negative errno. */
static int64_t join(struct mp_object *o)
{
    mp_a64 *share = mp_object_share(o, o->arena->self->slot);
    uint64_t v = mp_load_acquire(share); /* and a state that is no older */

    for (unsigned i = 0; i < TRIES_MOST; i++) {
        struct mp_waiting w = mp_waiting_unpack(v, (uint32_t)mp_load_acquire(o->value));

        if (w.younger == MP_WAITERS_MOST)
            return -EOVERFLOW;
        w.younger++;
        if (!mp_cas_seqcst(share, &v, mp_waiting_pack(w)))
            continue;
        if (announce(o))
            return w.group;
        leave(o, w.group);
        return -ESTALE;
    }
    return -EPROTO;
}

/* ---- wait ---- */

static bool may_go(uint64_t v, uint32_t group)
{
    uint32_t since = (uint32_t)v - group;

    return since >= 2 || (since == 1 && v >= TOKEN);
}

/* Under the lock. */
static bool take_token(struct mp_object *o, uint32_t group)
{
    uint64_t v = mp_load_acquire(o->value);

    for (unsigned i = 0; i < TRIES_MOST; i++) {
        if (!may_go(v, group) || !mp_object_is_live(o))
            return false;
        if ((uint32_t)v - group >= 2 || mp_cas_acqrel(o->value, &v, v - TOKEN))
            return true;
    }
    return true;
}

/* Sleep until one may go: 0; or -ETIMEDOUT, -ESTALE. */
static int sleep_until_notified(struct mp_condition *c, uint32_t group, uint64_t deadline_ns)
{
    struct mp_object *o = &c->object;
    struct mp_spinner spinner;
    bool go, last = false;
    int r;

    mp_spin_begin(&spinner, &c->spin, &o->entry->waiter_cpu, &o->entry->waker_cpu);
    do
        go = may_go(mp_load_acquire(o->value), group);
    while (!go && mp_spin_turn(&spinner));
    mp_spin_end(&spinner, go);
    mp_sleep_begins_anew();
    for (;;) {
        uint32_t w = mp_load_acquire(o->word);

        if (!mp_object_is_live(o))
            return -ESTALE;
        if (may_go(mp_load_acquire(o->value), group))
            return 0;
        if (last)
            return -ETIMEDOUT;
        if (!(w & SLEEP) && !mp_cas_seqcst(o->word, &w, w | SLEEP)) {
            last = mp_now_ns() >= deadline_ns; /* somebody may write it without end */
            continue;
        }
        r = mp_sleep_on_bits(o->arena, o->word, w | SLEEP, deadline_ns, MP_WAIT_CONDITION, o->index,
                             1u << (group & 1));
        if (r < 0 && r != -ETIMEDOUT)
            return r;
        last = r < 0;
    }
}

static int wait_until(struct mp_condition *c, struct held *h, uint64_t deadline_ns)
{
    struct mp_object *o = &c->object;
    int64_t joined = join(o);
    uint32_t group = (uint32_t)joined;
    int r, told;

    if (joined < 0)
        return (int)joined;
    let_go(h);
    for (;;) {
        r = sleep_until_notified(c, group, deadline_ns);
        told = take_back(h);
        if (told < 0)
            break;
        if (take_token(o, group)) {
            r = 0;
            break;
        }
        if (!mp_object_is_live(o))
            r = -ESTALE;
        if (r < 0)
            break;
        let_go_again(h, told == MP_OWNER_DIED);
    }
    leave(o, group);
    if (told < 0)
        return told;
    if (h->rlock)
        mp_rlock_restore(h->rlock, h->whole);
    return told == MP_OWNER_DIED ? told : r;
}

static int wait(struct mp_condition *c, struct held *h, uint64_t timeout_ns)
{
    int r = wait_until(c, h, mp_deadline(timeout_ns));

    return r == -ETIMEDOUT && timeout_ns == 0 ? -EAGAIN : r;
}

static int wait_for(struct mp_condition *c, struct held *h, int (*predicate)(void *user),
                    void *user, uint64_t timeout_ns)
{
    uint64_t deadline_ns = mp_deadline(timeout_ns);
    int r = timeout_ns == 0 ? -EAGAIN : 0;

    while (predicate(user) == 0) {
        if (r < 0)
            return r;
        r = wait_until(c, h, deadline_ns);
        if (r != 0 && r != -ETIMEDOUT)
            return r;
    }
    return 0;
}

int mp_condition_wait(mp_condition *condition, mp_lock *lock, uint64_t timeout_ns)
{
    struct held h;
    int r = of_lock(condition, lock, &h);

    return r < 0 ? r : wait(condition, &h, timeout_ns);
}

int mp_condition_wait_rlock(mp_condition *condition, mp_rlock *lock, uint64_t timeout_ns)
{
    struct held h;
    int r = of_rlock(condition, lock, &h);

    return r < 0 ? r : wait(condition, &h, timeout_ns);
}

int mp_condition_wait_for(mp_condition *condition, mp_lock *lock, int (*predicate)(void *user),
                          void *user, uint64_t timeout_ns)
{
    struct held h;
    int r = predicate ? of_lock(condition, lock, &h) : -EINVAL;

    return r < 0 ? r : wait_for(condition, &h, predicate, user, timeout_ns);
}

int mp_condition_wait_for_rlock(mp_condition *condition, mp_rlock *lock,
                                int (*predicate)(void *user), void *user, uint64_t timeout_ns)
{
    struct held h;
    int r = predicate ? of_rlock(condition, lock, &h) : -EINVAL;

    return r < 0 ? r : wait_for(condition, &h, predicate, user, timeout_ns);
}

/* ---- waiting for it together with others ---- */

/* They are no waiters, and sleep past the futex as it was when they began. */
static uint32_t arm(const struct mp_waitable *w)
{
    const struct mp_object *o = w->object;
    uint32_t v = mp_load_acquire(o->word);

    for (unsigned i = 0; i < TRIES_MOST && !(v & SLEEP); i++)
        if (mp_cas_seqcst(o->word, &v, v | SLEEP))
            return v | SLEEP;
    return v;
}

static int ready(const struct mp_waitable *w)
{
    const struct mp_object *o = w->object;
    uint32_t v = mp_load_acquire(o->word);

    if (!mp_object_is_live(o))
        return -ESTALE;
    return ((v ^ (uint32_t)w->value) & ~SLEEP) != 0;
}

static const struct mp_waitable_type waitable = {.arm = arm, .ready = ready, .crowd = true};

struct mp_waitable mp_condition_waitable(mp_condition *condition)
{
    struct mp_waitable w = {.fd = -1};

    if (!condition)
        return w;
    w = mp_object_waitable(&condition->object, condition->object.word, &waitable,
                           &condition->object);
    w.value = arm(&w);
    return w;
}

/* ---- notify ---- */

/* Whom to wake: of each group so many, or all. */
struct notified {
    uint32_t older;
    uint32_t younger;
    uint32_t open; /* as it was */
    bool all;      /* nobody is left */
};

static void count(const struct mp_object *o, uint32_t open, uint64_t *ret_older,
                  uint64_t *ret_younger)
{
    uint32_t high = mp_arena_slots_high(o->arena);
    uint64_t older = 0, younger = 0;

    for (uint32_t slot = 0; slot < high; slot++) {
        uint64_t v = mp_load_seqcst(mp_object_share(o, slot));

        if (v != 0) {
            struct mp_waiting w = mp_waiting_unpack(v, open);

            older += w.older;
            younger += w.younger;
        }
    }
    *ret_older = older;
    *ret_younger = younger;
}

/* The same, without a look at all shares where there is nobody. */
static bool has_waiters(const struct mp_object *o, uint32_t open, uint64_t *ret_older,
                        uint64_t *ret_younger)
{
    uint32_t flags;

    if (mp_load_seqcst(&o->entry->flags) != tag_of(o))
        return false;
    count(o, open, ret_older, ret_younger);
    if (*ret_older + *ret_younger > 0)
        return true;
    flags = tag_of(o);
    mp_cas_seqcst(&o->entry->flags, &flags, 0);
    count(o, open, ret_older, ret_younger);
    if (*ret_older + *ret_younger == 0)
        return false;
    flags = 0;
    mp_cas_seqcst(&o->entry->flags, &flags, tag_of(o));
    return true;
}

/* Deal n out. The new state. */
static uint64_t deal(uint64_t v, uint64_t older, uint64_t younger, uint32_t n, struct notified *ret)
{
    uint32_t open = (uint32_t)v;
    /* Those who died took none of theirs. */
    uint64_t tokens = mp_min(v >> 32, older);
    uint64_t rest;

    *ret = (struct notified){.open = open};
    if (tokens + n < older) {
        ret->older = n;
        return (tokens + n) << 32 | open;
    }
    rest = tokens + n - older;
    ret->older = older > 0 ? INT_MAX : 0;
    if (rest < younger) {
        ret->younger = (uint32_t)rest;
        return rest << 32 | (open + 1);
    }
    ret->younger = INT_MAX;
    ret->all = true;
    return open + 2;
}

static MP_NOINLINE void wake(struct mp_object *o, const struct notified *w)
{
    uint32_t odd = (w->open - 1) & 1;

    mp_store_relaxed(&o->entry->waker_cpu, mp_cpu_current() + 1);
    if (w->all) {
        mp_futex_wake(o->word, INT_MAX);
        return;
    }
    if (w->older)
        mp_futex_wake_bits(o->word, (int)mp_min(w->older, (uint32_t)INT_MAX), 1u << odd);
    if (w->younger)
        mp_futex_wake_bits(o->word, (int)mp_min(w->younger, (uint32_t)INT_MAX), 1u << (odd ^ 1));
}

/* Nobody waits in it; but others may sleep on its futex (mp_condition_waitable). */
static void tell_watchers(struct mp_object *o)
{
    uint32_t w = mp_load_acquire(o->word);

    if (!(w & SLEEP))
        return;
    if (!mp_cas_seqcst(o->word, &w, (w + MOVE) & ~SLEEP))
        atomic_fetch_add(o->word, MOVE);
    mp_futex_wake(o->word, INT_MAX);
}

static int notify(struct mp_condition *c, uint32_t n)
{
    struct mp_object *o = &c->object;
    uint64_t v = mp_load_acquire(o->value), older, younger;
    struct notified notified;
    uint32_t w;

    if (n == 0)
        return 0;
    for (unsigned i = 0;; i++) {
        if (i == TRIES_MOST)
            return -EPROTO;
        if (!mp_object_is_live(o))
            return -ESTALE; /* and what v says is another's */
        if (!has_waiters(o, (uint32_t)v, &older, &younger)) {
            tell_watchers(o);
            return 0;
        }
        /* Pairs with the acquire in sleep_until_notified(). */
        if (mp_cas_seqcst(o->value, &v, deal(v, older, younger, n, &notified)))
            break;
    }
    /* If nobody is left there are no sleepers, either. */
    w = mp_load_relaxed(o->word);
    if (!notified.all || !mp_cas_seqcst(o->word, &w, (w + MOVE) & ~SLEEP))
        w = atomic_fetch_add(o->word, MOVE);
    if (w & SLEEP)
        wake(o, &notified);
    return 0;
}

int mp_condition_notify(mp_condition *condition, mp_lock *lock, uint32_t n)
{
    struct held h;
    int r = of_lock(condition, lock, &h);

    return r < 0 ? r : notify(condition, n);
}

int mp_condition_notify_rlock(mp_condition *condition, mp_rlock *lock, uint32_t n)
{
    struct held h;
    int r = of_rlock(condition, lock, &h);

    return r < 0 ? r : notify(condition, n);
}

int mp_condition_notify_all(mp_condition *condition, mp_lock *lock)
{
    return mp_condition_notify(condition, lock, UINT32_MAX);
}

int mp_condition_notify_all_rlock(mp_condition *condition, mp_rlock *lock)
{
    return mp_condition_notify_rlock(condition, lock, UINT32_MAX);
}
