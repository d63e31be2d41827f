/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * In a forked child: system calls as such. The first call of a C library function by a program
 * that is linked lazily looks the function up, and a child that lives for one call would do so each
 * time, at the cost of a dozen page faults.
 */

#include <fcntl.h>
#include <unistd.h>

#include "kernel/raw.h"

/* Make this the standard input, under its number and no other. */
static inline void mp_child_stdin(int fd)
{
    if (fd == STDIN_FILENO) {
        mp_raw(SYS_fcntl, fd, F_SETFD, 0, 0, 0);
        return;
    }
    mp_raw(SYS_dup3, fd, STDIN_FILENO, 0, 0, 0);
    mp_raw(SYS_close, fd, 0, 0, 0, 0);
}

/* End this process and all of its threads, without exit handlers. */
static inline _Noreturn void mp_child_exit(int code)
{
    for (;;)
        mp_raw(SYS_exit_group, code, 0, 0, 0, 0);
}
