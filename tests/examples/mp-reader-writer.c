/* SPDX-License-Identifier: MIT */

/* A daemon reads from a queue what its parent writes to it: many numbers, then DONE. */

#include <err.h>
#include <stdio.h>

#include <mp/mp.h>

MP_ENTRY(reader)
{
    mp_queue *queue;
    char message[sizeof(long)];
    size_t size;

    if (mp_queue_open(call->arenas[0], "numbers", &queue) < 0)
        return 1;
    do {
        if (mp_queue_get(queue, message, sizeof message, MP_FOREVER, &size) < 0)
            return 1;
    } while (size != sizeof "DONE");
    return 0;
}

static int write_numbers(mp_queue *queue, long n)
{
    int r = 0;

    for (long i = 0; i < n && r == 0; i++)
        r = mp_queue_put(queue, &i, sizeof i, MP_FOREVER);
    return r < 0 ? r : mp_queue_put(queue, "DONE", sizeof "DONE", MP_FOREVER);
}

int main(int argc, char **argv)
{
    mp_arena *arena;
    mp_queue *queue;

    mp_main(argc, argv);
    if (mp_arena_create("reader-writer", NULL, &arena) < 0 ||
        mp_queue_create(arena, "numbers", NULL, &queue) < 0)
        errx(1, "cannot make the queue");

    for (long n = 10000; n <= 1000000; n *= 10) {
        mp_process *child;
        struct mp_exit_info info;

        if (mp_process_start(reader, MP_PROCESS_OPTIONS(MP_ARENAS(arena), .daemon = 1), &child) < 0)
            errx(1, "cannot start the reader");
        if (write_numbers(queue, n) < 0 || mp_process_join(child, MP_FOREVER) < 0 ||
            mp_process_exit_info(child, &info) < 0 || info.code != 0)
            errx(1, "cannot send %ld numbers", n);
        printf("Sending %ld numbers to the queue took %g seconds\n", n, (double)info.wall_ns / 1e9);
        mp_process_free(child);
    }
    mp_queue_close(queue);
    mp_arena_close(arena);
    return 0;
}
