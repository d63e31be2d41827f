/* SPDX-License-Identifier: MIT */
/*
 * Start by fork: the entry runs in a copy of this process.
 *
 * fork() of the C library, not clone3(): only that runs the atfork handlers, and leaves malloc,
 * stdio and the thread's own records usable in the child. It gives a pid and no pidfd, and a pid is
 * this child's only until it is reaped, which other threads (wait() for any child) and the kernel
 * (SIGCHLD ignored) may do at any time. So the child does not begin before the parent has opened
 * the pidfd: `launch`, a word in memory that both share, counts up to its number. The parent gets
 * there in microseconds, while the child still sets itself up: the child hardly ever sleeps.
 *
 *     2 n      the parent has the pidfd of the n-th fork: go
 *     2 n + 1  it has none: the n-th child ends, and the parent waits for that
 *
 * If the parent dies in between the child is given another one, sees that, and goes on.
 *
 * The child ends by _exit(), after its own duties: the exit handlers that the parent registered are
 * the parent's. (An entry that calls exit() by itself runs them, as after any fork.)
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"
#include "kernel/child.h"
#include "kernel/futex.h"
#include "kernel/pidfd.h"
#include "kernel/signals.h"
#include "process/process.h"

#define PAGE_BYTES 4096
#define LOOKS 200
#define NAP_NS MP_MSEC(10)

static bool is_launched(struct mp_household *h, uint32_t number)
{
    return (int32_t)(mp_load_acquire(h->launch) - number) >= 0; /* pairs with release in launch() */
}

/* In the child. False: it must end. */
static bool await_launch(struct mp_household *h, uint32_t number, pid_t parent)
{
    for (int i = 0; i < LOOKS && !is_launched(h, number); i++)
        mp_pause();
    for (;;) {
        uint32_t v = mp_load_acquire(h->launch);

        if ((int32_t)(v - number) >= 0)
            return v != number + 1;
        /* Cut short only because a parent that dies here wakes nobody. */
        mp_futex_wait(h->launch, v, mp_now_ns() + NAP_NS);
        if (getppid() != parent)
            return true;
    }
}

static void launch(struct mp_household *h, uint32_t word)
{
    mp_store_release(h->launch, word);
    mp_futex_wake(h->launch, 1);
}

static int make_launch_word(struct mp_household *h)
{
    void *page;

    if (h->launch)
        return 0;
    page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -errno;
    h->launch = page;
    return 0;
}

/* What the parent opens for the child, so that all that can fail fails before there is one. */
struct luggage {
    struct mp_household *household;
    struct mp_call *call;
    int stdin_fd;
    size_t n_fds; /* of the call's, those looked at; copies among them are ours */
    const struct mp_process_options *options;
};

static void luggage_clear(struct luggage *l)
{
    for (size_t i = 0; i < l->n_fds; i++)
        if (l->call->fds[i] != l->options->fds[i])
            close(l->call->fds[i]);
    mp_household_free(l->household);
    mp_call_freep(&l->call);
    mp_closep(&l->stdin_fd);
}

static int open_empty(void)
{
    int ends[2], fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (fd >= 0)
        return fd;
    /* No /dev: a pipe that nobody writes to reads the same. */
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    mp_closep(&ends[1]);
    return ends[0];
}

static int pack(struct luggage *l, const struct mp_household *h, const struct mp_start *s)
{
    struct mp_household *child;
    int *fds;

    l->stdin_fd = open_empty();
    if (l->stdin_fd < 0)
        return l->stdin_fd;
    l->call = mp_call_new(&s->options);
    child = l->household = mp_household_new();
    if (!l->call || !child)
        return -ENOMEM;
    /* Standard streams keep their numbers, so what is passed of them is a copy. */
    fds = (int *)(uintptr_t)l->call->fds;
    l->options = &s->options;
    for (; l->n_fds < l->call->n_fds; l->n_fds++) {
        int fd = fds[l->n_fds];

        if (fd > STDERR_FILENO)
            continue;
        fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (fd < 0)
            return -errno;
        fds[l->n_fds] = fd;
    }
    memcpy(child->self.name, s->name, sizeof child->self.name);
    memcpy(child->identity, s->identity, sizeof child->identity);
    child->self.is_daemon = s->options.daemon != 0;
    child->has_parent = true;
    child->parent.pid = getpid();
    memcpy(child->parent.name, h->self.name, sizeof child->parent.name);
    child->lifeline_fd = s->lifeline_fd;
    return 0;
}

/* Bytes of the parent's input that its stdio has read and nobody has taken. */
static bool has_unread(FILE *file)
{
#ifdef __GLIBC__
    return file->_IO_read_ptr != file->_IO_read_end;
#else
    return __freading(file);
#endif
}

/* Descriptors that the library has open for the parent mean nothing here. */
static void drop_parents(struct mp_household *h)
{
    for (mp_process *p = h->children; p; p = p->next) {
        mp_closep(&p->pidfd);
        p->pidfd = -1;
        mp_closep(&p->report_fd);
        p->report_fd = -1;
    }
    mp_closep(&h->forkserver.control);
    mp_closep(&h->forkserver.pidfd);
    mp_closep(&h->parent.pidfd);
    mp_closep(&h->self.pidfd);
    h->parent.pidfd = h->self.pidfd = -1;
}

static _Noreturn void run_child(struct mp_household *old, struct luggage *l,
                                const struct mp_start *s, uint32_t number)
{
    struct mp_household *h = l->household;
    int code;

    mp_signals_default();
    if (!await_launch(old, number, h->parent.pid))
        mp_child_exit(MP_EXIT_NO_ENTRY);
    drop_parents(old);
    mp_household_adopt(h);
    h->call = l->call;
    if (h->self.is_daemon && mp_child_guard(h) < 0)
        mp_child_exit(MP_EXIT_NO_ENTRY);
    mp_child_stdin(l->stdin_fd);
    if (has_unread(stdin))
        __fpurge(stdin);
    /* What other threads of the parent have written since it was flushed is theirs to write. */
    __fpurge(stdout);
    __fpurge(stderr);
    for (size_t i = 0; i < l->call->n_fds; i++)
        fcntl(l->call->fds[i], F_SETFD, FD_CLOEXEC);
    mp_signals_restore(0);

    pthread_setcancelstate(s->cancel_state, NULL);
    code = s->entry(l->call);
    mp_household_end(h);
    /* Not all streams: they may hold what the parent has still to write. */
    fflush(stdout);
    fflush(stderr);
    mp_child_exit(code & 0xff);
}

int mp_start_fork(struct mp_household *h, const struct mp_start *s, pid_t *ret_pid, int *ret_pidfd)
{
    _cleanup_(luggage_clear) struct luggage l = {.stdin_fd = -1};
    uint64_t blocked;
    uint32_t number;
    int r, error;
    pid_t pid;

    r = make_launch_word(h);
    if (r < 0)
        return r;
    r = pack(&l, h, s);
    if (r < 0)
        return r;
    number = h->launches += 2;
    /* No handler of the parent's may run in the child, and the list of handles must be whole. */
    mp_signals_block(&blocked);
    mp_household_lock(h);
    pid = fork();
    if (pid == 0)
        run_child(h, &l, s, number);
    error = errno;
    r = pid < 0 ? -error : mp_pidfd_open(pid);
    if (pid > 0)
        launch(h, r < 0 ? number + 1 : number);
    mp_household_unlock(h);
    mp_signals_restore(blocked);
    if (pid > 0 && r < 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    if (r < 0)
        return r == -ENOSYS ? -EOPNOTSUPP : r;
    *ret_pid = pid;
    *ret_pidfd = r;
    return 0;
}
