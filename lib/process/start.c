/* SPDX-License-Identifier: MIT */
/*
 * mp_process_start(): what all ways to start have in common.
 *
 * Everything is checked before anything is made. Then, one start at a time (under the gate): what
 * the child needs of this process is opened, the child is made by fork.c or spawn.c, and the handle
 * is filled. One at a time, because a forked child has copies of all descriptors, and can close
 * those of the library only if no other thread is in the middle of making some.
 *
 * A daemon gets a lifeline (kernel/lifeline.h), where that does not work a watching thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"
#include "kernel/lineage.h"
#include "kernel/pidfd.h"
#include "process/forkserver.h"
#include "process/module.h"
#include "process/process.h"
#include "process/registry.h"

#define DATA_MAX ((size_t)1 << 30)

/* What a first version of the options had; later ones may only add to it. */
#define OPTIONS_SIZE_FIRST \
    (offsetof(struct mp_process_options, n_fds) + sizeof((struct mp_process_options *)0)->n_fds)

static int check_name(const char *name)
{
    size_t n = strnlen(name, MP_NAME_MAX + 1);

    if (n == 0 || n > MP_NAME_MAX)
        return -ENAMETOOLONG;
    for (size_t i = 0; i < n; i++)
        if (name[i] < ' ' || name[i] > '~')
            return -ENAMETOOLONG;
    return 0;
}

static int check_fds(const struct mp_process_options *o)
{
    if (o->n_arenas > MP_ARENAS_MAX || o->n_fds > MP_FDS_MAX || o->size > DATA_MAX)
        return -E2BIG;
    if ((o->size && !o->data) || (o->n_arenas && !o->arenas) || (o->n_fds && !o->fds))
        return -EINVAL;
    for (size_t i = 0; i < o->n_arenas; i++)
        if (!o->arenas[i])
            return -EINVAL;
    for (size_t i = 0; i < o->n_fds; i++)
        if (o->fds[i] < 0 || fcntl(o->fds[i], F_GETFD) < 0)
            return -EBADF;
    return 0;
}

static int check_method(struct mp_start *s)
{
    switch (s->options.method) {
    case MP_START_DEFAULT:
    case MP_START_FORK:
        return 0;
    case MP_START_SPAWN:
    case MP_START_FORKSERVER:
        s->entry_name = mp_registry_entry_name(s->entry);
        /* Without mp_main() the child would run the program once more from its beginning. */
        return s->entry_name && mp_main_program() ? 0 : -ENOENT;
    default:
        return -EINVAL;
    }
}

static int check(struct mp_start *s, mp_entry_fn *entry, const struct mp_process_options *options)
{
    int r;

    if (!entry)
        return -EINVAL;
    s->entry = entry;
    if (options) {
        if (options->struct_size < OPTIONS_SIZE_FIRST || options->struct_size > sizeof s->options)
            return -EINVAL;
        memcpy(&s->options, options, options->struct_size);
    }
    r = s->options.name ? check_name(s->options.name) : 0;
    if (r < 0)
        return r;
    r = check_fds(&s->options);
    if (r < 0)
        return r;
    return check_method(s);
}

/* The names of Python's: Process-2 is our second child, Process-2:1 the first one of that. */
static void name_child(struct mp_household *h, struct mp_start *s)
{
    char number[12];
    size_t room = sizeof s->identity - 1, own;

    own = (size_t)snprintf(number, sizeof number, "%u", atomic_fetch_add(&h->started, 1) + 1);
    /* Where generations of generations do not fit, what is nearest is kept. */
    if (h->identity[0]) {
        size_t line = strlen(h->identity), keep = mp_min(line, room - own - 1);

        snprintf(s->identity, sizeof s->identity, "%s:%s", h->identity + line - keep, number);
    } else {
        memcpy(s->identity, number, own + 1);
    }
    if (s->options.name)
        strcpy(s->name, s->options.name);
    else
        snprintf(s->name, sizeof s->name, "Process-%s", s->identity);
}

/* What is in the buffers would be written twice. Only the standard streams, as Python does it, and
 * only those that no other thread is busy with: it may be waiting in a write for as long as it
 * likes. The child drops what it finds in them. */
static void flush_stdio(void)
{
    FILE *const streams[] = {stdout, stderr};

    for (size_t i = 0; i < MP_ARRAY_SIZE(streams); i++)
        if (ftrylockfile(streams[i]) == 0) {
            fflush(streams[i]);
            funlockfile(streams[i]);
        }
}

/* Children that ended and whose handles were dropped: nobody else will reap them. */
static void reap_forgotten(struct mp_household *h)
{
    mp_process *next;

    mp_household_lock(h);
    for (mp_process *p = h->children; p; p = next) {
        next = p->next;
        if (mp_load_relaxed(&p->references) == 1)
            mp_process_reap_locked(h, p);
    }
    mp_household_unlock(h);
}

static void enroll(struct mp_household *h, mp_process *p)
{
    mp_household_lock(h);
    p->next = h->children;
    if (p->next)
        p->next->previous = p;
    h->children = p;
    mp_household_unlock(h);
}

/* Under the gate. */
static int start(struct mp_household *h, struct mp_start *s, mp_process *p)
{
    _cleanup_close_ int lifeline_fd = -1;
    int r;

    if (s->options.daemon)
        lifeline_fd = mp_household_tie(h);
    s->lifeline_fd = lifeline_fd;
    p->started_ns = mp_now_ns();
    if (s->options.method == MP_START_SPAWN)
        r = mp_start_spawn(h, s, &p->pid, &p->pidfd);
    else if (s->options.method == MP_START_FORKSERVER)
        r = mp_start_forkserver(h, s, &p->pid, &p->pidfd, &p->report_fd);
    else
        r = mp_start_fork(h, s, &p->pid, &p->pidfd);
    if (r < 0 && s->options.daemon)
        mp_household_untie(h);
    return r;
}

static int start_one(mp_entry_fn *entry, const struct mp_process_options *options, int cancel_state,
                     mp_process **ret_process)
{
    _cleanup_free_ mp_process *p = NULL;
    struct mp_start s = {.lifeline_fd = -1, .cancel_state = cancel_state};
    struct mp_household *h;
    int r;

    r = check(&s, entry, options);
    if (r < 0)
        return r;
    h = mp_household();
    if (!h)
        return -ENOMEM;
    if (h->self.is_daemon)
        return -EPERM;
    p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    name_child(h, &s);
    p->lineage = h->lineage;
    p->kin = MP_KIN_CHILD;
    p->is_daemon = s.options.daemon != 0;
    p->pidfd = p->report_fd = -1;
    /* The household's, and the caller's if it wants one. */
    mp_store_relaxed(&p->references, ret_process ? 2 : 1);
    strcpy(p->name, s.name);
    reap_forgotten(h);
    flush_stdio();

    pthread_mutex_lock(&h->gate);
    r = start(h, &s, p);
    if (r == 0)
        enroll(h, p);
    pthread_mutex_unlock(&h->gate);
    if (r < 0)
        return r;
    if (ret_process)
        *ret_process = p;
    p = NULL;
    return 0;
}

int mp_process_start(mp_entry_fn *entry, const struct mp_process_options *options,
                     mp_process **ret_process)
{
    int cancel_state, r;

    /* A thread that is cancelled half way would leave the gate closed, or a stream locked. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    r = start_one(entry, options, cancel_state, ret_process);
    pthread_setcancelstate(cancel_state, NULL);
    return r;
}
