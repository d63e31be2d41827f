/* SPDX-License-Identifier: MIT */
/*
 * What CPython's test classes of Queue and SimpleQueue ask, case by case, under their names.
 *
 * Not here: test_task_done, in test-queue-join.c; test_no_import_lock_contention, the
 * test_queue_feeder_... and the pickling ones, for what there is none of here: no import lock, no
 * feeder, no pickles; the closed_queue ones, as a closed handle is none.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/clock.h"
#include "base/leftovers.h"
#include "base/until.h"
#include "queues.h"

#define PATIENCE MP_SEC(20)
#define TIMEOUT MP_MSEC(30)

/* One process waits for the parent, works, and lets the parent go on. */
struct gates {
    mp_event *child_can_start, *parent_can_continue;
};

static struct gates make_gates(mp_arena *arena)
{
    struct gates g;

    assert_int_equal(mp_event_create(arena, "child", &g.child_can_start), 0);
    assert_int_equal(mp_event_create(arena, "parent", &g.parent_can_continue), 0);
    return g;
}

static struct gates open_gates(mp_arena *arena)
{
    struct gates g;

    assert(mp_event_open(arena, "child", &g.child_can_start) == 0);
    assert(mp_event_open(arena, "parent", &g.parent_can_continue) == 0);
    return g;
}

static void close_gates(struct gates *g)
{
    mp_event_close(g->child_can_start);
    mp_event_close(g->parent_can_continue);
}

static void end_gates(struct gates *g)
{
    mp_event_destroy(g->child_can_start);
    mp_event_destroy(g->parent_can_continue);
    close_gates(g);
}

/* The child's turn, until it is done. */
static void let_child_work(struct gates *g)
{
    assert_int_equal(mp_event_set(g->child_can_start), 0);
    assert_int_equal(mp_event_wait(g->parent_can_continue, PATIENCE), 0);
}

/* Did it wait for as long as it was told? Never how much longer: the machine is shared. */
#define expect_wait(call, expected, least_ns)            \
    do {                                                 \
        uint64_t began_ = mp_now_ns();                   \
        assert_int_equal(call, expected);                \
        assert_true(mp_now_ns() - began_ >= (least_ns)); \
    } while (0)

/* ---- Queue ---- */

PART(get_six)
{
    struct gates g = open_gates(part->arena);
    mp_queue *queue;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    assert(mp_event_wait(g.child_can_start, PATIENCE) == 0);
    for (uint32_t i = 1; i <= 6; i++) {
        uint32_t n;

        assert(mp_queue_get(queue, &n, sizeof n, PATIENCE, NULL) == 0 && n == i);
    }
    assert(mp_event_set(g.parent_can_continue) == 0);
    mp_queue_close(queue);
    close_gates(&g);
}

static void put_six(mp_queue *queue)
{
    static const uint32_t numbers[] = {1, 2, 3, 4, 5, 6};
    struct mp_message m;

    assert_int_equal(mp_queue_put(queue, &numbers[0], sizeof numbers[0], MP_FOREVER), 0);
    assert_int_equal(mp_queue_put(queue, &numbers[1], sizeof numbers[1], PATIENCE), 0);
    assert_int_equal(mp_queue_put(queue, &numbers[2], sizeof numbers[2], 0), 0);
    assert_int_equal(mp_queue_put_nowait(queue, &numbers[3], sizeof numbers[3]), 0);
    assert_int_equal(mp_queue_put_batch(queue, &numbers[4], sizeof numbers[4], 1, 0), 1);
    assert_int_equal(mp_queue_loan(queue, sizeof numbers[5], 0, &m), 0);
    memcpy(m.data, &numbers[5], sizeof numbers[5]);
    assert_int_equal(mp_queue_commit(queue, &m, 0), 0);
}

static void test_put(void **state)
{
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 6, flags);
        struct gates g = make_gates(arena);
        uint32_t seven = 7;
        struct crew crew;

        crew_start(&crew, carrier_of(state), arena, get_six, 1, 0);
        assert_int_equal(mp_queue_is_empty(queue), 1);
        assert_int_equal(mp_queue_is_full(queue), 0);
        put_six(queue);
        assert_int_equal(mp_queue_is_empty(queue), 0);
        assert_int_equal(mp_queue_is_full(queue), 1);

        assert_int_equal(mp_queue_put(queue, &seven, sizeof seven, 0), -EAGAIN);
        assert_int_equal(mp_queue_put_nowait(queue, &seven, sizeof seven), -EAGAIN);
        expect_wait(mp_queue_put(queue, &seven, sizeof seven, TIMEOUT), -ETIMEDOUT, TIMEOUT);
        let_child_work(&g);
        assert_int_equal(mp_queue_is_empty(queue), 1);
        assert_int_equal(mp_queue_is_full(queue), 0);
        crew_join(&crew);
        until(settled(arena, 1));
        end_gates(&g);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

PART(put_four)
{
    struct gates g = open_gates(part->arena);
    mp_queue *queue;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    assert(mp_event_wait(g.child_can_start, PATIENCE) == 0);
    for (uint32_t i = 2; i <= 5; i++)
        assert(put_number(queue, i) == 0);
    assert(mp_event_set(g.parent_can_continue) == 0);
    mp_queue_close(queue);
    close_gates(&g);
}

static void test_get(void **state)
{
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 0, flags);
        struct gates g = make_gates(arena);
        struct crew crew;
        uint32_t n;

        crew_start(&crew, carrier_of(state), arena, put_four, 1, 0);
        assert_int_equal(mp_queue_is_empty(queue), 1);
        let_child_work(&g);
        assert_int_equal(mp_queue_is_empty(queue), 0);

        assert_int_equal(mp_queue_get(queue, &n, sizeof n, MP_FOREVER, NULL), 0);
        assert_int_equal(n, 2);
        assert_int_equal(mp_queue_get(queue, &n, sizeof n, PATIENCE, NULL), 0);
        assert_int_equal(n, 3);
        assert_int_equal(get_number(queue), 4);
        assert_int_equal(mp_queue_get_nowait(queue, &n, sizeof n, NULL), 0);
        assert_int_equal(n, 5);
        assert_int_equal(mp_queue_is_empty(queue), 1);

        assert_int_equal(mp_queue_get(queue, &n, sizeof n, 0, NULL), -EAGAIN);
        assert_int_equal(mp_queue_get_nowait(queue, &n, sizeof n, NULL), -EAGAIN);
        expect_wait(mp_queue_get(queue, &n, sizeof n, TIMEOUT, NULL), -ETIMEDOUT, TIMEOUT);
        crew_join(&crew);
        until(settled(arena, 1));
        end_gates(&g);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

PART(put_the_rest)
{
    mp_queue *queue;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    for (uint32_t i = 10; i < 20; i++)
        assert(put_number(queue, i) == 0);
    mp_queue_close(queue);
}

/* What the parent put comes before what its child puts, and all of it. */
static void test_fork(void **state)
{
    mp_arena *arena;
    mp_queue *queue;
    struct crew crew;
    uint32_t n;

    need_carrier(state);
    arena = make_arena();
    queue = make_queue(arena, 0, 0);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(put_number(queue, i), 0);
    crew_start(&crew, carrier_of(state), arena, put_the_rest, 1, 0);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(mp_queue_get(queue, &n, sizeof n, PATIENCE, NULL), 0);
        assert_int_equal(n, i);
    }
    assert_int_equal(mp_queue_get(queue, &n, sizeof n, 0, NULL), -EAGAIN);
    crew_join(&crew);
    until(settled(arena, 1));
    end_queue(queue);
    mp_arena_close(arena);
}

static void test_qsize(void **state)
{
    mp_arena *arena = make_arena();
    struct mp_message m;

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 3, flags);

        assert_int_equal(mp_queue_size(queue), 0);
        assert_int_equal(put_number(queue, 1), 0);
        assert_int_equal(mp_queue_size(queue), 1);
        assert_int_equal(put_number(queue, 5), 0);
        assert_int_equal(mp_queue_size(queue), 2);
        assert_int_equal(get_number(queue), 1);
        assert_int_equal(mp_queue_size(queue), 1);
        assert_int_equal(get_number(queue), 5);
        assert_int_equal(mp_queue_size(queue), 0);

        /* What is to be delivered again can be received, and takes no room. */
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(put_number(queue, i), 0);
        assert_int_equal(mp_queue_receive(queue, 0, &m), 0);
        assert_int_equal(mp_queue_abandon(queue, &m), 0);
        assert_int_equal(mp_queue_size(queue), flags & MP_QUEUE_DROP_HELD ? 2 : 3);
        assert_int_equal(mp_queue_is_full(queue), 0);
        assert_int_equal(put_number(queue, 3), 0);
        assert_int_equal(mp_queue_is_full(queue), 1);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

static void test_timeout(void **state)
{
    mp_arena *arena = make_arena();

    (void)state;
    for_each_kind(flags)
    {
        mp_queue *queue = make_queue(arena, 0, flags);
        uint32_t n;

        expect_wait(mp_queue_get(queue, &n, sizeof n, TIMEOUT, NULL), -ETIMEDOUT, TIMEOUT);
        end_queue(queue);
    }
    mp_arena_close(arena);
}

/* ---- SimpleQueue ---- */

PART(put_two)
{
    struct gates g = open_gates(part->arena);
    mp_queue *queue;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    assert(mp_event_wait(g.child_can_start, PATIENCE) == 0);
    assert(put_number(queue, 1) == 0);
    assert(put_number(queue, 0) == 0);
    assert(mp_event_set(g.parent_can_continue) == 0);
    mp_queue_close(queue);
    close_gates(&g);
}

static void test_empty(void **state)
{
    struct gates g;
    mp_arena *arena;
    mp_queue *queue;
    struct crew crew;

    need_carrier(state);
    arena = make_arena();
    g = make_gates(arena);
    queue = make_queue(arena, 0, 0);
    crew_start(&crew, carrier_of(state), arena, put_two, 1, 0);
    assert_int_equal(mp_queue_is_empty(queue), 1);
    let_child_work(&g);
    assert_int_equal(mp_queue_is_empty(queue), 0);
    assert_int_equal(get_number(queue), 1);
    assert_int_equal(get_number(queue), 0);
    assert_int_equal(mp_queue_is_empty(queue), 1);
    crew_join(&crew);
    until(settled(arena, 1));
    end_gates(&g);
    end_queue(queue);
    mp_arena_close(arena);
}

/* The queue stays when a handle goes; closing none is fine. */
static void test_close(void **state)
{
    mp_arena *arena = make_arena();
    mp_queue *queue, *other;

    (void)state;
    queue = make_queue(arena, 0, 0);
    assert_int_equal(mp_queue_open(arena, "queue", &other), 0);
    assert_int_equal(put_number(other, 1), 0);
    other = mp_queue_close(other);
    assert_null(other);
    assert_null(mp_queue_close(other));
    assert_int_equal(put_number(other, 1), -EINVAL);
    assert_int_equal(get_number(queue), 1);
    end_queue(queue);
    mp_arena_close(arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        on_carriers(test_put),  on_carriers(test_get),    on_carriers(test_fork),
        clean_test(test_qsize), clean_test(test_timeout), on_carriers(test_empty),
        clean_test(test_close),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
