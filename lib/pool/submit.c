/* SPDX-License-Identifier: MIT */
/*
 * From calls to chunks on their way.
 *
 * A call makes a job and hands over as many chunks as there is room for; the result thread hands
 * over more as others come back. What bounds them: a number of flights, and the pool's memory. The
 * rest waits in the job: as the caller's own memory while the caller waits, or as a copy, made only
 * if not all was handed over before the call returns. So a map of a million items takes the arena's
 * share of them at a time.
 *
 * Nothing here waits: the lock is held. Where the task queue has no cell free (a worker was stopped
 * in the middle of taking one) tickets stay in pool->unsent, and the result thread tries again.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "pool/pool.h"
#include "process/registry.h"

#define SEND_COUNT 16u
#define SEND_BYTES 65536u

int mp_job_set_function(struct mp_job *job, mp_task_fn *fn)
{
    job->fn = fn;
    if (mp_pool_forks(job->pool->method))
        return 0;
    job->name = mp_registry_task_name(fn);
    if (!job->name || strlen(job->name) > MP_TASK_NAME_MAX)
        return -ENOENT;
    job->name_size = (uint16_t)(strlen(job->name) + 1);
    return 0;
}

int mp_job_open(struct mp_job *job)
{
    mp_pool *p = job->pool;

    if (p->state == MP_POOL_BROKEN || p->broken)
        return -ENOTRECOVERABLE;
    if (p->state != MP_POOL_OPEN)
        return -EPIPE;
    job->number = ++p->next_job;
    job->open = true;
    job->references++;
    atomic_fetch_add_explicit(&p->claims, 1, memory_order_relaxed);
    job->next_open = p->open_jobs;
    if (p->open_jobs)
        p->open_jobs->previous_open = job;
    p->open_jobs = job;
    p->n_open++;
    mp_store_relaxed(&p->page->jobs, p->n_open);
    return 0;
}

void mp_job_set_pending(struct mp_job *job)
{
    if (job->pending)
        return;
    job->pending = true;
    job->next_pending = NULL;
    *job->pool->pending_tail = job;
    job->pool->pending_tail = &job->next_pending;
}

void mp_job_unset_pending(struct mp_job *job)
{
    mp_pool *p = job->pool;

    if (!job->pending)
        return;
    for (struct mp_job **at = &p->pending; *at; at = &(*at)->next_pending) {
        if (*at != job)
            continue;
        *at = job->next_pending;
        if (p->pending_tail == &job->next_pending)
            p->pending_tail = at;
        break;
    }
    job->pending = false;
}

void mp_job_shape(const struct mp_job *job, struct mp_shape *ret_shape)
{
    *ret_shape = (struct mp_shape){
        .size = {job->size[0], job->size[1]},
        .result_size = job->result_size,
        .count = 1,
        .flags = (uint16_t)((job->kind == MP_JOB_MAP ? 0 : MP_CHUNK_RECORDS) |
                            (job->two ? MP_CHUNK_SECOND : 0)),
        .name_size = job->name_size,
    };
}

uint64_t mp_job_chunk_most(const struct mp_job *job)
{
    struct mp_shape s;
    uint64_t each;

    mp_job_shape(job, &s);
    if (mp_shape_compute(&s, job->pool->chunk_limit) < 0)
        return 0;
    each = s.stride[0] + s.stride[1] + s.result_stride +
           (s.flags & MP_CHUNK_RECORDS ? sizeof(struct mp_record) : 0);
    if (each == 0)
        return UINT32_MAX;
    if (s.total >= job->pool->chunk_aim)
        return 1;
    return mp_min((job->pool->chunk_aim - s.total) / each + 1, (uint64_t)UINT32_MAX);
}

/* ---- launching ---- */

/* Memory goes by powers of two. */
static uint64_t cost_of(uint64_t bytes)
{
    return bytes <= 64 ? 64 : UINT64_C(1) << (64 - __builtin_clzll(bytes - 1));
}

/* From packed to aligned to 16. The sizes of ints, longs and pointers go without a call. */
static void scatter(char *to, uint64_t stride, const char *from, uint64_t size, uint64_t n)
{
    if (size == stride) {
        if (size)
            memcpy(to, from, n * size);
    } else if (size == 8) {
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + i * 16, from + i * 8, 8);
    } else if (size == 4) {
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + i * 16, from + i * 4, 4);
    } else {
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + i * stride, from + i * size, size);
    }
}

static void fill_piece(struct mp_flight *f)
{
    const struct mp_shape *s = &f->shape;
    struct mp_record *records = (struct mp_record *)(void *)((char *)f->chunk + s->records);

    for (uint32_t i = 0; i < s->count; i++)
        mp_store_relaxed(&records[i].size, f->piece->answers[i].size);
    if (s->stride[0])
        memcpy((char *)f->chunk + s->items[0], f->piece->items, s->count * s->stride[0]);
}

static void fill_items(struct mp_flight *f)
{
    const struct mp_job *job = f->job;
    const struct mp_shape *s = &f->shape;
    char *base = (char *)f->chunk;

    for (int i = 0; i < 2; i++) {
        if (s->size[i])
            scatter(base + s->items[i], s->stride[i], job->items[i] + f->first * s->size[i],
                    s->size[i], s->count);
    }
    if (s->flags & MP_CHUNK_RECORDS)
        mp_store_relaxed(&((struct mp_record *)(void *)(base + s->records))->size, s->size[0]);
}

static void fill_chunk(mp_pool *p, struct mp_flight *f)
{
    struct mp_chunk *c = f->chunk;
    const struct mp_shape *s = &f->shape;

    c->job = f->job->number;
    c->first = f->first;
    c->function = (uintptr_t)f->job->fn;
    c->size[0] = s->size[0];
    c->size[1] = s->size[1];
    c->result_size = s->result_size;
    c->count = s->count;
    c->flags = s->flags;
    c->name_size = s->name_size;
    c->tries = p->tries;
    mp_store_relaxed(&c->progress, 0);
    mp_store_relaxed(&c->worker, 0);
    mp_store_relaxed(&c->deliveries, 0);
    mp_store_relaxed(&c->failed, 0);
    if (s->name_size)
        memcpy((char *)c + sizeof *c, f->job->name, s->name_size);
    if (f->piece)
        fill_piece(f);
    else
        fill_items(f);
    /* The workers read the ticket first, which the queue hands over; the id is for those who come
     * late with an old one. */
    mp_store_release(&c->id, f->id);
}

/* A block for as many of the items as there is memory for. 0; -EAGAIN: when others have come back;
 * -ENOBUFS: not even for one, and no other will come back. */
static int get_block(mp_pool *p, struct mp_flight *f)
{
    void *block;
    int r;

    for (;;) {
        r = mp_shape_compute(&f->shape, p->chunk_limit);
        if (r < 0)
            return r;
        f->bytes = cost_of(f->shape.total);
        if (p->n_flying > 0 && p->flying_bytes + f->bytes > p->memory)
            return -EAGAIN;
        r = mp_block_alloc(p->arena, f->shape.total, 0, &block);
        if (r == 0)
            break;
        if (r != -ENOBUFS)
            return r;
        if (p->n_flying > 0)
            return -EAGAIN;
        if (f->shape.count == 1 || f->piece)
            return -ENOBUFS;
        f->shape.count = (f->shape.count + 1) / 2;
    }
    f->chunk = block;
    return 0;
}

/* The next chunk of this job. 0; -EAGAIN: no room now; another error fails the job. */
static int launch(mp_pool *p, struct mp_job *job)
{
    uint32_t place = p->free_place;
    struct mp_iterator *it = job->kind == MP_JOB_IMAP ? (struct mp_iterator *)job : NULL;
    struct mp_flight *f;
    uint32_t next_free;
    int r;

    if (p->n_flying == p->n_places)
        return -EAGAIN;
    f = &p->flights[place];
    next_free = f->next_free;
    *f = (struct mp_flight){.job = job, .next_free = next_free};
    mp_job_shape(job, &f->shape);
    if (it) {
        f->piece = it->unsent;
        f->first = f->piece->first;
        f->shape.count = f->piece->count;
    } else {
        f->first = job->next;
        f->shape.count = (uint32_t)mp_min(job->n - job->next, job->chunksize);
    }
    r = get_block(p, f);
    if (r < 0)
        return r;

    p->free_place = next_free;
    f->id = MP_CHUNK_ID(++p->next_serial, place);
    fill_chunk(p, f);
    p->unsent[p->n_unsent++] = (struct mp_ticket){
        .id = f->id,
        .offset = (uint64_t)((char *)f->chunk - p->arena->base),
    };
    p->unsent_bytes += f->bytes;
    p->n_flying++;
    p->flying_bytes += f->bytes;
    job->references++;
    if (it)
        mp_iterator_launched(it);
    else
        job->next += f->shape.count;
    if (it ? !it->unsent : job->next == job->n)
        mp_job_unset_pending(job);
    return 0;
}

static void send_tickets(mp_pool *p)
{
    uint32_t sent = 0;
    int r = 0;

    while (sent < p->n_unsent) {
        r = mp_queue_put_batch(p->tasks, p->unsent + sent, sizeof *p->unsent, p->n_unsent - sent,
                               0);
        if (r <= 0)
            break;
        sent += (uint32_t)r;
    }
    p->n_unsent -= sent;
    p->unsent_bytes = 0;
    if (sent && p->n_unsent)
        memmove(p->unsent, p->unsent + sent, p->n_unsent * sizeof *p->unsent);
    if (r < 0 && r != -EAGAIN && r != -ENOBUFS && r != -EPIPE)
        mp_pool_break(p, r, NULL);
}

void mp_pool_feed(mp_pool *p)
{
    struct mp_job *job;
    int r;

    if (p->state > MP_POOL_CLOSED)
        return;
    while ((job = p->pending)) {
        r = launch(p, job);
        if (r == -EAGAIN)
            break;
        if (r < 0)
            mp_job_finish(job, r);
        /* Batches of small ones are cheaper; workers shall not wait for large ones to be filled. */
        else if (p->n_unsent >= SEND_COUNT || p->unsent_bytes >= SEND_BYTES)
            send_tickets(p);
    }
    if (p->n_unsent)
        send_tickets(p);
    mp_store_relaxed(&p->page->queued, p->n_flying);
    mp_store_relaxed(&p->page->memory, p->flying_bytes);
}
