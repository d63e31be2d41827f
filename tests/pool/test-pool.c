/* SPDX-License-Identifier: MIT */
/* A pool that nobody dies in: apply, map and starmap, waiting and not, over fork and spawn. */

#undef NDEBUG
#include <pthread.h>
#include <stdlib.h>

#include "pool/tasks.h"

#define N 1000u

/* ---- tasks ---- */

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

MP_TASK(lie_about_size)
{
    task->result_size = SIZE_MAX;
    return 0;
}

/* ---- apply and map ---- */

static void test_apply(void **state)
{
    mp_pool *pool = pool_of(2);
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
        mp_pool *pool = pool_of(workers[k]);

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
    mp_pool *pool = pool_of(2);

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
    mp_pool *pool = pool_of(2);
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
    mp_pool *pool = pool_of(2);
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
    mp_pool *pool = pool_of(2);
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
    mp_pool *pool = pool_of(2);
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
    mp_pool *pool = pool_of(2);
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
    mp_pool *pool = pool_of(2);
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
    struct called c = {.pool = pool_of(2)};
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
    mp_pool *pool = pool_of(2);
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
    mp_pool *pools[2] = {pool_of(2), pool_of(1)};
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

/* As many workers as there are CPUs for this process. */
static void test_default_workers(void **state)
{
    int wanted = mp_cpu_count() < 512 ? mp_cpu_count() : 512;
    mp_pool *pool;

    (void)state;
    assert_int_equal(mp_pool_new(NULL, &pool), 0);
    assert_int_equal(mp_pool_worker_pids(pool, NULL, 0), wanted);
    end_pool(pool);
}

static void test_looking(void **state)
{
    mp_pool *pool = pool_of(3);
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
        clean_test(test_threads_and_pools),
        clean_test(test_default_workers),
        clean_test(test_looking),
    };

    mp_main(argc, argv);
    return run_over_methods(tests);
}
