/* SPDX-License-Identifier: MIT */
/* The value: one item (shared/typed.c). */

#include <errno.h>
#include <stdlib.h>

#include <mp/value.h>

#include "base/cleanup.h"
#include "shared/typed.h"

struct mp_value {
    struct mp_typed typed;
};

int mp_value_create(mp_arena *arena, const char *name, const struct mp_value_options *options,
                    mp_value **ret_value)
{
    _cleanup_free_ struct mp_value *v = NULL;
    struct mp_typed_spec spec;
    int r;

    if (!arena || !options || options->struct_size < sizeof *options || !ret_value)
        return -EINVAL;
    v = malloc(sizeof *v);
    if (!v)
        return -ENOMEM;
    spec = (struct mp_typed_spec){.kind = MP_KIND_VALUE,
                                  .type = options->type,
                                  .flags = options->flags,
                                  .item = options->size,
                                  .length = 1,
                                  .initial = options->initial};
    r = mp_typed_create(arena, name, &spec, &v->typed);
    if (r == 0)
        *ret_value = mp_take_ptr(v);
    return r;
}

int mp_value_open(mp_arena *arena, const char *name, mp_value **ret_value)
{
    _cleanup_free_ struct mp_value *v = NULL;
    int r;

    if (!arena || !name || !ret_value)
        return -EINVAL;
    v = malloc(sizeof *v);
    if (!v)
        return -ENOMEM;
    r = mp_typed_open(arena, name, MP_KIND_VALUE, &v->typed);
    if (r == 0)
        *ret_value = mp_take_ptr(v);
    return r;
}

mp_value *mp_value_close(mp_value *value)
{
    free(value);
    return NULL;
}

int mp_value_destroy(mp_value *value)
{
    return value ? mp_typed_destroy(&value->typed) : -EINVAL;
}

int mp_value_lock(mp_value *value, uint64_t timeout_ns)
{
    return value ? mp_typed_lock(&value->typed, timeout_ns) : -EINVAL;
}

int mp_value_unlock(mp_value *value)
{
    return value ? mp_typed_unlock(&value->typed) : -EINVAL;
}

int mp_value_get(mp_value *value, void *ret_data, size_t size)
{
    return value && ret_data ? mp_typed_get(&value->typed, 0, 1, ret_data, size) : -EINVAL;
}

int mp_value_set(mp_value *value, const void *data, size_t size)
{
    return value && data ? mp_typed_set(&value->typed, 0, 1, data, size) : -EINVAL;
}

int mp_value_add(mp_value *value, int64_t n, int64_t *ret)
{
    return value ? mp_typed_add(&value->typed, 0, n, ret) : -EINVAL;
}

int mp_value_add_double(mp_value *value, double n, double *ret)
{
    return value ? mp_typed_add_double(&value->typed, 0, n, ret) : -EINVAL;
}

int mp_value_atomic_load(const mp_value *value, size_t offset, size_t width, uint64_t *ret)
{
    void *word;
    int r;

    if (!value || !ret)
        return -EINVAL;
    word = mp_typed_word(&value->typed, offset, width, &r);
    if (word)
        *ret = mp_typed_word_load(word, width);
    return r;
}

int mp_value_atomic_store(mp_value *value, size_t offset, size_t width, uint64_t n)
{
    void *word;
    int r;

    if (!value)
        return -EINVAL;
    word = mp_typed_word(&value->typed, offset, width, &r);
    if (word)
        mp_typed_word_store(word, width, n);
    return r;
}

int mp_value_atomic_add(mp_value *value, size_t offset, size_t width, uint64_t n, uint64_t *ret_old)
{
    uint64_t old;
    void *word;
    int r;

    if (!value)
        return -EINVAL;
    word = mp_typed_word(&value->typed, offset, width, &r);
    if (!word)
        return r;
    old = mp_typed_word_add(word, width, n);
    if (ret_old)
        *ret_old = old;
    return 0;
}

int mp_value_atomic_exchange_if(mp_value *value, size_t offset, size_t width, uint64_t *expected,
                                uint64_t desired)
{
    void *word;
    int r;

    if (!value || !expected)
        return -EINVAL;
    word = mp_typed_word(&value->typed, offset, width, &r);
    return word ? mp_typed_word_exchange_if(word, width, expected, desired) : r;
}

void *mp_value_memory(mp_value *value)
{
    return value && !mp_typed_is_versioned(&value->typed) ? value->typed.memory : NULL;
}

size_t mp_value_size(const mp_value *value)
{
    return value ? value->typed.item : 0;
}

uint32_t mp_value_type(const mp_value *value)
{
    return value ? value->typed.type : 0;
}

const char *mp_value_name(const mp_value *value)
{
    return value ? value->typed.lock.object.name : NULL;
}
