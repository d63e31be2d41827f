/* SPDX-License-Identifier: MIT */
/* Processes by pidfd, and what /proc tells about them. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "kernel/pidfd.h"

int mp_pidfd_open(pid_t pid)
{
    long fd = syscall(SYS_pidfd_open, pid, 0);

    return fd < 0 ? -errno : (int)fd;
}

int mp_pidfd_signal(int pidfd, int sig)
{
    return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

int mp_pidfd_wait(int pidfd, uint64_t deadline_ns)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};

    for (;;) {
        uint64_t now = deadline_ns && deadline_ns != MP_FOREVER ? mp_now_ns() : 0;
        uint64_t left = deadline_ns == MP_FOREVER ? 0 : deadline_ns > now ? deadline_ns - now : 0;
        struct timespec t = mp_timespec(left);
        int r = ppoll(&p, 1, deadline_ns == MP_FOREVER ? NULL : &t, NULL);

        if (r > 0)
            return 1;
        if (r < 0 && errno != EINTR)
            return -errno;
        if (r == 0)
            return 0;
    }
}

/* The text of /proc/PID/stat after the command name, which may itself hold spaces and brackets. */
static const char *stat_fields(pid_t pid, char *buf, size_t size)
{
    _cleanup_close_ int fd = -1;
    char path[32];
    ssize_t n;
    char *end;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    n = read(fd, buf, size - 1);
    if (n <= 0)
        return NULL;
    buf[n] = '\0';
    end = strrchr(buf, ')');
    return end && end[1] == ' ' ? end + 2 : NULL;
}

uint64_t mp_task_start(pid_t pid)
{
    char buf[1024];
    const char *p = stat_fields(pid, buf, sizeof buf);

    for (int field = 3; p && field < 22; field++) {
        p = strchr(p, ' ');
        p = p ? p + 1 : NULL;
    }
    return p ? strtoull(p, NULL, 10) : 0;
}

char mp_task_state(pid_t pid)
{
    char buf[1024];
    const char *p = stat_fields(pid, buf, sizeof buf);

    return p ? *p : 0;
}

uint32_t mp_task_pid_namespace(void)
{
    struct stat st;

    return stat("/proc/self/ns/pid", &st) < 0 ? 0 : (uint32_t)st.st_ino;
}
