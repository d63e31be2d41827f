/* SPDX-License-Identifier: MIT */
/*
 * Stress at two queues, one for many and one for a single producer and consumer: what comes from a
 * producer comes in order, and all of it.
 *
 * Then chaos at a queue: producers and consumers are killed and replaced every 20 ms, and nothing
 * is lost; then they are stopped in turn, and the others go on.
 *
 * Each message is a number. A producer that is killed between a put and its own note of it puts the
 * number again: so many numbers may come twice as producers were killed. Else a number that comes
 * again is marked.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/leftovers.h"
#include "base/until.h"
#include "stress/stress.h"

#define ENDS_MOST 4u
#define MESSAGES_MOST 200000u
#define SINGLE (MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER)

struct tally {
    uint32_t each; /* numbers of one producer */
    uint32_t work; /* what a consumer does with one */
    _Atomic(uint32_t) next[ENDS_MOST];
    _Atomic(uint64_t) deliveries;
    _Atomic(uint8_t) first[MESSAGES_MOST]; /* deliveries that were not marked */
    _Atomic(uint8_t) all[MESSAGES_MOST];
};

struct chaos {
    mp_arena *arena;
    mp_queue *queue;
    struct tally *tally;
    uint32_t ends;
    pid_t pids[2 * ENDS_MOST];
    uint32_t kills[2 * ENDS_MOST];
    uint32_t index; /* whose part a new child has */
    uint32_t seed;
    uint32_t seen;
};

static void produce(struct chaos *c)
{
    struct tally *t = c->tally;
    _Atomic(uint32_t) *next = &t->next[c->index];

    while (*next < t->each) {
        uint32_t number = c->index * t->each + *next;
        int r = mp_queue_put(c->queue, &number, sizeof number, PATIENCE);

        /* A role whose owner died is free as soon as that is known. */
        if (r == -EBUSY)
            continue;
        assert(r == 0);
        ++*next;
    }
    for (;;)
        pause();
}

static void consume(struct chaos *c)
{
    struct tally *t = c->tally;

    for (;;) {
        struct mp_message m;
        int r = mp_queue_receive(c->queue, PATIENCE, &m);
        uint32_t number;

        if (r == -EBUSY || r == -ETIMEDOUT)
            continue;
        if (r == -EPIPE)
            return;
        assert(r == 0);
        assert(m.size == sizeof number && m.deliveries >= 1);
        number = *(uint32_t *)m.data;
        stress_spin(t->work);
        assert(number < t->each * c->ends);
        if (m.deliveries == 1)
            t->first[number]++;
        t->all[number]++;
        t->deliveries++;
        assert(mp_queue_release(c->queue, &m) == 0);
    }
}

static void take_part(void *user)
{
    struct chaos *c = user;

    if (c->index < c->ends)
        produce(c);
    else
        consume(c);
}

static void start(struct chaos *c, uint32_t index)
{
    c->index = index;
    c->pids[index] = child_start(take_part, c);
}

/* How many came, up to the first that did not. */
static uint32_t seen_to(struct chaos *c)
{
    while (c->seen < c->tally->each * c->ends && c->tally->all[c->seen])
        c->seen++;
    return c->seen;
}

static uint32_t dice(struct chaos *c, uint32_t sides)
{
    c->seed = c->seed * 1103515245 + 12345;
    return c->seed / 65536 % sides;
}

static void begin(struct chaos *c, uint32_t ends, uint32_t messages, uint32_t maxsize,
                  uint32_t flags, uint32_t work)
{
    *c = (struct chaos){.ends = ends, .seed = (uint32_t)getpid()};
    printf("seed %u\n", c->seed);
    assert(mp_arena_create("stress", MP_ARENA_OPTIONS(.size = 4 << 20, .participants = 64),
                           &c->arena) == 0);
    assert(mp_queue_create(c->arena, "queue", MP_QUEUE_OPTIONS(.maxsize = maxsize, .flags = flags),
                           &c->queue) == 0);
    assert(mp_block_create(c->arena, "tally", sizeof *c->tally, (void **)&c->tally) == 0);
    c->tally->each = messages / ends;
    c->tally->work = work;
    for (uint32_t i = 0; i < 2 * ends; i++)
        start(c, i);
}

/* Everything came, and what came again was marked or is the producers' own doing. */
static void end(struct chaos *c)
{
    struct tally *t = c->tally;
    uint64_t marked = 0, twice = 0, allowed = 0;

    for (uint32_t i = 0; i < c->ends; i++) {
        child_kill(c->pids[i]);
        allowed += c->kills[i];
        assert(t->next[i] == t->each);
    }
    assert(mp_queue_shutdown(c->queue, 0) == 0);
    for (uint32_t i = c->ends; i < 2 * c->ends; i++)
        child_join(c->pids[i]);
    for (uint32_t n = 0; n < t->each * c->ends; n++) {
        assert(t->all[n] >= 1);
        marked += (uint64_t)(t->all[n] - t->first[n]);
        /* Killed between the receive and the count: the first one is not in it. */
        twice += t->first[n] > 1 ? (uint64_t)(t->first[n] - 1) : 0;
    }
    printf("%u numbers, %llu delivered again and marked, %llu put again (%llu producers killed)\n",
           t->each * c->ends, (unsigned long long)marked, (unsigned long long)twice,
           (unsigned long long)allowed);
    assert(twice <= allowed);
    until(settled(c->arena, 1));
    mp_queue_close(c->queue);
    mp_arena_close(c->arena);
}

static void killed(uint32_t every_ms, uint32_t ends, uint32_t messages, uint32_t maxsize,
                   uint32_t flags, uint32_t work)
{
    struct chaos c;
    uint64_t deliveries = 0, moved;
    uint32_t kills = 0;

    begin(&c, ends, messages, maxsize, flags, work);
    moved = mp_now_ns();
    while (seen_to(&c) < messages) {
        uint32_t i = dice(&c, 2 * ends);

        poll(NULL, 0, (int)every_ms);
        child_kill(c.pids[i]);
        c.kills[i]++;
        kills++;
        start(&c, i);
        if (c.tally->deliveries != deliveries) {
            deliveries = c.tally->deliveries;
            moved = mp_now_ns();
        }
        if (mp_now_ns() - moved > PATIENCE) {
            struct mp_queue_stats s = {0};

            mp_queue_stats(c.queue, &s);
            fprintf(stderr, "stuck at %u of %u, depth %llu\n", c.seen, messages,
                    (unsigned long long)s.depth);
            abort();
        }
    }
    printf("%u kills, ", kills);
    end(&c);
}

/* Has anybody but this one something to put? */
static bool others_put(const struct chaos *c, uint32_t stopped)
{
    for (uint32_t i = 0; i < c->ends; i++)
        if (i != stopped && c->tally->next[i] < c->tally->each)
            return true;
    return false;
}

/* One at a time is stopped for a second, and until the others have gone on without it. */
static void stopped_in_turn(void)
{
    const uint32_t ends = 4;
    struct chaos c;

    begin(&c, ends, MESSAGES_MOST, 1000, 0, 10000);
    for (uint32_t n = 0; n < 2 * ends && seen_to(&c) < MESSAGES_MOST; n++) {
        uint32_t i = (n + dice(&c, 2)) % (2 * ends), before;

        kill(c.pids[i], SIGSTOP);
        assert(waitpid(c.pids[i], NULL, WUNTRACED) == c.pids[i]);
        before = c.tally->deliveries;
        poll(NULL, 0, 1000);
        until(c.tally->deliveries > before + 500 || !others_put(&c, i));
        kill(c.pids[i], SIGCONT);
    }
    until(seen_to(&c) == MESSAGES_MOST);
    end(&c);
}

/* ---- nobody is killed ---- */

enum { MANY, SINGLES, QUEUES };

/* Producers and consumers of the queue for many, and of that for one of each. */
enum { MANY_ENDS = 3, WORKERS = 2 * MANY_ENDS + 2 };

struct sums {
    _Atomic(uint64_t) put[QUEUES], got[QUEUES];
    _Atomic(uint32_t) producers[QUEUES]; /* that are still there */
};

struct parcel {
    uint64_t producer;
    uint64_t number;
};

static mp_queue *queues[QUEUES];
static struct sums *sums;

static void make_queues(mp_arena *arena, void *memory)
{
    sums = memory;
    sums->producers[MANY] = MANY_ENDS;
    sums->producers[SINGLES] = 1;
    assert(mp_queue_create(arena, NULL, MP_QUEUE_OPTIONS(.maxsize = 8), &queues[MANY]) == 0);
    assert(mp_queue_create(arena, NULL, MP_QUEUE_OPTIONS(.maxsize = 8, .flags = SINGLE),
                           &queues[SINGLES]) == 0);
}

static void put_in_order(struct worker *w, int which)
{
    struct parcel p = {.producer = w->index};

    while (stress_turn(w)) {
        uint64_t timeout_ns;
        int r;

        p.number++;
        do
            r = mp_queue_put(queues[which], &p, sizeof p, timeout_ns = stress_timeout(w));
        while ((r == -ETIMEDOUT || r == -EAGAIN) && timeout_ns != PATIENCE);
        assert(r == 0);
        sums->put[which] += p.number;
    }
    if (--sums->producers[which] == 0)
        assert(mp_queue_shutdown(queues[which], 0) == 0);
}

static void get_in_order(struct worker *w, int which)
{
    uint64_t seen[WORKERS] = {0};

    for (;;) {
        uint64_t timeout_ns = stress_timeout(w);
        struct mp_message m;
        struct parcel p;
        int r = mp_queue_receive(queues[which], timeout_ns, &m);

        if ((r == -ETIMEDOUT || r == -EAGAIN) && timeout_ns != PATIENCE)
            continue;
        if (r == -EPIPE)
            return;
        assert(r == 0);
        stress_holds(w, true);
        assert(m.size == sizeof p && m.deliveries == 1);
        memcpy(&p, m.data, sizeof p);
        assert(p.producer < WORKERS && p.number > seen[p.producer]);
        seen[p.producer] = p.number;
        stress_work(w);
        stress_holds(w, false);
        assert(mp_queue_release(queues[which], &m) == 0);
        sums->got[which] += p.number;
    }
}

static void put_or_get(struct worker *w)
{
    int which = w->index < 2 * MANY_ENDS ? MANY : SINGLES;

    if (w->index % 2)
        get_in_order(w, which);
    else
        put_in_order(w, which);
}

static void close_queues(uint64_t turns, uint32_t was_killed)
{
    (void)turns;
    (void)was_killed;
    for (int which = 0; which < QUEUES; which++) {
        struct mp_queue_stats stats;

        assert(sums->put[which] == sums->got[which]);
        assert(mp_queue_stats(queues[which], &stats) == 0 && stats.depth == 0);
        queues[which] = mp_queue_close(queues[which]);
    }
}

int main(int argc, char **argv)
{
    static const struct stress stress = {.name = "queue",
                                         .workers = WORKERS,
                                         .size = sizeof *sums,
                                         .begin = make_queues,
                                         .work = put_or_get,
                                         .end = close_queues};
    struct leftovers before;
    int r = stress_main(&stress, argc, argv);

    if (r != 0 || !carrier_works(FORK))
        return r;
    leftovers_count(&before);
    killed(20, 4, MESSAGES_MOST, 1000, 0, 20000);
    killed(2, 4, MESSAGES_MOST, 3, 0, 0);
    killed(2, 1, MESSAGES_MOST, 100, SINGLE, 1000);
    killed(2, 1, 50000, 3, SINGLE, 0);
    killed(2, 1, 50000, 16, MP_QUEUE_SINGLE_CONSUMER, 1000);
    stopped_in_turn();
    return leftovers_check(&before) == 0 ? 0 : 1;
}
