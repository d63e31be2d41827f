/* SPDX-License-Identifier: MIT */

/* A child changes a shared number and a shared array: Python's first example of Value and Array. */

#include <err.h>
#include <stdio.h>

#include <mp/mp.h>

MP_ENTRY(change)
{
    mp_value *number;
    mp_array *array;
    int item;

    if (mp_value_open(call->arenas[0], "number", &number) < 0 ||
        mp_array_open(call->arenas[0], "array", &array) < 0 ||
        mp_value_set(number, &(double){3.1415927}, sizeof(double)) < 0)
        return 1;
    for (size_t i = 0; i < mp_array_len(array); i++) {
        mp_array_get(array, i, &item, sizeof item);
        item = -item;
        mp_array_set(array, i, &item, sizeof item);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const int initial[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    mp_process *process;
    mp_arena *arena;
    mp_value *number;
    mp_array *array;
    int items[10];
    double x;

    mp_main(argc, argv);
    if (mp_arena_create("value", NULL, &arena) < 0 ||
        mp_value_create(arena, "number", MP_VALUE_OPTIONS(.type = 'd'), &number) < 0 ||
        mp_array_create(arena, "array",
                        MP_ARRAY_OPTIONS(.type = 'i', .length = 10, .initial = initial),
                        &array) < 0)
        errx(1, "cannot make the number and the array");
    if (mp_process_start(change, MP_PROCESS_OPTIONS(MP_ARENAS(arena)), &process) < 0 ||
        mp_process_join(process, MP_FOREVER) < 0)
        errx(1, "cannot run the child");
    if (mp_value_get(number, &x, sizeof x) != 0 ||
        mp_array_get_slice(array, 0, 10, items, sizeof items) != 0)
        errx(1, "cannot read them");
    printf("%.7f\n", x);
    for (int i = 0; i < 10; i++)
        printf("%d%c", items[i], i < 9 ? ' ' : '\n');
    mp_value_close(number);
    mp_array_close(array);
    mp_process_free(process);
    mp_arena_close(arena);
    return 0;
}
