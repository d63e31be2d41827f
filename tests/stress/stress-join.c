/* SPDX-License-Identifier: MIT */
/*
 * Chaos at a joinable queue: each task puts two others before it is done, workers of two threads do
 * them, by get and task_done or without copies, and one worker is killed every few milliseconds,
 * now and then while it is stopped; so are those who join. Who has joined finds all tasks done: the
 * count was never wrong in between, and nobody waits longer.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"

#define WORKERS 4u
#define ROUNDS 8u
#define TASKS 6000u
#define PATIENCE MP_SEC(30)

struct shared {
    _Atomic(uint8_t) done[TASKS];
    _Atomic(uint32_t) again; /* tasks that somebody had done before, and died */
};

struct chaos {
    mp_arena *arena;
    mp_queue *queue;
    struct shared *shared;
};

/* What a dead one has done may come once more; what it has only begun must be done again. */
static void do_task(struct chaos *c, uint32_t task, uint32_t *seed)
{
    if (c->shared->done[task]) {
        c->shared->again++;
        return;
    }
    for (uint32_t child = 2 * task + 1; child <= 2 * task + 2 && child < TASKS; child++)
        assert(mp_queue_put(c->queue, &child, sizeof child, 0) == 0);
    *seed = *seed * 1103515245 + 12345;
    for (volatile uint32_t k = 0; k < *seed >> 14; k++)
        continue;
    c->shared->done[task] = 1;
}

static void *work_as_thread(void *user)
{
    struct chaos *c = user;
    uint32_t seed = (uint32_t)gettid();

    for (;;) {
        struct mp_message m;
        uint32_t task;
        int r;

        if (seed & 0x10000) {
            r = mp_queue_get(c->queue, &task, sizeof task, PATIENCE, NULL);
            if (r < 0)
                break;
            do_task(c, task, &seed);
            assert(mp_queue_task_done(c->queue) == 0);
        } else {
            r = mp_queue_receive(c->queue, PATIENCE, &m);
            if (r < 0)
                break;
            do_task(c, *(uint32_t *)m.data, &seed);
            assert(mp_queue_release(c->queue, &m) == 0);
        }
    }
    return NULL;
}

static void work(void *user)
{
    pthread_t second;

    assert(pthread_create(&second, NULL, work_as_thread, user) == 0);
    work_as_thread(user);
    pthread_join(second, NULL);
}

static void join(void *user)
{
    struct chaos *c = user;

    assert(mp_queue_join(c->queue, PATIENCE) == 0);
    for (uint32_t i = 0; i < TASKS; i++)
        assert(c->shared->done[i] == 1);
}

static void *join_as_thread(void *user)
{
    join(user);
    return NULL;
}

static void begin(struct chaos *c)
{
    uint32_t first = 0;

    memset(c->shared->done, 0, sizeof c->shared->done);
    assert(mp_queue_create(c->arena, "queue",
                           MP_QUEUE_OPTIONS(.maxsize = 4 * TASKS, .flags = MP_QUEUE_JOINABLE),
                           &c->queue) == 0);
    assert(mp_queue_put(c->queue, &first, sizeof first, 0) == 0);
}

static void end(struct chaos *c)
{
    struct mp_queue_stats s;

    assert(mp_queue_stats(c->queue, &s) == 0 && s.depth == 0 && s.unfinished == 0);
    assert(mp_queue_join(c->queue, 0) == 0);
    assert(mp_queue_destroy(c->queue) == 0);
    mp_queue_close(c->queue);
}

/* True: it was killed; it had not ended yet. */
static bool kill_joiner(pid_t pid)
{
    int status;

    assert(kill(pid, SIGKILL) == 0);
    assert(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool has_joined(pid_t pid)
{
    int status;
    pid_t r = waitpid(pid, &status, WNOHANG);

    assert(r == 0 || (r == pid && status == 0));
    return r == pid;
}

static uint32_t kill_many(struct chaos *c, uint32_t *seed)
{
    pid_t pids[WORKERS], joiners[2];
    uint32_t kills = 0;
    bool joined = false;

    begin(c);
    for (uint32_t i = 0; i < 2; i++)
        joiners[i] = child_start(join, c);
    for (uint32_t i = 0; i < WORKERS; i++)
        pids[i] = child_start(work, c);
    for (; !joined; kills++) {
        uint32_t i;

        *seed = *seed * 1103515245 + 12345;
        i = *seed / 65536 % WORKERS;
        if (kills % 25 == 24) {
            kill(pids[i], SIGSTOP);
            assert(waitpid(pids[i], NULL, WUNTRACED) == pids[i]);
        }
        poll(NULL, 0, (int)(*seed >> 8 & 7));
        child_kill(pids[i]);
        pids[i] = child_start(work, c);
        joined = has_joined(joiners[0]);
        if (kills % 5 == 4 && !joined) {
            joined = !kill_joiner(joiners[0]);
            if (!joined)
                joiners[0] = child_start(join, c);
        }
    }
    child_join(joiners[1]); /* it has waited all the time */
    for (uint32_t i = 0; i < WORKERS; i++)
        child_kill(pids[i]);
    until(settled(c->arena, 1));
    end(c);
    return kills;
}

/* What a tool that sees only threads can look at. */
static void threads_alone(struct chaos *c)
{
    pthread_t workers[WORKERS], joiners[2];

    begin(c);
    for (uint32_t i = 0; i < 2; i++)
        assert(pthread_create(&joiners[i], NULL, join_as_thread, c) == 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        assert(pthread_create(&workers[i], NULL, work_as_thread, c) == 0);
    for (uint32_t i = 0; i < 2; i++)
        pthread_join(joiners[i], NULL);
    assert(mp_queue_shutdown(c->queue, 0) == 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    end(c);
}

int main(void)
{
    struct leftovers before;
    struct chaos c = {0};
    uint32_t seed = (uint32_t)getpid(), kills = 0;
    void *shared;

    leftovers_count(&before);
    assert(mp_arena_create("stress", MP_ARENA_OPTIONS(.size = 8 << 20, .participants = 32),
                           &c.arena) == 0);
    assert(mp_block_create(c.arena, "shared", sizeof *c.shared, &shared) == 0);
    c.shared = shared;
    for (uint32_t round = 0; round < (under_thread_sanitizer() ? 2 : ROUNDS); round++)
        threads_alone(&c);
    for (uint32_t round = 0; round < ROUNDS && carrier_works(FORK); round++)
        kills += kill_many(&c, &seed);
    printf("%u killed, %u tasks came again\n", kills, (unsigned)c.shared->again);
    mp_arena_close(c.arena);
    /* That sanitizer starts a thread of its own. */
    return under_thread_sanitizer() || leftovers_check(&before) == 0 ? 0 : 1;
}
