/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Start a program in a new process, as posix_spawn() does, and with what that can not do: a pidfd
 * from the very start, descriptors moved to chosen numbers and all others closed, and a lifeline
 * armed before the program runs.
 */

#include <sys/types.h>

struct mp_exec {
    const char *path;
    char *const *argv;
    char *const *envp;
    /* These become 3, 4, 5 ... in the child, open across the exec; 0 is /dev/null, 1 and 2 stay,
     * any other is closed. The array is overwritten. */
    int *fds;
    unsigned n_fds;
    int lifeline; /* index into fds of what mp_lifeline_open() gave; negative: none */
};

#define MP_EXEC_FIRST_FD 3

/* Returns once the program is executed: 0, its pid and a CLOEXEC pidfd. A negative errno: what a
 * step in the child or the exec said, and there is no child. */
int mp_exec_start(const struct mp_exec *exec, pid_t *ret_pid, int *ret_pidfd);
