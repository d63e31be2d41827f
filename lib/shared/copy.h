/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Copying out of and into memory that others may write at the same time: each unit is read or
 * written once, in one step, and as large as its alignment allows. So numbers are never torn, and a
 * copy that was made while somebody wrote is of old and new units, and is thrown away by those who
 * must not have such.
 */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/macro.h"

/* Bytes of the next unit at an address, of the `left` that are still to be copied. */
static inline size_t mp_copy_unit(uintptr_t at, size_t left)
{
    size_t unit = 8;

    if (mp_likely(left >= 8 && at % 8 == 0))
        return 8;
    while (unit > left || (at & (unit - 1)))
        unit /= 2;
    return unit;
}

/* clang-format off */
#define MP_COPY_UNITS(x) x(8, uint64_t) x(4, uint32_t) x(2, uint16_t) x(1, uint8_t)
/* clang-format on */

static inline uint64_t mp_unit_load(const void *shared, size_t unit)
{
    switch (unit) {
#define x(bytes, type) \
    case bytes:        \
        return __atomic_load_n((const type *)shared, __ATOMIC_RELAXED);
        MP_COPY_UNITS(x)
#undef x
    }
    __builtin_unreachable();
}

static inline void mp_unit_store(void *shared, size_t unit, uint64_t v)
{
    switch (unit) {
#define x(bytes, type)                                               \
    case bytes:                                                      \
        __atomic_store_n((type *)shared, (type)v, __ATOMIC_RELAXED); \
        return;
        MP_COPY_UNITS(x)
#undef x
    }
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a unit's low bytes come first");

static inline void mp_copy_out(void *to, const void *shared, size_t size)
{
    for (size_t at = 0, unit; at < size; at += unit) {
        uint64_t v;

        unit = mp_copy_unit((uintptr_t)shared + at, size - at);
        v = mp_unit_load((const char *)shared + at, unit);
        memcpy((char *)to + at, &v, unit);
    }
}

static inline void mp_copy_in(void *shared, const void *from, size_t size)
{
    for (size_t at = 0, unit; at < size; at += unit) {
        uint64_t v = 0;

        unit = mp_copy_unit((uintptr_t)shared + at, size - at);
        memcpy(&v, (const char *)from + at, unit);
        mp_unit_store((char *)shared + at, unit, v);
    }
}
