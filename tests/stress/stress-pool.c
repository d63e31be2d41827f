/* SPDX-License-Identifier: MIT */
/*
 * Chaos: 20,000 tasks, and a worker killed every 10 ms.
 *
 * Each way to hand tasks in is under way at the same time, from threads of its own; all results
 * must be right, and all must come. A task can be hit again and again by chance, so it may be tried
 * often. Then the same with workers that are stopped for a while: the others go on.
 *
 * The other way round: tasks that take no time, so that most workers are hit between them, and may
 * be tried once only. Then each is run once, or, if its worker died with it, fails; and no more of
 * them fail than workers died.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <mp/mp.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/leftovers.h"
#include "kernel/pidfd.h"

#define TASKS 20000u
#define WORKERS 4u

/* About 100 us of work. */
static uint64_t scramble(uint64_t x)
{
    for (int i = 0; i < 30000; i++)
        x = (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9) + 1;
    return x;
}

MP_TASK(work)
{
    *(uint64_t *)task->result = scramble(*(const uint64_t *)task->data);
    return 0;
}

struct chaos {
    mp_pool *pool;
    int signal; /* SIGKILL, or SIGSTOP */
    long every_ms;
    _Atomic(int) over;
    _Atomic(unsigned) hits;
};

static bool is_worker(mp_pool *pool, pid_t pid)
{
    pid_t pids[WORKERS];
    int n = mp_pool_worker_pids(pool, pids, WORKERS);

    for (int i = 0; i < n && i < (int)WORKERS; i++) {
        if (pids[i] == pid)
            return true;
    }
    return false;
}

static void wait_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void hit(struct chaos *c)
{
    pid_t pids[WORKERS], pid;
    int n = mp_pool_worker_pids(c->pool, pids, WORKERS), fd;

    if (n <= 0)
        return;
    pid = pids[(unsigned)rand() % (unsigned)n];
    fd = mp_pidfd_open(pid);
    if (fd < 0)
        return;
    /* Still one of them, so the pid was not used again when the descriptor was made. */
    if (is_worker(c->pool, pid) && mp_pidfd_signal(fd, c->signal) == 0)
        c->hits++;
    if (c->signal == SIGSTOP) {
        wait_ms(100);
        mp_pidfd_signal(fd, SIGCONT);
    }
    close(fd);
}

static uint64_t chunks_done(mp_pool *pool)
{
    struct mp_pool_stats stats;

    return mp_pool_stats(pool, &stats) == 0 ? stats.done : 0;
}

/* Where everything is slow, workers may take longer to start than others to be killed: they are
 * given the time to do something in between, or there would be no end. */
static void *chaos_main(void *arg)
{
    struct chaos *c = arg;

    while (!c->over) {
        uint64_t before = chunks_done(c->pool);

        wait_ms(c->every_ms);
        while (!c->over && chunks_done(c->pool) == before)
            wait_ms(1);
        hit(c);
    }
    return NULL;
}

/* ---- the calls: each does a quarter ---- */

static uint64_t expected[TASKS];

static void check(uint64_t i, uint64_t result)
{
    if (expected[i] != result) {
        fprintf(stderr, "task %lu: wrong result\n", (unsigned long)i);
        abort();
    }
}

static void succeed(int r, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(-r));
        abort();
    }
}

static void *map_main(void *pool)
{
    enum { N = TASKS / 4 };
    static uint64_t in[N], out[N];

    for (uint64_t i = 0; i < N; i++)
        in[i] = i;
    succeed(mp_pool_map(pool, work, in, 8, N, out, 8), "map");
    for (uint64_t i = 0; i < N; i++)
        check(i, out[i]);
    return NULL;
}

static void *map1_main(void *pool)
{
    enum { N = TASKS / 4 };
    static uint64_t in[N];
    const uint64_t *out;
    const void *data;
    mp_result *result;

    for (uint64_t i = 0; i < N; i++)
        in[i] = N + i;
    succeed(mp_pool_map_async(pool, work, in, 8, N, 8, MP_ASYNC_OPTIONS(.chunksize = 1), &result),
            "map_async");
    succeed(mp_result_get(result, MP_FOREVER, &data, NULL), "map_async");
    out = data;
    for (uint64_t i = 0; i < N; i++)
        check(N + i, out[i]);
    mp_result_free(result);
    return NULL;
}

static ssize_t next_number(void *user, void *item, size_t size)
{
    uint64_t *next = user;

    (void)size;
    if (*next == 3 * (TASKS / 4))
        return -ENODATA;
    *(uint64_t *)item = (*next)++;
    return 8;
}

static void *imap_main(void *pool)
{
    uint64_t next = 2 * (TASKS / 4), i = next;
    struct mp_item item;
    mp_iterator *it;
    int r;

    succeed(
        mp_pool_imap(pool, work, next_number, &next, 8, 8, MP_ASYNC_OPTIONS(.chunksize = 3), &it),
        "imap");
    while ((r = mp_iterator_next(it, MP_FOREVER, &item)) == 1) {
        succeed(item.error, "imap's item");
        check(i++, *(const uint64_t *)item.data);
    }
    succeed(r, "imap");
    assert(i == 3 * (TASKS / 4));
    mp_iterator_free(it);
    return NULL;
}

static void *apply_main(void *pool)
{
    enum { N = TASKS / 4 };
    static mp_result *results[N];
    const void *data;

    for (uint64_t i = 0; i < N; i++) {
        uint64_t x = 3 * N + i;

        succeed(mp_pool_apply_async(pool, work, &x, 8, 8, NULL, &results[i]), "apply_async");
    }
    for (uint64_t i = 0; i < N; i++) {
        succeed(mp_result_get(results[i], MP_FOREVER, &data, NULL), "apply_async");
        check(3 * N + i, *(const uint64_t *)data);
        mp_result_free(results[i]);
    }
    return NULL;
}

static void run(const char *name, enum mp_start_method method, int signal)
{
    void *(*const mains[])(void *) = {map_main, map1_main, imap_main, apply_main};
    struct chaos c = {.signal = signal, .every_ms = 10};
    struct mp_pool_stats stats;
    struct leftovers before;
    pthread_t chaos, threads[4];
    uint64_t start = mp_now_ns();

    leftovers_count(&before);
    succeed(
        mp_pool_new(MP_POOL_OPTIONS(.workers = WORKERS, .method = method, .tries = 255), &c.pool),
        "mp_pool_new");
    assert(pthread_create(&chaos, NULL, chaos_main, &c) == 0);
    for (int i = 0; i < 4; i++)
        assert(pthread_create(&threads[i], NULL, mains[i], c.pool) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    c.over = 1;
    pthread_join(chaos, NULL);
    succeed(mp_pool_stats(c.pool, &stats), "mp_pool_stats");
    succeed(mp_pool_close(c.pool), "close");
    succeed(mp_pool_join(c.pool, MP_FOREVER), "join");
    mp_pool_free(c.pool);
    printf("%s: %u tasks, %u hits, %lu deaths, %lu chunks taken up again, %.1f s\n", name, TASKS,
           c.hits, (unsigned long)stats.worker_deaths, (unsigned long)stats.retried,
           (double)(mp_now_ns() - start) / 1e9);
    assert(signal == SIGSTOP || stats.worker_deaths > 0);
    assert(leftovers_check(&before) == 0);
}

/* ---- once only ---- */

enum { ITEMS_MAX = 4 << 20, HITS = 300 };

static mp_a32 *runs; /* of each item, in an arena */

MP_ENTRY(find_runs)
{
    void *block;
    int r = mp_block_open(call->arenas[0], "runs", &block, NULL);

    runs = block;
    return r;
}

MP_TASK(count)
{
    uint32_t i = *(const uint32_t *)task->data;

    atomic_fetch_add(&runs[i], 1);
    *(uint32_t *)task->result = ~i;
    return 0;
}

struct input {
    struct chaos *chaos;
    uint32_t next;
};

static ssize_t next_until_hit(void *user, void *item, size_t size)
{
    struct input *input = user;

    (void)size;
    if (input->chaos->hits >= HITS || input->next == ITEMS_MAX)
        return -ENODATA;
    *(uint32_t *)item = input->next++;
    return 4;
}

static void check_once(const struct mp_item *item, uint32_t *lost)
{
    uint32_t n = mp_load_relaxed(&runs[item->index]);

    if (item->error == 0) {
        assert(n == 1);
        assert(*(const uint32_t *)item->data == ~(uint32_t)item->index);
        return;
    }
    /* It was begun, whether or not it got as far as to count. */
    assert(item->error == -EOWNERDEAD && item->failure.tries == 1 && n <= 1);
    assert(item->failure.exit.signal == SIGKILL);
    (*lost)++;
}

static void run_once(const char *name, enum mp_start_method method, mp_arena *arena)
{
    struct chaos c = {.signal = SIGKILL, .every_ms = 2};
    struct input input = {.chaos = &c};
    struct mp_pool_stats stats;
    struct mp_item item;
    uint32_t lost = 0, n = 0;
    mp_iterator *it;
    pthread_t chaos;
    int r;

    memset(runs, 0, ITEMS_MAX * sizeof *runs);
    succeed(mp_pool_new(MP_POOL_OPTIONS(.workers = WORKERS, .method = method, .tries = 1,
                                        .initializer = find_runs, MP_ARENAS(arena)),
                        &c.pool),
            "mp_pool_new");
    assert(pthread_create(&chaos, NULL, chaos_main, &c) == 0);
    succeed(mp_pool_imap_unordered(c.pool, count, next_until_hit, &input, 4, 4,
                                   MP_ASYNC_OPTIONS(.chunksize = 7), &it),
            "imap");
    for (; (r = mp_iterator_next(it, MP_FOREVER, &item)) == 1; n++)
        check_once(&item, &lost);
    succeed(r, "imap");
    c.over = 1;
    pthread_join(chaos, NULL);
    mp_iterator_free(it);
    succeed(mp_pool_stats(c.pool, &stats), "mp_pool_stats");
    mp_pool_free(c.pool);
    printf("%s: %u tasks, %u hits, %lu deaths, %u tasks lost\n", name, n, c.hits,
           (unsigned long)stats.worker_deaths, lost);
    assert(n == input.next && lost <= stats.worker_deaths);
}

static void run_all_once(void)
{
    mp_arena *arena;
    void *block;

    succeed(mp_arena_create("runs", MP_ARENA_OPTIONS(.size = 2 * ITEMS_MAX * sizeof *runs), &arena),
            "mp_arena_create");
    succeed(mp_block_create(arena, "runs", ITEMS_MAX * sizeof *runs, &block), "mp_block_create");
    runs = block;
    run_once("fork, once only", MP_START_FORK, arena);
    run_once("spawn, once only", MP_START_SPAWN, arena);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    mp_main(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    srand((unsigned)time(NULL));
    for (uint64_t i = 0; i < TASKS; i++)
        expected[i] = scramble(i);
    run("fork, killed", MP_START_FORK, SIGKILL);
    run("spawn, killed", MP_START_SPAWN, SIGKILL);
    run("fork, stopped", MP_START_FORK, SIGSTOP);
    run_all_once();
    return 0;
}
