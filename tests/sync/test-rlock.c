/* SPDX-License-Identifier: MIT */
/* The recursive lock: depth, ownership by threads, owners that die, and every error. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20)
#define DEEPEST ((1 << 22) - 1)

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create(
            "rlock", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 16), &arena),
        0);
    return arena;
}

static mp_rlock *make_rlock(mp_arena *arena)
{
    mp_rlock *lock;

    assert_int_equal(mp_rlock_create(arena, "rlock", &lock), 0);
    return lock;
}

static void *open_block(mp_arena *arena, const char *name)
{
    void *block;

    assert(mp_block_open(arena, name, &block, NULL) == 0);
    return block;
}

/* ---- one alone ---- */

static void test_refuses(void **state)
{
    mp_arena *arena = make_arena();
    char name[MP_NAME_MAX + 2];
    struct mp_lock_owner owner;
    mp_rlock *lock = make_rlock(arena), *other = NULL;
    mp_lock *plain = NULL;

    (void)state;
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
    assert_int_equal(mp_rlock_create(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_rlock_create(arena, "a", NULL), -EINVAL);
    assert_int_equal(mp_rlock_create(arena, "rlock", &other), -EEXIST);
    assert_int_equal(mp_rlock_create(arena, "", &other), -ENAMETOOLONG);
    assert_int_equal(mp_rlock_create(arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_rlock_open(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_rlock_open(arena, NULL, &other), -EINVAL);
    assert_int_equal(mp_rlock_open(arena, "rlock", NULL), -EINVAL);
    assert_int_equal(mp_rlock_open(arena, "", &other), -ENAMETOOLONG);
    assert_int_equal(mp_rlock_open(arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_rlock_open(arena, "none", &other), -ENOENT);
    /* A name is that of one kind. */
    assert_int_equal(mp_lock_open(arena, "rlock", &plain), -ENOENT);
    assert_int_equal(mp_lock_create(arena, "rlock", &plain), -EEXIST);
    assert_null(other);
    assert_null(plain);
    assert_null(mp_rlock_close(NULL));
    assert_int_equal(mp_rlock_destroy(NULL), -EINVAL);
    assert_int_equal(mp_rlock_acquire(NULL, 0), -EINVAL);
    assert_int_equal(mp_rlock_acquire(NULL, MP_FOREVER), -EINVAL);
    assert_int_equal(mp_rlock_try(NULL), -EINVAL);
    assert_int_equal(mp_rlock_release(NULL), -EINVAL);
    assert_int_equal(mp_rlock_count(NULL), -EINVAL);
    assert_int_equal(mp_rlock_owner(NULL, &owner), -EINVAL);
    assert_int_equal(mp_rlock_owner(lock, NULL), -EINVAL);
    assert_null(mp_rlock_name(NULL));
    assert_null(mp_rlock_close(lock));
    mp_arena_close(arena);
}

static void test_full(void **state)
{
    mp_arena *arena = make_arena();
    mp_rlock *locks[16], *other = NULL;

    (void)state;
    for (int i = 0; i < 16; i++)
        assert_int_equal(mp_rlock_create(arena, NULL, &locks[i]), 0);
    assert_int_equal(mp_rlock_create(arena, NULL, &other), -ENOBUFS);
    assert_null(other);
    for (int i = 0; i < 16; i++)
        mp_rlock_close(locks[i]);
    mp_arena_close(arena);
}

/* Python's test_rlock, test_reacquire and test_release_unacquired. */
static void test_alone(void **state)
{
    mp_arena *arena = make_arena();
    mp_rlock *lock = make_rlock(arena), *same;
    struct mp_lock_owner owner;

    (void)state;
    assert_string_equal(mp_rlock_name(lock), "rlock");
    assert_int_equal(mp_rlock_open(arena, "rlock", &same), 0);
    for (int round = 0; round < 3; round++) {
        const uint64_t timeouts[] = {0, MP_MSEC(10), MP_FOREVER};

        assert_int_equal(mp_rlock_release(lock), -EPERM);
        assert_int_equal(mp_rlock_count(lock), 0);
        assert_int_equal(mp_rlock_owner(lock, &owner), 0);
        assert_int_equal(owner.pid, 0);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(mp_rlock_acquire(i % 2 ? same : lock, timeouts[(round + i) % 3]), 0);
            assert_int_equal(mp_rlock_count(lock), i + 1);
            assert_int_equal(mp_rlock_count(same), i + 1);
        }
        assert_int_equal(mp_rlock_owner(same, &owner), 0);
        assert_int_equal(owner.pid, getpid());
        assert_int_equal(owner.self, 1);
        assert_int_equal(mp_rlock_try(same), 0);
        for (int i = 4; i > 0; i--) {
            assert_int_equal(mp_rlock_count(lock), i);
            assert_int_equal(mp_rlock_release(i % 2 ? same : lock), 0);
        }
    }
    assert_int_equal(mp_rlock_release(same), -EPERM);
    mp_rlock_close(lock);
    mp_rlock_close(same);
    mp_arena_close(arena);
}

static void test_deepest(void **state)
{
    mp_arena *arena;
    mp_rlock *lock;

    (void)state;
    if (under_valgrind())
        skip();
    arena = make_arena();
    lock = make_rlock(arena);
    for (int i = 0; i < DEEPEST; i++)
        assert(mp_rlock_acquire(lock, 0) == 0);
    assert_int_equal(mp_rlock_count(lock), DEEPEST);
    assert_int_equal(mp_rlock_acquire(lock, 0), -EOVERFLOW);
    assert_int_equal(mp_rlock_acquire(lock, MP_FOREVER), -EOVERFLOW);
    assert_int_equal(mp_rlock_count(lock), DEEPEST);
    for (int i = 0; i < DEEPEST; i++)
        assert(mp_rlock_release(lock) == 0);
    assert_int_equal(mp_rlock_release(lock), -EPERM);
    mp_rlock_close(lock);
    mp_arena_close(arena);
}

/* ---- it belongs to a thread ---- */

/* Whoever else it is: it neither gets it nor can give it up. */
PART(be_refused)
{
    struct mp_lock_owner owner;
    mp_rlock *lock;

    assert(mp_rlock_open(part->arena, "rlock", &lock) == 0);
    assert(mp_rlock_count(lock) == 0);
    assert(mp_rlock_release(lock) == -EPERM);
    assert(mp_rlock_owner(lock, &owner) == 0);
    assert(owner.pid == (pid_t)part->argument);
    assert(owner.self == (part->carrier == THREADS));
    assert(mp_rlock_try(lock) == -EAGAIN);
    assert(mp_rlock_acquire(lock, 1) == -ETIMEDOUT);
    assert(mp_rlock_acquire(lock, MP_MSEC(5)) == -ETIMEDOUT);
    mp_rlock_close(lock);
}

/* Python's test_different_thread, and its like for processes. */
static void test_others_are_refused(void **state)
{
    struct crew crew;
    mp_arena *arena;
    mp_rlock *lock;

    need_carrier(state);
    arena = make_arena();
    lock = make_rlock(arena);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(mp_rlock_acquire(lock, 0), 0);
        crew_start(&crew, carrier_of(state), arena, be_refused, 2, (uint64_t)getpid());
        crew_join(&crew);
        assert_int_equal(mp_rlock_count(lock), i);
    }
    assert_int_equal(mp_rlock_release(lock), 0);
    assert_int_equal(mp_rlock_release(lock), 0);
    until(settled(arena, 1));
    mp_rlock_close(lock);
    mp_arena_close(arena);
}

static void *acquire_and_end(void *user)
{
    assert(mp_rlock_acquire(user, 0) == 0);
    return NULL;
}

/* A thread that ends leaves it held, for good: the process lives. */
static void test_thread_ends(void **state)
{
    mp_arena *arena = make_arena();
    mp_rlock *lock = make_rlock(arena);
    struct mp_lock_owner owner;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, acquire_and_end, lock), 0);
    pthread_join(thread, NULL);
    assert_int_equal(mp_rlock_try(lock), -EAGAIN);
    assert_int_equal(mp_rlock_release(lock), -EPERM);
    assert_int_equal(mp_rlock_owner(lock, &owner), 0);
    assert_int_equal(owner.self, 1);
    mp_rlock_close(lock);
    mp_arena_close(arena);
}

/* ---- exclusion ---- */

struct pair {
    uint64_t a, b;
};

PART(count)
{
    struct pair *pair = open_block(part->arena, "pair");
    mp_rlock *lock;

    assert(mp_rlock_open(part->arena, "rlock", &lock) == 0);
    for (uint64_t i = 0; i < part->argument; i++) {
        unsigned deep = (unsigned)(i % 4);
        int r;

        do
            r = i % 3 == 0   ? mp_rlock_try(lock)
                : i % 3 == 1 ? mp_rlock_acquire(lock, 20000)
                             : mp_rlock_acquire(lock, MP_FOREVER);
        while (r == -EAGAIN || r == -ETIMEDOUT);
        assert(r == 0);
        for (unsigned d = 0; d < deep; d++)
            assert(mp_rlock_acquire(lock, d % 2 ? 0 : MP_FOREVER) == 0);
        assert(pair->a == pair->b);
        pair->a++;
        for (unsigned d = 0; d < deep; d++)
            assert(mp_rlock_release(lock) == 0);
        pair->b++;
        assert(mp_rlock_count(lock) == 1);
        assert(mp_rlock_release(lock) == 0);
    }
    assert(mp_rlock_count(lock) == 0);
    mp_rlock_close(lock);
}

static void test_exclusion(void **state)
{
    enum { N = 6, TIMES = 8000 };
    struct crew crew;
    struct pair *pair;
    mp_arena *arena;
    mp_rlock *lock;

    need_carrier(state);
    arena = make_arena();
    lock = make_rlock(arena);
    assert_int_equal(mp_block_create(arena, "pair", sizeof *pair, (void **)&pair), 0);
    crew_start(&crew, carrier_of(state), arena, count, N, TIMES);
    crew_join(&crew);
    assert_int_equal(pair->a, N * TIMES);
    assert_int_equal(pair->b, N * TIMES);
    mp_rlock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- waiters ---- */

PART(wait_and_pass_on)
{
    _Atomic(int) *done = open_block(part->arena, "done");
    mp_rlock *lock;

    assert(mp_rlock_open(part->arena, "rlock", &lock) == 0);
    assert(mp_rlock_acquire(lock, PATIENCE) == 0);
    assert(mp_rlock_acquire(lock, PATIENCE) == 0);
    ++*done;
    assert(mp_rlock_release(lock) == 0);
    assert(mp_rlock_release(lock) == 0);
    mp_rlock_close(lock);
}

/* Only the last release lets others in, and each of them wakes the next. */
static void test_waiters(void **state)
{
    enum { N = 8 };
    struct mp_lock_owner owner;
    struct crew crew;
    mp_arena *arena;
    mp_rlock *lock;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    lock = make_rlock(arena);
    assert_int_equal(mp_block_create(arena, "done", sizeof(int), &shared), 0);
    assert_int_equal(mp_rlock_try(lock), 0);
    assert_int_equal(mp_rlock_try(lock), 0);
    crew_start(&crew, carrier_of(state), arena, wait_and_pass_on, N, 0);
    until(sleepers(arena, MP_WAIT_RLOCK) >= (carrier_of(state) == THREADS ? 4 : N));
    assert_int_equal(mp_rlock_release(lock), 0);
    assert_int_equal(*(_Atomic(int) *)shared, 0);
    assert_int_equal(mp_rlock_owner(lock, &owner), 0);
    assert_int_equal(owner.waiters, 1);
    assert_int_equal(owner.self, 1);
    assert_int_equal(mp_rlock_release(lock), 0);
    crew_join(&crew);
    assert_int_equal(*(_Atomic(int) *)shared, N);
    assert_int_equal(mp_rlock_try(lock), 0);
    mp_rlock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

PART(wait_until_gone)
{
    struct mp_lock_owner owner;
    mp_rlock *lock;

    assert(mp_rlock_open(part->arena, "rlock", &lock) == 0);
    assert(mp_rlock_acquire(lock, part->index % 2 ? PATIENCE : MP_FOREVER) == -ESTALE);
    assert(mp_rlock_acquire(lock, 0) == -ESTALE);
    assert(mp_rlock_release(lock) == -ESTALE);
    assert(mp_rlock_count(lock) == -ESTALE);
    assert(mp_rlock_owner(lock, &owner) == -ESTALE);
    mp_rlock_close(lock);
}

static void test_destroy_wakes(void **state)
{
    enum { N = 4 };
    mp_rlock *lock, *after;
    struct crew crew;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (int round = 0; round < 3; round++) {
        lock = make_rlock(arena);
        assert_int_equal(mp_rlock_try(lock), 0);
        assert_int_equal(mp_rlock_try(lock), 0);
        crew_start(&crew, carrier_of(state), arena, wait_until_gone, N, 0);
        until(sleepers(arena, MP_WAIT_RLOCK) == N);
        assert_int_equal(mp_rlock_destroy(lock), 0);
        crew_join(&crew);
        assert_int_equal(mp_rlock_destroy(lock), -ESTALE);
        assert_int_equal(mp_rlock_acquire(lock, MP_FOREVER), -ESTALE);
        assert_int_equal(mp_rlock_release(lock), -ESTALE);
        assert_int_equal(mp_rlock_count(lock), -ESTALE);
        assert_string_equal(mp_rlock_name(lock), "rlock");
        /* Nothing of the old one is in the new one. */
        after = make_rlock(arena);
        assert_int_equal(mp_rlock_count(after), 0);
        assert_int_equal(mp_rlock_release(after), -EPERM);
        assert_int_equal(mp_rlock_try(after), 0);
        assert_int_equal(mp_rlock_try(lock), -ESTALE);
        assert_int_equal(mp_rlock_release(lock), -ESTALE);
        assert_int_equal(mp_rlock_count(after), 1);
        assert_int_equal(mp_rlock_destroy(after), 0);
        mp_rlock_close(after);
        mp_rlock_close(lock);
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

/* It does not end early. */
static void test_timeout_is_kept(void **state)
{
    mp_arena *arena = make_arena();
    mp_rlock *lock = make_rlock(arena);
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, acquire_and_end, lock), 0);
    pthread_join(thread, NULL);
    for (uint64_t ms = 1; ms <= 64; ms *= 4) {
        uint64_t start = mp_now_ns();

        assert_int_equal(mp_rlock_acquire(lock, MP_MSEC(ms)), -ETIMEDOUT);
        assert_true(mp_now_ns() - start >= MP_MSEC(ms));
    }
    mp_rlock_close(lock);
    mp_arena_close(arena);
}

/* ---- forks ---- */

/* A forked child does not hold what its parent holds. */
static void use_parents_handle(void *user)
{
    mp_rlock *lock = user;
    struct mp_lock_owner owner;

    assert(mp_rlock_count(lock) == 0);
    assert(mp_rlock_release(lock) == -EPERM);
    assert(mp_rlock_try(lock) == -EAGAIN);
    assert(mp_rlock_count(lock) == 0);
    assert(mp_rlock_release(lock) == -EPERM);
    assert(mp_rlock_owner(lock, &owner) == 0);
    assert(owner.pid == getppid() && owner.self == 0);
    assert(mp_rlock_acquire(lock, PATIENCE) == 0);
    assert(mp_rlock_acquire(lock, 0) == 0);
    assert(mp_rlock_count(lock) == 2);
}

static void test_fork(void **state)
{
    mp_arena *arena;
    mp_rlock *lock;
    pid_t pid;

    need_carrier(state);
    arena = make_arena();
    lock = make_rlock(arena);
    assert_int_equal(mp_rlock_try(lock), 0);
    assert_int_equal(mp_rlock_try(lock), 0);
    pid = child_start(use_parents_handle, lock);
    until(sleepers(arena, MP_WAIT_RLOCK) == 1);
    assert_int_equal(mp_rlock_release(lock), 0);
    assert_int_equal(mp_rlock_release(lock), 0);
    child_join(pid);
    assert_int_equal(mp_rlock_acquire(lock, PATIENCE), MP_OWNER_DIED);
    assert_int_equal(mp_rlock_count(lock), 1);
    mp_rlock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- owners that die ---- */

static void hold(void *user)
{
    mp_rlock *lock = user;

    assert(mp_rlock_acquire(lock, PATIENCE) >= 0);
    assert(mp_rlock_acquire(lock, PATIENCE) == 0);
    for (;;)
        pause();
}

static pid_t start_holder(mp_rlock *lock)
{
    pid_t pid = child_start(hold, lock);

    until(({
        struct mp_lock_owner owner;

        assert(mp_rlock_owner(lock, &owner) == 0);
        owner.pid == pid;
    }));
    return pid;
}

static void test_owner_dies(void **state)
{
    struct mp_lock_owner owner;
    mp_arena *arena;
    mp_rlock *lock;

    need_carrier(state);
    arena = make_arena();
    lock = make_rlock(arena);
    for (int i = 0; i < 30; i++) {
        const uint64_t timeouts[] = {PATIENCE, MP_FOREVER, 0};
        pid_t pid = start_holder(lock);

        assert_int_equal(mp_rlock_try(lock), -EAGAIN);
        child_kill(pid);
        if (timeouts[i % 3] == 0)
            until(settled(arena, 1));
        assert_int_equal(mp_rlock_release(lock), -EPERM);
        assert_int_equal(mp_rlock_acquire(lock, timeouts[i % 3]), MP_OWNER_DIED);
        assert_int_equal(mp_rlock_owner(lock, &owner), 0);
        assert_int_equal(owner.self, 1);
        assert_int_equal(mp_rlock_count(lock), 1);
        /* Told once, not at each depth. */
        assert_int_equal(mp_rlock_acquire(lock, 0), 0);
        assert_int_equal(mp_rlock_release(lock), 0);
        assert_int_equal(mp_rlock_release(lock), 0);
        assert_int_equal(mp_rlock_try(lock), 0);
        assert_int_equal(mp_rlock_release(lock), 0);
        until(settled(arena, 1));
    }
    mp_rlock_close(lock);
    mp_arena_close(arena);
}

PART(wait_for_dead)
{
    _Atomic(int) *told = open_block(part->arena, "told");
    mp_rlock *lock;
    int r;

    assert(mp_rlock_open(part->arena, "rlock", &lock) == 0);
    r = mp_rlock_acquire(lock, PATIENCE);
    assert(r == 0 || r == MP_OWNER_DIED);
    *told += r == MP_OWNER_DIED;
    assert(mp_rlock_count(lock) == 1);
    assert(mp_rlock_release(lock) == 0);
    mp_rlock_close(lock);
}

/* Of many who wait one is told, and all have it in turn. */
static void test_owner_dies_waiters(void **state)
{
    enum { N = 8 };
    struct crew crew;
    mp_arena *arena;
    mp_rlock *lock;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    lock = make_rlock(arena);
    assert_int_equal(mp_block_create(arena, "told", sizeof(int), &shared), 0);
    for (int i = 1; i <= 5; i++) {
        pid_t pid = start_holder(lock);

        crew_start(&crew, carrier_of(state), arena, wait_for_dead, N, 0);
        until(sleepers(arena, MP_WAIT_RLOCK) == N);
        child_kill(pid);
        crew_join(&crew);
        assert_int_equal(*(_Atomic(int) *)shared, i);
        until(settled(arena, 1));
    }
    mp_rlock_close(lock);
    mp_arena_close(arena);
}

/* The waiters die: nobody is stuck for it. */
static void test_waiters_die(void **state)
{
    enum { N = 6 };
    struct crew crew;
    mp_arena *arena;
    mp_rlock *lock;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    lock = make_rlock(arena);
    assert_int_equal(mp_block_create(arena, "told", sizeof(int), &shared), 0);
    for (unsigned round = 0; round < 4; round++) {
        assert_int_equal(mp_rlock_try(lock), 0);
        crew_start(&crew, carrier_of(state), arena, wait_for_dead, N, 0);
        until(sleepers(arena, MP_WAIT_RLOCK) == N);
        for (unsigned i = round % 2; i < N; i += 2)
            kill(crew.pids[i], SIGKILL);
        assert_int_equal(mp_rlock_release(lock), 0);
        for (unsigned i = round % 2; i < N; i += 2)
            crew_kill(&crew, i);
        crew_join(&crew);
        until(settled(arena, 1));
        assert_true(mp_rlock_acquire(lock, PATIENCE) >= 0);
        assert_int_equal(mp_rlock_release(lock), 0);
    }
    mp_rlock_close(lock);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_refuses),
        clean_test(test_full),
        clean_test(test_alone),
        clean_test(test_deepest),
        on_carriers(test_others_are_refused),
        clean_test(test_thread_ends),
        on_carriers(test_exclusion),
        on_carriers(test_waiters),
        on_carriers(test_destroy_wakes),
        clean_test(test_timeout_is_kept),
        carried_test(test_fork, FORK),
        carried_test(test_owner_dies, FORK),
        on_processes(test_owner_dies_waiters),
        on_processes(test_waiters_die),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
