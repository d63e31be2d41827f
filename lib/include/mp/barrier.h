/* SPDX-License-Identifier: MIT */
#ifndef MP_BARRIER_H
#define MP_BARRIER_H

/*
 * A barrier between threads and processes: multiprocessing.Barrier.
 *
 *     for (step = 0; step < steps; step++) {
 *         compute(step);
 *         if (mp_barrier_wait(barrier, MP_FOREVER) < 0)
 *             break;
 *     }
 *
 * So many as there are parties wait for each other, and go on together; then it can be used again.
 * A barrier breaks when one of them gives up: by its timeout, by mp_barrier_abort(), because the
 * action failed, or because a process died. Then all who wait get -ECONNRESET at once, and so does
 * who comes later, until mp_barrier_reset() mends it.
 *
 * A process takes part from when it creates or opens the barrier (in a forked child that uses its
 * parent's handle: from its first wait) until it closes its last handle. When it ends before that,
 * the barrier breaks. One that died before it took part is not missed: give a timeout.
 */

#include <stddef.h>
#include <stdint.h>

#include <mp/arena.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_barrier mp_barrier;

#define MP_BARRIER_PARTIES_MOST 65534u

/** What belongs to the handle, not to the barrier: functions are at other places in others. */
struct mp_barrier_options {
    size_t struct_size;        /* filled by MP_BARRIER_OPTIONS */
    int (*action)(void *user); /* who comes last runs its own before all go on. Negative: it failed.
                                  NULL: none. */
    void *user;
    uint64_t timeout_ns; /* of waits with MP_FOREVER; 0: none */
};

#define MP_BARRIER_OPTIONS(...) \
    (&(struct mp_barrier_options){.struct_size = sizeof(struct mp_barrier_options), __VA_ARGS__})

/**
 * mp_barrier_create() - make a barrier in an arena.
 * @name: unique in the arena; NULL makes one up (mp_barrier_name() tells it)
 * @parties: how many wait for each other, 1 to MP_BARRIER_PARTIES_MOST
 * @options: NULL for none
 * @ret_barrier: a handle, to be closed with mp_barrier_close() before the arena
 *
 * It takes 64 bytes of the arena for each participant slot.
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -ENOBUFS, -EMSGSIZE (the arena is too small for it),
 * -ENOMEM, -EUSERS, -EPROTO.
 */
int mp_barrier_create(mp_arena *arena, const char *name, uint32_t parties,
                      const struct mp_barrier_options *options, mp_barrier **ret_barrier);

/** mp_barrier_open() - find a barrier by name, and take part. Return: 0; -EINVAL, -ENAMETOOLONG,
 * -ENOENT, -ENOMEM, -EPROTO, -EUSERS. */
int mp_barrier_open(mp_arena *arena, const char *name, const struct mp_barrier_options *options,
                    mp_barrier **ret_barrier);

/** mp_barrier_close() - drop the handle; the barrier stays. With the last handle of a process ends
 * its part. Nobody may wait by this handle. NULL is fine. Return: NULL. */
mp_barrier *mp_barrier_close(mp_barrier *barrier);

/**
 * mp_barrier_destroy() - remove the barrier for all; those who wait get -ESTALE.
 *
 * The handle stays to be closed. Return: 0; -EINVAL, -ESTALE.
 */
int mp_barrier_destroy(mp_barrier *barrier);

/**
 * mp_barrier_wait() - wait until all parties do.
 * @timeout_ns: MP_FOREVER waits (for as long as the options say); 0 passes only as the last one
 *
 * A timeout that passes breaks the barrier for all. With a timeout of 0 who is not the last one
 * gets -EAGAIN, and nothing has changed. While an action runs, who comes too many waits for the
 * next turn; where its timeout passes before that, nothing breaks. Signals do not end the wait.
 * Thread-safe; usable in a forked child.
 *
 * Return: 0 to parties - 1, for each another number, the last one to come has the highest;
 * -ECONNRESET: broken or reset; -ETIMEDOUT, -EAGAIN, -EINVAL, -ESTALE, -ENOTRECOVERABLE, -EUSERS (a
 * forked child found no slot); for who ran the action: what it returned, if that was negative.
 */
int mp_barrier_wait(mp_barrier *barrier, uint64_t timeout_ns);

/** mp_barrier_abort() - break it: who waits, and who comes, gets -ECONNRESET. Return: 0; -EINVAL,
 * -ESTALE, -ENOTRECOVERABLE. */
int mp_barrier_abort(mp_barrier *barrier);

/** mp_barrier_reset() - as new: who waits gets -ECONNRESET, who comes does not. Return: 0; -EINVAL,
 * -ESTALE, -ENOTRECOVERABLE. */
int mp_barrier_reset(mp_barrier *barrier);

/** mp_barrier_parties() - for how many it was made. Return: the number; -EINVAL. */
int mp_barrier_parties(const mp_barrier *barrier);

/** mp_barrier_n_waiting() - how many wait now; 0 while it is broken. Return: the number; -EINVAL,
 * -ESTALE. */
int mp_barrier_n_waiting(const mp_barrier *barrier);

/** mp_barrier_broken() - is it broken? Return: 1 or 0; -EINVAL, -ESTALE. */
int mp_barrier_broken(const mp_barrier *barrier);

/** mp_barrier_name() - its name in the arena. Return: a string that lives as long as the handle;
 * NULL for NULL. */
const char *mp_barrier_name(const mp_barrier *barrier);

static inline void mp_barrier_closep(mp_barrier **barrier)
{
    if (*barrier)
        mp_barrier_close(*barrier);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
