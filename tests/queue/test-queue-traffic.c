/* SPDX-License-Identifier: MIT */
/*
 * Queues with many at both ends at once: nothing lost, nothing twice, in order from each producer,
 * and never more in it than it may hold.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <mp/mp.h>

#include "base/carrier.h"
#include "base/leftovers.h"
#include "base/tools.h"
#include "base/until.h"

#define PATIENCE MP_SEC(20)
#define ENDS_MOST 4

/* What the ends share, in a block. */
struct tally {
    uint32_t producers, consumers, each;
    uint32_t maxsize;
    uint32_t way;               /* how messages are put and got */
    _Atomic(uint32_t) done;     /* producers that ended */
    _Atomic(uint64_t) put, get; /* counted after a put, and before a get */
    _Atomic(uint32_t) most;     /* seen in the queue */
    _Atomic(uint64_t) sums[ENDS_MOST], counts[ENDS_MOST];
};

struct note {
    uint32_t producer, number;
    uint32_t size;
    uint32_t fill[];
};

enum { BLOCKING, TIMED, TRYING, BATCHES, LOANS, LOAN_BATCHES, WAYS };

static mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create("traffic",
                        MP_ARENA_OPTIONS(.size = 4 << 20, .participants = 32, .objects = 16),
                        &arena),
        0);
    return arena;
}

static void open_all(const struct part *part, mp_queue **queue, struct tally **tally)
{
    void *block;

    assert(mp_queue_open(part->arena, "queue", queue) == 0);
    assert(mp_block_open(part->arena, "tally", &block, NULL) == 0);
    *tally = block;
}

static uint64_t patience(const struct tally *t)
{
    return t->way == TRYING ? 0 : t->way == TIMED ? 50000 : PATIENCE;
}

static bool again(const struct tally *t, int r)
{
    if (t->way == TRYING && (r == -EAGAIN || r == -ENOBUFS)) {
        sched_yield();
        return true;
    }
    return t->way == TIMED && r == -ETIMEDOUT;
}

/* ---- producing ---- */

static void write_note(struct note *note, uint32_t producer, uint32_t number, uint32_t size)
{
    *note = (struct note){.producer = producer, .number = number, .size = size};
    for (uint32_t i = 0; i < (size - sizeof *note) / 4; i++)
        note->fill[i] = producer << 24 ^ number ^ i;
}

static uint32_t size_of(const struct tally *t, uint32_t number)
{
    if (t->way == BATCHES || t->way == LOAN_BATCHES)
        return sizeof(struct note) + 4;
    return (uint32_t)sizeof(struct note) + 4 * (number % 97 == 96 ? 2000 : number % 13);
}

static void put_one(mp_queue *queue, const struct tally *t, uint32_t producer, uint32_t number)
{
    uint32_t size = size_of(t, number);
    _Alignas(8) char buffer[9000];
    struct mp_message m;
    int r;

    if (t->way == LOANS) {
        assert(mp_queue_loan(queue, size + 100, PATIENCE, &m) == 0);
        write_note(m.data, producer, number, size);
        m.size = size;
        assert(mp_queue_commit(queue, &m, PATIENCE) == 0);
        return;
    }
    write_note((struct note *)buffer, producer, number, size);
    do
        r = mp_queue_put(queue, buffer, size, patience(t));
    while (again(t, r));
    assert(r == 0);
}

static uint32_t put_batch(mp_queue *queue, const struct tally *t, uint32_t producer,
                          uint32_t number)
{
    enum { N = 7 };
    struct mp_message m[N];
    uint32_t size = size_of(t, 0), n = mp_min(t->each - number, (uint32_t)N);
    _Alignas(8) char buffer[N * 100];
    int r, done = 0;

    if (t->way == BATCHES) {
        for (uint32_t i = 0; i < n; i++)
            write_note((struct note *)(buffer + i * size), producer, number + i, size);
        r = mp_queue_put_batch(queue, buffer, size, n, PATIENCE);
        assert(r > 0 && r <= (int)n);
        return (uint32_t)r;
    }
    r = mp_queue_loan_batch(queue, size, n, PATIENCE, m);
    assert(r > 0 && r <= (int)n);
    n = (uint32_t)r;
    for (uint32_t i = 0; i < n; i++)
        write_note(m[i].data, producer, number + i, size);
    while (done < (int)n) {
        r = mp_queue_commit_batch(queue, m + done, n - (uint32_t)done, PATIENCE);
        assert(r > 0);
        done += r;
    }
    return n;
}

static void produce(const struct part *part, mp_queue *queue, struct tally *t)
{
    for (uint32_t i = 0; i < t->each;) {
        uint32_t n = 1;

        if (t->way == BATCHES || t->way == LOAN_BATCHES)
            n = put_batch(queue, t, part->index, i);
        else
            put_one(queue, t, part->index, i);
        i += n;
        t->put += n;
        /* No more went in than came out, and what may be in it. */
        assert(t->put <= t->get + t->maxsize);
    }
    /* The last one ends the queue for those who wait. */
    if (++t->done == t->producers)
        assert(mp_queue_shutdown(queue, 0) == 0);
}

/* ---- consuming ---- */

static void read_note(struct tally *t, uint32_t *last, const void *data, size_t size)
{
    const struct note *note = data;
    uint32_t p = note->producer;

    assert(size >= sizeof *note && note->size == size);
    assert(p < t->producers && note->number < t->each);
    for (uint32_t i = 0; i < (size - sizeof *note) / 4; i++)
        assert(note->fill[i] == (p << 24 ^ note->number ^ i));
    /* In order, as far as this consumer sees it. */
    assert(last[p] == UINT32_MAX || note->number > last[p]);
    last[p] = note->number;
    t->counts[p]++;
    t->sums[p] += note->number;
}

static int get_some(mp_queue *queue, struct tally *t, uint32_t *last)
{
    enum { N = 5, STRIDE = 9000 };
    static _Thread_local _Alignas(8) char buffer[N * STRIDE];
    struct mp_message m[N];
    size_t sizes[N];
    int r;

    switch (t->way) {
    case BATCHES:
        t->get += N;
        r = mp_queue_get_batch(queue, buffer, STRIDE, sizes, N, PATIENCE);
        t->get -= (uint64_t)(N - mp_max(r, 0));
        for (int i = 0; i < r; i++)
            read_note(t, last, buffer + i * STRIDE, sizes[i]);
        return r;
    case LOAN_BATCHES:
    case LOANS:
        t->get += N;
        r = mp_queue_receive_batch(queue, t->way == LOANS ? 1 : N, PATIENCE, m);
        t->get -= (uint64_t)(N - mp_max(r, 0));
        for (int i = 0; i < r; i++) {
            assert(m[i].deliveries == 1);
            read_note(t, last, m[i].data, m[i].size);
        }
        if (r > 0)
            assert(mp_queue_release_batch(queue, m, (uint32_t)r) == 0);
        return r;
    default:
        t->get++;
        r = mp_queue_get(queue, buffer, STRIDE, patience(t), &sizes[0]);
        t->get -= r != 0;
        if (r == 0)
            read_note(t, last, buffer, sizes[0]);
        return again(t, r) ? 0 : r;
    }
}

PART(traffic)
{
    uint32_t last[ENDS_MOST];
    struct tally *t;
    mp_queue *queue;
    int r = -EPIPE;

    open_all(part, &queue, &t);
    memset(last, 0xff, sizeof last);
    if (part->index < t->producers)
        produce(part, queue, t);
    else
        do {
            struct mp_queue_stats s;

            r = get_some(queue, t, last);
            if (mp_queue_stats(queue, &s) == 0 && s.depth > t->most)
                t->most = (uint32_t)s.depth;
        } while (r >= 0);
    assert(r == -EPIPE);
    mp_queue_close(queue);
}

static void run(enum carrier carrier, mp_arena *arena, uint32_t flags, const struct tally *how)
{
    struct crew crew;
    struct tally *t;
    mp_queue *queue;

    assert_int_equal(mp_queue_create(arena, "queue",
                                     MP_QUEUE_OPTIONS(.maxsize = how->maxsize, .flags = flags),
                                     &queue),
                     0);
    assert_int_equal(mp_block_create(arena, "tally", sizeof *t, (void **)&t), 0);
    memcpy(t, how, sizeof *t);
    crew_start(&crew, carrier, arena, traffic, t->producers + t->consumers, 0);
    crew_join(&crew);
    for (uint32_t p = 0; p < t->producers; p++) {
        assert_int_equal(t->counts[p], t->each);
        assert_int_equal(t->sums[p], (uint64_t)t->each * (t->each - 1) / 2);
    }
    until(settled(arena, 1));
    assert_int_equal(mp_block_destroy(arena, "tally"), 0);
    assert_int_equal(mp_queue_destroy(queue), 0);
    mp_queue_close(queue);
}

/* ---- the tests ---- */

static void for_all_ways(void **state, uint32_t flags, uint32_t producers, uint32_t consumers)
{
    const uint32_t sizes[] = {1, 3, 1000};
    mp_arena *arena;

    need_carrier(state);
    arena = make_arena();
    for (size_t s = 0; s < MP_ARRAY_SIZE(sizes); s++)
        for (uint32_t way = 0; way < WAYS; way++)
            run(carrier_of(state), arena, flags,
                &(struct tally){.producers = producers,
                                .consumers = consumers,
                                .each = under_valgrind() ? 100
                                        : sizes[s] == 1  ? 500
                                                         : 2000,
                                .maxsize = sizes[s],
                                .way = way});
    mp_arena_close(arena);
}

static void test_one_to_one(void **state)
{
    for_all_ways(state, 0, 1, 1);
}

static void test_many_to_many(void **state)
{
    for_all_ways(state, 0, 3, 3);
}

static void test_one_to_many(void **state)
{
    for_all_ways(state, MP_QUEUE_SINGLE_PRODUCER, 1, 3);
}

static void test_many_to_one(void **state)
{
    for_all_ways(state, MP_QUEUE_SINGLE_CONSUMER, 3, 1);
}

static void test_single_to_single(void **state)
{
    for_all_ways(state, MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER, 1, 1);
}

/* ---- exactly so many ---- */

/* Each puts as many as go in. */
PART(put_until_full)
{
    struct tally *t;
    mp_queue *queue;
    int r;

    open_all(part, &queue, &t);
    ++t->done;
    until(t->done == t->producers);
    while ((r = mp_queue_put(queue, part, 4, 0)) == 0)
        t->put++;
    assert(r == -EAGAIN);
    mp_queue_close(queue);
}

PART(get_until_empty)
{
    struct tally *t;
    mp_queue *queue;
    char buffer[4];
    int r;

    open_all(part, &queue, &t);
    ++t->done;
    until(t->done == t->producers);
    while ((r = mp_queue_get(queue, buffer, 4, 0, NULL)) == 0)
        t->get++;
    assert(r == -EAGAIN);
    mp_queue_close(queue);
}

static void test_exactly_bounded(void **state)
{
    enum { N = 4 };
    const uint32_t sizes[] = {1, 3, 7, 17, 1000};
    mp_arena *arena;
    struct tally *t;

    need_carrier(state);
    arena = make_arena();
    assert_int_equal(mp_block_create(arena, "tally", sizeof *t, (void **)&t), 0);
    for (size_t s = 0; s < MP_ARRAY_SIZE(sizes); s++) {
        uint32_t room = sizes[s];
        mp_queue *queue;

        assert_int_equal(
            mp_queue_create(arena, "queue", MP_QUEUE_OPTIONS(.maxsize = sizes[s]), &queue), 0);
        for (int round = 0; round < 10; round++) {
            struct crew crew;

            *t = (struct tally){.producers = N};
            crew_start(&crew, carrier_of(state), arena, put_until_full, N, 0);
            crew_join(&crew);
            assert_int_equal(t->put, room);
            if (round % 2) {
                room = 1 + sizes[s] / 3;
                for (uint32_t i = 0; i < room; i++)
                    assert_int_equal(mp_queue_get(queue, (char[4]){0}, 4, 0, NULL), 0);
                continue;
            }
            room = sizes[s];
            *t = (struct tally){.producers = N};
            crew_start(&crew, carrier_of(state), arena, get_until_empty, N, 0);
            crew_join(&crew);
            assert_int_equal(t->get, sizes[s]);
        }
        assert_int_equal(mp_queue_destroy(queue), 0);
        mp_queue_close(queue);
    }
    until(settled(arena, 1));
    mp_arena_close(arena);
}

/* ---- there and back ---- */

PART(echo)
{
    mp_queue *there, *back;
    struct mp_message m;
    int r;

    assert(mp_queue_open(part->arena, "there", &there) == 0);
    assert(mp_queue_open(part->arena, "back", &back) == 0);
    while ((r = mp_queue_receive(there, PATIENCE, &m)) == 0) {
        assert(mp_queue_put(back, m.data, m.size, PATIENCE) == 0);
        assert(mp_queue_release(there, &m) == 0);
    }
    assert(r == -EPIPE);
    mp_queue_close(there);
    mp_queue_close(back);
}

static void there_and_back(enum carrier carrier, uint32_t flags)
{
    mp_arena *arena = make_arena();
    mp_queue *there, *back;
    struct crew crew;

    assert_int_equal(
        mp_queue_create(arena, "there", MP_QUEUE_OPTIONS(.maxsize = 8, .flags = flags), &there), 0);
    assert_int_equal(
        mp_queue_create(arena, "back", MP_QUEUE_OPTIONS(.maxsize = 8, .flags = flags), &back), 0);
    crew_start(&crew, carrier, arena, echo, 1, 0);
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t n;

        assert_int_equal(mp_queue_put(there, &i, sizeof i, PATIENCE), 0);
        assert_int_equal(mp_queue_get(back, &n, sizeof n, PATIENCE, NULL), 0);
        assert_int_equal(n, i);
    }
    assert_int_equal(mp_queue_shutdown(there, 0), 0);
    crew_join(&crew);
    mp_queue_close(there);
    mp_queue_close(back);
    until(settled(arena, 1));
    mp_arena_close(arena);
}

static void test_there_and_back(void **state)
{
    need_carrier(state);
    there_and_back(carrier_of(state), 0);
    there_and_back(carrier_of(state), MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        on_carriers(test_one_to_one),       on_carriers(test_many_to_many),
        on_carriers(test_one_to_many),      on_carriers(test_many_to_one),
        on_carriers(test_single_to_single), on_carriers(test_exactly_bounded),
        on_carriers(test_there_and_back),
    };

    if (crew_member(argc, argv))
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
