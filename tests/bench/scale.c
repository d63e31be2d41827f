/* SPDX-License-Identifier: MIT */
/*
 * What many cost: [ROUNDS]. Each line compares two cases, measured in turn, ROUNDS times (default
 * 9); medians, ns an operation pair.
 *
 *   locks          one mp_lock, and 1,000,000 mp_locks one after the other
 *   participants   each primitive, uncontended, with 2 participants and with 256
 */

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mp/mp.h>

#define LOCKS 1000000u
#define FEW 2u
#define MANY 256u
#define ROUNDS_MOST 99u

struct objects {
    mp_arena *arena;
    mp_lock *lock;
    mp_locks *locks;
    mp_rlock *rlock;
    mp_rwlock *rwlock;
    mp_semaphore *permits;
    mp_semaphore *signals;
    mp_event *event;
    mp_condition *condition;
    mp_queue *queue;
    pid_t others[MANY];
    unsigned n_others;
};

static void must(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(-r));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* ---- what is measured: n pairs ---- */

static void one_lock(struct objects *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mp_lock_acquire(o->lock, MP_FOREVER);
        mp_lock_release(o->lock);
    }
}

static void many_locks(struct objects *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mp_locks_acquire(o->locks, i % LOCKS, MP_FOREVER);
        mp_locks_release(o->locks, i % LOCKS);
    }
}

static void rlock(struct objects *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mp_rlock_acquire(o->rlock, MP_FOREVER);
        mp_rlock_release(o->rlock);
    }
}

static void reading(struct objects *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mp_rwlock_read(o->rwlock, MP_FOREVER);
        mp_rwlock_release_read(o->rwlock);
    }
}

static void writing(struct objects *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mp_rwlock_write(o->rwlock, MP_FOREVER);
        mp_rwlock_release_write(o->rwlock);
    }
}

static void permits(struct objects *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mp_semaphore_acquire(o->permits, MP_FOREVER);
        mp_semaphore_release(o->permits, 1);
    }
}

static void signals(struct objects *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mp_semaphore_release(o->signals, 1);
        mp_semaphore_acquire(o->signals, MP_FOREVER);
    }
}

static void event(struct objects *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mp_event_set(o->event);
        mp_event_clear(o->event);
    }
}

static void notifying(struct objects *o, uint32_t n)
{
    mp_lock_acquire(o->lock, MP_FOREVER);
    for (uint32_t i = 0; i < n; i++)
        mp_condition_notify(o->condition, o->lock, 1);
    mp_lock_release(o->lock);
}

static void queue(struct objects *o, uint32_t n)
{
    char message[64] = {0};

    for (uint32_t i = 0; i < n; i++) {
        mp_queue_put(o->queue, message, sizeof message, MP_FOREVER);
        mp_queue_get(o->queue, message, sizeof message, MP_FOREVER, NULL);
    }
}

/* ---- an arena with so many ---- */

static void open_arena(struct objects *o, unsigned participants)
{
    int ready[2];

    memset(o, 0, sizeof *o);
    must(mp_arena_create("scale", MP_ARENA_OPTIONS(.size = 64 << 20, .participants = MANY),
                         &o->arena),
         "arena");
    must(mp_lock_create(o->arena, NULL, &o->lock), "lock");
    must(mp_locks_create(o->arena, NULL, LOCKS, &o->locks), "locks");
    must(mp_rlock_create(o->arena, NULL, &o->rlock), "rlock");
    must(mp_rwlock_create(o->arena, NULL, &o->rwlock), "rwlock");
    must(mp_semaphore_create(o->arena, NULL, NULL, &o->permits), "permits");
    must(mp_semaphore_create(o->arena, NULL, MP_SEMAPHORE_OPTIONS(.flags = MP_SEMAPHORE_SIGNALS),
                             &o->signals),
         "signals");
    must(mp_event_create(o->arena, NULL, &o->event), "event");
    must(mp_condition_create(o->arena, NULL, &o->condition), "condition");
    must(mp_queue_create(o->arena, NULL, NULL, &o->queue), "queue");
    if (pipe(ready) < 0)
        exit(1);
    for (o->n_others = 0; o->n_others < participants - 1; o->n_others++) {
        pid_t parent = getpid(), pid = fork();

        if (pid < 0)
            exit(1);
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent || mp_arena_join(o->arena) < 0 || write(ready[1], "", 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        o->others[o->n_others] = pid;
    }
    for (unsigned i = 0; i < o->n_others; i++)
        if (read(ready[0], &(char){0}, 1) != 1)
            exit(1);
    close(ready[0]);
    close(ready[1]);
}

static void close_arena(struct objects *o)
{
    for (unsigned i = 0; i < o->n_others; i++)
        kill(o->others[i], SIGKILL);
    for (unsigned i = 0; i < o->n_others; i++)
        waitpid(o->others[i], NULL, 0);
    mp_lock_close(o->lock);
    mp_locks_close(o->locks);
    mp_rlock_close(o->rlock);
    mp_rwlock_close(o->rwlock);
    mp_semaphore_close(o->permits);
    mp_semaphore_close(o->signals);
    mp_event_close(o->event);
    mp_condition_close(o->condition);
    mp_queue_close(o->queue);
    mp_arena_close(o->arena);
}

/* ---- the comparison ---- */

typedef void (*pairs_fn)(struct objects *o, uint32_t n);

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double time_of(pairs_fn f, struct objects *o, uint32_t n)
{
    uint64_t begin;

    f(o, n / 10);
    begin = now_ns();
    f(o, n);
    return (double)(now_ns() - begin) / n;
}

static void compare(const char *name, pairs_fn f, struct objects *a, pairs_fn g, struct objects *b,
                    unsigned rounds)
{
    double x[ROUNDS_MOST], y[ROUNDS_MOST];

    for (unsigned i = 0; i < rounds; i++) {
        x[i] = time_of(f, a, 2 * LOCKS);
        y[i] = time_of(g, b, 2 * LOCKS);
    }
    qsort(x, rounds, sizeof x[0], by_size);
    qsort(y, rounds, sizeof y[0], by_size);
    printf("%-22s %8.1f %8.1f %6.2f\n", name, x[rounds / 2], y[rounds / 2],
           y[rounds / 2] / x[rounds / 2]);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        pairs_fn f;
    } all[] = {
        {"lock", one_lock},         {"rlock", rlock},
        {"rwlock, read", reading},  {"rwlock, write", writing},
        {"permits", permits},       {"signals", signals},
        {"event", event},           {"condition, notify", notifying},
        {"queue, 64 bytes", queue},
    };
    static struct objects few, many;
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 9;

    if (rounds < 1 || rounds > ROUNDS_MOST) {
        fprintf(stderr, "usage: scale [ROUNDS]\n");
        return 2;
    }
    open_arena(&few, FEW);
    open_arena(&many, MANY);
    printf("%-22s %8s %8s %6s\n", "locks", "1", "1000000", "ratio");
    compare("acquire, release", one_lock, &few, many_locks, &few, rounds);
    printf("%-22s %8u %8u %6s\n", "participants", FEW, MANY, "ratio");
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        compare(all[i].name, all[i].f, &few, all[i].f, &many, rounds);
    close_arena(&few);
    close_arena(&many);
    return 0;
}
