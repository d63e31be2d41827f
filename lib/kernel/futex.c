/* SPDX-License-Identifier: MIT */
/* Futex system calls, and the probe for futex_waitv. */

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernel/futex.h"

static int answer(long r)
{
    if (r >= 0)
        return 0;
    return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

int mp_futex_wait_bits(const mp_a32 *word, uint32_t value, uint64_t deadline_ns, uint32_t bits)
{
    struct timespec t = mp_timespec(deadline_ns);

    return answer(syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value,
                          deadline_ns == MP_FOREVER ? NULL : &t, NULL, bits));
}

int mp_futex_wait(const mp_a32 *word, uint32_t value, uint64_t deadline_ns)
{
    return mp_futex_wait_bits(word, value, deadline_ns, FUTEX_BITSET_MATCH_ANY);
}

int mp_futex_wake_bits(const mp_a32 *word, int n, uint32_t bits)
{
    long r = syscall(SYS_futex, word, FUTEX_WAKE_BITSET, n, NULL, NULL, bits);

    return r < 0 ? -errno : (int)r;
}

int mp_futex_wake(const mp_a32 *word, int n)
{
    long r = syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);

    return r < 0 ? -errno : (int)r;
}

int mp_futex_waitv(const struct mp_waitv *words, unsigned n, uint64_t deadline_ns)
{
    struct futex_waitv v[MP_WAITV_MAX];
    struct timespec t = mp_timespec(deadline_ns);

    if (n == 0 || n > MP_WAITV_MAX)
        return -EINVAL;
    for (unsigned i = 0; i < n; i++)
        v[i] = (struct futex_waitv){
            .val = words[i].value, .uaddr = (uintptr_t)words[i].word, .flags = FUTEX_32};
    return answer(
        syscall(SYS_futex_waitv, v, n, 0, deadline_ns == MP_FOREVER ? NULL : &t, CLOCK_MONOTONIC));
}

bool mp_futex_can_waitv(void)
{
    static _Atomic(int) known; /* 0 not asked, 1 yes, 2 no */
    mp_a32 word = 0;
    int k = atomic_load_explicit(&known, memory_order_relaxed);

    if (k == 0) {
        /* The value differs, so a kernel that has the call answers at once. */
        k = mp_futex_waitv(&(struct mp_waitv){&word, 1}, 1, MP_FOREVER) == 0 ? 1 : 2;
        atomic_store_explicit(&known, k, memory_order_relaxed);
    }
    return k == 1;
}
