/* SPDX-License-Identifier: MIT */
#pragma once

/* Items of a type in a block of the arena: what values and arrays are made of (typed.c). */

#include <stdbool.h>

#include <mp/value.h>

#include "sync/rlock.h"

struct mp_typed {
    struct mp_rlock lock; /* its words are the entry's; not used where there is no lock */
    char *memory;         /* the items; versioned: the turn, then the two copies */
    uint64_t length;
    uint64_t item; /* bytes */
    uint32_t type;
    uint32_t flags;
};

/* What is to be made. The sizes are checked by mp_typed_create(). */
struct mp_typed_spec {
    enum mp_kind kind;
    uint32_t type;
    uint32_t flags;
    uint64_t item;
    uint64_t length;
    const void *initial;
};

int mp_typed_create(struct mp_arena *a, const char *name, const struct mp_typed_spec *spec,
                    struct mp_typed *ret);
int mp_typed_open(struct mp_arena *a, const char *name, enum mp_kind kind, struct mp_typed *ret);
int mp_typed_destroy(struct mp_typed *t);

int mp_typed_lock(struct mp_typed *t, uint64_t timeout_ns);
int mp_typed_unlock(struct mp_typed *t);

/* n items from `index` on. */
int mp_typed_get(struct mp_typed *t, uint64_t index, uint64_t n, void *ret, size_t size);
int mp_typed_set(struct mp_typed *t, uint64_t index, uint64_t n, const void *data, size_t size);

int mp_typed_add(struct mp_typed *t, uint64_t index, int64_t n, int64_t *ret);
int mp_typed_add_double(struct mp_typed *t, uint64_t index, double n, double *ret);

/* Where so many bytes lie that are to be read or written in one step. NULL and *ret: -EINVAL,
 * -ERANGE, -ESTALE. */
void *mp_typed_word(const struct mp_typed *t, uint64_t offset, uint64_t width, int *ret);

uint64_t mp_typed_word_load(void *word, uint64_t width);
void mp_typed_word_store(void *word, uint64_t width, uint64_t n);
uint64_t mp_typed_word_add(void *word, uint64_t width, uint64_t n);
int mp_typed_word_exchange_if(void *word, uint64_t width, uint64_t *expected, uint64_t desired);

static inline bool mp_typed_is_versioned(const struct mp_typed *t)
{
    return t->flags & MP_VALUE_VERSIONED;
}
