/* SPDX-License-Identifier: MIT */
/* What a child of either method does: its call, and how it is tied to its parent. */

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/macro.h"
#include "process/process.h"

_Static_assert(_Alignof(max_align_t) >= 16, "what malloc() gives is aligned for the data");

struct mp_call *mp_call_new(const struct mp_process_options *o)
{
    size_t arenas_at = MP_ALIGN_UP(sizeof(struct mp_call), 16);
    size_t fds_at = arenas_at + o->n_arenas * sizeof(mp_arena *);
    size_t data_at = MP_ALIGN_UP(fds_at + o->n_fds * sizeof(int), 16);
    struct mp_call *call;
    mp_arena **arenas;
    int *fds;
    char *block;

    block = malloc(data_at + o->size);
    if (!block)
        return NULL;
    call = (struct mp_call *)(void *)block;
    arenas = (mp_arena **)(void *)(block + arenas_at);
    fds = (int *)(void *)(block + fds_at);
    for (size_t i = 0; i < o->n_arenas; i++)
        arenas[i] = o->arenas[i];
    for (size_t i = 0; i < o->n_fds; i++)
        fds[i] = o->fds[i];
    if (o->size)
        memcpy(block + data_at, o->data, o->size);
    *call = (struct mp_call){.data = block + data_at,
                             .size = o->size,
                             .arenas = arenas,
                             .n_arenas = o->n_arenas,
                             .fds = fds,
                             .n_fds = o->n_fds};
    return call;
}

int mp_child_guard(struct mp_household *h)
{
    int fd;

    if (h->lifeline_fd >= 0)
        return mp_lifeline_arm(h->lifeline_fd);
    /* If the parent has ended already the watch finds out at once. */
    fd = mp_process_pidfd(h, &h->parent);
    if (fd < 0)
        return fd;
    h->watch = calloc(1, sizeof *h->watch);
    return h->watch ? mp_watch_start(h->watch, fd) : -ENOMEM;
}
