/* SPDX-License-Identifier: MIT */
#ifndef MP_ERROR_H
#define MP_ERROR_H

/*
 * Return values of libmp.
 *
 * Every function that can fail returns an int: a negative errno, 0, or a positive documented
 * answer. Negative means that nothing was acquired, nothing was changed and no output was written.
 * errno itself is never set on purpose.
 *
 * The negative values mean the same everywhere:
 *
 *   -EINVAL           an argument is wrong (NULL, out of range, overflows)
 *   -EAGAIN           it would have had to wait, and the timeout was 0
 *   -ETIMEDOUT        the timeout passed
 *   -ENOBUFS          the arena (or a table in it) is full
 *   -ERANGE           an index or a part reaches past the end
 *   -EMSGSIZE         too large for the arena, the queue or the buffer given
 *   -EEXIST           the name is taken
 *   -ENOENT           there is no object of this name and kind
 *   -ENAMETOOLONG     the name is too long or empty, or has bytes that are not printable ASCII
 *   -ESTALE           the object behind the handle was destroyed
 *   -EPIPE            the queue is shut down, the pool is closed
 *   -ECONNRESET       the barrier is broken, or was reset
 *   -EBUSY            the role or the object is in use
 *   -EUSERS           all participant slots of the arena are taken
 *   -EPERM            the lock is not held, or only its owner may release it
 *   -EOVERFLOW        released more often than the semaphore allows, more tasks done than taken, a
 *                     recursive lock held too often, too many waiters
 *   -ECHILD           used in a forked child, where it belongs to the parent
 *   -EPROTO           not an arena, or hostile bytes
 *   -ENOEXEC          an arena of another version or layout
 *   -ENOTRECOVERABLE  the shared words make no sense (somebody wrote over them)
 *   -EOPNOTSUPP       the kernel lacks what is needed and nothing can stand in for it
 *   -ECANCELED        ended by a shutdown or a terminate
 *   -ENOMEM, -EMFILE, -ENFILE ... as the kernel gave them
 */

#include <stdint.h>

/** A lock was acquired, and its former owner died while it held it: what it protects may be half
 * changed. */
#define MP_OWNER_DIED 1

/** As a timeout: wait for as long as it takes. */
#define MP_FOREVER UINT64_MAX

/** A timeout in milliseconds or in seconds; every timeout of libmp is in nanoseconds, relative, on
 * CLOCK_MONOTONIC. */
#define MP_MSEC(n) ((uint64_t)(n)*UINT64_C(1000000))
#define MP_SEC(n) ((uint64_t)(n)*UINT64_C(1000000000))

#endif
