/* SPDX-License-Identifier: MIT */
#ifndef MP_WAIT_H
#define MP_WAIT_H

/*
 * Waiting for several things at once: multiprocessing.connection.wait(), for anything.
 *
 *     struct mp_waitable w[] = {
 *         mp_queue_readable(queue),
 *         mp_event_waitable(stop),
 *         mp_process_waitable(worker),
 *         mp_fd_waitable(socket, POLLIN),
 *     };
 *
 *     r = mp_wait(w, 4, MP_SEC(1));       how many are ready
 *     if (w[1].ready)
 *         return;
 *
 * There is one of these for locks, recursive ones and one of many, semaphores, conditions, events,
 * queues (to be read, to be written) and processes. Rwlocks, barriers, values and maps have none.
 *
 * It takes nothing: that a queue can be read now does not keep another consumer from being quicker.
 * So take with a timeout of 0, and wait again where there was nothing.
 *
 * Programs with a loop of their own (epoll, sd-event, io_uring) have a descriptor to poll instead:
 *
 *     mp_poller_new(&w[0], &poller);      poll mp_poller_fd(poller) for reading; when it is ready:
 *     do
 *         while (mp_queue_get(queue, &x, sizeof x, 0, NULL) == 0)
 *             work(&x);
 *     while (mp_poller_check(poller) > 0);
 */

#include <stdint.h>

#include <mp/waitable.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** The most that one mp_wait() waits for. */
#define MP_WAIT_MAX 1024

/**
 * mp_wait() - wait until at least one is ready.
 * @waitables: @n of them, of any kinds and arenas; the same one may be there twice. What came of it
 * is in the `ready` of each.
 * @n: 1 to MP_WAIT_MAX
 * @timeout_ns: 0 only looks, MP_FOREVER waits
 *
 * Signals (of the kernel) do not end the wait. Thread-safe; usable in a forked child. Objects alone
 * are waited for by one futex_waitv(2), together with descriptors by io_uring; where the kernel
 * has or allows only less, the process's keeper thread watches the objects, or they are looked at
 * every few milliseconds.
 *
 * Return: how many are ready, those that never will be among them; 0: none in time; -EINVAL (NULL,
 * @n, or one of no object), -EUSERS (a forked child found no slot), -EMFILE, -ENFILE, -ENOMEM. On
 * errors nothing is said of any.
 */
int mp_wait(struct mp_waitable *waitables, uint32_t n, uint64_t timeout_ns);

/** mp_fd_waitable() - a descriptor and the events of poll(2). POLLERR, POLLHUP and POLLNVAL are
 * always among them. A negative one is refused by mp_wait(). */
struct mp_waitable mp_fd_waitable(int fd, int events);

/** mp_timer_waitable() - ready from so many nanoseconds after this call on, without end. */
struct mp_waitable mp_timer_waitable(uint64_t after_ns);

typedef struct mp_poller mp_poller;

/**
 * mp_poller_new() - a descriptor that polls readable when an object is ready.
 * @waitable: of an object, whose handle has to outlive the poller
 *
 * Nobody pays for it while it is not there. It is this process's own: it is not for forked
 * children, which may only free it.
 *
 * Return: 0; -EINVAL (NULL, or of a descriptor or timer), -EUSERS, -EMFILE, -ENFILE, -ENOMEM.
 */
int mp_poller_new(const struct mp_waitable *waitable, mp_poller **ret_poller);

/** mp_poller_fd() - the descriptor, which stays the poller's. Poll it for reading; do not read it.
 * Return: the fd; -EINVAL. */
int mp_poller_fd(const mp_poller *poller);

/**
 * mp_poller_check() - look, and poll anew.
 *
 * Call it when the descriptor was readable, after you have taken what you wanted: as long as it
 * says 1 the object is ready; when it says 0 the descriptor is not readable until it is.
 *
 * Return: 1 ready; 0 not; negative errno: it never will be, such as -ESTALE; -EINVAL, -ECHILD
 * (the parent's).
 */
int mp_poller_check(mp_poller *poller);

/** mp_poller_free() - close the descriptor. NULL is fine. Return: NULL. */
mp_poller *mp_poller_free(mp_poller *poller);

static inline void mp_poller_freep(mp_poller **poller)
{
    if (*poller)
        mp_poller_free(*poller);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
