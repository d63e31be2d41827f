/* SPDX-License-Identifier: MIT */
#ifndef MP_CONDITION_H
#define MP_CONDITION_H

/*
 * A condition between threads and processes, on a lock or a recursive lock:
 * multiprocessing.Condition.
 *
 *     r = mp_lock_acquire(lock, MP_FOREVER);
 *     while (r == 0 && !data->ready)
 *         r = mp_condition_wait(cond, lock, MP_FOREVER);
 *
 *     mp_lock_acquire(lock, MP_FOREVER);
 *     data->ready = true;
 *     mp_condition_notify(cond, lock, 1);
 *     mp_lock_release(lock);
 *
 * One condition goes with one lock, of the same arena: the one that those hold who wait, and those
 * who notify. A notification goes to somebody who waits at that time, those first who have waited
 * longest, and never to one who comes later. It is not lost with the process that it was meant for:
 * when one of those who wait dies, others may be let go who were not notified. So what is waited
 * for is looked at again after each wait, as in the loop above.
 */

#include <stdint.h>

#include <mp/arena.h>
#include <mp/waitable.h>
#include <mp/lock.h>
#include <mp/rlock.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_condition mp_condition;

/**
 * mp_condition_create() - make a condition in an arena.
 * @name: unique in the arena; NULL makes one up (mp_condition_name() tells it)
 * @ret_condition: a handle, to be closed with mp_condition_close() before the arena
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -ENOBUFS (the directory or the arena is full),
 * -EMSGSIZE (it does not fit into an arena of this size), -ENOMEM, -EUSERS, -EPROTO (spoiled).
 */
int mp_condition_create(mp_arena *arena, const char *name, mp_condition **ret_condition);

/** mp_condition_open() - find one by name. Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -ENOMEM,
 * -EUSERS, -EPROTO (spoiled). */
int mp_condition_open(mp_arena *arena, const char *name, mp_condition **ret_condition);

/** mp_condition_close() - drop the handle; the condition stays. NULL is fine. Return: NULL. */
mp_condition *mp_condition_close(mp_condition *condition);

/** mp_condition_destroy() - remove it for all; those who wait get -ESTALE. The handle stays to be
 * closed. Return: 0; -EINVAL, -ESTALE. */
int mp_condition_destroy(mp_condition *condition);

/**
 * mp_condition_wait() - release the lock, wait for a notification, take the lock again.
 * @lock: held by this process, and of the same arena
 * @timeout_ns: from the call on; 0 only lets others have the lock for a moment, MP_FOREVER waits
 *
 * The lock is taken again whatever the outcome, for which no timeout holds. Signals do not end the
 * wait. Thread-safe; usable in a forked child.
 *
 * Return: 0: notified, or somebody who waited too has died;
 * MP_OWNER_DIED (1): the lock's last owner died, and whether one was notified is not said;
 * -EAGAIN (timeout 0), -ETIMEDOUT: not notified. The lock is held after all of these.
 * -EINVAL, -EPERM (this process does not hold the lock), -EOVERFLOW (2^20 - 1 threads of this
 * process wait for it), -EPROTO (spoiled): nothing was done.
 * -ESTALE: the condition or the lock is gone; the lock is held unless it is the one that is gone,
 * so that releasing it is right in both cases. -ENOTRECOVERABLE: the lock's word is spoiled; it is
 * not held.
 */
int mp_condition_wait(mp_condition *condition, mp_lock *lock, uint64_t timeout_ns);

/** mp_condition_wait_rlock() - the same with a recursive lock, held by this thread: it is released
 * wholly, and held as deep as before afterwards. */
int mp_condition_wait_rlock(mp_condition *condition, mp_rlock *lock, uint64_t timeout_ns);

/**
 * mp_condition_wait_for() - wait until a predicate holds.
 * @predicate: called with the lock held, and with @user; not 0: it holds
 * @timeout_ns: for all together; 0 asks the predicate once
 *
 * Return: 0: it holds; MP_OWNER_DIED: the lock's last owner died, and the predicate was not asked
 * since: repair what the lock protects, and call again; -EAGAIN (timeout 0), -ETIMEDOUT: it does
 * not hold; otherwise as mp_condition_wait().
 */
int mp_condition_wait_for(mp_condition *condition, mp_lock *lock, int (*predicate)(void *user),
                          void *user, uint64_t timeout_ns);

/** mp_condition_wait_for_rlock() - the same with a recursive lock. */
int mp_condition_wait_for_rlock(mp_condition *condition, mp_rlock *lock,
                                int (*predicate)(void *user), void *user, uint64_t timeout_ns);

/**
 * mp_condition_notify() - let n of those go who wait now, or all if they are fewer.
 * @lock: held by this process
 *
 * They go on once the lock is released. A caller that dies after it has done its work, but before
 * it returns, has notified them.
 *
 * Return: 0; -EINVAL, -EPERM (this process does not hold the lock), -ESTALE, -EPROTO (spoiled).
 */
int mp_condition_notify(mp_condition *condition, mp_lock *lock, uint32_t n);

/** mp_condition_notify_rlock() - the same with a recursive lock, held by this thread. */
int mp_condition_notify_rlock(mp_condition *condition, mp_rlock *lock, uint32_t n);

/** mp_condition_notify_all() - let all go who wait now. Return: as mp_condition_notify(). */
int mp_condition_notify_all(mp_condition *condition, mp_lock *lock);

/** mp_condition_notify_all_rlock() - the same with a recursive lock. */
int mp_condition_notify_all_rlock(mp_condition *condition, mp_rlock *lock);

/**
 * mp_condition_waitable() - for mp_wait(): ready when there was a notification since this call.
 *
 * Call it with the lock held, after a look at what you wait for; release the lock, wait, acquire
 * the lock, look again. It takes no notification from those in mp_condition_wait(), whichever
 * number of them was notified, and may be ready without one. It stays ready: for the next wait call
 * this again, and make another poller.
 */
struct mp_waitable mp_condition_waitable(mp_condition *condition);

/** mp_condition_name() - its name in the arena. Return: a string that lives as long as the handle;
 * NULL for NULL. */
const char *mp_condition_name(const mp_condition *condition);

static inline void mp_condition_closep(mp_condition **condition)
{
    if (*condition)
        mp_condition_close(*condition);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
