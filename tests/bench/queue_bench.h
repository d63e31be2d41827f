/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The driver of the queue benchmarks: MODE SIZE COUNT on the command line, one line of result on
 * stdout.
 *
 *   stream      one producer process, one consumer process; ns a message
 *   streamsum   the same, and the consumer adds up every word
 *   pingpong    two processes, two queues, one message on its way; ns a round trip
 *   mpmc        two producers, two consumers, one queue; ns a message
 *
 * The producer writes every byte of the message in place; the consumer checks the first and the
 * last word in place. One tenth more messages go ahead to warm up. PEER_PIN=none|split|same places
 * the processes, PEER_DEPTH sets the queue's size.
 */

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mp/queue.h>

#define LAST UINT64_MAX

struct board {
    _Atomic(uint32_t) arrived;
    _Atomic(uint32_t) producing;
    _Alignas(64) uint64_t begin_ns;
    _Alignas(64) uint64_t end_ns[2];
    uint64_t sum[2];
    uint64_t count[2];
};

static struct board *board;
static const char *name;
static size_t size;
static uint64_t count, warm;
static int sum_all;
static mp_queue *queues[2];

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, int r)
{
    fprintf(stderr, "%s: %s: %s\n", name, what, r < 0 ? strerror(-r) : "wrong");
    _exit(1);
}

static void place(int role)
{
    const char *pin = getenv("PEER_PIN");
    cpu_set_t set;

    if (!pin || !strcmp(pin, "none"))
        return;
    CPU_ZERO(&set);
    CPU_SET(!strcmp(pin, "split") ? role : 0, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void meet(uint32_t parties)
{
    atomic_fetch_add(&board->arrived, 1);
    while (atomic_load(&board->arrived) < parties)
        sched_yield();
}

static inline void give(mp_queue *q, uint64_t seq)
{
    struct mp_message m;
    int r = mp_queue_loan(q, size, MP_FOREVER, &m);

    if (__builtin_expect(r < 0, 0))
        fail("loan", r);
    if (size == 8) {
        memcpy(m.data, &seq, 8);
    } else {
        if (size == 64)
            memset(m.data, (int)(seq & 0x7f), 64);
        else
            memset(m.data, (int)(seq & 0x7f), size);
        memcpy(m.data, &seq, 8);
        memcpy((char *)m.data + size - 8, &seq, 8);
    }
    r = mp_queue_commit(q, &m, MP_FOREVER);
    if (__builtin_expect(r < 0, 0))
        fail("commit", r);
}

static void add_up(const struct mp_message *m, uint64_t seq)
{
    const uint64_t *words = m->data;
    uint64_t sum = 0;

    for (size_t i = 1; i + 1 < size / 8; i++)
        sum += words[i];
    if (sum != (seq & 0x7f) * UINT64_C(0x0101010101010101) * (size / 8 - 2))
        fail("sum", 0);
}

static inline uint64_t take(mp_queue *q)
{
    struct mp_message m;
    uint64_t first, last;
    int r = mp_queue_receive(q, MP_FOREVER, &m);

    if (__builtin_expect(r < 0 || m.size != size, 0))
        fail("receive", r);
    memcpy(&first, m.data, 8);
    memcpy(&last, (const char *)m.data + size - 8, 8);
    if (__builtin_expect(first != last, 0))
        fail("message", 0);
    if (__builtin_expect(sum_all, 0) && size > 16)
        add_up(&m, first);
    r = mp_queue_release(q, &m);
    if (__builtin_expect(r < 0, 0))
        fail("release", r);
    return first;
}

static void produce(int role)
{
    place(role);
    meet(2);
    for (uint64_t i = 0; i < warm + count; i++)
        give(queues[0], i);
}

static void consume(int role)
{
    place(role);
    meet(2);
    for (uint64_t i = 0; i < warm + count; i++) {
        if (take(queues[0]) != i)
            fail("order", 0);
        if (i + 1 == warm)
            board->begin_ns = now_ns();
    }
    board->end_ns[0] = now_ns();
}

static void ping(int role)
{
    place(role);
    meet(2);
    for (uint64_t i = 0; i < warm + count; i++) {
        if (i == warm)
            board->begin_ns = now_ns();
        give(queues[0], i);
        if (take(queues[1]) != i)
            fail("order", 0);
    }
    board->end_ns[0] = now_ns();
}

static void pong(int role)
{
    place(role);
    meet(2);
    for (uint64_t i = 0; i < warm + count; i++)
        give(queues[1], take(queues[0]));
}

static void produce_many(int role)
{
    place(role);
    meet(4);
    if (role == 0)
        board->begin_ns = now_ns();
    for (uint64_t i = 0; i < count / 2; i++)
        give(queues[0], (uint64_t)role * (count / 2) + i);
    if (atomic_fetch_sub(&board->producing, 1) == 1) {
        give(queues[0], LAST);
        give(queues[0], LAST);
    }
}

static void consume_many(int role)
{
    uint64_t sum = 0, n = 0, seq;

    place(role);
    meet(4);
    while ((seq = take(queues[0])) != LAST) {
        sum += seq;
        n++;
    }
    board->end_ns[role] = now_ns();
    board->sum[role] = sum;
    board->count[role] = n;
}

static void start(void (*f)(int), int role)
{
    pid_t parent = getpid();
    pid_t pid = fork();

    if (pid < 0) {
        perror("fork");
        exit(1);
    }
    if (pid > 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    f(role);
    _exit(0);
}

static int bench(int argc, char **argv, const char *program, uint32_t flags)
{
    const char *depth = getenv("PEER_DEPTH");
    uint64_t end, blocks;
    uint32_t maxsize;
    mp_arena *arena;
    int r, children, bad = 0;

    name = program;
    if (argc != 4) {
        fprintf(stderr, "usage: %s stream|streamsum|pingpong|mpmc SIZE COUNT\n", argv[0]);
        return 64;
    }
    size = strtoull(argv[2], NULL, 0);
    count = strtoull(argv[3], NULL, 0) & ~UINT64_C(1);
    warm = count / 10 + 1;
    sum_all = !strcmp(argv[1], "streamsum");
    maxsize = depth ? (uint32_t)atoi(depth) : size <= 1024 ? 1024 : size <= 65536 ? 16 : 8;
    if (size < 8 || size % 8 || count < 2 || maxsize < 1)
        return 64;
    if (!strcmp(argv[1], "mpmc") && flags)
        return 77;
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    board->producing = 2;
    blocks = (uint64_t)maxsize * 2 + 512;
    r = mp_arena_create(program, MP_ARENA_OPTIONS(.size = blocks * size + (64 << 20)), &arena);
    if (r < 0)
        fail("arena", r);
    for (int i = 0; i < 2; i++) {
        r = mp_queue_create(arena, NULL, MP_QUEUE_OPTIONS(.maxsize = maxsize, .flags = flags),
                            &queues[i]);
        if (r < 0)
            fail("queue", r);
    }
    if (!strcmp(argv[1], "stream") || sum_all) {
        start(consume, 1);
        start(produce, 0);
        children = 2;
    } else if (!strcmp(argv[1], "pingpong")) {
        start(pong, 1);
        start(ping, 0);
        children = 2;
    } else if (!strcmp(argv[1], "mpmc")) {
        start(consume_many, 0);
        start(consume_many, 1);
        start(produce_many, 0);
        start(produce_many, 1);
        children = 4;
    } else {
        return 64;
    }
    while (children-- > 0) {
        int status;

        if (wait(&status) < 0 || status != 0) {
            bad = 1;
            break; /* the others die with us */
        }
    }
    if (bad)
        return 1;
    end = board->end_ns[0] > board->end_ns[1] ? board->end_ns[0] : board->end_ns[1];
    if (!strcmp(argv[1], "mpmc") && (board->count[0] + board->count[1] != count ||
                                     board->sum[0] + board->sum[1] != count * (count - 1) / 2))
        fail("count", 0);
    mp_queue_close(queues[0]);
    mp_queue_close(queues[1]);
    mp_arena_close(arena);
    printf("%s %s %zu %llu %.1f\n", program, argv[1], size, (unsigned long long)count,
           (double)(end - board->begin_ns) / (double)count);
    return 0;
}
