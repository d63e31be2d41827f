/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a pool is asked to do, in the parent.
 *
 *   job     a call: apply, map, or imap with its iterator. A mp_result is a job
 *   chunk   items of a job that travel together (pool/layout.h), a block of the arena
 *   flight  the parent's note of a chunk on its way: what it knows of it without asking the arena
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mp/pool.h>

#include "base/atomic.h"
#include "pool/layout.h"

/* Results shorter than this are rather copied out of the arena than left there for their owner. */
#define MP_LEND_MIN 32768u

/* Words that are waited on are even (mp_pool_wait() in pool/pool.h). */
#define MP_JOB_NOT_READY 0u
#define MP_JOB_READY 2u

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
    uint32_t references; /* the caller's; the pool's, while it is open or has a callback to run;
                            and one for each flight */

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
    mp_a32 ready;              /* MP_JOB_NOT_READY or MP_JOB_READY; waited on */
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
