/* SPDX-License-Identifier: MIT */
/*
 * Start a program in a new process.
 *
 * The child shares our memory and we wait until it has executed the program (CLONE_VM and
 * CLONE_VFORK), so the cost does not grow with our memory, and an error comes back as a word in it.
 * It runs on a stack of its own, makes raw system calls only, and all signals are blocked until
 * every handler that could run in it is gone.
 *
 * clone() rather than clone3(): it has CLONE_PIDFD as well, the C library wraps it for every
 * processor, and container filters that refuse clone3() let it pass.
 *
 * Until the exec its exit signal is 0: a child that fails before is nothing that the program's own
 * SIGCHLD handler or wait() ever sees. The exec makes it SIGCHLD.
 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kernel/exec.h"
#include "kernel/pidfd.h"
#include "kernel/raw.h"
#include "kernel/signals.h"

#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9 */
#endif

#define STACK_BYTES ((size_t)32 << 10)
#define EXEC_FAILED 127

static const char dev_null[] = "/dev/null";

struct attempt {
    const struct mp_exec *exec;
    int error; /* written by the child */
};

/* Twice: first to numbers above all that are to be written, then down into their places. */
static MP_BARE long move_fds(const struct mp_exec *e)
{
    long above = MP_EXEC_FIRST_FD + (long)e->n_fds, r;

    for (unsigned i = 0; i < e->n_fds; i++) {
        r = mp_raw(SYS_fcntl, e->fds[i], F_DUPFD, above, 0, 0);
        /* Invalid is only a number that the limit does not allow. */
        if (r < 0)
            return r == -EINVAL ? -EMFILE : r;
        e->fds[i] = (int)r;
    }
    for (unsigned i = 0; i < e->n_fds; i++) {
        r = mp_raw(SYS_dup3, e->fds[i], MP_EXEC_FIRST_FD + (long)i, 0, 0, 0);
        if (r < 0)
            return r;
    }
    return mp_raw(SYS_close_range, above, ~0U, 0, 0, 0);
}

static MP_BARE long open_stdin(void)
{
    int ends[2];
    long r;

    mp_raw(SYS_close, STDIN_FILENO, 0, 0, 0, 0);
    /* 0 is the lowest free number, so that is what is opened. */
    r = mp_raw(SYS_openat, AT_FDCWD, (long)dev_null, O_RDONLY, 0, 0);
    if (r >= 0)
        return 0;
    /* No /dev: a pipe that nobody writes to reads the same. */
    r = mp_raw(SYS_pipe2, (long)ends, 0, 0, 0, 0);
    if (r < 0)
        return r;
    return mp_raw(SYS_close, ends[1], 0, 0, 0, 0);
}

static MP_BARE long set_up(const struct mp_exec *e)
{
    uint64_t none = 0;
    long r;

    mp_signals_default();
    r = move_fds(e);
    if (r < 0)
        return r;
    r = open_stdin();
    if (r < 0)
        return r;
    if (e->lifeline >= 0) {
        r = mp_raw(SYS_fcntl, MP_EXEC_FIRST_FD + e->lifeline, F_SETOWN,
                   mp_raw(SYS_getpid, 0, 0, 0, 0, 0), 0, 0);
        if (r < 0)
            return r;
    }
    mp_signals_restore(none);
    return mp_raw(SYS_execve, (long)e->path, (long)e->argv, (long)e->envp, 0, 0);
}

static MP_BARE int run(void *arg)
{
    struct attempt *a = arg;

    a->error = (int)set_up(a->exec);
    mp_raw(SYS_exit_group, EXEC_FAILED, 0, 0, 0, 0);
    return 0;
}

static void stack_freep(void **stack)
{
    if (*stack != MAP_FAILED)
        munmap(*stack, STACK_BYTES);
}

int mp_exec_start(const struct mp_exec *exec, pid_t *ret_pid, int *ret_pidfd)
{
    _cleanup_(stack_freep) void *stack = MAP_FAILED;
    _cleanup_close_ int pidfd = -1;
    struct attempt attempt = {.exec = exec};
    uint64_t old;
    int pid, error;

    stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
                 -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    mp_signals_block(&old);
    pid = mp_clone(run, (char *)stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_PIDFD, &attempt,
                   &pidfd);
    error = errno;
    mp_signals_restore(old);
    if (pid < 0)
        return -error;
    if (attempt.error) {
        siginfo_t ended;

        /* It ends at once and nobody else can reap it. */
        while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &ended, WEXITED | __WALL) < 0 &&
               errno == EINTR)
            ;
        return attempt.error;
    }
    *ret_pid = pid;
    *ret_pidfd = mp_take_fd(&pidfd);
    return 0;
}
