/* SPDX-License-Identifier: MIT */
#ifndef MP_VALUE_H
#define MP_VALUE_H

/*
 * Values and arrays that processes share: multiprocessing.Value and Array.
 *
 *     mp_value_create(arena, "n", MP_VALUE_OPTIONS(.type = MP_TYPE_INT32), &value);
 *     mp_value_add(value, 1, NULL);
 *     mp_value_get(value, &n, sizeof n);
 *
 *     mp_array_create(arena, "a", MP_ARRAY_OPTIONS(.type = MP_TYPE_DOUBLE, .length = 10), &array);
 *     mp_array_set(array, 3, &x, sizeof x);
 *
 * Of a number, or of any struct. Each has a recursive lock of its own, as in Python, unless it was
 * made without; get, set and add take it for as long as they need. Who does several things at once
 * takes it before, with a timeout if he likes:
 *
 *     r = mp_value_lock(value, MP_SEC(1));
 *     if (r < 0) ...
 *     struct point *p = mp_value_memory(value);
 *     p->x++, p->y++;
 *     mp_value_unlock(value);
 *
 * When a process dies while it has the lock, the next one who takes it is told by the positive
 * MP_OWNER_DIED, and so is each one who gets, sets or adds, until somebody has put it in order: who
 * took the lock by mp_value_lock() and gave it up, or who set all of it at once. Items of 1, 2, 4
 * and 8 bytes are never half written.
 *
 * A value made with MP_VALUE_VERSIONED has two copies, one of which is valid: it can be read as a
 * whole at any moment without a lock, and is never half written, whatever its size and whoever
 * dies.
 *
 * The atomic operations take no lock, and look at none.
 *
 * Who knows Python's shared ctypes finds here
 *
 *     Value(code, v), Array(code, n)   mp_value_create(), mp_array_create(): zeroed, or .initial
 *     Value(struct), lock=False        .size = sizeof(struct); .flags = MP_VALUE_UNLOCKED
 *     RawValue, RawArray               the same as lock=False
 *     lock=a lock of one's own         without a lock of its own, and that lock around each use
 *     .value, a[i], a[i:j]             get and set; += is mp_value_add(), which loses nothing
 *     get_obj(), get_lock(), with      mp_value_memory(); mp_value_lock() and mp_value_unlock()
 *     copy()                           get, and .initial of another one
 *
 * All is thread-safe, and usable in a forked child, which has no lock that its parent has.
 */

#include <stddef.h>
#include <stdint.h>

#include <mp/arena.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_value mp_value;
typedef struct mp_array mp_array;

/* The letters of Python's type codes, and '?'. 'l' and 'L' are taken for 'q' and 'Q'. */
#define MP_TYPE_STRUCT 0u /* anything: the options tell its size */
#define MP_TYPE_BOOL ((uint32_t)'?')
#define MP_TYPE_CHAR ((uint32_t)'c')
#define MP_TYPE_WCHAR ((uint32_t)'u') /* 4 bytes, as wchar_t */
#define MP_TYPE_INT8 ((uint32_t)'b')
#define MP_TYPE_UINT8 ((uint32_t)'B')
#define MP_TYPE_INT16 ((uint32_t)'h')
#define MP_TYPE_UINT16 ((uint32_t)'H')
#define MP_TYPE_INT32 ((uint32_t)'i')
#define MP_TYPE_UINT32 ((uint32_t)'I')
#define MP_TYPE_INT64 ((uint32_t)'q')
#define MP_TYPE_UINT64 ((uint32_t)'Q')
#define MP_TYPE_FLOAT ((uint32_t)'f')
#define MP_TYPE_DOUBLE ((uint32_t)'d')

/* No lock of its own: get, set and add do without (Python's lock=False). */
#define MP_VALUE_UNLOCKED (1u << 0)
/* Two copies: to be read as a whole without a lock. Not for arrays, nor without a lock. */
#define MP_VALUE_VERSIONED (1u << 1)

struct mp_value_options {
    size_t struct_size;  /* filled by MP_VALUE_OPTIONS */
    size_t size;         /* of a struct, in bytes; else 0, or what the type says */
    const void *initial; /* as many bytes; NULL: zeroes */
    uint32_t type;
    uint32_t flags; /* MP_VALUE_* */
};

#define MP_VALUE_OPTIONS(...) \
    (&(struct mp_value_options){.struct_size = sizeof(struct mp_value_options), __VA_ARGS__})

struct mp_array_options {
    size_t struct_size;  /* filled by MP_ARRAY_OPTIONS */
    size_t size;         /* of an item that is a struct, in bytes; else 0, or what the type says */
    size_t length;       /* items; may be 0 */
    const void *initial; /* all items; NULL: zeroes */
    uint32_t type;
    uint32_t flags; /* MP_VALUE_UNLOCKED or 0 */
};

#define MP_ARRAY_OPTIONS(...) \
    (&(struct mp_array_options){.struct_size = sizeof(struct mp_array_options), __VA_ARGS__})

/* ---- values ---- */

/**
 * mp_value_create() - make a value in an arena.
 * @name: unique in the arena; NULL makes one up (mp_value_name() tells it)
 * @ret_value: a handle, to be closed with mp_value_close() before the arena
 *
 * Return: 0; -EINVAL (also: no such type or flags, a size that is 0 or not the type's),
 * -ENAMETOOLONG, -EEXIST, -EMSGSIZE, -ENOBUFS (memory or objects), -ENOMEM, -EUSERS.
 */
int mp_value_create(mp_arena *arena, const char *name, const struct mp_value_options *options,
                    mp_value **ret_value);

/** mp_value_open() - find one by name. Return: 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -ENOMEM,
 * -EUSERS, -EPROTO. */
int mp_value_open(mp_arena *arena, const char *name, mp_value **ret_value);

/** mp_value_close() - drop the handle; the value stays. NULL is fine. Return: NULL. */
mp_value *mp_value_close(mp_value *value);

/**
 * mp_value_destroy() - remove it for all; its memory is used again. The handle stays to be closed.
 *
 * Those who wait for its lock get -ESTALE. Nobody may use its memory directly any more, by atomic
 * operations, or by writing to one without a lock: a write that is under way may hit what the
 * memory is used for next.
 *
 * Return: 0; -EBUSY (somebody had its lock for a whole second, or this thread has it), -EINVAL,
 * -ESTALE, -EUSERS.
 */
int mp_value_destroy(mp_value *value);

/**
 * mp_value_lock() - take its lock, or take it once more: as mp_rlock_acquire().
 *
 * Return: 0; MP_OWNER_DIED (1): held, and a process died while it had it; -EAGAIN (timeout 0),
 * -ETIMEDOUT, -EOVERFLOW, -EINVAL (also: it has none), -ESTALE, -ENOTRECOVERABLE, -EUSERS.
 */
int mp_value_lock(mp_value *value, uint64_t timeout_ns);

/** mp_value_unlock() - give it up once. Return: 0; -EPERM (this thread does not hold it), -EINVAL,
 * -ESTALE. */
int mp_value_unlock(mp_value *value);

/**
 * mp_value_get() - copy it.
 * @size: of the value, exactly
 *
 * Waits for the lock, if it has one, for as long as it takes; mp_value_lock() has a timeout. One
 * that is versioned waits for nobody. Without a lock, 1, 2, 4 and 8 bytes are read at once, and
 * more of them may be half of one and half of another. What *ret_data holds after an error is
 * anything.
 *
 * Return: 0; MP_OWNER_DIED (1): done, and it may be half written (never of one that is versioned);
 * -EINVAL, -ESTALE, -ENOTRECOVERABLE, -ETIMEDOUT (versioned: written without a pause for a second),
 * -EOVERFLOW (this thread has its lock 2^22 - 1 times), -EUSERS.
 */
int mp_value_get(mp_value *value, void *ret_data, size_t size);

/** mp_value_set() - write it; as mp_value_get(). Return: 0; MP_OWNER_DIED (1): done, and it may
 * have been half written before; -EINVAL, -ESTALE, -ENOTRECOVERABLE, -EOVERFLOW, -EUSERS. */
int mp_value_set(mp_value *value, const void *data, size_t size);

/**
 * mp_value_add() - add to an integer, under its lock.
 * @ret: what it is then; may be NULL
 *
 * Wraps round as the type does. Two that add to one without a lock may lose one of the sums. After
 * MP_OWNER_DIED it was added to what was there, also to one that is versioned and so never half
 * written.
 *
 * Return: as mp_value_set(); -EINVAL (no integer).
 */
int mp_value_add(mp_value *value, int64_t n, int64_t *ret);

/** mp_value_add_double() - the same for float and double. */
int mp_value_add_double(mp_value *value, double n, double *ret);

/**
 * mp_value_atomic_load() - read a part of it in one step, after all that happened before what it
 * reads was written.
 * @offset: in bytes, a multiple of width
 * @width: 1, 2, 4 or 8 bytes, within the value
 *
 * All atomic operations are sequentially consistent, and take the low bits of what they are given.
 *
 * Return: 0; -EINVAL (also: not aligned, no such width, versioned), -ERANGE (not within), -ESTALE.
 */
int mp_value_atomic_load(const mp_value *value, size_t offset, size_t width, uint64_t *ret);

/** mp_value_atomic_store() - write it in one step. Return: as mp_value_atomic_load(). */
int mp_value_atomic_store(mp_value *value, size_t offset, size_t width, uint64_t n);

/** mp_value_atomic_add() - add to it in one step. @ret_old: what it was; may be NULL. Return: as
 * mp_value_atomic_load(). */
int mp_value_atomic_add(mp_value *value, size_t offset, size_t width, uint64_t n,
                        uint64_t *ret_old);

/** mp_value_atomic_exchange_if() - write `desired` if it is *expected. Return: 1 done; 0 not, and
 * *expected is what it is; else as mp_value_atomic_load(). */
int mp_value_atomic_exchange_if(mp_value *value, size_t offset, size_t width, uint64_t *expected,
                                uint64_t desired);

/** mp_value_memory() - where it lies, aligned to 64 bytes, until it is destroyed or the arena
 * closed. Return: NULL for NULL, and where it is versioned. */
void *mp_value_memory(mp_value *value);

/** mp_value_size() - in bytes. Return: 0 for NULL. */
size_t mp_value_size(const mp_value *value);

/** mp_value_type() - its MP_TYPE_*. Return: 0 for NULL. */
uint32_t mp_value_type(const mp_value *value);

/** mp_value_name() - its name in the arena. Return: a string that lives as long as the handle; NULL
 * for NULL. */
const char *mp_value_name(const mp_value *value);

/* ---- arrays: as values ---- */

/** mp_array_create() - make an array in an arena. Return: as mp_value_create(). */
int mp_array_create(mp_arena *arena, const char *name, const struct mp_array_options *options,
                    mp_array **ret_array);

/** mp_array_open() - find one by name. Return: as mp_value_open(). */
int mp_array_open(mp_arena *arena, const char *name, mp_array **ret_array);

/** mp_array_close() - drop the handle; the array stays. NULL is fine. Return: NULL. */
mp_array *mp_array_close(mp_array *array);

/** mp_array_destroy() - remove it for all. Return: as mp_value_destroy(). */
int mp_array_destroy(mp_array *array);

/** mp_array_lock() - take its lock, or take it once more. Return: as mp_value_lock(). */
int mp_array_lock(mp_array *array, uint64_t timeout_ns);

/** mp_array_unlock() - give it up once. Return: as mp_value_unlock(). */
int mp_array_unlock(mp_array *array);

/** mp_array_get() - copy one item. @size: of an item, exactly. Return: as mp_value_get(); -ERANGE
 * (no such item). */
int mp_array_get(mp_array *array, size_t index, void *ret_item, size_t size);

/** mp_array_set() - write one item. Return: as mp_value_set(); -ERANGE. */
int mp_array_set(mp_array *array, size_t index, const void *item, size_t size);

/**
 * mp_array_get_slice() - copy n items from `index` on, all under one lock.
 * @size: of n items, exactly
 *
 * Return: as mp_value_get(); -ERANGE (not all within).
 */
int mp_array_get_slice(mp_array *array, size_t index, size_t n, void *ret_items, size_t size);

/** mp_array_set_slice() - write n items from `index` on, all under one lock. Return: as
 * mp_value_set(); -ERANGE. */
int mp_array_set_slice(mp_array *array, size_t index, size_t n, const void *items, size_t size);

/** mp_array_add() - add to an integer item. Return: as mp_value_add(); -ERANGE. */
int mp_array_add(mp_array *array, size_t index, int64_t n, int64_t *ret);

/** mp_array_add_double() - add to an item that is float or double. Return: as mp_array_add(). */
int mp_array_add_double(mp_array *array, size_t index, double n, double *ret);

/** mp_array_atomic_load() - read an item of 1, 2, 4 or 8 bytes in one step. Return: 0; -EINVAL
 * (items of another size), -ERANGE, -ESTALE. */
int mp_array_atomic_load(const mp_array *array, size_t index, uint64_t *ret);

/** mp_array_atomic_store() - write it in one step. Return: as mp_array_atomic_load(). */
int mp_array_atomic_store(mp_array *array, size_t index, uint64_t n);

/** mp_array_atomic_add() - add to it in one step. @ret_old may be NULL. Return: as
 * mp_array_atomic_load(). */
int mp_array_atomic_add(mp_array *array, size_t index, uint64_t n, uint64_t *ret_old);

/** mp_array_atomic_exchange_if() - as mp_value_atomic_exchange_if(). */
int mp_array_atomic_exchange_if(mp_array *array, size_t index, uint64_t *expected,
                                uint64_t desired);

/** mp_array_memory() - where its items lie, one after the other. Return: as mp_value_memory(). */
void *mp_array_memory(mp_array *array);

/** mp_array_len() - items. Return: 0 for NULL. */
size_t mp_array_len(const mp_array *array);

/** mp_array_item_size() - bytes of one. Return: 0 for NULL. */
size_t mp_array_item_size(const mp_array *array);

/** mp_array_type() - the MP_TYPE_* of its items. Return: 0 for NULL. */
uint32_t mp_array_type(const mp_array *array);

/** mp_array_name() - its name in the arena. Return: as mp_value_name(). */
const char *mp_array_name(const mp_array *array);

static inline void mp_value_closep(mp_value **value)
{
    if (*value)
        mp_value_close(*value);
}

static inline void mp_array_closep(mp_array **array)
{
    if (*array)
        mp_array_close(*array);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
