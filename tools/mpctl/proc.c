/* SPDX-License-Identifier: MIT */
/* What /proc tells about processes. Each may end at any time: what can not be read is not known. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proc.h"
#include "text.h"

#define KERNEL_THREAD 0x00200000u /* in the flags of /proc/PID/stat */

/* The first bytes of /proc/PID/NAME, with a NUL. How many; -1: can not be read. */
static ssize_t read_file(pid_t pid, const char *name, char *buf, size_t size)
{
    _cleanup_close_ int fd = -1;
    char path[64];
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    n = read(fd, buf, size - 1);
    buf[n < 0 ? 0 : n] = '\0';
    return n;
}

void proc_command(pid_t pid, char ret[PROC_COMMAND_MAX])
{
    char buf[32];
    ssize_t n = read_file(pid, "comm", buf, sizeof buf);

    if (n > 0 && buf[n - 1] == '\n')
        n--;
    text_escape(ret, PROC_COMMAND_MAX, buf, n > 0 ? (size_t)n : 0);
}

uint64_t proc_age_ms(uint64_t start)
{
    struct timespec now;
    uint64_t now_ms, start_ms = start * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);

    clock_gettime(CLOCK_BOOTTIME, &now);
    now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    return now_ms > start_ms ? now_ms - start_ms : 0;
}

bool proc_is_kernel_thread(pid_t pid)
{
    char buf[512];
    unsigned flags;
    const char *p;

    if (read_file(pid, "stat", buf, sizeof buf) < 0)
        return false;
    p = strrchr(buf, ')');
    return p && sscanf(p, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && (flags & KERNEL_THREAD);
}

uint32_t proc_namespace(pid_t pid)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
    return stat(path, &st) < 0 ? 0 : (uint32_t)st.st_ino;
}

pid_t proc_inner_pid(pid_t pid)
{
    char buf[4096];
    const char *line, *last;

    if (read_file(pid, "status", buf, sizeof buf) < 0)
        return 0;
    line = strstr(buf, "\nNSpid:");
    if (!line)
        return pid;
    buf[(size_t)(line - buf) + 1 + strcspn(line + 1, "\n")] = '\0';
    last = strrchr(line, '\t');
    return last ? (pid_t)strtol(last, NULL, 10) : pid;
}

const char *proc_state(char letter)
{
    switch (letter) {
    case 0:
    case 'X':
        return "gone";
    case 'R':
        return "running";
    case 'S':
    case 'I':
        return "sleeping";
    case 'D':
        return "blocked";
    case 'T':
        return "stopped";
    case 't':
        return "traced";
    case 'Z':
        return "zombie";
    default:
        return "other";
    }
}
