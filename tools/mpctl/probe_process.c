/* SPDX-License-Identifier: MIT */
/* Probes: what starting, watching, ending and confining processes is made of. */

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mp/process.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "kernel/cgroup.h"
#include "kernel/child.h"
#include "kernel/lifeline.h"
#include "kernel/pidfd.h"
#include "probe.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444 /* Linux 5.13 */
#endif
#define LANDLOCK_VERSION 1

#define EXIT_CODE 7

/* A child that waits to be ended. */
static pid_t fork_idler(void)
{
    pid_t pid = probe_fork();

    while (pid == 0)
        pause();
    return pid;
}

static int end_idler(pid_t pid)
{
    kill(pid, SIGKILL);
    return probe_reap(pid);
}

static int entry(const struct mp_call *call)
{
    (void)call;
    return EXIT_CODE;
}

static void look_start(struct finding *f)
{
    struct mp_exit_info info;
    mp_process *process;
    int r = mp_process_start(entry, MP_PROCESS_OPTIONS(.method = MP_START_FORK), &process);

    if (r < 0) {
        found_error(f, -r);
        f->verdict = VERDICT_REFUSED;
        return;
    }
    r = mp_process_join(process, MP_FOREVER);
    if (r == 0)
        r = mp_process_exit_info(process, &info);
    if (r < 0)
        found_error(f, -r);
    else if (!info.known || info.code != EXIT_CODE)
        found_verdict(f, VERDICT_LIMITED, "its exit code was %d, not %d", info.code, EXIT_CODE);
    else
        found(f, "one was forked and joined");
    mp_process_free(process);
}

static void look_pidfd(struct finding *f)
{
    _cleanup_close_ int fd = mp_pidfd_open(getpid());
    int r = fd < 0 ? fd : mp_pidfd_signal(fd, 0);

    if (r == 0)
        r = mp_pidfd_wait(fd, 0);
    if (r < 0)
        found_error(f, -r);
}

static void look_info(struct finding *f)
{
    _cleanup_close_ int fd = mp_pidfd_open(getpid());
    int r = fd < 0 ? fd : mp_pidfd_can_info(fd);

    if (r < 0)
        found_error(f, -r);
}

/* Of a child that is reaped already. */
static void look_exit(struct finding *f)
{
    pid_t pid = fork_idler();
    _cleanup_close_ int fd = pid < 0 ? -1 : mp_pidfd_open(pid);
    int status = 0, r;

    if (pid < 0) {
        found_error(f, errno);
        return;
    }
    end_idler(pid);
    r = fd < 0 ? fd : mp_pidfd_status(fd, &status);
    if (r < 0)
        found_error(f, -r);
    else if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        found_verdict(f, VERDICT_MISSING, "it tells a status of %d", status);
}

static void reap_clone(struct finding *f, long pid, int pidfd)
{
    if (pid < 0)
        found_error(f, errno);
    else if (probe_reap((pid_t)pid) != 0 || pidfd < 0)
        found_verdict(f, VERDICT_LIMITED, "the child had no pidfd");
}

static void look_clone3(struct finding *f)
{
    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);

    if (pid == 0)
        mp_child_exit(0);
    reap_clone(f, pid, pidfd);
    mp_closep(&pidfd);
}

static void open_own(const struct mp_cgroup *cgroup, void *arg)
{
    int *fd = arg;

    if (cgroup->version == 2 && cgroup->is_own && *fd == -ENOENT)
        *fd = open(cgroup->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Into the very cgroup that we are in: the same calls and rights, and nothing to be made. */
static void look_into_cgroup(struct finding *f)
{
    int pidfd = -1, cgroup_fd = -ENOENT;
    struct clone_args args = {.flags = CLONE_PIDFD | CLONE_INTO_CGROUP,
                              .pidfd = (uintptr_t)&pidfd,
                              .exit_signal = SIGCHLD};
    long pid;

    mp_cgroup_walk("", "", open_own, &cgroup_fd);
    if (cgroup_fd < 0) {
        found_verdict(f, VERDICT_LIMITED, "our cgroup is not to be seen in a cgroup v2 mount");
        return;
    }
    args.cgroup = (unsigned)cgroup_fd;
    pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        mp_child_exit(0);
    reap_clone(f, pid, pidfd);
    mp_closep(&pidfd);
    mp_closep(&cgroup_fd);
}

static void look_close_range(struct finding *f)
{
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);

    if (fd < 0)
        fd = open("/", O_PATH | O_CLOEXEC);
    if (fd < 0)
        found_error(f, errno);
    else if (close_range((unsigned)fd, (unsigned)fd, 0) < 0)
        found_error(f, errno);
    else if (fcntl(fd, F_GETFD) >= 0)
        found_verdict(f, VERDICT_MISSING, "a descriptor stayed open");
}

/* A child on a lifeline that is cut: it is to die of it. */
static void look_lifeline(struct finding *f)
{
    static struct mp_lifeline lifeline;
    int fd = mp_lifeline_open(&lifeline), status;
    struct pollfd p;
    int ready[2];
    pid_t pid;

    if (fd < 0 || pipe2(ready, O_CLOEXEC) < 0) {
        found_error(f, fd < 0 ? -fd : errno);
        return;
    }
    pid = probe_fork();
    if (pid == 0) {
        int r = mp_lifeline_arm(fd);

        if (r < 0 || write(ready[1], "", 1) != 1)
            _exit(r < 0 ? -r : EIO);
        for (;;)
            pause();
    }
    mp_closep(&ready[1]);
    p = (struct pollfd){.fd = ready[0], .events = POLLIN};
    poll(&p, 1, -1);
    mp_lifeline_close(&lifeline);
    status = pid < 0 ? EAGAIN << 8 : probe_reap(pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        found(f, "a child on one died as it was cut");
    else
        found_error(f, WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD);
}

static void look_ptrace(struct finding *f)
{
    char scope[32] = "";
    pid_t pid = fork_idler();
    bool has_scope = probe_read_line("/proc/sys/kernel/yama/ptrace_scope", scope, sizeof scope);

    if (pid < 0 || ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
        found_error(f, errno);
    if (pid >= 0)
        end_idler(pid);
    if (has_scope && f->verdict == VERDICT_OK && strcmp(scope, "0") != 0)
        f->verdict = VERDICT_LIMITED;
    if (has_scope)
        found(f, "kernel.yama.ptrace_scope is %s", scope);
}

static void look_user_namespace(struct finding *f)
{
    uint64_t most;

    if (unshare(CLONE_NEWUSER) == 0)
        return;
    found_error(f, errno);
    if (errno != ENOSPC)
        return;
    f->verdict = VERDICT_REFUSED;
    if (probe_read_number("/proc/sys/user/max_user_namespaces", &most))
        found(f, "user.max_user_namespaces is %llu", (unsigned long long)most);
}

static void look_seccomp(struct finding *f)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};
    bool filtered = probe_is_filtered();

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        found_error(f, errno);
    else
        found(f, filtered ? "one was set, beside what this process is under" : "one was set");
}

static void look_landlock(struct finding *f)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);

    if (abi >= 0) {
        found(f, "ABI %ld", abi);
        f->has_value = true;
        f->value = (uint64_t)abi;
        return;
    }
    found_error(f, errno);
    if (f->error == EOPNOTSUPP)
        found(f, "not enabled when the system was booted");
}

static const struct probe probes[] = {
    {"process", NULL, NEED_MUST, look_start, "nothing: no process can be started"},
    {"pidfd_open", "5.3", NEED_MUST, look_pidfd, "nothing: processes are known by pidfds"},
    {"PIDFD_GET_INFO", "6.13", NEED_NICE, look_info,
     "the exit code of a child that others reaped is not known"},
    {"PIDFD_INFO_EXIT", "6.15", NEED_NICE, look_exit,
     "the exit code of a child that others reaped is not known"},
    {"clone3", "5.3", NEED_NOT, look_clone3, "fork() and clone(), at no cost"},
    {"CLONE_INTO_CGROUP", "5.7", NEED_NOT, look_into_cgroup,
     "nothing is lost: no process is started in a cgroup of its own"},
    {"close_range", "5.9", NEED_MUST, look_close_range, "nothing: spawn closes descriptors by it"},
    {"lifelines", NULL, NEED_NICE, look_lifeline,
     "a thread in each daemon ends it with its parent, but not while it is stopped"},
    {"ptrace", NULL, NEED_NOT, look_ptrace, "nothing is lost: only debuggers need it"},
    {"user namespaces", "3.8", NEED_NOT, look_user_namespace, "nothing is lost: none is used"},
    {"seccomp filters", "3.17", NEED_NOT, look_seccomp, "nothing is lost: none is set"},
    {"Landlock", "5.13", NEED_NOT, look_landlock, "nothing is lost: it is not used"},
};

const struct probes process_probes = {probes, MP_ARRAY_SIZE(probes)};
