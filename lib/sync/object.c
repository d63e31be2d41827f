/* SPDX-License-Identifier: MIT */
/* Making, finding and ending sync objects. */

#include <errno.h>
#include <string.h>

#include "arena/permits.h"
#include "sync/object.h"

void mp_object_fill(struct mp_arena *a, uint32_t index, uint64_t live, uint32_t stride,
                    struct mp_object *ret)
{
    struct mp_directory_entry *e = &a->directory[index];

    *ret = (struct mp_object){
        .word = &e->word,
        .value = &e->value,
        .state = &e->state,
        .token = &a->self->token,
        .live = live,
        .stride = stride,
        .index = index,
        .arena = a,
        .entry = e,
    };
    if (stride)
        ret->shares = (char *)mp_directory_share_at(a, e, 0, stride);
    mp_name_copy(ret->name, e->name, sizeof e->name);
}

/* Of the value: what is only compared, or counted round. */
static uint64_t differs(enum mp_kind kind, uint32_t stride)
{
    switch (kind) {
    case MP_KIND_CONDITION:
        return UINT32_MAX; /* the open group */
    case MP_KIND_BARRIER:
        return UINT32_MAX & ~(MP_BARRIER_SLEEPERS | MP_BARRIER_BROKEN); /* the phase */
    case MP_KIND_EVENT:
        return ~UINT64_C(3); /* how often it was set */
    case MP_KIND_SEMAPHORE:
        return stride ? MP_PERMITS_Q_MASK << 32 /* the tenure */
                      : ~(uint64_t)UINT32_MAX;  /* nothing: for this alone */
    default:
        return 0;
    }
}

/* What an empty share begins with. */
static uint64_t first_share(uint32_t kind, uint64_t generation)
{
    switch (kind) {
    case MP_KIND_RWLOCK:
        return generation << 32;
    case MP_KIND_SEMAPHORE:
        return generation << MP_CELL_VERSION_SHIFT;
    default:
        return 0;
    }
}

static int empty_shares(struct mp_arena *a, struct mp_directory_entry *e, void *memory,
                        const struct mp_object_spec *spec, bool revived)
{
    uint64_t first =
        first_share((uint32_t)spec->kind, mp_entry_unpack(mp_load_relaxed(&e->state)).generation);

    (void)revived;
    memset(memory, 0, spec->size * a->geometry.participants);
    for (uint32_t slot = 0; first && slot < a->geometry.participants; slot++)
        mp_store_relaxed((mp_a64 *)(void *)((char *)memory + slot * spec->size), first);
    return 0;
}

int mp_object_create(struct mp_arena *a, const char *name, enum mp_kind kind, uint32_t flags,
                     uint64_t value, uint32_t stride, struct mp_object *ret)
{
    struct mp_object_spec spec = {
        .name = name,
        .kind = kind,
        .flags = flags,
        .size = stride,
        .value = value,
        .differs = differs(kind, stride),
        .memory = (uint64_t)stride * a->geometry.participants,
        .initialize = empty_shares,
    };
    uint32_t index;
    uint64_t live;
    int r;

    r = mp_directory_create(a, &spec, &index, &live);
    if (r < 0)
        return r;
    mp_object_fill(a, index, live, stride, ret);
    if (mp_likely(!stride || ret->shares))
        return 0;
    mp_directory_destroy(a, index, live, NULL, NULL);
    return -EPROTO; /* somebody wrote over the words of its block meanwhile */
}

int mp_object_make(struct mp_arena *a, const struct mp_object_spec *spec, struct mp_object *ret)
{
    uint32_t index;
    uint64_t live;
    int r;

    r = mp_directory_create(a, spec, &index, &live);
    if (r == 0)
        mp_object_fill(a, index, live, 0, ret);
    return r;
}

int mp_object_open(struct mp_arena *a, const char *name, enum mp_kind kind, uint32_t stride,
                   struct mp_object *ret)
{
    uint32_t index;
    uint64_t live;
    int r = 0;

    if (!mp_arena_enter(a, &r))
        return r;
    r = mp_directory_open(a, name, kind, &index, &live);
    if (r < 0)
        return r;
    if (stride && mp_load_relaxed(&a->directory[index].size) != stride)
        return -EPROTO;
    mp_object_fill(a, index, live, stride, ret);
    return stride && !ret->shares ? -EPROTO : 0;
}

int mp_object_destroy(struct mp_object *o)
{
    return mp_directory_destroy(o->arena, o->index, o->live, NULL, NULL);
}
