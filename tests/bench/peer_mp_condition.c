/* SPDX-License-Identifier: MIT */
/*
 * The condition: MODE SIZE COUNT.
 *
 *   pingpong      two processes, a lock and a condition for each: COUNT round trips; ns a round
 *                 trip
 *   idle          one process notifies COUNT times where nobody waits; ns a lock, notify, release
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

#include <mp/condition.h>

struct board {
    _Alignas(64) volatile int turn;
    _Alignas(64) _Atomic(uint32_t) arrived;
    uint64_t begin_ns;
    uint64_t end_ns[2];
};

static struct board *board;
static mp_lock *lock;
static mp_condition *conditions[2];
static uint64_t count;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void play(int id)
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
    for (uint64_t i = 0; i < count; i++) {
        if (mp_lock_acquire(lock, MP_FOREVER) < 0)
            _exit(1);
        while (board->turn != id)
            if (mp_condition_wait(conditions[id], lock, MP_FOREVER) < 0)
                _exit(1);
        board->turn = !id;
        if (mp_condition_notify(conditions[!id], lock, 1) < 0)
            _exit(1);
        if (mp_lock_release(lock) < 0)
            _exit(1);
    }
    board->end_ns[id] = now_ns();
}

static int pingpong(double *ret_ns)
{
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
            play(id);
            _exit(0);
        }
    }
    for (int id = 0; id < 2; id++)
        if (wait(&status) < 0 || status != 0)
            return 1;
    end = board->end_ns[0] > board->end_ns[1] ? board->end_ns[0] : board->end_ns[1];
    *ret_ns = (double)(end - board->begin_ns) / (double)count;
    return 0;
}

static int idle(double *ret_ns)
{
    uint64_t begin = now_ns();

    for (uint64_t i = 0; i < count; i++)
        if (mp_lock_acquire(lock, MP_FOREVER) < 0 ||
            mp_condition_notify(conditions[0], lock, 1) < 0 || mp_lock_release(lock) < 0)
            return 1;
    *ret_ns = (double)(now_ns() - begin) / (double)count;
    return 0;
}

int main(int argc, char **argv)
{
    mp_arena *arena;
    void *p;
    double ns;
    int r;

    if (argc != 4)
        return 64;
    count = strtoull(argv[3], NULL, 0);
    if (mp_arena_create("peer", NULL, &arena) < 0 || mp_lock_create(arena, "lock", &lock) < 0 ||
        mp_condition_create(arena, "0", &conditions[0]) < 0 ||
        mp_condition_create(arena, "1", &conditions[1]) < 0 ||
        mp_block_create(arena, "board", sizeof *board, &p) < 0)
        return 1;
    board = p;
    if (!strcmp(argv[1], "pingpong"))
        r = pingpong(&ns);
    else if (!strcmp(argv[1], "idle"))
        r = idle(&ns);
    else
        return 77;
    mp_condition_close(conditions[0]);
    mp_condition_close(conditions[1]);
    mp_lock_close(lock);
    mp_arena_close(arena);
    if (r == 0)
        printf("mp_condition %s %s %s %.1f\n", argv[1], argv[2], argv[3], ns);
    return r;
}
