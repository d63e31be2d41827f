/* SPDX-License-Identifier: MIT */
/* mpctl locks: all that is made to synchronise with; who holds it, who waits, and since when. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"
#include "mpctl.h"

static const struct column columns[] = {
    ARENA_COLUMNS,
    {"name", "NAME", 0},
    {"kind", "KIND", 0},
    {"state", "STATE", 0},
    {"detail", "DETAIL", 0},
    {"owner_pid", "OWNER", COLUMN_RIGHT},
    {"owner_slot", "SLOT", COLUMN_RIGHT | COLUMN_WIDE},
    {"owner_name", "OWNER-NAME", 0},
    {"owner_process", "PROCESS", 0},
    {"owner_tid", "OWNER-TID", COLUMN_RIGHT | COLUMN_WIDE},
    {"depth", "DEPTH", COLUMN_RIGHT | COLUMN_WIDE},
    {"readers", "READERS", COLUMN_RIGHT | COLUMN_WIDE},
    {"units_free", "UNITS-FREE", COLUMN_RIGHT | COLUMN_WIDE},
    {"units", "UNITS", COLUMN_RIGHT | COLUMN_WIDE},
    {"units_are", "UNITS-ARE", COLUMN_WIDE},
    {"bounded", "BOUNDED", COLUMN_WIDE},
    {"parties", "PARTIES", COLUMN_RIGHT | COLUMN_WIDE},
    {"arrived", "ARRIVED", COLUMN_RIGHT | COLUMN_WIDE},
    {"broken", "BROKEN", COLUMN_WIDE},
    {"set", "SET", COLUMN_WIDE},
    {"contended", "CONTENDED", COLUMN_WIDE},
    {"holders", "HOLDERS", COLUMN_TRUNC},
    {"waiters", "WAITERS", COLUMN_TRUNC},
};

static void put_state(struct table *t, enum sync_state state)
{
    put_text(t, sync_state_word(state));
    if (state == SYNC_DYING || state == SYNC_DIED || state == SYNC_BROKEN || state == SYNC_DAMAGED)
        put_color(t, "red");
}

static const char *flavour(const struct sync_facts *f)
{
    return f->signals ? "signals" : "permits";
}

static void describe_semaphore(char *text, size_t size, const struct sync_facts *f)
{
    const char *free_word = f->signals ? "posted" : "free";

    if (f->signals && !f->bounded)
        snprintf(text, size, "%" PRIu64 " signals posted", f->units);
    else
        snprintf(text, size, "%" PRIu64 " of %" PRIu64 " %s%s %s", f->units, f->limit,
                 f->bounded ? "bounded " : "", flavour(f), free_word);
}

/* In words, what has no column in tables. */
static void put_detail(struct table *t, const struct sync_facts *f)
{
    char text[96] = "";

    if (f->shape == SHAPE_RLOCK && f->depth)
        snprintf(text, sizeof text, "%u deep", f->depth);
    else if (f->shape == SHAPE_RWLOCK && f->units)
        snprintf(text, sizeof text, "%" PRIu64 " reading", f->units);
    else if (f->shape == SHAPE_SEMAPHORE)
        describe_semaphore(text, sizeof text, f);
    else if (f->shape == SHAPE_LOCKS && f->complete)
        snprintf(text, sizeof text, "%" PRIu64 " of %" PRIu64 " held", f->limit - f->units,
                 f->limit);
    else if (f->shape == SHAPE_CONDITION && f->complete)
        snprintf(text, sizeof text, "%" PRIu64 " waiting", f->units);
    else if (f->shape == SHAPE_BARRIER)
        snprintf(text, sizeof text, "%u of %u arrived", f->arrived, f->parties);
    put_text(t, text);
}

static void put_number_if(struct table *t, bool known, uint64_t number)
{
    if (known)
        put_number(t, number);
    else
        put_null(t);
}

static void put_bool_if(struct table *t, bool known, bool yes)
{
    if (known)
        put_bool(t, yes);
    else
        put_null(t);
}

/* Each where it means something. */
static void put_numbers(struct table *t, const struct sync_facts *f)
{
    bool semaphore = f->shape == SHAPE_SEMAPHORE, barrier = f->shape == SHAPE_BARRIER;

    put_number_if(t, f->tid != 0, (uint64_t)f->tid);
    put_number_if(t, f->shape == SHAPE_RLOCK, f->depth);
    put_number_if(t, f->shape == SHAPE_RWLOCK && f->complete, f->units);
    put_number_if(t, semaphore || (f->shape == SHAPE_LOCKS && f->complete), f->units);
    put_number_if(t, semaphore || (f->shape == SHAPE_LOCKS && f->complete), f->limit);
    put_text(t, semaphore ? flavour(f) : NULL);
    put_bool_if(t, semaphore, f->bounded);
    put_number_if(t, barrier, f->parties);
    put_number_if(t, barrier, f->arrived);
    put_bool_if(t, barrier, f->state == SYNC_BROKEN);
    put_bool_if(t, f->shape == SHAPE_EVENT, f->state == SYNC_SET);
}

static void put_owner(struct table *t, const struct participant *owner)
{
    put_pid(t, owner);
    put_number_if(t, owner->state != PARTICIPANT_NONE, owner->slot);
    put_text(t, owner->name);
    put_process(t, owner);
}

static void put_sync(struct view *v, struct table *t, const struct waits *waits, uint32_t i,
                     const char *name, const struct sync_facts *f)
{
    put_arena(t, v);
    put_text(t, name);
    put_text(t, sync_kind_word(f->kind));
    put_state(t, f->state);
    put_detail(t, f);
    put_owner(t, &f->owner);
    put_numbers(t, f);
    put_bool(t, f->contended);
    put_holders(t, f);
    put_waiters(t, waits, wait_kinds_for(f->kind) | 1u << MP_WAIT_ANY, i);
}

static int look(struct view *v, struct table *t)
{
    _cleanup_waits_ struct waits waits = {0};
    char name[OBJECT_NAME_MAX];
    int r = look_waits(v, &waits);

    for (uint32_t i = 0; r >= 0 && i < v->n_entries; i++) {
        _cleanup_sync_ struct sync_facts f = {0};
        uint32_t kind = mp_entry_unpack(mp_load_relaxed(&v->entries[i].state)).kind;

        if (!sync_kind_word((enum mp_kind)kind) || !look_is_object(v, i, (enum mp_kind)kind, name))
            continue;
        r = sync_look(v, i, &f);
        if (r > 0 && f.kind == (enum mp_kind)kind)
            put_sync(v, t, &waits, i, name, &f);
    }
    return r < 0 ? r : 0;
}

const struct lister locks_lister = {"objects to synchronise with", columns, MP_ARRAY_SIZE(columns),
                                    .look = look};
