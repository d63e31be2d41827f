/* SPDX-License-Identifier: MIT */
/*
 * mp_wait(): look at all; arm the words; look again; sleep; look.
 *
 * Nothing is taken and nothing is held, so there is nothing to repair when we are killed, except
 * a wake that was meant for another: see arena/waitable.h.
 */

#include <errno.h>
#include <stdlib.h>

#include <mp/wait.h>

#include "arena/sleep.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/mutation.h"
#include "loop/wait.h"

#define LOOK_FIRST_NS \
    50000u /* where words can only be looked at: how often, at first and at last */
#define LOOK_LAST_NS MP_MSEC(2)

struct waiter {
    struct mp_waitable *at;
    uint32_t n;
    uint32_t n_words; /* words, though one may be there twice */
    uint32_t n_fds;
    uint64_t wake_ns; /* the first of the timers */
    uint64_t look_ns;
    struct pollfd *fds; /* one more than there are, for mp_poll_sleep() */
    struct mp_wait_record **records;
    uint32_t asleep; /* of `at`, so many have been told that we sleep */
    struct mp_words words;
};

static int check(const struct mp_waitable *w)
{
    int r = 0;

    switch (w->kind) {
    case MP_WAITABLE_WORD:
        return mp_arena_enter(w->arena, &r) ? 0 : r;
    case MP_WAITABLE_FD:
        return w->fd < 0 ? -EINVAL : 0;
    case MP_WAITABLE_TIME:
        return 0;
    default:
        return -EINVAL;
    }
}

static int prepare(struct waiter *s)
{
    s->wake_ns = s->look_ns = MP_FOREVER;
    for (uint32_t i = 0; i < s->n; i++) {
        struct mp_waitable *w = &s->at[i];
        int r = check(w);

        if (r < 0)
            return r;
        s->n_words += w->kind == MP_WAITABLE_WORD;
        s->n_fds += w->kind == MP_WAITABLE_FD;
        if (w->kind == MP_WAITABLE_TIME)
            s->wake_ns = mp_min(s->wake_ns, w->value);
        else if (w->kind == MP_WAITABLE_WORD && w->type->look_ns)
            s->look_ns = mp_min(s->look_ns, w->type->look_ns);
    }
    s->fds = calloc(s->n_fds + 1, sizeof *s->fds);
    s->records = calloc(s->n, sizeof *s->records);
    return s->fds && s->records ? 0 : -ENOMEM;
}

static void end(struct waiter *s)
{
    free(s->fds);
    free(s->records);
}

/* How many are ready. */
static int look(struct waiter *s)
{
    uint32_t fd = 0;
    int ready = 0;
    int r;

    for (uint32_t i = 0; i < s->n; i++) {
        struct mp_waitable *w = &s->at[i];

        w->ready = 0;
        if (w->kind == MP_WAITABLE_WORD)
            w->ready = w->type->ready(w);
        else if (w->kind == MP_WAITABLE_TIME)
            w->ready = w->value != MP_FOREVER && mp_now_ns() >= w->value;
        else
            s->fds[fd++] = (struct pollfd){.fd = w->fd, .events = (short)w->events};
        ready += w->ready != 0;
    }
    if (fd == 0)
        return ready;
    r = mp_poll_until(s->fds, fd, 0);
    if (r < 0)
        return r;
    fd = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->at[i].kind == MP_WAITABLE_FD)
            s->at[i].ready = s->fds[fd++].revents;
    return ready + r;
}

static bool any_word_ready(const struct waiter *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->at[i].kind == MP_WAITABLE_WORD && s->at[i].type->ready(&s->at[i]) != 0)
            return true;
    return false;
}

static bool is_first_of_arena(const struct waiter *s, uint32_t i)
{
    for (uint32_t j = 0; j < i; j++)
        if (s->at[j].kind == MP_WAITABLE_WORD && s->at[j].arena == s->at[i].arena)
            return false;
    return true;
}

/* Each arena is told that we sleep, so that it is looked at while we do. */
static void fall_asleep(struct waiter *s)
{
    uint64_t now = mp_now_ns();

    for (s->asleep = 0; s->asleep < s->n; s->asleep++) {
        const struct mp_waitable *w = &s->at[s->asleep];

        if (w->kind == MP_WAITABLE_WORD && is_first_of_arena(s, s->asleep))
            s->records[s->asleep] = mp_sleep_begin(w->arena, MP_WAIT_ANY, w->index, now);
    }
}

static void wake_up(struct waiter *s)
{
    for (uint32_t i = 0; i < s->asleep; i++)
        if (s->at[i].kind == MP_WAITABLE_WORD && is_first_of_arena(s, i))
            mp_sleep_end(s->at[i].arena, s->records[i]);
    s->asleep = 0;
}

/* Where the kernel has nothing for several words: longer and longer sleeps. */
static int look_now_and_then(struct waiter *s, uint64_t deadline_ns)
{
    for (uint64_t ns = LOOK_FIRST_NS;; ns = mp_min(ns * 2, LOOK_LAST_NS)) {
        uint64_t now = mp_now_ns();
        int r;

        if (now >= deadline_ns || any_word_ready(s))
            return 0;
        r = mp_poll_until(s->fds, s->n_fds, mp_min(now + ns, deadline_ns));
        if (r != 0)
            return mp_min(r, 0);
    }
}

static int sleep_on_all(struct waiter *s, uint64_t deadline_ns)
{
    struct mp_words *words = &s->words;
    int r;

    if (words->n == 0)
        return mp_min(mp_poll_until(s->fds, s->n_fds, deadline_ns), 0);
    if (s->n_fds == 0 && words->n == 1 && !words->overflow)
        r = mp_futex_wait(words->at[0].word, words->at[0].value, deadline_ns);
    else if (!mp_futex_can_waitv())
        return look_now_and_then(s, deadline_ns);
    else if (s->n_fds == 0 && !words->overflow)
        r = mp_futex_waitv(words->at, words->n, deadline_ns);
    else {
        r = mp_uring_sleep(words, s->fds, s->n_fds, deadline_ns);
        if (r == -EOPNOTSUPP)
            r = mp_poll_sleep(s->at, s->n, s->fds, s->n_fds, deadline_ns);
    }
    return r == -ETIMEDOUT ? 0 : r;
}

/* We took nothing, and may have been woken in the place of one who would have. */
static void pass_on(const struct waiter *s)
{
    for (uint32_t i = 0; i < s->n && !mp_mutation(WAIT_PASSES_NOTHING_ON); i++) {
        const struct mp_waitv *v =
            s->at[i].kind == MP_WAITABLE_WORD ? mp_words_find(&s->words, s->at[i].word) : NULL;

        if (v)
            mp_waitable_pass(&s->at[i], v->value);
    }
}

static int sleep_once(struct waiter *s, uint64_t deadline_ns)
{
    int r = 0;

    if (s->look_ns != MP_FOREVER)
        deadline_ns = mp_min(deadline_ns, mp_now_ns() + s->look_ns);
    s->words.n = 0;
    s->words.overflow = false;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->at[i].kind == MP_WAITABLE_WORD)
            mp_words_arm(&s->words, &s->at[i]);
    if (any_word_ready(s))
        return 0;
    fall_asleep(s);
    r = sleep_on_all(s, deadline_ns);
    wake_up(s);
    pass_on(s);
    return r;
}

int mp_wait(struct mp_waitable *waitables, uint32_t n, uint64_t timeout_ns)
{
    _cleanup_(end) struct waiter s = {.at = waitables, .n = n};
    uint64_t deadline_ns = mp_deadline(timeout_ns);
    int r;

    if (!waitables || n == 0 || n > MP_WAIT_MAX)
        return -EINVAL;
    r = prepare(&s);
    if (r < 0)
        return r;
    mp_sleep_begins_anew();
    for (;;) {
        r = look(&s);
        if (r != 0 || deadline_ns == 0)
            return r;
        if (deadline_ns != MP_FOREVER && mp_now_ns() >= deadline_ns)
            return 0;
        r = sleep_once(&s, mp_min(deadline_ns, s.wake_ns));
        if (r < 0)
            return r;
    }
}

struct mp_waitable mp_fd_waitable(int fd, int events)
{
    return (struct mp_waitable){.kind = MP_WAITABLE_FD, .fd = fd, .events = events};
}

struct mp_waitable mp_timer_waitable(uint64_t after_ns)
{
    uint64_t at = after_ns ? mp_deadline(after_ns) : mp_now_ns();

    return (struct mp_waitable){.kind = MP_WAITABLE_TIME, .fd = -1, .value = at};
}
