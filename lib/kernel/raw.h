/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * System calls without the C library: for code that runs where its thread-local data (errno among
 * it) must not be touched, which is in a bare thread and in a child that still shares its parent's
 * memory. Such functions are marked MP_BARE: no instrumentation and no stack protector, since these
 * live in thread-local data, too.
 */

#include <sys/syscall.h>

#if defined(__has_attribute)
#if __has_attribute(no_stack_protector)
#define MP_BARE_NO_PROTECTOR __attribute__((no_stack_protector))
#endif
#if __has_attribute(disable_sanitizer_instrumentation)
#define MP_BARE_NO_SANITIZER __attribute__((disable_sanitizer_instrumentation))
#endif
#endif
#ifndef MP_BARE_NO_PROTECTOR
#define MP_BARE_NO_PROTECTOR
#endif
#ifndef MP_BARE_NO_SANITIZER
#define MP_BARE_NO_SANITIZER                                                                \
    __attribute__((no_sanitize("thread"), no_sanitize("address"), no_sanitize("undefined"), \
                   no_instrument_function))
#endif
#define MP_BARE MP_BARE_NO_PROTECTOR MP_BARE_NO_SANITIZER __attribute__((noinline))

/* ThreadSanitizer takes every clone() for a fork(), and gives the child's first system call to its
 * own bookkeeping; by its other name it passes. */
#if defined(__SANITIZE_THREAD__)
#define MP_CLONE_BY_OTHER_NAME 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MP_CLONE_BY_OTHER_NAME 1
#endif
#endif
#ifdef MP_CLONE_BY_OTHER_NAME
extern int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);
#define mp_clone __clone
#else
#define mp_clone clone
#endif

/* The result, or a negative errno. */
#if defined(__x86_64__) && !defined(__ILP32__)
#define MP_RAW_WORKS 1
static inline __attribute__((always_inline)) long mp_raw(long n, long a, long b, long c, long d,
                                                         long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long r;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return r;
}
#elif defined(__aarch64__)
#define MP_RAW_WORKS 1
static inline __attribute__((always_inline)) long mp_raw(long n, long a, long b, long c, long d,
                                                         long e)
{
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;

    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
#else
/* Elsewhere errno has to do: good enough while the parent waits, not in a bare thread. */
#include <errno.h>
#include <unistd.h>
#define MP_RAW_WORKS 0
static inline long mp_raw(long n, long a, long b, long c, long d, long e)
{
    long r = syscall(n, a, b, c, d, e);

    return r < 0 ? -errno : r;
}
#endif
