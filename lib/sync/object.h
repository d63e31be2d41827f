/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the handles of all sync objects have in common: where the object lies, and whether it still
 * lives. Most of them are a word or two in a directory entry; those that have to know who has how
 * much of them have shares, too: a word a participant (arena/layout.h).
 */

#include "arena/arena.h"
#include "arena/directory.h"
#include "arena/waitable.h"

struct mp_object {
    mp_a32 *word;  /* of the entry */
    mp_a64 *value; /* of the entry */
    mp_a64 *state; /* of the entry: differs from `live` once it is destroyed */
    mp_a32 *token; /* of this process: in the page that a fork wipes */
    uint64_t live;
    char *shares; /* NULL: it has none */
    uint32_t stride;
    uint32_t index;
    struct mp_arena *arena;
    struct mp_directory_entry *entry;
    char name[MP_NAME_MAX + 1];
};

/* Make an object in the arena, with shares `stride` bytes apart (0: without). `value` and `flags`
 * are the entry's. 0; -EINVAL, -ENAMETOOLONG, -EEXIST, -ENOBUFS, -EMSGSIZE, -EUSERS, -EPROTO. */
int mp_object_create(struct mp_arena *a, const char *name, enum mp_kind kind, uint32_t flags,
                     uint64_t value, uint32_t stride, struct mp_object *ret);

/* The same for one with memory of another kind than shares. */
int mp_object_make(struct mp_arena *a, const struct mp_object_spec *spec, struct mp_object *ret);

/* 0; -EINVAL, -ENAMETOOLONG, -ENOENT, -EUSERS, -EPROTO (no such stride). */
int mp_object_open(struct mp_arena *a, const char *name, enum mp_kind kind, uint32_t stride,
                   struct mp_object *ret);

/* A handle to one that is there. */
void mp_object_fill(struct mp_arena *a, uint32_t index, uint64_t live, uint32_t stride,
                    struct mp_object *ret);

/* Those who wait for it get -ESTALE. 0; -ESTALE. */
int mp_object_destroy(struct mp_object *o);

/* What mp_wait() is given: NULL gives one of no object. */
static inline struct mp_waitable mp_object_waitable(struct mp_object *o, mp_a32 *word,
                                                    const struct mp_waitable_type *type,
                                                    void *handle)
{
    return (struct mp_waitable){
        .fd = -1,
        .kind = MP_WAITABLE_WORD,
        .object = handle,
        .arena = o->arena,
        .index = o->index,
        .word = word,
        .type = type,
    };
}

static MP_INLINE bool mp_object_is_live(const struct mp_object *o)
{
    return mp_likely(mp_load_relaxed(o->state) == o->live);
}

/* A slot's share. */
static inline mp_a64 *mp_object_share(const struct mp_object *o, uint32_t slot)
{
    return (mp_a64 *)(void *)(o->shares + (size_t)slot * o->stride);
}
