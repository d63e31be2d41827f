/* SPDX-License-Identifier: MIT */
/*
 * Lists in named shared memory that somebody spoilt: each rule of the layout broken, the segment
 * truncated, and random bytes written over it while we work on it. Errors, and items that make
 * sense; never a fault.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/carrier.h"
#include "base/macro.h"
#include "base/tools.h"
#include "shared/list_item.h"
#include "shared/segments.h"

/* Three items of 8, 24 and 8 bytes. */
enum { N = 3, SIZE = 8 + 4 * 8 + 40 + 3 * 8 + 3, DATA = 40, FORMATS = 80, CODES = 104 };

static mp_shareable_list *some_list(void)
{
    const struct mp_list_item items[N] = {
        mp_list_item_integer(-5),
        mp_list_item_string("some seventeen ch"),
        mp_list_item_bytes("\1\0\2", 3),
    };
    mp_shareable_list *l;

    assert_int_equal(mp_shareable_list_create(NULL, items, N, &l), 0);
    assert_int_equal(mp_shared_memory_size(mp_shareable_list_memory(l)), SIZE);
    return l;
}

static void drop(mp_shareable_list *l)
{
    assert_int_equal(mp_shared_memory_unlink(mp_shareable_list_memory(l)), 0);
    mp_shareable_list_close(l);
}

/* ---- opening ---- */

struct spoil {
    size_t offset;
    const char *bytes;
    size_t size;
};

#define BYTES(at, s)         \
    {                        \
        at, s, sizeof(s) - 1 \
    }

static void test_open(void **state)
{
    static const struct spoil spoils[] = {
        /* the number of items */
        BYTES(0, "\xff\xff\xff\xff\xff\xff\xff\xff"),
        BYTES(0, "\0\0\0\0\0\0\0\x80"),
        BYTES(0, "\xff\xff\xff\xff\xff\xff\xff\x7f"),
        BYTES(0, "\0\0\0\0\0\0\0\x10"),
        BYTES(0, "\4"),
        BYTES(0, "\5"),
        BYTES(0, "\2"),
        /* offsets */
        BYTES(8, "\10"),
        BYTES(8, "\xf8\xff\xff\xff\xff\xff\xff\xff"),
        BYTES(16, "\0"),
        BYTES(16, "\40"),
        BYTES(16, "\11"),
        BYTES(16, "\xf8\xff\xff\xff\xff\xff\xff\xff"),
        BYTES(24, "\10"),
        BYTES(32, "\60"),
        BYTES(32, "\51"),
        BYTES(32, "\40"),
        BYTES(32, "\x28\0\0\0\0\0\0\x80"),
        BYTES(32, "\x28\0\0\0\1"),
        /* formats */
        BYTES(FORMATS, "\0"),
        BYTES(FORMATS, "Q"),
        BYTES(FORMATS, "qq"),
        BYTES(FORMATS, "q\0q"),
        BYTES(FORMATS, "8s"),
        BYTES(FORMATS, "xxxxxxxx"),
        BYTES(FORMATS + 8, "32s"),
        BYTES(FORMATS + 8, "25s"),
        BYTES(FORMATS + 8, "0s\0"),
        BYTES(FORMATS + 8, "s\0\0"),
        BYTES(FORMATS + 8, "-1s"),
        BYTES(FORMATS + 8, "24s%"),
        BYTES(FORMATS + 8, "9999999s"),
        BYTES(FORMATS + 8, "99999999"),
        BYTES(FORMATS + 8, "1s\0s"),
        BYTES(FORMATS + 8, "24p"),
        BYTES(FORMATS + 8, "q\0\0"),
        /* transform codes */
        BYTES(CODES, "\1"),
        BYTES(CODES, "\2"),
        BYTES(CODES, "\4"),
        BYTES(CODES, "\xff"),
        BYTES(CODES, "\x80"),
        BYTES(CODES + 1, "\0"),
        BYTES(CODES + 1, "\5"),
    };

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(spoils); i++) {
        mp_shareable_list *l = some_list(), *other = (mp_shareable_list *)&other;
        mp_shared_memory *m = mp_shareable_list_memory(l);

        assert_int_equal(
            mp_shared_memory_write(m, spoils[i].offset, spoils[i].bytes, spoils[i].size), 0);
        if (mp_shareable_list_open(mp_shared_memory_name(m), &other) != -EPROTO)
            fail_msg("case %zu was opened", i);
        assert_ptr_equal(other, &other);
        drop(l);
    }
}

/* What is odd, and still a list. */
static void test_open_odd(void **state)
{
    static const struct spoil spoils[] = {
        BYTES(FORMATS + 8, "17s"),  BYTES(FORMATS + 8, "024s"), BYTES(CODES + 1, "\2"),
        BYTES(FORMATS + 16, "q\0"), BYTES(CODES, "\3"),         BYTES(FORMATS + 8, "1s\0"),
        BYTES(FORMATS, "xxxxxxx?"), BYTES(FORMATS, "d"),
    };

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(spoils); i++) {
        mp_shareable_list *l = some_list(), *other;
        mp_shared_memory *m = mp_shareable_list_memory(l);
        char buffer[25], code = 0;
        struct mp_list_item item;

        assert_int_equal(
            mp_shared_memory_write(m, spoils[i].offset, spoils[i].bytes, spoils[i].size), 0);
        if (spoils[i].offset == FORMATS + 16)
            assert_int_equal(mp_shared_memory_write(m, CODES + 2, &code, 1), 0);
        assert_int_equal(mp_shareable_list_open(mp_shared_memory_name(m), &other), 0);
        for (size_t k = 0; k < N; k++)
            assert_int_equal(mp_shareable_list_get(other, k, buffer, sizeof buffer, &item), 0);
        mp_shareable_list_close(other);
        drop(l);
    }
}

/* Segments of every size that is too small, and zeros. */
static void test_open_small(void **state)
{
    mp_shareable_list *l = some_list(), *other;
    char image[SIZE];

    (void)state;
    assert_int_equal(mp_shared_memory_read(mp_shareable_list_memory(l), 0, image, SIZE), 0);
    drop(l);
    for (size_t size = 1; size <= SIZE; size++) {
        mp_shared_memory *m;

        assert_int_equal(mp_shared_memory_create(NULL, size, &m), 0);
        /* Zeros are an empty list, as Python has it. */
        assert_int_equal(mp_shareable_list_open_in(m, &other), size < 16 ? -EPROTO : 0);
        if (size >= 16)
            mp_shareable_list_close(other);
        memcpy(mp_shared_memory_data(m), image, size);
        assert_int_equal(mp_shareable_list_open_in(m, &other), size < SIZE ? -EPROTO : 0);
        if (size == SIZE)
            mp_shareable_list_close(other);
        assert_int_equal(mp_shared_memory_unlink(m), 0);
        mp_shared_memory_close(m);
    }
}

/* Long lists are looked at to their end. */
static void test_open_long(void **state)
{
    static struct mp_list_item items[1000];

    (void)state;
    for (size_t n = 255; n <= MP_ARRAY_SIZE(items); n += n < 258 ? 1 : 371) {
        mp_shareable_list *l, *other;
        mp_shared_memory *m;

        for (size_t i = 0; i < n; i++)
            items[i] = i % 2 ? mp_list_item_integer((int64_t)i) : mp_list_item_string("even");
        assert_int_equal(mp_shareable_list_create(NULL, items, n, &l), 0);
        m = mp_shareable_list_memory(l);
        assert_int_equal(mp_shareable_list_open(mp_shared_memory_name(m), &other), 0);
        assert_int_equal(mp_shareable_list_length(other), n);
        mp_shareable_list_close(other);
        assert_int_equal(mp_shared_memory_write(m, mp_shared_memory_size(m) - 1, "\4", 1), 0);
        assert_int_equal(mp_shareable_list_open(mp_shared_memory_name(m), &other), -EPROTO);
        drop(l);
    }
}

/* ---- items ---- */

static void expect_error(const mp_shareable_list *l, size_t i, int error)
{
    struct mp_list_item item = {.type = 77}, none = mp_list_item_none();
    char buffer[64];
    size_t n;

    assert_int_equal(mp_shareable_list_get(l, i, buffer, sizeof buffer, &item), error);
    assert_int_equal(item.type, 77);
    assert_int_equal(mp_shareable_list_count(l, &none, &n), error);
    assert_int_equal(mp_shareable_list_index(l, &none, &n), error);
}

/* Spoilt after it was opened: told at each look, and healed by a change. */
static void test_items(void **state)
{
    mp_shareable_list *l = some_list();
    mp_shared_memory *m = mp_shareable_list_memory(l);
    struct mp_list_item item = mp_list_item_string("whole"), found;
    char buffer[64];

    (void)state;
    assert_int_equal(mp_shared_memory_write(m, DATA + 8, "\xc3", 1), 0);
    expect_error(l, 1, -EPROTO); /* not UTF-8: as Python itself cuts strings */
    assert_int_equal(mp_shareable_list_set(l, 1, &item), 0);
    assert_int_equal(mp_shareable_list_get(l, 1, buffer, sizeof buffer, &found), 0);

    assert_int_equal(mp_shared_memory_write(m, FORMATS + 8, "999999s", 7), 0);
    expect_error(l, 1, -EPROTO);
    assert_int_equal(mp_shareable_list_set(l, 1, &item), 0);
    assert_int_equal(mp_shareable_list_get(l, 1, buffer, sizeof buffer, &found), 0);
    assert_int_equal(found.size, 5);

    assert_int_equal(mp_shared_memory_write(m, CODES, "\x7f", 1), 0);
    expect_error(l, 0, -EPROTO);

    /* Number and offsets were read once. */
    memset(mp_shared_memory_data(m), 0xff, DATA);
    assert_int_equal(mp_shareable_list_length(l), N);
    assert_int_equal(mp_shareable_list_get(l, 1, buffer, sizeof buffer, &found), 0);
    drop(l);
}

static void test_truncated(void **state)
{
    (void)state;
    for (int size = SIZE - 1; size >= 0; size--) {
        mp_shareable_list *l = some_list(), *other;
        mp_shared_memory *m = mp_shareable_list_memory(l);
        struct mp_list_item one = mp_list_item_integer(1);

        assert_int_equal(ftruncate(mp_shared_memory_fd(m), size), 0);
        expect_error(l, 2, -ESTALE);
        assert_int_equal(mp_shareable_list_set(l, 2, &one), -ESTALE);
        assert_int_equal(mp_shareable_list_open_in(m, &other), -ESTALE);
        assert_int_equal(mp_shareable_list_create_in(m, &one, 1, &other), size < 41 ? -ESTALE : 0);
        if (size >= 41)
            mp_shareable_list_close(other);
        drop(l);
    }
}

/* ---- random bytes ---- */

static atomic_bool done;

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* Mostly bytes that mean something in a list, since random ones are soon refused. */
static unsigned char some_byte(uint64_t *x)
{
    static const unsigned char known[] = {0,   1,   2,   3,   8,   16,  24,   40,   'q',  'd', 's',
                                          'x', '?', '1', '2', '4', '8', 0x7f, 0x80, 0xc3, 0xff};
    uint64_t r = next(x);

    return r % 8 == 0 ? (unsigned char)(r >> 8) : known[(r >> 8) % sizeof known];
}

static void *scribble(void *user)
{
    mp_shared_memory *m = user;
    uint64_t x = 88172645463325252u;

    while (!atomic_load(&done)) {
        unsigned char byte = some_byte(&x);

        assert(mp_shared_memory_write(m, next(&x) % SIZE, &byte, 1) == 0);
    }
    return NULL;
}

static void look_at_all(mp_shareable_list *l, unsigned *good, unsigned *bad)
{
    struct mp_list_item one = mp_list_item_integer(1), item;
    size_t n, length = mp_shareable_list_length(l);
    char buffer[SIZE + 1];
    int r;

    for (size_t i = 0; i < length; i++) {
        size_t room = mp_shareable_list_room(l, i);

        assert_true(room >= 8 && room <= SIZE);
        r = mp_shareable_list_get(l, i, buffer, room + 1, &item);
        assert_true(r == 0 || r == -EPROTO);
        *(r == 0 ? good : bad) += 1;
        if (r < 0)
            continue;
        assert_true(item.type <= MP_LIST_ITEM_BYTES && item.size <= room);
        if (item.type == MP_LIST_ITEM_STRING) {
            assert_true(mp_utf8_is_valid(item.data, item.size));
            assert_int_equal(buffer[item.size], '\0');
        }
        assert_int_equal(mp_shareable_list_set(l, i, &item), 0);
    }
    r = mp_shareable_list_count(l, &one, &n);
    assert_true(r == 0 ? n <= length : r == -EPROTO);
    r = mp_shareable_list_index(l, &one, &n);
    assert_true(r == 0 ? n < length : r == -EPROTO || r == -ENOENT);
}

/* Another writes anything anywhere while we open, read and change. */
static void test_scribbled(void **state)
{
    const unsigned rounds = under_valgrind() ? 200 : 2000;
    mp_shareable_list *l = some_list();
    mp_shared_memory *m = mp_shareable_list_memory(l);
    unsigned good = 0, bad = 0, opened = 0;
    char image[SIZE];
    pthread_t thread;

    (void)state;
    assert_int_equal(mp_shared_memory_read(m, 0, image, SIZE), 0);
    atomic_store(&done, false);
    assert_int_equal(pthread_create(&thread, NULL, scribble, m), 0);
    for (unsigned i = 0; i < rounds; i++) {
        mp_shareable_list *other;
        int r;

        look_at_all(l, &good, &bad);
        /* From time to time it is a good list again, so that it can be opened. */
        assert_int_equal(mp_shared_memory_write(m, 0, image, SIZE), 0);
        r = mp_shareable_list_open_in(m, &other);
        assert_true(r == 0 || r == -EPROTO);
        if (r < 0)
            continue;
        look_at_all(other, &good, &bad);
        mp_shareable_list_close(other);
        opened++;
    }
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    print_message("%u items read, %u refused, opened %u times of %u\n", good, bad, opened, rounds);
    assert_true(good > 0 && bad > 0 && opened > 0);
    drop(l);
}

static void *truncate_and_grow(void *user)
{
    mp_shared_memory *m = user;
    uint64_t x = 2463534242u;

    while (!atomic_load(&done)) {
        assert(ftruncate(mp_shared_memory_fd(m), (off_t)(next(&x) % SIZE)) == 0);
        assert(ftruncate(mp_shared_memory_fd(m), SIZE) == 0);
    }
    return NULL;
}

/* Another truncates the segment while we open, read and change: what would fault by the mapping is
 * an error here. */
static void test_truncating(void **state)
{
    const unsigned rounds = under_valgrind() ? 200 : 2000;
    const struct mp_list_item one = mp_list_item_integer(1);
    mp_shareable_list *l = some_list();
    mp_shared_memory *m = mp_shareable_list_memory(l);
    char image[SIZE], buffer[64];
    pthread_t thread;

    (void)state;
    assert_int_equal(mp_shared_memory_read(m, 0, image, SIZE), 0);
    atomic_store(&done, false);
    assert_int_equal(pthread_create(&thread, NULL, truncate_and_grow, m), 0);
    for (unsigned i = 0; i < rounds; i++) {
        mp_shareable_list *other;
        struct mp_list_item item;
        int r;

        r = mp_shareable_list_get(l, i % N, buffer, sizeof buffer, &item);
        assert_true(r == 0 || r == -EPROTO || r == -ESTALE);
        r = mp_shareable_list_set(l, i % N, &one);
        assert_true(r == 0 || r == -ESTALE);
        r = mp_shared_memory_write(m, 0, image, SIZE);
        assert_true(r == 0 || r == -ESTALE);
        r = mp_shareable_list_open_in(m, &other);
        assert_true(r == 0 || r == -EPROTO || r == -ESTALE);
        if (r == 0)
            mp_shareable_list_close(other);
    }
    atomic_store(&done, true);
    pthread_join(thread, NULL);
    drop(l);
}

/* The same as test_scribbled() without a race, so that each image is one that can be had again. */
static void test_random_images(void **state)
{
    const unsigned rounds = under_valgrind() ? 200 : 20000;
    mp_shareable_list *l = some_list();
    mp_shared_memory *m = mp_shareable_list_memory(l);
    unsigned good = 0, bad = 0, opened = 0;
    uint64_t x = 1181783497276652981u;
    char image[SIZE];

    (void)state;
    assert_int_equal(mp_shared_memory_read(m, 0, image, SIZE), 0);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned char spoilt[SIZE];
        mp_shareable_list *other;
        int r;

        memcpy(spoilt, image, SIZE);
        for (uint64_t k = next(&x) % 4; k > 0; k--)
            spoilt[next(&x) % SIZE] = some_byte(&x);
        assert_int_equal(mp_shared_memory_write(m, 0, spoilt, SIZE), 0);
        look_at_all(l, &good, &bad);
        r = mp_shareable_list_open_in(m, &other);
        assert_true(r == 0 || r == -EPROTO);
        if (r == 0) {
            look_at_all(other, &good, &bad);
            mp_shareable_list_close(other);
            opened++;
        }
    }
    print_message("%u items read, %u refused, opened %u times of %u\n", good, bad, opened, rounds);
    assert_true(good > 0 && bad > 0 && opened > 0);
    drop(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        segment_test(test_open),          segment_test(test_open_odd),
        segment_test(test_open_small),    segment_test(test_open_long),
        segment_test(test_items),         segment_test(test_truncated),
        segment_test(test_scribbled),     segment_test(test_truncating),
        segment_test(test_random_images),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
