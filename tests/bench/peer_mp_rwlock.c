/* SPDX-License-Identifier: MIT */
/*
 * The lock of readers and writers: MODE SIZE COUNT.
 *
 *   uncontended     one process: write, one increment, release; ns a pair
 *   rd_uncontended  one process: read, look, release
 *   contended       two writers, COUNT pairs each; wall ns a pair, all counted
 *   rd_contended    two readers, the same
 *
 * SIZE: turns of an empty loop between a release and the next acquire. PEER_SLOTS=N: of an arena
 * for so many participants, all of which have taken part.
 */

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mp/rwlock.h>

struct board {
    _Alignas(64) volatile uint64_t counter;
    _Alignas(64) _Atomic(uint32_t) arrived;
    uint64_t begin_ns;
    uint64_t end_ns[2];
};

static struct board *board;
static mp_rwlock *lock;
static uint64_t count, work;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void pause_between(void)
{
    for (uint64_t k = 0; k < work; k++)
        __asm__ volatile("" ::: "memory");
}

static void pairs(uint64_t n, bool reads)
{
    for (uint64_t i = 0; i < n && reads; i++) {
        if (mp_rwlock_read(lock, MP_FOREVER) < 0)
            _exit(1);
        (void)board->counter;
        if (mp_rwlock_release_read(lock) < 0)
            _exit(1);
        pause_between();
    }
    for (uint64_t i = 0; i < n && !reads; i++) {
        if (mp_rwlock_write(lock, MP_FOREVER) < 0)
            _exit(1);
        board->counter = board->counter + 1;
        if (mp_rwlock_release_write(lock) < 0)
            _exit(1);
        pause_between();
    }
}

static void contend(int id, bool reads)
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
    pairs(count, reads);
    board->end_ns[id] = now_ns();
}

static double both(bool reads)
{
    uint64_t end;
    int status;

    for (int id = 0; id < 2; id++) {
        pid_t parent = getpid();
        pid_t pid = fork();

        if (pid < 0)
            exit(1);
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                _exit(1);
            contend(id, reads);
            _exit(0);
        }
    }
    for (int id = 0; id < 2; id++)
        if (wait(&status) < 0 || status != 0)
            exit(1);
    if (!reads && board->counter != 2 * count)
        exit(1);
    end = board->end_ns[0] > board->end_ns[1] ? board->end_ns[0] : board->end_ns[1];
    return (double)(end - board->begin_ns) / (double)(2 * count);
}

static double alone(bool reads)
{
    uint64_t begin;

    pairs(count / 10 + 1, reads);
    begin = now_ns();
    pairs(count, reads);
    return (double)(now_ns() - begin) / (double)count;
}

/* Children that take part once, so that every slot has been used. */
static void use_slots(mp_arena *arena, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        int status;
        pid_t pid = fork();

        if (pid == 0)
            _exit(mp_arena_join(arena) < 0);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            exit(1);
    }
}

int main(int argc, char **argv)
{
    const char *slots = getenv("PEER_SLOTS");
    uint32_t n = slots ? (uint32_t)strtoul(slots, NULL, 0) : 0;
    mp_arena *arena;
    bool reads;
    double ns;
    void *p;

    if (argc != 4)
        return 64;
    work = strtoull(argv[2], NULL, 0);
    count = strtoull(argv[3], NULL, 0);
    reads = !strncmp(argv[1], "rd_", 3);
    if (mp_arena_create("peer", MP_ARENA_OPTIONS(.participants = n), &arena) < 0 ||
        mp_rwlock_create(arena, "rwlock", &lock) < 0 ||
        mp_block_create(arena, "board", sizeof *board, &p) < 0)
        return 1;
    board = p;
    use_slots(arena, n);
    if (!strcmp(argv[1] + (reads ? 3 : 0), "uncontended"))
        ns = alone(reads);
    else if (!strcmp(argv[1] + (reads ? 3 : 0), "contended"))
        ns = both(reads);
    else
        return 77;
    mp_rwlock_close(lock);
    mp_arena_close(arena);
    printf("mp_rwlock %s %s %s %.1f\n", argv[1], argv[2], argv[3], ns);
    return 0;
}
