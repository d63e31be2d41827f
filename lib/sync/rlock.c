/* SPDX-License-Identifier: MIT */
/*
 * The recursive lock: the word of a lock (sync/word.c), which names the process, and a value that
 * names the thread and counts: {count:22, low bits of the token:20, thread:22}.
 *
 *   value         who, and when                              a crash leaves
 *   0             nobody is in it                            nothing
 *   {n, me}       the owner, by plain stores: after it got   the word names the dead; the value is
 *                 the word, and until before it gives it up  overwritten by the next owner
 *
 * "Is it mine?" is: the word names my process, and the value my thread. Only I can have written
 * that. The token in it tells a value that a dead process left, with a thread of the same number.
 */

#include <errno.h>
#include <stdlib.h>

#include "arena/sleep.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "sync/rlock.h"

#define COUNT_SHIFT 42
#define COUNT_MOST ((1u << 22) - 1)
#define ONCE (UINT64_C(1) << COUNT_SHIFT)

static MP_INLINE uint64_t me(const struct mp_rlock *l)
{
    return (uint64_t)(mp_load_relaxed(l->object.token) & 0xfffff) << 22 |
           (mp_thread_id(l->object.arena) & 0x3fffff);
}

static int keep(int r, struct mp_rlock **lock, mp_rlock **ret_lock)
{
    if (r < 0)
        return r;
    (*lock)->wait = MP_WAIT_RLOCK;
    *ret_lock = mp_take_ptr(*lock);
    return 0;
}

int mp_rlock_create(mp_arena *arena, const char *name, mp_rlock **ret_lock)
{
    _cleanup_free_ struct mp_rlock *l = NULL;

    if (!arena || !ret_lock)
        return -EINVAL;
    l = malloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    return keep(mp_object_create(arena, name, MP_KIND_RLOCK, 0, 0, 0, &l->object), &l, ret_lock);
}

int mp_rlock_open(mp_arena *arena, const char *name, mp_rlock **ret_lock)
{
    _cleanup_free_ struct mp_rlock *l = NULL;

    if (!arena || !name || !ret_lock)
        return -EINVAL;
    l = malloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    return keep(mp_object_open(arena, name, MP_KIND_RLOCK, 0, &l->object), &l, ret_lock);
}

mp_rlock *mp_rlock_close(mp_rlock *lock)
{
    free(lock);
    return NULL;
}

int mp_rlock_destroy(mp_rlock *lock)
{
    return lock ? mp_object_destroy(&lock->object) : -EINVAL;
}

/* The value if it is ours, else 0. */
static MP_INLINE uint64_t mine(const struct mp_rlock *l)
{
    uint64_t v = mp_load_relaxed(l->object.value);

    return mp_word_is_mine(&l->object) && (v & (ONCE - 1)) == me(l) ? v : 0;
}

bool mp_rlock_is_mine(const struct mp_rlock *l)
{
    return mine(l) >= ONCE;
}

/* What the last owner's value says when it died, which is none of ours. */
static MP_INLINE uint64_t left_behind(const struct mp_object *o)
{
    return mp_mutation(RLOCK_KEEPS_COUNT) ? mp_load_relaxed(o->value) & ~(ONCE - 1) : 0;
}

static MP_NOINLINE int acquire_slow(struct mp_rlock *lock, uint64_t timeout_ns)
{
    struct mp_object *o = &lock->object;
    uint64_t v = mine(lock);
    int r;

    if (v && mp_object_is_live(o)) {
        if (v >> COUNT_SHIFT == COUNT_MOST)
            return -EOVERFLOW;
        mp_store_relaxed(o->value, v + ONCE);
        return 0;
    }
    r = mp_word_acquire_slow(o, mp_deadline(timeout_ns), lock->wait);
    if (r >= 0)
        mp_store_relaxed(o->value, me(lock) + ONCE + left_behind(o));
    return r;
}

/* The value of a lock that this thread holds once, if that can be told at once; else 0. */
static MP_INLINE uint64_t me_once(const struct mp_object *o, uint32_t token)
{
    const struct mp_self *self = o->arena->self;

    /* Who takes part has a life that is not 0, so this thread has asked for its number. */
    if (mp_unlikely(!token || mp_thread_number.life != mp_load_relaxed(&self->life)))
        return 0;
    return ONCE | (uint64_t)(token & 0xfffff) << 22 | (mp_thread_number.tid & 0x3fffff);
}

int mp_rlock_acquire(mp_rlock *lock, uint64_t timeout_ns)
{
    struct mp_object *o;
    uint32_t token, v = 0;
    uint64_t once;

    if (mp_unlikely(!lock))
        return -EINVAL;
    o = &lock->object;
    token = mp_load_relaxed(o->token);
    once = me_once(o, token);
    /* Pairs with the release in mp_word_give(). */
    if (mp_unlikely(!once || !mp_object_is_live(o) || !mp_cas_acquire(o->word, &v, token)))
        return acquire_slow(lock, timeout_ns);
    if (mp_unlikely(!mp_object_is_live(o)))
        return mp_word_acquired_another(o, 0);
    mp_store_relaxed(o->value, once);
    return 0;
}

int mp_rlock_try(mp_rlock *lock)
{
    return mp_rlock_acquire(lock, 0);
}

static MP_NOINLINE int release_slow(struct mp_rlock *lock)
{
    uint64_t v = mine(lock);

    if (!mp_object_is_live(&lock->object))
        return -ESTALE;
    if (v < ONCE)
        return -EPERM;
    v = v - ONCE < ONCE ? 0 : v - ONCE;
    mp_store_relaxed(lock->object.value, v);
    if (v == 0)
        mp_word_give(lock->object.word, mp_load_relaxed(lock->object.token));
    return 0;
}

int mp_rlock_release(mp_rlock *lock)
{
    struct mp_object *o;
    uint32_t token;
    uint64_t once;

    if (mp_unlikely(!lock))
        return -EINVAL;
    o = &lock->object;
    token = mp_load_relaxed(o->token);
    once = me_once(o, token);
    if (mp_unlikely(!once || mp_load_relaxed(o->value) != once ||
                    (mp_load_relaxed(o->word) & ~MP_TOKEN_WAITERS) != token ||
                    !mp_object_is_live(o)))
        return release_slow(lock);
    mp_store_relaxed(o->value, 0);
    mp_word_give(o->word, token);
    return 0;
}

uint64_t mp_rlock_release_whole(struct mp_rlock *l)
{
    uint64_t whole = mp_load_relaxed(l->object.value);

    mp_store_relaxed(l->object.value, 0);
    mp_word_release(&l->object);
    return whole;
}

void mp_rlock_restore(struct mp_rlock *l, uint64_t whole)
{
    mp_store_relaxed(l->object.value, whole);
}

int mp_rlock_owner(const mp_rlock *lock, struct mp_lock_owner *ret_owner)
{
    return lock && ret_owner ? mp_word_owner(&lock->object, ret_owner) : -EINVAL;
}

int mp_rlock_count(const mp_rlock *lock)
{
    if (!lock)
        return -EINVAL;
    if (!mp_object_is_live(&lock->object))
        return -ESTALE;
    return (int)(mine(lock) >> COUNT_SHIFT);
}

static uint32_t arm(const struct mp_waitable *w)
{
    const struct mp_rlock *l = w->object;

    return mp_word_arm(&l->object);
}

static int ready(const struct mp_waitable *w)
{
    const struct mp_rlock *l = w->object;
    int r = mp_word_ready(&l->object);

    return r == 0 ? mp_rlock_is_mine(l) : r;
}

static const struct mp_waitable_type waitable = {.arm = arm, .ready = ready};

struct mp_waitable mp_rlock_waitable(mp_rlock *lock)
{
    if (!lock)
        return (struct mp_waitable){.fd = -1};
    return mp_object_waitable(&lock->object, lock->object.word, &waitable, lock);
}

const char *mp_rlock_name(const mp_rlock *lock)
{
    return lock ? lock->object.name : NULL;
}
