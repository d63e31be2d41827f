/* SPDX-License-Identifier: MIT */
/* Magazines and crates, and the public calls for blocks of one process. The protocol stands in
 * block.h. */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena/block.h"
#include "arena/directory.h"
#include "arena/keeper.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/mutation.h"

_Thread_local struct mp_thread *mp_thread_current;
_Thread_local uint32_t mp_block_turn;

/* ---- what a thread keeps ---- */

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static bool key_made;

static void flush_thread(struct mp_thread *t)
{
    for (uint32_t c = 0; c < t->arena->geometry.n_classes; c++)
        while (t->magazines[c].n)
            mp_block_flush(t->arena, c, &t->magazines[c],
                           mp_min(t->magazines[c].n, t->arena->geometry.classes[c].batch));
}

/* The arena of a stale record may be unmapped: only a record whose life is the arena's present one
 * is touched, and those are of arenas in the process's list. */
static void thread_ends(void *unused)
{
    struct mp_thread *t = mp_thread_current;

    (void)unused;
    mp_thread_current = NULL;
    while (t) {
        struct mp_thread *next = t->next;

        if (mp_arena_hold(t->arena, t->life)) {
            flush_thread(t);
            mp_arena_let_go();
        }
        free(t);
        t = next;
    }
    mp_keeper_thread_ends();
}

static void make_key(void)
{
    key_made = pthread_key_create(&key, thread_ends) == 0;
}

bool mp_thread_hook(void)
{
    pthread_once(&key_once, make_key);
    if (!key_made || pthread_setspecific(key, &key) != 0)
        return false;
    mp_keeper_thread_tells();
    return true;
}

void mp_block_turn_begin(void)
{
    if (mp_block_turn == 0)
        mp_block_turn = (uint32_t)gettid() * UINT32_C(0x9e3779b1);
}

static void unlink_stale(struct mp_arena *a, uint64_t life)
{
    for (struct mp_thread **p = &mp_thread_current; *p;) {
        struct mp_thread *t = *p;

        if (t->arena == a && t->life != life) {
            *p = t->next;
            free(t);
        } else {
            p = &t->next;
        }
    }
}

struct mp_thread *mp_thread_get_slow(struct mp_arena *a, int *ret_error)
{
    _cleanup_free_ struct mp_thread *made = NULL;
    struct mp_thread *t;
    uint64_t life;

    if (!mp_arena_enter(a, ret_error))
        return NULL;
    life = mp_load_acquire(&a->self->life);
    for (struct mp_thread **p = &mp_thread_current; (t = *p); p = &t->next)
        if (t->life == life) {
            *p = t->next; /* to the front */
            t->next = mp_thread_current;
            mp_thread_current = t;
            return t;
        }
    /* What an earlier participation left (before a fork, or a close) is not ours any more. */
    unlink_stale(a, life);
    made = calloc(1, sizeof *made + sizeof made->magazines[0] * a->geometry.n_classes);
    if (!made || !mp_thread_hook()) {
        *ret_error = -ENOMEM;
        return NULL;
    }
    mp_block_turn_begin();
    made->arena = a;
    made->life = life;
    made->next = mp_thread_current;
    return mp_thread_current = mp_take_ptr(made);
}

void mp_thread_flush(struct mp_arena *a)
{
    for (struct mp_thread *t = mp_thread_current; t; t = t->next)
        if (t->arena == a && t->life == mp_load_relaxed(&a->self->life))
            flush_thread(t);
}

/* ---- crates ---- */

void mp_block_flush(struct mp_arena *a, uint32_t class, struct mp_magazine *m, uint32_t n)
{
    const struct mp_class *k = &a->geometry.classes[class];
    struct mp_class_control *control = &a->header->classes[class];
    uint32_t slot = a->self->slot;
    uint32_t i = mp_load_relaxed(&control->hint) % k->crates;

    /* Some crate is empty: each other one has a block. If the words were spoiled so that none is,
     * the blocks are lost to all but nothing else happens. */
    for (uint32_t tries = 0; tries < 2 * k->crates; tries++, i = i + 1 == k->crates ? 0 : i + 1) {
        mp_a64 *word = &a->crate_words[k->first_crate + i];
        struct mp_crate *crate = &a->crates[k->first_crate + i];
        uint64_t w = mp_load_relaxed(word);
        uint32_t seq = mp_crate_seq(w) + 1;
        uint32_t high;

        if (mp_crate_state(w) != MP_CRATE_EMPTY)
            continue;
        /* Before the crate is full, so that every search sees it. */
        high = mp_load_relaxed(&control->high);
        while (high < i + 1 && !mp_cas_seqcst(&control->high, &high, i + 1)) {
        }
        if (!mp_cas_acqrel(word, &w, mp_crate_word(MP_CRATE_FILL, slot, 0, seq)))
            continue;
        for (uint32_t b = 0; b < n; b++) {
            mp_store_relaxed(&crate->blocks[b], m->blocks[b]); /* the coldest */
            if (mp_mutation(FLUSH_MARKS_FREE))
                mp_store_relaxed(&a->words[m->blocks[b]], MP_BLOCK_FREE);
        }
        /* The hand-over of all of them. Pairs with the CAS to DRAIN. */
        mp_store_release(word, mp_crate_word(MP_CRATE_FULL, 0, n, seq));
        mp_store_relaxed(&control->hint, i);
        break;
    }
    m->n -= n;
    memmove(m->blocks, m->blocks + n, m->n * sizeof m->blocks[0]);
    mp_sleep_fence(a, false);
    /* Those who starve may want another class, so all of them look. */
    if (mp_unlikely(mp_load_relaxed(&a->header->freed) & 1))
        mp_sleep_wake_all(&a->header->freed);
}

/* Empty one full crate into the magazine. Hostile counts and numbers are dropped. */
static bool drain_crate(struct mp_arena *a, const struct mp_class *k, uint32_t i,
                        struct mp_magazine *m)
{
    mp_a64 *word = &a->crate_words[k->first_crate + i];
    struct mp_crate *crate = &a->crates[k->first_crate + i];
    uint64_t w = mp_load_relaxed(word);
    uint32_t count = mp_crate_count(w);
    uint32_t seq = mp_crate_seq(w) + 1;
    uint32_t slot = a->self->slot;

    if (mp_crate_state(w) != MP_CRATE_FULL || count > k->batch)
        return false;
    if (!mp_cas_acqrel(word, &w, mp_crate_word(MP_CRATE_DRAIN, slot, count, seq)))
        return false;
    if (mp_mutation(REFILL_CRATE_FIRST))
        mp_store_release(word, mp_crate_word(MP_CRATE_EMPTY, 0, 0, seq));
    for (uint32_t b = 0; b < count; b++) {
        uint32_t x = mp_load_relaxed(&crate->blocks[b]);

        if (x - k->first >= k->blocks)
            continue;
        mp_store_relaxed(&a->words[x], mp_block_owned(a));
        m->blocks[m->n++] = x;
    }
    /* Only now, with our name in all of them. */
    mp_store_release(word, mp_crate_word(MP_CRATE_EMPTY, 0, 0, seq));
    return true;
}

bool mp_block_drain(struct mp_arena *a, uint32_t class, struct mp_magazine *m)
{
    const struct mp_class *k = &a->geometry.classes[class];
    struct mp_class_control *control = &a->header->classes[class];
    uint32_t high = mp_min(mp_load_relaxed(&control->high), k->crates);
    uint32_t i = mp_load_relaxed(&control->hint);

    if (i >= high)
        i = high ? high - 1 : 0;
    for (uint32_t tries = 0; tries < high; tries++, i = i ? i - 1 : high - 1)
        if (drain_crate(a, k, i, m)) {
            mp_store_relaxed(&control->hint, i ? i - 1 : 0);
            if (m->n)
                return true;
        }
    return false;
}

int mp_block_refill(struct mp_arena *a, struct mp_thread *t, uint32_t class)
{
    if (mp_block_drain(a, class, &t->magazines[class]))
        return 0;
    return mp_extent_back(a, t, class);
}

MP_NOINLINE void mp_block_give_slow(struct mp_arena *a, struct mp_thread *t, uint32_t class)
{
    struct mp_magazine *m = &t->magazines[class];
    uint32_t batch = a->geometry.classes[class].batch;

    do
        mp_block_flush(a, class, m, mp_min(m->n, batch));
    while (m->n && (mp_load_relaxed(&a->header->freed) & 1));
}

void mp_block_give_anyhow(struct mp_arena *a, uint32_t x)
{
    uint32_t class = mp_geometry_block_class(&a->geometry, x);
    int r = 0;
    struct mp_thread *t = mp_thread_get(a, &r);

    if (mp_likely(t)) {
        mp_block_give(a, t, class, x);
    } else {
        struct mp_magazine m = {.n = 1, .blocks = {x}};

        mp_block_flush(a, class, &m, 1);
    }
}

/* Those who sleep give what they keep, once they look round (mp_sleep_on). */
static void ask_sleepers(struct mp_arena *a)
{
    for (uint32_t i = 0; i < mp_arena_objects_high(a); i++)
        mp_directory_wake(a, &a->directory[i]);
}

static int take_any(struct mp_arena *a, struct mp_thread *t, uint32_t class, uint32_t *ret_class,
                    uint32_t *ret_block)
{
    int r = mp_block_take(a, t, class, ret_block);

    *ret_class = class;
    if (r == -ENOBUFS && mp_extent_trim(a, t))
        r = mp_block_take(a, t, class, ret_block);
    for (uint32_t c = class + 1; r == -ENOBUFS && c < a->geometry.n_classes; c++)
        if (t->magazines[c].n || mp_block_drain(a, c, &t->magazines[c])) {
            *ret_class = c;
            r = mp_block_take(a, t, c, ret_block);
        }
    return r;
}

MP_NOINLINE int mp_block_wait(struct mp_arena *a, struct mp_thread *t, uint32_t class,
                              uint64_t deadline_ns, int (*stop)(const void *), const void *user,
                              uint32_t *ret_class, uint32_t *ret_block)
{
    bool last = false;

    for (;;) {
        uint32_t value;
        int r = take_any(a, t, class, ret_class, ret_block);

        if (r != -ENOBUFS || deadline_ns == 0)
            return r;
        if (last)
            return -ETIMEDOUT;
        r = stop ? stop(user) : 0;
        if (r < 0)
            return r;
        value = mp_sleep_arm(a, &a->header->freed);
        r = take_any(a, t, class, ret_class, ret_block);
        if (r != -ENOBUFS)
            return r;
        ask_sleepers(a);
        last =
            mp_sleep_on(a, &a->header->freed, value, deadline_ns, MP_WAIT_BLOCK, 0) == -ETIMEDOUT;
    }
}

/* ---- public ---- */

int mp_block_alloc(mp_arena *a, size_t size, uint64_t timeout_ns, void **ret_block)
{
    struct mp_thread *t;
    uint32_t class, x;
    int r = 0;

    if (!a || !ret_block)
        return -EINVAL;
    class = mp_geometry_class(&a->geometry, size);
    if (class == a->geometry.n_classes)
        return -EMSGSIZE;
    t = mp_thread_get(a, &r);
    if (!t)
        return r;
    r = mp_block_wait(a, t, class, mp_deadline(timeout_ns), NULL, NULL, &class, &x);
    if (r < 0)
        return r;
    mp_store_relaxed(&a->words[x], mp_block_word(MP_BLOCK_ALLOCATED, a->self->slot, 0, 0));
    *ret_block = mp_arena_block(a, &a->geometry.classes[class], x);
    return 0;
}

int mp_block_find(const struct mp_arena *a, const void *p, uint32_t *ret_class, uint32_t *ret_block)
{
    uint64_t offset = (uint64_t)((const char *)p - a->base);

    for (uint32_t c = 0; c < a->geometry.n_classes; c++) {
        const struct mp_class *k = &a->geometry.classes[c];
        uint64_t in = offset - k->offset;

        if (offset < k->offset || in >= k->block_size * k->blocks)
            continue;
        if (in & (k->block_size - 1))
            return -EINVAL;
        *ret_class = c;
        *ret_block = k->first + (uint32_t)(in / k->block_size);
        return mp_block_is_backed(a, k, *ret_block) ? 0 : -EINVAL;
    }
    return -EINVAL;
}

int mp_block_free(mp_arena *a, void *block)
{
    struct mp_thread *t;
    uint32_t class, x;
    uint64_t w;
    int r = 0;

    if (!a || !block)
        return -EINVAL;
    r = mp_block_find(a, block, &class, &x);
    if (r < 0)
        return r;
    t = mp_thread_get(a, &r);
    if (!t)
        return r;
    w = mp_load_acquire(&a->words[x]);
    if (mp_block_state(w) != MP_BLOCK_ALLOCATED || mp_block_slot(w) != a->self->slot)
        return -EPERM;
    /* A CAS, so that of two threads that free the same block one is told. */
    if (!mp_cas_acqrel(&a->words[x], &w, mp_block_owned(a)))
        return -EPERM;
    mp_block_give(a, t, class, x);
    return 0;
}
