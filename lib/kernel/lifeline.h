/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The lifeline: a way for a process to take others with it, whatever ends it.
 *
 * It is a pipe whose one write end is held by a bare thread in a descriptor table of its own. No
 * fork() of any other thread copies that table, so the write end is closed exactly when the process
 * ends (or executes another program), by whatever cause, and not when a thread of it ends. A child
 * holds a read end with O_ASYNC, F_SETSIG SIGKILL and itself as the owner: the kernel kills it when
 * the write end goes, even while it is stopped. Nothing has to run in the child for that.
 *
 * Why not PR_SET_PDEATHSIG: it fires when the *thread* that forked ends. Why not a thread in the
 * child that waits for the parent's pidfd: it stands still while the child is stopped. That one is
 * what is left where this does not work (no /proc, close_range() or F_SETSIG refused).
 */

#include <sys/stat.h>

#include "base/atomic.h"
#include "kernel/bare.h"

struct mp_lifeline {
    struct mp_bare thread;
    mp_a32 state;
    int pipe[2]; /* numbers in the thread's own descriptor table */
    struct stat identity;
    int error;
};

/* A read end for one child, CLOEXEC and ready to be armed; the thread is started if need be. A
 * negative errno: it does not work here. */
int mp_lifeline_open(struct mp_lifeline *lifeline);

/* End the thread, if there is one. Children that are still armed would be killed. NULL is fine. */
void mp_lifeline_close(struct mp_lifeline *lifeline);

/* In the child: from now on it ends with its parent. 0; -ESRCH: the parent has ended already; a
 * negative errno. */
int mp_lifeline_arm(int fd);

/* In the child: has the parent ended? */
int mp_lifeline_is_cut(int fd);

/*
 * The second best: a bare thread of this process that kills it when another has ended. It is of no
 * use while this process is stopped.
 */
struct mp_watch {
    struct mp_bare thread;
    int pidfd;
};

int mp_watch_start(struct mp_watch *watch, int pidfd);
