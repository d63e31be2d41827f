/* SPDX-License-Identifier: MIT */
/*
 * Signals, by the kernel's own interface: the C library leaves its two internal signals out of
 * every set it is given, and a handler of these must no more run in a child that shares memory
 * with its parent than any other. Their handlers are left alone, however: a forked child's C
 * library believes them installed.
 */

#include <signal.h>

#include "kernel/raw.h"
#include "kernel/signals.h"

/* SIGCANCEL and SIGSETXID of the C library. */
#define INTERNAL_FIRST 32
#define INTERNAL_LAST 33

/* As the kernel wants it; all zero is the default action. */
struct kernel_action {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

MP_BARE void mp_signals_block(uint64_t *ret_old)
{
    uint64_t all = UINT64_MAX;

    mp_raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)ret_old, sizeof all, 0);
}

MP_BARE void mp_signals_restore(uint64_t old)
{
    mp_raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, sizeof old, 0);
}

MP_BARE void mp_signals_default(void)
{
    struct kernel_action action = {0};

    /* Asking first would cost as much as setting. SIGKILL and SIGSTOP refuse, which is right. */
    for (int s = 1; s <= MP_SIGNALS; s++)
        if (s < INTERNAL_FIRST || s > INTERNAL_LAST)
            mp_raw(SYS_rt_sigaction, s, (long)&action, 0, sizeof action.mask, 0);
}
