/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bare threads: threads that the C library knows nothing of.
 *
 * One runs a function of raw system calls on a few KiB of stack, with every signal blocked. It does
 * not count as a thread for pthread_exit() (so it does not keep a process alive whose last real
 * thread ends), nor for the C library's idea of being single-threaded. Its function is MP_BARE and
 * must call nothing that is not; returning from it ends the thread.
 */

#include "base/atomic.h"

#define MP_BARE_STACK 4096

struct mp_bare {
    mp_a32 tid; /* 0: it has ended; the kernel clears it, and wakes */
    _Alignas(64) unsigned char stack[MP_BARE_STACK];
};

/* Start one; bare and arg must stay until mp_bare_wait(). 0; -EOPNOTSUPP on a processor that
 * kernel/raw.h does not know; -EAGAIN, -ENOMEM. */
int mp_bare_start(struct mp_bare *bare, int (*fn)(void *arg), void *arg);

/* Wait until it has returned. */
void mp_bare_wait(struct mp_bare *bare);

/* How many of them this process has. */
unsigned mp_bare_count(void);
