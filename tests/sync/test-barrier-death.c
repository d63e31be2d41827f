/* SPDX-License-Identifier: MIT */
/* The barrier when somebody dies, ends, forks, or looks again late. */

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

/* ---- deaths ---- */

PART(wait_for_dead)
{
    struct seen *seen;
    mp_barrier *barrier = open_barrier(part, "barrier", &seen);
    int r;

    /* The first one only takes part, and is killed. */
    if (part->index == 0 || part->index == part->argument) {
        seen->first++;
        for (;;)
            pause();
    }
    r = mp_barrier_wait(barrier, MP_FOREVER);
    assert(r == -ECONNRESET);
    seen->broken++;
    mp_barrier_close(barrier);
}

static void kill_waiter(void **state, bool asleep)
{
    struct seen *seen;
    struct crew crew;
    mp_barrier *barrier;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    seen = make_seen(arena);
    barrier = make_barrier(arena, N);
    for (int round = 1; round <= 5; round++) {
        crew_start(&crew, carrier_of(state), arena, wait_for_dead, N, N - 1);
        until(mp_barrier_n_waiting(barrier) == N - 2 && seen->first == 2 * round);
        if (asleep)
            until(sleepers(arena, MP_WAIT_BARRIER) == N - 2);
        /* One of those who wait, or of those who do not. */
        if (asleep)
            crew_kill(&crew, 1);
        crew_kill(&crew, 0);
        crew_kill(&crew, N - 1);
        crew_join(&crew);
        assert_int_equal(seen->broken, round * (asleep ? N - 3 : N - 2));
        until(settled(arena, 1));
        assert_int_equal(mp_barrier_broken(barrier), 1);
        assert_int_equal(mp_barrier_reset(barrier), 0);
        assert_int_equal(mp_barrier_broken(barrier), 0);
    }
    mp_barrier_close(barrier);
    mp_arena_close(arena);
}

static void test_member_dies(void **state)
{
    kill_waiter(state, false);
}

static void test_waiter_dies(void **state)
{
    kill_waiter(state, true);
}

static void *wait_in_thread(void *user)
{
    return (void *)(intptr_t)mp_barrier_wait(user, PATIENCE);
}

static pthread_t start_waiter(mp_barrier *barrier)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, wait_in_thread, barrier), 0);
    until(mp_barrier_n_waiting(barrier) == 1);
    return thread;
}

static int end_waiter(pthread_t thread)
{
    void *result;

    pthread_join(thread, &result);
    return (int)(intptr_t)result;
}

static int die(void *user)
{
    (void)user;
    return raise(SIGKILL);
}

static void wait_and_die(void *user)
{
    mp_barrier *barrier;

    assert(mp_barrier_open(user, "barrier", MP_BARRIER_OPTIONS(.action = die), &barrier) == 0);
    mp_barrier_wait(barrier, PATIENCE);
}

/* All have come, and the one that runs the action dies: nobody passes. */
static void test_actor_dies(void **state)
{
    mp_barrier *barrier;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    barrier = make_barrier(arena, 2);
    for (int i = 0; i < 5; i++) {
        pthread_t thread = start_waiter(barrier);
        pid_t pid = child_start(wait_and_die, arena);

        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(end_waiter(thread), -ECONNRESET);
        until(settled(arena, 1));
        assert_int_equal(mp_barrier_broken(barrier), 1);
        assert_int_equal(mp_barrier_reset(barrier), 0);
    }
    mp_barrier_close(barrier);
    mp_arena_close(arena);
}

/* ---- one who looks again late ---- */

static struct seen *late_seen;

static void wait_and_tell(void *user)
{
    late_seen->sum = mp_barrier_wait(user, PATIENCE);
    mp_barrier_close(user);
}

/* A child waits and is stopped; what then happens to the barrier is ours. */
static void late(void **state, int passed, int resets, int passed_after, int expected)
{
    mp_barrier *barrier;
    mp_arena *arena;
    pid_t pid;
    int status;

    need_carrier(state);
    arena = make_arena();
    barrier = make_barrier(arena, 2);
    late_seen = make_seen(arena);
    pid = child_start(wait_and_tell, barrier);
    until(mp_barrier_n_waiting(barrier) == 1 && sleepers(arena, MP_WAIT_BARRIER) == 1);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    if (passed)
        assert_int_equal(mp_barrier_wait(barrier, PATIENCE), 1);
    else
        assert_int_equal(mp_barrier_reset(barrier), 0);
    for (int i = 0; i < resets; i++) {
        pthread_t thread = start_waiter(barrier);

        assert_int_equal(mp_barrier_reset(barrier), 0);
        assert_int_equal(end_waiter(thread), -ECONNRESET);
    }
    for (int i = 0; i < passed_after; i++) {
        pthread_t thread = start_waiter(barrier);

        assert_int_equal(mp_barrier_wait(barrier, PATIENCE), 1);
        assert_int_equal(end_waiter(thread), 0);
    }
    assert_int_equal(mp_barrier_abort(barrier), 0);
    assert_int_equal(kill(pid, SIGCONT), 0);
    child_join(pid);
    assert_int_equal(late_seen->sum, expected);
    mp_barrier_close(barrier);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* Its phase was passed, and all that came after it changes nothing. */
static void test_late_passed(void **state)
{
    late(state, 1, 0, 0, 0);
    late(state, 1, 3, 0, 0);
    late(state, 1, 3, 10, 0);
    late(state, 1, 0, 15, 0);
    late(state, 1, 0, 40, 0);
}

static void test_late_reset(void **state)
{
    late(state, 0, 0, 0, -ECONNRESET);
    late(state, 0, 0, 10, -ECONNRESET);
    late(state, 0, 0, 15, -ECONNRESET);
    late(state, 0, 0, 40, -ECONNRESET);
    late(state, 0, 3, 10, -ECONNRESET);
    /* So far back it is not known which of them was reset. */
    late(state, 1, 3, 40, -ECONNRESET);
}

static void take_part_and_end(void *user)
{
    mp_barrier *barrier;

    assert(mp_barrier_open(user, "barrier", NULL, &barrier) == 0);
}

static void take_part_and_close(void *user)
{
    mp_barrier *one, *two;

    assert(mp_barrier_open(user, "barrier", NULL, &one) == 0);
    assert(mp_barrier_open(user, "barrier", NULL, &two) == 0);
    mp_barrier_close(one);
    mp_barrier_close(two);
}

static void close_one_of_two(void *user)
{
    mp_barrier *one, *two;

    assert(mp_barrier_open(user, "barrier", NULL, &one) == 0);
    assert(mp_barrier_open(user, "barrier", NULL, &two) == 0);
    mp_barrier_close(one);
}

/* Who closes its handles has left; who ends without has died. */
static void test_closes(void **state)
{
    static const struct {
        void (*f)(void *);
        int broken;
    } cases[] = {{take_part_and_end, 1}, {take_part_and_close, 0}, {close_one_of_two, 1}};
    mp_barrier *barrier;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    barrier = make_barrier(arena, 2);
    for (size_t i = 0; i < MP_ARRAY_SIZE(cases); i++) {
        child_join(child_start(cases[i].f, arena));
        until(settled(arena, 1));
        assert_int_equal(mp_barrier_broken(barrier), cases[i].broken);
        assert_int_equal(mp_barrier_reset(barrier), 0);
    }
    mp_barrier_close(barrier);
    mp_arena_close(arena);
}

/* ---- a forked child with its parent's handle ---- */

static void wait_by_parents_handle(void *user)
{
    assert(mp_barrier_wait(user, PATIENCE) >= 0);
    for (;;)
        pause();
}

static void close_parents_handle(void *user)
{
    mp_barrier_close(user);
}

static void test_fork(void **state)
{
    mp_barrier *barrier;
    mp_arena *arena;
    pid_t pid;

    need_carrier(state);
    arena = make_arena();
    barrier = make_barrier(arena, 2);
    child_join(child_start(close_parents_handle, barrier));
    assert_int_equal(mp_barrier_broken(barrier), 0);
    pid = child_start(wait_by_parents_handle, barrier);
    assert_true(mp_barrier_wait(barrier, PATIENCE) >= 0);
    /* It has taken part, so it is missed. */
    child_kill(pid);
    assert_int_equal(mp_barrier_wait(barrier, PATIENCE), -ECONNRESET);
    mp_barrier_close(barrier);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        on_processes(test_member_dies),      on_processes(test_waiter_dies),
        carried_test(test_actor_dies, FORK), carried_test(test_late_passed, FORK),
        carried_test(test_late_reset, FORK), carried_test(test_closes, FORK),
        carried_test(test_fork, FORK),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
