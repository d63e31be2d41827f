/* SPDX-License-Identifier: MIT */
/*
 * The barrier: CPython's cases one by one (BarrierTests of its lock tests, which multiprocessing's
 * tests run as well), then what is left: more than parties, destroys, and every error.
 */

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

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"
#include "sync/barriers.h"

/* Two barriers, and n parts that use them. */
static void run_crew(void **state, part_fn run, uint32_t parties, unsigned n, uint64_t argument,
                     void (*check)(mp_barrier *barrier, const struct seen *seen))
{
    struct seen *seen;
    mp_barrier *barrier, *second;
    struct crew crew;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    barrier = make_barrier(arena, parties);
    assert_int_equal(mp_barrier_create(arena, "second", parties, NULL, &second), 0);
    seen = make_seen(arena);
    crew_start(&crew, carrier_of(state), arena, run, n, argument);
    crew_join(&crew);
    check(barrier, seen);
    mp_barrier_close(barrier);
    mp_barrier_close(second);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- CPython: test_barrier, test_barrier_10 ---- */

PART(pass_in_lockstep)
{
    struct seen *seen;
    mp_barrier *barrier = open_barrier(part, "barrier", &seen);

    for (int i = 0; i < (int)part->argument; i++) {
        seen->first++;
        assert(seen->second == i * N);
        assert(mp_barrier_wait(barrier, PATIENCE) >= 0);
        seen->second++;
        assert(seen->first == (i + 1) * N);
        assert(mp_barrier_wait(barrier, PATIENCE) >= 0);
    }
    mp_barrier_close(barrier);
}

static void nobody_waits(mp_barrier *barrier, const struct seen *seen)
{
    assert_int_equal(seen->first, seen->second);
    assert_int_equal(mp_barrier_n_waiting(barrier), 0);
    assert_int_equal(mp_barrier_broken(barrier), 0);
}

static void test_barrier(void **state)
{
    run_crew(state, pass_in_lockstep, N, N, 1, nobody_waits);
}

static void test_barrier_10(void **state)
{
    run_crew(state, pass_in_lockstep, N, N, 10, nobody_waits);
}

static void test_barrier_1000(void **state)
{
    run_crew(state, pass_in_lockstep, N, N, 1000, nobody_waits);
}

/* ---- test_wait_return ---- */

PART(note_index)
{
    struct seen *seen;
    mp_barrier *barrier = open_barrier(part, "barrier", &seen);
    int r = mp_barrier_wait(barrier, PATIENCE);

    assert(r >= 0 && r < N);
    seen->sum += r;
    seen->which |= 1 << r;
    mp_barrier_close(barrier);
}

static void each_index_once(mp_barrier *barrier, const struct seen *seen)
{
    nobody_waits(barrier, seen);
    assert_int_equal(seen->sum, N * (N - 1) / 2);
    assert_int_equal(seen->which, (1 << N) - 1);
}

static void test_wait_return(void **state)
{
    run_crew(state, note_index, N, N, 0, each_index_once);
}

/* ---- test_action ---- */

static int act(void *user)
{
    struct seen *seen = user;

    seen->acted++;
    return 0;
}

PART(wait_with_action)
{
    mp_barrier *barrier;
    struct seen *seen;
    void *shared;

    assert(mp_block_open(part->arena, "seen", &shared, NULL) == 0);
    seen = shared;
    assert(mp_barrier_open(part->arena, "barrier",
                           MP_BARRIER_OPTIONS(.action = act, .user = shared), &barrier) == 0);
    for (int i = 1; i <= 10; i++) {
        assert(mp_barrier_wait(barrier, PATIENCE) >= 0);
        assert(seen->acted == 2 * i - 1);
        assert(mp_barrier_wait(barrier, PATIENCE) >= 0);
    }
    mp_barrier_close(barrier);
}

static void acted_each_time(mp_barrier *barrier, const struct seen *seen)
{
    nobody_waits(barrier, seen);
    assert_int_equal(seen->acted, 20);
}

static void test_action(void **state)
{
    run_crew(state, wait_with_action, N, N, 0, acted_each_time);
}

/* ---- test_abort ---- */

PART(abort_in_the_middle)
{
    struct seen *seen;
    mp_barrier *barrier = open_barrier(part, "barrier", &seen);
    int r = mp_barrier_wait(barrier, PATIENCE);

    if (r == N / 2) {
        assert(mp_barrier_abort(barrier) == 0);
    } else {
        assert(r >= 0);
        assert(mp_barrier_wait(barrier, PATIENCE) == -ECONNRESET);
        seen->broken++;
    }
    mp_barrier_close(barrier);
}

static void all_but_one_broken(mp_barrier *barrier, const struct seen *seen)
{
    assert_int_equal(seen->broken, N - 1);
    assert_int_equal(mp_barrier_broken(barrier), 1);
    assert_int_equal(mp_barrier_n_waiting(barrier), 0);
    assert_int_equal(mp_barrier_wait(barrier, MP_FOREVER), -ECONNRESET);
    assert_int_equal(mp_barrier_abort(barrier), 0);
}

static void test_abort(void **state)
{
    run_crew(state, abort_in_the_middle, N, N, 0, all_but_one_broken);
}

/* ---- test_reset ---- */

PART(reset_in_the_middle)
{
    struct seen *seen;
    mp_barrier *barrier = open_barrier(part, "barrier", &seen);
    int r = mp_barrier_wait(barrier, PATIENCE);

    assert(r >= 0);
    if (r == N / 2) {
        until(mp_barrier_n_waiting(barrier) == N - 1);
        assert(mp_barrier_reset(barrier) == 0);
    } else {
        assert(mp_barrier_wait(barrier, PATIENCE) == -ECONNRESET);
        seen->broken++;
    }
    assert(mp_barrier_wait(barrier, PATIENCE) >= 0);
    seen->second++;
    mp_barrier_close(barrier);
}

static void all_passed_after_reset(mp_barrier *barrier, const struct seen *seen)
{
    assert_int_equal(seen->broken, N - 1);
    assert_int_equal(seen->second, N);
    assert_int_equal(mp_barrier_broken(barrier), 0);
}

static void test_reset(void **state)
{
    run_crew(state, reset_in_the_middle, N, N, 0, all_passed_after_reset);
}

/* ---- test_abort_and_reset ---- */

PART(abort_and_reset)
{
    struct seen *seen;
    mp_barrier *barrier = open_barrier(part, "barrier", &seen);
    mp_barrier *second = open_barrier(part, "second", &seen);
    int r = mp_barrier_wait(barrier, PATIENCE);

    assert(r >= 0);
    if (r == N / 2) {
        assert(mp_barrier_abort(barrier) == 0);
    } else {
        assert(mp_barrier_wait(barrier, PATIENCE) == -ECONNRESET);
        seen->broken++;
    }
    /* All have left it before it is reset, and nobody enters before that. */
    if (mp_barrier_wait(second, PATIENCE) == N / 2)
        assert(mp_barrier_reset(barrier) == 0);
    assert(mp_barrier_wait(second, PATIENCE) >= 0);
    assert(mp_barrier_wait(barrier, PATIENCE) >= 0);
    seen->second++;
    mp_barrier_close(barrier);
    mp_barrier_close(second);
}

static void test_abort_and_reset(void **state)
{
    run_crew(state, abort_and_reset, N, N, 0, all_passed_after_reset);
}

/* ---- test_timeout, test_default_timeout ---- */

/* One comes late: for the others, so for all, it is broken. */
PART(wait_for_late)
{
    struct seen *seen;
    mp_barrier *barrier = open_barrier(part, "barrier", &seen);
    int r = mp_barrier_wait(barrier, PATIENCE);

    assert(r >= 0);
    if (r == N / 2)
        until(mp_barrier_broken(barrier) == 1);
    r = mp_barrier_wait(barrier, r == N / 2 ? PATIENCE : MP_MSEC(50));
    assert(r == -ECONNRESET || r == -ETIMEDOUT);
    seen->timed_out += r == -ETIMEDOUT;
    seen->broken += r == -ECONNRESET;
    mp_barrier_close(barrier);
}

static void one_timed_out(mp_barrier *barrier, const struct seen *seen)
{
    assert_int_equal(seen->timed_out, 1);
    assert_int_equal(seen->broken, N - 1);
    assert_int_equal(mp_barrier_broken(barrier), 1);
}

static void test_timeout(void **state)
{
    run_crew(state, wait_for_late, N, N, 0, one_timed_out);
}

static void test_default_timeout(void **state)
{
    mp_arena *arena = make_arena();
    uint64_t start = mp_now_ns();
    mp_barrier *barrier;

    (void)state;
    assert_int_equal(
        mp_barrier_create(arena, NULL, 2, MP_BARRIER_OPTIONS(.timeout_ns = MP_MSEC(30)), &barrier),
        0);
    assert_int_equal(mp_barrier_wait(barrier, MP_FOREVER), -ETIMEDOUT);
    assert_true(mp_now_ns() - start >= MP_MSEC(30));
    assert_int_equal(mp_barrier_wait(barrier, MP_FOREVER), -ECONNRESET);
    mp_barrier_close(barrier);
    mp_arena_close(arena);
}

/* ---- test_single_thread, test_repr ---- */

static void test_single(void **state)
{
    mp_arena *arena = make_arena();
    mp_barrier *barrier = make_barrier(arena, 1);

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(mp_barrier_wait(barrier, i % 2 ? 0 : MP_FOREVER), 0);
    mp_barrier_close(barrier);
    mp_arena_close(arena);
}

PART(wait_here)
{
    struct seen *seen;
    mp_barrier *barrier = open_barrier(part, "barrier", &seen);

    assert(mp_barrier_wait(barrier, PATIENCE) >= 0);
    mp_barrier_close(barrier);
}

/* What Python's repr() shows: how many wait of how many, or that it is broken. */
static void test_queries(void **state)
{
    struct crew crew;
    mp_barrier *barrier;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    make_seen(arena);
    barrier = make_barrier(arena, 3);
    assert_string_equal(mp_barrier_name(barrier), "barrier");
    assert_int_equal(mp_barrier_parties(barrier), 3);
    assert_int_equal(mp_barrier_n_waiting(barrier), 0);
    crew_start(&crew, carrier_of(state), arena, wait_here, 2, 0);
    until(mp_barrier_n_waiting(barrier) == 2);
    assert_int_equal(mp_barrier_wait(barrier, PATIENCE), 2);
    crew_join(&crew);
    assert_int_equal(mp_barrier_n_waiting(barrier), 0);
    assert_int_equal(mp_barrier_broken(barrier), 0);
    assert_int_equal(mp_barrier_abort(barrier), 0);
    assert_int_equal(mp_barrier_broken(barrier), 1);
    mp_barrier_close(barrier);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- an action that fails, and that breaks ---- */

static int act_badly(void *user)
{
    struct seen *seen = user;

    seen->acted++;
    return -ECANCELED;
}

PART(wait_with_bad_action)
{
    mp_barrier *barrier;
    struct seen *seen;
    void *shared;
    int r;

    assert(mp_block_open(part->arena, "seen", &shared, NULL) == 0);
    seen = shared;
    assert(mp_barrier_open(part->arena, "barrier",
                           MP_BARRIER_OPTIONS(.action = act_badly, .user = shared), &barrier) == 0);
    r = mp_barrier_wait(barrier, PATIENCE);
    assert(r == -ECANCELED || r == -ECONNRESET);
    seen->first += r == -ECANCELED;
    seen->broken += r == -ECONNRESET;
    mp_barrier_close(barrier);
}

static void one_failed(mp_barrier *barrier, const struct seen *seen)
{
    assert_int_equal(seen->acted, 1);
    assert_int_equal(seen->first, 1);
    assert_int_equal(seen->broken, N - 1);
    assert_int_equal(mp_barrier_broken(barrier), 1);
}

static void test_action_fails(void **state)
{
    run_crew(state, wait_with_bad_action, N, N, 0, one_failed);
}

static mp_barrier *acted_on;

static int break_it(void *user)
{
    (void)user;
    assert(mp_barrier_n_waiting(acted_on) == 1);
    /* One too many, while it runs. */
    assert(mp_barrier_wait(acted_on, 0) == -EAGAIN);
    assert(mp_barrier_wait(acted_on, MP_MSEC(1)) == -ETIMEDOUT);
    assert(mp_barrier_broken(acted_on) == 0);
    return mp_barrier_abort(acted_on);
}

static void test_action_aborts(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    assert_int_equal(
        mp_barrier_create(arena, NULL, 1, MP_BARRIER_OPTIONS(.action = break_it), &acted_on), 0);
    assert_int_equal(mp_barrier_wait(acted_on, MP_FOREVER), -ECONNRESET);
    assert_int_equal(mp_barrier_broken(acted_on), 1);
    acted_on = mp_barrier_close(acted_on);
    mp_arena_close(arena);
}

/* ---- timeouts ---- */

static void test_try(void **state)
{
    mp_arena *arena = make_arena();
    mp_barrier *barrier = make_barrier(arena, 2);

    (void)state;
    /* To try breaks nothing; to wait in vain does, and not before its time. */
    for (int i = 0; i < 3; i++)
        assert_int_equal(mp_barrier_wait(barrier, 0), -EAGAIN);
    assert_int_equal(mp_barrier_n_waiting(barrier), 0);
    for (uint64_t ms = 1; ms <= 64; ms *= 4) {
        uint64_t start = mp_now_ns();

        assert_int_equal(mp_barrier_wait(barrier, MP_MSEC(ms)), -ETIMEDOUT);
        assert_true(mp_now_ns() - start >= MP_MSEC(ms));
        assert_int_equal(mp_barrier_wait(barrier, 0), -ECONNRESET);
        assert_int_equal(mp_barrier_reset(barrier), 0);
        assert_int_equal(mp_barrier_broken(barrier), 0);
    }
    mp_barrier_close(barrier);
    mp_arena_close(arena);
}

/* More come than there are parties: they pass in turns, and nobody is told of what was not his. */
PART(pass_in_turns)
{
    struct seen *seen;
    mp_barrier *barrier = open_barrier(part, "barrier", &seen);

    for (uint64_t i = 0; i < part->argument; i++) {
        int r = mp_barrier_wait(barrier, PATIENCE);

        assert(r == 0 || r == 1);
        seen->first++;
    }
    mp_barrier_close(barrier);
}

static void test_more_than_parties(void **state)
{
    enum { TIMES = 500 };
    struct seen *seen;
    struct crew crew;
    mp_barrier *barrier;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    barrier = make_barrier(arena, 2);
    seen = make_seen(arena);
    crew_start(&crew, carrier_of(state), arena, pass_in_turns, 4, TIMES);
    /* At last one may be left alone. */
    while (seen->first < 4 * TIMES) {
        if (seen->first >= 2 * TIMES && mp_barrier_n_waiting(barrier) == 1)
            assert_true(mp_barrier_wait(barrier, 0) != -ECONNRESET);
        poll(NULL, 0, 1);
    }
    crew_join(&crew);
    assert_int_equal(mp_barrier_broken(barrier), 0);
    mp_barrier_close(barrier);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- destroyed ---- */

PART(wait_until_gone)
{
    struct seen *seen;
    mp_barrier *barrier = open_barrier(part, "barrier", &seen);

    assert(mp_barrier_wait(barrier, part->index % 2 ? PATIENCE : MP_FOREVER) == -ESTALE);
    assert(mp_barrier_wait(barrier, 0) == -ESTALE);
    mp_barrier_close(barrier);
}

static void use_stale(mp_barrier *barrier)
{
    assert_int_equal(mp_barrier_destroy(barrier), -ESTALE);
    assert_int_equal(mp_barrier_wait(barrier, 0), -ESTALE);
    assert_int_equal(mp_barrier_wait(barrier, MP_FOREVER), -ESTALE);
    assert_int_equal(mp_barrier_abort(barrier), -ESTALE);
    assert_int_equal(mp_barrier_reset(barrier), -ESTALE);
    assert_int_equal(mp_barrier_n_waiting(barrier), -ESTALE);
    assert_int_equal(mp_barrier_broken(barrier), -ESTALE);
    assert_int_equal(mp_barrier_parties(barrier), N);
    assert_string_equal(mp_barrier_name(barrier), "barrier");
}

static void test_destroy_wakes(void **state)
{
    struct crew crew;
    mp_barrier *barrier, *after;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    make_seen(arena);
    for (int round = 0; round < 5; round++) {
        barrier = make_barrier(arena, N);
        crew_start(&crew, carrier_of(state), arena, wait_until_gone, N - 1, 0);
        until(mp_barrier_n_waiting(barrier) == N - 1);
        assert_int_equal(mp_barrier_destroy(barrier), 0);
        crew_join(&crew);
        use_stale(barrier);
        after = make_barrier(arena, N);
        use_stale(barrier);
        assert_int_equal(mp_barrier_broken(after), 0);
        assert_int_equal(mp_barrier_destroy(after), 0);
        mp_barrier_close(after);
        mp_barrier_close(barrier);
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

/* ---- errors ---- */

static void test_refuses(void **state)
{
    struct mp_barrier_options old = {.struct_size = 8};
    mp_arena *arena = make_arena();
    mp_barrier *barrier = make_barrier(arena, 3), *other = NULL;
    char name[MP_NAME_MAX + 2];

    (void)state;
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
    assert_int_equal(mp_barrier_create(NULL, "a", 2, NULL, &other), -EINVAL);
    assert_int_equal(mp_barrier_create(arena, "a", 0, NULL, &other), -EINVAL);
    assert_int_equal(mp_barrier_create(arena, "a", MP_BARRIER_PARTIES_MOST + 1, NULL, &other),
                     -EINVAL);
    assert_int_equal(mp_barrier_create(arena, "a", UINT32_MAX, NULL, &other), -EINVAL);
    assert_int_equal(mp_barrier_create(arena, "a", 2, &old, &other), -EINVAL);
    assert_int_equal(mp_barrier_create(arena, "a", 2, NULL, NULL), -EINVAL);
    assert_int_equal(mp_barrier_create(arena, "barrier", 2, NULL, &other), -EEXIST);
    assert_int_equal(mp_barrier_create(arena, "", 2, NULL, &other), -ENAMETOOLONG);
    assert_int_equal(mp_barrier_create(arena, name, 2, NULL, &other), -ENAMETOOLONG);
    assert_int_equal(mp_barrier_open(NULL, "a", NULL, &other), -EINVAL);
    assert_int_equal(mp_barrier_open(arena, NULL, NULL, &other), -EINVAL);
    assert_int_equal(mp_barrier_open(arena, "a", &old, &other), -EINVAL);
    assert_int_equal(mp_barrier_open(arena, "barrier", NULL, NULL), -EINVAL);
    assert_int_equal(mp_barrier_open(arena, name, NULL, &other), -ENAMETOOLONG);
    assert_int_equal(mp_barrier_open(arena, "none", NULL, &other), -ENOENT);
    assert_null(other);
    assert_null(mp_barrier_close(NULL));
    assert_int_equal(mp_barrier_destroy(NULL), -EINVAL);
    assert_int_equal(mp_barrier_wait(NULL, 0), -EINVAL);
    assert_int_equal(mp_barrier_abort(NULL), -EINVAL);
    assert_int_equal(mp_barrier_reset(NULL), -EINVAL);
    assert_int_equal(mp_barrier_parties(NULL), -EINVAL);
    assert_int_equal(mp_barrier_n_waiting(NULL), -EINVAL);
    assert_int_equal(mp_barrier_broken(NULL), -EINVAL);
    assert_null(mp_barrier_name(NULL));
    assert_int_equal(mp_barrier_create(arena, "most", MP_BARRIER_PARTIES_MOST, NULL, &other), 0);
    assert_int_equal(mp_barrier_wait(other, 0), -EAGAIN);
    mp_barrier_close(other);
    mp_barrier_close(barrier);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        on_carriers(test_barrier),
        on_carriers(test_barrier_10),
        on_carriers(test_barrier_1000),
        on_carriers(test_wait_return),
        on_carriers(test_action),
        on_carriers(test_abort),
        on_carriers(test_reset),
        on_carriers(test_abort_and_reset),
        on_carriers(test_timeout),
        clean_test(test_default_timeout),
        clean_test(test_single),
        on_carriers(test_queries),
        on_carriers(test_action_fails),
        clean_test(test_action_aborts),
        clean_test(test_try),
        on_carriers(test_more_than_parties),
        on_carriers(test_destroy_wakes),
        clean_test(test_refuses),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
