/* SPDX-License-Identifier: MIT */
/*
 * peer_mp_pool MODE SIZE COUNT: a pool of 2 workers squares COUNT numbers; ns per task.
 *
 *   map_default   map with the default chunks
 *   map1          map with chunks of one
 *   imap1         imap with chunks of one
 *   apply         one task in flight at a time
 *   apply_async   all handed in, then all got
 *
 * PEER_START=spawn spawns the workers instead of forking them. As with the other pools the last of
 * three passes counts.
 */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <mp/mp.h>

static uint64_t *in, *out;
static size_t n;

MP_TASK(square)
{
    uint64_t i = *(const uint64_t *)task->data;

    *(uint64_t *)task->result = i * i;
    return 0;
}

static void must(int r, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "mp_pool: %s: %s\n", what, strerror(-r));
        exit(1);
    }
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void map_default(mp_pool *pool)
{
    must(mp_pool_map(pool, square, in, 8, n, out, 8), "map");
}

static void map1(mp_pool *pool)
{
    mp_result *result;
    const void *data;

    must(mp_pool_map_async(pool, square, in, 8, n, 8, MP_ASYNC_OPTIONS(.chunksize = 1), &result),
         "map_async");
    must(mp_result_get(result, MP_FOREVER, &data, NULL), "get");
    memcpy(out, data, n * 8);
    mp_result_free(result);
}

static ssize_t next_number(void *user, void *item, size_t size)
{
    size_t *next = user;

    (void)size;
    if (*next == n)
        return -ENODATA;
    *(uint64_t *)item = in[(*next)++];
    return 8;
}

static void imap1(mp_pool *pool)
{
    struct mp_item item;
    mp_iterator *it;
    size_t next = 0;
    int r;

    must(mp_pool_imap(pool, square, next_number, &next, 8, 8, NULL, &it), "imap");
    while ((r = mp_iterator_next(it, MP_FOREVER, &item)) == 1)
        out[item.index] = *(const uint64_t *)item.data;
    must(r, "next");
    mp_iterator_free(it);
}

static void apply(mp_pool *pool)
{
    for (size_t i = 0; i < n; i++)
        must(mp_pool_apply(pool, square, &in[i], 8, &out[i], 8, NULL), "apply");
}

static void apply_async(mp_pool *pool)
{
    mp_result **results = malloc(n * sizeof *results);
    const void *data;

    for (size_t i = 0; i < n; i++)
        must(mp_pool_apply_async(pool, square, &in[i], 8, 8, NULL, &results[i]), "apply_async");
    for (size_t i = 0; i < n; i++) {
        must(mp_result_get(results[i], MP_FOREVER, &data, NULL), "get");
        out[i] = *(const uint64_t *)data;
        mp_result_free(results[i]);
    }
    free(results);
}

static const struct {
    const char *name;
    void (*run)(mp_pool *pool);
} modes[] = {
    {"map_default", map_default}, {"map1", map1}, {"imap1", imap1}, {"apply", apply},
    {"apply_async", apply_async},
};

int main(int argc, char **argv)
{
    const char *start = getenv("PEER_START");
    void (*run)(mp_pool * pool) = NULL;
    uint64_t t = 0;
    mp_pool *pool;

    mp_main(argc, argv);
    if (argc != 4)
        return 64;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(argv[1], modes[i].name) == 0)
            run = modes[i].run;
    }
    if (!run)
        return 77;
    n = strtoull(argv[3], NULL, 0);
    in = malloc(n * 8);
    out = malloc(n * 8);
    for (size_t i = 0; i < n; i++)
        in[i] = i;
    must(mp_pool_new(MP_POOL_OPTIONS(.workers = 2, .method = start && strcmp(start, "spawn") == 0
                                                                 ? MP_START_SPAWN
                                                                 : MP_START_FORK),
                     &pool),
         "mp_pool_new");
    for (int pass = 0; pass < 3; pass++) {
        memset(out, 0, n * 8);
        t = now_ns();
        run(pool);
        t = now_ns() - t;
    }
    for (size_t i = 0; i < n; i++) {
        if (out[i] != i * i) {
            fprintf(stderr, "mp_pool: lost task\n");
            return 1;
        }
    }
    mp_pool_free(pool);
    free(in);
    free(out);
    printf("mp_pool %s %s %zu %.1f\n", argv[1], argv[2], n, (double)t / (double)n);
    return 0;
}
