/* SPDX-License-Identifier: MIT */
/*
 * Start by spawn, the parent's side: the program is executed anew.
 *
 * /proc/self/exe names the very file that this process was executed from, also when another one has
 * taken its place on the disk or it was removed: parent and child are always the same program. Its
 * modules are found by the dynamic loader anew, so the build-id of the one that the entry is in
 * goes along, and the child compares.
 *
 * A program that runs with more rights than its caller (set-user-id) does not spawn: whoever calls
 * it could make up a memfd like ours, and would choose what runs with these rights.
 */

#include <errno.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kernel/exec.h"
#include "process/module.h"
#include "process/process.h"
#include "process/spec.h"

#define PROGRAM "/proc/self/exe"

int mp_start_spawn(const struct mp_household *h, const struct mp_start *s, pid_t *ret_pid,
                   int *ret_pidfd)
{
    _cleanup_close_ int spec_fd = -1;
    int fds[2 + MP_ARENAS_MAX + MP_FDS_MAX];
    char *argv[] = {(char *)(uintptr_t)mp_main_program(), (char *)(uintptr_t)MP_SPEC_MARKER,
                    (char *)(uintptr_t)s->name, NULL};
    struct mp_exec exec = {
        .path = PROGRAM, .argv = argv, .envp = environ, .fds = fds, .lifeline = -1};
    int r;

    if (getauxval(AT_SECURE))
        return -EPERM;
    if (!mp_module_can_reexec())
        return -EOPNOTSUPP;
    spec_fd = mp_spec_freeze(s, &h->self);
    if (spec_fd < 0)
        return spec_fd;
    fds[exec.n_fds++] = spec_fd;
    if (s->lifeline_fd >= 0) {
        exec.lifeline = (int)exec.n_fds;
        fds[exec.n_fds++] = s->lifeline_fd;
    }
    for (size_t i = 0; i < s->options.n_arenas; i++)
        fds[exec.n_fds++] = mp_arena_fd(s->options.arenas[i]);
    for (size_t i = 0; i < s->options.n_fds; i++)
        fds[exec.n_fds++] = s->options.fds[i];
    r = mp_exec_start(&exec, ret_pid, ret_pidfd);
    /* Without /proc there is no such file; -ENOENT would say that the entry is missing. */
    return r == -ENOENT && access(PROGRAM, X_OK) < 0 ? -EOPNOTSUPP : r;
}
