/* SPDX-License-Identifier: MIT */
/*
 * The inside of a pool: what it shows to those who look on, what it takes from those who write
 * nonsense into its arena, how chunks are laid out, and what becomes of a pool that nobody frees.
 */

#undef NDEBUG
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "kernel/pidfd.h"
#include "pool/pool.h"
#include "pool/tasks.h"

#define N 500u

static void check_map(mp_pool *pool)
{
    uint64_t in[N], out[N];

    for (uint64_t i = 0; i < N; i++)
        in[i] = i;
    assert_int_equal(mp_pool_map(pool, square, in, 8, N, out, 8), 0);
    for (uint64_t i = 0; i < N; i++)
        assert_int_equal(out[i], i * i);
}

/* ---- what it shows ---- */

static void test_page(void **state)
{
    mp_pool *pool = pool_with(MP_POOL_OPTIONS(.workers = 2, .name = "inside"));
    const struct mp_pool_page *page;
    mp_result *result;
    uint32_t running = 0;
    mp_arena *arena;
    void *block;
    size_t size;

    (void)state;
    /* As a looker-on would, by the arena's descriptor. */
    assert_int_equal(mp_arena_attach(mp_arena_fd(pool->arena), &arena), 0);
    assert_string_equal(mp_arena_name(arena), "inside");
    assert_int_equal(mp_block_open(arena, MP_POOL_PAGE, &block, &size), 0);
    page = block;
    assert_int_equal(page->magic, MP_POOL_MAGIC);
    assert_int_equal(page->version, MP_POOL_VERSION);
    assert_int_equal(page->rows, 2);
    assert_int_equal(page->row_size, sizeof page->row[0]);
    assert_int_equal(size, sizeof *page + 2 * sizeof page->row[0]);
    assert_int_equal(page->parent_pid, getpid());
    assert_int_equal(page->parent_start, mp_task_start(getpid()));
    assert_int_equal(page->state, MP_POOL_OPEN);

    check_map(pool);
    assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 0, NULL, &result), 0);
    assert_true(word_reaches(&gate->arrived, 1));
    assert_int_equal(page->jobs, 1);
    assert_int_equal(page->queued, 1);
    assert_int_equal(page->done, 8);
    for (int i = 0; i < 2; i++) {
        const struct mp_pool_row *row = &page->row[i];

        assert_true(row->id == 1 || row->id == 2);
        if (row->state != MP_WORKER_RUNNING)
            continue;
        running++;
        assert_int_equal(row->pid, gate->pid);
        assert_int_equal(row->job, 2);
        assert_int_equal(row->count, 1);
        assert_int_equal(row->first, 0);
        assert_in_range(row->since_ns, mp_now_ns() - MP_SEC(60), mp_now_ns());
    }
    assert_int_equal(running, 1);
    kill((pid_t)gate->pid, SIGKILL);
    assert_true(word_reaches(&gate->arrived, 2));
    assert_int_equal(page->deaths, 1);
    gate_let_on();
    assert_int_equal(mp_result_wait(result, MP_FOREVER), 0);
    assert_int_equal(page->retried, 1);
    mp_result_free(result);
    assert_int_equal(mp_pool_close(pool), 0);
    assert_int_equal(mp_pool_join(pool, MP_FOREVER), 0);
    assert_int_equal(page->state, MP_POOL_ENDED);
    mp_pool_free(pool);
    mp_arena_close(arena);
}

/* ---- what it takes ---- */

static void put_ticket(mp_pool *pool, const void *bytes, size_t size)
{
    mp_pool_lock(pool); /* the one producer's role */
    assert_int_equal(mp_queue_put(pool->tasks, bytes, size, MP_FOREVER), 0);
    mp_pool_unlock(pool);
}

static void test_odd_tickets(void **state)
{
    mp_pool *pool = pool_of(2);
    uint64_t total = pool->arena->geometry.total;
    const struct mp_ticket odd[] = {
        {0, 0},
        {1, 0},
        {1, 64},
        {1, 63},
        {UINT64_MAX, total},
        {UINT64_MAX, total - 64},
        {UINT64_MAX, total - sizeof(struct mp_chunk)},
        {UINT64_MAX, UINT64_MAX},
        {UINT64_MAX, UINT64_MAX - 63},
        {1, INT64_MAX & ~63ull},
    };
    pid_t before[2], after[2];

    (void)state;
    check_map(pool);
    assert_int_equal(mp_pool_worker_pids(pool, before, 2), 2);
    for (size_t i = 0; i < MP_ARRAY_SIZE(odd); i++)
        put_ticket(pool, &odd[i], sizeof odd[i]);
    put_ticket(pool, NULL, 0);
    put_ticket(pool, odd, 1);
    put_ticket(pool, odd, 15);
    check_map(pool);
    assert_int_equal(mp_pool_worker_pids(pool, after, 2), 2);
    assert_memory_equal(before, after, sizeof before);
    mp_pool_free(pool);
}

/* Chunks that claim to be of any shape. */
static void test_odd_chunks(void **state)
{
    static const struct {
        uint64_t size[2];
        uint64_t result_size;
        uint32_t count;
        uint16_t flags;
        uint16_t name_size;
    } odd[] = {
        {.count = 0},
        {.count = 1, .flags = 0xffff},
        {.count = 1, .size = {0, 8}},
        {.count = 1, .size = {UINT64_MAX, 0}},
        {.count = 1, .size = {UINT64_MAX - 15, 0}},
        {.count = UINT32_MAX, .size = {8, 8}, .flags = MP_CHUNK_SECOND},
        {.count = UINT32_MAX, .size = {UINT64_C(1) << 33, 0}},
        {.count = UINT32_MAX, .flags = MP_CHUNK_RECORDS},
        {.count = 1, .result_size = UINT64_MAX},
        {.count = 1, .result_size = UINT64_C(1) << 62},
        {.count = 2, .result_size = UINT64_C(1) << 62},
        {.count = 1, .name_size = 1},
        {.count = 1, .name_size = UINT16_MAX},
    };
    mp_pool *pool = pool_of(2);
    pid_t before[2], after[2];
    struct mp_chunk *chunk;
    void *block;

    (void)state;
    check_map(pool);
    assert_int_equal(mp_pool_worker_pids(pool, before, 2), 2);
    for (size_t i = 0; i < MP_ARRAY_SIZE(odd); i++) {
        struct mp_ticket ticket = {.id = MP_CHUNK_ID(UINT64_C(1) << 40, i)};

        assert_int_equal(mp_block_alloc(pool->arena, 4096, 0, &block), 0);
        memset(block, 'a', 4096); /* a name that no function has */
        chunk = block;
        chunk->id = ticket.id;
        chunk->size[0] = odd[i].size[0];
        chunk->size[1] = odd[i].size[1];
        chunk->result_size = odd[i].result_size;
        chunk->count = odd[i].count;
        chunk->flags = odd[i].flags;
        chunk->name_size = odd[i].name_size;
        chunk->function = 0;
        ticket.offset = (uint64_t)((char *)block - pool->arena->base);
        put_ticket(pool, &ticket, sizeof ticket);
    }
    check_map(pool);
    assert_int_equal(mp_pool_worker_pids(pool, after, 2), 2);
    assert_memory_equal(before, after, sizeof before);
    mp_pool_free(pool);
}

/* Answers that nobody asked for: none is taken for another. */
static void test_odd_results(void **state)
{
    mp_pool *pool = pool_of(1);
    mp_result *result;
    uint64_t id;

    (void)state;
    assert_int_equal(mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 0, NULL, &result), 0);
    assert_true(word_reaches(&gate->arrived, 1));
    mp_pool_lock(pool);
    id = MP_CHUNK_ID(pool->next_serial, 0);
    mp_pool_unlock(pool);
    for (uint64_t place = 0; place < 2 * pool->n_places; place++) {
        uint64_t wrong = place << 16 | place;

        assert_int_equal(mp_queue_put(pool->results, &wrong, sizeof wrong, MP_FOREVER), 0);
        wrong = id | place; /* the right one among them, of a chunk that is not done */
        assert_int_equal(mp_queue_put(pool->results, &wrong, sizeof wrong, MP_FOREVER), 0);
    }
    assert_int_equal(mp_queue_put(pool->results, "abc", 3, MP_FOREVER), 0);
    assert_int_equal(mp_queue_put(pool->results, NULL, 0, MP_FOREVER), 0);
    assert_int_equal(mp_result_wait(result, MP_MSEC(20)), -ETIMEDOUT);
    gate_let_on();
    assert_int_equal(mp_result_wait(result, MP_FOREVER), 0);
    assert_int_equal(mp_result_successful(result), 1);
    mp_result_free(result);
    check_map(pool);
    mp_pool_free(pool);
}

static void test_shape(void **state)
{
    struct mp_shape s = {.size = {5, 16},
                         .result_size = 17,
                         .count = 3,
                         .flags = MP_CHUNK_SECOND | MP_CHUNK_RECORDS,
                         .name_size = 3};
    struct mp_shape none = {.count = 7};
    uint64_t total;

    (void)state;
    assert_int_equal(mp_shape_compute(&s, 4096), 0);
    assert_int_equal(s.records, sizeof(struct mp_chunk) + 16);
    assert_int_equal(s.items[0], s.records + 3 * sizeof(struct mp_record));
    assert_int_equal(s.items[1], s.items[0] + 3 * 16);
    assert_int_equal(s.results, s.items[1] + 3 * 16);
    assert_int_equal(s.total, s.results + 3 * 32);
    total = s.total;
    assert_int_equal(mp_shape_compute(&s, total), 0);
    assert_int_equal(mp_shape_compute(&s, total - 1), -EMSGSIZE);
    assert_int_equal(s.total, total);
    assert_int_equal(mp_shape_compute(&none, sizeof(struct mp_chunk)), 0);
    assert_int_equal(none.total, sizeof(struct mp_chunk));
}

/* ---- what becomes of it ---- */

/* The child leaves by exit(), with a pool in use and workers that would be replaced. */
static void test_exit_without_free(void **state)
{
    int child_fd, worker_fd;
    siginfo_t info;
    pid_t child;

    (void)state;
    gate_reset();
    fflush(NULL);
    child = fork();
    if (child == 0) {
        mp_pool *pool;
        mp_result *result;

        if (mp_pool_new(MP_POOL_OPTIONS(.workers = 2, .method = method, GATE_OPTIONS), &pool) == 0)
            mp_pool_apply_async(pool, wait_at_gate, NULL, 0, 0, NULL, &result);
        if (!word_reaches(&gate->arrived, 1))
            _exit(1);
        gate->ended = 1;
        word_reaches(&gate->ended, 2);
        exit(7);
    }
    assert_true(word_reaches(&gate->ended, 1));
    child_fd = mp_pidfd_open(child);
    worker_fd = mp_pidfd_open((pid_t)gate->pid);
    assert_true(child_fd >= 0 && worker_fd >= 0);
    mp_store_release(&gate->ended, 2); /* its worker stays at the gate */
    assert_int_equal(mp_pidfd_wait(child_fd, mp_deadline(MP_SEC(20))), 1);
    assert_int_equal(mp_pidfd_wait(worker_fd, mp_deadline(MP_SEC(20))), 1);
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED), 0);
    assert_int_equal(info.si_code, CLD_EXITED);
    close(child_fd);
    close(worker_fd);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        clean_test(test_page),       clean_test(test_odd_tickets),
        clean_test(test_odd_chunks), clean_test(test_odd_results),
        clean_test(test_shape),      clean_test(test_exit_without_free),
    };

    mp_main(argc, argv);
    return run_over_methods(tests);
}
