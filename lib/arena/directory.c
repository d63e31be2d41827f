/* SPDX-License-Identifier: MIT */
/*
 * The directory of objects.
 *
 * A name is unique without a lock: a creator writes its entry, moves it to CLAIMED, and then looks
 * at all others. A live one of the same name: it gives up. Another claim of the same name by
 * somebody alive: the one with the higher index gives up, the one with the lower waits until the
 * other has (it will, or become live). All of that is sequentially consistent, so of two claims at
 * least one sees the other.
 */

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "arena/block.h"
#include "arena/directory.h"
#include "arena/keeper.h"
#include "arena/liveness.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "kernel/futex.h"

#define BLOCK_SET (UINT64_C(1) << 63)
#define TURN_LEAST 64u
#define TRIES_MOST 10000u /* only somebody hostile can make it so many */

const char *mp_kind_name(enum mp_kind kind)
{
    static const char *const names[] = {
        [MP_KIND_LOCK] = "lock",
        [MP_KIND_QUEUE] = "queue",
        [MP_KIND_BLOCK] = "block",
        [MP_KIND_RLOCK] = "rlock",
        [MP_KIND_RWLOCK] = "rwlock",
        [MP_KIND_SEMAPHORE] = "semaphore",
        [MP_KIND_CONDITION] = "condition",
        [MP_KIND_EVENT] = "event",
        [MP_KIND_BARRIER] = "barrier",
        [MP_KIND_LOCKS] = "locks",
        [MP_KIND_VALUE] = "value",
        [MP_KIND_ARRAY] = "array",
        [MP_KIND_MAP] = "map",
    };

    return (size_t)kind < MP_ARRAY_SIZE(names) && names[kind] ? names[kind] : "object";
}

bool mp_kind_keeps_memory(uint32_t kind)
{
    return kind == MP_KIND_QUEUE || kind == MP_KIND_RWLOCK || kind == MP_KIND_SEMAPHORE ||
           kind == MP_KIND_CONDITION || kind == MP_KIND_BARRIER || kind == MP_KIND_LOCKS;
}

bool mp_name_is_valid(const char *name)
{
    size_t n = 0;

    for (; name[n]; n++)
        if (n == MP_NAME_MAX || name[n] <= ' ' || name[n] > '~' || name[n] == '/')
            return false;
    return n > 0;
}

void mp_name_copy(char ret[MP_NAME_MAX + 1], const char *shared, size_t size)
{
    size_t n = mp_min(size, (size_t)MP_NAME_MAX);

    for (size_t i = 0; i < n; i++) {
        char c = __atomic_load_n(&shared[i], __ATOMIC_RELAXED); /* once: it may change under us */

        ret[i] = c == '\0' || (c > ' ' && c <= '~') ? c : '?';
    }
    ret[n] = '\0';
}

uint32_t mp_directory_block(const struct mp_arena *a, const struct mp_directory_entry *e)
{
    uint64_t v = mp_load_relaxed(&e->block);

    return (v & BLOCK_SET) && (v & ~BLOCK_SET) < a->geometry.blocks ? (uint32_t)v : UINT32_MAX;
}

struct mp_ring *mp_directory_ring(const struct mp_arena *a, const struct mp_directory_entry *e,
                                  uint32_t *ret_cells)
{
    uint64_t cells = mp_load_relaxed(&e->cells) >> 32;
    struct mp_ring *ring;

    if (cells == 0 || (cells & (cells - 1)))
        return NULL;
    ring = mp_directory_memory(a, e, sizeof *ring + cells * sizeof(mp_a64));
    if (ring)
        *ret_cells = (uint32_t)cells;
    return ring;
}

mp_a64 *mp_directory_share(const struct mp_arena *a, const struct mp_directory_entry *e,
                           uint32_t slot)
{
    return mp_directory_share_at(a, e, slot, mp_load_relaxed(&e->size));
}

void *mp_directory_memory(const struct mp_arena *a, const struct mp_directory_entry *e,
                          uint64_t size)
{
    uint32_t x = mp_directory_block(a, e);
    const struct mp_class *k;

    if (x == UINT32_MAX)
        return NULL;
    k = &a->geometry.classes[mp_geometry_block_class(&a->geometry, x)];
    return size <= k->block_size && mp_block_is_backed(a, k, x) ? mp_arena_block(a, k, x) : NULL;
}

mp_a64 *mp_directory_share_at(const struct mp_arena *a, const struct mp_directory_entry *e,
                              uint32_t slot, uint64_t stride)
{
    char *memory;

    if (slot >= a->geometry.participants || stride == 0 || stride % 8 || stride > UINT32_MAX)
        return NULL;
    memory = mp_directory_memory(a, e, stride * a->geometry.participants);
    return memory ? (mp_a64 *)(void *)(memory + slot * stride) : NULL;
}

/* Others read names beside us, and look at the state afterwards. */
static void write_name(struct mp_directory_entry *e, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < sizeof e->name; i++)
        __atomic_store_n(&e->name[i], i < n ? name[i] : '\0', __ATOMIC_RELAXED);
}

static bool same_name(const struct mp_directory_entry *e, const char *name)
{
    for (size_t i = 0; i < sizeof e->name; i++) {
        char c = __atomic_load_n(&e->name[i], __ATOMIC_RELAXED);

        if (c != name[i])
            return false;
        if (c == '\0')
            return true;
    }
    return false;
}

static uint64_t with_state(uint64_t word, uint32_t state, uint32_t slot)
{
    struct mp_entry_word w = mp_entry_unpack(word);

    w.state = state;
    w.slot = slot;
    return mp_entry_pack(w);
}

static bool keeps_memory(const struct mp_arena *a, const struct mp_directory_entry *e,
                         uint32_t kind)
{
    return mp_kind_keeps_memory(kind) && mp_directory_block(a, e) != UINT32_MAX;
}

static bool claim(struct mp_arena *a, uint32_t i, uint64_t v, const struct mp_object_spec *spec,
                  uint32_t state, uint64_t *ret_word)
{
    struct mp_entry_word w = mp_entry_unpack(v);
    uint32_t high = mp_load_seqcst(&a->header->objects_high);

    while (high < i + 1 && !mp_cas_seqcst(&a->header->objects_high, &high, i + 1)) {
    }
    w.generation++;
    w.kind = (uint32_t)spec->kind;
    w.slot = a->self->slot;
    w.state = state;
    *ret_word = mp_entry_pack(w);
    return mp_cas_seqcst(&a->directory[i].state, &v, *ret_word);
}

/* Will the memory of a DORMANT entry do? It must be large enough. A queue's: with as many cells,
 * none of which somebody is still taking. Shares: as far apart. */
static bool fits(const struct mp_arena *a, const struct mp_directory_entry *e,
                 const struct mp_object_spec *spec)
{
    void *memory = mp_directory_memory(a, e, spec->memory);

    if (!memory)
        return false;
    if (spec->kind == MP_KIND_QUEUE)
        return mp_load_relaxed(&e->cells) >> 32 == spec->cells >> 32 &&
               !mp_ring_is_busy(memory, (uint32_t)(spec->cells >> 32));
    return mp_load_relaxed(&e->size) == spec->size;
}

/* A DORMANT entry of the kind whose memory will do. Its index; -ENOENT. */
static int64_t claim_dormant(struct mp_arena *a, const struct mp_object_spec *spec,
                             uint64_t *ret_word)
{
    for (uint32_t i = 0; i < mp_arena_objects_high(a); i++) {
        struct mp_directory_entry *e = &a->directory[i];
        uint64_t v = mp_load_seqcst(&e->state);
        struct mp_entry_word w = mp_entry_unpack(v);

        if (w.state == MP_ENTRY_DORMANT && w.kind == (uint32_t)spec->kind && fits(a, e, spec) &&
            claim(a, i, v, spec, MP_ENTRY_REVIVING, ret_word))
            return i;
    }
    return -ENOENT;
}

/* A FREE entry. They are gone through in turn, so that one comes back late: a stale handle may be
 * just about to touch it. Its index; -ENOBUFS. */
static int64_t claim_free(struct mp_arena *a, const struct mp_object_spec *spec, uint64_t *ret_word)
{
    uint32_t objects = a->geometry.objects;
    uint32_t turn = mp_max(mp_arena_objects_high(a), mp_min(objects, TURN_LEAST));
    uint32_t from = atomic_fetch_add(&a->header->next_object, 1) % turn;

    for (uint32_t n = 0; n < objects; n++) {
        uint32_t i = n < turn ? (from + n) % turn : n;
        uint64_t v = mp_load_seqcst(&a->directory[i].state);

        if (mp_entry_unpack(v).state == MP_ENTRY_FREE &&
            claim(a, i, v, spec, MP_ENTRY_BUILDING, ret_word))
            return i;
    }
    return -ENOBUFS;
}

/* Does an entry in this state have the name? */
static bool has_name(const struct mp_arena *a, const char *name, uint32_t state)
{
    for (uint32_t i = 0; i < mp_arena_objects_high(a); i++) {
        const struct mp_directory_entry *e = &a->directory[i];
        uint64_t v = mp_load_seqcst(&e->state);

        if (mp_entry_unpack(v).state == state && same_name(e, name) &&
            mp_load_seqcst(&e->state) == v)
            return true;
    }
    return false;
}

/* Another claim came first. Who is told that the name exists can open it: so wait until it does.
 * -EEXIST; -EAGAIN: the claim is gone. */
static int await_claim(struct mp_arena *a, const char *name)
{
    uint64_t deadline = mp_now_ns() + MP_SEC(1);

    while (!has_name(a, name, MP_ENTRY_LIVE)) {
        if (!has_name(a, name, MP_ENTRY_CLAIMED))
            return has_name(a, name, MP_ENTRY_LIVE) ? -EEXIST : -EAGAIN;
        if (mp_now_ns() > deadline)
            break; /* it is stopped */
        mp_liveness_check(a);
        sched_yield();
    }
    return -EEXIST;
}

/* Is the name ours, with our entry CLAIMED? 0; -EEXIST; -EINPROGRESS: another claim came first. */
static int settle_name(struct mp_arena *a, uint32_t index, const char *name)
{
    uint64_t deadline = mp_now_ns() + MP_SEC(1);

    for (uint32_t i = 0; i < mp_arena_objects_high(a);) {
        struct mp_directory_entry *e = &a->directory[i];
        uint64_t v = mp_load_seqcst(&e->state);
        struct mp_entry_word w = mp_entry_unpack(v);
        bool same;

        if (i == index || (w.state != MP_ENTRY_LIVE && w.state != MP_ENTRY_CLAIMED)) {
            i++;
            continue;
        }
        same = same_name(e, name);
        /* It has moved on, perhaps from a claim to life: look at it again, and not past it. */
        if (mp_load_seqcst(&e->state) != v && mp_now_ns() <= deadline)
            continue;
        if (!same) {
            i++;
            continue;
        }
        if (w.state == MP_ENTRY_LIVE || mp_now_ns() > deadline)
            return -EEXIST;
        if (i < index)
            return -EINPROGRESS;
        mp_liveness_check(a); /* a claim by somebody dead is swept away */
        sched_yield();
    }
    return 0;
}

/* Take the block out of an entry that is ours alone, and give it back. */
static void strip_block(struct mp_arena *a, struct mp_directory_entry *e)
{
    uint32_t x = mp_directory_block(a, e);

    if (x == UINT32_MAX)
        return;
    if (mp_mutation(STRIP_ENTRY_FIRST))
        mp_store_release(&e->block, 0);
    /* The taker's name first, then out of the container. */
    mp_store_release(&a->words[x], mp_block_owned(a));
    mp_store_release(&e->block, 0);
    mp_block_give_anyhow(a, x);
}

static int give_memory(struct mp_arena *a, struct mp_directory_entry *e,
                       const struct mp_object_spec *spec)
{
    uint32_t class = mp_geometry_class(&a->geometry, spec->memory);
    struct mp_thread *t;
    uint32_t x;
    int r;

    if (class == a->geometry.n_classes)
        return -EMSGSIZE;
    t = mp_thread_get(a, &r);
    if (!t)
        return r;
    r = mp_block_wait(a, t, class, 0, NULL, NULL, &class, &x);
    if (r < 0)
        return r;
    /* The entry names it, then the word need not: QUEUED means "in a container". */
    mp_store_release(&e->block, BLOCK_SET | x);
    mp_store_release(&a->words[x], mp_block_word(MP_BLOCK_QUEUED, 0, 0, mp_block_turn_next()));
    return spec->initialize(a, e, mp_arena_block(a, &a->geometry.classes[class], x), spec, false);
}

/* Who has read the value of an object that is gone by now, and expects it in a CAS, is not to find
 * it in the next one. */
static uint64_t first_value(uint64_t word, const struct mp_object_spec *spec)
{
    uint64_t mark = mp_entry_unpack(word).generation * UINT64_C(0x9e3779b97f4a7c15);

    return mp_mutation(LIVES_ALIKE) ? spec->value : spec->value ^ (mark & spec->differs);
}

static int build(struct mp_arena *a, uint32_t index, uint64_t word,
                 const struct mp_object_spec *spec)
{
    struct mp_directory_entry *e = &a->directory[index];
    bool revived = mp_entry_unpack(word).state == MP_ENTRY_REVIVING;
    char made_up[MP_NAME_MAX + 1];
    int r;

    snprintf(made_up, sizeof made_up, "%s-%u.%u", mp_kind_name(spec->kind), index,
             mp_entry_unpack(word).generation);
    write_name(e, spec->name ? spec->name : made_up);
    if (revived) {
        /* By what we want, not by what the entry says: it may have been written over since. */
        void *memory = mp_directory_memory(a, e, spec->memory);

        if (!memory)
            return -ENOTRECOVERABLE;
        r = spec->initialize(a, e, memory, spec, true);
        if (r < 0)
            return r;
    }
    mp_store_relaxed(&e->flags, spec->flags);
    mp_store_relaxed(&e->size, spec->size);
    mp_store_relaxed(&e->cells, spec->cells);
    mp_store_relaxed(&e->value, first_value(word, spec));
    mp_store_release(&e->word, 0); /* last: who sees it free sees the flags of this life */
    if (!revived && spec->memory) {
        r = give_memory(a, e, spec);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Build in a claimed entry and make it live, or undo the claim. */
static int complete(struct mp_arena *a, uint32_t index, uint64_t word,
                    const struct mp_object_spec *spec, uint64_t *ret_live)
{
    struct mp_directory_entry *e = &a->directory[index];
    bool revived = mp_entry_unpack(word).state == MP_ENTRY_REVIVING;
    char name[MP_NAME_MAX + 1];
    bool dormant;
    int r;

    r = build(a, index, word, spec);
    dormant = revived || (r == 0 && keeps_memory(a, e, (uint32_t)spec->kind));
    if (r == 0) {
        mp_store_seqcst(&e->state, with_state(word, MP_ENTRY_CLAIMED, a->self->slot));
        mp_name_copy(name, e->name, sizeof e->name);
        r = settle_name(a, index, name);
    }
    if (r < 0) {
        if (!dormant)
            strip_block(a, e);
        mp_store_seqcst(&e->state, with_state(word, dormant ? MP_ENTRY_DORMANT : MP_ENTRY_FREE, 0));
        return r;
    }
    *ret_live = with_state(word, MP_ENTRY_LIVE, 0);
    mp_store_seqcst(&e->state, *ret_live);
    return 0;
}

static int create_once(struct mp_arena *a, const struct mp_object_spec *spec, uint32_t *ret_index,
                       uint64_t *ret_live)
{
    int64_t index = -ENOENT;
    uint64_t word;
    int r;

    if (spec->name && has_name(a, spec->name, MP_ENTRY_LIVE))
        return -EEXIST; /* before anything is made for it */
    if (spec->memory && mp_kind_keeps_memory((uint32_t)spec->kind))
        index = claim_dormant(a, spec, &word);
    if (index >= 0) {
        r = complete(a, (uint32_t)index, word, spec, ret_live);
        if (r != -EAGAIN) { /* somebody took from it once more: it stays DORMANT */
            *ret_index = (uint32_t)index;
            return r;
        }
    }
    index = claim_free(a, spec, &word);
    if (index < 0)
        return (int)index;
    r = complete(a, (uint32_t)index, word, spec, ret_live);
    if (r == 0)
        *ret_index = (uint32_t)index;
    return r;
}

int mp_directory_create(struct mp_arena *a, const struct mp_object_spec *spec, uint32_t *ret_index,
                        uint64_t *ret_live)
{
    int r = 0;

    if (spec->name && !mp_name_is_valid(spec->name))
        return -ENAMETOOLONG;
    if (!mp_arena_enter(a, &r))
        return r;
    for (uint32_t tries = 0; tries < TRIES_MOST; tries++) {
        r = create_once(a, spec, ret_index, ret_live);
        if (r != -EINPROGRESS)
            return r;
        r = await_claim(a, spec->name);
        if (r != -EAGAIN)
            return r;
    }
    return -EEXIST;
}

int mp_directory_open(struct mp_arena *a, const char *name, enum mp_kind kind, uint32_t *ret_index,
                      uint64_t *ret_live)
{
    if (!mp_name_is_valid(name))
        return -ENAMETOOLONG;
    for (uint32_t i = 0; i < mp_arena_objects_high(a); i++) {
        struct mp_directory_entry *e = &a->directory[i];
        uint64_t v = mp_load_seqcst(&e->state);
        struct mp_entry_word w = mp_entry_unpack(v);

        if (w.state != MP_ENTRY_LIVE || w.kind != (uint32_t)kind || !same_name(e, name))
            continue;
        /* The name was read between two equal states, so it is this entry's. */
        if (mp_load_seqcst(&e->state) != v)
            continue;
        *ret_index = i;
        *ret_live = v;
        return 0;
    }
    return -ENOENT;
}

void mp_directory_wake(struct mp_arena *a, struct mp_directory_entry *e)
{
    struct mp_entry_word w = mp_entry_unpack(mp_load_relaxed(&e->state));
    struct mp_ring *ring;
    mp_a32 *sleeps;
    uint32_t cells;

    if (w.state == MP_ENTRY_FREE || w.state == MP_ENTRY_DORMANT)
        return; /* whoever slept there was woken when it ended */
    switch (w.kind) {
    case MP_KIND_LOCK:
    case MP_KIND_RLOCK:
    case MP_KIND_VALUE:
    case MP_KIND_ARRAY:
    case MP_KIND_MAP:
        mp_futex_wake(&e->word, INT_MAX);
        break;
    case MP_KIND_EVENT:
    case MP_KIND_RWLOCK:
        mp_futex_wake(&e->word, INT_MAX);
        mp_futex_wake(mp_directory_futex(e), INT_MAX);
        mp_futex_wake(mp_directory_futex(e) + 1, INT_MAX); /* its readers */
        break;
    case MP_KIND_SEMAPHORE:
    case MP_KIND_CONDITION:
    case MP_KIND_BARRIER:
        mp_futex_wake(&e->word, INT_MAX);
        mp_futex_wake(mp_directory_futex(e), INT_MAX);
        break;
    case MP_KIND_LOCKS:
        sleeps = mp_directory_memory(a, e, MP_LOCKS_SLEEPS * sizeof *sleeps);
        for (uint32_t i = 0; sleeps && i < MP_LOCKS_SLEEPS; i++)
            mp_sleep_wake_all(&sleeps[i]);
        break;
    case MP_KIND_QUEUE:
        ring = mp_directory_ring(a, e, &cells);
        if (ring) {
            mp_sleep_wake_all(&ring->filled);
            mp_sleep_wake_all(&ring->drained);
            mp_sleep_wake_all(&ring->joined);
        }
        break;
    }
}

/* Is there a message, or the end of the queue? */
static bool has_message(const struct mp_ring *ring, uint32_t cells, uint32_t flags)
{
    const uint32_t both = MP_RING_SINGLE_PRODUCER | MP_RING_SINGLE_CONSUMER;
    uint64_t head = mp_load_acquire(&ring->head);

    if (mp_ring_has_returned(ring) || (mp_load_acquire(&ring->phase) & 3) != MP_PHASE_OPEN)
        return true;
    /* A single consumer leaves its cells FULL, but publishes its head before it sleeps. */
    if ((flags & both) == both)
        return mp_cell_is_full(mp_load_acquire(&ring->cells[head & (cells - 1)]), head / cells);
    for (uint32_t i = 0; i < cells; i++)
        if (mp_cell_state(mp_load_relaxed(&ring->cells[(head + i) & (cells - 1)])) == MP_CELL_FULL)
            return true;
    return false;
}

void mp_directory_wake_ready(struct mp_arena *a, uint32_t index)
{
    struct mp_directory_entry *e = &a->directory[index];
    struct mp_entry_word w = mp_entry_unpack(mp_load_acquire(&e->state));
    struct mp_ring *ring;
    uint32_t cells, token;
    bool message;

    if (w.state != MP_ENTRY_LIVE) {
        mp_directory_wake(a, e); /* who destroys it may be stopped as well */
        return;
    }
    switch (w.kind) {
    case MP_KIND_LOCK:
    case MP_KIND_RLOCK:
    case MP_KIND_VALUE:
    case MP_KIND_ARRAY:
    case MP_KIND_MAP:
        token = mp_load_relaxed(&e->word) & ~MP_TOKEN_WAITERS;
        if (token == 0 || mp_token_dead(a, token) == 1)
            mp_futex_wake(&e->word, INT_MAX);
        break;
    case MP_KIND_QUEUE:
        ring = mp_directory_ring(a, e, &cells);
        message = ring && has_message(ring, cells, mp_load_relaxed(&e->flags));
        if (message)
            mp_sleep_wake_all(&ring->filled);
        /* Those who join look for themselves; not as long as there is a message for somebody. */
        if (ring && (mp_load_relaxed(&ring->joined) & 1) &&
            !(message && (mp_load_relaxed(&ring->phase) & 3) == MP_PHASE_OPEN))
            mp_sleep_wake_all(&ring->joined);
        break;
    default:
        mp_directory_wake(a, e); /* they look for themselves */
    }
}

int mp_directory_destroy(struct mp_arena *a, uint32_t index, uint64_t live, void (*drain)(void *),
                         void *user)
{
    struct mp_directory_entry *e = &a->directory[index];
    uint64_t v = live;
    uint64_t dying;
    bool keep = keeps_memory(a, e, mp_entry_unpack(live).kind);
    struct mp_entry_word w;
    int r = 0;

    if (!mp_arena_enter(a, &r))
        return r;
    dying = with_state(live, MP_ENTRY_DYING, a->self->slot);
    if (!mp_cas_seqcst(&e->state, &v, dying))
        return -ESTALE;
    /* They must differ from what a waiter is about to sleep on. */
    atomic_exchange(&e->word, MP_TOKEN_DESTROYED);
    atomic_exchange(&e->value, MP_VALUE_DESTROYED);
    if (drain)
        drain(user);
    mp_directory_wake(a, e);
    if (!keep)
        strip_block(a, e);
    w = mp_entry_unpack(dying);
    w.generation++;
    w.slot = 0;
    w.state = keep ? MP_ENTRY_DORMANT : MP_ENTRY_FREE;
    mp_store_seqcst(&e->state, mp_entry_pack(w));
    return 0;
}

/* ---- named blocks ---- */

static int initialize_block(struct mp_arena *a, struct mp_directory_entry *e, void *memory,
                            const struct mp_object_spec *spec, bool revived)
{
    (void)a;
    (void)e;
    (void)revived;
    memset(memory, 0, spec->size);
    *spec->ret_memory = memory;
    return 0;
}

int mp_block_create(mp_arena *a, const char *name, size_t size, void **ret_block)
{
    void *memory = NULL;
    struct mp_object_spec spec = {
        .name = name,
        .kind = MP_KIND_BLOCK,
        .size = size,
        .memory = mp_max(size, (size_t)1),
        .initialize = initialize_block,
        .ret_memory = &memory,
    };
    uint32_t index;
    uint64_t live;
    int r;

    if (!a || !ret_block)
        return -EINVAL;
    if (size > mp_arena_max_block(a))
        return -EMSGSIZE;
    r = mp_directory_create(a, &spec, &index, &live);
    if (r < 0)
        return r;
    /* Not from the entry: somebody may have found the name by now, and destroyed it. */
    *ret_block = memory;
    return 0;
}

int mp_block_open(mp_arena *a, const char *name, void **ret_block, size_t *ret_size)
{
    const struct mp_class *k;
    uint32_t index, x;
    uint32_t tries = 0;
    uint64_t live, size;
    int r = 0;

    if (!a || !name || !ret_block)
        return -EINVAL;
    do {
        r = mp_directory_open(a, name, MP_KIND_BLOCK, &index, &live);
        if (r < 0)
            return r;
        x = mp_directory_block(a, &a->directory[index]);
        size = mp_load_relaxed(&a->directory[index].size);
        /* Destroyed meanwhile, and the entry used again: what was read is of both. */
        atomic_thread_fence(memory_order_acquire);
    } while (mp_load_seqcst(&a->directory[index].state) != live && ++tries < TRIES_MOST);
    if (x == UINT32_MAX)
        return -ENOTRECOVERABLE;
    k = &a->geometry.classes[mp_geometry_block_class(&a->geometry, x)];
    *ret_block = mp_arena_block(a, k, x);
    if (ret_size)
        *ret_size = mp_min(size, k->block_size);
    return 0;
}

int mp_block_destroy(mp_arena *a, const char *name)
{
    uint32_t index;
    uint64_t live;
    int r;

    if (!a || !name)
        return -EINVAL;
    r = mp_directory_open(a, name, MP_KIND_BLOCK, &index, &live);
    if (r < 0)
        return r;
    r = mp_directory_destroy(a, index, live, NULL, NULL);
    return r == -ESTALE ? -ENOENT : r;
}
