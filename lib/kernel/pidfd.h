/* SPDX-License-Identifier: MIT */
#pragma once

/* Processes by pidfd, and what /proc tells about them. */

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* A CLOEXEC pidfd; -ESRCH: there is no such process (in our pid namespace). */
int mp_pidfd_open(pid_t pid);

/* 0: sent; -ESRCH it is gone; -EPERM ... */
int mp_pidfd_signal(int pidfd, int sig);

/* 1: the process has ended (all its threads), 0: not until the deadline (absolute; 0: look once).
 */
int mp_pidfd_wait(int pidfd, uint64_t deadline_ns);

/* Reap a child without waiting. 1: reaped, and how it ended (as wait4() gives it); 0: not ended, or
 * a tracer comes first; -ECHILD: not ours to reap, or somebody else did. */
struct rusage;
int mp_pidfd_reap(int pidfd, int *ret_status, struct rusage *ret_usage);

/* Do pidfds tell about their processes (Linux 6.13)? 0; a negative errno. */
int mp_pidfd_can_info(int pidfd);

/* How a process that was reaped by somebody ended. -EOPNOTSUPP: the kernel (before 6.15) does not
 * tell. */
int mp_pidfd_status(int pidfd, int *ret_status);

/* Start time in clock ticks since boot, field 22 of /proc/PID/stat; 0: not to be known. */
uint64_t mp_task_start(pid_t pid);

/* State letter of /proc/PID/stat ('R', 'S', 'Z' ...); 0: not to be known. */
char mp_task_state(pid_t pid);

/* Inode of our pid namespace: a pid means the same to all who have the same number here. 0: not to
 * be known. */
uint32_t mp_task_pid_namespace(void);
