/* SPDX-License-Identifier: MIT */
/*
 * Scenes in which all is well: objects in every state that mpctl tells apart, with processes that
 * hold them, wait for them, are stopped and have died; a pool at work; arenas of one name; and
 * processes that are killed all the time.
 *
 * A waiter is stopped while it is asleep, so that it is found waiting whenever somebody looks: left
 * alone it wakes now and then to look round, and is then not waiting for a moment.
 */

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena/arena.h"
#include "base/macro.h"
#include "base/until.h"
#include "kernel/pidfd.h"
#include "tools/stage.h"

#define SMALL MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 16, .objects = 32)

static mp_arena *arena;
static mp_queue *again, *empty, *full;
static mp_lock *held, *orphan;
static mp_rlock *deep;
static mp_rwlock *book;
static mp_event *dawn;
static mp_lock *guard;
static mp_condition *news;

/* ---- children ---- */

static void wait_for_lock(void)
{
    NEED(mp_lock_acquire(held, MP_FOREVER));
}

static void wait_for_message(void)
{
    int n;

    NEED(mp_queue_get(empty, &n, sizeof n, MP_FOREVER, NULL));
}

static void wait_for_dawn(void)
{
    NEED(mp_event_wait(dawn, MP_FOREVER));
}

static void wait_for_news(void)
{
    NEED(mp_lock_acquire(guard, MP_FOREVER));
    NEED(mp_condition_wait(news, guard, MP_FOREVER));
}

static void wait_for_room(void)
{
    int n = 0;

    NEED(mp_queue_put(full, &n, sizeof n, MP_FOREVER));
}

/* Holds a lock and a message until it is killed. */
static void hold(void)
{
    struct mp_message m;

    NEED(mp_lock_acquire(orphan, MP_FOREVER));
    NEED(mp_queue_receive(again, MP_FOREVER, &m));
    NEED(mp_queue_put(empty, "", 1, MP_FOREVER)); /* done */
    pause();
}

/* Is a thread of this process asleep in the arena, by what it has written there? */
static int is_asleep(pid_t pid)
{
    for (uint32_t i = 0; i < arena->geometry.participants; i++) {
        uint64_t id = mp_load_relaxed(&arena->slots[i].id);

        for (uint32_t n = 0; (pid_t)(uint32_t)id == pid && n < MP_WAIT_RECORDS_PER_SLOT; n++)
            if (mp_load_relaxed(&arena->waits[i * MP_WAIT_RECORDS_PER_SLOT + n].who) >> 32 ==
                id >> 32)
                return 1;
    }
    return 0;
}

static pid_t start_waiter(void (*act)(void))
{
    pid_t pid = start_child(act);
    int status;

    for (;;) {
        until(is_asleep(pid));
        kill(pid, SIGSTOP);
        waitpid(pid, &status, WUNTRACED);
        if (is_asleep(pid))
            return pid;
        kill(pid, SIGCONT);
    }
}

/* ---- objects ---- */

static mp_queue *new_queue(const char *name, uint32_t maxsize, uint32_t flags, int messages)
{
    mp_queue *queue;

    NEED(mp_queue_create(arena, name,
                         MP_QUEUE_OPTIONS(.maxsize = maxsize, .flags = flags, .message_max = 1000),
                         &queue));
    for (int i = 0; i < messages; i++)
        NEED(mp_queue_put(queue, &i, sizeof i, 0));
    return queue;
}

static void make_queues(void)
{
    mp_queue *queue;
    struct mp_message m[2];

    new_queue("jobs", 8, 0, 3);
    again = new_queue("again", 8, 0, 3);
    empty = new_queue("empty", 8, MP_QUEUE_SINGLE_CONSUMER | MP_QUEUE_DROP_HELD, 0);
    full = new_queue("full", 1, 0, 1);

    /* Two of five are taken, of which the ring does not know yet. */
    queue = new_queue("wire", 16, MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER, 5);
    NEED(mp_queue_receive(queue, 0, &m[0]));
    NEED(mp_queue_receive(queue, 0, &m[1]));
    NEED(mp_queue_release(queue, &m[0]));

    NEED(mp_queue_shutdown(new_queue("over", 8, 0, 1), 0));
    NEED(mp_queue_shutdown(new_queue("ended", 8, 0, 1), 1));
    NEED(mp_queue_destroy(new_queue("gone", 8, 0, 1)));
}

static void make_locks(void)
{
    mp_lock *lock;

    NEED(mp_lock_create(arena, "free", &lock));
    NEED(mp_lock_create(arena, "held", &held));
    NEED(mp_lock_acquire(held, 0));
    NEED(mp_lock_create(arena, "orphan", &orphan));
    NEED(mp_lock_create(arena, "destroyed", &lock));
    NEED(mp_lock_destroy(lock));
    NEED(mp_rlock_create(arena, "deep", &deep));
    NEED(mp_rlock_acquire(deep, 0));
    NEED(mp_rlock_acquire(deep, 0));
    NEED(mp_rwlock_create(arena, "book", &book));
}

static void make_others(void)
{
    mp_rwlock *read, *written;
    mp_semaphore *semaphore;
    mp_barrier *barrier;
    mp_locks *rows;
    mp_event *event;

    NEED(mp_event_create(arena, "dawn", &dawn));
    NEED(mp_event_create(arena, "noon", &event));
    NEED(mp_event_set(event));
    NEED(mp_rwlock_create(arena, "read", &read));
    NEED(mp_rwlock_read(read, 0));
    NEED(mp_rwlock_read(read, 0));
    NEED(mp_rwlock_create(arena, "written", &written));
    NEED(mp_rwlock_write(written, 0));
    NEED(mp_semaphore_create(arena, "permits",
                             MP_SEMAPHORE_OPTIONS(.value = 3, .flags = MP_SEMAPHORE_BOUNDED),
                             &semaphore));
    NEED(mp_semaphore_acquire(semaphore, 0));
    NEED(mp_semaphore_acquire(semaphore, 0));
    NEED(mp_semaphore_create(arena, "signals",
                             MP_SEMAPHORE_OPTIONS(.value = 2, .flags = MP_SEMAPHORE_SIGNALS),
                             &semaphore));
    NEED(mp_barrier_create(arena, "gate", 3, NULL, &barrier));
    NEED(mp_barrier_create(arena, "ruin", 3, NULL, &barrier));
    NEED(mp_barrier_abort(barrier));
    NEED(mp_locks_create(arena, "rows", 1000, &rows));
    NEED(mp_locks_acquire(rows, 7, 0));
    NEED(mp_locks_acquire(rows, 999, 0));
    NEED(mp_lock_create(arena, "guard", &guard));
    NEED(mp_condition_create(arena, "news", &news));
}

/* Until the sweep after it is through. */
static void let_one_die(void)
{
    struct mp_queue_stats stats = {0};
    struct mp_lock_owner owner = {.pid = 1};
    pid_t pid = start_child(hold);
    char done;

    NEED(mp_queue_get(empty, &done, sizeof done, MP_FOREVER, NULL));
    kill_child(pid);
    until(mp_queue_stats(again, &stats) == 0 && stats.depth == 3);
    until(mp_lock_owner(orphan, &owner) == 0 && owner.pid == 0);
}

void scene_objects(const char *name)
{
    pid_t waiters[5];
    void *block;

    NEED(mp_arena_create(name, SMALL, &arena));
    make_queues();
    make_locks();
    make_others();
    NEED(mp_block_create(arena, "note", 100, &block));
    let_one_die();
    /* The role of the consumer is the parent's as yet. */
    empty = mp_queue_close(empty);
    NEED(mp_queue_open(arena, "empty", &empty));

    waiters[0] = start_waiter(wait_for_lock);
    waiters[1] = start_waiter(wait_for_message);
    waiters[2] = start_waiter(wait_for_room);
    waiters[3] = start_waiter(wait_for_dawn);
    waiters[4] = start_waiter(wait_for_news);
    tell("parent", getpid());
    tell("lock_waiter", waiters[0]);
    tell("consumer", waiters[1]);
    tell("producer", waiters[2]);
    tell("watcher", waiters[3]);
    tell("listener", waiters[4]);
    tell("fd", mp_arena_fd(arena));
    ready();
    while (!is_over(-1)) {
    }
    for (size_t i = 0; i < MP_ARRAY_SIZE(waiters); i++)
        kill_child(waiters[i]);
}

/* ---- a pool ---- */

MP_TASK(stay)
{
    while (pause() < 0) {
    }
    return 0;
}

#define WORKERS 3
#define TASKS 5

void scene_pool(const char *name)
{
    mp_pool *pool;
    mp_result *results[TASKS];
    struct mp_pool_stats stats = {0};
    pid_t pids[WORKERS];

    NEED(mp_pool_new(MP_POOL_OPTIONS(.workers = WORKERS, .name = name, .tries = 255), &pool));
    for (int i = 0; i < TASKS; i++)
        NEED(mp_pool_apply_async(pool, stay, NULL, 0, 0, NULL, &results[i]));
    until(mp_pool_stats(pool, &stats) == 0 && stats.workers == WORKERS && stats.idle == 0);
    NEED(mp_pool_worker_pids(pool, pids, WORKERS));
    kill(pids[0], SIGKILL);
    until(mp_pool_stats(pool, &stats) == 0 && stats.worker_deaths == 1 &&
          stats.workers == WORKERS && stats.idle == 0);
    NEED(mp_pool_worker_pids(pool, pids, WORKERS));
    tell("parent", getpid());
    tell("worker", pids[0]);
    ready();
    while (!is_over(-1)) {
    }
    mp_pool_free(pool);
    for (int i = 0; i < TASKS; i++)
        mp_result_free(results[i]);
}

/* ---- two of one name, and more of others ---- */

static void *stay_on(void *unused)
{
    pause();
    return unused;
}

/* Main ends, and leaves a thread and the arena behind. */
static void end_main(void)
{
    pthread_t thread;

    NEED(mp_arena_join(arena));
    NEED(-pthread_create(&thread, NULL, stay_on, NULL));
    pthread_exit(NULL);
}

void scene_many(const char *name)
{
    char other[MP_NAME_MAX + 1];
    mp_arena *arenas[12];
    pid_t pid;

    for (int i = 0; i < 12; i++) {
        snprintf(other, sizeof other, "%.30s-%d", name, i);
        NEED(mp_arena_create(i < 2 ? name : other, SMALL, &arenas[i]));
    }
    arena = arenas[11];
    pid = start_child(end_main);
    until(mp_task_state(pid) == 'Z');
    tell("no_main", pid);
    ready();
    while (!is_over(-1)) {
    }
    kill_child(pid);
    for (int i = 0; i < 12; i++)
        mp_arena_close(arenas[i]);
}

/* ---- a coming and going ---- */

static mp_semaphore *permits;

/* Each in its turn, so that nobody waits for ever. */
static void use_all(void)
{
    char byte = 0;

    for (;;) {
        NEED(mp_lock_acquire(held, MP_FOREVER));
        NEED(mp_rlock_acquire(deep, MP_FOREVER));
        NEED(mp_queue_put(again, &byte, sizeof byte, MP_FOREVER));
        NEED(mp_queue_get(again, &byte, sizeof byte, MP_FOREVER, NULL));
        NEED(mp_rlock_release(deep));
        NEED(mp_lock_release(held));
        NEED(mp_rwlock_read(book, MP_FOREVER));
        NEED(mp_semaphore_acquire(permits, MP_FOREVER));
        NEED(mp_semaphore_release(permits, 1));
        NEED(mp_rwlock_release_read(book));
        NEED(mp_rwlock_write(book, MP_FOREVER));
        NEED(mp_rwlock_release_write(book));
    }
}

void scene_churn(const char *name)
{
    pid_t pids[3] = {0};
    unsigned n = 0;

    NEED(mp_arena_create(name, SMALL, &arena));
    NEED(mp_lock_create(arena, "lock", &held));
    NEED(mp_rlock_create(arena, "rlock", &deep));
    NEED(mp_rwlock_create(arena, "book", &book));
    NEED(mp_semaphore_create(arena, "permit", NULL, &permits));
    again = new_queue("queue", 8, 0, 0);
    ready();
    /* Killed soon, or after some milliseconds. */
    while (!is_over((int)(n % 4))) {
        pid_t *pid = &pids[n++ % MP_ARRAY_SIZE(pids)];

        if (*pid)
            kill_child(*pid);
        *pid = start_child(use_all);
    }
    for (size_t i = 0; i < MP_ARRAY_SIZE(pids); i++)
        if (pids[i])
            kill_child(pids[i]);
}
