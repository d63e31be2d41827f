/* SPDX-License-Identifier: MIT */
/*
 * What the words of the objects to synchronise with say.
 *
 * An object's word and the slot of its owner are read at different times, and between them the
 * owner may have released it and left, which would look like a dead owner. So all is read afresh,
 * the entry before and after what it speaks of: if its words did not move, they said so all the
 * time. If they move on and on it is in use, and the last look is as good as another.
 *
 * Shares lie in a block of the entry's, of which only as much is read as there were participants.
 * Many entries may name one block: what is read and kept is on the look's budget (view.c).
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <mp/locks.h>

#include "arena/group.h"
#include "arena/permits.h"
#include "arena/token.h"
#include "base/macro.h"
#include "sync.h"

#define TRIES 4u
#define HOLDING_COST 256u /* in words of the budget */
#define LOCKS_AT_ONCE 4096u

/* As in lib/sync: of the value of a rlock, an event, a semaphore's flags, a barrier. */
#define RLOCK_COUNT_SHIFT 42
#define RLOCK_TOKEN_MASK 0xfffffu
#define RLOCK_TID_MASK 0x3fffffu
#define EVENT_SET UINT64_C(1)
#define EVENT_SLEEP UINT64_C(2)
#define SEMAPHORE_BOUNDED 2u
#define SIGNALS_MASK 0x7fffffffu
#define BARRIER_ARRIVED(v) ((uint32_t)((v) >> 32) & 0xffff)

static const struct {
    const char *word;
    enum sync_shape shape;
    uint32_t stride; /* of the shares */
} kinds[] = {
    [MP_KIND_LOCK] = {"lock", SHAPE_LOCK, 0},
    [MP_KIND_RLOCK] = {"rlock", SHAPE_RLOCK, 0},
    [MP_KIND_RWLOCK] = {"rwlock", SHAPE_RWLOCK, 64},
    [MP_KIND_SEMAPHORE] = {"semaphore", SHAPE_SEMAPHORE, MP_PERMITS_STRIDE},
    [MP_KIND_CONDITION] = {"condition", SHAPE_CONDITION, 8},
    [MP_KIND_EVENT] = {"event", SHAPE_EVENT, 0},
    [MP_KIND_BARRIER] = {"barrier", SHAPE_BARRIER, 64},
    [MP_KIND_LOCKS] = {"locks", SHAPE_LOCKS, 0},
    /* The locks of their own: recursive ones, and that of a map's writers. */
    [MP_KIND_VALUE] = {"value", SHAPE_RLOCK, 0},
    [MP_KIND_ARRAY] = {"array", SHAPE_RLOCK, 0},
    [MP_KIND_MAP] = {"map", SHAPE_LOCK, 0},
};

const char *sync_kind_word(enum mp_kind kind)
{
    return (size_t)kind < MP_ARRAY_SIZE(kinds) ? kinds[kind].word : NULL;
}

const char *sync_state_word(enum sync_state state)
{
    static const char *const words[] = {
        "free",    "held", "owner-dying", "owner-died", "read",  "draining", "available",
        "used-up", "open", "broken",      "set",        "clear", "damaged",
    };

    return words[state];
}

const char *sync_role_word(enum sync_role role)
{
    static const char *const words[] = {"owner", "writer", "reader", "permits", "member"};

    return words[role];
}

void sync_facts_deinit(struct sync_facts *f)
{
    free(f->holdings);
}

/* ---- holdings ---- */

static int add_holding(struct view *v, struct sync_facts *f, struct holding h)
{
    struct holding *more;

    if (v->budget < HOLDING_COST) {
        f->complete = false;
        return 0;
    }
    v->budget -= HOLDING_COST;
    more = reallocarray(f->holdings, f->n + 1, sizeof *more);
    if (!more)
        return -ENOMEM;
    f->holdings = more;
    more[f->n++] = h;
    return 0;
}

/* The units in a slot's share; an entry's words are given as they were when it was read. */
typedef uint64_t share_units(const struct mp_directory_entry *e, uint64_t share, uint32_t slot);

static uint64_t units_plain(const struct mp_directory_entry *e, uint64_t share, uint32_t slot)
{
    (void)e;
    (void)slot;
    return share;
}

static uint64_t units_readers(const struct mp_directory_entry *e, uint64_t share, uint32_t slot)
{
    (void)e;
    (void)slot;
    return mp_share_readers(share);
}

static uint64_t units_permits(const struct mp_directory_entry *e, uint64_t share, uint32_t slot)
{
    return mp_permits_held(mp_load_relaxed(&e->value), share, slot);
}

/* A copy of the shares of all slots that were ever used. NULL and 0: there are none to be read;
 * -ENOMEM. */
static int read_shares(struct view *v, const struct mp_directory_entry *e, uint32_t stride,
                       char **ret_shares, uint32_t *ret_slots)
{
    _cleanup_free_ char *shares = NULL;
    uint64_t block = mp_load_relaxed(&e->block), at;
    uint32_t slots = mp_min(mp_load_relaxed(&v->header.high), v->g.participants), class;
    size_t bytes = (size_t)slots * stride;

    if (slots == 0 || !(block & VIEW_BLOCK_SET) || mp_load_relaxed(&e->size) != stride)
        return 0;
    at = view_block(v, block & ~VIEW_BLOCK_SET, &class);
    if (!at || stride > v->g.classes[class].block_size / v->g.participants || bytes / 8 > v->budget)
        return 0;
    v->budget -= bytes / 8;
    shares = malloc(bytes);
    if (!shares)
        return -ENOMEM;
    view_read(v, at, shares, bytes);
    *ret_slots = slots;
    *ret_shares = mp_take_ptr(shares);
    return 0;
}

/* Who has a share; the sum of what they have. */
static int look_shares(struct view *v, const struct mp_directory_entry *e, struct sync_facts *f,
                       enum sync_role role, share_units *units_of, uint64_t *ret_sum)
{
    _cleanup_free_ char *shares = NULL;
    uint32_t stride = kinds[f->kind].stride, slots = 0;
    uint64_t sum = 0;
    int r = read_shares(v, e, stride, &shares, &slots);

    if (!shares)
        f->complete = false;
    for (uint32_t i = 0; r == 0 && i < slots; i++) {
        struct holding h = {.role = role};
        uint64_t share;

        memcpy(&share, shares + (size_t)i * stride, sizeof share);
        h.units = units_of(e, share, i);
        if (h.units == 0)
            continue;
        sum += h.units;
        look_slot(v, i, &h.who);
        r = add_holding(v, f, h);
    }
    *ret_sum = sum;
    return r;
}

/* ---- by kind ---- */

/* The word: who owns it, or writes. */
static int explain_word(struct view *v, uint32_t word, struct sync_facts *f, enum sync_role role)
{
    uint32_t token = word & ~MP_TOKEN_WAITERS;
    struct holding h = {.role = role, .tid = f->tid, .units = role == ROLE_OWNER ? f->depth : 1};

    f->contended = (word & MP_TOKEN_WAITERS) != 0;
    look_token(v, token, &f->owner);
    if (token == 0 || token == MP_TOKEN_READ)
        f->state = SYNC_FREE;
    else if (token == MP_TOKEN_DIED)
        f->state = SYNC_DIED;
    else if (mp_token_slot(token) >= v->g.participants)
        f->state = SYNC_DAMAGED;
    else
        f->state = f->owner.state == PARTICIPANT_NONE    ? SYNC_DIED
                   : f->owner.state == PARTICIPANT_DYING ? SYNC_DYING
                                                         : SYNC_HELD;
    if (f->owner.state == PARTICIPANT_NONE)
        return 0;
    h.who = f->owner;
    return add_holding(v, f, h);
}

static int explain_rlock(struct view *v, const struct mp_directory_entry *e, struct sync_facts *f)
{
    uint64_t value = mp_load_relaxed(&e->value);
    uint32_t token = mp_load_relaxed(&e->word) & ~MP_TOKEN_WAITERS;

    /* Else it is of an owner before this one: it has the word, and has not got as far yet. */
    if (token && (value >> 22 & RLOCK_TOKEN_MASK) == (token & RLOCK_TOKEN_MASK)) {
        f->depth = (uint32_t)(value >> RLOCK_COUNT_SHIFT);
        f->tid = f->depth ? (pid_t)(value & RLOCK_TID_MASK) : 0;
    }
    return explain_word(v, mp_load_relaxed(&e->word), f, ROLE_OWNER);
}

static int explain_rwlock(struct view *v, const struct mp_directory_entry *e, struct sync_facts *f)
{
    uint64_t sleepers = mp_load_relaxed(&e->value);
    int r = explain_word(v, mp_load_relaxed(&e->word), f, ROLE_WRITER);

    f->contended |= (sleepers & 1) || (sleepers >> 32 & 1);
    if (r == 0)
        r = look_shares(v, e, f, ROLE_READER, units_readers, &f->units);
    if (f->units && f->state == SYNC_FREE)
        f->state = SYNC_READ;
    else if (f->units && f->state == SYNC_HELD)
        f->state = SYNC_DRAINING;
    return r;
}

static int explain_semaphore(struct view *v, const struct mp_directory_entry *e,
                             struct sync_facts *f)
{
    uint64_t value = mp_load_relaxed(&e->value), held;
    uint32_t flags = mp_load_relaxed(&e->flags);

    f->signals = flags & MP_PERMITS_FLAG_SIGNALS;
    f->bounded = flags & SEMAPHORE_BOUNDED;
    f->limit = flags >> MP_PERMITS_FLAGS_SHIFT;
    f->units = f->signals ? value & SIGNALS_MASK : mp_permits_free(value);
    f->contended = f->signals ? (value & MP_TOKEN_WAITERS) != 0 : (value & MP_PERMITS_WAIT) != 0;
    f->state = f->units ? SYNC_AVAILABLE : SYNC_USED_UP;
    return f->signals ? 0 : look_shares(v, e, f, ROLE_PERMITS, units_permits, &held);
}

static int explain_barrier(struct view *v, const struct mp_directory_entry *e, struct sync_facts *f)
{
    uint64_t value = mp_load_relaxed(&e->value), members;

    f->parties = mp_load_relaxed(&e->flags);
    f->contended = value & MP_BARRIER_SLEEPERS;
    f->state = value & MP_BARRIER_BROKEN ? SYNC_BROKEN : SYNC_OPEN;
    f->arrived = f->state == SYNC_BROKEN ? 0 : BARRIER_ARRIVED(value);
    if (f->arrived > f->parties)
        f->state = SYNC_DAMAGED;
    return look_shares(v, e, f, ROLE_MEMBER, units_plain, &members);
}

static int explain_condition(struct view *v, const struct mp_directory_entry *e,
                             struct sync_facts *f)
{
    uint32_t slots = 0, open = (uint32_t)mp_load_relaxed(&e->value);
    _cleanup_free_ char *shares = NULL;
    int r = read_shares(v, e, kinds[f->kind].stride, &shares, &slots);

    f->state = SYNC_OPEN;
    f->contended = mp_load_relaxed(&e->word) & 1;
    f->complete = shares != NULL;
    for (uint32_t i = 0; i < slots; i++) {
        struct mp_waiting w;
        uint64_t share;

        memcpy(&share, shares + (size_t)i * 8, sizeof share);
        w = mp_waiting_unpack(share, open);
        f->units += share ? w.older + w.younger : 0;
    }
    return r;
}

/* Where the words of many locks are. 0: nonsense, or more than we will look at. */
static uint64_t find_locks(struct view *v, const struct mp_directory_entry *e, uint64_t n)
{
    uint64_t block = mp_load_relaxed(&e->block), at;
    uint32_t class;

    if (n == 0 || n > MP_LOCKS_MAX || n / 2 > v->budget || !(block & VIEW_BLOCK_SET))
        return 0;
    at = view_block(v, block & ~VIEW_BLOCK_SET, &class);
    if (!at || (MP_LOCKS_SLEEPS + n) * sizeof(mp_a32) > v->g.classes[class].block_size)
        return 0;
    v->budget -= n / 2;
    return at + MP_LOCKS_SLEEPS * sizeof(mp_a32);
}

/* How many words name each slot. Those that name one of the dead are as free as any. */
static void count_locks(struct view *v, uint64_t at, uint64_t n, struct sync_facts *f,
                        struct holding *by_slot)
{
    for (uint64_t i = 0; i < n; i += LOCKS_AT_ONCE) {
        uint32_t words[LOCKS_AT_ONCE];
        uint64_t some = mp_min(n - i, (uint64_t)LOCKS_AT_ONCE);

        view_read(v, at + i * sizeof *words, words, some * sizeof *words);
        for (uint64_t k = 0; k < some; k++) {
            uint32_t token = words[k] & ~MP_TOKEN_WAITERS, slot = mp_token_slot(token);

            f->contended |= words[k] != token;
            if (token == 0 || slot >= v->g.participants)
                continue;
            if (by_slot[slot].who.state == PARTICIPANT_NONE)
                look_slot(v, slot, &by_slot[slot].who);
            by_slot[slot].units +=
                mp_token_tag(by_slot[slot].who.generation) == mp_token_generation_tag(token) &&
                by_slot[slot].who.state != PARTICIPANT_RETIRED &&
                by_slot[slot].who.state != PARTICIPANT_NONE;
        }
    }
}

static int explain_locks(struct view *v, const struct mp_directory_entry *e, struct sync_facts *f)
{
    _cleanup_free_ struct holding *by_slot = calloc(v->g.participants, sizeof *by_slot);
    uint64_t n = mp_load_relaxed(&e->cells), at = find_locks(v, e, n), held = 0;
    int r = 0;

    if (!by_slot)
        return -ENOMEM;
    f->complete = at != 0;
    f->state = at ? SYNC_FREE : SYNC_DAMAGED;
    if (!at)
        return 0;
    count_locks(v, at, n, f, by_slot);
    for (uint32_t slot = 0; r == 0 && slot < v->g.participants; slot++) {
        if (by_slot[slot].units == 0)
            continue;
        held += by_slot[slot].units;
        r = add_holding(v, f, by_slot[slot]);
    }
    f->state = held ? SYNC_HELD : SYNC_FREE;
    f->limit = n;
    f->units = n - held;
    return r;
}

static int explain(struct view *v, const struct mp_directory_entry *e, struct sync_facts *f)
{
    uint64_t value = mp_load_relaxed(&e->value);

    switch (f->shape) {
    case SHAPE_LOCK:
        f->depth = 1;
        return explain_word(v, mp_load_relaxed(&e->word), f, ROLE_OWNER);
    case SHAPE_RLOCK:
        return explain_rlock(v, e, f);
    case SHAPE_RWLOCK:
        return explain_rwlock(v, e, f);
    case SHAPE_SEMAPHORE:
        return explain_semaphore(v, e, f);
    case SHAPE_CONDITION:
        return explain_condition(v, e, f);
    case SHAPE_BARRIER:
        return explain_barrier(v, e, f);
    case SHAPE_LOCKS:
        return explain_locks(v, e, f);
    default:
        f->contended = value & EVENT_SLEEP;
        f->state = value & EVENT_SET ? SYNC_SET : SYNC_CLEAR;
        return 0;
    }
}

/* ---- one ---- */

/* Its state before its words: a revived entry has another one. */
static void read_entry(struct view *v, uint32_t index, struct mp_directory_entry *ret)
{
    view_read(v, v->g.directory_offset + index * sizeof *ret, ret, sizeof *ret);
}

/* But for flags of sleepers, which come and go. */
static bool has_moved(const struct mp_directory_entry *a, const struct mp_directory_entry *b)
{
    return mp_load_relaxed(&a->state) != mp_load_relaxed(&b->state) ||
           ((mp_load_relaxed(&a->word) ^ mp_load_relaxed(&b->word)) & ~MP_TOKEN_WAITERS) ||
           mp_load_relaxed(&a->value) != mp_load_relaxed(&b->value);
}

int sync_look(struct view *v, uint32_t index, struct sync_facts *ret_facts)
{
    _cleanup_sync_ struct sync_facts f = {0};
    struct mp_directory_entry before, after;

    read_entry(v, index, &before);
    for (unsigned i = 0; i < TRIES; i++) {
        struct mp_entry_word w = mp_entry_unpack(mp_load_relaxed(&before.state));
        int r;

        if (w.state != MP_ENTRY_LIVE || !sync_kind_word((enum mp_kind)w.kind) ||
            mp_load_relaxed(&before.value) == MP_VALUE_DESTROYED ||
            (mp_load_relaxed(&before.word) & ~MP_TOKEN_WAITERS) == MP_TOKEN_DESTROYED)
            return 0;
        sync_facts_deinit(&f);
        f = (struct sync_facts){
            .kind = (enum mp_kind)w.kind, .shape = kinds[w.kind].shape, .complete = true};
        r = explain(v, &before, &f);
        if (r < 0)
            return r;
        read_entry(v, index, &after);
        if (!has_moved(&before, &after))
            break;
        before = after;
    }
    *ret_facts = f;
    f = (struct sync_facts){0};
    return 1;
}

int sync_look_one(struct view *v, uint32_t index, uint64_t number, struct sync_facts *ret_facts)
{
    struct sync_facts f = {.kind = MP_KIND_LOCKS, .shape = SHAPE_LOCK, .complete = true};
    struct mp_directory_entry e;
    struct mp_entry_word w;
    uint64_t n, at;
    uint32_t word;
    int r;

    read_entry(v, index, &e);
    w = mp_entry_unpack(mp_load_relaxed(&e.state));
    n = mp_load_relaxed(&e.cells);
    if (w.state != MP_ENTRY_LIVE || w.kind != MP_KIND_LOCKS || number >= n)
        return 0;
    at = find_locks(v, &e, n);
    if (!at)
        return 0;
    view_read(v, at + number * sizeof word, &word, sizeof word);
    r = explain_word(v, word, &f, ROLE_OWNER);
    if (r < 0)
        sync_facts_deinit(&f);
    else
        *ret_facts = f;
    return r < 0 ? r : 1;
}
