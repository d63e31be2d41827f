/* SPDX-License-Identifier: MIT */
/*
 * The household: what this process knows of itself, its parent and its children.
 *
 * `here` points to the household made last in this line of forks. Whoever asks compares its lineage
 * with that of this process; where they differ this is a forked child, which makes a new one and
 * leaves the old one as it was at the fork: its locks may be held by threads that are not here, its
 * children are not ours. A child that mp_process_start() forked is given a household that was
 * allocated before the fork, so nothing can fail there.
 *
 * The duties at exit are Python's: SIGTERM to daemons and, unlike there, SIGKILL to those that are
 * still there a second later, stopped ones among them; then all others are joined, for as long as
 * it takes. A process that does not come to exit() ends its daemons by their lifelines.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "kernel/lineage.h"
#include "kernel/pidfd.h"
#include "process/forkserver.h"
#include "process/process.h"

/* How long a daemon has to follow a SIGTERM at our exit. */
#define TERMINATE_NS MP_SEC(1)

static _Atomic(struct mp_household *) here;

/* A fork copies the list of exit handlers, so once in a line of forks is enough. */
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;

static void at_exit(void)
{
    struct mp_household *h = mp_load_acquire(&here);

    if (h && h->lineage == mp_lineage())
        mp_household_end(h);
}

static void register_exit(void)
{
    /* It can fail for want of memory only; then daemons die by their lifelines. */
    atexit(at_exit);
}

struct mp_household *mp_household_new(void)
{
    struct mp_household *h = calloc(1, sizeof *h);

    if (!h)
        return NULL;
    pthread_mutex_init(&h->gate, NULL);
    pthread_mutex_init(&h->lock, NULL);
    h->self.kin = MP_KIN_SELF;
    h->self.pidfd = -1;
    h->parent.kin = MP_KIN_PARENT;
    h->parent.pidfd = -1;
    h->lifeline_fd = -1;
    h->forkserver.control = h->forkserver.pidfd = -1;
    h->self.report_fd = h->parent.report_fd = -1;
    strcpy(h->self.name, "MainProcess");
    return h;
}

struct mp_household *mp_household_free(struct mp_household *h)
{
    free(h);
    return NULL;
}

static void stamp(struct mp_household *h, uint64_t lineage)
{
    h->lineage = h->self.lineage = h->parent.lineage = lineage;
}

void mp_household_adopt(struct mp_household *h)
{
    stamp(h, mp_lineage_begin());
    h->forebear = mp_load_relaxed(&here);
    mp_store_release(&here, h);
}

struct mp_household *mp_household(void)
{
    struct mp_household *old = mp_load_acquire(&here), *made;

    if (old && old->lineage == mp_lineage())
        return old;
    pthread_once(&exit_once, register_exit);
    made = mp_household_new();
    if (!made)
        return NULL;
    stamp(made, mp_lineage());
    if (old) {
        /* Forked without our help: as in Python it keeps its name, and nobody is its parent. */
        made->forebear = old;
        memcpy(made->self.name, old->self.name, sizeof made->self.name);
        memcpy(made->identity, old->identity, sizeof made->identity);
    }
    if (atomic_compare_exchange_strong(&here, &old, made))
        return made;
    mp_household_free(made);
    return old;
}

/* In a program that runs without standard streams a new descriptor may get the number of one; the
 * child will put its own standard input there. */
static int above_stdio(int fd)
{
    _cleanup_close_ int low = fd;

    if (fd < 0 || fd > STDERR_FILENO)
        return mp_take_fd(&low);
    fd = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return fd < 0 ? -errno : fd;
}

int mp_household_tie(struct mp_household *h)
{
    int fd;

    mp_household_lock(h);
    if (!h->lifeline)
        h->lifeline = calloc(1, sizeof *h->lifeline);
    fd = h->lifeline ? above_stdio(mp_lifeline_open(h->lifeline)) : -ENOMEM;
    h->daemons++;
    mp_household_unlock(h);
    return fd;
}

void mp_household_untie(struct mp_household *h)
{
    mp_household_lock(h);
    if (--h->daemons == 0)
        mp_lifeline_close(h->lifeline);
    mp_household_unlock(h);
}

/* A child that has not ended, with a reference of the caller's. */
static mp_process *next_child(struct mp_household *h, bool daemon)
{
    mp_process *p;

    mp_household_lock(h);
    for (p = h->children; p; p = p->next)
        if (!p->has_ended && !p->is_given_up && p->is_daemon == daemon)
            break;
    if (p)
        atomic_fetch_add(&p->references, 1);
    mp_household_unlock(h);
    return p;
}

static void join_until_ended(struct mp_household *h, mp_process *p, uint64_t deadline)
{
    if (mp_pidfd_wait(p->pidfd, deadline) == 0) {
        mp_pidfd_signal(p->pidfd, SIGKILL);
        mp_pidfd_wait(p->pidfd, MP_FOREVER);
    }
    mp_household_lock(h);
    mp_process_reap_locked(h, p);
    p->is_given_up = true;
    mp_household_unlock(h);
    mp_process_free(p);
}

void mp_household_end(struct mp_household *h)
{
    uint64_t deadline;
    mp_process *p;

    if (mp_load_relaxed(&h->started) == 0)
        return;
    mp_household_lock(h);
    for (p = h->children; p; p = p->next)
        if (!p->has_ended && p->is_daemon)
            mp_pidfd_signal(p->pidfd, SIGTERM);
    mp_household_unlock(h);
    deadline = mp_deadline(TERMINATE_NS);
    while ((p = next_child(h, true)))
        join_until_ended(h, p, deadline);
    while ((p = next_child(h, false)))
        join_until_ended(h, p, MP_FOREVER);
    mp_forkserver_end(h);
}
