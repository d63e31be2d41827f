/* SPDX-License-Identifier: MIT */
/*
 * The lifeline: its bare thread, and the read ends for children.
 *
 * The thread gives itself an empty descriptor table, makes the pipe there, and sleeps. Read ends
 * are opened through /proc/self/task/TID/fd, which gives each child an open file of its own: the
 * owner of O_ASYNC belongs to the open file, so one that is shared would serve one child only.
 *
 * state: 0 no thread, 1 starting, 2 holds the pipe, 3 failed (error says why), 4 told to end.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "kernel/futex.h"
#include "kernel/lifeline.h"
#include "kernel/raw.h"

#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9 */
#endif

enum { STATE_NONE, STATE_STARTING, STATE_HOLDS, STATE_FAILED, STATE_END };

/* Open to all who can reach it: a process that has changed its user since may start daemons, too,
 * and nobody else gets past /proc/PID/task/TID/fd. */
#define PIPE_MODE 0444

static const char thread_name[] = "mp-lifeline";
static const char watch_name[] = "mp-watch";

static MP_BARE long hold_pipe(struct mp_lifeline *l)
{
    long r;

    mp_raw(SYS_prctl, PR_SET_NAME, (long)thread_name, 0, 0, 0);
    /* Closing all of a table that it shares gives it an empty one: nothing is closed for others,
     * and nothing is held open here that they close. */
    r = mp_raw(SYS_close_range, 0, ~0U, CLOSE_RANGE_UNSHARE, 0, 0);
    if (r < 0)
        return r;
    r = mp_raw(SYS_pipe2, (long)l->pipe, O_CLOEXEC, 0, 0, 0);
    if (r < 0)
        return r;
    r = mp_raw(SYS_fchmod, l->pipe[1], PIPE_MODE, 0, 0, 0);
    if (r < 0)
        return r;
    r = mp_raw(SYS_fstat, l->pipe[1], (long)&l->identity, 0, 0, 0);
    if (r < 0)
        return r;
    return mp_raw(SYS_close, l->pipe[0], 0, 0, 0, 0);
}

static MP_BARE int hold(void *arg)
{
    struct mp_lifeline *l = arg;
    uint32_t state;
    long r = hold_pipe(l);

    l->error = (int)r;
    state = r < 0 ? STATE_FAILED : STATE_HOLDS;
    mp_store_release(&l->state, state);
    mp_raw(SYS_futex, (long)&l->state, FUTEX_WAKE, 1, 0, 0);
    while (mp_load_acquire(&l->state) == STATE_HOLDS)
        mp_raw(SYS_futex, (long)&l->state, FUTEX_WAIT, STATE_HOLDS, 0, 0);
    return 0;
}

static int start(struct mp_lifeline *l)
{
    int r;

    mp_store_relaxed(&l->state, STATE_STARTING);
    r = mp_bare_start(&l->thread, hold, l);
    if (r < 0) {
        mp_store_relaxed(&l->state, STATE_NONE);
        return r;
    }
    while (mp_load_acquire(&l->state) == STATE_STARTING)
        mp_futex_wait(&l->state, STATE_STARTING, MP_FOREVER);
    if (mp_load_relaxed(&l->state) == STATE_HOLDS)
        return 0;
    mp_bare_wait(&l->thread);
    mp_store_relaxed(&l->state, STATE_NONE);
    return l->error;
}

int mp_lifeline_open(struct mp_lifeline *l)
{
    _cleanup_close_ int fd = -1;
    struct stat found;
    char path[64];

    if (mp_load_relaxed(&l->state) == STATE_NONE) {
        int r = start(l);

        if (r < 0)
            return r;
    }
    snprintf(path, sizeof path, "/proc/self/task/%u/fd/%d", mp_load_relaxed(&l->thread.tid),
             l->pipe[1]);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &found) < 0)
        return -errno;
    /* A /proc of another pid namespace counts threads otherwise. */
    if (found.st_dev != l->identity.st_dev || found.st_ino != l->identity.st_ino)
        return -ENOENT;
    /* All that can fail is done here, before there is a child; without an owner nobody is killed.
     */
    if (fcntl(fd, F_SETSIG, SIGKILL) < 0 || fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) < 0)
        return -errno;
    return mp_take_fd(&fd);
}

void mp_lifeline_close(struct mp_lifeline *l)
{
    if (!l || mp_load_relaxed(&l->state) != STATE_HOLDS)
        return;
    mp_store_release(&l->state, STATE_END);
    mp_futex_wake(&l->state, 1);
    mp_bare_wait(&l->thread);
    mp_store_relaxed(&l->state, STATE_NONE);
}

int mp_lifeline_is_cut(int fd)
{
    struct pollfd p = {.fd = fd};

    return poll(&p, 1, 0) == 1;
}

int mp_lifeline_arm(int fd)
{
    if (fcntl(fd, F_SETOWN, getpid()) < 0)
        return -errno;
    /* It may have been cut before there was an owner to be told. */
    return mp_lifeline_is_cut(fd) ? -ESRCH : 0;
}

static MP_BARE int watch(void *arg)
{
    struct mp_watch *w = arg;
    struct pollfd p = {.fd = w->pidfd, .events = POLLIN};

    mp_raw(SYS_prctl, PR_SET_NAME, (long)watch_name, 0, 0, 0);
    while (mp_raw(SYS_ppoll, (long)&p, 1, 0, 0, 0) <= 0)
        ;
    mp_raw(SYS_kill, mp_raw(SYS_getpid, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0);
    return 0;
}

int mp_watch_start(struct mp_watch *w, int pidfd)
{
    w->pidfd = pidfd;
    return mp_bare_start(&w->thread, watch, w);
}
