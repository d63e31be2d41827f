/* SPDX-License-Identifier: MIT */
/*
 * Queues, one call after the other: what each call does and every error that it can give, in each
 * kind of queue.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
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

/* ---- making ---- */

static void test_create_refuses(void **state)
{
    struct mp_queue_options unfilled = {0};
    mp_arena *arena = make_arena();
    char name[MP_NAME_MAX + 2];
    mp_queue *queue = NULL;
    mp_lock *lock;

    (void)state;
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
    assert_int_equal(mp_lock_create(arena, "lock", &lock), 0);
    assert_int_equal(mp_queue_create(NULL, "a", NULL, &queue), -EINVAL);
    assert_int_equal(mp_queue_create(arena, "a", NULL, NULL), -EINVAL);
    assert_int_equal(mp_queue_create(arena, "a", &unfilled, &queue), -EINVAL);
    assert_int_equal(
        mp_queue_create(arena, "a", MP_QUEUE_OPTIONS(.maxsize = (1 << 20) + 1), &queue), -EINVAL);
    assert_int_equal(mp_queue_create(arena, "a", MP_QUEUE_OPTIONS(.maxsize = UINT32_MAX), &queue),
                     -EINVAL);
    assert_int_equal(mp_queue_create(arena, "a", MP_QUEUE_OPTIONS(.flags = 1u << 4), &queue),
                     -EINVAL);
    assert_int_equal(mp_queue_create(arena, "a", MP_QUEUE_OPTIONS(.flags = UINT32_MAX), &queue),
                     -EINVAL);
    assert_int_equal(mp_queue_create(arena, "a",
                                     MP_QUEUE_OPTIONS(.message_max = mp_arena_max_block(arena) + 1),
                                     &queue),
                     -EMSGSIZE);
    assert_int_equal(
        mp_queue_create(arena, "a", MP_QUEUE_OPTIONS(.message_max = UINT64_MAX), &queue),
        -EMSGSIZE);
    /* The ring itself does not fit: larger than any block, and than what is left. */
    assert_int_equal(mp_queue_create(arena, "a", MP_QUEUE_OPTIONS(.maxsize = 1 << 20), &queue),
                     -ENOBUFS);
    assert_int_equal(mp_queue_create(arena, "", NULL, &queue), -ENAMETOOLONG);
    assert_int_equal(mp_queue_create(arena, name, NULL, &queue), -ENAMETOOLONG);
    assert_int_equal(mp_queue_create(arena, "/a", NULL, &queue), -ENAMETOOLONG);
    assert_int_equal(mp_queue_create(arena, "lock", NULL, &queue), -EEXIST);
    assert_int_equal(mp_queue_open(NULL, "a", &queue), -EINVAL);
    assert_int_equal(mp_queue_open(arena, NULL, &queue), -EINVAL);
    assert_int_equal(mp_queue_open(arena, "a", NULL), -EINVAL);
    assert_int_equal(mp_queue_open(arena, "", &queue), -ENAMETOOLONG);
    assert_int_equal(mp_queue_open(arena, name, &queue), -ENAMETOOLONG);
    assert_int_equal(mp_queue_open(arena, "a", &queue), -ENOENT);
    assert_int_equal(mp_queue_open(arena, "lock", &queue), -ENOENT);
    assert_null(queue);
    mp_lock_close(lock);
    mp_arena_close(arena);
}

static void test_null(void **state)
{
    mp_arena *arena = make_arena();
    mp_queue *queue = make_queue(arena, 4, 0);
    struct mp_queue_stats stats;
    struct mp_message m = {0};
    char byte = 0;

    (void)state;
    assert_null(mp_queue_close(NULL));
    assert_null(mp_queue_name(NULL));
    assert_int_equal(mp_queue_destroy(NULL), -EINVAL);
    assert_int_equal(mp_queue_shutdown(NULL, 0), -EINVAL);
    assert_int_equal(mp_queue_fd(NULL), -EINVAL);
    assert_int_equal(mp_queue_stats(NULL, &stats), -EINVAL);
    assert_int_equal(mp_queue_stats(queue, NULL), -EINVAL);
    assert_int_equal(mp_queue_loan(NULL, 1, 0, &m), -EINVAL);
    assert_int_equal(mp_queue_loan(queue, 1, 0, NULL), -EINVAL);
    assert_int_equal(mp_queue_receive(NULL, 0, &m), -EINVAL);
    assert_int_equal(mp_queue_receive(queue, 0, NULL), -EINVAL);
    assert_int_equal(mp_queue_commit(NULL, &m, 0), -EINVAL);
    assert_int_equal(mp_queue_commit(queue, NULL, 0), -EINVAL);
    assert_int_equal(mp_queue_release(NULL, &m), -EINVAL);
    assert_int_equal(mp_queue_release(queue, NULL), -EINVAL);
    assert_int_equal(mp_queue_abandon(NULL, &m), -EINVAL);
    assert_int_equal(mp_queue_abandon(queue, NULL), -EINVAL);
    assert_int_equal(mp_queue_put(NULL, &byte, 1, 0), -EINVAL);
    assert_int_equal(mp_queue_put(queue, NULL, 1, 0), -EINVAL);
    assert_int_equal(mp_queue_get(NULL, &byte, 1, 0, NULL), -EINVAL);
    assert_int_equal(mp_queue_get(queue, NULL, 1, 0, NULL), -EINVAL);
    assert_int_equal(mp_queue_put_batch(NULL, &byte, 1, 1, 0), -EINVAL);
    assert_int_equal(mp_queue_put_batch(queue, NULL, 1, 1, 0), -EINVAL);
    assert_int_equal(mp_queue_put_batch(queue, &byte, 1, 0, 0), -EINVAL);
    assert_int_equal(mp_queue_put_batch(queue, &byte, 1, UINT32_MAX, 0), -EINVAL);
    assert_int_equal(mp_queue_put_batch(queue, &byte, SIZE_MAX / 2 + 1, 2, 0), -EINVAL);
    assert_int_equal(mp_queue_get_batch(NULL, &byte, 1, NULL, 1, 0), -EINVAL);
    assert_int_equal(mp_queue_get_batch(queue, NULL, 1, NULL, 1, 0), -EINVAL);
    assert_int_equal(mp_queue_get_batch(queue, &byte, 1, NULL, 0, 0), -EINVAL);
    assert_int_equal(mp_queue_get_batch(queue, &byte, 1, NULL, UINT32_MAX, 0), -EINVAL);
    assert_int_equal(mp_queue_get_batch(queue, &byte, SIZE_MAX / 2 + 1, NULL, 2, 0), -EINVAL);
    assert_int_equal(mp_queue_loan_batch(NULL, 1, 1, 0, &m), -EINVAL);
    assert_int_equal(mp_queue_loan_batch(queue, 1, 1, 0, NULL), -EINVAL);
    assert_int_equal(mp_queue_loan_batch(queue, 1, 0, 0, &m), -EINVAL);
    assert_int_equal(mp_queue_loan_batch(queue, 1, UINT32_MAX, 0, &m), -EINVAL);
    assert_int_equal(mp_queue_commit_batch(NULL, &m, 1, 0), -EINVAL);
    assert_int_equal(mp_queue_commit_batch(queue, NULL, 1, 0), -EINVAL);
    assert_int_equal(mp_queue_commit_batch(queue, &m, 0, 0), -EINVAL);
    assert_int_equal(mp_queue_receive_batch(NULL, 1, 0, &m), -EINVAL);
    assert_int_equal(mp_queue_receive_batch(queue, 1, 0, NULL), -EINVAL);
    assert_int_equal(mp_queue_receive_batch(queue, 0, 0, &m), -EINVAL);
    assert_int_equal(mp_queue_release_batch(NULL, &m, 1), -EINVAL);
    assert_int_equal(mp_queue_release_batch(queue, NULL, 1), -EINVAL);
    /* A message that is none. */
    assert_int_equal(mp_queue_commit(queue, &m, 0), -EINVAL);
    assert_int_equal(mp_queue_release(queue, &m), -EINVAL);
    assert_int_equal(mp_queue_abandon(queue, &m), -EINVAL);
    assert_int_equal(depth(queue), 0);
    end_queue(queue);
    mp_arena_close(arena);
}

static void test_stats(void **state)
{
    mp_arena *arena = make_arena();
    struct mp_queue_stats s;
    mp_queue *queue, *same;

    (void)state;
    assert_int_equal(mp_queue_create(arena, "default", NULL, &queue), 0);
    assert_string_equal(mp_queue_name(queue), "default");
    assert_int_equal(mp_queue_stats(queue, &s), 0);
    assert_int_equal(s.depth, 0);
    assert_int_equal(s.maxsize, 1024);
    assert_int_equal(s.message_max, mp_arena_max_block(arena));
    assert_int_equal(s.flags, 0);
    assert_int_equal(s.shut_down, 0);
    end_queue(queue);
    for_each_kind(flags)
    {
        assert_int_equal(
            mp_queue_create(arena, "given",
                            MP_QUEUE_OPTIONS(.maxsize = 7, .flags = flags, .message_max = 100),
                            &queue),
            0);
        assert_int_equal(mp_queue_open(arena, "given", &same), 0);
        assert_int_equal(put_number(queue, 1), 0);
        assert_int_equal(put_number(queue, 1), 0);
        assert_int_equal(mp_queue_stats(same, &s), 0);
        assert_int_equal(s.depth, 2);
        assert_int_equal(s.maxsize, 7);
        assert_int_equal(s.message_max, 100);
        assert_int_equal(s.flags, flags);
        get_number(queue);
        assert_int_equal(depth(same), 1);
        mp_queue_close(same);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* ---- sizes ---- */

/* Messages of 0 bytes to half the arena, copied and not. */
static void test_sizes(void **state)
{
    mp_arena *arena = make_arena();
    uint64_t most = mp_arena_max_block(arena);
    char *in = malloc(most), *out = malloc(most);

    (void)state;
    for (size_t i = 0; i < most; i++)
        in[i] = (char)(i * 7 >> 3);
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 2, flags);
        struct mp_message m;
        size_t got;

        for (size_t size = 0; size <= most; size = size < 70 ? size + 1 : size * 2 + 1) {
            assert_int_equal(mp_queue_put(queue, in, size, 0), 0);
            assert_int_equal(mp_queue_get(queue, out, most, 0, &got), 0);
            assert_int_equal(got, size);
            assert_memory_equal(in, out, size);
            assert_int_equal(mp_queue_loan(queue, size, 0, &m), 0);
            assert_int_equal(m.size, size);
            assert_int_equal(m.deliveries, 0);
            assert_int_equal((uintptr_t)m.data % 64, 0);
            memcpy(m.data, in, size);
            assert_int_equal(mp_queue_commit(queue, &m, 0), 0);
            assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
            assert_int_equal(m.size, size);
            assert_int_equal(m.deliveries, 1);
            assert_memory_equal(m.data, in, size);
            assert_int_equal(mp_queue_release(queue, &m), 0);
        }
        assert_int_equal(mp_queue_put(queue, in, most / 2, 0), 0);
        assert_int_equal(mp_queue_get(queue, out, most, 0, &got), 0);
        /* Half the arena, whatever small ones went before. */
        assert_int_equal(mp_queue_put(queue, in, 512 << 10, 0), 0);
        assert_int_equal(mp_queue_get(queue, out, most, 0, &got), 0);
        assert_memory_equal(in, out, 512 << 10);
        end_queue(queue);
    }
    free(in);
    free(out);
    mp_arena_close(arena);
}

static void test_empty_messages(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 3, flags);
        size_t size = 1;

        assert_int_equal(mp_queue_put(queue, NULL, 0, 0), 0);
        assert_int_equal(mp_queue_put(queue, "", 0, 0), 0);
        assert_int_equal(mp_queue_put_batch(queue, NULL, 0, 5, 0), 1);
        assert_int_equal(mp_queue_get(queue, NULL, 0, 0, NULL), 0);
        assert_int_equal(mp_queue_get(queue, NULL, 0, 0, &size), 0);
        assert_int_equal(size, 0);
        assert_int_equal(mp_queue_get_batch(queue, NULL, 0, NULL, 5, 0), 1);
        assert_int_equal(mp_queue_get(queue, NULL, 0, 0, NULL), -EAGAIN);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

static void test_too_large(void **state)
{
    mp_arena *arena = make_arena();
    uint64_t most = mp_arena_max_block(arena);

    (void)state;
    for_each_kind(flags)
    {
        struct mp_message m = {.size = 77};
        char buffer[200] = {0};
        mp_queue *queue;

        queue = make_queue(arena, 4, flags);
        assert_int_equal(mp_queue_loan(queue, most + 1, MP_FOREVER, &m), -EMSGSIZE);
        assert_int_equal(mp_queue_loan(queue, SIZE_MAX, MP_FOREVER, &m), -EMSGSIZE);
        assert_int_equal(mp_queue_loan_batch(queue, SIZE_MAX, 1, 0, &m), -EMSGSIZE);
        assert_int_equal(m.size, 77);
        end_queue(queue);

        assert_int_equal(mp_queue_create(arena, "queue",
                                         MP_QUEUE_OPTIONS(.message_max = 100, .flags = flags),
                                         &queue),
                         0);
        assert_int_equal(mp_queue_put(queue, buffer, 101, 0), -EMSGSIZE);
        assert_int_equal(mp_queue_put_batch(queue, buffer, 101, 1, 0), -EMSGSIZE);
        assert_int_equal(mp_queue_loan(queue, 101, 0, &m), -EMSGSIZE);
        assert_int_equal(mp_queue_put(queue, buffer, 100, 0), 0);
        assert_int_equal(mp_queue_loan(queue, 100, 0, &m), 0);
        /* Raised beyond what was loaned: not accepted, and still ours. */
        m.size = 300;
        assert_int_equal(mp_queue_commit(queue, &m, 0), -EMSGSIZE);
        m.size = SIZE_MAX;
        assert_int_equal(mp_queue_commit(queue, &m, 0), -EMSGSIZE);
        m.size = 3;
        memcpy(m.data, "abc", 3);
        assert_int_equal(mp_queue_commit(queue, &m, 0), 0);
        assert_int_equal(mp_queue_get(queue, buffer, 100, 0, NULL), 0);
        assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
        assert_int_equal(m.size, 3);
        assert_memory_equal(m.data, "abc", 3);
        assert_int_equal(mp_queue_release(queue, &m), 0);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* A message that does not fit into the buffer stays where it is. */
static void test_buffer_too_small(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 8, flags);
        size_t size = 99, sizes[4];
        char buffer[64];

        assert_int_equal(mp_queue_put(queue, "1234567890", 10, 0), 0);
        assert_int_equal(mp_queue_put(queue, "ab", 2, 0), 0);
        assert_int_equal(mp_queue_put(queue, "abcd", 4, 0), 0);
        assert_int_equal(mp_queue_put(queue, "12345678901", 11, 0), 0);
        assert_int_equal(mp_queue_get(queue, buffer, 9, 0, &size), -EMSGSIZE);
        assert_int_equal(mp_queue_get(queue, buffer, 9, MP_FOREVER, &size), -EMSGSIZE);
        assert_int_equal(mp_queue_get(queue, NULL, 0, 0, &size), -EMSGSIZE);
        assert_int_equal(mp_queue_get_batch(queue, buffer, 9, sizes, 4, 0), -EMSGSIZE);
        assert_int_equal(size, 99);
        assert_int_equal(depth(queue), 4);
        assert_int_equal(mp_queue_get_batch(queue, buffer, 10, sizes, 4, 0), 3);
        assert_int_equal(sizes[0], 10);
        assert_int_equal(sizes[1], 2);
        assert_int_equal(sizes[2], 4);
        assert_memory_equal(buffer, "1234567890ab", 12);
        assert_memory_equal(buffer + 20, "abcd", 4);
        assert_int_equal(mp_queue_get(queue, buffer, 10, 0, &size), -EMSGSIZE);
        assert_int_equal(mp_queue_get(queue, buffer, 11, 0, &size), 0);
        assert_int_equal(size, 11);
        /* One that was given back does not fit either. */
        if (!(flags & MP_QUEUE_DROP_HELD)) {
            struct mp_message m;

            assert_int_equal(mp_queue_put(queue, "1234567890", 10, 0), 0);
            assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
            assert_int_equal(mp_queue_abandon(queue, &m), 0);
            assert_int_equal(mp_queue_get(queue, buffer, 9, 0, &size), -EMSGSIZE);
            assert_int_equal(mp_queue_get(queue, buffer, 10, 0, &size), 0);
            assert_int_equal(size, 10);
        }
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* ---- order and bound ---- */

static void test_bound(void **state)
{
    const uint32_t sizes[] = {1, 2, 3, 5, 15, 16, 17, 100, 1000};
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags) for (size_t s = 0; s < MP_ARRAY_SIZE(sizes); s++)
    {
        mp_queue *queue = make_queue(arena, sizes[s], flags);
        uint32_t in = 0, out = 0;

        for (int round = 0; round < 10; round++) {
            uint32_t some = 1 + (uint32_t)round * 7 % sizes[s];

            while (put_number(queue, in) == 0)
                in++;
            assert_int_equal(in - out, sizes[s]);
            assert_int_equal(put_number(queue, in), -EAGAIN);
            assert_int_equal(mp_queue_put(queue, &in, 4, 1000), -ETIMEDOUT);
            assert_int_equal(depth(queue), sizes[s]);
            for (uint32_t i = 0; i < some; i++)
                assert_int_equal(get_number(queue), out++);
            assert_int_equal(depth(queue), sizes[s] - some);
        }
        while (out < in)
            assert_int_equal(get_number(queue), out++);
        assert_int_equal(mp_queue_get(queue, &out, 4, 0, NULL), -EAGAIN);
        assert_int_equal(mp_queue_get(queue, &out, 4, 1000, NULL), -ETIMEDOUT);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* Taken but not yet released does not count as in the queue. */
static void test_room_when_taken(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 3, flags);
        struct mp_message held[9];

        for (uint32_t i = 0; i < 9; i++) {
            assert_int_equal(put_number(queue, i), 0);
            if (i < 2)
                continue;
            assert_int_equal(put_number(queue, i), -EAGAIN);
            assert_int_equal(mp_queue_receive(queue, 0, &held[i - 2]), 0);
            assert_int_equal(*(uint32_t *)held[i - 2].data, i - 2);
        }
        /* Released in any order. */
        for (uint32_t i = 0; i < 7; i++)
            assert_int_equal(mp_queue_release(queue, &held[i * 3 % 7]), 0);
        assert_int_equal(get_number(queue), 7);
        assert_int_equal(get_number(queue), 8);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

static void *take_one(void *queue)
{
    assert(mp_queue_get(queue, &(char){0}, 1, 0, NULL) == 0);
    return NULL;
}

/* For those who wait for room with other things, too, there is some as soon as a message is taken,
 * also where consumers tell of it only now and then. */
static void test_writable(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for (uint32_t maxsize = 1; maxsize <= 40; maxsize++)
        for_each_kind(flags)
        {
            mp_queue *queue = make_queue(arena, maxsize, flags);
            struct mp_waitable w = mp_queue_writable(queue);
            pthread_t consumer;
            uint32_t n = 0;

            while (mp_queue_put(queue, "x", 1, 0) == 0)
                n++;
            assert_int_equal(n, maxsize);
            assert_int_equal(mp_wait(&w, 1, 0), 0);
            assert_int_equal(pthread_create(&consumer, NULL, take_one, queue), 0);
            assert_int_equal(pthread_join(consumer, NULL), 0);
            assert_int_equal(mp_wait(&w, 1, 0), 1);
            assert_int_equal(mp_queue_put(queue, "x", 1, 0), 0);
            assert_int_equal(mp_wait(&w, 1, 0), 0);
            end_queue(queue);
        }
    mp_arena_close(arena);
}

/* Far more than a ring and a lap of it. */
static void test_long_run(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 5, flags);

        for (uint32_t i = 0; i < 20000; i++) {
            assert_int_equal(put_number(queue, i), 0);
            if (i >= 4)
                assert_int_equal(get_number(queue), i - 4);
        }
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* Two queues, and one process at both ends of both: the memory goes round. */
static void two_queues(mp_arena *arena, uint32_t flags, uint32_t others)
{
    mp_queue *a = make_queue(arena, 16, flags), *b;

    assert_int_equal(
        mp_queue_create(arena, "b", MP_QUEUE_OPTIONS(.maxsize = 16, .flags = others), &b), 0);
    for (uint32_t round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < 4; i++)
            assert_int_equal(put_number(a, i), 0);
        for (uint32_t i = 0; i < 4; i++)
            assert_int_equal(get_number(a), i);
        for (uint32_t i = 0; i < 16; i++)
            assert_int_equal(put_number(b, i), 0);
        assert_int_equal(depth(b), 16);
        assert_int_equal(put_number(b, 16), -EAGAIN);
        for (uint32_t i = 0; i < 16; i++)
            assert_int_equal(get_number(b), i);
    }
    end_queue(a);
    end_queue(b);
}

static void test_two_queues(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags) for (size_t i = 0; i < MP_ARRAY_SIZE(kinds); i++)
        two_queues(arena, flags, kinds[i]);
    mp_arena_close(arena);
}

/* ---- messages in hand ---- */

static void test_wrong_hands(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 4, flags), *other;
        struct mp_message m;

        assert_int_equal(mp_queue_create(arena, "other", NULL, &other), 0);
        assert_int_equal(mp_queue_loan(queue, 10, 0, &m), 0);
        assert_int_equal(mp_queue_release(queue, &m), -EINVAL);
        assert_int_equal(mp_queue_commit(queue, &m, 0), 0);
        assert_int_equal(mp_queue_commit(queue, &m, 0), -EINVAL);
        assert_int_equal(mp_queue_abandon(queue, &m), -EINVAL);
        assert_int_equal(mp_queue_release(queue, &m), -EINVAL);
        assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
        assert_int_equal(mp_queue_commit(queue, &m, 0), -EINVAL);
        assert_int_equal(mp_queue_release(queue, &m), 0);
        assert_int_equal(mp_queue_release(queue, &m), -EINVAL);
        assert_int_equal(mp_queue_abandon(queue, &m), -EINVAL);
        /* A loan may go into another queue of the arena. */
        assert_int_equal(mp_queue_loan(queue, 4, 0, &m), 0);
        memcpy(m.data, "else", 4);
        assert_int_equal(mp_queue_commit(other, &m, 0), 0);
        assert_int_equal(depth(queue), 0);
        assert_int_equal(mp_queue_receive(other, 0, &m), 0);
        assert_memory_equal(m.data, "else", 4);
        assert_int_equal(mp_queue_release(other, &m), 0);
        end_queue(other);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

static void test_abandon_loan(void **state)
{
    mp_arena *arena = make_arena();
    unsigned memory = count_memory(arena);

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 4, flags);
        struct mp_message m;

        for (int i = 0; i < 100; i++) {
            assert_int_equal(mp_queue_loan(queue, 300000, 0, &m), 0);
            assert_int_equal(mp_queue_abandon(queue, &m), 0);
        }
        assert_int_equal(depth(queue), 0);
        assert_int_equal(mp_queue_receive(queue, 0, &m), -EAGAIN);
        end_queue(queue);
    }
    assert_true(count_memory(arena) >= memory - 64);
    mp_arena_close(arena);
}

/* Given back: again at once, ahead of the others, and marked. */
static void test_abandon_received(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 8, flags);
        struct mp_message m, n;
        uint32_t most = 1;

        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(put_number(queue, i), 0);
        if (flags & MP_QUEUE_DROP_HELD) {
            assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
            assert_int_equal(mp_queue_abandon(queue, &m), 0);
            assert_int_equal(get_number(queue), 1);
            assert_int_equal(depth(queue), 1);
            end_queue(queue);
            continue;
        }
        for (uint32_t i = 1; i < 300; i++) {
            assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
            assert_int_equal(*(uint32_t *)m.data, 0);
            assert_int_equal(m.deliveries, mp_min(i, 255u));
            assert_int_equal(depth(queue), 2);
            assert_int_equal(mp_queue_abandon(queue, &m), 0);
            assert_int_equal(depth(queue), 3);
            most = mp_max(most, m.deliveries);
        }
        assert_int_equal(most, 255);
        /* Two of them. */
        assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
        assert_int_equal(mp_queue_receive(queue, 0, &n), 0);
        assert_int_equal(mp_queue_abandon(queue, &m), 0);
        assert_int_equal(mp_queue_abandon(queue, &n), 0);
        assert_int_equal(depth(queue), 3);
        assert_int_equal(get_number(queue) + get_number(queue), 1);
        assert_int_equal(get_number(queue), 2);
        assert_int_equal(mp_queue_receive(queue, 0, &m), -EAGAIN);
        assert_int_equal(depth(queue), 0);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* ---- batches ---- */

static void test_batches(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 10, flags);
        struct mp_message m[20] = {0};
        uint32_t numbers[20], out[20];
        size_t sizes[20];

        for (uint32_t i = 0; i < 20; i++)
            numbers[i] = i;
        assert_int_equal(mp_queue_put_batch(queue, numbers, 4, 7, 0), 7);
        assert_int_equal(mp_queue_put_batch(queue, numbers + 7, 4, 13, MP_FOREVER), 3);
        assert_int_equal(mp_queue_put_batch(queue, numbers, 4, 20, 0), -EAGAIN);
        assert_int_equal(mp_queue_put_batch(queue, numbers, 4, 20, 1000), -ETIMEDOUT);
        assert_int_equal(mp_queue_get_batch(queue, out, 4, sizes, 4, 0), 4);
        assert_int_equal(mp_queue_get_batch(queue, out + 4, 4, NULL, 16, MP_FOREVER), 6);
        assert_memory_equal(out, numbers, 40);
        assert_int_equal(sizes[3], 4);
        assert_int_equal(mp_queue_get_batch(queue, out, 4, NULL, 20, 0), -EAGAIN);
        assert_int_equal(mp_queue_get_batch(queue, out, 4, NULL, 20, 1000), -ETIMEDOUT);

        assert_int_equal(mp_queue_loan_batch(queue, 4, 20, 0, m), 20);
        for (uint32_t i = 0; i < 20; i++)
            *(uint32_t *)m[i].data = i;
        assert_int_equal(mp_queue_commit_batch(queue, m, 20, 0), 10);
        assert_int_equal(mp_queue_commit_batch(queue, m + 10, 10, 0), -EAGAIN);
        assert_int_equal(mp_queue_commit_batch(queue, m + 10, 10, 1000), -ETIMEDOUT);
        assert_int_equal(mp_queue_receive_batch(queue, 4, 0, m), 4);
        assert_int_equal(mp_queue_commit_batch(queue, m + 10, 10, 0), 4);
        for (uint32_t i = 14; i < 20; i++)
            assert_int_equal(mp_queue_abandon(queue, &m[i]), 0);
        assert_int_equal(mp_queue_receive_batch(queue, 16, MP_FOREVER, m + 4), 10);
        for (uint32_t i = 0; i < 14; i++)
            assert_int_equal(*(uint32_t *)m[i].data, i);
        assert_int_equal(mp_queue_receive_batch(queue, 1, 0, m + 14), -EAGAIN);
        assert_int_equal(mp_queue_receive_batch(queue, 1, 1000, m + 14), -ETIMEDOUT);
        /* One that is none is told of, and the others are released. */
        assert_int_equal(mp_queue_release_batch(queue, m, 15), -EINVAL);
        assert_int_equal(mp_queue_release_batch(queue, m, 1), -EINVAL);
        assert_int_equal(mp_queue_loan_batch(queue, 4, 2, 0, m), 2);
        assert_int_equal(mp_queue_commit_batch(queue, m, 2, 0), 2);
        assert_int_equal(mp_queue_receive_batch(queue, 3, 0, m), 2);
        assert_int_equal(mp_queue_release_batch(queue, m, 2), 0);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* ---- memory ---- */

static void test_no_memory(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 100, flags);
        struct mp_message m[64];
        unsigned n = 0;
        int r;

        while ((r = mp_queue_loan(queue, 200000, 0, &m[n])) == 0)
            n++;
        assert_int_equal(r, -ENOBUFS);
        assert_true(n >= 2);
        assert_int_equal(mp_queue_loan(queue, 200000, 1000, &m[n]), -ETIMEDOUT);
        assert_int_equal(mp_queue_loan_batch(queue, 200000, 2, 0, &m[n]), -ENOBUFS);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(mp_queue_commit(queue, &m[i], 0), 0);
        assert_int_equal(mp_queue_loan(queue, 200000, MP_MSEC(5), &m[0]), -ETIMEDOUT);
        /* One is taken and released: there is memory again. */
        assert_int_equal(mp_queue_receive(queue, 0, &m[0]), 0);
        assert_int_equal(mp_queue_release(queue, &m[0]), 0);
        assert_int_equal(mp_queue_loan(queue, 200000, MP_SEC(10), &m[0]), 0);
        assert_int_equal(mp_queue_abandon(queue, &m[0]), 0);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_create_refuses),
        clean_test(test_null),
        clean_test(test_stats),
        clean_test(test_sizes),
        clean_test(test_empty_messages),
        clean_test(test_too_large),
        clean_test(test_buffer_too_small),
        clean_test(test_bound),
        clean_test(test_room_when_taken),
        clean_test(test_writable),
        clean_test(test_long_run),
        clean_test(test_two_queues),
        clean_test(test_wrong_hands),
        clean_test(test_abandon_loan),
        clean_test(test_abandon_received),
        clean_test(test_batches),
        clean_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
