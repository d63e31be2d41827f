/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Killed at every instruction.
 *
 * A scenario is one operation on an arena. Its victim, a process of its own, is stepped through it
 * and killed by SIGKILL after k instructions, for k = 0, 1, 2 ... to the end; each time anew, with
 * a new arena. The survivors are the tracer and its threads, one other participant. They must
 * finish what they wait for within four seconds of the kill, and find everything as it should be.
 *
 * The library is built for this with sleeps that are not cut after a second (arena/sleep.h), so
 * that a lost wake-up shows as a hang.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <mp/arena.h>
#include <mp/lock.h>
#include <mp/queue.h>

#include "arena/arena.h"
#include "base/atomic.h"
#include "crash/ledger.h"
#include "crash/stepper.h"
#include "crash/survey.h"

#define SURVIVORS_MOST 4
#define SURVIVORS_NS MP_SEC(4)

/* What a victim leaves behind besides the arena: what it said. Shared by tracer and victims. */
struct note {
    mp_a32 done;         /* the operation is over */
    mp_a32 gate;         /* opened by the tracer, for a victim that waits for it */
    mp_a32 stage;        /* how far it was, for scenarios that want to know */
    mp_a32 complaints;   /* crash_fail() in a victim */
    volatile uint32_t a; /* counted together while the lock is held */
    volatile uint32_t b;
    struct ledger ledger;
};

struct point;

struct survivor {
    struct point *point;
    pthread_t thread;
    void (*work)(struct point *p, struct survivor *s);
    mp_a32 tid;
    mp_a32 done;
    mp_a32 go; /* for work that holds something until it is told */
    _Atomic(int) result;
};

/* One run of a scenario, killed at one instruction. */
struct point {
    const struct scenario *scenario;
    struct note *note;
    uint64_t k;
    mp_arena *arena;
    mp_lock *lock;
    mp_queue *queue;
    struct victim victim;
    struct survivor survivors[SURVIVORS_MOST];
    unsigned n_survivors;
    bool woken; /* it was asleep, and scenario->asleep() was called */
    uint64_t killed_ns;
    unsigned held; /* blocks that the tracer has in its hands, for the audit */
    void *memory;
};

struct scenario {
    const char *name;
    const void *detail; /* the group's */

    /* In the tracer: before there is a victim, and when it stands before the operation. */
    void (*begin)(struct point *p);
    void (*ready)(struct point *p);

    /* In the victim: what is not stepped, and what is. */
    void (*prepare)(struct point *p);
    void (*operate)(struct point *p);

    /* In the tracer: the victim sleeps, let it go on; it stands and will be killed, go on working
     * beside it, without waiting; it is dead. */
    void (*asleep)(struct point *p);
    void (*meanwhile)(struct point *p);
    void (*after)(struct point *p);

    uint64_t polls; /* it wakes by itself to look again: after so many steps it counts as asleep */
    bool goes_on;   /* after what is done meanwhile it comes to its end, and is killed there */
    bool anywhere;  /* what is done meanwhile is tried wherever it is killed */
    bool states;    /* killed only where something changes, before and after it */
    bool keeper;    /* its keeper is stepped through what its main thread asks for */
    uint64_t every; /* killed at every instruction if there are no more than this; 0: a default */
    uint64_t size;  /* of the arena; 0: the smallest */
    uint32_t participants;
};

struct group {
    const char *name;
    const struct scenario *scenarios;
    unsigned n;
};

extern const struct group crash_rwlock, crash_barrier;
extern const struct group crash_locks, crash_mpmc, crash_spsc, crash_blocks, crash_arenas,
    crash_directory, crash_recovery, crash_semaphores, crash_rlocks, crash_events, crash_conditions,
    crash_joinable;
extern const struct group crash_values, crash_maps, crash_wait, crash_reuse;

/* Tell of a failure at this point; the run goes on. */
__attribute__((format(printf, 2, 3))) void crash_fail(struct point *p, const char *format, ...);

/* The same, when nothing can go on any more. */
__attribute__((format(printf, 2, 3), noreturn)) void crash_abort(struct point *p,
                                                                 const char *format, ...);

#define crash_check(p, condition)                               \
    do {                                                        \
        if (!(condition))                                       \
            crash_fail(p, "line %d: %s", __LINE__, #condition); \
    } while (0)

/* For calls that must succeed where no victim is involved. */
#define crash_must(p, r)                                            \
    do {                                                            \
        int must_ = (r);                                            \
        if (must_ < 0)                                              \
            crash_abort(p, "line %d: %s: %d", __LINE__, #r, must_); \
    } while (0)

/* Wait for a condition, for up to ten seconds; `what` tells what for. */
#define crash_until(p, condition, what)                               \
    do {                                                              \
        uint64_t until_ = mp_now_ns() + MP_SEC(10);                   \
        while (!(condition)) {                                        \
            if (mp_now_ns() > until_)                                 \
                crash_abort(p, "line %d: never: %s", __LINE__, what); \
            crash_pause();                                            \
        }                                                             \
    } while (0)
void crash_pause(void);

/* ---- survivors (survivors.c) ---- */

/* Start a thread of the tracer's. */
struct survivor *survivor_start(struct point *p, void (*work)(struct point *, struct survivor *));

/* Wait until it sleeps in the library. */
void survivor_wait_asleep(struct survivor *s);

/* All must end within four seconds of the kill. */
void survivors_join(struct point *p);

/* Wait until the dead have been swept away: the slots of all others are free again. */
void survivors_wait_swept(struct point *p);

/* Has everything that the dead left been seen to? */
bool survivors_are_alone(const struct point *p);

/* A timeout that ends when all should have ended long ago: one that runs out hides nothing, though
 * the last look before it may have helped. */
uint64_t survivors_timeout(const struct point *p);

/* ---- audit.c ---- */

/* At rest, with the tracer as the only participant: every block is in exactly one place, no word
 * names a dead participant, nothing is half done. */
void audit_arena(struct point *p);

/* ---- for scenarios with more than one victim (crash.c) ---- */

/* Fork a process that joins the arena, prepares, and stands before `operate`. */
void crash_fork(struct point *p, struct victim *v, void (*prepare)(struct point *),
                void (*operate)(struct point *));

/* From now on the victim's keeper is stepped. Its main thread goes on into the operation, until it
 * waits for the keeper. */
void crash_turn_to_keeper(struct point *p);

/* The thread of a process with this name. 0: none (yet). */
pid_t crash_thread(pid_t pid, const char *name);

/* From now on the victim's keeper is stopped (crash-recovery.c). */
void crash_hold_keeper(struct point *p);

/* Step a victim until a condition holds. `way` is empty at first, and shortens it the next time. */
void crash_step_until(struct point *p, struct victim *v, bool (*condition)(const struct point *),
                      struct survey *way);
