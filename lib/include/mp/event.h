/* SPDX-License-Identifier: MIT */
#ifndef MP_EVENT_H
#define MP_EVENT_H

/*
 * A flag that processes and threads wait for: multiprocessing.Event.
 *
 *     mp_event_set(ready);                     lets all go who wait
 *     mp_event_wait(ready, MP_FOREVER);        at once, as long as it is set
 *
 * Who waits when it is set is let go, even if it is cleared at once. It belongs to nobody: the
 * death of a process changes nothing about it.
 */

#include <stdint.h>

#include <mp/arena.h>
#include <mp/waitable.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_event mp_event;

/**
 * mp_event_create() - make an event in an arena, not set.
 * @name: unique in the arena; NULL makes one up (mp_event_name() tells it)
 * @ret_event: a handle, to be closed with mp_event_close() before the arena
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -ENOBUFS (the directory is full), -ENOMEM, -EUSERS.
 */
int mp_event_create(mp_arena *arena, const char *name, mp_event **ret_event);

/** mp_event_open() - find one by name. Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -ENOMEM,
 * -EUSERS. */
int mp_event_open(mp_arena *arena, const char *name, mp_event **ret_event);

/** mp_event_close() - drop the handle; the event stays. NULL is fine. Return: NULL. */
mp_event *mp_event_close(mp_event *event);

/** mp_event_destroy() - remove it for all; those who wait get -ESTALE. The handle stays to be
 * closed. Return: 0; -EINVAL, -ESTALE. */
int mp_event_destroy(mp_event *event);

/** mp_event_set() - set it, and let all go who wait. Thread-safe. What was written before it is
 * seen by those who are let go. Return: 0; -EINVAL, -ESTALE. */
int mp_event_set(mp_event *event);

/** mp_event_clear() - from now on who waits sleeps. Return: 0; -EINVAL, -ESTALE. */
int mp_event_clear(mp_event *event);

/** mp_event_is_set() - look at it. Return: 1 set, 0 not; -EINVAL, -ESTALE. */
int mp_event_is_set(const mp_event *event);

/**
 * mp_event_wait() - wait until it is set.
 * @timeout_ns: 0 only looks, MP_FOREVER waits
 *
 * Signals do not end the wait. Thread-safe; usable in a forked child.
 *
 * Return: 0: it is set, or was since the call; -EAGAIN (timeout 0), -ETIMEDOUT, -EINVAL, -ESTALE,
 * -EUSERS (a forked child found no slot).
 */
int mp_event_wait(mp_event *event, uint64_t timeout_ns);

/** mp_event_waitable() - for mp_wait(): ready when it is set. */
struct mp_waitable mp_event_waitable(mp_event *event);

/** mp_event_name() - its name in the arena. Return: a string that lives as long as the handle; NULL
 * for NULL. */
const char *mp_event_name(const mp_event *event);

static inline void mp_event_closep(mp_event **event)
{
    if (*event)
        mp_event_close(*event);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
