/* SPDX-License-Identifier: MIT */

/* What becomes of children when main returns: a daemon is ended, any other is joined. */

#include <err.h>
#include <stdio.h>
#include <unistd.h>

#include <mp/mp.h>

MP_ENTRY(sleepy)
{
    mp_queue *queue;

    if (mp_queue_open(call->arenas[0], "asleep", &queue) < 0)
        return 1;
    puts("daemon: falls asleep");
    fflush(stdout);
    mp_queue_put(queue, NULL, 0, MP_FOREVER);
    sleep(3600);
    puts("daemon: wakes up"); /* main is gone long before */
    return 0;
}

MP_ENTRY(worker)
{
    puts("worker: begins");
    usleep(100000);
    puts("worker: ends"); /* main has returned, and waits for it */
    return 0;
}

int main(int argc, char **argv)
{
    mp_arena *arena;
    mp_queue *queue;

    mp_main(argc, argv);
    if (mp_arena_create("daemon", NULL, &arena) < 0 ||
        mp_queue_create(arena, "asleep", NULL, &queue) < 0)
        errx(1, "cannot make the queue");

    if (mp_process_start(sleepy, MP_PROCESS_OPTIONS(MP_ARENAS(arena), .daemon = 1), NULL) < 0 ||
        mp_queue_get(queue, NULL, 0, MP_FOREVER, NULL) < 0)
        errx(1, "the daemon does not start");
    puts("main: starts the worker and returns");
    if (mp_process_start(worker, NULL, NULL) < 0)
        errx(1, "the worker does not start");
    mp_queue_close(queue);
    mp_arena_close(arena);
    return 0;
}
