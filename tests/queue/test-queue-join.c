/* SPDX-License-Identifier: MIT */
/* Joinable queues while nobody dies: task_done and join, as CPython's tests of JoinableQueue and of
 * Queue.shutdown() have them, and what those do not ask. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
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
#include "queues.h"

#define PATIENCE MP_SEC(20)
#define ENOUGH UINT32_MAX

static const uint32_t joinable[] = {
    MP_QUEUE_JOINABLE,
    MP_QUEUE_JOINABLE | MP_QUEUE_SINGLE_PRODUCER,
    MP_QUEUE_JOINABLE | MP_QUEUE_SINGLE_CONSUMER,
    MP_QUEUE_JOINABLE | MP_QUEUE_DROP_HELD,
};

static uint64_t unfinished(const mp_queue *queue)
{
    struct mp_queue_stats s;

    assert(mp_queue_stats(queue, &s) == 0);
    return s.unfinished;
}

static void *open_block(mp_arena *arena, const char *name)
{
    void *block;

    assert(mp_block_open(arena, name, &block, NULL) == 0);
    return block;
}

/* ---- one call after the other ---- */

static void test_bad_input(void **state)
{
    const uint32_t single = MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER;
    mp_arena *arena = make_arena();
    mp_queue *queue;
    char byte;

    (void)state;
    assert_int_equal(mp_queue_task_done(NULL), -EINVAL);
    assert_int_equal(mp_queue_join(NULL, 0), -EINVAL);
    assert_int_equal(mp_queue_size(NULL), -EINVAL);
    assert_int_equal(mp_queue_is_empty(NULL), -EINVAL);
    assert_int_equal(mp_queue_is_full(NULL), -EINVAL);
    assert_int_equal(mp_queue_put_nowait(NULL, "a", 1), -EINVAL);
    assert_int_equal(mp_queue_get_nowait(NULL, &byte, 1, NULL), -EINVAL);
    assert_int_equal(
        mp_queue_create(arena, "no", MP_QUEUE_OPTIONS(.flags = single | MP_QUEUE_JOINABLE), &queue),
        -EINVAL);
    for_each_kind(flags)
    {
        queue = make_queue(arena, 4, flags);
        assert_int_equal(put_number(queue, 1), 0);
        assert_int_equal(get_number(queue), 1);
        assert_int_equal(mp_queue_task_done(queue), -EINVAL);
        assert_int_equal(mp_queue_join(queue, 0), -EINVAL);
        assert_int_equal(unfinished(queue), 0);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

static void test_count(void **state)
{
    mp_arena *arena = make_arena();
    struct mp_message m;

    (void)state;
    for (size_t k = 0; k < MP_ARRAY_SIZE(joinable); k++) {
        mp_queue *queue = make_queue(arena, 8, joinable[k]);

        assert_int_equal(mp_queue_join(queue, 0), 0);
        assert_int_equal(mp_queue_task_done(queue), -EOVERFLOW);
        for (uint32_t i = 0; i < 4; i++) {
            assert_int_equal(put_number(queue, i), 0);
            assert_int_equal(unfinished(queue), i + 1);
        }
        assert_int_equal(mp_queue_task_done(queue), -EOVERFLOW); /* put is not got */
        assert_int_equal(mp_queue_join(queue, 0), -EAGAIN);
        assert_int_equal(get_number(queue), 0);
        assert_int_equal(get_number(queue), 1);
        assert_int_equal(mp_queue_size(queue), 2);
        assert_int_equal(unfinished(queue), 4);
        assert_int_equal(mp_queue_task_done(queue), 0);
        assert_int_equal(unfinished(queue), 3);
        assert_int_equal(mp_queue_task_done(queue), 0);
        assert_int_equal(mp_queue_task_done(queue), -EOVERFLOW);
        assert_int_equal(unfinished(queue), 2);

        /* Without copies, release ends the task; to give one back does not. */
        assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
        assert_int_equal(unfinished(queue), 2);
        assert_int_equal(mp_queue_task_done(queue), -EOVERFLOW);
        assert_int_equal(mp_queue_release(queue, &m), 0);
        assert_int_equal(unfinished(queue), 1);
        assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
        assert_int_equal(mp_queue_abandon(queue, &m), 0);
        if (!(joinable[k] & MP_QUEUE_DROP_HELD)) {
            assert_int_equal(mp_queue_join(queue, MP_MSEC(2)), -ETIMEDOUT);
            assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
            assert_int_equal(m.deliveries, 2);
            assert_int_equal(mp_queue_join(queue, 0), -EAGAIN);
            assert_int_equal(mp_queue_release_batch(queue, &m, 1), 0);
        }
        assert_int_equal(mp_queue_join(queue, MP_FOREVER), 0);
        assert_int_equal(unfinished(queue), 0);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* Thousands that are got and not done; none of their memory is lost. */
static void test_many(void **state)
{
    enum { N = 3000 };
    static uint32_t numbers[N];
    mp_arena *arena = make_arena();
    unsigned memory = 0;

    (void)state;
    for (int round = 0; round < 3; round++) {
        mp_queue *queue = make_queue(arena, 1024, MP_QUEUE_JOINABLE);
        unsigned in = 0, out = 0, done = 0;

        while (out < N) {
            int n = mp_queue_put_batch(queue, &numbers[in], sizeof numbers[0],
                                       mp_min(N - in, 1000u), 0);

            assert_true(n > 0);
            in += (unsigned)n;
            n = mp_queue_get_batch(queue, numbers, sizeof numbers[0], NULL, N, 0);
            assert_true(n > 0);
            out += (unsigned)n;
            for (int i = 0; i < n / 3; i++, done++)
                assert_int_equal(mp_queue_task_done(queue), 0);
        }
        assert_int_equal(unfinished(queue), N - done);
        for (; done < N; done++) {
            assert_int_equal(mp_queue_join(queue, 0), -EAGAIN);
            assert_int_equal(mp_queue_task_done(queue), 0);
        }
        assert_int_equal(mp_queue_task_done(queue), -EOVERFLOW);
        assert_int_equal(mp_queue_join(queue, 0), 0);
        end_queue(queue);
        /* The memory of the ring is kept for the next one. */
        if (round == 0)
            memory = count_memory(arena);
    }
    assert_int_equal(count_memory(arena), memory);
    mp_arena_close(arena);
}

/* What was got by a handle that is closed goes back. */
static void test_close_gives_back(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for (size_t k = 0; k < MP_ARRAY_SIZE(joinable); k++) {
        bool drop = joinable[k] & MP_QUEUE_DROP_HELD;
        mp_queue *queue, *other;
        struct mp_message m;

        queue = make_queue(arena, 8, joinable[k]);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(put_number(queue, i), 0);
        assert_int_equal(mp_queue_open(arena, "queue", &other), 0);
        assert_int_equal(get_number(other), 0);
        assert_int_equal(get_number(other), 1);
        assert_int_equal(mp_queue_task_done(other), 0);
        assert_int_equal(mp_queue_task_done(queue), -EOVERFLOW); /* not got by this one */
        mp_queue_close(other);
        assert_int_equal(unfinished(queue), drop ? 1 : 2);
        if (!drop) {
            assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
            assert_int_equal(*(uint32_t *)m.data, 1);
            assert_int_equal(m.deliveries, 2);
            assert_int_equal(mp_queue_release(queue, &m), 0);
        }
        assert_int_equal(get_number(queue), 2);
        assert_int_equal(mp_queue_task_done(queue), 0);
        assert_int_equal(mp_queue_join(queue, 0), 0);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

static void *get_one(void *queue)
{
    uint32_t n;

    assert(mp_queue_get(queue, &n, sizeof n, 0, NULL) == 0);
    return NULL;
}

static void *get_and_end_one(void *queue)
{
    get_one(queue);
    assert(mp_queue_task_done(queue) == 0);
    return NULL;
}

static void run_thread(void *(*f)(void *), mp_queue *queue)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, f, queue), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* A thread ends what it got itself; where it has nothing, what another thread got. */
static void test_whose_task(void **state)
{
    mp_arena *arena = make_arena();
    mp_queue *queue = make_queue(arena, 8, MP_QUEUE_JOINABLE), *other;
    struct mp_message m;

    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(put_number(queue, i), 0);
    assert_int_equal(mp_queue_open(arena, "queue", &other), 0);
    assert_int_equal(get_number(other), 0);
    run_thread(get_and_end_one, other); /* 1, not 0 */
    run_thread(get_one, other);         /* 2 */
    assert_int_equal(get_number(other), 3);
    assert_int_equal(mp_queue_task_done(other), 0); /* 0 */
    assert_int_equal(mp_queue_task_done(other), 0); /* 3 */
    assert_int_equal(unfinished(queue), 1);
    mp_queue_close(other);
    assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
    assert_int_equal(*(uint32_t *)m.data, 2);
    assert_int_equal(mp_queue_release(queue, &m), 0);

    assert_int_equal(put_number(queue, 4), 0);
    run_thread(get_one, queue);
    assert_int_equal(mp_queue_task_done(queue), 0);
    assert_int_equal(mp_queue_task_done(queue), -EOVERFLOW);
    assert_int_equal(mp_queue_join(queue, 0), 0);
    end_queue(queue);
    mp_arena_close(arena);
}

/* ---- CPython's test_task_done ---- */

enum { WORKERS = 4, TASKS = 10 };

PART(work)
{
    mp_queue *queue;
    uint32_t n = 0;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    for (;;) {
        assert(mp_queue_get(queue, &n, sizeof n, PATIENCE, NULL) == 0);
        if (n == ENOUGH)
            break;
        assert(mp_queue_task_done(queue) == 0);
    }
    /* Python's test does not, for what ended us: here that would go on to others. */
    assert(mp_queue_task_done(queue) == 0);
    assert(mp_queue_task_done(queue) == -EOVERFLOW);
    mp_queue_close(queue);
}

static void test_task_done(void **state)
{
    mp_arena *arena;
    struct crew crew;
    mp_queue *queue;

    need_carrier(state);
    arena = make_arena();
    queue = make_queue(arena, 0, MP_QUEUE_JOINABLE);
    crew_start(&crew, carrier_of(state), arena, work, WORKERS, 0);
    for (int round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < TASKS; i++)
            assert_int_equal(put_number(queue, i), 0);
        assert_int_equal(mp_queue_join(queue, PATIENCE), 0);
        assert_int_equal(mp_queue_is_empty(queue), 1);
        assert_int_equal(unfinished(queue), 0);
    }
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(put_number(queue, ENOUGH), 0);
    crew_join(&crew);
    assert_int_equal(mp_queue_join(queue, 0), 0);
    until(settled(arena, 1));
    end_queue(queue);
    mp_arena_close(arena);
}

/* ---- tasks that put tasks ---- */

enum { DEPTH = 9 };

/* Each task of depth n puts two of n - 1 before it is done: join ends after all of them, and no
 * instant earlier. */
PART(spread)
{
    _Atomic(uint32_t) *ended = open_block(part->arena, "ended");
    mp_queue *queue;
    int r;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    for (;;) {
        struct mp_message m;
        uint32_t n;

        r = mp_queue_receive(queue, PATIENCE, &m);
        if (r < 0)
            break;
        n = *(uint32_t *)m.data;
        for (int i = 0; n > 0 && i < 2; i++)
            assert(put_number(queue, n - 1) == 0);
        atomic_fetch_add(ended, 1);
        if (part->index % 2) {
            assert(mp_queue_release(queue, &m) == 0);
            continue;
        }
        assert(mp_queue_release(queue, &m) == 0);
        if (mp_queue_get(queue, &n, sizeof n, 0, NULL) < 0)
            continue;
        for (int i = 0; n > 0 && i < 2; i++)
            assert(put_number(queue, n - 1) == 0);
        atomic_fetch_add(ended, 1);
        assert(mp_queue_task_done(queue) == 0);
    }
    assert(r == -EPIPE);
    mp_queue_close(queue);
}

PART(join_and_count)
{
    _Atomic(uint32_t) *ended = open_block(part->arena, "ended");
    mp_queue *queue;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    assert(mp_queue_join(queue, PATIENCE) == 0);
    assert(*ended == (2u << DEPTH) - 1);
    mp_queue_close(queue);
}

static void test_tasks_put_tasks(void **state)
{
    _Atomic(uint32_t) *ended;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    assert_int_equal(mp_block_create(arena, "ended", sizeof *ended, (void **)&ended), 0);
    for (int round = 0; round < 5; round++) {
        mp_queue *queue = make_queue(arena, 1u << (DEPTH + 1), MP_QUEUE_JOINABLE);
        struct crew joiners, crew;

        *ended = 0;
        assert_int_equal(put_number(queue, DEPTH), 0);
        crew_start(&joiners, carrier_of(state), arena, join_and_count, 2, 0);
        if (round % 2)
            until(sleepers(arena, MP_WAIT_JOIN) == 2);
        crew_start(&crew, carrier_of(state), arena, spread, 3, 0);
        assert_int_equal(mp_queue_join(queue, PATIENCE), 0);
        assert_int_equal(*ended, (2u << DEPTH) - 1);
        crew_join(&joiners);
        assert_int_equal(mp_queue_shutdown(queue, 0), 0);
        crew_join(&crew);
        until(settled(arena, 1));
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* ---- those who wait ---- */

PART(join_it)
{
    int expected = (int)part->argument;
    mp_queue *queue;
    int r;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    r = mp_queue_join(queue, part->index % 2 ? PATIENCE : MP_FOREVER);
    assert(r == -expected);
    mp_queue_close(queue);
}

/* All who wait go, when and only when the last task is done. */
static void test_join_waits(void **state)
{
    enum { N = 3 };
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (size_t k = 0; k < MP_ARRAY_SIZE(joinable); k++) {
        mp_queue *queue = make_queue(arena, 8, joinable[k]);
        struct mp_message m;
        struct crew crew;

        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(put_number(queue, i), 0);
        crew_start(&crew, carrier_of(state), arena, join_it, N, 0);
        until(sleepers(arena, MP_WAIT_JOIN) == N);
        assert_int_equal(get_number(queue), 0);
        assert_int_equal(get_number(queue), 1);
        assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
        assert_int_equal(mp_queue_task_done(queue), 0);
        assert_int_equal(mp_queue_task_done(queue), 0);
        until(sleepers(arena, MP_WAIT_JOIN) == N);
        assert_int_equal(mp_queue_release(queue, &m), 0);
        crew_join(&crew);
        until(settled(arena, 1));
        end_queue(queue);
    }
    mp_arena_close(arena);
}

static void test_destroy_wakes(void **state)
{
    mp_arena *arena;
    mp_queue *queue;
    struct crew crew;

    need_carrier(state);
    arena = make_arena();
    queue = make_queue(arena, 8, MP_QUEUE_JOINABLE);
    assert_int_equal(put_number(queue, 1), 0);
    assert_int_equal(put_number(queue, 2), 0);
    assert_int_equal(get_number(queue), 1);
    crew_start(&crew, carrier_of(state), arena, join_it, 2, ESTALE);
    until(sleepers(arena, MP_WAIT_JOIN) == 2);
    assert_int_equal(mp_queue_destroy(queue), 0);
    crew_join(&crew);
    assert_int_equal(mp_queue_join(queue, MP_FOREVER), -ESTALE);
    assert_int_equal(mp_queue_size(queue), -ESTALE);
    assert_int_equal(mp_queue_is_full(queue), -ESTALE);
    assert_int_equal(mp_queue_task_done(queue), 0); /* its memory is to come back all the same */
    mp_queue_close(queue);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- shutdown, as Python 3.13 has it ---- */

/* Tasks stay tasks, to be got and done; join waits for them. */
static void test_shutdown(void **state)
{
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (size_t k = 0; k < MP_ARRAY_SIZE(joinable); k++) {
        mp_queue *queue = make_queue(arena, 8, joinable[k]);
        struct crew crew;

        assert_int_equal(put_number(queue, 1), 0);
        assert_int_equal(put_number(queue, 2), 0);
        assert_int_equal(get_number(queue), 1);
        crew_start(&crew, carrier_of(state), arena, join_it, 2, 0);
        until(sleepers(arena, MP_WAIT_JOIN) == 2);
        assert_int_equal(mp_queue_shutdown(queue, 0), 0);
        assert_int_equal(put_number(queue, 3), -EPIPE);
        assert_int_equal(mp_queue_join(queue, 0), -EAGAIN);
        assert_int_equal(mp_queue_task_done(queue), 0);
        assert_int_equal(mp_queue_join(queue, 0), -EAGAIN);
        assert_int_equal(get_number(queue), 2);
        assert_int_equal(mp_queue_join(queue, 0), -EAGAIN);
        until(sleepers(arena, MP_WAIT_JOIN) == 2);
        assert_int_equal(mp_queue_task_done(queue), 0);
        assert_int_equal(mp_queue_task_done(queue), -EOVERFLOW);
        crew_join(&crew);
        assert_int_equal(mp_queue_join(queue, MP_FOREVER), 0);
        until(settled(arena, 1));
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* Those in the queue are dropped; join waits only for those that consumers have. */
static void test_shutdown_now(void **state)
{
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (int held = 0; held < 3; held++) {
        mp_queue *queue = make_queue(arena, 8, MP_QUEUE_JOINABLE);
        struct mp_message m, given;
        struct crew crew;
        uint32_t n;

        for (uint32_t i = 0; i < 6; i++)
            assert_int_equal(put_number(queue, i), 0);
        assert_int_equal(mp_queue_receive(queue, 0, &given), 0);
        assert_int_equal(mp_queue_abandon(queue, &given), 0); /* also one to be delivered again */
        crew_start(&crew, carrier_of(state), arena, join_it, 2, 0);
        until(sleepers(arena, MP_WAIT_JOIN) == 2);
        if (held == 1)
            assert_int_equal(mp_queue_get(queue, &n, sizeof n, 0, NULL), 0);
        if (held == 2)
            assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
        assert_int_equal(mp_queue_shutdown(queue, 1), 0);
        assert_int_equal(mp_queue_size(queue), 0);
        assert_int_equal(unfinished(queue), held != 0);
        assert_int_equal(put_number(queue, 1), -EPIPE);
        assert_int_equal(mp_queue_get_nowait(queue, &n, sizeof n, NULL), -EPIPE);
        if (held) {
            assert_int_equal(mp_queue_join(queue, 0), -EAGAIN);
            until(sleepers(arena, MP_WAIT_JOIN) == 2);
        }
        if (held == 1)
            assert_int_equal(mp_queue_task_done(queue), 0);
        if (held == 2) /* to give it back is to drop it now */
            assert_int_equal(mp_queue_abandon(queue, &m), 0);
        crew_join(&crew);
        assert_int_equal(mp_queue_join(queue, MP_FOREVER), 0);
        assert_int_equal(mp_queue_task_done(queue), -EOVERFLOW);
        until(settled(arena, 1));
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* All transitions are allowed, and none goes back. */
static void test_shutdown_transitions(void **state)
{
    mp_arena *arena = make_arena();
    mp_queue *queue = make_queue(arena, 8, MP_QUEUE_JOINABLE);

    (void)state;
    assert_int_equal(put_number(queue, 1), 0);
    assert_int_equal(mp_queue_shutdown(queue, 0), 0);
    assert_int_equal(mp_queue_shutdown(queue, 0), 0);
    assert_int_equal(unfinished(queue), 1);
    assert_int_equal(mp_queue_shutdown(queue, 1), 0);
    assert_int_equal(unfinished(queue), 0);
    assert_int_equal(mp_queue_shutdown(queue, 0), 0);
    assert_int_equal(mp_queue_join(queue, 0), 0);
    end_queue(queue);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_bad_input),
        clean_test(test_count),
        clean_test(test_many),
        clean_test(test_close_gives_back),
        clean_test(test_whose_task),
        on_carriers(test_task_done),
        on_carriers(test_tasks_put_tasks),
        on_carriers(test_join_waits),
        on_carriers(test_destroy_wakes),
        on_carriers(test_shutdown),
        on_carriers(test_shutdown_now),
        clean_test(test_shutdown_transitions),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
