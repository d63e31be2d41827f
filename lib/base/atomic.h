/* SPDX-License-Identifier: MIT */
#pragma once

/* Short names for the C11 atomics on shared words; the order is always in the name. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef _Atomic(uint32_t) mp_a32;
typedef _Atomic(uint64_t) mp_a64;

#define mp_load_relaxed(p) atomic_load_explicit(p, memory_order_relaxed)
#define mp_load_acquire(p) atomic_load_explicit(p, memory_order_acquire)
#define mp_load_seqcst(p) atomic_load_explicit(p, memory_order_seq_cst)
#define mp_store_relaxed(p, v) atomic_store_explicit(p, v, memory_order_relaxed)
#define mp_store_release(p, v) atomic_store_explicit(p, v, memory_order_release)
#define mp_store_seqcst(p, v) atomic_store_explicit(p, v, memory_order_seq_cst)
#define mp_cas_acquire(p, expected, v)                                            \
    atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_acquire, \
                                            memory_order_relaxed)
#define mp_cas_release(p, expected, v)                                            \
    atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_release, \
                                            memory_order_relaxed)
#define mp_cas_acqrel(p, expected, v)                                             \
    atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_acq_rel, \
                                            memory_order_acquire)
#define mp_cas_seqcst(p, expected, v)                                             \
    atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_seq_cst, \
                                            memory_order_seq_cst)

static inline void mp_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}
