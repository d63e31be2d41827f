/* SPDX-License-Identifier: MIT */
/* The robust lock: exclusion, timeouts, owners that die, locks that go, and every error. */

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

#include "arena/token.h"
#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20)

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create(
            "lock", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 16), &arena),
        0);
    return arena;
}

static mp_lock *make_lock(mp_arena *arena)
{
    mp_lock *lock;

    assert_int_equal(mp_lock_create(arena, "lock", &lock), 0);
    return lock;
}

/* ---- one alone ---- */

static void test_refuses(void **state)
{
    mp_arena *arena = make_arena();
    char name[MP_NAME_MAX + 2];
    struct mp_lock_owner owner;
    mp_lock *lock = make_lock(arena), *other = NULL;

    (void)state;
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
    assert_int_equal(mp_lock_create(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_lock_create(arena, "a", NULL), -EINVAL);
    assert_int_equal(mp_lock_create(arena, "lock", &other), -EEXIST);
    assert_int_equal(mp_lock_create(arena, "", &other), -ENAMETOOLONG);
    assert_int_equal(mp_lock_create(arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_lock_create(arena, "a/b", &other), -ENAMETOOLONG);
    assert_int_equal(mp_lock_create(arena, "a\t", &other), -ENAMETOOLONG);
    assert_int_equal(mp_lock_open(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_lock_open(arena, NULL, &other), -EINVAL);
    assert_int_equal(mp_lock_open(arena, "lock", NULL), -EINVAL);
    assert_int_equal(mp_lock_open(arena, "", &other), -ENAMETOOLONG);
    assert_int_equal(mp_lock_open(arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_lock_open(arena, "none", &other), -ENOENT);
    assert_null(other);
    assert_null(mp_lock_close(NULL));
    assert_int_equal(mp_lock_destroy(NULL), -EINVAL);
    assert_int_equal(mp_lock_acquire(NULL, 0), -EINVAL);
    assert_int_equal(mp_lock_acquire(NULL, MP_FOREVER), -EINVAL);
    assert_int_equal(mp_lock_try(NULL), -EINVAL);
    assert_int_equal(mp_lock_release(NULL), -EINVAL);
    assert_int_equal(mp_lock_owner(NULL, &owner), -EINVAL);
    assert_int_equal(mp_lock_owner(lock, NULL), -EINVAL);
    assert_null(mp_lock_name(NULL));
    assert_null(mp_lock_close(lock));
    mp_arena_close(arena);
}

static void test_alone(void **state)
{
    mp_arena *arena = make_arena();
    mp_lock *lock = make_lock(arena), *same;
    struct mp_lock_owner owner;

    (void)state;
    assert_string_equal(mp_lock_name(lock), "lock");
    assert_int_equal(mp_lock_open(arena, "lock", &same), 0);
    for (int i = 0; i < 3; i++) {
        const uint64_t timeouts[] = {0, MP_MSEC(10), MP_FOREVER};

        assert_int_equal(mp_lock_release(lock), -EPERM);
        assert_int_equal(mp_lock_owner(lock, &owner), 0);
        assert_int_equal(owner.pid, 0);
        assert_int_equal(owner.self, 0);
        assert_int_equal(owner.waiters, 0);
        assert_int_equal(mp_lock_acquire(lock, timeouts[i]), 0);
        assert_int_equal(mp_lock_owner(same, &owner), 0);
        assert_int_equal(owner.pid, getpid());
        assert_int_equal(owner.self, 1);
        /* Not recursive, by whatever handle. */
        assert_int_equal(mp_lock_try(lock), -EAGAIN);
        assert_int_equal(mp_lock_acquire(same, 0), -EAGAIN);
        assert_int_equal(mp_lock_acquire(same, 1), -ETIMEDOUT);
        assert_int_equal(mp_lock_acquire(lock, MP_MSEC(10)), -ETIMEDOUT);
        assert_int_equal(mp_lock_release(same), 0);
    }
    mp_lock_close(lock);
    mp_lock_close(same);
    mp_arena_close(arena);
}

/* A timeout that would pass the end of time waits for as long as it takes. */
static void *release_it(void *user)
{
    mp_lock **lock = user;

    until(({
        struct mp_lock_owner owner;

        assert(mp_lock_owner(*lock, &owner) == 0);
        owner.waiters;
    }));
    assert(mp_lock_release(*lock) == 0);
    return NULL;
}

static void test_long_timeouts(void **state)
{
    const uint64_t timeouts[] = {MP_FOREVER, MP_FOREVER - 1, UINT64_MAX / 2, MP_SEC(1) << 30};
    mp_arena *arena = make_arena();
    mp_lock *lock = make_lock(arena);

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(timeouts); i++) {
        pthread_t thread;

        assert_int_equal(mp_lock_try(lock), 0);
        assert_int_equal(pthread_create(&thread, NULL, release_it, &lock), 0);
        assert_int_equal(mp_lock_acquire(lock, timeouts[i]), 0);
        assert_int_equal(mp_lock_release(lock), 0);
        pthread_join(thread, NULL);
    }
    mp_lock_close(lock);
    mp_arena_close(arena);
}

/* It does not end early. */
static void test_timeout_is_kept(void **state)
{
    mp_arena *arena = make_arena();
    mp_lock *lock = make_lock(arena);

    (void)state;
    assert_int_equal(mp_lock_try(lock), 0);
    for (uint64_t ms = 1; ms <= 64; ms *= 4) {
        uint64_t start = mp_now_ns();

        assert_int_equal(mp_lock_acquire(lock, MP_MSEC(ms)), -ETIMEDOUT);
        assert_true(mp_now_ns() - start >= MP_MSEC(ms));
    }
    mp_lock_close(lock);
    mp_arena_close(arena);
}

/* ---- exclusion ---- */

struct pair {
    uint64_t a, b;
};

PART(count)
{
    struct pair *pair;
    mp_lock *lock;

    assert(mp_lock_open(part->arena, "lock", &lock) == 0);
    assert(mp_block_open(part->arena, "pair", (void **)&pair, NULL) == 0);
    for (uint64_t i = 0; i < part->argument; i++) {
        int r;

        do
            r = i % 3 == 0   ? mp_lock_try(lock)
                : i % 3 == 1 ? mp_lock_acquire(lock, 20000)
                             : mp_lock_acquire(lock, MP_FOREVER);
        while (r == -EAGAIN || r == -ETIMEDOUT);
        assert(r == 0);
        assert(pair->a == pair->b);
        pair->a++;
        pair->b++;
        assert(mp_lock_release(lock) == 0);
    }
    mp_lock_close(lock);
}

static void test_exclusion(void **state)
{
    enum { N = 6, TIMES = 10000 };
    struct crew crew;
    struct pair *pair;
    mp_arena *arena;
    mp_lock *lock;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    assert_int_equal(mp_block_create(arena, "pair", sizeof *pair, (void **)&pair), 0);
    crew_start(&crew, carrier_of(state), arena, count, N, TIMES);
    crew_join(&crew);
    assert_int_equal(pair->a, N * TIMES);
    assert_int_equal(pair->b, N * TIMES);
    mp_lock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- waiters ---- */

PART(wait_and_pass_on)
{
    _Atomic(int) *done;
    void *shared;
    mp_lock *lock;

    assert(mp_lock_open(part->arena, "lock", &lock) == 0);
    assert(mp_block_open(part->arena, "done", &shared, NULL) == 0);
    done = shared;
    assert(mp_lock_acquire(lock, PATIENCE) == 0);
    ++*done;
    assert(mp_lock_release(lock) == 0);
    mp_lock_close(lock);
}

/* Many asleep, and each wakes the next. */
static void test_waiters(void **state)
{
    enum { N = 10 };
    struct mp_lock_owner owner;
    struct crew crew;
    mp_arena *arena;
    mp_lock *lock;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    assert_int_equal(mp_block_create(arena, "done", sizeof(int), &shared), 0);
    assert_int_equal(mp_lock_try(lock), 0);
    crew_start(&crew, carrier_of(state), arena, wait_and_pass_on, N, 0);
    /* Of the threads of one process some are asleep without a record of it. */
    until(sleepers(arena, MP_WAIT_LOCK) >= (carrier_of(state) == THREADS ? 4 : N));
    assert_int_equal(*(_Atomic(int) *)shared, 0);
    assert_int_equal(mp_lock_owner(lock, &owner), 0);
    assert_int_equal(owner.waiters, 1);
    assert_int_equal(owner.pid, getpid());
    assert_int_equal(mp_lock_release(lock), 0);
    crew_join(&crew);
    assert_int_equal(*(_Atomic(int) *)shared, N);
    assert_int_equal(mp_lock_try(lock), 0);
    mp_lock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

PART(wait_until_gone)
{
    mp_lock *lock;

    assert(mp_lock_open(part->arena, "lock", &lock) == 0);
    assert(mp_lock_acquire(lock, part->index % 2 ? PATIENCE : MP_FOREVER) == -ESTALE);
    assert(mp_lock_acquire(lock, 0) == -ESTALE);
    assert(mp_lock_release(lock) == -ESTALE);
    mp_lock_close(lock);
}

static void test_destroy_wakes(void **state)
{
    enum { N = 4 };
    mp_lock *lock, *after;
    struct mp_lock_owner owner;
    struct crew crew;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (int round = 0; round < 5; round++) {
        lock = make_lock(arena);
        assert_int_equal(mp_lock_try(lock), 0);
        crew_start(&crew, carrier_of(state), arena, wait_until_gone, N, 0);
        until(sleepers(arena, MP_WAIT_LOCK) == N);
        assert_int_equal(mp_lock_destroy(lock), 0);
        crew_join(&crew);
        /* Every use of the handle says so from now on, and the next of the name is another. */
        assert_int_equal(mp_lock_destroy(lock), -ESTALE);
        assert_int_equal(mp_lock_try(lock), -ESTALE);
        assert_int_equal(mp_lock_acquire(lock, MP_FOREVER), -ESTALE);
        assert_int_equal(mp_lock_release(lock), -ESTALE);
        assert_int_equal(mp_lock_owner(lock, &owner), -ESTALE);
        assert_string_equal(mp_lock_name(lock), "lock");
        after = make_lock(arena);
        assert_int_equal(mp_lock_try(after), 0);
        assert_int_equal(mp_lock_try(lock), -ESTALE);
        assert_int_equal(mp_lock_acquire(lock, PATIENCE), -ESTALE);
        assert_int_equal(mp_lock_release(lock), -ESTALE);
        assert_int_equal(mp_lock_owner(lock, &owner), -ESTALE);
        assert_int_equal(mp_lock_destroy(lock), -ESTALE);
        assert_int_equal(mp_lock_try(after), -EAGAIN);
        assert_int_equal(mp_lock_destroy(after), 0);
        mp_lock_close(after);
        mp_lock_close(lock);
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

/* ---- threads, and others, release ---- */

static void *acquire_and_end(void *user)
{
    assert(mp_lock_acquire(user, 0) == 0);
    return NULL;
}

/* It belongs to the process: a thread that ends leaves it held, and any other may release it. */
static void test_thread_ends(void **state)
{
    mp_arena *arena = make_arena();
    mp_lock *lock = make_lock(arena);
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, acquire_and_end, lock), 0);
    pthread_join(thread, NULL);
    assert_int_equal(mp_lock_try(lock), -EAGAIN);
    assert_int_equal(mp_lock_release(lock), 0);
    assert_int_equal(mp_lock_try(lock), 0);
    mp_lock_close(lock);
    mp_arena_close(arena);
}

PART(release_anothers)
{
    struct mp_lock_owner owner;
    mp_lock *lock;

    assert(mp_lock_open(part->arena, "lock", &lock) == 0);
    assert(mp_lock_owner(lock, &owner) == 0);
    assert(owner.pid == (pid_t)part->argument);
    assert(owner.self == (part->carrier == THREADS));
    assert(mp_lock_release(lock) == 0);
    assert(mp_lock_release(lock) == -EPERM);
    mp_lock_close(lock);
}

static void test_release_anothers(void **state)
{
    struct crew crew;
    mp_arena *arena;
    mp_lock *lock;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    assert_int_equal(mp_lock_try(lock), 0);
    crew_start(&crew, carrier_of(state), arena, release_anothers, 1, (uint64_t)getpid());
    crew_join(&crew);
    assert_int_equal(mp_lock_try(lock), 0);
    mp_lock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* The handle works in a forked child, which is another owner. */
static void use_parents_handle(void *user)
{
    mp_lock *lock = user;
    struct mp_lock_owner owner;

    assert(mp_lock_try(lock) == -EAGAIN);
    assert(mp_lock_owner(lock, &owner) == 0);
    assert(owner.pid == getppid() && owner.self == 0);
    assert(mp_lock_release(lock) == 0);
    assert(mp_lock_acquire(lock, MP_FOREVER) == 0);
    assert(mp_lock_owner(lock, &owner) == 0);
    assert(owner.pid == getpid() && owner.self == 1);
}

static void test_fork(void **state)
{
    mp_arena *arena;
    mp_lock *lock;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    assert_int_equal(mp_lock_try(lock), 0);
    child_join(child_start(use_parents_handle, lock));
    assert_int_equal(mp_lock_acquire(lock, PATIENCE), MP_OWNER_DIED);
    mp_lock_close(lock);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- owners that die ---- */

static void hold(void *user)
{
    mp_lock *lock = user;

    assert(mp_lock_acquire(lock, PATIENCE) >= 0);
    for (;;)
        pause();
}

static pid_t start_holder(mp_lock *lock)
{
    pid_t pid = child_start(hold, lock);

    until(({
        struct mp_lock_owner owner;

        assert(mp_lock_owner(lock, &owner) == 0);
        owner.pid == pid;
    }));
    return pid;
}

static void test_owner_dies(void **state)
{
    struct mp_lock_owner owner;
    mp_arena *arena;
    mp_lock *lock;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    for (int i = 0; i < 30; i++) {
        const uint64_t timeouts[] = {PATIENCE, MP_FOREVER, 0};
        pid_t pid = start_holder(lock);

        assert_int_equal(mp_lock_try(lock), -EAGAIN);
        child_kill(pid);
        if (timeouts[i % 3] == 0)
            until(settled(arena, 1));
        assert_int_equal(mp_lock_acquire(lock, timeouts[i % 3]), MP_OWNER_DIED);
        assert_int_equal(mp_lock_owner(lock, &owner), 0);
        assert_int_equal(owner.self, 1);
        assert_int_equal(mp_lock_release(lock), 0);
        /* Only the next one is told. */
        assert_int_equal(mp_lock_try(lock), 0);
        assert_int_equal(mp_lock_release(lock), 0);
        until(settled(arena, 1));
    }
    mp_lock_close(lock);
    mp_arena_close(arena);
}

/* Nobody holds what a dead one held, before and after it was swept. */
static void test_release_of_dead(void **state)
{
    struct mp_lock_owner owner;
    mp_arena *arena;
    mp_lock *lock;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    for (int swept = 0; swept < 2; swept++) {
        uint32_t slot = arena->self->slot;

        if (swept) {
            child_kill(start_holder(lock));
            until(settled(arena, 1));
        } else {
            /* As it is until then: it names one of a generation before. */
            mp_store_seqcst(
                &arena->directory[0].word,
                mp_token(slot, (uint32_t)(mp_load_seqcst(&arena->slots[slot].state) >> 32) - 1));
        }
        assert_int_equal(mp_lock_owner(lock, &owner), 0);
        assert_int_equal(owner.pid, 0);
        assert_int_equal(mp_lock_release(lock), -EPERM);
        assert_int_equal(mp_lock_try(lock), MP_OWNER_DIED);
        assert_int_equal(mp_lock_release(lock), 0);
    }
    child_kill(start_holder(lock));
    until(settled(arena, 1));
    assert_int_equal(mp_lock_destroy(lock), 0);
    mp_lock_close(lock);
    mp_arena_close(arena);
}

PART(wait_for_dead)
{
    _Atomic(int) *told;
    void *shared;
    mp_lock *lock;
    int r;

    assert(mp_lock_open(part->arena, "lock", &lock) == 0);
    assert(mp_block_open(part->arena, "told", &shared, NULL) == 0);
    told = shared;
    r = mp_lock_acquire(lock, PATIENCE);
    assert(r == 0 || r == MP_OWNER_DIED);
    *told += r == MP_OWNER_DIED;
    assert(mp_lock_release(lock) == 0);
    mp_lock_close(lock);
}

/* Of many who wait one is told, and all have it in turn. */
static void test_owner_dies_waiters(void **state)
{
    enum { N = 8 };
    struct crew crew;
    mp_arena *arena;
    mp_lock *lock;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    assert_int_equal(mp_block_create(arena, "told", sizeof(int), &shared), 0);
    for (int i = 1; i <= 5; i++) {
        pid_t pid = start_holder(lock);

        crew_start(&crew, carrier_of(state), arena, wait_for_dead, N, 0);
        until(sleepers(arena, MP_WAIT_LOCK) >= (carrier_of(state) == THREADS ? 4 : N));
        child_kill(pid);
        crew_join(&crew);
        assert_int_equal(*(_Atomic(int) *)shared, i);
        until(settled(arena, 1));
    }
    mp_lock_close(lock);
    mp_arena_close(arena);
}

/* The waiters die: nobody is stuck for it, and nobody is told. */
static void test_waiters_die(void **state)
{
    enum { N = 6 };
    struct crew crew;
    mp_arena *arena;
    mp_lock *lock;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    lock = make_lock(arena);
    assert_int_equal(mp_block_create(arena, "told", sizeof(int), &shared), 0);
    for (int round = 0; round < 5; round++) {
        assert_int_equal(mp_lock_try(lock), 0);
        crew_start(&crew, carrier_of(state), arena, wait_for_dead, N, 0);
        until(sleepers(arena, MP_WAIT_LOCK) == N);
        /* The one that would be woken first is among them. */
        for (unsigned i = 0; i < N; i++)
            if (i % 2 == (unsigned)round % 2)
                kill(crew.pids[i], SIGKILL);
        assert_int_equal(mp_lock_release(lock), 0);
        for (unsigned i = 0; i < N; i++)
            if (i % 2 == (unsigned)round % 2)
                crew_kill(&crew, i);
        crew_join(&crew);
        until(settled(arena, 1));
        /* Some may have died with it in their hands. */
        assert_true(mp_lock_acquire(lock, PATIENCE) >= 0);
        assert_int_equal(mp_lock_release(lock), 0);
    }
    mp_lock_close(lock);
    mp_arena_close(arena);
}

/* Who holds many locks gives all of them back. */
static void hold_all(void *user)
{
    mp_lock **locks = user;

    for (int i = 0; i < 10; i++)
        assert(mp_lock_acquire(locks[i], 0) == 0);
    raise(SIGKILL);
}

static void test_many_locks(void **state)
{
    mp_lock *locks[10];
    mp_arena *arena;
    pid_t pid;

    need_carrier(state);
    arena = make_arena();
    for (int i = 0; i < 10; i++)
        assert_int_equal(mp_lock_create(arena, NULL, &locks[i]), 0);
    pid = child_start(hold_all, locks);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(mp_lock_acquire(locks[i], PATIENCE), MP_OWNER_DIED);
        mp_lock_close(locks[i]);
    }
    until(settled(arena, 1));
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_refuses),
        clean_test(test_alone),
        clean_test(test_long_timeouts),
        clean_test(test_timeout_is_kept),
        on_carriers(test_exclusion),
        on_carriers(test_waiters),
        on_carriers(test_destroy_wakes),
        clean_test(test_thread_ends),
        on_carriers(test_release_anothers),
        carried_test(test_fork, FORK),
        carried_test(test_owner_dies, FORK),
        carried_test(test_release_of_dead, FORK),
        on_processes(test_owner_dies_waiters),
        on_processes(test_waiters_die),
        carried_test(test_many_locks, FORK),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
