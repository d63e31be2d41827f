/* SPDX-License-Identifier: MIT */
/*
 * The map: a table (shared/table.c) under a lock for writers, which is the entry's word
 * (sync/word.c).
 *
 * The news that a writer died goes no further than the next one, who puts the table in order. A
 * reader looks at the turn, the table, and the turn again, and begins anew if it has moved; after a
 * second of that he gives up. Whoever destroys a map has its lock, so nobody writes to memory that
 * has become another's; and a reader looks last whether the map still lives.
 */

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <mp/map.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "shared/table.h"
#include "sync/word.h"

#define KEY_DEFAULT 64u
#define VALUE_DEFAULT 256u
#define PATIENCE_NS MP_SEC(1)
#define TRIES_AT_ONCE 64u

struct mp_map {
    struct mp_object object;
    struct mp_table table;
};

/* As make() gets it. */
struct making {
    struct mp_object_spec spec; /* first */
    struct mp_table *table;
};

static int make(struct mp_arena *a, struct mp_directory_entry *e, void *memory,
                const struct mp_object_spec *spec, bool revived)
{
    struct mp_table *t = ((const struct making *)(const void *)spec)->table;

    (void)a;
    (void)e;
    (void)revived;
    mp_table_lie_at(t, memory);
    mp_table_make(t);
    return 0;
}

static uint64_t random_seed(void)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
        seed = mp_now_ns() ^ (uint64_t)(uintptr_t)&seed;
    return seed;
}

/* Bytes for the table; UINT64_MAX: no block is as large. */
static uint64_t shape(const struct mp_arena *a, struct mp_table *t, uint32_t capacity,
                      uint32_t key_max, uint32_t value_max)
{
    uint64_t most = mp_arena_max_block(a), bytes;

    if (capacity > MP_MAP_CAPACITY_MAX || key_max > most || value_max > most)
        return UINT64_MAX;
    bytes = mp_table_shape(t, capacity, key_max, value_max);
    return bytes > most ? UINT64_MAX : bytes;
}

int mp_map_create(mp_arena *arena, const char *name, const struct mp_map_options *options,
                  mp_map **ret_map)
{
    _cleanup_free_ struct mp_map *m = NULL;
    uint32_t key_max, value_max;
    struct making making;
    int r;

    if (!arena || !options || options->struct_size < sizeof *options || !ret_map)
        return -EINVAL;
    if (options->capacity == 0 || options->capacity > MP_MAP_CAPACITY_MAX)
        return -EINVAL;
    m = malloc(sizeof *m);
    if (!m)
        return -ENOMEM;
    key_max = options->key_max ? options->key_max : KEY_DEFAULT;
    value_max = options->value_max ? options->value_max : VALUE_DEFAULT;
    m->table.seed = options->seed ? options->seed : random_seed();
    making = (struct making){
        .spec =
            {
                .name = name,
                .kind = MP_KIND_MAP,
                .size = (uint64_t)key_max << 32 | value_max,
                .cells = options->capacity,
                .value = m->table.seed,
                .memory = shape(arena, &m->table, options->capacity, key_max, value_max),
                .initialize = make,
            },
        .table = &m->table,
    };
    if (making.spec.memory == UINT64_MAX)
        return -EMSGSIZE;
    r = mp_object_make(arena, &making.spec, &m->object);
    if (r == 0)
        *ret_map = mp_take_ptr(m);
    return r;
}

/* What the entry says, read once and checked. */
static int find_table(struct mp_map *m)
{
    const struct mp_directory_entry *e = m->object.entry;
    struct mp_arena *a = m->object.arena;
    uint64_t size = mp_load_relaxed(&e->size), capacity = mp_load_relaxed(&e->cells);
    void *memory = NULL;

    m->table.seed = mp_load_relaxed(&e->value);
    if (capacity > 0 && capacity <= MP_MAP_CAPACITY_MAX && size >> 32 > 0)
        memory = mp_directory_memory(
            a, e, shape(a, &m->table, (uint32_t)capacity, (uint32_t)(size >> 32), (uint32_t)size));
    atomic_thread_fence(memory_order_acquire);
    if (!mp_object_is_live(&m->object))
        return -ENOENT; /* destroyed since, and what was read may be of another */
    if (!memory)
        return -EPROTO;
    mp_table_lie_at(&m->table, memory);
    return 0;
}

int mp_map_open(mp_arena *arena, const char *name, mp_map **ret_map)
{
    _cleanup_free_ struct mp_map *m = NULL;
    int r;

    if (!arena || !name || !ret_map)
        return -EINVAL;
    m = malloc(sizeof *m);
    if (!m)
        return -ENOMEM;
    r = mp_object_open(arena, name, MP_KIND_MAP, 0, &m->object);
    if (r == 0)
        r = find_table(m);
    if (r == 0)
        *ret_map = mp_take_ptr(m);
    return r;
}

mp_map *mp_map_close(mp_map *map)
{
    free(map);
    return NULL;
}

/* ---- writers ---- */

static int take_word(struct mp_map *m, uint64_t timeout_ns)
{
    int r;

    if (mp_likely(mp_word_acquire_fast(&m->object, &r)))
        return r;
    return mp_word_acquire_slow(&m->object, mp_deadline(timeout_ns), MP_WAIT_MAP);
}

static int enter(struct mp_map *m, uint64_t timeout_ns)
{
    int r = take_word(m, timeout_ns);

    if (r != MP_OWNER_DIED)
        return r;
    r = mp_table_gather(&m->table);
    if (r < 0)
        mp_word_give_back(&m->object, MP_TOKEN_DIED);
    return r;
}

static int leave(struct mp_map *m, int r)
{
    int q = mp_word_release(&m->object);

    return q < 0 ? q : r;
}

int mp_map_destroy(mp_map *map)
{
    int r;

    if (!map)
        return -EINVAL;
    r = take_word(map, PATIENCE_NS);
    if (r == -ETIMEDOUT)
        return -EBUSY;
    /* One whose words were written over is to go all the same. */
    return r < 0 && r != -ENOTRECOVERABLE ? r : mp_object_destroy(&map->object);
}

static int check_key(const struct mp_map *map, const void *key, size_t key_size)
{
    if (!map || !key || key_size == 0)
        return -EINVAL;
    return key_size > map->table.key_max ? -EMSGSIZE : 0;
}

static int check_entry(const struct mp_map *map, struct mp_bytes key, struct mp_bytes value)
{
    int r = check_key(map, key.data, key.size);

    if (r < 0)
        return r;
    if (!value.data && value.size > 0)
        return -EINVAL;
    return value.size > map->table.value_max ? -EMSGSIZE : 0;
}

int mp_map_put(mp_map *map, const void *key, size_t key_size, const void *value, size_t value_size,
               uint64_t timeout_ns)
{
    struct mp_bytes k = {key, key_size}, v = {value, value_size};
    struct mp_table_place place;
    int r = check_entry(map, k, v);

    if (r < 0)
        return r;
    r = enter(map, timeout_ns);
    if (r < 0)
        return r;
    r = mp_table_find(&map->table, k, &place);
    if (r >= 0)
        r = mp_table_put(&map->table, &place, r == 1, k, v);
    return leave(map, r);
}

int mp_map_put_if(mp_map *map, const void *key, size_t key_size, const void *expected,
                  size_t expected_size, const void *value, size_t value_size, uint64_t timeout_ns)
{
    struct mp_bytes k = {key, key_size}, v = {value, value_size};
    struct mp_bytes e = {expected, expected_size};
    struct mp_table_place place;
    int r = check_entry(map, k, v), found;

    if (r < 0)
        return r;
    if (!expected && expected_size > 0)
        return -EINVAL;
    r = enter(map, timeout_ns);
    if (r < 0)
        return r;
    found = mp_table_find(&map->table, k, &place);
    if (found < 0)
        return leave(map, found);
    if (!expected != !found || (found && !mp_table_value_is(&map->table, place.next, e)))
        return leave(map, 0);
    r = mp_table_put(&map->table, &place, found == 1, k, v);
    return leave(map, r < 0 ? r : 1);
}

int mp_map_delete(mp_map *map, const void *key, size_t key_size, uint64_t timeout_ns)
{
    struct mp_table_place place;
    int r = check_key(map, key, key_size);

    if (r < 0)
        return r;
    r = enter(map, timeout_ns);
    if (r < 0)
        return r;
    r = mp_table_find(&map->table, (struct mp_bytes){key, key_size}, &place);
    if (r == 1)
        mp_table_delete(&map->table, &place);
    return leave(map, r == 1 ? 0 : r == 0 ? -ENOENT : r);
}

/* ---- readers ---- */

/* One look at the table, which holds if the turn did not move. */
struct reading {
    uint64_t turn;
    uint64_t deadline;
    uint32_t tries;
};

static void begin(const struct mp_map *m, struct reading *r)
{
    r->turn = mp_load_acquire(&m->table.header->turn);
}

/* True: over, and *ret, what came of the look, or an error, is what is to be returned. */
static bool is_over(const struct mp_map *m, struct reading *r, int *ret)
{
    atomic_thread_fence(memory_order_acquire);
    if (!mp_object_is_live(&m->object)) {
        *ret = -ESTALE;
        return true;
    }
    if (mp_load_relaxed(&m->table.header->turn) == r->turn)
        return true;
    if (++r->tries % TRIES_AT_ONCE)
        return false;
    if (r->deadline == 0)
        r->deadline = mp_now_ns() + PATIENCE_NS;
    if (mp_now_ns() > r->deadline) {
        *ret = -ETIMEDOUT;
        return true;
    }
    sched_yield();
    return false;
}

int mp_map_get(mp_map *map, const void *key, size_t key_size, void *ret_value, size_t room,
               size_t *ret_size)
{
    struct reading reading = {0};
    struct mp_table_place place;
    size_t size = 0;
    int r = check_key(map, key, key_size);

    if (r < 0)
        return r;
    if (!ret_value && room > 0)
        return -EINVAL;
    do {
        begin(map, &reading);
        r = mp_table_find(&map->table, (struct mp_bytes){key, key_size}, &place);
        if (r == 1)
            r = mp_table_value(&map->table, place.next, ret_value, room, &size);
        else if (r == 0)
            r = -ENOENT;
    } while (!is_over(map, &reading, &r));
    if (r == 0 && ret_size)
        *ret_size = size;
    return r;
}

int mp_map_contains(mp_map *map, const void *key, size_t key_size)
{
    struct reading reading = {0};
    struct mp_table_place place;
    int r = check_key(map, key, key_size);

    if (r < 0)
        return r;
    do {
        begin(map, &reading);
        r = mp_table_find(&map->table, (struct mp_bytes){key, key_size}, &place);
    } while (!is_over(map, &reading, &r));
    return r;
}

/* The caller's key is needed for another try until the next one is known to be whole. */
int mp_map_next(mp_map *map, struct mp_map_item *item)
{
    struct reading reading = {0};
    size_t key_size = 0, value_size = 0;
    _cleanup_free_ void *key = NULL;
    uint32_t number;
    int r;

    if (!map || !item || !item->key)
        return -EINVAL;
    if (item->key_size > map->table.key_max)
        return -EMSGSIZE;
    key = malloc(map->table.key_max);
    if (!key)
        return -ENOMEM;
    do {
        begin(map, &reading);
        r = mp_table_after(&map->table, (struct mp_bytes){item->key, item->key_size}, &number);
        if (r != 1)
            continue;
        r = mp_table_key(&map->table, number, key, &key_size);
        if (r == 0 && item->value)
            r = mp_table_value(&map->table, number, item->value, map->table.value_max, &value_size);
        if (r == 0)
            r = 1;
    } while (!is_over(map, &reading, &r));
    if (r != 1)
        return r;
    memcpy(item->key, key, key_size);
    item->key_size = key_size;
    item->value_size = value_size;
    return 1;
}

/* What a writer says between two of them is exact; else one has to wait for him, or to count after
 * him. */
int mp_map_len(mp_map *map, uint64_t *ret_len)
{
    uint64_t n;
    int r = 0;

    if (!map || !ret_len)
        return -EINVAL;
    if (mp_load_acquire(map->object.word) == 0) {
        n = mp_load_relaxed(&map->table.header->count);
        atomic_thread_fence(memory_order_acquire);
        if (mp_object_is_live(&map->object) && mp_load_relaxed(map->object.word) == 0) {
            *ret_len = n;
            return 0;
        }
    }
    r = enter(map, PATIENCE_NS);
    if (r < 0)
        return r;
    n = mp_load_relaxed(&map->table.header->count);
    r = leave(map, 0);
    if (r == 0)
        *ret_len = n;
    return r;
}

/* ---- queries ---- */

uint32_t mp_map_capacity(const mp_map *map)
{
    return map ? map->table.n_records - 1 : 0;
}

uint32_t mp_map_key_max(const mp_map *map)
{
    return map ? map->table.key_max : 0;
}

uint32_t mp_map_value_max(const mp_map *map)
{
    return map ? map->table.value_max : 0;
}

const char *mp_map_name(const mp_map *map)
{
    return map ? map->object.name : NULL;
}
