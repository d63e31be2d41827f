/* SPDX-License-Identifier: MIT */
/* The array: many items (shared/typed.c). */

#include <errno.h>
#include <stdlib.h>

#include <mp/value.h>

#include "base/cleanup.h"
#include "shared/typed.h"

struct mp_array {
    struct mp_typed typed;
};

int mp_array_create(mp_arena *arena, const char *name, const struct mp_array_options *options,
                    mp_array **ret_array)
{
    _cleanup_free_ struct mp_array *a = NULL;
    struct mp_typed_spec spec;
    int r;

    if (!arena || !options || options->struct_size < sizeof *options || !ret_array)
        return -EINVAL;
    a = malloc(sizeof *a);
    if (!a)
        return -ENOMEM;
    spec = (struct mp_typed_spec){.kind = MP_KIND_ARRAY,
                                  .type = options->type,
                                  .flags = options->flags,
                                  .item = options->size,
                                  .length = options->length,
                                  .initial = options->initial};
    r = mp_typed_create(arena, name, &spec, &a->typed);
    if (r == 0)
        *ret_array = mp_take_ptr(a);
    return r;
}

int mp_array_open(mp_arena *arena, const char *name, mp_array **ret_array)
{
    _cleanup_free_ struct mp_array *a = NULL;
    int r;

    if (!arena || !name || !ret_array)
        return -EINVAL;
    a = malloc(sizeof *a);
    if (!a)
        return -ENOMEM;
    r = mp_typed_open(arena, name, MP_KIND_ARRAY, &a->typed);
    if (r == 0)
        *ret_array = mp_take_ptr(a);
    return r;
}

mp_array *mp_array_close(mp_array *array)
{
    free(array);
    return NULL;
}

int mp_array_destroy(mp_array *array)
{
    return array ? mp_typed_destroy(&array->typed) : -EINVAL;
}

int mp_array_lock(mp_array *array, uint64_t timeout_ns)
{
    return array ? mp_typed_lock(&array->typed, timeout_ns) : -EINVAL;
}

int mp_array_unlock(mp_array *array)
{
    return array ? mp_typed_unlock(&array->typed) : -EINVAL;
}

int mp_array_get(mp_array *array, size_t index, void *ret_item, size_t size)
{
    return array && ret_item ? mp_typed_get(&array->typed, index, 1, ret_item, size) : -EINVAL;
}

int mp_array_set(mp_array *array, size_t index, const void *item, size_t size)
{
    return array && item ? mp_typed_set(&array->typed, index, 1, item, size) : -EINVAL;
}

int mp_array_get_slice(mp_array *array, size_t index, size_t n, void *ret_items, size_t size)
{
    if (!array || (!ret_items && size > 0))
        return -EINVAL;
    return mp_typed_get(&array->typed, index, n, ret_items, size);
}

int mp_array_set_slice(mp_array *array, size_t index, size_t n, const void *items, size_t size)
{
    if (!array || (!items && size > 0))
        return -EINVAL;
    return mp_typed_set(&array->typed, index, n, items, size);
}

int mp_array_add(mp_array *array, size_t index, int64_t n, int64_t *ret)
{
    return array ? mp_typed_add(&array->typed, index, n, ret) : -EINVAL;
}

int mp_array_add_double(mp_array *array, size_t index, double n, double *ret)
{
    return array ? mp_typed_add_double(&array->typed, index, n, ret) : -EINVAL;
}

/* The item, to be read or written in one step. */
static void *word_at(const struct mp_array *array, size_t index, int *ret)
{
    const struct mp_typed *t;

    *ret = -EINVAL;
    if (!array)
        return NULL;
    t = &array->typed;
    if (index >= t->length) {
        *ret = -ERANGE;
        return NULL;
    }
    return mp_typed_word(t, index * t->item, t->item, ret);
}

int mp_array_atomic_load(const mp_array *array, size_t index, uint64_t *ret)
{
    int r = -EINVAL;
    void *word = ret ? word_at(array, index, &r) : NULL;

    if (word)
        *ret = mp_typed_word_load(word, array->typed.item);
    return r;
}

int mp_array_atomic_store(mp_array *array, size_t index, uint64_t n)
{
    int r;
    void *word = word_at(array, index, &r);

    if (word)
        mp_typed_word_store(word, array->typed.item, n);
    return r;
}

int mp_array_atomic_add(mp_array *array, size_t index, uint64_t n, uint64_t *ret_old)
{
    uint64_t old;
    int r;
    void *word = word_at(array, index, &r);

    if (!word)
        return r;
    old = mp_typed_word_add(word, array->typed.item, n);
    if (ret_old)
        *ret_old = old;
    return 0;
}

int mp_array_atomic_exchange_if(mp_array *array, size_t index, uint64_t *expected, uint64_t desired)
{
    int r = -EINVAL;
    void *word = expected ? word_at(array, index, &r) : NULL;

    return word ? mp_typed_word_exchange_if(word, array->typed.item, expected, desired) : r;
}

void *mp_array_memory(mp_array *array)
{
    return array ? array->typed.memory : NULL;
}

size_t mp_array_len(const mp_array *array)
{
    return array ? array->typed.length : 0;
}

size_t mp_array_item_size(const mp_array *array)
{
    return array ? array->typed.item : 0;
}

uint32_t mp_array_type(const mp_array *array)
{
    return array ? array->typed.type : 0;
}

const char *mp_array_name(const mp_array *array)
{
    return array ? array->typed.lock.object.name : NULL;
}
