/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Who takes part in a test: the same behaviour is tried between threads, forked processes, and
 * programs that were started anew and know nothing but an inherited descriptor.
 *
 *     PART(count)
 *     {
 *         ... part->arena, part->index, part->argument ...
 *     }
 *
 *     crew_start(&crew, carrier, arena, count, 4, 1000);
 *     crew_join(&crew);
 *
 * A part checks with assert(); a process that aborts fails its crew's join. A program with parts
 * that are started anew calls crew_member() first in main().
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <mp/arena.h>

enum carrier { THREADS, FORK, EXEC };

#define CREW_MOST 64

struct part {
    mp_arena *arena;
    unsigned index;
    uint64_t argument;
    enum carrier carrier;
};

typedef void (*part_fn)(struct part *part);

struct crew {
    enum carrier carrier;
    unsigned n;
    struct part parts[CREW_MOST];
    part_fn run;
    pthread_t threads[CREW_MOST];
    pid_t pids[CREW_MOST];
};

/* Parts are known by name to programs that start anew. */
struct part_name {
    struct part_name *next;
    const char *name;
    part_fn run;
};

void part_register(struct part_name *name);

#define PART(f)                                                 \
    static void f(struct part *part);                           \
    __attribute__((constructor)) static void register_##f(void) \
    {                                                           \
        static struct part_name name = {.name = #f, .run = f};  \
        part_register(&name);                                   \
    }                                                           \
    static void f(struct part *part)

/* Start n, which run at once. The parts of processes end by _exit(0). */
void crew_start(struct crew *crew, enum carrier carrier, mp_arena *arena, part_fn run, unsigned n,
                uint64_t argument);

/* Wait for all that were not killed; each must have ended well. */
void crew_join(struct crew *crew);

/* Kill one process of the crew, and reap it. */
void crew_kill(struct crew *crew, unsigned index);

/* True: this is a part that was started anew, and it is done. */
bool crew_member(int argc, char **argv);

/* Can processes take part here? Not where a tool sees only threads (ThreadSanitizer, valgrind). */
bool carrier_works(enum carrier carrier);

/* For cmocka: the test gets its carrier as its state. */
#define carrier_of(state) ((enum carrier)(intptr_t) * (state))
#define carried_test(f, carrier)                                                                \
    {                                                                                           \
#f " (" #carrier ")", f, leftovers_before, leftovers_after, (void *)(intptr_t)(carrier) \
    }
#define on_carriers(f) carried_test(f, THREADS), carried_test(f, FORK), carried_test(f, EXEC)
#define on_processes(f) carried_test(f, FORK), carried_test(f, EXEC)
#define need_carrier(state)                    \
    do {                                       \
        if (!carrier_works(carrier_of(state))) \
            skip();                            \
    } while (0)

/* A forked child that runs f and ends by _exit(0); its pid. */
pid_t child_start(void (*f)(void *user), void *user);

/* It must end by itself, and well. */
void child_join(pid_t pid);

/* SIGKILL, and reaped. */
void child_kill(pid_t pid);
