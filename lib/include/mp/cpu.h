/* SPDX-License-Identifier: MIT */
#ifndef MP_CPU_H
#define MP_CPU_H

/*
 * How many CPUs this process may use: multiprocessing.cpu_count(), and what it leaves out.
 *
 *     workers = mp_cpu_count();
 *
 * A machine may have more CPUs than a process gets: its affinity names those that it may run on
 * (taskset, cpusets, containers bound to CPUs), and a quota of a cgroup says how much time it gets
 * on all of them together (containers with a CPU limit). The answer is the lesser of both; the
 * figures that it was made from are told by mp_cpu_info().
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* What limits mp_cpu_count(). */
enum mp_cpu_limit {
    MP_CPU_ONLINE = 0,   /* nothing: it is all CPUs that are online */
    MP_CPU_AFFINITY = 1, /* the affinity */
    MP_CPU_QUOTA = 2,    /* the quota of a cgroup */
};

/* Longest path of a cgroup that is told, with the closing NUL. */
#define MP_CPU_CGROUP_SIZE 256

struct mp_cpu_info {
    uint32_t count;      /* what mp_cpu_count() returns; at least 1 */
    uint32_t limited_by; /* enum mp_cpu_limit */
    uint32_t configured; /* CPUs that the machine may have, online or not */
    uint32_t online;
    uint32_t affinity; /* CPUs that the calling thread may run on; 0: not to be known */
    /* The tightest quota of our cgroup and of those above it, as far as they can be seen. Without
     * one all of these are 0, and the path is empty. */
    uint32_t quota;        /* in CPUs, rounded up */
    uint32_t quota_cgroup; /* the version of the cgroup that has it: 2 or 1 */
    uint64_t quota_us;     /* so much time */
    uint64_t period_us;    /* in each period of this length */
    /* The cgroup that has it, as /proc/self/cgroup writes it. One that is longer is cut. */
    char cgroup[MP_CPU_CGROUP_SIZE];
};

/**
 * mp_cpu_count() - how many CPUs this process may use.
 *
 * The calling thread's affinity, which processes that it starts inherit, or the quota of a cgroup,
 * rounded up, where that is less. Asked anew with each call (some files of /proc are read): keep
 * the answer. Thread-safe; not for signal handlers.
 *
 * Return: 1 or more. It does not fail: what can not be read, or makes no sense, does not limit.
 */
int mp_cpu_count(void);

/** mp_cpu_info() - the same, and the figures it is made from. Return: 0; -EINVAL (no place for
 * them). */
int mp_cpu_info(struct mp_cpu_info *ret_info);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
