/* SPDX-License-Identifier: MIT */
#pragma once

/* Where this thread runs, and where it may; what mp_cpu_info() is made of. */

#include <sched.h>
#include <stdint.h>

#include <mp/cpu.h>

/* The CPU this thread runs on now. */
uint32_t mp_cpu_current(void);

/* How many CPUs this thread may use (its affinity), at least 1; asked anew at most every few
 * milliseconds. */
uint32_t mp_cpu_allowed(void);

/* As sched_getaffinity(), which says EINVAL when the machine may have more CPUs than the set. */
typedef int mp_cpu_affinity_fn(pid_t pid, size_t size, cpu_set_t *set);

/* How many CPUs are in the calling thread's affinity, however many there may be. 0: not to be
 * known. */
uint32_t mp_cpu_count_affinity(mp_cpu_affinity_fn *get);

/* Fill in the tightest quota; root as for mp_cgroup_walk(). */
void mp_cpu_find_quota(const char *root, struct mp_cpu_info *info);

/* Fill in the count and what limits it, when all the rest is there. */
void mp_cpu_conclude(struct mp_cpu_info *info);
