/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the inside knows of a waitable: a word to sleep on past a value, or a descriptor, or a time.
 *
 * Who waits for several words arms each, looks whether anything is ready, sleeps on all, and looks
 * again. It takes nothing: a wake that chose it may have been meant for one who would have. So when
 * it has slept it wakes another at each word that has moved since it was armed (mp_waitable_pass);
 * where nothing has moved nobody was woken. Killed before that, it is made good by the sweep, and
 * stopped, by the keepers of those who sleep (arena/sleep.h).
 */

#include <mp/waitable.h>

#include "arena/arena.h"
#include "kernel/futex.h"

enum {
    MP_WAITABLE_NONE = 0, /* of no object */
    MP_WAITABLE_WORD,
    MP_WAITABLE_FD,
    MP_WAITABLE_TIME, /* value: the deadline */
};

struct mp_waitable_type {
    /* Make ready to be woken: a flag in the word. What the word is now; it may have moved with
     * it. */
    uint32_t (*arm)(const struct mp_waitable *w);
    /* The same where the word was armed for another one that sleeps there, too: all but what moves
     * the word. NULL: there is nothing else. */
    void (*arm_also)(const struct mp_waitable *w);
    /* Is it ready? 1; 0; -ESTALE. After arm(), and before a sleep on what that returned. */
    int (*ready)(const struct mp_waitable *w);
    uint64_t look_ns; /* not 0: not every change is told; look again after so long */
    bool crowd;       /* those who sleep there are of several kinds: pass on to all */
};

static inline mp_a32 *mp_waitable_word(const struct mp_waitable *w)
{
    return w->word;
}

static inline void mp_waitable_pass(const struct mp_waitable *w, uint32_t armed)
{
    if (mp_load_seqcst(mp_waitable_word(w)) != armed)
        mp_futex_wake(w->word, w->type->crowd ? INT32_MAX : 1);
}

/* Words that are slept on together, each once: what is armed twice may move. */
struct mp_words {
    struct mp_waitv at[MP_WAITV_MAX];
    unsigned n;
    bool overflow; /* there are more words than one wait takes */
};

static inline void mp_words_add(struct mp_words *s, const mp_a32 *word, uint32_t value)
{
    if (s->n < MP_WAITV_MAX)
        s->at[s->n++] = (struct mp_waitv){word, value};
    else
        s->overflow = true;
}

static inline const struct mp_waitv *mp_words_find(const struct mp_words *s, const mp_a32 *word)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->at[i].word == word)
            return &s->at[i];
    return NULL;
}

static inline void mp_words_arm(struct mp_words *s, const struct mp_waitable *w)
{
    if (mp_words_find(s, w->word)) {
        if (w->type->arm_also)
            w->type->arm_also(w);
        return;
    }
    if (s->n == MP_WAITV_MAX)
        s->overflow = true;
    else
        mp_words_add(s, w->word, w->type->arm(w));
}
