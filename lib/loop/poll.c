/* SPDX-License-Identifier: MIT */
/*
 * Where io_uring is refused: the keeper turns words into an eventfd, which poll(2) waits for with
 * the other descriptors. All words of one sleep share one eventfd.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "arena/keeper.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "loop/wait.h"

int mp_poll_until(struct pollfd *fds, uint32_t n, uint64_t deadline_ns)
{
    uint64_t now = deadline_ns && deadline_ns != MP_FOREVER ? mp_now_ns() : 0;
    struct timespec t = mp_timespec(deadline_ns > now ? deadline_ns - now : 0);
    int r = ppoll(fds, n, deadline_ns == MP_FOREVER ? NULL : &t, NULL);

    if (r >= 0)
        return r;
    return errno == EINTR ? 0 : -errno;
}

/* The keeper's, while we sleep. */
struct watched {
    struct mp_poller *pollers;
    uint32_t n;
};

static void unwatch(struct watched *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        mp_keeper_unpoll(&w->pollers[i]);
    free(w->pollers);
}

static int watch(struct watched *watched, const struct mp_waitable *w, int event_fd)
{
    struct mp_poller *p = &watched->pollers[watched->n];
    int r;

    *p = (struct mp_poller){
        .what = *w, .event_fd = event_fd, .life = mp_load_acquire(&w->arena->self->life)};
    mp_store_relaxed(&p->armed, 1);
    r = mp_keeper_poll(p);
    if (r == 0)
        watched->n++;
    return r;
}

int mp_poll_sleep(const struct mp_waitable *waitables, uint32_t n, struct pollfd *fds,
                  uint32_t n_fds, uint64_t deadline_ns)
{
    _cleanup_close_ int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    _cleanup_(unwatch) struct watched watched = {calloc(n, sizeof(struct mp_poller)), 0};

    if (event_fd < 0)
        return -errno;
    if (!watched.pollers)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        int r =
            waitables[i].kind == MP_WAITABLE_WORD ? watch(&watched, &waitables[i], event_fd) : 0;

        if (r < 0)
            return r;
    }
    fds[n_fds] = (struct pollfd){.fd = event_fd, .events = POLLIN};
    return mp_poll_until(fds, n_fds + 1, deadline_ns);
}
