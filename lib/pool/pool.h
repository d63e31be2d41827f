/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The inside of a pool, in the parent.
 *
 * Who does what:
 *
 *   callers           make jobs and hand over the first chunks (submit.c)
 *   result thread     takes the ids of chunks that are done, completes them, hands over more chunks,
 *                     runs callbacks (result.c)
 *   supervisor        sleeps on the sentinels of the workers and an eventfd; reaps, replaces, ends
 *                     (supervise.c)
 *
 * One private mutex guards everything below. No worker can hold it, it is never held while waiting
 * for a worker or for memory in the arena, nor while a callback runs.
 *
 *   job     a call: apply, map, or imap with its iterator. A mp_result is a job
 *   chunk   items of a job that travel together (pool/layout.h), a block of the arena
 *   flight  the parent's note of a chunk on its way: what it knows of it without asking the arena
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
#include "pool/layout.h"

/* Results shorter than this are rather copied out of the arena than left there for their owner. */
#define MP_LEND_MIN 32768u

/* Deaths remembered, to tell what killed the workers of a task. A task is given up by the first
 * worker that is free after the death, so that is far more than needed. */
#define MP_DEATHS_KEPT 1024u

#define MP_WAKES_MAX 16u

/* Chunks on their way, all workers together: between enough for workers never to starve and so many
 * that they only lie about. */
#define MP_FLIGHTS_A_WORKER 64u
#define MP_FLIGHTS_MIN 128u
#define MP_FLIGHTS_MAX 4096u

/* A failing initializer ends the pool: so many workers in a row that gave up, or were killed,
 * before any got ready. Being killed may be meant for another, so it takes more of that. */
#define MP_FAILED_STARTS_MAX 3u
#define MP_KILLED_STARTS_MAX 16u
/* So many refused forks in a row while no worker is left. */
#define MP_REFUSED_STARTS_MAX 8u
/* A worker gets to its initializer in a millisecond, or it never does: what was locked by another
 * thread at the moment of a fork stays locked in the child, and other libraries than libc do not
 * care for that. It is replaced then. A spawned program may have a lot to do before its main(). */
#define MP_STUCK_FORK_NS MP_SEC(10)
#define MP_STUCK_SPAWN_NS MP_SEC(60)

enum mp_job_kind { MP_JOB_APPLY, MP_JOB_MAP, MP_JOB_IMAP };

/* Where results lie that were left in the arena. */
struct mp_loan {
    void *block;
    uint64_t bytes;
};

struct mp_job {
    mp_pool *pool;
    uint64_t number;
    enum mp_job_kind kind;
    uint32_t
        references; /* the caller's, and the pool's while it is open or has a callback to run */

    /* what to run */
    mp_task_fn *fn;
    const char *name; /* spawn: its registered name */
    uint16_t name_size;

    /* items and results. imap: sizes only; they are in its pieces */
    const char *items[2];
    bool two; /* there are second items */
    uint64_t size[2];
    uint64_t result_size;
    uint64_t n;
    uint64_t chunksize;
    uint64_t next; /* first item not yet handed over */
    uint64_t done; /* items */
    char *results; /* n of result_size; NULL: none, or lent */
    void *own_items;
    void *own_results;
    struct mp_loan loan;  /* apply: where the result is instead */
    uint64_t result_used; /* apply: the result's size */

    struct mp_failure failure; /* error 0: none */
    mp_a32 ready;              /* 0, 1; waited on */
    bool open;                 /* not ready: counted in the pool */
    bool pending;              /* in the list of those with chunks to hand over */

    void (*callback)(mp_result *result, void *user);
    void *user;

    struct mp_job *next_pending;
    struct mp_job *next_callback;
    struct mp_job *next_open, *previous_open;
};

struct mp_result {
    struct mp_job job;
};

/* How an item of an imap went. */
struct mp_answer {
    uint64_t size; /* of the result; before the item is run, of the item */
    int error;
    struct mp_failure *failure;
};

/* Items of an imap that travel together; their results afterwards. It belongs to its iterator all
 * the time. */
struct mp_piece {
    struct mp_piece *next, *previous; /* in the order of the input */
    struct mp_piece *next_done;       /* in the order in which they came back */
    uint64_t first;
    uint32_t count;
    bool done;
    struct mp_answer *answers;
    char *results; /* in the items' room, in `copy`, or in the loan */
    void *copy;
    struct mp_loan loan;
    uint64_t room; /* for items */
    char items[] __attribute__((aligned(16)));
};

struct mp_iterator {
    struct mp_job job;
    mp_next_fn *input;
    void *user;
    bool unordered;
    bool input_ended;      /* the user's thread sets it, with the lock */
    int input_error;       /* what the input said, to be told once */
    struct mp_shape shape; /* of a chunk of one item */
    uint32_t most;         /* pieces given to the pool and not yet to the user */
    uint32_t given;
    uint32_t flying;
    uint64_t pulled;                  /* items */
    struct mp_piece *oldest, *newest; /* all but current and spare */
    struct mp_piece *unsent; /* the oldest that is not handed over; those after it neither */
    struct mp_piece *done, **done_tail;
    struct mp_piece *spare;
    struct mp_piece *current;
    uint32_t position; /* in current */
    mp_a32 events;     /* moves when something comes back; waited on */
};

struct mp_flight {
    uint64_t id; /* 0: free */
    struct mp_job *job;
    struct mp_piece *piece; /* imap */
    struct mp_chunk *chunk;
    struct mp_shape shape;
    uint64_t first;
    uint64_t bytes; /* as accounted */
    uint32_t next_free;
};

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

#define MP_JOB_NOT_READY 0u
#define MP_JOB_READY 2u

/* ---- exit.c ---- */

/* The list of pools to be terminated when the process exits. 0; -ENOMEM. */
int mp_pool_enlist(mp_pool *pool);
void mp_pool_delist(mp_pool *pool);

/* ---- calls.c ---- */

int mp_async_options_read(const struct mp_async_options *options, struct mp_async_options *ret);

/* ---- submit.c: with the lock where not said otherwise ---- */

/* Hand over chunks as far as there is room. */
void mp_pool_feed(mp_pool *pool);

/* The job has chunks to hand over; or no more of them. */
void mp_job_set_pending(struct mp_job *job);
void mp_job_unset_pending(struct mp_job *job);

/* How workers know the function. 0; -ENOENT. Needs no lock. */
int mp_job_set_function(struct mp_job *job, mp_task_fn *fn);

/* The shape of a chunk of one item, not computed yet. Needs no lock. */
void mp_job_shape(const struct mp_job *job, struct mp_shape *ret_shape);

/* The most items that shall travel together; 0: not even one can. Needs no lock. */
uint64_t mp_job_chunk_most(const struct mp_job *job);

/* Opens the job: the pool has a reference now. 0; -EPIPE, -ENOTRECOVERABLE. */
int mp_job_open(struct mp_job *job);

/* ---- result.c ---- */

void *mp_pool_result_main(void *pool);

/* With the lock: a chunk is done, says a worker. */
void mp_pool_complete(mp_pool *pool, uint64_t id);

/* With the lock: the job is ready; @error, where not 0, fails it as a whole. */
void mp_job_finish(struct mp_job *job, int error);

/* With the lock: fails all that is open, and forgets all that is on its way. */
void mp_pool_fail_all(mp_pool *pool, int error);

/* With the lock: keep the lowest failure. */
void mp_job_fail_item(struct mp_job *job, const struct mp_failure *failure);

/* With the lock: drops a reference, frees the job with the last; then its claim on the pool is the
 * caller's to give back. */
bool mp_job_drop(struct mp_job *job);

/* The same for those who do not have the lock, claim included. */
void mp_job_release(struct mp_job *job);

/* With the lock: the owner of results in the arena has done with them. */
void mp_pool_take_back(mp_pool *pool, struct mp_loan *loan);

/* ---- iterator.c: with the lock ---- */

/* The first unsent piece is on its way. */
void mp_iterator_launched(struct mp_iterator *it);

/* Keep results in private memory. 0; -ENOMEM. */
int mp_piece_keep(struct mp_piece *piece, const void *results, uint64_t bytes);

/* A piece is done: its answers stand. */
void mp_iterator_arrive(struct mp_iterator *it, struct mp_piece *piece);

/* The job is finished. */
void mp_iterator_end(struct mp_iterator *it);

/* Frees all that an iterator has. */
void mp_iterator_clear(struct mp_iterator *it);

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
