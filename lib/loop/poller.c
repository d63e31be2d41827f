/* SPDX-License-Identifier: MIT */
/* Descriptors to poll for an object. The keeper writes them (arena/keeper.c). */

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <mp/wait.h>

#include "arena/keeper.h"
#include "base/cleanup.h"

static void free_poller(struct mp_poller *p)
{
    if (p->event_fd >= 0)
        close(p->event_fd);
    free(p);
}

static void free_pollerp(struct mp_poller **p)
{
    if (*p)
        free_poller(*p);
}

int mp_poller_new(const struct mp_waitable *waitable, mp_poller **ret_poller)
{
    _cleanup_(free_pollerp) struct mp_poller *p = NULL;
    int r = 0;

    if (!waitable || !ret_poller || waitable->kind != MP_WAITABLE_WORD)
        return -EINVAL;
    if (!mp_arena_enter(waitable->arena, &r))
        return r;
    p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->event_fd < 0)
        return -errno;
    p->what = *waitable;
    p->life = mp_load_acquire(&waitable->arena->self->life);
    mp_store_relaxed(&p->armed, 1);
    r = mp_keeper_poll(p);
    if (r < 0)
        return r;
    *ret_poller = mp_take_ptr(p);
    return 0;
}

/* In a forked child the parent's keeper has it, and the fd is a copy. */
static bool is_ours(const struct mp_poller *p)
{
    return p->life == mp_load_relaxed(&p->what.arena->self->life);
}

int mp_poller_fd(const mp_poller *poller)
{
    return poller ? poller->event_fd : -EINVAL;
}

int mp_poller_check(mp_poller *poller)
{
    int r;

    if (!poller)
        return -EINVAL;
    if (!is_ours(poller))
        return -ECHILD;
    r = poller->what.type->ready(&poller->what);
    if (r == 0)
        mp_keeper_rearm(poller);
    return r;
}

mp_poller *mp_poller_free(mp_poller *poller)
{
    if (!poller)
        return NULL;
    if (is_ours(poller))
        mp_keeper_unpoll(poller);
    free_poller(poller);
    return NULL;
}
