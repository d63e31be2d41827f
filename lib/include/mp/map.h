/* SPDX-License-Identifier: MIT */
#ifndef MP_MAP_H
#define MP_MAP_H

/*
 * A hash map that processes share: from bytes to bytes, for so many entries of such a size.
 *
 *     mp_map_create(arena, "prices", MP_MAP_OPTIONS(.capacity = 1000), &map);
 *     mp_map_put(map, "gold", 4, &price, sizeof price, MP_FOREVER);
 *     mp_map_get(map, "gold", 4, &price, sizeof price, NULL);
 *
 * Who reads waits for nobody. Writers come one after the other. Each put and each delete is done or
 * not done, at whatever instruction the writer is killed: nobody reads half of a value, no other
 * entry is lost, and whoever comes next puts the rest in order, without being told.
 *
 * All is thread-safe, and usable in a forked child.
 */

#include <stddef.h>
#include <stdint.h>

#include <mp/arena.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_map mp_map;

/** Most entries that a map can be made for. */
#define MP_MAP_CAPACITY_MAX (1u << 24)

struct mp_map_options {
    size_t struct_size; /* filled by MP_MAP_OPTIONS */
    uint32_t capacity;  /* entries, 1 to MP_MAP_CAPACITY_MAX; its memory is used as they come */
    uint32_t key_max;   /* longest key in bytes; 0: 64 */
    uint32_t value_max; /* longest value in bytes; 0: 256 */
    uint64_t seed;      /* of the hash; 0: a random one, which is best where others choose keys */
};

#define MP_MAP_OPTIONS(...) \
    (&(struct mp_map_options){.struct_size = sizeof(struct mp_map_options), __VA_ARGS__})

/**
 * mp_map_create() - make a map in an arena.
 * @name: unique in the arena; NULL makes one up (mp_map_name() tells it)
 * @ret_map: a handle, to be closed with mp_map_close() before the arena
 *
 * An entry takes key_max, value_max and 32 bytes more, rounded up.
 *
 * Return: 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -EMSGSIZE (larger than mp_arena_max_block()),
 * -ENOBUFS (memory or objects), -ENOMEM, -EUSERS.
 */
int mp_map_create(mp_arena *arena, const char *name, const struct mp_map_options *options,
                  mp_map **ret_map);

/** mp_map_open() - find one by name. Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -ENOMEM, -EUSERS,
 * -EPROTO. */
int mp_map_open(mp_arena *arena, const char *name, mp_map **ret_map);

/** mp_map_close() - drop the handle; the map stays. NULL is fine. Return: NULL. */
mp_map *mp_map_close(mp_map *map);

/**
 * mp_map_destroy() - remove it for all; its memory is used again. The handle stays to be closed.
 *
 * Return: 0; -EBUSY (one writer was in it for a whole second), -EINVAL, -ESTALE, -EUSERS.
 */
int mp_map_destroy(mp_map *map);

/**
 * mp_map_put() - write an entry, new or in the place of the one that is there.
 * @key_size: 1 to key_max
 * @value_size: 0 to value_max
 * @timeout_ns: how long to wait for other writers; 0 tries once
 *
 * Return: 0; -EINVAL, -EMSGSIZE (key or value too long), -ENOBUFS (a new key, and it is full),
 * -EAGAIN (timeout 0), -ETIMEDOUT, -ESTALE, -ENOTRECOVERABLE, -EUSERS.
 */
int mp_map_put(mp_map *map, const void *key, size_t key_size, const void *value, size_t value_size,
               uint64_t timeout_ns);

/**
 * mp_map_put_if() - write an entry if its value is `expected`, or if there is none.
 * @expected: NULL: only if there is no entry of this key
 *
 * Return: 1 written; 0 it is not as expected; else as mp_map_put().
 */
int mp_map_put_if(mp_map *map, const void *key, size_t key_size, const void *expected,
                  size_t expected_size, const void *value, size_t value_size, uint64_t timeout_ns);

/** mp_map_delete() - remove an entry. Return: 0; -ENOENT; else as mp_map_put(). */
int mp_map_delete(mp_map *map, const void *key, size_t key_size, uint64_t timeout_ns);

/**
 * mp_map_get() - copy a value out.
 * @room: bytes that ret_value has; mp_map_value_max() are always enough
 * @ret_size: bytes of the value; may be NULL
 *
 * Waits for nobody. What *ret_value holds after an error is anything.
 *
 * Return: 0; -ENOENT, -EINVAL, -EMSGSIZE (key too long, or no room), -ESTALE, -ENOTRECOVERABLE,
 * -ETIMEDOUT (written without a pause for a second).
 */
int mp_map_get(mp_map *map, const void *key, size_t key_size, void *ret_value, size_t room,
               size_t *ret_size);

/** mp_map_contains() - is there such an entry? Return: 1 yes, 0 no; else as mp_map_get(). */
int mp_map_contains(mp_map *map, const void *key, size_t key_size);

/** mp_map_len() - count the entries. @ret_len. Waits up to a second for a writer. Return: 0;
 * -EINVAL, -ESTALE, -ETIMEDOUT, -ENOTRECOVERABLE, -EUSERS. */
int mp_map_len(mp_map *map, uint64_t *ret_len);

/* An entry, copied to where the caller says. */
struct mp_map_item {
    void *key;       /* room for mp_map_key_max() bytes */
    size_t key_size; /* 0: before the first one */
    void *value;     /* room for mp_map_value_max() bytes; NULL: not wanted */
    size_t value_size;
};

/**
 * mp_map_next() - the entry after this one, in an order of the map's own.
 *
 *     struct mp_map_item item = {.key = key, .value = value};
 *
 *     while ((r = mp_map_next(map, &item)) == 1)
 *         use(item.key, item.key_size, item.value, item.value_size);
 *
 * Others may write meanwhile. What is there from beginning to end comes exactly once, with one of
 * the values that it has had since; what is put or deleted meanwhile comes once or not at all.
 *
 * Return: 1; 0: there is none; -ENOMEM; else as mp_map_get().
 */
int mp_map_next(mp_map *map, struct mp_map_item *item);

/** mp_map_capacity() - most entries. Return: 0 for NULL. */
uint32_t mp_map_capacity(const mp_map *map);

/** mp_map_key_max() - longest key in bytes. Return: 0 for NULL. */
uint32_t mp_map_key_max(const mp_map *map);

/** mp_map_value_max() - longest value in bytes. Return: 0 for NULL. */
uint32_t mp_map_value_max(const mp_map *map);

/** mp_map_name() - its name in the arena. Return: a string that lives as long as the handle; NULL
 * for NULL. */
const char *mp_map_name(const mp_map *map);

static inline void mp_map_closep(mp_map **map)
{
    if (*map)
        mp_map_close(*map);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
