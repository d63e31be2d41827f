/* SPDX-License-Identifier: MIT */
/* Values with and without a lock, versioned ones, atomic operations; what a death leaves; and every
 * error. Python's cases are in test-value-python.c. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20)

/* Of several words, all of which say the same where it is whole. */
struct wide {
    uint64_t words[9];
    char odd[3];
};

static struct wide wide_of(uint64_t n)
{
    struct wide w = {0};

    for (unsigned i = 0; i < 9; i++)
        w.words[i] = n;
    memset(w.odd, (int)(n & 0x7f), sizeof w.odd);
    return w;
}

static bool is_whole(const struct wide *w)
{
    struct wide same = wide_of(w->words[0]);

    return memcmp(w->words, same.words, sizeof w->words) == 0 &&
           memcmp(w->odd, same.odd, sizeof w->odd) == 0;
}

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create(
            "value", MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 16), &arena),
        0);
    return arena;
}

static mp_value *make(mp_arena *arena, const char *name, uint32_t type, uint32_t flags)
{
    mp_value *value;

    assert_int_equal(
        mp_value_create(arena, name, MP_VALUE_OPTIONS(.type = type, .flags = flags), &value), 0);
    return value;
}

static mp_value *make_wide(mp_arena *arena, uint32_t flags)
{
    struct wide w = wide_of(0);
    mp_value *value;

    assert_int_equal(
        mp_value_create(arena, "wide",
                        MP_VALUE_OPTIONS(.size = sizeof w, .flags = flags, .initial = &w), &value),
        0);
    return value;
}

static mp_value *find(mp_arena *arena, const char *name)
{
    mp_value *value;

    assert(mp_value_open(arena, name, &value) == 0);
    return value;
}

/* ---- one alone ---- */

static void test_refuses(void **state)
{
    mp_arena *arena = make_arena();
    mp_value *value = make(arena, "value", 'i', 0), *other = NULL;
    char name[MP_NAME_MAX + 2];
    struct mp_value_options small = {.struct_size = 8, .type = 'i'};
    int32_t n = 1;

    (void)state;
    memset(name, 'n', sizeof name);
    name[MP_NAME_MAX + 1] = '\0';
#define refused(...) mp_value_create(arena, "a", MP_VALUE_OPTIONS(__VA_ARGS__), &other)
    assert_int_equal(refused(.type = 0), -EINVAL);
    assert_int_equal(refused(.type = 'x'), -EINVAL);
    assert_int_equal(refused(.type = 256 + 'i'), -EINVAL);
    assert_int_equal(refused(.type = 'i', .size = 8), -EINVAL);
    assert_int_equal(refused(.type = 'i', .flags = 4), -EINVAL);
    assert_int_equal(refused(.type = 'i', .flags = MP_VALUE_VERSIONED | MP_VALUE_UNLOCKED),
                     -EINVAL);
    assert_int_equal(mp_value_create(arena, "a", &small, &other), -EINVAL);
    assert_int_equal(mp_value_create(arena, "a", NULL, &other), -EINVAL);
    assert_int_equal(mp_value_create(NULL, "a", MP_VALUE_OPTIONS(.type = 'i'), &other), -EINVAL);
    assert_int_equal(mp_value_create(arena, "a", MP_VALUE_OPTIONS(.type = 'i'), NULL), -EINVAL);
    assert_int_equal(mp_value_create(arena, "value", MP_VALUE_OPTIONS(.type = 'i'), &other),
                     -EEXIST);
    assert_int_equal(mp_value_create(arena, name, MP_VALUE_OPTIONS(.type = 'i'), &other),
                     -ENAMETOOLONG);
    assert_int_equal(mp_value_create(arena, "a", MP_VALUE_OPTIONS(.size = 1 << 30), &other),
                     -EMSGSIZE);
    assert_int_equal(mp_value_create(arena, "a", MP_VALUE_OPTIONS(.size = SIZE_MAX), &other),
                     -EMSGSIZE);
    assert_int_equal(mp_value_create(arena, "a",
                                     MP_VALUE_OPTIONS(.size = mp_arena_max_block(arena) / 2 + 1,
                                                      .flags = MP_VALUE_VERSIONED),
                                     &other),
                     -EMSGSIZE);
    assert_int_equal(mp_value_open(NULL, "value", &other), -EINVAL);
    assert_int_equal(mp_value_open(arena, NULL, &other), -EINVAL);
    assert_int_equal(mp_value_open(arena, "value", NULL), -EINVAL);
    assert_int_equal(mp_value_open(arena, "none", &other), -ENOENT);
    assert_int_equal(mp_value_open(arena, name, &other), -ENAMETOOLONG);
    assert_null(other);
    assert_null(mp_value_close(NULL));
    assert_int_equal(mp_value_destroy(NULL), -EINVAL);
    assert_int_equal(mp_value_lock(NULL, 0), -EINVAL);
    assert_int_equal(mp_value_unlock(NULL), -EINVAL);
    assert_int_equal(mp_value_unlock(value), -EPERM);
    assert_int_equal(mp_value_get(NULL, &n, sizeof n), -EINVAL);
    assert_int_equal(mp_value_get(value, NULL, sizeof n), -EINVAL);
    assert_int_equal(mp_value_get(value, &n, 2), -EINVAL);
    assert_int_equal(mp_value_get(value, &n, 8), -EINVAL);
    assert_int_equal(n, 1);
    assert_int_equal(mp_value_set(NULL, &n, sizeof n), -EINVAL);
    assert_int_equal(mp_value_set(value, NULL, sizeof n), -EINVAL);
    assert_int_equal(mp_value_set(value, &n, 0), -EINVAL);
    assert_int_equal(mp_value_add(NULL, 1, NULL), -EINVAL);
    assert_int_equal(mp_value_add_double(NULL, 1, NULL), -EINVAL);
    assert_int_equal(mp_value_add_double(value, 1, NULL), -EINVAL);
    assert_null(mp_value_memory(NULL));
    assert_null(mp_value_name(NULL));
    assert_int_equal(mp_value_size(NULL), 0);
    assert_int_equal(mp_value_type(NULL), 0);
    assert_int_equal(mp_value_get(value, &n, sizeof n), 0);
    assert_int_equal(n, 0);
    mp_value_close(value);
    mp_arena_close(arena);
}

/* Each type: its size, zero at first, and what it was given; and adding, as it wraps. */
static void test_types(void **state)
{
    static const struct {
        uint32_t type;
        size_t size;
        int64_t set, add, sum; /* add 0: it is no integer */
    } types[] = {
        {MP_TYPE_INT8, 1, 127, 1, -128},
        {MP_TYPE_UINT8, 1, 255, 2, 1},
        {MP_TYPE_INT16, 2, -32768, -1, 32767},
        {MP_TYPE_UINT16, 2, 0, -1, 65535},
        {MP_TYPE_INT32, 4, -5, 3, -2},
        {MP_TYPE_UINT32, 4, 5, -6, UINT32_MAX},
        {MP_TYPE_INT64, 8, INT64_MAX, 1, INT64_MIN},
        {MP_TYPE_UINT64, 8, 5, INT64_MAX, INT64_MIN + 4},
        {'l', 8, 1, 1, 2},
        {'L', 8, 1, 1, 2},
        {MP_TYPE_BOOL, 1, 1, 0, 0},
        {MP_TYPE_CHAR, 1, 'x', 0, 0},
        {MP_TYPE_WCHAR, sizeof(wchar_t), 0x1f40d, 0, 0},
        {MP_TYPE_FLOAT, 4, 7, 0, 0},
        {MP_TYPE_DOUBLE, 8, 7, 0, 0},
    };

    (void)state;
    for (unsigned i = 0; i < MP_ARRAY_SIZE(types); i++)
        for (uint32_t flags = 0; flags <= MP_VALUE_VERSIONED; flags++) {
            mp_arena *arena = make_arena();
            mp_value *value = make(arena, NULL, types[i].type, flags);
            int64_t n = 0, sum = 0;

            assert_int_equal(mp_value_size(value), types[i].size);
            assert_int_equal(mp_value_get(value, &n, types[i].size), 0);
            assert_int_equal(n, 0);
            assert_int_equal(mp_value_set(value, &types[i].set, types[i].size), 0);
            assert_int_equal(mp_value_get(value, &n, types[i].size), 0);
            assert_memory_equal(&n, &types[i].set, types[i].size);
            assert_int_equal(mp_value_add(value, types[i].add, &sum), types[i].add ? 0 : -EINVAL);
            assert_true(sum == types[i].sum);
            mp_value_close(value);
            mp_arena_close(arena);
        }
}

static void test_floats(void **state)
{
    mp_arena *arena = make_arena();
    double half = 0.5, d, sum;
    float narrow = 0.25f;
    mp_value *value;

    (void)state;
    for (uint32_t flags = 0; flags <= MP_VALUE_VERSIONED; flags++) {
        assert_int_equal(mp_value_create(arena, NULL,
                                         MP_VALUE_OPTIONS(.type = MP_TYPE_DOUBLE, .flags = flags,
                                                          .initial = &half),
                                         &value),
                         0);
        assert_int_equal(mp_value_add_double(value, 1.0, &sum), 0);
        assert_true(sum == 1.5);
        assert_int_equal(mp_value_get(value, &d, sizeof d), 0);
        assert_true(d == 1.5);
        assert_int_equal(mp_value_add(value, 1, NULL), -EINVAL);
        mp_value_close(value);
        assert_int_equal(mp_value_create(arena, NULL,
                                         MP_VALUE_OPTIONS(.type = MP_TYPE_FLOAT, .flags = flags,
                                                          .initial = &narrow),
                                         &value),
                         0);
        assert_int_equal(mp_value_add_double(value, -1.0, &sum), 0);
        assert_true(sum == -0.75);
        mp_value_close(value);
    }
    mp_arena_close(arena);
}

/* Python's test_getobj_getlock: what there is with a lock, without one, and versioned. */
static void test_memory_and_lock(void **state)
{
    mp_arena *arena = make_arena();
    mp_value *locked = make(arena, "locked", 'i', 0), *same = find(arena, "locked");
    mp_value *raw = make(arena, "raw", 'i', MP_VALUE_UNLOCKED);
    mp_value *versioned = make(arena, "versioned", 'i', MP_VALUE_VERSIONED);
    int32_t n = 5, got;
    int64_t sum;

    (void)state;
    assert_string_equal(mp_value_name(locked), "locked");
    assert_int_equal(mp_value_type(same), MP_TYPE_INT32);
    assert_int_equal((uintptr_t)mp_value_memory(locked) % 64, 0);
    assert_ptr_equal(mp_value_memory(locked), mp_value_memory(same));
    assert_int_equal(mp_value_lock(locked, 0), 0);
    assert_int_equal(mp_value_lock(same, MP_FOREVER), 0); /* recursive */
    assert_int_equal(mp_value_set(locked, &n, sizeof n), 0);
    assert_int_equal(++*(int32_t *)mp_value_memory(same), 6);
    assert_int_equal(mp_value_add(same, 1, &sum), 0);
    assert_int_equal(sum, 7);
    assert_int_equal(mp_value_unlock(same), 0);
    assert_int_equal(mp_value_unlock(locked), 0);
    assert_int_equal(mp_value_unlock(locked), -EPERM);

    assert_int_equal(mp_value_lock(raw, 0), -EINVAL);
    assert_int_equal(mp_value_unlock(raw), -EINVAL);
    *(int32_t *)mp_value_memory(raw) = 9;
    assert_int_equal(mp_value_get(raw, &got, sizeof got), 0);
    assert_int_equal(got, 9);
    assert_int_equal(mp_value_add(raw, 1, &sum), 0);
    assert_int_equal(sum, 10);

    assert_null(mp_value_memory(versioned));
    assert_int_equal(mp_value_lock(versioned, 0), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(mp_value_set(versioned, &i, sizeof i), 0);
        assert_int_equal(mp_value_get(versioned, &got, sizeof got), 0);
        assert_int_equal(got, i);
    }
    assert_int_equal(mp_value_unlock(versioned), 0);
    mp_value_close(locked);
    mp_value_close(same);
    mp_value_close(raw);
    mp_value_close(versioned);
    mp_arena_close(arena);
}

/* ---- atomic operations ---- */

static void test_atomic(void **state)
{
    mp_arena *arena = make_arena();
    mp_value *value, *versioned = make(arena, NULL, 'q', MP_VALUE_VERSIONED);
    uint64_t n, expected;
    unsigned char *bytes;

    (void)state;
    assert_int_equal(mp_value_create(arena, NULL, MP_VALUE_OPTIONS(.size = 20), &value), 0);
    bytes = mp_value_memory(value);
    for (size_t width = 1; width <= 8; width *= 2) {
        uint64_t most = UINT64_MAX >> (64 - 8 * width);

        assert_int_equal(mp_value_atomic_store(value, 8, width, UINT64_MAX - 1), 0);
        assert_int_equal(mp_value_atomic_load(value, 8, width, &n), 0);
        assert_true(n == most - 1);
        assert_int_equal(mp_value_atomic_add(value, 8, width, 3, &n), 0);
        assert_true(n == most - 1);
        assert_int_equal(mp_value_atomic_load(value, 8, width, &n), 0);
        assert_true(n == 1);
        expected = 2;
        assert_int_equal(mp_value_atomic_exchange_if(value, 8, width, &expected, 7), 0);
        assert_true(expected == 1);
        assert_int_equal(mp_value_atomic_exchange_if(value, 8, width, &expected, 7), 1);
        assert_int_equal(mp_value_atomic_add(value, 8, width, (uint64_t)-7, NULL), 0);
        assert_int_equal(mp_value_atomic_load(value, 8, width, &n), 0);
        assert_true(n == 0);
        assert_int_equal(mp_value_atomic_load(value, 24 - 24 % width, width, &n), -ERANGE);
        assert_int_equal(mp_value_atomic_load(value, SIZE_MAX - width + 1, width, &n), -ERANGE);
        if (width > 1)
            assert_int_equal(mp_value_atomic_add(value, 1, width, 1, NULL), -EINVAL);
    }
    for (int i = 0; i < 20; i++)
        assert_int_equal(bytes[i], 0);
    assert_int_equal(mp_value_atomic_load(value, 16, 4, &n), 0);
    assert_int_equal(mp_value_atomic_load(value, 16, 8, &n), -ERANGE);
    assert_int_equal(mp_value_atomic_load(value, 0, 0, &n), -EINVAL);
    assert_int_equal(mp_value_atomic_load(value, 0, 3, &n), -EINVAL);
    assert_int_equal(mp_value_atomic_load(value, 0, 16, &n), -EINVAL);
    assert_int_equal(mp_value_atomic_load(NULL, 0, 8, &n), -EINVAL);
    assert_int_equal(mp_value_atomic_load(value, 0, 8, NULL), -EINVAL);
    assert_int_equal(mp_value_atomic_store(NULL, 0, 8, 1), -EINVAL);
    assert_int_equal(mp_value_atomic_add(NULL, 0, 8, 1, NULL), -EINVAL);
    assert_int_equal(mp_value_atomic_exchange_if(value, 0, 8, NULL, 1), -EINVAL);
    assert_int_equal(mp_value_atomic_exchange_if(NULL, 0, 8, &expected, 1), -EINVAL);
    assert_int_equal(mp_value_atomic_load(versioned, 0, 8, &n), -EINVAL);
    mp_value_close(value);
    mp_value_close(versioned);
    mp_arena_close(arena);
}

/* ---- with others ---- */

/* What a child sets is there, and what it changes under the lock. */
PART(change)
{
    mp_value *i = find(part->arena, "i"), *d = find(part->arena, "d");
    mp_value *wide = find(part->arena, "wide");
    struct wide w;
    double x;

    assert(mp_value_lock(d, PATIENCE) == 0);
    assert(mp_value_get(d, &x, sizeof x) == 0);
    x *= 2;
    assert(mp_value_set(d, &x, sizeof x) == 0);
    assert(mp_value_unlock(d) == 0);
    assert(mp_value_set(i, &(int32_t){-42}, sizeof(int32_t)) == 0);
    assert(mp_value_get(wide, &w, sizeof w) == 0 && w.words[0] == 0);
    w = wide_of(42);
    assert(mp_value_set(wide, &w, sizeof w) == 0);
    mp_value_close(i);
    mp_value_close(d);
    mp_value_close(wide);
}

static void test_child_changes(void **state)
{
    mp_value *i, *d, *wide;
    struct crew crew;
    mp_arena *arena;
    struct wide w;
    int32_t n;
    double x = 1.5;

    need_carrier(state);
    for (uint32_t flags = 0; flags <= MP_VALUE_VERSIONED; flags++) {
        arena = make_arena();
        i = make(arena, "i", 'i', flags);
        d = make(arena, "d", 'd', 0);
        wide = make_wide(arena, flags);
        assert_int_equal(mp_value_set(d, &x, sizeof x), 0);
        crew_start(&crew, carrier_of(state), arena, change, 1, 0);
        crew_join(&crew);
        assert_int_equal(mp_value_get(i, &n, sizeof n), 0);
        assert_int_equal(n, -42);
        assert_int_equal(mp_value_get(d, &x, sizeof x), 0);
        assert_true(x == 3.0);
        x = 1.5;
        assert_int_equal(mp_value_get(wide, &w, sizeof w), 0);
        assert_true(w.words[0] == 42 && is_whole(&w));
        mp_value_close(i);
        mp_value_close(d);
        mp_value_close(wide);
        until(settled(arena, 1));
        mp_arena_close(arena);
    }
}

PART(count)
{
    mp_value *added = find(part->arena, "added"), *atomic = find(part->arena, "atomic");
    mp_value *versioned = find(part->arena, "versioned"), *swapped = find(part->arena, "swapped");
    uint64_t n;

    for (uint64_t i = 0; i < part->argument; i++) {
        assert(mp_value_add(added, 1, NULL) == 0);
        assert(mp_value_add(versioned, 2, NULL) == 0);
        assert(mp_value_atomic_add(atomic, 0, 4, 3, NULL) == 0);
        assert(mp_value_atomic_load(swapped, 0, 8, &n) == 0);
        while (mp_value_atomic_exchange_if(swapped, 0, 8, &n, n + 4) != 1)
            continue;
    }
    mp_value_close(added);
    mp_value_close(atomic);
    mp_value_close(versioned);
    mp_value_close(swapped);
}

/* Nothing that many add at once is lost. */
static void test_count_together(void **state)
{
    enum { N = 4, TIMES = 2000 };
    mp_value *added, *atomic, *versioned, *swapped;
    struct crew crew;
    mp_arena *arena;
    uint64_t n = 0;

    need_carrier(state);
    arena = make_arena();
    added = make(arena, "added", 'q', 0);
    versioned = make(arena, "versioned", 'q', MP_VALUE_VERSIONED);
    atomic = make(arena, "atomic", 'I', MP_VALUE_UNLOCKED);
    swapped = make(arena, "swapped", 'Q', 0);
    crew_start(&crew, carrier_of(state), arena, count, N, TIMES);
    crew_join(&crew);
    assert_int_equal(mp_value_get(added, &n, 8), 0);
    assert_int_equal(n, N * TIMES);
    assert_int_equal(mp_value_get(versioned, &n, 8), 0);
    assert_int_equal(n, N * TIMES * 2);
    assert_int_equal(mp_value_get(swapped, &n, 8), 0);
    assert_int_equal(n, N * TIMES * 4);
    n = 0;
    assert_int_equal(mp_value_get(atomic, &n, 4), 0);
    assert_int_equal(n, N * TIMES * 3);
    mp_value_close(added);
    mp_value_close(atomic);
    mp_value_close(versioned);
    mp_value_close(swapped);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* The first writes as fast as it can, the others read: always whole, and never back in time. */
PART(write_or_read)
{
    mp_value *wide = find(part->arena, "wide");
    uint64_t last = 0;
    struct wide w;

    while (last < part->argument) {
        if (part->index == 0) {
            w = wide_of(++last);
            assert(mp_value_set(wide, &w, sizeof w) == 0);
            continue;
        }
        assert(mp_value_get(wide, &w, sizeof w) == 0);
        assert(is_whole(&w) && w.words[0] >= last);
        last = w.words[0];
    }
    mp_value_close(wide);
}

static void test_read_whole(void **state)
{
    struct crew crew;
    mp_arena *arena;
    mp_value *wide;

    need_carrier(state);
    for (uint32_t flags = 0; flags <= MP_VALUE_VERSIONED; flags += MP_VALUE_VERSIONED) {
        arena = make_arena();
        wide = make_wide(arena, flags);
        crew_start(&crew, carrier_of(state), arena, write_or_read, 3, 3000);
        crew_join(&crew);
        mp_value_close(wide);
        until(settled(arena, 1));
        mp_arena_close(arena);
    }
}

/* ---- a lock that somebody has ---- */

struct holder {
    mp_value *value;
    int go[2], held[2];
    pid_t pid;
};

static void hold(void *user)
{
    struct holder *h = user;
    char c = 0;

    assert(mp_value_lock(h->value, 0) == 0);
    assert(write(h->held[1], &c, 1) == 1);
    assert(read(h->go[0], &c, 1) == 1);
    assert(mp_value_unlock(h->value) == 0);
}

static void start_holder(struct holder *h, mp_value *value)
{
    char c;

    h->value = value;
    assert_int_equal(pipe(h->go), 0);
    assert_int_equal(pipe(h->held), 0);
    h->pid = child_start(hold, h);
    assert_int_equal(read(h->held[0], &c, 1), 1);
}

static void end_holder(struct holder *h, bool killed)
{
    if (killed) {
        child_kill(h->pid);
    } else {
        assert_int_equal(write(h->go[1], "", 1), 1);
        child_join(h->pid);
    }
    for (int i = 0; i < 2; i++) {
        close(h->go[i]);
        close(h->held[i]);
    }
}

static void test_held(void **state)
{
    mp_value *wide, *plain;
    struct holder h;
    mp_arena *arena;
    struct wide w;

    need_carrier(state);
    arena = make_arena();
    wide = make_wide(arena, MP_VALUE_VERSIONED);
    plain = make(arena, "plain", 'i', 0);
    start_holder(&h, wide);
    assert_int_equal(mp_value_get(wide, &w, sizeof w), 0); /* it waits for nobody */
    assert_int_equal(mp_value_lock(wide, 0), -EAGAIN);
    assert_int_equal(mp_value_lock(wide, MP_MSEC(5)), -ETIMEDOUT);
    assert_int_equal(mp_value_unlock(wide), -EPERM);
    assert_int_equal(mp_value_destroy(wide), -EBUSY);
    end_holder(&h, false);
    assert_int_equal(mp_value_lock(wide, 0), 0);
    assert_int_equal(mp_value_destroy(wide), -EBUSY); /* by this very thread */
    assert_int_equal(mp_value_unlock(wide), 0);
    assert_int_equal(mp_value_destroy(wide), 0);
    assert_int_equal(mp_value_destroy(plain), 0);
    mp_value_close(wide);
    mp_value_close(plain);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* Who is told that one died with the lock: all, until somebody has put it in order. */
static void test_owner_dies(void **state)
{
    struct wide w = wide_of(1);
    struct holder h;
    mp_arena *arena;
    mp_value *wide, *n;
    int64_t sum;

    need_carrier(state);
    arena = make_arena();
    wide = make_wide(arena, 0);
    n = make(arena, "n", 'i', 0);
    start_holder(&h, wide);
    end_holder(&h, true);
    for (int i = 0; i < 2; i++)
        assert_int_equal(mp_value_get(wide, &w, sizeof w), MP_OWNER_DIED);
    assert_int_equal(mp_value_set(wide, &w, sizeof w), MP_OWNER_DIED);
    assert_int_equal(mp_value_get(wide, &w, sizeof w), 0);

    start_holder(&h, n);
    end_holder(&h, true);
    assert_int_equal(mp_value_add(n, 1, &sum), MP_OWNER_DIED);
    assert_int_equal(sum, 1);
    assert_int_equal(mp_value_add(n, 1, NULL), MP_OWNER_DIED);
    assert_int_equal(mp_value_lock(n, 0), MP_OWNER_DIED);
    assert_int_equal(mp_value_add(n, 1, NULL), 0);
    assert_int_equal(mp_value_unlock(n), 0);
    assert_int_equal(mp_value_add(n, 1, &sum), 0);
    assert_int_equal(sum, 4);

    start_holder(&h, n);
    end_holder(&h, true);
    assert_int_equal(mp_value_destroy(n), 0);
    mp_value_close(wide);
    mp_value_close(n);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- the end of it ---- */

static void check_stale(mp_value *value)
{
    char data[100];
    uint64_t n = 0;
    size_t size = mp_value_size(value);

    assert_int_equal(mp_value_get(value, data, size), -ESTALE);
    assert_int_equal(mp_value_set(value, data, size), -ESTALE);
    assert_int_equal(mp_value_destroy(value), -ESTALE);
    if (mp_value_type(value) == MP_TYPE_INT32)
        assert_int_equal(mp_value_add(value, 1, NULL), -ESTALE);
    if (mp_value_memory(value)) {
        assert_int_equal(mp_value_atomic_load(value, 0, 4, &n), -ESTALE);
        assert_int_equal(mp_value_atomic_store(value, 0, 4, 1), -ESTALE);
        assert_int_equal(mp_value_atomic_add(value, 0, 4, 1, NULL), -ESTALE);
        assert_int_equal(mp_value_atomic_exchange_if(value, 0, 4, &n, 1), -ESTALE);
    }
}

PART(wait_until_gone)
{
    mp_value *value = find(part->arena, "value");

    assert(mp_value_lock(value, part->index % 2 ? PATIENCE : MP_FOREVER) == -ESTALE);
    mp_value_close(value);
}

static void test_destroy(void **state)
{
    mp_value *value, *after;
    struct mp_arena_stats before, now;
    mp_arena *arena;
    int32_t n = 3;

    (void)state;
    arena = make_arena();
    mp_value_close(make(arena, "first", 'i', 0));
    assert_int_equal(mp_arena_stats(arena, &before), 0);
    for (uint32_t flags = 0; flags <= MP_VALUE_VERSIONED; flags++)
        for (int round = 0; round < 100; round++) {
            value = make(arena, "value", 'i', flags);
            assert_int_equal(mp_value_set(value, &n, sizeof n), 0);
            assert_int_equal(mp_value_destroy(value), 0);
            check_stale(value);
            assert_int_equal(mp_value_open(arena, "value", &after), -ENOENT);
            after = make(arena, "value", 'i', flags);
            check_stale(value);
            assert_int_equal(mp_value_get(after, &n, sizeof n), 0);
            assert_int_equal(n, 0);
            n = 3;
            assert_int_equal(mp_value_destroy(after), 0);
            mp_value_close(after);
            mp_value_close(value);
        }
    assert_int_equal(mp_arena_stats(arena, &now), 0);
    assert_int_equal(now.objects, before.objects);
    assert_true(now.backed <= before.backed + (64 << 10));
    mp_arena_close(arena);
}

/* Those who wait are told that it is gone. */
static void test_destroy_wakes(void **state)
{
    enum { N = 4 };
    mp_value *value;
    struct holder h;
    struct crew crew;
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    value = make(arena, "value", 'i', 0);
    start_holder(&h, value);
    crew_start(&crew, carrier_of(state), arena, wait_until_gone, N, 0);
    until(sleepers(arena, MP_WAIT_VALUE) >= (carrier_of(state) == THREADS ? 1 : N));
    /* As if it had been written over: nobody gets the lock, and it can be destroyed. */
    assert_int_equal(mp_value_destroy(value), -EBUSY);
    mp_store_seqcst(&arena->directory[0].word, 0x12345678);
    assert_int_equal(mp_value_destroy(value), 0);
    crew_join(&crew);
    end_holder(&h, true);
    mp_value_close(value);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

static void use_parents_handle(void *user)
{
    assert(mp_value_add(user, 5, NULL) == 0);
    assert(mp_value_lock(user, PATIENCE) == 0);
    assert(mp_value_unlock(user) == 0);
}

static void test_fork(void **state)
{
    mp_arena *arena;
    mp_value *value;
    int64_t sum;

    need_carrier(state);
    arena = make_arena();
    value = make(arena, NULL, 'h', 0);
    child_join(child_start(use_parents_handle, value));
    assert_int_equal(mp_value_add(value, 0, &sum), 0);
    assert_int_equal(sum, 5);
    mp_value_close(value);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* What a directory entry says that was written over. */
static void test_hostile_entry(void **state)
{
    mp_arena *arena = make_arena();
    mp_value *value = make_wide(arena, 0), *other;
    struct mp_directory_entry *e = &arena->directory[0], was = *e;
    static const uint64_t sizes[] = {0, 1025, UINT64_MAX, UINT64_MAX / 2 + 1};
    static const uint32_t flags[] = {'i', 0x100, 0x300, 0x400, UINT32_MAX};
    struct wide w;

    (void)state;
    for (unsigned i = 0; i < MP_ARRAY_SIZE(sizes); i++) {
        mp_store_relaxed(&e->size, sizes[i]);
        assert_int_equal(mp_value_open(arena, "wide", &other), -EPROTO);
        mp_store_relaxed(&e->size, mp_load_relaxed(&was.size));
        mp_store_relaxed(&e->cells, sizes[i]);
        assert_int_equal(mp_value_open(arena, "wide", &other), -EPROTO);
        mp_store_relaxed(&e->cells, 1);
    }
    for (unsigned i = 0; i < MP_ARRAY_SIZE(flags); i++) {
        if (flags[i] == 0x100)
            continue;
        mp_store_relaxed(&e->flags, flags[i]);
        assert_int_equal(mp_value_open(arena, "wide", &other), -EPROTO);
    }
    mp_store_relaxed(&e->flags, 0x200); /* two copies do not fit */
    assert_int_equal(mp_value_open(arena, "wide", &other), -EPROTO);
    mp_store_relaxed(&e->flags, mp_load_relaxed(&was.flags));
    mp_store_relaxed(&e->block, UINT64_MAX);
    assert_int_equal(mp_value_open(arena, "wide", &other), -EPROTO);
    /* Who has a handle has no need of it. */
    assert_int_equal(mp_value_get(value, &w, sizeof w), 0);
    mp_store_relaxed(&e->word, 0x12345678);
    assert_int_equal(mp_value_get(value, &w, sizeof w), -ENOTRECOVERABLE);
    mp_store_relaxed(&e->block, mp_load_relaxed(&was.block));
    assert_int_equal(mp_value_destroy(value), 0);
    mp_value_close(value);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_refuses),         clean_test(test_types),
        clean_test(test_floats),          clean_test(test_memory_and_lock),
        clean_test(test_atomic),          on_carriers(test_child_changes),
        on_carriers(test_count_together), on_carriers(test_read_whole),
        carried_test(test_held, FORK),    carried_test(test_owner_dies, FORK),
        clean_test(test_destroy),         on_processes(test_destroy_wakes),
        carried_test(test_fork, FORK),    clean_test(test_hostile_entry),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
