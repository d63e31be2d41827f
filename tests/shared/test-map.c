/* SPDX-License-Identifier: MIT */
/* The map: put, got, deleted, gone through, by one and by many; what a death leaves; an arena that
 * somebody writes over; and every error. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "arena/directory.h"
#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20)

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create("map", MP_ARENA_OPTIONS(.size = 4 << 20, .participants = 32, .objects = 16),
                        &arena),
        0);
    return arena;
}

static mp_map *make(mp_arena *arena, uint32_t capacity)
{
    mp_map *map;

    assert_int_equal(
        mp_map_create(arena, "map",
                      MP_MAP_OPTIONS(.capacity = capacity, .key_max = 20, .value_max = 100), &map),
        0);
    return map;
}

static mp_map *find(mp_arena *arena)
{
    mp_map *map;

    assert(mp_map_open(arena, "map", &map) == 0);
    return map;
}

static uint64_t len(mp_map *map)
{
    uint64_t n = UINT64_MAX;

    assert(mp_map_len(map, &n) == 0);
    return n;
}

/* A key of 1 to 20 bytes. */
static size_t key_of(uint64_t n, char *key)
{
    return (size_t)snprintf(key, 21, "%.*s%llu", (int)(n % 7), "-------", (unsigned long long)n);
}

/* The value with number n: 8 to 100 bytes that can be told from others. */
static size_t value_of(uint64_t n, char *value)
{
    size_t size = 8 + n * 7 % 93;

    memset(value, (int)n, size);
    memcpy(value, &n, sizeof n);
    return size;
}

/* Its number; UINT64_MAX: torn. */
static uint64_t number_of(const char *value, size_t size)
{
    char whole[100];
    uint64_t n;

    if (size < 8 || size > 100)
        return UINT64_MAX;
    memcpy(&n, value, sizeof n);
    return value_of(n, whole) == size && memcmp(whole, value, size) == 0 ? n : UINT64_MAX;
}

static int put(mp_map *map, uint64_t k, uint64_t v)
{
    char key[21], value[100];
    size_t key_size = key_of(k, key), size = value_of(v, value);

    return mp_map_put(map, key, key_size, value, size, PATIENCE);
}

static int drop(mp_map *map, uint64_t k)
{
    char key[21];

    return mp_map_delete(map, key, key_of(k, key), PATIENCE);
}

/* What is there; UINT64_MAX: torn; negative: the error. */
static int64_t get(mp_map *map, uint64_t k)
{
    char key[21], value[100];
    size_t size = 0;
    int r = mp_map_get(map, key, key_of(k, key), value, sizeof value, &size);

    return r < 0 ? r : (int64_t)number_of(value, size);
}

/* ---- one alone ---- */

static void test_refuses(void **state)
{
    mp_arena *arena = make_arena();
    char key[21] = "key", value[101] = "value";
    mp_map *map = make(arena, 4), *other = NULL;
    struct mp_map_item item = {.key = key, .key_size = 21};
    struct mp_map_options small = {.struct_size = 8, .capacity = 1};
    uint64_t n = 7;
    size_t size = 7;

    (void)state;
#define refused(...) mp_map_create(arena, "a", MP_MAP_OPTIONS(__VA_ARGS__), &other)
    assert_int_equal(refused(.capacity = 0), -EINVAL);
    assert_int_equal(refused(.capacity = MP_MAP_CAPACITY_MAX + 1), -EINVAL);
    assert_int_equal(refused(.capacity = MP_MAP_CAPACITY_MAX), -EMSGSIZE);
    assert_int_equal(refused(.capacity = 1, .key_max = UINT32_MAX), -EMSGSIZE);
    assert_int_equal(refused(.capacity = 1, .value_max = UINT32_MAX), -EMSGSIZE);
    assert_int_equal(mp_map_create(arena, "a", &small, &other), -EINVAL);
    assert_int_equal(mp_map_create(arena, "a", NULL, &other), -EINVAL);
    assert_int_equal(mp_map_create(NULL, "a", MP_MAP_OPTIONS(.capacity = 1), &other), -EINVAL);
    assert_int_equal(mp_map_create(arena, "a", MP_MAP_OPTIONS(.capacity = 1), NULL), -EINVAL);
    assert_int_equal(mp_map_create(arena, "map", MP_MAP_OPTIONS(.capacity = 1), &other), -EEXIST);
    assert_int_equal(mp_map_create(arena, "", MP_MAP_OPTIONS(.capacity = 1), &other),
                     -ENAMETOOLONG);
    assert_int_equal(mp_map_open(NULL, "map", &other), -EINVAL);
    assert_int_equal(mp_map_open(arena, NULL, &other), -EINVAL);
    assert_int_equal(mp_map_open(arena, "map", NULL), -EINVAL);
    assert_int_equal(mp_map_open(arena, "none", &other), -ENOENT);
    assert_null(other);
    assert_null(mp_map_close(NULL));
    assert_null(mp_map_name(NULL));
    assert_int_equal(mp_map_capacity(NULL), 0);
    assert_int_equal(mp_map_key_max(NULL), 0);
    assert_int_equal(mp_map_value_max(NULL), 0);
    assert_int_equal(mp_map_destroy(NULL), -EINVAL);
    assert_int_equal(mp_map_put(NULL, key, 3, value, 5, 0), -EINVAL);
    assert_int_equal(mp_map_put(map, NULL, 3, value, 5, 0), -EINVAL);
    assert_int_equal(mp_map_put(map, key, 0, value, 5, 0), -EINVAL);
    assert_int_equal(mp_map_put(map, key, 3, NULL, 5, 0), -EINVAL);
    assert_int_equal(mp_map_put(map, key, 21, value, 5, 0), -EMSGSIZE);
    assert_int_equal(mp_map_put(map, key, SIZE_MAX, value, 5, 0), -EMSGSIZE);
    assert_int_equal(mp_map_put(map, key, 3, value, 101, 0), -EMSGSIZE);
    assert_int_equal(mp_map_put_if(NULL, key, 3, NULL, 0, value, 5, 0), -EINVAL);
    assert_int_equal(mp_map_put_if(map, key, 3, NULL, 1, value, 5, 0), -EINVAL);
    assert_int_equal(mp_map_put_if(map, key, 21, NULL, 0, value, 5, 0), -EMSGSIZE);
    assert_int_equal(mp_map_delete(NULL, key, 3, 0), -EINVAL);
    assert_int_equal(mp_map_delete(map, NULL, 3, 0), -EINVAL);
    assert_int_equal(mp_map_delete(map, key, 0, 0), -EINVAL);
    assert_int_equal(mp_map_delete(map, key, 3, 0), -ENOENT);
    assert_int_equal(mp_map_get(NULL, key, 3, value, 100, &size), -EINVAL);
    assert_int_equal(mp_map_get(map, NULL, 3, value, 100, &size), -EINVAL);
    assert_int_equal(mp_map_get(map, key, 3, NULL, 100, &size), -EINVAL);
    assert_int_equal(mp_map_get(map, key, 3, value, 100, &size), -ENOENT);
    assert_int_equal(mp_map_get(map, key, 21, value, 100, &size), -EMSGSIZE);
    assert_int_equal(mp_map_contains(NULL, key, 3), -EINVAL);
    assert_int_equal(mp_map_contains(map, key, 0), -EINVAL);
    assert_int_equal(mp_map_contains(map, key, 21), -EMSGSIZE);
    assert_int_equal(mp_map_len(NULL, &n), -EINVAL);
    assert_int_equal(mp_map_len(map, NULL), -EINVAL);
    assert_int_equal(mp_map_next(NULL, &item), -EINVAL);
    assert_int_equal(mp_map_next(map, NULL), -EINVAL);
    assert_int_equal(mp_map_next(map, &item), -EMSGSIZE);
    item.key = NULL;
    assert_int_equal(mp_map_next(map, &item), -EINVAL);
    assert_int_equal(n, 7);
    assert_int_equal(size, 7);
    assert_int_equal(len(map), 0);
    mp_map_close(map);
    mp_arena_close(arena);
}

static void test_alone(void **state)
{
    mp_arena *arena = make_arena();
    mp_map *map = make(arena, 8), *same = find(arena);
    char value[100] = "";
    size_t size = 99;

    (void)state;
    assert_string_equal(mp_map_name(map), "map");
    assert_int_equal(mp_map_capacity(same), 8);
    assert_int_equal(mp_map_key_max(same), 20);
    assert_int_equal(mp_map_value_max(same), 100);
    assert_int_equal(mp_map_put(map, "a", 1, "one", 3, 0), 0);
    assert_int_equal(mp_map_put(same, "b", 1, "two!", 4, 0), 0);
    assert_int_equal(mp_map_get(same, "a", 1, value, sizeof value, &size), 0);
    assert_int_equal(size, 3);
    assert_memory_equal(value, "one", 3);
    assert_int_equal(mp_map_get(same, "a", 1, value, 2, &size), -EMSGSIZE);
    assert_int_equal(size, 3);
    assert_int_equal(mp_map_contains(map, "b", 1), 1);
    assert_int_equal(mp_map_contains(map, "b", 2), 0); /* with a NUL: another key */
    assert_int_equal(mp_map_contains(map, "c", 1), 0);
    assert_int_equal(len(map), 2);
    /* Shorter, empty, and longer again. */
    assert_int_equal(mp_map_put(map, "a", 1, "1", 1, 0), 0);
    assert_int_equal(mp_map_get(map, "a", 1, value, sizeof value, &size), 0);
    assert_int_equal(size, 1);
    assert_int_equal(mp_map_put(map, "a", 1, NULL, 0, 0), 0);
    assert_int_equal(mp_map_get(map, "a", 1, NULL, 0, &size), 0);
    assert_int_equal(size, 0);
    assert_int_equal(mp_map_put(map, "a", 1, "0123456789", 10, 0), 0);
    assert_int_equal(mp_map_get(map, "a", 1, value, sizeof value, NULL), 0);
    assert_memory_equal(value, "0123456789", 10);
    assert_int_equal(len(map), 2);
    assert_int_equal(mp_map_delete(same, "a", 1, 0), 0);
    assert_int_equal(mp_map_delete(same, "a", 1, 0), -ENOENT);
    assert_int_equal(mp_map_get(map, "a", 1, value, sizeof value, NULL), -ENOENT);
    assert_int_equal(len(same), 1);
    mp_map_close(map);
    mp_map_close(same);
    mp_arena_close(arena);
}

static void test_put_if(void **state)
{
    mp_arena *arena = make_arena();
    mp_map *map = make(arena, 2);
    char value[100] = "";

    (void)state;
    assert_int_equal(mp_map_put_if(map, "k", 1, "x", 1, "y", 1, 0), 0); /* there is none */
    assert_int_equal(mp_map_put_if(map, "k", 1, NULL, 0, "first", 5, 0), 1);
    assert_int_equal(mp_map_put_if(map, "k", 1, NULL, 0, "second", 6, 0), 0);
    assert_int_equal(mp_map_put_if(map, "k", 1, "firs", 4, "second", 6, 0), 0);
    assert_int_equal(mp_map_put_if(map, "k", 1, "firsx", 5, "second", 6, 0), 0);
    assert_int_equal(mp_map_get(map, "k", 1, value, sizeof value, NULL), 0);
    assert_memory_equal(value, "first", 5);
    assert_int_equal(mp_map_put_if(map, "k", 1, "first", 5, NULL, 0, 0), 1);
    assert_int_equal(mp_map_put_if(map, "k", 1, "", 0, "third", 5, 0), 1); /* empty, not none */
    assert_int_equal(mp_map_put_if(map, "l", 1, NULL, 0, "x", 1, 0), 1);
    assert_int_equal(mp_map_put_if(map, "m", 1, NULL, 0, "x", 1, 0), -ENOBUFS);
    assert_int_equal(len(map), 2);
    mp_map_close(map);
    mp_arena_close(arena);
}

/* Filled and emptied, again and again, in any order: full at exactly its capacity. */
static void test_full(void **state)
{
    static const uint32_t capacities[] = {1, 2, 3, 64, 1000};
    mp_arena *arena = make_arena();

    (void)state;
    for (unsigned c = 0; c < MP_ARRAY_SIZE(capacities); c++) {
        uint32_t capacity = capacities[c];
        mp_map *map = make(arena, capacity);

        for (uint64_t round = 0; round < 4; round++) {
            uint64_t first = round * 1000000;

            for (uint64_t k = first; k < first + capacity; k++)
                assert_int_equal(put(map, k, k), 0);
            assert_int_equal(put(map, first + capacity, 1), -ENOBUFS);
            assert_int_equal(len(map), capacity);
            for (uint64_t k = first; k < first + capacity; k++)
                assert_int_equal(put(map, k, k + 1), 0); /* what is there can be replaced */
            for (uint64_t k = first; k < first + capacity; k++)
                assert_int_equal(get(map, k), k + 1);
            assert_int_equal(get(map, first + capacity), -ENOENT);
            for (uint64_t k = first; k < first + capacity; k += 2)
                assert_int_equal(drop(map, k), 0);
            for (uint64_t k = first; k < first + capacity; k++)
                assert_int_equal(get(map, k), k % 2 == first % 2 ? -ENOENT : (int64_t)k + 1);
            for (uint64_t k = first + 1; k < first + capacity; k += 2)
                assert_int_equal(drop(map, k), 0);
            assert_int_equal(len(map), 0);
        }
        assert_int_equal(mp_map_destroy(map), 0);
        mp_map_close(map);
    }
    mp_arena_close(arena);
}

/* Against an array, by chance. */
static void test_chance(void **state)
{
    enum { KEYS = 50, TIMES = 20000 };
    mp_arena *arena = make_arena();
    mp_map *map = make(arena, 40);
    int64_t expected[KEYS];
    uint32_t seed = 1, n = 0;

    (void)state;
    for (int k = 0; k < KEYS; k++)
        expected[k] = -ENOENT;
    for (int i = 0; i < TIMES; i++) {
        uint32_t k, full;

        seed = seed * 1103515245 + 12345;
        k = seed / 65536 % KEYS;
        full = n == 40 && expected[k] < 0;
        switch (seed >> 8 & 3) {
        case 0:
            assert_int_equal(drop(map, k), expected[k] < 0 ? -ENOENT : 0);
            n -= expected[k] >= 0;
            expected[k] = -ENOENT;
            break;
        case 1:
            assert_int_equal(get(map, k), expected[k]);
            break;
        default:
            assert_int_equal(put(map, k, (uint64_t)i), full ? -ENOBUFS : 0);
            if (full)
                break;
            n += expected[k] < 0;
            expected[k] = i;
        }
        assert_int_equal(len(map), n);
    }
    mp_map_close(map);
    mp_arena_close(arena);
}

/* How often each key comes. */
static void go_through(mp_map *map, unsigned *seen, uint64_t keys)
{
    char key[20], value[100], same[21];
    struct mp_map_item item = {.key = key, .value = value};
    int r;

    memset(seen, 0, keys * sizeof *seen);
    while ((r = mp_map_next(map, &item)) == 1) {
        uint64_t n = number_of(value, item.value_size), k = n % 1000;

        assert(k < keys);
        assert(key_of(k, same) == item.key_size && memcmp(key, same, item.key_size) == 0);
        seen[k]++;
    }
    assert(r == 0);
}

static void test_next(void **state)
{
    enum { KEYS = 100 };
    mp_arena *arena = make_arena();
    mp_map *map = make(arena, KEYS);
    unsigned seen[KEYS];
    char key[20];
    struct mp_map_item item = {.key = key};

    (void)state;
    assert_int_equal(mp_map_next(map, &item), 0);
    for (uint64_t k = 0; k < KEYS; k++)
        assert_int_equal(put(map, k, k + 1000), 0);
    for (int round = 0; round < 2; round++) {
        go_through(map, seen, KEYS);
        for (int k = 0; k < KEYS; k++)
            assert_int_equal(seen[k], round == 0 || k % 3 != 0);
        for (uint64_t k = 0; k < KEYS && round == 0; k += 3)
            assert_int_equal(drop(map, k), 0);
    }
    /* One may delete what one stands at, and all. */
    for (unsigned n = 0; mp_map_next(map, &item) == 1; n++) {
        assert_int_equal(item.value_size, 0);
        assert_int_equal(mp_map_delete(map, key, item.key_size, 0), 0);
    }
    assert_int_equal(len(map), 0);
    mp_map_close(map);
    mp_arena_close(arena);
}

static void test_destroy(void **state)
{
    mp_arena *arena = make_arena();
    mp_map *map = make(arena, 10), *after;
    char key[20], value[100];
    struct mp_map_item item = {.key = key};
    uint64_t n;

    (void)state;
    assert_int_equal(put(map, 1, 1), 0);
    assert_int_equal(mp_map_destroy(map), 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(mp_map_destroy(map), -ESTALE);
        assert_int_equal(put(map, 1, 1), -ESTALE);
        assert_int_equal(drop(map, 1), -ESTALE);
        assert_int_equal(get(map, 1), -ESTALE);
        assert_int_equal(mp_map_get(map, "k", 1, value, 100, NULL), -ESTALE);
        assert_int_equal(mp_map_put_if(map, "k", 1, NULL, 0, NULL, 0, 0), -ESTALE);
        assert_int_equal(mp_map_contains(map, "k", 1), -ESTALE);
        assert_int_equal(mp_map_len(map, &n), -ESTALE);
        assert_int_equal(mp_map_next(map, &item), -ESTALE);
        if (round == 0)
            after = make(arena, 10);
    }
    assert_int_equal(len(after), 0);
    assert_int_equal(get(after, 1), -ENOENT);
    mp_map_close(after);
    mp_map_close(map);
    mp_arena_close(arena);
}

/* ---- with others ---- */

/* Each puts keys of its own, reads them, and takes half of them out again. */
PART(put_own)
{
    mp_map *map = find(part->arena);
    uint64_t first = part->index * 100;

    for (uint64_t round = 0; round < part->argument; round++) {
        for (uint64_t k = first; k < first + 20; k++)
            assert(put(map, k, k + round * 1000) == 0);
        for (uint64_t k = first; k < first + 20; k++)
            assert(get(map, k) == (int64_t)(k + round * 1000));
        for (uint64_t k = first; k < first + 20; k += 2)
            assert(drop(map, k) == 0);
    }
    mp_map_close(map);
}

static void test_put_together(void **state)
{
    enum { N = 4 };
    struct crew crew;
    mp_arena *arena;
    mp_map *map;

    need_carrier(state);
    arena = make_arena();
    map = make(arena, N * 20);
    crew_start(&crew, carrier_of(state), arena, put_own, N, 40);
    crew_join(&crew);
    assert_int_equal(len(map), N * 10);
    for (uint64_t k = 0; k < N * 100; k++)
        assert_int_equal(get(map, k), k % 100 < 20 && k % 2 ? (int64_t)k + 39000 : -ENOENT);
    mp_map_close(map);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* The first writes: even keys stay, and get new values; odd ones come and go. The others see all
 * even ones in each round through the map, once, and no value that is torn or goes back. */
PART(write_or_look)
{
    enum { KEYS = 60 };
    mp_map *map = find(part->arena), *done = NULL;
    unsigned seen[KEYS];
    int64_t last = 0, v;

    assert(mp_map_open(part->arena, "done", &done) == 0);
    for (uint64_t i = 1; part->index == 0 && i <= part->argument; i++)
        for (uint64_t k = 0; k < KEYS; k++) {
            if (k % 2 == 0 || i % 2)
                assert(put(map, k, k + i * 1000) == 0);
            else
                assert(drop(map, k) == 0);
        }
    if (part->index == 0)
        assert(mp_map_put(done, "done", 4, NULL, 0, PATIENCE) == 0);
    while (mp_map_contains(done, "done", 4) == 0) {
        go_through(map, seen, KEYS);
        for (unsigned k = 0; k < KEYS; k++)
            assert(k % 2 ? seen[k] <= 1 : seen[k] == 1);
        v = get(map, 42);
        assert(v >= last && v % 1000 == 42);
        last = v;
    }
    mp_map_close(map);
    mp_map_close(done);
}

static void test_look_while_written(void **state)
{
    struct crew crew;
    mp_arena *arena;
    mp_map *map, *done;

    need_carrier(state);
    arena = make_arena();
    map = make(arena, 60);
    assert_int_equal(mp_map_create(arena, "done", MP_MAP_OPTIONS(.capacity = 1), &done), 0);
    for (uint64_t k = 0; k < 60; k++)
        assert_int_equal(put(map, k, k), 0);
    crew_start(&crew, carrier_of(state), arena, write_or_look, 3, 100);
    crew_join(&crew);
    assert_int_equal(len(map), 30);
    mp_map_close(map);
    mp_map_close(done);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- deaths ---- */

PART(write_for_ever)
{
    mp_map *map = find(part->arena);
    int r;

    for (uint64_t i = 0;; i++) {
        assert(put(map, i % 10, i % 10 + i * 1000) == 0);
        assert(put(map, 10, i) == 0);
        r = drop(map, 10);
        assert(r == 0 || r == -ENOENT); /* another did it */
    }
}

/* Wherever writers are killed: the entries that were there are there and whole, and there is room
 * for as many as ever. */
static void test_writers_die(void **state)
{
    enum { N = 3, ROUNDS = 30 };
    struct crew crew;
    mp_arena *arena;
    mp_map *map;

    need_carrier(state);
    arena = make_arena();
    map = make(arena, 11);
    for (uint64_t k = 0; k < 10; k++)
        assert_int_equal(put(map, k, k), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        int64_t was = get(map, 3);

        crew_start(&crew, carrier_of(state), arena, write_for_ever, N, 0);
        until(get(map, 3) != was);
        for (unsigned i = 0; i < N; i++)
            crew_kill(&crew, i);
        for (uint64_t k = 0; k < 10; k++)
            assert_int_equal(get(map, k) % 1000 % 10, k);
        assert_true(len(map) == (get(map, 10) >= 0 ? 11 : 10));
        assert_int_equal(put(map, 10, 1), 0);
        assert_int_equal(put(map, 11, 1), -ENOBUFS);
        assert_int_equal(len(map), 11);
        assert_int_equal(drop(map, 10), 0);
        until(settled(arena, 1));
    }
    mp_map_close(map);
    mp_arena_close(arena);
}

static void use_parents_handle(void *user)
{
    assert(get(user, 1) == 1);
    assert(put(user, 2, 2) == 0);
}

static void test_fork(void **state)
{
    mp_arena *arena;
    mp_map *map;

    need_carrier(state);
    arena = make_arena();
    map = make(arena, 5);
    assert_int_equal(put(map, 1, 1), 0);
    child_join(child_start(use_parents_handle, map));
    assert_int_equal(get(map, 2), 2);
    mp_map_close(map);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

static void stop_in_it(void *user)
{
    mp_arena *arena = user;
    int r = 0;

    /* As one that is stopped in the middle of a put. */
    mp_store_seqcst(&arena->directory[0].word, mp_arena_enter(arena, &r));
    raise(SIGSTOP);
}

/* One writer is stopped: readers go on, writers wait for as long as they say. */
static void test_stopped_writer(void **state)
{
    mp_arena *arena;
    uint64_t n;
    mp_map *map;
    pid_t pid;

    need_carrier(state);
    arena = make_arena();
    map = make(arena, 5);
    assert_int_equal(put(map, 1, 1), 0);
    pid = child_start(stop_in_it, arena);
    assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
    assert_int_equal(get(map, 1), 1);
    assert_int_equal(mp_map_put(map, "k", 1, "v", 1, 0), -EAGAIN);
    assert_int_equal(mp_map_put(map, "k", 1, "v", 1, MP_MSEC(5)), -ETIMEDOUT);
    assert_int_equal(mp_map_delete(map, "k", 1, 0), -EAGAIN);
    assert_int_equal(mp_map_len(map, &n), -ETIMEDOUT);
    assert_int_equal(mp_map_destroy(map), -EBUSY);
    child_kill(pid);
    assert_int_equal(mp_map_put(map, "k", 1, "v", 1, PATIENCE), 0);
    assert_int_equal(len(map), 2);
    mp_map_close(map);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- somebody writes over it ---- */

static void test_hostile_words(void **state)
{
    enum { ROUNDS = 3000 };
    mp_arena *arena = make_arena();
    mp_map *map = make(arena, 30);
    struct mp_directory_entry *e = &arena->directory[0];
    uint32_t x = mp_directory_block(arena, e), seed = 7;
    const struct mp_class *k =
        &arena->geometry.classes[mp_geometry_block_class(&arena->geometry, x)];
    mp_a32 *words = mp_arena_block(arena, k, x);
    char key[20], value[100];
    struct mp_map_item item;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        for (uint64_t i = 0; i < 8; i++)
            put(map, i, i);
        for (int i = 0; i < 4; i++) {
            seed = seed * 1103515245 + 12345;
            /* Numbers that could be records', and others. */
            mp_store_relaxed(&words[seed / 65536 % 400],
                             round % 2 ? seed >> 8 & 31 : seed * 2654435761u);
        }
        if (round % 3 == 0)
            mp_store_relaxed(&e->word, MP_TOKEN_DIED);
        for (uint64_t i = 0; i < 10; i++) {
            get(map, i);
            put(map, i, i);
            drop(map, i / 2);
        }
        item = (struct mp_map_item){.key = key, .value = value};
        /* It may go round in circles there, but each step ends. */
        for (int i = 0; i < 40 && mp_map_next(map, &item) == 1; i++)
            assert_true(item.key_size <= 20 && item.value_size <= 100);
    }
    mp_store_relaxed(&e->word, 0x12345678);
    assert_int_equal(put(map, 1, 1), -ENOTRECOVERABLE);
    assert_int_equal(mp_map_destroy(map), 0);
    mp_map_close(map);
    mp_arena_close(arena);
}

static void test_hostile_entry(void **state)
{
    mp_arena *arena = make_arena();
    mp_map *map = make(arena, 30), *other;
    struct mp_directory_entry *e = &arena->directory[0];
    uint64_t size = mp_load_relaxed(&e->size), block = mp_load_relaxed(&e->block);
    static const uint64_t sizes[] = {0, 1, UINT64_MAX, UINT64_C(1000) << 32, UINT64_C(1) << 40};

    (void)state;
    assert_int_equal(put(map, 1, 1), 0);
    for (unsigned i = 0; i < MP_ARRAY_SIZE(sizes); i++) {
        mp_store_relaxed(&e->size, sizes[i]);
        assert_int_equal(mp_map_open(arena, "map", &other), -EPROTO);
    }
    mp_store_relaxed(&e->size, size);
    for (unsigned i = 0; i < MP_ARRAY_SIZE(sizes); i++) {
        if (sizes[i] == 1)
            continue;
        mp_store_relaxed(&e->cells, sizes[i]);
        assert_int_equal(mp_map_open(arena, "map", &other), -EPROTO);
    }
    mp_store_relaxed(&e->cells, 30);
    mp_store_relaxed(&e->block, UINT64_MAX);
    assert_int_equal(mp_map_open(arena, "map", &other), -EPROTO);
    assert_int_equal(get(map, 1), 1);
    assert_int_equal(put(map, 2, 2), 0);
    mp_store_relaxed(&e->block, block);
    assert_int_equal(mp_map_open(arena, "map", &other), 0);
    assert_int_equal(get(other, 2), 2);
    mp_map_close(other);
    mp_map_close(map);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_refuses),
        clean_test(test_alone),
        clean_test(test_put_if),
        clean_test(test_full),
        clean_test(test_chance),
        clean_test(test_next),
        clean_test(test_destroy),
        on_carriers(test_put_together),
        on_carriers(test_look_while_written),
        on_processes(test_writers_die),
        carried_test(test_fork, FORK),
        carried_test(test_stopped_writer, FORK),
        clean_test(test_hostile_words),
        clean_test(test_hostile_entry),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
