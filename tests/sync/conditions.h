/* SPDX-License-Identifier: MIT */
#pragma once

/* What the tests of the condition have in common: a condition, its locks, and those who wait. */

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20)

struct board {
    int woken, timed_out, told; /* under the lock */
    int state;
    int deep;
};

struct scene {
    mp_arena *arena;
    mp_lock *lock;
    mp_rlock *rlock;
    mp_condition *cond;
    struct board *board;
};

static inline void scene_open(struct scene *s, mp_arena *arena)
{
    s->arena = arena;
    assert(mp_lock_open(arena, "lock", &s->lock) == 0);
    assert(mp_rlock_open(arena, "rlock", &s->rlock) == 0);
    assert(mp_condition_open(arena, "cond", &s->cond) == 0);
    assert(mp_block_open(arena, "board", (void **)&s->board, NULL) == 0);
}

static inline void scene_create(struct scene *s)
{
    assert_int_equal(
        mp_arena_create("condition",
                        MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 16),
                        &s->arena),
        0);
    assert_int_equal(mp_lock_create(s->arena, "lock", &s->lock), 0);
    assert_int_equal(mp_rlock_create(s->arena, "rlock", &s->rlock), 0);
    assert_int_equal(mp_condition_create(s->arena, "cond", &s->cond), 0);
    assert_int_equal(mp_block_create(s->arena, "board", sizeof *s->board, (void **)&s->board), 0);
    memset(s->board, 0, sizeof *s->board);
}

static inline void scene_close(struct scene *s)
{
    mp_condition_close(s->cond);
    mp_lock_close(s->lock);
    mp_rlock_close(s->rlock);
}

static inline void scene_end(struct scene *s)
{
    scene_close(s);
    until(settled(s->arena, 1));
    mp_arena_close(s->arena);
}

static inline int read_board(struct scene *s, const int *what)
{
    int value;

    assert(mp_lock_acquire(s->lock, PATIENCE) >= 0);
    value = *what;
    assert(mp_lock_release(s->lock) == 0);
    return value;
}

static inline void notify(struct scene *s, uint32_t n)
{
    assert_int_equal(mp_lock_acquire(s->lock, PATIENCE), 0);
    assert_int_equal(mp_condition_notify(s->cond, s->lock, n), 0);
    assert_int_equal(mp_lock_release(s->lock), 0);
}

/* argument: the timeout; 0: for ever. */
PART(wait_once)
{
    struct scene s;
    int r;

    scene_open(&s, part->arena);
    r = mp_lock_acquire(s.lock, PATIENCE);
    assert(r >= 0);
    s.board->told += r;
    r = mp_condition_wait(s.cond, s.lock, part->argument ? part->argument : MP_FOREVER);
    assert(r == 0 || r == -ETIMEDOUT || r == MP_OWNER_DIED);
    s.board->woken += r != -ETIMEDOUT;
    s.board->timed_out += r == -ETIMEDOUT;
    s.board->told += r == MP_OWNER_DIED;
    assert(mp_lock_release(s.lock) == 0);
    scene_close(&s);
}

static inline unsigned asleep(const struct scene *s)
{
    return sleepers(s->arena, MP_WAIT_CONDITION);
}
