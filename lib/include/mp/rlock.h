/* SPDX-License-Identifier: MIT */
#ifndef MP_RLOCK_H
#define MP_RLOCK_H

/*
 * A recursive robust lock between threads and processes: multiprocessing.RLock.
 *
 *     r = mp_rlock_acquire(lock, MP_FOREVER);
 *     if (r == MP_OWNER_DIED)
 *         repair(data);
 *     walk(data);              may acquire it again
 *     mp_rlock_release(lock);
 *
 * It belongs to a thread, which may acquire it many times and has to release it as often; nobody
 * else can. A thread that ends while holding it leaves it held; a process that dies while holding
 * it hands it to the next one, who is told by the positive MP_OWNER_DIED. Otherwise as mp_lock.
 */

#include <stdint.h>

#include <mp/arena.h>
#include <mp/waitable.h>
#include <mp/lock.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_rlock mp_rlock;

/**
 * mp_rlock_create() - make a recursive lock in an arena.
 * @name: unique in the arena; NULL makes one up (mp_rlock_name() tells it)
 * @ret_lock: a handle, to be closed with mp_rlock_close() before the arena
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -ENOBUFS (the directory is full), -ENOMEM, -EUSERS.
 */
int mp_rlock_create(mp_arena *arena, const char *name, mp_rlock **ret_lock);

/** mp_rlock_open() - find one by name. Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -ENOMEM,
 * -EUSERS. */
int mp_rlock_open(mp_arena *arena, const char *name, mp_rlock **ret_lock);

/** mp_rlock_close() - drop the handle; the lock stays. NULL is fine. Return: NULL. */
mp_rlock *mp_rlock_close(mp_rlock *lock);

/**
 * mp_rlock_destroy() - remove the lock for all; those who wait for it get -ESTALE.
 *
 * The handle stays to be closed. Return: 0; -EINVAL, -ESTALE.
 */
int mp_rlock_destroy(mp_rlock *lock);

/**
 * mp_rlock_acquire() - take the lock, or take it once more.
 * @timeout_ns: 0 tries once, MP_FOREVER waits; one's own lock is never waited for
 *
 * Signals do not end the wait. Thread-safe; usable in a forked child, which does not hold what its
 * parent held.
 *
 * Return: 0; MP_OWNER_DIED (1): held, and its former owner died; -EAGAIN (timeout 0), -ETIMEDOUT,
 * -EOVERFLOW (held 2^22 - 1 times), -EINVAL, -ESTALE, -ENOTRECOVERABLE, -EUSERS (a forked child
 * found no slot).
 */
int mp_rlock_acquire(mp_rlock *lock, uint64_t timeout_ns);

/** mp_rlock_try() - mp_rlock_acquire() with a timeout of 0. */
int mp_rlock_try(mp_rlock *lock);

/** mp_rlock_release() - give it up once. Return: 0; -EPERM (this thread does not hold it), -EINVAL,
 * -ESTALE. */
int mp_rlock_release(mp_rlock *lock);

/** mp_rlock_owner() - who holds it now, for people to look at. Return: 0; -EINVAL, -ESTALE. */
int mp_rlock_owner(const mp_rlock *lock, struct mp_lock_owner *ret_owner);

/** mp_rlock_count() - how often this thread holds it. Return: 0 and more; -EINVAL, -ESTALE. */
int mp_rlock_count(const mp_rlock *lock);

/**
 * mp_rlock_waitable() - for mp_wait(): ready when the calling thread can have it, by
 * mp_rlock_try(). Who is quicker gets it.
 *
 * The descriptor of a poller belongs to no thread, and is readable when nobody holds the lock.
 */
struct mp_waitable mp_rlock_waitable(mp_rlock *lock);

/** mp_rlock_name() - its name in the arena. Return: a string that lives as long as the handle; NULL
 * for NULL. */
const char *mp_rlock_name(const mp_rlock *lock);

static inline void mp_rlock_closep(mp_rlock **lock)
{
    if (*lock)
        mp_rlock_close(*lock);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
