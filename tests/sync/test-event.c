/* SPDX-License-Identifier: MIT */
/* The event: set, cleared, waited for, by those who live and those who die; and every error. */

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
        mp_arena_create(
            "event", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 16), &arena),
        0);
    return arena;
}

static mp_event *make_event(mp_arena *arena)
{
    mp_event *event;

    assert_int_equal(mp_event_create(arena, "event", &event), 0);
    return event;
}

static mp_event *open_event(mp_arena *arena, const char *name)
{
    mp_event *event;

    assert(mp_event_open(arena, name, &event) == 0);
    return event;
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
    mp_event *event = make_event(arena), *other = NULL, *events[16];

    (void)state;
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
    assert_int_equal(mp_event_create(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_event_create(arena, "a", NULL), -EINVAL);
    assert_int_equal(mp_event_create(arena, "event", &other), -EEXIST);
    assert_int_equal(mp_event_create(arena, "", &other), -ENAMETOOLONG);
    assert_int_equal(mp_event_create(arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_event_open(NULL, "a", &other), -EINVAL);
    assert_int_equal(mp_event_open(arena, NULL, &other), -EINVAL);
    assert_int_equal(mp_event_open(arena, "event", NULL), -EINVAL);
    assert_int_equal(mp_event_open(arena, "", &other), -ENAMETOOLONG);
    assert_int_equal(mp_event_open(arena, name, &other), -ENAMETOOLONG);
    assert_int_equal(mp_event_open(arena, "none", &other), -ENOENT);
    assert_null(mp_event_close(NULL));
    assert_int_equal(mp_event_destroy(NULL), -EINVAL);
    assert_int_equal(mp_event_set(NULL), -EINVAL);
    assert_int_equal(mp_event_clear(NULL), -EINVAL);
    assert_int_equal(mp_event_is_set(NULL), -EINVAL);
    assert_int_equal(mp_event_wait(NULL, 0), -EINVAL);
    assert_int_equal(mp_event_wait(NULL, MP_FOREVER), -EINVAL);
    assert_null(mp_event_name(NULL));
    for (int i = 1; i < 16; i++)
        assert_int_equal(mp_event_create(arena, NULL, &events[i]), 0);
    assert_int_equal(mp_event_create(arena, NULL, &other), -ENOBUFS);
    assert_null(other);
    for (int i = 1; i < 16; i++)
        mp_event_close(events[i]);
    assert_null(mp_event_close(event));
    mp_arena_close(arena);
}

/* Python's test_event, test_is_set and test_timeout, before there is anybody else. */
static void test_alone(void **state)
{
    mp_arena *arena = make_arena();
    mp_event *event = make_event(arena), *same = open_event(arena, "event");

    (void)state;
    assert_string_equal(mp_event_name(event), "event");
    for (int round = 0; round < 3; round++) {
        uint64_t start = mp_now_ns();

        assert_int_equal(mp_event_is_set(event), 0);
        assert_int_equal(mp_event_wait(event, 0), -EAGAIN);
        assert_int_equal(mp_event_wait(same, 1), -ETIMEDOUT);
        assert_int_equal(mp_event_wait(event, MP_MSEC(20)), -ETIMEDOUT);
        assert_true(mp_now_ns() - start >= MP_MSEC(20));
        for (int i = 0; i < 2; i++) {
            assert_int_equal(mp_event_set(i ? event : same), 0);
            assert_int_equal(mp_event_is_set(event), 1);
            assert_int_equal(mp_event_is_set(same), 1);
            assert_int_equal(mp_event_wait(event, MP_FOREVER), 0);
            assert_int_equal(mp_event_wait(same, 0), 0);
            assert_int_equal(mp_event_wait(same, MP_MSEC(20)), 0);
        }
        /* Waiting does not use it up. */
        assert_int_equal(mp_event_is_set(event), 1);
        assert_int_equal(mp_event_clear(same), 0);
        assert_int_equal(mp_event_clear(event), 0);
    }
    mp_event_close(event);
    mp_event_close(same);
    mp_arena_close(arena);
}

/* ---- waiters ---- */

PART(wait_for_it)
{
    mp_event *event = open_event(part->arena, "event");
    _Atomic(int) *through = open_block(part->arena, "through");

    assert(mp_event_wait(event, part->index % 2 ? PATIENCE : MP_FOREVER) == 0);
    ++*through;
    mp_event_close(event);
}

static void wait_for_sleepers(const mp_arena *arena, enum carrier carrier, unsigned n)
{
    /* Of the threads of one process some are asleep without a record of it. */
    until(sleepers(arena, MP_WAIT_EVENT) >= (carrier == THREADS ? 4 : n));
}

/* Python's test_notify: nobody goes before, all go at once, and those who come later do not wait.
 */
static void test_set_wakes_all(void **state)
{
    enum { N = 8 };
    struct crew crew, late;
    mp_arena *arena;
    mp_event *event;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    event = make_event(arena);
    assert_int_equal(mp_block_create(arena, "through", sizeof(int), &shared), 0);
    for (int round = 1; round <= 3; round++) {
        crew_start(&crew, carrier_of(state), arena, wait_for_it, N, 0);
        wait_for_sleepers(arena, carrier_of(state), N);
        assert_int_equal(*(_Atomic(int) *)shared, (round - 1) * 2 * N);
        assert_int_equal(mp_event_set(event), 0);
        crew_join(&crew);
        crew_start(&late, carrier_of(state), arena, wait_for_it, N, 0);
        crew_join(&late);
        assert_int_equal(*(_Atomic(int) *)shared, round * 2 * N);
        assert_int_equal(mp_event_is_set(event), 1);
        assert_int_equal(mp_event_clear(event), 0);
        until(settled(arena, 1));
    }
    mp_event_close(event);
    mp_arena_close(arena);
}

/* Python's test_set_and_clear: who waited is let go though it is clear again when it looks. */
static void test_set_and_clear(void **state)
{
    enum { N = 4, ROUNDS = 20 };
    struct crew crew;
    mp_arena *arena;
    mp_event *event;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    event = make_event(arena);
    assert_int_equal(mp_block_create(arena, "through", sizeof(int), &shared), 0);
    for (int round = 1; round <= ROUNDS; round++) {
        crew_start(&crew, carrier_of(state), arena, wait_for_it, N, 0);
        until(sleepers(arena, MP_WAIT_EVENT) == N);
        assert_int_equal(mp_event_set(event), 0);
        assert_int_equal(mp_event_clear(event), 0);
        crew_join(&crew);
        assert_int_equal(*(_Atomic(int) *)shared, round * N);
        assert_int_equal(mp_event_wait(event, 0), -EAGAIN);
        until(settled(arena, 1));
    }
    mp_event_close(event);
    mp_arena_close(arena);
}

/* Those who come after a clear wait for the next set, whatever was before. */
PART(set_it)
{
    mp_event *event = open_event(part->arena, "event");
    uint64_t *message = open_block(part->arena, "through");

    until(sleepers(part->arena, MP_WAIT_EVENT) > 0);
    *message = 42;
    assert(mp_event_set(event) == 0);
    mp_event_close(event);
}

static void test_set_by_other(void **state)
{
    struct crew crew;
    mp_arena *arena;
    mp_event *event;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    event = make_event(arena);
    assert_int_equal(mp_block_create(arena, "through", sizeof(uint64_t), &shared), 0);
    for (int round = 0; round < 5; round++) {
        *(uint64_t *)shared = 0;
        crew_start(&crew, carrier_of(state), arena, set_it, 1, 0);
        assert_int_equal(mp_event_wait(event, PATIENCE), 0);
        assert_int_equal(*(uint64_t *)shared, 42);
        crew_join(&crew);
        assert_int_equal(mp_event_clear(event), 0);
    }
    mp_event_close(event);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* To and fro, as fast as it goes: no set is missed. */
PART(turn_about)
{
    mp_event *mine = open_event(part->arena, part->index ? "b" : "a");
    mp_event *theirs = open_event(part->arena, part->index ? "a" : "b");
    uint64_t *turns = open_block(part->arena, "turns");

    for (uint64_t i = 0; i < part->argument; i++) {
        assert(mp_event_wait(mine, PATIENCE) == 0);
        assert(mp_event_clear(mine) == 0);
        assert(*turns == 2 * i + part->index);
        ++*turns;
        assert(mp_event_set(theirs) == 0);
    }
    mp_event_close(mine);
    mp_event_close(theirs);
}

static void test_to_and_fro(void **state)
{
    enum { TIMES = 5000 };
    struct crew crew;
    mp_arena *arena;
    mp_event *a, *b;
    void *turns;

    need_carrier(state);
    arena = make_arena();
    assert_int_equal(mp_event_create(arena, "a", &a), 0);
    assert_int_equal(mp_event_create(arena, "b", &b), 0);
    assert_int_equal(mp_block_create(arena, "turns", sizeof(uint64_t), &turns), 0);
    assert_int_equal(mp_event_set(a), 0);
    crew_start(&crew, carrier_of(state), arena, turn_about, 2, TIMES);
    crew_join(&crew);
    assert_int_equal(*(uint64_t *)turns, 2 * TIMES);
    mp_event_close(a);
    mp_event_close(b);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

PART(wait_until_gone)
{
    mp_event *event = open_event(part->arena, "event");

    assert(mp_event_wait(event, part->index % 2 ? PATIENCE : MP_FOREVER) == -ESTALE);
    assert(mp_event_wait(event, 0) == -ESTALE);
    assert(mp_event_set(event) == -ESTALE);
    assert(mp_event_clear(event) == -ESTALE);
    assert(mp_event_is_set(event) == -ESTALE);
    mp_event_close(event);
}

static void test_destroy_wakes(void **state)
{
    enum { N = 4 };
    mp_event *event, *after;
    struct crew crew;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (int round = 0; round < 3; round++) {
        event = make_event(arena);
        crew_start(&crew, carrier_of(state), arena, wait_until_gone, N, 0);
        until(sleepers(arena, MP_WAIT_EVENT) == N);
        assert_int_equal(mp_event_destroy(event), 0);
        crew_join(&crew);
        assert_int_equal(mp_event_destroy(event), -ESTALE);
        assert_string_equal(mp_event_name(event), "event");
        after = make_event(arena);
        assert_int_equal(mp_event_is_set(after), 0);
        assert_int_equal(mp_event_set(event), -ESTALE);
        assert_int_equal(mp_event_is_set(after), 0);
        assert_int_equal(mp_event_set(after), 0);
        assert_int_equal(mp_event_clear(event), -ESTALE);
        assert_int_equal(mp_event_wait(event, MP_FOREVER), -ESTALE);
        assert_int_equal(mp_event_is_set(after), 1);
        assert_int_equal(mp_event_destroy(after), 0);
        mp_event_close(after);
        mp_event_close(event);
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

/* ---- forks and deaths ---- */

static void use_parents_handle(void *user)
{
    mp_event *event = user;

    assert(mp_event_is_set(event) == 0);
    assert(mp_event_wait(event, 0) == -EAGAIN);
    assert(mp_event_wait(event, PATIENCE) == 0);
    assert(mp_event_clear(event) == 0);
}

static void test_fork(void **state)
{
    mp_arena *arena;
    mp_event *event;
    pid_t pid;

    need_carrier(state);
    arena = make_arena();
    event = make_event(arena);
    pid = child_start(use_parents_handle, event);
    until(sleepers(arena, MP_WAIT_EVENT) == 1);
    assert_int_equal(mp_event_set(event), 0);
    child_join(pid);
    assert_int_equal(mp_event_is_set(event), 0);
    mp_event_close(event);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

static void set_and_die(void *user)
{
    assert(mp_event_set(user) == 0);
    raise(SIGKILL);
}

/* What the dead have set stays set. */
static void test_setter_dies(void **state)
{
    mp_arena *arena;
    mp_event *event;
    pid_t pid;

    need_carrier(state);
    arena = make_arena();
    event = make_event(arena);
    pid = child_start(set_and_die, event);
    assert_int_equal(mp_event_wait(event, PATIENCE), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    until(settled(arena, 1));
    assert_int_equal(mp_event_is_set(event), 1);
    mp_event_close(event);
    mp_arena_close(arena);
}

/* Those who wait and die take nothing with them. */
static void test_waiters_die(void **state)
{
    enum { N = 6 };
    struct crew crew;
    mp_arena *arena;
    mp_event *event;
    void *shared;

    need_carrier(state);
    arena = make_arena();
    event = make_event(arena);
    assert_int_equal(mp_block_create(arena, "through", sizeof(int), &shared), 0);
    for (unsigned round = 0; round < 4; round++) {
        crew_start(&crew, carrier_of(state), arena, wait_for_it, N, 0);
        until(sleepers(arena, MP_WAIT_EVENT) == N);
        for (unsigned i = round % 2; i < N; i += 2)
            kill(crew.pids[i], SIGKILL);
        assert_int_equal(mp_event_set(event), 0);
        for (unsigned i = round % 2; i < N; i += 2)
            crew_kill(&crew, i);
        crew_join(&crew);
        until(settled(arena, 1));
        assert_int_equal(mp_event_clear(event), 0);
    }
    mp_event_close(event);
    mp_arena_close(arena);
}

static void on_signal(int number)
{
    (void)number;
}

static void *wait_in_thread(void *user)
{
    assert(mp_event_wait(user, PATIENCE) == 0);
    return NULL;
}

/* A signal does not end a wait. */
static void test_signals(void **state)
{
    struct sigaction action = {.sa_handler = on_signal}, before;
    mp_arena *arena = make_arena();
    mp_event *event = make_event(arena);
    pthread_t thread;

    (void)state;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_in_thread, event), 0);
    until(sleepers(arena, MP_WAIT_EVENT) == 1);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
        until(sleepers(arena, MP_WAIT_EVENT) == 1);
    }
    assert_int_equal(mp_event_set(event), 0);
    pthread_join(thread, NULL);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    mp_event_close(event);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_refuses),
        clean_test(test_alone),
        on_carriers(test_set_wakes_all),
        on_carriers(test_set_and_clear),
        on_carriers(test_set_by_other),
        on_carriers(test_to_and_fro),
        on_carriers(test_destroy_wakes),
        carried_test(test_fork, FORK),
        carried_test(test_setter_dies, FORK),
        on_processes(test_waiters_die),
        clean_test(test_signals),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
