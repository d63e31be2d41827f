/* SPDX-License-Identifier: MIT */
/*
 * Chaos at a lock: workers count two numbers under it, and one of them is killed every few
 * milliseconds. Only who is told that the owner died may find the numbers apart.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/until.h"

#define WORKERS 6u
#define KILLS 400u
#define PATIENCE MP_SEC(30)

struct shared {
    uint64_t a, b;                    /* under the lock */
    uint32_t holder;                  /* under the lock: who is in it */
    _Atomic(uint64_t) told, repaired; /* owners that died; those that left the numbers apart */
    _Atomic(uint64_t) done[WORKERS];
};

struct chaos {
    mp_arena *arena;
    mp_lock *lock;
    struct shared *shared;
    uint32_t index;
};

static void count(void *user)
{
    struct chaos *c = user;
    struct shared *s = c->shared;

    for (uint64_t i = 0;; i++) {
        int r = mp_lock_acquire(c->lock, i % 3 ? PATIENCE : MP_MSEC(1));

        if (r == -ETIMEDOUT && i % 3 == 0)
            continue;
        if (r == MP_OWNER_DIED) {
            s->told++;
            s->repaired += s->a != s->b;
            s->b = s->a;
            s->holder = 0;
        } else {
            assert(r == 0);
        }
        assert(s->a == s->b && s->holder == 0);
        s->holder = c->index + 1;
        s->a++;
        for (volatile int k = 0; k < 50; k++)
            continue;
        s->b++;
        assert(s->holder == c->index + 1);
        s->holder = 0;
        assert(mp_lock_release(c->lock) == 0);
        s->done[c->index]++;
    }
}

static void start(struct chaos *c, pid_t *pids, uint32_t index)
{
    c->index = index;
    pids[index] = child_start(count, c);
}

static uint64_t done(const struct shared *s)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < WORKERS; i++)
        n += s->done[i];
    return n;
}

int main(void)
{
    struct leftovers before;
    struct chaos c = {0};
    pid_t pids[WORKERS];
    uint32_t seed = (uint32_t)getpid();

    leftovers_count(&before);
    assert(mp_arena_create("stress", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32),
                           &c.arena) == 0);
    assert(mp_lock_create(c.arena, "lock", &c.lock) == 0);
    assert(mp_block_create(c.arena, "shared", sizeof *c.shared, (void **)&c.shared) == 0);
    for (uint32_t i = 0; i < WORKERS; i++)
        start(&c, pids, i);
    for (uint32_t k = 0; k < KILLS; k++) {
        uint64_t was = done(c.shared);
        uint32_t i;

        seed = seed * 1103515245 + 12345;
        i = seed / 65536 % WORKERS;
        if (k % 50 == 49) {
            /* Stopped wherever it is, which may be in the lock; killed like that. */
            kill(pids[i], SIGSTOP);
            assert(waitpid(pids[i], NULL, WUNTRACED) == pids[i]);
        }
        poll(NULL, 0, (int)(seed >> 8 & 7));
        child_kill(pids[i]);
        start(&c, pids, i);
        until(done(c.shared) > was);
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        child_kill(pids[i]);
    printf("%llu times counted, %llu owners died, %llu of them between the two numbers\n",
           (unsigned long long)c.shared->a, (unsigned long long)c.shared->told,
           (unsigned long long)c.shared->repaired);
    /* Who was killed after the release and before its own count is missing there. */
    assert(c.shared->a >= done(c.shared) && c.shared->a <= done(c.shared) + KILLS + WORKERS);
    until(settled(c.arena, 1));
    mp_lock_close(c.lock);
    mp_arena_close(c.arena);
    return leftovers_check(&before) == 0 ? 0 : 1;
}
