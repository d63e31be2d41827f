/* SPDX-License-Identifier: MIT */
/*
 * Making a pool.
 *
 * The workers are started first, then the threads: a fork is best made while there are few of them.
 * What a pool needs for new workers it keeps as its own (handles of the arenas, a copy of the
 * initializer's data), so the caller may drop his. What fails half-way is undone by
 * mp_pool_free(), which takes a pool in any state.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <mp/cpu.h>

#include "base/macro.h"
#include "kernel/lineage.h"
#include "kernel/pidfd.h"
#include "pool/pool.h"
#include "pool/worker.h"
#include "process/registry.h"

#define MEMORY_DEFAULT (UINT64_C(64) << 20)
#define MEMORY_MIN (UINT64_C(64) << 10)
#define MEMORY_MAX (UINT64_C(1) << 38)
#define ARENAS_MAX 63u
#define INIT_SIZE_MAX (UINT64_C(1) << 29)

/* What a first version of the options had; later ones may only add to it. */
#define OPTIONS_SIZE_FIRST \
    (offsetof(struct mp_pool_options, name) + sizeof((struct mp_pool_options *)0)->name)

static uint64_t floor_power(uint64_t n)
{
    return UINT64_C(1) << (63 - __builtin_clzll(n));
}

static int read_options(const struct mp_pool_options *options, struct mp_pool_options *ret)
{
    struct mp_pool_options o = {.struct_size = sizeof o};

    if (options) {
        if (options->struct_size < OPTIONS_SIZE_FIRST || options->struct_size > sizeof o)
            return -EINVAL;
        memcpy(&o, options, options->struct_size);
    }
    if (o.workers > MP_POOL_WORKERS_MAX || o.tries > 255 || o.memory > MEMORY_MAX ||
        o.n_arenas > ARENAS_MAX || o.init_size > INIT_SIZE_MAX || (o.n_arenas && !o.arenas) ||
        (o.init_size && !o.init_data))
        return -EINVAL;
    if (o.method > MP_START_FORKSERVER)
        return -EINVAL;
    for (size_t i = 0; i < o.n_arenas; i++) {
        if (!o.arenas[i])
            return -EINVAL;
    }
    if (o.workers == 0)
        o.workers = mp_min((uint32_t)mp_cpu_count(), MP_POOL_WORKERS_MAX);
    if (o.tries == 0)
        o.tries = 3;
    o.memory = o.memory ? mp_max(o.memory, MEMORY_MIN) : MEMORY_DEFAULT;
    *ret = o;
    return 0;
}

/* What every worker is told, but for its row and number. */
static int make_args(mp_pool *p, const struct mp_pool_options *o)
{
    const char *name = NULL;
    size_t name_size = 0, room;
    char *at;

    if (o->initializer && !mp_pool_forks(o->method)) {
        name = mp_registry_entry_name(o->initializer);
        if (!name)
            return -ENOENT;
        name_size = strlen(name) + 1;
    }
    room = MP_WORKER_NAME_ROOM(name_size);
    p->args_size = sizeof *p->args + room + o->init_size;
    p->args = calloc(1, p->args_size);
    if (!p->args)
        return -ENOMEM;
    p->args->version = MP_WORKER_VERSION;
    p->args->max_tasks = o->max_tasks_per_child;
    p->args->initializer = (uintptr_t)o->initializer;
    p->args->name_size = (uint32_t)name_size;
    p->args->init_size = o->init_size;
    at = (char *)(p->args + 1);
    if (name)
        memcpy(at, name, name_size);
    if (o->init_size)
        memcpy(at + room, o->init_data, o->init_size);
    return 0;
}

/* The pool's own arena, and handles of our own on the others. */
static int make_arenas(mp_pool *p, const struct mp_pool_options *o)
{
    int r;

    p->arenas = calloc(1 + o->n_arenas, sizeof(mp_arena *));
    if (!p->arenas)
        return -ENOMEM;
    /* Twice the memory: what is lent, the rounding of free memory to block sizes and the messages
     * come on top of what is on its way. A dead worker's place is free again a moment later. */
    r = mp_arena_create(
        o->name ? o->name : "pool",
        MP_ARENA_OPTIONS(.size = 2 * p->memory + (UINT64_C(1) << 20) + (uint64_t)p->n_places * 256,
                         .participants = mp_min(2 * p->workers + 16, MP_PARTICIPANTS_MAX + 0u),
                         .objects = 16),
        &p->arena);
    if (r < 0)
        return r;
    p->arenas[p->n_arenas++] = p->arena;
    for (size_t i = 0; i < o->n_arenas; i++) {
        r = mp_arena_attach(mp_arena_fd(o->arenas[i]), &p->arenas[p->n_arenas]);
        if (r < 0)
            return r;
        p->n_arenas++;
    }
    return 0;
}

static int make_page(mp_pool *p)
{
    struct timespec now;
    void *block;
    int r;

    r = mp_block_create(p->arena, MP_POOL_PAGE, sizeof *p->page + p->workers * sizeof *p->page->row,
                        &block);
    if (r < 0)
        return r;
    clock_gettime(CLOCK_REALTIME, &now);
    p->page = block;
    p->page->version = MP_POOL_VERSION;
    p->page->row_size = sizeof *p->page->row;
    p->page->rows = p->workers;
    p->page->parent_pid = (uint32_t)getpid();
    p->page->parent_start = mp_task_start(getpid());
    p->page->created_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
    mp_store_relaxed(&p->page->memory_max, p->memory);
    mp_store_release(&p->page->magic, MP_POOL_MAGIC);
    return 0;
}

static int make_flights(mp_pool *p)
{
    p->flights = calloc(p->n_places, sizeof *p->flights);
    p->unsent = calloc(p->n_places, sizeof *p->unsent);
    p->worker = calloc(p->workers, sizeof *p->worker);
    p->poll_fds = calloc(p->workers + 1, sizeof *p->poll_fds);
    if (!p->flights || !p->unsent || !p->worker || !p->poll_fds)
        return -ENOMEM;
    for (uint32_t i = 0; i < p->n_places; i++)
        p->flights[i].next_free = i + 1;
    p->chunk_limit = mp_min(floor_power(p->memory), mp_arena_max_block(p->arena));
    p->chunk_aim =
        mp_min(p->chunk_limit, floor_power(mp_max(p->memory / (4 * p->workers), UINT64_C(4096))));
    return 0;
}

static int make_queues(mp_pool *p)
{
    int r;

    /* Larger than what can be on its way: a worker that is stopped while it takes a ticket holds up
     * the producer one lap later. */
    r = mp_queue_create(p->arena, MP_POOL_TASKS,
                        MP_QUEUE_OPTIONS(.maxsize = 4 * p->n_places,
                                         .flags = MP_QUEUE_SINGLE_PRODUCER,
                                         .message_max = sizeof(struct mp_ticket)),
                        &p->tasks);
    if (r < 0)
        return r;
    return mp_queue_create(p->arena, MP_POOL_RESULTS,
                           MP_QUEUE_OPTIONS(.maxsize = 2 * p->n_places,
                                            .flags = MP_QUEUE_SINGLE_CONSUMER,
                                            .message_max = sizeof(uint64_t)),
                           &p->results);
}

static int start_thread(mp_pool *p, pthread_t *thread, void *(*main)(void *), const char *name,
                        bool *ret_started)
{
    int r = pthread_create(thread, NULL, main, p);

    if (r)
        return -r;
    pthread_setname_np(*thread, name);
    p->threads++;
    atomic_fetch_add_explicit(&p->claims, 1, memory_order_relaxed);
    *ret_started = true;
    return 0;
}

/* The threads take the lock first, so they see all that is written here. They get no signals: those
 * are for the program's own threads. */
static int start_threads(mp_pool *p)
{
    sigset_t all, before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    mp_pool_lock(p);
    r = start_thread(p, &p->supervisor, mp_pool_supervisor_main, "mp-supervisor",
                     &p->has_supervisor);
    if (r == 0)
        r = start_thread(p, &p->result_thread, mp_pool_result_main, "mp-results",
                         &p->has_result_thread);
    mp_pool_unlock(p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

static int make(const struct mp_pool_options *o, mp_pool *p)
{
    int r;

    p->workers = o->workers;
    p->max_tasks = o->max_tasks_per_child;
    p->tries = o->tries;
    p->method = o->method;
    p->memory = o->memory;
    p->n_places = mp_min(mp_max(p->workers * MP_FLIGHTS_A_WORKER, MP_FLIGHTS_MIN), MP_FLIGHTS_MAX);
    r = make_args(p, o);
    if (r < 0)
        return r;
    p->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->event_fd < 0)
        return -errno;
    r = make_arenas(p, o);
    if (r < 0)
        return r;
    r = make_page(p);
    if (r < 0)
        return r;
    r = make_flights(p);
    if (r < 0)
        return r;
    r = make_queues(p);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < p->workers; i++) {
        r = mp_worker_start(p, i);
        if (r < 0)
            return r;
    }
    r = mp_pool_enlist(p);
    if (r < 0)
        return r;
    return start_threads(p);
}

/* It is held for fractions of a microsecond by threads of one process: worth a spin. */
static void make_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

int mp_pool_new(const struct mp_pool_options *options, mp_pool **ret_pool)
{
    struct mp_pool_options o;
    mp_pool *p;
    int r;

    if (!ret_pool)
        return -EINVAL;
    r = read_options(options, &o);
    if (r < 0)
        return r;
    p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    make_lock(&p->lock);
    p->lineage = mp_lineage();
    p->event_fd = -1;
    p->claims = 1;
    p->pending_tail = &p->pending;
    p->callbacks_tail = &p->callbacks;
    r = make(&o, p);
    if (r < 0) {
        mp_pool_free(p);
        return r;
    }
    *ret_pool = p;
    return 0;
}
