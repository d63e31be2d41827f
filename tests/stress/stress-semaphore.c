/* SPDX-License-Identifier: MIT */
/*
 * Chaos at a semaphore: workers of two threads each hold some of its permits for a moment, never
 * all they may, and one worker is killed every few milliseconds, now and then while it is stopped.
 * At rest all permits are there, and the ledger is empty: none lost, none come back twice.
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

#define WORKERS 5u
#define ROUNDS 8u
#define KILLS 50u /* a round */
#define PATIENCE MP_SEC(30)
#define PERMITS 7u
#define MOST 3u

struct shared {
    _Atomic(uint64_t) done[WORKERS];
};

struct chaos {
    mp_arena *arena;
    mp_semaphore *semaphore;
    struct shared *shared;
    uint32_t index;
    _Atomic(bool) *stop; /* of threads */
};

static void *hold_some(void *user)
{
    struct chaos *c = user;
    uint32_t seed = (uint32_t)gettid();

    while (!c->stop || !*c->stop) {
        uint32_t n = 1, most;

        seed = seed * 1103515245 + 12345;
        most = 1 + seed / 65536 % MOST;
        if (seed & 0x1000) {
            int r = mp_semaphore_acquire(c->semaphore, MP_MSEC(1));

            if (r == -ETIMEDOUT)
                continue;
            assert(r == 0);
        } else {
            assert(mp_semaphore_acquire(c->semaphore, PATIENCE) == 0);
        }
        while (n < most && mp_semaphore_try(c->semaphore) == 0)
            n++;
        for (volatile uint32_t k = 0; k < seed >> 26; k++)
            continue;
        if (seed & 0x2000) {
            assert(mp_semaphore_release(c->semaphore, n) == 0);
        } else {
            for (; n > 0; n--)
                assert(mp_semaphore_release(c->semaphore, 1) == 0);
        }
        c->shared->done[c->index]++;
    }
    return NULL;
}

static void work(void *user)
{
    pthread_t second;

    assert(pthread_create(&second, NULL, hold_some, user) == 0);
    hold_some(user);
}

static void start(struct chaos *c, pid_t *pids, uint32_t index)
{
    c->index = index;
    pids[index] = child_start(work, c);
}

static uint64_t done(const struct shared *s)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < WORKERS; i++)
        n += s->done[i];
    return n;
}

static void at_rest(const struct chaos *c)
{
    until(settled(c->arena, 1));
    assert(mp_semaphore_value(c->semaphore) == PERMITS);
    assert(mp_semaphore_holders(c->semaphore, NULL, 0) == 0);
}

static void kill_many(struct chaos *c, uint32_t *seed)
{
    pid_t pids[WORKERS];

    for (uint32_t i = 0; i < WORKERS; i++)
        start(c, pids, i);
    for (uint32_t k = 0; k < KILLS; k++) {
        uint64_t was = done(c->shared);
        uint32_t i;

        *seed = *seed * 1103515245 + 12345;
        i = *seed / 65536 % WORKERS;
        if (k % 25 == 24) {
            kill(pids[i], SIGSTOP);
            assert(waitpid(pids[i], NULL, WUNTRACED) == pids[i]);
        }
        poll(NULL, 0, (int)(*seed >> 8 & 3));
        child_kill(pids[i]);
        start(c, pids, i);
        until(done(c->shared) > was);
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        child_kill(pids[i]);
    at_rest(c);
}

/* What a tool that sees only threads can look at. */
static void threads_alone(struct chaos *c)
{
    _Atomic(bool) stop = false;
    pthread_t threads[WORKERS];

    c->stop = &stop;
    for (uint32_t i = 0; i < WORKERS; i++)
        assert(pthread_create(&threads[i], NULL, hold_some, c) == 0);
    until(done(c->shared) > (under_thread_sanitizer() ? 500000 : 20000));
    stop = true;
    for (uint32_t i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    c->stop = NULL;
    at_rest(c);
}

int main(void)
{
    struct leftovers before;
    struct chaos c = {0};
    uint32_t seed = (uint32_t)getpid();
    void *shared;

    leftovers_count(&before);
    assert(mp_arena_create("stress", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32),
                           &c.arena) == 0);
    assert(mp_semaphore_create(
               c.arena, NULL, MP_SEMAPHORE_OPTIONS(.value = PERMITS, .flags = MP_SEMAPHORE_BOUNDED),
               &c.semaphore) == 0);
    assert(mp_block_create(c.arena, "shared", sizeof *c.shared, &shared) == 0);
    c.shared = shared;
    threads_alone(&c);
    for (uint32_t round = 0; round < ROUNDS && carrier_works(FORK); round++)
        kill_many(&c, &seed);
    printf("%llu times held\n", (unsigned long long)done(c.shared));
    mp_semaphore_close(c.semaphore);
    mp_arena_close(c.arena);
    /* That sanitizer starts a thread of its own. */
    return under_thread_sanitizer() || leftovers_check(&before) == 0 ? 0 : 1;
}
