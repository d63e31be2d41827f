/* SPDX-License-Identifier: MIT */
/* The condition, when those who wait or notify are forked, or die. */

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
#include "sync/conditions.h"

static void use_parents_handles(void *user)
{
    struct scene *s = user;

    assert(mp_condition_notify(s->cond, s->lock, 1) == -EPERM);
    assert(mp_condition_wait(s->cond, s->lock, 0) == -EPERM);
    assert(mp_lock_acquire(s->lock, PATIENCE) == 0);
    assert(mp_condition_wait(s->cond, s->lock, PATIENCE) == 0);
    s->board->woken++;
    assert(mp_lock_release(s->lock) == 0);
}

static void test_fork(void **state)
{
    struct scene s;
    pid_t pid;

    need_carrier(state);
    scene_create(&s);
    assert_int_equal(mp_lock_acquire(s.lock, 0), 0);
    pid = child_start(use_parents_handles, &s);
    until(sleepers(s.arena, MP_WAIT_LOCK) == 1);
    assert_int_equal(mp_lock_release(s.lock), 0);
    until(asleep(&s) == 1);
    notify(&s, 1);
    child_join(pid);
    assert_int_equal(s.board->woken, 1);
    scene_end(&s);
}

static void notify_and_die(void *user)
{
    struct scene *s = user;

    assert(mp_lock_acquire(s->lock, PATIENCE) == 0);
    assert(mp_condition_notify_all(s->cond, s->lock) == 0);
    raise(SIGKILL);
}

static void hold_and_die(void *user)
{
    struct scene *s = user;

    assert(mp_lock_acquire(s->lock, PATIENCE) == 0);
    raise(SIGKILL);
}

/* The notifier dies with the lock: of those who were notified one is told. */
static void test_notifier_dies(void **state)
{
    enum { N = 4 };
    struct crew crew;
    struct scene s;
    pid_t pid;

    need_carrier(state);
    scene_create(&s);
    for (int round = 1; round <= 5; round++) {
        crew_start(&crew, carrier_of(state), s.arena, wait_once, N, 0);
        until(asleep(&s) == N);
        pid = child_start(notify_and_die, &s);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        crew_join(&crew);
        assert_int_equal(s.board->woken, round * N);
        assert_int_equal(s.board->told, round);
        until(settled(s.arena, 1));
    }
    scene_end(&s);
}

/* Who times out is told as well, whatever else there is to say. */
static void test_told_at_timeout(void **state)
{
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    for (int round = 0; round < 3; round++) {
        pid_t pid;
        int r;

        assert_int_equal(mp_lock_acquire(s.lock, PATIENCE), 0);
        pid = child_start(hold_and_die, &s);
        until(sleepers(s.arena, MP_WAIT_LOCK) == 1);
        do
            r = mp_condition_wait(s.cond, s.lock, MP_MSEC(1));
        while (r == -ETIMEDOUT);
        assert_int_equal(r, MP_OWNER_DIED);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(mp_lock_release(s.lock), 0);
        until(settled(s.arena, 1));
    }
    scene_end(&s);
}

/* Some of those who wait die, notified or not: the others get what there is. */
static void test_waiters_die(void **state)
{
    enum { N = 6 };
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    for (unsigned round = 0; round < 6; round++) {
        crew_start(&crew, carrier_of(state), s.arena, wait_once, N, 0);
        until(asleep(&s) == N);
        if (round % 3 == 1)
            notify(&s, 1);
        for (unsigned i = round % 2; i < N; i += 2)
            kill(crew.pids[i], SIGKILL);
        if (round % 3 == 2)
            assert_true(mp_lock_acquire(s.lock, PATIENCE) >= 0);
        else {
            assert_true(mp_lock_acquire(s.lock, PATIENCE) >= 0);
            assert_int_equal(mp_condition_notify(s.cond, s.lock, N / 2), 0);
        }
        for (unsigned i = round % 2; i < N; i += 2)
            crew_kill(&crew, i);
        if (round % 3 == 2) {
            until(deaths(s.arena) > 0);
            assert_int_equal(mp_condition_notify(s.cond, s.lock, N), 0);
        }
        assert_int_equal(mp_lock_release(s.lock), 0);
        crew_join(&crew);
        until(settled(s.arena, 1));
    }
    assert_true(mp_lock_acquire(s.lock, PATIENCE) >= 0);
    assert_int_equal(mp_condition_wait(s.cond, s.lock, MP_MSEC(2)), -ETIMEDOUT);
    scene_end(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        carried_test(test_fork, FORK),
        on_processes(test_notifier_dies),
        carried_test(test_told_at_timeout, FORK),
        on_processes(test_waiters_die),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
