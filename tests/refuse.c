/* SPDX-License-Identifier: MIT */
/*
 * refuse [--kill] -- COMMAND [ARGUMENT...]: run a command on a poorer kernel.
 *
 * A seccomp filter, inherited by all that the command starts, refuses what an older kernel does not
 * have and what containers forbid, each with the error that these give: io_uring and membarrier as
 * a container's filter, futex_waitv and clone3 as a kernel that never heard of them (the C library
 * falls back from clone3 on ENOSYS alone), the ioctls on pidfds as a kernel whose pidfds have none.
 *
 * With --kill who calls io_uring, membarrier or futex_waitv is killed instead, as by filters that
 * name what they allow; all else works.
 *
 * Where it may, it does so without no_new_privs, which would take set-user-ID programs away as
 * well.
 *
 * Exit: 125 when the filter can not be set, 77 where it may not be, 126 or 127 when the command can
 * not be run, else the command's own. Put before a test by `meson test --wrap`.
 */

#include <errno.h>
#include <linux/ioctl.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The type byte of every pidfd ioctl, PIDFD_GET_INFO (Linux 6.13) among them. */
#define PIDFD_IOCTL_TYPE 0xFF

static const struct {
    const char *name;
    int error;
} refused[] = {
    {"io_uring_setup", EPERM}, {"io_uring_enter", EPERM}, {"io_uring_register", EPERM},
    {"membarrier", EPERM},     {"futex_waitv", ENOSYS},   {"clone3", ENOSYS},
};
#define KILLED 5 /* the first so many of them */

static int load_filter(bool kill)
{
    const uint64_t mask = _IOC_TYPEMASK << _IOC_TYPESHIFT;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int r = filter ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < (kill ? KILLED : sizeof refused / sizeof refused[0]); i++)
        r = seccomp_rule_add(
            filter, kill ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO((uint32_t)refused[i].error),
            seccomp_syscall_resolve_name(refused[i].name), 0);
    if (r == 0 && !kill)
        r = seccomp_rule_add(
            filter, SCMP_ACT_ERRNO(ENOTTY), SCMP_SYS(ioctl), 1,
            SCMP_A1(SCMP_CMP_MASKED_EQ, mask, (uint64_t)PIDFD_IOCTL_TYPE << _IOC_TYPESHIFT));
    for (uint32_t nnp = 0; r == 0 && nnp <= 1; nnp++) {
        r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, nnp);
        if (r < 0 || seccomp_load(filter) == 0)
            break;
        r = nnp ? -EPERM : 0;
    }
    if (filter)
        seccomp_release(filter);
    return r;
}

int main(int argc, char **argv)
{
    bool kill = argc > 1 && strcmp(argv[1], "--kill") == 0;
    int first = 1 + kill, r;

    if (first < argc && strcmp(argv[first], "--") == 0)
        first++;
    if (first >= argc) {
        fprintf(stderr, "usage: refuse [--kill] -- COMMAND [ARGUMENT...]\n");
        return 125;
    }
    r = load_filter(kill);
    if (r < 0) {
        fprintf(stderr, "refuse: cannot set the filter: %s\n", strerror(-r));
        return r == -EPERM ? 77 : 125;
    }
    execvp(argv[first], argv + first);
    r = errno;
    fprintf(stderr, "refuse: %s: %s\n", argv[first], strerror(r));
    return r == ENOENT ? 127 : 126;
}
