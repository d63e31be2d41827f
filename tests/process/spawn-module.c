/* SPDX-License-Identifier: MIT */
/* A module with an entry of its own, and with one whose name the program has taken as well. */

#include <mp/process.h>

#include "process/spawn-module.h"

MP_ENTRY(of_module)
{
    return call->size == 4 ? 44 : 45;
}

MP_ENTRY(twice)
{
    return 46;
}

mp_entry_fn *spawn_module_entry(void)
{
    return of_module;
}

mp_entry_fn *spawn_module_twice(void)
{
    return twice;
}
