/* SPDX-License-Identifier: MIT */
/* Lists in named shared memory: what CPython's tests of ShareableList try, the layout byte by byte,
 * and every error. Lists that somebody spoilt stand in test-shareable-list-hostile.c. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/carrier.h"
#include "base/cleanup.h"
#include "base/macro.h"
#include "shared/segments.h"

static mp_shareable_list *create(const struct mp_list_item *items, size_t n)
{
    mp_shareable_list *l = NULL;

    assert_int_equal(mp_shareable_list_create(NULL, items, n, &l), 0);
    assert_non_null(l);
    return l;
}

static const char *name_of(const mp_shareable_list *l)
{
    return mp_shared_memory_name(mp_shareable_list_memory(l));
}

static void drop(mp_shareable_list *l)
{
    assert_int_equal(mp_shared_memory_unlink(mp_shareable_list_memory(l)), 0);
    assert_null(mp_shareable_list_close(l));
}

static void expect(const mp_shareable_list *l, size_t i, struct mp_list_item wanted)
{
    char buffer[256];
    struct mp_list_item item;

    assert_int_equal(mp_shareable_list_get(l, i, buffer, sizeof buffer, &item), 0);
    assert_int_equal(item.type, wanted.type);
    assert_int_equal(item.size, wanted.size);
    assert_int_equal(item.integer, wanted.integer);
    assert_memory_equal(&item.real, &wanted.real, sizeof item.real);
    if (item.size > 0)
        assert_memory_equal(item.data, wanted.data, item.size);
    if (item.type == MP_LIST_ITEM_STRING)
        assert_int_equal(((const char *)item.data)[item.size], '\0');
}

static void set(mp_shareable_list *l, size_t i, struct mp_list_item item)
{
    assert_int_equal(mp_shareable_list_set(l, i, &item), 0);
    expect(l, i, item);
}

static void refuse_set(mp_shareable_list *l, size_t i, struct mp_list_item item, int error)
{
    assert_int_equal(mp_shareable_list_set(l, i, &item), error);
}

static size_t count(const mp_shareable_list *l, struct mp_list_item item)
{
    size_t n = 99;

    assert_int_equal(mp_shareable_list_count(l, &item, &n), 0);
    return n;
}

/* Where it is; -1: nowhere. */
static int find(const mp_shareable_list *l, struct mp_list_item item)
{
    size_t i = 99;
    int r = mp_shareable_list_index(l, &item, &i);

    if (r == -ENOENT)
        return -1;
    assert_int_equal(r, 0);
    return (int)i;
}

/* ---- what CPython tests ---- */

static void test_basics(void **state)
{
    const struct mp_list_item items[] = {
        mp_list_item_string("howdy"),  mp_list_item_bytes("HoWdY", 5),
        mp_list_item_double(-273.154), mp_list_item_integer(100),
        mp_list_item_none(),           mp_list_item_bool(true),
        mp_list_item_integer(42),
    };
    mp_shareable_list *l = create(items, MP_ARRAY_SIZE(items)), *tethered, *copy;

    (void)state;
    assert_int_equal(mp_shareable_list_length(l), 7);
    for (size_t i = 0; i < MP_ARRAY_SIZE(items); i++) {
        expect(l, i, items[i]);
        assert_int_equal(mp_shareable_list_room(l, i), 8);
    }

    assert_int_equal(count(l, mp_list_item_integer(42)), 1);
    assert_int_equal(count(l, mp_list_item_integer(43)), 0);
    assert_int_equal(count(l, mp_list_item_string("HoWdY")), 0);
    assert_int_equal(count(l, mp_list_item_bytes("HoWdY", 5)), 1);
    assert_int_equal(find(l, mp_list_item_integer(100)), 3);
    assert_int_equal(find(l, mp_list_item_integer(0)), -1);
    assert_int_equal(find(l, mp_list_item_none()), 4);

    /* Changing items, and their types. */
    set(l, 3, mp_list_item_integer(42));
    assert_int_equal(count(l, mp_list_item_integer(42)), 2);
    set(l, 4, mp_list_item_string("some"));
    set(l, 4, mp_list_item_string("space"));
    set(l, 4, mp_list_item_string("8 bytes!"));
    refuse_set(l, 4, mp_list_item_string("far too many"), -EMSGSIZE);
    expect(l, 4, mp_list_item_string("8 bytes!"));
    set(l, 0, mp_list_item_string("encod\xc3\xa9s")); /* 8 bytes */
    refuse_set(l, 0,
               mp_list_item_string("encod\xc3\xa9"
                                   "es"),
               -EMSGSIZE);
    set(l, 1, mp_list_item_string("spam"));
    set(l, 2, mp_list_item_none());
    refuse_set(l, 7, mp_list_item_none(), -ERANGE);

    /* A second handle on the same list. */
    assert_int_equal(mp_shareable_list_open(name_of(l), &tethered), 0);
    assert_int_equal(mp_shareable_list_length(tethered), 7);
    set(tethered, 6, mp_list_item_integer(880));
    expect(l, 6, mp_list_item_integer(880));
    expect(tethered, 0, mp_list_item_string("encod\xc3\xa9s"));
    assert_null(mp_shareable_list_close(tethered));

    /* A copy is another list. */
    copy = create(items, MP_ARRAY_SIZE(items));
    set(copy, 6, mp_list_item_integer(77));
    expect(l, 6, mp_list_item_integer(880));
    drop(copy);
    drop(l);
}

static void test_empty(void **state)
{
    mp_shareable_list *l = create(NULL, 0), *again;

    (void)state;
    assert_int_equal(mp_shareable_list_length(l), 0);
    assert_int_equal(mp_shared_memory_size(mp_shareable_list_memory(l)), 16);
    assert_int_equal(count(l, mp_list_item_string("any")), 0);
    assert_int_equal(find(l, mp_list_item_none()), -1);
    refuse_set(l, 0, mp_list_item_none(), -ERANGE);
    assert_int_equal(mp_shareable_list_open(name_of(l), &again), 0);
    assert_int_equal(mp_shareable_list_length(again), 0);
    mp_shareable_list_close(again);
    drop(l);
}

/* By name, as one that was pickled is found; and not any more once it is unlinked. */
static void test_by_name(void **state)
{
    const struct mp_list_item item = mp_list_item_integer(1);
    const char *name = own_name("list");
    mp_shareable_list *l, *other = NULL;

    (void)state;
    assert_int_equal(mp_shareable_list_create(name, &item, 1, &l), 0);
    assert_string_equal(name_of(l), name);
    assert_int_equal(mp_shareable_list_create(name, &item, 1, &other), -EEXIST);
    assert_int_equal(mp_shareable_list_open(name, &other), 0);
    mp_shareable_list_close(other);
    other = NULL;
    assert_int_equal(mp_shared_memory_unlink(mp_shareable_list_memory(l)), 0);
    assert_int_equal(mp_shareable_list_open(name, &other), -ENOENT);
    assert_null(other);
    expect(l, 0, item);
    mp_shareable_list_close(l);
}

/* ---- layout ---- */

/* [1, 2.5, True, 'hello' with an e acute, b'ab\0c\0', None, -1], as Python 3.11 wrote it. */
static void test_layout(void **state)
{
    static const unsigned char python[191] =
        "\7\0\0\0\0\0\0\0"
        "\0\0\0\0\0\0\0\0\10\0\0\0\0\0\0\0\20\0\0\0\0\0\0\0\30\0\0\0\0\0\0\0"
        "\40\0\0\0\0\0\0\0\50\0\0\0\0\0\0\0\60\0\0\0\0\0\0\0\70\0\0\0\0\0\0\0"
        "\1\0\0\0\0\0\0\0"
        "\0\0\0\0\0\0\4\100"
        "\0\0\0\0\0\0\0\1"
        "h\xc3\xa9llo\0\0"
        "ab\0c\0\0\0\0"
        "\0\0\0\0\0\0\0\0"
        "\377\377\377\377\377\377\377\377"
        "q\0\0\0\0\0\0\0d\0\0\0\0\0\0\0xxxxxxx?8s\0\0\0\0\0\0"
        "8s\0\0\0\0\0\0xxxxxx?xq\0\0\0\0\0\0\0"
        "\0\0\0\1\2\3";
    const struct mp_list_item items[] = {
        mp_list_item_integer(1),          mp_list_item_double(2.5),
        mp_list_item_bool(true),          mp_list_item_string("h\xc3\xa9llo"),
        mp_list_item_bytes("ab\0c\0", 5), mp_list_item_none(),
        mp_list_item_integer(-1),
    };
    mp_shareable_list *l = create(items, 7), *again;
    mp_shared_memory *m = mp_shareable_list_memory(l);

    (void)state;
    assert_int_equal(mp_shared_memory_size(m), sizeof python);
    assert_memory_equal(mp_shared_memory_data(m), python, sizeof python);
    drop(l);

    assert_int_equal(mp_shared_memory_create(NULL, 4096, &m), 0);
    memcpy(mp_shared_memory_data(m), python, sizeof python);
    assert_int_equal(mp_shareable_list_open_in(m, &again), 0);
    assert_ptr_equal(mp_shareable_list_memory(again), m);
    for (size_t i = 0; i < 7; i++)
        if (i != 4)
            expect(again, i, items[i]);
    expect(again, 4, mp_list_item_bytes("ab\0c", 4));
    mp_shareable_list_close(again);
    assert_int_equal(mp_shared_memory_unlink(m), 0);
    mp_shared_memory_close(m);
}

/* A string has room for its bytes, not only for its characters; and one byte more than needed. */
static void test_rooms(void **state)
{
    mp_shareable_list *l;

    (void)state;
    for (size_t n = 0; n < 40; n++) {
        char text[101];
        struct mp_list_item items[2];

        for (size_t i = 0; i < n; i++)
            memcpy(text + i * 2, "\xc3\xa9", 2);
        text[n * 2] = '\0';
        items[0] = mp_list_item_string(text);
        items[1] = mp_list_item_bytes(text, n);
        l = create(items, 2);
        assert_int_equal(mp_shareable_list_room(l, 0), n * 2 / 8 * 8 + 8);
        assert_int_equal(mp_shareable_list_room(l, 1), n / 8 * 8 + 8);
        expect(l, 0, items[0]);
        expect(l, 1, items[1]);
        drop(l);
    }
}

static void test_longest(void **state)
{
    _cleanup_free_ char *text = malloc(MP_LIST_ITEM_SIZE_MAX + 2);
    _cleanup_free_ char *buffer = malloc(MP_LIST_ITEM_SIZE_MAX + 2);
    struct mp_list_item item, found;
    mp_shareable_list *l;

    (void)state;
    assert_non_null(text);
    assert_non_null(buffer);
    memset(text, 'x', MP_LIST_ITEM_SIZE_MAX + 2);
    item = mp_list_item_bytes(text, MP_LIST_ITEM_SIZE_MAX + 1);
    assert_int_equal(mp_shareable_list_create(NULL, &item, 1, &l), -EMSGSIZE);
    item.size--;
    l = create(&item, 1);
    assert_int_equal(mp_shareable_list_room(l, 0), MP_LIST_ITEM_SIZE_MAX + 1);
    assert_int_equal(mp_shareable_list_get(l, 0, buffer, item.size, &found), 0);
    assert_int_equal(found.size, item.size);
    assert_memory_equal(buffer, text, item.size);
    item.size++;
    assert_int_equal(mp_shareable_list_set(l, 0, &item), 0);
    assert_int_equal(mp_shareable_list_get(l, 0, buffer, item.size - 1, &found), -EMSGSIZE);
    assert_int_equal(mp_shareable_list_get(l, 0, buffer, item.size, &found), 0);
    assert_int_equal(found.size, item.size);
    drop(l);
}

/* ---- values ---- */

static void test_numbers(void **state)
{
    const struct mp_list_item items[] = {
        mp_list_item_integer(INT64_MIN), mp_list_item_integer(INT64_MAX),
        mp_list_item_integer(0),         mp_list_item_integer(-1),
        mp_list_item_double(-0.0),       mp_list_item_double(1e-320),
        mp_list_item_double(DBL_MAX),    mp_list_item_double(INFINITY),
        mp_list_item_double(NAN),        mp_list_item_bool(false),
        mp_list_item_bool(true),
    };
    mp_shareable_list *l = create(items, MP_ARRAY_SIZE(items));

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(items); i++)
        expect(l, i, items[i]);
    for (size_t i = 0; i < MP_ARRAY_SIZE(items); i++)
        for (size_t k = 0; k < MP_ARRAY_SIZE(items); k++)
            set(l, i, items[k]);
    drop(l);
}

/* As Python's ==. */
static void test_equal(void **state)
{
    const struct mp_list_item items[] = {
        mp_list_item_integer(1),
        mp_list_item_double(1.0),
        mp_list_item_bool(true),
        mp_list_item_none(),
        mp_list_item_double(NAN),
        mp_list_item_integer(INT64_MAX),
        mp_list_item_integer((INT64_C(1) << 53) + 1),
        mp_list_item_double(0x1p53),
        mp_list_item_double(0x1p63),
        mp_list_item_bool(false),
        mp_list_item_double(-0.0),
        mp_list_item_string("1"),
        mp_list_item_bytes("1", 1),
        mp_list_item_string(""),
        mp_list_item_bytes("", 0),
        mp_list_item_integer(INT64_MIN),
        mp_list_item_double(1.5),
    };
    struct mp_list_item odd = mp_list_item_bool(true);
    mp_shareable_list *l = create(items, MP_ARRAY_SIZE(items));

    (void)state;
    assert_int_equal(count(l, mp_list_item_integer(1)), 3);
    assert_int_equal(count(l, mp_list_item_double(1.0)), 3);
    assert_int_equal(count(l, mp_list_item_bool(true)), 3);
    odd.integer = -7;
    assert_int_equal(count(l, odd), 3);
    assert_int_equal(count(l, mp_list_item_none()), 1);
    assert_int_equal(count(l, mp_list_item_double(NAN)), 0);
    assert_int_equal(count(l, mp_list_item_integer(INT64_MAX)), 1);
    assert_int_equal(count(l, mp_list_item_double(0x1p63)), 1);
    assert_int_equal(find(l, mp_list_item_double(0x1p63)), 8);
    assert_int_equal(count(l, mp_list_item_double(-0x1p63)), 1);
    assert_int_equal(count(l, mp_list_item_integer((INT64_C(1) << 53) + 1)), 1);
    assert_int_equal(count(l, mp_list_item_integer(INT64_C(1) << 53)), 1);
    assert_int_equal(count(l, mp_list_item_integer(0)), 2);
    assert_int_equal(find(l, mp_list_item_string("1")), 11);
    assert_int_equal(find(l, mp_list_item_bytes("1", 1)), 12);
    assert_int_equal(find(l, mp_list_item_string("")), 13);
    assert_int_equal(find(l, mp_list_item_bytes(NULL, 0)), 14);
    assert_int_equal(find(l, mp_list_item_double(1.5)), 16);
    assert_int_equal(find(l, mp_list_item_double(2.5)), -1);
    /* What was given with zeros at its end is in no list. */
    assert_int_equal(find(l, mp_list_item_bytes("1\0", 2)), -1);
    drop(l);
}

/* Zeros at the end are not told from the room behind them; inside they stay. */
static void test_zeros(void **state)
{
    struct mp_list_item items[] = {
        mp_list_item_bytes("a\0b\0\0", 5),
        mp_list_item_bytes("\0\0\0", 3),
        {.type = MP_LIST_ITEM_STRING, .data = "s\0t\0", .size = 4},
        mp_list_item_bytes("\0a", 2),
    };
    mp_shareable_list *l = create(items, 4);

    (void)state;
    items[0].size = 3;
    items[1].size = 0;
    items[2].size = 3;
    for (size_t i = 0; i < 4; i++)
        expect(l, i, items[i]);
    set(l, 0, mp_list_item_bytes("12345678", 8));
    set(l, 0, mp_list_item_bytes("1", 1)); /* nothing of the longer one is left */
    drop(l);
}

/* ---- errors ---- */

static void test_buffers(void **state)
{
    const struct mp_list_item items[] = {mp_list_item_string("12345"),
                                         mp_list_item_bytes("12345", 5), mp_list_item_string(""),
                                         mp_list_item_bytes("", 0), mp_list_item_integer(7)};
    mp_shareable_list *l = create(items, 5);
    struct mp_list_item item = {.type = 77};
    char buffer[8];

    (void)state;
    assert_int_equal(mp_shareable_list_get(l, 0, buffer, 5, &item), -EMSGSIZE);
    assert_int_equal(mp_shareable_list_get(l, 0, NULL, 0, &item), -EMSGSIZE);
    assert_int_equal(mp_shareable_list_get(l, 1, buffer, 4, &item), -EMSGSIZE);
    assert_int_equal(mp_shareable_list_get(l, 2, NULL, 0, &item), -EMSGSIZE);
    assert_int_equal(mp_shareable_list_get(l, 0, NULL, 1, &item), -EINVAL);
    assert_int_equal(item.type, 77); /* no output was written */
    assert_int_equal(mp_shareable_list_get(l, 0, buffer, 6, &item), 0);
    assert_string_equal(item.data, "12345");
    assert_ptr_equal(item.data, buffer);
    assert_int_equal(mp_shareable_list_get(l, 1, buffer, 5, &item), 0);
    assert_int_equal(item.size, 5);
    assert_int_equal(mp_shareable_list_get(l, 2, buffer, 1, &item), 0);
    assert_string_equal(item.data, "");
    assert_int_equal(mp_shareable_list_get(l, 3, NULL, 0, &item), 0);
    assert_int_equal(item.size, 0);
    assert_int_equal(mp_shareable_list_get(l, 4, NULL, 0, &item), 0);
    assert_int_equal(item.integer, 7);
    drop(l);
}

static void refuse_item(struct mp_list_item item, int error)
{
    mp_shareable_list *l = (mp_shareable_list *)&l, *one;
    struct mp_list_item items[] = {mp_list_item_none(), item};
    size_t n;

    assert_int_equal(mp_shareable_list_create(NULL, items, 2, &l), error);
    assert_ptr_equal(l, &l);
    one = create(items, 1);
    refuse_set(one, 0, item, error);
    expect(one, 0, mp_list_item_none());
    if (error == -EINVAL) {
        assert_int_equal(mp_shareable_list_count(one, &item, &n), -EINVAL);
        assert_int_equal(mp_shareable_list_index(one, &item, &n), -EINVAL);
    }
    drop(one);
}

static void test_no_items(void **state)
{
    static const char *const no_utf8[] = {
        "\x80",         "\xc3",     "\xc3(",        "\xc0\x80",         "\xc1\xbf",
        "\xe0\x80\x80", "\xe2\x82", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
        "\xf8\x88\x80", "\xff",     "a\xe2\x82",    "\xf0\x9f\x98",     "\xf5\x80\x80\x80",
    };
    static const char *const utf8[] = {
        "\xc2\x80",     "\xdf\xbf", "\xe0\xa0\x80",     "\xed\x9f\xbf",     "\xee\x80\x80",
        "\xef\xbf\xbf", "\x7f",     "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\xe2\x82\xac",
    };
    struct mp_list_item item = {.type = 6};

    (void)state;
    refuse_item(item, -EINVAL);
    item.type = UINT32_MAX;
    refuse_item(item, -EINVAL);
    refuse_item(mp_list_item_bytes(NULL, 1), -EINVAL);
    for (size_t i = 0; i < MP_ARRAY_SIZE(no_utf8); i++)
        refuse_item(mp_list_item_string(no_utf8[i]), -EINVAL);
    for (size_t i = 0; i < MP_ARRAY_SIZE(utf8); i++) {
        item = mp_list_item_string(utf8[i]);
        mp_shareable_list *l = create(&item, 1);

        expect(l, 0, item);
        drop(l);
    }
}

static void test_nulls(void **state)
{
    const struct mp_list_item one = mp_list_item_integer(1);
    mp_shareable_list *l = create(&one, 1), *other;
    struct mp_list_item item;
    mp_shared_memory *m = mp_shareable_list_memory(l);
    size_t n;

    (void)state;
    assert_int_equal(mp_shareable_list_create(NULL, NULL, 1, &other), -EINVAL);
    assert_int_equal(mp_shareable_list_create(NULL, &one, 1, NULL), -EINVAL);
    assert_int_equal(mp_shareable_list_create(NULL, &one, SIZE_MAX, &other), -EINVAL);
    assert_int_equal(mp_shareable_list_create(NULL, &one, SIZE_MAX / 25, &other), -EINVAL);
    assert_int_equal(mp_shareable_list_create("a/b", &one, 1, &other), -ENAMETOOLONG);
    assert_int_equal(mp_shareable_list_open(NULL, &other), -EINVAL);
    assert_int_equal(mp_shareable_list_open(name_of(l), NULL), -EINVAL);
    assert_int_equal(mp_shareable_list_open("a/b", &other), -ENAMETOOLONG);
    assert_int_equal(mp_shareable_list_create_in(NULL, &one, 1, &other), -EINVAL);
    assert_int_equal(mp_shareable_list_create_in(m, NULL, 1, &other), -EINVAL);
    assert_int_equal(mp_shareable_list_create_in(m, &one, 1, NULL), -EINVAL);
    assert_int_equal(mp_shareable_list_open_in(NULL, &other), -EINVAL);
    assert_int_equal(mp_shareable_list_open_in(m, NULL), -EINVAL);
    assert_null(mp_shareable_list_close(NULL));
    assert_null(mp_shareable_list_memory(NULL));
    assert_int_equal(mp_shareable_list_length(NULL), 0);
    assert_int_equal(mp_shareable_list_room(NULL, 0), 0);
    assert_int_equal(mp_shareable_list_room(l, 1), 0);
    assert_int_equal(mp_shareable_list_get(NULL, 0, NULL, 0, &item), -EINVAL);
    assert_int_equal(mp_shareable_list_get(l, 1, NULL, 0, &item), -ERANGE);
    assert_int_equal(mp_shareable_list_get(l, SIZE_MAX, NULL, 0, &item), -ERANGE);
    assert_int_equal(mp_shareable_list_get(l, 0, NULL, 0, NULL), -EINVAL);
    assert_int_equal(mp_shareable_list_set(NULL, 0, &one), -EINVAL);
    assert_int_equal(mp_shareable_list_set(l, 1, &one), -ERANGE);
    assert_int_equal(mp_shareable_list_set(l, 0, NULL), -EINVAL);
    assert_int_equal(mp_shareable_list_count(NULL, &one, &n), -EINVAL);
    assert_int_equal(mp_shareable_list_count(l, NULL, &n), -EINVAL);
    assert_int_equal(mp_shareable_list_count(l, &one, NULL), -EINVAL);
    assert_int_equal(mp_shareable_list_index(NULL, &one, &n), -EINVAL);
    assert_int_equal(mp_shareable_list_index(l, NULL, &n), -EINVAL);
    assert_int_equal(mp_shareable_list_index(l, &one, NULL), -EINVAL);
    drop(l);
}

/* ---- in a segment that is there ---- */

static void test_in_segment(void **state)
{
    const struct mp_list_item items[] = {mp_list_item_string("a"), mp_list_item_integer(2)};
    const size_t needs = 8 + 3 * 8 + 2 * 8 + 2 * 8 + 2;
    mp_shareable_list *l, *by_name;
    mp_shared_memory *m;

    (void)state;
    assert_int_equal(mp_shared_memory_create(NULL, needs, &m), 0);
    memset(mp_shared_memory_data(m), 0xee, needs);
    assert_int_equal(mp_shareable_list_open_in(m, &l), -EPROTO);
    assert_int_equal(mp_shareable_list_create_in(m, items, 2, &l), 0);
    expect(l, 0, items[0]);
    expect(l, 1, items[1]);
    assert_int_equal(mp_shareable_list_open(mp_shared_memory_name(m), &by_name), 0);
    expect(by_name, 1, items[1]);
    mp_shareable_list_close(by_name);
    mp_shareable_list_close(l);
    assert_int_equal(mp_shared_memory_unlink(m), 0);
    mp_shared_memory_close(m);

    assert_int_equal(mp_shared_memory_create(NULL, needs - 1, &m), 0);
    assert_int_equal(mp_shareable_list_create_in(m, items, 2, &l), -EMSGSIZE);
    assert_int_equal(mp_shared_memory_unlink(m), 0);
    mp_shared_memory_close(m);
}

/* ---- threads and processes ---- */

static void use_inherited(void *user)
{
    expect(user, 0, mp_list_item_integer(5));
    set(user, 0, mp_list_item_string("child"));
    mp_shareable_list_close(user);
}

static void test_fork(void **state)
{
    const struct mp_list_item item = mp_list_item_integer(5);
    mp_shareable_list *l = create(&item, 1);

    (void)state;
    child_join(child_start(use_inherited, l));
    expect(l, 0, mp_list_item_string("child"));
    drop(l);
}

struct corner {
    mp_shareable_list *list;
    size_t index;
};

static void *turn(void *user)
{
    struct corner *c = user;

    for (int i = 0; i < 500; i++) {
        struct mp_list_item item = mp_list_item_integer(i), found;
        char text[16];

        if (i % 2) {
            snprintf(text, sizeof text, "%d", i);
            item = mp_list_item_string(text);
        }
        assert(mp_shareable_list_set(c->list, c->index, &item) == 0);
        assert(mp_shareable_list_get(c->list, c->index, text, sizeof text, &found) == 0);
        assert(found.type == item.type && found.integer == item.integer);
    }
    return NULL;
}

/* Threads that share a handle and each change an item of their own. */
static void test_threads(void **state)
{
    struct mp_list_item items[4] = {0};
    mp_shareable_list *l = create(items, 4);
    struct corner corners[4];
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        corners[i] = (struct corner){l, i};
        assert_int_equal(pthread_create(&threads[i], NULL, turn, &corners[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < 4; i++)
        expect(l, i, mp_list_item_string("499"));
    drop(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        segment_test(test_basics),     segment_test(test_empty),    segment_test(test_by_name),
        segment_test(test_layout),     segment_test(test_rooms),    segment_test(test_longest),
        segment_test(test_numbers),    segment_test(test_equal),    segment_test(test_zeros),
        segment_test(test_buffers),    segment_test(test_no_items), segment_test(test_nulls),
        segment_test(test_in_segment), segment_test(test_fork),     segment_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
