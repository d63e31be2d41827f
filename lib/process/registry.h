/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Functions by name: what MP_ENTRY() and MP_TASK() of the program and of its modules registered.
 *
 * A name that two functions of one kind share is as good as none: nobody could tell which is meant,
 * so neither is found.
 */

#include <mp/process.h>

/* As in mp/pool.h, which this folder does not know. */
struct mp_task;
typedef int mp_task_fn(struct mp_task *task);

/* NULL: there is none of this name, or two; it was not registered. */
mp_entry_fn *mp_registry_entry(const char *name);
const char *mp_registry_entry_name(mp_entry_fn *fn);
mp_task_fn *mp_registry_task(const char *name);
const char *mp_registry_task_name(mp_task_fn *fn);
