/* SPDX-License-Identifier: MIT */
/*
 * A worker killed at every instruction between two tasks.
 *
 * A pool of one worker. While the worker waits for a ticket it is stopped; then a chunk of tasks is
 * handed in, the worker is stepped k instructions on, and killed, for k = 0 to where it waits
 * again. Each item must come back right (or, where it may be tried once only, as lost, and one at
 * most), must not have been started more often than allowed, and those that the dead worker had not
 * begun must not count as tried.
 *
 * The steps of the task's own code are few. All points are visited in strides, a different set each
 * run; CRASH_STRIDE=1 visits each.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mp/mp.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/leftovers.h"
#include "kernel/pidfd.h"

#define ITEMS 3u
#define STEPS_MAX 200000u
/* A worker that does not come to its next instruction in this time waits for something. */
#define BLOCKED_NS MP_MSEC(100)
#define PATIENCE_NS MP_SEC(20)

static mp_a32 *runs; /* how often each item was run; in an arena */
static mp_arena *arena;

MP_ENTRY(find_runs)
{
    void *block;
    int r = mp_block_open(call->arenas[0], "runs", &block, NULL);

    runs = block;
    return r;
}

MP_TASK(count)
{
    uint64_t i = *(const uint64_t *)task->data;

    atomic_fetch_add(&runs[i], 1);
    *(uint64_t *)task->result = i + 100;
    return 0;
}

static void check(bool good, const char *what, unsigned k)
{
    if (good)
        return;
    fprintf(stderr, "killed after %u steps: %s (runs: %u %u %u)\n", k, what, runs[0], runs[1],
            runs[2]);
    abort();
}

/* ---- stepping ---- */

/* Waits for the stop of a traced process. 1; 0: it runs, or waits, beyond the deadline. */
static int wait_stop(pid_t pid, uint64_t deadline)
{
    int status;

    for (unsigned spins = 0;; spins++) {
        pid_t r = waitpid(pid, &status, __WALL | WNOHANG);

        if (r == pid)
            return WIFSTOPPED(status) ? 1 : -1;
        if (r < 0)
            return -1;
        if (spins > 1000 && mp_now_ns() > deadline)
            return 0;
        if (spins > 1000)
            poll(NULL, 0, 1);
    }
}

/* Steps until n steps are done, or it waits for something. How many were done. */
static unsigned step(pid_t pid, unsigned n)
{
    unsigned done;

    for (done = 0; done < n; done++) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0)
            break;
        if (wait_stop(pid, mp_now_ns() + BLOCKED_NS) != 1)
            break;
    }
    return done;
}

/* The pool's only worker, asleep in its wait for a ticket, stopped. */
static pid_t stop_worker(mp_pool *pool)
{
    uint64_t deadline = mp_now_ns() + PATIENCE_NS;
    struct mp_pool_stats stats;
    pid_t pid;

    for (;;) {
        check(mp_now_ns() < deadline, "no worker gets ready", 0);
        if (mp_pool_stats(pool, &stats) == 0 && stats.idle == 1 &&
            mp_pool_worker_pids(pool, &pid, 1) == 1 && mp_task_state(pid) == 'S')
            break;
        poll(NULL, 0, 1);
    }
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0 || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0)
        return -1;
    return wait_stop(pid, deadline) == 1 ? pid : -1;
}

/* ---- one point ---- */

struct kind {
    const char *name;
    enum mp_start_method method;
    uint32_t tries;
    bool records; /* imap, with a record for each item; else map */
};

static ssize_t next_item(void *user, void *item, size_t size)
{
    uint64_t *next = user;

    (void)size;
    if (*next == ITEMS)
        return -ENODATA;
    *(uint64_t *)item = (*next)++;
    return 8;
}

/* What hands a chunk in and what gets it back, map or imap. */
struct round {
    mp_result *result;
    mp_iterator *it;
    uint64_t next;
    unsigned lost;
};

static void hand_in(mp_pool *pool, const struct kind *kind, struct round *round)
{
    static const uint64_t in[ITEMS] = {0, 1, 2};
    struct mp_item item;

    *round = (struct round){0};
    memset(runs, 0, ITEMS * sizeof *runs);
    if (kind->records) {
        assert(mp_pool_imap(pool, count, next_item, &round->next, 8, 8,
                            MP_ASYNC_OPTIONS(.chunksize = ITEMS), &round->it) == 0);
        assert(mp_iterator_next(round->it, 0, &item) == -EAGAIN); /* it reads the input */
    } else {
        assert(mp_pool_map_async(pool, count, in, 8, ITEMS, 8, MP_ASYNC_OPTIONS(.chunksize = ITEMS),
                                 &round->result) == 0);
    }
}

static void check_item(const struct kind *kind, struct round *round, unsigned k,
                       const struct mp_item *item)
{
    uint32_t n = runs[item->index];

    check(n <= kind->tries, "run too often", k);
    if (item->error == 0) {
        check(n >= 1, "not run", k);
        check(*(const uint64_t *)item->data == item->index + 100, "wrong result", k);
        return;
    }
    check(item->error == -EOWNERDEAD, "wrong error", k);
    check(item->failure.tries == kind->tries, "lost before its tries were used up", k);
    check(item->failure.exit.signal == SIGKILL, "wrong exit information", k);
    check(++round->lost <= 1, "more than one lost by one death", k);
}

static void get_back(const struct kind *kind, struct round *round, unsigned k)
{
    struct mp_item item = {0};
    const void *data;
    int r;

    if (kind->records) {
        for (unsigned i = 0; i < ITEMS; i++) {
            r = mp_iterator_next(round->it, PATIENCE_NS, &item);
            check(r == 1, r == -ETIMEDOUT ? "never comes back" : "fails", k);
            check_item(kind, round, k, &item);
        }
        mp_iterator_free(round->it);
        return;
    }
    r = mp_result_get(round->result, PATIENCE_NS, &data, NULL);
    check(r == 0, r == -ETIMEDOUT ? "never comes back" : "fails", k);
    for (item.index = 0; item.index < ITEMS; item.index++) {
        item.data = (const uint64_t *)data + item.index;
        check_item(kind, round, k, &item);
    }
    mp_result_free(round->result);
}

/* Returns false when the worker waited again before it had done k steps. */
static bool kill_after(mp_pool *pool, const struct kind *kind, unsigned k, unsigned *lost)
{
    pid_t pid = stop_worker(pool);
    struct round round;
    unsigned total = 0, done;

    if (pid < 0) {
        fprintf(stderr, "ptrace is not allowed here\n");
        exit(77);
    }
    hand_in(pool, kind, &round);
    done = step(pid, k);
    kill(pid, SIGKILL);
    get_back(kind, &round, k);
    for (unsigned i = 0; i < ITEMS; i++)
        total += runs[i];
    check(total <= ITEMS + 1, "a death made more than one item run twice", k);
    *lost += round.lost;
    return done == k;
}

static void run(const struct kind *kind, unsigned stride)
{
    unsigned k, points = 0, lost = 0;
    struct leftovers before;
    mp_pool *pool;

    leftovers_count(&before);
    assert(mp_pool_new(MP_POOL_OPTIONS(.workers = 1, .method = kind->method, .tries = kind->tries,
                                       .initializer = find_runs, MP_ARENAS(arena)),
                       &pool) == 0);
    for (k = (unsigned)rand() % stride; k < STEPS_MAX; k += stride) {
        points++;
        if (!kill_after(pool, kind, k, &lost))
            break;
    }
    check(k < STEPS_MAX, "never waits again", k);
    assert(mp_pool_close(pool) == 0 && mp_pool_join(pool, MP_FOREVER) == 0);
    mp_pool_free(pool);
    printf("%s: %u kill points in %u instructions, %u lost\n", kind->name, points, k, lost);
    assert(leftovers_check(&before) == 0);
}

int main(int argc, char **argv)
{
    const struct kind kinds[] = {
        {"fork, map, 3 tries", MP_START_FORK, 3, false},
        {"fork, imap, once only", MP_START_FORK, 1, true},
        {"spawn, imap, 2 tries", MP_START_SPAWN, 2, true},
    };
    const char *wanted = getenv("CRASH_STRIDE");
    unsigned stride = wanted ? (unsigned)atoi(wanted) : 31;
    void *block;

    mp_main(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    srand((unsigned)time(NULL) ^ (unsigned)getpid());
    assert(mp_arena_create("runs", MP_ARENA_OPTIONS(.size = 1 << 20), &arena) == 0);
    assert(mp_block_create(arena, "runs", ITEMS * sizeof *runs, &block) == 0);
    runs = block;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        run(&kinds[i], stride ? stride : 1);
    mp_arena_close(arena);
    return 0;
}
