/* SPDX-License-Identifier: MIT */
/* Bare threads: by clone(), without the C library's knowledge. */

#include <errno.h>
#include <sched.h>

#include "base/clock.h"
#include "kernel/bare.h"
#include "kernel/futex.h"
#include "kernel/lineage.h"
#include "kernel/raw.h"
#include "kernel/signals.h"

#define BARE_FLAGS                                                                      \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

/* How many, and in which process: a forked child has none of its parent's. */
static struct {
    mp_a64 lineage;
    mp_a32 n;
} count;

static mp_a32 *count_here(void)
{
    uint64_t now = mp_lineage(), then = mp_load_acquire(&count.lineage);

    if (then != now && mp_cas_acqrel(&count.lineage, &then, now))
        mp_store_release(&count.n, 0);
    return &count.n;
}

int mp_bare_start(struct mp_bare *bare, int (*fn)(void *arg), void *arg)
{
    uint64_t old;
    int tid, error;

    if (!MP_RAW_WORKS)
        return -EOPNOTSUPP;
    mp_signals_block(&old);
    tid = mp_clone(fn, bare->stack + sizeof bare->stack, BARE_FLAGS, arg, &bare->tid, NULL,
                   &bare->tid);
    error = errno;
    mp_signals_restore(old);
    if (tid < 0)
        return -error;
    atomic_fetch_add(count_here(), 1);
    return 0;
}

void mp_bare_wait(struct mp_bare *bare)
{
    uint32_t tid;

    while ((tid = mp_load_acquire(&bare->tid)) != 0)
        mp_futex_wait(&bare->tid, tid, MP_FOREVER);
    atomic_fetch_sub(count_here(), 1);
}

unsigned mp_bare_count(void)
{
    return mp_load_relaxed(count_here());
}
