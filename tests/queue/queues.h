/* SPDX-License-Identifier: MIT */
#pragma once

/* What the tests of queues share: an arena, a queue of each kind, numbers in and out. */

#include <assert.h>
#include <stdint.h>

#include <mp/mp.h>

static const uint32_t kinds[] = {
    0,
    MP_QUEUE_SINGLE_PRODUCER,
    MP_QUEUE_SINGLE_CONSUMER,
    MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER,
    MP_QUEUE_DROP_HELD,
    MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER | MP_QUEUE_DROP_HELD,
};

#define for_each_kind(flags)                                      \
    for (size_t kind_ = 0; kind_ < MP_ARRAY_SIZE(kinds); kind_++) \
        for (uint32_t flags = kinds[kind_], once_ = 1; once_; once_ = 0)

static inline mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create(
            "queue", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 16, .objects = 32), &arena),
        0);
    return arena;
}

static inline mp_queue *make_queue(mp_arena *arena, uint32_t maxsize, uint32_t flags)
{
    mp_queue *queue;

    assert_int_equal(mp_queue_create(arena, "queue",
                                     MP_QUEUE_OPTIONS(.maxsize = maxsize, .flags = flags), &queue),
                     0);
    return queue;
}

static inline void end_queue(mp_queue *queue)
{
    assert_int_equal(mp_queue_destroy(queue), 0);
    mp_queue_close(queue);
}

static inline uint64_t depth(const mp_queue *queue)
{
    struct mp_queue_stats s;

    assert_int_equal(mp_queue_stats(queue, &s), 0);
    return s.depth;
}

static inline int put_number(mp_queue *queue, uint32_t n)
{
    return mp_queue_put(queue, &n, sizeof n, 0);
}

static inline uint32_t get_number(mp_queue *queue)
{
    uint32_t n;
    size_t size;

    assert_int_equal(mp_queue_get(queue, &n, sizeof n, 0, &size), 0);
    assert_int_equal(size, sizeof n);
    return n;
}

/* Bytes that the arena has left, in blocks of 64. */
static inline unsigned count_memory(mp_arena *arena)
{
    static void *blocks[20000];
    unsigned n = 0;

    while (mp_block_alloc(arena, 64, 0, &blocks[n]) == 0)
        n++;
    for (unsigned i = 0; i < n; i++)
        assert(mp_block_free(arena, blocks[i]) == 0);
    return n;
}
