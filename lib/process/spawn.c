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
#include <string.h>
#include <sys/auxv.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "kernel/exec.h"
#include "kernel/memfd.h"
#include "process/module.h"
#include "process/process.h"
#include "process/spec.h"

#define PROGRAM "/proc/self/exe"

static int write_spec(const struct mp_start *s, const mp_process *self)
{
    struct mp_spec spec = {.magic = MP_SPEC_MAGIC,
                           .version = MP_SPEC_VERSION,
                           .size = sizeof spec,
                           .data_size = s->options.size,
                           .n_arenas = (uint32_t)s->options.n_arenas,
                           .n_fds = (uint32_t)s->options.n_fds,
                           .is_daemon = s->options.daemon != 0,
                           .has_lifeline = s->lifeline_fd >= 0,
                           .parent_pid = getpid()};
    struct iovec parts[] = {
        {.iov_base = &spec, .iov_len = sizeof spec},
        {.iov_base = (void *)(uintptr_t)s->options.data, .iov_len = s->options.size},
    };

    if (strlen(s->entry_name) > MP_SPEC_ENTRY_MAX)
        return -ENAMETOOLONG;
    strcpy(spec.entry, s->entry_name);
    memcpy(spec.name, s->name, sizeof spec.name);
    memcpy(spec.parent_name, self->name, sizeof spec.parent_name);
    memcpy(spec.identity, s->identity, sizeof spec.identity);
    mp_module_build_id((void (*)(void))s->entry, &spec.build_id);
    return mp_memfd_freeze("mp-spawn", parts, MP_ARRAY_SIZE(parts));
}

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
    spec_fd = write_spec(s, &h->self);
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
