/* SPDX-License-Identifier: MIT */

/* Two processes count one shared number, under a lock: to 300, and on to 600. */

#include <err.h>
#include <stdio.h>

#include <mp/mp.h>

MP_ENTRY(count)
{
    mp_lock *lock;
    void *block;
    int *number;

    if (mp_lock_open(call->arenas[0], "lock", &lock) < 0 ||
        mp_block_open(call->arenas[0], "number", &block, NULL) < 0)
        return 1;
    number = block;

    for (int i = 0; i < 300; i++) {
        if (mp_lock_acquire(lock, MP_FOREVER) < 0)
            return 1;
        if (++*number % 300 == 0) {
            printf("%d\n", *number);
            fflush(stdout);
        }
        mp_lock_release(lock);
    }
    return 0;
}

int main(int argc, char **argv)
{
    mp_process *process[2];
    struct mp_exit_info info;
    mp_arena *arena;
    mp_lock *lock;
    void *number;

    mp_main(argc, argv);
    if (mp_arena_create("lock", NULL, &arena) < 0 || mp_lock_create(arena, "lock", &lock) < 0 ||
        mp_block_create(arena, "number", sizeof(int), &number) < 0)
        errx(1, "cannot make the lock and the number");

    for (int i = 0; i < 2; i++)
        if (mp_process_start(count, MP_PROCESS_OPTIONS(MP_ARENAS(arena)), &process[i]) < 0)
            errx(1, "cannot start a process");
    for (int i = 0; i < 2; i++) {
        if (mp_process_join(process[i], MP_FOREVER) < 0 ||
            mp_process_exit_info(process[i], &info) < 0 || info.code != 0)
            errx(1, "process %d failed", i + 1);
        mp_process_free(process[i]);
    }
    mp_lock_close(lock);
    mp_arena_close(arena);
    return 0;
}
