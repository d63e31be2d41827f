/* SPDX-License-Identifier: MIT */
/*
 * The private forkserver: the program itself, executed anew, that forks children on request.
 *
 * It has one thread and next to no memory, so a fork of it is cheap and safe, however large and
 * busy the program is that it belongs to. Its children differ from spawned ones only in that the
 * program's constructors and the preload hooks have run before.
 *
 *   state of a job        who moves it                        a death just after leaves
 *   connected             server: request complete, forks     client: closed, the job is dropped
 *   forked, waits to go   child: told to go, or closed        client: the child ends (127);
 *                                                             server: the client asks another
 *   runs                  child: ends                         client: nobody is told;
 *                                                             server: the client asks the kernel
 *   ended                 server: reaps, reports, closes
 *
 * Its owner's end of the control socket closes when the owner ends; its lifeline kills it then, and
 * if that is not to be had, this does.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "kernel/child.h"
#include "kernel/pidfd.h"
#include "kernel/signals.h"
#include "process/forkserver.h"
#include "process/registry.h"
#include "process/request.h"

struct job {
    struct job *next;
    int connection;
    int pidfd; /* -1: not forked yet */
    struct mp_request request;
    unsigned n_fds; /* so many have come */
    int fds[MP_REQUEST_FDS_MAX];
};

struct server {
    int control;
    int lifeline_fd; /* of this process: a child has its own, or none */
    struct job *jobs;
    unsigned n_jobs;
};

static void close_all(int *fds, unsigned *n)
{
    while (*n > 0)
        close(fds[--*n]);
}

static void free_job(struct server *v, struct job *job)
{
    struct job **at = &v->jobs;

    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    v->n_jobs--;
    close_all(job->fds, &job->n_fds);
    mp_closep(&job->connection);
    mp_closep(&job->pidfd);
    free(job);
}

/* ---- the child ---- */

/* Whoever made the request has heard of this child. */
static bool may_go(int connection)
{
    for (;;) {
        struct pollfd p = {.fd = connection, .events = POLLIN};
        unsigned none = 0;
        ssize_t n;
        char go;

        if (poll(&p, 1, -1) < 0 && errno != EINTR)
            return false;
        n = mp_message_receive(connection, &go, sizeof go, NULL, &none);
        if (n != -EAGAIN)
            return n == 1;
    }
}

static void take_standard(const struct job *job, const int **fds)
{
    for (int number = STDOUT_FILENO; number <= STDERR_FILENO; number++) {
        int old = number;

        if (!(job->request.standard & (1u << (number - 1)))) {
            mp_closep(&old);
            continue;
        }
        dup2(**fds, number);
        close(*(*fds)++);
    }
}

static _Noreturn void run_child(struct server *v, struct job *job, const struct mp_spec *s)
{
    const int *fds = job->fds;
    int parent_pidfd;
    uint64_t blocked;

    mp_signals_block(&blocked);
    mp_signals_default();
    mp_signals_restore(0);
    mp_closep(&v->control);
    mp_closep(&v->lifeline_fd);
    for (struct job *j = v->jobs; j; j = j->next)
        if (j != job) {
            close_all(j->fds, &j->n_fds);
            mp_closep(&j->connection);
            mp_closep(&j->pidfd);
        }
    if (!may_go(job->connection))
        mp_child_exit(MP_EXIT_NO_ENTRY);
    close(job->connection);
    take_standard(job, &fds);
    parent_pidfd = *fds++;
    close(*fds++); /* the spec is mapped */
    mp_spec_run(s, fds, parent_pidfd);
}

/* ---- the server ---- */

static unsigned count_standard(const struct mp_request *q)
{
    return (q->standard & 1) + (q->standard >> 1 & 1);
}

/* The request is complete. 0 and the child's pid; a negative errno. */
static int fork_child(struct server *v, struct job *job, pid_t *ret_pid)
{
    unsigned own = count_standard(&job->request) + 2;
    const struct mp_spec *s = mp_spec_map(job->fds[own - 1]);
    int r = 0;
    pid_t pid;

    if (!s || job->n_fds != own + mp_spec_fds(s))
        r = -EPROTO;
    else if (!mp_spec_entry(s))
        r = -ENOENT;
    if (r == 0) {
        pid = fork();
        if (pid == 0)
            run_child(v, job, s);
        r = pid < 0 ? -errno : 0;
        *ret_pid = pid;
    }
    mp_spec_unmap(s);
    return r;
}

/* False: the job is done with. */
static bool start_child(struct server *v, struct job *job)
{
    struct mp_reply reply = {0};
    pid_t pid = 0;
    int r = fork_child(v, job, &pid);

    if (r == 0) {
        job->pidfd = mp_pidfd_open(pid);
        if (job->pidfd < 0) {
            /* It was never told to go. */
            r = job->pidfd;
            kill(pid, SIGKILL);
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        }
    }
    close_all(job->fds, &job->n_fds);
    reply.error = r;
    reply.pid = pid;
    /* Should this fail the client has gone, and the child ends for want of a word. */
    mp_message_offer(job->connection, &reply, sizeof reply, &job->pidfd, r < 0 ? 0 : 1);
    return r == 0;
}

/* More of a request. False: the job is done with. */
static bool hear(struct server *v, struct job *job)
{
    struct mp_request q = {0};
    unsigned n = mp_min((unsigned)MP_MESSAGE_FDS_MAX, MP_REQUEST_FDS_MAX - job->n_fds);
    ssize_t size = mp_message_receive(job->connection, &q, sizeof q, job->fds + job->n_fds, &n);

    if (size == -EAGAIN)
        return true;
    if (size < 0)
        return false;
    job->n_fds += n;
    if (size != sizeof q || q.magic != MP_REQUEST_MAGIC || q.version != MP_REQUEST_VERSION ||
        q.standard > 3 || q.n_fds > MP_REQUEST_FDS_MAX || q.n_fds < count_standard(&q) + 2)
        return false;
    job->request = q;
    if (job->n_fds < q.n_fds)
        return n > 0;
    return job->n_fds == q.n_fds && start_child(v, job);
}

/* False: it has ended, and the job is done with. */
static bool look_after(struct job *job)
{
    struct mp_report report = {0};
    int r = mp_pidfd_reap(job->pidfd, &report.status, &report.usage);

    if (r == 0)
        return true;
    if (r == 1)
        mp_message_offer(job->connection, &report, sizeof report, NULL, 0);
    return false;
}

/* False: the owner is no more. */
static bool accept_job(struct server *v)
{
    struct job *job;
    unsigned n = 1;
    char byte;
    int fd;
    ssize_t size = mp_message_receive(v->control, &byte, sizeof byte, &fd, &n);

    if (size == -EAGAIN || size == -EMSGSIZE)
        return true;
    if (size <= 0)
        return false;
    if (n == 0)
        return true;
    job = calloc(1, sizeof *job);
    if (!job) {
        mp_closep(&fd);
        return true;
    }
    job->connection = fd;
    job->pidfd = -1;
    job->next = v->jobs;
    v->jobs = job;
    v->n_jobs++;
    return true;
}

/* False: no memory, or the owner is no more. */
static bool turn(struct server *v)
{
    _cleanup_free_ struct pollfd *polls = calloc(v->n_jobs + 1, sizeof *polls);
    struct job *next;
    unsigned n = 1;

    if (!polls)
        return false;
    polls[0] = (struct pollfd){.fd = v->control, .events = POLLIN};
    for (struct job *j = v->jobs; j; j = j->next)
        polls[n++] =
            (struct pollfd){.fd = j->pidfd < 0 ? j->connection : j->pidfd, .events = POLLIN};
    if (poll(polls, n, -1) < 0)
        return errno == EINTR;
    n = 1;
    for (struct job *j = v->jobs; j; j = next) {
        next = j->next;
        if (polls[n++].revents && !(j->pidfd < 0 ? hear(v, j) : look_after(j)))
            free_job(v, j);
    }
    return !polls[0].revents || accept_job(v);
}

/* The names of hooks, one after the other. */
static struct mp_ready run_hooks(const struct mp_call *call)
{
    static const struct mp_call nothing;
    const char *name = call->data, *end = name + call->size;

    for (; name < end; name += strlen(name) + 1) {
        mp_entry_fn *fn = mp_registry_entry(name);

        if (!fn || fn(&nothing) != 0)
            return (struct mp_ready){.error = fn ? -ECANCELED : -ENOENT};
    }
    return (struct mp_ready){0};
}

/* In a program without standard streams, what comes over a connection would get their numbers, and
 * be taken for them in the child. */
static void fill_standard(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    mp_closep(&fd);
}

MP_ENTRY(mp_forkserver_main)
{
    struct server v = {.control = call->fds[0], .lifeline_fd = mp_household()->lifeline_fd};
    struct mp_ready ready;

    fill_standard();
    /* An interrupt from the terminal is for the program and its children. */
    signal(SIGINT, SIG_IGN);
    ready = run_hooks(call);
    fflush(stdout);
    fflush(stderr);
    if (mp_message_send(v.control, &ready, sizeof ready, NULL, 0) < 0 || ready.error)
        return 1;
    while (turn(&v))
        ;
    return 0;
}

mp_entry_fn *mp_forkserver_entry(void)
{
    return mp_forkserver_main;
}
