/* SPDX-License-Identifier: MIT */
/* Bad input: each call says so, and nothing has changed. */

#undef NDEBUG
#include <pthread.h>

#include "pool/tasks.h"

static int not_an_entry(const struct mp_call *call)
{
    return call->size != 0;
}

static int not_a_task(struct mp_task *task)
{
    return task->size != 0;
}

static ssize_t no_input(void *user, void *item, size_t size)
{
    (void)user;
    (void)item;
    (void)size;
    return -ENODATA;
}

static void never_called(mp_result *result, void *user)
{
    (void)user;
    mp_result_free(result);
}

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
    assert_int_equal(
        mp_pool_new(MP_POOL_OPTIONS(.method = MP_START_SPAWN, .initializer = not_an_entry), &pool),
        -ENOENT);
    assert_ptr_equal(pool, &bad);
}

static void test_bad_calls(void **state)
{
    mp_pool *pool = pool_of(1);
    uint64_t in[2] = {0}, out[2] = {0};
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
    assert_int_equal(mp_pool_starmap(pool, square, in, 8, NULL, 8, 2, out, 8), -EINVAL);
    assert_int_equal(mp_pool_apply(pool, square, NULL, 8, out, 8, NULL), -EINVAL);
    assert_int_equal(mp_pool_apply(pool, square, in, 8, NULL, 8, NULL), -EINVAL);
    assert_int_equal(mp_pool_apply_async(pool, square, in, 8, 8, NULL, NULL), -EINVAL);
    assert_int_equal(mp_pool_map_async(pool, square, in, 8, 2, 8, &bad, &result), -EINVAL);
    assert_int_equal(mp_pool_imap(pool, square, NULL, NULL, 8, 8, NULL, &it), -EINVAL);
    assert_int_equal(mp_pool_imap(pool, NULL, no_input, NULL, 8, 8, NULL, &it), -EINVAL);
    assert_int_equal(mp_pool_imap(pool, square, no_input, NULL, 8, 8, NULL, NULL), -EINVAL);
    assert_int_equal(mp_pool_imap(pool, square, no_input, NULL, 8, 8, &bad, &it), -EINVAL);
    assert_int_equal(mp_pool_imap(pool, square, no_input, NULL, 8, 8,
                                  MP_ASYNC_OPTIONS(.callback = never_called), &it),
                     -EINVAL);
    assert_int_equal(mp_pool_imap(pool, square, no_input, NULL, 1 << 30, 8, NULL, &it), -EMSGSIZE);
    if (method == MP_START_SPAWN)
        assert_int_equal(mp_pool_map(pool, not_a_task, in, 8, 2, out, 8), -ENOENT);
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

static void *close_cancelled(void *pool)
{
    pthread_cancel(pthread_self());
    mp_pool_close(pool);
    pthread_testcancel();
    return NULL;
}

/* A cancelled thread ends without the pool's lock. */
static void test_cancelled(void **state)
{
    pthread_t thread;
    mp_pool *pool;
    void *result;

    (void)state;
    assert_int_equal(mp_pool_new(MP_POOL_OPTIONS(.workers = 1), &pool), 0);
    assert_int_equal(pthread_create(&thread, NULL, close_cancelled, pool), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    assert_int_equal(mp_pool_close(pool), 0);
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), 0);
    mp_pool_free(pool);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_bad_options),
        clean_test(test_bad_calls),
        clean_test(test_cancelled),
    };

    mp_main(argc, argv);
    return run_over_methods(tests);
}
