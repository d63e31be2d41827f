/* SPDX-License-Identifier: MIT */
/* imap: the order of results, how far the input is read, and how it all ends. */

#undef NDEBUG
#include <stdio.h>

#include "pool/tasks.h"

#define N 1000u

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
    mp_pool *pool = pool_of(2);

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
    mp_pool *pool = pool_of(3);
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
    mp_pool *pool = pool_of(2);
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
    mp_pool *pool = pool_of(2);
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
    mp_pool *pool = pool_of(2);
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
    mp_pool *pool = pool_of(2);
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_imap),       clean_test(test_imap_unordered), clean_test(test_imap_order),
        clean_test(test_imap_fails), clean_test(test_imap_sizes),     clean_test(test_imap_left),
    };

    mp_main(argc, argv);
    return run_over_methods(tests);
}
