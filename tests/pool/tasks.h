/* SPDX-License-Identifier: MIT */
#pragma once

/* What the tests of pools share: tasks, a few helpers, and running everything over fork and
 * spawn. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/leftovers.h"
#include "pool/gate.h"

static enum mp_start_method method;

MP_TASK(square)
{
    uint64_t x = *(const uint64_t *)task->data;

    *(uint64_t *)task->result = x * x;
    return 0;
}

/* What comes is told back, as long as it is. */
MP_TASK(echo)
{
    if (task->size > task->result_size)
        return -EMSGSIZE;
    if (task->size)
        memcpy(task->result, task->data, task->size);
    task->result_size = task->size;
    return 0;
}

/* Fails for all odd items, with their number. */
MP_TASK(even_only)
{
    uint64_t x = *(const uint64_t *)task->data;

    *(uint64_t *)task->result = 1;
    return x % 2 ? -(int)(x % 100) - 1 : 0;
}

MP_TASK(fill)
{
    memset(task->result, *(const unsigned char *)task->data, task->result_size);
    return 0;
}

/* Says who it is and that it is there, waits, and tells how often it was tried. */
MP_TASK(wait_at_gate)
{
    mp_store_relaxed(&gate->pid, (uint32_t)getpid());
    atomic_fetch_add(&gate->arrived, 1);
    gate_pass();
    atomic_fetch_add(&gate->ran, 1);
    if (task->result_size >= sizeof(uint32_t))
        *(uint32_t *)task->result = task->tries;
    return 0;
}

/* A pool whose workers have the gate; with another initializer, that must find it. */
static inline mp_pool *pool_with(const struct mp_pool_options *options)
{
    struct mp_pool_options o = *options;
    mp_pool *pool = NULL;

    gate_reset();
    o.method = method;
    o.arenas = &gate_arena;
    o.n_arenas = 1;
    if (!o.initializer)
        o.initializer = get_gate;
    assert_int_equal(mp_pool_new(&o, &pool), 0);
    return pool;
}

static inline mp_pool *pool_of(uint32_t workers)
{
    return pool_with(MP_POOL_OPTIONS(.workers = workers));
}

static inline void end_pool(mp_pool *pool)
{
    assert_int_equal(mp_pool_close(pool), 0);
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), 0);
    mp_pool_free(pool);
}

static inline void fill_numbers(uint64_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        numbers[i] = i;
}

MP_ENTRY(warms_up)
{
    return 0;
}

/* A forkserver stays when its first child has ended: it is not what a test leaves behind. */
static inline int tasks_setup(void **state)
{
    mp_process *p;

    (void)state;
    if (method == MP_START_FORKSERVER) {
        if (mp_process_start(warms_up, MP_PROCESS_OPTIONS(.method = method), &p) < 0)
            return -1;
        mp_process_join(p, MP_FOREVER);
        mp_process_free(p);
    }
    return gate_create();
}

static inline int tasks_teardown(void **state)
{
    (void)state;
    gate_destroy();
    return 0;
}

/* In main(), after mp_main(): all tests by each way to start. How many failed. */
#define run_over_methods(tests)                                                                  \
    ({                                                                                           \
        int failed_;                                                                             \
        method = MP_START_FORK;                                                                  \
        failed_ = cmocka_run_group_tests_name("fork", tests, tasks_setup, tasks_teardown);       \
        method = MP_START_SPAWN;                                                                 \
        failed_ += cmocka_run_group_tests_name("spawn", tests, tasks_setup, tasks_teardown);     \
        method = MP_START_FORKSERVER;                                                            \
        failed_ + cmocka_run_group_tests_name("forkserver", tests, tasks_setup, tasks_teardown); \
    })
