/* SPDX-License-Identifier: MIT */
/*
 * Stress at mp_wait(): some post to a semaphore, a queue or a pipe; others wait for all of them at
 * once, and take what there is.
 *
 * Who takes something answers, and each poster waits for an answer before it goes on, so that
 * there are never more posts under way than posters. So one that nobody is woken for ends in
 * somebody's wait in vain. The last poster ends it by an event.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "stress/stress.h"

#define POSTERS 3u
#define TAKERS 3u

enum { SEMAPHORE, QUEUE, PIPE, KINDS, OVER = KINDS, WAITABLES };

struct shared {
    _Atomic(uint64_t) posted[KINDS], taken[KINDS];
    _Atomic(uint32_t) gone; /* posters */
};

static mp_semaphore *semaphore, *answers;
static mp_queue *queue;
static mp_event *over;
static mp_lock *lock;
static int pipe_fds[2];
static struct shared *shared;

static void begin(mp_arena *arena, void *memory)
{
    const uint32_t flags = MP_SEMAPHORE_SIGNALS;

    shared = memory;
    assert(mp_semaphore_create(arena, NULL, MP_SEMAPHORE_OPTIONS(.flags = flags), &semaphore) == 0);
    assert(mp_semaphore_create(arena, NULL, MP_SEMAPHORE_OPTIONS(.flags = flags), &answers) == 0);
    assert(mp_queue_create(arena, NULL, MP_QUEUE_OPTIONS(.maxsize = 2), &queue) == 0);
    assert(mp_event_create(arena, NULL, &over) == 0);
    assert(mp_lock_create(arena, NULL, &lock) == 0);
    assert(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) == 0);
}

static bool post(int kind)
{
    const char byte = 'x';
    int r;

    switch (kind) {
    case SEMAPHORE:
        assert(mp_semaphore_release(semaphore, 1) == 0);
        break;
    case QUEUE:
        r = mp_queue_put(queue, &byte, 1, 0);
        assert(r == 0 || r == -EAGAIN);
        if (r < 0)
            return false;
        break;
    default:
        assert(write(pipe_fds[1], &byte, 1) == 1);
        break;
    }
    shared->posted[kind]++;
    return true;
}

static void be_poster(struct worker *w)
{
    while (stress_turn(w)) {
        struct mp_waitable answer[2] = {mp_semaphore_waitable(answers), mp_lock_waitable(lock)};
        int kind = (int)stress_dice(w, KINDS);

        stress_holds(w, true);
        while (!post(kind)) {
            struct mp_waitable room = mp_queue_writable(queue);

            assert(mp_wait(&room, 1, PATIENCE) == 1);
        }
        stress_holds(w, false);
        while (mp_semaphore_try(answers) < 0) {
            int r = mp_lock_try(lock);

            /* With the lock in its own hands it waits for the answer only. */
            assert(r == 0 || r == -EAGAIN);
            assert(mp_wait(answer, r == 0 ? 1 : 2, PATIENCE) >= 1);
            assert(r < 0 || mp_lock_release(lock) == 0);
        }
    }
    if (++shared->gone == POSTERS)
        assert(mp_event_set(over) == 0);
}

/* It is ready, and another may be quicker. */
static bool take(int kind)
{
    char byte;
    ssize_t r;

    switch (kind) {
    case SEMAPHORE:
        r = mp_semaphore_try(semaphore);
        break;
    case QUEUE:
        r = mp_queue_get(queue, &byte, 1, 0, NULL);
        break;
    default:
        r = read(pipe_fds[0], &byte, 1) == 1 ? 0 : -errno;
        break;
    }
    assert(r == 0 || r == -EAGAIN);
    return r == 0;
}

static void be_taker(struct worker *w)
{
    for (;;) {
        struct mp_waitable all[WAITABLES] = {
            mp_semaphore_waitable(semaphore),
            mp_queue_readable(queue),
            mp_fd_waitable(pipe_fds[0], POLLIN),
            mp_event_waitable(over),
        };
        /* Now and then without the descriptor, which makes it another kind of wait. */
        bool without = stress_dice(w, 2);
        uint64_t timeout_ns = without ? MP_MSEC(1) : stress_timeout(w);
        int r;

        if (without)
            all[PIPE] = all[OVER];
        r = mp_wait(all, WAITABLES, timeout_ns);
        assert(r > 0 || (r == 0 && timeout_ns != PATIENCE));
        if (all[OVER].ready)
            return;
        for (int kind = 0; kind < KINDS; kind++) {
            if (!all[kind].ready || !take(kind))
                continue;
            stress_holds(w, true);
            stress_work(w);
            stress_holds(w, false);
            shared->taken[kind]++;
            assert(mp_semaphore_release(answers, 1) == 0);
        }
    }
}

static void post_or_take(struct worker *w)
{
    if (w->index < POSTERS)
        be_poster(w);
    else
        be_taker(w);
}

static void end(uint64_t turns, uint32_t killed)
{
    uint64_t posted = 0;

    (void)killed;
    for (int kind = 0; kind < KINDS; kind++) {
        assert(shared->posted[kind] == shared->taken[kind]);
        posted += shared->posted[kind];
    }
    assert(posted == turns);
    assert(mp_semaphore_value(semaphore) == 0 && mp_semaphore_value(answers) == 0);
    semaphore = mp_semaphore_close(semaphore);
    answers = mp_semaphore_close(answers);
    queue = mp_queue_close(queue);
    over = mp_event_close(over);
    lock = mp_lock_close(lock);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

int main(int argc, char **argv)
{
    static const struct stress stress = {.name = "wait",
                                         .workers = POSTERS + TAKERS,
                                         .size = sizeof *shared,
                                         .begin = begin,
                                         .work = post_or_take,
                                         .end = end};

    return stress_main(&stress, argc, argv);
}
