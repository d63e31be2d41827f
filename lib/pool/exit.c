/* SPDX-License-Identifier: MIT */
/*
 * Pools that are still there when the process exits.
 *
 * At exit the library ends all daemons. The supervisor of a pool that nobody freed would start new
 * workers for those, and so on; so pools are terminated first, as Python does it. Handlers run in
 * the opposite order of their registration, so this one is registered after a worker was started.
 *
 * The list belongs to one process. A forked child finds that it carries another lineage, leaves it
 * alone (its lock may be held for ever), and makes its own.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "kernel/lineage.h"
#include "pool/pool.h"

struct list {
    uint64_t lineage; /* of the process */
    pthread_mutex_t lock;
    struct mp_pool *pools;
    struct list *inherited; /* or tools would call it lost memory */
};

static _Atomic(struct list *) here;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static struct list *own_list(void)
{
    struct list *l = mp_load_acquire(&here);

    return l && l->lineage == mp_lineage() ? l : NULL;
}

static void at_exit(void)
{
    struct list *l = own_list();

    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    for (struct mp_pool *p = l->pools; p; p = p->next_pool)
        mp_pool_terminate(p);
    pthread_mutex_unlock(&l->lock);
}

static void register_exit(void)
{
    /* It can fail for want of memory only; then an exit without mp_pool_free() takes longer. */
    atexit(at_exit);
}

static struct list *make_list(void)
{
    struct list *old = mp_load_acquire(&here);
    _cleanup_free_ struct list *made = NULL;

    if (old && old->lineage == mp_lineage())
        return old;
    made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->lineage = mp_lineage();
    made->inherited = old;
    pthread_mutex_init(&made->lock, NULL);
    if (atomic_compare_exchange_strong(&here, &old, made))
        return mp_take_ptr(made);
    return old; /* another thread was first */
}

int mp_pool_enlist(mp_pool *p)
{
    struct list *l = make_list();

    if (!l)
        return -ENOMEM;
    pthread_once(&once, register_exit);
    pthread_mutex_lock(&l->lock);
    p->next_pool = l->pools;
    l->pools = p;
    pthread_mutex_unlock(&l->lock);
    return 0;
}

void mp_pool_delist(mp_pool *p)
{
    struct list *l = own_list();

    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    for (struct mp_pool **at = &l->pools; *at; at = &(*at)->next_pool) {
        if (*at == p) {
            *at = p->next_pool;
            break;
        }
    }
    pthread_mutex_unlock(&l->lock);
}
