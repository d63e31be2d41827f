/* SPDX-License-Identifier: MIT */
/*
 * What CPython's test classes of Value, Array and shared ctypes ask, case by case, under their
 * names, with and without a lock.
 *
 * Not here: test_array_from_size, in test-array.c; test_getobj_getlock, in test-value.c, but for a
 * lock of one's own, which is beside a value here and not in it.
 */

#undef NDEBUG
#include <assert.h>
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

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create(
            "python", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 16, .objects = 16), &arena),
        0);
    return arena;
}

static mp_value *make_value(mp_arena *arena, const char *name, uint32_t type, uint32_t flags,
                            size_t size, const void *initial)
{
    mp_value *value;

    assert_int_equal(mp_value_create(arena, name,
                                     MP_VALUE_OPTIONS(.type = type, .flags = flags, .size = size,
                                                      .initial = initial),
                                     &value),
                     0);
    return value;
}

static mp_array *make_array(mp_arena *arena, const char *name, uint32_t type, uint32_t flags,
                            size_t length, const void *initial)
{
    mp_array *array;

    assert_int_equal(mp_array_create(arena, name,
                                     MP_ARRAY_OPTIONS(.type = type, .flags = flags,
                                                      .length = length, .initial = initial),
                                     &array),
                     0);
    return array;
}

static mp_value *find_value(mp_arena *arena, const char *name)
{
    mp_value *value;

    assert(mp_value_open(arena, name, &value) == 0);
    return value;
}

static mp_array *find_array(mp_arena *arena, const char *name)
{
    mp_array *array;

    assert(mp_array_open(arena, name, &array) == 0);
    return array;
}

/* ---- Value: test_value, test_rawvalue ---- */

union number {
    int32_t i;
    double d;
    int16_t h;
    int64_t q;
    char c;
};

static const struct {
    const char *name; /* and type */
    union number before, after;
} codes[] = {
    {"i", {.i = 4343}, {.i = 24234}}, {"d", {.d = 3.625}, {.d = -4.25}},
    {"h", {.h = -232}, {.h = 234}},   {"q", {.q = INT64_C(1) << 33}, {.q = INT64_C(1) << 34}},
    {"c", {.c = 'x'}, {.c = 'y'}},
};

PART(set_all)
{
    for (size_t i = 0; i < MP_ARRAY_SIZE(codes); i++) {
        mp_value *value = find_value(part->arena, codes[i].name);

        assert(mp_value_set(value, &codes[i].after, mp_value_size(value)) == 0);
        mp_value_close(value);
    }
}

static void expect_number(mp_value *value, const void *expected)
{
    union number got;

    assert_true(mp_value_size(value) <= sizeof got);
    assert_int_equal(mp_value_get(value, &got, mp_value_size(value)), 0);
    assert_memory_equal(&got, expected, mp_value_size(value));
}

static void test_value(void **state)
{
    mp_value *values[MP_ARRAY_SIZE(codes)];
    mp_arena *arena;
    struct crew crew;

    need_carrier(state);
    for (uint32_t flags = 0; flags <= MP_VALUE_UNLOCKED; flags++) {
        arena = make_arena();
        for (size_t i = 0; i < MP_ARRAY_SIZE(codes); i++) {
            values[i] = make_value(arena, codes[i].name, (uint32_t)codes[i].name[0], flags, 0,
                                   &codes[i].before);
            expect_number(values[i], &codes[i].before);
        }
        crew_start(&crew, carrier_of(state), arena, set_all, 1, 0);
        crew_join(&crew);
        for (size_t i = 0; i < MP_ARRAY_SIZE(codes); i++) {
            expect_number(values[i], &codes[i].after);
            mp_value_close(values[i]);
        }
        until(settled(arena, 1));
        mp_arena_close(arena);
    }
}

/* ---- Array: test_array, test_rawarray ---- */

enum { LENGTH = 10 };

PART(run_sums)
{
    mp_array *array = find_array(part->arena, "array");
    int32_t before;

    for (size_t i = 1; i < mp_array_len(array); i++) {
        assert(mp_array_get(array, i - 1, &before, sizeof before) == 0);
        assert(mp_array_add(array, i, before, NULL) == 0);
    }
    mp_array_close(array);
}

static void test_array(void **state)
{
    int32_t seq[LENGTH], got[LENGTH];
    mp_arena *arena;
    mp_array *array;
    struct crew crew;

    need_carrier(state);
    for (uint32_t flags = 0; flags <= MP_VALUE_UNLOCKED; flags++) {
        memcpy(seq, ((int32_t[]){680, 626, 934, 821, 150, 233, 548, 982, 714, 831}), sizeof seq);
        arena = make_arena();
        array = make_array(arena, "array", 'i', flags, LENGTH, seq);
        assert_int_equal(mp_array_len(array), LENGTH);
        assert_int_equal(mp_array_get(array, 3, got, sizeof got[0]), 0);
        assert_int_equal(got[0], seq[3]);
        assert_int_equal(mp_array_get_slice(array, 2, 5, got, 5 * sizeof got[0]), 0);
        assert_memory_equal(got, seq + 2, 5 * sizeof got[0]);

        for (int i = 0; i < 4; i++)
            seq[4 + i] = i + 1;
        assert_int_equal(mp_array_set_slice(array, 4, 4, seq + 4, 4 * sizeof seq[0]), 0);
        assert_int_equal(mp_array_get_slice(array, 0, LENGTH, got, sizeof got), 0);
        assert_memory_equal(got, seq, sizeof seq);

        for (int i = 1; i < LENGTH; i++)
            seq[i] += seq[i - 1];
        crew_start(&crew, carrier_of(state), arena, run_sums, 1, 0);
        crew_join(&crew);
        assert_int_equal(mp_array_get_slice(array, 0, LENGTH, got, sizeof got), 0);
        assert_memory_equal(got, seq, sizeof seq);
        mp_array_close(array);
        until(settled(arena, 1));
        mp_arena_close(arena);
    }
}

/* ---- shared ctypes: test_sharedctypes, test_synchronize ---- */

struct foo {
    int32_t x;
    double y;
    int64_t z;
};

enum { STRING = 20 };

static void double_struct(mp_value *value)
{
    struct foo foo;
    bool locked = mp_value_lock(value, MP_FOREVER) == 0;

    assert(mp_value_get(value, &foo, sizeof foo) == 0);
    foo.x *= 2;
    foo.y *= 2;
    assert(mp_value_set(value, &foo, sizeof foo) == 0);
    assert(!locked || mp_value_unlock(value) == 0);
}

static void double_string(mp_array *string)
{
    char text[STRING] = {0};
    size_t n;

    assert(mp_array_get_slice(string, 0, STRING, text, STRING) == 0);
    n = strnlen(text, STRING);
    assert(2 * n <= STRING);
    assert(mp_array_set_slice(string, n, n, text, n) == 0);
}

PART(double_all)
{
    mp_value *x = find_value(part->arena, "x"), *y = find_value(part->arena, "y");
    mp_value *z = find_value(part->arena, "z"), *foo = find_value(part->arena, "foo");
    mp_array *array = find_array(part->arena, "array");
    mp_array *string = find_array(part->arena, "string");
    double d;
    int64_t n;

    assert(mp_value_add(x, 0, &n) == 0 && mp_value_add(x, n, NULL) == 0);
    assert(mp_value_get(y, &d, sizeof d) == 0 && mp_value_add_double(y, d, NULL) == 0);
    assert(mp_value_add(z, 0, &n) == 0 && mp_value_add(z, n, NULL) == 0);
    double_struct(foo);
    for (size_t i = 0; i < LENGTH; i++) {
        assert(mp_array_get(array, i, &d, sizeof d) == 0);
        assert(mp_array_add_double(array, i, d, NULL) == 0);
    }
    double_string(string);
    mp_value_close(x);
    mp_value_close(y);
    mp_value_close(z);
    mp_value_close(foo);
    mp_array_close(array);
    mp_array_close(string);
}

static void share_ctypes(enum carrier carrier, uint32_t flags)
{
    mp_arena *arena = make_arena();
    mp_value *x = make_value(arena, "x", 'i', flags, 0, &(int32_t){7});
    mp_value *y = make_value(arena, "y", 'd', flags, 0, &(double){1.0 / 3.0});
    mp_value *z = make_value(arena, "z", 'q', flags, 0, &(int64_t){INT64_C(1) << 33});
    mp_value *foo = make_value(arena, "foo", MP_TYPE_STRUCT, flags, sizeof(struct foo),
                               &(struct foo){.x = 3, .y = 2});
    mp_array *array =
        make_array(arena, "array", 'd', flags, LENGTH, (double[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
    mp_array *string = make_array(arena, "string", 'c', flags, STRING, NULL);
    double got[LENGTH];
    char text[STRING];
    struct crew crew;
    struct foo f;

    assert_int_equal(mp_array_set_slice(string, 0, 5, "hello", 5), 0);
    crew_start(&crew, carrier, arena, double_all, 1, 0);
    crew_join(&crew);
    expect_number(x, &(int32_t){14});
    expect_number(y, &(double){2.0 / 3.0});
    expect_number(z, &(int64_t){INT64_C(1) << 34});
    assert_int_equal(mp_value_get(foo, &f, sizeof f), 0);
    assert_true(f.x == 6 && f.y == 4.0 && f.z == 0);
    assert_int_equal(mp_array_get_slice(array, 0, LENGTH, got, sizeof got), 0);
    for (int i = 0; i < LENGTH; i++)
        assert_true(got[i] == i * 2);
    assert_int_equal(mp_array_get_slice(string, 0, STRING, text, STRING), 0);
    assert_string_equal(text, "hellohello");
    mp_value_close(x);
    mp_value_close(y);
    mp_value_close(z);
    mp_value_close(foo);
    mp_array_close(array);
    mp_array_close(string);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

static void test_sharedctypes(void **state)
{
    need_carrier(state);
    share_ctypes(carrier_of(state), MP_VALUE_UNLOCKED);
}

static void test_synchronize(void **state)
{
    need_carrier(state);
    share_ctypes(carrier_of(state), 0);
}

static void test_copy(void **state)
{
    mp_arena *arena = make_arena();
    mp_value *foo = make_value(arena, "foo", MP_TYPE_STRUCT, 0, sizeof(struct foo),
                               &(struct foo){2, 5.0, INT64_C(1) << 33});
    mp_value *bar;
    struct foo f, zero = {0};

    (void)state;
    assert_int_equal(mp_value_get(foo, &f, sizeof f), 0);
    bar = make_value(arena, "bar", MP_TYPE_STRUCT, 0, sizeof f, &f);
    assert_int_equal(mp_value_set(foo, &zero, sizeof zero), 0);
    assert_int_equal(mp_value_get(bar, &f, sizeof f), 0);
    assert_true(f.x == 2 && f.y == 5.0 && f.z == INT64_C(1) << 33);
    mp_value_close(foo);
    mp_value_close(bar);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        on_carriers(test_value),       on_carriers(test_array), on_carriers(test_sharedctypes),
        on_carriers(test_synchronize), clean_test(test_copy),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
