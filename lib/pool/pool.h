/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The inside of a pool, in the parent.
 *
 * Who does what:
 *
 *   callers           make jobs and hand over the first chunks (calls.c, iterator.c, submit.c)
 *   result thread     takes the ids of chunks that are done, completes them, hands over more
 *                     chunks, runs callbacks (result.c)
 *   supervisor        sleeps on the sentinels of the workers and an eventfd; reaps, replaces, ends
 *                     (supervise.c)
 *
 * One private mutex guards everything below. No worker can hold it, it is never held while waiting
 * for a worker or for memory in the arena, nor while a callback runs.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <mp/pool.h>
#include <mp/queue.h>

#include "arena/arena.h"
#include "base/atomic.h"
#include "pool/job.h"
#include "pool/layout.h"

/* Deaths remembered, to tell what killed the workers of a task. A task is given up by the first
 * worker that is free after the death, so that is far more than needed. */
#define MP_DEATHS_KEPT 1024u

#define MP_WAKES_MAX 16u

/* Chunks on their way, all workers together: between enough for workers never to starve and so
 * many that they only lie about. */
#define MP_FLIGHTS_A_WORKER 64u
#define MP_FLIGHTS_MIN 128u
#define MP_FLIGHTS_MAX 4096u

/* A failing initializer ends the pool: so many workers in a row that gave up, or were killed,
 * before any got ready. Being killed may be meant for another, so it takes more of that. */
#define MP_FAILED_STARTS_MAX 3u
#define MP_KILLED_STARTS_MAX 16u
#define MP_KILLED_STARTS_MOST 4096u
#define MP_KILLED_STARTS_NS MP_SEC(2)
/* So many refused forks in a row while no worker is left. */
#define MP_REFUSED_STARTS_MAX 8u
/* A worker gets to its initializer in a millisecond, or it never does: what was locked by another
 * thread at the moment of a fork stays locked in the child, and other libraries than libc do not
 * care for that. It is replaced then. A spawned program may have a lot to do before its main(). */
#define MP_STUCK_FORK_NS MP_SEC(10)
#define MP_STUCK_SPAWN_NS MP_SEC(60)

struct mp_worker {
    mp_process *process; /* NULL: none */
    uint64_t started_ns;
    pid_t pid;
    uint32_t id;
    bool starting;
};

struct mp_death {
    uint32_t id;
    pid_t pid;
    struct mp_exit_info exit;
};

struct mp_pool {
    pthread_mutex_t lock;
    int cancel_state; /* of the thread that has it, which is not to be cancelled under it */
    /* Words whose sleepers are woken once the lock is given up, or they would run into it. */
    mp_a32 *wakes[MP_WAKES_MAX];
    uint32_t n_wakes;
    uint64_t lineage; /* of the process that it belongs to */
    mp_a32 claims;    /* references: the user's, the threads', one for each job alive */
    uint32_t threads; /* running */
    bool user_freed;  /* mp_pool_free() was called */
    pthread_t result_thread;
    pthread_t supervisor;
    bool has_result_thread;
    bool has_supervisor;
    struct mp_pool *next_pool; /* exit.c */

    /* as asked for */
    uint32_t workers;
    uint32_t max_tasks;
    uint32_t tries;
    enum mp_start_method method;
    uint64_t memory;
    struct mp_worker_args *args;
    size_t args_size;
    mp_arena **arenas; /* the pool's, then the initializer's: handles of our own */
    size_t n_arenas;
    mp_entry_fn *initializer;

    mp_arena *arena;
    mp_queue *tasks;
    mp_queue *results;
    struct mp_pool_page *page;
    uint64_t chunk_limit; /* bytes of the largest chunk */
    uint64_t chunk_aim;   /* a chunk of several items stays below it */

    enum mp_pool_state state;
    mp_a32 ended; /* 1: all workers have ended; waited on */
    int broken;   /* why, where BROKEN */
    struct mp_failure broken_failure;
    int event_fd; /* wakes the supervisor */

    struct mp_worker *worker;
    struct pollfd *poll_fds; /* room for all sentinels and event_fd */
    uint32_t next_worker_id;
    uint32_t failed_starts, killed_starts, refused_starts;
    uint64_t killed_since_ns; /* the first of killed_starts */
    uint64_t ready_seen;
    bool tasks_shut;

    struct mp_death *deaths; /* a ring, made when the first dies */
    uint64_t n_deaths;

    /* calls */
    uint64_t next_job;
    struct mp_job *open_jobs;
    uint32_t n_open;
    uint32_t n_feeding; /* imaps whose input has not ended */
    struct mp_job *pending, **pending_tail;
    struct mp_job *callbacks, **callbacks_tail;

    /* chunks on their way */
    struct mp_flight *flights;
    uint32_t n_places;
    uint32_t free_place;
    uint32_t n_flying;
    uint64_t next_serial;
    struct mp_ticket *unsent; /* launched, but not in the queue yet */
    uint32_t n_unsent;
    uint64_t unsent_bytes;
    uint64_t flying_bytes;
    uint64_t lent_bytes;
    uint64_t done_chunks, death_count, retried;
};

/* ---- pool.c ---- */

/* 0; -EINVAL: no pool; -ECHILD: another process's. */
int mp_pool_check(const mp_pool *pool);

void mp_pool_lock(mp_pool *pool);
void mp_pool_unlock(mp_pool *pool);

/* Gives a claim back; frees the pool with the last. Without the lock. */
void mp_pool_drop(mp_pool *pool);

/* A thread of the pool ends. Without the lock. */
void mp_pool_leave(mp_pool *pool);

/* The same where it cannot be the last, since the caller has one. */
static inline void mp_pool_unclaim(mp_pool *pool)
{
    atomic_fetch_sub_explicit(&pool->claims, 1, memory_order_release);
}

/* With the lock: nothing in the arena is needed any more. */
void mp_pool_close_arena(mp_pool *pool);

/* Is this the thread that completes results? It can not wait for one. */
bool mp_pool_is_result_thread(const mp_pool *pool);

/*
 * Words that are waited on have even values; bit 0 says that somebody sleeps.
 * mp_pool_wait() sleeps until *word is not @value. 0; -EAGAIN; -ETIMEDOUT. @deadline_ns as
 * mp_deadline() gives it. mp_pool_notify(), with the lock, changes the word and wakes all.
 */
int mp_pool_wait(mp_a32 *word, uint32_t value, uint64_t deadline_ns);
void mp_pool_notify(mp_pool *pool, mp_a32 *word, uint32_t value);

/* ---- exit.c ---- */

/* The list of pools to be terminated when the process exits. 0; -ENOMEM. */
int mp_pool_enlist(mp_pool *pool);
void mp_pool_delist(mp_pool *pool);

/* ---- supervise.c ---- */

void *mp_pool_supervisor_main(void *pool);

/* Start the worker of a row that is marked `starting`. Without the lock. */
int mp_worker_start(mp_pool *pool, uint32_t row);

/* With the lock from here on. Wake the supervisor, the result thread. */
void mp_pool_poke(mp_pool *pool);
void mp_pool_poke_results(mp_pool *pool);

/* End at once: kill all workers; open calls fail with -ECANCELED, or, if the pool is broken, with
 * -ENOTRECOVERABLE. */
void mp_pool_end_now(mp_pool *pool, enum mp_pool_state state);

/* Something that can not be mended; @failure may be NULL. */
void mp_pool_break(mp_pool *pool, int why, const struct mp_failure *failure);

/* Fills in what killed worker @id, as far as it is to be known. */
void mp_pool_death_of(mp_pool *pool, uint32_t id, struct mp_failure *failure);

/* Are workers copies of this process, in which a function has the same address? */
static inline bool mp_pool_forks(enum mp_start_method method)
{
    return method == MP_START_DEFAULT || method == MP_START_FORK;
}
