/* SPDX-License-Identifier: MIT */
#ifndef MP_LOCKS_H
#define MP_LOCKS_H

/*
 * Many robust locks in one object, known by number: one for each record of a large table. Each is
 * what mp_lock is, in 4 bytes.
 *
 *     mp_locks_create(arena, "rows", 1000000, &rows);
 *     ...
 *     r = mp_locks_acquire(rows, row, MP_SEC(1));
 *     if (r < 0)
 *         return r;
 *     if (r == MP_OWNER_DIED)
 *         repair(row);
 *     work(row);
 *     mp_locks_release(rows, row);
 *
 * `mpctl locks` shows who waits for any of them and who owns how many; `mpctl deadlocks` names each
 * by its number, as rows[42].
 *
 * Locks of neighbouring numbers lie in one cache line. A lock is owned by a process: any of its
 * threads may release it, and it is not recursive.
 */

#include <stdint.h>

#include <mp/arena.h>
#include <mp/lock.h>
#include <mp/waitable.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_locks mp_locks;

/** The most locks in one object. */
#define MP_LOCKS_MAX (1u << 26)

/**
 * mp_locks_create() - make @n locks in an arena, all free.
 * @name: unique in the arena; NULL makes one up (mp_locks_name() tells it)
 * @n: 1 to MP_LOCKS_MAX; they take 4 bytes each
 * @ret_locks: a handle, to be closed with mp_locks_close() before the arena
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -ENOBUFS (the directory or the arena is full),
 * -EMSGSIZE (more than the arena allows in one object), -ENOMEM, -EUSERS, -EPROTO.
 */
int mp_locks_create(mp_arena *arena, const char *name, uint32_t n, mp_locks **ret_locks);

/** mp_locks_open() - find them by name. Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -ENOMEM,
 * -EUSERS, -EPROTO. */
int mp_locks_open(mp_arena *arena, const char *name, mp_locks **ret_locks);

/** mp_locks_close() - drop the handle; the locks stay, and what this process owns stays owned. NULL
 * is fine. Return: NULL. */
mp_locks *mp_locks_close(mp_locks *locks);

/** mp_locks_destroy() - remove all of them for all; those who wait get -ESTALE. The handle stays to
 * be closed. Return: 0; -EINVAL, -ESTALE. */
int mp_locks_destroy(mp_locks *locks);

/** mp_locks_count() - how many there are. Return: their number; 0 for NULL. */
uint32_t mp_locks_count(const mp_locks *locks);

/**
 * mp_locks_acquire() - own lock @i.
 * @i: 0 to mp_locks_count() - 1
 * @timeout_ns: 0 tries once, MP_FOREVER waits
 *
 * Signals do not end the wait. Thread-safe; usable in a forked child, which owns nothing at first.
 *
 * Return: 0; MP_OWNER_DIED (1): it is owned, and its last owner died with it; -EAGAIN (timeout 0),
 * -ETIMEDOUT, -EINVAL, -ERANGE (there is no lock @i), -ESTALE, -ENOTRECOVERABLE (somebody has
 * written over it), -EUSERS (a forked child found no slot).
 */
int mp_locks_acquire(mp_locks *locks, uint32_t i, uint64_t timeout_ns);

/** mp_locks_try() - mp_locks_acquire() with a timeout of 0. */
int mp_locks_try(mp_locks *locks, uint32_t i);

/** mp_locks_release() - give lock @i up. Return: 0; -EINVAL, -ERANGE, -EPERM (nobody owns it,
 * or one who died), -ESTALE. */
int mp_locks_release(mp_locks *locks, uint32_t i);

/** mp_locks_owner() - who owns lock @i now, for people to look at. Return: 0; -EINVAL, -ERANGE,
 * -ESTALE. */
int mp_locks_owner(const mp_locks *locks, uint32_t i, struct mp_lock_owner *ret_owner);

/** mp_locks_waitable() - for mp_wait(): ready when lock @i can be had. Who is quicker gets it. */
struct mp_waitable mp_locks_waitable(mp_locks *locks, uint32_t i);

/** mp_locks_name() - their name in the arena. Return: a string that lives as long as the handle;
 * NULL for NULL. */
const char *mp_locks_name(const mp_locks *locks);

static inline void mp_locks_closep(mp_locks **locks)
{
    if (*locks)
        mp_locks_close(*locks);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
