/* SPDX-License-Identifier: MIT */
/*
 * The result thread: completes chunks, hands over more, runs callbacks.
 *
 * A completed chunk is the parent's again. Nothing in it but the results, the records and the note
 * of the first failure is looked at; how many items there are and where they lie the flight knows.
 * A worker that says "done" of a chunk that is not (hostile; the library's own never does) is not
 * believed. Large results of apply and imap are lent: they stay in the arena until their owner has
 * done with them, a quarter of the pool's memory at most, so that those who keep results can not
 * bring the pool to a stop.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "pool/pool.h"

#define BATCH 32u
/* How long tickets that found no cell wait, if nothing comes back meanwhile. */
#define AGAIN_NS MP_MSEC(1)

/* ---- memory left in the arena ---- */

static bool can_lend(mp_pool *p, uint64_t bytes)
{
    return bytes >= MP_LEND_MIN && p->lent_bytes + bytes <= p->memory / 4;
}

static struct mp_loan lend(mp_pool *p, struct mp_flight *f)
{
    struct mp_loan loan = {.block = f->chunk, .bytes = f->bytes};

    p->lent_bytes += loan.bytes;
    f->chunk = NULL;
    return loan;
}

void mp_pool_take_back(mp_pool *p, struct mp_loan *loan)
{
    if (!loan->block)
        return;
    mp_block_free(p->arena, loan->block);
    p->lent_bytes -= loan->bytes;
    *loan = (struct mp_loan){0};
    if (p->user_freed && p->lent_bytes == 0)
        mp_pool_close_arena(p);
}

static void end_flight(mp_pool *p, struct mp_flight *f)
{
    struct mp_job *job = f->job;

    if (f->chunk)
        mp_block_free(p->arena, f->chunk);
    p->n_flying--;
    p->flying_bytes -= f->bytes;
    *f = (struct mp_flight){.next_free = p->free_place};
    p->free_place = (uint32_t)(f - p->flights);
    if (mp_job_drop(job))
        mp_pool_unclaim(p); /* not the last: this thread has one */
}

/* ---- jobs ---- */

bool mp_job_drop(struct mp_job *job)
{
    if (--job->references > 0)
        return false;
    mp_pool_take_back(job->pool, &job->loan);
    if (job->kind == MP_JOB_IMAP)
        mp_iterator_clear((struct mp_iterator *)job);
    free(job->own_items);
    free(job->own_results);
    free(job);
    return true;
}

void mp_job_release(struct mp_job *job)
{
    mp_pool *p = job->pool;
    bool last;

    mp_pool_lock(p);
    last = mp_job_drop(job);
    mp_pool_unlock(p);
    if (last)
        mp_pool_drop(p);
}

void mp_job_finish(struct mp_job *job, int error)
{
    mp_pool *p = job->pool;

    if (!job->open)
        return;
    if (error == -ENOTRECOVERABLE)
        job->failure = p->broken_failure;
    else if (error)
        job->failure = (struct mp_failure){.error = error};
    mp_job_unset_pending(job);
    job->open = false;
    if (job->next_open)
        job->next_open->previous_open = job->previous_open;
    if (job->previous_open)
        job->previous_open->next_open = job->next_open;
    else
        p->open_jobs = job->next_open;
    p->n_open--;
    mp_store_relaxed(&p->page->jobs, p->n_open);
    if (job->kind == MP_JOB_IMAP)
        mp_iterator_end((struct mp_iterator *)job);
    mp_pool_notify(p, &job->ready, MP_JOB_READY);

    if (job->callback) {
        job->next_callback = NULL; /* the reference goes with it */
        *p->callbacks_tail = job;
        p->callbacks_tail = &job->next_callback;
        if (!mp_pool_is_result_thread(p))
            mp_pool_poke_results(p);
    } else if (mp_job_drop(job)) {
        mp_pool_unclaim(p); /* not the last: who calls has one */
    }
    if (p->n_open == 0 && p->state == MP_POOL_CLOSED)
        mp_pool_poke(p);
}

void mp_job_fail_item(struct mp_job *job, const struct mp_failure *failure)
{
    if (job->failure.error == 0 || failure->index < job->failure.index)
        job->failure = *failure;
}

void mp_pool_fail_all(mp_pool *p, int error)
{
    while (p->open_jobs)
        mp_job_finish(p->open_jobs, error);
    /* What is on its way is still being written by workers: the blocks go with the arena. */
    for (uint32_t i = 0; i < p->n_places; i++) {
        struct mp_flight *f = &p->flights[i];

        if (f->id == 0)
            continue;
        f->chunk = NULL;
        end_flight(p, f);
    }
    p->n_unsent = 0;
}

/* ---- completing ---- */

/* The opposite of scatter(), in submit.c. */
static void gather(char *to, const char *from, uint64_t stride, uint64_t size, uint64_t n)
{
    if (size == stride) {
        if (size)
            memcpy(to, from, n * size);
    } else if (size == 8) {
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + i * 8, from + i * 16, 8);
    } else if (size == 4) {
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + i * 4, from + i * 16, 4);
    } else {
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + i * size, from + i * stride, size);
    }
}

/* What a worker wrote down about an item, each word read once: it may be changed at any time. */
struct told {
    uint64_t result_size;
    int error;
    uint32_t tries;
    uint32_t worker;
};

static struct told read_record(const struct mp_flight *f, uint32_t i)
{
    char *records = (char *)f->chunk + f->shape.records;
    struct mp_record *record = (struct mp_record *)(void *)records + i;
    uint64_t size = mp_load_relaxed(&record->result_size);
    struct told told = {
        .result_size = mp_min(size, f->shape.result_size),
        .error = (int)mp_load_relaxed(&record->error),
        .tries = mp_load_relaxed(&record->tries),
        .worker = mp_load_relaxed(&record->worker),
    };

    if (told.error > 0)
        told.error = -EPROTO;
    return told;
}

static struct mp_failure failure_of(mp_pool *p, const struct mp_flight *f, uint64_t i,
                                    const struct told *told)
{
    struct mp_failure failure = {
        .error = told->error,
        .index = f->first + i,
        .tries = told->tries,
    };

    if (told->error == -EOWNERDEAD && told->worker)
        mp_pool_death_of(p, told->worker, &failure);
    return failure;
}

static void take_map(mp_pool *p, struct mp_flight *f)
{
    struct mp_job *job = f->job;
    const struct mp_shape *s = &f->shape;
    struct mp_chunk *c = f->chunk;

    if (mp_load_acquire(&c->failed)) {
        uint64_t i = mp_load_relaxed(&c->failed_index);
        int error = (int)mp_load_relaxed(&c->error);
        struct told told = {
            .error = error < 0 ? error : -EPROTO,
            .tries = mp_load_relaxed(&c->failed_tries),
            .worker = mp_load_relaxed(&c->failed_worker),
        };
        struct mp_failure failure = failure_of(p, f, mp_min(i, s->count - UINT64_C(1)), &told);

        mp_job_fail_item(job, &failure);
    }
    if (s->result_size)
        gather(job->results + f->first * s->result_size, (const char *)c + s->results,
               s->result_stride, s->result_size, s->count);
    job->done += s->count;
    if (job->done == job->n)
        mp_job_finish(job, 0);
}

static void take_apply(mp_pool *p, struct mp_flight *f)
{
    struct mp_job *job = f->job;
    const struct mp_shape *s = &f->shape;
    char *base = (char *)f->chunk;
    struct told told = read_record(f, 0);

    if (told.error) {
        job->failure = failure_of(p, f, 0, &told);
        mp_job_finish(job, 0);
        return;
    }
    job->result_used = told.result_size;
    if (!job->results && can_lend(p, job->result_used)) {
        job->loan = lend(p, f);
        job->results = base + s->results;
    } else if (!job->results && job->result_used) {
        job->own_results = malloc(job->result_used);
        if (!job->own_results) {
            mp_job_finish(job, -ENOMEM);
            return;
        }
        job->results = job->own_results;
    }
    if (job->result_used && !job->loan.block)
        memcpy(job->results, base + s->results, job->result_used);
    mp_job_finish(job, 0);
}

static struct mp_answer answer_of(mp_pool *p, const struct mp_flight *f, uint32_t i)
{
    struct told told = read_record(f, i);
    struct mp_answer answer = {.size = told.result_size, .error = told.error};

    if (told.error) {
        answer.size = 0;
        answer.failure = malloc(sizeof *answer.failure); /* without it the error alone is told */
        if (answer.failure)
            *answer.failure = failure_of(p, f, i, &told);
    }
    return answer;
}

static void take_piece(mp_pool *p, struct mp_flight *f)
{
    const struct mp_shape *s = &f->shape;
    struct mp_piece *piece = f->piece;
    uint64_t bytes = s->count * s->result_stride;
    char *results = (char *)f->chunk + s->results;
    int error = 0;

    for (uint32_t i = 0; i < s->count; i++)
        piece->answers[i] = answer_of(p, f, i);
    if (can_lend(p, bytes)) {
        piece->loan = lend(p, f);
        piece->results = results;
    } else {
        error = mp_piece_keep(piece, results, bytes);
    }
    for (uint32_t i = 0; error && i < s->count; i++) {
        piece->answers[i].size = 0;
        piece->answers[i].error = error;
    }
    mp_iterator_arrive((struct mp_iterator *)f->job, piece);
}

void mp_pool_complete(mp_pool *p, uint64_t id)
{
    uint32_t place = MP_CHUNK_PLACE(id), deliveries;
    struct mp_flight *f;

    if (id == 0 || place >= p->n_places || p->flights[place].id != id)
        return;
    f = &p->flights[place];
    if (mp_progress_index(mp_load_acquire(&f->chunk->progress)) != f->shape.count)
        return;
    deliveries = mp_load_relaxed(&f->chunk->deliveries);
    mp_store_relaxed(&p->page->done, ++p->done_chunks);
    if (deliveries > 1 && deliveries <= 255)
        mp_store_relaxed(&p->page->retried, p->retried += deliveries - 1);

    /* From here on a ticket for it that is still held, or is delivered again, fits nothing. */
    mp_store_relaxed(&f->chunk->id, 0);
    atomic_thread_fence(memory_order_release);
    f->id = 0;
    if (f->job->open && f->job->kind == MP_JOB_MAP)
        take_map(p, f);
    else if (f->job->open && f->job->kind == MP_JOB_APPLY)
        take_apply(p, f);
    else if (f->job->open)
        take_piece(p, f);
    end_flight(p, f);
}

/* ---- the thread ---- */

/* With the lock, which is given up for each callback. */
static void run_callbacks(mp_pool *p)
{
    struct mp_job *job;

    while ((job = p->callbacks)) {
        p->callbacks = job->next_callback;
        if (!p->callbacks)
            p->callbacks_tail = &p->callbacks;
        mp_pool_unlock(p);
        job->callback((mp_result *)job, job->user);
        mp_pool_lock(p);
        if (mp_job_drop(job))
            mp_pool_unclaim(p); /* not the last: this thread has one */
    }
}

void *mp_pool_result_main(void *arg)
{
    mp_pool *p = arg;
    struct mp_message messages[BATCH];
    uint64_t ids[BATCH], timeout = MP_FOREVER;
    int n;

    for (;;) {
        n = mp_queue_receive_batch(p->results, BATCH, timeout, messages);
        if (n < 0 && n != -ETIMEDOUT)
            break;
        for (int i = 0; i < n; i++) {
            ids[i] = 0;
            if (messages[i].size == sizeof ids[i])
                memcpy(&ids[i], messages[i].data, sizeof ids[i]);
        }
        if (n > 0)
            mp_queue_release_batch(p->results, messages, (uint32_t)n);

        mp_pool_lock(p);
        for (int i = 0; i < n; i++)
            mp_pool_complete(p, ids[i]);
        mp_pool_feed(p);
        run_callbacks(p);
        timeout = p->n_unsent ? AGAIN_NS : MP_FOREVER;
        mp_pool_unlock(p);
    }

    mp_pool_lock(p);
    if (n != -EPIPE)
        mp_pool_break(p, n, NULL);
    run_callbacks(p);
    mp_pool_unlock(p);
    mp_pool_leave(p);
    return NULL;
}

/* ---- results, for their users ---- */

static int check(mp_result *result)
{
    return result ? mp_pool_check(result->job.pool) : -EINVAL;
}

static bool is_ready(mp_result *result)
{
    return mp_load_acquire(&result->job.ready) == MP_JOB_READY;
}

int mp_result_wait(mp_result *result, uint64_t timeout_ns)
{
    int r = check(result);

    if (r < 0)
        return r;
    if (is_ready(result))
        return 0;
    /* The thread that would make it ready must not wait for it. */
    if (mp_pool_is_result_thread(result->job.pool))
        return -EAGAIN;
    return mp_pool_wait(&result->job.ready, MP_JOB_NOT_READY, mp_deadline(timeout_ns));
}

int mp_result_ready(mp_result *result)
{
    int r = check(result);

    return r < 0 ? r : is_ready(result);
}

int mp_result_successful(mp_result *result)
{
    int r = check(result);

    if (r < 0)
        return r;
    if (!is_ready(result))
        return -EAGAIN;
    return result->job.failure.error == 0;
}

int mp_result_get(mp_result *result, uint64_t timeout_ns, const void **ret_data, size_t *ret_size)
{
    int r = mp_result_wait(result, timeout_ns);

    if (r < 0)
        return r;
    if (result->job.failure.error)
        return result->job.failure.error;
    if (ret_data)
        *ret_data = result->job.results;
    if (ret_size)
        *ret_size = result->job.kind == MP_JOB_APPLY ? result->job.result_used
                                                     : result->job.n * result->job.result_size;
    return 0;
}

int mp_result_failure(mp_result *result, struct mp_failure *ret_failure)
{
    int r = check(result);

    if (r < 0)
        return r;
    if (!ret_failure)
        return -EINVAL;
    if (!is_ready(result))
        return -EAGAIN;
    if (result->job.failure.error == 0)
        return -ENOENT;
    *ret_failure = result->job.failure;
    return 0;
}

mp_result *mp_result_free(mp_result *result)
{
    /* In a forked child it is the parent's, lock and all. */
    if (result && check(result) == 0)
        mp_job_release(&result->job);
    return NULL;
}
