/* SPDX-License-Identifier: MIT */

/* Four workers cube the numbers from 1 to 100. */

#include <err.h>
#include <stdio.h>
#include <string.h>

#include <mp/mp.h>

MP_TASK(cube)
{
    int x = *(const int *)task->data;

    *(int *)task->result = x * x * x;
    return 0;
}

int main(int argc, char **argv)
{
    int numbers[100], cubes[100], r;
    mp_pool *pool;

    mp_main(argc, argv);
    for (int i = 0; i < 100; i++)
        numbers[i] = i + 1;

    r = mp_pool_new(MP_POOL_OPTIONS(.workers = 4), &pool);
    if (r < 0)
        errx(1, "cannot start the pool: %s", strerror(-r));
    r = mp_pool_map(pool, cube, numbers, sizeof(int), 100, cubes, sizeof(int));
    if (r < 0)
        errx(1, "cannot cube: %s", strerror(-r));
    mp_pool_free(pool);

    for (int i = 0; i < 100; i++)
        printf("%d%s", cubes[i], i < 99 ? ", " : "\n");
    return 0;
}
