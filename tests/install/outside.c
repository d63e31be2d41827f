/* SPDX-License-Identifier: MIT */
/*
 * A program outside the tree: it knows the installed headers and `pkg-config libmp`, nothing else.
 *
 * It uses a bit of everything once: an arena, a lock, a queue between a forked and a spawned
 * process, and a pool over both, for what is found by name in the program's own sections has to be
 * found from the shared and from the static library alike.
 */

#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <mp/mp.h>

MP_ENTRY(answer)
{
    mp_queue *questions, *answers;
    mp_lock *lock;
    int n;

    assert(call->n_arenas == 1 && strcmp(call->data, "twice") == 0);
    assert(mp_lock_open(call->arenas[0], "lock", &lock) == 0);
    assert(mp_queue_open(call->arenas[0], "questions", &questions) == 0);
    assert(mp_queue_open(call->arenas[0], "answers", &answers) == 0);
    assert(mp_lock_acquire(lock, MP_FOREVER) == 0);
    while (mp_queue_get(questions, &n, sizeof n, MP_FOREVER, NULL) == 0 && n >= 0) {
        n *= 2;
        assert(mp_queue_put(answers, &n, sizeof n, MP_FOREVER) == 0);
    }
    assert(mp_lock_release(lock) == 0);
    mp_queue_close(answers);
    mp_queue_close(questions);
    mp_lock_close(lock);
    return 7;
}

MP_TASK(square)
{
    int n;

    memcpy(&n, task->data, sizeof n);
    n *= n;
    memcpy(task->result, &n, sizeof n);
    return 0;
}

static void ask(enum mp_start_method method)
{
    struct mp_exit_info info;
    mp_queue *questions, *answers;
    mp_process *process;
    mp_arena *arena;
    mp_lock *lock;

    assert(mp_arena_create("outside", MP_ARENA_OPTIONS(.size = 1 << 20), &arena) == 0);
    assert(mp_lock_create(arena, "lock", &lock) == 0);
    assert(mp_queue_create(arena, "questions", NULL, &questions) == 0);
    assert(mp_queue_create(arena, "answers", NULL, &answers) == 0);
    assert(mp_process_start(answer,
                            MP_PROCESS_OPTIONS(.method = method, .data = "twice", .size = 6,
                                               .arenas = &arena, .n_arenas = 1),
                            &process) == 0);
    for (int i = 9; i >= 0; i--) {
        int n;

        assert(mp_queue_put(questions, &i, sizeof i, MP_FOREVER) == 0);
        assert(mp_queue_get(answers, &n, sizeof n, MP_FOREVER, NULL) == 0 && n == 2 * i);
    }
    assert(mp_queue_put(questions, &(int){-1}, sizeof(int), MP_FOREVER) == 0);
    assert(mp_process_join(process, MP_FOREVER) == 0);
    assert(mp_process_exit_info(process, &info) == 0 && info.code == 7);
    mp_process_free(process);
    mp_queue_close(answers);
    mp_queue_close(questions);
    mp_lock_close(lock);
    mp_arena_close(arena);
}

static void map(enum mp_start_method method)
{
    int in[100], out[100];
    mp_pool *pool;

    for (int i = 0; i < 100; i++)
        in[i] = i;
    assert(mp_pool_new(MP_POOL_OPTIONS(.workers = 2, .method = method), &pool) == 0);
    assert(mp_pool_map(pool, square, in, sizeof in[0], 100, out, sizeof out[0]) == 0);
    for (int i = 0; i < 100; i++)
        assert(out[i] == i * i);
    assert(mp_pool_close(pool) == 0);
    assert(mp_pool_join(pool, MP_FOREVER) == 0);
    mp_pool_free(pool);
}

int main(int argc, char **argv)
{
    mp_main(argc, argv);
    ask(MP_START_FORK);
    ask(MP_START_SPAWN);
    map(MP_START_FORK);
    map(MP_START_SPAWN);
    puts("ok");
    return 0;
}
