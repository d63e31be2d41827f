/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a pool keeps in its arena: a page for those who look on, and the chunks.
 *
 * The arena has four things in it:
 *
 *   "tasks"    a queue of tickets: {id, offset of a chunk}; the workers consume it
 *   "results"  a queue of ids of chunks that are done; the parent consumes it
 *   "pool"     a named block, struct mp_pool_page: who works and on what, for mpctl and for
 *              mp_pool_stats(). The library decides nothing by it but whether a worker that ended
 *              had got ready, so a wrong page harms nobody
 *   chunks     blocks of the parent, unnamed: one each for items that travel together
 *
 * Words are written with relaxed atomics, the parent's part by the parent, each row by its worker
 * (by the parent before the worker is started and after it has ended). A reader outside treats all
 * of it as hostile: it takes `rows` for no more than the block's size allows, and each word as a
 * number to print.
 */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

#define MP_POOL_MAGIC UINT64_C(0x314c4f4f505f706d) /* "mp_POOL1" */
#define MP_POOL_VERSION 1u
#define MP_POOL_WORKERS_MAX 512u

/* Longest name of a function that spawned workers find, without the closing NUL. */
#define MP_TASK_NAME_MAX 255

#define MP_POOL_TASKS "tasks"
#define MP_POOL_RESULTS "results"
#define MP_POOL_PAGE "pool"

enum mp_pool_state {
    MP_POOL_OPEN = 0,
    MP_POOL_CLOSED,     /* no more tasks; those given are being done */
    MP_POOL_TERMINATED, /* workers are being killed */
    MP_POOL_BROKEN,     /* the same, because no worker can be started or initialized */
    MP_POOL_ENDED,      /* all workers have ended */
};

enum mp_worker_state {
    MP_WORKER_NONE = 0, /* nobody has this row */
    MP_WORKER_STARTING, /* from before its start until its initializer is called */
    MP_WORKER_INITIALIZING,
    MP_WORKER_IDLE,    /* waits for a ticket */
    MP_WORKER_RUNNING, /* `job` to `since_ns` say what */
    MP_WORKER_RETIRED, /* done with max_tasks_per_child chunks: ends by itself */
    MP_WORKER_FAILED,  /* its initializer failed: ends by itself */
    MP_WORKER_ENDING,  /* the pool ended: ends by itself */
    MP_WORKER_DEAD,    /* the parent has reaped it, and is about to use the row again */
};

struct mp_pool_row {
    _Alignas(64) mp_a32 state; /* enum mp_worker_state */
    mp_a32 pid;
    mp_a32 id; /* 1, 2, 3 ... in the order of start; never used again within a pool */
    uint32_t pad;
    mp_a64 job;      /* number of the call that gave the chunk, 1, 2, 3 ... */
    mp_a64 chunk;    /* id of the chunk */
    mp_a64 first;    /* index of its first item in the job */
    mp_a64 count;    /* items in it */
    mp_a64 since_ns; /* CLOCK_MONOTONIC, when it was begun */
    mp_a64 done;     /* chunks done by this worker */
};
static_assert(sizeof(struct mp_pool_row) == 64, "one line each");

struct mp_pool_page {
    mp_a64 magic; /* written last */
    uint32_t version;
    uint32_t row_size;
    uint32_t rows; /* workers wanted; as many rows follow */
    uint32_t parent_pid;
    uint64_t parent_start; /* as mp_task_start() tells it, so that a pid used again is noticed */
    uint64_t created_ns;   /* CLOCK_REALTIME */
    mp_a32 state;          /* enum mp_pool_state */
    uint32_t pad;
    mp_a64 jobs;                /* calls that are not answered yet */
    _Alignas(64) mp_a64 queued; /* chunks on their way or running */
    mp_a64 done;                /* chunks done */
    mp_a64 deaths;              /* workers that died uncalled */
    mp_a64 retried;             /* chunks that had to be taken up again */
    mp_a64 memory;              /* bytes of chunks on their way */
    mp_a64 memory_max;
    _Alignas(64) mp_a64 ready; /* how many workers ever got ready: the workers add to it */
    _Alignas(64) struct mp_pool_row row[];
};
static_assert(offsetof(struct mp_pool_page, row) == 192, "layout");

/* ---- messages ---- */

/* An id is {serial:48, place in the parent's table:16}. The serial is never used again, so a late
 * or doubled message about a former chunk fits nothing. */
#define MP_CHUNK_PLACE(id) ((uint32_t)(id)&0xffff)
#define MP_CHUNK_ID(serial, place) ((uint64_t)(serial) << 16 | (place))

struct mp_ticket {
    uint64_t id;
    uint64_t offset; /* of the chunk in the arena */
};

/* ---- chunks ---- */

/*
 * header | name of the function | records | items | second items | results
 *
 * A chunk is a block of the parent, with the room for the results in it, so a worker needs no
 * memory to finish, and what a worker did stays when it dies. The worker that holds the ticket is
 * the only one to write; the next one gets the ticket only after the former is gone for good.
 *
 * `progress` is {index, starts}: the items before `index` are finished, and `index` was started
 * `starts` times. It is one word, stored before each item is run:
 *
 *   | progress   | stored by                          | a worker that dies here leaves          |
 *   |------------|------------------------------------|-----------------------------------------|
 *   | {0, 0}     | the parent                         | a chunk as new                          |
 *   | {i, s}     | the worker, before it runs item i  | item i to be run again, or given up as  |
 *   |            | the s-th time                      | lost when s is the limit; no other item |
 *   | {i, 0}     | the worker that gave up item i - 1 | item i as new                           |
 *   | {count, 0} | the worker, after the last item    | a chunk that is done: the next one says |
 *   |            |                                    | so again, and the parent knows the id   |
 *   |            |                                    | no more                                 |
 *
 * So with any limit an item is never started more often than that, and items beside one that kills
 * its workers neither fail nor run twice.
 *
 * The parent sets `id` to 0 before it frees the block. A worker with a ticket for a chunk that is
 * done and gone (the former holder died between its last two steps) sees another id; it reads id,
 * header, id, so that it never acts on a mixture.
 */
struct mp_chunk {
    mp_a64 id;
    uint64_t job;
    uint64_t first;    /* index of the first item in the job */
    uint64_t function; /* address in the parent: identity; and the function itself after a fork */
    uint64_t size[2];  /* of an item, and of a second item */
    uint64_t result_size; /* room for one result */
    uint32_t count;
    uint16_t flags;
    uint16_t name_size; /* with its NUL; 0: forked, no name needed */
    uint32_t tries;
    /* From here on written by the worker. */
    _Alignas(64) mp_a64 progress;
    mp_a32 worker;     /* id of the last worker that began to run it */
    mp_a32 deliveries; /* how often the ticket was delivered */
    mp_a32 failed; /* 1: what follows is the first failure in here (where there are no records) */
    mp_a32 error;
    mp_a64 failed_index;
    mp_a32 failed_tries;
    mp_a32 failed_worker;
};
static_assert(offsetof(struct mp_chunk, progress) == 128 && sizeof(struct mp_chunk) == 192,
              "layout");

enum {
    MP_CHUNK_RECORDS = 1u << 0, /* each item has a record */
    MP_CHUNK_SECOND = 1u << 1,  /* there are second items */
    MP_CHUNK_FLAGS = 3u,
};

struct mp_record {
    mp_a64 size;        /* of the item, by the parent */
    mp_a64 result_size; /* the rest by the worker */
    mp_a32 error;       /* 0, or a negative errno */
    mp_a32 tries;
    mp_a32 worker; /* error is -EOWNERDEAD: the last worker that died with it */
    uint32_t pad;
};
static_assert(sizeof(struct mp_record) == 32, "layout");

static inline uint64_t mp_progress(uint32_t index, uint32_t starts)
{
    return (uint64_t)index << 32 | starts;
}

static inline uint32_t mp_progress_index(uint64_t progress)
{
    return (uint32_t)(progress >> 32);
}

static inline uint32_t mp_progress_starts(uint64_t progress)
{
    return (uint32_t)progress;
}

/* Where things lie in a chunk: computed on both sides from the same few numbers. */
struct mp_shape {
    uint64_t size[2];
    uint64_t result_size;
    uint32_t count;
    uint16_t flags;
    uint16_t name_size;

    uint64_t stride[2]; /* each item and result is aligned to 16 */
    uint64_t result_stride;
    uint64_t records; /* offsets */
    uint64_t items[2];
    uint64_t results;
    uint64_t total; /* bytes of the whole */
};

/* Computes what follows the first six fields. 0; -EMSGSIZE: beyond @limit bytes, or overflows;
 * -EINVAL: no such flags. */
int mp_shape_compute(struct mp_shape *shape, uint64_t limit);
