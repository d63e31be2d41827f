/* SPDX-License-Identifier: MIT */
/* Many locks in one object: each is a lock of its own; those who die; a million; every error. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20)
#define N 70u /* more than there are sleep words: some locks share one */
#define ROUNDS 3000u

static mp_arena *make_arena(size_t size)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create("locks", MP_ARENA_OPTIONS(.size = size, .participants = 32, .objects = 16),
                        &arena),
        0);
    return arena;
}

static mp_locks *open_locks(mp_arena *arena)
{
    mp_locks *locks;

    assert(mp_locks_open(arena, "locks", &locks) == 0);
    return locks;
}

static void test_refuses(void **state)
{
    mp_arena *arena = make_arena(1 << 20);
    mp_locks *locks, *other = NULL;
    struct mp_lock_owner owner;
    struct mp_waitable w;

    (void)state;
    assert_int_equal(mp_locks_create(NULL, "a", 1, &other), -EINVAL);
    assert_int_equal(mp_locks_create(arena, "a", 0, &other), -EINVAL);
    assert_int_equal(mp_locks_create(arena, "a", MP_LOCKS_MAX + 1, &other), -EINVAL);
    assert_int_equal(mp_locks_create(arena, "a", 1, NULL), -EINVAL);
    assert_int_equal(mp_locks_create(arena, "", 1, &other), -ENAMETOOLONG);
    assert_true(mp_locks_create(arena, "a", MP_LOCKS_MAX, &other) < 0);
    assert_int_equal(mp_locks_open(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_locks_open(arena, NULL, &other), -EINVAL);
    assert_int_equal(mp_locks_open(arena, "a", NULL), -EINVAL);
    assert_int_equal(mp_locks_open(arena, "a", &other), -ENOENT);
    assert_null(other);
    assert_int_equal(mp_locks_create(arena, "locks", N, &locks), 0);
    assert_int_equal(mp_locks_create(arena, "locks", N, &other), -EEXIST);
    assert_int_equal(mp_locks_count(locks), N);
    assert_string_equal(mp_locks_name(locks), "locks");
    assert_int_equal(mp_locks_acquire(locks, N, 0), -ERANGE);
    assert_int_equal(mp_locks_acquire(locks, UINT32_MAX, MP_FOREVER), -ERANGE);
    assert_int_equal(mp_locks_try(NULL, 0), -EINVAL);
    assert_int_equal(mp_locks_release(NULL, 0), -EINVAL);
    assert_int_equal(mp_locks_release(locks, N), -ERANGE);
    assert_int_equal(mp_locks_release(locks, 0), -EPERM);
    assert_int_equal(mp_locks_owner(NULL, 0, &owner), -EINVAL);
    assert_int_equal(mp_locks_owner(locks, N, &owner), -ERANGE);
    assert_int_equal(mp_locks_owner(locks, 0, NULL), -EINVAL);
    w = mp_locks_waitable(locks, N);
    assert_int_equal(mp_wait(&w, 1, 0), -EINVAL);
    assert_int_equal(mp_locks_count(NULL), 0);
    assert_null(mp_locks_name(NULL));
    assert_int_equal(mp_locks_destroy(NULL), -EINVAL);
    assert_null(mp_locks_close(NULL));
    assert_int_equal(mp_locks_destroy(locks), 0);
    assert_int_equal(mp_locks_destroy(locks), -ESTALE);
    assert_int_equal(mp_locks_acquire(locks, 0, MP_FOREVER), -ESTALE);
    assert_int_equal(mp_locks_release(locks, 0), -ESTALE);
    assert_int_equal(mp_locks_owner(locks, 0, &owner), -ESTALE);
    mp_locks_close(locks);
    mp_arena_close(arena);
}

static void test_alone(void **state)
{
    mp_arena *arena = make_arena(1 << 20);
    struct mp_lock_owner owner;
    mp_locks *locks, *same;

    (void)state;
    for (int life = 0; life < 3; life++) { /* the memory is used again, and is all free */
        assert_int_equal(mp_locks_create(arena, "locks", N, &locks), 0);
        same = open_locks(arena);
        assert_int_equal(mp_locks_count(same), N);
        for (uint32_t i = 0; i < N; i++) {
            struct mp_waitable w = mp_locks_waitable(locks, i);

            assert_int_equal(mp_wait(&w, 1, 0), 1);
            assert_int_equal(mp_locks_acquire(locks, i, 0), 0);
            assert_int_equal(mp_wait(&w, 1, 0), 0);
            assert_int_equal(mp_locks_try(same, i), -EAGAIN);
            assert_int_equal(mp_locks_owner(same, i, &owner), 0);
            assert_int_equal(owner.pid, getpid());
            assert_int_equal(owner.self, 1);
        }
        assert_int_equal(mp_locks_acquire(same, 3, MP_MSEC(5)), -ETIMEDOUT);
        for (uint32_t i = 0; i < N; i += 2)
            assert_int_equal(mp_locks_release(same, i), 0);
        for (uint32_t i = 0; i < N; i++)
            assert_int_equal(mp_locks_try(locks, i), i % 2 ? -EAGAIN : 0);
        assert_int_equal(mp_locks_destroy(locks), 0);
        mp_locks_close(locks);
        mp_locks_close(same);
    }
    mp_arena_close(arena);
}

/* Destroyed ones leave their memory to others, if it is enough for them. */
static void test_more_than_before(void **state)
{
    const uint32_t sizes[] = {10, 1000, 20, 100000, 10, 1000};
    mp_arena *arena = make_arena(4 << 20);
    unsigned char *blocks[8], same[400];
    mp_locks *locks;

    (void)state;
    memset(same, 0xab, sizeof same);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        assert_int_equal(mp_locks_create(arena, "locks", sizes[s], &locks), 0);
        assert_int_equal(mp_locks_try(locks, sizes[s] - 1), 0);
        for (size_t i = 0; s == 0 && i < 8; i++) {
            assert_int_equal(mp_block_create(arena, NULL, sizeof same, (void **)&blocks[i]), 0);
            memcpy(blocks[i], same, sizeof same);
        }
        for (size_t i = 0; i < 8; i++)
            assert_memory_equal(blocks[i], same, sizeof same);
        assert_int_equal(mp_locks_destroy(locks), 0);
        mp_locks_close(locks);
    }
    mp_arena_close(arena);
}

/* ---- with others ---- */

/* Counts each of a few locks' numbers, which only its lock protects. */
PART(count)
{
    mp_locks *locks = open_locks(part->arena);
    volatile uint64_t *counters;
    void *block;

    assert(mp_block_open(part->arena, "counters", &block, NULL) == 0);
    counters = block;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t which = (i * 7 + part->index) % 4 * 64 % N; /* 0, 64, 58, 52: two share a word */
        struct mp_waitable w = mp_locks_waitable(locks, which);

        if (i % 16 == 0)
            assert(mp_wait(&w, 1, PATIENCE) == 1);
        assert(mp_locks_acquire(locks, which, PATIENCE) == 0);
        counters[which] = counters[which] + 1;
        assert(mp_locks_release(locks, which) == 0);
    }
    mp_locks_close(locks);
}

static void test_excludes(void **state)
{
    mp_arena *arena;
    uint64_t *counters, sum = 0;
    struct crew crew;
    mp_locks *locks;

    need_carrier(state);
    arena = make_arena(1 << 20);
    assert_int_equal(mp_locks_create(arena, "locks", N, &locks), 0);
    assert_int_equal(mp_block_create(arena, "counters", N * sizeof *counters, (void **)&counters),
                     0);
    crew_start(&crew, carrier_of(state), arena, count, 4, 0);
    crew_join(&crew);
    for (uint32_t i = 0; i < N; i++)
        sum += counters[i];
    assert_int_equal(sum, 4 * ROUNDS);
    mp_locks_close(locks);
    mp_arena_close(arena);
}

PART(hold)
{
    mp_locks *locks = open_locks(part->arena);
    mp_event *held;

    assert(mp_event_open(part->arena, "held", &held) == 0);
    for (uint32_t i = 0; i < N; i += 2)
        assert(mp_locks_acquire(locks, i, 0) >= 0);
    assert(mp_event_set(held) == 0);
    for (;;)
        pause();
}

/* It dies while somebody sleeps: who gets what it had is told, once. */
static void test_owner_dies(void **state)
{
    mp_arena *arena;
    struct crew crew;
    mp_locks *locks;
    mp_event *held;

    need_carrier(state);
    arena = make_arena(1 << 20);
    assert_int_equal(mp_locks_create(arena, "locks", N, &locks), 0);
    assert_int_equal(mp_event_create(arena, "held", &held), 0);
    crew_start(&crew, carrier_of(state), arena, hold, 1, 0);
    assert_int_equal(mp_event_wait(held, PATIENCE), 0);
    assert_int_equal(mp_locks_try(locks, 64), -EAGAIN);
    assert_int_equal(kill(crew.pids[0], SIGKILL), 0);
    assert_int_equal(mp_locks_acquire(locks, 64, PATIENCE), MP_OWNER_DIED);
    crew_kill(&crew, 0);
    until(settled(arena, 1));
    for (uint32_t i = 0; i < N; i++)
        if (i != 64)
            assert_int_equal(mp_locks_release(locks, i), -EPERM); /* nobody's, and still news */
    for (uint32_t i = 0; i < N; i++)
        if (i != 64)
            assert_int_equal(mp_locks_acquire(locks, i, PATIENCE), i % 2 ? 0 : MP_OWNER_DIED);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(mp_locks_release(locks, i), 0);
        assert_int_equal(mp_locks_try(locks, i), 0);
    }
    mp_event_close(held);
    mp_locks_close(locks);
    mp_arena_close(arena);
}

PART(wait_for_either)
{
    mp_locks *locks = open_locks(part->arena);
    struct mp_waitable w[] = {mp_locks_waitable(locks, 0), mp_locks_waitable(locks, 64)};

    assert(mp_wait(w, 2, PATIENCE) == 1);
    assert(w[0].ready == 0 && w[1].ready == 1);
    mp_locks_close(locks);
}

/* Two that have one sleep word: who gives either of them up is told that somebody waits. */
static void test_two_of_a_kind(void **state)
{
    struct mp_lock_owner owner;
    mp_arena *arena;
    struct crew crew;
    mp_locks *locks;

    need_carrier(state);
    arena = make_arena(1 << 20);
    assert_int_equal(mp_locks_create(arena, "locks", N, &locks), 0);
    assert_int_equal(mp_locks_acquire(locks, 0, 0), 0);
    assert_int_equal(mp_locks_acquire(locks, 64, 0), 0);
    crew_start(&crew, carrier_of(state), arena, wait_for_either, 1, 0);
    until(sleepers(arena, MP_WAIT_ANY) == 1);
    for (uint32_t i = 0; i <= 64; i += 64) {
        assert_int_equal(mp_locks_owner(locks, i, &owner), 0);
        assert_int_equal(owner.waiters, 1);
    }
    assert_int_equal(mp_locks_release(locks, 64), 0);
    crew_join(&crew);
    mp_locks_close(locks);
    mp_arena_close(arena);
}

PART(wait_in_vain)
{
    mp_locks *locks = open_locks(part->arena);

    assert(mp_locks_acquire(locks, part->index, PATIENCE) == -ESTALE);
    mp_locks_close(locks);
}

static void test_destroyed(void **state)
{
    mp_arena *arena;
    struct crew crew;
    mp_locks *locks;

    need_carrier(state);
    arena = make_arena(1 << 20);
    assert_int_equal(mp_locks_create(arena, "locks", N, &locks), 0);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(mp_locks_acquire(locks, i, 0), 0);
    crew_start(&crew, carrier_of(state), arena, wait_in_vain, 4, 0);
    until(sleepers(arena, MP_WAIT_LOCKS) == 4);
    assert_int_equal(mp_locks_destroy(locks), 0);
    crew_join(&crew);
    mp_locks_close(locks);
    mp_arena_close(arena);
}

static void test_a_million(void **state)
{
    const uint32_t n = 1000000;
    mp_arena *arena = make_arena(32 << 20);
    mp_locks *locks;

    (void)state;
    assert_int_equal(mp_locks_create(arena, "locks", n, &locks), 0);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(mp_locks_acquire(locks, i, 0), 0);
    assert_int_equal(mp_locks_try(locks, n - 1), -EAGAIN);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(mp_locks_release(locks, i), 0);
    assert_int_equal(mp_locks_release(locks, n / 2), -EPERM);
    mp_locks_close(locks);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_refuses),          clean_test(test_alone),
        clean_test(test_more_than_before), on_carriers(test_excludes),
        on_carriers(test_two_of_a_kind),   on_processes(test_owner_dies),
        on_carriers(test_destroyed),       clean_test(test_a_million),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
