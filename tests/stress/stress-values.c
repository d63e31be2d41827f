/* SPDX-License-Identifier: MIT */
/*
 * Stress at values, an array and a map. Workers set, get, add, go through and delete, by chance.
 * Whatever is read is whole, or its reader is told that somebody died; at rest no sum is missing,
 * and the map has room for as many as at the start.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

#include "stress/stress.h"

#define WORDS 13u
#define KEYS 40u

struct wide {
    uint64_t words[WORDS];
};

struct shared {
    _Atomic(uint64_t) counted; /* what was added; unknown where workers are killed */
};

static mp_value *locked, *versioned, *sum;
static mp_array *array;
static mp_map *map;
static struct shared *shared;

static void begin(mp_arena *arena, void *memory)
{
    shared = memory;
    assert(mp_value_create(arena, NULL, MP_VALUE_OPTIONS(.size = sizeof(struct wide)), &locked) ==
           0);
    assert(
        mp_value_create(arena, NULL,
                        MP_VALUE_OPTIONS(.size = sizeof(struct wide), .flags = MP_VALUE_VERSIONED),
                        &versioned) == 0);
    assert(mp_value_create(arena, NULL, MP_VALUE_OPTIONS(.type = MP_TYPE_INT64), &sum) == 0);
    assert(mp_array_create(arena, NULL,
                           MP_ARRAY_OPTIONS(.type = MP_TYPE_UINT64, .length = WORDS + 1),
                           &array) == 0);
    assert(mp_map_create(
               arena, NULL,
               MP_MAP_OPTIONS(.capacity = KEYS, .key_max = 4, .value_max = sizeof(struct wide)),
               &map) == 0);
}

static struct wide wide_of(uint64_t n)
{
    struct wide w;

    for (unsigned i = 0; i < WORDS; i++)
        w.words[i] = n;
    return w;
}

static bool is_whole(const struct wide *w)
{
    for (unsigned i = 1; i < WORDS; i++)
        if (w->words[i] != w->words[0])
            return false;
    return true;
}

/* Told of a death, where there are any; or not. */
static bool is_told(const struct worker *w, int r)
{
    assert(r == 0 || (r == MP_OWNER_DIED && stress_mode(w) == STRESS_KILLED));
    return r == MP_OWNER_DIED;
}

static void change_memory(struct worker *w)
{
    struct wide *memory = mp_value_memory(locked);

    if (is_told(w, mp_value_lock(locked, PATIENCE)))
        *memory = wide_of(0);
    stress_holds(w, true);
    for (unsigned i = 0; i < WORDS; i++)
        memory->words[i]++;
    stress_work(w);
    stress_holds(w, false);
    assert(mp_value_unlock(locked) == 0);
}

static void use_values(struct worker *w)
{
    struct wide wide = wide_of(stress_dice(w, 1u << 30));

    switch (stress_dice(w, 6)) {
    case 0:
        is_told(w, mp_value_set(locked, &wide, sizeof wide));
        break;
    case 1:
        if (!is_told(w, mp_value_get(locked, &wide, sizeof wide)))
            assert(is_whole(&wide));
        break;
    case 2:
        change_memory(w);
        break;
    case 3:
        is_told(w, mp_value_set(versioned, &wide, sizeof wide));
        break;
    default:
        assert(mp_value_get(versioned, &wide, sizeof wide) == 0);
        assert(is_whole(&wide));
    }
}

static void use_array(struct worker *w)
{
    struct wide wide = wide_of(stress_dice(w, 1u << 30));

    if (stress_dice(w, 2)) {
        /* All but one: only the lock itself puts that in order. */
        is_told(w, mp_array_lock(array, PATIENCE));
        assert(mp_array_set_slice(array, 0, WORDS, &wide, sizeof wide) == 0);
        assert(mp_array_unlock(array) == 0);
    } else if (!is_told(w, mp_array_get_slice(array, 0, WORDS, &wide, sizeof wide))) {
        assert(is_whole(&wide));
    }
    is_told(w, mp_value_add(sum, 1, NULL));
    assert(mp_array_atomic_add(array, WORDS, 1, NULL) == 0);
    shared->counted++;
}

static void go_through(void)
{
    struct wide wide;
    uint32_t key;
    struct mp_map_item item = {.key = &key, .value = &wide};
    uint64_t seen = 0;
    int r;

    while ((r = mp_map_next(map, &item)) == 1) {
        assert(item.key_size == sizeof key && item.value_size == sizeof wide);
        assert(is_whole(&wide) && wide.words[0] % KEYS == key);
        assert(!(seen >> key & 1));
        seen |= UINT64_C(1) << key;
    }
    assert(r == 0);
}

static void use_map(struct worker *w)
{
    uint32_t key = stress_dice(w, KEYS);
    struct wide wide = wide_of((uint64_t)stress_dice(w, 1u << 20) * KEYS + key);
    struct wide next = wide_of(wide.words[0] + KEYS);
    size_t size;
    int r;

    switch (stress_dice(w, 8)) {
    case 0:
    case 1:
        assert(mp_map_put(map, &key, sizeof key, &wide, sizeof wide, PATIENCE) == 0);
        break;
    case 2:
        r = mp_map_delete(map, &key, sizeof key, PATIENCE);
        assert(r == 0 || r == -ENOENT);
        break;
    case 3:
        r = mp_map_get(map, &key, sizeof key, &wide, sizeof wide, &size);
        if (r == 0)
            r = mp_map_put_if(map, &key, sizeof key, &wide, size, &next, sizeof next, PATIENCE);
        assert(r >= 0 || r == -ENOENT);
        break;
    case 4:
        if (stress_dice(w, 16) == 0)
            go_through();
        break;
    default:
        r = mp_map_get(map, &key, sizeof key, &wide, sizeof wide, &size);
        assert(r == 0 || r == -ENOENT);
        assert(r < 0 || (size == sizeof wide && is_whole(&wide) && wide.words[0] % KEYS == key));
    }
}

static void work(struct worker *w)
{
    while (stress_turn(w)) {
        use_values(w);
        use_array(w);
        use_map(w);
    }
}

static void check_map(void)
{
    struct wide wide;
    uint64_t n;

    go_through();
    for (uint32_t key = 0; key < KEYS; key++) {
        wide = wide_of(key);
        assert(mp_map_put(map, &key, sizeof key, &wide, sizeof wide, PATIENCE) == 0);
    }
    assert(mp_map_put(map, "new", 3, &wide, sizeof wide, PATIENCE) == -ENOBUFS);
    assert(mp_map_len(map, &n) == 0 && n == KEYS);
}

static void end(uint64_t turns, uint32_t killed)
{
    struct wide wide;
    uint64_t n = 0;
    int r;

    (void)turns;
    check_map();
    assert(mp_value_get(versioned, &wide, sizeof wide) == 0 && is_whole(&wide));
    r = mp_value_get(locked, &wide, sizeof wide);
    assert((r == 0 && is_whole(&wide)) || (r == MP_OWNER_DIED && killed));
    assert(mp_value_get(sum, &n, sizeof n) >= 0 && (killed || n == shared->counted));
    assert(mp_array_atomic_load(array, WORDS, &n) == 0 && (killed || n == shared->counted));
    locked = mp_value_close(locked);
    versioned = mp_value_close(versioned);
    sum = mp_value_close(sum);
    array = mp_array_close(array);
    map = mp_map_close(map);
}

int main(int argc, char **argv)
{
    static const struct stress stress = {.name = "values",
                                         .workers = 5,
                                         .size = sizeof *shared,
                                         .begin = begin,
                                         .work = work,
                                         .end = end,
                                         .rounds = 6};

    return stress_main(&stress, argc, argv);
}
