/* SPDX-License-Identifier: MIT */
/* The condition: whom a notification lets go, and whom not; and every error. */

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
#include "sync/condition.h"
#include "sync/conditions.h"

/* ---- one alone ---- */

static int never(void *user)
{
    ++*(int *)user;
    return 0;
}

static int always(void *user)
{
    ++*(int *)user;
    return 1;
}

static void test_refuses(void **state)
{
    struct scene s;
    char name[MP_NAME_MAX + 2];
    mp_condition *other = NULL;
    int asked = 0;

    (void)state;
    scene_create(&s);
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
    assert_int_equal(mp_condition_create(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_condition_create(s.arena, "a", NULL), -EINVAL);
    assert_int_equal(mp_condition_create(s.arena, "cond", &other), -EEXIST);
    assert_int_equal(mp_condition_create(s.arena, "", &other), -ENAMETOOLONG);
    assert_int_equal(mp_condition_create(s.arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_condition_open(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_condition_open(s.arena, NULL, &other), -EINVAL);
    assert_int_equal(mp_condition_open(s.arena, "cond", NULL), -EINVAL);
    assert_int_equal(mp_condition_open(s.arena, "", &other), -ENAMETOOLONG);
    assert_int_equal(mp_condition_open(s.arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_condition_open(s.arena, "none", &other), -ENOENT);
    assert_int_equal(mp_condition_open(s.arena, "lock", &other), -ENOENT);
    assert_null(other);
    assert_null(mp_condition_close(NULL));
    assert_null(mp_condition_name(NULL));
    assert_string_equal(mp_condition_name(s.cond), "cond");
    assert_int_equal(mp_condition_destroy(NULL), -EINVAL);
    assert_int_equal(mp_condition_wait(NULL, s.lock, 0), -EINVAL);
    assert_int_equal(mp_condition_wait(s.cond, NULL, 0), -EINVAL);
    assert_int_equal(mp_condition_wait_rlock(NULL, s.rlock, 0), -EINVAL);
    assert_int_equal(mp_condition_wait_rlock(s.cond, NULL, 0), -EINVAL);
    assert_int_equal(mp_condition_wait_for(NULL, s.lock, always, &asked, 0), -EINVAL);
    assert_int_equal(mp_condition_wait_for(s.cond, NULL, always, &asked, 0), -EINVAL);
    assert_int_equal(mp_condition_wait_for(s.cond, s.lock, NULL, &asked, 0), -EINVAL);
    assert_int_equal(mp_condition_wait_for_rlock(s.cond, s.rlock, NULL, &asked, 0), -EINVAL);
    assert_int_equal(mp_condition_wait_for_rlock(s.cond, NULL, always, &asked, 0), -EINVAL);
    assert_int_equal(mp_condition_notify(NULL, s.lock, 1), -EINVAL);
    assert_int_equal(mp_condition_notify(s.cond, NULL, 1), -EINVAL);
    assert_int_equal(mp_condition_notify_rlock(s.cond, NULL, 1), -EINVAL);
    assert_int_equal(mp_condition_notify_all(NULL, s.lock), -EINVAL);
    assert_int_equal(mp_condition_notify_all_rlock(NULL, s.rlock), -EINVAL);
    assert_int_equal(asked, 0);
    scene_end(&s);
}

static void test_full(void **state)
{
    mp_condition *conditions[16], *other = NULL;
    struct scene s;
    int n = 0;

    (void)state;
    scene_create(&s);
    while (n < 16 && mp_condition_create(s.arena, NULL, &conditions[n]) == 0)
        n++;
    assert_int_equal(n, 16 - 4);
    assert_int_equal(mp_condition_create(s.arena, NULL, &other), -ENOBUFS);
    assert_null(other);
    while (n-- > 0) {
        assert_int_equal(mp_condition_destroy(conditions[n]), 0);
        mp_condition_close(conditions[n]);
    }
    scene_end(&s);
}

/* Python's test_unacquired_wait and test_unacquired_notify; and locks of another arena. */
static void test_lock_not_held(void **state)
{
    struct scene s, elsewhere;
    int asked = 0;

    (void)state;
    scene_create(&s);
    scene_create(&elsewhere);
    assert_int_equal(mp_condition_wait(s.cond, s.lock, 0), -EPERM);
    assert_int_equal(mp_condition_wait(s.cond, s.lock, MP_FOREVER), -EPERM);
    assert_int_equal(mp_condition_wait_rlock(s.cond, s.rlock, MP_FOREVER), -EPERM);
    assert_int_equal(mp_condition_wait_for(s.cond, s.lock, never, &asked, MP_FOREVER), -EPERM);
    assert_int_equal(mp_condition_wait_for_rlock(s.cond, s.rlock, never, &asked, 0), -EPERM);
    assert_int_equal(mp_condition_notify(s.cond, s.lock, 1), -EPERM);
    assert_int_equal(mp_condition_notify_rlock(s.cond, s.rlock, 1), -EPERM);
    assert_int_equal(mp_condition_notify_all(s.cond, s.lock), -EPERM);
    assert_int_equal(mp_condition_notify_all_rlock(s.cond, s.rlock), -EPERM);
    assert_int_equal(asked, 0);
    assert_int_equal(mp_lock_try(elsewhere.lock), 0);
    assert_int_equal(mp_rlock_try(elsewhere.rlock), 0);
    assert_int_equal(mp_condition_wait(s.cond, elsewhere.lock, 0), -EINVAL);
    assert_int_equal(mp_condition_wait_rlock(s.cond, elsewhere.rlock, 0), -EINVAL);
    assert_int_equal(mp_condition_notify(s.cond, elsewhere.lock, 1), -EINVAL);
    assert_int_equal(mp_condition_notify_rlock(s.cond, elsewhere.rlock, 1), -EINVAL);
    scene_end(&elsewhere);
    scene_end(&s);
}

static void *be_refused(void *user)
{
    struct scene *s = user;

    assert(mp_condition_wait_rlock(s->cond, s->rlock, 0) == -EPERM);
    assert(mp_condition_notify_all_rlock(s->cond, s->rlock) == -EPERM);
    /* A plain lock belongs to the process. */
    assert(mp_condition_notify_all(s->cond, s->lock) == 0);
    return NULL;
}

static void test_other_thread(void **state)
{
    struct scene s;
    pthread_t thread;

    (void)state;
    scene_create(&s);
    assert_int_equal(mp_lock_try(s.lock), 0);
    assert_int_equal(mp_rlock_try(s.rlock), 0);
    assert_int_equal(pthread_create(&thread, NULL, be_refused, &s), 0);
    pthread_join(thread, NULL);
    assert_int_equal(mp_rlock_release(s.rlock), 0);
    assert_int_equal(mp_lock_release(s.lock), 0);
    scene_end(&s);
}

/* Python's test_timeout, test_wait_result and test_waitfor_timeout, where nobody notifies. */
static void test_timeouts(void **state)
{
    struct mp_lock_owner owner;
    struct scene s;
    int asked = 0;

    (void)state;
    scene_create(&s);
    assert_int_equal(mp_lock_try(s.lock), 0);
    assert_int_equal(mp_condition_wait(s.cond, s.lock, 0), -EAGAIN);
    assert_int_equal(mp_condition_wait(s.cond, s.lock, 1), -ETIMEDOUT);
    for (uint64_t ms = 1; ms <= 64; ms *= 4) {
        uint64_t start = mp_now_ns();

        assert_int_equal(mp_condition_wait(s.cond, s.lock, MP_MSEC(ms)), -ETIMEDOUT);
        assert_true(mp_now_ns() - start >= MP_MSEC(ms));
        assert_int_equal(mp_lock_owner(s.lock, &owner), 0);
        assert_int_equal(owner.self, 1);
        start = mp_now_ns();
        asked = 0;
        assert_int_equal(mp_condition_wait_for(s.cond, s.lock, never, &asked, MP_MSEC(ms)),
                         -ETIMEDOUT);
        assert_true(mp_now_ns() - start >= MP_MSEC(ms));
        assert_int_equal(asked, 2);
    }
    /* Notifications are not saved up. */
    assert_int_equal(mp_condition_notify(s.cond, s.lock, 0), 0);
    assert_int_equal(mp_condition_notify(s.cond, s.lock, 3), 0);
    assert_int_equal(mp_condition_notify_all(s.cond, s.lock), 0);
    assert_int_equal(mp_condition_wait(s.cond, s.lock, MP_MSEC(5)), -ETIMEDOUT);
    asked = 0;
    assert_int_equal(mp_condition_wait_for(s.cond, s.lock, never, &asked, 0), -EAGAIN);
    assert_int_equal(mp_condition_wait_for(s.cond, s.lock, always, &asked, 0), 0);
    assert_int_equal(mp_condition_wait_for(s.cond, s.lock, always, &asked, MP_FOREVER), 0);
    assert_int_equal(asked, 3);
    assert_int_equal(mp_lock_release(s.lock), 0);
    for (int deep = 1; deep <= 3; deep++) {
        for (int i = 0; i < deep; i++)
            assert_int_equal(mp_rlock_acquire(s.rlock, 0), 0);
        assert_int_equal(mp_condition_wait_rlock(s.cond, s.rlock, 0), -EAGAIN);
        assert_int_equal(mp_condition_wait_rlock(s.cond, s.rlock, MP_MSEC(3)), -ETIMEDOUT);
        assert_int_equal(mp_condition_wait_for_rlock(s.cond, s.rlock, never, &asked, MP_MSEC(3)),
                         -ETIMEDOUT);
        assert_int_equal(mp_rlock_count(s.rlock), deep);
        for (int i = 0; i < deep; i++)
            assert_int_equal(mp_rlock_release(s.rlock), 0);
    }
    scene_end(&s);
}

/* Groups are counted round, and many pass by a process that does not wait: when it does, none of
 * them makes it look as if it was notified. */
static void test_after_many_groups(void **state)
{
    struct scene s;

    (void)state;
    scene_create(&s);
    for (uint64_t open = 1; open < UINT64_C(1) << 32; open *= 2) {
        for (int near = -1; near <= 1; near++) {
            mp_store_seqcst(s.cond->object.value, (uint32_t)(open + (uint64_t)(int64_t)near));
            assert_int_equal(mp_lock_acquire(s.lock, 0), 0);
            assert_int_equal(mp_condition_wait(s.cond, s.lock, 0), -EAGAIN);
            assert_int_equal(mp_condition_notify(s.cond, s.lock, 1), 0);
            assert_int_equal(mp_condition_wait(s.cond, s.lock, 0), -EAGAIN);
            assert_int_equal(mp_lock_release(s.lock), 0);
        }
    }
    scene_end(&s);
}

/* ---- notified ---- */

/* Python's test_notify. */
static void test_notify(void **state)
{
    enum { N = 4 };
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    for (int round = 0; round < 3; round++) {
        s.board->woken = 0;
        crew_start(&crew, carrier_of(state), s.arena, wait_once, N, 0);
        until(asleep(&s) == N);
        assert_int_equal(s.board->woken, 0);
        for (unsigned i = 1; i <= N; i++) {
            notify(&s, 1);
            until(read_board(&s, &s.board->woken) == (int)i);
            until(asleep(&s) == N - i);
        }
        notify(&s, 1); /* for nobody */
        crew_join(&crew);
        assert_int_equal(s.board->woken, N);
        until(settled(s.arena, 1));
    }
    scene_end(&s);
}

/* Python's test_notify_all: first all time out, then all are woken. */
static void test_notify_all(void **state)
{
    enum { N = 4 };
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    crew_start(&crew, carrier_of(state), s.arena, wait_once, N, MP_MSEC(20));
    crew_join(&crew);
    assert_int_equal(s.board->timed_out, N);
    assert_int_equal(s.board->woken, 0);
    for (int round = 1; round <= 5; round++) {
        crew_start(&crew, carrier_of(state), s.arena, wait_once, N, 0);
        until(asleep(&s) == N);
        assert_int_equal(mp_lock_acquire(s.lock, PATIENCE), 0);
        assert_int_equal(mp_condition_notify_all(s.cond, s.lock), 0);
        /* Nobody gets further than to the lock. */
        assert_int_equal(s.board->woken, (round - 1) * N);
        assert_int_equal(mp_lock_release(s.lock), 0);
        crew_join(&crew);
        assert_int_equal(s.board->woken, round * N);
    }
    scene_end(&s);
}

/* Python's test_notify_n. */
static void test_notify_n(void **state)
{
    enum { N = 4 };
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    crew_start(&crew, carrier_of(state), s.arena, wait_once, N, 0);
    until(asleep(&s) == N);
    notify(&s, 0);
    notify(&s, 1);
    until(read_board(&s, &s.board->woken) == 1);
    until(asleep(&s) == N - 1);
    notify(&s, 2);
    until(read_board(&s, &s.board->woken) == 3);
    until(asleep(&s) == N - 3);
    notify(&s, 4);
    crew_join(&crew);
    assert_int_equal(s.board->woken, N);
    notify(&s, 3);
    assert_int_equal(mp_lock_acquire(s.lock, 0), 0);
    assert_int_equal(mp_condition_wait(s.cond, s.lock, MP_MSEC(5)), -ETIMEDOUT);
    scene_end(&s);
}

/* More than can be counted by their records, let go a few at a time: by the end all are gone. */
static void test_many(void **state)
{
    enum { N = 20 };
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    crew_start(&crew, carrier_of(state), s.arena, wait_once, N, 0);
    until(({
        notify(&s, 3);
        read_board(&s, &s.board->woken) == N;
    }));
    crew_join(&crew);
    scene_end(&s);
}

/* Python's test_waitfor: to and fro between two. */
static int state_is_4(void *user)
{
    return ((struct board *)user)->state == 4;
}

static int state_is_0(void *user)
{
    return ((struct board *)user)->state == 0;
}

PART(wait_for_4)
{
    struct scene s;

    scene_open(&s, part->arena);
    assert(mp_lock_acquire(s.lock, PATIENCE) == 0);
    s.board->state = 0;
    assert(mp_condition_notify(s.cond, s.lock, 1) == 0);
    assert(mp_condition_wait_for(s.cond, s.lock, state_is_4, s.board,
                                 part->argument ? part->argument : MP_FOREVER) ==
           (part->argument ? -ETIMEDOUT : 0));
    s.board->woken++;
    assert(mp_lock_release(s.lock) == 0);
    scene_close(&s);
}

static void wait_for_others(struct scene *s, struct crew *crew, int times)
{
    s->board->state = -1;
    assert_int_equal(mp_lock_acquire(s->lock, 0), 0);
    crew_start(crew, crew->carrier, s->arena, wait_for_4, 1, times == 4 ? 0 : MP_MSEC(50));
    assert_int_equal(mp_condition_wait_for(s->cond, s->lock, state_is_0, s->board, PATIENCE), 0);
    assert_int_equal(mp_lock_release(s->lock), 0);
    for (int i = 0; i < times; i++) {
        assert_int_equal(mp_lock_acquire(s->lock, PATIENCE), 0);
        s->board->state++;
        assert_int_equal(mp_condition_notify(s->cond, s->lock, 1), 0);
        assert_int_equal(mp_lock_release(s->lock), 0);
    }
    crew_join(crew);
}

static void test_wait_for(void **state)
{
    struct crew crew;
    struct scene s;

    need_carrier(state);
    crew.carrier = carrier_of(state);
    scene_create(&s);
    wait_for_others(&s, &crew, 4);
    wait_for_others(&s, &crew, 3);
    assert_int_equal(s.board->woken, 2);
    scene_end(&s);
}

/* Released wholly, and as deep as before afterwards. */
PART(wait_deep)
{
    struct scene s;

    scene_open(&s, part->arena);
    for (unsigned i = 0; i <= part->index; i++)
        assert(mp_rlock_acquire(s.rlock, PATIENCE) == 0);
    assert(mp_condition_wait_rlock(s.cond, s.rlock, PATIENCE) == 0);
    assert(mp_rlock_count(s.rlock) == (int)part->index + 1);
    s.board->deep += (int)part->index;
    for (unsigned i = 0; i <= part->index; i++)
        assert(mp_rlock_release(s.rlock) == 0);
    assert(mp_rlock_release(s.rlock) == -EPERM);
    scene_close(&s);
}

static void test_rlock(void **state)
{
    enum { N = 4 };
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    crew_start(&crew, carrier_of(state), s.arena, wait_deep, N, 0);
    until(asleep(&s) == N);
    assert_int_equal(mp_rlock_acquire(s.rlock, PATIENCE), 0);
    assert_int_equal(mp_rlock_acquire(s.rlock, 0), 0);
    assert_int_equal(mp_condition_notify_rlock(s.cond, s.rlock, 1), 0);
    assert_int_equal(mp_condition_notify_all_rlock(s.cond, s.rlock), 0);
    assert_int_equal(mp_rlock_release(s.rlock), 0);
    assert_int_equal(s.board->deep, 0);
    assert_int_equal(mp_rlock_release(s.rlock), 0);
    crew_join(&crew);
    assert_int_equal(s.board->deep, 0 + 1 + 2 + 3);
    scene_end(&s);
}

/* Turns, as fast as they go: none is missed. */
static int my_turn(void *user)
{
    const int *const *turn = user;

    return turn[0][0] % 3 == turn[1][0];
}

PART(turn_about)
{
    int index = (int)part->index;
    const int *turn[2] = {NULL, &index};
    struct scene s;

    scene_open(&s, part->arena);
    turn[0] = &s.board->state;
    for (uint64_t i = 0; i < part->argument; i++) {
        assert(mp_lock_acquire(s.lock, PATIENCE) == 0);
        assert(mp_condition_wait_for(s.cond, s.lock, my_turn, (void *)turn, PATIENCE) == 0);
        s.board->state++;
        assert(mp_condition_notify_all(s.cond, s.lock) == 0);
        assert(mp_lock_release(s.lock) == 0);
    }
    scene_close(&s);
}

static void test_turns(void **state)
{
    enum { TIMES = 2000 };
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    crew_start(&crew, carrier_of(state), s.arena, turn_about, 3, TIMES);
    crew_join(&crew);
    assert_int_equal(s.board->state, 3 * TIMES);
    scene_end(&s);
}

/* A token for each notification: what is put is taken, one waiter a unit, with timeouts between. */
PART(put_or_take)
{
    struct scene s;

    scene_open(&s, part->arena);
    for (uint64_t i = 0; i < part->argument; i++) {
        assert(mp_lock_acquire(s.lock, PATIENCE) == 0);
        if (part->index % 2) {
            s.board->state++;
            assert(mp_condition_notify(s.cond, s.lock, 1) == 0);
        } else {
            while (s.board->state == 0) {
                int r = mp_condition_wait(s.cond, s.lock, i % 4 ? PATIENCE : MP_MSEC(1));

                assert(r == 0 || (r == -ETIMEDOUT && i % 4 == 0));
            }
            s.board->state--;
        }
        assert(mp_lock_release(s.lock) == 0);
    }
    scene_close(&s);
}

static void test_units(void **state)
{
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    crew_start(&crew, carrier_of(state), s.arena, put_or_take, 8, 2000);
    crew_join(&crew);
    assert_int_equal(s.board->state, 0);
    scene_end(&s);
}

/* Who comes later takes nothing from those who were notified before. */
static void test_newcomers(void **state)
{
    struct crew first, late;
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    crew_start(&first, carrier_of(state), s.arena, wait_once, 2, 0);
    until(asleep(&s) == 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(kill(first.pids[i], SIGSTOP), 0);
    notify(&s, 1);
    crew_start(&late, carrier_of(state), s.arena, wait_once, 3, 0);
    until(asleep(&s) == 5);
    notify(&s, 1);
    assert_int_equal(read_board(&s, &s.board->woken), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(kill(first.pids[i], SIGCONT), 0);
    crew_join(&first);
    assert_int_equal(read_board(&s, &s.board->woken), 2);
    until(asleep(&s) == 3);
    notify(&s, 3);
    crew_join(&late);
    assert_int_equal(s.board->woken, 5);
    scene_end(&s);
}

/* ---- gone ---- */

PART(wait_until_gone)
{
    struct mp_lock_owner owner;
    struct scene s;

    scene_open(&s, part->arena);
    assert(mp_lock_acquire(s.lock, PATIENCE) == 0);
    assert(mp_condition_wait(s.cond, s.lock, part->index % 2 ? PATIENCE : MP_FOREVER) == -ESTALE);
    assert(mp_lock_owner(s.lock, &owner) == 0 && owner.self);
    assert(mp_condition_wait(s.cond, s.lock, 0) == -ESTALE);
    assert(mp_condition_notify(s.cond, s.lock, 1) == -ESTALE);
    assert(mp_lock_release(s.lock) == 0);
    scene_close(&s);
}

static void test_destroy_wakes(void **state)
{
    enum { N = 4 };
    struct crew crew;
    struct scene s;
    mp_condition *after;

    need_carrier(state);
    scene_create(&s);
    crew_start(&crew, carrier_of(state), s.arena, wait_until_gone, N, 0);
    until(asleep(&s) == N);
    assert_int_equal(mp_condition_destroy(s.cond), 0);
    crew_join(&crew);
    assert_int_equal(mp_condition_destroy(s.cond), -ESTALE);
    assert_int_equal(mp_condition_create(s.arena, "cond", &after), 0);
    assert_int_equal(mp_lock_try(s.lock), 0);
    assert_int_equal(mp_condition_wait(s.cond, s.lock, MP_FOREVER), -ESTALE);
    assert_int_equal(mp_condition_wait(after, s.lock, 0), -EAGAIN);
    mp_condition_close(after);
    scene_end(&s);
}

PART(lose_the_lock)
{
    struct scene s;

    scene_open(&s, part->arena);
    assert(mp_lock_acquire(s.lock, PATIENCE) == 0);
    assert(mp_condition_wait(s.cond, s.lock, MP_MSEC(100)) == -ESTALE);
    assert(mp_lock_release(s.lock) == -ESTALE);
    assert(mp_condition_wait(s.cond, s.lock, 0) == -ESTALE);
    scene_close(&s);
}

static void test_lock_goes(void **state)
{
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_create(&s);
    crew_start(&crew, carrier_of(state), s.arena, lose_the_lock, 2, 0);
    until(asleep(&s) == 2);
    assert_int_equal(mp_lock_destroy(s.lock), 0);
    crew_join(&crew);
    /* They are not counted as waiters any more. */
    assert_int_equal(mp_rlock_try(s.rlock), 0);
    assert_int_equal(mp_condition_notify_all_rlock(s.cond, s.rlock), 0);
    assert_int_equal(mp_condition_wait_rlock(s.cond, s.rlock, MP_MSEC(2)), -ETIMEDOUT);
    scene_end(&s);
}

static void on_signal(int number)
{
    (void)number;
}

static void *wait_in_thread(void *user)
{
    struct scene *s = user;

    assert(mp_lock_acquire(s->lock, PATIENCE) == 0);
    assert(mp_condition_wait(s->cond, s->lock, PATIENCE) == 0);
    assert(mp_lock_release(s->lock) == 0);
    return NULL;
}

/* A signal does not end a wait. */
static void test_signals(void **state)
{
    struct sigaction action = {.sa_handler = on_signal}, before;
    struct scene s;
    pthread_t thread;

    (void)state;
    scene_create(&s);
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_in_thread, &s), 0);
    until(asleep(&s) == 1);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
        until(asleep(&s) == 1);
    }
    notify(&s, 1);
    pthread_join(thread, NULL);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    scene_end(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_refuses),       clean_test(test_full),
        clean_test(test_lock_not_held), clean_test(test_other_thread),
        clean_test(test_timeouts),      clean_test(test_after_many_groups),
        on_carriers(test_notify),       on_carriers(test_notify_all),
        on_carriers(test_notify_n),     on_carriers(test_many),
        on_carriers(test_wait_for),     on_carriers(test_rlock),
        on_carriers(test_turns),        on_carriers(test_units),
        on_processes(test_newcomers),   on_carriers(test_destroy_wakes),
        on_carriers(test_lock_goes),    clean_test(test_signals),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
