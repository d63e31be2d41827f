/* SPDX-License-Identifier: MIT */
/* Which process of a line of forks this is: a number in a page that a fork wipes. */

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/atomic.h"
#include "kernel/lineage.h"

#define PAGE_BYTES 4096
/* Without such a page the pid has to do; no count gets here. */
#define BY_PID (UINT64_C(1) << 63)

static mp_a64 *wiped;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static mp_a32 is_made; /* spares the call of pthread_once() */

/* The last number given; copied by a fork, so a child gives higher ones. */
static mp_a64 last;

static void make_page(void)
{
    void *p = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return;
    if (madvise(p, PAGE_BYTES, MADV_WIPEONFORK) < 0) {
        munmap(p, PAGE_BYTES);
        return;
    }
    wiped = p;
}

uint64_t mp_lineage_begin(void)
{
    uint64_t id, none = 0;

    if (!wiped)
        return BY_PID | (uint64_t)getpid();
    /* Counted before it is used: whoever forks in between copies a count that is high enough. */
    id = atomic_fetch_add(&last, 1) + 1;
    return mp_cas_acqrel(wiped, &none, id) ? id : none;
}

uint64_t mp_lineage(void)
{
    uint64_t id;

    if (!mp_load_acquire(&is_made)) {
        pthread_once(&once, make_page);
        mp_store_release(&is_made, 1);
    }
    id = wiped ? mp_load_acquire(wiped) : 0;
    return id ? id : mp_lineage_begin();
}
