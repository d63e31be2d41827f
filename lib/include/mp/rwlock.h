/* SPDX-License-Identifier: MIT */
#ifndef MP_RWLOCK_H
#define MP_RWLOCK_H

/*
 * A robust lock for many readers or one writer, between threads and processes.
 *
 *     r = mp_rwlock_read(lock, MP_FOREVER);
 *     if (r >= 0) {
 *         sum = table->a + table->b;
 *         mp_rwlock_release_read(lock);
 *     }
 *
 * A writer that waits keeps new readers out, so readers do not starve writers. Not recursive: who
 * reads and reads again may wait for a writer that waits for him. It belongs to a process, as
 * mp_lock does: any thread of it may release what another acquired, and a forked child has nothing
 * of its parent's. What a dead reader had comes back; when a writer dies, those who come after it
 * are told by the positive MP_OWNER_DIED: each reader, and the next writer.
 */

#include <stdint.h>

#include <mp/arena.h>
#include <mp/lock.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_rwlock mp_rwlock;

/**
 * mp_rwlock_create() - make a rwlock in an arena.
 * @name: unique in the arena; NULL makes one up (mp_rwlock_name() tells it)
 * @ret_lock: a handle, to be closed with mp_rwlock_close() before the arena
 *
 * It takes 64 bytes of the arena for each participant slot.
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -ENOBUFS, -EMSGSIZE (the arena is too small for it),
 * -ENOMEM, -EUSERS, -EPROTO.
 */
int mp_rwlock_create(mp_arena *arena, const char *name, mp_rwlock **ret_lock);

/** mp_rwlock_open() - find a rwlock by name. Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -ENOMEM,
 * -EPROTO, -EUSERS. */
int mp_rwlock_open(mp_arena *arena, const char *name, mp_rwlock **ret_lock);

/** mp_rwlock_close() - drop the handle; the lock stays, and what is held of it. NULL is fine.
 * Return: NULL. */
mp_rwlock *mp_rwlock_close(mp_rwlock *lock);

/**
 * mp_rwlock_destroy() - remove the lock for all; those who wait for it get -ESTALE.
 *
 * The handle stays to be closed. Return: 0; -EINVAL, -ESTALE.
 */
int mp_rwlock_destroy(mp_rwlock *lock);

/**
 * mp_rwlock_read() - come in as one of many readers.
 * @timeout_ns: 0 tries once, MP_FOREVER waits
 *
 * Signals do not end the wait. Thread-safe; usable in a forked child.
 *
 * Return: 0; MP_OWNER_DIED (1): in, and the last writer died, so what it wrote may be half done;
 * -EAGAIN (timeout 0), -ETIMEDOUT, -EINVAL, -ESTALE, -ENOTRECOVERABLE, -EUSERS (a forked child
 * found no slot).
 */
int mp_rwlock_read(mp_rwlock *lock, uint64_t timeout_ns);

/** mp_rwlock_try_read() - mp_rwlock_read() with a timeout of 0. */
int mp_rwlock_try_read(mp_rwlock *lock);

/**
 * mp_rwlock_write() - come in alone.
 * @timeout_ns: 0 tries once, MP_FOREVER waits
 *
 * From when it has its turn among the writers, no reader comes in any more.
 *
 * Return: 0; MP_OWNER_DIED (1): in, and the last writer died; otherwise as mp_rwlock_read().
 */
int mp_rwlock_write(mp_rwlock *lock, uint64_t timeout_ns);

/** mp_rwlock_try_write() - mp_rwlock_write() with a timeout of 0. */
int mp_rwlock_try_write(mp_rwlock *lock);

/** mp_rwlock_release_read() - one reader of this process leaves. Return: 0; -EPERM (this process
 * does not read), -EINVAL, -ESTALE. */
int mp_rwlock_release_read(mp_rwlock *lock);

/** mp_rwlock_release_write() - the writer leaves. Return: 0; -EPERM (this process does not write),
 * -EINVAL, -ESTALE. */
int mp_rwlock_release_write(mp_rwlock *lock);

/** mp_rwlock_writer() - who writes now, or waits for the readers to leave; for people to look at.
 * Return: 0; -EINVAL, -ESTALE. */
int mp_rwlock_writer(const mp_rwlock *lock, struct mp_lock_owner *ret_owner);

/** mp_rwlock_readers() - how many read now, in all processes; for people to look at. Return: 0;
 * -EINVAL, -ESTALE. */
int mp_rwlock_readers(const mp_rwlock *lock, uint64_t *ret_readers);

/** mp_rwlock_name() - its name in the arena. Return: a string that lives as long as the handle;
 * NULL for NULL. */
const char *mp_rwlock_name(const mp_rwlock *lock);

static inline void mp_rwlock_closep(mp_rwlock **lock)
{
    if (*lock)
        mp_rwlock_close(*lock);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
