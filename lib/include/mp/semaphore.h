/* SPDX-License-Identifier: MIT */
#ifndef MP_SEMAPHORE_H
#define MP_SEMAPHORE_H

/*
 * A robust semaphore between threads and processes: multiprocessing.Semaphore and BoundedSemaphore.
 *
 * There are two kinds, and only the program knows which it means:
 *
 * Permits say how many may do something at a time. A unit belongs to the process that acquired it,
 * and comes back by itself when that process dies before it has released it:
 *
 *     mp_semaphore_create(arena, "licences", MP_SEMAPHORE_OPTIONS(.value = 3), &sem);
 *     ...
 *     r = mp_semaphore_acquire(sem, MP_SEC(1));
 *     if (r < 0)
 *         return r;
 *     work();
 *     mp_semaphore_release(sem, 1);
 *
 * Signals count events: one process releases what another one acquires. A unit belongs to nobody.
 * What was posted stays posted when the poster dies, and what was acquired is used up:
 *
 *     mp_semaphore_create(arena, "arrived",
 *                         MP_SEMAPHORE_OPTIONS(.flags = MP_SEMAPHORE_SIGNALS), &sem);
 *
 * Permits used as signals would give a dead consumer's units out once more. Not fair: who comes may
 * acquire before those who sleep; they are woken in order.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <mp/arena.h>
#include <mp/waitable.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_semaphore mp_semaphore;

/** The most free units of a semaphore, of permits and of signals. */
#define MP_SEMAPHORE_PERMITS_MAX 1048575
#define MP_SEMAPHORE_SIGNALS_MAX 1073741823

enum {
    MP_SEMAPHORE_SIGNALS = 1u << 0, /* units have no holders; otherwise they are permits */
    MP_SEMAPHORE_BOUNDED = 1u << 1, /* never more free units than at the beginning */
};

struct mp_semaphore_options {
    size_t struct_size; /* filled by MP_SEMAPHORE_OPTIONS */
    uint32_t value;     /* free units at the beginning */
    uint32_t flags; /* MP_SEMAPHORE_*. One that begins with 0 units is for signals in any case. */
};

#define MP_SEMAPHORE_OPTIONS(...)                                                       \
    (&(struct mp_semaphore_options){.struct_size = sizeof(struct mp_semaphore_options), \
                                    __VA_ARGS__})

/**
 * mp_semaphore_create() - make a semaphore in an arena.
 * @name: unique in the arena; NULL makes one up (mp_semaphore_name() tells it)
 * @options: NULL: permits, one of them, not bounded
 * @ret_semaphore: a handle, to be closed with mp_semaphore_close() before the arena
 *
 * Permits take 8 bytes of the arena for each participant that it was made for.
 *
 * Return: 0; -EINVAL (or a value above the maximum of the kind), -ENAMETOOLONG, -EEXIST, -ENOBUFS
 * (the directory or the arena is full), -ENOMEM, -EUSERS, -EPROTO.
 */
int mp_semaphore_create(mp_arena *arena, const char *name,
                        const struct mp_semaphore_options *options, mp_semaphore **ret_semaphore);

/** mp_semaphore_open() - find a semaphore by name. Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT,
 * -ENOMEM, -EUSERS, -EPROTO. */
int mp_semaphore_open(mp_arena *arena, const char *name, mp_semaphore **ret_semaphore);

/** mp_semaphore_close() - drop the handle; the semaphore stays, and what this process holds of it
 * stays held. NULL is fine. Return: NULL. */
mp_semaphore *mp_semaphore_close(mp_semaphore *semaphore);

/**
 * mp_semaphore_destroy() - remove the semaphore for all; those who wait for it get -ESTALE.
 *
 * The handle stays to be closed. Return: 0; -EINVAL, -ESTALE.
 */
int mp_semaphore_destroy(mp_semaphore *semaphore);

/**
 * mp_semaphore_acquire() - take one unit.
 * @timeout_ns: 0 tries once, MP_FOREVER waits
 *
 * Signals (of the kernel) do not end the wait. Thread-safe; usable in a forked child, which holds
 * nothing at first.
 *
 * Return: 0; -EAGAIN (timeout 0), -ETIMEDOUT, -EINVAL, -ESTALE, -ENOTRECOVERABLE, -EUSERS (a forked
 * child found no slot).
 */
int mp_semaphore_acquire(mp_semaphore *semaphore, uint64_t timeout_ns);

/** mp_semaphore_try() - mp_semaphore_acquire() with a timeout of 0. */
int mp_semaphore_try(mp_semaphore *semaphore);

/**
 * mp_semaphore_release() - give units back, or post them.
 * @n: how many, at least 1
 *
 * Of permits, those that this process holds are given back first. What it does not hold is posted,
 * as Python allows: there are so many more free units then, whoever may hold others. More than 31
 * held permits go back 31 at a time.
 *
 * Return: 0; -EOVERFLOW (there would be more free units than the maximum or, where it is bounded,
 * than at the beginning; nothing was released, or of more than 31 a part), -EINVAL, -ESTALE,
 * -ENOTRECOVERABLE, -EUSERS.
 */
int mp_semaphore_release(mp_semaphore *semaphore, uint32_t n);

/** mp_semaphore_value() - the free units now, for people to look at. Return: their number; -EINVAL,
 * -ESTALE. */
int mp_semaphore_value(const mp_semaphore *semaphore);

struct mp_semaphore_holder {
    pid_t pid;      /* as seen by its pid namespace */
    uint32_t slot;  /* its participant slot */
    uint32_t units; /* how many it holds */
    uint32_t self;  /* 1: this process */
};

/**
 * mp_semaphore_holders() - who holds permits now, for people to look at.
 * @ret_holders: room for @n of them; may be NULL where @n is 0
 *
 * Return: how many there are, which may be more than @n, and of signals is 0; -EINVAL, -ESTALE.
 */
int mp_semaphore_holders(const mp_semaphore *semaphore, struct mp_semaphore_holder *ret_holders,
                         uint32_t n);

/** mp_semaphore_waitable() - for mp_wait(): ready when there are free units. Who is quicker gets
 * them. */
struct mp_waitable mp_semaphore_waitable(mp_semaphore *semaphore);

/** mp_semaphore_name() - its name in the arena. Return: a string that lives as long as the handle;
 * NULL for NULL. */
const char *mp_semaphore_name(const mp_semaphore *semaphore);

static inline void mp_semaphore_closep(mp_semaphore **semaphore)
{
    if (*semaphore)
        mp_semaphore_close(*semaphore);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
