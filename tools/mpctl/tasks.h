/* SPDX-License-Identifier: MIT */
#pragma once

/* The threads of a process, as /proc has them: whether they sleep, and whether they ran since. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct task {
    pid_t tid;
    pid_t inner_tid;   /* in its own pid namespace */
    char state;        /* letter; 0: not to be known */
    bool helper;       /* runs nothing of the program's: a keeper of libmp, a worker of io_uring */
    uint64_t switches; /* how often it was taken off a CPU: as long as it sleeps it stays */
};

/* In the order of their tids; those that have ended are left out. 0; -ENOENT: the process is gone,
 * or may not be looked at; -ENOMEM. */
int tasks_read(pid_t pid, struct task **ret_tasks, size_t *ret_n);

/* NULL: there is none. By the tid in its own namespace, or by ours. */
struct task *tasks_find_inner(struct task *tasks, size_t n, pid_t inner_tid);
const struct task *tasks_find(const struct task *tasks, size_t n, pid_t tid);

/* Has it been asleep (or stopped) from the one look to the other? */
bool task_slept(const struct task *before, const struct task *after);
