/* SPDX-License-Identifier: MIT */
/*
 * Running probes.
 *
 * What they find comes back through a pipe, in one piece. The children of a probe end with it, and
 * it ends with us, so nothing is left behind whatever happens.
 *
 * A filter may hide a call by ENOSYS (so that programs fall back) as well as refuse it; where there
 * is a filter and the kernel is new enough to have the call, it was the filter.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "probe.h"
#include "text.h"

#define PATIENCE_MS 5000 /* for what takes a millisecond */

/* ---- what was found ---- */

static void write_detail(struct finding *f, const char *format, va_list arguments)
{
    char text[DETAIL_MAX];

    vsnprintf(text, sizeof text, format, arguments);
    text_escape(f->detail, sizeof f->detail, text, strlen(text));
}

void found(struct finding *f, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    write_detail(f, format, arguments);
    va_end(arguments);
}

void found_verdict(struct finding *f, enum verdict verdict, const char *format, ...)
{
    va_list arguments;

    f->verdict = verdict;
    va_start(arguments, format);
    write_detail(f, format, arguments);
    va_end(arguments);
}

static enum verdict verdict_of(int error)
{
    switch (error) {
    case ENOSYS:
    case EINVAL:
    case ENOTTY:
    case EOPNOTSUPP:
    case ENOENT:
        return VERDICT_MISSING;
    case EPERM:
    case EACCES:
    case EROFS:
        return VERDICT_REFUSED;
    }
    return VERDICT_LIMITED;
}

void found_error(struct finding *f, int error)
{
    f->error = error;
    found_verdict(f, verdict_of(error), "%s", strerror(error));
}

void found_value(struct finding *f, uint64_t value, bool limited)
{
    f->has_value = true;
    f->value = value;
    f->verdict = limited ? VERDICT_LIMITED : VERDICT_OK;
}

/* ---- about this process and kernel ---- */

bool probe_read_line(const char *path, char *ret_line, size_t size)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char text[DETAIL_MAX];
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;

    if (n < 0)
        return false;
    text[n] = '\0';
    text_escape(ret_line, size, text, strcspn(text, "\n"));
    return true;
}

bool probe_read_number(const char *path, uint64_t *ret_number)
{
    char line[32];

    return probe_read_line(path, line, sizeof line) && text_number(line, ret_number) == 0;
}

bool probe_is_filtered(void)
{
    return prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER;
}

bool probe_kernel_is(const char *version)
{
    unsigned wanted[2] = {0}, have[2] = {0};
    struct utsname name;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &have[0], &have[1]) != 2)
        return false;
    sscanf(version, "%u.%u", &wanted[0], &wanted[1]);
    return have[0] > wanted[0] || (have[0] == wanted[0] && have[1] >= wanted[1]);
}

/* ---- processes ---- */

pid_t probe_fork(void)
{
    pid_t parent = getpid(), pid = fork();

    if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
        _exit(1);
    return pid;
}

int probe_reap(pid_t pid)
{
    int status;
    pid_t r;

    do
        r = waitpid(pid, &status, 0);
    while (r < 0 && errno == EINTR);
    return r == pid ? status : -1;
}

static _Noreturn void run_here(const struct probe *probe, int write_fd)
{
    static const struct rlimit none;
    struct finding f = {.verdict = VERDICT_OK};

    /* One that a filter kills leaves no core file. */
    setrlimit(RLIMIT_CORE, &none);
    probe->look(&f);
    _exit(write(write_fd, &f, sizeof f) != sizeof f);
}

/* What it says within PATIENCE_MS. 1; 0: it said nothing and is gone; -1: neither. */
static int hear(int fd, struct finding *ret_finding)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int r;

    do
        r = poll(&p, 1, PATIENCE_MS);
    while (r < 0 && errno == EINTR);
    if (r <= 0)
        return -1;
    return read(fd, ret_finding, sizeof *ret_finding) == sizeof *ret_finding;
}

static void explain_silence(struct finding *f, int heard, int status)
{
    *f = (struct finding){0};
    if (heard < 0)
        found_verdict(f, VERDICT_LIMITED, "it did not answer within %d s", PATIENCE_MS / 1000);
    else if (status >= 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) {
        found_verdict(f, VERDICT_REFUSED, "a seccomp filter kills who tries");
        f->kills = true;
    } else
        found_verdict(f, VERDICT_LIMITED, "the process that tried ended by itself (status %d)",
                      status);
}

/* Where an errno alone does not tell. */
static void judge(const struct probe *probe, struct finding *f)
{
    size_t n = strlen(f->detail);
    const char *why = NULL;

    if (f->verdict == VERDICT_OK && n == 0)
        why = "works";
    else if (f->verdict == VERDICT_MISSING && f->error && probe->since &&
             probe_kernel_is(probe->since)) {
        if (probe_is_filtered()) {
            f->verdict = VERDICT_REFUSED;
            why = "hidden by a seccomp filter";
        } else {
            why = "though the kernel is new enough";
        }
    } else if (f->verdict == VERDICT_REFUSED && f->error == EPERM && probe_is_filtered()) {
        why = "this process is under a seccomp filter";
    }
    if (why)
        snprintf(f->detail + n, sizeof f->detail - n, "%s%s", n ? "; " : "", why);
}

/* Whatever the reason: it does not work here and now. */
static void not_tried(struct finding *f, const char *what)
{
    f->error = errno;
    found_verdict(f, VERDICT_REFUSED, "not tried: no %s: %s", what, strerror(errno));
}

static void run_apart(const struct probe *probe, struct finding *f)
{
    _cleanup_close_ int read_fd = -1, write_fd = -1;
    int ends[2], heard, status;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        not_tried(f, "pipe");
        return;
    }
    read_fd = ends[0];
    write_fd = ends[1];
    pid = probe_fork();
    if (pid < 0) {
        not_tried(f, "process");
        return;
    }
    if (pid == 0)
        run_here(probe, write_fd);
    mp_closep(&write_fd);
    write_fd = -1;
    heard = hear(read_fd, f);
    /* Our child, not reaped yet: the number is its own. One that has ended by itself keeps its
     * status. */
    kill(pid, SIGKILL);
    status = probe_reap(pid);
    if (heard != 1)
        explain_silence(f, heard, status);
}

void probe_run(const struct probe *probe, bool in_place, struct finding *ret_finding)
{
    *ret_finding = (struct finding){.verdict = VERDICT_OK};
    if (in_place)
        probe->look(ret_finding);
    else
        run_apart(probe, ret_finding);
    judge(probe, ret_finding);
}
