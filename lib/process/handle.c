/* SPDX-License-Identifier: MIT */
/*
 * Handles: what can be asked of a process and done to it.
 *
 * A handle is counted, not copied: the household holds one reference until the child is reaped, so
 * that children whose handle was dropped are still known, and mp_process_active_children() gives
 * out further ones. The pidfd lives as long as the handle; a signal sent by it reaches this process
 * or none.
 *
 * Waiting is polling the pidfd, without a lock; reaping is one waitid() under the lock. So several
 * threads may join one child: the first to get the lock reaps, and the others find what it found.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <mp/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"
#include "kernel/lineage.h"
#include "kernel/pidfd.h"
#include "process/process.h"

/* How long a forkserver has to report an end that everybody can see. */
#define REPORT_MSEC 1000

int mp_process_check(const mp_process *p, struct mp_household **ret_household)
{
    struct mp_household *h;

    if (!p)
        return -EINVAL;
    if (p->lineage != mp_lineage())
        return -ECHILD;
    /* There is a handle, so there is a household. */
    h = mp_household();
    *ret_household = h;
    return 0;
}

void mp_process_destroy(mp_process *p)
{
    if (!p)
        return;
    if (p->pidfd >= 0)
        close(p->pidfd);
    if (p->report_fd >= 0)
        close(p->report_fd);
    free(p);
}

mp_process *mp_process_unref_locked(struct mp_household *h, mp_process *p)
{
    if (atomic_fetch_sub(&p->references, 1) > 1)
        return NULL;
    if (p->next)
        p->next->previous = p->previous;
    if (p->previous)
        p->previous->next = p->next;
    else
        h->children = p->next;
    return p;
}

mp_process *mp_process_free(mp_process *p)
{
    struct mp_household *h;
    int r = mp_process_check(p, &h);

    if (r == -EINVAL || p->kin != MP_KIN_CHILD)
        return NULL;
    if (r == -ECHILD) {
        /* A copy of the parent's handle; the list it is in is nobody's. */
        if (atomic_fetch_sub(&p->references, 1) == 1)
            mp_process_destroy(p);
        return NULL;
    }
    mp_household_lock(h);
    p = mp_process_unref_locked(h, p);
    mp_household_unlock(h);
    mp_process_destroy(p);
    return NULL;
}

/*
 * While a process is our parent its pid is its own: it is not reaped before we have another parent.
 * So if it is our parent still after the pidfd was opened, the pidfd is the parent's. If not it has
 * ended, and anything that polls readable stands for it.
 */
static int open_parent(pid_t pid)
{
    _cleanup_close_ int fd = -1;

    if (getppid() == pid) {
        fd = mp_pidfd_open(pid);
        if (fd < 0 && fd != -ESRCH)
            return fd;
        if (fd >= 0 && getppid() == pid)
            return mp_take_fd(&fd);
    }
    mp_closep(&fd);
    fd = eventfd(1, EFD_CLOEXEC);
    return fd < 0 ? -errno : mp_take_fd(&fd);
}

int mp_process_pidfd(struct mp_household *h, mp_process *p)
{
    int r;

    if (p->kin == MP_KIN_CHILD)
        return p->pidfd;
    /* The parent's and our own are opened when they are first asked for. */
    mp_household_lock(h);
    r = p->pidfd;
    if (r < 0)
        r = p->kin == MP_KIN_SELF ? mp_pidfd_open(getpid()) : open_parent(p->pid);
    if (r >= 0)
        p->pidfd = r;
    mp_household_unlock(h);
    return r;
}

/* It has ended, and who reaps it will say so in a moment; unless that one is stopped. */
static void await_report(mp_process *p)
{
    struct pollfd report = {.fd = p->report_fd, .events = POLLIN};

    if (p->report_fd >= 0 && !p->is_late && poll(&report, 1, REPORT_MSEC) == 0)
        p->is_late = true;
}

/* 1: it has ended; 0: not until the deadline; a negative errno. */
static int wait_until(struct mp_household *h, mp_process *p, uint64_t deadline)
{
    int r = mp_process_pidfd(h, p);

    if (r < 0)
        return r;
    r = mp_pidfd_wait(r, deadline);
    if (r == 1 && p->kin == MP_KIN_CHILD) {
        await_report(p);
        mp_household_lock(h);
        mp_process_reap_locked(h, p);
        mp_household_unlock(h);
    }
    return r;
}

int mp_process_join(mp_process *p, uint64_t timeout_ns)
{
    uint64_t deadline = mp_deadline(timeout_ns);
    struct mp_household *h;
    int r = mp_process_check(p, &h);

    if (r < 0)
        return r;
    if (p->kin == MP_KIN_SELF)
        return -EINVAL;
    r = wait_until(h, p, deadline);
    if (r < 0)
        return r;
    if (r == 0)
        return timeout_ns == 0 ? -EAGAIN : -ETIMEDOUT;
    return 0;
}

int mp_process_is_alive(mp_process *p)
{
    struct mp_household *h;
    int r = mp_process_check(p, &h);

    if (r < 0)
        return r;
    if (p->kin == MP_KIN_SELF)
        return 1;
    r = wait_until(h, p, 0);
    return r < 0 ? r : !r;
}

int mp_process_exit_info(mp_process *p, struct mp_exit_info *ret_info)
{
    struct mp_household *h;
    int r = mp_process_check(p, &h);

    if (r < 0)
        return r;
    if (!ret_info)
        return -EINVAL;
    if (p->kin == MP_KIN_SELF)
        return -EAGAIN;
    r = wait_until(h, p, 0);
    if (r <= 0)
        return r < 0 ? r : -EAGAIN;
    if (p->kin == MP_KIN_PARENT) {
        *ret_info = (struct mp_exit_info){.code = MP_EXIT_UNKNOWN};
        return 0;
    }
    mp_household_lock(h);
    if (p->has_ended)
        *ret_info = p->info;
    else
        r = -EAGAIN; /* a tracer has not let go of it yet */
    mp_household_unlock(h);
    return r < 0 ? r : 0;
}

int mp_process_signal(mp_process *p, int signal)
{
    struct mp_household *h;
    int r = mp_process_check(p, &h);

    if (r < 0)
        return r;
    r = mp_process_pidfd(h, p);
    if (r < 0)
        return r;
    r = mp_pidfd_signal(r, signal);
    /* What stands for a parent that has ended is no pidfd. */
    return r == -ESRCH || (r == -EBADF && p->kin == MP_KIN_PARENT) ? 0 : r;
}

int mp_process_terminate(mp_process *p)
{
    return mp_process_signal(p, SIGTERM);
}

int mp_process_kill(mp_process *p)
{
    return mp_process_signal(p, SIGKILL);
}

int mp_process_sentinel(const mp_process *p)
{
    struct mp_household *h;
    int r = mp_process_check(p, &h);

    if (r < 0)
        return r;
    /* Only a handle of the household's own is changed. */
    return mp_process_pidfd(h, (mp_process *)(uintptr_t)p);
}

struct mp_waitable mp_process_waitable(const mp_process *p)
{
    int fd = mp_process_sentinel(p);

    return fd < 0 ? (struct mp_waitable){.fd = -1} : mp_fd_waitable(fd, POLLIN);
}

pid_t mp_process_pid(const mp_process *p)
{
    if (!p)
        return -EINVAL;
    return p->kin == MP_KIN_SELF ? getpid() : p->pid;
}

const char *mp_process_name(const mp_process *p)
{
    return p ? p->name : NULL;
}

int mp_process_is_daemon(const mp_process *p)
{
    return p ? p->is_daemon : -EINVAL;
}

mp_process *mp_process_current(void)
{
    struct mp_household *h = mp_household();

    return h ? &h->self : NULL;
}

mp_process *mp_process_parent(void)
{
    struct mp_household *h = mp_household();

    return h && h->has_parent ? &h->parent : NULL;
}

int mp_process_active_children(mp_process ***ret_processes)
{
    _cleanup_free_ mp_process **array = NULL;
    struct mp_household *h;
    mp_process *next;
    int n = 0;

    if (!ret_processes)
        return -EINVAL;
    h = mp_household();
    if (!h)
        return -ENOMEM;
    mp_household_lock(h);
    for (mp_process *p = h->children; p; p = next) {
        next = p->next;
        mp_process_reap_locked(h, p);
    }
    for (mp_process *p = h->children; p; p = p->next)
        n += !p->has_ended;
    array = malloc((size_t)(n + !n) * sizeof *array);
    if (array) {
        int i = n;

        /* The oldest first, as they were started. */
        for (mp_process *p = h->children; p; p = p->next)
            if (!p->has_ended) {
                atomic_fetch_add(&p->references, 1);
                array[--i] = p;
            }
    }
    mp_household_unlock(h);
    if (!array)
        return -ENOMEM;
    *ret_processes = mp_take_ptr(array);
    return n;
}
