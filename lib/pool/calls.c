/* SPDX-License-Identifier: MIT */
/*
 * apply, map and starmap, waiting and not.
 *
 * All are one job. One that waits borrows the caller's items and writes to the caller's results;
 * one that does not owns its results, and copies of the items if they could not all be handed over
 * at once. Small ones lie in the job's own allocation.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "pool/pool.h"

#define INLINE_MAX 4096u

/* What a first version of the options had; later ones may only add to it. */
#define OPTIONS_SIZE_FIRST \
    (offsetof(struct mp_async_options, user) + sizeof((struct mp_async_options *)0)->user)

/* What a call wants. */
struct wish {
    mp_task_fn *fn;
    enum mp_job_kind kind;
    bool two;
    const void *items[2];
    size_t size[2];
    size_t n;
    size_t result_size;
    void *results; /* a call that waits: where to */
    bool waits;
    size_t chunksize;
    void (*callback)(mp_result *result, void *user);
    void *user;
};

static int check_wish(const struct wish *w, size_t bytes[3])
{
    if (!w->fn)
        return -EINVAL;
    for (int i = 0; i < 2; i++) {
        if (__builtin_mul_overflow(w->n, w->size[i], &bytes[i]) || bytes[i] > PTRDIFF_MAX)
            return -EINVAL;
        if (bytes[i] && !w->items[i])
            return -EINVAL;
    }
    if (__builtin_mul_overflow(w->n, w->result_size, &bytes[2]) || bytes[2] > PTRDIFF_MAX)
        return -EINVAL;
    if (w->waits && bytes[2] && !w->results)
        return -EINVAL;
    return 0;
}

int mp_async_options_read(const struct mp_async_options *options, struct mp_async_options *ret)
{
    struct mp_async_options o = {.struct_size = sizeof o};

    if (options) {
        if (options->struct_size < OPTIONS_SIZE_FIRST || options->struct_size > sizeof o)
            return -EINVAL;
        memcpy(&o, options, options->struct_size);
    }
    *ret = o;
    return 0;
}

/* Python's: four chunks for each worker. */
static uint64_t default_chunksize(const mp_pool *p, uint64_t n)
{
    uint64_t share = (uint64_t)p->workers * 4;

    return n / share + (n % share ? 1 : 0);
}

static void free_jobp(struct mp_job **job)
{
    if (*job) {
        free((*job)->own_items);
        free((*job)->own_results);
        free(*job);
    }
}

/* A job with room for its own results, and for copies of its items should it need them. */
static int make_job(mp_pool *p, const struct wish *w, const size_t bytes[3],
                    struct mp_job **ret_job)
{
    size_t items = w->waits ? 0 : bytes[0] + bytes[1];
    size_t results = w->waits ? 0 : bytes[2];
    size_t head = MP_ALIGN_UP(sizeof(struct mp_result), (size_t)16);
    bool inside = results > 0 && results <= INLINE_MAX;
    _cleanup_(free_jobp) struct mp_job *job = NULL;
    uint64_t most;
    int r;

    job = malloc(head + (inside ? results : 0));
    if (!job)
        return -ENOMEM;
    memset(job, 0, head);
    job->pool = p;
    job->kind = w->kind;
    job->two = w->two;
    for (int i = 0; i < 2; i++) {
        job->items[i] = w->items[i];
        job->size[i] = w->size[i];
    }
    job->result_size = w->result_size;
    job->n = w->n;
    job->callback = w->callback;
    job->user = w->user;
    job->references = 1;
    job->results = w->waits ? w->results : inside ? (char *)job + head : NULL;
    if (results > INLINE_MAX) {
        job->own_results = malloc(results);
        if (!job->own_results)
            return -ENOMEM;
        job->results = job->own_results;
    }
    if (items > 0) {
        job->own_items = malloc(items);
        if (!job->own_items)
            return -ENOMEM;
    }

    r = mp_job_set_function(job, w->fn);
    if (r < 0)
        return r;
    most = mp_job_chunk_most(job);
    if (most == 0)
        return -EMSGSIZE;
    job->chunksize = mp_min(w->chunksize ? w->chunksize : default_chunksize(p, w->n), most);
    *ret_job = mp_take_ptr(job);
    return 0;
}

/* The call is about to return, and some items are not handed over: they need memory of our own. Not
 * under the lock, since they may be many; what is handed over meanwhile is still the caller's. */
static void copy_items(struct mp_job *job, const size_t bytes[3])
{
    char *own = job->own_items;

    if (bytes[0])
        memcpy(own, job->items[0], bytes[0]);
    if (bytes[1])
        memcpy(own + bytes[0], job->items[1], bytes[1]);
    mp_pool_lock(job->pool);
    job->items[0] = own;
    job->items[1] = own + bytes[0];
    mp_pool_unlock(job->pool);
}

/* On success the caller has a reference on the job, which may be ready by then. */
static int submit(mp_pool *p, const struct wish *w, struct mp_job **ret_job)
{
    _cleanup_(free_jobp) struct mp_job *job = NULL;
    struct mp_job *opened;
    size_t bytes[3];
    bool copy;
    int r;

    r = mp_pool_check(p);
    if (r < 0)
        return r;
    r = check_wish(w, bytes);
    if (r < 0)
        return r;
    if (w->waits && mp_pool_is_result_thread(p))
        return -EAGAIN;
    r = make_job(p, w, bytes, &job);
    if (r < 0)
        return r;

    mp_pool_lock(p);
    r = mp_job_open(job);
    if (r < 0) {
        mp_pool_unlock(p);
        return r;
    }
    opened = mp_take_ptr(job);
    /* Before anything can run: a callback may look at it. */
    *ret_job = opened;
    if (opened->n == 0) {
        mp_job_finish(opened, 0);
    } else {
        mp_job_set_pending(opened);
        mp_pool_feed(p);
    }
    copy = !w->waits && opened->pending;
    if (copy)
        opened->references++; /* its callback may run, and free it, while we copy */
    mp_pool_unlock(p);
    if (copy) {
        copy_items(opened, bytes);
        mp_job_release(opened);
    }
    return 0;
}

/* Submit, wait, and tell how it went. */
static int run(mp_pool *p, const struct wish *w, size_t *ret_size)
{
    struct mp_job *job;
    int r;

    r = submit(p, w, &job);
    if (r < 0)
        return r;
    mp_pool_wait(&job->ready, MP_JOB_NOT_READY, MP_FOREVER);
    r = job->failure.error;
    if (r == 0 && ret_size)
        *ret_size = job->result_used;
    mp_job_release(job);
    return r;
}

/* Submit, and give the result. */
static int start(mp_pool *p, struct wish *w, const struct mp_async_options *options,
                 mp_result **ret_result)
{
    struct mp_async_options o;
    int r;

    if (!ret_result)
        return -EINVAL;
    r = mp_async_options_read(options, &o);
    if (r < 0)
        return r;
    if (w->kind == MP_JOB_MAP)
        w->chunksize = o.chunksize;
    w->callback = o.callback;
    w->user = o.user;
    return submit(p, w, (struct mp_job **)ret_result);
}

int mp_pool_apply(mp_pool *pool, mp_task_fn *fn, const void *data, size_t size, void *result,
                  size_t result_capacity, size_t *ret_size)
{
    struct wish w = {
        .fn = fn,
        .kind = MP_JOB_APPLY,
        .items = {data},
        .size = {size},
        .n = 1,
        .result_size = result_capacity,
        .results = result,
        .waits = true,
    };

    return run(pool, &w, ret_size);
}

int mp_pool_map(mp_pool *pool, mp_task_fn *fn, const void *items, size_t item_size, size_t n,
                void *results, size_t result_size)
{
    struct wish w = {
        .fn = fn,
        .kind = MP_JOB_MAP,
        .items = {items},
        .size = {item_size},
        .n = n,
        .result_size = result_size,
        .results = results,
        .waits = true,
    };

    return run(pool, &w, NULL);
}

int mp_pool_starmap(mp_pool *pool, mp_task_fn *fn, const void *a, size_t a_size, const void *b,
                    size_t b_size, size_t n, void *results, size_t result_size)
{
    struct wish w = {
        .fn = fn,
        .kind = MP_JOB_MAP,
        .two = true,
        .items = {a, b},
        .size = {a_size, b_size},
        .n = n,
        .result_size = result_size,
        .results = results,
        .waits = true,
    };

    return run(pool, &w, NULL);
}

int mp_pool_apply_async(mp_pool *pool, mp_task_fn *fn, const void *data, size_t size,
                        size_t result_capacity, const struct mp_async_options *options,
                        mp_result **ret_result)
{
    struct wish w = {
        .fn = fn,
        .kind = MP_JOB_APPLY,
        .items = {data},
        .size = {size},
        .n = 1,
        .result_size = result_capacity,
    };

    return start(pool, &w, options, ret_result);
}

int mp_pool_map_async(mp_pool *pool, mp_task_fn *fn, const void *items, size_t item_size, size_t n,
                      size_t result_size, const struct mp_async_options *options,
                      mp_result **ret_result)
{
    struct wish w = {
        .fn = fn,
        .kind = MP_JOB_MAP,
        .items = {items},
        .size = {item_size},
        .n = n,
        .result_size = result_size,
    };

    return start(pool, &w, options, ret_result);
}

int mp_pool_starmap_async(mp_pool *pool, mp_task_fn *fn, const void *a, size_t a_size,
                          const void *b, size_t b_size, size_t n, size_t result_size,
                          const struct mp_async_options *options, mp_result **ret_result)
{
    struct wish w = {
        .fn = fn,
        .kind = MP_JOB_MAP,
        .two = true,
        .items = {a, b},
        .size = {a_size, b_size},
        .n = n,
        .result_size = result_size,
    };

    return start(pool, &w, options, ret_result);
}
