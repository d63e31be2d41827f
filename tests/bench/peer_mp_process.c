/* SPDX-License-Identifier: MIT */
/*
 * Starting and joining a process: MODE SIZE COUNT.
 *
 *   fork     mp_process_start() by fork, an entry that returns at once, mp_process_join()
 *   spawn    the same by spawn: this program is executed again
 *
 * SIZE: MiB of memory that this process has touched first, in pages of 4 KiB. ns a start and join.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <mp/process.h>

#define UNSUPPORTED 77

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

MP_ENTRY(nothing)
{
    return 0;
}

static void one(enum mp_start_method method)
{
    struct mp_exit_info info;
    mp_process *p;

    if (mp_process_start(nothing, MP_PROCESS_OPTIONS(.method = method), &p) < 0 ||
        mp_process_join(p, MP_FOREVER) < 0 || mp_process_exit_info(p, &info) < 0 || info.code != 0)
        exit(1);
    mp_process_free(p);
}

static void touch(size_t mib)
{
    size_t size = mib << 20;
    char *m;

    if (size == 0)
        return;
    m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        exit(1);
    madvise(m, size, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < size; i += 4096)
        m[i] = 1;
}

int main(int argc, char **argv)
{
    enum mp_start_method method;
    uint64_t count, begin;

    mp_main(argc, argv);
    if (argc != 4)
        return 64;
    if (strcmp(argv[1], "fork") == 0)
        method = MP_START_FORK;
    else if (strcmp(argv[1], "spawn") == 0)
        method = MP_START_SPAWN;
    else if (strcmp(argv[1], "forkserver") == 0)
        method = MP_START_FORKSERVER;
    else
        return UNSUPPORTED;
    touch(strtoull(argv[2], NULL, 0));
    count = strtoull(argv[3], NULL, 0);
    for (uint64_t i = 0; i < count / 10; i++)
        one(method);
    begin = now_ns();
    for (uint64_t i = 0; i < count; i++)
        one(method);
    printf("mp_process %s %s %s %.0f\n", argv[1], argv[2], argv[3],
           (double)(now_ns() - begin) / (double)count);
    return 0;
}
