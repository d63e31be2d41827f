/* SPDX-License-Identifier: MIT */
/* mpctl locks: who holds them, who waits, and since when. Of a rwlock: who writes. */

#include <errno.h>

#include "base/macro.h"
#include "mpctl.h"

static const struct column columns[] = {
    ARENA_COLUMNS,
    {"name", "NAME", 0},
    {"kind", "KIND", 0},
    {"state", "STATE", 0},
    {"owner_pid", "OWNER", COLUMN_RIGHT},
    {"owner_slot", "SLOT", COLUMN_RIGHT | COLUMN_WIDE},
    {"owner_name", "OWNER-NAME", 0},
    {"owner_process", "PROCESS", 0},
    {"contended", "CONTENDED", COLUMN_WIDE},
    {"waiters", "WAITERS", COLUMN_TRUNC},
};

static void put_state(struct table *t, enum lock_state state)
{
    static const char *const words[] = {"free", "held", "owner-dying", "owner-died", "damaged"};

    put_text(t, words[state]);
    if (state != LOCK_FREE && state != LOCK_HELD)
        put_color(t, "red");
}

static const struct {
    enum mp_kind kind;
    const char *word;
    uint32_t wait;
} kinds[] = {
    {MP_KIND_LOCK, "lock", MP_WAIT_LOCK},
    {MP_KIND_RLOCK, "rlock", MP_WAIT_RLOCK},
    {MP_KIND_RWLOCK, "rwlock", MP_WAIT_WRITE},
};

static void put_lock(struct view *v, struct table *t, const struct waits *waits, uint32_t i,
                     const char *name, size_t kind)
{
    struct lock_facts f;

    if (!look_lock(v, i, &f))
        return;
    put_arena(t, v);
    put_text(t, name);
    put_text(t, kinds[kind].word);
    put_state(t, f.state);
    put_pid(t, &f.owner);
    if (f.owner.state == PARTICIPANT_NONE)
        put_null(t);
    else
        put_number(t, f.owner.slot);
    put_text(t, f.owner.name);
    put_process(t, &f.owner);
    put_bool(t, f.contended);
    put_waiters(t, waits, kinds[kind].wait, i);
}

static int look(struct view *v, struct table *t)
{
    _cleanup_waits_ struct waits waits = {0};
    char name[OBJECT_NAME_MAX];
    int r = look_waits(v, &waits);

    for (uint32_t i = 0; r == 0 && i < v->n_entries; i++)
        for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++)
            if (look_is_object(v, i, kinds[k].kind, name))
                put_lock(v, t, &waits, i, name, k);
    return r;
}

const struct lister locks_lister = {"locks", columns, MP_ARRAY_SIZE(columns), look};
