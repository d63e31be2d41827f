/* SPDX-License-Identifier: MIT */
/*
 * Many locks in one object.
 *
 * Each is a word as that of a lock (sync/word.c): {waiters:1, token:31}. But nobody sleeps on it.
 * Sleepers have one of MP_LOCKS_SLEEPS sleep words, by the number of the lock. Its count moves with
 * each release of a lock that has waiters, and all who sleep there look again. So when somebody
 * dies the sweep moves and wakes those few words and touches no lock, of which there may be a
 * million: the generation of the dead owner has moved, and says it.
 *
 *   state         who, by which atomic                     a crash just after leaves
 *   0             anyone: CAS 0 -> me                      the word names the dead; the next one
 *                                                          sees its generation moved, and is told
 *   owner alive   a waiter: arms the sleep word, then      the flag stays: one idle wake
 *                 CAS v -> v|WAITERS, sleeps
 *   owner alive   anyone: CAS v -> 0 (release); the flag   not woken: the sweep moves and wakes all
 *                 was up: sleep word moved, all woken      sleep words
 *   owner dead    anyone: CAS v -> me|WAITERS, told        names the new dead one: told again
 *
 * The waiter has armed before its last look at the word, and who releases moves the sleep word
 * after that: so either the look sees the release, or the sleep does not begin. All of them are
 * sequentially consistent. The flag goes down with a release, and those who wake raise it again.
 *
 * The words lie behind the sleep words in a block of the entry's, whose memory is type-stable: what
 * a handle to destroyed locks still does there is undone (mp_word_acquired_another).
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <mp/locks.h>

#include "arena/liveness.h"
#include "arena/sleep.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "kernel/cpu.h"
#include "sync/word.h"

#define SPIN_TURNS 40u
#define SHARE 8u /* a slot: none of it is used, but the directory revives objects by their shares */

struct mp_locks {
    struct mp_object object; /* `word` is that of the entry, which is none of the locks */
    mp_a32 *sleeps;
    mp_a32 *words;
    uint32_t n;
};

/* ---- life ---- */

static int empty(struct mp_arena *a, struct mp_directory_entry *e, void *memory,
                 const struct mp_object_spec *spec, bool revived)
{
    (void)a;
    (void)e;
    (void)revived;
    memset(memory, 0, spec->memory);
    return 0;
}

static uint64_t memory_of(const struct mp_arena *a, uint64_t n)
{
    return mp_max((MP_LOCKS_SLEEPS + n) * sizeof(mp_a32),
                  (uint64_t)SHARE * a->geometry.participants);
}

static int fill(struct mp_locks *l, uint64_t n)
{
    if (n == 0 || n > MP_LOCKS_MAX)
        return -EPROTO;
    l->sleeps =
        mp_directory_memory(l->object.arena, l->object.entry, memory_of(l->object.arena, n));
    if (!l->sleeps)
        return -EPROTO;
    l->words = l->sleeps + MP_LOCKS_SLEEPS;
    l->n = (uint32_t)n;
    return 0;
}

static int open_locks(mp_arena *arena, const char *name, struct mp_locks *l)
{
    int r = mp_object_open(arena, name, MP_KIND_LOCKS, SHARE, &l->object);

    return r < 0 ? r : fill(l, mp_load_relaxed(&l->object.entry->cells));
}

int mp_locks_create(mp_arena *arena, const char *name, uint32_t n, mp_locks **ret_locks)
{
    struct mp_object_spec spec = {
        .name = name, .kind = MP_KIND_LOCKS, .size = SHARE, .initialize = empty};
    _cleanup_free_ struct mp_locks *l = NULL;
    uint32_t index;
    uint64_t live;
    int r;

    if (!arena || !ret_locks || n == 0 || n > MP_LOCKS_MAX)
        return -EINVAL;
    l = malloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    spec.cells = n;
    spec.memory = memory_of(arena, n);
    r = mp_directory_create(arena, &spec, &index, &live);
    if (r < 0)
        return r;
    mp_object_fill(arena, index, live, SHARE, &l->object);
    r = fill(l, n);
    if (r < 0) {
        mp_directory_destroy(arena, index, live, NULL, NULL);
        return r;
    }
    *ret_locks = mp_take_ptr(l);
    return 0;
}

int mp_locks_open(mp_arena *arena, const char *name, mp_locks **ret_locks)
{
    _cleanup_free_ struct mp_locks *l = NULL;
    int r;

    if (!arena || !name || !ret_locks)
        return -EINVAL;
    l = malloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    r = open_locks(arena, name, l);
    if (r < 0)
        return r;
    *ret_locks = mp_take_ptr(l);
    return 0;
}

mp_locks *mp_locks_close(mp_locks *locks)
{
    free(locks);
    return NULL;
}

int mp_locks_destroy(mp_locks *locks)
{
    return locks ? mp_object_destroy(&locks->object) : -EINVAL;
}

uint32_t mp_locks_count(const mp_locks *locks)
{
    return locks ? locks->n : 0;
}

const char *mp_locks_name(const mp_locks *locks)
{
    return locks ? locks->object.name : NULL;
}

/* ---- acquire ---- */

static mp_a32 *sleep_of(const struct mp_locks *l, uint32_t i)
{
    return &l->sleeps[i % MP_LOCKS_SLEEPS];
}

/* One of them as an object of its own, for what sync/word.h does with its word. */
static MP_INLINE struct mp_object one(const struct mp_locks *l, uint32_t i)
{
    struct mp_object o = l->object;

    o.word = &l->words[i];
    return o;
}

/* Ours; unless the entry was used for others between our look and the CAS. Then it is undone. */
static int acquired(struct mp_locks *l, uint32_t i, int r)
{
    struct mp_object o = one(l, i);

    r = mp_word_acquired(&o, r, r == MP_OWNER_DIED ? MP_TOKEN_DIED : 0);
    if (mp_unlikely(r == -ESTALE))
        mp_sleep_wake_all(sleep_of(l, i));
    return r;
}

static bool spin(const mp_a32 *word, uint32_t v)
{
    if (mp_cpu_allowed() == 1)
        return false;
    for (uint32_t turns = SPIN_TURNS; turns > 0; turns--) {
        if (mp_load_relaxed(word) != v)
            return true;
        mp_pause();
    }
    return false;
}

/* One look: 1 and *ret if that ended it; 0: it is owned, as *ret_v says; 2: it has changed. */
static int look(struct mp_locks *l, uint32_t i, uint32_t token, uint32_t *ret_v, int *ret)
{
    mp_a32 *word = &l->words[i];
    uint32_t v = mp_load_seqcst(word);
    int dead;

    *ret = -ESTALE;
    if (!mp_object_is_live(&l->object))
        return 1;
    dead = v == 0 ? 0 : mp_token_dead(l->object.arena, v & ~MP_TOKEN_WAITERS);
    *ret = -ENOTRECOVERABLE;
    if (dead < 0)
        return 1;
    *ret_v = v;
    if (v != 0 && !dead)
        return 0;
    /* Others may be asleep at the dead one's: all of them look when it is released. */
    if (!mp_cas_acquire(word, &v, token | (v & MP_TOKEN_WAITERS)))
        return 2;
    *ret = acquired(l, i, dead ? MP_OWNER_DIED : 0);
    return 1;
}

static MP_NOINLINE int acquire_slow(struct mp_locks *l, uint32_t i, uint64_t timeout_ns)
{
    uint64_t deadline_ns = mp_deadline(timeout_ns);
    struct mp_arena *a = l->object.arena;
    mp_a32 *word = &l->words[i];
    bool last = false;
    uint32_t v = 0;
    int r = 0;
    uint32_t token = mp_arena_enter(a, &r);

    if (!token)
        return r;
    mp_sleep_begins_anew();
    for (uint32_t rounds = 0;; rounds++) {
        uint32_t armed;
        int seen = look(l, i, token, &v, &r);

        if (seen == 1)
            return r;
        if (deadline_ns == 0 && seen == 0)
            return -EAGAIN;
        if (last)
            return -ETIMEDOUT;
        /* Somebody may write the word without end: the deadline is looked at then, too. */
        if ((rounds & 63) == 63 && deadline_ns != MP_FOREVER && mp_now_ns() >= deadline_ns)
            last = true;
        if (seen == 2 || spin(word, v))
            continue;
        armed = mp_sleep_arm_fenced(sleep_of(l, i));
        if (!(v & MP_TOKEN_WAITERS) && !mp_cas_seqcst(word, &v, v | MP_TOKEN_WAITERS))
            continue;
        /* The last look: also at the owner, who may have died before the sweep moved `armed`. */
        if (mp_load_seqcst(word) != (v | MP_TOKEN_WAITERS) ||
            mp_token_dead(a, v & ~MP_TOKEN_WAITERS) != 0 || !mp_object_is_live(&l->object))
            continue;
        if (mp_mutation(LOCKS_ARMED_LATE))
            armed = mp_load_seqcst(sleep_of(l, i));
        r = mp_sleep_on(a, sleep_of(l, i), armed, deadline_ns, MP_WAIT_LOCKS,
                        l->object.index | (uint64_t)i << 32);
        if (r == -ETIMEDOUT)
            last = true; /* one more look */
        else if (r < 0)
            return r;
    }
}

int mp_locks_acquire(mp_locks *locks, uint32_t i, uint64_t timeout_ns)
{
    uint32_t token, v = 0;

    if (mp_unlikely(!locks || i >= locks->n))
        return locks ? -ERANGE : -EINVAL;
    token = mp_load_relaxed(locks->object.token);
    /* Pairs with the release in mp_locks_release. */
    if (mp_unlikely(!token || !mp_object_is_live(&locks->object) ||
                    !mp_cas_acquire(&locks->words[i], &v, token)))
        return acquire_slow(locks, i, timeout_ns);
    return mp_likely(mp_object_is_live(&locks->object)) ? 0 : acquired(locks, i, 0);
}

int mp_locks_try(mp_locks *locks, uint32_t i)
{
    return mp_locks_acquire(locks, i, 0);
}

/* ---- release ---- */

int mp_locks_release(mp_locks *locks, uint32_t i)
{
    mp_a32 *word;
    uint32_t v, old, token;

    if (mp_unlikely(!locks || i >= locks->n))
        return locks ? -ERANGE : -EINVAL;
    word = &locks->words[i];
    v = old = mp_load_acquire(word);
    if (mp_unlikely(!mp_object_is_live(&locks->object)))
        return -ESTALE;
    token = v & ~MP_TOKEN_WAITERS;
    /* Any process may release what another one owns; but what a dead one owned is nobody's, and the
     * next one is to be told. */
    if (mp_unlikely(token == 0 || (token != mp_load_relaxed(locks->object.token) &&
                                   mp_token_dead(locks->object.arena, token) == 1)))
        return -EPERM;
    /* Pairs with the acquire of the next owner. As mp_word_give(). */
    if (mp_unlikely(!mp_cas_seqcst(word, &old, 0)))
        v = mp_word_give_again(word, v);
    if (mp_unlikely(v & MP_TOKEN_WAITERS) && !mp_mutation(LOCKS_TELL_NOBODY))
        mp_sleep_wake_all(sleep_of(locks, i));
    return 0;
}

/* ---- to look at, and to wait for with others ---- */

int mp_locks_owner(const mp_locks *locks, uint32_t i, struct mp_lock_owner *ret_owner)
{
    struct mp_object o;

    if (!locks || !ret_owner)
        return -EINVAL;
    if (i >= locks->n)
        return -ERANGE;
    o = one(locks, i);
    return mp_word_owner(&o, ret_owner);
}

/* The flag in the word of the lock, of which many have one sleep word. */
static void arm_also(const struct mp_waitable *w)
{
    struct mp_object o = one(w->object, (uint32_t)w->value);

    mp_word_arm(&o);
}

static uint32_t arm(const struct mp_waitable *w)
{
    uint32_t armed = mp_sleep_arm_fenced(w->word);

    arm_also(w);
    return armed;
}

static int ready(const struct mp_waitable *w)
{
    struct mp_object o = one(w->object, (uint32_t)w->value);

    return mp_word_ready(&o);
}

static const struct mp_waitable_type waitable = {
    .arm = arm, .arm_also = arm_also, .ready = ready, .crowd = true};

struct mp_waitable mp_locks_waitable(mp_locks *locks, uint32_t i)
{
    struct mp_waitable w = {.fd = -1};

    if (!locks || i >= locks->n)
        return w;
    w = mp_object_waitable(&locks->object, sleep_of(locks, i), &waitable, locks);
    w.value = i;
    return w;
}
