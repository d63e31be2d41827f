/* SPDX-License-Identifier: MIT */
/* Single steps and breakpoints by ptrace(2). */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "crash/stepper.h"

#define LOOK_AGAIN_NS 100000 /* how often a victim in a system call is looked at */
#define LOOKS_MOST 100       /* one that has not come back by then waits for something */

#if defined(__x86_64__)

/* Steps that are not at a system call end by themselves, so only those need a look at the clock. */
static bool at_system_call(const struct victim *v)
{
    long text = ptrace(PTRACE_PEEKTEXT, v->tid, stepper_address(v), NULL);

    return (text & 0xffff) == 0x050f;
}

static void set_debug_register(const struct victim *v, int n, uint64_t value)
{
    ptrace(PTRACE_POKEUSER, v->tid,
           offsetof(struct user, u_debugreg) +
               (size_t)n * sizeof(((struct user *)0)->u_debugreg[0]),
           value);
}

uint64_t stepper_address(const struct victim *v)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, v->tid, offsetof(struct user_regs_struct, rip), NULL);
}

static bool set_breakpoint(struct victim *v, uint64_t address)
{
    set_debug_register(v, 0, address);
    errno = 0;
    set_debug_register(v, 7, 1);
    v->breakpoint = errno == 0;
    return v->breakpoint;
}

static void clear_breakpoint(struct victim *v)
{
    set_debug_register(v, 7, 0);
    v->breakpoint = false;
}

#else

static bool at_system_call(const struct victim *v)
{
    (void)v;
    return true;
}

uint64_t stepper_address(const struct victim *v)
{
    (void)v;
    return 0;
}

static bool set_breakpoint(struct victim *v, uint64_t address)
{
    (void)v;
    (void)address;
    return false;
}

static void clear_breakpoint(struct victim *v)
{
    (void)v;
}

#endif

char stepper_state(pid_t pid, pid_t tid)
{
    _cleanup_close_ int fd = -1;
    char path[64], text[512];
    const char *end;
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    end = strrchr(text, ')');
    return end && end[1] == ' ' ? end[2] : '\0';
}

static enum stepped classify(struct victim *v, int status)
{
    int signal = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;

    v->signal = signal;
    if (v->breakpoint && signal)
        clear_breakpoint(v);
    if (!WIFSTOPPED(status)) {
        v->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        return STEPPED_GONE;
    }
    if (signal == SIGTRAP)
        return STEPPED_ON;
    return signal == SIGSTOP ? STEPPED_STOP : STEPPED_GONE;
}

/* The thread has two looks to be seen asleep, so that one on its way through a system call is not
 * taken for a sleeper; if it is all the same, that only changes when others do their part. */
enum stepped stepper_wait(struct victim *v)
{
    const struct timespec look = {.tv_nsec = LOOK_AGAIN_NS};
    int seen = 0, looks = 0;
    sigset_t set;
    int status;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    for (;;) {
        pid_t r = waitpid(v->tid, &status, __WALL | WNOHANG);

        if (r == v->tid)
            return classify(v, status);
        if (r < 0)
            return STEPPED_GONE;
        if (sigtimedwait(&set, NULL, &look) >= 0)
            continue;
        seen = stepper_state(v->pid, v->tid) == 'S' ? seen + 1 : 0;
        if (seen == 2 || ++looks == LOOKS_MOST)
            return STEPPED_ASLEEP;
    }
}

enum stepped stepper_step(struct victim *v)
{
    bool may_sleep = v->in_call || at_system_call(v);
    int status;

    v->in_call = false;
    if (ptrace(PTRACE_SINGLESTEP, v->tid, NULL, NULL) < 0)
        return STEPPED_GONE;
    if (may_sleep)
        return stepper_wait(v);
    if (waitpid(v->tid, &status, __WALL) != v->tid)
        return STEPPED_GONE;
    return classify(v, status);
}

enum stepped stepper_run_to(struct victim *v, uint64_t address)
{
    if (!set_breakpoint(v, address) || ptrace(PTRACE_CONT, v->tid, NULL, NULL) < 0)
        return STEPPED_GONE;
    return stepper_wait(v);
}

pid_t stepper_fork(struct victim *v)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        return 0;
    *v = (struct victim){.pid = pid, .tid = pid};
    if (pid < 0)
        return -errno;
    if (waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL) < 0)
        return -ECHILD;
    return pid;
}

void stepper_ready(void)
{
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    kill(getpid(), SIGSTOP);
}

int stepper_seize(struct victim *v)
{
    int status;

    if (ptrace(PTRACE_SEIZE, v->tid, NULL, PTRACE_O_EXITKILL) < 0 ||
        ptrace(PTRACE_INTERRUPT, v->tid, NULL, NULL) < 0)
        return -errno;
    v->in_call = true;
    return waitpid(v->tid, &status, __WALL) == v->tid && WIFSTOPPED(status) ? 0 : -ECHILD;
}

/* The first thread is not seen to be gone before the others that are traced were waited for. */
void stepper_kill(struct victim *v)
{
    const pid_t traced[] = {v->held != v->pid ? v->held : 0, v->tid != v->pid ? v->tid : 0, v->pid};
    int status;

    if (v->pid <= 0)
        return;
    kill(v->pid, SIGKILL);
    for (size_t i = 0; i < sizeof traced / sizeof traced[0]; i++)
        while (traced[i] && waitpid(traced[i], &status, __WALL) == traced[i] &&
               WIFSTOPPED(status)) {
        }
    v->pid = v->tid = v->held = 0;
}

void stepper_share_cpu(const struct victim *v, bool on)
{
    static cpu_set_t all;
    cpu_set_t one;

    if (CPU_COUNT(&all) == 0)
        sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    if (v->tid)
        sched_setaffinity(v->tid, sizeof one, on ? &one : &all);
    sched_setaffinity(0, sizeof one, on ? &one : &all);
}

/* A child that steps over two instructions and a breakpoint tells whether all of this works. */
int stepper_begin(void)
{
    struct victim v;
    enum stepped s;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    switch (stepper_fork(&v)) {
    case 0:
        stepper_ready();
        for (;;)
            pause();
    case -ECHILD:
        kill(v.pid, SIGKILL);
        waitpid(v.pid, NULL, __WALL);
        return -EOPNOTSUPP;
    }
    if (v.pid < 0)
        return -EAGAIN;
    s = stepper_step(&v);
    if (s == STEPPED_ON && stepper_address(&v) == 0)
        s = STEPPED_GONE;
    stepper_kill(&v);
    return s == STEPPED_ON ? 0 : -EOPNOTSUPP;
}
