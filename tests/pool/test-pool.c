/* SPDX-License-Identifier: MIT */
/* A pool that nobody dies in: each way to hand tasks in and to get results, over fork and spawn. */

#undef NDEBUG
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/leftovers.h"
#include "pool/gate.h"

#define N 1000u

static enum mp_start_method method;

/* ---- tasks ---- */

MP_TASK(square)
{
    uint64_t x = *(const uint64_t *)task->data;

    *(uint64_t *)task->result = x * x;
    return 0;
}

MP_TASK(weigh)
{
    const char *a = task->data;
    const uint32_t *b = task->second;
    uint64_t sum = 0;

    if (task->second_size != sizeof *b || task->size != 3)
        return -EINVAL;
    for (size_t i = 0; i < task->size; i++)
        sum += (unsigned char)a[i];
    *(uint64_t *)task->result = sum * *b;
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

/* Is all as the header says? */
MP_TASK(inspect)
{
    const char *result = task->result;

    if ((uintptr_t)task->data % 16 || (uintptr_t)task->second % 16 ||
        (uintptr_t)task->result % 16 || task->tries != 1)
        return -EFAULT;
    for (size_t i = 0; i < task->result_size; i++) {
        if (result[i] != 0)
            return -EUCLEAN;
    }
    memset(task->result, 0xff, task->result_size);
    task->result_size = 1;
    return 0;
}

MP_TASK(whoami)
{
    *(pid_t *)task->result = getpid();
    return 0;
}

MP_TASK(wait_at_gate)
{
    atomic_fetch_add(&gate->arrived, 1);
    gate_pass();
    atomic_fetch_add(&gate->ran, 1);
    return 0;
}

MP_TASK(fill)
{
    memset(task->result, *(const unsigned char *)task->data, task->result_size);
    return 0;
}

MP_TASK(lie_about_size)
{
    task->result_size = SIZE_MAX;
    return 0;
}

static void not_a_task_worker(void)
{
}

/* ---- help ---- */

static mp_pool *new_pool(uint32_t workers)
{
    mp_pool *pool = NULL;

    gate_reset();
    assert_int_equal(
        mp_pool_new(MP_POOL_OPTIONS(.workers = workers, .method = method, GATE_OPTIONS), &pool), 0);
    return pool;
}

static void end_pool(mp_pool *pool)
{
    assert_int_equal(mp_pool_close(pool), 0);
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), 0);
    mp_pool_free(pool);
}

static void fill_numbers(uint64_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        numbers[i] = i;
}

/* ---- apply and map ---- */

static void test_apply(void **state)
{
    mp_pool *pool = new_pool(2);
    uint64_t x = 12, y = 0;
    size_t size = 0;
    char text[16] = "";

    (void)state;
    assert_int_equal(mp_pool_apply(pool, square, &x, sizeof x, &y, sizeof y, &size), 0);
    assert_int_equal(y, 144);
    assert_int_equal(size, 8);
    assert_int_equal(mp_pool_apply(pool, echo, "abc", 4, text, sizeof text, &size), 0);
    assert_int_equal(size, 4);
    assert_string_equal(text, "abc");
    assert_int_equal(mp_pool_apply(pool, echo, NULL, 0, NULL, 0, &size), 0);
    assert_int_equal(size, 0);
    x = 7;
    assert_int_equal(mp_pool_apply(pool, even_only, &x, sizeof x, &y, sizeof y, &size), -8);
    assert_int_equal(mp_pool_apply(pool, lie_about_size, NULL, 0, &y, sizeof y, &size), 0);
    assert_int_equal(size, sizeof y);
    end_pool(pool);
}

static void test_map(void **state)
{
    static const uint32_t workers[] = {1, 2, 5};
    static uint64_t in[N], out[N];

    (void)state;
    fill_numbers(in, N);
    for (size_t k = 0; k < MP_ARRAY_SIZE(workers); k++) {
        mp_pool *pool = new_pool(workers[k]);

        for (size_t n = 0; n <= N; n = n < 20 ? n + 1 : n * 3) {
            memset(out, 0xee, sizeof out);
            assert_int_equal(mp_pool_map(pool, square, in, 8, n, out, 8), 0);
            for (size_t i = 0; i < N; i++)
                assert_int_equal(out[i], i < n ? i * i : UINT64_C(0xeeeeeeeeeeeeeeee));
        }
        end_pool(pool);
    }
}

static void test_map_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 3, 4, 8, 16, 17, 100, 5000};
    mp_pool *pool = new_pool(2);

    (void)state;
    for (size_t k = 0; k < MP_ARRAY_SIZE(sizes); k++) {
        size_t size = sizes[k], bytes = size * 50;
        char *in = malloc(bytes + 1), *out = malloc(bytes + 1);

        for (size_t i = 0; i < bytes; i++)
            in[i] = (char)(i * 31 + i / 256);
        memset(out, 0, bytes);
        assert_int_equal(mp_pool_map(pool, echo, in, size, 50, out, size), 0);
        assert_memory_equal(in, out, bytes);
        free(in);
        free(out);
    }
    end_pool(pool);
}

static void test_map_fails(void **state)
{
    mp_pool *pool = new_pool(2);
    struct mp_failure failure;
    mp_result *result;
    uint64_t in[N], out[N];

    (void)state;
    fill_numbers(in, N);
    in[5] = 6; /* so that 7 is the first */
    in[3] = in[1] = 0;
    assert_int_equal(mp_pool_map(pool, even_only, in, 8, N, out, 8), -8);
    for (size_t i = 0; i < N; i++) /* all were run */
        assert_int_equal(out[i], in[i] % 2 == 0);

    for (size_t chunksize = 1; chunksize <= N; chunksize *= 10) {
        assert_int_equal(mp_pool_map_async(pool, even_only, in, 8, N, 8,
                                           MP_ASYNC_OPTIONS(.chunksize = chunksize), &result),
                         0);
        assert_int_equal(mp_result_get(result, MP_FOREVER, NULL, NULL), -8);
        assert_int_equal(mp_result_successful(result), 0);
        assert_int_equal(mp_result_failure(result, &failure), 0);
        assert_int_equal(failure.error, -8);
        assert_int_equal(failure.index, 7);
        assert_int_equal(failure.tries, 1);
        assert_int_equal(failure.pid, 0);
        mp_result_free(result);
    }
    end_pool(pool);
}

static void test_starmap(void **state)
{
    mp_pool *pool = new_pool(2);
    char a[N][3];
    uint32_t b[N];
    uint64_t out[N];
    const void *data;
    mp_result *result;
    size_t size;

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        a[i][0] = (char)(i % 50);
        a[i][1] = 1;
        a[i][2] = 2;
        b[i] = i;
    }
    assert_int_equal(mp_pool_starmap(pool, weigh, a, 3, b, 4, N, out, 8), 0);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(out[i], (i % 50 + 3) * i);
    assert_int_equal(mp_pool_starmap_async(pool, weigh, a, 3, b, 4, N, 8, NULL, &result), 0);
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    assert_int_equal(mp_result_get(result, MP_FOREVER, &data, &size), 0);
    assert_int_equal(size, sizeof out);
    assert_memory_equal(data, out, sizeof out);
    mp_result_free(result);
    end_pool(pool);
}

/* Many more than what is on its way at once, so the items must have been copied. */
static void test_map_async_copies(void **state)
{
    enum { MANY = 20000 };
    static uint64_t in[MANY];
    mp_pool *pool = new_pool(2);
    const uint64_t *out;
    const void *data;
    mp_result *result;

    (void)state;
    fill_numbers(in, MANY);
    assert_int_equal(
        mp_pool_map_async(pool, square, in, 8, MANY, 8, MP_ASYNC_OPTIONS(.chunksize = 3), &result),
        0);
    memset(in, 0, sizeof in);
    assert_int_equal(mp_result_get(result, MP_FOREVER, &data, NULL), 0);
    out = data;
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(out[i], i * i);
    mp_result_free(result);
    end_pool(pool);
}

static void test_task_is_as_promised(void **state)
{
    mp_pool *pool = new_pool(2);
    unsigned char a[100 * 5] = {0}, b[100 * 3] = {0}, out[100 * 7];

    (void)state;
    for (int round = 0; round < 3; round++) { /* memory is used again */
        memset(out, 0xee, sizeof out);
        assert_int_equal(mp_pool_starmap(pool, inspect, a, 5, b, 3, 100, out, 7), 0);
        for (size_t i = 0; i < sizeof out; i++)
            assert_int_equal(out[i], i % 7 ? 0 : 0xff);
    }
    end_pool(pool);
}

/* Results of which a few fill the memory: on their way only as many as fit. */
static void test_large(void **state)
{
    enum { SIZE = 700000, TASKS = 40 };
    unsigned char in[TASKS];
    unsigned char *out = malloc((size_t)SIZE * TASKS);
    const unsigned char *bytes;
    mp_result *results[TASKS];
    mp_pool *pool = NULL;
    const void *data;
    size_t size;

    (void)state;
    assert_int_equal(
        mp_pool_new(MP_POOL_OPTIONS(.workers = 2, .method = method, .memory = 4 << 20), &pool), 0);
    for (size_t i = 0; i < TASKS; i++)
        in[i] = (unsigned char)(i + 1);
    assert_int_equal(mp_pool_map(pool, fill, in, 1, TASKS, out, SIZE), 0);
    for (size_t i = 0; i < TASKS; i++) {
        assert_int_equal(out[i * SIZE], i + 1);
        assert_int_equal(out[i * SIZE + SIZE - 1], i + 1);
    }
    /* Some of these stay in the arena, the rest does not fit there: the pool goes on. */
    for (size_t i = 0; i < TASKS; i++)
        assert_int_equal(mp_pool_apply_async(pool, fill, &in[i], 1, SIZE, NULL, &results[i]), 0);
    for (size_t i = 0; i < TASKS; i++)
        assert_int_equal(mp_result_wait(results[i], MP_FOREVER), 0);
    assert_int_equal(mp_pool_apply(pool, fill, in, 1, out, 2 << 20, NULL), 0);
    assert_int_equal(out[(2 << 20) - 1], 1);
    assert_int_equal(mp_pool_apply(pool, fill, in, 1, out, 5 << 20, NULL), -EMSGSIZE);
    assert_int_equal(mp_pool_map(pool, fill, out, 5 << 20, 2, NULL, 0), -EMSGSIZE);
    mp_pool_free(pool);
    /* And they outlive it. */
    for (size_t i = 0; i < TASKS; i++) {
        assert_int_equal(mp_result_get(results[i], 0, &data, &size), 0);
        assert_int_equal(size, SIZE);
        bytes = data;
        assert_int_equal(bytes[0], i + 1);
        assert_int_equal(bytes[SIZE - 1], i + 1);
        assert_null(mp_result_free(results[i]));
    }
    free(out);
}

/* ---- async results ---- */

static void test_result(void **state)
{
    mp_pool *pool = new_pool(2);
    struct mp_failure failure;
    mp_result *result;
    const void *data = &failure;
    size_t size = 99;

    (void)state;
    assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 0, NULL, &result), 0);
    assert_true(word_reaches(&gate->arrived, 1));
    assert_int_equal(mp_result_ready(result), 0);
    assert_int_equal(mp_result_successful(result), -EAGAIN);
    assert_int_equal(mp_result_wait(result, 0), -EAGAIN);
    assert_int_equal(mp_result_wait(result, MP_MSEC(1)), -ETIMEDOUT);
    assert_int_equal(mp_result_get(result, 0, &data, &size), -EAGAIN);
    assert_int_equal(mp_result_get(result, MP_MSEC(1), &data, &size), -ETIMEDOUT);
    assert_int_equal(mp_result_failure(result, &failure), -EAGAIN);
    assert_ptr_equal(data, &failure);
    assert_int_equal(size, 99);
    gate_let_on();
    assert_int_equal(mp_result_wait(result, MP_FOREVER), 0);
    assert_int_equal(mp_result_wait(result, 0), 0);
    assert_int_equal(mp_result_ready(result), 1);
    assert_int_equal(mp_result_successful(result), 1);
    assert_int_equal(mp_result_failure(result, &failure), -ENOENT);
    assert_int_equal(mp_result_get(result, 0, NULL, &size), 0);
    assert_int_equal(size, 0);
    assert_null(mp_result_free(result));
    end_pool(pool);
}

struct called {
    mp_a32 times;
    mp_a32 wrong;
    mp_result *expected;
    mp_pool *pool;
};

static void on_ready(mp_result *result, void *user)
{
    struct called *c = user;
    const void *data;
    uint64_t x = 1, y;
    size_t size;

    if (mp_result_ready(result) != 1 || mp_result_get(result, 0, &data, &size) != 0)
        atomic_fetch_add(&c->wrong, 1);
    /* What would wait for the thread that it is on says so. */
    if (mp_pool_apply(c->pool, square, &x, 8, &y, 8, NULL) != -EAGAIN ||
        mp_pool_join(c->pool, MP_FOREVER) != -EBUSY)
        atomic_fetch_add(&c->wrong, 1);
    atomic_fetch_add(&c->times, 1);
}

static void test_callback(void **state)
{
    mp_pool *pool = new_pool(2);
    struct called c = {.pool = pool};
    uint64_t in[N];
    mp_result *results[3];

    (void)state;
    fill_numbers(in, N);
    assert_int_equal(mp_pool_map_async(pool, square, in, 8, N, 8,
                                       MP_ASYNC_OPTIONS(.callback = on_ready, .user = &c),
                                       &results[0]),
                     0);
    assert_int_equal(mp_pool_map_async(pool, square, NULL, 8, 0, 8,
                                       MP_ASYNC_OPTIONS(.callback = on_ready, .user = &c),
                                       &results[1]),
                     0);
    assert_int_equal(mp_pool_apply_async(pool, square, in, 8, 8,
                                         MP_ASYNC_OPTIONS(.callback = on_ready, .user = &c),
                                         &results[2]),
                     0);
    mp_result_free(results[2]); /* ready or not: it is called all the same */
    assert_true(word_reaches(&c.times, 3));
    assert_int_equal(mp_result_successful(results[0]), 1);
    assert_int_equal(mp_result_successful(results[1]), 1);
    mp_result_free(results[0]);
    mp_result_free(results[1]);
    end_pool(pool);
    assert_int_equal(c.times, 3);
    assert_int_equal(c.wrong, 0);
}

static void free_pool_and_result(mp_result *result, void *user)
{
    struct called *c = user;

    mp_result_free(result);
    mp_pool_free(c->pool);
    atomic_fetch_add(&c->times, 1);
}

static void test_free_in_callback(void **state)
{
    struct called c = {.pool = new_pool(2)};
    mp_result *result;
    uint64_t x = 3;

    (void)state;
    assert_int_equal(mp_pool_apply_async(
                         c.pool, square, &x, 8, 8,
                         MP_ASYNC_OPTIONS(.callback = free_pool_and_result, .user = &c), &result),
                     0);
    assert_true(word_reaches(&c.times, 1));
}

static void test_drop_result(void **state)
{
    mp_pool *pool = new_pool(2);
    mp_result *result;

    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 0, NULL, &result), 0);
        mp_result_free(result);
    }
    gate_let_on();
    end_pool(pool);
    assert_int_equal(gate->ran, 5); /* the tasks ran on */
}

/* ---- imap ---- */

struct source {
    uint64_t next, n;
    int end; /* what it says at the end */
    int pulled;
};

static ssize_t take_number(void *user, void *item, size_t size)
{
    struct source *s = user;

    assert_int_equal(size, 8);
    if (s->next == s->n)
        return s->end;
    s->pulled++;
    *(uint64_t *)item = s->next++;
    return 8;
}

static ssize_t take_text(void *user, void *item, size_t size)
{
    struct source *s = user;

    if (s->next == s->n)
        return s->end;
    return snprintf(item, size, "%0*d", (int)(s->next++ % 20), 5);
}

static void test_imap(void **state)
{
    static const size_t chunks[] = {0, 1, 2, 7, 5000};
    mp_pool *pool = new_pool(2);

    (void)state;
    for (size_t k = 0; k < MP_ARRAY_SIZE(chunks); k++) {
        struct source source = {.n = N, .end = -ENODATA};
        mp_iterator *it;
        struct mp_item item;

        assert_int_equal(mp_pool_imap(pool, square, take_number, &source, 8, 8,
                                      MP_ASYNC_OPTIONS(.chunksize = chunks[k]), &it),
                         0);
        for (uint64_t i = 0; i < N; i++) {
            assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 1);
            assert_int_equal(item.index, i);
            assert_int_equal(item.error, 0);
            assert_int_equal(item.size, 8);
            assert_int_equal(*(const uint64_t *)item.data, i * i);
        }
        assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 0);
        assert_int_equal(mp_iterator_next(it, 0, &item), 0);
        assert_null(mp_iterator_free(it));
    }
    end_pool(pool);
}

static void test_imap_unordered(void **state)
{
    struct source source = {.n = N, .end = -ENODATA};
    mp_pool *pool = new_pool(3);
    char seen[N] = {0};
    struct mp_item item;
    mp_iterator *it;

    (void)state;
    assert_int_equal(mp_pool_imap_unordered(pool, square, take_number, &source, 8, 8, NULL, &it),
                     0);
    for (uint64_t i = 0; i < N; i++) {
        assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 1);
        assert_true(item.index < N);
        assert_int_equal(seen[item.index]++, 0);
        assert_int_equal(*(const uint64_t *)item.data, item.index * item.index);
    }
    assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 0);
    mp_iterator_free(it);
    end_pool(pool);
}

/* One task waits; unordered results pass it, ordered ones do not, and the input is read no further
 * than four chunks a worker. */
static void test_imap_order(void **state)
{
    struct source source = {.n = N, .end = -ENODATA};
    mp_pool *pool = new_pool(2);
    struct mp_item item;
    mp_result *result;
    mp_iterator *it;

    (void)state;
    assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 0, NULL, &result), 0);
    assert_true(word_reaches(&gate->arrived, 1));
    assert_int_equal(mp_pool_imap_unordered(pool, square, take_number, &source, 8, 8, NULL, &it),
                     0);
    assert_int_equal(source.pulled, 0);
    assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 1);
    assert_in_range(source.pulled, 1, 8);
    mp_iterator_free(it);

    source = (struct source){.n = N, .end = -ENODATA};
    assert_int_equal(mp_pool_imap(pool, wait_at_gate, take_number, &source, 8, 8, NULL, &it), 0);
    assert_int_equal(mp_iterator_next(it, 0, &item), -EAGAIN);
    assert_int_equal(mp_iterator_next(it, MP_MSEC(1), &item), -ETIMEDOUT);
    assert_int_equal(source.pulled, 8);
    gate_let_on();
    for (uint64_t i = 0; i < N; i++) {
        assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 1);
        assert_int_equal(item.index, i);
        assert_in_range(source.pulled, i, i + 9);
    }
    mp_iterator_free(it);
    mp_result_free(result);
    end_pool(pool);
}

static void test_imap_fails(void **state)
{
    struct source source = {.n = 50, .end = -EIO};
    mp_pool *pool = new_pool(2);
    struct mp_item item;
    mp_iterator *it;

    (void)state;
    assert_int_equal(mp_pool_imap(pool, even_only, take_number, &source, 8, 8,
                                  MP_ASYNC_OPTIONS(.chunksize = 4), &it),
                     0);
    for (uint64_t i = 0; i < 50; i++) { /* a failure is an item's; the others go on */
        assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 1);
        assert_int_equal(item.index, i);
        assert_int_equal(item.error, i % 2 ? -(int)i - 1 : 0);
        assert_int_equal(item.failure.error, item.error);
        assert_int_equal(item.failure.index, i % 2 ? i : 0);
        assert_int_equal(item.size, i % 2 ? 0 : 8);
    }
    assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), -EIO);
    assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 0);
    mp_iterator_free(it);

    source = (struct source){.n = 0, .end = -ENODATA};
    assert_int_equal(mp_pool_imap(pool, square, take_number, &source, 8, 8, NULL, &it), 0);
    assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 0);
    mp_iterator_free(it);

    /* An input that claims to have written more than there was room for. */
    source = (struct source){.n = 0, .end = 9};
    assert_int_equal(mp_pool_imap(pool, square, take_number, &source, 8, 8, NULL, &it), 0);
    assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), -EINVAL);
    mp_iterator_free(it);
    end_pool(pool);
}

static void test_imap_sizes(void **state)
{
    struct source source = {.n = 300, .end = -ENODATA};
    mp_pool *pool = new_pool(2);
    struct mp_item item;
    char text[64];
    mp_iterator *it;

    (void)state;
    assert_int_equal(mp_pool_imap(pool, echo, take_text, &source, 64, 64,
                                  MP_ASYNC_OPTIONS(.chunksize = 11), &it),
                     0);
    for (uint64_t i = 0; i < 300; i++) {
        int n = snprintf(text, sizeof text, "%0*d", (int)(i % 20), 5);

        assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 1);
        assert_int_equal(item.size, n);
        assert_memory_equal(item.data, text, (size_t)n);
    }
    mp_iterator_free(it);

    /* Large results, which stay in the arena until the next one is asked for. */
    source = (struct source){.n = 100, .end = -ENODATA};
    assert_int_equal(mp_pool_imap(pool, fill, take_number, &source, 8, 3000000, NULL, &it), 0);
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 1);
        assert_int_equal(item.size, 3000000);
        assert_int_equal(((const unsigned char *)item.data)[2999999], i);
    }
    mp_iterator_free(it);
    end_pool(pool);
}

static void test_imap_left(void **state)
{
    struct source source = {.n = N, .end = -ENODATA};
    mp_pool *pool = new_pool(2);
    struct mp_item item;
    mp_iterator *it;

    (void)state;
    /* Freed before its end, also never begun. */
    assert_int_equal(mp_pool_imap(pool, square, take_number, &source, 8, 8, NULL, &it), 0);
    assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 1);
    mp_iterator_free(it);
    assert_int_equal(mp_pool_imap(pool, square, take_number, &source, 8, 8, NULL, &it), 0);
    mp_iterator_free(it);
    /* A closed pool ends what was begun; only who feeds it must not be waited for. */
    assert_int_equal(mp_pool_imap(pool, square, take_number, &source, 8, 8, NULL, &it), 0);
    assert_int_equal(mp_pool_close(pool), 0);
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), -EBUSY);
    while (mp_iterator_next(it, MP_FOREVER, &item) == 1)
        ;
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), 0);
    mp_pool_free(pool);
    /* It outlives the pool as well. */
    assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 0);
    mp_iterator_free(it);
}

/* ---- several at once ---- */

static void *many_calls(void *arg)
{
    mp_pool *pool = arg;
    uint64_t in[64], out[64];

    fill_numbers(in, 64);
    for (int round = 0; round < 30; round++) {
        if (mp_pool_map(pool, square, in, 8, 64, out, 8) != 0)
            return "map";
        for (uint64_t i = 0; i < 64; i++) {
            if (out[i] != i * i)
                return "wrong result";
        }
        if (mp_pool_apply(pool, square, &in[round], 8, &out[0], 8, NULL) != 0 ||
            out[0] != in[round] * in[round])
            return "apply";
    }
    return NULL;
}

static void test_threads_and_pools(void **state)
{
    mp_pool *pools[2] = {new_pool(2), new_pool(1)};
    pthread_t threads[6];
    void *wrong;

    (void)state;
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many_calls, pools[i % 2]), 0);
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    end_pool(pools[0]);
    end_pool(pools[1]);
}

static void test_looking(void **state)
{
    mp_pool *pool = new_pool(3);
    struct mp_pool_stats stats;
    mp_result *results[5];
    uint64_t in[10] = {0}, out[10];
    pid_t pids[3], pid;

    (void)state;
    assert_int_equal(mp_pool_worker_pids(pool, NULL, 0), 3);
    assert_int_equal(mp_pool_worker_pids(pool, pids, 3), 3);
    for (int i = 0; i < 5; i++)
        assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 0, NULL, &results[i]), 0);
    assert_true(word_reaches(&gate->arrived, 3));
    assert_int_equal(mp_pool_stats(pool, &stats), 0);
    assert_int_equal(stats.workers, 3);
    assert_int_equal(stats.idle, 0);
    assert_int_equal(stats.queued, 5);
    assert_int_equal(stats.done, 0);
    gate_let_on();
    for (int i = 0; i < 5; i++) {
        mp_result_wait(results[i], MP_FOREVER);
        mp_result_free(results[i]);
    }
    assert_int_equal(mp_pool_map(pool, square, in, 8, 10, out, 8), 0);
    assert_int_equal(mp_pool_apply(pool, whoami, NULL, 0, &pid, sizeof pid, NULL), 0);
    assert_true(pid == pids[0] || pid == pids[1] || pid == pids[2]);
    assert_int_equal(mp_pool_stats(pool, &stats), 0);
    assert_int_equal(stats.queued, 0);
    assert_int_equal(stats.done, 5 + 10 + 1);
    assert_int_equal(stats.worker_deaths, 0);
    assert_int_equal(stats.retried, 0);
    end_pool(pool);
}

/* ---- bad input ---- */

static void test_bad_options(void **state)
{
    static const struct mp_pool_options bad[] = {
        {.struct_size = 0},
        {.struct_size = sizeof bad[0], .workers = 513},
        {.struct_size = sizeof bad[0], .method = (enum mp_start_method)77},
        {.struct_size = sizeof bad[0], .tries = 256},
        {.struct_size = sizeof bad[0], .memory = UINT64_MAX},
        {.struct_size = sizeof bad[0], .n_arenas = 1},
        {.struct_size = sizeof bad[0], .n_arenas = SIZE_MAX},
        {.struct_size = sizeof bad[0], .init_size = 1},
        {.struct_size = sizeof bad[0], .init_data = "", .init_size = SIZE_MAX},
    };
    mp_pool *pool = (mp_pool *)&bad;
    char long_name[MP_NAME_MAX + 2];

    (void)state;
    for (size_t i = 0; i < MP_ARRAY_SIZE(bad); i++)
        assert_int_equal(mp_pool_new(&bad[i], &pool), -EINVAL);
    assert_int_equal(mp_pool_new(NULL, NULL), -EINVAL);
    memset(long_name, 'x', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(mp_pool_new(MP_POOL_OPTIONS(.name = long_name), &pool), -ENAMETOOLONG);
    assert_int_equal(mp_pool_new(MP_POOL_OPTIONS(.name = ""), &pool), -ENAMETOOLONG);
    assert_int_equal(mp_pool_new(MP_POOL_OPTIONS(.method = MP_START_SPAWN,
                                                 .initializer = (mp_entry_fn *)not_a_task_worker),
                                 &pool),
                     -ENOENT);
    assert_ptr_equal(pool, &bad);
}

static void test_bad_calls(void **state)
{
    mp_pool *pool = new_pool(1);
    uint64_t in[2] = {0}, out[2] = {0};
    struct source source = {0};
    struct mp_async_options bad = {.struct_size = 3};
    mp_result *result = (mp_result *)&bad;
    mp_iterator *it = (mp_iterator *)&bad;
    struct mp_item item;

    (void)state;
    assert_int_equal(mp_pool_map(NULL, square, in, 8, 2, out, 8), -EINVAL);
    assert_int_equal(mp_pool_map(pool, NULL, in, 8, 2, out, 8), -EINVAL);
    assert_int_equal(mp_pool_map(pool, square, NULL, 8, 2, out, 8), -EINVAL);
    assert_int_equal(mp_pool_map(pool, square, in, 8, 2, NULL, 8), -EINVAL);
    assert_int_equal(mp_pool_map(pool, square, in, SIZE_MAX / 2, 3, out, 8), -EINVAL);
    assert_int_equal(mp_pool_map(pool, square, in, 8, 3, out, SIZE_MAX / 2), -EINVAL);
    assert_int_equal(mp_pool_map(pool, square, in, 8, SIZE_MAX / 8, out, 8), -EINVAL);
    assert_int_equal(mp_pool_map(pool, square, in, SIZE_MAX / 4, 1, out, 8), -EMSGSIZE);
    assert_int_equal(mp_pool_starmap(pool, weigh, in, 8, NULL, 8, 2, out, 8), -EINVAL);
    assert_int_equal(mp_pool_apply(pool, square, NULL, 8, out, 8, NULL), -EINVAL);
    assert_int_equal(mp_pool_apply(pool, square, in, 8, NULL, 8, NULL), -EINVAL);
    assert_int_equal(mp_pool_apply_async(pool, square, in, 8, 8, NULL, NULL), -EINVAL);
    assert_int_equal(mp_pool_map_async(pool, square, in, 8, 2, 8, &bad, &result), -EINVAL);
    assert_int_equal(mp_pool_imap(pool, square, NULL, NULL, 8, 8, NULL, &it), -EINVAL);
    assert_int_equal(mp_pool_imap(pool, NULL, take_number, &source, 8, 8, NULL, &it), -EINVAL);
    assert_int_equal(mp_pool_imap(pool, square, take_number, &source, 8, 8, NULL, NULL), -EINVAL);
    assert_int_equal(mp_pool_imap(pool, square, take_number, &source, 8, 8, &bad, &it), -EINVAL);
    assert_int_equal(mp_pool_imap(pool, square, take_number, &source, 8, 8,
                                  MP_ASYNC_OPTIONS(.callback = on_ready), &it),
                     -EINVAL);
    assert_int_equal(mp_pool_imap(pool, square, take_number, &source, 1 << 30, 8, NULL, &it),
                     -EMSGSIZE);
    if (method == MP_START_SPAWN)
        assert_int_equal(mp_pool_map(pool, (mp_task_fn *)not_a_task_worker, in, 8, 2, out, 8),
                         -ENOENT);
    assert_ptr_equal(result, &bad);
    assert_ptr_equal(it, &bad);

    assert_int_equal(mp_pool_stats(pool, NULL), -EINVAL);
    assert_int_equal(mp_pool_stats(NULL, NULL), -EINVAL);
    assert_int_equal(mp_pool_worker_pids(pool, NULL, 1), -EINVAL);
    assert_int_equal(mp_pool_worker_pids(NULL, NULL, 0), -EINVAL);
    assert_int_equal(mp_pool_close(NULL), -EINVAL);
    assert_int_equal(mp_pool_terminate(NULL), -EINVAL);
    assert_int_equal(mp_pool_join(NULL, 0), -EINVAL);
    assert_null(mp_pool_free(NULL));
    assert_int_equal(mp_result_wait(NULL, 0), -EINVAL);
    assert_int_equal(mp_result_ready(NULL), -EINVAL);
    assert_int_equal(mp_result_successful(NULL), -EINVAL);
    assert_int_equal(mp_result_get(NULL, 0, NULL, NULL), -EINVAL);
    assert_int_equal(mp_result_failure(NULL, NULL), -EINVAL);
    assert_null(mp_result_free(NULL));
    assert_int_equal(mp_iterator_next(NULL, 0, &item), -EINVAL);
    assert_null(mp_iterator_free(NULL));
    end_pool(pool);
}

static int setup(void **state)
{
    (void)state;
    return gate_create();
}

static int teardown(void **state)
{
    (void)state;
    gate_destroy();
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_apply),
        clean_test(test_map),
        clean_test(test_map_sizes),
        clean_test(test_map_fails),
        clean_test(test_starmap),
        clean_test(test_map_async_copies),
        clean_test(test_task_is_as_promised),
        clean_test(test_large),
        clean_test(test_result),
        clean_test(test_callback),
        clean_test(test_free_in_callback),
        clean_test(test_drop_result),
        clean_test(test_imap),
        clean_test(test_imap_unordered),
        clean_test(test_imap_order),
        clean_test(test_imap_fails),
        clean_test(test_imap_sizes),
        clean_test(test_imap_left),
        clean_test(test_threads_and_pools),
        clean_test(test_looking),
        clean_test(test_bad_options),
        clean_test(test_bad_calls),
    };
    int failed;

    mp_main(argc, argv);
    method = MP_START_FORK;
    failed = cmocka_run_group_tests_name("fork", tests, setup, teardown);
    method = MP_START_SPAWN;
    return failed + cmocka_run_group_tests_name("spawn", tests, setup, teardown);
}
