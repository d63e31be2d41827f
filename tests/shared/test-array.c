/* SPDX-License-Identifier: MIT */
/* Arrays: slices and their bounds; and every error. What arrays have in common with values is in
 * test-value.c, Python's cases in test-value-python.c. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
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

#define PATIENCE MP_SEC(20)

struct pair {
    int64_t a;
    char b[5];
};

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create(
            "array", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 16), &arena),
        0);
    return arena;
}

#define make(arena, ...)                                                                         \
    ({                                                                                           \
        mp_array *made_ = NULL;                                                                  \
        assert_int_equal(mp_array_create(arena, "array", MP_ARRAY_OPTIONS(__VA_ARGS__), &made_), \
                         0);                                                                     \
        made_;                                                                                   \
    })

static mp_array *find(mp_arena *arena)
{
    mp_array *array;

    assert(mp_array_open(arena, "array", &array) == 0);
    return array;
}

/* ---- one alone ---- */

static void test_refuses(void **state)
{
    mp_arena *arena = make_arena();
    mp_array *array = make(arena, .type = 'i', .length = 5), *other = NULL;
    mp_value *value = NULL;
    int32_t n[5] = {0};
    uint64_t word = 0;

    (void)state;
#define refused(...) mp_array_create(arena, "a", MP_ARRAY_OPTIONS(__VA_ARGS__), &other)
    assert_int_equal(refused(.length = 5), -EINVAL);
    assert_int_equal(refused(.type = 'x', .length = 5), -EINVAL);
    assert_int_equal(refused(.type = 'i', .size = 3, .length = 5), -EINVAL);
    assert_int_equal(refused(.type = 'i', .flags = MP_VALUE_VERSIONED), -EINVAL);
    assert_int_equal(refused(.type = 'i', .length = SIZE_MAX), -EMSGSIZE);
    assert_int_equal(refused(.type = 'd', .length = SIZE_MAX / 8 + 2), -EMSGSIZE);
    assert_int_equal(refused(.size = SIZE_MAX, .length = 2), -EMSGSIZE);
    assert_int_equal(refused(.type = 'c', .length = mp_arena_max_block(arena) + 1), -EMSGSIZE);
    assert_int_equal(mp_array_create(arena, "array", MP_ARRAY_OPTIONS(.type = 'i'), &other),
                     -EEXIST);
    assert_int_equal(mp_array_create(arena, "a", NULL, &other), -EINVAL);
    assert_int_equal(mp_array_create(NULL, "a", MP_ARRAY_OPTIONS(.type = 'i'), &other), -EINVAL);
    assert_int_equal(mp_array_create(arena, "a", MP_ARRAY_OPTIONS(.type = 'i'), NULL), -EINVAL);
    assert_int_equal(mp_array_open(NULL, "array", &other), -EINVAL);
    assert_int_equal(mp_array_open(arena, NULL, &other), -EINVAL);
    assert_int_equal(mp_array_open(arena, "array", NULL), -EINVAL);
    assert_int_equal(mp_array_open(arena, "none", &other), -ENOENT);
    assert_int_equal(mp_value_open(arena, "array", &value), -ENOENT); /* of another kind */
    assert_null(other);
    assert_int_equal(mp_array_destroy(NULL), -EINVAL);
    assert_int_equal(mp_array_lock(NULL, 0), -EINVAL);
    assert_int_equal(mp_array_unlock(NULL), -EINVAL);
    assert_int_equal(mp_array_get(NULL, 0, n, 4), -EINVAL);
    assert_int_equal(mp_array_get(array, 0, NULL, 4), -EINVAL);
    assert_int_equal(mp_array_get(array, 0, n, 8), -EINVAL);
    assert_int_equal(mp_array_get(array, 5, n, 4), -ERANGE);
    assert_int_equal(mp_array_get(array, SIZE_MAX, n, 4), -ERANGE);
    assert_int_equal(mp_array_set(NULL, 0, n, 4), -EINVAL);
    assert_int_equal(mp_array_set(array, 0, NULL, 4), -EINVAL);
    assert_int_equal(mp_array_set(array, 5, n, 4), -ERANGE);
    assert_int_equal(mp_array_get_slice(NULL, 0, 1, n, 4), -EINVAL);
    assert_int_equal(mp_array_get_slice(array, 0, 1, NULL, 4), -EINVAL);
    assert_int_equal(mp_array_set_slice(NULL, 0, 1, n, 4), -EINVAL);
    assert_int_equal(mp_array_set_slice(array, 0, 1, NULL, 4), -EINVAL);
    assert_int_equal(mp_array_add(NULL, 0, 1, NULL), -EINVAL);
    assert_int_equal(mp_array_add(array, 5, 1, NULL), -ERANGE);
    assert_int_equal(mp_array_add_double(NULL, 0, 1, NULL), -EINVAL);
    assert_int_equal(mp_array_add_double(array, 0, 1, NULL), -EINVAL);
    assert_int_equal(mp_array_atomic_load(NULL, 0, &word), -EINVAL);
    assert_int_equal(mp_array_atomic_load(array, 0, NULL), -EINVAL);
    assert_int_equal(mp_array_atomic_load(array, 5, &word), -ERANGE);
    assert_int_equal(mp_array_atomic_store(NULL, 0, 1), -EINVAL);
    assert_int_equal(mp_array_atomic_store(array, SIZE_MAX, 1), -ERANGE);
    assert_int_equal(mp_array_atomic_add(NULL, 0, 1, NULL), -EINVAL);
    assert_int_equal(mp_array_atomic_add(array, 5, 1, NULL), -ERANGE);
    assert_int_equal(mp_array_atomic_exchange_if(NULL, 0, &word, 1), -EINVAL);
    assert_int_equal(mp_array_atomic_exchange_if(array, 0, NULL, 1), -EINVAL);
    assert_int_equal(mp_array_atomic_exchange_if(array, 5, &word, 1), -ERANGE);
    assert_null(mp_array_memory(NULL));
    assert_null(mp_array_name(NULL));
    assert_null(mp_array_close(NULL));
    assert_int_equal(mp_array_len(NULL), 0);
    assert_int_equal(mp_array_item_size(NULL), 0);
    assert_int_equal(mp_array_type(NULL), 0);
    mp_array_close(array);
    mp_arena_close(arena);
}

/* Python's test_array_from_size: zeroes, then what is set; and again where memory was used. */
static void test_from_size(void **state)
{
    enum { N = 10 };
    int32_t set[N], got[N];
    mp_arena *arena = make_arena();

    (void)state;
    for (int round = 0; round < 3; round++) {
        mp_array *array = make(arena, .type = 'i', .length = N);
        static const int32_t zero[N];

        assert_int_equal(mp_array_len(array), N);
        assert_int_equal(mp_array_item_size(array), 4);
        assert_int_equal(mp_array_type(array), MP_TYPE_INT32);
        assert_string_equal(mp_array_name(array), "array");
        assert_int_equal(mp_array_get_slice(array, 0, N, got, sizeof got), 0);
        assert_memory_equal(got, zero, sizeof got);
        for (int i = 0; i < N; i++)
            set[i] = i - 5;
        assert_int_equal(mp_array_set_slice(array, 0, N, set, sizeof set), 0);
        assert_int_equal(mp_array_get_slice(array, 0, N, got, sizeof got), 0);
        assert_memory_equal(got, set, sizeof got);
        assert_memory_equal(mp_array_memory(array), set, sizeof set);
        assert_int_equal(mp_array_destroy(array), 0);
        assert_int_equal(mp_array_get(array, 0, got, 4), -ESTALE);
        assert_int_equal(mp_array_set_slice(array, 0, N, set, sizeof set), -ESTALE);
        assert_int_equal(mp_array_add(array, 0, 1, NULL), -ESTALE);
        assert_int_equal(mp_array_atomic_store(array, 0, 1), -ESTALE);
        assert_int_equal(mp_array_destroy(array), -ESTALE);
        mp_array_close(array);
    }
    mp_arena_close(arena);
}

static void test_slices(void **state)
{
    static const int16_t initial[] = {680, 626, 934, 821, 150, 233, 548, 982, 714, 831};
    mp_arena *arena = make_arena();
    mp_array *array = make(arena, .type = 'h', .length = 10, .initial = initial);
    int16_t got[10] = {0};

    (void)state;
    assert_int_equal(mp_array_get_slice(array, 2, 4, got, 8), 0);
    assert_memory_equal(got, initial + 2, 8);
    assert_int_equal(got[4], 0);
    assert_int_equal(mp_array_get_slice(array, 9, 1, got, 2), 0);
    assert_int_equal(got[0], 831);
    assert_int_equal(mp_array_get_slice(array, 0, 0, NULL, 0), 0);
    assert_int_equal(mp_array_get_slice(array, 10, 0, got, 0), 0);
    assert_int_equal(mp_array_get_slice(array, 11, 0, got, 0), -ERANGE);
    assert_int_equal(mp_array_get_slice(array, 9, 2, got, 4), -ERANGE);
    assert_int_equal(mp_array_get_slice(array, 1, SIZE_MAX, got, sizeof got), -ERANGE);
    assert_int_equal(mp_array_get_slice(array, SIZE_MAX, 2, got, 4), -ERANGE);
    assert_int_equal(mp_array_get_slice(array, 0, 2, got, 5), -EINVAL);
    assert_int_equal(mp_array_set_slice(array, 5, 6, got, 12), -ERANGE);
    assert_int_equal(mp_array_set_slice(array, 3, 3, (int16_t[]){1, 2, 3}, 6), 0);
    assert_int_equal(mp_array_get_slice(array, 2, 5, got, 10), 0);
    assert_memory_equal(got, ((int16_t[]){934, 1, 2, 3, 548}), 10);
    mp_array_close(array);
    mp_arena_close(arena);
}

/* None at all, and the largest there can be. */
static void test_extremes(void **state)
{
    mp_arena *arena = make_arena();
    size_t most = mp_arena_max_block(arena);
    mp_array *array = make(arena, .type = 'd');
    double x;
    char c = 7;

    (void)state;
    assert_int_equal(mp_array_len(array), 0);
    assert_int_equal(mp_array_get(array, 0, &x, sizeof x), -ERANGE);
    assert_int_equal(mp_array_get_slice(array, 0, 0, NULL, 0), 0);
    assert_int_equal(mp_array_destroy(array), 0);
    mp_array_close(array);
    array = make(arena, .type = 'c', .length = most);
    assert_int_equal(mp_array_set(array, most - 1, &c, 1), 0);
    assert_int_equal(mp_array_get(array, most - 1, &c, 1), 0);
    assert_int_equal(c, 7);
    assert_int_equal(mp_array_get(array, most, &c, 1), -ERANGE);
    assert_int_equal(mp_array_destroy(array), 0);
    mp_array_close(array);
    mp_arena_close(arena);
}

static void test_structs(void **state)
{
    mp_arena *arena = make_arena();
    struct pair p = {.a = -1, .b = "abcd"}, q = {0};
    mp_array *array = make(arena, .size = sizeof p, .length = 3, .flags = MP_VALUE_UNLOCKED);
    mp_array *odd;
    uint64_t word;
    char three[3];

    (void)state;
    assert_int_equal(mp_array_set(array, 1, &p, sizeof p), 0);
    assert_int_equal(mp_array_get(array, 1, &q, sizeof q), 0);
    assert_true(q.a == -1 && memcmp(q.b, "abcd", 5) == 0);
    assert_int_equal(mp_array_get(array, 2, &q, sizeof q), 0);
    assert_true(q.a == 0 && memcmp(q.b, (char[5]){0}, 5) == 0);
    assert_int_equal(mp_array_lock(array, 0), -EINVAL);
    assert_int_equal(mp_array_unlock(array), -EINVAL);
    assert_int_equal(mp_array_add(array, 0, 1, NULL), -EINVAL);
    assert_int_equal(mp_array_atomic_load(array, 0, &word), -EINVAL); /* sixteen bytes */
    assert_int_equal(mp_array_create(arena, NULL, MP_ARRAY_OPTIONS(.size = 3, .length = 7), &odd),
                     0);
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(mp_array_set(odd, i, (char[]){(char)i, (char)i, (char)i}, 3), 0);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(mp_array_get(odd, i, three, 3), 0);
        assert_true(three[0] == (char)i && three[1] == (char)i && three[2] == (char)i);
    }
    mp_array_close(odd);
    mp_array_close(array);
    mp_arena_close(arena);
}

static void test_items(void **state)
{
    mp_arena *arena = make_arena();
    mp_array *array = make(arena, .type = 'B', .length = 3), *reals;
    uint64_t word = 0;
    int64_t sum = 0;
    double real = 0;

    (void)state;
    assert_int_equal(mp_array_add(array, 1, -1, &sum), 0);
    assert_int_equal(sum, 255);
    assert_int_equal(mp_array_atomic_add(array, 1, 2, &word), 0);
    assert_int_equal(word, 255);
    assert_int_equal(mp_array_atomic_load(array, 1, &word), 0);
    assert_int_equal(word, 1);
    assert_int_equal(mp_array_atomic_exchange_if(array, 1, &word, 9), 1);
    assert_int_equal(mp_array_atomic_exchange_if(array, 1, &word, 9), 0);
    assert_int_equal(word, 9);
    assert_int_equal(mp_array_atomic_store(array, 2, 0x103), 0);
    assert_memory_equal(mp_array_memory(array), ((uint8_t[]){0, 9, 3}), 3);
    assert_int_equal(
        mp_array_create(arena, NULL, MP_ARRAY_OPTIONS(.type = 'f', .length = 2), &reals), 0);
    assert_int_equal(mp_array_add_double(reals, 1, 2.5, &real), 0);
    assert_int_equal(mp_array_add_double(reals, 1, 1, &real), 0);
    assert_true(real == 3.5);
    assert_int_equal(mp_array_add_double(reals, 2, 1, &real), -ERANGE);
    mp_array_close(reals);
    mp_array_close(array);
    mp_arena_close(arena);
}

/* ---- with others ---- */

/* Each adds one to every item under one lock, and sees that nobody is in between. */
PART(add_to_all)
{
    mp_array *array = find(part->arena);
    int64_t items[16];
    int64_t *memory = mp_array_memory(array);

    for (uint64_t n = 0; n < part->argument; n++) {
        if (n % 2) {
            assert(mp_array_lock(array, PATIENCE) == 0);
            for (int i = 0; i < 16; i++)
                memory[i]++;
            assert(mp_array_unlock(array) == 0);
        } else {
            assert(mp_array_lock(array, PATIENCE) == 0);
            for (size_t i = 0; i < 16; i++)
                assert(mp_array_add(array, i, 1, NULL) == 0);
            assert(mp_array_unlock(array) == 0);
        }
        assert(mp_array_get_slice(array, 0, 16, items, sizeof items) == 0);
        for (int i = 1; i < 16; i++)
            assert(items[i] == items[0]);
    }
    mp_array_close(array);
}

static void test_slices_are_whole(void **state)
{
    enum { N = 3, TIMES = 500 };
    struct crew crew;
    mp_arena *arena;
    mp_array *array;
    int64_t item;

    need_carrier(state);
    arena = make_arena();
    array = make(arena, .type = 'q', .length = 16);
    crew_start(&crew, carrier_of(state), arena, add_to_all, N, TIMES);
    crew_join(&crew);
    assert_int_equal(mp_array_get(array, 15, &item, sizeof item), 0);
    assert_int_equal(item, N * TIMES);
    mp_array_close(array);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- deaths ---- */

PART(die_with_it)
{
    mp_array *array = find(part->arena);

    assert(mp_array_lock(array, PATIENCE) == 0);
    assert(mp_array_atomic_store(array, 0, 1) == 0);
    for (;;)
        pause();
}

/* A part of it puts nothing in order; all of it does. */
static void test_owner_dies(void **state)
{
    int32_t items[4] = {0};
    struct crew crew;
    mp_arena *arena;
    mp_array *array;
    uint64_t n = 0;

    need_carrier(state);
    arena = make_arena();
    array = make(arena, .type = 'i', .length = 4);
    crew_start(&crew, carrier_of(state), arena, die_with_it, 1, 0);
    until(mp_array_atomic_load(array, 0, &n) == 0 && n == 1);
    crew_kill(&crew, 0);
    assert_int_equal(mp_array_get(array, 1, items, 4), MP_OWNER_DIED);
    assert_int_equal(mp_array_set(array, 1, items, 4), MP_OWNER_DIED);
    assert_int_equal(mp_array_get_slice(array, 0, 4, items, 16), MP_OWNER_DIED);
    assert_int_equal(items[0], 1);
    assert_int_equal(mp_array_set_slice(array, 0, 4, items, 16), MP_OWNER_DIED);
    assert_int_equal(mp_array_get_slice(array, 0, 4, items, 16), 0);
    mp_array_close(array);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_refuses),           clean_test(test_from_size),    clean_test(test_slices),
        clean_test(test_extremes),          clean_test(test_structs),      clean_test(test_items),
        on_carriers(test_slices_are_whole), on_processes(test_owner_dies),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
