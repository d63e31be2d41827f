/* SPDX-License-Identifier: MIT */
/*
 * A pool whose workers die: each call comes back, with results or with what killed them.
 *
 * And the other ends of workers: initializers that fail, maxtasksperchild, terminate, a parent that
 * dies, a fork of the parent.
 */

#undef NDEBUG
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "kernel/pidfd.h"
#include "pool/tasks.h"

#define N 200u

/* ---- tasks ---- */

static void die(void)
{
    kill(getpid(), SIGKILL);
}

/* Kills its worker when it is run for the first time, with multiples of 7. */
MP_TASK(die_once)
{
    uint64_t x = *(const uint64_t *)task->data;

    if (x % 7 == 0 && task->tries == 1) {
        *(uint64_t *)task->result = 99; /* must not be seen */
        die();
    }
    *(uint64_t *)task->result += x + task->tries;
    return 0;
}

/* Kills its worker whenever it is run, with 50 and with 120; counts how often it is run. */
MP_TASK(die_always)
{
    uint64_t x = *(const uint64_t *)task->data;

    atomic_fetch_add(&gate->ran, 1);
    if (x == 50 || x == 120) {
        mp_store_relaxed(&gate->pid, (uint32_t)getpid());
        die();
    }
    *(uint64_t *)task->result = x;
    return 0;
}

MP_TASK(leave)
{
    _exit(*(const int *)task->data);
}

MP_TASK(crash)
{
    raise(SIGSEGV);
    return 0;
}

MP_TASK(whoami)
{
    *(pid_t *)task->result = getpid();
    return 0;
}

MP_TASK(signals)
{
    struct sigaction interrupt, terminate;

    sigaction(SIGINT, NULL, &interrupt);
    sigaction(SIGTERM, NULL, &terminate);
    return interrupt.sa_handler == SIG_IGN && terminate.sa_handler == SIG_DFL ? 0 : -EINVAL;
}

/* ---- initializers ---- */

MP_ENTRY(fail_to_start)
{
    return 42;
}

MP_ENTRY(die_at_start)
{
    die();
    return 0;
}

/* The first two fail. */
MP_ENTRY(fail_twice)
{
    if (gate_find(call->arenas[0]) < 0)
        return 1;
    return atomic_fetch_add(&gate->began, 1) < 2;
}

MP_ENTRY(check_data)
{
    if (gate_find(call->arenas[0]) < 0)
        return 1;
    return call->size != 6 || memcmp(call->data, "hello", 6) || call->n_arenas != 1 ||
           (uintptr_t)call->data % 16;
}

/* ---- help ---- */

static struct mp_pool_stats stats_of(mp_pool *pool)
{
    struct mp_pool_stats stats;

    assert_int_equal(mp_pool_stats(pool, &stats), 0);
    return stats;
}

/* ---- retries ---- */

static void test_retried(void **state)
{
    static const size_t chunks[] = {1, 3, 50, N};
    uint64_t in[N];
    const uint64_t *out;
    const void *data;
    mp_result *result;

    (void)state;
    fill_numbers(in, N);
    for (size_t k = 0; k < MP_ARRAY_SIZE(chunks); k++) {
        mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 2));

        assert_int_equal(mp_pool_map_async(pool, die_once, in, 8, N, 8,
                                           MP_ASYNC_OPTIONS(.chunksize = chunks[k]), &result),
                         0);
        assert_int_equal(mp_result_get(result, MP_FOREVER, &data, NULL), 0);
        out = data;
        for (uint64_t i = 0; i < N; i++) /* those beside the dead ran once */
            assert_int_equal(out[i], i % 7 ? i + 1 : i + 2);
        mp_result_free(result);
        assert_int_equal(stats_of(pool).retried, (N + 6) / 7);
        end_pool(pool);
    }
}

/* Two items of 200 can not be done. Each is tried as often as it may be, and nothing else fails or
 * runs twice. */
static void check_poison(uint32_t tries, size_t chunksize)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 2, .tries = tries));
    struct mp_failure failure;
    uint64_t in[N];
    mp_result *result;

    fill_numbers(in, N);
    assert_int_equal(mp_pool_map_async(pool, die_always, in, 8, N, 8,
                                       MP_ASYNC_OPTIONS(.chunksize = chunksize), &result),
                     0);
    assert_int_equal(mp_result_get(result, MP_FOREVER, NULL, NULL), -EOWNERDEAD);
    assert_int_equal(mp_result_failure(result, &failure), 0);
    assert_int_equal(failure.error, -EOWNERDEAD);
    assert_int_equal(failure.index, 50);
    assert_int_equal(failure.tries, tries ? tries : 3);
    assert_true(failure.pid > 0);
    assert_int_equal(failure.exit.known, 1);
    assert_int_equal(failure.exit.signal, SIGKILL);
    assert_int_equal(failure.exit.code, -SIGKILL);
    assert_int_equal(gate->ran, N - 2 + 2 * failure.tries);
    mp_result_free(result);
    end_pool(pool);
}

static void test_poison(void **state)
{
    (void)state;
    check_poison(0, 1);
    check_poison(0, 40);
    check_poison(1, 40);
    check_poison(1, N);
    check_poison(5, N);
}

static ssize_t take_number(void *user, void *item, size_t size)
{
    uint64_t *next = user;

    assert_int_equal(size, 8);
    if (*next == N)
        return -ENODATA;
    *(uint64_t *)item = (*next)++;
    return 8;
}

static void test_poison_imap(void **state)
{
    (void)state;
    for (size_t chunksize = 1; chunksize <= 100; chunksize *= 10) {
        mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 2));
        uint64_t next = 0;
        struct mp_item item;
        mp_iterator *it;

        assert_int_equal(mp_pool_imap(pool, die_always, take_number, &next, 8, 8,
                                      MP_ASYNC_OPTIONS(.chunksize = chunksize), &it),
                         0);
        for (uint64_t i = 0; i < N; i++) {
            assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 1);
            assert_int_equal(item.index, i);
            if (i != 50 && i != 120) {
                assert_int_equal(item.error, 0);
                assert_int_equal(*(const uint64_t *)item.data, i);
                continue;
            }
            assert_int_equal(item.error, -EOWNERDEAD);
            assert_int_equal(item.failure.index, i);
            assert_int_equal(item.failure.tries, 3);
            assert_int_equal(item.failure.exit.signal, SIGKILL);
            assert_true(item.failure.pid > 0);
        }
        assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), 0);
        mp_iterator_free(it);
        end_pool(pool);
    }
}

/* The exit information is that of the last worker that had it. */
static void test_what_killed_it(void **state)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 1, .tries = 2));
    struct mp_failure failure;
    mp_result *result;
    uint64_t x = 50;
    int code = 7;

    (void)state;
    assert_int_equal(mp_pool_apply(pool, leave, &code, sizeof code, NULL, 0, NULL), -EOWNERDEAD);
    assert_int_equal(mp_pool_apply_async(pool, leave, &code, sizeof code, 0, NULL, &result), 0);
    assert_int_equal(mp_result_get(result, MP_FOREVER, NULL, NULL), -EOWNERDEAD);
    assert_int_equal(mp_result_failure(result, &failure), 0);
    assert_int_equal(failure.exit.code, 7);
    assert_int_equal(failure.exit.signal, 0);
    assert_int_equal(failure.tries, 2);
    mp_result_free(result);

    assert_int_equal(mp_pool_apply_async(pool, crash, NULL, 0, 0, NULL, &result), 0);
    assert_int_equal(mp_result_get(result, MP_FOREVER, NULL, NULL), -EOWNERDEAD);
    assert_int_equal(mp_result_failure(result, &failure), 0);
    /* A sanitizer turns the signal into an exit. */
    assert_true(failure.exit.signal == SIGSEGV || failure.exit.code > 0);
    mp_result_free(result);

    assert_int_equal(mp_pool_apply_async(pool, die_always, &x, 8, 8, NULL, &result), 0);
    assert_int_equal(mp_result_get(result, MP_FOREVER, NULL, NULL), -EOWNERDEAD);
    assert_int_equal(mp_result_failure(result, &failure), 0);
    assert_int_equal(failure.pid, gate->pid);
    mp_result_free(result);
    assert_int_equal(stats_of(pool).worker_deaths, 8);
    end_pool(pool);
}

/* From outside: while a task runs, and while the worker has nothing to do. */
static void test_killed_from_outside(void **state)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 2));
    uint64_t in[N], out[N];
    mp_result *result;
    const void *data;
    pid_t pids[2];

    (void)state;
    assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 4, NULL, &result), 0);
    assert_true(word_reaches(&gate->arrived, 1));
    kill((pid_t)gate->pid, SIGKILL);
    assert_true(word_reaches(&gate->arrived, 2));
    kill((pid_t)gate->pid, SIGTERM);
    assert_true(word_reaches(&gate->arrived, 3));
    gate_let_on();
    assert_int_equal(mp_result_get(result, MP_FOREVER, &data, NULL), 0);
    assert_int_equal(*(const uint32_t *)data, 3);
    mp_result_free(result);
    assert_int_equal(gate->ran, 1);

    fill_numbers(in, N);
    for (int round = 0; round < 10; round++) {
        int n = mp_pool_worker_pids(pool, pids, 2);

        for (int i = 0; i < n && i < 2; i++)
            kill(pids[i], SIGKILL);
        assert_int_equal(mp_pool_map(pool, square, in, 8, N, out, 8), 0);
        for (uint64_t i = 0; i < N; i++)
            assert_int_equal(out[i], i * i);
    }
    end_pool(pool);
}

/* Killed while the pool is closed and has work left. */
static void test_killed_after_close(void **state)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 1));
    mp_result *results[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 4, NULL, &results[i]), 0);
    assert_true(word_reaches(&gate->arrived, 1));
    assert_int_equal(mp_pool_close(pool), 0);
    assert_int_equal(mp_pool_join(pool, 0), -EAGAIN);
    assert_int_equal(mp_pool_join(pool, MP_MSEC(1)), -ETIMEDOUT);
    kill((pid_t)gate->pid, SIGKILL);
    gate_let_on();
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), 0);
    assert_int_equal(mp_pool_join(pool, 0), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mp_result_successful(results[i]), 1);
        mp_result_free(results[i]);
    }
    mp_pool_free(pool);
}

/* ---- initializers ---- */

static void test_initializer(void **state)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 2, .initializer = check_data,
                                              .init_data = "hello", .init_size = 6));
    uint64_t x = 5, y;

    (void)state;
    assert_int_equal(mp_pool_apply(pool, square, &x, 8, &y, 8, NULL), 0);
    assert_int_equal(y, 25);
    assert_int_equal(mp_pool_apply(pool, signals, NULL, 0, NULL, 0, NULL), 0);
    end_pool(pool);

    /* Not every failure is for good. */
    pool = pool_with(MP_POOL_OPTIONS(.workers = 1, .initializer = fail_twice));
    assert_int_equal(mp_pool_apply(pool, square, &x, 8, &y, 8, NULL), 0);
    assert_int_equal(stats_of(pool).worker_deaths, 2);
    end_pool(pool);
}

static void check_broken(mp_entry_fn *initializer, int code)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 2, .initializer = initializer));
    uint64_t in[N], out[N], next = 0;
    struct mp_failure failure;
    mp_result *result, *late;
    mp_iterator *it = NULL;
    struct mp_item item;
    int r;

    fill_numbers(in, N);
    r = mp_pool_map_async(pool, square, in, 8, N, 8, NULL, &result);
    assert_true(r == 0 || r == -ENOTRECOVERABLE); /* it may know already */
    if (r == 0) {
        assert_int_equal(mp_result_get(result, MP_FOREVER, NULL, NULL), -ENOTRECOVERABLE);
        assert_int_equal(mp_result_failure(result, &failure), 0);
        assert_int_equal(failure.error, -ENOTRECOVERABLE);
        assert_int_equal(failure.exit.code, code);
        assert_true(failure.pid > 0);
        mp_result_free(result);
    }
    assert_int_equal(mp_pool_map(pool, square, in, 8, N, out, 8), -ENOTRECOVERABLE);
    assert_int_equal(mp_pool_apply_async(pool, square, in, 8, 8, NULL, &late), -ENOTRECOVERABLE);
    assert_int_equal(mp_pool_imap(pool, square, take_number, &next, 8, 8, NULL, &it),
                     -ENOTRECOVERABLE);
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), 0);
    assert_true(stats_of(pool).worker_deaths <= 20);
    assert_int_equal(stats_of(pool).workers, 0);
    mp_pool_free(pool);
    (void)item;
}

static void test_initializer_fails(void **state)
{
    (void)state;
    check_broken(fail_to_start, 42);
    check_broken(die_at_start, -SIGKILL);
}

/* ---- maxtasksperchild ---- */

static void test_max_tasks(void **state)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 1, .max_tasks_per_child = 3));
    pid_t pids[12];

    (void)state;
    for (int i = 0; i < 12; i++)
        assert_int_equal(mp_pool_apply(pool, whoami, NULL, 0, &pids[i], sizeof(pid_t), NULL), 0);
    for (int i = 1; i < 12; i++)
        assert_int_equal(pids[i] != pids[i - 1], i % 3 == 0);
    assert_int_equal(stats_of(pool).worker_deaths, 0);
    assert_int_equal(stats_of(pool).retried, 0);
    end_pool(pool);
}

/* ---- ending ---- */

static void test_close(void **state)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 2));
    uint64_t in[N], out[N], next = 0;
    mp_result *result;
    mp_iterator *it;

    (void)state;
    fill_numbers(in, N);
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), -EBUSY);
    assert_int_equal(mp_pool_map_async(pool, square, in, 8, N, 8, NULL, &result), 0);
    assert_int_equal(mp_pool_close(pool), 0);
    assert_int_equal(mp_pool_close(pool), 0);
    assert_int_equal(mp_pool_map(pool, square, in, 8, N, out, 8), -EPIPE);
    assert_int_equal(mp_pool_imap(pool, square, take_number, &next, 8, 8, NULL, &it), -EPIPE);
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), 0);
    assert_int_equal(mp_pool_worker_pids(pool, NULL, 0), 0);
    assert_int_equal(mp_result_successful(result), 1);
    assert_int_equal(mp_pool_terminate(pool), 0);
    assert_int_equal(mp_result_successful(result), 1);
    mp_pool_free(pool);
    assert_int_equal(mp_result_wait(result, 0), 0);
    mp_result_free(result);
}

static mp_a32 called;

static void on_ready(mp_result *result, void *user)
{
    (void)user;
    if (mp_result_get(result, 0, NULL, NULL) == -ECANCELED)
        atomic_fetch_add(&called, 1);
}

static void *wait_in_map(void *pool)
{
    uint32_t out[2];

    return (void *)(intptr_t)mp_pool_map(pool, wait_at_gate, NULL, 0, 2, out, 4);
}

static void test_terminate(void **state)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 2));
    struct mp_failure failure;
    uint64_t in[N], next = 0;
    struct mp_item item;
    mp_result *running, *waiting;
    mp_iterator *it;
    pthread_t thread;
    void *answer;

    (void)state;
    fill_numbers(in, N);
    called = 0;
    assert_int_equal(pthread_create(&thread, NULL, wait_in_map, pool), 0);
    assert_true(word_reaches(&gate->arrived, 2));
    assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 4,
                                         MP_ASYNC_OPTIONS(.callback = on_ready), &running),
                     0);
    assert_int_equal(mp_pool_map_async(pool, square, in, 8, N, 8, NULL, &waiting), 0);
    assert_int_equal(mp_pool_imap(pool, square, take_number, &next, 8, 8, NULL, &it), 0);
    assert_int_equal(mp_iterator_next(it, 0, &item), -EAGAIN);
    assert_int_equal(mp_pool_terminate(pool), 0);
    pthread_join(thread, &answer);
    assert_int_equal((intptr_t)answer, -ECANCELED);
    assert_int_equal(mp_result_get(running, 0, NULL, NULL), -ECANCELED);
    assert_int_equal(mp_result_get(waiting, 0, NULL, NULL), -ECANCELED);
    assert_int_equal(mp_result_failure(waiting, &failure), 0);
    assert_int_equal(failure.error, -ECANCELED);
    assert_int_equal(mp_iterator_next(it, MP_FOREVER, &item), -ECANCELED);
    assert_int_equal(mp_pool_apply(pool, square, in, 8, in, 8, NULL), -EPIPE);
    assert_int_equal(mp_pool_terminate(pool), 0);
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), 0);
    assert_int_equal(called, 1);
    mp_pool_free(pool);
    mp_result_free(running);
    mp_result_free(waiting);
    mp_iterator_free(it);
}

static void test_free_running(void **state)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 2));
    mp_result *results[20];

    (void)state;
    for (int i = 0; i < 20; i++)
        assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 4, NULL, &results[i]), 0);
    mp_pool_free(pool);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(mp_result_get(results[i], MP_FOREVER, NULL, NULL), -ECANCELED);
        mp_result_free(results[i]);
    }
    /* And one that was not used at all. */
    mp_pool_free(pool_with(MP_POOL_OPTIONS(.workers = 4)));
}

/* ---- other processes ---- */

/* In a forked child: the pool is the parent's. Its exit code is the number of wrong answers. */
static int use_of_parents(mp_pool *pool, mp_result *result, mp_iterator *it)
{
    struct mp_failure failure;
    struct mp_pool_stats stats;
    struct mp_item item;
    uint64_t x = 1;
    int wrong = 0;

    wrong += mp_pool_apply(pool, square, &x, 8, &x, 8, NULL) != -ECHILD;
    wrong += mp_pool_map_async(pool, square, &x, 8, 1, 8, NULL, &result) != -ECHILD;
    wrong += mp_pool_imap(pool, square, take_number, &x, 8, 8, NULL, &it) != -ECHILD;
    wrong += mp_pool_close(pool) != -ECHILD;
    wrong += mp_pool_terminate(pool) != -ECHILD;
    wrong += mp_pool_join(pool, 0) != -ECHILD;
    wrong += mp_pool_stats(pool, &stats) != -ECHILD;
    wrong += mp_pool_worker_pids(pool, NULL, 0) != -ECHILD;
    wrong += mp_result_wait(result, 0) != -ECHILD;
    wrong += mp_result_ready(result) != -ECHILD;
    wrong += mp_result_successful(result) != -ECHILD;
    wrong += mp_result_get(result, 0, NULL, NULL) != -ECHILD;
    wrong += mp_result_failure(result, &failure) != -ECHILD;
    wrong += mp_iterator_next(it, 0, &item) != -ECHILD;
    mp_iterator_free(it);
    mp_result_free(result);
    mp_pool_free(pool);
    return wrong;
}

static void test_forked(void **state)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 1));
    uint64_t x = 6, y = 0, next = 0;
    mp_result *result;
    mp_iterator *it;
    pid_t child;
    int status;

    (void)state;
    assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 4, NULL, &result), 0);
    assert_int_equal(mp_pool_imap(pool, square, take_number, &next, 8, 8, NULL, &it), 0);
    child = fork();
    if (child == 0)
        _exit(use_of_parents(pool, result, it));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    gate_let_on();
    assert_int_equal(mp_result_get(result, MP_FOREVER, NULL, NULL), 0);
    assert_int_equal(mp_pool_apply(pool, square, &x, 8, &y, 8, NULL), 0);
    assert_int_equal(y, 36);
    mp_result_free(result);
    mp_iterator_free(it);
    end_pool(pool);
}

/* A parent that is killed leaves no worker. */
static void test_parent_killed(void **state)
{
    pid_t child, worker;
    int worker_fd;

    (void)state;
    gate_reset();
    child = fork();
    if (child == 0) {
        mp_pool *pool;
        mp_result *result;

        if (mp_pool_new(MP_POOL_OPTIONS(.workers = 1, .method = method, GATE_OPTIONS), &pool) == 0)
            mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 4, NULL, &result);
        for (;;)
            pause();
    }
    assert_true(word_reaches(&gate->arrived, 1));
    worker = (pid_t)gate->pid;
    worker_fd = mp_pidfd_open(worker);
    assert_true(worker_fd >= 0);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(mp_pidfd_wait(worker_fd, mp_deadline(MP_SEC(20))), 1);
    close(worker_fd);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_retried),
        clean_test(test_poison),
        clean_test(test_poison_imap),
        clean_test(test_what_killed_it),
        clean_test(test_killed_from_outside),
        clean_test(test_killed_after_close),
        clean_test(test_initializer),
        clean_test(test_initializer_fails),
        clean_test(test_max_tasks),
        clean_test(test_close),
        clean_test(test_terminate),
        clean_test(test_free_running),
        clean_test(test_forked),
        clean_test(test_parent_killed),
    };

    mp_main(argc, argv);
    return run_over_methods(tests);
}
