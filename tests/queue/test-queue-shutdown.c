/* SPDX-License-Identifier: MIT */
/* How queues end, and how they are polled. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
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
#include "base/until.h"

#define PATIENCE MP_SEC(20)
#define SINGLE (MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER)

static const uint32_t kinds[] = {0, MP_QUEUE_SINGLE_PRODUCER, MP_QUEUE_SINGLE_CONSUMER, SINGLE,
                                 MP_QUEUE_DROP_HELD};

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create(
            "ends", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 16), &arena),
        0);
    return arena;
}

static mp_queue *make_queue(mp_arena *arena, uint32_t maxsize, uint32_t flags)
{
    mp_queue *queue;

    assert_int_equal(mp_queue_create(arena, "queue",
                                     MP_QUEUE_OPTIONS(.maxsize = maxsize, .flags = flags), &queue),
                     0);
    return queue;
}

static void end_queue(mp_queue *queue)
{
    assert_int_equal(mp_queue_destroy(queue), 0);
    mp_queue_close(queue);
}

/* ---- shutdown, one call after the other ---- */

static void expect_no_more(mp_queue *queue)
{
    struct mp_message m;
    char byte = 0;

    assert_int_equal(mp_queue_put(queue, &byte, 1, 0), -EPIPE);
    assert_int_equal(mp_queue_put(queue, &byte, 1, MP_FOREVER), -EPIPE);
    assert_int_equal(mp_queue_put_batch(queue, &byte, 1, 1, MP_FOREVER), -EPIPE);
    assert_int_equal(mp_queue_loan(queue, 1, MP_FOREVER, &m), -EPIPE);
    assert_int_equal(mp_queue_loan_batch(queue, 1, 1, MP_FOREVER, &m), -EPIPE);
}

static void expect_end(mp_queue *queue)
{
    struct mp_message m;
    char byte;

    assert_int_equal(mp_queue_get(queue, &byte, 1, 0, NULL), -EPIPE);
    assert_int_equal(mp_queue_get(queue, &byte, 1, MP_FOREVER, NULL), -EPIPE);
    assert_int_equal(mp_queue_get_batch(queue, &byte, 1, NULL, 1, MP_FOREVER), -EPIPE);
    assert_int_equal(mp_queue_receive(queue, MP_FOREVER, &m), -EPIPE);
    assert_int_equal(mp_queue_receive_batch(queue, 1, MP_FOREVER, &m), -EPIPE);
}

static void test_shutdown(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        mp_queue *queue = make_queue(arena, 4, kinds[k]);
        struct mp_queue_stats s;
        struct mp_message m;
        char byte;

        assert_int_equal(mp_queue_put_batch(queue, "abc", 1, 3, 0), 3);
        assert_int_equal(mp_queue_loan(queue, 1, 0, &m), 0);
        assert_int_equal(mp_queue_shutdown(queue, 0), 0);
        assert_int_equal(mp_queue_shutdown(queue, 0), 0);
        assert_int_equal(mp_queue_stats(queue, &s), 0);
        assert_int_equal(s.shut_down, 1);
        assert_int_equal(s.depth, 3);
        expect_no_more(queue);
        assert_int_equal(mp_queue_commit(queue, &m, MP_FOREVER), -EPIPE);
        assert_int_equal(mp_queue_abandon(queue, &m), 0);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(mp_queue_get(queue, &byte, 1, MP_FOREVER, NULL), 0);
            assert_int_equal(byte, 'a' + i);
        }
        expect_end(queue);
        assert_int_equal(mp_queue_shutdown(queue, 1), 0);
        expect_end(queue);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

static void test_shutdown_now(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        mp_queue *queue = make_queue(arena, 4, kinds[k]);
        struct mp_message held;
        struct mp_queue_stats s;

        assert_int_equal(mp_queue_put_batch(queue, "abc", 1, 3, 0), 3);
        assert_int_equal(mp_queue_receive(queue, 0, &held), 0);
        assert_int_equal(mp_queue_shutdown(queue, 1), 0);
        expect_no_more(queue);
        expect_end(queue);
        /* It does not open again. */
        assert_int_equal(mp_queue_shutdown(queue, 0), 0);
        assert_int_equal(mp_queue_stats(queue, &s), 0);
        assert_int_equal(s.shut_down, 2);
        expect_end(queue);
        assert_int_equal(*(char *)held.data, 'a');
        assert_int_equal(mp_queue_release(queue, &held), 0);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* ---- shutdown and destroy under those who wait ---- */

enum { DRAIN, NOW, DESTROY, ENDINGS };

static int expected(uint64_t how)
{
    return how == DESTROY ? -ESTALE : -EPIPE;
}

PART(wait_to_put)
{
    mp_queue *queue;
    int r;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    r = mp_queue_put(queue, "x", 1, part->index % 2 ? PATIENCE : MP_FOREVER);
    assert(r == expected(part->argument));
    mp_queue_close(queue);
}

PART(wait_to_get)
{
    mp_queue *queue;
    char byte;
    int r;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    r = mp_queue_get(queue, &byte, 1, part->index % 2 ? PATIENCE : MP_FOREVER, NULL);
    assert(r == expected(part->argument));
    mp_queue_close(queue);
}

PART(wait_for_memory)
{
    mp_queue *queue;
    struct mp_message m;
    int r;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    r = mp_queue_loan(queue, 400000, part->index % 2 ? PATIENCE : MP_FOREVER, &m);
    assert(r == expected(part->argument));
    mp_queue_close(queue);
}

static void end_how(mp_queue *queue, uint64_t how)
{
    assert_int_equal(
        how == DESTROY ? mp_queue_destroy(queue) : mp_queue_shutdown(queue, how == NOW), 0);
}

static void test_end_wakes(void **state)
{
    enum { N = 3 };
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (uint64_t how = 0; how < ENDINGS; how++) {
        struct crew crew;
        mp_queue *queue;
        void *blocks[3];

        queue = make_queue(arena, 2, 0);
        crew_start(&crew, carrier_of(state), arena, wait_to_get, N, how);
        until(sleepers(arena, MP_WAIT_NOT_EMPTY) == N);
        end_how(queue, how);
        crew_join(&crew);
        if (how != DESTROY)
            assert_int_equal(mp_queue_destroy(queue), 0);
        mp_queue_close(queue);
        until(settled(arena, 1));

        queue = make_queue(arena, 2, 0);
        assert_int_equal(mp_queue_put_batch(queue, "ab", 1, 2, 0), 2);
        crew_start(&crew, carrier_of(state), arena, wait_to_put, N, how);
        until(sleepers(arena, MP_WAIT_NOT_FULL) == N);
        end_how(queue, how);
        crew_join(&crew);
        if (how != DESTROY)
            assert_int_equal(mp_queue_destroy(queue), 0);
        mp_queue_close(queue);
        until(settled(arena, 1));

        queue = make_queue(arena, 2, 0);
        for (int i = 0; i < 3; i++)
            assert_int_equal(mp_block_alloc(arena, 250000, 0, &blocks[i]), 0);
        crew_start(&crew, carrier_of(state), arena, wait_for_memory, N, how);
        until(sleepers(arena, MP_WAIT_BLOCK) == N);
        end_how(queue, how);
        crew_join(&crew);
        for (int i = 0; i < 3; i++)
            assert_int_equal(mp_block_free(arena, blocks[i]), 0);
        if (how != DESTROY)
            assert_int_equal(mp_queue_destroy(queue), 0);
        mp_queue_close(queue);
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

/* ---- polling ---- */

static int readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, ms);
}

static void test_poll(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        mp_queue *queue = make_queue(arena, 4, kinds[k]);
        char byte;
        int fd = mp_queue_fd(queue);

        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(mp_queue_fd(queue), fd);
        assert_int_equal(readable(fd, 0), 0);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(mp_queue_put_batch(queue, "ab", 1, 2, 0), 2);
            assert_int_equal(readable(fd, 20000), 1);
            assert_int_equal(mp_queue_get(queue, &byte, 1, 0, NULL), 0);
            assert_int_equal(readable(fd, 0), 1); /* until it is found empty */
            assert_int_equal(mp_queue_get(queue, &byte, 1, 0, NULL), 0);
            assert_int_equal(mp_queue_get(queue, &byte, 1, 0, NULL), -EAGAIN);
            assert_int_equal(readable(fd, 0), 0);
        }
        assert_int_equal(mp_queue_shutdown(queue, 0), 0);
        assert_int_equal(readable(fd, 20000), 1);
        assert_int_equal(mp_queue_get(queue, &byte, 1, 0, NULL), -EPIPE);
        assert_int_equal(readable(fd, 0), 1);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* What is in it before anybody asks for the fd is told as well; and that the queue is gone. */
static void test_poll_late(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        mp_queue *queue = make_queue(arena, 4, kinds[k]);
        char byte;
        int fd;

        assert_int_equal(mp_queue_put(queue, "a", 1, 0), 0);
        fd = mp_queue_fd(queue);
        assert_int_equal(readable(fd, 20000), 1);
        assert_int_equal(mp_queue_get(queue, &byte, 1, 0, NULL), 0);
        assert_int_equal(mp_queue_get(queue, &byte, 1, 0, NULL), -EAGAIN);
        assert_int_equal(mp_queue_destroy(queue), 0);
        assert_int_equal(readable(fd, 20000), 1);
        assert_int_equal(mp_queue_fd(queue), -ESTALE);
        mp_queue_close(queue);
    }
    mp_arena_close(arena);
}

PART(poll_and_count)
{
    _Atomic(uint32_t) *count;
    mp_queue *queue;
    int fd, r;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    assert(mp_block_open(part->arena, "count", (void **)&count, NULL) == 0);
    fd = mp_queue_fd(queue);
    assert(fd >= 0);
    do {
        uint32_t n;

        assert(readable(fd, 20000) == 1);
        while ((r = mp_queue_get(queue, &n, sizeof n, 0, NULL)) == 0)
            ++*count;
    } while (r == -EAGAIN);
    assert(r == -EPIPE);
    mp_queue_close(queue);
}

/* Several that poll, and one that puts slowly enough for them to fall asleep. */
static void test_pollers(void **state)
{
    enum { N = 3, MESSAGES = 3000 };
    _Atomic(uint32_t) *count;
    struct crew crew;
    mp_arena *arena;
    mp_queue *queue;

    need_carrier(state);
    arena = make_arena();
    queue = make_queue(arena, 10, 0);
    assert_int_equal(mp_block_create(arena, "count", 4, (void **)&count), 0);
    crew_start(&crew, carrier_of(state), arena, poll_and_count, N, 0);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        assert_int_equal(mp_queue_put(queue, &i, sizeof i, PATIENCE), 0);
        if (i % 100 == 0)
            until(*count == i + 1);
    }
    assert_int_equal(mp_queue_shutdown(queue, 0), 0);
    crew_join(&crew);
    assert_int_equal(*count, MESSAGES);
    until(settled(arena, 1));
    end_queue(queue);
    mp_arena_close(arena);
}

/* A forked child asks again and gets its own. */
static void poll_in_child(void *user)
{
    mp_queue *queue = user;
    char byte;
    int fd = mp_queue_fd(queue);

    assert(fd >= 0);
    assert(readable(fd, 20000) == 1);
    assert(mp_queue_get(queue, &byte, 1, 0, NULL) == 0);
    assert(mp_queue_get(queue, &byte, 1, 0, NULL) == -EAGAIN);
    assert(readable(fd, 0) == 0);
    assert(mp_queue_put(queue, "b", 1, 0) == 0);
    assert(readable(fd, 20000) == 1);
}

static void test_poll_after_fork(void **state)
{
    mp_arena *arena;
    mp_queue *queue;
    char byte;
    int fd;

    need_carrier(state);
    arena = make_arena();
    queue = make_queue(arena, 10, 0);
    fd = mp_queue_fd(queue);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(mp_queue_put(queue, "a", 1, 0), 0);
        child_join(child_start(poll_in_child, queue));
        assert_int_equal(readable(fd, 20000), 1);
        assert_int_equal(mp_queue_get(queue, &byte, 1, 0, NULL), 0);
        assert_int_equal(byte, 'b');
        assert_int_equal(mp_queue_get(queue, &byte, 1, 0, NULL), -EAGAIN);
    }
    assert_int_equal(readable(fd, 0), 0);
    until(settled(arena, 1));
    end_queue(queue);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_shutdown),
        clean_test(test_shutdown_now),
        on_carriers(test_end_wakes),
        clean_test(test_poll),
        clean_test(test_poll_late),
        on_carriers(test_pollers),
        carried_test(test_poll_after_fork, FORK),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
