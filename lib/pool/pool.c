/* SPDX-License-Identifier: MIT */
/*
 * A pool's life after it was made (make.c): closed or terminated, joined, freed.
 *
 * Results may outlive the pool. So its memory is counted: the user, each thread and each job have a
 * claim. The arena goes with mp_pool_free(), unless there are results in it.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernel/futex.h"
#include "kernel/lineage.h"
#include "pool/pool.h"

/* ---- what all parts use ---- */

int mp_pool_check(const mp_pool *p)
{
    if (!p)
        return -EINVAL;
    return p->lineage == mp_lineage() ? 0 : -ECHILD;
}

void mp_pool_lock(mp_pool *p)
{
    int cancel_state;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    pthread_mutex_lock(&p->lock);
    p->cancel_state = cancel_state;
}

void mp_pool_unlock(mp_pool *p)
{
    mp_a32 *wakes[MP_WAKES_MAX];
    uint32_t n = p->n_wakes;
    int cancel_state = p->cancel_state;

    memcpy(wakes, p->wakes, n * sizeof *wakes);
    p->n_wakes = 0;
    pthread_mutex_unlock(&p->lock);
    pthread_setcancelstate(cancel_state, NULL);
    /* Who slept there may be up already, and have freed the word: then this wakes nobody, or one
     * who looks again. */
    for (uint32_t i = 0; i < n; i++)
        mp_futex_wake(wakes[i], INT32_MAX);
}

bool mp_pool_is_result_thread(const mp_pool *p)
{
    return pthread_equal(p->result_thread, pthread_self());
}

int mp_pool_wait(mp_a32 *word, uint32_t value, uint64_t deadline_ns)
{
    uint32_t v = mp_load_acquire(word);

    while ((v & ~1u) == value) {
        if (deadline_ns == 0)
            return -EAGAIN;
        if (deadline_ns != MP_FOREVER && mp_now_ns() >= deadline_ns)
            return -ETIMEDOUT;
        if (v & 1 || mp_cas_seqcst(word, &v, value | 1))
            mp_futex_wait(word, value | 1, deadline_ns);
        v = mp_load_acquire(word);
    }
    return 0;
}

void mp_pool_notify(mp_pool *p, mp_a32 *word, uint32_t value)
{
    if ((atomic_exchange_explicit(word, value, memory_order_seq_cst) & 1) == 0)
        return;
    if (p->n_wakes < MP_WAKES_MAX)
        p->wakes[p->n_wakes++] = word;
    else
        mp_futex_wake(word, INT32_MAX);
}

/* ---- ending ---- */

int mp_pool_close(mp_pool *p)
{
    int r = mp_pool_check(p);

    if (r < 0)
        return r;
    mp_pool_lock(p);
    if (p->state == MP_POOL_OPEN) {
        p->state = MP_POOL_CLOSED;
        mp_store_relaxed(&p->page->state, MP_POOL_CLOSED);
        mp_pool_poke(p);
    }
    mp_pool_unlock(p);
    return 0;
}

int mp_pool_terminate(mp_pool *p)
{
    int r = mp_pool_check(p);

    if (r < 0)
        return r;
    mp_pool_lock(p);
    mp_pool_end_now(p, MP_POOL_TERMINATED);
    mp_pool_unlock(p);
    return 0;
}

int mp_pool_join(mp_pool *p, uint64_t timeout_ns)
{
    bool open, feeding;
    int r = mp_pool_check(p);

    if (r < 0)
        return r;
    mp_pool_lock(p);
    open = p->state == MP_POOL_OPEN;
    /* Whoever feeds an imap might be the one who waits here. */
    feeding = p->n_feeding > 0;
    mp_pool_unlock(p);
    if (open || feeding)
        return -EBUSY;
    if (mp_pool_is_result_thread(p))
        timeout_ns = 0;
    return mp_pool_wait(&p->ended, 0, mp_deadline(timeout_ns));
}

void mp_pool_leave(mp_pool *p)
{
    mp_pool_lock(p);
    if (--p->threads == 0)
        mp_pool_notify(p, &p->ended, 2);
    mp_pool_unlock(p);
    mp_pool_drop(p);
}

void mp_pool_close_arena(mp_pool *p)
{
    p->results = mp_queue_close(p->results);
    p->tasks = mp_queue_close(p->tasks);
    for (size_t i = p->n_arenas; i-- > 0;)
        mp_arena_close(p->arenas[i]);
    p->n_arenas = 0;
    p->arena = NULL;
    p->page = NULL;
}

void mp_pool_drop(mp_pool *p)
{
    if (atomic_fetch_sub_explicit(&p->claims, 1, memory_order_acq_rel) != 1)
        return;
    mp_pool_close_arena(p);
    if (p->event_fd >= 0)
        close(p->event_fd);
    free(p->args);
    free(p->arenas);
    free(p->flights);
    free(p->unsent);
    free(p->worker);
    free(p->poll_fds);
    free(p->deaths);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* Only before there was a supervisor: it reaps them otherwise. */
static void reap_all(mp_pool *p)
{
    for (uint32_t i = 0; p->worker && i < p->workers; i++) {
        if (!p->worker[i].process)
            continue;
        mp_process_kill(p->worker[i].process);
        mp_process_join(p->worker[i].process, MP_FOREVER);
        p->worker[i].process = mp_process_free(p->worker[i].process);
    }
}

mp_pool *mp_pool_free(mp_pool *p)
{
    if (!p || mp_pool_check(p) < 0) /* in a forked child it is the parent's, lock and all */
        return NULL;
    mp_pool_delist(p);
    if (p->has_supervisor) {
        mp_pool_terminate(p);
        pthread_join(p->supervisor, NULL);
    } else {
        reap_all(p);
    }
    if (p->has_result_thread && mp_pool_is_result_thread(p))
        pthread_detach(p->result_thread); /* freed in a callback: the thread's claim is the last */
    else if (p->has_result_thread)
        pthread_join(p->result_thread, NULL);

    mp_pool_lock(p);
    p->user_freed = true;
    if (p->lent_bytes == 0 && p->threads == 0)
        mp_pool_close_arena(p);
    mp_pool_unlock(p);
    mp_pool_drop(p);
    return NULL;
}

/* ---- looking ---- */

int mp_pool_stats(mp_pool *p, struct mp_pool_stats *ret_stats)
{
    int r = mp_pool_check(p);

    if (r < 0)
        return r;
    if (!ret_stats)
        return -EINVAL;
    mp_pool_lock(p);
    *ret_stats = (struct mp_pool_stats){
        .queued = p->n_flying,
        .done = p->done_chunks,
        .worker_deaths = p->death_count,
        .retried = p->retried,
    };
    for (uint32_t i = 0; i < p->workers; i++) {
        if (!p->worker[i].process)
            continue;
        ret_stats->workers++;
        ret_stats->idle += mp_load_relaxed(&p->page->row[i].state) == MP_WORKER_IDLE;
    }
    mp_pool_unlock(p);
    return 0;
}

int mp_pool_worker_pids(mp_pool *p, pid_t *ret_pids, size_t n)
{
    int r = mp_pool_check(p), found = 0;

    if (r < 0)
        return r;
    if (!ret_pids && n > 0)
        return -EINVAL;
    mp_pool_lock(p);
    for (uint32_t i = 0; i < p->workers; i++) {
        if (!p->worker[i].process)
            continue;
        if ((size_t)found < n)
            ret_pids[found] = p->worker[i].pid;
        found++;
    }
    mp_pool_unlock(p);
    return found;
}
