/* SPDX-License-Identifier: MIT */
/*
 * Every way to end, and who notices: what the dead held comes back, from whatever it died and
 * whoever was to watch it.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "arena/arena.h"
#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/sanitizer.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20) /* far more than anything here may take */

struct scene {
    mp_arena *arena;
    mp_lock *lock;
    mp_queue *queue;
    struct shared {
        _Atomic(int) ready;
        _Atomic(int) go;
        _Atomic(int) count;
    } * shared;
    int how;
    pthread_t thread;
};

static void scene_make(struct scene *s)
{
    void *block;

    memset(s, 0, sizeof *s);
    assert_int_equal(
        mp_arena_create("live", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32), &s->arena),
        0);
    assert_int_equal(mp_lock_create(s->arena, "lock", &s->lock), 0);
    assert_int_equal(mp_queue_create(s->arena, "queue", MP_QUEUE_OPTIONS(.maxsize = 16), &s->queue),
                     0);
    assert_int_equal(mp_block_create(s->arena, "shared", sizeof *s->shared, &block), 0);
    s->shared = block;
}

static void scene_close(struct scene *s)
{
    until(participants(s->arena) == 1);
    mp_lock_close(s->lock);
    mp_queue_close(s->queue);
    mp_arena_close(s->arena);
}

/* Hold one of everything. */
static void hold(struct scene *s)
{
    struct mp_message m;
    void *block;

    assert(mp_lock_acquire(s->lock, PATIENCE) == 0);
    assert(mp_queue_receive(s->queue, PATIENCE, &m) == 0);
    assert(mp_block_alloc(s->arena, 500000, 0, &block) == 0);
    ++s->shared->ready;
}

static void hold_and_wait(void *user)
{
    hold(user);
    for (;;)
        pause();
}

/* What hold() took is to be had again. */
static void assert_returned(struct scene *s)
{
    struct mp_message m;
    void *block;

    assert_int_equal(mp_lock_acquire(s->lock, PATIENCE), MP_OWNER_DIED);
    assert_int_equal(mp_lock_release(s->lock), 0);
    assert_int_equal(mp_queue_receive(s->queue, PATIENCE, &m), 0);
    assert_int_equal(m.deliveries, 2);
    assert_int_equal(m.size, 4);
    assert_memory_equal(m.data, "held", 4);
    assert_int_equal(mp_queue_release(s->queue, &m), 0);
    assert_int_equal(mp_block_alloc(s->arena, 500000, PATIENCE, &block), 0);
    assert_int_equal(mp_block_free(s->arena, block), 0);
    assert_int_equal(mp_lock_try(s->lock), 0); /* told once */
    assert_int_equal(mp_lock_release(s->lock), 0);
    assert_int_equal(mp_queue_receive(s->queue, 0, &m), -EAGAIN);
}

/* ---- all ways to end ---- */

enum way { EXIT, QUICK_EXIT, KILLED, KILLED_WHILE_STOPPED, SEGFAULT, UNREAPED, CLOSED, WAYS };

static void *wait_for_ever(void *user)
{
    pthread_barrier_wait(user);
    for (;;)
        pause();
    return NULL;
}

static void hold_and_end(void *user)
{
    struct scene *s = user;
    pthread_barrier_t barrier;
    pthread_t thread;

    hold(s);
    switch (s->how) {
    case EXIT:
        exit(0);
    case QUICK_EXIT:
        /* With a thread that is asleep. */
        pthread_barrier_init(&barrier, NULL, 2);
        assert(pthread_create(&thread, NULL, wait_for_ever, &barrier) == 0);
        pthread_barrier_wait(&barrier);
        _exit(0);
    case SEGFAULT:
        signal(SIGSEGV, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        raise(SIGSEGV);
        break;
    case CLOSED:
        mp_arena_close(s->arena);
        break;
    }
    for (;;)
        pause();
}

static void test_ways_to_end(void **state)
{
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    for (s.how = 0; s.how < WAYS; s.how++) {
        pid_t pid;

        assert_int_equal(mp_queue_put(s.queue, "held", 4, 0), 0);
        s.shared->ready = 0;
        pid = child_start(hold_and_end, &s);
        until(s.shared->ready == 1);
        switch (s.how) {
        case KILLED_WHILE_STOPPED:
            kill(pid, SIGSTOP);
            assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
            /* fall through */
        case KILLED:
            child_kill(pid);
            break;
        case UNREAPED:
            kill(pid, SIGKILL);
            break;
        case EXIT:
        case QUICK_EXIT:
            child_join(pid);
            break;
        case SEGFAULT:
            assert_int_equal(waitpid(pid, NULL, 0), pid);
            break;
        }
        assert_returned(&s);
        until(participants(s.arena) == 1);
        if (s.how == CLOSED)
            child_kill(pid);
        if (s.how == UNREAPED)
            assert_int_equal(waitpid(pid, NULL, 0), pid);
    }
    scene_close(&s);
}

/* ---- exec ---- */

static void hold_and_exec(void *user)
{
    hold(user);
    execl("/proc/self/exe", "test-liveness", "--sleep", (char *)NULL);
    _exit(127);
}

/* A process that starts another program leaves the arena, though it goes on. */
static void test_exec(void **state)
{
    struct scene s;
    pid_t pid;

    need_carrier(state);
    scene_make(&s);
    assert_int_equal(mp_queue_put(s.queue, "held", 4, 0), 0);
    pid = child_start(hold_and_exec, &s);
    until(s.shared->ready == 1);
    assert_returned(&s);
    until(participants(s.arena) == 1);
    child_kill(pid);
    scene_close(&s);
}

/* Starting another program beside it changes nothing. */
static void test_spawn_beside(void **state)
{
    char *const argv[] = {"true", NULL};
    char *const environment[] = {NULL};
    struct scene s;
    pid_t pid;

    need_carrier(state);
    scene_make(&s);
    assert_int_equal(mp_lock_try(s.lock), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environment), 0);
        child_join(pid);
        pid = vfork();
        if (pid == 0)
            _exit(0);
        child_join(pid);
    }
    assert_int_equal(deaths(s.arena), 0);
    assert_int_equal(mp_lock_try(s.lock), -EAGAIN);
    assert_int_equal(mp_lock_release(s.lock), 0);
    scene_close(&s);
}

/* ---- main ends by pthread_exit ---- */

static void *work_until_go(void *user)
{
    struct scene *s = user;

    ++s->shared->ready;
    until(s->shared->go);
    assert(mp_queue_put(s->queue, "end", 3, 0) == 0);
    return NULL;
}

static void *make_arena(void *unused)
{
    mp_arena *arena;
    mp_lock *lock;

    (void)unused;
    assert(mp_arena_create("threads", NULL, &arena) == 0);
    assert(mp_lock_create(arena, NULL, &lock) == 0);
    assert(mp_lock_try(lock) == 0);
    return NULL;
}

/* A program of its own, in which nobody has used anything yet. */
PART(exit_main_thread)
{
    struct scene s = {.arena = part->arena};
    pthread_t thread;
    mp_lock *lock;
    void *block;

    assert(mp_lock_open(s.arena, "lock", &lock) == 0);
    assert(mp_queue_open(s.arena, "queue", &s.queue) == 0);
    assert(mp_block_open(s.arena, "shared", &block, NULL) == 0);
    s.shared = block;
    switch (part->argument) {
    case 0: /* used locks alone */
        assert(mp_lock_acquire(lock, 0) == 0);
        assert(mp_lock_release(lock) == 0);
        break;
    case 1: /* and memory */
        assert(mp_block_alloc(s.arena, 10, 0, &block) == 0);
        break;
    case 2: /* and another thread goes on for a while */
        assert(pthread_create(&thread, NULL, work_until_go, &s) == 0);
        until(s.shared->ready == 1);
        break;
    }
    pthread_exit(NULL);
}

/* Main never used the library: another thread did. */
static void exit_unused_main(void)
{
    pthread_t thread;

    assert(pthread_create(&thread, NULL, make_arena, NULL) == 0);
    pthread_exit(NULL);
}

static bool ended(pid_t pid)
{
    int status;
    pid_t r = waitpid(pid, &status, WNOHANG);

    assert(r >= 0);
    assert(r == 0 || status == 0);
    return r == pid;
}

static void test_main_exits(void **state)
{
    struct scene s;

    need_carrier(state);
    if (WITH_ASAN)
        skip(); /* it takes main's stack away from the threads that go on */
    scene_make(&s);
    for (uint64_t how = 0; how < 3; how++) {
        struct crew crew;

        crew_start(&crew, EXEC, s.arena, exit_main_thread, 1, how);
        if (how == 2) {
            char end[3];

            until(s.shared->ready == 1);
            assert_false(ended(crew.pids[0]));
            s.shared->go = 1;
            assert_int_equal(mp_queue_get(s.queue, end, sizeof end, PATIENCE, NULL), 0);
        }
        until(ended(crew.pids[0]));
        until(participants(s.arena) == 1);
    }
    scene_close(&s);
}

static void exec_unused_main(void *unused)
{
    (void)unused;
    execl("/proc/self/exe", "test-liveness", "--main-exits", (char *)NULL);
    _exit(127);
}

static void test_unused_main_exits(void **state)
{
    pid_t pid;

    need_carrier(state);
    pid = child_start(exec_unused_main, NULL);
    until(ended(pid));
}

/* ---- a watcher that is stopped ---- */

static void join_and_wait(void *user)
{
    struct scene *s = user;

    assert(mp_arena_join(s->arena) == 0);
    ++s->shared->ready;
    for (;;)
        pause();
}

static void stop(pid_t pid)
{
    kill(pid, SIGSTOP);
    assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
}

/* Kill a child once a thread of this process is asleep in the arena. */
static void *kill_when_asleep(void *user)
{
    struct scene *s = user;

    until(mp_load_seqcst(&s->arena->self->sleepers) == 1);
    child_kill(s->how);
    return NULL;
}

/* Each keeper watches the next slot: of three children in a row the first watches the second. */
static void start_row(struct scene *s, pid_t *watcher, pid_t *watched, pid_t *after)
{
    scene_make(s);
    assert_int_equal(mp_queue_put(s->queue, "held", 4, 0), 0);
    *watcher = child_start(join_and_wait, s);
    until(s->shared->ready == 1);
    *watched = child_start(hold_and_wait, s);
    until(s->shared->ready == 2);
    *after = child_start(join_and_wait, s);
    until(s->shared->ready == 3);
    stop(*watcher);
}

static void end_row(struct scene *s, pid_t watcher, pid_t after)
{
    child_kill(watcher);
    child_kill(after);
    scene_close(s);
}

static void test_stopped_watcher(void **state)
{
    pid_t watcher, watched, after;
    struct scene s;

    need_carrier(state);
    start_row(&s, &watcher, &watched, &after);
    child_kill(watched);
    assert_returned(&s);
    end_row(&s, watcher, after);
}

/* Those who are asleep for a message, or poll, hear of it as well. */
static void test_stopped_watcher_receive(void **state)
{
    pid_t watcher, watched, after;
    struct mp_message m;
    struct scene s;

    need_carrier(state);
    start_row(&s, &watcher, &watched, &after);
    child_kill(watched);
    assert_int_equal(mp_queue_receive(s.queue, PATIENCE, &m), 0);
    assert_int_equal(m.deliveries, 2);
    assert_int_equal(mp_queue_release(s.queue, &m), 0);
    end_row(&s, watcher, after);
}

static void test_stopped_watcher_memory(void **state)
{
    pid_t watcher, watched, after;
    struct scene s;
    void *block;

    need_carrier(state);
    start_row(&s, &watcher, &watched, &after);
    child_kill(watched);
    assert_int_equal(mp_block_alloc(s.arena, 510000, PATIENCE, &block), 0);
    assert_int_equal(mp_block_free(s.arena, block), 0);
    end_row(&s, watcher, after);
}

static void test_stopped_watcher_poll(void **state)
{
    pid_t watcher, watched, after;
    struct mp_message m;
    struct pollfd p = {.events = POLLIN};
    struct scene s;

    need_carrier(state);
    start_row(&s, &watcher, &watched, &after);
    p.fd = mp_queue_fd(s.queue);
    assert_true(p.fd >= 0);
    child_kill(watched);
    assert_int_equal(poll(&p, 1, 20000), 1);
    assert_int_equal(mp_queue_receive(s.queue, 0, &m), 0);
    assert_int_equal(m.deliveries, 2);
    assert_int_equal(mp_queue_release(s.queue, &m), 0);
    end_row(&s, watcher, after);
}

/* A sweeper that is stopped keeps the sweep to itself: what it would bring back waits for it, but
 * the lock of the dead goes on, for those who are asleep already, too. */
static void test_stopped_sweeper(void **state)
{
    pid_t sweeper, owner;
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    assert_int_equal(mp_queue_put(s.queue, "held", 4, 0), 0);
    sweeper = child_start(join_and_wait, &s);
    until(s.shared->ready == 1);
    owner = child_start(hold_and_wait, &s);
    until(s.shared->ready == 2);
    stop(sweeper);
    for (uint32_t i = 0; i < mp_arena_slots_high(s.arena); i++) {
        uint64_t id = mp_load_seqcst(&s.arena->slots[i].id);

        if ((pid_t)(uint32_t)id == sweeper)
            mp_store_seqcst(&s.arena->header->recovery, mp_token(i, (uint32_t)(id >> 32) - 1));
    }
    assert_int_not_equal(mp_load_seqcst(&s.arena->header->recovery), 0);
    /* Both orders: the wait begins before the death, or after it. */
    s.how = owner;
    assert_int_equal(pthread_create(&s.thread, NULL, kill_when_asleep, &s), 0);
    assert_int_equal(mp_lock_acquire(s.lock, PATIENCE), MP_OWNER_DIED);
    assert_int_equal(mp_lock_release(s.lock), 0);
    assert_int_equal(pthread_join(s.thread, NULL), 0);
    child_kill(sweeper);
    scene_close(&s);
}

/* ---- many at once ---- */

static void test_many_die(void **state)
{
    enum { N = 12 };
    struct scene s;
    pid_t pids[N];

    need_carrier(state);
    scene_make(&s);
    for (int round = 0; round < 10; round++) {
        s.shared->ready = 0;
        for (int i = 0; i < N; i++)
            pids[i] = child_start(join_and_wait, &s);
        until(s.shared->ready == N);
        /* All but one, without waiting in between; then the one who had to see all of that. */
        for (int i = 0; i < N - 1; i++)
            kill(pids[(i + round) % N], SIGKILL);
        for (int i = 0; i < N - 1; i++)
            assert_int_equal(waitpid(pids[(i + round) % N], NULL, 0), pids[(i + round) % N]);
        until(participants(s.arena) == 2);
        child_kill(pids[(N - 1 + round) % N]);
        until(participants(s.arena) == 1);
        until(deaths(s.arena) == (uint64_t)N * (uint64_t)(round + 1));
    }
    scene_close(&s);
}

/* ---- pid namespaces ---- */

static void in_namespace(void *user)
{
    struct scene *s = user;
    pid_t pid;

    if (unshare(CLONE_NEWPID) < 0)
        _exit(77);
    pid = fork();
    assert(pid >= 0);
    if (pid == 0)
        hold_and_wait(s);
    s->shared->count = pid;
    waitpid(pid, NULL, 0);
    _exit(0);
}

/* Process 1 of a namespace of its own: its number means nothing to us, and ours nothing to it. */
static void test_pid_namespace(void **state)
{
    struct scene s;
    pid_t outer;
    int status = 0;

    need_carrier(state);
    scene_make(&s);
    assert_int_equal(mp_queue_put(s.queue, "held", 4, 0), 0);
    outer = child_start(in_namespace, &s);
    until(s.shared->ready == 1 || waitpid(outer, &status, WNOHANG) == outer);
    if (status != 0) {
        scene_close(&s);
        assert_int_equal(WEXITSTATUS(status), 77);
        skip();
    }
    until(s.shared->count);
    kill(s.shared->count, SIGKILL);
    child_join(outer);
    assert_returned(&s);
    scene_close(&s);
}

static void watch_from_namespace(void *user)
{
    struct scene *s = user;
    pid_t pid;

    if (unshare(CLONE_NEWPID) < 0)
        _exit(77);
    pid = fork();
    assert(pid >= 0);
    if (pid == 0) {
        ++s->shared->ready;
        until(s->shared->go);
        /* It waits while it is the only one left to watch. */
        assert(mp_lock_acquire(s->lock, PATIENCE) == MP_OWNER_DIED);
        assert(mp_lock_release(s->lock) == 0);
        _exit(0);
    }
    child_join(pid);
}

/* The other way round: who dies lives in a namespace that the survivor does not know. */
static void test_pid_namespace_watches(void **state)
{
    struct scene s;
    pid_t outer, holder;
    int status = 0;

    need_carrier(state);
    scene_make(&s);
    assert_int_equal(mp_queue_put(s.queue, "held", 4, 0), 0);
    outer = child_start(watch_from_namespace, &s);
    until(s.shared->ready == 1 || waitpid(outer, &status, WNOHANG) == outer);
    if (status != 0) {
        scene_close(&s);
        assert_int_equal(WEXITSTATUS(status), 77);
        skip();
    }
    holder = child_start(hold_and_wait, &s);
    until(s.shared->ready == 2);
    s.shared->go = 1;
    until(sleepers(s.arena, MP_WAIT_LOCK) == 1);
    child_kill(holder);
    child_join(outer);
    scene_close(&s);
}

/* ---- fork beside threads at work ---- */

static void *work(void *user)
{
    struct scene *s = user;
    char byte;

    while (!s->shared->go) {
        void *block;

        assert(mp_lock_acquire(s->lock, PATIENCE) >= 0);
        assert(mp_lock_release(s->lock) == 0);
        assert(mp_block_alloc(s->arena, 100, PATIENCE, &block) == 0);
        assert(mp_block_free(s->arena, block) == 0);
        assert(mp_queue_put(s->queue, "w", 1, PATIENCE) == 0);
        assert(mp_queue_get(s->queue, &byte, 1, PATIENCE, NULL) == 0);
    }
    return NULL;
}

static void work_a_little(void *user)
{
    struct scene *s = user;
    mp_queue *mine;
    void *block;
    char byte;

    for (int i = 0; i < 20; i++) {
        assert(mp_lock_acquire(s->lock, PATIENCE) >= 0);
        assert(mp_lock_release(s->lock) == 0);
        assert(mp_block_alloc(s->arena, 5000, PATIENCE, &block) == 0);
        assert(mp_block_free(s->arena, block) == 0);
        assert(mp_queue_put(s->queue, "c", 1, PATIENCE) == 0);
        assert(mp_queue_get(s->queue, &byte, 1, PATIENCE, NULL) == 0);
    }
    assert(mp_queue_create(s->arena, NULL, NULL, &mine) == 0);
    assert(mp_queue_destroy(mine) == 0);
    mp_queue_close(mine);
    ++s->shared->count;
}

static void test_fork_beside_threads(void **state)
{
    enum { THREADS_N = 3, FORKS = 60 };
    pthread_t threads[THREADS_N];
    struct scene s;
    pid_t pids[4];

    need_carrier(state);
    if (WITH_ASAN)
        skip(); /* its allocator's locks are not released in a forked child */
    scene_make(&s);
    for (int i = 0; i < THREADS_N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &s), 0);
    for (int i = 0; i < FORKS / 4; i++) {
        for (int k = 0; k < 4; k++)
            pids[k] = child_start(work_a_little, &s);
        for (int k = 0; k < 4; k++)
            child_join(pids[k]);
    }
    s.shared->go = 1;
    for (int i = 0; i < THREADS_N; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(s.shared->count, FORKS);
    scene_close(&s);
}

/* ---- the creator dies ---- */

static void create_and_die(void *user)
{
    struct scene *s = user, t;
    mp_queue *queue;
    pid_t pid;

    assert(mp_arena_create("orphan", NULL, &t.arena) == 0);
    assert(mp_queue_create(t.arena, "queue", NULL, &queue) == 0);
    pid = fork();
    assert(pid >= 0);
    if (pid == 0) {
        /* Alone with it now, or soon. */
        assert(mp_arena_join(t.arena) == 0);
        ++s->shared->ready;
        until(participants(t.arena) == 1);
        assert(mp_queue_put(queue, "still here", 10, 0) == 0);
        assert(mp_queue_get(queue, (char[10]){0}, 10, 0, NULL) == 0);
        ++s->shared->count;
        _exit(0);
    }
    until(s->shared->ready == 1);
    raise(SIGKILL);
}

static void test_creator_dies(void **state)
{
    struct scene s;
    pid_t pid;

    need_carrier(state);
    scene_make(&s);
    pid = child_start(create_and_die, &s);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    until(s.shared->count == 1);
    scene_close(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        carried_test(test_ways_to_end, FORK),
        carried_test(test_exec, FORK),
        carried_test(test_spawn_beside, FORK),
        carried_test(test_main_exits, EXEC),
        carried_test(test_unused_main_exits, EXEC),
        carried_test(test_stopped_watcher, FORK),
        carried_test(test_stopped_watcher_receive, FORK),
        carried_test(test_stopped_watcher_memory, FORK),
        carried_test(test_stopped_watcher_poll, FORK),
        carried_test(test_stopped_sweeper, FORK),
        carried_test(test_many_die, FORK),
        carried_test(test_pid_namespace, FORK),
        carried_test(test_pid_namespace_watches, FORK),
        carried_test(test_fork_beside_threads, FORK),
        carried_test(test_creator_dies, FORK),
    };

    if (crew_member(argc, argv))
        return 0;
    if (argc == 2 && strcmp(argv[1], "--main-exits") == 0)
        exit_unused_main();
    if (argc == 2 && strcmp(argv[1], "--sleep") == 0)
        for (;;)
            pause();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
