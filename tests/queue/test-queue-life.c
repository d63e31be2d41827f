/* SPDX-License-Identifier: MIT */
/* The life of queues: destroyed and made again, roles, forks. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/until.h"
#include "queue/queues.h"

/* ---- destroy ---- */

static void expect_stale(mp_queue *queue)
{
    struct mp_queue_stats stats;
    struct mp_message m;
    uint32_t number = 0;

    assert_int_equal(mp_queue_put(queue, &number, 4, 0), -ESTALE);
    assert_int_equal(mp_queue_put(queue, &number, 4, MP_FOREVER), -ESTALE);
    assert_int_equal(mp_queue_get(queue, &number, 4, 0, NULL), -ESTALE);
    assert_int_equal(mp_queue_get(queue, &number, 4, MP_FOREVER, NULL), -ESTALE);
    assert_int_equal(mp_queue_loan(queue, 4, MP_FOREVER, &m), -ESTALE);
    assert_int_equal(mp_queue_receive(queue, MP_FOREVER, &m), -ESTALE);
    assert_int_equal(mp_queue_put_batch(queue, &number, 4, 1, MP_FOREVER), -ESTALE);
    assert_int_equal(mp_queue_get_batch(queue, &number, 4, NULL, 1, MP_FOREVER), -ESTALE);
    assert_int_equal(mp_queue_loan_batch(queue, 4, 1, MP_FOREVER, &m), -ESTALE);
    assert_int_equal(mp_queue_receive_batch(queue, 1, MP_FOREVER, &m), -ESTALE);
    assert_int_equal(mp_queue_destroy(queue), -ESTALE);
    assert_int_equal(mp_queue_shutdown(queue, 0), -ESTALE);
    assert_int_equal(mp_queue_shutdown(queue, 1), -ESTALE);
    assert_int_equal(mp_queue_stats(queue, &stats), -ESTALE);
    assert_int_equal(mp_queue_fd(queue), -ESTALE);
    assert_string_equal(mp_queue_name(queue), "queue");
}

static void test_destroyed(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 4, flags), *after;
        struct mp_message loaned, received;

        assert_int_equal(put_number(queue, 1), 0);
        assert_int_equal(put_number(queue, 2), 0);
        assert_int_equal(mp_queue_loan(queue, 4, 0, &loaned), 0);
        assert_int_equal(mp_queue_receive(queue, 0, &received), 0);
        assert_int_equal(mp_queue_destroy(queue), 0);
        expect_stale(queue);
        assert_int_equal(mp_queue_open(arena, "queue", &after), -ENOENT);
        after = make_queue(arena, 4, flags);
        expect_stale(queue);
        /* What was in hand is given back by the old handle, and is not in the new queue. */
        assert_int_equal(mp_queue_commit(queue, &loaned, MP_FOREVER), -ESTALE);
        assert_int_equal(mp_queue_abandon(queue, &loaned), 0);
        assert_int_equal(*(uint32_t *)received.data, 1);
        if (flags & MP_QUEUE_SINGLE_PRODUCER)
            assert_int_equal(mp_queue_release(queue, &received), 0);
        else
            assert_int_equal(mp_queue_abandon(queue, &received), 0);
        assert_int_equal(depth(after), 0);
        assert_int_equal(put_number(after, 3), 0);
        expect_stale(queue);
        assert_int_equal(get_number(after), 3);
        mp_queue_close(queue);
        end_queue(after);
    }
    mp_arena_close(arena);
}

/* Again and again, with messages in it and in hand, in all kinds after each other. */
static void test_create_again(void **state)
{
    mp_arena *arena = make_arena();
    unsigned memory = 0;

    (void)state;
    for (int round = 0; round < 40; round++) {
        for_each_kind(flags)
        {
            const uint32_t sizes[] = {1, 16, 9, 12};
            uint32_t maxsize = sizes[round % 4];
            mp_queue *queue = make_queue(arena, maxsize, flags);
            struct mp_message m, loaned;
            uint32_t n = 0, number;

            assert_int_equal(depth(queue), 0);
            assert_int_equal(mp_queue_get(queue, &number, 4, 0, NULL), -EAGAIN);
            while (put_number(queue, n) == 0)
                n++;
            assert_int_equal(n, maxsize);
            assert_int_equal(mp_queue_loan(queue, 1000, 0, &loaned), 0);
            for (uint32_t i = 0; i < (uint32_t)round % n; i++)
                assert_int_equal(get_number(queue), i);
            assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
            if (round % 3 == 0)
                assert_int_equal(mp_queue_abandon(queue, &m), 0);
            assert_int_equal(mp_queue_destroy(queue), 0);
            assert_int_equal(mp_queue_abandon(queue, &loaned), 0);
            if (round % 3 != 0)
                assert_int_equal(mp_queue_release(queue, &m), 0);
            mp_queue_close(queue);
        }
        if (round == 3)
            memory = count_memory(arena);
        if (round > 3)
            assert_int_equal(count_memory(arena), memory);
    }
    mp_arena_close(arena);
}

/* ---- roles ---- */

static void *produce_elsewhere(void *user)
{
    return (void *)(intptr_t)mp_queue_put(user, "x", 1, 0);
}

static void test_roles(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        bool one_producer = flags & MP_QUEUE_SINGLE_PRODUCER;
        bool one_consumer = flags & MP_QUEUE_SINGLE_CONSUMER;
        mp_queue *queue = make_queue(arena, 8, flags), *same;
        struct mp_message m;
        pthread_t thread;
        void *r;
        char byte;

        assert_int_equal(mp_queue_open(arena, "queue", &same), 0);
        assert_int_equal(mp_queue_put(queue, "a", 1, 0), 0);
        assert_int_equal(mp_queue_put(same, "b", 1, 0), one_producer ? -EBUSY : 0);
        assert_int_equal(mp_queue_loan(same, 1, MP_FOREVER, &m), one_producer ? -EBUSY : 0);
        if (!one_producer)
            assert_int_equal(mp_queue_abandon(same, &m), 0);
        assert_int_equal(mp_queue_get(queue, &byte, 1, 0, NULL), 0);
        assert_int_equal(mp_queue_get(same, &byte, 1, 0, NULL), one_consumer   ? -EBUSY
                                                                : one_producer ? -EAGAIN
                                                                               : 0);
        assert_int_equal(mp_queue_receive(same, 0, &m), one_consumer ? -EBUSY : -EAGAIN);
        /* Another thread by the same handle, one at a time. */
        assert_int_equal(pthread_create(&thread, NULL, produce_elsewhere, queue), 0);
        pthread_join(thread, &r);
        assert_int_equal((intptr_t)r, 0);
        /* With the handle the role is left, and what was sent stays. */
        mp_queue_close(queue);
        assert_int_equal(mp_queue_put(same, "c", 1, 0), 0);
        if (one_consumer && !one_producer)
            assert_int_equal(mp_queue_get(same, &byte, 1, 0, NULL), 0); /* b */
        assert_int_equal(mp_queue_get(same, &byte, 1, 0, NULL), 0);
        assert_int_equal(byte, 'x');
        assert_int_equal(mp_queue_get(same, &byte, 1, 0, NULL), 0);
        assert_int_equal(byte, 'c');
        end_queue(same);
    }
    mp_arena_close(arena);
}

/* ---- fork ---- */

struct scene {
    mp_queue *queue;
    struct mp_message loaned, received;
};

static void use_parents_messages(void *user)
{
    struct scene *s = user;
    struct mp_message m;

    assert(mp_queue_commit(s->queue, &s->loaned, 0) == -ECHILD);
    assert(mp_queue_commit_batch(s->queue, &s->loaned, 1, 0) == -ECHILD);
    assert(mp_queue_abandon(s->queue, &s->loaned) == -ECHILD);
    assert(mp_queue_release(s->queue, &s->received) == -ECHILD);
    assert(mp_queue_release_batch(s->queue, &s->received, 1) == -ECHILD);
    assert(mp_queue_abandon(s->queue, &s->received) == -ECHILD);
    /* The handle works. */
    assert(mp_queue_put(s->queue, "c", 1, MP_SEC(10)) == 0);
    assert(mp_queue_receive(s->queue, MP_SEC(10), &m) == 0);
    assert(m.size == 1 && *(char *)m.data == 'b');
    assert(mp_queue_release(s->queue, &m) == 0);
    assert(mp_queue_commit(s->queue, &s->loaned, 0) == -ECHILD);
}

static void test_fork(void **state)
{
    mp_arena *arena;
    struct scene s;
    char byte;

    need_carrier(state);
    arena = make_arena();
    s.queue = make_queue(arena, 8, 0);
    assert_int_equal(mp_queue_put(s.queue, "a", 1, 0), 0);
    assert_int_equal(mp_queue_put(s.queue, "b", 1, 0), 0);
    assert_int_equal(mp_queue_loan(s.queue, 1, 0, &s.loaned), 0);
    assert_int_equal(mp_queue_receive(s.queue, 0, &s.received), 0);
    child_join(child_start(use_parents_messages, &s));
    *(char *)s.loaned.data = 'd';
    assert_int_equal(*(char *)s.received.data, 'a');
    assert_int_equal(mp_queue_commit(s.queue, &s.loaned, 0), 0);
    assert_int_equal(mp_queue_release(s.queue, &s.received), 0);
    assert_int_equal(mp_queue_get(s.queue, &byte, 1, 0, NULL), 0);
    assert_int_equal(byte, 'c');
    assert_int_equal(mp_queue_get(s.queue, &byte, 1, 0, NULL), 0);
    assert_int_equal(byte, 'd');
    end_queue(s.queue);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- another queue's ---- */

static void test_abandon_by_another(void **state)
{
    mp_arena *arena = make_arena();
    mp_queue *queue = make_queue(arena, 16, 0), *other;
    struct mp_message m;

    (void)state;
    assert_int_equal(mp_queue_create(arena, "other", NULL, &other), 0);
    assert_int_equal(put_number(queue, 1), 0);
    assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
    assert_int_equal(mp_queue_abandon(other, &m), -EINVAL);
    assert_int_equal(mp_queue_release(other, &m), -EINVAL);
    assert_int_equal(mp_queue_abandon(queue, &m), 0);
    assert_int_equal(get_number(queue), 1);
    end_queue(other);
    end_queue(queue);
    mp_arena_close(arena);
}

/* ---- threads ---- */

#define PASSED 200000u
#define HELD_MOST 64u
#define PATIENCE MP_SEC(20)

struct threads {
    mp_queue *queue;
    struct mp_message held[HELD_MOST];
    _Atomic(uint32_t) taken, released; /* of every other message */
};

static void *put_numbers(void *user)
{
    struct threads *t = user;

    for (uint32_t i = 0; i < PASSED; i++)
        assert(mp_queue_put(t->queue, &i, sizeof i, PATIENCE) == 0);
    return NULL;
}

static void *release_half(void *user)
{
    struct threads *t = user;

    while (t->released < PASSED / 2) {
        for (uint32_t turns = 1; t->released == t->taken; turns++)
            if (turns % 1024 == 0)
                sched_yield();
        assert(mp_queue_release(t->queue, &t->held[t->released % HELD_MOST]) == 0);
        t->released++;
    }
    return NULL;
}

/* One thread receives, and releases every other message; another thread releases the rest. */
static void test_released_by_another_thread(void **state)
{
    mp_arena *arena = make_arena();
    unsigned memory;

    (void)state;
    end_queue(make_queue(arena, 256, 0)); /* the memory of its cells stays */
    memory = count_memory(arena);
    for_each_kind(flags)
    {
        struct threads t = {0};
        pthread_t producer, releaser;

        if (!(flags & MP_QUEUE_SINGLE_CONSUMER))
            continue;
        t.queue = make_queue(arena, 256, flags);

        assert_int_equal(pthread_create(&producer, NULL, put_numbers, &t), 0);
        assert_int_equal(pthread_create(&releaser, NULL, release_half, &t), 0);
        for (uint32_t i = 0; i < PASSED; i++) {
            struct mp_message m;

            assert_int_equal(mp_queue_receive(t.queue, PATIENCE, &m), 0);
            assert_int_equal(*(uint32_t *)m.data, i);
            if (i % 2) {
                assert_int_equal(mp_queue_release(t.queue, &m), 0);
                continue;
            }
            while (t.taken - t.released == HELD_MOST)
                sched_yield();
            t.held[t.taken % HELD_MOST] = m;
            t.taken++;
        }
        assert_int_equal(pthread_join(producer, NULL), 0);
        assert_int_equal(pthread_join(releaser, NULL), 0);
        end_queue(t.queue);
    }
    assert_int_equal(count_memory(arena), memory);
    mp_arena_close(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_destroyed),
        clean_test(test_create_again),
        clean_test(test_roles),
        clean_test(test_abandon_by_another),
        clean_test(test_released_by_another_thread),
        carried_test(test_fork, FORK),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
