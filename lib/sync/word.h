/* SPDX-License-Identifier: MIT */
#pragma once

/* The short ways through the word of a lock. The protocol stands in word.c. */

#include <errno.h>

#include <mp/lock.h>

#include "base/macro.h"
#include "kernel/futex.h"
#include "sync/object.h"

int mp_word_acquire_slow(struct mp_object *o, uint64_t deadline_ns, uint32_t kind);

/* As it; and what was there before: 0, MP_TOKEN_READ, or MP_TOKEN_DIED (if r is MP_OWNER_DIED). */
int mp_word_acquire_from(struct mp_object *o, uint64_t deadline_ns, uint32_t kind,
                         uint32_t *ret_before);

/* Give up what we own as if we had never had it: `before` as mp_word_acquire_from() gave it. */
void mp_word_give_back(struct mp_object *o, uint32_t before);

/* The same, and -ESTALE. */
int mp_word_acquired_another(struct mp_object *o, uint32_t before);
int mp_word_release_anothers(struct mp_object *o, uint32_t v);

static MP_INLINE int mp_word_acquired(struct mp_object *o, int r, uint32_t before)
{
    return mp_object_is_live(o) ? r : mp_word_acquired_another(o, before);
}

/* Free, and no trouble? Then it is ours: true, and *ret says what came of it. */
static MP_INLINE bool mp_word_acquire_fast(struct mp_object *o, int *ret)
{
    uint32_t token = mp_load_relaxed(o->token), v = 0;

    /* Pairs with the release in mp_word_release. */
    if (mp_unlikely(!token || !mp_object_is_live(o) || !mp_cas_acquire(o->word, &v, token)))
        return false;
    *ret = mp_word_acquired(o, 0, 0);
    return true;
}

/* Does this process own it? */
static MP_INLINE bool mp_word_is_mine(const struct mp_object *o)
{
    uint32_t token = mp_load_relaxed(o->token);

    return token && (mp_load_relaxed(o->word) & ~MP_TOKEN_WAITERS) == token;
}

/* Somebody has written to the word since it was seen as v: to raise the flag, or it is not ours any
 * more. What it was when it was freed; 0: it was not. */
uint32_t mp_word_give_again(mp_a32 *word, uint32_t v);

/* Free a word that was seen as v before this object was seen to live. By a CAS: the entry may be
 * another's since then, and the word have another owner. True: there may be sleepers; one of those
 * that sleep on the word was woken. */
static MP_INLINE bool mp_word_give(mp_a32 *word, uint32_t v)
{
    uint32_t old = v;

    /* Pairs with the acquire of the next owner. */
    if (mp_unlikely(!mp_cas_release(word, &old, 0)))
        v = mp_word_give_again(word, v);
    if (mp_likely(!(v & MP_TOKEN_WAITERS)))
        return false;
    mp_futex_wake(word, 1);
    return true;
}

/* 0; -EPERM (nobody owns it), -ESTALE. */
static MP_INLINE int mp_word_release(struct mp_object *o)
{
    uint32_t v = mp_load_acquire(o->word), token;

    if (mp_unlikely(!mp_object_is_live(o)))
        return -ESTALE;
    token = v & ~MP_TOKEN_WAITERS;
    if (mp_unlikely(token == 0 || token != mp_load_relaxed(o->token)))
        return mp_word_release_anothers(o, v);
    mp_word_give(o->word, v);
    return 0;
}

/* For those who wait for it together with others (arena/waitable.h). */
uint32_t mp_word_arm(const struct mp_object *o);
int mp_word_ready(const struct mp_object *o);

/* Who owns it now, for people. 0; -ESTALE. */
int mp_word_owner(const struct mp_object *o, struct mp_lock_owner *ret);
