/* SPDX-License-Identifier: MIT */
/*
 * The semaphore: MODE SIZE COUNT.
 *
 *   uncontended   one process: acquire, one increment, release; ns a pair. Permits.
 *   signals       the same with signals
 *   contended     two processes on one permit, COUNT pairs each; wall ns a pair, all counted.
 *                 SIZE: turns of an empty loop between a release and the next acquire.
 *   pingpong      two processes and two semaphores for signals; ns a round trip
 */

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mp/semaphore.h>

struct board {
    _Alignas(64) volatile uint64_t counter;
    _Alignas(64) _Atomic(uint32_t) arrived;
    uint64_t begin_ns;
    uint64_t end_ns[2];
};

static mp_arena *arena;
static struct board *board;
static mp_semaphore *semaphore, *turn[2];
static uint64_t count, work;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void pairs(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (mp_semaphore_acquire(semaphore, MP_FOREVER) < 0)
            _exit(1);
        board->counter = board->counter + 1;
        if (mp_semaphore_release(semaphore, 1) < 0)
            _exit(1);
        for (uint64_t k = 0; k < work; k++)
            __asm__ volatile("" ::: "memory");
    }
}

static void contend(int id)
{
    (void)id;
    pairs(count);
}

static void pingpong(int id)
{
    for (uint64_t i = 0; i < count; i++) {
        if (id == 0 && mp_semaphore_release(turn[1], 1) < 0)
            _exit(1);
        if (mp_semaphore_acquire(turn[id], MP_FOREVER) < 0)
            _exit(1);
        if (id == 1 && mp_semaphore_release(turn[0], 1) < 0)
            _exit(1);
    }
}

static void take_part(int id, void (*part)(int id))
{
    const char *pin = getenv("PEER_PIN");
    cpu_set_t set;

    if (pin && strcmp(pin, "none")) {
        CPU_ZERO(&set);
        CPU_SET(!strcmp(pin, "split") ? id : 0, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    if (mp_arena_join(arena) < 0) /* once for a process, not part of an operation */
        _exit(1);
    atomic_fetch_add(&board->arrived, 1);
    while (atomic_load(&board->arrived) < 2)
        sched_yield();
    if (id == 0)
        board->begin_ns = now_ns();
    part(id);
    board->end_ns[id] = now_ns();
}

/* Wall ns from the first start to the last end; 0: somebody failed. */
static double by_two(void (*part)(int id))
{
    uint64_t end;
    int status;

    for (int id = 0; id < 2; id++) {
        pid_t parent = getpid();
        pid_t pid = fork();

        if (pid < 0)
            return 0;
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                _exit(1);
            take_part(id, part);
            _exit(0);
        }
    }
    for (int id = 0; id < 2; id++)
        if (wait(&status) < 0 || status != 0)
            return 0;
    end = board->end_ns[0] > board->end_ns[1] ? board->end_ns[0] : board->end_ns[1];
    return (double)(end - board->begin_ns);
}

static double alone(void)
{
    uint64_t begin;

    pairs(count / 10 + 1);
    begin = now_ns();
    pairs(count);
    return (double)(now_ns() - begin);
}

int main(int argc, char **argv)
{
    void *p;
    double ns;

    if (argc != 4)
        return 64;
    work = strtoull(argv[2], NULL, 0);
    count = strtoull(argv[3], NULL, 0);
    if (mp_arena_create("peer", NULL, &arena) < 0 ||
        mp_semaphore_create(
            arena, NULL,
            MP_SEMAPHORE_OPTIONS(.value = 1, .flags = strcmp(argv[1], "signals")
                                                          ? 0
                                                          : (uint32_t)MP_SEMAPHORE_SIGNALS),
            &semaphore) < 0 ||
        mp_semaphore_create(arena, NULL, MP_SEMAPHORE_OPTIONS(.value = 0), &turn[0]) < 0 ||
        mp_semaphore_create(arena, NULL, MP_SEMAPHORE_OPTIONS(.value = 0), &turn[1]) < 0 ||
        mp_block_create(arena, "board", sizeof *board, &p) < 0)
        return 1;
    board = p;
    if (!strcmp(argv[1], "uncontended") || !strcmp(argv[1], "signals")) {
        ns = alone() / (double)count;
    } else if (!strcmp(argv[1], "contended")) {
        ns = by_two(contend) / (double)(2 * count);
        if (board->counter != 2 * count)
            return 1;
    } else if (!strcmp(argv[1], "pingpong")) {
        ns = by_two(pingpong) / (double)count;
    } else {
        return 77;
    }
    if (ns == 0)
        return 1;
    mp_semaphore_close(semaphore);
    mp_semaphore_close(turn[0]);
    mp_semaphore_close(turn[1]);
    mp_arena_close(arena);
    printf("mp_semaphore %s %s %s %.1f\n", argv[1], argv[2], argv[3], ns);
    return 0;
}
