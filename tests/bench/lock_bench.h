/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The driver of the benchmarks of locks: MODE SIZE COUNT. Who includes it says what a lock is: the
 * type LOCK, and LOCK_CALL(f), the function of that type.
 *
 *   uncontended   one process: acquire, one increment, release; ns a pair
 *   contended     two processes on one lock, COUNT pairs each; wall ns a pair, all counted.
 *                 SIZE: turns of an empty loop between a release and the next acquire.
 */

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mp/arena.h>

struct board {
    _Alignas(64) volatile uint64_t counter;
    _Alignas(64) _Atomic(uint32_t) arrived;
    uint64_t begin_ns;
    uint64_t end_ns[2];
};

static struct board *board;
static LOCK *lock;
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
        if (LOCK_CALL(acquire)(lock, MP_FOREVER) < 0)
            _exit(1);
        board->counter = board->counter + 1;
        if (LOCK_CALL(release)(lock) < 0)
            _exit(1);
        for (uint64_t k = 0; k < work; k++)
            __asm__ volatile("" ::: "memory");
    }
}

static void contend(int id)
{
    const char *pin = getenv("PEER_PIN");
    cpu_set_t set;

    if (pin && strcmp(pin, "none")) {
        CPU_ZERO(&set);
        CPU_SET(!strcmp(pin, "split") ? id : 0, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    atomic_fetch_add(&board->arrived, 1);
    while (atomic_load(&board->arrived) < 2)
        sched_yield();
    if (id == 0)
        board->begin_ns = now_ns();
    pairs(count);
    board->end_ns[id] = now_ns();
}

static int bench(int argc, char **argv, const char *name)
{
    mp_arena *arena;
    void *p;
    double ns;

    if (argc != 4)
        return 64;
    work = strtoull(argv[2], NULL, 0);
    count = strtoull(argv[3], NULL, 0);
    if (mp_arena_create("peer", NULL, &arena) < 0 || LOCK_CALL(create)(arena, "lock", &lock) < 0 ||
        mp_block_create(arena, "board", sizeof *board, &p) < 0)
        return 1;
    board = p;
    if (!strcmp(argv[1], "uncontended")) {
        uint64_t begin;

        pairs(count / 10 + 1);
        begin = now_ns();
        pairs(count);
        ns = (double)(now_ns() - begin) / (double)count;
    } else if (!strcmp(argv[1], "contended")) {
        uint64_t end;
        int status;

        for (int id = 0; id < 2; id++) {
            pid_t parent = getpid();
            pid_t pid = fork();

            if (pid < 0)
                return 1;
            if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != parent)
                    _exit(1);
                contend(id);
                _exit(0);
            }
        }
        for (int id = 0; id < 2; id++)
            if (wait(&status) < 0 || status != 0)
                return 1;
        if (board->counter != 2 * count)
            return 1;
        end = board->end_ns[0] > board->end_ns[1] ? board->end_ns[0] : board->end_ns[1];
        ns = (double)(end - board->begin_ns) / (double)(2 * count);
    } else {
        return 77;
    }
    LOCK_CALL(close)(lock);
    mp_arena_close(arena);
    printf("%s %s %s %s %.1f\n", name, argv[1], argv[2], argv[3], ns);
    return 0;
}
