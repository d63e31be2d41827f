/* SPDX-License-Identifier: MIT */
/* Blocks: sizes, errors, a full arena, what threads keep, and memory that goes from small to
 * large. */

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

#define PATIENCE MP_SEC(20)
#define MOST 20000

static mp_arena *make_arena(uint64_t size)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create("block", MP_ARENA_OPTIONS(.size = size, .participants = 16, .objects = 64),
                        &arena),
        0);
    return arena;
}

/* Blocks of one size until there are no more; their number. */
static unsigned fill(mp_arena *arena, size_t size, void **blocks)
{
    unsigned n = 0;

    while (n < MOST && mp_block_alloc(arena, size, 0, &blocks[n]) == 0)
        n++;
    assert(n < MOST);
    return n;
}

static void empty(mp_arena *arena, void **blocks, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert(mp_block_free(arena, blocks[i]) == 0);
}

/* ---- sizes and errors ---- */

static void test_sizes(void **state)
{
    mp_arena *arena = make_arena(1 << 20);
    uint64_t most = mp_arena_max_block(arena);
    void *block;

    (void)state;
    assert_true(most >= 512 << 10);
    for (size_t size = 0; size <= most; size = size < 130 ? size + 1 : size * 3 / 2) {
        assert_int_equal(mp_block_alloc(arena, size, 0, &block), 0);
        assert_int_equal((uintptr_t)block % 64, 0);
        memset(block, 0xa5, size);
        assert_int_equal(mp_block_free(arena, block), 0);
    }
    assert_int_equal(mp_block_alloc(arena, most, 0, &block), 0);
    memset(block, 0x5a, most);
    assert_int_equal(mp_block_free(arena, block), 0);
    block = NULL;
    assert_int_equal(mp_block_alloc(arena, most + 1, 0, &block), -EMSGSIZE);
    assert_int_equal(mp_block_alloc(arena, SIZE_MAX, MP_FOREVER, &block), -EMSGSIZE);
    assert_int_equal(mp_block_alloc(arena, SIZE_MAX / 2 + 1, MP_FOREVER, &block), -EMSGSIZE);
    assert_int_equal(mp_block_alloc(arena, 1, 0, NULL), -EINVAL);
    assert_null(block);
    mp_arena_close(arena);
}

static void test_free_refuses(void **state)
{
    mp_arena *arena = make_arena(1 << 20), *other = make_arena(1 << 20);
    char *block, *foreign, *named, local[64];

    (void)state;
    assert_int_equal(mp_block_alloc(arena, 1000, 0, (void **)&block), 0);
    assert_int_equal(mp_block_alloc(other, 1000, 0, (void **)&foreign), 0);
    assert_int_equal(mp_block_create(arena, "named", 1000, (void **)&named), 0);
    assert_int_equal(mp_block_free(arena, NULL), -EINVAL);
    assert_int_equal(mp_block_free(arena, local), -EINVAL);
    assert_int_equal(mp_block_free(arena, foreign), -EINVAL);
    assert_int_equal(mp_block_free(arena, block + 64), -EINVAL);
    assert_int_equal(mp_block_free(arena, block - 1), -EINVAL);
    assert_int_equal(mp_block_free(arena, named), -EPERM);
    assert_int_equal(mp_block_free(arena, block), 0);
    assert_int_equal(mp_block_free(arena, block), -EPERM);
    assert_int_equal(mp_block_free(other, foreign), 0);
    mp_arena_close(other);
    mp_arena_close(arena);
}

static void free_parents(void *user)
{
    mp_arena *arena = ((void **)user)[0];
    void *block = ((void **)user)[1];

    assert(mp_block_free(arena, block) == -EPERM);
}

static void test_free_of_another(void **state)
{
    void *both[2];
    mp_arena *arena;

    need_carrier(state);
    arena = both[0] = make_arena(1 << 20);
    assert_int_equal(mp_block_alloc(arena, 1000, 0, &both[1]), 0);
    child_join(child_start(free_parents, both));
    until(settled(arena, 1));
    assert_int_equal(mp_block_free(arena, both[1]), 0);
    mp_arena_close(arena);
}

static void *free_it(void *user)
{
    void **both = user;

    return (void *)(intptr_t)mp_block_free(both[0], both[1]);
}

/* Of threads that free the same block one does. */
static void test_free_race(void **state)
{
    mp_arena *arena = make_arena(1 << 20);
    void *both[2] = {arena, NULL};

    (void)state;
    for (int i = 0; i < 300; i++) {
        pthread_t threads[3];
        int freed = 0;

        assert_int_equal(mp_block_alloc(arena, 3000, 0, &both[1]), 0);
        for (int k = 0; k < 3; k++)
            assert_int_equal(pthread_create(&threads[k], NULL, free_it, both), 0);
        for (int k = 0; k < 3; k++) {
            void *r;

            pthread_join(threads[k], &r);
            assert_true((intptr_t)r == 0 || (intptr_t)r == -EPERM || (intptr_t)r == -EINVAL);
            freed += (intptr_t)r == 0;
        }
        assert_int_equal(freed, 1);
    }
    mp_arena_close(arena);
}

/* No two have the same memory. */
static void test_distinct(void **state)
{
    enum { N = 500 };
    mp_arena *arena = make_arena(1 << 20);
    uint32_t *blocks[N];
    uint32_t seed = 1;

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        size_t size = 4 + (seed = seed * 1103515245 + 12345) / 65536 % 1000;

        assert_int_equal(mp_block_alloc(arena, size, 0, (void **)&blocks[i]), 0);
        for (uint32_t k = 0; k < size / 4; k++)
            blocks[i][k] = i;
    }
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(blocks[i][0], i);
    empty(arena, (void **)blocks, N);
    mp_arena_close(arena);
}

/* ---- a full arena ---- */

static void test_full(void **state)
{
    static void *blocks[MOST];
    mp_arena *arena = make_arena(1 << 20);
    struct mp_arena_stats s;
    void *block = &block;

    (void)state;
    for (size_t size = 64; size <= 512 << 10; size *= 2) {
        unsigned n = fill(arena, size, blocks);

        /* Nearly all of the memory can be had in any size. */
        assert_true(n * size > (1 << 20) * 7 / 10 || size == 512 << 10);
        assert_true(n >= 1);
        assert_int_equal(mp_arena_stats(arena, &s), 0);
        assert_true(s.backed <= s.size);
        assert_int_equal(mp_block_alloc(arena, size, 0, &block), -ENOBUFS);
        assert_int_equal(mp_block_alloc(arena, size, 1, &block), -ETIMEDOUT);
        assert_int_equal(mp_block_alloc(arena, size, MP_MSEC(20), &block), -ETIMEDOUT);
        assert_ptr_equal(block, &block);
        empty(arena, blocks, n);
        assert_int_equal(mp_block_alloc(arena, size, 0, &block), 0);
        assert_int_equal(mp_block_free(arena, block), 0);
        block = &block;
    }
    mp_arena_close(arena);
}

/* Small ones all over, then a large one, and back: memory is not stuck in one size. */
static void test_small_to_large(void **state)
{
    static void *blocks[MOST];
    mp_arena *arena = make_arena(1 << 20);
    void *block;

    (void)state;
    for (int round = 0; round < 5; round++) {
        unsigned n = fill(arena, 64, blocks);

        /* In an order that is not that of the memory. */
        for (unsigned i = 0; i < n; i += 2)
            assert_int_equal(mp_block_free(arena, blocks[i]), 0);
        assert_int_equal(mp_block_alloc(arena, 512 << 10, 0, &block), -ENOBUFS);
        for (unsigned i = 1; i < n; i += 2)
            assert_int_equal(mp_block_free(arena, blocks[i]), 0);
        assert_int_equal(mp_block_alloc(arena, 512 << 10, 0, &block), 0);
        memset(block, round, 512 << 10);
        assert_int_equal(mp_block_free(arena, block), 0);
    }
    mp_arena_close(arena);
}

/* What leaves the small sizes is given back to the system, and comes back empty of neighbours. */
static void test_mixed(void **state)
{
    enum { N = 200 };
    mp_arena *arena = make_arena(1 << 20);
    unsigned char *blocks[N] = {0};
    size_t sizes[N] = {0};
    uint32_t seed = 7;
    unsigned full = 0;

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        unsigned k;

        seed = seed * 1103515245 + 12345;
        k = seed / 65536 % N;
        if (blocks[k]) {
            for (size_t b = 0; b < sizes[k]; b += 61)
                assert_int_equal(blocks[k][b], k & 0xff);
            assert_int_equal(mp_block_free(arena, blocks[k]), 0);
            blocks[k] = NULL;
            continue;
        }
        sizes[k] = (size_t)1 << (seed >> 24) % 17;
        if (mp_block_alloc(arena, sizes[k], 0, (void **)&blocks[k]) != 0) {
            blocks[k] = NULL;
            full++;
            continue;
        }
        memset(blocks[k], (int)(k & 0xff), sizes[k]);
    }
    assert_true(full > 0);
    for (unsigned k = 0; k < N; k++)
        if (blocks[k])
            assert_int_equal(mp_block_free(arena, blocks[k]), 0);
    mp_arena_close(arena);
}

/* ---- waiting for memory ---- */

PART(wait_for_memory)
{
    void *block;

    assert(mp_block_alloc(part->arena, (size_t)part->argument, PATIENCE, &block) == 0);
    memset(block, 1, (size_t)part->argument);
    assert(mp_block_free(part->arena, block) == 0);
}

/* A waiter of each kind of size, woken by one who frees something else. */
static void test_woken(void **state)
{
    static void *blocks[MOST];
    const size_t sizes[][2] = {{64, 64}, {4096, 4096}, {64, 300000}, {300000, 64}, {4096, 64}};
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena(1 << 20);
    for (size_t i = 0; i < MP_ARRAY_SIZE(sizes); i++) {
        unsigned n = fill(arena, sizes[i][0], blocks);
        unsigned rest = fill(arena, 64, blocks + n);
        struct crew crew;

        crew_start(&crew, carrier_of(state), arena, wait_for_memory, 2, sizes[i][1]);
        until(sleepers(arena, MP_WAIT_BLOCK) == 2);
        empty(arena, blocks, n + rest);
        crew_join(&crew);
        until(settled(arena, 1));
    }
    mp_arena_close(arena);
}

static void wait_in_vain(void *user)
{
    mp_arena *arena = *(mp_arena **)user;
    void *block;

    assert(mp_block_alloc(arena, 64, MP_MSEC(50), &block) == -ETIMEDOUT);
}

/* Several that wait together end when their time is over, and do not keep each other awake. */
static void test_wait_in_vain(void **state)
{
    static void *blocks[MOST];
    mp_arena *arena;
    pid_t pids[4];
    unsigned n;

    need_carrier(state);
    arena = make_arena(1 << 20);
    n = fill(arena, 64, blocks);
    for (int i = 0; i < 4; i++)
        pids[i] = child_start(wait_in_vain, &arena);
    for (int i = 0; i < 4; i++)
        child_join(pids[i]);
    empty(arena, blocks, n);
    mp_arena_close(arena);
}

static void take_all(void *user)
{
    static void *blocks[MOST];
    mp_arena *arena = *(mp_arena **)user;
    void *ready;

    assert(mp_block_open(arena, "ready", &ready, NULL) == 0);
    assert(fill(arena, 128, blocks) > 0);
    ++*(_Atomic(int) *)ready;
    for (;;)
        pause();
}

/* What the dead had comes back to those who wait for it. */
static void test_dead_had_all(void **state)
{
    mp_arena *arena;
    void *ready;

    need_carrier(state);
    arena = make_arena(1 << 20);
    assert_int_equal(mp_block_create(arena, "ready", sizeof(int), &ready), 0);
    for (int i = 0; i < 10; i++) {
        pid_t pid = child_start(take_all, &arena);
        struct crew crew;

        until(*(_Atomic(int) *)ready == i + 1);
        crew_start(&crew, THREADS, arena, wait_for_memory, 1, 400000);
        until(sleepers(arena, MP_WAIT_BLOCK) == 1);
        child_kill(pid);
        crew_join(&crew);
    }
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- what threads keep ---- */

static void *use_and_end(void *user)
{
    void *blocks[64];

    for (int i = 0; i < 64; i++)
        assert(mp_block_alloc(user, 100, 0, &blocks[i]) == 0);
    empty(user, blocks, 64);
    return NULL;
}

/* A thread that ends gives back what it kept for its next use. */
static void test_thread_ends(void **state)
{
    static void *blocks[MOST];
    mp_arena *arena = make_arena(1 << 20);
    unsigned n = fill(arena, 100, blocks);

    (void)state;
    empty(arena, blocks, n);
    for (int i = 0; i < 50; i++) {
        pthread_t threads[4];

        for (int k = 0; k < 4; k++)
            assert_int_equal(pthread_create(&threads[k], NULL, use_and_end, arena), 0);
        for (int k = 0; k < 4; k++)
            pthread_join(threads[k], NULL);
        assert_int_equal(fill(arena, 100, blocks), n);
        empty(arena, blocks, n);
    }
    mp_arena_close(arena);
}

static void *free_one(void *user)
{
    void **both = user;

    assert(mp_block_free(both[0], both[1]) == 0);
    return NULL;
}

/* Freed by another thread than that which took it. */
static void test_free_elsewhere(void **state)
{
    mp_arena *arena = make_arena(1 << 20);
    void *both[2] = {arena, NULL};

    (void)state;
    for (int i = 0; i < 200; i++) {
        pthread_t thread;

        assert_int_equal(mp_block_alloc(arena, 300000, PATIENCE, &both[1]), 0);
        assert_int_equal(pthread_create(&thread, NULL, free_one, both), 0);
        pthread_join(thread, NULL);
    }
    mp_arena_close(arena);
}

/* ---- many at once ---- */

PART(churn)
{
    enum { N = 16 };
    unsigned char *blocks[N] = {0};
    size_t sizes[N] = {0};
    uint32_t seed = part->index + 1;

    for (uint64_t i = 0; i < part->argument; i++) {
        unsigned k;

        seed = seed * 1103515245 + 12345;
        k = seed / 65536 % N;
        if (blocks[k]) {
            for (size_t b = 0; b < sizes[k]; b += 97)
                assert(blocks[k][b] == (unsigned char)(part->index * N + k));
            assert(mp_block_free(part->arena, blocks[k]) == 0);
            blocks[k] = NULL;
            continue;
        }
        sizes[k] = (seed >> 8) % 16 ? (seed >> 12) % 400 : (seed >> 12) % 60000;
        /* Others may have all of it, and each may have some and want more: only a moment. */
        if (mp_block_alloc(part->arena, sizes[k], 1000, (void **)&blocks[k]) < 0) {
            blocks[k] = NULL;
            continue;
        }
        memset(blocks[k], (int)(part->index * N + k), sizes[k]);
    }
    for (unsigned k = 0; k < N; k++)
        if (blocks[k])
            assert(mp_block_free(part->arena, blocks[k]) == 0);
}

static void test_churn(void **state)
{
    static void *blocks[MOST];
    struct crew crew;
    mp_arena *arena;
    unsigned n;

    need_carrier(state);
    arena = make_arena(512 << 10);
    n = fill(arena, 64, blocks);
    empty(arena, blocks, n);
    crew_start(&crew, carrier_of(state), arena, churn, 4, 5000);
    crew_join(&crew);
    until(settled(arena, 1));
    /* None was lost. */
    assert_int_equal(fill(arena, 64, blocks), n);
    empty(arena, blocks, n);
    mp_arena_close(arena);
}

/* ---- named blocks ---- */

static void test_named(void **state)
{
    mp_arena *arena = make_arena(1 << 20);
    char *block, *same, zero[3000] = {0};
    size_t size;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mp_block_create(arena, "block", 3000, (void **)&block), 0);
        assert_memory_equal(block, zero, 3000); /* the second time it was used before */
        memset(block, 'x', 3000);
        assert_int_equal(mp_block_open(arena, "block", (void **)&same, &size), 0);
        assert_ptr_equal(same, block);
        assert_int_equal(size, 3000);
        assert_int_equal(mp_block_open(arena, "block", (void **)&same, NULL), 0);
        same = NULL;
        assert_int_equal(mp_block_create(arena, "block", 1, (void **)&same), -EEXIST);
        assert_null(same);
        assert_int_equal(mp_block_destroy(arena, "block"), 0);
        assert_int_equal(mp_block_destroy(arena, "block"), -ENOENT);
        assert_int_equal(mp_block_open(arena, "block", (void **)&same, &size), -ENOENT);
        assert_null(same);
        assert_int_equal(size, 3000);
    }
    assert_int_equal(mp_block_create(arena, "empty", 0, (void **)&block), 0);
    assert_int_equal(mp_block_open(arena, "empty", (void **)&same, &size), 0);
    assert_int_equal(size, 0);
    assert_int_equal(mp_block_destroy(arena, "empty"), 0);
    mp_arena_close(arena);
}

static void test_named_refuses(void **state)
{
    mp_arena *arena = make_arena(1 << 20);
    char name[MP_NAME_MAX + 2];
    size_t most = mp_arena_max_block(arena), size = 1;
    void *block = &block;

    (void)state;
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
    assert_int_equal(mp_block_create(arena, "b", 1, NULL), -EINVAL);
    assert_int_equal(mp_block_create(arena, "", 1, &block), -ENAMETOOLONG);
    assert_int_equal(mp_block_create(arena, name, 1, &block), -ENAMETOOLONG);
    assert_int_equal(mp_block_create(arena, "a/b", 1, &block), -ENAMETOOLONG);
    assert_int_equal(mp_block_create(arena, "b", most + 1, &block), -EMSGSIZE);
    assert_int_equal(mp_block_create(arena, "b", SIZE_MAX, &block), -EMSGSIZE);
    assert_int_equal(mp_block_open(arena, NULL, &block, &size), -EINVAL);
    assert_int_equal(mp_block_open(arena, "b", NULL, &size), -EINVAL);
    assert_int_equal(mp_block_open(arena, "", &block, &size), -ENAMETOOLONG);
    assert_int_equal(mp_block_open(arena, name, &block, &size), -ENAMETOOLONG);
    assert_int_equal(mp_block_open(arena, "b", &block, &size), -ENOENT);
    assert_int_equal(mp_block_destroy(arena, NULL), -EINVAL);
    assert_int_equal(mp_block_destroy(arena, "b"), -ENOENT);
    assert_true(mp_block_destroy(arena, "") < 0);
    assert_ptr_equal(block, &block);
    assert_int_equal(size, 1);

    /* As large as it gets: half of the arena, so there are two and no third. */
    name[MP_NAME_MAX] = '\0';
    assert_int_equal(mp_block_create(arena, name, most, &block), 0);
    memset(block, 1, most);
    assert_int_equal(mp_block_create(arena, "second", most, &block), 0);
    assert_int_equal(mp_block_create(arena, "third", most, &block), -ENOBUFS);
    assert_int_equal(mp_block_destroy(arena, name), 0);
    assert_int_equal(mp_block_create(arena, "third", most, &block), 0);
    assert_int_equal(mp_block_destroy(arena, "second"), 0);
    assert_int_equal(mp_block_destroy(arena, "third"), 0);
    mp_arena_close(arena);
}

static void create_and_end(void *user)
{
    mp_arena *arena = *(mp_arena **)user;
    void *block;

    assert(mp_block_create(arena, "left", 100, &block) == 0);
    strcpy(block, "still here");
}

static void test_named_outlives(void **state)
{
    mp_arena *arena;
    void *block;

    need_carrier(state);
    arena = make_arena(1 << 20);
    child_join(child_start(create_and_end, &arena));
    until(settled(arena, 1));
    assert_int_equal(mp_block_open(arena, "left", &block, NULL), 0);
    assert_string_equal(block, "still here");
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_sizes),
        clean_test(test_free_refuses),
        carried_test(test_free_of_another, FORK),
        clean_test(test_free_race),
        clean_test(test_distinct),
        clean_test(test_full),
        clean_test(test_small_to_large),
        clean_test(test_mixed),
        on_carriers(test_woken),
        carried_test(test_wait_in_vain, FORK),
        carried_test(test_dead_had_all, FORK),
        clean_test(test_thread_ends),
        clean_test(test_free_elsewhere),
        on_carriers(test_churn),
        clean_test(test_named),
        clean_test(test_named_refuses),
        carried_test(test_named_outlives, FORK),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
