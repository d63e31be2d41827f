/* SPDX-License-Identifier: MIT */
/*
 * Start by a forkserver of one's own: the client's side.
 *
 * The server is a spawned daemon, made when it is first needed and again when it was killed. Each
 * start has a connection of its own (process/request.h), whose other end is sent to the server:
 * what two starts say cannot be mixed up, and when the server dies all of them see the end.
 *
 * A server that is stopped, or stuck in a hook, does not hold its owner up for ever: a start that
 * has no reply after a while is taken back.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"
#include "kernel/pidfd.h"
#include "process/forkserver.h"
#include "process/registry.h"
#include "process/request.h"

#define REPLY_NS MP_SEC(10)
#define END_NS MP_SEC(1)

static pthread_mutex_t hooks_lock = PTHREAD_MUTEX_INITIALIZER;
static char hooks[MP_FORKSERVER_HOOKS_MAX * (MP_SPEC_ENTRY_MAX + 1)];
static size_t hooks_size;

int mp_forkserver_preload(mp_entry_fn *const *fns, size_t n)
{
    char names[sizeof hooks];
    size_t size = 0;

    if (n > MP_FORKSERVER_HOOKS_MAX)
        return -E2BIG;
    if (n && !fns)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        const char *name = fns[i] ? mp_registry_entry_name(fns[i]) : NULL;

        if (!name || strlen(name) > MP_SPEC_ENTRY_MAX)
            return -ENOENT;
        strcpy(names + size, name);
        size += strlen(name) + 1;
    }
    pthread_mutex_lock(&hooks_lock);
    memcpy(hooks, names, size);
    hooks_size = size;
    pthread_mutex_unlock(&hooks_lock);
    return 0;
}

/* 1: something has come; 0: not in time; -EPIPE: the server has ended, and nothing has. */
static int await(const struct mp_forkserver *f, int fd, uint64_t deadline)
{
    for (;;) {
        struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = f->pidfd, .events = POLLIN}};
        uint64_t now = mp_now_ns();
        int r, left = deadline == MP_FOREVER ? -1
                      : deadline <= now      ? 0
                                             : (int)((deadline - now) / 1000000) + 1;

        r = poll(p, MP_ARRAY_SIZE(p), left);
        if (r < 0 && errno != EINTR)
            return -errno;
        if (r > 0)
            return p[0].revents ? 1 : -EPIPE;
        if (r == 0)
            return 0;
    }
}

/* ---- the server ---- */

static void drop(struct mp_household *h, uint64_t deadline)
{
    struct mp_forkserver *f = &h->forkserver;
    struct rusage usage;
    int status;

    if (f->control < 0)
        return;
    mp_closep(&f->control);
    f->control = -1;
    if (mp_pidfd_wait(f->pidfd, deadline) != 1) {
        mp_pidfd_signal(f->pidfd, SIGKILL);
        mp_pidfd_wait(f->pidfd, MP_FOREVER);
    }
    mp_pidfd_reap(f->pidfd, &status, &usage);
    mp_closep(&f->pidfd);
    f->pidfd = -1;
    mp_household_untie(h);
}

void mp_forkserver_end(struct mp_household *h)
{
    drop(h, mp_deadline(END_NS));
}

/* It says when it is ready, or why it will not be. */
static int await_ready(struct mp_forkserver *f)
{
    struct mp_ready ready;
    unsigned none = 0;
    int r = await(f, f->control, MP_FOREVER);

    if (r < 0)
        return r;
    if (mp_message_receive(f->control, &ready, sizeof ready, NULL, &none) != sizeof ready)
        return -ECANCELED;
    return ready.error;
}

static int ensure(struct mp_household *h)
{
    _cleanup_close_ int control = -1, theirs = -1, lifeline_fd = -1;
    struct mp_forkserver *f = &h->forkserver;
    char names[sizeof hooks];
    struct mp_start s = {.entry = mp_forkserver_entry(), .name = "forkserver"};
    int pair[2], r;

    if (f->control >= 0 && mp_pidfd_wait(f->pidfd, 0) == 1)
        drop(h, 0);
    if (f->control >= 0)
        return 0;
    r = mp_message_pair(pair);
    if (r < 0)
        return r;
    control = pair[0];
    theirs = pair[1];
    pthread_mutex_lock(&hooks_lock);
    memcpy(names, hooks, hooks_size);
    s.options.size = hooks_size;
    pthread_mutex_unlock(&hooks_lock);
    s.options.data = names;
    s.entry_name = mp_registry_entry_name(s.entry);
    s.options.method = MP_START_SPAWN;
    s.options.daemon = 1;
    s.options.fds = &theirs;
    s.options.n_fds = 1;
    s.lifeline_fd = lifeline_fd = mp_household_tie(h);
    r = mp_start_spawn(h, &s, &f->pid, &f->pidfd);
    if (r < 0) {
        mp_household_untie(h);
        return r;
    }
    f->control = mp_take_fd(&control);
    mp_closep(&theirs);
    theirs = -1;
    r = await_ready(f);
    if (r < 0)
        drop(h, 0);
    return r == -EPIPE ? -ECANCELED : r;
}

/* ---- one start ---- */

static int send_request(int connection, const int *fds, const struct mp_request *q)
{
    unsigned sent = 0;

    while (sent < q->n_fds) {
        unsigned some = mp_min(q->n_fds - sent, (unsigned)MP_MESSAGE_FDS_MAX);
        int r = mp_message_send(connection, q, sizeof *q, fds + sent, some);

        if (r < 0)
            return r;
        sent += some;
    }
    return 0;
}

static int request(struct mp_household *h, const struct mp_start *s, int connection)
{
    _cleanup_close_ int spec_fd = mp_spec_freeze(s, &h->self);
    struct mp_request q = {.magic = MP_REQUEST_MAGIC, .version = MP_REQUEST_VERSION};
    int fds[MP_REQUEST_FDS_MAX];
    int self = mp_process_pidfd(h, &h->self);

    if (spec_fd < 0)
        return spec_fd;
    if (self < 0)
        return self;
    /* As they would stay open over an exec: else it is a descriptor that only has that number. */
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == 0) {
            q.standard |= 1u << (fd - 1);
            fds[q.n_fds++] = fd;
        }
    fds[q.n_fds++] = self;
    fds[q.n_fds++] = spec_fd;
    if (s->lifeline_fd >= 0)
        fds[q.n_fds++] = s->lifeline_fd;
    for (size_t i = 0; i < s->options.n_arenas; i++)
        fds[q.n_fds++] = mp_arena_fd(s->options.arenas[i]);
    for (size_t i = 0; i < s->options.n_fds; i++)
        fds[q.n_fds++] = s->options.fds[i];
    return send_request(connection, fds, &q);
}

static int hear_reply(const struct mp_forkserver *f, int connection, pid_t *ret_pid, int *ret_pidfd)
{
    struct mp_reply reply;
    unsigned n = 1;
    int pidfd = -1;
    ssize_t size;
    int r = await(f, connection, mp_deadline(REPLY_NS));

    if (r <= 0)
        return r == 0 ? -ETIMEDOUT : r;
    size = mp_message_receive(connection, &reply, sizeof reply, &pidfd, &n);
    if (size == sizeof reply && reply.error == 0 && n == 1) {
        *ret_pid = reply.pid;
        *ret_pidfd = pidfd;
        return 0;
    }
    mp_closep(&pidfd);
    if (size == -EMSGSIZE)
        return -EMFILE;
    return size == sizeof reply && reply.error < 0 ? reply.error : -EPIPE;
}

/* -EPIPE: the server is no more, and nothing runs. */
static int ask(struct mp_household *h, const struct mp_start *s, pid_t *ret_pid, int *ret_pidfd,
               int *ret_report_fd)
{
    _cleanup_close_ int connection = -1, theirs = -1;
    int pair[2], r = mp_message_pair(pair);

    if (r < 0)
        return r;
    connection = pair[0];
    theirs = pair[1];
    r = request(h, s, connection);
    if (r == 0)
        r = mp_message_send(h->forkserver.control, "", 1, &theirs, 1);
    mp_closep(&theirs);
    theirs = -1;
    if (r == 0)
        r = hear_reply(&h->forkserver, connection, ret_pid, ret_pidfd);
    if (r < 0)
        return r == -ECONNRESET ? -EPIPE : r;
    /* Killed already, it does not hear this, and its end is reported. */
    mp_message_send(connection, "", 1, NULL, 0);
    *ret_report_fd = mp_take_fd(&connection);
    return 0;
}

int mp_start_forkserver(struct mp_household *h, const struct mp_start *s, pid_t *ret_pid,
                        int *ret_pidfd, int *ret_report_fd)
{
    int r = -EPIPE;

    for (int tries = 0; r == -EPIPE && tries < 3; tries++) {
        r = ensure(h);
        if (r < 0)
            return r;
        r = ask(h, s, ret_pid, ret_pidfd, ret_report_fd);
        if (r == -EPIPE)
            drop(h, 0);
    }
    return r == -EPIPE ? -EAGAIN : r;
}

int mp_forkserver_report(int report_fd, int *ret_status, struct rusage *ret_usage)
{
    struct mp_report report;
    unsigned none = 0;
    ssize_t n = mp_message_receive(report_fd, &report, sizeof report, NULL, &none);

    /* The child was killed before it was told to go: the word to it is lost, but not the report. */
    if (n == -ECONNRESET)
        n = mp_message_receive(report_fd, &report, sizeof report, NULL, &none);
    if (n == -EAGAIN)
        return 0;
    if (n != sizeof report)
        return -EPIPE;
    *ret_status = report.status;
    *ret_usage = report.usage;
    return 1;
}
