/* SPDX-License-Identifier: MIT */
/* Processes by pidfd, and what /proc tells about them. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

int mp_pidfd_reap(int pidfd, int *ret_status, struct rusage *ret_usage)
{
    siginfo_t info = {0};
    int status;

    /* The library's waitid() has no place for the usage. */
    if (syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | WNOHANG | __WALL, ret_usage) < 0)
        return -errno;
    if (info.si_pid == 0)
        return 0;
    status = info.si_status;
    if (info.si_code == CLD_EXITED)
        status = (status & 0xff) << 8;
    else if (info.si_code == CLD_DUMPED)
        status |= WCOREFLAG;
    *ret_status = status;
    return 1;
}

/* Linux 6.13, its exit code 6.15. */
struct pidfd_info {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};
#define GET_INFO _IOWR(0xFF, 11, struct pidfd_info)
#define INFO_EXIT (UINT64_C(1) << 3)

static_assert(sizeof(struct pidfd_info) == 64, "as the first version of the kernel's");

int mp_pidfd_can_info(int pidfd)
{
    struct pidfd_info info = {0};

    return ioctl(pidfd, GET_INFO, &info) < 0 ? -errno : 0;
}

/* Between the end and the reaping there is nothing to tell yet. */
#define STATUS_WAIT_MSEC 100

int mp_pidfd_status(int pidfd, int *ret_status)
{
    for (int look = 0; look < 2; look++) {
        struct pidfd_info info = {.mask = INFO_EXIT};
        struct pollfd p = {.fd = pidfd};

        if (ioctl(pidfd, GET_INFO, &info) < 0)
            return -EOPNOTSUPP;
        if (info.mask & INFO_EXIT) {
            *ret_status = info.exit_code;
            return 0;
        }
        if (look == 0)
            poll(&p, 1, STATUS_WAIT_MSEC); /* POLLHUP when it is reaped */
    }
    return -EOPNOTSUPP;
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
