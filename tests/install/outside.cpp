/* SPDX-License-Identifier: MIT */
/* The headers as a C++ program sees them, and the names as its linker does. */

#include <cstdio>
#include <cstring>

#include <mp/mp.h>

MP_ENTRY(increment)
{
    mp_lock *lock;
    void *count;

    if (call->n_arenas != 1 || mp_lock_open(call->arenas[0], "lock", &lock) < 0 ||
        mp_block_open(call->arenas[0], "count", &count, nullptr) < 0)
        return 1;
    mp_lock_acquire(lock, MP_FOREVER);
    ++*static_cast<int *>(count);
    mp_lock_release(lock);
    mp_lock_close(lock);
    return 0;
}

static bool started(mp_arena *arena, mp_start_method method)
{
    mp_process_options options = {};
    mp_exit_info info = {};
    mp_process *process;

    options.struct_size = sizeof options;
    options.method = method;
    options.arenas = &arena;
    options.n_arenas = 1;
    if (mp_process_start(increment, &options, &process) < 0)
        return false;
    mp_process_join(process, MP_FOREVER);
    mp_process_exit_info(process, &info);
    mp_process_free(process);
    return info.code == 0;
}

int main(int argc, char **argv)
{
    mp_arena *arena;
    mp_lock *lock;
    void *count;

    mp_main(argc, argv);
    if (mp_arena_create("outside", nullptr, &arena) < 0 ||
        mp_lock_create(arena, "lock", &lock) < 0 ||
        mp_block_create(arena, "count", sizeof(int), &count) < 0)
        return 1;
    if (!started(arena, MP_START_FORK) || !started(arena, MP_START_SPAWN) ||
        *static_cast<int *>(count) != 2)
        return 2;
    mp_lock_close(lock);
    mp_arena_close(arena);
    std::puts("ok");
    return 0;
}
