/* SPDX-License-Identifier: MIT */
#ifndef MP_LOCK_H
#define MP_LOCK_H

/*
 * A robust lock between threads and processes: multiprocessing.Lock.
 *
 *     r = mp_lock_acquire(lock, MP_FOREVER);
 *     if (r == MP_OWNER_DIED)
 *         repair(data);
 *     data->count++;
 *     mp_lock_release(lock);
 *
 * Not recursive, not fair (a releaser may take it again; those asleep are served in order),
 * released by any thread or process, as Python's. It belongs to a process: a thread that ends while
 * holding it leaves it held; a process that dies while holding it hands it to the next one, who is
 * told by the positive MP_OWNER_DIED.
 */

#include <stdint.h>
#include <sys/types.h>

#include <mp/arena.h>
#include <mp/waitable.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_lock mp_lock;

/**
 * mp_lock_create() - make a lock in an arena.
 * @name: unique in the arena; NULL makes one up (mp_lock_name() tells it)
 * @ret_lock: a handle, to be closed with mp_lock_close() before the arena
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -ENOBUFS (the directory is full), -ENOMEM, -EUSERS.
 */
int mp_lock_create(mp_arena *arena, const char *name, mp_lock **ret_lock);

/** mp_lock_open() - find a lock by name. Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -ENOMEM,
 * -EUSERS. */
int mp_lock_open(mp_arena *arena, const char *name, mp_lock **ret_lock);

/** mp_lock_close() - drop the handle; the lock stays. NULL is fine. Return: NULL. */
mp_lock *mp_lock_close(mp_lock *lock);

/**
 * mp_lock_destroy() - remove the lock for all; those who wait for it get -ESTALE.
 *
 * The handle stays to be closed. Return: 0; -EINVAL, -ESTALE.
 */
int mp_lock_destroy(mp_lock *lock);

/**
 * mp_lock_acquire() - take the lock.
 * @timeout_ns: 0 tries once, MP_FOREVER waits
 *
 * Signals do not end the wait. Thread-safe; usable in a forked child.
 *
 * Return: 0; MP_OWNER_DIED (1): held, and its former owner died; -EAGAIN (timeout 0), -ETIMEDOUT,
 * -EINVAL, -ESTALE, -ENOTRECOVERABLE, -EUSERS (a forked child found no slot).
 */
int mp_lock_acquire(mp_lock *lock, uint64_t timeout_ns);

/** mp_lock_try() - mp_lock_acquire() with a timeout of 0. */
int mp_lock_try(mp_lock *lock);

/** mp_lock_release() - give it up. Return: 0; -EPERM (nobody holds it, or one who died), -EINVAL,
 * -ESTALE. */
int mp_lock_release(mp_lock *lock);

struct mp_lock_owner {
    pid_t pid;        /* 0: nobody. As seen by the owner's pid namespace. */
    uint32_t slot;    /* its participant slot */
    uint32_t self;    /* 1: this process */
    uint32_t waiters; /* 1: somebody is (or was) asleep for it */
};

/** mp_lock_owner() - who holds it now, for people to look at. Return: 0; -EINVAL, -ESTALE. */
int mp_lock_owner(const mp_lock *lock, struct mp_lock_owner *ret_owner);

/**
 * mp_lock_waitable() - for mp_wait(): ready when the lock can be had, by mp_lock_try(). Who is
 * quicker gets it.
 */
struct mp_waitable mp_lock_waitable(mp_lock *lock);

/** mp_lock_name() - its name in the arena. Return: a string that lives as long as the handle; NULL
 * for NULL. */
const char *mp_lock_name(const mp_lock *lock);

static inline void mp_lock_closep(mp_lock **lock)
{
    if (*lock)
        mp_lock_close(*lock);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
