/* SPDX-License-Identifier: MIT */
/* Where this thread runs, and where it may. */

#include <sched.h>

#include "base/clock.h"
#include "kernel/cpu.h"

uint32_t mp_cpu_current(void)
{
    /* glibc answers from the rseq area that the kernel keeps up to date: no system call. */
    int cpu = sched_getcpu();

    return cpu < 0 ? 0 : (uint32_t)cpu;
}

uint32_t mp_cpu_allowed(void)
{
    static _Thread_local uint64_t asked_ns;
    static _Thread_local uint32_t allowed;
    uint64_t now = mp_now_ns();

    if (allowed == 0 || now - asked_ns > MP_MSEC(20)) {
        cpu_set_t set;

        CPU_ZERO(&set);
        allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 2;
        asked_ns = now;
    }
    return allowed ? allowed : 1;
}
