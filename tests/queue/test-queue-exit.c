/* SPDX-License-Identifier: MIT */
/*
 * Processes that end right after a put, and consumers of joinable queues that die.
 *
 * A process that has put may end in any way at once: what it put is there, and nobody has to drain
 * the queue before it can be joined (in Python that is a deadlock: its feeder is joined at exit).
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/until.h"
#include "queues.h"

#define PATIENCE MP_SEC(20)
#define LARGE (100u << 10) /* more than a pipe holds */
#define MESSAGES 8u

/* ---- right after a put ---- */

enum { BY_EXIT, BY__EXIT, BY_KILL, BY_RETURN, WAYS };

static void end_by(uint64_t way)
{
    switch (way) {
    case BY_EXIT:
        exit(0);
    case BY__EXIT:
        _exit(0);
    case BY_KILL:
        raise(SIGKILL);
    }
}

/* Left open, and where LeakSanitizer sees it: the end of the process takes it along. */
static mp_queue *queue_left __attribute__((used));

static void fill_queue(mp_arena *arena)
{
    static char bytes[LARGE];
    mp_queue *queue;

    assert(mp_queue_open(arena, "queue", &queue) == 0);
    queue_left = queue;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        memset(bytes, (int)i + 1, sizeof bytes);
        assert(mp_queue_put(queue, bytes, sizeof bytes, 0) == 0);
    }
    assert(mp_queue_is_full(queue) == 1);
}

PART(put_and_end)
{
    fill_queue(part->arena);
    end_by(part->argument);
}

/* Joined before anything is taken out: it must have ended by itself. */
static void join_however(struct crew *crew, uint64_t way)
{
    int status;

    assert_int_equal(waitpid(crew->pids[0], &status, 0), crew->pids[0]);
    if (way == BY_KILL)
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    else
        assert_int_equal(status, 0);
    crew->pids[0] = 0;
}

static void expect_all(mp_queue *queue)
{
    static char bytes[LARGE];
    size_t size;

    assert_int_equal(mp_queue_size(queue), MESSAGES);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        assert_int_equal(mp_queue_get(queue, bytes, sizeof bytes, PATIENCE, &size), 0);
        assert_int_equal(size, LARGE);
        for (size_t b = 0; b < size; b++)
            assert(bytes[b] == (char)(i + 1));
    }
    assert_int_equal(mp_queue_is_empty(queue), 1);
}

static mp_arena *make_large_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create(
            "exit", MP_ARENA_OPTIONS(.size = 8 << 20, .participants = 16, .objects = 16), &arena),
        0);
    return arena;
}

static void test_exit_after_put(void **state)
{
    mp_arena *arena;

    need_carrier(state);
    arena = make_large_arena();
    for_each_kind(flags) for (uint64_t way = 0; way < WAYS; way++)
    {
        mp_queue *queue = make_queue(arena, MESSAGES, flags);
        struct crew crew;

        crew_start(&crew, carrier_of(state), arena, put_and_end, 1, way);
        join_however(&crew, way);
        expect_all(queue);
        until(settled(arena, 1));
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* By the library's own ways to start a process: its join does not drain either. */
MP_ENTRY(put_and_return)
{
    uint64_t way;

    assert(call->size == sizeof way);
    memcpy(&way, call->data, sizeof way);
    fill_queue(call->arenas[0]);
    end_by(way);
    return 0;
}

static void start_and_join(mp_arena *arena, enum mp_start_method method, uint64_t way)
{
    mp_process *process;

    assert_int_equal(mp_process_start(put_and_return,
                                      MP_PROCESS_OPTIONS(.method = method, MP_ARENAS(arena),
                                                         .data = &way, .size = sizeof way),
                                      &process),
                     0);
    assert_int_equal(mp_process_join(process, PATIENCE), 0);
    mp_process_free(process);
}

static void test_process_after_put(void **state)
{
    static const enum mp_start_method methods[] = {MP_START_FORK, MP_START_SPAWN};
    mp_arena *arena;

    (void)state;
    if (!carrier_works(FORK))
        skip();
    arena = make_large_arena();
    for (size_t i = 0; i < MP_ARRAY_SIZE(methods); i++)
        for (uint64_t way = 0; way < WAYS; way++) {
            mp_queue *queue = make_queue(arena, MESSAGES, 0);

            start_and_join(arena, methods[i], way);
            expect_all(queue);
            until(settled(arena, 1));
            end_queue(queue);
        }
    mp_arena_close(arena);
}

/* ---- consumers that die ---- */

enum { GETS, GETS_AND_ENDS_ONE, RECEIVES, HOLDS };

static uint64_t unfinished(const mp_queue *queue)
{
    struct mp_queue_stats s;

    assert(mp_queue_stats(queue, &s) == 0);
    return s.unfinished;
}

PART(hold_and_wait)
{
    mp_queue *queue;
    struct mp_message m;
    mp_event *ready;
    uint32_t n;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    assert(mp_event_open(part->arena, "ready", &ready) == 0);
    for (int i = 0; i < 3; i++)
        if (part->argument == RECEIVES)
            assert(mp_queue_receive(queue, 0, &m) == 0);
        else
            assert(mp_queue_get(queue, &n, sizeof n, 0, NULL) == 0);
    if (part->argument == GETS_AND_ENDS_ONE)
        assert(mp_queue_task_done(queue) == 0);
    assert(mp_event_set(ready) == 0);
    for (;;)
        pause();
}

PART(join_it)
{
    mp_queue *queue;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    assert(mp_queue_join(queue, MP_FOREVER) == 0);
    assert(unfinished(queue) == 0);
    mp_queue_close(queue);
}

/* Three of five are in its hands. They come again, or are dropped; join waits for the one and not
 * for the other. */
static void die_holding(enum carrier carrier, mp_arena *arena, uint32_t flags, uint64_t how)
{
    bool drop = flags & MP_QUEUE_DROP_HELD;
    uint32_t ended = how == GETS_AND_ENDS_ONE;
    mp_queue *queue = make_queue(arena, 8, flags);
    struct crew victim, joiners;
    mp_event *ready;
    struct mp_message m;

    assert_int_equal(mp_event_create(arena, "ready", &ready), 0);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(put_number(queue, i), 0);
    crew_start(&victim, carrier, arena, hold_and_wait, 1, how);
    assert_int_equal(mp_event_wait(ready, PATIENCE), 0);
    crew_start(&joiners, carrier, arena, join_it, 2, 0);
    until(sleepers(arena, MP_WAIT_JOIN) == 2);
    assert_int_equal(unfinished(queue), 5 - ended);
    assert_int_equal(mp_queue_size(queue), 2);
    crew_kill(&victim, 0);
    until(settled(arena, 3));
    assert_int_equal(unfinished(queue), drop ? 2 : 5 - ended);
    for (uint32_t i = 0; !drop && i < 3 - ended; i++) {
        assert_int_equal(mp_queue_receive(queue, PATIENCE, &m), 0);
        assert_true(m.deliveries == 2 && *(uint32_t *)m.data < 3);
        assert_int_equal(mp_queue_release(queue, &m), 0);
    }
    assert_int_equal(get_number(queue), 3);
    assert_int_equal(get_number(queue), 4);
    until(sleepers(arena, MP_WAIT_JOIN) == 2);
    assert_int_equal(mp_queue_join(queue, 0), -EAGAIN);
    assert_int_equal(mp_queue_task_done(queue), 0);
    assert_int_equal(mp_queue_task_done(queue), 0);
    crew_join(&joiners);
    until(settled(arena, 1));
    assert_int_equal(mp_event_destroy(ready), 0);
    mp_event_close(ready);
    end_queue(queue);
}

static void test_consumer_dies(void **state)
{
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (uint64_t how = 0; how < HOLDS; how++) {
        die_holding(carrier_of(state), arena, MP_QUEUE_JOINABLE, how);
        die_holding(carrier_of(state), arena, MP_QUEUE_JOINABLE | MP_QUEUE_DROP_HELD, how);
    }
    mp_arena_close(arena);
}

/* The last tasks are in the hands of one who dies: those who wait go, by the sweep alone, where
 * they are dropped, by the option or because the queue was shut down at once. */
static void test_last_one_dies(void **state)
{
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (int shut = 0; shut < 2; shut++) {
        mp_queue *queue = make_queue(arena, 8, MP_QUEUE_JOINABLE | (shut ? 0 : MP_QUEUE_DROP_HELD));
        struct crew victim, joiners;
        mp_event *ready;
        uint32_t n;

        assert_int_equal(mp_event_create(arena, "ready", &ready), 0);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(put_number(queue, i), 0);
        crew_start(&victim, carrier_of(state), arena, hold_and_wait, 1, GETS);
        assert_int_equal(mp_event_wait(ready, PATIENCE), 0);
        crew_start(&joiners, carrier_of(state), arena, join_it, 2, 0);
        until(sleepers(arena, MP_WAIT_JOIN) == 2);
        if (shut)
            assert_int_equal(mp_queue_shutdown(queue, 1), 0);
        assert_int_equal(mp_queue_join(queue, MP_MSEC(2)), -ETIMEDOUT);
        crew_kill(&victim, 0);
        crew_join(&joiners);
        assert_int_equal(mp_queue_join(queue, MP_FOREVER), 0);
        assert_int_equal(mp_queue_size(queue), 0);
        assert_int_equal(mp_queue_get_nowait(queue, &n, sizeof n, NULL), shut ? -EPIPE : -EAGAIN);
        until(settled(arena, 1));
        assert_int_equal(mp_event_destroy(ready), 0);
        mp_event_close(ready);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* What the parent got is not its child's to end, and stays when the child ends. */
static void end_none(void *user)
{
    mp_queue *queue = user;
    uint32_t n;

    assert(mp_queue_task_done(queue) == -EOVERFLOW);
    assert(mp_queue_join(queue, 0) == -EAGAIN);
    assert(mp_queue_get(queue, &n, sizeof n, 0, NULL) == 0 && n == 1);
    assert(mp_queue_task_done(queue) == 0);
    assert(mp_queue_task_done(queue) == -EOVERFLOW);
    mp_queue_close(queue);
}

static void test_fork_while_holding(void **state)
{
    mp_arena *arena;
    mp_queue *queue;

    (void)state;
    if (!carrier_works(FORK))
        skip();
    arena = make_arena();
    queue = make_queue(arena, 8, MP_QUEUE_JOINABLE);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(put_number(queue, i), 0);
    assert_int_equal(get_number(queue), 0);
    child_join(child_start(end_none, queue));
    until(settled(arena, 1));
    assert_int_equal(unfinished(queue), 1);
    assert_int_equal(mp_queue_task_done(queue), 0);
    assert_int_equal(mp_queue_join(queue, 0), 0);
    end_queue(queue);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        on_processes(test_exit_after_put),   clean_test(test_process_after_put),
        on_processes(test_consumer_dies),    on_processes(test_last_one_dies),
        clean_test(test_fork_while_holding),
    };

    mp_main(argc, argv);
    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
