/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Futexes on words shared between processes (never FUTEX_PRIVATE).
 *
 * A wait on one word works on every kernel. A wait on several needs futex_waitv (Linux 5.16), which
 * seccomp filters and valgrind may refuse as well: mp_futex_can_waitv() tells, by having tried.
 */

#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"

/* Sleep while *word == value, until deadline_ns (absolute CLOCK_MONOTONIC; MP_FOREVER: none).
 * 0: woken, changed or interrupted: look again; -ETIMEDOUT; another negative errno: the call does
 * not work here. */
int mp_futex_wait(const mp_a32 *word, uint32_t value, uint64_t deadline_ns);

/* Wake up to n. How many were woken, or a negative errno. */
int mp_futex_wake(const mp_a32 *word, int n);

/* The same for sleepers of several kinds on one word: those are woken that have a bit in common
 * with the waker. Without bits: all of them. */
int mp_futex_wait_bits(const mp_a32 *word, uint32_t value, uint64_t deadline_ns, uint32_t bits);
int mp_futex_wake_bits(const mp_a32 *word, int n, uint32_t bits);

#define MP_WAITV_MAX 128

struct mp_waitv {
    const mp_a32 *word;
    uint32_t value;
};

bool mp_futex_can_waitv(void);

/* Sleep while all n words have their values. As mp_futex_wait(). */
int mp_futex_waitv(const struct mp_waitv *words, unsigned n, uint64_t deadline_ns);
