/* SPDX-License-Identifier: MIT */
/* Queues whose producers and consumers die: what was committed comes, what was held comes again. */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "arena/directory.h"
#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20)
#define SINGLE (MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER)

static const uint32_t kinds[] = {0, MP_QUEUE_SINGLE_PRODUCER, MP_QUEUE_SINGLE_CONSUMER, SINGLE};

struct scene {
    mp_arena *arena;
    mp_queue *queue;
    _Atomic(uint32_t) *ready;
    uint32_t n;
};

static void scene_make(struct scene *s)
{
    void *block;

    memset(s, 0, sizeof *s);
    assert_int_equal(
        mp_arena_create("death",
                        MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 16, .objects = 16),
                        &s->arena),
        0);
    assert_int_equal(mp_block_create(s->arena, "ready", sizeof *s->ready, &block), 0);
    s->ready = block;
}

static void scene_queue(struct scene *s, uint32_t maxsize, uint32_t flags)
{
    assert_int_equal(mp_queue_create(s->arena, "queue",
                                     MP_QUEUE_OPTIONS(.maxsize = maxsize, .flags = flags),
                                     &s->queue),
                     0);
    *s->ready = 0;
}

static void scene_end_queue(struct scene *s)
{
    until(settled(s->arena, 1));
    assert_int_equal(mp_queue_destroy(s->queue), 0);
    mp_queue_close(s->queue);
}

static void wait_for_end(struct scene *s)
{
    ++*s->ready;
    for (;;)
        pause();
}

static uint64_t depth(const mp_queue *queue)
{
    struct mp_queue_stats s;

    assert_int_equal(mp_queue_stats(queue, &s), 0);
    return s.depth;
}

/* The next message is n, delivered so many times. */
static void expect(struct scene *s, uint32_t n, uint32_t deliveries)
{
    struct mp_message m;

    assert_int_equal(mp_queue_receive(s->queue, PATIENCE, &m), 0);
    assert_int_equal(m.size, sizeof n);
    assert_int_equal(*(uint32_t *)m.data, n);
    assert_int_equal(m.deliveries, deliveries);
    assert_int_equal(mp_queue_release(s->queue, &m), 0);
}

static unsigned count_memory(mp_arena *arena)
{
    static void *blocks[20000];
    unsigned n = 0;

    while (mp_block_alloc(arena, 64, 0, &blocks[n]) == 0)
        n++;
    for (unsigned i = 0; i < n; i++)
        assert(mp_block_free(arena, blocks[i]) == 0);
    return n;
}

/* ---- consumers ---- */

static void receive_some(void *user)
{
    struct scene *s = user;
    struct mp_message m;

    for (uint32_t i = 0; i < s->n; i++)
        assert(mp_queue_receive(s->queue, PATIENCE, &m) == 0);
    wait_for_end(s);
}

/* Of ten messages the dead one held five: these come again before the others, marked. */
static void test_consumer_dies(void **state)
{
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        uint32_t seen = 0;
        pid_t pid;

        scene_queue(&s, 10, kinds[k]);
        for (uint32_t i = 0; i < 10; i++)
            assert_int_equal(mp_queue_put(s.queue, &i, sizeof i, 0), 0);
        s.n = 5;
        pid = child_start(receive_some, &s);
        until(*s.ready == 1);
        assert_int_equal(depth(s.queue), 5);
        child_kill(pid);
        until(depth(s.queue) == 10);
        for (uint32_t i = 0; i < 5; i++) {
            struct mp_message m;

            assert_int_equal(mp_queue_receive(s.queue, PATIENCE, &m), 0);
            assert_true(*(uint32_t *)m.data < 5);
            assert_int_equal(m.deliveries, 2);
            seen |= 1u << *(uint32_t *)m.data;
            assert_int_equal(mp_queue_release(s.queue, &m), 0);
        }
        assert_int_equal(seen, 31);
        for (uint32_t i = 5; i < 10; i++)
            expect(&s, i, 1);
        assert_int_equal(depth(s.queue), 0);
        scene_end_queue(&s);
    }
    mp_arena_close(s.arena);
}

/* Or they are dropped, when the queue was made so. */
static void test_drop_held(void **state)
{
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        pid_t pid;

        scene_queue(&s, 10, kinds[k] | MP_QUEUE_DROP_HELD);
        for (uint32_t i = 0; i < 10; i++)
            assert_int_equal(mp_queue_put(s.queue, &i, sizeof i, 0), 0);
        s.n = 5;
        pid = child_start(receive_some, &s);
        until(*s.ready == 1);
        child_kill(pid);
        until(settled(s.arena, 1));
        assert_int_equal(depth(s.queue), 5);
        for (uint32_t i = 5; i < 10; i++)
            expect(&s, i, 1);
        scene_end_queue(&s);
    }
    mp_arena_close(s.arena);
}

/* A message that kills its consumers is known by its count. */
static void test_poison(void **state)
{
    struct scene s;
    uint32_t n = 7;

    need_carrier(state);
    scene_make(&s);
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        scene_queue(&s, 10, kinds[k]);
        assert_int_equal(mp_queue_put(s.queue, &n, sizeof n, 0), 0);
        s.n = 1;
        for (uint32_t i = 0; i < 6; i++) {
            pid_t pid = child_start(receive_some, &s);

            until(*s.ready == i + 1);
            child_kill(pid);
        }
        expect(&s, n, 7);
        scene_end_queue(&s);
    }
    mp_arena_close(s.arena);
}

PART(receive_one_release)
{
    struct mp_message m;
    mp_queue *queue;

    assert(mp_queue_open(part->arena, "queue", &queue) == 0);
    assert(mp_queue_receive(queue, PATIENCE, &m) == 0);
    assert(m.deliveries == 2);
    assert(mp_queue_release(queue, &m) == 0);
    mp_queue_close(queue);
}

/* Those who are asleep on an empty queue get what the dead one held. */
static void test_sleepers_get_it(void **state)
{
    enum { N = 3 };
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    for (int round = 0; round < 5; round++) {
        pid_t pid;

        scene_queue(&s, 10, 0);
        for (uint32_t i = 0; i < N; i++)
            assert_int_equal(mp_queue_put(s.queue, &i, sizeof i, 0), 0);
        s.n = N;
        pid = child_start(receive_some, &s);
        until(*s.ready == 1);
        crew_start(&crew, carrier_of(state), s.arena, receive_one_release, N, 0);
        until(sleepers(s.arena, MP_WAIT_NOT_EMPTY) == N);
        child_kill(pid);
        crew_join(&crew);
        scene_end_queue(&s);
    }
    mp_arena_close(s.arena);
}

/* The consumers that were asleep die; the producer's next message wakes who is left. */
static void test_sleepers_die(void **state)
{
    enum { N = 6 };
    struct crew crew;
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    for (int round = 0; round < 5; round++) {
        scene_queue(&s, 10, 0);
        s.n = 1;
        crew_start(&crew, THREADS, s.arena, receive_one_release, 0, 0);
        for (int i = 0; i < N; i++) {
            crew.pids[i] = child_start(receive_some, &s);
            crew.carrier = FORK;
        }
        until(sleepers(s.arena, MP_WAIT_NOT_EMPTY) == N);
        for (unsigned i = 0; i < N; i++)
            if (i != (unsigned)round)
                kill(crew.pids[i], SIGKILL);
        assert_int_equal(mp_queue_put(s.queue, &s.n, sizeof s.n, 0), 0);
        for (unsigned i = 0; i < N; i++)
            if (i != (unsigned)round)
                crew_kill(&crew, i);
        until(*s.ready == 1);
        crew_kill(&crew, (unsigned)round);
        /* One had it, perhaps two: the count tells. */
        until(depth(s.queue) == 1);
        assert_int_equal(mp_queue_get(s.queue, &s.n, sizeof s.n, PATIENCE, NULL), 0);
        scene_end_queue(&s);
    }
    mp_arena_close(s.arena);
}

/* Messages go back by another handle than the one that they came by, then the process dies. */
static void release_aside(void *user)
{
    struct scene *s = user;
    struct mp_message m;
    mp_queue *other;

    assert(mp_queue_open(s->arena, "queue", &other) == 0);
    for (uint32_t i = 0; i < s->n; i++) {
        assert(mp_queue_receive(s->queue, PATIENCE, &m) == 0);
        assert(mp_queue_release(other, &m) == 0);
    }
    assert(mp_queue_receive(s->queue, PATIENCE, &m) == 0);
    assert(mp_queue_abandon(other, &m) == 0);
    wait_for_end(s);
}

static void put_one(void *user)
{
    struct scene *s = user;

    assert(mp_queue_put(s->queue, "one", 4, 0) == 0);
    wait_for_end(s);
}

/* The word of the message in the queue. */
static uint64_t word_inside(const struct scene *s)
{
    const mp_arena *a = s->arena;

    for (uint32_t i = 0; i < a->geometry.objects; i++) {
        uint64_t v = mp_load_acquire(&a->directory[i].state);
        uint32_t cells;
        struct mp_ring *ring = mp_directory_ring(a, &a->directory[i], &cells);

        if (mp_entry_unpack(v).kind != MP_KIND_QUEUE || !ring)
            continue;
        for (uint32_t c = 0; c < cells; c++)
            if (mp_cell_state(mp_load_acquire(&ring->cells[c])) == MP_CELL_FULL)
                return mp_load_acquire(&a->words[mp_cell_block(ring->cells[c])]);
    }
    return 0;
}

/* Who helps a taker changes the word from what it was, perhaps much later: so it never is that
 * again, though nobody's name stands in it. */
static void test_word_is_new(void **state)
{
    uint64_t words[2];
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    scene_queue(&s, 16, 0);
    for (uint32_t i = 0; i < 2; i++) {
        char text[4];
        pid_t pid = child_start(put_one, &s);

        until(*s.ready == i + 1);
        child_kill(pid);
        until(settled(s.arena, 1));
        words[i] = word_inside(&s);
        assert_int_equal(mp_block_state(words[i]), MP_BLOCK_QUEUED);
        assert_int_equal(mp_queue_get(s.queue, text, sizeof text, PATIENCE, NULL), 0);
    }
    assert_true(words[0] != words[1]);
    scene_end_queue(&s);
    mp_arena_close(s.arena);
}

static void test_released_aside(void **state)
{
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        pid_t pid;

        scene_queue(&s, 64, kinds[k]);
        for (uint32_t i = 0; i < 10; i++)
            assert_int_equal(mp_queue_put(s.queue, &i, sizeof i, 0), 0);
        s.n = 5;
        pid = child_start(release_aside, &s);
        until(*s.ready == 1);
        child_kill(pid);
        until(settled(s.arena, 1));
        expect(&s, 5, 2);
        for (uint32_t i = 6; i < 10; i++)
            expect(&s, i, 1);
        assert_int_equal(depth(s.queue), 0);
        scene_end_queue(&s);
    }
    mp_arena_close(s.arena);
}

/* ---- producers ---- */

static void commit_some(void *user)
{
    struct scene *s = user;
    struct mp_message m;

    for (uint32_t i = 0; i < s->n; i++) {
        assert(mp_queue_loan(s->queue, sizeof i, PATIENCE, &m) == 0);
        *(uint32_t *)m.data = i;
        assert(mp_queue_commit(s->queue, &m, PATIENCE) == 0);
    }
    /* Loans that never are committed. */
    for (int i = 0; i < 5; i++)
        assert(mp_queue_loan(s->queue, 20000, PATIENCE, &m) == 0);
    wait_for_end(s);
}

/* What was committed is delivered, though its sender is gone; what was not is not. */
static void test_producer_dies(void **state)
{
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        unsigned memory = 0;

        for (int round = 0; round < 4; round++) {
            pid_t pid;

            scene_queue(&s, 20, kinds[k]);
            s.n = 13;
            pid = child_start(commit_some, &s);
            until(*s.ready == 1);
            child_kill(pid);
            until(settled(s.arena, 1));
            assert_int_equal(depth(s.queue), 13);
            for (uint32_t i = 0; i < 13; i++)
                expect(&s, i, 1);
            assert_int_equal(depth(s.queue), 0);
            scene_end_queue(&s);
            if (round == 1)
                memory = count_memory(s.arena);
            if (round > 1)
                assert_int_equal(count_memory(s.arena), memory);
        }
    }
    mp_arena_close(s.arena);
}

static void commit_and_exit(void *user)
{
    struct scene *s = user;

    for (uint32_t i = 0; i < s->n; i++)
        assert(mp_queue_put(s->queue, &i, sizeof i, PATIENCE) == 0);
    _exit(0);
}

/* A process may exit right after a put. */
static void test_exit_after_put(void **state)
{
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++)
        for (int round = 0; round < 20; round++) {
            scene_queue(&s, 4, kinds[k]);
            s.n = 4;
            child_join(child_start(commit_and_exit, &s));
            for (uint32_t i = 0; i < 4; i++)
                expect(&s, i, 1);
            scene_end_queue(&s);
        }
    mp_arena_close(s.arena);
}

/* ---- roles ---- */

static void produce_from_n(void *user)
{
    struct scene *s = user;

    for (uint32_t i = s->n; i < s->n + 3; i++)
        assert(mp_queue_put(s->queue, &i, sizeof i, PATIENCE) == 0);
    wait_for_end(s);
}

static void find_role_taken(void *user)
{
    struct scene *s = user;

    assert(mp_queue_put(s->queue, "", 0, PATIENCE) == -EBUSY);
    assert(!(s->n & MP_QUEUE_SINGLE_CONSUMER) ||
           mp_queue_get(s->queue, NULL, 0, PATIENCE, NULL) == -EBUSY);
}

/* One after the other has the role, and dies; the next takes it over where it stopped. */
static void test_producers_in_turn(void **state)
{
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        if (!(kinds[k] & MP_QUEUE_SINGLE_PRODUCER))
            continue;
        scene_queue(&s, 5, kinds[k]);
        s.n = 0;
        for (uint32_t round = 0; round < 20; round++) {
            pid_t pid = child_start(produce_from_n, &s);

            until(*s.ready == round + 1);
            assert_int_equal(mp_queue_put(s.queue, "", 0, PATIENCE), -EBUSY);
            /* One of them is read by a role that lasts, the others in turn. */
            for (uint32_t i = 0; i < 3; i++)
                expect(&s, s.n + i, 1);
            child_kill(pid);
            s.n += 3;
        }
        /* At last by this process. */
        assert_int_equal(mp_queue_put(s.queue, &s.n, sizeof s.n, PATIENCE), 0);
        expect(&s, s.n, 1);
        s.n = kinds[k];
        child_join(child_start(find_role_taken, &s));
        scene_end_queue(&s);
    }
    mp_arena_close(s.arena);
}

static void consume_and_hold_last(void *user)
{
    struct scene *s = user;
    struct mp_message m;

    for (uint32_t i = 0; i < 2; i++) {
        assert(mp_queue_receive(s->queue, PATIENCE, &m) == 0);
        assert(mp_queue_release(s->queue, &m) == 0);
    }
    assert(mp_queue_receive(s->queue, PATIENCE, &m) == 0);
    wait_for_end(s);
}

/* Each consumer releases two and dies with the third, which comes again. */
static void test_consumers_in_turn(void **state)
{
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        uint32_t in = 0;
        char byte;

        if (!(kinds[k] & MP_QUEUE_SINGLE_CONSUMER))
            continue;
        scene_queue(&s, 70, kinds[k]);
        for (; in < 61; in++)
            assert_int_equal(mp_queue_put(s.queue, &in, sizeof in, 0), 0);
        for (uint32_t round = 0; round < 20; round++) {
            pid_t pid = child_start(consume_and_hold_last, &s);

            until(*s.ready == round + 1);
            assert_int_equal(mp_queue_get(s.queue, &byte, 1, 0, NULL), -EBUSY);
            child_kill(pid);
            until(depth(s.queue) == 61 - 2 * (round + 1));
        }
        /* Each had one that was given back, which it released, and one of its own; so there are
         * twenty-one left, the first of them held before. */
        for (uint32_t i = 0; i < 21; i++) {
            struct mp_message m;

            assert_int_equal(mp_queue_receive(s.queue, PATIENCE, &m), 0);
            assert_int_equal(m.deliveries, i == 0 ? 2 : 1);
            assert_int_equal(*(uint32_t *)m.data, 40 + i);
            assert_int_equal(mp_queue_release(s.queue, &m), 0);
        }
        assert_int_equal(mp_queue_get(s.queue, &byte, 1, 0, NULL), -EAGAIN);
        scene_end_queue(&s);
    }
    mp_arena_close(s.arena);
}

/* Both ends die at once, in the middle of it; the next two go on. */
static void produce_for_ever(void *user)
{
    struct scene *s = user;
    uint32_t *next;

    assert(mp_block_open(s->arena, "next", (void **)&next, NULL) == 0);
    for (;;) {
        assert(mp_queue_put(s->queue, next, sizeof *next, PATIENCE) == 0);
        ++*next; /* killed before this: the number comes twice */
    }
}

static void consume_for_ever(void *user)
{
    struct scene *s = user;
    uint32_t *last;

    assert(mp_block_open(s->arena, "last", (void **)&last, NULL) == 0);
    for (;;) {
        struct mp_message m;
        uint32_t n;

        assert(mp_queue_receive(s->queue, PATIENCE, &m) == 0);
        n = *(uint32_t *)m.data;
        /* None is missing; one can come again, from either end. */
        assert(n == *last + 1 || n == *last);
        *last = n;
        ++*s->ready;
        assert(mp_queue_release(s->queue, &m) == 0);
    }
}

static void test_both_ends_die(void **state)
{
    uint32_t *next, *last;
    struct scene s;

    need_carrier(state);
    scene_make(&s);
    assert_int_equal(mp_block_create(s.arena, "next", 4, (void **)&next), 0);
    assert_int_equal(mp_block_create(s.arena, "last", 4, (void **)&last), 0);
    for (size_t k = 0; k < MP_ARRAY_SIZE(kinds); k++) {
        scene_queue(&s, k % 2 ? 5 : 100, kinds[k]);
        *next = 1;
        *last = 0;
        for (uint32_t round = 0; round < 20; round++) {
            uint32_t before = *s.ready;
            pid_t producer = child_start(produce_for_ever, &s);
            pid_t consumer = child_start(consume_for_ever, &s);

            until(*s.ready > before + 100);
            kill(producer, SIGKILL);
            kill(consumer, SIGKILL);
            child_kill(producer);
            child_kill(consumer);
            until(settled(s.arena, 1));
        }
        scene_end_queue(&s);
    }
    mp_arena_close(s.arena);
}

/* ---- destroyed under the dead ---- */

/* What was held of a queue that is gone does not turn up in the next one that has its memory. */
static void test_held_of_destroyed(void **state)
{
    struct scene s;
    uint32_t n = 1;

    need_carrier(state);
    scene_make(&s);
    for (int round = 0; round < 5; round++) {
        unsigned memory = count_memory(s.arena);
        mp_queue *after;
        pid_t pid;

        scene_queue(&s, 10, 0);
        assert_int_equal(mp_queue_put(s.queue, &n, sizeof n, 0), 0);
        s.n = 1;
        pid = child_start(receive_some, &s);
        until(*s.ready == 1);
        assert_int_equal(mp_queue_destroy(s.queue), 0);
        assert_int_equal(mp_queue_create(s.arena, "queue", MP_QUEUE_OPTIONS(.maxsize = 10), &after),
                         0);
        child_kill(pid);
        until(settled(s.arena, 1));
        assert_int_equal(depth(after), 0);
        assert_int_equal(mp_queue_get(after, &n, sizeof n, 0, NULL), -EAGAIN);
        assert_int_equal(mp_queue_destroy(after), 0);
        mp_queue_close(after);
        mp_queue_close(s.queue);
        if (round)
            assert_int_equal(count_memory(s.arena), memory);
    }
    mp_arena_close(s.arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        carried_test(test_consumer_dies, FORK),
        carried_test(test_drop_held, FORK),
        carried_test(test_released_aside, FORK),
        carried_test(test_word_is_new, FORK),
        carried_test(test_poison, FORK),
        on_processes(test_sleepers_get_it),
        carried_test(test_sleepers_die, FORK),
        carried_test(test_producer_dies, FORK),
        carried_test(test_exit_after_put, FORK),
        carried_test(test_producers_in_turn, FORK),
        carried_test(test_consumers_in_turn, FORK),
        carried_test(test_both_ends_die, FORK),
        carried_test(test_held_of_destroyed, FORK),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
