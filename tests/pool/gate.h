/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A gate: shared memory in which tasks tell that they are there and wait to be let on, so that
 * tests wait for conditions and not for time. Workers get it by the initializer get_gate.
 */

#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>

#include <mp/mp.h>

#include "base/clock.h"
#include "kernel/futex.h"

struct gate {
    mp_a32 open;    /* tasks wait until it is not 0 */
    mp_a32 arrived; /* how many tasks ever came to the gate */
    mp_a32 ran;     /* for tasks that count themselves */
    mp_a32 pid;     /* of the last that came */
    mp_a32 began;   /* how many initializers ran */
    mp_a32 ended;
};

static struct gate *gate; /* in the test and in each worker */
static mp_arena *gate_arena;

static inline int gate_find(mp_arena *arena)
{
    void *block;
    int r = mp_block_open(arena, "gate", &block, NULL);

    if (r == 0)
        gate = block;
    return r;
}

MP_ENTRY(get_gate)
{
    int r = call->n_arenas == 1 ? gate_find(call->arenas[0]) : 1;

    if (r == 0)
        atomic_fetch_add(&gate->began, 1);
    return r;
}

static inline int gate_create(void)
{
    void *block;
    int r = mp_arena_create("gate", MP_ARENA_OPTIONS(.size = 1 << 20), &gate_arena);

    if (r == 0)
        r = mp_block_create(gate_arena, "gate", sizeof *gate, &block);
    if (r == 0)
        gate = block;
    return r;
}

static inline void gate_reset(void)
{
    memset(gate, 0, sizeof *gate);
}

static inline void gate_destroy(void)
{
    gate_arena = mp_arena_close(gate_arena);
    gate = NULL;
}

static inline void gate_pass(void)
{
    while (mp_load_acquire(&gate->open) == 0)
        mp_futex_wait(&gate->open, 0, MP_FOREVER);
}

static inline void gate_let_on(void)
{
    mp_store_release(&gate->open, 1);
    mp_futex_wake(&gate->open, INT_MAX);
}

/* True once *word is at least n; false after a long while. */
static inline bool word_reaches(mp_a32 *word, uint32_t n)
{
    uint64_t deadline = mp_deadline(MP_SEC(20));
    uint32_t v;

    while ((v = mp_load_acquire(word)) < n) {
        if (mp_now_ns() > deadline)
            return false;
        mp_futex_wait(word, v, mp_deadline(MP_MSEC(2))); /* who moves it need not wake us */
    }
    return true;
}

#define GATE_OPTIONS .initializer = get_gate, .arenas = &gate_arena, .n_arenas = 1
