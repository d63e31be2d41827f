/* SPDX-License-Identifier: MIT */
/*
 * How a child ended.
 *
 * One waitid() on the pidfd reaps and gives code and usage. It fails with ECHILD when somebody else
 * was first (a wait() for any child elsewhere in the program) or the kernel itself (SIGCHLD is
 * ignored). The process is gone then, and who holds its pidfd may still ask the kernel for its code
 * (Linux 6.15); where that does not work the code stays unknown, and `known` says so.
 *
 * A child of the forkserver is reaped there, and its end reported.
 *
 * A tracer of the child sees its end first. Until it lets go there is an ended process of which
 * nothing is known yet: mp_process_join() is content with that, mp_process_exit_info() is not.
 */

#include <errno.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "kernel/pidfd.h"
#include "process/forkserver.h"
#include "process/process.h"

static void take_status(struct mp_exit_info *info, int status)
{
    info->known = 1;
    if (WIFSIGNALED(status)) {
        info->signal = WTERMSIG(status);
        info->code = -info->signal;
        info->core_dumped = WCOREDUMP(status) ? 1 : 0;
    } else {
        info->code = WEXITSTATUS(status);
    }
}

/* As mp_pidfd_reap(). A forkserver that is no more has nothing to report, and its children are not
 * ours to reap. */
static int take_end(mp_process *p, int *ret_status, struct rusage *ret_usage)
{
    if (p->report_fd >= 0 && !p->is_orphan) {
        int r = mp_forkserver_report(p->report_fd, ret_status, ret_usage);

        if (r >= 0)
            return r;
        p->is_orphan = true;
    }
    return mp_pidfd_reap(p->pidfd, ret_status, ret_usage);
}

void mp_process_reap_locked(struct mp_household *h, mp_process *p)
{
    struct mp_exit_info info = {0};
    int status, r;

    if (p->has_ended)
        return;
    r = take_end(p, &status, &info.usage);
    /* Any error but one of these would be a pidfd that the program closed behind our back. */
    if (r == 0 || (r < 0 && mp_pidfd_wait(p->pidfd, 0) != 1))
        return;
    if (r == 1 || mp_pidfd_status(p->pidfd, &status) == 0)
        take_status(&info, status);
    else
        info.code = MP_EXIT_UNKNOWN;
    info.wall_ns = mp_now_ns() - p->started_ns;
    p->info = info;
    p->has_ended = true;
    if (p->is_daemon && --h->daemons == 0)
        mp_lifeline_close(h->lifeline);
    mp_process_destroy(mp_process_unref_locked(h, p));
}
