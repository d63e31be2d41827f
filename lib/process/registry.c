/* SPDX-License-Identifier: MIT */
/*
 * The registry of functions: a list of records that live in the program and its modules.
 *
 * Records rather than a linker section: a section's start and end symbols would be those of the
 * library, or of whichever module the linker came to first, not of all that is loaded.
 *
 * Constructors and destructors run under the dynamic loader's lock, so writers never meet; readers
 * take no lock and so have none to find held in a forked child. Who unloads a module while a
 * function of it is being looked up loses, here as with any call into that module.
 */

#include <string.h>

#include "base/macro.h"
#include "process/registry.h"

static struct mp_function *functions;

static struct mp_function *load(struct mp_function **p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE); /* pairs with release in store() */
}

static void store(struct mp_function **p, struct mp_function *function)
{
    __atomic_store_n(p, function, __ATOMIC_RELEASE);
}

void mp_function_register(struct mp_function *function)
{
    function->next = functions;
    store(&functions, function);
}

void mp_function_unregister(struct mp_function *function)
{
    for (struct mp_function **p = &functions; *p; p = &(*p)->next)
        if (*p == function) {
            store(p, function->next);
            return;
        }
}

static struct mp_function *find(int kind, const char *name)
{
    struct mp_function *found = NULL;

    for (struct mp_function *f = load(&functions); f; f = load(&f->next)) {
        if (f->kind != kind || strcmp(f->name, name) != 0)
            continue;
        if (found && found->fn != f->fn)
            return NULL;
        found = f;
    }
    return found;
}

static const char *find_name(int kind, void (*fn)(void))
{
    for (struct mp_function *f = load(&functions); f; f = load(&f->next))
        if (f->kind == kind && f->fn == fn)
            return find(kind, f->name) ? f->name : NULL;
    return NULL;
}

mp_entry_fn *mp_registry_entry(const char *name)
{
    struct mp_function *f = find(MP_FUNCTION_ENTRY, name);

    return f ? (mp_entry_fn *)f->fn : NULL;
}

const char *mp_registry_entry_name(mp_entry_fn *fn)
{
    return find_name(MP_FUNCTION_ENTRY, (void (*)(void))fn);
}

mp_task_fn *mp_registry_task(const char *name)
{
    struct mp_function *f = find(MP_FUNCTION_TASK, name);

    return f ? (mp_task_fn *)f->fn : NULL;
}

const char *mp_registry_task_name(mp_task_fn *fn)
{
    return find_name(MP_FUNCTION_TASK, (void (*)(void))fn);
}
