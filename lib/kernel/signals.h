/* SPDX-License-Identifier: MIT */
#pragma once

/* Signals of this thread and process, those that the C library keeps for itself included. */

#include <stdint.h>

#define MP_SIGNALS 64

/* Block every signal there is for this thread, and put back what was blocked before. */
void mp_signals_block(uint64_t *ret_old);
void mp_signals_restore(uint64_t old);

/* In a new child, all blocked: every signal gets its default action, ignored ones as well; but for
 * the C library's own. */
void mp_signals_default(void);
