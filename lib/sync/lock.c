/* SPDX-License-Identifier: MIT */
/* The robust lock: its word alone (sync/word.c). */

#include <errno.h>
#include <stdlib.h>

#include <mp/lock.h>

#include "arena/liveness.h"
#include "base/clock.h"
#include "sync/lock.h"

static int keep(int r, struct mp_lock **lock, mp_lock **ret_lock)
{
    if (r < 0)
        return r;
    *ret_lock = mp_take_ptr(*lock);
    return 0;
}

int mp_lock_create(mp_arena *arena, const char *name, mp_lock **ret_lock)
{
    _cleanup_free_ struct mp_lock *l = NULL;

    if (!arena || !ret_lock)
        return -EINVAL;
    l = malloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    return keep(mp_object_create(arena, name, MP_KIND_LOCK, 0, 0, 0, &l->object), &l, ret_lock);
}

int mp_lock_open(mp_arena *arena, const char *name, mp_lock **ret_lock)
{
    _cleanup_free_ struct mp_lock *l = NULL;

    if (!arena || !name || !ret_lock)
        return -EINVAL;
    l = malloc(sizeof *l);
    if (!l)
        return -ENOMEM;
    return keep(mp_object_open(arena, name, MP_KIND_LOCK, 0, &l->object), &l, ret_lock);
}

mp_lock *mp_lock_close(mp_lock *lock)
{
    free(lock);
    return NULL;
}

int mp_lock_destroy(mp_lock *lock)
{
    return lock ? mp_object_destroy(&lock->object) : -EINVAL;
}

int mp_lock_acquire(mp_lock *lock, uint64_t timeout_ns)
{
    int r;

    if (mp_unlikely(!lock))
        return -EINVAL;
    if (mp_likely(mp_word_acquire_fast(&lock->object, &r)))
        return r;
    return mp_word_acquire_slow(&lock->object, mp_deadline(timeout_ns), MP_WAIT_LOCK);
}

int mp_lock_try(mp_lock *lock)
{
    return mp_lock_acquire(lock, 0);
}

int mp_lock_release(mp_lock *lock)
{
    return mp_likely(lock) ? mp_word_release(&lock->object) : -EINVAL;
}

int mp_lock_owner(const mp_lock *lock, struct mp_lock_owner *ret_owner)
{
    return lock && ret_owner ? mp_word_owner(&lock->object, ret_owner) : -EINVAL;
}

static uint32_t arm(const struct mp_waitable *w)
{
    return mp_word_arm(w->object);
}

static int ready(const struct mp_waitable *w)
{
    return mp_word_ready(w->object);
}

static const struct mp_waitable_type waitable = {.arm = arm, .ready = ready};

struct mp_waitable mp_lock_waitable(mp_lock *lock)
{
    struct mp_object *o;

    if (!lock)
        return (struct mp_waitable){.fd = -1};
    o = &lock->object;
    return mp_object_waitable(o, o->word, &waitable, o);
}

const char *mp_lock_name(const mp_lock *lock)
{
    return lock ? lock->object.name : NULL;
}
