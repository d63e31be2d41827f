/* SPDX-License-Identifier: MIT */
/* The semaphore: what CPython tries with its own, both kinds, timeouts, holders that die, and every
 * error. */

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

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create("semaphore",
                        MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 16),
                        &arena),
        0);
    return arena;
}

static mp_semaphore *make(mp_arena *arena, uint32_t value, uint32_t flags)
{
    mp_semaphore *sem;

    assert_int_equal(mp_semaphore_create(
                         arena, "sem", MP_SEMAPHORE_OPTIONS(.value = value, .flags = flags), &sem),
                     0);
    return sem;
}

static mp_semaphore *find(mp_arena *arena)
{
    mp_semaphore *sem;

    assert(mp_semaphore_open(arena, "sem", &sem) == 0);
    return sem;
}

/* How many this process holds, by the ledger. */
static uint32_t held(const mp_semaphore *sem)
{
    struct mp_semaphore_holder holders[32];
    int n = mp_semaphore_holders(sem, holders, 32);

    assert(n >= 0 && n <= 32);
    for (int i = 0; i < n; i++)
        if (holders[i].self) {
            assert(holders[i].pid == getpid());
            return holders[i].units;
        }
    return 0;
}

/* ---- as CPython tries its own (_TestSemaphore) ---- */

static void try_as_python(mp_semaphore *sem)
{
    assert_int_equal(mp_semaphore_value(sem), 2);
    assert_int_equal(mp_semaphore_acquire(sem, MP_FOREVER), 0);
    assert_int_equal(mp_semaphore_value(sem), 1);
    assert_int_equal(mp_semaphore_acquire(sem, MP_FOREVER), 0);
    assert_int_equal(mp_semaphore_value(sem), 0);
    assert_int_equal(mp_semaphore_try(sem), -EAGAIN);
    assert_int_equal(mp_semaphore_value(sem), 0);
    assert_int_equal(mp_semaphore_release(sem, 1), 0);
    assert_int_equal(mp_semaphore_value(sem), 1);
    assert_int_equal(mp_semaphore_release(sem, 1), 0);
    assert_int_equal(mp_semaphore_value(sem), 2);
}

static const uint32_t kinds[] = {0, MP_SEMAPHORE_SIGNALS};

static void test_semaphore(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(kinds); i++) {
        mp_semaphore *sem = make(arena, 2, kinds[i]);

        try_as_python(sem);
        assert_int_equal(mp_semaphore_release(sem, 1), 0);
        assert_int_equal(mp_semaphore_value(sem), 3);
        assert_int_equal(mp_semaphore_release(sem, 1), 0);
        assert_int_equal(mp_semaphore_value(sem), 4);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        mp_semaphore_close(sem);
    }
    mp_arena_close(arena);
}

static void test_bounded_semaphore(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(kinds); i++) {
        mp_semaphore *sem = make(arena, 2, kinds[i] | MP_SEMAPHORE_BOUNDED);

        try_as_python(sem);
        assert_int_equal(mp_semaphore_release(sem, 1), -EOVERFLOW);
        assert_int_equal(mp_semaphore_value(sem), 2);
        assert_int_equal(mp_semaphore_try(sem), 0);
        assert_int_equal(mp_semaphore_release(sem, 2), -EOVERFLOW);
        assert_int_equal(mp_semaphore_value(sem), 1);
        assert_int_equal(mp_semaphore_release(sem, UINT32_MAX), -EOVERFLOW);
        assert_int_equal(mp_semaphore_release(sem, 1), 0);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        mp_semaphore_close(sem);
    }
    mp_arena_close(arena);
}

static void test_timeout(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(kinds); i++) {
        mp_semaphore *sem = make(arena, 1, kinds[i]);

        assert_int_equal(mp_semaphore_acquire(sem, 0), 0);
        assert_int_equal(mp_semaphore_acquire(sem, 0), -EAGAIN);
        assert_int_equal(mp_semaphore_acquire(sem, 1), -ETIMEDOUT);
        for (uint64_t ms = 1; ms <= 64; ms *= 4) {
            uint64_t start = mp_now_ns();

            assert_int_equal(mp_semaphore_acquire(sem, MP_MSEC(ms)), -ETIMEDOUT);
            assert_true(mp_now_ns() - start >= MP_MSEC(ms));
        }
        assert_int_equal(mp_semaphore_value(sem), 0);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        mp_semaphore_close(sem);
    }
    mp_arena_close(arena);
}

/* ---- errors and limits ---- */

static void test_refuses(void **state)
{
    mp_arena *arena = make_arena();
    char name[MP_NAME_MAX + 2];
    struct mp_semaphore_holder holder;
    mp_semaphore *sem = make(arena, 1, 0), *other = NULL;
    struct mp_semaphore_options wrong = {.struct_size = 4, .value = 1};

    (void)state;
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
    assert_int_equal(mp_semaphore_create(NULL, "a", NULL, &other), -EINVAL);
    assert_int_equal(mp_semaphore_create(arena, "a", NULL, NULL), -EINVAL);
    assert_int_equal(mp_semaphore_create(arena, "a", &wrong, &other), -EINVAL);
    assert_int_equal(
        mp_semaphore_create(arena, "a", MP_SEMAPHORE_OPTIONS(.value = 1, .flags = 4), &other),
        -EINVAL);
    assert_int_equal(
        mp_semaphore_create(arena, "a", MP_SEMAPHORE_OPTIONS(.value = MP_SEMAPHORE_PERMITS_MAX + 1),
                            &other),
        -EINVAL);
    assert_int_equal(
        mp_semaphore_create(arena, "a",
                            MP_SEMAPHORE_OPTIONS(.value = (uint32_t)MP_SEMAPHORE_SIGNALS_MAX + 1,
                                                 .flags = MP_SEMAPHORE_SIGNALS),
                            &other),
        -EINVAL);
    assert_int_equal(mp_semaphore_create(arena, "sem", NULL, &other), -EEXIST);
    assert_int_equal(mp_semaphore_create(arena, "", NULL, &other), -ENAMETOOLONG);
    assert_int_equal(mp_semaphore_create(arena, name, NULL, &other), -ENAMETOOLONG);
    assert_int_equal(mp_semaphore_open(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_semaphore_open(arena, NULL, &other), -EINVAL);
    assert_int_equal(mp_semaphore_open(arena, "sem", NULL), -EINVAL);
    assert_int_equal(mp_semaphore_open(arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_semaphore_open(arena, "none", &other), -ENOENT);
    assert_null(other);
    assert_null(mp_semaphore_close(NULL));
    assert_int_equal(mp_semaphore_destroy(NULL), -EINVAL);
    assert_int_equal(mp_semaphore_acquire(NULL, 0), -EINVAL);
    assert_int_equal(mp_semaphore_acquire(NULL, MP_FOREVER), -EINVAL);
    assert_int_equal(mp_semaphore_try(NULL), -EINVAL);
    assert_int_equal(mp_semaphore_release(NULL, 1), -EINVAL);
    assert_int_equal(mp_semaphore_release(sem, 0), -EINVAL);
    assert_int_equal(mp_semaphore_value(NULL), -EINVAL);
    assert_int_equal(mp_semaphore_holders(NULL, &holder, 1), -EINVAL);
    assert_int_equal(mp_semaphore_holders(sem, NULL, 1), -EINVAL);
    assert_int_equal(mp_semaphore_holders(sem, NULL, 0), 0);
    assert_null(mp_semaphore_name(NULL));
    assert_string_equal(mp_semaphore_name(sem), "sem");
    mp_semaphore_close(sem);
    mp_arena_close(arena);
}

static void test_full(void **state)
{
    mp_arena *arena = make_arena();
    mp_semaphore *sems[16], *more;

    (void)state;
    for (int i = 0; i < 16; i++)
        assert_int_equal(mp_semaphore_create(arena, NULL, NULL, &sems[i]), 0);
    assert_int_equal(mp_semaphore_create(arena, NULL, NULL, &more), -ENOBUFS);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(mp_semaphore_destroy(sems[i]), 0);
        mp_semaphore_close(sems[i]);
    }
    assert_int_equal(mp_semaphore_create(arena, NULL, NULL, &more), 0);
    mp_semaphore_close(more);
    mp_arena_close(arena);
}

/* Somebody wrote over it. */
static void test_spoiled(void **state)
{
    struct mp_directory_entry *e;
    mp_arena *arena = make_arena();
    mp_semaphore *other;

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(kinds); i++) {
        mp_semaphore *sem = make(arena, 1, kinds[i]);

        for (e = arena->directory; strcmp(e->name, "sem") != 0;)
            e++;
        mp_store_seqcst(&e->size, 12);
        if (kinds[i])
            mp_store_seqcst(&e->flags, 0);
        assert_int_equal(mp_semaphore_open(arena, "sem", &other), -EPROTO);
        mp_store_seqcst(&e->value, UINT64_MAX);
        assert_int_equal(mp_semaphore_acquire(sem, MP_FOREVER), -ENOTRECOVERABLE);
        assert_int_equal(mp_semaphore_release(sem, 1), -ENOTRECOVERABLE);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        mp_semaphore_close(sem);
        memset(e->name, 0, sizeof e->name);
    }
    mp_arena_close(arena);
}

static void find_no_slot(void *user)
{
    assert(mp_semaphore_acquire(user, MP_FOREVER) == -EUSERS);
    assert(mp_semaphore_try(user) == -EUSERS);
    assert(mp_semaphore_release(user, 1) == -EUSERS);
}

static void test_no_slot(void **state)
{
    mp_semaphore *sem;
    mp_arena *arena;

    need_carrier(state);
    assert_int_equal(mp_arena_create("one", MP_ARENA_OPTIONS(.participants = 1), &arena), 0);
    for (size_t i = 0; i < MP_ARRAY_SIZE(kinds); i++) {
        sem = make(arena, 5, kinds[i]);
        assert_int_equal(mp_semaphore_try(sem), 0);
        child_join(child_start(find_no_slot, sem));
        assert_int_equal(mp_semaphore_value(sem), 4);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        mp_semaphore_close(sem);
    }
    mp_arena_close(arena);
}

/* Without options: one permit. One that begins with none is for signals. */
static void test_defaults(void **state)
{
    mp_arena *arena = make_arena();
    mp_semaphore *sem;

    (void)state;
    assert_int_equal(mp_semaphore_create(arena, NULL, NULL, &sem), 0);
    assert_int_equal(mp_semaphore_value(sem), 1);
    assert_int_equal(mp_semaphore_try(sem), 0);
    assert_int_equal(held(sem), 1);
    assert_int_equal(mp_semaphore_holders(sem, NULL, 0), 1);
    mp_semaphore_close(sem);
    sem = make(arena, 0, 0);
    assert_int_equal(mp_semaphore_try(sem), -EAGAIN);
    assert_int_equal(mp_semaphore_release(sem, 2), 0);
    assert_int_equal(mp_semaphore_try(sem), 0);
    assert_int_equal(mp_semaphore_holders(sem, NULL, 0), 0);
    assert_int_equal(mp_semaphore_value(sem), 1);
    mp_semaphore_close(sem);
    mp_arena_close(arena);
}

static void test_limits(void **state)
{
    const uint32_t most[] = {MP_SEMAPHORE_PERMITS_MAX, MP_SEMAPHORE_SIGNALS_MAX};
    mp_arena *arena = make_arena();

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(kinds); i++) {
        mp_semaphore *sem = make(arena, most[i], kinds[i]);

        assert_int_equal(mp_semaphore_value(sem), most[i]);
        assert_int_equal(mp_semaphore_release(sem, 1), -EOVERFLOW);
        assert_int_equal(mp_semaphore_try(sem), 0);
        assert_int_equal(mp_semaphore_release(sem, 2), -EOVERFLOW);
        assert_int_equal(mp_semaphore_value(sem), most[i] - 1);
        assert_int_equal(mp_semaphore_release(sem, 1), 0);
        assert_int_equal(mp_semaphore_value(sem), most[i]);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        mp_semaphore_close(sem);
        sem = make(arena, 1, kinds[i]);
        assert_int_equal(mp_semaphore_release(sem, most[i] - 1), 0);
        assert_int_equal(mp_semaphore_value(sem), most[i]);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        mp_semaphore_close(sem);
    }
    mp_arena_close(arena);
}

/* More than the word of permits can tell at a time, and back in one and in parts. */
static void test_many(void **state)
{
    enum { N = 1000 };
    mp_arena *arena = make_arena();
    mp_semaphore *sem = make(arena, N, 0);

    (void)state;
    for (uint32_t i = 1; i <= N; i++) {
        assert_int_equal(mp_semaphore_try(sem), 0);
        assert_int_equal(held(sem), i);
    }
    assert_int_equal(mp_semaphore_release(sem, N - 100), 0);
    assert_int_equal(held(sem), 100);
    for (uint32_t i = 1; i <= 100; i++) {
        assert_int_equal(mp_semaphore_release(sem, 1), 0);
        assert_int_equal(held(sem), 100 - i);
    }
    /* It holds none, and posts. */
    assert_int_equal(mp_semaphore_release(sem, 50), 0);
    assert_int_equal(mp_semaphore_value(sem), N + 50);
    assert_int_equal(mp_semaphore_holders(sem, NULL, 0), 0);
    mp_semaphore_close(sem);
    mp_arena_close(arena);
}

/* ---- how many at a time ---- */

#define PERMITS 3

struct inside {
    _Atomic(int) now, times;
};

PART(go_in)
{
    mp_semaphore *sem = find(part->arena);
    struct inside *inside;
    void *shared;

    assert(mp_block_open(part->arena, "inside", &shared, NULL) == 0);
    inside = shared;
    for (uint64_t i = 0; i < part->argument; i++) {
        uint32_t n = i % 16 == 7 ? PERMITS : 1; /* all of them: one by one they would deadlock */
        int r;

        do
            r = i % 3 == 0   ? mp_semaphore_try(sem)
                : i % 3 == 1 ? mp_semaphore_acquire(sem, 20000)
                             : mp_semaphore_acquire(sem, MP_FOREVER);
        while (r == -EAGAIN || r == -ETIMEDOUT);
        assert(r == 0);
        for (uint32_t more = 1; more < n; more++)
            n = mp_semaphore_try(sem) == 0 ? n : more;
        assert(atomic_fetch_add(&inside->now, (int)n) + (int)n <= PERMITS);
        atomic_fetch_add(&inside->times, 1);
        atomic_fetch_sub(&inside->now, (int)n);
        assert(mp_semaphore_release(sem, n) == 0);
    }
    mp_semaphore_close(sem);
}

static void test_limited(void **state)
{
    enum { N = 6, TIMES = 5000 };
    struct inside *inside;
    struct crew crew;
    mp_arena *arena;
    mp_semaphore *sem;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    for (size_t i = 0; i < MP_ARRAY_SIZE(kinds); i++) {
        sem = make(arena, PERMITS, kinds[i] | MP_SEMAPHORE_BOUNDED);
        assert_int_equal(mp_block_create(arena, "inside", sizeof *inside, &shared), 0);
        inside = shared;
        crew_start(&crew, carrier_of(state), arena, go_in, N, TIMES);
        crew_join(&crew);
        assert_int_equal(inside->now, 0);
        assert_int_equal(inside->times, N * TIMES);
        assert_int_equal(mp_semaphore_value(sem), PERMITS);
        assert_int_equal(mp_semaphore_holders(sem, NULL, 0), 0);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        mp_semaphore_close(sem);
        assert_int_equal(mp_block_destroy(arena, "inside"), 0);
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

/* ---- signals: some post, others take ---- */

PART(post_or_take)
{
    mp_semaphore *sem = find(part->arena);

    for (uint64_t i = 0; i < part->argument; i++)
        if (part->index % 2 == 0)
            assert(mp_semaphore_release(sem, 1) == 0);
        else
            assert(mp_semaphore_acquire(sem, i % 2 ? MP_FOREVER : PATIENCE) == 0);
    mp_semaphore_close(sem);
}

static void test_signals(void **state)
{
    enum { N = 6, TIMES = 10000 };
    struct crew crew;
    mp_arena *arena;
    mp_semaphore *sem;

    need_carrier(state);
    arena = make_arena();
    sem = make(arena, 0, 0);
    crew_start(&crew, carrier_of(state), arena, post_or_take, N, TIMES);
    crew_join(&crew);
    assert_int_equal(mp_semaphore_value(sem), 0);
    mp_semaphore_close(sem);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- waiters ---- */

PART(take_one)
{
    mp_semaphore *sem = find(part->arena);
    _Atomic(int) *done;
    void *shared;

    assert(mp_block_open(part->arena, "done", &shared, NULL) == 0);
    done = shared;
    assert(mp_semaphore_acquire(sem, part->index % 2 ? MP_FOREVER : PATIENCE) == 0);
    ++*done;
    mp_semaphore_close(sem);
}

/* As many as are posted, in one or one after the other, go on: no more, no fewer. */
static void test_waiters(void **state)
{
    enum { N = 9 };
    struct crew crew;
    mp_arena *arena;
    mp_semaphore *sem;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    for (int in_one = 0; in_one <= 1; in_one++) {
        _Atomic(int) *done;

        sem = make(arena, 0, 0);
        assert_int_equal(mp_block_create(arena, "done", sizeof(int), &shared), 0);
        done = shared;
        crew_start(&crew, carrier_of(state), arena, take_one, N, 0);
        /* Of the threads of one process some are asleep without a record of it. */
        until(sleepers(arena, MP_WAIT_SEMAPHORE) >= (carrier_of(state) == THREADS ? 4 : N));
        assert_int_equal(mp_semaphore_release(sem, 2), 0);
        until(*done == 2);
        if (in_one)
            assert_int_equal(mp_semaphore_release(sem, N - 2), 0);
        else
            for (int i = 2; i < N; i++)
                assert_int_equal(mp_semaphore_release(sem, 1), 0);
        crew_join(&crew);
        assert_int_equal(*done, N);
        assert_int_equal(mp_semaphore_value(sem), 0);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        mp_semaphore_close(sem);
        assert_int_equal(mp_block_destroy(arena, "done"), 0);
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

PART(wait_until_gone)
{
    mp_semaphore *sem = find(part->arena);

    assert(mp_semaphore_acquire(sem, part->index % 2 ? PATIENCE : MP_FOREVER) == -ESTALE);
    assert(mp_semaphore_try(sem) == -ESTALE);
    assert(mp_semaphore_release(sem, 1) == -ESTALE);
    mp_semaphore_close(sem);
}

static void test_destroy_wakes(void **state)
{
    enum { N = 4 };
    mp_semaphore *sem, *after;
    struct crew crew;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (unsigned round = 0; round < 6; round++) {
        uint32_t flags = kinds[round % 2];

        sem = make(arena, 1, flags);
        assert_int_equal(mp_semaphore_try(sem), 0);
        crew_start(&crew, carrier_of(state), arena, wait_until_gone, N, 0);
        until(sleepers(arena, MP_WAIT_SEMAPHORE) == N);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        crew_join(&crew);
        /* Every use of the handle says so from now on, and the next of the name is another. */
        after = make(arena, 1, flags);
        assert_int_equal(mp_semaphore_destroy(sem), -ESTALE);
        assert_int_equal(mp_semaphore_try(sem), -ESTALE);
        assert_int_equal(mp_semaphore_acquire(sem, MP_FOREVER), -ESTALE);
        assert_int_equal(mp_semaphore_release(sem, 1), -ESTALE);
        assert_int_equal(mp_semaphore_value(sem), -ESTALE);
        assert_int_equal(mp_semaphore_holders(sem, NULL, 0), -ESTALE);
        assert_string_equal(mp_semaphore_name(sem), "sem");
        assert_int_equal(mp_semaphore_value(after), 1);
        assert_int_equal(mp_semaphore_destroy(after), 0);
        mp_semaphore_close(after);
        mp_semaphore_close(sem);
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

/* ---- holders ---- */

static void hold(void *user)
{
    mp_semaphore *sem = user;

    assert(held(sem) == 0); /* what the parent holds is not the child's */
    for (int i = 0; i < 40; i++)
        assert(mp_semaphore_acquire(sem, PATIENCE) == 0);
    assert(held(sem) == 40);
    for (;;)
        pause();
}

static bool somebody_holds(const mp_semaphore *sem, pid_t pid, uint32_t units)
{
    struct mp_semaphore_holder holders[32];
    int n = mp_semaphore_holders(sem, holders, 32);

    for (int i = 0; i < n; i++)
        if (holders[i].pid == pid && holders[i].units == units)
            return true;
    return false;
}

static void test_holder_dies(void **state)
{
    mp_arena *arena;
    mp_semaphore *sem;

    need_carrier(state);
    arena = make_arena();
    sem = make(arena, 100, MP_SEMAPHORE_BOUNDED);
    for (int i = 0; i < 3; i++)
        assert_int_equal(mp_semaphore_try(sem), 0);
    for (int i = 0; i < 20; i++) {
        pid_t pids[2] = {child_start(hold, sem), child_start(hold, sem)};

        until(somebody_holds(sem, pids[0], 40) && somebody_holds(sem, pids[1], 40));
        assert_int_equal(mp_semaphore_value(sem), 17);
        child_kill(pids[i % 2]);
        until(mp_semaphore_value(sem) == 57);
        assert_int_equal(held(sem), 3);
        child_kill(pids[1 - i % 2]);
        until(settled(arena, 1));
        assert_int_equal(mp_semaphore_value(sem), 97);
        assert_int_equal(mp_semaphore_holders(sem, NULL, 0), 1);
    }
    assert_int_equal(mp_semaphore_release(sem, 3), 0);
    mp_semaphore_close(sem);
    mp_arena_close(arena);
}

/* Those who wait get what the dead one held. */
static void test_holder_dies_waiters(void **state)
{
    enum { N = 8 };
    struct crew crew;
    mp_arena *arena;
    mp_semaphore *sem;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    assert_int_equal(mp_block_create(arena, "done", sizeof(int), &shared), 0);
    sem = make(arena, 40, 0);
    for (int i = 1; i <= 5; i++) {
        pid_t pid = child_start(hold, sem);

        until(somebody_holds(sem, pid, 40));
        crew_start(&crew, carrier_of(state), arena, take_one, N, 0);
        until(sleepers(arena, MP_WAIT_SEMAPHORE) >= (carrier_of(state) == THREADS ? 4 : N));
        child_kill(pid);
        crew_join(&crew);
        assert_int_equal(*(_Atomic(int) *)shared, i * N);
        until(settled(arena, 1));
        /* They ended without releasing: processes give back, threads of this one do not. */
        if (carrier_of(state) == THREADS)
            assert_int_equal(mp_semaphore_release(sem, N), 0);
        assert_int_equal(mp_semaphore_value(sem), 40);
    }
    mp_semaphore_close(sem);
    mp_arena_close(arena);
}

/* What another released for the dead one does not come twice. */
static void test_released_by_another(void **state)
{
    mp_arena *arena;
    mp_semaphore *sem;
    pid_t pid;

    need_carrier(state);
    arena = make_arena();
    sem = make(arena, 40, 0);
    pid = child_start(hold, sem);
    until(somebody_holds(sem, pid, 40));
    assert_int_equal(mp_semaphore_release(sem, 35), 0);
    assert_int_equal(mp_semaphore_value(sem), 35);
    assert_int_equal(held(sem), 0);
    child_kill(pid);
    until(settled(arena, 1));
    assert_int_equal(mp_semaphore_value(sem), 40);
    mp_semaphore_close(sem);
    mp_arena_close(arena);
}

static void post_and_die(void *user)
{
    for (int i = 0; i < 10; i++)
        assert(mp_semaphore_release(user, 1) == 0);
    assert(mp_semaphore_acquire(user, 0) == 0);
    raise(SIGKILL);
}

/* What was posted stays posted, and what was taken stays taken. */
static void test_poster_dies(void **state)
{
    mp_arena *arena;
    mp_semaphore *sem;
    pid_t pid;

    need_carrier(state);
    arena = make_arena();
    sem = make(arena, 0, 0);
    pid = child_start(post_and_die, sem);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    until(settled(arena, 1));
    assert_int_equal(mp_semaphore_value(sem), 9);
    mp_semaphore_close(sem);
    mp_arena_close(arena);
}

/* Waiters die, the one that would be woken first among them: the others go on. */
static void test_waiters_die(void **state)
{
    enum { N = 6 };
    struct crew crew;
    mp_arena *arena;
    mp_semaphore *sem;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    assert_int_equal(mp_block_create(arena, "done", sizeof(int), &shared), 0);
    for (int round = 0; round < 5; round++) {
        sem = make(arena, N, 0);
        for (int i = 0; i < N; i++)
            assert_int_equal(mp_semaphore_try(sem), 0);
        crew_start(&crew, carrier_of(state), arena, take_one, N, 0);
        until(sleepers(arena, MP_WAIT_SEMAPHORE) == N);
        for (unsigned i = 0; i < N; i++)
            if (i % 2 == (unsigned)round % 2)
                kill(crew.pids[i], SIGKILL);
        /* What the first ones get comes back with their end, whichever it is. */
        assert_int_equal(mp_semaphore_release(sem, 1), 0);
        for (unsigned i = 0; i < N; i++)
            if (i % 2 == (unsigned)round % 2)
                crew_kill(&crew, i);
        crew_join(&crew);
        until(settled(arena, 1));
        assert_int_equal(mp_semaphore_value(sem), 1);
        assert_int_equal(held(sem), N - 1);
        assert_int_equal(mp_semaphore_destroy(sem), 0);
        mp_semaphore_close(sem);
    }
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_semaphore),
        clean_test(test_bounded_semaphore),
        clean_test(test_timeout),
        clean_test(test_refuses),
        clean_test(test_full),
        clean_test(test_spoiled),
        carried_test(test_no_slot, FORK),
        clean_test(test_defaults),
        clean_test(test_limits),
        clean_test(test_many),
        on_carriers(test_limited),
        on_carriers(test_signals),
        on_carriers(test_waiters),
        on_carriers(test_destroy_wakes),
        carried_test(test_holder_dies, FORK),
        on_processes(test_holder_dies_waiters),
        carried_test(test_released_by_another, FORK),
        carried_test(test_poster_dies, FORK),
        on_processes(test_waiters_die),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
