/* SPDX-License-Identifier: MIT */
/*
 * The worker: receives a ticket, runs the items of its chunk, says that the chunk is done, gives
 * the ticket back; in this order.
 *
 * It holds the ticket until all is said, so a worker that dies anywhere leaves a ticket that is
 * delivered to the next one, and the chunk's `progress` tells that one where to go on (the table in
 * pool/layout.h). A worker that dies after it said "done" leaves a ticket whose chunk is finished:
 * the next one says "done" once more, which the parent ignores. Between two items there is one
 * store and nothing else to be torn.
 *
 * Nothing in the arena is believed here: a ticket or a chunk that makes no sense is dropped, and
 * what a chunk says about its geometry is read once and checked against the arena. The one thing
 * that cannot be checked is the address of the function in a forked pool; a pool whose workers do
 * not trust each other spawns them, where only registered names run.
 */

#include <errno.h>
#include <signal.h>
#include <string.h>

#include <mp/pool.h>
#include <mp/queue.h>

#include "arena/arena.h"
#include "arena/block.h"
#include "base/clock.h"
#include "pool/layout.h"
#include "pool/worker.h"
#include "process/registry.h"

struct worker {
    mp_arena *arena;
    mp_queue *tasks;
    mp_queue *results;
    struct mp_pool_page *page;
    struct mp_pool_row *row;
    uint32_t id;
    uint32_t max_tasks;
    /* The function looked up last: a job has many chunks. */
    uint64_t identity;
    mp_task_fn *function;
};

/* A chunk as this worker sees it: the header read once, and checked. */
struct view {
    struct mp_chunk *chunk;
    struct mp_shape shape;
    uint64_t id;
    uint64_t job;
    uint64_t first;
    uint32_t tries;
    mp_task_fn *function;
};

static mp_task_fn *find_function(struct worker *w, const struct mp_chunk *c, uint16_t name_size,
                                 uint64_t identity)
{
    char name[MP_TASK_NAME_MAX + 1];
    mp_task_fn *fn;

    if (name_size == 0)
        return (mp_task_fn *)(uintptr_t)identity; /* forked: the same image */
    if (w->function && w->identity == identity)
        return w->function;
    if (name_size > sizeof name)
        return NULL;
    memcpy(name, (const char *)c + sizeof *c, name_size);
    name[name_size - 1] = '\0';
    fn = mp_registry_task(name);
    if (fn) {
        w->function = fn;
        w->identity = identity;
    }
    return fn;
}

/* 0; -ESTALE: the chunk is not there any more; -EPROTO: the ticket or the chunk makes no sense. */
static int view_chunk(struct worker *w, const struct mp_message *m, struct view *ret)
{
    struct mp_ticket ticket;
    struct view v = {0};
    uint64_t total = w->arena->geometry.total;
    uint64_t identity;

    if (m->size != sizeof ticket)
        return -EPROTO;
    memcpy(&ticket, m->data, sizeof ticket);
    if (ticket.id == 0 || ticket.offset % 64 || ticket.offset > total ||
        total - ticket.offset < sizeof(struct mp_chunk))
        return -EPROTO;

    v.chunk = (struct mp_chunk *)(void *)(w->arena->base + ticket.offset);
    v.id = ticket.id;
    if (mp_load_acquire(&v.chunk->id) != v.id)
        return -ESTALE;
    v.job = v.chunk->job;
    v.first = v.chunk->first;
    v.tries = v.chunk->tries;
    v.shape = (struct mp_shape){
        .size = {v.chunk->size[0], v.chunk->size[1]},
        .result_size = v.chunk->result_size,
        .count = v.chunk->count,
        .flags = v.chunk->flags,
        .name_size = v.chunk->name_size,
    };
    identity = v.chunk->function;
    /* Pairs with the parent, who takes the id away before it frees the block. */
    atomic_thread_fence(memory_order_acquire);
    if (mp_load_relaxed(&v.chunk->id) != v.id)
        return -ESTALE;

    if (mp_shape_compute(&v.shape, total - ticket.offset) < 0)
        return -EPROTO;
    v.function = find_function(w, v.chunk, v.shape.name_size, identity);
    if (!v.function)
        return -EPROTO;
    *ret = v;
    return 0;
}

static struct mp_record *record_of(const struct view *v, uint32_t i)
{
    if (!(v->shape.flags & MP_CHUNK_RECORDS))
        return NULL;
    return (struct mp_record *)(void *)((char *)v->chunk + v->shape.records) + i;
}

static void *result_of(const struct view *v, uint32_t i)
{
    return (char *)v->chunk + v->shape.results + i * v->shape.result_stride;
}

static void clear(void *at, uint64_t bytes)
{
    if (bytes == 16)
        memset(at, 0, 16); /* a constant: two stores */
    else
        memset(at, 0, bytes);
}

/* Without records only the first failure counts. `failed` is stored last: what a dying worker left
 * half written is written again by the next, which starts at the same item. */
static void fail_item(const struct view *v, uint32_t i, int error, uint32_t tries, uint32_t worker)
{
    struct mp_record *record = record_of(v, i);
    struct mp_chunk *c = v->chunk;

    clear(result_of(v, i), v->shape.result_stride);
    if (record) {
        mp_store_relaxed(&record->result_size, 0);
        mp_store_relaxed(&record->tries, tries);
        mp_store_relaxed(&record->worker, worker);
        mp_store_relaxed(&record->error, (uint32_t)error);
    } else if (!mp_load_relaxed(&c->failed)) {
        mp_store_relaxed(&c->error, (uint32_t)error);
        mp_store_relaxed(&c->failed_index, i);
        mp_store_relaxed(&c->failed_tries, tries);
        mp_store_relaxed(&c->failed_worker, worker);
        mp_store_release(&c->failed, 1);
    }
}

static void run_item(const struct view *v, uint32_t i, uint32_t tries)
{
    const struct mp_shape *s = &v->shape;
    struct mp_record *record = record_of(v, i);
    uint64_t size = record ? mp_load_relaxed(&record->size) : s->size[0];
    char *base = (char *)v->chunk;
    struct mp_task task = {
        .data = base + s->items[0] + i * s->stride[0],
        .size = mp_min(size, s->size[0]),
        .second = s->flags & MP_CHUNK_SECOND ? base + s->items[1] + i * s->stride[1] : NULL,
        .second_size = s->size[1],
        .result = result_of(v, i),
        .result_size = s->result_size,
        .tries = tries,
    };
    char *result = task.result;
    int r;

    clear(result, s->result_stride);
    r = v->function(&task);
    task.result_size = mp_min(task.result_size, (size_t)s->result_size);
    if (r < 0) {
        fail_item(v, i, r, tries, 0);
        return;
    }
    if (record) {
        mp_store_relaxed(&record->result_size, task.result_size);
        mp_store_relaxed(&record->tries, tries);
        mp_store_relaxed(&record->error, 0);
    } else if (task.result_size < s->result_size) {
        memset(result + task.result_size, 0, s->result_size - task.result_size);
    }
}

/* All items from where the chunk stands. It may be done already: then nothing is written, since the
 * parent may be about to free it. */
static void run_chunk(struct worker *w, const struct view *v, uint32_t deliveries)
{
    struct mp_chunk *c = v->chunk;
    uint64_t progress = mp_load_acquire(&c->progress);
    uint32_t i = mp_progress_index(progress), starts = mp_progress_starts(progress);
    uint32_t count = v->shape.count;

    if (i >= count)
        return;
    mp_store_relaxed(&c->deliveries, deliveries);
    if (mp_load_relaxed(&c->failed) && mp_load_relaxed(&c->failed_index) == i)
        mp_store_relaxed(&c->failed, 0);
    if (starts >= v->tries) {
        fail_item(v, i, -EOWNERDEAD, starts, mp_load_relaxed(&c->worker));
        starts = 0;
        mp_store_release(&c->progress, mp_progress(++i, 0));
    }
    mp_store_release(&c->worker, w->id);
    for (; i < count; i++, starts = 0) {
        mp_store_release(&c->progress, mp_progress(i, starts + 1));
        run_item(v, i, starts + 1);
    }
    mp_store_release(&c->progress, mp_progress(count, 0));
}

static void show_running(struct worker *w, const struct view *v)
{
    mp_store_relaxed(&w->row->job, v->job);
    mp_store_relaxed(&w->row->chunk, v->id);
    mp_store_relaxed(&w->row->first, v->first);
    mp_store_relaxed(&w->row->count, v->shape.count);
    mp_store_relaxed(&w->row->since_ns, mp_now_ns());
    mp_store_relaxed(&w->row->state, MP_WORKER_RUNNING);
}

static void show_idle(struct worker *w)
{
    mp_store_relaxed(&w->row->done, mp_load_relaxed(&w->row->done) + 1);
    mp_store_relaxed(&w->row->state, MP_WORKER_IDLE);
}

/* One ticket. 0; negative: no more of them. */
static int work_once(struct worker *w)
{
    struct mp_message message;
    struct view v;
    int r;

    r = mp_queue_receive(w->tasks, MP_FOREVER, &message);
    if (r < 0)
        return r;
    r = view_chunk(w, &message, &v);
    if (r < 0)
        return mp_queue_release(w->tasks, &message);
    show_running(w, &v);
    run_chunk(w, &v, message.deliveries);
    r = mp_queue_put(w->results, &v.id, sizeof v.id, MP_FOREVER);
    if (r < 0)
        return r;
    show_idle(w);
    return mp_queue_release(w->tasks, &message);
}

static int work(struct worker *w)
{
    int r;

    for (uint32_t n = 0; w->max_tasks == 0 || n < w->max_tasks; n++) {
        r = work_once(w);
        if (r < 0) {
            mp_store_relaxed(&w->row->state, MP_WORKER_ENDING);
            return r == -EPIPE ? 0 : 1;
        }
    }
    mp_store_relaxed(&w->row->state, MP_WORKER_RETIRED);
    return 0;
}

/* What the initializer returned, or 1 where it is not there. */
static int initialize(const struct mp_worker_args *args, const struct mp_call *call)
{
    const char *name = (const char *)(args + 1);
    struct mp_call own = {
        .data = name + MP_WORKER_NAME_ROOM(args->name_size),
        .size = args->init_size,
        .arenas = call->arenas + 1,
        .n_arenas = call->n_arenas - 1,
    };
    mp_entry_fn *fn = (mp_entry_fn *)(uintptr_t)args->initializer;

    if (!fn)
        return 0;
    if (args->name_size)
        fn = mp_registry_entry(name);
    return fn ? fn(&own) : 1;
}

static int open_worker(struct worker *w, const struct mp_worker_args *args)
{
    size_t size;
    void *page;
    int r;

    r = mp_block_open(w->arena, MP_POOL_PAGE, &page, &size);
    if (r < 0)
        return r;
    w->page = page;
    if (size < sizeof *w->page || args->row >= (size - sizeof *w->page) / sizeof *w->row)
        return -EPROTO;
    w->row = &w->page->row[args->row];
    r = mp_queue_open(w->arena, MP_POOL_TASKS, &w->tasks);
    if (r < 0)
        return r;
    r = mp_queue_open(w->arena, MP_POOL_RESULTS, &w->results);
    if (r < 0)
        return r;
    /* All memory that the queues need of this thread is had now. Where memory can not be had for
     * ever (a fork beside threads, with a malloc that does not care), the supervisor sees that this
     * worker does not start; later it could not tell it from one that works. */
    return mp_thread_get(w->arena, &r) ? 0 : r;
}

MP_ENTRY(mp_pool_worker)
{
    /* Never closed: the process ends with it. */
    static struct worker w;
    const struct mp_worker_args *args = call->data;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    int r;

    if (call->size < sizeof *args || args->version != MP_WORKER_VERSION || call->n_arenas < 1)
        return 1;
    w.arena = call->arenas[0];
    w.id = args->id;
    w.max_tasks = args->max_tasks;

    /* Ctrl-C goes to the whole process group; what to do about it is the parent's to say. */
    sigaction(SIGINT, &ignore, NULL);
    if (open_worker(&w, args) < 0)
        return 1;
    mp_store_relaxed(&w.row->state, MP_WORKER_INITIALIZING);
    r = initialize(args, call);
    if (r != 0) {
        mp_store_relaxed(&w.row->state, MP_WORKER_FAILED);
        return r & 0xff ? r & 0xff : 1;
    }
    mp_store_relaxed(&w.row->state, MP_WORKER_IDLE);
    atomic_fetch_add_explicit(&w.page->ready, 1, memory_order_relaxed);
    return work(&w);
}

mp_entry_fn *const mp_worker_entry = mp_pool_worker;
