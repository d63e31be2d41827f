/* SPDX-License-Identifier: MIT */
/* Names and the table of objects: unique, found, full, and used again. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/until.h"

static mp_arena *make_arena(uint32_t objects)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create("directory",
                        MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 16, .objects = objects),
                        &arena),
        0);
    return arena;
}

static uint32_t objects(const mp_arena *arena)
{
    struct mp_arena_stats s;

    assert_int_equal(mp_arena_stats(arena, &s), 0);
    return s.objects;
}

/* One name is one object, of whatever kind; each kind finds its own. */
static void test_kinds(void **state)
{
    mp_arena *arena = make_arena(8);
    mp_queue *queue, *q = NULL;
    mp_lock *lock, *l = NULL;
    void *block, *b = NULL;

    (void)state;
    assert_int_equal(mp_lock_create(arena, "lock", &lock), 0);
    assert_int_equal(mp_queue_create(arena, "queue", NULL, &queue), 0);
    assert_int_equal(mp_block_create(arena, "block", 1, &block), 0);
    assert_int_equal(objects(arena), 3);
    assert_int_equal(mp_lock_create(arena, "queue", &l), -EEXIST);
    assert_int_equal(mp_lock_create(arena, "block", &l), -EEXIST);
    assert_int_equal(mp_lock_create(arena, "lock", &l), -EEXIST);
    assert_int_equal(mp_queue_create(arena, "lock", NULL, &q), -EEXIST);
    assert_int_equal(mp_block_create(arena, "queue", 1, &b), -EEXIST);
    assert_int_equal(mp_lock_open(arena, "queue", &l), -ENOENT);
    assert_int_equal(mp_queue_open(arena, "block", &q), -ENOENT);
    assert_int_equal(mp_block_open(arena, "lock", &b, NULL), -ENOENT);
    assert_int_equal(mp_block_destroy(arena, "lock"), -ENOENT);
    assert_null(q);
    assert_null(l);
    assert_null(b);
    assert_int_equal(objects(arena), 3);
    mp_lock_close(lock);
    mp_queue_close(queue);
    mp_arena_close(arena);
}

/* Names that are alike but not the same. */
static void test_names(void **state)
{
    static const char *const names[] = {"a", "aa", "A", "~", "!", "a.b", "a-b", "\"'`$%&*()"};
    mp_arena *arena = make_arena(16);
    char longest[MP_NAME_MAX + 1];
    mp_lock *locks[8], *lock;

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(names); i++) {
        assert_int_equal(mp_lock_create(arena, names[i], &locks[i]), 0);
        assert_string_equal(mp_lock_name(locks[i]), names[i]);
        assert_int_equal(mp_lock_open(arena, names[i], &lock), 0);
        assert_string_equal(mp_lock_name(lock), names[i]);
        mp_lock_close(lock);
    }
    memset(longest, 'l', sizeof longest);
    longest[MP_NAME_MAX] = '\0';
    assert_int_equal(mp_lock_create(arena, longest, &lock), 0);
    assert_string_equal(mp_lock_name(lock), longest);
    mp_lock_close(lock);
    longest[MP_NAME_MAX - 1] = '\0';
    assert_int_equal(mp_lock_open(arena, longest, &lock), -ENOENT);
    for (size_t i = 0; i < MP_ARRAY_SIZE(names); i++)
        mp_lock_close(locks[i]);
    mp_arena_close(arena);
}

static void test_names_made_up(void **state)
{
    enum { N = 50 };
    mp_arena *arena = make_arena(3 * N);
    mp_queue *queues[N];
    mp_lock *locks[N];
    void *block;

    (void)state;
    for (int i = 0; i < N; i++) {
        mp_queue *queue;
        mp_lock *lock;

        assert_int_equal(mp_lock_create(arena, NULL, &locks[i]), 0);
        assert_int_equal(mp_queue_create(arena, NULL, MP_QUEUE_OPTIONS(.maxsize = 1), &queues[i]),
                         0);
        assert_int_equal(mp_block_create(arena, NULL, 1, &block), 0);
        assert_int_equal(mp_lock_open(arena, mp_lock_name(locks[i]), &lock), 0);
        assert_int_equal(mp_queue_open(arena, mp_queue_name(queues[i]), &queue), 0);
        mp_lock_close(lock);
        mp_queue_close(queue);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(mp_lock_name(locks[k]), mp_lock_name(locks[i]));
    }
    for (int i = 0; i < N; i++) {
        mp_lock_close(locks[i]);
        mp_queue_close(queues[i]);
    }
    mp_arena_close(arena);
}

/* ---- full ---- */

static void test_full(void **state)
{
    enum { N = 5 };
    mp_arena *arena = make_arena(N);
    mp_lock *locks[N], *lock = NULL;
    mp_queue *queue;
    void *block;

    (void)state;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++)
            assert_int_equal(mp_lock_create(arena, NULL, &locks[i]), 0);
        assert_int_equal(objects(arena), N);
        assert_int_equal(mp_lock_create(arena, NULL, &lock), -ENOBUFS);
        assert_int_equal(mp_queue_create(arena, NULL, NULL, &queue), -ENOBUFS);
        assert_int_equal(mp_block_create(arena, NULL, 1, &block), -ENOBUFS);
        assert_null(lock);
        for (int i = 0; i < N; i++) {
            assert_int_equal(mp_lock_destroy(locks[i]), 0);
            mp_lock_close(locks[i]);
        }
        assert_int_equal(objects(arena), 0);
    }
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++)
            assert_int_equal(mp_block_create(arena, (char[]){(char)('a' + i), 0}, 1, &block), 0);
        assert_int_equal(mp_block_create(arena, "f", 1, &block), -ENOBUFS);
        assert_int_equal(mp_block_create(arena, "a", 1, &block), -EEXIST);
        for (int i = 0; i < N; i++)
            assert_int_equal(mp_block_destroy(arena, (char[]){(char)('a' + i), 0}), 0);
    }
    mp_arena_close(arena);
}

/* The memory of queues that are gone serves other queues of their size, whatever their flags. */
static void test_full_of_queues(void **state)
{
    enum { N = 4 };
    const uint32_t flags[] = {0, MP_QUEUE_SINGLE_PRODUCER, MP_QUEUE_SINGLE_CONSUMER,
                              MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER,
                              MP_QUEUE_DROP_HELD};
    mp_arena *arena = make_arena(N);
    mp_queue *queues[N], *queue;

    (void)state;
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < N; i++)
            assert_int_equal(
                mp_queue_create(arena, NULL,
                                MP_QUEUE_OPTIONS(.maxsize = 513 + (uint32_t)(round * i) % 512,
                                                 .flags = flags[(round + i) % 5]),
                                &queues[i]),
                0);
        assert_int_equal(mp_queue_create(arena, NULL, NULL, &queue), -ENOBUFS);
        for (int i = 0; i < N; i++) {
            assert_int_equal(mp_queue_destroy(queues[i]), 0);
            mp_queue_close(queues[i]);
        }
        assert_int_equal(objects(arena), 0);
    }
    mp_arena_close(arena);
}

static void test_large_table(void **state)
{
    enum { N = 2000 };
    static mp_lock *locks[N];
    mp_arena *arena = make_arena(65536);

    (void)state;
    for (int i = 0; i < N; i++)
        assert_int_equal(mp_lock_create(arena, NULL, &locks[i]), 0);
    assert_int_equal(objects(arena), N);
    for (int i = 0; i < N; i++) {
        mp_lock *lock;

        assert_int_equal(mp_lock_open(arena, mp_lock_name(locks[i]), &lock), 0);
        mp_lock_close(lock);
        assert_int_equal(mp_lock_destroy(locks[i]), 0);
        mp_lock_close(locks[i]);
    }
    mp_arena_close(arena);
}

/* ---- many at once ---- */

#define NAMES 40

/* Each tries to make all names, and counts those that it made. */
PART(make_names)
{
    void *shared, *block;
    _Atomic(int) *made;

    assert(mp_block_open(part->arena, "made", &shared, NULL) == 0);
    made = shared;
    made[NAMES]++;
    until(made[NAMES] == (int)part->argument);
    for (unsigned i = 0; i < NAMES; i++) {
        char name[16];
        int r;

        snprintf(name, sizeof name, "name-%u", i);
        r = mp_block_create(part->arena, name, 100, &block);
        assert(r == 0 || r == -EEXIST);
        made[i] += r == 0;
        assert(mp_block_open(part->arena, name, &block, NULL) == 0);
    }
}

static void test_one_makes(void **state)
{
    enum { N = 4 };
    _Atomic(int) *made;
    struct crew crew;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena(64);
    assert_int_equal(mp_block_create(arena, "made", (NAMES + 1) * sizeof *made, (void **)&made), 0);
    for (int round = 0; round < 5; round++) {
        made[NAMES] = 0;
        crew_start(&crew, carrier_of(state), arena, make_names, N, N);
        crew_join(&crew);
        for (unsigned i = 0; i < NAMES; i++) {
            char name[16];

            assert_int_equal(made[i], 1);
            made[i] = 0;
            snprintf(name, sizeof name, "name-%u", i);
            assert_int_equal(mp_block_destroy(arena, name), 0);
        }
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

/* Create, open and destroy a few names at random; whatever is found is whole. */
PART(churn_names)
{
    uint32_t seed = part->index + 1;

    for (uint64_t i = 0; i < part->argument; i++) {
        char name[16];
        void *block;
        size_t size;
        int r;

        seed = seed * 1103515245 + 12345;
        snprintf(name, sizeof name, "name-%u", seed / 65536 % 4);
        switch (seed >> 24 & 3) {
        case 0:
        case 1:
            r = mp_block_create(part->arena, name, 100 + seed / 65536 % 4, &block);
            assert(r == 0 || r == -EEXIST);
            break;
        case 2:
            r = mp_block_open(part->arena, name, &block, &size);
            assert(r == -ENOENT || (r == 0 && size == 100 + seed / 65536 % 4));
            break;
        case 3:
            r = mp_block_destroy(part->arena, name);
            assert(r == 0 || r == -ENOENT);
            break;
        }
    }
}

static void test_churn(void **state)
{
    struct crew crew;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena(8);
    crew_start(&crew, carrier_of(state), arena, churn_names, 4, 3000);
    crew_join(&crew);
    until(settled(arena, 1));
    for (unsigned i = 0; i < 4; i++)
        mp_block_destroy(arena, (char[]){'n', 'a', 'm', 'e', '-', (char)('0' + i), 0});
    assert_int_equal(objects(arena), 0);
    mp_arena_close(arena);
}

/* Of several who destroy one object one does. */
PART(destroy_lock)
{
    _Atomic(int) *counts;
    void *shared;
    mp_lock *lock;
    int r;

    assert(mp_block_open(part->arena, "counts", &shared, NULL) == 0);
    counts = shared;
    assert(mp_lock_open(part->arena, "lock", &lock) == 0);
    counts[0]++;
    until(counts[0] == (int)part->argument);
    r = mp_lock_destroy(lock);
    assert(r == 0 || r == -ESTALE);
    counts[1] += r == 0;
    assert(mp_lock_destroy(lock) == -ESTALE);
    mp_lock_close(lock);
}

static void test_one_destroys(void **state)
{
    enum { N = 4 };
    _Atomic(int) *counts;
    struct crew crew;
    mp_arena *arena;
    mp_lock *lock;

    need_carrier(state);
    arena = make_arena(8);
    assert_int_equal(mp_block_create(arena, "counts", 2 * sizeof *counts, (void **)&counts), 0);
    for (int round = 0; round < 10; round++) {
        counts[0] = counts[1] = 0;
        assert_int_equal(mp_lock_create(arena, "lock", &lock), 0);
        mp_lock_close(lock);
        crew_start(&crew, carrier_of(state), arena, destroy_lock, N, N);
        crew_join(&crew);
        assert_int_equal(counts[1], 1);
    }
    until(settled(arena, 1));
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_kinds),          clean_test(test_names),
        clean_test(test_names_made_up),  clean_test(test_full),
        clean_test(test_full_of_queues), clean_test(test_large_table),
        on_carriers(test_one_makes),     on_carriers(test_churn),
        on_carriers(test_one_destroys),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
