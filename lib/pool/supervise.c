/* SPDX-License-Identifier: MIT */
/*
 * The supervisor: one thread that sleeps on the workers' sentinels and an eventfd.
 *
 * It reaps workers that ended, starts others in their place, shuts the task queue when a closed
 * pool has nothing left to do, and ends with the last worker. What a dead worker held comes back by
 * itself through the queue; nothing here has to know about it.
 *
 *   | state      | left by                                                 | workers that end   |
 *   |------------|---------------------------------------------------------|--------------------|
 *   | OPEN       | close(), terminate(), too many failed starts            | are replaced       |
 *   | CLOSED     | the last call is answered and the last worker gone; or  | are replaced until |
 *   |            | as OPEN                                                 | all is answered    |
 *   | TERMINATED | the last worker is gone                                 | are not replaced   |
 *   | BROKEN     | the last worker is gone                                 | are not replaced   |
 *   | ENDED      |                                                         | there are none     |
 */

#include <errno.h>
#include <signal.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"
#include "pool/pool.h"
#include "pool/worker.h"

void mp_pool_poke(mp_pool *p)
{
    uint64_t one = 1;

    /* It is full only if the supervisor has to look anyhow. */
    while (write(p->event_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void mp_pool_poke_results(mp_pool *p)
{
    uint64_t none = 0;

    /* If the queue is full, the result thread is up. */
    mp_queue_put(p->results, &none, sizeof none, 0);
}

/* ---- starting ---- */

int mp_worker_start(mp_pool *p, uint32_t i)
{
    struct mp_worker *w = &p->worker[i];
    struct mp_pool_row *row = &p->page->row[i];
    _cleanup_free_ struct mp_worker_args *args = NULL;
    mp_process *process;
    char name[MP_NAME_MAX + 1];
    uint32_t id;
    int r;

    args = malloc(p->args_size);
    if (!args)
        return -ENOMEM;
    memcpy(args, p->args, p->args_size);

    mp_pool_lock(p);
    id = ++p->next_worker_id;
    mp_pool_unlock(p);
    args->row = i;
    args->id = id;
    snprintf(name, sizeof name, "PoolWorker-%u", id);
    mp_store_relaxed(&row->state, MP_WORKER_STARTING);
    mp_store_relaxed(&row->pid, 0);
    mp_store_relaxed(&row->id, id);
    mp_store_relaxed(&row->done, 0);

    r = mp_process_start(mp_worker_entry,
                         MP_PROCESS_OPTIONS(.name = name, .method = p->method, .daemon = 1,
                                            .data = args, .size = p->args_size, .arenas = p->arenas,
                                            .n_arenas = p->n_arenas),
                         &process);
    mp_pool_lock(p);
    w->starting = false;
    if (r < 0) {
        mp_store_relaxed(&row->state, MP_WORKER_NONE);
    } else {
        w->process = process;
        w->started_ns = mp_now_ns();
        w->id = id;
        w->pid = mp_process_pid(process);
        mp_store_relaxed(&row->pid, (uint32_t)w->pid);
        if (p->state > MP_POOL_CLOSED) /* ended meanwhile */
            mp_process_kill(process);
    }
    mp_pool_unlock(p);
    return r;
}

static bool wants_workers(const mp_pool *p)
{
    return p->state == MP_POOL_OPEN || (p->state == MP_POOL_CLOSED && !p->tasks_shut);
}

/* With the lock, which is given up for each start. */
static void start_missing(mp_pool *p)
{
    for (uint32_t i = 0; i < p->workers && wants_workers(p); i++) {
        int r;

        if (p->worker[i].process)
            continue;
        p->worker[i].starting = true;
        mp_pool_unlock(p);
        r = mp_worker_start(p, i);
        mp_pool_lock(p);
        if (r < 0) {
            p->refused_starts++;
            return;
        }
        p->refused_starts = 0;
    }
}

/* ---- ending ---- */

void mp_pool_end_now(mp_pool *p, enum mp_pool_state state)
{
    if (p->state > MP_POOL_CLOSED)
        return;
    p->state = state;
    mp_store_relaxed(&p->page->state, (uint32_t)state);
    p->tasks_shut = true;
    for (uint32_t i = 0; i < p->workers; i++) {
        if (p->worker[i].process)
            mp_process_kill(p->worker[i].process);
    }
    mp_pool_fail_all(p, state == MP_POOL_BROKEN ? -ENOTRECOVERABLE : -ECANCELED);
    mp_queue_shutdown(p->tasks, 1);
    mp_queue_shutdown(p->results, 1);
    mp_pool_poke(p);
}

void mp_pool_break(mp_pool *p, int why, const struct mp_failure *failure)
{
    if (p->state > MP_POOL_CLOSED)
        return;
    p->broken = why;
    if (failure)
        p->broken_failure = *failure;
    p->broken_failure.error = -ENOTRECOVERABLE;
    mp_pool_end_now(p, MP_POOL_BROKEN);
}

/* ---- reaping ---- */

static void remember_death(mp_pool *p, const struct mp_worker *w, const struct mp_exit_info *exit)
{
    if (!p->deaths)
        p->deaths = calloc(MP_DEATHS_KEPT, sizeof *p->deaths);
    if (!p->deaths) /* then it is not known what killed it */
        return;
    p->deaths[p->n_deaths++ % MP_DEATHS_KEPT] =
        (struct mp_death){.id = w->id, .pid = w->pid, .exit = *exit};
}

/* A worker ended before it was ready. Too many in a row, and the pool is broken. */
static void count_failed_start(mp_pool *p, const struct mp_worker *w, uint32_t state,
                               const struct mp_exit_info *exit)
{
    struct mp_failure failure = {.pid = w->pid, .exit = *exit};
    uint64_t now = mp_now_ns();
    bool patient;

    if (!exit->signal)
        p->failed_starts++;
    else if (p->killed_starts++ == 0)
        p->killed_since_ns = now;
    /* Killed before the initializer began: from outside, and perhaps many at once. */
    patient = state == MP_WORKER_STARTING && exit->signal == SIGKILL &&
              p->killed_starts < MP_KILLED_STARTS_MOST &&
              now - p->killed_since_ns < MP_KILLED_STARTS_NS;
    if (p->failed_starts >= MP_FAILED_STARTS_MAX ||
        (p->killed_starts >= MP_KILLED_STARTS_MAX && !patient))
        mp_pool_break(p, -ENOTRECOVERABLE, &failure);
}

static void reap(mp_pool *p, uint32_t i)
{
    struct mp_worker *w = &p->worker[i];
    struct mp_pool_row *row = &p->page->row[i];
    struct mp_exit_info exit = {.code = 255};
    uint32_t state;
    uint64_t ready;

    if (!w->process || mp_process_join(w->process, 0) < 0)
        return;
    mp_process_exit_info(w->process, &exit);
    state = mp_load_relaxed(&row->state);
    ready = mp_load_relaxed(&p->page->ready);
    if (ready != p->ready_seen) {
        p->ready_seen = ready;
        p->failed_starts = p->killed_starts = 0;
    }
    remember_death(p, w, &exit);
    if (!p->tasks_shut && !(state == MP_WORKER_RETIRED && exit.code == 0)) {
        mp_store_relaxed(&p->page->deaths, ++p->death_count);
        if (state == MP_WORKER_STARTING || state == MP_WORKER_INITIALIZING ||
            state == MP_WORKER_FAILED)
            count_failed_start(p, w, state, &exit);
    }
    w->process = mp_process_free(w->process);
    mp_store_relaxed(&row->state, MP_WORKER_DEAD);
}

static const struct mp_death *find_death(const mp_pool *p, uint32_t id)
{
    uint64_t kept = mp_min(p->n_deaths, (uint64_t)MP_DEATHS_KEPT);

    for (uint64_t k = 1; p->deaths && k <= kept; k++) {
        const struct mp_death *death = &p->deaths[(p->n_deaths - k) % MP_DEATHS_KEPT];

        if (death->id == id)
            return death;
    }
    return NULL;
}

void mp_pool_death_of(mp_pool *p, uint32_t id, struct mp_failure *failure)
{
    const struct mp_death *death = find_death(p, id);

    failure->exit = (struct mp_exit_info){.code = 255};
    if (death) {
        failure->pid = death->pid;
        failure->exit = death->exit;
        return;
    }
    /* Its task can come back before the supervisor has looked. It is gone then, so this waits for
     * nothing. */
    for (uint32_t i = 0; i < p->workers; i++) {
        const struct mp_worker *w = &p->worker[i];

        if (!w->process || w->id != id || mp_process_join(w->process, 0) < 0)
            continue;
        failure->pid = w->pid;
        mp_process_exit_info(w->process, &failure->exit);
    }
}

/* ---- the thread ---- */

static uint32_t count_workers(const mp_pool *p)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->workers; i++)
        n += p->worker[i].process != NULL;
    return n;
}

/* Kills workers that do not get to their initializer. Returns when to look again. */
static uint64_t kill_stuck(mp_pool *p)
{
    uint64_t limit = mp_pool_forks(p->method) ? MP_STUCK_FORK_NS : MP_STUCK_SPAWN_NS;
    uint64_t next = MP_FOREVER;

    for (uint32_t i = 0; i < p->workers; i++) {
        struct mp_worker *w = &p->worker[i];
        uint64_t deadline = w->started_ns + limit;

        if (!w->process || mp_load_relaxed(&p->page->row[i].state) != MP_WORKER_STARTING)
            continue;
        if (deadline <= mp_now_ns())
            mp_process_kill(w->process);
        else
            next = mp_min(next, deadline);
    }
    return next;
}

/* How long to sleep: for ever, or until a start that was refused is tried again, or until a worker
 * should have started. */
static int poll_timeout(mp_pool *p)
{
    uint64_t next = kill_stuck(p), now = mp_now_ns(), again = MP_FOREVER;

    if (p->refused_starts > 0 && wants_workers(p))
        again = now + (MP_MSEC(10) << mp_min(p->refused_starts - 1, 6u));
    next = mp_min(next, again);
    if (next == MP_FOREVER)
        return -1;
    return next > now ? (int)((next - now) / MP_MSEC(1)) + 1 : 0;
}

/* With the lock, which is given up while it sleeps. */
static void sleep_until_something(mp_pool *p, struct pollfd *fds)
{
    int timeout = poll_timeout(p);
    uint64_t count;
    nfds_t n = 0;

    fds[n++] = (struct pollfd){.fd = p->event_fd, .events = POLLIN};
    for (uint32_t i = 0; i < p->workers; i++) {
        if (p->worker[i].process)
            fds[n++] =
                (struct pollfd){.fd = mp_process_sentinel(p->worker[i].process), .events = POLLIN};
    }
    mp_pool_unlock(p);
    poll(fds, n, timeout);
    if (read(p->event_fd, &count, sizeof count) < 0)
        count = 0; /* it was not that; the descriptor does not block */
    mp_pool_lock(p);
}

static void look_round(mp_pool *p)
{
    for (uint32_t i = 0; i < p->workers; i++)
        reap(p, i);
    if (p->state == MP_POOL_CLOSED && p->n_open == 0 && !p->tasks_shut) {
        p->tasks_shut = true;
        mp_queue_shutdown(p->tasks, 0);
    }
    start_missing(p);
    if (p->refused_starts >= MP_REFUSED_STARTS_MAX && count_workers(p) == 0)
        mp_pool_break(p, -EAGAIN, NULL);
}

void *mp_pool_supervisor_main(void *arg)
{
    mp_pool *p = arg;
    struct pollfd *fds = p->poll_fds;

    mp_pool_lock(p);
    for (;;) {
        look_round(p);
        if (p->tasks_shut && count_workers(p) == 0)
            break;
        sleep_until_something(p, fds);
    }
    p->state = p->state == MP_POOL_CLOSED ? MP_POOL_ENDED : p->state;
    mp_store_relaxed(&p->page->state, MP_POOL_ENDED);
    mp_queue_shutdown(p->results, 0);
    mp_pool_unlock(p);
    mp_pool_leave(p);
    return NULL;
}
