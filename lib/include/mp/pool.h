/* SPDX-License-Identifier: MIT */
#ifndef MP_POOL_H
#define MP_POOL_H

/*
 * A pool of worker processes: multiprocessing.Pool, which outlives its workers.
 *
 *     MP_TASK(cube)
 *     {
 *         int x = *(const int *)task->data;
 *
 *         *(int *)task->result = x * x * x;
 *         return 0;
 *     }
 *
 *     mp_pool *pool;
 *     int in[100], out[100];
 *
 *     mp_pool_new(MP_POOL_OPTIONS(.workers = 4), &pool);
 *     mp_pool_map(pool, cube, in, sizeof in[0], 100, out, sizeof out[0]);
 *     mp_pool_close(pool);
 *     mp_pool_join(pool, MP_FOREVER);
 *     mp_pool_free(pool);
 *
 * A task is a function and bytes. When a worker dies while it runs a task, the task runs again on
 * another worker, up to a number of tries, and then fails with what killed the worker; no call
 * waits for ever because of it. So a task may run more than once: it should not matter, or .tries
 * = 1. A task fails by a negative return (an errno), which get() hands on; then its result counts
 * as empty. Tasks that travel together are tried one by one: one that kills its workers neither
 * fails its neighbours nor makes them run twice.
 *
 * A pool that is not freed is terminated when the process exits. Pools, results and iterators are
 * usable from all threads (an iterator from one at a time), and give -ECHILD in a forked child. On
 * a callback's thread nothing waits: what would have to says -EAGAIN.
 */

#include <stddef.h>
#include <stdint.h>

#include <mp/process.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_pool mp_pool;
typedef struct mp_result mp_result;
typedef struct mp_iterator mp_iterator;

/** What a task is given; all of it lives until the task returns. */
struct mp_task {
    const void *data; /* the item, aligned to 16 */
    size_t size;
    const void *second; /* starmap: the second argument, else NULL */
    size_t second_size;
    void *result;       /* room for the result, aligned to 16, zeroed */
    size_t result_size; /* room in bytes; may be lowered, and counts as the result's size */
    uint32_t tries;     /* 1, more when workers died with it */
};

typedef int mp_task_fn(struct mp_task *task);

/** MP_TASK() - define a task function, known by name to spawned workers. Its parameter is `struct
 * mp_task *task`. Its name must be the only one of its kind, as an entry's. */
#define MP_TASK(function)                          \
    static int function(struct mp_task *task);     \
    MP_FUNCTION_RECORD(function, MP_FUNCTION_TASK) \
    static int function(struct mp_task *task __attribute__((unused)))

struct mp_pool_options {
    size_t struct_size; /* filled by MP_POOL_OPTIONS */
    uint32_t workers;   /* 1 to 512; 0: mp_cpu_count() */
    enum mp_start_method method;
    mp_entry_fn *initializer; /* run once in each worker before its first task; not 0 is a failure.
                                 spawn: MP_ENTRY */
    const void *init_data;    /* for the initializer */
    size_t init_size;
    mp_arena *const *arenas; /* attached in the workers and given to the initializer */
    size_t n_arenas;
    uint32_t max_tasks_per_child; /* chunks after which a worker is replaced; 0: never */
    uint32_t tries;               /* times a task may start, 1 to 255; 0: 3 */
    uint64_t memory;              /* bytes for tasks and results on their way; 0: 64 MiB */
    const char *name;             /* of the pool's arena; NULL: pool */
};

#define MP_POOL_OPTIONS(...) \
    (&(struct mp_pool_options){.struct_size = sizeof(struct mp_pool_options), __VA_ARGS__})

/**
 * mp_pool_new() - start a pool; returns when its workers are started, not when they are
 * initialized.
 *
 * Return: 0; -EINVAL, -ENOENT (spawn: initializer is not an MP_ENTRY), -ENOMEM, -EAGAIN, -EMFILE,
 * -ENFILE, as mp_process_start().
 */
int mp_pool_new(const struct mp_pool_options *options, mp_pool **ret_pool);

/** mp_pool_close() - no more tasks; those given are done, then the workers end. Return: 0; -EINVAL,
 * -ECHILD. */
int mp_pool_close(mp_pool *pool);

/** mp_pool_terminate() - end at once: workers are killed, open results fail with -ECANCELED.
 * Return: 0; -EINVAL, -ECHILD. */
int mp_pool_terminate(mp_pool *pool);

/** mp_pool_join() - wait until all workers have ended and all callbacks have run. Return: 0; -EBUSY
 * (not closed, or an imap's input is not read to its end: who reads it might be who waits);
 * -EAGAIN, -ETIMEDOUT, -EINVAL, -ECHILD. */
int mp_pool_join(mp_pool *pool, uint64_t timeout_ns);

/** mp_pool_free() - terminate if needed, and free. Results stay usable. NULL is fine. Return: NULL.
 */
mp_pool *mp_pool_free(mp_pool *pool);

/* Why a task failed. */
struct mp_failure {
    int error; /* negative errno: what the task returned, -ECANCELED, or -EOWNERDEAD: its workers
                  died */
    uint64_t index; /* of the item */
    uint32_t tries; /* how often it was started */
    pid_t pid; /* -EOWNERDEAD: the last worker that died with it, and how; -ENOTRECOVERABLE: the
                  last one that did not get ready */
    struct mp_exit_info exit;
};

/** mp_pool_apply() - run one task and wait: apply_async and get. @result_capacity bytes at @result;
 * @ret_size may be NULL. */
int mp_pool_apply(mp_pool *pool, mp_task_fn *fn, const void *data, size_t size, void *result,
                  size_t result_capacity, size_t *ret_size);

/**
 * mp_pool_map() - run fn on n items of item_size bytes, packed at items, and wait; the i-th result
 * is written to results + i * result_size (zero-filled when the task lowered its size; results may
 * be NULL when result_size is 0).
 *
 * As Python's: all items are run even if one fails; then the failure with the lowest index is
 * returned.
 *
 * With fork fn may be any function that was there when the workers were started.
 *
 * Return: 0; a task's negative return, -EOWNERDEAD (a task's workers died too often), -ECANCELED
 * (terminated meanwhile), -EPIPE (closed or terminated before), -EINVAL, -ENOENT (spawn: fn is not
 * an MP_TASK), -EMSGSIZE (an item with its result takes more than the pool's memory), -ENOMEM,
 * -EAGAIN, -ECHILD, -ENOTRECOVERABLE (the initializer fails).
 */
int mp_pool_map(mp_pool *pool, mp_task_fn *fn, const void *items, size_t item_size, size_t n,
                void *results, size_t result_size);

/** mp_pool_starmap() - as map, with two arguments an item: task->data from a, task->second from b.
 */
int mp_pool_starmap(mp_pool *pool, mp_task_fn *fn, const void *a, size_t a_size, const void *b,
                    size_t b_size, size_t n, void *results, size_t result_size);

/* For the asynchronous calls; size-first, zero is the default. */
struct mp_async_options {
    size_t struct_size; /* filled by MP_ASYNC_OPTIONS */
    size_t chunksize;   /* items that travel together, fewer where they are large; 0: Python's rule
                           (map) or 1 (imap) */
    void (*callback)(mp_result *result, void *user); /* once, on a thread of the pool, when the
                                                        result is ready; must not block long */
    void *user;
};

#define MP_ASYNC_OPTIONS(...) \
    (&(struct mp_async_options){.struct_size = sizeof(struct mp_async_options), __VA_ARGS__})

/** mp_pool_apply_async() - hand in one task. @result_capacity: the most its result can take. */
int mp_pool_apply_async(mp_pool *pool, mp_task_fn *fn, const void *data, size_t size,
                        size_t result_capacity, const struct mp_async_options *options,
                        mp_result **ret_result);

/** mp_pool_map_async() - hand in n tasks. The items are copied before it returns. */
int mp_pool_map_async(mp_pool *pool, mp_task_fn *fn, const void *items, size_t item_size, size_t n,
                      size_t result_size, const struct mp_async_options *options,
                      mp_result **ret_result);

/** mp_pool_starmap_async() - as map_async, with two arguments an item. */
int mp_pool_starmap_async(mp_pool *pool, mp_task_fn *fn, const void *a, size_t a_size,
                          const void *b, size_t b_size, size_t n, size_t result_size,
                          const struct mp_async_options *options, mp_result **ret_result);

/** mp_result_wait() - wait until ready. Return: 0; -EAGAIN (timeout 0), -ETIMEDOUT, -EINVAL,
 * -ECHILD. */
int mp_result_wait(mp_result *result, uint64_t timeout_ns);

/** mp_result_ready() - Return: 1 or 0; -EINVAL, -ECHILD. */
int mp_result_ready(mp_result *result);

/** mp_result_successful() - Return: 1 all succeeded, 0 not; -EAGAIN (not ready), -EINVAL, -ECHILD.
 */
int mp_result_successful(mp_result *result);

/**
 * mp_result_get() - wait and look at the results.
 * @ret_data: n results of result_size bytes each, packed; belongs to the result. May be NULL.
 * @ret_size: of the whole; for apply the size of the one result. May be NULL.
 *
 * Return: 0; the failure with the lowest index as mp_pool_map(); -EAGAIN, -ETIMEDOUT, -EINVAL,
 * -ECHILD.
 */
int mp_result_get(mp_result *result, uint64_t timeout_ns, const void **ret_data, size_t *ret_size);

/** mp_result_failure() - the failure that get() returned. Return: 0; -ENOENT (none), -EAGAIN (not
 * ready), -EINVAL. */
int mp_result_failure(mp_result *result, struct mp_failure *ret_failure);

/** mp_result_free() - drop it, ready or not; the tasks run on. NULL is fine. Return: NULL. */
mp_result *mp_result_free(mp_result *result);

/** Fills the next item. Return: its size (0 to item_size); negative ends the input: -ENODATA well,
 * anything else as an error. */
typedef ssize_t mp_next_fn(void *user, void *item, size_t item_size);

/**
 * mp_pool_imap() - results one by one, in order, while the input is read as workers need it
 * (bounded: at most 128 chunks, or 64 a worker if that is more, are on their way).
 * @next: gives the items, called on the caller's thread from mp_iterator_next()
 * @options: without a callback
 *
 * Return: 0; -EINVAL, -ENOENT, -EMSGSIZE, -EPIPE, -ENOMEM, -ECHILD, -ENOTRECOVERABLE.
 */
int mp_pool_imap(mp_pool *pool, mp_task_fn *fn, mp_next_fn *next, void *user, size_t item_size,
                 size_t result_size, const struct mp_async_options *options,
                 mp_iterator **ret_iterator);

/** mp_pool_imap_unordered() - as imap, in the order in which they are done. */
int mp_pool_imap_unordered(mp_pool *pool, mp_task_fn *fn, mp_next_fn *next, void *user,
                           size_t item_size, size_t result_size,
                           const struct mp_async_options *options, mp_iterator **ret_iterator);

struct mp_item {
    uint64_t index;   /* its place in the input */
    int error;        /* 0, or why it failed, as in mp_failure.error */
    const void *data; /* valid until the next mp_iterator_next() */
    size_t size;
    struct mp_failure failure; /* when error is not 0 */
};

/** mp_iterator_next() - Return: 1 and the next item; 0 at the end; -EAGAIN, -ETIMEDOUT, -ECANCELED,
 * -ENOTRECOVERABLE, -EINVAL, -ECHILD, or, once and after the items before, what the input said. */
int mp_iterator_next(mp_iterator *iterator, uint64_t timeout_ns, struct mp_item *ret_item);

/** mp_iterator_free() - drop it; what is on its way runs on. NULL is fine. Return: NULL. */
mp_iterator *mp_iterator_free(mp_iterator *iterator);

struct mp_pool_stats {
    uint32_t workers;       /* alive now */
    uint32_t idle;          /* of these, without a task */
    uint64_t queued;        /* chunks on their way or running */
    uint64_t done;          /* chunks done */
    uint64_t worker_deaths; /* workers that died uncalled */
    uint64_t retried;       /* chunks run again */
};

/** mp_pool_stats() - a snapshot. Return: 0; -EINVAL, -ECHILD. */
int mp_pool_stats(mp_pool *pool, struct mp_pool_stats *ret_stats);

/** mp_pool_worker_pids() - the pids of the live workers, up to n of them. Return: how many there
 * are; -EINVAL, -ECHILD. */
int mp_pool_worker_pids(mp_pool *pool, pid_t *ret_pids, size_t n);

static inline void mp_pool_freep(mp_pool **pool)
{
    if (*pool)
        mp_pool_free(*pool);
}

static inline void mp_result_freep(mp_result **result)
{
    if (*result)
        mp_result_free(*result);
}

static inline void mp_iterator_freep(mp_iterator **iterator)
{
    if (*iterator)
        mp_iterator_free(*iterator);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
